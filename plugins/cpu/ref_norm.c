/* SPDX-License-Identifier: MIT
 *
 * ref_norm.c - NORM and ADD_NORM.  Sums run in f64 over rising elements; each output is rounded
 * once. */
#include <math.h>

#include "ref.h"

void ref_norm_row(const peri_norm_attr *a, const float *x, const float *w, const float *b, float *y,
                  int64_t n) {
    double mean = 0, sum = 0, factor;
    if (a->kind == PERI_NORM_LAYER) {
        for (int64_t i = 0; i < n; i++)
            mean += (double)x[i];
        mean /= (double)n;
    }
    for (int64_t i = 0; i < n; i++)
        sum += ((double)x[i] - mean) * ((double)x[i] - mean);
    if (a->kind == PERI_NORM_L2)
        factor = 1.0 / fmax(sqrt(sum), (double)a->eps);
    else
        factor = 1.0 / sqrt(sum / (double)n + (double)a->eps);
    for (int64_t i = 0; i < n; i++) {
        double v = ((double)x[i] - mean) * factor;
        if (w) v *= (double)w[i];
        if (b && a->kind == PERI_NORM_LAYER) v += (double)b[i];
        y[i] = (float)v;
    }
}

/* Weights of row r: one vector, or one per head when there are [H][n] of them. */
static const float *vector_row(const cpu_job *j, uint32_t k, int64_t r) {
    if (!j->ptr[k]) return NULL;
    return (const float *)j->ptr[k] + r % j->dim[k][2] * j->dim[k][3];
}

static void norm_rows(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    (void)scratch;
    for (int64_t r = lo; r < hi; r++)
        ref_norm_row(&j->attr.norm, ref_row_f32(j, 0, r), vector_row(j, 1, r), vector_row(j, 2, r),
                     ref_row_f32(j, 3, r), j->dim[0][3]);
}

int32_t ref_norm(cpu_dev *d, const cpu_job *j, peri_error *e) {
    (void)e;
    ref_split(d, j, ref_n_row(j, 0), j->dim[0][3] * 2, norm_rows);
    return PERI_OK;
}

static void add_norm_rows(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    (void)scratch;
    for (int64_t r = lo; r < hi; r++) {
        const float *a = ref_row_f32(j, 0, r), *b = ref_row_f32(j, 1, r);
        float *sum = ref_row_f32(j, 4, r);
        for (int64_t i = 0; i < j->dim[0][3]; i++)
            sum[i] = a[i] + b[i];
        ref_norm_row(&j->attr.norm, sum, j->ptr[2], j->ptr[3], ref_row_f32(j, 5, r), j->dim[0][3]);
    }
}

int32_t ref_add_norm(cpu_dev *d, const cpu_job *j, peri_error *e) {
    (void)e;
    ref_split(d, j, ref_n_row(j, 0), j->dim[0][3] * 3, add_norm_rows);
    return PERI_OK;
}
