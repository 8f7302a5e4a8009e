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

/* Rows; and vectors of a value that n_row rows hold at a time: at most half of the registers. */
enum { FEW_ROWS = 4 };
#if defined(PERI_AVX512)
#define FEW_VECS(n_row) ((n_row) <= 2 ? 8 : 4)
#elif PERI_SIMD
#define FEW_VECS(n_row) ((n_row) == 3 ? 1 : 4 / (n_row))
#else
#define FEW_VECS(n_row) 1
#endif

/* One head of keys and its rows. */
typedef struct few {
    const attn_chunk *c;
    int32_t g;           /* the head */
    const attn_row *row; /* [c->n_row] */
    float *s;            /* [c->n_row][ATTN_CHUNK] logits, then weights */
    float *o;            /* [c->n_row][c->dv rounded up to 16] sums of values */
    ahead *p;            /* what is asked for meanwhile */
} few;

/* ---- logits ---- */

/* Elements i .. i + n - 1 of 16 keys join the sums of n_row rows, a literal. */
SIMD_FN void few_add_keys(uint16_t dtype, const uint8_t *const key[16], const attn_row *row,
                          int32_t i, int32_t n, int n_row, v16 *sum) {
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
            sum[m] = add_products(has_pairs(dtype), q, r[k], sum[m]);
        }
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
    for (; i + 32 <= c->dk; i += 32)
#pragma GCC unroll 1
        for (int v = 0; v < n_vec; v++) {
            ahead_step(f->p, n_line);
            few_add_keys(dtype, key[v], row, i, KEY_STEP(dtype), n_row, sum[v]);
            if (KEY_STEP(dtype) < 32) few_add_keys(dtype, key[v], row, i + 16, 16, n_row, sum[v]);
        }
    for (int32_t n; i < c->dk; i += n) {
        n = c->dk - i < KEY_STEP(dtype) ? c->dk - i : KEY_STEP(dtype);
        for (int v = 0; v < n_vec; v++)
            few_add_keys(dtype, key[v], row, i, n, n_row, sum[v]);
    }
    for (int v = 0; v < n_vec; v++)
#pragma GCC unroll 4
        for (int m = 0; m < n_row; m++)
            v16_store(f->s + m * ATTN_CHUNK + j + v * 16, sum[v][m]);
}

/* Products with the keys of the block that begins with key j, a multiple of ATTN_SUB. */
SIMD_FN void few_score(uint16_t dtype, const few *f, int32_t j, int n_row) {
    const attn_chunk *c = f->c;
    int32_t end = j + ATTN_SUB < c->hi ? j + ATTN_SUB : c->hi;
    int n_line = lines_each(f->p, ATTN_SUB / 16 * (c->dk / 32));
    j = j > c->lo ? j : c->lo & ~15;
    for (; j < end; j += 32)
        few_score_keys(dtype, f, j, n_line, n_row, end - j > 16 ? 2 : 1);
}

/* ---- values ---- */

/* Keys lo .. hi - 1 of them. */
typedef struct few_keys {
    int32_t lo, hi;
} few_keys;

/* o += p_j V_j for elements i .. i + 16 n_vec - 1 (n of the last vector); n_row and n_vec
 * literals. */
SIMD_FN void few_add_values(uint16_t dtype, const few *f, few_keys r, int32_t i, int32_t n,
                            int n_row, int n_vec) {
    const attn_chunk *c = f->c;
    v16 sum[FEW_ROWS][8];
    int32_t stride = (c->dv + 15) & ~15;
#pragma GCC unroll 4
    for (int m = 0; m < n_row; m++)
#pragma GCC unroll 8
        for (int v = 0; v < n_vec; v++)
            sum[m][v] = v16_load(f->o + m * stride + i + v * 16);
    for (int32_t j = first_of_lane(dtype, r.lo); j < r.hi; j += per_lane(dtype)) {
        const uint8_t *x = value_at(c, f->g, j), *next = value_at(c, f->g, j + 1);
        v16 w[FEW_ROWS];
#pragma GCC unroll 4
        for (int m = 0; m < n_row; m++)
            w[m] = v16_set1(f->s[m * ATTN_CHUNK + lanes_of(dtype, j)]);
#pragma GCC unroll 8
        for (int v = 0; v < n_vec; v++) {
            v16 y = load_values(dtype, x, next, i + v * 16, n);
#pragma GCC unroll 4
            for (int m = 0; m < n_row; m++)
                sum[m][v] = add_products(has_pairs(dtype), w[m], y, sum[m][v]);
        }
    }
#pragma GCC unroll 4
    for (int m = 0; m < n_row; m++)
#pragma GCC unroll 8
        for (int v = 0; v < n_vec; v++)
            v16_store(f->o + m * stride + i + v * 16, sum[m][v]);
}

/* All elements. */
SIMD_FN void few_values(uint16_t dtype, const few *f, few_keys r, int n_row) {
    int32_t i = 0, dv = f->c->dv;
    for (; i + 16 * FEW_VECS(n_row) <= dv; i += 16 * FEW_VECS(n_row))
        few_add_values(dtype, f, r, i, 16, n_row, FEW_VECS(n_row));
    for (; i + 16 <= dv; i += 16)
        few_add_values(dtype, f, r, i, 16, n_row, 1);
    if (i < dv) few_add_values(dtype, f, r, i, dv - i, n_row, 1);
}

#endif
