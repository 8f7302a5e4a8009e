/* SPDX-License-Identifier: MIT
 *
 * op_case.h - one op on given data, checked against a formula and against itself cut in other ways.
 *
 * check_case runs the case on every level of cpu.isa that this processor has, "reference" first:
 *   - all tokens at once, against expect() within the gate, where the level declares f32
 * activations and sums;
 *   - with two workers: the same bits;
 *   - in runs of 1, 2, 3, 7, 8 and 33 tokens: the same bits. */
#ifndef PERI_TEST_OP_CASE_H
#define PERI_TEST_OP_CASE_H

#include "prog.h"

typedef struct op_case {
    const char *name;
    int32_t n_tok;
    /* Declares p->n[PERI_SYM_T] tokens from t0 on: code, operands, attributes, step. */
    void (*build)(prog *p, const void *user, int32_t t0);
    /* Values of output k for token t, n_out[k] of them. */
    void (*expect)(const void *user, int32_t t, uint32_t k, double *out);
    int64_t n_out[3]; /* elements per token of each output */
    double ulps;      /* gate in units of the last place; 0: NMSE 1e-10, worst row 20 times that */
    const void *user;
    uint32_t exact; /* bit k: output k must be equal bit for bit instead; expect gives i32 as
                       op_case_id */
    /* For levels other than reference: the size whose last place counts where the value itself is
     * smaller.  NULL: none. */
    void (*at_least)(const void *user, int32_t t, double *out);
} op_case;

/* An id as expect() writes it: the number whose f32 bits are the i32. */
double op_case_id(int32_t id);

void check_case(const op_case *c);
/* A device on cpu.isa = isa (NULL: default), with n_worker threads; fails the test if it does not
 * open. */
peri_dev *open_cpu(const char *isa, uint32_t n_worker);
/* Closes it and asserts that it left no memory. */
void close_cpu(peri_dev *d);

#endif
