/* SPDX-License-Identifier: MIT
 *
 * kit_blocks.c - weight types element by element in f64, random blocks of them, and the kit's
 * random numbers.
 *
 * A block type is decoded by asking for one element at a time: value(block, i).  Layouts are those
 * of the GGUF types; bit positions count from the least significant bit. */
#include <math.h>
#include <string.h>

#include "check/kit.h"
#include "model/dtype.h"

#include "base/compiler.h"

/* ---- halves ------------------------------------------------------------------------------------
 */

/* x to the nearest number with `mantissa` bits behind the point and exponents from `lowest` on;
 * ties to even, since the quotient is exact and rint rounds so. */
static double round_to(double x, int mantissa, int lowest, double largest) {
    int e;
    if (x == 0 || !isfinite(x)) return x;
    frexp(x, &e);
    double unit = ldexp(1, (e - 1 < lowest ? lowest : e - 1) - mantissa), y = rint(x / unit) * unit;
    return fabs(y) > largest ? copysign(INFINITY, x) : y;
}

double kit_round_f16(double x) {
    return round_to(x, 10, -14, 65504);
}

double kit_round_bf16(double x) {
    return round_to((double)(float)x, 7, -126, 0x1.fep127);
}

double kit_f16(const unsigned char *p) {
    unsigned bits = (unsigned)p[0] | (unsigned)p[1] << 8, e = bits >> 10 & 31, m = bits & 1023;
    double y = e ? ldexp(1024 + m, (int)e - 25) : ldexp(m, -24);
    if (e == 31) y = m ? (double)NAN : (double)INFINITY;
    return bits >> 15 ? -y : y;
}

static double f32_at(const unsigned char *p) {
    float f;
    memcpy(&f, p, sizeof f);
    return (double)f;
}

uint32_t kit_bits_of(uint32_t dtype, double x) {
    float f = (float)(dtype == PERI_DT_F16    ? kit_round_f16(x)
                      : dtype == PERI_DT_BF16 ? kit_round_bf16(x)
                                              : x);
    uint32_t u, sign, mag;
    memcpy(&u, &f, sizeof u);
    if (dtype == PERI_DT_BF16) return u >> 16;
    if (dtype != PERI_DT_F16) return u;
    sign = u >> 16 & 0x8000;
    mag = u & 0x7fffffff;
    if (mag >= 0x47800000u) return sign | 0x7c00;
    if (mag < 0x38800000u) return sign | (uint32_t)ldexp(fabs((double)f), 24);
    return sign | (mag - 0x38000000u) >> 13;
}

/* ---- values -------------------------------------------------------------------------------------
 */

static int nibble(const unsigned char *q, int i, int half) { /* i and i + half share a byte */
    return i < half ? q[i] & 15 : q[i - half] >> 4;
}

static double small_value(uint32_t dtype, const unsigned char *b, int i) {
    double d = kit_f16(b);
    switch (dtype) {
    case PERI_DT_Q4_0:
        return d * (nibble(b + 2, i, 16) - 8);
    case PERI_DT_Q4_1:
        return d * nibble(b + 4, i, 16) + kit_f16(b + 2);
    case PERI_DT_Q5_0:
        return d * ((nibble(b + 6, i, 16) | (b[2 + i / 8] >> i % 8 & 1) << 4) - 16);
    case PERI_DT_Q5_1:
        return d * (nibble(b + 8, i, 16) | (b[4 + i / 8] >> i % 8 & 1) << 4) + kit_f16(b + 2);
    case PERI_DT_Q8_0:
        return d * (signed char)b[2 + i];
    default: /* Q8_1 */
        return d * (signed char)b[4 + i];
    }
}

/* Six-bit scale (which 0) or minimum (1) of sub-block s of Q4_K and Q5_K. */
static int six_bits(const unsigned char *sc, int s, int which) {
    if (s < 4) return sc[s + 4 * which] & 63;
    int low = which ? sc[s + 4] >> 4 : sc[s + 4] & 15;
    return low | sc[s - 4 + 4 * which] >> 6 << 4;
}

static double q2_k(const unsigned char *b, int i) {
    int q = b[16 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3, sc = b[i / 16];
    return kit_f16(b + 80) * (sc & 15) * q - kit_f16(b + 82) * (sc >> 4);
}

static double q3_k(const unsigned char *b, int i) {
    const unsigned char *sc = b + 96;
    int s = i / 16, q = b[32 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
    int low = s < 8 ? sc[s] & 15 : sc[s - 8] >> 4, high = sc[8 + s % 4] >> s / 4 * 2 & 3;
    if (!(b[i % 32] >> i / 32 & 1)) q -= 4;
    return kit_f16(b + 108) * ((low | high << 4) - 32) * q;
}

static double q4_k(const unsigned char *b, int i) {
    int q = nibble(b + 16 + i / 64 * 32, i % 64, 32), s = i / 32;
    return kit_f16(b) * six_bits(b + 4, s, 0) * q - kit_f16(b + 2) * six_bits(b + 4, s, 1);
}

static double q5_k(const unsigned char *b, int i) {
    int s = i / 32, q = nibble(b + 48 + i / 64 * 32, i % 64, 32) | (b[16 + i % 32] >> s & 1) << 4;
    return kit_f16(b) * six_bits(b + 4, s, 0) * q - kit_f16(b + 2) * six_bits(b + 4, s, 1);
}

static double q6_k(const unsigned char *b, int i) {
    int half = i / 128, r = i % 128;
    int q = nibble(b + half * 64, r, 64) | (b[128 + half * 32 + r % 32] >> r / 32 * 2 & 3) << 4;
    return kit_f16(b + 208) * (signed char)b[192 + i / 16] * (q - 32);
}

static double value(uint32_t dtype, const unsigned char *b, int i) {
    double d;
    switch (dtype) {
    case PERI_DT_F32:
        return f32_at(b);
    case PERI_DT_F16:
        return kit_f16(b);
    case PERI_DT_BF16:
        return f32_at((const unsigned char[]){0, 0, b[0], b[1]});
    case PERI_DT_F64:
        memcpy(&d, b, sizeof d);
        return (double)(float)d;
    case PERI_DT_Q2_K:
        return q2_k(b, i);
    case PERI_DT_Q3_K:
        return q3_k(b, i);
    case PERI_DT_Q4_K:
        return q4_k(b, i);
    case PERI_DT_Q5_K:
        return q5_k(b, i);
    case PERI_DT_Q6_K:
        return q6_k(b, i);
    case PERI_DT_Q8_K:
        return f32_at(b) * (signed char)b[4 + i];
    default:
        return small_value(dtype, b, i);
    }
}

bool kit_can_decode(uint32_t dtype) {
    return (dtype <= PERI_DT_Q8_K && peri_dtype_get(dtype) != NULL) || dtype == PERI_DT_BF16 ||
           dtype == PERI_DT_F64 || kit_is_code(dtype) || kit_is_grid(dtype);
}

void kit_decode(uint32_t dtype, const unsigned char *data, int64_t n, double *out) {
    const peri_dtype_info *t = peri_dtype_get(dtype);
    double (*of)(uint32_t dtype, const unsigned char *block, int i) =
        kit_is_code(dtype)   ? kit_code_value
        : kit_is_grid(dtype) ? kit_grid_value
                             : value;
    int n_of = (int)t->block_elements;
    for (int64_t at = 0; at < n; at += n_of, data += t->block_bytes)
        for (int i = 0; i < n_of; i++)
            out[at + i] = of(dtype, data, i);
}

/* ---- random -------------------------------------------------------------------------------------
 */

/* splitmix64.  Source: Steele, Lea, Flood 2014. */
static uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t bits_at(uint64_t seed, uint64_t i) {
    return mix(mix(seed * 0x9e3779b97f4a7c15u + 1) + i * 0x9e3779b97f4a7c15u);
}

float kit_random(uint64_t seed, uint64_t i) {
    return (float)((double)(int64_t)(bits_at(seed, i) >> 40) * 0x1p-23 - 1);
}

uint32_t kit_pick(uint64_t seed, uint64_t i, uint32_t n) {
    return (uint32_t)(bits_at(seed, i) >> 33) % n;
}

/* Byte offsets of a block's f16 scales, -1: none. */
static void scale_places(uint32_t dtype, int at[2]) {
    static const struct {
        uint32_t dtype;
        int at[2];
    } others[] = {
        {PERI_DT_Q2_K, {80, 82}},  {PERI_DT_Q3_K, {108, -1}}, {PERI_DT_Q6_K, {208, -1}},
        {PERI_DT_TQ1_0, {52, -1}}, {PERI_DT_TQ2_0, {64, -1}}, {PERI_DT_Q8_K, {-1, -1}},
        {PERI_DT_MXFP4, {-1, -1}}, {PERI_DT_NVFP4, {-1, -1}}, {PERI_DT_IQ1_M, {-1, -1}},
        {PERI_DT_Q4_1, {0, 2}},    {PERI_DT_Q5_1, {0, 2}},    {PERI_DT_Q4_K, {0, 2}},
        {PERI_DT_Q5_K, {0, 2}},    {PERI_DT_Q8_1, {0, 2}},
    };
    at[0] = 0;
    at[1] = -1;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].dtype == dtype) memcpy(at, others[i].at, sizeof others[i].at);
}

static void random_plain(uint32_t dtype, unsigned char *out, int64_t n, uint64_t seed) {
    uint32_t bytes = peri_dtype_get(dtype)->block_bytes;
    for (int64_t i = 0; i < n; i++, out += bytes) {
        double x = (double)kit_random(seed, (uint64_t)i);
        uint32_t bits = kit_bits_of(dtype, x);
        memcpy(out, dtype == PERI_DT_F64 ? (const void *)&x : (const void *)&bits, bytes);
    }
}

void kit_random_blocks(uint32_t dtype, unsigned char *out, int64_t n_block, uint64_t seed) {
    const peri_dtype_info *t = peri_dtype_get(dtype);
    int at[2];
    if (t->block_elements == 1) {
        random_plain(dtype, out, n_block, seed);
        return;
    }
    scale_places(dtype, at);
    for (int64_t b = 0; b < n_block; b++, out += t->block_bytes) {
        uint64_t key = seed * 1000003u + (uint64_t)b;
        float d = 0.02f * kit_random(key, 999);
        for (uint32_t i = 0; i < t->block_bytes; i++)
            out[i] = (unsigned char)bits_at(key, i);
        for (int k = 0; k < 2; k++) {
            /* Magnitudes of 2^-8 to 2^-4, both signs. */
            uint32_t scale = (7 + kit_pick(key, 500 + (uint64_t)k, 4)) << 10 |
                             kit_pick(key, 600 + (uint64_t)k, 1024) |
                             kit_pick(key, 700 + (uint64_t)k, 2) << 15;
            if (at[k] >= 0) memcpy(out + at[k], &scale, 2);
        }
        if (dtype == PERI_DT_Q8_K) memcpy(out, &d, sizeof d);
        kit_code_scale(dtype, out, key);
    }
}

/* ---- encoding -----------------------------------------------------------------------------------
 */

static void put_f16(unsigned char *out, float d) {
    uint32_t bits = isnan(d) ? 0x7e00 : kit_bits_of(PERI_DT_F16, (double)d);
    out[0] = (unsigned char)bits;
    out[1] = (unsigned char)(bits >> 8);
}

/* Each step in f32, as it is defined. */
static void encode_block(uint32_t dtype, const double *v, unsigned char *out) {
    float m = 0, inverse = 0;
    for (int i = 0; i < 32; i++) {
        if (!isfinite(v[i])) m = NAN;
        if (fabs(v[i]) > (double)fabsf(m)) m = (float)v[i];
    }
    float d = dtype == PERI_DT_Q8_0 ? fabsf(m) / 127 : m / -8;
    if (!isnan(d)) inverse = 1 / d;
    if (isinf(inverse)) d = inverse = 0;
    put_f16(out, d);
    for (int i = 0; i < 32; i++) {
        float t = (float)v[i] * inverse;
        if (inverse == 0) t = 0;
        if (dtype == PERI_DT_Q8_0) {
            out[2 + i] = (unsigned char)(int)nearbyintf(t);
            continue;
        }
        int q = inverse == 0 ? 8 : (int)floorf(t + 8.5f);
        if (q > 15) q = 15;
        out[2 + i % 16] = (unsigned char)(i < 16 ? q : out[2 + i % 16] | q << 4);
    }
}

void kit_encode(uint32_t dtype, double *v, int64_t n, unsigned char *out) {
    const peri_dtype_info *t = peri_dtype_get(dtype);
    unsigned char *first = out;
    for (int64_t i = 0; i < n; i += t->block_elements, out += t->block_bytes) {
        bool is_poison = false;
        for (uint32_t k = 0; k < t->block_elements; k++)
            is_poison = is_poison || isnan(v[i + k]);
        uint32_t bits = t->block_elements == 1 ? kit_bits_of(dtype, v[i]) : 0;
        if (is_poison)
            memset(out, 0xff, t->block_bytes);
        else if (t->block_elements == 1)
            memcpy(out, &bits, t->block_bytes);
        else
            encode_block(dtype, v + i, out);
    }
    kit_decode(dtype, first, n, v);
}
