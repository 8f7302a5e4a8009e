/* SPDX-License-Identifier: MIT
 *
 * linear_amx_bf16.c - products of BF16 weights with many tokens on the tiles of AMX-BF16, in the
 * order of linear.h.  Few tokens are left to linear_bf16.c on VDPBF16PS.
 *
 * A step is what one tile product adds up: 16 even words in a chain of their own, 16 odd ones in
 * another.  Step i takes lane i of a block of 512 columns, the words of its even vectors in the
 * even words, of its odd vectors in the odd ones, the upper halves of a lane first: panels and
 * activations are those of linear_bf16.c with the words of two neighbouring vectors exchanged.
 *
 *     [ e.low  e.high ] [ o.low o.high ]    a lane of two vectors, even and odd
 *     [ e.high o.high ] [ e.low o.low  ]    two columns of a step
 *
 * 32 tokens and 32 rows at a time: 2 tiles of A, 2 of B, 4 of C, which come from acc and go back to
 * it after 8 steps.  B of 8 steps is 16 KB and stays in L1 beside A, which comes from L2 and is
 * asked for two steps ahead.  Per 32 tokens, 32 rows and 256 columns, in cycles of one core, from
 * figures measured elsewhere (product 16, store 15, load 8 or from L2 about 21): 32 products 512,
 * 4 stores and loads 96; 16 loads of B and 16 of A, 464, lie under the products. */
#include "bf16_words.h"

#include "amx.h"

#if !defined(PERI_AVX512)
#error "linear_amx_bf16.c is compiled with AVX-512"
#endif

enum {
    GROUPS = 2,
    PAIR = 2 * TILE_TOKENS,
    STEPS = 8, /* of the 16 of a block */
    TOKEN_BYTES = BF16_BLOCK_BYTES + 64,
    STEPS_AHEAD = 2,
};

/* B: [group][step][16 columns][16 rows][2] */
typedef struct tiles {
    uint8_t b[GROUPS][BF16_PANEL_BYTES];
} tiles __attribute__((aligned(64)));

/* At most 16 tokens: A as it lies, and the sums of each group. */
typedef struct half {
    const uint8_t *a;
    float *c[GROUPS];
} half;

/* ---- activations ---- */

static void pack(const float *x, int64_t n, int by_row, uint8_t *out, size_t kb_stride) {
    const vi exchange = vi_lane4(0x07060302, 0x05040100, 0x0f0e0b0a, 0x0d0c0908);
    if (by_row) {
        bf16_avx512bf16.pack(x, n, by_row, out, kb_stride);
        return;
    }
    for (; n > 0; x += LINEAR_SPAN_BF16, n -= LINEAR_SPAN_BF16, out += kb_stride) {
        uint16_t plain[LINEAR_SPAN_BF16];
        round_block(x, n, plain);
        transpose((const uint8_t *)plain, 64, out, 64, 0);
        for (int i = 0; i < BF16_LANES; i++)
            vi_store(out + i * 64, vi_shuffle8(vi_load(out + i * 64), exchange));
    }
}

/* ---- weights ---- */

/* A panel, in place. */
static void exchange_words(uint8_t *panel) {
    const vi low = vi_set1(0xffff);
    for (uint8_t *p = panel; p < panel + BF16_PANEL_BYTES; p += 128) {
        vi even = vi_load(p), odd = vi_load(p + 64);
        vi_store(p, vi_or(vi_shr32(even, 16), vi_andnot(low, odd)));
        vi_store(p + 64, vi_or(vi_and(low, even), vi_shl32(odd, 16)));
    }
}

static void weights_to_tiles(const linear_in *in, int64_t row0, int32_t n_row, int64_t b,
                             tiles *w) {
    for (int32_t g = 0; g * LINEAR_ROWS < n_row; g++) {
        int32_t left = n_row - g * LINEAR_ROWS;
        bf16_panel(in, row0 + g * LINEAR_ROWS, left < LINEAR_ROWS ? left : LINEAR_ROWS, b, w->b[g]);
        exchange_words(w->b[g]);
    }
}

/* ---- products ---- */

SIMD_FN void ask_ahead(const uint8_t *a) {
#pragma GCC unroll 16
    for (size_t t = 0; t < TILE_TOKENS; t++)
        __builtin_prefetch((const void *)((uintptr_t)a + t * TOKEN_BYTES + STEPS_AHEAD * 64));
}

/* Steps `first` .. of a block.  is_start: the sums begin at 0. */
SIMD_FN void steps(const tiles *w, const half h[2], int n_half, int n_group, int first,
                   int is_start) {
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
    if (!is_start) {
        tile_load(0, h[0].c[0], TILE_ROW_BYTES);
        if (n_group == 2) tile_load(1, h[0].c[1], TILE_ROW_BYTES);
        if (n_half == 2) tile_load(2, h[1].c[0], TILE_ROW_BYTES);
        if (n_half == 2 && n_group == 2) tile_load(3, h[1].c[1], TILE_ROW_BYTES);
    }
    for (int i = first; i < first + STEPS; i++) {
        tile_load(6, w->b[0] + i * TILE_BYTES, TILE_ROW_BYTES);
        if (n_group == 2) tile_load(7, w->b[1] + i * TILE_BYTES, TILE_ROW_BYTES);
        ask_ahead(h[0].a + i * TILE_ROW_BYTES);
        tile_load(4, h[0].a + i * TILE_ROW_BYTES, TOKEN_BYTES);
        tile_dot_bf16(0, 4, 6);
        if (n_group == 2) tile_dot_bf16(1, 4, 7);
        if (n_half == 1) continue;
        ask_ahead(h[1].a + i * TILE_ROW_BYTES);
        tile_load(5, h[1].a + i * TILE_ROW_BYTES, TOKEN_BYTES);
        tile_dot_bf16(2, 5, 6);
        if (n_group == 2) tile_dot_bf16(3, 5, 7);
    }
    tile_store(0, h[0].c[0], TILE_ROW_BYTES);
    if (n_group == 2) tile_store(1, h[0].c[1], TILE_ROW_BYTES);
    if (n_half == 2) tile_store(2, h[1].c[0], TILE_ROW_BYTES);
    if (n_half == 2 && n_group == 2) tile_store(3, h[1].c[1], TILE_ROW_BYTES);
}

/* Part of a tile of tokens: copies, since what lies behind them is not theirs to read or write. */
typedef struct edge {
    uint8_t a[TILE_TOKENS * TOKEN_BYTES];
    float c[GROUPS][TILE_TOKENS * LINEAR_ROWS];
    int n;               /* tokens; 0: none needed */
    float *c_of[GROUPS]; /* where they belong */
} edge __attribute__((aligned(64)));

static void to_edge(half *h, int n, edge *e) {
    e->n = n;
    memset(e->a, 0, sizeof e->a);
    memcpy(e->a, h->a, (size_t)n * TOKEN_BYTES - (TOKEN_BYTES - BF16_BLOCK_BYTES));
    h->a = e->a;
    for (int g = 0; g < GROUPS; g++) {
        e->c_of[g] = h->c[g];
        memset(e->c[g], 0, sizeof e->c[g]);
        if (h->c[g]) memcpy(e->c[g], h->c[g], (size_t)(n * LINEAR_ROWS) * sizeof(float));
        h->c[g] = e->c[g];
    }
}

static void from_edge(const edge *e) {
    for (int g = 0; g < GROUPS && e->n; g++)
        if (e->c_of[g]) memcpy(e->c_of[g], e->c[g], (size_t)(e->n * LINEAR_ROWS) * sizeof(float));
}

/* The next 32 tokens of n, or what is left. */
static void pair(const tiles *w, half h[2], int n, int n_group, int first, int is_start) {
    edge e;
    e.n = 0;
    int n_half = n > TILE_TOKENS ? 2 : 1;
    if (n < PAIR && n % TILE_TOKENS) to_edge(&h[n_half - 1], n % TILE_TOKENS, &e);
    if (n_half == 2 && n_group == 2)
        steps(w, h, 2, 2, first, is_start);
    else if (n_half == 2)
        steps(w, h, 2, 1, first, is_start);
    else if (n_group == 2)
        steps(w, h, 1, 2, first, is_start);
    else
        steps(w, h, 1, 1, first, is_start);
    from_edge(&e);
}

/* acc: [group][n_tok][16]. */
static void by_tiles(const linear_in *in, int64_t row0, int32_t n_row, float *acc) {
    tiles w;
    int64_t n_block = (in->n + LINEAR_SPAN_BF16 - 1) / LINEAR_SPAN_BF16;
    int n_group = n_row > LINEAR_ROWS ? 2 : 1;
    float *second = n_group == 2 ? acc + (size_t)in->n_tok * LINEAR_ROWS : NULL;
    for (int64_t b = 0; b < n_block; b++) {
        weights_to_tiles(in, row0, n_row, b, &w);
        for (int first = 0; first < BF16_LANES; first += STEPS)
            for (int32_t t = 0; t < in->n_tok; t += PAIR) {
                const uint8_t *a = in->act + (size_t)b * in->kb_stride + (size_t)t * TOKEN_BYTES;
                half h[2];
                for (int k = 0; k < 2; k++) {
                    size_t at = (size_t)(t + k * TILE_TOKENS) * LINEAR_ROWS;
                    h[k] = (half){.a = a + k * TILE_TOKENS * TOKEN_BYTES,
                                  .c = {acc + at, second ? second + at : NULL}};
                }
                pair(&w, h, in->n_tok - t < PAIR ? in->n_tok - t : PAIR, n_group, first,
                     b == 0 && first == 0);
            }
    }
}

static void rows(const linear_in *in, int64_t row0, int32_t n_row, float *acc, float *scratch) {
    if (in->by_row)
        bf16_avx512bf16.rows(in, row0, n_row, acc, scratch);
    else
        by_tiles(in, row0, n_row, acc);
}

const bf16_isa bf16_avx512amx = {
    .block_bytes = TOKEN_BYTES, .n_group = GROUPS, .pack = pack, .rows = rows};
