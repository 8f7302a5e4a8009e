/* SPDX-License-Identifier: MIT
 *
 * linear.cu - LINEAR and GATE_UP_GLU.  References: ref_linear, ref_gate_up_glu. */
#include "linear.cuh"

template <int T, int TOKENS> DEVICE void gate_up(const cu_gate_up &a) {
    float gate[TOKENS], up[TOKENS];
    row_ahead<T> gate_ahead, up_ahead;
    int o, t0;
    bool is_row = place_of(a.n_group, a.by_group, a.m, TOKENS, &o, &t0);
    int64_t at = o * row_bytes<T>(a.n);
    const uint8_t *gate_row = (const uint8_t *)(uintptr_t)a.gate + at;
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
