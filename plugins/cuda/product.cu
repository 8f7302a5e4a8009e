/* SPDX-License-Identifier: MIT
 *
 * product.cu - LINEAR, LINEAR_QKV, GATE_UP_GLU and LINEAR_EXPERTS with weights of the types of
 * codes.cuh and activations of 8 bits: numerics "act=q8/32 acc=i32".
 *
 * Activations.  32 elements of x have a scale dx = max |x| / 127 and integers a = x * (1 / dx), to
 * the nearest; a NaN or an infinity makes dx a NaN; where 1 / dx is infinite all count as 0.  The
 * kernel quantise makes of each row its bytes, and per group dx and the sums of a.
 *
 * Order of a sum.  A group's value v is rounded from exact integers (codes.cuh).  A span is eight
 * groups, 256 elements: ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7)).  Up to CU_SUM_SPANS
 * spans are added, rising, to the sum of a section; sections are added, rising.  So nothing but n
 * decides it, and the two ways give the same bits:
 *
 * - dot, one token or one pair of token and expert: a warp takes four rows of W and a section,
 *   eight lanes to a row, a group to a lane.  A block takes some sets of four rows; its warps take
 *   (set, section) in turn and leave the sections' sums in shared memory.
 * - few and many, CU_TILE_FEW or CU_TILE_MANY tokens and 64 rows to a block, 16 rows to a warp, by
 *   tiles of integers.  Where that makes too few blocks, a block takes one section, and sum_parts
 *   adds.
 *
 * Weights come by copies that run by themselves, as they lie in the file, several spans of a row on
 * the way, and begin before x is there.  With a GLU rows are taken from both matrices in turn, so
 * that a gate and its up meet in one warp.  Tiles of experts are of pairs with one expert, which
 * `group` has sorted.  Experts outside 0 .. n_expert - 1 are not followed: their rows are NaN. */
#include "codes.cuh"
#include "quant.cuh"

enum { GROUPS = CU_SPAN / CU_GROUP, TILE_ROWS = 16, UNIT = 16 };
enum { DOT_ROWS = CU_WARP / DOT_LANES }; /* of a warp */
static_assert((int)DOT_ROWS == (int)CU_DOT_ROWS && (int)TILE_ROWS * CU_ROWS == (int)CU_TILE_ROWS,
              "rows of a warp and of a block");

template <int T> struct span_of {
    enum {
        BYTES = CU_SPAN / weights<T>::N * weights<T>::BYTES,
        SLOT = (BYTES + 2 * (UNIT - 1)) / UNIT * UNIT, /* wherever it begins */
        UNITS = SLOT / UNIT
    };
};

DEVICE int sections_of(int n) {
    return (spans_of(n) + CU_SUM_SPANS - 1) / CU_SUM_SPANS;
}

/* ---- rows of W ---- */

/* Where a block works: tile of rows, matrix, and what comes next in blockIdx. */
struct place {
    int tile, part, unit, section;
};

DEVICE place place_of(const cu_product &a) {
    int b = (int)blockIdx.x / a.n_split;
    place p = {b / a.n_unit, 0, b % a.n_unit, (int)blockIdx.x % a.n_split};
    while (p.part + 1 < a.n_part && !a.is_glu && p.tile >= a.part[p.part + 1].first)
        p.part++;
    p.tile -= a.part[p.part].first;
    return p;
}

/* Row r of a set of `set` rows that belong to one warp, rows `at` .. of the outputs: with a GLU the
 * first half is of the gate and the second of the up, beyond the last row that once more. */
struct row_of {
    int part, o;
};
DEVICE row_of row_at_set(const cu_product &a, const place &p, int at, int r, int set) {
    row_of x = {p.part, at + r};
    if (a.is_glu) {
        x.part = r / (set / 2);
        x.o = at + r % (set / 2);
    }
    if (x.o >= a.part[x.part].m) x.o = a.part[x.part].m - 1;
    return x;
}

template <int T> DEVICE const uint8_t *bytes_of_row(const cu_product &a, row_of r, int expert) {
    const cu_matrix &m = a.part[r.part];
    return global<const uint8_t>(m.w) + ((int64_t)expert * m.m + r.o) * row_bytes<T>(a.n);
}

/* ---- spans on their way ---- */

/* Bytes of `most` of the row at `row` from span k on; 0 beyond its end. */
template <int T> DEVICE int bytes_at(int k, int most, int n) {
    int64_t left = row_bytes<T>(n) - (int64_t)k * span_of<T>::BYTES;
    return left < 0 ? 0 : left < most ? (int)left : most;
}

/* Where a row begins in its slot, and span k of it. */
DEVICE int shift_of(const uint8_t *row) {
    return (int)((uint64_t)(uintptr_t)row % UNIT);
}
template <int T> DEVICE int shift_at(int shift, int k) {
    return (shift + k * span_of<T>::BYTES) % UNIT;
}

/* Of `bytes` of the row from span k on, units first, first + step, .. to the slot: COPIES of them
 * at most. */
template <int T, int COPIES>
DEVICE void copy_units(uint8_t *slot, const uint8_t *row, int k, int bytes, int first, int step) {
    int shift = shift_at<T>(shift_of(row), k), end = bytes > 0 ? shift + bytes : 0;
    const uint8_t *from = row + (int64_t)k * span_of<T>::BYTES - shift;
    UNROLL for (int i = 0; i < COPIES; i++) {
        int at = (first + i * step) * UNIT;
        if (at < end) copy_16(slot + at, from + at, end - at < UNIT ? end - at : UNIT);
    }
}

/* The block of group g of a span, and the group's number in it. */
template <int T> DEVICE const uint8_t *block_at(const uint8_t *span, int g) {
    return span + g * CU_GROUP / weights<T>::N * weights<T>::BYTES;
}
template <int T> DEVICE int group_in(int g) {
    return g % (weights<T>::N / CU_GROUP);
}

/* ---- activations ---- */

KERNEL(quantise, cu_quantise) {
    int r = (int)blockIdx.x / a.n_chunk;
    int i = (int)blockIdx.x % a.n_chunk * CU_THREADS + (int)threadIdx.x;
    float v[4];
    const float *x =
        floats_in(a.x.at + (uint64_t)(r / a.d2 * a.x.stride[1] + r % a.d2 * a.x.stride[2]));
    load_four(x, i, a.n, v);
    store_codes(a.q, a.n_row, r, i, a.n, v);
}

/* ---- outputs ---- */

DEVICE float output_value(const cu_matrix &m, int o, int expert, bool is_scale_last, float sum,
                          bool has_experts) {
    float bias = m.bias ? floats_in(m.bias)[(int64_t)expert * m.m + o] : 0.0f;
    float scale = m.scale ? floats_in(m.scale)[has_experts ? expert : 0] : 1.0f;
    return is_scale_last ? scale * (sum + bias) : scale * sum + bias;
}

/* Of token or pair `row`. */
DEVICE float *output_row(const cu_product &a, int part, int row) {
    const cu_rows &y = a.part[part].y;
    if (a.n_expert == 0) return floats_out(y.at + (uint64_t)(row * y.stride[2]));
    return floats_out(y.at +
                      (uint64_t)(row / a.n_used * y.stride[1] + row % a.n_used * y.stride[2]));
}

DEVICE void store_sum(const cu_product &a, int part, int row, int o, int expert, float sum) {
    output_row(a, part, row)[o] =
        output_value(a.part[part], o, expert, a.is_scale_last != 0, sum, a.n_expert > 0);
}

/* The expert of a pair, or -1. */
DEVICE int expert_of(const cu_rows &ids, int pair, int n_used, int n_expert) {
    int e = ints_in(ids.at + (uint64_t)(pair / n_used * ids.stride[2]))[pair % n_used];
    return e < 0 || e >= n_expert ? -1 : e;
}

/* The row of q that a token or pair has. */
DEVICE int row_of_q(const cu_product &a, int row) {
    return a.n_expert && !a.has_slots ? row / a.n_used : row;
}
DEVICE int rows_of_q(const cu_product &a) {
    return a.n_expert && a.has_slots ? a.n_tok * a.n_used : a.n_tok;
}

/* ---- dot ---- */

enum { DOT_STAGES = 3 };

/* A stage is SPANS spans of each of a warp's rows. */
template <int T> struct dot_memory {
    enum {
        SPANS = span_of<T>::BYTES < 160 ? 4 : 2,
        BYTES = SPANS * span_of<T>::BYTES,
        UNITS = (BYTES + 2 * (UNIT - 1)) / UNIT,
        COPIES = (UNITS + DOT_LANES - 1) / DOT_LANES
    };
    static_assert((int)CU_SUM_SPANS % (int)SPANS == 0, "stages end where sections do");
    alignas(16) uint8_t w[CU_ROWS][DOT_STAGES][DOT_ROWS][UNITS * UNIT];
    float sum[CU_DOT_SUMS]; /* [set][section][DOT_ROWS] */
};

/* A stage: the task it belongs to, (set, section), its first span and the end of its section, and
 * the lane's row. */
struct stage_of {
    int task, k, end;
    const uint8_t *row;
};

/* The sets of a block, and where its rows are. */
struct dot_sets {
    place p;
    int first, n_task, n_section, n_span, set, expert;
};

DEVICE dot_sets sets_of(const cu_product &a) {
    dot_sets d;
    d.p = place_of(a);
    d.set = a.is_glu ? DOT_ROWS / 2 : DOT_ROWS;
    d.n_span = spans_of(a.n);
    d.n_section = sections_of(a.n);
    d.first = d.p.tile * a.n_set;
    int n = (a.part[d.p.part].m + d.set - 1) / d.set - d.first;
    d.n_task = (n < a.n_set ? n : a.n_set) * d.n_section;
    d.expert = 0;
    return d;
}

/* To the next stage; a warp takes every CU_ROWS'th task. */
template <int T> DEVICE void stage_on(const cu_product &a, const dot_sets &d, stage_of *w) {
    w->k += dot_memory<T>::SPANS;
    if (w->k < w->end) return;
    w->task += CU_ROWS;
    int set = d.first + w->task / d.n_section;
    w->k = w->task % d.n_section * CU_SUM_SPANS;
    w->end = w->k + CU_SUM_SPANS < d.n_span ? w->k + CU_SUM_SPANS : d.n_span;
    w->row =
        bytes_of_row<T>(a, row_at_set(a, d.p, set * d.set, lane() / DOT_LANES, DOT_ROWS), d.expert);
}

/* What a lane needs of x. */
struct dot_x {
    const four_words *q;
    const group_meta *meta;
    const uint32_t *halves;
};

/* The value of group g of x with the lane's group of a span. */
template <int T> DEVICE float dot_group(const dot_x &x, const uint8_t *span, int g) {
    const uint8_t *b = block_at<T>(span, lane() % DOT_LANES);
    int in = group_in<T>(lane() % DOT_LANES), dot[2] = {0, 0};
    four_words q[2] = {x.q[2 * g], x.q[2 * g + 1]};
    group_meta m = x.meta[g];
    uint32_t w[8];
    code_words<T>::of(b, in, w);
    UNROLL for (int i = 0; i < 8; i++) {
        int half = codes<T>::HALVES ? i / 4 : 0, at = place_of_word(i);
        dot[half] = dot_4(w[i], q[at / 4].w[at % 4], dot[half]);
    }
    code_scales c = codes<T>::scales(b, in);
    if (!codes<T>::HALVES) return group_value<T>(c, (float)dot[0], m.sum, m.dx);
    halves_sum h = sum_halves<T>(c, dot[0], dot[1], x.halves[g]);
    return group_value<T>(c, h.i, h.j, m.dx);
}

/* Outputs of the block's sets, from the sections' sums. */
template <int T> DEVICE void dot_outputs(const cu_product &a, const dot_sets &d, const float *sum) {
    int n = d.n_task / d.n_section * d.set, m = a.part[d.p.part].m;
    for (int i = (int)threadIdx.x; i < n; i += CU_THREADS) {
        const float *at = sum + i / d.set * d.n_section * DOT_ROWS + i % d.set;
        int o = d.first * d.set + i;
        float v = 0, up = 0;
        if (o >= m) continue;
        for (int k = 0; k < d.n_section; k++) {
            v += at[k * DOT_ROWS];
            if (a.is_glu) up += at[k * DOT_ROWS + DOT_ROWS / 2];
        }
        if (d.expert < 0)
            output_row(a, d.p.part, d.p.unit)[o] = float_of(0x7fc00000u);
        else if (a.is_glu)
            output_row(a, d.p.part, d.p.unit)[o] = activate(a.act, v, a.param) * up;
        else
            store_sum(a, d.p.part, d.p.unit, o, d.expert, v);
    }
}

/* Loops stay loops, so that there is little code: it comes from memory too. */
template <int T> DEVICE void dot(const cu_product &a, dot_memory<T> &s) {
    typedef dot_memory<T> m;
    dot_sets d = sets_of(a);
    if (a.n_expert) {
        ahead_wait(); /* which rows is known only then */
        d.expert = expert_of(a.ids, d.p.unit, a.n_used, a.n_expert);
        if (d.expert < 0) d.n_task = 0;
    }
    int row = row_of_q(a, d.p.unit), n_row = rows_of_q(a), i = lane() % DOT_LANES;
    dot_x x = {(const four_words *)codes_at(a.q, row, a.n), meta_at(a.q, n_row, row, a.n),
               halves_at(a.q, n_row, row, a.n)};
    /* stages on the way: the one that is copied now, and what comes before it */
    stage_of last = {warp() - CU_ROWS, 0, 0, nullptr}, later = last, now = last;
    float sum = 0;
    UNROLL_BY(1)
    for (int n = 1 - DOT_STAGES, to = 0, at = 1; n < 0 || now.task < d.n_task; n++) {
        if (last.task < d.n_task) stage_on<T>(a, d, &last);
        if (n >= 0) {
            copy_wait<DOT_STAGES - 2>();
            __syncwarp(); /* the stage is there, and nobody reads the one before */
        }
        if (last.task < d.n_task)
            copy_units<T, m::COPIES>(s.w[warp()][to][lane() / DOT_LANES], last.row, last.k,
                                     bytes_at<T>(last.k, m::BYTES, a.n), i, DOT_LANES);
        copy_commit();
        if (n == -1 && !a.n_expert) ahead_wait();
        const uint8_t *slot =
            s.w[warp()][at][lane() / DOT_LANES] + shift_at<T>(shift_of(now.row), now.k);
        int end = n < 0 ? 0 : now.end - now.k < m::SPANS ? now.end - now.k : (int)m::SPANS;
        UNROLL_BY(2)
        for (int k = 0; k < end; k++) {
            int g = (now.k + k) * GROUPS + i;
            float v = 0;
            if (g < a.n / CU_GROUP) v = dot_group<T>(x, slot + k * span_of<T>::BYTES, g);
            UNROLL for (int mask = 1; mask < DOT_LANES; mask *= 2) v +=
                __shfl_xor_sync(0xffffffffu, v, mask);
            sum += v;
        }
        if (n >= 0 && now.k + m::SPANS >= now.end) {
            if (i == 0) s.sum[now.task * DOT_ROWS + lane() / DOT_LANES] = sum;
            sum = 0;
        }
        now = later;
        later = last;
        to = to + 1 < DOT_STAGES ? to + 1 : 0;
        at = at + 1 < DOT_STAGES ? at + 1 : 0;
    }
    if (d.expert < 0) d.n_task = a.n_set * d.n_section; /* all of the block's, for the NaN */
    __syncthreads();
    dot_outputs<T>(a, d, s.sum);
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
                8 * CU_TILE_ROWS + 4 * N,
        ROOM = (48 * 1024 - FIXED) / (int)sizeof(stage),
        STAGES = ROOM < 1   ? 1
                 : ROOM < 3 ? ROOM
                            : 3
    };
    stage at[STAGES];
    typename kept_scales<T>::type scales[GROUPS][CU_TILE_ROWS];
    const uint8_t *from[CU_TILE_ROWS];
    int row[N];
    static_assert(sizeof(stage) >= sizeof(float) * N * CU_TILE_ROWS, "sums");
};

/* Span k of row r of the tile. */
template <int T, int N>
DEVICE const uint8_t *span_in(const tile_memory<T, N> &s, int stage, int r, int k) {
    return s.at[stage].w[r] + shift_at<T>(shift_of(s.from[r]), k);
}

/* Loops over copies are kept as they are: unrolled, their addresses take the registers. */
template <int N>
DEVICE void copy_tokens(const cu_product &a, tile_x<N> &x, const int *q_row, int k) {
    enum { OF_Q = CU_SPAN / UNIT };
    UNROLL_BY(1)
    for (int i = (int)threadIdx.x; i < N * OF_Q; i += CU_THREADS) {
        int t = i / OF_Q, u = i % OF_Q;
        copy_16(x.q[t] + u * UNIT, codes_at(a.q, q_row[t], a.n) + k * CU_SPAN + u * UNIT, UNIT);
    }
    UNROLL_BY(1)
    for (int i = (int)threadIdx.x; i < N * GROUPS; i += CU_THREADS) {
        int t = i / GROUPS, g = i % GROUPS;
        copy_8(&x.meta[g][t], meta_at(a.q, rows_of_q(a), q_row[t], a.n) + k * GROUPS + g);
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
                        const uint32_t *w, int first, int k, int g, float *v) {
    const tile_x<N> &x = s.at[stage].x;
    typename kept_scales<T>::type scales[2];
    UNROLL for (int h = 0; h < 2; h++) scales[h] =
        read_anew(&s.scales[g][warp() * TILE_ROWS + lane() / 4 + 8 * h]);
    const int ZERO = 0x4b400000, j = lane() % 4;
    int c0[4] = {ZERO, ZERO, ZERO, ZERO}, c1[4] = {ZERO, ZERO, ZERO, ZERO};
    two_words b = read_anew((const two_words *)(x.q[first + lane() / 4] + g * CU_GROUP + j * 8));
    if (codes<T>::HALVES) {
        tile_16(c0, w, b.w[0]);
        tile_16(c1, w + 2, b.w[1]);
    } else {
        tile_32(c0, w, b.w);
    }
    two_metas both = read_anew((const two_metas *)&x.meta[g][first + 2 * j]);
    UNROLL for (int i = 0; i < 4; i++) {
        int token = first + 2 * j + i % 2;
        group_meta m = both.m[i % 2];
        float s0 = float_of((uint32_t)c0[i]) - 0x1.8p23f, s1 = 0;
        if (codes<T>::HALVES) s1 = float_of((uint32_t)c1[i]) - 0x1.8p23f;
        uint32_t halves = 0;
        if (codes<T>::HALVES && codes<T>::HAS_MIN)
            halves = halves_at(a.q, rows_of_q(a), s.row[token], a.n)[k * GROUPS + g];
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
    int i = (int)threadIdx.x;
    copy_units<T, COPIES>(s.at[stage].w[i / THREADS_EACH], row, k, bytes_at<T>(k, BYTES, a.n),
                          i % THREADS_EACH, THREADS_EACH);
}

/* Scales of span k, which is there; of groups beyond n they are 0. */
template <int T, int N>
DEVICE void keep_scales(const cu_product &a, tile_memory<T, N> &s, int stage, int k) {
    int r = (int)threadIdx.x % CU_TILE_ROWS;
    const uint8_t *span = span_in<T, N>(s, stage, r, k);
    UNROLL for (int i = 0; i < GROUPS; i += THREADS_EACH) {
        int g = i + (int)threadIdx.x / CU_TILE_ROWS;
        bool is_there = k * GROUPS + g < a.n / CU_GROUP;
        code_scales c =
            is_there ? codes<T>::scales(block_at<T>(span, g), group_in<T>(g)) : code_scales();
        s.scales[g][r] = kept_scales<T>::of(c);
    }
}

/* Adds span k of a warp's rows with all tokens to sum. */
template <int T, int N>
DEVICE void tile_span(const cu_product &a, const tile_memory<T, N> &s, int stage, int k,
                      float (*sum)[4]) {
    enum { HALF = GROUPS / 2 };
    const uint8_t *span[2];
    uint32_t w[GROUPS][4];
    UNROLL for (int h = 0; h < 2; h++) span[h] =
        span_in<T, N>(s, stage, warp() * TILE_ROWS + lane() / 4 + 8 * h, k);
    UNROLL for (int g = 0; g < GROUPS; g++) load_group<T>(span, g, w[g]);
    UNROLL for (int c = 0; c < N / 8; c++) {
        float four[2][4];
        UNROLL for (int h = 0; h < 2; h++) {
            float v[HALF][4];
            UNROLL for (int g = h * HALF; g < (h + 1) * HALF; g++)
                tile_values<T, N>(a, s, stage, w[g], 8 * c, k, g, v[g % HALF]);
            UNROLL for (int i = 0; i < 4; i++) four[h][i] =
                (v[0][i] + v[1][i]) + (v[2][i] + v[3][i]);
        }
        UNROLL for (int i = 0; i < 4; i++) sum[c][i] += four[0][i] + four[1][i];
    }
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
    if (i < CU_TILE_ROWS) s.from[i] = tile_row<T>(a, p, i, u.expert);
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
        UNROLL for (int c = 0; c < N / 8; c++) {
            UNROLL for (int j = 0; j < 4; j++) {
                sum[c][j] += section[c][j];
                section[c][j] = 0;
            }
        }
    }
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

/* Blocks of `many` to a multiprocessor, as registers allow without any in memory: fewer with the
 * types that have most to keep. */
constexpr int many_blocks(int t) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
    if (t == 13 || t == 14) return 3; /* Q5_K, Q6_K */
#endif
    return t == 3 || t == 7 || t == 10 || t == 11 ? 3 : 4; /* Q4_1, Q5_1, Q2_K, Q3_K */
}

#define KERNELS(T)                                                                                 \
    KERNEL_ENTRY(dot_##T, cu_product, 6) {                                                         \
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
