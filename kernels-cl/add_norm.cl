/* SPDX-License-Identifier: MIT
 *
 * ADD_NORM: sum = a + b, y = NORM(sum).  Reference: ref_add_norm.
 *
 * a, b, sum, y f32 [T][n], sum may be a; w, bias f32 [n].  Work-group t: token t. */
#include "common.clh"

#include "norm.clh"

GROUP void add_norm(__global const char *a, long4 a_at, __global const char *b, long4 b_at,
                     __global char *sum, long4 sum_at, __global char *y, long4 y_at,
                     __global const char *w, long w_at, __global const char *bias, long bias_at, int n,
                     float eps, int flags, __local float *room) {
    int t = (int)get_group_id(0);
    __global const float *p = const_floats(a, a_at.s0 + t * a_at.s3);
    __global const float *q = const_floats(b, b_at.s0 + t * b_at.s3);
    __global float *out = floats(sum, sum_at.s0 + t * sum_at.s3);
    for (int i = lane_of(); i < n; i += LANES)
        out[i] = p[i] + q[i];
    norm_row(out, const_floats(w, w_at), const_floats(bias, bias_at),
             floats(y, y_at.s0 + t * y_at.s3), n, eps, flags, room);
}
