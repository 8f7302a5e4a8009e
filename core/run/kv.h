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
/* Copy the first n_tok tokens of one block to another; returns the bytes. */
uint64_t peri_kv_copy(peri_engine *e, int32_t from, int32_t to, int32_t n_tok);
/* The keys and values of the first n_tok tokens of a sequence whose blocks are block[], out of the
 * pool to dst[n_tok * token_bytes]. */
void peri_kv_export(const peri_engine *e, const int32_t *block, int32_t n_tok, uint8_t *dst);
/* Tokens from .. to - 1 into the pool; src was exported with n_tok >= to. */
void peri_kv_import(peri_engine *e, const int32_t *block, int32_t from, int32_t to,
                    const uint8_t *src, int32_t n_tok);

#endif
