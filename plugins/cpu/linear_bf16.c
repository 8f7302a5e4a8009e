/* SPDX-License-Identifier: MIT
 *
 * linear_bf16.c - products of BF16 weights with activations rounded to bf16; compiled per
 * instruction set.  The order of sums is linear.h's.
 *
 * A block of 512 columns is 16 vectors of 16 lanes of two words.
 *
 * Few tokens (by_row): a row of weights is one stream, the order in which memory is fastest, and a
 * lane of the registers is a lane of the block.  The sums s_i of 16 rows are laid down, turned
 * round together and added up in order, so that sixteen additions one after the other serve sixteen
 * rows.
 *
 * Many tokens: a lane of the registers is a row.  16 rows of a block, or twice 16, are turned round
 * once, into panels that stay in L1, and serve all tokens, whose words are spread to all lanes as
 * they are loaded; so the activations are turned round as well, when they are packed.
 *
 * VDPBF16PS (PERI_BF16) takes both words of a lane, the upper one first, in two FMAs; without it
 * there are these two, and activations are kept as f32, the upper words of 16 lanes and then the
 * lower. */
#include "bf16_words.h"

#if defined(PERI_AVX512)
enum { GROUPS = 2, TILE_TOKENS = 6, ROW_TOKENS = 4 };
#elif defined(PERI_NEON)
enum { GROUPS = 1, TILE_TOKENS = 5, ROW_TOKENS = 2 };
#elif PERI_SIMD
enum { GROUPS = 1, TILE_TOKENS = 6, ROW_TOKENS = 2 };
#else
enum { GROUPS = 1, TILE_TOKENS = 1, ROW_TOKENS = 1 };
#endif
enum {
    LANE_FLOATS = 2 * BF16_LANES, /* of activations without PERI_BF16 */
    WORDS_BYTES = PERI_BF16 ? BF16_BLOCK_BYTES : 2 * BF16_BLOCK_BYTES,
    BLOCK_BYTES = WORDS_BYTES + 64, /* neighbours' blocks are not in the same sets of L1 */
    AHEAD = 8192,                   /* bytes */
};

/* ---- activations ---- */

static void pack(const float *x, int64_t n, int by_row, uint8_t *out, size_t kb_stride) {
    for (; n > 0; x += LINEAR_SPAN_BF16, n -= LINEAR_SPAN_BF16, out += kb_stride) {
        uint16_t plain[LINEAR_SPAN_BF16], turned[LINEAR_SPAN_BF16];
        const uint16_t *from = plain;
        round_block(x, n, plain);
        if (!by_row) {
            transpose((const uint8_t *)plain, 64, (uint8_t *)turned, 64, 0);
            from = turned;
        }
        for (int i = 0; i < BF16_VECTORS; i++) {
            words w = words_load(from + 32 * i);
            if (PERI_BF16) {
                words_store(out + i * 64, w);
                continue;
            }
            v16_store((float *)out + i * LANE_FLOATS, words_high(w));
            v16_store((float *)out + i * LANE_FLOATS + BF16_LANES, words_low(w));
        }
    }
}

/* ---- few tokens ---- */

/* sum + the products of w with vector v of a block of activations. */
SIMD_FN v16 add_vector(words w, const uint8_t *a, int v, v16 sum) {
#if PERI_BF16
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)words_load(a + v * 64));
#else
    const float *f = (const float *)a + v * LANE_FLOATS;
    sum = v16_fma(words_high(w), v16_load(f), sum);
    return v16_fma(words_low(w), v16_load(f + BF16_LANES), sum);
#endif
}

/* One block of one row, n_tok (a literal) tokens a_stride apart: s of each token, s_stride floats
 * apart. */
SIMD_FN void row_block(const uint8_t *w, const uint8_t *a, int n_tok, float *s, size_t s_stride) {
    v16 even[ROW_TOKENS], odd[ROW_TOKENS];
#pragma GCC unroll 4
    for (int t = 0; t < n_tok; t++)
        even[t] = odd[t] = v16_zero();
#pragma GCC unroll 2
    for (int v = 0; v < BF16_VECTORS; v += 2) {
        __builtin_prefetch((const void *)((uintptr_t)w + (size_t)v * 64 + AHEAD));
        __builtin_prefetch((const void *)((uintptr_t)w + (size_t)v * 64 + 64 + AHEAD));
        words x = words_flush(words_load(w + v * 64));
        words y = words_flush(words_load(w + v * 64 + 64));
#pragma GCC unroll 4
        for (int t = 0; t < n_tok; t++) {
            even[t] = add_vector(x, a + t * BLOCK_BYTES, v, even[t]);
            odd[t] = add_vector(y, a + t * BLOCK_BYTES, v + 1, odd[t]);
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < n_tok; t++)
        v16_store(s + (size_t)t * s_stride, v16_add(even[t], odd[t]));
}

/* s of all tokens for one block of a row. */
SIMD_FN void row_tokens(const uint8_t *w, const uint8_t *a, int32_t n_tok, float *s,
                        size_t s_stride) {
    int32_t t = 0;
    for (; t + ROW_TOKENS <= n_tok; t += ROW_TOKENS)
        row_block(w, a + t * BLOCK_BYTES, ROW_TOKENS, s + (size_t)t * s_stride, s_stride);
    for (; t < n_tok; t++)
        row_block(w, a + t * BLOCK_BYTES, 1, s + (size_t)t * s_stride, s_stride);
}

/* c[16 rows] + their s, [16 rows][16 lanes], lane by lane. */
SIMD_FN v16 add_lanes(v16 c, const float *s) {
    float turned[16 * BF16_LANES];
    transpose((const uint8_t *)s, 64, (uint8_t *)turned, 64, 0);
    for (int i = 0; i < BF16_LANES; i++)
        c = v16_add(c, v16_load(turned + i * BF16_LANES));
    return c;
}

static void by_row(const linear_in *in, int64_t row0, int32_t n_row, float *acc, float *s) {
    int64_t n_block = (in->n + LINEAR_SPAN_BF16 - 1) / LINEAR_SPAN_BF16,
            whole = in->n / LINEAR_SPAN_BF16;
    size_t s_stride = (size_t)n_block * LINEAR_ROWS * BF16_LANES;
    for (int32_t r = 0; r < n_row; r++) {
        const uint8_t *w = in->w + (size_t)(row0 + r) * in->row_bytes;
        for (int64_t b = 0; b < n_block; b++, w += BF16_BLOCK_BYTES) {
            uint8_t edge[BF16_BLOCK_BYTES];
            const uint8_t *p = w, *a = in->act + (size_t)b * in->kb_stride;
            float *to = s + (b * LINEAR_ROWS + r) * BF16_LANES;
            if (b >= whole) {
                memset(edge, 0, sizeof edge);
                memcpy(edge, w, in->row_bytes - (size_t)b * BF16_BLOCK_BYTES);
                p = edge;
            }
            if (in->n_tok == 1)
                row_block(p, a, 1, to, 0);
            else
                row_tokens(p, a, in->n_tok, to, s_stride);
        }
    }
    for (int32_t t = 0; t < in->n_tok; t++, s += s_stride) {
        v16 c = v16_zero();
        for (int64_t b = 0; b < n_block; b++) {
            float *at = s + b * LINEAR_ROWS * BF16_LANES;
            for (int32_t r = n_row; r < LINEAR_ROWS; r++)
                v16_store(at + r * BF16_LANES, v16_zero());
            c = add_lanes(c, at);
        }
        v16_store(acc + t * LINEAR_ROWS, c);
    }
}

/* ---- many tokens ---- */

/* sum + the products of w, 16 rows, with lane i of vector v of a block of activations. */
SIMD_FN v16 add_word(words w, const uint8_t *a, int i, int v, v16 sum) {
#if PERI_BF16
    int32_t x;
    memcpy(&x, a + i * 64 + v * 4, sizeof x);
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)_mm512_set1_epi32(x));
#else
    const float *f = (const float *)a + i * LANE_FLOATS + v;
    sum = v16_fma(words_high(w), v16_set1(f[0]), sum);
    return v16_fma(words_low(w), v16_set1(f[BF16_LANES]), sum);
#endif
}

/* [group][16 rows] of a block */
typedef struct panels {
    uint8_t b[GROUPS][BF16_PANEL_BYTES];
} panels __attribute__((aligned(64)));

/* The chains over every other vector, from the first, of n_group groups and n_tok tokens, both
 * literals. */
SIMD_FN void chains(const panels *p, const uint8_t *a, int i, int first, int n_group, int n_tok,
                    v16 sum[TILE_TOKENS][GROUPS]) {
#pragma GCC unroll 8
    for (int t = 0; t < n_tok; t++)
#pragma GCC unroll 2
        for (int g = 0; g < n_group; g++)
            sum[t][g] = v16_zero();
#pragma GCC unroll 8
    for (int v = first; v < BF16_VECTORS; v += 2) {
        words w[GROUPS];
#pragma GCC unroll 2
        for (int g = 0; g < n_group; g++)
            w[g] = words_load(p->b[g] + i * BF16_LANE_BYTES + v * 64);
#pragma GCC unroll 8
        for (int t = 0; t < n_tok; t++)
#pragma GCC unroll 2
            for (int g = 0; g < n_group; g++)
                sum[t][g] = add_word(w[g], a + t * BLOCK_BYTES, i, v, sum[t][g]);
    }
}

/* A block of n_group groups, n_tok tokens; the groups' sums lie `group` floats apart. */
SIMD_FN void tile(const panels *p, const uint8_t *a, int n_group, int n_tok, float *acc,
                  size_t group) {
    for (int i = 0; i < BF16_LANES; i++) {
        v16 even[TILE_TOKENS][GROUPS], odd[TILE_TOKENS][GROUPS];
        chains(p, a, i, 0, n_group, n_tok, even);
        chains(p, a, i, 1, n_group, n_tok, odd);
#pragma GCC unroll 8
        for (int t = 0; t < n_tok; t++)
#pragma GCC unroll 2
            for (int g = 0; g < n_group; g++) {
                float *c = acc + (size_t)g * group + t * LINEAR_ROWS;
                v16_store(c, v16_add(v16_load(c), v16_add(even[t][g], odd[t][g])));
            }
    }
}

/* All tokens. */
SIMD_FN void tiles(const panels *p, const uint8_t *a, int n_group, int32_t n_tok, float *acc) {
    enum { SOME = TILE_TOKENS > 4 ? 4 : 1, TWO = TILE_TOKENS > 2 ? 2 : 1 };
    size_t group = (size_t)n_tok * LINEAR_ROWS;
    while (n_tok > 0) {
        int32_t n = n_tok >= TILE_TOKENS ? TILE_TOKENS
                    : n_tok >= SOME      ? SOME
                    : n_tok >= TWO       ? TWO
                                         : 1;
        if (n == TILE_TOKENS)
            tile(p, a, n_group, TILE_TOKENS, acc, group);
        else if (n == SOME)
            tile(p, a, n_group, SOME, acc, group);
        else if (n == TWO)
            tile(p, a, n_group, TWO, acc, group);
        else
            tile(p, a, n_group, 1, acc, group);
        n_tok -= n;
        a += n * BLOCK_BYTES;
        acc += n * LINEAR_ROWS;
    }
}

static void by_panel(const linear_in *in, int64_t row0, int32_t n_row, float *acc) {
    panels p;
    int64_t n_block = (in->n + LINEAR_SPAN_BF16 - 1) / LINEAR_SPAN_BF16;
    int n_group = n_row > LINEAR_ROWS ? GROUPS : 1;
    memset(acc, 0, (size_t)(n_group * in->n_tok) * LINEAR_ROWS * sizeof *acc);
    for (int64_t b = 0; b < n_block; b++) {
        const uint8_t *a = in->act + (size_t)b * in->kb_stride;
        for (int32_t g = 0; g < n_group; g++) {
            int32_t left = n_row - g * LINEAR_ROWS;
            bf16_panel(in, row0 + g * LINEAR_ROWS, left < LINEAR_ROWS ? left : LINEAR_ROWS, b,
                       p.b[g]);
        }
        if (n_group == GROUPS)
            tiles(&p, a, GROUPS, in->n_tok, acc);
        else
            tiles(&p, a, 1, in->n_tok, acc);
    }
}

static void rows(const linear_in *in, int64_t row0, int32_t n_row, float *acc, float *scratch) {
    if (in->by_row)
        by_row(in, row0, n_row, acc, scratch);
    else
        by_panel(in, row0, n_row, acc);
}

const bf16_isa PERI_ISA_FN(bf16) = {
    .block_bytes = BLOCK_BYTES, .n_group = GROUPS, .pack = pack, .rows = rows};
