/* SPDX-License-Identifier: MIT
 *
 * route_test.cc - the kernel of ROUTE against plain loops in f64: which experts, exactly, where
 * logits are equal or differ in the last bits of a float only, so that keys differ in their lower
 * halves; and their weights.  Numbers of experts below and beyond a thread each, and for every size
 * of a lane's share; groups; and for what logits alone decide 0 by -0 and what is no number. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "args.h"
#include "cuda_shim.h"

struct route_case {
    int n, n_used, kind, renorm; /* kind: PERI_ROUTE_* */
    bool has_bias;
    float odd; /* 0: none; one logit of each token, for -0 one of 0 behind it, too */
    int n_group, n_group_used;
};
static const route_case cases[] = {
    {5, 5, 0, 1, false, 0, 1, 1},          {100, 8, 1, 1, true, 0, 1, 1},
    {128, 8, 0, 1, false, 0, 1, 1},        {128, 8, 2, 0, false, 0, 1, 1},
    {128, 40, 2, 1, true, 0, 1, 1},        {129, 8, 0, 0, false, 0, 1, 1},
    {200, 6, 1, 1, false, 0, 1, 1},        {256, 8, 2, 1, false, 0, 1, 1},
    {384, 6, 1, 0, true, 0, 1, 1},         {500, 40, 0, 1, false, 0, 1, 1},
    {512, 10, 2, 0, true, 0, 1, 1},        {1000, 33, 2, 0, true, 0, 1, 1},
    {1024, 4, 0, 1, false, 0, 1, 1},       {5, 5, 0, 1, false, -0.0f, 1, 1},
    {5, 5, 2, 0, false, -0.0f, 1, 1},      {5, 5, 0, 0, false, -0.0f, 1, 1},
    {128, 8, 0, 1, false, -3.5f, 1, 1},    {128, 128, 0, 1, false, -INFINITY, 1, 1},
    {128, 8, 0, 1, false, INFINITY, 1, 1}, {128, 8, 0, 1, false, NAN, 1, 1},
    {500, 40, 0, 1, false, NAN, 1, 1},     {128, 8, 0, 1, false, 0, 8, 3},
    {128, 8, 2, 0, false, 0, 16, 1},       {256, 8, 1, 1, true, 0, 8, 4},
};
enum { N_TOK = 9 };

static uint32_t state = 2463534242u;
static int pick(int n) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return (int)(state % (uint32_t)n);
}

/* Of one token: p, and what is chosen by, in the order of the experts chosen. */
struct answer {
    std::vector<double> p, rank, w;
    std::vector<int32_t> ids;
};

/* Which experts are of the groups with the largest sums of their two best. */
static std::vector<bool> taken_before(const route_case &c, const std::vector<double> &rank) {
    int size = c.n / c.n_group;
    std::vector<double> score;
    std::vector<bool> is_taken((size_t)c.n, true);
    for (int g = 0; g < c.n_group; g++) {
        double best = -INFINITY, second = -INFINITY;
        for (int i = g * size; i < (g + 1) * size; i++) {
            double v = rank[(size_t)i];
            second = fmax(second, fmin(best, v));
            best = fmax(best, v);
        }
        score.push_back(best + second);
    }
    for (int g = 0; g < c.n_group; g++) {
        int n_better = 0;
        for (int i = 0; i < c.n_group; i++)
            n_better += score[(size_t)i] > score[(size_t)g] ||
                        (score[(size_t)i] == score[(size_t)g] && i < g);
        for (int i = g * size; i < (g + 1) * size && n_better < c.n_group_used; i++)
            is_taken[(size_t)i] = false;
    }
    return is_taken;
}

static answer route(const route_case &c, const float *l, const float *bias) {
    answer r;
    double top = -INFINITY, sum = 0, all = 0;
    for (int i = 0; i < c.n; i++)
        top = fmax(top, (double)l[i]);
    for (int i = 0; i < c.n; i++) {
        double x = l[i];
        r.p.push_back(c.kind == 0 ? exp(x - top) : c.kind == 1 ? 1 / (1 + exp(-x)) : x);
        sum += r.p.back();
    }
    for (int i = 0; i < c.n; i++) {
        if (c.kind == 0) r.p[(size_t)i] /= sum;
        r.rank.push_back(r.p[(size_t)i] + (bias ? (double)bias[i] : 0));
    }
    std::vector<bool> is_taken =
        c.n_group > 1 ? taken_before(c, r.rank) : std::vector<bool>((size_t)c.n);
    for (int k = 0; k < c.n_used; k++) {
        int best = -1;
        for (int i = 0; i < c.n; i++)
            if (!is_taken[(size_t)i] && (best < 0 || r.rank[(size_t)i] > r.rank[(size_t)best]))
                best = i;
        is_taken[(size_t)best] = true;
        r.ids.push_back(best);
        r.w.push_back(c.kind == 2 ? exp(r.p[(size_t)best] - top) : r.p[(size_t)best]);
        all += r.w.back();
    }
    for (double &w : r.w)
        w *= 2.5 / (c.renorm || c.kind == 2 ? all : 1);
    return r;
}

static int n_failed;
static void try_case(const route_case &c) {
    std::vector<float> l, bias, w((size_t)(N_TOK * c.n_used));
    std::vector<int32_t> ids((size_t)(N_TOK * c.n_used));
    for (int i = 0; i < N_TOK * c.n; i++)
        l.push_back(shim_bits<float>(0x3f800000u + (uint32_t)pick(i < c.n ? 7 : 6 * c.n)));
    for (int t = 0; t < N_TOK && shim_bits<uint32_t>(c.odd); t++) {
        float *at = &l[(size_t)(t * c.n + t % (c.n - 1))];
        at[0] = c.odd;
        if (c.odd == 0) at[1] = 0;
    }
    for (int i = 0; i < c.n && c.has_bias; i++)
        bias.push_back((float)pick(3) * 0x1p-22f);
    cu_route a = cu_route();
    a.bias = (uint64_t)(uintptr_t)bias.data();
    a.l = {(uint64_t)(uintptr_t)l.data(), {0, 0, 4 * c.n}};
    a.ids = {(uint64_t)(uintptr_t)ids.data(), {0, 0, 4 * c.n_used}};
    a.w = {(uint64_t)(uintptr_t)w.data(), {0, 0, 4 * c.n_used}};
    a.n = c.n;
    a.n_used = c.n_used;
    a.kind = c.kind;
    a.renorm = c.renorm;
    a.n_group = c.n_group;
    a.n_group_used = c.n_group_used;
    a.weight_scale = 2.5f;
    shim_launch(shim_find("peri_route"), &a, N_TOK, false);
    for (int t = 0; t < N_TOK; t++) {
        answer r = route(c, &l[(size_t)(t * c.n)], c.has_bias ? bias.data() : nullptr);
        for (int k = 0; k < c.n_used; k++) {
            size_t at = (size_t)(t * c.n_used + k);
            double expected = r.w[(size_t)k];
            bool is_right =
                isnan(expected) ? isnan(w[at]) : fabs(w[at] - expected) <= 1e-6 * expected;
            if (ids[at] == r.ids[(size_t)k] && is_right) continue;
            printf("FAILED: %d experts of %d, kind %d, token %d, choice %d: found %d by %.9g, "
                   "expected %d by %.9g\n",
                   c.n_used, c.n, c.kind, t, k, ids[at], (double)w[at], r.ids[(size_t)k], expected);
            n_failed++;
            return;
        }
    }
}

int main() {
    for (const route_case &c : cases)
        try_case(c);
    printf("%d cases, %d failed\n", (int)(sizeof cases / sizeof *cases), n_failed);
    return n_failed > 0;
}
