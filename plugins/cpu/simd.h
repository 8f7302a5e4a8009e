/* SPDX-License-Identifier: MIT
 *
 * simd.h - the vector vocabulary of the fast kernels.  Sources written over it are compiled once
 * per instruction set; the build defines PERI_ISA (scalar, avx2, avx512, avx2vnni, avx512vnni or
 * avx512bf16; on aarch64, with PERI_NEON, neon or neondot: simd_neon.h) and passes the matching -m
 * flags, and PERI_ISA_FN(name) gives every function its own name per set.  Nothing here may run
 * before dispatch.c has checked the processor.
 *
 * Two families:
 *
 * v16   sixteen f32, on every set (one zmm, two ymm, four registers of NEON, an array).  All
 * operations are IEEE 754 single operations per lane, fused multiply-adds included, and v16_sum and
 * v16_top are one fixed tree each.  So code over v16 gives the same bits on every set.  The scalar
 * set calls fmaf, which libm computes exactly even without hardware. vi,vf integer and f32 vectors
 * of native width W = 4 * NL (NL = 128-bit lanes), only where PERI_SIMD is 1: the integer products,
 * whose sums are exact, so that their order does not matter.  PERI_VNNI: there is a dot product of
 * four bytes, vi_dot_at: an instruction, or on aarch64 without one a few of them.  PERI_BF16: there
 * is an instruction for two products of bf16 (attn_pairs.h).
 *
 * Comparisons and maxima follow `a > b ? a : b`, which is what the x86 instructions compute: a NaN
 * in b survives. */
#ifndef PERI_CPU_SIMD_H
#define PERI_CPU_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define PERI_ISA_CAT2(a, b) a##_##b
#define PERI_ISA_CAT(a, b)  PERI_ISA_CAT2(a, b)
#define PERI_ISA_FN(name)   PERI_ISA_CAT(name, PERI_ISA)

#if defined(__AVX512BW__)
#define PERI_SIMD   1
#define PERI_AVX512 1
#include <immintrin.h>
#elif defined(__AVX2__)
#define PERI_SIMD 1
#include <immintrin.h>
#elif defined(PERI_NEON)
#define PERI_SIMD 1
#else
#define PERI_SIMD 0
#endif
/* Is a v16 two registers of eight? */
#if defined(__AVX2__) && !defined(__AVX512BW__)
#define PERI_HALVES 1
#else
#define PERI_HALVES 0
#endif
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(PERI_NEON)
#define PERI_VNNI 1
#else
#define PERI_VNNI 0
#endif
/* What it wants added to signed weights: its weights are unsigned, but on aarch64 signed. */
#if defined(PERI_NEON)
#define PERI_DOT_PLUS 0
#else
#define PERI_DOT_PLUS 128
#endif
#if defined(__AVX512BF16__)
#define PERI_BF16 1
#else
#define PERI_BF16 0
#endif

/* Inlining is what makes vectors stay in registers; where they are arrays it only makes the
 * compiler work for minutes. */
#if PERI_SIMD
#define SIMD_FN static inline __attribute__((always_inline, unused))
#else
#define SIMD_FN static __attribute__((noinline, unused))
#endif

/* f16 to f32 in integer and exact f32 arithmetic; the conversion instructions give the same bits.
 */
SIMD_FN float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, mag = h & 0x7fffu, bits;
    float f;
    if (mag >= 0x7c00u) { /* infinity, or a NaN made quiet */
        bits = 0x7f800000u | (mag & 0x3ffu) << 13 | (mag > 0x7c00u ? 0x400000u : 0u);
    } else {
        bits = mag << 13;
        memcpy(&f, &bits, 4);
        f *= 0x1p112f; /* exact: rebias, normalising denormals */
        memcpy(&bits, &f, 4);
    }
    bits |= sign;
    memcpy(&f, &bits, 4);
    return f;
}

/* f32 to f16, nearest, ties to even. */
SIMD_FN uint16_t f32_to_f16(float f) {
    uint32_t bits, sign, mag;
    memcpy(&bits, &f, 4);
    sign = bits >> 16 & 0x8000u;
    mag = bits & 0x7fffffffu;
    if (mag > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (mag >> 13 & 0x3ffu));
    if (mag >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (mag < 0x38800000u) { /* denormal: the addition rounds at 2^-24 */
        float m;
        memcpy(&m, &mag, 4);
        m += 0.5f;
        memcpy(&mag, &m, 4);
        return (uint16_t)(sign | (mag - 0x3f000000u));
    }
    mag += 0xfffu + (mag >> 13 & 1u);
    return (uint16_t)(sign | (mag - 0x38000000u) >> 13);
}

SIMD_FN float bf16_to_f32(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* f32 to bf16, nearest, ties to even. */
SIMD_FN uint16_t f32_to_bf16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

SIMD_FN void simd_prefetch(const void *p) {
    __builtin_prefetch(p);
}

/* ---- v16 ---- */
#if defined(PERI_NEON)

#include "simd_neon.h"

#elif defined(PERI_AVX512)

typedef __m512 v16;
SIMD_FN v16 v16_set1(float x) {
    return _mm512_set1_ps(x);
}
SIMD_FN v16 v16_load(const float *p) {
    return _mm512_loadu_ps(p);
}
SIMD_FN void v16_store(float *p, v16 a) {
    _mm512_storeu_ps(p, a);
}
SIMD_FN v16 v16_add(v16 a, v16 b) {
    return _mm512_add_ps(a, b);
}
SIMD_FN v16 v16_sub(v16 a, v16 b) {
    return _mm512_sub_ps(a, b);
}
SIMD_FN v16 v16_mul(v16 a, v16 b) {
    return _mm512_mul_ps(a, b);
}
SIMD_FN v16 v16_div(v16 a, v16 b) {
    return _mm512_div_ps(a, b);
}
SIMD_FN v16 v16_fma(v16 a, v16 b, v16 c) {
    return _mm512_fmadd_ps(a, b, c);
}
SIMD_FN v16 v16_fnma(v16 a, v16 b, v16 c) {
    return _mm512_fnmadd_ps(a, b, c);
}
SIMD_FN v16 v16_max(v16 a, v16 b) {
    return _mm512_max_ps(a, b);
}
SIMD_FN v16 v16_min(v16 a, v16 b) {
    return _mm512_min_ps(a, b);
}
SIMD_FN v16 v16_rint(v16 a) {
    return _mm512_roundscale_ps(a, 0x08);
}
/* 2^n for whole n in -126 .. 127. */
SIMD_FN v16 v16_pow2(v16 n) {
    __m512i i = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(i, 23));
}
/* p * 2^n, where that is no denormal. */
SIMD_FN v16 v16_scale2(v16 p, v16 n) {
    return _mm512_scalef_ps(p, n);
}
/* The same where not z < least, else 0. */
SIMD_FN v16 v16_scale2_from(v16 p, v16 n, v16 z, v16 least) {
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(z, least, _CMP_NLT_UQ), p, n);
}
SIMD_FN v16 v16_abs(v16 a) {
    return _mm512_abs_ps(a);
}
/* Magnitude of a (which has no sign), sign of s. */
SIMD_FN v16 v16_copysign(v16 a, v16 s) {
    return _mm512_or_ps(a, _mm512_and_ps(s, _mm512_set1_ps(-0.0f)));
}
/* a < b ? x : y per lane; false when either is a NaN. */
SIMD_FN v16 v16_select_lt(v16 a, v16 b, v16 x, v16 y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
SIMD_FN v16 v16_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
SIMD_FN v16 v16_load_bf16(const uint16_t *p) {
    __m512i x = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}
/* Sixteen int8. */
SIMD_FN v16 v16_from_i8(__m128i x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x));
}
SIMD_FN void v16_store_f16(uint16_t *p, v16 a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, 0));
}
SIMD_FN float v16_sum(v16 a) {
    __m256 s = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
SIMD_FN float v16_top(v16 a) {
    __m256 s = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_max_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}

#elif PERI_SIMD

typedef struct v16 {
    __m256 a, b;
} v16;
#define V16_1(NAME, OP)                                                                            \
    SIMD_FN v16 NAME(v16 x) {                                                                      \
        return (v16){OP(x.a), OP(x.b)};                                                            \
    }
#define V16_2(NAME, OP)                                                                            \
    SIMD_FN v16 NAME(v16 x, v16 y) {                                                               \
        return (v16){OP(x.a, y.a), OP(x.b, y.b)};                                                  \
    }
#define V16_3(NAME, OP)                                                                            \
    SIMD_FN v16 NAME(v16 x, v16 y, v16 z) {                                                        \
        return (v16){OP(x.a, y.a, z.a), OP(x.b, y.b, z.b)};                                        \
    }
SIMD_FN v16 v16_set1(float x) {
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
SIMD_FN v16 v16_load(const float *p) {
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
SIMD_FN void v16_store(float *p, v16 x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
V16_2(v16_add, _mm256_add_ps)
V16_2(v16_sub, _mm256_sub_ps)
V16_2(v16_mul, _mm256_mul_ps)
V16_2(v16_div, _mm256_div_ps)
V16_2(v16_max, _mm256_max_ps)
V16_2(v16_min, _mm256_min_ps)
V16_3(v16_fma, _mm256_fmadd_ps)
V16_3(v16_fnma, _mm256_fnmadd_ps)
SIMD_FN __m256 ymm_rint(__m256 x) {
    return _mm256_round_ps(x, 0x08);
}
SIMD_FN __m256 ymm_pow2(__m256 n) {
    __m256i i = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(i, 23));
}
SIMD_FN __m256 ymm_abs(__m256 x) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}
SIMD_FN __m256 ymm_copysign(__m256 a, __m256 s) {
    return _mm256_or_ps(a, _mm256_and_ps(s, _mm256_set1_ps(-0.0f)));
}
SIMD_FN __m256 ymm_select_lt(__m256 a, __m256 b, __m256 x, __m256 y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
V16_1(v16_rint, ymm_rint)
V16_1(v16_pow2, ymm_pow2)
SIMD_FN __m256 ymm_scale2(__m256 p, __m256 n) {
    return _mm256_mul_ps(p, ymm_pow2(n));
}
V16_2(v16_scale2, ymm_scale2)
V16_1(v16_abs, ymm_abs)
V16_2(v16_copysign, ymm_copysign)
SIMD_FN v16 v16_select_lt(v16 a, v16 b, v16 x, v16 y) {
    return (v16){ymm_select_lt(a.a, b.a, x.a, y.a), ymm_select_lt(a.b, b.b, x.b, y.b)};
}
SIMD_FN v16 v16_load_f16(const uint16_t *p) {
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
SIMD_FN __m256 ymm_load_bf16(const uint16_t *p) {
    __m256i x = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
}
SIMD_FN v16 v16_load_bf16(const uint16_t *p) {
    return (v16){ymm_load_bf16(p), ymm_load_bf16(p + 8)};
}
SIMD_FN v16 v16_from_i8(__m128i x) {
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(x, 8)))};
}
SIMD_FN void v16_store_f16(uint16_t *p, v16 x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.a, 0));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(x.b, 0));
}
SIMD_FN float v16_sum(v16 x) {
    __m256 s = _mm256_add_ps(x.a, x.b);
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
SIMD_FN float v16_top(v16 x) {
    __m256 s = _mm256_max_ps(x.a, x.b);
    __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_max_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}

#else

typedef struct v16 {
    float v[16];
} v16;
#define V16_EACH(EXPR)                                                                             \
    v16 r_;                                                                                        \
    for (int i = 0; i < 16; i++)                                                                   \
        r_.v[i] = (EXPR);                                                                          \
    return r_
SIMD_FN v16 v16_set1(float x) {
    V16_EACH(x);
}
SIMD_FN v16 v16_load(const float *p) {
    V16_EACH(p[i]);
}
SIMD_FN void v16_store(float *p, v16 a) {
    memcpy(p, a.v, sizeof a.v);
}
SIMD_FN v16 v16_add(v16 a, v16 b) {
    V16_EACH(a.v[i] + b.v[i]);
}
SIMD_FN v16 v16_sub(v16 a, v16 b) {
    V16_EACH(a.v[i] - b.v[i]);
}
SIMD_FN v16 v16_mul(v16 a, v16 b) {
    V16_EACH(a.v[i] * b.v[i]);
}
SIMD_FN v16 v16_div(v16 a, v16 b) {
    V16_EACH(a.v[i] / b.v[i]);
}
SIMD_FN v16 v16_fma(v16 a, v16 b, v16 c) {
    V16_EACH(fmaf(a.v[i], b.v[i], c.v[i]));
}
SIMD_FN v16 v16_fnma(v16 a, v16 b, v16 c) {
    V16_EACH(fmaf(-a.v[i], b.v[i], c.v[i]));
}
SIMD_FN v16 v16_max(v16 a, v16 b) {
    V16_EACH(a.v[i] > b.v[i] ? a.v[i] : b.v[i]);
}
SIMD_FN v16 v16_min(v16 a, v16 b) {
    V16_EACH(a.v[i] < b.v[i] ? a.v[i] : b.v[i]);
}
SIMD_FN v16 v16_rint(v16 a) {
    V16_EACH(rintf(a.v[i]));
}
SIMD_FN float pow2_whole(float n) {
    /* A NaN converts to INT_MIN in the vector instructions; the product is a NaN there and here. */
    int32_t e = n >= -126.0f && n <= 127.0f ? (int32_t)n : INT32_MIN;
    uint32_t bits = ((uint32_t)e + 127u) << 23;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
SIMD_FN v16 v16_pow2(v16 n) {
    V16_EACH(pow2_whole(n.v[i]));
}
SIMD_FN v16 v16_scale2(v16 p, v16 n) {
    V16_EACH(p.v[i] * pow2_whole(n.v[i]));
}
SIMD_FN v16 v16_abs(v16 a) {
    V16_EACH(fabsf(a.v[i]));
}
SIMD_FN v16 v16_copysign(v16 a, v16 s) {
    V16_EACH(copysignf(a.v[i], s.v[i]));
}
SIMD_FN v16 v16_select_lt(v16 a, v16 b, v16 x, v16 y) {
    V16_EACH(a.v[i] < b.v[i] ? x.v[i] : y.v[i]);
}
SIMD_FN v16 v16_load_f16(const uint16_t *p) {
    V16_EACH(f16_to_f32(p[i]));
}
SIMD_FN v16 v16_load_bf16(const uint16_t *p) {
    V16_EACH(bf16_to_f32(p[i]));
}
SIMD_FN void v16_store_f16(uint16_t *p, v16 a) {
    for (int i = 0; i < 16; i++)
        p[i] = f32_to_f16(a.v[i]);
}
SIMD_FN float v16_sum(v16 a) {
    for (int n = 8; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            a.v[i] += a.v[i + n];
    return a.v[0];
}
SIMD_FN float v16_top(v16 a) {
    for (int n = 8; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            a.v[i] = a.v[i] > a.v[i + n] ? a.v[i] : a.v[i + n];
    return a.v[0];
}

#endif

/* The first n elements, zeros behind them; the same on every set. */
#if defined(PERI_AVX512)
SIMD_FN v16 v16_load_n(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
SIMD_FN void v16_store_n(float *p, v16 a, int64_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
#else
SIMD_FN v16 v16_load_n(const float *p, int64_t n) {
    float t[16] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return v16_load(t);
}
SIMD_FN void v16_store_n(float *p, v16 a, int64_t n) {
    float t[16];
    v16_store(t, a);
    memcpy(p, t, (size_t)n * sizeof *p);
}
#endif
SIMD_FN v16 v16_zero(void) {
    return v16_set1(0.0f);
}
#if !defined(PERI_AVX512)
SIMD_FN v16 v16_scale2_from(v16 p, v16 n, v16 z, v16 least) {
    return v16_select_lt(z, least, v16_zero(), v16_scale2(p, n));
}
#endif

/* e^(x + lo) = the product of two factors, the second a power of two, so that the largest results
 * overflow and the smallest become denormal as they should; lo is far smaller than x.  x = n ln 2 +
 * r, |r| <= 0.35; e^r by the Taylor polynomial of degree 7.  -130 <= x <= 89 is enforced; below 2
 * ulp.  Source of the split of ln 2: Cody and Waite 1980. */
SIMD_FN v16 v16_exp_parts(v16 x, v16 lo, v16 *power) {
    x = v16_max(v16_set1(-130.0f), x);
    x = v16_min(v16_set1(89.0f), x);
    v16 n = v16_rint(v16_mul(x, v16_set1(0x1.715476p+0f)));
    v16 r = v16_fnma(n, v16_set1(0x1.62e4p-1f), x);
    r = v16_add(v16_fnma(n, v16_set1(0x1.7f7d1cp-20f), r), lo);
    v16 p = v16_set1(1.0f / 5040);
    p = v16_fma(p, r, v16_set1(1.0f / 720));
    p = v16_fma(p, r, v16_set1(1.0f / 120));
    p = v16_fma(p, r, v16_set1(1.0f / 24));
    p = v16_fma(p, r, v16_set1(1.0f / 6));
    p = v16_fma(p, r, v16_set1(0.5f));
    p = v16_fma(p, r, v16_set1(1.0f));
    p = v16_fma(p, r, v16_set1(1.0f));
    v16 half = v16_rint(v16_mul(n, v16_set1(0.5f)));
    *power = v16_pow2(v16_sub(n, half));
    return v16_mul(p, v16_pow2(half));
}
SIMD_FN v16 v16_exp(v16 x) {
    v16 power, p = v16_exp_parts(x, v16_zero(), &power);
    return v16_mul(p, power);
}

/* tanh x: odd polynomial below 0.625 (Source: Cephes tanhf), 1 - 2 / (e^2|x| + 1) beyond. */
SIMD_FN v16 v16_tanh(v16 x) {
    v16 a = v16_abs(x), z = v16_mul(x, x);
    v16 p = v16_set1(-5.70498872745e-3f);
    p = v16_fma(p, z, v16_set1(2.06390887954e-2f));
    p = v16_fma(p, z, v16_set1(-5.37397155531e-2f));
    p = v16_fma(p, z, v16_set1(1.33314422036e-1f));
    p = v16_fma(p, z, v16_set1(-3.33332819422e-1f));
    p = v16_fma(v16_mul(p, z), x, x);
    v16 e = v16_exp(v16_add(a, a)), one = v16_set1(1.0f);
    v16 q = v16_sub(one, v16_div(v16_set1(2.0f), v16_add(e, one)));
    return v16_select_lt(a, v16_set1(0.625f), p, v16_copysign(q, x));
}

/* ---- native vectors for the panel kernels ---- */
#if defined(PERI_NEON)

/* simd_neon.h has them too. */

#elif defined(PERI_AVX512)

enum { NL = 4, W = 16 };
typedef __m512i vi;
typedef __m512 vf;
/* Lane l = 16 bytes of row 4 l. */
SIMD_FN vi vi_rows(const uint8_t *p, size_t stride) {
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)p));
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(p + 4 * stride)), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(p + 8 * stride)), 2);
    return _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(p + 12 * stride)), 3);
}
SIMD_FN vi vi_load(const void *p) {
    return _mm512_loadu_si512(p);
}
SIMD_FN void vi_store(void *p, vi a) {
    _mm512_storeu_si512(p, a);
}
SIMD_FN vi vi_set1(int32_t x) {
    return _mm512_set1_epi32(x);
}
SIMD_FN vi vi_set1_8(int x) {
    return _mm512_set1_epi8((char)x);
}
SIMD_FN vi vi_set1_16(int x) {
    return _mm512_set1_epi16((short)x);
}
SIMD_FN vi vi_lane(__m128i x) {
    return _mm512_broadcast_i32x4(x);
}
/* The same 16 bytes in every lane: those at p, or four dwords. */
SIMD_FN vi vi_lane_at(const void *p) {
    return vi_lane(_mm_loadu_si128((const __m128i *)p));
}
SIMD_FN vi vi_lane4(int32_t a, int32_t b, int32_t c, int32_t d) {
    return vi_lane(_mm_setr_epi32(a, b, c, d));
}
SIMD_FN vi vi_and(vi a, vi b) {
    return _mm512_and_si512(a, b);
}
SIMD_FN vi vi_or(vi a, vi b) {
    return _mm512_or_si512(a, b);
}
SIMD_FN vi vi_andnot(vi a, vi b) {
    return _mm512_andnot_si512(a, b);
} /* ~a & b */
SIMD_FN vi vi_xor(vi a, vi b) {
    return _mm512_xor_si512(a, b);
}
#define vi_shl16(a, n) _mm512_slli_epi16(a, n)
#define vi_shr16(a, n) _mm512_srli_epi16(a, n)
#define vi_sar16(a, n) _mm512_srai_epi16(a, n)
#define vi_sar32(a, n) _mm512_srai_epi32(a, n)
#define vi_shl32(a, n) _mm512_slli_epi32(a, n)
#define vi_shr32(a, n) _mm512_srli_epi32(a, n)
SIMD_FN vi vi_add8(vi a, vi b) {
    return _mm512_add_epi8(a, b);
}
SIMD_FN vi vi_add16(vi a, vi b) {
    return _mm512_add_epi16(a, b);
}
SIMD_FN vi vi_add32(vi a, vi b) {
    return _mm512_add_epi32(a, b);
}
SIMD_FN vi vi_max32(vi a, vi b) {
    return _mm512_max_epi32(a, b);
}
SIMD_FN vi vi_maddubs(vi a, vi b) {
    return _mm512_maddubs_epi16(a, b);
}
SIMD_FN vi vi_madd16(vi a, vi b) {
    return _mm512_madd_epi16(a, b);
}
SIMD_FN vi vi_mul16(vi a, vi b) {
    return _mm512_mullo_epi16(a, b);
}
SIMD_FN vi vi_mul32(vi a, vi b) {
    return _mm512_mullo_epi32(a, b);
}
#if PERI_VNNI
/* acc + the four products of unsigned and signed bytes of each dword; of its two int16. */
SIMD_FN vi vi_dot(vi acc, vi u8, vi s8) {
    return _mm512_dpbusd_epi32(acc, u8, s8);
}
SIMD_FN vi vi_dot16(vi acc, vi a, vi b) {
    return _mm512_dpwssd_epi32(acc, a, b);
}
#endif
SIMD_FN vi vi_shuffle8(vi a, vi idx) {
    return _mm512_shuffle_epi8(a, idx);
}
SIMD_FN vi vi_eq0_8(vi a) {
    return _mm512_movm_epi8(_mm512_testn_epi8_mask(a, a));
}
SIMD_FN vi vi_unlo32(vi a, vi b) {
    return _mm512_unpacklo_epi32(a, b);
}
SIMD_FN vi vi_unhi32(vi a, vi b) {
    return _mm512_unpackhi_epi32(a, b);
}
SIMD_FN vi vi_unlo64(vi a, vi b) {
    return _mm512_unpacklo_epi64(a, b);
}
SIMD_FN vi vi_unhi64(vi a, vi b) {
    return _mm512_unpackhi_epi64(a, b);
}
SIMD_FN vf vf_bits(vi a) {
    return _mm512_castsi512_ps(a);
}
SIMD_FN vf vf_cvt(vi a) {
    return _mm512_cvtepi32_ps(a);
}
SIMD_FN vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
SIMD_FN void vf_store(float *p, vf a) {
    _mm512_storeu_ps(p, a);
}
SIMD_FN vf vf_set1(float x) {
    return _mm512_set1_ps(x);
}
SIMD_FN vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
SIMD_FN vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
SIMD_FN vf vf_fnma(vf a, vf b, vf c) {
    return _mm512_fnmadd_ps(a, b, c);
}
/* W f16 to f32. */
SIMD_FN vf vf_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
/* f16 in the low halves of the dwords. */
SIMD_FN vf vf_f16_low(vi a) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a));
}

#elif PERI_SIMD

enum { NL = 2, W = 8 };
typedef __m256i vi;
typedef __m256 vf;
SIMD_FN vi vi_rows(const uint8_t *p, size_t stride) {
    __m256i x = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p));
    return _mm256_inserti128_si256(x, _mm_loadu_si128((const __m128i *)(p + 4 * stride)), 1);
}
SIMD_FN vi vi_load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
SIMD_FN void vi_store(void *p, vi a) {
    _mm256_storeu_si256((__m256i *)p, a);
}
SIMD_FN vi vi_set1(int32_t x) {
    return _mm256_set1_epi32(x);
}
SIMD_FN vi vi_set1_8(int x) {
    return _mm256_set1_epi8((char)x);
}
SIMD_FN vi vi_set1_16(int x) {
    return _mm256_set1_epi16((short)x);
}
SIMD_FN vi vi_lane(__m128i x) {
    return _mm256_broadcastsi128_si256(x);
}
SIMD_FN vi vi_lane_at(const void *p) {
    return vi_lane(_mm_loadu_si128((const __m128i *)p));
}
SIMD_FN vi vi_lane4(int32_t a, int32_t b, int32_t c, int32_t d) {
    return vi_lane(_mm_setr_epi32(a, b, c, d));
}
SIMD_FN vi vi_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
SIMD_FN vi vi_or(vi a, vi b) {
    return _mm256_or_si256(a, b);
}
SIMD_FN vi vi_andnot(vi a, vi b) {
    return _mm256_andnot_si256(a, b);
}
SIMD_FN vi vi_xor(vi a, vi b) {
    return _mm256_xor_si256(a, b);
}
#define vi_shl16(a, n) _mm256_slli_epi16(a, n)
#define vi_shr16(a, n) _mm256_srli_epi16(a, n)
#define vi_sar16(a, n) _mm256_srai_epi16(a, n)
#define vi_sar32(a, n) _mm256_srai_epi32(a, n)
#define vi_shl32(a, n) _mm256_slli_epi32(a, n)
#define vi_shr32(a, n) _mm256_srli_epi32(a, n)
SIMD_FN vi vi_add8(vi a, vi b) {
    return _mm256_add_epi8(a, b);
}
SIMD_FN vi vi_add16(vi a, vi b) {
    return _mm256_add_epi16(a, b);
}
SIMD_FN vi vi_add32(vi a, vi b) {
    return _mm256_add_epi32(a, b);
}
SIMD_FN vi vi_max32(vi a, vi b) {
    return _mm256_max_epi32(a, b);
}
SIMD_FN vi vi_maddubs(vi a, vi b) {
    return _mm256_maddubs_epi16(a, b);
}
SIMD_FN vi vi_madd16(vi a, vi b) {
    return _mm256_madd_epi16(a, b);
}
SIMD_FN vi vi_mul16(vi a, vi b) {
    return _mm256_mullo_epi16(a, b);
}
SIMD_FN vi vi_mul32(vi a, vi b) {
    return _mm256_mullo_epi32(a, b);
}
#if PERI_VNNI
SIMD_FN vi vi_dot(vi acc, vi u8, vi s8) {
    return _mm256_dpbusd_avx_epi32(acc, u8, s8);
}
SIMD_FN vi vi_dot16(vi acc, vi a, vi b) {
    return _mm256_dpwssd_avx_epi32(acc, a, b);
}
#endif
SIMD_FN vi vi_shuffle8(vi a, vi idx) {
    return _mm256_shuffle_epi8(a, idx);
}
SIMD_FN vi vi_eq0_8(vi a) {
    return _mm256_cmpeq_epi8(a, _mm256_setzero_si256());
}
SIMD_FN vi vi_unlo32(vi a, vi b) {
    return _mm256_unpacklo_epi32(a, b);
}
SIMD_FN vi vi_unhi32(vi a, vi b) {
    return _mm256_unpackhi_epi32(a, b);
}
SIMD_FN vi vi_unlo64(vi a, vi b) {
    return _mm256_unpacklo_epi64(a, b);
}
SIMD_FN vi vi_unhi64(vi a, vi b) {
    return _mm256_unpackhi_epi64(a, b);
}
SIMD_FN vf vf_bits(vi a) {
    return _mm256_castsi256_ps(a);
}
SIMD_FN vf vf_cvt(vi a) {
    return _mm256_cvtepi32_ps(a);
}
SIMD_FN vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
SIMD_FN void vf_store(float *p, vf a) {
    _mm256_storeu_ps(p, a);
}
SIMD_FN vf vf_set1(float x) {
    return _mm256_set1_ps(x);
}
SIMD_FN vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
SIMD_FN vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
SIMD_FN vf vf_fnma(vf a, vf b, vf c) {
    return _mm256_fnmadd_ps(a, b, c);
}
SIMD_FN vf vf_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
SIMD_FN vf vf_f16_low(vi a) {
    a = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
    a = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, a), 0xd8);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(a));
}

#endif

#if PERI_HALVES
/* 8 x 8 numbers. */
SIMD_FN void transpose8(__m256 r[8]) {
    __m256 t[8], u[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}
#endif

#if PERI_VNNI && !defined(PERI_NEON)
/* acc + the products of weights' bytes, as vi_dot_weights makes them, with the i-th four of the
 * activations at q; i is a literal. */
SIMD_FN vi vi_dot_at(vi acc, vi w, const int8_t *q, int i) {
    int32_t x;
    memcpy(&x, q + 4 * i, 4);
    return vi_dot(acc, w, vi_set1(x));
}
/* Signed bytes as weights: plus PERI_DOT_PLUS, which act8.off takes away. */
SIMD_FN vi vi_dot_weights(vi s8) {
    return vi_xor(s8, vi_set1_8(0x80));
}
#endif
#endif
