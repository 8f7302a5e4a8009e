/* SPDX-License-Identifier: MIT
 *
 * ROUTE: the K experts of each token, and their weights.  Reference: ref_route.
 *
 * l f32 [T][E], bias f32 [E], ids i32 [T][K], w f32 [T][K].  Work-item t: token t.  EXPERTS bounds E.
 * In doubles where the device has them, so that two different logits do not become equal. */
#include "common.clh"

#ifndef EXPERTS
#define EXPERTS 256
#endif

/* The open index with the largest value in lo .. hi - 1, the lowest of equals; -1 when none is open. */
static inline int best_open(const real *value, const uchar *is_open, int lo, int hi) {
    int best = -1;
    for (int i = lo; i < hi; i++)
        if (is_open[i] && (best < 0 || value[i] > value[best])) best = i;
    return best;
}

static inline void softmax(real *p, int n) {
    real top = p[0], sum = 0;
    for (int i = 1; i < n; i++)
        if (p[i] > top) top = p[i];
    for (int i = 0; i < n; i++)
        sum += p[i] = exp(p[i] - top);
    for (int i = 0; i < n; i++)
        p[i] /= sum;
}

/* Close the experts of all but the n_used groups with the best two. */
static inline void close_groups(const real *rank, uchar *is_open, int n, int n_group, int n_used) {
    real score[EXPERTS];
    uchar is_left[EXPERTS];
    int size = n / n_group;
    for (int g = 0; g < n_group; g++) {
        int first = best_open(rank, is_open, g * size, (g + 1) * size);
        is_open[first] = 0;
        int second = best_open(rank, is_open, g * size, (g + 1) * size);
        is_open[first] = 1;
        score[g] = rank[first] + (second < 0 ? 0 : rank[second]);
        is_left[g] = 1;
    }
    for (int k = 0; k < n_used; k++)
        is_left[best_open(score, is_left, 0, n_group)] = 0;
    for (int i = 0; i < n; i++)
        is_open[i] = !is_left[i / size];
}

/* kind, renorm, n_group, n_group_used */
KERNEL void route(__global const char *l, long4 l_at, __global const char *bias, long bias_at,
                  __global char *ids, long4 ids_at, __global char *w, long4 w_at, int n, int n_used,
                  int4 how, int has_bias, float weight_scale) {
    real p[EXPERTS], rank[EXPERTS], chosen[EXPERTS], sum = 0;
    uchar is_open[EXPERTS];
    int t = (int)get_global_id(0);
    __global const float *in = const_floats(l, l_at.s0 + t * l_at.s3);
    __global int *id = (__global int *)(ids + ids_at.s0 + t * ids_at.s3);
    __global float *out = floats(w, w_at.s0 + t * w_at.s3);
    for (int i = 0; i < n; i++) {
        real x = in[i];
        p[i] = how.s0 == 1 ? 1 / (1 + exp(-x)) : x;
        is_open[i] = 1;
    }
    if (how.s0 == 0) softmax(p, n);
    for (int i = 0; i < n; i++)
        rank[i] = p[i] + (has_bias ? (real)const_floats(bias, bias_at)[i] : 0);
    if (how.s2 > 1) close_groups(rank, is_open, n, how.s2, how.s3);
    for (int k = 0; k < n_used; k++) {
        int best = best_open(rank, is_open, 0, n);
        is_open[best] = 0;
        id[k] = best;
        chosen[k] = p[best];
    }
    if (how.s0 == 2) softmax(chosen, n_used);
    for (int k = 0; k < n_used; k++)
        sum += chosen[k];
    real factor = weight_scale;
    if (how.s1) factor /= sum < (real)0x1p-14f ? (real)0x1p-14f : sum;
    for (int k = 0; k < n_used; k++)
        out[k] = (float)(chosen[k] * factor);
}
