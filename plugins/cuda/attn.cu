/* SPDX-License-Identifier: MIT
 *
 * attn.cu - ATTN.  Reference: ref_attn. */
#include "attn.cuh"
#include "quant.cuh"

/* ---- ATTN ---------------------------------------------------------------------------------------
 *
 * attn.cuh says how.  A block takes a tile of heads of a token, and of its keys either all parts,
 * one after the other (attn), or one (attn_part): for few tokens, which else would leave most of
 * the device idle.  Then the block that ends last merges, which saves a launch.  Where many tokens
 * of a sequence come together, attn_many.cu takes them. */

/* Outputs of head h as bytes, beside those of the token's other heads, for the product that comes
 * next: its own launch for them took 1.7 us of each layer.  The last head's are followed by zeros
 * to the end of a span. */
template <int STEP>
DEVICE void put_codes(const cu_attn &a, int t, int h, int first, const float *sum, float factor) {
    int n = a.n_head * a.dv, begin = h * (a.dv / 4), end = padded(n) / 4;
    int n_four = h == a.n_head - 1 ? end - begin : a.dv / 4;
    UNROLL_BY(1)
    for (int i = first; i - lane() < n_four; i += STEP) {
        float v[4] = {};
        UNROLL for (int k = 0; k < 4 && 4 * i < a.dv; k++) v[k] = sum[4 * i + k] * factor;
        store_codes(global<uint8_t>(a.codes), a.n_tok, t, i < n_four ? begin + i : end, n, v);
    }
}

/* The values in s.sum, of which s.m and s.l are the largest logit and the sum, by their factor.  A
 * warp takes a head, or all warps the only one. */
template <int T, int HEADS>
DEVICE void put_outputs(const cu_attn &a, const cu_view &v, const cu_tile &tile, int t,
                        const attn_memory<T, HEADS> &s) {
    enum { STEP = HEADS == 1 ? CU_THREADS : CU_WARP };
    int r = HEADS == 1 ? 0 : warp(), first = HEADS == 1 ? (int)threadIdx.x : lane();
    __syncthreads();
    if (r >= tile.n) return;
    float *out = output_of(a, t, tile.h + r);
    float factor = factor_of(a, v, tile.h + r, s.m[r], s.l[r]);
    for (int i = first; i < a.dv; i += STEP)
        out[i] = s.sum[r][i] * factor;
    if (a.codes) put_codes<STEP>(a, t, tile.h + r, first, s.sum[r], factor);
}

template <int T, int HEADS> DEVICE void begin_sums(const cu_attn &a, attn_memory<T, HEADS> &s) {
    if (threadIdx.x < HEADS) {
        s.m[threadIdx.x] = -INFINITY;
        s.l[threadIdx.x] = 0;
    }
    UNROLL for (int r = 0; r < HEADS; r++) {
        for (int i = (int)threadIdx.x; i < a.dv; i += CU_THREADS)
            s.sum[r][i] = 0;
    }
}

template <int T, int HEADS> DEVICE void attn(const cu_attn &a, attn_memory<T, HEADS> &s) {
    int t = quotient((int)blockIdx.x, a.by_group);
    cu_tile tile = tile_of<HEADS>(a, (int)blockIdx.x - t * a.n_kv_head * a.n_tile);
    cu_view v = view_of(a, t);
    if (is_crowded(a, t)) return;
    load_queries(a, tile, t, s);
    begin_sums(a, s);
    for (int p = first_part(v); p < end_part(v); p++) {
        cu_part part = part_of(v, p);
        int row[CU_ROWS_EACH];
        find_rows(a, v.table, p, row);
        put_rows(a, tile, part, row, s);
        part_logits(a, v, tile, part, s);
        part_values(a, tile, part, s, [&](int i, const float *o) {
            UNROLL for (int r = 0; r < HEADS; r++) {
                float keep, add;
                merge_of(s.m[r], s.top[r], p == first_part(v), &keep, &add);
                s.sum[r][i] = fmaf(s.sum[r][i], keep, o[r] * add);
            }
        });
        __syncthreads();
        if (threadIdx.x < HEADS) {
            float keep, add, *m = &s.m[threadIdx.x], *l = &s.l[threadIdx.x];
            float top = s.top[threadIdx.x];
            merge_of(*m, top, p == first_part(v), &keep, &add);
            *l = fmaf(*l, keep, s.all[threadIdx.x] * add);
            *m = fmaxf(*m, top);
        }
    }
    put_outputs(a, v, tile, t, s);
}

/* Of up to CU_WARP parts by a warp, a lane each, for one head: s.z[k] is what is multiplied with
 * before part k, s.z[CU_WARP + k] that part's own factor.  s.m and s.l move on. */
template <int T, int HEADS>
DEVICE void merge_factors(const float *top, int n, bool is_first, int r, attn_memory<T, HEADS> &s) {
    float m = -INFINITY, l = 0, keep, add, all, before = s.m[r], sum = s.l[r];
    if (lane() < n) {
        m = top[2 * lane()];
        l = top[2 * lane() + 1];
    }
    all = m;
    UNROLL for (int mask = 1; mask < CU_WARP; mask *= 2) { /* before: the largest of lanes below */
        float other = __shfl_xor_sync(0xffffffffu, all, mask);
        if (lane() & mask) before = fmaxf(before, other);
        all = fmaxf(all, other);
    }
    merge_of(before, m, is_first && lane() == 0, &keep, &add);
    s.z[lane()][r] = keep;
    s.z[CU_WARP + lane()][r] = add;
    s.z[2 * CU_WARP + lane()][r] = l * add;
    all = fmaxf(all, s.m[r]);
    __syncwarp();
    for (int k = 0; k < n; k++)
        sum = fmaf(sum, s.z[k][r], s.z[2 * CU_WARP + k][r]);
    if (lane() == 0) {
        s.m[r] = all;
        s.l[r] = sum;
    }
}

/* W elements at a time of n parts, added to s.sum; a warp takes a head, or all warps the only one.
 */
template <int W> struct alignas(4 * W) few_floats { float e[W]; };
template <int W, int T, int HEADS>
DEVICE void merge_values(const cu_attn &a, int64_t row, int n, int r, attn_memory<T, HEADS> &s) {
    enum { STEP = W * (HEADS == 1 ? CU_THREADS : CU_WARP) };
    for (int i = W * (HEADS == 1 ? (int)threadIdx.x : lane()); i < a.dv; i += STEP) {
        const float *part = floats_in(a.part) + row * a.dv + i;
        few_floats<W> o;
        UNROLL for (int j = 0; j < W; j++) o.e[j] = s.sum[r][i + j];
        UNROLL_BY(16)
        for (int k = 0; k < n; k++, part += a.dv) {
            few_floats<W> v = *(const few_floats<W> *)part;
            float keep = s.z[k][r], add = s.z[CU_WARP + k][r];
            UNROLL for (int j = 0; j < W; j++) o.e[j] = fmaf(o.e[j], keep, v.e[j] * add);
        }
        UNROLL for (int j = 0; j < W; j++) s.sum[r][i + j] = o.e[j];
    }
}

/* The sums of all parts of a tile, which blocks have left. */
template <int T, int HEADS>
DEVICE void merge_parts(const cu_attn &a, const cu_view &v, const cu_tile &tile, int t,
                        attn_memory<T, HEADS> &s) {
    int first = first_part(v), end = end_part(v), r = HEADS == 1 ? 0 : warp();
    int64_t row = ((int64_t)t * a.n_head + head_of(tile, r)) * a.n_part;
    begin_sums(a, s);
    for (int begin = first; begin < end; begin += CU_WARP) {
        int n = end - begin < CU_WARP ? end - begin : CU_WARP;
        __syncthreads();
        if (warp() < HEADS)
            merge_factors(floats_in(a.top) + 2 * (row + begin), n, begin == first, r, s);
        __syncthreads();
        if (a.dv % 4 == 0)
            merge_values<4>(a, row + begin, n, r, s);
        else
            merge_values<1>(a, row + begin, n, r, s);
    }
}

/* Blocks of one part follow one another, so that tiles over the same keys run together. */
template <int T, int HEADS> DEVICE void attn_part(const cu_attn &a, attn_memory<T, HEADS> &s) {
    int which = quotient((int)blockIdx.x, a.by_group), t = quotient(which, a.by_part);
    int group = (int)blockIdx.x - which * a.n_kv_head * a.n_tile, p = which - t * a.n_part;
    int row_of[CU_ROWS_EACH];
    cu_tile tile = tile_of<HEADS>(a, group);
    ahead_go();
    find_rows(a, table_of(a, seq_of(a, t)), p, row_of);
    cu_view v = view_of(a, t);
    ahead_wait();
    int n = end_part(v) - first_part(v);
    int64_t row = ((int64_t)t * a.n_head + tile.h) * a.n_part + p;
    if (n == 0 ? p > 0 : p < first_part(v) || p >= end_part(v)) return;
    if (n == 0) {
        begin_sums(a, s);
    } else {
        load_queries(a, tile, t, s);
        cu_part part = part_of(v, p);
        put_rows(a, tile, part, row_of, s);
        part_logits(a, v, tile, part, s);
        part_values(a, tile, part, s, [&](int i, const float *o) {
            UNROLL for (int r = 0; r < HEADS; r++) {
                float keep, add;
                if (n > 1 && r < tile.n)
                    floats_out(a.part)[(row + (int64_t)r * a.n_part) * a.dv + i] = o[r];
                merge_of(-INFINITY, s.top[r], true, &keep, &add);
                s.sum[r][i] = fmaf(0.0f, keep, o[r] * add);
            }
        });
    }
    if (n == 1 && threadIdx.x < HEADS) { /* as if merged */
        float keep, add;
        merge_of(-INFINITY, s.top[threadIdx.x], true, &keep, &add);
        s.m[threadIdx.x] = s.top[threadIdx.x];
        s.l[threadIdx.x] = fmaf(0.0f, keep, s.all[threadIdx.x] * add);
    }
    if (n > 1) {
        if ((int)threadIdx.x < tile.n) {
            float *top = floats_out(a.top) + 2 * (row + (int64_t)threadIdx.x * a.n_part);
            top[0] = s.top[threadIdx.x];
            top[1] = s.all[threadIdx.x];
        }
        int all = t * a.n_kv_head * a.n_tile + group;
        if (!is_last(a.count, all, n, &s.is_last)) return;
        merge_parts(a, v, tile, t, s);
    }
    put_outputs(a, v, tile, t, s);
}

#define ATTN_KERNELS(T, HEADS, suffix)                                                             \
    KERNEL_DENSE(attn##suffix##_##T, cu_attn, 3) {                                                 \
        __shared__ attn_memory<T, HEADS> s;                                                        \
        attn<T, HEADS>(a, s);                                                                      \
    }                                                                                              \
    KERNEL_ENTRY(attn##suffix##_part_##T, cu_attn, 4) {                                            \
        __shared__ attn_memory<T, HEADS> s;                                                        \
        attn_part<T, HEADS>(a, s);                                                                 \
    }
#define KERNELS(T)                                                                                 \
    ATTN_KERNELS(T, 1, )                                                                           \
    ATTN_KERNELS(T, CU_TILE, _tile)
KERNELS(0)
KERNELS(1)
KERNELS(30)
KERNELS(8)
KERNELS(2)
