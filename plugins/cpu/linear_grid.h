/* SPDX-License-Identifier: MIT
 *
 * linear_grid.h - 64 columns of one row of IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS and IQ3_S as bytes
 * without signs and a mask of signs; for linear_token.c.  Block layouts: ref_dequant_code.c.  The
 * factors that expand.c moves from the scales into d are moved likewise, so that the integers are
 * the same. */
#ifndef PERI_CPU_LINEAR_GRID_H
#define PERI_CPU_LINEAR_GRID_H

#include "linear_unpack.h"

SIMD_FN uint32_t load16(const uint8_t *p) {
    uint16_t x;
    memcpy(&x, p, 2);
    return x;
}
SIMD_FN uint32_t load32(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

/* What f16 d is multiplied with. */
SIMD_FN float grid_factor(uint16_t dtype) {
    return dtype == PERI_CPU_IQ3_S ? 1.0f : dtype == PERI_CPU_IQ3_XXS ? 0.25f : 0.125f;
}

/* ---- signs: bit i is that of column 64 c + i ---- */

/* Bytes of seven bits: the eighth makes the number of set bits even (cpu_signs7). */
SIMD_FN uint64_t even_bytes(uint64_t seven) {
    const uint64_t each = 0x0101010101010101u;
    uint64_t x = seven ^ (seven >> 4 & 0x0f * each);
    x ^= x >> 2 & 0x3f * each;
    x ^= x >> 1 & 0x7f * each;
    return seven | (x & each) << 7;
}
/* 28 bits to four bytes of seven. */
SIMD_FN uint32_t spread7(uint32_t x) {
    return (x & 0x7f) | (x << 1 & 0x7f00) | (x << 2 & 0x7f0000) | (x << 3 & 0x7f000000);
}

SIMD_FN uint64_t grid_signs(uint16_t dtype, const uint8_t *p, int c) {
    uint64_t x;
    if (dtype == PERI_CPU_IQ2_S || dtype == PERI_CPU_IQ3_S) {
        memcpy(&x, p + (dtype == PERI_CPU_IQ2_S ? 34 : 74) + 8 * c, 8);
        return x;
    }
    if (dtype == PERI_CPU_IQ2_XS) {
        __m128i code = _mm_loadu_si128((const __m128i *)(p + 2 + 16 * c));
        code = _mm_srli_epi16(code, 9);
        return even_bytes((uint64_t)_mm_cvtsi128_si64(_mm_packus_epi16(code, code)));
    }
    const uint8_t *at = dtype == PERI_CPU_IQ2_XXS ? p + 6 + 16 * c : p + 66 + 8 * c;
    uint32_t a = load32(at), b = load32(at + (dtype == PERI_CPU_IQ2_XXS ? 8 : 4));
    return even_bytes(spread7(a) | (uint64_t)spread7(b) << 32);
}

/* ---- magnitudes ---- */

/* Eight bytes, columns 64 c + 8 l. */
SIMD_FN int64_t eight(uint16_t dtype, const uint8_t *p, int c, int l) {
    int s = 2 * c + l / 4, i = l % 4; /* i-th eight of sub-block s of 32 */
    const uint8_t *q;
    uint32_t h;
    switch (dtype) {
    case PERI_CPU_IQ2_XXS:
        return (int64_t)cpu_grid_iq2_xxs[p[2 + 8 * s + i]];
    case PERI_CPU_IQ2_XS:
        return (int64_t)cpu_grid_iq2_xs[load16(p + 2 + 16 * c + 2 * l) & 511];
    case PERI_CPU_IQ2_S:
        h = (uint32_t)p[66 + s] << 8 >> 2 * i & 0x300;
        return (int64_t)cpu_grid_iq2_s[p[2 + 4 * s + i] | h];
    case PERI_CPU_IQ3_XXS:
        q = p + 2 + 8 * s + 2 * i;
        return (int64_t)(cpu_grid_iq3_xxs[q[0]] | (uint64_t)cpu_grid_iq3_xxs[q[1]] << 32);
    default:
        q = p + 2 + 8 * s + 2 * i;
        h = (uint32_t)p[66 + s] >> 2 * i;
        return (int64_t)(cpu_grid_iq3_s[q[0] | (h & 1) << 8] |
                         (uint64_t)cpu_grid_iq3_s[q[1] | (h & 2) << 7] << 32);
    }
}
SIMD_FN vi grid_magnitudes(uint16_t dtype, const uint8_t *p, int c) {
    return _mm512_setr_epi64(eight(dtype, p, c, 0), eight(dtype, p, c, 1), eight(dtype, p, c, 2),
                             eight(dtype, p, c, 3), eight(dtype, p, c, 4), eight(dtype, p, c, 5),
                             eight(dtype, p, c, 6), eight(dtype, p, c, 7));
}

/* ---- scales of 16 columns ---- */

/* Eight numbers of four bits as bytes: low nibbles first. */
SIMD_FN __m128i nibbles8(const uint8_t *p) {
    __m128i x = _mm_loadl_epi64((const __m128i *)p), low = _mm_set1_epi8(15);
    return _mm_unpacklo_epi8(_mm_and_si128(x, low), _mm_and_si128(_mm_srli_epi16(x, 4), low));
}

/* Twice the number and 1. */
SIMD_FN __m128i grid_scales(uint16_t dtype, const uint8_t *p) {
    __m128i x;
    if (dtype == PERI_CPU_IQ2_XS || dtype == PERI_CPU_IQ2_S)
        x = nibbles8(p + (dtype == PERI_CPU_IQ2_XS ? 66 : 74));
    else if (dtype == PERI_CPU_IQ3_S) {
        uint8_t four[8] = {p[106], p[107], p[108], p[109]};
        x = nibbles8(four);
        x = _mm_unpacklo_epi8(x, x);
    } else {
        uint64_t v = 0;
#pragma GCC unroll 8
        for (int s = 0; s < 8; s++)
            v |= (uint64_t)(p[dtype == PERI_CPU_IQ2_XXS ? 9 + 8 * s : 69 + 4 * s] >> 4) << 8 * s;
        x = _mm_cvtsi64_si128((int64_t)v);
        x = _mm_unpacklo_epi8(x, x);
    }
    return _mm_add_epi8(_mm_add_epi8(x, x), _mm_set1_epi8(1));
}

#endif
