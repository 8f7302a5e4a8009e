/* SPDX-License-Identifier: MIT
 *
 * test_top.c - lists of the likeliest tokens instead of rows (core/run/top.h): which chains they
 * are enough for, and that every choice is the one from the row, on a device with memory of its own
 * that computes by the CPU plugin (tests/plugin/twin.c), and on OpenCL where there is some. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/api_int.h"
#include "perigee/perigee.h"
#include "rig.h"
#include "run/rng.h"
#include "run/session.h"

enum { V = 300, N_PROMPT = 20, N_TOK = 24, ROOM = 6, N_SESSION = 26, N_BATCH = 32 };
enum { N_MANY = PERI_DECODE_TOKENS + 4, LIST_BYTES = 8 * PERI_TOP_TOKENS, ROW_BYTES = 4 * V };
#define TWINS PERI_BINARY_DIR "/tests/plugin/twin.so"

/* Settings over everything off, and how many of the likeliest tokens decide; 0: all do. */
typedef struct chain {
    const char *set[ROOM];
    int32_t top;
} chain;
static const chain chains[] = {
    {{"temp=0"}, 1},
    {{"temp=0", "top_k=5", "top_p=0.5", "min_p=0.1"}, 1},
    {{"temp=0.8", "top_k=40", "top_p=0.95", "min_p=0.05"}, 40},
    {{"temp=1", "top_k=20", "seed=7"}, 20},
    {{"temp=1.3", "top_k=64", "typical_p=0.7", "seed=8"}, 64},
    {{"temp=1.1", "top_k=30", "xtc_probability=0.6", "xtc_threshold=0.05", "seed=9"}, 30},
    {{"temp=0.9", "dynatemp_range=0.5", "top_k=25", "seed=10"}, 25},
    {{"temp=1", "samplers=top_k;top_n_sigma;temperature", "top_k=50", "top_n_sigma=1", "seed=11"},
     50},
    {{"temp=1.2", "samplers=top_k;adaptive_p", "top_k=33", "adaptive_target=0.4", "seed=12"}, 33},
    {{"temp=1", "top_k=128", "seed=13"}, 128},
    {{"temp=1.1", "top_k=200", "seed=14"}, 200}, /* more than a list has: rows */
    {{"temp=1", "seed=15"}, 0},
    {{"temp=0.8", "top_p=0.9", "seed=16"}, 0},
    {{"temp=0.8", "samplers=top_p;top_k;temperature", "top_p=0.9", "top_k=40", "seed=17"}, 0},
    {{"temp=0.8", "samplers=temperature;top_k", "top_k=40", "seed=18"}, 0},
    {{"temp=0.8", "top_k=40", "repeat_penalty=1.2", "repeat_last_n=64", "seed=19"}, 0},
    {{"temp=0", "presence_penalty=0.5", "repeat_last_n=64"}, 0},
    {{"temp=1", "mirostat=2", "top_k=40", "seed=20"}, 0},
    {{"temp=0.8", "top_k=40", "ignore_eos=1", "seed=21"}, 0},
    {{"temp=0.8", "top_k=40", "top_n_sigma=2", "seed=22"}, 0},
};
enum { N_CHAIN = sizeof chains / sizeof *chains };

static peri_sampling sampling_of(peri_arena *a, const chain *c) {
    peri_sampling p;
    peri_error err;
    assert_ok(peri_sampling_init(&p, PERI_ORIGIN_OFF, NULL, &err), err);
    for (int i = 0; i < ROOM && c->set[i]; i++)
        assert_ok(peri_sampling_apply(&p, a, c->set[i], &err), err);
    return p;
}

/* ---- picks ---- */

/* Bell-shaped, in steps so that many are equal, and now and then no number. */
static void fill(float *logits, uint64_t row) {
    for (int i = 0; i < V; i++) {
        double x = 0;
        for (uint32_t k = 0; k < 3; k++)
            x += peri_random(row, 1, (uint32_t)i, k);
        logits[i] = (float)floor(24 * x) / 4;
        if (row % 3 == 2 && peri_random(row, 2, (uint32_t)i, 0) < 0.2)
            logits[i] = i % 2 ? NAN : -INFINITY;
    }
}

static void list_of(const float *logits, int32_t n, peri_top *out) {
    bool is_in[V] = {false};
    for (out->n = 0; out->n < n; out->n++) {
        int32_t best = -1;
        for (int32_t i = 0; i < V; i++) {
            float v = isnan(logits[i]) ? -INFINITY : logits[i];
            if (is_in[i] || (best >= 0 && !(v > out->logit[out->n]))) continue;
            best = i;
            out->logit[out->n] = v;
        }
        is_in[best] = true;
        out->id[out->n] = best;
    }
}

/* Picks of two samplers, from rows and from lists, and the candidates they were drawn from. */
static void compare_picks(const chain *c, int number) {
    peri_arena *a = peri_arena_new();
    peri_sampling p = sampling_of(a, c);
    const peri_sampler_vocab v = {.n_vocab = V, .n_ctx = 256};
    peri_sampler *s[2];
    peri_candidate seen[V];
    int32_t tok[64], id[2];
    peri_error err;
    for (int i = 0; i < 2; i++)
        assert_ok(peri_sampler_new(&p, &v, &s[i], &err), err);
    assert_int_equal(peri_sampler_top(s[0]), c->top);
    for (int32_t n = 0; n < 60 && c->top && c->top <= PERI_TOP_TOKENS; n++) {
        float logits[V];
        peri_top top;
        const peri_candidate *list;
        fill(logits, (uint64_t)n);
        list_of(logits, n % 2 ? c->top : PERI_TOP_TOKENS, &top);
        assert_ok(peri_sampler_pick(s[0], logits, tok, n, &id[0], &err), err);
        size_t n_seen = peri_sampler_survivors(s[0], &list);
        memcpy(seen, list, n_seen * sizeof *seen);
        assert_ok(peri_sampler_pick_top(s[1], &top, tok, n, &id[1], &err), err);
        if (id[0] != id[1]) fail_msg("chain %d, pick %d: %d and %d", number, n, id[0], id[1]);
        assert_int_equal(peri_sampler_survivors(s[1], &list), n_seen);
        for (size_t i = 0; i < n_seen; i++) {
            assert_int_equal(list[i].id, seen[i].id);
            assert_memory_equal(&list[i].p, &seen[i].p, sizeof seen[i].p);
        }
        tok[n] = id[0];
    }
    for (int i = 0; i < 2; i++)
        peri_sampler_free(s[i]);
    peri_arena_free(a);
}

static void a_pick_from_the_list_is_the_pick_from_the_row(void **state) {
    (void)state;
    for (int i = 0; i < N_CHAIN; i++)
        compare_picks(&chains[i], i);
}

static void a_list_that_is_not_enough_is_refused(void **state) {
    (void)state;
    const peri_sampler_vocab v = {.n_vocab = V, .n_ctx = 256};
    peri_arena *a = peri_arena_new();
    peri_sampling p = sampling_of(a, &chains[2]), all = sampling_of(a, &chains[11]);
    peri_top top = {.n = 39};
    peri_sampler *s;
    peri_error err;
    int32_t id, without = 5;
    assert_ok(peri_sampler_new(&p, &v, &s, &err), err);
    assert_int_equal(peri_sampler_pick_top(s, &top, NULL, 0, &id, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "39 of the likeliest tokens where 40 decide");
    peri_sampler_set_without(s, &without, 1); /* one of the list may be gone */
    assert_int_equal(peri_sampler_top(s), 0);
    peri_sampler_free(s);
    assert_ok(peri_sampler_new(&all, &v, &s, &err), err);
    assert_int_equal(peri_sampler_pick_top(s, &top, NULL, 0, &id, &err), PERI_E_INVALID);
    peri_sampler_free(s);
    peri_arena_free(a);
}

/* ---- sessions ---- */

typedef struct world {
    peri_runtime *rt;
    peri_model *m;
} world;

static void open_world(world *w, const char *devices, const char *device, bool is_strict) {
    char list[200], base[400];
    const char *settings[] = {list, base}, *files[] = {TWINS};
    snprintf(list, sizeof list, "twin.devices=%s", devices);
    snprintf(base, sizeof base, "twin.base=%s/cpu.so", PERI_PLUGIN_DIR);
    peri_runtime_options o = {.size = sizeof o,
                              .n_thread = 1,
                              .plugin_files = files,
                              .n_plugin_file = 1,
                              .settings = settings,
                              .n_setting = 2,
                              .script_dir = PERI_SOURCE_DIR "/scripts",
                              .is_strict = is_strict};
    peri_model_options mo = {.size = sizeof mo,
                             .n_ctx = 128,
                             .n_session = N_SESSION,
                             .n_batch = N_BATCH,
                             .device = device};
    peri_error err;
    *w = (world){0};
    assert_ok(peri_runtime_new_in(&o, PERI_LIBRARY_DIR, &w->rt, &err), err);
    assert_ok(peri_model_open(w->rt, rig_tiny("model.gguf", "qwen3", 0, 1), &mo, &w->m, &err), err);
}

static void close_world(world *w) {
    peri_model_close(w->m);
    peri_runtime_free(w->rt);
}

static peri_session *open_session(world *w, const chain *c) {
    peri_arena *a = peri_arena_new();
    peri_sampling p = sampling_of(a, c);
    peri_session *s;
    peri_error err;
    assert_ok(peri_session_open(w->m->engine, NULL, &p, &s, &err), err);
    peri_arena_free(a);
    return s;
}

static peri_session *begin(world *w, const chain *c) {
    int32_t tok[N_PROMPT];
    peri_session *s = open_session(w, c);
    peri_error err;
    for (int i = 0; i < N_PROMPT; i++)
        tok[i] = (i * 31 + 7) % V;
    assert_ok(peri_session_feed(s, tok, N_PROMPT, &err), err);
    return s;
}

/* Sample and feed; want_row: the caller reads the row as well. */
static void go_on(peri_session *s, int n, bool want_row, int32_t *out) {
    float row[V];
    peri_error err;
    for (int i = 0; i < n; i++) {
        assert_ok(peri_session_sample(s, &out[i], &err), err);
        const peri_step_feed f = {
            .s = s, .tok = &out[i], .n_tok = 1, .logits = want_row ? row : NULL};
        assert_ok(peri_engine_step(s->e, &f, 1, 0, &err), err);
    }
}

static void generate(world *w, const chain *c, bool want_row, int32_t *out) {
    peri_session *s = begin(w, c);
    go_on(s, N_TOK, want_row, out);
    peri_session_free(s);
}

static void compare_worlds(world *cpu, world *own) {
    for (int i = 0; i < N_CHAIN; i++) {
        int32_t tok[3][N_TOK];
        peri_engine *e = own->m->engine;
        uint64_t n_list = e->n_row_top, n_row = e->n_row_whole, bytes = e->n_row_bytes;
        bool has_list = chains[i].top && chains[i].top <= PERI_TOP_TOKENS;
        generate(own, &chains[i], false, tok[0]);
        assert_int_equal(e->n_row_top - n_list, has_list ? N_TOK + 1 : 0); /* the prompt's too */
        assert_int_equal(e->n_row_whole - n_row, has_list ? 0 : N_TOK + 1);
        assert_int_equal(e->n_row_bytes - bytes, (N_TOK + 1) * (has_list ? LIST_BYTES : ROW_BYTES));
        generate(own, &chains[i], true, tok[1]);
        if (memcmp(tok[0], tok[1], sizeof tok[0])) fail_msg("chain %d: other tokens", i);
        if (!cpu) continue;
        generate(cpu, &chains[i], false, tok[2]);
        if (memcmp(tok[0], tok[2], sizeof tok[0])) fail_msg("chain %d: not those of the CPU", i);
    }
}

static void lists_and_rows_give_the_same_tokens(void **state) {
    (void)state;
    world cpu, own;
    open_world(&cpu, "name=a,own=1", "cpu", false);
    open_world(&own, "name=a,own=1", "a", true);
    compare_worlds(&cpu, &own);
    assert_int_equal(cpu.m->engine->n_row_top, 0);
    assert_int_equal(cpu.m->engine->n_row_bytes, 0);
    close_world(&own);
    close_world(&cpu);
}

static void lists_and_rows_give_the_same_tokens_on_opencl(void **state) {
    (void)state;
    world w;
    char *json;
    peri_error err;
    open_world(&w, "name=a,own=1", "a", false);
    assert_ok(peri_runtime_devices(w.rt, &json, &err), err);
    bool has = strstr(json, "\"plugin\": \"opencl\"") != NULL;
    peri_text_free(json);
    close_world(&w);
    if (!has) skip();
    open_world(&w, "name=a,own=1", "opencl", true);
    compare_worlds(NULL, &w);
    close_world(&w);
}

/* ---- what a session does with a list ---- */

static void forks_marks_and_other_parameters_go_on_from_a_list(void **state) {
    (void)state;
    int32_t whole[12], list[12], again[6];
    world w;
    peri_session *s, *child[2];
    peri_mark *m;
    peri_error err;
    peri_arena *a = peri_arena_new();
    peri_sampling all = sampling_of(a, &chains[11]);
    open_world(&w, "name=a,own=1", "a", false);
    for (int way = 0; way < 2; way++) {
        int32_t *out = way ? list : whole;
        s = begin(&w, &chains[2]);
        go_on(s, 4, !way, out);
        assert_int_equal(s->has_logits, !way);
        assert_int_equal(s->top.n, way ? PERI_TOP_TOKENS : 0);
        assert_ok(peri_session_mark(s, &m, &err), err);
        assert_ok(peri_session_fork(s, &child[way], &err), err);
        go_on(child[way], 3, !way, out + 4);
        go_on(s, 3, !way, again);
        assert_ok(peri_session_rewind_to(s, m, &err), err);
        uint64_t n_step = w.m->engine->n_step;
        go_on(s, 3, !way, out + 7);
        assert_int_equal(w.m->engine->n_step - n_step, 3); /* the mark had the prediction */
        assert_memory_equal(out + 7, again, 3 * sizeof *again);
        assert_ok(peri_session_set_sampling(s, &all, &err), err);
        assert_ok(peri_session_sample(s, &out[10], &err), err);
        assert_int_equal(w.m->engine->n_step - n_step, way ? 4 : 3); /* the row, once more */
        assert_true(s->has_logits);
        out[11] = out[10];
        peri_mark_free(m);
        peri_session_free(s);
        peri_session_free(child[way]);
    }
    assert_memory_equal(whole, list, sizeof whole);
    close_world(&w);
    peri_arena_free(a);
}

/* A session that a list was given to has the head of the row that a fork of it gets, to the bit. */
static void assert_list_of(const peri_session *s, const peri_session *whole) {
    peri_top want;
    assert_true(!s->has_logits && whole->has_logits);
    list_of(whole->logits, PERI_TOP_TOKENS, &want);
    assert_int_equal(s->top.n, want.n);
    assert_memory_equal(s->top.id, want.id, sizeof want.id);
    assert_memory_equal(s->top.logit, want.logit, sizeof want.logit);
}

/* n sessions after one prompt, and what each is fed next. */
typedef struct crowd {
    peri_session *s[N_SESSION];
    int32_t tok[N_SESSION];
    peri_step_feed feed[N_SESSION];
    size_t n;
} crowd;

static void begin_crowd(crowd *m, world *w, const chain *c, size_t n) {
    peri_error err;
    m->n = n;
    m->s[0] = begin(w, c);
    for (size_t i = 0; i < n; i++) {
        if (i) assert_ok(peri_session_fork(m->s[0], &m->s[i], &err), err);
        m->tok[i] = (int32_t)(11 * i + 3);
        m->feed[i] = (peri_step_feed){.s = m->s[i], .tok = &m->tok[i], .n_tok = 1};
    }
}

static void end_crowd(crowd *m) {
    for (size_t i = 0; i < m->n; i++)
        peri_session_free(m->s[i]);
}

/* The row of session i, whose last token is computed in a step of its own. */
static peri_session *whole_row_of(crowd *m, size_t i) {
    peri_session *one;
    peri_error err;
    assert_ok(peri_session_fork(m->s[i], &one, &err), err);
    peri_session_unpredict(one);
    const peri_step_feed f = {
        .s = one, .tok = &one->tok[one->n_tok - 1], .n_tok = 1, .is_again = true, .want_row = true};
    assert_ok(peri_engine_step(one->e, &f, 1, 0, &err), err);
    return one;
}

static void each_row_of_a_step_comes_as_it_is_wanted(void **state) {
    (void)state;
    static const size_t counts[] = {5, N_MANY}; /* the plan of few tokens, and that of many */
    world w;
    peri_error err;
    open_world(&w, "name=a,own=1", "a", false);
    peri_engine *e = w.m->engine;
    for (int k = 0; k < 2; k++) {
        crowd m;
        uint64_t n_list = e->n_row_top + 1, n_row = e->n_row_whole; /* with the prompt's */
        uint64_t bytes = e->n_row_bytes + LIST_BYTES, n_step = e->n_step + 1;
        begin_crowd(&m, &w, &chains[2], counts[k]);
        m.feed[0].want_row = m.feed[2].want_row = m.feed[3].want_row = true;
        assert_ok(peri_engine_step(e, m.feed, m.n, 0, &err), err);
        assert_int_equal(e->n_step - n_step, 1);
        assert_int_equal(e->n_row_top - n_list, m.n - 3);
        assert_int_equal(e->n_row_whole - n_row, 3);
        assert_int_equal(e->n_row_bytes - bytes, m.n * LIST_BYTES + 3 * ROW_BYTES);
        for (size_t i = 0; i < m.n; i++) {
            peri_session *one = whole_row_of(&m, i);
            if (m.feed[i].want_row) {
                assert_true(m.s[i]->has_logits && !m.s[i]->top.n);
                assert_memory_equal(m.s[i]->logits, one->logits, ROW_BYTES);
            } else {
                assert_list_of(m.s[i], one);
            }
            peri_session_free(one);
        }
        end_crowd(&m);
    }
    close_world(&w);
}

static void sessions_beside_a_prompt_get_lists(void **state) {
    (void)state;
    enum { N_LONG = 2 * N_BATCH };
    int32_t prompt[N_LONG];
    world w;
    crowd m;
    peri_error err;
    peri_session *fed;
    open_world(&w, "name=a,own=1", "a", false);
    peri_engine *e = w.m->engine;
    begin_crowd(&m, &w, &chains[0], N_MANY + 1);
    fed = m.s[N_MANY];
    for (int i = 0; i < N_LONG; i++)
        prompt[i] = (i * 17 + 5) % V;
    m.feed[N_MANY] = (peri_step_feed){.s = fed, .tok = prompt, .n_tok = N_LONG, .want_row = true};
    uint64_t n_list = e->n_row_top, n_row = e->n_row_whole, n_step = e->n_step;
    assert_ok(peri_engine_step(e, m.feed, m.n, 0, &err), err);
    assert_int_equal(e->n_step - n_step, 3); /* the first with what N_MANY tokens leave of it */
    assert_int_equal(e->n_row_top - n_list, N_MANY);
    assert_int_equal(e->n_row_whole - n_row, 1);
    for (size_t i = 0; i < N_MANY; i++) {
        peri_session *one = whole_row_of(&m, i);
        assert_list_of(m.s[i], one);
        peri_session_free(one);
    }
    peri_session *one = whole_row_of(&m, N_MANY);
    assert_true(fed->has_logits);
    assert_memory_equal(fed->logits, one->logits, ROW_BYTES);
    peri_session_free(one);
    end_crowd(&m);
    close_world(&w);
}

static void explain_shows_the_plans_that_give_lists(void **state) {
    (void)state;
    world w;
    char *text;
    peri_error err;
    open_world(&w, "name=a,own=1", "a", false);
    assert_ok(peri_model_explain(w.m, &text, &err), err);
    const char *few = strstr(text, "\"decode with likeliest\"");
    const char *many = strstr(text, "\"prefill with likeliest\"");
    assert_true(few && many);
    const char *topk = strstr(many, "\"TOPK\""), *rows = strstr(many, "\"rows\"");
    assert_true(topk && rows && topk < rows);
    peri_text_free(text);
    close_world(&w);
}

static void where_it_is_declined_rows_come_whole(void **state) {
    (void)state;
    int32_t tok[2][N_TOK];
    char *text;
    world w, cpu;
    peri_error err;
    open_world(&w, "name=a,own=1,no=TOPK", "a", true); /* nothing is lost, so --strict agrees */
    open_world(&cpu, "name=a,own=1", "cpu", true);
    generate(&w, &chains[2], false, tok[0]);
    generate(&cpu, &chains[2], false, tok[1]);
    assert_memory_equal(tok[0], tok[1], sizeof tok[0]);
    assert_int_equal(w.m->engine->n_row_top, 0);
    assert_ok(peri_model_explain(w.m, &text, &err), err);
    const char *rows = strstr(text, "\"rows\"");
    assert_non_null(rows);
    assert_non_null(strstr(rows, "\"likeliest\": 0"));
    assert_non_null(strstr(rows, "\"why\": \"no TOPK here\""));
    assert_null(strstr(text, "with likeliest"));
    peri_text_free(text);
    close_world(&cpu);
    close_world(&w);
}

static void a_token_that_is_none_ends_the_step(void **state) {
    (void)state;
    static const char *const devices[] = {"name=a,own=1,token=-1", "name=a,own=1,token=300",
                                          "name=a,own=1,token=299"};
    for (int i = 0; i < 3; i++) {
        world w;
        peri_error err;
        int32_t id = 0;
        open_world(&w, devices[i], "a", true);
        peri_session *s = open_session(&w, &chains[2]);
        peri_status st = peri_session_feed(s, &id, 1, &err);
        if (i == 2)
            assert_ok(st, err);
        else
            assert_error(&err, PERI_E_OTHER,
                         i ? "TOPK gave token 300, the vocabulary has 0 to 299"
                           : "TOPK gave token -1, the vocabulary has 0 to 299");
        assert_int_equal(st, i == 2 ? PERI_OK : PERI_E_OTHER);
        assert_int_equal(peri_session_n_tok(s), i == 2);
        peri_session_free(s);
        close_world(&w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pick_from_the_list_is_the_pick_from_the_row),
        cmocka_unit_test(a_list_that_is_not_enough_is_refused),
        cmocka_unit_test(lists_and_rows_give_the_same_tokens),
        cmocka_unit_test(lists_and_rows_give_the_same_tokens_on_opencl),
        cmocka_unit_test(forks_marks_and_other_parameters_go_on_from_a_list),
        cmocka_unit_test(each_row_of_a_step_comes_as_it_is_wanted),
        cmocka_unit_test(sessions_beside_a_prompt_get_lists),
        cmocka_unit_test(explain_shows_the_plans_that_give_lists),
        cmocka_unit_test(where_it_is_declined_rows_come_whole),
        cmocka_unit_test(a_token_that_is_none_ends_the_step),
    };
    int rc = peri_run_tests(tests);
    rig_end();
    return rc;
}
