/* SPDX-License-Identifier: MIT
 *
 * kv.c - see kv.h.  The pool holds [block][token][head][dim] for each layer's keys and for its
 * values, so the tokens of one block are one run of bytes.  Each layer's pool lies on a device of
 * its own choice; what is exported does not show where. */
#include "run/kv.h"

#include "model/dtype.h"

#include "base/compiler.h"

uint64_t peri_kv_token_bytes(const peri_engine *e) {
    return peri_engine_kv_bytes_per_token(e->a, e->o.kv_dtype);
}

/* One token's bytes in region r: 2 * layer is its keys, 2 * layer + 1 its values. */
static size_t row_bytes(const peri_engine *e, int32_t r) {
    int32_t d = r % 2 ? e->a->d_v : e->a->d_k;
    return (size_t)e->a->layer[r / 2].n_kv * (size_t)peri_dtype_size(e->o.kv_dtype, (uint64_t)d);
}

/* Byte offset of a token in the pool of r's layer. */
static uint64_t token_at(const peri_engine *e, int32_t r, int32_t block, int32_t it) {
    uint64_t off = r % 2 ? e->kv.v_off[r / 2] : e->kv.k_off[r / 2];
    return off + ((uint64_t)block * e->kv.block_tokens + (uint64_t)it) * row_bytes(e, r);
}

/* The device that r's layer keeps its keys and values on. */
static peri_backend *pool_owner(const peri_engine *e, int32_t r) {
    return e->backend[e->kv_at[r / 2]];
}

peri_status peri_kv_copy(peri_engine *e, int32_t from, int32_t to, int32_t n_tok, uint64_t *bytes,
                         peri_error *err) {
    *bytes = 0;
    for (int32_t r = 0; r < 2 * e->a->n_layer; r++) {
        size_t n = (size_t)n_tok * row_bytes(e, r);
        peri_status st = peri_memory_copy(pool_owner(e, r), &e->pool[r / 2], token_at(e, r, to, 0),
                                          token_at(e, r, from, 0), n, err);
        if (st) return st;
        *bytes += n;
    }
    return PERI_OK;
}

/* Tokens it .. to - 1 end with the block that it is in, or at `to`. */
static int32_t run_length(const peri_engine *e, int32_t it, int32_t to) {
    int32_t n = (int32_t)e->kv.block_tokens - it % (int32_t)e->kv.block_tokens;
    return n < to - it ? n : to - it;
}

peri_status peri_kv_export(const peri_engine *e, const int32_t *block, int32_t n_tok, uint8_t *dst,
                           peri_error *err) {
    int32_t bt = (int32_t)e->kv.block_tokens;
    for (int32_t r = 0; r < 2 * e->a->n_layer; r++) {
        size_t row = row_bytes(e, r);
        for (int32_t it = 0, n; it < n_tok; it += n) {
            n = run_length(e, it, n_tok);
            peri_status st = peri_memory_read(pool_owner(e, r), &e->pool[r / 2],
                                              token_at(e, r, block[it / bt], it % bt), dst,
                                              (size_t)n * row, err);
            if (st) return st;
            dst += (size_t)n * row;
        }
    }
    return PERI_OK;
}

peri_status peri_kv_import(peri_engine *e, const int32_t *block, peri_kv_range range,
                           const uint8_t *src, peri_error *err) {
    int32_t bt = (int32_t)e->kv.block_tokens;
    for (int32_t r = 0; r < 2 * e->a->n_layer; r++) {
        size_t row = row_bytes(e, r);
        for (int32_t it = range.from, n; it < range.to; it += n) {
            n = run_length(e, it, range.to);
            peri_status st = peri_memory_write(pool_owner(e, r), &e->pool[r / 2],
                                               token_at(e, r, block[it / bt], it % bt),
                                               src + (size_t)it * row, (size_t)n * row, err);
            if (st) return st;
        }
        src += (size_t)range.n_tok * row;
    }
    return PERI_OK;
}
