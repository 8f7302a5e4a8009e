/* SPDX-License-Identifier: MIT
 *
 * LINEAR: y[t][o] = s * (sum_i W[o][i] x[t][i]) + b[o].  Reference: ref_linear.
 *
 * x f32 [T][n], W TYPE [m][n], b f32 [m], s f32 [1], y f32 [T][m].  Work-item (i, k): rows ROWS i .. of
 * tokens TOKENS k ..; what lies beyond m and T is computed on the last row or token and not stored. */
#include "product.clh"

KERNEL void linear(__global const uchar *w, long w_at, __global const char *x, long4 x_at,
                   __global char *y, long4 y_at, __global const char *b, long b_at,
                   __global const char *s, long s_at, int n, int m, int n_tok, int flags) {
    __global const uchar *wp[ROWS];
    __global const float *xp[TOKENS];
    float sum[ROWS][TOKENS];
    int o = (int)get_global_id(0) * ROWS, t0 = (int)get_global_id(1) * TOKENS;
    for (int r = 0; r < ROWS; r++)
        wp[r] = w + w_at + (long)min(o + r, m - 1) * row_bytes(n);
    for (int t = 0; t < TOKENS; t++)
        xp[t] = const_floats(x, row_at(x_at, min(t0 + t, n_tok - 1), 1, n_tok));
    multiply(wp, xp, n, sum);
    float scale = flags & 2 ? const_floats(s, s_at)[0] : 1.0f;
    for (int t = 0; t < TOKENS && t0 + t < n_tok; t++) {
        __global float *out = floats(y, row_at(y_at, t0 + t, 1, n_tok));
        for (int r = 0; r < ROWS && o + r < m; r++) {
            float bias = flags & 1 ? const_floats(b, b_at)[o + r] : 0.0f;
            out[o + r] = scaled(sum[r][t], scale, bias, flags & 4);
        }
    }
}
