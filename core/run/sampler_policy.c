/* SPDX-License-Identifier: MIT
 *
 * sampler_policy.c - links written in scripts: what they see, and what they keep.
 *
 * What policies keep is a log of bytes, one entry for each position at which something changed,
 * beside the history of smp_match_history.  A pick at n_tok starts from the last entry up to n_tok
 * and adds one for n_tok + 1; picking again at the same position replaces it. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "run/rng.h"
#include "run/sampler_int.h"

#include "base/compiler.h"

enum { FIRST_DRAW = 1 << 20, DRAWS = 1 << 16 }; /* indices of random numbers, per policy */

/* ---- the log --------------------------------------------------------------------------------- */

void smp_kept_fini(smp_kept *s) {
    peri_free(s->at);
    peri_text_fini(&s->bytes);
    peri_text_fini(&s->now);
    *s = (smp_kept){0};
}

void smp_kept_trim(smp_kept *s, int32_t n_tok) {
    while (s->n && s->at[s->n - 1].n_tok > n_tok)
        s->n--;
    s->bytes.size = s->n ? s->at[s->n - 1].end : 0;
}

static peri_str last(const smp_kept *s) {
    if (!s->n) return (peri_str){NULL, 0};
    uint32_t from = s->n > 1 ? s->at[s->n - 2].end : 0;
    return (peri_str){s->bytes.data + from, s->at[s->n - 1].end - from};
}

peri_status smp_kept_add(smp_kept *s, int32_t n_tok, const void *data, size_t size,
                         peri_error *err) {
    if (s->bytes.size + size > PERI_POLICY_LOG)
        return peri_fail(err, PERI_E_POLICY_ERROR,
                         "sampling policy: what it kept over %zu positions takes more than %d MiB; "
                         "keep less in its state",
                         s->n, PERI_POLICY_LOG >> 20);
    if (s->n == s->room) {
        size_t room = 2 * s->room + 16;
        smp_kept_at *at = peri_resize_array(s->at, room, sizeof *at);
        if (!at) return peri_fail(err, PERI_E_NOMEM, "out of memory for the state of a policy");
        s->at = at;
        s->room = room;
    }
    peri_text_add(&s->bytes, data, size);
    if (s->bytes.failed) {
        s->bytes.failed = false;
        return peri_fail(err, PERI_E_NOMEM, "out of memory for the state of a policy");
    }
    s->at[s->n++] = (smp_kept_at){n_tok, (uint32_t)s->bytes.size};
    return PERI_OK;
}

peri_status smp_kept_copy(const smp_kept *from, int32_t n_tok, smp_kept *to, peri_error *err) {
    uint32_t begin = 0;
    for (size_t i = 0; i < from->n && from->at[i].n_tok <= n_tok; i++) {
        peri_status st = smp_kept_add(to, from->at[i].n_tok, from->bytes.data + begin,
                                      from->at[i].end - begin, err);
        if (st) return st;
        begin = from->at[i].end;
    }
    return PERI_OK;
}

static bool same_bytes(peri_str a, peri_str b) {
    return a.size == b.size && (!a.size || memcmp(a.data, b.data, a.size) == 0);
}

static bool same_policies(const peri_sampling *a, const peri_sampling *b) {
    if (a->n_policy != b->n_policy) return false;
    for (size_t i = 0; i < a->n_policy; i++)
        if (strcmp(a->policy[i].name, b->policy[i].name) != 0 ||
            !same_bytes(a->policy[i].text, b->policy[i].text) ||
            !same_bytes(a->policy[i].given, b->policy[i].given))
            return false;
    return true;
}

peri_status peri_sampler_carry(peri_sampler *s, const peri_sampler *from, peri_error *err) {
    if (!s->p.n_policy || !same_policies(&s->p, &from->p) || s->room != from->room) return PERI_OK;
    peri_status st = smp_kept_copy(&from->kept, from->n_seen, &s->kept, err);
    if (st) return st;
    memcpy(s->seen, from->seen, (size_t)from->n_seen * sizeof *s->seen);
    s->n_seen = from->n_seen;
    return PERI_OK;
}

/* Part i of an entry, data NULL when there is none. */
static peri_str part(peri_str entry, size_t i) {
    uint32_t size;
    for (size_t at = 0; at + sizeof size <= entry.size; at += size, i--) {
        memcpy(&size, entry.data + at, sizeof size);
        at += sizeof size;
        if (size > entry.size - at) break;
        if (i == 0) return (peri_str){entry.data + at, size};
    }
    return (peri_str){NULL, 0};
}

peri_status smp_keep(smp_pick *k, peri_error *err) {
    peri_sampler *s = k->s;
    smp_kept *kept = &s->kept;
    peri_str before = last(kept);
    if (kept->now.failed) {
        kept->now.failed = false;
        return peri_fail(err, PERI_E_NOMEM, "out of memory for the state of a policy");
    }
    if (before.data && before.size == kept->now.size &&
        memcmp(before.data, kept->now.data, before.size) == 0)
        return PERI_OK;
    return smp_kept_add(kept, k->n_tok + 1, kept->now.data, kept->now.size, err);
}

/* ---- a view ---------------------------------------------------------------------------------- */

void peri_view_softmax(peri_policy_view *v) {
    float top = -INFINITY;
    double sum = 0;
    if (v->has_p) return;
    for (size_t i = 0; i < v->n; i++)
        if (v->c[i].logit > top) top = v->c[i].logit;
    if (isinf(top)) top = 0;
    for (size_t i = 0; i < v->n; i++) {
        v->c[i].p = expf(v->c[i].logit - top);
        sum += (double)v->c[i].p;
    }
    for (size_t i = 0; i < v->n && sum > 0; i++)
        v->c[i].p = (float)((double)v->c[i].p / sum);
    v->has_p = true;
}

void peri_view_sort(peri_policy_view *v) {
    if (!v->is_sorted) smp_sort_range(v->c, v->spare, v->n, false);
    v->is_sorted = true;
}

double peri_view_random(peri_policy_view *v) {
    return peri_random(v->seed, v->stream, (uint32_t)v->n_tok,
                       v->first_draw + v->n_draw++ % (uint32_t)DRAWS);
}

/* ---- one policy ------------------------------------------------------------------------------ */

peri_status smp_policy(smp_pick *k, size_t i, peri_error *err) {
    peri_sampler *s = k->s;
    const smp_shared *h = s->shared;
    smp_kept *kept = &s->kept;
    if (i == 0) kept->now.size = 0;
    smp_sort(k);
    peri_policy_view v = {.c = k->c,
                          .n = k->n,
                          .is_sorted = true,
                          .tok = k->tok,
                          .n_tok = k->n_tok,
                          .n_vocab = k->x->n_vocab,
                          .other = s->other,
                          .spare = k->c == k->x->aux ? k->x->c : k->x->aux,
                          .tokenizer = h->v.tokenizer,
                          .seed = s->p.seed,
                          .stream = s->p.stream,
                          .first_draw = FIRST_DRAW + (uint32_t)i * DRAWS,
                          .kept = part(last(kept), i),
                          .left = &kept->now};
    uint32_t size = 0;
    size_t at = kept->now.size;
    peri_text_add(&kept->now, &size, sizeof size);
    peri_status st = h->v.host->run(h->v.host->user, h->policies, i, &v, err);
    if (st) return st;
    if (kept->now.failed) return smp_keep(k, err);
    size = (uint32_t)(kept->now.size - at - sizeof size);
    memcpy(kept->now.data + at, &size, sizeof size);
    k->n = v.n;
    k->is_sorted = v.is_sorted;
    k->is_by_id = false;
    return PERI_OK;
}
