/* SPDX-License-Identifier: MIT
 *
 * linear.h - matrix products of the fast levels: the forms of activations, and what one instruction
 * set provides.
 *
 * Weights are read in place, in GGUF's encoding: an order made for the kernels gains nothing for
 * one token and 6 to 20 % for 16 (tests/perf/README.md), which does not pay for making and keeping
 * it. Work is cut into groups of 16 output rows.  For one group and up to LINEAR_M tokens a set
 * computes acc[token][16], the plain sums; linear.c adds scales and biases and stores.
 *
 * Numerics, per output element, equal bits on every set and for every number of tokens:
 *   span 32    acc = fma(fl(f32(isum) * d), dx, acc)                              per 32-block,
 * rising
 *   ... min    acc = fma(fma(f32(sum a), m, fl(f32(isum) * d)), dx, acc)          Q4_1, Q5_1
 *   ... 2 d    acc = fma(fma(f32(isum2), d2, fl(f32(isum1) * d1)), dx, acc)       NVFP4: per 16
 *   span 256   acc = fma(fnma(f32(u), dmin, fl(f32(t) * d)), dx, acc)             per superblock,
 * rising; t = sum_j sc_j sum_k q a,  u = sum_j mn_j sum_k a; without minima the fnma is left out
 *   f32        16 sums over k mod 16, each an FMA chain, then the tree of v16_sum; a short tail
 * counts as zeros
 *   BF16       per 512 columns, k = 32 v + 2 i + h:  c = c + (E_i + O_i) for i = 0 .. 15 in turn
 * isum, t, u are exact int32.  Activations a = rint(x * fl(1 / dx)), dx = fl(amax / 127), over 32
 * or 256 elements.
 *
 * BF16: E_i is an FMA chain from +0 over even v, rising, and for each v over h = 1, then 0; O_i the
 * same over odd v.  Columns past n are zeros.  Activations are rounded to the nearest bf16, ties to
 * even; weights and activations below 2^-50 are 0.  Products are exact then, and all sums multiples
 * of 2^-114, so none is denormal: the instructions for bf16 would take those for 0.
 * Three ways give this order.  VDPBF16PS adds a lane's upper product, then its lower one: with lane
 * i of a register for i (or, for many tokens, for a row of weights) E and O are a register each.
 * TDPBF16PS sums 16 even and 16 odd words in chains of their own, from +0, and adds c + (even +
 * odd): with E_i's factors in the even words, O_i's in the odd ones one instruction is a step of i.
 * And plain FMAs.  Source of both: Intel SDM vol. 2, their operations; self_test.c asks the
 * processor. */
#ifndef PERI_CPU_LINEAR_H
#define PERI_CPU_LINEAR_H

#include <stddef.h>
#include <stdint.h>

enum {
    LINEAR_ROWS = 16,
    LINEAR_GROUPS = 2,       /* bf16_isa, pair_int */
    LINEAR_TOKEN_GROUPS = 4, /* linear_token_avx2.c: token_groups */
    LINEAR_K = 256,
    LINEAR_M = 512,
    LINEAR_FEW = 8,
    LINEAR_VECTORS = 24, /* tokens left to vectors by avx512amx, but for BF16 and tiled_isa */
    LINEAR_PAIR = 8,     /* tokens of pair_int, at least */
    LINEAR_STORED = 2,   /* of pair_int and tiled->rows */
    LINEAR_TILED = 48,   /* tokens of tiled_isa, at most */
    LINEAR_TILED_GROUPS = 8,
    LINEAR_SPAN_F32 = 0,
    LINEAR_SPAN_BF16 = 512
};

/* 256 activations of one token.
 * off: sums times -offset, per 32 elements, or per 16 where span is 256 or the type has_two.
 * Without a dot product instruction two int16 in an int32, the sums of a over k mod 4 in {0, 1}
 * (low half) and {2, 3}, which are the halves that one maddubs accumulator sums. sum: span 32:
 * int32 sums of 32; span 256: int16 halves (low = even sub-block) of sums per 32 (4 words) or per
 * 16 (8). */
typedef struct act8 {
    int8_t q[LINEAR_K];
    float dx[8];
    int32_t off[16];
    int32_t sum[8];
} act8;

/* 256 activations of 16 tokens, for tiled_isa: 16 act8 transposed by four bytes. */
typedef struct act8_tile {
    int8_t q[LINEAR_K / 4][16][4];
    float dx[8][16];
    int32_t off[16][16];
    int32_t sum[8][16];
} act8_tile;
_Static_assert(sizeof(act8_tile) == 16 * sizeof(act8), "transposed in place");

/* The same for weights of 8 bits and more, whose products leave int16, on sets without a dot
 * product instruction: int16, each four reordered 0 2 1 3. */
typedef struct act16 {
    int16_t q[LINEAR_K];
    float dx[8];
    int32_t pad[8];
} act16;

struct linear_columns; /* expand.h */

typedef struct linear_type {
    uint16_t dtype;
    int16_t span;  /* elements per activation scale: 32, 256; LINEAR_SPAN_F32 or LINEAR_SPAN_BF16 */
    int16_t block; /* elements per weight block */
    int16_t block_bytes;
    int16_t offset;  /* subtracted from the unsigned weights inside the integer sum */
    int16_t min_sub; /* elements per minimum; 0: no minima */
    int16_t is_wide; /* signed bytes as weights: act16, or act8 and PERI_DOT_PLUS as offset */
    int16_t has_two; /* span 32: two scales, one per 16 columns */
    /* Types of expand.h: 256 columns at most of a row to bytes and scales; else NULL. */
    void (*expand)(const uint8_t *p, int n_block, struct linear_columns *c);
} linear_type;

/* NULL: the reference computes it. */
const linear_type *linear_type_of(uint32_t dtype);

/* One product: a weight matrix and quantised activations.  Integer types: the 256 elements kb of
 * token i are at act + kb * kb_stride + i * linear_act_bytes.  BF16: so are the 512 of block kb, in
 * one of two orders.  f32: row i at act + i * kb_stride. */
typedef struct linear_in {
    const linear_type *type;
    const uint8_t *w;
    size_t row_bytes;
    int64_t m, n;
    const uint8_t *act;
    size_t kb_stride;
    int32_t n_tok;   /* at most LINEAR_M */
    int by_row;      /* BF16: packed so; at most LINEAR_FEW tokens */
    float *y;        /* where plain sums are the results, token 0's row 0, or NULL */
    size_t y_stride; /* floats from token to token */
} linear_in;

/* Products of BF16 weights. */
typedef struct bf16_isa {
    size_t block_bytes; /* of 512 activations of one token */
    int32_t n_group;    /* of 16 rows that a call takes at most, unless by_row: 1 or 2 */
    /* One row of n activations.  by_row: for at most LINEAR_FEW tokens. */
    void (*pack)(const float *x, int64_t n, int by_row, uint8_t *out, size_t kb_stride);
    /* As rows_int; acc: [group][n_tok][16].  scratch, by_row: linear_bf16_floats. */
    void (*rows)(const linear_in *in, int64_t row0, int32_t rows, float *acc, float *scratch);
} bf16_isa;
static inline size_t linear_bf16_floats(int64_t n, int64_t n_tok) {
    size_t n_block = (size_t)((n + LINEAR_SPAN_BF16 - 1) / LINEAR_SPAN_BF16);
    return n_tok > LINEAR_FEW ? 0 : n_block * (size_t)n_tok * LINEAR_ROWS * 16;
}

/* Products of few tokens by tiles, with activations in tiles of 16 tokens: tile i of the 256
 * columns kb is at act + kb * kb_stride + i * sizeof(act8_tile).  A set that has them has enter and
 * leave. */
typedef struct tiled_isa {
    int (*has)(const linear_type *t);
    /* 16 act8 to an act8_tile, in place.  Tokens past the last one are zeros. */
    void (*arrange)(void *act);
    /* As rows_int, for up to LINEAR_TILED_GROUPS groups, to acc[group][n_tok][16]; n is a multiple
     * of LINEAR_K.  LINEAR_STORED: the sums are in in->y, which is given, and groups are whole;
     * else 0. */
    int (*rows)(const linear_in *in, int64_t row0, int32_t rows, float *acc);
} tiled_isa;

/* What an instruction set provides.  All functions are pure, but for enter and leave. */
typedef struct cpu_isa {
    const char *name;
    int has_dot; /* vi_dot_at for four products of bytes: act8 serves all types */
    /* One row of n activations into the form of t (span 32 or 256). */
    void (*quantize)(const linear_type *t, const float *x, int64_t n, uint8_t *out,
                     size_t kb_stride);
    int32_t token_groups; /* groups of 16 rows that rows_int takes for one token; 0: one */
    /* acc[i][r] = sums of row row0 + r, r < rows <= 16, token i; of one token rows <= 16 *
     * token_groups, and acc has room for whole groups.  scratch: f32 [n][16]. */
    void (*rows_int)(const linear_in *in, int64_t row0, int32_t rows, float *acc);
    /* The same for 32 rows, to acc[2][n_tok][16], and LINEAR_PAIR tokens or more.  0: not for this
     * type or width, nothing was done; LINEAR_STORED: the sums are in in->y.  NULL: never. */
    int (*pair_int)(const linear_in *in, int64_t row0, float *acc);
    const tiled_isa *tiled; /* where linear_is_tiled; or NULL */
    void (*rows_f32)(const linear_in *in, int64_t row0, int32_t rows, float *acc, float *scratch);
    const bf16_isa *bf16;
    /* Around a worker's calls of tiled->rows, and of rows_int, pair_int and bf16->rows where
     * linear_enters, with weights of t or of other types of its span; around products in attention,
     * t NULL.  NULL: nothing to do. */
    void (*enter)(const linear_type *t);
    void (*leave)(void);
    const struct vec_isa *vec;
    const struct attn_isa *attn;
} cpu_isa;

extern const cpu_isa cpu_isa_scalar;
#if defined(__x86_64__)
extern const cpu_isa cpu_isa_avx2, cpu_isa_avx2vnni, cpu_isa_avx512, cpu_isa_avx512vnni,
    cpu_isa_avx512amx;
#elif defined(__aarch64__)
extern const cpu_isa cpu_isa_neon, cpu_isa_neondot, cpu_isa_neoni8mm;
#endif

/* Does a product with n_tok tokens, all experts together, want enter and leave around it? */
static inline int linear_enters(const cpu_isa *isa, const linear_type *t, int64_t n_tok) {
    return isa->enter && n_tok > (t->span == LINEAR_SPAN_BF16 ? LINEAR_FEW : LINEAR_VECTORS);
}

/* Are products with n_tok tokens and n columns for isa->tiled?  Where less than three quarters of
 * the lanes have tokens, they are no faster (tests/perf/README.md). */
static inline int linear_is_tiled(const cpu_isa *isa, const linear_type *t, int64_t n,
                                  int64_t n_tok) {
    int64_t lanes = (n_tok + 15) / 16 * 16;
    return isa->tiled && n_tok <= LINEAR_TILED && 4 * n_tok >= 3 * lanes && n % LINEAR_K == 0 &&
           isa->tiled->has(t);
}

/* The line at p is going to be written: it is asked for as such. */
static inline void linear_own(const void *p) {
    __builtin_prefetch(p, 1, 3);
}

/* Columns of a block of activations. */
static inline int64_t linear_act_columns(const linear_type *t) {
    return t->span == LINEAR_SPAN_BF16 ? LINEAR_SPAN_BF16 : LINEAR_K;
}
/* Bytes of such a block of one token in the form a set wants for a type. */
static inline size_t linear_act_bytes(const cpu_isa *isa, const linear_type *t) {
    return t->span == LINEAR_SPAN_F32    ? LINEAR_K * sizeof(float)
           : t->span == LINEAR_SPAN_BF16 ? isa->bf16->block_bytes
           : t->is_wide && !isa->has_dot ? sizeof(act16)
                                         : sizeof(act8);
}

#endif
