/* SPDX-License-Identifier: MIT
 *
 * sched_room.c - blocks for those who need them, and whom to set aside for that.
 *
 * No session is starved: room is given in the order in which requests began, and nobody is let past
 * one who waits.  Somebody always goes on: the pool holds at least one full session, and all others
 * can be set aside for the oldest request. */
#include "base/status.h"
#include "run/sched_int.h"

#include "base/compiler.h"

static bool holds_blocks(const peri_slot *slot) {
    return slot->s->n_block > 0;
}

static bool set_aside(peri_slot *slot) {
    peri_error ignored; /* no host memory: then it stays, and somebody else must wait */
    if (peri_session_swap_out(slot->s, &ignored)) return false;
    slot->is_in = false;
    return true;
}

bool peri_sched_set_idle_aside(peri_sched *s, const peri_slot *except) {
    peri_slot *best = NULL;
    for (size_t i = 0; i < s->n_slot; i++) {
        peri_slot *slot = s->slot[i];
        bool is_idle = !slot->first || !slot->first->is_running;
        if (is_idle && slot != except && holds_blocks(slot) && (!best || slot->used < best->used))
            best = slot;
    }
    return best && set_aside(best);
}

/* Does it have a token in the step being made?  One beside an older session may. */
static bool is_fed(const peri_sched *s, const peri_slot *slot) {
    for (size_t i = 0; i < s->n_feed; i++)
        if (s->fed[i] == slot) return true;
    return false;
}

/* The youngest request that holds blocks and began after `slot`'s. */
static bool set_younger_aside(peri_sched *s, const peri_slot *slot, bool is_in) {
    for (size_t i = s->n_run; i-- > 0 && s->run[i] != slot;)
        if (s->run[i]->is_in == is_in && holds_blocks(s->run[i]) && !is_fed(s, s->run[i]))
            return set_aside(s->run[i]);
    return false;
}

peri_status peri_sched_reserve(peri_sched *s, peri_slot *slot, int32_t n_tok, peri_error *err) {
    while (peri_session_wants(slot->s, n_tok) > peri_prefix_room(&s->e->blocks))
        if (!peri_sched_set_idle_aside(s, slot) && !set_younger_aside(s, slot, false) &&
            !set_younger_aside(s, slot, true))
            break;
    return peri_session_reserve(slot->s, n_tok, err);
}

/* Tokens a request's session must have blocks for before it goes on. */
static int32_t needs(const peri_slot *slot) {
    const peri_job *j = slot->first;
    int32_t n = slot->s->n_tok;
    if (j->r.kind == PERI_REQUEST_FEED) return n + (int32_t)(j->r.n_tok - j->n_done);
    bool grows = j->r.kind == PERI_REQUEST_GENERATE || j->r.kind == PERI_REQUEST_BESIDE;
    return grows && n < slot->s->e->o.n_ctx ? n + 1 : n;
}

/* What the cache knows of a prompt is taken before room is asked for. */
static void attach(peri_slot *slot) {
    peri_job *j = slot->first;
    if (j->r.kind != PERI_REQUEST_FEED) return;
    size_t n = peri_session_attach(slot->s, j->r.tok + j->n_done, j->r.n_tok - j->n_done);
    j->n_done += n;
    j->n_cached += n;
}

static bool admit(peri_sched *s, peri_slot *slot) {
    peri_error ignored; /* it waits; when nobody can go on, sched_step.c says so */
    peri_session *x = slot->s;
    if (!x->swapped) attach(slot);
    while (peri_session_wants(x, needs(slot)) > peri_prefix_room(&s->e->blocks))
        if (!peri_sched_set_idle_aside(s, slot) && !set_younger_aside(s, slot, false)) return false;
    if (peri_session_swap_in(x, &ignored)) return false;
    attach(slot);
    if (peri_session_reserve(x, needs(slot), &ignored)) return false;
    slot->is_in = true;
    return true;
}

void peri_sched_admit(peri_sched *s) {
    for (size_t i = 0; i < s->n_run; i++)
        if (!s->run[i]->is_in && !admit(s, s->run[i])) return;
}
