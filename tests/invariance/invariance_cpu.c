/* SPDX-License-Identifier: MIT
 *
 * invariance_cpu.c - with a fixed placement, logits depend on model and tokens only.  On a random
 * model of real width, in Q4_K, in BF16 and, keys and values too, in Q8_0, the logits of every
 * position are compared bit for bit across prefill chunks of 1, 32 and 512, one and two threads,
 * and alone, beside one and beside seven other sequences; those of the last position also from the
 * prefix cache, after a rewind, and after saving and restoring.  Then scripts sample:
 * tests/e2e/same.lua, in two runtimes.
 *
 * Short form: 3 layers, 160 tokens.  PERI_LONG=1: 36 layers (566 million parameters), 2,048 tokens.
 * Small random models hide such faults: near-ties are common only in wide ones. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/text.h"
#include "gguf_writer.h"
#include "perigee/perigee.h"
#include "rig.h"
#include "run/session.h"
#include "script_rig.h"

enum { V = 300, MAX_TOK = 2048, MAX_SEQ = 8 };

static int32_t tok[MAX_SEQ][MAX_TOK];
static size_t n_tok;
static float *base, *other;

static const char *make_model(uint32_t dtype) {
    gw_shape shape = {.n_layer = getenv("PERI_LONG") ? 36 : 3,
                      .n_head = 16,
                      .n_kv = 8,
                      .d_model = 1024,
                      .d_head = 128,
                      .d_ff = 3072,
                      .n_ctx = 2048};
    peri_gguf_writer w;
    peri_text file = {0};
    gw_init(&w);
    gw_model(&w, "qwen3", dtype, 1, &shape);
    gw_finish(&w, &file);
    const char *path = rig_write("model.gguf", file.data, file.size);
    peri_text_fini(&file);
    gw_fini(&w);
    return path;
}

static void assert_same(const float *a, const float *b, size_t n, const char *what, size_t value) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a))
            fail_msg("%s %zu: position %zu, token %zu: %.9g and %.9g", what, value, i / V, i % V,
                     (double)a[i], (double)b[i]);
}

/* Logits of all positions of sequence 0, computed beside n_seq - 1 others of other lengths. */
static void compute(peri_model *m, size_t n_seq, size_t chunk, float *out) {
    peri_session *s[MAX_SEQ];
    peri_feed f[MAX_SEQ];
    peri_error err;
    for (size_t i = 0; i < n_seq; i++) {
        assert_ok(peri_session_new(m, NULL, &s[i], &err), err);
        f[i] = (peri_feed){.session = s[i], .tok = tok[i], .n_tok = i ? n_tok / 4 + 5 * i : n_tok};
    }
    f[0].logits = out;
    f[0].all_logits = true;
    assert_ok(peri_model_step(m, f, n_seq, chunk, &err), err);
    for (size_t i = 0; i < n_seq; i++)
        peri_session_free(s[i]);
}

static void assert_predicts(peri_session *s, const char *what) {
    peri_error err;
    assert_ok(peri_session_predict(s, &err), err);
    assert_true(s->has_logits); /* not only the best of them, chosen on a device */
    for (size_t i = 0; i < V; i++)
        if (memcmp(&s->logits[i], &base[(n_tok - 1) * V + i], sizeof *base))
            fail_msg("%s: token %zu: %.9g and %.9g", what, i, (double)s->logits[i],
                     (double)base[(n_tok - 1) * V + i]);
}

/* The last position's logits, come by in other ways than by computing all. */
static void compare_shortcuts(peri_model *m) {
    char path[300];
    peri_session *s, *t;
    peri_error err;
    snprintf(path, sizeof path, "%s/session.bin", rig_dir());
    for (int i = 0; i < 2; i++) {
        assert_ok(peri_session_new(m, NULL, &s, &err), err);
        assert_ok(peri_session_feed(s, tok[0], n_tok, &err), err);
        assert_predicts(s, i ? "prefix cache" : "fed");
        assert_int_equal(s->stats.n_cached, i ? n_tok / 64 * 64 : 0);
        if (!i) peri_session_free(s);
    }
    assert_ok(peri_session_rewind(s, (int32_t)n_tok - 40, &err), err);
    assert_ok(peri_session_feed(s, tok[0] + n_tok - 40, 39, &err), err);
    assert_ok(peri_session_save(s, path, &err), err);
    assert_ok(peri_session_feed(s, tok[0] + n_tok - 1, 1, &err), err);
    assert_predicts(s, "rewound");
    assert_ok(peri_session_rewind(s, 0, &err), err);
    assert_ok(peri_model_restore(m, path, &t, &err), err);
    assert_ok(peri_session_feed(t, tok[0] + n_tok - 1, 1, &err), err);
    assert_predicts(t, "restored");
    peri_session_free(s);
    peri_session_free(t);
}

static void compare(uint32_t dtype, uint32_t kv_type) {
    static const size_t chunks[] = {1, 32, 512}, together[] = {8, 2};
    const char *path = make_model(dtype);
    for (uint32_t threads = 1; threads <= 2; threads++) {
        peri_runtime *rt = rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", threads, NULL);
        peri_model_options o = {.size = sizeof o,
                                .n_ctx = (uint32_t)n_tok,
                                .n_session = MAX_SEQ,
                                .kv_type = kv_type,
                                .device = "cpu"};
        peri_model *m;
        peri_error err;
        assert_ok(peri_model_open(rt, path, &o, &m, &err), err);
        if (threads == 1) compute(m, 1, 512, base);
        peri_model_close(m); /* whose cache knows the text now */
        assert_ok(peri_model_open(rt, path, &o, &m, &err), err);
        compare_shortcuts(m);
        for (size_t i = 0; i < 3; i++) {
            compute(m, 1, chunks[i], other);
            assert_same(base, other, n_tok * V, "chunk", chunks[i]);
        }
        for (size_t i = 0; i < threads; i++) {
            compute(m, together[i], 32, other);
            assert_same(base, other, n_tok * V, "sequences together", together[i]);
        }
        peri_model_close(m);
        peri_runtime_free(rt);
    }
}

static void q4_k_gives_the_same_bits(void **state) {
    (void)state;
    compare(12, PERI_KV_F16);
}

static void q8_0_gives_the_same_bits(void **state) {
    (void)state;
    compare(8, PERI_KV_Q8_0);
}

static void bf16_gives_the_same_bits(void **state) {
    (void)state;
    compare(30, PERI_KV_F16);
}

/* Sampled text: at a high temperature a difference in the last bit soon changes a token. */
static void sample(uint32_t dtype) {
    static const char *const steps[] = {"first", "second"};
    static char lines[sizeof said.out];
    char *body;
    size_t size;
    peri_error err;
    make_model(dtype);
    assert_ok(peri_file_read(PERI_SOURCE_DIR "/tests/e2e/same.lua", 1 << 20, &body, &size, &err),
              err);
    for (uint32_t i = 0; i < 2; i++) {
        peri_runtime *rt = rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 1 + i, NULL);
        peri_text script = {0};
        peri_text_addf(&script,
                       "local STEP, DIR, N, CHAINS = '%s', '@DIR@', 16, "
                       "{ 'adaptive_p', 'mirostat_2', 'penalties' }\n%s",
                       steps[i], body);
        int status = script_say(rt, script.data, (script_way){0});
        peri_text_fini(&script);
        peri_runtime_free(rt);
        if (status) fail_msg("%s run: %s", steps[i], said.errors);
        assert_non_null(strstr(said.out, "penalties\t"));
        if (i == 0) memcpy(lines, said.out, sizeof lines);
    }
    peri_free(body);
    assert_string_equal(said.out, lines);
}

static void q4_k_samples_the_same_tokens(void **state) {
    (void)state;
    sample(12);
}

static void q8_0_samples_the_same_tokens(void **state) {
    (void)state;
    if (!getenv("PERI_LONG")) skip();
    sample(8);
}

int main(void) {
    n_tok = getenv("PERI_LONG") ? MAX_TOK : 160;
    base = malloc(n_tok * V * sizeof *base);
    other = malloc(n_tok * V * sizeof *other);
    if (!base || !other) return 1;
    for (size_t i = 0; i < MAX_SEQ; i++)
        for (size_t k = 0; k < n_tok; k++)
            tok[i][k] = (int32_t)(gw_random(i, k) % V);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q4_k_gives_the_same_bits), cmocka_unit_test(q8_0_gives_the_same_bits),
        cmocka_unit_test(bf16_gives_the_same_bits), cmocka_unit_test(q4_k_samples_the_same_tokens),
        cmocka_unit_test(q8_0_samples_the_same_tokens)};
    int rc = peri_run_tests(tests);
    rig_end();
    free(base);
    free(other);
    return rc;
}
