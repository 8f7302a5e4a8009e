/* SPDX-License-Identifier: MIT
 *
 * linear_amx_few.c - products of block-quantised weights with the int8 activations of 12 to 48
 * tokens on the tiles of AMX-INT8 (tiled_isa).  The bits are those of linear_vnni.c.
 *
 * With few tokens taking the weights apart is most of the work, and most of that is transposing
 * them: B wants four columns of 16 rows side by side.  So here the weights are A, where a row of a
 * tile is columns of one row of weights, as they lie; Q8_0 is not even copied.  The activations are
 * B: linear.c has them transposed once per op (arrange).  A tile of C has a row of weights to a row
 * and tokens in its lanes, so scales of weights are broadcast, those of activations are not.
 *
 * A unit is 16 rows times 128 columns of span 32, or 256 in two planes (linear_amx.h), which are
 * unsigned where types have minima.  Up to LINEAR_TILED_GROUPS units follow one another over the
 * same columns, so that B stays in four tiles.  The vectors that finish a unit's sums stand between
 * the tile instructions of the next one, and a sum is stored while the next product runs.
 *
 * 16 tokens, two threads, 3072 rows of 1024 columns in memory: 1.36 times as fast as by vectors
 * with Q4_0, 1.63 Q4_K, 1.24 Q8_0, 1.39 Q6_K, 1.2 to 1.45 the others (tests/perf/README.md). */
#include "linear_unpack.h"

#include "amx.h"
#include "linear_amx.h"
#include "linear_scales.h"

enum {
    GROUPS = LINEAR_TILED_GROUPS,
    N_TILE = LINEAR_TILED / TILE_TOKENS,
    BLOCKS = 4, /* of 32 columns, of a unit of span 32 */
    RUNS = LINEAR_K / TILE_ROW_BYTES,
    Q4_0_BYTES = 18,
    Q3_K_BYTES = 110,
    Q4_K_BYTES = 144,
    Q5_K_BYTES = 176,
    Q6_K_BYTES = 210,
    IQ4_XS_BYTES = 136,
    SUM_INTS = TILE_BYTES / 4 + 16 /* a line between: linear_amx.c, SUM_BYTES */
};

/* Weights as A tiles, rows of 64 bytes: of span 32 those of blocks 0 and 1, then of 2 and 3; of
 * span 256 the high plane of each 64 columns, then the low ones. */
typedef struct weights {
    uint8_t v[2 * RUNS][LINEAR_ROWS][TILE_ROW_BYTES];
} weights __attribute__((aligned(64)));

typedef struct factors {
    /* Span 32: [row][block], m for tame scales; 256: [row]. */
    _Alignas(64) float d[LINEAR_ROWS * BLOCKS], m[LINEAR_ROWS * BLOCKS];
    int32_t mn[LINEAR_ROWS][4]; /* span 256: minima of two sub-blocks as int16 */
    int is_tame;                /* span 32 */
} factors;

/* A unit times 16 tokens, on its way. */
typedef struct unit {
    const factors *c;
    const act8_tile *a;
    float *acc; /* [row][token]; NULL: there is none */
    int32_t *s; /* its sums: [block or plane] */
    int first;  /* block of a */
} unit;

/* 16 rows of weights, 256 columns of them. */
typedef struct source {
    const uint8_t *p;
    size_t stride;
    uintptr_t ahead; /* as many bytes of what comes next, to be asked for */
} source;

/* What comes next, where row r of `bytes` bytes is taken apart: to L2, L1 has other things to hold.
 */
SIMD_FN void ask_ahead_of(const source *o, int r, int bytes) {
#pragma GCC unroll 4
    for (int i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)(o->ahead + (size_t)(r * bytes + i)), _MM_HINT_T1);
}

/* The words of x whose numbers are in `order`. */
SIMD_FN vi words_at(vi order, vi x) {
    return _mm512_permutexvar_epi16(order, x);
}
/* Numbers of words: `each` times first, then of first + 1, ... */
SIMD_FN vi repeat(int first, int each) {
    int16_t x[32];
    for (int i = 0; i < 32; i++)
        x[i] = (int16_t)(first + i / each);
    return vi_load(x);
}
/* Words n in the lower half, m in the upper one. */
SIMD_FN vi halves(int n, int m) {
    return _mm512_inserti64x4(_mm512_set1_epi16((short)n), _mm256_set1_epi16((short)m), 1);
}
/* Words of the lower half n bits to the right, of the upper one m. */
SIMD_FN vi shift_halves(vi x, int n, int m) {
    return _mm512_srlv_epi16(x, halves(n, m));
}
SIMD_FN vi twice(const uint8_t *p) {
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)p));
}

/* ---- types ---- */

/* Of span 32, when d is there. */
SIMD_FN void tame(factors *c) {
    __mmask16 yes = 0xffff;
    for (int i = 0; i < LINEAR_ROWS * BLOCKS; i += W) {
        vf d = vf_load(c->d + i);
        vf_store(c->m + i, vf_mul(d, vf_set1(-MAGIC)));
        yes &= tame_lanes(d);
    }
    c->is_tame = yes == 0xffff;
}

/* By how many bits words are shifted where 16 bytes of nibbles lie twice, one after the other. */
static const int16_t nibble_shift[32] __attribute__((aligned(64))) = {
    0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4};

/* Blocks first .. first + 3.  A register is two blocks: the bytes of each twice, the second time to
 * be shifted. */
static void take_q4_0(const source *o, int first, weights *w, factors *c) {
    static const int16_t order[2][32] __attribute__((aligned(64))) = {
        {1,  2,  3,  4,  5,  6,  7,  8,  1,  2,  3,  4,  5,  6,  7,  8,
         10, 11, 12, 13, 14, 15, 16, 17, 10, 11, 12, 13, 14, 15, 16, 17},
        {15, 16, 17, 18, 19, 20, 21, 22, 15, 16, 17, 18, 19, 20, 21, 22,
         24, 25, 26, 27, 28, 29, 30, 31, 24, 25, 26, 27, 28, 29, 30, 31}};
    static const int16_t of_d[32] __attribute__((aligned(64))) = {0, 9, 18, 27};
    enum { BYTES = BLOCKS * Q4_0_BYTES, LAST = BYTES - 64 };
    const vi order0 = vi_load(order[0]), order1 = vi_load(order[1]), by = vi_load(nibble_shift);
    const vi low = vi_set1_8(15), scales = vi_load(of_d);
    const uint8_t *p = o->p + first * Q4_0_BYTES;
#pragma GCC unroll 4
    for (int r = 0; r < LINEAR_ROWS; r++, p += o->stride) {
        vi x = vi_load(p), y = vi_load(p + LAST);
        ask_ahead_of(o, r, BYTES);
        vi_store(w->v[0][r], vi_and(_mm512_srlv_epi16(words_at(order0, x), by), low));
        vi_store(w->v[1][r], vi_and(_mm512_srlv_epi16(words_at(order1, y), by), low));
        _mm_store_ps(c->d + r * BLOCKS, _mm_cvtph_ps(_mm512_castsi512_si128(words_at(scales, x))));
    }
}

/* The weights are where they should be. */
static void take_q8_0(const source *o, int first, weights *w, factors *c) {
    const uint8_t *p = o->p + first * Q8_0_BYTES;
    (void)w;
    for (int r = 0; r < LINEAR_ROWS; r++, p += o->stride) {
        uint16_t half[BLOCKS];
        for (int b = 0; b < BLOCKS; b++)
            memcpy(&half[b], p + b * Q8_0_BYTES, 2);
        ask_ahead_of(o, r, BLOCKS * Q8_0_BYTES);
        _mm_store_ps(c->d + r * BLOCKS, _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)half)));
    }
}

/* Columns 64 i .. of row r in both planes; scales: int16 of each `sub` columns of the row. */
SIMD_FN void store_planes(weights *w, int r, int i, vi q, vi scales, int sub, int n_min) {
    vi hi, lo, scale = words_at(repeat(64 / sub * i, sub / 2), scales);
    if (n_min)
        split_min(q, scale, &hi, &lo);
    else
        split_signed(q, scale, &hi, &lo);
    vi_store(w->v[i][r], hi);
    vi_store(w->v[RUNS + i][r], lo);
}

/* Bits 2 i of the bytes of the lower half, and 2 i + 1 of the upper one, as bits `to` of all. */
SIMD_FN vi bit_pairs(vi x, int i, int to) {
    int left = to - 2 * i;
    x = left > 0 ? _mm512_sllv_epi16(x, halves(left, left - 1)) : shift_halves(x, -left, 1 - left);
    return vi_and(x, vi_set1_8((int8_t)(1 << to)));
}

/* Q4_K, and Q5_K, which has 32 bytes of top bits before its nibbles; the head is as linear_unpack.h
 * describes it. */
SIMD_FN void take_minima(const source *o, int bytes, weights *w, factors *c) {
    const vi low = vi_set1_8(15);
    const int nibbles = bytes - 128;
    const uint8_t *p = o->p;
    uint16_t d[LINEAR_ROWS], m[LINEAR_ROWS];
    for (int r = 0; r < LINEAR_ROWS; r++, p += o->stride) {
        uint32_t x[4];
        memcpy(x, p, sizeof x);
        ask_ahead_of(o, r, bytes);
        d[r] = (uint16_t)x[0];
        m[r] = (uint16_t)(x[0] >> 16);
        uint64_t sc = (x[3] & 0x0f0f0f0f) | (x[1] >> 2 & 0x30303030);
        uint64_t mn = (x[3] >> 4 & 0x0f0f0f0f) | (x[2] >> 2 & 0x30303030);
        sc = sc << 32 | (x[1] & 0x3f3f3f3f);
        mn = mn << 32 | (x[2] & 0x3f3f3f3f);
        _mm_store_si128((__m128i *)c->mn[r], _mm_cvtepu8_epi16(_mm_cvtsi64_si128((int64_t)mn)));
        vi scale = _mm512_castsi128_si512(_mm_cvtepu8_epi16(_mm_cvtsi64_si128((int64_t)sc)));
#pragma GCC unroll 4
        for (int i = 0; i < RUNS; i++) {
            vi q = vi_and(shift_halves(twice(p + nibbles + 32 * i), 0, 4), low);
            if (bytes == Q5_K_BYTES) q = vi_or(q, bit_pairs(twice(p + 16), i, 4));
            store_planes(w, r, i, q, scale, 32, 4);
        }
    }
    vf_store(c->d, vf_load_f16(d));
    vf_store(c->m, vf_load_f16(m));
}
static void take_q4_k(const source *o, int first, weights *w, factors *c) {
    (void)first;
    take_minima(o, Q4_K_BYTES, w, c);
}
static void take_q5_k(const source *o, int first, weights *w, factors *c) {
    (void)first;
    take_minima(o, Q5_K_BYTES, w, c);
}

/* 32 bytes of top bits, 64 of pairs of low bits, 12 of scales, d. */
static void take_q3_k(const source *o, int first, weights *w, factors *c) {
    const vi low = vi_set1_8(3), offset = vi_set1_8(-4);
    const uint8_t *p = o->p;
    uint16_t d[LINEAR_ROWS];
    (void)first;
    for (int r = 0; r < LINEAR_ROWS; r++, p += o->stride) {
        vi sc = _mm512_castsi256_si512(_mm256_cvtepi8_epi16(q3_k_scales(p + 96)));
        ask_ahead_of(o, r, Q3_K_BYTES);
        memcpy(&d[r], p + 108, 2);
#pragma GCC unroll 4
        for (int i = 0; i < RUNS; i++) {
            vi q = shift_halves(twice(p + 32 + i / 2 * 32), i % 2 * 4, i % 2 * 4 + 2);
            q = vi_or(vi_and(q, low), bit_pairs(twice(p), i, 2));
            store_planes(w, r, i, vi_add8(q, offset), sc, 16, 0);
        }
    }
    vf_store(c->d, vf_load_f16(d));
}

/* d and scales, then blocks of 16 bytes. */
static void take_iq4_xs(const source *o, int first, weights *w, factors *c) {
    const vi low = vi_set1_8(15), code = vi_lane(_mm_loadu_si128((const __m128i *)cpu_code_iq4));
    const vi places = _mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3);
    const vi by = vi_load(nibble_shift);
    const uint8_t *p = o->p;
    uint16_t d[LINEAR_ROWS];
    (void)first;
    for (int r = 0; r < LINEAR_ROWS; r++, p += o->stride) {
        vi scale = _mm512_castsi128_si512(_mm256_cvtepi32_epi16(iq4_xs_scales(p)));
        ask_ahead_of(o, r, IQ4_XS_BYTES);
        memcpy(&d[r], p, 2);
#pragma GCC unroll 4
        for (int i = 0; i < RUNS; i++) {
            vi q = _mm512_permutexvar_epi64(places, twice(p + 8 + 32 * i));
            q = vi_shuffle8(code, vi_and(_mm512_srlv_epi16(q, by), low));
            store_planes(w, r, i, q, scale, 32, 0);
        }
    }
    vf_store(c->d, vf_load_f16(d));
}

/* Per half of 128 columns 64 bytes of low nibbles and 32 of high bit pairs; then 16 int8 scales and
 * d. */
static void take_q6_k(const source *o, int first, weights *w, factors *c) {
    const vi low = vi_set1_8(15), pair = vi_set1_8(48), offset = vi_set1_8(-32);
    const uint8_t *p = o->p;
    uint16_t d[LINEAR_ROWS];
    (void)first;
    for (int r = 0; r < LINEAR_ROWS; r++, p += o->stride) {
        vi sc = _mm512_castsi256_si512(
            _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 192))));
        ask_ahead_of(o, r, Q6_K_BYTES);
        memcpy(&d[r], p + 208, 2);
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            vi v = vi_load(p + 64 * half), h = shift_halves(twice(p + 128 + 32 * half), 0, 2);
            vi q[2] = {vi_or(vi_and(v, low), vi_and(vi_shl16(h, 4), pair)),
                       vi_or(vi_and(vi_shr16(v, 4), low), vi_and(h, pair))};
#pragma GCC unroll 2
            for (int k = 0; k < 2; k++)
                store_planes(w, r, 2 * half + k, vi_add8(q[k], offset), sc, 16, 0);
        }
    }
    vf_store(c->d, vf_load_f16(d));
}

/* ---- sums to results ---- */

SIMD_FN vi sum_at(const unit *o, int i, int r) {
    return vi_load(o->s + i * SUM_INTS + r * TILE_TOKENS);
}

/* What finishing does; literals. */
typedef struct manner {
    int has_offset, is_tame, n_min;
} manner;

/* n rows of a unit, from r0 on; literals. */
SIMD_FN void finish32(const unit *o, int r0, int n, manner h) {
    vf acc[LINEAR_ROWS];
#pragma GCC unroll 16
    for (int i = 0; i < n; i++)
        acc[i] = vf_load(o->acc + (r0 + i) * TILE_TOKENS);
#pragma GCC unroll 4
    for (int b = 0; b < BLOCKS; b++) {
        vi base = vi_set1(h.is_tame ? MAGIC_BITS : 0);
        vf dx = vf_load(o->a->dx[o->first + b]);
        if (h.has_offset) base = vi_add32(base, vi_load(o->a->off[o->first + b]));
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) {
            int at = (r0 + i) * BLOCKS + b;
            vi s = sum_at(o, b, r0 + i);
            vf d = vf_set1(o->c->d[at]);
            vf x = h.is_tame ? tame_product(s, base, d, vf_set1(o->c->m[at]))
                             : vf_mul(vf_cvt(vi_add32(s, base)), d);
            acc[i] = vf_fma(x, dx, acc[i]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; i++)
        vf_store(o->acc + (r0 + i) * TILE_TOKENS, acc[i]);
}

SIMD_FN void finish256(const unit *o, int r0, int n, manner h) {
    vf dx = vf_load(o->a->dx[0]);
#pragma GCC unroll 16
    for (int r = r0; r < r0 + n; r++) {
        vi t = vi_shl32(sum_at(o, 0, r), h.n_min ? HI_SHIFT_MIN : HI_SHIFT), u = vi_set1(0);
        vf x = vf_mul(vf_cvt(vi_add32(t, sum_at(o, 1, r))), vf_set1(o->c->d[r]));
#pragma GCC unroll 4
        for (int j = 0; j < h.n_min; j++)
            u = vi_dot16(u, vi_set1(o->c->mn[r][j]), vi_load(o->a->sum[j]));
        if (h.n_min) x = vf_fnma(vf_cvt(u), vf_set1(o->c->m[r]), x);
        float *acc = o->acc + r * TILE_TOKENS;
        vf_store(acc, vf_fma(x, dx, vf_load(acc)));
    }
}

/* ---- tiles: 0 and 1 are C, 2 and 3 A, 4 .. 7 B ---- */

SIMD_FN void store_last(const unit *o) {
    tile_store(1, o->s + (BLOCKS - 1) * SUM_INTS, TILE_ROW_BYTES);
}

/* a: of each block, rows `stride` bytes apart.  The last sum is stored by the next unit. */
SIMD_FN void unit32(const unit *now, const uint8_t *const a[BLOCKS], size_t stride,
                    const unit *before, manner h) {
    enum { EACH = LINEAR_ROWS / BLOCKS };
    tile_load(2, a[0], stride);
    tile_zero(0);
    tile_dot(0, 2, 4);
    if (before->acc) {
        store_last(before);
        finish32(before, 0, EACH, h);
    }
    tile_load(3, a[1], stride);
    tile_zero(1);
    tile_dot(1, 3, 5);
    tile_store(0, now->s, TILE_ROW_BYTES);
    if (before->acc) finish32(before, EACH, EACH, h);
    tile_load(2, a[2], stride);
    tile_zero(0);
    tile_dot(0, 2, 6);
    tile_store(1, now->s + SUM_INTS, TILE_ROW_BYTES);
    if (before->acc) finish32(before, 2 * EACH, EACH, h);
    tile_load(3, a[3], stride);
    tile_zero(1);
    tile_dot(1, 3, 7);
    tile_store(0, now->s + 2 * SUM_INTS, TILE_ROW_BYTES);
    if (before->acc) finish32(before, 3 * EACH, EACH, h);
}

/* Columns 64 i .. of both planes, times tile b. */
#define RUN256(i, b)                                                                               \
    tile_load(2, w->v[i], TILE_ROW_BYTES);                                                         \
    dot256(0, 2, b, h, us);                                                                        \
    if (before->acc) finish256(before, 4 * (i), 2, h);                                             \
    tile_load(3, w->v[RUNS + (i)], TILE_ROW_BYTES);                                                \
    dot256(1, 3, b, h, us);                                                                        \
    if (before->acc) finish256(before, 4 * (i) + 2, 2, h)
SIMD_FN void unit256(const unit *now, const weights *w, const unit *before, manner h) {
    tile_zero(0);
    tile_zero(1);
    RUN256(0, 4);
    RUN256(1, 5);
    RUN256(2, 6);
    RUN256(3, 7);
    tile_store(0, now->s, TILE_ROW_BYTES);
    tile_store(1, now->s + SUM_INTS, TILE_ROW_BYTES);
}

/* The four B tiles of a unit. */
SIMD_FN void columns(const act8_tile *a, int first, int span) {
    const int8_t *q = a->q[first * 8][0];
    enum { FLAT = 8 * TILE_ROW_BYTES };
    if (span == 32) {
        tile_load(4, q, TILE_ROW_BYTES);
        tile_load_at(5, q, FLAT, TILE_ROW_BYTES);
        tile_load_at(6, q, 2 * FLAT, TILE_ROW_BYTES);
        tile_load_at(7, q, 3 * FLAT, TILE_ROW_BYTES);
    } else {
        tile_load(4, q, TILE_ROW_BYTES);
        tile_load_at(5, q, TILE_BYTES, TILE_ROW_BYTES);
        tile_load_at(6, q, 2 * TILE_BYTES, TILE_ROW_BYTES);
        tile_load_at(7, q, 3 * TILE_BYTES, TILE_ROW_BYTES);
    }
}

/* ---- blocks of rows and columns ---- */

typedef struct task {
    weights w;
    factors c[2];
    int32_t s[2][BLOCKS * SUM_INTS];
    float acc[GROUPS][N_TILE][LINEAR_ROWS * TILE_TOKENS];
    uint8_t edge[LINEAR_ROWS * KB_BYTES_MAX];
    unit before;
    unsigned n_taken, n_unit;
} task __attribute__((aligned(64)));

/* The last unit of all. */
SIMD_FN void end32(const unit *o, manner h) {
    store_last(o);
    for (int r = 0; r < LINEAR_ROWS; r += 4)
        finish32(o, r, 4, h);
}
SIMD_FN void end256(const unit *o, manner h) {
    for (int r = 0; r < LINEAR_ROWS; r += 4)
        finish256(o, r, 4, h);
}

/* Places of four blocks: in w, or in memory. */
SIMD_FN void product_q4_0(const unit *now, const source *of, const weights *w, const unit *before,
                          manner h) {
    const uint8_t *const at[BLOCKS] = {w->v[0][0], w->v[0][0] + 32, w->v[1][0], w->v[1][0] + 32};
    (void)of;
    unit32(now, at, TILE_ROW_BYTES, before, h);
}
SIMD_FN void product_q8_0(const unit *now, const source *of, const weights *w, const unit *before,
                          manner h) {
    const uint8_t *p = of->p + now->first * Q8_0_BYTES + 2;
    const uint8_t *const at[BLOCKS] = {p, p + Q8_0_BYTES, p + 2 * Q8_0_BYTES, p + 3 * Q8_0_BYTES};
    (void)w;
    unit32(now, at, of->stride, before, h);
}
SIMD_FN void product_256(const unit *now, const source *of, const weights *w, const unit *before,
                         manner h) {
    (void)of;
    unit256(now, w, before, h);
}

/* A group's rows are taken apart and multiplied with all tokens. */
#define UNIT(NAME, SPAN, PRODUCT, HAS_OFFSET, N_MIN)                                               \
    static void NAME(task *o, const source *of, const act8_tile *a, int n_tile, int first,         \
                     int is_start, int g) {                                                        \
        static const manner tamed = {HAS_OFFSET, 1, N_MIN}, wild = {HAS_OFFSET, 0, N_MIN};         \
        factors *c = &o->c[o->n_taken++ % 2];                                                      \
        take_##NAME(of, first, &o->w, c);                                                          \
        if (SPAN == 32) tame(c);                                                                   \
        for (int t = 0; t < n_tile; t++, o->n_unit++) {                                            \
            unit now = {c, a + t, o->acc[g][t], o->s[o->n_unit % 2], first}, before = o->before;   \
            if (is_start || n_tile > 1) columns(a + t, first, SPAN);                               \
            if (SPAN == 256 || before.c->is_tame)                                                  \
                PRODUCT(&now, of, &o->w, &before, tamed);                                          \
            else                                                                                   \
                PRODUCT(&now, of, &o->w, &before, wild);                                           \
            o->before = now;                                                                       \
        }                                                                                          \
    }                                                                                              \
    static void end_##NAME(const unit *o) {                                                        \
        static const manner wild = {HAS_OFFSET, 0, N_MIN};                                         \
        end##SPAN(o, wild);                                                                        \
    }
UNIT(q4_0, 32, product_q4_0, 1, 0)
UNIT(q8_0, 32, product_q8_0, 0, 0)
UNIT(q3_k, 256, product_256, 0, 0)
UNIT(q4_k, 256, product_256, 0, 4)
UNIT(q5_k, 256, product_256, 0, 4)
UNIT(q6_k, 256, product_256, 0, 0)
UNIT(iq4_xs, 256, product_256, 0, 0)

typedef struct type {
    uint16_t dtype;
    int16_t blocks, bytes; /* of 32 columns, and of a row, of a unit */
    void (*unit)(task *o, const source *of, const act8_tile *a, int n_tile, int first, int is_start,
                 int g);
    void (*end)(const unit *o);
} type;
static const type types[] = {
    {PERI_CPU_Q4_0, BLOCKS, BLOCKS *Q4_0_BYTES, q4_0, end_q4_0},
    {PERI_CPU_Q8_0, BLOCKS, BLOCKS *Q8_0_BYTES, q8_0, end_q8_0},
    {PERI_CPU_Q3_K, LINEAR_K / 32, Q3_K_BYTES, q3_k, end_q3_k},
    {PERI_CPU_Q4_K, LINEAR_K / 32, Q4_K_BYTES, q4_k, end_q4_k},
    {PERI_CPU_Q5_K, LINEAR_K / 32, Q5_K_BYTES, q5_k, end_q5_k},
    {PERI_CPU_Q6_K, LINEAR_K / 32, Q6_K_BYTES, q6_k, end_q6_k},
    {PERI_CPU_IQ4_XS, LINEAR_K / 32, IQ4_XS_BYTES, iq4_xs, end_iq4_xs},
};

static const type *type_of(const linear_type *t) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == t->dtype) return &types[i];
    return NULL;
}
static int has(const linear_type *t) {
    return type_of(t) != NULL;
}

/* Rows of group g, `left` of them, columns 256 kb ..; rows that are not there are zeros. */
static source source_of(const linear_in *in, const uint8_t *w, int32_t left, size_t bytes,
                        task *o) {
    if (left >= LINEAR_ROWS) return (source){.p = w, .stride = in->row_bytes};
    memset(o->edge, 0, sizeof o->edge);
    for (int32_t r = 0; r < left; r++)
        memcpy(o->edge + (size_t)r * bytes, w + (size_t)r * in->row_bytes, bytes);
    return (source){.p = o->edge, .stride = bytes};
}

/* [row][token] to [token][row], whose tokens are `stride` floats apart. */
static void deliver(const float *from, int32_t n_tok, float *to, size_t stride) {
    for (int32_t t = 0; t < n_tok; t += 4) {
        vi v[4];
        transpose_rows((const uint8_t *)(from + t), TILE_ROW_BYTES, v);
        for (int32_t i = 0; i < 4 && t + i < n_tok; i++)
            vi_store(to + (size_t)(t + i) * stride, v[i]);
    }
}

static int rows(const linear_in *in, int64_t row0, int32_t n_row, float *acc) {
    task o;
    const type *t = type_of(in->type);
    int n_tile = (in->n_tok + TILE_TOKENS - 1) / TILE_TOKENS;
    int n_group = (n_row + LINEAR_ROWS - 1) / LINEAR_ROWS;
    size_t kb_bytes = (size_t)(LINEAR_K / in->type->block * in->type->block_bytes);
    const uint8_t *w = in->w + (size_t)row0 * in->row_bytes;
    uintptr_t ahead = (uintptr_t)w + (size_t)n_row * in->row_bytes;
    int is_stored = in->y && n_row % LINEAR_ROWS == 0;
    size_t group_stride = is_stored ? LINEAR_ROWS : (size_t)in->n_tok * LINEAR_ROWS;
    size_t stride = is_stored ? in->y_stride : LINEAR_ROWS;
    float *to = is_stored ? in->y + row0 : acc;
    for (int g = 0; g < n_group; g++)
        memset(o.acc[g], 0, (size_t)n_tile * sizeof o.acc[g][0]);
    o.before = (unit){.c = &o.c[1]};
    o.c[1].is_tame = 1;
    o.n_taken = o.n_unit = 0;
    for (int64_t kb = 0; kb < in->n / LINEAR_K; kb++) {
        const act8_tile *a = (const act8_tile *)(in->act + (size_t)kb * in->kb_stride);
        for (int first = 0; first < LINEAR_K / 32; first += t->blocks)
            for (int g = 0; g < n_group; g++, ahead += (size_t)(LINEAR_ROWS * t->bytes)) {
                size_t at = (size_t)g * LINEAR_ROWS * in->row_bytes + (size_t)kb * kb_bytes;
                source of = source_of(in, w + at, n_row - g * LINEAR_ROWS, kb_bytes, &o);
                of.ahead = ahead;
                t->unit(&o, &of, a, n_tile, first, g == 0, g);
            }
    }
    t->end(&o.before);
    for (int g = 0; g < n_group; g++)
        for (int i = 0; i < n_tile; i++) {
            int32_t done = i * TILE_TOKENS, left = in->n_tok - done;
            deliver(o.acc[g][i], left < TILE_TOKENS ? left : TILE_TOKENS,
                    to + (size_t)g * group_stride + (size_t)done * stride, stride);
        }
    return is_stored ? LINEAR_STORED : 0;
}

static void arrange(void *act) {
    act8_tile x;
    for (size_t c = 0; c < sizeof(act8) / 16; c++) {
        vi v[4];
        transpose_rows((const uint8_t *)act + 16 * c, sizeof(act8), v);
        for (size_t i = 0; i < 4; i++)
            vi_store((uint8_t *)&x + (4 * c + i) * TILE_ROW_BYTES, v[i]);
    }
    memcpy(act, &x, sizeof x);
}

const tiled_isa tiled_avx512amx = {.has = has, .arrange = arrange, .rows = rows};
