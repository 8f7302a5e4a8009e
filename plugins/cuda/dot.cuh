/* SPDX-License-Identifier: MIT
 *
 * dot.cuh - products of one token, or of one pair of token and expert: part of product.cu, which
 * says what a sum is.
 *
 * A warp takes a section of a row, eight spans, in one pass: four lanes to a span, two groups to a
 * lane.  Rows of one section alone are taken two, four or eight at once where they are that short.
 * So a pass is one run of memory, which its lanes copy 16 bytes each, some passes ahead.  Passes of
 * a block, section by section and in each row by row, are dealt out to its warps in four parts that
 * follow one another: a warp reads its part of x once for many rows.
 *
 * Weights are read once in a step, so they are the first to leave the L2 cache again: a step
 * streams gigabytes through it, and the code of kernels, keys and activations would be gone each
 * time (llama-3.1-8b on an H200: 277 tokens/s become 290).  What counts besides is the number of
 * instructions: at 4.6 TB/s the four schedulers of a multiprocessor have 260 of them for a pass of
 * Q4_K, which has some 150. */
#ifndef PERI_CUDA_DOT_CUH
#define PERI_CUDA_DOT_CUH
#include "product.cuh"

enum { SLOTS = CU_SUM_SPANS, SLOT_LANES = CU_WARP / SLOTS, KEPT = 16 };
static_assert((int)SLOT_LANES * 2 == (int)GROUPS, "two groups to a lane");

/* Passes on their way; values of a warp's spans, of KEPT passes; sums of the block's sections. */
template <int T> struct dot_memory {
    enum {
        BYTES = SLOTS * span_of<T>::BYTES,
        UNITS = (BYTES + 2 * (UNIT - 1)) / UNIT, /* wherever it begins */
        ROOM = 36 * 1024 / (CU_ROWS * UNITS * UNIT),
        STAGES = ROOM > 4 ? 4 : ROOM,
        COPIES = (UNITS + CU_WARP - 1) / CU_WARP
    };
    static_assert((int)STAGES >= 3, "two on their way");
    alignas(16) uint8_t w[CU_ROWS][STAGES][UNITS * UNIT];
    float value[CU_ROWS][KEPT][SLOTS + 1];
    float sum[CU_DOT_SUMS]; /* [matrix of the GLU][row][section] */
    alignas(16) uint8_t x[CU_DOT_ROW + 12 * CU_DOT_ROW / CU_GROUP];
};

/* A block's rows: n from number `first` on, of one matrix, or with a GLU of gate and up; of one
 * token or pair.  A run is a section of all of them; a pass takes `each` of them, 8, 4, 2 or 1. */
struct dot_rows {
    int part, unit, expert, first, n;
    int width, each, n_pass; /* spans of the only section, or SLOTS; passes to a run */
    int bytes;               /* of a row */
};

DEVICE int shift_each(int width) { /* each = 1 << shift */
    return width > 4 ? 0 : width > 2 ? 1 : width > 1 ? 2 : 3;
}

template <int T> DEVICE dot_rows rows_of(const cu_product &a) {
    dot_rows d = {0, 0, 0, 0, 0, SLOTS, 1, 0, (int)row_bytes<T>(a.n)};
    int block = (int)blockIdx.x;
    if (a.n_unit > 1) {
        d.unit = block % a.n_unit;
        block /= a.n_unit;
    }
    if (!a.is_glu)
        d.part =
            (a.n_part > 1 && block >= a.part[1].first) + (a.n_part > 2 && block >= a.part[2].first);
    const cu_matrix &m = a.part[d.part];
    block -= m.first;
    d.first = block * m.each + (block < m.more ? block : m.more);
    d.n = m.each + (block < m.more);
    if (spans_of(a.n) < SLOTS) d.width = spans_of(a.n);
    int shift = shift_each(d.width);
    d.each = 1 << shift;
    d.n_pass = (d.n + d.each - 1) >> shift;
    return d;
}

/* Of a run: its section, and its matrix of the GLU's two. */
DEVICE int section_of(const cu_product &a, int run) {
    return a.is_glu ? run / 2 : run;
}
DEVICE int half_of(const cu_product &a, int run) {
    return a.is_glu ? run % 2 : 0;
}

/* Passes of a run from one on: where that begins, how many are left, and how many bytes from there
 * to the end of the block's rows. */
struct dot_run {
    const uint8_t *at;
    int n, left, bytes; /* bytes: of a pass */
};

template <int T> DEVICE dot_run run_at(const cu_product &a, const dot_rows &d, int run, int pass) {
    int section = section_of(a, run);
    int off = pass * d.each * d.bytes + section * dot_memory<T>::BYTES;
    int rest = d.each * d.bytes - section * dot_memory<T>::BYTES;
    dot_run r = {bytes_of_row<T>(a, {d.part + half_of(a, run), d.first}, d.expert) + off,
                 d.n_pass - pass, d.n * d.bytes - off,
                 rest < dot_memory<T>::BYTES ? rest : (int)dot_memory<T>::BYTES};
    return r;
}

/* The pass that is next, to `to`; gives how far behind a multiple of 16 it begins. */
template <int T> DEVICE uint32_t copy_pass(const dot_rows &d, dot_run *r, shared_at to) {
    int shift = shift_of(r->at), end = shift + (r->left < r->bytes ? r->left : r->bytes);
    const uint8_t *from = r->at - shift + lane() * UNIT;
    UNROLL for (int i = 0; i < dot_memory<T>::COPIES; i++) {
        int at = lane() * UNIT + i * CU_WARP * UNIT;
        if (at < end) copy_16_once(to + (uint32_t)at, from + i * CU_WARP * UNIT);
    }
    r->at += d.each * d.bytes;
    r->left -= d.each * d.bytes;
    r->n--;
    return (uint32_t)shift;
}

/* ---- values ---- */

/* The lane's two groups of a span: those that share bytes of W, where any do. */
template <int T> DEVICE int group_of_lane(int h) {
    int j = lane() % SLOT_LANES;
    return T == 14 ? j / 2 * 4 + j % 2 + 2 * h : 2 * j + h;
}
/* ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7)) of the groups of four lanes. */
template <int T> DEVICE float sum_groups(const float *v) {
    float sum = v[0] + v[1];
    if (T == 14) {
        bool is_odd = lane() & 1;
        sum = (is_odd ? v[1] : v[0]) + __shfl_xor_sync(0xffffffffu, is_odd ? v[0] : v[1], 1);
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    return sum + __shfl_xor_sync(0xffffffffu, sum, 2);
}

/* x as bytes: of all rows as other kernels have left them, or, short ones, of this row alone, made
 * by the block itself.  All threads come here. */
struct x_codes {
    uint8_t *q;
    int row, n_row;
};
template <int T>
DEVICE x_codes codes_of_x(const cu_product &a, const dot_rows &d, dot_memory<T> &s) {
    int row = row_of_q(a, d.unit);
    if (a.q) return {global<uint8_t>(a.q), row, rows_of_q(a)};
    const float *x = floats_in(at_row_of(a.x, row, a.has_slots ? a.n_used : a.n_tok));
    UNROLL_BY(1)
    for (int i = (int)threadIdx.x; i - (int)threadIdx.x < padded(a.n) / 4; i += 2 * CU_THREADS) {
        float v[2][4];
        UNROLL for (int k = 0; k < 2; k++) load_four(x, i + k * CU_THREADS, a.n, v[k]);
        store_codes<2>(s.x, 1, 0, i, CU_THREADS, a.n, v);
    }
    __syncthreads();
    return {s.x, 0, 1};
}

/* What a lane has of x: its two groups of a run's span. */
struct dot_x {
    four_words q[2][2];
    group_meta meta[2];
    uint32_t halves[2];
};
template <int T> DEVICE void load_x(const x_codes &c, int n, int k, dot_x *x) {
    const four_words *q = (const four_words *)codes_at(c.q, c.row, n);
    if (k >= spans_of(n)) k = spans_of(n) - 1;
    UNROLL for (int h = 0; h < 2; h++) {
        int g = k * GROUPS + group_of_lane<T>(h);
        x->q[h][0] = q[2 * g];
        x->q[h][1] = q[2 * g + 1];
        x->meta[h] = meta_at(c.q, c.n_row, c.row, n)[g];
        if (codes<T>::HALVES) x->halves[h] = halves_at(c.q, c.n_row, c.row, n)[g];
    }
}

/* Both groups of lane j of a span: words, those of the second times HIGH, and scales. */
template <int T> struct code_pair {
    enum { HIGH = 1 };
    DEVICE void words(const uint8_t *span, int, uint32_t (*w)[8]) {
        UNROLL for (int h = 0; h < 2; h++) {
            int g = group_of_lane<T>(h);
            code_words<T>::of(block_at<T>(span, g), group_in<T>(g), w[h]);
        }
    }
    DEVICE void scales(const uint8_t *span, int, code_scales *c) {
        UNROLL for (int h = 0; h < 2; h++) {
            int g = group_of_lane<T>(h);
            c[h] = codes<T>::scales(block_at<T>(span, g), group_in<T>(g));
        }
    }
};
struct pair_of_k {
    DEVICE void scales(const uint8_t *span, int j, code_scales *c) {
        four_scales f = four_scales_at(span, j >= 2);
        UNROLL for (int h = 0; h < 2; h++) c[h] = scales_in(f, j % 2 * 2 + h);
    }
};
template <> struct code_pair<12> : pair_of_k {
    enum { HIGH = 16 };
    DEVICE void words(const uint8_t *span, int j, uint32_t (*w)[8]) {
        words_by_two<8>(span + 16 + 32 * j, w[0]);
        UNROLL for (int i = 0; i < 8; i++) {
            w[1][i] = w[0][i] & 0xf0f0f0f0u;
            w[0][i] &= 0x0f0f0f0fu;
        }
    }
};
template <> struct code_pair<13> : pair_of_k {
    enum { HIGH = 1 };
    DEVICE void words(const uint8_t *span, int j, uint32_t (*w)[8]) {
        uint32_t fifth[8];
        words_by_two<8>(span + 48 + 32 * j, w[0]);
        words_by_two<8>(span + 16, fifth);
        UNROLL for (int i = 0; i < 8; i++) {
            uint32_t f = fifth[i] >> 2 * j;
            w[1][i] = (w[0][i] >> 4 & 0x0f0f0f0fu) | (f << 3 & 0x10101010u);
            w[0][i] = (w[0][i] & 0x0f0f0f0fu) | (f << 4 & 0x10101010u);
        }
    }
};
template <> struct code_pair<14> {
    enum { HIGH = 1 };
    DEVICE void words(const uint8_t *span, int j, uint32_t (*w)[8]) {
        uint32_t top[8];
        words_anywhere<8>(span + j * 32, w[0]);
        words_anywhere<8>(span + 128 + j / 2 * 32, top);
        UNROLL for (int i = 0; i < 8; i++) {
            uint32_t t = top[i] >> j % 2 * 2;
            w[1][i] = (w[0][i] >> 4 & 0x0f0f0f0fu) | (t & 0x30303030u);
            w[0][i] = (w[0][i] & 0x0f0f0f0fu) | (t << 4 & 0x30303030u);
        }
    }
    DEVICE void scales(const uint8_t *span, int j, code_scales *c) {
        const uint8_t *s = span + 192 + j / 2 * 8 + j % 2 * 2;
        float d = half_at(span + 208);
        c[0] = {d, 0, *(const uint16_t *)s};
        c[1] = {d, 0, *(const uint16_t *)(s + 4)};
    }
};

/* The value of the lane's span of a row, of which it has n_group groups; four lanes have it. */
template <int T> DEVICE float dot_span(const dot_x &x, const uint8_t *span, int n_group) {
    uint32_t w[2][8];
    code_scales c[2];
    float v[2];
    code_pair<T>::words(span, lane() % SLOT_LANES, w);
    code_pair<T>::scales(span, lane() % SLOT_LANES, c);
    UNROLL for (int h = 0; h < 2; h++) {
        int dot[2] = {0, 0};
        UNROLL for (int i = 0; i < 8; i++) {
            int half = codes<T>::HALVES ? i / 4 : 0, at = place_of_word(i);
            uint32_t q = x.q[h][at / 4].w[at % 4];
            dot[half] = h && code_pair<T>::HIGH > 1 ? dot_4_high(w[h][i], q, dot[half])
                                                    : dot_4(w[h][i], q, dot[half]);
        }
        if (codes<T>::HALVES) {
            halves_sum s = sum_halves<T>(c[h], dot[0], dot[1], x.halves[h]);
            v[h] = group_value<T>(c[h], s.i, s.j, x.meta[h].dx);
        } else {
            float sum = (float)dot[0] * (h ? 1.0f / code_pair<T>::HIGH : 1.0f);
            v[h] = group_value<T>(c[h], sum, x.meta[h].sum, x.meta[h].dx);
        }
        if ((int)weights<T>::N < (int)CU_SPAN && h >= n_group) v[h] = 0;
    }
    return sum_groups<T>(v);
}

/* ---- sums ---- */

/* Of n passes of a run from pass `first` on, which are in s.value; a lane takes a pass. */
template <int T>
DEVICE void keep_sums(const cu_product &a, const dot_rows &d, int run, int first, int n,
                      dot_memory<T> &s) {
    int part = half_of(a, run), section = section_of(a, run);
    int n_section = sections_of(a.n), w = spans_of(a.n) - section * SLOTS;
    __syncwarp();
    for (int j = 0; j < d.each && lane() < n; j++) {
        int row = (first + lane()) * d.each + j;
        float sum = 0;
        UNROLL for (int i = 0; i < SLOTS; i++) {
            if (i < w) sum += s.value[warp()][lane()][j * d.width + i];
        }
        if (row < d.n) s.sum[(part * d.n + row) * n_section + section] = sum;
    }
    __syncwarp();
}

/* Outputs of the block, from the sections' sums. */
DEVICE void dot_outputs(const cu_product &a, const dot_rows &d, const float *sum) {
    int n_section = sections_of(a.n);
    for (int i = (int)threadIdx.x; i < d.n; i += CU_THREADS) {
        const float *at = sum + i * n_section;
        float v = 0, up = 0;
        for (int k = 0; k < n_section && d.expert >= 0; k++) {
            v += at[k];
            if (a.is_glu) up += at[d.n * n_section + k];
        }
        if (d.expert < 0)
            output_row(a, d.part, d.unit)[d.first + i] = float_of(0x7fc00000u);
        else if (a.is_glu)
            output_row(a, d.part, d.unit)[d.first + i] = activate(a.act, v, a.param) * up;
        else
            store_sum(a, d.part, d.unit, d.first + i, d.expert, v);
    }
}

/* ---- a block ---- */

/* Where the lane's span lies in a pass, and which of x it is. */
struct slot_of {
    int off, k, n_group;
};
template <int T> DEVICE slot_of slot_in(const cu_product &a, const dot_rows &d, int run) {
    int slot = lane() / SLOT_LANES, w = d.width, section = section_of(a, run);
    int r = w > 4 ? 0 : w == 3 ? slot / 3 : slot >> (3 - shift_each(w));
    int k = slot - r * w, g = (section * SLOTS + k) * GROUPS + group_of_lane<T>(0);
    slot_of s = {r * d.bytes + k * span_of<T>::BYTES, section * SLOTS + k, a.n / CU_GROUP - g};
    if (r >= d.each || k >= w) s.off = 0; /* of no row: its value is not looked at */
    return s;
}

/* Loops stay loops, so that there is little code: it comes from memory too. */
template <int T> DEVICE void dot(const cu_product &a, dot_memory<T> &s) {
    enum { AHEAD = dot_memory<T>::STAGES - 1, STAGE = sizeof s.w[0][0] };
    dot_rows d = rows_of<T>(a);
    bool is_early = !a.n_expert || a.has_ids;
    if (!is_early) ahead_wait(); /* which rows is known only then */
    if (a.n_expert) d.expert = expert_of(a.ids, d.unit, a.n_used, a.n_expert);
    int all = sections_of(a.n) * d.n_pass << (a.is_glu != 0), run = 0;
    int pass = all * warp() / CU_ROWS, left = all * (warp() + 1) / CU_ROWS - pass;
    if (d.expert < 0) left = 0;
    for (; pass >= d.n_pass; run++)
        pass -= d.n_pass;
    dot_run next = run_at<T>(a, d, run, pass);
    int next_run = run, to = 0, at = 0, n_kept = 0, kept = pass, ahead = left;
    uint32_t shifts = 0; /* of the passes on their way, four bits each */
    shared_at w = shared_of(s.w[warp()][0]);
    auto copy_next = [&]() {
        shifts <<= 4;
        if (ahead-- > 0) {
            if (next.n == 0) next = run_at<T>(a, d, ++next_run, 0);
            shifts |= copy_pass<T>(d, &next, w + (uint32_t)(to * STAGE));
        }
        copy_commit();
        to = to < AHEAD ? to + 1 : 0;
    };
    UNROLL_BY(1) for (int n = 0; n < AHEAD; n++) copy_next();
    if (is_early) ahead_wait();
    x_codes c = codes_of_x<T>(a, d, s);
    dot_x x = {};
    slot_of slot = {};
    UNROLL_BY(1) for (int n = 0; n < left; n++) {
        if (n == 0 || pass == 0) {
            slot = slot_in<T>(a, d, run);
            load_x<T>(c, a.n, slot.k, &x);
        }
        copy_wait<AHEAD - 1>();
        __syncwarp(); /* the pass is there, and nobody reads the one before */
        copy_next();
        const uint8_t *span = s.w[warp()][at] + (shifts >> 4 * AHEAD & 15) + slot.off;
        float v = dot_span<T>(x, span, slot.n_group);
        if (lane() % SLOT_LANES == 0) s.value[warp()][n_kept][lane() / SLOT_LANES] = v;
        at = at < AHEAD ? at + 1 : 0;
        n_kept++;
        pass++;
        if (n_kept < KEPT && pass < d.n_pass && n + 1 < left) continue;
        keep_sums<T>(a, d, run, kept, n_kept, s);
        if (pass == d.n_pass) {
            pass = 0;
            run++;
        }
        kept = pass;
        n_kept = 0;
    }
    ahead_go();
    __syncthreads();
    dot_outputs(a, d, s.sum);
}

#endif
