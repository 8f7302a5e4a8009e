/* SPDX-License-Identifier: MIT
 *
 * sampler_link.c - the links that cut the list of candidates or scale its logits.
 *
 * A cut candidate is gone, except in top_n_sigma and at temperature 0, where its logit becomes
 * minus infinity and it still counts in what depends on the length of the list, as in the peer.
 * Sources: top_p Holtzman et al. 2020; typical Meister et al. 2022; min_p Nguyen et al. 2024;
 * top_n_sigma Tang et al. 2024; the formulas' details and edge cases: the peer 0.7.0,
 * tests/peer/samplers.py.
 */
#include <math.h>
#include <string.h>

#include "run/rng.h"
#include "run/sampler_int.h"

#include "base/compiler.h"

static size_t min_keep(const smp_pick *k) {
    return (size_t)k->s->p.min_keep;
}

void smp_top_k(smp_pick *k) {
    smp_top(k, (size_t)k->s->p.top_k);
}

/* Length of the shortest head of c[n] whose sum of p reaches `limit`, at least `least`; n + 1 when
 * it does not. */
static size_t head_reaching(const peri_candidate *c, size_t n, float limit, size_t least) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)c[i].p;
        if (sum >= (double)limit && i + 1 >= least) return i + 1;
    }
    return n + 1;
}

/* In a long list the head that matters is mostly short: it is tried before everything is sorted. */
void smp_top_p(smp_pick *k) {
    enum { TRY = 256, LONG_LIST = 1024 };
    float limit = k->s->p.top_p;
    smp_softmax(k);
    if (!k->is_sorted && k->n > LONG_LIST) {
        peri_candidate *other = k->c == k->x->aux ? k->x->c : k->x->aux;
        smp_head(k->c, k->n, other, TRY);
        size_t n = head_reaching(other, TRY, limit, min_keep(k));
        if (n <= TRY) {
            k->c = other;
            k->n = n;
            k->is_sorted = true;
            k->is_by_id = false;
            return;
        }
    }
    smp_sort(k);
    size_t n = head_reaching(k->c, k->n, limit, min_keep(k));
    if (n < k->n) k->n = n;
}

/* p_i >= min_p * p_max, as logits. */
void smp_min_p(smp_pick *k) {
    float least = smp_max(k) + logf(k->s->p.min_p);
    size_t n = 0, keep = min_keep(k) < k->n ? min_keep(k) : k->n;
    for (size_t i = 0; i < k->n; i++)
        n += (k->is_dense ? k->logits[i] : k->c[i].logit) >= least;
    if (n < keep) {
        smp_top(k, keep);
        return;
    }
    if (k->is_sorted) {
        k->n = n ? n : 1;
        return;
    }
    n = 0;
    for (size_t i = 0; i < k->n; i++) {
        peri_candidate x = k->is_dense ? (peri_candidate){k->logits[i], 0, (int32_t)i} : k->c[i];
        if (x.logit >= least) k->c[n++] = x;
    }
    if (k->is_dense) k->is_by_id = true;
    k->is_dense = false;
    k->n = n;
}

/* Sum of -p log p; what has no probability adds nothing. */
static double entropy(const peri_candidate *c, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        if (c[i].p > 0) sum -= (double)c[i].p * log((double)c[i].p);
    return sum;
}

/* Candidates by rising distance |-log p - entropy|, cut when the sum of p exceeds typical_p; what
 * is kept stays in the order of logits.  The list moves through work (logits) and count (ids), so
 * that both lists of candidates serve the sort. */
void smp_typical(smp_pick *k) {
    smp_sort(k);
    smp_softmax(k);
    peri_candidate *c = k->c, *by = c == k->x->aux ? k->x->c : k->x->aux;
    float *logit = k->x->work;
    int32_t *id = k->x->count;
    double h = entropy(c, k->n), sum = 0;
    for (size_t i = 0; i < k->n; i++) {
        double far = c[i].p > 0 ? fabs(-log((double)c[i].p) - h) : INFINITY;
        logit[i] = c[i].logit;
        id[i] = c[i].id;
        by[i] = (peri_candidate){(float)-far, c[i].p, (int32_t)i};
    }
    size_t all = k->n;
    smp_sort_range(by, c, all, true);
    for (size_t i = 0; i < all; i++) {
        sum += (double)by[i].p;
        if (sum > (double)k->s->p.typical_p && i + 1 >= min_keep(k)) {
            k->n = i + 1;
            break;
        }
    }
    smp_sort_ids(by, c, k->n);
    for (size_t i = 0; i < k->n; i++)
        c[i] = (peri_candidate){logit[by[i].id], by[i].p, id[by[i].id]};
    memset(id, 0, all * sizeof *id);
}

/* Logits below max - n * (standard deviation of the finite ones) become minus infinity. */
void smp_top_n_sigma(smp_pick *k) {
    double sum = 0, square = 0;
    size_t n = 0;
    if (k->n <= 1) return;
    smp_gather(k);
    for (size_t i = 0; i < k->n; i++)
        if (k->c[i].logit > -INFINITY) {
            sum += (double)k->c[i].logit;
            n++;
        }
    double mean = n ? sum / (double)n : 0;
    for (size_t i = 0; i < k->n; i++)
        if (k->c[i].logit > -INFINITY)
            square += ((double)k->c[i].logit - mean) * ((double)k->c[i].logit - mean);
    double sigma = n ? sqrt(square / (double)n) : 0;
    double least = (double)smp_max(k) - (double)k->s->p.top_n_sigma * sigma;
    for (size_t i = 0; i < k->n; i++)
        if ((double)k->c[i].logit < least) k->c[i].logit = -INFINITY;
}

/* Exclude top choices: with the given chance all candidates of at least the threshold but the last
 * of them go.  Its random numbers have the indices from 1 on. */
void smp_xtc(smp_pick *k) {
    const peri_sampling *p = &k->s->p;
    size_t last = 0;
    uint32_t index = 1 + k->n_xtc++;
    if (k->n < 2) return;
    if (peri_random(p->seed, p->stream, (uint32_t)k->n_tok, index) >= (double)p->xtc_probability)
        return;
    smp_sort(k);
    smp_softmax(k);
    for (size_t i = 0; i < k->n && k->c[i].p >= p->xtc_threshold; i++)
        last = i;
    if (k->n - last < min_keep(k)) return;
    k->n -= last;
    memmove(k->c, k->c + last, k->n * sizeof *k->c);
}

static void scale(smp_pick *k, float temp) {
    size_t best = temp > 0 ? 0 : smp_best(k);
    for (size_t i = 0; i < k->n; i++) {
        if (temp > 0)
            k->c[i].logit /= temp;
        else if (i != best)
            k->c[i].logit = -INFINITY;
    }
}

/* Dynamic: between temp - range and temp + range by the entropy's share of the largest possible. */
void smp_temperature(smp_pick *k) {
    const peri_sampling *p = &k->s->p;
    smp_gather(k);
    if (p->dynatemp_range <= 0) {
        scale(k, p->temp);
        return;
    }
    if (k->n <= 1) return;
    float lo = p->temp > p->dynatemp_range ? p->temp - p->dynatemp_range : 0;
    float hi = p->temp + p->dynatemp_range;
    smp_softmax(k);
    double part = entropy(k->c, k->n) / log((double)k->n);
    scale(k, lo + (hi - lo) * (float)pow(part, (double)p->dynatemp_exponent));
}

/* ---- infill ------------------------------------------------------------------------------------
 * For text in the middle: end when the end is likely enough, merge tokens of which one is the
 * beginning of the other, drop what is unlikely.  Only p is merged; the draw uses the logits. */

static bool is_eog(const smp_pick *k, size_t i) {
    return peri_token_is_eog(k->s->shared->v.tokenizer, k->c[i].id);
}

/* Keep the end tokens and, when a least probability is given, what reaches it. */
static size_t keep_likely(smp_pick *k, float least, double *sum) {
    size_t n = 0, n_text = 0;
    *sum = 0;
    for (size_t i = 0; i < k->n; i++) {
        bool ends = is_eog(k, i);
        if (!ends && !(k->c[i].p >= least)) continue;
        n_text += !ends;
        *sum += (double)k->c[i].p;
        k->c[n++] = k->c[i];
    }
    k->n = n;
    return n_text;
}

static void merge_beginnings(smp_pick *k) {
    const peri_token_table *t = smp_table(k->s->shared);
    for (size_t a = 0; a < k->n; a++)
        for (size_t b = 0; b < k->n && k->c[a].logit > -INFINITY; b++) {
            if (a == b || k->c[b].logit == -INFINITY) continue;
            peri_str x = peri_token_table_text(t, k->c[a].id);
            peri_str y = peri_token_table_text(t, k->c[b].id);
            if (!x.size || x.size > y.size || memcmp(x.data, y.data, x.size) != 0) continue;
            size_t into = k->c[b].p > k->c[a].p ? b : a, from = into == a ? b : a;
            k->c[into].p += k->c[from].p;
            k->c[from].p = 0;
            k->c[from].logit = -INFINITY;
        }
}

void smp_infill(smp_pick *k) {
    enum { MOST = 1024 }; /* the work is quadratic; meant to come after top_k and top_p */
    double ends = 0, text = 0, sum;
    smp_sort(k);
    smp_softmax(k);
    if (k->n > MOST) k->n = MOST;
    for (size_t i = 0; i < k->n; i++)
        *(is_eog(k, i) ? &ends : &text) += (double)k->c[i].p;
    if (3 * ends * (double)k->n > text) {
        keep_likely(k, INFINITY, &sum);
        return;
    }
    merge_beginnings(k);
    size_t n_text = keep_likely(k, 0.2f, &sum);
    if (n_text == 0) {
        int32_t end = peri_tokenizer_eot(k->s->shared->v.tokenizer);
        if (end < 0) end = peri_tokenizer_eos(k->s->shared->v.tokenizer);
        k->n = end >= 0;
        k->c[0] = (peri_candidate){1, 1, end};
        return;
    }
    for (size_t i = 0; i < k->n && sum > 0; i++)
        k->c[i].p = (float)((double)k->c[i].p / sum);
    keep_likely(k, 1 / (float)(n_text + 1), &sum);
    k->is_sorted = false; /* merged ones at minus infinity may stand among the others */
}
