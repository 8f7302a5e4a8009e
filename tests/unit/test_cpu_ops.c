/* SPDX-License-Identifier: MIT
 *
 * test_cpu_ops.c - norms, rotation, elementwise operations, routing and row selection against their
 * formulas in f64. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "op_case.h"
#include "ref.h"

enum { N_TOK = 33, ROOM = N_TOK * 12 * 80, F32 = PERI_CPU_F32 };
enum { GATE_ULP = 4 };

static float input[3][ROOM], vector[2][12 * 80]; /* filled by main */

/* [T][n] or, with heads, [T][H][n]. */
static prog_dims rows_of(int64_t heads, int64_t n) {
    return heads ? DIMS(1, -PERI_SYM_T, heads, n) : DIMS(1, 1, -PERI_SYM_T, n);
}

static int64_t per_token(int64_t heads, int64_t n) {
    return (heads ? heads : 1) * n;
}

/* ---- NORM, ADD_NORM ---- */

typedef struct norm {
    uint32_t kind;
    float eps;
    int64_t heads, n;
    int weights; /* 0 none, 1 [n], 2 [H][n] */
    int has_bias, in_place;
} norm;

static void build_norm(prog *p, const void *user, int32_t t0) {
    const norm *u = user;
    peri_norm_attr a = {.size = sizeof a, .kind = u->kind, .eps = u->eps};
    prog_dims w = {{1, 1, u->weights == 2 ? u->heads : 1, u->n}};
    p->code = PERI_OP_NORM;
    prog_in(p, rows_of(u->heads, u->n), input[0] + t0 * per_token(u->heads, u->n), 5);
    prog_weight(p, F32, w, u->weights ? vector[0] : NULL);
    prog_weight(p, F32, w, u->has_bias ? vector[1] : NULL);
    if (u->in_place)
        prog_out_in_place(p, 0);
    else
        prog_out(p, F32, rows_of(u->heads, u->n), 3);
    prog_attr(p, &a, sizeof a);
}

static void norm_row(const norm *u, const double *x, int64_t head, double *out) {
    double mean = 0, square = 0;
    for (int64_t i = 0; i < u->n; i++)
        mean += x[i] / (double)u->n;
    if (u->kind != PERI_NORM_LAYER) mean = 0;
    for (int64_t i = 0; i < u->n; i++)
        square += (x[i] - mean) * (x[i] - mean);
    double by = u->kind == PERI_NORM_L2 ? fmax(sqrt(square), (double)u->eps)
                                        : sqrt(square / (double)u->n + (double)u->eps);
    for (int64_t i = 0; i < u->n; i++) {
        int64_t at = (u->weights == 2 ? head * u->n : 0) + i;
        out[i] = (x[i] - mean) / by * (u->weights ? (double)vector[0][at] : 1) +
                 (u->has_bias ? (double)vector[1][at] : 0);
    }
}

static void expect_norm(const void *user, int32_t t, uint32_t k, double *out) {
    const norm *u = user;
    double x[80];
    (void)k;
    for (int64_t h = 0; h < (u->heads ? u->heads : 1); h++) {
        const float *from = input[0] + t * per_token(u->heads, u->n) + h * u->n;
        for (int64_t i = 0; i < u->n; i++)
            x[i] = (double)from[i];
        norm_row(u, x, h, out + h * u->n);
    }
}

static void norm_divides_each_row_by_its_size(void **state) {
    static const norm cases[] = {
        {PERI_NORM_RMS, 1e-6f, 0, 77, 1, 0, 0},   {PERI_NORM_RMS, 1e-5f, 7, 64, 1, 0, 1},
        {PERI_NORM_RMS, 1e-5f, 7, 33, 2, 0, 0},   {PERI_NORM_RMS, 0, 0, 1, 0, 0, 0},
        {PERI_NORM_RMS, 100, 3, 40, 0, 0, 0},     {PERI_NORM_LAYER, 1e-5f, 0, 80, 1, 1, 0},
        {PERI_NORM_LAYER, 1e-5f, 5, 31, 2, 1, 1}, {PERI_NORM_LAYER, 1e-5f, 0, 13, 0, 0, 0},
        {PERI_NORM_L2, 1e-6f, 4, 48, 0, 0, 0},    {PERI_NORM_L2, 50, 0, 48, 1, 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        op_case c = {
            "NORM", N_TOK,     build_norm, expect_norm, {per_token(cases[i].heads, cases[i].n)},
            0,      &cases[i], 0,          NULL};
        check_case(&c);
    }
}

static void build_add_norm(prog *p, const void *user, int32_t t0) {
    const norm *u = user;
    peri_norm_attr a = {.size = sizeof a, .kind = u->kind, .eps = u->eps};
    p->code = PERI_OP_ADD_NORM;
    for (int k = 0; k < 2; k++)
        prog_in(p, rows_of(0, u->n), input[k] + t0 * u->n, 2 + k);
    prog_weight(p, F32, DIMS(1, 1, 1, u->n), u->weights ? vector[0] : NULL);
    prog_weight(p, F32, DIMS(1, 1, 1, u->n), u->has_bias ? vector[1] : NULL);
    if (u->in_place)
        prog_out_in_place(p, 0);
    else
        prog_out(p, F32, rows_of(0, u->n), 1);
    prog_out(p, F32, rows_of(0, u->n), 1);
    prog_attr(p, &a, sizeof a);
}

static void expect_add_norm(const void *user, int32_t t, uint32_t k, double *out) {
    const norm *u = user;
    double sum[80];
    for (int64_t i = 0; i < u->n; i++)
        sum[i] = (double)(input[0][t * u->n + i] + input[1][t * u->n + i]);
    if (k == 0)
        memcpy(out, sum, (size_t)u->n * sizeof *sum);
    else
        norm_row(u, sum, 0, out);
}

static void add_norm_gives_the_sum_and_its_norm(void **state) {
    static const norm cases[] = {{PERI_NORM_RMS, 1e-6f, 0, 77, 1, 0, 1},
                                 {PERI_NORM_RMS, 1e-6f, 0, 64, 0, 0, 0},
                                 {PERI_NORM_LAYER, 1e-5f, 0, 50, 1, 1, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        op_case c = {"ADD_NORM",
                     N_TOK,
                     build_add_norm,
                     expect_add_norm,
                     {cases[i].n, cases[i].n},
                     0,
                     &cases[i],
                     1,
                     NULL};
        check_case(&c);
    }
}

/* ---- ROPE ---- */

typedef struct rope {
    peri_rope_attr a;
    int64_t heads, d;
    int has_factors, in_place;
} rope;

static int32_t pos_of(int32_t t) {
    return t < 3 ? t : t * t * 120 + t;
}

static void build_rope(prog *p, const void *user, int32_t t0) {
    const rope *u = user;
    p->code = PERI_OP_ROPE;
    prog_in(p, rows_of(u->heads, u->d), input[0] + t0 * u->heads * u->d, 6);
    prog_weight(p, F32, DIMS(1, 1, 1, u->a.n_rot / 2), u->has_factors ? vector[0] : NULL);
    if (u->in_place)
        prog_out_in_place(p, 0);
    else
        prog_out(p, F32, rows_of(u->heads, u->d), 1);
    prog_attr(p, &u->a, sizeof u->a);
    for (int32_t t = 0; t < p->n[PERI_SYM_T]; t++)
        p->pos[t] = pos_of(t0 + t);
}

/* The angle as op.def defines it, f32 recurrence included. */
static double angle_of(const rope *u, int32_t t, uint32_t pair) {
    float theta = (float)pos_of(t), step = powf(u->a.base, -2.0f / (float)u->a.n_rot);
    for (uint32_t i = 0; i < pair; i++)
        theta *= step;
    float e = u->has_factors ? theta / vector[0][pair] : theta, inner = u->a.freq_scale * e;
    if (u->a.ext == 0) return (double)inner;
    float at = ((float)pair - u->a.ramp_lo) / fmaxf(0.001f, u->a.ramp_hi - u->a.ramp_lo);
    float r = u->a.ext * (1 - (at < 0 ? 0 : at > 1 ? 1 : at));
    return (double)(inner * (1 - r) + e * r);
}

static void expect_rope(const void *user, int32_t t, uint32_t k, double *out) {
    const rope *u = user;
    (void)k;
    for (int64_t h = 0; h < u->heads; h++) {
        const float *x = input[0] + (t * u->heads + h) * u->d;
        double *y = out + h * u->d;
        for (int64_t i = 0; i < u->d; i++)
            y[i] = (double)x[i];
        for (uint32_t i = 0; i < u->a.n_rot / 2; i++) {
            uint32_t i0 = u->a.first + (u->a.pairs == PERI_ROPE_NEOX ? i : 2 * i);
            uint32_t i1 = u->a.pairs == PERI_ROPE_NEOX ? i0 + u->a.n_rot / 2 : i0 + 1;
            double a = angle_of(u, t, i), m = (double)u->a.magnitude;
            y[i0] = m * ((double)x[i0] * cos(a) - (double)x[i1] * sin(a));
            y[i1] = m * ((double)x[i0] * sin(a) + (double)x[i1] * cos(a));
        }
    }
}

static void rope_rotates_pairs_by_the_position(void **state) {
    enum { NORM = PERI_ROPE_NORM, NEOX = PERI_ROPE_NEOX, SIZE = sizeof(peri_rope_attr) };
    static const rope cases[] = {
        {{SIZE, NORM, 0, 64, 10000, 1, 0, 0, 0, 1}, 3, 64, 0, 0},
        {{SIZE, NEOX, 0, 64, 1e6f, 1, 0, 0, 0, 1}, 5, 64, 0, 1},
        {{SIZE, NEOX, 0, 20, 500000, 1, 0, 0, 0, 1}, 2, 48, 1, 0}, /* partial, factors */
        {{SIZE, NORM, 16, 32, 10000, 0.25f, 0, 0, 0, 1},
         2,
         48,
         1,
         1}, /* last part, linear scaling */
        {{SIZE, NEOX, 0, 80, 10000, 0.125f, 1, 5, 21, 1.2f}, 4, 80, 0, 0}, /* YaRN */
        {{SIZE, NORM, 0, 64, 1e6f, 0.25f, 0.5f, 3, 3, 1.1f},
         4,
         64,
         1,
         1}, /* a ramp without width */
        {{SIZE, NORM, 0, 2, 10000, 1, 0, 0, 0, 1}, 1, 2, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        op_case c = {"ROPE", N_TOK,     build_rope, expect_rope, {cases[i].heads * cases[i].d},
                     0,      &cases[i], 0,          NULL};
        check_case(&c);
    }
}

static void run_rope(peri_dev *d, const rope *u, int32_t t0, float *y) {
    peri_error e = {0};
    prog *p = prog_new(d, 4);
    build_rope(p, u, t0);
    assert_ok(prog_run(p, &e), e);
    prog_get(p, 0, y);
    prog_free(p);
}

/* A device keeps them from op to op: the same bits as of one that has seen nothing before. */
static void rope_takes_no_angles_of_another_base_position_or_factor(void **state) {
    enum { SIZE = sizeof(peri_rope_attr), ROW = 2 * 48 };
    static const struct {
        rope u;
        int32_t t0;
        float factor;
    } step[] = {
        {{{SIZE, PERI_ROPE_NEOX, 0, 20, 500000, 1, 0, 0, 0, 1}, 2, 48, 0, 0}, 1, 1},
        {{{SIZE, PERI_ROPE_NEOX, 0, 20, 500000, 1, 0, 0, 0, 1}, 1, 48, 0, 0}, 1, 1},
        {{{SIZE, PERI_ROPE_NEOX, 0, 20, 500001, 1, 0, 0, 0, 1}, 2, 48, 0, 0}, 1, 1},
        {{{SIZE, PERI_ROPE_NEOX, 0, 20, 500001, 1, 0, 0, 0, 1}, 2, 48, 0, 0}, 2, 1},
        {{{SIZE, PERI_ROPE_NEOX, 0, 20, 500001, 1, 0, 0, 0, 1}, 2, 48, 1, 0}, 2, 2},
        {{{SIZE, PERI_ROPE_NEOX, 0, 20, 500001, 1, 0, 0, 0, 1}, 2, 48, 1, 0}, 2, 3},
        {{{SIZE, PERI_ROPE_NORM, 0, 40, 500001, 1, 0, 0, 0, 1}, 2, 48, 0, 0}, 2, 1},
    };
    float usual = vector[0][4], last[4 * ROW] = {0};
    peri_dev *old = open_cpu(NULL, 2);
    (void)state;
    for (size_t i = 0; i < sizeof step / sizeof step[0]; i++) {
        float got[4 * ROW] = {0}, want[4 * ROW] = {0};
        peri_dev *fresh;
        vector[0][4] = step[i].factor;
        run_rope(old, &step[i].u, step[i].t0, got);
        close_cpu(old); /* one at a time: what is left behind is counted for all */
        fresh = open_cpu(NULL, 2);
        run_rope(fresh, &step[i].u, step[i].t0, want);
        assert_memory_equal(got, want, sizeof got);
        assert_int_not_equal(memcmp(got, last, sizeof got), 0);
        memcpy(last, got, sizeof last);
        old = fresh; /* it keeps this step's angles when it meets the next */
    }
    close_cpu(old);
    vector[0][4] = usual;
}

static void rope_is_the_same_bits_on_all_levels(void **state) {
    enum { SIZE = sizeof(peri_rope_attr), N = 4 * 2 * 90 };
    static const rope shape[] = {
        {{SIZE, PERI_ROPE_NEOX, 0, 90, 500000, 1, 0, 0, 0, 1}, 2, 90, 0, 0},
        {{SIZE, PERI_ROPE_NORM, 6, 70, 500000, 1, 0, 0, 0, 1}, 2, 90, 0, 0}};
    (void)state;
    for (size_t k = 0; k < sizeof shape / sizeof *shape; k++) {
        float want[N] = {0}, got[N];
        peri_dev *d = open_cpu("reference", 2);
        run_rope(d, &shape[k], 3, want);
        close_cpu(d);
        for (uint32_t i = 0; cpu_level_at(i); i++) {
            if (!cpu_level_at(i)->is_available()) continue;
            memset(got, 0, sizeof got);
            d = open_cpu(cpu_level_at(i)->name, 2);
            run_rope(d, &shape[k], 3, got);
            close_cpu(d);
            if (memcmp(got, want, sizeof got)) fail_msg("shape %zu, %s", k, cpu_level_at(i)->name);
        }
    }
}

/* ---- ACT, GLU ---- */

typedef struct act {
    uint32_t code, act;
    float param;
    int64_t heads, n;
    int in_place;
} act;

static void build_act(prog *p, const void *user, int32_t t0) {
    const act *u = user;
    peri_act_attr a = {.size = sizeof a, .act = u->act, .param = u->param};
    p->code = (uint16_t)u->code;
    prog_in(p, rows_of(u->heads, u->n), input[2] + t0 * per_token(u->heads, u->n), 1);
    if (u->code == PERI_OP_GLU)
        prog_in(p, rows_of(u->heads, u->n), input[1] + t0 * per_token(u->heads, u->n), 4);
    if (u->in_place)
        prog_out_in_place(p, 0);
    else
        prog_out(p, F32, rows_of(u->heads, u->n), 0);
    prog_attr(p, &a, sizeof a);
}

static double act_of(const act *u, double x) {
    double c = (double)u->param, z = sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
    switch (u->act) {
    case PERI_ACT_SILU:
        return x / (1 + exp(-x));
    case PERI_ACT_GELU: /* below 0, 1 + tanh z cancels: e^z / cosh z is the same */
        return 0.5 * x * (z > 0 ? 1 + tanh(z) : exp(z) / cosh(z));
    case PERI_ACT_GELU_ERF:
        return 0.5 * x * erfc(-x / sqrt(2));
    case PERI_ACT_GELU_QUICK:
        return x / (1 + exp(-1.702 * x));
    case PERI_ACT_RELU:
        return fmax(x, 0);
    case PERI_ACT_RELU2:
        return fmax(x, 0) * fmax(x, 0);
    case PERI_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case PERI_ACT_TANH:
        return tanh(x);
    case PERI_ACT_SOFTPLUS:
        return x > 20 ? x : log1p(exp(x));
    case PERI_ACT_SOFTCAP:
        return c * tanh(x / c);
    }
    fail_msg("activation %u", u->act);
    return 0;
}

static void expect_act(const void *user, int32_t t, uint32_t k, double *out) {
    const act *u = user;
    (void)k;
    for (int64_t i = 0; i < per_token(u->heads, u->n); i++) {
        int64_t at = t * per_token(u->heads, u->n) + i;
        out[i] =
            act_of(u, (double)input[2][at]) * (u->code == PERI_OP_GLU ? (double)input[1][at] : 1);
    }
}

/* e^(c x) in f32 inherits the rounding of c x, about |c x| / 2 units: a kernel without f64 cannot
 * keep 4 units of a value that vanishes.  It must keep 4 units of a quarter of what goes in, below
 * which the tail is. */
static void quarter_of_x(const void *user, int32_t t, double *out) {
    const act *u = user;
    for (int64_t i = 0; i < per_token(u->heads, u->n); i++) {
        int64_t at = t * per_token(u->heads, u->n) + i;
        out[i] =
            fabs((double)input[2][at] * (u->code == PERI_OP_GLU ? (double)input[1][at] : 1)) / 4;
    }
}

static void act_and_glu_are_their_formulas(void **state) {
    (void)state;
    for (uint32_t a = PERI_ACT_SILU; a <= PERI_ACT_SOFTCAP; a++)
        for (int i = 0; i < 4; i++) {
            act u = {i % 2 ? PERI_OP_GLU : PERI_OP_ACT, a, 3.5f, i / 2 * 3, 67, i == 1 || i == 2};
            char name[40];
            snprintf(name, sizeof name, "%s kind %u", i % 2 ? "GLU" : "ACT", a);
            op_case c = {name,
                         N_TOK,
                         build_act,
                         expect_act,
                         {per_token(u.heads, u.n)},
                         GATE_ULP,
                         &u,
                         0,
                         a == PERI_ACT_GELU || a == PERI_ACT_GELU_QUICK ? quarter_of_x : NULL};
            check_case(&c);
        }
}

static void act_lets_nan_and_infinity_through(void **state) {
    (void)state;
    float x[4] = {NAN, INFINITY, -INFINITY, -0.0f}, y[4];
    act u = {PERI_OP_ACT, 0, 2, 0, 4, 0};
    peri_dev *d = open_cpu("reference", 1);
    for (u.act = PERI_ACT_SILU; u.act <= PERI_ACT_SOFTCAP; u.act++) {
        peri_error e = {0};
        peri_act_attr a = {.size = sizeof a, .act = u.act, .param = u.param};
        prog *p = prog_new(d, 1);
        p->code = PERI_OP_ACT;
        prog_in(p, rows_of(0, 4), x, 0);
        prog_out(p, F32, rows_of(0, 4), 0);
        prog_attr(p, &a, sizeof a);
        assert_ok(prog_run(p, &e), e);
        prog_get(p, 0, y);
        assert_true(isnan(y[0]));
        int is_bounded =
            u.act == PERI_ACT_SIGMOID || u.act == PERI_ACT_TANH || u.act == PERI_ACT_SOFTCAP;
        assert_true(is_bounded ? y[1] == (u.act == PERI_ACT_SOFTCAP ? 2.0f : 1.0f) : isinf(y[1]));
        prog_free(p);
    }
    close_cpu(d);
}

/* ---- ADD, MUL, SCALE ---- */

enum { SAME, ONE_ROW, ONE_NUMBER };
typedef struct pair {
    uint32_t code;
    int other, in_place;
    int64_t heads, n;
} pair;

static void build_pair(prog *p, const void *user, int32_t t0) {
    const pair *u = user;
    peri_scale_attr a = {.size = sizeof a, .scale = -1.3f};
    p->code = (uint16_t)u->code;
    prog_in(p, rows_of(u->heads, u->n), input[0] + t0 * per_token(u->heads, u->n), 3);
    if (u->code == PERI_OP_SCALE)
        prog_attr(p, &a, sizeof a);
    else if (u->other == SAME)
        prog_in(p, rows_of(u->heads, u->n), input[1] + t0 * per_token(u->heads, u->n), 1);
    else
        prog_weight(p, F32, DIMS(1, 1, 1, u->other == ONE_ROW ? u->n : 1), vector[0]);
    if (u->in_place)
        prog_out_in_place(p, 0);
    else
        prog_out(p, F32, rows_of(u->heads, u->n), 2);
}

static void expect_pair(const void *user, int32_t t, uint32_t k, double *out) {
    const pair *u = user;
    (void)k;
    for (int64_t i = 0; i < per_token(u->heads, u->n); i++) {
        int64_t at = t * per_token(u->heads, u->n) + i;
        double a = (double)input[0][at], b = u->other == SAME      ? (double)input[1][at]
                                             : u->other == ONE_ROW ? (double)vector[0][i % u->n]
                                                                   : (double)vector[0][0];
        out[i] = u->code == PERI_OP_ADD   ? a + b
                 : u->code == PERI_OP_MUL ? a * b
                                          : (double)-1.3f * a;
    }
}

static void add_mul_and_scale_broadcast_one_row_or_number(void **state) {
    static const pair cases[] = {
        {PERI_OP_ADD, SAME, 0, 0, 79},      {PERI_OP_ADD, SAME, 1, 5, 16},
        {PERI_OP_ADD, ONE_ROW, 0, 0, 79},   {PERI_OP_ADD, ONE_ROW, 1, 3, 21},
        {PERI_OP_MUL, SAME, 0, 0, 80},      {PERI_OP_MUL, ONE_ROW, 1, 0, 37},
        {PERI_OP_MUL, ONE_NUMBER, 0, 4, 9}, {PERI_OP_SCALE, SAME, 0, 3, 33},
        {PERI_OP_SCALE, SAME, 1, 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const pair *u = &cases[i];
        op_case c = {"ADD, MUL, SCALE",
                     N_TOK,
                     build_pair,
                     expect_pair,
                     {per_token(u->heads, u->n)},
                     0.5,
                     u,
                     0,
                     NULL};
        check_case(&c);
    }
}

/* ---- ROUTE ---- */

typedef struct route {
    peri_route_attr a;
    int64_t n_expert, n_used;
    int has_bias, has_ties;
} route;

static float logit_of(const route *u, int32_t t, int64_t e) {
    float x = 3 * input[0][t * u->n_expert + e];
    return u->has_ties ? rintf(x) : x; /* few different values: many equal ones */
}

static void build_route(prog *p, const void *user, int32_t t0) {
    const route *u = user;
    float l[N_TOK * 64];
    for (int32_t t = 0; t < p->n[PERI_SYM_T]; t++)
        for (int64_t e = 0; e < u->n_expert; e++)
            l[t * u->n_expert + e] = logit_of(u, t0 + t, e);
    p->code = PERI_OP_ROUTE;
    prog_in(p, rows_of(0, u->n_expert), l, 9);
    prog_weight(p, F32, DIMS(1, 1, 1, u->n_expert), u->has_bias ? vector[1] : NULL);
    prog_out(p, PERI_CPU_I32, rows_of(0, u->n_used), 2);
    prog_out(p, F32, rows_of(0, u->n_used), 1);
    prog_attr(p, &u->a, sizeof u->a);
}

/* Number of entries of value[0 .. n) that come before entry i: larger, or equal with a lower index.
 */
static int64_t rank_of(const double *value, int64_t n, int64_t i) {
    int64_t before = 0;
    for (int64_t k = 0; k < n; k++)
        before += value[k] > value[i] || (value[k] == value[i] && k < i);
    return before;
}

/* -INFINITY for experts of groups that are not used. */
static void mask_groups(const route *u, double *by) {
    int64_t n_group = u->a.n_group, size = u->n_expert / n_group;
    double score[64];
    for (int64_t g = 0; g < n_group; g++) {
        score[g] = 0;
        for (int64_t i = 0; i < size; i++)
            if (rank_of(by + g * size, size, i) < 2) score[g] += by[g * size + i];
    }
    for (int64_t g = 0; g < n_group; g++)
        for (int64_t i = 0; i < size && rank_of(score, n_group, g) >= u->a.n_group_used; i++)
            by[g * size + i] = -INFINITY;
}

static void expect_route(const void *user, int32_t t, uint32_t k, double *out) {
    const route *u = user;
    double p[64], by[64], sum = 0, chosen = 0;
    for (int64_t e = 0; e < u->n_expert; e++)
        sum += exp((double)logit_of(u, t, e));
    for (int64_t e = 0; e < u->n_expert; e++) {
        double l = (double)logit_of(u, t, e);
        p[e] = u->a.kind == PERI_ROUTE_SOFTMAX   ? exp(l) / sum
               : u->a.kind == PERI_ROUTE_SIGMOID ? 1 / (1 + exp(-l))
                                                 : l;
        by[e] = p[e] + (u->has_bias ? (double)vector[1][e] : 0);
    }
    if (u->a.n_group > 1) mask_groups(u, by);
    for (int64_t e = 0; e < u->n_expert; e++) {
        int64_t at = rank_of(by, u->n_expert, e);
        if (at >= u->n_used) continue;
        double w = u->a.kind == PERI_ROUTE_SOFTMAX_CHOSEN ? exp(p[e]) : p[e];
        out[at] = k == 0 ? op_case_id((int32_t)e) : w;
        chosen += w;
    }
    int is_divided = u->a.renorm || u->a.kind == PERI_ROUTE_SOFTMAX_CHOSEN;
    for (int64_t i = 0; i < u->n_used && k == 1; i++)
        out[i] *= (double)u->a.weight_scale / (is_divided ? fmax(chosen, 0x1p-14) : 1);
}

static void route_chooses_the_best_experts_in_falling_order(void **state) {
    enum { ALL = PERI_ROUTE_SOFTMAX, SIG = PERI_ROUTE_SIGMOID, CHOSEN = PERI_ROUTE_SOFTMAX_CHOSEN };
    enum { SIZE = sizeof(peri_route_attr) };
    static const route cases[] = {
        {{SIZE, ALL, 0, 1, 1, 1}, 7, 2, 0, 0},    {{SIZE, ALL, 1, 0, 0, 2.5f}, 60, 8, 0, 0},
        {{SIZE, ALL, 1, 1, 1, 1}, 16, 4, 0, 1},   {{SIZE, SIG, 1, 1, 1, 1.5f}, 33, 6, 1, 0},
        {{SIZE, SIG, 0, 8, 3, 1}, 64, 8, 1, 0},   {{SIZE, SIG, 1, 8, 4, 2}, 64, 8, 0, 1},
        {{SIZE, ALL, 0, 4, 1, 1}, 4, 1, 0, 1},    {{SIZE, CHOSEN, 0, 1, 1, 1}, 32, 4, 1, 0},
        {{SIZE, CHOSEN, 0, 1, 1, 1}, 9, 9, 0, 1}, {{SIZE, ALL, 1, 4, 2, 1}, 12, 5, 1, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[40];
        snprintf(name, sizeof name, "ROUTE %zu", i);
        op_case c = {
            name,     N_TOK,     build_route, expect_route, {cases[i].n_used, cases[i].n_used},
            GATE_ULP, &cases[i], 1,           NULL};
        check_case(&c);
    }
}

static void route_names_different_experts_even_for_nan(void **state) {
    (void)state;
    float l[2 * 6] = {NAN, NAN, NAN, NAN, NAN, NAN, 1, NAN, INFINITY, -INFINITY, NAN, 0};
    peri_route_attr a = {.size = sizeof a, .n_group = 3, .n_group_used = 2, .weight_scale = 1};
    peri_error e = {0};
    peri_dev *d = open_cpu("reference", 1);
    prog *p = prog_new(d, 2);
    int32_t ids[8];
    p->code = PERI_OP_ROUTE;
    prog_in(p, rows_of(0, 6), l, 0);
    prog_in(p, rows_of(0, 6), NULL, 0);
    prog_out(p, PERI_CPU_I32, rows_of(0, 4), 0);
    prog_out(p, F32, rows_of(0, 4), 0);
    prog_attr(p, &a, sizeof a);
    assert_ok(prog_run(p, &e), e);
    prog_get(p, 0, ids);
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < 4; i++) {
            assert_in_range(ids[t * 4 + i], 0, 5);
            for (int k = 0; k < i; k++)
                assert_int_not_equal(ids[t * 4 + i], ids[t * 4 + k]);
        }
    prog_free(p);
    close_cpu(d);
}

/* ---- EXPERT_SUM, ROWS ---- */

enum { SUM_K = 5, SUM_N = 61 };

static void build_sum(prog *p, const void *user, int32_t t0) {
    (void)user;
    p->code = PERI_OP_EXPERT_SUM;
    prog_in(p, rows_of(SUM_K, SUM_N), input[0] + t0 * SUM_K * SUM_N, 2);
    prog_in(p, rows_of(0, SUM_K), input[1] + t0 * SUM_K, 1);
    prog_out(p, F32, rows_of(0, SUM_N), 3);
}

static void expect_sum(const void *user, int32_t t, uint32_t k, double *out) {
    (void)user, (void)k;
    for (int i = 0; i < SUM_N; i++)
        for (int e = 0; e < SUM_K; e++)
            out[i] +=
                (double)input[1][t * SUM_K + e] * (double)input[0][(t * SUM_K + e) * SUM_N + i];
}

static void expert_sum_weighs_the_experts_outputs(void **state) {
    (void)state;
    op_case c = {"EXPERT_SUM", N_TOK, build_sum, expect_sum, {SUM_N}, 0, NULL, 0, NULL};
    check_case(&c);
}

static void rows_picks_the_wanted_ones(void **state) {
    static const int32_t wanted[] = {0, 3, 4, 9, 10};
    float got[5 * 13];
    (void)state;
    peri_error e = {0};
    for (uint32_t workers = 1; workers <= 2; workers++) {
        peri_dev *d = open_cpu(NULL, workers);
        prog *p = prog_new(d, 11);
        p->n[PERI_SYM_R] = 5;
        p->code = PERI_OP_ROWS;
        prog_in(p, rows_of(0, 13), input[0], 3);
        prog_out(p, F32, DIMS(1, 1, -PERI_SYM_R, 13), 2);
        memcpy(p->out_row, wanted, sizeof wanted);
        assert_ok(prog_run(p, &e), e);
        prog_get(p, 0, got);
        for (int r = 0; r < 5; r++)
            assert_memory_equal(got + r * 13, input[0] + wanted[r] * 13, 13 * sizeof *got);
        p->out_row[4] = 11;
        assert_int_equal(prog_run(p, &e), PERI_E_RANGE);
        prog_free(p);
        close_cpu(d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_divides_each_row_by_its_size),
        cmocka_unit_test(add_norm_gives_the_sum_and_its_norm),
        cmocka_unit_test(rope_rotates_pairs_by_the_position),
        cmocka_unit_test(rope_takes_no_angles_of_another_base_position_or_factor),
        cmocka_unit_test(rope_is_the_same_bits_on_all_levels),
        cmocka_unit_test(act_and_glu_are_their_formulas),
        cmocka_unit_test(act_lets_nan_and_infinity_through),
        cmocka_unit_test(add_mul_and_scale_broadcast_one_row_or_number),
        cmocka_unit_test(route_chooses_the_best_experts_in_falling_order),
        cmocka_unit_test(route_names_different_experts_even_for_nan),
        cmocka_unit_test(expert_sum_weighs_the_experts_outputs),
        cmocka_unit_test(rows_picks_the_wanted_ones),
    };
    prog_fill(input[0], ROOM, 1, 2);
    prog_fill(input[1], ROOM, 2, 1);
    prog_fill(input[2], ROOM, 3, 30);
    prog_fill(vector[0], 12 * 80, 4, 1);
    for (int i = 0; i < 12 * 80; i++)
        vector[0][i] += 2; /* factors of angles: not near 0 */
    prog_fill(vector[1], 12 * 80, 5, 0.5f);
    return peri_run_tests(tests);
}
