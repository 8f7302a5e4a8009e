/* SPDX-License-Identifier: MIT
 *
 * loop.h - the event loop: one thread sleeps until a timer runs out, another thread has posted
 * something, or a watched file descriptor is readable, and then calls a function.
 *
 * Built on libevent; nobody else sees its types.  Everything belongs to the thread that calls
 * peri_loop_once, except peri_loop_post and the waking of a peri_signal.  Nothing here polls: with
 * nothing to do the thread sleeps. */
#ifndef PERI_NET_LOOP_H
#define PERI_NET_LOOP_H

#include <stdbool.h>

#include "perigee/types.h"

typedef struct peri_loop peri_loop;
typedef void (*peri_loop_fn)(void *user);

/* PERI_E_NOMEM; PERI_E_OTHER when the kernel gives no event queue.  libevent allocates through
 * base/alloc.h from the first call on. */
peri_status peri_loop_new(peri_loop **out, peri_error *err);
/* Accepts NULL.  Timers and watches must be gone, nobody may post any more; what was posted and not
 * called yet is dropped: see peri_loop_drain. */
void peri_loop_free(peri_loop *l);
/* Call what is due; if nothing is, sleep until something is and call it.  Functions may create and
 * free timers and watches, and post. */
peri_status peri_loop_once(peri_loop *l, peri_error *err);
/* Call what is due, without sleeping. */
peri_status peri_loop_poll(peri_loop *l, peri_error *err);

/* ---- posting ------------------------------------------------------------------------------------
 */

/* One posted call, embedded in what it is about: posting cannot fail. */
typedef struct peri_post {
    struct peri_post *next;
    peri_loop_fn fn;
    void *user;
} peri_post;
/* Any thread: have post->fn(post->user) called on the loop's thread, in order of posting.  The post
 * must not be pending already and stays where it is until fn is called. */
void peri_loop_post(peri_loop *l, peri_post *post);
/* Call all that was posted, without waiting.  True when there was something. */
bool peri_loop_drain(peri_loop *l);

/* ---- timers -------------------------------------------------------------------------------------
 */
typedef struct peri_timer peri_timer;
peri_status peri_timer_new(peri_loop *l, peri_loop_fn fn, void *user, peri_timer **out,
                           peri_error *err);
void peri_timer_free(peri_timer *t); /* accepts NULL; fn is not called any more */
/* Call fn once, not before ns nanoseconds have passed.  Starting again replaces the former time. */
peri_status peri_timer_start(peri_timer *t, uint64_t ns, peri_error *err);
void peri_timer_stop(peri_timer *t);

/* ---- waking from signal handlers ----------------------------------------------------------------
 */

/* A counter that outlives loops, so that a handler may use it whether a loop runs or not. */
typedef struct peri_signal peri_signal;
peri_status peri_signal_new(peri_signal **out, peri_error *err);
void peri_signal_free(peri_signal *s); /* accepts NULL; no loop may watch it any more */
/* Async-signal-safe, any thread.  Leaves errno as it was. */
void peri_signal_raise(peri_signal *s);
/* How often it was raised since it was last taken. */
uint64_t peri_signal_take(peri_signal *s);

/* fn is called while the signal is raised and not taken: fn takes it. */
typedef struct peri_watch peri_watch;
peri_status peri_watch_signal(peri_loop *l, peri_signal *s, peri_loop_fn fn, void *user,
                              peri_watch **out, peri_error *err);
void peri_watch_free(peri_watch *w); /* accepts NULL */

#endif
