/* SPDX-License-Identifier: MIT
 *
 * sampler_int.h - what the sampler's files share; included by core/run/sampler*.c only.
 *
 * sampler.c          samplers as objects; one pick: biases, constraints, links, selection
 * sampler_select.c   the draw, mirostat, adaptive_p, and their records
 * sampler_link.c     links that cut or scale
 * sampler_history.c  links that look at the tokens before: penalties, dry
 * sampler_sort.c     candidates: gathering, sorting, the n likeliest, probabilities
 * sampler_policy.c   links written in scripts, and what they keep
 * sampler_grammar.c  the link that keeps to a grammar
 * sampler_save.c     to bytes and back */
#ifndef PERI_RUN_SAMPLER_INT_H
#define PERI_RUN_SAMPLER_INT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "run/grammar.h"
#include "run/peaks.h"
#include "run/sampler.h"
#include "run/token_table.h"

struct peri_sampler_scratch {
    int32_t n_vocab;
    float *work;             /* [n_vocab] logits once biases or penalties changed them */
    float *peak;             /* [peri_n_peak(n_vocab)] */
    peri_candidate *c, *aux; /* [n_vocab] */
    int32_t *count;          /* [n_vocab] all 0 between uses */
    /* the last pick */
    const peri_sampler *owner;
    peri_candidate *last;
    size_t n_last;
    bool is_last_sorted;
    /* grammars, the newest first, and the vocabulary for them */
    struct smp_grammar *grammar;
    peri_token_table *table;
    peri_token_tree *tree;
};

/* What the samplers of one grammar share. */
typedef struct smp_grammar {
    struct smp_grammar *next;
    uint32_t refs;      /* samplers that use it */
    peri_sampling *key; /* for its grammar and triggers */
    peri_matcher *matcher;
    peri_masks *masks;
    int32_t trigger_id[PERI_GRAMMAR_TRIGGERS]; /* triggers that are control tokens */
    size_t n_trigger_id;
} smp_grammar;

/* Who chose which token: from[i] is where the text begins that the chosen token i belongs to, or -1
 * for one that was fed. */
typedef struct smp_text {
    int32_t *tok, *from; /* [n], room for n_ctx + 2 */
    int32_t n, room;
    /* the state before position `at` of the text that begins at known_from */
    bool is_known;
    int32_t at, known_from;
    peri_match state;
    uint64_t age;
} smp_text;

/* A sequence of tokens at which dry forgets: head, then tail[n_tail]. */
typedef struct smp_breaker {
    int32_t head;
    uint32_t off, n_tail; /* into smp_shared.tail */
} smp_breaker;

/* What a sampler and its clones have in common; immutable but for the count. */
typedef struct smp_shared {
    atomic_int refs;
    peri_sampling *p;     /* a copy with its arrays */
    peri_sampler_vocab v; /* scratch NULL when each has its own */
    uint8_t step[PERI_MAX_ORDER + 1];
    int n_step;
    bool is_greedy; /* the likeliest after the steps; no draw */
    int32_t top;    /* so many of the likeliest tokens decide; 0: all do */
    int32_t *eog;   /* [n_eog] tokens banned by ignore_eos */
    size_t n_eog;
    smp_breaker *breaker; /* [n_breaker] by head */
    size_t n_breaker;
    int32_t *tail;
    size_t n_tail;
    void *policies;              /* of v.host; NULL when there are none */
    peri_token_table *own_table; /* made here; NULL when v.table serves or none is needed */
} smp_shared;

/* State of mirostat (a = mu) or adaptive_p (a = weighted sum, b = total weight) for the pick at
 * n_tok. */
typedef struct smp_record {
    int32_t n_tok;
    float a, b;
} smp_record;

/* What the policies left for the pick at n_tok: in smp_kept.bytes up to `end`, from where the one
 * before ends.  Of each policy in its turn u32 size and the bytes. */
typedef struct smp_kept_at {
    int32_t n_tok;
    uint32_t end;
} smp_kept_at;
typedef struct smp_kept {
    smp_kept_at *at; /* [n] by rising n_tok; no entry where nothing changed */
    size_t n, room;
    peri_text bytes;
    peri_text now; /* of the pick under way */
} smp_kept;

struct peri_sampler {
    smp_shared *shared;
    peri_sampling p; /* shared->p with the stream of this one; arrays are shared->p's */
    peri_sampler_scratch *x;
    bool owns_scratch;
    /* Only for mirostat, adaptive_p and policies, room for n_ctx + 2 each: */
    smp_record *record; /* [n_record] by rising n_tok, right for the history seen[n_seen] */
    int32_t *seen;
    int32_t n_record, n_seen, room;
    smp_kept kept;          /* of policies, right for the same history */
    const float *other;     /* see peri_sampler_set_other */
    const int32_t *without; /* [n_without] */
    size_t n_without;
    smp_grammar *grammar; /* NULL without */
    smp_text text;        /* with a grammar */
    int32_t *z, n_z;      /* [n_z] room of dry, n_z = what it looks back over at most */
    struct {
        int32_t n_tok; /* where the text begins */
        uint32_t size; /* 0: no healing */
        char text[PERI_HEAL_BYTES];
    } heal;
};

/* One pick under way.  Dense: candidates are the ids 0 .. n_vocab - 1 with logits[]; afterwards
 * they are c[n]. */
typedef struct smp_pick {
    peri_sampler *s;
    peri_sampler_scratch *x;
    const int32_t *tok; /* [n_tok] */
    int32_t n_tok;
    const float *logits; /* f32 [n_vocab], the caller's or x->work */
    const float *peak;   /* of the logits, the caller's or x->peak; NULL: not found yet */
    peri_candidate *c;
    size_t n;
    bool is_dense;
    bool is_sorted, is_by_id; /* of c: by falling logit, then id; by id */
    uint32_t n_xtc;           /* xtc links that ran */
    peri_status st;           /* a link that failed, with *err */
    peri_error *err;
} smp_pick;

static inline float smp_number(float x) {
    return x != x ? -__builtin_inff() : x;
}

/* ---- sampler_sort.c ----------------------------------------------------------------------------
 */
/* Does a come after b: lower logit, or equal and higher id? */
static inline bool smp_is_after(const peri_candidate *a, const peri_candidate *b) {
    return a->logit != b->logit ? a->logit < b->logit : a->id > b->id;
}
/* Sort a[n] by falling logit, then id, with tmp[n] as room; by_id: a is in the order of ids. */
void smp_sort_range(peri_candidate *a, peri_candidate *tmp, size_t n, bool by_id);
void smp_sort_ids(peri_candidate *a, peri_candidate *tmp, size_t n);
/* The n_top first of a[n] into dst, sorted; n_top <= n; dst is not a. */
void smp_head(const peri_candidate *a, size_t n, peri_candidate *dst, size_t n_top);
void smp_gather(smp_pick *k);        /* end of dense */
void smp_sort(smp_pick *k);          /* c sorted */
void smp_top(smp_pick *k, size_t n); /* keep the n first, sorted */
void smp_softmax(smp_pick *k);       /* fills p; the sum of p is 1 */
float *smp_own_logits(smp_pick *k);  /* dense only: logits that may be changed, all of them */
void smp_set_logit(smp_pick *k, int32_t id, float logit); /* dense only: of a token */
size_t smp_best(smp_pick *k); /* index in c (dense: id) of the first candidate; n > 0 */
float smp_max(smp_pick *k);   /* its logit */

/* ---- links -------------------------------------------------------------------------------------
 */
void smp_penalties(smp_pick *k);
void smp_dry(smp_pick *k);
peri_status smp_breakers_new(smp_shared *h, peri_error *err);
void smp_top_n_sigma(smp_pick *k);
void smp_top_k(smp_pick *k);
void smp_typical(smp_pick *k);
void smp_top_p(smp_pick *k);
void smp_min_p(smp_pick *k);
void smp_xtc(smp_pick *k);
void smp_temperature(smp_pick *k);
void smp_infill(smp_pick *k);

/* ---- sampler_grammar.c -------------------------------------------------------------------------
 */
void smp_grammar_link(smp_pick *k);
peri_status smp_grammar_open(peri_sampler *s, peri_error *err);
void smp_grammar_close(peri_sampler *s);
void smp_grammars_free(peri_sampler_scratch *x);
/* Who chose the first n_tok tokens, for a clone. */
void smp_grammar_copy(const peri_sampler *from, int32_t n_tok, peri_sampler *to);
/* The pick at n_tok is made. */
void smp_grammar_chose(peri_sampler *s, int32_t n_tok, int32_t id);

/* ---- sampler_select.c --------------------------------------------------------------------------
 */
bool smp_has_records(const peri_sampling *p);
/* Index in c of the choice; writes the record of n_tok + 1.  n > 0 and some logit is finite. */
size_t smp_select(smp_pick *k);
/* Forget records that do not belong to tok[n_tok]. */
void smp_match_history(peri_sampler *s, const int32_t *tok, int32_t n_tok);

/* ---- sampler_policy.c --------------------------------------------------------------------------
 */
/* Run policy i on the list. */
peri_status smp_policy(smp_pick *k, size_t i, peri_error *err);
/* Remember what the policies of this pick left, for n_tok + 1.  Fails before anything was chosen.
 */
peri_status smp_keep(smp_pick *k, peri_error *err);
/* Forget what was kept for positions beyond n_tok. */
void smp_kept_trim(smp_kept *s, int32_t n_tok);
/* What was kept for positions up to n_tok of another sampler. */
peri_status smp_kept_copy(const smp_kept *from, int32_t n_tok, smp_kept *to, peri_error *err);
/* One more entry, larger in n_tok than those before. */
peri_status smp_kept_add(smp_kept *s, int32_t n_tok, const void *data, size_t size,
                         peri_error *err);
void smp_kept_fini(smp_kept *s);

/* The token table in use, or NULL. */
static inline const peri_token_table *smp_table(const smp_shared *h) {
    return h->own_table ? h->own_table : h->v.table;
}

#endif
