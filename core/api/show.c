/* SPDX-License-Identifier: MIT
 *
 * show.c - a model described: the documents of peri_model_show and peri_model_explain.
 *
 * jansson's _new functions return NULL when memory is out and its setters refuse NULL, so each
 * document is built without checks and judged once, by `put`, which remembers a failure. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_int.h"
#include "base/alloc.h"
#include "base/json.h"
#include "base/status.h"
#include "base/text.h"
#include "model/dtype.h"
#include "run/kv.h"

#include "base/compiler.h"

typedef struct doc {
    json_t *root;
    bool failed;
} doc;

static void put(doc *d, json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value)) d->failed = true; /* takes value either way */
}

static void append(doc *d, json_t *array, json_t *value) {
    if (json_array_append_new(array, value)) d->failed = true;
}

/* Text of a file as JSON: bytes that are no UTF-8 become U+FFFD. */
static json_t *text_json(peri_str s) {
    json_t *exact = json_stringn(s.data ? s.data : "", s.size);
    if (exact) return exact;
    peri_text t = {0};
    for (size_t i = 0; i < s.size; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c < 0x80)
            peri_text_add(&t, &c, 1);
        else
            peri_text_add_str(&t, "\xef\xbf\xbd");
    }
    json_t *out = t.failed ? NULL : json_stringn(t.data ? t.data : "", t.size);
    peri_text_fini(&t);
    return out;
}

static json_t *cstr_json(const char *s) {
    return text_json(peri_str_of(s));
}

static peri_status finish(doc *d, char **text, peri_error *err) {
    peri_status st = peri_json_dump(d->failed ? NULL : d->root,
                                    JSON_INDENT(2) | JSON_REAL_PRECISION(9), text, err);
    json_decref(d->root);
    return st;
}

/* ---- show ---------------------------------------------------------------------------------------
 */

static json_t *type_counts(doc *d, const peri_gguf *g) {
    json_t *types = json_object();
    for (uint64_t i = 0; i < peri_gguf_n_tensors(g); i++) {
        const char *name = peri_dtype_get(peri_gguf_tensor_at(g, i)->dtype)->name;
        json_int_t n = json_integer_value(json_object_get(types, name));
        put(d, types, name, json_integer(n + 1));
    }
    return types;
}

static void put_key(doc *d, const peri_gguf *g, const char *name, const char *key) {
    peri_str s;
    const peri_gguf_value *v = peri_gguf_find(g, key);
    if (v && peri_gguf_as_str(v, 0, &s)) put(d, d->root, name, text_json(s));
}

static peri_status show_summary(const peri_model *m, char **text, peri_error *err) {
    doc d = {.root = json_object()};
    double elements = 0;
    for (uint64_t i = 0; i < peri_gguf_n_tensors(m->g); i++) {
        const int64_t *n = peri_gguf_tensor_at(m->g, i)->dim;
        elements += (double)n[0] * (double)n[1] * (double)n[2] * (double)n[3];
    }
    put(&d, d.root, "file", cstr_json(peri_gguf_path(m->g)));
    put_key(&d, m->g, "name", "general.name");
    put_key(&d, m->g, "architecture", "general.architecture");
    put(&d, d.root, "gguf_version", json_integer(peri_gguf_version(m->g)));
    put(&d, d.root, "parameters", json_integer((json_int_t)elements));
    put(&d, d.root, "bytes", json_integer((json_int_t)peri_gguf_file_bytes(m->g)));
    put(&d, d.root, "tensors", json_integer((json_int_t)peri_gguf_n_tensors(m->g)));
    put(&d, d.root, "types", type_counts(&d, m->g));
    if (m->a) {
        put(&d, d.root, "context", json_integer(m->a->n_ctx));
        put(&d, d.root, "layers", json_integer(m->a->n_layer));
        put(&d, d.root, "width", json_integer(m->a->d_model));
        put(&d, d.root, "vocabulary", json_integer(m->a->n_vocab));
        put(&d, d.root, "experts", json_integer(m->a->n_expert));
    } else {
        put(&d, d.root, "architecture_error", cstr_json(m->arch_error.text));
    }
    if (m->tokenizer) {
        put(&d, d.root, "tokenizer", cstr_json(peri_tokenizer_kind(m->tokenizer)));
        put(&d, d.root, "pre_tokenizer", cstr_json(peri_tokenizer_pre(m->tokenizer)));
    } else {
        put(&d, d.root, "tokenizer_error", cstr_json(m->tokenizer_error.text));
    }
    return finish(&d, text, err);
}

/* A parameter with where its value comes from. */
static void put_param(doc *d, const char *name, json_t *value, const char *origin) {
    json_t *p = json_object();
    put(d, p, "value", value);
    put(d, p, "origin", json_string(origin));
    put(d, d->root, name, p);
}

/* Floats as the short numbers they were written as. */
static json_t *short_real(double x) {
    char text[32];
    snprintf(text, sizeof text, "%.7g", x);
    return json_real(strtod(text, NULL));
}

/* The sampling parameters as run starts from them, and the order of the links. */
static void put_sampling(doc *d, const peri_model *m, const peri_sampling *s) {
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
    put_param(d, "samplers", cstr_json(order.size ? order.data : ""),
              peri_gguf_find(m->g, "general.sampling.sequence") ? "general.sampling.sequence"
                                                                : "default of run");
    peri_text_fini(&order);
}

static peri_status show_parameters(const peri_model *m, char **text, peri_error *err) {
    doc d = {.root = json_object()};
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
    return finish(&d, text, err);
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
    doc d = {.root = json_array()};
    peri_weights *w = dry_bind(m);
    for (uint64_t i = 0; i < peri_gguf_n_tensors(m->g); i++) {
        const peri_gguf_tensor *t = peri_gguf_tensor_at(m->g, i);
        json_t *o = json_object(), *shape = json_array();
        put(&d, o, "name", text_json(t->name));
        put(&d, o, "type", json_string(peri_dtype_get(t->dtype)->name));
        for (uint32_t k = 4 - t->n_dim; k < 4; k++)
            append(&d, shape, json_integer(t->dim[k]));
        put(&d, o, "shape", shape);
        put(&d, o, "bytes", json_integer((json_int_t)t->bytes));
        put(&d, o, "shard", json_integer(t->shard));
        put(&d, o, "state", json_string(w ? peri_weights_state(w, t) : "unknown"));
        append(&d, d.root, o);
    }
    peri_weights_free(w);
    return finish(&d, text, err);
}

static json_t *element_json(const peri_gguf_value *v, uint64_t i) {
    peri_str s;
    double x;
    int64_t n;
    if (v->type == PERI_GGUF_STRING) return peri_gguf_as_str(v, i, &s) ? text_json(s) : json_null();
    if (v->type == PERI_GGUF_BOOL) return json_boolean(peri_gguf_as_i64(v, i, &n) && n);
    if (v->type != PERI_GGUF_F32 && v->type != PERI_GGUF_F64 && peri_gguf_as_i64(v, i, &n))
        return json_integer(n);
    if (peri_gguf_as_f64(v, i, &x) && isfinite(x)) return json_real(x);
    return json_string("not a finite number");
}

static peri_status show_metadata(const peri_model *m, char **text, peri_error *err) {
    enum { SHOWN = 8 };
    doc d = {.root = json_object()};
    for (uint64_t i = 0; i < peri_gguf_n_values(m->g); i++) {
        const peri_gguf_value *v = peri_gguf_value_at(m->g, i);
        char key[256];
        snprintf(key, sizeof key, "%.*s", (int)(v->key.size < 255 ? v->key.size : 255),
                 v->key.data);
        json_t *value = v->is_array ? json_array() : element_json(v, 0);
        for (uint64_t k = 0; v->is_array && k < v->n && k < SHOWN; k++)
            append(&d, value, element_json(v, k));
        if (v->is_array && v->n > SHOWN) {
            char more[48];
            snprintf(more, sizeof more, "... %llu in all", (unsigned long long)v->n);
            append(&d, value, json_string(more));
        }
        if (json_object_set_new(d.root, key, value)) { /* a key that is no UTF-8 */
            char name[32];
            snprintf(name, sizeof name, "key %llu", (unsigned long long)i);
            put(&d, d.root, name, json_string("its name is not UTF-8"));
        }
    }
    return finish(&d, text, err);
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

/* ---- explain ------------------------------------------------------------------------------------
 */

/* Ops of a plan that share code, type of weight and numerics, counted together. */
static json_t *plan_json(doc *d, const peri_engine *e, const peri_plan *p) {
    json_t *ops = json_array();
    const peri_program *pr = p->program;
    for (uint32_t i = 0; i < pr->n_ops; i++) {
        const peri_op *o = peri_op_at(pr, i);
        const char *type = "";
        for (uint32_t k = 0; k < o->n_in; k++) {
            const peri_tensor *t = peri_operand(pr, o, k);
            if (t && t->kind == PERI_T_WEIGHT && t->dim[2] > 1)
                type = peri_dtype_get(t->dtype)->name;
        }
        size_t j = 0;
        for (; j < json_array_size(ops); j++) {
            json_t *seen = json_array_get(ops, j);
            if (!strcmp(json_string_value(json_object_get(seen, "op")), peri_op_name(o->code)) &&
                !strcmp(json_string_value(json_object_get(seen, "weights")), type) &&
                !strcmp(json_string_value(json_object_get(seen, "numerics")), p->numerics[i]))
                break;
        }
        json_t *entry = json_array_get(ops, j);
        if (!entry) {
            entry = json_object();
            put(d, entry, "op", json_string(peri_op_name(o->code)));
            put(d, entry, "weights", json_string(type));
            put(d, entry, "numerics", cstr_json(p->numerics[i]));
            put(d, entry, "device", cstr_json(e->backend->info.name));
            put(d, entry, "count", json_integer(0));
            append(d, ops, entry);
            if (d->failed) return ops;
        }
        put(d, entry, "count",
            json_integer(json_integer_value(json_object_get(entry, "count")) + 1));
    }
    return ops;
}

static json_t *buckets_json(doc *d, const peri_engine *e) {
    static const char *const name[] = {"decode", "prefill", "all rows"};
    json_t *buckets = json_array();
    for (int kind = 0; kind < PERI_N_PLAN; kind++) {
        const peri_plan *p = e->plan[kind];
        if (!p) continue;
        json_t *b = json_object(), *declined = json_array();
        put(d, b, "bucket", json_string(name[kind]));
        put(d, b, "tokens", json_integer(p->bucket.hi[PERI_SYM_T]));
        put(d, b, "sequences", json_integer(p->bucket.hi[PERI_SYM_S]));
        put(d, b, "ops", plan_json(d, e, p));
        for (uint32_t i = 0; i < p->n_note; i++) {
            json_t *n = json_object();
            put(d, n, "op", json_string(peri_op_name(p->note[i].code)));
            put(d, n, "count", json_integer(p->note[i].count));
            put(d, n, "why", cstr_json(p->note[i].why));
            append(d, declined, n);
        }
        put(d, b, "lowered", declined);
        append(d, buckets, b);
    }
    return buckets;
}

peri_status peri_model_explain(const peri_model *m, char **json, peri_error *err) {
    const peri_engine *e = m->engine;
    *json = NULL;
    if (!e) return peri_fail(err, PERI_E_INVALID, "the model was opened for its metadata only");
    doc d = {.root = json_object()};
    uint64_t token_bytes = peri_weights_token_bytes(e->weights);
    put(&d, d.root, "device", cstr_json(e->backend->info.name));
    put(&d, d.root, "isa", cstr_json(e->backend->info.isa));
    put(&d, d.root, "why", cstr_json(e->choice.why));
    json_t *candidates = json_array(), *memory = json_object(), *notes = json_array();
    for (size_t i = 0; i < peri_registry_n_device(e->registry); i++) {
        char why[240];
        json_t *c = json_object();
        peri_place_note(e->registry, &e->choice, i, peri_gguf_file_bytes(e->g), why, sizeof why);
        put(&d, c, "device", cstr_json(peri_registry_device(e->registry, i)->info.name));
        put(&d, c, "why", cstr_json(why));
        append(&d, candidates, c);
    }
    put(&d, d.root, "candidates", candidates);
    put(&d, d.root, "buckets", buckets_json(&d, e));
    put(&d, memory, "weights", json_integer((json_int_t)peri_weights_bytes(e->weights)));
    put(&d, memory, "kv", json_integer((json_int_t)e->kv.bytes));
    put(&d, memory, "arena", json_integer((json_int_t)e->arena.bytes));
    put(&d, d.root, "memory", memory);
    put(&d, d.root, "context", json_integer(e->o.n_ctx));
    put(&d, d.root, "bytes_per_token", json_integer((json_int_t)token_bytes));
    put(&d, d.root, "macs_per_prompt_token",
        json_integer((json_int_t)peri_weights_token_macs(e->weights)));
    put(&d, d.root, "kv_bytes_per_token", json_integer((json_int_t)peri_kv_token_bytes(e)));
    double tps = peri_engine_predicted_tps(e);
    put(&d, d.root, "predicted_tg_tps", tps > 0 ? json_real(tps) : json_null());
    for (uint32_t i = 0; i < peri_topology_n_note(m->rt->topology); i++)
        append(&d, notes, cstr_json(peri_topology_note(m->rt->topology, i)));
    put(&d, d.root, "notes", notes);
    return finish(&d, json, err);
}
