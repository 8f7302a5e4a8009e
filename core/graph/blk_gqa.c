/* SPDX-License-Identifier: MIT
 *
 * blk_gqa.c - block kind gqa: projections, head norms, rotation, cache, attention, output
 * projection. q, k, v = W x (split, or one fused attn_qkv of rows [q | k | v]);  y =
 * o(softmax(cap(scale q.k) + mask) v) */
#include <math.h>

#include "graph/build_int.h"
#include "model/dtype.h"

#include "base/compiler.h"

typedef struct heads {
    uint32_t q, k, v; /* [T][H][d_k], [T][G][d_k], [T][G][d_v] */
} heads;

static uint32_t as_heads(builder *b, uint32_t x, int64_t n_head, int64_t d, int64_t element) {
    const int64_t dim[] = {-PERI_SYM_T, n_head, d};
    return peri_graph_view(b->g, x, dim, 3, element);
}

static heads project_fused(builder *b, const peri_arch_layer *l, uint32_t x) {
    const peri_arch *a = b->a;
    int64_t nq = (int64_t)l->n_head * a->d_k, nk = (int64_t)l->n_kv * a->d_k,
            nv = (int64_t)l->n_kv * a->d_v;
    uint32_t y = build_linear(b, x, "attn_qkv", a->d_model, nq + nk + nv, 0);
    if (b->status) return (heads){0};
    return (heads){as_heads(b, y, l->n_head, a->d_k, 0), as_heads(b, y, l->n_kv, a->d_k, nq),
                   as_heads(b, y, l->n_kv, a->d_v, nq + nk)};
}

static heads project_split(builder *b, const peri_arch_layer *l, uint32_t x) {
    static const char *const stem[] = {"attn_q", "attn_k", "attn_v"};
    const peri_arch *a = b->a;
    const int64_t n[] = {(int64_t)l->n_head * a->d_k, (int64_t)l->n_kv * a->d_k,
                         (int64_t)l->n_kv * a->d_v};
    uint32_t x13[13] = {x}; /* x W3 b3 s3 | y3 */
    for (int i = 0; i < 3; i++) {
        x13[1 + i] = build_weight(b, stem[i], ".weight", (const int64_t[]){n[i], a->d_model}, 2, 0);
        x13[4 + i] = build_vector(b, stem[i], ".bias", n[i]);
        x13[7 + i] = build_scale(b, stem[i], 1);
        x13[10 + i] = build_rows(b, n[i]);
    }
    if (b->status) return (heads){0};
    peri_graph_add(b->g, PERI_OP_LINEAR_QKV, x13, 10, 3, NULL, 0);
    return (heads){as_heads(b, x13[10], l->n_head, a->d_k, 0),
                   as_heads(b, x13[11], l->n_kv, a->d_k, 0),
                   as_heads(b, x13[12], l->n_kv, a->d_v, 0)};
}

/* Divisors of the angles.  They are stored once per model, outside the layers. */
static uint32_t factors(builder *b, const peri_block_gqa *o) {
    const int32_t il = b->il;
    int64_t n = b->a->d_rot / 2;
    uint32_t f = PERI_NONE;
    b->il = -1;
    if (o->rope_factors == PERI_FACTORS_AUTO) {
        f = build_vector(b, "rope_freqs", ".weight", n);
    } else if (o->rope_factors == PERI_FACTORS_LONG_SHORT) {
        /* Both are bound; the configured context, not the text, decides which is used, so a resumed
         * session keeps its set. */
        uint32_t lf = build_vector(b, "rope_factors_long", ".weight", n);
        uint32_t sf = build_vector(b, "rope_factors_short", ".weight", n);
        f = b->n_ctx > b->a->n_ctx_orig ? lf : sf;
    }
    b->il = il;
    return f;
}

/* Index of the pair whose wavelength makes `turns` turns over the trained context.  Source: YaRN,
 * eq. 17 and appendix. */
static double ramp_pair(const peri_arch *a, double base, double turns) {
    return a->d_rot * log(a->n_ctx_orig / (turns * 2 * M_PI)) / (2 * log(base));
}

static peri_rope_attr rope_attr(const peri_arch *a, const peri_block_gqa *o) {
    double base = o->rope_base > 0 ? o->rope_base : a->rope_base;
    bool is_scaled = o->rope_scaling == PERI_SCALING_KEY && a->scaling_factor != 1;
    peri_rope_attr r = {.size = sizeof r,
                        .pairs = o->rope_pairs == PERI_PAIRS_NEOX ? PERI_ROPE_NEOX : PERI_ROPE_NORM,
                        .n_rot = (uint32_t)a->d_rot,
                        .base = (float)base,
                        .freq_scale = is_scaled ? (float)(1 / a->scaling_factor) : 1,
                        .ext = (float)a->ext_factor,
                        .magnitude = (float)a->attn_factor};
    if (a->ext_factor != 0) {
        double lo = floor(ramp_pair(a, base, a->beta_fast)),
               hi = ceil(ramp_pair(a, base, a->beta_slow));
        r.ramp_lo = (float)fmax(0, lo);
        r.ramp_hi = (float)fmin(a->d_rot - 1, hi);
        if (is_scaled) r.magnitude *= (float)(1 + 0.1 * log(a->scaling_factor));
    }
    return r;
}

static void rotate(builder *b, const peri_block_gqa *o, uint32_t x, uint32_t f) {
    peri_rope_attr r = rope_attr(b->a, o);
    peri_graph_add(b->g, PERI_OP_ROPE, (const uint32_t[]){x, f, x}, 2, 1, &r, sizeof r);
}

static uint32_t attend(builder *b, const peri_arch_layer *l, const peri_block_gqa *o, heads h) {
    const peri_arch *a = b->a;
    const peri_kv_layout *kv = b->kv;
    const int64_t kd[] = {kv->n_block, kv->block_tokens, l->n_kv, a->d_k};
    const int64_t vd[] = {kv->n_block, kv->block_tokens, l->n_kv, a->d_v};
    const int64_t yd[] = {-PERI_SYM_T, l->n_head, a->d_v};
    uint32_t pool = (uint32_t)b->il;
    uint32_t kp = peri_graph_pool(b->g, pool, kv->dtype, kd, kv->k_off[b->il]);
    uint32_t vp = peri_graph_pool(b->g, pool, kv->dtype, vd, kv->v_off[b->il]);
    uint32_t y = build_rows(b, (int64_t)l->n_head * a->d_v),
             yh = peri_graph_view(b->g, y, yd, 3, 0);
    peri_attn_attr attr = {.size = sizeof attr,
                           .scale = (float)(o->scale > 0 ? o->scale : 1 / sqrt(a->d_k)),
                           .cap = (float)o->cap,
                           .window = o->mask == PERI_MASK_WINDOW ? a->window : 0};
    peri_graph_add(b->g, PERI_OP_KV_APPEND, (const uint32_t[]){h.k, h.v, kp, vp}, 4, 0, NULL, 0);
    peri_graph_add(b->g, PERI_OP_ATTN, (const uint32_t[]){h.q, kp, vp, PERI_NONE, yh}, 4, 1, &attr,
                   sizeof attr);
    return y;
}

uint32_t build_gqa(builder *b, const peri_arch_layer *l, const peri_block_gqa *o, uint32_t x) {
    const peri_arch *a = b->a;
    heads h = build_has(b, "attn_qkv", ".weight") ? project_fused(b, l, x) : project_split(b, l, x);
    if (o->qk_norm == PERI_QK_NORM_HEAD && !b->status) {
        build_norm(b, h.q, h.q, "attn_q_norm", a->d_k);
        build_norm(b, h.k, h.k, "attn_k_norm", a->d_k);
    }
    uint32_t f = factors(b, o);
    if (b->status) return PERI_NONE;
    rotate(b, o, h.q, f);
    rotate(b, o, h.k, f);
    uint32_t y = attend(b, l, o, h);
    return build_linear(b, y, "attn_output", (int64_t)l->n_head * a->d_v, a->d_model, 0);
}
