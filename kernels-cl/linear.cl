/* SPDX-License-Identifier: MIT
 *
 * LINEAR: y[t][o] = s * (sum_i W[o][i] x[t][i]) + b[o].  Reference: ref_linear.
 *
 * x f32 [T][n], W TYPE [m][n], b f32 [m], s f32 [1], y f32 [T][m].  Work-group (i, k): rows
 * `rows` i .. of tokens TOKENS k ..; tokens beyond T are computed on the last one and not stored. */
#include "product.clh"

GROUP void linear(__global const uchar *w, long w_at, __global const char *x, long4 x_at,
                   __global char *y, long4 y_at, __global const char *b, long b_at,
                   __global const char *s, long s_at, int n, int m, int n_tok,
                   int flags, int rows, __local float *room) {
    product p = {w + w_at, y,    const_floats(b, b_at), const_floats(s, s_at), y_at, n, m,
                 n_tok,    flags};
    product_rows(&p, x, x_at, (int)get_group_id(0) * rows, rows,
                 (int)get_group_id(1) * TOKENS, room);
}
