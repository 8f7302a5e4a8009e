/* SPDX-License-Identifier: MIT
 *
 * linear_unpack.h - W rows of every block-quantised weight type, 256 columns at a time, taken apart
 * in registers; included by linear_int.c, linear_vnni.c, linear_amx.c and linear_i8mm.c, per
 * instruction set.
 *
 * A register holds four consecutive columns of all W rows (W = f32 lanes), [row][4] bytes: rows
 * stay in their lanes from here to the store of the sums.  An unpacker hands these registers to
 * put8 (unsigned bytes) or put16 (signed values), in whatever order the type's layout suggests,
 * scales and minima to the panel, and says end_block after each 32 columns of a type of span 32,
 * whose scales are there by then.
 *
 * Where the registers go is the sink's business.  A panel keeps all 256 columns for many tokens.
 * Without one, and only where there is a dot product instruction (PERI_VNNI), a register is
 * multiplied with one token's activations at once and never stored.  All members of a sink are
 * literals or locals of the function that inlines the unpacker, and the loops over indices of put8
 * are unrolled: the sums stay in registers.
 *
 * The next group's weights are asked for meanwhile.  One token: by load_rows, a line for a line
 * (grid types: by unpack_grid, row for row, with a dot product instruction whatever the tokens).
 * Several tokens: by the dot products, a few lines per sub-block, because taking a panel apart is a
 * short burst in which the requests would queue up and wait for memory (Zen 5, 16 tokens, one
 * thread: Q4_K 208 GMAC/s so, 301 by the dot products; Q6_K 149 and 244); by linear_int.c, of few
 * tokens, half and half.
 *
 * Grid types come as bytes and scales from expand.c, a row at a time, and are transposed from
 * there; types whose codes are arithmetic or of sixteen values are unpacked W rows at a time. */
#ifndef PERI_CPU_LINEAR_UNPACK_H
#define PERI_CPU_LINEAR_UNPACK_H

#include "simd.h"

#include "expand.h"
#include "fast.h"
#include "grids.h"

enum { Q8_0_BYTES = 34, KB_BYTES_MAX = 8 * Q8_0_BYTES }; /* the largest type's 256 columns */

typedef struct panel {
    union {
        uint8_t u8[LINEAR_K * W]; /* [k/4][row][4] */
#if !PERI_VNNI
        int16_t s16[LINEAR_K * W]; /* [k/4][2][row][2], halves k, k+2 and k+1, k+3 */
#endif
    } w;
    float d[8 * W];     /* span 32: [block][row]; span 256: [row] */
    float m[8 * W];     /* minima or dmin, likewise */
    int32_t sc[16 * W]; /* [sub-block][row]: the scale twice as int16; PERI_VNNI: as int32 */
    int32_t mn[8 * W];  /* [pair][row]: minima of two sub-blocks as int16 */
    uint16_t half[2][8 * W];
    const uint8_t *ahead; /* what the dot products ask memory for: n_line lines (of linear_int.c:
                             that are left), n_ahead at once */
    int n_line, n_ahead;
} __attribute__((aligned(64))) panel;

#if PERI_VNNI
/* How the columns of a type become sums; literals. */
typedef struct scheme {
    int sub;        /* columns of one integer sum: 16 or 32 */
    int has_offset; /* the sums begin at act8.off */
    int n_min;      /* span 32: has minima; span 256: pairs of minima */
    int has_two;    /* span 32: scales for 16 columns, the second in panel.m */
    int is_tame;    /* linear_amx.c */
} scheme;
#endif

typedef struct sink {
    panel *p;
    const uint8_t *prefetch; /* load_rows: walks the next group of rows */
    size_t prefetch_step;    /* 0: nothing is asked for */
#if PERI_VNNI
    const act8 *a; /* fused only */
    vf acc;
    vi s[16];
    scheme h;
    int is_fused;
#endif
} sink;

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
SIMD_FN void load_rows(sink *o, const uint8_t *p, size_t s, vi v[4]) {
    transpose_rows(p, s, v);
#if PERI_VNNI
    if (!o->is_fused) return;
#endif
    if (!o->prefetch_step) return;
    for (int i = 0; i < NL; i++)
        simd_prefetch(o->prefetch + 64 * i);
    o->prefetch += o->prefetch_step;
}

/* Four bytes of all lanes. */
SIMD_FN vi four(const void *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return vi_set1(x);
}

/* Register at + i, columns 4 (at + i) ..; i is a literal, at a multiple of 8 registers. */
SIMD_FN void put8(sink *o, int at, int i, vi x) {
#if PERI_VNNI
    if (o->is_fused) {
        vi *s = &o->s[4 * i / o->h.sub];
        *s = vi_dot_at(*s, x, o->a->q + 4 * at, i);
        return;
    }
#endif
    vi_store(o->p->w.u8 + (size_t)(at + i) * W * 4, x);
}

/* All of 32-block b was put. */
SIMD_FN void end_block(sink *o, int b) {
#if PERI_VNNI
    if (!o->is_fused) return;
    const float *d = o->p->d + b * W, *m = o->p->m + b * W;
    vi off = o->h.has_offset ? four(&o->a->off[o->h.has_two ? 2 * b : b]) : vi_set1(0);
    vf x;
    if (o->h.has_two) {
        vi off1 = o->h.has_offset ? four(&o->a->off[2 * b + 1]) : vi_set1(0);
        x = vf_mul(vf_cvt(vi_add32(o->s[0], off)), vf_load(d));
        x = vf_fma(vf_cvt(vi_add32(o->s[1], off1)), vf_load(m), x);
    } else
        x = vf_mul(vf_cvt(vi_add32(vi_add32(o->s[0], o->s[1]), off)), vf_load(d));
    if (o->h.n_min) x = vf_fma(vf_cvt(four(&o->a->sum[b])), vf_load(m), x);
    o->acc = vf_fma(x, vf_set1(o->a->dx[b]), o->acc);
    o->s[0] = o->s[1] = vi_set1(0);
#else
    (void)o;
    (void)b;
#endif
}

/* The f16 at p of each row, block b, list i. */
SIMD_FN void take_half(sink *o, int i, int b, const uint8_t *p, size_t s) {
#pragma GCC unroll 16
    for (int r = 0; r < W; r++)
        memcpy(&o->p->half[i][b * W + r], p + (size_t)r * s, 2);
}
SIMD_FN void widen_half(sink *o, int i, int n_block, float *out) {
    for (int b = 0; b < n_block; b++)
        vf_store(out + b * W, vf_load_f16(o->p->half[i] + b * W));
}
/* The f16 at p of n_block blocks `step` bytes apart, to out[block][row]. */
SIMD_FN void scales(sink *o, int i, const uint8_t *p, size_t s, int n_block, int step, float *out) {
#if defined(PERI_NEON)
    (void)o;
    (void)i;
    for (int b = 0; b < n_block; b++)
        vf_store(out + b * W, vf_rows_f16(p + b * step, s));
#else
    for (int b = 0; b < n_block; b++)
        take_half(o, i, b, p + b * step, s);
    widen_half(o, i, n_block, out);
#endif
}

/* A byte shuffle within each dword: byte i of the result is byte (pattern >> 8 i), or 0 where that
 * is 0x80. */
SIMD_FN vi shuffle_dwords(vi v, uint32_t pattern) {
    int p = (int)pattern;
    return vi_shuffle8(v, vi_lane4(p, p + 0x04040404, p + 0x08080808, p + 0x0c0c0c0c));
}

SIMD_FN vi gather_dword(const uint8_t *p, size_t s) {
    uint32_t t[W];
#pragma GCC unroll 16
    for (int r = 0; r < W; r++)
        memcpy(&t[r], p + (size_t)r * s, 4);
    return vi_load(t);
}

/* Four signed bytes of each row, for register at + i; put16_scaled: times int16 factors. PERI_VNNI:
 * as vi_dot wants them, factors apart. */
#if PERI_VNNI
SIMD_FN void put16(sink *o, int at, int i, vi x) {
    put8(o, at, i, vi_dot_weights(x));
}
SIMD_FN void put16_scaled(sink *o, int i, vi x, vi factor) {
    (void)factor;
    put16(o, 0, i, x);
}
#else
SIMD_FN void put16(sink *o, int at, int i, vi x) {
    int16_t *out = o->p->w.s16 + (size_t)(at + i) * W * 4;
    vi_store(out, vi_sar16(vi_shl16(x, 8), 8));
    vi_store(out + (size_t)W * 2, vi_sar16(x, 8));
}
SIMD_FN void put16_scaled(sink *o, int i, vi x, vi factor) {
    int16_t *out = o->p->w.s16 + (size_t)i * W * 4;
    vi_store(out, vi_mul16(vi_sar16(vi_shl16(x, 8), 8), factor));
    vi_store(out + (size_t)W * 2, vi_mul16(vi_sar16(x, 8), factor));
}
#endif

SIMD_FN vi code_table(const int8_t *code) {
    return vi_lane_at(code);
}

#include "linear_unpack32.h"

/* Byte b of each dword as a scale of the panel, unsigned or signed. */
#if PERI_VNNI
SIMD_FN vi scale_u8(vi v, uint32_t b) {
    return shuffle_dwords(v, 0x80808000u | b);
}
SIMD_FN vi scale_s8(vi v, uint32_t b) {
    return vi_sar32(shuffle_dwords(v, 0x00808080u | b << 24), 24);
}
static const int32_t scale_one = 1;
#else
SIMD_FN vi scale_u8(vi v, uint32_t b) {
    return shuffle_dwords(v, 0x80008000u | b | b << 16);
}
SIMD_FN vi scale_s8(vi v, uint32_t b) { /* through the high half */
    return vi_sar16(shuffle_dwords(v, 0x00800080u | b << 8 | b << 24), 8);
}
static const int32_t scale_one = 0x00010001;
#endif
/* Bytes b and b + 1 of each dword as int16. */
SIMD_FN vi two_u8(vi v, uint32_t b) {
    return shuffle_dwords(v, 0x80008000u | b | (b + 1) << 16);
}
#define put_scale(o, i, x) vi_store((o)->p->sc + (i)*W, x)
#define put_min(o, i, x)   vi_store((o)->p->mn + (i)*W, x)

/* Head of Q4_K and Q5_K: d, dmin, and eight 6-bit scales and minima in 12 bytes: bytes 0-3 scales
 * 0-3, 4-7 minima 0-3, 8-11 low nibbles of scales 4-7 and high of minima 4-7; their top two bits
 * are those of bytes 0-3 and 4-7. */
SIMD_FN void unpack_head(const uint8_t *p, size_t s, sink *o) {
    vi v[4];
    load_rows(o, p, s, v);
    vf_store(o->p->d, vf_f16_low(v[0]));
    vf_store(o->p->m, vf_f16_low(vi_shr32(v[0], 16)));
    vi six = vi_set1_8(63), low = vi_set1_8(15), top = vi_set1_8(48);
    vi sc0 = vi_and(v[1], six), mn0 = vi_and(v[2], six);
    vi sc4 = vi_or(vi_and(v[3], low), vi_and(vi_shr16(v[1], 2), top));
    vi mn4 = vi_or(vi_and(vi_shr16(v[3], 4), low), vi_and(vi_shr16(v[2], 2), top));
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        put_scale(o, j, scale_u8(sc0, (uint32_t)j));
        put_scale(o, j + 4, scale_u8(sc4, (uint32_t)j));
    }
    put_min(o, 0, two_u8(mn0, 0));
    put_min(o, 1, two_u8(mn0, 2));
    put_min(o, 2, two_u8(mn4, 0));
    put_min(o, 3, two_u8(mn4, 2));
}

/* Nibbles of Q4_K and Q5_K: 4 chunks of 32 bytes, low nibbles = 32 columns, high = the next 32. */
SIMD_FN void unpack_q4_k(const uint8_t *p, size_t s, int n_block, sink *o) {
    (void)n_block;
    vi low = vi_set1_8(15);
    unpack_head(p, s, o);
#pragma GCC unroll 8
    for (int c = 0; c < 8; c++) {
        vi v[4];
        load_rows(o, p + 16 + 16 * c, s, v);
        int at = c / 2 * 16 + c % 2 * 4;
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            put8(o, 0, at + j, vi_and(v[j], low));
            put8(o, 0, at + 8 + j, vi_and(vi_shr16(v[j], 4), low));
        }
    }
}

/* Q5_K: as Q4_K, and 32 bytes at 16 whose bits 2c and 2c + 1 are the fifth bits of chunk c. */
SIMD_FN void unpack_q5_k(const uint8_t *p, size_t s, int n_block, sink *o) {
    (void)n_block;
    vi low = vi_set1_8(15), one = vi_set1_8(1);
    unpack_head(p, s, o);
#pragma GCC unroll 2
    for (int part = 0; part < 2; part++) {
        vi h[4];
        load_rows(o, p + 16 + 16 * part, s, h);
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++) {
            vi v[4];
            load_rows(o, p + 48 + 32 * c + 16 * part, s, v);
            int at = c * 16 + part * 4;
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                vi b0 = vi_shl16(vi_and(h[j], one), 4),
                   b1 = vi_shl16(vi_and(vi_shr16(h[j], 1), one), 4);
                put8(o, 0, at + j, vi_or(vi_and(v[j], low), b0));
                put8(o, 0, at + 8 + j, vi_or(vi_and(vi_shr16(v[j], 4), low), b1));
                h[j] = vi_shr16(h[j], 2);
            }
        }
    }
}

/* Q6_K: per half of 128 columns 64 bytes of low nibbles and 32 of high bit pairs; then 16 int8
 * scales and d. */
SIMD_FN void unpack_q6_k(const uint8_t *p, size_t s, int n_block, sink *o) {
    (void)n_block;
    vi low = vi_set1_8(15), top = vi_set1_8(48);
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        int half = c / 2, part = c % 2, at = half * 32 + part * 4;
        vi h[4], a[4], b[4];
        load_rows(o, p + 128 + 32 * half + 16 * part, s, h);
        load_rows(o, p + 64 * half + 16 * part, s, a);
        load_rows(o, p + 64 * half + 32 + 16 * part, s, b);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            put8(o, 0, at + j, vi_or(vi_and(a[j], low), vi_and(vi_shl16(h[j], 4), top)));
            put8(o, 0, at + 8 + j, vi_or(vi_and(b[j], low), vi_and(vi_shl16(h[j], 2), top)));
            put8(o, 0, at + 16 + j, vi_or(vi_and(vi_shr16(a[j], 4), low), vi_and(h[j], top)));
            put8(o, 0, at + 24 + j,
                 vi_or(vi_and(vi_shr16(b[j], 4), low), vi_and(vi_shr16(h[j], 2), top)));
        }
    }
    vi v[4];
    load_rows(o, p + 192, s, v);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        put_scale(o, 4 * i, scale_s8(v[i], 0));
        put_scale(o, 4 * i + 1, scale_s8(v[i], 1));
        put_scale(o, 4 * i + 2, scale_s8(v[i], 2));
        put_scale(o, 4 * i + 3, scale_s8(v[i], 3));
    }
    take_half(o, 0, 0, p + 208, s);
    widen_half(o, 0, 1, o->p->d);
}

/* The lowest bit pair of every byte of v[4] (with the lowest bit of h[4] above it) to places at ..
 * at + 3 of the panel; the bits taken are shifted out. */
SIMD_FN void next_pairs(sink *o, int at, vi v[4], vi h[4]) {
    vi two = vi_set1_8(3), one = vi_set1_8(1);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        vi x = vi_and(v[j], two);
        v[j] = vi_shr16(v[j], 2);
        if (h) {
            x = vi_or(x, vi_shl16(vi_and(h[j], one), 2));
            h[j] = vi_shr16(h[j], 1);
        }
        put8(o, 0, at + j, x);
    }
}

/* Bit pairs of Q2_K and Q3_K: per half of 128 columns 32 bytes, bits 2i and 2i+1 = columns 32 i ..
 * of the half. */
SIMD_FN void unpack_pairs(const uint8_t *p, const uint8_t *high, size_t s, sink *o) {
#pragma GCC unroll 2
    for (int part = 0; part < 2; part++) {
        vi h[4];
        if (high) load_rows(o, high + 16 * part, s, h);
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            vi v[4];
            load_rows(o, p + 32 * half + 16 * part, s, v);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                next_pairs(o, half * 32 + i * 8 + part * 4, v, high ? h : NULL);
        }
    }
}

/* Q2_K: 16 bytes scale | min << 4, 64 bytes of bit pairs, d, dmin. */
SIMD_FN void unpack_q2_k(const uint8_t *p, size_t s, int n_block, sink *o) {
    (void)n_block;
    unpack_pairs(p + 16, NULL, s, o);
    vi v[4], low = vi_set1_8(15);
    load_rows(o, p, s, v);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vi sc = vi_and(v[i], low), mn = vi_and(vi_shr16(v[i], 4), low);
        put_scale(o, 4 * i, scale_u8(sc, 0));
        put_scale(o, 4 * i + 1, scale_u8(sc, 1));
        put_scale(o, 4 * i + 2, scale_u8(sc, 2));
        put_scale(o, 4 * i + 3, scale_u8(sc, 3));
        put_min(o, 2 * i, two_u8(mn, 0));
        put_min(o, 2 * i + 1, two_u8(mn, 2));
    }
    take_half(o, 0, 0, p + 80, s);
    take_half(o, 1, 0, p + 82, s);
    widen_half(o, 0, 1, o->p->d);
    widen_half(o, 1, 1, o->p->m);
}

/* Q3_K: 32 bytes of third bits, 64 of bit pairs, 12 of scales, d.  Scale j - 32 has its low nibble
 * in bytes 0-7 (low nibbles j < 8, high nibbles beyond) and its top two bits in byte 8 + j % 4,
 * bits 2 (j / 4). */
SIMD_FN void unpack_q3_k(const uint8_t *p, size_t s, int n_block, sink *o) {
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
        put_scale(o, 4 * i, scale_s8(x, 0));
        put_scale(o, 4 * i + 1, scale_s8(x, 1));
        put_scale(o, 4 * i + 2, scale_s8(x, 2));
        put_scale(o, 4 * i + 3, scale_s8(x, 3));
    }
    vf_store(o->p->d, vf_f16_low(vi_shr32(v[3], 16)));
}

/* ---- coded types ---- */

/* A scale of the n sub-blocks of 16 from i on, for put16_scaled. */
SIMD_FN vi put_factor(sink *o, int i, int n, vi scale) {
#if PERI_VNNI
    for (int k = 0; k < n; k++)
        put_scale(o, i + k, scale);
#else
    (void)o;
    (void)i;
    (void)n;
#endif
    return scale;
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
SIMD_FN void unpack_iq4_xs(const uint8_t *p, size_t s, int n_block, sink *o) {
    (void)n_block;
    vi low = vi_set1_8(15), table = code_table(cpu_code_iq4), v[4], sc[2];
    load_rows(o, p, s, v);
    vf_store(o->p->d, vf_f16_low(v[0]));
    sc[0] = iq4_scales(v[1], v[0]);
    sc[1] = iq4_scales(vi_shr16(v[1], 4), vi_shr32(v[0], 2));
#pragma GCC unroll 8
    for (int b = 0; b < 8; b++) {
        vi factor = put_factor(o, 2 * b, 2, scale_s8(sc[b % 2], (uint32_t)b / 2));
        load_rows(o, p + 8 + 16 * b, s, v);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vi hi = vi_and(vi_shr16(v[j], 4), low);
            put16_scaled(o, b * 8 + j, vi_shuffle8(table, vi_and(v[j], low)), factor);
            put16_scaled(o, b * 8 + 4 + j, vi_shuffle8(table, hi), factor);
        }
    }
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
SIMD_FN void unpack_tq1_0(const uint8_t *p, size_t s, int n_block, sink *o) {
    (void)n_block;
    vi v[4];
#pragma GCC unroll 3
    for (int part = 0; part < 3; part++) { /* 32 bytes as one run, then 16 */
        load_rows(o, p + 16 * part, s, v);
        int at = part < 2 ? 4 * part : 40, step = part < 2 ? 8 : 4;
#pragma GCC unroll 5
        for (int n = 0; n < 5; n++)
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                put8(o, 0, at + n * step + j, next_digit(&v[j]));
    }
    v[0] = gather_dword(p + 48, s);
#pragma GCC unroll 4
    for (int n = 0; n < 4; n++)
        put8(o, 0, 60 + n, next_digit(&v[0]));
    for (int j = 0; j < 16; j++)
        put_scale(o, j, vi_set1(scale_one));
    take_half(o, 0, 0, p + 52, s);
    widen_half(o, 0, 1, o->p->d);
}

/* TQ2_0: bit pairs as Q2_K, d. */
SIMD_FN void unpack_tq2_0(const uint8_t *p, size_t s, int n_block, sink *o) {
    (void)n_block;
    unpack_pairs(p, NULL, s, o);
    for (int j = 0; j < 16; j++)
        put_scale(o, j, vi_set1(scale_one));
    take_half(o, 0, 0, p + 64, s);
    widen_half(o, 0, 1, o->p->d);
}

/* A grid type: W rows of bytes and scales from expand.c, transposed into the panel. */
SIMD_FN void unpack_grid(const linear_type *t, const uint8_t *p, size_t s, sink *o) {
    linear_columns c[W];
    vi sc[4];
    for (int r = 0; r < W; r++) {
        if (o->prefetch_step) { /* the same row of the next group */
            const char *next = (const char *)p + (size_t)(LINEAR_ROWS + r) * s;
            simd_prefetch(next);
            simd_prefetch(next + 64);
        }
        t->expand(p + (size_t)r * s, 1, &c[r]);
        o->p->d[r] = c[r].d[0];
    }
    transpose_rows((const uint8_t *)c[0].sc, sizeof c[0], sc);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        vi v[4], factor = put_factor(o, i, 1, scale_s8(sc[i / 4], (uint32_t)i % 4));
        transpose_rows((const uint8_t *)c[0].q + 16 * i, sizeof c[0], v);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            put16_scaled(o, 4 * i + j, v[j], factor);
    }
}

/* ---- a group of 16 rows ---- */

typedef struct kernel kernel;
/* Its columns 256 kb .. */
typedef struct group {
    const linear_in *in;
    const kernel *k;
    const uint8_t *w; /* of row 0 */
    size_t stride;
    int64_t kb;
    int n_block; /* of weights */
    const uint8_t *prefetch;
    size_t prefetch_step;
    float *acc; /* [n_tok][16] */
} group;

SIMD_FN void each_block(const linear_in *in, const kernel *k, int64_t row0, int32_t rows,
                        float *acc, void (*block)(const group *)) {
    uint8_t edge[LINEAR_ROWS * KB_BYTES_MAX];
    size_t kb_bytes = (size_t)(LINEAR_K / in->type->block * in->type->block_bytes);
    const uint8_t *w = in->w + (size_t)row0 * in->row_bytes;
    group g = {.in = in, .k = k, .prefetch_step = 64 * NL, .acc = acc};
    memset(acc, 0, (size_t)in->n_tok * LINEAR_ROWS * sizeof *acc);
    for (; g.kb * LINEAR_K < in->n; g.kb++) {
        int64_t left = in->n - g.kb * LINEAR_K;
        g.n_block = (int)(left < LINEAR_K ? left : LINEAR_K) / in->type->block;
        g.w = w + (size_t)g.kb * kb_bytes;
        g.stride = in->row_bytes;
        g.prefetch = w + LINEAR_ROWS * (in->row_bytes + (size_t)g.kb * kb_bytes);
        if (rows < LINEAR_ROWS) { /* the last rows of a matrix: nothing behind them may be read */
            size_t n = in->row_bytes - (size_t)g.kb * kb_bytes;
            if (n > kb_bytes) n = kb_bytes;
            memset(edge, 0, sizeof edge);
            for (int r = 0; r < rows; r++)
                memcpy(edge + (size_t)r * kb_bytes, g.w + (size_t)r * in->row_bytes, n);
            g.w = edge;
            g.stride = kb_bytes;
            g.prefetch_step = 0;
        }
        block(&g);
    }
}

/* One token: any number of rows. */
SIMD_FN void each_group(const linear_in *in, const kernel *k, int64_t row0, int32_t rows,
                        float *acc, void (*block)(const group *)) {
    for (int32_t r = 0; r < rows; r += LINEAR_ROWS)
        each_block(in, k, row0 + r, rows - r < LINEAR_ROWS ? rows - r : LINEAR_ROWS, acc + r,
                   block);
}

/* The bytes of the next group that stand for rows r .. r + rows - 1 of this one, of n_block blocks:
 * what the dot products ask for. */
SIMD_FN void panel_ahead(const group *g, panel *p, int r, int rows) {
    int bytes = g->n_block * g->in->type->block_bytes;
    p->ahead = g->prefetch + r * bytes;
    p->n_line = g->prefetch_step ? (rows * bytes + 63) / 64 : 0;
}

/* So many lines at once that all are asked for by n_sub sub-blocks of each pass over the tokens,
 * which are taken at_once (4 or 8), 4, 2 and 1 at a time. */
SIMD_FN void set_ahead(panel *p, int n_tok, int at_once, int n_sub) {
    int passes = n_tok / at_once, left = n_tok % at_once;
    int steps = (passes + left / 4 + left % 4 / 2 + left % 2) * n_sub;
    p->n_ahead = (p->n_line + steps - 1) / steps;
}

/* Once per sub-block, or what else the panel's n_ahead was counted for. */
SIMD_FN void ask_ahead(panel *p) {
    for (int i = 0; i < p->n_ahead; i++)
        simd_prefetch(p->ahead + 64 * i);
    p->ahead += 64 * p->n_ahead;
}

#if PERI_VNNI
/* linear_vnni.c: the unpacker of a type, and 256 columns of rows r .. r + W - 1 of a group by it
 * (avx512vnni, neondot). */
const kernel *linear_kernel(const linear_type *t);
void linear_panel(const group *g, panel *p, int r);

/* ---- from sums to results (linear.h) ---- */

/* The sums of 32 columns as they enter the chain: with d and m of the block b. */
SIMD_FN vf block_sum(vf d, vf m, const act8 *a, int b, const vi s[2], scheme h) {
    vf x = vf_mul(vf_cvt(s[0]), d);
    if (h.has_two) return vf_fma(vf_cvt(s[1]), m, x);
    return h.n_min ? vf_fma(vf_cvt(four(&a->sum[b])), m, x) : x;
}

/* Scales of 256 columns of a type of span 256; m and mn only where it has minima. */
typedef struct whole {
    vf d, m;
    vi mn[8];
} whole;

SIMD_FN whole whole_of(const panel *p, scheme h) {
    whole c;
    c.d = c.m = vf_load(p->d);
    if (h.n_min) c.m = vf_load(p->m);
#pragma GCC unroll 8
    for (int j = 0; j < h.n_min; j++)
        c.mn[j] = vi_load(p->mn + j * W);
    return c;
}

/* acc + the sums t of 256 columns, scaled. */
SIMD_FN vf superblock_of(const whole *c, const act8 *a, vi t, vf acc, scheme h) {
    vf x = vf_mul(vf_cvt(t), c->d);
    if (h.n_min) {
        vi u = vi_set1(0);
#pragma GCC unroll 8
        for (int j = 0; j < h.n_min; j++)
            u = vi_dot16(u, c->mn[j], four(&a->sum[j]));
        x = vf_fnma(vf_cvt(u), c->m, x);
    }
    return vf_fma(x, vf_set1(a->dx[0]), acc);
}
SIMD_FN vf superblock(const panel *p, const act8 *a, vi t, vf acc, scheme h) {
    whole c = whole_of(p, h);
    return superblock_of(&c, a, t, acc, h);
}
#endif

/* N tokens, a literal, of those that are left. */
#define DOT_SOME(n, CALL)                                                                          \
    {                                                                                              \
        enum { N = n };                                                                            \
        CALL;                                                                                      \
        n_tok -= N, a += N, acc += N * LINEAR_ROWS;                                                \
    }

/* For rows r .. r + W - 1 of the group. */
SIMD_FN sink sink_of(const group *g, panel *p, int r) {
    size_t before = (size_t)r * (size_t)(g->n_block * g->in->type->block_bytes);
    return (sink){.p = p, .prefetch = g->prefetch + before, .prefetch_step = g->prefetch_step};
}

#endif
