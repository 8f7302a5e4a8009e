/* SPDX-License-Identifier: MIT
 *
 * arch.c - the tables of arch.def, reading the standard parameters, and printing a flattened spec.
 *
 * Every number comes from an untrusted file: ranges are those of arch.def, and what several numbers
 * imply together (heads that do not divide, a rotation wider than a head) is checked here, so that
 * the graph builder may multiply without fear. */
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "base/reader.h"
#include "base/status.h"
#include "base/text.h"

const peri_arch_option peri_arch_options[] = {
#define PERI_ARCH_ENUM(kind, option, values, meaning)                                              \
    {PERI_BLOCK_##kind,                                                                            \
     #option,                                                                                      \
     PERI_OPTION_ENUM,                                                                             \
     values,                                                                                       \
     0,                                                                                            \
     meaning,                                                                                      \
     offsetof(peri_block_##kind, option) / sizeof(double)},
#define PERI_ARCH_NUM(kind, option, number, meaning)                                               \
    {PERI_BLOCK_##kind,                                                                            \
     #option,                                                                                      \
     PERI_OPTION_NUM,                                                                              \
     NULL,                                                                                         \
     number,                                                                                       \
     meaning,                                                                                      \
     offsetof(peri_block_##kind, option) / sizeof(double)},
#define PERI_ARCH_FLAG(kind, option, number, meaning)                                              \
    {PERI_BLOCK_##kind,                                                                            \
     #option,                                                                                      \
     PERI_OPTION_FLAG,                                                                             \
     NULL,                                                                                         \
     number,                                                                                       \
     meaning,                                                                                      \
     offsetof(peri_block_##kind, option) / sizeof(double)},
#include "model/arch.def"
};
const uint32_t peri_arch_n_option = sizeof peri_arch_options / sizeof peri_arch_options[0];
_Static_assert(sizeof(peri_block_gqa) <= sizeof(((peri_arch_step *)0)->u.option), "options of gqa");

const peri_arch_param peri_arch_params[] = {
#define PERI_ARCH_PARAM(field, type, key, fallback, number, lo, hi, meaning)                       \
    {#field, key, PERI_PARAM_##type, PERI_FALLBACK_##fallback, number, lo, hi, meaning},
#include "model/arch.def"
};
const uint32_t peri_arch_n_param = sizeof peri_arch_params / sizeof peri_arch_params[0];

static const char *const kind_name[] = {
    "none",
#define PERI_ARCH_BLOCK(kind, meaning) #kind,
#include "model/arch.def"
};

const char *peri_block_kind_name(peri_block_kind kind) {
    return (unsigned)kind < PERI_BLOCK_COUNT ? kind_name[kind] : "?";
}

peri_block_kind peri_block_kind_find(peri_str name) {
    for (int k = 1; k < PERI_BLOCK_COUNT; k++)
        if (peri_str_eq_c(name, kind_name[k])) return (peri_block_kind)k;
    return PERI_BLOCK_NONE;
}

peri_str peri_option_value_at(const char *values, int index) {
    const char *p = values;
    for (; index > 0 && p; index--) {
        p = strchr(p, '|');
        if (p) p++;
    }
    if (!p || index < 0) return (peri_str){NULL, 0};
    return (peri_str){p, strcspn(p, "|")};
}

int peri_option_value_find(const char *values, peri_str name) {
    for (int i = 0;; i++) {
        peri_str v = peri_option_value_at(values, i);
        if (!v.data) return -1;
        if (peri_str_eq(v, name)) return i;
    }
}

void peri_arch_free(peri_arch *a) {
    if (a) peri_arena_free(a->arena);
}

peri_status peri_arch_note_key(peri_arch *a, const char *key, peri_error *err) {
    uint32_t at = 0; /* kept sorted, so that the text does not depend on the order of reading */
    while (at < a->n_key && strcmp(a->keys[at], key) < 0)
        at++;
    if (at < a->n_key && !strcmp(a->keys[at], key)) return PERI_OK;
    /* Rooms double; the arena keeps the old arrays, which is less than what is in use. */
    if ((a->n_key & (a->n_key - 1)) == 0) {
        const char **bigger =
            peri_arena_alloc(a->arena, a->n_key ? 2 * a->n_key : 1, sizeof *bigger);
        if (!bigger) return peri_fail(err, PERI_E_NOMEM, "out of memory reading key %s", key);
        if (a->n_key) memcpy(bigger, a->keys, a->n_key * sizeof *bigger);
        a->keys = bigger;
    }
    peri_str copy = peri_arena_str(a->arena, peri_str_of(key));
    if (!copy.data) return peri_fail(err, PERI_E_NOMEM, "out of memory reading key %s", key);
    memmove(&a->keys[at + 1], &a->keys[at], (a->n_key - at) * sizeof *a->keys);
    a->keys[at] = copy.data;
    a->n_key++;
    return PERI_OK;
}

/* The slot of a scalar parameter: an int32_t or a double inside *a. */
static void *scalar_slot(const peri_arch *a, const char *name) {
    static const struct {
        const char *name;
        size_t off;
    } slot[] = {
#define SLOT(field) {#field, offsetof(peri_arch, field)}
        SLOT(n_layer), SLOT(d_model),   SLOT(n_ctx),  SLOT(d_k),      SLOT(d_v),
        SLOT(d_rot),   SLOT(n_expert),  SLOT(n_used), SLOT(d_expert), SLOT(window),
        SLOT(eps_rms), SLOT(rope_base), SLOT(n_vocab)};
    for (size_t i = 0; i < sizeof slot / sizeof slot[0]; i++)
        if (!strcmp(slot[i].name, name)) return (char *)(uintptr_t)a + slot[i].off;
    return NULL;
}

static int32_t *layer_slot(const peri_arch *a, const char *name, int32_t il) {
    peri_arch_layer *l = &a->layer[il];
    if (!strcmp(name, "n_head")) return &l->n_head;
    if (!strcmp(name, "n_kv")) return &l->n_kv;
    if (!strcmp(name, "d_ff")) return &l->d_ff;
    return NULL;
}

bool peri_arch_param_get(const peri_arch *a, const char *name, int32_t il, double *out) {
    if (!strcmp(name, "n_vocab")) {
        *out = a->n_vocab;
        return true;
    }
    for (uint32_t i = 0; i < peri_arch_n_param; i++) {
        const peri_arch_param *p = &peri_arch_params[i];
        if (strcmp(p->name, name)) continue;
        if (p->type == PERI_PARAM_LAYERS)
            *out = *layer_slot(a, name, il < 0 ? 0 : il);
        else if (p->type == PERI_PARAM_FLOAT)
            *out = *(double *)scalar_slot(a, name);
        else
            *out = *(int32_t *)scalar_slot(a, name);
        return true;
    }
    return false;
}

/* ---- reading ------------------------------------------------------------------------------------
 */

static peri_status full_key(const peri_arch *a, const char *key, char buf[160], peri_error *err) {
    int n = snprintf(buf, 160, "%s.%s", a->name, key);
    if (n < 0 || n >= 160)
        return peri_fail(err, PERI_E_CORRUPT, "architecture name of %d bytes is too long", n);
    return PERI_OK;
}

static peri_status fallback_value(const peri_arch *a, const peri_gguf *g, const peri_arch_param *p,
                                  double *out, peri_error *err) {
    switch (p->fallback) {
    case PERI_FALLBACK_NUMBER:
        *out = p->number;
        return PERI_OK;
    case PERI_FALLBACK_N_HEAD:
        *out = a->layer[0].n_head;
        return PERI_OK;
    case PERI_FALLBACK_D_K:
        *out = a->d_k;
        return PERI_OK;
    case PERI_FALLBACK_D_FF:
        *out = a->layer[0].d_ff;
        return PERI_OK;
    case PERI_FALLBACK_HEADS:
        if (a->d_model % a->layer[0].n_head)
            return peri_fail(err, PERI_E_CORRUPT,
                             "%s: key %s.%s is missing and %d elements do not divide into %d heads",
                             peri_gguf_path(g), a->name, p->key, a->d_model, a->layer[0].n_head);
        *out = a->d_model / a->layer[0].n_head;
        return PERI_OK;
    case PERI_FALLBACK_REQUIRED:
        break;
    }
    return peri_fail(err, PERI_E_NOT_FOUND, "%s: key %s.%s is missing (%s)", peri_gguf_path(g),
                     a->name, p->key, p->meaning);
}

static peri_status check_range(const peri_gguf *g, const peri_gguf_value *v,
                               const peri_arch_param *p, double x, peri_error *err) {
    if (x >= p->lo && x <= p->hi) return PERI_OK;
    return peri_gguf_fail_key(g, v, err, "found %.9g, expected %.9g to %.9g (%s)", x, p->lo, p->hi,
                              p->meaning);
}

/* Element i of v as the parameter's type, in range. */
static peri_status read_element(const peri_gguf *g, const peri_gguf_value *v,
                                const peri_arch_param *p, uint64_t i, double *out,
                                peri_error *err) {
    if (p->type == PERI_PARAM_FLOAT) {
        if (!peri_gguf_as_f64(v, i, out) || !isfinite(*out))
            return peri_gguf_fail_key(g, v, err, "expected a finite number (%s)", p->meaning);
    } else {
        int64_t n;
        if (!peri_gguf_as_i64(v, i, &n))
            return peri_gguf_fail_key(g, v, err, "expected an integer (%s)", p->meaning);
        *out = (double)n;
    }
    return check_range(g, v, p, *out, err);
}

static peri_status read_layers(peri_arch *a, const peri_gguf *g, const peri_arch_param *p,
                               const peri_gguf_value *v, peri_error *err) {
    if (v && v->is_array && v->n != (uint64_t)a->n_layer)
        return peri_gguf_fail_key(g, v, err, "array of %llu values, expected one per layer (%d)",
                                  (unsigned long long)v->n, a->n_layer);
    for (int32_t il = 0; il < a->n_layer; il++) {
        double x;
        peri_status st;
        if (v)
            st = read_element(g, v, p, v->is_array ? (uint64_t)il : 0, &x, err);
        else if (p->fallback == PERI_FALLBACK_N_HEAD)
            x = a->layer[il].n_head, st = PERI_OK;
        else
            st = fallback_value(a, g, p, &x, err);
        if (st) return st;
        *layer_slot(a, p->name, il) = (int32_t)x;
    }
    return PERI_OK;
}

static peri_status read_param(peri_arch *a, const peri_gguf *g, const peri_arch_param *p,
                              peri_error *err) {
    char key[160];
    peri_status st = full_key(a, p->key, key, err);
    if (st) return st;
    const peri_gguf_value *v = peri_gguf_find(g, key);
    if (v && (st = peri_arch_note_key(a, key, err))) return st;
    if (p->type == PERI_PARAM_LAYERS) return read_layers(a, g, p, v, err);
    if (v && v->is_array)
        return peri_gguf_fail_key(g, v, err, "found an array, expected one number (%s)",
                                  p->meaning);
    double x;
    st = v ? read_element(g, v, p, 0, &x, err) : fallback_value(a, g, p, &x, err);
    if (st) return st;
    /* A stored 0 means "not given" where a fallback exists and 0 is no sensible value. */
    if (v && x == 0 && p->fallback == PERI_FALLBACK_D_FF) {
        st = fallback_value(a, g, p, &x, err);
        if (st) return st;
    }
    if (p->type == PERI_PARAM_FLOAT)
        *(double *)scalar_slot(a, p->name) = x;
    else
        *(int32_t *)scalar_slot(a, p->name) = (int32_t)x;
    if (!strcmp(p->name, "n_layer")) {
        a->layer = peri_arena_alloc(a->arena, (size_t)a->n_layer, sizeof *a->layer);
        if (!a->layer)
            return peri_fail(err, PERI_E_NOMEM, "out of memory for %d layers", a->n_layer);
    }
    return PERI_OK;
}

/* A float key from lo to 1e6; *inout keeps its value when the key is missing, or 0 and lo is 0. */
static peri_status read_float(peri_arch *a, const peri_gguf *g, const char *name, double lo,
                              double *inout, peri_error *err) {
    char key[160];
    peri_status st = full_key(a, name, key, err);
    if (st || !peri_gguf_find(g, key)) return st;
    double x;
    if ((st = peri_arch_note_key(a, key, err))) return st;
    if ((st = peri_gguf_get_f64(g, key, lo, 1e6, &x, err))) return st;
    if (x != 0 || lo != 0) *inout = x;
    return PERI_OK;
}

/* An integer key from 0 to 2^30; *inout keeps its value when the key is missing. */
static peri_status read_int(peri_arch *a, const peri_gguf *g, const char *name, int64_t *inout,
                            peri_error *err) {
    char key[160];
    peri_status st = full_key(a, name, key, err);
    if (st || !peri_gguf_find(g, key)) return st;
    if ((st = peri_arch_note_key(a, key, err))) return st;
    return peri_gguf_get_i64(g, key, 0, 1 << 30, inout, err);
}

static peri_status read_scaling_type(peri_arch *a, const peri_gguf *g, bool *is_given,
                                     peri_error *err) {
    char key[160];
    peri_status st = full_key(a, "rope.scaling.type", key, err);
    if (st) return st;
    const peri_gguf_value *v = peri_gguf_find(g, key);
    *is_given = v != NULL;
    if (!v) return PERI_OK;
    peri_str name;
    if ((st = peri_arch_note_key(a, key, err))) return st;
    if ((st = peri_gguf_get_str(g, key, &name, err))) return st;
    if (peri_str_eq_c(name, "linear"))
        a->scaling = PERI_ROPE_SCALING_LINEAR;
    else if (peri_str_eq_c(name, "yarn"))
        a->scaling = PERI_ROPE_SCALING_YARN;
    else if (peri_str_eq_c(name, "none") || peri_str_eq_c(name, "longrope"))
        a->scaling = PERI_ROPE_SCALING_NONE; /* longrope: the factors are tensors */
    else
        return peri_gguf_fail_key(
            g, v, err, "unknown scaling \"%.*s\", expected none, linear, yarn or longrope",
            PERI_STR_ARG(name));
    return PERI_OK;
}

static peri_status read_scaling(peri_arch *a, const peri_gguf *g, peri_error *err) {
    a->scaling_factor = a->attn_factor = 1;
    a->beta_fast = 32;
    a->beta_slow = 1;
    a->ext_factor = -1;
    a->n_ctx_orig = a->n_ctx;
    int64_t orig = 0;
    bool has_type;
    peri_status st = read_scaling_type(a, g, &has_type, err);
    if (!st) st = read_float(a, g, "rope.scale_linear", 0, &a->scaling_factor, err);
    if (!st && !has_type && a->scaling_factor != 1) a->scaling = PERI_ROPE_SCALING_LINEAR;
    if (!st) st = read_float(a, g, "rope.scaling.factor", 0, &a->scaling_factor, err);
    if (!st) st = read_float(a, g, "rope.scaling.attn_factor", 0, &a->attn_factor, err);
    if (!st) st = read_float(a, g, "rope.scaling.yarn_ext_factor", -1, &a->ext_factor, err);
    if (!st) st = read_float(a, g, "rope.scaling.yarn_beta_fast", 0, &a->beta_fast, err);
    if (!st) st = read_float(a, g, "rope.scaling.yarn_beta_slow", 0, &a->beta_slow, err);
    if (!st) st = read_int(a, g, "rope.scaling.original_context_length", &orig, err);
    if (orig >= 1) a->n_ctx_orig = (int32_t)orig;
    if (a->scaling == PERI_ROPE_SCALING_NONE) a->scaling_factor = 1;
    if (a->ext_factor < 0) a->ext_factor = a->scaling == PERI_ROPE_SCALING_YARN ? 1 : 0;
    return st;
}

static peri_status check_together(const peri_arch *a, const peri_gguf *g, peri_error *err) {
    const char *path = peri_gguf_path(g);
    for (int32_t il = 0; il < a->n_layer; il++)
        if (a->layer[il].n_head % a->layer[il].n_kv)
            return peri_fail(err, PERI_E_CORRUPT,
                             "%s: key %s.attention.head_count_kv: %d key/value heads do not divide "
                             "%d heads (%s.attention.head_count) in layer %d",
                             path, a->name, a->layer[il].n_kv, a->layer[il].n_head, a->name, il);
    if (a->d_rot > a->d_k || a->d_rot % 2)
        return peri_fail(err, PERI_E_CORRUPT,
                         "%s: key %s.rope.dimension_count: found %d, expected an even number up to "
                         "%d (%s.attention.key_length)",
                         path, a->name, a->d_rot, a->d_k, a->name);
    if (a->n_used > a->n_expert)
        return peri_fail(err, PERI_E_CORRUPT,
                         "%s: key %s.expert_used_count: found %d, but %s.expert_count is %d", path,
                         a->name, a->n_used, a->name, a->n_expert);
    if (a->n_expert > 0 && a->n_used < 1)
        return peri_fail(err, PERI_E_CORRUPT,
                         "%s: key %s.expert_used_count: found 0, expected 1 to %d", path, a->name,
                         a->n_expert);
    return PERI_OK;
}

peri_status peri_arch_read_params(peri_arch *a, const peri_gguf *g, peri_error *err) {
    for (uint32_t i = 0; i < peri_arch_n_param; i++) {
        peri_status st = read_param(a, g, &peri_arch_params[i], err);
        if (st) return st;
    }
    const peri_gguf_tensor *embd = peri_gguf_find_tensor(g, "token_embd.weight");
    if (!embd)
        return peri_fail(err, PERI_E_NOT_FOUND, "%s: tensor token_embd.weight is missing",
                         peri_gguf_path(g));
    if (embd->dim[2] < 1 || embd->dim[2] > INT32_MAX)
        return peri_gguf_fail_tensor(g, embd, err, "%lld rows are no vocabulary",
                                     (long long)embd->dim[2]);
    a->n_vocab = (int32_t)embd->dim[2];
    peri_status st = read_scaling(a, g, err);
    return st ? st : check_together(a, g, err);
}

/* ---- printing -----------------------------------------------------------------------------------
 */

static void print_value(peri_text *out, const peri_arch_option *o, double x) {
    if (o->type == PERI_OPTION_ENUM) {
        peri_str v = peri_option_value_at(o->values, (int)x);
        peri_text_addf(out, "%.*s", PERI_STR_ARG(v));
    } else if (o->type == PERI_OPTION_FLAG) {
        peri_text_add_str(out, x != 0 ? "true" : "false");
    } else {
        peri_text_addf(out, "%.9g", x);
    }
}

static bool step_equal(const peri_arch_step *a, const peri_arch_step *b) {
    return a->kind == b->kind && !strcmp(a->pre, b->pre) && !strcmp(a->post, b->post) &&
           !memcmp(a->u.option, b->u.option, sizeof a->u.option);
}

static bool layer_equal(const peri_arch_layer *a, const peri_arch_layer *b) {
    if (a->n_step != b->n_step || a->n_head != b->n_head || a->n_kv != b->n_kv ||
        a->d_ff != b->d_ff)
        return false;
    for (uint32_t i = 0; i < a->n_step; i++)
        if (!step_equal(&a->step[i], &b->step[i])) return false;
    return true;
}

static void print_step(peri_text *out, const peri_arch_step *s) {
    peri_text_addf(out, "  step  pre %s  block %s", *s->pre ? s->pre : "-",
                   peri_block_kind_name(s->kind));
    if (*s->post) peri_text_addf(out, "  post %s", s->post);
    peri_text_add_str(out, "\n");
    for (uint32_t i = 0; i < peri_arch_n_option; i++) {
        const peri_arch_option *o = &peri_arch_options[i];
        if (o->kind != s->kind) continue;
        peri_text_addf(out, "    %-15s ", o->name);
        print_value(out, o, s->u.option[o->slot]);
        peri_text_add_str(out, "\n");
    }
}

/* Layers with the same description share one entry: "layer 0-4,6-10". */
static void print_layers(const peri_arch *a, peri_text *out) {
    for (int32_t il = 0; il < a->n_layer; il++) {
        bool is_first = true;
        for (int32_t j = 0; j < il && is_first; j++)
            is_first = !layer_equal(&a->layer[j], &a->layer[il]);
        if (!is_first) continue;
        peri_text_add_str(out, "layer");
        const char *sep = " ";
        for (int32_t j = il; j < a->n_layer; j++) {
            if (!layer_equal(&a->layer[j], &a->layer[il])) continue;
            int32_t end = j;
            while (end + 1 < a->n_layer && layer_equal(&a->layer[end + 1], &a->layer[il]))
                end++;
            peri_text_addf(out, end > j ? "%s%d-%d" : "%s%d", sep, j, end);
            sep = ",";
            j = end;
        }
        const peri_arch_layer *l = &a->layer[il];
        peri_text_addf(out, "  n_head %d  n_kv %d  d_ff %d\n", l->n_head, l->n_kv, l->d_ff);
        for (uint32_t i = 0; i < l->n_step; i++)
            print_step(out, &l->step[i]);
    }
}

void peri_arch_print(const peri_arch *a, peri_text *out) {
    peri_text_addf(out, "architecture %s", a->name);
    if (*a->parent) peri_text_addf(out, " (parent %s)", a->parent);
    peri_text_add_str(out, "\n");
    if (*a->source) peri_text_addf(out, "source  %s\n", a->source);
    if (*a->checked) peri_text_addf(out, "checked %s\n", a->checked);
    for (uint32_t i = 0; i < peri_arch_n_param; i++) {
        const peri_arch_param *p = &peri_arch_params[i];
        double x;
        if (p->type == PERI_PARAM_LAYERS || !peri_arch_param_get(a, p->name, 0, &x)) continue;
        peri_text_addf(out, "%-10s %-12.7g %s\n", p->name, x, p->meaning);
    }
    peri_text_addf(out, "%-10s %-12d vocabulary (rows of token_embd.weight)\n", "n_vocab",
                   a->n_vocab);
    static const char *const scaling[] = {"none", "linear", "yarn"};
    peri_text_addf(out, "scaling    %s factor %.9g ext %.9g attn %.9g trained at %d\n",
                   scaling[a->scaling], a->scaling_factor, a->ext_factor, a->attn_factor,
                   a->n_ctx_orig);
    peri_text_addf(out, "embed      scale %.9g\n", a->embed_scale);
    print_layers(a, out);
    peri_text_addf(out, "head       norm %s scale %.9g cap %.9g\n", a->head_norm, a->head_scale,
                   a->head_cap);
    peri_text_add_str(out, "keys read ");
    for (uint32_t i = 0; i < a->n_key; i++)
        peri_text_addf(out, " %s", a->keys[i]);
    peri_text_add_str(out, "\n");
}
