/* SPDX-License-Identifier: MIT
 *
 * explain.c - a placement described: the document of peri_model_explain. */
#include <stdio.h>
#include <string.h>

#include "api/api_int.h"
#include "api/doc.h"
#include "base/status.h"
#include "model/dtype.h"
#include "run/kv.h"

#include "base/compiler.h"

static const char *name_of(const peri_engine *e, uint32_t d) {
    return e->backend[d]->info.name;
}

/* ---- ops ----------------------------------------------------------------------------------------
 */

static bool is_entry(json_t *entry, const char *op, const char *type, const char *numerics,
                     const char *device) {
    const char *keys[] = {"op", "weights", "numerics", "device"};
    const char *want[] = {op, type, numerics, device};
    for (int i = 0; i < 4; i++)
        if (strcmp(json_string_value(json_object_get(entry, keys[i])), want[i])) return false;
    return true;
}

/* Type of the matrix an op multiplies with, or "". */
static const char *weight_type(const peri_program *p, const peri_op *o) {
    const char *type = "";
    for (uint32_t k = 0; k < o->n_in; k++) {
        const peri_tensor *t = peri_operand(p, o, k);
        if (t && t->kind == PERI_T_WEIGHT && t->dim[2] > 1) type = peri_dtype_get(t->dtype)->name;
    }
    return type;
}

/* Ops of a plan that share code, type of weight, numerics and device, counted together. */
static json_t *plan_json(peri_doc *d, const peri_engine *e, const peri_plan *p) {
    json_t *ops = json_array();
    const peri_program *pr = p->program;
    for (uint32_t i = 0; i < pr->n_ops; i++) {
        const peri_op *o = peri_op_at(pr, i);
        const char *type = weight_type(pr, o), *device = name_of(e, p->device[i]);
        size_t j = 0;
        while (j < json_array_size(ops) && !is_entry(json_array_get(ops, j), peri_op_name(o->code),
                                                     type, p->numerics[i], device))
            j++;
        json_t *entry = json_array_get(ops, j);
        if (!entry) {
            entry = json_object();
            peri_doc_put(d, entry, "op", json_string(peri_op_name(o->code)));
            peri_doc_put(d, entry, "weights", json_string(type));
            peri_doc_put(d, entry, "numerics", peri_doc_cstr(p->numerics[i]));
            peri_doc_put(d, entry, "device", peri_doc_cstr(device));
            peri_doc_put(d, entry, "count", json_integer(0));
            peri_doc_append(d, ops, entry);
            if (d->failed) return ops;
        }
        json_int_t n = json_integer_value(json_object_get(entry, "count"));
        peri_doc_put(d, entry, "count", json_integer(n + 1));
    }
    return ops;
}

static json_t *layers_json(const peri_plan_note *n) {
    char text[32] = "";
    if (n->first_layer == 0xffff) return json_string("none");
    snprintf(text, sizeof text, n->first_layer == n->last_layer ? "%u" : "%u-%u", n->first_layer,
             n->last_layer);
    return json_string(text);
}

/* What devices declined: lowered and run all the same, or run elsewhere. */
static json_t *notes_json(peri_doc *d, const peri_engine *e, const peri_plan *p,
                          bool want_elsewhere) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < p->n_note; i++) {
        const peri_plan_note *x = &p->note[i];
        if ((x->to != x->device) != want_elsewhere) continue;
        json_t *n = json_object();
        peri_doc_put(d, n, "op", json_string(peri_op_name(x->code)));
        peri_doc_put(d, n, "count", json_integer(x->count));
        peri_doc_put(d, n, "layers", layers_json(x));
        if (want_elsewhere) peri_doc_put(d, n, "device", peri_doc_cstr(name_of(e, x->to)));
        peri_doc_put(d, n, "declined_by", peri_doc_cstr(name_of(e, x->device)));
        peri_doc_put(d, n, "why", peri_doc_cstr(x->why));
        peri_doc_append(d, list, n);
    }
    return list;
}

static json_t *buckets_json(peri_doc *d, const peri_engine *e) {
    static const char *const name[PERI_N_PLAN] = {
        "decode", "prefill", "all rows", "decode with likeliest", "prefill with likeliest"};
    json_t *buckets = json_array();
    for (int kind = 0; kind < PERI_N_PLAN; kind++) {
        const peri_plan *p = e->plan[kind];
        if (!p) continue;
        json_t *b = json_object();
        peri_doc_put(d, b, "bucket", json_string(name[kind]));
        peri_doc_put(d, b, "tokens", json_integer(p->bucket.hi[PERI_SYM_T]));
        peri_doc_put(d, b, "sequences", json_integer(p->bucket.hi[PERI_SYM_S]));
        peri_doc_put(d, b, "ops", plan_json(d, e, p));
        peri_doc_put(d, b, "lowered", notes_json(d, e, p, false));
        peri_doc_put(d, b, "elsewhere", notes_json(d, e, p, true));
        peri_doc_append(d, buckets, b);
    }
    return buckets;
}

/* ---- devices ------------------------------------------------------------------------------------
 */

static json_t *candidates_json(peri_doc *d, const peri_engine *e) {
    json_t *list = json_array();
    for (size_t i = 0; i < peri_registry_n_device(e->registry); i++) {
        char why[240];
        json_t *c = json_object();
        peri_place_note(e->registry, &e->choice, i, &e->reads, why, sizeof why);
        for (uint32_t k = 0; k < e->n_device; k++)
            if (e->device[k].index == i && i != e->choice.device)
                snprintf(why, sizeof why, "%s",
                         peri_engine_uses(e, k) ? "used for a part" : "not needed");
        peri_doc_put(d, c, "device",
                     peri_doc_cstr(peri_registry_device(e->registry, i)->info.name));
        peri_doc_put(d, c, "why", peri_doc_cstr(why));
        peri_doc_append(d, list, c);
    }
    return list;
}

/* "layers 0-3 on gpu0", ... */
static json_t *placement_json(peri_doc *d, const peri_engine *e) {
    json_t *list = json_array();
    peri_text text = {0};
    if (e->n_device == 1) {
        peri_text_addf(&text, "everything on %s\n", name_of(e, 0));
    } else {
        const char *name[PERI_SPLIT_DEVICES];
        for (uint32_t k = 0; k < e->n_device; k++)
            name[k] = name_of(e, k);
        peri_split_describe(&e->split, name, &text);
    }
    for (const char *s = text.failed ? NULL : text.data; s && *s;) {
        size_t n = strcspn(s, "\n");
        peri_doc_append(d, list, peri_doc_text((peri_str){s, n}));
        s += n + (s[n] == '\n');
    }
    d->failed = d->failed || text.failed;
    peri_text_fini(&text);
    return list;
}

/* The user's rules, and how many parts of the model each decides. */
static json_t *rules_json(peri_doc *d, const peri_engine *e) {
    json_t *list = json_array();
    for (uint32_t i = 0; e->rules && i < e->rules->n; i++) {
        json_t *r = json_object();
        const peri_device *on = peri_registry_device(e->registry, e->rule_device[i]);
        peri_doc_put(d, r, "rule", peri_doc_cstr(e->rules->rule[i].text));
        peri_doc_put(d, r, "device", peri_doc_cstr(on->info.name));
        peri_doc_put(d, r, "decides", json_integer(peri_engine_decided_by(e, i)));
        peri_doc_append(d, list, r);
    }
    return list;
}

static json_t *memory_json(peri_doc *d, const peri_engine *e) {
    json_t *memory = json_object(), *devices = json_array();
    uint64_t arena = 0;
    for (uint32_t k = 0; k < e->n_device; k++) {
        json_t *m = json_object();
        uint64_t room = peri_engine_figures(e, k).room;
        arena += e->seat[k].arena.bytes;
        peri_doc_put(d, m, "device", peri_doc_cstr(name_of(e, k)));
        peri_doc_put(d, m, "weights", json_integer((json_int_t)e->device[k].weight_bytes));
        peri_doc_put(d, m, "kv", json_integer((json_int_t)e->device[k].kv_bytes));
        peri_doc_put(d, m, "arena", json_integer((json_int_t)e->seat[k].arena.bytes));
        peri_doc_put(d, m, "room",
                     room == UINT64_MAX ? json_null() : json_integer((json_int_t)room));
        peri_doc_append(d, devices, m);
    }
    peri_doc_put(d, memory, "weights", json_integer((json_int_t)peri_weights_bytes(e->weights)));
    peri_doc_put(d, memory, "weights_in_large_pages",
                 json_integer((json_int_t)peri_gguf_copied_bytes(e->g)));
    peri_doc_put(d, memory, "kv", json_integer((json_int_t)e->kv.bytes));
    peri_doc_put(d, memory, "arena", json_integer((json_int_t)arena));
    peri_doc_put(d, memory, "devices", devices);
    return memory;
}

/* What the placement and the predictions go by, and where it comes from. */
static json_t *figures_json(peri_doc *d, const peri_engine *e, json_t *notes) {
    json_t *list = json_array();
    for (uint32_t k = 0; k < e->n_device; k++) {
        size_t i = e->device[k].index;
        const char *why = peri_registry_figures(e->registry, i)->why;
        char note[260];
        if (!peri_registry_figure_rows(e->registry, i, &e->reads, list)) d->failed = true;
        if (!*why) continue;
        snprintf(note, sizeof note, "device %s was not measured: %s", name_of(e, k), why);
        peri_doc_append(d, notes, peri_doc_cstr(note));
    }
    return list;
}

/* Copies between devices in a step of one token. */
static json_t *crossings_json(peri_doc *d, const peri_engine *e) {
    static const int32_t one[PERI_NSYM] = {1, 1, 1, 1, 1, 1, 1, 1};
    const peri_plan *p = e->plan[PERI_PLAN_DECODE];
    json_t *c = json_object();
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < p->n_crossing; i++)
        bytes += peri_plan_act_bytes(p, p->crossing[i].tensor, one);
    peri_doc_put(d, c, "copies_per_token", json_integer(p->n_crossing));
    peri_doc_put(d, c, "bytes_per_token", json_integer((json_int_t)bytes));
    return c;
}

/* What comes back of a row of logits: the likeliest tokens, or all. */
static json_t *rows_json(peri_doc *d, const peri_engine *e) {
    json_t *r = json_object();
    bool has_lists = e->plan[PERI_PLAN_DECODE_TOP] != NULL;
    int64_t list = has_lists ? 8 * (int64_t)e->n_top : 0;
    peri_doc_put(d, r, "likeliest", json_integer(has_lists ? e->n_top : 0));
    peri_doc_put(d, r, "likeliest_bytes", json_integer(list));
    peri_doc_put(d, r, "whole_bytes", json_integer(4 * (json_int_t)e->a->n_vocab));
    peri_doc_put(d, r, "why",
                 peri_doc_cstr(has_lists ? "for chains that begin with top_k, or take the likeliest"
                                         : e->no_top));
    return r;
}

peri_status peri_model_explain(const peri_model *m, char **json, peri_error *err) {
    const peri_engine *e = m->engine;
    *json = NULL;
    if (!e) return peri_fail(err, PERI_E_INVALID, "the model was opened for its metadata only");
    peri_doc d = {.root = json_object()};
    uint64_t token_bytes = peri_weights_token_bytes(e->weights);
    json_t *notes = json_array();
    if (!e->is_served) peri_engine_measure(e);
    peri_doc_put(&d, d.root, "device", peri_doc_cstr(e->names));
    peri_doc_put(&d, d.root, "isa", peri_doc_cstr(peri_model_isa(m)));
    peri_doc_put(&d, d.root, "why", peri_doc_cstr(e->choice.why));
    peri_doc_put(&d, d.root, "candidates", candidates_json(&d, e));
    peri_doc_put(&d, d.root, "placement", placement_json(&d, e));
    peri_doc_put(&d, d.root, "rules", rules_json(&d, e));
    peri_doc_put(&d, d.root, "buckets", buckets_json(&d, e));
    peri_doc_put(&d, d.root, "rows", rows_json(&d, e));
    peri_doc_put(&d, d.root, "crossings", crossings_json(&d, e));
    peri_doc_put(&d, d.root, "memory", memory_json(&d, e));
    peri_doc_put(&d, d.root, "context", json_integer(e->o.n_ctx));
    peri_doc_put(&d, d.root, "bytes_per_token", json_integer((json_int_t)token_bytes));
    peri_doc_put(&d, d.root, "macs_per_prompt_token",
                 json_integer((json_int_t)peri_weights_token_macs(e->weights)));
    peri_doc_put(&d, d.root, "kv_bytes_per_token",
                 json_integer((json_int_t)peri_kv_token_bytes(e)));
    peri_doc_put(&d, d.root, "figures", figures_json(&d, e, notes));
    double tps = peri_engine_predicted_tps(e, 0);
    peri_doc_put(&d, d.root, "predicted_tg_tps", tps > 0 ? json_real(tps) : json_null());
    tps = peri_engine_predicted_prompt_tps(e, 0, e->o.n_batch);
    peri_doc_put(&d, d.root, "predicted_pp_tps", tps > 0 ? json_real(tps) : json_null());
    for (uint32_t i = 0; i < peri_topology_n_note(m->rt->topology); i++)
        peri_doc_append(&d, notes, peri_doc_cstr(peri_topology_note(m->rt->topology, i)));
    peri_doc_put(&d, d.root, "notes", notes);
    return peri_doc_finish(&d, json, err);
}

void peri_model_predict(const peri_model *m, uint32_t n_before, uint32_t n_prompt, uint32_t n_held,
                        double *pp_tps, double *tg_tps) {
    *pp_tps = *tg_tps = 0;
    if (!m->engine || n_prompt > INT32_MAX) return;
    if (!m->engine->is_served) peri_engine_measure(m->engine);
    *pp_tps = peri_engine_predicted_prompt_tps(m->engine, n_before, (int32_t)n_prompt);
    *tg_tps = peri_engine_predicted_tps(m->engine, n_held);
}
