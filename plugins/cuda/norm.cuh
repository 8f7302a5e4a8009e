/* SPDX-License-Identifier: MIT
 *
 * norm.cuh - the norm of a row by a block of WARPS warps: thread i takes fours of elements number
 * i, i + WARPS * CU_WARP, ..; sums as block_sum adds.  Bytes for products are made on the side
 * (quant.cuh) where q is not 0.
 *
 * A step has few rows, one after the other with what they wait for, so what counts is how long one
 * takes: all of it is read at once and stays in registers, the weights before the kernel before has
 * ended (device.cuh), and no barrier is needed but one a sum.  Blocks of CU_NORM_THREADS threads,
 * because these have registers for rows of CU_NORM_ROW; twice as many would do no less work, of
 * which that on bytes and sums is most, and add more sums of warps.  Idle warps add zeros, so that
 * blocks of CU_THREADS threads give the same bits for rows up to CU_NORM_SHORT.
 *
 * Other rows are read again for each step.  There loops stay loops: code that runs once has to come
 * from memory like all else. */
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

/* 1 / n, which is known before the sum is. */
DEVICE float share_of(const norm_of &f) {
    return 1.0f / (float)f.n;
}

DEVICE float factor_of(const norm_of &f, float sum, float share) {
    return f.kind == 2 ? 1.0f / fmaxf(sqrtf(sum), f.eps) : 1.0f / sqrtf(sum * share + f.eps);
}

DEVICE float normed(const norm_of &f, float x, float mean, float factor, float w, float b) {
    float v = (x - mean) * factor;
    if (f.w) v *= w;
    if (f.kind == 1 && f.b) v += b;
    return v;
}

/* Where a row comes from: x, or with OTHER x + other, which is kept in `sum`, where with EXPERTS
 * `other` is the sum of n_used rows, `stride` bytes apart, times their weights; and where it goes.
 */
enum { ALONE, OTHER, EXPERTS };
struct row_in {
    const float *x, *other;
    float *sum, *y;
    const float *weight = nullptr;
    int64_t stride = 0;
    int n_used = 0;
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

/* As kernel expert_sum, EIGHT rows on their way together. */
template <bool IS_WHOLE> DEVICE void sum_experts(const row_in &in, int i, int n, float *sum) {
    enum { EIGHT = 8 };
    UNROLL_BY(1) for (int first = 0; first < in.n_used; first += EIGHT) {
        float v[EIGHT][4], weight[EIGHT];
        UNROLL for (int j = 0; j < EIGHT; j++) {
            int at = first + j < in.n_used ? first + j : in.n_used - 1;
            weight[j] = in.weight[at];
            read_four<IS_WHOLE>((const float *)((const char *)in.other + at * in.stride), i, n,
                                v[j]);
        }
        UNROLL for (int j = 0; j < EIGHT; j++)
            UNROLL for (int k = 0; k < 4; k++) if (first + j < in.n_used) sum[k] =
                fmaf(weight[j], v[j][k], sum[k]);
    }
}

template <int FROM, bool IS_WHOLE> DEVICE void read_row(const row_in &in, int i, int n, float *v) {
    read_four<IS_WHOLE>(in.x, i, n, v);
    if (FROM == ALONE) return;
    float more[4] = {};
    if (FROM == OTHER)
        read_four<IS_WHOLE>(in.other, i, n, more);
    else
        sum_experts<IS_WHOLE>(in, i, n, more);
    UNROLL for (int k = 0; k < 4; k++) v[k] += more[k];
}

/* Four of w, or of b. */
template <bool IS_WHOLE> DEVICE void read_w(const norm_of &f, int i, float *w) {
    if (f.w) read_four<IS_WHOLE>(f.w, i, f.n, w);
}
template <bool IS_WHOLE> DEVICE void read_b(const norm_of &f, int i, float *b) {
    if (f.kind == 1 && f.b) read_four<IS_WHOLE>(f.b, i, f.n, b);
}

/* ---- a row that stays in registers -------------------------------------------------------------
 *
 * Of whole fours, EACH of them to a thread.  Without branches, so that all reads are under way
 * before the first is waited for: a thread beyond the row reads its last four, whose values it
 * drops.  Where a thread has four of them, w comes after the row: two blocks of a multiprocessor
 * leave a thread 64 registers, and more of them spilled. */

template <int WARPS> DEVICE int four_at(int k) {
    return (int)threadIdx.x + k * WARPS * CU_WARP;
}

/* Sum of x - mean, or of its squares. */
template <int WARPS, int EACH>
DEVICE float sum_kept(const float (*v)[4], int n, float mean, bool is_square, float *s) {
    float sum = 0;
    UNROLL for (int k = 0; k < EACH; k++) {
        float with = sum_four<true>(v[k], 0, n, mean, is_square, sum);
        sum = 4 * four_at<WARPS>(k) < n ? with : sum;
    }
    return block_sum<WARPS>(sum, s);
}

template <int FROM, int WARPS, int EACH>
DEVICE void norm_kept(const norm_of &f, const row_in &in, float (*s)[WARPS]) {
    float v[EACH][4], w[EACH][4], mean = 0, share = share_of(f);
    int at[EACH];
    UNROLL for (int k = 0; k < EACH; k++) {
        int i = four_at<WARPS>(k);
        at[k] = 4 * i < f.n ? i : f.n / 4 - 1;
        UNROLL for (int e = 0; e < 4; e++) w[k][e] = 1; /* a factor that changes no bits */
    }
    UNROLL for (int k = 0; k < EACH && EACH < 4; k++) read_w<true>(f, at[k], w[k]);
    ahead_go();
    ahead_wait();
    UNROLL for (int k = 0; k < EACH; k++) read_row<FROM, true>(in, at[k], f.n, v[k]);
    UNROLL for (int k = 0; k < EACH && EACH >= 4; k++) read_w<true>(f, at[k], w[k]);
    UNROLL for (int k = 0; k < EACH && FROM != ALONE; k++) if (4 * four_at<WARPS>(k) < f.n)
        write_four<true>(in.sum, at[k], f.n, v[k]);
    if (f.kind == 1) mean = sum_kept<WARPS, EACH>(v, f.n, 0, false, s[0]) * share;
    float factor = factor_of(f, sum_kept<WARPS, EACH>(v, f.n, mean, true, s[1]), share);
    UNROLL for (int k = 0; k < EACH; k++) UNROLL for (int e = 0; e < 4; e++) v[k][e] =
        (v[k][e] - mean) * factor * w[k][e];
    if (f.kind == 1 && f.b) {
        UNROLL for (int k = 0; k < EACH; k++) {
            float b[4];
            read_four<true>(f.b, at[k], f.n, b);
            UNROLL for (int e = 0; e < 4; e++) v[k][e] += b[e];
        }
    }
    UNROLL for (int k = 0; k < EACH; k++) {
        bool is_in = 4 * four_at<WARPS>(k) < f.n;
        if (is_in) write_four<true>(in.y, at[k], f.n, v[k]);
        UNROLL for (int e = 0; e < 4; e++) v[k][e] = is_in ? v[k][e] : 0;
    }
    if (!f.q) return;
    store_codes<EACH>(global<uint8_t>(f.q), f.n_row, f.row, four_at<WARPS>(0), WARPS * CU_WARP, f.n,
                      v);
}

/* ---- any row -----------------------------------------------------------------------------------
 *
 * Each thread goes on with the elements that it wrote itself. */

template <int FROM, int WARPS, bool IS_WHOLE>
DEVICE float sum_read(const norm_of &f, const row_in &in, bool is_first, float mean, bool is_square,
                      float *s) {
    float sum = 0;
    UNROLL_BY((IS_WHOLE ? 4 : 1))
    for (int i = (int)threadIdx.x; i < (f.n + 3) / 4; i += WARPS * CU_WARP) {
        float v[4];
        if (is_first) {
            read_row<FROM, IS_WHOLE>(in, i, f.n, v);
            if (FROM != ALONE) write_four<IS_WHOLE>(in.sum, i, f.n, v);
        } else {
            read_four<IS_WHOLE>(FROM == ALONE ? in.x : in.sum, i, f.n, v);
        }
        sum = sum_four<IS_WHOLE>(v, i, f.n, mean, is_square, sum);
    }
    return block_sum<WARPS>(sum, s);
}

template <int FROM, int WARPS, bool IS_WHOLE>
DEVICE void norm_read(const norm_of &f, const row_in &in, float (*s)[WARPS]) {
    bool has_mean = f.kind == 1;
    float share = share_of(f), mean = 0;
    ahead_go();
    ahead_wait();
    float sum = sum_read<FROM, WARPS, IS_WHOLE>(f, in, true, 0, !has_mean, s[0]);
    if (has_mean) {
        mean = sum * share;
        sum = sum_read<FROM, WARPS, IS_WHOLE>(f, in, false, mean, true, s[1]);
    }
    float factor = factor_of(f, sum, share);
    int n = f.q ? padded(f.n) : f.n, first = (int)threadIdx.x;
    UNROLL_BY(1)
    for (int i = first; 4 * (i - first) < n; i += WARPS * CU_WARP) {
        float v[4] = {}, w[4] = {}, b[4] = {};
        if (4 * i < f.n) {
            read_four<IS_WHOLE>(FROM == ALONE ? in.x : in.sum, i, f.n, v);
            read_w<IS_WHOLE>(f, i, w);
            read_b<IS_WHOLE>(f, i, b);
            UNROLL for (int e = 0; e < 4; e++) v[e] = normed(f, v[e], mean, factor, w[e], b[e]);
            write_four<IS_WHOLE>(in.y, i, f.n, v);
        }
        if (f.q) store_codes(global<uint8_t>(f.q), f.n_row, f.row, i, f.n, v);
    }
}

/* ---- either ------------------------------------------------------------------------------------
 */

DEVICE uint32_t low_of(const float *p) {
    return (uint32_t)(uintptr_t)p;
}
DEVICE bool is_aligned(const float *p) {
    return low_of(p) % 16 == 0;
}

/* Says ahead_wait.  With q, n is at most CU_NORM_ROW, and whole groups. */
template <int FROM, int WARPS> DEVICE void norm_row(const norm_of &f, const row_in &in) {
    enum { ROUND = 4 * WARPS * CU_WARP };
    alignas(16) __shared__ float s[2][WARPS];
    uint32_t odd = low_of(in.x) | low_of(in.y) | low_of(in.other) | low_of(in.sum) | low_of(f.w) |
                   low_of(f.b) | (uint32_t)in.stride | 4 * (uint32_t)f.n;
    bool is_whole = odd % 16 == 0;
    if (!is_whole)
        norm_read<FROM, WARPS, false>(f, in, s);
    else if (WARPS == CU_ROWS || f.n <= ROUND) /* of CU_ROWS warps, rows up to CU_NORM_SHORT */
        norm_kept<FROM, WARPS, 1>(f, in, s);
    else if (f.n <= 2 * ROUND)
        norm_kept<FROM, WARPS, 2>(f, in, s);
    else if (f.n <= 4 * ROUND)
        norm_kept<FROM, WARPS, 4>(f, in, s);
    else
        norm_read<FROM, WARPS, true>(f, in, s);
}

/* Of row r of a norm. */
DEVICE norm_of norm_of_row(const cu_norm &a, int r) {
    int64_t v = a.n_vector == 1 ? 0 : (int64_t)(r % a.n_vector) * a.n;
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
