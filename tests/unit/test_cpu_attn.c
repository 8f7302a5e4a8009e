/* SPDX-License-Identifier: MIT
 *
 * test_cpu_attn.c - KV_APPEND and ATTN against a plain softmax in f64, for groups of heads,
 * windows, chunk masks, caps, ALiBi, sinks and every pool type.  Runs cut in pieces see the same
 * keys in other blocks (two block tables). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "op_case.h"
#include "ref.h"

enum { N_TOK = 33, N_SEQ = 4, BLOCK = 8, N_TABLE = 80, N_BLOCK = 330, N_KEY = 600 };

typedef struct attn {
    const char *name;
    int64_t n_head, n_kv_head, dk, dv;
    uint32_t k_type, v_type;
    peri_attn_attr attr;
    int has_sinks;
    /* below: filled by the test */
    float *q, *k, *v, sink[16]; /* k [N_SEQ][N_KEY][G][dk], v likewise */
    void *pool[2][2];           /* [block table][K or V] */
} attn;

static const int32_t contexts[N_SEQ] = {600, 33, 0, 257};

static int32_t seq_of(int32_t t) {
    return t % N_SEQ;
}

/* Positions near the end, inside, and (sequence 2 has no keys) nowhere. */
static int32_t pos_of(int32_t t) {
    int32_t n = contexts[seq_of(t)];
    return n ? n - 1 - t * 31 % n : t;
}

/* Block ids of a sequence's b-th block; two scattered tables over the same pool size. */
static int32_t block_of(int table, int32_t seq, int32_t b) {
    int32_t i = seq * N_TABLE + b;
    return table ? (i * 7 + 5) % N_BLOCK : (i * 101 + 17) % N_BLOCK;
}

/* Values that every pool type holds exactly: multiples of 1/64 up to 1. */
static float exact(uint64_t seed, uint64_t i) {
    return rintf(prog_random(seed, i) * 64) / 64;
}

static size_t bytes_of(uint32_t dtype, int64_t n) {
    peri_dtype_info type = peri_dtype_of(dtype);
    return (size_t)(n / type.n) * (size_t)type.bytes;
}

static void *new_pool(const attn *u, int table, uint32_t dtype, const float *x, int64_t d) {
    int64_t row = u->n_kv_head * d;
    void *pool = malloc((size_t)(N_BLOCK * BLOCK * row) * 4);
    assert_non_null(pool);
    memset(pool, 0xff, (size_t)(N_BLOCK * BLOCK * row) * 4); /* NaN where nothing is stored */
    for (int32_t s = 0; s < N_SEQ; s++)
        for (int32_t key = 0; key < contexts[s]; key++)
            ref_encode_row(dtype, x + ((int64_t)s * N_KEY + key) * row,
                           (char *)pool +
                               (size_t)(block_of(table, s, key / BLOCK) * BLOCK + key % BLOCK) *
                                   bytes_of(dtype, row),
                           row);
    return pool;
}

/* What a pool of the type holds of them. */
static float *new_values(uint32_t dtype, int64_t n, uint64_t seed) {
    float *x = malloc((size_t)n * sizeof *x);
    void *bits = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    assert_non_null(bits);
    for (int64_t i = 0; i < n; i++)
        x[i] = exact(seed, (uint64_t)i);
    ref_encode_row(dtype, x, bits, n);
    ref_dequant_row(dtype, bits, x, n);
    free(bits);
    return x;
}

static void build(prog *p, const void *user, int32_t t0) {
    const attn *u = user;
    int table = t0 % 2;
    p->code = PERI_OP_ATTN;
    p->n[PERI_SYM_S] = N_SEQ;
    p->n[PERI_SYM_B] = N_TABLE;
    prog_in(p, DIMS(1, -PERI_SYM_T, u->n_head, u->dk), u->q + t0 * u->n_head * u->dk, 4);
    prog_pool(p, u->k_type, DIMS(N_BLOCK, BLOCK, u->n_kv_head, u->dk), u->pool[table][0]);
    prog_pool(p, u->v_type, DIMS(N_BLOCK, BLOCK, u->n_kv_head, u->dv), u->pool[table][1]);
    prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, u->n_head), u->has_sinks ? u->sink : NULL);
    prog_out(p, PERI_CPU_F32, DIMS(1, -PERI_SYM_T, u->n_head, u->dv), 4);
    prog_attr(p, &u->attr, sizeof u->attr);
    for (int32_t t = 0; t < p->n[PERI_SYM_T]; t++) {
        p->seq[t] = seq_of(t0 + t);
        p->pos[t] = pos_of(t0 + t);
        p->slot[t] = -1;
    }
    for (int32_t s = 0; s < N_SEQ; s++) {
        p->ctx[s] = contexts[s];
        for (int32_t b = 0; b < N_TABLE; b++)
            p->table[s * N_TABLE + b] = b * BLOCK < contexts[s] ? block_of(table, s, b) : -1;
    }
}

static double slope(const attn *u, int64_t h) {
    double n = exp2(floor(log2((double)u->n_head))), max = (double)u->attr.alibi_max, i = (double)h;
    if (max == 0) return 0;
    return i < n ? pow(2, -max * (i + 1) / n) : pow(2, -max * (2 * (i - n) + 1) / (2 * n));
}

static int is_visible(const peri_attn_attr *a, int64_t key, int64_t pos) {
    if (!(a->flags & PERI_ATTN_NOT_CAUSAL) && key > pos) return 0;
    if (a->window > 0 && pos - key >= a->window) return 0;
    return a->chunk == 0 || key / a->chunk == pos / a->chunk;
}

static double logit(const attn *u, int32_t t, int64_t h, int64_t key) {
    const float *q = u->q + (t * u->n_head + h) * u->dk;
    int64_t g = h * u->n_kv_head / u->n_head;
    const float *k = u->k + ((seq_of(t) * N_KEY + key) * u->n_kv_head + g) * u->dk;
    double z = 0;
    for (int64_t i = 0; i < u->dk; i++)
        z += (double)q[i] * (double)k[i];
    z *= (double)u->attr.scale;
    if (u->attr.cap > 0) z = (double)u->attr.cap * tanh(z / (double)u->attr.cap);
    return z + slope(u, h) * (double)(key - pos_of(t));
}

static void expect_head(const attn *u, int32_t t, int64_t h, double *out) {
    int64_t g = h * u->n_kv_head / u->n_head, n_visible = 0;
    double sum = u->has_sinks ? exp((double)u->sink[h]) : 0;
    for (int64_t i = 0; i < u->dv; i++)
        out[i] = 0;
    for (int64_t key = 0; key < contexts[seq_of(t)]; key++) {
        if (!is_visible(&u->attr, key, pos_of(t))) continue;
        const float *v = u->v + ((seq_of(t) * N_KEY + key) * u->n_kv_head + g) * u->dv;
        double p = exp(logit(u, t, h, key)); /* logits are small here: no maximum needed */
        sum += p;
        n_visible++;
        for (int64_t i = 0; i < u->dv; i++)
            out[i] += p * (double)v[i];
    }
    for (int64_t i = 0; i < u->dv && n_visible; i++)
        out[i] /= sum;
}

static void expect(const void *user, int32_t t, uint32_t k, double *out) {
    const attn *u = user;
    (void)k;
    for (int64_t h = 0; h < u->n_head; h++)
        expect_head(u, t, h, out + h * u->dv);
}

static void check_attn(attn u) {
    int64_t n_key = (int64_t)N_SEQ * N_KEY * u.n_kv_head;
    u.attr.size = sizeof u.attr;
    u.q = new_values(PERI_CPU_F32, N_TOK * u.n_head * u.dk, 1);
    u.k = new_values(u.k_type, n_key * u.dk, 2);
    u.v = new_values(u.v_type, n_key * u.dv, 3);
    prog_fill(u.sink, 16, 4, 2);
    for (int table = 0; table < 2; table++) {
        u.pool[table][0] = new_pool(&u, table, u.k_type, u.k, u.dk);
        u.pool[table][1] = new_pool(&u, table, u.v_type, u.v, u.dv);
    }
    op_case c = {u.name, N_TOK, build, expect, {u.n_head * u.dv}, 0, &u, 0, NULL};
    check_case(&c);
    free(u.q);
    free(u.k);
    free(u.v);
    for (int i = 0; i < 4; i++)
        free(u.pool[i / 2][i % 2]);
}

enum {
    F32 = PERI_CPU_F32,
    F16 = PERI_CPU_F16,
    BF16 = PERI_CPU_BF16,
    Q8_0 = PERI_CPU_Q8_0,
    Q4_0 = PERI_CPU_Q4_0
};

static void attn_is_causal_softmax_over_the_sequences_own_keys(void **state) {
    (void)state;
    check_attn((attn){"plain", 4, 4, 8, 8, F32, F32, {.scale = 0.35f}, .has_sinks = 0});
    check_attn((attn){"one head", 1, 1, 16, 16, F16, F16, {.scale = 0.25f}, .has_sinks = 0});
}

static void attn_shares_key_heads_and_takes_other_widths(void **state) {
    (void)state;
    check_attn((attn){"groups", 6, 2, 40, 24, F16, F16, {.scale = 0.158f}, .has_sinks = 0});
    check_attn((attn){"one key head", 5, 1, 7, 11, BF16, F32, {.scale = 0.4f}, .has_sinks = 0});
    check_attn((attn){"wide", 2, 1, 128, 64, BF16, BF16, {.scale = 0.09f}, .has_sinks = 0});
}

static void attn_reads_keys_and_values_in_blocks(void **state) {
    (void)state;
    check_attn((attn){"q8_0", 4, 2, 64, 32, Q8_0, Q8_0, {.scale = 0.12f}, .has_sinks = 0});
    check_attn((attn){"q4_0", 3, 1, 32, 96, Q4_0, Q4_0, {.scale = 0.17f}, .has_sinks = 1});
    check_attn((attn){
        "two types", 5, 1, 32, 32, Q8_0, Q4_0, {.scale = 0.17f, .window = 40}, .has_sinks = 0});
}

static void attn_honours_window_and_chunk(void **state) {
    (void)state;
    check_attn(
        (attn){"window", 4, 2, 16, 16, F32, F32, {.scale = 0.25f, .window = 37}, .has_sinks = 0});
    check_attn((attn){
        "long window", 2, 2, 16, 16, F16, F16, {.scale = 0.25f, .window = 300}, .has_sinks = 0});
    check_attn(
        (attn){"window 1", 2, 1, 16, 16, F16, F16, {.scale = 0.25f, .window = 1}, .has_sinks = 0});
    check_attn(
        (attn){"chunk", 4, 2, 16, 16, F32, F32, {.scale = 0.25f, .chunk = 100}, .has_sinks = 0});
    check_attn((attn){"both",
                      4,
                      2,
                      16,
                      16,
                      F32,
                      F32,
                      {.scale = 0.25f, .window = 50, .chunk = 64},
                      .has_sinks = 1});
}

static void attn_without_causality_sees_all_keys(void **state) {
    (void)state;
    check_attn((attn){"all",
                      4,
                      2,
                      16,
                      16,
                      F32,
                      F32,
                      {.scale = 0.25f, .flags = PERI_ATTN_NOT_CAUSAL},
                      .has_sinks = 0});
    check_attn((attn){"all, window",
                      4,
                      2,
                      16,
                      16,
                      F16,
                      F16,
                      {.scale = 0.25f, .flags = PERI_ATTN_NOT_CAUSAL, .window = 20},
                      .has_sinks = 0});
}

static void attn_caps_biases_and_sinks(void **state) {
    (void)state;
    check_attn((attn){"cap", 4, 2, 16, 16, F32, F32, {.scale = 1, .cap = 2.5f}, .has_sinks = 0});
    check_attn(
        (attn){"alibi", 8, 4, 16, 16, F16, F16, {.scale = 0.25f, .alibi_max = 8}, .has_sinks = 0});
    check_attn((attn){
        "alibi 6", 6, 2, 16, 16, F16, F16, {.scale = 0.25f, .alibi_max = 4}, .has_sinks = 0});
    check_attn((attn){"sinks", 6, 3, 16, 16, F32, BF16, {.scale = 0.25f}, .has_sinks = 1});
}

/* Logits of hundreds: the maximum has to be taken out, within a chunk and across chunks. */
static void attn_survives_large_logits(void **state) {
    (void)state;
    attn u = {"large", 1, 1, 4, 1, F32, F32, {.size = sizeof u.attr, .scale = 100}, .has_sinks = 0};
    float pool_k[320 * 4], pool_v[320], q[4] = {2, 0, 0, 0}, y = 0;
    for (int i = 0; i < 320 * 4; i++)
        pool_k[i] = i % 4 ? 0 : i == 4 * 300 ? 5 : 4;
    for (int i = 0; i < 320; i++)
        pool_v[i] = i == 300 ? 3 : 1;
    peri_error e = {0};
    peri_dev *d = open_cpu("reference", 1);
    prog *p = prog_new(d, 1);
    p->code = PERI_OP_ATTN;
    p->n[PERI_SYM_B] = 40;
    p->ctx[0] = 320;
    p->pos[0] = 319;
    for (int b = 0; b < 40; b++)
        p->table[b] = b;
    prog_in(p, DIMS(1, -PERI_SYM_T, 1, 4), q, 0);
    prog_pool(p, F32, DIMS(40, 8, 1, 4), pool_k);
    prog_pool(p, F32, DIMS(40, 8, 1, 1), pool_v);
    prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
    prog_out(p, F32, DIMS(1, -PERI_SYM_T, 1, 1), 0);
    prog_attr(p, &u.attr, sizeof u.attr);
    assert_ok(prog_run(p, &e), e);
    prog_get(p, 0, &y);
    assert_float_equal(y, 3, 0); /* logits 1000 and 800: e^-200 of the rest is nothing */
    prog_free(p);
    close_cpu(d);
}

static void attn_refuses_a_step_that_points_outside(void **state) {
    (void)state;
    attn u = {"outside", 1, 1, 4, 4, F32, F32, {.size = sizeof u.attr, .scale = 1}, .has_sinks = 0};
    static float pool[N_BLOCK * BLOCK * 4], q[4];
    u.q = q;
    u.pool[0][0] = u.pool[0][1] = pool;
    peri_error e = {0};
    peri_dev *d = open_cpu("reference", 1);
    for (int wrong = 0; wrong < 4; wrong++) {
        prog *p = prog_new(d, 1);
        build(p, &u, 0);
        if (wrong == 0) p->seq[0] = N_SEQ;
        if (wrong == 1) p->table[3] = N_BLOCK;
        if (wrong == 2) p->table[3] = -1;
        if (wrong == 3) p->ctx[1] = N_TABLE * BLOCK + 1;
        assert_int_equal(prog_run(p, &e), PERI_E_RANGE);
        prog_free(p);
    }
    close_cpu(d);
}

/* ---- KV_APPEND ---- */

enum { KV_HEADS = 3, KV_DK = 10, KV_DV = 7, KV_ROWS = 48 };

typedef struct append {
    float k[N_TOK * KV_HEADS * KV_DK], v[N_TOK * KV_HEADS * KV_DV];
    uint32_t type;
    unsigned char k_pool[KV_ROWS * KV_HEADS * KV_DK * 4], v_pool[KV_ROWS * KV_HEADS * KV_DV * 4];
} append;

static int32_t slot_of(int32_t t) {
    return t % 5 == 4 ? -1 : (t * 11 + 3) % KV_ROWS;
}

static void append_part(append *u, peri_dev *d, int32_t t0, int32_t n) {
    peri_error e = {0};
    prog *p = prog_new(d, n);
    p->code = PERI_OP_KV_APPEND;
    prog_in(p, DIMS(1, -PERI_SYM_T, KV_HEADS, KV_DK), u->k + t0 * KV_HEADS * KV_DK, 2);
    prog_in(p, DIMS(1, -PERI_SYM_T, KV_HEADS, KV_DV), u->v + t0 * KV_HEADS * KV_DV, 5);
    prog_pool(p, u->type, DIMS(KV_ROWS / 8, 8, KV_HEADS, KV_DK), u->k_pool);
    prog_pool(p, u->type, DIMS(KV_ROWS / 8, 8, KV_HEADS, KV_DV), u->v_pool);
    for (int32_t t = 0; t < n; t++)
        p->slot[t] = slot_of(t0 + t);
    assert_ok(prog_run(p, &e), e);
    prog_free(p);
}

/* Element i of a pool: what was stored there last, or 0xff bytes. */
static void check_stored(const append *u, const unsigned char *pool, const float *x, int64_t row) {
    for (int64_t i = 0; i < KV_ROWS * row; i++) {
        unsigned char want[4] = {0xff, 0xff, 0xff, 0xff};
        size_t bytes = u->type == F32 ? 4 : 2;
        for (int32_t t = 0; t < N_TOK; t++) {
            if (slot_of(t) != i / row) continue;
            float f = x[t * row + i % row];
            uint16_t h = u->type == F16 ? ref_f32_to_f16(f) : ref_f32_to_bf16(f);
            memcpy(want, u->type == F32 ? (void *)&f : (void *)&h, bytes);
        }
        assert_memory_equal(pool + (size_t)i * bytes, want, bytes);
    }
}

static void kv_append_stores_rounded_rows_at_their_slots(void **state) {
    static const uint32_t pool_types[] = {F32, F16, BF16};
    static const int32_t chunks[] = {33, 1, 2, 7};
    (void)state;
    append *u = malloc(sizeof *u);
    assert_non_null(u);
    prog_fill(u->k, N_TOK * KV_HEADS * KV_DK, 1, 3);
    prog_fill(u->v, N_TOK * KV_HEADS * KV_DV, 2, 3);
    for (size_t i = 0; i < 3 * 4; i++) {
        peri_dev *d = open_cpu(NULL, 1 + i % 2);
        u->type = pool_types[i / 4];
        memset(u->k_pool, 0xff, sizeof u->k_pool);
        memset(u->v_pool, 0xff, sizeof u->v_pool);
        int32_t chunk = chunks[i % 4];
        for (int32_t t = 0; t < N_TOK; t += chunk)
            append_part(u, d, t, N_TOK - t < chunk ? N_TOK - t : chunk);
        check_stored(u, u->k_pool, u->k, KV_HEADS * KV_DK);
        check_stored(u, u->v_pool, u->v, KV_HEADS * KV_DV);
        close_cpu(d);
    }
    free(u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attn_is_causal_softmax_over_the_sequences_own_keys),
        cmocka_unit_test(attn_shares_key_heads_and_takes_other_widths),
        cmocka_unit_test(attn_reads_keys_and_values_in_blocks),
        cmocka_unit_test(attn_honours_window_and_chunk),
        cmocka_unit_test(attn_without_causality_sees_all_keys),
        cmocka_unit_test(attn_caps_biases_and_sinks),
        cmocka_unit_test(attn_survives_large_logits),
        cmocka_unit_test(attn_refuses_a_step_that_points_outside),
        cmocka_unit_test(kv_append_stores_rounded_rows_at_their_slots),
    };
    return peri_run_tests(tests);
}
