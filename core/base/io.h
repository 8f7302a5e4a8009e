/* SPDX-License-Identifier: MIT
 *
 * io.h - the one file layer of the core: reading, writing, mapping.
 *
 * Every system call on a file goes through the table set by peri_io_set_ops, so that tests can
 * fail or shorten the n-th of them.  A mapping survives truncation of its file: a page that has
 * vanished reads as zeros, the mapping is marked damaged, and whoever computed with it asks
 * peri_mapping_check before using the result (reliability: class G13). */
#ifndef PERI_BASE_IO_H
#define PERI_BASE_IO_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/pool.h"
#include "perigee/types.h"

typedef struct peri_io_ops {
    int (*open)(void *user, const char *path, int flags, int mode); /* fd, or -1 and errno */
    ssize_t (*read)(void *user, int fd, void *dst, size_t n);
    ssize_t (*write)(void *user, int fd, const void *src, size_t n);
    int (*sync)(void *user, int fd); /* data to the disk (fsync) */
    int (*close)(void *user, int fd);
    int64_t (*size)(void *user, int fd);            /* bytes of a regular file, or -1 and errno */
    void *(*map)(void *user, int fd, size_t bytes); /* read-only, shared; NULL and errno */
    int (*unmap)(void *user, void *p, size_t bytes);
    int (*rename)(void *user, const char *from, const char *to);
    int (*unlink)(void *user, const char *path);
    void *user;
} peri_io_ops;

/* NULL restores the default (system calls, EINTR retried). */
void peri_io_set_ops(const peri_io_ops *ops);

/* Map a regular file read-only.  Refuses empty files, directories and devices by name.  The guard
 * against truncation is installed with the first mapping (one SIGBUS handler per process, which
 * passes faults elsewhere on to the previous handler).  Close with peri_mapping_close. */
typedef struct peri_mapping peri_mapping;
peri_status peri_mapping_open(const char *path, peri_mapping **out, peri_error *err);
void peri_mapping_close(peri_mapping *m); /* accepts NULL */
const uint8_t *peri_mapping_data(const peri_mapping *m);
uint64_t peri_mapping_size(const peri_mapping *m);
const char *peri_mapping_path(const peri_mapping *m);
/* PERI_E_IO "FILE: changed while in use: page at byte N vanished (file was M bytes)" once a page
 * was lost. Any thread. */
peri_status peri_mapping_check(const peri_mapping *m, peri_error *err);
/* Tell the kernel that the range will be read soon (best effort). */
void peri_mapping_will_need(const peri_mapping *m, uint64_t off, uint64_t bytes);

/* Copy what is mapped into memory of this process in large pages, in place: addresses stay.
 * Products read it faster then (fewer misses of the TLB), later changes of the file are not seen,
 * and the memory counts as the process's own.  The copying is split over the pool's workers, which
 * is also where the memory will be.  go_on is told the bytes done now and then, and stops it with
 * false; may be NULL.  Nobody may read the mapping meanwhile.  Returns the bytes that were copied:
 * fewer than the mapping has when stopped, or when the kernel refuses memory; the rest stays
 * mapped. */
enum { PERI_LARGE_PAGE = 2 << 20 };
uint64_t peri_mapping_copy_in(peri_mapping *m, peri_pool *pool,
                              bool (*go_on)(void *user, uint64_t done), void *user);
/* Does the kernel give large pages to those who ask (transparent_hugepage)? */
bool peri_has_large_pages(void);

/* Whole small file (at most max_bytes) into fresh memory, NUL appended; the caller frees *out. */
peri_status peri_file_read(const char *path, uint64_t max_bytes, char **out, size_t *size,
                           peri_error *err);
/* Write atomically: temporary file in the same folder, then rename. */
peri_status peri_file_write(const char *path, const void *data, size_t size, peri_error *err);
int peri_file_exists(const char *path);

#endif
