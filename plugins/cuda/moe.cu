/* SPDX-License-Identifier: MIT
 *
 * moe.cu - EMBED, ROUTE, LINEAR_EXPERTS and EXPERT_SUM: what picks rows and experts by number.
 * References: ref_embed, ref_route, ref_linear_experts, ref_expert_sum. */
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
    row_product<T, 1>((const uint8_t *)(uintptr_t)a.w + row * row_bytes<T>(a.n),
                      a.x.at + (uint64_t)x, 0, 1, a.n, sum);
    float scale = a.scale ? floats_in(a.scale)[e] : 1.0f;
    float bias = a.bias ? floats_in(a.bias)[row] : 0.0f;
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

/* ---- ROUTE --------------------------------------------------------------------------------------
 *
 * l f32 [T][E], bias f32 [E], ids i32 [T][K], w f32 [T][K].  The first warp of block t takes token
 * t. In doubles, so that two different logits do not become equal. */

/* The open index with the largest value in lo .. hi - 1, the lowest of equals; -1 when none is
 * open. By the whole warp. */
DEVICE int best_open(const double *value, const uint8_t *is_open, int lo, int hi) {
    int best = -1;
    for (int i = lo + lane(); i < hi; i += CU_WARP)
        if (is_open[i] && (best < 0 || value[i] > value[best])) best = i;
    UNROLL for (int mask = CU_WARP / 2; mask; mask /= 2) {
        int other = __shfl_xor_sync(0xffffffffu, best, mask);
        int low = best < other ? best : other, high = best < other ? other : best;
        best = low < 0 || value[high] > value[low] ? high : low;
    }
    return best;
}

DEVICE double warp_sum_double(double v) {
    UNROLL for (int mask = CU_WARP / 2; mask; mask /= 2) v += __shfl_xor_sync(0xffffffffu, v, mask);
    return v;
}

/* By the whole warp. */
DEVICE void softmax(double *p, int n) {
    double top = p[0], sum = 0;
    for (int i = 1; i < n; i++)
        if (p[i] > top) top = p[i];
    __syncwarp();
    for (int i = lane(); i < n; i += CU_WARP)
        sum += p[i] = exp(p[i] - top);
    sum = warp_sum_double(sum);
    for (int i = lane(); i < n; i += CU_WARP)
        p[i] /= sum;
    __syncwarp();
}

/* Close the experts of all but the n_used groups with the best two. */
DEVICE void close_groups(const double *rank, uint8_t *is_open, double *score, uint8_t *is_left,
                         const cu_route &a) {
    int size = a.n / a.n_group;
    for (int g = 0; g < a.n_group; g++) {
        int first = best_open(rank, is_open, g * size, (g + 1) * size);
        __syncwarp();
        if (lane() == 0) is_open[first] = 0;
        __syncwarp();
        int second = best_open(rank, is_open, g * size, (g + 1) * size);
        __syncwarp();
        if (lane() == 0) {
            is_open[first] = 1;
            score[g] = rank[first] + (second < 0 ? 0 : rank[second]);
            is_left[g] = 1;
        }
        __syncwarp();
    }
    for (int k = 0; k < a.n_group_used; k++) {
        int best = best_open(score, is_left, 0, a.n_group);
        __syncwarp();
        if (lane() == 0) is_left[best] = 0;
        __syncwarp();
    }
    for (int i = lane(); i < a.n; i += CU_WARP)
        is_open[i] = !is_left[i / size];
    __syncwarp();
}

KERNEL(route, cu_route) {
    __shared__ double p[CU_EXPERTS], rank[CU_EXPERTS], chosen[CU_EXPERTS];
    __shared__ uint8_t is_open[CU_EXPERTS], is_left[CU_EXPERTS];
    int t = (int)blockIdx.x;
    if (warp() > 0) return;
    const float *in = floats_in(a.l.at + (uint64_t)(t * a.l.stride[2]));
    int32_t *id = (int32_t *)(uintptr_t)(a.ids.at + (uint64_t)(t * a.ids.stride[2]));
    float *out = floats_out(a.w.at + (uint64_t)(t * a.w.stride[2]));
    for (int i = lane(); i < a.n; i += CU_WARP) {
        double x = in[i];
        p[i] = a.kind == 1 ? 1 / (1 + exp(-x)) : x;
        is_open[i] = 1;
    }
    __syncwarp();
    if (a.kind == 0) softmax(p, a.n);
    for (int i = lane(); i < a.n; i += CU_WARP)
        rank[i] = p[i] + (a.bias ? (double)floats_in(a.bias)[i] : 0);
    __syncwarp();
    if (a.n_group > 1) close_groups(rank, is_open, chosen, is_left, a); /* chosen: not yet used */
    for (int k = 0; k < a.n_used; k++) {
        int best = best_open(rank, is_open, 0, a.n);
        __syncwarp();
        if (lane() == 0) {
            is_open[best] = 0;
            id[k] = best;
            chosen[k] = p[best];
        }
        __syncwarp();
    }
    if (a.kind == 2) softmax(chosen, a.n_used);
    double sum = 0, factor = a.weight_scale;
    for (int k = 0; k < a.n_used; k++)
        sum += chosen[k];
    if (a.renorm) factor /= sum < 0x1p-14 ? 0x1p-14 : sum;
    for (int k = lane(); k < a.n_used; k += CU_WARP)
        out[k] = (float)(chosen[k] * factor);
}
