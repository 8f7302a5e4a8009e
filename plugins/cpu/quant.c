/* SPDX-License-Identifier: MIT
 *
 * quant.c - activations to int8 with one f32 scale per 32 or 256 elements, and the integer sums the
 * products need (linear.h).  Compiled per instruction set; every operation is exact or one IEEE
 * rounding per element, so all sets give the same bytes.
 *
 * d = amax / 127, q = rint(x * fl(1 / d)).  The largest magnitude is found on the bit patterns
 * without sign, so that a NaN counts as largest: a span with a NaN or infinity gets d = NaN and
 * zeros, which makes the results that depend on it NaN.  A span so small that d is below 2^-100
 * counts as zeros: products with scales of weights stay above what underflows (linear_amx.c).  So
 * are keys and values of type Q8_0, whose d is then rounded to f16. */
#include "simd.h"

#include "fast.h"

#if defined(PERI_AVX512) && PERI_VNNI
#define HAS_WHOLE 1 /* 256 elements at once, and their sums by a dot product */
#else
#define HAS_WHOLE 0
#endif

#define LEAST_SCALE 0x1p-100f

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
    if (*d >= LEAST_SCALE) return inv;
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

#if !HAS_WHOLE
/* Of 16 elements: the sum of those with k mod 4 in {0, 1}, and of the others. */
static void pair_sum(const int8_t *q, int16_t out[2]) {
    __m128i s = _mm_maddubs_epi16(_mm_set1_epi8(1), _mm_loadu_si128((const __m128i *)q));
    s = _mm_add_epi16(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi16(s, _mm_shuffle_epi32(s, 0xb1));
    int32_t x = _mm_cvtsi128_si32(s);
    memcpy(out, &x, 4);
}
#endif

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

#if HAS_WHOLE

/* Lane 4 i + j of the result: f over the four lanes of part j of v[i]. */
#define OF_PARTS(NAME, F)                                                                          \
    SIMD_FN vi NAME(const vi v[4]) {                                                               \
        vi a = F(vi_unlo32(v[0], v[1]), vi_unhi32(v[0], v[1]));                                    \
        vi b = F(vi_unlo32(v[2], v[3]), vi_unhi32(v[2], v[3]));                                    \
        vi c = F(vi_unlo64(a, b), vi_unhi64(a, b)); /* [part][i] */                                \
        const vi order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);  \
        return _mm512_permutexvar_epi32(order, c);                                                 \
    }
OF_PARTS(sum_parts, vi_add32)
OF_PARTS(max_parts, _mm512_max_epi32)

/* Lanes 2 i and 2 i + 1 to lane i. */
SIMD_FN __m256i even_lanes(vi x) {
    return _mm512_cvtepi64_epi32(x);
}
SIMD_FN __m256i odd_lanes(vi x) {
    return _mm512_cvtepi64_epi32(_mm512_srli_epi64(x, 32));
}

SIMD_FN void fill_sums(const linear_type *t, act8 *a) {
    int o = t->is_wide ? -PERI_DOT_PLUS : -t->offset;
    vi q[4];
    for (int i = 0; i < 4; i++)
        q[i] = _mm512_dpbusd_epi32(vi_set1(0), vi_set1_8(1), vi_load(a->q + 64 * i));
    vi of16 = sum_parts(q);
    __m256i of32 = _mm256_add_epi32(even_lanes(of16), odd_lanes(of16));
    if (t->span == 256 || t->has_two)
        vi_store(a->off, _mm512_mullo_epi32(of16, vi_set1(o)));
    else
        _mm256_storeu_si256((__m256i *)a->off, _mm256_mullo_epi32(of32, _mm256_set1_epi32(o)));
    if (t->span == 32)
        _mm256_storeu_si256((__m256i *)a->sum, of32);
    else if (t->min_sub == 16)
        _mm256_storeu_si256((__m256i *)a->sum, _mm512_cvtepi32_epi16(of16));
    else
        _mm_storeu_si128((__m128i *)a->sum, _mm256_cvtepi32_epi16(of32));
}

/* The bits of the largest magnitude of each 32 of 256. */
SIMD_FN __m256i amax_of_32(const float *x) {
    vi m[8], mask = vi_set1(0x7fffffff), half[4];
    for (int i = 0; i < 8; i++)
        m[i] = _mm512_max_epi32(vi_and(mask, vi_load(x + 32 * i)),
                                vi_and(mask, vi_load(x + 32 * i + 16)));
    half[0] = half[2] = max_parts(m);
    half[1] = half[3] = max_parts(m + 4);
    return _mm512_castsi512_si256(max_parts(half));
}

SIMD_FN void round_vectors(const float *x, int n, float inv, int8_t *q) {
    for (int i = 0; i < n; i++) {
        vi v = _mm512_cvtps_epi32(vf_mul(vf_load(x + 16 * i), vf_set1(inv)));
        _mm_storeu_si128((__m128i *)(q + 16 * i), _mm512_cvtepi32_epi8(v));
    }
}

/* 256 elements, span_scale for eight spans of 32 at once.  0: one of them is to be zeros, nothing
 * was done. */
SIMD_FN int quantize_32(const float *x, act8 *a) {
    __m256i bits = amax_of_32(x), limit = _mm256_set1_epi32(0x7f800000);
    __m256 d = _mm256_div_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(127.0f));
    __m256 inv = _mm256_div_ps(_mm256_set1_ps(1.0f), d);
    __mmask8 is_finite = _mm256_cmp_epi32_mask(bits, limit, _MM_CMPINT_LT);
    if (_mm256_mask_cmp_ps_mask(is_finite, d, _mm256_set1_ps(LEAST_SCALE), _CMP_GE_OQ) != 0xff)
        return 0;
    float each[8];
    _mm256_storeu_ps(a->dx, d);
    _mm256_storeu_ps(each, inv);
    for (int s = 0; s < 8; s++)
        round_vectors(x + 32 * s, 2, each[s], a->q + 32 * s);
    return 1;
}

SIMD_FN int quantize_256(const float *x, act8 *a) {
    vi m = vi_set1(0), mask = vi_set1(0x7fffffff);
    for (int i = 0; i < 16; i++)
        m = _mm512_max_epi32(m, vi_and(mask, vi_load(x + 16 * i)));
    float inv = span_scale((uint32_t)_mm512_reduce_max_epi32(m), &a->dx[0]);
    if (inv == 0.0f) return 0;
    round_vectors(x, 16, inv, a->q);
    return 1;
}

/* 0: it has to be done span by span. */
SIMD_FN int quantize_whole(const linear_type *t, const float *x, act8 *a) {
    return t->span == 32 ? quantize_32(x, a) : quantize_256(x, a);
}

#else

static int quantize_whole(const linear_type *t, const float *x, act8 *a) {
    (void)t;
    (void)x;
    (void)a;
    return 0;
}

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

#endif

void PERI_ISA_FN(quantize_row)(const linear_type *t, const float *x, int64_t n, uint8_t *out,
                               size_t kb_stride) {
    for (int64_t k = 0; k < n; k += LINEAR_K, out += kb_stride, x += LINEAR_K) {
        int width = n - k < LINEAR_K ? (int)(n - k) : LINEAR_K;
        act16 *wide = (act16 *)out;
        int is_wide = t->is_wide && !PERI_VNNI;
        act8 narrow, *a = is_wide ? &narrow : (act8 *)out;
        if (width < LINEAR_K) memset(a, 0, sizeof *a);
        int done = width == LINEAR_K && quantize_whole(t, x, a);
        for (int s = 0; s < width && !done; s += t->span) {
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
