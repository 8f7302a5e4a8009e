/* SPDX-License-Identifier: MIT
 *
 * sampler.h - from logits to a token: top_k, top_p, min_p, temperature, draw. */
#ifndef PERI_RUN_SAMPLER_H
#define PERI_RUN_SAMPLER_H

#include "perigee/types.h"

typedef struct peri_sampler {
    uint64_t seed, stream;
    float temp;         /* <= 0: greedy */
    float top_p, min_p; /* 0 = off; top_p >= 1 = off */
    int32_t top_k;      /* <= 0: off */
} peri_sampler;

typedef struct peri_candidate {
    float logit;
    int32_t id;
} peri_candidate;

/* Choose a token from logits[n_vocab] for the given position.  scratch[n_vocab] is the caller's.
 * Candidates are ordered by falling logit, equal ones by rising id.  A NaN logit counts as minus
 * infinity; PERI_E_OTHER when no logit is a number. */
peri_status peri_sampler_pick(const peri_sampler *s, const float *logits, int32_t n_vocab,
                              uint32_t position, peri_candidate *scratch, int32_t *id,
                              peri_error *err);

#endif
