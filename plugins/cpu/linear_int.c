/* SPDX-License-Identifier: MIT
 *
 * linear_int.c - products of block-quantised weights with int8 activations on vector units without
 * a dot product instruction; compiled for AVX2 and AVX-512 (simd.h).  linear_scalar.c computes the
 * same bits plainly.
 *
 * One scheme for any number of tokens.  A panel of W weight rows (W = f32 lanes) times 256 columns
 * is unpacked into an L1 buffer, transposed so that one register holds four consecutive columns of
 * all W rows: [k/4][row][4].  Then, per token and register, four activation bytes are broadcast and
 * vpmaddubsw multiplies u8 weights by s8 activations into int16.  The rows stay in their lanes, so
 * there is no horizontal sum anywhere, and one f32 FMA per block continues the chains of W output
 * elements.  For one token the unpacking costs as much as a row-wise kernel's reduction tree would;
 * for many it is amortised, down to 19 instructions per 32 columns and W rows.
 *
 * Ranges.  An int16 lane sums 16 products (32 columns of a row fill two lanes).  4-bit weights: 16
 * * 15 * 127 = 30480 fits.  With the offset inside the sum, (q - 8) or (q - 16): at most 16 * 16 *
 * 127 = 32512 in the end; wrapping on the way does no harm, and a single vpmaddubsw stays below 2 *
 * 63 * 127 = 16002.  Q6_K: 8 products of (q - 32), 32512 again, per scale.  Q5_K: two lanes' worth
 * of 8 products of 31 * 127.  Q8_0 has no such room: int16 weights and vpmaddwd, half the rate.  So
 * have not the IQ types; their int16 weights hold the scale of the sub-block too, at most 32 * 127.
 *
 * Grid types come as bytes and scales from expand.c, a row at a time, and are transposed from
 * there; types whose codes are arithmetic or of sixteen values are unpacked W rows at a time. */
#include "simd.h"

#include "expand.h"
#include "fast.h"
#include "grids.h"

enum { Q8_0_BYTES = 34 };

typedef struct panel {
    union {
        uint8_t u8[LINEAR_K * W];  /* [k/4][row][4] */
        int16_t s16[LINEAR_K * W]; /* [k/4][2][row][2], halves k, k+2 and k+1, k+3 */
    } w;
    float d[8 * W];     /* span 32: [block][row]; span 256: [row] */
    float m[8 * W];     /* minima or dmin, likewise */
    int32_t sc[16 * W]; /* [sub-block][row]: the scale twice as int16 */
    int32_t mn[8 * W];  /* [pair][row]: minima of two sub-blocks as int16 */
    uint16_t half[2][8 * W];
    const uint8_t *prefetch; /* walks the next group of rows while this one is unpacked */
    size_t prefetch_step;
} panel __attribute__((aligned(64)));

/* v[j] = bytes 4j .. 4j+3 of the 16 at p, for W rows `s` bytes apart. */
SIMD_FN void transpose_rows(const uint8_t *p, size_t s, vi v[4]) {
    vi a = vi_rows(p, s), b = vi_rows(p + s, s);
    vi c = vi_rows(p + 2 * s, s), d = vi_rows(p + 3 * s, s);
    vi t0 = vi_unlo32(a, b), t1 = vi_unhi32(a, b), t2 = vi_unlo32(c, d), t3 = vi_unhi32(c, d);
    v[0] = vi_unlo64(t0, t2);
    v[1] = vi_unhi64(t0, t2);
    v[2] = vi_unlo64(t1, t3);
    v[3] = vi_unhi64(t1, t3);
}

/* The same, of weights in memory. */
SIMD_FN void load_rows(panel *o, const uint8_t *p, size_t s, vi v[4]) {
    transpose_rows(p, s, v);
    for (int i = 0; i < NL; i++)
        _mm_prefetch((const char *)o->prefetch + 64 * i, _MM_HINT_T0);
    o->prefetch += o->prefetch_step;
}

SIMD_FN void put8(panel *o, int i, vi x) {
    vi_store(o->w.u8 + (size_t)i * W * 4, x);
}

/* The f16 at p of each row, block b, list i. */
SIMD_FN void take_half(panel *o, int i, int b, const uint8_t *p, size_t s) {
#pragma GCC unroll 16
    for (int r = 0; r < W; r++)
        memcpy(&o->half[i][b * W + r], p + (size_t)r * s, 2);
}
SIMD_FN void widen_half(panel *o, int i, int n_block, float *out) {
    for (int b = 0; b < n_block; b++)
        vf_store(out + b * W, vf_load_f16(o->half[i] + b * W));
}

/* A byte shuffle within each dword: byte i of the result is byte (pattern >> 8 i), or 0 where that
 * is 0x80. */
SIMD_FN vi shuffle_dwords(vi v, uint32_t pattern) {
    int p = (int)pattern;
    return vi_shuffle8(v,
                       vi_lane(_mm_setr_epi32(p, p + 0x04040404, p + 0x08080808, p + 0x0c0c0c0c)));
}

/* Bits 4j .. 4j+3 of each row's dword as the value 16 in four bytes. */
SIMD_FN vi fifth_bits(vi bits, int j) {
    vi spread = shuffle_dwords(bits, (uint32_t)(j / 2) * 0x01010101u);
    vi one = vi_set1(j % 2 ? (int32_t)0x80402010u : 0x08040201);
    return vi_andnot(vi_eq0_8(vi_and(spread, one)), vi_set1_8(16));
}

SIMD_FN vi gather_dword(const uint8_t *p, size_t s) {
    uint32_t t[W];
#pragma GCC unroll 16
    for (int r = 0; r < W; r++)
        memcpy(&t[r], p + (size_t)r * s, 4);
    return vi_load(t);
}

/* Q4_0, Q4_1, Q5_0, Q5_1: f16 d, f16 m if has_min, u32 fifth bits if has_high, 16 bytes of nibbles.
 */
SIMD_FN void unpack_nibbles(const uint8_t *p, size_t s, int n_block, panel *o, int has_min,
                            int has_high) {
    int bits_at = 2 + 2 * has_min, bytes = bits_at + 4 * has_high + 16;
    vi low = vi_set1_8(15);
    for (int b = 0; b < n_block; b++, p += bytes) {
        vi v[4], bits = low;
        load_rows(o, p + bits_at + 4 * has_high, s, v);
        if (has_high) bits = gather_dword(p + bits_at, s);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vi lo = vi_and(v[j], low), hi = vi_and(vi_shr16(v[j], 4), low);
            if (has_high) {
                lo = vi_or(lo, fifth_bits(bits, j));
                hi = vi_or(hi, fifth_bits(bits, j + 4));
            }
            put8(o, b * 8 + j, lo);
            put8(o, b * 8 + 4 + j, hi);
        }
        take_half(o, 0, b, p, s);
        if (has_min) take_half(o, 1, b, p + 2, s);
    }
    widen_half(o, 0, n_block, o->d);
    if (has_min) widen_half(o, 1, n_block, o->m);
}
static void unpack_q4_0(const uint8_t *p, size_t s, int n_block, panel *o) {
    unpack_nibbles(p, s, n_block, o, 0, 0);
}
static void unpack_q4_1(const uint8_t *p, size_t s, int n_block, panel *o) {
    unpack_nibbles(p, s, n_block, o, 1, 0);
}
static void unpack_q5_0(const uint8_t *p, size_t s, int n_block, panel *o) {
    unpack_nibbles(p, s, n_block, o, 0, 1);
}
static void unpack_q5_1(const uint8_t *p, size_t s, int n_block, panel *o) {
    unpack_nibbles(p, s, n_block, o, 1, 1);
}

/* Four signed bytes of each row, columns 4 i .. 4 i + 3, as int16. */
SIMD_FN void put16(panel *o, int i, vi x) {
    int16_t *out = o->w.s16 + (size_t)i * W * 4;
    vi_store(out, vi_sar16(vi_shl16(x, 8), 8));
    vi_store(out + (size_t)W * 2, vi_sar16(x, 8));
}
/* The same times int16 factors. */
SIMD_FN void put16_scaled(panel *o, int i, vi x, vi factor) {
    int16_t *out = o->w.s16 + (size_t)i * W * 4;
    vi_store(out, vi_mul16(vi_sar16(vi_shl16(x, 8), 8), factor));
    vi_store(out + (size_t)W * 2, vi_mul16(vi_sar16(x, 8), factor));
}

static void unpack_q8_0(const uint8_t *p, size_t s, int n_block, panel *o) {
    for (int b = 0; b < n_block; b++, p += Q8_0_BYTES) {
        for (int part = 0; part < 2; part++) {
            vi v[4];
            load_rows(o, p + 2 + 16 * part, s, v);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                put16(o, b * 8 + part * 4 + j, v[j]);
        }
        take_half(o, 0, b, p, s);
    }
    widen_half(o, 0, n_block, o->d);
}

/* Byte b of each dword as int16, twice: unsigned, or signed through the high half. */
SIMD_FN vi twice_u8(vi v, uint32_t b) {
    return shuffle_dwords(v, 0x80008000u | b | b << 16);
}
SIMD_FN vi twice_s8(vi v, uint32_t b) {
    return vi_sar16(shuffle_dwords(v, 0x00800080u | b << 8 | b << 24), 8);
}
/* Bytes b and b + 1 of each dword as int16. */
SIMD_FN vi two_u8(vi v, uint32_t b) {
    return shuffle_dwords(v, 0x80008000u | b | (b + 1) << 16);
}
#define put_scale(o, i, x) vi_store((o)->sc + (i)*W, x)
#define put_min(o, i, x)   vi_store((o)->mn + (i)*W, x)

/* Head of Q4_K and Q5_K: d, dmin, and eight 6-bit scales and minima in 12 bytes: bytes 0-3 scales
 * 0-3, 4-7 minima 0-3, 8-11 low nibbles of scales 4-7 and high of minima 4-7; their top two bits
 * are those of bytes 0-3 and 4-7. */
SIMD_FN void unpack_head(const uint8_t *p, size_t s, panel *o) {
    vi v[4];
    load_rows(o, p, s, v);
    vf_store(o->d, vf_f16_low(v[0]));
    vf_store(o->m, vf_f16_low(vi_shr32(v[0], 16)));
    vi six = vi_set1_8(63), low = vi_set1_8(15), top = vi_set1_8(48);
    vi sc0 = vi_and(v[1], six), mn0 = vi_and(v[2], six);
    vi sc4 = vi_or(vi_and(v[3], low), vi_and(vi_shr16(v[1], 2), top));
    vi mn4 = vi_or(vi_and(vi_shr16(v[3], 4), low), vi_and(vi_shr16(v[2], 2), top));
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        put_scale(o, j, twice_u8(sc0, (uint32_t)j));
        put_scale(o, j + 4, twice_u8(sc4, (uint32_t)j));
    }
    put_min(o, 0, two_u8(mn0, 0));
    put_min(o, 1, two_u8(mn0, 2));
    put_min(o, 2, two_u8(mn4, 0));
    put_min(o, 3, two_u8(mn4, 2));
}

/* Nibbles of Q4_K and Q5_K: 4 chunks of 32 bytes, low nibbles = 32 columns, high = the next 32. */
static void unpack_q4_k(const uint8_t *p, size_t s, int n_block, panel *o) {
    (void)n_block;
    vi low = vi_set1_8(15);
    unpack_head(p, s, o);
    for (int c = 0; c < 8; c++) {
        vi v[4];
        load_rows(o, p + 16 + 16 * c, s, v);
        int at = c / 2 * 16 + c % 2 * 4;
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            put8(o, at + j, vi_and(v[j], low));
            put8(o, at + 8 + j, vi_and(vi_shr16(v[j], 4), low));
        }
    }
}

/* Q5_K: as Q4_K, and 32 bytes at 16 whose bits 2c and 2c + 1 are the fifth bits of chunk c. */
static void unpack_q5_k(const uint8_t *p, size_t s, int n_block, panel *o) {
    (void)n_block;
    vi low = vi_set1_8(15), one = vi_set1_8(1);
    unpack_head(p, s, o);
    for (int part = 0; part < 2; part++) {
        vi h[4];
        load_rows(o, p + 16 + 16 * part, s, h);
        for (int c = 0; c < 4; c++) {
            vi v[4];
            load_rows(o, p + 48 + 32 * c + 16 * part, s, v);
            int at = c * 16 + part * 4;
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                vi b0 = vi_shl16(vi_and(h[j], one), 4),
                   b1 = vi_shl16(vi_and(vi_shr16(h[j], 1), one), 4);
                put8(o, at + j, vi_or(vi_and(v[j], low), b0));
                put8(o, at + 8 + j, vi_or(vi_and(vi_shr16(v[j], 4), low), b1));
                h[j] = vi_shr16(h[j], 2);
            }
        }
    }
}

/* Q6_K: per half of 128 columns 64 bytes of low nibbles and 32 of high bit pairs; then 16 int8
 * scales and d. */
static void unpack_q6_k(const uint8_t *p, size_t s, int n_block, panel *o) {
    (void)n_block;
    vi low = vi_set1_8(15), top = vi_set1_8(48);
    for (int c = 0; c < 4; c++) {
        int half = c / 2, part = c % 2, at = half * 32 + part * 4;
        vi h[4], a[4], b[4];
        load_rows(o, p + 128 + 32 * half + 16 * part, s, h);
        load_rows(o, p + 64 * half + 16 * part, s, a);
        load_rows(o, p + 64 * half + 32 + 16 * part, s, b);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            put8(o, at + j, vi_or(vi_and(a[j], low), vi_and(vi_shl16(h[j], 4), top)));
            put8(o, at + 8 + j, vi_or(vi_and(b[j], low), vi_and(vi_shl16(h[j], 2), top)));
            put8(o, at + 16 + j, vi_or(vi_and(vi_shr16(a[j], 4), low), vi_and(h[j], top)));
            put8(o, at + 24 + j,
                 vi_or(vi_and(vi_shr16(b[j], 4), low), vi_and(vi_shr16(h[j], 2), top)));
        }
    }
    vi v[4];
    load_rows(o, p + 192, s, v);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        put_scale(o, 4 * i, twice_s8(v[i], 0));
        put_scale(o, 4 * i + 1, twice_s8(v[i], 1));
        put_scale(o, 4 * i + 2, twice_s8(v[i], 2));
        put_scale(o, 4 * i + 3, twice_s8(v[i], 3));
    }
    take_half(o, 0, 0, p + 208, s);
    widen_half(o, 0, 1, o->d);
}

/* The lowest bit pair of every byte of v[4] (with the lowest bit of h[4] above it) to places at ..
 * at + 3 of the panel; the bits taken are shifted out. */
SIMD_FN void next_pairs(panel *o, int at, vi v[4], vi h[4]) {
    vi two = vi_set1_8(3), one = vi_set1_8(1);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        vi x = vi_and(v[j], two);
        v[j] = vi_shr16(v[j], 2);
        if (h) {
            x = vi_or(x, vi_shl16(vi_and(h[j], one), 2));
            h[j] = vi_shr16(h[j], 1);
        }
        put8(o, at + j, x);
    }
}

/* Bit pairs of Q2_K and Q3_K: per half of 128 columns 32 bytes, bits 2i and 2i+1 = columns 32 i ..
 * of the half. */
SIMD_FN void unpack_pairs(const uint8_t *p, const uint8_t *high, size_t s, panel *o) {
    for (int part = 0; part < 2; part++) {
        vi h[4];
        if (high) load_rows(o, high + 16 * part, s, h);
        for (int half = 0; half < 2; half++) {
            vi v[4];
            load_rows(o, p + 32 * half + 16 * part, s, v);
            for (int i = 0; i < 4; i++)
                next_pairs(o, half * 32 + i * 8 + part * 4, v, high ? h : NULL);
        }
    }
}

/* Q2_K: 16 bytes scale | min << 4, 64 bytes of bit pairs, d, dmin. */
static void unpack_q2_k(const uint8_t *p, size_t s, int n_block, panel *o) {
    (void)n_block;
    unpack_pairs(p + 16, NULL, s, o);
    vi v[4], low = vi_set1_8(15);
    load_rows(o, p, s, v);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vi sc = vi_and(v[i], low), mn = vi_and(vi_shr16(v[i], 4), low);
        put_scale(o, 4 * i, twice_u8(sc, 0));
        put_scale(o, 4 * i + 1, twice_u8(sc, 1));
        put_scale(o, 4 * i + 2, twice_u8(sc, 2));
        put_scale(o, 4 * i + 3, twice_u8(sc, 3));
        put_min(o, 2 * i, two_u8(mn, 0));
        put_min(o, 2 * i + 1, two_u8(mn, 2));
    }
    take_half(o, 0, 0, p + 80, s);
    take_half(o, 1, 0, p + 82, s);
    widen_half(o, 0, 1, o->d);
    widen_half(o, 1, 1, o->m);
}

/* Q3_K: 32 bytes of third bits, 64 of bit pairs, 12 of scales, d.  Scale j - 32 has its low nibble
 * in bytes 0-7 (low nibbles j < 8, high nibbles beyond) and its top two bits in byte 8 + j % 4,
 * bits 2 (j / 4). */
static void unpack_q3_k(const uint8_t *p, size_t s, int n_block, panel *o) {
    (void)n_block;
    unpack_pairs(p + 32, p, s, o);
    vi v[4], low = vi_set1_8(15), top = vi_set1_8(48), bias = vi_set1_8(-32), sc[4];
    load_rows(o, p + 94, s, v); /* the last 16 bytes: 2 of pairs, 12 of scales, d */
    const vi a = vi_or(vi_shr32(v[0], 16), vi_shl32(v[1], 16));
    const vi b = vi_or(vi_shr32(v[1], 16), vi_shl32(v[2], 16));
    const vi c = vi_or(vi_shr32(v[2], 16), vi_shl32(v[3], 16));
    sc[0] = vi_or(vi_and(a, low), vi_and(vi_shl16(c, 4), top));
    sc[1] = vi_or(vi_and(b, low), vi_and(vi_shl16(c, 2), top));
    sc[2] = vi_or(vi_and(vi_shr16(a, 4), low), vi_and(c, top));
    sc[3] = vi_or(vi_and(vi_shr16(b, 4), low), vi_and(vi_shr16(c, 2), top));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vi x = vi_add8(sc[i], bias);
        put_scale(o, 4 * i, twice_s8(x, 0));
        put_scale(o, 4 * i + 1, twice_s8(x, 1));
        put_scale(o, 4 * i + 2, twice_s8(x, 2));
        put_scale(o, 4 * i + 3, twice_s8(x, 3));
    }
    vf_store(o->d, vf_f16_low(vi_shr32(v[3], 16)));
}

/* ---- coded types ---- */

SIMD_FN vi code_table(const int8_t *code) {
    return vi_lane(_mm_loadu_si128((const __m128i *)code));
}

/* IQ4_NL: f16 d, 16 bytes of nibbles. */
static void unpack_iq4_nl(const uint8_t *p, size_t s, int n_block, panel *o) {
    vi low = vi_set1_8(15), table = code_table(cpu_code_iq4);
    for (int b = 0; b < n_block; b++, p += 18) {
        vi v[4];
        load_rows(o, p + 2, s, v);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            put16(o, b * 8 + j, vi_shuffle8(table, vi_and(v[j], low)));
            put16(o, b * 8 + 4 + j, vi_shuffle8(table, vi_and(vi_shr16(v[j], 4), low)));
        }
        take_half(o, 0, b, p, s);
    }
    widen_half(o, 0, n_block, o->d);
}

/* MXFP4: E8M0 scale, 16 bytes of nibbles; values -12..12 become 0..24. */
static void unpack_mxfp4(const uint8_t *p, size_t s, int n_block, panel *o) {
    vi low = vi_set1_8(15), table = vi_add8(code_table(cpu_code_fp4), vi_set1_8(12));
    for (int b = 0; b < n_block; b++, p += 17) {
        vi v[4];
        load_rows(o, p + 1, s, v);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            put8(o, b * 8 + j, vi_shuffle8(table, vi_and(v[j], low)));
            put8(o, b * 8 + 4 + j, vi_shuffle8(table, vi_and(vi_shr16(v[j], 4), low)));
        }
        for (int r = 0; r < W; r++)
            o->d[b * W + r] = cpu_e8m0_half(p[(size_t)r * s]);
    }
}

/* Scales 0 2 4 6 or, with sh moved down by 2, 1 3 5 7 of IQ4_XS as bytes: nibbles in `low`, two
 * bits each at 0, 4, 8 and 12 of the upper half of sh. */
SIMD_FN vi iq4_scales(vi low, vi sh) {
    vi a = shuffle_dwords(sh, 0x80038002u), b = shuffle_dwords(vi_shr32(sh, 4), 0x03800280u);
    vi top = vi_shl16(vi_and(vi_or(a, b), vi_set1_8(3)), 4);
    return vi_add8(vi_or(vi_and(low, vi_set1_8(15)), top), vi_set1_8(-32));
}

/* IQ4_XS: f16 d, u16 of high bit pairs and 4 bytes of low nibbles of eight scales + 32, nibbles of
 * 8 times 32 columns. */
static void unpack_iq4_xs(const uint8_t *p, size_t s, int n_block, panel *o) {
    (void)n_block;
    vi low = vi_set1_8(15), table = code_table(cpu_code_iq4), v[4], sc[2];
    load_rows(o, p, s, v);
    vf_store(o->d, vf_f16_low(v[0]));
    sc[0] = iq4_scales(v[1], v[0]);
    sc[1] = iq4_scales(vi_shr16(v[1], 4), vi_shr32(v[0], 2));
#pragma GCC unroll 8
    for (int b = 0; b < 8; b++) {
        vi factor = twice_s8(sc[b % 2], (uint32_t)b / 2);
        load_rows(o, p + 8 + 16 * b, s, v);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vi hi = vi_and(vi_shr16(v[j], 4), low);
            put16_scaled(o, b * 8 + j, vi_shuffle8(table, vi_and(v[j], low)), factor);
            put16_scaled(o, b * 8 + 4 + j, vi_shuffle8(table, hi), factor);
        }
    }
}

/* NVFP4: four E4M3 scales, then 8 bytes of nibbles per 16 columns.  A scale's bits in f32's place
 * are its value times 2^-120; half is wanted; 0x7f is 0. */
static void unpack_nvfp4(const uint8_t *p, size_t s, int n_block, panel *o) {
    vi low = vi_set1_8(15), table = code_table(cpu_code_fp4), nan = vi_set1_8(0x7f);
    for (int b = 0; b < n_block; b++, p += 36) {
        vi e = gather_dword(p, s), v[4];
        e = vi_and(vi_andnot(vi_eq0_8(vi_xor(e, nan)), e), nan);
        for (int half = 0; half < 2; half++) {
            load_rows(o, p + 4 + 16 * half, s, v);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) { /* v[2 i], v[2 i + 1]: bytes of sub-block i */
                int at = b * 16 + half * 8 + j / 2 * 4 + j % 2;
                put16(o, at, vi_shuffle8(table, vi_and(v[j], low)));
                put16(o, at + 2, vi_shuffle8(table, vi_and(vi_shr16(v[j], 4), low)));
            }
            vi one = vi_set1(127);
            vf scale = vf_set1(0x1p119f);
            float *d = o->d + (2 * b + half) * W, *m = o->m + (2 * b + half) * W;
            vf_store(d, vf_mul(vf_bits(vi_shl32(vi_and(e, one), 20)), scale));
            vf_store(m, vf_mul(vf_bits(vi_shl32(vi_and(vi_shr32(e, 8), one), 20)), scale));
            e = vi_shr32(e, 16);
        }
    }
}

/* Q1_0: f16 d, 128 bits; 0 or 2. */
static void unpack_q1_0(const uint8_t *p, size_t s, int n_block, panel *o) {
    for (int b = 0; b < n_block; b++, p += 18) {
        vi v[4];
        load_rows(o, p + 2, s, v);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++)
                put8(o, (4 * b + i) * 8 + j, vi_shr16(fifth_bits(v[i], j), 3));
            take_half(o, 0, 4 * b + i, p, s);
        }
    }
    widen_half(o, 0, 4 * n_block, o->d);
}

/* The next ternary digit of each byte of *x; what is left of the byte stays. */
SIMD_FN vi next_digit(vi *x) {
    vi low = vi_set1(0x00ff00ff), even = vi_and(*x, low), odd = vi_shr16(*x, 8);
    even = vi_add16(even, vi_shl16(even, 1));
    odd = vi_add16(odd, vi_shl16(odd, 1));
    *x = vi_or(vi_and(even, low), vi_shl16(odd, 8));
    return vi_or(vi_shr16(even, 8), vi_andnot(low, odd));
}

/* TQ1_0: 48 bytes of five digits, 4 bytes of four, d (ref_dequant_code.c). */
static void unpack_tq1_0(const uint8_t *p, size_t s, int n_block, panel *o) {
    (void)n_block;
    vi v[4];
    for (int part = 0; part < 3; part++) { /* 32 bytes as one run, then 16 */
        load_rows(o, p + 16 * part, s, v);
        int at = part < 2 ? 4 * part : 40, step = part < 2 ? 8 : 4;
        for (int n = 0; n < 5; n++)
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                put8(o, at + n * step + j, next_digit(&v[j]));
    }
    v[0] = gather_dword(p + 48, s);
    for (int n = 0; n < 4; n++)
        put8(o, 60 + n, next_digit(&v[0]));
    for (int j = 0; j < 16; j++)
        put_scale(o, j, vi_set1(0x00010001));
    take_half(o, 0, 0, p + 52, s);
    widen_half(o, 0, 1, o->d);
}

/* TQ2_0: bit pairs as Q2_K, d. */
static void unpack_tq2_0(const uint8_t *p, size_t s, int n_block, panel *o) {
    (void)n_block;
    unpack_pairs(p, NULL, s, o);
    for (int j = 0; j < 16; j++)
        put_scale(o, j, vi_set1(0x00010001));
    take_half(o, 0, 0, p + 64, s);
    widen_half(o, 0, 1, o->d);
}

/* Q2_0: f16 d, 64 bit pairs, four columns a byte. */
static void unpack_q2_0(const uint8_t *p, size_t s, int n_block, panel *o) {
    for (int b = 0; b < n_block; b++, p += 18) {
        vi v[4];
        load_rows(o, p + 2, s, v);
        for (int k = 0; k < 16; k++) {
            vi x = shuffle_dwords(v[k / 4], (uint32_t)(k % 4) * 0x01010101u);
            vi low = vi_or(vi_and(x, vi_set1(3)), vi_and(vi_shr32(x, 2), vi_set1(0x300)));
            vi high = vi_or(vi_and(vi_shr32(x, 4), vi_set1(0x30000)),
                            vi_and(vi_shr32(x, 6), vi_set1(0x3000000)));
            put8(o, b * 16 + k, vi_or(low, high));
        }
        take_half(o, 0, 2 * b, p, s);
        take_half(o, 0, 2 * b + 1, p, s);
    }
    widen_half(o, 0, 2 * n_block, o->d);
}

/* A grid type: W rows of bytes and scales from expand.c, transposed into the panel. */
static void unpack_grid(const linear_type *t, const uint8_t *p, size_t s, panel *o) {
    linear_columns c[W];
    vi sc[4];
    for (int r = 0; r < W; r++) {
        t->expand(p + (size_t)r * s, 1, &c[r]);
        o->d[r] = c[r].d[0];
    }
    transpose_rows((const uint8_t *)c[0].sc, sizeof c[0], sc);
#pragma GCC unroll 4
    for (int i = 0; i < 16; i++) {
        vi v[4], factor = twice_s8(sc[i / 4], (uint32_t)i % 4);
        transpose_rows((const uint8_t *)c[0].q + 16 * i, sizeof c[0], v);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            put16_scaled(o, 4 * i + j, v[j], factor);
    }
}

/* ---- products of a panel with tokens ---- */

SIMD_FN vi four(const void *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return vi_set1(x);
}
SIMD_FN vi weights(const panel *p, int i) {
    return vi_load(p->w.u8 + (size_t)i * W * 4);
}

#if defined(PERI_AVX512)
enum { TOKENS = 4 };
#else
enum { TOKENS = 2 };
#endif

/* Span 32, u8 weights, n_tok tokens (a literal) at once. */
SIMD_FN void dot32_tokens(const panel *p, const act8 *a, int n_block, float *acc, int n_tok,
                          int has_min, int offset) {
    vf c[TOKENS];
    vi ones = vi_set1_16(1);
#pragma GCC unroll 4
    for (int i = 0; i < n_tok; i++)
        c[i] = vf_load(acc + i * LINEAR_ROWS);
    for (int b = 0; b < n_block; b++) {
        vi s[TOKENS];
#pragma GCC unroll 4
        for (int i = 0; i < n_tok; i++)
            s[i] = vi_set1(a[i].off[b]);
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) {
            vi w = weights(p, b * 8 + k);
#pragma GCC unroll 4
            for (int i = 0; i < n_tok; i++)
                s[i] = vi_add16(s[i], vi_maddubs(w, four(a[i].q + b * 32 + k * 4)));
        }
        vf d = vf_load(p->d + b * W);
#pragma GCC unroll 4
        for (int i = 0; i < n_tok; i++) {
            vi sum = vi_madd16(s[i], ones);
            if (has_min && offset) sum = vi_add32(sum, vi_set1(offset * a[i].sum[b]));
            vf x = vf_mul(vf_cvt(sum), d);
            if (has_min) x = vf_fma(vf_set1((float)a[i].sum[b]), vf_load(p->m + b * W), x);
            c[i] = vf_fma(x, vf_set1(a[i].dx[b]), c[i]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n_tok; i++)
        vf_store(acc + i * LINEAR_ROWS, c[i]);
}

/* Span 32, int16 weights. */
SIMD_FN void dot_wide_tokens(const panel *p, const act16 *a, int n_block, float *acc, int n_tok) {
    vf c[TOKENS];
#pragma GCC unroll 4
    for (int i = 0; i < n_tok; i++)
        c[i] = vf_load(acc + i * LINEAR_ROWS);
    for (int b = 0; b < n_block; b++) {
        vi s[TOKENS];
#pragma GCC unroll 16
        for (int k = 0; k < 16; k++) {
            vi w = vi_load(p->w.s16 + (size_t)(b * 16 + k) * W * 2);
#pragma GCC unroll 4
            for (int i = 0; i < n_tok; i++) {
                vi x = vi_madd16(w, four(a[i].q + b * 32 + k * 2));
                s[i] = k ? vi_add32(s[i], x) : x;
            }
        }
        vf d = vf_load(p->d + b * W);
#pragma GCC unroll 4
        for (int i = 0; i < n_tok; i++)
            c[i] = vf_fma(vf_mul(vf_cvt(s[i]), d), vf_set1(a[i].dx[b]), c[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < n_tok; i++)
        vf_store(acc + i * LINEAR_ROWS, c[i]);
}

/* Span 32, int16 weights, a scale per 16 columns: those of the second 16 are in m. */
SIMD_FN void dot_two_tokens(const panel *p, const act16 *a, int n_block, float *acc, int n_tok) {
    vf c[TOKENS];
#pragma GCC unroll 4
    for (int i = 0; i < n_tok; i++)
        c[i] = vf_load(acc + i * LINEAR_ROWS);
    for (int b = 0; b < n_block; b++) {
        vf x[TOKENS];
        for (int half = 0; half < 2; half++) {
            vi s[TOKENS];
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++) {
                vi w = vi_load(p->w.s16 + (size_t)(b * 16 + half * 8 + k) * W * 2);
#pragma GCC unroll 4
                for (int i = 0; i < n_tok; i++) {
                    vi y = vi_madd16(w, four(a[i].q + b * 32 + half * 16 + k * 2));
                    s[i] = k ? vi_add32(s[i], y) : y;
                }
            }
#pragma GCC unroll 4
            for (int i = 0; i < n_tok; i++)
                x[i] = half ? vf_fma(vf_cvt(s[i]), vf_load(p->m + b * W), x[i])
                            : vf_mul(vf_cvt(s[i]), vf_load(p->d + b * W));
        }
#pragma GCC unroll 4
        for (int i = 0; i < n_tok; i++)
            c[i] = vf_fma(x[i], vf_set1(a[i].dx[b]), c[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < n_tok; i++)
        vf_store(acc + i * LINEAR_ROWS, c[i]);
}

/* Span 256, int16 weights that hold their scale. */
SIMD_FN void dot_wide256_tokens(const panel *p, const act16 *a, float *acc, int n_tok) {
    vi t[TOKENS];
    vf d = vf_load(p->d);
#pragma GCC unroll 4
    for (int i = 0; i < n_tok; i++)
        t[i] = vi_set1(0);
#pragma GCC unroll 8
    for (int k = 0; k < LINEAR_K / 2; k++) {
        vi w = vi_load(p->w.s16 + (size_t)k * W * 2);
#pragma GCC unroll 4
        for (int i = 0; i < n_tok; i++)
            t[i] = vi_add32(t[i], vi_madd16(w, four(a[i].q + k * 2)));
    }
#pragma GCC unroll 4
    for (int i = 0; i < n_tok; i++) {
        float *c = acc + i * LINEAR_ROWS;
        vf_store(c, vf_fma(vf_mul(vf_cvt(t[i]), d), vf_set1(a[i].dx[0]), vf_load(c)));
    }
}

/* How the 256 columns of a type are summed; a literal everywhere. */
typedef struct scheme {
    int sub;       /* columns summed in int16 lanes before the scale is applied */
    int scale_sub; /* columns per scale */
    int has_offset;
    int n_min; /* pairs of minima */
} scheme;

/* Span 256. */
SIMD_FN void dot256_tokens(const panel *p, const act8 *a, float *acc, int n_tok, scheme h) {
    vi t[TOKENS];
    const int sub = h.sub;
#pragma GCC unroll 4
    for (int i = 0; i < n_tok; i++)
        t[i] = vi_set1(0);
    for (int j = 0; j < LINEAR_K / sub; j++) {
        vi s[TOKENS], sc = vi_load(p->sc + j * sub / h.scale_sub * W);
#pragma GCC unroll 8
        for (int k = 0; k < sub / 4; k++) {
            vi w = weights(p, j * sub / 4 + k);
#pragma GCC unroll 4
            for (int i = 0; i < n_tok; i++) {
                vi x = vi_maddubs(w, four(a[i].q + j * sub + k * 4));
                if (k == 0)
                    s[i] = h.has_offset ? vi_add16(vi_set1(a[i].off[j]), x) : x;
                else
                    s[i] = vi_add16(s[i], x);
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < n_tok; i++)
            t[i] = vi_add32(t[i], vi_madd16(s[i], sc));
    }
    vf d = vf_load(p->d);
#pragma GCC unroll 4
    for (int i = 0; i < n_tok; i++) {
        vf x = vf_mul(vf_cvt(t[i]), d);
        if (h.n_min) {
            vi u = vi_set1(0);
#pragma GCC unroll 8
            for (int j = 0; j < h.n_min; j++)
                u = vi_add32(u, vi_madd16(vi_load(p->mn + j * W), vi_set1(a[i].sum[j])));
            x = vf_fnma(vf_cvt(u), vf_load(p->m), x);
        }
        float *c = acc + i * LINEAR_ROWS;
        vf_store(c, vf_fma(x, vf_set1(a[i].dx[0]), vf_load(c)));
    }
}

/* A function over any number of tokens out of one over a literal number. */
#define DOT(NAME, ACT, CALL)                                                                       \
    static void NAME(const panel *p, const void *act, int n_tok, int n_block, float *acc) {        \
        const ACT *a = act;                                                                        \
        (void)n_block;                                                                             \
        for (; n_tok >= TOKENS; n_tok -= TOKENS, a += TOKENS, acc += TOKENS * LINEAR_ROWS) {       \
            enum { N = TOKENS };                                                                   \
            CALL;                                                                                  \
        }                                                                                          \
        for (; n_tok > 0; n_tok--, a++, acc += LINEAR_ROWS) {                                      \
            enum { N = 1 };                                                                        \
            CALL;                                                                                  \
        }                                                                                          \
    }
#define SCHEME(...) ((scheme){__VA_ARGS__})
DOT(dot_q4_0, act8, dot32_tokens(p, a, n_block, acc, N, 0, 0))
DOT(dot_q4_1, act8, dot32_tokens(p, a, n_block, acc, N, 1, 0))
DOT(dot_q5_1, act8, dot32_tokens(p, a, n_block, acc, N, 1, 16))
DOT(dot_q8_0, act16, dot_wide_tokens(p, a, n_block, acc, N))
DOT(dot_nvfp4, act16, dot_two_tokens(p, a, n_block, acc, N))
DOT(dot_iq, act16, dot_wide256_tokens(p, a, acc, N))
DOT(dot_q2_k, act8, dot256_tokens(p, a, acc, N, SCHEME(16, 16, 0, 8)))
DOT(dot_q3_k, act8, dot256_tokens(p, a, acc, N, SCHEME(16, 16, 1, 0)))
DOT(dot_q4_k, act8, dot256_tokens(p, a, acc, N, SCHEME(32, 32, 0, 4)))
DOT(dot_q5_k, act8, dot256_tokens(p, a, acc, N, SCHEME(16, 32, 0, 4)))

typedef void (*unpack_fn)(const uint8_t *p, size_t stride, int n_block, panel *out);
typedef void (*dot_fn)(const panel *p, const void *act, int n_tok, int n_span, float *acc);
typedef struct kernel {
    uint16_t dtype;
    unpack_fn unpack; /* NULL: unpack_grid */
    dot_fn dot;
} kernel;
static const kernel kernels[] = {
    {PERI_CPU_Q4_0, unpack_q4_0, dot_q4_0},
    {PERI_CPU_Q4_1, unpack_q4_1, dot_q4_1},
    {PERI_CPU_Q5_0, unpack_q5_0, dot_q4_0},
    {PERI_CPU_Q5_1, unpack_q5_1, dot_q5_1},
    {PERI_CPU_Q8_0, unpack_q8_0, dot_q8_0},
    {PERI_CPU_Q2_K, unpack_q2_k, dot_q2_k},
    {PERI_CPU_Q3_K, unpack_q3_k, dot_q3_k},
    {PERI_CPU_Q4_K, unpack_q4_k, dot_q4_k},
    {PERI_CPU_Q5_K, unpack_q5_k, dot_q5_k},
    {PERI_CPU_Q6_K, unpack_q6_k, dot_q3_k},
    {PERI_CPU_IQ4_NL, unpack_iq4_nl, dot_q8_0},
    {PERI_CPU_IQ4_XS, unpack_iq4_xs, dot_iq},
    {PERI_CPU_MXFP4, unpack_mxfp4, dot_q4_0},
    {PERI_CPU_TQ2_0, unpack_tq2_0, dot_q3_k},
    {PERI_CPU_TQ1_0, unpack_tq1_0, dot_q3_k},
    {PERI_CPU_Q1_0, unpack_q1_0, dot_q4_0},
    {PERI_CPU_Q2_0, unpack_q2_0, dot_q4_0},
    {PERI_CPU_NVFP4, unpack_nvfp4, dot_nvfp4},
    {PERI_CPU_IQ1_S, NULL, dot_iq},
    {PERI_CPU_IQ1_M, NULL, dot_iq},
    {PERI_CPU_IQ2_XXS, NULL, dot_iq},
    {PERI_CPU_IQ2_XS, NULL, dot_iq},
    {PERI_CPU_IQ2_S, NULL, dot_iq},
    {PERI_CPU_IQ3_XXS, NULL, dot_iq},
    {PERI_CPU_IQ3_S, NULL, dot_iq},
};

enum { KB_BYTES_MAX = 8 * Q8_0_BYTES, PREFETCH_TOKENS = 16 };

/* Columns kb * 256 .. of one group of 16 rows: unpack W rows at a time and add to all tokens' sums.
 */
static void rows_block(const linear_in *in, const kernel *k, panel *p, const uint8_t *w,
                       size_t stride, int64_t kb, float *acc) {
    int64_t left = in->n - kb * LINEAR_K;
    int width = left < LINEAR_K ? (int)left : LINEAR_K, n_block = width / in->type->block;
    for (int r = 0; r < LINEAR_ROWS; r += W) {
        if (k->unpack)
            k->unpack(w + (size_t)r * stride, stride, n_block, p);
        else
            unpack_grid(in->type, w + (size_t)r * stride, stride, p);
        k->dot(p, in->act + (size_t)kb * in->kb_stride, in->n_tok, width / 32, acc + r);
    }
}

static void rows_int(const linear_in *in, int64_t row0, int32_t rows, float *acc) {
    panel p;
    uint8_t edge[LINEAR_ROWS * KB_BYTES_MAX];
    const kernel *k = kernels;
    while (k->dtype != in->type->dtype)
        k++;
    size_t kb_bytes = (size_t)(LINEAR_K / in->type->block * in->type->block_bytes);
    const uint8_t *w = in->w + (size_t)row0 * in->row_bytes;
    memset(acc, 0, (size_t)in->n_tok * LINEAR_ROWS * sizeof *acc);
    p.prefetch_step = in->n_tok <= PREFETCH_TOKENS ? 64 * NL : 0;
    for (int64_t kb = 0; kb * LINEAR_K < in->n; kb++) {
        const uint8_t *from = w + (size_t)kb * kb_bytes;
        size_t stride = in->row_bytes;
        p.prefetch = p.prefetch_step ? w + LINEAR_ROWS * (in->row_bytes + (size_t)kb * kb_bytes)
                                     : (const uint8_t *)in;
        if (rows < LINEAR_ROWS) { /* the last rows of a matrix: nothing behind them may be read */
            size_t n = in->row_bytes - (size_t)kb * kb_bytes;
            if (n > kb_bytes) n = kb_bytes;
            memset(edge, 0, sizeof edge);
            for (int r = 0; r < rows; r++)
                memcpy(edge + (size_t)r * kb_bytes, from + (size_t)r * stride, n);
            from = edge;
            stride = kb_bytes;
            p.prefetch = (const uint8_t *)in;
        }
        rows_block(in, k, &p, from, stride, kb, acc);
    }
}

#define ISA_TEXT2(x) #x
#define ISA_TEXT(x)  ISA_TEXT2(x)

const cpu_isa PERI_ISA_FN(cpu_isa) = {
    .name = ISA_TEXT(PERI_ISA),
    .quantize = PERI_ISA_FN(quantize_row),
    .rows_int = rows_int,
    .rows_f32 = PERI_ISA_FN(rows_f32),
    .vec = &PERI_ISA_FN(vec),
    .attn = &PERI_ISA_FN(attn),
};
