/* SPDX-License-Identifier: MIT
 *
 * expand.h - blocks of the coded weight types to signed bytes and scales, the one thing such a type
 * needs to run on the integer kernels of every level.  Where linear_unpack.h takes a type apart
 * itself, the plain level still comes here, and the test of equal bits compares the two.
 *
 * Plain C on 64-bit words, compiled once: the result is exact integers, so that there is nothing a
 * level could do differently.  Little endian, as all that reads GGUF in place. */
#ifndef PERI_CPU_EXPAND_H
#define PERI_CPU_EXPAND_H

#include <stdint.h>

#include "linear.h"

/* 256 columns of one row.  span 32: value = d[k / 32] * q[k], or d[k / 16] * q[k] where the type
 * has_two; sc is not set.  span 256: value = d[0] * sc[k / 16] * q[k]. */
typedef struct linear_columns {
    int8_t q[LINEAR_K];
    int8_t sc[16];
    float d[16];
} linear_columns;

/* n_block blocks at p, at most 256 columns. */
void linear_expand_iq1_s(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_iq1_m(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_iq2_xxs(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_iq2_xs(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_iq2_s(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_iq3_xxs(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_iq3_s(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_iq4_nl(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_iq4_xs(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_tq1_0(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_tq2_0(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_mxfp4(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_nvfp4(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_q1_0(const uint8_t *p, int n_block, linear_columns *c);
void linear_expand_q2_0(const uint8_t *p, int n_block, linear_columns *c);

#endif
