/* SPDX-License-Identifier: MIT
 *
 * linear_scalar.c - products of block-quantised weights with int8 activations in plain C: the
 * numerics of linear.h written out, for processors without AVX2, and the independent check of
 * linear_int.c.
 *
 * A row's 256 columns are unpacked to integers once and multiplied with every token.  Coded types
 * are unpacked by expand.c on every level. */
#include "simd.h"

#include "expand.h"
#include "fast.h"

/* 256 columns of one row.  span 32: q, d, m per block; span 256: q, d[0], m[0], sc and mn per `sub`
 * columns. */
typedef struct columns {
    int8_t q[LINEAR_K];
    float d[16], m[8];
    int8_t sc[16];
    uint8_t mn[16];
    int sub;
} columns;

static uint16_t load_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static float load_half(const uint8_t *p) {
    return f16_to_f32(load_u16(p));
}
static uint32_t load_u32(const uint8_t *p) {
    return load_u16(p) | (uint32_t)load_u16(p + 2) << 16;
}

/* Q4_0 Q4_1 Q5_0 Q5_1: d, m if has_min, fifth bits if has_high, nibbles; q reduced by `offset`. */
static void nibbles(const uint8_t *p, int n_block, int offset, int has_min, int has_high,
                    columns *c) {
    for (int b = 0; b < n_block; b++) {
        c->d[b] = load_half(p);
        c->m[b] = has_min ? load_half(p + 2) : 0.0f;
        p += 2 + 2 * has_min;
        uint32_t high = has_high ? load_u32(p) : 0;
        p += 4 * has_high;
        for (int i = 0; i < 16; i++, p++) {
            c->q[32 * b + i] = (int8_t)((*p & 15) + (int)(high >> i & 1) * 16 - offset);
            c->q[32 * b + 16 + i] = (int8_t)((*p >> 4) + (int)(high >> (i + 16) & 1) * 16 - offset);
        }
    }
}

static void bytes8(const uint8_t *p, int n_block, columns *c) {
    for (int b = 0; b < n_block; b++, p += 34) {
        c->d[b] = load_half(p);
        memcpy(c->q + 32 * b, p + 2, 32);
    }
}

/* The six-bit scales and minima of Q4_K and Q5_K. */
static void k_head(const uint8_t *p, columns *c) {
    const uint8_t *s = p + 4;
    c->sub = 32;
    c->d[0] = load_half(p);
    c->m[0] = load_half(p + 2);
    for (int j = 0; j < 4; j++) {
        c->sc[j] = (int8_t)(s[j] & 63);
        c->mn[j] = s[j + 4] & 63;
        c->sc[j + 4] = (int8_t)((s[j + 8] & 15) | s[j] >> 6 << 4);
        c->mn[j + 4] = (uint8_t)(s[j + 8] >> 4 | s[j + 4] >> 6 << 4);
    }
}

static void q45_k(const uint8_t *p, int has_high, columns *c) {
    const uint8_t *high = p + 16, *low = p + 16 + 32 * has_high;
    k_head(p, c);
    for (int k = 0; k < LINEAR_K; k++) {
        int l = k % 32, chunk = k / 64, up = k / 32 % 2;
        int q = low[chunk * 32 + l] >> (4 * up) & 15;
        if (has_high) q |= (high[l] >> (k / 32) & 1) << 4;
        c->q[k] = (int8_t)q;
    }
}

static void q6_k(const uint8_t *p, columns *c) {
    c->sub = 16;
    c->d[0] = load_half(p + 208);
    memcpy(c->sc, p + 192, 16);
    for (int k = 0; k < LINEAR_K; k++) {
        int half = k / 128, quarter = k / 32 % 4, l = k % 32;
        int lo = p[64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
        int hi = p[128 + 32 * half + l] >> (2 * quarter) & 3;
        c->q[k] = (int8_t)((lo | hi << 4) - 32);
    }
}

static int bit_pair(const uint8_t *p, int k) {
    return p[k / 128 * 32 + k % 32] >> (k / 32 % 4 * 2) & 3;
}

static void q2_k(const uint8_t *p, columns *c) {
    c->sub = 16;
    c->d[0] = load_half(p + 80);
    c->m[0] = load_half(p + 82);
    for (int j = 0; j < 16; j++) {
        c->sc[j] = (int8_t)(p[j] & 15);
        c->mn[j] = p[j] >> 4;
    }
    for (int k = 0; k < LINEAR_K; k++)
        c->q[k] = (int8_t)bit_pair(p + 16, k);
}

static void q3_k(const uint8_t *p, columns *c) {
    const uint8_t *s = p + 96;
    c->sub = 16;
    c->d[0] = load_half(p + 108);
    for (int j = 0; j < 16; j++) {
        int lo = s[j % 8] >> (j / 8 * 4) & 15, hi = s[8 + j % 4] >> (j / 4 * 2) & 3;
        c->sc[j] = (int8_t)((lo | hi << 4) - 32);
    }
    for (int k = 0; k < LINEAR_K; k++) {
        int hi = p[k % 32] >> (k / 32) & 1;
        c->q[k] = (int8_t)((bit_pair(p + 32, k) | hi << 2) - 4);
    }
}

static void expanded(const linear_type *t, const uint8_t *p, int n_block, columns *c) {
    linear_columns x;
    t->expand(p, n_block, &x);
    memcpy(c->q, x.q, sizeof c->q);
    memcpy(c->d, x.d, sizeof c->d);
    memcpy(c->sc, x.sc, sizeof c->sc);
    c->sub = 16;
}

static void unpack(const linear_type *t, const uint8_t *p, int n_block, columns *c) {
    if (t->expand) {
        expanded(t, p, n_block, c);
        return;
    }
    switch (t->dtype) {
    case PERI_CPU_Q4_0:
        nibbles(p, n_block, 8, 0, 0, c);
        break;
    case PERI_CPU_Q4_1:
        nibbles(p, n_block, 0, 1, 0, c);
        break;
    case PERI_CPU_Q5_0:
        nibbles(p, n_block, 16, 0, 1, c);
        break;
    case PERI_CPU_Q5_1:
        nibbles(p, n_block, 0, 1, 1, c);
        break;
    case PERI_CPU_Q8_0:
        bytes8(p, n_block, c);
        break;
    case PERI_CPU_Q2_K:
        q2_k(p, c);
        break;
    case PERI_CPU_Q3_K:
        q3_k(p, c);
        break;
    case PERI_CPU_Q4_K:
        q45_k(p, 0, c);
        break;
    case PERI_CPU_Q5_K:
        q45_k(p, 1, c);
        break;
    default:
        q6_k(p, c);
        break;
    }
}

static int32_t dot_sum(const int8_t *q, const int8_t *a, int n) {
    int32_t s = 0;
    for (int i = 0; i < n; i++)
        s += q[i] * a[i];
    return s;
}
static int32_t act_sum(const int8_t *a, int n) {
    int32_t s = 0;
    for (int i = 0; i < n; i++)
        s += a[i];
    return s;
}

static float add_span32(const columns *c, const act8 *a, int n_block, int has_min, float acc) {
    for (int b = 0; b < n_block; b++) {
        float x = (float)dot_sum(c->q + 32 * b, a->q + 32 * b, 32) * c->d[b];
        if (has_min) x = fmaf((float)act_sum(a->q + 32 * b, 32), c->m[b], x);
        acc = fmaf(x, a->dx[b], acc);
    }
    return acc;
}

/* n columns from column k on, with activations in the order of act16. */
static int32_t dot_wide(const columns *c, const act16 *a, int k, int n) {
    static const uint8_t order[4] = {0, 2, 1, 3};
    int32_t s = 0;
    for (int i = k; i < k + n; i++)
        s += c->q[i] * a->q[i / 4 * 4 + order[i % 4]];
    return s;
}

static float add_wide32(const columns *c, const act16 *a, int n_block, float acc) {
    for (int b = 0; b < n_block; b++)
        acc = fmaf((float)dot_wide(c, a, 32 * b, 32) * c->d[b], a->dx[b], acc);
    return acc;
}

static float add_wide_two(const columns *c, const act16 *a, int n_block, float acc) {
    for (int b = 0; b < n_block; b++) {
        float x = (float)dot_wide(c, a, 32 * b, 16) * c->d[2 * b];
        x = fmaf((float)dot_wide(c, a, 32 * b + 16, 16), c->d[2 * b + 1], x);
        acc = fmaf(x, a->dx[b], acc);
    }
    return acc;
}

static float add_wide256(const columns *c, const act16 *a, float acc) {
    int32_t t = 0;
    for (int j = 0; j < LINEAR_K / 16; j++)
        t += c->sc[j] * dot_wide(c, a, 16 * j, 16);
    return fmaf((float)t * c->d[0], a->dx[0], acc);
}

static float add_span256(const columns *c, const act8 *a, int has_min, float acc) {
    int32_t t = 0, u = 0;
    for (int j = 0; j < LINEAR_K / c->sub; j++) {
        t += c->sc[j] * dot_sum(c->q + j * c->sub, a->q + j * c->sub, c->sub);
        if (has_min) u += c->mn[j] * act_sum(a->q + j * c->sub, c->sub);
    }
    float x = (float)t * c->d[0];
    if (has_min) x = fmaf(-(float)u, c->m[0], x);
    return fmaf(x, a->dx[0], acc);
}

/* acc plus the columns' products with the activations of token i; n_span 32-blocks of columns. */
static float add_columns(const linear_type *t, const columns *c, const uint8_t *act, int32_t i,
                         int n_span, float acc) {
    const act16 *wide = (const act16 *)act + i;
    const act8 *a = (const act8 *)act + i;
    if (t->is_wide && t->span == 256) return add_wide256(c, wide, acc);
    if (t->has_two) return add_wide_two(c, wide, n_span, acc);
    if (t->is_wide) return add_wide32(c, wide, n_span, acc);
    if (t->span == 32) return add_span32(c, a, n_span, t->min_sub != 0, acc);
    return add_span256(c, a, t->min_sub != 0, acc);
}

static void rows_int(const linear_in *in, int64_t row0, int32_t rows, float *acc) {
    const linear_type *t = in->type;
    columns c;
    memset(acc, 0, (size_t)in->n_tok * LINEAR_ROWS * sizeof *acc);
    for (int32_t r = 0; r < rows; r++) {
        const uint8_t *w = in->w + (size_t)(row0 + r) * in->row_bytes;
        for (int64_t k = 0; k < in->n; k += LINEAR_K) {
            int width = (int)(in->n - k < LINEAR_K ? in->n - k : LINEAR_K);
            int n_block = width / t->block;
            const uint8_t *act = in->act + (size_t)(k / LINEAR_K) * in->kb_stride;
            unpack(t, w, n_block, &c);
            w += (size_t)n_block * (size_t)t->block_bytes;
            for (int32_t i = 0; i < in->n_tok; i++) {
                float *o = &acc[i * LINEAR_ROWS + r];
                *o = add_columns(t, &c, act, i, width / 32, *o);
            }
        }
    }
}

const cpu_isa cpu_isa_scalar = {
    .name = "scalar",
    .quantize = quantize_row_scalar,
    .rows_int = rows_int,
    .rows_f32 = rows_f32_scalar,
    .bf16 = &bf16_scalar,
    .vec = &vec_scalar,
    .attn = &attn_scalar,
};
