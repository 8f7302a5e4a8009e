/* SPDX-License-Identifier: MIT
 *
 * session.c - sessions as perigee.h offers them: feeding, sampling, generating. */
#include <assert.h>
#include <string.h>
#include <time.h>

#include "api/api_int.h"
#include "base/alloc.h"
#include "base/status.h"
#include "base/text.h"
#include "run/heal.h"
#include "run/session.h"

#include "base/compiler.h"

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static_assert((int)PERI_DEFAULTS_OFF == (int)PERI_ORIGIN_OFF &&
                  (int)PERI_DEFAULTS_RUN == (int)PERI_ORIGIN_RUN &&
                  (int)PERI_DEFAULTS_OLLAMA == (int)PERI_ORIGIN_OLLAMA &&
                  (int)PERI_DEFAULTS_OPENAI == (int)PERI_ORIGIN_OPENAI,
              "the public names of the origins");

/* The parameters an options struct asks for; arrays in a. */
static peri_status read_sampling(const peri_model *m, const peri_session_options *o, peri_arena *a,
                                 peri_sampling *p, peri_error *err) {
    if (o->defaults >= PERI_N_ORIGIN)
        return peri_fail(err, PERI_E_INVALID, "defaults: found %u, expected PERI_DEFAULTS_*",
                         o->defaults);
    peri_status st = peri_sampling_init(p, (peri_origin)o->defaults, m->g, err);
    p->seed = o->seed;
    const struct {
        const char *name;
        double value;
    } given[] = {
#define PERI_SAMPLING_PARAM(name, kind, lo, hi, off, run, ollama, openai, key, meaning)            \
    {#name, (double)o->name},
#include "run/sampling.def"
    };
    for (size_t i = 0; i < sizeof given / sizeof given[0] && !st; i++)
        if (given[i].value != 0) st = peri_sampling_set(p, given[i].name, given[i].value, err);
    for (size_t i = 0; i < o->n_sampling && !st; i++)
        st = peri_sampling_apply(p, a, o->sampling[i], err);
    return st;
}

peri_status peri_session_new(peri_model *m, const peri_session_options *opts, peri_session **out,
                             peri_error *err) {
    peri_session_options o;
    *out = NULL;
    peri_options_copy(&o, sizeof o, opts);
    peri_status st = peri_model_may_drive(m, err);
    if (st) return st;
    peri_sampling p;
    peri_arena *a = peri_arena_new();
    if (!a) return peri_fail(err, PERI_E_NOMEM, "out of memory for a session");
    st = read_sampling(m, &o, a, &p, err);
    if (!st) st = peri_session_open(m->engine, m->tokenizer, &p, out, err);
    if (!st) (*out)->want_special = o.want_special;
    peri_arena_free(a);
    return st;
}

peri_status peri_model_restore(peri_model *m, const char *path, peri_session **out,
                               peri_error *err) {
    *out = NULL;
    peri_status st = peri_model_may_drive(m, err);
    return st ? st : peri_session_load(m->engine, m->tokenizer, path, NULL, false, out, err);
}

peri_status peri_model_step(peri_model *m, const peri_feed *feeds, size_t n_feed, size_t chunk,
                            peri_error *err) {
    peri_status st = peri_model_may_drive(m, err);
    if (st) return st;
    peri_step_feed few[16], *f = few;
    if (n_feed > sizeof few / sizeof few[0] && !(f = peri_alloc_array(n_feed, sizeof *f)))
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a step of %zu sessions", n_feed);
    for (size_t i = 0; i < n_feed; i++)
        f[i] = (peri_step_feed){.s = feeds[i].session,
                                .tok = feeds[i].tok,
                                .n_tok = feeds[i].n_tok,
                                .logits = feeds[i].logits,
                                .all_logits = feeds[i].all_logits};
    uint64_t start = now_ns();
    st = peri_engine_step(m->engine, f, n_feed, chunk, err);
    uint64_t took = now_ns() - start;
    for (size_t i = 0; i < n_feed && !st; i++) {
        f[i].s->stats.n_prompt += f[i].n_tok;
        f[i].s->stats.prompt_ns += took;
    }
    if (f != few) peri_free(f);
    return st;
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

/* Where generated text goes. */
typedef struct output {
    peri_detok detok;
    peri_text text;
    size_t repeated; /* bytes to come that only spell the end of the prompt again */
    peri_piece_fn piece;
    void *user;
} output;

/* Tell the callback about one token: the text it completes. */
static peri_status emit(output *o, int32_t tok, int *wants_stop, peri_error *err) {
    peri_text *text = &o->text;
    size_t skip = 0;
    text->size = 0;
    if (o->detok.t) {
        peri_status st = peri_detok_feed(&o->detok, tok, text, err);
        if (st) return st;
        if (text->failed)
            return peri_fail(err, PERI_E_NOMEM, "out of memory for the text of a token");
        if (text->size) skip = peri_heal_repeated(&o->repeated, text->data, text->size);
    }
    const char *data = text->size ? text->data + skip : "";
    *wants_stop = o->piece ? o->piece(o->user, data, text->size - skip, tok) : 0;
    return PERI_OK;
}

peri_status peri_session_generate(peri_session *s, size_t n, peri_piece_fn piece, void *user,
                                  peri_stop *why, peri_error *err) {
    output o = {.piece = piece, .user = user};
    bool is_prompt = s->n_tok == s->n_fed;
    peri_status st = is_prompt ? peri_session_heal(s, &o.repeated, err) : PERI_OK;
    if (!st && s->tokenizer) st = peri_session_detok(s, s->want_special, &o.detok, err);
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
        st = emit(&o, tok, &wants_stop, err);
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
        o.text.size = 0;
        peri_detok_end(&o.detok, &o.text);
        if (o.text.size && piece && stop != PERI_STOP_CALLBACK)
            piece(user, o.text.data, o.text.size, -1);
    }
    s->stats.generate_ns += now_ns() - start;
    peri_text_fini(&o.text);
    if (why) *why = stop;
    return st;
}

void peri_session_get_stats(const peri_session *s, peri_session_stats *out) {
    peri_run_stats r;
    peri_session_stats_get(s, &r);
    peri_session_stats mine = {.size = out->size,
                               .n_prompt = r.n_prompt,
                               .n_generated = r.n_generated,
                               .n_cached = r.n_cached,
                               .prompt_ns = r.prompt_ns,
                               .generate_ns = r.generate_ns,
                               .n_computed = r.n_computed,
                               .n_kv_copied_bytes = r.n_kv_copied_bytes,
                               .n_row_top = r.n_row_top,
                               .n_row_whole = r.n_row_whole,
                               .n_row_bytes = r.n_row_bytes};
    memcpy(out, &mine, out->size < sizeof mine ? out->size : sizeof mine);
}
