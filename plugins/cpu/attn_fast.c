/* SPDX-License-Identifier: MIT
 *
 * attn_fast.c - attention of some query rows over one chunk of 256 keys; compiled per instruction
 * set, equal bits on all.
 *
 * The rows of a key/value head share its keys: the heads of a group times the tokens of a tile, so
 * a key is read once for all of them.  With several key/value heads a block of SUB keys is read for
 * one head after the other, so that memory is read nearly in order; the next block is prefetched,
 * because rows of one head lie too far apart for the processor to guess, or, of few rows
 * on AVX2, the block is read beforehand (fetch).  All of it only moves loads.
 *
 * Products are those of f32, or for pools of 16 bits of bf16, in f32 sums.  Order of the sums,
 * fixed whatever the tile: a logit is one FMA chain over i rising, keys in the lanes (so keys are
 * transposed when they are widened), or for pools of 16 bits steps of two such chains
 * (attn_pairs.h); the sum of weights has 16 partial sums over key mod 16 of the chunk, then
 * v16_sum; a value element is a sum as a logit is, over the row's visible keys rising, elements in
 * the lanes.  Chunks are merged rising by the caller's order of calls, as attn_softmax.h says.
 * Keys that a row does not see do not touch it: their values may be infinite or not yet written. */
#include "attn_few.h"
#include "attn_values.h"

/* Rows and vectors of logits held in registers. */
#if defined(PERI_AVX512)
enum { SCORE_ROWS = 6, SCORE_VECS = 4 };
#elif PERI_HALVES
enum { SCORE_ROWS = 6, SCORE_VECS = 1 };
#elif PERI_SIMD
enum { SCORE_ROWS = 2, SCORE_VECS = 2 };
#else
enum { SCORE_ROWS = 1, SCORE_VECS = 1 };
#endif
enum { SUB = ATTN_SUB, FETCH_ROWS = 8, FETCH_BYTES = 128 << 10 };

/* Queries as the products take them, a->q f32 [rows][pad16(dk)]; pairs in the first half. */
static void round_rows(const attn_chunk *c, attn_row *row, const attn_space *a) {
    for (int32_t r = 0; r < c->n_row * c->n_head && is_half(c->dtype); r++) {
        const float *q = row[r].q;
        float *out = a->q + r * pad16(c->dk);
        for (int32_t i = 0; i < c->dk; i += 16) {
            v16 x = c->dk - i >= 16 ? v16_load(q + i) : v16_load_n(q + i, c->dk - i);
            x = half_query(x);
#if PERI_BF16
            store_pairs(out + i / 2, x);
#else
            v16_store(out + i, x);
#endif
        }
        row[r].q = out;
    }
}

/* 16 keys of dk elements transposed to out f32 [pad16(lanes_of(dk))][16]; key[k] NULL: zeros. */
SIMD_FN void transpose_keys(uint16_t dtype, const uint8_t *const key[16], int is_whole, int32_t dk,
                            float *out, ahead *p, int n_line) {
    int32_t i = 0;
    v16 r[16];
    for (; is_whole && i + KEY_STEP(dtype) <= dk; i += KEY_STEP(dtype), out += 256) {
        ahead_step(p, n_line);
#pragma GCC unroll 16
        for (int k = 0; k < 16; k++)
            r[k] = load_key(dtype, key[k], i, KEY_STEP(dtype));
        transpose(r);
#pragma GCC unroll 16
        for (int k = 0; k < 16; k++)
            v16_store(out + k * 16, r[k]);
    }
    for (; i < dk; i += KEY_STEP(dtype), out += 256) {
        for (int k = 0; k < 16; k++)
            r[k] =
                key[k] ? load_key(dtype, key[k], i, smaller(dk - i, KEY_STEP(dtype))) : v16_zero();
        transpose(r);
        for (int k = 0; k < 16; k++)
            v16_store(out + k * 16, r[k]);
    }
}

/* Keys j0 .. j0 + SUB - 1 of head g to kt f32 [SUB / 16][pad16(lanes_of(dk))][16]; those outside
 * lo .. hi - 1 count as zeros. */
SIMD_FN void widen_keys_of(uint16_t dtype, const attn_chunk *c, int32_t g, int32_t j0, float *kt,
                           ahead *p, int n_line) {
    for (int32_t b = 0; b < SUB && j0 + b < c->hi; b += 16) {
        const uint8_t *key[16];
        int32_t j = j0 + b;
        if (j + 16 <= c->lo) continue;
        for (int32_t k = 0; k < 16; k++)
            key[k] = j + k >= c->lo && j + k < c->hi ? c->k[j + k] + (size_t)g * c->k_bytes : NULL;
        transpose_keys(dtype, key, j >= c->lo && j + 16 <= c->hi, c->dk,
                       kt + b * pad16(lanes_of(dtype, c->dk)), p, n_line);
    }
}

static void widen_keys(const attn_chunk *c, int32_t g, int32_t j0, float *kt, ahead *p) {
    int n_line = lines_each(p, SUB / 16 * (c->dk / KEY_STEP(c->dtype)));
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

/* ---- logits ---- */

/* Widened keys, n lanes of 16 at a time, and the rows they are for. */
typedef struct scored {
    const float *kt;
    int32_t n;
    const attn_row *row;
} scored;

/* Lanes at.lo .. at.hi - 1 join c. */
SIMD_FN void score_lanes(const scored *u, span at, int is_half, int n_row, int n_vec, sums *c) {
    sums chain, even;
    int32_t block = pad16(u->n) * 16;
#pragma GCC unroll 2
    for (int h = 0; h < chains_of(is_half); h++) {
        start_chain(is_half, n_row, n_vec, c, &chain);
        for (int32_t i = at.lo + h; i < at.hi; i += chains_of(is_half)) {
            v16 k[4];
#pragma GCC unroll 4
            for (int v = 0; v < n_vec; v++)
                k[v] = v16_load(u->kt + v * block + i * 16);
#pragma GCC unroll 8
            for (int r = 0; r < n_row; r++) {
                v16 q = v16_set1(u->row[r].q[i]);
#pragma GCC unroll 4
                for (int v = 0; v < n_vec; v++)
                    chain.of[r][v] = add_products(is_half, q, k[v], chain.of[r][v]);
            }
        }
        if (is_half)
            end_chain(h, n_row, n_vec, &chain, &even, c);
        else
            *c = chain;
    }
}

/* n_row rows, n_vec times 16 keys, literals, as is_half. */
SIMD_FN void score_tile(const scored *u, int is_half, float *s, int n_row, int n_vec) {
    sums c;
#pragma GCC unroll 8
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            c.of[r][v] = v16_zero();
    int32_t step = is_half ? STEP_LANES : u->n;
    for (int32_t i = 0; i < u->n; i += step)
        score_lanes(u, (span){i, smaller(i + step, u->n)}, is_half, n_row, n_vec, &c);
#pragma GCC unroll 8
    for (int r = 0; r < n_row; r++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vec; v++)
            v16_store(s + r * ATTN_CHUNK + v * 16, c.of[r][v]);
}

/* n_row rows over vectors at.lo .. at.hi - 1 of 16 keys; n_row and is_half literals. */
SIMD_FN void score_strip_of(const float *kt, const attn_chunk *c, int is_half, const attn_row *row,
                            float *s, span at, int n_row) {
    scored u = {.n = lanes_of(c->dtype, c->dk), .row = row};
    for (int32_t v = at.lo, n; v < at.hi; v += n) {
        n = v + SCORE_VECS <= at.hi ? SCORE_VECS : 1;
        u.kt = kt + v * pad16(u.n) * 16;
        if (n == SCORE_VECS)
            score_tile(&u, is_half, s + v * 16, n_row, SCORE_VECS);
        else
            score_tile(&u, is_half, s + v * 16, n_row, 1);
    }
}

/* n_row rows, a literal, with the widened keys lo .. hi - 1. */
SIMD_FN void score_strip(const float *kt, const attn_chunk *c, const attn_row *row, float *s,
                         span keys, int n_row) {
    bounds b = bounds_of(row, n_row, keys.lo, keys.hi);
    span at = {(b.lo - keys.lo) / 16, (b.hi - keys.lo + 15) / 16};
    if (is_half(c->dtype))
        score_strip_of(kt, c, 1, row, s + keys.lo, at, n_row);
    else
        score_strip_of(kt, c, 0, row, s + keys.lo, at, n_row);
}

static void score_rows(const float *kt, const attn_chunk *c, const attn_row *row, int n_row,
                       span keys, float *s) {
    if (n_row == SCORE_ROWS)
        score_strip(kt, c, row, s, keys, SCORE_ROWS);
    else if (n_row == 4)
        score_strip(kt, c, row, s, keys, 4);
    else if (n_row == 2)
        score_strip(kt, c, row, s, keys, 2);
    else
        score_strip(kt, c, row, s, keys, 1);
}

/* Rows to take together when n are left: `most`, or as many of 4, 2, 1 as there are. */
static int take_rows(int32_t n, int most) {
    if (n >= most) return most;
    return n >= 4 ? 4 : n >= 2 ? 2 : 1;
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

/* What is asked for while keys j .. j + SUB - 1 of head g are at work. */
static ahead ahead_of_keys(const attn_chunk *c, int32_t g, int32_t j) {
    return j + SUB < c->hi ? ahead_of(c->k, c, c->k_bytes, g, j + SUB)
                           : ahead_of(c->v, c, c->v_bytes, g, c->lo / SUB * SUB);
}

/* Heads whose blocks are read at once: they have to stay in the second cache until they are used.
 */
static int32_t heads_fetched(size_t bytes) {
    return larger((int32_t)(FETCH_BYTES / (SUB * bytes)), 1);
}

/* Read rows j .. j + SUB - 1 of heads_fetched heads from g on, before they are used head after
 * head. A load is waited for, but a processor that has all the requests under way that it can hold
 * drops one to prefetch.  Where heads of others lie between the rows, several rows at once: one
 * after the other, what the processor fetches beyond the end of each is of no use.  (Zen 3, two
 * threads, 64 KB each in runs of 1 KB, in no cache: 18.7 us row by row, 8.7 by eight, runs of 2 KB
 * without gaps 6.8 and 6.7.  Of 256 lines apart that were asked for at once or a few at a time most
 * were dropped.) */
static void fetch(const attn_chunk *c, const uint8_t *const *row, size_t bytes, int32_t j,
                  int32_t g) {
    int32_t end = smaller(j + SUB, c->hi);
    size_t from = (size_t)g * bytes,
           to = (size_t)smaller(g + heads_fetched(bytes), c->n_head) * bytes;
    j = larger(j, c->lo);
    int32_t step = j + 1 < end && row[j + 1] + from == row[j] + to ? 1 : FETCH_ROWS;
    for (; j < end; j += step)
        for (size_t i = from; i < to; i += LINE)
            for (int32_t k = j; k < smaller(j + step, end); k++)
                (void)*(const volatile uint8_t *)(row[k] + i);
}

/* Weights of few rows, f32 [rows][ATTN_CHUNK] from the first row's s on. */
static void weigh_few(const attn_chunk *c, const attn_row *row, const attn_part *part,
                      const attn_space *a) {
    for (int32_t j = c->lo / SUB * SUB; j < c->hi; j += SUB)
        for (int32_t g = 0; g < c->n_head; g++) {
            int32_t first = g * c->n_row;
            ahead next = {0};
            if (!PERI_HALVES)
                next = ahead_of_keys(c, g, j);
            else if (g % heads_fetched(c->k_bytes) == 0)
                fetch(c, c->k, c->k_bytes, j, g);
            few f = {c, g, row + first, a->s + first * ATTN_CHUNK, NULL, &next};
            few_scores(&f, j);
        }
    softmax_rows(c, row, c->n_head * c->n_row, a->s, part->m, part->l);
}

/* Keys that are widened at a time: 32 KB of them, which stay in the first cache while rows after
 * rows take them; of several heads few each in turn, so that memory is read in order. */
static int32_t key_step(const attn_chunk *c) {
    int32_t n = ATTN_KEYS_WIDE / pad16(lanes_of(c->dtype, c->dk)) / SUB * SUB;
    return c->n_head > 1 || n < SUB ? SUB : smaller(n, ATTN_CHUNK);
}

/* Weights of all rows.  A row's follow its last products, which are still in the first cache. */
static void weigh_all(const attn_chunk *c, const attn_row *row, const attn_part *part,
                      const attn_space *a) {
    int32_t step = key_step(c), n_lane = pad16(lanes_of(c->dtype, c->dk));
    for (int32_t j0 = c->lo / SUB * SUB, end; j0 < c->hi; j0 = end) {
        end = smaller(j0 + step, ATTN_CHUNK);
        for (int32_t g = 0; g < c->n_head; g++) {
            for (int32_t j = j0; j < end && j < c->hi; j += SUB) {
                ahead next = ahead_of_keys(c, g, j);
                widen_keys(c, g, j, a->wide + (j - j0) * n_lane, &next);
            }
            for (int32_t r = g * c->n_row, n, last = r + c->n_row; r < last; r += n) {
                float *s = a->s + r * ATTN_CHUNK;
                n = take_rows(last - r, SCORE_ROWS);
                score_rows(a->wide, c, row + r, n, (span){j0, end}, s);
                if (end >= c->hi) softmax_rows(c, row + r, n, s, part->m + r, part->l + r);
            }
        }
    }
}

/* Values of keys j .. j + SUB - 1, weighted, join o f32 [rows][pad16(dv)], for few rows. */
static void value_block_few(const attn_chunk *c, const attn_row *row, int32_t j, float *o,
                            const attn_space *a) {
    int32_t dvp = pad16(c->dv);
    for (int32_t g = 0; g < c->n_head; g++) {
        int32_t first = g * c->n_row;
        few f = {c, g, row + first, a->s + first * ATTN_CHUNK, o + first * dvp, NULL};
        if (!PERI_HALVES) {
            ahead next = ahead_of(c->v, c, c->v_bytes, g, j + SUB);
            ahead_step(&next, lines_each(&next, 1)); /* at once */
        } else if (g % heads_fetched(c->v_bytes) == 0)
            fetch(c, c->v, c->v_bytes, j, g);
        few_values_of(&f, (few_keys){larger(j, c->lo), smaller(j + SUB, c->hi)});
    }
}

/* Those that are widened in u, block after block of elements. */
static void value_head(const values *u, const attn_row *row, const float *s, const value_sums *to) {
    int32_t first = u->g * u->c->n_row, end = first + u->c->n_row;
    for (int32_t at = 0; at < u->dvp; at += BLOCK)
        for (int32_t r = first, n; r < end; r += n) {
            value_sums rows = {to->o + r * u->dvp, NULL, to->old + r, to->new + r};
            if (to->total) rows.total = to->total + r * u->dvp;
            n = take_rows(end - r, VALUE_ROWS);
            value_rows(u, row + r, n, s + r * ATTN_CHUNK, rows, at);
        }
}

/* All values.  Several heads take few keys each in turn, so that memory is read in order. */
static void value_all(const attn_chunk *c, const attn_row *row, const value_sums *to,
                      const attn_space *a) {
    int32_t step = c->n_head > 1 ? SUB : VALUE_LANES * per_lane(c->dtype),
            start = c->lo / SUB * SUB;
    for (int32_t j0 = start, end; j0 < c->hi; j0 = end) {
        end = smaller(j0 + step, ATTN_CHUNK);
        values u = {c, a->wide, j0, end, pad16(c->dv), 0, j0 == start, end >= c->hi, 1};
        for (int32_t g = 0; g < c->n_head; g++) {
            u.g = g;
            u.is_finite = 1;
            for (int32_t j = j0; j < end && j < c->hi; j += SUB) {
                ahead next = ahead_of(c->v, c, c->v_bytes, g, j + SUB);
                span keys = {larger(j, c->lo), smaller(j + SUB, c->hi)};
                u.is_finite &= widen_values(c, g, keys, (lanes){a->wide, j0}, &next);
            }
            value_head(&u, row, a->s, to);
        }
    }
}

static void chunk(const attn_chunk *c, attn_row *row, const attn_part *part, const attn_part *total,
                  const attn_space *a) {
    int32_t n_row = c->n_row * c->n_head;
    int has_few = is_few(c, row);
    value_sums to = {part->o, NULL, part->m, part->l};
    if (has_few)
        weigh_few(c, row, part, a);
    else
        weigh_all(c, row, part, a);
    if (total) {
        to.total = total->o;
        join_sums(total, part->m, part->l, n_row);
        for (int32_t r = 0; r < n_row; r++)
            if (part->m[r] == -INFINITY) row[r].lo = row[r].hi = 0;
    }
    if (!has_few) {
        value_all(c, row, &to, a);
        return;
    }
    int32_t dvp = pad16(c->dv);
    memset(part->o, 0, (size_t)(n_row * dvp) * sizeof *part->o);
    for (int32_t j = c->lo / SUB * SUB; j < c->hi; j += SUB)
        value_block_few(c, row, j, part->o, a);
    for (int32_t r = 0; total && r < n_row; r++)
        if (row[r].lo < row[r].hi)
            join_values(total->o + r * dvp, part->m[r], part->o + r * dvp, part->l[r], dvp);
}

static void merge(const attn_part *to, const attn_part *from, int32_t n_row, int32_t dv) {
    int32_t dvp = pad16(dv);
    join_sums(to, from->m, from->l, n_row);
    for (int32_t r = 0; r < n_row; r++)
        if (from->m[r] != -INFINITY)
            join_values(to->o + r * dvp, from->m[r], from->o + r * dvp, from->l[r], dvp);
}

static void finish(const attn_part *p, int32_t r, const float *sink, float *y, int32_t dv) {
    static const float none[ATTN_D_MAX];
    float *o = p->o + r * pad16(dv);
    if (sink) {
        float m = *sink * LOG2_E, l = 1.0f;
        merge(&(attn_part){p->m + r, p->l + r, o}, &(attn_part){&m, &l, (float *)none}, 1, dv);
    }
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
    .round = round_rows,
    .chunk = chunk,
    .merge = merge,
    .finish = finish,
};
