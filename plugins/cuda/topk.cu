/* SPDX-License-Identifier: MIT
 *
 * topk.cu - TOPK: the largest elements of each row in falling order, equal ones by rising id.
 * Reference: ref_topk.
 *
 * A row is cut into chunks, of each of which a block finds the first k, in no order, because one
 * block alone would take longer to read a row than the host to copy it.  Then blocks find the first
 * k of as many lists as make CU_CHUNKS CU_CHUNK numbers, until one is left, which orders its own.
 * Blocks have CU_TOPK_THREADS threads: what a thread does is one instruction after the other.
 * An element is a number of 64 bits that rises as the element falls and whose low half is its id:
 * no two are equal, so there is one order. */
#include "device.cuh"

#define BEHIND_ALL  (~(uint64_t)0) /* behind the end of a row or of a list */
#define BINS        256            /* values of a byte */
#define TOP         7              /* the first byte of a number */
#define OWN_BINS(b) UNROLL for (int b = 0; b < BINS / CU_WARP; b++)
#define SLOTS(s)    UNROLL for (int s = 0; s < PER; s++)
#define FEW         (CU_CHUNK / CU_TOPK_THREADS) /* numbers of a thread */

/* NaN counts as minus infinity, and -0 as 0. */
DEVICE uint64_t number_of(float x, int id) {
    uint32_t u = bits_of(x == 0 ? 0.0f : x);
    if (x != x) u = 0xff800000u;
    return (uint64_t)(u & 0x80000000u ? u : ~u & 0x7fffffffu) << 32 | (uint32_t)id;
}

/* By a warp: the bin in which the k-th of all lies, its place among those of that bin and how many
 * these are, as bits 0 .. 7, 8 .. 16 and from 17 on; 0: there are less than k.
 */
DEVICE uint32_t bin_of(const int32_t *count, int k) {
    int own[BINS / CU_WARP], all = 0, before = 0;
    uint32_t found = 0;
    const four_words *at = (const four_words *)(count + lane() * (BINS / CU_WARP));
    OWN_BINS(b) all += own[b] = (int)at[b / 4].w[b % 4];
    UNROLL for (int mask = 1; mask < CU_WARP; mask *= 2) { /* all: of `mask` lanes, this among */
        int other = __shfl_xor_sync(0xffffffffu, all, mask);
        if (lane() & mask) before += other;
        all += other;
    }
    OWN_BINS(b) {
        int place = k - before;
        if (place > 0 && place <= own[b])
            found = (uint32_t)((lane() * (BINS / CU_WARP) + b) | place << 8 | own[b] << 17);
        before += own[b];
    }
    return __reduce_max_sync(0xffffffffu, found);
}

/* By the block: bit s is set where number[s] is among the first k of all PER CU_TOPK_THREADS, all
 * that are not BEHIND_ALL where there are less.  Byte by byte from the top: the numbers of each bin
 * are counted, those of lower bins than that of the k-th are taken, and those of its bin go on.
 * count: of three bytes, because a warp may still look at the last one when another has emptied the
 * one after the next. */
template <int PER> DEVICE uint64_t first_of(const uint64_t *number, int k, int32_t (*count)[BINS]) {
    uint64_t open = 0, taken = 0;
    SLOTS(s) open |= (uint64_t)(number[s] != BEHIND_ALL) << s;
    for (int i = (int)threadIdx.x; i < BINS; i += CU_TOPK_THREADS)
        count[TOP % 3][i] = 0;
    __syncthreads();
    UNROLL_BY(1) for (int byte = TOP; byte >= 0; byte--) {
        int32_t *now = count[byte % 3], *next = count[(byte + 2) % 3];
        for (int i = (int)threadIdx.x; i < BINS; i += CU_TOPK_THREADS)
            next[i] = 0;
        SLOTS(s) if (open >> s & 1) atomicAdd(&now[number[s] >> 8 * byte & 255], 1);
        __syncthreads();
        uint32_t found = bin_of(now, k), bin = found & 255;
        uint64_t under = 0, same = 0;
        if (!found) break;
        SLOTS(s) {
            uint32_t own = number[s] >> 8 * byte & 255;
            under |= (uint64_t)(own < bin) << s;
            same |= (uint64_t)(own == bin) << s;
        }
        taken |= open & under;
        open &= same;
        k = (int)(found >> 8 & 511);
        if (k == (int)(found >> 17)) break;
    }
    return taken | open;
}

/* By the block: the taken to out[k], in no order, and BEHIND_ALL behind them.  n_out: room. */
template <int PER>
DEVICE void put(uint64_t *out, int k, const uint64_t *number, uint64_t taken, int32_t *n_out) {
    int at = taken ? atomicAdd(n_out, __popcll(taken)) : 0; /* one after the other: few threads */
    SLOTS(s) if (taken >> s & 1) out[at++] = number[s];
    __syncthreads();
    for (int i = *n_out + (int)threadIdx.x; i < k; i += CU_TOPK_THREADS)
        out[i] = BEHIND_ALL;
}

template <int PER> DEVICE void first_of_chunk(const cu_topk_sort &a) {
    alignas(16) __shared__ int32_t count[3][BINS];
    __shared__ int32_t n_out;
    uint64_t number[PER];
    int r = (int)blockIdx.x / a.n_chunk;
    int first = (int)blockIdx.x % a.n_chunk * a.chunk + (int)threadIdx.x;
    const float *x = floats_in(a.x.at + (uint64_t)(r * a.x.stride[2]));
    SLOTS(s) {
        int i = first + s * CU_TOPK_THREADS;
        number[s] = i < a.n ? number_of(x[i], i) : BEHIND_ALL;
    }
    n_out = 0;
    uint64_t taken = first_of<PER>(number, a.k, count);
    put<PER>(global<uint64_t>(a.lists) + (int64_t)blockIdx.x * a.k, a.k, number, taken, &n_out);
}

/* lists u64 [R][n_chunk][k]: the first k of each chunk of CU_CHUNK elements, or two or three times
 * as many.  Block (r, c). */
KERNEL_OF(topk_sort, cu_topk_sort, CU_TOPK_THREADS, 1) {
    ahead_go();
    ahead_wait();
    if (a.chunk == CU_CHUNK)
        first_of_chunk<FEW>(a);
    else if (a.chunk == 2 * CU_CHUNK)
        first_of_chunk<2 * FEW>(a);
    else
        first_of_chunk<CU_CHUNKS * FEW>(a);
}

/* The k of `list`, all different, in order, to ids and y; a number's place is how many are before
 * it, which SHARE lanes count together.  By the block. */
DEVICE void put_in_order(const uint64_t *list, const float *x, int32_t *ids, float *y, int k) {
    enum { SHARE = 4, AT_ONCE = CU_WARP / SHARE };
    for (int first = warp() * AT_ONCE; first < k; first += CU_TOPK_THREADS / SHARE) {
        int i = first + lane() / SHARE, place = 0;
        uint64_t own = list[i < k ? i : k - 1];
        float v = x[(uint32_t)own];
        UNROLL_BY(8) for (int j = lane() % SHARE; j < k; j += SHARE) place += list[j] < own;
        UNROLL for (int mask = 1; mask < SHARE; mask *= 2) place +=
            __shfl_xor_sync(0xffffffffu, place, mask);
        if (i >= k || lane() % SHARE) continue;
        ids[place] = (int32_t)(uint32_t)own;
        y[place] = v != v ? float_of(0xff800000u) : v;
    }
}

template <int PER> DEVICE void first_of_lists(const cu_topk_merge &a, int first, int n) {
    alignas(16) __shared__ int32_t count[3][BINS];
    __shared__ int32_t n_out;
    __shared__ uint64_t list[CU_TOPK];
    uint64_t number[PER];
    int r = (int)blockIdx.x / a.n_group;
    const uint64_t *in = global<const uint64_t>(a.in) + ((int64_t)r * a.n_list + first) * a.k;
    SLOTS(s) {
        int i = s * CU_TOPK_THREADS + (int)threadIdx.x;
        number[s] = i < n ? in[i] : BEHIND_ALL;
    }
    n_out = 0;
    uint64_t taken = first_of<PER>(number, a.k, count);
    if (a.n_group > 1) {
        put<PER>(global<uint64_t>(a.out) + (int64_t)blockIdx.x * a.k, a.k, number, taken, &n_out);
        return;
    }
    put<PER>(list, a.k, number, taken, &n_out);
    put_in_order(list, floats_in(a.x.at + (uint64_t)(r * a.x.stride[2])),
                 global<int32_t>(a.ids.at + (uint64_t)(r * a.ids.stride[2])),
                 floats_out(a.y.at + (uint64_t)(r * a.y.stride[2])), a.k);
}

/* in u64 [R][n_list][k], out u64 [R][n_group][k] or, when there is one group, ids i32 [R][k] and y
 * f32 [R][k].  Block (r, g) takes lists g n_each and up. */
KERNEL_OF(topk_merge, cu_topk_merge, CU_TOPK_THREADS, 1) {
    ahead_go();
    ahead_wait();
    int first = (int)blockIdx.x % a.n_group * a.n_each;
    int n = (a.n_list - first < a.n_each ? a.n_list - first : a.n_each) * a.k;
    if (n <= CU_CHUNK)
        first_of_lists<FEW>(a, first, n);
    else if (n <= 2 * CU_CHUNK)
        first_of_lists<2 * FEW>(a, first, n);
    else
        first_of_lists<CU_CHUNKS * FEW>(a, first, n);
}
