/* SPDX-License-Identifier: MIT
 *
 * moe.cu - EMBED, LINEAR_EXPERTS and EXPERT_SUM: what takes rows and experts by number.
 * References: ref_embed, ref_linear_experts, ref_expert_sum. */
#include "weights.cuh"

/* y[t] = scale * W[id[t]].  W [V][n], y f32 [T][n].  A thread takes eight elements. */
template <int T> DEVICE void embed(const cu_embed &a) {
    int t = (int)blockIdx.x / a.n_chunk;
    int r = (int)blockIdx.x % a.n_chunk * CU_THREADS + (int)threadIdx.x;
    const uint8_t *row =
        (const uint8_t *)(uintptr_t)a.w + (int64_t)ints_in(a.ids)[t] * row_bytes<T>(a.n);
    float *out = floats_out(a.y.at + (uint64_t)(t * a.y.stride[2])), w[8];
    if (8 * r + 8 <= a.n) {
        row_run<T>(row, r, w);
        RUN(k) out[8 * r + k] = a.scale * w[k];
    } else if (weights<T>::IS_PLAIN) {
        for (int i = 8 * r; i < a.n; i++)
            out[i] = a.scale * weights<T>::one(row, i);
    }
}

/* y[t][j] = s[e] (W[e] x_tj) + b[e], e = ids[t][j].  x f32 [T][n] or [T][K][n], W [E][m][n], y f32
 * [T][K][m].  A warp takes a row of one pair (t, j), a block CU_ROWS rows; blocks of one set of
 * rows follow one another.  An id outside 0 .. E - 1 is not followed: its row is NaN. */
template <int T> DEVICE void experts(const cu_experts &a) {
    float sum[1];
    int pair = (int)blockIdx.x % a.n_pair, t = pair / a.n_used, j = pair % a.n_used;
    int o = (int)blockIdx.x / a.n_pair * CU_ROWS + warp();
    if (o >= a.m) return;
    int e = ints_in(a.ids.at + (uint64_t)(t * a.ids.stride[2]))[j];
    float *out = floats_out(a.y.at + (uint64_t)(t * a.y.stride[1] + j * a.y.stride[2])) + o;
    if (e < 0 || e >= a.n_expert) {
        if (lane() == 0) *out = float_of(0x7fc00000u);
        return;
    }
    /* x [T][n] has its tokens in dimension 2, x [T][K][n] in dimension 1 */
    int64_t x = a.has_slots ? t * a.x.stride[1] + j * a.x.stride[2] : t * a.x.stride[2];
    int64_t row = (int64_t)e * a.m + o;
    const uint8_t *w = (const uint8_t *)(uintptr_t)a.w + row * row_bytes<T>(a.n);
    float scale = a.scale ? floats_in(a.scale)[e] : 1.0f;
    float bias = a.bias ? floats_in(a.bias)[row] : 0.0f;
    row_ahead<T> ahead;
    begin_row(&ahead, w, a.x.at + (uint64_t)x, a.n);
    row_product<T, 1>(&ahead, w, a.x.at + (uint64_t)x, 0, 1, a.n, sum);
    if (lane() == 0) *out = scale * sum[0] + bias;
}

#define KERNELS(T)                                                                                 \
    KERNEL(embed_##T, cu_embed) {                                                                  \
        embed<T>(a);                                                                               \
    }                                                                                              \
    KERNEL(experts_##T, cu_experts) {                                                              \
        experts<T>(a);                                                                             \
    }
FOR_WEIGHT_TYPES(KERNELS)

/* y[t] = sum_j w[t][j] x[t][j], j rising.  x f32 [T][K][n], w f32 [T][K], y f32 [T][n].  A thread
 * takes an element. */
KERNEL(expert_sum, cu_expert_sum) {
    int t = (int)blockIdx.x / a.n_chunk;
    int i = (int)blockIdx.x % a.n_chunk * CU_THREADS + (int)threadIdx.x;
    const float *weight = floats_in(a.w.at + (uint64_t)(t * a.w.stride[2]));
    float sum = 0;
    if (i >= a.n) return;
    for (int j = 0; j < a.n_used; j++)
        sum = fmaf(weight[j],
                   floats_in(a.x.at + (uint64_t)(t * a.x.stride[1] + j * a.x.stride[2]))[i], sum);
    floats_out(a.y.at + (uint64_t)(t * a.y.stride[2]))[i] = sum;
}
