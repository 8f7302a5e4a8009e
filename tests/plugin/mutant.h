/* SPDX-License-Identifier: MIT
 *
 * mutant.h - what the files of the plugin `mutant` share: one call of run_op, for the bugs to
 * spoil. */
#ifndef PERI_TEST_MUTANT_H
#define PERI_TEST_MUTANT_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "perigee/plugin.h"

enum { F32 = 0, F16 = 1, Q5_1 = 7, Q8_0 = 8, BF16 = 30 };

extern const peri_host *host;
extern peri_plugin base; /* the sound one */
int has(const char *name);

typedef struct call {
    peri_dev *d;
    const peri_program *p;
    uint32_t op;
    const peri_op *o;
    const peri_bind *m;
    const peri_step *s;
} call;

static inline const peri_tensor *tensor(const call *c, uint32_t k) {
    return peri_operand(c->p, c->o, k);
}
static inline int64_t extent(const call *c, uint32_t k, int i) {
    return peri_dim(tensor(c, k), i, c->s->n);
}
static inline int64_t n_row(const call *c, uint32_t k) {
    return extent(c, k, 0) * extent(c, k, 1) * extent(c, k, 2);
}
static inline float *row(const call *c, uint32_t k, int64_t r) {
    const peri_tensor *t = tensor(c, k);
    int64_t n1 = extent(c, k, 1), n2 = extent(c, k, 2);
    return (float *)((char *)peri_ptr(c->m, t) + r / n2 / n1 * t->stride[0] +
                     r / n2 % n1 * t->stride[1] + r % n2 * t->stride[2]);
}
static inline int is_op(const call *c, uint16_t code) {
    return c->o->code == code;
}
static inline int is_linear(const call *c, uint16_t dtype) {
    return is_op(c, PERI_OP_LINEAR) && tensor(c, 1)->dtype == dtype;
}

/* mutant_more.c.  1: the bug has run in place of the base, with *status. */
int run_instead(const call *c, int32_t *status, peri_error *e);
void spoil_more(const call *c); /* after the base has run */
void answer_more(uint16_t code, const peri_bucket *b, peri_support *out);
int32_t open_more(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e);
void change_memory(peri_plugin *table); /* buf_* */
/* mutant_odd.c.  1: the bug has run, with *status. */
int run_odd(const call *c, int32_t *status, peri_error *e);
void change_compiled(peri_plugin *table);

#endif
