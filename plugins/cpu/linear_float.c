/* SPDX-License-Identifier: MIT
 *
 * linear_float.c - products of F32, F16 and BF16 weights with f32 activations; compiled per instruction set.
 *
 * Each output element: 16 sums over k mod 16, each a chain of FMAs with k rising, the last columns padded with zeros,
 * then the tree of v16_sum.  The tile sizes below change speed only.  For several tokens, 16-bit weights are widened to scratch first. */
#include "simd.h"

#include "fast.h"

#if defined(PERI_AVX512)
enum { TILE_ROWS = 4, TILE_TOKENS = 4 };
#elif PERI_SIMD
enum { TILE_ROWS = 4, TILE_TOKENS = 1 };
#else
enum { TILE_ROWS = 1, TILE_TOKENS = 1 };
#endif
enum { WIDEN_TOKENS = 4, TOKEN_BLOCK = 32 };

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

/* n_row rows times n_tok tokens, both literals. */
SIMD_FN void tile(uint16_t dtype, const uint8_t *w, size_t w_stride, const uint8_t *x, size_t x_stride, int64_t n,
                  int n_row, int n_tok, float *acc) {
    v16 c[TILE_ROWS][TILE_TOKENS];
#pragma GCC unroll 4
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int t = 0; t < n_tok; t++) c[r][t] = v16_zero();
    int64_t k = 0;
    for (; k + 16 <= n; k += 16) {
        v16 b[TILE_TOKENS];
#pragma GCC unroll 4
        for (int t = 0; t < n_tok; t++)
            b[t] = v16_load((const float *)(x + (size_t)t * x_stride) + k);
#pragma GCC unroll 4
        for (int r = 0; r < n_row; r++) {
            v16 a = load_weights(dtype, w + (size_t)r * w_stride, k, 16);
#pragma GCC unroll 4
            for (int t = 0; t < n_tok; t++) c[r][t] = v16_fma(a, b[t], c[r][t]);
        }
    }
    for (int r = 0; r < n_row && k < n; r++) {
        v16 a = load_weights(dtype, w + (size_t)r * w_stride, k, n - k);
        for (int t = 0; t < n_tok; t++)
            c[r][t] = v16_fma(a, v16_load_n((const float *)(x + (size_t)t * x_stride) + k, n - k),
                              c[r][t]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int t = 0; t < n_tok; t++) acc[t * LINEAR_ROWS + r] = v16_sum(c[r][t]);
}

SIMD_FN void all_tiles(uint16_t dtype, const uint8_t *w, size_t w_stride, int32_t rows, const uint8_t *x,
                       size_t x_stride, int32_t n_tok, int64_t n, float *acc) {
    for (int32_t r = 0; r < rows;) {
        int full = r + TILE_ROWS <= rows;
        const uint8_t *wr = w + (size_t)r * w_stride;
        for (int32_t t = 0; t < n_tok;) {
            const uint8_t *xt = x + (size_t)t * x_stride;
            float *a = acc + t * LINEAR_ROWS + r;
            int wide = t + TILE_TOKENS <= n_tok;
            if (full && wide) tile(dtype, wr, w_stride, xt, x_stride, n, TILE_ROWS, TILE_TOKENS, a);
            else if (full) tile(dtype, wr, w_stride, xt, x_stride, n, TILE_ROWS, 1, a);
            else tile(dtype, wr, w_stride, xt, x_stride, n, 1, 1, a);
            t += full && wide ? TILE_TOKENS : 1;
        }
        r += full ? TILE_ROWS : 1;
    }
}

static void widen_rows(uint16_t dtype, const uint8_t *w, size_t stride, int32_t rows, int64_t n, float *out) {
    for (int32_t r = 0; r < rows; r++, w += stride, out += n) {
        int64_t k = 0;
        for (; k + 16 <= n; k += 16) v16_store(out + k, load_weights(dtype, w, k, 16));
        if (k < n) v16_store_n(out + k, load_weights(dtype, w, k, n - k), n - k);
    }
}

void PERI_ISA_FN(rows_f32)(const linear_in *in, int64_t row0, int32_t rows, float *acc, float *scratch) {
    const uint8_t *w = in->w + (size_t)row0 * in->row_bytes;
    size_t stride = in->row_bytes;
    uint16_t dtype = in->type->dtype;
    if (dtype != PERI_CPU_F32 && in->n_tok >= WIDEN_TOKENS) {
        widen_rows(dtype, w, stride, rows, in->n, scratch);
        w = (const uint8_t *)scratch;
        stride = (size_t)in->n * sizeof(float);
        dtype = PERI_CPU_F32;
    }
    for (int32_t t = 0; t < in->n_tok; t += TOKEN_BLOCK) {
        int32_t n_tok = in->n_tok - t < TOKEN_BLOCK ? in->n_tok - t : TOKEN_BLOCK;
        const uint8_t *x = in->act + (size_t)t * in->kb_stride;
        float *a = acc + t * LINEAR_ROWS;
        if (dtype == PERI_CPU_F32) all_tiles(PERI_CPU_F32, w, stride, rows, x, in->kb_stride, n_tok, in->n, a);
        else if (dtype == PERI_CPU_F16)
            all_tiles(PERI_CPU_F16, w, stride, rows, x, in->kb_stride, n_tok, in->n, a);
        else all_tiles(PERI_CPU_BF16, w, stride, rows, x, in->kb_stride, n_tok, in->n, a);
    }
}
