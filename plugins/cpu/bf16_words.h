/* SPDX-License-Identifier: MIT
 *
 * bf16_words.h - vectors of bf16 for linear_bf16.c and linear_amx_bf16.c, over simd.h.
 *
 * `words` are sixteen lanes of two bf16, as they lie in memory: the second of a lane is its upper
 * half.  The order of sums, and why small numbers are 0 here, is told in linear.h. */
#ifndef PERI_CPU_BF16_WORDS_H
#define PERI_CPU_BF16_WORDS_H

#include "fast.h"
#include "simd.h"

enum {
    BF16_BLOCK_BYTES = LINEAR_SPAN_BF16 * 2,
    BF16_LANES = 16,
    BF16_VECTORS = 16,                                /* of 64 bytes in a block of columns */
    BF16_LEAST = (127 - 50) << 7,                     /* 2^-50 */
    BF16_PANEL_BYTES = 16 * BF16_BLOCK_BYTES,         /* [lane][vector][16 rows][2] */
    BF16_LANE_BYTES = BF16_VECTORS * LINEAR_ROWS * 4, /* of a panel */
};

#if PERI_SIMD
/* The bits of f32, no NaN, so that the upper halves are the nearest bf16, ties to even. */
SIMD_FN vi vi_round(vi x) {
    vi odd = vi_and(vi_shr32(x, 16), vi_set1(1));
    return vi_add32(vi_add32(x, vi_set1(0x7fff)), odd);
}
#endif

/* vi_flush, words_flush: numbers below 2^-50 become 0.
 * v16_store_bf16: sixteen f32 to the nearest bf16, ties to even; no NaN but 0x7fc00000. */
#if defined(PERI_AVX512)
typedef vi words;
SIMD_FN vi vi_flush(vi x) {
    vi size = _mm512_and_si512(x, _mm512_set1_epi16(0x7fff));
    return _mm512_maskz_mov_epi16(_mm512_cmpge_epu16_mask(size, _mm512_set1_epi16(BF16_LEAST)), x);
}
SIMD_FN words words_load(const void *p) {
    return vi_load(p);
}
SIMD_FN void words_store(void *p, words x) {
    vi_store(p, x);
}
SIMD_FN words words_flush(words x) {
    return vi_flush(x);
}
SIMD_FN v16 words_high(words x) {
    return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32((int32_t)0xffff0000)));
}
SIMD_FN v16 words_low(words x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}
SIMD_FN void v16_store_bf16(uint16_t *p, v16 x) {
    __m512i h = _mm512_srli_epi32(vi_round(_mm512_castps_si512(x)), 16);
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(h));
}
#elif PERI_SIMD && !defined(PERI_NEON)
typedef struct words {
    vi a, b;
} words;
SIMD_FN vi vi_flush(vi x) {
    vi size = _mm256_and_si256(x, _mm256_set1_epi16(0x7fff));
    return _mm256_and_si256(x, _mm256_cmpgt_epi16(size, _mm256_set1_epi16(BF16_LEAST - 1)));
}
SIMD_FN words words_load(const void *p) {
    return (words){vi_load(p), vi_load((const uint8_t *)p + 32)};
}
SIMD_FN void words_store(void *p, words x) {
    vi_store(p, x.a);
    vi_store((uint8_t *)p + 32, x.b);
}
SIMD_FN words words_flush(words x) {
    return (words){vi_flush(x.a), vi_flush(x.b)};
}
SIMD_FN v16 words_high(words x) {
    vi upper = vi_set1((int32_t)0xffff0000);
    return (v16){vf_bits(vi_and(x.a, upper)), vf_bits(vi_and(x.b, upper))};
}
SIMD_FN v16 words_low(words x) {
    return (v16){vf_bits(vi_shl32(x.a, 16)), vf_bits(vi_shl32(x.b, 16))};
}
SIMD_FN void v16_store_bf16(uint16_t *p, v16 x) {
    __m256i a = _mm256_srli_epi32(vi_round(_mm256_castps_si256(x.a)), 16),
            b = _mm256_srli_epi32(vi_round(_mm256_castps_si256(x.b)), 16);
    __m256i h = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
    _mm256_storeu_si256((__m256i *)p, h);
}
#elif PERI_SIMD
typedef struct words {
    vi a, b, c, d;
} words;
SIMD_FN vi vi_flush(vi x) {
    uint16x8_t h = vreinterpretq_u16_s32(x), size = vandq_u16(h, vdupq_n_u16(0x7fff));
    return vreinterpretq_s32_u16(vandq_u16(h, vcgeq_u16(size, vdupq_n_u16(BF16_LEAST))));
}
SIMD_FN words words_load(const void *p) {
    const uint8_t *q = p;
    return (words){vi_load(q), vi_load(q + 16), vi_load(q + 32), vi_load(q + 48)};
}
SIMD_FN void words_store(void *p, words x) {
    uint8_t *q = p;
    vi_store(q, x.a);
    vi_store(q + 16, x.b);
    vi_store(q + 32, x.c);
    vi_store(q + 48, x.d);
}
SIMD_FN words words_flush(words x) {
    return (words){vi_flush(x.a), vi_flush(x.b), vi_flush(x.c), vi_flush(x.d)};
}
SIMD_FN vf vf_high(vi x) {
    return vf_bits(vi_and(x, vi_set1((int32_t)0xffff0000)));
}
SIMD_FN vf vf_low(vi x) {
    return vf_bits(vi_shl32(x, 16));
}
SIMD_FN v16 words_high(words x) {
    return (v16){vf_high(x.a), vf_high(x.b), vf_high(x.c), vf_high(x.d)};
}
SIMD_FN v16 words_low(words x) {
    return (v16){vf_low(x.a), vf_low(x.b), vf_low(x.c), vf_low(x.d)};
}
SIMD_FN uint16x4_t neon_bf16(float32x4_t x) {
    return vshrn_n_u32(vreinterpretq_u32_s32(vi_round(vreinterpretq_s32_f32(x))), 16);
}
SIMD_FN void v16_store_bf16(uint16_t *p, v16 x) {
    vst1_u16(p, neon_bf16(x.a));
    vst1_u16(p + 4, neon_bf16(x.b));
    vst1_u16(p + 8, neon_bf16(x.c));
    vst1_u16(p + 12, neon_bf16(x.d));
}
#else
typedef struct words {
    uint16_t h[32];
} words;
SIMD_FN words words_load(const void *p) {
    words x;
    memcpy(x.h, p, sizeof x.h);
    return x;
}
SIMD_FN void words_store(void *p, words x) {
    memcpy(p, x.h, sizeof x.h);
}
SIMD_FN words words_flush(words x) {
    for (int i = 0; i < 32; i++)
        if ((x.h[i] & 0x7fff) < BF16_LEAST) x.h[i] = 0;
    return x;
}
SIMD_FN v16 words_high(words x) {
    V16_EACH(bf16_to_f32(x.h[2 * i + 1]));
}
SIMD_FN v16 words_low(words x) {
    V16_EACH(bf16_to_f32(x.h[2 * i]));
}
SIMD_FN void v16_store_bf16(uint16_t *p, v16 x) {
    for (int i = 0; i < 16; i++)
        p[i] = f32_to_bf16(x.v[i]);
}
#endif

/* The 16 x 16 lanes at p, `stride` bytes from row to row, to columns `to_stride` bytes apart. */
#if PERI_SIMD
SIMD_FN void transpose(const uint8_t *p, size_t stride, uint8_t *to, size_t to_stride, int flush) {
#pragma GCC unroll 4
    for (int r = 0; r < 16; r += W)
#pragma GCC unroll 4
        for (int c = 0; c < 16; c += 4) {
            const uint8_t *q = p + (size_t)r * stride + c * 4;
            uint8_t *out = to + (size_t)c * to_stride + r * 4;
            vi x[4];
#pragma GCC unroll 4
            for (size_t k = 0; k < 4; k++) {
                x[k] = vi_rows(q + k * stride, stride);
                if (flush) x[k] = vi_flush(x[k]);
            }
            vi a = vi_unlo32(x[0], x[1]), b = vi_unlo32(x[2], x[3]);
            vi d = vi_unhi32(x[0], x[1]), e = vi_unhi32(x[2], x[3]);
            vi_store(out, vi_unlo64(a, b));
            vi_store(out + to_stride, vi_unhi64(a, b));
            vi_store(out + 2 * to_stride, vi_unlo64(d, e));
            vi_store(out + 3 * to_stride, vi_unhi64(d, e));
        }
}
#else
SIMD_FN void transpose(const uint8_t *p, size_t stride, uint8_t *to, size_t to_stride, int flush) {
    for (size_t r = 0; r < 16; r++) {
        words x = words_load(p + r * stride);
        if (flush) x = words_flush(x);
        for (size_t c = 0; c < 16; c++)
            memcpy(to + c * to_stride + r * 4, &x.h[2 * c], 4);
    }
}
#endif

/* Block b of 16 rows of weights from row0 on as a panel.  Columns past the row's end and rows past
 * n_row count as zeros; what lies there is not read. */
static void bf16_panel(const linear_in *in, int64_t row0, int32_t n_row, int64_t b, uint8_t *to) {
    uint8_t edge[16 * BF16_BLOCK_BYTES];
    const uint8_t *p = in->w + (size_t)row0 * in->row_bytes + (size_t)b * BF16_BLOCK_BYTES;
    size_t stride = in->row_bytes, bytes = in->row_bytes - (size_t)b * BF16_BLOCK_BYTES;
    if (bytes < BF16_BLOCK_BYTES || n_row < LINEAR_ROWS) {
        if (bytes > BF16_BLOCK_BYTES) bytes = BF16_BLOCK_BYTES;
        memset(edge, 0, sizeof edge);
        for (size_t r = 0; r < (size_t)n_row; r++)
            memcpy(edge + r * BF16_BLOCK_BYTES, p + r * stride, bytes);
        p = edge;
        stride = BF16_BLOCK_BYTES;
    }
    for (int v = 0; v < BF16_VECTORS; v++)
        transpose(p + v * 64, stride, to + v * 64, BF16_LANE_BYTES, 1);
}

/* As a factor: 0 below 2^-50, and one NaN for all. */
SIMD_FN v16 bf16_factor(v16 x) {
    v16 size = v16_abs(x), infinity = v16_set1(INFINITY);
    v16 y = v16_select_lt(size, infinity, x, v16_set1(NAN));
    y = v16_select_lt(size, v16_set1(0x1p-50f), v16_zero(), y);
    return v16_select_lt(v16_set1(0x1.fffffep127f), size, v16_copysign(infinity, x), y);
}

/* A block of activations, n of them there, as bf16; zeros behind them. */
SIMD_FN void round_block(const float *x, int64_t n, uint16_t *to) {
    int64_t k = 0;
    for (; k + 16 <= n && k < LINEAR_SPAN_BF16; k += 16)
        v16_store_bf16(to + k, bf16_factor(v16_load(x + k)));
    for (; k < LINEAR_SPAN_BF16; k += 16)
        v16_store_bf16(to + k, k < n ? bf16_factor(v16_load_n(x + k, n - k)) : v16_zero());
}

#endif
