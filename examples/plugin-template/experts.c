/* SPDX-License-Identifier: MIT
 *
 * experts.c - the operations of mixtures of experts: ROUTE (without groups), LINEAR_EXPERTS,
 * EXPERT_SUM. */
#include <math.h>

#include "template.h"

/* The K largest in falling order, ties to the lower id; p + bias chooses, p is the weight. */
void route(const job *j) {
    const peri_route_attr *a = j->attr;
    float *p = j->dev->row, *rank = j->dev->head;
    for (int64_t t = 0, n = j->d[0][3], n_used = j->d[2][3]; t < n_row(j, 0); t++) {
        float *l = row(j, 0, t), *w = row(j, 3, t), top = l[0];
        int32_t *id = (int32_t *)row(j, 2, t);
        double all = 0, sum = 0;
        for (int64_t i = 0; i < n; i++)
            top = fmaxf(top, l[i]);
        for (int64_t i = 0; i < n; i++)
            all += exp((double)l[i] - (double)top);
        for (int64_t i = 0; i < n; i++) {
            p[i] = a->kind == PERI_ROUTE_SIGMOID   ? (float)(1 / (1 + exp(-(double)l[i])))
                   : a->kind == PERI_ROUTE_SOFTMAX ? (float)(exp((double)(l[i] - top)) / all)
                                                   : l[i];
            rank[i] = p[i] + (j->t[1] ? row(j, 1, 0)[i] : 0);
        }
        for (int64_t k = 0; k < n_used; k++) {
            int32_t best = -1;
            for (int32_t i = 0; i < n; i++)
                if (rank[i] > -INFINITY && (best < 0 || rank[i] > rank[best])) best = i;
            id[k] = best < 0 ? 0 : best;
            rank[id[k]] = -INFINITY;
            w[k] = p[id[k]];
            if (a->kind == PERI_ROUTE_SOFTMAX_CHOSEN) w[k] = expf(w[k] - top);
            sum += (double)w[k];
        }
        for (int64_t k = 0; k < n_used; k++) {
            double by = a->kind == PERI_ROUTE_SOFTMAX_CHOSEN ? sum
                        : a->renorm                          ? fmax(sum, 0x1p-14)
                                                             : 1;
            w[k] = (float)((double)w[k] / by * (double)a->weight_scale);
        }
    }
}

void linear_experts(const job *j) {
    int64_t n_used = j->d[2][3], m = j->d[1][2];
    for (int64_t r = 0; r < n_row(j, 2) * n_used; r++) {
        int64_t e = ((int32_t *)row(j, 2, r / n_used))[r % n_used];
        const float *x = row(j, 0, n_row(j, 0) == n_row(j, 2) ? r / n_used : r);
        for (int64_t o = 0; o < m; o++)
            row(j, 5, r)[o] =
                (float)(product(j, 1, e * m + o, x) * (j->t[4] ? (double)row(j, 4, 0)[e] : 1) +
                        (j->t[3] ? (double)row(j, 3, e)[o] : 0));
    }
}

void expert_sum(const job *j) {
    for (int64_t t = 0, n_used = j->d[1][3]; t < n_row(j, 2); t++)
        for (int64_t i = 0; i < j->d[2][3]; i++) {
            double sum = 0;
            for (int64_t k = 0; k < n_used; k++)
                sum += (double)row(j, 1, t)[k] * (double)row(j, 0, t * n_used + k)[i];
            row(j, 2, t)[i] = (float)sum;
        }
}
