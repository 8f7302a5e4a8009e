/* SPDX-License-Identifier: MIT
 *
 * args.h - what a kernel is given: one struct each, the same text for the host (C) and the kernels
 * (C++), so that no parameter list can differ.
 *
 * Addresses are the device's, 0 for an absent operand.  Rows: the address of the first element and
 * the byte strides of the first three dimensions, slowest first; the last dimension is contiguous.
 */
#ifndef PERI_CUDA_ARGS_H
#define PERI_CUDA_ARGS_H

#include <stdint.h>

/* CU_THREADS: of a block; CU_NORM_THREADS: of one that norms a row longer than CU_NORM_SHORT
 * (norm.cuh says why).  CU_ROWS: rows of weights of a block, one to a warp.  CU_TOKENS:
 * tokens of a block of a product with many.  CU_PART: keys of a part of an attention's sum, CU_RUN
 * of a run of it.  CU_HEAD: the longest key or value.  CU_TILE, CU_TILE_HEAD: heads that share
 * their keys and values in a block, and how long these are at most.  CU_QUERIES, CU_QUERY_HEAD:
 * queries of many tokens that share them, and how long these are at most.  CU_EXPERTS: the most
 * experts.  Products with codes (product.cu): CU_GROUP elements have one scale of activations,
 * CU_SPAN are a tile's step, the values of CU_SUM_SPANS spans are added by themselves; a block of
 * dot products keeps CU_DOT_SUMS of these sums, CU_DOT_BLOCKS run at a time in a multiprocessor and
 * make bytes of rows of up to CU_DOT_ROW themselves; tiles have CU_TILE_ROWS rows and CU_TILE_FEW
 * or CU_TILE_MANY tokens.  CU_NORM_ROW: the longest row that a norm keeps.  CU_KEPT_HEAD: the
 * longest head that a warp keeps.  TOPK: a block of CU_TOPK_THREADS takes CU_CHUNK numbers or up to
 * CU_CHUNKS times as many, CU_TOPK is the longest list.
 */
enum {
    CU_WARP = 32,
    CU_THREADS = 128,
    CU_ROWS = CU_THREADS / CU_WARP,
    CU_TOKENS = 8,
    CU_PART = 256,
    CU_RUN = 64,
    CU_HEAD = 1024,
    CU_TILE = 4,
    CU_TILE_HEAD = 256,
    CU_QUERIES = 32,
    CU_QUERY_HEAD = 128,
    CU_EXPERTS = 1024,
    CU_GROUP = 32,
    CU_SPAN = 256,
    CU_SUM_SPANS = 8,
    CU_DOT_SUMS = 1024,
    CU_DOT_BLOCKS = 5,
    CU_DOT_ROW = 2048,
    CU_TILE_ROWS = 64,
    CU_TILE_FEW = 8,
    CU_TILE_MANY = 32,
    CU_NORM_THREADS = 512,
    CU_NORM_SHORT = 4 * CU_THREADS,
    CU_NORM_ROW = 16 * CU_NORM_THREADS,
    CU_TOPK_THREADS = 512,
    CU_CHUNK = 2048,
    CU_CHUNKS = 3,
    CU_KEPT_HEAD = 256,
    CU_TOPK = 256
};

typedef struct cu_rows {
    uint64_t at;
    int64_t stride[3];
} cu_rows;

/* Numbers from 0 to 2^31 - 1 divided by one that the host knows, with l = log2 n rounded up:
 * x / n = x * mul >> 31 + l, mul = 2^(31 + l) / n rounded up, which is too large by less than n and
 * so what it gives by less than 1 / n.  A division takes a device some 40 instructions. */
typedef struct cu_divisor {
    uint32_t mul, shift;
} cu_divisor;

static inline cu_divisor cu_divisor_of(int32_t n) {
    uint32_t l = 0;
    while (((uint32_t)1 << l) < (uint32_t)n)
        l++;
    cu_divisor d = {(uint32_t)((((uint64_t)1 << (31 + l)) + (uint32_t)n - 1) / (uint32_t)n),
                    31 + l};
    return d;
}

typedef struct cu_embed {
    uint64_t w, ids;
    cu_rows y;
    int32_t n, n_chunk; /* elements of a row; blocks to a row */
    float scale;
} cu_embed;

/* LINEAR, one of the three of LINEAR_QKV, or GATE_UP_GLU: then w is the gate's, and up the other
 * matrix (else 0). */
typedef struct cu_linear {
    uint64_t w, bias, scale;
    cu_rows x, y;
    int32_t n, m, n_tok, n_group; /* n_group: blocks to CU_ROWS rows, CU_TOKENS or one token each */
    int32_t is_scale_last;
    cu_divisor by_group; /* n_group */
    int32_t act;
    float param;
    uint64_t up;
} cu_linear;

typedef struct cu_experts {
    uint64_t w, bias, scale;
    cu_rows x, y, ids;
    int32_t n, m, n_used, n_expert;
    int32_t has_slots; /* x [T][K][n], not [T][n] */
    int32_t n_pair;    /* tokens times experts used */
} cu_experts;

/* One matrix of a product with codes: W [m][n], or [E][m][n] with experts. */
typedef struct cu_matrix {
    uint64_t w, bias, scale;
    cu_rows y;
    int32_t m, first, column; /* number of its first tile of rows; its place among all m rows */
    int32_t each, more;       /* dot: rows to a block, one more to the first `more` */
} cu_matrix;

/* LINEAR, LINEAR_QKV (three matrices), GATE_UP_GLU (gate and up, y of the first) and
 * LINEAR_EXPERTS of types that codes.cuh has */
typedef struct cu_product {
    cu_matrix part[3];
    cu_rows x, ids;           /* x is f32; of experts [T][n] or [T][K][n], ids [T][K] */
    uint64_t q, order, tiles; /* made by quantise and by group; q 0: dot makes the bytes itself */
    uint64_t sums;            /* f32 [n_split][n_tok][width] */
    int32_t n, n_tok, n_part, n_used;
    int32_t is_glu, is_scale_last, has_slots, n_expert; /* n_expert 0: no experts */
    int32_t has_ids; /* dot: the ids are there before the kernel before has ended */
    int32_t n_unit;  /* of blocks that share rows of W: tokens, pairs or tiles of them */
    int32_t n_split; /* blocks to the sections of a row: 1, or one each, and sum_parts adds */
    int32_t width, n_chunk; /* rows of all matrices; blocks of sum_parts to a token */
    int32_t act;
    float param;
} cu_product;

/* x [T][n] or [T][K][n] to rows of bytes and scales: product.cu */
typedef struct cu_quantise {
    uint64_t q;
    cu_rows x;
    int32_t n, n_row, d2, n_chunk; /* d2: rows to a step of stride[1]; blocks to a row */
} cu_quantise;

/* Pairs (token, expert) by expert */
typedef struct cu_group {
    uint64_t order, tiles;
    cu_rows ids;
    int32_t n_tok, n_used, n_expert, tile, n_tile; /* tile: of so many pairs; room for n_tile */
} cu_group;

/* ADD, MUL, SCALE, ACT, GLU: rows of [d0][d1][d2][n] */
typedef struct cu_map {
    cu_rows a, b, y;
    int32_t d1, d2, n, n_chunk;
    int32_t is_one; /* MUL: b is one number */
    int32_t act;
    float param; /* of the activation; SCALE: the factor */
} cu_map;

/* q: where y is to lie as bytes too, of n_row rows; 0: nowhere */
typedef struct cu_norm {
    uint64_t w, bias, q;
    cu_rows x, y;
    int32_t d1, d2, n, n_vector, kind; /* n_vector: rows of w and bias */
    int32_t n_row;
    float eps;
} cu_norm;

typedef struct cu_add_norm {
    uint64_t w, bias, q;
    cu_rows a, b, sum, y;
    int32_t n, kind, n_row;
    float eps;
} cu_add_norm;

typedef struct cu_pick {
    uint64_t row; /* which rows, i32 */
    cu_rows x, y;
    int32_t n, n_chunk;
} cu_pick;

typedef struct cu_expert_sum {
    cu_rows x, w, y;
    int32_t n_used, n, n_chunk;
} cu_expert_sum;

/* EXPERT_SUM and ADD_NORM of `a` and what it gives, which is not written */
typedef struct cu_sum_norm {
    cu_add_norm norm;
    cu_expert_sum sum;
} cu_sum_norm;

typedef struct cu_route {
    uint64_t bias;
    cu_rows l, ids, w;
    int32_t n, n_used, kind, renorm, n_group, n_group_used;
    float weight_scale;
} cu_route;

/* LINEAR of few tokens and ROUTE of what it gives */
typedef struct cu_linear_route {
    cu_linear linear;
    cu_route route;
    uint64_t count;  /* i32 [T]: blocks that are there, 0 before and after */
    int32_t n_block; /* of a token */
} cu_linear_route;

typedef struct cu_topk_sort {
    uint64_t lists;
    cu_rows x;
    int32_t n, k, chunk, n_chunk; /* elements to a block; blocks to a row */
} cu_topk_sort;

typedef struct cu_topk_merge {
    uint64_t in, out;
    cu_rows x, ids, y;
    int32_t k, n_each, n_list, n_group; /* lists to a block, and of a row before and after */
} cu_topk_merge;

typedef struct cu_rope {
    uint64_t factor, pos;
    cu_rows x, y;
    int32_t n_head, n, first, n_rot, is_neox;
    int32_t n_item, n_chunk; /* pairs, and elements to copy; blocks to a head */
    float ratio, magnitude, ext, ramp_lo, ramp_hi, freq_scale;
} cu_rope;

typedef struct cu_append {
    uint64_t slot, k_pool, v_pool;
    cu_rows k, v;
    int32_t n_head, dk, dv;
} cu_append;

/* Heads [T][n_head][..] of q, k or v.  stride: of a token and of a head.  n_vector: rows of w and
 * bias of their norm; 0: they have none */
typedef struct cu_heads_part {
    uint64_t at, w, bias;
    int64_t stride[2];
    int32_t n_head, n_vector, kind;
    float eps;
} cu_heads_part;

/* NORM, ROPE and KV_APPEND of q, k and v */
typedef struct cu_heads {
    cu_heads_part part[3];
    cu_rope rope; /* but for where x and y are */
    uint64_t slot, k_pool, v_pool;
    int32_t n_tok, d, dv, n_warp; /* n_warp: warps to a token */
} cu_heads;

typedef struct cu_attn {
    uint64_t k_pool, v_pool, sink, pos, seq, ctx, table;
    uint64_t top, part; /* of split sums, f32: [T][H][n_part][2] and [T][H][n_part][dv] */
    uint64_t count;     /* i32 [T][G][n_tile]: parts that are there, 0 before and after */
    uint64_t codes;     /* where y is to lie as bytes too, rows [T][H * dv]; 0: nowhere */
    cu_rows q, y;
    int32_t n_head, n_kv_head, dk, dv, max_blocks, block_tokens;
    int32_t n_tile, n_part; /* tiles of heads to a key head; parts to a token */
    int32_t n_each, n_seq;  /* heads to a key head; sequences */
    /* n_tile, n_kv_head * n_tile, n_part and block_tokens */
    cu_divisor by_tile, by_group, by_part, by_block;
    /* attn_many takes tiles of tile_tokens tokens, of these at least `least` of one sequence that
     * follow one another; attn takes the others */
    int32_t n_tok, tile_tokens, least;
    int32_t window, chunk, is_not_causal;
    float scale, cap, alibi_max;
} cu_attn;

#endif
