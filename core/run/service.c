/* SPDX-License-Identifier: MIT
 *
 * service.c - the engine thread and its mailbox.
 *
 * The mailbox is a list under one lock.  The thread takes all of it at once, so the lock is held
 * for a moment on either side and never during a step or an event; event() may therefore submit.
 * Shutting down: the box is closed (submissions are refused from then on), the thread takes what is
 * in it, ends everything as cancelled, and goes. */
#include "run/service.h"

#include <pthread.h>

#include "base/alloc.h"
#include "base/status.h"
#include "run/sched.h"

#include "base/compiler.h"

struct peri_service {
    peri_engine *e;
    peri_sched *sched; /* the engine thread's alone, once it runs */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t news;       /* something came in, or the box was closed */
    peri_job *first, *last;    /* under lock */
    uint64_t last_id;          /* under lock */
    bool is_closed;            /* under lock */
    bool has_lock, has_thread; /* the maker's alone */
};

/* Take all that came in; when nothing did and nothing is to be done, wait for it.  false: the box
 * is closed. */
static bool collect(peri_service *s, bool may_wait, peri_job **out) {
    pthread_mutex_lock(&s->lock);
    while (may_wait && !s->first && !s->is_closed)
        pthread_cond_wait(&s->news, &s->lock);
    *out = s->first;
    s->first = s->last = NULL;
    bool is_open = !s->is_closed;
    pthread_mutex_unlock(&s->lock);
    return is_open;
}

static void *run(void *arg) {
    peri_service *s = arg;
    bool is_open = true, is_busy = false;
    while (is_open) {
        peri_job *j;
        is_open = collect(s, !is_busy, &j);
        while (j) {
            peri_job *next = j->next;
            j->next = NULL;
            peri_sched_put(s->sched, j);
            j = next;
        }
        if (is_open) is_busy = peri_sched_step(s->sched);
    }
    peri_sched_free(s->sched);
    s->sched = NULL;
    return NULL;
}

peri_status peri_service_new(peri_engine *e, const peri_tokenizer *t, peri_event_fn event,
                             void *user, peri_service **out, peri_error *err) {
    *out = NULL;
    if (e->is_served) return peri_fail(err, PERI_E_INVALID, "the model has a service already");
    if (e->n_session)
        return peri_fail(err, PERI_E_INVALID,
                         "%d sessions are driven directly; a service would have to share the model "
                         "with them",
                         e->n_session);
    peri_service *s = peri_calloc(1, sizeof *s);
    if (!s) return peri_fail(err, PERI_E_NOMEM, "out of memory for a service");
    s->e = e;
    peri_status st = peri_sched_new(e, t, event, user, &s->sched, err);
    if (!st && !(s->has_lock = pthread_mutex_init(&s->lock, NULL) == 0))
        st = peri_fail(err, PERI_E_OTHER, "cannot make a lock");
    if (!st) {
        pthread_cond_init(&s->news, NULL); /* cannot fail without attributes on Linux */
        e->is_served = true;
        s->has_thread = pthread_create(&s->thread, NULL, run, s) == 0;
        if (!s->has_thread) st = peri_fail(err, PERI_E_OTHER, "cannot start the engine thread");
    }
    if (st) {
        peri_service_free(s);
        return st;
    }
    *out = s;
    return PERI_OK;
}

void peri_service_free(peri_service *s) {
    if (!s) return;
    if (s->has_thread) {
        pthread_mutex_lock(&s->lock);
        s->is_closed = true;
        pthread_cond_signal(&s->news);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    peri_sched_free(s->sched);
    if (s->has_lock) {
        pthread_cond_destroy(&s->news);
        pthread_mutex_destroy(&s->lock);
        s->e->is_served = false;
    }
    peri_free(s);
}

/* false: the box is closed, and j still the caller's. */
static bool put(peri_service *s, peri_job *j, uint64_t *id) {
    pthread_mutex_lock(&s->lock);
    bool is_open = !s->is_closed;
    if (is_open) {
        j->id = ++s->last_id;
        if (id) *id = j->id;
        if (s->last)
            s->last->next = j;
        else
            s->first = j;
        s->last = j;
        pthread_cond_signal(&s->news);
    }
    pthread_mutex_unlock(&s->lock);
    return is_open;
}

peri_status peri_service_submit(peri_service *s, const peri_request *r, uint64_t *id,
                                peri_error *err) {
    peri_job *j;
    peri_status st = peri_job_new(r, 0, &j, err);
    if (st || put(s, j, id)) return st;
    peri_job_free(j);
    return peri_fail(err, PERI_E_CANCELLED, "the service is closing");
}

/* A peri_job under another name: nothing is added. */
peri_status peri_prepare(peri_request_kind kind, peri_prepared **out, peri_error *err) {
    peri_job *j;
    peri_status st = peri_job_new(&(peri_request){.kind = kind}, 0, &j, err);
    *out = (peri_prepared *)j;
    return st;
}

void peri_prepared_free(peri_prepared *p) {
    peri_job_free((peri_job *)p);
}

void peri_service_send(peri_service *s, peri_prepared *p, const peri_request *r) {
    peri_job *j = (peri_job *)p;
    j->r.session = r->session;
    j->r.mark = r->mark;
    j->r.target = r->target;
    j->r.tag = r->tag;
    if (!put(s, j, NULL)) peri_job_free(j);
}
