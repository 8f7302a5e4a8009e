/* SPDX-License-Identifier: MIT
 *
 * build.h - from a flattened architecture and its weights to a graph of ops. */
#ifndef PERI_GRAPH_BUILD_H
#define PERI_GRAPH_BUILD_H

#include "graph/graph.h"
#include "model/arch.h"
#include "model/weights.h"

/* Where each layer's keys and values lie in its own pool, whose number is the layer's: so no pool
 * is larger than what a device can allocate at once.  [blocks][block_tokens][n_kv][d] each, K and V
 * apart. */
typedef struct peri_kv_layout {
    uint32_t dtype; /* number in dtype.def: F16 or F32 */
    uint32_t block_tokens, n_block;
    uint64_t bytes;                        /* of all pools */
    uint64_t *k_off, *v_off, *layer_bytes; /* [n_layer] */
} peri_kv_layout;

/* n_block blocks of block_tokens tokens for every layer.  Free with peri_kv_layout_fini.  RANGE on
 * overflow. */
peri_status peri_kv_layout_init(peri_kv_layout *kv, const peri_arch *a, uint32_t dtype,
                                uint32_t block_tokens, uint32_t n_block, peri_error *err);
void peri_kv_layout_fini(peri_kv_layout *kv);

/* The whole model as one graph: binds every weight it reads, so that peri_weights_finish may
 * follow.  The graph's one result, f32 logits [R][n_vocab], is tensor *logits.  n_ctx: the context
 * sessions are made for (it picks long or short factors). */
peri_status peri_build(const peri_arch *a, peri_weights *w, const peri_kv_layout *kv, int32_t n_ctx,
                       peri_graph *g, uint32_t *logits, peri_error *err);
/* TOPK behind the whole model: returns a tensor i32 [R][2][n] of the n likeliest tokens of each
 * row, ids and then the bits of their logits, so that one read gives both. */
uint32_t peri_build_top(peri_graph *g, uint32_t logits, int32_t n);

#endif
