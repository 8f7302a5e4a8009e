/* SPDX-License-Identifier: MIT
 *
 * ACT: y = f(x), f = ACT.  Reference: ref_act_op.
 *
 * x, y f32 [d0][d1][d2][n], y may be x.  Work-item (c, r): elements 64 c .. of row r. */
#include "common.clh"

#include "act.clh"

KERNEL void act(__global const char *x, long4 x_at, __global char *y, long4 y_at, int d1, int d2,
                int n, float param) {
    int r = (int)get_global_id(1), first = (int)get_global_id(0) * 64;
    __global const float *in = const_floats(x, row_at(x_at, r, d1, d2));
    __global float *out = floats(y, row_at(y_at, r, d1, d2));
    for (int i = first; i < first + 64 && i < n; i += 16)
        if (n - i >= 16)
            vstore16(act16(vload16(0, in + i), param), 0, out + i);
        else
            store_some(act16(load_some(in + i, n - i, 0.0f), param), out + i, n - i);
}
