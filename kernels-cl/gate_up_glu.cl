/* SPDX-License-Identifier: MIT
 *
 * GATE_UP_GLU: y[t][o] = f(Wgate[o] x[t]) * (Wup[o] x[t]), f = ACT.  Reference: ref_gate_up_glu.
 *
 * x f32 [T][n], Wgate and Wup TYPE [m][n], y f32 [T][m].  Work-group (i, k): rows `rows` i .. of tokens
 * TOKENS k .. */
#include "product.clh"

#include "act.clh"

GROUP void gate_up_glu(__global const uchar *gate, long gate_at, __global const uchar *up,
                        long up_at, __global const char *x, long4 x_at, __global char *y, long4 y_at,
                        int n, int m, int n_tok, float param, int rows, __local float *room) {
    row xp[TOKENS];
    float g[TOKENS], u[TOKENS];
    int o0 = (int)get_group_id(0) * rows, t0 = (int)get_group_id(1) * TOKENS;
    token_rows(x, x_at, t0, n_tok, n, xp, room);
    for (int o = o0; o < o0 + rows && o < m; o++) {
        multiply(gate + gate_at + (long)o * row_bytes(n), xp, n, g, room);
        multiply(up + up_at + (long)o * row_bytes(n), xp, n, u, room);
        for (int t = 0; lane_of() == 0 && t < TOKENS && t0 + t < n_tok; t++)
            floats(y, y_at.s0 + (t0 + t) * y_at.s3)[o] = act16((float16)(g[t]), param).s0 * u[t];
    }
}
