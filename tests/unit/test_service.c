/* SPDX-License-Identifier: MIT
 *
 * The engine thread: requests from many threads, cancellation, shutting down with work in flight,
 * and that nobody drives the model past it. */
#include "harness.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "rig.h"
#include "run/service.h"
#include "sched_rig.h"

static const peri_sampling warm = {.seed = 5, .temp = 1};

typedef struct rig {
    sr_rig r; /* under lock while the service lives */
    peri_service *s;
    pthread_mutex_t lock;
    pthread_cond_t news;
    uint64_t chained; /* session whose FEED is answered by a GENERATE from the event itself */
    sr_record *chain;
} rig;

static void on_event(void *user, const peri_event *ev) {
    rig *g = user;
    pthread_mutex_lock(&g->lock);
    sr_event(&g->r, ev);
    if (ev->is_final && g->chained && ev->session == g->chained && !g->chain) {
        peri_request r = {.kind = PERI_REQUEST_GENERATE,
                          .session = ev->session,
                          .tag = sr_tag(&g->r),
                          .generate = {.max = 20, .ignore_eog = true}};
        g->chain = g->r.record[r.tag];
        if (peri_service_submit(g->s, &r, NULL, NULL)) abort();
    }
    pthread_cond_broadcast(&g->news);
    pthread_mutex_unlock(&g->lock);
}

static rig *open_rig(uint32_t n_session) {
    static rig g;
    peri_error err;
    g = (rig){.chained = 0};
    sr_open(&g.r, 256, n_session, 48, false);
    pthread_mutex_init(&g.lock, NULL);
    pthread_cond_init(&g.news, NULL);
    assert_ok(peri_service_new(g.r.m->engine, g.r.m->tokenizer, on_event, &g, &g.s, &err), err);
    return &g;
}

static void close_rig(rig *g) {
    peri_service_free(g->s);
    for (size_t i = 1; i < SR_MAX_REQUEST && g->r.record[i]; i++)
        assert_int_equal(g->r.record[i]->n_final, 1);
    sr_close(&g->r);
    pthread_cond_destroy(&g->news);
    pthread_mutex_destroy(&g->lock);
}

static sr_record *submit(rig *g, peri_request r, uint64_t *id) {
    pthread_mutex_lock(&g->lock);
    r.tag = sr_tag(&g->r);
    sr_record *x = g->r.record[r.tag];
    pthread_mutex_unlock(&g->lock);
    if (peri_service_submit(g->s, &r, id, NULL)) abort();
    return x;
}

static sr_record *wait_for(rig *g, sr_record *x) {
    pthread_mutex_lock(&g->lock);
    while (!x->n_final)
        pthread_cond_wait(&g->news, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return x;
}

static sr_record *ask(rig *g, peri_request r) {
    return wait_for(g, submit(g, r, NULL));
}

static const peri_request generate_request = {.kind = PERI_REQUEST_GENERATE,
                                              .generate = {.max = 40, .ignore_eog = true}};

static sr_record *generate(rig *g, uint64_t session, uint64_t max, uint64_t *id) {
    peri_request r = generate_request;
    r.session = session;
    r.generate.max = max;
    return submit(g, r, id);
}

/* One user: talks twice in one session, and compares. */
typedef struct talker {
    rig *g;
    uint32_t salt;
    int32_t prompt[100], want[60];
    bool is_right;
} talker;

static void *talk(void *arg) {
    talker *t = arg;
    const peri_request open = {.kind = PERI_REQUEST_OPEN, .sampling = &warm};
    uint64_t s = ask(t->g, open)->final.session;
    const peri_request feed = {
        .kind = PERI_REQUEST_FEED, .session = s, .tok = t->prompt, .n_tok = 70 + t->salt};
    submit(t->g, feed, NULL);
    const sr_record *a = wait_for(t->g, generate(t->g, s, 25, NULL));
    const sr_record *b = wait_for(t->g, generate(t->g, s, 35, NULL));
    t->is_right = a->n_tok == 25 && b->n_tok == 35 &&
                  memcmp(a->tok, t->want, 25 * sizeof *a->tok) == 0 &&
                  memcmp(b->tok, t->want + 25, 35 * sizeof *b->tok) == 0;
    ask(t->g, (peri_request){.kind = PERI_REQUEST_CLOSE, .session = s});
    return NULL;
}

static void threads_share_the_engine_and_hear_their_own(void **state) {
    (void)state;
    enum { N = 5 };
    static talker t[N];
    pthread_t thread[N];
    rig *g = open_rig(2); /* less room than the five want at once */
    for (uint32_t i = 0; i < N; i++) {
        t[i] = (talker){.g = g, .salt = i};
        sr_fill(t[i].prompt, 100, i / 2); /* some say the same */
        sr_alone(t[i].prompt, 70 + i, &warm, t[i].want, 60);
    }
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, talk, &t[i]), 0);
    for (uint32_t i = 0; i < N; i++)
        pthread_join(thread[i], NULL);
    for (uint32_t i = 0; i < N; i++)
        assert_true(t[i].is_right);
    close_rig(g);
}

static void shutting_down_answers_everything_in_flight(void **state) {
    (void)state;
    int32_t prompt[100];
    sr_fill(prompt, 100, 1);
    for (uint64_t patience = 0; patience < 24; patience += 2) {
        rig *g = open_rig(2);
        for (size_t i = 0; i < 3; i++) {
            const peri_request open = {.kind = PERI_REQUEST_OPEN, .sampling = &warm};
            sr_record *x = submit(g, open, NULL);
            if (patience < 4) continue; /* these do not even know their session */
            uint64_t s = wait_for(g, x)->final.session;
            submit(
                g,
                (peri_request){.kind = PERI_REQUEST_FEED, .session = s, .tok = prompt, .n_tok = 90},
                NULL);
            generate(g, s, 100, NULL);
            generate(g, s, 5, NULL);
        }
        pthread_mutex_lock(&g->lock);
        while (patience >= 4 && g->r.n_event < patience)
            pthread_cond_wait(&g->news, &g->lock);
        pthread_mutex_unlock(&g->lock);
        close_rig(g); /* counts the final events */
    }
}

static void a_cancellation_ends_a_long_generation(void **state) {
    (void)state;
    int32_t prompt[10];
    uint64_t id;
    sr_fill(prompt, 10, 1);
    rig *g = open_rig(2);
    const peri_request open = {.kind = PERI_REQUEST_OPEN, .sampling = &warm};
    uint64_t s = ask(g, open)->final.session;
    ask(g, (peri_request){.kind = PERI_REQUEST_FEED, .session = s, .tok = prompt, .n_tok = 10});
    sr_record *x = generate(g, s, 0, &id);
    pthread_mutex_lock(&g->lock);
    while (x->n_tok < 3)
        pthread_cond_wait(&g->news, &g->lock);
    pthread_mutex_unlock(&g->lock);
    const sr_record *c = ask(g, (peri_request){.kind = PERI_REQUEST_CANCEL, .target = id});
    wait_for(g, x);
    if (c->final.status == PERI_OK) /* else it had filled its context in the meantime */
        assert_int_equal(x->final.why, PERI_WHY_CANCELLED);
    else
        assert_int_equal(x->final.why, PERI_WHY_CONTEXT);
    assert_int_equal(x->final.n_tok, 10 + x->n_tok);
    close_rig(g);
}

static void events_may_submit(void **state) {
    (void)state;
    int32_t prompt[10], want[20];
    sr_fill(prompt, 10, 1);
    rig *g = open_rig(2);
    sr_alone(prompt, 10, &warm, want, 20);
    const peri_request open = {.kind = PERI_REQUEST_OPEN, .sampling = &warm};
    uint64_t s = ask(g, open)->final.session;
    pthread_mutex_lock(&g->lock);
    g->chained = s;
    pthread_mutex_unlock(&g->lock);
    ask(g, (peri_request){.kind = PERI_REQUEST_FEED, .session = s, .tok = prompt, .n_tok = 10});
    pthread_mutex_lock(&g->lock);
    while (!g->chain || !g->chain->n_final)
        pthread_cond_wait(&g->news, &g->lock);
    pthread_mutex_unlock(&g->lock);
    assert_int_equal(g->chain->n_tok, 20);
    assert_memory_equal(g->chain->tok, want, sizeof want);
    close_rig(g);
}

static void a_model_is_driven_one_way_at_a_time(void **state) {
    (void)state;
    peri_error err;
    peri_session *s;
    peri_service *second;
    rig *g = open_rig(2);
    assert_int_equal(peri_session_new(g->r.m, NULL, &s, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "driven by a service");
    assert_int_equal(peri_model_restore(g->r.m, "x", &s, &err), PERI_E_INVALID);
    assert_int_equal(peri_model_step(g->r.m, NULL, 0, 0, &err), PERI_E_INVALID);
    assert_int_equal(peri_service_new(g->r.m->engine, NULL, on_event, g, &second, &err),
                     PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "has a service already");
    assert_null(second);
    peri_service_free(g->s);
    assert_ok(peri_session_new(g->r.m, NULL, &s, &err), err);
    assert_int_equal(peri_service_new(g->r.m->engine, g->r.m->tokenizer, on_event, g, &g->s, &err),
                     PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "1 sessions are driven directly");
    peri_session_free(s);
    assert_ok(peri_service_new(g->r.m->engine, g->r.m->tokenizer, on_event, g, &g->s, &err), err);
    close_rig(g);
}

static void without_memory_there_is_no_service_and_no_leak(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    sr_rig r;
    peri_error err;
    sr_open(&r, 256, 2, 48, false);
    uint64_t held = f->live;
    for (uint64_t n = 1; n < 8; n++) {
        peri_service *s;
        f->calls = 0;
        f->fail_at = n;
        peri_status st = peri_service_new(r.m->engine, r.m->tokenizer, sr_event, &r, &s, &err);
        bool was_reached = f->calls >= n;
        f->fail_at = 0;
        assert_int_equal(st, was_reached ? PERI_E_NOMEM : PERI_OK);
        peri_service_free(s);
        assert_int_equal(f->live, held);
        assert_false(r.m->engine->is_served);
    }
    sr_close(&r);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

static void a_prepared_request_needs_no_memory(void **state) {
    (void)state;
    enum { N = 2 };
    peri_fault *f = peri_fault_alloc_install();
    rig *g = open_rig(N);
    peri_error err;
    uint64_t session[N];
    peri_prepared *closing[N];
    for (int i = 0; i < N; i++) {
        session[i] =
            ask(g, (peri_request){.kind = PERI_REQUEST_OPEN, .sampling = &warm})->final.session;
        assert_ok(peri_prepare(PERI_REQUEST_CLOSE, &closing[i], &err), err);
    }
    for (int i = 0; i < N; i++) {
        pthread_mutex_lock(&g->lock);
        peri_request r = {.session = session[i], .tag = sr_tag(&g->r)};
        pthread_mutex_unlock(&g->lock);
        f->calls = 0;
        f->fail_at = 1;
        f->persistent = true;
        peri_service_send(g->s, closing[i], &r);
        const sr_record *x = wait_for(g, g->r.record[r.tag]);
        f->fail_at = 0;
        assert_int_equal(x->final.status, PERI_OK);
    }
    for (int i = 0; i < N; i++) {
        const sr_record *x =
            ask(g, (peri_request){.kind = PERI_REQUEST_TOKENS, .session = session[i]});
        assert_int_equal(x->final.status, PERI_E_NOT_FOUND);
    }
    assert_ok(peri_prepare(PERI_REQUEST_CLOSE, &closing[0], &err), err);
    peri_prepared_free(closing[0]);
    close_rig(g);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_the_engine_and_hear_their_own),
        cmocka_unit_test(shutting_down_answers_everything_in_flight),
        cmocka_unit_test(a_cancellation_ends_a_long_generation),
        cmocka_unit_test(events_may_submit),
        cmocka_unit_test(a_model_is_driven_one_way_at_a_time),
        cmocka_unit_test(without_memory_there_is_no_service_and_no_leak),
        cmocka_unit_test(a_prepared_request_needs_no_memory),
    };
    int rc = peri_run_tests(tests);
    rig_end();
    return rc;
}
