/* SPDX-License-Identifier: MIT
 *
 * ref_dequant.c - decoders of the weight types, one per block layout: plain numbers and linear
 * codes; those with tables are in ref_dequant_code.c.
 *
 * A row is a run of blocks (dtype.def gives their sizes).  All numbers are little endian; f16 is
 * IEEE binary16. Blocks are read bytewise: nothing is assumed of their alignment.  In every formula
 * the f32 operations happen in the order written, each rounded, so that the results are the same
 * bits everywhere.
 *
 * Bit positions count from the least significant bit; `lo(b)` is bits 0-3 of byte b, `hi(b)` bits
 * 4-7. Checked: tests/peer/dequant.py against the peer's decoder, tests/unit/test_dequant.c by
 * hand. */
#include "ref_block.h"

enum { SMALL = 32, SUPER = 256 }; /* elements of the two block families */

/* ---- half precision ---- */

/* Exponent and mantissa moved into f32's places, then scaled by 2^(127 - 15): exact, subnormals
 * included. */
float ref_f16_to_f32(uint16_t h) {
    uint32_t u = (uint32_t)(h & 0x7fff) << 13, sign = (uint32_t)(h & 0x8000) << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    f *= 0x1p112f;
    if ((h & 0x7c00) == 0x7c00) { /* infinity, NaN: all exponent bits set in f32 too */
        u |= 0x7f800000u | sign;
        memcpy(&f, &u, sizeof f);
        return f;
    }
    memcpy(&u, &f, sizeof u);
    u |= sign;
    memcpy(&f, &u, sizeof f);
    return f;
}

uint16_t ref_f32_to_f16(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t sign = u >> 16 & 0x8000, mag = u & 0x7fffffff;
    if (mag > 0x7f800000u) return (uint16_t)(sign | 0x7e00 | (mag >> 13 & 0x1ff)); /* NaN */
    if (mag >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* 65520 and above: infinity */
    if (mag < 0x38800000u) {                                  /* below 2^-14: units of 2^-24 */
        float scaled;
        memcpy(&scaled, &mag, sizeof scaled);
        scaled = scaled * 0x1p24f + 0x1p23f; /* rounds to an integer in the low mantissa bits */
        memcpy(&mag, &scaled, sizeof mag);
        return (uint16_t)(sign | (mag - 0x4b000000u));
    }
    uint32_t half = mag - 0x38000000u; /* exponent rebiased from 127 to 15 */
    return (uint16_t)(sign | (half + 0xfff + (half >> 13 & 1)) >> 13);
}

uint16_t ref_f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffff) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float load_f32(const uint8_t *p) {
    uint32_t u = load_u32(p);
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* ---- plain types: one element a block ---- */

static void f32_block(const uint8_t *b, float *y) {
    *y = load_f32(b);
}

static void f16_block(const uint8_t *b, float *y) {
    *y = load_f16(b);
}

/* bf16: the upper half of an f32. */
static void bf16_block(const uint8_t *b, float *y) {
    uint32_t u = (uint32_t)load_u16(b) << 16;
    memcpy(y, &u, sizeof *y);
}

static void f64_block(const uint8_t *b, float *y) {
    uint64_t u = load_u32(b) | (uint64_t)load_u32(b + 4) << 32;
    double d;
    memcpy(&d, &u, sizeof d);
    *y = (float)d;
}

/* ---- 32 elements: one scale ---- */

/* Q4_0, 18 bytes: d f16 | q 16 bytes.  Element i: d * (lo(q[i]) - 8), element i + 16: d * (hi(q[i])
 * - 8). */
static void q4_0_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    const uint8_t *q = b + 2;
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((q[i] & 15) - 8);
        y[i + 16] = d * (float)((q[i] >> 4) - 8);
    }
}

/* Q4_1, 20 bytes: d f16 | m f16 | q 16 bytes.  Elements as Q4_0, value d * q + m, q in 0..15. */
static void q4_1_block(const uint8_t *b, float *y) {
    float d = load_f16(b), m = load_f16(b + 2);
    const uint8_t *q = b + 4;
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(q[i] & 15) + m;
        y[i + 16] = d * (float)(q[i] >> 4) + m;
    }
}

/* Five-bit number of element i: low four bits as in Q4_0, fifth bit = bit i of the 32-bit word h.
 */
static int five_bits(const uint8_t *q, uint32_t h, int i) {
    int low = i < 16 ? q[i] & 15 : q[i - 16] >> 4;
    return low | (int)(h >> i & 1) << 4;
}

/* Q5_0, 22 bytes: d f16 | h u32 | q 16 bytes.  Value d * (five_bits - 16). */
static void q5_0_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    uint32_t h = load_u32(b + 2);
    for (int i = 0; i < SMALL; i++)
        y[i] = d * (float)(five_bits(b + 6, h, i) - 16);
}

/* Q5_1, 24 bytes: d f16 | m f16 | h u32 | q 16 bytes.  Value d * five_bits + m. */
static void q5_1_block(const uint8_t *b, float *y) {
    float d = load_f16(b), m = load_f16(b + 2);
    uint32_t h = load_u32(b + 4);
    for (int i = 0; i < SMALL; i++)
        y[i] = d * (float)five_bits(b + 8, h, i) + m;
}

/* Q8_0, 34 bytes: d f16 | q 32 signed bytes.  Value d * q. */
static void q8_0_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    for (int i = 0; i < SMALL; i++)
        y[i] = d * (float)(int8_t)b[2 + i];
}

/* Q8_1, 36 bytes: d f16 | s f16 = d * sum q, for dot products only | q 32 signed bytes.  Value d *
 * q. */
static void q8_1_block(const uint8_t *b, float *y) {
    float d = load_f16(b);
    for (int i = 0; i < SMALL; i++)
        y[i] = d * (float)(int8_t)b[4 + i];
}

/* ---- 256 elements: scales of sub-blocks, themselves scaled ----
 *
 * Two-bit numbers (Q2_K, Q3_K): q has two halves of 32 bytes for elements 0-127 and 128-255;
 * element 32 k + l of a half (k 0..3, l 0..31) is bits 2k, 2k + 1 of the half's byte l.  Four-bit
 * numbers (Q4_K, Q5_K): four runs of 32 bytes for 64 elements each; element l of a run is lo(byte
 * l), element 32 + l is hi(byte l). */

static int two_bits(const uint8_t *q, int i) {
    return q[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
}

static int four_bits(const uint8_t *q, int i) {
    return q[i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15;
}

/* Q2_K, 84 bytes: sc 16 bytes | q 64 bytes | d f16 | dmin f16.
 * Element i of sub-block s = i / 16: (d * lo(sc[s])) * two_bits - dmin * hi(sc[s]). */
static void q2_k_block(const uint8_t *b, float *y) {
    const uint8_t *sc = b, *q = b + 16;
    float d = load_f16(b + 80), dmin = load_f16(b + 82);
    for (int i = 0; i < SUPER; i++) {
        float scale = d * (float)(sc[i / 16] & 15), min = dmin * (float)(sc[i / 16] >> 4);
        y[i] = scale * (float)two_bits(q, i) - min;
    }
}

/* Q3_K, 110 bytes: h 32 bytes | q 64 bytes | sc 12 bytes | d f16.
 * Sub-block s = i / 16 has a six-bit scale: low four bits in lo (s < 8) or hi of sc[s % 8], high
 * two bits at bit 2 (s / 4) of sc[8 + s % 4].  Third bit of element i: bit i / 32 of h[i % 32];
 * where it is clear, 4 is subtracted. Value (d * (scale - 32)) * (two_bits - 4 * !third). */
static void q3_k_block(const uint8_t *b, float *y) {
    const uint8_t *h = b, *q = b + 32, *sc = b + 96;
    float d = load_f16(b + 108);
    for (int i = 0; i < SUPER; i++) {
        int s = i / 16;
        int scale = (sc[s % 8] >> s / 8 * 4 & 15) | (sc[8 + s % 4] >> s / 4 * 2 & 3) << 4;
        int third = h[i % 32] >> i / 32 & 1;
        y[i] = d * (float)(scale - 32) * (float)(two_bits(q, i) - (third ? 0 : 4));
    }
}

/* Scale and minimum, six bits each, of sub-block s (0..7) in the 12 bytes shared by Q4_K and Q5_K:
 *   s < 4: bits 0-5 of byte s, bits 0-5 of byte 4 + s
 *   s >= 4: lo and hi of byte 4 + s, with bits 6-7 of bytes s - 4 and s as their top bits. */
static void scale_min(const uint8_t *sc, int s, int *scale, int *min) {
    if (s < 4) {
        *scale = sc[s] & 63;
        *min = sc[s + 4] & 63;
    } else {
        *scale = (sc[s + 4] & 15) | sc[s - 4] >> 6 << 4;
        *min = sc[s + 4] >> 4 | sc[s] >> 6 << 4;
    }
}

/* Q4_K, 144 bytes: d f16 | dmin f16 | sc 12 bytes | q 128 bytes.
 * Element i of sub-block s = i / 32: (d * scale_s) * four_bits - dmin * min_s. */
static void q4_k_block(const uint8_t *b, float *y) {
    float d = load_f16(b), dmin = load_f16(b + 2);
    for (int s = 0; s < 8; s++) {
        int scale, min;
        scale_min(b + 4, s, &scale, &min);
        float ds = d * (float)scale, ms = dmin * (float)min;
        for (int i = s * 32; i < s * 32 + 32; i++)
            y[i] = ds * (float)four_bits(b + 16, i) - ms;
    }
}

/* Q5_K, 176 bytes: d f16 | dmin f16 | sc 12 bytes | h 32 bytes | q 128 bytes.
 * As Q4_K with a fifth bit: bit s of h[i % 32]. */
static void q5_k_block(const uint8_t *b, float *y) {
    const uint8_t *h = b + 16, *q = b + 48;
    float d = load_f16(b), dmin = load_f16(b + 2);
    for (int s = 0; s < 8; s++) {
        int scale, min;
        scale_min(b + 4, s, &scale, &min);
        float ds = d * (float)scale, ms = dmin * (float)min;
        for (int l = 0; l < 32; l++) {
            int five = four_bits(q, s * 32 + l) | (h[l] >> s & 1) << 4;
            y[s * 32 + l] = ds * (float)five - ms;
        }
    }
}

/* Q6_K, 210 bytes: ql 128 bytes | qh 64 bytes | sc 16 signed bytes | d f16.
 * Two halves of 128 elements with 64 bytes of ql and 32 of qh each.  Element r of a half: low four
 * bits in lo (r < 64) or hi of ql[r % 64], high two bits at bit 2 (r / 32) of qh[r % 32].  Value (d
 * * sc[i / 16]) * (six_bits - 32). */
static void q6_k_block(const uint8_t *b, float *y) {
    const int8_t *sc = (const int8_t *)b + 192;
    float d = load_f16(b + 208);
    for (int i = 0; i < SUPER; i++) {
        int half = i / 128, r = i % 128;
        int low = b[half * 64 + r % 64] >> r / 64 * 4 & 15;
        int high = b[128 + half * 32 + r % 32] >> r / 32 * 2 & 3;
        y[i] = d * (float)sc[i / 16] * (float)((low | high << 4) - 32);
    }
}

/* Q8_K, 292 bytes: d f32 | q 256 signed bytes | 16 i16 sums of 16 elements, for dot products only.
 * Value d * q. */
static void q8_k_block(const uint8_t *b, float *y) {
    float d = load_f32(b);
    for (int i = 0; i < SUPER; i++)
        y[i] = d * (float)(int8_t)b[4 + i];
}

/* ---- all types ---- */

static ref_block_fn decoder(uint32_t dtype) {
    switch (dtype) {
    case PERI_CPU_F32:
        return f32_block;
    case PERI_CPU_F16:
        return f16_block;
    case PERI_CPU_BF16:
        return bf16_block;
    case PERI_CPU_F64:
        return f64_block;
    case PERI_CPU_Q4_0:
        return q4_0_block;
    case PERI_CPU_Q4_1:
        return q4_1_block;
    case PERI_CPU_Q5_0:
        return q5_0_block;
    case PERI_CPU_Q5_1:
        return q5_1_block;
    case PERI_CPU_Q8_0:
        return q8_0_block;
    case PERI_CPU_Q8_1:
        return q8_1_block;
    case PERI_CPU_Q2_K:
        return q2_k_block;
    case PERI_CPU_Q3_K:
        return q3_k_block;
    case PERI_CPU_Q4_K:
        return q4_k_block;
    case PERI_CPU_Q5_K:
        return q5_k_block;
    case PERI_CPU_Q6_K:
        return q6_k_block;
    case PERI_CPU_Q8_K:
        return q8_k_block;
    }
    return ref_code_decoder(dtype);
}

int ref_can_dequant(uint32_t dtype) {
    return decoder(dtype) != NULL;
}

void ref_dequant_row(uint32_t dtype, const void *src, float *dst, int64_t n) {
    peri_dtype_info type = peri_dtype_of(dtype);
    ref_block_fn decode = decoder(dtype);
    const uint8_t *b = src;
    if (dtype == PERI_CPU_F32) { /* the common plain types without a call per element */
        memcpy(dst, src, (size_t)n * sizeof *dst);
    } else if (dtype == PERI_CPU_F16) {
        for (int64_t i = 0; i < n; i++)
            f16_block(b + 2 * i, dst + i);
    } else if (dtype == PERI_CPU_BF16) {
        for (int64_t i = 0; i < n; i++)
            bf16_block(b + 2 * i, dst + i);
    } else {
        for (int64_t i = 0; i < n; i += type.n, b += type.bytes)
            decode(b, dst + i);
    }
}
