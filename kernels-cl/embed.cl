/* SPDX-License-Identifier: MIT
 *
 * EMBED: y[t] = scale * W[i], i = tok[t] or pos[t].  Reference: ref_embed.
 *
 * W TYPE [V][d], ids i32 [T] at ids_at in the step, y f32 [T][d].  Work-item (c, t): elements 16 c .. */
#include "common.clh"
#include "dequant.clh"

KERNEL void embed(__global const uchar *w, long w_at, __global const int *step, int ids_at,
                  __global char *y, long4 y_at, int n, int n_tok, float scale) {
    int c = (int)get_global_id(0), t = (int)get_global_id(1);
    __global const uchar *row = w + w_at + (long)step[ids_at + t] * ((long)n * STEP_BYTES / STEP_N);
    __global float *out = floats(y, row_at(y_at, t, 1, n_tok)) + 16 * c;
#ifdef IS_PLAIN
    for (int i = 16 * c; n - 16 * c < 16 && i < n; i++)
        out[i - 16 * c] = scale * weight(row, i);
    if (n - 16 * c < 16) return;
#endif
    row += (long)(16 * c / STEP_N) * STEP_BYTES;
    volatile float16 sc[2];
#ifdef HAS_SCALES
    scales_of(row, sc);
#endif
    float16 v[CHUNK];
    int part = 16 * c % STEP_N / 16;
    weights_of(row, part / CHUNK, (const volatile float *)sc, v);
#ifdef HAS_SCALE
    v[part % CHUNK] *= scale_of(row);
#endif
    vstore16(scale * v[part % CHUNK], 0, out);
}
