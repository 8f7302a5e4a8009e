/* SPDX-License-Identifier: MIT
 *
 * SCALE: y = scale * x.  Reference: ref_scale.
 *
 * x, y f32 [d0][d1][d2][n], y may be x.  Work-item (c, r): elements 64 c .. of row r. */
#include "common.clh"

KERNEL void scale(__global const char *x, long4 x_at, __global char *y, long4 y_at, int d1, int d2,
                  int n, float factor) {
    int r = (int)get_global_id(1), first = (int)get_global_id(0) * 64;
    __global const float *in = const_floats(x, row_at(x_at, r, d1, d2));
    __global float *out = floats(y, row_at(y_at, r, d1, d2));
    for (int i = first; i < first + 64 && i < n; i++)
        out[i] = factor * in[i];
}
