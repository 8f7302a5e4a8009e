/* SPDX-License-Identifier: MIT
 *
 * attn_values.h - sums of weighted values, for rows that share widened values.  Part of
 * attn_fast.c.
 *
 * Widened values lie in blocks of BLOCK elements, [dv / BLOCK][VALUE_LANES][BLOCK], the last block
 * as wide as what is left: a block of all lanes stays in the first cache (32 KB) while rows after
 * rows take it, and the sums of some rows and BLOCK elements stay in registers over all lanes. Then
 * they join the totals of earlier chunks at once.  Where rows of such a tile do not see the same
 * keys, their sums are kept in memory instead. */
#ifndef PERI_CPU_ATTN_VALUES_H
#define PERI_CPU_ATTN_VALUES_H

#include "attn_softmax.h"
#include "attn_widen.h"

/* Rows and vectors held in registers. */
#if defined(PERI_AVX512)
enum { VALUE_ROWS = 6, VALUE_VECS = 4 };
#elif PERI_SIMD
enum { VALUE_ROWS = 2, VALUE_VECS = 2 };
#else
enum { VALUE_ROWS = 1, VALUE_VECS = 1 };
#endif
enum { BLOCK = 64, VALUE_LANES = ATTN_VALUE_LANES };

static int32_t smaller(int32_t a, int32_t b) {
    return a < b ? a : b;
}
static int32_t larger(int32_t a, int32_t b) {
    return a > b ? a : b;
}
static int32_t pad16(int32_t n) {
    return (n + 15) & ~15;
}

/* Keys first .. end - 1, widened, of which some rows take all they see. */
typedef struct values {
    const attn_chunk *c;
    const float *p;
    int32_t first, end, dvp;
    int is_first, is_last; /* of the chunk's keys */
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

SIMD_FN void widen_values_of(uint16_t dtype, const attn_chunk *c, int32_t g, span keys, lanes to,
                             ahead *p, int n_line) {
    int32_t dvp = pad16(c->dv);
    for (int32_t j = first_of_lane(dtype, keys.lo); j < keys.hi; j += per_lane(dtype)) {
        const uint8_t *v = value_at(c, g, j), *next = value_at(c, g, j + 1);
        int32_t lane = lanes_of(dtype, j - to.first);
        ahead_step(p, n_line);
        for (int32_t b = 0; b < c->dv; b += BLOCK) {
            int32_t width = smaller(BLOCK, dvp - b), n = smaller(BLOCK, c->dv - b), i;
            float *out = to.p + b * VALUE_LANES + lane * width;
#pragma GCC unroll 4
            for (i = 0; i + 16 <= n; i += 16)
                v16_store(out + i, load_values(dtype, v, next, b + i, 16));
            if (i < n) v16_store(out + i, load_values(dtype, v, next, b + i, n - i));
        }
    }
}

static void widen_values(const attn_chunk *c, int32_t g, span keys, lanes to, ahead *p) {
    int n_line = lines_each(p, lanes_of(c->dtype, ATTN_SUB));
    if (c->dtype == PERI_CPU_F16)
        widen_values_of(PERI_CPU_F16, c, g, keys, to, p, n_line);
    else if (c->dtype == PERI_CPU_F32)
        widen_values_of(PERI_CPU_F32, c, g, keys, to, p, n_line);
    else if (c->dtype == PERI_CPU_Q8_0)
        widen_values_of(PERI_CPU_Q8_0, c, g, keys, to, p, n_line);
    else if (c->dtype == PERI_CPU_Q4_0)
        widen_values_of(PERI_CPU_Q4_0, c, g, keys, to, p, n_line);
    else
        widen_values_of(PERI_CPU_BF16, c, g, keys, to, p, n_line);
}

/* ---- sums ---- */

/* Elements i .. of n_row rows, n_vec times 16 of them, literals, as is_paired. */
SIMD_FN void value_tile(const weighted *u, int32_t i, int is_paired, int n_row, int n_vec) {
    v16 c[8][4];
    const float *x = u->x + i, *p = u->p;
    int32_t n = u->n, stride = u->stride, width = u->width;
#pragma GCC unroll 8
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            c[r][v] = v16_zero();
    if (!u->is_first)
#pragma GCC unroll 8
        for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
            for (int v = 0; v < n_vec; v++)
                c[r][v] = v16_load(u->to.o + r * stride + i + v * 16);
    for (int32_t j = 0; j < n; j++, x += width) {
        v16 y[4];
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            y[v] = v16_load(x + v * 16);
#pragma GCC unroll 8
        for (int r = 0; r < n_row; r++) {
            v16 w = v16_set1(p[r * ATTN_CHUNK + j]);
#pragma GCC unroll 4
            for (int v = 0; v < n_vec; v++)
                c[r][v] = add_products(is_paired, w, y[v], c[r][v]);
        }
    }
    float *o = u->to.total ? u->to.total + i : u->to.o + i;
    if (u->to.total)
#pragma GCC unroll 8
        for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
            for (int v = 0; v < n_vec; v++)
                c[r][v] = v16_fma(v16_load(o + r * stride + v * 16), v16_set1(u->to.old[r]),
                                  v16_mul(c[r][v], v16_set1(u->to.new[r])));
#pragma GCC unroll 8
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            v16_store(o + r * stride + v * 16, c[r][v]);
}

SIMD_FN void value_strip(const weighted *u, int is_paired, int n_row) {
    int32_t i = 0;
    for (; i + VALUE_VECS * 16 <= u->width; i += VALUE_VECS * 16)
        value_tile(u, i, is_paired, n_row, VALUE_VECS);
    for (; i < u->width; i += 16)
        value_tile(u, i, is_paired, n_row, 1);
}

SIMD_FN void add_lanes_of(const weighted *u, int is_paired, int n_row) {
    if (n_row == VALUE_ROWS)
        value_strip(u, is_paired, VALUE_ROWS);
    else if (VALUE_ROWS > 4 && n_row == 4)
        value_strip(u, is_paired, 4);
    else if (VALUE_ROWS > 2 && n_row == 2)
        value_strip(u, is_paired, 2);
    else
        value_strip(u, is_paired, 1);
}
static void add_lanes(const weighted *u, int is_paired, int n_row) {
    if (PERI_BF16 && is_paired)
        add_lanes_of(u, 1, n_row);
    else
        add_lanes_of(u, 0, n_row);
}

/* Widened values of the lane of key j, elements from `at` on, a multiple of BLOCK. */
static const float *lane_of(const values *u, int32_t j, int32_t at, int32_t width) {
    return u->p + at * VALUE_LANES + lanes_of(u->c->dtype, j - u->first) * width;
}

#if PERI_BF16
/* The value of key j alone: the other half of its pair counts as zero. */
static void add_half(const float *pair, weighted to, const float *s, int32_t j, int n_row) {
    float x[BLOCK];
    v16 mask = as_v16(_mm512_set1_epi32(j % 2 ? 0xffff : (int)0xffff0000u));
    for (int32_t i = 0; i < to.width; i += 16)
        v16_store(x + i, _mm512_and_ps(v16_load(pair + i), mask));
    to.x = x;
    to.p = s + j / 2;
    to.n = 1;
    add_lanes(&to, 1, n_row);
}
#endif

/* Keys lo .. hi - 1 join the sums in to.o, for n_row rows of weights s. */
static void add_values(const values *u, weighted to, const float *s, int32_t at, span keys,
                       int n_row) {
    int32_t lo = keys.lo, hi = keys.hi;
    if (lo >= hi) return;
#if PERI_BF16
    if (is_half(u->c->dtype)) {
        if (lo % 2) {
            add_half(lane_of(u, lo - 1, at, to.width), to, s, lo, n_row);
            lo++;
        }
        to.x = lane_of(u, lo, at, to.width);
        to.p = s + lo / 2;
        to.n = (hi - lo) / 2;
        if (hi - lo > 1) add_lanes(&to, 1, n_row);
        if (hi % 2 && hi > lo) add_half(lane_of(u, hi - 1, at, to.width), to, s, hi - 1, n_row);
        return;
    }
#endif
    to.x = lane_of(u, lo, at, to.width);
    to.p = s + lo;
    to.n = hi - lo;
    add_lanes(&to, 0, n_row);
}

/* Bounds of what some of n rows see between lo and hi, and of what all of them see. */
typedef struct bounds {
    int32_t lo, hi, all_lo, all_hi;
} bounds;
static bounds bounds_of(const attn_row *row, int n, int32_t lo, int32_t hi) {
    bounds b = {hi, lo, lo, hi};
    for (int r = 0; r < n; r++) {
        b.lo = smaller(b.lo, row[r].lo);
        b.hi = larger(b.hi, row[r].hi);
        b.all_lo = larger(b.all_lo, row[r].lo);
        b.all_hi = smaller(b.all_hi, row[r].hi);
    }
    b.lo = larger(b.lo, lo);
    b.hi = smaller(b.hi, hi);
    return b;
}

/* Do all rows see the same keys, which fill their lanes? */
static int is_even(uint16_t dtype, bounds b) {
    return b.lo < b.hi && b.lo == b.all_lo && b.hi == b.all_hi &&
           (!has_pairs(dtype) || (b.lo % 2 == 0 && b.hi % 2 == 0));
}

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
    if (!is_even(u->c->dtype, b)) {
        value_rows_unlike(u, row, n_row, s, to, at, b);
        return;
    }
    if (!u->is_last) to.total = NULL;
    weighted w = {
        .to = to, .width = smaller(BLOCK, u->dvp - at), .stride = u->dvp, .is_first = u->is_first};
    add_values(u, w, s, at, (span){b.lo, b.hi}, n_row);
}

#endif
