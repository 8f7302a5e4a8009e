/* SPDX-License-Identifier: MIT
 *
 * norm.cuh - the norm of a row by a block: thread i takes fours of elements number i, i +
 * CU_THREADS, ..; sums as block_sum adds.  A row is read once, some fours on the way together, and
 * kept in shared memory where it fits; bytes for products are made on the side (quant.cuh) where q
 * is not 0.
 *
 * Loops stay loops: code that runs once has to come from memory like all else, and unrolled for
 * rows of 8192 it was 8,000 instructions, some 128 KB. */
#ifndef PERI_CUDA_NORM_CUH
#define PERI_CUDA_NORM_CUH
#include "quant.cuh"

/* What a norm does with a row. */
struct norm_of {
    const float *w, *b; /* may be null */
    int n, kind;        /* PERI_NORM_* */
    float eps;
    uint64_t q; /* 0: no bytes */
    int row, n_row;
};

DEVICE float factor_of(const norm_of &f, float sum) {
    return f.kind == 2 ? 1.0f / fmaxf(sqrtf(sum), f.eps) : 1.0f / sqrtf(sum / (float)f.n + f.eps);
}

DEVICE float normed(const norm_of &f, float x, float mean, float factor, float w, float b) {
    float v = (x - mean) * factor;
    if (f.w) v *= w;
    if (f.kind == 1 && f.b) v += b;
    return v;
}

/* Where a row comes from: x, or x + other, which is kept in `sum`; and where it goes. */
struct row_in {
    const float *x, *other;
    float *sum, *y;
    float *kept; /* shared memory for it, or null */
};

/* Fours of a row that is whole ones and aligned, or of any. */
template <bool IS_WHOLE> DEVICE void read_four(const float *x, int i, int n, float *v) {
    if (IS_WHOLE) {
        four_floats f = ((const four_floats *)x)[i];
        UNROLL for (int k = 0; k < 4; k++) v[k] = f.v[k];
    } else {
        UNROLL for (int k = 0; k < 4; k++) v[k] = 4 * i + k < n ? x[4 * i + k] : 0.0f;
    }
}
template <bool IS_WHOLE> DEVICE void write_four(float *y, int i, int n, const float *v) {
    if (IS_WHOLE) {
        ((four_floats *)y)[i] = {{v[0], v[1], v[2], v[3]}};
    } else {
        UNROLL for (int k = 0; k < 4; k++) {
            if (4 * i + k < n) y[4 * i + k] = v[k];
        }
    }
}

/* sum and x - mean of fours number i, or its square. */
template <bool IS_WHOLE>
DEVICE float sum_four(const float *v, int i, int n, float mean, bool is_square, float sum) {
    UNROLL for (int k = 0; k < 4; k++) {
        float d = v[k] - mean;
        if (IS_WHOLE || 4 * i + k < n) sum = is_square ? fmaf(d, d, sum) : sum + d;
    }
    return sum;
}

/* Sum of x - mean of a row, or of its squares; `first`: from where the row comes. */
template <bool IS_WHOLE>
DEVICE float sum_row(const norm_of &f, const row_in &in, bool first, float mean, bool is_square) {
    float sum = 0;
    const float *x = first ? in.x : in.kept ? in.kept : in.sum ? in.sum : in.x;
    UNROLL_BY((IS_WHOLE ? 4 : 1))
    for (int i = (int)threadIdx.x; i < (f.n + 3) / 4; i += CU_THREADS) {
        float v[4], more[4];
        read_four<IS_WHOLE>(x, i, f.n, v);
        if (first && in.other) {
            read_four<IS_WHOLE>(in.other, i, f.n, more);
            UNROLL for (int k = 0; k < 4; k++) v[k] += more[k];
        }
        if (first && in.sum) write_four<IS_WHOLE>(in.sum, i, f.n, v);
        if (first && in.kept) write_four<IS_WHOLE>(in.kept, i, f.n, v);
        sum = sum_four<IS_WHOLE>(v, i, f.n, mean, is_square, sum);
    }
    return sum;
}

/* Each thread goes on with the elements that it kept itself. */
template <bool IS_WHOLE> DEVICE void norm_fours(const norm_of &f, const row_in &in, float *s) {
    bool has_mean = f.kind == 1;
    float mean = 0, sum = sum_row<IS_WHOLE>(f, in, true, 0, !has_mean);
    if (has_mean) {
        mean = block_sum(sum, s) / (float)f.n;
        sum = sum_row<IS_WHOLE>(f, in, false, mean, true);
    }
    float factor = factor_of(f, block_sum(sum, s));
    const float *x = in.kept ? in.kept : in.sum ? in.sum : in.x;
    UNROLL_BY((IS_WHOLE ? 4 : 1))
    for (int i = (int)threadIdx.x; i < (f.n + 3) / 4; i += CU_THREADS) {
        float v[4], w[4] = {1, 1, 1, 1}, b[4] = {};
        read_four<IS_WHOLE>(x, i, f.n, v);
        if (f.w) read_four<IS_WHOLE>(f.w, i, f.n, w);
        if (has_mean && f.b) read_four<IS_WHOLE>(f.b, i, f.n, b);
        UNROLL for (int k = 0; k < 4; k++) v[k] = normed(f, v[k], mean, factor, w[k], b[k]);
        write_four<IS_WHOLE>(in.y, i, f.n, v);
        if (f.q) write_four<IS_WHOLE>(in.kept, i, f.n, v);
    }
}

DEVICE bool is_aligned(const float *p) {
    return (uint64_t)(uintptr_t)p % 16 == 0;
}

/* kept: of CU_NORM_ROW floats, or as many as n.  With q, n is at most that, and whole groups. */
DEVICE void norm_row(const norm_of &f, const row_in &in, float *s) {
    bool is_whole = f.n % 4 == 0 && is_aligned(in.x) && is_aligned(in.y) && is_aligned(in.other) &&
                    is_aligned(in.sum) && is_aligned(f.w) && is_aligned(f.b);
    if (is_whole)
        norm_fours<true>(f, in, s);
    else
        norm_fours<false>(f, in, s);
    if (!f.q) return;
    UNROLL_BY(1)
    for (int i = (int)threadIdx.x; i - (int)threadIdx.x < padded(f.n) / 4; i += CU_THREADS) {
        float v[4] = {};
        if (4 * i < f.n) read_four<true>(in.kept, i, f.n, v);
        store_codes(f.q, f.n_row, f.row, i, f.n, v);
    }
}

/* Of row r of a norm. */
DEVICE norm_of norm_of_row(const cu_norm &a, int r) {
    int64_t v = (int64_t)(r % a.n_vector) * a.n;
    return {a.w ? floats_in(a.w) + v : nullptr,
            a.bias ? floats_in(a.bias) + v : nullptr,
            a.n,
            a.kind,
            a.eps,
            a.q,
            r,
            a.n_row};
}

#endif
