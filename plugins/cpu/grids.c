/* SPDX-License-Identifier: MIT
 *
 * grids.c - the books of grids.def with their numbers turned into values, at compile time. */
#include "grids.h"

/* Byte k of an entry = value of number k. */
#define TWO_BITS(e, k) ((e) >> (2 * (k)) & 3)
#define DIGIT(e, k)    ((e) >> (4 * (k)) & 15)
#define EIGHT(e, VALUE)                                                                            \
    (VALUE(e, 0) | VALUE(e, 1) << 8 | VALUE(e, 2) << 16 | VALUE(e, 3) << 24 | VALUE(e, 4) << 32 |  \
     VALUE(e, 5) << 40 | VALUE(e, 6) << 48 | VALUE(e, 7) << 56)
#define FOUR(e, VALUE) (VALUE(e, 0) | VALUE(e, 1) << 8 | VALUE(e, 2) << 16 | VALUE(e, 3) << 24)

/* IQ2: 8, 25, 43.  IQ1: -1, 0, 1 as bytes.  IQ3_XXS: 4, 12, 20 .. 52, and 62.  IQ3_S: 1, 3 .. 15.
 */
#define IQ2_VALUE(e, k) ((uint64_t)(8 + 17 * TWO_BITS(e, k) + (TWO_BITS(e, k) == 2)))
#define IQ1_VALUE(e, k) ((uint64_t)(uint8_t)(TWO_BITS(e, k) - 1))
#define XXS_VALUE(e, k) ((uint32_t)(4 + 8 * DIGIT(e, k) + 2 * (DIGIT(e, k) == 7)))
#define S_VALUE(e, k)   ((uint32_t)(1 + 2 * DIGIT(e, k)))

#define IQ2(e) EIGHT(e, IQ2_VALUE),
#define IQ1(e) EIGHT(e, IQ1_VALUE),
#define XXS(e) FOUR(e, XXS_VALUE),
#define S(e)   FOUR(e, S_VALUE),
#define ROW(ENTRY, a, b, c, d, e, f, g, h)                                                         \
    ENTRY(a) ENTRY(b) ENTRY(c) ENTRY(d) ENTRY(e) ENTRY(f) ENTRY(g) ENTRY(h)

const uint64_t cpu_grid_iq2_xxs[256] = {
#define PERI_GRID_IQ2_XXS(...) ROW(IQ2, __VA_ARGS__)
#include "perigee/grids.def"
};
const uint64_t cpu_grid_iq2_xs[512] = {
#define PERI_GRID_IQ2_XS(...) ROW(IQ2, __VA_ARGS__)
#include "perigee/grids.def"
};
const uint64_t cpu_grid_iq2_s[1024] = {
#define PERI_GRID_IQ2_S(...) ROW(IQ2, __VA_ARGS__)
#include "perigee/grids.def"
};
const uint64_t cpu_grid_iq1[2048] = {
#define PERI_GRID_IQ1(...) ROW(IQ1, __VA_ARGS__)
#include "perigee/grids.def"
};
const uint32_t cpu_grid_iq3_xxs[256] = {
#define PERI_GRID_IQ3_XXS(...) ROW(XXS, __VA_ARGS__)
#include "perigee/grids.def"
};
const uint32_t cpu_grid_iq3_s[512] = {
#define PERI_GRID_IQ3_S(...) ROW(S, __VA_ARGS__)
#include "perigee/grids.def"
};

const int8_t cpu_code_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                 1,    13,   25,  38,  53,  69,  89,  113};
const int8_t cpu_code_fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* ---- masks ---- */

#define BIT_MASK(i, k) ((uint64_t)((i) >> (k)&1) * 255)
#define PARITY(i)      (((i) ^ (i) >> 1 ^ (i) >> 2 ^ (i) >> 3 ^ (i) >> 4 ^ (i) >> 5 ^ (i) >> 6) & 1)
#define MASK8(i)       EIGHT(i, BIT_MASK),
#define MASK7(i)       EIGHT((i) | PARITY(i) << 7, BIT_MASK),
#define UP4(M, i)      M(i) M((i) + 1) M((i) + 2) M((i) + 3)
#define UP16(M, i)     UP4(M, i) UP4(M, (i) + 4) UP4(M, (i) + 8) UP4(M, (i) + 12)
#define UP64(M, i)     UP16(M, i) UP16(M, (i) + 16) UP16(M, (i) + 32) UP16(M, (i) + 48)

const uint64_t cpu_mask8[256] = {UP64(MASK8, 0) UP64(MASK8, 64) UP64(MASK8, 128) UP64(MASK8, 192)};
const uint64_t cpu_mask7[128] = {UP64(MASK7, 0) UP64(MASK7, 64)};
