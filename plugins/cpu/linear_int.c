/* SPDX-License-Identifier: MIT
 *
 * linear_int.c - products of block-quantised weights with int8 activations on vector units without
 * a dot product instruction; compiled for AVX2 and AVX-512 (simd.h).  linear_scalar.c computes the
 * same bits plainly.
 *
 * One scheme for any number of tokens, but for one token of the types that linear_token_avx2.c has.
 * A panel of W weight rows (W = f32 lanes) times 256 columns is unpacked into an L1 buffer,
 * transposed so that one register holds four consecutive columns of all W rows: [k/4][row][4].
 * Then, per token and register, four activation bytes are broadcast and vpmaddubsw multiplies u8
 * weights by s8 activations into int16.  The rows stay in their lanes, so there is no horizontal
 * sum anywhere, and one f32 FMA per block continues the chains of W output elements.  Unpacking is
 * amortised over the tokens, down to 19 instructions per 32 columns and W rows.
 *
 * Ranges.  An int16 lane sums 16 products (32 columns of a row fill two lanes).  4-bit weights: 16
 * * 15 * 127 = 30480 fits.  With the offset inside the sum, (q - 8) or (q - 16): at most 16 * 16 *
 * 127 = 32512 in the end; wrapping on the way does no harm, and a single vpmaddubsw stays below 2 *
 * 63 * 127 = 16002.  Q6_K: 8 products of (q - 32), 32512 again, per scale.  Q5_K: two lanes' worth
 * of 8 products of 31 * 127.  Q8_0 has no such room: int16 weights and vpmaddwd, half the rate.  So
 * have not the IQ types; their int16 weights hold the scale of the sub-block too, at most 32 * 127.
 *
 * All 16 rows (VECTORS registers) and TOKENS tokens at once: a broadcast serves all rows, a load of
 * weights all tokens.  With 8 rows and 2 tokens at once AVX2 waited for loads: Q8_0 50 GMAC/s and
 * now 103, Q4_0 99 and 152, Q4_K 119 and 181 (Zen 5, 512 tokens, one thread).
 *
 * Grid types come as bytes and scales from expand.c, a row at a time, and are transposed from
 * there; types whose codes are arithmetic or of sixteen values are unpacked W rows at a time. */
#include "linear_unpack.h"

/* ---- products of a panel with tokens ---- */

enum { VECTORS = LINEAR_ROWS / W };
#if defined(PERI_AVX512)
enum { TOKENS = 8 };
#else
enum { TOKENS = 4 };
#endif
enum { SHARED_TOKENS = 8 }; /* shared_bytes */
#define EACH_TOKEN  _Pragma("GCC unroll 8") for (int i = 0; i < n_tok; i++)
#define EACH_VECTOR _Pragma("GCC unroll 2") for (int v = 0; v < VECTORS; v++)

/* s, computed here: the compiler would gather the products of a whole block in memory first and add
 * them up behind it (Zen 5, AVX2, Q8_0, 512 tokens, one thread: 55 GMAC/s so, 103 with this). */
SIMD_FN vi now(vi s) {
    __asm__("" : "+v"(s));
    return s;
}

SIMD_FN vf acc_load(const float *acc, int i, int v) {
    return vf_load(acc + i * LINEAR_ROWS + v * W);
}
SIMD_FN void acc_store(float *acc, int i, int v, vf x) {
    vf_store(acc + i * LINEAR_ROWS + v * W, x);
}

/* ask_ahead until the next group has been asked for: with many tokens there are more sub-blocks
 * than lines.  (That of linear_vnni.c goes on, which was not timed otherwise.) */
SIMD_FN void ask(panel *p) {
    if (p->n_line <= 0) return;
    p->n_line -= p->n_ahead;
    ask_ahead(p);
}

/* Span 32, u8 weights, n_tok tokens (a literal) at once. */
SIMD_FN void dot32_tokens(panel *p, const act8 *a, int n_block, float *acc, int n_tok, int has_min,
                          int offset) {
    vi ones = vi_set1_16(1);
    for (int b = 0; b < n_block; b++) {
        vi s[TOKENS][VECTORS];
        ask(p);
        EACH_TOKEN
        EACH_VECTOR
        s[i][v] = vi_set1(a[i].off[b]);
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) {
            vi w[VECTORS];
            EACH_VECTOR
            w[v] = vi_load(p[v].w.u8 + (size_t)(b * 8 + k) * W * 4);
            EACH_TOKEN {
                vi x = four(a[i].q + b * 32 + k * 4);
                EACH_VECTOR
                s[i][v] = now(vi_add16(s[i][v], vi_maddubs(w[v], x)));
            }
        }
        EACH_TOKEN {
            vf dx = vf_set1(a[i].dx[b]), of_min = vf_set1((float)a[i].sum[b]);
            vi less = vi_set1(offset * a[i].sum[b]);
            EACH_VECTOR {
                vi sum = vi_madd16(s[i][v], ones);
                if (has_min && offset) sum = vi_add32(sum, less);
                vf x = vf_mul(vf_cvt(sum), vf_load(p[v].d + b * W));
                if (has_min) x = vf_fma(of_min, vf_load(p[v].m + b * W), x);
                acc_store(acc, i, v, vf_fma(x, dx, acc_load(acc, i, v)));
            }
        }
    }
}

/* sum += int16 weights times activations, columns from k on, n / 2 registers of them. */
SIMD_FN void wide_sums(const panel *p, const act16 *a, int k, int n, int n_tok,
                       vi s[TOKENS][VECTORS]) {
#pragma GCC unroll 16
    for (int j = 0; j < n / 2; j++) {
        vi w[VECTORS];
        EACH_VECTOR
        w[v] = vi_load(p[v].w.s16 + (size_t)(k / 2 + j) * W * 2);
        EACH_TOKEN {
            vi x = four(a[i].q + k + j * 2);
            EACH_VECTOR
            s[i][v] = now(vi_add32(s[i][v], vi_madd16(w[v], x)));
        }
    }
}
SIMD_FN void clear_sums(int n_tok, vi s[TOKENS][VECTORS]) {
    EACH_TOKEN
    EACH_VECTOR
    s[i][v] = vi_set1(0);
}

/* Span 32, int16 weights. */
SIMD_FN void dot_wide_tokens(panel *p, const act16 *a, int n_block, float *acc, int n_tok) {
    for (int b = 0; b < n_block; b++) {
        vi s[TOKENS][VECTORS];
        ask(p);
        clear_sums(n_tok, s);
        wide_sums(p, a, b * 32, 32, n_tok, s);
        EACH_TOKEN {
            vf dx = vf_set1(a[i].dx[b]);
            EACH_VECTOR {
                vf x = vf_mul(vf_cvt(s[i][v]), vf_load(p[v].d + b * W));
                acc_store(acc, i, v, vf_fma(x, dx, acc_load(acc, i, v)));
            }
        }
    }
}

/* Span 32, int16 weights, a scale per 16 columns: those of the second 16 are in m. */
SIMD_FN void dot_two_tokens(panel *p, const act16 *a, int n_block, float *acc, int n_tok) {
    for (int b = 0; b < n_block; b++) {
        vi s[TOKENS][VECTORS], s2[TOKENS][VECTORS];
        ask(p);
        clear_sums(n_tok, s);
        wide_sums(p, a, b * 32, 16, n_tok, s);
        clear_sums(n_tok, s2);
        wide_sums(p, a, b * 32 + 16, 16, n_tok, s2);
        EACH_TOKEN {
            vf dx = vf_set1(a[i].dx[b]);
            EACH_VECTOR {
                vf x = vf_mul(vf_cvt(s[i][v]), vf_load(p[v].d + b * W));
                x = vf_fma(vf_cvt(s2[i][v]), vf_load(p[v].m + b * W), x);
                acc_store(acc, i, v, vf_fma(x, dx, acc_load(acc, i, v)));
            }
        }
    }
}

/* Span 256, int16 weights that hold their scale. */
SIMD_FN void dot_wide256_tokens(panel *p, const act16 *a, float *acc, int n_tok) {
    vi t[TOKENS][VECTORS];
    clear_sums(n_tok, t);
    for (int k = 0; k < LINEAR_K; k += 16) {
        ask(p);
        wide_sums(p, a, k, 16, n_tok, t);
    }
    EACH_TOKEN
    EACH_VECTOR {
        vf x = vf_mul(vf_cvt(t[i][v]), vf_load(p[v].d));
        acc_store(acc, i, v, vf_fma(x, vf_set1(a[i].dx[0]), acc_load(acc, i, v)));
    }
}

/* How the 256 columns of a type are summed; a literal everywhere. */
typedef struct scheme {
    int sub;       /* columns summed in int16 lanes before the scale is applied */
    int scale_sub; /* columns per scale */
    int has_offset;
    int n_min; /* pairs of minima */
} scheme;

/* The scaled integer sums of 256 columns as they enter the chain. */
SIMD_FN vf superblock(const panel *p, const act8 *a, vi t, scheme h) {
    vf x = vf_mul(vf_cvt(t), vf_load(p->d));
    if (h.n_min == 0) return x;
    vi u = vi_set1(0);
#pragma GCC unroll 8
    for (int j = 0; j < h.n_min; j++)
        u = vi_add32(u, vi_madd16(vi_load(p->mn + j * W), vi_set1(a->sum[j])));
    return vf_fnma(vf_cvt(u), vf_load(p->m), x);
}

/* Span 256. */
SIMD_FN void dot256_tokens(panel *p, const act8 *a, float *acc, int n_tok, scheme h) {
    vi t[TOKENS][VECTORS];
    const int sub = h.sub;
    clear_sums(n_tok, t);
    for (int j = 0; j < LINEAR_K / sub; j++) {
        vi s[TOKENS][VECTORS];
        ask(p);
#pragma GCC unroll 8
        for (int k = 0; k < sub / 4; k++) {
            vi w[VECTORS];
            EACH_VECTOR
            w[v] = vi_load(p[v].w.u8 + (size_t)(j * sub / 4 + k) * W * 4);
            EACH_TOKEN {
                vi x = four(a[i].q + j * sub + k * 4);
                EACH_VECTOR {
                    vi y = vi_maddubs(w[v], x);
                    if (k == 0)
                        s[i][v] = h.has_offset ? vi_add16(vi_set1(a[i].off[j]), y) : y;
                    else
                        s[i][v] = now(vi_add16(s[i][v], y));
                }
            }
        }
        EACH_TOKEN
        EACH_VECTOR {
            vi sc = vi_load(p[v].sc + j * sub / h.scale_sub * W);
            t[i][v] = vi_add32(t[i][v], vi_madd16(s[i][v], sc));
        }
    }
    EACH_TOKEN
    EACH_VECTOR {
        vf x = superblock(&p[v], &a[i], t[i][v], h);
        acc_store(acc, i, v, vf_fma(x, vf_set1(a[i].dx[0]), acc_load(acc, i, v)));
    }
}

/* A function over any number of tokens out of one over a literal number.  SUBS: how often one asks
 * for memory, per pass over the tokens. */
#define DOT(NAME, ACT, SUBS, CALL)                                                                 \
    static void NAME(panel *p, const void *act, int n_tok, int n_block, float *acc) {              \
        const ACT *a = act;                                                                        \
        (void)n_block;                                                                             \
        set_ahead(p, n_tok, TOKENS, SUBS);                                                         \
        while (n_tok >= TOKENS)                                                                    \
            DOT_SOME(TOKENS, CALL)                                                                 \
        if (TOKENS > 4 && n_tok >= 4) DOT_SOME(4, CALL)                                            \
        if (n_tok >= 2) DOT_SOME(2, CALL)                                                          \
        if (n_tok) DOT_SOME(1, CALL)                                                               \
    }
#define SCHEME(...) ((scheme){__VA_ARGS__})
DOT(dot_q4_0, act8, n_block, dot32_tokens(p, a, n_block, acc, N, 0, 0))
DOT(dot_q4_1, act8, n_block, dot32_tokens(p, a, n_block, acc, N, 1, 0))
DOT(dot_q5_1, act8, n_block, dot32_tokens(p, a, n_block, acc, N, 1, 16))
DOT(dot_q8_0, act16, n_block, dot_wide_tokens(p, a, n_block, acc, N))
DOT(dot_nvfp4, act16, n_block, dot_two_tokens(p, a, n_block, acc, N))
DOT(dot_iq, act16, 16, dot_wide256_tokens(p, a, acc, N))
DOT(dot_q2_k, act8, 16, dot256_tokens(p, a, acc, N, SCHEME(16, 16, 0, 8)))
DOT(dot_q3_k, act8, 16, dot256_tokens(p, a, acc, N, SCHEME(16, 16, 1, 0)))
DOT(dot_q4_k, act8, 8, dot256_tokens(p, a, acc, N, SCHEME(32, 32, 0, 4)))
DOT(dot_q5_k, act8, 16, dot256_tokens(p, a, acc, N, SCHEME(16, 32, 0, 4)))

/* An unpacker with a sink of its own: stores of bytes might change the caller's, whose pointers
 * would be loaded again after each (2 tokens, Zen 3, two threads, weights in the cache: Q4_0 1.06
 * times as fast, Q4_K 1.07, Q6_K 1.03, Q8_0 1.05). */
#define OWN(name)                                                                                  \
    static void own_##name(const uint8_t *p, size_t stride, int n_block, sink *out) {              \
        sink o = *out;                                                                             \
        unpack_##name(p, stride, n_block, &o);                                                     \
    }
OWN(q4_0)
OWN(q4_1)
OWN(q5_0)
OWN(q5_1)
OWN(q8_0)
OWN(q2_k)
OWN(q3_k)
OWN(q4_k)
OWN(q5_k)
OWN(q6_k)
OWN(iq4_nl)
OWN(iq4_xs)
OWN(mxfp4)
OWN(tq2_0)
OWN(tq1_0)
OWN(q1_0)
OWN(q2_0)
OWN(nvfp4)

typedef void (*unpack_fn)(const uint8_t *p, size_t stride, int n_block, sink *out);
typedef void (*dot_fn)(panel *p, const void *act, int n_tok, int n_span, float *acc);
struct kernel {
    uint16_t dtype;
    unpack_fn unpack; /* NULL: unpack_grid */
    dot_fn dot;
};
static const kernel kernels[] = {
    {PERI_CPU_Q4_0, own_q4_0, dot_q4_0},     {PERI_CPU_Q4_1, own_q4_1, dot_q4_1},
    {PERI_CPU_Q5_0, own_q5_0, dot_q4_0},     {PERI_CPU_Q5_1, own_q5_1, dot_q5_1},
    {PERI_CPU_Q8_0, own_q8_0, dot_q8_0},     {PERI_CPU_Q2_K, own_q2_k, dot_q2_k},
    {PERI_CPU_Q3_K, own_q3_k, dot_q3_k},     {PERI_CPU_Q4_K, own_q4_k, dot_q4_k},
    {PERI_CPU_Q5_K, own_q5_k, dot_q5_k},     {PERI_CPU_Q6_K, own_q6_k, dot_q3_k},
    {PERI_CPU_IQ4_NL, own_iq4_nl, dot_q8_0}, {PERI_CPU_IQ4_XS, own_iq4_xs, dot_iq},
    {PERI_CPU_MXFP4, own_mxfp4, dot_q4_0},   {PERI_CPU_TQ2_0, own_tq2_0, dot_q3_k},
    {PERI_CPU_TQ1_0, own_tq1_0, dot_q3_k},   {PERI_CPU_Q1_0, own_q1_0, dot_q4_0},
    {PERI_CPU_Q2_0, own_q2_0, dot_q4_0},     {PERI_CPU_NVFP4, own_nvfp4, dot_nvfp4},
    {PERI_CPU_IQ1_S, NULL, dot_iq},          {PERI_CPU_IQ1_M, NULL, dot_iq},
    {PERI_CPU_IQ2_XXS, NULL, dot_iq},        {PERI_CPU_IQ2_XS, NULL, dot_iq},
    {PERI_CPU_IQ2_S, NULL, dot_iq},          {PERI_CPU_IQ3_XXS, NULL, dot_iq},
    {PERI_CPU_IQ3_S, NULL, dot_iq},
};

/* Bytes of the next group that are asked for while this one is unpacked: half of them with few
 * tokens, where unpacking takes a good part of the time, and none with more (Zen 3, two threads, 8
 * tokens: Q4_0, Q4_K, Q8_0 1.03 to 1.08 times as fast as without).  Grid types ask by rows and not
 * for the chunk that panel_ahead has. */
static int shared_bytes(const group *g) {
    if (g->in->n_tok > SHARED_TOKENS || !g->k->unpack || !g->prefetch_step) return 0;
    return g->n_block * g->in->type->block_bytes * LINEAR_ROWS / 2 / 64 * 64;
}

/* Panel v's part of them, if any.  load_rows asks for NL lines each time: at half the step half as
 * many new ones. */
static void share_ahead(const group *g, sink *o, int v, int bytes) {
    o->prefetch = g->prefetch + bytes / VECTORS * v / 64 * 64;
    o->prefetch_step = bytes ? g->prefetch_step / 2 : 0;
}

/* Unpack all rows, W at a time, and add to all tokens' sums. */
static void block(const group *g) {
    panel p[VECTORS];
    int has_many = g->in->n_tok > 1, shared = has_many ? shared_bytes(g) : 0;
    panel_ahead(g, p, 0, LINEAR_ROWS);
    p->ahead += shared;
    p->n_line = has_many ? p->n_line - shared / 64 : 0;
    for (int v = 0; v < VECTORS; v++) {
        const uint8_t *w = g->w + (size_t)(v * W) * g->stride;
        sink o = sink_of(g, &p[v], v * W);
        if (has_many) share_ahead(g, &o, v, shared);
        if (g->k->unpack)
            g->k->unpack(w, g->stride, g->n_block, &o);
        else
            unpack_grid(g->in->type, w, g->stride, &o);
    }
    g->k->dot(p, g->in->act + (size_t)g->kb * g->in->kb_stride, g->in->n_tok,
              g->n_block * g->in->type->block / 32, g->acc);
}

static void rows_int(const linear_in *in, int64_t row0, int32_t rows, float *acc) {
    const kernel *k = kernels;
    if (in->n_tok == 1 && linear_token_avx2(in, 0, row0, rows, acc)) return;
    while (k->dtype != in->type->dtype)
        k++;
    each_group(in, k, row0, rows, acc, block);
}

#define ISA_TEXT2(x) #x
#define ISA_TEXT(x)  ISA_TEXT2(x)

const cpu_isa PERI_ISA_FN(cpu_isa) = {
    .name = ISA_TEXT(PERI_ISA),
    .quantize = PERI_ISA_FN(quantize_row),
    .token_groups = LINEAR_TOKEN_GROUPS,
    .rows_int = rows_int,
    .rows_f32 = PERI_ISA_FN(rows_f32),
    .bf16 = &PERI_ISA_FN(bf16),
    .vec = &PERI_ISA_FN(vec),
    .attn = &PERI_ISA_FN(attn),
};
