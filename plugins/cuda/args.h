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

/* CU_THREADS: of every block.  CU_ROWS: rows of weights of a block, one to a warp.  CU_TOKENS:
 * tokens of a block of a product with many.  CU_PART: keys of a part of an attention's sum.
 * CU_HEAD: the longest key or value.  CU_TILE, CU_TILE_HEAD: heads that share their keys and values
 * in a block, and how long these are at most.  CU_EXPERTS: the most experts.  TOPK: CU_CHUNK
 * elements are sorted by a block, CU_LISTS lists merged by one, CU_TOPK the longest list. */
enum {
    CU_WARP = 32,
    CU_THREADS = 128,
    CU_ROWS = CU_THREADS / CU_WARP,
    CU_TOKENS = 8,
    CU_PART = 256,
    CU_HEAD = 1024,
    CU_TILE = 4,
    CU_TILE_HEAD = 256,
    CU_EXPERTS = 1024,
    CU_CHUNK = 1024,
    CU_LISTS = 16,
    CU_TOPK = 256
};

typedef struct cu_rows {
    uint64_t at;
    int64_t stride[3];
} cu_rows;

typedef struct cu_embed {
    uint64_t w, ids;
    cu_rows y;
    int32_t n, n_chunk; /* elements of a row; blocks to a row */
    float scale;
} cu_embed;

/* LINEAR, and one of the three of LINEAR_QKV */
typedef struct cu_linear {
    uint64_t w, bias, scale;
    cu_rows x, y;
    int32_t n, m, n_tok, n_group; /* n_group: blocks to CU_ROWS rows, CU_TOKENS or one token each */
    int32_t is_scale_last;
} cu_linear;

typedef struct cu_gate_up {
    uint64_t gate, up;
    cu_rows x, y;
    int32_t n, m, n_tok, n_group;
    int32_t act;
    float param;
} cu_gate_up;

typedef struct cu_experts {
    uint64_t w, bias, scale;
    cu_rows x, y, ids;
    int32_t n, m, n_used, n_expert;
    int32_t has_slots; /* x [T][K][n], not [T][n] */
    int32_t n_pair;    /* tokens times experts used */
} cu_experts;

/* ADD, MUL, SCALE, ACT, GLU: rows of [d0][d1][d2][n] */
typedef struct cu_map {
    cu_rows a, b, y;
    int32_t d1, d2, n, n_chunk;
    int32_t is_one; /* MUL: b is one number */
    int32_t act;
    float param; /* of the activation; SCALE: the factor */
} cu_map;

typedef struct cu_norm {
    uint64_t w, bias;
    cu_rows x, y;
    int32_t d1, d2, n, n_vector, kind; /* n_vector: rows of w and bias */
    float eps;
} cu_norm;

typedef struct cu_add_norm {
    uint64_t w, bias;
    cu_rows a, b, sum, y;
    int32_t n, kind;
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

typedef struct cu_route {
    uint64_t bias;
    cu_rows l, ids, w;
    int32_t n, n_used, kind, renorm, n_group, n_group_used;
    float weight_scale;
} cu_route;

typedef struct cu_topk_sort {
    uint64_t lists;
    cu_rows x;
    int32_t n, k, n_chunk; /* blocks to a row */
} cu_topk_sort;

typedef struct cu_topk_merge {
    uint64_t in, out;
    cu_rows x, ids, y;
    int32_t k, width, n_list, n_group; /* lists of a row before and after */
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

typedef struct cu_attn {
    uint64_t k_pool, v_pool, sink, pos, seq, ctx, table;
    uint64_t top, part; /* of split sums, f32: [T][H][n_part][2] and [T][H][n_part][dv] */
    cu_rows q, y;
    int32_t n_head, n_kv_head, dk, dv, max_blocks, block_tokens;
    int32_t n_tile, n_part; /* tiles of heads to a key head; parts to a token */
    int32_t window, chunk, is_not_causal;
    float scale, cap, alibi_max;
} cu_attn;

#endif
