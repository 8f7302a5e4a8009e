/* SPDX-License-Identifier: MIT
 *
 * plan_int.h - shared by plan.c, which asks and runs, plan_place.c, which decides who runs what,
 * and plan_compile.c, which has ops compiled that run together. */
#ifndef PERI_RUN_PLAN_INT_H
#define PERI_RUN_PLAN_INT_H

#include "run/plan.h"

/* The answers for one op. */
typedef struct peri_answer {
    uint32_t yes; /* bit per device asked that takes it */
    uint8_t want; /* the device that should run it */
    char numerics[28];
    char why[88]; /* of the wanted one, when it declines */
} peri_answer;

/* plan_place.c: the part of the model that op i of the graph belongs to, as an index into the
 * split's parts (0 embed, 1 + 2 layer, 2 + 2 layer experts, last head). */
uint32_t peri_plan_part(const peri_graph *g, uint32_t i, uint32_t n_layer);
/* Ask device d about op i of the program. */
peri_status peri_plan_ask(peri_backend *d, const peri_plan *p, uint32_t i, peri_support *s,
                          peri_error *err);
/* Count a declined op. */
peri_status peri_plan_note_declined(peri_plan *p, const peri_op *o, uint8_t device, uint8_t to,
                                    const char *why, peri_error *err);
/* plan_place.c: fill device and crossing of a plan whose program is final and whose wanted devices
 * have answered. */
peri_status peri_plan_assign(const peri_plan_places *at, const peri_graph *g, peri_plan *p,
                             peri_answer *answer, bool *is_stale, peri_error *err);

/* plan_compile.c: fill stretch of a plan whose devices and crossings are decided, and undo it. */
peri_status peri_plan_compile(const peri_plan_places *at, peri_plan *p, peri_error *err);
void peri_plan_uncompile(peri_plan *p);

#endif
