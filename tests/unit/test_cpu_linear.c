/* SPDX-License-Identifier: MIT
 *
 * test_cpu_linear.c - EMBED, LINEAR, LINEAR_QKV, GATE_UP_GLU, LINEAR_EXPERTS for every weight type,
 * against sums in f64. Decoding itself is checked in test_dequant.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "op_case.h"
#include "ref.h"

enum { N_TOK = 33 };
static const uint32_t types[] = {
    PERI_CPU_F32,   PERI_CPU_F16,     PERI_CPU_BF16,  PERI_CPU_F64,     PERI_CPU_Q4_0,
    PERI_CPU_Q4_1,  PERI_CPU_Q5_0,    PERI_CPU_Q5_1,  PERI_CPU_Q8_0,    PERI_CPU_Q8_1,
    PERI_CPU_Q2_K,  PERI_CPU_Q3_K,    PERI_CPU_Q4_K,  PERI_CPU_Q5_K,    PERI_CPU_Q6_K,
    PERI_CPU_Q8_K,  PERI_CPU_IQ1_S,   PERI_CPU_IQ1_M, PERI_CPU_IQ2_XXS, PERI_CPU_IQ2_XS,
    PERI_CPU_IQ2_S, PERI_CPU_IQ3_XXS, PERI_CPU_IQ3_S, PERI_CPU_IQ4_NL,  PERI_CPU_IQ4_XS,
    PERI_CPU_TQ1_0, PERI_CPU_TQ2_0,   PERI_CPU_MXFP4, PERI_CPU_NVFP4,   PERI_CPU_Q1_0,
    PERI_CPU_Q2_0};
enum { N_TYPE = sizeof types / sizeof types[0] };

/* A weight matrix: [n_expert * m] rows of n, and the same decoded. */
typedef struct matrix {
    uint32_t dtype;
    int64_t m, n;
    unsigned char *data;
    float *value;
} matrix;

static matrix new_matrix(uint32_t dtype, int64_t m, int64_t n, uint64_t seed) {
    peri_dtype_info t = peri_dtype_of(dtype);
    matrix w = {dtype, m, n, malloc((size_t)(m * n / t.n * t.bytes)),
                malloc((size_t)(m * n) * sizeof(float))};
    assert_non_null(w.data);
    assert_non_null(w.value);
    prog_blocks(dtype, w.data, m * n / t.n, seed);
    for (int64_t row = 0; row < m; row++)
        ref_dequant_row(dtype, w.data + row * (n / t.n * t.bytes), w.value + row * n, n);
    return w;
}

static void drop_matrix(matrix *w) {
    free(w->data);
    free(w->value);
}

static double dot_row(const matrix *w, int64_t row, const float *x) {
    const float *v = w->value + row * w->n;
    double sum = 0;
    for (int64_t i = 0; i < w->n; i++)
        sum += (double)v[i] * (double)x[i];
    return sum;
}

/* Rows that are no multiple of any vector width, where the type allows. */
static int64_t awkward_n(uint32_t dtype) {
    int64_t block = peri_dtype_of(dtype).n;
    return block == 1 ? 301 : block == 256 ? 512 : block == 128 ? 128 * 3 : block * 9;
}

/* ---- LINEAR ---- */

typedef struct linear {
    matrix w;
    float *x, bias[64], scale;
    int has_bias, has_scale;
    uint32_t flags;
    int64_t gap;
} linear;

static void build_linear(prog *p, const void *user, int32_t t0) {
    const linear *u = user;
    peri_linear_attr a = {.size = sizeof a, .flags = u->flags};
    p->code = PERI_OP_LINEAR;
    prog_in(p, DIMS(1, 1, -PERI_SYM_T, u->w.n), u->x + t0 * u->w.n, u->gap);
    prog_weight(p, u->w.dtype, DIMS(1, 1, u->w.m, u->w.n), u->w.data);
    prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, u->w.m), u->has_bias ? u->bias : NULL);
    prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, 1), u->has_scale ? &u->scale : NULL);
    prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, u->w.m), u->gap);
    prog_attr(p, &a, sizeof a);
}

static void expect_linear(const void *user, int32_t t, uint32_t k, double *out) {
    const linear *u = user;
    (void)k;
    for (int64_t o = 0; o < u->w.m; o++) {
        double sum = dot_row(&u->w, o, u->x + t * u->w.n);
        double b = u->has_bias ? (double)u->bias[o] : 0, s = u->has_scale ? (double)u->scale : 1;
        out[o] = u->flags & PERI_LINEAR_SCALE_LAST ? s * (sum + b) : s * sum + b;
    }
}

static void check_linear_of(uint32_t dtype, int64_t m, int64_t n, int variant) {
    linear u = {.w = new_matrix(dtype, m, n, dtype),
                .scale = 0.75f,
                .has_bias = variant & 1,
                .has_scale = variant >> 1 & 1,
                .flags = variant & 4 ? PERI_LINEAR_SCALE_LAST : 0,
                .gap = variant ? 5 : 0};
    u.x = malloc((size_t)(N_TOK * u.w.n) * sizeof *u.x);
    assert_non_null(u.x);
    prog_fill(u.x, N_TOK * u.w.n, 5, 2);
    prog_fill(u.bias, 64, 6, 1);
    op_case c = {
        peri_dtype_of(dtype).name, N_TOK, build_linear, expect_linear, {m}, 0, &u, 0, NULL};
    check_case(&c);
    free(u.x);
    drop_matrix(&u.w);
}

static void check_linear(uint32_t dtype, int64_t m, int variant) {
    check_linear_of(dtype, m, awkward_n(dtype), variant);
}

static void linear_of_every_type_is_the_sum(void **state) {
    (void)state;
    for (int i = 0; i < N_TYPE; i++)
        check_linear(types[i], 37, 0);
}

/* Kernels that take rows in pieces (linear_token.c: 8192 columns) go on where the last one ended.
 */
static void linear_of_long_rows_is_the_sum(void **state) {
    static const uint32_t some[] = {PERI_CPU_Q4_0, PERI_CPU_Q8_0, PERI_CPU_Q4_K, PERI_CPU_Q6_K,
                                    PERI_CPU_IQ3_S};
    (void)state;
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++)
        check_linear_of(some[i], 17, 8192 + (peri_dtype_of(some[i]).n == 256 ? 512 : 288), 0);
}

static void linear_takes_bias_and_scale_in_both_orders(void **state) {
    (void)state;
    for (int variant = 1; variant < 8; variant++) {
        check_linear(PERI_CPU_F32, 19, variant);
        check_linear(PERI_CPU_Q8_0, 1, variant);
        check_linear(PERI_CPU_Q4_K, 16, variant);
    }
}

/* ---- EMBED ---- */

enum { N_VOCAB = 41 };
typedef struct embed {
    matrix w;
    uint32_t source;
    float scale;
} embed;

static int32_t token_of(int32_t t) {
    return t * 13 % N_VOCAB;
}

static void build_embed(prog *p, const void *user, int32_t t0) {
    const embed *u = user;
    peri_embed_attr a = {.size = sizeof a, .source = u->source, .scale = u->scale};
    p->code = PERI_OP_EMBED;
    prog_weight(p, u->w.dtype, DIMS(1, 1, N_VOCAB, u->w.n), u->w.data);
    prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, u->w.n), 3);
    prog_attr(p, &a, sizeof a);
    for (int32_t t = 0; t < p->n[PERI_SYM_T]; t++) {
        p->tok[t] = u->source ? -1 : token_of(t0 + t);
        p->pos[t] = u->source ? token_of(t0 + t) : -1;
    }
}

static void expect_embed(const void *user, int32_t t, uint32_t k, double *out) {
    const embed *u = user;
    peri_dtype_info type = peri_dtype_of(u->w.dtype);
    float v[576];
    (void)k;
    ref_dequant_row(u->w.dtype, u->w.data + token_of(t) * (u->w.n / type.n * type.bytes), v,
                    u->w.n);
    for (int64_t i = 0; i < u->w.n; i++)
        out[i] = (double)u->scale * (double)v[i];
}

static void embed_reads_the_row_of_token_or_position(void **state) {
    (void)state;
    for (int i = 0; i < N_TYPE; i++) {
        embed u = {new_matrix(types[i], N_VOCAB, awkward_n(types[i]), 9), (uint32_t)i % 2,
                   i < 4 ? 1 : 1.7f};
        op_case c = {"EMBED", N_TOK, build_embed, expect_embed, {u.w.n}, 0.5, &u, 0, NULL};
        check_case(&c);
        drop_matrix(&u.w);
    }
}

static void embed_refuses_a_token_past_the_table(void **state) {
    (void)state;
    embed u = {new_matrix(PERI_CPU_F32, N_VOCAB, 8, 1), 0, 1};
    peri_error e = {0};
    peri_dev *d = open_cpu("reference", 1);
    prog *p = prog_new(d, 2);
    build_embed(p, &u, 0);
    p->tok[1] = N_VOCAB;
    assert_int_equal(prog_run(p, &e), PERI_E_RANGE);
    assert_error(&e, PERI_E_RANGE, "row 41 of 41");
    prog_free(p);
    close_cpu(d);
    drop_matrix(&u.w);
}

/* ---- LINEAR_QKV ---- */

typedef struct qkv {
    matrix w[3];
    float x[N_TOK * 288], bias[64], scale[3];
} qkv;

static void build_qkv(prog *p, const void *user, int32_t t0) {
    const qkv *u = user;
    p->code = PERI_OP_LINEAR_QKV;
    prog_in(p, DIMS(1, 1, -PERI_SYM_T, 288), u->x + t0 * 288, 0);
    for (int i = 0; i < 3; i++)
        prog_weight(p, u->w[i].dtype, DIMS(1, 1, u->w[i].m, 288), u->w[i].data);
    for (int i = 0; i < 3; i++) /* no bias for k */
        prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, u->w[i].m), i == 1 ? NULL : u->bias + i);
    for (int i = 0; i < 3; i++) /* no scale for q */
        prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, 1), i == 0 ? NULL : &u->scale[i]);
    for (int i = 0; i < 3; i++)
        prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, u->w[i].m), i);
}

static void expect_qkv(const void *user, int32_t t, uint32_t k, double *out) {
    const qkv *u = user;
    for (int64_t o = 0; o < u->w[k].m; o++)
        out[o] = dot_row(&u->w[k], o, u->x + t * 288) * (k == 0 ? 1 : (double)u->scale[k]) +
                 (k == 1 ? 0 : (double)u->bias[k + (uint32_t)o]);
}

static void linear_qkv_is_three_linears_of_mixed_types(void **state) {
    (void)state;
    qkv *u = calloc(1, sizeof *u);
    assert_non_null(u);
    u->w[0] = new_matrix(PERI_CPU_Q4_0, 40, 288, 1);
    u->w[1] = new_matrix(PERI_CPU_MXFP4, 17, 288, 2);
    u->w[2] = new_matrix(PERI_CPU_IQ4_NL, 1, 288, 3);
    prog_fill(u->x, N_TOK * 288, 4, 1);
    prog_fill(u->bias, 64, 5, 1);
    prog_fill(u->scale, 3, 6, 2);
    op_case c = {"LINEAR_QKV", N_TOK, build_qkv, expect_qkv, {40, 17, 1}, 0, u, 0, NULL};
    check_case(&c);
    for (int i = 0; i < 3; i++)
        drop_matrix(&u->w[i]);
    free(u);
}

/* A fused op declares one numerics; weights of several go to an op each, but for the reference. */
static void linear_qkv_of_several_numerics_is_left_to_its_parts(void **state) {
    (void)state;
    qkv *u = calloc(1, sizeof *u);
    assert_non_null(u);
    u->w[0] = new_matrix(PERI_CPU_Q4_0, 40, 288, 1);
    u->w[1] = new_matrix(PERI_CPU_F16, 17, 288, 2);
    u->w[2] = new_matrix(PERI_CPU_Q8_0, 1, 288, 3);
    for (int is_reference = 0; is_reference < 2; is_reference++) {
        peri_dev *d = open_cpu(is_reference ? "reference" : "scalar", 1);
        prog *p = prog_new(d, 2);
        build_qkv(p, u, 0);
        assert_int_equal(prog_supports(p), is_reference);
        if (is_reference)
            assert_string_equal(p->numerics, "act=f32 acc=f32");
        else
            assert_string_equal(p->why, "weights of several numerics: faster as an op for each");
        prog_free(p);
        close_cpu(d);
    }
    for (int i = 0; i < 3; i++)
        drop_matrix(&u->w[i]);
    free(u);
}

/* ---- GATE_UP_GLU ---- */

typedef struct gate_up {
    matrix gate, up;
    float *x;
} gate_up;

static void build_gate_up(prog *p, const void *user, int32_t t0) {
    const gate_up *u = user;
    peri_act_attr a = {.size = sizeof a, .act = PERI_ACT_SILU};
    p->code = PERI_OP_GATE_UP_GLU;
    prog_in(p, DIMS(1, 1, -PERI_SYM_T, u->up.n), u->x + t0 * u->up.n, 7);
    prog_weight(p, u->gate.dtype, DIMS(1, 1, u->up.m, u->up.n), u->gate.data);
    prog_weight(p, u->up.dtype, DIMS(1, 1, u->up.m, u->up.n), u->up.data);
    prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, u->up.m), 7);
    prog_attr(p, &a, sizeof a);
}

static void expect_gate_up(const void *user, int32_t t, uint32_t k, double *out) {
    const gate_up *u = user;
    (void)k;
    for (int64_t o = 0; o < u->up.m; o++) {
        double g = dot_row(&u->gate, o, u->x + t * u->up.n),
               v = dot_row(&u->up, o, u->x + t * u->up.n);
        out[o] = g / (1 + exp(-g)) * v;
    }
}

static void gate_up_glu_is_glu_of_two_linears(void **state) {
    (void)state;
    for (int i = 0; i < N_TYPE; i++) {
        int64_t n = awkward_n(types[i]);
        uint32_t up = peri_dtype_of(types[i]).n == 256 ? PERI_CPU_Q6_K : types[i];
        gate_up u = {new_matrix(types[i], 21, n, 1), new_matrix(up, 21, n, 2), NULL};
        u.x = malloc((size_t)(N_TOK * n) * sizeof *u.x);
        assert_non_null(u.x);
        prog_fill(u.x, N_TOK * n, 3, 1);
        op_case c = {peri_dtype_of(types[i]).name,
                     N_TOK,
                     build_gate_up,
                     expect_gate_up,
                     {21},
                     0,
                     &u,
                     0,
                     NULL};
        check_case(&c);
        free(u.x);
        drop_matrix(&u.gate);
        drop_matrix(&u.up);
    }
}

/* ---- LINEAR_EXPERTS ---- */

enum { N_EXPERT = 5, N_USED = 3, EXPERT_M = 18 };
typedef struct experts {
    matrix w; /* N_EXPERT * EXPERT_M rows */
    float *x, bias[N_EXPERT * EXPERT_M], scale[N_EXPERT];
    int per_slot, has_bias, has_scale;
} experts;

static int32_t expert_of(int32_t t, int32_t k) {
    return (t * 7 + k * (1 + t % 4)) % N_EXPERT;
}

static void build_experts(prog *p, const void *user, int32_t t0) {
    const experts *u = user;
    int32_t ids[N_TOK * N_USED], n = p->n[PERI_SYM_T];
    for (int32_t i = 0; i < n * N_USED; i++)
        ids[i] = expert_of(t0 + i / N_USED, i % N_USED);
    p->code = PERI_OP_LINEAR_EXPERTS;
    if (u->per_slot)
        prog_in(p, DIMS(1, -PERI_SYM_T, N_USED, u->w.n), u->x + t0 * N_USED * u->w.n, 3);
    else
        prog_in(p, DIMS(1, 1, -PERI_SYM_T, u->w.n), u->x + t0 * u->w.n, 3);
    prog_weight(p, u->w.dtype, DIMS(1, N_EXPERT, EXPERT_M, u->w.n), u->w.data);
    prog_in_ids(p, DIMS(1, 1, -PERI_SYM_T, N_USED), ids);
    prog_weight(p, PERI_CPU_F32, DIMS(1, 1, N_EXPERT, EXPERT_M), u->has_bias ? u->bias : NULL);
    prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, N_EXPERT), u->has_scale ? u->scale : NULL);
    prog_out(p, PERI_CPU_F32, DIMS(1, -PERI_SYM_T, N_USED, EXPERT_M), 2);
}

static void expect_experts(const void *user, int32_t t, uint32_t k, double *out) {
    const experts *u = user;
    (void)k;
    for (int32_t i = 0; i < N_USED * EXPERT_M; i++) {
        int32_t e = expert_of(t, i / EXPERT_M), o = i % EXPERT_M;
        const float *x = u->x + (u->per_slot ? t * N_USED + i / EXPERT_M : t) * u->w.n;
        out[i] = dot_row(&u->w, e * EXPERT_M + o, x) * (u->has_scale ? (double)u->scale[e] : 1) +
                 (u->has_bias ? (double)u->bias[e * EXPERT_M + o] : 0);
    }
}

static void linear_experts_uses_the_rows_of_each_slots_expert(void **state) {
    (void)state;
    for (int i = 0; i < N_TYPE; i++) {
        int64_t n = awkward_n(types[i]);
        experts u = {.w = new_matrix(types[i], N_EXPERT * EXPERT_M, n, 11),
                     .per_slot = i % 2,
                     .has_bias = i % 3 == 0,
                     .has_scale = i % 4 == 0};
        u.x = malloc((size_t)(N_TOK * N_USED * n) * sizeof *u.x);
        assert_non_null(u.x);
        prog_fill(u.x, N_TOK * N_USED * n, 12, 1);
        prog_fill(u.bias, N_EXPERT * EXPERT_M, 13, 1);
        prog_fill(u.scale, N_EXPERT, 14, 1);
        op_case c = {"LINEAR_EXPERTS",
                     N_TOK,
                     build_experts,
                     expect_experts,
                     {N_USED * EXPERT_M},
                     0,
                     &u,
                     0,
                     NULL};
        check_case(&c);
        free(u.x);
        drop_matrix(&u.w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_of_every_type_is_the_sum),
        cmocka_unit_test(linear_of_long_rows_is_the_sum),
        cmocka_unit_test(linear_takes_bias_and_scale_in_both_orders),
        cmocka_unit_test(embed_reads_the_row_of_token_or_position),
        cmocka_unit_test(embed_refuses_a_token_past_the_table),
        cmocka_unit_test(linear_qkv_is_three_linears_of_mixed_types),
        cmocka_unit_test(linear_qkv_of_several_numerics_is_left_to_its_parts),
        cmocka_unit_test(gate_up_glu_is_glu_of_two_linears),
        cmocka_unit_test(linear_experts_uses_the_rows_of_each_slots_expert),
    };
    return peri_run_tests(tests);
}
