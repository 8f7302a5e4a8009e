/* SPDX-License-Identifier: MIT
 *
 * weights.c - binding tensors of the file to the places an architecture reads them. */
#include "model/weights.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "base/status.h"
#include "model/dtype.h"

struct peri_weights {
    const peri_gguf *g;
    const peri_arch *a;
    peri_arena *arena;
    peri_weight_view *weight; /* [n], room for every tensor of the file */
    uint32_t n;
    uint32_t *of_tensor; /* [n_tensors] index of the weight bound to it, or PERI_WEIGHT_NONE */
};

peri_status peri_weights_new(const peri_gguf *g, const peri_arch *a, peri_weights **out,
                             peri_error *err) {
    *out = NULL;
    uint64_t n = peri_gguf_n_tensors(g);
    peri_weights *w = peri_calloc(1, sizeof *w);
    if (!w) goto nomem;
    w->g = g;
    w->a = a;
    if (!(w->arena = peri_arena_new())) goto nomem;
    if (!(w->weight = peri_calloc(n, sizeof *w->weight))) goto nomem;
    if (!(w->of_tensor = peri_alloc_array(n, sizeof *w->of_tensor))) goto nomem;
    for (uint64_t i = 0; i < n; i++)
        w->of_tensor[i] = PERI_WEIGHT_NONE;
    *out = w;
    return PERI_OK;
nomem:
    peri_weights_free(w);
    return peri_fail(err, PERI_E_NOMEM, "%s: out of memory binding %llu tensors", peri_gguf_path(g),
                     (unsigned long long)n);
}

void peri_weights_free(peri_weights *w) {
    if (!w) return;
    peri_free(w->of_tensor);
    peri_free(w->weight);
    peri_arena_free(w->arena);
    peri_free(w);
}

static void shape_text(const int64_t *dim, int n_dim, char buf[96]) {
    size_t at = 0;
    buf[0] = '\0';
    for (int i = 0; i < n_dim && at < 90; i++)
        at += (size_t)snprintf(buf + at, 96 - at, "[%lld]", (long long)dim[i]);
}

static bool shape_matches(const peri_gguf_tensor *t, const int64_t *dim, int n_dim) {
    for (int i = 0; i < 4; i++) {
        int j = i - (4 - n_dim);
        if (t->dim[i] != (j >= 0 ? dim[j] : 1)) return false;
    }
    return true;
}

static uint32_t half_to_float_bits(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 0x3ff;
    if (e == 31) return sign | 0x7f800000u | m << 13;
    if (e) return sign | (e + 112) << 23 | m << 13;
    if (!m) return sign;
    int shift = __builtin_clz(m) - 21; /* subnormal: bring the leading one to bit 10 */
    return sign | (uint32_t)(113 - shift) << 23 | ((m << shift) & 0x3ff) << 13;
}

/* A vector of any plain float type as f32; F32 stays in place. */
static peri_status widen(peri_weights *w, const peri_gguf_tensor *t, peri_weight_view *out,
                         peri_error *err) {
    uint64_t n = (uint64_t)out->dim[0] * out->dim[1] * out->dim[2] * out->dim[3];
    if (t->dtype == PERI_DT_F32) return PERI_OK;
    if (t->dtype != PERI_DT_F16 && t->dtype != PERI_DT_BF16 && t->dtype != PERI_DT_F64)
        return peri_gguf_fail_tensor(w->g, t, err,
                                     "found type %s, expected F32, F16, BF16 or F64 for a vector",
                                     peri_dtype_get(t->dtype)->name);
    float *dst = peri_arena_alloc(w->arena, n, sizeof *dst);
    if (!dst) return peri_fail(err, PERI_E_NOMEM, "out of memory widening tensor %s", out->name);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t bits = 0;
        if (t->dtype == PERI_DT_F64) {
            double x;
            memcpy(&x, t->data + 8 * i, 8);
            dst[i] = (float)x;
            continue;
        }
        uint16_t h;
        memcpy(&h, t->data + 2 * i, 2);
        bits = t->dtype == PERI_DT_BF16 ? (uint32_t)h << 16 : half_to_float_bits(h);
        memcpy(&dst[i], &bits, 4);
    }
    out->data = dst;
    out->dtype = PERI_DT_F32;
    out->bytes = n * 4;
    return PERI_OK;
}

static peri_status add_weight(peri_weights *w, const peri_gguf_tensor *t, uint32_t flags,
                              uint32_t *index, peri_error *err) {
    peri_weight_view *x = &w->weight[w->n];
    peri_str name = peri_arena_str(w->arena, t->name);
    if (!name.data)
        return peri_fail(err, PERI_E_NOMEM, "out of memory binding tensor %.*s",
                         PERI_STR_ARG(t->name));
    x->name = name.data;
    x->data = t->data;
    x->dtype = t->dtype;
    x->bytes = t->bytes;
    memcpy(x->dim, t->dim, sizeof x->dim);
    if (flags & PERI_BIND_VECTOR) {
        peri_status st = widen(w, t, x, err);
        if (st) return st;
    }
    *index = w->n++;
    return PERI_OK;
}

static size_t tensor_index(const peri_weights *w, const peri_gguf_tensor *t) {
    return (size_t)(t - peri_gguf_tensor_at(w->g, 0));
}

peri_status peri_weights_bind(peri_weights *w, const char *name, const int64_t *dim, int n_dim,
                              uint32_t flags, uint32_t *index, peri_error *err) {
    *index = PERI_WEIGHT_NONE;
    const peri_gguf_tensor *t = peri_gguf_find_tensor(w->g, name);
    char want[96], got[96];
    shape_text(dim, n_dim, want);
    if (!t) {
        if (flags & PERI_BIND_OPTIONAL) return PERI_OK;
        return peri_fail(err, PERI_E_NOT_FOUND,
                         "%s: tensor %s is missing (architecture %s needs it, shape %s)",
                         peri_gguf_path(w->g), name, w->a->name, want);
    }
    if (!shape_matches(t, dim, n_dim)) {
        shape_text(t->dim + 4 - t->n_dim, (int)t->n_dim, got);
        return peri_gguf_fail_tensor(w->g, t, err, "found shape %s, expected %s", got, want);
    }
    uint32_t *slot = &w->of_tensor[tensor_index(w, t)];
    if (*slot == PERI_WEIGHT_NONE) {
        peri_status st = add_weight(w, t, flags, slot, err);
        if (st) return st;
    }
    *index = *slot;
    return PERI_OK;
}

/* "attn_q" out of "blk.3.attn_q.weight" or "output.weight": the part the spec names. */
static peri_str stem_of(peri_str name, const char *suffix) {
    size_t n = strlen(suffix);
    if (name.size < n || memcmp(name.data + name.size - n, suffix, n)) return (peri_str){NULL, 0};
    peri_str s = {name.data, name.size - n};
    if (s.size > 4 && !memcmp(s.data, "blk.", 4)) {
        size_t i = 4;
        while (i < s.size && s.data[i] >= '0' && s.data[i] <= '9')
            i++;
        if (i > 4 && i < s.size && s.data[i] == '.') s = (peri_str){s.data + i + 1, s.size - i - 1};
    }
    return s;
}

static bool uses_scale(const peri_weights *w, peri_str stem) {
    if (w->a->want_all_scales) return true;
    for (uint32_t i = 0; i < w->a->n_scale; i++)
        if (peri_str_eq_c(stem, w->a->scales[i])) return true;
    return false;
}

bool peri_weights_has(const peri_weights *w, const char *name) {
    return peri_gguf_find_tensor(w->g, name) != NULL;
}

bool peri_weights_uses_scale(const peri_weights *w, const char *stem) {
    return uses_scale(w, peri_str_of(stem));
}

const char *peri_weights_state(const peri_weights *w, const peri_gguf_tensor *t) {
    if (w->of_tensor[tensor_index(w, t)] != PERI_WEIGHT_NONE) return "bound";
    char name[128];
    snprintf(name, sizeof name, "%.*s", PERI_STR_ARG(t->name));
    for (uint32_t i = 0; i < w->a->n_unused; i++)
        if (!fnmatch(w->a->unused[i], name, 0)) return "unused";
    if (stem_of(t->name, ".input_scale").data) return "unused";
    peri_str stem = stem_of(t->name, ".scale");
    if (stem.data && !uses_scale(w, stem)) return "unread scale";
    return "unknown";
}

peri_status peri_weights_finish(const peri_weights *w, peri_error *err) {
    for (uint64_t i = 0; i < peri_gguf_n_tensors(w->g); i++) {
        const peri_gguf_tensor *t = peri_gguf_tensor_at(w->g, i);
        if (strcmp(peri_weights_state(w, t), "unknown")) continue;
        return peri_gguf_fail_tensor(
            w->g, t, err,
            "architecture %s reads no such tensor (its spec would list it under "
            "`unused` if that were right)",
            w->a->name);
    }
    return PERI_OK;
}

uint32_t peri_weights_n(const peri_weights *w) {
    return w->n;
}

const peri_weight_view *peri_weights_at(const peri_weights *w, uint32_t i) {
    return &w->weight[i];
}

uint64_t peri_weights_bytes(const peri_weights *w) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < w->n; i++)
        sum += w->weight[i].bytes;
    return sum;
}

/* The share of n, bytes or elements of a weight, that one token uses: of experts, the chosen ones.
 */
static uint64_t used_share(const peri_weights *w, const peri_weight_view *x, uint64_t n) {
    if (x->dim[1] > 1 && w->a->n_expert > 0 && x->dim[1] == w->a->n_expert)
        n = n / (uint64_t)w->a->n_expert * (uint64_t)w->a->n_used;
    return n;
}

uint64_t peri_weights_used_bytes(const peri_weights *w, uint32_t i) {
    return used_share(w, &w->weight[i], w->weight[i].bytes);
}

uint64_t peri_weights_token_bytes(const peri_weights *w) {
    uint64_t sum = 0;
    bool is_tied = !peri_gguf_find_tensor(w->g, "output.weight");
    for (uint32_t i = 0; i < w->n; i++) {
        const peri_weight_view *x = &w->weight[i];
        bool is_embedding = !strcmp(x->name, "token_embd.weight");
        if (is_embedding && !is_tied) continue; /* one row per token */
        sum += used_share(w, x, x->bytes);
    }
    return sum;
}

uint64_t peri_weights_token_macs(const peri_weights *w) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        const peri_weight_view *x = &w->weight[i];
        if (x->dim[2] <= 1) continue; /* a vector */
        if (!strcmp(x->name, "token_embd.weight") || !strcmp(x->name, "output.weight")) continue;
        sum += used_share(w, x, (uint64_t)(x->dim[0] * x->dim[1] * x->dim[2] * x->dim[3]));
    }
    return sum;
}
