/* SPDX-License-Identifier: MIT
 *
 * rows.cu - NORM, ADD_NORM, ACT, GLU, ADD, MUL, SCALE and ROWS.  References: ref_norm.c,
 * ref_elementwise.c.
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

KERNEL_OF(add_norm, cu_add_norm, CU_NORM_THREADS, 2) {
    int t = (int)blockIdx.x;
    norm_of f = {a.w ? floats_in(a.w) : nullptr,
                 a.bias ? floats_in(a.bias) : nullptr,
                 a.n,
                 a.kind,
                 a.eps,
                 a.q,
                 t,
                 a.n_row};
    norm_row<OTHER, CU_NORM_THREADS / CU_WARP>(
        f, {floats_in(a.a.at + (uint64_t)(t * a.a.stride[2])),
            floats_in(a.b.at + (uint64_t)(t * a.b.stride[2])),
            floats_out(a.sum.at + (uint64_t)(t * a.sum.stride[2])),
            floats_out(a.y.at + (uint64_t)(t * a.y.stride[2]))});
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
