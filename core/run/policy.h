/* SPDX-License-Identifier: MIT
 *
 * policy.h - sampling policies as the chain sees them: links whose code is a script, run by a host
 * from above, given at creation.
 *
 * A policy gets the candidates that are left and may change them; what it wants to keep it leaves
 * as bytes, which it is given back at the next pick.  The bytes are kept per position beside the
 * history they belong to, so a policy too is a function of parameters, logits and the tokens
 * before: fork, rewind, save and restore need no call.
 *
 * All of it happens on the thread that drives the engine. */
#ifndef PERI_RUN_POLICY_H
#define PERI_RUN_POLICY_H

#include "base/text.h"
#include "model/tokenizer.h"
#include "run/sampling.h"

typedef struct peri_candidate {
    float logit; /* after the links that ran */
    float p;     /* probability among the survivors */
    int32_t id;
} peri_candidate;

/* Most bytes that a policy may keep at one position, and that all positions of a session hold. */
enum { PERI_POLICY_STATE = 4096, PERI_POLICY_LOG = 16 << 20 };

/* One pick as a policy sees it. */
typedef struct peri_policy_view {
    peri_candidate *c; /* [n], likeliest first; the policy may change logits, order and n */
    size_t n;
    bool has_p;         /* the p are those of the logits as they are */
    bool is_sorted;     /* by falling logit, then rising id */
    const int32_t *tok; /* [n_tok] before the one to choose */
    int32_t n_tok, n_vocab;
    const float *other;              /* f32 [n_vocab] logits of the session beside, or NULL */
    peri_candidate *spare;           /* room for n candidates */
    const peri_tokenizer *tokenizer; /* may be NULL */
    uint64_t seed, stream;
    uint32_t first_draw, n_draw; /* random numbers of this policy */
    peri_str kept;               /* what it left at the last position; data NULL: nothing yet */
    peri_text *left;             /* append what it leaves now */
} peri_policy_view;

void peri_view_softmax(peri_policy_view *v);  /* fill p, unless has_p */
void peri_view_sort(peri_policy_view *v);     /* unless is_sorted */
double peri_view_random(peri_policy_view *v); /* uniform in [0, 1): the next of this policy */

/* Who runs policies; core/script has one.  Functions get `user` first. */
typedef struct peri_policy_host {
    void *user;
    /* Load n policies, which may be shared with others that are the same.  POLICY_ERROR names the
     * chunk and the line. */
    peri_status (*open)(void *user, const peri_policy_text *policy, size_t n, void **out,
                        peri_error *err);
    void (*close)(void *user, void *set);
    /* Run policy i.  POLICY_ERROR names the chunk and the line. */
    peri_status (*run)(void *user, void *set, size_t i, peri_policy_view *v, peri_error *err);
} peri_policy_host;

#endif
