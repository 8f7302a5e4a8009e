/* SPDX-License-Identifier: MIT
 *
 * fault.c - the counting allocator and file layer.
 *
 * Each block carries its size in a header in front of it, so that live and peak bytes are exact.
 * The file layer counts every call that can fail; close and unmap are counted but never failed,
 * since their failure leaves nothing to clean up and would show as a leak. */
#define _GNU_SOURCE
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards both counters */
static peri_fault heap, files;

/* Count one fallible call; true when it is to fail.  Call with the lock held. */
static bool must_fail(peri_fault *f) {
    f->calls++;
    if (f->fail_at == 0 || f->calls < f->fail_at) return false;
    return f->persistent || f->calls - f->fail_at <= f->n_more;
}

/* ---- heap ------------------------------------------------------------------------------------ */

typedef struct header {
    size_t bytes, offset; /* offset: from the start of the libc block to the payload */
} header;

static void count_bytes(size_t taken, size_t given) {
    heap.live_bytes += taken;
    heap.live_bytes -= given;
    if (heap.live_bytes > heap.peak_bytes) heap.peak_bytes = heap.live_bytes;
}

static void *fault_alloc(void *user, size_t bytes, size_t align) {
    void *p = NULL;
    (void)user;
    if (align < sizeof(header)) align = sizeof(header);
    pthread_mutex_lock(&lock);
    if (!must_fail(&heap)) {
        size_t total = (bytes + 2 * align - 1) & ~(align - 1);
        char *block = aligned_alloc(align, total);
        if (block != NULL) {
            header *h = (header *)(block + align) - 1;
            h->bytes = bytes;
            h->offset = align;
            p = block + align;
            memset(p, 0xa5, bytes); /* no caller may rely on zeros */
            heap.live++;
            count_bytes(bytes, 0);
        }
    }
    pthread_mutex_unlock(&lock);
    return p;
}

static void fault_free(void *user, void *p) {
    (void)user;
    if (p == NULL) return;
    header *h = (header *)p - 1;
    pthread_mutex_lock(&lock);
    heap.live--;
    count_bytes(0, h->bytes);
    pthread_mutex_unlock(&lock);
    free((char *)p - h->offset);
}

static void *fault_resize(void *user, void *p, size_t bytes) {
    void *q = fault_alloc(user, bytes, 16);
    if (q == NULL || p == NULL) return q;
    size_t old = ((header *)p - 1)->bytes;
    memcpy(q, p, old < bytes ? old : bytes);
    fault_free(user, p);
    return q;
}

peri_fault *peri_fault_alloc_install(void) {
    static const peri_allocator table = {fault_alloc, fault_resize, fault_free, NULL};
    heap = (peri_fault){0};
    peri_allocator_set(&table);
    return &heap;
}

void peri_fault_alloc_remove(void) {
    peri_allocator_set(NULL);
}

/* ---- files ----------------------------------------------------------------------------------- */

static bool io_fails(void) {
    pthread_mutex_lock(&lock);
    bool fails = must_fail(&files);
    pthread_mutex_unlock(&lock);
    if (fails) errno = EIO;
    return fails;
}

static void io_holds(int change) {
    pthread_mutex_lock(&lock);
    files.live += (uint64_t)(int64_t)change;
    pthread_mutex_unlock(&lock);
}

static int fault_open(void *user, const char *path, int flags, int mode) {
    (void)user;
    if (io_fails()) return -1;
    int fd = open(path, flags, mode);
    if (fd >= 0) io_holds(1);
    return fd;
}

static ssize_t fault_read(void *user, int fd, void *dst, size_t n) {
    (void)user;
    if (io_fails()) return -1;
    return read(fd, dst, n > 7 ? 7 : n); /* always short: callers must loop */
}

static ssize_t fault_write(void *user, int fd, const void *src, size_t n) {
    (void)user;
    if (io_fails()) return -1;
    return write(fd, src, n > 7 ? 7 : n);
}

static int fault_sync(void *user, int fd) {
    (void)user;
    (void)fd;
    return io_fails() ? -1 : 0;
}

static int fault_close(void *user, int fd) {
    (void)user;
    io_holds(-1);
    return close(fd);
}

static int64_t fault_size(void *user, int fd) {
    struct stat st;
    (void)user;
    if (io_fails() || fstat(fd, &st) != 0) return -1;
    if (S_ISREG(st.st_mode)) return st.st_size;
    errno = S_ISDIR(st.st_mode) ? EISDIR : ENOTSUP;
    return -1;
}

static void *fault_map(void *user, int fd, size_t bytes) {
    (void)user;
    if (io_fails()) return NULL;
    void *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return NULL;
    io_holds(1);
    return p;
}

static int fault_unmap(void *user, void *p, size_t bytes) {
    (void)user;
    io_holds(-1);
    return munmap(p, bytes);
}

static int fault_rename(void *user, const char *from, const char *to) {
    (void)user;
    return io_fails() ? -1 : rename(from, to);
}

/* Never fails: it cleans up after another failure. */
static int fault_unlink(void *user, const char *path) {
    (void)user;
    return unlink(path);
}

peri_fault *peri_fault_io_install(void) {
    static const peri_io_ops table = {.open = fault_open,
                                      .read = fault_read,
                                      .write = fault_write,
                                      .sync = fault_sync,
                                      .close = fault_close,
                                      .size = fault_size,
                                      .map = fault_map,
                                      .unmap = fault_unmap,
                                      .rename = fault_rename,
                                      .unlink = fault_unlink};
    files = (peri_fault){0};
    peri_io_set_ops(&table);
    return &files;
}

void peri_fault_io_remove(void) {
    peri_io_set_ops(NULL);
}
