/* SPDX-License-Identifier: MIT
 *
 * worker.c - see worker.h. */
#include "net/worker.h"

#include <pthread.h>
#include <signal.h>

#include "base/alloc.h"
#include "base/status.h"

#include "base/compiler.h"

struct peri_worker {
    peri_loop *loop;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the fields below */
    pthread_cond_t changed;
    peri_job *first, *last;
    bool is_ending;
};

static void on_done(void *user) {
    peri_job *job = user;
    job->done(job->user);
}

static void finish(peri_worker *w, peri_job *job) {
    job->post = (peri_post){.fn = on_done, .user = job};
    peri_loop_post(w->loop, &job->post);
}

static void *work(void *user) {
    peri_worker *w = user;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->first && !w->is_ending)
            pthread_cond_wait(&w->changed, &w->lock);
        peri_job *job = w->first;
        if (!job) break;
        w->first = job->next;
        job->was_run = !w->is_ending;
        pthread_mutex_unlock(&w->lock);
        if (job->was_run) job->run(job->user);
        finish(w, job);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Faults are delivered to the thread that caused them and must not be blocked. */
static int start(peri_worker *w, bool want_signals) {
    sigset_t all, kept;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    if (!want_signals) pthread_sigmask(SIG_SETMASK, &all, &kept);
    int rc = pthread_create(&w->thread, NULL, work, w);
    if (!want_signals) pthread_sigmask(SIG_SETMASK, &kept, NULL);
    return rc;
}

peri_status peri_worker_new(peri_loop *l, bool want_signals, peri_worker **out, peri_error *err) {
    *out = NULL;
    peri_worker *w = peri_calloc(1, sizeof *w);
    if (!w) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    w->loop = l;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    int rc = start(w, want_signals);
    if (rc) {
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->lock);
        peri_free(w);
        return peri_fail(err, PERI_E_OTHER, "cannot start a thread: %s", peri_errno_text(rc));
    }
    *out = w;
    return PERI_OK;
}

void peri_worker_free(peri_worker *w) {
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->is_ending = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    peri_free(w);
}

void peri_worker_submit(peri_worker *w, peri_job *job) {
    job->next = NULL;
    pthread_mutex_lock(&w->lock);
    if (w->first)
        w->last->next = job;
    else
        w->first = job;
    w->last = job;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}
