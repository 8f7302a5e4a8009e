/* SPDX-License-Identifier: MIT
 *
 * sched_beside.c - two sessions that move together: one generates, the other is given its tokens
 * and shows its prediction to sampling policies.
 *
 * The GENERATE stands in the queue of the first, a BESIDE in that of the second; both are queued at
 * once, so that of two pairs over the same sessions one is before the other in every queue and
 * neither waits for ever.  The BESIDE has no events.  Whichever ends takes the other with it. */
#include "base/status.h"
#include "run/sched_int.h"

#include "base/compiler.h"

peri_status peri_beside_join(peri_job *leader, peri_slot *slot, peri_slot *beside,
                             peri_error *err) {
    peri_job *j;
    const peri_request r = {.kind = PERI_REQUEST_BESIDE, .session = beside->id};
    peri_status st = peri_job_new(&r, 0, &j, err);
    if (st) return st;
    j->peer = leader;
    j->peer_slot = slot;
    leader->peer = j;
    leader->peer_slot = beside;
    return PERI_OK;
}

void peri_beside_release(peri_sched *s, peri_job *leader) {
    peri_job *j = leader->peer;
    peri_slot *slot = leader->peer_slot;
    leader->peer = NULL;
    if (slot->first == j)
        peri_sched_take_first(s, slot);
    else
        peri_sched_unqueue(slot, j);
    peri_job_free(j);
}

void peri_beside_abort(peri_sched *s, peri_slot *slot, peri_status st, const peri_error *err) {
    peri_job *leader = slot->first->peer;
    peri_slot *leads = slot->first->peer_slot;
    peri_error gone;
    if (st == PERI_E_CANCELLED) {
        st = peri_fail(&gone, PERI_E_NOT_FOUND, "the session beside was closed");
        err = &gone;
    }
    if (leads->first == leader) {
        peri_sched_abort(s, leads, st, err);
        return;
    }
    peri_event ev = {.why = PERI_WHY_ERROR, .n_tok = leads->s->n_tok};
    peri_sched_unqueue(leads, leader);
    peri_sched_close_job(s, leader, leads->id, st, err, &ev);
}

peri_slot *peri_beside_leader(peri_slot *slot) {
    const peri_job *j = slot->first;
    if (!j || !j->is_running) return NULL;
    return j->r.kind == PERI_REQUEST_BESIDE ? j->peer_slot : slot;
}
