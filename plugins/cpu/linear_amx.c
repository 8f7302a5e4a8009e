/* SPDX-License-Identifier: MIT
 *
 * linear_amx.c - products of block-quantised weights with int8 activations of many tokens on the
 * tiles of AMX-INT8.  The integer sums are exact, what follows is linear_vnni.c's arithmetic: the
 * same bits.  Up to LINEAR_FEW tokens are left to it altogether.
 *
 * Weights are read in place: 16 rows times 256 columns are unpacked by linear_unpack.h into a panel
 * in L1, which is B's order already (a row of a tile = four columns of 16 rows of weights), and
 * from there become signed bytes.  A tiles are loaded from the activations as they lie: a token's
 * 64 columns are a cache line, and 384 bytes from token to token spread over the sets of L1.
 *
 * Span 32.  A tile product sums 64 columns, a scale belongs to 32 (NVFP4: 16).  So the columns of
 * one sum have a tile of their own with zeros elsewhere: a product takes 16 cycles whatever its
 * depth, only rows of A count, and every tile has one shape.  The runs of zeros are shared:
 *
 *     rows of 64 bytes:   [ sum 0 ][ zeros ][ sum 1 ]      tile 0 begins at sum 0, tile 1 at zeros
 *
 * Span 256.  A weight times its sub-block's scale is an integer, w = sc * q, |w| < 2^14 (6-bit
 * values with int8 scales: 2^12; grids: 2^13), and is put in two planes of signed bytes,
 * w = 128 * hi + lo with lo in 0 .. 127.  Then one exact sum t = 128 * hi + lo leaves the tiles per
 * superblock instead of one per sub-block; minima stay with the vectors.
 *
 * 32 tokens at a time: 2 tiles of A, 2 of B, 4 of C.  Per 32 tokens, 16 rows and 256 columns, in
 * cycles of one core, from figures measured elsewhere (product 16, store 15, these two do not
 * overlap; a load of 16 rows 8, hidden; two vector units):
 *     span 32:   16 products + 16 stores = 496, 32 x 8 x 3 vector instructions = 384
 *     span 256:  16 products +  4 stores = 316, 32 x 5 (with minima 11 or 15) = 80 (176, 240)
 * One after the other that is 880 and 396 (492, 556): a store waits some 50 cycles for its product,
 * and the vectors wait for the store.  So the work is cut into steps, and between the tile
 * instructions of a step stand the vector instructions of the step before it, whose sums lie in the
 * other of two buffers: 496 and 316 cycles where both go on at once.  Of span 32 a step has 128
 * columns, so that both buffers, 17 KB, stay in L1.  Two groups of rows take the same activations
 * one after the other: they come from L2 once for both, 12 KB per 32 tokens.  Unpacking is 130 and
 * 450 cycles a panel, for all tokens together. */
#include "linear_unpack.h"

#include "amx.h"

#if !PERI_VNNI || !defined(PERI_AVX512)
#error "linear_amx.c is compiled with AVX-512 and VNNI"
#endif

enum {
    PAIR = 2 * TILE_TOKENS,
    SUMS = 8,
    B_ROWS = 16,
    RUNS = LINEAR_K / TILE_ROW_BYTES,
    AT_ONCE = 4,
    SLOTS = 4,
    SUM_WORDS = TILE_TOKENS * LINEAR_ROWS + 16
};

/* Tiles of weights; the most are those of sums of 16 columns. */
typedef struct tiles {
    uint8_t b[RUNS * (3 * B_ROWS + 4) * TILE_ROW_BYTES];
} tiles __attribute__((aligned(64)));

/* A block of 256 columns of a group of 16 rows. */
typedef struct rows16 {
    panel p;
    tiles w;
} rows16;

/* int32 [half of 32 tokens][sum][token][row].  The line after each sum keeps its loads from looking
 * like those of the sums stored before it: a processor compares the last 12 bits of addresses. */
typedef struct sums {
    int32_t v[2][SUMS][SUM_WORDS];
} sums __attribute__((aligned(64)));

/* 32 tokens at most, as tiles of A; the second is NULL for 16 or less. */
typedef struct tokens {
    const act8 *half[2];
    const act8 *first; /* as they lie, for their scales */
    int n;
} tokens;

/* Tokens on their way: their products of some columns, which the tiles leave in s, join acc. */
typedef struct step {
    tokens t;
    float *acc;
    sums *s;
    const panel *p; /* the group's, for its scales */
    int first;      /* span 32: block of the panel; AT_ONCE from there on */
    int has_asked;  /* another group of rows asks for the next activations */
} step;

/* What makes the unpacked bytes the signed weights; types with minima have unsigned ones. */
SIMD_FN vi offset_of(const linear_type *t) {
    return vi_set1_8(t->min_sub ? 0 : t->is_wide ? -128 : -t->offset);
}

/* ---- sums to results ---- */

/* Of the activations 32 tokens on, what the step after next takes: its columns, and scales. */
SIMD_FN void ask_for_next(const act8 *a, size_t columns, int n_column, size_t scales) {
    const char *next = (const char *)((uintptr_t)a + PAIR * sizeof *a);
    for (int i = 0; i < n_column; i += TILE_ROW_BYTES)
        _mm_prefetch(next + columns + i, _MM_HINT_T0);
    _mm_prefetch(next + scales, _MM_HINT_T0);
}

/* Scales of AT_ONCE blocks. */
typedef struct few {
    vf d[AT_ONCE], m[AT_ONCE];
} few;
SIMD_FN few few_of(const panel *p, int first, scheme h) {
    few c;
#pragma GCC unroll 4
    for (int b = 0; b < AT_ONCE; b++) {
        c.d[b] = c.m[b] = vf_load(p->d + (first + b) * W);
        if (h.n_min || h.has_two) c.m[b] = vf_load(p->m + (first + b) * W);
    }
    return c;
}

/* n tokens of one half of a step, from i on; literals where they are many, so that scales stay in
 * registers. */
SIMD_FN void finish32(const few *c, const step *o, int i, int n, int n_block, scheme h) {
    const act8 *a = o->t.first + i;
    const int32_t *v = o->s->v[i / TILE_TOKENS][0] + i % TILE_TOKENS * LINEAR_ROWS;
    float *acc = o->acc + i * LINEAR_ROWS;
#pragma GCC unroll 8
    for (int k = 0; k < n; k++, a++, v += LINEAR_ROWS, acc += LINEAR_ROWS) {
        vf sum = vf_load(acc);
        if (!o->has_asked)
            ask_for_next(a, (size_t)o->first * 32, 128, offsetof(act8, dx) + (size_t)o->first * 16);
#pragma GCC unroll 4
        for (int b = 0; b < n_block; b++) {
            const int32_t *of = v + (h.has_two ? 2 * b : b) * SUM_WORDS;
            vi x[2] = {vi_load(of), h.has_two ? vi_load(of + SUM_WORDS) : vi_set1(0)};
            sum = vf_fma(block_sum(c->d[b], c->m[b], a, o->first + b, x, h),
                         vf_set1(a->dx[o->first + b]), sum);
        }
        vf_store(acc, sum);
    }
}

SIMD_FN void finish256(const whole *c, const step *o, int i, int n, scheme h) {
    const act8 *a = o->t.first + i;
    const int32_t *v = o->s->v[i / TILE_TOKENS][0] + i % TILE_TOKENS * LINEAR_ROWS;
    float *acc = o->acc + i * LINEAR_ROWS;
#pragma GCC unroll 8
    for (int k = 0; k < n; k++, a++, v += LINEAR_ROWS, acc += LINEAR_ROWS) {
        vi sum = vi_add32(vi_shl32(vi_load(v), 7), vi_load(v + SUM_WORDS));
        if (!o->has_asked) {
            ask_for_next(a, 0, LINEAR_K, offsetof(act8, dx));
            if (h.n_min) ask_for_next(a, 0, 0, offsetof(act8, sum));
        }
        vf_store(acc, superblock_of(c, a, sum, vf_load(acc), h));
    }
}

/* Tokens of a half, of n in both. */
static int in_half(int half, int n) {
    int left = n - half * TILE_TOKENS;
    return left < TILE_TOKENS ? left : TILE_TOKENS;
}
SIMD_FN void finish_step32(const few *c, const step *o, int n_block, scheme h) {
    for (int i = 0; i * TILE_TOKENS < o->t.n; i++)
        finish32(c, o, i * TILE_TOKENS, in_half(i, o->t.n), n_block, h);
}
SIMD_FN void finish_step256(const whole *c, const step *o, scheme h) {
    for (int i = 0; i * TILE_TOKENS < o->t.n; i++)
        finish256(c, o, i * TILE_TOKENS, in_half(i, o->t.n), h);
}

/* ---- span 32 ---- */

/* Sum i of `rows` tile rows (4 columns each): where its tile begins, and its own rows in it. */
SIMD_FN size_t tile_at(int i, int rows) {
    int per_run = B_ROWS / rows, run = per_run * rows + (per_run - 1) * (B_ROWS - rows);
    return (size_t)(i / per_run * run + i % per_run * (B_ROWS - rows)) * TILE_ROW_BYTES;
}
SIMD_FN size_t rows_at(int i, int rows) {
    return tile_at(i, rows) + (size_t)(i % (B_ROWS / rows) * rows) * TILE_ROW_BYTES;
}

/* The panel's n sums; an odd one more is zeros. */
SIMD_FN void sums_to_tiles(const panel *p, vi offset, int n, int rows, tiles *out) {
    vi zero = vi_set1(0);
    int per_run = B_ROWS / rows;
    for (int i = 0; i < n + n % 2; i++) {
        uint8_t *to = out->b + rows_at(i, rows);
        for (int k = 0; k < rows; k++) {
            vi x =
                i < n ? vi_add8(vi_load(p->w.u8 + (i * rows + k) * TILE_ROW_BYTES), offset) : zero;
            vi_store(to + k * TILE_ROW_BYTES, x);
        }
        if (i % per_run == per_run - 1) continue;
        for (int k = rows; k < B_ROWS; k++)
            vi_store(to + k * TILE_ROW_BYTES, zero);
    }
}

/* Products of n sums of `now`, two at a time: both lie in the same 64 columns.  In between the 32
 * tokens of `before`, if any, are finished, some in each of SLOTS places. */
SIMD_FN void step32(const step *now, const tiles *w, int n, const few *c, const step *before,
                    scheme h) {
    int rows = h.has_two ? 4 : 8, first = now->first * (h.has_two ? 2 : 1);
    int each = PAIR / (AT_ONCE * (h.has_two ? 2 : 1) / 2 * SLOTS), done = 0;
    for (int i = 0; i < n; i += 2, done += SLOTS * each) {
        const tokens *t = &now->t;
        size_t column = (size_t)((first + i) * rows * 4 / TILE_ROW_BYTES * TILE_ROW_BYTES);
        tile_load(6, w->b + tile_at(first + i, rows), TILE_ROW_BYTES);
        tile_load(7, w->b + tile_at(first + i + 1, rows), TILE_ROW_BYTES);
        tile_load(4, t->half[0]->q + column, sizeof(act8));
        tile_zero(0);
        tile_dot(0, 4, 6);
        if (before) finish32(c, before, done, each, AT_ONCE, h);
        tile_zero(1);
        tile_dot(1, 4, 7);
        if (before) finish32(c, before, done + each, each, AT_ONCE, h);
        if (t->half[1]) {
            tile_load(5, t->half[1]->q + column, sizeof(act8));
            tile_zero(2);
            tile_dot(2, 5, 6);
        }
        tile_store(0, now->s->v[0][i], TILE_ROW_BYTES);
        if (before) finish32(c, before, done + 2 * each, each, AT_ONCE, h);
        if (t->half[1]) {
            tile_zero(3);
            tile_dot(3, 5, 7);
        }
        tile_store(1, now->s->v[0][i + 1], TILE_ROW_BYTES);
        if (before) finish32(c, before, done + 3 * each, each, AT_ONCE, h);
        if (!t->half[1]) continue;
        tile_store(2, now->s->v[1][i], TILE_ROW_BYTES);
        tile_store(3, now->s->v[1][i + 1], TILE_ROW_BYTES);
    }
}

/* ---- span 256 ---- */

/* w = sc * q of four columns as bytes of two planes. */
SIMD_FN void split(vi q, vi sc, vi *hi, vi *lo) {
    vi low7 = vi_set1(0x007f007f), low8 = vi_set1(0x00ff00ff);
    vi even = vi_mul16(vi_sar16(vi_shl16(q, 8), 8), sc), odd = vi_mul16(vi_sar16(q, 8), sc);
    *lo = vi_or(vi_and(even, low7), vi_shl16(vi_and(odd, low7), 8));
    *hi = vi_or(vi_and(vi_sar16(even, 7), low8), vi_shl16(vi_sar16(odd, 7), 8));
}

/* The planes' tiles of each 64 columns: hi, lo. */
SIMD_FN void planes_to_tiles(const panel *p, vi offset, int sub, tiles *out) {
    for (int j = 0; j < LINEAR_K / sub; j++) {
        vi sc = vi_load(p->sc + j * W);
        sc = vi_or(vi_and(sc, vi_set1(0xffff)), vi_shl32(sc, 16));
        for (int k = j * sub / 4; k < (j + 1) * sub / 4; k++) {
            vi hi, lo;
            uint8_t *to =
                out->b + (size_t)(k / B_ROWS * 2 * TILE_BYTES + k % B_ROWS * TILE_ROW_BYTES);
            split(vi_add8(vi_load(p->w.u8 + k * TILE_ROW_BYTES), offset), sc, &hi, &lo);
            vi_store(to, hi);
            vi_store(to + TILE_BYTES, lo);
        }
    }
}

/* Sums 0 and 1 of `now`: the high and the low plane.  In between the 32 tokens of `before`, if any,
 * are finished. */
SIMD_FN void step256(const step *now, const tiles *w, const whole *c, const step *before,
                     scheme h) {
    enum { EACH = PAIR / (2 * RUNS) };
    const tokens *t = &now->t;
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
    for (int i = 0; i < RUNS; i++) {
        tile_load(6, w->b + 2 * i * TILE_BYTES, TILE_ROW_BYTES);
        tile_load(7, w->b + (2 * i + 1) * TILE_BYTES, TILE_ROW_BYTES);
        tile_load(4, t->half[0]->q + i * TILE_ROW_BYTES, sizeof(act8));
        tile_dot(0, 4, 6);
        tile_dot(1, 4, 7);
        if (before) finish256(c, before, 2 * i * EACH, EACH, h);
        if (t->half[1]) {
            tile_load(5, t->half[1]->q + i * TILE_ROW_BYTES, sizeof(act8));
            tile_dot(2, 5, 6);
            tile_dot(3, 5, 7);
        }
        if (before) finish256(c, before, (2 * i + 1) * EACH, EACH, h);
    }
    tile_store(0, now->s->v[0][0], TILE_ROW_BYTES);
    tile_store(1, now->s->v[0][1], TILE_ROW_BYTES);
    if (!t->half[1]) return;
    tile_store(2, now->s->v[1][0], TILE_ROW_BYTES);
    tile_store(3, now->s->v[1][1], TILE_ROW_BYTES);
}

/* ---- one scheme, any number of tokens ---- */

/* The tokens of a product, 32 at a time.  Those of a part tile are copied, zeros behind them: what
 * lies there is not theirs to read. */
typedef struct walk {
    act8 edge[TILE_TOKENS];
    tokens t; /* the 32 */
    const act8 *next;
    int done, left; /* before them, with them */
} walk;

/* Of a block of columns of n_group groups of rows.  The next weights are asked for in even shares.
 */
SIMD_FN walk *walk_from(walk *o, const group *g, rows16 *r, int n_group) {
    int n = (g->in->n_tok + PAIR - 1) / PAIR;
    for (int k = 0; k < n_group; k++)
        r[k].p.n_ahead = (r[k].p.n_line + n - 1) / n;
    o->next = (const act8 *)(g->in->act + (size_t)g->kb * g->in->kb_stride);
    o->done = -PAIR;
    o->left = g->in->n_tok + PAIR;
    return o;
}

static void copy_edge(walk *o, int n) {
    const act8 *from = o->t.half[n / TILE_TOKENS];
    int part = n % TILE_TOKENS;
    for (int i = 0; i < TILE_TOKENS; i++)
        if (i < part)
            memcpy(o->edge[i].q, from[i].q, sizeof o->edge[i].q);
        else
            memset(o->edge[i].q, 0, sizeof o->edge[i].q);
    o->t.half[n / TILE_TOKENS] = o->edge;
}

/* 0: there are none. */
SIMD_FN int walk_on(walk *o, rows16 *r, int n_group) {
    const act8 *a = o->next;
    int n = o->left -= PAIR;
    if (n <= 0) return 0;
    o->done += PAIR;
    o->next = a + PAIR;
    o->t = (tokens){.half = {a, n > TILE_TOKENS ? a + TILE_TOKENS : NULL}, .first = a, .n = n};
    if (n > PAIR) o->t.n = PAIR;
    if (n < PAIR && n % TILE_TOKENS) copy_edge(o, n);
    for (int k = 0; k < n_group; k++)
        ask_ahead(&r[k].p);
    return 1;
}

/* All 256 columns of one or two groups: a step is 128 of them and one group, and goes through the
 * tiles while the one before it is finished. */
SIMD_FN void product32(const group *g, int n_group, rows16 *r, sums s[2], scheme h) {
    int n_sum = AT_ONCE * (h.has_two ? 2 : 1), which = 0;
    walk at;
    step before = {.p = &r->p};
    for (int k = 0; k < n_group; k++)
        sums_to_tiles(&r[k].p, offset_of(g->in->type), 2 * n_sum, h.has_two ? 4 : 8, &r[k].w);
    walk_from(&at, g, r, n_group);
    while (walk_on(&at, r, n_group))
        for (int i = 0; i < 2 * n_group; i++, which ^= 1) {
            int k = i % n_group;
            step now = {.t = at.t,
                        .acc = g[k].acc + at.done * LINEAR_ROWS,
                        .s = &s[which],
                        .p = &r[k].p,
                        .first = i / n_group * AT_ONCE,
                        .has_asked = k > 0};
            few c = few_of(before.p, before.first, h);
            if (before.t.n == PAIR)
                step32(&now, &r[k].w, n_sum, &c, &before, h);
            else {
                step32(&now, &r[k].w, n_sum, &c, NULL, h);
                finish_step32(&c, &before, AT_ONCE, h);
            }
            before = now;
        }
    few c = few_of(before.p, before.first, h);
    finish_step32(&c, &before, AT_ONCE, h);
}

/* What is left of a row: n_block < 8. */
SIMD_FN void part32(const group *g, rows16 *r, sums *s, int n_block, scheme h) {
    walk at;
    int each = h.has_two ? 2 : 1;
    sums_to_tiles(&r->p, offset_of(g->in->type), n_block * each, h.has_two ? 4 : 8, &r->w);
    walk_from(&at, g, r, 1);
    while (walk_on(&at, r, 1))
        for (int first = 0; first < n_block; first += AT_ONCE) {
            step now = {at.t, g->acc + at.done * LINEAR_ROWS, s, &r->p, first, 0};
            int n = n_block - first < AT_ONCE ? n_block - first : AT_ONCE;
            few c = few_of(&r->p, first, h);
            step32(&now, &r->w, n * each, &c, NULL, h);
            finish_step32(&c, &now, n, h);
        }
}

/* A step is 32 tokens and one group. */
SIMD_FN void product256(const group *g, int n_group, rows16 *r, sums s[2], scheme h) {
    int which = 0;
    walk at;
    step before = {.p = &r->p};
    for (int k = 0; k < n_group; k++)
        planes_to_tiles(&r[k].p, offset_of(g->in->type), h.sub, &r[k].w);
    walk_from(&at, g, r, n_group);
    while (walk_on(&at, r, n_group))
        for (int k = 0; k < n_group; k++, which ^= 1) {
            step now = {.t = at.t,
                        .acc = g[k].acc + at.done * LINEAR_ROWS,
                        .s = &s[which],
                        .p = &r[k].p,
                        .has_asked = k > 0};
            whole c = whole_of(before.p, h);
            if (before.t.n == PAIR)
                step256(&now, &r[k].w, &c, &before, h);
            else {
                step256(&now, &r[k].w, &c, NULL, h);
                finish_step256(&c, &before, h);
            }
            before = now;
        }
    whole c = whole_of(before.p, h);
    finish_step256(&c, &before, h);
}

/* ---- blocks of columns ---- */

typedef void (*scheme_fn)(const group *g, int n_group, rows16 *r, sums s[2]);

#define SCHEME(NAME, SPAN, ...)                                                                    \
    static void NAME(const group *g, int n_group, rows16 *r, sums s[2]) {                          \
        const scheme h = {__VA_ARGS__};                                                            \
        int n_block = g->n_block * g->in->type->block / 32;                                        \
        if (SPAN == 32 && n_block < 8)                                                             \
            part32(g, r, s, n_block, h);                                                           \
        else                                                                                       \
            product##SPAN(g, n_group, r, s, h);                                                    \
    }
SCHEME(plain32, 32, .sub = 32)
SCHEME(min32, 32, .sub = 32, .n_min = 1)
SCHEME(two16, 32, .sub = 16, .has_two = 1)
SCHEME(plain256, 256, .sub = 16)
SCHEME(min16, 256, .sub = 16, .n_min = 8)
SCHEME(sub32, 256, .sub = 32, .n_min = 4)

static scheme_fn scheme_of(const linear_type *t) {
    if (t->span == 32) return t->has_two ? two16 : t->min_sub ? min32 : plain32;
    return t->min_sub == 16 ? min16 : t->min_sub == 32 ? sub32 : plain256;
}

static void block(const group *g) {
    rows16 r;
    sums s[2];
    linear_panel(g, &r.p, 0);
    scheme_of(g->in->type)(g, 1, &r, s);
}

static void rows_int(const linear_in *in, int64_t row0, int32_t rows, float *acc) {
    if (in->n_tok <= LINEAR_FEW)
        cpu_isa_avx512vnni.rows_int(in, row0, rows, acc);
    else
        each_block(in, linear_kernel(in->type), row0, rows, acc, block);
}

/* Two groups take the activations in turns, while they are in the first cache. */
static int pair_int(const linear_in *in, int64_t row0, float *acc) {
    rows16 r[2];
    sums s[2];
    group g[2];
    size_t bytes = (size_t)(LINEAR_K / in->type->block * in->type->block_bytes);
    size_t rows = LINEAR_ROWS * in->row_bytes, one = (size_t)in->n_tok * LINEAR_ROWS;
    const uint8_t *first = in->w + (size_t)row0 * in->row_bytes;
    if (in->n_tok <= LINEAR_FEW) return cpu_isa_avx512vnni.pair_int(in, row0, acc);
    if (in->n % LINEAR_K) return 0;
    memset(acc, 0, 2 * one * sizeof *acc);
    for (size_t kb = 0; kb < (size_t)in->n / LINEAR_K; kb++) {
        for (size_t k = 0; k < 2; k++) {
            const uint8_t *of = first + k * rows;
            g[k] = (group){.in = in,
                           .k = linear_kernel(in->type),
                           .w = of + kb * bytes,
                           .stride = in->row_bytes,
                           .kb = (int64_t)kb,
                           .n_block = LINEAR_K / in->type->block,
                           .prefetch = of + 2 * rows + kb * LINEAR_ROWS * bytes,
                           .prefetch_step = 64 * NL,
                           .acc = acc + k * one};
            linear_panel(&g[k], &r[k].p, 0);
        }
        scheme_of(in->type)(g, 2, r, s);
    }
    return 1;
}

/* ---- the level ---- */

static void enter(void) {
    tile_config c = {.palette = 1};
    for (int i = 0; i < TILES; i++) {
        c.rows[i] = TILE_TOKENS;
        c.row_bytes[i] = TILE_ROW_BYTES;
    }
    tile_configure(&c);
}

static void leave(void) {
    tile_release();
}

const cpu_isa cpu_isa_avx512amx = {
    .name = "avx512amx",
    .has_dot = 1,
    .quantize = quantize_row_avx512vnni,
    .rows_int = rows_int,
    .pair_int = pair_int,
    .rows_f32 = rows_f32_avx512,
    .bf16 = &bf16_avx512,
    .enter = enter,
    .leave = leave,
    .vec = &vec_avx512,
    .attn = &attn_avx512,
};
