/* SPDX-License-Identifier: MIT
 *
 * linear_i8mm.c - products of block-quantised weights with int8 activations of many tokens by SMMLA
 * (aarch64 with I8MM), which multiplies two rows of eight bytes with two others and adds the four
 * sums to int32: twice the products of SDOT.  The integer sums are exact, what follows is
 * linear_vnni.c's arithmetic: the same bits.  Up to LINEAR_FEW tokens are left to it altogether,
 * because weights would be rearranged for one use.
 *
 * Weights are unpacked by linear_unpack.h, four rows at a time, into panels of [k/4][row][4] bytes;
 * two registers of four columns become two of eight columns of two rows each.  All 16 rows are
 * unpacked before the tokens are taken, so that eight tokens are rearranged to pairs once for the
 * 16: per 256 columns 2048 SMMLA of 16 rows for 128 loads, permutations and stores each. A sum lies
 * as [row][token] of two rows and two tokens; scales of integers come in that order too, and only
 * what meets a float is put in the order of rows.
 *
 * Registers, of 32: 8 sums of a sub-block, 8 of the superblock or of floats, 4 of tokens, 2 of
 * weights. */
#include "linear_unpack.h"

#if !defined(__ARM_FEATURE_MATMUL_INT8)
#error "linear_i8mm.c is compiled with I8MM"
#endif

enum { PAIRS = 4, PANELS = LINEAR_ROWS / W, STEPS = LINEAR_K / 8 };

/* 2 * PAIRS tokens at most, in pairs; where the last has no partner it is its own. */
typedef struct tile {
    int8_t q[STEPS][PAIRS][16];
    int32_t off[16][PAIRS][4]; /* act8.off of a pair, twice */
    const act8 *first;         /* as they lie, for their scales */
    int n_tok;
} tile __attribute__((aligned(64)));

/* The sums of a pair with rows 0, 1 and 2, 3 of a panel. */
typedef struct pair_sums {
    vi r01, r23;
} pair_sums;

/* ---- the order of operands ---- */

static void pair_weights(panel *p) {
    for (int i = 0; i < LINEAR_K / 4; i += 2) {
        uint8_t *at = p->w.u8 + i * 16;
        vi a = vi_load(at), b = vi_load(at + 16);
        vi_store(at, vi_unlo32(a, b));
        vi_store(at + 16, vi_unhi32(a, b));
    }
}

SIMD_FN void pair_tokens(tile *t, int n_pair, int n_off) {
    for (int i = 0; i < n_pair; i++) {
        const act8 *a = t->first + 2 * i, *b = 2 * i + 1 < t->n_tok ? a + 1 : a;
        for (int k = 0; k < STEPS; k += 2) {
            vi x = vi_load(a->q + 8 * k), y = vi_load(b->q + 8 * k);
            vi_store(t->q[k][i], vi_unlo64(x, y));
            vi_store(t->q[k + 1][i], vi_unhi64(x, y));
        }
        for (int j = 0; j < n_off; j++)
            vi_store(t->off[j][i], vi_lane4(a->off[j], b->off[j], a->off[j], b->off[j]));
    }
}

/* ---- sums ---- */

SIMD_FN vi mmla(vi acc, vi rows, vi tokens) {
    return vmmlaq_s32(acc, vreinterpretq_s8_s32(rows), vreinterpretq_s8_s32(tokens));
}

/* Sum j of `sub` columns; all but p and t are literals. */
SIMD_FN void sum_products(const panel *p, const tile *t, int j, int n_pair, scheme h,
                          pair_sums s[PAIRS]) {
#pragma GCC unroll 4
    for (int i = 0; i < n_pair; i++)
        s[i].r01 = s[i].r23 = h.has_offset ? vi_load(t->off[j][i]) : vi_set1(0);
#pragma GCC unroll 4
    for (int k = 0; k < h.sub / 8; k++) {
        int step = j * h.sub / 8 + k;
        vi r01 = vi_load(p->w.u8 + step * 32), r23 = vi_load(p->w.u8 + step * 32 + 16);
#pragma GCC unroll 4
        for (int i = 0; i < n_pair; i++) {
            vi x = vi_load(t->q[step][i]);
            s[i].r01 = mmla(s[i].r01, r01, x);
            s[i].r23 = mmla(s[i].r23, r23, x);
        }
    }
}

/* The rows of token 0 or 1 of a pair. */
SIMD_FN vi rows_of(pair_sums s, int token) {
    return token ? vuzp2q_s32(s.r01, s.r23) : vuzp1q_s32(s.r01, s.r23);
}

/* ---- sums to results ---- */

SIMD_FN void product32(const panel *p, const tile *t, int n_span, int n_pair, scheme h,
                       float *acc) {
    vf c[2 * PAIRS];
#pragma GCC unroll 8
    for (int i = 0; i < 2 * n_pair; i++)
        c[i] = vf_load(acc + (i < t->n_tok ? i : 0) * LINEAR_ROWS);
    for (int b = 0; b < n_span; b++) {
        pair_sums s[2][PAIRS];
        vf d = vf_load(p->d + b * W), m = h.n_min || h.has_two ? vf_load(p->m + b * W) : d;
        sum_products(p, t, h.has_two ? 2 * b : b, n_pair, h, s[0]);
        if (h.has_two) sum_products(p, t, 2 * b + 1, n_pair, h, s[1]);
#pragma GCC unroll 8
        for (int i = 0; i < 2 * n_pair; i++) {
            const act8 *a = t->first + (i < t->n_tok ? i : 0);
            vi x[2] = {rows_of(s[0][i / 2], i % 2), vi_set1(0)};
            if (h.has_two) x[1] = rows_of(s[1][i / 2], i % 2);
            c[i] = vf_fma(block_sum(d, m, a, b, x, h), vf_set1(a->dx[b]), c[i]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < 2 * n_pair; i++)
        if (i < t->n_tok) vf_store(acc + i * LINEAR_ROWS, c[i]);
}

SIMD_FN void product256(const panel *p, const tile *t, int n_span, int n_pair, scheme h,
                        float *acc) {
    pair_sums sum[PAIRS];
    (void)n_span;
#pragma GCC unroll 4
    for (int i = 0; i < n_pair; i++)
        sum[i] = (pair_sums){vi_set1(0), vi_set1(0)};
    for (int j = 0; j < LINEAR_K / h.sub; j++) {
        pair_sums s[PAIRS];
        vi sc = vi_load(p->sc + j * W), sc01 = vi_unlo32(sc, sc), sc23 = vi_unhi32(sc, sc);
        sum_products(p, t, j, n_pair, h, s);
#pragma GCC unroll 4
        for (int i = 0; i < n_pair; i++) {
            sum[i].r01 = vi_add32(sum[i].r01, vi_mul32(s[i].r01, sc01));
            sum[i].r23 = vi_add32(sum[i].r23, vi_mul32(s[i].r23, sc23));
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < 2 * n_pair; i++) {
        float *c = acc + i * LINEAR_ROWS;
        if (i >= t->n_tok) continue;
        vf_store(c, superblock(p, t->first + i, rows_of(sum[i / 2], i % 2), vf_load(c), h));
    }
}

/* ---- one scheme, any number of tokens ---- */

/* A panel with all pairs of a tile. */
typedef void (*product_fn)(const panel *p, const tile *t, int n_span, int n_pair, float *acc);

#define PRODUCT(NAME, SPAN, ...)                                                                   \
    static void NAME(const panel *p, const tile *t, int n_span, int n_pair, float *acc) {          \
        static const scheme h = {__VA_ARGS__};                                                     \
        if (n_pair == 4)                                                                           \
            product##SPAN(p, t, n_span, 4, h, acc);                                                \
        else if (n_pair == 2)                                                                      \
            product##SPAN(p, t, n_span, 2, h, acc);                                                \
        else                                                                                       \
            product##SPAN(p, t, n_span, 1, h, acc);                                                \
    }
PRODUCT(offset32, 32, .sub = 32, .has_offset = 1)
PRODUCT(min32, 32, .sub = 32, .n_min = 1)
PRODUCT(two16, 32, .sub = 16, .has_offset = 1, .has_two = 1)
PRODUCT(offset16, 256, .sub = 16, .has_offset = 1)
PRODUCT(min16, 256, .sub = 16, .n_min = 8)
PRODUCT(sub32, 256, .sub = 32, .n_min = 4)

static product_fn product_of(const linear_type *t) {
    if (t->span == 32) return t->has_two ? two16 : t->min_sub ? min32 : offset32;
    return t->min_sub == 16 ? min16 : t->min_sub == 32 ? sub32 : offset16;
}

/* act8.off has so many words. */
static int offs_of(const linear_type *t) {
    return t->min_sub ? 0 : t->span == 32 && !t->has_two ? 8 : 16;
}

static void block(const group *g) {
    const linear_type *type = g->in->type;
    struct {
        panel p;
    } of[PANELS]; /* as a member a panel's size is a multiple of its alignment */
    tile t;
    const act8 *a = (const act8 *)(g->in->act + (size_t)g->kb * g->in->kb_stride);
    product_fn product = product_of(type);
    float *acc = g->acc;
    int n_tile = (g->in->n_tok + 2 * PAIRS - 1) / (2 * PAIRS);
    for (int i = 0; i < PANELS; i++) {
        panel *p = &of[i].p;
        linear_panel(g, p, i * W);
        pair_weights(p);
        p->n_ahead = (p->n_line + n_tile - 1) / n_tile; /* in even shares */
    }
    for (int left = g->in->n_tok; left > 0;) {
        int n_pair = left > 6 ? 4 : left > 2 ? 2 : 1;
        t.first = a;
        t.n_tok = left < 2 * n_pair ? left : 2 * n_pair;
        pair_tokens(&t, n_pair, offs_of(type));
        for (int i = 0; i < PANELS; i++) {
            ask_ahead(&of[i].p);
            product(&of[i].p, &t, g->n_block * type->block / 32, n_pair, acc + i * W);
        }
        left -= t.n_tok;
        a += t.n_tok;
        acc += t.n_tok * LINEAR_ROWS;
    }
}

static void rows_int(const linear_in *in, int64_t row0, int32_t rows, float *acc) {
    if (in->n_tok <= LINEAR_FEW)
        cpu_isa_neondot.rows_int(in, row0, rows, acc);
    else
        each_block(in, linear_kernel(in->type), row0, rows, acc, block);
}

const cpu_isa cpu_isa_neoni8mm = {
    .name = "neoni8mm",
    .has_dot = 1,
    .quantize = quantize_row_neondot,
    .rows_int = rows_int,
    .rows_f32 = rows_f32_neon,
    .bf16 = &bf16_neon,
    .vec = &vec_neon,
    .attn = &attn_neon,
};
