/* SPDX-License-Identifier: MIT
 *
 * memory.h - memory of a device, the same to use whether it is host memory or the device's own. */
#ifndef PERI_RUN_MEMORY_H
#define PERI_RUN_MEMORY_H

#include "plugin/registry.h"

/* host is the address, NULL when the device has memory of its own; buf is what a bind names.
 * bytes 0: nothing is held. */
typedef struct peri_memory {
    peri_buf *buf;
    void *host;
    uint64_t bytes;
    bool is_borrowed; /* host memory that somebody else owns, used in place */
} peri_memory;

/* Can the device's memory be used?  UNSUPPORTED names the function its plugin lacks. */
peri_status peri_memory_check(const peri_backend *d, peri_error *err);
/* usage: PERI_BUF_*.  The error names the device. */
peri_status peri_memory_alloc(peri_backend *d, uint64_t bytes, uint32_t usage, peri_memory *out,
                              peri_error *err);
/* data becomes readable by the device: in place where that is possible, else as a copy.  It must
 * outlive *out and stay as it is. */
peri_status peri_memory_from(peri_backend *d, const void *data, uint64_t bytes, peri_memory *out,
                             peri_error *err);
/* bytes of host memory from byte `off` of *whole, which owns them. */
peri_memory peri_memory_part(const peri_memory *whole, uint64_t off, uint64_t bytes);
void peri_memory_free(peri_backend *d, peri_memory *m); /* accepts what holds nothing */
peri_status peri_memory_write(peri_backend *d, const peri_memory *m, uint64_t off, const void *src,
                              uint64_t bytes, peri_error *err);
/* Waits for what the device was given before. */
peri_status peri_memory_read(peri_backend *d, const peri_memory *m, uint64_t off, void *dst,
                             uint64_t bytes, peri_error *err);
/* Within one buffer; the ranges do not overlap. */
peri_status peri_memory_copy(peri_backend *d, const peri_memory *m, uint64_t to, uint64_t from,
                             uint64_t bytes, peri_error *err);

#endif
