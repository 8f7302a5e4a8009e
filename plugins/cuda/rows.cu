/* SPDX-License-Identifier: MIT
 *
 * rows.cu - NORM, ADD_NORM, ACT, GLU, ADD, MUL, SCALE and ROWS.  References: ref_norm.c,
 * ref_elementwise.c.
 *
 * Norms: a block takes a row, thread i the elements i, i + CU_THREADS, ..; sums as block_sum adds.
 * The others: a thread takes an element. */
#include "device.cuh"

/* Sum of x - mean, or of its squares. */
DEVICE float sum_of(const float *x, int n, float mean, bool is_square, float *s) {
    float sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += CU_THREADS) {
        float v = x[i] - mean;
        sum = is_square ? fmaf(v, v, sum) : sum + v;
    }
    return block_sum(sum, s);
}

/* w, b: n elements each, or 0; y may be x.  kind: PERI_NORM_*. */
DEVICE void norm_row(const float *x, const float *w, const float *b, float *y, int n, int kind,
                     float eps, float *s) {
    float mean = kind == 1 ? sum_of(x, n, 0.0f, false, s) / (float)n : 0.0f;
    float sum = sum_of(x, n, mean, true, s);
    float factor = kind == 2 ? 1.0f / fmaxf(sqrtf(sum), eps) : 1.0f / sqrtf(sum / (float)n + eps);
    for (int i = (int)threadIdx.x; i < n; i += CU_THREADS) {
        float v = (x[i] - mean) * factor;
        if (w) v *= w[i];
        if (kind == 1 && b) v += b[i];
        y[i] = v;
    }
}

KERNEL(norm, cu_norm) {
    __shared__ float s[CU_ROWS];
    int r = (int)blockIdx.x;
    int64_t v = (int64_t)(r % a.n_vector) * a.n;
    norm_row(floats_in(row_at(a.x, r, a.d1, a.d2)), a.w ? floats_in(a.w) + v : nullptr,
             a.bias ? floats_in(a.bias) + v : nullptr, floats_out(row_at(a.y, r, a.d1, a.d2)), a.n,
             a.kind, a.eps, s);
}

KERNEL(add_norm, cu_add_norm) {
    __shared__ float s[CU_ROWS];
    int t = (int)blockIdx.x;
    const float *p = floats_in(a.a.at + (uint64_t)(t * a.a.stride[2]));
    const float *q = floats_in(a.b.at + (uint64_t)(t * a.b.stride[2]));
    float *out = floats_out(a.sum.at + (uint64_t)(t * a.sum.stride[2]));
    for (int i = (int)threadIdx.x; i < a.n; i += CU_THREADS)
        out[i] = p[i] + q[i];
    /* every thread goes on with the elements it wrote */
    norm_row(out, floats_in(a.w), floats_in(a.bias),
             floats_out(a.y.at + (uint64_t)(t * a.y.stride[2])), a.n, a.kind, a.eps, s);
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
