/* SPDX-License-Identifier: MIT
 *
 * NORM.  Reference: ref_norm.
 *
 * x, y f32 [d0][d1][d2][n], y may be x; w, b f32 [n], or [d2][n] (n_vector is d2).  Work-group r: row r. */
#include "common.clh"

#include "norm.clh"

GROUP void norm(__global const char *x, long4 x_at, __global char *y, long4 y_at,
                 __global const char *w, long w_at, __global const char *b, long b_at, int d1, int d2,
                 int n, int n_vector, float eps, int flags, __local float *room) {
    int r = (int)get_group_id(0);
    long v = (long)(r % n_vector) * n;
    norm_row(const_floats(x, row_at(x_at, r, d1, d2)), const_floats(w, w_at) + v,
             const_floats(b, b_at) + v, floats(y, row_at(y_at, r, d1, d2)), n, eps, flags,
             room);
}
