/* SPDX-License-Identifier: MIT
 *
 * sched_int.h - what the files of the scheduler share: sched.c takes requests and answers those
 * that need no step, sched_beside.c keeps two sessions together, sched_room.c finds blocks,
 * sched_step.c makes steps, generate.c turns logits into tokens and text. */
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
    peri_slot **fed;      /* [n_feed]; room for twice the engine's n_session */
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
/* The final event of a request that is in no queue; frees it. */
void peri_sched_close_job(peri_sched *s, peri_job *j, uint64_t session, peri_status st,
                          const peri_error *err, peri_event *ev);
/* The slot's first request leaves the queue, and the slot no longer runs. */
peri_job *peri_sched_take_first(peri_sched *s, peri_slot *slot);
void peri_sched_queue(peri_slot *slot, peri_job *j);
void peri_sched_unqueue(peri_slot *slot, const peri_job *j); /* not the first */
void peri_sched_emit(peri_sched *s, const peri_job *j, uint64_t session, peri_event *ev);

/* ---- sched_room.c */
/* Try to give every running request its blocks, the oldest first. */
void peri_sched_admit(peri_sched *s);
/* A session that runs wants to write up to n_tok tokens: find the room, if need be by setting those
 * aside that began later. */
peri_status peri_sched_reserve(peri_sched *s, peri_slot *slot, int32_t n_tok, peri_error *err);
/* Set one session aside that does nothing; false when there is none. */
bool peri_sched_set_idle_aside(peri_sched *s, const peri_slot *except);

/* ---- sched_beside.c: a GENERATE (the leader) and the BESIDE in the queue of the session beside */
/* Make the BESIDE of a GENERATE that is about to queue. */
peri_status peri_beside_join(peri_job *leader, peri_slot *slot, peri_slot *beside, peri_error *err);
/* The leader is over, and in no queue any more: its BESIDE goes too. */
void peri_beside_release(peri_sched *s, peri_job *leader);
/* The slot's first request is a BESIDE whose session goes away: its leader ends. */
void peri_beside_abort(peri_sched *s, peri_slot *slot, peri_status st, const peri_error *err);
/* Where an error of a step is told: the slot, or that of its leader; NULL when it is over. */
peri_slot *peri_beside_leader(peri_slot *slot);

/* ---- generate.c */
peri_status peri_generate_begin(peri_slot *slot, peri_error *err);
/* Sample the next token and tell about it.  Sets pending, or ends (sets ->ends with pending -1). */
peri_status peri_generate_next(peri_sched *s, peri_slot *slot, peri_error *err);
/* Answer a GENERATE that is over. */
void peri_generate_finish(peri_sched *s, peri_slot *slot, peri_why why, peri_status st,
                          const peri_error *err);

#endif
