/* SPDX-License-Identifier: MIT
 *
 * check.c - is an op what op.def says (perigee/op_check.h), and within what the kernels take? */
#include "cu.h"

/* The types that weights.cuh has. */
static int can_decode(const void *user, uint32_t dtype) {
    (void)user;
    switch (dtype) {
    case CU_F32:
    case CU_F16:
    case CU_BF16:
    case CU_Q4_0:
    case CU_Q4_1:
    case CU_Q5_0:
    case CU_Q5_1:
    case CU_Q8_0:
    case CU_Q8_1:
    case CU_Q2_K:
    case CU_Q3_K:
    case CU_Q4_K:
    case CU_Q5_K:
    case CU_Q6_K:
    case CU_Q8_K:
    case CU_IQ4_NL:
    case CU_IQ4_XS:
    case CU_TQ1_0:
    case CU_TQ2_0:
    case CU_MXFP4:
    case CU_NVFP4:
    case CU_Q1_0:
    case CU_Q2_0:
    case CU_IQ1_S:
    case CU_IQ1_M:
    case CU_IQ2_XXS:
    case CU_IQ2_XS:
    case CU_IQ2_S:
    case CU_IQ3_XXS:
    case CU_IQ3_S:
    case CU_F64:
        return 1;
    }
    return 0;
}

/* The types that cache.cuh has. */
static int can_cache(const void *user, uint32_t dtype) {
    (void)user;
    return dtype == CU_F32 || dtype == CU_F16 || dtype == CU_BF16 || dtype == CU_Q8_0 ||
           dtype == CU_Q4_0;
}

static int check_topk(peri_op_check *c) {
    int64_t k = peri_op_extent(c, 'k'), n = peri_op_extent(c, 'v');
    if (k > CU_TOPK)
        return peri_op_no(c, "%lld of %lld elements, %d at most", (long long)k, (long long)n,
                          CU_TOPK);
    if (cu_topk_bytes(n, k) <= CU_TOPK_ROOM) return 1;
    return peri_op_no(c, "%lld of %lld elements: no room for lists of so many", (long long)k,
                      (long long)n);
}

static int check_limits(peri_op_check *c) {
    int64_t dk = peri_op_extent(c, 'k'), dv = peri_op_extent(c, 'v'), n = peri_op_extent(c, 'e');
    switch (c->op->code) {
    case PERI_OP_ATTN:
        if (dk <= CU_HEAD && dv <= CU_HEAD) return 1; /* they lie in a block's shared memory */
        return peri_op_no(c, "heads of %lld and %lld: %d at most", (long long)dk, (long long)dv,
                          CU_HEAD);
    case PERI_OP_ROUTE:
        if (n <= CU_EXPERTS) return 1;
        return peri_op_no(c, "%lld experts, %d at most", (long long)n, CU_EXPERTS);
    case PERI_OP_TOPK:
        return check_topk(c);
    case PERI_OP_GATE_UP_GLU:
        if (peri_operand(c->p, c->op, 1)->dtype == peri_operand(c->p, c->op, 2)->dtype) return 1;
        return peri_op_no(c, "gate and up of two types: an op for each");
    }
    return 1;
}

int cu_check(const peri_program *p, uint32_t op, const peri_bucket *b, char why[88]) {
    static const peri_op_rules rules = {
        .can_decode = can_decode, .can_cache = can_cache, .pool_align = 16};
    peri_op_check c = {.why = why}; /* keys are read 16 bytes at a time */
    return peri_op_check_run(&c, &rules, p, op, b) && check_limits(&c);
}
