/* SPDX-License-Identifier: MIT
 *
 * worker.h - a thread for work that blocks: jobs run there one after the other, and each tells the
 * loop when it is done. */
#ifndef PERI_NET_WORKER_H
#define PERI_NET_WORKER_H

#include "net/loop.h"

typedef struct peri_worker peri_worker;

/* One job, embedded in what it is about, which lives until done was called. */
typedef struct peri_job {
    struct peri_job *next;
    void (*run)(void *user);  /* on the worker's thread */
    void (*done)(void *user); /* on the loop's thread, after run; also when run was left out */
    void *user;
    bool was_run;   /* false in done: the worker was freed before its turn */
    peri_post post; /* the worker's */
} peri_job;

/* want_signals: the thread takes part in the process's signals as its creator does; otherwise it
 * blocks all but those of faults. */
peri_status peri_worker_new(peri_loop *l, bool want_signals, peri_worker **out, peri_error *err);
/* Accepts NULL.  Waits for the job that runs; those not begun are done without having been run.
 * Afterwards peri_loop_drain gives out what is left. */
void peri_worker_free(peri_worker *w);
/* The loop's thread.  Cannot fail. */
void peri_worker_submit(peri_worker *w, peri_job *job);

#endif
