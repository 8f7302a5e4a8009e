/* SPDX-License-Identifier: MIT
 *
 * ref_moe.c - ROUTE and EXPERT_SUM.
 *
 * Probabilities are f64, so that two different logits do not become equal by rounding; ties are
 * those of equal logits and go to the lower id.  Selection always yields K different experts,
 * whatever the logits (NaN too). */
#include <math.h>

#include "ref.h"

enum { L = 0, BIAS = 1, IDS = 2, WEIGHT = 3 }; /* operands of ROUTE */

/* What selection works on, one token's: f64 [E] each, is_open f64-sized flags to keep one scratch
 * array. */
typedef struct route {
    const peri_route_attr *a;
    int64_t n_expert, n_used;
    double *p, *rank; /* probability; p + bias */
    double *is_open;  /* may still be chosen */
} route;

/* softmax over n values in place. */
static void softmax(double *p, int64_t n) {
    double top = p[0], sum = 0;
    for (int64_t i = 1; i < n; i++)
        if (p[i] > top) top = p[i];
    for (int64_t i = 0; i < n; i++)
        sum += p[i] = exp(p[i] - top);
    for (int64_t i = 0; i < n; i++)
        p[i] /= sum;
}

/* The open index with the largest value, the lowest of equals; -1 when none is open. */
static int64_t best_open(const double *value, const double *is_open, int64_t lo, int64_t hi) {
    int64_t best = -1;
    for (int64_t i = lo; i < hi; i++)
        if (is_open[i] != 0 && (best < 0 || value[i] > value[best])) best = i;
    return best;
}

/* Sum of the two largest ranks of a group (of the one, when it has one expert). */
static double group_score(const route *r, int64_t lo, int64_t hi) {
    int64_t first = best_open(r->rank, r->is_open, lo, hi);
    double score = r->rank[first];
    r->is_open[first] = 0;
    int64_t second = best_open(r->rank, r->is_open, lo, hi);
    r->is_open[first] = 1;
    return second < 0 ? score : score + r->rank[second];
}

/* Close the experts of all but the n_group_used best groups.  score, keep: f64 [n_group]. */
static void close_groups(const route *r, double *score, double *keep) {
    int64_t n_group = r->a->n_group, size = r->n_expert / n_group;
    for (int64_t g = 0; g < n_group; g++) {
        score[g] = group_score(r, g * size, (g + 1) * size);
        keep[g] = 1; /* open for choosing */
    }
    for (uint32_t k = 0; k < r->a->n_group_used; k++)
        keep[best_open(score, keep, 0, n_group)] = 0; /* chosen */
    for (int64_t i = 0; i < r->n_expert; i++)
        r->is_open[i] = keep[i / size] == 0;
}

static void probabilities(const route *r, const float *l, const float *bias) {
    for (int64_t i = 0; i < r->n_expert; i++) {
        double x = (double)l[i];
        r->p[i] = r->a->kind == PERI_ROUTE_SIGMOID ? 1 / (1 + exp(-x)) : x;
        r->is_open[i] = 1;
    }
    if (r->a->kind == PERI_ROUTE_SOFTMAX) softmax(r->p, r->n_expert);
    for (int64_t i = 0; i < r->n_expert; i++)
        r->rank[i] = r->p[i] + (bias ? (double)bias[i] : 0);
}

static void weights(const route *r, const int32_t *ids, double *chosen, float *w) {
    double sum = 0;
    for (int64_t k = 0; k < r->n_used; k++)
        chosen[k] = r->p[ids[k]];
    if (r->a->kind == PERI_ROUTE_SOFTMAX_CHOSEN) softmax(chosen, r->n_used);
    for (int64_t k = 0; k < r->n_used; k++)
        sum += chosen[k];
    double factor = (double)r->a->weight_scale;
    if (r->a->renorm) factor /= sum < 0x1p-14 ? 0x1p-14 : sum; /* a NaN stays one */
    for (int64_t k = 0; k < r->n_used; k++)
        w[k] = (float)(chosen[k] * factor);
}

static void route_tokens(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    int64_t n = j->dim[L][3];
    route r = {&j->attr.route, n, j->dim[IDS][3], scratch, NULL, NULL};
    r.rank = r.p + n;
    r.is_open = r.rank + n;
    double *free_area = r.is_open + n; /* f64 [2 E]: groups, then the chosen */
    for (int64_t t = lo; t < hi; t++) {
        int32_t *ids = (int32_t *)ref_row(j, IDS, t);
        probabilities(&r, ref_row_f32(j, L, t), j->ptr[BIAS]);
        if (r.a->n_group > 1) close_groups(&r, free_area, free_area + n);
        for (int64_t k = 0; k < r.n_used; k++) {
            ids[k] = (int32_t)best_open(r.rank, r.is_open, 0, n);
            r.is_open[ids[k]] = 0;
        }
        weights(&r, ids, free_area, ref_row_f32(j, WEIGHT, t));
    }
}

int32_t ref_route(cpu_dev *d, const cpu_job *j, peri_error *e) {
    int32_t rc = cpu_reserve(d, (size_t)j->dim[L][3] * 5 * sizeof(double), 0, e);
    if (rc == PERI_OK)
        ref_split(d, j, j->dim[L][2], j->dim[L][3] * (j->dim[IDS][3] + 16), route_tokens);
    return rc;
}

/* ---- EXPERT_SUM: x [T][K][n], w [T][K], y [T][n] ---- */

/* Columns whose sums are kept while the experts go by, so that each row is read along its memory.
 */
enum { SUM_COLUMNS = 64 };

/* y[n], n <= SUM_COLUMNS: columns from `first` on of token t. */
static void sum_columns(const cpu_job *j, int64_t t, int64_t first, int64_t n, float *y) {
    int64_t n_used = j->dim[0][2];
    const float *w = ref_row_f32(j, 1, t);
    double sum[SUM_COLUMNS] = {0};
    for (int64_t k = 0; k < n_used; k++) {
        const float *x = (const float *)ref_row_f32(j, 0, t * n_used + k) + first;
        for (int64_t i = 0; i < n; i++)
            sum[i] += (double)w[k] * (double)x[i];
    }
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)sum[i];
}

static void sum_tokens(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    int64_t width = j->dim[0][3];
    (void)scratch;
    for (int64_t t = lo; t < hi; t++) {
        float *y = ref_row_f32(j, 2, t);
        int64_t i = 0;
        for (; i + SUM_COLUMNS <= width; i += SUM_COLUMNS)
            sum_columns(j, t, i, SUM_COLUMNS, y + i); /* a constant count is vector code */
        if (i < width) sum_columns(j, t, i, width - i, y + i);
    }
}

int32_t ref_expert_sum(cpu_dev *d, const cpu_job *j, peri_error *e) {
    (void)e;
    ref_split(d, j, j->dim[2][2], j->dim[0][2] * j->dim[0][3], sum_tokens);
    return PERI_OK;
}
