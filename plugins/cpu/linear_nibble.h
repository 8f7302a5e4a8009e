/* SPDX-License-Identifier: MIT
 *
 * linear_nibble.h - weights of four bits for linear_token.c: Q4_0, IQ4_NL, MXFP4 and IQ4_XS, four
 * blocks of 32 columns at a time.
 *
 * A block is 16 bytes, columns 0 to 15 in the low nibbles and 16 to 31 in the high ones.  With the
 * bytes of four blocks in the four 128-bit lanes of a register, the low nibbles of all are one
 * dot product and the high nibbles another added to it: four partial sums to a block, where whole
 * blocks of 32 bytes would leave eight and take twice the shuffles to add up.  Activations are laid
 * out likewise, once for 16 rows. */
#ifndef PERI_CPU_LINEAR_NIBBLE_H
#define PERI_CPU_LINEAR_NIBBLE_H

#include "linear_scales.h"
#include "linear_unpack.h"

#define IS_NIBBLE(dtype)                                                                           \
    ((dtype) == PERI_CPU_Q4_0 || (dtype) == PERI_CPU_IQ4_NL || (dtype) == PERI_CPU_MXFP4)

/* 128 columns of activations: lane b holds columns 0 to 15 of block b, and 16 to 31. */
SIMD_FN void quad_of(const int8_t *q, vi out[2]) {
    vi a = vi_load(q), b = vi_load(q + 64);
    out[0] = _mm512_shuffle_i32x4(a, b, 0x88);
    out[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
}

/* Four blocks of 18 bytes, 72 in all: the first 64 bytes. */
SIMD_FN vi load18(const uint8_t *p) {
    vi x = vi_load(p);
    __asm__("" : "+v"(x)); /* once: GCC 12 loads it anew for each use */
    return x;
}

/* Their 16 bytes of nibbles each; x: load18(p). */
SIMD_FN vi quad18(const uint8_t *p, vi x) {
    static const uint16_t at[32] = {1,  2,  3,  4,  5,  6,  7,  8,  10, 11, 12, 13, 14, 15, 16, 17,
                                    19, 20, 21, 22, 23, 24, 25, 26, 28, 29, 30, 31, 0,  0,  0,  0};
    int64_t rest;
    memcpy(&rest, p + 64, sizeof rest);
    return _mm512_mask_set1_epi64(_mm512_permutexvar_epi16(vi_load(at), x), 0x80, rest);
}

/* The f16 that begin 16 blocks, block 4 (i % 4) + i / 4 in lane i. */
SIMD_FN vf scales18(const vi x[4]) {
    static const uint16_t at[32] = {0, 0, 0, 0, 9, 9, 9, 9, 18, 18, 18, 18, 27, 27, 27, 27};
    vi index = vi_load(at), d = _mm512_permutexvar_epi16(index, x[0]);
    d = _mm512_mask_permutexvar_epi16(d, 0x2222, index, x[1]);
    d = _mm512_mask_permutexvar_epi16(d, 0x4444, index, x[2]);
    d = _mm512_mask_permutexvar_epi16(d, 0x8888, index, x[3]);
    return _mm512_cvtph_ps(_mm512_castsi512_si256(d));
}

/* The same of four blocks of 17 bytes: words from byte 1 hold blocks 0 and 2, from byte 4 blocks 1
 * and 3. */
SIMD_FN vi quad17(const uint8_t *p) {
    static const uint16_t at[32] = {0,  1,  2,  3,  4,  5,  6,  7,  39, 40, 41, 42, 43, 44, 45, 46,
                                    17, 18, 19, 20, 21, 22, 23, 24, 56, 57, 58, 59, 60, 61, 62, 63};
    return _mm512_permutex2var_epi16(vi_load(p + 1), vi_load(at), vi_load(p + 4));
}

/* Unsigned weights of all codes: what a type's offset in act8.off takes away is added. */
SIMD_FN vi nibble_weights(uint16_t dtype) {
    const int8_t *code = dtype == PERI_CPU_MXFP4 ? cpu_code_fp4 : cpu_code_iq4;
    vi x = vi_lane(_mm_loadu_si128((const __m128i *)code));
    return dtype == PERI_CPU_MXFP4 ? vi_add8(x, vi_set1_8(12)) : vi_xor(x, vi_set1_8(0x80));
}

/* start + four partial sums of each of four blocks. */
SIMD_FN vi quad_dot(uint16_t dtype, vi start, vi bytes, const vi x[2]) {
    vi low = vi_and(bytes, vi_set1_8(15)), high = vi_and(vi_shr16(bytes, 4), vi_set1_8(15));
    if (dtype != PERI_CPU_Q4_0) {
        vi weights = nibble_weights(dtype);
        low = vi_shuffle8(weights, low);
        high = vi_shuffle8(weights, high);
    }
    return vi_dot(vi_dot(start, low, x[0]), high, x[1]);
}

/* MXFP4's scales of 16 blocks in the same order (cpu_e8m0_half). */
SIMD_FN vf mxfp4_scales(const uint8_t *p) {
    static const uint16_t at[32] = {0, 34, 0, 34, 8, 42, 8, 42, 17, 51, 17, 51, 25, 59, 25, 59};
    const vi odd = _mm512_setr_epi32(0, 0, 0, 0, 8, 8, 8, 8, 0, 0, 0, 0, 8, 8, 8, 8);
    vi index = vi_load(at);
    vi a = _mm512_permutex2var_epi16(vi_load(p), index, vi_load(p + 64));
    vi b = _mm512_permutex2var_epi16(vi_load(p + 136), index, vi_load(p + 200));
    a = _mm512_mask_blend_epi16(0xcccc, a, b);
    vi e = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(a));
    e = vi_and(_mm512_srlv_epi32(e, odd), vi_set1(255));
    vi bits = _mm512_slli_epi32(_mm512_sub_epi32(e, vi_set1(1)), 23);
    __mmask16 is_small = _mm512_cmplt_epi32_mask(e, vi_set1(2));
    return vf_bits(_mm512_mask_sllv_epi32(bits, is_small, vi_set1(0x200000), e));
}

/* ---- IQ4_XS ---- */

/* 256 activations: quads of the first and last four blocks, and what their sums start with. */
typedef struct nibble256 {
    vi x[2][2], start[2];
} nibble256;

SIMD_FN void nibble256_of(const act8 *a, nibble256 *out) {
    vi off = vi_load(a->off);
    const vi first = _mm512_setr_epi64(0, 0, 1, 0, 2, 0, 3, 0);
    for (int i = 0; i < 2; i++) {
        quad_of(a->q + 128 * i, out->x[i]);
        out->start[i] = _mm512_maskz_permutexvar_epi64(
            0x55, _mm512_add_epi64(first, _mm512_set1_epi64(4 * i)), off);
    }
}

/* sum_j sc_j sum_k q a as 16 partial sums. */
SIMD_FN vi iq4_xs_sums(const uint8_t *p, const nibble256 *a) {
    const vi first = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    vi t = vi_set1(0), scales = _mm512_castsi256_si512(iq4_xs_scales(p));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vi s = quad_dot(PERI_CPU_IQ4_XS, a->start[i], vi_load(p + 8 + 64 * i), a->x[i]);
        vi at = vi_add32(first, vi_set1(4 * i)); /* four lanes of each of four blocks */
        t = vi_add32(t, vi_mul32(s, _mm512_permutexvar_epi32(at, scales)));
    }
    return t;
}

#endif
