/* SPDX-License-Identifier: MIT
 *
 * predict.c - how fast a finished plan should be, from the figures of its devices.
 *
 *     token   = sum over ops of  bytes read / GB/s of their type + microseconds of such an op
 *             + keys and values read / GB/s  +  crossings
 *     prompt  = sum over ops of  multiplications / their rate + microseconds of such an op
 *             + attention's multiplications / its rate  +  crossings
 *
 * Ops of different devices take turns, so times add up. */
#include "run/engine.h"

#include "model/dtype.h"

#include "base/compiler.h"

void peri_engine_measure(const peri_engine *e) {
    uint32_t dtype[PERI_FIGURE_TYPES];
    for (uint32_t i = 0; i < e->reads.n_type; i++)
        dtype[i] = e->reads.type[i].dtype;
    for (uint32_t d = 0; d < e->n_device; d++)
        if (peri_engine_uses(e, d))
            peri_registry_measure(e->registry, e->device[d].index, e->backend[d], dtype,
                                  e->reads.n_type, false);
}

/* What a step is predicted for: n_tok tokens after n_key others. */
typedef struct prediction {
    const peri_engine *e;
    const peri_plan *p;
    peri_split_device device[PERI_SPLIT_DEVICES];
    const peri_figures *figures[PERI_SPLIT_DEVICES];
    int32_t n_tok;
    uint64_t n_key;
    bool is_unknown; /* a figure is missing */
    double seconds;
} prediction;

static void add(prediction *r, double amount, double per_s) {
    if (amount <= 0) return;
    r->is_unknown = r->is_unknown || per_s <= 0;
    if (per_s > 0) r->seconds += amount / per_s;
}

/* A weight that op o of device d reads. */
static void add_weight(prediction *r, uint32_t d, const peri_op *o, const peri_tensor *t) {
    const peri_type_rate *rate = peri_figures_type(r->figures[d], t->dtype);
    double bytes = (double)peri_engine_token_bytes(r->e, o->code, t->ref);
    double gbps = rate && rate->gbps > 0 ? rate->gbps : r->device[d].gbps;
    if (r->n_tok == 1 || t->dim[2] < 2 || o->code == PERI_OP_EMBED) {
        add(r, bytes, gbps * 1e9);
        return;
    }
    /* A prompt's types that were not measured are multiplied like the one most common. */
    if (!rate || rate->gmacs <= 0)
        rate =
            r->e->reads.n_type ? peri_figures_type(r->figures[d], r->e->reads.type[0].dtype) : NULL;
    const peri_dtype_info *type = peri_dtype_get(t->dtype);
    double macs = bytes / type->block_bytes * type->block_elements;
    /* The head's rows are wanted of the last token only. */
    int32_t n = o->layer == 0xffff ? 1 : r->n_tok;
    add(r, macs * n, rate ? rate->gmacs * 1e9 : 0);
}

/* Keys that n tokens after n_key others see, together. */
static double keys_seen(const peri_attn_attr *a, uint64_t n_key, int32_t n) {
    double sum = 0;
    for (int32_t i = 1; i <= n; i++)
        sum += (double)peri_attn_keys(a, n_key + (uint64_t)i);
    return sum;
}

static void add_attention(prediction *r, uint32_t d, const peri_op *o) {
    const peri_arch *a = r->e->a;
    const peri_attn_attr *attr = peri_attr(r->p->program, o);
    if (r->n_tok > 1) {
        double macs = (double)a->layer[o->layer].n_head * (a->d_k + a->d_v);
        add(r, macs * keys_seen(attr, r->n_key, r->n_tok), r->figures[d]->attn_gmacs * 1e9);
        return;
    }
    double gbps = r->device[d].kv_gbps > 0 ? r->device[d].kv_gbps : r->device[d].gbps;
    uint64_t n_key = peri_attn_keys(attr, r->n_key);
    add(r, (double)peri_engine_kv_read_bytes(r->e, o->layer, n_key), gbps * 1e9);
}

static void add_crossings(prediction *r) {
    int32_t n[PERI_NSYM] = {1, r->n_tok, 1, 1, 1, 1, 1, 1};
    for (uint32_t i = 0; i < r->p->n_crossing; i++) {
        const peri_crossing *c = &r->p->crossing[i];
        const peri_split_device *a = &r->device[c->from], *b = &r->device[c->to];
        double us = a->copy_us > b->copy_us ? a->copy_us : b->copy_us;
        double gbps = a->link_gbps < b->link_gbps ? a->link_gbps : b->link_gbps;
        r->seconds += us * 1e-6 + (double)peri_plan_act_bytes(r->p, c->tensor, n) / (gbps * 1e9);
    }
}

/* Seconds of a step; 0 when a figure is unknown. */
static double predict(const peri_engine *e, int kind, int32_t n_tok, uint64_t n_key) {
    prediction r = {.e = e, .p = e->plan[kind], .n_tok = n_tok, .n_key = n_key};
    for (uint32_t d = 0; d < e->n_device; d++) {
        r.device[d] = peri_engine_figures(e, d);
        r.figures[d] = peri_registry_figures(e->registry, e->device[d].index);
    }
    for (uint32_t i = 0; i < r.p->program->n_ops; i++) {
        const peri_op *o = peri_op_at(r.p->program, i);
        uint32_t d = r.p->device[i];
        double us = r.device[d].op_us;
        for (uint32_t k = 0; k < o->n_in; k++) {
            const peri_tensor *t = peri_operand(r.p->program, o, k);
            if (!t || t->kind != PERI_T_WEIGHT) continue;
            add_weight(&r, d, o, t);
            if (t->dim[2] > 1 && o->code != PERI_OP_EMBED) us = r.device[d].linear_us;
        }
        if (o->code == PERI_OP_ATTN && n_tok == 1) us = r.device[d].attn_us;
        r.seconds += us * 1e-6;
        if (o->code == PERI_OP_ATTN) add_attention(&r, d, o);
    }
    add_crossings(&r);
    return r.is_unknown ? 0 : r.seconds;
}

double peri_engine_predicted_tps(const peri_engine *e, uint64_t n_key) {
    double s = predict(e, PERI_PLAN_DECODE, 1, n_key);
    return s > 0 ? 1 / s : 0;
}

/* A prompt is computed in steps of at most n_batch tokens. */
double peri_engine_predicted_prompt_tps(const peri_engine *e, uint64_t n_key, int32_t n_tok) {
    double sum = 0;
    for (int32_t done = 0, n; done < n_tok; done += n) {
        n = n_tok - done < e->o.n_batch ? n_tok - done : e->o.n_batch;
        double s = predict(e, n > PERI_DECODE_TOKENS ? PERI_PLAN_PREFILL : PERI_PLAN_DECODE, n,
                           n_key + (uint64_t)done);
        if (s <= 0) return 0;
        sum += s;
    }
    return sum > 0 ? n_tok / sum : 0;
}
