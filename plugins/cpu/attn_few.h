/* SPDX-License-Identifier: MIT
 *
 * attn_few.h - attention of at most FEW_ROWS query rows over the keys of one head: a token alone.
 * Part of attn_fast.c, and the same sums in the same order.
 *
 * With so few rows a widened key would be stored for one to four uses.  Here transposed keys and
 * widened values are used from the registers they are made in, and the sums of values stay in
 * registers over all keys of a block.  All rows see the same keys. */
#ifndef PERI_CPU_ATTN_FEW_H
#define PERI_CPU_ATTN_FEW_H

#include "attn_widen.h"

/* Rows; chains of a step that are summed at a time; and vectors of a value that n_row rows hold at
 * a time: at most half of the registers.  With halves one chain after the other, so that two rows
 * take a whole line of a value (64 bytes), which lies in the same set of the first cache as those
 * of other keys: with half a line and both chains, lines were fetched twice. */
enum { FEW_ROWS = 4, FEW_CHAINS = PERI_HALVES ? 1 : 2 };
#if defined(PERI_AVX512)
#define FEW_VECS(is_half, n_row) (((n_row) <= 2 ? 8 : 4) / chains_of(is_half))
#elif PERI_HALVES
#define FEW_VECS(is_half, n_row) ((n_row) > 2 ? 1 : 4 / (n_row))
#elif PERI_SIMD
#define FEW_VECS(is_half, n_row) ((n_row) > 2 || (is_half) ? 1 + ((n_row) == 1) : 4 / (n_row))
#else
#define FEW_VECS(is_half, n_row) 1
#endif

/* One head of keys and its rows. */
typedef struct few {
    const attn_chunk *c;
    int32_t g;           /* the head */
    const attn_row *row; /* [c->n_row] */
    float *s;            /* [c->n_row][ATTN_CHUNK] logits, then weights */
    float *o;            /* [c->n_row][c->dv rounded up to 16] sums of values */
    ahead *p; /* what is asked for while keys are at work; not where fetch has read them */
} few;

/* ---- logits ---- */

/* Elements i .. i + n - 1 of 16 keys join the chains of n_row rows, a literal. */
SIMD_FN void few_add_keys(uint16_t dtype, const uint8_t *const key[16], const attn_row *row,
                          int32_t i, int32_t n, int n_row, v16 sum[2][FEW_ROWS]) {
    v16 r[16];
#pragma GCC unroll 16
    for (int k = 0; k < 16; k++)
        r[k] = load_key(dtype, key[k], i, n);
    transpose(r);
#pragma GCC unroll 16
    for (int k = 0; k < lanes_of(dtype, n); k++)
#pragma GCC unroll 4
        for (int m = 0; m < n_row; m++) {
            v16 q = v16_set1(row[m].q[lanes_of(dtype, i) + k]);
            int chain = k % chains_of(is_half(dtype));
            sum[chain][m] = add_products(is_half(dtype), q, r[k], sum[chain][m]);
        }
}

#if PERI_HALVES
/* Elements i .. i + 7 of a key of blocks, i a multiple of 8. */
SIMD_FN __m256 load_key8(uint16_t dtype, const uint8_t *row, int32_t i) {
    const uint8_t *b = row + i / 32 * (dtype == PERI_CPU_Q8_0 ? 34 : 18);
    uint16_t half;
    memcpy(&half, b, sizeof half);
    __m256 d = _mm256_set1_ps(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half))));
    const uint8_t *at = b + 2 + (dtype == PERI_CPU_Q8_0 ? i % 32 : i % 16);
    __m128i x = _mm_loadl_epi64((const __m128i *)at);
    if (dtype == PERI_CPU_Q4_0) x = signed_nibbles(x, i % 32 / 16);
    return _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)));
}

/* STEP elements of eight such keys join sum[n_row][0]: 8 x 8 elements at a time are transposed in
 * registers, of which 16 keys would want twice as many as there are. */
SIMD_FN void few_add_blocks(uint16_t dtype, const uint8_t *const key[8], const attn_row *row,
                            int32_t i, int n_row, __m256 sum[FEW_ROWS][2]) {
#pragma GCC unroll 1
    for (int32_t end = i + STEP; i < end; i += 8) {
        __m256 r[8];
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++)
            r[k] = load_key8(dtype, key[k], i);
        transpose8(r);
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++)
#pragma GCC unroll 4
            for (int m = 0; m < n_row; m++)
                sum[m][0] = _mm256_fmadd_ps(_mm256_set1_ps(row[m].q[i + k]), r[k], sum[m][0]);
    }
}

/* Of eight rows of 16 words: r[e] becomes words e of their first halves, then of their second. */
SIMD_FN void transpose_words(__m256i r[8]) {
    __m256i t[8], u[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi16(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi16(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_unpacklo_epi32(t[i], t[i + 2]);
        u[i + 1] = _mm256_unpackhi_epi32(t[i], t[i + 2]);
        u[i + 2] = _mm256_unpacklo_epi32(t[i + 1], t[i + 3]);
        u[i + 3] = _mm256_unpackhi_epi32(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[2 * i] = _mm256_unpacklo_epi64(u[i], u[i + 4]);
        r[2 * i + 1] = _mm256_unpackhi_epi64(u[i], u[i + 4]);
    }
}

/* STEP elements of 8 n_vec keys of an F16 pool join c[n_row][n_vec]; literals.  Words are
 * transposed, 16 elements of a key at a time, before they are widened: half as many shuffles. */
SIMD_FN void few_add_words(const uint8_t *const *key, const attn_row *row, int32_t i, int n_row,
                           int n_vec, __m256 c[FEW_ROWS][2]) {
    const float *q[FEW_ROWS];
    __m256 sum[2][FEW_ROWS][2];
#define FEW_EACH_SUM                                                                               \
    _Pragma("GCC unroll 4") for (int m = 0; m < n_row; m++)                                        \
        _Pragma("GCC unroll 2") for (int v = 0; v < n_vec; v++)
    FEW_EACH_SUM {
        q[m] = row[m].q;
        sum[0][m][v] = sum[1][m][v] = _mm256_setzero_ps();
    }
#pragma GCC unroll 1
    for (int32_t end = i + STEP; i < end; i += 16) {
        _Alignas(32) uint16_t t[2][8][16];
#pragma GCC unroll 1
        for (int v = 0; v < n_vec; v++) {
            __m256i r[8];
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++)
                r[k] = round_f16(_mm256_loadu_si256((const __m256i *)(key[8 * v + k] + 2 * i)));
            transpose_words(r);
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++)
                _mm256_store_si256((__m256i *)t[v][k], r[k]);
        }
        /* Else the compiler keeps them in registers, of which there are too few. */
        __asm__("" : "+m"(t));
#pragma GCC unroll 16
        for (int e = 0; e < 16; e++) {
            __m256 x[2];
#pragma GCC unroll 2
            for (int v = 0; v < n_vec; v++)
                x[v] = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(t[v][e % 8] + e / 8 * 8)));
            FEW_EACH_SUM sum[e % 2][m][v] =
                _mm256_fmadd_ps(_mm256_set1_ps(q[m][i + e]), x[v], sum[e % 2][m][v]);
        }
    }
    FEW_EACH_SUM c[m][v] = _mm256_add_ps(c[m][v], _mm256_add_ps(sum[0][m][v], sum[1][m][v]));
#undef FEW_EACH_SUM
}

/* STEP elements of sixteen keys. */
SIMD_FN void few_add_whole(uint16_t dtype, const uint8_t *const key[16], const attn_row *row,
                           int32_t i, int n_row, v16 *c) {
    const int n_vec = dtype == PERI_CPU_F16 && n_row <= 2 ? 2 : 1;
#pragma GCC unroll 2
    for (int v = 0; v < 2; v += n_vec) {
        __m256 half[FEW_ROWS][2];
#pragma GCC unroll 4
        for (int m = 0; m < n_row; m++) {
            half[m][0] = v == 0 ? c[m].a : c[m].b;
            half[m][1] = c[m].b;
        }
        if (dtype == PERI_CPU_F16)
            few_add_words(key + 8 * v, row, i, n_row, n_vec, half);
        else
            few_add_blocks(dtype, key + 8 * v, row, i, n_row, half);
#pragma GCC unroll 4
        for (int m = 0; m < n_row; m++) {
            if (v == 0) c[m].a = half[m][0];
            if (v + n_vec == 2) c[m].b = half[m][n_vec - 1];
        }
    }
}
#else
#define few_add_whole(dtype, key, row, i, n_row, c) few_add_step(dtype, key, row, i, STEP, n_row, c)
#endif

/* n <= STEP of them join the sums. */
SIMD_FN void few_add_step(uint16_t dtype, const uint8_t *const key[16], const attn_row *row,
                          int32_t i, int32_t n, int n_row, v16 *c) {
    v16 sum[2][FEW_ROWS];
    int32_t first = n < KEY_STEP(dtype) ? n : KEY_STEP(dtype);
#pragma GCC unroll 4
    for (int m = 0; m < n_row; m++) {
        sum[0][m] = is_half(dtype) ? v16_zero() : c[m];
        sum[1][m] = v16_zero();
    }
    few_add_keys(dtype, key, row, i, first, n_row, sum);
    if (n > first) few_add_keys(dtype, key, row, i + first, n - first, n_row, sum);
#pragma GCC unroll 4
    for (int m = 0; m < n_row; m++)
        c[m] = is_half(dtype) ? v16_add(c[m], v16_add(sum[0][m], sum[1][m])) : sum[0][m];
}

/* Addresses of keys j .. j + 15 of head g; other keys than the chunk's are not read: a neighbour
 * stands for them. */
static void few_find(const attn_chunk *c, int32_t g, int32_t j, const uint8_t *key[16]) {
    for (int32_t k = 0; k < 16; k++) {
        int32_t at = j + k < c->lo ? c->lo : j + k >= c->hi ? c->hi - 1 : j + k;
        key[k] = c->k[at] + (size_t)g * c->k_bytes;
    }
}

/* Products of row[n_row], a literal, with n_vec <= 2 times 16 keys from key j on, to s.  Two
 * vectors of keys take turns, so that the sums of one, which wait for each other, run beside the
 * transposing of the other; n_vec is no literal, lest the compiler keeps the queries of both on the
 * stack. */
SIMD_FN void few_score_keys(uint16_t dtype, const few *f, int32_t j, int n_line, int n_row,
                            int n_vec) {
    const attn_chunk *c = f->c;
    const attn_row *row = f->row;
    const uint8_t *key[2][16];
    v16 sum[2][FEW_ROWS];
    int32_t i = 0;
    for (int v = 0; v < n_vec; v++) {
        few_find(c, f->g, j + v * 16, key[v]);
#pragma GCC unroll 4
        for (int m = 0; m < n_row; m++)
            sum[v][m] = v16_zero();
    }
    for (; i + STEP <= c->dk; i += STEP)
#pragma GCC unroll 1
        for (int v = 0; v < n_vec; v++) {
            ahead_step(f->p, n_line);
            few_add_whole(dtype, key[v], row, i, n_row, sum[v]);
        }
    for (int v = 0; i < c->dk && v < n_vec; v++)
        few_add_step(dtype, key[v], row, i, c->dk - i, n_row, sum[v]);
    for (int v = 0; v < n_vec; v++)
#pragma GCC unroll 4
        for (int m = 0; m < n_row; m++)
            v16_store(f->s + m * ATTN_CHUNK + j + v * 16, sum[v][m]);
}

/* Products with the keys of the block that begins with key j, a multiple of ATTN_SUB. */
SIMD_FN void few_score(uint16_t dtype, const few *f, int32_t j, int n_row) {
    const attn_chunk *c = f->c;
    int32_t end = j + ATTN_SUB < c->hi ? j + ATTN_SUB : c->hi;
    int n_line = PERI_HALVES ? 0 : lines_each(f->p, ATTN_SUB / 16 * (c->dk / 32));
    j = j > c->lo ? j : c->lo & ~15;
    for (; j < end; j += 32)
        few_score_keys(dtype, f, j, n_line, n_row, end - j > 16 ? 2 : 1);
}

/* ---- values ---- */

/* Keys lo .. hi - 1 of them. */
typedef struct few_keys {
    int32_t lo, hi;
} few_keys;

/* Elements of values: from i on, n of the last vector. */
typedef struct few_elements {
    int32_t i, n;
} few_elements;

/* n_vec vectors of a lane join sum; n_row and n_vec literals. */
SIMD_FN void few_add_lane(uint16_t dtype, const few *f, int32_t lane, few_elements e, int n_row,
                          int n_vec, v16 sum[FEW_ROWS][8]) {
    const uint8_t *x = value_at(f->c, f->g, number_of_lane(dtype, lane));
    const uint8_t *next = value_at(f->c, f->g, number_of_lane(dtype, lane) + 2);
    v16 w[FEW_ROWS];
#pragma GCC unroll 4
    for (int m = 0; m < n_row; m++)
        w[m] = v16_set1(f->s[m * ATTN_CHUNK + lane]);
#pragma GCC unroll 8
    for (int v = 0; v < n_vec; v++) {
        v16 y = load_values(dtype, x, next, e.i + v * 16, e.n);
#pragma GCC unroll 4
        for (int m = 0; m < n_row; m++)
            sum[m][v] = add_products(is_half(dtype), w[m], y, sum[m][v]);
    }
}

/* o += p_j V_j for elements i .. i + 16 n_vec - 1 (n of the last vector); n_row and n_vec
 * literals. */
SIMD_FN void few_add_values(uint16_t dtype, const few *f, few_keys r, few_elements e, int n_row,
                            int n_vec) {
    v16 c[FEW_ROWS][8], sum[2][FEW_ROWS][8];
    int32_t stride = pad16(f->c->dv), n_chain = chains_of(is_half(dtype));
#define FEW_SUMS                                                                                   \
    _Pragma("GCC unroll 4") for (int m = 0; m < n_row; m++)                                        \
        _Pragma("GCC unroll 8") for (int v = 0; v < n_vec; v++)
    FEW_SUMS c[m][v] = v16_load(f->o + m * stride + e.i + v * 16);
    for (int32_t j = step_of(is_half(dtype), r.lo), end; j < r.hi; j = end) {
        end = is_half(dtype) && j + STEP < r.hi ? j + STEP : r.hi;
        FEW_SUMS {
            sum[0][m][v] = is_half(dtype) ? v16_zero() : c[m][v];
            sum[1][m][v] = v16_zero();
        }
#pragma GCC unroll 2
        for (int first = 0; first < n_chain; first += FEW_CHAINS)
            for (int32_t l = lanes_of(dtype, j) + first; l < lanes_of(dtype, end); l += n_chain) {
                few_add_lane(dtype, f, l, e, n_row, n_vec, sum[first]);
                if (n_chain == 2 && FEW_CHAINS == 2)
                    few_add_lane(dtype, f, l + 1, e, n_row, n_vec, sum[1]);
            }
        FEW_SUMS c[m][v] =
            is_half(dtype) ? v16_add(c[m][v], v16_add(sum[0][m][v], sum[1][m][v])) : sum[0][m][v];
    }
    FEW_SUMS v16_store(f->o + m * stride + e.i + v * 16, c[m][v]);
#undef FEW_SUMS
}

/* All elements. */
SIMD_FN void few_values(uint16_t dtype, const few *f, few_keys r, int n_row) {
    int32_t i = 0, dv = f->c->dv;
    const int n_vec = FEW_VECS(is_half(dtype), n_row);
    for (; i + 16 * n_vec <= dv; i += 16 * n_vec)
        few_add_values(dtype, f, r, (few_elements){i, 16}, n_row, n_vec);
    for (; i + 16 <= dv; i += 16)
        few_add_values(dtype, f, r, (few_elements){i, 16}, n_row, 1);
    if (i < dv) few_add_values(dtype, f, r, (few_elements){i, dv - i}, n_row, 1);
}

#endif
