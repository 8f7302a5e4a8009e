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

template <int T, int TOKENS> DEVICE void linear(const cu_linear &a) {
    float sum[TOKENS];
    int o, t0;
    if (!place_of(a.n_group, a.m, TOKENS, &o, &t0)) return;
    const uint8_t *row = (const uint8_t *)(uintptr_t)a.w + o * row_bytes<T>(a.n);
    row_product<T, TOKENS>(row, a.x.at + (uint64_t)(t0 * a.x.stride[2]), a.x.stride[2],
                           a.n_tok - t0, a.n, sum);
    float bias = a.bias ? floats_in(a.bias)[o] : 0.0f, scale = a.scale ? *floats_in(a.scale) : 1.0f;
    UNROLL for (int t = 0; t < TOKENS; t++) {
        if (lane() != t || t0 + t >= a.n_tok) continue;
        float v = a.is_scale_last ? scale * (sum[t] + bias) : scale * sum[t] + bias;
        floats_out(a.y.at + (uint64_t)((t0 + t) * a.y.stride[2]))[o] = v;
    }
}

template <int T, int TOKENS> DEVICE void gate_up(const cu_gate_up &a) {
    float gate[TOKENS], up[TOKENS];
    int o, t0;
    if (!place_of(a.n_group, a.m, TOKENS, &o, &t0)) return;
    int64_t at = o * row_bytes<T>(a.n);
    uint64_t x = a.x.at + (uint64_t)(t0 * a.x.stride[2]);
    row_product<T, TOKENS>((const uint8_t *)(uintptr_t)a.gate + at, x, a.x.stride[2], a.n_tok - t0,
                           a.n, gate);
    row_product<T, TOKENS>((const uint8_t *)(uintptr_t)a.up + at, x, a.x.stride[2], a.n_tok - t0,
                           a.n, up);
    UNROLL for (int t = 0; t < TOKENS; t++) {
        if (lane() != t || t0 + t >= a.n_tok) continue;
        float v = activate(a.act, gate[t], a.param) * up[t];
        floats_out(a.y.at + (uint64_t)((t0 + t) * a.y.stride[2]))[o] = v;
    }
}

#define KERNELS(T)                                                                                 \
    KERNEL(linear_few_##T, cu_linear) {                                                            \
        linear<T, 1>(a);                                                                           \
    }                                                                                              \
    KERNEL(linear_many_##T, cu_linear) {                                                           \
        linear<T, CU_TOKENS>(a);                                                                   \
    }                                                                                              \
    KERNEL(gate_up_few_##T, cu_gate_up) {                                                          \
        gate_up<T, 1>(a);                                                                          \
    }                                                                                              \
    KERNEL(gate_up_many_##T, cu_gate_up) {                                                         \
        gate_up<T, CU_TOKENS>(a);                                                                  \
    }
FOR_WEIGHT_TYPES(KERNELS)
