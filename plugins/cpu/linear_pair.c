/* SPDX-License-Identifier: MIT
 *
 * linear_pair.c - products of two groups of 16 rows at once with several tokens; compiled for
 * AVX-512 with VNNI.  The bits are those of linear_vnni.c.
 *
 * The loop over tokens is the inner one.  The weights of 32 columns of both groups stay in 16
 * registers, a load of four activations serves both, and the sums go on in memory: 12 loads for 20
 * multiplications and FMAs of a token, where one group has 11 for 10 and waits for them. A loop of
 * these instructions alone over what L1 holds does 405 GMAC/s where that of linear_vnni.c does 380,
 * of 419 possible (Zen 5, one thread). With fewer than LINEAR_PAIR tokens the loop is too short.
 *
 * A panel of each group in L1 lies between unpacking and dot products, because an unpacker makes
 * more registers at once than there are.  Unpacking two blocks at a time between their dot products
 * gained a little for Q8_0; for blocks of 17 and 18 bytes it costs more transpositions than it
 * hides (Q4_0, 16 tokens: 284 GMAC/s with four blocks at a time, 294 with all eight). */
#include "linear_unpack.h"

enum { PAIR = 2, AT_ONCE = 4 };

typedef struct pair {
    panel *p[PAIR];
    float *acc[PAIR]; /* [n_tok][16] */
    const act8 *a;    /* of these 256 columns */
    int n_tok;
    const uint8_t *ahead[PAIR]; /* what is asked for: n_line lines more, n_ahead at once */
    int n_line, n_ahead;
} pair;

/* ---- taking weights apart ---- */

/* Of N blocks from the one numbered `first` on, where that is a multiple of N; else they are there.
 */
#define UNIT(name, N, BYTES, CALL)                                                                 \
    static void unit_##name(const uint8_t *p, size_t s, panel *to, int first) {                    \
        sink of = {.p = to}, *o = &of;                                                             \
        if (first % N) return;                                                                     \
        p += first * BYTES;                                                                        \
        EACH_OF(N, BYTES, N, CALL)                                                                 \
    }
UNIT(q4_0, 8, 18, nibble_block(o, v, first + b, at, 0, 0))
UNIT(q8_0, 2, Q8_0_BYTES, q8_0_block(o, v, first + b, at))
UNIT(iq4_nl, 8, 18, iq4_nl_block(o, v, first + b, at))
UNIT(mxfp4, 8, 17, mxfp4_block(o, v, first + b, at))

/* ---- dot products ---- */

SIMD_FN void pair_ask(const uint8_t *ahead[PAIR], int n) {
    for (int i = 0; i < n; i++) {
        simd_prefetch(ahead[0] + 64 * i);
        simd_prefetch(ahead[1] + 64 * i);
    }
    ahead[0] += 64 * n;
    ahead[1] += 64 * n;
}

/* The weights of a block of both groups. */
typedef struct columns {
    vi w[PAIR][8];
    vf d[PAIR], m[PAIR];
} columns;

/* n (a literal) tokens from a on, block b. */
SIMD_FN void dot32_some(const columns *w, const act8 *a, int b, float *c0, float *c1, int n,
                        scheme h) {
    vi s[AT_ONCE][PAIR];
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
        s[i][0] = s[i][1] = h.has_offset ? four(&a[i].off[b]) : vi_set1(0);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++)
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            vi x = four(a[i].q + b * 32 + 4 * k);
            s[i][0] = vi_dot(s[i][0], w->w[0][k], x);
            s[i][1] = vi_dot(s[i][1], w->w[1][k], x);
        }
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
        vf dx = vf_set1(a[i].dx[b]);
        float *p0 = c0 + i * LINEAR_ROWS, *p1 = c1 + i * LINEAR_ROWS;
        vf_store(p0, vf_fma(block_sum(w->d[0], w->m[0], &a[i], b, &s[i][0], h), dx, vf_load(p0)));
        vf_store(p1, vf_fma(block_sum(w->d[1], w->m[1], &a[i], b, &s[i][1], h), dx, vf_load(p1)));
    }
}

SIMD_FN void dot32_block(pair *q, int b, scheme h) {
    columns w;
    const act8 *a = q->a;
    const uint8_t *ahead[PAIR] = {q->ahead[0], q->ahead[1]};
    float *c0 = q->acc[0], *c1 = q->acc[1];
    int left = q->n_tok, n_ahead = q->n_line > 0 ? q->n_ahead : 0;
#pragma GCC unroll 2
    for (int g = 0; g < PAIR; g++) {
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++)
            w.w[g][k] = vi_load(q->p[g]->w.u8 + (size_t)(b * 8 + k) * W * 4);
        w.d[g] = vf_load(q->p[g]->d + b * W);
        w.m[g] = h.n_min ? vf_load(q->p[g]->m + b * W) : w.d[g];
    }
    for (; left >= AT_ONCE; left -= AT_ONCE) {
        pair_ask(ahead, n_ahead);
        dot32_some(&w, a, b, c0, c1, AT_ONCE, h);
        a += AT_ONCE, c0 += AT_ONCE * LINEAR_ROWS, c1 += AT_ONCE * LINEAR_ROWS;
    }
    if (left) pair_ask(ahead, n_ahead);
    if (left >= 2) {
        dot32_some(&w, a, b, c0, c1, 2, h);
        a += 2, c0 += 2 * LINEAR_ROWS, c1 += 2 * LINEAR_ROWS, left -= 2;
    }
    if (left) dot32_some(&w, a, b, c0, c1, 1, h);
    q->n_line -= n_ahead * ((q->n_tok + AT_ONCE - 1) / AT_ONCE);
    q->ahead[0] = ahead[0];
    q->ahead[1] = ahead[1];
}
static void dot_offset(pair *q, int b) {
    static const scheme offset = {.sub = 32, .has_offset = 1};
    dot32_block(q, b, offset);
}

/* ---- types ---- */

static const struct {
    uint16_t dtype;
    void (*unit)(const uint8_t *p, size_t s, panel *to, int first);
    void (*dot)(pair *q, int b);
} types[] = {
    {PERI_CPU_Q4_0, unit_q4_0, dot_offset},
    {PERI_CPU_Q8_0, unit_q8_0, dot_offset},
    {PERI_CPU_IQ4_NL, unit_iq4_nl, dot_offset},
    {PERI_CPU_MXFP4, unit_mxfp4, dot_offset},
};

/* The memory that is asked for meanwhile: a slice, as large as these columns, of what comes next.
 */
static void look_ahead(pair *q, const uint8_t *w0, const uint8_t *w1, size_t bytes) {
    int steps = 8 * ((q->n_tok + AT_ONCE - 1) / AT_ONCE);
    q->ahead[0] = w0;
    q->ahead[1] = w1;
    q->n_line = (int)((LINEAR_ROWS * bytes + 63) / 64);
    q->n_ahead = (q->n_line + steps - 1) / steps;
}

int linear_pair(const linear_in *in, int64_t row0, float *acc) {
    panel first, second;
    size_t i = 0, one = (size_t)in->n_tok * LINEAR_ROWS, rows = LINEAR_ROWS * in->row_bytes;
    while (i < sizeof types / sizeof *types && types[i].dtype != in->type->dtype)
        i++;
    if (i == sizeof types / sizeof *types || in->n % LINEAR_K) return 0;
    pair q = {.p = {&first, &second}, .n_tok = in->n_tok, .acc = {acc, acc + one}};
    const uint8_t *w = in->w + (size_t)row0 * in->row_bytes;
    size_t bytes = (size_t)(LINEAR_K / in->type->block * in->type->block_bytes);
    memset(acc, 0, PAIR * one * sizeof *acc);
    for (size_t kb = 0; kb < (size_t)in->n / LINEAR_K; kb++) {
        const uint8_t *next = w + PAIR * rows + kb * LINEAR_ROWS * bytes;
        q.a = (const act8 *)(in->act + kb * in->kb_stride);
        look_ahead(&q, next, next + rows, bytes);
        for (int b = 0; b < 8; b += 2) {
            types[i].unit(w + kb * bytes, in->row_bytes, q.p[0], b);
            types[i].unit(w + kb * bytes + rows, in->row_bytes, q.p[1], b);
            types[i].dot(&q, b);
            types[i].dot(&q, b + 1);
        }
    }
    return 1;
}
