/* SPDX-License-Identifier: MIT
 *
 * lua_measure.c - engine.measure: a chain of samplers on made-up logits, for `perigee bench
 * --sampler` and for tests that compare chains bit for bit.
 *
 * The logits are bell-shaped with a long tail upwards, as models' are: the sum of four uniform
 * numbers, and one token in a hundred raised.  They depend on the seed alone. */
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/status.h"
#include "run/rng.h"
#include "script/engine_int.h"
#include "script/lua_policy.h"

#include "base/compiler.h"

enum { ROWS = 8, HISTORY = 64, MAX_PICKS = 100000, MAX_VOCAB = 1 << 22 };

typedef struct measure_options {
    int64_t vocab, picks, seed;
    bool want_digest;
} measure_options;

static const value_key measure_keys[] = {
    {"vocab", VALUE_INT, offsetof(measure_options, vocab), 16, MAX_VOCAB},
    {"picks", VALUE_INT, offsetof(measure_options, picks), 1, MAX_PICKS},
    {"seed", VALUE_INT, offsetof(measure_options, seed), 0, INT64_MAX},
    {"digest", VALUE_FLAG, offsetof(measure_options, want_digest), 0, 0},
};
static const value_table measure_table = {"measure", measure_keys,
                                          sizeof measure_keys / sizeof measure_keys[0], NULL, 0};

static void fill(float *logits, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) {
        const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
        const uint32_t at[4] = {(uint32_t)i, (uint32_t)(i >> 32), 0, 0};
        uint32_t w[4];
        peri_philox(at, key, w);
        double x = 0;
        for (int k = 0; k < 4; k++)
            x += (double)w[k] * 0x1p-32;
        logits[i] = (float)(6 * (x - 2) + (w[0] % 100 == 7 ? 8 * (double)w[1] * 0x1p-32 : 0));
    }
}

/* What is allocated for a measurement. */
typedef struct work {
    peri_policy_host *host;
    peri_sampler *sampler;
    float *logits; /* [ROWS][n_vocab] */
    int32_t *tok;  /* [HISTORY + picks] */
    uint64_t digest;
    double ns; /* of all picks */
} work;

static void mix(uint64_t *digest, const void *data, size_t n) {
    for (size_t i = 0; i < n; i++)
        *digest = (*digest ^ ((const uint8_t *)data)[i]) * 0x100000001B3u; /* FNV-1a */
}

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static peri_status pick_all(work *w, const measure_options *o, peri_error *err) {
    size_t n_vocab = (size_t)o->vocab;
    for (int32_t i = 0; i < HISTORY; i++)
        w->tok[i] = (int32_t)((uint32_t)i * 7919u % (uint32_t)n_vocab);
    double start = now_ns();
    for (int64_t i = 0; i < o->picks; i++) {
        const float *row = w->logits + (size_t)(i % ROWS) * n_vocab;
        int32_t n = HISTORY + (int32_t)i;
        peri_status st = peri_sampler_pick(w->sampler, row, w->tok, n, &w->tok[n], err);
        if (st) return st;
        if (!o->want_digest) continue;
        const peri_candidate *c;
        size_t n_left = peri_sampler_survivors(w->sampler, &c);
        mix(&w->digest, &w->tok[n], sizeof w->tok[n]);
        mix(&w->digest, c, n_left * sizeof *c);
    }
    w->ns = now_ns() - start;
    return PERI_OK;
}

static peri_status measure(work *w, const peri_sampling *p, const measure_options *o,
                           const peri_tokenizer *t, peri_error *err) {
    size_t n_vocab = (size_t)o->vocab;
    peri_status st = peri_lua_policies_new(&w->host, err);
    if (st) return st;
    w->logits = peri_alloc_array(n_vocab, ROWS * sizeof *w->logits);
    w->tok = peri_alloc_array((size_t)o->picks + HISTORY, sizeof *w->tok);
    if (!w->logits || !w->tok) return peri_fail(err, PERI_E_NOMEM, "out of memory for logits");
    for (size_t i = 0; i < ROWS; i++)
        fill(w->logits + i * n_vocab, n_vocab, (uint64_t)o->seed + i);
    const peri_sampler_vocab v = {.n_vocab = (int32_t)o->vocab,
                                  .n_ctx = HISTORY + (int32_t)o->picks,
                                  .tokenizer = t,
                                  .host = w->host};
    st = peri_sampler_new(p, &v, &w->sampler, err);
    return st ? st : pick_all(w, o, err);
}

/* engine.measure(sampling, options[, model]) -> { ns = per pick, digest =, ids = }, or nil, err */
int engine_measure(lua_State *L) {
    measure_options o = {.vocab = 32000, .picks = 1000};
    peri_sampling p;
    peri_error err;
    work w = {.digest = 0xCBF29CE484222325u};
    const peri_tokenizer *t = NULL;
    lua_settop(L, 3);
    value_read(L, 2, &measure_table, &o);
    if (!lua_isnil(L, 3)) {
        const peri_shared *m = engine_check_model(L, 3);
        t = m->loaded.tokenizer;
        o.vocab = m->loaded.engine->a->n_vocab;
    }
    value_read_sampling(L, 1, NULL, (uint64_t)o.seed, &p);
    value_box *b = value_push_box(L);
    peri_status st = measure(&w, &p, &o, t, &err);
    b->heap = w.tok;
    peri_sampler_free(w.sampler);
    peri_lua_policies_free(w.host);
    peri_free(w.logits);
    if (st) return peri_lua_fail(L, &err);
    lua_createtable(L, 0, 3);
    lua_pushnumber(L, w.ns / (double)o.picks);
    lua_setfield(L, -2, "ns");
    if (o.want_digest) {
        lua_pushinteger(L, (lua_Integer)w.digest);
        lua_setfield(L, -2, "digest");
        value_push_list(L, w.tok + HISTORY, (size_t)o.picks);
        lua_setfield(L, -2, "ids");
    }
    value_empty_box(b);
    return 1;
}
