/* SPDX-License-Identifier: MIT
 *
 * sched_int.h - what the files of the scheduler share: sched.c takes requests and answers those
 * that need no step, sched_room.c finds blocks, sched_step.c makes steps, generate.c turns logits
 * into tokens and text. */
#ifndef PERI_RUN_SCHED_INT_H
#define PERI_RUN_SCHED_INT_H

#include "run/sched.h"
#include "run/session.h"

typedef struct peri_slot_mark {
    struct peri_slot_mark *next;
    uint64_t id;
    peri_mark *mark;
} peri_slot_mark;

/* A session of the scheduler and its queue. */
typedef struct peri_slot {
    uint64_t id;
    peri_session *s;
    peri_job *first, *last; /* the first one runs when is_running */
    peri_slot_mark *mark;
    uint64_t used; /* clock when its last request ended */
    bool is_in;    /* its running request has the blocks it needs to go on */
} peri_slot;

struct peri_sched {
    peri_engine *e;
    const peri_tokenizer *tokenizer;
    peri_event_fn event;
    void *user;
    peri_slot **slot;     /* [n_slot] all, in the order they were opened */
    peri_slot **run;      /* [n_run] those with a running request, the oldest request first */
    peri_step_feed *feed; /* [n_feed] of the step being made, one for each of fed[] */
    peri_slot **fed;      /* [n_feed]; room for n_session of the engine */
    size_t n_slot, room_slot, n_run, n_feed;
    uint64_t last_id, clock, turn; /* turn: counts steps, for rotation */
};

/* ---- sched.c */
/* The slot's first request is over, and freed.  ev carries what the answer says beyond request and
 * session; status and text come from err when st is a failure. */
void peri_sched_finish(peri_sched *s, peri_slot *slot, peri_status st, const peri_error *err,
                       peri_event *ev);
/* End it early: what it fed is taken back, what it generated stays. */
void peri_sched_abort(peri_sched *s, peri_slot *slot, peri_status st, const peri_error *err);
/* Begin every request whose turn it is; answers those that need no step. */
void peri_sched_begin(peri_sched *s);
/* Answer the slot's first request, which needs no step (FORK, SAVE: the session is in its blocks).
 */
void peri_sched_answer(peri_sched *s, peri_slot *slot);
void peri_sched_emit(peri_sched *s, const peri_job *j, uint64_t session, peri_event *ev);

/* ---- sched_room.c */
/* Try to give every running request its blocks, the oldest first. */
void peri_sched_admit(peri_sched *s);
/* A session that runs wants to write up to n_tok tokens: find the room, if need be by setting those
 * aside that began later. */
peri_status peri_sched_reserve(peri_sched *s, peri_slot *slot, int32_t n_tok, peri_error *err);
/* Set one session aside that does nothing; false when there is none. */
bool peri_sched_set_idle_aside(peri_sched *s, const peri_slot *except);

/* ---- generate.c */
peri_status peri_generate_begin(peri_slot *slot, peri_error *err);
/* Sample the next token and tell about it.  Sets pending, or ends (sets ->ends with pending -1). */
peri_status peri_generate_next(peri_sched *s, peri_slot *slot, peri_error *err);
/* Answer a GENERATE that is over. */
void peri_generate_finish(peri_sched *s, peri_slot *slot, peri_why why, peri_status st,
                          const peri_error *err);

#endif
