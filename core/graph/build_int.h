/* SPDX-License-Identifier: MIT
 *
 * build_int.h - shared by the block builders (blk_*.c) of this folder. */
#ifndef PERI_GRAPH_BUILD_INT_H
#define PERI_GRAPH_BUILD_INT_H

#include "graph/build.h"

/* One build.  After the first error `status` stays set and every helper returns PERI_NONE without
 * doing anything. */
typedef struct builder {
    const peri_arch *a;
    peri_weights *w;
    const peri_kv_layout *kv;
    peri_graph *g;
    int32_t n_ctx, il; /* il: layer being built, -1 outside */
    peri_error *err;
    peri_status status;
} builder;

/* Weight blk.<il>.<stem><suffix> (or <stem><suffix> outside layers) as a tensor, PERI_NONE when
 * absent and optional. */
uint32_t build_weight(builder *b, const char *stem, const char *suffix, const int64_t *dim,
                      int n_dim, uint32_t flags);
/* f32 vector stem.suffix [n], optional. */
uint32_t build_vector(builder *b, const char *stem, const char *suffix, int64_t n);
/* stem.scale [n] if the file has it and the spec applies it. */
uint32_t build_scale(builder *b, const char *stem, int64_t n);
bool build_has(builder *b, const char *stem, const char *suffix);
/* y [T][n_out] = LINEAR of x with stem.weight, .bias, .scale. */
uint32_t build_linear(builder *b, uint32_t x, const char *stem, int64_t n_in, int64_t n_out,
                      uint32_t flags);
/* RMS norm of x [T][n] (or [T][H][n]) with stem.weight [n] into `out` (PERI_NONE: a new tensor). */
uint32_t build_norm(builder *b, uint32_t x, uint32_t out, const char *stem, int64_t n);
/* Activation [T][n]. */
uint32_t build_rows(builder *b, int64_t n);
float build_eps(const builder *b);

/* The block kinds: input n [T][d_model] (normed), result [T][d_model]. */
uint32_t build_gqa(builder *b, const peri_arch_layer *l, const peri_block_gqa *o, uint32_t x);
uint32_t build_gated(builder *b, const peri_arch_layer *l, const peri_block_gated *o, uint32_t x);
uint32_t build_moe(builder *b, const peri_block_moe *o, uint32_t x);

#endif
