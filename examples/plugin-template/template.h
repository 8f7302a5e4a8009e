/* SPDX-License-Identifier: MIT
 *
 * template.h - what the files of the template share. */
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include "perigee/plugin.h"

enum { ROW_MAX = 65536, F32 = 0, F16 = 1, Q8_0 = 8 }; /* elements of a row; numbers of dtype.def */

struct peri_dev { /* yours to fill: queues, compiled kernels, scratch */
    const peri_host *host;
    float *row, *head; /* [ROW_MAX]: a decoded row; a sum */
};

/* One operation with its operands: what they are, where they lie, how large they are in this step.
 */
typedef struct job {
    peri_dev *dev;
    const peri_step *step;
    const void *attr;
    const peri_tensor *t[8]; /* NULL: absent */
    char *at[8];
    int64_t d[8][4];
} job;

/* Row r of an activation or vector; rows of activations may lie apart. */
static inline float *row(const job *j, int k, int64_t r) {
    const int64_t *d = j->d[k], *s = j->t[k]->stride;
    return (float *)(j->at[k] + r / d[2] / d[1] * s[0] + r / d[2] % d[1] * s[1] + r % d[2] * s[2]);
}
static inline int64_t n_row(const job *j, int k) {
    return j->d[k][0] * j->d[k][1] * j->d[k][2];
}

/* ops.c: sum_i W[r][i] x[i], row r of weight k. */
double product(const job *j, int k, int64_t r, const float *x);
/* The operations of op.def.  False for a code that this plugin does not know. */
int run_job(const job *j, uint16_t code);
/* experts.c */
void route(const job *j);
void linear_experts(const job *j);
void expert_sum(const job *j);

#endif
