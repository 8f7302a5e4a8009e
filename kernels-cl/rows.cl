/* SPDX-License-Identifier: MIT
 *
 * ROWS: y[r] = x[out_row[r]].  Reference: ref_rows.
 *
 * x f32 [T][n], out_row i32 [R] at rows_at in the step, y f32 [R][n].  Work-item (c, r): elements
 * 64 c .. of row r. */
#include "common.clh"

KERNEL void rows(__global const char *x, long4 x_at, __global const int *step, int rows_at,
                 __global char *y, long4 y_at, int n) {
    int r = (int)get_global_id(1), first = (int)get_global_id(0) * 64;
    __global const float *in = const_floats(x, x_at.s0 + step[rows_at + r] * x_at.s3);
    __global float *out = floats(y, y_at.s0 + r * y_at.s3);
    for (int i = first; i < first + 64 && i < n; i++)
        out[i] = in[i];
}
