/* SPDX-License-Identifier: MIT
 *
 * GATE_UP_GLU: y[t][o] = f(Wgate[o] x[t]) * (Wup[o] x[t]), f = ACT.  Reference: ref_gate_up_glu.
 *
 * x f32 [T][n], Wgate and Wup TYPE [m][n], y f32 [T][m].  Work-item (i, k): rows ROWS i .. of tokens
 * TOKENS k .., first all gates, then all ups, as two LINEARs and a GLU would have it. */
#include "product.clh"

#include "act.clh"

static inline void rows_of(__global const uchar *w, int o, int n, int m,
                           __global const uchar *out[ROWS]) {
    for (int r = 0; r < ROWS; r++)
        out[r] = w + (long)min(o + r, m - 1) * row_bytes(n);
}

KERNEL void gate_up_glu(__global const uchar *gate, long gate_at, __global const uchar *up,
                        long up_at, __global const char *x, long4 x_at, __global char *y, long4 y_at,
                        int n, int m, int n_tok, float param) {
    __global const uchar *wp[ROWS];
    __global const float *xp[TOKENS];
    float g[ROWS][TOKENS], u[ROWS][TOKENS];
    int o = (int)get_global_id(0) * ROWS, t0 = (int)get_global_id(1) * TOKENS;
    for (int t = 0; t < TOKENS; t++)
        xp[t] = const_floats(x, row_at(x_at, min(t0 + t, n_tok - 1), 1, n_tok));
    rows_of(gate + gate_at, o, n, m, wp);
    multiply(wp, xp, n, g);
    rows_of(up + up_at, o, n, m, wp);
    multiply(wp, xp, n, u);
    for (int t = 0; t < TOKENS && t0 + t < n_tok; t++) {
        __global float *out = floats(y, row_at(y_at, t0 + t, 1, n_tok));
        for (int r = 0; r < ROWS && o + r < m; r++)
            out[o + r] = act16((float16)(g[r][t]), param).s0 * u[r][t];
    }
}
