/* SPDX-License-Identifier: MIT
 *
 * quant.c - activations to int8 with one f32 scale per 32 or 256 elements, and the integer sums the
 * products need (linear.h).  Compiled per instruction set; every operation is exact or one IEEE
 * rounding per element, so all sets give the same bytes.
 *
 * d = amax / 127, q = rint(x * fl(1 / d)).  The largest magnitude is found on the bit patterns
 * without sign, so that a NaN counts as largest: a span with a NaN or infinity gets d = NaN and
 * zeros, which makes the results that depend on it NaN.  A span so small that 1 / d overflows
 * counts as zeros.  So are keys and values of type Q8_0, whose d is then rounded to f16. */
#include "simd.h"

#include <float.h>

#include "fast.h"

/* 1 / d, or 0 when all q are 0. */
static float span_scale(uint32_t amax_bits, float *d) {
    float amax, inv;
    if (amax_bits >= 0x7f800000u) {
        *d = NAN;
        return 0.0f;
    }
    memcpy(&amax, &amax_bits, 4);
    *d = amax / 127.0f;
    inv = 1.0f / *d;
    if (inv <= FLT_MAX) return inv;
    *d = 0.0f;
    return 0.0f;
}

#if defined(PERI_NEON)

static uint32_t amax_bits(const float *x, int n) {
    int32x4_t m = vdupq_n_s32(0), mask = vdupq_n_s32(0x7fffffff);
    for (int i = 0; i < n; i += 4)
        m = vmaxq_s32(m, vandq_s32(mask, vi_load(x + i)));
    return (uint32_t)vmaxvq_s32(m);
}

static int16x8_t scaled8(const float *x, float32x4_t inv) {
    int32x4_t lo = vcvtnq_s32_f32(vmulq_f32(vld1q_f32(x), inv));
    int32x4_t hi = vcvtnq_s32_f32(vmulq_f32(vld1q_f32(x + 4), inv));
    return vqmovn_high_s32(vqmovn_s32(lo), hi);
}

static void round_span(const float *x, int n, float inv, int8_t *q) {
    float32x4_t f = vdupq_n_f32(inv);
    for (int i = 0; i < n; i += 16)
        vst1q_s8(q + i, vqmovn_high_s16(vqmovn_s16(scaled8(x + i, f)), scaled8(x + i + 8, f)));
}

static void pair_sum(const int8_t *q, int16_t out[2]) {
    int16x8_t s = vpaddlq_s8(vld1q_s8(q)); /* k mod 4 in {0, 1} in the even lanes */
    int16x4_t t = vadd_s16(vget_low_s16(s), vget_high_s16(s));
    out[0] = (int16_t)(vget_lane_s16(t, 0) + vget_lane_s16(t, 2));
    out[1] = (int16_t)(vget_lane_s16(t, 1) + vget_lane_s16(t, 3));
}

#elif PERI_SIMD

static uint32_t amax_bits(const float *x, int n) {
    __m256i m = _mm256_setzero_si256(), mask = _mm256_set1_epi32(0x7fffffff);
    for (int i = 0; i < n; i += 8)
        m = _mm256_max_epi32(m,
                             _mm256_and_si256(mask, _mm256_loadu_si256((const __m256i *)(x + i))));
    __m128i t = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(t);
}

static __m256i scaled(const float *x, __m256 inv) {
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inv));
}

static void round_span(const float *x, int n, float inv, int8_t *q) {
    __m256 f = _mm256_set1_ps(inv);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (int i = 0; i < n; i += 32) {
        __m256i a = _mm256_packs_epi32(scaled(x + i, f), scaled(x + i + 8, f));
        __m256i b = _mm256_packs_epi32(scaled(x + i + 16, f), scaled(x + i + 24, f));
        __m256i c = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
        _mm256_storeu_si256((__m256i *)(q + i), c);
    }
}

/* Of 16 elements: the sum of those with k mod 4 in {0, 1}, and of the others. */
static void pair_sum(const int8_t *q, int16_t out[2]) {
    __m128i s = _mm_maddubs_epi16(_mm_set1_epi8(1), _mm_loadu_si128((const __m128i *)q));
    s = _mm_add_epi16(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi16(s, _mm_shuffle_epi32(s, 0xb1));
    int32_t x = _mm_cvtsi128_si32(s);
    memcpy(out, &x, 4);
}

static void widen(const int8_t *q, int16_t *out) {
    const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    for (int i = 0; i < LINEAR_K; i += 16) {
        __m128i x = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(q + i)), order);
        _mm256_storeu_si256((__m256i *)(out + i), _mm256_cvtepi8_epi16(x));
    }
}

#else

static uint32_t amax_bits(const float *x, int n) {
    uint32_t m = 0;
    for (int i = 0; i < n; i++) {
        uint32_t b;
        memcpy(&b, x + i, 4);
        b &= 0x7fffffffu;
        if (b > m) m = b;
    }
    return m;
}

static void round_span(const float *x, int n, float inv, int8_t *q) {
    for (int i = 0; i < n; i++)
        q[i] = (int8_t)rintf(x[i] * inv);
}

static void pair_sum(const int8_t *q, int16_t out[2]) {
    out[0] = out[1] = 0;
    for (int i = 0; i < 16; i++)
        out[i / 2 % 2] = (int16_t)(out[i / 2 % 2] + q[i]);
}

#endif

#if !PERI_SIMD || defined(PERI_NEON)
static void widen(const int8_t *q, int16_t *out) {
    for (int i = 0; i < LINEAR_K; i += 4) {
        out[i] = q[i];
        out[i + 1] = q[i + 2];
        out[i + 2] = q[i + 1];
        out[i + 3] = q[i + 3];
    }
}

#endif

/* Two int16 as one int32, low first. */
static int32_t pair(int lo, int hi) {
    return (int32_t)((uint32_t)(uint16_t)lo | (uint32_t)(uint16_t)hi << 16);
}

/* A word of act8.off out of the halves of a sum. */
static int32_t off_word(int o, int lo, int hi) {
    return PERI_VNNI ? o * (lo + hi) : pair(o * lo, o * hi);
}

static void fill_sums(const linear_type *t, act8 *a) {
    int16_t p[16][2];
    int o = t->is_wide ? -PERI_DOT_PLUS : -t->offset;
    for (int i = 0; i < 16; i++)
        pair_sum(a->q + 16 * i, p[i]);
    if (t->span == 32) {
        for (int b = 0; b < 8; b++) {
            int lo = p[2 * b][0] + p[2 * b + 1][0], hi = p[2 * b][1] + p[2 * b + 1][1];
            if (!t->has_two) a->off[b] = off_word(o, lo, hi);
            a->sum[b] = lo + hi;
        }
    }
    for (int i = 0; i < 16 && (t->span == 256 || t->has_two); i++)
        a->off[i] = off_word(o, p[i][0], p[i][1]);
    if (t->span == 32) return;
    for (int i = 0; i < 8; i++) {
        int even = p[2 * i][0] + p[2 * i][1], odd = p[2 * i + 1][0] + p[2 * i + 1][1];
        if (t->min_sub == 16)
            a->sum[i] = pair(even, odd);
        else if (i % 2 == 0)
            a->sum[i / 2] = even + odd;
        else
            a->sum[i / 2] = pair(a->sum[i / 2], even + odd);
    }
}

void PERI_ISA_FN(quantize_row)(const linear_type *t, const float *x, int64_t n, uint8_t *out,
                               size_t kb_stride) {
    for (int64_t k = 0; k < n; k += LINEAR_K, out += kb_stride, x += LINEAR_K) {
        int width = n - k < LINEAR_K ? (int)(n - k) : LINEAR_K;
        act16 *wide = (act16 *)out;
        int is_wide = t->is_wide && !PERI_VNNI;
        act8 narrow, *a = is_wide ? &narrow : (act8 *)out;
        if (width < LINEAR_K) memset(a, 0, sizeof *a);
        for (int s = 0; s < width; s += t->span) {
            float *d = &a->dx[s / t->span], inv = span_scale(amax_bits(x + s, t->span), d);
            if (inv == 0.0f)
                memset(a->q + s, 0, (size_t)t->span);
            else
                round_span(x + s, t->span, inv, a->q + s);
        }
        if (!is_wide) {
            fill_sums(t, a);
            continue;
        }
        widen(a->q, wide->q);
        memcpy(wide->dx, a->dx, sizeof a->dx);
    }
}

void PERI_ISA_FN(to_q8_0)(const float *x, uint8_t *y, int64_t n) {
    for (int64_t i = 0; i < n; i += 32, y += 34) {
        float d, inv = span_scale(amax_bits(x + i, 32), &d);
        uint16_t half = f32_to_f16(d);
        memcpy(y, &half, sizeof half);
        if (inv == 0.0f)
            memset(y + 2, 0, 32);
        else
            round_span(x + i, 32, inv, (int8_t *)y + 2);
    }
}
