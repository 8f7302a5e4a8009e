/* SPDX-License-Identifier: MIT
 *
 * test_sampler.c - the chain on small logits: the cases of tests/cases/sampler, draws, what is
 * remembered between picks, saving, hostile input, allocation failure.  tests/peer/samplers.py
 * compares it with the peer.
 *
 * A case file: "case NAME", then logits X ..., history ID ..., set NAME=VALUE (several), and
 * expect ID:P ... with P within 1e-6; lines with # are comments. */
#include "harness.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "fault.h"
#include "run/rng.h"
#include "run/sampler.h"

enum { MAX = 64 };

/* Known answers.  Source: Random123 distribution, kat_vectors, "philox4x32 10". */
static void philox_gives_the_published_answers(void **state) {
    (void)state;
    static const struct {
        uint32_t c[4], k[2], out[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof kat[0]; i++) {
        uint32_t out[4];
        peri_philox(kat[i].c, kat[i].k, out);
        for (int j = 0; j < 4; j++)
            assert_int_equal(out[j], kat[i].out[j]);
    }
}

static void random_depends_on_every_part_of_its_key(void **state) {
    (void)state;
    double x = peri_random(1, 2, 3, 4);
    assert_true(x >= 0 && x < 1);
    assert_true(x == peri_random(1, 2, 3, 4));
    assert_true(x != peri_random(2, 2, 3, 4));
    assert_true(x != peri_random(1, 3, 3, 4));
    assert_true(x != peri_random(1, 2, 4, 4));
    assert_true(x != peri_random(1, 2, 3, 5));
    assert_true(x != peri_random(1ull << 32 | 1, 2, 3, 4));
}

static void streams_of_children_differ_and_are_never_the_roots(void **state) {
    (void)state;
    uint64_t seen[300];
    size_t n = 0;
    for (uint64_t parent = 0; parent < 3; parent++)
        for (uint64_t k = 1; k <= 100; k++)
            seen[n++] = peri_stream_child(parent ? seen[parent] : 0, k);
    for (size_t i = 0; i < n; i++) {
        assert_true(seen[i] != 0);
        for (size_t j = 0; j < i; j++)
            assert_true(seen[i] != seen[j]);
    }
}

/* ---- making samplers ------------------------------------------------------------------------- */

static peri_sampler *make(const peri_sampling *p, int32_t n_vocab) {
    const peri_sampler_vocab v = {.n_vocab = n_vocab, .n_ctx = 256};
    peri_sampler *s;
    peri_error err;
    assert_ok(peri_sampler_new(p, &v, &s, &err), err);
    return s;
}

static int32_t pick(peri_sampler *s, const float *logits, const int32_t *tok, int32_t n_tok) {
    peri_error err;
    int32_t id;
    assert_ok(peri_sampler_pick(s, logits, tok, n_tok, &id, &err), err);
    return id;
}

/* Parameters from "name=value" settings over everything off. */
static peri_sampling with(peri_arena *a, const char *const *setting, size_t n) {
    peri_sampling p;
    peri_error err;
    assert_ok(peri_sampling_init(&p, PERI_ORIGIN_OFF, NULL, &err), err);
    for (size_t i = 0; i < n; i++)
        assert_ok(peri_sampling_apply(&p, a, setting[i], &err), err);
    return p;
}
#define WITH(a, ...)                                                                               \
    with((a), (const char *const[]){__VA_ARGS__},                                                  \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* ---- cases ----------------------------------------------------------------------------------- */

typedef struct case_run {
    const char *file;
    char name[120];
    float logits[MAX];
    int32_t history[MAX];
    char setting[16][80];
    size_t n_logit, n_history, n_setting, n_case;
} case_run;

static void expect(case_run *r, char *rest) {
    peri_arena *a = peri_arena_new();
    const char *setting[16];
    for (size_t i = 0; i < r->n_setting; i++)
        setting[i] = r->setting[i];
    peri_sampling p = with(a, setting, r->n_setting);
    peri_sampler *s = make(&p, (int32_t)r->n_logit);
    const peri_candidate *c;
    int32_t id = pick(s, r->logits, r->history, (int32_t)r->n_history);
    size_t n = peri_sampler_survivors(s, &c), k = 0;
    bool is_among = false;
    for (char *at = rest, *end; *at; at = end, k++) {
        long want = strtol(at, &end, 10);
        if (end == at) break;
        double p_want = strtod(end + 1, &end);
        if (k >= n || c[k].id != want || fabs((double)c[k].p - p_want) > 1e-6)
            fail_msg("%s: %s: survivor %zu of %zu: found %d:%.7f, expected %ld:%.7f", r->file,
                     r->name, k, n, k < n ? c[k].id : -1, k < n ? (double)c[k].p : 0., want,
                     p_want);
        is_among = is_among || want == id;
    }
    if (k != n) fail_msg("%s: %s: found %zu survivors, expected %zu", r->file, r->name, n, k);
    if (!is_among) fail_msg("%s: %s: %d was chosen, no survivor", r->file, r->name, id);
    r->n_case++;
    peri_sampler_free(s);
    peri_arena_free(a);
}

static void do_line(case_run *r, char *line) {
    char *rest = strchr(line, ' ');
    rest = rest ? rest + 1 : line + strlen(line);
    if (strncmp(line, "case ", 5) == 0) {
        snprintf(r->name, sizeof r->name, "%s", rest);
        r->n_logit = r->n_history = r->n_setting = 0;
    } else if (strncmp(line, "logits ", 7) == 0) {
        for (char *end; r->n_logit < MAX; rest = end) {
            r->logits[r->n_logit] = strtof(rest, &end);
            if (end == rest) break;
            r->n_logit++;
        }
    } else if (strncmp(line, "history ", 8) == 0) {
        for (char *end; r->n_history < MAX; rest = end) {
            r->history[r->n_history] = (int32_t)strtol(rest, &end, 10);
            if (end == rest) break;
            r->n_history++;
        }
    } else if (strncmp(line, "set ", 4) == 0) {
        assert_true(r->n_setting < 16);
        snprintf(r->setting[r->n_setting++], sizeof r->setting[0], "%s", rest);
    } else if (strncmp(line, "expect ", 7) == 0) {
        expect(r, rest);
    } else if (line[0] != '#' && line[0]) {
        fail_msg("%s: what is \"%s\"?", r->file, line);
    }
}

static void cases_leave_the_expected_survivors(void **state) {
    (void)state;
    char name[512], line[512];
    DIR *d = opendir(PERI_SOURCE_DIR "/tests/cases/sampler");
    assert_non_null(d);
    case_run r = {0};
    for (struct dirent *e; (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n < 6 || strcmp(e->d_name + n - 5, ".case") != 0) continue;
        r.file = e->d_name;
        snprintf(name, sizeof name, "%s/tests/cases/sampler/%s", PERI_SOURCE_DIR, e->d_name);
        FILE *f = fopen(name, "r");
        assert_non_null(f);
        while (fgets(line, sizeof line, f)) {
            line[strcspn(line, "\n")] = 0;
            do_line(&r, line);
        }
        fclose(f);
    }
    closedir(d);
    assert_true(r.n_case > 30);
}

/* ---- the draw -------------------------------------------------------------------------------- */

static void greedy_breaks_ties_by_the_lower_id(void **state) {
    (void)state;
    const float logits[] = {1, 5, NAN, 5, -3, 5};
    peri_sampler *s = make(&(peri_sampling){0}, 6);
    assert_int_equal(pick(s, logits, NULL, 0), 1);
    peri_sampler_free(s);
}

static void greedy_sees_what_the_penalties_did(void **state) {
    (void)state;
    const float logits[] = {1, 5, 4.5f, 2};
    const int32_t tok[] = {1, 1};
    peri_sampling p = {.repeat_last_n = -1, .presence_penalty = 1, .top_k = 3, .min_p = 0.1f};
    peri_sampler *s = make(&p, 4);
    assert_int_equal(pick(s, logits, tok, 2), 2);
    assert_int_equal(pick(s, logits, tok, 0), 1);
    peri_sampler_free(s);
    p.n_order = 3; /* top_k 1 before the penalties leaves nothing to choose */
    p.order[0] = PERI_LINK_TOP_K;
    p.order[1] = PERI_LINK_PENALTIES;
    p.order[2] = PERI_LINK_TEMPERATURE;
    p.top_k = 1;
    s = make(&p, 4);
    assert_int_equal(pick(s, logits, tok, 2), 1);
    peri_sampler_free(s);
}

static void draws_follow_the_tempered_distribution(void **state) {
    (void)state;
    enum { N = 40000 };
    const float logits[] = {0, 1, 2};
    static int32_t tok[N];
    const peri_sampler_vocab v = {.n_vocab = 3, .n_ctx = N};
    peri_error err;
    peri_sampler *s;
    double want[3], sum = 0, chi2 = 0;
    int seen[3] = {0};
    assert_ok(peri_sampler_new(&(peri_sampling){.temp = 2, .seed = 11}, &v, &s, &err), err);
    for (int i = 0; i < 3; i++)
        sum += want[i] = exp((double)logits[i] / 2);
    for (int32_t i = 0; i < N; i++)
        seen[pick(s, logits, tok, i)]++;
    for (int i = 0; i < 3; i++)
        chi2 += pow(seen[i] - N * want[i] / sum, 2) / (N * want[i] / sum);
    assert_true(chi2 < 13.8); /* 2 degrees of freedom, p = 0.001; the draws are fixed by the seed */
    peri_sampler_free(s);
}

static void xtc_runs_with_its_chance_and_its_own_numbers(void **state) {
    (void)state;
    enum { N = 4000 };
    const float logits[] = {2, 2, 0};
    static int32_t tok[N];
    peri_arena *a = peri_arena_new();
    peri_sampling p = WITH(a, "samplers=xtc", "xtc_probability=0.25", "xtc_threshold=0.3");
    const peri_sampler_vocab v = {.n_vocab = 3, .n_ctx = N};
    peri_error err;
    peri_sampler *s;
    const peri_candidate *c;
    int ran = 0;
    assert_ok(peri_sampler_new(&p, &v, &s, &err), err);
    for (int32_t i = 0; i < N; i++) {
        pick(s, logits, tok, i);
        bool is_cut = peri_sampler_survivors(s, &c) == 2;
        assert_int_equal(is_cut, peri_random(p.seed, p.stream, (uint32_t)i, 1) < 0.25);
        ran += is_cut;
    }
    assert_true(ran > 880 && ran < 1120); /* 1000 expected, deviation 27 */
    peri_sampler_free(s);
    peri_arena_free(a);
}

/* Long lists go other ways than short ones: by radix, by a tried head. */
static void long_lists_are_cut_like_short_ones(void **state) {
    (void)state;
    enum { N = 5000 };
    static float logits[N];
    static int32_t order[N];
    peri_arena *a = peri_arena_new();
    const peri_sampler_vocab v = {.n_vocab = N, .n_ctx = 8};
    peri_error err;
    for (int i = 0; i < N; i++) {
        logits[i] = (float)((i * 7919) % 997) / 40 - (i % 3 ? 0.5f : 0);
        order[i] = i;
    }
    for (int i = 1; i < N; i++) /* stable */
        for (int j = i; j > 0 && logits[order[j]] > logits[order[j - 1]]; j--) {
            int32_t t = order[j];
            order[j] = order[j - 1];
            order[j - 1] = t;
        }
    static const char *const set[][3] = {
        {"samplers=top_k", "top_k=17", "seed=1"},
        {"samplers=top_k", "top_k=3000", "seed=1"},
        {"samplers=top_p", "top_p=0.3", "seed=1"},
        {"samplers=top_p", "top_p=0.999", "seed=1"},
        {"samplers=min_p", "min_p=0.02", "seed=1"},
        {"samplers=min_p;top_k", "top_k=900", "min_p=0.1"},
        {"samplers=min_p", "min_p=0.9", "min_keep=700"},
        {"samplers=typ_p;top_k", "typical_p=0.9", "top_k=40"},
    };
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++) {
        peri_sampling p = with(a, set[i], 3);
        const peri_candidate *c;
        peri_sampler *s;
        assert_ok(peri_sampler_new(&p, &v, &s, &err), err);
        pick(s, logits, NULL, 0);
        size_t n = peri_sampler_survivors(s, &c);
        assert_true(n > 0 && n < N);
        double sum = 0;
        for (size_t k = 0; k < n; k++) {
            sum += (double)c[k].p;
            if (i < 7) assert_int_equal(c[k].id, order[k]);
            if (k) assert_true(c[k - 1].logit >= c[k].logit);
        }
        assert_true(fabs(sum - 1) < 1e-4);
        peri_sampler_free(s);
    }
    peri_arena_free(a);
}

/* ---- what is remembered ---------------------------------------------------------------------- */

enum { STEPS = 60, VOCAB = 24 };

static void logits_at(const int32_t *tok, int32_t n, float *logits) {
    uint32_t x = 1 + (uint32_t)n * 2654435761u + (n ? (uint32_t)tok[n - 1] * 40503u : 0);
    for (int i = 0; i < VOCAB; i++) {
        x = x * 1664525u + 1013904223u;
        logits[i] = (float)(x >> 8) / (1 << 21);
    }
}

/* Pick until the text has n tokens. */
static void go_on(peri_sampler *s, int32_t *tok, int32_t from, int32_t n) {
    float logits[VOCAB];
    for (int32_t i = from; i < n; i++) {
        logits_at(tok, i, logits);
        tok[i] = pick(s, logits, tok, i);
    }
}

static const char *const chains[][4] = {
    {"mirostat=1", "mirostat_tau=2", "mirostat_eta=0.3", "temp=1"},
    {"mirostat=2", "mirostat_tau=2", "mirostat_eta=0.3", "temp=1"},
    {"samplers=min_p;adaptive_p", "adaptive_target=0.3", "min_p=0.01", "adaptive_decay=0.8"},
    {"samplers=penalties;dry;xtc;temperature", "repeat_last_n=-1", "presence_penalty=1",
     "temp=1.5"},
};
enum { N_CHAIN = sizeof chains / sizeof chains[0] };

static void rewinding_and_playing_again_is_exact(void **state) {
    (void)state;
    peri_arena *a = peri_arena_new();
    for (size_t i = 0; i < N_CHAIN; i++) {
        peri_sampling p = with(a, chains[i], 4);
        peri_sampler *s = make(&p, VOCAB);
        int32_t tok[STEPS], first[STEPS];
        go_on(s, tok, 0, STEPS);
        memcpy(first, tok, sizeof tok);
        go_on(s, tok, 20, STEPS);
        assert_memory_equal(tok, first, sizeof tok);
        tok[29] = (tok[29] + 1) % VOCAB; /* another way from there: other records */
        go_on(s, tok, 30, STEPS);
        peri_sampler *fresh = make(&p, VOCAB);
        int32_t again[STEPS];
        go_on(fresh, again, 0, 29);
        again[29] = tok[29];
        go_on(fresh, again, 30, STEPS);
        assert_memory_equal(tok, again, sizeof tok);
        memcpy(tok, first, sizeof tok); /* and back */
        go_on(s, tok, 20, STEPS);
        assert_memory_equal(tok, first, sizeof tok);
        peri_sampler_free(fresh);
        peri_sampler_free(s);
    }
    peri_arena_free(a);
}

static void a_clone_on_the_same_stream_goes_on_alike(void **state) {
    (void)state;
    peri_arena *a = peri_arena_new();
    peri_error err;
    for (size_t i = 0; i < N_CHAIN; i++) {
        peri_sampling p = with(a, chains[i], 4);
        peri_sampler *s = make(&p, VOCAB), *same, *other;
        int32_t tok[STEPS], twin[STEPS], child[STEPS];
        go_on(s, tok, 0, 40);
        memcpy(twin, tok, sizeof tok);
        memcpy(child, tok, sizeof tok);
        assert_ok(peri_sampler_clone(s, 0, 30, &same, &err), err);
        assert_ok(peri_sampler_clone(s, 5, 30, &other, &err), err);
        go_on(s, tok, 40, STEPS);
        peri_sampler_free(s); /* clones live on */
        go_on(same, twin, 30, STEPS);
        go_on(other, child, 30, STEPS);
        assert_memory_equal(tok, twin, sizeof tok);
        assert_memory_not_equal(tok, child, sizeof tok);
        assert_int_equal(peri_sampler_params(other)->stream, 5);
        peri_sampler_free(same);
        peri_sampler_free(other);
    }
    peri_arena_free(a);
}

static peri_sampler *through_bytes(const peri_sampler *s, int32_t n_tok) {
    peri_text bytes = {0};
    peri_error err;
    peri_sampler *back;
    const peri_sampler_vocab v = {.n_vocab = VOCAB, .n_ctx = 256};
    assert_ok(peri_sampler_save(s, n_tok, &bytes, &err), err);
    peri_reader r = {"saved", (const uint8_t *)bytes.data, bytes.size, 0};
    assert_ok(peri_sampler_restore(&r, &v, n_tok, &back, &err), err);
    assert_int_equal(peri_reader_left(&r), 0);
    for (size_t cut = 0; cut < bytes.size; cut++) {
        peri_sampler *none;
        peri_reader part = {"saved", (const uint8_t *)bytes.data, cut, 0};
        assert_true(peri_sampler_restore(&part, &v, n_tok, &none, &err) != PERI_OK);
        assert_null(none);
    }
    for (size_t i = 0; i < bytes.size; i++) { /* any byte may be wrong: an error or a sampler */
        peri_sampler *some;
        bytes.data[i] = (char)(bytes.data[i] ^ 0x81);
        peri_reader changed = {"saved", (const uint8_t *)bytes.data, bytes.size, 0};
        peri_status st = peri_sampler_restore(&changed, &v, n_tok, &some, &err);
        assert_true((st == PERI_OK) == (some != NULL));
        peri_sampler_free(some);
        bytes.data[i] = (char)(bytes.data[i] ^ 0x81);
    }
    peri_text_fini(&bytes);
    return back;
}

static void a_restored_sampler_goes_on_alike(void **state) {
    (void)state;
    peri_arena *a = peri_arena_new();
    for (size_t i = 0; i < N_CHAIN; i++) {
        peri_sampling p = with(a, chains[i], 4);
        peri_error err;
        assert_ok(peri_sampling_apply(&p, a, "logit_bias=3:0.25", &err), err);
        assert_ok(peri_sampling_apply(&p, a, "dry_sequence_breaker=x", &err), err);
        peri_sampler *s = make(&p, VOCAB);
        int32_t tok[STEPS], twin[STEPS];
        go_on(s, tok, 0, 40);
        memcpy(twin, tok, sizeof tok);
        peri_sampler *back = through_bytes(s, 30);
        go_on(s, tok, 40, STEPS);
        go_on(back, twin, 30, STEPS);
        assert_memory_equal(tok, twin, sizeof tok);
        assert_string_equal(peri_sampler_params(back)->breaker[0], "x");
        peri_sampler_free(back);
        peri_sampler_free(s);
    }
    peri_arena_free(a);
}

/* mu' = mu - eta (surprise - tau): eta 1 and a first surprise of 0 raise mu by tau. */
static void mirostat_moves_its_bound_by_the_surprise(void **state) {
    (void)state;
    const float sure[] = {50, 0, 0, 0}, even[] = {2, 0, 0, 0};
    const int32_t tok[1] = {0};
    peri_arena *a = peri_arena_new();
    peri_sampling p = WITH(a, "mirostat=2", "mirostat_tau=1", "mirostat_eta=1", "temp=1");
    peri_sampler *s = make(&p, 4);
    const peri_candidate *c;
    /* p of the others is 1 / (e^2 + 3) = 0.0963, a surprise of 3.38 bits: cut at mu 2 and at 3 */
    pick(s, even, tok, 0);
    assert_int_equal(peri_sampler_survivors(s, &c), 1);
    assert_int_equal(pick(s, sure, tok, 0), 0); /* surprise 0: mu = 2 - (0 - 1) = 3 */
    pick(s, even, tok, 1);
    assert_int_equal(peri_sampler_survivors(s, &c), 1);
    p.mirostat_eta = 2; /* mu = 2 + 2 = 4: they stay */
    peri_sampler *t = make(&p, 4);
    assert_int_equal(pick(t, sure, tok, 0), 0);
    pick(t, even, tok, 1);
    assert_int_equal(peri_sampler_survivors(t, &c), 4);
    peri_sampler_free(s);
    peri_sampler_free(t);
    peri_arena_free(a);
}

/* ---- log-probabilities ----------------------------------------------------------------------- */

static void logprobs_are_of_the_raw_logits_or_of_the_survivors(void **state) {
    (void)state;
    const float logits[] = {logf(0.5f), logf(0.125f), logf(0.25f), logf(0.125f), NAN};
    peri_token_logprob top[5];
    float own;
    peri_logprobs(logits, 5, 3, &own, top, 3);
    assert_float_equal(own, logf(0.125f), 1e-6);
    const int32_t want[] = {0, 2, 1};
    for (int i = 0; i < 3; i++)
        assert_int_equal(top[i].id, want[i]);
    assert_float_equal(top[1].logprob, logf(0.25f), 1e-6);
    peri_logprobs(logits, 5, 4, &own, NULL, 0);
    assert_true(isinf(own) && own < 0);
    peri_logprobs(logits, 5, 99, &own, top, 5);
    assert_true(isinf(own) && own < 0);
    peri_arena *a = peri_arena_new();
    peri_sampling p = WITH(a, "samplers=top_k", "top_k=2");
    peri_sampler *s = make(&p, 5);
    size_t n = 5;
    pick(s, logits, NULL, 0);
    peri_sampler_logprobs(s, 2, &own, top, &n);
    assert_int_equal(n, 2);
    assert_float_equal(own, logf(1 / 3.f), 1e-6);
    assert_float_equal(top[0].logprob, logf(2 / 3.f), 1e-6);
    peri_sampler_logprobs(s, 3, &own, NULL, NULL);
    assert_true(isinf(own) && own < 0);
    peri_sampler_free(s);
    peri_arena_free(a);
}

/* ---- hostile input --------------------------------------------------------------------------- */

static void logits_that_are_no_numbers_are_an_error(void **state) {
    (void)state;
    const float logits[] = {NAN, NAN}, inf[] = {1, INFINITY}, low[] = {-INFINITY, -INFINITY};
    const int32_t tok[5] = {0};
    peri_error err;
    int32_t id;
    peri_sampler *s = make(&(peri_sampling){0}, 2);
    assert_int_equal(peri_sampler_pick(s, logits, tok, 5, &id, &err), PERI_E_OTHER);
    assert_error(&err, PERI_E_OTHER, "position 5");
    assert_int_equal(id, -1);
    assert_int_equal(peri_sampler_pick(s, inf, tok, 5, &id, &err), PERI_E_OTHER);
    assert_int_equal(peri_sampler_pick(s, low, tok, 5, &id, &err), PERI_E_OTHER);
    peri_sampler_free(s);
}

static void biases_that_ban_everything_are_an_error(void **state) {
    (void)state;
    const float logits[] = {1, 2};
    static const peri_logit_bias all[] = {{0, -INFINITY}, {1, -INFINITY}}, far[] = {{2, 1}},
                                 nan[] = {{0, NAN}};
    const peri_sampler_vocab v = {.n_vocab = 2, .n_ctx = 8};
    peri_error err;
    int32_t id;
    for (float temp = 0; temp <= 1; temp++) {
        peri_sampling p = {.temp = temp, .bias = all, .n_bias = 2};
        peri_sampler *s = make(&p, 2);
        assert_int_equal(peri_sampler_pick(s, logits, NULL, 0, &id, &err), PERI_E_INVALID);
        assert_error(&err, PERI_E_INVALID, "no token is left");
        peri_sampler_free(s);
    }
    peri_sampler *none;
    assert_int_equal(peri_sampler_new(&(peri_sampling){.bias = far, .n_bias = 1}, &v, &none, &err),
                     PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "found token 2, the vocabulary has 0 to 1");
    assert_int_equal(peri_sampler_new(&(peri_sampling){.bias = nan, .n_bias = 1}, &v, &none, &err),
                     PERI_E_RANGE);
}

/* Every parameter at its bounds, alone and all together, and beyond them. */
static void extreme_parameters_pick_or_are_refused(void **state) {
    (void)state;
    const float logits[] = {3, 1e30f, -1e30f, 0, -0.f, NAN, -INFINITY, 1};
    const int32_t tok[] = {0, 1, 1, 0, 1, 1, 7, 7, 7, 7};
    const peri_sampler_vocab v = {.n_vocab = 8, .n_ctx = 16};
    peri_error err;
    int32_t id;
    for (size_t i = 0; i < peri_sampling_n_param; i++) {
        const peri_sampling_param *q = &peri_sampling_params[i];
        const double good[] = {q->lo, q->hi, q->value[1]},
                     bad[] = {NAN, q->lo - 1, INFINITY, -INFINITY, 1e40};
        for (size_t k = 0; k < 3; k++)
            for (int origin = 0; origin < PERI_N_ORIGIN; origin++) {
                peri_sampling p;
                peri_sampler *s;
                assert_ok(peri_sampling_init(&p, (peri_origin)origin, NULL, &err), err);
                assert_ok(peri_sampling_set(&p, q->name, good[k], &err), err);
                assert_ok(peri_sampler_new(&p, &v, &s, &err), err);
                pick(s, logits, tok, 10);
                peri_sampler_free(s);
            }
        for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
            peri_sampling p = {0};
            assert_int_equal(peri_sampling_set(&p, q->name, bad[k], &err), PERI_E_RANGE);
            assert_error(&err, PERI_E_RANGE, q->name);
        }
    }
    peri_sampling all;
    assert_ok(peri_sampling_init(&all, PERI_ORIGIN_RUN, NULL, &err), err);
    for (size_t i = 0; i < peri_sampling_n_param; i++)
        assert_ok(
            peri_sampling_set(&all, peri_sampling_params[i].name, peri_sampling_params[i].hi, &err),
            err);
    peri_sampler *s;
    assert_ok(peri_sampler_new(&all, &v, &s, &err), err);
    assert_ok(peri_sampler_pick(s, logits, tok, 10, &id, &err), err);
    peri_sampler_free(s);
    all.temp = NAN; /* past peri_sampling_set */
    assert_int_equal(peri_sampler_new(&all, &v, &s, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "temp: found nan");
}

static void positions_beyond_the_context_are_refused_where_records_are_kept(void **state) {
    (void)state;
    static int32_t tok[300];
    const float logits[] = {1, 2};
    peri_error err;
    int32_t id;
    peri_sampling p = {.mirostat = 2, .mirostat_tau = 5, .mirostat_eta = 0.1f, .temp = 1};
    peri_sampler *s = make(&p, 2);
    pick(s, logits, tok, 256);
    assert_int_equal(peri_sampler_pick(s, logits, tok, 257, &id, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "position 257");
    assert_int_equal(peri_sampler_pick(s, logits, tok, -1, &id, &err), PERI_E_RANGE);
    peri_sampler_free(s);
}

static void infill_without_a_tokenizer_is_refused(void **state) {
    (void)state;
    const peri_sampler_vocab v = {.n_vocab = 8, .n_ctx = 16};
    peri_arena *a = peri_arena_new();
    peri_sampling p = WITH(a, "samplers=infill");
    peri_error err;
    peri_sampler *s;
    assert_int_equal(peri_sampler_new(&p, &v, &s, &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED, "infill needs a tokenizer");
    peri_arena_free(a);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void a_pick_allocates_nothing(void **state) {
    (void)state;
    static int32_t tok[STEPS];
    peri_arena *a = peri_arena_new();
    for (size_t i = 0; i < N_CHAIN; i++) {
        peri_sampling p = with(a, chains[i], 4);
        peri_sampler *s = make(&p, VOCAB);
        float logits[VOCAB];
        logits_at(tok, 0, logits);
        peri_fault *f = peri_fault_alloc_install();
        uint64_t before = f->calls;
        for (int32_t k = 0; k < STEPS; k++)
            tok[k] = pick(s, logits, tok, k);
        assert_int_equal(f->calls, before);
        peri_fault_alloc_remove();
        peri_sampler_free(s);
    }
    peri_arena_free(a);
}

static peri_status whole_life(peri_error *err) {
    const peri_sampler_vocab v = {.n_vocab = VOCAB, .n_ctx = 32};
    const float logits[VOCAB] = {1};
    const char *const breaker[] = {"a"};
    const peri_logit_bias bias[] = {{1, 1}};
    peri_sampling p = {.mirostat = 2,
                       .mirostat_tau = 5,
                       .temp = 1,
                       .bias = bias,
                       .n_bias = 1,
                       .breaker = breaker,
                       .n_breaker = 1};
    peri_sampler *s, *child = NULL, *back = NULL;
    peri_text bytes = {0};
    int32_t id, tok[1] = {0};
    peri_status st = peri_sampler_new(&p, &v, &s, err);
    if (!st) st = peri_sampler_pick(s, logits, tok, 0, &id, err);
    if (!st) st = peri_sampler_clone(s, 3, 1, &child, err);
    if (!st) st = peri_sampler_save(child, 1, &bytes, err);
    peri_reader r = {"saved", (const uint8_t *)bytes.data, bytes.size, 0};
    if (!st) st = peri_sampler_restore(&r, &v, 1, &back, err);
    peri_text_fini(&bytes);
    peri_sampler_free(back);
    peri_sampler_free(child);
    peri_sampler_free(s);
    return st;
}

static void every_failing_allocation_is_reported_and_leaks_nothing(void **state) {
    (void)state;
    peri_error err;
    peri_fault *f = peri_fault_alloc_install();
    assert_ok(whole_life(&err), err);
    uint64_t calls = f->calls;
    assert_true(calls > 10);
    for (uint64_t n = 1; n <= calls; n++) {
        f->calls = 0;
        f->fail_at = n;
        assert_int_equal(whole_life(&err), PERI_E_NOMEM);
        assert_int_equal(f->live, 0);
    }
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(random_depends_on_every_part_of_its_key),
        cmocka_unit_test(streams_of_children_differ_and_are_never_the_roots),
        cmocka_unit_test(cases_leave_the_expected_survivors),
        cmocka_unit_test(greedy_breaks_ties_by_the_lower_id),
        cmocka_unit_test(greedy_sees_what_the_penalties_did),
        cmocka_unit_test(draws_follow_the_tempered_distribution),
        cmocka_unit_test(xtc_runs_with_its_chance_and_its_own_numbers),
        cmocka_unit_test(long_lists_are_cut_like_short_ones),
        cmocka_unit_test(rewinding_and_playing_again_is_exact),
        cmocka_unit_test(a_clone_on_the_same_stream_goes_on_alike),
        cmocka_unit_test(a_restored_sampler_goes_on_alike),
        cmocka_unit_test(mirostat_moves_its_bound_by_the_surprise),
        cmocka_unit_test(logprobs_are_of_the_raw_logits_or_of_the_survivors),
        cmocka_unit_test(logits_that_are_no_numbers_are_an_error),
        cmocka_unit_test(biases_that_ban_everything_are_an_error),
        cmocka_unit_test(extreme_parameters_pick_or_are_refused),
        cmocka_unit_test(positions_beyond_the_context_are_refused_where_records_are_kept),
        cmocka_unit_test(infill_without_a_tokenizer_is_refused),
        cmocka_unit_test(a_pick_allocates_nothing),
        cmocka_unit_test(every_failing_allocation_is_reported_and_leaks_nothing),
    };
    return peri_run_tests(tests);
}
