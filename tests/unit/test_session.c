/* SPDX-License-Identifier: MIT
 *
 * Sessions fork, rewind, are saved and restored, and go on to the bit as they would have; what they
 * copy is counted; a damaged or forged file is refused by name, field and offset. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api_int.h"
#include "base/io_int.h"
#include "fault.h"
#include "rig.h"
#include "run/session.h"

enum {
    V = 300,
    BLOCK = 64,
    KV_BYTES = 256 /* of a token: 2 layers, K and V, 2 heads of 16, F16 */
};

typedef struct rig {
    peri_runtime *rt;
    peri_model *m;
} rig;

static rig open_rig(uint64_t model_seed, uint32_t n_ctx, uint32_t kv_type) {
    rig r = {rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 1, NULL), NULL};
    peri_model_options o = {
        .size = sizeof o, .n_ctx = n_ctx, .n_session = 4, .n_batch = 32, .kv_type = kv_type};
    peri_error err;
    assert_ok(peri_model_open(r.rt, rig_tiny("model.gguf", "llama", 0, model_seed), &o, &r.m, &err),
              err);
    return r;
}

static void close_rig(rig *r) {
    peri_model_close(r->m);
    peri_runtime_free(r->rt);
}

static peri_session *open_session(peri_model *m, float temp) {
    peri_session_options o = {.size = sizeof o, .seed = 7, .temp = temp, .top_k = 50};
    peri_session *s;
    peri_error err;
    assert_ok(peri_session_new(m, &o, &s, &err), err);
    return s;
}

static void feed(peri_session *s, size_t n, uint32_t salt) {
    int32_t tok[256];
    peri_error err;
    for (size_t i = 0; i < n; i++)
        tok[i] = (int32_t)((i * 7919 + salt * 104729 + i * i) % V);
    assert_ok(peri_session_feed(s, tok, n, &err), err);
}

/* Sample and feed n tokens. */
static void go_on(peri_session *s, int32_t *tok, size_t n) {
    peri_error err;
    for (size_t i = 0; i < n; i++) {
        assert_ok(peri_session_sample(s, &tok[i], &err), err);
        assert_ok(peri_session_feed(s, &tok[i], 1, &err), err);
    }
}

static const char *session_path(void) {
    static char path[300];
    snprintf(path, sizeof path, "%s/session.bin", rig_dir());
    return path;
}

static peri_session_stats stats(const peri_session *s) {
    peri_session_stats st = {.size = sizeof st};
    peri_session_get_stats(s, &st);
    return st;
}

static bool is_same(const int32_t *a, const int32_t *b, size_t n) {
    return memcmp(a, b, n * sizeof *a) == 0;
}

static void rewinding_replays_exactly_and_copies_nothing(void **state) {
    (void)state;
    int32_t a[40], b[40];
    peri_error err;
    peri_mark *mark;
    rig r = open_rig(1, 256, PERI_KV_F16);
    peri_session *s = open_session(r.m, 1);
    feed(s, 90, 1);
    assert_ok(peri_session_mark(s, &mark, &err), err);
    go_on(s, a, 40);
    assert_ok(peri_session_rewind(s, 90, &err), err);
    assert_int_equal(stats(s).n_computed, 130);
    go_on(s, b, 40);
    assert_true(is_same(a, b, 40));
    assert_int_equal(stats(s).n_computed, 130 + 1 + 40); /* the last token's logits, once */
    assert_ok(peri_session_rewind_to(s, mark, &err), err);
    go_on(s, b, 40);
    assert_true(is_same(a, b, 40));
    assert_int_equal(stats(s).n_computed, 171 + 40);
    assert_ok(peri_session_rewind(s, 110, &err), err); /* into what was generated */
    go_on(s, b, 20);
    assert_true(is_same(a + 20, b, 20));
    assert_int_equal(stats(s).n_kv_copied_bytes, 0);
    peri_mark_free(mark);
    peri_session_free(s);
    close_rig(&r);
}

static void a_mark_that_was_passed_is_gone(void **state) {
    (void)state;
    peri_error err;
    peri_mark *early, *late, *other;
    int32_t id;
    rig r = open_rig(1, 256, PERI_KV_F16);
    peri_session *s = open_session(r.m, 1), *t = open_session(r.m, 1);
    assert_ok(peri_session_mark(s, &early, &err), err);
    feed(s, 40, 1);
    assert_ok(peri_session_mark(s, &late, &err), err);
    assert_ok(peri_session_mark(t, &other, &err), err);
    assert_int_equal(peri_session_rewind_to(s, other, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "a mark of another session");
    assert_ok(peri_session_rewind(s, 12, &err), err);
    feed(s, 40, 2);
    assert_int_equal(peri_session_rewind_to(s, late, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID,
                 "the mark at token 40 is gone: the session was rewound to 12");
    assert_ok(peri_session_rewind_to(s, early, &err), err);
    assert_int_equal(peri_session_n_tok(s), 0);
    assert_int_equal(peri_session_sample(s, &id, &err), PERI_E_INVALID);
    peri_mark_free(early); /* marks go before or after their session, in any order */
    peri_session_free(t);
    peri_session_free(s);
    peri_mark_free(late);
    peri_mark_free(other);
    close_rig(&r);
}

static void a_fork_shares_until_it_diverges(void **state) {
    (void)state;
    int32_t parent[30], child[30], second[30], again[30];
    peri_error err;
    peri_session *c, *d, *e;
    rig r = open_rig(1, 256, PERI_KV_F16);
    peri_session *s = open_session(r.m, 1);
    feed(s, 90, 1);
    assert_ok(peri_session_fork(s, &c, &err), err);
    assert_ok(peri_session_fork(s, &d, &err), err);
    assert_int_equal(stats(s).n_kv_copied_bytes, 0);
    int32_t id;
    assert_ok(peri_session_sample(c, &id, &err), err); /* at once: the logits came along */
    assert_int_equal(stats(c).n_computed, 0);
    assert_int_equal(stats(s).n_kv_copied_bytes, 0);
    go_on(c, child, 30);
    assert_int_equal(stats(s).n_kv_copied_bytes, (90 - BLOCK) * KV_BYTES); /* the partial block */
    go_on(d, second, 30);
    assert_int_equal(stats(s).n_kv_copied_bytes, 2 * (90 - BLOCK) * KV_BYTES);
    go_on(s, parent, 30); /* the last holder writes in place */
    assert_int_equal(stats(s).n_kv_copied_bytes, 2 * (90 - BLOCK) * KV_BYTES);
    assert_false(is_same(parent, child, 30));
    assert_false(is_same(parent, second, 30));
    assert_false(is_same(child, second, 30));
    peri_session_free(s);
    peri_session_free(c);
    peri_session_free(d);
    /* The same from scratch: the first child says again what the first child said. */
    s = open_session(r.m, 1);
    feed(s, 90, 1);
    assert_ok(peri_session_fork(s, &e, &err), err);
    go_on(e, again, 30);
    assert_true(is_same(child, again, 30));
    go_on(s, again, 30);
    assert_true(is_same(parent, again, 30));
    peri_session_free(s);
    peri_session_free(e);
    close_rig(&r);
}

static void forks_at_a_block_border_copy_nothing(void **state) {
    (void)state;
    int32_t a[30], b[30];
    peri_error err;
    peri_session *c;
    rig r = open_rig(1, 256, PERI_KV_F16);
    peri_session *s = open_session(r.m, 0);
    feed(s, 2 * BLOCK, 1);
    assert_ok(peri_session_fork(s, &c, &err), err);
    go_on(s, a, 30);
    go_on(c, b, 30);
    assert_true(is_same(a, b, 30)); /* greedy: the stream does not matter */
    assert_int_equal(stats(s).n_kv_copied_bytes, 0);
    peri_session_free(s);
    peri_session_free(c);
    close_rig(&r);
}

/* Every sampler that remembers: what it says after rewinding, forking and restoring is what it
 * would have said. */
static void samplers_with_a_memory_replay_exactly(void **state) {
    (void)state;
    static const peri_sampling kinds[] = {
        {.seed = 3, .temp = 1, .mirostat = 1, .mirostat_tau = 5, .mirostat_eta = 0.1f},
        {.seed = 3, .temp = 1, .mirostat = 2, .mirostat_tau = 5, .mirostat_eta = 0.1f},
        {.seed = 3,
         .temp = 1,
         .adaptive_target = 0.3f,
         .adaptive_decay = 0.9f,
         .n_order = 1,
         .order = {PERI_LINK_ADAPTIVE_P}},
        {.seed = 3,
         .temp = 1,
         .repeat_last_n = 64,
         .repeat_penalty = 1.3f,
         .frequency_penalty = 0.5f,
         .dry_multiplier = 1,
         .dry_base = 1.75f,
         .dry_allowed_length = 1,
         .dry_penalty_last_n = -1},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        int32_t a[60], b[60], c[60], d[60];
        peri_error err;
        peri_session *s, *child, *t;
        peri_mark *mark;
        rig r = open_rig(1, 256, PERI_KV_F16);
        assert_ok(peri_session_open(r.m->engine, r.m->tokenizer, &kinds[k], &s, &err), err);
        feed(s, 90, 1);
        go_on(s, a, 30);
        assert_ok(peri_session_mark(s, &mark, &err), err);
        assert_ok(peri_session_save(s, session_path(), &err), err);
        assert_ok(peri_session_fork(s, &child, &err), err);
        go_on(s, a + 30, 30);
        go_on(child, c, 30);
        assert_false(is_same(a + 30, c, 30));
        assert_ok(peri_session_rewind_to(s, mark, &err), err);
        go_on(s, b, 30);
        assert_true(is_same(a + 30, b, 30));
        assert_ok(peri_session_rewind(s, 100, &err), err); /* further back than the mark */
        go_on(s, b, 50);
        assert_true(is_same(a + 10, b, 50));
        assert_ok(peri_model_restore(r.m, session_path(), &t, &err), err);
        go_on(t, b, 30);
        assert_true(is_same(a + 30, b, 30));
        peri_session_free(t);
        assert_ok(peri_model_restore(r.m, session_path(), &t, &err), err);
        peri_session_free(child);
        assert_ok(peri_session_fork(t, &child, &err), err);
        go_on(child, d, 30);
        assert_true(is_same(c, d, 30));
        peri_mark_free(mark);
        peri_session_free(child);
        peri_session_free(t);
        peri_session_free(s);
        close_rig(&r);
    }
}

/* ---- files ------------------------------------------------------------------------------------
 */

static void a_restored_session_goes_on_as_the_saved_one(void **state) {
    (void)state;
    int32_t a[30], b[30], c[30];
    peri_error err;
    peri_session *s, *t, *child;
    rig r = open_rig(1, 256, PERI_KV_F32);
    s = open_session(r.m, 1);
    feed(s, 90, 1);
    go_on(s, a, 10);
    assert_ok(peri_session_fork(s, &child, &err), err);
    peri_session_free(child);
    assert_ok(peri_session_save(s, session_path(), &err), err);
    go_on(s, a, 30);
    assert_ok(peri_session_rewind(s, 100, &err), err);
    assert_ok(peri_session_fork(s, &child, &err), err);
    go_on(child, c, 30);
    peri_session_free(child);
    peri_session_free(s);
    close_rig(&r);
    r = open_rig(1, 256, PERI_KV_F32); /* as after a restart */
    assert_ok(peri_model_restore(r.m, session_path(), &t, &err), err);
    assert_int_equal(peri_session_n_tok(t), 100);
    go_on(t, b, 30);
    assert_true(is_same(a, b, 30));
    assert_int_equal(stats(t).n_computed, 30);
    assert_ok(peri_session_rewind(t, 100, &err), err);
    assert_ok(peri_session_fork(t, &child, &err), err); /* the second child, as above */
    go_on(child, b, 30);
    assert_true(is_same(c, b, 30));
    peri_session_free(child);
    /* Keys and values of a file are for this session only. */
    s = open_session(r.m, 1);
    feed(s, 90, 1);
    assert_int_equal(stats(s).n_cached, 0);
    peri_session_free(s);
    peri_session_free(t);
    close_rig(&r);
}

/* The bundled model, whose heads are whole blocks. */
static rig open_demo(uint32_t kv_type) {
    rig r = {rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 2, NULL), NULL};
    peri_model_options o = {.size = sizeof o, .n_ctx = 256, .n_session = 4, .kv_type = kv_type};
    peri_error err;
    assert_ok(peri_model_open(r.rt, PERI_SOURCE_DIR "/examples/demo-model/perigee-demo.gguf", &o,
                              &r.m, &err),
              err);
    return r;
}

static void keys_and_values_in_blocks_are_forked_swapped_and_saved(void **state) {
    static const uint32_t types[] = {PERI_KV_Q8_0, PERI_KV_Q4_0};
    (void)state;
    for (int i = 0; i < 2; i++) {
        int32_t a[30], b[30];
        peri_error err;
        peri_session *s, *t, *child;
        rig r = open_demo(types[i]);
        uint64_t per_token = peri_engine_kv_bytes_per_token(r.m->engine->a, i ? 2 : 8);
        s = open_session(r.m, 0);
        feed(s, 90, 1);
        assert_ok(peri_session_save(s, session_path(), &err), err);
        assert_ok(peri_session_fork(s, &child, &err), err);
        go_on(s, a, 30);
        go_on(child, b, 30); /* with the partly filled block copied */
        assert_true(is_same(a, b, 30));
        assert_int_equal(r.m->engine->n_kv_copied_bytes, (90 - BLOCK) * per_token);
        assert_ok(peri_session_rewind(child, 90, &err), err);
        assert_ok(peri_session_swap_out(child, &err), err);
        assert_ok(peri_session_swap_in(child, &err), err);
        go_on(child, b, 30);
        assert_true(is_same(a, b, 30));
        assert_ok(peri_model_restore(r.m, session_path(), &t, &err), err);
        go_on(t, b, 30);
        assert_true(is_same(a, b, 30));
        peri_session_free(s);
        s = open_session(r.m, 0);
        feed(s, 90, 1);
        assert_int_equal(stats(s).n_cached, BLOCK);
        go_on(s, b, 30);
        assert_true(is_same(a, b, 30));
        peri_session_free(child);
        peri_session_free(t);
        peri_session_free(s);
        close_rig(&r);
        r = open_demo(types[1 - i]);
        assert_int_equal(peri_model_restore(r.m, session_path(), &s, &err), PERI_E_CORRUPT);
        assert_error(&err, PERI_E_CORRUPT,
                     i ? "offset 32: type of keys and values: found 2, expected 8"
                       : "offset 32: type of keys and values: found 8, expected 2");
        close_rig(&r);
    }
}

static void heads_that_are_no_whole_blocks_are_refused(void **state) {
    (void)state;
    rig r = {rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 1, NULL), NULL};
    peri_model_options o = {.size = sizeof o, .n_ctx = 64, .kv_type = PERI_KV_Q8_0};
    peri_error err;
    assert_int_equal(peri_model_open(r.rt, rig_tiny("model.gguf", "llama", 0, 1), &o, &r.m, &err),
                     PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED,
                 "type Q8_0 of keys and values: found keys of 16 elements per head, expected a "
                 "multiple of 32");
    o.kv_type = 4;
    assert_int_equal(peri_model_open(r.rt, rig_tiny("model.gguf", "llama", 0, 1), &o, &r.m, &err),
                     PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "kv_type 4 is unknown");
    peri_runtime_free(r.rt);
}

/* Not even when a block is only partly from the file, or comes back from host memory. */
static void what_a_file_says_never_reaches_the_prefix_cache(void **state) {
    (void)state;
    int32_t tok[90];
    peri_error err;
    peri_session *s, *t;
    rig r = open_rig(1, 256, PERI_KV_F16);
    for (size_t i = 0; i < 90; i++)
        tok[i] = (int32_t)(i * 3);
    s = open_session(r.m, 1);
    assert_ok(peri_session_feed(s, tok, 40, &err), err);
    assert_ok(peri_session_save(s, session_path(), &err), err);
    peri_session_free(s);
    assert_ok(peri_model_restore(r.m, session_path(), &t, &err), err);
    assert_ok(peri_session_feed(t, tok + 40, 50, &err), err);
    assert_ok(peri_session_swap_out(t, &err), err);
    assert_ok(peri_session_swap_in(t, &err), err);
    s = open_session(r.m, 1);
    assert_ok(peri_session_feed(s, tok, 90, &err), err);
    assert_int_equal(stats(s).n_cached, 0);
    /* What is computed anew is known again. */
    assert_ok(peri_session_rewind(t, 0, &err), err);
    assert_ok(peri_session_feed(t, tok, 90, &err), err);
    assert_int_equal(stats(t).n_cached, BLOCK);
    peri_session_free(s);
    peri_session_free(t);
    close_rig(&r);
}

static void files_of_another_model_are_refused(void **state) {
    (void)state;
    peri_error err;
    peri_session *s;
    rig r = open_rig(1, 256, PERI_KV_F16);
    s = open_session(r.m, 1);
    feed(s, 130, 1);
    assert_ok(peri_session_save(s, session_path(), &err), err);
    peri_session_free(s);
    close_rig(&r);
    r = open_rig(2, 256, PERI_KV_F16);
    assert_int_equal(peri_model_restore(r.m, session_path(), &s, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "session.bin: offset 24: fingerprint of the model: found ");
    assert_null(s);
    close_rig(&r);
    r = open_rig(1, 256, PERI_KV_F32);
    assert_int_equal(peri_model_restore(r.m, session_path(), &s, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "offset 32: type of keys and values: found 1, expected 0");
    close_rig(&r);
    r = open_rig(1, 128, PERI_KV_F16);
    assert_int_equal(peri_model_restore(r.m, session_path(), &s, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE,
                 "offset 52: tokens: found 130, expected at most the context of 128");
    assert_int_equal(peri_model_restore(r.m, "/nonexistent/x", &s, &err), PERI_E_NOT_FOUND);
    close_rig(&r);
}

/* A small saved session in memory. */
static char *saved(peri_model *m, size_t *size) {
    peri_error err;
    char *data;
    peri_session *s = open_session(m, 1);
    feed(s, 2, 1);
    assert_ok(peri_session_save(s, session_path(), &err), err);
    peri_session_free(s);
    assert_ok(peri_file_read(session_path(), 1 << 20, &data, size, &err), err);
    return data;
}

static peri_status try_restore(peri_model *m, const char *data, size_t size, peri_error *err) {
    char path[300];
    peri_session *s;
    int32_t id;
    snprintf(path, sizeof path, "%s/bad.bin", rig_dir());
    unlink(path); /* thousands of times: a file that is emptied instead is flushed at its close */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    peri_status st = peri_model_restore(m, path, &s, err);
    assert_true((st == PERI_OK) == (s != NULL));
    if (s) peri_session_sample(s, &id, NULL);
    peri_session_free(s);
    return st;
}

static void every_damaged_byte_is_noticed(void **state) {
    (void)state;
    peri_error err;
    size_t size;
    rig r = open_rig(1, 64, PERI_KV_F16);
    char *data = saved(r.m, &size);
    for (size_t i = 0; i < size; i++) {
        data[i] = (char)(data[i] ^ 1 << i % 8);
        peri_status st = try_restore(r.m, data, size, &err);
        if (st != PERI_E_CORRUPT || !strstr(err.text, "bad.bin: offset "))
            fail_msg("byte %zu of %zu: code %d: %s", i, size, st, err.text);
        data[i] = (char)(data[i] ^ 1 << i % 8);
    }
    for (size_t n = 1; n < size; n++) {
        peri_status st = try_restore(r.m, data, n, &err);
        if (st != PERI_E_CORRUPT || !strstr(err.text, "bad.bin: "))
            fail_msg("%zu bytes of %zu: code %d: %s", n, size, st, err.text);
    }
    assert_ok(try_restore(r.m, data, size, &err), err);
    free(data);
    close_rig(&r);
}

/* The checksum of session_file.c, so that forged files get past it. */
static void forge(char *data, size_t size) {
    uint64_t h = 1;
    size_t i = 0;
    for (; i + 8 <= size - 8; i += 8) {
        uint64_t w;
        memcpy(&w, data + i, 8);
        h = (h ^ w) * 0x9E3779B97F4A7C15u;
        h ^= h >> 32;
    }
    for (; i < size - 8; i++) {
        h = (h ^ (uint8_t)data[i]) * 0x9E3779B97F4A7C15u;
        h ^= h >> 32;
    }
    memcpy(data + size - 8, &h, 8);
}

static void forged_fields_are_checked_one_by_one(void **state) {
    (void)state;
    static const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};
    peri_error err;
    size_t size, n_refused = 0;
    rig r = open_rig(1, 64, PERI_KV_F16);
    char *data = saved(r.m, &size), *copy = malloc(size);
    assert_non_null(copy);
    for (size_t i = 0; i < size - 8; i++)
        for (size_t v = 0; v < sizeof values; v++) {
            memcpy(copy, data, size);
            copy[i] = (char)values[v];
            forge(copy, size);
            peri_status st = try_restore(r.m, copy, size, &err);
            if (st != PERI_OK && !strstr(err.text, "bad.bin: ") && i < 84)
                fail_msg("byte %zu = %u: code %d: %s", i, values[v], st, err.text);
            n_refused += st != PERI_OK;
        }
    assert_true(n_refused > 200); /* nearly all of the head */
    memcpy(copy, data, size);
    forge(copy, size);
    assert_memory_equal(copy, data, size); /* the checksum here is the real one */
    copy[52] = 3;                          /* one token more than there is */
    forge(copy, size);
    assert_int_equal(try_restore(r.m, copy, size, &err), PERI_E_CORRUPT);
    free(copy);
    free(data);
    close_rig(&r);
}

/* ---- faults -----------------------------------------------------------------------------------
 */

/* All that a session can do, once. */
static peri_status scenario(peri_model *m, peri_error *err) {
    static const int32_t tok[] = {5, 6, 7, 8};
    peri_session *s = NULL, *c = NULL, *t = NULL;
    peri_mark *mark = NULL;
    peri_status st = peri_session_new(m, NULL, &s, err);
    if (!st) st = peri_session_feed(s, tok, 4, err);
    if (!st) st = peri_session_mark(s, &mark, err);
    if (!st) st = peri_session_fork(s, &c, err);
    if (!st) st = peri_session_generate(c, 3, NULL, NULL, NULL, err);
    if (!st) st = peri_session_generate(s, 3, NULL, NULL, NULL, err);
    if (!st) st = peri_session_rewind_to(s, mark, err);
    if (!st) st = peri_session_rewind(s, 2, err);
    if (!st) st = peri_session_save(s, session_path(), err);
    if (!st) st = peri_model_restore(m, session_path(), &t, err);
    if (!st) st = peri_session_generate(t, 3, NULL, NULL, NULL, err);
    peri_mark_free(mark);
    peri_session_free(s);
    peri_session_free(c);
    peri_session_free(t);
    return st;
}

static void fail_every(peri_fault *f, peri_model *m, peri_status may_be, peri_status or_be) {
    peri_error err;
    uint64_t held = f->live, n = 1;
    for (;; n++) {
        f->calls = 0;
        f->fail_at = n;
        peri_status st = scenario(m, &err);
        bool was_reached = f->calls >= n;
        f->fail_at = 0;
        assert_int_equal(f->live, held);
        if (!was_reached) {
            assert_ok(st, err);
            break;
        }
        if (st != PERI_OK && st != may_be && st != or_be)
            fail_msg("call %lu failed: code %d: %s", (unsigned long)n, st, err.text);
    }
    assert_true(n > 10);
    print_message("%lu calls failed in turn\n", (unsigned long)n - 1);
}

static void failing_allocations_leave_clean_errors(void **state) {
    (void)state;
    peri_error err;
    peri_fault *f = peri_fault_alloc_install();
    rig r = open_rig(1, 64, PERI_KV_F16);
    assert_ok(scenario(r.m, &err), err);
    fail_every(f, r.m, PERI_E_NOMEM, PERI_E_NOMEM);
    close_rig(&r);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

static void failing_file_calls_leave_clean_errors(void **state) {
    (void)state;
    peri_error err;
    rig r = open_rig(1, 64, PERI_KV_F16);
    assert_ok(scenario(r.m, &err), err);
    peri_fault *f = peri_fault_io_install();
    fail_every(f, r.m, PERI_E_IO, PERI_E_NOMEM);
    peri_fault_io_remove();
    close_rig(&r);
}

static int no_sync(void *user, int fd) {
    (void)user, (void)fd;
    return 0;
}

int main(void) {
    peri_io_ops ops = *peri_io_ops_get();
    ops.sync = no_sync; /* hundreds of files; the last test flushes them */
    peri_io_set_ops(&ops);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewinding_replays_exactly_and_copies_nothing),
        cmocka_unit_test(a_mark_that_was_passed_is_gone),
        cmocka_unit_test(a_fork_shares_until_it_diverges),
        cmocka_unit_test(forks_at_a_block_border_copy_nothing),
        cmocka_unit_test(samplers_with_a_memory_replay_exactly),
        cmocka_unit_test(a_restored_session_goes_on_as_the_saved_one),
        cmocka_unit_test(keys_and_values_in_blocks_are_forked_swapped_and_saved),
        cmocka_unit_test(heads_that_are_no_whole_blocks_are_refused),
        cmocka_unit_test(what_a_file_says_never_reaches_the_prefix_cache),
        cmocka_unit_test(files_of_another_model_are_refused),
        cmocka_unit_test(every_damaged_byte_is_noticed),
        cmocka_unit_test(forged_fields_are_checked_one_by_one),
        cmocka_unit_test(failing_allocations_leave_clean_errors),
        cmocka_unit_test(failing_file_calls_leave_clean_errors),
    };
    int rc = peri_run_tests(tests);
    rig_end();
    return rc;
}
