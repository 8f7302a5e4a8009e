/* SPDX-License-Identifier: MIT
 *
 * attn_amx.c - attention of many query rows over pools of 16 bits, on the tiles of AMX-BF16, in the
 * order of attn_pairs.h: a tile product is a step.  Few rows, other pools, and chunks with a value
 * that is not finite are left to attn_avx512.
 *
 * Queries are laid down in tiles once, keys and values of a chunk once for all rows: of keys a tile
 * has 16 of them and 32 elements, turned round, so that a row is a pair of elements; of values 32
 * keys and 16 elements, a row is a pair of keys.  What lies outside the chunk's keys counts as 0.
 *
 * Then 32 rows at a time go all the way, logits, weights, values, which leaves what is between in
 * L1: 2 tiles of A, 2 of B, 4 of C, where A are queries or, as they lie, weights. */
#define PERI_TILES 1

#include "amx.h"
#include "attn_softmax.h"
#include "attn_widen.h"

#if !defined(PERI_AVX512)
#error "attn_amx.c is compiled with AVX-512"
#endif

enum {
    LEAST_ROWS = 8,
    ROWS = 2 * TILE_TOKENS,
    STEPS = ATTN_CHUNK / STEP,
    PAIR_BYTES = 2 * TILE_BYTES,
    LOGIT_STRIDE = LOGITS * 4, /* bytes */
};

/* What lies in attn_space.tiles. */
typedef struct laid {
    uint8_t *q; /* [rows / 32][dk / 32] pairs of tiles: 16 rows, 16 rows */
    uint8_t *k; /* [keys / 32][dk / 32] pairs: 16 keys, 16 keys */
    uint8_t *v; /* [dv / 32][keys / 32] pairs: 16 elements, 16 elements */
    float *s;   /* [ROWS][LOGITS] logits, then weights */
    float *o;   /* [4 tiles] sums of values */
} laid;

static int32_t steps_of(int32_t n) {
    return (n + STEP - 1) / STEP;
}
static size_t pairs_of_rows(int32_t n_row, int32_t dk) {
    return (size_t)((n_row + ROWS - 1) / ROWS) * (size_t)steps_of(dk);
}

static size_t tile_bytes(int32_t n_row, int32_t dk, int32_t dv) {
    size_t pairs = pairs_of_rows(n_row, dk) + (size_t)STEPS * (size_t)(steps_of(dk) + steps_of(dv));
    return pairs * PAIR_BYTES + ROWS * LOGIT_STRIDE + 4 * TILE_BYTES;
}

static laid laid_at(void *tiles, const attn_chunk *c) {
    laid x = {.q = tiles};
    x.k = x.q + pairs_of_rows(c->n_row, c->dk) * PAIR_BYTES;
    x.v = x.k + (size_t)(STEPS * steps_of(c->dk)) * PAIR_BYTES;
    x.s = (float *)(x.v + (size_t)(STEPS * steps_of(c->dv)) * PAIR_BYTES);
    x.o = x.s + ROWS * LOGITS;
    return x;
}

/* ---- queries ---- */

static int is_for_tiles(const attn_chunk *c, const attn_space *a) {
    return a->tiles && is_half(c->dtype) && c->n_head == 1 && c->n_row >= LEAST_ROWS;
}

static void round_rows(const attn_chunk *c, attn_row *row, const attn_space *a) {
    attn_avx512.round(c, row, a);
    if (!is_for_tiles(c, a)) return;
    uint8_t *q = laid_at(a->tiles, c).q;
    int32_t n_step = steps_of(c->dk), dkp = pad16(c->dk);
    memset(q, 0, pairs_of_rows(c->n_row, c->dk) * PAIR_BYTES);
    for (int32_t r = 0; r < c->n_row; r++)
        for (int32_t i = 0; i < n_step; i++) {
            const float *x = row[r].q + i * STEP;
            v16 second = i * STEP + 16 < dkp ? v16_load(x + 16) : v16_zero();
            _mm512_store_si512(q + (r / ROWS * n_step + i) * PAIR_BYTES + r % ROWS * TILE_ROW_BYTES,
                               words_of(v16_load(x), second));
        }
}

/* ---- keys and values ---- */

/* Elements i .. i + 31 of a key, n of them there, as words: of F16 four of the first sixteen and
 * four of the last in turn. */
SIMD_FN __m512i words_of_key(uint16_t dtype, const uint8_t *row, int32_t i, int32_t n) {
    uint16_t t[STEP] = {0};
    const uint16_t *p = (const uint16_t *)row + i;
    if (n < STEP) {
        memcpy(t, p, (size_t)n * 2);
        p = t;
    }
    if (dtype == PERI_CPU_BF16) {
        __m512i x = _mm512_loadu_si512(p), size = _mm512_and_si512(x, _mm512_set1_epi16(0x7fff));
        return _mm512_maskz_mov_epi16(
            _mm512_cmpge_epu16_mask(size, _mm512_set1_epi16((127 - 50) << 7)), x);
    }
    return _mm512_packus_epi32(_mm512_srli_epi32(_mm512_castps_si512(half_f16(p)), 16),
                               _mm512_srli_epi32(_mm512_castps_si512(half_f16(p + 16)), 16));
}

/* Where lane `lane` of these words belongs: the row of the tile. */
static inline int row_of_lane(uint16_t dtype, int lane) {
    return dtype == PERI_CPU_BF16 ? lane : lane % 4 / 2 * 8 + lane / 4 * 2 + lane % 2;
}

SIMD_FN void pack_keys_of(uint16_t dtype, const attn_chunk *c, uint8_t *to) {
    int32_t n_step = steps_of(c->dk);
    for (int32_t j = c->lo & ~(STEP - 1); j < steps_of(c->hi) * STEP; j += 16) {
        uint8_t *out = to + j / STEP * n_step * PAIR_BYTES + j % STEP / 16 * TILE_BYTES;
        for (int32_t i = 0; i < n_step; i++, out += PAIR_BYTES) {
            v16 r[16];
#pragma GCC unroll 16
            for (int k = 0; k < 16; k++)
                r[k] = j + k < c->lo || j + k >= c->hi
                           ? v16_zero()
                           : _mm512_castsi512_ps(
                                 words_of_key(dtype, c->k[j + k], i * STEP, c->dk - i * STEP));
            transpose(r);
#pragma GCC unroll 16
            for (int k = 0; k < 16; k++)
                v16_store((float *)(out + row_of_lane(dtype, k) * TILE_ROW_BYTES), r[k]);
        }
    }
}

/* Are they all finite? */
SIMD_FN int pack_values_of(uint16_t dtype, const attn_chunk *c, uint8_t *to) {
    v16 odd = v16_zero(); /* 0 + 0 x for all values x */
    for (int32_t j = c->lo & ~(STEP - 1); j < steps_of(c->hi) * STEP; j += 2) {
        const uint8_t *first = value_at(c, 0, j), *second = value_at(c, 0, j + 1);
        uint8_t *out = to + j / STEP * PAIR_BYTES + j % STEP / 2 * TILE_ROW_BYTES;
        for (int32_t i = 0; i < c->dv; i += 16) {
            v16 x = load_pool(dtype, first, i, c->dv - i);
            v16 y = load_pool(dtype, second, i, c->dv - i);
            odd = v16_fma(x, v16_zero(), v16_fma(y, v16_zero(), odd));
            _mm512_store_si512(out + i / STEP * STEPS * PAIR_BYTES + i % STEP / 16 * TILE_BYTES,
                               _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(x), 16),
                                               _mm512_castps_si512(y)));
        }
    }
    return v16_sum(odd) == 0.0f;
}

static int pack(const attn_chunk *c, const laid *x) {
    if (c->dtype == PERI_CPU_F16) {
        if (!pack_values_of(PERI_CPU_F16, c, x->v)) return 0;
        pack_keys_of(PERI_CPU_F16, c, x->k);
        return 1;
    }
    if (!pack_values_of(PERI_CPU_BF16, c, x->v)) return 0;
    pack_keys_of(PERI_CPU_BF16, c, x->k);
    return 1;
}

/* ---- products ---- */

/* Of A a step and a half are so far from the next, in bytes, and a row from the next; of B a step
 * is a pair of tiles. */
typedef struct factors {
    const uint8_t *a, *b;
    size_t step, half, row;
} factors;

/* n steps, n_half of A by n_group of B, to tiles 0 .. 3. */
SIMD_FN void products(factors f, int32_t n, int n_half, int n_group) {
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
    for (int32_t i = 0; i < n; i++, f.a += f.step, f.b += PAIR_BYTES) {
        tile_load(6, f.b, TILE_ROW_BYTES);
        if (n_group == 2) tile_load(7, f.b + TILE_BYTES, TILE_ROW_BYTES);
        tile_load(4, f.a, f.row);
        tile_dot_bf16(0, 4, 6);
        if (n_group == 2) tile_dot_bf16(1, 4, 7);
        if (n_half == 1) continue;
        tile_load(5, f.a + f.half, f.row);
        tile_dot_bf16(2, 5, 6);
        if (n_group == 2) tile_dot_bf16(3, 5, 7);
    }
}

/* Logits of keys at.lo .. at.hi - 1, whole steps, to x->s; q: the rows' queries. */
SIMD_FN void score(const attn_chunk *c, const laid *x, const uint8_t *q, span at, int n_half) {
    int32_t n_step = steps_of(c->dk);
    for (int32_t j = at.lo; j < at.hi; j += STEP) {
        float *s = x->s + j;
        products((factors){q, x->k + j / STEP * n_step * PAIR_BYTES, PAIR_BYTES, TILE_BYTES,
                           TILE_ROW_BYTES},
                 n_step, n_half, 2);
        tile_store(0, s, LOGIT_STRIDE);
        tile_store(1, s + 16, LOGIT_STRIDE);
        if (n_half == 1) continue;
        tile_store(2, s + TILE_TOKENS * LOGITS, LOGIT_STRIDE);
        tile_store(3, s + TILE_TOKENS * LOGITS + 16, LOGIT_STRIDE);
    }
}

/* Rows of the block, and what their sums join. */
typedef struct block {
    attn_part part, total; /* total.o NULL: part takes the sums */
    int32_t n;
} block;

/* Sums of 16 n_group elements from i on join those of the block's rows. */
SIMD_FN void join(const attn_chunk *c, const laid *x, const block *b, int32_t i, int n_group) {
    int32_t dvp = pad16(c->dv);
    for (int32_t r = 0; r < b->n; r++) {
        const float *sum = x->o + (r / TILE_TOKENS * 2 * TILE_TOKENS + r % TILE_TOKENS) * 16;
        for (int g = 0; g < n_group; g++, sum += TILE_TOKENS * 16) {
            float *part = b->part.o + r * dvp + i + g * 16;
            if (!b->total.o)
                v16_store(part, v16_load(sum));
            else if (b->part.m[r] != -INFINITY)
                join_values(b->total.o + r * dvp + i + g * 16, b->part.m[r], sum, b->part.l[r], 16);
        }
    }
}

/* Values of keys at.lo .. at.hi - 1, whole steps. */
SIMD_FN void values(const attn_chunk *c, const laid *x, const block *b, span at, int n_half) {
    const uint8_t *w = (const uint8_t *)x->s + at.lo * 2;
    for (int32_t i = 0; i < pad16(c->dv); i += STEP) {
        factors f = {w, x->v + (i / STEP * STEPS + at.lo / STEP) * PAIR_BYTES, STEP * 2,
                     TILE_TOKENS * LOGIT_STRIDE, LOGIT_STRIDE};
        int n_group = i + 16 < c->dv ? 2 : 1;
        if (n_group == 2)
            products(f, (at.hi - at.lo) / STEP, n_half, 2);
        else
            products(f, (at.hi - at.lo) / STEP, n_half, 1);
        tile_store(0, x->o, TILE_ROW_BYTES);
        tile_store(1, x->o + TILE_TOKENS * 16, TILE_ROW_BYTES);
        tile_store(2, x->o + TILE_TOKENS * 32, TILE_ROW_BYTES);
        tile_store(3, x->o + TILE_TOKENS * 48, TILE_ROW_BYTES);
        join(c, x, b, i, n_group);
    }
}

/* Rows of a block, row[b->n], of which q are the queries. */
static void block_of_rows(const attn_chunk *c, const laid *x, const attn_row *row, const uint8_t *q,
                          block *b) {
    bounds see = bounds_of(row, b->n, c->lo, c->hi);
    span at = {see.lo & ~(STEP - 1), steps_of(see.hi) * STEP};
    int n_half = b->n > TILE_TOKENS ? 2 : 1;
    if (see.lo >= see.hi) at.hi = at.lo;
    if (n_half == 2)
        score(c, x, q, at, 2);
    else
        score(c, x, q, at, 1);
    softmax_rows(c, row, b->n, x->s, b->part.m, b->part.l);
    if (b->total.o) join_sums(&b->total, b->part.m, b->part.l, b->n);
    if (n_half == 2)
        values(c, x, b, at, 2);
    else
        values(c, x, b, at, 1);
}

static attn_part part_from(const attn_part *p, int32_t row, int32_t dvp) {
    return p ? (attn_part){p->m + row, p->l + row, p->o + row * dvp} : (attn_part){.o = NULL};
}

static void chunk(const attn_chunk *c, attn_row *row, const attn_part *part, const attn_part *total,
                  const attn_space *a) {
    laid x;
    if (is_for_tiles(c, a)) x = laid_at(a->tiles, c);
    if (!is_for_tiles(c, a) || !pack(c, &x)) {
        attn_avx512.chunk(c, row, part, total, a);
        return;
    }
    int32_t dvp = pad16(c->dv), n_step = steps_of(c->dk);
    cpu_isa_avx512amx.enter(NULL);
    for (int32_t r = 0; r < c->n_row; r += ROWS) {
        block b = {.part = part_from(part, r, dvp), .total = part_from(total, r, dvp)};
        b.n = smaller(c->n_row - r, ROWS);
        block_of_rows(c, &x, row + r, x.q + r / ROWS * n_step * PAIR_BYTES, &b);
    }
    cpu_isa_avx512amx.leave();
}

static void merge(const attn_part *to, const attn_part *from, int32_t n_row, int32_t dv) {
    attn_avx512.merge(to, from, n_row, dv);
}
static void finish(const attn_part *p, int32_t r, const float *sink, float *y, int32_t dv) {
    attn_avx512.finish(p, r, sink, y, dv);
}

const attn_isa attn_avx512amx = {
    .tile_bytes = tile_bytes,
    .round = round_rows,
    .chunk = chunk,
    .merge = merge,
    .finish = finish,
};
