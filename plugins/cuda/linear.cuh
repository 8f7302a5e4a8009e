/* SPDX-License-Identifier: MIT
 *
 * linear.cuh - rows of weights times tokens, where activations are taken as they are.
 *
 * x f32 [T][n], W [m][n], y f32 [T][m].  A warp takes one row of W and one token (few) or CU_TOKENS
 * (many), a block CU_ROWS rows; blocks that share rows follow one another.  The sum of an output is
 * the same in both. */
#ifndef PERI_CUDA_LINEAR_CUH
#define PERI_CUDA_LINEAR_CUH
#include "weights.cuh"

/* Row and first token of this warp; false beyond the last row. */
DEVICE bool place_of(int n_group, const cu_divisor &by_group, int m, int tokens, int *o, int *t) {
    int rows = quotient((int)blockIdx.x, by_group);
    *o = rows * CU_ROWS + warp();
    *t = ((int)blockIdx.x - rows * n_group) * tokens;
    return *o < m;
}

/* With plain types: a warp's one row of weights begins before x may be read (row_ahead).  The
 * block's first token. */
template <int T, int TOKENS> DEVICE int linear(const cu_linear &a) {
    float sum[TOKENS], bias = 0, scale = 1;
    row_ahead<T> ahead;
    int o, t0;
    bool is_row = place_of(a.n_group, a.by_group, a.m, TOKENS, &o, &t0);
    const uint8_t *row = (const uint8_t *)(uintptr_t)a.w + o * row_bytes<T>(a.n);
    uint64_t x = a.x.at + (uint64_t)(t0 * a.x.stride[2]);
    if (is_row) {
        if (TOKENS == 1) begin_row(&ahead, row, x, a.n);
        if (a.bias) bias = floats_in(a.bias)[o];
        if (a.scale) scale = *floats_in(a.scale);
    }
    ahead_go();
    ahead_wait();
    if (!is_row) return t0;
    row_product<T, TOKENS>(&ahead, row, x, a.x.stride[2], a.n_tok - t0, a.n, sum);
    UNROLL for (int t = 0; t < TOKENS; t++) {
        if (lane() != t || t0 + t >= a.n_tok) continue;
        float v = a.is_scale_last ? scale * (sum[t] + bias) : scale * sum[t] + bias;
        floats_out(a.y.at + (uint64_t)((t0 + t) * a.y.stride[2]))[o] = v;
    }
    return t0;
}

#endif
