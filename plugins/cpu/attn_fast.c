/* SPDX-License-Identifier: MIT
 *
 * attn_fast.c - attention of some query rows over one chunk of 256 keys; compiled per instruction
 * set, equal bits on all.
 *
 * The rows of a key/value head share its keys: the heads of a group times the tokens of a tile, so
 * a key is read once for all of them.  With several key/value heads a block of SUB keys is read for
 * one head after the other, so that memory is read nearly in order; the next block is prefetched,
 * because rows of one head lie too far apart for the processor to guess.  Both only move loads.
 *
 * Order of the sums, fixed whatever the tile: a logit is one FMA chain over i rising, keys in the
 * lanes (so keys are transposed when they are widened to f32); the sum of weights has 16 partial
 * sums over key mod 16 of the chunk, then v16_sum; a value element is one FMA chain over the row's
 * visible keys rising, elements in the lanes.  Chunks are merged rising by the caller's order of
 * calls: m' = max(m, mc), l' = fma(l, e^(m - m'), lc e^(mc - m')), o likewise.  Keys that a row
 * does not see are left out, not multiplied by zero: their values may be infinite or not yet
 * written. */
#include "attn_few.h"

/* Rows and vectors held in registers: of logits (8 x 2 of 32 registers, or 2 x 2 pairs of 16), and
 * of values. */
#if defined(PERI_AVX512)
enum { SCORE_ROWS = 8, SCORE_VECS = 2, VALUE_ROWS = 4, VALUE_VECS = 4 };
#elif PERI_SIMD
enum { SCORE_ROWS = 2, SCORE_VECS = 2, VALUE_ROWS = 2, VALUE_VECS = 2 };
#else
enum { SCORE_ROWS = 1, SCORE_VECS = 1, VALUE_ROWS = 1, VALUE_VECS = 1 };
#endif
enum { SUB = ATTN_SUB };

/* e^z for z <= 0, to 2 ulp.  Logits further below the largest weigh exactly 0; so masked ones do,
 * and no weight is denormal, which lets one power of two serve: z = n ln 2 + r, |r| <= 0.35, e^r by
 * the Taylor polynomial of degree 6 (v16_exp, for every z, needs twice the instructions). */
SIMD_FN v16 weight_of(v16 z) {
    v16 n = v16_rint(v16_mul(z, v16_set1(0x1.715476p+0f)));
    v16 r = v16_fnma(n, v16_set1(0x1.62e4p-1f), z);
    r = v16_fnma(n, v16_set1(0x1.7f7d1cp-20f), r);
    v16 p = v16_fma(v16_set1(1.0f / 720), r, v16_set1(1.0f / 120));
    p = v16_fma(p, r, v16_set1(1.0f / 24));
    p = v16_fma(p, r, v16_set1(1.0f / 6));
    p = v16_fma(p, r, v16_set1(0.5f));
    p = v16_fma(p, r, v16_set1(1.0f));
    p = v16_fma(p, r, v16_set1(1.0f));
    return v16_select_lt(z, v16_set1(-87.0f), v16_zero(), v16_scale2(p, n));
}

static int32_t pad16(int32_t n) {
    return (n + 15) & ~15;
}

/* 16 keys of dk elements transposed to out f32 [pad16(dk)][16]; key[k] NULL: zeros. */
SIMD_FN void transpose_keys(uint16_t dtype, const uint8_t *const key[16], int is_whole, int32_t dk,
                            float *out, ahead *p, int n_line) {
    int32_t i = 0;
    v16 r[16];
    for (; is_whole && i + 16 <= dk; i += 16) {
        ahead_step(p, n_line);
#pragma GCC unroll 16
        for (int k = 0; k < 16; k++)
            r[k] = load_pool(dtype, key[k], i, 16);
        transpose(r);
#pragma GCC unroll 16
        for (int k = 0; k < 16; k++)
            v16_store(out + (i + k) * 16, r[k]);
    }
    for (; i < dk; i += 16) {
        for (int k = 0; k < 16; k++)
            r[k] = key[k] ? load_pool(dtype, key[k], i, dk - i) : v16_zero();
        transpose(r);
        for (int k = 0; k < 16; k++)
            v16_store(out + (i + k) * 16, r[k]);
    }
}

/* Keys j0 .. j0 + SUB - 1 of head g to kt f32 [SUB / 16][pad16(dk)][16]; those outside lo .. hi - 1
 * count as zeros. */
SIMD_FN void widen_keys_of(uint16_t dtype, const attn_chunk *c, int32_t g, int32_t j0, float *kt,
                           ahead *p, int n_line) {
    for (int32_t b = 0; b < SUB && j0 + b < c->hi; b += 16) {
        const uint8_t *key[16];
        int32_t j = j0 + b;
        if (j + 16 <= c->lo) continue;
        for (int32_t k = 0; k < 16; k++)
            key[k] = j + k >= c->lo && j + k < c->hi ? c->k[j + k] + (size_t)g * c->k_bytes : NULL;
        transpose_keys(dtype, key, j >= c->lo && j + 16 <= c->hi, c->dk, kt + b * pad16(c->dk), p,
                       n_line);
    }
}

/* Values of the same keys to vt f32 [SUB][pad16(dv)]. */
SIMD_FN void widen_values_of(uint16_t dtype, const attn_chunk *c, int32_t g, int32_t j0, float *vt,
                             ahead *p, int n_line) {
    int32_t lo = j0 > c->lo ? j0 : c->lo, hi = j0 + SUB < c->hi ? j0 + SUB : c->hi, i;
    for (int32_t j = lo; j < hi; j++) {
        const uint8_t *v = c->v[j] + (size_t)g * c->v_bytes;
        float *out = vt + (j - j0) * pad16(c->dv);
        ahead_step(p, n_line);
#pragma GCC unroll 4
        for (i = 0; i + 16 <= c->dv; i += 16)
            v16_store(out + i, load_pool(dtype, v, i, 16));
        if (i < c->dv) v16_store(out + i, load_pool(dtype, v, i, c->dv - i));
    }
}

static void widen_keys(const attn_chunk *c, int32_t g, int32_t j0, float *kt, ahead *p) {
    int n_line = lines_each(p, SUB / 16 * (c->dk / 16));
    if (c->dtype == PERI_CPU_F16)
        widen_keys_of(PERI_CPU_F16, c, g, j0, kt, p, n_line);
    else if (c->dtype == PERI_CPU_F32)
        widen_keys_of(PERI_CPU_F32, c, g, j0, kt, p, n_line);
    else if (c->dtype == PERI_CPU_Q8_0)
        widen_keys_of(PERI_CPU_Q8_0, c, g, j0, kt, p, n_line);
    else if (c->dtype == PERI_CPU_Q4_0)
        widen_keys_of(PERI_CPU_Q4_0, c, g, j0, kt, p, n_line);
    else
        widen_keys_of(PERI_CPU_BF16, c, g, j0, kt, p, n_line);
}
static void widen_values(const attn_chunk *c, int32_t g, int32_t j0, float *vt, ahead *p) {
    int n_line = lines_each(p, SUB);
    if (c->dtype == PERI_CPU_F16)
        widen_values_of(PERI_CPU_F16, c, g, j0, vt, p, n_line);
    else if (c->dtype == PERI_CPU_F32)
        widen_values_of(PERI_CPU_F32, c, g, j0, vt, p, n_line);
    else if (c->dtype == PERI_CPU_Q8_0)
        widen_values_of(PERI_CPU_Q8_0, c, g, j0, vt, p, n_line);
    else if (c->dtype == PERI_CPU_Q4_0)
        widen_values_of(PERI_CPU_Q4_0, c, g, j0, vt, p, n_line);
    else
        widen_values_of(PERI_CPU_BF16, c, g, j0, vt, p, n_line);
}

/* ---- logits ---- */

/* n_row rows, n_vec times 16 keys, literals. */
SIMD_FN void score_tile(const float *kt, int32_t dk, const attn_row *row, float *s, int n_row,
                        int n_vec) {
    v16 c[8][2];
    int32_t block = pad16(dk) * 16;
#pragma GCC unroll 8
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 2
        for (int v = 0; v < n_vec; v++)
            c[r][v] = v16_zero();
    for (int32_t i = 0; i < dk; i++) {
        v16 k[2];
#pragma GCC unroll 2
        for (int v = 0; v < n_vec; v++)
            k[v] = v16_load(kt + v * block + i * 16);
#pragma GCC unroll 8
        for (int r = 0; r < n_row; r++) {
            v16 q = v16_set1(row[r].q[i]);
#pragma GCC unroll 2
            for (int v = 0; v < n_vec; v++)
                c[r][v] = v16_fma(q, k[v], c[r][v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 2
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

/* n_row literal rows over vectors v .. end - 1 of 16 keys. */
SIMD_FN void score_strip(const float *kt, int32_t dk, const attn_row *row, float *s, int32_t v,
                         int32_t end, int n_row) {
    int32_t block = pad16(dk) * 16;
    for (; v + SCORE_VECS <= end; v += SCORE_VECS)
        score_tile(kt + v * block, dk, row, s + v * 16, n_row, SCORE_VECS);
    for (; v < end; v++)
        score_tile(kt + v * block, dk, row, s + v * 16, n_row, 1);
}

static void score_rows(const float *kt, int32_t dk, const attn_row *row, int n_row, int32_t j0,
                       float *s) {
    bounds b = bounds_of(row, n_row, j0);
    int32_t v = (b.lo - j0) / 16, end = (b.hi - j0 + 15) / 16;
    if (n_row == SCORE_ROWS)
        score_strip(kt, dk, row, s + j0, v, end, SCORE_ROWS);
    else if (n_row == 4)
        score_strip(kt, dk, row, s + j0, v, end, 4);
    else if (n_row == 2)
        score_strip(kt, dk, row, s + j0, v, end, 2);
    else
        score_strip(kt, dk, row, s + j0, v, end, 1);
}

/* Rows to take together when n are left: `most`, or the largest power of two that n holds. */
static int take_rows(int32_t n, int most) {
    while (most > n)
        most /= 2;
    return most;
}

static const float lane_number[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* x where the row sees key j + lane, -infinity elsewhere. */
SIMD_FN v16 visible(const attn_row *row, int32_t j, v16 x) {
    if (j >= row->lo && j + 16 <= row->hi) return x;
    v16 none = v16_set1(-INFINITY), at = v16_add(v16_load(lane_number), v16_set1((float)j));
    x = v16_select_lt(at, v16_set1((float)row->lo), none, x);
    return v16_select_lt(at, v16_set1((float)row->hi), x, none);
}

/* Products become logits z. */
SIMD_FN void cap_and_slope(const attn_row *row, float scale, float cap, float *s) {
    for (int32_t j = row->lo & ~15; j < row->hi; j += 16) {
        v16 z = v16_mul(v16_load(s + j), v16_set1(scale));
        v16 at = v16_add(v16_load(lane_number), v16_set1((float)j));
        if (cap > 0) z = v16_mul(v16_set1(cap), v16_tanh(v16_div(z, v16_set1(cap))));
        if (row->slope != 0)
            z = v16_fma(v16_set1(row->slope), v16_sub(at, v16_set1(row->origin)), z);
        v16_store(s + j, z);
    }
}

/* Products s of one row become weights e^(z - m); m and their sum are returned.  Where logits are
 * the products times a positive scale, the largest product gives m, and z - m is one FMA. */
static float softmax_row(const attn_row *row, float scale, float cap, float *s, float *sum) {
    v16 top = v16_set1(-INFINITY), l = v16_zero();
    int32_t first = row->lo & ~15;
    if (cap > 0 || row->slope != 0 || !(scale > 0)) {
        cap_and_slope(row, scale, cap, s);
        scale = 1.0f;
    }
    for (int32_t j = first; j < row->hi; j += 16)
        top = v16_max(top, visible(row, j, v16_load(s + j)));
    float lane[16], m = -INFINITY;
    v16_store(lane, top);
    for (int i = 0; i < 16; i++)
        m = m > lane[i] ? m : lane[i];
    m *= scale;
    v16 below = v16_set1(-m), factor = v16_set1(scale);
    for (int32_t j = first; j < row->hi; j += 16) {
        v16 p = weight_of(visible(row, j, v16_fma(v16_load(s + j), factor, below)));
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
        int wide = i + VALUE_VECS * 16 <= n;
        if (n_row == VALUE_ROWS && wide)
            value_tile(x + i, n, p, o + i, j1 - j0, VALUE_ROWS, VALUE_VECS);
        else if (n_row == VALUE_ROWS)
            value_tile(x + i, n, p, o + i, j1 - j0, VALUE_ROWS, 1);
        else if (n_row == 2 && wide)
            value_tile(x + i, n, p, o + i, j1 - j0, 2, VALUE_VECS);
        else if (n_row == 2)
            value_tile(x + i, n, p, o + i, j1 - j0, 2, 1);
        else if (wide)
            value_tile(x + i, n, p, o + i, j1 - j0, 1, VALUE_VECS);
        else
            value_tile(x + i, n, p, o + i, j1 - j0, 1, 1);
        i += wide ? VALUE_VECS * 16 : 16;
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

/* ---- few rows ---- */

#define FEW_EACH(CALL)                                                                             \
    do {                                                                                           \
        if (f->c->n_row == 1)                                                                      \
            CALL(1);                                                                               \
        else if (f->c->n_row == 2)                                                                 \
            CALL(2);                                                                               \
        else if (f->c->n_row == 3)                                                                 \
            CALL(3);                                                                               \
        else                                                                                       \
            CALL(4);                                                                               \
    } while (0)
static void few_scores(const few *f, int32_t j) {
#define CALL(n_row) few_score(dtype, f, j, n_row)
#define FEW_TYPE(NAME)                                                                             \
    if (f->c->dtype == NAME) {                                                                     \
        enum { dtype = NAME };                                                                     \
        FEW_EACH(CALL);                                                                            \
    }
    FEW_TYPE(PERI_CPU_F16)
    FEW_TYPE(PERI_CPU_Q8_0)
    FEW_TYPE(PERI_CPU_Q4_0)
#undef CALL
}
static void few_values_of(const few *f, few_keys keys) {
#define CALL(n_row) few_values(dtype, f, keys, n_row)
    FEW_TYPE(PERI_CPU_F16)
    FEW_TYPE(PERI_CPU_Q8_0)
    FEW_TYPE(PERI_CPU_Q4_0)
#undef CALL
}

/* attn_few.h pays: few rows per head, which all see the chunk's keys. */
static int is_few(const attn_chunk *c, const attn_row *row) {
    if (!PERI_SIMD || c->n_row > FEW_ROWS || c->dtype == PERI_CPU_F32 || c->dtype == PERI_CPU_BF16)
        return 0;
    for (int32_t r = 0; r < c->n_row * c->n_head; r++)
        if (row[r].lo != c->lo || row[r].hi != c->hi) return 0;
    return 1;
}

/* ---- the chunk ---- */

/* Products of all rows with keys j .. j + SUB - 1, which serve head after head. */
static void score_block(const attn_chunk *c, const attn_row *row, int32_t j, int has_few,
                        const attn_space *a) {
    for (int32_t g = 0; g < c->n_head; g++) {
        int32_t first = g * c->n_row, end = first + c->n_row;
        ahead next = j + SUB < c->hi ? ahead_of(c->k, c, c->k_bytes, g, j + SUB)
                                     : ahead_of(c->v, c, c->v_bytes, g, c->lo / SUB * SUB);
        if (has_few) {
            few f = {c, g, row + first, a->s + first * ATTN_CHUNK, NULL, &next};
            few_scores(&f, j);
            continue;
        }
        widen_keys(c, g, j, a->wide, &next);
        for (int32_t r = first, n; r < end; r += n)
            score_rows(a->wide, c->dk, row + r, n = take_rows(end - r, SCORE_ROWS), j,
                       a->s + r * ATTN_CHUNK);
    }
}

/* Their values, weighted, join o. */
static void value_block(const attn_chunk *c, const attn_row *row, int32_t j, int has_few, float *o,
                        const attn_space *a) {
    int32_t dvp = pad16(c->dv);
    for (int32_t g = 0; g < c->n_head; g++) {
        int32_t first = g * c->n_row, end = first + c->n_row;
        ahead next = ahead_of(c->v, c, c->v_bytes, g, j + SUB);
        if (has_few) {
            few f = {c, g, row + first, a->s + first * ATTN_CHUNK, o + first * dvp, NULL};
            ahead_step(&next, lines_each(&next, 1));
            few_values_of(&f, (few_keys){larger(j, c->lo), smaller(j + SUB, c->hi)});
            continue;
        }
        values u = {a->wide, j, dvp};
        widen_values(c, g, j, a->wide, &next);
        for (int32_t r = first, n; r < end; r += n)
            value_rows(&u, row + r, n = take_rows(end - r, VALUE_ROWS), a->s + r * ATTN_CHUNK,
                       o + r * dvp);
    }
}

static void chunk(const attn_chunk *c, const attn_row *row, const attn_part *out,
                  const attn_space *a) {
    int32_t total = c->n_row * c->n_head;
    int has_few = is_few(c, row);
    for (int32_t j = c->lo / SUB * SUB; j < c->hi; j += SUB)
        score_block(c, row, j, has_few, a);
    for (int32_t r = 0; r < total; r++) {
        out->m[r] = -INFINITY;
        out->l[r] = 0.0f;
        if (row[r].lo < row[r].hi)
            out->m[r] = softmax_row(&row[r], c->scale, c->cap, a->s + r * ATTN_CHUNK, &out->l[r]);
    }
    memset(out->o, 0, (size_t)(total * pad16(c->dv)) * sizeof *out->o);
    for (int32_t j = c->lo / SUB * SUB; j < c->hi; j += SUB)
        value_block(c, row, j, has_few, out->o, a);
}

/* Visible keys whose logits are all -infinity weigh nothing, like no keys. */
static void merge_row(float *m, float *l, float *o, float part_m, float part_l, const float *part,
                      int32_t dvp) {
    float lane[16], top = *m > part_m ? *m : part_m;
    if (part_m == -INFINITY) return;
    v16_store(lane, weight_of(v16_set1(*m - top)));
    float old = lane[0];
    v16_store(lane, weight_of(v16_set1(part_m - top)));
    float new = lane[0];
    *m = top;
    *l = fmaf(*l, old, part_l * new);
    for (int32_t i = 0; i < dvp; i += 16)
        v16_store(o + i, v16_fma(v16_load(o + i), v16_set1(old),
                                 v16_mul(v16_load(part + i), v16_set1(new))));
}

static void merge(const attn_part *to, const attn_part *from, int32_t n_row, int32_t dv) {
    int32_t dvp = pad16(dv);
    for (int32_t r = 0; r < n_row; r++)
        merge_row(&to->m[r], &to->l[r], to->o + r * dvp, from->m[r], from->l[r], from->o + r * dvp,
                  dvp);
}

static void finish(const attn_part *p, int32_t r, const float *sink, float *y, int32_t dv) {
    static const float none[ATTN_D_MAX];
    float *o = p->o + r * pad16(dv);
    if (sink) merge_row(&p->m[r], &p->l[r], o, *sink, 1.0f, none, pad16(dv));
    v16 l = v16_set1(p->l[r]);
    for (int32_t i = 0; i < dv; i += 16) {
        v16 v = p->l[r] == 0.0f ? v16_zero() : v16_div(v16_load(o + i), l);
        if (dv - i >= 16)
            v16_store(y + i, v);
        else
            v16_store_n(y + i, v, dv - i);
    }
}

const attn_isa PERI_ISA_FN(attn) = {
    .chunk = chunk,
    .merge = merge,
    .finish = finish,
};
