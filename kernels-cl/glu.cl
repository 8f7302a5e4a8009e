/* SPDX-License-Identifier: MIT
 *
 * GLU: y = f(gate) * up, f = ACT.  Reference: ref_glu.
 *
 * gate, up, y f32 [d0][d1][d2][n], y may be gate.  Work-item (c, r): elements 64 c .. of row r. */
#include "common.clh"

#include "act.clh"

KERNEL void glu(__global const char *gate, long4 gate_at, __global const char *up, long4 up_at,
                __global char *y, long4 y_at, int d1, int d2, int n, float param) {
    int r = (int)get_global_id(1), first = (int)get_global_id(0) * 64;
    __global const float *g = const_floats(gate, row_at(gate_at, r, d1, d2));
    __global const float *u = const_floats(up, row_at(up_at, r, d1, d2));
    __global float *out = floats(y, row_at(y_at, r, d1, d2));
    for (int i = first; i < first + 64 && i < n; i += 16)
        if (n - i >= 16)
            vstore16(act16(vload16(0, g + i), param) * vload16(0, u + i), 0, out + i);
        else
            store_some(act16(load_some(g + i, n - i, 0.0f), param) * load_some(u + i, n - i, 0.0f),
                       out + i, n - i);
}
