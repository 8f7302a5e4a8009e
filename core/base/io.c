/* SPDX-License-Identifier: MIT
 *
 * io.c - the table of file calls, and whole small files read and written through it.
 *
 * Mapping and its guard live in mapping.c.  Invariants: no descriptor survives a call of this file;
 * after a failed peri_file_write the old file is untouched and no temporary file is left. */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io_int.h"
#include "base/status.h"

#include "base/compiler.h"

/* ---- system calls --------------------------------------------------------------------------- */

static int sys_open(void *user, const char *path, int flags, int mode) {
    int fd;
    (void)user;
    do
        fd = open(path, flags, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static ssize_t sys_read(void *user, int fd, void *dst, size_t n) {
    ssize_t got;
    (void)user;
    do
        got = read(fd, dst, n);
    while (got < 0 && errno == EINTR);
    return got;
}

static ssize_t sys_write(void *user, int fd, const void *src, size_t n) {
    ssize_t put;
    (void)user;
    do
        put = write(fd, src, n);
    while (put < 0 && errno == EINTR);
    return put;
}

static int sys_sync(void *user, int fd) {
    int rc;
    (void)user;
    do
        rc = fsync(fd);
    while (rc < 0 && errno == EINTR);
    return rc;
}

/* Not retried: on Linux the descriptor is gone after EINTR. */
static int sys_close(void *user, int fd) {
    (void)user;
    return close(fd);
}

static int64_t sys_size(void *user, int fd) {
    struct stat st;
    (void)user;
    if (fstat(fd, &st) != 0) return -1;
    if (S_ISREG(st.st_mode)) return st.st_size;
    errno = S_ISDIR(st.st_mode) ? EISDIR : ENOTSUP;
    return -1;
}

static void *sys_map(void *user, int fd, size_t bytes) {
    (void)user;
    /* At a border of large pages, so that what is in them can be put into such pages later. */
    const uintptr_t large = PERI_LARGE_PAGE;
    if (bytes > SIZE_MAX - 2 * large) return NULL;
    size_t room = (bytes + large - 1 + large) & ~(large - 1);
    char *all = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) return NULL;
    char *p = (char *)(((uintptr_t)all + large - 1) & ~(large - 1));
    size_t page = (size_t)sysconf(_SC_PAGESIZE), used = (bytes + page - 1) & ~(page - 1);
    void *map = mmap(p, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    int number = errno;
    if (map == MAP_FAILED) {
        munmap(all, room);
        errno = number;
        return NULL;
    }
    if (p > all) munmap(all, (size_t)(p - all));
    if (p + used < all + room) munmap(p + used, (size_t)(all + room - (p + used)));
    return map;
}

static int sys_unmap(void *user, void *p, size_t bytes) {
    (void)user;
    return munmap(p, bytes);
}

static int sys_rename(void *user, const char *from, const char *to) {
    (void)user;
    return rename(from, to);
}

static int sys_unlink(void *user, const char *path) {
    (void)user;
    return unlink(path);
}

static const peri_io_ops system_ops = {.open = sys_open,
                                       .read = sys_read,
                                       .write = sys_write,
                                       .sync = sys_sync,
                                       .close = sys_close,
                                       .size = sys_size,
                                       .map = sys_map,
                                       .unmap = sys_unmap,
                                       .rename = sys_rename,
                                       .unlink = sys_unlink};
static peri_io_ops current;
static bool is_replaced;

void peri_io_set_ops(const peri_io_ops *ops) {
    is_replaced = ops != NULL;
    if (ops != NULL) current = *ops;
}

const peri_io_ops *peri_io_ops_get(void) {
    return is_replaced ? &current : &system_ops;
}

/* ---- errors ---------------------------------------------------------------------------------- */

peri_status peri_io_fail(peri_error *err, const char *path, const char *what, int number) {
    peri_status code = number == ENOENT   ? PERI_E_NOT_FOUND
                       : number == ENOMEM ? PERI_E_NOMEM
                                          : PERI_E_IO;
    if (number == EISDIR)
        return peri_fail(err, code, "%s: is a directory, expected a regular file", path);
    if (number == ENOTSUP)
        return peri_fail(err, code, "%s: is a device, pipe or socket, expected a regular file",
                         path);
    return peri_fail(err, code, "%s: cannot %s: %s", path, what, peri_errno_text(number));
}

/* ---- whole files ----------------------------------------------------------------------------- */

peri_status peri_io_open_regular(const char *path, int *fd, uint64_t *size, peri_error *err) {
    const peri_io_ops *ops = peri_io_ops_get();
    *fd = -1;
    if (path == NULL || path[0] == 0) return peri_fail(err, PERI_E_INVALID, "empty file name");
    /* NONBLOCK: opening a named pipe must not wait for a writer. */
    int got = ops->open(ops->user, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    if (got < 0) return peri_io_fail(err, path, "open", errno);
    int64_t bytes = ops->size(ops->user, got);
    if (bytes < 0) {
        peri_status status = peri_io_fail(err, path, "stat", errno);
        ops->close(ops->user, got);
        return status;
    }
    *fd = got;
    *size = (uint64_t)bytes;
    return PERI_OK;
}

/* Read to the end of the file, whatever its size was said to be (files below /proc say 0). */
static peri_status read_all(const char *path, int fd, size_t room, uint64_t max_bytes, char **out,
                            size_t *size, peri_error *err) {
    const peri_io_ops *ops = peri_io_ops_get();
    char *data = peri_alloc(room + 1);
    size_t n = 0;
    peri_status status = PERI_OK;
    while (data != NULL) {
        if (n == room) {
            char *more =
                room > SIZE_MAX / 2 - 4096 ? NULL : peri_resize_array(data, room * 2 + 4096 + 1, 1);
            if (more == NULL) break;
            data = more;
            room = room * 2 + 4096;
        }
        ssize_t got = ops->read(ops->user, fd, data + n, room - n);
        if (got < 0) {
            status = peri_io_fail(err, path, "read", errno);
            goto fail;
        }
        n += (size_t)got;
        if (n > max_bytes) {
            status = peri_fail(err, PERI_E_RANGE,
                               "%s: found more than %" PRIu64 " bytes, expected at most that", path,
                               max_bytes);
            goto fail;
        }
        if (got == 0) {
            data[n] = 0;
            *out = data;
            *size = n;
            return PERI_OK;
        }
    }
    status = peri_fail(err, PERI_E_NOMEM, "%s: out of memory after %zu bytes", path, n);
fail:
    peri_free(data);
    return status;
}

peri_status peri_file_read(const char *path, uint64_t max_bytes, char **out, size_t *size,
                           peri_error *err) {
    const peri_io_ops *ops = peri_io_ops_get();
    int fd;
    uint64_t bytes;
    *out = NULL;
    *size = 0;
    peri_status status = peri_io_open_regular(path, &fd, &bytes, err);
    if (status != PERI_OK) return status;
    if (bytes > max_bytes)
        status =
            peri_fail(err, PERI_E_RANGE, "%s: found %" PRIu64 " bytes, expected at most %" PRIu64,
                      path, bytes, max_bytes);
    else /* one byte more, so that the end is seen without growing */
        status = read_all(path, fd, (size_t)bytes + 1, max_bytes, out, size, err);
    ops->close(ops->user, fd);
    return status;
}

/* Write all of data to fd and flush it to the disk. */
static peri_status write_all(const char *path, int fd, const void *data, size_t size,
                             peri_error *err) {
    const peri_io_ops *ops = peri_io_ops_get();
    for (size_t n = 0; n < size;) {
        ssize_t put = ops->write(ops->user, fd, (const char *)data + n, size - n);
        if (put <= 0) return peri_io_fail(err, path, "write", put < 0 ? errno : ENOSPC);
        n += (size_t)put;
    }
    if (ops->sync(ops->user, fd) != 0) return peri_io_fail(err, path, "sync", errno);
    return PERI_OK;
}

peri_status peri_file_write(const char *path, const void *data, size_t size, peri_error *err) {
    enum { ATTEMPTS = 16 }; /* names left behind by killed processes of our number */
    static atomic_uint counter;
    const peri_io_ops *ops = peri_io_ops_get();
    peri_status status;
    char *temporary = NULL;
    int fd = -1;
    if (path == NULL || path[0] == 0) return peri_fail(err, PERI_E_INVALID, "empty file name");
    for (int i = 0; i < ATTEMPTS && fd < 0; i++) {
        peri_free(temporary);
        temporary = peri_strf("%s.%ld-%u.tmp", path, (long)getpid(), atomic_fetch_add(&counter, 1));
        if (temporary == NULL)
            return peri_fail(err, PERI_E_NOMEM, "%s: out of memory for its name", path);
        fd = ops->open(ops->user, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST) break;
    }
    if (fd < 0) {
        status = peri_io_fail(err, path, "create a temporary file beside it", errno);
        goto done;
    }
    status = write_all(path, fd, data, size, err);
    if (ops->close(ops->user, fd) != 0 && status == PERI_OK)
        status = peri_io_fail(err, path, "close", errno);
    if (status == PERI_OK && ops->rename(ops->user, temporary, path) != 0)
        status = peri_io_fail(err, path, "replace", errno);
    if (status != PERI_OK) ops->unlink(ops->user, temporary);
done:
    peri_free(temporary);
    return status;
}

int peri_file_exists(const char *path) {
    const peri_io_ops *ops = peri_io_ops_get();
    int fd;
    uint64_t size;
    if (peri_io_open_regular(path, &fd, &size, NULL) != PERI_OK) return 0;
    ops->close(ops->user, fd);
    return 1;
}
