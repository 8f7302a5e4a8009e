/* SPDX-License-Identifier: MIT
 *
 * model.c - opening a model, its default sizes, and text to tokens. */
#include <string.h>

#include "api/api_int.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/status.h"
#include "base/text.h"
#include "model/dtype.h"

#include "base/compiler.h"

/* Memory for keys and values when the user names no context: half of what is free after the
 * weights. */
static uint64_t kv_budget(const peri_model *m) {
    uint64_t free_bytes = 0, limit = peri_topology_mem_limit(m->rt->topology);
    for (uint32_t i = 0; i < peri_topology_n_node(m->rt->topology); i++)
        free_bytes += peri_topology_node(m->rt->topology, i)->mem_free;
    if (limit && limit < free_bytes) free_bytes = limit;
    uint64_t weights = peri_gguf_file_bytes(m->g);
    return free_bytes > weights ? (free_bytes - weights) / 2 : 0;
}

/* The trained context, capped by the memory for keys and values. */
static int32_t default_ctx(const peri_model *m, const peri_engine_options *o) {
    uint64_t per_token = peri_engine_kv_bytes_per_token(m->a, o->kv_dtype) * (uint64_t)o->n_session;
    uint64_t fits = per_token ? kv_budget(m) / per_token : 0;
    int32_t n = m->a->n_ctx;
    if (fits >= (uint64_t)n) return n;
    int32_t capped = (int32_t)(fits / PERI_BLOCK_TOKENS) * PERI_BLOCK_TOKENS;
    if (capped < 512)
        capped = n < 512 ? n : 512; /* too little to be useful: let the allocation decide */
    peri_log(PERI_LOG_WARN,
             "context is %d tokens, not the trained %d: keys and values take %llu bytes per token",
             capped, n, (unsigned long long)per_token);
    return capped;
}

static peri_status engine_options(peri_model *m, const peri_model_options *o,
                                  peri_engine_options *e, peri_error *err) {
    static const uint32_t kv[] = {[PERI_KV_F16] = PERI_DT_F16, [PERI_KV_F32] = PERI_DT_F32};
    if (o->kv_type > PERI_KV_F32)
        return peri_fail(err, PERI_E_INVALID, "kv_type %u is unknown", o->kv_type);
    if (o->n_ctx > 1 << 30 || o->n_session > 65536 || o->n_batch > 65536)
        return peri_fail(err, PERI_E_RANGE, "context %u, sessions %u or batch %u is out of range",
                         o->n_ctx, o->n_session, o->n_batch);
    *e = (peri_engine_options){.n_session = o->n_session ? (int32_t)o->n_session : 1,
                               .n_batch = o->n_batch ? (int32_t)o->n_batch : 512,
                               .kv_dtype = kv[o->kv_type],
                               .device = o->device,
                               .is_strict = m->rt->is_strict,
                               .no_prefix_cache = o->no_prefix_cache};
    e->n_ctx = o->n_ctx ? (int32_t)o->n_ctx : default_ctx(m, e);
    if (e->n_ctx > m->a->n_ctx) {
        if (m->rt->is_strict)
            return peri_fail(err, PERI_E_RANGE, "--strict: context %d exceeds the trained %d",
                             e->n_ctx, m->a->n_ctx);
        peri_log(PERI_LOG_WARN, "context %d exceeds the %d tokens the model was trained on",
                 e->n_ctx, m->a->n_ctx);
    }
    return PERI_OK;
}

/* A file without a tokenizer we know still runs on token ids; a damaged tokenizer does not open. */
static peri_status open_tokenizer(peri_model *m, peri_error *err) {
    peri_status st = peri_tokenizer_new(m->g, &m->tokenizer, &m->tokenizer_error);
    if (st == PERI_OK) {
        if (m->a && peri_tokenizer_n_vocab(m->tokenizer) > m->a->n_vocab)
            return peri_fail(err, PERI_E_CORRUPT,
                             "%s: key tokenizer.ggml.tokens: %d tokens, but tensor "
                             "token_embd.weight has %d rows",
                             peri_gguf_path(m->g), peri_tokenizer_n_vocab(m->tokenizer),
                             m->a->n_vocab);
        return PERI_OK;
    }
    if (st == PERI_E_NOT_FOUND || st == PERI_E_UNSUPPORTED) return PERI_OK;
    if (err) *err = m->tokenizer_error;
    return st;
}

static peri_status open_parts(peri_model *m, const char *path, const peri_model_options *o,
                              peri_error *err) {
    peri_status st = peri_gguf_open(path, &m->g, err);
    if (st) return st;
    if (o->progress && o->progress(o->progress_user, 0, peri_gguf_file_bytes(m->g)))
        return peri_fail(err, PERI_E_CANCELLED, "%s: loading was cancelled", path);
    peri_spec_source source = {m->rt->script_dir};
    st = peri_lua_arch_load(&source, m->g, &m->a, &m->arch_error);
    if (st && (!o->metadata_only || st == PERI_E_NOMEM)) {
        if (err) *err = m->arch_error;
        return st;
    }
    if (!st && !*m->a->checked) {
        if (m->rt->is_strict)
            return peri_fail(err, PERI_E_UNSUPPORTED, "--strict: spec %s has no `checked` entry",
                             m->a->spec_path);
        peri_log(PERI_LOG_WARN, "spec %s has never been checked against a reference",
                 m->a->spec_path);
    }
    st = open_tokenizer(m, err);
    if (st || o->metadata_only) return st;
    peri_engine_options eo;
    st = engine_options(m, o, &eo, err);
    if (!st) st = peri_engine_new(m->rt->registry, m->g, m->a, &eo, &m->engine, err);
    if (!st) st = peri_gguf_check(m->g, err);
    if (!st && o->progress) {
        uint64_t bytes = peri_gguf_file_bytes(m->g);
        if (o->progress(o->progress_user, bytes, bytes))
            st = peri_fail(err, PERI_E_CANCELLED, "%s: loading was cancelled", path);
    }
    return st;
}

peri_status peri_model_open(peri_runtime *rt, const char *path, const peri_model_options *opts,
                            peri_model **out, peri_error *err) {
    peri_model_options o;
    *out = NULL;
    peri_options_copy(&o, sizeof o, opts);
    peri_model *m = peri_calloc(1, sizeof *m);
    if (!m) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    m->rt = rt;
    peri_status st = open_parts(m, path, &o, err);
    if (st) {
        peri_model_close(m);
        return st;
    }
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
    peri_engine_free(m->engine);
    peri_tokenizer_free(m->tokenizer);
    peri_arch_free(m->a);
    peri_gguf_close(m->g);
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
    return m->engine ? m->engine->backend->info.name : "";
}

const char *peri_model_isa(const peri_model *m) {
    return m->engine ? m->engine->backend->info.isa : "";
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
