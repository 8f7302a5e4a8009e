/* SPDX-License-Identifier: MIT
 *
 * linear_vnni.c - products of block-quantised weights with int8 activations where four products of
 * bytes are one instruction (vpdpbusd); compiled for AVX-512 with VNNI, for AVX2 with AVX-VNNI and
 * for NEON with and without SDOT.  linear_scalar.c computes the same bits plainly.
 *
 * Weights become unsigned bytes (linear_unpack.h): those of signed types plus 128 (NEON:
 * as they are, simd_neon.h), the others as they are stored.  Four activation bytes are broadcast;
 * the instruction adds four products to int32, where nothing can overflow: 32 columns reach 32 *
 * 255 * 127 = 1.04e6, 256 with 7-bit scales 1.1e9. What the offset adds is taken away by act8.off,
 * the sum of the activations times -offset.
 *
 * One token, of types without a kernel of their own (linear_token.c, linear_token_avx2.c): a
 * register of weights is multiplied as soon as it is unpacked, and nothing is stored;
 * the sums of up to 16 sub-blocks stay in registers.  Several: a panel of W rows times 256 columns
 * in L1, then up to TOKENS tokens at a time over it, so that a load of weights serves them all and
 * the instructions of a block are mainly its 8 dot products per token. */
#include "linear_unpack.h"

#if defined(PERI_AVX512) || defined(PERI_NEON)
enum { TOKENS = 8 };
#else
enum { TOKENS = 4 };
#endif

/* Span 32, n_tok tokens (a literal) at once. */
SIMD_FN void dot32_tokens(panel *p, const act8 *a, int n_block, float *acc, int n_tok, scheme h) {
    vf c[TOKENS];
#pragma GCC unroll 8
    for (int i = 0; i < n_tok; i++)
        c[i] = vf_load(acc + i * LINEAR_ROWS);
    for (int b = 0; b < n_block; b++) {
        vi s[TOKENS][2];
        ask_ahead(p);
#pragma GCC unroll 8
        for (int i = 0; i < n_tok; i++) {
            s[i][0] = h.has_offset ? four(&a[i].off[h.has_two ? 2 * b : b]) : vi_set1(0);
            s[i][1] = h.has_two ? four(&a[i].off[2 * b + 1]) : vi_set1(0);
        }
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) {
            vi w = vi_load(p->w.u8 + (size_t)(b * 8 + k) * W * 4);
            int half = h.has_two ? k / 4 : 0;
#pragma GCC unroll 8
            for (int i = 0; i < n_tok; i++)
                s[i][half] = vi_dot_at(s[i][half], w, a[i].q + b * 32, k);
        }
#pragma GCC unroll 8
        for (int i = 0; i < n_tok; i++)
            c[i] =
                vf_fma(block_sum(vf_load(p->d + b * W), vf_load(p->m + b * W), &a[i], b, s[i], h),
                       vf_set1(a[i].dx[b]), c[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < n_tok; i++)
        vf_store(acc + i * LINEAR_ROWS, c[i]);
}

/* Span 256. */
SIMD_FN void dot256_tokens(panel *p, const act8 *a, float *acc, int n_tok, scheme h) {
    vi t[TOKENS];
#pragma GCC unroll 8
    for (int i = 0; i < n_tok; i++)
        t[i] = vi_set1(0);
    for (int j = 0; j < LINEAR_K / h.sub; j++) {
        vi s[TOKENS], sc = vi_load(p->sc + j * W);
        ask_ahead(p);
#pragma GCC unroll 8
        for (int i = 0; i < n_tok; i++)
            s[i] = h.has_offset ? four(&a[i].off[j]) : vi_set1(0);
#pragma GCC unroll 8
        for (int k = 0; k < h.sub / 4; k++) {
            vi w = vi_load(p->w.u8 + (size_t)(j * h.sub / 4 + k) * W * 4);
#pragma GCC unroll 8
            for (int i = 0; i < n_tok; i++)
                s[i] = vi_dot_at(s[i], w, a[i].q + j * h.sub, k);
        }
#pragma GCC unroll 8
        for (int i = 0; i < n_tok; i++)
            t[i] = vi_add32(t[i], vi_mul32(s[i], sc));
    }
#pragma GCC unroll 8
    for (int i = 0; i < n_tok; i++) {
        float *c = acc + i * LINEAR_ROWS;
        vf_store(c, superblock(p, &a[i], t[i], vf_load(c), h));
    }
}

/* ---- one scheme, any number of tokens ---- */

/* SUBS: sub-blocks. */
#define DOT(NAME, SUBS, CALL)                                                                      \
    static void NAME(panel *p, const act8 *a, int n_tok, int n_block, float *acc) {                \
        (void)n_block;                                                                             \
        set_ahead(p, n_tok, TOKENS, SUBS);                                                         \
        while (n_tok >= TOKENS)                                                                    \
            DOT_SOME(TOKENS, CALL)                                                                 \
        if (n_tok >= 4) DOT_SOME(4, CALL)                                                          \
        if (n_tok >= 2) DOT_SOME(2, CALL)                                                          \
        if (n_tok) DOT_SOME(1, CALL)                                                               \
    }
static const scheme offset = {.sub = 16, .has_offset = 1};
static const scheme min32 = {.sub = 16, .n_min = 1};
static const scheme two = {.sub = 16, .has_offset = 1, .has_two = 1};
static const scheme min16 = {.sub = 16, .n_min = 8};
static const scheme sub32 = {.sub = 32, .n_min = 4};
DOT(dot_offset, n_block, dot32_tokens(p, a, n_block, acc, N, offset))
DOT(dot_min, n_block, dot32_tokens(p, a, n_block, acc, N, min32))
DOT(dot_two, n_block, dot32_tokens(p, a, n_block, acc, N, two))
DOT(dot_offset256, 16, dot256_tokens(p, a, acc, N, offset))
DOT(dot_min256, 16, dot256_tokens(p, a, acc, N, min16))
DOT(dot_sub32, 8, dot256_tokens(p, a, acc, N, sub32))

/* ---- one token ---- */

SIMD_FN void finish256(sink *o) {
    vi t = vi_set1(0);
#pragma GCC unroll 16
    for (int j = 0; j < LINEAR_K / o->h.sub; j++) {
        vi s = o->h.has_offset ? vi_add32(o->s[j], four(&o->a->off[j])) : o->s[j];
        t = vi_add32(t, vi_mul32(s, vi_load(o->p->sc + j * W)));
    }
    o->acc = superblock(o->p, o->a, t, o->acc, o->h);
}

SIMD_FN sink fused_sink(const group *g, panel *p, int r, scheme h) {
    sink o = sink_of(g, p, r);
    o.a = (const act8 *)(g->in->act + (size_t)g->kb * g->in->kb_stride);
    o.acc = vf_load(g->acc + r);
    o.h = h;
    o.is_fused = 1;
#pragma GCC unroll 16
    for (int j = 0; j < 16; j++)
        o.s[j] = vi_set1(0);
    return o;
}

/* The two uses of an unpacker; UNPACK sees g, w and o. */
#define USES(name, SCHEME, FINISH, UNPACK)                                                         \
    static void panel_##name(const group *g, panel *p, int r) {                                    \
        const uint8_t *w = g->w + (size_t)r * g->stride;                                           \
        sink o = sink_of(g, p, r);                                                                 \
        UNPACK;                                                                                    \
    }                                                                                              \
    static void token_##name(const group *g, panel *p, int r) {                                    \
        const uint8_t *w = g->w + (size_t)r * g->stride;                                           \
        sink o = fused_sink(g, p, r, SCHEME);                                                      \
        UNPACK;                                                                                    \
        FINISH;                                                                                    \
        vf_store(g->acc + r, o.acc);                                                               \
    }
#define USES32(name, SCHEME)                                                                       \
    USES(name, SCHEME, (void)0, unpack_##name(w, g->stride, g->n_block, &o))
#define USES256(name, SCHEME)                                                                      \
    USES(name, SCHEME, finish256(&o), unpack_##name(w, g->stride, g->n_block, &o))
USES32(q4_0, offset)
USES32(q4_1, min32)
USES32(q5_0, offset)
USES32(q5_1, min32)
USES32(q8_0, offset)
USES32(iq4_nl, offset)
USES32(mxfp4, offset)
USES32(nvfp4, two)
USES32(q1_0, offset)
USES32(q2_0, offset)
USES256(q2_k, min16)
USES256(q3_k, offset)
USES256(q4_k, sub32)
USES256(q5_k, sub32)
USES256(q6_k, offset)
USES256(iq4_xs, offset)
USES256(tq1_0, offset)
USES256(tq2_0, offset)
USES(grid, offset, finish256(&o), unpack_grid(g->in->type, w, g->stride, &o))

struct kernel {
    uint16_t dtype;
    void (*panel)(const group *g, panel *p, int r);
    void (*token)(const group *g, panel *p, int r);
    void (*dot)(panel *p, const act8 *a, int n_tok, int n_span, float *acc);
};
#define KERNEL(NAME, name, dot)                                                                    \
    { PERI_CPU_##NAME, panel_##name, token_##name, dot }
static const kernel kernels[] = {
    KERNEL(Q4_0, q4_0, dot_offset),       KERNEL(Q4_1, q4_1, dot_min),
    KERNEL(Q5_0, q5_0, dot_offset),       KERNEL(Q5_1, q5_1, dot_min),
    KERNEL(Q8_0, q8_0, dot_offset),       KERNEL(Q2_K, q2_k, dot_min256),
    KERNEL(Q3_K, q3_k, dot_offset256),    KERNEL(Q4_K, q4_k, dot_sub32),
    KERNEL(Q5_K, q5_k, dot_sub32),        KERNEL(Q6_K, q6_k, dot_offset256),
    KERNEL(IQ4_NL, iq4_nl, dot_offset),   KERNEL(IQ4_XS, iq4_xs, dot_offset256),
    KERNEL(MXFP4, mxfp4, dot_offset),     KERNEL(TQ2_0, tq2_0, dot_offset256),
    KERNEL(TQ1_0, tq1_0, dot_offset256),  KERNEL(Q1_0, q1_0, dot_offset),
    KERNEL(Q2_0, q2_0, dot_offset),       KERNEL(NVFP4, nvfp4, dot_two),
    KERNEL(IQ1_S, grid, dot_offset256),   KERNEL(IQ1_M, grid, dot_offset256),
    KERNEL(IQ2_XXS, grid, dot_offset256), KERNEL(IQ2_XS, grid, dot_offset256),
    KERNEL(IQ2_S, grid, dot_offset256),   KERNEL(IQ3_XXS, grid, dot_offset256),
    KERNEL(IQ3_S, grid, dot_offset256),
};

static const kernel *kernel_of(const linear_type *t) {
    const kernel *k = kernels;
    while (k->dtype != t->dtype)
        k++;
    return k;
}

#if defined(PERI_AVX512) || defined(__ARM_FEATURE_DOTPROD)
const kernel *linear_kernel(const linear_type *t) {
    return kernel_of(t);
}
void linear_panel(const group *g, panel *p, int r) {
    g->k->panel(g, p, r);
    panel_ahead(g, p, r, W);
}
#endif

static void block(const group *g) {
    panel p;
    for (int r = 0; r < LINEAR_ROWS; r += W) {
        if (g->in->n_tok == 1) {
            g->k->token(g, &p, r);
            continue;
        }
        g->k->panel(g, &p, r);
        panel_ahead(g, &p, r, W);
        g->k->dot(&p, (const act8 *)(g->in->act + (size_t)g->kb * g->in->kb_stride), g->in->n_tok,
                  g->n_block * g->in->type->block / 32, g->acc + r);
    }
}

static void rows_int(const linear_in *in, int64_t row0, int32_t rows, float *acc) {
#if defined(PERI_AVX512)
    if (in->n_tok == 1 && linear_token(in, row0, rows, acc)) return;
#elif !defined(PERI_NEON)
    if (in->n_tok == 1 && linear_token_avx2(in, 1, row0, rows, acc)) return;
#endif
    each_group(in, kernel_of(in->type), row0, rows, acc, block);
}

#define ISA_TEXT2(x) #x
#define ISA_TEXT(x)  ISA_TEXT2(x)

#if defined(PERI_NEON)
#define LEVEL(name) name##_neon
#elif defined(PERI_AVX512)
#define LEVEL(name) name##_avx512
#else
#define LEVEL(name) name##_avx2
#endif

const cpu_isa PERI_ISA_FN(cpu_isa) = {
    .name = ISA_TEXT(PERI_ISA),
    .has_dot = 1,
    .quantize = PERI_ISA_FN(quantize_row),
    .rows_int = rows_int,
#if defined(PERI_AVX512)
    .pair_int = linear_pair,
#elif !defined(PERI_NEON)
    .token_groups = LINEAR_TOKEN_GROUPS,
#endif
    .rows_f32 = LEVEL(rows_f32),
    .bf16 = &LEVEL(bf16),
    .vec = &LEVEL(vec),
    .attn = &LEVEL(attn),
};
