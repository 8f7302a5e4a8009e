/* SPDX-License-Identifier: MIT
 *
 * linear_scales.h - the scales of one superblock of types that keep them in two parts; for the
 * kernels that take a row at a time, on AVX2 and AVX-512. */
#ifndef PERI_CPU_LINEAR_SCALES_H
#define PERI_CPU_LINEAR_SCALES_H

#include "simd.h"

/* IQ4_XS: of its eight blocks. */
SIMD_FN __m256i iq4_xs_scales(const uint8_t *p) {
    uint16_t high;
    int32_t low;
    memcpy(&high, p + 2, sizeof high);
    memcpy(&low, p + 4, sizeof low);
    const __m256i by4 = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    const __m256i by2 = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    __m256i a = _mm256_srlv_epi32(_mm256_set1_epi32(low), by4);
    __m256i b = _mm256_srlv_epi32(_mm256_set1_epi32(high << 4), by2);
    a = _mm256_or_si256(_mm256_and_si256(a, _mm256_set1_epi32(15)),
                        _mm256_and_si256(b, _mm256_set1_epi32(48)));
    return _mm256_sub_epi32(a, _mm256_set1_epi32(32));
}

/* Q3_K: sixteen signed bytes out of the twelve at p (ref_dequant.c). */
SIMD_FN __m128i q3_k_scales(const uint8_t *p) {
    int32_t top;
    memcpy(&top, p + 8, sizeof top);
    __m128i low = _mm_loadl_epi64((const __m128i *)p);
    low = _mm_and_si128(_mm_unpacklo_epi64(low, _mm_srli_epi16(low, 4)), _mm_set1_epi8(15));
    __m128i high = _mm_srlv_epi32(_mm_set1_epi32(top), _mm_setr_epi32(0, 2, 4, 6));
    high = _mm_slli_epi16(_mm_and_si128(high, _mm_set1_epi8(3)), 4);
    return _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32));
}

#endif
