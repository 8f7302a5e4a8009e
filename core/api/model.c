/* SPDX-License-Identifier: MIT
 *
 * model.c - opening a model, and text to tokens. */
#include <string.h>

#include "api/api_int.h"
#include "base/alloc.h"
#include "base/status.h"
#include "base/text.h"

#include "base/compiler.h"

/* The options of both have the same meanings; the numbers of kv_type and weights are the same. */
static peri_load_options load_options(const peri_model_options *o) {
    return (peri_load_options){.n_ctx = o->n_ctx,
                               .n_session = o->n_session,
                               .n_batch = o->n_batch,
                               .kv_type = o->kv_type,
                               .weights = o->weights,
                               .device = o->device,
                               .place = o->place,
                               .metadata_only = o->metadata_only,
                               .progress = o->progress,
                               .progress_user = o->progress_user,
                               .no_prefix_cache = o->no_prefix_cache};
}

peri_status peri_model_open(peri_runtime *rt, const char *path, const peri_model_options *opts,
                            peri_model **out, peri_error *err) {
    peri_model_options o;
    *out = NULL;
    peri_options_copy(&o, sizeof o, opts);
    peri_model *m = peri_calloc(1, sizeof *m);
    if (!m) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    peri_spec_source source;
    peri_load_env env = peri_runtime_load_env(rt, &source);
    peri_load_options lo = load_options(&o);
    peri_loaded l;
    peri_status st = peri_loaded_init(&l, &env, path, &lo, err);
    if (st) {
        peri_free(m);
        return st;
    }
    *m = (peri_model){.rt = rt,
                      .g = l.g,
                      .a = l.a,
                      .arch_error = l.arch_error,
                      .tokenizer = l.tokenizer,
                      .tokenizer_error = l.tokenizer_error,
                      .engine = l.engine};
    *out = m;
    return PERI_OK;
}

peri_status peri_model_may_drive(const peri_model *m, peri_error *err) {
    if (!m->engine)
        return peri_fail(err, PERI_E_INVALID, "the model was opened for its metadata only");
    if (m->engine->is_served)
        return peri_fail(err, PERI_E_INVALID,
                         "the model is driven by a service, and not directly as well");
    return PERI_OK;
}

void peri_model_close(peri_model *m) {
    if (!m) return;
    peri_loaded l = {.g = m->g, .a = m->a, .tokenizer = m->tokenizer, .engine = m->engine};
    peri_loaded_fini(&l);
    peri_free(m);
}

int32_t peri_model_n_vocab(const peri_model *m) {
    if (m->a) return m->a->n_vocab;
    return m->tokenizer ? peri_tokenizer_n_vocab(m->tokenizer) : 0;
}

int32_t peri_model_n_ctx(const peri_model *m) {
    return m->engine ? m->engine->o.n_ctx : m->a ? m->a->n_ctx : 0;
}

const char *peri_model_device(const peri_model *m) {
    return m->engine ? m->engine->names : "";
}

const char *peri_model_isa(const peri_model *m) {
    return m->engine ? peri_engine_isa(m->engine) : "";
}

const char *peri_model_placement(const peri_model *m) {
    return m->engine ? m->engine->choice.why : "";
}

static peri_status need_tokenizer(const peri_model *m, peri_error *err) {
    if (m->tokenizer) return PERI_OK;
    return peri_fail(err, PERI_E_UNSUPPORTED, "no tokenizer: %s", m->tokenizer_error.text);
}

peri_status peri_model_tokenize(const peri_model *m, const char *text, size_t size, uint32_t flags,
                                int32_t **ids, size_t *n, peri_error *err) {
    *ids = NULL;
    *n = 0;
    peri_status st = need_tokenizer(m, err);
    if (st) return st;
    peri_tokenize_options o = {.size = sizeof o,
                               .add_special = !(flags & PERI_TOK_NO_SPECIAL),
                               .parse_special = (flags & PERI_TOK_PARSE_SPECIAL) != 0};
    return peri_tokenize(m->tokenizer, (peri_str){text, size}, &o, ids, n, err);
}

peri_status peri_model_detokenize(const peri_model *m, const int32_t *ids, size_t n,
                                  bool want_special, char **text, size_t *size, peri_error *err) {
    peri_text t = {0};
    peri_detok d;
    *text = NULL;
    *size = 0;
    peri_status st = need_tokenizer(m, err);
    if (st) return st;
    peri_detok_init(&d, m->tokenizer, want_special);
    for (size_t i = 0; i < n && !st; i++)
        st = peri_detok_feed(&d, ids[i], &t, err);
    if (!st) peri_detok_end(&d, &t);
    peri_text_add(&t, "", 0);
    if (!st && t.failed)
        st = peri_fail(err, PERI_E_NOMEM, "out of memory for the text of %zu tokens", n);
    if (!st && !t.data && !(t.data = peri_calloc(1, 1)))
        st = peri_fail(err, PERI_E_NOMEM, "out of memory");
    if (st) {
        peri_text_fini(&t);
        return st;
    }
    *text = t.data;
    *size = t.size;
    return PERI_OK;
}
