/* SPDX-License-Identifier: MIT
 *
 * check.c - is an op what op.def says (perigee/op_check.h), and within what the kernels and the
 * device take? */
#include <stdio.h>

#include "ocl.h"

/* The types that dequant.clh has. */
static int can_decode(const void *user, uint32_t dtype) {
    const peri_dev *d = user;
    switch (dtype) {
    case OCL_F32:
    case OCL_F16:
    case OCL_BF16:
    case OCL_Q4_0:
    case OCL_Q4_1:
    case OCL_Q5_0:
    case OCL_Q5_1:
    case OCL_Q8_0:
    case OCL_Q8_1:
    case OCL_Q2_K:
    case OCL_Q3_K:
    case OCL_Q4_K:
    case OCL_Q5_K:
    case OCL_Q6_K:
    case OCL_Q8_K:
    case OCL_IQ4_NL:
    case OCL_IQ4_XS:
    case OCL_TQ1_0:
    case OCL_TQ2_0:
    case OCL_MXFP4:
    case OCL_NVFP4:
    case OCL_Q1_0:
    case OCL_Q2_0:
    case OCL_IQ1_S:
    case OCL_IQ1_M:
    case OCL_IQ2_XXS:
    case OCL_IQ2_XS:
    case OCL_IQ2_S:
    case OCL_IQ3_XXS:
    case OCL_IQ3_S:
        return 1;
    case OCL_F64:
        return d->has_doubles;
    }
    return 0;
}

/* kernels-cl/quant.clh: how it divides its types, and act_bytes.  Only processors get bytes, and
 * only with doubles, which make divisions exact. */
ocl_act ocl_act_of(const peri_dev *d, uint32_t dtype, int64_t n) {
    int64_t span, q = (n + 63) / 64 * 64;
    switch (dtype) {
    case OCL_Q8_0:
    case OCL_IQ4_NL:
    case OCL_MXFP4:
        q *= 2;
        span = 32;
        break;
    case OCL_Q4_0:
    case OCL_Q4_1:
    case OCL_Q5_0:
    case OCL_Q5_1:
        span = 32;
        break;
    case OCL_IQ4_XS:
        q *= 2;
        span = 256;
        break;
    case OCL_Q2_K:
    case OCL_Q3_K:
    case OCL_Q4_K:
    case OCL_Q5_K:
    case OCL_Q6_K:
        span = 256;
        break;
    default:
        return (ocl_act){0, 0};
    }
    uint64_t room = (uint64_t)(q + n / span * 4 + n / 8 + 63) / 64 * 64;
    if (d->shape.kind != OCL_VECTOR || !d->has_doubles || room > d->local_bytes)
        return (ocl_act){0, 0};
    return (ocl_act){(int32_t)span, room};
}

static int can_cache(const void *user, uint32_t dtype) {
    (void)user;
    return dtype == OCL_F32 || dtype == OCL_F16 || dtype == OCL_BF16;
}

/* No weight is larger than a buffer can be. */
static int check_sizes(const peri_dev *d, peri_op_check *c) {
    for (uint32_t k = 0; k < c->op->n_in; k++) {
        const peri_tensor *t = peri_operand(c->p, c->op, k);
        if (!t || t->kind != PERI_T_WEIGHT) continue;
        peri_dtype_info type = peri_dtype_of(t->dtype);
        uint64_t bytes = (uint64_t)(t->dim[0] * t->dim[1] * t->dim[2]) *
                         (uint64_t)(t->dim[3] / type.n * type.bytes);
        if (bytes + t->off > d->max_alloc)
            return peri_op_no(c, "a weight of %.1f MiB, the largest buffer has %.1f MiB",
                              (double)bytes / 0x1p20, (double)d->max_alloc / 0x1p20);
    }
    return 1;
}

static int check_limits(peri_op_check *c) {
    int64_t dk = peri_op_extent(c, 'k'), dv = peri_op_extent(c, 'v'), n = peri_op_extent(c, 'e');
    switch (c->op->code) {
    case PERI_OP_ATTN: {
        int64_t group = peri_op_extent(c, 'h') / peri_op_extent(c, 'g');
        if (group <= 64 && dk <= 1024 && dv <= 1024) return 1; /* private memory of a work-item */
        return peri_op_no(c, "groups of %lld heads of %lld and %lld: 64 of 1024 at most",
                          (long long)group, (long long)dk, (long long)dv);
    }
    case PERI_OP_ROUTE:
        return n <= 1024 ? 1 : peri_op_no(c, "%lld experts, 1024 at most", (long long)n);
    case PERI_OP_GATE_UP_GLU:
        if (peri_operand(c->p, c->op, 1)->dtype == peri_operand(c->p, c->op, 2)->dtype) return 1;
        return peri_op_no(c, "gate and up of two types: an op for each");
    }
    return 1;
}

/* Weights of one op must agree on numerics: what is declared holds for all outputs. */
static int check_numerics(const peri_dev *d, peri_op_check *c, char out[28]) {
    uint32_t n = c->op->code == PERI_OP_LINEAR || c->op->code == PERI_OP_LINEAR_EXPERTS ? 1
                 : c->op->code == PERI_OP_GATE_UP_GLU                                   ? 2
                 : c->op->code == PERI_OP_LINEAR_QKV                                    ? 3
                                                                                        : 0;
    int32_t span = 0;
    for (uint32_t k = 1; k <= n; k++) {
        const peri_tensor *w = peri_operand(c->p, c->op, k);
        int32_t of = ocl_act_of(d, w->dtype, w->dim[3]).span;
        if (k > 1 && of != span)
            return peri_op_no(c,
                              "weights of types that round activations otherwise: an op for each");
        span = of;
    }
    if (span)
        snprintf(out, 28, "act=q8/%d acc=i32", (int)span);
    else
        snprintf(out, 28, "act=f32 acc=f32");
    return 1;
}

int ocl_check(const peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
              char numerics[28], char why[88]) {
    const peri_op_rules rules = {.can_decode = can_decode, .can_cache = can_cache, .user = d};
    peri_op_check c = {.why = why};
    return peri_op_check_run(&c, &rules, p, op, b) && check_sizes(d, &c) && check_limits(&c) &&
           check_numerics(d, &c, numerics);
}
