/* SPDX-License-Identifier: MIT
 *
 * linear_float.c - products of F32, F16 and BF16 weights with f32 activations; compiled per
 * instruction set.
 *
 * Each output element: 16 sums over k mod 16, each a chain of FMAs with k rising, the last columns
 * padded with zeros, then the tree of v16_sum.  The tile sizes below change speed only.  For
 * several tokens, 16-bit weights are widened to scratch first. */
#include "simd.h"

#include "fast.h"

#if defined(PERI_AVX512)
enum { TILE_ROWS = 4, TILE_TOKENS = 4 };
#elif PERI_SIMD
enum { TILE_ROWS = 4, TILE_TOKENS = 1 };
#else
enum { TILE_ROWS = 1, TILE_TOKENS = 1 };
#endif
enum {
    WIDEN_TOKENS = 4,
    TOKEN_BLOCK = 32,
    AHEAD = 8192, /* bytes */
};

/* 16 weights from column k; n < 16 of them at the row's end. */
SIMD_FN v16 load_weights(uint16_t dtype, const uint8_t *row, int64_t k, int64_t n) {
    if (dtype == PERI_CPU_F32) {
        float t[16] = {0};
        if (n >= 16) return v16_load((const float *)row + k);
        memcpy(t, (const float *)row + k, (size_t)n * 4);
        return v16_load(t);
    }
    uint16_t t[16] = {0};
    const uint16_t *p = (const uint16_t *)row + k;
    if (n < 16) {
        memcpy(t, p, (size_t)n * 2);
        p = t;
    }
    return dtype == PERI_CPU_F16 ? v16_load_f16(p) : v16_load_bf16(p);
}

/* Rows of n elements. */
typedef struct rows {
    const uint8_t *p;
    size_t stride;
    int64_t n;
} rows;
SIMD_FN rows rows_from(rows r, int64_t first) {
    r.p += (size_t)first * r.stride;
    return r;
}

/* n_row rows of w times n_tok of x, both literals; so is the type. */
SIMD_FN void tile(uint16_t dtype, rows w, rows x, int n_row, int n_tok, float *acc) {
    int64_t n = w.n, size = dtype == PERI_CPU_F32 ? 4 : 2;
    v16 c[TILE_ROWS][TILE_TOKENS];
#pragma GCC unroll 4
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int t = 0; t < n_tok; t++)
            c[r][t] = v16_zero();
    int64_t k = 0;
    for (; k + 16 <= n; k += 16) {
        v16 b[TILE_TOKENS];
        if (n_row == 1 && k * size % 64 == 0)
            __builtin_prefetch((const void *)((uintptr_t)w.p + (size_t)(k * size) + AHEAD));
#pragma GCC unroll 4
        for (int t = 0; t < n_tok; t++)
            b[t] = v16_load((const float *)(x.p + (size_t)t * x.stride) + k);
#pragma GCC unroll 4
        for (int r = 0; r < n_row; r++) {
            v16 a = load_weights(dtype, w.p + (size_t)r * w.stride, k, 16);
#pragma GCC unroll 4
            for (int t = 0; t < n_tok; t++)
                c[r][t] = v16_fma(a, b[t], c[r][t]);
        }
    }
    for (int r = 0; r < n_row && k < n; r++) {
        v16 a = load_weights(dtype, w.p + (size_t)r * w.stride, k, n - k);
        for (int t = 0; t < n_tok; t++)
            c[r][t] = v16_fma(a, v16_load_n((const float *)(x.p + (size_t)t * x.stride) + k, n - k),
                              c[r][t]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int t = 0; t < n_tok; t++)
            acc[t * LINEAR_ROWS + r] = v16_sum(c[r][t]);
}

/* One token, a row at a time: one stream, the order in which memory is fastest, and a processor
 * that looks far ahead has the next row's chain under way meanwhile.  Zen 5, BF16, two threads,
 * read at 60 GB/s by a plain loop: four rows at once 34 GB/s, with AHEAD 51, one row 50, with
 * AHEAD 70. */
SIMD_FN void one_token(uint16_t dtype, rows w, int32_t n_row, rows x, float *acc) {
    for (int32_t r = 0; r < n_row; r++)
        tile(dtype, rows_from(w, r), x, 1, 1, acc + r);
}

SIMD_FN void all_tiles(uint16_t dtype, rows w, int32_t n_row, rows x, int32_t n_tok, float *acc) {
    if (n_tok == 1) {
        one_token(dtype, w, n_row, x, acc);
        return;
    }
    for (int32_t r = 0; r < n_row;) {
        int full = r + TILE_ROWS <= n_row;
        for (int32_t t = 0; t < n_tok;) {
            float *a = acc + t * LINEAR_ROWS + r;
            int wide = t + TILE_TOKENS <= n_tok;
            if (full && wide)
                tile(dtype, rows_from(w, r), rows_from(x, t), TILE_ROWS, TILE_TOKENS, a);
            else if (full)
                tile(dtype, rows_from(w, r), rows_from(x, t), TILE_ROWS, 1, a);
            else
                tile(dtype, rows_from(w, r), rows_from(x, t), 1, 1, a);
            t += full && wide ? TILE_TOKENS : 1;
        }
        r += full ? TILE_ROWS : 1;
    }
}

static void widen_rows(uint16_t dtype, rows w, int32_t n_row, float *out) {
    for (int32_t r = 0; r < n_row; r++, w.p += w.stride, out += w.n) {
        int64_t k = 0;
        for (; k + 16 <= w.n; k += 16)
            v16_store(out + k, load_weights(dtype, w.p, k, 16));
        if (k < w.n) v16_store_n(out + k, load_weights(dtype, w.p, k, w.n - k), w.n - k);
    }
}

void PERI_ISA_FN(rows_f32)(const linear_in *in, int64_t row0, int32_t n_row, float *acc,
                           float *scratch) {
    rows w = rows_from((rows){in->w, in->row_bytes, in->n}, row0);
    rows x = {in->act, in->kb_stride, in->n};
    uint16_t dtype = in->type->dtype;
    if (dtype != PERI_CPU_F32 && in->n_tok >= WIDEN_TOKENS) {
        widen_rows(dtype, w, n_row, scratch);
        w = (rows){(const uint8_t *)scratch, (size_t)in->n * sizeof(float), in->n};
        dtype = PERI_CPU_F32;
    }
    for (int32_t t = 0; t < in->n_tok; t += TOKEN_BLOCK) {
        int32_t n_tok = in->n_tok - t < TOKEN_BLOCK ? in->n_tok - t : TOKEN_BLOCK;
        float *a = acc + t * LINEAR_ROWS;
        rows xt = rows_from(x, t);
        if (dtype == PERI_CPU_F32)
            all_tiles(PERI_CPU_F32, w, n_row, xt, n_tok, a);
        else if (dtype == PERI_CPU_F16)
            all_tiles(PERI_CPU_F16, w, n_row, xt, n_tok, a);
        else
            all_tiles(PERI_CPU_BF16, w, n_row, xt, n_tok, a);
    }
}
