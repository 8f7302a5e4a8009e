/* SPDX-License-Identifier: MIT
 *
 * ATTN over paged pools of type TYPE (F32 0, F16 1, BF16 30), keys of DK and values of DV elements,
 * HEADS query heads to a key/value head.  Reference: ref_attn.
 *
 * q f32 [T][H][DK], pools [blocks][B][G][..], sink f32 [H], y f32 [T][H][DV].  On a processor
 * work-item (g, t) takes the HEADS heads of key/value head g, so that a key is widened once for all of
 * them; on a graphics card work-group (h, t) takes head h (attn_group.clh).
 *
 * Keys are taken in parts of 256 counted from key 0; a part gives a largest logit m, a sum of
 * exponentials l and weighted values o, and parts are merged in rising order.  Within a part lane i of
 * a sum takes the keys i, i + 16, .. (of a group i, i + LANES, ..).  So nothing but key numbers decides
 * the order. */
#include "attn.clh"

#include "attn_group.clh"

#if SHAPE == 0
static inline float dot_key(__global const element *k, const float16 *q, const float *q_rest) {
    float16 sum = 0.0f;
    float rest = 0.0f;
#pragma unroll
    for (int i = 0; i < NK; i++)
        sum = mad32(WIDEN16(k + 16 * i), q[i], sum);
    for (int i = 0; i < DK % 16; i++)
        rest = mad32(WIDEN(k[16 * NK + i]), q_rest[i], rest);
    return sum16(sum) + rest;
}

/* at: pos, seq, ctx and table in the step. */
GROUP void attn(__global const char *q, long4 q_at, __global const char *k_pool, long k_pool_at,
                 __global const char *v_pool, long v_pool_at, __global const char *sink, long sink_at,
                 __global char *y, long4 y_at, __global const int *step, int4 at, int max_blocks,
                 int block_tokens, int n_kv_head, float scale, float cap, float alibi_max, int window,
                 int chunk, int flags, __local float *room) {
    float z[HEADS][PART], m[HEADS], l[HEADS], slope[HEADS], q_rest[HEADS][16], o_rest[HEADS][16];
    float16 qv[HEADS][NK + 1], o[HEADS][NV + 1];
    int t = (int)get_global_id(1);
    view v = view_of(step, at, t, block_tokens, window, chunk, flags & 1, max_blocks);
    v.g = (int)get_global_id(0);
    v.n_kv_head = n_kv_head;
    k_pool += k_pool_at;
    v_pool += v_pool_at;
    for (int h = 0; h < HEADS; h++) {
        __global const float *in = const_floats(q, q_at.s0 + t * q_at.s2 + (v.g * HEADS + h) * q_at.s3);
        for (int i = 0; i < NK; i++)
            qv[h][i] = vload16(i, in);
        for (int i = 0; i < 16; i++) {
            q_rest[h][i] = i < DK % 16 ? in[16 * NK + i] : 0.0f;
            o_rest[h][i] = 0.0f;
        }
        for (int i = 0; i < NV; i++)
            o[h][i] = 0.0f;
        m[h] = -INFINITY;
        l[h] = 0.0f;
        slope[h] = slope_of(alibi_max, v.g * HEADS + h, HEADS * n_kv_head);
    }
    for (int lo = v.lo, hi; lo < v.hi; lo = hi) {
        hi = min((lo / PART + 1) * PART, v.hi);
        int n = hi - lo, base = lo / PART * PART;
        for (int h = 0; h < HEADS; h++)
            for (int i = 0; i < PART; i++)
                z[h][i] = -INFINITY;
        float top[HEADS];
        for (int h = 0; h < HEADS; h++)
            top[h] = -INFINITY;
        for (int key = lo; key < hi; key++) {
            __global const element *k = key_at(&v, k_pool, key, DK);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                float x = scale * dot_key(k, qv[h], q_rest[h]);
                if (cap > 0) x = cap * tanh(x / cap);
                x += slope[h] * (float)(key - v.pos);
                z[h][key - base] = x;
                top[h] = x <= top[h] ? top[h] : x; /* a NaN is kept */
            }
        }
        for (int h = 0; h < HEADS; h++) {
            float16 sum = 0.0f;
            float high = top[h] <= m[h] ? m[h] : top[h];
            float keep = l[h] == 0 ? 0.0f : exp(m[h] - high);
            for (int i = 0; i < PART; i += 16) {
                if (i + base + 16 <= lo || i + base >= hi) continue;
                float16 e = exp(vload16(0, z[h] + i) - high);
                vstore16(e, 0, z[h] + i);
                sum += e;
            }
            l[h] = mad32(l[h], keep, sum16(sum));
            m[h] = high;
            for (int i = 0; i < NV; i++)
                o[h][i] *= keep;
            for (int i = 0; i < DV % 16; i++)
                o_rest[h][i] *= keep;
        }
        for (int key = lo; key < lo + n; key++) {
            __global const element *p = key_at(&v, v_pool, key, DV);
#pragma unroll
            for (int i = 0; i < NV; i++) {
                float16 e = WIDEN16(p + 16 * i);
#pragma unroll
                for (int h = 0; h < HEADS; h++)
                    o[h][i] = mad32((float16)(z[h][key - base]), e, o[h][i]);
            }
            for (int i = 0; i < DV % 16; i++)
                for (int h = 0; h < HEADS; h++)
                    o_rest[h][i] = mad32(z[h][key - base], WIDEN(p[16 * NV + i]), o_rest[h][i]);
        }
    }
    for (int h = 0; h < HEADS; h++) {
        int head = v.g * HEADS + h;
        __global float *out = floats(y, y_at.s0 + t * y_at.s2 + head * y_at.s3);
        float factor = 1.0f / l[h];
        if (flags & 2 && v.lo < v.hi) {
            float s = const_floats(sink, sink_at)[head], high = s <= m[h] ? m[h] : s;
            float keep = exp(m[h] - high);
            factor = keep / mad32(l[h], keep, exp(s - high));
        }
        if (v.lo >= v.hi) factor = 0.0f; /* no visible key */
        for (int i = 0; i < NV; i++)
            vstore16(o[h][i] * factor, i, out);
        for (int i = 0; i < DV % 16; i++)
            out[16 * NV + i] = o_rest[h][i] * factor;
    }
}
#endif
