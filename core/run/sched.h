/* SPDX-License-Identifier: MIT
 *
 * sched.h - the batching loop: requests of many sessions become steps of the engine.
 *
 * A state machine for one thread.  Requests are put in, peri_sched_step does one engine step's
 * worth of work, events come out.  It never waits, and what it does is a function of the order in
 * which requests were put in; since steps are invariant (step.c), what a session says does not
 * depend on that either.
 *
 * One step.  Sessions that generate come first, one token each; prompts share the rest of the
 * token budget, and only a small one while others generate, so that a long prompt does not stall
 * them.  Where not all fit, turns rotate.
 *
 * Room.  A prompt starts when there are blocks for all of it; until then it waits, and so do those
 * that came after it.  A request that could never fit is refused with numbers.  Room is found in
 * this order: free blocks, cached prefixes, the blocks of sessions that do nothing, of those that
 * wait, and - only for a session that is already generating - of the one that began last.  Blocks
 * taken from a session are set aside in host memory and brought back before it goes on. */
#ifndef PERI_RUN_SCHED_H
#define PERI_RUN_SCHED_H

#include "run/engine.h"
#include "run/job.h"

typedef struct peri_sched peri_sched;

/* event: see request.h; it must not call into the scheduler. */
peri_status peri_sched_new(peri_engine *e, const peri_tokenizer *t, peri_event_fn event, void *user,
                           peri_sched **out, peri_error *err);
/* All requests end as cancelled, all sessions are freed.  Accepts NULL. */
void peri_sched_free(peri_sched *s);
/* Take a request over, job included; its events may come before this returns. */
void peri_sched_put(peri_sched *s, peri_job *job);
/* One step.  false: there is nothing to do until the next request. */
bool peri_sched_step(peri_sched *s);

#endif
