/* SPDX-License-Identifier: MIT
 *
 * linear.cu - LINEAR and GATE_UP_GLU.  References: ref_linear, ref_gate_up_glu.
 *
 * x f32 [T][n], W [m][n], y f32 [T][m].  A warp takes one row of W and one token (few) or CU_TOKENS
 * (many), a block CU_ROWS rows; blocks that share rows follow one another.  The sum of an output is
 * the same in both. */
#include "weights.cuh"

/* Row and first token of this warp; false beyond the last row. */
DEVICE bool place_of(int n_group, int m, int tokens, int *o, int *t) {
    *o = (int)blockIdx.x / n_group * CU_ROWS + warp();
    *t = (int)blockIdx.x % n_group * tokens;
    return *o < m;
}

/* A warp's one row of weights begins before x may be read (row_ahead). */
template <int T, int TOKENS> DEVICE void linear(const cu_linear &a) {
    float sum[TOKENS], bias = 0, scale = 1;
    row_ahead<T> ahead;
    int o, t0;
    bool is_row = place_of(a.n_group, a.m, TOKENS, &o, &t0);
    const uint8_t *row = (const uint8_t *)(uintptr_t)a.w + o * row_bytes<T>(a.n);
    uint64_t x = a.x.at + (uint64_t)(t0 * a.x.stride[2]);
    if (is_row) {
        if (TOKENS == 1) begin_row(&ahead, row, x, a.n);
        if (a.bias) bias = floats_in(a.bias)[o];
        if (a.scale) scale = *floats_in(a.scale);
    }
    ahead_wait();
    if (!is_row) return;
    row_product<T, TOKENS>(&ahead, row, x, a.x.stride[2], a.n_tok - t0, a.n, sum);
    UNROLL for (int t = 0; t < TOKENS; t++) {
        if (lane() != t || t0 + t >= a.n_tok) continue;
        float v = a.is_scale_last ? scale * (sum[t] + bias) : scale * sum[t] + bias;
        floats_out(a.y.at + (uint64_t)((t0 + t) * a.y.stride[2]))[o] = v;
    }
}

template <int T, int TOKENS> DEVICE void gate_up(const cu_gate_up &a) {
    float gate[TOKENS], up[TOKENS];
    row_ahead<T> gate_ahead, up_ahead;
    int o, t0;
    bool is_row = place_of(a.n_group, a.m, TOKENS, &o, &t0);
    int64_t at = o * row_bytes<T>(a.n);
    const uint8_t *gate_row = (const uint8_t *)(uintptr_t)a.gate + at;
    const uint8_t *up_row = (const uint8_t *)(uintptr_t)a.up + at;
    uint64_t x = a.x.at + (uint64_t)(t0 * a.x.stride[2]);
    if (is_row && TOKENS == 1) {
        begin_row(&gate_ahead, gate_row, x, a.n);
        begin_row(&up_ahead, up_row, x, a.n);
    }
    ahead_wait();
    if (!is_row) return;
    row_product<T, TOKENS>(&gate_ahead, gate_row, x, a.x.stride[2], a.n_tok - t0, a.n, gate);
    row_product<T, TOKENS>(&up_ahead, up_row, x, a.x.stride[2], a.n_tok - t0, a.n, up);
    UNROLL for (int t = 0; t < TOKENS; t++) {
        if (lane() != t || t0 + t >= a.n_tok) continue;
        float v = activate(a.act, gate[t], a.param) * up[t];
        floats_out(a.y.at + (uint64_t)((t0 + t) * a.y.stride[2]))[o] = v;
    }
}

#define KERNELS(T)                                                                                 \
    KERNEL_AHEAD(linear_few_##T, cu_linear) {                                                      \
        linear<T, 1>(a);                                                                           \
    }                                                                                              \
    KERNEL_AHEAD(linear_many_##T, cu_linear) {                                                     \
        linear<T, CU_TOKENS>(a);                                                                   \
    }                                                                                              \
    KERNEL_AHEAD(gate_up_few_##T, cu_gate_up) {                                                    \
        gate_up<T, 1>(a);                                                                          \
    }                                                                                              \
    KERNEL_AHEAD(gate_up_many_##T, cu_gate_up) {                                                   \
        gate_up<T, CU_TOKENS>(a);                                                                  \
    }
FOR_WEIGHT_TYPES(KERNELS)
