/* SPDX-License-Identifier: MIT
 *
 * vec_ops.c - the row and elementwise ops of the fast levels, cut into ranges of rows: NORM,
 * ADD_NORM, ACT, GLU, ADD, MUL, SCALE; and ROPE, which is ref_rope.c's.  Small ones run on the
 * calling thread. */
#include <string.h>

#include "fast.h"

enum { RANGE_ELEMENTS = 8192 }; /* elements of a range, at least: about 1.3 us */

typedef struct vec_job vec_job;
typedef void (*rows_fn)(const vec_job *v, int64_t lo, int64_t hi);
struct vec_job {
    const cpu_job *j;
    const vec_isa *isa;
    rows_fn fn;
    int64_t n_row, per_range;
};

static void run_range(void *arg, uint32_t i, uint32_t worker) {
    const vec_job *v = arg;
    int64_t lo = (int64_t)i * v->per_range, hi = lo + v->per_range;
    (void)worker;
    v->fn(v, lo, hi < v->n_row ? hi : v->n_row);
}

/* Row r of an operand that is a whole tensor or one row for all. */
static const float *row_or_one(const cpu_job *j, uint32_t k, int64_t r) {
    return ref_n_row(j, k) == 1 ? j->ptr[k] : ref_row_f32(j, k, r);
}

/* Weights of row r of NORM: one vector, or one per head. */
static const float *weights_row(const cpu_job *j, uint32_t k, int64_t r) {
    if (!j->ptr[k]) return NULL;
    return (const float *)j->ptr[k] + r % j->dim[k][2] * j->dim[k][3];
}

static void norm_rows(const vec_job *v, int64_t lo, int64_t hi) {
    const cpu_job *j = v->j;
    for (int64_t r = lo; r < hi; r++)
        v->isa->norm(&j->attr.norm, ref_row_f32(j, 0, r), weights_row(j, 1, r),
                     weights_row(j, 2, r), ref_row_f32(j, 3, r), j->dim[0][3]);
}

static void add_norm_rows(const vec_job *v, int64_t lo, int64_t hi) {
    const cpu_job *j = v->j;
    for (int64_t r = lo; r < hi; r++) {
        float *sum = ref_row_f32(j, 4, r);
        v->isa->add(ref_row_f32(j, 0, r), ref_row_f32(j, 1, r), sum, j->dim[0][3]);
        v->isa->norm(&j->attr.norm, sum, j->ptr[2], j->ptr[3], ref_row_f32(j, 5, r), j->dim[0][3]);
    }
}

static void act_rows(const vec_job *v, int64_t lo, int64_t hi) {
    const cpu_job *j = v->j;
    for (int64_t r = lo; r < hi; r++)
        v->isa->act(j->attr.act.act, j->attr.act.param, ref_row_f32(j, 0, r), NULL,
                    ref_row_f32(j, 1, r), j->dim[0][3]);
}

static void glu_rows(const vec_job *v, int64_t lo, int64_t hi) {
    const cpu_job *j = v->j;
    for (int64_t r = lo; r < hi; r++)
        v->isa->act(j->attr.act.act, j->attr.act.param, ref_row_f32(j, 0, r), ref_row_f32(j, 1, r),
                    ref_row_f32(j, 2, r), j->dim[0][3]);
}

static void add_rows(const vec_job *v, int64_t lo, int64_t hi) {
    const cpu_job *j = v->j;
    for (int64_t r = lo; r < hi; r++)
        v->isa->add(ref_row_f32(j, 0, r), row_or_one(j, 1, r), ref_row_f32(j, 2, r), j->dim[0][3]);
}

static void mul_rows(const vec_job *v, int64_t lo, int64_t hi) {
    const cpu_job *j = v->j;
    int is_scalar = j->dim[1][3] == 1 && j->dim[0][3] != 1;
    for (int64_t r = lo; r < hi; r++) {
        const float *x = ref_row_f32(j, 0, r);
        float *y = ref_row_f32(j, 2, r);
        if (is_scalar)
            v->isa->scale(x, *(const float *)j->ptr[1], y, j->dim[0][3]);
        else
            v->isa->mul(x, row_or_one(j, 1, r), y, j->dim[0][3]);
    }
}

static void scale_rows(const vec_job *v, int64_t lo, int64_t hi) {
    const cpu_job *j = v->j;
    for (int64_t r = lo; r < hi; r++)
        v->isa->scale(ref_row_f32(j, 0, r), j->attr.scale.scale, ref_row_f32(j, 1, r),
                      j->dim[0][3]);
}

/* The function of an op; cost: work per element, in additions. */
static rows_fn rows_of(uint16_t code, int64_t *cost) {
    *cost = 1;
    switch (code) {
    case PERI_OP_NORM:
        *cost = 2;
        return norm_rows;
    case PERI_OP_ADD_NORM:
        *cost = 3;
        return add_norm_rows;
    case PERI_OP_ACT:
        *cost = 4;
        return act_rows;
    case PERI_OP_GLU:
        *cost = 5;
        return glu_rows;
    case PERI_OP_ADD:
        return add_rows;
    case PERI_OP_MUL:
        return mul_rows;
    case PERI_OP_SCALE:
        return scale_rows;
    }
    return NULL;
}

int vec_has_act(const peri_program *p, const peri_op *op) {
    switch (peri_op_attr_get(p, op).act.act) {
    case PERI_ACT_GELU_ERF:
    case PERI_ACT_SOFTPLUS:
        return 0;
    }
    return 1;
}

int vec_supports(const peri_program *p, const peri_op *op, char numerics[28]) {
    int64_t cost;
    if (op->code != PERI_OP_ROPE && !rows_of(op->code, &cost)) return 0;
    if ((op->code == PERI_OP_ACT || op->code == PERI_OP_GLU) && !vec_has_act(p, op)) return 0;
    snprintf(numerics, 28, "act=f32 acc=f32");
    return 1;
}

int32_t vec_run(cpu_dev *d, const cpu_isa *isa, const cpu_job *j, peri_error *e) {
    int64_t cost;
    vec_job v = {
        .j = j, .isa = isa->vec, .fn = rows_of(j->op->code, &cost), .n_row = ref_n_row(j, 0)};
    if (j->op->code == PERI_OP_ROPE) return ref_rope_by(isa->vec->turn, d, j, e);
    v.per_range = 1 + RANGE_ELEMENTS / (cost * j->dim[0][3] + 1);
    cpu_parallel(d, (uint32_t)((v.n_row + v.per_range - 1) / v.per_range), run_range, &v);
    return PERI_OK;
}
