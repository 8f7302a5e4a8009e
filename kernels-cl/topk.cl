/* SPDX-License-Identifier: MIT
 *
 * TOPK: the largest elements of each row in falling order, equal ones by rising id.  Reference:
 * ref_topk.
 *
 * x f32 [R][n], ids i32 [R][k], y f32 [R][k].  Work-item r: row r, whose list is a heap in private
 * memory with the entry that comes last at its root: of 64 elements together few have one that
 * comes before it.  LIST bounds k. */
#include "common.clh"

#ifndef LIST
#define LIST 128
#endif

/* Does entry a come after entry b? */
static inline bool is_after(const float *value, const int *id, int a, int b) {
    return value[a] != value[b] ? value[a] < value[b] : id[a] > id[b];
}

static inline void swap(float *value, int *id, int a, int b) {
    float v = value[a];
    int i = id[a];
    value[a] = value[b];
    id[a] = id[b];
    value[b] = v;
    id[b] = i;
}

/* Restore the heap of n entries below entry i. */
static inline void sift_down(float *value, int *id, int n, int i) {
    for (;;) {
        int last = i, left = 2 * i + 1, right = left + 1;
        if (left < n && is_after(value, id, left, last)) last = left;
        if (right < n && is_after(value, id, right, last)) last = right;
        if (last == i) return;
        swap(value, id, i, last);
        i = last;
    }
}

/* Equal to the root is not enough: what is in the heap has a lower id. */
static inline void offer(float *value, int *id, int k, float v, int i) {
    if (!(v > value[0])) return;
    value[0] = v;
    id[0] = i;
    sift_down(value, id, k, 0);
}

KERNEL void topk(__global const char *x, long4 x_at, __global char *ids, long4 ids_at,
                 __global char *y, long4 y_at, int n, int k) {
    int r = (int)get_global_id(0), i = 0;
    __global const float *in = const_floats(x, x_at.s0 + r * x_at.s3);
    __global int *out_id = (__global int *)(ids + ids_at.s0 + r * ids_at.s3);
    __global float *out = floats(y, y_at.s0 + r * y_at.s3);
    float value[LIST];
    int id[LIST];
    for (; i < k; i++) {
        value[i] = isnan(in[i]) ? -INFINITY : in[i];
        id[i] = i;
    }
    for (int at = k / 2; at-- > 0;)
        sift_down(value, id, k, at);
    for (; i + 64 <= n; i += 64) {
        float16 root = value[0];
        int16 is = (vload16(0, in + i) > root) | (vload16(1, in + i) > root) |
                   (vload16(2, in + i) > root) | (vload16(3, in + i) > root);
        for (int j = i; j < i + 64 && any(is); j++)
            offer(value, id, k, in[j], j);
    }
    for (; i < n; i++)
        offer(value, id, k, in[i], i);
    for (int left = k; left-- > 0;) { /* the last one goes to the end, again and again */
        out_id[left] = id[0];
        out[left] = value[0];
        value[0] = value[left];
        id[0] = id[left];
        sift_down(value, id, left, 0);
    }
}
