/* SPDX-License-Identifier: MIT
 *
 * attn_softmax.h - products become weights, row by row, and parts of a row are merged.  Part of
 * attn_fast.c.
 *
 * All in powers of two: log2(e) enters the scale of the logits, so that a weight is 2^z with whole
 * and broken part of z at hand; m is the largest logit times log2(e).
 *
 * weight of key j:  p_j = 2^(c (s_j - max_j s_j)), c = scale log2(e);  l = sum_j p_j;  m = c max_j
 * s_j merging a part:   m' = max(m, mp), l' = fma(l, 2^(m - m'), lp 2^(mp - m')), o likewise */
#ifndef PERI_CPU_ATTN_SOFTMAX_H
#define PERI_CPU_ATTN_SOFTMAX_H

#include <float.h>

#include "attn_pairs.h"

#define LOG2_E 0x1.715476p+0f

/* 2^z for z <= 0, to 2 ulp.  Weights below 2^-125 are exactly 0; so masked ones are, and no weight
 * is denormal.  z = n + r, |r| <= 1/2; 2^r by the Taylor polynomial of degree 6. */
SIMD_FN v16 weight_of(v16 z) {
    v16 n = v16_rint(z), r = v16_sub(z, n);
    v16 p = v16_fma(v16_set1(0x1.430912p-13f), r, v16_set1(0x1.5d87fep-10f));
    p = v16_fma(p, r, v16_set1(0x1.3b2ab6p-7f));
    p = v16_fma(p, r, v16_set1(0x1.c6b08ep-5f));
    p = v16_fma(p, r, v16_set1(0x1.ebfbep-3f));
    p = v16_fma(p, r, v16_set1(0x1.62e43p-1f));
    p = v16_fma(p, r, v16_set1(1.0f));
    return v16_scale2_from(p, n, z, v16_set1(-125.0f));
}
/* n vectors of them, a literal, of weights that are rounded to bf16, for which degree 4 is enough:
 * 1 + r (...) with the least greatest relative error, 3e-6 beside the 2e-3 of rounding.  Step by
 * step for all vectors: one's steps wait for each other, some 50 cycles in all, which is more than
 * the processor looks ahead. */
SIMD_FN void half_weights_of(v16 *z, int n) {
    static const float of[] = {0x1.c9fc46p-5f, 0x1.ec0378p-3f, 0x1.62e12cp-1f, 1.0f};
    v16 whole[4], r[4], p[4];
#pragma GCC unroll 4
    for (int k = 0; k < n; k++)
        whole[k] = v16_rint(z[k]);
#pragma GCC unroll 4
    for (int k = 0; k < n; k++) {
        r[k] = v16_sub(z[k], whole[k]);
        p[k] = v16_set1(0x1.3a02ccp-7f);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
        for (int k = 0; k < n; k++)
            p[k] = v16_fma(p[k], r[k], v16_set1(of[i]));
#pragma GCC unroll 4
    for (int k = 0; k < n; k++)
        p[k] = round_bf16(p[k]);
#pragma GCC unroll 4
    for (int k = 0; k < n; k++)
        z[k] = v16_scale2_from(p[k], whole[k], z[k], v16_set1(WEIGHT_LEAST));
}

static const float lane_number[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* What a row sees, lo <= j < hi. */
typedef struct span {
    int32_t lo, hi;
} span;

/* x where the row sees key j + lane, -infinity elsewhere. */
SIMD_FN v16 visible(span see, int32_t j, v16 x) {
    if (j >= see.lo && j + 16 <= see.hi) return x;
    v16 none = v16_set1(-INFINITY), at = v16_add(v16_load(lane_number), v16_set1((float)j));
    x = v16_select_lt(at, v16_set1((float)see.lo), none, x);
    return v16_select_lt(at, v16_set1((float)see.hi), x, none);
}

/* Products become logits z. */
SIMD_FN void cap_and_slope(const attn_row *row, float scale, float cap, float *s) {
    for (int32_t j = row->lo & ~15; j < row->hi; j += 16) {
        v16 z = v16_mul(v16_load(s + j), v16_set1(scale));
        v16 at = v16_add(v16_load(lane_number), v16_set1((float)j));
        if (cap > 0) z = v16_mul(v16_set1(cap), v16_tanh(v16_div(z, v16_set1(cap))));
        if (row->slope != 0)
            z = v16_fma(v16_set1(row->slope), v16_sub(at, v16_set1(row->origin)), z);
        v16_store(s + j, z);
    }
}

/* The largest product; where logits are the products times a positive scale, it gives m. */
SIMD_FN float largest_of(span see, const float *s) {
    v16 top = v16_set1(-INFINITY), other = top;
    int32_t j = see.lo & ~31;
    for (; j < see.hi; j += 32) {
        v16 x = v16_load(s + j), y = v16_load(s + j + 16);
        if (j < see.lo || j + 32 > see.hi) {
            x = visible(see, j, x);
            y = visible(see, j + 16, y);
        }
        top = v16_max(top, x);
        other = v16_max(other, y);
    }
    return v16_top(v16_max(top, other));
}

#if PERI_PAIRS
/* Weights of a row as pairs, which take the first half of s; their sums by key mod 16. */
SIMD_FN v16 weigh_pairs(span see, v16 factor, v16 top, float *s) {
    v16 l = v16_zero(), p[4];
    for (int32_t j = see.lo & ~31, n; j < see.hi; j += n) {
        float *out = s + j / 2;
        int is_inside = j >= see.lo && j + 64 <= see.hi;
        n = is_inside ? 64 : 32;
        if (is_inside) {
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
                p[k] = v16_mul(v16_sub(v16_load(s + j + k * 16), top), factor);
            half_weights_of(p, 4);
            store_more_pairs(out + 16, p[2], p[3]);
        } else {
            p[0] = v16_mul(v16_sub(v16_load(s + j), top), factor);
            p[1] = v16_mul(v16_sub(v16_load(s + j + 16), top), factor);
            p[0] = visible(see, j, p[0]);
            p[1] = visible(see, j + 16, p[1]);
            half_weights_of(p, 2);
        }
        store_more_pairs(out, p[0], p[1]);
        l = v16_add(v16_add(l, p[0]), p[1]);
        if (is_inside) l = v16_add(v16_add(l, p[2]), p[3]);
    }
    return l;
}
#endif

/* Products s of one row become weights, as products with values take them: pairs in the first half
 * where lanes hold pairs.  Their sum is returned. */
SIMD_FN float weigh(int is_of_half, span see, float factor, float largest, float *s) {
    v16 l = v16_zero(), c = v16_set1(factor), top = v16_set1(largest);
#if PERI_PAIRS
    if (is_of_half) return v16_sum(weigh_pairs(see, c, top, s));
#endif
    int32_t end = is_of_half ? (see.hi + STEP - 1) & ~(STEP - 1) : see.hi;
    for (int32_t j = is_of_half ? see.lo & ~(STEP - 1) : see.lo & ~15; j < end; j += 16) {
        v16 z = visible(see, j, v16_mul(v16_sub(v16_load(s + j), top), c)), p = z;
        if (is_of_half)
            half_weights_of(&p, 1);
        else
            p = weight_of(z);
        v16_store(s + j, p);
        l = v16_add(l, p);
    }
    return v16_sum(l);
}

/* Weights over a pool of 16 bits: 0 for the other steps of those that some row sees. */
SIMD_FN void clear_unseen(span see, span all, float *s) {
    const int32_t per_lane = STEP / STEP_LANES, end = (all.hi + STEP - 1) & ~(STEP - 1);
    int32_t j = all.lo & ~(STEP - 1), from = see.lo & ~(STEP - 1),
            to = (see.hi + STEP - 1) & ~(STEP - 1);
    for (; j < end; j += STEP) {
        if (j >= from && j < to && see.lo < see.hi) continue;
        for (int32_t i = 0; i < STEP_LANES; i += 16)
            v16_store(s + j / per_lane + i, v16_zero());
    }
}

/* LOGITS: from one row to the next; rows of tiles lie in other sets of the cache. */
enum { SOFTMAX_ROWS = 8, LOGITS = ATTN_CHUNK + (PERI_TILES ? 16 : 0) };

/* n <= SOFTMAX_ROWS rows.  All maxima first: one row's waits, which are long, overlap the next's.
 */
SIMD_FN void softmax_of(int is_of_half, const attn_chunk *c, const attn_row *row, int32_t n,
                        float *s, float *m, float *l) {
    float factor[SOFTMAX_ROWS], top[SOFTMAX_ROWS];
    for (int32_t r = 0; r < n; r++) {
        int is_plain = !(c->cap > 0) && row[r].slope == 0 && c->scale > 0;
        if (!is_plain) cap_and_slope(&row[r], c->scale, c->cap, s + r * LOGITS);
        factor[r] = (is_plain ? c->scale : 1.0f) * LOG2_E;
        top[r] = largest_of((span){row[r].lo, row[r].hi}, s + r * LOGITS);
        m[r] = top[r] * factor[r];
    }
    for (int32_t r = 0; r < n; r++) {
        span see = {row[r].lo, row[r].hi};
        l[r] = weigh(is_of_half, see, factor[r], top[r], s + r * LOGITS);
        if (is_of_half) clear_unseen(see, (span){c->lo, c->hi}, s + r * LOGITS);
    }
}

/* n rows; one that sees no key has m -infinity and l 0. */
static void softmax_rows(const attn_chunk *c, const attn_row *row, int32_t n_row, float *s,
                         float *m, float *l) {
    for (int32_t r = 0, n; r < n_row; r += n) {
        n = n_row - r < SOFTMAX_ROWS ? n_row - r : SOFTMAX_ROWS;
        if (is_half(c->dtype))
            softmax_of(1, c, row + r, n, s + r * LOGITS, m + r, l + r);
        else
            softmax_of(0, c, row + r, n, s + r * LOGITS, m + r, l + r);
    }
}

/* ---- merging ---- */

/* Sixteen rows at a time, n of them there: m and l join those of `to`, and what the values of both
 * are to be multiplied with takes their place, that of `to` in m.  Keys whose logits are all
 * -infinity weigh nothing, like no keys: such rows are left as they are, and say -infinity. */
SIMD_FN void join_sixteen(float *to_m, float *to_l, float *m, float *l, int32_t n) {
    v16 old_m = v16_load_n(to_m, n), new_m = v16_load_n(m, n), old_l = v16_load_n(to_l, n);
    v16 top = v16_max(old_m, new_m), least = v16_set1(-FLT_MAX);
    v16 old = weight_of(v16_sub(old_m, top)), new = weight_of(v16_sub(new_m, top));
    v16 both = v16_fma(old_l, old, v16_mul(v16_load_n(l, n), new));
    v16_store_n(to_m, v16_select_lt(new_m, least, old_m, top), n);
    v16_store_n(to_l, v16_select_lt(new_m, least, old_l, both), n);
    v16_store_n(m, v16_select_lt(new_m, least, new_m, old), n);
    v16_store_n(l, new, n);
}
static void join_sums(const attn_part *to, float *m, float *l, int32_t n_row) {
    for (int32_t r = 0; r < n_row; r += 16)
        join_sixteen(to->m + r, to->l + r, m + r, l + r, n_row - r < 16 ? n_row - r : 16);
}

/* n elements, a multiple of 16. */
static void join_values(float *o, float old, const float *part, float new, int32_t n) {
    for (int32_t i = 0; i < n; i += 16)
        v16_store(o + i, v16_fma(v16_load(o + i), v16_set1(old),
                                 v16_mul(v16_load(part + i), v16_set1(new))));
}

#endif
