/* SPDX-License-Identifier: MIT
 *
 * sampler_history.c - the links that look at the tokens before.
 *
 * penalties counts them; dry ("don't repeat yourself") punishes a token that would continue a
 * sequence which stands earlier in the text and at its end, more for longer sequences.  A breaker -
 * a text such as a newline - limits how far back a sequence may reach.  Sources: CTRL, Keskar et
 * al. 2019 (repeat penalty); DRY as in the peer 0.7.0, checked by tests/peer/samplers.py. */
#include <math.h>
#include <string.h>

#include "base/status.h"
#include "run/sampler_int.h"

#include "base/compiler.h"

/* The last `most` tokens (-1: all); *n of them. */
static const int32_t *window(const smp_pick *k, int32_t most, int32_t *n) {
    *n = most >= 0 && most < k->n_tok ? most : k->n_tok;
    return k->tok ? k->tok + (k->n_tok - *n) : NULL;
}

static bool is_known(const smp_pick *k, int32_t id) {
    return id >= 0 && id < k->x->n_vocab;
}

/* Change the logit of every candidate whose count is set, by f(count). */
typedef float (*change_fn)(const peri_sampling *p, float logit, int32_t count);

static void change(smp_pick *k, const int32_t *tok, int32_t n, change_fn f) {
    int32_t *count = k->x->count;
    if (k->is_dense) {
        for (int32_t i = 0; i < n; i++) {
            if (!is_known(k, tok[i]) || !count[tok[i]]) continue;
            smp_set_logit(k, tok[i], f(&k->s->p, smp_number(k->logits[tok[i]]), count[tok[i]]));
            count[tok[i]] = 0;
        }
        return;
    }
    for (size_t i = 0; i < k->n; i++)
        if (count[k->c[i].id]) k->c[i].logit = f(&k->s->p, k->c[i].logit, count[k->c[i].id]);
    for (int32_t i = 0; i < n; i++)
        if (is_known(k, tok[i])) count[tok[i]] = 0;
    if (k->is_sorted) k->is_by_id = false;
    k->is_sorted = false;
}

static float penalise(const peri_sampling *p, float logit, int32_t count) {
    float repeat = p->repeat_penalty > 0 ? p->repeat_penalty : 1;
    logit = logit <= 0 ? logit * repeat : logit / repeat;
    return logit - ((float)count * p->frequency_penalty + p->presence_penalty);
}

void smp_penalties(smp_pick *k) {
    int32_t n;
    const int32_t *tok = window(k, k->s->p.repeat_last_n, &n);
    for (int32_t i = 0; i < n; i++)
        if (is_known(k, tok[i])) k->x->count[tok[i]]++;
    change(k, tok, n, penalise);
}

/* ---- dry ---------------------------------------------------------------------------------------
 */

/* The breakers whose head is id: h->breaker[*first .. *first + returned). */
static size_t breakers_of(const smp_shared *h, int32_t id, size_t *first) {
    size_t lo = 0, hi = h->n_breaker, n = 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (h->breaker[mid].head < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    *first = lo;
    while (lo + n < h->n_breaker && h->breaker[lo + n].head == id)
        n++;
    return n;
}

/* Tokens from the end of tok[n] back to the last breaker: no repeated sequence reaches over it. */
static int32_t reach(const smp_shared *h, const int32_t *tok, int32_t n) {
    for (int32_t back = 0; back < n; back++) {
        const int32_t *at = tok + (n - 1 - back);
        int32_t longest = -1;
        size_t first, some = breakers_of(h, *at, &first);
        for (size_t i = 0; i < some; i++) {
            const smp_breaker *b = &h->breaker[first + i];
            int32_t size = (int32_t)b->n_tail;
            if (size > longest && size <= back &&
                (!size || memcmp(at + 1, h->tail + b->off, b->n_tail * sizeof *h->tail) == 0))
                longest = size;
        }
        if (longest >= 0) return back - longest;
    }
    return n;
}

/* A sequence that ends the text also ends `from the end` at j: so many tokens, at most limit.
 * z[j] for j in 1 .. n - 1 over the reversed text (the Z algorithm, Gusfield 1997): O(n). */
static void repeats(const int32_t *tok, int32_t n, int32_t limit, int32_t *z) {
    int32_t left = 0, right = 0; /* the box: tokens left .. right - 1 match the beginning */
    for (int32_t j = 1; j < n; j++) {
        int32_t m = j < right ? (z[j - left] < right - j ? z[j - left] : right - j) : 0;
        while (j + m < n && tok[n - 1 - m] == tok[n - 1 - j - m])
            m++;
        z[j] = m;
        if (j + m > right) {
            left = j;
            right = j + m;
        }
    }
    for (int32_t j = 1; j < n; j++)
        if (z[j] > limit) z[j] = limit;
}

/* count holds the length of the longest repeat a token would continue, plus 1. */
static float punish(const peri_sampling *p, float logit, int32_t count) {
    const double most = 88.7228391 / log((double)p->dry_base); /* log of the largest float */
    double power = (double)(count - 1 - p->dry_allowed_length);
    if (p->dry_base > 1.000001f && power > floor(most)) power = floor(most);
    return logit - (float)((double)p->dry_multiplier * pow((double)p->dry_base, power));
}

static bool breaks_alone(const smp_shared *h, int32_t id) {
    size_t first, n = breakers_of(h, id, &first);
    for (size_t i = 0; i < n; i++)
        if (h->breaker[first + i].n_tail == 0) return true;
    return false;
}

void smp_dry(smp_pick *k) {
    const peri_sampling *p = &k->s->p;
    int32_t n, *count = k->x->count, *z = k->s->z;
    const int32_t *tok = window(k, p->dry_penalty_last_n, &n);
    if (n > k->s->n_z) { /* longer than the context the sampler was made for */
        tok += n - k->s->n_z;
        n = k->s->n_z;
    }
    if (n <= p->dry_allowed_length) return;
    int32_t limit = reach(k->s->shared, tok, n);
    if (limit < p->dry_allowed_length) return;
    repeats(tok, n, limit, z);
    for (int32_t j = 1; j < n; j++) {
        int32_t next = tok[n - j]; /* follows the repeat that ends j tokens before the end */
        if (z[j] < p->dry_allowed_length || !is_known(k, next)) continue;
        if (count[next] <= z[j] && !breaks_alone(k->s->shared, next)) count[next] = z[j] + 1;
    }
    change(k, tok, n, punish);
}

/* ---- breakers ----------------------------------------------------------------------------------
 */

static const char *const usual_breakers[] = {"\n", ":", "\"", "*"};
enum { MAX_BREAKER_BYTES = 40, MAX_TAIL = 20 };

typedef struct maker {
    smp_shared *h;
    size_t breaker_room, tail_room;
} maker;

static bool grow(void **at, size_t *room, size_t n, size_t size) {
    if (n <= *room) return true;
    size_t more = n + *room + 16;
    void *grown = peri_resize_array(*at, more, size);
    if (!grown) return false;
    *at = grown;
    *room = more;
    return true;
}

static bool has_breaker(const smp_shared *h, size_t from, const int32_t *tail, size_t n) {
    for (size_t i = from; i < h->n_breaker; i++)
        if (h->breaker[i].n_tail == n &&
            (!n || memcmp(h->tail + h->breaker[i].off, tail, n * sizeof *tail) == 0))
            return true;
    return false;
}

/* from: where the breakers of this head begin. */
static peri_status add_breaker(maker *m, size_t from, int32_t head, const int32_t *tail, size_t n,
                               peri_error *err) {
    smp_shared *h = m->h;
    if (has_breaker(h, from, tail, n)) return PERI_OK;
    void *b = h->breaker, *t = h->tail;
    bool ok = grow(&b, &m->breaker_room, h->n_breaker + 1, sizeof *h->breaker);
    h->breaker = b;
    ok = ok && grow(&t, &m->tail_room, h->n_tail + n, sizeof *h->tail);
    h->tail = t;
    if (!ok) return peri_fail(err, PERI_E_NOMEM, "out of memory for sequence breakers");
    if (n) memcpy(h->tail + h->n_tail, tail, n * sizeof *tail);
    h->breaker[h->n_breaker++] = (smp_breaker){head, (uint32_t)h->n_tail, (uint32_t)n};
    h->n_tail += n;
    return PERI_OK;
}

/* word is the text of token id: where s begins inside it and goes on beyond its end, the rest of s
 * as tokens is a tail. */
static peri_status add_overlaps(maker *m, size_t from, int32_t id, peri_str word, peri_str s,
                                peri_error *err) {
    const peri_tokenize_options o = {.size = sizeof o};
    peri_status st = PERI_OK;
    for (size_t at = 0; at < word.size && !st; at++) {
        size_t n = word.size - at; /* fewer than s has, or all of s were inside */
        int32_t *tail;
        size_t n_tail;
        if (n >= s.size || memcmp(word.data + at, s.data, n) != 0) continue;
        st = peri_tokenize(m->h->v.tokenizer, (peri_str){s.data + n, s.size - n}, &o, &tail,
                           &n_tail, err);
        if (st) return st;
        st = add_breaker(m, from, id, tail, n_tail < MAX_TAIL ? n_tail : MAX_TAIL, err);
        peri_free(tail);
    }
    return st;
}

static bool has_inside(peri_str word, peri_str s) {
    for (size_t at = 0; at + s.size <= word.size; at++)
        if (memcmp(word.data + at, s.data, s.size) == 0) return true;
    return false;
}

peri_status smp_breakers_new(smp_shared *h, peri_error *err) {
    const char *const *text = h->p->breaker ? h->p->breaker : usual_breakers;
    size_t n_text =
        h->p->breaker ? h->p->n_breaker : sizeof usual_breakers / sizeof *usual_breakers;
    maker m = {.h = h};
    peri_text word = {0};
    peri_status st = PERI_OK;
    int32_t n_vocab = h->v.tokenizer && n_text ? peri_tokenizer_n_vocab(h->v.tokenizer) : 0;
    for (int32_t id = 0; id < n_vocab && !st; id++) {
        size_t from = h->n_breaker;
        word.size = 0;
        st = peri_detokenize(h->v.tokenizer, &id, 1, true, &word, err);
        if (!st && word.failed) st = peri_fail(err, PERI_E_NOMEM, "out of memory for a token");
        for (size_t i = 0; i < n_text && !st; i++) {
            peri_str s = peri_str_of(text[i]), w = {word.data, word.size};
            if (s.size > MAX_BREAKER_BYTES) s.size = MAX_BREAKER_BYTES;
            if (!s.size || !w.size) continue;
            st = has_inside(w, s) ? add_breaker(&m, from, id, NULL, 0, err)
                                  : add_overlaps(&m, from, id, w, s, err);
        }
    }
    peri_text_fini(&word);
    return st;
}
