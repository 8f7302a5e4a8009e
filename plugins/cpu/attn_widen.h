/* SPDX-License-Identifier: MIT
 *
 * attn_widen.h - elements of the key and value pools as f32 vectors, sixteen vectors transposed,
 * per instruction set, and asking for memory ahead of its use.  Part of attn_fast.c. */
#ifndef PERI_CPU_ATTN_WIDEN_H
#define PERI_CPU_ATTN_WIDEN_H

#include "attn_pairs.h"

static inline int32_t smaller(int32_t a, int32_t b) {
    return a < b ? a : b;
}
static inline int32_t larger(int32_t a, int32_t b) {
    return a > b ? a : b;
}
static inline int32_t pad16(int32_t n) {
    return (n + 15) & ~15;
}

/* Lanes of n neighbours; numbers in a lane, and the first of them. */
static inline int32_t lanes_of(uint16_t dtype, int32_t n) {
    return has_pairs(dtype) ? (n + 3) / 4 * 2 : n;
}
static inline int32_t per_lane(uint16_t dtype) {
    return has_pairs(dtype) ? 2 : 1;
}
static inline int32_t number_of_lane(uint16_t dtype, int32_t lane) {
    return has_pairs(dtype) ? lane / 2 * 4 + lane % 2 : lane;
}
/* The first number of the step that number j is in, or j itself where sums have no steps. */
static inline int32_t step_of(int is_half, int32_t j) {
    return is_half ? j & ~(STEP - 1) : j;
}

/* Bounds of what some of n rows see between lo and hi, and of what all of them see. */
typedef struct bounds {
    int32_t lo, hi, all_lo, all_hi;
} bounds;
static inline bounds bounds_of(const attn_row *row, int n, int32_t lo, int32_t hi) {
    bounds b = {hi, lo, lo, hi};
    for (int r = 0; r < n; r++) {
        b.lo = smaller(b.lo, row[r].lo);
        b.hi = larger(b.hi, row[r].hi);
        b.all_lo = larger(b.all_lo, row[r].lo);
        b.all_hi = smaller(b.all_hi, row[r].hi);
    }
    b.lo = larger(b.lo, lo);
    b.hi = smaller(b.hi, hi);
    return b;
}

/* The value of key j and head g; zeros for keys other than the chunk's. */
static inline const uint8_t *value_at(const attn_chunk *c, int32_t g, int32_t j) {
    static const uint8_t zeros[ATTN_D_MAX * 4];
    return j < c->lo || j >= c->hi ? zeros : c->v[j] + (size_t)g * c->v_bytes;
}

/* Elements i .. i + 15 of a row of blocks of 32, i a multiple of 16: d and 32 bytes, or d and 16
 * bytes that hold element k in their low and k + 16 in their high halves.  The products with d, of
 * 11 bits, are exact. */
#if defined(PERI_NEON)
#include "attn_neon.h" /* transpose too */
#elif PERI_SIMD
/* The low nibbles of bytes of Q4_0, or the high ones, less 8. */
SIMD_FN __m128i signed_nibbles(__m128i x, int is_high) {
    x = _mm_and_si128(is_high ? _mm_srli_epi16(x, 4) : x, _mm_set1_epi8(15));
    return _mm_sub_epi8(x, _mm_set1_epi8(8));
}
SIMD_FN v16 load_block(uint16_t dtype, const uint8_t *row, int32_t i) {
    const uint8_t *b = row + i / 32 * (dtype == PERI_CPU_Q8_0 ? 34 : 18);
    uint16_t half;
    __m128i x;
    memcpy(&half, b, sizeof half);
    v16 d = v16_set1(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half))));
    if (dtype == PERI_CPU_Q8_0) {
        x = _mm_loadu_si128((const __m128i *)(b + 2 + i % 32));
    } else {
        x = signed_nibbles(_mm_loadu_si128((const __m128i *)(b + 2)), i % 32 / 16);
    }
    return v16_mul(d, v16_from_i8(x));
}
#else
SIMD_FN v16 load_block(uint16_t dtype, const uint8_t *row, int32_t i) {
    const uint8_t *b = row + i / 32 * (dtype == PERI_CPU_Q8_0 ? 34 : 18);
    uint16_t half;
    v16 y;
    memcpy(&half, b, sizeof half);
    for (int k = 0; k < 16; k++) {
        int q =
            dtype == PERI_CPU_Q8_0 ? (int8_t)b[2 + i % 32 + k] : (b[2 + k] >> i % 32 / 4 & 15) - 8;
        y.v[k] = f16_to_f32(half) * (float)q;
    }
    return y;
}
#endif

/* Elements i .. i + 15 of a pool row as they enter products, n left; i is a multiple of 16. */
SIMD_FN v16 load_pool(uint16_t dtype, const uint8_t *row, int32_t i, int32_t n) {
    uint16_t t[16] = {0};
    const uint16_t *p = (const uint16_t *)row + i;
    if (dtype == PERI_CPU_Q8_0 || dtype == PERI_CPU_Q4_0) return load_block(dtype, row, i);
    if (dtype == PERI_CPU_F32) {
        const float *f = (const float *)row + i;
        return n >= 16 ? v16_load(f) : v16_load_n(f, n);
    }
    if (n < 16) {
        memcpy(t, p, (size_t)n * 2);
        p = t;
    }
    return dtype == PERI_CPU_F16 ? half_f16(p) : flush_tiny(v16_load_bf16(p));
}

/* Sixteen lanes of a key, which are KEY_STEP elements, n of them there; and of the values of one or
 * two keys. */
#if PERI_BF16
#define KEY_STEP(dtype) (is_half(dtype) ? 32 : 16)
SIMD_FN v16 load_key(uint16_t dtype, const uint8_t *row, int32_t i, int32_t n) {
    return is_half(dtype) ? pairs_of_row(dtype, row, i, n) : load_pool(dtype, row, i, n);
}
SIMD_FN v16 load_values(uint16_t dtype, const uint8_t *row, const uint8_t *next, int32_t i,
                        int32_t n) {
    return is_half(dtype) ? pairs_of_rows(dtype, row, next, i, n) : load_pool(dtype, row, i, n);
}
#else
#define KEY_STEP(dtype) 16
SIMD_FN v16 load_key(uint16_t dtype, const uint8_t *row, int32_t i, int32_t n) {
    return load_pool(dtype, row, i, n);
}
SIMD_FN v16 load_values(uint16_t dtype, const uint8_t *row, const uint8_t *next, int32_t i,
                        int32_t n) {
    (void)next;
    return load_pool(dtype, row, i, n);
}
#endif

#if defined(PERI_AVX512)
SIMD_FN void transpose(v16 r[16]) {
    __m512 t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
#pragma GCC unroll 2
        for (int k = 0; k < 2; k++) {
            __m512d a = _mm512_castps_pd(t[i + k]), b = _mm512_castps_pd(t[i + 2 + k]);
            r[i + 2 * k] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * k + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* now 4x4 lanes */
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
    }
}
#elif defined(PERI_NEON)
/* attn_neon.h has it. */
#elif PERI_SIMD
SIMD_FN void transpose(v16 r[16]) {
    __m256 q[4][8];
    for (int i = 0; i < 8; i++) {
        q[0][i] = r[i].a;
        q[1][i] = r[i].b;
        q[2][i] = r[i + 8].a;
        q[3][i] = r[i + 8].b;
    }
    for (int k = 0; k < 4; k++)
        transpose8(q[k]);
    for (int i = 0; i < 8; i++) {
        r[i] = (v16){q[0][i], q[2][i]};
        r[i + 8] = (v16){q[1][i], q[3][i]};
    }
}
#else
SIMD_FN void transpose(v16 r[16]) {
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < i; k++) {
            float t = r[i].v[k];
            r[i].v[k] = r[k].v[i];
            r[k].v[i] = t;
        }
}
#endif

/* ---- memory ahead ---- */

enum { LINE = 64 };

/* Where the widening of one block asks for memory of the next: rows j .. end - 1, `bytes` of each,
 * a few lines at a time, so that the requests do not crowd out the loads of the block at work. */
typedef struct ahead {
    const uint8_t *const *row;
    size_t bytes, at;
    int32_t j, end;
} ahead;

SIMD_FN void ahead_step(ahead *p, int n_line) {
    for (int n = 0; n < n_line && p->j < p->end; n++) {
        __builtin_prefetch(p->row[p->j] + p->at, 0, 2);
        p->at += LINE;
        if (p->at < p->bytes) continue;
        p->at = 0;
        p->j++;
    }
}

/* The g-th share of keys j0 .. j0 + ATTN_SUB - 1, all heads of a key at once: they lie side by
 * side. */
static inline ahead ahead_of(const uint8_t *const *row, const attn_chunk *c, size_t bytes,
                             int32_t g, int32_t j0) {
    int32_t lo = j0 + ATTN_SUB * g / c->n_head, hi = j0 + ATTN_SUB * (g + 1) / c->n_head;
    return (ahead){row, bytes * (size_t)c->n_head, 0, lo < c->lo ? c->lo : lo,
                   hi > c->hi ? c->hi : hi};
}

/* Lines to ask for at each of n_step steps. */
static inline int lines_each(const ahead *p, int32_t n_step) {
    int64_t lines = (int64_t)(p->end - p->j) * (int64_t)((p->bytes + LINE - 1) / LINE);
    return lines <= 0 ? 0 : (int)(n_step > 0 ? (lines + n_step - 1) / n_step : lines);
}

#endif
