/* SPDX-License-Identifier: MIT
 *
 * product.cuh - what the ways of product.cu have in common: where rows of W and of x are, spans on
 * their way, outputs. */
#ifndef PERI_CUDA_PRODUCT_CUH
#define PERI_CUDA_PRODUCT_CUH
#include "codes.cuh"
#include "quant.cuh"

enum { GROUPS = CU_SPAN / CU_GROUP, TILE_ROWS = 16, UNIT = 16 };
static_assert((int)TILE_ROWS * CU_ROWS == (int)CU_TILE_ROWS, "rows of a warp and of a block");

template <int T> struct span_of {
    enum {
        BYTES = CU_SPAN / weights<T>::N * weights<T>::BYTES,
        SLOT = (BYTES + 2 * (UNIT - 1)) / UNIT * UNIT, /* wherever it begins */
        UNITS = SLOT / UNIT
    };
};

DEVICE int sections_of(int n) {
    return (spans_of(n) + CU_SUM_SPANS - 1) / CU_SUM_SPANS;
}

/* ---- rows of W ---- */

/* Where a block works: tile of rows, matrix, and what comes next in blockIdx. */
struct place {
    int tile, part, unit, section;
};

DEVICE place place_of(const cu_product &a) {
    int b = (int)blockIdx.x / a.n_split;
    place p = {b / a.n_unit, 0, b % a.n_unit, (int)blockIdx.x % a.n_split};
    while (p.part + 1 < a.n_part && !a.is_glu && p.tile >= a.part[p.part + 1].first)
        p.part++;
    p.tile -= a.part[p.part].first;
    return p;
}

/* Row r of a set of `set` rows that belong to one warp, rows `at` .. of the outputs: with a GLU the
 * first half is of the gate and the second of the up, beyond the last row that once more. */
struct row_of {
    int part, o;
};
DEVICE row_of row_at_set(const cu_product &a, const place &p, int at, int r, int set) {
    row_of x = {p.part, at + r};
    if (a.is_glu) {
        x.part = r / (set / 2);
        x.o = at + r % (set / 2);
    }
    if (x.o >= a.part[x.part].m) x.o = a.part[x.part].m - 1;
    return x;
}

template <int T> DEVICE const uint8_t *bytes_of_row(const cu_product &a, row_of r, int expert) {
    const cu_matrix &m = a.part[r.part];
    return global<const uint8_t>(m.w) + ((int64_t)expert * m.m + r.o) * row_bytes<T>(a.n);
}

/* ---- spans on their way ---- */

/* Bytes of `most` of the row at `row` from span k on; 0 beyond its end. */
template <int T> DEVICE int bytes_at(int k, int most, int n) {
    int64_t left = row_bytes<T>(n) - (int64_t)k * span_of<T>::BYTES;
    return left < 0 ? 0 : left < most ? (int)left : most;
}

/* Where a row begins in its slot, and span k of it. */
DEVICE int shift_of(const uint8_t *row) {
    return (int)((uint64_t)(uintptr_t)row % UNIT);
}
template <int T> DEVICE int shift_at(int shift, int k) {
    return (shift + k * span_of<T>::BYTES) % UNIT;
}

/* The block of group g of a span, and the group's number in it. */
template <int T> DEVICE const uint8_t *block_at(const uint8_t *span, int g) {
    return span + g * CU_GROUP / weights<T>::N * weights<T>::BYTES;
}
template <int T> DEVICE int group_in(int g) {
    return g % (weights<T>::N / CU_GROUP);
}

/* Where row r is; d2: rows to a step of stride[1]. */
DEVICE uint64_t at_row_of(const cu_rows &x, int r, int d2) {
    return x.at + (uint64_t)(r / d2 * x.stride[1] + r % d2 * x.stride[2]);
}

/* ---- outputs ---- */

DEVICE float output_value(const cu_matrix &m, int o, int expert, bool is_scale_last, float sum,
                          bool has_experts) {
    float bias = m.bias ? floats_in(m.bias)[(int64_t)expert * m.m + o] : 0.0f;
    float scale = m.scale ? floats_in(m.scale)[has_experts ? expert : 0] : 1.0f;
    return is_scale_last ? scale * (sum + bias) : scale * sum + bias;
}

/* Of token or pair `row`. */
DEVICE float *output_row(const cu_product &a, int part, int row) {
    const cu_rows &y = a.part[part].y;
    if (a.n_expert == 0) return floats_out(y.at + (uint64_t)(row * y.stride[2]));
    return floats_out(at_row_of(y, row, a.n_used));
}

DEVICE void store_sum(const cu_product &a, int part, int row, int o, int expert, float sum) {
    output_row(a, part, row)[o] =
        output_value(a.part[part], o, expert, a.is_scale_last != 0, sum, a.n_expert > 0);
}

/* The expert of a pair, or -1. */
DEVICE int expert_of(const cu_rows &ids, int pair, int n_used, int n_expert) {
    const int32_t *row = ints_in(ids.at + (uint64_t)(pair / n_used * ids.stride[2]));
    int e = read_past_l1(row + pair % n_used);
    return e < 0 || e >= n_expert ? -1 : e;
}

/* The row of q that a token or pair has. */
DEVICE int row_of_q(const cu_product &a, int row) {
    return a.n_expert && !a.has_slots ? row / a.n_used : row;
}
DEVICE int rows_of_q(const cu_product &a) {
    return a.n_expert && a.has_slots ? a.n_tok * a.n_used : a.n_tok;
}

#endif
