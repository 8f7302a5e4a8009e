/* SPDX-License-Identifier: MIT
 *
 * ref_elementwise.c - ACT, GLU, ADD, MUL, SCALE, ROWS, and how rows are walked and divided. */
#include <math.h>
#include <string.h>

#include "ref.h"

char *ref_row(const cpu_job *j, uint32_t k, int64_t r) {
    const int64_t *dim = j->dim[k], *stride = j->t[k]->stride;
    int64_t i2 = r % dim[2], i1 = r / dim[2] % dim[1], i0 = r / dim[2] / dim[1];
    return (char *)j->ptr[k] + i0 * stride[0] + i1 * stride[1] + i2 * stride[2];
}

/* ---- dividing rows among the workers ---- */

enum { RANGE_ELEMENTS = 16384 }; /* a job below this is not worth a wake-up */

typedef struct range_job {
    cpu_dev *d;
    const cpu_job *j;
    ref_range_fn fn;
    int64_t n, per_range;
} range_job;

static void run_range(void *arg, uint32_t i, uint32_t worker) {
    const range_job *r = arg;
    int64_t lo = (int64_t)i * r->per_range;
    int64_t hi = lo + r->per_range < r->n ? lo + r->per_range : r->n;
    r->fn(r->j, lo, hi, cpu_scratch(r->d, worker));
}

void ref_split(cpu_dev *d, const cpu_job *j, int64_t n, int64_t cost, ref_range_fn fn) {
    range_job r = {d, j, fn, n, 1 + RANGE_ELEMENTS / (cost + 1)};
    cpu_parallel(d, (uint32_t)((n + r.per_range - 1) / r.per_range), run_range, &r);
}

/* ---- ACT and GLU ---- */

float ref_act(uint32_t act, float param, float value) {
    double x = (double)value, c = (double)param;
    switch (act) {
    case PERI_ACT_SILU:
        return (float)(x / (1 + exp(-x)));
    case PERI_ACT_GELU:
        /* (1 + tanh u) / 2 = 1 / (1 + e^-2u), without the cancellation for negative u */
        return (float)(x / (1 + exp(-2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x))));
    case PERI_ACT_GELU_ERF:
        return (float)(0.5 * x * erfc(-x * 0.70710678118654752440));
    case PERI_ACT_GELU_QUICK:
        return (float)(x / (1 + exp(-1.702 * x)));
    case PERI_ACT_RELU:
        return value < 0 ? 0 : value; /* a NaN stays one */
    case PERI_ACT_RELU2:
        return value < 0 ? 0 : value * value;
    case PERI_ACT_SIGMOID:
        return (float)(1 / (1 + exp(-x)));
    case PERI_ACT_TANH:
        return (float)tanh(x);
    case PERI_ACT_SOFTPLUS:
        return x > 20 ? value : (float)log1p(exp(x));
    case PERI_ACT_SOFTCAP:
        return (float)(c * tanh(x / c));
    }
    return NAN; /* not reached: cpu_check knows the kinds */
}

static void act_rows(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    (void)scratch;
    for (int64_t r = lo; r < hi; r++) {
        const float *x = ref_row_f32(j, 0, r);
        float *y = ref_row_f32(j, 1, r);
        for (int64_t i = 0; i < j->dim[0][3]; i++)
            y[i] = ref_act(j->attr.act.act, j->attr.act.param, x[i]);
    }
}

int32_t ref_act_op(cpu_dev *d, const cpu_job *j, peri_error *e) {
    (void)e;
    ref_split(d, j, ref_n_row(j, 0), j->dim[0][3] * 16, act_rows);
    return PERI_OK;
}

static void glu_rows(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    (void)scratch;
    for (int64_t r = lo; r < hi; r++) {
        const float *gate = ref_row_f32(j, 0, r), *up = ref_row_f32(j, 1, r);
        float *y = ref_row_f32(j, 2, r);
        for (int64_t i = 0; i < j->dim[0][3]; i++)
            y[i] = ref_act(j->attr.act.act, j->attr.act.param, gate[i]) * up[i];
    }
}

int32_t ref_glu(cpu_dev *d, const cpu_job *j, peri_error *e) {
    (void)e;
    ref_split(d, j, ref_n_row(j, 0), j->dim[0][3] * 16, glu_rows);
    return PERI_OK;
}

/* ---- ADD, MUL, SCALE ---- */

/* Row r of b: its own row, or the one row there is. */
static const float *other_row(const cpu_job *j, int64_t r) {
    return ref_n_row(j, 1) == 1 ? j->ptr[1] : ref_row_f32(j, 1, r);
}

static void add_rows(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    (void)scratch;
    for (int64_t r = lo; r < hi; r++) {
        const float *a = ref_row_f32(j, 0, r), *b = other_row(j, r);
        float *y = ref_row_f32(j, 2, r);
        for (int64_t i = 0; i < j->dim[0][3]; i++)
            y[i] = a[i] + b[i];
    }
}

int32_t ref_add(cpu_dev *d, const cpu_job *j, peri_error *e) {
    (void)e;
    ref_split(d, j, ref_n_row(j, 0), j->dim[0][3], add_rows);
    return PERI_OK;
}

static void mul_rows(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    int64_t is_vector = j->dim[1][3] == j->dim[0][3]; /* else one number */
    (void)scratch;
    for (int64_t r = lo; r < hi; r++) {
        const float *a = ref_row_f32(j, 0, r), *b = other_row(j, r);
        float *y = ref_row_f32(j, 2, r);
        for (int64_t i = 0; i < j->dim[0][3]; i++)
            y[i] = a[i] * b[i * is_vector];
    }
}

int32_t ref_mul(cpu_dev *d, const cpu_job *j, peri_error *e) {
    (void)e;
    ref_split(d, j, ref_n_row(j, 0), j->dim[0][3], mul_rows);
    return PERI_OK;
}

static void scale_rows(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    (void)scratch;
    for (int64_t r = lo; r < hi; r++) {
        const float *x = ref_row_f32(j, 0, r);
        float *y = ref_row_f32(j, 1, r);
        for (int64_t i = 0; i < j->dim[0][3]; i++)
            y[i] = j->attr.scale.scale * x[i];
    }
}

int32_t ref_scale(cpu_dev *d, const cpu_job *j, peri_error *e) {
    (void)e;
    ref_split(d, j, ref_n_row(j, 0), j->dim[0][3], scale_rows);
    return PERI_OK;
}

/* ---- ROWS ---- */

static void copy_rows(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    const int32_t *row = peri_step_array(j->step, j->step->out_row);
    (void)scratch;
    for (int64_t r = lo; r < hi; r++)
        memcpy(ref_row(j, 1, r), ref_row(j, 0, row[r]), (size_t)j->dim[0][3] * sizeof(float));
}

int32_t ref_rows(cpu_dev *d, const cpu_job *j, peri_error *e) {
    const int32_t *row = peri_step_array(j->step, j->step->out_row);
    for (int64_t r = 0; r < j->dim[1][2]; r++)
        if (row[r] < 0 || row[r] >= j->dim[0][2])
            return peri_plugin_fail(e, PERI_E_RANGE, "ROWS: row %d of %lld wanted", (int)row[r],
                                    (long long)j->dim[0][2]);
    ref_split(d, j, j->dim[1][2], j->dim[0][3], copy_rows);
    return PERI_OK;
}
