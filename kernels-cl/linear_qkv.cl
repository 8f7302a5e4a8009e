/* SPDX-License-Identifier: MIT
 *
 * LINEAR_QKV: y[k] = s[k] * (W[k] x) + b[k] for k = q, k, v, in one launch.  Reference:
 * ref_linear_qkv.
 *
 * x f32 [T][n], W[k] TYPE [m[k]][n], b[k] f32 [m[k]], s[k] f32 [1], y[k] f32 [T][m[k]].  Work-groups
 * (i, t): first those of q, `rows` rows of TOKENS tokens each, then those of k, then those of v. Bits
 * 4 k and 4 k + 1 of flags: there is a b[k], an s[k].  Several launches would each wait for the one
 * before: a processor's threads sleep in between. */
#include "product.clh"

GROUP void linear_qkv(__global const char *x, long4 x_at, __global const uchar *wq, long wq_at,
                       __global const uchar *wk, long wk_at, __global const uchar *wv, long wv_at,
                       __global const char *bq, long bq_at, __global const char *bk, long bk_at,
                       __global const char *bv, long bv_at, __global const char *sq, long sq_at,
                       __global const char *sk, long sk_at, __global const char *sv, long sv_at,
                       __global char *q, long4 q_at, __global char *k, long4 k_at, __global char *v,
                       long4 v_at, int n, int4 m, int n_tok, int flags, int rows,
                       __local float *room) {
    int i = (int)get_group_id(0), t0 = (int)get_group_id(1) * TOKENS;
    int n_q = (m.s0 + rows - 1) / rows, n_k = (m.s1 + rows - 1) / rows;
    product p = {
        wq + wq_at, q,        const_floats(bq, bq_at), const_floats(sq, sq_at), q_at, n, m.s0,
        n_tok,      flags & 3};
    if (i >= n_q + n_k) {
        product of_v = {
            wv + wv_at, v,     const_floats(bv, bv_at), const_floats(sv, sv_at), v_at, n,
            m.s2,       n_tok, flags >> 8 & 3};
        p = of_v;
        i -= n_q + n_k;
    } else if (i >= n_q) {
        product of_k = {
            wk + wk_at, k,     const_floats(bk, bk_at), const_floats(sk, sk_at), k_at, n,
            m.s1,       n_tok, flags >> 4 & 3};
        p = of_k;
        i -= n_q;
    }
    product_rows(&p, x, x_at, i * rows, rows, t0, room);
}
