/* SPDX-License-Identifier: MIT
 *
 * engine_split.c - a model and its devices as the figures that split.c decides by. */
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "model/dtype.h"
#include "run/engine.h"
#include "run/plan_int.h"

#include "base/compiler.h"

peri_split_device peri_engine_figures(const peri_engine *e, uint32_t d) {
    peri_split_device f = peri_place_figures(e->registry, e->device[d].index, &e->reads);
    f.name = e->backend[d]->info.name;
    return f;
}

uint64_t peri_engine_token_bytes(const peri_engine *e, uint16_t code, uint32_t ref) {
    if (code != PERI_OP_EMBED) return peri_weights_used_bytes(e->weights, ref);
    return peri_weights_at(e->weights, ref)->bytes / (uint64_t)e->a->n_vocab;
}

uint64_t peri_attn_keys(const peri_attn_attr *a, uint64_t n) {
    if (a->window > 0 && (uint64_t)a->window < n) n = (uint64_t)a->window;
    return a->chunk > 0 && (uint64_t)a->chunk < n ? (uint64_t)a->chunk : n;
}

uint64_t peri_engine_kv_read_bytes(const peri_engine *e, uint16_t layer, uint64_t n_key) {
    return n_key * (uint64_t)e->a->layer[layer].n_kv *
           peri_dtype_size(e->o.kv_dtype, (uint64_t)(e->a->d_k + e->a->d_v));
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
        bool has_matrix = false;
        for (int k = 0; k < o->n_in; k++) {
            const peri_tensor *t = o->operand[k] == PERI_NONE ? NULL : &g->tensor[o->operand[k]].t;
            if (!t || t->kind != PERI_T_WEIGHT) continue;
            has_matrix = has_matrix || t->dim[2] > 1;
            *is_tied = *is_tied || (o->code == PERI_OP_EMBED && is_seen[t->ref]);
            p->token_bytes += is_seen[t->ref] && o->code != PERI_OP_EMBED
                                  ? 0
                                  : peri_engine_token_bytes(e, o->code, t->ref);
            if (!is_seen[t->ref]) p->bytes += peri_weights_at(e->weights, t->ref)->bytes;
            is_seen[t->ref] = true;
        }
        p->n_linear += has_matrix;
        p->n_attn += o->code == PERI_OP_ATTN;
        p->n_op += !has_matrix && o->code != PERI_OP_ATTN;
        if (o->code != PERI_OP_ATTN) continue;
        peri_attn_attr attr;
        memcpy(&attr, o->attr, sizeof attr);
        p->kv_bytes = e->kv.layer_bytes[o->layer];
        p->kv_token_bytes =
            peri_engine_kv_read_bytes(e, o->layer, peri_attn_keys(&attr, (uint64_t)e->o.n_ctx / 2));
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

/* The devices that rules fix parts on. */
static void fix_parts(const peri_engine *e, uint32_t n_part, uint8_t *fixed) {
    memset(fixed, PERI_SPLIT_FREE, n_part);
    for (uint32_t i = 0; e->rules && i < n_part; i++)
        for (uint32_t d = 0; e->rule_of[i] != PERI_RULE_FREE && d < e->n_device; d++)
            if (e->device[d].index == e->rule_device[e->rule_of[i]]) fixed[i] = (uint8_t)d;
}

static peri_status solve(peri_engine *e, const peri_graph *g, const uint64_t *limit,
                         peri_error *err) {
    uint32_t n_part = 2 * (uint32_t)e->a->n_layer + 2;
    peri_split_device device[PERI_SPLIT_DEVICES];
    uint64_t arena;
    peri_split_part *part = peri_calloc(n_part, sizeof *part);
    uint8_t *fixed = peri_alloc_array(n_part, 1);
    bool *is_seen = peri_calloc(peri_weights_n(e->weights), sizeof *is_seen);
    peri_split_task task = {
        .device = device, .part = part, .n_device = e->n_device, .n_part = n_part, .fixed = fixed};
    peri_status st = part && fixed && is_seen
                         ? arena_bytes(e, g, &arena, err)
                         : peri_fail(err, PERI_E_NOMEM, "placement: out of memory");
    if (!st) {
        describe_parts(e, g, is_seen, part, &task.is_tied);
        fix_parts(e, n_part, fixed);
        for (uint32_t d = 0; d < e->n_device; d++) {
            device[d] = peri_engine_figures(e, d);
            if (device[d].room != UINT64_MAX)
                device[d].room = device[d].room > arena ? device[d].room - arena : 0;
            if (limit[d] < device[d].room) device[d].room = limit[d];
        }
        st = peri_split_solve(&task, &e->split, err);
    }
    peri_free(part);
    peri_free(fixed);
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
