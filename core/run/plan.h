/* SPDX-License-Identifier: MIT
 *
 * plan.h - a program that one device has agreed to run for every shape of a bucket. */
#ifndef PERI_RUN_PLAN_H
#define PERI_RUN_PLAN_H

#include <stdbool.h>

#include "graph/graph.h"
#include "plugin/registry.h"

typedef struct peri_plan {
    peri_bucket bucket;
    peri_program *program;
    uint32_t logits;      /* tensor of the result */
    char (*numerics)[28]; /* [n_ops] what the device declared */
    /* Fused ops the device declined, for `perigee explain`: op name and its reason. */
    struct peri_plan_note {
        uint16_t code;
        uint32_t count;
        char why[88];
    } note[8];
    uint32_t n_note;
} peri_plan;

/* Ask the device for each op of the graph at its highest level over the whole bucket; lower what it
 * declines and ask again.  A declined level-0 op makes the plan impossible: PERI_E_UNSUPPORTED
 * naming op, layer and the device's reason. g is consumed (lowered in place).  Free with
 * peri_plan_free. */
peri_status peri_plan_new(peri_backend *d, peri_graph *g, uint32_t logits,
                          const peri_bucket *bucket, peri_plan **out, peri_error *err);
void peri_plan_free(peri_plan *p); /* accepts NULL */
/* Run every op.  The error names the op and layer. */
peri_status peri_plan_run(const peri_plan *p, peri_backend *d, const peri_bind *bind,
                          const peri_step *step, peri_error *err);
/* Does the bucket hold a step of these sizes? */
bool peri_plan_fits(const peri_bucket *b, int32_t n_tok, int32_t n_seq, int32_t n_row);

#endif
