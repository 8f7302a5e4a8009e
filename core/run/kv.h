/* SPDX-License-Identifier: MIT
 *
 * kv.h - the bytes of keys and values: from block to block, out of the pool and back.
 *
 * Outside the pool they lie in one order for every device: [layer][K, V][token][head][dim]. */
#ifndef PERI_RUN_KV_H
#define PERI_RUN_KV_H

#include "run/engine.h"

/* Bytes of one token over all layers. */
uint64_t peri_kv_token_bytes(const peri_engine *e);
/* Copy the first n_tok tokens of one block to another; *bytes: how much that was.  Failures, here
 * and below, are those of a device with memory of its own. */
peri_status peri_kv_copy(peri_engine *e, int32_t from, int32_t to, int32_t n_tok, uint64_t *bytes,
                         peri_error *err);
/* The keys and values of the first n_tok tokens of a sequence whose blocks are block[], out of the
 * pool to dst[n_tok * token_bytes]. */
peri_status peri_kv_export(const peri_engine *e, const int32_t *block, int32_t n_tok, uint8_t *dst,
                           peri_error *err);
/* Tokens r.from .. r.to - 1 into the pool; src was exported with r.n_tok >= r.to. */
typedef struct peri_kv_range {
    int32_t from, to, n_tok;
} peri_kv_range;
peri_status peri_kv_import(peri_engine *e, const int32_t *block, peri_kv_range r,
                           const uint8_t *src, peri_error *err);

#endif
