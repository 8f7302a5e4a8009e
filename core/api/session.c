/* SPDX-License-Identifier: MIT
 *
 * session.c - sessions as perigee.h offers them: feeding, sampling, generating. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "api/api_int.h"
#include "base/alloc.h"
#include "base/status.h"
#include "base/text.h"

#include "base/compiler.h"

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static peri_status check_options(const peri_session_options *o, peri_error *err) {
    if (!isfinite(o->temp) || o->temp < 0)
        return peri_fail(err, PERI_E_RANGE, "temp: found %g, expected 0 or more", (double)o->temp);
    if (!isfinite(o->top_p) || o->top_p < 0 || o->top_p > 1)
        return peri_fail(err, PERI_E_RANGE, "top_p: found %g, expected 0 to 1", (double)o->top_p);
    if (!isfinite(o->min_p) || o->min_p < 0 || o->min_p > 1)
        return peri_fail(err, PERI_E_RANGE, "min_p: found %g, expected 0 to 1", (double)o->min_p);
    if (o->top_k < 0)
        return peri_fail(err, PERI_E_RANGE, "top_k: found %d, expected 0 or more", o->top_k);
    return PERI_OK;
}

peri_status peri_session_new(peri_model *m, const peri_session_options *opts, peri_session **out,
                             peri_error *err) {
    peri_session_options o;
    *out = NULL;
    peri_options_copy(&o, sizeof o, opts);
    peri_status st = check_options(&o, err);
    if (st) return st;
    if (!m->engine)
        return peri_fail(err, PERI_E_INVALID, "the model was opened for its metadata only");
    peri_engine *e = m->engine;
    peri_session *s = peri_calloc(1, sizeof *s);
    if (!s) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    s->e = e;
    s->tokenizer = m->tokenizer;
    s->sampler = (peri_sampler){
        .seed = o.seed, .temp = o.temp, .top_p = o.top_p, .min_p = o.min_p, .top_k = o.top_k};
    if (m->tokenizer) peri_detok_init(&s->detok, m->tokenizer, o.want_special);
    s->room_block = ((uint32_t)e->o.n_ctx + e->kv.block_tokens - 1) / e->kv.block_tokens;
    s->block = peri_alloc_array(s->room_block, sizeof *s->block);
    s->logits = peri_alloc_array((size_t)e->a->n_vocab, sizeof *s->logits);
    if (!s->block || !s->logits) {
        peri_session_free(s);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a session of %d tokens", e->o.n_ctx);
    }
    *out = s;
    return PERI_OK;
}

void peri_session_free(peri_session *s) {
    if (!s) return;
    while (s->n_block)
        peri_blocks_release(&s->e->blocks, s->block[--s->n_block]);
    peri_free(s->block);
    peri_free(s->logits);
    peri_free(s);
}

int32_t peri_session_n_tok(const peri_session *s) {
    return s->n_tok;
}

peri_status peri_model_step(peri_model *m, const peri_feed *feeds, size_t n_feed, size_t chunk,
                            peri_error *err) {
    if (!m->engine)
        return peri_fail(err, PERI_E_INVALID, "the model was opened for its metadata only");
    peri_step_feed few[16], *f = few;
    if (n_feed > sizeof few / sizeof few[0] && !(f = peri_alloc_array(n_feed, sizeof *f)))
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a step of %zu sessions", n_feed);
    for (size_t i = 0; i < n_feed; i++)
        f[i] = (peri_step_feed){feeds[i].session, feeds[i].tok, feeds[i].n_tok, feeds[i].logits,
                                feeds[i].all_logits};
    uint64_t start = now_ns();
    peri_status st = peri_engine_step(m->engine, f, n_feed, chunk, err);
    uint64_t took = now_ns() - start;
    for (size_t i = 0; i < n_feed && !st; i++) {
        f[i].s->stats.n_prompt += f[i].n_tok;
        f[i].s->stats.prompt_ns += took;
    }
    if (f != few) peri_free(f);
    return st;
}

peri_status peri_session_feed(peri_session *s, const int32_t *tok, size_t n_tok, peri_error *err) {
    const peri_step_feed f = {.s = s, .tok = tok, .n_tok = n_tok};
    if (!n_tok) return PERI_OK;
    uint64_t start = now_ns();
    peri_status st = peri_engine_step(s->e, &f, 1, 0, err);
    if (st) return st;
    s->stats.n_prompt += n_tok;
    s->stats.prompt_ns += now_ns() - start;
    s->detok.started = true; /* what is generated continues a text */
    return PERI_OK;
}

peri_status peri_session_feed_text(peri_session *s, const char *text, size_t size, uint32_t flags,
                                   peri_error *err) {
    int32_t *ids;
    size_t n;
    if (!s->tokenizer) return peri_fail(err, PERI_E_UNSUPPORTED, "the model file has no tokenizer");
    peri_tokenize_options o = {.size = sizeof o,
                               .add_special = !(flags & PERI_TOK_NO_SPECIAL),
                               .parse_special = (flags & PERI_TOK_PARSE_SPECIAL) != 0};
    peri_status st = peri_tokenize(s->tokenizer, (peri_str){text, size}, &o, &ids, &n, err);
    if (st) return st;
    st = peri_session_feed(s, ids, n, err);
    peri_free(ids);
    return st;
}

peri_status peri_session_sample(peri_session *s, int32_t *tok, peri_error *err) {
    *tok = -1;
    if (!s->has_logits) return peri_fail(err, PERI_E_INVALID, "nothing was fed to the session yet");
    peri_status st = peri_sampler_pick(&s->sampler, s->logits, s->e->a->n_vocab, (uint32_t)s->n_tok,
                                       s->e->scratch, tok, err);
    if (!st) s->stats.n_generated++;
    return st;
}

peri_status peri_session_rewind(peri_session *s, int32_t n, peri_error *err) {
    if (n < 0 || n > s->n_tok)
        return peri_fail(err, PERI_E_RANGE, "cannot rewind to %d of %d tokens", n, s->n_tok);
    if (n == s->n_tok) return PERI_OK;
    s->n_tok = n;
    s->has_logits = false;
    return peri_session_reserve(s, n, err);
}

/* Tell the callback about one token: the text it completes. */
static peri_status emit(peri_session *s, int32_t tok, peri_text *text, peri_piece_fn piece,
                        void *user, int *wants_stop, peri_error *err) {
    text->size = 0;
    if (s->tokenizer) {
        peri_status st = peri_detok_feed(&s->detok, tok, text, err);
        if (st) return st;
        if (text->failed)
            return peri_fail(err, PERI_E_NOMEM, "out of memory for the text of a token");
    }
    *wants_stop = piece ? piece(user, text->size ? text->data : "", text->size, tok) : 0;
    return PERI_OK;
}

peri_status peri_session_generate(peri_session *s, size_t n, peri_piece_fn piece, void *user,
                                  peri_stop *why, peri_error *err) {
    peri_text text = {0};
    peri_status st = PERI_OK;
    peri_stop stop = PERI_STOP_LENGTH;
    uint64_t start = now_ns();
    for (size_t i = 0; i < n && !st; i++) {
        int32_t tok;
        int wants_stop = 0;
        st = peri_session_sample(s, &tok, err);
        if (st) break;
        if (s->tokenizer && peri_token_is_eog(s->tokenizer, tok)) {
            stop = PERI_STOP_EOG;
            break;
        }
        st = emit(s, tok, &text, piece, user, &wants_stop, err);
        if (st) break;
        if (s->n_tok >= s->e->o.n_ctx) {
            stop = PERI_STOP_CONTEXT;
            break;
        }
        const peri_step_feed f = {.s = s, .tok = &tok, .n_tok = 1};
        st = peri_engine_step(s->e, &f, 1, 0, err);
        if (wants_stop) {
            stop = PERI_STOP_CALLBACK;
            break;
        }
    }
    if (!st && s->tokenizer) { /* a character cut off by the end comes out as U+FFFD */
        text.size = 0;
        peri_detok_end(&s->detok, &text);
        if (text.size && piece && stop != PERI_STOP_CALLBACK) piece(user, text.data, text.size, -1);
    }
    s->stats.generate_ns += now_ns() - start;
    peri_text_fini(&text);
    if (why) *why = stop;
    return st;
}

void peri_session_get_stats(const peri_session *s, peri_session_stats *out) {
    peri_session_stats mine = {.size = out->size,
                               .n_prompt = s->stats.n_prompt,
                               .n_generated = s->stats.n_generated,
                               .n_cached = s->stats.n_cached,
                               .prompt_ns = s->stats.prompt_ns,
                               .generate_ns = s->stats.generate_ns};
    memcpy(out, &mine, out->size < sizeof mine ? out->size : sizeof mine);
}
