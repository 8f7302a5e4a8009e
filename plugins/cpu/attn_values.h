/* SPDX-License-Identifier: MIT
 *
 * attn_values.h - sums of weighted values, for rows that share widened values.  Part of
 * attn_fast.c.
 *
 * Widened values lie in blocks of BLOCK elements, [dv / BLOCK][VALUE_LANES][BLOCK], the last block
 * as wide as what is left: a block of all lanes stays in the first cache (32 KB) while rows after
 * rows take it, and the sums of some rows and BLOCK elements stay in registers over all lanes. Then
 * they join the totals of earlier chunks at once.  Where rows of such a tile do not see the same
 * keys, their sums are kept in memory instead.
 *
 * Over pools of 16 bits a weight is 0 where the row does not see the key, which changes no sum, as
 * long as the value is finite; where one of them is not, rows take what they see one by one. */
#ifndef PERI_CPU_ATTN_VALUES_H
#define PERI_CPU_ATTN_VALUES_H

#include "attn_softmax.h"
#include "attn_widen.h"

/* Rows and vectors held in registers. */
#if defined(PERI_AVX512)
enum { VALUE_ROWS = 6, VALUE_VECS = 4 };
#elif PERI_HALVES
enum { VALUE_ROWS = 6, VALUE_VECS = 1 };
#elif PERI_SIMD
enum { VALUE_ROWS = 2, VALUE_VECS = 2 };
#else
enum { VALUE_ROWS = 1, VALUE_VECS = 1 };
#endif
enum { BLOCK = 64, VALUE_LANES = ATTN_VALUE_LANES };

/* Keys first .. end - 1, widened, of which some rows take all they see. */
typedef struct values {
    const attn_chunk *c;
    const float *p;
    int32_t first, end, dvp, g; /* g: the head */
    int is_first, is_last;      /* of the chunk's keys */
    int is_finite;              /* no infinity or NaN among them; known of 16 bits only */
} values;

/* Where the sums of a row and those behind it are kept; and, at the chunk's end, what they join. */
typedef struct value_sums {
    float *o, *total;       /* [rows][dvp]; total NULL: none */
    const float *old, *new; /* [rows] factors */
} value_sums;

/* n lanes of weights p, a row of `width` values x each, join the sums o of some rows. */
typedef struct weighted {
    const float *x, *p;
    value_sums to; /* total NULL: the sums stay in o */
    int32_t width, stride, n;
    int is_first; /* the sums begin with zero */
} weighted;

/* ---- widening ---- */

/* Where values are widened to: key `first` to lane 0 of p. */
typedef struct lanes {
    float *p;
    int32_t first;
} lanes;

/* 0 + 0 x for all values x, which is 0 where all are finite. */
SIMD_FN v16 widen_values_of(uint16_t dtype, const attn_chunk *c, int32_t g, span keys, lanes to,
                            ahead *p, int n_line) {
    int32_t dvp = pad16(c->dv), start = lanes_of(dtype, step_of(is_half(dtype), keys.lo)),
            first = lanes_of(dtype, to.first), n_chain = chains_of(is_half(dtype));
    v16 odd = v16_zero();
    for (int32_t l = start; l < (lanes_of(dtype, keys.hi) + n_chain - 1) / n_chain * n_chain; l++) {
        int32_t j = number_of_lane(dtype, l), lane = l - first;
        const uint8_t *v = value_at(c, g, j), *next = value_at(c, g, j + 2);
        ahead_step(p, n_line);
        for (int32_t b = 0; b < c->dv; b += BLOCK) {
            int32_t width = smaller(BLOCK, dvp - b), n = smaller(BLOCK, c->dv - b), i;
            float *out = to.p + b * VALUE_LANES + lane * width;
#pragma GCC unroll 4
            for (i = 0; i < n; i += 16) {
                v16 x = load_values(dtype, v, next, b + i, n - i);
                v16_store(out + i, x);
                if (is_half(dtype)) odd = add_products(1, x, v16_zero(), odd);
            }
        }
    }
    return odd;
}

/* Are the values of 16 bits all finite? */
static int widen_values(const attn_chunk *c, int32_t g, span keys, lanes to, ahead *p) {
    int n_line = lines_each(p, lanes_of(c->dtype, ATTN_SUB));
    v16 odd = v16_zero();
    if (c->dtype == PERI_CPU_F16)
        odd = widen_values_of(PERI_CPU_F16, c, g, keys, to, p, n_line);
    else if (c->dtype == PERI_CPU_F32)
        widen_values_of(PERI_CPU_F32, c, g, keys, to, p, n_line);
    else if (c->dtype == PERI_CPU_Q8_0)
        widen_values_of(PERI_CPU_Q8_0, c, g, keys, to, p, n_line);
    else if (c->dtype == PERI_CPU_Q4_0)
        widen_values_of(PERI_CPU_Q4_0, c, g, keys, to, p, n_line);
    else
        odd = widen_values_of(PERI_CPU_BF16, c, g, keys, to, p, n_line);
    return v16_sum(odd) == 0.0f;
}

/* ---- sums ---- */

/* Sums, or a chain of them. */
typedef struct sums {
    v16 of[8][4];
} sums;

/* A chain begins at 0, or goes on where there are no steps; at its end the first is kept and the
 * second joins c with it. */
SIMD_FN void start_chain(int is_half, int n_row, int n_vec, const sums *c, sums *chain) {
#pragma GCC unroll 8
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            chain->of[r][v] = is_half ? v16_zero() : c->of[r][v];
}
SIMD_FN void end_chain(int number, int n_row, int n_vec, const sums *chain, sums *even, sums *c) {
#pragma GCC unroll 8
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            if (number == 0)
                even->of[r][v] = chain->of[r][v];
            else
                c->of[r][v] = v16_add(c->of[r][v], v16_add(even->of[r][v], chain->of[r][v]));
}

/* n lanes join c. */
SIMD_FN void value_lanes(const weighted *u, int32_t n, int is_half, int n_row, int n_vec, sums *c) {
    sums chain, even;
#pragma GCC unroll 2
    for (int k = 0; k < chains_of(is_half); k++) {
        const float *x = u->x + k * u->width;
        start_chain(is_half, n_row, n_vec, c, &chain);
        for (int32_t j = k; j < n; j += chains_of(is_half), x += chains_of(is_half) * u->width) {
            v16 y[4];
#pragma GCC unroll 4
            for (int v = 0; v < n_vec; v++)
                y[v] = v16_load(x + v * 16);
#pragma GCC unroll 8
            for (int r = 0; r < n_row; r++) {
                v16 w = v16_set1(u->p[r * ATTN_CHUNK + j]);
#pragma GCC unroll 4
                for (int v = 0; v < n_vec; v++)
                    chain.of[r][v] = add_products(is_half, w, y[v], chain.of[r][v]);
            }
        }
        if (is_half)
            end_chain(k, n_row, n_vec, &chain, &even, c);
        else
            *c = chain;
    }
}

/* Elements i .. of n_row rows, n_vec times 16 of them, literals, as is_half. */
SIMD_FN void value_tile(const weighted *u, int32_t i, int is_half, int n_row, int n_vec) {
    sums c;
    weighted some = *u;
    int32_t stride = u->stride;
    some.x += i;
#pragma GCC unroll 8
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            c.of[r][v] = v16_zero();
    if (!u->is_first)
#pragma GCC unroll 8
        for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
            for (int v = 0; v < n_vec; v++)
                c.of[r][v] = v16_load(u->to.o + r * stride + i + v * 16);
    for (int32_t left = u->n, n; left > 0; left -= n, some.x += n * u->width, some.p += n) {
        n = is_half ? smaller(left, STEP_LANES) : left;
        value_lanes(&some, n, is_half, n_row, n_vec, &c);
    }
    float *o = u->to.total ? u->to.total + i : u->to.o + i;
    if (u->to.total)
#pragma GCC unroll 8
        for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
            for (int v = 0; v < n_vec; v++)
                c.of[r][v] = v16_fma(v16_load(o + r * stride + v * 16), v16_set1(u->to.old[r]),
                                     v16_mul(c.of[r][v], v16_set1(u->to.new[r])));
#pragma GCC unroll 8
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            v16_store(o + r * stride + v * 16, c.of[r][v]);
}

SIMD_FN void value_strip(const weighted *u, int is_half, int n_row) {
    int32_t i = 0;
    for (; i + VALUE_VECS * 16 <= u->width; i += VALUE_VECS * 16)
        value_tile(u, i, is_half, n_row, VALUE_VECS);
    for (; i < u->width; i += 16)
        value_tile(u, i, is_half, n_row, 1);
}

SIMD_FN void add_lanes_of(const weighted *u, int is_half, int n_row) {
    if (n_row == VALUE_ROWS)
        value_strip(u, is_half, VALUE_ROWS);
    else if (VALUE_ROWS > 4 && n_row == 4)
        value_strip(u, is_half, 4);
    else if (VALUE_ROWS > 2 && n_row == 2)
        value_strip(u, is_half, 2);
    else
        value_strip(u, is_half, 1);
}
static void add_lanes(const weighted *u, int is_half, int n_row) {
    if (is_half)
        add_lanes_of(u, 1, n_row);
    else
        add_lanes_of(u, 0, n_row);
}

/* Keys lo .. hi - 1, from the start of lo's step on, join the sums in to.o, for n_row rows of
 * weights s. */
static void add_values(const values *u, weighted to, const float *s, int32_t at, span keys,
                       int n_row) {
    uint16_t dtype = u->c->dtype;
    int n_chain = chains_of(is_half(dtype));
    int32_t lo = step_of(is_half(dtype), keys.lo);
    to.x = u->p + at * VALUE_LANES + lanes_of(dtype, lo - u->first) * to.width;
    to.p = s + lanes_of(dtype, lo);
    to.n =
        keys.lo < keys.hi ? (lanes_of(dtype, keys.hi - lo) + n_chain - 1) / n_chain * n_chain : 0;
    if (to.n > 0 || to.is_first) add_lanes(&to, is_half(dtype), n_row);
}

/* Do all rows see the same keys? */
static int is_even(bounds b) {
    return b.lo < b.hi && b.lo == b.all_lo && b.hi == b.all_hi;
}

/* ---- over pools of 16 bits ---- */

/* The weight of key j. */
static float weight_at(const float *s, int32_t j) {
    uint32_t bits;
    if (!PERI_BF16) return s[j];
    memcpy(&bits, &s[j / 4 * 2 + j % 2], sizeof bits);
    bits = j % 4 < 2 ? bits & 0xffff0000u : bits << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Nothing but what one row sees, its values as the pool has them. */
static void value_row_alone(const values *u, const attn_row *row, const float *s, float *o,
                            int32_t at) {
    const attn_chunk *c = u->c;
    int32_t first = larger(row->lo, u->first), end = smaller(row->hi, u->end);
    for (int32_t i = at; i < smaller(c->dv, at + BLOCK); i += 16, o += 16) {
        v16 all = u->is_first ? v16_zero() : v16_load(o);
        for (int32_t j = first; j < end;) {
            v16 sum[2] = {v16_zero(), v16_zero()};
            for (int32_t last = smaller(step_of(1, j) + STEP, end); j < last; j++)
                sum[j % 2] =
                    v16_fma(v16_set1(weight_at(s, j)),
                            load_pool(c->dtype, value_at(c, u->g, j), i, c->dv - i), sum[j % 2]);
            all = v16_add(all, v16_add(sum[0], sum[1]));
        }
        v16_store(o, all);
    }
}

/* The block of elements from `at` on, of n_row rows. */
static void value_rows_half(const values *u, const attn_row *row, int n_row, const float *s,
                            value_sums to, int32_t at, bounds b) {
    weighted w = {
        .to = to, .width = smaller(BLOCK, u->dvp - at), .stride = u->dvp, .is_first = u->is_first};
    if (!u->is_last || !u->is_finite || !is_even(b)) w.to.total = NULL;
    /* a row that sees nothing makes b begin before what is widened */
    span keys = {larger(b.lo, u->c->lo), smaller(b.hi, u->c->hi)};
    if (u->is_finite) add_values(u, w, s, at, keys, n_row);
    for (int r = 0; r < n_row; r++) {
        float *o = to.o + r * u->dvp;
        if (!u->is_finite) value_row_alone(u, row + r, s + r * ATTN_CHUNK, o, at);
        if (u->is_last && to.total && !w.to.total && row[r].lo < row[r].hi)
            join_values(to.total + r * u->dvp, to.old[r], o, to.new[r], w.width);
    }
}

/* ---- over the other pools ---- */

/* Rows that do not: together for what all see, one by one before and after it. */
static void value_rows_unlike(const values *u, const attn_row *row, int n_row, const float *s,
                              value_sums to, int32_t at, bounds b) {
    int32_t width = smaller(BLOCK, u->dvp - at), dvp = u->dvp;
    weighted w = {.to = {.o = to.o}, .width = width, .stride = dvp};
    int is_shared = b.all_lo < b.all_hi;
    int32_t first = is_shared ? b.all_lo : b.hi, last = is_shared ? b.all_hi : b.hi;
    for (int r = 0; r < n_row; r++, w.to.o += dvp) {
        span before = {larger(row[r].lo, u->first), smaller(row[r].hi, first)};
        if (u->is_first) memset(w.to.o, 0, (size_t)width * sizeof *w.to.o);
        add_values(u, w, s + r * ATTN_CHUNK, at, before, 1);
    }
    w.to.o = to.o;
    if (is_shared) add_values(u, w, s, at, (span){first, last}, n_row);
    for (int r = 0; r < n_row; r++, w.to.o += dvp) {
        span after = {last, smaller(row[r].hi, u->end)};
        if (is_shared) add_values(u, w, s + r * ATTN_CHUNK, at, after, 1);
        if (u->is_last && to.total && row[r].lo < row[r].hi)
            join_values(to.total + r * dvp, to.old[r], w.to.o, to.new[r], width);
    }
}

/* The block of elements from `at` on, of n_row <= VALUE_ROWS rows. */
static void value_rows(const values *u, const attn_row *row, int n_row, const float *s,
                       value_sums to, int32_t at) {
    bounds b = bounds_of(row, n_row, u->first, u->end);
    to.o += at;
    if (to.total) to.total += at;
    if (is_half(u->c->dtype)) {
        value_rows_half(u, row, n_row, s, to, at, b);
        return;
    }
    if (!is_even(b)) {
        value_rows_unlike(u, row, n_row, s, to, at, b);
        return;
    }
    if (!u->is_last) to.total = NULL;
    weighted w = {
        .to = to, .width = smaller(BLOCK, u->dvp - at), .stride = u->dvp, .is_first = u->is_first};
    add_values(u, w, s, at, (span){b.lo, b.hi}, n_row);
}

#endif
