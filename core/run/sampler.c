/* SPDX-License-Identifier: MIT
 *
 * sampler.c - samplers, and one pick: biases, constraints, links, selection, in this order.
 *
 * A pick starts dense, on the logits as they come, and stays so while links only change single
 * logits; the first link that cuts makes the list of candidates.  So with top_k early, as usual, no
 * list of the vocabulary's size is ever written. */
#include "run/sampler.h"

#include <math.h>
#include <string.h>

#include "base/status.h"
#include "run/sampler_int.h"

#include "base/compiler.h"

/* ---- scratch --------------------------------------------------------------------------------- */

peri_status peri_sampler_scratch_new(int32_t n_vocab, peri_sampler_scratch **out, peri_error *err) {
    *out = NULL;
    if (n_vocab < 1)
        return peri_fail(err, PERI_E_RANGE, "a vocabulary of %d tokens cannot be sampled", n_vocab);
    size_t n = (size_t)n_vocab;
    peri_sampler_scratch *x = peri_calloc(1, sizeof *x);
    if (x) {
        x->n_vocab = n_vocab;
        x->work = peri_alloc_array(n, sizeof *x->work);
        x->peak = peri_alloc_array(peri_n_peak(n), sizeof *x->peak);
        x->c = peri_alloc_array(n, sizeof *x->c);
        x->aux = peri_alloc_array(n, sizeof *x->aux);
        x->count = peri_calloc(n, sizeof *x->count);
    }
    if (!x || !x->work || !x->peak || !x->c || !x->aux || !x->count) {
        peri_sampler_scratch_free(x);
        return peri_fail(err, PERI_E_NOMEM, "out of memory to sample from %d tokens", n_vocab);
    }
    *out = x;
    return PERI_OK;
}

void peri_sampler_scratch_free(peri_sampler_scratch *x) {
    if (!x) return;
    peri_free(x->work);
    peri_free(x->peak);
    peri_free(x->c);
    peri_free(x->aux);
    peri_free(x->count);
    smp_grammars_free(x);
    peri_free(x);
}

/* ---- the table of links ---------------------------------------------------------------------- */

static bool has_penalties(const peri_sampling *p) {
    bool repeats = p->repeat_penalty > 0 && p->repeat_penalty != 1;
    return p->repeat_last_n != 0 &&
           (repeats || p->presence_penalty != 0 || p->frequency_penalty != 0);
}
static bool has_dry(const peri_sampling *p) {
    return p->dry_multiplier > 0 && p->dry_base >= 1 && p->dry_penalty_last_n != 0;
}
static bool has_sigma(const peri_sampling *p) {
    return p->top_n_sigma > 0;
}
static bool has_top_k(const peri_sampling *p) {
    return p->top_k > 0;
}
static bool has_typical(const peri_sampling *p) {
    return p->typical_p > 0 && p->typical_p < 1;
}
static bool has_top_p(const peri_sampling *p) {
    return p->top_p > 0 && p->top_p < 1;
}
static bool has_min_p(const peri_sampling *p) {
    return p->min_p > 0;
}
static bool has_xtc(const peri_sampling *p) {
    return p->xtc_probability > 0 && p->xtc_threshold <= 0.5f;
}
static bool has_temperature(const peri_sampling *p) {
    return p->temp != 1 || p->dynatemp_range > 0;
}
static bool has_grammar(const peri_sampling *p) {
    return p->grammar.size > 0;
}
static bool is_always(const peri_sampling *p) {
    (void)p;
    return true;
}

static const struct {
    bool (*is_on)(const peri_sampling *p);
    void (*run)(smp_pick *k); /* NULL: selects, so it is in sampler_select.c */
    bool keeps_best;          /* the likeliest candidate stays the likeliest */
    bool is_of_list;          /* looks at nothing but the list it is given */
} link_table[PERI_N_LINK] = {
    [PERI_LINK_PENALTIES] = {has_penalties, smp_penalties, false, false},
    [PERI_LINK_DRY] = {has_dry, smp_dry, false, false},
    [PERI_LINK_TOP_N_SIGMA] = {has_sigma, smp_top_n_sigma, true, true},
    [PERI_LINK_TOP_K] = {has_top_k, smp_top_k, true, true},
    [PERI_LINK_TYPICAL] = {has_typical, smp_typical, false, true},
    [PERI_LINK_TOP_P] = {has_top_p, smp_top_p, true, true},
    [PERI_LINK_MIN_P] = {has_min_p, smp_min_p, true, true},
    [PERI_LINK_XTC] = {has_xtc, smp_xtc, false, true},
    [PERI_LINK_TEMPERATURE] = {has_temperature, smp_temperature, true, true},
    [PERI_LINK_INFILL] = {is_always, smp_infill, false, false},
    [PERI_LINK_ADAPTIVE_P] = {is_always, NULL, false, true},
    [PERI_LINK_GRAMMAR] = {has_grammar, smp_grammar_link, false, false},
};

/* The links to run.  At temperature 0 the likeliest is taken where the temperature stands; of the
 * links before it the last ones that keep the likeliest are left out, and the links after it have
 * one candidate left to look at.  Unless a policy follows, which may want more. */
static void plan_steps(smp_shared *h) {
    static const uint8_t usual[] = PERI_DEFAULT_ORDER, mirostat[] = {PERI_LINK_TEMPERATURE};
    const peri_sampling *p = h->p;
    const uint8_t *order = p->mirostat ? mirostat : p->n_order ? p->order : usual;
    int n = p->mirostat ? 1 : p->n_order ? p->n_order : (int)sizeof usual;
    bool is_frozen = p->temp <= 0 && p->dynatemp_range <= 0 && !p->mirostat;
    int last_policy = -1;
    bool is_named = false;
    for (int i = 0; i < n; i++) {
        if (order[i] >= PERI_LINK_POLICY) last_policy = i;
        if (order[i] == PERI_LINK_GRAMMAR) is_named = true;
    }
    if (has_grammar(p) && !is_named) h->step[h->n_step++] = PERI_LINK_GRAMMAR;
    for (int i = 0; i < n; i++) {
        if (order[i] >= PERI_LINK_POLICY) {
            h->step[h->n_step++] = order[i];
            continue;
        }
        if (!link_table[order[i]].is_on(p) || !link_table[order[i]].run) continue;
        h->step[h->n_step++] = order[i];
        if (order[i] == PERI_LINK_TEMPERATURE && is_frozen && i > last_policy) {
            h->is_greedy = true;
            break;
        }
    }
    while (h->is_greedy && h->n_step && h->step[h->n_step - 1] < PERI_N_LINK &&
           link_table[h->step[h->n_step - 1]].keeps_best)
        h->n_step--;
}

/* How many of the likeliest tokens decide: one where the likeliest is taken, top_k where it is the
 * first step and the others stay with its list; a policy may look at anything. */
static int32_t count_top(const smp_shared *h) {
    const peri_sampling *p = h->p;
    if (p->n_bias || p->ignore_eos || p->n_policy || p->mirostat) return 0;
    if (h->n_step == 0) return h->is_greedy ? 1 : 0;
    if (h->step[0] != PERI_LINK_TOP_K) return 0;
    for (int i = 1; i < h->n_step; i++)
        if (!link_table[h->step[i]].is_of_list) return 0;
    return p->top_k < h->v.n_vocab ? p->top_k : h->v.n_vocab;
}

static bool has_step(const smp_shared *h, peri_link link) {
    for (int i = 0; i < h->n_step; i++)
        if (h->step[i] == link) return true;
    return false;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void release(smp_shared *h) {
    if (!h || atomic_fetch_sub(&h->refs, 1) != 1) return;
    peri_free(h->p);
    peri_free(h->eog);
    peri_free(h->breaker);
    peri_free(h->tail);
    if (h->policies) h->v.host->close(h->v.host->user, h->policies);
    peri_token_table_free(h->own_table);
    peri_free(h);
}

static peri_status list_eog(smp_shared *h, peri_error *err) {
    const peri_tokenizer *t = h->v.tokenizer;
    h->eog = peri_alloc_array((size_t)h->v.n_vocab, sizeof *h->eog);
    if (!h->eog) return peri_fail(err, PERI_E_NOMEM, "out of memory for the end tokens");
    for (int32_t i = 0; t && i < h->v.n_vocab; i++)
        if (peri_token_is_eog(t, i)) h->eog[h->n_eog++] = i;
    return PERI_OK;
}

static peri_status check(const peri_sampling *p, const peri_sampler_vocab *v, peri_error *err) {
    peri_status st = peri_sampling_check(p, err);
    if (st) return st;
    if (v->scratch && v->scratch->n_vocab != v->n_vocab)
        return peri_fail(err, PERI_E_INVALID, "scratch for %d tokens, vocabulary of %d",
                         v->scratch->n_vocab, v->n_vocab);
    for (size_t i = 0; i < p->n_bias; i++)
        if (p->bias[i].id < 0 || p->bias[i].id >= v->n_vocab)
            return peri_fail(err, PERI_E_RANGE,
                             "logit_bias: found token %d, the vocabulary has 0 to %d",
                             p->bias[i].id, v->n_vocab - 1);
    return PERI_OK;
}

static peri_status share(const peri_sampling *p, const peri_sampler_vocab *v, smp_shared **out,
                         peri_error *err) {
    smp_shared *h = peri_calloc(1, sizeof *h);
    if (!h || !(h->p = peri_sampling_dup(p))) {
        peri_free(h);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for sampling parameters");
    }
    atomic_init(&h->refs, 1);
    h->v = *v;
    plan_steps(h);
    h->top = count_top(h);
    bool wants_table = has_step(h, PERI_LINK_INFILL) || p->heal;
    peri_status st = PERI_OK;
    if (has_step(h, PERI_LINK_INFILL) && !v->tokenizer)
        st = peri_fail(err, PERI_E_UNSUPPORTED, "the sampler infill needs a tokenizer");
    if (!st && wants_table && v->tokenizer && !v->table)
        st = peri_token_table_new(v->tokenizer, &h->own_table, err);
    if (!st && p->ignore_eos) st = list_eog(h, err);
    if (!st && has_step(h, PERI_LINK_DRY)) st = smp_breakers_new(h, err);
    if (!st && p->n_policy && !v->host)
        st = peri_fail(err, PERI_E_UNSUPPORTED,
                       "policy %s: nothing here runs sampling policies; scripts do",
                       p->policy[0].name);
    if (!st && p->n_policy)
        st = v->host->open(v->host->user, h->p->policy, p->n_policy, &h->policies, err);
    if (st) {
        release(h);
        h = NULL;
    }
    *out = h;
    return st;
}

/* A sampler on h, of which it takes one reference; it is released on failure. */
static peri_status build(smp_shared *h, uint64_t stream, peri_sampler **out, peri_error *err) {
    peri_sampler *s = peri_calloc(1, sizeof *s);
    int32_t n_ctx = h->v.n_ctx > 0 ? h->v.n_ctx : 0, back = h->p->dry_penalty_last_n;
    bool ok = s != NULL;
    if (ok) {
        s->shared = h;
        s->p = *h->p;
        s->p.stream = stream;
        s->x = h->v.scratch;
        s->owns_scratch = !s->x;
    }
    if (ok && smp_has_records(h->p)) {
        s->room = n_ctx + 2;
        s->record = peri_alloc_array((size_t)s->room, sizeof *s->record);
        s->seen = peri_alloc_array((size_t)s->room, sizeof *s->seen);
        ok = s->record && s->seen;
    }
    if (ok && has_step(h, PERI_LINK_DRY)) {
        s->n_z = back >= 0 && back < n_ctx ? back : n_ctx;
        s->z = peri_alloc_array((size_t)s->n_z + 1, sizeof *s->z);
        ok = s->z != NULL;
    }
    peri_status st = ok ? PERI_OK : peri_fail(err, PERI_E_NOMEM, "out of memory for a sampler");
    if (!st && s->owns_scratch) st = peri_sampler_scratch_new(h->v.n_vocab, &s->x, err);
    if (!st && has_grammar(h->p)) st = smp_grammar_open(s, err);
    if (st) {
        if (s)
            peri_sampler_free(s);
        else
            release(h);
        s = NULL;
    }
    *out = s;
    return st;
}

peri_status peri_sampler_new(const peri_sampling *p, const peri_sampler_vocab *v,
                             peri_sampler **out, peri_error *err) {
    smp_shared *h = NULL;
    *out = NULL;
    peri_status st = check(p, v, err);
    if (!st) st = share(p, v, &h, err);
    return st ? st : build(h, p->stream, out, err);
}

void peri_sampler_free(peri_sampler *s) {
    if (!s) return;
    if (s->x && s->x->owner == s) s->x->owner = NULL;
    smp_grammar_close(s);
    if (s->owns_scratch) peri_sampler_scratch_free(s->x);
    peri_free(s->record);
    peri_free(s->seen);
    smp_kept_fini(&s->kept);
    peri_free(s->z);
    release(s->shared);
    peri_free(s);
}

const peri_sampling *peri_sampler_params(const peri_sampler *s) {
    return &s->p;
}

const peri_token_table *peri_sampler_table(const peri_sampler *s) {
    return smp_table(s->shared);
}

peri_status peri_sampler_clone(const peri_sampler *s, uint64_t stream, int32_t n_tok,
                               peri_sampler **out, peri_error *err) {
    *out = NULL;
    atomic_fetch_add(&s->shared->refs, 1);
    peri_status st = build(s->shared, stream, out, err);
    if (st) return st;
    (*out)->heal = s->heal;
    smp_grammar_copy(s, n_tok, *out);
    int32_t n = n_tok < s->n_seen ? n_tok : s->n_seen;
    if (n > 0) memcpy((*out)->seen, s->seen, (size_t)n * sizeof *s->seen);
    (*out)->n_seen = n > 0 ? n : 0;
    while ((*out)->n_record < s->n_record && s->record[(*out)->n_record].n_tok <= n) {
        (*out)->record[(*out)->n_record] = s->record[(*out)->n_record];
        (*out)->n_record++;
    }
    st = smp_kept_copy(&s->kept, (*out)->n_seen, &(*out)->kept, err);
    if (st) {
        peri_sampler_free(*out);
        *out = NULL;
    }
    return st;
}

void peri_sampler_set_other(peri_sampler *s, const float *logits) {
    s->other = logits;
}

void peri_sampler_set_without(peri_sampler *s, const int32_t *id, size_t n) {
    s->without = id;
    s->n_without = n;
}

/* ---- constraints ----------------------------------------------------------------------------- */

peri_status peri_sampler_heal(peri_sampler *s, int32_t n_tok, const char *text, size_t size,
                              peri_error *err) {
    if (size > PERI_HEAL_BYTES)
        return peri_fail(err, PERI_E_RANGE, "healing %zu bytes, at most %d", size, PERI_HEAL_BYTES);
    if (size && !smp_table(s->shared))
        return peri_fail(err, PERI_E_UNSUPPORTED,
                         "healing needs a tokenizer, and a sampler made with heal = 1");
    s->heal.n_tok = n_tok;
    s->heal.size = (uint32_t)size;
    if (size) memcpy(s->heal.text, text, size);
    return PERI_OK;
}

/* What of the text to heal is still to be spelled; empty when it is, or when the tokens since went
 * another way. */
static peri_str left_to_heal(const smp_pick *k) {
    const peri_sampler *s = k->s;
    size_t done = 0;
    if (!s->heal.size || k->n_tok < s->heal.n_tok) return (peri_str){NULL, 0};
    for (int32_t i = s->heal.n_tok; i < k->n_tok && done < s->heal.size; i++) {
        peri_str t = peri_token_table_text(smp_table(s->shared), k->tok[i]);
        size_t left = s->heal.size - done, n = t.size < left ? t.size : left;
        if (!n || memcmp(t.data, s->heal.text + done, n) != 0) return (peri_str){NULL, 0};
        done += n;
    }
    return (peri_str){s->heal.text + done, s->heal.size - done};
}

static void keep(smp_pick *k, const peri_token_table *t, uint32_t first, uint32_t n, size_t size) {
    for (uint32_t i = first; i < first + n; i++) {
        int32_t id = (int32_t)t->id[i];
        if (size && peri_token_table_text(t, id).size != size) break; /* longer ones follow */
        if (id < k->x->n_vocab) k->c[k->n++] = (peri_candidate){smp_number(k->logits[id]), 0, id};
    }
}

/* Only tokens that begin with what is left to heal, or are a beginning of it. */
static void heal(smp_pick *k) {
    const peri_token_table *t = smp_table(k->s->shared);
    peri_str left = left_to_heal(k);
    uint32_t first, n;
    if (!left.size) return;
    k->n = 0;
    k->is_dense = k->is_by_id = false;
    for (size_t size = 1; size < left.size; size++) {
        n = peri_token_table_range(t, (peri_str){left.data, size}, &first);
        keep(k, t, first, n, size);
    }
    n = peri_token_table_range(t, left, &first);
    keep(k, t, first, n, 0);
}

static void constrain(smp_pick *k) {
    heal(k);
}

/* ---- one pick -------------------------------------------------------------------------------- */

static void add_biases(smp_pick *k) {
    const smp_shared *h = k->s->shared;
    for (size_t i = 0; i < h->p->n_bias; i++)
        smp_set_logit(k, h->p->bias[i].id, k->logits[h->p->bias[i].id] + h->p->bias[i].bias);
    for (size_t i = 0; i < h->n_eog; i++)
        smp_set_logit(k, h->eog[i], -INFINITY);
    for (size_t i = 0; i < k->s->n_without; i++)
        smp_set_logit(k, k->s->without[i], -INFINITY);
}

/* The survivors are c[n] of the scratch from here on. */
static void leave(smp_pick *k, size_t chosen, int32_t *id) {
    *id = k->c[chosen].id;
    k->x->owner = k->s;
    k->x->last = k->c;
    k->x->n_last = k->n;
    k->x->is_last_sorted = k->is_sorted;
}

static void choose(smp_pick *k, int32_t *id) {
    if (!k->s->shared->is_greedy) {
        size_t at = smp_select(k);
        leave(k, at, id);
        return;
    }
    size_t best = smp_best(k);
    peri_candidate one =
        k->is_dense ? (peri_candidate){k->logits[best], 1, (int32_t)best} : k->c[best];
    one.p = 1;
    k->c[0] = one;
    k->n = 1;
    k->is_dense = false;
    k->is_sorted = true;
    leave(k, 0, id);
}

/* From the candidates in k. */
static peri_status pick(smp_pick *k, int32_t *id, peri_error *err) {
    peri_sampler *s = k->s;
    const int32_t *tok = k->tok;
    int32_t n_tok = k->n_tok;
    *id = -1;
    s->x->owner = NULL;
    if (n_tok < 0 || (s->record && n_tok > s->room - 2))
        return peri_fail(err, PERI_E_RANGE, "position %d, the context holds %d tokens", n_tok,
                         s->room - 2);
    if (isinf(smp_max(k)))
        return peri_fail(err, PERI_E_OTHER, "the logits of position %d are not finite numbers",
                         n_tok);
    if (s->record) smp_match_history(s, tok, n_tok);
    add_biases(k);
    constrain(k);
    for (int i = 0; i < s->shared->n_step && k->n; i++) {
        uint8_t step = s->shared->step[i];
        if (step < PERI_LINK_POLICY) {
            link_table[step].run(k);
            if (k->st) return k->st;
            continue;
        }
        peri_status st = smp_policy(k, step - (size_t)PERI_LINK_POLICY, err);
        if (st) return st;
    }
    if (!k->n || isinf(smp_max(k)))
        return peri_fail(err, PERI_E_INVALID,
                         "no token is left to choose at position %d: biases, limits or constraints "
                         "exclude all",
                         n_tok);
    if (s->shared->policies) {
        peri_status st = smp_keep(k, err);
        if (st) return st;
    }
    choose(k, id);
    smp_grammar_chose(s, n_tok, *id);
    if (s->shared->policies && s->n_seen == n_tok) s->seen[s->n_seen++] = *id;
    return PERI_OK;
}

static smp_pick begin(peri_sampler *s, const int32_t *tok, int32_t n_tok, peri_error *err) {
    return (smp_pick){.s = s, .x = s->x, .tok = tok, .n_tok = n_tok, .c = s->x->c, .err = err};
}

peri_status peri_sampler_pick(peri_sampler *s, const float *logits, const int32_t *tok,
                              int32_t n_tok, int32_t *id, peri_error *err) {
    return peri_sampler_pick_peaks(s, logits, NULL, tok, n_tok, id, err);
}

peri_status peri_sampler_pick_peaks(peri_sampler *s, const float *logits, const float *peak,
                                    const int32_t *tok, int32_t n_tok, int32_t *id,
                                    peri_error *err) {
    smp_pick k = begin(s, tok, n_tok, err);
    k.logits = logits;
    k.peak = peak;
    k.n = (size_t)s->x->n_vocab;
    k.is_dense = true;
    return pick(&k, id, err);
}

int32_t peri_sampler_top(const peri_sampler *s) {
    return s->n_without || s->heal.size ? 0 : s->shared->top;
}

peri_status peri_sampler_pick_top(peri_sampler *s, const peri_top *t, const int32_t *tok,
                                  int32_t n_tok, int32_t *id, peri_error *err) {
    smp_pick k = begin(s, tok, n_tok, err);
    int32_t n = peri_sampler_top(s);
    *id = -1;
    if (n < 1 || n > t->n)
        return peri_fail(err, PERI_E_INVALID, "%d of the likeliest tokens where %d decide", t->n,
                         n ? n : s->x->n_vocab);
    for (int32_t i = 0; i < n; i++) /* those behind would be cut */
        k.c[k.n++] = (peri_candidate){t->logit[i], 0, t->id[i]};
    k.is_sorted = true;
    return pick(&k, id, err);
}

/* ---- what the pick was made of ----------------------------------------------------------------
 */

size_t peri_sampler_survivors(peri_sampler *s, const peri_candidate **out) {
    peri_sampler_scratch *x = s->x;
    *out = NULL;
    if (x->owner != s) return 0;
    if (!x->is_last_sorted) {
        peri_candidate *tmp = x->last == x->c ? x->aux : x->c;
        smp_sort_range(x->last, tmp, x->n_last, false);
        x->is_last_sorted = true;
    }
    while (x->n_last > 1 && !(x->last[x->n_last - 1].p > 0))
        x->n_last--;
    *out = x->last;
    return x->n_last;
}

void peri_sampler_logprobs(peri_sampler *s, int32_t id, float *logprob, peri_token_logprob *top,
                           size_t *n_top) {
    const peri_candidate *c;
    size_t n = peri_sampler_survivors(s, &c);
    if (logprob) *logprob = -INFINITY;
    for (size_t i = 0; i < n && logprob; i++)
        if (c[i].id == id) *logprob = logf(c[i].p);
    if (!n_top) return;
    if (*n_top > n) *n_top = n;
    for (size_t i = 0; i < *n_top; i++)
        top[i] = (peri_token_logprob){c[i].id, logf(c[i].p)};
}

static bool is_less_likely(const peri_token_logprob *a, const peri_token_logprob *b) {
    return a->logprob != b->logprob ? a->logprob < b->logprob : a->id > b->id;
}

/* x into the sorted list of n, room for n_top; returns the new n. */
static size_t insert(peri_token_logprob *top, size_t n, size_t n_top, peri_token_logprob x) {
    if (n == n_top && !is_less_likely(&top[n - 1], &x)) return n;
    size_t i = n < n_top ? n++ : n - 1;
    for (; i > 0 && is_less_likely(&top[i - 1], &x); i--)
        top[i] = top[i - 1];
    top[i] = x;
    return n;
}

void peri_logprobs(const float *logits, int32_t n_vocab, int32_t id, float *logprob,
                   peri_token_logprob *top, size_t n_top) {
    float most = -INFINITY;
    double sum = 0;
    size_t n = 0;
    for (int32_t i = 0; i < n_vocab; i++)
        if (logits[i] > most) most = logits[i];
    if (isinf(most)) most = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        float x = smp_number(logits[i]);
        sum += (double)expf(x - most);
        if (n_top) n = insert(top, n, n_top, (peri_token_logprob){i, x});
    }
    double all = (double)most + log(sum);
    for (size_t i = 0; i < n; i++)
        top[i].logprob = (float)((double)top[i].logprob - all);
    if (logprob)
        *logprob =
            id >= 0 && id < n_vocab ? (float)((double)smp_number(logits[id]) - all) : -INFINITY;
}
