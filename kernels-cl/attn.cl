/* SPDX-License-Identifier: MIT
 *
 * ATTN over paged pools of type TYPE (F32 0, F16 1, BF16 30), keys of DK and values of DV elements,
 * GROUP query heads to a key/value head.  Reference: ref_attn.
 *
 * q f32 [T][H][DK], pools [blocks][B][G][..], sink f32 [H], y f32 [T][H][DV].  Work-item (g, t): the
 * GROUP heads of key/value head g, so that a key is widened once for all of them.
 *
 * Keys are taken in parts of 256 counted from key 0; a part gives a largest logit m, a sum of
 * exponentials l and weighted values o, and parts are merged in rising order.  Within a part lane i of
 * a sum takes the keys i, i + 16, ..  So nothing but key numbers decides the order. */
#include "common.clh"

#ifndef TYPE
#define TYPE 1
#endif
#ifndef DK
#define DK 64
#endif
#ifndef DV
#define DV 64
#endif
#ifndef GROUP
#define GROUP 1
#endif

#define PART 256
#define NK   (DK / 16)
#define NV   (DV / 16)

#if TYPE == 0
typedef float element;
#define WIDEN16(p) vload16(0, p)
#define WIDEN(v)   (v)
#elif TYPE == 1
typedef ushort element;
#define WIDEN16(p) widen16(vload16(0, p))
#define WIDEN(v)   widen(v)
#else
typedef ushort element;
#define WIDEN16(p) as_float16(convert_uint16(vload16(0, p)) << 16)
#define WIDEN(v)   as_float((uint)(v) << 16)
#endif

/* Which keys a token sees, and how their logits are formed. */
typedef struct view {
    __global const int *table;
    int pos, lo, hi, n_block_tok, n_kv_head, g;
    float scale, cap;
} view;

static inline __global const element *key_at(const view *v, __global const char *pool, int key, int n) {
    long row = (long)v->table[key / v->n_block_tok] * v->n_block_tok + key % v->n_block_tok;
    return (__global const element *)pool + (row * v->n_kv_head + v->g) * n;
}

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

/* op.def: slope_h. */
static inline float slope_of(float alibi_max, int h, int n_head) {
    int n = 1;
    if (alibi_max == 0) return 0;
    while (n * 2 <= n_head)
        n *= 2;
    if (h < n) return exp2(-alibi_max * (float)(h + 1) / (float)n);
    return exp2(-alibi_max * (float)(2 * (h - n) + 1) / (float)(2 * n));
}

static inline view view_of(__global const int *step, int4 at, int t, int block_tokens, int window,
                           int chunk, int is_not_causal, int max_blocks) {
    view v;
    int seq = step[at.s1 + t], ctx = step[at.s2 + seq];
    v.table = step + at.s3 + (long)seq * max_blocks;
    v.pos = step[at.s0 + t];
    v.lo = 0;
    v.hi = ctx;
    v.n_block_tok = block_tokens;
    if (!is_not_causal) v.hi = min(v.hi, v.pos + 1);
    if (window > 0) v.lo = max(v.lo, v.pos - window + 1);
    if (chunk > 0) {
        v.lo = max(v.lo, v.pos / chunk * chunk);
        v.hi = min(v.hi, v.pos / chunk * chunk + chunk);
    }
    return v;
}

/* at: pos, seq, ctx and table in the step. */
KERNEL void attn(__global const char *q, long4 q_at, __global const char *k_pool, long k_pool_at,
                 __global const char *v_pool, long v_pool_at, __global const char *sink, long sink_at,
                 __global char *y, long4 y_at, __global const int *step, int4 at, int max_blocks,
                 int block_tokens, int n_kv_head, float scale, float cap, float alibi_max, int window,
                 int chunk, int flags) {
    float z[GROUP][PART], m[GROUP], l[GROUP], slope[GROUP], q_rest[GROUP][16], o_rest[GROUP][16];
    float16 qv[GROUP][NK + 1], o[GROUP][NV + 1];
    int t = (int)get_global_id(1);
    view v = view_of(step, at, t, block_tokens, window, chunk, flags & 1, max_blocks);
    v.g = (int)get_global_id(0);
    v.n_kv_head = n_kv_head;
    k_pool += k_pool_at;
    v_pool += v_pool_at;
    for (int h = 0; h < GROUP; h++) {
        __global const float *in = const_floats(q, q_at.s0 + t * q_at.s2 + (v.g * GROUP + h) * q_at.s3);
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
        slope[h] = slope_of(alibi_max, v.g * GROUP + h, GROUP * n_kv_head);
    }
    for (int lo = v.lo, hi; lo < v.hi; lo = hi) {
        hi = min((lo / PART + 1) * PART, v.hi);
        int n = hi - lo, base = lo / PART * PART;
        for (int h = 0; h < GROUP; h++)
            for (int i = 0; i < PART; i++)
                z[h][i] = -INFINITY;
        float top[GROUP];
        for (int h = 0; h < GROUP; h++)
            top[h] = -INFINITY;
        for (int key = lo; key < hi; key++) {
            __global const element *k = key_at(&v, k_pool, key, DK);
#pragma unroll
            for (int h = 0; h < GROUP; h++) {
                float x = scale * dot_key(k, qv[h], q_rest[h]);
                if (cap > 0) x = cap * tanh(x / cap);
                x += slope[h] * (float)(key - v.pos);
                z[h][key - base] = x;
                top[h] = x <= top[h] ? top[h] : x; /* a NaN is kept */
            }
        }
        for (int h = 0; h < GROUP; h++) {
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
                for (int h = 0; h < GROUP; h++)
                    o[h][i] = mad32((float16)(z[h][key - base]), e, o[h][i]);
            }
            for (int i = 0; i < DV % 16; i++)
                for (int h = 0; h < GROUP; h++)
                    o_rest[h][i] = mad32(z[h][key - base], WIDEN(p[16 * NV + i]), o_rest[h][i]);
        }
    }
    for (int h = 0; h < GROUP; h++) {
        int head = v.g * GROUP + h;
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
