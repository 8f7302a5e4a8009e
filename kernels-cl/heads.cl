/* SPDX-License-Identifier: MIT
 *
 * What lies between the products of queries, keys and values and their attention, for a few tokens, in
 * one work-item: NORM a, NORM b (with NORMS), ROPE c, ROPE d, KV_APPEND.  Each is done for all tokens
 * before the next, so any of them may write where an earlier one has read.  References: those of
 * norm.cl, rope.cl, kv_append.cl, to the bits.
 *
 * Five launches would have a processor's threads wait for one another five times, for work of
 * microseconds (PoCL, Qwen3-0.6B: a tenth of a token's time).
 *
 * a, b f32 [T][H][n_norm], their weights f32 [n_norm], rows and heads in a_dim and b_dim; c, d f32
 * [T][H][n]; k f32 [T][G][dk], v f32 [T][G][dv]; room f32 [n_rot] for a token's cosines and sines. */
#include "norm.clh"

#include "kv_append.clh"
#include "rope.clh"

#ifndef NORMS
#define NORMS 1
#endif

/* rows: of x, and how many are a token's. */
static inline void norm_all(__global const char *x, long4 x_at, __global char *y, long4 y_at,
                            __global const float *w, int2 rows, int n, float eps, int flags,
                            __local float *room) {
    for (int r = 0; r < rows.x; r++)
        norm_row(const_floats(x, row_at(x_at, r, rows.x, rows.y)), w, w,
                 floats(y, row_at(y_at, r, rows.x, rows.y)), n, eps, flags, room);
}

/* turn: cosines, then sines. */
static inline void rope_row(__global const float *in, __global float *out, int n, int2 rot,
                            __local const float *turn) {
    int i = 0, half_n = rot.y / 2;
    if (in != out) copy_rest(in, out, n, rot.x, rot.y);
#if PAIRS == 1
    for (; i + 16 <= half_n; i += 16) {
        float16 c = vload16(0, turn + i), s = vload16(0, turn + half_n + i);
        float16 x0 = vload16(0, in + rot.x + i), x1 = vload16(0, in + rot.x + half_n + i);
        vstore16(mad32(x0, c, -(x1 * s)), 0, out + rot.x + i);
        vstore16(mad32(x0, s, x1 * c), 0, out + rot.x + half_n + i);
    }
#endif
    for (; i < half_n; i++) {
        int p = pair_at(i, rot.x), q = second_of(p, rot.y);
        float c = turn[i], s = turn[half_n + i], x0 = in[p], x1 = in[q];
        out[p] = mad32(x0, c, -(x1 * s));
        out[q] = mad32(x0, s, x1 * c);
    }
}

static inline void rope_all(__global const char *x, long4 x_at, __global char *y, long4 y_at, int n_tok,
                            int n_head, int n, int2 rot, __local const float *turn) {
    for (int t = 0; t < n_tok; t++)
        for (int h = 0; h < n_head; h++)
            rope_row(const_floats(x, x_at.s0 + t * x_at.s2 + h * x_at.s3),
                     floats(y, y_at.s0 + t * y_at.s2 + h * y_at.s3), n, rot, turn + t * rot.y);
}

KERNEL void heads(__global const char *a, long4 a_at, __global char *a_y, long4 a_y_at,
                  __global const char *a_w, long a_w_at, int2 a_rows, __global const char *b,
                  long4 b_at, __global char *b_y, long4 b_y_at, __global const char *b_w, long b_w_at,
                  int2 b_rows, int n_norm, float eps, int flags, __global const char *c, long4 c_at,
                  __global char *c_y, long4 c_y_at, int c_heads, __global const char *d, long4 d_at,
                  __global char *d_y, long4 d_y_at, int d_heads, __global const char *factor,
                  long factor_at, int has_factor, int n, int2 rot, float ratio, float magnitude,
                  float4 ramp, __global const char *k, long4 k_at, __global const char *v, long4 v_at,
                  __global char *k_pool, long k_pool_at, __global char *v_pool, long v_pool_at,
                  int n_head, int dk, int dv, __global const int *step, int pos_at, int slot_at,
                  int n_tok, __local float *room) {
#if NORMS
    norm_all(a, a_at, a_y, a_y_at, const_floats(a_w, a_w_at), a_rows, n_norm, eps, flags, room);
    norm_all(b, b_at, b_y, b_y_at, const_floats(b_w, b_w_at), b_rows, n_norm, eps, flags, room);
#endif
    for (int t = 0; t < n_tok; t++) {
        float theta = (float)step[pos_at + t];
        __local float *turn = room + t * rot.y;
        for (int i = 0; i < rot.y / 2; i++) {
            float f = has_factor ? const_floats(factor, factor_at)[i] : 1.0f;
            float angle = angle_of(theta, i, f, ramp);
            turn[i] = cos(angle) * magnitude;
            turn[rot.y / 2 + i] = sin(angle) * magnitude;
            theta *= ratio;
        }
    }
    rope_all(c, c_at, c_y, c_y_at, n_tok, c_heads, n, rot, room);
    rope_all(d, d_at, d_y, d_y_at, n_tok, d_heads, n, rot, room);
    for (int t = 0; t < n_tok; t++) {
        long slot = step[slot_at + t];
        for (int g = 0; g < n_head && slot >= 0; g++) {
            store(const_floats(k, k_at.s0 + t * k_at.s2 + g * k_at.s3), k_pool + k_pool_at,
                  (slot * n_head + g) * dk, dk);
            store(const_floats(v, v_at.s0 + t * v_at.s2 + g * v_at.s3), v_pool + v_pool_at,
                  (slot * n_head + g) * dv, dv);
        }
    }
}
