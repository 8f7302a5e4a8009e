/* SPDX-License-Identifier: MIT
 *
 * product.cu - LINEAR, LINEAR_QKV, GATE_UP_GLU and LINEAR_EXPERTS with weights of the types of
 * codes.cuh and activations of 8 bits: numerics "act=q8/32 acc=i32".
 *
 * Activations.  32 elements of x have a scale dx = max |x| / 127 and integers a = x * (1 / dx), to
 * the nearest; a NaN or an infinity makes dx a NaN; where 1 / dx is infinite all count as 0.  Of a
 * row its bytes, and per group dx and the sums of a, are made by quantise, by what wrote the row,
 * or by dot.
 *
 * Order of a sum.  A group's value v is rounded from exact integers (codes.cuh).  A span is eight
 * groups, 256 elements: ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7)).  Up to CU_SUM_SPANS
 * spans are added, rising, to the sum of a section; sections are added, rising.  So nothing but n
 * decides it, and the two ways give the same bits:
 *
 * - dot, one token or one pair of token and expert: a warp takes a section of a row at a time, or
 *   short rows together, two groups to a lane, and leaves sums in shared memory (dot.cuh).
 * - few and many, CU_TILE_FEW or CU_TILE_MANY tokens and 64 rows to a block, 16 rows to a warp, by
 *   tiles of integers.  Where that makes too few blocks, a block takes one section, and sum_parts
 *   adds.
 *
 * Weights come by copies that run by themselves, as they lie in the file, several spans of a row on
 * the way, and begin before x is there.  With a GLU a block has rows of both matrices, tiles in
 * turn, so that a gate and its up meet in one warp.  Tiles of experts are of pairs with one expert,
 * which `group` has sorted.  Experts outside 0 .. n_expert - 1 are not followed: their rows are
 * NaN. */
#include "dot.cuh"

/* ---- activations ---- */

KERNEL(quantise, cu_quantise) {
    int r = (int)blockIdx.x / a.n_chunk;
    int i = (int)blockIdx.x % a.n_chunk * CU_THREADS + (int)threadIdx.x;
    float v[4];
    load_four(floats_in(at_row_of(a.x, r, a.d2)), i, a.n, v);
    store_codes(global<uint8_t>(a.q), a.n_row, r, i, a.n, v);
}

/* ---- tiles ---- */

/* Which pairs or tokens a tile has: from `first` on, n of them, of one expert (-1: of none). */
struct unit_of {
    int first, n, expert;
};

DEVICE unit_of unit_at(const cu_product &a, int unit, int most) {
    if (a.n_expert) {
        const int32_t *t = ints_in(a.tiles) + 3 * unit;
        return {t[0], t[1], t[2]};
    }
    int n = a.n_tok - unit * most;
    return {unit * most, n < most ? n : most, 0};
}

/* Token or pair number i of a tile, the last one again beyond it. */
DEVICE int row_in(const cu_product &a, const unit_of &u, int i) {
    int at = u.first + (i < u.n ? i : u.n - 1);
    return a.n_expert ? ints_in(a.order)[at] : at;
}

/* Tokens of a span: rows end where the next one's begin in other banks. */
template <int N> struct tile_x {
    enum { PITCH = CU_SPAN + CU_GROUP };
    alignas(16) uint8_t q[N][PITCH];
    alignas(16) group_meta meta[GROUPS][N + 2];
};
struct alignas(16) two_metas {
    group_meta m[2];
};

/* Weights of a span as they lie in the file, scales of all groups, where the rows begin, and which
 * row of q a token has; at last, the sums. */
template <int T, int N> struct tile_memory {
    struct stage {
        alignas(16) uint8_t w[CU_TILE_ROWS][span_of<T>::SLOT];
        tile_x<N> x;
    };
    enum {
        FIXED = GROUPS * CU_TILE_ROWS * (int)sizeof(typename kept_scales<T>::type) +
                12 * CU_TILE_ROWS + 4 * N,
        ROOM = (48 * 1024 - FIXED) / (int)sizeof(stage),
        STAGES = ROOM < 1   ? 1
                 : ROOM < 3 ? ROOM
                            : 3,
        SUMS = N / 8 * 4, /* of a thread */
        HAS_SUMS = FIXED + STAGES * (int)sizeof(stage) + 4 * SUMS * CU_THREADS <= 48 * 1024
    };
    stage at[STAGES];
    typename kept_scales<T>::type scales[GROUPS][CU_TILE_ROWS];
    const uint8_t *from[CU_TILE_ROWS];
    int begin[CU_TILE_ROWS]; /* begin_of the first span */
    int row[N];
    float sum[HAS_SUMS ? SUMS : 1][HAS_SUMS ? CU_THREADS : 1]; /* of sections */
    static_assert(sizeof(stage) >= sizeof(float) * N * CU_TILE_ROWS, "sums");
};

/* Where row r, span k of it, begins in its slot.  Where spans are whole units of 16 bytes, rows of
 * four others begin a unit on, if there is room: that keeps eight rows out of each other's banks.
 */
template <int T> DEVICE int begin_of(const uint8_t *row, int r, int k) {
    enum { IS_EVEN = span_of<T>::BYTES % UNIT == 0, HAS_ROOM = span_of<T>::UNITS % 2 == 0 };
    int shift = shift_of(row);
    if (!IS_EVEN) return shift_at<T>(shift, k);
    return HAS_ROOM && shift == 0 ? r / 4 % 2 * UNIT : shift;
}

/* Span k of row r of the tile. */
template <int T, int N>
DEVICE const uint8_t *span_in(const tile_memory<T, N> &s, int stage, int r, int k) {
    enum { IS_EVEN = span_of<T>::BYTES % UNIT == 0 };
    return s.at[stage].w[r] + (IS_EVEN ? s.begin[r] : begin_of<T>(s.from[r], r, k));
}

/* Span k of the tokens whose rows of q are q_row[N]. */
template <int N>
DEVICE void copy_tokens(const cu_product &a, tile_x<N> &x, const int *q_row, int k) {
    enum { OF_Q = CU_SPAN / UNIT, TOKENS = CU_THREADS / OF_Q, METAS = CU_THREADS / GROUPS };
    int i = (int)threadIdx.x, u = i % OF_Q * UNIT, t = i / OF_Q, g = i % GROUPS;
    uint8_t *q = global<uint8_t>(a.q);
    const uint8_t *from = q + k * CU_SPAN + u;
    shared_at to = shared_of(x.q[t] + u);
    UNROLL for (int m = 0; m < N; m += TOKENS) copy_unit(
        to + (uint32_t)(m * tile_x<N>::PITCH), codes_at((uint8_t *)from, q_row[t + m], a.n));
    t = i / GROUPS;
    to = shared_of(x.meta) + (uint32_t)(g * sizeof x.meta[0] + t * sizeof(group_meta));
    UNROLL_BY(1)
    for (int m = 0; m < N; m += METAS) {
        if (t + m < N)
            copy_8(to + (uint32_t)(m * sizeof(group_meta)),
                   meta_at(q, rows_of_q(a), q_row[t + m], a.n) + k * GROUPS + g);
    }
}

/* A group of 16 rows, of which this lane has two, as tile_32 wants them. */
template <int T> DEVICE void load_group(const uint8_t *const *span, int g, uint32_t *w) {
    UNROLL for (int h = 0; h < 2; h++) {
        const uint8_t *b = block_at<T>(span[h], g);
        int j = lane() % 4, in = group_in<T>(g);
        w[h] = signed_word<T>(codes<T>::word(b, in, j));
        w[2 + h] = signed_word<T>(codes<T>::word(b, in, 4 + j));
    }
}

/* Values of group g of span k with eight tokens: columns 2 j, 2 j + 1 of the lane's first row, and
 * second.  Tiles add to a number whose bits are those of 1.5 * 2^23, so that an integer is a float
 * at once; it is smaller than 2^22. */
template <int T, int N>
DEVICE void tile_values(const cu_product &a, const tile_memory<T, N> &s, int stage,
                        const uint32_t *w, const typename kept_scales<T>::type *scales, int first,
                        int k, int g, float *v) {
    const tile_x<N> &x = s.at[stage].x;
    const int ZERO = 0x4b400000, j = lane() % 4;
    int c0[4] = {ZERO, ZERO, ZERO, ZERO}, c1[4] = {ZERO, ZERO, ZERO, ZERO};
    two_words b = *(const two_words *)(x.q[first + lane() / 4] + g * CU_GROUP + j * 8);
    if (codes<T>::HALVES) {
        tile_16(c0, w, b.w[0]);
        tile_16(c1, w + 2, b.w[1]);
    } else {
        tile_32(c0, w, b.w);
    }
    two_metas both = *(const two_metas *)&x.meta[g][first + 2 * j];
    UNROLL for (int i = 0; i < 4; i++) {
        int token = first + 2 * j + i % 2;
        group_meta m = both.m[i % 2];
        float s0 = float_of((uint32_t)c0[i]) - 0x1.8p23f, s1 = 0;
        if (codes<T>::HALVES) s1 = float_of((uint32_t)c1[i]) - 0x1.8p23f;
        uint32_t halves = 0;
        if (codes<T>::HALVES && codes<T>::HAS_MIN)
            halves =
                halves_at(global<uint8_t>(a.q), rows_of_q(a), s.row[token], a.n)[k * GROUPS + g];
        v[i] = kept_scales<T>::value(scales[i / 2], s0, s1, m.sum, halves, m.dx);
    }
}

/* Row r of 16 of a warp, rows `at` .. of the outputs, and its address. */
template <int T>
DEVICE const uint8_t *tile_row(const cu_product &a, const place &p, int row, int expert) {
    int at = (p.tile * CU_ROWS + row / TILE_ROWS) * (a.is_glu ? TILE_ROWS / 2 : TILE_ROWS);
    return bytes_of_row<T>(a, row_at_set(a, p, at, row % TILE_ROWS, TILE_ROWS),
                           expert < 0 ? 0 : expert);
}

/* Sum of row r of 16 of the warp whose first output is `at`, and token number t; `up` is that of
 * row r + 8, for a GLU. */
DEVICE void store_tile(const cu_product &a, const place &p, const unit_of &u, int at, int r, int t,
                       float sum, float up) {
    int o = at + r;
    if (t >= u.n || o >= a.part[p.part].m) return;
    int row = row_in(a, u, t);
    if (u.expert < 0)
        output_row(a, p.part, row)[o] = float_of(0x7fc00000u);
    else if (a.n_split > 1)
        floats_out(
            a.sums)[((int64_t)p.section * a.n_tok + row) * a.width + a.part[p.part].column + o] =
            sum;
    else if (a.is_glu)
        output_row(a, p.part, row)[o] = activate(a.act, sum, a.param) * up;
    else
        store_sum(a, p.part, row, o, u.expert, sum);
}

/* Threads that copy a row, and that take its scales. */
enum { THREADS_EACH = CU_THREADS / CU_TILE_ROWS };

template <int T, int N>
DEVICE void copy_rows(const cu_product &a, tile_memory<T, N> &s, int stage, const uint8_t *row,
                      int k) {
    enum { BYTES = span_of<T>::BYTES, COPIES = (span_of<T>::UNITS + 1) / THREADS_EACH };
    int i = (int)threadIdx.x, r = i / THREADS_EACH, first = i % THREADS_EACH * UNIT;
    int shift = shift_at<T>(shift_of(row), k), bytes = bytes_at<T>(k, BYTES, a.n);
    int end = bytes > 0 ? shift + bytes : 0;
    const uint8_t *from = row + (int64_t)k * BYTES - shift + first;
    shared_at to = shared_of(s.at[stage].w[r]) + (uint32_t)(begin_of<T>(row, r, k) - shift + first);
    UNROLL for (int c = 0; c < COPIES; c++) {
        enum { STEP = THREADS_EACH * UNIT };
        if (first + c * STEP < end) copy_16_once(to + (uint32_t)(c * STEP), from + c * STEP);
    }
}

/* Scales of groups 0 - 3 or 4 - 7 of a span. */
enum { HALF = GROUPS / 2 };
template <int T> struct half_span {
    DEVICE void scales(const uint8_t *span, bool is_high, code_scales *c) {
        UNROLL for (int i = 0; i < HALF; i++) {
            int g = (is_high ? HALF : 0) + i;
            c[i] = codes<T>::scales(block_at<T>(span, g), group_in<T>(g));
        }
    }
};
struct half_of_k {
    DEVICE void scales(const uint8_t *span, bool is_high, code_scales *c) {
        four_scales f = four_scales_at(span, is_high);
        UNROLL for (int i = 0; i < HALF; i++) c[i] = scales_in(f, i);
    }
};
template <> struct half_span<12> : half_of_k {};
template <> struct half_span<13> : half_of_k {};

/* Scales of span k, which is there; of groups beyond n they are 0. */
template <int T, int N>
DEVICE void keep_scales(const cu_product &a, tile_memory<T, N> &s, int stage, int k) {
    int r = (int)threadIdx.x % CU_TILE_ROWS, first = (int)threadIdx.x / CU_TILE_ROWS * HALF;
    code_scales c[HALF];
    half_span<T>::scales(span_in<T, N>(s, stage, r, k), first > 0, c);
    UNROLL for (int i = 0; i < HALF; i++) {
        bool is_there =
            (int)weights<T>::N == (int)CU_SPAN || k * GROUPS + first + i < a.n / CU_GROUP;
        s.scales[first + i][r] = kept_scales<T>::of(is_there ? c[i] : code_scales());
    }
}
static_assert((int)THREADS_EACH * (int)HALF == (int)GROUPS, "a thread takes half a span's scales");

/* Adds span k of a warp's rows with all tokens to sum: two groups after two, so that what they need
 * of the rows is there once for all tokens. */
template <int T, int N>
DEVICE void tile_span(const cu_product &a, const tile_memory<T, N> &s, int stage, int k,
                      float (*sum)[4]) {
    const uint8_t *span[2];
    float four[2][N / 8][4];
    int row = warp() * TILE_ROWS + lane() / 4;
    UNROLL for (int h = 0; h < 2; h++) span[h] = span_in<T, N>(s, stage, row + 8 * h, k);
    UNROLL for (int g = 0; g < GROUPS; g += 2) {
        uint32_t w[2][4];
        typename kept_scales<T>::type scales[2][2];
        /* Q2_K: what the second half reads is not fetched before, which takes too many registers */
        if (T == 10 && N == CU_TILE_MANY && g == GROUPS / 2) __syncwarp();
        UNROLL for (int h = 0; h < 2; h++) {
            UNROLL for (int i = 0; i < 2; i++) scales[h][i] = s.scales[g + h][row + 8 * i];
            load_group<T>(span, g + h, w[h]);
        }
        UNROLL for (int c = 0; c < N / 8; c++) {
            float v[2][4], *all = four[g / 4][c];
            UNROLL for (int h = 0; h < 2; h++)
                tile_values<T, N>(a, s, stage, w[h], scales[h], 8 * c, k, g + h, v[h]);
            UNROLL for (int i = 0; i < 4; i++) all[i] =
                g % 4 ? all[i] + (v[0][i] + v[1][i]) : v[0][i] + v[1][i];
        }
    }
    UNROLL for (int c = 0; c < N / 8; c++) UNROLL for (int i = 0; i < 4; i++) sum[c][i] +=
        four[0][c][i] + four[1][c][i];
}

/* Sums of a block, through memory of [N][CU_TILE_ROWS], so that rows follow one another and the
 * code of an output is there once. */
template <int N> DEVICE void store_tiles(const cu_product &a, float *all, float (*sum)[4]) {
    place p = place_of(a); /* once more, as registers are few */
    unit_of u = unit_at(a, p.unit, N);
    int set = a.is_glu ? TILE_ROWS / 2 : TILE_ROWS;
    __syncthreads();
    UNROLL for (int c = 0; c < N / 8; c++) {
        UNROLL for (int k = 0; k < 4; k++) all[(8 * c + lane() % 4 * 2 + k % 2) * CU_TILE_ROWS +
                                               warp() * TILE_ROWS + lane() / 4 + k / 2 * 8] =
            sum[c][k];
    }
    __syncthreads();
    UNROLL_BY(1)
    for (int i = (int)threadIdx.x; i < u.n * CU_TILE_ROWS; i += CU_THREADS) {
        int r = i % TILE_ROWS, w = i % CU_TILE_ROWS / TILE_ROWS;
        if (r < set)
            store_tile(a, p, u, (p.tile * CU_ROWS + w) * set, r, i / CU_TILE_ROWS, all[i],
                       a.is_glu ? all[i + set] : 0);
    }
}

/* Adds a section to a thread's sums, which are in shared memory where there is room. */
template <int T, int N>
DEVICE void add_section(tile_memory<T, N> &s, float (*sum)[4], float (*section)[4], bool is_first) {
    enum { HAS_SUMS = tile_memory<T, N>::HAS_SUMS };
    UNROLL for (int c = 0; c < N / 8; c++) UNROLL for (int j = 0; j < 4; j++) {
        float *at =
            HAS_SUMS ? &s.sum[HAS_SUMS ? 4 * c + j : 0][HAS_SUMS ? threadIdx.x : 0] : &sum[c][j];
        *at = (is_first ? 0 : *at) + section[c][j];
        section[c][j] = 0;
    }
}

/* The end of the spans that the block takes whose span k is: computed anew, as registers are few.
 */
DEVICE int end_of(const cu_product &a, int k) {
    int all = spans_of(a.n), end = (k / CU_SUM_SPANS + 1) * CU_SUM_SPANS;
    return a.n_split > 1 && end < all ? end : all;
}

template <int T, int N> DEVICE void tile(const cu_product &a, tile_memory<T, N> &s) {
    enum { STAGES = tile_memory<T, N>::STAGES, AHEAD = STAGES - 1 };
    place p = place_of(a);
    int i = (int)threadIdx.x, first = p.section * CU_SUM_SPANS; /* 0, if all are the block's */
    if (a.n_expert) ahead_wait();
    unit_of u = unit_at(a, p.unit, N);
    if (u.n == 0) return;
    for (int k = 0; k < AHEAD; k++)
        copy_rows<T, N>(a, s, k, tile_row<T>(a, p, i / THREADS_EACH, u.expert), first + k);
    if (!a.n_expert) ahead_wait();
    if (i < N) s.row[i] = row_of_q(a, row_in(a, u, i));
    if (i < CU_TILE_ROWS) {
        s.from[i] = tile_row<T>(a, p, i, u.expert);
        s.begin[i] = begin_of<T>(s.from[i], i, first);
    }
    __syncthreads();
    for (int k = 0; k < AHEAD; k++) {
        if (first + k < end_of(a, first)) copy_tokens<N>(a, s.at[k].x, s.row, first + k);
        copy_commit();
    }
    float sum[N / 8][4] = {}, section[N / 8][4] = {};
    for (int k = first, stage = 0, end = end_of(a, k); k < end;
         k++, stage = stage + 1 < STAGES ? stage + 1 : 0) {
        int next = k + AHEAD, to = stage ? stage - 1 : STAGES - 1;
        end = end_of(a, k);
        if (STAGES > 1) copy_wait<(STAGES > 1 ? STAGES - 2 : 0)>();
        __syncthreads(); /* what this stage needs is there, and nobody reads the one before */
        if (next < end) {
            copy_rows<T, N>(a, s, to, s.from[i / THREADS_EACH], next);
            copy_tokens<N>(a, s.at[to].x, s.row, next);
        }
        copy_commit();
        if (STAGES == 1) {
            copy_wait<0>();
            __syncthreads();
        }
        keep_scales<T, N>(a, s, stage, k);
        __syncthreads();
        tile_span<T, N>(a, s, stage, k, section);
        if (k % CU_SUM_SPANS + 1 < CU_SUM_SPANS && k + 1 < end) continue;
        add_section<T, N>(s, sum, section, k < first + CU_SUM_SPANS);
    }
    ahead_go();
    UNROLL for (int c = 0; c < N / 8 && tile_memory<T, N>::HAS_SUMS; c++)
        UNROLL for (int j = 0; j < 4; j++) sum[c][j] = s.sum[4 * c + j][threadIdx.x];
    store_tiles<N>(a, (float *)(void *)s.at[0].w, sum);
}

/* y = sums over sections [n_split][n_tok][width], rising.  A thread takes an output. */
KERNEL(sum_parts, cu_product) {
    int t = (int)blockIdx.x / a.n_chunk;
    int c = (int)blockIdx.x % a.n_chunk * CU_THREADS + (int)threadIdx.x, part = 0;
    float sum = 0;
    if (c >= a.width) return;
    for (int k = 0; k < a.n_split; k++)
        sum += floats_in(a.sums)[((int64_t)k * a.n_tok + t) * a.width + c];
    while (part + 1 < a.n_part && c >= a.part[part + 1].column)
        part++;
    store_sum(a, part, t, c - a.part[part].column, 0, sum);
}

/* Blocks of `many` to a multiprocessor, as its shared memory allows (that of 12.0 only two, whose
 * registers are as many), and registers without any in memory: fewer with the types that have most
 * to keep. */
constexpr int many_blocks(int t) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    return 3;
#endif
    return t == 3 || t == 7 || t == 10 || t == 11 || t == 13 ? 3 : 4; /* Q4_1, Q5_1, Q2_K .. */
}

#define KERNELS(T)                                                                                 \
    KERNEL_ENTRY(dot_##T, cu_product, CU_DOT_BLOCKS) {                                             \
        __shared__ dot_memory<T> s;                                                                \
        dot<T>(a, s);                                                                              \
    }                                                                                              \
    KERNEL_ENTRY(few_##T, cu_product, 4) {                                                         \
        __shared__ tile_memory<T, CU_TILE_FEW> s;                                                  \
        tile<T, CU_TILE_FEW>(a, s);                                                                \
    }                                                                                              \
    KERNEL_ENTRY(many_##T, cu_product, many_blocks(T)) {                                           \
        __shared__ tile_memory<T, CU_TILE_MANY> s;                                                 \
        tile<T, CU_TILE_MANY>(a, s);                                                               \
    }
FOR_CODE_TYPES(KERNELS)

/* dot, where the last matrix has Q6_K and the others another type: V of LINEAR_QKV in files that
 * are called Q4_K_M and Q5_K_M, as a launch of its own would take as long as Q and K. */
#define MIXED(T)                                                                                   \
    KERNEL_ENTRY(mixed_##T, cu_product, CU_DOT_BLOCKS) {                                           \
        __shared__ union {                                                                         \
            dot_memory<T> one;                                                                     \
            dot_memory<14> last;                                                                   \
        } s;                                                                                       \
        if ((int)blockIdx.x < a.part[a.n_part - 1].first)                                          \
            dot<T>(a, s.one);                                                                      \
        else                                                                                       \
            dot<14>(a, s.last);                                                                    \
    }
MIXED(12)
MIXED(13)

/* ---- pairs by expert ----------------------------------------------------------------------------
 *
 * One block.  order i32 [T K]: pairs, those of one expert together, those of none last.  tiles i32
 * [n_tile][3]: first place in order, how many, which expert (-1: none); 0 pairs in those that are
 * left.  Which place a pair of an expert gets is a matter of chance, and of none to the results. */
KERNEL(group, cu_group) {
    __shared__ int count[CU_EXPERTS + 1], pairs[CU_THREADS], tiles[CU_THREADS];
    int32_t *order = global<int32_t>(a.order), *tile = global<int32_t>(a.tiles);
    int n_pair = a.n_tok * a.n_used, i = (int)threadIdx.x;
    int each = (a.n_expert + CU_THREADS) / CU_THREADS, lo = i * each, hi = lo + each;
    if (hi > a.n_expert + 1) hi = a.n_expert + 1;
    for (int e = i; e <= a.n_expert; e += CU_THREADS)
        count[e] = 0;
    __syncthreads();
    for (int k = i; k < n_pair; k += CU_THREADS) {
        int e = expert_of(a.ids, k, a.n_used, a.n_expert);
        atomicAdd(&count[e < 0 ? a.n_expert : e], 1);
    }
    __syncthreads();
    pairs[i] = tiles[i] = 0;
    for (int e = lo; e < hi; e++) {
        pairs[i] += count[e];
        tiles[i] += (count[e] + a.tile - 1) / a.tile;
    }
    __syncthreads();
    int at = 0, t = 0, n_all = 0;
    for (int k = 0; k < CU_THREADS; k++) {
        if (k < i) {
            at += pairs[k];
            t += tiles[k];
        }
        n_all += tiles[k];
    }
    for (int e = lo; e < hi; e++) {
        int n = count[e];
        count[e] = at;
        for (int k = 0; k < n; k += a.tile, t++) {
            tile[3 * t] = at + k;
            tile[3 * t + 1] = n - k < a.tile ? n - k : a.tile;
            tile[3 * t + 2] = e < a.n_expert ? e : -1;
        }
        at += n;
    }
    for (int k = n_all + i; k < a.n_tile; k += CU_THREADS)
        tile[3 * k + 1] = 0;
    __syncthreads();
    for (int k = i; k < n_pair; k += CU_THREADS) {
        int e = expert_of(a.ids, k, a.n_used, a.n_expert);
        order[atomicAdd(&count[e < 0 ? a.n_expert : e], 1)] = k;
    }
}
