/* SPDX-License-Identifier: MIT
 *
 * grids.h - the code tables of the weight types that have some: grids of the IQ types, the sixteen
 * values of the four-bit codes, and scales and signs in a few bits.  Used by the reference decoders
 * and by the expanders of the fast levels (expand.h). */
#ifndef PERI_CPU_GRIDS_H
#define PERI_CPU_GRIDS_H

#include <stdint.h>
#include <string.h>

/* Eight signed bytes an entry, element 0 in the lowest. */
extern const uint64_t cpu_grid_iq2_xxs[256], cpu_grid_iq2_xs[512], cpu_grid_iq2_s[1024];
extern const uint64_t cpu_grid_iq1[2048]; /* IQ1_S and IQ1_M; values -1, 0, 1 */
/* Four bytes an entry. */
extern const uint32_t cpu_grid_iq3_xxs[256], cpu_grid_iq3_s[512];

/* Value of each four-bit code. */
extern const int8_t cpu_code_iq4[16]; /* IQ4_NL, IQ4_XS */
extern const int8_t cpu_code_fp4[16]; /* MXFP4, NVFP4: E2M1, twice the number */

/* Byte k is 0xff where bit k of the index is set; the second table takes seven sign bits and adds
 * the eighth. */
extern const uint64_t cpu_mask8[256], cpu_mask7[128];

/* Seven sign bits and an eighth that makes the number of set bits even. */
static inline uint32_t cpu_signs7(uint32_t seven) {
    uint32_t x = seven ^ seven >> 4;
    x ^= x >> 2;
    x ^= x >> 1;
    return seven | (x & 1) << 7;
}

static inline float cpu_float_of_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* MXFP4's scale: 2^(e - 128), half of E8M0's value as cpu_code_fp4 is doubled.  The smallest two
 * are denormal; 255 is no NaN here. */
static inline float cpu_e8m0_half(uint8_t e) {
    return cpu_float_of_bits(e < 2 ? 0x200000u << e : (uint32_t)(e - 1) << 23);
}

/* NVFP4's scale: E4M3 without its sign, bias 7, halved likewise; 0x7f is 0. */
static inline float cpu_e4m3_half(uint8_t e) {
    uint32_t exponent = e >> 3 & 15, mantissa = e & 7;
    if (e == 0x7f) return 0.0f;
    if (exponent == 0) return (float)mantissa * 0x1p-10f;
    return cpu_float_of_bits((exponent + 119) << 23 | mantissa << 20);
}

#endif
