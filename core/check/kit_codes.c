/* SPDX-License-Identifier: MIT
 *
 * kit_codes.c - weight types whose bits are codes, element by element in f64: sixteen values (IQ4,
 * MXFP4, NVFP4), three (TQ), two (Q1_0) and four (Q2_0); scales of random blocks that are no f16
 * of their own. */
#include <math.h>

#include "check/kit.h"
#include "model/dtype.h"

#include "base/compiler.h"

static const int iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                            1,    13,   25,  38,  53,  69,  89,  113};

/* E2M1: sign, two bits of exponent, one of mantissa. */
static double fp4(int code) {
    int e = code >> 1 & 3, m = code & 1;
    double y = e ? ldexp(1 + 0.5 * m, e - 1) : 0.5 * m;
    return code & 8 ? -y : y;
}

/* E4M3 without its sign; the code of NaN counts as nothing. */
static double e4m3(int code) {
    int e = code >> 3 & 15, m = code & 7;
    if (code == 0x7f) return 0;
    return e ? ldexp(1 + m / 8.0, e - 7) : ldexp(m / 8.0, -6);
}

static int pair(const unsigned char *q, int i, int half) {
    return i < half ? q[i] & 15 : q[i - half] >> 4;
}

static double iq4_xs(const unsigned char *b, int i, double d) {
    int s = i / 32, low = s % 2 ? b[4 + s / 2] >> 4 : b[4 + s / 2] & 15;
    int top = (b[2] | b[3] << 8) >> 2 * s & 3;
    return d * ((low | top << 4) - 32) * iq4[pair(b + 8 + 16 * s, i % 32, 16)];
}

/* Digit n, the most significant first, of a byte that is a fraction in base three. */
static int ternary(int byte, int n) {
    while (n-- > 0)
        byte = byte * 3 & 255;
    return byte * 3 >> 8;
}

static double tq1_0(const unsigned char *b, int i) {
    double d = kit_f16(b + 52);
    if (i < 160) return d * (ternary(b[i % 32], i / 32) - 1);
    if (i < 240) return d * (ternary(b[32 + i % 16], (i - 160) / 16) - 1);
    return d * (ternary(b[48 + i % 4], (i - 240) / 4) - 1);
}

bool kit_is_code(uint32_t dtype) {
    switch (dtype) {
    case PERI_DT_IQ4_NL:
    case PERI_DT_IQ4_XS:
    case PERI_DT_TQ1_0:
    case PERI_DT_TQ2_0:
    case PERI_DT_MXFP4:
    case PERI_DT_NVFP4:
    case PERI_DT_Q1_0:
    case PERI_DT_Q2_0:
        return true;
    }
    return false;
}

double kit_code_value(uint32_t dtype, const unsigned char *b, int i) {
    switch (dtype) {
    case PERI_DT_IQ4_NL:
        return kit_f16(b) * iq4[pair(b + 2, i, 16)];
    case PERI_DT_IQ4_XS:
        return iq4_xs(b, i, kit_f16(b));
    case PERI_DT_TQ1_0:
        return tq1_0(b, i);
    case PERI_DT_TQ2_0:
        return kit_f16(b + 64) * ((b[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3) - 1);
    case PERI_DT_MXFP4:
        return ldexp(fp4(pair(b + 1, i, 16)), b[0] - 127);
    case PERI_DT_NVFP4:
        return e4m3(b[i / 16]) * fp4(pair(b + 4 + i / 16 * 8, i % 16, 8));
    case PERI_DT_Q1_0:
        return kit_f16(b) * (b[2 + i / 8] >> i % 8 & 1 ? 1 : -1);
    default: /* Q2_0 */
        return kit_f16(b) * ((b[2 + i / 4] >> i % 4 * 2 & 3) - 1);
    }
}

/* A block of random bits gets scales of usual size: 2^-8 to 2^-4. */
void kit_code_scale(uint32_t dtype, unsigned char *b, uint64_t key) {
    if (dtype == PERI_DT_MXFP4) b[0] = (unsigned char)(119 + kit_pick(key, 500, 4));
    for (uint64_t k = 0; k < 4 && dtype == PERI_DT_NVFP4; k++)
        b[k] = (unsigned char)kit_pick(key, 500 + k, 32);
    if (dtype == PERI_DT_IQ1_M) { /* the nibbles of an f16, on top of four words */
        uint32_t d = (7 + kit_pick(key, 500, 4)) << 10 | kit_pick(key, 600, 1024) |
                     kit_pick(key, 700, 2) << 15;
        for (int k = 0; k < 4; k++)
            b[49 + 2 * k] = (unsigned char)((b[49 + 2 * k] & 15) | (d >> 4 * k & 15) << 4);
    }
}
