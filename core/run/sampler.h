/* SPDX-License-Identifier: MIT
 *
 * sampler.h - from logits to a token: the chain of links that sampling.h describes, and the draw.
 *
 * A pick is a function of the parameters, the logits and the tokens before it; its random numbers
 * are functions of (seed, stream, position).  Only mirostat, adaptive_p and policies remember more:
 * one record per position, valid for the history it was made with, so rewinding needs no call.
 *
 * Candidates: those of equal logit are ordered by rising id.  A NaN logit counts as minus infinity.
 * One thread at a time per sampler, and per scratch. */
#ifndef PERI_RUN_SAMPLER_H
#define PERI_RUN_SAMPLER_H

#include "base/reader.h"
#include "model/tokenizer.h"
#include "run/policy.h"
#include "run/token_table.h"
#include "run/top.h"

/* Room for one pick over a vocabulary, which all samplers of a thread may share. */
typedef struct peri_sampler_scratch peri_sampler_scratch;
peri_status peri_sampler_scratch_new(int32_t n_vocab, peri_sampler_scratch **out, peri_error *err);
void peri_sampler_scratch_free(peri_sampler_scratch *s); /* accepts NULL */

typedef struct peri_sampler_vocab {
    int32_t n_vocab, n_ctx;
    const peri_tokenizer *tokenizer; /* may be NULL: no dry breakers, no infill, no healing */
    peri_sampler_scratch *scratch;   /* NULL: each sampler makes its own */
    const peri_token_table *table;   /* NULL: made by the samplers that need it */
    const peri_policy_host *host;    /* runs policies; NULL: there are none */
} peri_sampler_vocab;

typedef struct peri_sampler peri_sampler;

/* Everything is copied from p; what v points to must outlive the sampler.  PERI_E_RANGE names a
 * parameter outside its range or a bias for a token outside the vocabulary; PERI_E_UNSUPPORTED a
 * link that needs the tokenizer or the host that is not there; POLICY_ERROR a policy that does not
 * load. */
peri_status peri_sampler_new(const peri_sampling *p, const peri_sampler_vocab *v,
                             peri_sampler **out, peri_error *err);
void peri_sampler_free(peri_sampler *s); /* accepts NULL */
/* The parameters, borrowed; the table of token texts in use, or NULL. */
const peri_sampling *peri_sampler_params(const peri_sampler *s);
const peri_token_table *peri_sampler_table(const peri_sampler *s);

/* Choose the token for position n_tok from logits[n_vocab], given the n_tok tokens before it.
 * Reads the record of position n_tok, writes that of n_tok + 1.  Allocates nothing.
 * PERI_E_OTHER when no logit is a finite number or one is plus infinity; PERI_E_INVALID when biases
 * or constraints leave no candidate; POLICY_ERROR when a policy fails.  *id is -1 then, and nothing
 * was remembered. */
peri_status peri_sampler_pick(peri_sampler *s, const float *logits, const int32_t *tok,
                              int32_t n_tok, int32_t *id, peri_error *err);

/* The same, with the peaks of the logits (peaks.h), or NULL: they are found then. */
peri_status peri_sampler_pick_peaks(peri_sampler *s, const float *logits, const float *peak,
                                    const int32_t *tok, int32_t n_tok, int32_t *id,
                                    peri_error *err);

/* How many of the likeliest tokens decide the next pick, whatever the others are: a pick from so
 * many or more is the pick from all.  0: it takes the whole row. */
int32_t peri_sampler_top(const peri_sampler *s);
/* The same pick from the list alone.  PERI_E_INVALID when it is too short for that. */
peri_status peri_sampler_pick_top(peri_sampler *s, const peri_top *t, const int32_t *tok,
                                  int32_t n_tok, int32_t *id, peri_error *err);

/* The candidates the last pick drew from, likeliest first; borrowed, valid until the next pick with
 * the same scratch.  Returns their number, at least 1 after a successful pick. */
size_t peri_sampler_survivors(peri_sampler *s, const peri_candidate **out);

/* Take over what the policies of another sampler kept, where they are the same as those of s: other
 * parameters are then no other beginning.  Nothing where they are not. */
peri_status peri_sampler_carry(peri_sampler *s, const peri_sampler *from, peri_error *err);

/* Logits of another session, f32 [n_vocab], that policies of the next picks may look at; NULL:
 * none. Borrowed until the next call. */
void peri_sampler_set_other(peri_sampler *s, const float *logits);
/* Tokens id[n] of the vocabulary that the next picks do not choose.  Borrowed until the next call.
 */
void peri_sampler_set_without(peri_sampler *s, const int32_t *id, size_t n);

typedef struct peri_token_logprob {
    int32_t id;
    float logprob; /* natural logarithm */
} peri_token_logprob;

/* Log-probabilities in the softmax of raw logits: of id (*logprob, when not NULL) and of the
 * n_top likeliest (top; n_top at most n_vocab), likeliest first.  No allocation; O(n_vocab log
 * n_top). */
void peri_logprobs(const float *logits, int32_t n_vocab, int32_t id, float *logprob,
                   peri_token_logprob *top, size_t n_top);
/* The same among the survivors of the last pick; *n_top becomes how many there were. -INFINITY for
 * an id that did not survive. */
void peri_sampler_logprobs(peri_sampler *s, int32_t id, float *logprob, peri_token_logprob *top,
                           size_t *n_top);

/* A sampler with the same parameters and the records up to n_tok, on another stream. */
peri_status peri_sampler_clone(const peri_sampler *s, uint64_t stream, int32_t n_tok,
                               peri_sampler **out, peri_error *err);
/* Parameters and records up to n_tok, appended to out; and back, everything checked. */
peri_status peri_sampler_save(const peri_sampler *s, int32_t n_tok, peri_text *out,
                              peri_error *err);
peri_status peri_sampler_restore(peri_reader *r, const peri_sampler_vocab *v, int32_t n_tok,
                                 peri_sampler **out, peri_error *err);

/* Token healing: the tokens from position n_tok on must spell `text` before they are free (see
 * heal.h).  size 0 ends it.  Survives clone, save and rewinding: how much is spelled already is
 * read from the tokens.  PERI_E_RANGE above PERI_HEAL_BYTES; PERI_E_UNSUPPORTED without a
 * tokenizer, or when the sampler was made without `heal`. */
enum { PERI_HEAL_BYTES = 256 };
peri_status peri_sampler_heal(peri_sampler *s, int32_t n_tok, const char *text, size_t size,
                              peri_error *err);

#endif
