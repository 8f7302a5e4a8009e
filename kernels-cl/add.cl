/* SPDX-License-Identifier: MIT
 *
 * ADD: y = a + b.  Reference: ref_add.
 *
 * a, y f32 [d0][d1][d2][n], y may be a.  b like a, or (one row: all strides 0) [n].
 * Work-item (c, r): elements 64 c .. of row r. */
#include "common.clh"

KERNEL void add(__global const char *a, long4 a_at, __global const char *b, long4 b_at,
                __global char *y, long4 y_at, int d1, int d2, int n) {
    int r = (int)get_global_id(1), first = (int)get_global_id(0) * 64;
    __global const float *p = const_floats(a, row_at(a_at, r, d1, d2));
    __global const float *q = const_floats(b, row_at(b_at, r, d1, d2));
    __global float *out = floats(y, row_at(y_at, r, d1, d2));
    for (int i = first; i < first + 64 && i < n; i++)
        out[i] = p[i] + q[i];
}
