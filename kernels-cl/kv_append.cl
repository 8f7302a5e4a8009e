/* SPDX-License-Identifier: MIT
 *
 * KV_APPEND: pool row slot[t] = k[t], and v[t] likewise, rounded to the pool's type TYPE (F32 0, F16 1,
 * BF16 30), nearest, ties to even.  Reference: ref_kv_append.
 *
 * k f32 [T][G][dk], v f32 [T][G][dv], slot i32 [T] at slot_at in the step.  Work-item (g, t): head g of
 * token t. */
#include "common.clh"

#ifndef TYPE
#define TYPE 1
#endif

#if TYPE == 0
typedef uint element;
static inline element rounded(float x) {
    return as_uint(x);
}
#elif TYPE == 1
typedef ushort element;
static inline element rounded(float x) {
    uint u = as_uint(x), sign = u >> 16 & 0x8000u, mag = u & 0x7fffffffu;
    uint half_bits = mag - 0x38000000u;
    half_bits = (half_bits + 0xfffu + (half_bits >> 13 & 1u)) >> 13;
    /* below 2^-14: units of 2^-24, rounded by adding 2^23 */
    uint small = as_uint(as_float(mag) * 0x1p24f + 0x1p23f) - 0x4b000000u;
    uint y = mag < 0x38800000u ? small : half_bits;
    if (mag >= 0x477ff000u) y = 0x7c00u;
    if (mag > 0x7f800000u) y = 0x7e00u | (mag >> 13 & 0x1ffu);
    return (element)(sign | y);
}
#elif TYPE == 30
typedef ushort element;
static inline element rounded(float x) {
    uint u = as_uint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (element)(u >> 16 | 0x40u);
    return (element)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}
#else
#error "no cache of this type"
#endif

static inline void store(__global const float *x, __global char *pool, long at, int n) {
    __global element *out = (__global element *)(pool + at * (long)sizeof(element));
    for (int i = 0; i < n; i++)
        out[i] = rounded(x[i]);
}

KERNEL void kv_append(__global const char *k, long4 k_at, __global const char *v, long4 v_at,
                      __global char *k_pool, long k_pool_at, __global char *v_pool, long v_pool_at,
                      __global const int *step, int slot_at, int n_head, int dk, int dv) {
    int g = (int)get_global_id(0), t = (int)get_global_id(1);
    long slot = step[slot_at + t];
    if (slot < 0) return;
    store(const_floats(k, k_at.s0 + t * k_at.s2 + g * k_at.s3), k_pool + k_pool_at,
          (slot * n_head + g) * dk, dk);
    store(const_floats(v, v_at.s0 + t * v_at.s2 + g * v_at.s3), v_pool + v_pool_at,
          (slot * n_head + g) * dv, dv);
}
