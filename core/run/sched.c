/* SPDX-License-Identifier: MIT
 *
 * sched.c - requests in, answers out: sessions by id, their queues, and all requests that need no
 * step of the engine. */
#include "run/sched.h"

#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "run/sched_int.h"

#include "base/compiler.h"

peri_status peri_sched_new(peri_engine *e, const peri_tokenizer *t, peri_event_fn event, void *user,
                           peri_sched **out, peri_error *err) {
    peri_sched *s = peri_calloc(1, sizeof *s);
    *out = NULL;
    if (s) {
        /* twice: each that generates may have one beside it */
        s->feed = peri_alloc_array(2 * (size_t)e->o.n_session, sizeof *s->feed);
        s->fed = peri_alloc_array(2 * (size_t)e->o.n_session, sizeof *s->fed);
    }
    if (!s || !s->feed || !s->fed) {
        peri_sched_free(s);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a scheduler");
    }
    s->e = e;
    s->tokenizer = t;
    s->event = event;
    s->user = user;
    *out = s;
    return PERI_OK;
}

/* ---- answers --------------------------------------------------------------------------------- */

void peri_sched_emit(peri_sched *s, const peri_job *j, uint64_t session, peri_event *ev) {
    ev->request = j->id;
    ev->tag = j->r.tag;
    if (!ev->session) ev->session = session; /* FORK has set its child's */
    if (!ev->error) ev->error = "";
    if (!ev->text) ev->text = "";
    s->event(s->user, ev);
}

void peri_sched_close_job(peri_sched *s, peri_job *j, uint64_t session, peri_status st,
                          const peri_error *err, peri_event *ev) {
    ev->kind = PERI_EVENT_FINAL;
    ev->is_final = true;
    ev->status = st;
    if (st) ev->error = err->text;
    if (j->peer) peri_beside_release(s, j);
    peri_sched_emit(s, j, session, ev);
    peri_job_free(j);
}

peri_job *peri_sched_take_first(peri_sched *s, peri_slot *slot) {
    peri_job *j = slot->first;
    slot->first = j->next;
    if (!slot->first) slot->last = NULL;
    slot->used = ++s->clock;
    slot->is_in = false;
    if (!slot->s->swapped) peri_session_trim(slot->s);
    size_t n = 0;
    for (size_t i = 0; i < s->n_run; i++)
        if (s->run[i] != slot) s->run[n++] = s->run[i];
    s->n_run = n;
    return j;
}

void peri_sched_finish(peri_sched *s, peri_slot *slot, peri_status st, const peri_error *err,
                       peri_event *ev) {
    peri_job *j = peri_sched_take_first(s, slot);
    ev->n_tok = slot->s->n_tok;
    peri_sched_close_job(s, j, slot->id, st, err, ev);
}

void peri_sched_abort(peri_sched *s, peri_slot *slot, peri_status st, const peri_error *err) {
    peri_job *j = slot->first;
    peri_event ev = {0};
    if (j->r.kind == PERI_REQUEST_BESIDE) {
        peri_beside_abort(s, slot, st, err);
        return;
    }
    if (j->r.kind == PERI_REQUEST_GENERATE) {
        ev.why = st == PERI_E_CANCELLED ? PERI_WHY_CANCELLED : PERI_WHY_ERROR;
        if (ev.why == PERI_WHY_CANCELLED) st = PERI_OK;
        if (j->is_running) {
            peri_generate_finish(s, slot, ev.why, st, err);
            return;
        }
    }
    if (j->r.kind == PERI_REQUEST_FEED && j->is_running) {
        peri_error ignored; /* going back cannot fail */
        peri_session_rewind(slot->s, j->n_before, &ignored);
    }
    peri_sched_finish(s, slot, st, err, &ev);
}

/* ---- sessions -------------------------------------------------------------------------------- */

static peri_slot *find(const peri_sched *s, uint64_t id, size_t *at) {
    for (size_t i = 0; i < s->n_slot; i++)
        if (s->slot[i]->id == id) {
            if (at) *at = i;
            return s->slot[i];
        }
    return NULL;
}

/* Give a session an id; it is freed on failure. */
static peri_status adopt(peri_sched *s, peri_session *x, uint64_t *id, peri_error *err) {
    peri_slot *slot = peri_calloc(1, sizeof *slot);
    if (slot && s->n_slot == s->room_slot) {
        size_t room = 2 * s->room_slot + 4;
        peri_slot **all = peri_resize_array(s->slot, room, sizeof(peri_slot *));
        if (all) s->slot = all;
        peri_slot **run = all ? peri_resize_array(s->run, room, sizeof(peri_slot *)) : NULL;
        if (run) {
            s->run = run;
            s->room_slot = room;
        } else {
            peri_free(slot);
            slot = NULL;
        }
    }
    if (!slot) {
        peri_session_free(x);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for another session");
    }
    slot->s = x;
    slot->id = *id = ++s->last_id;
    slot->used = ++s->clock;
    s->slot[s->n_slot++] = slot;
    return PERI_OK;
}

static void drop_slot(peri_sched *s, size_t at) {
    peri_slot *slot = s->slot[at];
    peri_error err;
    peri_fail(&err, PERI_E_CANCELLED, "the session was closed");
    while (slot->first)
        peri_sched_abort(s, slot, PERI_E_CANCELLED, &err);
    while (slot->mark) {
        peri_slot_mark *m = slot->mark;
        slot->mark = m->next;
        peri_mark_free(m->mark);
        peri_free(m);
    }
    peri_session_free(slot->s);
    peri_free(slot);
    memmove(&s->slot[at], &s->slot[at + 1], (--s->n_slot - at) * sizeof(peri_slot *));
}

void peri_sched_free(peri_sched *s) {
    if (!s) return;
    while (s->n_slot)
        drop_slot(s, s->n_slot - 1);
    peri_free(s->slot);
    peri_free(s->run);
    peri_free(s->feed);
    peri_free(s->fed);
    peri_free(s);
}

/* ---- requests that queue --------------------------------------------------------------------- */

static peri_status mark(peri_sched *s, peri_slot *slot, peri_event *ev, peri_error *err) {
    peri_slot_mark *m = peri_alloc(sizeof *m);
    if (!m) return peri_fail(err, PERI_E_NOMEM, "out of memory for a mark");
    peri_status st = peri_session_mark(slot->s, &m->mark, err);
    if (st) {
        peri_free(m);
        return st;
    }
    m->id = ev->mark = ++s->last_id;
    m->next = slot->mark;
    slot->mark = m;
    return PERI_OK;
}

/* Where the list points to the mark. */
static peri_status find_mark(peri_slot *slot, uint64_t id, peri_slot_mark ***out, peri_error *err) {
    for (*out = &slot->mark; **out; *out = &(**out)->next)
        if ((**out)->id == id) return PERI_OK;
    return peri_fail(err, PERI_E_NOT_FOUND, "the session has no mark %llu", (unsigned long long)id);
}

static peri_status unmark(peri_slot *slot, uint64_t id, peri_error *err) {
    peri_slot_mark **at, *m;
    peri_status st = find_mark(slot, id, &at, err);
    if (st) return st;
    m = *at;
    *at = m->next;
    peri_mark_free(m->mark);
    peri_free(m);
    return PERI_OK;
}

static peri_status rewind_to(peri_slot *slot, const peri_request *r, peri_error *err) {
    peri_slot_mark **at;
    if (!r->mark) return peri_session_rewind(slot->s, r->position, err);
    peri_status st = find_mark(slot, r->mark, &at, err);
    return st ? st : peri_session_rewind_to(slot->s, (*at)->mark, err);
}

static peri_status fork_session(peri_sched *s, const peri_slot *slot, peri_event *ev,
                                peri_error *err) {
    peri_session *child;
    peri_status st = peri_session_fork(slot->s, &child, err);
    return st ? st : adopt(s, child, &ev->session, err);
}

static peri_status sampling(peri_slot *slot, const peri_sampling *p, peri_error *err) {
    peri_sampling own = *p;
    if (!own.stream) own.stream = slot->s->stream;
    return peri_session_set_sampling(slot->s, &own, err);
}

void peri_sched_answer(peri_sched *s, peri_slot *slot) {
    const peri_request *r = &slot->first->r;
    peri_event ev = {0};
    peri_error err;
    peri_status st = PERI_OK;
    switch (r->kind) {
    case PERI_REQUEST_FORK:
        st = fork_session(s, slot, &ev, &err);
        break;
    case PERI_REQUEST_SAVE:
        st = peri_session_save(slot->s, r->path, &err);
        break;
    case PERI_REQUEST_MARK:
        st = mark(s, slot, &ev, &err);
        break;
    case PERI_REQUEST_UNMARK:
        st = unmark(slot, r->mark, &err);
        break;
    case PERI_REQUEST_REWIND:
        st = rewind_to(slot, r, &err);
        break;
    case PERI_REQUEST_SAMPLING:
        st = sampling(slot, r->sampling, &err);
        break;
    case PERI_REQUEST_STATS:
        peri_session_stats_get(slot->s, &ev.stats);
        break;
    default:
        ev.tok = slot->s->tok;
        break; /* TOKENS; finish says how many */
    }
    peri_sched_finish(s, slot, st, &err, &ev);
}

static bool needs_step(const peri_slot *slot) {
    peri_request_kind k = slot->first->r.kind;
    bool needs_blocks = k == PERI_REQUEST_FORK || k == PERI_REQUEST_SAVE;
    return k == PERI_REQUEST_FEED || k == PERI_REQUEST_GENERATE || k == PERI_REQUEST_BESIDE ||
           (needs_blocks && slot->s->swapped);
}

/* The slot's first request begins. */
static void begin(peri_sched *s, peri_slot *slot) {
    peri_job *j = slot->first;
    peri_error err;
    peri_status st = PERI_OK;
    if (!needs_step(slot)) {
        peri_sched_answer(s, slot);
        return;
    }
    if (j->r.kind == PERI_REQUEST_FEED) {
        st = peri_session_check(slot->s, j->r.tok, j->r.n_tok, &err);
        j->n_before = slot->s->n_tok;
    }
    if (j->r.kind == PERI_REQUEST_GENERATE) st = peri_generate_begin(slot, &err);
    if (st) {
        peri_sched_abort(s, slot, st, &err);
        return;
    }
    j->is_running = true;
    s->run[s->n_run++] = slot;
}

void peri_sched_begin(peri_sched *s) {
    for (size_t i = 0; i < s->n_slot; i++)
        while (s->slot[i]->first && !s->slot[i]->first->is_running)
            begin(s, s->slot[i]);
}

void peri_sched_unqueue(peri_slot *slot, const peri_job *j) {
    peri_job *before = slot->first;
    while (before->next != j)
        before = before->next;
    before->next = j->next;
    if (slot->last == j) slot->last = before;
}

void peri_sched_queue(peri_slot *slot, peri_job *j) {
    if (slot->last)
        slot->last->next = j;
    else
        slot->first = j;
    slot->last = j;
}

/* ---- requests that do not queue -------------------------------------------------------------- */

static void open_session(peri_sched *s, peri_job *j) {
    peri_event ev = {0};
    peri_error err;
    peri_session *x;
    uint64_t id = 0;
    peri_status st = peri_session_open(s->e, s->tokenizer, j->r.sampling, &x, &err);
    if (!st) st = adopt(s, x, &id, &err);
    peri_sched_close_job(s, j, id, st, &err, &ev);
}

static void restore(peri_sched *s, peri_job *j) {
    peri_event ev = {0};
    peri_error err;
    peri_session *x;
    uint64_t id = 0;
    peri_status st =
        peri_session_load(s->e, s->tokenizer, j->r.path, j->r.sampling, true, &x, &err);
    if (!st) {
        ev.n_tok = x->n_tok;
        ev.tok = x->tok;
        st = adopt(s, x, &id, &err);
    }
    if (st) ev = (peri_event){0};
    peri_sched_close_job(s, j, id, st, &err, &ev);
}

static void close_session(peri_sched *s, peri_job *j) {
    peri_event ev = {0};
    peri_error err;
    size_t at;
    peri_status st = PERI_OK;
    if (find(s, j->r.session, &at))
        drop_slot(s, at);
    else
        st = peri_fail(&err, PERI_E_NOT_FOUND, "no session %llu", (unsigned long long)j->r.session);
    peri_sched_close_job(s, j, j->r.session, st, &err, &ev);
}

/* Take the target out of its queue; it ends before the cancellation does. */
static bool cancel_in(peri_sched *s, peri_slot *slot, uint64_t target) {
    peri_error err;
    peri_event ev = {0};
    peri_fail(&err, PERI_E_CANCELLED, "cancelled");
    if (slot->first && slot->first->id == target) {
        peri_sched_abort(s, slot, PERI_E_CANCELLED, &err);
        return true;
    }
    for (peri_job *j = slot->first; j && j->next; j = j->next) {
        peri_job *gone = j->next;
        if (gone->id != target) continue;
        peri_sched_unqueue(slot, gone);
        bool is_text = gone->r.kind == PERI_REQUEST_GENERATE;
        if (is_text) ev.why = PERI_WHY_CANCELLED;
        ev.n_tok = slot->s->n_tok;
        peri_sched_close_job(s, gone, slot->id, is_text ? PERI_OK : PERI_E_CANCELLED, &err, &ev);
        return true;
    }
    return false;
}

static void cancel(peri_sched *s, peri_job *j) {
    peri_event ev = {0};
    peri_error err;
    peri_status st = PERI_OK;
    bool found = false;
    for (size_t i = 0; i < s->n_slot && !found; i++)
        found = cancel_in(s, s->slot[i], j->r.target);
    if (!found)
        st = peri_fail(&err, PERI_E_NOT_FOUND, "request %llu has ended or never was",
                       (unsigned long long)j->r.target);
    peri_sched_close_job(s, j, 0, st, &err, &ev);
}

static void engine_stats(peri_sched *s, peri_job *j) {
    peri_event ev = {0};
    peri_engine_stats_get(s->e, &ev.stats);
    peri_sched_close_job(s, j, 0, PERI_OK, NULL, &ev);
}

static void enqueue(peri_sched *s, peri_job *j) {
    peri_slot *slot = find(s, j->r.session, NULL);
    if (!slot) {
        peri_event ev = {.why =
                             j->r.kind == PERI_REQUEST_GENERATE ? PERI_WHY_ERROR : PERI_WHY_NONE};
        peri_error err;
        peri_status st = peri_fail(&err, PERI_E_NOT_FOUND, "%s: no session %llu",
                                   peri_request_name(j->r.kind), (unsigned long long)j->r.session);
        peri_sched_close_job(s, j, j->r.session, st, &err, &ev);
        return;
    }
    peri_slot *beside = NULL;
    peri_error err;
    peri_status st = PERI_OK;
    if (j->r.kind == PERI_REQUEST_GENERATE && j->r.generate.beside) {
        beside = find(s, j->r.generate.beside, NULL);
        st = beside ? peri_beside_join(j, slot, beside, &err)
                    : peri_fail(&err, PERI_E_NOT_FOUND, "GENERATE: no session %llu to be beside",
                                (unsigned long long)j->r.generate.beside);
    }
    if (st) {
        peri_event ev = {.why = PERI_WHY_ERROR, .n_tok = slot->s->n_tok};
        peri_sched_close_job(s, j, slot->id, st, &err, &ev);
        return;
    }
    peri_sched_queue(slot, j);
    if (beside) peri_sched_queue(beside, j->peer);
}

void peri_sched_put(peri_sched *s, peri_job *j) {
    switch (j->r.kind) {
    case PERI_REQUEST_OPEN:
        open_session(s, j);
        break;
    case PERI_REQUEST_RESTORE:
        restore(s, j);
        break;
    case PERI_REQUEST_CLOSE:
        close_session(s, j);
        break;
    case PERI_REQUEST_CANCEL:
        cancel(s, j);
        break;
    default:
        if (j->r.kind == PERI_REQUEST_STATS && !j->r.session)
            engine_stats(s, j);
        else
            enqueue(s, j);
    }
}
