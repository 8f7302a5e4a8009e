/* SPDX-License-Identifier: MIT
 *
 * attn_many.cu - ATTN by blocks of many tokens: prompts.  Reference: ref_attn.
 *
 * Problem.  A key of 4,000 that 512 tokens see is read 512 times when a block has one token, and
 * two numbers of shared memory go into each multiplication.
 *
 * Choice.  A block takes ROWS queries: CU_TILE heads of eight tokens, or one head of 32.  A run of
 * CU_RUN keys lies in shared memory as f32 while all of them use it, keys by slices of SLICE
 * elements and values by halves of the run.  A thread has 4 queries by 4 keys of the logits and 4
 * queries by 8 elements of the values in registers, so that eight reads of 16 bytes serve 64
 * multiplications, twelve 128.  Elements and keys rise in each sum, and logits, exponentials and
 * merging are attn.cuh's: the bits are those of a block for each token, which the order of
 * multiplications in f16 or bf16 of the tensor cores could not give.
 *
 * Tokens that follow one another in a tile and are of one sequence share its keys; where they are
 * fewer than a.least, attn takes them.  What is not seen does not count: its exponential is
 * UNSEEN, looked at only in runs that not all of the block's queries see whole. */
#include "attn.cuh"

static const float UNSEEN = -1; /* exponentials are 0 or more, or NaN */

/* Of a thread's tile: rows row + 8 i, keys key + 16 j, elements 4 key + 64 j .. */
struct cu_spot {
    int row, key;
};

DEVICE cu_spot spot_of() {
    cu_spot at = {warp() / 2 * 4 + lane() / 8, warp() % 2 * 8 + lane() % 8};
    return at;
}

DEVICE int element_of(const cu_spot &at, int e) {
    return 4 * at.key + e / 4 * 64 + e % 4;
}

/* Tokens begin .. end - 1 of a tile, of one sequence; keys lo .. hi - 1 are seen by some of them,
 * from all_lo to all_hi - 1 by every query of the block. */
struct cu_crowd {
    const int32_t *table;
    int begin, end, lo, hi, all_lo, all_hi;
};

template <int HEADS> struct many_memory {
    enum {
        ROWS = CU_QUERIES,
        TOKENS = ROWS / HEADS,
        SLICE = 64,
        HALF = CU_RUN / 2,
        PITCH = SLICE + 4,            /* of keys and exponentials */
        WIDE = CU_QUERY_HEAD + 4,     /* of queries and values */
        EACH = 4,                     /* rows, and keys, of a thread */
        STEP = ROWS / EACH,           /* between its rows */
        KEY_STEP = CU_RUN / EACH,     /* between its keys */
        ELEMENTS = CU_QUERY_HEAD / 16 /* of the values, of a thread */
    };
    alignas(16) float q[ROWS][WIDE];
    alignas(16) float kv[CU_RUN * PITCH];
    alignas(16) float p[ROWS][PITCH]; /* logits, then exponentials */
    float slope[ROWS];
    float keep[ROWS];           /* what a row's sums are multiplied by before a run */
    float add[ROWS];            /* and a part's when it is merged; UNSEEN: it has none */
    float top[ROWS], all[ROWS]; /* of the part: largest logit, sum */
    float m[ROWS], l[ROWS];     /* of the parts merged */
    int row[CU_RUN];
    int seq[TOKENS], pos[TOKENS], lo[TOKENS], hi[TOKENS];
};

/* ---- what a block has ---- */

/* Tokens beyond the last are the last one again, and come to nothing. */
template <int HEADS>
DEVICE void load_tile(const cu_attn &a, const cu_tile &tile, int t0, many_memory<HEADS> &s) {
    typedef many_memory<HEADS> memory;
    int last = a.n_tok - 1;
    if (threadIdx.x < memory::TOKENS) {
        int k = (int)threadIdx.x, t = t0 + k < last ? t0 + k : last;
        cu_view v = view_of(a, t);
        bool is_any = v.lo < v.hi;
        s.seq[k] = ints_in(a.seq)[t];
        s.pos[k] = v.pos;
        s.lo[k] = is_any ? v.lo : 0;
        s.hi[k] = is_any ? v.hi : 0;
    }
    if (threadIdx.x < memory::ROWS) {
        int r = (int)threadIdx.x;
        s.slope[r] = slope_of(a.alibi_max, head_of(tile, r % HEADS), a.n_head);
        s.m[r] = -INFINITY;
        s.l[r] = 0;
    }
    const char *queries = global<const char>(a.q.at);
    for (int r = warp(); r < memory::ROWS; r += CU_ROWS) {
        int t = t0 + r / HEADS < last ? t0 + r / HEADS : last;
        const float *q =
            (const float *)(queries + t * a.q.stride[1] + head_of(tile, r % HEADS) * a.q.stride[2]);
        UNROLL for (int e = lane(); e < CU_QUERY_HEAD; e += CU_WARP) s.q[r][e] =
            e < a.dk ? q[e] : 0.0f;
    }
    __syncthreads();
}

template <int HEADS>
DEVICE cu_crowd crowd_of(const cu_attn &a, int begin, const many_memory<HEADS> &s) {
    enum { TOKENS = many_memory<HEADS>::TOKENS };
    cu_crowd c = {ints_in(a.table) + (int64_t)s.seq[begin] * a.max_blocks,
                  begin,
                  begin,
                  INT32_MAX,
                  0,
                  0,
                  INT32_MAX};
    while (c.end < TOKENS && s.seq[c.end] == s.seq[begin]) {
        int lo = s.lo[c.end], hi = s.hi[c.end++];
        if (lo < hi && lo < c.lo) c.lo = lo;
        if (hi > c.hi) c.hi = hi;
        if (lo > c.all_lo) c.all_lo = lo;
        if (hi < c.all_hi) c.all_hi = hi;
    }
    if (c.end - begin < TOKENS) c.all_hi = 0;
    return c;
}

/* A unit of a row, elements e .. of n, to shared memory as f32; what is not there is 0. */
template <int T, bool IS_EVEN>
DEVICE void stage_unit(const uint8_t *head, int e, int n, float *to) {
    enum { RUN = cache<T>::RUN };
    float v[RUN];
    UNROLL for (int u = 0; u < RUN; u++) v[u] = 0;
    if (IS_EVEN && e < n) cache<T>::run(head, e, v);
    UNROLL for (int u = 0; u < RUN; u++) {
        if (!IS_EVEN && e + u < n) v[u] = cache<T>::one(head, e + u);
    }
    UNROLL for (int u = 0; u < RUN; u += 4) {
        wide<float> four = {{v[u], v[u + 1], v[u + 2], v[u + 3]}};
        *(wide<float> *)(to + u) = four;
    }
}

/* KEYS rows of the pool, WIDTH elements each, from number `first` of n on. */
template <int T, int KEYS, int WIDTH, int PITCH>
DEVICE void stage(const cu_strip &strip, const int *row, int first, int n, float *to) {
    enum { RUN = cache<T>::RUN, UNITS = WIDTH / RUN, BATCH = RUN > 8 ? 1 : 4 };
    const uint8_t *from = global<const uint8_t>(strip.at);
    if (n % RUN == 0) {
        UNROLL_BY((BATCH))
        for (int i = (int)threadIdx.x; i < KEYS * UNITS; i += CU_THREADS) {
            int k = i / UNITS, e = i % UNITS * RUN;
            stage_unit<T, true>(from + (int64_t)row[k] * strip.pitch, first + e, n,
                                to + k * PITCH + e);
        }
        return;
    }
    UNROLL_BY(1)
    for (int i = (int)threadIdx.x; i < KEYS * UNITS; i += CU_THREADS) {
        int k = i / UNITS, e = i % UNITS * RUN;
        stage_unit<T, false>(from + (int64_t)row[k] * strip.pitch, first + e, n,
                             to + k * PITCH + e);
    }
}

/* ---- a run ---- */

/* Logits of keys base .. base + CU_RUN - 1. */
template <int T, int HEADS>
DEVICE void many_logits(const cu_attn &a, const cu_tile &tile, int base, many_memory<HEADS> &s) {
    typedef many_memory<HEADS> memory;
    enum { EACH = memory::EACH, PITCH = memory::PITCH };
    cu_strip strip = strip_of<T>(a, a.k_pool, tile.g, a.dk);
    cu_spot at = spot_of();
    float z[EACH][EACH];
    UNROLL for (int i = 0; i < EACH; i++) {
        UNROLL for (int j = 0; j < EACH; j++) z[i][j] = 0;
    }
    for (int first = 0; first < a.dk; first += memory::SLICE) {
        int n = a.dk - first < memory::SLICE ? a.dk - first : memory::SLICE;
        const float *q = s.q[at.row] + first, *k = s.kv + at.key * PITCH;
        __syncthreads();
        stage<T, CU_RUN, memory::SLICE, PITCH>(strip, s.row, first, a.dk, s.kv);
        __syncthreads();
        UNROLL_BY(1)
        for (int e = 0; e < n; e += 4) {
            wide<float> x[EACH], y[EACH];
            UNROLL for (int i = 0; i < EACH; i++) x[i] =
                *(const wide<float> *)(q + i * memory::STEP * memory::WIDE + e);
            UNROLL for (int j = 0; j < EACH; j++) y[j] =
                *(const wide<float> *)(k + j * memory::KEY_STEP * PITCH + e);
            UNROLL for (int u = 0; u < 4; u++) {
                UNROLL for (int i = 0; i < EACH; i++) {
                    UNROLL for (int j = 0; j < EACH; j++) z[i][j] =
                        fmaf(y[j].e[u], x[i].e[u], z[i][j]);
                }
            }
        }
    }
    UNROLL for (int i = 0; i < EACH; i++) {
        int r = at.row + i * memory::STEP, pos = s.pos[r / HEADS];
        UNROLL for (int j = 0; j < EACH; j++) {
            int k = at.key + j * memory::KEY_STEP;
            s.p[r][k] = logit_of(a, z[i][j], s.slope[r], base + k - pos);
        }
    }
    __syncthreads();
}

/* A row's logits become exponentials, as part_softmax does it for a run.  By a warp. */
template <int HEADS>
DEVICE void row_softmax(const cu_crowd &c, int base, int r, many_memory<HEADS> &s) {
    enum { EACH = CU_RUN / CU_WARP };
    int token = r / HEADS, lo = s.lo[token], hi = s.hi[token], part = base / CU_PART * CU_PART;
    bool is_in = token >= c.begin && token < c.end && lo < base + CU_RUN && hi > base;
    int first = lo > part ? lo / CU_RUN * CU_RUN : part;
    float z[EACH], top = -INFINITY, sum = 0, keep = 1;
    UNROLL for (int j = 0; j < EACH; j++) {
        int k = j * CU_WARP + lane();
        bool is_seen = is_in && base + k >= lo && base + k < hi;
        z[j] = is_seen ? s.p[r][k] : -INFINITY;
        top = fmaxf(top, z[j]);
    }
    top = warp_max(top);
    if (first != base) top = fmaxf(s.top[r], top);
    UNROLL for (int j = 0; j < EACH; j++) {
        int k = j * CU_WARP + lane();
        bool is_seen = is_in && base + k >= lo && base + k < hi;
        float e = is_seen ? expf(z[j] - top) : 0.0f;
        s.p[r][k] = is_seen ? e : UNSEEN;
        sum += e;
    }
    sum = warp_sum(sum);
    if (lane() == 0) {
        if (is_in) {
            keep = first == base ? 0.0f : expf(s.top[r] - top);
            s.all[r] = fmaf(first == base ? 0.0f : s.all[r], keep, sum);
            s.top[r] = top;
        }
        s.keep[r] = keep;
    }
}

template <int HEADS> DEVICE void many_softmax(const cu_crowd &c, int base, many_memory<HEADS> &s) {
    enum { EACH = many_memory<HEADS>::ROWS / CU_ROWS };
    UNROLL_BY(2)
    for (int i = 0; i < EACH; i++)
        row_softmax(c, base, warp() * EACH + i, s);
    __syncthreads();
}

/* What an exponential adds to a sum. */
template <bool IS_WHOLE> DEVICE float plus(float sum, float p, float v) {
    return IS_WHOLE || !(p < 0.0f) ? fmaf(p, v, sum) : sum;
}

/* Four keys' values: p of a thread's rows, from key k of the half on. */
template <int HEADS, bool IS_WHOLE>
DEVICE void add_four(const cu_attn &a, const float *p, const float *v,
                     float (*o)[many_memory<HEADS>::ELEMENTS]) {
    typedef many_memory<HEADS> memory;
    enum { EACH = memory::EACH };
    wide<float> x[EACH];
    UNROLL for (int i = 0; i < EACH; i++) x[i] =
        *(const wide<float> *)(p + i * memory::STEP * memory::PITCH);
    UNROLL for (int u = 0; u < 4; u++) {
        UNROLL for (int j = 0; j < memory::ELEMENTS; j += 4) {
            if (j > 0 && a.dv <= CU_QUERY_HEAD / 2) continue;
            wide<float> y = *(const wide<float> *)(v + u * memory::WIDE + j * 16);
            UNROLL for (int i = 0; i < EACH; i++) {
                UNROLL for (int w = 0; w < 4; w++) o[i][j + w] =
                    plus<IS_WHOLE>(o[i][j + w], x[i].e[u], y.e[w]);
            }
        }
    }
}

/* The run's weighted values. */
template <int T, int HEADS>
DEVICE void many_values(const cu_attn &a, const cu_tile &tile, bool is_whole, many_memory<HEADS> &s,
                        float (*o)[many_memory<HEADS>::ELEMENTS]) {
    typedef many_memory<HEADS> memory;
    cu_strip strip = strip_of<T>(a, a.v_pool, tile.g, a.dv);
    cu_spot at = spot_of();
    UNROLL for (int i = 0; i < memory::EACH; i++) {
        float keep = s.keep[at.row + i * memory::STEP];
        UNROLL for (int e = 0; e < memory::ELEMENTS; e++) o[i][e] *= keep;
    }
    for (int half = 0; half < CU_RUN; half += memory::HALF) {
        const float *p = s.p[at.row] + half, *v = s.kv + 4 * at.key;
        if (half) __syncthreads();
        stage<T, memory::HALF, CU_QUERY_HEAD, memory::WIDE>(strip, s.row + half, 0, a.dv, s.kv);
        __syncthreads();
        if (is_whole) {
            UNROLL_BY(1)
            for (int k = 0; k < memory::HALF; k += 4)
                add_four<HEADS, true>(a, p + k, v + k * memory::WIDE, o);
        } else {
            UNROLL_BY(1)
            for (int k = 0; k < memory::HALF; k += 4)
                add_four<HEADS, false>(a, p + k, v + k * memory::WIDE, o);
        }
    }
}

/* ---- a part ---- */

/* Where a thread's row i has its elements; 0: it is none of these tokens' rows. */
template <int HEADS>
DEVICE float *row_of(const cu_attn &a, const cu_tile &tile, int t0, const cu_crowd &c, int i) {
    typedef many_memory<HEADS> memory;
    int r = spot_of().row + i * memory::STEP, token = r / HEADS;
    if (r % HEADS >= tile.n || token < c.begin || token >= c.end || t0 + token >= a.n_tok) return 0;
    return output_of(a, t0 + token, tile.h + r % HEADS);
}

/* What the rows have of part p is merged with what they have of those before, for which the
 * output is the place. */
template <int HEADS>
DEVICE void many_merge(const cu_attn &a, const cu_tile &tile, int t0, const cu_crowd &c, int p,
                       many_memory<HEADS> &s, float (*o)[many_memory<HEADS>::ELEMENTS]) {
    typedef many_memory<HEADS> memory;
    cu_spot at = spot_of();
    int base = p * CU_PART;
    if (threadIdx.x < memory::ROWS) {
        int r = (int)threadIdx.x, token = r / HEADS, lo = s.lo[token], hi = s.hi[token];
        float keep, add = UNSEEN;
        if (token >= c.begin && token < c.end && lo < base + CU_PART && hi > base) {
            merge_of(s.m[r], s.top[r], p == lo / CU_PART, &keep, &add);
            s.m[r] = fmaxf(s.m[r], s.top[r]);
            s.l[r] = fmaf(s.l[r], keep, s.all[r] * add);
            s.keep[r] = keep;
        }
        s.add[r] = add;
    }
    __syncthreads();
    UNROLL for (int i = 0; i < memory::EACH; i++) {
        int r = at.row + i * memory::STEP;
        float keep = s.keep[r], add = s.add[r], *out = row_of<HEADS>(a, tile, t0, c, i);
        bool is_first = p == s.lo[r / HEADS] / CU_PART;
        UNROLL for (int e = 0; e < memory::ELEMENTS; e++) {
            int x = element_of(at, e);
            if (out && x < a.dv && !(add < 0.0f))
                out[x] = fmaf(is_first ? 0.0f : out[x], keep, o[i][e] * add);
            o[i][e] = 0;
        }
    }
    __syncthreads();
}

/* ---- all ---- */

template <int HEADS>
DEVICE void put_rows(const cu_attn &a, const cu_tile &tile, int t0, const cu_crowd &c,
                     const many_memory<HEADS> &s) {
    typedef many_memory<HEADS> memory;
    cu_spot at = spot_of();
    UNROLL for (int i = 0; i < memory::EACH; i++) {
        int r = at.row + i * memory::STEP, token = r / HEADS;
        cu_view v = {c.table, s.pos[token], s.lo[token], s.hi[token]};
        float *out = row_of<HEADS>(a, tile, t0, c, i);
        if (!out) continue;
        float factor = factor_of(a, v, tile.h + r % HEADS, s.m[r], s.l[r]);
        UNROLL for (int e = 0; e < memory::ELEMENTS; e++) {
            int x = element_of(at, e);
            if (x < a.dv) out[x] = (v.lo < v.hi ? out[x] : 0.0f) * factor;
        }
    }
}

template <int T, int HEADS> DEVICE void attn_many(const cu_attn &a, many_memory<HEADS> &s) {
    typedef many_memory<HEADS> memory;
    int n_group = a.n_kv_head * a.n_tile, n = (a.n_tok + memory::TOKENS - 1) / memory::TOKENS;
    int t0 = (n - 1 - (int)blockIdx.x / n_group) * memory::TOKENS; /* the longest begin first */
    cu_tile tile = tile_of<HEADS>(a, (int)blockIdx.x % n_group);
    float o[memory::EACH][memory::ELEMENTS];
    UNROLL for (int i = 0; i < memory::EACH; i++) {
        UNROLL for (int e = 0; e < memory::ELEMENTS; e++) o[i][e] = 0;
    }
    load_tile(a, tile, t0, s);
    for (int begin = 0; begin < memory::TOKENS;) {
        cu_crowd c = crowd_of(a, begin, s);
        int n_valid = (t0 + c.end < a.n_tok ? c.end : a.n_tok - t0) - begin;
        begin = c.end;
        if (n_valid < a.least) continue;
        for (int base = c.lo / CU_RUN * CU_RUN; base < c.hi; base += CU_RUN) {
            if (threadIdx.x < CU_RUN) {
                int key = base + (int)threadIdx.x; /* not seen: the nearest that is */
                key = key < c.lo ? c.lo : key < c.hi ? key : c.hi - 1;
                s.row[threadIdx.x] =
                    c.table[key / a.block_tokens] * a.block_tokens + key % a.block_tokens;
            }
            many_logits<T>(a, tile, base, s);
            many_softmax(c, base, s);
            many_values<T>(a, tile, base >= c.all_lo && base + CU_RUN <= c.all_hi, s, o);
            __syncthreads();
            if ((base + CU_RUN) % CU_PART == 0 || base + CU_RUN >= c.hi)
                many_merge(a, tile, t0, c, base / CU_PART, s, o);
        }
        put_rows(a, tile, t0, c, s);
    }
}

/* Blocks to a multiprocessor: on 9.0 four, for which 128 registers are enough.  12.0 shares that
 * code, and its shared memory has room for two; elsewhere it is two or three. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define BLOCKS 4
#else
#define BLOCKS 3
#endif

#define KERNELS(T)                                                                                 \
    KERNEL_DENSE(attn_many_##T, cu_attn, BLOCKS) {                                                 \
        __shared__ many_memory<1> s;                                                               \
        attn_many<T>(a, s);                                                                        \
    }                                                                                              \
    KERNEL_DENSE(attn_tile_many_##T, cu_attn, BLOCKS) {                                            \
        __shared__ many_memory<CU_TILE> s;                                                         \
        attn_many<T>(a, s);                                                                        \
    }
KERNELS(0)
KERNELS(1)
KERNELS(30)
KERNELS(8)
KERNELS(2)
