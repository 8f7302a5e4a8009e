/* SPDX-License-Identifier: MIT
 *
 * show.c - a model described: the documents of peri_model_show. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_int.h"
#include "api/doc.h"
#include "base/alloc.h"
#include "base/json.h"
#include "base/status.h"
#include "base/text.h"
#include "model/dtype.h"
#include "run/kv.h"

#include "base/compiler.h"

/* ---- show ---------------------------------------------------------------------------------------
 */

static json_t *type_counts(peri_doc *d, const peri_gguf *g) {
    json_t *types = json_object();
    for (uint64_t i = 0; i < peri_gguf_n_tensors(g); i++) {
        const char *name = peri_dtype_get(peri_gguf_tensor_at(g, i)->dtype)->name;
        json_int_t n = json_integer_value(json_object_get(types, name));
        peri_doc_put(d, types, name, json_integer(n + 1));
    }
    return types;
}

static void put_key(peri_doc *d, const peri_gguf *g, const char *name, const char *key) {
    peri_str s;
    const peri_gguf_value *v = peri_gguf_find(g, key);
    if (v && peri_gguf_as_str(v, 0, &s)) peri_doc_put(d, d->root, name, peri_doc_text(s));
}

static peri_status show_summary(const peri_model *m, char **text, peri_error *err) {
    peri_doc d = {.root = json_object()};
    double elements = 0;
    for (uint64_t i = 0; i < peri_gguf_n_tensors(m->g); i++) {
        const int64_t *n = peri_gguf_tensor_at(m->g, i)->dim;
        elements += (double)n[0] * (double)n[1] * (double)n[2] * (double)n[3];
    }
    peri_doc_put(&d, d.root, "file", peri_doc_cstr(peri_gguf_path(m->g)));
    put_key(&d, m->g, "name", "general.name");
    put_key(&d, m->g, "architecture", "general.architecture");
    peri_doc_put(&d, d.root, "gguf_version", json_integer(peri_gguf_version(m->g)));
    peri_doc_put(&d, d.root, "parameters", json_integer((json_int_t)elements));
    peri_doc_put(&d, d.root, "bytes", json_integer((json_int_t)peri_gguf_file_bytes(m->g)));
    peri_doc_put(&d, d.root, "tensors", json_integer((json_int_t)peri_gguf_n_tensors(m->g)));
    peri_doc_put(&d, d.root, "types", type_counts(&d, m->g));
    if (m->a) {
        peri_doc_put(&d, d.root, "context", json_integer(m->a->n_ctx));
        peri_doc_put(&d, d.root, "layers", json_integer(m->a->n_layer));
        peri_doc_put(&d, d.root, "width", json_integer(m->a->d_model));
        peri_doc_put(&d, d.root, "vocabulary", json_integer(m->a->n_vocab));
        peri_doc_put(&d, d.root, "experts", json_integer(m->a->n_expert));
    } else {
        peri_doc_put(&d, d.root, "architecture_error", peri_doc_cstr(m->arch_error.text));
    }
    if (m->tokenizer) {
        peri_doc_put(&d, d.root, "tokenizer", peri_doc_cstr(peri_tokenizer_kind(m->tokenizer)));
        peri_doc_put(&d, d.root, "pre_tokenizer", peri_doc_cstr(peri_tokenizer_pre(m->tokenizer)));
    } else {
        peri_doc_put(&d, d.root, "tokenizer_error", peri_doc_cstr(m->tokenizer_error.text));
    }
    return peri_doc_finish(&d, text, err);
}

/* A parameter with where its value comes from. */
static void put_param(peri_doc *d, const char *name, json_t *value, const char *origin) {
    json_t *p = json_object();
    peri_doc_put(d, p, "value", value);
    peri_doc_put(d, p, "origin", json_string(origin));
    peri_doc_put(d, d->root, name, p);
}

/* Floats as the short numbers they were written as. */
static json_t *short_real(double x) {
    char text[32];
    snprintf(text, sizeof text, "%.7g", x);
    return json_real(strtod(text, NULL));
}

/* The sampling parameters as run starts from them, and the order of the links. */
static void put_sampling(peri_doc *d, const peri_model *m, const peri_sampling *s) {
    peri_text order = {0};
    for (size_t i = 0; i < peri_sampling_n_param; i++) {
        double x = peri_sampling_get(s, i);
        bool is_real = peri_sampling_params[i].kind == PERI_SAMPLING_REAL;
        put_param(d, peri_sampling_params[i].name,
                  is_real ? short_real(x) : json_integer((json_int_t)x),
                  peri_sampling_origin(i, PERI_ORIGIN_RUN, m->g));
    }
    peri_sampling_order(s, &order);
    if (order.failed) d->failed = true;
    put_param(d, "samplers", peri_doc_cstr(order.size ? order.data : ""),
              peri_gguf_find(m->g, "general.sampling.sequence") ? "general.sampling.sequence"
                                                                : "default of run");
    peri_text_fini(&order);
}

static peri_status show_parameters(const peri_model *m, char **text, peri_error *err) {
    peri_doc d = {.root = json_object()};
    char key[192];
    for (uint32_t i = 0; i < peri_arch_n_param && m->a; i++) {
        const peri_arch_param *p = &peri_arch_params[i];
        double x;
        if (!peri_arch_param_get(m->a, p->name, 0, &x)) continue;
        snprintf(key, sizeof key, "%s.%s", m->a->name, p->key);
        const char *origin = peri_gguf_find(m->g, key) ? key : "default";
        put_param(&d, p->name, x == floor(x) ? json_integer((json_int_t)x) : json_real(x), origin);
    }
    peri_sampling s;
    peri_status st = peri_sampling_init(&s, PERI_ORIGIN_RUN, m->g, err);
    if (st) {
        json_decref(d.root);
        return st;
    }
    put_sampling(&d, m, &s);
    return peri_doc_finish(&d, text, err);
}

/* Bind the weights as a run would, to learn which tensors are read; NULL when the architecture is
 * unknown or does not fit. */
static peri_weights *dry_bind(const peri_model *m) {
    peri_kv_layout kv;
    peri_weights *w;
    peri_graph g;
    uint32_t logits;
    peri_error ignored;
    if (!m->a || peri_kv_layout_init(&kv, m->a, PERI_DT_F16, PERI_BLOCK_TOKENS, 1, &ignored))
        return NULL;
    peri_graph_init(&g);
    if (!peri_weights_new(m->g, m->a, &w, &ignored) &&
        peri_build(m->a, w, &kv, m->a->n_ctx, &g, &logits, &ignored)) {
        peri_weights_free(w);
        w = NULL;
    }
    peri_graph_fini(&g);
    peri_kv_layout_fini(&kv);
    return w;
}

static peri_status show_tensors(const peri_model *m, char **text, peri_error *err) {
    peri_doc d = {.root = json_array()};
    peri_weights *w = dry_bind(m);
    for (uint64_t i = 0; i < peri_gguf_n_tensors(m->g); i++) {
        const peri_gguf_tensor *t = peri_gguf_tensor_at(m->g, i);
        json_t *o = json_object(), *shape = json_array();
        peri_doc_put(&d, o, "name", peri_doc_text(t->name));
        peri_doc_put(&d, o, "type", json_string(peri_dtype_get(t->dtype)->name));
        for (uint32_t k = 4 - t->n_dim; k < 4; k++)
            peri_doc_append(&d, shape, json_integer(t->dim[k]));
        peri_doc_put(&d, o, "shape", shape);
        peri_doc_put(&d, o, "bytes", json_integer((json_int_t)t->bytes));
        peri_doc_put(&d, o, "shard", json_integer(t->shard));
        peri_doc_put(&d, o, "state", json_string(w ? peri_weights_state(w, t) : "unknown"));
        peri_doc_append(&d, d.root, o);
    }
    peri_weights_free(w);
    return peri_doc_finish(&d, text, err);
}

static json_t *element_json(const peri_gguf_value *v, uint64_t i) {
    peri_str s;
    double x;
    int64_t n;
    if (v->type == PERI_GGUF_STRING)
        return peri_gguf_as_str(v, i, &s) ? peri_doc_text(s) : json_null();
    if (v->type == PERI_GGUF_BOOL) return json_boolean(peri_gguf_as_i64(v, i, &n) && n);
    if (v->type != PERI_GGUF_F32 && v->type != PERI_GGUF_F64 && peri_gguf_as_i64(v, i, &n))
        return json_integer(n);
    if (peri_gguf_as_f64(v, i, &x) && isfinite(x)) return json_real(x);
    return json_string("not a finite number");
}

static peri_status show_metadata(const peri_model *m, char **text, peri_error *err) {
    enum { SHOWN = 8 };
    peri_doc d = {.root = json_object()};
    for (uint64_t i = 0; i < peri_gguf_n_values(m->g); i++) {
        const peri_gguf_value *v = peri_gguf_value_at(m->g, i);
        char key[256];
        snprintf(key, sizeof key, "%.*s", (int)(v->key.size < 255 ? v->key.size : 255),
                 v->key.data);
        json_t *value = v->is_array ? json_array() : element_json(v, 0);
        for (uint64_t k = 0; v->is_array && k < v->n && k < SHOWN; k++)
            peri_doc_append(&d, value, element_json(v, k));
        if (v->is_array && v->n > SHOWN) {
            char more[48];
            snprintf(more, sizeof more, "... %llu in all", (unsigned long long)v->n);
            peri_doc_append(&d, value, json_string(more));
        }
        if (json_object_set_new(d.root, key, value)) { /* a key that is no UTF-8 */
            char name[32];
            snprintf(name, sizeof name, "key %llu", (unsigned long long)i);
            peri_doc_put(&d, d.root, name, json_string("its name is not UTF-8"));
        }
    }
    return peri_doc_finish(&d, text, err);
}

static peri_status show_arch(const peri_model *m, char **text, peri_error *err) {
    peri_text t = {0};
    if (!m->a) {
        if (err) *err = m->arch_error;
        return m->arch_error.code;
    }
    peri_arch_print(m->a, &t);
    if (t.failed) {
        peri_text_fini(&t);
        return peri_fail(err, PERI_E_NOMEM, "out of memory printing the architecture");
    }
    *text = t.data;
    return PERI_OK;
}

static peri_status show_template(const peri_model *m, char **text, peri_error *err) {
    peri_str s = {NULL, 0};
    const peri_gguf_value *v = peri_gguf_find(m->g, "tokenizer.chat_template");
    if (v && !peri_gguf_as_str(v, 0, &s))
        return peri_gguf_fail_key(m->g, v, err, "expected a string");
    *text = peri_str_dup(s);
    return *text ? PERI_OK : peri_fail(err, PERI_E_NOMEM, "out of memory");
}

peri_status peri_model_show(const peri_model *m, peri_facet facet, char **text, peri_error *err) {
    *text = NULL;
    switch (facet) {
    case PERI_SHOW_SUMMARY:
        return show_summary(m, text, err);
    case PERI_SHOW_PARAMETERS:
        return show_parameters(m, text, err);
    case PERI_SHOW_TENSORS:
        return show_tensors(m, text, err);
    case PERI_SHOW_METADATA:
        return show_metadata(m, text, err);
    case PERI_SHOW_ARCH:
        return show_arch(m, text, err);
    case PERI_SHOW_TEMPLATE:
        return show_template(m, text, err);
    }
    return peri_fail(err, PERI_E_INVALID, "facet %d is unknown", (int)facet);
}
