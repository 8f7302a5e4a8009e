/* SPDX-License-Identifier: MIT
 *
 * session.c - sessions: their life, feeding and sampling, fork, mark and rewind.
 *
 * Their blocks are in session_kv.c, saving and loading in session_file.c. */
#include "run/session.h"

#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/status.h"
#include "run/rng.h"

#include "base/compiler.h"

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- life ------------------------------------------------------------------------------------ */

static peri_sampler_vocab vocab_of(const peri_session *s) {
    return (peri_sampler_vocab){.n_vocab = s->e->a->n_vocab,
                                .n_ctx = s->e->o.n_ctx,
                                .tokenizer = s->tokenizer,
                                .scratch = s->e->scratch,
                                .host = s->e->host};
}

/* Everything but the sampler. */
static peri_status new_session(peri_engine *e, const peri_tokenizer *t, peri_session **out,
                               peri_error *err) {
    *out = NULL;
    peri_session *s = peri_calloc(1, sizeof *s);
    if (!s) return peri_fail(err, PERI_E_NOMEM, "out of memory for a session");
    s->e = e;
    s->tokenizer = t;
    e->n_session++;
    s->room_block = peri_session_blocks(s, e->o.n_ctx);
    s->block = peri_alloc_array(s->room_block, sizeof *s->block);
    s->tok = peri_alloc_array((size_t)e->o.n_ctx, sizeof *s->tok);
    size_t n_vocab = (size_t)e->a->n_vocab;
    s->logits = peri_alloc_array(n_vocab + peri_n_peak(n_vocab), sizeof *s->logits);
    if (!s->block || !s->tok || !s->logits) {
        peri_session_free(s);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a session of %d tokens", e->o.n_ctx);
    }
    s->peak = s->logits + n_vocab;
    *out = s;
    return PERI_OK;
}

peri_status peri_session_open(peri_engine *e, const peri_tokenizer *t,
                              const peri_sampling *sampling, peri_session **out, peri_error *err) {
    static const peri_sampling greedy;
    peri_session *s;
    peri_status st = new_session(e, t, &s, err);
    *out = NULL;
    if (st) return st;
    st = peri_session_set_sampling(s, sampling ? sampling : &greedy, err);
    if (st) {
        peri_session_free(s);
        return st;
    }
    *out = s;
    return PERI_OK;
}

peri_status peri_session_set_sampling(peri_session *s, const peri_sampling *p, peri_error *err) {
    peri_sampler_vocab v = vocab_of(s);
    peri_sampler *fresh;
    peri_status st = peri_sampler_new(p, &v, &fresh, err);
    if (!st && s->sampler) st = peri_sampler_carry(fresh, s->sampler, err);
    if (st) {
        peri_sampler_free(fresh);
        return st;
    }
    peri_sampler_free(s->sampler);
    s->sampler = fresh;
    s->stream = p->stream;
    return PERI_OK;
}

peri_status peri_session_restore_sampler(peri_session *s, peri_reader *r, int32_t n_tok,
                                         peri_error *err) {
    peri_sampler_vocab v = vocab_of(s);
    peri_sampler *fresh;
    peri_status st = peri_sampler_restore(r, &v, n_tok, &fresh, err);
    if (st) return st;
    peri_sampler_free(s->sampler);
    s->sampler = fresh;
    return PERI_OK;
}

void peri_session_free(peri_session *s) {
    if (!s) return;
    while (s->n_block)
        peri_prefix_release(&s->e->blocks, s->block[--s->n_block]);
    for (peri_mark *m = s->mark; m; m = m->next)
        m->s = NULL;
    s->e->n_session--;
    peri_sampler_free(s->sampler);
    peri_free(s->block);
    peri_free(s->tok);
    peri_free(s->swapped);
    peri_free(s->logits);
    peri_free(s);
}

int32_t peri_session_n_tok(const peri_session *s) {
    return s->n_tok;
}

/* ---- feeding and sampling -------------------------------------------------------------------- */

peri_status peri_session_check(const peri_session *s, const int32_t *tok, size_t n_tok,
                               peri_error *err) {
    if (n_tok > (size_t)(s->e->o.n_ctx - s->n_tok))
        return peri_fail(err, PERI_E_RANGE,
                         "%zu tokens do not fit: the session holds %d of a context of %d", n_tok,
                         s->n_tok, s->e->o.n_ctx);
    for (size_t i = 0; i < n_tok; i++)
        if (tok[i] < 0 || tok[i] >= s->e->a->n_vocab)
            return peri_fail(err, PERI_E_RANGE, "token %zu: id %d is outside the vocabulary of %d",
                             i, tok[i], s->e->a->n_vocab);
    return PERI_OK;
}

peri_status peri_session_feed(peri_session *s, const int32_t *tok, size_t n_tok, peri_error *err) {
    if (!n_tok) return PERI_OK;
    int32_t before = s->n_tok;
    uint64_t start = now_ns();
    peri_status st = peri_session_check(s, tok, n_tok, err);
    if (st) return st;
    size_t n_known = peri_session_attach(s, tok, n_tok);
    if (n_known < n_tok) {
        const peri_step_feed f = {.s = s, .tok = tok + n_known, .n_tok = n_tok - n_known};
        st = peri_engine_step(s->e, &f, 1, 0, err);
    }
    if (st) {
        s->n_tok = before;
        peri_session_trim(s);
        return st;
    }
    s->n_fed = s->n_tok;
    s->stats.n_cached += n_known;
    s->stats.n_prompt += n_tok;
    s->stats.prompt_ns += now_ns() - start;
    return PERI_OK;
}

bool peri_session_is_predicted(const peri_session *s, bool want_row) {
    int32_t n = peri_sampler_top(s->sampler);
    return s->has_logits || (!want_row && n > 0 && n <= s->top.n);
}

void peri_session_unpredict(peri_session *s) {
    s->has_logits = false;
    s->top.n = 0;
}

peri_status peri_session_predict(peri_session *s, peri_error *err) {
    if (peri_session_is_predicted(s, false)) return PERI_OK;
    if (!s->n_tok) return peri_fail(err, PERI_E_INVALID, "nothing was fed to the session yet");
    const peri_step_feed f = {.s = s, .tok = &s->tok[s->n_tok - 1], .n_tok = 1, .is_again = true};
    return peri_engine_step(s->e, &f, 1, 0, err);
}

peri_status peri_session_sample(peri_session *s, int32_t *tok, peri_error *err) {
    *tok = -1;
    peri_status st = peri_session_predict(s, err);
    if (!st && s->has_logits)
        st = peri_sampler_pick_peaks(s->sampler, s->logits, s->has_peaks ? s->peak : NULL, s->tok,
                                     s->n_tok, tok, err);
    else if (!st)
        st = peri_sampler_pick_top(s->sampler, &s->top, s->tok, s->n_tok, tok, err);
    if (!st) s->stats.n_generated++;
    return st;
}

peri_status peri_session_detok(const peri_session *s, bool want_special, peri_detok *out,
                               peri_error *err) {
    enum { LOOK_BACK = 8 }; /* tokens; a character has at most three bytes before its last */
    int32_t first = s->n_tok > LOOK_BACK ? s->n_tok - LOOK_BACK : 0;
    peri_text text = {0};
    peri_status st = PERI_OK;
    peri_detok_init(out, s->tokenizer, want_special);
    out->started = s->n_tok > 0;
    for (int32_t i = first; i < s->n_tok && !st; i++)
        st = peri_detok_feed(out, s->tok[i], &text, err);
    peri_text_fini(&text);
    return st;
}

/* ---- fork, mark, rewind ---------------------------------------------------------------------- */

peri_status peri_session_fork(peri_session *s, peri_session **out, peri_error *err) {
    peri_session *c;
    peri_status st = new_session(s->e, s->tokenizer, &c, err);
    *out = NULL;
    if (st) return st;
    c->stream = peri_stream_child(s->stream, s->n_child + 1);
    st = peri_sampler_clone(s->sampler, c->stream, s->n_tok, &c->sampler, err);
    if (st) {
        peri_session_free(c);
        return st;
    }
    s->n_child++;
    c->want_special = s->want_special;
    c->n_foreign = s->n_foreign;
    c->n_tok = s->n_tok;
    c->n_fed = s->n_fed;
    c->n_block = peri_session_blocks(s, s->n_tok);
    memcpy(c->tok, s->tok, (size_t)s->n_tok * sizeof *s->tok);
    for (uint32_t i = 0; i < c->n_block; i++) {
        c->block[i] = s->block[i];
        peri_prefix_hold(&s->e->blocks, s->block[i]);
    }
    c->has_logits = s->has_logits;
    c->top = s->top;
    if (s->has_logits) memcpy(c->logits, s->logits, (size_t)s->e->a->n_vocab * sizeof *s->logits);
    *out = c;
    return PERI_OK;
}

peri_status peri_session_mark(peri_session *s, peri_mark **out, peri_error *err) {
    size_t n = s->has_logits ? (size_t)s->e->a->n_vocab * sizeof *s->logits : 0;
    peri_mark *m = peri_alloc(sizeof *m + n);
    *out = m;
    if (!m) return peri_fail(err, PERI_E_NOMEM, "out of memory for a mark");
    *m = (peri_mark){
        .s = s, .next = s->mark, .n_tok = s->n_tok, .n_rewound = -1, .has_logits = s->has_logits};
    m->top = s->top;
    memcpy(m->logits, s->logits, n);
    if (s->mark) s->mark->prev = m;
    s->mark = m;
    return PERI_OK;
}

void peri_mark_free(peri_mark *m) {
    if (!m) return;
    if (m->s) {
        if (m->prev)
            m->prev->next = m->next;
        else
            m->s->mark = m->next;
        if (m->next) m->next->prev = m->prev;
    }
    peri_free(m);
}

peri_status peri_session_rewind(peri_session *s, int32_t n, peri_error *err) {
    if (n < 0 || n > s->n_tok)
        return peri_fail(err, PERI_E_RANGE, "cannot rewind to %d of %d tokens", n, s->n_tok);
    if (n == s->n_tok) return PERI_OK;
    for (peri_mark *m = s->mark; m; m = m->next)
        if (m->n_tok > n && m->n_rewound < 0) m->n_rewound = n;
    s->n_tok = n;
    if (s->n_foreign > n) s->n_foreign = n;
    if (s->n_fed > n) s->n_fed = 0;
    peri_session_unpredict(s);
    peri_session_trim(s);
    return PERI_OK;
}

peri_status peri_session_rewind_to(peri_session *s, const peri_mark *m, peri_error *err) {
    if (!m || m->s != s) return peri_fail(err, PERI_E_INVALID, "a mark of another session");
    if (m->n_rewound >= 0)
        return peri_fail(err, PERI_E_INVALID,
                         "the mark at token %d is gone: the session was rewound to %d since",
                         m->n_tok, m->n_rewound);
    peri_status st = peri_session_rewind(s, m->n_tok, err);
    if (st) return st;
    if (m->has_logits) memcpy(s->logits, m->logits, (size_t)s->e->a->n_vocab * sizeof *s->logits);
    s->has_logits = m->has_logits;
    s->has_peaks = false;
    s->top = m->top;
    return PERI_OK;
}

/* ---- counters -------------------------------------------------------------------------------- */

void peri_engine_stats_get(const peri_engine *e, peri_run_stats *out) {
    out->n_kv_copied_bytes = e->n_kv_copied_bytes;
    out->n_block = e->blocks.n;
    out->n_block_free = e->blocks.n_free;
    out->n_block_cached = e->blocks.n_cached;
    out->n_evicted = e->blocks.n_evicted;
    out->n_preempted = e->n_preempted;
    out->n_swapped_bytes = e->n_swapped_bytes;
    out->n_step = e->n_step;
    out->n_row_top = e->n_row_top;
    out->n_row_whole = e->n_row_whole;
    out->n_row_bytes = e->n_row_bytes;
}

void peri_session_stats_get(const peri_session *s, peri_run_stats *out) {
    *out = (peri_run_stats){.n_tok = (uint64_t)s->n_tok,
                            .n_prompt = s->stats.n_prompt,
                            .n_generated = s->stats.n_generated,
                            .n_cached = s->stats.n_cached,
                            .n_computed = s->stats.n_computed,
                            .prompt_ns = s->stats.prompt_ns,
                            .generate_ns = s->stats.generate_ns};
    peri_engine_stats_get(s->e, out);
}
