/* SPDX-License-Identifier: MIT
 *
 * reader.h - the one bounds-checked cursor over untrusted bytes, and checked arithmetic.
 *
 * Every read names its offset on failure: "NAME: offset N: WHAT: needs A bytes, B left". */
#ifndef PERI_BASE_READER_H
#define PERI_BASE_READER_H

#include <stdbool.h>

#include "perigee/types.h"

/* false when the exact result does not fit; *out is then untouched. */
static inline bool peri_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t t;
    if (__builtin_add_overflow(a, b, &t)) return false;
    *out = t;
    return true;
}
static inline bool peri_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t t;
    if (__builtin_mul_overflow(a, b, &t)) return false;
    *out = t;
    return true;
}
/* Round up to a multiple of align (a power of two). */
static inline bool peri_pad_u64(uint64_t a, uint64_t align, uint64_t *out) {
    uint64_t t;
    if (!peri_add_u64(a, align - 1, &t)) return false;
    *out = t & ~(align - 1);
    return true;
}

typedef struct peri_reader {
    const char *name; /* file name for messages, borrowed */
    const uint8_t *data;
    uint64_t size, off; /* off <= size always */
} peri_reader;

/* Little-endian reads; `what` names the field in the message ("key count", "key 3 length").
 * On failure the cursor does not move and the status is PERI_E_CORRUPT. */
peri_status peri_read_u8(peri_reader *r, const char *what, uint8_t *out, peri_error *err);
peri_status peri_read_u16(peri_reader *r, const char *what, uint16_t *out, peri_error *err);
peri_status peri_read_u32(peri_reader *r, const char *what, uint32_t *out, peri_error *err);
peri_status peri_read_u64(peri_reader *r, const char *what, uint64_t *out, peri_error *err);
/* Borrow n bytes at the cursor and move past them. */
peri_status peri_read_bytes(peri_reader *r, const char *what, uint64_t n, const uint8_t **out,
                            peri_error *err);
/* Bytes left. */
static inline uint64_t peri_reader_left(const peri_reader *r) {
    return r->size - r->off;
}

#endif
