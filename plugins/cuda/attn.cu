/* SPDX-License-Identifier: MIT
 *
 * attn.cu - ROPE, KV_APPEND and ATTN.  References: ref_rope, ref_kv_append, ref_attn. */
#include "device.cuh"

/* ---- ROPE ---------------------------------------------------------------------------------------
 *
 * x, y f32 [T][H][d], y may be x; factor f32 [n_rot / 2].  A thread takes a pair of one head, or
 * copies an element outside the pairs.  The reference's f32 roundings of the angle are kept:
 * theta_0 = position, theta_{i+1} = theta_i * ratio. */

DEVICE float angle_of(const cu_rope &a, float theta, int i) {
    float extrapolated = theta / (a.factor ? floats_in(a.factor)[i] : 1.0f);
    float angle = a.freq_scale * extrapolated;
    if (a.ext == 0) return angle;
    float at = ((float)i - a.ramp_lo) / fmaxf(0.001f, a.ramp_hi - a.ramp_lo);
    float ramp = a.ext * (1.0f - fminf(1.0f, fmaxf(0.0f, at)));
    return angle * (1.0f - ramp) + extrapolated * ramp;
}

/* Sine and cosine of any f32, without the stack that the library's need for large arguments: the
 * nearest multiple of pi/2 is taken off in two steps of f64, then Taylor series to r^13 and r^14 on
 * |r| <= pi/4, whose next terms are below 5e-13. */
DEVICE void sin_cos(float angle, float *sine, float *cosine) {
    double k = rint((double)angle * 0.63661977236758134308);
    double r = fma(-k, 1.57079632679489655800, (double)angle);
    r = fma(-k, 6.12323399573676603587e-17, r);
    double q = r * r, s = 1.0 / 6227020800, c = -1.0 / 87178291200;
    s = fma(s, q, -1.0 / 39916800);
    s = fma(s, q, 1.0 / 362880);
    s = fma(s, q, -1.0 / 5040);
    s = fma(s, q, 1.0 / 120);
    s = fma(s, q, -1.0 / 6);
    s = fma(s * q, r, r);
    c = fma(c, q, 1.0 / 479001600);
    c = fma(c, q, -1.0 / 3628800);
    c = fma(c, q, 1.0 / 40320);
    c = fma(c, q, -1.0 / 720);
    c = fma(c, q, 1.0 / 24);
    c = fma(c, q, -0.5);
    c = fma(c, q, 1.0);
    double quadrant = k - 4 * floor(k * 0.25);
    bool is_swapped = quadrant == 1 || quadrant == 3;
    double y = is_swapped ? c : s, x = is_swapped ? s : c;
    *sine = (float)(quadrant >= 2 ? -y : y);
    *cosine = (float)(quadrant == 1 || quadrant == 2 ? -x : x);
}

KERNEL(rope, cu_rope) {
    int head = (int)blockIdx.x / a.n_chunk, t = head / a.n_head, h = head % a.n_head;
    int i = (int)blockIdx.x % a.n_chunk * CU_THREADS + (int)threadIdx.x;
    const float *in = floats_in(a.x.at + (uint64_t)(t * a.x.stride[1] + h * a.x.stride[2]));
    float *out = floats_out(a.y.at + (uint64_t)(t * a.y.stride[1] + h * a.y.stride[2]));
    if (i >= a.n_item) return;
    if (i >= a.n_rot / 2) {
        int k = i - a.n_rot / 2;
        if (k >= a.first) k += a.n_rot;
        out[k] = in[k];
        return;
    }
    float theta = (float)ints_in(a.pos)[t], s, c;
    for (int k = 0; k < i; k++)
        theta *= a.ratio;
    sin_cos(angle_of(a, theta, i), &s, &c);
    s *= a.magnitude;
    c *= a.magnitude;
    int p = a.first + (a.is_neox ? i : 2 * i), q = a.is_neox ? p + a.n_rot / 2 : p + 1;
    float x0 = in[p], x1 = in[q];
    out[p] = fmaf(x0, c, -(x1 * s));
    out[q] = fmaf(x0, s, x1 * c);
}

/* ---- elements of a pool: F32 0, F16 1, BF16 30 ---- */

/* 16 bytes of elements. */
template <typename E> struct alignas(16) wide {
    enum { N = 16 / sizeof(E) };
    E e[N];
};

template <int T> struct cache;
template <> struct cache<0> {
    typedef float element;
    DEVICE float widen(float v) {
        return v;
    }
    DEVICE float round(float v) {
        return v;
    }
};
template <> struct cache<1> {
    typedef uint16_t element;
    DEVICE float widen(uint16_t v) {
        return widen_f16(v);
    }
    DEVICE uint16_t round(float v) {
        return round_f16(v);
    }
};
template <> struct cache<30> {
    typedef uint16_t element;
    DEVICE float widen(uint16_t v) {
        return widen_bf16(v);
    }
    DEVICE uint16_t round(float v) {
        return round_bf16(v);
    }
};

/* k f32 [T][G][dk], v f32 [T][G][dv] to rows slot[t] of the pools.  A block takes a head of a
 * token. */
template <int T> DEVICE void kv_append(const cu_append &a) {
    typedef typename cache<T>::element element;
    int t = (int)blockIdx.x / a.n_head, g = (int)blockIdx.x % a.n_head;
    int64_t slot = ints_in(a.slot)[t];
    if (slot < 0) return;
    const float *k = floats_in(a.k.at + (uint64_t)(t * a.k.stride[1] + g * a.k.stride[2]));
    const float *v = floats_in(a.v.at + (uint64_t)(t * a.v.stride[1] + g * a.v.stride[2]));
    element *k_out = (element *)(uintptr_t)a.k_pool + (slot * a.n_head + g) * a.dk;
    element *v_out = (element *)(uintptr_t)a.v_pool + (slot * a.n_head + g) * a.dv;
    for (int i = (int)threadIdx.x; i < a.dk; i += CU_THREADS)
        k_out[i] = cache<T>::round(k[i]);
    for (int i = (int)threadIdx.x; i < a.dv; i += CU_THREADS)
        v_out[i] = cache<T>::round(v[i]);
}

/* ---- ATTN ---------------------------------------------------------------------------------------
 *
 * q f32 [T][H][dk], pools [blocks][B][G][..], sink f32 [H], y f32 [T][H][dv].
 *
 * Keys are taken in parts of CU_PART counted from key 0.  A part gives a largest logit, a sum of
 * exponentials below it and the values weighted by these; parts are merged in rising order.  A
 * logit is a thread's, elements rising; exponentials are added as warp_sum does, lane i having keys
 * i, i + 32, .., those that are not seen being 0; an element of the values is a thread's, keys
 * rising.  So nothing but key numbers decides the order, and the two ways below give the same bits:
 *
 *   attn    a block takes a tile of heads of a token, part after part: where there are many tokens
 *   split   attn_part: a block takes a part; attn_merge: a block merges the parts of a head.  For
 *           few tokens, which else would leave most of the device idle
 *
 * A tile is CU_TILE heads over one key head, read once for all of them, or one head (any length).
 */

/* Which keys a token sees: lo .. hi - 1. */
typedef struct cu_view {
    const int32_t *table;
    int pos, lo, hi;
} cu_view;

DEVICE cu_view view_of(const cu_attn &a, int t) {
    cu_view v;
    int seq = ints_in(a.seq)[t];
    v.table = ints_in(a.table) + (int64_t)seq * a.max_blocks;
    v.pos = ints_in(a.pos)[t];
    v.lo = 0;
    v.hi = ints_in(a.ctx)[seq];
    if (!a.is_not_causal && v.hi > v.pos + 1) v.hi = v.pos + 1;
    if (a.window > 0 && v.lo < v.pos - a.window + 1) v.lo = v.pos - a.window + 1;
    if (a.chunk > 0) {
        int first = v.pos / a.chunk * a.chunk;
        if (v.lo < first) v.lo = first;
        if (v.hi > first + a.chunk) v.hi = first + a.chunk;
    }
    return v;
}

/* op.def: slope_h. */
DEVICE float slope_of(float alibi_max, int h, int n_head) {
    int n = 1;
    if (alibi_max == 0) return 0;
    while (n * 2 <= n_head)
        n *= 2;
    if (h < n) return exp2f(-alibi_max * (float)(h + 1) / (float)n);
    return exp2f(-alibi_max * (float)(2 * (h - n) + 1) / (float)(2 * n));
}

/* The pool's row of a key. */
DEVICE int row_of(const cu_attn &a, const cu_view &v, int key) {
    return v.table[key / a.block_tokens] * a.block_tokens + key % a.block_tokens;
}

/* Head g of a row, n elements to a head. */
template <typename E>
DEVICE const E *head_at(const cu_attn &a, uint64_t pool, int row, int g, int n) {
    return (const E *)(uintptr_t)pool + ((int64_t)row * a.n_kv_head + g) * n;
}

/* Shared memory of a block: queries, a part's rows of the pools, logits and then exponentials, and
 * its largest logits and sums; each of a tile's heads. */
template <int HEADS> struct attn_memory {
    enum { MAX = HEADS == 1 ? CU_HEAD : CU_TILE_HEAD };
    alignas(16) float q[HEADS][MAX];
    alignas(16) float z[CU_PART][HEADS];
    int row[CU_PART];
    float m[HEADS], l[HEADS];
};

/* A tile: its first head, their number, and the key head. */
struct cu_tile {
    int h, n, g;
};

template <int HEADS> DEVICE cu_tile tile_of(const cu_attn &a, int i) {
    int all = a.n_head / a.n_kv_head, first = i % a.n_tile * HEADS;
    cu_tile t = {i / a.n_tile * all + first, all - first, i / a.n_tile};
    if (t.n > HEADS) t.n = HEADS;
    return t;
}

/* Heads beyond a tile's last are the last one again, and come to nothing. */
template <int HEADS> DEVICE int head_of(const cu_tile &t, int r) {
    return t.h + (r < t.n ? r : t.n - 1);
}

template <int HEADS>
DEVICE void load_queries(const cu_attn &a, const cu_tile &tile, int t, attn_memory<HEADS> &s) {
    UNROLL for (int r = 0; r < HEADS; r++) {
        const float *q = floats_in(
            a.q.at + (uint64_t)(t * a.q.stride[1] + head_of<HEADS>(tile, r) * a.q.stride[2]));
        for (int i = (int)threadIdx.x; i < a.dk; i += CU_THREADS)
            s.q[r][i] = q[i];
    }
    __syncthreads();
}

/* Products of a key with each query. */
template <int T, int HEADS>
DEVICE void dot(const typename cache<T>::element *k, const attn_memory<HEADS> &s, int n,
                float *sum) {
    typedef wide<typename cache<T>::element> pack;
    UNROLL for (int r = 0; r < HEADS; r++) sum[r] = 0;
    if (n % pack::N == 0) {
        UNROLL_BY(1)
        for (int i = 0; i < n; i += pack::N) {
            pack p = *(const pack *)(k + i);
            UNROLL for (int j = 0; j < pack::N; j++) {
                float v = cache<T>::widen(p.e[j]);
                UNROLL for (int r = 0; r < HEADS; r++) sum[r] = fmaf(v, s.q[r][i + j], sum[r]);
            }
        }
        return;
    }
    UNROLL_BY(1)
    for (int i = 0; i < n; i++) {
        float v = cache<T>::widen(k[i]);
        UNROLL for (int r = 0; r < HEADS; r++) sum[r] = fmaf(v, s.q[r][i], sum[r]);
    }
}

/* Logits of keys base .. base + CU_PART - 1. */
template <int T, int HEADS>
DEVICE void part_logits(const cu_attn &a, const cu_view &v, const cu_tile &tile, int base,
                        attn_memory<HEADS> &s) {
    typedef typename cache<T>::element element;
    for (int k = (int)threadIdx.x; k < CU_PART; k += CU_THREADS) {
        float sum[HEADS];
        int key = base + k;
        if (key < v.lo || key >= v.hi) continue;
        int row = row_of(a, v, key);
        s.row[k] = row;
        dot<T, HEADS>(head_at<element>(a, a.k_pool, row, tile.g, a.dk), s, a.dk, sum);
        UNROLL for (int r = 0; r < HEADS; r++) {
            float z = sum[r] * a.scale;
            if (a.cap > 0) z = a.cap * tanhf(z / a.cap);
            float slope = slope_of(a.alibi_max, head_of<HEADS>(tile, r), a.n_head);
            s.z[k][r] = z + slope * (float)(key - v.pos);
        }
    }
    __syncthreads();
}

/* The logits become exponentials below the largest, those of keys that are not seen 0.  A warp
 * takes a head. */
template <int HEADS> DEVICE void part_softmax(const cu_view &v, int base, attn_memory<HEADS> &s) {
    enum { EACH = CU_PART / CU_WARP };
    int r = warp();
    if (r < HEADS) {
        float top = -INFINITY, sum = 0;
        for (int i = 0; i < EACH; i++) {
            int k = i * CU_WARP + lane();
            if (base + k >= v.lo && base + k < v.hi) top = fmaxf(top, s.z[k][r]);
        }
        top = warp_max(top);
        for (int i = 0; i < EACH; i++) {
            int k = i * CU_WARP + lane();
            float e = base + k >= v.lo && base + k < v.hi ? expf(s.z[k][r] - top) : 0.0f;
            s.z[k][r] = e;
            sum += e;
        }
        sum = warp_sum(sum);
        if (lane() == 0) {
            s.m[r] = top;
            s.l[r] = sum;
        }
    }
    __syncthreads();
}

/* Element i of the part's weighted values, of each head. */
template <int T, int HEADS>
DEVICE void part_values(const cu_attn &a, const cu_view &v, const cu_tile &tile, int base, int i,
                        const attn_memory<HEADS> &s, float *o) {
    typedef typename cache<T>::element element;
    int lo = v.lo > base ? v.lo : base, hi = v.hi < base + CU_PART ? v.hi : base + CU_PART;
    UNROLL for (int r = 0; r < HEADS; r++) o[r] = 0;
    UNROLL_BY((sizeof(element) == 4 ? 4 : 8))
    for (int key = lo; key < hi; key++) {
        const element *w = head_at<element>(a, a.v_pool, s.row[key - base], tile.g, a.dv);
        UNROLL for (int r = 0; r < HEADS; r++) o[r] =
            fmaf(s.z[key - base][r], cache<T>::widen(w[i]), o[r]);
    }
}

template <int T, int HEADS>
DEVICE void part_of(const cu_attn &a, const cu_view &v, const cu_tile &tile, int base,
                    attn_memory<HEADS> &s) {
    part_logits<T, HEADS>(a, v, tile, base, s);
    part_softmax<HEADS>(v, base, s);
}

/* What the parts before are multiplied by, and this one. */
DEVICE void merge_of(float before, float top, bool is_first, float *keep, float *add) {
    float high = fmaxf(before, top);
    *keep = is_first ? 0.0f : expf(before - high);
    *add = expf(top - high);
}

/* What the merged values are multiplied by at last. */
DEVICE float factor_of(const cu_attn &a, const cu_view &v, int h, float m, float l) {
    if (v.lo >= v.hi) return 0; /* no visible key */
    if (!a.sink) return 1.0f / l;
    float sink = floats_in(a.sink)[h], high = fmaxf(m, sink), keep = expf(m - high);
    return keep / fmaf(l, keep, expf(sink - high));
}

DEVICE float *output_of(const cu_attn &a, int t, int h) {
    return floats_out(a.y.at + (uint64_t)(t * a.y.stride[1] + h * a.y.stride[2]));
}

template <int T, int HEADS>
DEVICE void attn(const cu_attn &a, attn_memory<HEADS> &s, float (*sum)[attn_memory<HEADS>::MAX]) {
    int n_group = a.n_kv_head * a.n_tile, t = (int)blockIdx.x / n_group;
    cu_tile tile = tile_of<HEADS>(a, (int)blockIdx.x % n_group);
    cu_view v = view_of(a, t);
    float m[HEADS], l[HEADS], o[HEADS], keep[HEADS], add[HEADS];
    int first = v.lo / CU_PART * CU_PART;
    load_queries<HEADS>(a, tile, t, s);
    UNROLL for (int r = 0; r < HEADS; r++) {
        m[r] = -INFINITY;
        l[r] = 0;
        for (int i = (int)threadIdx.x; i < a.dv; i += CU_THREADS)
            sum[r][i] = 0;
    }
    for (int base = first; base < v.hi; base += CU_PART) {
        part_of<T, HEADS>(a, v, tile, base, s);
        UNROLL for (int r = 0; r < HEADS; r++) {
            merge_of(m[r], s.m[r], base == first, &keep[r], &add[r]);
            m[r] = fmaxf(m[r], s.m[r]);
            l[r] = fmaf(l[r], keep[r], s.l[r] * add[r]);
        }
        for (int i = (int)threadIdx.x; i < a.dv; i += CU_THREADS) {
            part_values<T, HEADS>(a, v, tile, base, i, s, o);
            UNROLL for (int r = 0; r < HEADS; r++) sum[r][i] =
                fmaf(sum[r][i], keep[r], o[r] * add[r]);
        }
        __syncthreads();
    }
    UNROLL for (int r = 0; r < HEADS; r++) {
        if (r >= tile.n) continue;
        float factor = factor_of(a, v, tile.h + r, m[r], l[r]), *out = output_of(a, t, tile.h + r);
        for (int i = (int)threadIdx.x; i < a.dv; i += CU_THREADS)
            out[i] = sum[r][i] * factor;
    }
}

/* Blocks of one part follow one another, so that tiles over the same keys run together. */
template <int T, int HEADS> DEVICE void attn_part(const cu_attn &a, attn_memory<HEADS> &s) {
    int n_group = a.n_kv_head * a.n_tile, which = (int)blockIdx.x / n_group;
    int t = which / a.n_part, p = which % a.n_part, base = p * CU_PART;
    cu_tile tile = tile_of<HEADS>(a, (int)blockIdx.x % n_group);
    cu_view v = view_of(a, t);
    float o[HEADS];
    if (base >= v.hi || base + CU_PART <= v.lo) return;
    load_queries<HEADS>(a, tile, t, s);
    part_of<T, HEADS>(a, v, tile, base, s);
    int64_t row = ((int64_t)t * a.n_head + tile.h) * a.n_part + p;
    for (int i = (int)threadIdx.x; i < a.dv; i += CU_THREADS) {
        part_values<T, HEADS>(a, v, tile, base, i, s, o);
        UNROLL for (int r = 0; r < HEADS; r++) {
            if (r < tile.n) floats_out(a.part)[(row + (int64_t)r * a.n_part) * a.dv + i] = o[r];
        }
    }
    if ((int)threadIdx.x < tile.n) {
        float *top = floats_out(a.top) + 2 * (row + (int64_t)threadIdx.x * a.n_part);
        top[0] = s.m[threadIdx.x];
        top[1] = s.l[threadIdx.x];
    }
}

KERNEL(attn_merge, cu_attn) {
    __shared__ float o[CU_HEAD], top[CU_PART], sum[CU_PART], keep[CU_PART], add[CU_PART];
    int t = (int)blockIdx.x / a.n_head, h = (int)blockIdx.x % a.n_head;
    cu_view v = view_of(a, t);
    int64_t row = ((int64_t)t * a.n_head + h) * a.n_part;
    int first = v.lo / CU_PART, end = v.lo < v.hi ? (v.hi - 1) / CU_PART + 1 : first;
    float m = -INFINITY, l = 0;
    for (int i = (int)threadIdx.x; i < a.dv; i += CU_THREADS)
        o[i] = 0;
    for (int begin = first; begin < end; begin += CU_PART) {
        int n = end - begin < CU_PART ? end - begin : CU_PART;
        const float *tops = floats_in(a.top) + 2 * (row + begin);
        const float *parts = floats_in(a.part) + (row + begin) * a.dv;
        for (int k = (int)threadIdx.x; k < n; k += CU_THREADS) {
            top[k] = tops[2 * k];
            sum[k] = tops[2 * k + 1];
        }
        __syncthreads();
        for (int k = (int)threadIdx.x; k < n; k += CU_THREADS) {
            float before = m;
            for (int j = 0; j < k; j++)
                before = fmaxf(before, top[j]);
            merge_of(before, top[k], begin == first && k == 0, &keep[k], &add[k]);
        }
        __syncthreads();
        for (int k = 0; k < n; k++) {
            m = fmaxf(m, top[k]);
            l = fmaf(l, keep[k], sum[k] * add[k]);
        }
        for (int i = (int)threadIdx.x; i < a.dv; i += CU_THREADS) {
            float all = o[i];
            UNROLL_BY(8)
            for (int k = 0; k < n; k++)
                all = fmaf(all, keep[k], parts[(int64_t)k * a.dv + i] * add[k]);
            o[i] = all;
        }
        __syncthreads();
    }
    float factor = factor_of(a, v, h, m, l), *out = output_of(a, t, h);
    for (int i = (int)threadIdx.x; i < a.dv; i += CU_THREADS)
        out[i] = o[i] * factor;
}

#define ATTN_KERNELS(T, HEADS, suffix)                                                             \
    KERNEL(attn##suffix##_##T, cu_attn) {                                                          \
        __shared__ attn_memory<HEADS> s;                                                           \
        __shared__ float sum[HEADS][attn_memory<HEADS>::MAX];                                      \
        attn<T, HEADS>(a, s, sum);                                                                 \
    }                                                                                              \
    KERNEL(attn##suffix##_part_##T, cu_attn) {                                                     \
        __shared__ attn_memory<HEADS> s;                                                           \
        attn_part<T, HEADS>(a, s);                                                                 \
    }
#define KERNELS(T)                                                                                 \
    KERNEL(kv_append_##T, cu_append) {                                                             \
        kv_append<T>(a);                                                                           \
    }                                                                                              \
    ATTN_KERNELS(T, 1, )                                                                           \
    ATTN_KERNELS(T, CU_TILE, _tile)
KERNELS(0)
KERNELS(1)
KERNELS(30)
