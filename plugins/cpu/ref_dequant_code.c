/* SPDX-License-Identifier: MIT
 *
 * ref_dequant_code.c - decoders of the weight types whose bits are codes: sixteen values (IQ4,
 * MXFP4, NVFP4), grids of eight or four elements (IQ1, IQ2, IQ3), ternary and binary numbers.
 *
 * Conventions as in ref_dequant.c; the tables are those of grids.h.  Grid types: each run of 8 or 4
 * elements is an index into a book; IQ2 and IQ3 have a sign bit per element beside it, which flips
 * the element where it is set.  signs7: seven stored bits, the eighth makes their number even. */
#include "grids.h"
#include "ref_block.h"

enum { SUPER = 256 };

/* ---- sixteen values ----
 *
 * Nibbles as in Q4_0: element i of 32 is lo(q[i]), element i + 16 is hi(q[i]). */

static void codes32(const uint8_t *q, const int8_t *code, float d, float *y) {
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)code[q[i] & 15];
        y[i + 16] = d * (float)code[q[i] >> 4];
    }
}

/* IQ4_NL, 18 bytes: d f16 | q 16 bytes.  Value d * code_iq4. */
static void iq4_nl_block(const uint8_t *b, float *y) {
    codes32(b + 2, cpu_code_iq4, load_f16(b), y);
}

/* IQ4_XS, 136 bytes: d f16 | sh u16 | sl 4 bytes | q 128 bytes.
 * Sub-block s = i / 32 has a six-bit scale: lo (s even) or hi of sl[s / 2], top two bits at bit 2 s
 * of sh.  Value (d * (scale - 32)) * code_iq4. */
static void iq4_xs_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    uint32_t sh = load_u16(b + 2);
    for (int s = 0; s < 8; s++) {
        int scale = (b[4 + s / 2] >> s % 2 * 4 & 15) | (int)(sh >> 2 * s & 3) << 4;
        codes32(b + 8 + 16 * s, cpu_code_iq4, d * (float)(scale - 32), y + 32 * s);
    }
}

/* MXFP4, 17 bytes: e | q 16 bytes.  Value e8m0_half(e) * code_fp4. */
static void mxfp4_block(const uint8_t *b, float *y) {
    codes32(b + 1, cpu_code_fp4, cpu_e8m0_half(b[0]), y);
}

/* NVFP4, 36 bytes: e 4 bytes, one per 16 elements | q 4 times 8 bytes; element i of a sub-block is
 * lo(q[i]), element i + 8 is hi(q[i]).  Value e4m3_half(e) * code_fp4. */
static void nvfp4_block(const uint8_t *b, float *y) {
    for (int s = 0; s < 4; s++) {
        const uint8_t *q = b + 4 + 8 * s;
        float d = cpu_e4m3_half(b[s]);
        for (int i = 0; i < 8; i++) {
            y[16 * s + i] = d * (float)cpu_code_fp4[q[i] & 15];
            y[16 * s + 8 + i] = d * (float)cpu_code_fp4[q[i] >> 4];
        }
    }
}

/* ---- ternary and binary ---- */

/* Q1_0, 18 bytes: d f16 | 128 bits.  Value d where bit i is set, -d elsewhere. */
static void q1_0_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    for (int i = 0; i < 128; i++)
        y[i] = b[2 + i / 8] >> i % 8 & 1 ? d : -d;
}

/* Q2_0, 18 bytes: d f16 | 64 times two bits, element i at bit 2 (i % 4) of q[i / 4].  Value d * (q
 * - 1). */
static void q2_0_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    for (int i = 0; i < 64; i++)
        y[i] = d * (float)((b[2 + i / 4] >> i % 4 * 2 & 3) - 1);
}

/* TQ1_0, 54 bytes: q 48 bytes, five ternary digits each | h 4 bytes, four each | d f16.
 * A byte is the digits as a fraction of 256: digit n (the most significant is 0) is the integer
 * part of 3 * (byte * 3^n mod 256) / 256.  Elements: digit n of q[l] is 32 n + l for the first 32
 * bytes, 160 + 16 n + l for the next 16; of h[l] 240 + 4 n + l.  Value d * (digit - 1). */
static void ternary_run(const uint8_t *q, int n_byte, int n_digit, float d, float *y) {
    for (int n = 0, power = 1; n < n_digit; n++, power *= 3)
        for (int l = 0; l < n_byte; l++) {
            int digit = (uint8_t)(q[l] * power) * 3 >> 8;
            y[n * n_byte + l] = d * (float)(digit - 1);
        }
}

static void tq1_0_block(const uint8_t *b, float *y) {
    float d = load_f16(b + 52);
    ternary_run(b, 32, 5, d, y);
    ternary_run(b + 32, 16, 5, d, y + 160);
    ternary_run(b + 48, 4, 4, d, y + 240);
}

/* TQ2_0, 66 bytes: q 64 bytes | d f16.  Two-bit numbers as in Q2_K.  Value d * (two_bits - 1). */
static void tq2_0_block(const uint8_t *b, float *y) {
    float d = load_f16(b + 64);
    for (int i = 0; i < SUPER; i++)
        y[i] = d * (float)((b[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3) - 1);
}

/* ---- grids ---- */

/* n elements of an entry, times d, flipped by the sign bits. */
static void entry(uint64_t bytes, uint32_t signs, int n, float d, float *y) {
    for (int k = 0; k < n; k++) {
        float v = d * (float)(int8_t)(bytes >> 8 * k);
        y[k] = signs >> k & 1 ? -v : v;
    }
}

/* IQ2_XXS, 66 bytes: d f16 | per 32 elements 4 index bytes and u32 a.
 * Run l (of 4) has signs7 at bit 7 l of a; scale = bits 28-31 of a.  Value (d * (0.5 + scale) *
 * 0.25) * element. */
static void iq2_xxs_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    for (int s = 0; s < 8; s++) {
        const uint8_t *q = b + 2 + 8 * s;
        uint32_t a = load_u32(q + 4);
        float ds = d * (0.5f + (float)(a >> 28)) * 0.25f;
        for (int l = 0; l < 4; l++)
            entry(cpu_grid_iq2_xxs[q[l]], cpu_signs7(a >> 7 * l & 127), 8, ds, y + 32 * s + 8 * l);
    }
}

/* IQ2_XS, 74 bytes: d f16 | 32 times u16: index in bits 0-8, signs7 in 9-15 | sc 8 bytes.
 * Scale of the 16 elements s: lo (s even) or hi of sc[s / 2].  Value as IQ2_XXS. */
static void iq2_xs_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    for (int l = 0; l < 32; l++) {
        uint32_t q = load_u16(b + 2 + 2 * l);
        float ds = d * (0.5f + (float)(b[66 + l / 4] >> l / 2 % 2 * 4 & 15)) * 0.25f;
        entry(cpu_grid_iq2_xs[q & 511], cpu_signs7(q >> 9), 8, ds, y + 8 * l);
    }
}

/* IQ2_S, 82 bytes: d f16 | q 32 bytes | signs 32 bytes | h 8 bytes | sc 8 bytes.
 * Index of run l: q[l], with bits 2 (l % 4) and up of h[l / 4] on top.  Scales and value as IQ2_XS.
 */
static void iq2_s_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    for (int l = 0; l < 32; l++) {
        uint32_t index = b[2 + l] | (b[66 + l / 4] >> l % 4 * 2 & 3u) << 8;
        float ds = d * (0.5f + (float)(b[74 + l / 4] >> l / 2 % 2 * 4 & 15)) * 0.25f;
        entry(cpu_grid_iq2_s[index], b[34 + l], 8, ds, y + 8 * l);
    }
}

/* IQ3_XXS, 98 bytes: d f16 | q 64 index bytes, one per 4 elements | 8 times u32 a, as in IQ2_XXS.
 * Value (d * (0.5 + scale) * 0.5) * element. */
static void iq3_xxs_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    for (int l = 0; l < 64; l++) {
        uint32_t a = load_u32(b + 66 + l / 8 * 4);
        float ds = d * (0.5f + (float)(a >> 28)) * 0.5f;
        uint32_t signs = cpu_signs7(a >> l / 2 % 4 * 7 & 127) >> l % 2 * 4;
        entry(cpu_grid_iq3_xxs[b[2 + l]], signs, 4, ds, y + 4 * l);
    }
}

/* IQ3_S, 110 bytes: d f16 | q 64 bytes | h 8 bytes | signs 32 bytes | sc 4 bytes.
 * Index of the 4 elements l: q[l], ninth bit = bit l % 8 of h[l / 8].  Scale of the 32 elements s:
 * lo (s even) or hi of sc[s / 2].  Value (d * (1 + 2 * scale)) * element. */
static void iq3_s_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    for (int l = 0; l < 64; l++) {
        uint32_t index = b[2 + l] | (b[66 + l / 8] >> l % 8 & 1u) << 8;
        float ds = d * (float)(1 + 2 * (b[106 + l / 16] >> l / 8 % 2 * 4 & 15));
        entry(cpu_grid_iq3_s[index], (uint32_t)b[74 + l / 2] >> l % 2 * 4, 4, ds, y + 4 * l);
    }
}

/* Eight elements of IQ1: dl * (element + delta), delta = -1/8 where is_minus, else 1/8. */
static void entry1(uint32_t index, int is_minus, float dl, float *y) {
    float delta = is_minus ? -0.125f : 0.125f;
    for (int k = 0; k < 8; k++)
        y[k] = dl * ((float)(int8_t)(cpu_grid_iq1[index] >> 8 * k) + delta);
}

/* IQ1_S, 50 bytes: d f16 | q 32 bytes | h 8 times u16, one per 32 elements.
 * Index of run l of 8: q[l], three more bits at bit 3 (l % 4) of h[l / 4].  Bits 12-14 of h: scale;
 * bit 15: delta is negative.  dl = d * (2 * scale + 1). */
static void iq1_s_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    for (int l = 0; l < 32; l++) {
        uint32_t h = load_u16(b + 34 + l / 4 * 2);
        float dl = d * (float)(2 * (h >> 12 & 7) + 1);
        entry1(b[2 + l] | (h >> l % 4 * 3 & 7) << 8, (int)(h >> 15), dl, y + 8 * l);
    }
}

/* IQ1_M, 56 bytes: q 32 bytes | h 16 bytes | sc 4 times u16.
 * d f16: bits 12-15 of the four sc, the first lowest.  Run l of 8: n = lo (l even) or hi of h[l /
 * 2]; index q[l] with bits 0-2 of n on top; bit 3: delta is negative.  Scale of the 16 elements s:
 * three bits at bit 3 (s % 4) of sc[s / 4].  dl as IQ1_S. */
static void iq1_m_block(const uint8_t *b, float *y) {
    uint32_t sc[4], bits = 0;
    for (int i = 0; i < 4; i++) {
        sc[i] = load_u16(b + 48 + 2 * i);
        bits |= sc[i] >> 12 << 4 * i;
    }
    float d = ref_f16_to_f32((uint16_t)bits);
    for (int l = 0; l < 32; l++) {
        uint32_t n = b[32 + l / 2] >> l % 2 * 4 & 15u, scale = sc[l / 8] >> l / 2 % 4 * 3 & 7;
        entry1(b[l] | (n & 7) << 8, (int)(n >> 3), d * (float)(2 * scale + 1), y + 8 * l);
    }
}

/* ---- all types ---- */

ref_block_fn ref_code_decoder(uint32_t dtype) {
    static const struct {
        uint32_t dtype;
        ref_block_fn decode;
    } decoders[] = {
        {PERI_CPU_IQ4_NL, iq4_nl_block},   {PERI_CPU_IQ4_XS, iq4_xs_block},
        {PERI_CPU_MXFP4, mxfp4_block},     {PERI_CPU_NVFP4, nvfp4_block},
        {PERI_CPU_Q1_0, q1_0_block},       {PERI_CPU_Q2_0, q2_0_block},
        {PERI_CPU_TQ1_0, tq1_0_block},     {PERI_CPU_TQ2_0, tq2_0_block},
        {PERI_CPU_IQ2_XXS, iq2_xxs_block}, {PERI_CPU_IQ2_XS, iq2_xs_block},
        {PERI_CPU_IQ2_S, iq2_s_block},     {PERI_CPU_IQ3_XXS, iq3_xxs_block},
        {PERI_CPU_IQ3_S, iq3_s_block},     {PERI_CPU_IQ1_S, iq1_s_block},
        {PERI_CPU_IQ1_M, iq1_m_block},
    };
    for (size_t i = 0; i < sizeof decoders / sizeof *decoders; i++)
        if (decoders[i].dtype == dtype) return decoders[i].decode;
    return NULL;
}
