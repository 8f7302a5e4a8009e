/* SPDX-License-Identifier: MIT
 *
 * models.h - the models that one script has open, and its requests to their engine threads.
 *
 * Opening runs on a thread of its own; the same file with the same options is opened once and
 * shared.  Events come from engine threads and are handed over on the loop's thread, where all of
 * this lives.  A stream that is not read keeps its events: at most as many as its context has
 * tokens. */
#ifndef PERI_SCRIPT_MODELS_H
#define PERI_SCRIPT_MODELS_H

#include <stdatomic.h>

#include "net/worker.h"
#include "run/load.h"
#include "run/service.h"
#include "script/lua_loop.h"

typedef struct peri_models peri_models;

/* done of total bytes; on the loop's thread. */
typedef void (*peri_models_progress_fn)(void *user, const char *path, uint64_t done,
                                        uint64_t total);

/* env is borrowed. */
peri_status peri_models_new(peri_lua_loop *s, const peri_load_env *env,
                            peri_models_progress_fn progress, void *user, peri_models **out,
                            peri_error *err);
/* After the Lua state was closed: cancels what runs, closes what is open.  Accepts NULL. */
void peri_models_free(peri_models *all);

/* ---- one open model -----------------------------------------------------------------------------
 */
typedef enum peri_shared_state {
    PERI_SHARED_LOADING,
    PERI_SHARED_READY,
    PERI_SHARED_FAILED
} peri_shared_state;

typedef struct peri_shared {
    peri_models *all;
    struct peri_shared *next;
    uint32_t n_ref;
    peri_shared_state state;
    peri_error error; /* PERI_SHARED_FAILED */
    peri_lua_waiters loaded_waiters;
    char *path, *device, *place; /* device and place may be NULL */
    peri_load_options options;
    peri_loaded loaded;         /* PERI_SHARED_READY */
    peri_service *service;      /* likewise */
    peri_policy_host *policies; /* of the engine's thread */
    /* The opening. */
    peri_job job;
    struct peri_loading *loading;
} peri_shared;

/* The model of that file with those options, opened now or before: *out holds a reference.  It may
 * still be loading; path and o are copied.  Only memory can fail here. */
peri_status peri_models_open(peri_models *all, const char *path, const peri_load_options *o,
                             peri_shared **out, peri_error *err);
void peri_shared_hold(peri_shared *m);
/* Accepts NULL.  The last one closes the model; while it loads, the loading is cancelled. */
void peri_shared_drop(peri_shared *m);

/* ---- requests -----------------------------------------------------------------------------------
 */

/* A TOKEN or PROGRESS event, kept until it is read. */
typedef struct peri_note {
    struct peri_note *next;
    struct peri_call *call;
    peri_post post;
    peri_event ev; /* its pointers lead into the same block */
} peri_note;

/* A request and what has come back. */
typedef struct peri_call {
    peri_shared *m;
    peri_request_kind kind;
    uint64_t id;
    peri_lua_waiters waiters;
    peri_note *first, **end; /* events that were not taken */
    bool is_final;
    peri_event final; /* text and tok belong to the call; error: see below */
    peri_error error; /* of the final event */
    /* Private.  undo: CLOSE or UNMARK of what the request makes, or CANCEL of the request itself,
     * prepared beforehand; whoever takes it out sends it or frees it. */
    bool is_closed, is_lost;
    _Atomic(peri_prepared *) undo;
    peri_post post;
} peri_call;

/* Submit r (its tag is ours).  Fails as peri_service_submit does. */
peri_status peri_call_new(peri_shared *m, const peri_request *r, peri_call **out, peri_error *err);
/* Take the oldest event, NULL when there is none now; freed with peri_free. */
peri_note *peri_call_take(peri_call *c);
void peri_call_cancel(peri_call *c); /* its final event says so */
/* Accepts NULL.  Wakes who waits for events; cancels FEED and GENERATE when they still run. */
void peri_call_close(peri_call *c);
/* Take over what an ended OPEN, FORK, RESTORE or MARK has made, which the call undoes at its end
 * otherwise: the CLOSE or UNMARK for it, to be sent or freed.  Once for each call. */
peri_prepared *peri_call_adopt(peri_call *c);
/* Send it, with the session and mark of r.  Cannot fail. */
void peri_shared_send(peri_shared *m, peri_prepared *undo, const peri_request *r);

#endif
