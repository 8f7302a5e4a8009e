/* SPDX-License-Identifier: MIT
 *
 * bench.h - what kit_bench.c (what is measured, and for how long) and kit_bench_case.c (one
 * operation on its operands, run again and again) share. */
#ifndef PERI_CHECK_BENCH_H
#define PERI_CHECK_BENCH_H

#include "check/kit.h"

/* Bytes that the weights of a case come from, in copies: more than the caches of most processors
 * hold, so that a weight is read from memory. */
enum { BENCH_REGION_BYTES = 256 << 20 };

typedef struct bench_case bench_case;

/* s->n_tok is the largest number of tokens; of one sequence, the first at position P.  region:
 * BENCH_REGION_BYTES that bench_fill has filled for this type.  NULL with *e. */
bench_case *bench_case_new(kit_plugin *p, const kit_shape *s, uint32_t dtype, unsigned char *region,
                           peri_error *e);
void bench_case_free(bench_case *c); /* accepts NULL */
int32_t bench_case_ask(bench_case *c, peri_support *out, peri_error *e);
/* The number of tokens from now on, 1 .. n_tok. */
void bench_case_set_tokens(bench_case *c, int32_t n_tok);
/* Run n times, each time on other weights, and wait for the last; seconds, or negative with *e. */
double bench_case_run(bench_case *c, uint32_t n, peri_error *e);
/* Of one run: bytes that have to be read and written, each once; multiplications. */
double bench_case_bytes(bench_case *c);
double bench_case_macs(bench_case *c);
int32_t bench_case_tokens(const bench_case *c);
const char *bench_case_name(const bench_case *c); /* "T=1 w[2048x4096]" */
/* Copying within the device's memory: bytes per second read and written, 0 when that fails. */
double bench_copy_speed(bench_case *c);

/* Random blocks of a type all over the region. */
void bench_fill(uint32_t dtype, unsigned char *region);
double bench_now(void);

#endif
