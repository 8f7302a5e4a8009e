/* SPDX-License-Identifier: MIT
 *
 * expand.c - the expanders of expand.h.  Block layouts: ref_dequant_code.c; here only how they are
 * taken apart eight elements at a time.
 *
 * Factors move from the scales into d or q where that is exact: IQ2 values are d / 8 * (2 scale +
 * 1) * element, IQ3_XXS d / 4 * ..., IQ1 d / 8 * (2 scale + 1) * (8 element +- 1).  Ranges: q
 * -127..127, sc -32..31, and the products q * sc fit int16. */
#include "expand.h"

#include <string.h>

#include "grids.h"
#include "ref.h"

static const uint64_t EACH = 0x0101010101010101u;

static uint32_t load_u16(const uint8_t *p) {
    return (uint32_t)(p[0] | p[1] << 8);
}
static uint32_t load_u32(const uint8_t *p) {
    return load_u16(p) | load_u16(p + 2) << 16;
}
static float load_half(const uint8_t *p) {
    return ref_f16_to_f32((uint16_t)load_u16(p));
}

/* Eight bytes of 1..127, negated where the mask is set: no byte borrows. */
static void put_signed(int8_t *q, uint64_t bytes, uint64_t mask) {
    uint64_t v = (bytes ^ mask) + (mask & EACH);
    memcpy(q, &v, 8);
}

/* ---- grids ---- */

/* Scale bits a few to a number, 16 or 32 columns each, become the odd number 2 scale + 1. */
static int8_t odd(uint32_t scale) {
    return (int8_t)(2 * scale + 1);
}

void linear_expand_iq2_xxs(const uint8_t *p, int n_block, linear_columns *c) {
    (void)n_block;
    c->d[0] = load_half(p) * 0.125f;
    for (int s = 0; s < 8; s++) {
        const uint8_t *q = p + 2 + 8 * s;
        uint32_t a = load_u32(q + 4);
        c->sc[2 * s] = c->sc[2 * s + 1] = odd(a >> 28);
        for (int l = 0; l < 4; l++)
            put_signed(c->q + 32 * s + 8 * l, cpu_grid_iq2_xxs[q[l]], cpu_mask7[a >> 7 * l & 127]);
    }
}

/* Sixteen scales of four bits. */
static void nibble_scales(const uint8_t *p, linear_columns *c) {
    for (int s = 0; s < 8; s++) {
        c->sc[2 * s] = odd(p[s] & 15);
        c->sc[2 * s + 1] = odd(p[s] >> 4);
    }
}

void linear_expand_iq2_xs(const uint8_t *p, int n_block, linear_columns *c) {
    (void)n_block;
    c->d[0] = load_half(p) * 0.125f;
    nibble_scales(p + 66, c);
    for (int l = 0; l < 32; l++) {
        uint32_t q = load_u16(p + 2 + 2 * l);
        put_signed(c->q + 8 * l, cpu_grid_iq2_xs[q & 511], cpu_mask7[q >> 9]);
    }
}

void linear_expand_iq2_s(const uint8_t *p, int n_block, linear_columns *c) {
    (void)n_block;
    c->d[0] = load_half(p) * 0.125f;
    nibble_scales(p + 74, c);
    for (int s = 0; s < 8; s++) {
        const uint8_t *q = p + 2 + 4 * s, *signs = p + 34 + 4 * s;
        uint32_t h = (uint32_t)p[66 + s] << 8;
        for (int l = 0; l < 4; l++)
            put_signed(c->q + 32 * s + 8 * l, cpu_grid_iq2_s[q[l] | (h >> 2 * l & 0x300)],
                       cpu_mask8[signs[l]]);
    }
}

void linear_expand_iq3_xxs(const uint8_t *p, int n_block, linear_columns *c) {
    (void)n_block;
    c->d[0] = load_half(p) * 0.25f;
    for (int s = 0; s < 8; s++) {
        const uint8_t *q = p + 2 + 8 * s;
        uint32_t a = load_u32(p + 66 + 4 * s);
        c->sc[2 * s] = c->sc[2 * s + 1] = odd(a >> 28);
        for (int l = 0; l < 4; l++) {
            uint64_t v = cpu_grid_iq3_xxs[q[2 * l]] | (uint64_t)cpu_grid_iq3_xxs[q[2 * l + 1]]
                                                          << 32;
            put_signed(c->q + 32 * s + 8 * l, v, cpu_mask7[a >> 7 * l & 127]);
        }
    }
}

void linear_expand_iq3_s(const uint8_t *p, int n_block, linear_columns *c) {
    (void)n_block;
    c->d[0] = load_half(p);
    for (int s = 0; s < 8; s++) {
        const uint8_t *q = p + 2 + 8 * s, *signs = p + 74 + 4 * s;
        uint32_t h = p[66 + s];
        c->sc[2 * s] = c->sc[2 * s + 1] = odd(p[106 + s / 2] >> s % 2 * 4 & 15);
        for (int l = 0; l < 4; l++, h >>= 2) {
            uint32_t i0 = q[2 * l] | (h & 1) << 8, i1 = q[2 * l + 1] | (h & 2) << 7;
            uint64_t v = cpu_grid_iq3_s[i0] | (uint64_t)cpu_grid_iq3_s[i1] << 32;
            put_signed(c->q + 32 * s + 8 * l, v, cpu_mask8[signs[l]]);
        }
    }
}

/* Eight elements of IQ1 as 8 element + 1 or - 1: bytes of -1, 0, 1 become -8, 0, 8 by shifting
 * (0xff << 3 is 0xf8 once the neighbour's bits are cleared), and no sum leaves its byte. */
static void put_iq1(int8_t *q, uint32_t index, uint32_t is_minus) {
    uint64_t e = cpu_grid_iq1[index] << 3 & 0xf8 * EACH, one = (1 + 254 * is_minus) * EACH;
    uint64_t v = ((e & 0x7f * EACH) + (one & 0x7f * EACH)) ^ ((e ^ one) & 0x80 * EACH);
    memcpy(q, &v, 8);
}

void linear_expand_iq1_s(const uint8_t *p, int n_block, linear_columns *c) {
    (void)n_block;
    c->d[0] = load_half(p) * 0.125f;
    for (int s = 0; s < 8; s++) {
        uint32_t h = load_u16(p + 34 + 2 * s);
        c->sc[2 * s] = c->sc[2 * s + 1] = odd(h >> 12 & 7);
        for (int l = 0; l < 4; l++)
            put_iq1(c->q + 32 * s + 8 * l, p[2 + 4 * s + l] | (h >> 3 * l & 7) << 8, h >> 15);
    }
}

void linear_expand_iq1_m(const uint8_t *p, int n_block, linear_columns *c) {
    uint32_t bits = 0;
    (void)n_block;
    for (int s = 0; s < 16; s++) {
        uint32_t sc = load_u16(p + 48 + s / 4 * 2), h = p[32 + s];
        bits |= sc >> 12 << s / 4 * 4;
        c->sc[s] = odd(sc >> s % 4 * 3 & 7);
        put_iq1(c->q + 16 * s, p[2 * s] | (h & 7) << 8, h >> 3 & 1);
        put_iq1(c->q + 16 * s + 8, p[2 * s + 1] | (h & 0x70) << 4, h >> 7);
    }
    c->d[0] = ref_f16_to_f32((uint16_t)bits) * 0.125f;
}

/* ---- sixteen values ---- */

/* n bytes: low nibbles to q[0 ..], high nibbles to q[n ..]. */
static void nibbles(const uint8_t *p, int n, const int8_t *code, int8_t *q) {
    for (int i = 0; i < n; i++) {
        q[i] = code[p[i] & 15];
        q[i + n] = code[p[i] >> 4];
    }
}

void linear_expand_iq4_nl(const uint8_t *p, int n_block, linear_columns *c) {
    for (int b = 0; b < n_block; b++, p += 18) {
        c->d[b] = load_half(p);
        nibbles(p + 2, 16, cpu_code_iq4, c->q + 32 * b);
    }
}

void linear_expand_iq4_xs(const uint8_t *p, int n_block, linear_columns *c) {
    uint32_t top = load_u16(p + 2);
    (void)n_block;
    c->d[0] = load_half(p);
    for (int s = 0; s < 8; s++, top >>= 2) {
        int scale = (p[4 + s / 2] >> s % 2 * 4 & 15) | (int)(top & 3) << 4;
        c->sc[2 * s] = c->sc[2 * s + 1] = (int8_t)(scale - 32);
        nibbles(p + 8 + 16 * s, 16, cpu_code_iq4, c->q + 32 * s);
    }
}

void linear_expand_mxfp4(const uint8_t *p, int n_block, linear_columns *c) {
    for (int b = 0; b < n_block; b++, p += 17) {
        c->d[b] = cpu_e8m0_half(p[0]);
        nibbles(p + 1, 16, cpu_code_fp4, c->q + 32 * b);
    }
}

void linear_expand_nvfp4(const uint8_t *p, int n_block, linear_columns *c) {
    for (int b = 0; b < n_block; b++, p += 36)
        for (int s = 0; s < 4; s++) {
            c->d[4 * b + s] = cpu_e4m3_half(p[s]);
            nibbles(p + 4 + 8 * s, 8, cpu_code_fp4, c->q + 64 * b + 16 * s);
        }
}

/* ---- ternary and binary ---- */

/* Eight bytes whose low bits hold a number, each less one; more than 0 stays positive. */
static void put_less_one(int8_t *q, uint64_t bytes) {
    uint64_t high = 0x80 * EACH, v = ((bytes | high) - EACH) ^ high;
    memcpy(q, &v, 8);
}

void linear_expand_tq2_0(const uint8_t *p, int n_block, linear_columns *c) {
    (void)n_block;
    c->d[0] = load_half(p + 64);
    memset(c->sc, 1, sizeof c->sc);
    for (int i = 0; i < LINEAR_K; i += 8) {
        uint64_t v;
        memcpy(&v, p + i / 128 * 32 + i % 32, 8);
        put_less_one(c->q + i, v >> i % 128 / 32 * 2 & 3 * EACH);
    }
}

/* n_digit digits of n bytes (ref_dequant_code.c). */
static int8_t *ternary_run(const uint8_t *p, int n, int n_digit, int8_t *q) {
    for (int k = 0, power = 1; k < n_digit; k++, power *= 3, q += n)
        for (int l = 0; l < n; l++)
            q[l] = (int8_t)(((uint8_t)(p[l] * power) * 3 >> 8) - 1);
    return q;
}

void linear_expand_tq1_0(const uint8_t *p, int n_block, linear_columns *c) {
    (void)n_block;
    c->d[0] = load_half(p + 52);
    memset(c->sc, 1, sizeof c->sc);
    int8_t *q = ternary_run(p, 32, 5, c->q);
    q = ternary_run(p + 32, 16, 5, q);
    ternary_run(p + 48, 4, 4, q);
}

void linear_expand_q1_0(const uint8_t *p, int n_block, linear_columns *c) {
    for (int b = 0; b < n_block; b++, p += 18) {
        for (int i = 0; i < 4; i++)
            c->d[4 * b + i] = load_half(p);
        for (int i = 0; i < 16; i++) /* 1 where set, -1 elsewhere */
            put_signed(c->q + 128 * b + 8 * i, EACH, cpu_mask8[p[2 + i] ^ 255]);
    }
}

void linear_expand_q2_0(const uint8_t *p, int n_block, linear_columns *c) {
    for (int b = 0; b < n_block; b++, p += 18) {
        c->d[2 * b] = c->d[2 * b + 1] = load_half(p);
        for (int i = 0; i < 16; i++) /* elements 4 i .. 4 i + 3 */
            for (int k = 0; k < 4; k++)
                c->q[64 * b + 4 * i + k] = (int8_t)((p[2 + i] >> 2 * k & 3) - 1);
    }
}
