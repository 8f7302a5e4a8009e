/* SPDX-License-Identifier: MIT
 *
 * attn_fast.c - attention of some query rows over one chunk of 256 keys; compiled per instruction
 * set, equal bits on all.
 *
 * Rows share one key/value head: the heads of a group times the tokens of a tile, so a key is read
 * once for all of them.
 *
 * Order of the sums, fixed whatever the tile: a logit is one FMA chain over i rising, keys in the
 * lanes (so keys are transposed when they are widened to f32); the sum of weights has 16 partial
 * sums over key mod 16 of the chunk, then v16_sum; a value element is one FMA chain over the row's
 * visible keys rising, elements in the lanes.  Chunks are merged rising by the caller's order of
 * calls: m' = max(m, mc), l' = fma(l, e^(m - m'), lc e^(mc - m')), o likewise.  Keys that a row
 * does not see are left out, not multiplied by zero: their values may be infinite or not yet
 * written. */
#include "simd.h"

#include "fast.h"

#if defined(PERI_AVX512)
enum { TILE_ROWS = 4, TILE_VECS = 4 };
#elif PERI_SIMD
enum { TILE_ROWS = 2, TILE_VECS = 2 };
#else
enum { TILE_ROWS = 1, TILE_VECS = 1 };
#endif
enum { SUB = ATTN_SUB };

/* Logits further below the largest weigh exactly 0; so masked ones do, and no weight is denormal.
 */
SIMD_FN v16 weight_of(v16 z) {
    return v16_select_lt(z, v16_set1(-87.0f), v16_zero(), v16_exp(z));
}

/* ---- widening ---- */

/* Elements i .. i+15 of a pool row, n left. */
SIMD_FN v16 load_pool(uint16_t dtype, const uint8_t *row, int32_t i, int32_t n) {
    uint16_t t[16] = {0};
    const uint16_t *p = (const uint16_t *)row + i;
    if (dtype == PERI_CPU_F32) {
        const float *f = (const float *)row + i;
        return n >= 16 ? v16_load(f) : v16_load_n(f, n);
    }
    if (n < 16) {
        memcpy(t, p, (size_t)n * 2);
        p = t;
    }
    return dtype == PERI_CPU_F16 ? v16_load_f16(p) : v16_load_bf16(p);
}

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
#elif PERI_SIMD
SIMD_FN void transpose8(__m256 r[8]) {
    __m256 t[8], u[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}
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

static int32_t pad16(int32_t n) {
    return (n + 15) & ~15;
}

/* Keys j0 .. j0 + SUB - 1 to kt f32 [SUB / 16][pad16(dk)][16]; those outside lo .. hi - 1 count as
 * zeros. */
SIMD_FN void widen_keys_of(uint16_t dtype, const attn_chunk *c, int32_t j0, float *kt) {
    for (int32_t b = 0; b < SUB && j0 + b < c->hi; b += 16) {
        if (j0 + b + 16 <= c->lo) continue;
        for (int32_t i = 0; i < c->dk; i += 16) {
            v16 r[16];
            for (int32_t k = 0; k < 16; k++) {
                int32_t j = j0 + b + k;
                r[k] =
                    j >= c->lo && j < c->hi ? load_pool(dtype, c->k[j], i, c->dk - i) : v16_zero();
            }
            transpose(r);
            float *out = kt + b * pad16(c->dk) + i * 16;
            for (int32_t k = 0; k < 16; k++)
                v16_store(out + k * 16, r[k]);
        }
    }
}

/* Values of the same keys to vt f32 [SUB][pad16(dv)]. */
SIMD_FN void widen_values_of(uint16_t dtype, const attn_chunk *c, int32_t j0, float *vt) {
    int32_t lo = j0 > c->lo ? j0 : c->lo, hi = j0 + SUB < c->hi ? j0 + SUB : c->hi;
    for (int32_t j = lo; j < hi; j++)
        for (int32_t i = 0; i < c->dv; i += 16)
            v16_store(vt + (j - j0) * pad16(c->dv) + i, load_pool(dtype, c->v[j], i, c->dv - i));
}

static void widen_keys(const attn_chunk *c, int32_t j0, float *kt) {
    if (c->dtype == PERI_CPU_F16)
        widen_keys_of(PERI_CPU_F16, c, j0, kt);
    else if (c->dtype == PERI_CPU_F32)
        widen_keys_of(PERI_CPU_F32, c, j0, kt);
    else
        widen_keys_of(PERI_CPU_BF16, c, j0, kt);
}
static void widen_values(const attn_chunk *c, int32_t j0, float *vt) {
    if (c->dtype == PERI_CPU_F16)
        widen_values_of(PERI_CPU_F16, c, j0, vt);
    else if (c->dtype == PERI_CPU_F32)
        widen_values_of(PERI_CPU_F32, c, j0, vt);
    else
        widen_values_of(PERI_CPU_BF16, c, j0, vt);
}

/* ---- logits ---- */

/* n_row rows, n_vec times 16 keys, literals. */
SIMD_FN void score_tile(const float *kt, int32_t dk, const attn_row *row, float *s, int n_row,
                        int n_vec) {
    v16 c[4][4];
    int32_t block = pad16(dk) * 16;
#pragma GCC unroll 4
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            c[r][v] = v16_zero();
    for (int32_t i = 0; i < dk; i++) {
        v16 k[4];
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            k[v] = v16_load(kt + v * block + i * 16);
#pragma GCC unroll 4
        for (int r = 0; r < n_row; r++) {
            v16 q = v16_set1(row[r].q[i]);
#pragma GCC unroll 4
            for (int v = 0; v < n_vec; v++)
                c[r][v] = v16_fma(q, k[v], c[r][v]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            v16_store(s + r * ATTN_CHUNK + v * 16, c[r][v]);
}

/* Bounds of what some of n rows see between j0 and j0 + SUB, and of what all of them see. */
typedef struct bounds {
    int32_t lo, hi, all_lo, all_hi;
} bounds;
static bounds bounds_of(const attn_row *row, int n, int32_t j0) {
    bounds b = {j0 + SUB, j0, j0, j0 + SUB};
    for (int r = 0; r < n; r++) {
        if (row[r].lo < b.lo) b.lo = row[r].lo;
        if (row[r].hi > b.hi) b.hi = row[r].hi;
        if (row[r].lo > b.all_lo) b.all_lo = row[r].lo;
        if (row[r].hi < b.all_hi) b.all_hi = row[r].hi;
    }
    if (b.lo < j0) b.lo = j0;
    if (b.hi > j0 + SUB) b.hi = j0 + SUB;
    return b;
}

static void score_rows(const float *kt, int32_t dk, const attn_row *row, int n_row, int32_t j0,
                       float *s) {
    bounds b = bounds_of(row, n_row, j0);
    int32_t v = (b.lo - j0) / 16, end = (b.hi - j0 + 15) / 16;
    while (v < end) {
        const float *k = kt + v * pad16(dk) * 16;
        float *out = s + j0 + v * 16;
        int wide = v + TILE_VECS <= end;
        if (n_row == TILE_ROWS && wide)
            score_tile(k, dk, row, out, TILE_ROWS, TILE_VECS);
        else if (n_row == TILE_ROWS)
            score_tile(k, dk, row, out, TILE_ROWS, 1);
        else if (n_row == 2 && wide)
            score_tile(k, dk, row, out, 2, TILE_VECS);
        else if (n_row == 2)
            score_tile(k, dk, row, out, 2, 1);
        else if (wide)
            score_tile(k, dk, row, out, 1, TILE_VECS);
        else
            score_tile(k, dk, row, out, 1, 1);
        v += wide ? TILE_VECS : 1;
    }
}

/* Rows to take together when n are left: TILE_ROWS, 2 or 1. */
static int take_rows(int32_t n) {
    return n >= TILE_ROWS ? TILE_ROWS : n >= 2 ? 2 : 1;
}

static const float lane_number[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Products of one row become weights e^(z - m); m and their sum are returned. */
static float softmax_row(const attn_row *row, float scale, float cap, float *s, float *sum) {
    v16 top = v16_set1(-INFINITY), lanes = v16_load(lane_number), l = v16_zero();
    v16 lo = v16_set1((float)row->lo), hi = v16_set1((float)row->hi);
    for (int32_t j = row->lo & ~15; j < row->hi; j += 16) {
        v16 z = v16_mul(v16_load(s + j), v16_set1(scale)), at = v16_add(lanes, v16_set1((float)j));
        if (cap > 0) z = v16_mul(v16_set1(cap), v16_tanh(v16_div(z, v16_set1(cap))));
        if (row->slope != 0)
            z = v16_fma(v16_set1(row->slope), v16_sub(at, v16_set1(row->origin)), z);
        z = v16_select_lt(at, lo, v16_set1(-INFINITY), z);
        z = v16_select_lt(at, hi, z, v16_set1(-INFINITY));
        v16_store(s + j, z);
        top = v16_max(top, z);
    }
    float lane[16], m = -INFINITY;
    v16_store(lane, top);
    for (int i = 0; i < 16; i++)
        m = m > lane[i] ? m : lane[i];
    for (int32_t j = row->lo & ~15; j < row->hi; j += 16) {
        v16 p = weight_of(v16_sub(v16_load(s + j), v16_set1(m)));
        v16_store(s + j, p);
        l = v16_add(l, p);
    }
    *sum = v16_sum(l);
    return m;
}

/* ---- values ---- */

/* o += p_j V_j, j0 <= j < j1; n_row rows, n_vec times 16 elements, literals.  vt: row j0. */
SIMD_FN void value_tile(const float *vt, int32_t stride, const float *p, float *o, int32_t n_key,
                        int n_row, int n_vec) {
    v16 c[4][4];
#pragma GCC unroll 4
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            c[r][v] = v16_load(o + r * stride + v * 16);
    for (int32_t j = 0; j < n_key; j++, vt += stride) {
        v16 x[4];
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            x[v] = v16_load(vt + v * 16);
#pragma GCC unroll 4
        for (int r = 0; r < n_row; r++) {
            v16 w = v16_set1(p[r * ATTN_CHUNK + j]);
#pragma GCC unroll 4
            for (int v = 0; v < n_vec; v++)
                c[r][v] = v16_fma(w, x[v], c[r][v]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            v16_store(o + r * stride + v * 16, c[r][v]);
}

/* Widened values of a sub-block: keys `first` .., rows of `stride` elements. */
typedef struct values {
    const float *p;
    int32_t first, stride;
} values;

/* Keys j0 .. j1 - 1, for n_row rows. */
static void add_values(const values *u, const float *s, float *o, int32_t j0, int32_t j1,
                       int n_row) {
    if (j0 >= j1) return;
    int32_t n = u->stride;
    const float *x = u->p + (j0 - u->first) * n, *p = s + j0;
    for (int32_t i = 0; i < n;) {
        int wide = i + TILE_VECS * 16 <= n;
        if (n_row == TILE_ROWS && wide)
            value_tile(x + i, n, p, o + i, j1 - j0, TILE_ROWS, TILE_VECS);
        else if (n_row == TILE_ROWS)
            value_tile(x + i, n, p, o + i, j1 - j0, TILE_ROWS, 1);
        else if (n_row == 2 && wide)
            value_tile(x + i, n, p, o + i, j1 - j0, 2, TILE_VECS);
        else if (n_row == 2)
            value_tile(x + i, n, p, o + i, j1 - j0, 2, 1);
        else if (wide)
            value_tile(x + i, n, p, o + i, j1 - j0, 1, TILE_VECS);
        else
            value_tile(x + i, n, p, o + i, j1 - j0, 1, 1);
        i += wide ? TILE_VECS * 16 : 16;
    }
}

static int32_t larger(int32_t a, int32_t b) {
    return a > b ? a : b;
}
static int32_t smaller(int32_t a, int32_t b) {
    return a < b ? a : b;
}

/* Together for what all rows see, one by one before and after it. */
static void value_rows(const values *u, const attn_row *row, int n_row, const float *s, float *o) {
    int32_t sub = u->first, end = sub + SUB, n = u->stride;
    bounds b = bounds_of(row, n_row, sub);
    int shared = b.all_lo < b.all_hi;
    int32_t first = shared ? b.all_lo : b.hi, last = shared ? b.all_hi : b.hi;
    for (int r = 0; r < n_row; r++)
        add_values(u, s + r * ATTN_CHUNK, o + r * n, larger(row[r].lo, sub),
                   smaller(smaller(row[r].hi, first), end), 1);
    if (!shared) return;
    add_values(u, s, o, first, last, n_row);
    for (int r = 0; r < n_row; r++)
        add_values(u, s + r * ATTN_CHUNK, o + r * n, last, smaller(row[r].hi, end), 1);
}

/* ---- the chunk ---- */

static void merge(attn_row *row, float m, float l, const float *o, int32_t dvp) {
    float lane[16];
    float top = row->m > m ? row->m : m;
    if (m == -INFINITY) return; /* visible keys whose logits are all -infinity weigh nothing */
    v16_store(lane, weight_of(v16_set1(row->m - top)));
    float old = lane[0];
    v16_store(lane, weight_of(v16_set1(m - top)));
    float new = lane[0];
    row->m = top;
    row->l = fmaf(row->l, old, l * new);
    for (int32_t i = 0; i < dvp; i += 16)
        v16_store(row->o + i, v16_fma(v16_load(row->o + i), v16_set1(old),
                                      v16_mul(v16_load(o + i), v16_set1(new))));
}

static void chunk(const attn_chunk *c, attn_row *row, int32_t n_row, const attn_space *a) {
    int32_t dvp = pad16(c->dv);
    float m[ATTN_ROWS_MAX], l[ATTN_ROWS_MAX];
    for (int32_t j = c->lo / SUB * SUB; j < c->hi; j += SUB) {
        widen_keys(c, j, a->wide);
        for (int32_t r = 0, n; r < n_row; r += n)
            score_rows(a->wide, c->dk, row + r, n = take_rows(n_row - r), j, a->s + r * ATTN_CHUNK);
    }
    for (int32_t r = 0; r < n_row; r++)
        if (row[r].lo < row[r].hi)
            m[r] = softmax_row(&row[r], c->scale, c->cap, a->s + r * ATTN_CHUNK, &l[r]);
    memset(a->o, 0, (size_t)(n_row * dvp) * sizeof *a->o);
    for (int32_t j = c->lo / SUB * SUB; j < c->hi; j += SUB) {
        values u = {a->wide, j, dvp};
        widen_values(c, j, a->wide);
        for (int32_t r = 0, n; r < n_row; r += n)
            value_rows(&u, row + r, n = take_rows(n_row - r), a->s + r * ATTN_CHUNK,
                       a->o + r * dvp);
    }
    for (int32_t r = 0; r < n_row; r++)
        if (row[r].lo < row[r].hi) merge(&row[r], m[r], l[r], a->o + r * dvp, dvp);
}

static void finish(attn_row *row, const float *sink, float *y, int32_t dv) {
    float none[ATTN_D_MAX] = {0};
    if (sink) merge(row, *sink, 1.0f, none, pad16(dv));
    v16 l = v16_set1(row->l);
    for (int32_t i = 0; i < dv; i += 16) {
        v16 v = row->l == 0.0f ? v16_zero() : v16_div(v16_load(row->o + i), l);
        if (dv - i >= 16)
            v16_store(y + i, v);
        else
            v16_store_n(y + i, v, dv - i);
    }
}

const attn_isa PERI_ISA_FN(attn) = {
    .chunk = chunk,
    .finish = finish,
};
