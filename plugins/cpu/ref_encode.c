/* SPDX-License-Identifier: MIT
 *
 * ref_encode.c - rows of f32 to the types that keys and values are stored in: op.def, KV_APPEND.
 *
 * Every operation is one IEEE rounding, so that other code can give the same bits. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "ref.h"

enum { BLOCK = 32 };

static float magnitude(float x) {
    return fabsf(x);
}

/* The element of largest magnitude, the first of equals; a NaN or an infinity counts as largest. */
static float largest(const float *x) {
    float top = 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        if (!isfinite(x[i])) return NAN;
        if (magnitude(x[i]) > magnitude(top)) top = x[i];
    }
    return top;
}

/* *d and what x is multiplied by; d = NaN and 0, or 0 and 0, where all values are alike. */
static float scale_of(float d_wanted, float *d) {
    float inverse = 1.0f / d_wanted;
    *d = d_wanted;
    if (isnan(d_wanted)) return 0.0f;
    if (isfinite(inverse)) return inverse;
    *d = 0.0f;
    return 0.0f;
}

static void put_scale(uint8_t *out, float d) {
    uint16_t half = ref_f32_to_f16(d);
    out[0] = (uint8_t)half;
    out[1] = (uint8_t)(half >> 8);
}

static void q8_0_block(const float *x, uint8_t *out) {
    float d, inverse = scale_of(magnitude(largest(x)) / 127.0f, &d);
    put_scale(out, d);
    for (int i = 0; i < BLOCK; i++)
        out[2 + i] = (uint8_t)(inverse == 0.0f ? 0 : (int8_t)rintf(x[i] * inverse));
}

static int q4_0_code(float x, float inverse) {
    float code = inverse == 0.0f ? 8.0f : x * inverse + 8.5f; /* at least 0.5 - 2^-20 */
    return code < 15.0f ? (int)code : 15;
}

static void q4_0_block(const float *x, uint8_t *out) {
    float d, inverse = scale_of(largest(x) / -8.0f, &d);
    put_scale(out, d);
    for (int i = 0; i < BLOCK / 2; i++)
        out[2 + i] =
            (uint8_t)(q4_0_code(x[i], inverse) | q4_0_code(x[i + BLOCK / 2], inverse) << 4);
}

int ref_can_encode(uint32_t dtype) {
    return dtype == PERI_CPU_F32 || dtype == PERI_CPU_F16 || dtype == PERI_CPU_BF16 ||
           dtype == PERI_CPU_Q8_0 || dtype == PERI_CPU_Q4_0;
}

void ref_encode_row(uint32_t dtype, const float *x, void *dst, int64_t n) {
    peri_dtype_info type = peri_dtype_of(dtype);
    uint8_t *out = dst;
    for (int64_t i = 0; i < n; i += type.n, out += type.bytes) {
        uint16_t half = dtype == PERI_CPU_F16    ? ref_f32_to_f16(x[i])
                        : dtype == PERI_CPU_BF16 ? ref_f32_to_bf16(x[i])
                                                 : 0;
        if (dtype == PERI_CPU_Q8_0)
            q8_0_block(x + i, out);
        else if (dtype == PERI_CPU_Q4_0)
            q4_0_block(x + i, out);
        else
            memcpy(out, type.bytes == 2 ? (const void *)&half : &x[i], (size_t)type.bytes);
    }
}
