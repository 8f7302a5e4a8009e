/* SPDX-License-Identifier: MIT
 *
 * route.cu - ROUTE, by itself and with the LINEAR that makes its logits.  References: ref_route,
 * ref_linear.
 *
 * l f32 [T][E], bias f32 [E], ids i32 [T][K], w f32 [T][K].  A block takes a token: each thread
 * computes its own experts, then the first warp chooses; where logits alone decide, it does so at
 * once.  In doubles, so that two different logits do not become equal; doubles are slow to compare,
 * so what is compared are numbers of 64 bits that rise with them, keys.  A token is one block's,
 * and takes nothing but waiting: for memory, then for one choice after the other. */
#include "linear.cuh"

struct route_memory {
    double p[CU_EXPERTS], part[CU_EXPERTS];
    uint64_t keys[CU_EXPERTS];
    int32_t chosen[CU_EXPERTS];
    uint8_t is_open[CU_EXPERTS];
};

/* Never 0; 0 and -0 are one, and so are all NaN, which lie below -infinity. */
DEVICE uint64_t rising_of(double v) {
    v += 0.0;
#ifdef __CUDACC__
    uint64_t u = (uint64_t)__double_as_longlong(v);
#else
    uint64_t u = shim_bits<uint64_t>(v);
#endif
    if (v != v) return 1;
    return u >> 63 ? ~u : u | (uint64_t)1 << 63;
}

DEVICE double double_of(uint64_t rising) {
    uint64_t u = rising >> 63 ? rising ^ (uint64_t)1 << 63 : ~rising;
#ifdef __CUDACC__
    return __longlong_as_double((long long)u);
#else
    return shim_bits<double>(u);
#endif
}

DEVICE double warp_sum_double(double v) {
    UNROLL for (int mask = CU_WARP / 2; mask; mask /= 2) v += __shfl_xor_sync(0xffffffffu, v, mask);
    return v;
}

/* Of p[n], by a warp: lane l adds l, l + 32, .. */
DEVICE double sum_of(const double *p, int n) {
    double sum = 0;
    UNROLL_BY(4) for (int i = lane(); i < n; i += CU_WARP) sum += p[i];
    return warp_sum_double(sum);
}

/* By a warp: the n_used largest keys, in falling order, the lowest number of equal ones first. Lane
 * l has numbers l, l + 32, .. in registers, 0 for those that are chosen or not open.  As a rule the
 * upper halves of keys tell which lane's is the largest.  put(k, i, key), by one lane: number i is
 * choice k. */
DEVICE uint32_t upper_of(uint64_t key) {
    return (uint32_t)(key >> 32);
}
DEVICE uint32_t upper_of(uint32_t key) {
    return key;
}
template <typename KEY, int PER, typename PUT>
DEVICE void choose(KEY (&key)[PER], int n_used, PUT put) {
    UNROLL_BY(1) for (int k = 0; k < n_used; k++) {
        KEY best[PER];
        int slot[PER];
        UNROLL for (int s = 0; s < PER; s++) {
            best[s] = key[s];
            slot[s] = s;
        }
        UNROLL for (int step = 1; step < PER; step *= 2)
            UNROLL for (int s = 0; s < PER; s += 2 * step) if (best[s + step] > best[s]) {
            best[s] = best[s + step];
            slot[s] = slot[s + step];
        }
        uint32_t high = upper_of(best[0]), low = (uint32_t)best[0];
        uint32_t own = (uint32_t)(lane() + slot[0] * CU_WARP);
        bool is_best = high == __reduce_max_sync(0xffffffffu, high);
        uint32_t all = __ballot_sync(0xffffffffu, is_best);
        if (all & (all - 1)) {
            if (sizeof(KEY) > 4)
                is_best = low == __reduce_max_sync(0xffffffffu, is_best ? low : 0) && is_best;
            is_best = own == __reduce_min_sync(0xffffffffu, is_best ? own : ~0u);
        }
        int gone = is_best ? (int)own : -1;
        UNROLL for (int s = 0; s < PER; s++) if (gone == lane() + s * CU_WARP) key[s] = 0;
        if (is_best) put(k, (int)own, best[0]);
    }
}

/* By the first warp, of s.keys those in open groups; is_open: NULL where all are. */
template <int PER>
DEVICE void choose_open(const cu_route &a, const uint8_t *is_open, route_memory &s) {
    uint64_t key[PER];
    UNROLL for (int r = 0; r < PER; r++) {
        int i = lane() + r * CU_WARP;
        key[r] = i < a.n && (!is_open || is_open[i / (a.n / a.n_group)]) ? s.keys[i] : 0;
    }
    choose(key, a.n_used, [&](int k, int i, uint64_t) { s.chosen[k] = i; });
}

/* Groups are open that are among the n_group_used with the best two.  By the block; score: room. */
DEVICE void open_groups(const uint64_t *keys, uint8_t *is_open, double *score, const cu_route &a) {
    int size = a.n / a.n_group;
    for (int g = (int)threadIdx.x; g < a.n_group; g += CU_THREADS) {
        uint64_t first = 0, second = 0;
        for (int i = 0, at = g % size; i < size; i++, at = at + 1 == size ? 0 : at + 1) {
            uint64_t key = keys[g * size + at]; /* of each group at another bank */
            uint64_t less = key < first ? key : first;
            first = key < first ? first : key;
            second = second < less ? less : second;
        }
        score[g] = double_of(first) + (size > 1 ? double_of(second) : 0);
    }
    __syncthreads();
    for (int g = (int)threadIdx.x; g < a.n_group; g += CU_THREADS) {
        uint64_t key = rising_of(score[g]);
        int n_better = 0;
        for (int i = 0; i < a.n_group; i++) {
            uint64_t other = rising_of(score[i]);
            n_better += other > key || (other == key && i < g);
        }
        is_open[g] = n_better < a.n_group_used;
    }
    __syncthreads();
}

/* By the first warp: the weights of the chosen; w: room. */
DEVICE void weigh(const double *p, const int32_t *chosen, double *w, float *out,
                  const cu_route &a) {
    float top = -INFINITY;
    for (int k = lane(); k < a.n_used; k += CU_WARP) {
        w[k] = p[chosen[k]];
        top = fmaxf(top, (float)w[k]);
    }
    if (a.kind == 2) { /* p: the logits, which are floats */
        top = warp_max(top);
        for (int k = lane(); k < a.n_used; k += CU_WARP)
            w[k] = exp(w[k] - top);
        __syncwarp();
        double sum = sum_of(w, a.n_used);
        __syncwarp();
        for (int k = lane(); k < a.n_used; k += CU_WARP)
            w[k] /= sum;
    }
    double factor = a.weight_scale;
    if (a.renorm) {
        double sum = 0;
        __syncwarp();
        UNROLL_BY(8) for (int k = 0; k < a.n_used; k++) sum += w[k];
        factor /= sum < 0x1p-14 ? 0x1p-14 : sum;
    }
    for (int k = lane(); k < a.n_used; k += CU_WARP)
        out[k] = (float)(w[k] * factor);
}

/* kind 0: what is to be divided by the sum of all; else p. */
DEVICE double score_of(const cu_route &a, float logit, float top) {
    double x = logit;
    if (a.kind == 2) return x;
    x = exp(a.kind == 0 ? x - top : -x);
    return a.kind == 0 ? x : 1 / (1 + x);
}

/* Of all experts p and keys; part: room.  Up to CU_THREADS of them: a thread has one, and what is
 * read is asked for at once. */
DEVICE void rank_few(const cu_route &a, const float *in, double *p, uint64_t *keys, double *part) {
    int i = (int)threadIdx.x, own = i < a.n ? i : 0;
    float logit = in[own], bias = a.bias ? floats_in(a.bias)[own] : 0.0f, top = -INFINITY;
    if (a.kind == 0) { /* every warp finds it for itself */
        float all[CU_ROWS];
        UNROLL for (int s = 0; s < CU_ROWS; s++) all[s] =
            lane() + s * CU_WARP < a.n ? in[lane() + s * CU_WARP] : -INFINITY;
        UNROLL for (int s = 0; s < CU_ROWS; s++) top = fmaxf(top, all[s]);
        top = warp_max(top);
    }
    double x = score_of(a, logit, top);
    if (a.kind == 0) {
        part[i] = x;
        __syncthreads();
        x /= sum_of(part, a.n);
    }
    p[i] = x;
    keys[i] = rising_of((double)bias + x);
}

DEVICE void rank_many(const cu_route &a, const float *in, double *p, uint64_t *keys, double *part) {
    float top = -INFINITY;
    double sum = 1;
    if (a.kind == 0) {
        UNROLL_BY(4) for (int i = lane(); i < a.n; i += CU_WARP) top = fmaxf(top, in[i]);
        top = warp_max(top);
    }
    UNROLL_BY(1)
    for (int i = (int)threadIdx.x; i < a.n; i += CU_THREADS)
        part[i] = score_of(a, in[i], top);
    __syncthreads();
    if (a.kind == 0) sum = sum_of(part, a.n);
    UNROLL_BY(1)
    for (int i = (int)threadIdx.x; i < a.n; i += CU_THREADS) {
        p[i] = a.kind == 0 ? part[i] / sum : part[i];
        keys[i] = rising_of((a.bias ? (double)floats_in(a.bias)[i] : 0) + p[i]);
    }
}

/* ---- by logits alone ----------------------------------------------------------------------------
 *
 * Nothing but the logits decides where there are no bias and no groups and the weights are a
 * softmax over the chosen: for SOFTMAX_CHOSEN, and for SOFTMAX with renorm, where the sum over all
 * experts cancels (the K largest of n sum up to K / n at least, so it is never 2^-14 that is
 * divided by).  p rises with the logit - doubles of it would be equal where logits differ by less
 * than some 2^-52 or lie 745 below the largest, which they need not be for op.def.  So the keys are
 * numbers of 32 bits, a warp does it all, and exponentials are the chosen's alone. */

/* As of a double; v is no NaN. */
DEVICE uint32_t rising_of(float v) {
    uint32_t u = bits_of(v + 0.0f);
    return u >> 31 ? ~u : u | 0x80000000u;
}
DEVICE float float_of_rising(uint32_t key) {
    return float_of(key >> 31 ? key ^ 0x80000000u : ~key);
}

DEVICE bool is_by_logits(const cu_route &a) {
    return (a.kind == 2 || (a.kind == 0 && a.renorm)) && !a.bias && a.n_group <= 1;
}

/* All warps: false where a logit is NaN or +infinite, so that none of p need be a number.  Else the
 * first warp does it. */
template <int PER>
DEVICE bool route_logits(const cu_route &a, const float *in, int32_t *ids, float *out,
                         route_memory &s) {
    float l[PER];
    uint32_t key[PER];
    bool is_finite = true;
    UNROLL for (int r = 0; r < PER; r++) {
        int i = lane() + r * CU_WARP;
        l[r] = i < a.n ? in[i] : -INFINITY;
    }
    UNROLL for (int r = 0; r < PER; r++) {
        is_finite = is_finite && l[r] < INFINITY;
        key[r] = lane() + r * CU_WARP < a.n ? rising_of(l[r]) : 0;
    }
    if (__ballot_sync(0xffffffffu, is_finite) != 0xffffffffu) return false;
    if (warp() > 0) return true;
    choose(key, a.n_used, [&](int k, int i, uint32_t its) {
        ids[k] = i;
        s.keys[k] = its;
    });
    __syncwarp();
    double top = float_of_rising((uint32_t)s.keys[0]), sum = 0;
    UNROLL_BY(1)
    for (int k = lane(); k < a.n_used; k += CU_WARP)
        s.part[k] = exp(float_of_rising((uint32_t)s.keys[k]) - top);
    __syncwarp();
    UNROLL_BY(8) for (int k = 0; k < a.n_used; k++) sum += s.part[k];
    double factor = a.weight_scale / sum;
    UNROLL_BY(1)
    for (int k = lane(); k < a.n_used; k += CU_WARP)
        out[k] = (float)(s.part[k] * factor);
    return true;
}

/* ---- all ----------------------------------------------------------------------------------------
 */

/* Of token t, by the block. */
DEVICE void route(const cu_route &a, int t, route_memory &s) {
    const float *in = floats_in(a.l.at + (uint64_t)(t * a.l.stride[2]));
    float *out = floats_out(a.w.at + (uint64_t)(t * a.w.stride[2]));
    int32_t *ids = global<int32_t>(a.ids.at + (uint64_t)(t * a.ids.stride[2]));
    if (is_by_logits(a)) {
        if (a.n <= 4 * CU_WARP && route_logits<4>(a, in, ids, out, s)) return;
        if (a.n > 4 * CU_WARP && a.n <= 16 * CU_WARP && route_logits<16>(a, in, ids, out, s))
            return;
    }
    if (a.n <= CU_THREADS)
        rank_few(a, in, s.p, s.keys, s.part);
    else
        rank_many(a, in, s.p, s.keys, s.part);
    __syncthreads();
    if (a.n_group > 1) open_groups(s.keys, s.is_open, s.part, a);
    if (warp() > 0) return;
    const uint8_t *groups = a.n_group > 1 ? s.is_open : nullptr;
    if (a.n <= 4 * CU_WARP)
        choose_open<4>(a, groups, s);
    else if (a.n <= 8 * CU_WARP)
        choose_open<8>(a, groups, s);
    else if (a.n <= 16 * CU_WARP)
        choose_open<16>(a, groups, s);
    else
        choose_open<CU_EXPERTS / CU_WARP>(a, groups, s);
    __syncwarp();
    for (int k = lane(); k < a.n_used; k += CU_WARP)
        ids[k] = s.chosen[k];
    weigh(s.p, s.chosen, s.part, out, a);
}

KERNEL(route, cu_route) {
    __shared__ route_memory s;
    route(a, (int)blockIdx.x, s);
}

/* The blocks of a token's product leave its logits, and the last of them to end takes the token. */
#define KERNELS(T)                                                                                 \
    KERNEL_AHEAD(linear_route_##T, cu_linear_route) {                                              \
        __shared__ route_memory s;                                                                 \
        __shared__ int is_there;                                                                   \
        int t = linear<T, 1>(a.linear);                                                            \
        if (is_last(a.count, t, a.n_block, &is_there)) route(a.route, t, s);                       \
    }
KERNELS(0)
KERNELS(1)
KERNELS(30)
