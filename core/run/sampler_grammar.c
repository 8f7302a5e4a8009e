/* SPDX-License-Identifier: MIT
 *
 * sampler_grammar.c - the link `grammar`: which tokens the grammar allows after what was chosen.
 *
 * Where a constrained text begins.  The sampler remembers which tokens it chose itself.  A text
 * begins behind the last token that it did not choose - the end of a prompt, what a tool answered -
 * and goes on over everything chosen since.  So the state is a function of the tokens and of who
 * chose them, and rewinding needs no call: it is found again by reading the text once more.
 *
 * What is made for a grammar - states, masks - is kept with the scratch, where all samplers of the
 * same grammar share it, and some that nobody uses now are kept for later. */
#include <string.h>

#include "base/status.h"
#include "run/sampler_int.h"

#include "base/compiler.h"

enum {
    MATCHER_BYTES = 48 << 20, /* states are forgotten above this */
    MAX_IDLE = 8              /* grammars kept that no sampler uses */
};

/* ---- grammars of a scratch ------------------------------------------------------------------- */

static void free_entry(smp_grammar *e) {
    peri_masks_free(e->masks);
    peri_matcher_free(e->matcher);
    peri_free(e->key);
    peri_free(e);
}

void smp_grammars_free(peri_sampler_scratch *x) {
    while (x->grammar) {
        smp_grammar *gone = x->grammar;
        x->grammar = gone->next;
        free_entry(gone);
    }
    peri_token_tree_free(x->tree);
    peri_token_table_free(x->table);
}

static bool is_same(const peri_sampling *a, const peri_sampling *b) {
    if (a->grammar.size != b->grammar.size || a->n_trigger != b->n_trigger ||
        memcmp(a->grammar.data, b->grammar.data, a->grammar.size) != 0)
        return false;
    for (size_t i = 0; i < a->n_trigger; i++)
        if (strcmp(a->trigger[i], b->trigger[i]) != 0) return false;
    return true;
}

/* The oldest of those nobody uses go; the newest stand first. */
static void drop_idle(peri_sampler_scratch *x) {
    int n = 0;
    for (smp_grammar **at = &x->grammar; *at;) {
        smp_grammar *e = *at;
        if (e->refs || ++n <= MAX_IDLE) {
            at = &e->next;
            continue;
        }
        *at = e->next;
        free_entry(e);
    }
}

static peri_status vocabulary(peri_sampler_scratch *x, const peri_sampler_vocab *v,
                              peri_error *err) {
    peri_status st = PERI_OK;
    if (!v->table && !x->table) st = peri_token_table_new(v->tokenizer, &x->table, err);
    if (!st && !x->tree) st = peri_token_tree_new(v->table ? v->table : x->table, &x->tree, err);
    return st;
}

/* Triggers that are a control token: it has no text, so its id is looked for. */
static void find_trigger_ids(smp_grammar *e, const peri_tokenizer *t, const peri_sampling *p) {
    for (size_t i = 0; i < p->n_trigger && i < PERI_GRAMMAR_TRIGGERS; i++) {
        int32_t id = peri_token_find(t, peri_str_of(p->trigger[i]));
        if (id >= 0 && peri_token_type(t, id) == PERI_TOK_CONTROL)
            e->trigger_id[e->n_trigger_id++] = id;
    }
}

static peri_status new_entry(peri_sampler_scratch *x, const peri_sampling *p,
                             const peri_sampler_vocab *v, smp_grammar **out, peri_error *err) {
    peri_grammar *g = NULL;
    smp_grammar *e = peri_calloc(1, sizeof *e);
    if (!e || !(e->key = peri_sampling_dup(p))) {
        peri_free(e);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a grammar");
    }
    peri_status st = vocabulary(x, v, err);
    if (!st) st = peri_grammar_new(p->grammar, &g, err);
    if (!st) st = peri_matcher_new(g, p->trigger, p->n_trigger, &e->matcher, err);
    if (!st) st = peri_masks_new(e->matcher, x->tree, &e->masks, err);
    peri_grammar_free(g);
    if (st) {
        free_entry(e);
        return st;
    }
    find_trigger_ids(e, v->tokenizer, p);
    *out = e;
    return PERI_OK;
}

peri_status smp_grammar_open(peri_sampler *s, peri_error *err) {
    const smp_shared *h = s->shared;
    smp_grammar **at = &s->x->grammar, *e;
    if (!h->v.tokenizer)
        return peri_fail(err, PERI_E_UNSUPPORTED, "the sampler grammar needs a tokenizer");
    while (*at && !is_same((*at)->key, h->p))
        at = &(*at)->next;
    if ((e = *at)) {
        *at = e->next;
    } else {
        peri_status st = new_entry(s->x, h->p, &h->v, &e, err);
        if (st) return st;
    }
    e->next = s->x->grammar;
    s->x->grammar = e;
    e->refs++;
    s->grammar = e;
    drop_idle(s->x);
    int32_t room = (h->v.n_ctx > 0 ? h->v.n_ctx : 0) + 2;
    s->text.tok = peri_alloc_array((size_t)room, sizeof *s->text.tok);
    s->text.from = peri_alloc_array((size_t)room, sizeof *s->text.from);
    s->text.room = room;
    return s->text.tok && s->text.from
               ? PERI_OK
               : peri_fail(err, PERI_E_NOMEM, "out of memory for a sampler");
}

void smp_grammar_close(peri_sampler *s) {
    if (s->grammar) s->grammar->refs--;
    peri_free(s->text.tok);
    peri_free(s->text.from);
}

void smp_grammar_copy(const peri_sampler *from, int32_t n_tok, peri_sampler *to) {
    int32_t n = from->text.n < n_tok ? from->text.n : n_tok;
    if (!from->grammar || n <= 0) return;
    memcpy(to->text.tok, from->text.tok, (size_t)n * sizeof *to->text.tok);
    memcpy(to->text.from, from->text.from, (size_t)n * sizeof *to->text.from);
    to->text.n = n;
}

/* ---- where the text stands ------------------------------------------------------------------- */

/* Bring what is remembered up to tok[n_tok]; returns how many tokens are as they were. */
static int32_t match(smp_text *t, const int32_t *tok, int32_t n_tok) {
    int32_t n = t->n < n_tok ? t->n : n_tok, same = 0;
    while (same < n && t->tok[same] == tok[same])
        same++;
    for (int32_t i = same; i < n_tok; i++) {
        t->tok[i] = tok[i];
        t->from[i] = -1;
    }
    t->n = n_tok;
    return same;
}

static peri_status read_token(const peri_sampler *s, int32_t id, peri_match *state,
                              peri_error *err) {
    const smp_grammar *g = s->grammar;
    const peri_token_table *t = s->shared->v.table ? s->shared->v.table : s->x->table;
    for (size_t i = 0; i < g->n_trigger_id && peri_match_is_waiting(*state); i++)
        if (g->trigger_id[i] == id) return peri_matcher_arm(g->matcher, state, err);
    if (peri_token_is_eog(s->shared->v.tokenizer, id)) return PERI_OK;
    peri_str text = peri_token_table_text(t, id);
    return peri_matcher_feed(g->matcher, state, text.data, text.size, err);
}

/* The state before position n_tok. */
static peri_status find_state(smp_pick *k, peri_match *out, peri_error *err) {
    peri_sampler *s = k->s;
    smp_text *t = &s->text;
    peri_matcher *m = s->grammar->matcher;
    peri_status st = PERI_OK;
    if (k->n_tok > t->room - 2)
        return peri_fail(err, PERI_E_RANGE, "position %d, the context holds %d tokens", k->n_tok,
                         t->room - 2);
    int32_t same = match(t, k->tok, k->n_tok);
    int32_t from = k->n_tok && t->from[k->n_tok - 1] >= 0 ? t->from[k->n_tok - 1] : k->n_tok;
    peri_matcher_tidy(m, MATCHER_BYTES);
    bool goes_on = t->age == peri_matcher_age(m) && t->is_known && t->known_from == from &&
                   t->at <= k->n_tok && t->at <= same;
    t->is_known = false;
    if (!goes_on) {
        t->at = from;
        st = peri_matcher_start(m, &t->state, err);
    }
    for (; t->at < k->n_tok && !st; t->at++)
        st = read_token(s, k->tok[t->at], &t->state, err);
    if (st) return st;
    t->is_known = true;
    t->known_from = from;
    t->age = peri_matcher_age(m);
    *out = t->state;
    if (t->state != PERI_MATCH_DEAD) return PERI_OK;
    return peri_fail(err, PERI_E_INVALID, "the text before position %d is not of the grammar",
                     k->n_tok);
}

void smp_grammar_chose(peri_sampler *s, int32_t n_tok, int32_t id) {
    smp_text *t = &s->text;
    if (!s->grammar || t->n != n_tok) return;
    t->tok[n_tok] = id;
    t->from[n_tok] = t->known_from;
    t->n = n_tok + 1;
}

/* ---- the link -------------------------------------------------------------------------------- */

static void gather_list(smp_pick *k, const peri_token_mask *m) {
    k->n = 0;
    for (uint32_t i = 0; i < m->n; i++)
        k->c[k->n++] = (peri_candidate){smp_number(k->logits[m->id[i]]), 0, m->id[i]};
    k->is_dense = k->is_sorted = false;
    k->is_by_id = true;
}

static void ban_bits(smp_pick *k, const peri_token_mask *m) {
    float *logits = smp_own_logits(k);
    for (int32_t i = 0; i < k->x->n_vocab; i += 32) {
        uint32_t out = ~m->bit[i / 32];
        for (; out; out &= out - 1) {
            int32_t id = i + __builtin_ctz(out);
            if (id < k->x->n_vocab) logits[id] = -__builtin_inff();
        }
    }
}

static bool is_allowed(const peri_token_mask *m, int32_t id) {
    if (m->bit) return m->bit[id / 32] >> id % 32 & 1;
    uint32_t lo = 0, hi = m->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (m->id[mid] < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < m->n && m->id[lo] == id;
}

static void filter(smp_pick *k, const peri_token_mask *m) {
    size_t n = 0;
    for (size_t i = 0; i < k->n; i++)
        if (is_allowed(m, k->c[i].id)) k->c[n++] = k->c[i];
    k->n = n;
}

void smp_grammar_link(smp_pick *k) {
    peri_match state;
    peri_token_mask m;
    size_t before = k->n;
    k->st = find_state(k, &state, k->err);
    if (!k->st) k->st = peri_masks_get(k->s->grammar->masks, state, &m, k->err);
    if (k->st) return;
    if (!k->is_dense)
        filter(k, &m);
    else if (m.bit)
        ban_bits(k, &m);
    else
        gather_list(k, &m);
    if (m.n && (k->n || !before)) return;
    k->st = peri_fail(k->err, PERI_E_INVALID,
                      m.n ? "grammar: the samplers before it left no token that it allows at "
                            "position %d"
                      : m.may_end
                          ? "grammar: the text is complete at position %d, and the vocabulary has "
                            "no token to end it"
                          : "grammar: no token of the vocabulary can go on at position %d",
                      k->n_tok);
}
