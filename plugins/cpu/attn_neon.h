/* SPDX-License-Identifier: MIT
 *
 * attn_neon.h - what attn_widen.h says of load_block and transpose, on aarch64.  Part of it. */
#ifndef PERI_CPU_ATTN_NEON_H
#define PERI_CPU_ATTN_NEON_H

#include "fast.h"
#include "simd.h"

SIMD_FN v16 load_block(uint16_t dtype, const uint8_t *row, int32_t i) {
    const uint8_t *b = row + i / 32 * (dtype == PERI_CPU_Q8_0 ? 34 : 18);
    uint16_t half;
    int8x16_t x;
    memcpy(&half, b, sizeof half);
    v16 d = v16_set1(f16_to_f32(half));
    if (dtype == PERI_CPU_Q8_0) {
        x = vreinterpretq_s8_u8(vld1q_u8(b + 2 + i % 32));
    } else {
        uint8x16_t q = vld1q_u8(b + 2);
        q = i % 32 ? vshrq_n_u8(q, 4) : vandq_u8(q, vdupq_n_u8(15));
        x = vsubq_s8(vreinterpretq_s8_u8(q), vdupq_n_s8(8));
    }
    return v16_mul(d, v16_from_i8(x));
}

SIMD_FN void transpose4(float32x4_t *a, float32x4_t *b, float32x4_t *c, float32x4_t *d) {
    vi t0 = vreinterpretq_s32_f32(vzip1q_f32(*a, *b)),
       t1 = vreinterpretq_s32_f32(vzip2q_f32(*a, *b));
    vi t2 = vreinterpretq_s32_f32(vzip1q_f32(*c, *d)),
       t3 = vreinterpretq_s32_f32(vzip2q_f32(*c, *d));
    *a = vf_bits(vi_unlo64(t0, t2));
    *b = vf_bits(vi_unhi64(t0, t2));
    *c = vf_bits(vi_unlo64(t1, t3));
    *d = vf_bits(vi_unhi64(t1, t3));
}
#define SWAP(x, y)                                                                                 \
    do {                                                                                           \
        float32x4_t t_ = x;                                                                        \
        x = y;                                                                                     \
        y = t_;                                                                                    \
    } while (0)
/* 4 x 4 pieces of 4 x 4: each transposed, then those beside the diagonal change places. */
SIMD_FN void transpose(v16 r[16]) {
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        transpose4(&r[i].a, &r[i + 1].a, &r[i + 2].a, &r[i + 3].a);
        transpose4(&r[i].b, &r[i + 1].b, &r[i + 2].b, &r[i + 3].b);
        transpose4(&r[i].c, &r[i + 1].c, &r[i + 2].c, &r[i + 3].c);
        transpose4(&r[i].d, &r[i + 1].d, &r[i + 2].d, &r[i + 3].d);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        SWAP(r[i].b, r[4 + i].a);
        SWAP(r[i].c, r[8 + i].a);
        SWAP(r[i].d, r[12 + i].a);
        SWAP(r[4 + i].c, r[8 + i].b);
        SWAP(r[4 + i].d, r[12 + i].b);
        SWAP(r[8 + i].d, r[12 + i].c);
    }
}
#undef SWAP

#endif
