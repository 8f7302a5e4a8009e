/* SPDX-License-Identifier: MIT
 *
 * ROPE.  Reference: ref_rope.
 *
 * x, y f32 [T][H][d], y may be x; factor f32 [n_rot / 2]; pos i32 [T] at pos_at in the step.  Work-item
 * (i, t): pair i of all heads; item n_rot / 2 copies the elements outside, when y is not x. */
#include "rope.clh"

KERNEL void rope(__global const char *x, long4 x_at, __global char *y, long4 y_at,
                 __global const char *factor, long factor_at, int has_factor,
                 __global const int *step, int pos_at, int n_head, int n, int first, int n_rot,
                 float ratio, float magnitude, float4 ramp) {
    int i = (int)get_global_id(0), t = (int)get_global_id(1);
    if (i == n_rot / 2) {
        for (int h = 0; h < n_head; h++) {
            __global const float *in = const_floats(x, x_at.s0 + t * x_at.s2 + h * x_at.s3);
            copy_rest(in, floats(y, y_at.s0 + t * y_at.s2 + h * y_at.s3), n, first, n_rot);
        }
        return;
    }
    float theta = (float)step[pos_at + t];
    for (int k = 0; k < i; k++)
        theta *= ratio;
    float angle = angle_of(theta, i, has_factor ? const_floats(factor, factor_at)[i] : 1.0f, ramp);
    float c = cos(angle) * magnitude, s = sin(angle) * magnitude;
    int p = pair_at(i, first), q = second_of(p, n_rot);
    for (int h = 0; h < n_head; h++) {
        __global const float *in = const_floats(x, x_at.s0 + t * x_at.s2 + h * x_at.s3);
        __global float *out = floats(y, y_at.s0 + t * y_at.s2 + h * y_at.s3);
        float x0 = in[p], x1 = in[q];
        out[p] = mad32(x0, c, -(x1 * s));
        out[q] = mad32(x0, s, x1 * c);
    }
}
