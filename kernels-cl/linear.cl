/* SPDX-License-Identifier: MIT
 *
 * LINEAR: y[t][o] = s * (sum_i W[o][i] x[t][i]) + b[o].  Reference: ref_linear.
 *
 * x f32 [T][n], W TYPE [m][n], b f32 [m], s f32 [1], y f32 [T][m].  Work-item (i, k): rows ROWS i .. of
 * tokens TOKENS k ..; tokens beyond T are computed on the last one and not stored. */
#include "product.clh"

KERNEL void linear(__global const uchar *w, long w_at, __global const char *x, long4 x_at,
                   __global char *y, long4 y_at, __global const char *b, long b_at,
                   __global const char *s, long s_at, int n, int m, int n_tok, int flags) {
    __global const float *xp[TOKENS];
    float sum[TOKENS];
    int o0 = (int)get_global_id(0) * ROWS, t0 = (int)get_global_id(1) * TOKENS;
    float scale = flags & 2 ? const_floats(s, s_at)[0] : 1.0f;
    token_rows(x, x_at, t0, n_tok, xp);
    for (int o = o0; o < o0 + ROWS && o < m; o++) {
        multiply(w + w_at + (long)o * row_bytes(n), xp, n, sum);
        float bias = flags & 1 ? const_floats(b, b_at)[o] : 0.0f;
        for (int t = 0; t < TOKENS && t0 + t < n_tok; t++)
            floats(y, y_at.s0 + (t0 + t) * y_at.s3)[o] = scaled(sum[t], scale, bias, flags & 4);
    }
}
