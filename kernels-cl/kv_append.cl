/* SPDX-License-Identifier: MIT
 *
 * KV_APPEND: pool row slot[t] = k[t], and v[t] likewise, rounded to the pool's type.  Reference:
 * ref_kv_append.
 *
 * k f32 [T][G][dk], v f32 [T][G][dv], slot i32 [T] at slot_at in the step.  Work-item (g, t): head g of
 * token t. */
#include "kv_append.clh"

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
