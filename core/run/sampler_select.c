/* SPDX-License-Identifier: MIT
 *
 * sampler_select.c - the end of the chain: one of the survivors.
 *
 * The plain draw, or a link that chooses itself and remembers: mirostat holds the surprise of the
 * text at tau bits by moving a bound mu; adaptive_p reshapes the distribution around a target that
 * makes up for the probabilities of what was chosen before.  What they remember for the pick at
 * position n is a record made by the pick before it; records are right for one history only, which
 * is kept beside them and compared, so a rewound or differently continued text never sees those of
 * another.  Sources: mirostat Basu et al. 2021, algorithms 1 and 2; adaptive_p the peer 0.7.0. */
#include <math.h>
#include <string.h>

#include "run/rng.h"
#include "run/sampler_int.h"

#include "base/compiler.h"

enum { DRAW_INDEX = 0 }; /* of the random number; xtc has those from 1 on */

/* ---- records --------------------------------------------------------------------------------- */

static bool has_link(const peri_sampling *p, peri_link link) {
    for (int i = 0; i < p->n_order; i++)
        if (p->order[i] == link) return true;
    return false;
}

static bool is_adaptive(const peri_sampling *p) {
    return !p->mirostat && p->adaptive_target >= 0 && has_link(p, PERI_LINK_ADAPTIVE_P);
}

bool smp_has_records(const peri_sampling *p) {
    return p->mirostat || is_adaptive(p) || p->n_policy;
}

void smp_match_history(peri_sampler *s, const int32_t *tok, int32_t n_tok) {
    int32_t n = n_tok < s->n_seen ? n_tok : s->n_seen, same = 0;
    if (n && memcmp(s->seen, tok, (size_t)n * sizeof *tok) == 0)
        same = n;
    else
        while (same < n && s->seen[same] == tok[same])
            same++;
    int32_t valid = same < n ? same : n_tok;
    while (s->n_record && s->record[s->n_record - 1].n_tok > valid)
        s->n_record--;
    smp_kept_trim(&s->kept, valid);
    memcpy(s->seen + same, tok + same, (size_t)(n_tok - same) * sizeof *tok);
    s->n_seen = n_tok;
}

/* What the pick at n_tok starts from. */
static smp_record state(const peri_sampler *s) {
    const peri_sampling *p = &s->p;
    if (s->n_record) return s->record[s->n_record - 1];
    if (p->mirostat) return (smp_record){.a = 2 * p->mirostat_tau};
    float total = 1 / (1 - p->adaptive_decay);
    return (smp_record){.a = p->adaptive_target * total, .b = total};
}

static void remember(smp_pick *k, int32_t id, float a, float b) {
    peri_sampler *s = k->s;
    s->record[s->n_record++] = (smp_record){k->n_tok + 1, a, b};
    s->seen[s->n_seen++] = id;
}

/* ---- choosing -------------------------------------------------------------------------------- */

static size_t draw(const smp_pick *k) {
    const peri_sampling *p = &k->s->p;
    double sum = 0, run = 0;
    size_t last = 0;
    for (size_t i = 0; i < k->n; i++)
        sum += (double)k->c[i].p;
    double target = peri_random(p->seed, p->stream, (uint32_t)k->n_tok, DRAW_INDEX) * sum;
    for (size_t i = 0; i < k->n; i++) {
        if (!(k->c[i].p > 0)) continue;
        last = i;
        run += (double)k->c[i].p;
        if (run > target) break;
    }
    return last;
}

/* Zipf exponent of the head by least squares over at most 100 candidates, and from it how many
 * hold a surprise of mu: k = (e 2^mu / (1 - N^-e))^(1/s) with e = s - 1. */
static size_t mirostat_count(const smp_pick *k, float mu) {
    enum { M = 100 };
    double tb = 0, tt = 0;
    for (size_t i = 0; i + 1 < k->n && i + 1 < M && k->c[i + 1].logit > -INFINITY; i++) {
        double t = log((double)(i + 2) / (double)(i + 1));
        tb += t * ((double)k->c[i].logit - (double)k->c[i + 1].logit);
        tt += t * t;
    }
    if (tt == 0) return 1;
    double s = tb / tt, e = s - 1, n_vocab = k->x->n_vocab;
    double share = fabs(e) < 1e-9 ? 1 / log(n_vocab) : e / (1 - pow(n_vocab, -e));
    double count = s > 0 ? pow(share * exp2((double)mu), 1 / s) : INFINITY;
    if (!(count < (double)k->n)) return k->n;
    return count < 1 ? 1 : (size_t)count;
}

static size_t select_mirostat(smp_pick *k) {
    const peri_sampling *p = &k->s->p;
    float mu = state(k->s).a;
    smp_sort(k);
    smp_softmax(k);
    if (p->mirostat == 1) {
        k->n = mirostat_count(k, mu);
    } else {
        size_t n = 1;
        while (n < k->n && !(-log2f(k->c[n].p) > mu))
            n++;
        k->n = n;
    }
    smp_softmax(k);
    size_t at = draw(k);
    float surprise = -log2f(k->c[at].p);
    remember(k, k->c[at].id, mu - p->mirostat_eta * (surprise - p->mirostat_tau), 0);
    return at;
}

/* Logits become 5 - 10 d^2 / (1 + d), d = |p - target| / 0.3: quadratic near the target, linear far
 * from it. */
static size_t select_adaptive(smp_pick *k) {
    const peri_sampling *p = &k->s->p;
    smp_record r = state(k->s);
    smp_softmax(k);
    float aim = 2 * p->adaptive_target - r.a / r.b;
    aim = aim < 0 ? 0 : aim > 1 ? 1 : aim;
    double top = -INFINITY, sum = 0;
    float *was = k->x->work; /* the probabilities before */
    for (size_t i = 0; i < k->n; i++) {
        double d = fabs((double)k->c[i].p - (double)aim) / 0.3;
        was[i] = k->c[i].p;
        if (k->c[i].logit > -INFINITY) k->c[i].logit = (float)(5 - 10 * d * d / (1 + d));
        if ((double)k->c[i].logit > top) top = (double)k->c[i].logit;
    }
    for (size_t i = 0; i < k->n; i++) {
        k->c[i].p = (float)exp((double)k->c[i].logit - top);
        sum += (double)k->c[i].p;
    }
    for (size_t i = 0; i < k->n; i++)
        k->c[i].p = (float)((double)k->c[i].p / sum);
    k->is_sorted = k->is_by_id = false;
    size_t at = draw(k);
    remember(k, k->c[at].id, was[at] + p->adaptive_decay * r.a, 1 + p->adaptive_decay * r.b);
    return at;
}

size_t smp_select(smp_pick *k) {
    if (k->s->p.mirostat) return select_mirostat(k);
    if (is_adaptive(&k->s->p)) return select_adaptive(k);
    smp_softmax(k);
    return draw(k);
}
