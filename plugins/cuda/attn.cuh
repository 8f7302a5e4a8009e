/* SPDX-License-Identifier: MIT
 *
 * attn.cuh - ATTN by blocks of one token: which keys are seen, a part's logits, exponentials and
 * weighted values, and how parts become one.  Reference: ref_attn.
 *
 * q f32 [T][H][dk], pools [blocks][B][G][..], sink f32 [H], y f32 [T][H][dv].
 *
 * Order.  Keys are taken in parts of CU_PART and these in runs of CU_RUN, both counted from key 0.
 * A logit is one sum, elements rising.  In a part, from run to run, the largest logit grows, and
 * what was summed before is multiplied by the exponential of that growth; a run's exponentials are
 * added as warp_sum does, lane i having keys i and i + 32, and an element of the values is one sum,
 * keys rising.  Parts are merged in rising order.  Keys and runs that are not seen do not count.
 * So nothing but key numbers decides the order: one block for all parts, a block for each, any
 * number of heads together and any batch give the same bits.
 *
 * Ways.  Latency is what keys cost: memory answers after some 600 cycles, and 3 TB/s need 30 KB
 * under way in every multiprocessor.  So each warp copies its keys into a ring of its own in shared
 * memory, ahead of what it computes, waiting for nobody else: first the keys of its own logits, by
 * slices of 128 bytes, and then, for its own 32 elements, the values of all.  Of a short context
 * all is latency, and code that runs once comes from far, too: loads that need not wait for one
 * another are asked for together, and what begins a loop is a loop.
 *
 * A tile is CU_TILE heads over one key head, read once for all of them, or one head (any length).
 */
#ifndef PERI_CUDA_ATTN_CUH
#define PERI_CUDA_ATTN_CUH
#include "async.cuh"
#include "cache.cuh"

/* ---- which keys ---- */

/* Which keys a token sees: lo .. hi - 1. */
struct cu_view {
    const int32_t *table;
    int pos, lo, hi;
};

/* Of the only sequence it is known without asking. */
DEVICE int seq_of(const cu_attn &a, int t) {
    return a.n_seq == 1 ? 0 : ints_in(a.seq)[t];
}

DEVICE const int32_t *table_of(const cu_attn &a, int seq) {
    return ints_in(a.table) + (int64_t)seq * a.max_blocks;
}

DEVICE cu_view view_of(const cu_attn &a, int t) {
    cu_view v;
    int seq = seq_of(a, t);
    v.table = table_of(a, seq);
    v.pos = ints_in(a.pos)[t];
    v.lo = 0;
    v.hi = ints_in(a.ctx)[seq];
    if (!a.is_not_causal && v.hi > v.pos + 1) v.hi = v.pos + 1;
    if (a.window > 0 && v.lo < v.pos - a.window + 1) v.lo = v.pos - a.window + 1;
    if (a.chunk > 0) {
        int first = v.pos / a.chunk * a.chunk;
        if (v.lo < first) v.lo = first;
        if (v.hi > first + a.chunk) v.hi = first + a.chunk;
    }
    return v;
}

/* Parts with keys that are seen: first_part .. end_part - 1. */
DEVICE int first_part(const cu_view &v) {
    return v.lo / CU_PART;
}
DEVICE int end_part(const cu_view &v) {
    return v.lo < v.hi ? (v.hi - 1) / CU_PART + 1 : first_part(v);
}

/* Of a part, counted from its first key: the keys that are seen, lo .. hi - 1. */
struct cu_part {
    int base, lo, hi;
};

DEVICE cu_part part_of(const cu_view &v, int p) {
    cu_part part = {p * CU_PART, v.lo - p * CU_PART, v.hi - p * CU_PART};
    if (part.lo < 0) part.lo = 0;
    if (part.hi > CU_PART) part.hi = CU_PART;
    return part;
}

DEVICE bool is_seen(const cu_part &part, int k) {
    return k >= part.lo && k < part.hi;
}

/* op.def: slope_h. */
DEVICE float slope_of(float alibi_max, int h, int n_head) {
    int n = 1;
    if (alibi_max == 0) return 0;
    while (n * 2 <= n_head)
        n *= 2;
    if (h < n) return exp2f(-alibi_max * (float)(h + 1) / (float)n);
    return exp2f(-alibi_max * (float)(2 * (h - n) + 1) / (float)(2 * n));
}

/* A sum becomes a logit. */
DEVICE float logit_of(const cu_attn &a, float sum, float slope, int distance) {
    float z = sum * a.scale;
    if (a.cap > 0) z = a.cap * tanhf(z / a.cap);
    return z + slope * (float)distance;
}

/* A tile: its first head, their number, and the key head. */
struct cu_tile {
    int h, n, g;
};

template <int HEADS> DEVICE cu_tile tile_of(const cu_attn &a, int i) {
    int g = quotient(i, a.by_tile), first = (i - g * a.n_tile) * HEADS;
    cu_tile t = {g * a.n_each + first, a.n_each - first, g};
    if (t.n > HEADS) t.n = HEADS;
    return t;
}

/* Heads beyond a tile's last are the last one again, and come to nothing. */
DEVICE int head_of(const cu_tile &t, int r) {
    return t.h + (r < t.n ? r : t.n - 1);
}

/* Is the token one of at least a.least of a sequence that follow one another in a tile of
 * a.tile_tokens?  Those are attn_many's. */
DEVICE bool is_crowded(const cu_attn &a, int t) {
    int first = t - t % a.tile_tokens, end = first + a.tile_tokens, lo = t, hi = t + 1;
    const int32_t *seq = ints_in(a.seq);
    if (end > a.n_tok) end = a.n_tok;
    if (end - first < a.least) return false;
    while (lo > first && seq[lo - 1] == seq[t])
        lo--;
    while (hi < end && seq[hi] == seq[t])
        hi++;
    return hi - lo >= a.least;
}

/* ---- shared memory ---- */

/* What a warp copies: KEYS keys at a time, SLICE elements of each, and VALUES values, 32 elements
 * of each.  Heads of the quantised types and of odd lengths begin anywhere: rows in shared memory
 * have room for whole units of 16 bytes around them.  An odd number of units to a row of keys lets
 * lanes read the same place of neighbouring rows at once. */
template <int T, int HEADS> struct attn_shape {
    enum {
        UNIT = 16,
        SLICE = T == 0   ? 32
                : T == 2 ? 128
                         : 64,
        KEYS = HEADS == 1 ? 32 : 16,
        EACH = HEADS * KEYS / CU_WARP, /* heads of a lane */
        KEY_BYTES = SLICE / cache<T>::N * cache<T>::BYTES,
        KEY_UNITS = cache<T>::N == 1 ? KEY_BYTES / UNIT : 1,
        KEY_PITCH = ((KEY_BYTES + 2 * UNIT - 3) / UNIT | 1) * UNIT,
        VALUES = 16,
        VALUE_BYTES = CU_WARP / cache<T>::N * cache<T>::BYTES,
        VALUE_UNITS = cache<T>::N == 1 ? VALUE_BYTES / UNIT : 1,
        VALUE_PITCH = (VALUE_BYTES + 2 * UNIT - 3) / UNIT * UNIT,
        RING = HEADS == 1 ? 9216 : 6912,
        KEY_FIT = RING / (KEYS * KEY_PITCH),
        KEY_STAGES = KEY_FIT > 4 ? 4 : KEY_FIT,
        VALUE_FIT = RING / (VALUES * VALUE_PITCH),
        VALUE_STAGES = VALUE_FIT > 8 ? 8 : VALUE_FIT,
        RUNS = CU_PART / CU_RUN,
        MAX = HEADS == 1 ? CU_HEAD : CU_TILE_HEAD,
    };
    static_assert(KEY_STAGES >= 2 && VALUE_STAGES >= 2, "one is read while others are copied");
};

/* Queries, a part's rows of the pools, logits and then exponentials, what sums are
 * multiplied by before each run; merged values. */
template <int T, int HEADS> struct attn_memory {
    typedef attn_shape<T, HEADS> shape;
    alignas(16) uint8_t ring[CU_ROWS][shape::RING];
    alignas(16) float q[HEADS][shape::MAX + 4];
    alignas(16) float z[CU_PART][HEADS];
    alignas(16) float sum[HEADS][shape::MAX];
    float keep[shape::RUNS][HEADS];
    float top[HEADS], all[HEADS]; /* the part's largest logit, and its sum */
    float m[HEADS], l[HEADS];     /* those of the parts merged */
    int row[CU_PART];
    int is_last;
};

/* They are there after put_rows. */
template <int T, int HEADS>
DEVICE void load_queries(const cu_attn &a, const cu_tile &tile, int t, attn_memory<T, HEADS> &s) {
    uint64_t at = a.q.at + (uint64_t)(t * a.q.stride[1]);
    bool has_units = ((at | (uint64_t)a.q.stride[2]) & 15) == 0 && a.dk % 4 == 0;
    UNROLL for (int r = 0; r < HEADS; r++) {
        const float *q = floats_in(at + (uint64_t)(head_of(tile, r) * a.q.stride[2]));
        for (int i = (int)threadIdx.x * 4; i < a.dk && has_units; i += 4 * CU_THREADS)
            copy_16(&s.q[r][i], q + i, 16);
        for (int i = (int)threadIdx.x; i < a.dk && !has_units; i += CU_THREADS)
            s.q[r][i] = q[i];
    }
    copy_commit();
}

/* Where the pool has keys of part p, a thread CU_THREADS apart: the blocks are asked for before it
 * is known which keys are seen, as each answer from memory takes as long as hundreds of sums. */
enum { CU_ROWS_EACH = CU_PART / CU_THREADS };
DEVICE void find_rows(const cu_attn &a, const int32_t *table, int p, int *row) {
    UNROLL for (int j = 0; j < CU_ROWS_EACH; j++) {
        int key = p * CU_PART + j * CU_THREADS + (int)threadIdx.x, b = quotient(key, a.by_block);
        row[j] = b < a.max_blocks ? read_anew(table + b) : 0;
    }
    UNROLL for (int j = 0; j < CU_ROWS_EACH; j++) {
        int key = p * CU_PART + j * CU_THREADS + (int)threadIdx.x;
        row[j] = (row[j] - quotient(key, a.by_block)) * a.block_tokens + key;
    }
}

/* The bytes of a pool that a tile reads: `at` in row 0, rows `pitch` apart. */
struct cu_strip {
    uint64_t at;
    int pitch;
};

template <int T> DEVICE cu_strip strip_of(const cu_attn &a, uint64_t pool, int g, int n) {
    int64_t bytes = head_bytes<T>(n);
    cu_strip strip = {pool + (uint64_t)(g * bytes), (int)bytes * a.n_kv_head};
    return strip;
}

/* Do all heads of n elements begin at a multiple of 16?  Then code is short, and has nothing of
 * what other heads take. */
template <int T> DEVICE bool is_even(int n) {
    return cache<T>::N == 1 && n % cache<T>::RUN == 0;
}

/* How far behind a multiple of 16 the strip is in a row. */
DEVICE int skip_of(const cu_strip &strip, int row) {
    return (int)((uint32_t)strip.at + (uint32_t)row * (uint32_t)strip.pitch) & 15;
}

DEVICE uint64_t at_row(const cu_strip &strip, int row) {
    return strip.at + (uint64_t)((int64_t)row * strip.pitch);
}

/* Rows of the part's keys, for all threads; of one that is not seen, row 0, which every pool has.
 * Where keys are few, time goes by waiting, and their values are fetched ahead. */
template <int T, int HEADS>
DEVICE void put_rows(const cu_attn &a, const cu_tile &tile, const cu_part &part, const int *row,
                     attn_memory<T, HEADS> &s) {
    enum { LINE = 64 };
    bool is_short = part.hi - part.lo <= CU_RUN;
    cu_strip strip = strip_of<T>(a, a.v_pool, tile.g, a.dv);
    UNROLL for (int j = 0; j < CU_ROWS_EACH; j++) {
        int k = j * CU_THREADS + (int)threadIdx.x, r = is_seen(part, k) ? row[j] : 0;
        s.row[k] = r;
        if (!is_short || !is_seen(part, k)) continue;
        UNROLL_BY(1)
        for (int i = 0; i < (int)head_bytes<T>(a.dv); i += LINE)
            fetch_ahead(global<const uint8_t>(at_row(strip, r)) + i);
    }
    copy_wait<0>();
    __syncthreads();
}

/* By a warp: n bytes of each of N rows of the pool, UNITS of 16 at most where all of them begin at
 * a multiple of 16 (is_even), else as many as a row of PITCH has room for. */
template <int N, int UNITS, int PITCH, bool IS_EVEN>
DEVICE void copy_rows(const cu_strip &strip, int n, const int *row, uint8_t *to) {
    enum { ODD = PITCH / 16 };
    if constexpr (IS_EVEN) {
        int begin = lane() % UNITS * 16;
        cu_strip mine = {strip.at + (uint64_t)begin, strip.pitch};
        to += begin;
        if (begin >= n) return;
        UNROLL for (int j = 0; j < N; j += CU_WARP / UNITS) {
            int k = j + lane() / UNITS;
            copy_16(to + k * PITCH, global<const uint8_t>(at_row(mine, row[k])), 16);
        }
    } else {
        UNROLL for (int j = 0; j < N * ODD; j += CU_WARP) {
            int i = j + lane(), k = i / ODD, begin = i % ODD * 16;
            if (i >= N * ODD) continue;
            uint64_t at = at_row(strip, row[k]);
            int left = (int)(at & 15) + n - begin;
            if (left > 0)
                copy_16(to + k * PITCH + begin, global<const uint8_t>((at & ~(uint64_t)15) + begin),
                        left < 16 ? left : 16);
        }
    }
}

/* ---- logits ---- */

/* Products of n elements of a key, added to the sums of EACH queries. */
template <int T, int EACH, int PITCH, bool IS_EVEN>
DEVICE void dot(const uint8_t *k, const float *q, int n, float *sum) {
    enum { RUN = cache<T>::RUN };
    if constexpr (IS_EVEN || cache<T>::N > 1) { /* whole runs */
        UNROLL_BY(4)
        for (int i = 0; i < n; i += RUN) {
            float v[RUN];
            cache<T>::run(k, i, v);
            UNROLL for (int r = 0; r < EACH; r++) {
                UNROLL for (int j = 0; j < RUN; j += 4) {
                    wide<float> x = *(const wide<float> *)(q + r * PITCH + i + j);
                    UNROLL for (int u = 0; u < 4; u++) sum[r] = fmaf(v[j + u], x.e[u], sum[r]);
                }
            }
        }
    } else {
        UNROLL_BY(1)
        for (int i = 0; i < n; i++) {
            float v = cache<T>::one(k, i);
            UNROLL for (int r = 0; r < EACH; r++) sum[r] = fmaf(v, q[r * PITCH + i], sum[r]);
        }
    }
}

/* A slice of a warp's keys: tiles of keys in steps of CU_ROWS, all slices of each. */
struct cu_slice {
    int tile, first; /* first element */
};

template <int T, int HEADS> DEVICE void next_slice(const cu_attn &a, cu_slice *at) {
    at->first += attn_shape<T, HEADS>::SLICE;
    if (at->first < a.dk) return;
    at->first = 0;
    at->tile += CU_ROWS;
}

template <bool IS_EVEN, int T, int HEADS>
DEVICE void copy_slice(const cu_attn &a, const cu_strip &strip, const cu_slice &at, int stage,
                       attn_memory<T, HEADS> &s) {
    typedef attn_shape<T, HEADS> shape;
    cu_strip slice = {strip.at + (uint64_t)head_bytes<T>(at.first), strip.pitch};
    int n = a.dk - at.first < shape::SLICE ? a.dk - at.first : shape::SLICE;
    copy_rows<shape::KEYS, shape::KEY_UNITS, shape::KEY_PITCH, IS_EVEN>(
        slice, (int)head_bytes<T>(n), s.row + at.tile * shape::KEYS,
        s.ring[warp()] + stage * shape::KEYS * shape::KEY_PITCH);
}

/* The logits of a part.  A warp takes a tile of KEYS keys, a lane one of them for EACH heads. */
template <bool IS_EVEN, int T, int HEADS>
DEVICE void logits_of(const cu_attn &a, const cu_view &v, const cu_tile &tile, const cu_part &part,
                      attn_memory<T, HEADS> &s) {
    typedef attn_shape<T, HEADS> shape;
    enum { KEYS = shape::KEYS, EACH = shape::EACH, AHEAD = shape::KEY_STAGES - 1 };
    cu_strip strip = strip_of<T>(a, a.k_pool, tile.g, a.dk);
    int first = part.lo / KEYS, end = (part.hi + KEYS - 1) / KEYS;
    int in = lane() % KEYS, r0 = lane() / KEYS * EACH, stage = 0, ahead = 0;
    cu_slice now = {first + ((warp() - first) & (CU_ROWS - 1)), 0}, next = now;
    float sum[EACH], slope[EACH];
    UNROLL for (int r = 0; r < EACH; r++) slope[r] =
        slope_of(a.alibi_max, head_of(tile, r0 + r), a.n_head);
    UNROLL_BY(1) /* one place to copy and one to compute: the first AHEAD times only copy */
    for (int n = 0; now.tile < end; n++) {
        if (next.tile < end) copy_slice<IS_EVEN>(a, strip, next, ahead, s);
        next_slice<T, HEADS>(a, &next);
        copy_commit();
        ahead = ahead < AHEAD ? ahead + 1 : 0;
        if (n < AHEAD) continue;
        copy_wait<AHEAD>();
        __syncwarp();
        int k = now.tile * KEYS + in, left = a.dk - now.first;
        const uint8_t *key = s.ring[warp()] + (stage * KEYS + in) * shape::KEY_PITCH;
        if (now.first == 0) {
            UNROLL for (int r = 0; r < EACH; r++) sum[r] = 0;
        }
        if constexpr (!IS_EVEN) {
            cu_strip slice = {strip.at + (uint64_t)head_bytes<T>(now.first), strip.pitch};
            key += skip_of(slice, s.row[k]);
        }
        dot<T, EACH, shape::MAX + 4, IS_EVEN>(key, s.q[r0] + now.first,
                                              left < shape::SLICE ? left : shape::SLICE, sum);
        if (left <= shape::SLICE) {
            UNROLL for (int r = 0; r < EACH; r++) s.z[k][r0 + r] =
                logit_of(a, sum[r], slope[r], part.base + k - v.pos);
        }
        stage = stage < AHEAD ? stage + 1 : 0;
        next_slice<T, HEADS>(a, &now);
        __syncwarp();
    }
}

template <int T, int HEADS>
DEVICE void part_logits(const cu_attn &a, const cu_view &v, const cu_tile &tile,
                        const cu_part &part, attn_memory<T, HEADS> &s) {
    if (is_even<T>(a.dk))
        logits_of<cache<T>::N == 1>(a, v, tile, part, s);
    else
        logits_of<false>(a, v, tile, part, s);
}

/* ---- exponentials ---- */

/* Logits of RUNS runs, from number `first` on, become exponentials: all that have keys that are
 * seen.  A warp takes a head. */
template <int RUNS, int T, int HEADS>
DEVICE void runs_softmax(const cu_part &part, int first, int r, attn_memory<T, HEADS> &s) {
    enum { EACH = CU_RUN / CU_WARP };
    float z[RUNS][EACH], top[RUNS], sum[RUNS], m = -INFINITY, l = 0;
    UNROLL for (int i = 0; i < RUNS; i++) {
        top[i] = -INFINITY;
        UNROLL for (int j = 0; j < EACH; j++) {
            int k = (first + i) * CU_RUN + j * CU_WARP + lane();
            z[i][j] = is_seen(part, k) ? s.z[k][r] : -INFINITY;
            top[i] = fmaxf(top[i], z[i][j]);
        }
    }
    UNROLL for (int i = 0; i < RUNS; i++) top[i] = warp_max(top[i]);
    UNROLL for (int i = 0; i < RUNS; i++) {
        float high = i > 0 ? fmaxf(top[i - 1], top[i]) : top[i];
        top[i] = high;
        sum[i] = 0;
        UNROLL for (int j = 0; j < EACH; j++) {
            int k = (first + i) * CU_RUN + j * CU_WARP + lane();
            float e = is_seen(part, k) ? expf(z[i][j] - high) : 0.0f;
            s.z[k][r] = e;
            sum[i] += e;
        }
    }
    UNROLL for (int i = 0; i < RUNS; i++) sum[i] = warp_sum(sum[i]);
    UNROLL for (int i = 0; i < RUNS; i++) {
        int run = first + i;
        if (run < part.lo / CU_RUN || run * CU_RUN >= part.hi) continue;
        float keep = run == part.lo / CU_RUN ? 0.0f : expf(m - top[i]);
        m = top[i];
        l = fmaf(l, keep, sum[i]);
        if (lane() == 0) s.keep[run][r] = keep;
    }
    if (lane() == 0) {
        s.top[r] = m;
        s.all[r] = l;
    }
}

template <int T, int HEADS>
DEVICE void part_softmax(const cu_part &part, attn_memory<T, HEADS> &s) {
    int first = part.lo / CU_RUN;
    if (warp() >= HEADS) return;
    if (part.hi <= (first + 1) * CU_RUN)
        runs_softmax<1>(part, first, warp(), s);
    else
        runs_softmax<attn_shape<T, HEADS>::RUNS>(part, 0, warp(), s);
}

/* ---- values ---- */

/* The warp's elements are 32 from number 32 b on. */
template <bool IS_EVEN, int T, int HEADS>
DEVICE void copy_values(const cu_attn &a, const cu_strip &strip, int b, int i,
                        attn_memory<T, HEADS> &s) {
    typedef attn_shape<T, HEADS> shape;
    cu_strip part = {strip.at + (uint64_t)(b * shape::VALUE_BYTES), strip.pitch};
    int n = a.dv - b * CU_WARP < CU_WARP ? a.dv - b * CU_WARP : CU_WARP;
    copy_rows<shape::VALUES, shape::VALUE_UNITS, shape::VALUE_PITCH, IS_EVEN>(
        part, (int)head_bytes<T>(n), s.row + i * shape::VALUES,
        s.ring[warp()] + i % shape::VALUE_STAGES * shape::VALUES * shape::VALUE_PITCH);
}

template <bool IS_EVEN, int T, int HEADS>
DEVICE void begin_values(const cu_attn &a, const cu_strip &strip, const cu_part &part, int b,
                         attn_memory<T, HEADS> &s) {
    enum { VALUES = attn_shape<T, HEADS>::VALUES, STAGES = attn_shape<T, HEADS>::VALUE_STAGES };
    int first = part.lo / VALUES;
    UNROLL_BY(1)
    for (int j = 0; j < STAGES - 1; j++) {
        if ((first + j) * VALUES < part.hi) copy_values<IS_EVEN>(a, strip, b, first + j, s);
        copy_commit();
    }
}

/* Keys number k of the part .. of a stage, of which n are seen from `begin` on. */
template <int T, int HEADS, bool IS_EVEN>
DEVICE void add_value(const cu_strip &strip, const uint8_t *v, int k,
                      const attn_memory<T, HEADS> &s, float *o) {
    float w = cache<T>::one(v + (IS_EVEN ? 0 : skip_of(strip, s.row[k])), lane());
    UNROLL for (int r = 0; r < HEADS; r++) o[r] = fmaf(s.z[k][r], w, o[r]);
}

template <int T, int HEADS, bool IS_EVEN>
DEVICE void add_values(const cu_strip &strip, const cu_part &part, const uint8_t *v, int k,
                       const attn_memory<T, HEADS> &s, float *o) {
    enum { VALUES = attn_shape<T, HEADS>::VALUES, PITCH = attn_shape<T, HEADS>::VALUE_PITCH };
    if (k >= part.lo && k + VALUES <= part.hi) {
        UNROLL for (int i = 0; i < VALUES; i++)
            add_value<T, HEADS, IS_EVEN>(strip, v + i * PITCH, k + i, s, o);
        return;
    }
    UNROLL_BY(4)
    for (int i = 0; i < VALUES; i++) {
        if (is_seen(part, k + i)) add_value<T, HEADS, IS_EVEN>(strip, v + i * PITCH, k + i, s, o);
    }
}

/* The part's exponentials and weighted values: done(i, o) is given element i, of each head. */
template <bool IS_EVEN, int T, int HEADS, typename F>
DEVICE void values_of(const cu_attn &a, const cu_tile &tile, const cu_part &part,
                      attn_memory<T, HEADS> &s, F done) {
    typedef attn_shape<T, HEADS> shape;
    enum { VALUES = shape::VALUES, AHEAD = shape::VALUE_STAGES - 1 };
    cu_strip strip = strip_of<T>(a, a.v_pool, tile.g, a.dv);
    for (int b = warp();; b += CU_ROWS) {
        bool is_there = b * CU_WARP < a.dv;
        if (is_there) begin_values<IS_EVEN>(a, strip, part, b, s);
        if (b == warp()) {
            __syncthreads();
            part_softmax(part, s);
            __syncthreads();
        }
        if (!is_there) break;
        cu_strip mine = {strip.at + (uint64_t)(b * shape::VALUE_BYTES), strip.pitch};
        float o[HEADS];
        UNROLL for (int r = 0; r < HEADS; r++) o[r] = 0;
        for (int i = part.lo / VALUES; i * VALUES < part.hi; i++) {
            copy_wait<AHEAD - 1>();
            __syncwarp();
            if ((i + AHEAD) * VALUES < part.hi) copy_values<IS_EVEN>(a, strip, b, i + AHEAD, s);
            copy_commit();
            if (i * VALUES % CU_RUN == 0 || i == part.lo / VALUES) {
                UNROLL for (int r = 0; r < HEADS; r++) o[r] *= s.keep[i * VALUES / CU_RUN][r];
            }
            const uint8_t *v =
                s.ring[warp()] + i % shape::VALUE_STAGES * VALUES * shape::VALUE_PITCH;
            add_values<T, HEADS, IS_EVEN>(mine, part, v, i * VALUES, s, o);
        }
        __syncwarp();
        if (b * CU_WARP + lane() < a.dv) done(b * CU_WARP + lane(), o);
    }
}

template <int T, int HEADS, typename F>
DEVICE void part_values(const cu_attn &a, const cu_tile &tile, const cu_part &part,
                        attn_memory<T, HEADS> &s, F done) {
    if (is_even<T>(a.dv))
        values_of<cache<T>::N == 1>(a, tile, part, s, done);
    else
        values_of<false>(a, tile, part, s, done);
}

/* ---- parts ---- */

/* What the parts before are multiplied by, and this one. */
DEVICE void merge_of(float before, float top, bool is_first, float *keep, float *add) {
    float high = fmaxf(before, top);
    *keep = is_first ? 0.0f : expf(before - high);
    *add = expf(top - high);
}

/* What the merged values are multiplied by at last. */
DEVICE float factor_of(const cu_attn &a, const cu_view &v, int h, float m, float l) {
    if (v.lo >= v.hi) return 0; /* no visible key */
    if (!a.sink) return 1.0f / l;
    float sink = floats_in(a.sink)[h], high = fmaxf(m, sink), keep = expf(m - high);
    return keep / fmaf(l, keep, expf(sink - high));
}

DEVICE float *output_of(const cu_attn &a, int t, int h) {
    return floats_out(a.y.at + (uint64_t)(t * a.y.stride[1] + h * a.y.stride[2]));
}

#endif
