/* SPDX-License-Identifier: MIT
 *
 * plan_place.c - who runs which op, once the wanted devices have answered, and what crosses.
 *
 * Problem.  A device may decline a few ops in the middle of a layer: weights of a type it does not
 * know.  Each change of device costs copies and a wait, so an op without weights between two
 * declined ones is better off beside them, while an op with weights belongs where it is wanted.
 *
 * Choice.  Dynamic programming over the ops in their order; the cost of a way is the sum of
 *   CHANGE    for each change of device,
 *   APART     for an op without weights that is not where it is wanted,
 *   KV_APART  for attention that is not (its keys and values lie apart then, which matters more),
 *   WEIGHT_APART for an op with weights: never worth it where it would have been taken.
 * Among equal ways the one with earlier devices wins, so the answer is the same every time.  The
 * costs are counts, not times: times have decided before (split.c) what is wanted.
 *
 * Keys and values of a layer lie on one device in every plan.  What reads and writes them is
 * therefore decided together, and a later plan that cannot follow makes the earlier one stale. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "run/plan_int.h"

#include "base/compiler.h"

enum { CHANGE = 4, APART = 1, KV_APART = 6, WEIGHT_APART = 1000, NEVER = 1 << 28 };

typedef struct assignment {
    const peri_plan_places *at;
    const peri_graph *g;
    peri_plan *p;
    peri_answer *answer;
    peri_error *err;
} assignment;

static peri_status no_memory(peri_error *err) {
    return peri_fail(err, PERI_E_NOMEM, "out of memory making a plan");
}

/* ---- parts --------------------------------------------------------------------------------------
 */

/* Does an op of the same layer with experts come before i (step -1), or after it (step 1)? */
static bool has_experts(const peri_graph *g, uint32_t i, int step) {
    for (uint32_t k = i; k < g->n_op && g->op[k].layer == g->op[i].layer; k += (uint32_t)step)
        if (g->op[k].code == PERI_OP_LINEAR_EXPERTS) return true;
    return false;
}

uint32_t peri_plan_part(const peri_graph *g, uint32_t i, uint32_t n_layer) {
    const peri_graph_op *o = &g->op[i];
    if (o->layer == 0xffff) return o->code == PERI_OP_EMBED ? 0 : 2 * n_layer + 1;
    bool is_expert = o->code == PERI_OP_EXPERT_SUM || o->code == PERI_OP_LINEAR_EXPERTS ||
                     (o->code == PERI_OP_GLU && has_experts(g, i, -1) && has_experts(g, i, 1));
    return 1 + 2 * (uint32_t)o->layer + is_expert;
}

/* ---- answers of the devices that were not wanted ----------------------------------------------*/

static bool uses(const peri_plan *p, const peri_op *o, uint16_t kind) {
    for (uint32_t k = 0; k < (uint32_t)(o->n_in + o->n_out); k++) {
        const peri_tensor *t = peri_operand(p->program, o, k);
        if (t && t->kind == kind) return true;
    }
    return false;
}

/* What nobody takes: each device's reason. */
static peri_status nobody(const assignment *a, uint32_t i) {
    const peri_op *o = peri_op_at(a->p->program, i);
    peri_text why = {0};
    char layer[24] = "outside the layers";
    if (o->layer != 0xffff) snprintf(layer, sizeof layer, "of layer %u", o->layer);
    if (a->at->n == 1)
        return peri_fail(a->err, PERI_E_UNSUPPORTED, "device %s cannot run %s %s: %s",
                         a->at->backend[0]->info.name, peri_op_name(o->code), layer,
                         a->answer[i].why);
    for (uint32_t d = 0; d < a->at->n; d++) {
        peri_support s;
        peri_status st = peri_plan_ask(a->at->backend[d], a->p, i, &s, a->err);
        if (st) {
            peri_text_fini(&why);
            return st;
        }
        peri_text_addf(&why, "%s%s: %s", d ? "; " : "", a->at->backend[d]->info.name,
                       s.yes ? "its keys and values cannot lie there" : s.why);
    }
    peri_status st = peri_fail(a->err, why.failed ? PERI_E_NOMEM : PERI_E_UNSUPPORTED,
                               "no device can run %s %s: %s", peri_op_name(o->code), layer,
                               why.failed ? "out of memory" : why.data);
    peri_text_fini(&why);
    return st;
}

/* All other devices' answers: for all ops when one was declined, else for those whose place other
 * plans share. */
static peri_status ask_others(const assignment *a, bool is_declined) {
    for (uint32_t i = 0; i < a->p->program->n_ops; i++) {
        if (!is_declined && !uses(a->p, peri_op_at(a->p->program, i), PERI_T_POOL)) continue;
        for (uint32_t d = 0; d < a->at->n; d++) {
            peri_support s;
            if (d == a->answer[i].want) continue;
            peri_status st = peri_plan_ask(a->at->backend[d], a->p, i, &s, a->err);
            if (st) return st;
            if (s.yes) a->answer[i].yes |= 1u << d;
        }
        if (!a->answer[i].yes) return nobody(a, i);
    }
    return PERI_OK;
}

/* Keys and values may only lie where everything that touches them is taken. */
static peri_status narrow_kv(const assignment *a, bool *is_stale) {
    for (uint32_t i = 0; i < a->p->program->n_ops && a->at->kv_ok; i++) {
        const peri_op *o = peri_op_at(a->p->program, i);
        if (!uses(a->p, o, PERI_T_POOL)) continue;
        a->at->kv_ok[o->layer] &= a->answer[i].yes;
        if (!a->at->kv_ok[o->layer]) return nobody(a, i);
    }
    for (uint32_t i = 0; i < a->p->program->n_ops && a->at->kv_ok; i++) {
        const peri_op *o = peri_op_at(a->p->program, i);
        if (!uses(a->p, o, PERI_T_POOL)) continue;
        uint8_t *kv = &a->at->kv_at[o->layer];
        a->answer[i].yes = a->at->kv_ok[o->layer];
        if (*kv >= a->at->n) continue;
        if (a->answer[i].yes & 1u << *kv) {
            a->answer[i].yes = 1u << *kv;
        } else {
            *kv = (uint8_t)a->at->n;
            *is_stale = true;
        }
    }
    return PERI_OK;
}

/* ---- choosing -----------------------------------------------------------------------------------
 */

static uint32_t cost_apart(const assignment *a, uint32_t i, uint32_t d) {
    const peri_op *o = peri_op_at(a->p->program, i);
    if (!(a->answer[i].yes & 1u << d)) return NEVER;
    if (a->answer[i].want == d) return 0;
    if (uses(a->p, o, PERI_T_POOL)) return KV_APART;
    for (uint32_t k = 0; k < o->n_in; k++) {
        const peri_tensor *t = peri_operand(a->p->program, o, k);
        if (t && t->kind == PERI_T_WEIGHT && t->dim[2] > 1) return WEIGHT_APART;
    }
    return APART;
}

/* The cheapest way over all ops; best[i][d]: of op i on d, from[i][d]: where the op before is. */
static void walk(const assignment *a, uint32_t *best, uint8_t *from) {
    uint32_t n = a->at->n, n_ops = a->p->program->n_ops;
    for (uint32_t i = 0; i < n_ops; i++) {
        for (uint32_t d = 0; d < n; d++) {
            uint32_t least = i ? UINT32_MAX : 0;
            from[i * n + d] = (uint8_t)d;
            for (uint32_t b = 0; i && b < n; b++) {
                uint32_t cost = best[(i - 1) * n + b] + (b == d ? 0 : CHANGE);
                if (cost >= least) continue;
                least = cost;
                from[i * n + d] = (uint8_t)b;
            }
            uint32_t sum = least + cost_apart(a, i, d);
            best[i * n + d] = sum < NEVER ? sum : NEVER;
        }
    }
    uint8_t d = 0;
    for (uint32_t k = 1; k < n; k++)
        if (best[(n_ops - 1) * n + k] < best[(n_ops - 1) * n + d]) d = (uint8_t)k;
    for (uint32_t i = n_ops; i-- > 0;) {
        a->p->device[i] = d;
        d = from[i * n + d];
    }
}

/* Settle where keys and values lie: where attention went.  True when an op must follow. */
static bool settle_kv(const assignment *a) {
    bool must_walk = false;
    for (uint32_t i = a->p->program->n_ops; i-- > 0 && a->at->kv_at;) {
        const peri_op *o = peri_op_at(a->p->program, i);
        if (!uses(a->p, o, PERI_T_POOL)) continue;
        uint8_t *kv = &a->at->kv_at[o->layer];
        if (*kv >= a->at->n) *kv = a->p->device[i];
        must_walk = must_walk || *kv != a->p->device[i];
        a->answer[i].yes = 1u << *kv;
    }
    return must_walk;
}

static peri_status choose(const assignment *a) {
    uint64_t n = (uint64_t)a->p->program->n_ops * a->at->n;
    uint32_t *best = peri_alloc_array((size_t)n, sizeof *best);
    uint8_t *from = peri_alloc_array((size_t)n, sizeof *from);
    if (best && from) {
        walk(a, best, from);
        if (settle_kv(a)) walk(a, best, from);
    }
    bool ok = best && from;
    peri_free(best);
    peri_free(from);
    return ok ? PERI_OK : no_memory(a->err);
}

/* Write down what is not where it is wanted, and the words of the devices that run it. */
static peri_status note_apart(const assignment *a) {
    for (uint32_t i = 0; i < a->p->program->n_ops; i++) {
        peri_answer *r = &a->answer[i];
        const peri_op *o = peri_op_at(a->p->program, i);
        uint8_t d = a->p->device[i];
        peri_support s;
        if (d != r->want) {
            peri_status st = peri_plan_ask(a->at->backend[d], a->p, i, &s, a->err);
            if (st) return st;
            memcpy(r->numerics, s.numerics, sizeof r->numerics);
            st = peri_plan_note_declined(
                a->p, o, r->want, d, *r->why ? r->why : "taken, but its neighbours are elsewhere",
                a->err);
            if (st) return st;
        }
        memcpy(a->p->numerics[i], r->numerics, sizeof r->numerics);
    }
    return PERI_OK;
}

/* ---- crossings ----------------------------------------------------------------------------------
 */

typedef struct crossings {
    const assignment *a;
    uint32_t *where; /* [n_tensor] devices whose arena holds a storage as it is, a bit each */
    uint32_t room;
} crossings;

/* Storage `root` is needed by op i. */
static peri_status bring(crossings *c, uint32_t i, uint32_t root) {
    peri_plan *p = c->a->p;
    uint8_t to = p->device[i];
    if (!c->where[root] || c->where[root] & 1u << to) return PERI_OK;
    if (p->n_crossing == c->room) {
        uint32_t room = c->room ? 2 * c->room : 64;
        peri_crossing *larger = peri_resize_array(p->crossing, room, sizeof *larger);
        if (!larger) return no_memory(c->a->err);
        p->crossing = larger;
        c->room = room;
    }
    uint8_t from = (uint8_t)__builtin_ctz(c->where[root]);
    p->crossing[p->n_crossing++] = (peri_crossing){i, root, from, to};
    c->where[root] |= 1u << to;
    uint32_t host = PERI_DEV_HOST_MEM;
    bool has_address =
        (c->a->at->backend[from]->info.flags & host) || (c->a->at->backend[to]->info.flags & host);
    uint64_t bytes = has_address ? 0 : peri_plan_act_bytes(p, root, p->bucket.hi);
    if (bytes > p->staging_bytes) p->staging_bytes = bytes;
    return PERI_OK;
}

/* What op i reads must be there.  What it writes in part must be there too, so that the rest of the
 * storage stays what it was; afterwards no other device has it. */
static peri_status cross_op(crossings *c, uint32_t i) {
    const peri_graph *g = c->a->g;
    const peri_graph_op *o = &g->op[i];
    peri_status st = PERI_OK;
    for (int k = 0; k < o->n_in + o->n_out && !st; k++) {
        uint32_t id = o->operand[k];
        if (id == PERI_NONE || g->tensor[id].t.kind != PERI_T_ACT) continue;
        uint32_t root = g->tensor[id].root;
        if (k < o->n_in || root != id) st = bring(c, i, root);
    }
    for (int k = o->n_in; k < o->n_in + o->n_out && !st; k++) {
        uint32_t id = o->operand[k];
        if (id != PERI_NONE) c->where[g->tensor[id].root] = 1u << c->a->p->device[i];
    }
    return st;
}

static peri_status find_crossings(const assignment *a) {
    crossings c = {.a = a, .where = peri_calloc(a->g->n_tensor, sizeof *c.where)};
    peri_status st = c.where ? PERI_OK : no_memory(a->err);
    for (uint32_t i = 0; i < a->p->program->n_ops && !st; i++)
        st = cross_op(&c, i);
    peri_free(c.where);
    return st;
}

peri_status peri_plan_assign(const peri_plan_places *at, const peri_graph *g, peri_plan *p,
                             peri_answer *answer, bool *is_stale, peri_error *err) {
    assignment a = {at, g, p, answer, err};
    uint32_t n = p->program->n_ops;
    bool is_declined = false;
    p->device = peri_calloc(n, sizeof *p->device);
    p->numerics = peri_calloc(n, sizeof *p->numerics);
    if (!p->device || !p->numerics) return no_memory(err);
    for (uint32_t i = 0; i < n; i++) {
        if (!answer[i].yes && at->n == 1) return nobody(&a, i);
        is_declined = is_declined || !answer[i].yes;
        p->device[i] = answer[i].want;
    }
    peri_status st = PERI_OK;
    if (at->n > 1) {
        st = ask_others(&a, is_declined);
        if (!st) st = narrow_kv(&a, is_stale);
        if (!st) st = choose(&a);
        if (!st) st = find_crossings(&a);
    }
    return st ? st : note_apart(&a);
}
