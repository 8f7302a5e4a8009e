/* SPDX-License-Identifier: MIT
 *
 * build.c - the frame of every model: embedding, layers of steps, head.  Block kinds live in
 * blk_*.c.
 *
 * A step is  stream += post(block(pre(stream))).  The sum at the end of a step and the norm that
 * begins the next are one ADD_NORM, because both read and write the same rows; a plugin that has no
 * such op gets ADD and NORM. */
#include "graph/build.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reader.h"
#include "base/status.h"
#include "graph/build_int.h"
#include "model/dtype.h"

#include "base/compiler.h"

static void name_of(const builder *b, const char *stem, const char *suffix, char name[128]) {
    if (b->il >= 0)
        snprintf(name, 128, "blk.%d.%s%s", b->il, stem, suffix);
    else
        snprintf(name, 128, "%s%s", stem, suffix);
}

uint32_t build_weight(builder *b, const char *stem, const char *suffix, const int64_t *dim,
                      int n_dim, uint32_t flags) {
    char name[128];
    uint32_t index;
    if (b->status) return PERI_NONE;
    name_of(b, stem, suffix, name);
    b->status = peri_weights_bind(b->w, name, dim, n_dim, flags, &index, b->err);
    if (b->status || index == PERI_WEIGHT_NONE) return PERI_NONE;
    const peri_weight_view *v = peri_weights_at(b->w, index);
    return peri_graph_weight(b->g, index, v->dtype, v->dim);
}

uint32_t build_vector(builder *b, const char *stem, const char *suffix, int64_t n) {
    return build_weight(b, stem, suffix, &n, 1, PERI_BIND_OPTIONAL | PERI_BIND_VECTOR);
}

uint32_t build_scale(builder *b, const char *stem, int64_t n) {
    if (b->status || !peri_weights_uses_scale(b->w, stem)) return PERI_NONE;
    return build_vector(b, stem, ".scale", n);
}

bool build_has(builder *b, const char *stem, const char *suffix) {
    char name[128];
    name_of(b, stem, suffix, name);
    return peri_weights_has(b->w, name);
}

uint32_t build_rows(builder *b, int64_t n) {
    return peri_graph_act(b->g, PERI_DT_F32, (const int64_t[]){-PERI_SYM_T, n}, 2);
}

float build_eps(const builder *b) {
    return (float)b->a->eps_rms;
}

uint32_t build_linear(builder *b, uint32_t x, const char *stem, int64_t n_in, int64_t n_out,
                      uint32_t flags) {
    uint32_t w = build_weight(b, stem, ".weight", (const int64_t[]){n_out, n_in}, 2, 0);
    uint32_t bias = build_vector(b, stem, ".bias", n_out), scale = build_scale(b, stem, 1);
    uint32_t y = build_rows(b, n_out);
    peri_linear_attr attr = {.size = sizeof attr, .flags = flags};
    if (!b->status)
        peri_graph_add(b->g, PERI_OP_LINEAR, (const uint32_t[]){x, w, bias, scale, y}, 4, 1, &attr,
                       sizeof attr);
    return y;
}

uint32_t build_norm(builder *b, uint32_t x, uint32_t out, const char *stem, int64_t n) {
    uint32_t w = build_weight(b, stem, ".weight", &n, 1, PERI_BIND_VECTOR);
    if (b->status || b->g->failed) return PERI_NONE;
    if (out == PERI_NONE) out = peri_graph_act(b->g, PERI_DT_F32, b->g->tensor[x].t.dim, 4);
    peri_norm_attr attr = {.size = sizeof attr, .kind = PERI_NORM_RMS, .eps = build_eps(b)};
    peri_graph_add(b->g, PERI_OP_NORM, (const uint32_t[]){x, w, PERI_NONE, out}, 3, 1, &attr,
                   sizeof attr);
    return out;
}

/* ---- frame --------------------------------------------------------------------------------------
 */

static uint32_t build_embed(builder *b) {
    const peri_arch *a = b->a;
    uint32_t w =
        build_weight(b, "token_embd", ".weight", (const int64_t[]){a->n_vocab, a->d_model}, 2, 0);
    uint32_t x = build_rows(b, a->d_model);
    peri_embed_attr attr = {.size = sizeof attr, .scale = (float)a->embed_scale};
    if (!b->status)
        peri_graph_add(b->g, PERI_OP_EMBED, (const uint32_t[]){w, x}, 1, 1, &attr, sizeof attr);
    return x;
}

static uint32_t build_block(builder *b, const peri_arch_layer *l, const peri_arch_step *s,
                            uint32_t x) {
    switch (s->kind) {
    case PERI_BLOCK_gqa:
        return build_gqa(b, l, &s->u.gqa, x);
    case PERI_BLOCK_gated:
        return build_gated(b, l, &s->u.gated, x);
    case PERI_BLOCK_moe:
        return build_moe(b, &s->u.moe, x);
    default:
        b->status =
            peri_fail(b->err, PERI_E_INVALID, "layer %d: block kind %d is unknown", b->il, s->kind);
        return PERI_NONE;
    }
}

/* x += y; returns the norm named `stem` of the sum, or PERI_NONE when stem is empty. */
static uint32_t build_add_norm(builder *b, uint32_t x, uint32_t y, const char *stem) {
    int64_t d = b->a->d_model;
    if (b->status) return PERI_NONE;
    if (!*stem) {
        peri_graph_add(b->g, PERI_OP_ADD, (const uint32_t[]){x, y, x}, 2, 1, NULL, 0);
        return PERI_NONE;
    }
    uint32_t w = build_weight(b, stem, ".weight", &d, 1, PERI_BIND_VECTOR), n = build_rows(b, d);
    peri_norm_attr attr = {.size = sizeof attr, .kind = PERI_NORM_RMS, .eps = build_eps(b)};
    if (!b->status)
        peri_graph_add(b->g, PERI_OP_ADD_NORM, (const uint32_t[]){x, y, w, PERI_NONE, x, n}, 4, 2,
                       &attr, sizeof attr);
    return n;
}

/* The norm that opens the step after (il, is); "" at the end or where that step has none. */
static const char *next_pre(const peri_arch *a, int32_t *il, uint32_t *is) {
    if (++*is >= a->layer[*il].n_step) {
        *is = 0;
        ++*il;
    }
    return *il < a->n_layer ? a->layer[*il].step[*is].pre : "";
}

static void build_layers(builder *b, uint32_t x) {
    const peri_arch *a = b->a;
    uint32_t n = PERI_NONE; /* the step's normed input, when the last ADD_NORM made it */
    for (int32_t il = 0; il < a->n_layer; il++) {
        for (uint32_t is = 0; is < a->layer[il].n_step && !b->status; is++) {
            const peri_arch_step *s = &a->layer[il].step[is];
            b->il = il;
            b->g->layer = (uint16_t)il;
            if (n == PERI_NONE) n = *s->pre ? build_norm(b, x, PERI_NONE, s->pre, a->d_model) : x;
            uint32_t y = build_block(b, &a->layer[il], s, n);
            if (*s->post && !b->status) y = build_norm(b, y, PERI_NONE, s->post, a->d_model);
            int32_t next_il = il;
            uint32_t next_is = is;
            const char *pre = next_pre(a, &next_il, &next_is);
            b->il = next_il < a->n_layer ? next_il : il;
            n = build_add_norm(b, x, y, pre);
        }
    }
    b->il = -1;
    b->g->layer = 0xffff;
}

static uint32_t build_head(builder *b, uint32_t x) {
    const peri_arch *a = b->a;
    const int64_t shape[] = {a->n_vocab, a->d_model}, rows[] = {-PERI_SYM_R, a->d_model},
                  out[] = {-PERI_SYM_R, a->n_vocab};
    uint32_t r = peri_graph_act(b->g, PERI_DT_F32, rows, 2),
             y = peri_graph_act(b->g, PERI_DT_F32, out, 2);
    const char *stem = build_has(b, "output", ".weight") ? "output" : "token_embd";
    if (!b->status) peri_graph_add(b->g, PERI_OP_ROWS, (const uint32_t[]){x, r}, 1, 1, NULL, 0);
    r = build_norm(b, r, PERI_NONE, a->head_norm, a->d_model);
    uint32_t w = build_weight(b, stem, ".weight", shape, 2, 0);
    uint32_t bias = build_vector(b, "output", ".bias", a->n_vocab),
             scale = build_scale(b, "output", 1);
    peri_linear_attr attr = {.size = sizeof attr};
    if (b->status) return PERI_NONE;
    peri_graph_add(b->g, PERI_OP_LINEAR, (const uint32_t[]){r, w, bias, scale, y}, 4, 1, &attr,
                   sizeof attr);
    peri_scale_attr sa = {.size = sizeof sa, .scale = (float)a->head_scale};
    peri_act_attr cap = {.size = sizeof cap, .act = PERI_ACT_SOFTCAP, .param = (float)a->head_cap};
    if (a->head_scale != 1)
        peri_graph_add(b->g, PERI_OP_SCALE, (const uint32_t[]){y, y}, 1, 1, &sa, sizeof sa);
    if (a->head_cap > 0)
        peri_graph_add(b->g, PERI_OP_ACT, (const uint32_t[]){y, y}, 1, 1, &cap, sizeof cap);
    return y;
}

peri_status peri_build(const peri_arch *a, peri_weights *w, const peri_kv_layout *kv, int32_t n_ctx,
                       peri_graph *g, uint32_t *logits, peri_error *err) {
    builder b = {.a = a, .w = w, .kv = kv, .g = g, .n_ctx = n_ctx, .il = -1, .err = err};
    uint32_t x = build_embed(&b);
    if (!b.status) build_layers(&b, x);
    *logits = b.status ? PERI_NONE : build_head(&b, x);
    if (!b.status && g->failed)
        b.status = peri_fail(err, PERI_E_NOMEM, "out of memory building the graph of %s", a->name);
    return b.status;
}

uint32_t peri_build_top(peri_graph *g, uint32_t logits, int32_t n) {
    const int64_t both[] = {-PERI_SYM_R, 2 * (int64_t)n}, one[] = {-PERI_SYM_R, n};
    uint32_t list = peri_graph_act(g, PERI_DT_I32, both, 2);
    uint32_t id = peri_graph_view(g, list, one, 2, 0), y = peri_graph_view(g, list, one, 2, n);
    if (!g->failed) g->tensor[y].t.dtype = PERI_DT_F32;
    peri_graph_add(g, PERI_OP_TOPK, (const uint32_t[]){logits, id, y}, 1, 2, NULL, 0);
    return list;
}

/* ---- KV layout ----------------------------------------------------------------------------------
 */

static bool add_region(uint64_t *at, uint64_t tokens, int32_t heads, uint64_t head_bytes,
                       uint64_t *off) {
    uint64_t n;
    *off = *at;
    return peri_mul_u64(tokens, (uint64_t)heads * head_bytes, &n) && peri_add_u64(*at, n, at) &&
           peri_pad_u64(*at, 64, at);
}

/* A head's row begins a block of the type. */
static peri_status check_heads(const peri_arch *a, uint32_t dtype, peri_error *err) {
    const peri_dtype_info *t = peri_dtype_get(dtype);
    int32_t n = (int32_t)t->block_elements, width = a->d_k % n ? a->d_k : a->d_v;
    if (width % n == 0) return PERI_OK;
    return peri_fail(err, PERI_E_UNSUPPORTED,
                     "type %s of keys and values: found %s of %d elements per head, expected a "
                     "multiple of %d",
                     t->name, a->d_k % n ? "keys" : "values", width, n);
}

peri_status peri_kv_layout_init(peri_kv_layout *kv, const peri_arch *a, uint32_t dtype,
                                uint32_t block_tokens, uint32_t n_block, peri_error *err) {
    *kv = (peri_kv_layout){.dtype = dtype, .block_tokens = block_tokens, .n_block = n_block};
    peri_status st = check_heads(a, dtype, err);
    if (st) return st;
    kv->k_off = peri_alloc_array((size_t)a->n_layer, sizeof *kv->k_off);
    kv->v_off = peri_alloc_array((size_t)a->n_layer, sizeof *kv->v_off);
    kv->layer_bytes = peri_calloc((size_t)a->n_layer, sizeof *kv->layer_bytes);
    if (!kv->k_off || !kv->v_off || !kv->layer_bytes) {
        peri_kv_layout_fini(kv);
        return peri_fail(err, PERI_E_NOMEM, "out of memory laying out %d layers", a->n_layer);
    }
    uint64_t tokens = (uint64_t)block_tokens * n_block;
    uint64_t k_bytes = peri_dtype_size(dtype, (uint64_t)a->d_k),
             v_bytes = peri_dtype_size(dtype, (uint64_t)a->d_v);
    for (int32_t il = 0; il < a->n_layer; il++) {
        uint64_t *n = &kv->layer_bytes[il];
        if (add_region(n, tokens, a->layer[il].n_kv, k_bytes, &kv->k_off[il]) &&
            add_region(n, tokens, a->layer[il].n_kv, v_bytes, &kv->v_off[il]) &&
            peri_add_u64(kv->bytes, *n, &kv->bytes))
            continue;
        peri_kv_layout_fini(kv);
        return peri_fail(err, PERI_E_RANGE, "keys and values of %llu tokens do not fit in memory",
                         (unsigned long long)tokens);
    }
    return PERI_OK;
}

void peri_kv_layout_fini(peri_kv_layout *kv) {
    peri_free(kv->k_off);
    peri_free(kv->v_off);
    peri_free(kv->layer_bytes);
    *kv = (peri_kv_layout){0};
}
