/* SPDX-License-Identifier: MIT
 *
 * sampler.h - from logits to a token: top_k, top_p, min_p, temperature, draw. */
#ifndef PERI_RUN_SAMPLER_H
#define PERI_RUN_SAMPLER_H

#include "base/reader.h"
#include "base/text.h"
#include "model/tokenizer.h"
#include "perigee/types.h"

/* Parameters as plain data; 0 = off everywhere. */
typedef struct peri_sampling {
    uint64_t seed, stream;
    float temp; /* <= 0: greedy */
    float top_p, min_p;
    int32_t top_k;
} peri_sampling;

typedef struct peri_sampler_vocab {
    int32_t n_vocab, n_ctx;
    const peri_tokenizer *tokenizer; /* may be NULL */
} peri_sampler_vocab;

typedef struct peri_sampler peri_sampler;

peri_status peri_sampler_new(const peri_sampling *p, const peri_sampler_vocab *v,
                             peri_sampler **out, peri_error *err);
void peri_sampler_free(peri_sampler *s); /* accepts NULL */
/* Choose the token for position n_tok, given the n_tok tokens before it.  Candidates are ordered by
 * falling logit, equal ones by rising id.  A NaN logit counts as minus infinity; PERI_E_OTHER when
 * no logit is a number. */
peri_status peri_sampler_pick(peri_sampler *s, const float *logits, const int32_t *tok,
                              int32_t n_tok, int32_t *id, peri_error *err);
peri_status peri_sampler_clone(const peri_sampler *s, uint64_t stream, int32_t n_tok,
                               peri_sampler **out, peri_error *err);
const peri_sampling *peri_sampler_params(const peri_sampler *s);
peri_sampling *peri_sampling_dup(const peri_sampling *p); /* freed with peri_free */
typedef struct peri_token_logprob {
    int32_t id;
    float logprob; /* natural logarithm */
} peri_token_logprob;
/* Log-probabilities in the softmax of raw logits: of id and of the n_top likeliest. */
void peri_logprobs(const float *logits, int32_t n_vocab, int32_t id, float *logprob,
                   peri_token_logprob *top, size_t n_top);
/* Parameters and records up to n_tok, and back. */
peri_status peri_sampler_save(const peri_sampler *s, int32_t n_tok, peri_text *out,
                              peri_error *err);
peri_status peri_sampler_restore(peri_reader *r, const peri_sampler_vocab *v, int32_t n_tok,
                                 peri_sampler **out, peri_error *err);

#endif
