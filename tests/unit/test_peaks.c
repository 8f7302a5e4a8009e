/* SPDX-License-Identifier: MIT
 *
 * test_peaks.c - the largest logits of neighbours (core/run/peaks.h), and that picks which look
 * where they point are those of a look at every logit. */
#include "harness.h"

#include <math.h>
#include <string.h>

#include "rig.h"
#include "run/rng.h"
#include "run/session.h"

enum { V = 5001, N_CTX = 64 }; /* more peaks than the usual top_k, the last one of few logits */

/* Bell-shaped in steps, so that many are equal; of two rows in three some are no numbers. */
static void fill(float *x, size_t n, uint64_t row) {
    for (uint32_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t k = 0; k < 4; k++)
            sum += peri_random(row, 1, i, k);
        x[i] = (float)floor(24 * sum) / 4 - 12;
        if (row % 3 && peri_random(row, 2, i, 0) < 0.2) x[i] = row % 3 == 1 ? NAN : -INFINITY;
    }
}

static float largest(const float *x, size_t n) {
    float most = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (x[i] > most) most = x[i];
    return most;
}

static void assert_peaks(const float *x, size_t n, const float *peak) {
    for (size_t i = 0; i < peri_n_peak(n); i++) {
        size_t at = i * PERI_PEAK, left = n - at;
        float want = largest(x + at, left < PERI_PEAK ? left : PERI_PEAK);
        if (peak[i] != want)
            fail_msg("peak %zu of %zu logits: %g, want %g", i, n, (double)peak[i], (double)want);
    }
}

static void peaks_are_the_largest_of_their_neighbours(void **state) {
    (void)state;
    float x[300], to[300], peak[6];
    for (uint64_t row = 0; row < 6; row++)
        for (size_t n = 1; n <= 300; n++) {
            fill(x, n, row);
            peak[peri_n_peak(n)] = 17;
            peri_peaks_find(x, n, peak);
            assert_peaks(x, n, peak);
            memset(peak, 0, peri_n_peak(n) * sizeof *peak);
            memset(to, 0, sizeof to);
            peri_peaks_copy(x, n, to, peak);
            assert_peaks(x, n, peak);
            assert_memory_equal(to, x, n * sizeof *x);
            assert_true(peak[peri_n_peak(n)] == 17 && (n == 300 || to[n] == 0));
        }
}

/* One large logit at each place in turn, amid nothing else. */
static void a_peak_is_found_at_every_place(void **state) {
    (void)state;
    for (size_t at = 0; at < PERI_PEAK; at++) {
        float x[PERI_PEAK], peak = 0;
        for (size_t i = 0; i < PERI_PEAK; i++)
            x[i] = i % 2 ? NAN : -INFINITY;
        x[at] = -3;
        peri_peaks_find(x, PERI_PEAK, &peak);
        assert_true(peak == -3);
    }
}

/* ---- picks ---- */

static bool is_before(const float *x, int32_t a, int32_t b) {
    float l = isnan(x[a]) ? -INFINITY : x[a], r = isnan(x[b]) ? -INFINITY : x[b];
    return l != r ? l > r : a < b;
}

/* The n likeliest tokens in order, by looking at all again and again. */
static void likeliest(const float *x, int32_t n, int32_t *id) {
    for (int32_t k = 0; k < n; k++) {
        int32_t best = -1;
        for (int32_t i = 0; i < V; i++)
            if ((k == 0 || is_before(x, id[k - 1], i)) && (best < 0 || is_before(x, i, best)))
                best = i;
        id[k] = best;
    }
}

static peri_sampler *make(peri_sampling p) {
    const peri_sampler_vocab v = {.n_vocab = V, .n_ctx = N_CTX};
    peri_sampler *s;
    peri_error err;
    assert_ok(peri_sampler_new(&p, &v, &s, &err), err);
    return s;
}

/* The survivors of a chain of top_k alone are the likeliest of `changed`, in order; the row's own
 * peaks are given or not. */
static void compare(peri_sampling p, const float *logits, const float *changed, const int32_t *tok,
                    int32_t n_tok) {
    static int32_t want[V];
    float peak[(V + PERI_PEAK - 1) / PERI_PEAK];
    const peri_candidate *c;
    peri_sampler *s = make(p);
    peri_error err;
    int32_t id;
    likeliest(changed, p.top_k, want);
    peri_peaks_find(logits, V, peak);
    for (int way = 1; way >= 0; way--) { /* found ones stay in the scratch: given ones first */
        assert_ok(peri_sampler_pick_peaks(s, logits, way ? peak : NULL, tok, n_tok, &id, &err),
                  err);
        size_t n = peri_sampler_survivors(s, &c);
        for (size_t i = 0; i < n; i++)
            if (c[i].id != want[i])
                fail_msg("top_k %d, place %zu: token %d, want %d", p.top_k, i, c[i].id, want[i]);
        assert_true(n == (size_t)p.top_k || isinf(changed[want[n]]) || isnan(changed[want[n]]));
    }
    assert_peaks(logits, V, peak); /* the caller's: a pick changes nothing of it */
    peri_sampler_free(s);
}

static void a_long_row_gives_its_likeliest(void **state) {
    (void)state;
    static const int32_t counts[] = {1, 2, 5, 40, 78, 79, 80, 200};
    static float x[V];
    for (uint64_t row = 0; row < 6; row++) {
        fill(x, V, row);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            compare((peri_sampling){.temp = 1, .top_k = counts[i]}, x, x, NULL, 0);
    }
    for (int32_t i = 0; i < V; i++) /* all equal: the lowest ids */
        x[i] = 1;
    compare((peri_sampling){.temp = 1, .top_k = 40}, x, x, NULL, 0);
    for (int32_t i = 0; i < V; i++) /* fewer than wanted */
        x[i] = i == 70 || i == 4999 ? 2 : NAN;
    compare((peri_sampling){.temp = 1, .top_k = 40}, x, x, NULL, 0);
}

/* Some go below all others and some above: behind the peaks lies something else then. */
static void changed_logits_have_other_peaks(void **state) {
    (void)state;
    static float x[V], changed[V];
    static int32_t first[30];
    peri_logit_bias bias[30];
    for (uint64_t row = 0; row < 3; row++) {
        fill(x, V, row);
        memcpy(changed, x, sizeof x);
        likeliest(x, 30, first);
        for (int i = 0; i < 30; i++) {
            int32_t id = i % 3 ? first[i] : 160 * i + 7;
            bias[i] = (peri_logit_bias){id, i % 3 ? -INFINITY : 30};
            changed[id] += bias[i].bias;
        }
        compare((peri_sampling){.temp = 1, .top_k = 40, .bias = bias, .n_bias = 30}, x, changed,
                NULL, 0);
    }
    fill(x, V, 0);
    memcpy(changed, x, sizeof x);
    likeliest(x, 30, first);
    for (int i = 0; i < 30; i++)
        changed[first[i]] -= 5;
    peri_sampling p = {.temp = 1, .top_k = 40, .repeat_last_n = 30, .presence_penalty = 5};
    compare(p, x, changed, first, 30);
    p = (peri_sampling){.top_k = 1, .repeat_last_n = 30, .presence_penalty = 5}; /* greedy */
    compare(p, x, changed, first, 30);
}

/* ---- sessions ---- */

enum { N_SESSION = 5, N_TOK = 3 };

static void assert_session_peaks(const peri_session *s) {
    assert_true(s->has_logits && s->has_peaks);
    assert_peaks(s->logits, (size_t)s->e->a->n_vocab, s->peak);
}

static void a_step_brings_logits_with_their_peaks(void **state) {
    (void)state;
    peri_runtime *rt = rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 2, NULL);
    peri_model_options o = {
        .size = sizeof o, .n_ctx = N_CTX, .n_session = N_SESSION + 1, .n_batch = 8};
    peri_session_options so = {.size = sizeof so, .seed = 3, .temp = 1, .top_k = 3};
    peri_session *s[N_SESSION], *child;
    peri_step_feed feed[N_SESSION];
    static const int32_t tok[N_SESSION][N_TOK] = {
        {5, 9, 2}, {7, 1, 8}, {100, 200, 3}, {4, 4, 4}, {20, 1, 0}};
    float alone[512];
    peri_model *m;
    peri_mark *mark;
    peri_error err;
    assert_ok(peri_model_open(rt, rig_tiny("model.gguf", "qwen3", 12, 3), &o, &m, &err), err);
    size_t row_bytes = (size_t)peri_model_n_vocab(m) * sizeof(float);
    assert_true(row_bytes <= sizeof alone && row_bytes > 2 * PERI_PEAK * sizeof(float));
    for (int i = 0; i < N_SESSION; i++) {
        assert_ok(peri_session_new(m, &so, &s[i], &err), err);
        feed[i] = (peri_step_feed){.s = s[i], .tok = tok[i], .n_tok = N_TOK};
    }
    assert_ok(peri_engine_step(s[0]->e, feed, N_SESSION, 0, &err), err);
    for (int i = 0; i < N_SESSION; i++) {
        assert_session_peaks(s[i]);
        memcpy(alone, s[i]->logits, row_bytes);
        assert_ok(peri_session_rewind(s[i], 0, &err), err);
        assert_ok(peri_session_feed(s[i], tok[i], N_TOK, &err), err);
        assert_session_peaks(s[i]);
        assert_memory_equal(s[i]->logits, alone, row_bytes);
    }
    /* Logits that come another way than from a step are without. */
    assert_ok(peri_session_mark(s[0], &mark, &err), err);
    assert_ok(peri_session_fork(s[0], &child, &err), err);
    assert_true(child->has_logits && !child->has_peaks);
    assert_ok(peri_session_feed(s[0], tok[1], 1, &err), err);
    assert_session_peaks(s[0]);
    assert_ok(peri_session_rewind_to(s[0], mark, &err), err);
    assert_true(s[0]->has_logits && !s[0]->has_peaks);
    peri_mark_free(mark);
    peri_session_free(child);
    for (int i = 0; i < N_SESSION; i++)
        peri_session_free(s[i]);
    peri_model_close(m);
    peri_runtime_free(rt);
    rig_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peaks_are_the_largest_of_their_neighbours),
        cmocka_unit_test(a_peak_is_found_at_every_place),
        cmocka_unit_test(a_long_row_gives_its_likeliest),
        cmocka_unit_test(changed_logits_have_other_peaks),
        cmocka_unit_test(a_step_brings_logits_with_their_peaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
