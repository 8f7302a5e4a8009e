/* SPDX-License-Identifier: MIT
 *
 * heads.cu - ROPE and KV_APPEND, and what is done to a step's heads between projection and
 * attention as one launch.  References: ref_norm, ref_rope, ref_kv_append. */
#include "cache.cuh"
#include "norm.cuh"

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

struct cu_turn {
    float s, c;
};

/* theta: theta_i. */
DEVICE cu_turn turn_of(const cu_rope &a, float theta, int i) {
    cu_turn r;
    sin_cos(angle_of(a, theta, i), &r.s, &r.c);
    r.s *= a.magnitude;
    r.c *= a.magnitude;
    return r;
}

/* Pair i of a head. */
DEVICE void turn(const cu_rope &a, int i, cu_turn r, const float *in, float *out) {
    int p = a.first + (a.is_neox ? i : 2 * i), q = a.is_neox ? p + a.n_rot / 2 : p + 1;
    float x0 = in[p], x1 = in[q];
    out[p] = fmaf(x0, r.c, -(x1 * r.s));
    out[q] = fmaf(x0, r.s, x1 * r.c);
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
    float theta = (float)ints_in(a.pos)[t];
    for (int k = 0; k < i; k++)
        theta *= a.ratio;
    turn(a, i, turn_of(a, theta, i), in, out);
}

/* ---- KV_APPEND ----------------------------------------------------------------------------------
 *
 * k f32 [T][G][dk], v f32 [T][G][dv] to rows slot[t] of the pools.  A block takes a head of a
 * token. */

/* Head number `head` of n elements. */
template <int T> DEVICE uint8_t *stored_at(uint64_t pool, int64_t head, int n) {
    return global<uint8_t>(pool) + head * head_bytes<T>(n);
}

template <int T> DEVICE void kv_append(const cu_append &a) {
    int t = (int)blockIdx.x / a.n_head, g = (int)blockIdx.x % a.n_head;
    int64_t slot = ints_in(a.slot)[t];
    if (slot < 0) return;
    cache<T>::store(floats_in(a.k.at + (uint64_t)(t * a.k.stride[1] + g * a.k.stride[2])),
                    stored_at<T>(a.k_pool, slot * a.n_head + g, a.dk), a.dk, warp(), CU_ROWS);
    cache<T>::store(floats_in(a.v.at + (uint64_t)(t * a.v.stride[1] + g * a.v.stride[2])),
                    stored_at<T>(a.v_pool, slot * a.n_head + g, a.dv), a.dv, warp(), CU_ROWS);
}

/* ---- all of it ----------------------------------------------------------------------------------
 *
 * NORM (or none) and ROPE of q [T][H][d] and k [T][G][d], each in place, and KV_APPEND of k and v
 * [T][G][dv]; the bits are those of the kernels by themselves.  Of a token, heads of q, then of k,
 * then of v are counted through: a warp takes those that are n_warp apart, and so the angles of its
 * token once.  A lane has fours i, i + CU_WARP, .. of a head, which are what the threads of warp
 * 0, 1, .. have in rows.cu; pairs and stores go through shared memory. */

/* Fours number i of a row, those elements that there are. */
DEVICE void store_four(float *y, int i, int n, const float *v) {
    if (4 * i + 4 <= n && is_aligned(y)) {
        write_four<true>(y, i, n, v);
        return;
    }
    write_four<false>(y, i, n, v);
}

/* Sum of a head as block_sum has that of a row. */
template <int K> DEVICE float head_sum(const float (*v)[4], int n, float mean, bool is_square) {
    float s[CU_ROWS] = {};
    UNROLL for (int k = 0; k < K; k++) s[k] =
        warp_sum(sum_four<false>(v[k], lane() + k * CU_WARP, n, mean, is_square, 0));
    return (s[0] + s[1]) + (s[2] + s[3]);
}

template <int K> DEVICE void norm_head(const norm_of &f, float (*v)[4]) {
    float mean = 0, share = share_of(f);
    if (f.kind == 1) mean = head_sum<K>(v, f.n, 0, false) * share;
    float factor = factor_of(f, head_sum<K>(v, f.n, mean, true), share);
    UNROLL for (int k = 0; k < K; k++) {
        int i = lane() + k * CU_WARP;
        float w[4] = {}, b[4] = {};
        if (f.w) load_four(f.w, i, f.n, w);
        if (f.kind == 1 && f.b) load_four(f.b, i, f.n, b);
        UNROLL for (int j = 0; j < 4; j++) v[k][j] = normed(f, v[k][j], mean, factor, w[j], b[j]);
    }
}

/* Of the pairs of a lane. */
template <int N> DEVICE void turns_of(const cu_rope &a, int t, cu_turn *r) {
    float theta = (float)ints_in(a.pos)[t];
    for (int k = 0; k < lane(); k++)
        theta *= a.ratio;
    UNROLL for (int k = 0; k < N; k++) {
        int i = lane() + k * CU_WARP;
        if (i < a.n_rot / 2) r[k] = turn_of(a, theta, i);
        for (int l = 0; l < CU_WARP && k + 1 < N; l++)
            theta *= a.ratio;
    }
}

template <int N> DEVICE void turn_head(const cu_rope &a, const cu_turn *r, float *s) {
    UNROLL for (int k = 0; k < N; k++) {
        int i = lane() + k * CU_WARP;
        if (i < a.n_rot / 2) turn(a, i, r[k], s, s);
    }
    __syncwarp();
}

/* Which head, and where it lies. */
struct head_of {
    int part, head, n; /* 0: of q, 1: of k, 2: of v */
    float *x;
};

DEVICE head_of head_at(const cu_heads &a, int t, int u) {
    head_of h = {0, u, a.d, nullptr};
    if (u >= a.part[0].n_head) {
        h.part = u < a.part[0].n_head + a.part[1].n_head ? 1 : 2;
        h.head = (u - a.part[0].n_head) % a.part[1].n_head;
    }
    if (h.part == 2) h.n = a.dv;
    const cu_heads_part &p = a.part[h.part];
    h.x = floats_out(p.at + (uint64_t)(t * p.stride[0] + h.head * p.stride[1]));
    return h;
}

/* A warp's heads; s: 4 K CU_WARP numbers. */
template <int T, int K> DEVICE void heads(const cu_heads &a, float *s) {
    int at = (int)blockIdx.x * CU_ROWS + warp(), t = at / a.n_warp, first = at % a.n_warp;
    int n_turned = a.part[0].n_head + a.part[1].n_head, n_unit = n_turned + a.part[2].n_head;
    cu_turn r[2 * K] = {};
    float v[K][4];
    int64_t slot = -1;
    ahead_go();
    if (t < a.n_tok) {
        slot = ints_in(a.slot)[t];
        if (first < n_turned) turns_of<2 * K>(a.rope, t, r);
    }
    ahead_wait();
    if (t >= a.n_tok) return;
    for (int u = first; u < n_unit; u += a.n_warp) {
        head_of h = head_at(a, t, u);
        const cu_heads_part &p = a.part[h.part];
        UNROLL for (int k = 0; k < K; k++) load_four(h.x, lane() + k * CU_WARP, h.n, v[k]);
        if (p.n_vector) {
            int64_t at_w = (int64_t)(h.head % p.n_vector) * a.d;
            norm_head<K>({p.w ? floats_in(p.w) + at_w : nullptr,
                          p.bias ? floats_in(p.bias) + at_w : nullptr, a.d, p.kind, p.eps, 0, 0, 0},
                         v);
        }
        UNROLL for (int k = 0; k < K; k++) store_four(s, lane() + k * CU_WARP, h.n, v[k]);
        __syncwarp();
        if (h.part < 2) {
            turn_head<2 * K>(a.rope, r, s);
            UNROLL for (int k = 0; k < K; k++) {
                load_four(s, lane() + k * CU_WARP, h.n, v[k]);
                store_four(h.x, lane() + k * CU_WARP, h.n, v[k]);
            }
        }
        if (h.part > 0 && slot >= 0)
            cache<T>::store(s,
                            stored_at<T>(h.part == 1 ? a.k_pool : a.v_pool,
                                         slot * a.part[1].n_head + h.head, h.n),
                            h.n, 0, 1);
        __syncwarp();
    }
}

#define KERNELS(T)                                                                                 \
    KERNEL(kv_append_##T, cu_append) {                                                             \
        kv_append<T>(a);                                                                           \
    }                                                                                              \
    KERNEL_AHEAD(heads_##T, cu_heads) {                                                            \
        __shared__ four_floats s[CU_ROWS][CU_KEPT_HEAD / 4];                                       \
        if (a.d <= CU_KEPT_HEAD / 2 && a.dv <= CU_KEPT_HEAD / 2)                                   \
            heads<T, 1>(a, (float *)s[warp()]);                                                    \
        else                                                                                       \
            heads<T, 2>(a, (float *)s[warp()]);                                                    \
    }
KERNELS(0)
KERNELS(1)
KERNELS(30)
KERNELS(8)
KERNELS(2)
