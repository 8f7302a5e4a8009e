/* SPDX-License-Identifier: MIT
 *
 * reader.c - see reader.h.  Loads are byte by byte, so they are right on any host and at any
 * alignment; compilers turn them into single loads. */
#include "base/reader.h"

#include <inttypes.h>

#include "base/status.h"

#include "base/compiler.h"

peri_status peri_read_bytes(peri_reader *r, const char *what, uint64_t n, const uint8_t **out,
                            peri_error *err) {
    if (n > peri_reader_left(r))
        return peri_fail(err, PERI_E_CORRUPT,
                         "%s: offset %" PRIu64 ": %s: needs %" PRIu64 " bytes, %" PRIu64 " left",
                         r->name, r->off, what, n, peri_reader_left(r));
    *out = r->data + r->off;
    r->off += n;
    return PERI_OK;
}

/* n <= 8 bytes, little-endian. */
static peri_status read_number(peri_reader *r, const char *what, unsigned n, uint64_t *out,
                               peri_error *err) {
    const uint8_t *p = NULL;
    peri_status status = peri_read_bytes(r, what, n, &p, err);
    if (status != PERI_OK) return status;
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    *out = v;
    return PERI_OK;
}

peri_status peri_read_u8(peri_reader *r, const char *what, uint8_t *out, peri_error *err) {
    uint64_t v = 0;
    peri_status status = read_number(r, what, 1, &v, err);
    if (status == PERI_OK) *out = (uint8_t)v;
    return status;
}

peri_status peri_read_u16(peri_reader *r, const char *what, uint16_t *out, peri_error *err) {
    uint64_t v = 0;
    peri_status status = read_number(r, what, 2, &v, err);
    if (status == PERI_OK) *out = (uint16_t)v;
    return status;
}

peri_status peri_read_u32(peri_reader *r, const char *what, uint32_t *out, peri_error *err) {
    uint64_t v = 0;
    peri_status status = read_number(r, what, 4, &v, err);
    if (status == PERI_OK) *out = (uint32_t)v;
    return status;
}

peri_status peri_read_u64(peri_reader *r, const char *what, uint64_t *out, peri_error *err) {
    return read_number(r, what, 8, out, err);
}
