/* SPDX-License-Identifier: MIT
 *
 * simd_neon.h - the vocabulary of simd.h on aarch64: v16 is four registers, vi and vf are one.
 * Part of simd.h, where what each function means is said.
 *
 * Weights of a dot product are signed bytes here, not unsigned ones, because SDOT has no other
 * kind; all unsigned weights are below 128, so only those of the signed types differ
 * (vi_dot_weights).  Without SDOT the products of two neighbours are summed in int16: 2 * 128 * 127
 * fits.  The vectors' comparisons are written as select(a > b), since FMAX takes a NaN from either
 * side. */
#ifndef PERI_CPU_SIMD_NEON_H
#define PERI_CPU_SIMD_NEON_H

#include <arm_neon.h>

/* ---- v16 ---- */

typedef struct v16 {
    float32x4_t a, b, c, d;
} v16;
#define V16_1(NAME, OP)                                                                            \
    SIMD_FN v16 NAME(v16 x) {                                                                      \
        return (v16){OP(x.a), OP(x.b), OP(x.c), OP(x.d)};                                          \
    }
#define V16_2(NAME, OP)                                                                            \
    SIMD_FN v16 NAME(v16 x, v16 y) {                                                               \
        return (v16){OP(x.a, y.a), OP(x.b, y.b), OP(x.c, y.c), OP(x.d, y.d)};                      \
    }
#define V16_3(NAME, OP)                                                                            \
    SIMD_FN v16 NAME(v16 x, v16 y, v16 z) {                                                        \
        return (v16){OP(z.a, x.a, y.a), OP(z.b, x.b, y.b), OP(z.c, x.c, y.c), OP(z.d, x.d, y.d)};  \
    }

SIMD_FN v16 v16_set1(float x) {
    float32x4_t v = vdupq_n_f32(x);
    return (v16){v, v, v, v};
}
SIMD_FN v16 v16_load(const float *p) {
    return (v16){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
SIMD_FN void v16_store(float *p, v16 x) {
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
    vst1q_f32(p + 8, x.c);
    vst1q_f32(p + 12, x.d);
}
V16_2(v16_add, vaddq_f32)
V16_2(v16_sub, vsubq_f32)
V16_2(v16_mul, vmulq_f32)
V16_2(v16_div, vdivq_f32)
V16_3(v16_fma, vfmaq_f32)
V16_3(v16_fnma, vfmsq_f32)
V16_1(v16_rint, vrndnq_f32)
V16_1(v16_abs, vabsq_f32)
SIMD_FN float32x4_t neon_max(float32x4_t x, float32x4_t y) {
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}
SIMD_FN float32x4_t neon_min(float32x4_t x, float32x4_t y) {
    return vbslq_f32(vcltq_f32(x, y), x, y);
}
V16_2(v16_max, neon_max)
V16_2(v16_min, neon_min)
/* A NaN converts to 0 here, to INT32_MIN on x86: 2^0 either way, whose product with it is a NaN. */
SIMD_FN float32x4_t neon_pow2(float32x4_t n) {
    int32x4_t e = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(e, 23));
}
V16_1(v16_pow2, neon_pow2)
SIMD_FN v16 v16_scale2(v16 p, v16 n) {
    return v16_mul(p, v16_pow2(n));
}
SIMD_FN float32x4_t neon_copysign(float32x4_t a, float32x4_t s) {
    return vbslq_f32(vdupq_n_u32(0x80000000u), s, a);
}
V16_2(v16_copysign, neon_copysign)
SIMD_FN v16 v16_select_lt(v16 a, v16 b, v16 x, v16 y) {
    return (v16){vbslq_f32(vcltq_f32(a.a, b.a), x.a, y.a), vbslq_f32(vcltq_f32(a.b, b.b), x.b, y.b),
                 vbslq_f32(vcltq_f32(a.c, b.c), x.c, y.c),
                 vbslq_f32(vcltq_f32(a.d, b.d), x.d, y.d)};
}
SIMD_FN float32x4_t neon_load_f16(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
SIMD_FN v16 v16_load_f16(const uint16_t *p) {
    return (v16){neon_load_f16(p), neon_load_f16(p + 4), neon_load_f16(p + 8),
                 neon_load_f16(p + 12)};
}
SIMD_FN float32x4_t neon_load_bf16(const uint16_t *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
SIMD_FN v16 v16_load_bf16(const uint16_t *p) {
    return (v16){neon_load_bf16(p), neon_load_bf16(p + 4), neon_load_bf16(p + 8),
                 neon_load_bf16(p + 12)};
}
SIMD_FN v16 v16_from_i8(int8x16_t x) {
    int16x8_t lo = vmovl_s8(vget_low_s8(x)), hi = vmovl_high_s8(x);
    return (v16){vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_high_s16(lo)),
                 vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_high_s16(hi))};
}
SIMD_FN void neon_store_f16(uint16_t *p, float32x4_t x) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}
SIMD_FN void v16_store_f16(uint16_t *p, v16 x) {
    neon_store_f16(p, x.a);
    neon_store_f16(p + 4, x.b);
    neon_store_f16(p + 8, x.c);
    neon_store_f16(p + 12, x.d);
}
SIMD_FN float v16_sum(v16 x) {
    float32x4_t s = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    float32x2_t t = vadd_f32(vget_low_f32(s), vget_high_f32(s));
    return vpadds_f32(t);
}
SIMD_FN float v16_top(v16 x) {
    float32x4_t s = neon_max(neon_max(x.a, x.c), neon_max(x.b, x.d));
    float a = vgetq_lane_f32(s, 0), b = vgetq_lane_f32(s, 1), c = vgetq_lane_f32(s, 2),
          d = vgetq_lane_f32(s, 3);
    a = a > c ? a : c;
    b = b > d ? b : d;
    return a > b ? a : b;
}

/* ---- native vectors ---- */

enum { NL = 1, W = 4 };
typedef int32x4_t vi;
typedef float32x4_t vf;
SIMD_FN vi vi_load(const void *p) {
    return vreinterpretq_s32_u8(vld1q_u8(p));
}
SIMD_FN vi vi_rows(const uint8_t *p, size_t stride) {
    (void)stride;
    return vi_load(p);
}
SIMD_FN void vi_store(void *p, vi a) {
    vst1q_u8(p, vreinterpretq_u8_s32(a));
}
SIMD_FN vi vi_set1(int32_t x) {
    return vdupq_n_s32(x);
}
SIMD_FN vi vi_set1_8(int x) {
    return vreinterpretq_s32_s8(vdupq_n_s8((int8_t)x));
}
SIMD_FN vi vi_lane_at(const void *p) {
    return vi_load(p);
}
SIMD_FN vi vi_lane4(int32_t a, int32_t b, int32_t c, int32_t d) {
    return (vi){a, b, c, d};
}
SIMD_FN vi vi_and(vi a, vi b) {
    return vandq_s32(a, b);
}
SIMD_FN vi vi_or(vi a, vi b) {
    return vorrq_s32(a, b);
}
SIMD_FN vi vi_andnot(vi a, vi b) {
    return vbicq_s32(b, a);
}
SIMD_FN vi vi_xor(vi a, vi b) {
    return veorq_s32(a, b);
}
#define vi_shl16(a, n) vreinterpretq_s32_u16(vshlq_n_u16(vreinterpretq_u16_s32(a), n))
#define vi_shr16(a, n) vreinterpretq_s32_u16(vshrq_n_u16(vreinterpretq_u16_s32(a), n))
#define vi_sar32(a, n) vshrq_n_s32(a, n)
#define vi_shl32(a, n) vshlq_n_s32(a, n)
#define vi_shr32(a, n) vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), n))
SIMD_FN vi vi_add8(vi a, vi b) {
    return vreinterpretq_s32_s8(vaddq_s8(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}
SIMD_FN vi vi_add16(vi a, vi b) {
    return vreinterpretq_s32_s16(vaddq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
}
SIMD_FN vi vi_add32(vi a, vi b) {
    return vaddq_s32(a, b);
}
SIMD_FN vi vi_max32(vi a, vi b) {
    return vmaxq_s32(a, b);
}
SIMD_FN vi vi_mul32(vi a, vi b) {
    return vmulq_s32(a, b);
}

/* acc + the products of w's dwords' bytes with four activations, both signed: */
#if defined(__ARM_FEATURE_DOTPROD)
#define NEON_DOT(acc, w, a, lane) vdotq_laneq_s32(acc, vreinterpretq_s8_s32(w), a, lane)
#else
SIMD_FN vi neon_dot(vi acc, vi w, int8x16_t a) {
    int8x16_t x = vreinterpretq_s8_s32(w);
    int16x8_t lo = vmull_s8(vget_low_s8(x), vget_low_s8(a)), hi = vmull_high_s8(x, a);
    return vpadalq_s16(acc, vpaddq_s16(lo, hi));
}
#define NEON_DOT(acc, w, a, lane)                                                                  \
    neon_dot(acc, w, vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(a), lane)))
#endif
/* the i-th four of those at q, a multiple of 16 of them; i is a literal.  Four dot products share a
 * load, and the instruction takes its four bytes from a quarter of the register. */
SIMD_FN vi vi_dot_at(vi acc, vi w, const int8_t *q, int i) {
    int8x16_t a = vld1q_s8(q + i / 4 * 16);
    switch (i % 4) {
    case 0:
        return NEON_DOT(acc, w, a, 0);
    case 1:
        return NEON_DOT(acc, w, a, 1);
    case 2:
        return NEON_DOT(acc, w, a, 2);
    default:
        return NEON_DOT(acc, w, a, 3);
    }
}
SIMD_FN vi vi_dot16(vi acc, vi a, vi b) {
    int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
    int32x4_t lo = vmull_s16(vget_low_s16(x), vget_low_s16(y)), hi = vmull_high_s16(x, y);
    return vaddq_s32(acc, vpaddq_s32(lo, hi));
}
SIMD_FN vi vi_dot_weights(vi s8) {
    return s8;
}

SIMD_FN vi vi_shuffle8(vi a, vi idx) {
    return vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(a), vreinterpretq_u8_s32(idx)));
}
SIMD_FN vi vi_eq0_8(vi a) {
    return vreinterpretq_s32_u8(vceqzq_u8(vreinterpretq_u8_s32(a)));
}
SIMD_FN vi vi_unlo32(vi a, vi b) {
    return vzip1q_s32(a, b);
}
SIMD_FN vi vi_unhi32(vi a, vi b) {
    return vzip2q_s32(a, b);
}
SIMD_FN vi vi_unlo64(vi a, vi b) {
    return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
SIMD_FN vi vi_unhi64(vi a, vi b) {
    return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
SIMD_FN vf vf_bits(vi a) {
    return vreinterpretq_f32_s32(a);
}
SIMD_FN vf vf_cvt(vi a) {
    return vcvtq_f32_s32(a);
}
SIMD_FN vf vf_load(const float *p) {
    return vld1q_f32(p);
}
SIMD_FN void vf_store(float *p, vf a) {
    vst1q_f32(p, a);
}
SIMD_FN vf vf_set1(float x) {
    return vdupq_n_f32(x);
}
SIMD_FN vf vf_mul(vf a, vf b) {
    return vmulq_f32(a, b);
}
SIMD_FN vf vf_fma(vf a, vf b, vf c) {
    return vfmaq_f32(c, a, b);
}
SIMD_FN vf vf_fnma(vf a, vf b, vf c) {
    return vfmsq_f32(c, a, b);
}
SIMD_FN vf vf_load_f16(const uint16_t *p) {
    return neon_load_f16(p);
}
/* The f16 at p of W rows, `stride` bytes apart, straight into the lanes. */
SIMD_FN vf vf_rows_f16(const uint8_t *p, size_t stride) {
    uint16_t h[4];
#pragma GCC unroll 4
    for (size_t r = 0; r < 4; r++)
        memcpy(&h[r], p + r * stride, 2);
    return vcvt_f32_f16(vreinterpret_f16_u16((uint16x4_t){h[0], h[1], h[2], h[3]}));
}
SIMD_FN vf vf_f16_low(vi a) {
    return vcvt_f32_f16(vreinterpret_f16_s16(vmovn_s32(a)));
}

#endif
