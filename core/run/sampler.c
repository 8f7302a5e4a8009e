/* SPDX-License-Identifier: MIT
 *
 * sampler.c - the links run in the order top_k, top_p, min_p, temperature.  Probabilities are
 * formed in double from the ordered candidates, so the result depends on the logits only. Source:
 * Holtzman et al. 2020 (top_p); Nguyen et al. 2024 (min_p). */
#include "run/sampler.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "run/rng.h"

#include "base/compiler.h"

typedef struct peri_candidate {
    float logit;
    int32_t id;
} peri_candidate;

struct peri_sampler {
    peri_sampling p;
    int32_t n_vocab;
    peri_candidate *scratch; /* [n_vocab] */
};

/* Does a come after b: lower logit, or equal and higher id? */
static bool is_after(const peri_candidate *a, const peri_candidate *b) {
    return a->logit != b->logit ? a->logit < b->logit : a->id > b->id;
}

static int compare(const void *x, const void *y) {
    return is_after(x, y) ? 1 : is_after(y, x) ? -1 : 0;
}

static float number(float x) {
    return isnan(x) ? -INFINITY : x;
}

static int32_t argmax(const float *logits, int32_t n) {
    int32_t best = -1;
    float top = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        float x = number(logits[i]);
        if (x > top) {
            top = x;
            best = i;
        }
    }
    return best;
}

/* Restore the heap whose root is the candidate that comes last. */
static void sift_down(peri_candidate *h, size_t n, size_t i) {
    for (;;) {
        size_t last = i, l = 2 * i + 1, r = l + 1;
        if (l < n && is_after(&h[l], &h[last])) last = l;
        if (r < n && is_after(&h[r], &h[last])) last = r;
        if (last == i) return;
        peri_candidate t = h[i];
        h[i] = h[last];
        h[last] = t;
        i = last;
    }
}

/* The k first candidates of all, sorted, into c. */
static size_t take_top(const float *logits, int32_t n_vocab, size_t k, peri_candidate *c) {
    for (size_t i = 0; i < k; i++)
        c[i] = (peri_candidate){number(logits[i]), (int32_t)i};
    for (size_t i = k / 2; i-- > 0;)
        sift_down(c, k, i);
    for (int32_t i = (int32_t)k; i < n_vocab; i++) {
        peri_candidate x = {number(logits[i]), i};
        if (!is_after(&c[0], &x)) continue;
        c[0] = x;
        sift_down(c, k, 0);
    }
    qsort(c, k, sizeof *c, compare);
    return k;
}

/* Sum of exp(scale * (logit - first logit)). */
static double mass(const peri_candidate *c, size_t n, double scale) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp(scale * ((double)c[i].logit - c[0].logit));
    return sum;
}

/* The shortest head whose probability reaches p; at least one. */
static size_t cut_top_p(const peri_candidate *c, size_t n, double p) {
    double total = mass(c, n, 1), sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += exp((double)c[i].logit - c[0].logit);
        if (sum >= p * total) return i + 1;
    }
    return n;
}

static size_t cut_min_p(const peri_candidate *c, size_t n, double p) {
    size_t kept = 1;
    while (kept < n && exp((double)c[kept].logit - c[0].logit) >= p)
        kept++;
    return kept;
}

peri_status peri_sampler_new(const peri_sampling *p, const peri_sampler_vocab *v,
                             peri_sampler **out, peri_error *err) {
    *out = NULL;
    if (!isfinite(p->temp) || p->temp < 0)
        return peri_fail(err, PERI_E_RANGE, "temp: found %g, expected 0 or more", (double)p->temp);
    if (!isfinite(p->top_p) || p->top_p < 0 || p->top_p > 1)
        return peri_fail(err, PERI_E_RANGE, "top_p: found %g, expected 0 to 1", (double)p->top_p);
    if (!isfinite(p->min_p) || p->min_p < 0 || p->min_p > 1)
        return peri_fail(err, PERI_E_RANGE, "min_p: found %g, expected 0 to 1", (double)p->min_p);
    if (p->top_k < 0)
        return peri_fail(err, PERI_E_RANGE, "top_k: found %d, expected 0 or more", p->top_k);
    peri_sampler *s = peri_calloc(1, sizeof *s);
    peri_candidate *scratch = peri_alloc_array((size_t)v->n_vocab, sizeof *scratch);
    if (!s || !scratch) {
        peri_free(s);
        peri_free(scratch);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a sampler");
    }
    *s = (peri_sampler){.p = *p, .n_vocab = v->n_vocab, .scratch = scratch};
    *out = s;
    return PERI_OK;
}

void peri_sampler_free(peri_sampler *s) {
    if (!s) return;
    peri_free(s->scratch);
    peri_free(s);
}

peri_status peri_sampler_clone(const peri_sampler *s, uint64_t stream, int32_t n_tok,
                               peri_sampler **out, peri_error *err) {
    peri_sampling p = s->p;
    p.stream = stream;
    (void)n_tok;
    return peri_sampler_new(&p, &(peri_sampler_vocab){.n_vocab = s->n_vocab}, out, err);
}

peri_status peri_sampler_save(const peri_sampler *s, int32_t n_tok, peri_text *out,
                              peri_error *err) {
    (void)n_tok;
    peri_text_add(out, &s->p, sizeof s->p);
    return out->failed ? peri_fail(err, PERI_E_NOMEM, "out of memory for a sampler") : PERI_OK;
}

peri_status peri_sampler_restore(peri_reader *r, const peri_sampler_vocab *v, int32_t n_tok,
                                 peri_sampler **out, peri_error *err) {
    const uint8_t *b;
    peri_sampling p;
    *out = NULL;
    (void)n_tok;
    peri_status st = peri_read_bytes(r, "sampling parameters", sizeof p, &b, err);
    if (st) return st;
    memcpy(&p, b, sizeof p);
    return peri_sampler_new(&p, v, out, err);
}

peri_status peri_sampler_pick(peri_sampler *me, const float *logits, const int32_t *tok,
                              int32_t n_tok, int32_t *id, peri_error *err) {
    const peri_sampling *s = &me->p;
    int32_t n_vocab = me->n_vocab;
    uint32_t position = (uint32_t)n_tok;
    peri_candidate *scratch = me->scratch;
    (void)tok;
    *id = argmax(logits, n_vocab);
    if (*id < 0 || isinf(logits[*id]))
        return peri_fail(err, PERI_E_OTHER, "the logits of position %u are not finite numbers",
                         position);
    if (s->temp <= 0) return PERI_OK;
    size_t k = s->top_k > 0 && s->top_k < n_vocab ? (size_t)s->top_k : (size_t)n_vocab;
    size_t n = take_top(logits, n_vocab, k, scratch);
    if (s->top_p > 0 && s->top_p < 1) n = cut_top_p(scratch, n, s->top_p);
    if (s->min_p > 0) n = cut_min_p(scratch, n, s->min_p);
    double scale = 1 / (double)s->temp;
    double target = peri_random(s->seed, s->stream, position, 0) * mass(scratch, n, scale), sum = 0;
    for (size_t i = 0; i < n; i++) {
        *id = scratch[i].id;
        sum += exp(scale * ((double)scratch[i].logit - scratch[0].logit));
        if (sum > target) break;
    }
    return PERI_OK;
}

const peri_sampling *peri_sampler_params(const peri_sampler *s) {
    return &s->p;
}

peri_sampling *peri_sampling_dup(const peri_sampling *p) {
    peri_sampling *c = peri_alloc(sizeof *c);
    if (c) *c = *p;
    return c;
}

void peri_logprobs(const float *logits, int32_t n_vocab, int32_t id, float *logprob,
                   peri_token_logprob *top, size_t n_top) {
    int32_t best = argmax(logits, n_vocab);
    double sum = 0;
    for (int32_t i = 0; i < n_vocab; i++)
        sum += exp((double)number(logits[i]) - logits[best]);
    if (logprob) *logprob = (float)((double)logits[id] - logits[best] - log(sum));
    for (size_t k = 0; k < n_top; k++) {
        int32_t pick = -1;
        for (int32_t i = 0; i < n_vocab; i++) {
            bool is_taken = false;
            for (size_t j = 0; j < k; j++)
                is_taken = is_taken || top[j].id == i;
            if (!is_taken && (pick < 0 || number(logits[i]) > number(logits[pick]))) pick = i;
        }
        top[k] =
            (peri_token_logprob){pick, (float)((double)logits[pick] - logits[best] - log(sum))};
    }
}
