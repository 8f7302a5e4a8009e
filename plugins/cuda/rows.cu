/* SPDX-License-Identifier: MIT
 *
 * rows.cu - NORM, ADD_NORM (and EXPERT_SUM before it), ACT, GLU, ADD, MUL, SCALE and ROWS.
 * References: ref_norm.c, ref_elementwise.c, ref_expert_sum.
 *
 * Norms: a block takes a row (norm.cuh).  The others: a thread takes an element. */
#include "norm.cuh"

template <int WARPS> DEVICE void norm(const cu_norm &a) {
    int r = (int)blockIdx.x;
    norm_row<ALONE, WARPS>(norm_of_row(a, r), {floats_in(row_at(a.x, r, a.d1, a.d2)), nullptr,
                                               nullptr, floats_out(row_at(a.y, r, a.d1, a.d2))});
}
KERNEL_AHEAD(norm_short, cu_norm) {
    norm<CU_ROWS>(a);
}
KERNEL_OF(norm, cu_norm, CU_NORM_THREADS, 2) {
    norm<CU_NORM_THREADS / CU_WARP>(a);
}

DEVICE norm_of norm_of_sum(const cu_add_norm &a) {
    return {a.w ? floats_in(a.w) : nullptr,
            a.bias ? floats_in(a.bias) : nullptr,
            a.n,
            a.kind,
            a.eps,
            a.q,
            (int)blockIdx.x,
            a.n_row};
}
DEVICE row_in row_of_sum(const cu_add_norm &a) {
    int t = (int)blockIdx.x;
    return {floats_in(a.a.at + (uint64_t)(t * a.a.stride[2])),
            floats_in(a.b.at + (uint64_t)(t * a.b.stride[2])),
            floats_out(a.sum.at + (uint64_t)(t * a.sum.stride[2])),
            floats_out(a.y.at + (uint64_t)(t * a.y.stride[2]))};
}
KERNEL_OF(add_norm, cu_add_norm, CU_NORM_THREADS, 2) {
    norm_row<OTHER, CU_NORM_THREADS / CU_WARP>(norm_of_sum(a), row_of_sum(a));
}
/* x [T][K][n], w [T][K]: as expert_sum (moe.cu). */
KERNEL_OF(sum_norm, cu_sum_norm, CU_NORM_THREADS, 1) {
    int t = (int)blockIdx.x;
    row_in in = row_of_sum(a.norm);
    in.other = floats_in(a.sum.x.at + (uint64_t)(t * a.sum.x.stride[1]));
    in.weight = floats_in(a.sum.w.at + (uint64_t)(t * a.sum.w.stride[2]));
    in.stride = a.sum.x.stride[2];
    in.n_used = a.sum.n_used;
    norm_row<EXPERTS, CU_NORM_THREADS / CU_WARP>(norm_of_sum(a.norm), in);
}

/* Row r and element i of this thread; false beyond the row. */
DEVICE bool element_of(int n, int n_chunk, int *r, int *i) {
    *r = (int)blockIdx.x / n_chunk;
    *i = (int)blockIdx.x % n_chunk * CU_THREADS + (int)threadIdx.x;
    return *i < n;
}

#define MAP(name, value)                                                                           \
    KERNEL(name, cu_map) {                                                                         \
        int r, i;                                                                                  \
        if (!element_of(a.n, a.n_chunk, &r, &i)) return;                                           \
        float x = floats_in(row_at(a.a, r, a.d1, a.d2))[i];                                        \
        floats_out(row_at(a.y, r, a.d1, a.d2))[i] = (value);                                       \
    }
#define OTHER(k) floats_in(row_at(a.b, r, a.d1, a.d2))[k]

MAP(act, activate(a.act, x, a.param))
MAP(glu, activate(a.act, x, a.param) * OTHER(i))
MAP(add, x + OTHER(i))
MAP(mul, x *OTHER(a.is_one ? 0 : i))
MAP(scale, a.param *x)

/* ROWS: y[r] = x[row[r]].  x f32 [T][n], y f32 [R][n]. */
KERNEL(pick, cu_pick) {
    int r, i;
    if (!element_of(a.n, a.n_chunk, &r, &i)) return;
    const float *in = floats_in(a.x.at + (uint64_t)(ints_in(a.row)[r] * a.x.stride[2]));
    floats_out(a.y.at + (uint64_t)(r * a.y.stride[2]))[i] = in[i];
}
