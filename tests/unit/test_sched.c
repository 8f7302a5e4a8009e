/* SPDX-License-Identifier: MIT
 *
 * The batching loop: what a session says does not depend on who runs beside it, prompts and
 * generations share steps fairly, room is found or refused with numbers, every request ends in one
 * final event. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io_int.h"
#include "fault.h"
#include "gguf_writer.h"
#include "rig.h"
#include "run/sched.h"
#include "sched_rig.h"

enum { V = SR_VOCAB };
static const peri_sampling warm = {.seed = 5, .temp = 1}, cold;

typedef struct rig {
    sr_rig r;
    peri_sched *s;
} rig;

static rig *open_rig(uint32_t n_ctx, uint32_t n_session, uint32_t n_batch) {
    static rig g;
    peri_error err;
    sr_open(&g.r, n_ctx, n_session, n_batch, false);
    assert_ok(peri_sched_new(g.r.m->engine, g.r.m->tokenizer, sr_event, &g.r, &g.s, &err), err);
    return &g;
}

static void close_rig(rig *g) {
    peri_sched_free(g->s);
    for (size_t i = 1; i < SR_MAX_REQUEST && g->r.record[i]; i++)
        assert_int_equal(g->r.record[i]->n_final, 1);
    sr_close(&g->r);
}

/* Put a request in; its record. */
static sr_record *put(rig *g, peri_request r) {
    peri_job *j;
    peri_error err;
    r.tag = sr_tag(&g->r);
    assert_ok(peri_job_new(&r, r.tag, &j, &err), err); /* the tag serves as id */
    peri_sched_put(g->s, j);
    return g->r.record[r.tag];
}

static uint64_t id_of(const rig *g, const sr_record *x) {
    uint64_t tag = 1;
    while (g->r.record[tag] != x)
        tag++;
    return tag;
}

static void run(rig *g) {
    for (int i = 0; peri_sched_step(g->s); i++)
        assert_true(i < 100000);
}

/* The request alone, to its end. */
static sr_record *ask(rig *g, peri_request r) {
    sr_record *x = put(g, r);
    run(g);
    assert_int_equal(x->n_final, 1);
    return x;
}

static uint64_t open_session(rig *g, const peri_sampling *p) {
    const sr_record *x = put(g, (peri_request){.kind = PERI_REQUEST_OPEN, .sampling = p});
    assert_int_equal(x->final.status, PERI_OK);
    return x->final.session;
}

static sr_record *feed(rig *g, uint64_t session, const int32_t *tok, size_t n) {
    return put(
        g, (peri_request){.kind = PERI_REQUEST_FEED, .session = session, .tok = tok, .n_tok = n});
}

static sr_record *generate(rig *g, uint64_t session, uint64_t max) {
    return put(g, (peri_request){.kind = PERI_REQUEST_GENERATE,
                                 .session = session,
                                 .generate = {.max = max, .ignore_eog = true}});
}

static void assert_said(const sr_record *x, const int32_t *want, size_t n) {
    assert_int_equal(x->n_final, 1);
    if (x->final.status) fail_msg("code %d: %s", x->final.status, x->error);
    assert_int_equal(x->n_tok, n);
    for (size_t i = 0; i < n; i++)
        if (x->tok[i] != want[i]) fail_msg("token %zu: %d and %d", i, x->tok[i], want[i]);
}

/* ---- neighbours ------------------------------------------------------------------------------ */

static void fifteen_neighbours_change_nothing(void **state) {
    (void)state;
    int32_t prompt[200], want[60], other[200];
    sr_fill(prompt, 200, 1);
    for (size_t n_prompt = 30; n_prompt <= 130; n_prompt += 100) {
        rig *g = open_rig(256, 16, 48);
        sr_alone(prompt, n_prompt, &warm, want, 60);
        uint64_t me = 0, session[16];
        sr_record *mine = NULL;
        for (size_t i = 0; i < 16; i++) {
            const peri_sampling p = {.seed = 50 + i, .temp = (float)(i % 2)};
            session[i] = open_session(g, i == 7 ? &warm : &p);
            sr_fill(other, 200, i % 3 ? (uint32_t)i : 1); /* some begin with the same text */
            if (i == 7) {
                me = session[i];
                feed(g, me, prompt, n_prompt);
                mine = generate(g, me, 60);
            } else {
                feed(g, session[i], other, 20 + 11 * i);
                generate(g, session[i], 3 * i + 1);
            }
            for (size_t k = 0; k < i % 4; k++)
                peri_sched_step(g->s);
            if (i == 9) put(g, (peri_request){.kind = PERI_REQUEST_CLOSE, .session = session[3]});
        }
        run(g);
        assert_said(mine, want, 60);
        assert_int_equal(mine->final.why, PERI_WHY_LENGTH);
        assert_int_equal(mine->final.n_tok, n_prompt + 60);
        close_rig(g);
    }
}

static void a_full_pool_changes_nothing(void **state) {
    (void)state;
    enum { N = 7 };
    int32_t prompt[N][100], want[N][110];
    sr_record *said[N];
    rig *g = open_rig(256, 2, 48); /* eight blocks; the seven want 7 x 4 */
    for (uint32_t i = 0; i < N; i++) {
        sr_fill(prompt[i], 100, i + 1);
        sr_alone(prompt[i], 100, &warm, want[i], 110);
    }
    for (uint32_t i = 0; i < N; i++) {
        uint64_t s = open_session(g, &warm);
        feed(g, s, prompt[i], 100);
        said[i] = generate(g, s, 110);
    }
    run(g);
    for (uint32_t i = 0; i < N; i++)
        assert_said(said[i], want[i], 110);
    const peri_run_stats st = ask(g, (peri_request){.kind = PERI_REQUEST_STATS})->final.stats;
    assert_true(st.n_preempted > 0);
    assert_true(st.n_swapped_bytes > 0);
    close_rig(g);
}

/* Sessions in the middle of a talk are set aside for others and go on later. */
static void idle_sessions_make_room_and_go_on(void **state) {
    (void)state;
    enum { N = 6 };
    int32_t prompt[N][90], want[N][80];
    uint64_t s[N];
    rig *g = open_rig(256, 1, 48);
    for (uint32_t i = 0; i < N; i++) {
        sr_fill(prompt[i], 90, i + 1);
        sr_alone(prompt[i], 90, &warm, want[i], 80);
    }
    for (uint32_t i = 0; i < N; i++) {
        s[i] = open_session(g, &warm);
        feed(g, s[i], prompt[i], 90);
        sr_record *said = generate(g, s[i], 40);
        run(g);
        assert_said(said, want[i], 40);
    }
    for (uint32_t i = 0; i < N; i++) {
        sr_record *said = generate(g, s[N - 1 - i], 40);
        run(g);
        assert_said(said, want[N - 1 - i] + 40, 40);
    }
    close_rig(g);
}

/* ---- fairness -------------------------------------------------------------------------------- */

static void a_long_prompt_does_not_stall_a_generation(void **state) {
    (void)state;
    int32_t prompt[400];
    sr_fill(prompt, 400, 1);
    rig *g = open_rig(512, 4, 512);
    uint64_t a = open_session(g, &warm), b = open_session(g, &warm);
    feed(g, a, prompt + 200, 5);
    run(g);
    sr_record *said = generate(g, a, 200);
    peri_sched_step(g->s);
    size_t before = said->n_tok;
    sr_record *fed = put(g, (peri_request){.kind = PERI_REQUEST_FEED,
                                           .session = b,
                                           .tok = prompt,
                                           .n_tok = 400,
                                           .want_progress = true});
    while (!fed->n_final)
        assert_true(peri_sched_step(g->s));
    assert_true(fed->n_progress >= 6); /* 64 tokens at a time */
    assert_int_equal(said->n_tok - before, fed->n_progress);
    run(g);
    assert_int_equal(said->n_tok, 200);
    close_rig(g);
}

static void one_place_takes_turns(void **state) {
    (void)state;
    int32_t prompt[150];
    sr_fill(prompt, 150, 1);
    rig *g = open_rig(256, 1, 16);
    uint64_t a = open_session(g, &warm), b = open_session(g, &warm), c = open_session(g, &warm);
    feed(g, a, prompt, 5);
    sr_record *said = generate(g, a, 40);
    feed(g, c, prompt + 9, 5);
    sr_record *too = generate(g, c, 40);
    for (int i = 0; i < 4; i++)
        peri_sched_step(g->s);
    assert_true(said->n_tok > 0 || too->n_tok > 0);
    sr_record *fed = feed(g, b, prompt, 100);
    size_t before = said->n_tok + too->n_tok;
    while (!fed->n_final)
        assert_true(peri_sched_step(g->s));
    size_t during = said->n_tok + too->n_tok - before;
    assert_true(during >= 6 && during <= 9); /* every other step of the prompt's seven */
    run(g);
    assert_int_equal(said->n_tok, 40);
    assert_int_equal(too->n_tok, 40);
    close_rig(g);
}

static void more_generations_than_places_share_them(void **state) {
    (void)state;
    int32_t prompt[50];
    sr_record *said[5];
    sr_fill(prompt, 50, 1);
    rig *g = open_rig(256, 2, 16);
    for (size_t i = 0; i < 5; i++) {
        uint64_t s = open_session(g, &warm);
        feed(g, s, prompt + i, 3);
        run(g);
        said[i] = NULL;
    }
    for (size_t i = 0; i < 5; i++)
        said[i] = generate(g, i + 1, 100);
    for (size_t i = 0; i < 50; i++)
        peri_sched_step(g->s);
    size_t sum = 0;
    for (size_t i = 0; i < 5; i++) {
        assert_true(said[i]->n_tok >= 18 && said[i]->n_tok <= 22); /* 50 steps of two for five */
        sum += said[i]->n_tok;
    }
    assert_int_equal(sum, 100);
    run(g);
    close_rig(g);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void what_cannot_fit_is_refused_with_numbers(void **state) {
    (void)state;
    int32_t prompt[300];
    sr_fill(prompt, 300, 1);
    rig *g = open_rig(256, 1, 48);
    uint64_t s = open_session(g, &warm);
    feed(g, s, prompt, 100);
    const sr_record *x = feed(g, s, prompt, 157);
    run(g);
    assert_int_equal(x->final.status, PERI_E_RANGE);
    assert_string_equal(x->error,
                        "157 tokens do not fit: the session holds 100 of a context of 256");
    assert_int_equal(x->final.n_tok, 100);
    prompt[3] = V;
    x = feed(g, s, prompt, 10);
    run(g);
    assert_int_equal(x->final.status, PERI_E_RANGE);
    x = generate(g, s, 0); /* as long as there is context */
    run(g);
    assert_int_equal(x->final.why, PERI_WHY_CONTEXT);
    assert_int_equal(x->n_tok, 156);
    assert_int_equal(x->final.n_tok, 256);
    x = ask(g, (peri_request){.kind = PERI_REQUEST_TOKENS, .session = s + 1});
    assert_int_equal(x->final.status, PERI_E_NOT_FOUND);
    assert_string_equal(x->error, "TOKENS: no session 2");
    s = open_session(g, &warm);
    x = generate(g, s, 5);
    run(g);
    assert_int_equal(x->final.status, PERI_E_INVALID);
    assert_string_equal(x->error, "GENERATE: nothing was fed to the session yet");
    assert_int_equal(x->final.why, PERI_WHY_ERROR);
    close_rig(g);
}

static void malformed_requests_are_refused_at_once(void **state) {
    (void)state;
    static const char *const empty[] = {"a", ""};
    const peri_request bad[] = {
        {.kind = (peri_request_kind)99},
        {.kind = PERI_REQUEST_OPEN},
        {.kind = PERI_REQUEST_FEED, .n_tok = 3},
        {.kind = PERI_REQUEST_SAVE},
        {.kind = PERI_REQUEST_GENERATE, .generate = {.stop = empty, .n_stop = 2}},
        {.kind = PERI_REQUEST_GENERATE, .generate = {.n_stop_tok = 2}},
        {.kind = PERI_REQUEST_GENERATE, .generate = {.n_logprob = 1025}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        peri_job *j;
        peri_error err = {0};
        peri_status st = peri_job_new(&bad[i], 1, &j, &err);
        assert_true(st == PERI_E_INVALID || st == PERI_E_RANGE);
        assert_true(*err.text != '\0');
        assert_null(j);
    }
}

static void cancelled_requests_leave_their_session_usable(void **state) {
    (void)state;
    int32_t prompt[200], want[30];
    sr_fill(prompt, 200, 1);
    sr_alone(prompt, 20, &warm, want, 30);
    rig *g = open_rig(256, 2, 16);
    uint64_t s = open_session(g, &warm);
    sr_record *fed = feed(g, s, prompt + 50, 150), *next = feed(g, s, prompt, 20);
    sr_record *later = generate(g, s, 30), *tokens;
    for (int i = 0; i < 3; i++)
        peri_sched_step(g->s);
    const peri_request stop = {.kind = PERI_REQUEST_CANCEL, .target = id_of(g, fed)};
    sr_record *c = put(g, stop);
    assert_int_equal(c->final.status, PERI_OK);
    assert_true(fed->n_final && fed->at < c->at);
    assert_int_equal(fed->final.status, PERI_E_CANCELLED);
    assert_int_equal(fed->final.n_tok, 0); /* what was fed is taken back */
    run(g);
    assert_int_equal(next->final.status, PERI_OK);
    assert_said(later, want, 30);
    c = put(g, stop);
    assert_int_equal(c->final.status, PERI_E_NOT_FOUND);
    /* A generation: what it said stays. */
    later = generate(g, s, 100);
    sr_record *queued = generate(g, s, 100);
    for (int i = 0; i < 5; i++)
        peri_sched_step(g->s);
    put(g, (peri_request){.kind = PERI_REQUEST_CANCEL, .target = id_of(g, queued)});
    assert_int_equal(queued->final.why, PERI_WHY_CANCELLED);
    put(g, (peri_request){.kind = PERI_REQUEST_CANCEL, .target = id_of(g, later)});
    assert_int_equal(later->final.why, PERI_WHY_CANCELLED);
    assert_int_equal(later->final.status, PERI_OK);
    assert_int_equal(later->n_tok, 5);
    tokens = ask(g, (peri_request){.kind = PERI_REQUEST_TOKENS, .session = s});
    assert_int_equal(tokens->final.n_tok, 20 + 30 + 5);
    assert_memory_equal(tokens->tok + 50, later->tok, 5 * sizeof *later->tok);
    /* Closing ends the rest. */
    later = generate(g, s, 100);
    queued = feed(g, s, prompt, 5);
    peri_sched_step(g->s);
    c = put(g, (peri_request){.kind = PERI_REQUEST_CLOSE, .session = s});
    assert_int_equal(later->final.why, PERI_WHY_CANCELLED);
    assert_int_equal(queued->final.status, PERI_E_CANCELLED);
    assert_true(queued->at < c->at);
    c = put(g, (peri_request){.kind = PERI_REQUEST_CLOSE, .session = s});
    assert_int_equal(c->final.status, PERI_E_NOT_FOUND);
    close_rig(g);
}

static sr_record *said(rig *g, uint64_t session, uint64_t max) {
    sr_record *x = generate(g, session, max);
    run(g);
    return x;
}

static void sessions_fork_rewind_and_are_saved_by_request(void **state) {
    (void)state;
    int32_t prompt[250];
    char path[300];
    sr_fill(prompt, 250, 1);
    snprintf(path, sizeof path, "%s/sched.bin", rig_dir());
    rig *g = open_rig(256, 1, 48);
    uint64_t s = open_session(g, &warm);
    feed(g, s, prompt, 90);
    const peri_request fork = {.kind = PERI_REQUEST_FORK, .session = s};
    const sr_record *mark = ask(g, (peri_request){.kind = PERI_REQUEST_MARK, .session = s});
    uint64_t child = ask(g, fork)->final.session;
    assert_true(child && child != s);
    const sr_record *a = said(g, s, 40), *b = said(g, child, 40);
    assert_memory_not_equal(a->tok, b->tok, sizeof(int32_t) * 40);
    /* All of it goes to host memory and comes back for each of these. */
    uint64_t filler = open_session(g, &warm);
    feed(g, filler, prompt, 250);
    run(g);
    ask(g, (peri_request){.kind = PERI_REQUEST_REWIND, .session = s, .mark = mark->final.mark});
    assert_said(said(g, s, 40), a->tok, 40);
    feed(g, filler, prompt, 1);
    run(g);
    ask(g, (peri_request){.kind = PERI_REQUEST_REWIND, .session = s, .position = 90});
    ask(g, (peri_request){.kind = PERI_REQUEST_SAVE, .session = s, .path = path});
    assert_said(said(g, s, 40), a->tok, 40);
    feed(g, filler, prompt, 1);
    run(g);
    const sr_record *r = ask(g, (peri_request){.kind = PERI_REQUEST_RESTORE, .path = path});
    assert_int_equal(r->final.status, PERI_OK);
    assert_int_equal(r->final.n_tok, 90);
    assert_memory_equal(r->tok, prompt, 90 * sizeof *prompt);
    assert_said(said(g, r->final.session, 40), a->tok, 40);
    feed(g, filler, prompt, 1);
    run(g);
    ask(g, (peri_request){.kind = PERI_REQUEST_REWIND, .session = s, .position = 90});
    feed(g, filler, prompt, 1);
    run(g);
    const sr_record *second = said(g, ask(g, fork)->final.session, 40);
    assert_memory_not_equal(second->tok, b->tok, sizeof(int32_t) * 40);
    /* Marks: unknown ones, forgotten ones, passed ones. */
    peri_request m = {.kind = PERI_REQUEST_UNMARK, .session = s, .mark = mark->final.mark};
    assert_int_equal(ask(g, m)->final.status, PERI_OK);
    assert_int_equal(ask(g, m)->final.status, PERI_E_NOT_FOUND);
    m.kind = PERI_REQUEST_REWIND;
    assert_int_equal(ask(g, m)->final.status, PERI_E_NOT_FOUND);
    m = (peri_request){.kind = PERI_REQUEST_REWIND, .session = s, .position = 91};
    assert_int_equal(ask(g, m)->final.status, PERI_E_RANGE);
    /* Other parameters, the same stream. */
    m = (peri_request){.kind = PERI_REQUEST_SAMPLING, .session = s, .sampling = &cold};
    assert_int_equal(ask(g, m)->final.status, PERI_OK);
    const sr_record *greedy = said(g, s, 10);
    m = (peri_request){.kind = PERI_REQUEST_REWIND, .session = s, .position = 90};
    ask(g, m);
    m = (peri_request){.kind = PERI_REQUEST_SAMPLING, .session = s, .sampling = &warm};
    ask(g, m);
    assert_said(said(g, s, 40), a->tok, 40);
    assert_memory_not_equal(greedy->tok, a->tok, 10 * sizeof(int32_t));
    close_rig(g);
}

/* All room is held by one that generates: the restored session waits in host memory, and says the
 * same. */
static void a_session_is_restored_while_another_holds_all_room(void **state) {
    (void)state;
    int32_t prompt[250], want[40], busy[100];
    char path[300];
    sr_fill(prompt, 250, 1);
    snprintf(path, sizeof path, "%s/sched-full.bin", rig_dir());
    sr_alone(prompt, 90, &warm, want, 40);
    sr_alone(prompt, 140, &warm, busy, 100);
    rig *g = open_rig(256, 1, 48);
    uint64_t s = open_session(g, &warm), other = open_session(g, &warm);
    feed(g, s, prompt, 90);
    ask(g, (peri_request){.kind = PERI_REQUEST_SAVE, .session = s, .path = path});
    put(g, (peri_request){.kind = PERI_REQUEST_CLOSE, .session = s});
    feed(g, other, prompt, 140);
    const sr_record *long_one = generate(g, other, 100);
    while (long_one->n_tok < 60)
        assert_true(peri_sched_step(g->s));
    const sr_record *r = put(g, (peri_request){.kind = PERI_REQUEST_RESTORE, .path = path});
    assert_int_equal(r->n_final, 1);
    if (r->final.status) fail_msg("%s", r->error);
    assert_int_equal(r->final.n_tok, 90);
    assert_int_equal(long_one->n_final, 0);
    const sr_record *mine = generate(g, r->final.session, 40);
    run(g);
    assert_said(long_one, busy, 100);
    assert_said(mine, want, 40);
    close_rig(g);
}

/* ---- text ------------------------------------------------------------------------------------ */

static sr_record *speak(rig *g, peri_generate how) {
    int32_t prompt[20];
    sr_fill(prompt, 20, 3);
    uint64_t s = open_session(g, &warm);
    feed(g, s, prompt, 20);
    sr_record *x =
        put(g, (peri_request){.kind = PERI_REQUEST_GENERATE, .session = s, .generate = how});
    run(g);
    return x;
}

static void text_ends_where_it_is_told_to(void **state) {
    (void)state;
    rig *g = open_rig(256, 2, 48);
    const sr_record *all = speak(g, (peri_generate){.max = 60, .ignore_eog = true});
    assert_int_equal(all->final.why, PERI_WHY_LENGTH);
    assert_true(all->text_size > 20);
    /* Every piece of the text as a stop string: it ends before its first occurrence. */
    for (size_t at = 0; at + 6 <= all->text_size; at += 5) {
        char stop[7] = {0};
        memcpy(stop, all->text + at, 6);
        if (strlen(stop) < 6) continue;
        const char *const stops[] = {"never said by it", stop};
        const char *first = strstr(all->text, stop);
        const sr_record *x =
            speak(g, (peri_generate){.max = 60, .ignore_eog = true, .stop = stops, .n_stop = 2});
        assert_int_equal(x->final.why, PERI_WHY_STOP);
        assert_int_equal(x->final.stop, 1);
        assert_int_equal(x->text_size, first - all->text);
        assert_memory_equal(x->text, all->text, x->text_size);
        assert_memory_equal(x->tok, all->tok, x->n_tok * sizeof *x->tok);
        assert_int_equal(x->final.n_tok, 20 + x->n_tok);
    }
    /* A stop string that the text only begins holds nothing back for good. */
    char tail[64];
    snprintf(tail, sizeof tail, "%.4s and then something else", all->text + all->text_size - 4);
    const char *const never[] = {tail};
    const sr_record *x =
        speak(g, (peri_generate){.max = 60, .ignore_eog = true, .stop = never, .n_stop = 1});
    assert_int_equal(x->text_size, all->text_size);
    assert_memory_equal(x->text, all->text, all->text_size);
    /* A stop token ends the text before itself and is not in the session. */
    size_t k = 10;
    x = speak(g, (peri_generate){
                     .max = 60, .ignore_eog = true, .stop_tok = &all->tok[k], .n_stop_tok = 1});
    assert_int_equal(x->final.why, PERI_WHY_EOG);
    assert_int_equal(x->final.id, all->tok[k]);
    assert_true(x->n_tok <= k);
    assert_int_equal(x->final.n_tok, 20 + x->n_tok);
    close_rig(g);
}

static void log_probabilities_are_those_of_the_logits(void **state) {
    (void)state;
    rig *g = open_rig(256, 2, 48);
    const sr_record *plain = speak(g, (peri_generate){.max = 20, .ignore_eog = true});
    const sr_record *x = speak(
        g, (peri_generate){.max = 20, .ignore_eog = true, .n_logprob = 3, .want_logprob = true});
    assert_memory_equal(plain->tok, x->tok, sizeof plain->tok);
    for (size_t i = 0; i < x->n_tok; i++) {
        double sum = 0;
        for (size_t k = 0; k < 3; k++) {
            sum += exp((double)x->top[i][k].logprob);
            assert_true(x->top[i][k].logprob < 0);
            if (k) assert_true(x->top[i][k].logprob <= x->top[i][k - 1].logprob);
            if (x->top[i][k].id == x->tok[i]) assert_true(x->top[i][k].logprob == x->logprob[i]);
        }
        assert_true(sum > 3.0 / V && sum <= 1);
        assert_true(x->logprob[i] <= x->top[i][0].logprob);
    }
    close_rig(g);
}

/* Where a prompt ends inside a word, its last tokens go, and no byte of it is said twice. */
static void a_healed_prompt_and_its_text_are_one_text(void **state) {
    (void)state;
    static const char *const prompts[] = {"the hell", "an", "it is\n", "over the r", "10 2", "x"};
    rig *g = open_rig(256, 2, 48);
    size_t n_healed = 0;
    for (size_t i = 0; i < 2 * (sizeof prompts / sizeof prompts[0]); i++) {
        const char *prompt = prompts[i / 2];
        const peri_sampling p = {.seed = i, .temp = 1, .heal = i % 2 == 0};
        int32_t *ids;
        size_t n, size;
        char *text, want[4096];
        peri_error err;
        assert_ok(peri_model_tokenize(g->r.m, prompt, strlen(prompt), 0, &ids, &n, &err), err);
        uint64_t s = open_session(g, &p);
        feed(g, s, ids, n);
        sr_record *a = generate(g, s, 12), *b = generate(g, s, 12); /* the second heals nothing */
        run(g);
        assert_int_equal(b->final.n_tok, a->final.n_tok + 12);
        n_healed += a->final.n_tok < (int32_t)n + 12;
        if (i % 2) assert_int_equal(a->final.n_tok, n + 12);
        const sr_record *all = ask(g, (peri_request){.kind = PERI_REQUEST_TOKENS, .session = s});
        assert_ok(peri_model_detokenize(g->r.m, all->tok, (size_t)a->final.n_tok, false, &text,
                                        &size, &err),
                  err);
        snprintf(want, sizeof want, "%s%s", prompt, a->text);
        assert_string_equal(text, want);
        peri_text_free(text);
        peri_text_free(ids);
    }
    assert_true(n_healed >= 3);
    close_rig(g);
}

/* ---- at random --------------------------------------------------------------------------------
 */

typedef struct chaos {
    rig *g;
    uint64_t seed, n;
    uint64_t session[8]; /* 0: closed */
    sr_record *asked[64];
    bool made[64];
    size_t n_asked;
    const char *path;
} chaos;

static uint64_t draw(chaos *c, uint64_t n) {
    return gw_random(c->seed, c->n++) % n;
}

static bool is_known(const chaos *c, uint64_t session) {
    for (size_t k = 0; k < 8; k++)
        if (c->session[k] == session) return true;
    return false;
}

/* Take in the sessions that the last requests have made, as far as there is place. */
static void adopt(chaos *c) {
    for (size_t i = 0; i < c->n_asked; i++) {
        const peri_event *ev = &c->asked[i]->final;
        assert_int_equal(c->asked[i]->n_final, 1);
        if (!c->made[i] || ev->status != PERI_OK || is_known(c, ev->session)) continue;
        for (size_t k = 0; k < 8; k++)
            if (!c->session[k]) {
                c->session[k] = ev->session;
                break;
            }
    }
    c->n_asked = 0;
}

static void remember(chaos *c, peri_request r) {
    c->made[c->n_asked] = r.kind == PERI_REQUEST_OPEN || r.kind == PERI_REQUEST_FORK ||
                          r.kind == PERI_REQUEST_RESTORE;
    c->asked[c->n_asked++] = put(c->g, r);
}

static void do_something(chaos *c) {
    static const peri_sampling ways[] = {{.temp = 0}, {.temp = 1, .seed = 9}};
    int32_t text[100];
    size_t k = draw(c, 8);
    uint64_t s = c->session[k];
    if (!s) return;
    peri_request r = {.session = s};
    sr_fill(text, 100, (uint32_t)draw(c, 4));
    switch (draw(c, 12)) {
    case 0:
    case 1:
    case 2:
        r.kind = PERI_REQUEST_FEED;
        r.tok = text;
        r.n_tok = draw(c, 90);
        break;
    case 3:
    case 4:
    case 5:
        r.kind = PERI_REQUEST_GENERATE;
        r.generate = (peri_generate){.max = 1 + draw(c, 40), .ignore_eog = true};
        break;
    case 6:
        r.kind = PERI_REQUEST_FORK;
        break;
    case 7:
        r.kind = PERI_REQUEST_REWIND;
        r.position = (int32_t)draw(c, 120);
        break;
    case 8:
        r.kind = PERI_REQUEST_SAMPLING;
        r.sampling = &ways[draw(c, 2)];
        break;
    case 9:
        r.kind = PERI_REQUEST_SAVE;
        r.path = c->path;
        break;
    case 10:
        r.kind = PERI_REQUEST_CANCEL;
        r.target = c->n_asked ? id_of(c->g, c->asked[draw(c, c->n_asked)]) : 1;
        break;
    default:
        if (draw(c, 3)) return;
        r.kind = PERI_REQUEST_CLOSE;
        c->session[k] = 0;
        break;
    }
    remember(c, r);
}

/* What a live session holds and says next is what a fresh engine says after the same tokens. */
static void verify(chaos *c, uint64_t session) {
    int32_t want[8];
    const sr_record *all =
        ask(c->g, (peri_request){.kind = PERI_REQUEST_TOKENS, .session = session});
    size_t n = (size_t)all->final.n_tok;
    assert_int_equal(all->final.status, PERI_OK);
    if (!n || n > 240) return;
    sr_alone(all->tok, n, &cold, want, 8);
    ask(c->g, (peri_request){.kind = PERI_REQUEST_SAMPLING, .session = session, .sampling = &cold});
    sr_record *x = generate(c->g, session, 8);
    run(c->g);
    assert_said(x, want, 8);
}

static void nothing_done_in_any_order_changes_what_is_said(void **state) {
    (void)state;
    char path[300];
    const char *text = getenv("PERI_SEED");
    uint64_t first = text ? strtoull(text, NULL, 10) : 1, rounds = getenv("PERI_LONG") ? 60 : 6;
    snprintf(path, sizeof path, "%s/chaos.bin", rig_dir());
    uint64_t n_preempted = 0;
    for (uint64_t seed = first; seed < first + rounds; seed++) {
        static chaos c;
        c = (chaos){.g = open_rig(256, 1 + (uint32_t)seed % 3, 32), .seed = seed, .path = path};
        for (size_t i = 0; i < 40; i++) {
            bool is_open = false;
            for (size_t k = 0; k < 8; k++)
                is_open = is_open || c.session[k];
            if (!is_open || draw(&c, 8) == 0)
                remember(&c, (peri_request){.kind = PERI_REQUEST_OPEN, .sampling = &warm});
            if (draw(&c, 12) == 0)
                remember(&c, (peri_request){.kind = PERI_REQUEST_RESTORE, .path = path});
            for (size_t k = draw(&c, 12); k-- > 0;) {
                do_something(&c);
                for (size_t n = draw(&c, 4); n-- > 0;)
                    peri_sched_step(c.g->s);
            }
            run(c.g);
            adopt(&c);
        }
        for (size_t k = 0; k < 8; k++)
            if (c.session[k]) verify(&c, c.session[k]);
        n_preempted += c.g->r.m->engine->n_preempted;
        close_rig(c.g);
    }
    assert_true(n_preempted > 0);
    print_message("seed %lu, %lu rounds, %lu times set aside\n", (unsigned long)first,
                  (unsigned long)rounds, (unsigned long)n_preempted);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void steady_generation_allocates_nothing(void **state) {
    (void)state;
    int32_t prompt[20];
    peri_fault *f = peri_fault_alloc_install();
    rig *g = open_rig(256, 3, 48);
    sr_fill(prompt, 20, 1);
    sr_record *x = NULL;
    for (size_t i = 0; i < 3; i++) {
        uint64_t s = open_session(g, &warm);
        feed(g, s, prompt, 20);
        x = generate(g, s, 200);
    }
    for (int i = 0; i < 40; i++)
        peri_sched_step(g->s);
    assert_true(x->n_tok > 20);
    uint64_t calls = f->calls;
    for (int i = 0; i < 150; i++)
        assert_true(peri_sched_step(g->s));
    assert_int_equal(f->calls, calls);
    run(g);
    close_rig(g);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

/* Two talks that need each other's room, a fork, a file.  Requests that cannot even be made are
 * left out. */
static void scenario(rig *g, const int32_t *prompt, const char *path) {
    static const char *const stop[] = {"zzz", "yyy"};
    uint64_t s[2] = {0};
    for (size_t i = 0; i < 2; i++) {
        peri_request open = {.kind = PERI_REQUEST_OPEN, .sampling = &warm, .tag = sr_tag(&g->r)};
        peri_job *j;
        if (peri_job_new(&open, open.tag, &j, NULL)) {
            g->r.record[open.tag]->n_final = 1;
            continue;
        }
        peri_sched_put(g->s, j);
        s[i] = g->r.record[open.tag]->final.session;
    }
    for (size_t i = 0; i < 8; i++) {
        const peri_request r[] = {
            {.kind = PERI_REQUEST_FEED, .session = s[0], .tok = prompt, .n_tok = 70},
            {.kind = PERI_REQUEST_FEED, .session = s[1], .tok = prompt + 1, .n_tok = 90},
            {.kind = PERI_REQUEST_MARK, .session = s[0]},
            {.kind = PERI_REQUEST_FORK, .session = s[0]},
            {.kind = PERI_REQUEST_GENERATE,
             .session = s[0],
             .generate = {.max = 3, .stop = stop, .n_stop = 2, .n_logprob = 2}},
            {.kind = PERI_REQUEST_GENERATE, .session = s[1], .generate = {.max = 3}},
            {.kind = PERI_REQUEST_SAVE, .session = s[0], .path = path},
            {.kind = PERI_REQUEST_RESTORE, .path = path}};
        peri_request mine = r[i];
        peri_job *j;
        mine.tag = sr_tag(&g->r);
        if (peri_job_new(&mine, mine.tag, &j, NULL))
            g->r.record[mine.tag]->n_final = 1;
        else
            peri_sched_put(g->s, j);
        if (i > 5) run(g);
    }
    run(g);
}

static void failing_allocations_end_requests_cleanly(void **state) {
    (void)state;
    int32_t prompt[100];
    char path[300];
    peri_error err;
    uint64_t n = 1;
    peri_fault *f = peri_fault_alloc_install();
    sr_fill(prompt, 100, 1);
    snprintf(path, sizeof path, "%s/fault.bin", rig_dir());
    for (bool was_reached = true; was_reached; n++) {
        rig *g = open_rig(128, 1, 48);
        peri_sched_free(g->s);
        f->calls = 0;
        f->fail_at = n;
        peri_status st =
            peri_sched_new(g->r.m->engine, g->r.m->tokenizer, sr_event, &g->r, &g->s, &err);
        if (!st) scenario(g, prompt, path);
        was_reached = f->calls >= n;
        f->fail_at = 0;
        size_t n_failed = 0;
        for (size_t i = 1; i < SR_MAX_REQUEST && g->r.record[i]; i++)
            n_failed += g->r.record[i]->final.status != PERI_OK;
        if (!was_reached) assert_int_equal(n_failed, 0);
        close_rig(g);
        assert_int_equal(f->live, 0);
    }
    assert_true(n > 30);
    print_message("%lu allocations failed in turn\n", (unsigned long)n - 2);
    peri_fault_alloc_remove();
}

static int no_sync(void *user, int fd) {
    (void)user, (void)fd;
    return 0;
}

int main(void) {
    peri_io_ops ops = *peri_io_ops_get();
    ops.sync = no_sync; /* many small files */
    peri_io_set_ops(&ops);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fifteen_neighbours_change_nothing),
        cmocka_unit_test(a_full_pool_changes_nothing),
        cmocka_unit_test(a_long_prompt_does_not_stall_a_generation),
        cmocka_unit_test(one_place_takes_turns),
        cmocka_unit_test(more_generations_than_places_share_them),
        cmocka_unit_test(what_cannot_fit_is_refused_with_numbers),
        cmocka_unit_test(malformed_requests_are_refused_at_once),
        cmocka_unit_test(cancelled_requests_leave_their_session_usable),
        cmocka_unit_test(idle_sessions_make_room_and_go_on),
        cmocka_unit_test(sessions_fork_rewind_and_are_saved_by_request),
        cmocka_unit_test(a_session_is_restored_while_another_holds_all_room),
        cmocka_unit_test(text_ends_where_it_is_told_to),
        cmocka_unit_test(a_healed_prompt_and_its_text_are_one_text),
        cmocka_unit_test(log_probabilities_are_those_of_the_logits),
        cmocka_unit_test(nothing_done_in_any_order_changes_what_is_said),
        cmocka_unit_test(steady_generation_allocates_nothing),
        cmocka_unit_test(failing_allocations_end_requests_cleanly),
    };
    int rc = peri_run_tests(tests);
    rig_end();
    return rc;
}
