/* SPDX-License-Identifier: MIT
 *
 * engine_split.c - a model and its devices as the figures that split.c decides by, and the time of
 * a token as the finished plan gives it. */
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "model/dtype.h"
#include "run/engine.h"
#include "run/plan_int.h"

#include "base/compiler.h"

peri_split_device peri_engine_figures(const peri_engine *e, uint32_t d) {
    peri_split_device f = peri_place_figures(e->registry, e->device[d].index);
    f.name = e->backend[d]->info.name;
    return f;
}

/* Bytes an op reads of weight `ref` for one token: of an embedding a row, else all that is used. */
static uint64_t token_bytes(const peri_engine *e, uint16_t code, uint32_t ref) {
    if (code != PERI_OP_EMBED) return peri_weights_used_bytes(e->weights, ref);
    return peri_weights_at(e->weights, ref)->bytes / (uint64_t)e->a->n_vocab;
}

/* What has to be copied when the part before is elsewhere: the stream and its norm, or after
 * experts their sum; for experts the norm, their ids and shares. */
static void describe_copies(const peri_engine *e, peri_split_part *part) {
    uint64_t row = (uint64_t)e->a->d_model * 4;
    for (int32_t il = 0; il < e->a->n_layer; il++) {
        peri_split_part *layer = &part[1 + 2 * il], *experts = &part[2 + 2 * il];
        layer->n_copy = !il || part[2 * il].bytes ? 1 : 2;
        layer->copy_bytes = layer->n_copy * row;
        experts->n_copy = 3;
        experts->copy_bytes = row + (uint64_t)e->a->n_used * 8;
    }
    peri_split_part *head = &part[2 * e->a->n_layer + 1];
    head->n_copy = 1;
    head->copy_bytes = row;
}

/* From the last op to the first, so that a head's weight that is also the embedding is the head's.
 */
static void describe_parts(const peri_engine *e, const peri_graph *g, bool *is_seen,
                           peri_split_part *part, bool *is_tied) {
    uint32_t n_layer = (uint32_t)e->a->n_layer;
    *is_tied = false;
    for (uint32_t i = g->n_op; i-- > 0;) {
        const peri_graph_op *o = &g->op[i];
        peri_split_part *p = &part[peri_plan_part(g, i, n_layer)];
        for (int k = 0; k < o->n_in; k++) {
            const peri_tensor *t = o->operand[k] == PERI_NONE ? NULL : &g->tensor[o->operand[k]].t;
            if (!t || t->kind != PERI_T_WEIGHT) continue;
            *is_tied = *is_tied || (o->code == PERI_OP_EMBED && is_seen[t->ref]);
            p->token_bytes +=
                is_seen[t->ref] && o->code != PERI_OP_EMBED ? 0 : token_bytes(e, o->code, t->ref);
            if (!is_seen[t->ref]) p->bytes += peri_weights_at(e->weights, t->ref)->bytes;
            is_seen[t->ref] = true;
        }
        if (o->code != PERI_OP_KV_APPEND) continue;
        const peri_arch_layer *l = &e->a->layer[o->layer];
        p->kv_bytes = e->kv.layer_bytes[o->layer];
        p->kv_token_bytes = (uint64_t)e->o.n_ctx / 2 * (uint64_t)l->n_kv *
                            peri_dtype_size(e->o.kv_dtype, (uint64_t)(e->a->d_k + e->a->d_v));
    }
    describe_copies(e, part);
}

/* Bytes of activations of the largest step, which come off what a device has room for. */
static peri_status arena_bytes(const peri_engine *e, const peri_graph *g, uint64_t *bytes,
                               peri_error *err) {
    peri_program *p;
    peri_bucket b = peri_engine_bucket(e, PERI_PLAN_PREFILL);
    peri_status st = peri_graph_pack(g, &b, &p, err);
    *bytes = st ? 0 : p->arena_bytes;
    if (!st) peri_free(p);
    return st;
}

static peri_status solve(peri_engine *e, const peri_graph *g, const uint64_t *limit,
                         peri_error *err) {
    uint32_t n_part = 2 * (uint32_t)e->a->n_layer + 2;
    peri_split_device device[PERI_SPLIT_DEVICES];
    uint64_t arena;
    bool is_tied;
    peri_split_part *part = peri_calloc(n_part, sizeof *part);
    bool *is_seen = peri_calloc(peri_weights_n(e->weights), sizeof *is_seen);
    peri_status st = part && is_seen ? arena_bytes(e, g, &arena, err)
                                     : peri_fail(err, PERI_E_NOMEM, "placement: out of memory");
    if (!st) {
        describe_parts(e, g, is_seen, part, &is_tied);
        for (uint32_t d = 0; d < e->n_device; d++) {
            device[d] = peri_engine_figures(e, d);
            if (device[d].room != UINT64_MAX)
                device[d].room = device[d].room > arena ? device[d].room - arena : 0;
            if (limit[d] < device[d].room) device[d].room = limit[d];
        }
        st = peri_split_solve(device, e->n_device, part, n_part, is_tied, &e->split, err);
    }
    peri_free(part);
    peri_free(is_seen);
    return st;
}

peri_status peri_engine_split(peri_engine *e, const uint64_t *limit, peri_error *err) {
    peri_graph g;
    uint32_t logits;
    if (e->n_device == 1) return PERI_OK; /* all on the one there is; allocation says if it fits */
    peri_graph_init(&g);
    peri_status st = peri_build(e->a, e->weights, &e->kv, e->o.n_ctx, &g, &logits, err);
    if (!st) st = solve(e, &g, limit, err);
    peri_graph_fini(&g);
    return st;
}

double peri_engine_predicted_tps(const peri_engine *e) {
    static const int32_t one[PERI_NSYM] = {1, 1, 1, 1, 1, 1, 1, 1};
    const peri_plan *p = e->plan[PERI_PLAN_DECODE];
    double seconds = 0;
    for (uint32_t i = 0; i < p->program->n_ops; i++) {
        const peri_op *o = peri_op_at(p->program, i);
        double gbps = peri_engine_figures(e, p->device[i]).gbps;
        for (uint32_t k = 0; k < o->n_in; k++) {
            const peri_tensor *t = peri_operand(p->program, o, k);
            if (!t || t->kind != PERI_T_WEIGHT) continue;
            if (gbps <= 0) return 0;
            seconds += (double)token_bytes(e, o->code, t->ref) / (gbps * 1e9);
        }
    }
    for (uint32_t i = 0; i < p->n_crossing; i++) {
        const peri_crossing *c = &p->crossing[i];
        peri_split_device a = peri_engine_figures(e, c->from), b = peri_engine_figures(e, c->to);
        double us = a.copy_us > b.copy_us ? a.copy_us : b.copy_us;
        double gbps = a.link_gbps < b.link_gbps ? a.link_gbps : b.link_gbps;
        seconds += us * 1e-6 + (double)peri_plan_act_bytes(p, c->tensor, one) / (gbps * 1e9);
    }
    return seconds > 0 ? 1 / seconds : 0;
}
