/* SPDX-License-Identifier: MIT
 *
 * linear_amx.h - what linear_amx.c and linear_amx_few.c share: integer sums of span 32 made floats
 * beside tile products, and weights of span 256 as bytes for tiles.
 *
 * Beside 4 tile products 256 FMAs, multiplications, conversions or VPDPBUSD take 264 cycles, 131
 * without, and 256 additions of floats or integers 148 and 167.  So an integer sum below 2^22 is
 * made a float by adding the bits of MAGIC, and what this is too much leaves with the product: one
 * rounding, of the very product, because MAGIC times a tame scale is exact.
 *
 * A weight of span 256 times its sub-block's scale is an integer, w = sc * q, |w| < 2^14 (6-bit
 * values with int8 scales: 2^12; grids: 2^13), and is put in two planes of signed bytes,
 * w = 128 * hi + lo with lo in 0 .. 127, or, with minima, of unsigned ones, w = 8 * hi + lo.  Then
 * one exact sum leaves the tiles per superblock instead of one per sub-block; minima stay with the
 * vectors. */
#ifndef PERI_CPU_LINEAR_AMX_H
#define PERI_CPU_LINEAR_AMX_H

#include "amx.h"
#include "simd.h"

enum {
    HI_SHIFT = 7,
    HI_SHIFT_MIN = 3 /* of types with minima */
};

/* A product of planes, unsigned those of types with minima: su as B, us as A. */
#define dot256(c, a, b, h, which)                                                                  \
    if ((h).n_min)                                                                                 \
        tile_dot_##which(c, a, b);                                                                 \
    else                                                                                           \
        tile_dot(c, a, b)

#define MAGIC 0x1.8p23f
enum { MAGIC_BITS = 0x4b400000 };

/* Scales are of 11 bits at most (f16, E8M0).  They are tame if MAGIC times each is a normal number,
 * and their products with sums and dx (at least 2^-100) are no zeros: the sign of a zero is the one
 * thing in which these differ from those of a conversion. */
SIMD_FN __mmask16 tame_lanes(vf d) {
    const vi size = vi_and(_mm512_castps_si512(d), vi_set1(0x7fffffff)),
             least = vi_set1((127 - 25) << 23);
    return _mm512_cmplt_epu32_mask(_mm512_sub_epi32(size, least), vi_set1(125 << 23)) |
           _mm512_cmpeq_epi32_mask(size, vi_set1(0));
}

/* The sum s plus what base has above MAGIC_BITS, times d; m is -MAGIC times d. */
SIMD_FN vf tame_product(vi s, vi base, vf d, vf m) {
    return vf_fma(vf_bits(vi_add32(s, base)), d, m);
}

/* w = sc * q of four columns: q four bytes, sc twice as int16.  Types with minima: q is unsigned
 * and below 32, sc below 64, and q times three bits of sc is a byte, so that a product of words is
 * two of bytes. */
SIMD_FN void split_min(vi q, vi sc, vi *hi, vi *lo) {
    *hi = vi_mul16(q, vi_shr16(sc, HI_SHIFT_MIN));
    *lo = vi_mul16(q, vi_and(sc, vi_set1(0x00070007)));
}

/* An even column is the low byte of a word.  lo: low bits of a product depend on nothing above them
 * in its factors.  hi: the upper word of 256 q times twice the scale is the product shifted right
 * by seven. */
SIMD_FN void split_signed(vi q, vi sc, vi *hi, vi *lo) {
    const vi low8 = vi_set1(0x00ff00ff);
    vi odd = _mm512_andnot_si512(low8, q), twice = vi_shl16(sc, 8 - HI_SHIFT);
    *lo = vi_and(vi_or(vi_and(vi_mul16(q, sc), low8), vi_mul16(odd, sc)), vi_set1(0x7f7f7f7f));
    *hi = vi_or(vi_and(_mm512_mulhi_epi16(vi_shl16(q, 8), twice), low8),
                vi_shl16(_mm512_mulhi_epi16(odd, twice), 8));
}

#endif
