/* SPDX-License-Identifier: MIT
 *
 * ref.h - the reference code: every operation of op.def, scalar and readable, with f32 activations.
 *
 * It is the yardstick for every other kernel, and what runs wherever a level has nothing faster.
 * Each output element is summed in one order fixed by the inner dimensions.  Operands have been
 * validated by cpu_check (check.h). */
#ifndef PERI_CPU_REF_H
#define PERI_CPU_REF_H

#include "kernels.h"

/* Type numbers, from dtype.def. */
enum {
#define PERI_DTYPE(NAME, number, name, elements, bytes) PERI_CPU_##NAME = (number),
#include "perigee/dtype.def"
#undef PERI_DTYPE
};

/* ---- ref_dequant.c, ref_dequant_code.c ---- */

/* Can rows of this type be decoded? */
int ref_can_dequant(uint32_t dtype);
/* Decode n elements (whole blocks) to f32.  src needs no alignment. */
void ref_dequant_row(uint32_t dtype, const void *src, float *dst, int64_t n);
float ref_f16_to_f32(uint16_t h);
/* Round to nearest, ties to even; NaN stays NaN. */
uint16_t ref_f32_to_f16(float f);
uint16_t ref_f32_to_bf16(float f);

/* ---- ref_encode.c ---- */

/* Can keys and values be stored in this type? */
int ref_can_encode(uint32_t dtype);
/* Encode n elements (whole blocks) as op.def KV_APPEND says.  dst needs no alignment. */
void ref_encode_row(uint32_t dtype, const float *x, void *dst, int64_t n);

/* ---- pieces shared by the operations ---- */

/* Row r of operand k: its leading three dimensions are counted through, slowest first. */
char *ref_row(const cpu_job *j, uint32_t k, int64_t r);
static inline float *ref_row_f32(const cpu_job *j, uint32_t k, int64_t r) {
    return (float *)ref_row(j, k, r);
}
/* Number of rows: dim[0] * dim[1] * dim[2]. */
static inline int64_t ref_n_row(const cpu_job *j, uint32_t k) {
    return j->dim[k][0] * j->dim[k][1] * j->dim[k][2];
}
/* fn(arg, i, worker) over n items of `cost` elements each; small jobs stay on the calling thread.
 * The items are grouped, so fn is called with ranges [lo, hi). */
typedef void (*ref_range_fn)(const cpu_job *j, int64_t lo, int64_t hi, void *scratch);
void ref_split(cpu_dev *d, const cpu_job *j, int64_t n, int64_t cost, ref_range_fn fn);

/* sum_i a[i] * b[i]: per 256 elements 16 lanes of f32, lanes and blocks added in f64 in rising
 * order. */
double ref_dot(const float *a, const float *b, int64_t n);
/* f(x) of op.def ACT, evaluated in f64. */
float ref_act(uint32_t act, float param, float x);
/* One row of NORM; w and b may be NULL; y may be x. */
void ref_norm_row(const peri_norm_attr *a, const float *x, const float *w, const float *b, float *y,
                  int64_t n);

/* ---- the operations ---- */

typedef int32_t (*ref_op_fn)(cpu_dev *d, const cpu_job *j, peri_error *e);
/* The reference of an op, NULL for a code this plugin does not know. */
ref_op_fn ref_op(uint16_t code);

int32_t ref_embed(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_linear(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_linear_qkv(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_gate_up_glu(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_linear_experts(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_norm(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_add_norm(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_rope(cpu_dev *d, const cpu_job *j, peri_error *e);
/* ROPE with another way to turn n pairs, `next` elements apart (1 or 2), the second of each `other`
 * behind the first: y0 c - y1 s and y0 s + y1 c, rounded from f64 (in which products are exact). */
typedef void (*ref_turn_fn)(float *y, int64_t n, int64_t next, int64_t other, const float *c,
                            const float *s);
int32_t ref_rope_by(ref_turn_fn by, cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_kv_append(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_attn(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_act_op(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_glu(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_add(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_mul(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_scale(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_route(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_expert_sum(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_rows(cpu_dev *d, const cpu_job *j, peri_error *e);
int32_t ref_topk(cpu_dev *d, const cpu_job *j, peri_error *e);

#endif
