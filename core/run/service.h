/* SPDX-License-Identifier: MIT
 *
 * service.h - an engine on a thread of its own: a mailbox in front of the batching loop of sched.h.
 *
 * The thread sleeps when nothing is to be done.  Between two steps it empties the mailbox, so a
 * request or a cancellation waits for one step at most.  While a service exists it alone drives the
 * engine: opening a session directly is refused, and so is a service while direct sessions live. */
#ifndef PERI_RUN_SERVICE_H
#define PERI_RUN_SERVICE_H

#include "run/engine.h"
#include "run/request.h"

typedef struct peri_service peri_service;
typedef struct peri_prepared peri_prepared; /* a request for later */

/* Start the thread.  e, t (NULL: events carry no text) and user must outlive the service.
 * event() is called on the engine thread; everything in it is borrowed for the call; it must not
 * wait for the engine, and may submit. */
peri_status peri_service_new(peri_engine *e, const peri_tokenizer *t, peri_event_fn event,
                             void *user, peri_service **out, peri_error *err);
/* Cancels what runs and waits - each still gets its final event - and joins.
 * Sessions still open are freed.  Accepts NULL.  Not from event(). */
void peri_service_free(peri_service *s);
/* Queue a request (copied, with all it points to); any thread.  Events may arrive before this
 * returns: know them by r->tag.  A failure (out of memory, a malformed request, a service that is
 * closing) means that no event follows. */
peri_status peri_service_submit(peri_service *s, const peri_request *r, uint64_t *id,
                                peri_error *err);

/* What must not be lost for lack of memory is prepared while there is some. */
peri_status peri_prepare(peri_request_kind kind, peri_prepared **out, peri_error *err);
void peri_prepared_free(peri_prepared *p); /* accepts NULL */
/* Queue it with the session, mark, target and tag of r; it becomes the service's.  A service that
 * is closing drops it: then no event follows.  Any thread. */
void peri_service_send(peri_service *s, peri_prepared *p, const peri_request *r);

#endif
