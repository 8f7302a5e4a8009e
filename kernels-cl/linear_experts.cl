/* SPDX-License-Identifier: MIT
 *
 * LINEAR_EXPERTS: y[t][j] = s[e] * (W[e] x_tj) + b[e], e = ids[t][j].  Reference: ref_linear_experts.
 *
 * x f32 [T][n] or [T][K][n], W TYPE [E][m][n], ids i32 [T][K], b f32 [E][m], s f32 [E], y f32
 * [T][K][m].  Work-group (i, k): rows `rows` i .. of pair k = t K + j.  An id outside 0 .. E - 1 is not
 * followed: its row is NaN. */
#undef TOKENS
#define TOKENS 1
#include "product.clh"

GROUP void linear_experts(__global const uchar *w, long w_at, __global const char *x, long4 x_at,
                           __global char *y, long4 y_at, __global const char *ids, long4 ids_at,
                           __global const char *b, long b_at, __global const char *s, long s_at,
                           int n, int m, int n_used, int n_expert, int flags, int rows,
                           __local float *room) {
    row xp[TOKENS];
    float sum[TOKENS];
    int o0 = (int)get_group_id(0) * rows, k = (int)get_group_id(1), t = k / n_used;
    int e = ((__global const int *)(ids + ids_at.s0 + t * ids_at.s3))[k % n_used];
    __global float *out = floats(y, y_at.s0 + t * y_at.s2 + k % n_used * y_at.s3);
    bool is_known = e >= 0 && e < n_expert;
    float scale = is_known && flags & 2 ? const_floats(s, s_at)[e] : 1.0f;
    /* x [T][n] has its tokens in dimension 2, x [T][K][n] in dimension 1 */
    xp[0] = row_of(x + (flags & 4 ? x_at.s0 + t * x_at.s2 + k % n_used * x_at.s3
                                  : x_at.s0 + t * x_at.s3),
                   n, 0, room);
    for (int o = o0; o < o0 + rows && o < m; o++) {
        long row = (long)e * m + o;
        if (is_known) multiply(w + w_at + row * row_bytes(n), xp, n, sum, room);
        float bias = is_known && flags & 1 ? const_floats(b, b_at)[row] : 0.0f;
        if (lane_of() == 0) out[o] = is_known ? scaled(sum[0], scale, bias, 0) : NAN;
    }
}
