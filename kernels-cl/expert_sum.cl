/* SPDX-License-Identifier: MIT
 *
 * EXPERT_SUM: y[t] = sum_j w[t][j] x[t][j], j rising.  Reference: ref_expert_sum.
 *
 * x f32 [T][K][n], w f32 [T][K], y f32 [T][n].  Work-item (c, t): elements 64 c .. of token t. */
#include "common.clh"

KERNEL void expert_sum(__global const char *x, long4 x_at, __global const char *w, long4 w_at,
                       __global char *y, long4 y_at, int n_used, int n) {
    int t = (int)get_global_id(1), first = (int)get_global_id(0) * 64;
    __global const float *weight = const_floats(w, w_at.s0 + t * w_at.s3);
    __global float *out = floats(y, y_at.s0 + t * y_at.s3);
    for (int i = first; i < first + 64 && i < n; i++) {
        float sum = 0;
        for (int j = 0; j < n_used; j++)
            sum = mad32(weight[j], const_floats(x, x_at.s0 + t * x_at.s2 + j * x_at.s3)[i], sum);
        out[i] = sum;
    }
}
