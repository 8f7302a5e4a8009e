/* SPDX-License-Identifier: MIT
 *
 * attn_pairs.h - products of attention over pools of 16 bits.  Part of attn_fast.c.
 *
 * With F16 and BF16 pools all factors are bf16.  Queries and weights are rounded to nearest, ties
 * to even, but for one in 65,536 (round_bf16); numbers of an F16 pool to seven bits of fraction,
 * ties away from zero, in F16's own range (from 65408 on they are infinite), which costs two
 * instructions of sixteen lanes each where keys are read once.
 *
 * A product of two bf16 is exact in f32.  Sums go in steps of 32 products, counted from the first
 * element of a head or the first key of a chunk, c = c + (E + O): E is an FMA chain from +0 over
 * the step's even numbers, rising, O over the odd ones.  That is what TDPBF16PS makes of a row of a
 * tile (attn_amx.c).  Where VDPBF16PS takes two products at once (PERI_BF16) a lane holds numbers
 * 4 i + h, in its upper half, which the instruction adds first, and 4 i + h + 2: lanes with h = 0
 * and h = 1 take turns, and belong to E and O.  Without it a lane is a number, and the same is true
 * of even and odd lanes.  No sum is -0, so products with 0 change none.
 * Both instructions take denormal numbers for 0, so there are none: factors below TINY are 0 (F16
 * has none but 0), hence all are multiples of 2^-57, sums multiples of 2^-114, and the least normal
 * f32 is 2^-126.
 *
 * Lanes of pairs are carried in v16 and in float arrays as bits.  Pairs for tiles (PERI_TILES) are
 * neighbours, the first in the lower half: words as they lie in memory. */
#ifndef PERI_CPU_ATTN_PAIRS_H
#define PERI_CPU_ATTN_PAIRS_H

#if !defined(PERI_TILES)
#define PERI_TILES 0
#endif

#include "fast.h"
#include "simd.h"

#define TINY 0x1p-50f
/* Queries beyond it count as this; the least that a weight may be is 2 to the second. */
#define QUERY_MAX    0x1p100f
#define WEIGHT_LEAST (-49.5f)

/* Is the pool's type of 16 bits? */
static inline int is_half(uint16_t dtype) {
    return dtype == PERI_CPU_F16 || dtype == PERI_CPU_BF16;
}
/* Are there two numbers in a lane? */
static inline int has_pairs(uint16_t dtype) {
    return PERI_BF16 && is_half(dtype);
}
/* Are weights left as pairs? */
#define PERI_PAIRS (PERI_BF16 || PERI_TILES)
/* Lanes of a step, and chains of a sum. */
enum { STEP = 32, STEP_LANES = PERI_PAIRS ? STEP / 2 : STEP };
static inline int chains_of(int is_half) {
    return is_half ? 2 : 1;
}

/* To the nearest bf16: x + 2^16 x has x's last eight bits at its end, and lower bits are rounded
 * off.  |x| < 2^111.  Where x + 2^16 x carries into another bit, which x less than 2^-16 of itself
 * below a power of two do, 128 of 2^23 numbers become the neighbour below that power: instructions
 * that round are not the same. */
SIMD_FN v16 round_bf16(v16 x) {
    return v16_fnma(x, v16_set1(0x1p16f), v16_mul(x, v16_set1(0x1.0001p16f)));
}
SIMD_FN v16 flush_tiny(v16 x) {
    return v16_select_lt(v16_abs(x), v16_set1(TINY), v16_zero(), x);
}
SIMD_FN v16 clamp_to(v16 x, float most) {
    return v16_max(v16_set1(-most), v16_min(v16_set1(most), x));
}
/* Sixteen of an F16 pool.  A NaN stays one but for those from 0x7ffc on, whose sum with 4 is -0. */
#if defined(__AVX2__)
SIMD_FN __m256i round_f16(__m256i h) {
    return _mm256_and_si256(_mm256_adds_epu16(h, _mm256_set1_epi16(4)), _mm256_set1_epi16(-8));
}
SIMD_FN v16 half_f16(const uint16_t *p) {
    __m256i h = round_f16(_mm256_loadu_si256((const __m256i *)p));
#if defined(PERI_AVX512)
    return _mm512_cvtph_ps(h);
#else
    return (v16){_mm256_cvtph_ps(_mm256_castsi256_si128(h)),
                 _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1))};
#endif
}
#else
SIMD_FN v16 half_f16(const uint16_t *p) {
    uint16_t h[16];
    for (int k = 0; k < 16; k++)
        h[k] = (uint16_t)((p[k] > 0xfffb ? 0xffff : p[k] + 4) & 0xfff8);
    return v16_load_f16(h);
}
#endif
SIMD_FN v16 half_query(v16 x) {
    return round_bf16(flush_tiny(clamp_to(x, QUERY_MAX)));
}

#if PERI_BF16
typedef __m512i pairs;
SIMD_FN v16 as_v16(pairs x) {
    return _mm512_castsi512_ps(x);
}
/* sum + a b for the upper, then for the lower halves. */
SIMD_FN v16 add_products(int is_half, v16 a, v16 b, v16 sum) {
    if (!is_half) return v16_fma(a, b, sum);
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(a),
                            (__m512bh)_mm512_castps_si512(b));
}

/* Words one after the other become pairs. */
#define PAIR_BYTES 0x0b0a0f0e, 0x09080d0c, 0x03020706, 0x01000504
SIMD_FN pairs pairs_of_words(pairs x) {
    return _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(_mm_set_epi32(PAIR_BYTES)));
}
SIMD_FN pairs flush_tiny_bf16(pairs x) {
    pairs size = _mm512_and_si512(x, _mm512_set1_epi16(0x7fff));
    return _mm512_maskz_mov_epi16(_mm512_cmpge_epu16_mask(size, _mm512_set1_epi16((127 - 50) << 7)),
                                  x);
}
SIMD_FN pairs round_f16_pairs(pairs h) {
    return _mm512_and_si512(_mm512_adds_epu16(h, _mm512_set1_epi16(4)), _mm512_set1_epi16(-8));
}

/* Words of lanes of two vectors, by number: 2 i + 1 is the upper half of lane i of the first, 33 +
 * 2 i of the second. */
#define UPPER(a, b) (int)((uint32_t)(b) << 16 | (uint32_t)(a))
/* Thirty-two bf16 in f32, one after the other in two vectors. */
SIMD_FN v16 join_vectors(v16 low, v16 high) {
    const pairs at = _mm512_setr_epi32(UPPER(5, 1), UPPER(7, 3), UPPER(13, 9), UPPER(15, 11),
                                       UPPER(21, 17), UPPER(23, 19), UPPER(29, 25), UPPER(31, 27),
                                       UPPER(37, 33), UPPER(39, 35), UPPER(45, 41), UPPER(47, 43),
                                       UPPER(53, 49), UPPER(55, 51), UPPER(61, 57), UPPER(63, 59));
    return as_v16(
        _mm512_permutex2var_epi16(_mm512_castps_si512(low), at, _mm512_castps_si512(high)));
}
/* Sixteen bf16 in f32 of `upper` in the upper halves, of `lower` in the lower. */
SIMD_FN v16 join_halves(v16 upper, v16 lower) {
    return as_v16(_mm512_or_si512(_mm512_castps_si512(upper),
                                  _mm512_srli_epi32(_mm512_castps_si512(lower), 16)));
}

/* Elements i .. i + 31 of a row as sixteen pairs; n < 32 of them are there. */
SIMD_FN v16 pairs_of_row(uint16_t dtype, const uint8_t *row, int32_t i, int32_t n) {
    uint16_t t[32] = {0};
    const uint16_t *p = (const uint16_t *)row + i;
    if (n < 32) {
        memcpy(t, p, (size_t)n * 2);
        p = t;
    }
    pairs x = _mm512_loadu_si512(p);
    if (dtype == PERI_CPU_BF16) return as_v16(pairs_of_words(flush_tiny_bf16(x)));
    x = round_f16_pairs(x);
    return join_vectors(_mm512_cvtph_ps(_mm512_castsi512_si256(x)),
                        _mm512_cvtph_ps(_mm512_extracti64x4_epi64(x, 1)));
}

/* Elements i .. i + 15, of which n are there, of two rows. */
SIMD_FN v16 pairs_of_rows(uint16_t dtype, const uint8_t *upper, const uint8_t *lower, int32_t i,
                          int32_t n) {
    uint16_t a[16] = {0}, b[16] = {0};
    const uint16_t *p = (const uint16_t *)upper + i, *q = (const uint16_t *)lower + i;
    if (n < 16) {
        memcpy(a, p, (size_t)n * 2);
        memcpy(b, q, (size_t)n * 2);
        p = a;
        q = b;
    }
    if (dtype == PERI_CPU_F16) return join_halves(half_f16(p), half_f16(q));
    return as_v16(
        flush_tiny_bf16(_mm512_castps_si512(join_halves(v16_load_bf16(p), v16_load_bf16(q)))));
}

/* Thirty-two f32, sixteen in each of p and q, rounded, as sixteen pairs. */
SIMD_FN void store_more_pairs(float *out, v16 p, v16 q) {
    _mm512_storeu_si512(out, pairs_of_words((pairs)_mm512_cvtne2ps_pbh(q, p)));
}
/* Sixteen bf16 in f32 as eight pairs. */
SIMD_FN void store_pairs(float *p, v16 x) {
    const __m256i at = _mm256_broadcastsi128_si256(_mm_set_epi32(PAIR_BYTES));
    _mm256_storeu_si256((__m256i *)p, _mm256_shuffle_epi8((__m256i)_mm512_cvtneps_pbh(x), at));
}
#else
SIMD_FN v16 add_products(int is_half, v16 a, v16 b, v16 sum) {
    (void)is_half;
    return v16_fma(a, b, sum);
}
#endif

#if PERI_TILES
/* Thirty-two bf16 in f32, one after the other in two vectors, as words. */
SIMD_FN __m512i words_of(v16 low, v16 high) {
    static const uint16_t upper[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                       23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                       45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    return _mm512_permutex2var_epi16(_mm512_castps_si512(low), _mm512_loadu_si512(upper),
                                     _mm512_castps_si512(high));
}
SIMD_FN void store_more_pairs(float *out, v16 p, v16 q) {
    _mm512_storeu_si512(out, words_of(p, q));
}
#endif

#endif
