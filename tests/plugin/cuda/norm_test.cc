/* SPDX-License-Identifier: MIT
 *
 * norm_test.cc - kernels add_norm, sum_norm, norm and norm_short: rows of every length that is a
 * way of its own, that begin at multiples of 16 bytes or do not.
 *
 * The sum is that of the rows, the norm near one in doubles, and all ways give the same bits; bytes
 * are those of the norm that was written; what lies between rows stays. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <string>
#include <vector>

#include "cuda_shim.h"
#include "quant.cuh"

enum { RMS, LAYER, L2, N_KIND };
enum { N_ROW = 3, GAP = 8 };
static const float EPS = 1e-5f, POISON = -77.25f;

static int n_check, n_failed;
static uint64_t state = 1;

static float number() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(state >> 40) / (1 << 23) - 1);
}

/* As kernel quantise of product.cu. */
KERNEL(test_quantise, cu_quantise) {
    int r = (int)blockIdx.x / a.n_chunk;
    int i = (int)blockIdx.x % a.n_chunk * CU_THREADS + (int)threadIdx.x;
    float v[4];
    load_four(floats_in(a.x.at + (uint64_t)(r * a.x.stride[2])), i, a.n, v);
    store_codes(global<uint8_t>(a.q), a.n_row, r, i, a.n, v);
}

static uint64_t address(const void *p) {
    return (uint64_t)(uintptr_t)p;
}

/* n_row rows of n numbers and a gap behind each, the first `off` numbers behind a multiple of 16
 * bytes. */
struct rows {
    int n, stride, n_row;
    std::vector<float> room;
    size_t first;

    rows(int n_, int off, int n_row_ = N_ROW)
        : n(n_), stride((n_ + 3) / 4 * 4 + GAP + off), n_row(n_row_) {
        room.assign((size_t)(n_row * stride) + 8, POISON);
        first = (16 - address(room.data()) % 16) % 16 / 4 + (size_t)off;
    }
    rows(const rows &) = delete;
    float *at(int r) {
        return room.data() + first + r * stride;
    }
    cu_rows as_rows() {
        return {address(at(0)), {0, 0, 4 * stride}};
    }
    void fill() {
        for (int r = 0; r < n_row; r++)
            for (int i = 0; i < n; i++)
                at(r)[i] = number();
    }
    void copy(rows &from) {
        for (int r = 0; r < n_row; r++)
            memcpy(at(r), from.at(r), (size_t)n * sizeof(float));
    }
    bool is_same(rows &other) {
        for (int r = 0; r < n_row; r++)
            if (memcmp(at(r), other.at(r), (size_t)n * sizeof(float)) != 0) return false;
        return true;
    }
    /* Is what lies before, between and behind the rows as it was? */
    bool is_fenced() {
        for (size_t i = 0; i < room.size(); i++) {
            size_t behind = i - first; /* huge before the first row */
            bool is_row = i >= first && behind / (size_t)stride < (size_t)n_row &&
                          behind % (size_t)stride < (size_t)n;
            if (!is_row && room[i] != POISON) return false;
        }
        return true;
    }
};

struct norm_case {
    int n, kind, off;
    bool has_vectors;
};

static void check(bool is_good, const norm_case &c, const char *what) {
    n_check++;
    if (is_good) return;
    n_failed++;
    fprintf(stderr, "norm_test: rows of %d, kind %d, %d off%s: %s\n", c.n, c.kind, c.off,
            c.has_vectors ? ", w and b" : "", what);
}

static void launch(const char *name, const void *args, int n_block) {
    const shim_kernel *k = shim_find(name);
    if (!k) {
        fprintf(stderr, "norm_test: no kernel %s\n", name);
        exit(1);
    }
    shim_launch(k, args, (unsigned)n_block);
}

static bool is_near(const norm_case &c, rows &x, rows &y, const float *w, const float *b) {
    double error = 0, size = 0;
    for (int r = 0; r < N_ROW; r++) {
        double mean = 0, sum = 0;
        for (int i = 0; i < c.n && c.kind == LAYER; i++)
            mean += x.at(r)[i] / (double)c.n;
        for (int i = 0; i < c.n; i++)
            sum += (x.at(r)[i] - mean) * (x.at(r)[i] - mean);
        double length = c.kind == L2 ? fmax(sqrt(sum), EPS) : sqrt(sum / c.n + EPS);
        for (int i = 0; i < c.n; i++) {
            double v = (x.at(r)[i] - mean) / length;
            if (c.has_vectors) v = v * w[i] + (c.kind == LAYER ? b[i] : 0);
            error += (y.at(r)[i] - v) * (y.at(r)[i] - v);
            size += v * v;
        }
    }
    return error <= 1e-12 * size + 1e-30;
}

typedef std::vector<uint32_t> words;

static words room_for(int n) {
    return words((size_t)(N_ROW * (padded(n) / 4 + padded(n) / CU_GROUP * 3)), 0xa5a5a5a5u);
}

static words quantised(rows &y) {
    words q = room_for(y.n);
    cu_quantise a = {};
    a.q = address(q.data());
    a.x = y.as_rows();
    a.n = y.n;
    a.n_row = N_ROW;
    a.n_chunk = (padded(y.n) / 4 + CU_THREADS - 1) / CU_THREADS;
    launch("peri_test_quantise", &a, N_ROW * a.n_chunk);
    return q;
}

/* What is normed, and what is to come of it; w and b of all rows are their first. */
struct told {
    rows x, other, w, b, sum, y;
    explicit told(int n) : x(n, 0), other(n, 0), w(n, 0), b(n, 0), sum(n, 0), y(n, 0) {
        x.fill();
        other.fill();
        w.fill();
        b.fill();
        for (int r = 0; r < N_ROW; r++)
            for (int i = 0; i < n; i++)
                sum.at(r)[i] = x.at(r)[i] + other.at(r)[i];
    }
};

/* Of one way. */
struct way {
    rows x, other, w, b, y;
    words q;
    way(const norm_case &c, told &t)
        : x(c.n, c.off), other(c.n, c.off), w(c.n, c.off), b(c.n, c.off), y(c.n, c.off) {
        other.copy(t.other);
        w.copy(t.w);
        b.copy(t.b);
        if (c.n % CU_GROUP == 0 && c.n <= CU_NORM_ROW) q = room_for(c.n);
    }
    void check_bytes(const norm_case &c, rows &from, const char *what) {
        if (!q.empty()) check(q == quantised(from), c, what);
    }
};

static void norm_alone(const norm_case &c, const char *name, way *m, rows &to) {
    cu_norm a = {};
    a.w = c.has_vectors ? address(m->w.at(0)) : 0;
    a.bias = c.has_vectors ? address(m->b.at(0)) : 0;
    a.q = m->q.empty() ? 0 : address(m->q.data());
    a.x = m->x.as_rows();
    a.y = to.as_rows();
    a.d1 = a.n_vector = 1;
    a.d2 = a.n_row = N_ROW;
    a.n = c.n;
    a.kind = c.kind;
    a.eps = EPS;
    launch(name, &a, N_ROW);
}

static void try_norm(const norm_case &c, told &t, const char *name) {
    way m(c, t);
    m.x.copy(t.sum);
    norm_alone(c, name, &m, m.y);
    check(m.x.is_same(t.sum), c, "norm wrote its input");
    norm_alone(c, name, &m, m.x); /* in place */
    check(m.y.is_same(t.y) && m.x.is_same(t.y), c, name);
    check(m.x.is_fenced() && m.y.is_fenced(), c, "norm wrote between rows");
    m.check_bytes(c, t.y, "norm: other bytes");
}

static cu_add_norm add_norm_of(const norm_case &c, way *m) {
    cu_add_norm a = {};
    a.w = c.has_vectors ? address(m->w.at(0)) : 0;
    a.bias = c.has_vectors ? address(m->b.at(0)) : 0;
    a.q = m->q.empty() ? 0 : address(m->q.data());
    a.a = a.sum = m->x.as_rows();
    a.b = m->other.as_rows();
    a.y = m->y.as_rows();
    a.n = c.n;
    a.kind = c.kind;
    a.n_row = N_ROW;
    a.eps = EPS;
    return a;
}

static void try_add_norm(const norm_case &c, told &t) {
    way m(c, t);
    m.x.copy(t.x);
    cu_add_norm a = add_norm_of(c, &m);
    launch("peri_add_norm", &a, N_ROW);
    check(m.x.is_same(t.sum), c, "another sum");
    check(m.y.is_same(t.y), c, "add_norm: another norm");
    check(m.x.is_fenced() && m.y.is_fenced(), c, "add_norm wrote between rows");
    m.check_bytes(c, t.y, "add_norm: other bytes");
}

/* Against add_norm of what expert_sum gives. */
static void try_sum_norm(const norm_case &c, told &t, int n_used) {
    way m(c, t), apart(c, t);
    rows experts(c.n, c.off, N_ROW * n_used), weights(n_used, c.off);
    experts.fill();
    weights.fill();
    m.x.copy(t.x);
    apart.x.copy(t.x);
    for (int r = 0; r < N_ROW; r++)
        for (int i = 0; i < c.n; i++) {
            float sum = 0;
            for (int j = 0; j < n_used; j++)
                sum = fmaf(weights.at(r)[j], experts.at(r * n_used + j)[i], sum);
            apart.other.at(r)[i] = sum;
        }
    cu_add_norm add = add_norm_of(c, &apart);
    launch("peri_add_norm", &add, N_ROW);
    cu_sum_norm a = {};
    a.norm = add_norm_of(c, &m);
    a.norm.b = {};
    a.sum.x = experts.as_rows();
    a.sum.x.stride[1] = n_used * a.sum.x.stride[2];
    a.sum.w = weights.as_rows();
    a.sum.n_used = n_used;
    launch("peri_sum_norm", &a, N_ROW);
    check(m.x.is_same(apart.x) && m.y.is_same(apart.y), c, "sum_norm: other bits");
    check(m.x.is_fenced() && m.y.is_fenced(), c, "sum_norm wrote between rows");
    check(m.q == apart.q, c, "sum_norm: other bytes");
}

static void try_length(int n, int kind, bool has_vectors) {
    told t(n);
    norm_case first = {n, kind, 0, has_vectors};
    way m(first, t);
    m.x.copy(t.sum);
    norm_alone(first, "peri_norm", &m, t.y);
    check(is_near(first, t.sum, t.y, t.w.at(0), t.b.at(0)), first, "far from the norm in doubles");
    for (int off : {0, 1}) {
        norm_case c = {n, kind, off, has_vectors};
        try_norm(c, t, "peri_norm");
        if (n <= CU_NORM_SHORT) try_norm(c, t, "peri_norm_short");
        try_add_norm(c, t);
        for (int n_used : {1, 8, 11})
            if (kind == RMS) try_sum_norm(c, t, n_used);
    }
}

int main() {
    for (int n : {1, 31, 64, 256, 512, 516, 2048, 2080, 4096, 4100, 8192, 8224, 16384})
        for (int kind = RMS; kind < N_KIND; kind++)
            for (bool has_vectors : {false, true})
                try_length(n, kind, has_vectors);
    printf("%d checks, %d failed\n", n_check, n_failed);
    return n_failed > 0;
}
