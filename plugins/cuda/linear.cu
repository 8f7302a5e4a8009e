/* SPDX-License-Identifier: MIT
 *
 * linear.cu - LINEAR and GATE_UP_GLU.  References: ref_linear, ref_gate_up_glu. */
#include "linear.cuh"

/* Of a warp's sums, that of this lane's token. */
template <int TOKENS> DEVICE float of_lane(const float *sum) {
    float own = sum[0];
    UNROLL for (int t = 1; t < TOKENS; t++) own = lane() == t ? sum[t] : own;
    return own;
}

/* Output o of this lane's token, if it has one. */
template <int TOKENS> DEVICE void put(const cu_linear &a, int o, int t0, float v) {
    int t = t0 + lane();
    if (lane() < TOKENS && t < a.n_tok) floats_out(a.y.at + (uint64_t)(t * a.y.stride[2]))[o] = v;
}

/* GATE_UP_GLU with plain types: both rows begin before x may be read. */
template <int T, int TOKENS> DEVICE void gate_up(const cu_linear &a) {
    float gate[TOKENS], up[TOKENS];
    row_ahead<T> gate_ahead, up_ahead;
    int o, t0;
    bool is_row = place_of(a.n_group, a.by_group, a.m, TOKENS, &o, &t0);
    int64_t at = o * row_bytes<T>(a.n);
    const uint8_t *gate_row = (const uint8_t *)(uintptr_t)a.w + at;
    const uint8_t *up_row = (const uint8_t *)(uintptr_t)a.up + at;
    uint64_t x = a.x.at + (uint64_t)(t0 * a.x.stride[2]);
    if (is_row && TOKENS == 1) {
        begin_row(&gate_ahead, gate_row, x, a.n);
        begin_row(&up_ahead, up_row, x, a.n);
    }
    ahead_go();
    ahead_wait();
    if (!is_row) return;
    row_product<T, TOKENS>(&gate_ahead, gate_row, x, a.x.stride[2], a.n_tok - t0, a.n, gate);
    row_product<T, TOKENS>(&up_ahead, up_row, x, a.x.stride[2], a.n_tok - t0, a.n, up);
    float g = of_lane<TOKENS>(gate), u = of_lane<TOKENS>(up);
    put<TOKENS>(a, o, t0, activate(a.act, g, a.param) * u);
}

/* Both ops with types of blocks: with an up, its row after the gate's and by the same code.  There
 * are many such types, and each takes long to compile. */
template <int T, int TOKENS> DEVICE void linear_blocks(const cu_linear &a) {
    float sum[TOKENS], own = 0, gate = 0, bias = 0, scale = 1;
    row_ahead<T> none;
    int o, t0;
    bool is_row = place_of(a.n_group, a.by_group, a.m, TOKENS, &o, &t0);
    const uint8_t *row = (const uint8_t *)(uintptr_t)a.w + o * row_bytes<T>(a.n);
    uint64_t x = a.x.at + (uint64_t)(t0 * a.x.stride[2]);
    none.is_wide = false;
    if (is_row && a.bias) bias = floats_in(a.bias)[o];
    if (is_row && a.scale) scale = *floats_in(a.scale);
    ahead_go();
    ahead_wait();
    if (!is_row) return;
    UNROLL_BY(1) for (int k = 0; k < (a.up ? 2 : 1); k++) {
        if (k == 1) row = (const uint8_t *)(uintptr_t)a.up + o * row_bytes<T>(a.n);
        row_product<T, TOKENS>(&none, row, x, a.x.stride[2], a.n_tok - t0, a.n, sum);
        gate = own;
        own = of_lane<TOKENS>(sum);
    }
    if (a.up)
        own = activate(a.act, gate, a.param) * own;
    else
        own = a.is_scale_last ? scale * (own + bias) : scale * own + bias;
    put<TOKENS>(a, o, t0, own);
}

#define KERNELS(T, product)                                                                        \
    KERNEL_AHEAD(linear_few_##T, cu_linear) {                                                      \
        product<T, 1>(a);                                                                          \
    }                                                                                              \
    KERNEL_AHEAD(linear_many_##T, cu_linear) {                                                     \
        product<T, CU_TOKENS>(a);                                                                  \
    }
#define PLAIN(T)                                                                                   \
    KERNELS(T, linear)                                                                             \
    KERNEL_AHEAD(gate_up_few_##T, cu_linear) {                                                     \
        gate_up<T, 1>(a);                                                                          \
    }                                                                                              \
    KERNEL_AHEAD(gate_up_many_##T, cu_linear) {                                                    \
        gate_up<T, CU_TOKENS>(a);                                                                  \
    }
#define BLOCKS(T) KERNELS(T, linear_blocks)
FOR_PLAIN_TYPES(PLAIN)
FOR_BLOCK_TYPES(BLOCKS)
