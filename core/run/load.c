/* SPDX-License-Identifier: MIT
 *
 * load.c - see load.h. */
#include "run/load.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/status.h"
#include "model/dtype.h"

#include "base/compiler.h"

/* Bytes of memory that this process may have, of all nodes together. */
typedef struct memory {
    uint64_t total, free;
} memory;

static memory memory_of(const peri_topology *topology) {
    memory m = {0, 0};
    uint64_t limit = peri_topology_mem_limit(topology);
    for (uint32_t i = 0; i < peri_topology_n_node(topology); i++) {
        m.total += peri_topology_node(topology, i)->mem_total;
        m.free += peri_topology_node(topology, i)->mem_free;
    }
    if (limit && limit < m.total) m.total = limit;
    if (limit && limit < m.free) m.free = limit;
    return m;
}

/* Memory for keys and values when the user names no context: half of what is free after the
 * weights. */
static uint64_t kv_budget(const peri_topology *topology, const peri_loaded *m) {
    uint64_t free_bytes = memory_of(topology).free, weights = peri_gguf_file_bytes(m->g);
    return free_bytes > weights ? (free_bytes - weights) / 2 : 0;
}

/* ---- weights in large pages ------------------------------------------------------------------ */

typedef struct watch {
    const peri_load_options *o;
    uint64_t total;
    bool is_cancelled;
} watch;

static bool tell(void *user, uint64_t done) {
    watch *w = user;
    if (w->o->progress && done) /* the beginning was told before */
        w->is_cancelled = w->o->progress(w->o->progress_user, done, w->total) != 0;
    return !w->is_cancelled;
}

/* The threads of a device that reads weights where they are mapped; NULL when there is none. */
static peri_pool *reading_pool(const peri_engine *e) {
    for (uint32_t d = 0; d < e->n_device; d++)
        if (peri_engine_uses(e, d) && (e->backend[d]->info.flags & PERI_DEV_HOST_MEM))
            return e->backend[d]->pool;
    return NULL;
}

/* Room for the weights beside keys and values, with a sixteenth of the memory left to others. */
static bool has_room(const peri_topology *topology, const peri_loaded *m) {
    memory all = memory_of(topology);
    uint64_t kept = m->engine->kv.bytes + all.total / 16, bytes = peri_gguf_file_bytes(m->g);
    return all.free > kept && all.free - kept >= bytes;
}

/* Processors read weights from large pages 5 to 18 % faster than from a mapped file, whose pages
 * are small (tests/perf/README.md). */
static peri_status copy_weights(peri_loaded *m, const peri_load_env *env,
                                const peri_load_options *o, peri_error *err) {
    peri_pool *pool = reading_pool(m->engine);
    bool is_asked = o->weights == PERI_LOAD_WEIGHTS_COPY;
    if (o->weights == PERI_LOAD_WEIGHTS_MAP) return PERI_OK;
    if (!is_asked && (!pool || !peri_has_large_pages() || !has_room(env->topology, m)))
        return PERI_OK;
    if (!pool) {
        peri_log(PERI_LOG_WARN, "weights are not copied: no device of %s reads memory of the host",
                 peri_gguf_path(m->g));
        return PERI_OK;
    }
    watch w = {o, peri_gguf_file_bytes(m->g), false};
    uint64_t n = peri_gguf_copy_in(m->g, pool, tell, &w);
    if (w.is_cancelled)
        return peri_fail(err, PERI_E_CANCELLED, "%s: loading was cancelled", peri_gguf_path(m->g));
    if (n < w.total)
        peri_log(is_asked ? PERI_LOG_WARN : PERI_LOG_INFO,
                 "weights: %llu of %llu bytes were copied, the others stay mapped: no memory",
                 (unsigned long long)n, (unsigned long long)w.total);
    return PERI_OK;
}

/* ---- options --------------------------------------------------------------------------------- */

/* The trained context, capped by the memory for keys and values. */
static int32_t default_ctx(const peri_topology *topology, const peri_loaded *m,
                           const peri_engine_options *o) {
    uint64_t per_token = peri_engine_kv_bytes_per_token(m->a, o->kv_dtype) * (uint64_t)o->n_session;
    uint64_t fits = per_token ? kv_budget(topology, m) / per_token : 0;
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

static peri_status engine_options(const peri_load_env *env, const peri_loaded *m,
                                  const peri_load_options *o, peri_engine_options *e,
                                  peri_error *err) {
    static const uint32_t kv[] = {[PERI_LOAD_KV_F16] = PERI_DT_F16,
                                  [PERI_LOAD_KV_F32] = PERI_DT_F32,
                                  [PERI_LOAD_KV_Q8_0] = PERI_DT_Q8_0,
                                  [PERI_LOAD_KV_Q4_0] = PERI_DT_Q4_0};
    if (o->kv_type > PERI_LOAD_KV_Q4_0)
        return peri_fail(err, PERI_E_INVALID, "kv_type %u is unknown", o->kv_type);
    if (o->weights > PERI_LOAD_WEIGHTS_COPY)
        return peri_fail(err, PERI_E_INVALID, "weights %u is unknown", o->weights);
    if (o->n_ctx > 1 << 30 || o->n_session > 65536 || o->n_batch > 65536)
        return peri_fail(err, PERI_E_RANGE, "context %u, sessions %u or batch %u is out of range",
                         o->n_ctx, o->n_session, o->n_batch);
    *e = (peri_engine_options){.n_session = o->n_session ? (int32_t)o->n_session : 1,
                               .n_batch = o->n_batch ? (int32_t)o->n_batch : 512,
                               .kv_dtype = kv[o->kv_type],
                               .device = o->device,
                               .place = o->place,
                               .is_strict = env->is_strict,
                               .no_prefix_cache = o->no_prefix_cache};
    e->n_ctx = o->n_ctx ? (int32_t)o->n_ctx : default_ctx(env->topology, m, e);
    if (e->n_ctx > m->a->n_ctx) {
        if (env->is_strict)
            return peri_fail(err, PERI_E_RANGE, "--strict: context %d exceeds the trained %d",
                             e->n_ctx, m->a->n_ctx);
        peri_log(PERI_LOG_WARN, "context %d exceeds the %d tokens the model was trained on",
                 e->n_ctx, m->a->n_ctx);
    }
    return PERI_OK;
}

/* Can the whole context be filled?  Memory of the host is taken when it is first written, so
 * nothing else would tell before it runs out.  What is free is what was when the program began. */
static peri_status check_context(const peri_load_env *env, const peri_loaded *m, peri_error *err) {
    const peri_engine *e = m->engine;
    memory all = memory_of(env->topology);
    uint64_t kv = 0;
    for (uint32_t d = 0; d < e->n_device; d++)
        if (e->backend[d]->info.flags & (PERI_DEV_HOST_MEM | PERI_DEV_EMULATED))
            kv += e->device[d].kv_bytes;
    if (!all.total || kv <= (all.free ? all.free : all.total)) return PERI_OK;
    char text[160];
    snprintf(text, sizeof text,
             "keys and values of %d x %d tokens need %" PRIu64 " MiB; %" PRIu64 " of %" PRIu64
             " MiB of memory were free",
             e->o.n_session, e->o.n_ctx, kv >> 20, all.free >> 20, all.total >> 20);
    if (env->is_strict) return peri_fail(err, PERI_E_NOMEM, "--strict: %s", text);
    peri_log(PERI_LOG_WARN, "%s", text);
    return PERI_OK;
}

/* A file without a tokenizer we know still runs on token ids; a damaged tokenizer does not open. */
static peri_status open_tokenizer(peri_loaded *m, peri_error *err) {
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

static peri_status open_parts(peri_loaded *m, const peri_load_env *env, const char *path,
                              const peri_load_options *o, peri_error *err) {
    peri_status st = peri_gguf_open(path, &m->g, err);
    if (st) return st;
    if (o->progress && o->progress(o->progress_user, 0, peri_gguf_file_bytes(m->g)))
        return peri_fail(err, PERI_E_CANCELLED, "%s: loading was cancelled", path);
    st = env->load_arch(env->load_arch_user, m->g, &m->a, &m->arch_error);
    if (st && (!o->metadata_only || st == PERI_E_NOMEM)) {
        if (err) *err = m->arch_error;
        return st;
    }
    if (!st && !*m->a->checked) {
        if (env->is_strict)
            return peri_fail(err, PERI_E_UNSUPPORTED, "--strict: spec %s has no `checked` entry",
                             m->a->spec_path);
        peri_log(PERI_LOG_WARN, "spec %s has never been checked against a reference",
                 m->a->spec_path);
    }
    st = open_tokenizer(m, err);
    if (st || o->metadata_only) return st;
    peri_engine_options eo;
    st = engine_options(env, m, o, &eo, err);
    if (!st) st = peri_engine_new(env->registry, m->g, m->a, &eo, &m->engine, err);
    if (!st) st = check_context(env, m, err);
    if (!st && env->check_settings) st = env->check_settings(env->check_settings_user, err);
    if (!st) st = copy_weights(m, env, o, err);
    if (!st) st = peri_gguf_check(m->g, err);
    if (!st && o->progress) {
        uint64_t bytes = peri_gguf_file_bytes(m->g);
        if (o->progress(o->progress_user, bytes, bytes))
            st = peri_fail(err, PERI_E_CANCELLED, "%s: loading was cancelled", path);
    }
    return st;
}

peri_status peri_loaded_init(peri_loaded *out, const peri_load_env *env, const char *path,
                             const peri_load_options *o, peri_error *err) {
    memset(out, 0, sizeof *out);
    peri_status st = open_parts(out, env, path, o, err);
    if (st) peri_loaded_fini(out);
    return st;
}

void peri_loaded_fini(peri_loaded *l) {
    peri_engine_free(l->engine);
    peri_tokenizer_free(l->tokenizer);
    peri_arch_free(l->a);
    peri_gguf_close(l->g);
    memset(l, 0, sizeof *l);
}
