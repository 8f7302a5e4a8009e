/* SPDX-License-Identifier: MIT
 *
 * models.c - see models.h.
 *
 * Who lives how long: Lua handles, calls that have not ended, and the loading job each hold a
 * reference to their model; so a service is freed when nothing of it is under way, on the loop's
 * thread.  A call lives until it has ended and its handle was closed.  At the end of the script
 * peri_models_free closes the services first, which ends the calls, which drops the references. */
#include "script/models.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "script/lua_policy.h"

#include "base/compiler.h"

struct peri_models {
    peri_lua_loop *s;
    peri_loop *loop;
    peri_load_env env;
    peri_models_progress_fn progress;
    void *user;
    peri_worker *worker; /* made with the first model */
    peri_shared *first;
};

/* What the loading thread and the loop's thread both touch. */
struct peri_loading {
    peri_shared *m;
    peri_loaded loaded;
    peri_status status;
    peri_error error;
    pthread_mutex_t lock; /* guards done, total, is_posted */
    uint64_t done, total;
    bool is_posted;
    peri_post post;
    atomic_bool is_unwanted;
};

/* ---- requests -----------------------------------------------------------------------------------
 */

void peri_shared_send(peri_shared *m, peri_prepared *undo, const peri_request *r) {
    if (m->service)
        peri_service_send(m->service, undo, r);
    else
        peri_prepared_free(undo);
}

/* How a request of that kind is undone. */
static peri_request_kind undo_kind(peri_request_kind k) {
    switch (k) {
    case PERI_REQUEST_OPEN:
    case PERI_REQUEST_FORK:
    case PERI_REQUEST_RESTORE:
        return PERI_REQUEST_CLOSE;
    case PERI_REQUEST_MARK:
        return PERI_REQUEST_UNMARK;
    default:
        return PERI_REQUEST_CANCEL;
    }
}

peri_prepared *peri_call_adopt(peri_call *c) {
    return atomic_exchange(&c->undo, NULL);
}

/* Cancel the request, once; any thread. */
static void cancel(peri_call *c, uint64_t id) {
    if (undo_kind(c->kind) != PERI_REQUEST_CANCEL) return;
    peri_prepared *undo = atomic_exchange(&c->undo, NULL);
    if (undo) peri_shared_send(c->m, undo, &(peri_request){.target = id});
}

static void free_call(peri_call *c) {
    peri_prepared *undo = peri_call_adopt(c);
    peri_request made = {.session = c->final.session, .mark = c->final.mark};
    if (undo && !c->final.status && undo_kind(c->kind) != PERI_REQUEST_CANCEL)
        peri_shared_send(c->m, undo, &made); /* nobody took it */
    else
        peri_prepared_free(undo);
    for (peri_note *n = peri_call_take(c); n; n = peri_call_take(c))
        peri_free(n);
    peri_free((char *)(uintptr_t)c->final.text);
    peri_free((int32_t *)(uintptr_t)c->final.tok);
    peri_shared *m = c->m;
    peri_free(c);
    peri_shared_drop(m);
}

peri_note *peri_call_take(peri_call *c) {
    peri_note *n = c->first;
    if (n) {
        c->first = n->next;
        if (!c->first) c->end = &c->first;
    }
    return n;
}

static void on_note(void *user) {
    peri_note *n = user;
    peri_call *c = n->call;
    if (c->is_closed) {
        peri_free(n);
        return;
    }
    n->next = NULL;
    *c->end = n;
    c->end = &n->next;
    peri_lua_wake(c->m->all->s, &c->waiters);
}

static void on_final(void *user) {
    peri_call *c = user;
    c->is_final = true;
    peri_lua_release(c->m->all->s);
    if (c->is_closed)
        free_call(c);
    else
        peri_lua_wake(c->m->all->s, &c->waiters);
}

/* ---- on the engine thread ---- */

static peri_note *copy_note(const peri_event *ev) {
    size_t text = ev->text_size + 1, top = ev->n_top * sizeof *ev->top;
    peri_note *n = peri_alloc(sizeof *n + top + text);
    if (!n) return NULL;
    char *at = (char *)(n + 1);
    n->ev = *ev;
    n->ev.error = "";
    n->ev.tok = NULL;
    n->ev.top = (const peri_token_logprob *)(void *)at;
    if (top) memcpy(at, ev->top, top);
    if (ev->text_size) memcpy(at + top, ev->text, ev->text_size);
    at[top + ev->text_size] = '\0';
    n->ev.text = at + top;
    return n;
}

static void keep_final(peri_call *c, const peri_event *ev) {
    c->final = *ev;
    c->final.text = NULL;
    c->final.tok = NULL;
    c->final.top = NULL;
    c->final.error = "";
    c->error.code = ev->status;
    if (ev->status) peri_fail(&c->error, ev->status, "%s", ev->error);
    if (ev->text_size) {
        c->final.text = peri_str_dup((peri_str){ev->text, ev->text_size});
        c->is_lost = c->is_lost || !c->final.text;
    }
    if (ev->tok && ev->n_tok > 0) {
        int32_t *tok = peri_alloc_array((size_t)ev->n_tok, sizeof *tok);
        if (tok) memcpy(tok, ev->tok, (size_t)ev->n_tok * sizeof *tok);
        c->final.tok = tok;
        c->is_lost = c->is_lost || !tok;
    }
    if (c->is_lost)
        c->final.status = peri_fail(&c->error, PERI_E_NOMEM, "out of memory for an event");
}

static void on_event(void *user, const peri_event *ev) {
    peri_shared *m = user;
    peri_call *c = (peri_call *)(uintptr_t)ev->tag;
    if (!c) return;
    if (ev->is_final) {
        keep_final(c, ev);
        c->post = (peri_post){.fn = on_final, .user = c};
        peri_loop_post(m->all->loop, &c->post);
        return;
    }
    peri_note *n = c->is_lost ? NULL : copy_note(ev);
    if (n) {
        n->call = c;
        n->post = (peri_post){.fn = on_note, .user = n};
        peri_loop_post(m->all->loop, &n->post);
    } else if (!c->is_lost) { /* a text with a hole is worth nothing */
        c->is_lost = true;
        cancel(c, ev->request);
    }
}

/* ---- on the loop's thread ---- */

peri_status peri_call_new(peri_shared *m, const peri_request *r, peri_call **out, peri_error *err) {
    *out = NULL;
    peri_call *c = peri_calloc(1, sizeof *c);
    if (!c) return peri_fail(err, PERI_E_NOMEM, "out of memory for a request");
    c->m = m;
    c->kind = r->kind;
    c->end = &c->first;
    peri_request mine = *r;
    peri_prepared *undo;
    mine.tag = (uint64_t)(uintptr_t)c;
    peri_status st = peri_prepare(undo_kind(r->kind), &undo, err);
    atomic_init(&c->undo, undo);
    if (!st) st = peri_service_submit(m->service, &mine, &c->id, err);
    if (st) {
        peri_prepared_free(undo);
        peri_free(c);
        return st;
    }
    peri_shared_hold(m);
    peri_lua_hold(m->all->s);
    *out = c;
    return PERI_OK;
}

void peri_call_cancel(peri_call *c) {
    if (!c->is_final) cancel(c, c->id);
}

void peri_call_close(peri_call *c) {
    if (!c) return;
    c->is_closed = true;
    peri_lua_wake(c->m->all->s, &c->waiters); /* another task may wait for an event */
    if (c->is_final)
        free_call(c);
    else if (c->kind == PERI_REQUEST_FEED || c->kind == PERI_REQUEST_GENERATE)
        peri_call_cancel(c);
}

/* ---- opening ------------------------------------------------------------------------------------
 */

static void tell_progress(void *user) {
    struct peri_loading *l = user;
    pthread_mutex_lock(&l->lock);
    uint64_t done = l->done, total = l->total;
    l->is_posted = false;
    pthread_mutex_unlock(&l->lock);
    peri_models *all = l->m->all;
    if (all->progress) all->progress(all->user, l->m->path, done, total);
}

static int on_progress(void *user, uint64_t done, uint64_t total) {
    struct peri_loading *l = user;
    pthread_mutex_lock(&l->lock);
    l->done = done;
    l->total = total;
    if (!l->is_posted) {
        l->is_posted = true;
        l->post = (peri_post){.fn = tell_progress, .user = l};
        peri_loop_post(l->m->all->loop, &l->post);
    }
    pthread_mutex_unlock(&l->lock);
    return atomic_load(&l->is_unwanted);
}

static void run_loading(void *user) {
    peri_shared *m = user;
    struct peri_loading *l = m->loading;
    peri_load_options o = m->options;
    o.progress = on_progress;
    o.progress_user = l;
    l->status = peri_loaded_init(&l->loaded, &m->all->env, m->path, &o, &l->error);
}

static void free_loading(peri_shared *m) {
    if (!m->loading) return;
    pthread_mutex_destroy(&m->loading->lock);
    peri_free(m->loading);
    m->loading = NULL;
}

/* Posted after every report of progress, so none is pending any more. */
static void loading_done(void *user) {
    peri_shared *m = user;
    struct peri_loading *l = m->loading;
    peri_status st = l->status;
    m->error = l->error;
    if (!m->job.was_run)
        st = peri_fail(&m->error, PERI_E_CANCELLED, "%s: loading was cancelled", m->path);
    if (!st && atomic_load(&l->is_unwanted)) {
        peri_loaded_fini(&l->loaded);
        st = peri_fail(&m->error, PERI_E_CANCELLED, "%s: loading was cancelled", m->path);
    }
    if (!st) {
        m->loaded = l->loaded;
        st = peri_lua_policies_new(&m->policies, &m->error);
        m->loaded.engine->host = m->policies;
        if (!st)
            st = peri_service_new(m->loaded.engine, m->loaded.tokenizer, on_event, m, &m->service,
                                  &m->error);
        if (st) peri_loaded_fini(&m->loaded);
    }
    m->state = st ? PERI_SHARED_FAILED : PERI_SHARED_READY;
    peri_lua_release(m->all->s);
    peri_lua_wake(m->all->s, &m->loaded_waiters);
    free_loading(m);
    peri_shared_drop(m);
}

/* NULL is the empty text. */
static bool is_same_text(const char *a, const char *b) {
    return !strcmp(a ? a : "", b ? b : "");
}

static bool is_same(const peri_shared *m, const char *path, const peri_load_options *o) {
    return m->state != PERI_SHARED_FAILED && !(m->loading && m->loading->is_unwanted) &&
           !strcmp(m->path, path) && is_same_text(m->device, o->device) &&
           is_same_text(m->place, o->place) && m->options.n_ctx == o->n_ctx &&
           m->options.n_session == o->n_session && m->options.n_batch == o->n_batch &&
           m->options.kv_type == o->kv_type && m->options.weights == o->weights;
}

static void free_shared(peri_shared *m) {
    peri_service_free(m->service);
    peri_loaded_fini(&m->loaded);
    peri_lua_policies_free(m->policies);
    free_loading(m);
    peri_free(m->path);
    peri_free(m->device);
    peri_free(m->place);
    peri_free(m);
}

static peri_status begin_loading(peri_models *all, peri_shared *m, peri_error *err) {
    m->loading = peri_calloc(1, sizeof *m->loading);
    if (!m->loading) return peri_fail(err, PERI_E_NOMEM, "out of memory opening %s", m->path);
    m->loading->m = m;
    pthread_mutex_init(&m->loading->lock, NULL);
    atomic_init(&m->loading->is_unwanted, false);
    peri_status st = all->worker ? PERI_OK : peri_worker_new(all->loop, false, &all->worker, err);
    if (st) return st;
    m->job = (peri_job){.run = run_loading, .done = loading_done, .user = m};
    peri_worker_submit(all->worker, &m->job);
    peri_lua_hold(all->s);
    return PERI_OK;
}

peri_status peri_models_open(peri_models *all, const char *path, const peri_load_options *o,
                             peri_shared **out, peri_error *err) {
    *out = NULL;
    for (peri_shared *m = all->first; m; m = m->next) {
        if (!is_same(m, path, o)) continue;
        peri_shared_hold(m);
        *out = m;
        return PERI_OK;
    }
    peri_shared *m = peri_calloc(1, sizeof *m);
    if (!m) return peri_fail(err, PERI_E_NOMEM, "out of memory opening %s", path);
    m->all = all;
    m->options = *o;
    m->path = peri_str_dup(peri_str_of(path));
    m->device = o->device ? peri_str_dup(peri_str_of(o->device)) : NULL;
    m->place = o->place ? peri_str_dup(peri_str_of(o->place)) : NULL;
    m->options.device = m->device;
    m->options.place = m->place;
    peri_status st = m->path && (m->device || !o->device) && (m->place || !o->place)
                         ? PERI_OK
                         : peri_fail(err, PERI_E_NOMEM, "out of memory opening %s", path);
    if (!st) st = begin_loading(all, m, err);
    if (st) {
        free_shared(m);
        return st;
    }
    m->n_ref = 2; /* the caller's and the job's */
    m->next = all->first;
    all->first = m;
    *out = m;
    return PERI_OK;
}

void peri_shared_hold(peri_shared *m) {
    m->n_ref++;
}

void peri_shared_drop(peri_shared *m) {
    if (!m) return;
    m->n_ref--;
    if (m->n_ref == 1 && m->loading) atomic_store(&m->loading->is_unwanted, true);
    if (m->n_ref) return;
    peri_shared **at = &m->all->first;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    free_shared(m);
}

/* ---- all of them --------------------------------------------------------------------------------
 */

peri_status peri_models_new(peri_lua_loop *s, const peri_load_env *env,
                            peri_models_progress_fn progress, void *user, peri_models **out,
                            peri_error *err) {
    *out = peri_calloc(1, sizeof **out);
    if (!*out) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    **out = (peri_models){
        .s = s, .loop = peri_lua_loop_base(s), .env = *env, .progress = progress, .user = user};
    return PERI_OK;
}

void peri_models_free(peri_models *all) {
    if (!all) return;
    for (peri_shared *m = all->first; m; m = m->next)
        if (m->loading) atomic_store(&m->loading->is_unwanted, true);
    peri_worker_free(all->worker);
    all->worker = NULL;
    while (peri_loop_drain(all->loop))
        ;
    for (peri_shared *m = all->first; m; m = m->next) {
        peri_service_free(m->service);
        m->service = NULL;
    }
    while (peri_loop_drain(all->loop))
        ;
    peri_free(all);
}
