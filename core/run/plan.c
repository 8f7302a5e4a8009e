/* SPDX-License-Identifier: MIT
 *
 * plan.c - asking devices, lowering what they decline, running what they accepted.
 *
 * Packing assigns arena offsets, which no answer may depend on; so the graph is packed once per
 * round of questions, all declined ops of a round are lowered together, and rounds end when nothing
 * was lowered.  Who runs what the wanted device declines even then is plan_place.c's business. */
#include "run/plan.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "model/dtype.h"
#include "run/plan_int.h"

#include "base/compiler.h"

bool peri_plan_fits(const peri_bucket *b, int32_t n_tok, int32_t n_seq, int32_t n_row) {
    return n_tok <= b->hi[PERI_SYM_T] && n_seq <= b->hi[PERI_SYM_S] && n_row <= b->hi[PERI_SYM_R];
}

uint8_t peri_plan_last(const peri_plan *p) {
    return p->device[p->program->n_ops - 1];
}

uint64_t peri_plan_act_bytes(const peri_plan *p, uint32_t tensor, const int32_t *n) {
    const peri_tensor *t = peri_tensor_at(p->program, tensor);
    uint64_t bytes = peri_dtype_get(t->dtype)->block_bytes;
    for (int i = 0; i < 4; i++)
        bytes *= (uint64_t)peri_dim(t, i, n);
    return bytes;
}

/* Where an activation ends in the arena, in the largest step. */
static uint64_t end_of(const peri_plan *p, uint32_t tensor) {
    const peri_tensor *t = peri_tensor_at(p->program, tensor);
    uint64_t last = 0;
    for (int i = 0; i < 4; i++) {
        int64_t n = peri_dim(t, i, p->bucket.hi);
        if (n > 1) last += (uint64_t)(n - 1) * (uint64_t)t->stride[i];
    }
    return t->off + last + peri_dtype_get(t->dtype)->block_bytes;
}

uint64_t peri_plan_arena_bytes(const peri_plan *p, uint8_t d) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < p->program->n_ops; i++) {
        const peri_op *o = peri_op_at(p->program, i);
        for (uint32_t k = 0; p->device[i] == d && k < (uint32_t)(o->n_in + o->n_out); k++) {
            const peri_tensor *t = peri_operand(p->program, o, k);
            if (!t || t->kind != PERI_T_ACT) continue;
            uint64_t end = end_of(p, peri_arg(p->program, o, k));
            if (end > most) most = end;
        }
    }
    for (uint32_t i = 0; i < p->n_crossing; i++) {
        const peri_crossing *c = &p->crossing[i];
        if (c->from != d && c->to != d) continue;
        uint64_t end = end_of(p, c->tensor);
        if (end > most) most = end;
    }
    return most;
}

void peri_plan_free(peri_plan *p) {
    if (!p) return;
    peri_plan_uncompile(p);
    peri_free(p->program);
    peri_free(p->device);
    peri_free(p->numerics);
    peri_free(p->crossing);
    peri_free(p->note);
    peri_free(p);
}

/* ---- asking -------------------------------------------------------------------------------------
 */

static void add_layer(peri_plan_note *n, uint16_t layer) {
    if (layer == 0xffff) return;
    if (n->first_layer == 0xffff || layer < n->first_layer) n->first_layer = layer;
    if (n->last_layer == 0xffff || layer > n->last_layer) n->last_layer = layer;
}

peri_status peri_plan_note_declined(peri_plan *p, const peri_op *o, uint8_t device, uint8_t to,
                                    const char *why, peri_error *err) {
    peri_plan_note *n = NULL;
    for (uint32_t i = 0; i < p->n_note && !n; i++) {
        peri_plan_note *c = &p->note[i];
        if (c->code == o->code && c->device == device && c->to == to && !strcmp(c->why, why)) n = c;
    }
    if (!n && p->n_note == p->note_room) {
        uint32_t room = p->note_room ? 2 * p->note_room : 8;
        peri_plan_note *larger = peri_resize_array(p->note, room, sizeof *larger);
        if (!larger) return peri_fail(err, PERI_E_NOMEM, "out of memory making a plan");
        p->note = larger;
        p->note_room = room;
    }
    if (!n) {
        n = &p->note[p->n_note++];
        *n = (peri_plan_note){.code = o->code,
                              .first_layer = 0xffff,
                              .last_layer = 0xffff,
                              .device = device,
                              .to = to};
        snprintf(n->why, sizeof n->why, "%s", why);
    }
    n->count++;
    add_layer(n, o->layer);
    return PERI_OK;
}

peri_status peri_plan_ask(peri_backend *d, const peri_plan *p, uint32_t i, peri_support *s,
                          peri_error *err) {
    *s = (peri_support){.size = sizeof *s};
    peri_status st = d->api.supports(d->dev, p->program, i, &p->bucket, s, err);
    s->numerics[sizeof s->numerics - 1] = '\0';
    s->why[sizeof s->why - 1] = '\0';
    if (!s->yes && !*s->why) snprintf(s->why, sizeof s->why, "no reason given");
    return st ? peri_wrap(err, "device %s: asked about %s", d->info.name,
                          peri_op_name(peri_op_at(p->program, i)->code))
              : PERI_OK;
}

static bool has_matrix(const peri_program *p, const peri_op *o) {
    for (uint32_t k = 0; k < o->n_in; k++) {
        const peri_tensor *t = peri_operand(p, o, k);
        if (t && t->kind == PERI_T_WEIGHT && t->dim[2] > 1) return true;
    }
    return false;
}

/* Does the device decline a matrix of op i of the graph even in pieces? */
static peri_status declines_pieces(peri_backend *d, const peri_graph *g, uint32_t i,
                                   const peri_bucket *b, bool *does, peri_error *err) {
    peri_graph one;
    peri_plan pieces = {.bucket = *b};
    *does = false;
    peri_graph_single(g, i, &one);
    bool is_fused = !one.failed && peri_graph_lower(&one, 0);
    peri_status st = is_fused || one.failed ? peri_graph_pack(&one, b, &pieces.program, err) : 0;
    for (uint32_t k = 0; is_fused && !st && k < pieces.program->n_ops && !*does; k++) {
        peri_support s;
        if (!has_matrix(pieces.program, peri_op_at(pieces.program, k))) continue;
        st = peri_plan_ask(d, &pieces, k, &s, err);
        *does = !st && !s.yes;
    }
    peri_free(pieces.program);
    peri_graph_fini(&one);
    return st;
}

typedef struct op_place {
    uint32_t at_graph; /* its number in the graph */
    uint8_t want;
} op_place;

/* Should op i of the program, which the wanted device declines, go whole to another one?  In pieces
 * it would be no better off there. */
static peri_status goes_whole(const peri_plan_places *at, const peri_plan *p, const peri_graph *g,
                              uint32_t i, const op_place *o, bool *does, peri_error *err) {
    *does = false;
    if (at->n == 1 || !has_matrix(p->program, peri_op_at(p->program, i))) return PERI_OK;
    peri_status st = declines_pieces(at->backend[o->want], g, o->at_graph, &p->bucket, does, err);
    if (st || !*does) return st;
    *does = false;
    for (uint32_t d = 0; d < at->n && !st && !*does; d++) {
        peri_support s;
        if (d == o->want) continue;
        st = peri_plan_ask(at->backend[d], p, i, &s, err);
        *does = !st && s.yes;
    }
    return st;
}

/* One round: *n_lowered ops were replaced in g.  Answers are those of the wanted devices. */
static peri_status ask_all(const peri_plan_places *at, peri_plan *p, peri_graph *g,
                           peri_answer *answer, uint32_t *n_lowered, peri_error *err) {
    uint32_t shift = 0; /* ops inserted in g before the op the program calls i */
    *n_lowered = 0;
    for (uint32_t i = 0; i < p->program->n_ops; i++) {
        const peri_op *o = peri_op_at(p->program, i);
        peri_answer *a = &answer[i];
        peri_support s;
        *a = (peri_answer){0};
        if (at->split) a->want = at->split->device[peri_plan_part(g, i + shift, at->n_layer)];
        peri_status st = peri_plan_ask(at->backend[a->want], p, i, &s, err);
        if (st) return st;
        if (s.yes) {
            a->yes = 1u << a->want;
            memcpy(a->numerics, s.numerics, sizeof a->numerics);
            continue;
        }
        memcpy(a->why, s.why, sizeof a->why);
        uint32_t before = g->n_op;
        bool is_whole;
        st = goes_whole(at, p, g, i, &(op_place){i + shift, a->want}, &is_whole, err);
        if (st) return st;
        if (is_whole || !peri_graph_lower(g, i + shift)) continue;
        st = peri_plan_note_declined(p, o, a->want, a->want, s.why, err);
        if (st) return st;
        shift += g->n_op - before;
        ++*n_lowered;
    }
    return PERI_OK;
}

peri_status peri_plan_place(const peri_plan_places *at, peri_graph *g, uint32_t logits,
                            const peri_bucket *bucket, peri_plan **out, bool *is_stale,
                            peri_error *err) {
    *out = NULL;
    *is_stale = false;
    peri_plan *p = peri_calloc(1, sizeof *p);
    if (!p) return peri_fail(err, PERI_E_NOMEM, "out of memory making a plan");
    p->bucket = *bucket;
    p->logits = logits;
    p->lists = PERI_NONE;
    peri_status st;
    peri_answer *answer = NULL;
    uint32_t n_lowered = 0;
    do {
        peri_free(p->program);
        peri_free(answer);
        answer = NULL;
        st = peri_graph_pack(g, bucket, &p->program, err);
        if (st) break;
        answer = peri_calloc(p->program->n_ops, sizeof *answer);
        st = answer ? ask_all(at, p, g, answer, &n_lowered, err)
                    : peri_fail(err, PERI_E_NOMEM, "out of memory making a plan");
    } while (!st && n_lowered);
    if (!st) st = peri_plan_assign(at, g, p, answer, is_stale, err);
    if (!st && !*is_stale) st = peri_plan_compile(at, p, err);
    peri_free(answer);
    if (st) {
        peri_plan_free(p);
        return st;
    }
    *out = p;
    return PERI_OK;
}

peri_status peri_plan_new(peri_backend *d, peri_graph *g, uint32_t logits,
                          const peri_bucket *bucket, peri_plan **out, peri_error *err) {
    peri_plan_places at = {.backend = &d, .n = 1};
    bool is_stale;
    return peri_plan_place(&at, g, logits, bucket, out, &is_stale, err);
}

/* ---- running ------------------------------------------------------------------------------------
 */

/* The copy goes straight where one of the two memories has addresses. */
static peri_status cross(const peri_plan *p, const peri_crossing *c, const peri_plan_seat *seat,
                         void *staging, const peri_step *step, peri_error *err) {
    const peri_plan_seat *from = &seat[c->from], *to = &seat[c->to];
    uint64_t off = peri_tensor_at(p->program, c->tensor)->off;
    uint64_t bytes = peri_plan_act_bytes(p, c->tensor, step->n);
    if (!bytes) return PERI_OK;
    if (from->arena.host)
        return peri_memory_write(to->backend, &to->arena, off, (char *)from->arena.host + off,
                                 bytes, err);
    void *at = to->arena.host ? (char *)to->arena.host + off : staging;
    peri_status st = peri_memory_read(from->backend, &from->arena, off, at, bytes, err);
    if (!st && !to->arena.host)
        st = peri_memory_write(to->backend, &to->arena, off, at, bytes, err);
    return st;
}

static int layer_of(const peri_op *o) {
    return o->layer == 0xffff ? -1 : o->layer;
}

/* What a plugin's call said of op i, or of the stretch that it begins. */
static peri_status failed(const peri_plan *p, const peri_plan_seat *at, uint32_t i, uint32_t n,
                          int32_t st, peri_error *local, peri_error *err) {
    const peri_op *o = peri_op_at(p->program, i);
    if (st > 0) st = PERI_E_OTHER; /* the plugin broke rule R3 */
    local->text[sizeof local->text - 1] = '\0';
    if (n == 1)
        return peri_fail(err, st, "device %s: %s (op %u, layer %d): %s", at->backend->info.name,
                         peri_op_name(o->code), i, layer_of(o), local->text);
    return peri_fail(err, st, "device %s: ops %u to %u, layers %d to %d: %s",
                     at->backend->info.name, i, i + n - 1, layer_of(o),
                     layer_of(peri_op_at(p->program, i + n - 1)), local->text);
}

static peri_status run_stretch(const peri_plan *p, const peri_stretch *s, const peri_plan_seat *at,
                               const peri_step *step, peri_error *err) {
    peri_error local = {0};
    const peri_plugin *api = &at->backend->api;
    if (s->compiled) {
        int32_t st = api->run_compiled(s->dev, s->compiled, &at->bind, step, &local);
        return st ? failed(p, at, s->first, s->n, st, &local, err) : PERI_OK;
    }
    for (uint32_t i = s->first; i < s->first + s->n; i++) {
        int32_t st = api->run_op(at->backend->dev, p->program, i, &at->bind, step, &local);
        if (st) return failed(p, at, i, 1, st, &local, err);
    }
    return PERI_OK;
}

peri_status peri_plan_run_on(const peri_plan *p, const peri_plan_seat *seat, void *staging,
                             const peri_step *step, peri_error *err) {
    uint32_t next = 0; /* crossing */
    for (uint32_t k = 0; k < p->n_stretch; k++) {
        const peri_stretch *s = &p->stretch[k];
        const peri_op *o = peri_op_at(p->program, s->first);
        peri_status st = PERI_OK;
        for (; next < p->n_crossing && p->crossing[next].op == s->first && !st; next++)
            st = cross(p, &p->crossing[next], seat, staging, step, err);
        if (st)
            return peri_wrap(err, "moving %s's input (op %u, layer %d)", peri_op_name(o->code),
                             s->first, layer_of(o));
        st = run_stretch(p, s, &seat[p->device[s->first]], step, err);
        if (st) return st;
    }
    return PERI_OK;
}

peri_status peri_plan_run(const peri_plan *p, peri_backend *d, const peri_bind *bind,
                          const peri_step *step, peri_error *err) {
    const peri_plan_seat seat = {.backend = d, .bind = *bind};
    return peri_plan_run_on(p, &seat, NULL, step, err);
}
