/* SPDX-License-Identifier: MIT
 *
 * vec.c - row and elementwise functions over sixteen f32 lanes; compiled per instruction set, equal
 * bits on all (simd.h).  Sums are 16 partial sums over i mod 16, FMA chains with i rising, zeros
 * behind the row's end, then v16_sum. */
#include "simd.h"

#include "fast.h"

SIMD_FN v16 load_some(const float *p, int64_t n) {
    return n >= 16 ? v16_load(p) : v16_load_n(p, n);
}
SIMD_FN void store_some(float *p, v16 x, int64_t n) {
    if (n >= 16)
        v16_store(p, x);
    else
        v16_store_n(p, x, n);
}

static float sum_squares(const float *x, int64_t n) {
    v16 s = v16_zero();
    for (int64_t i = 0; i < n; i += 16) {
        v16 a = load_some(x + i, n - i);
        s = v16_fma(a, a, s);
    }
    return v16_sum(s);
}

static float sum(const float *x, int64_t n) {
    v16 s = v16_zero();
    for (int64_t i = 0; i < n; i += 16)
        s = v16_add(s, load_some(x + i, n - i));
    return v16_sum(s);
}

/* sum (x - mean)^2; lanes behind the end count x = mean. */
static float sum_deviations(const float *x, int64_t n, float mean) {
    v16 s = v16_zero(), m = v16_set1(mean);
    for (int64_t i = 0; i < n; i += 16) {
        v16 a;
        if (n - i >= 16)
            a = v16_load(x + i);
        else {
            float t[16];
            for (int k = 0; k < 16; k++)
                t[k] = i + k < n ? x[i + k] : mean;
            a = v16_load(t);
        }
        a = v16_sub(a, m);
        s = v16_fma(a, a, s);
    }
    return v16_sum(s);
}

static void norm(const peri_norm_attr *a, const float *x, const float *w, const float *b, float *y,
                 int64_t n) {
    float mean = 0.0f, factor;
    if (a->kind == PERI_NORM_LAYER) {
        mean = sum(x, n) / (float)n;
        factor = 1.0f / sqrtf(sum_deviations(x, n, mean) / (float)n + a->eps);
    } else if (a->kind == PERI_NORM_L2) {
        float length = sqrtf(sum_squares(x, n));
        factor = 1.0f / (length < a->eps ? a->eps : length);
    } else
        factor = 1.0f / sqrtf(sum_squares(x, n) / (float)n + a->eps);
    v16 f = v16_set1(factor), m = v16_set1(mean);
    for (int64_t i = 0; i < n; i += 16) {
        v16 v = load_some(x + i, n - i);
        if (a->kind == PERI_NORM_LAYER) v = v16_sub(v, m);
        v = v16_mul(v, f);
        if (w) v = v16_mul(v, load_some(w + i, n - i));
        if (b && a->kind == PERI_NORM_LAYER) v = v16_add(v, load_some(b + i, n - i));
        store_some(y + i, v, n - i);
    }
}

/* x / (1 + e^-y), y = hi + lo: for y < 0 as x e^y / (1 + e^y), where the power of two comes last,
 * so that results keep their digits down to the smallest. */
SIMD_FN v16 times_sigmoid(v16 x, v16 hi, v16 lo) {
    v16 z = v16_zero(), one = v16_set1(1.0f), power;
    lo = v16_select_lt(v16_abs(hi), v16_set1(200.0f), lo, z); /* not the NaN of an infinite y */
    lo = v16_select_lt(hi, z, lo, v16_sub(z, lo));
    v16 p = v16_exp_parts(v16_sub(z, v16_abs(hi)), lo, &power);
    v16 whole = v16_add(one, v16_mul(p, power));
    power = v16_select_lt(hi, v16_set1(-130.0f), z, power);
    v16 q = v16_div(v16_select_lt(hi, z, v16_mul(x, p), x), whole);
    return v16_mul(q, v16_select_lt(hi, z, power, one));
}

/* c x with its rounding error, c given in two parts. */
SIMD_FN v16 product(v16 x, float c, float c_lo, v16 *lo) {
    v16 h = v16_mul(x, v16_set1(c));
    *lo = v16_fma(x, v16_set1(c_lo), v16_fma(x, v16_set1(c), v16_sub(v16_zero(), h)));
    return h;
}

/* GELU of op.def is x / (1 + e^-y), y = 2 sqrt(2 / pi) (x + 0.044715 x^3), without the cancellation
 * of 1 + tanh.  e^y multiplies the error of y by y, hence the second part. */
SIMD_FN v16 gelu(v16 x) {
    const double c = 1.5957691216057307117, c3 = 0.071354816272615979;
    v16 x2 = v16_mul(x, x), x2_lo = v16_fma(x, x, v16_sub(v16_zero(), x2)), p_lo;
    v16 p = product(x2, (float)c3, (float)(c3 - (double)(float)c3), &p_lo);
    p_lo = v16_fma(x2_lo, v16_set1((float)c3), p_lo);
    v16 c_hi = v16_set1((float)c), s = v16_add(p, c_hi),
        back = v16_sub(s, p); /* Source: Knuth, two-sum */
    v16 s_lo = v16_add(v16_sub(p, v16_sub(s, back)), v16_sub(c_hi, back));
    s_lo = v16_add(s_lo, v16_add(p_lo, v16_set1((float)(c - (double)(float)c))));
    v16 y = v16_mul(x, s);
    return times_sigmoid(x, y, v16_fma(x, s_lo, v16_fma(x, s, v16_sub(v16_zero(), y))));
}

SIMD_FN v16 activate(uint32_t act, float param, v16 x) {
    v16 z = v16_zero(), lo;
    switch (act) {
    case PERI_ACT_SILU:
        return times_sigmoid(x, x, z);
    case PERI_ACT_GELU:
        return gelu(x);
    case PERI_ACT_GELU_QUICK: {
        v16 y = product(x, 1.702f, (float)(1.702 - (double)1.702f), &lo);
        return times_sigmoid(x, y, lo);
    }
    case PERI_ACT_RELU:
        return v16_max(z, x);
    case PERI_ACT_RELU2:
        x = v16_max(z, x);
        return v16_mul(x, x);
    case PERI_ACT_SIGMOID:
        return times_sigmoid(v16_set1(1.0f), x, z);
    case PERI_ACT_TANH:
        return v16_tanh(x);
    default: /* PERI_ACT_SOFTCAP */
        return v16_mul(v16_set1(param), v16_tanh(v16_div(x, v16_set1(param))));
    }
}

SIMD_FN void act_rows(uint32_t act, float param, const float *x, const float *up, float *y,
                      int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        v16 v = activate(act, param, load_some(x + i, n - i));
        if (up) v = v16_mul(v, load_some(up + i, n - i));
        store_some(y + i, v, n - i);
    }
}

static void act(uint32_t kind, float param, const float *x, const float *up, float *y, int64_t n) {
    if (kind == PERI_ACT_SILU)
        act_rows(PERI_ACT_SILU, param, x, up, y, n);
    else if (kind == PERI_ACT_GELU)
        act_rows(PERI_ACT_GELU, param, x, up, y, n);
    else
        act_rows(kind, param, x, up, y, n);
}

static void add(const float *a, const float *b, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += 16)
        store_some(y + i, v16_add(load_some(a + i, n - i), load_some(b + i, n - i)), n - i);
}

static void mul(const float *a, const float *b, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += 16)
        store_some(y + i, v16_mul(load_some(a + i, n - i), load_some(b + i, n - i)), n - i);
}

static void scale(const float *x, float s, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += 16)
        store_some(y + i, v16_mul(load_some(x + i, n - i), v16_set1(s)), n - i);
}

/* Pairs `next` elements apart, a literal: the compiler makes vector code of it (-O3). */
SIMD_FN void turn_pairs(float *restrict y0, float *restrict y1, int64_t n, int64_t next,
                        const float *restrict c, const float *restrict s) {
    for (int64_t i = 0; i < n; i++) {
        double x0 = (double)y0[i * next], x1 = (double)y1[i * next];
        y0[i * next] = (float)(x0 * (double)c[i] - x1 * (double)s[i]);
        y1[i * next] = (float)(x0 * (double)s[i] + x1 * (double)c[i]);
    }
}
static void turn(float *y, int64_t n, int64_t next, int64_t other, const float *c, const float *s) {
    if (next == 1)
        turn_pairs(y, y + other, n, 1, c, s);
    else
        turn_pairs(y, y + other, n, 2, c, s);
}

static void to_f16(const float *x, uint16_t *y, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        v16_store_f16(y + i, v16_load(x + i));
    for (; i < n; i++)
        y[i] = f32_to_f16(x[i]);
}

const vec_isa PERI_ISA_FN(vec) = {
    .norm = norm,
    .act = act,
    .add = add,
    .mul = mul,
    .scale = scale,
    .turn = turn,
    .to_f16 = to_f16,
    .to_q8_0 = PERI_ISA_FN(to_q8_0),
};
