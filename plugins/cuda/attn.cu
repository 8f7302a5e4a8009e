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
 * q f32 [T][H][dk], pools [blocks][B][G][..], sink f32 [H], y f32 [T][H][dv].  A block takes a head
 * of a token.
 *
 * Keys are taken in parts of CU_PART counted from key 0; a part gives a largest logit, a sum of
 * exponentials and weighted values, and parts are merged in rising order.  Logit i of a part is
 * computed by thread i % CU_THREADS, elements rising; exponentials are added as block_sum does,
 * those of keys that are not seen being 0; an element of the values is a thread's, keys rising.  So
 * nothing but key numbers decides the order. */

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

/* Row of head g of a key, n elements to a head. */
template <typename E>
DEVICE const E *key_at(const cu_attn &a, const cu_view &v, uint64_t pool, int key, int g, int n) {
    int64_t row = (int64_t)v.table[key / a.block_tokens] * a.block_tokens + key % a.block_tokens;
    return (const E *)(uintptr_t)pool + (row * a.n_kv_head + g) * n;
}

/* q: the head's query. */
template <int T>
DEVICE float logit(const cu_attn &a, const cu_view &v, const float *q, int key, int g,
                   float slope) {
    const typename cache<T>::element *k =
        key_at<typename cache<T>::element>(a, v, a.k_pool, key, g, a.dk);
    float sum = 0;
    for (int i = 0; i < a.dk; i++)
        sum = fmaf(cache<T>::widen(k[i]), q[i], sum);
    sum *= a.scale;
    if (a.cap > 0) sum = a.cap * tanhf(sum / a.cap);
    return sum + slope * (float)(key - v.pos);
}

/* Shared memory of a block. */
typedef struct attn_memory {
    float q[CU_HEAD], o[CU_HEAD], z[CU_PART], part[CU_ROWS];
} attn_memory;

/* Keys base .. base + CU_PART - 1, of which lo .. hi - 1 are seen: z becomes their exponentials.
 * Returns what the parts before are to be multiplied by. */
template <int T>
DEVICE float part_of(const cu_attn &a, const cu_view &v, attn_memory &s, int base, int g,
                     float slope, float *m, float *l) {
    enum { EACH = CU_PART / CU_THREADS };
    float z[EACH], top = -INFINITY, sum = 0;
    UNROLL for (int i = 0; i < EACH; i++) {
        int key = base + i * CU_THREADS + (int)threadIdx.x;
        z[i] = -INFINITY;
        if (key >= v.lo && key < v.hi) z[i] = logit<T>(a, v, s.q, key, g, slope);
        top = fmaxf(top, z[i]);
    }
    float high = fmaxf(*m, block_max(top, s.part)), keep = *l == 0 ? 0.0f : expf(*m - high);
    UNROLL for (int i = 0; i < EACH; i++) {
        int k = i * CU_THREADS + (int)threadIdx.x;
        float e = base + k >= v.lo && base + k < v.hi ? expf(z[i] - high) : 0.0f;
        s.z[k] = e;
        sum += e;
    }
    *l = fmaf(*l, keep, block_sum(sum, s.part)); /* it waits for all of z, too */
    *m = high;
    return keep;
}

template <int T> DEVICE void attn(const cu_attn &a, attn_memory &s) {
    typedef typename cache<T>::element element;
    int t = (int)blockIdx.x / a.n_head, h = (int)blockIdx.x % a.n_head;
    int g = h / (a.n_head / a.n_kv_head);
    cu_view v = view_of(a, t);
    const float *q = floats_in(a.q.at + (uint64_t)(t * a.q.stride[1] + h * a.q.stride[2]));
    float *out = floats_out(a.y.at + (uint64_t)(t * a.y.stride[1] + h * a.y.stride[2]));
    float m = -INFINITY, l = 0, slope = slope_of(a.alibi_max, h, a.n_head);
    for (int i = (int)threadIdx.x; i < a.dk; i += CU_THREADS)
        s.q[i] = q[i];
    for (int i = (int)threadIdx.x; i < a.dv; i += CU_THREADS)
        s.o[i] = 0;
    __syncthreads();
    for (int base = v.lo / CU_PART * CU_PART; base < v.hi; base += CU_PART) {
        float keep = part_of<T>(a, v, s, base, g, slope, &m, &l);
        int lo = v.lo > base ? v.lo : base, hi = v.hi < base + CU_PART ? v.hi : base + CU_PART;
        for (int i = (int)threadIdx.x; i < a.dv; i += CU_THREADS) {
            float o = s.o[i] * keep;
            for (int key = lo; key < hi; key++)
                o = fmaf(s.z[key - base],
                         cache<T>::widen(key_at<element>(a, v, a.v_pool, key, g, a.dv)[i]), o);
            s.o[i] = o;
        }
        __syncthreads();
    }
    float factor = 1.0f / l;
    if (a.sink && v.lo < v.hi) {
        float sink = floats_in(a.sink)[h], high = fmaxf(m, sink), keep = expf(m - high);
        factor = keep / fmaf(l, keep, expf(sink - high));
    }
    if (v.lo >= v.hi) factor = 0; /* no visible key */
    for (int i = (int)threadIdx.x; i < a.dv; i += CU_THREADS)
        out[i] = s.o[i] * factor;
}

#define KERNELS(T)                                                                                 \
    KERNEL(kv_append_##T, cu_append) {                                                             \
        kv_append<T>(a);                                                                           \
    }                                                                                              \
    KERNEL(attn_##T, cu_attn) {                                                                    \
        __shared__ attn_memory s;                                                                  \
        attn<T>(a, s);                                                                             \
    }
KERNELS(0)
KERNELS(1)
KERNELS(30)
