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
 * so at 3.3 GHz about 0.98 and 2.2 TOPS (with minima 1.8, 1.6) at most, less unpacking: 130 and 450
 * cycles a panel, for all tokens together. */
#include "linear_unpack.h"

#include "amx.h"

#if !PERI_VNNI || !defined(PERI_AVX512)
#error "linear_amx.c is compiled with AVX-512 and VNNI"
#endif

enum { PAIR = 2 * TILE_TOKENS, SUMS = 16, B_ROWS = 16, RUNS = LINEAR_K / TILE_ROW_BYTES };

/* Tiles of weights; the most are those of sums of 16 columns. */
typedef struct tiles {
    uint8_t b[RUNS * (3 * B_ROWS + 4) * TILE_ROW_BYTES];
} tiles __attribute__((aligned(64)));

/* int32 [half of 32 tokens][sum][token][row] */
typedef struct sums {
    int32_t v[2][SUMS][TILE_TOKENS * LINEAR_ROWS];
} sums __attribute__((aligned(64)));

/* 32 tokens at most, as tiles of A; the second is NULL for 16 or less. */
typedef struct tokens {
    const act8 *half[2];
    const act8 *first; /* as they lie, for their scales */
    int n;
} tokens;

/* What makes the unpacked bytes the signed weights; types with minima have unsigned ones. */
SIMD_FN vi offset_of(const linear_type *t) {
    return vi_set1_8(t->min_sub ? 0 : t->is_wide ? -128 : -t->offset);
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

/* Products of n sums, two at a time: both lie in the same 64 columns. */
SIMD_FN void sum_products(const tokens *t, const tiles *w, int n, int rows, sums *s) {
    for (int i = 0; i < n; i += 2) {
        size_t column = (size_t)(i * rows * 4 / TILE_ROW_BYTES * TILE_ROW_BYTES);
        const uint8_t *b0 = w->b + tile_at(i, rows), *b1 = w->b + tile_at(i + 1, rows);
        tile_load(6, b0, TILE_ROW_BYTES);
        tile_load(7, b1, TILE_ROW_BYTES);
        tile_load(4, t->half[0]->q + column, sizeof(act8));
        tile_zero(0);
        tile_zero(1);
        tile_dot(0, 4, 6);
        tile_dot(1, 4, 7);
        if (t->half[1]) {
            tile_load(5, t->half[1]->q + column, sizeof(act8));
            tile_zero(2);
            tile_zero(3);
            tile_dot(2, 5, 6);
            tile_dot(3, 5, 7);
            tile_store(2, s->v[1][i], TILE_ROW_BYTES);
            tile_store(3, s->v[1][i + 1], TILE_ROW_BYTES);
        }
        tile_store(0, s->v[0][i], TILE_ROW_BYTES);
        tile_store(1, s->v[0][i + 1], TILE_ROW_BYTES);
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

/* Sums 0 and 1: the high and the low plane. */
SIMD_FN void plane_products(const tokens *t, const tiles *w, sums *s) {
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
        if (!t->half[1]) continue;
        tile_load(5, t->half[1]->q + i * TILE_ROW_BYTES, sizeof(act8));
        tile_dot(2, 5, 6);
        tile_dot(3, 5, 7);
    }
    tile_store(0, s->v[0][0], TILE_ROW_BYTES);
    tile_store(1, s->v[0][1], TILE_ROW_BYTES);
    if (!t->half[1]) return;
    tile_store(2, s->v[1][0], TILE_ROW_BYTES);
    tile_store(3, s->v[1][1], TILE_ROW_BYTES);
}

/* ---- sums to results ---- */

/* Activations 32 tokens on: the tiles after next are loaded from them. */
SIMD_FN void prefetch(const act8 *a) {
#pragma GCC unroll 8
    for (size_t i = 0; i < sizeof *a; i += 64)
        _mm_prefetch((const char *)(a + PAIR) + i, _MM_HINT_T0);
}

/* n_block: a literal 8, so that the scales stay in registers, or what is left of a row. */
SIMD_FN void finish32(const panel *p, const tokens *t, const sums *s, int n_block, float *acc,
                      scheme h) {
    vf d[8], m[8];
#pragma GCC unroll 8
    for (int b = 0; b < 8; b++) {
        int from = b < n_block ? b : 0;
        d[b] = vf_load(p->d + from * W);
        m[b] = h.n_min || h.has_two ? vf_load(p->m + from * W) : d[b];
    }
    for (int i = 0; i < t->n; i++) {
        const act8 *a = t->first + i;
        const int32_t(*v)[TILE_TOKENS * LINEAR_ROWS] = s->v[i / TILE_TOKENS];
        int at = i % TILE_TOKENS * LINEAR_ROWS;
        vf c = vf_load(acc + i * LINEAR_ROWS);
        prefetch(a);
#pragma GCC unroll 8
        for (int b = 0; b < n_block; b++) {
            vi x[2] = {vi_load(v[h.has_two ? 2 * b : b] + at), vi_set1(0)};
            if (h.has_two) x[1] = vi_load(v[2 * b + 1] + at);
            c = vf_fma(block_sum(d[b], m[b], a, b, x, h), vf_set1(a->dx[b]), c);
        }
        vf_store(acc + i * LINEAR_ROWS, c);
    }
}

SIMD_FN void finish256(const panel *p, const tokens *t, const sums *s, float *acc, scheme h) {
    for (int i = 0; i < t->n; i++, acc += LINEAR_ROWS) {
        const act8 *a = t->first + i;
        const int32_t *v = s->v[i / TILE_TOKENS][0] + i % TILE_TOKENS * LINEAR_ROWS;
        vi sum = vi_add32(vi_shl32(vi_load(v), 7), vi_load(v + TILE_TOKENS * LINEAR_ROWS));
        prefetch(a);
        vf_store(acc, superblock(p, a, sum, vf_load(acc), h));
    }
}

/* ---- one scheme, any number of tokens ---- */

typedef void (*scheme_fn)(const group *g, panel *p, tiles *w, sums *s);

/* The next 32 tokens of n at a.  Those of a part tile are copied, zeros behind them: what lies
 * there is not theirs to read. */
SIMD_FN tokens next_tokens(const act8 *a, int n, act8 edge[TILE_TOKENS]) {
    tokens t = {.half = {a, n > TILE_TOKENS ? a + TILE_TOKENS : NULL}, .first = a, .n = n};
    if (n >= PAIR) {
        t.n = PAIR;
        return t;
    }
    int part = n % TILE_TOKENS;
    if (part == 0) return t;
    const act8 *from = t.half[n / TILE_TOKENS];
    for (int i = 0; i < TILE_TOKENS; i++)
        if (i < part)
            memcpy(edge[i].q, from[i].q, sizeof edge[i].q);
        else
            memset(edge[i].q, 0, sizeof edge[i].q);
    t.half[n / TILE_TOKENS] = edge;
    return t;
}

/* The next group's weights are asked for in even shares. */
SIMD_FN void share_ahead(panel *p, int n_tok) {
    int n = (n_tok + PAIR - 1) / PAIR;
    p->n_ahead = (p->n_line + n - 1) / n;
}

#define EACH_PAIR(CALL)                                                                            \
    act8 edge[TILE_TOKENS];                                                                        \
    const act8 *a = (const act8 *)(g->in->act + (size_t)g->kb * g->in->kb_stride);                 \
    float *acc = g->acc;                                                                           \
    share_ahead(p, g->in->n_tok);                                                                  \
    for (int left = g->in->n_tok; left > 0; left -= PAIR, a += PAIR, acc += PAIR * LINEAR_ROWS) {  \
        tokens t = next_tokens(a, left, edge);                                                     \
        ask_ahead(p);                                                                              \
        CALL;                                                                                      \
    }

SIMD_FN void product32(const group *g, panel *p, tiles *w, sums *s, scheme h) {
    int n_block = g->n_block * g->in->type->block / 32, rows = h.has_two ? 4 : 8;
    int n = h.has_two ? 2 * n_block : n_block;
    sums_to_tiles(p, offset_of(g->in->type), n, rows, w);
    EACH_PAIR({
        sum_products(&t, w, n, rows, s);
        if (n_block == 8)
            finish32(p, &t, s, 8, acc, h);
        else
            finish32(p, &t, s, n_block, acc, h);
    })
}

SIMD_FN void product256(const group *g, panel *p, tiles *w, sums *s, scheme h) {
    planes_to_tiles(p, offset_of(g->in->type), h.sub, w);
    EACH_PAIR({
        plane_products(&t, w, s);
        finish256(p, &t, s, acc, h);
    })
}

#define SCHEME(NAME, SPAN, ...)                                                                    \
    static void NAME(const group *g, panel *p, tiles *w, sums *s) {                                \
        product##SPAN(g, p, w, s, (scheme){__VA_ARGS__});                                          \
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
    panel p;
    tiles w;
    sums s;
    linear_panel(g, &p);
    scheme_of(g->in->type)(g, &p, &w, &s);
}

static void rows_int(const linear_in *in, int64_t row0, int32_t rows, float *acc) {
    if (in->n_tok <= LINEAR_FEW)
        cpu_isa_avx512vnni.rows_int(in, row0, rows, acc);
    else
        each_block(in, linear_kernel(in->type), row0, rows, acc, block);
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
    .rows_f32 = rows_f32_avx512,
    .enter = enter,
    .leave = leave,
    .vec = &vec_avx512,
    .attn = &attn_avx512,
};
