/* SPDX-License-Identifier: MIT
 *
 * The engine end to end through perigee.h, on tiny random models and the CPU plugin of the build
 * tree: grouping and chunking do not change a bit, sessions rewind and fail cleanly, files that
 * vanish are survived, memory that runs out too. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "fault.h"
#include "perigee/perigee.h"
#include "rig.h"

enum { V = 300, N = 90 };

static const char *const archs[] = {"llama", "qwen2",  "qwen3", "qwen3moe",
                                    "phi3",  "gemma2", "gemma3"};

static peri_runtime *runtime(uint32_t n_thread, const char *setting) {
    return rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", n_thread, setting);
}

static peri_model *open_with(peri_runtime *rt, const char *path, uint32_t n_session,
                             uint32_t n_batch, uint32_t weights) {
    peri_model_options o = {.size = sizeof o,
                            .n_ctx = 128,
                            .n_session = n_session,
                            .n_batch = n_batch,
                            .weights = weights};
    peri_model *m;
    peri_error err;
    assert_ok(peri_model_open(rt, path, &o, &m, &err), err);
    assert_int_equal(peri_model_n_vocab(m), V);
    return m;
}

static peri_model *open_model(peri_runtime *rt, const char *path, uint32_t n_session,
                              uint32_t n_batch) {
    return open_with(rt, path, n_session, n_batch, PERI_WEIGHTS_AUTO);
}

static peri_session *open_session(peri_model *m) {
    peri_session *s;
    peri_error err;
    assert_ok(peri_session_new(m, NULL, &s, &err), err);
    return s;
}

static void fill_tokens(int32_t *tok, size_t n, uint32_t salt) {
    for (size_t i = 0; i < n; i++)
        tok[i] = (int32_t)((i * 7919 + salt * 104729 + i * i) % V);
}

/* Logits of every position of n tokens in a fresh session. */
static void all_logits(peri_model *m, const int32_t *tok, size_t n, size_t chunk, float *out) {
    peri_session *s = open_session(m);
    peri_error err;
    peri_feed f = {.session = s, .tok = tok, .n_tok = n, .logits = out, .all_logits = true};
    assert_ok(peri_model_step(m, &f, 1, chunk, &err), err);
    assert_int_equal(peri_session_n_tok(s), n);
    peri_session_free(s);
}

static void assert_same_bits(const float *a, const float *b, size_t n, const char *what) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a))
            fail_msg("%s: element %zu: %.9g and %.9g", what, i, (double)a[i], (double)b[i]);
}

static float base_logits[N * V], other_logits[N * V], many_logits[4][N * V];

/* Chunked alone, and chunked beside three others of other lengths, session 0 gives base_logits. */
static void compare_groupings(peri_model *m, int32_t tok[4][N]) {
    static const size_t chunks[] = {1, 7, 32};
    peri_session *s[4];
    peri_feed f[4];
    peri_error err;
    for (size_t c = 0; c < 3; c++) {
        all_logits(m, tok[0], N, chunks[c], other_logits);
        assert_same_bits(base_logits, other_logits, N * V, "chunk");
    }
    for (int i = 0; i < 4; i++) {
        s[i] = open_session(m);
        f[i] = (peri_feed){.session = s[i],
                           .tok = tok[i],
                           .n_tok = N - 5 * (size_t)i,
                           .logits = many_logits[i],
                           .all_logits = true};
    }
    assert_ok(peri_model_step(m, f, 4, 3, &err), err);
    assert_same_bits(base_logits, many_logits[0], N * V, "neighbours");
    for (int i = 0; i < 4; i++)
        peri_session_free(s[i]);
}

static void compare_threads(const char *path, int32_t tok[4][N]) {
    for (uint32_t threads = 1; threads <= 2; threads++) {
        peri_runtime *rt = runtime(threads, NULL);
        peri_model *m = open_model(rt, path, 4, 64);
        all_logits(m, tok[0], N, 0, threads == 1 ? base_logits : other_logits);
        if (threads == 2) assert_same_bits(base_logits, other_logits, N * V, "threads");
        for (size_t i = 0; i < N * V; i++)
            assert_true(isfinite(base_logits[i]));
        compare_groupings(m, tok);
        peri_model_close(m);
        peri_runtime_free(rt);
    }
}

static void chunks_threads_and_neighbours_change_no_bit(void **state) {
    (void)state;
    static const uint32_t dtypes[] = {0, 8, 12}; /* F32, Q8_0, Q4_K */
    int32_t tok[4][N];
    for (uint32_t i = 0; i < 4; i++)
        fill_tokens(tok[i], N, i);
    for (size_t a = 0; a < sizeof archs / sizeof archs[0]; a++)
        for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++)
            compare_threads(rig_tiny("model.gguf", archs[a], dtypes[d], 3), tok);
}

static void instruction_sets_agree_bit_for_bit(void **state) {
    (void)state;
    static float base[N * V], other[N * V];
    int32_t tok[N];
    int n_level = 0;
    fill_tokens(tok, N, 1);
    const char *path = rig_tiny("model.gguf", "qwen3", 12, 5);
    static const char *const level[] = {
        "cpu.isa=scalar",     "cpu.isa=avx2",       "cpu.isa=avx2vnni", "cpu.isa=avx512",
        "cpu.isa=avx512vnni", "cpu.isa=avx512bf16", "cpu.isa=avx512amx"};
    for (size_t i = 0; i < sizeof level / sizeof level[0]; i++) {
        peri_runtime *rt = runtime(2, level[i]);
        peri_model_options o = {.size = sizeof o, .n_ctx = 128};
        peri_model *m;
        peri_error err;
        if (peri_model_open(rt, path, &o, &m, &err) == PERI_OK) {
            assert_string_equal(peri_model_isa(m), strchr(level[i], '=') + 1);
            all_logits(m, tok, N, 0, n_level ? other : base);
            if (n_level++) assert_same_bits(base, other, N * V, level[i]);
            peri_model_close(m);
        }
        peri_runtime_free(rt);
    }
    assert_true(n_level >= 1);
}

static void a_session_rewinds_exactly(void **state) {
    (void)state;
    static float a[V], b[V];
    int32_t tok[N], other[20];
    peri_error err;
    fill_tokens(tok, N, 1);
    fill_tokens(other, 20, 9);
    peri_runtime *rt = runtime(1, NULL);
    peri_model *m = open_model(rt, rig_tiny("model.gguf", "llama", 0, 1), 1, 64);
    peri_session *s = open_session(m);
    peri_feed f = {.session = s, .tok = tok, .n_tok = N, .logits = a};
    assert_ok(peri_model_step(m, &f, 1, 0, &err), err);
    assert_ok(peri_session_rewind(s, 40, &err), err);
    assert_int_equal(peri_session_n_tok(s), 40);
    assert_ok(peri_session_feed(s, other, 20, &err), err);
    assert_ok(peri_session_rewind(s, 40, &err), err);
    f = (peri_feed){.session = s, .tok = tok + 40, .n_tok = N - 40, .logits = b};
    assert_ok(peri_model_step(m, &f, 1, 0, &err), err);
    assert_same_bits(a, b, V, "after rewind");
    assert_int_equal(peri_session_rewind(s, N + 1, &err), PERI_E_RANGE);
    assert_int_equal(peri_session_rewind(s, -1, &err), PERI_E_RANGE);
    peri_session_free(s);
    peri_model_close(m);
    peri_runtime_free(rt);
}

static void wrong_feeds_are_refused_and_move_nothing(void **state) {
    (void)state;
    int32_t tok[N], bad[] = {1, V, 2};
    peri_error err;
    fill_tokens(tok, N, 1);
    peri_runtime *rt = runtime(1, NULL);
    peri_model *m = open_model(rt, rig_tiny("model.gguf", "llama", 0, 1), 1, 64);
    peri_session *s = open_session(m), *t = open_session(m);
    assert_int_equal(peri_session_feed(s, bad, 3, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "token 1: id 300 is outside the vocabulary of 300");
    bad[1] = -1;
    assert_int_equal(peri_session_feed(s, bad, 3, &err), PERI_E_RANGE);
    assert_ok(peri_session_feed(s, tok, N, &err), err);
    assert_int_equal(peri_session_feed(s, tok, N, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "the session holds 90 of a context of 128");
    assert_int_equal(peri_session_n_tok(s), N);
    /* The pool holds one full session: the second gets what is left and no more. */
    assert_int_equal(peri_session_feed(t, tok, N, &err), PERI_E_NOMEM);
    assert_error(&err, PERI_E_NOMEM, "no room for keys and values");
    assert_int_equal(peri_session_n_tok(t), 0);
    const peri_feed twice[] = {{.session = s, .tok = tok, .n_tok = 1},
                               {.session = s, .tok = tok, .n_tok = 1}};
    assert_int_equal(peri_model_step(m, twice, 2, 0, &err), PERI_E_INVALID);
    assert_ok(peri_session_feed(s, tok, 1, &err), err);
    assert_ok(peri_session_rewind(s, 0, &err), err);
    assert_ok(peri_session_feed(t, tok, N, &err), err);
    peri_session_free(s);
    peri_session_free(t);
    peri_model_close(m);
    peri_runtime_free(rt);
}

struct heard {
    int32_t tok[256];
    size_t n, bytes, stop_after;
};

static int hear(void *user, const char *text, size_t size, int32_t tok) {
    struct heard *h = user;
    (void)text;
    if (tok >= 0) h->tok[h->n++] = tok;
    h->bytes += size;
    return h->stop_after && h->n == h->stop_after;
}

static void generate(peri_model *m, const peri_session_options *o, const char *prompt, size_t n,
                     struct heard *h, peri_stop *why) {
    peri_session *s;
    peri_error err;
    assert_ok(peri_session_new(m, o, &s, &err), err);
    assert_ok(peri_session_feed_text(s, prompt, strlen(prompt), 0, &err), err);
    assert_ok(peri_session_generate(s, n, hear, h, why, &err), err);
    peri_session_free(s);
}

static void generation_repeats_stops_and_ends(void **state) {
    (void)state;
    peri_runtime *rt = runtime(2, NULL);
    peri_model *m = open_model(rt, rig_tiny("model.gguf", "qwen2", 8, 2), 2, 64);
    peri_session_options o = {.size = sizeof o, .seed = 5, .temp = 1}, p = o;
    struct heard a = {0}, b = {0}, c = {0}, d = {.stop_after = 3}, e = {0};
    peri_stop why;
    p.seed = 6;
    generate(m, &o, "one two", 24, &a, &why);
    generate(m, &o, "one two", 24, &b, &why);
    generate(m, &p, "one two", 24, &c, &why);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.tok, b.tok, sizeof a.tok);
    assert_memory_not_equal(a.tok, c.tok, sizeof a.tok);
    generate(m, &o, "one two", 24, &d, &why);
    assert_int_equal(why, PERI_STOP_CALLBACK);
    assert_int_equal(d.n, 3);
    assert_memory_equal(a.tok, d.tok, 3 * sizeof *d.tok);
    generate(m, NULL, "one two", 1000, &e, &why);
    assert_true(why == PERI_STOP_CONTEXT || why == PERI_STOP_EOG);
    assert_true(e.n <= 128);
    peri_model_close(m);
    peri_runtime_free(rt);
}

static void a_file_truncated_under_use_ends_the_request(void **state) {
    (void)state;
    int32_t tok[40];
    peri_error err;
    char path[300];
    fill_tokens(tok, 40, 1);
    snprintf(path, sizeof path, "%s", rig_tiny("model.gguf", "llama", 0, 1));
    peri_runtime *rt = runtime(2, NULL);
    peri_model *m = open_with(rt, path, 1, 64, PERI_WEIGHTS_MAP);
    peri_session *s = open_session(m);
    assert_ok(peri_session_feed(s, tok, 40, &err), err);
    assert_int_equal(truncate(path, 4096), 0);
    assert_int_equal(peri_session_feed(s, tok, 4, &err), PERI_E_IO);
    assert_error(&err, PERI_E_IO, "changed while in use");
    assert_error(&err, PERI_E_IO, "model.gguf");
    assert_int_equal(peri_session_n_tok(s), 40);
    peri_session_free(s);
    peri_model_close(m);
    m = open_model(rt, rig_tiny("model.gguf", "llama", 0, 1), 1, 64); /* the runtime goes on */
    peri_model_close(m);
    peri_runtime_free(rt);
}

static void a_copy_of_the_weights_outlives_the_file(void **state) {
    (void)state;
    int32_t tok[40], mapped, copied;
    peri_error err;
    char path[300];
    fill_tokens(tok, 40, 1);
    peri_runtime *rt = runtime(2, NULL);
    for (uint32_t weights = PERI_WEIGHTS_MAP; weights <= PERI_WEIGHTS_COPY; weights++) {
        snprintf(path, sizeof path, "%s", rig_tiny("model.gguf", "llama", 0, 1));
        peri_model *m = open_with(rt, path, 1, 64, weights);
        peri_session *s = open_session(m);
        if (weights == PERI_WEIGHTS_COPY) assert_int_equal(truncate(path, 4096), 0);
        assert_ok(peri_session_feed(s, tok, 40, &err), err);
        assert_ok(peri_session_sample(s, weights == PERI_WEIGHTS_MAP ? &mapped : &copied, &err),
                  err);
        peri_session_free(s);
        peri_model_close(m);
    }
    assert_int_equal(mapped, copied);
    peri_runtime_free(rt);
}

static void steady_decoding_allocates_nothing(void **state) {
    (void)state;
    int32_t tok[8];
    peri_error err;
    peri_fault *f = peri_fault_alloc_install();
    fill_tokens(tok, 8, 1);
    peri_runtime *rt = runtime(2, NULL);
    peri_model *m = open_model(rt, rig_tiny("model.gguf", "qwen3moe", 8, 1), 1, 64);
    peri_session *s = open_session(m);
    assert_ok(peri_session_feed(s, tok, 8, &err), err);
    assert_ok(peri_session_feed(s, tok, 1, &err), err);
    uint64_t calls = f->calls;
    for (int i = 0; i < 60; i++) {
        int32_t id;
        assert_ok(peri_session_sample(s, &id, &err), err);
        assert_ok(peri_session_feed(s, &id, 1, &err), err);
    }
    assert_int_equal(f->calls, calls);
    peri_session_free(s);
    peri_model_close(m);
    peri_runtime_free(rt);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

/* Load, eight tokens, close.  Every allocation in between may fail. */
static peri_status load_and_run(peri_runtime *rt, const char *path, peri_error *err) {
    peri_model_options o = {.size = sizeof o, .n_ctx = 64, .n_batch = 16};
    peri_model *m;
    peri_session *s = NULL;
    peri_status st = peri_model_open(rt, path, &o, &m, err);
    if (st) return st;
    st = peri_session_new(m, NULL, &s, err);
    if (!st) st = peri_session_feed_text(s, "ab", 2, 0, err);
    if (!st) st = peri_session_generate(s, 8, NULL, NULL, NULL, err);
    peri_session_free(s);
    peri_model_close(m);
    return st;
}

static void fail_every(const char *arch, uint32_t dtype, uint64_t stride, bool persistent) {
    peri_fault *f = peri_fault_alloc_install();
    peri_runtime *rt = runtime(2, NULL);
    const char *path = rig_tiny("model.gguf", arch, dtype, 1);
    peri_error err;
    assert_ok(load_and_run(rt, path, &err), err); /* what the process keeps for good is there now */
    uint64_t held = f->live, n_failed = 0;
    for (uint64_t n = 1;; n += stride) {
        memset(&err, 0, sizeof err);
        f->calls = 0;
        f->fail_at = n;
        f->persistent = persistent;
        peri_status st = load_and_run(rt, path, &err);
        bool was_reached = f->calls >= n;
        f->fail_at = 0;
        assert_int_equal(f->live, held);
        if (!was_reached) {
            assert_int_equal(st, PERI_OK);
            break;
        }
        n_failed++;
        if (st != PERI_OK && st != PERI_E_NOMEM)
            fail_msg("%s: allocation %lu failed: code %d: %s", arch, (unsigned long)n, st,
                     err.text);
        if (st != PERI_OK && !strstr(err.text, "memory") && !strstr(err.text, "room"))
            fail_msg("allocation %lu: \"%s\"", (unsigned long)n, err.text);
    }
    assert_true(n_failed > 10);
    print_message("%s%s: %lu allocations failed in turn\n", arch,
                  persistent ? ", persistently" : "", (unsigned long)n_failed);
    peri_runtime_free(rt);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

/* Every 17th allocation by default; PERI_OOM_STRIDE=1 fails each. */
static void running_out_of_memory_is_a_clean_error(void **state) {
    (void)state;
    const char *text = getenv("PERI_OOM_STRIDE");
    uint64_t stride = text ? strtoull(text, NULL, 10) : 17;
    if (!stride) stride = 1;
    fail_every("llama", 8, stride, false);
    fail_every("llama", 8, stride, true);
    if (stride == 1)
        for (size_t i = 1; i < sizeof archs / sizeof archs[0]; i++)
            fail_every(archs[i], 0, 1, i % 2);
}

static void a_model_is_described(void **state) {
    (void)state;
    peri_error err;
    char *text;
    peri_runtime *rt = runtime(1, NULL);
    peri_model *m = open_model(rt, rig_tiny("model.gguf", "gemma3", 8, 1), 1, 64);
    assert_ok(peri_model_show(m, PERI_SHOW_SUMMARY, &text, &err), err);
    assert_non_null(strstr(text, "\"architecture\": \"gemma3\""));
    peri_text_free(text);
    assert_ok(peri_model_show(m, PERI_SHOW_TENSORS, &text, &err), err);
    assert_non_null(strstr(text, "\"state\": \"bound\""));
    assert_null(strstr(text, "unknown"));
    peri_text_free(text);
    assert_ok(peri_model_show(m, PERI_SHOW_ARCH, &text, &err), err);
    assert_non_null(strstr(text, "mask            window"));
    peri_text_free(text);
    assert_ok(peri_model_show(m, PERI_SHOW_METADATA, &text, &err), err);
    assert_non_null(strstr(text, "gemma3.block_count"));
    peri_text_free(text);
    assert_ok(peri_model_show(m, PERI_SHOW_PARAMETERS, &text, &err), err);
    assert_non_null(strstr(text, "\"origin\": \"gemma3.attention.sliding_window\""));
    peri_text_free(text);
    assert_ok(peri_model_explain(m, &text, &err), err);
    assert_non_null(strstr(text, "\"device\": \"cpu\""));
    assert_non_null(strstr(text, "\"op\": \"ATTN\""));
    peri_text_free(text);
    assert_string_equal(peri_model_device(m), "cpu");
    peri_model_close(m);
    peri_runtime_free(rt);
}

/* Every facet and the placement, each with its n-th allocation failing. */
static void describing_without_memory_is_a_clean_error(void **state) {
    (void)state;
    enum { EXPLAIN = PERI_SHOW_TEMPLATE + 1 };
    peri_fault *f = peri_fault_alloc_install();
    peri_runtime *rt = runtime(1, "place.figures=declared");
    peri_model *m = open_model(rt, rig_tiny("model.gguf", "phi3", 0, 1), 1, 16);
    for (int facet = 0; facet <= EXPLAIN; facet++) {
        uint64_t held = f->live, step = 1;
        for (uint64_t n = 1;; n += step, step = n < 30 ? 1 : n / 7) {
            peri_error err = {0};
            char *text;
            f->calls = 0;
            f->fail_at = n;
            peri_status st = facet == EXPLAIN ? peri_model_explain(m, &text, &err)
                                              : peri_model_show(m, (peri_facet)facet, &text, &err);
            bool was_reached = f->calls >= n;
            f->fail_at = 0;
            assert_int_equal(st == PERI_OK, text != NULL);
            peri_text_free(text);
            assert_int_equal(f->live, held);
            if (st != PERI_OK) assert_error(&err, PERI_E_NOMEM, "memory");
            if (!was_reached) {
                assert_int_equal(st, PERI_OK);
                break;
            }
        }
    }
    peri_model_close(m);
    peri_runtime_free(rt);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_threads_and_neighbours_change_no_bit),
        cmocka_unit_test(instruction_sets_agree_bit_for_bit),
        cmocka_unit_test(a_session_rewinds_exactly),
        cmocka_unit_test(wrong_feeds_are_refused_and_move_nothing),
        cmocka_unit_test(generation_repeats_stops_and_ends),
        cmocka_unit_test(a_file_truncated_under_use_ends_the_request),
        cmocka_unit_test(a_copy_of_the_weights_outlives_the_file),
        cmocka_unit_test(steady_decoding_allocates_nothing),
        cmocka_unit_test(running_out_of_memory_is_a_clean_error),
        cmocka_unit_test(a_model_is_described),
        cmocka_unit_test(describing_without_memory_is_a_clean_error),
    };
    int rc = peri_run_tests(tests);
    rig_end();
    return rc;
}
