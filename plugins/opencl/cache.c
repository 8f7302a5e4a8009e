/* SPDX-License-Identifier: MIT
 *
 * cache.c - compiled programs, kept from start to start: one file each below <cache.dir>/opencl.
 *
 *     "PERICL1\n" | u64 bytes of the key | u64 bytes of the binary | u64 checksum | key | binary
 *
 * The key names the device, the driver, the options and the sources, and is compared in full; the
 * file's name is its hash.  A file that does not fit in any way is rebuilt and written over.  Files
 * are written under another name and renamed, so that a reader sees all of one or nothing.
 *
 * The folder holds opencl.cache_mib at most: whoever adds a file removes the oldest until it fits
 * again.  Another process may do so at the same time: a file that is gone already is no error. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ocl.h"

enum { HEAD = 32, PATH_BYTES = 4096, DEFAULT_MIB = 256, MOST_MIB = 1 << 20, MOST_FILES = 4096 };
static const char magic[8] = {'P', 'E', 'R', 'I', 'C', 'L', '1', '\n'};

/* FNV-1a, 64 bits.  Source: Fowler, Noll, Vo. */
static uint64_t hash(uint64_t h, const void *data, size_t n) {
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

static const uint64_t first_seed = UINT64_C(0xcbf29ce484222325), second_seed = UINT64_C(0x5e1f);

/* Path of a key's file; 0 without a cache. */
static int path_of(peri_dev *d, const char *key, size_t n, int want_folder, char out[PATH_BYTES]) {
    const char *dir = d->host->option("cache.dir");
    if (!dir || dir[0] != '/') return 0;
    int at = snprintf(out, PATH_BYTES, "%s/opencl", dir);
    if (at < 0 || at >= PATH_BYTES - 64) return 0;
    if (want_folder) {
        mkdir(dir, 0700); /* what exists stays; what cannot be made shows when writing */
        mkdir(out, 0700);
    }
    snprintf(out + at, (size_t)(PATH_BYTES - at), "/%016llx%016llx.bin",
             (unsigned long long)hash(first_seed, key, n),
             (unsigned long long)hash(second_seed, key, n));
    return 1;
}

static int read_all(int fd, void *out, size_t n) {
    for (char *p = out; n > 0;) {
        ssize_t got = read(fd, p, n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return 0;
        p += got;
        n -= (size_t)got;
    }
    return 1;
}

static int write_all(int fd, const void *data, size_t n) {
    for (const char *p = data; n > 0;) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return 0;
        p += put;
        n -= (size_t)put;
    }
    return 1;
}

typedef struct head {
    char magic[8];
    uint64_t n_key, n_data, sum;
} head;

static head head_of(const char *key, size_t n_key, const unsigned char *data, size_t n) {
    head h = {.n_key = n_key, .n_data = n, .sum = hash(hash(first_seed, key, n_key), data, n)};
    memcpy(h.magic, magic, sizeof magic);
    return h;
}

/* The binary out of an open file of `size` bytes; NULL when it is not what was written. */
static unsigned char *take(peri_dev *d, int fd, uint64_t size, const char *key, size_t n_key,
                           size_t *bytes) {
    head h;
    if (size < HEAD || !read_all(fd, &h, HEAD) || memcmp(h.magic, magic, sizeof magic) != 0 ||
        h.n_key != n_key || h.n_data == 0 || size - HEAD < n_key || h.n_data != size - HEAD - n_key)
        return NULL;
    unsigned char *all = d->host->alloc((size_t)(size - HEAD), 64, -1);
    if (!all) return NULL;
    head now = {0};
    if (read_all(fd, all, (size_t)(size - HEAD)) && memcmp(all, key, n_key) == 0)
        now = head_of(key, n_key, all + n_key, (size_t)h.n_data);
    if (memcmp(&h, &now, sizeof h) != 0) {
        d->host->free(all);
        return NULL;
    }
    *bytes = (size_t)h.n_data;
    memmove(all, all + n_key, *bytes);
    return all;
}

unsigned char *ocl_cache_read(peri_dev *d, const char *key, size_t n_key, size_t *bytes) {
    char path[PATH_BYTES], text[PATH_BYTES + 80];
    struct stat st;
    if (!path_of(d, key, n_key, 0, path)) return NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return NULL;
    unsigned char *data = NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && st.st_size > 0)
        data = take(d, fd, (uint64_t)st.st_size, key, n_key, bytes);
    close(fd);
    if (data) return data;
    snprintf(text, sizeof text, "opencl: %s is damaged or another's: the program is built again",
             path);
    d->host->log(2, text);
    return NULL;
}

/* ---- the limit --------------------------------------------------------------------------------
 */

int32_t ocl_cache_limit(const peri_host *h, uint64_t *bytes, peri_error *e) {
    const char *text = h->option("opencl.cache_mib");
    char *end;
    *bytes = (uint64_t)DEFAULT_MIB << 20;
    if (!text) return PERI_OK;
    errno = 0;
    long long mib = strtoll(text, &end, 10);
    if (end == text || *end || errno || mib < 0 || mib > MOST_MIB)
        return peri_plugin_fail(
            e, PERI_E_INVALID, "option opencl.cache_mib: \"%.32s\", a number from 0 to %d expected",
            text, MOST_MIB);
    *bytes = (uint64_t)mib << 20;
    return PERI_OK;
}

typedef struct entry {
    char name[64];
    struct timespec time;
    uint64_t bytes;
} entry;

static int is_older(const entry *a, const entry *b) {
    if (a->time.tv_sec != b->time.tv_sec) return a->time.tv_sec < b->time.tv_sec;
    return a->time.tv_nsec < b->time.tv_nsec;
}

/* The folder's programs, whole or half written, as far as room reaches; a folder of more is cut
 * down by the next file that is added. */
static size_t list(DIR *folder, entry *out, size_t room) {
    size_t n = 0;
    struct stat st;
    for (struct dirent *f; n < room && (f = readdir(folder)) != NULL;) {
        size_t length = strlen(f->d_name);
        if (strspn(f->d_name, "0123456789abcdef") != 32 || length >= sizeof out->name ||
            strncmp(f->d_name + 32, ".bin", 4) != 0 ||
            fstatat(dirfd(folder), f->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(st.st_mode))
            continue;
        out[n] = (entry){.time = st.st_mtim, .bytes = (uint64_t)st.st_size};
        memcpy(out[n++].name, f->d_name, length + 1);
    }
    return n;
}

/* Remove the oldest files until the rest has `limit` bytes at most. */
static void shrink(peri_dev *d, const char *path, uint64_t limit) {
    char folder[PATH_BYTES];
    uint64_t sum = 0;
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    DIR *dir = opendir(folder);
    entry *all = dir ? d->host->alloc(MOST_FILES * sizeof *all, _Alignof(entry), -1) : NULL;
    size_t n = all ? list(dir, all, MOST_FILES) : 0;
    for (size_t i = 0; i < n; i++)
        sum += all[i].bytes;
    while (sum > limit && n > 0) {
        size_t oldest = 0;
        for (size_t i = 1; i < n; i++)
            if (is_older(&all[i], &all[oldest])) oldest = i;
        sum -= all[oldest].bytes;
        unlinkat(dirfd(dir), all[oldest].name, 0);
        all[oldest] = all[--n];
    }
    d->host->free(all);
    if (dir) closedir(dir);
}

void ocl_cache_write(peri_dev *d, const char *key, size_t n_key, const unsigned char *data,
                     size_t bytes) {
    char path[PATH_BYTES], temporary[PATH_BYTES + 32];
    head h = head_of(key, n_key, data, bytes);
    if (d->cache_limit == 0 || !path_of(d, key, n_key, 1, path)) return;
    snprintf(temporary, sizeof temporary, "%s.%ld.new", path, (long)getpid());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return; /* no place for a cache: the next start compiles again */
    int is_good =
        write_all(fd, &h, sizeof h) && write_all(fd, key, n_key) && write_all(fd, data, bytes);
    if (close(fd) != 0 || !is_good || rename(temporary, path) != 0) unlink(temporary);
    shrink(d, path, d->cache_limit);
}
