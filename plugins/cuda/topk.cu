/* SPDX-License-Identifier: MIT
 *
 * topk.cu - TOPK: the largest elements of each row in falling order, equal ones by rising id.
 * Reference: ref_topk.
 *
 * A row is cut into chunks of CU_CHUNK elements, each of which a block sorts, because one block
 * alone would take longer to read a row than the host to copy it.  Then blocks merge up to CU_LISTS
 * lists each, until one is left.  An element is a number of 64 bits that rises as the element falls
 * and whose low half is its id: no two are equal, so there is one order. */
#include "device.cuh"

#define BEHIND_ALL (~(uint64_t)0) /* behind the end of a row or of a list */

/* NaN counts as minus infinity, and -0 as 0. */
DEVICE uint64_t number_of(float x, int id) {
    uint32_t u = bits_of(x == 0 ? 0.0f : x);
    if (x != x) u = 0xff800000u;
    return (uint64_t)(u & 0x80000000u ? u : ~u & 0x7fffffffu) << 32 | (uint32_t)id;
}

DEVICE uint64_t *numbers_at(uint64_t at) {
    return (uint64_t *)(uintptr_t)at;
}

/* Pair i of those `step` apart in rising (or falling) order. */
DEVICE void order(uint64_t *key, int i, int step, int size) {
    int lo = 2 * step * (i / step) + i % step, hi = lo + step;
    uint64_t a = key[lo], b = key[hi];
    bool is_rising = (lo & size) == 0;
    if ((a > b) != is_rising) return;
    key[lo] = b;
    key[hi] = a;
}

/* lists u64 [R][n_chunk][k]: the first k of each chunk, in order.  Block (r, c). */
KERNEL(topk_sort, cu_topk_sort) {
    __shared__ uint64_t key[CU_CHUNK];
    int r = (int)blockIdx.x / a.n_chunk, first = (int)blockIdx.x % a.n_chunk * CU_CHUNK;
    const float *x = floats_in(a.x.at + (uint64_t)(r * a.x.stride[2]));
    uint64_t *out = numbers_at(a.lists) + (int64_t)blockIdx.x * a.k;
    for (int i = (int)threadIdx.x; i < CU_CHUNK; i += CU_THREADS)
        key[i] = first + i < a.n ? number_of(x[first + i], first + i) : BEHIND_ALL;
    for (int size = 2; size <= CU_CHUNK; size *= 2)
        for (int step = size / 2; step; step /= 2) {
            __syncthreads();
            for (int i = (int)threadIdx.x; i < CU_CHUNK / 2; i += CU_THREADS)
                order(key, i, step, size);
        }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < a.k; i += CU_THREADS)
        out[i] = key[i];
}

/* in u64 [R][n_list][k], out u64 [R][n_group][k] or, when there is one group, ids i32 [R][k] and y
 * f32 [R][k].  Block (r, g) merges lists CU_LISTS g and up; width: the power of two from k on.  The
 * smaller ones of a rising and a falling list rise and fall once, which `width` steps of pairs
 * bring into order. */
KERNEL(topk_merge, cu_topk_merge) {
    __shared__ uint64_t key[CU_TOPK];
    int r = (int)blockIdx.x / a.n_group, first = (int)blockIdx.x % a.n_group * CU_LISTS;
    int n = a.n_list - first < CU_LISTS ? a.n_list - first : CU_LISTS;
    const uint64_t *in = numbers_at(a.in) + ((int64_t)r * a.n_list + first) * a.k;
    for (int i = (int)threadIdx.x; i < a.width; i += CU_THREADS)
        key[i] = i < a.k ? in[i] : BEHIND_ALL;
    for (int l = 1; l < n; l++) {
        in += a.k;
        __syncthreads();
        for (int i = (int)threadIdx.x; i < a.width; i += CU_THREADS) {
            int from = a.width - 1 - i;
            uint64_t other = from < a.k ? in[from] : BEHIND_ALL;
            if (other < key[i]) key[i] = other;
        }
        for (int step = a.width / 2; step; step /= 2) {
            __syncthreads();
            for (int i = (int)threadIdx.x; i < a.width / 2; i += CU_THREADS)
                order(key, i, step, CU_TOPK);
        }
    }
    __syncthreads();
    const float *x = floats_in(a.x.at + (uint64_t)(r * a.x.stride[2]));
    float *y = floats_out(a.y.at + (uint64_t)(r * a.y.stride[2]));
    int32_t *ids = (int32_t *)(uintptr_t)(a.ids.at + (uint64_t)(r * a.ids.stride[2]));
    uint64_t *out = numbers_at(a.out) + (int64_t)blockIdx.x * a.k;
    for (int i = (int)threadIdx.x; i < a.k; i += CU_THREADS) {
        int id = (int)(uint32_t)key[i];
        if (a.n_group > 1) {
            out[i] = key[i];
        } else {
            ids[i] = id;
            y[i] = x[id] != x[id] ? float_of(0xff800000u) : x[id];
        }
    }
}
