/* SPDX-License-Identifier: MIT
 *
 * top.h - the likeliest tokens of a row of logits, which a device with memory of its own gives
 * instead of the row: a thousand bytes to read per token instead of half a million.
 *
 * Who gets which.  A sampler says whether its pick follows from the likeliest tokens alone
 * (peri_sampler_top); it does when the chain takes the likeliest, or begins with top_k.  A step
 * with such a row, be it of few tokens or of many, runs its plan with TOPK behind it
 * (PERI_PLAN_DECODE_TOP, PERI_PLAN_PREFILL_TOP), which leaves the logits where they are: rows that
 * are wanted whole are read beside the lists, and no others.  The pick is the same to the last bit,
 * because TOPK computes nothing: what a text becomes must not depend on who shares its step.  That
 * is why chains that need the sum over all tokens (top_p first, mirostat, log-probabilities) get
 * the row, and no sum is given beside the list: two devices would add it up in two orders.
 *
 * A session that holds a list where a row is wanted after all - new parameters, say - has its last
 * token computed once more. */
#ifndef PERI_RUN_TOP_H
#define PERI_RUN_TOP_H

#include <stdint.h>

enum { PERI_TOP_TOKENS = 128 }; /* above every usual top_k */

/* As TOPK in op.def orders them. */
typedef struct peri_top {
    int32_t n; /* 0: not there */
    int32_t id[PERI_TOP_TOKENS];
    float logit[PERI_TOP_TOKENS];
} peri_top;

#endif
