/* SPDX-License-Identifier: MIT
 *
 * check.h - is an op what op.def says, so that run_op may assume it? */
#ifndef PERI_CPU_CHECK_H
#define PERI_CPU_CHECK_H

#include "kernels.h"

/* 1, or 0 with the reason, which names the type, operand or attribute.  Checked: operand count and
 * presence, kinds, dtypes, shapes against each other for the whole bucket, strides, alignment,
 * attributes and their ranges. */
int cpu_check(const peri_program *p, uint32_t op, const peri_bucket *b, char why[88]);

#endif
