/* SPDX-License-Identifier: MIT
 *
 * engine.c - placing a model: device, weights, KV pool, plans.
 *
 * Buckets.  Three plans cover every step: decode (a few tokens), prefill (up to n_batch tokens, a
 * row per session), and all rows (logits of every token, made only when somebody asks).  They share
 * one arena, sized for the largest made so far. */
#include "run/engine.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/reader.h"
#include "base/status.h"
#include "model/dtype.h"

#include "base/compiler.h"

uint64_t peri_engine_kv_bytes_per_token(const peri_arch *a, uint32_t kv_dtype) {
    uint64_t n = 0;
    for (int32_t il = 0; il < a->n_layer; il++)
        n += (uint64_t)a->layer[il].n_kv * (uint64_t)(a->d_k + a->d_v);
    return n * peri_dtype_get(kv_dtype)->block_bytes;
}

double peri_engine_predicted_tps(const peri_engine *e) {
    double gbps = (double)e->backend->info.mem_gbps;
    uint64_t bytes = peri_weights_token_bytes(e->weights);
    return gbps > 0 && bytes ? gbps * 1e9 / (double)bytes : 0;
}

static int32_t min_i32(int32_t a, int32_t b) {
    return a < b ? a : b;
}

static peri_bucket bucket_of(const peri_engine *e, int kind) {
    int32_t n_tok =
        kind == PERI_PLAN_DECODE ? min_i32(PERI_DECODE_TOKENS, e->o.n_batch) : e->o.n_batch;
    int32_t n_seq = min_i32(n_tok, e->o.n_session);
    peri_bucket b = {.size = sizeof b};
    for (int i = 1; i <= PERI_SYM_B; i++)
        b.lo[i] = 1;
    b.lo[PERI_SYM_R] = 0;
    b.hi[PERI_SYM_T] = n_tok;
    b.hi[PERI_SYM_S] = n_seq;
    b.hi[PERI_SYM_R] = kind == PERI_PLAN_ALL_ROWS ? n_tok : n_seq;
    b.hi[PERI_SYM_B] = (e->o.n_ctx + (int32_t)e->kv.block_tokens - 1) / (int32_t)e->kv.block_tokens;
    return b;
}

/* The arena is replaced by a larger one; no plan keeps addresses. */
static peri_status grow_arena(peri_engine *e, uint64_t bytes, peri_error *err) {
    if (bytes <= e->arena_bytes) return PERI_OK;
    void *p = bytes <= SIZE_MAX ? peri_alloc_aligned((size_t)bytes, 64) : NULL;
    if (!p)
        return peri_fail(err, PERI_E_NOMEM, "out of memory: %llu bytes of activations",
                         (unsigned long long)bytes);
    peri_free(e->arena);
    e->arena = p;
    e->arena_bytes = bytes;
    return PERI_OK;
}

peri_status peri_engine_plan(peri_engine *e, int kind, peri_plan **out, peri_error *err) {
    *out = e->plan[kind];
    if (*out) return PERI_OK;
    peri_graph g;
    uint32_t logits;
    peri_bucket b = bucket_of(e, kind);
    peri_plan *p = NULL;
    peri_graph_init(&g);
    peri_status st = peri_build(e->a, e->weights, &e->kv, e->o.n_ctx, &g, &logits, err);
    if (!st) st = peri_plan_new(e->backend, &g, logits, &b, &p, err);
    if (!st) st = grow_arena(e, p->program->arena_bytes, err);
    peri_graph_fini(&g);
    if (st) {
        peri_plan_free(p);
        return st;
    }
    e->plan[kind] = *out = p;
    return PERI_OK;
}

static peri_status bind_weights(peri_engine *e, peri_error *err) {
    uint32_t n = peri_weights_n(e->weights);
    e->weight_ptr = peri_alloc_array(n, sizeof *e->weight_ptr);
    if (!e->weight_ptr) return peri_fail(err, PERI_E_NOMEM, "out of memory binding %u weights", n);
    for (uint32_t i = 0; i < n; i++)
        e->weight_ptr[i] = (void *)(uintptr_t)peri_weights_at(e->weights, i)->data;
    return PERI_OK;
}

static peri_status check_strict(const peri_engine *e, peri_error *err) {
    for (int kind = 0; e->o.is_strict && kind < PERI_N_PLAN; kind++) {
        const peri_plan *p = e->plan[kind];
        if (p && p->n_note)
            return peri_fail(err, PERI_E_UNSUPPORTED,
                             "--strict: device %s declines %s (%u times): %s",
                             e->backend->info.name, peri_op_name(p->note[0].code), p->note[0].count,
                             p->note[0].why);
    }
    return PERI_OK;
}

/* Everything that depends on the device; undone by drop_device. */
static peri_status place_on(peri_engine *e, peri_registry *r, size_t device, peri_error *err) {
    peri_plan *p;
    peri_status st = peri_registry_open(r, device, &e->backend, err);
    if (st) return st;
    if (!(e->backend->info.flags & PERI_DEV_HOST_MEM))
        return peri_fail(err, PERI_E_UNSUPPORTED,
                         "device %s: its memory is not host memory, which this version needs",
                         e->backend->info.name);
    uint32_t tokens = e->backend->info.kv_block_tokens;
    if (!tokens || tokens > 4096 || (tokens & (tokens - 1))) tokens = PERI_BLOCK_TOKENS;
    uint64_t per_session = ((uint64_t)e->o.n_ctx + tokens - 1) / tokens, n_block;
    if (!peri_mul_u64(per_session, (uint64_t)e->o.n_session, &n_block) || n_block > INT32_MAX)
        return peri_fail(err, PERI_E_RANGE, "%d sessions of %d tokens are too many", e->o.n_session,
                         e->o.n_ctx);
    st = peri_kv_layout_init(&e->kv, e->a, e->o.kv_dtype, tokens, (uint32_t)n_block, err);
    if (!st)
        st = peri_prefix_init(&e->blocks, (uint32_t)n_block, tokens, !e->o.no_prefix_cache, err);
    if (!st) st = peri_weights_new(e->g, e->a, &e->weights, err);
    if (!st) st = peri_engine_plan(e, PERI_PLAN_DECODE, &p, err);
    if (!st) st = peri_weights_finish(e->weights, err);
    if (!st) st = peri_engine_plan(e, PERI_PLAN_PREFILL, &p, err);
    if (!st) st = check_strict(e, err);
    if (!st) st = bind_weights(e, err);
    if (st) return st;
    e->pool = e->kv.bytes <= SIZE_MAX ? peri_alloc_large((size_t)e->kv.bytes) : NULL;
    if (!e->pool)
        return peri_fail(err, PERI_E_NOMEM,
                         "out of memory: %llu bytes for keys and values of %d x %d tokens",
                         (unsigned long long)e->kv.bytes, e->o.n_session, e->o.n_ctx);
    e->pool_ptr[0] = e->pool;
    return PERI_OK;
}

static void drop_device(peri_engine *e) {
    for (int i = 0; i < PERI_N_PLAN; i++) {
        peri_plan_free(e->plan[i]);
        e->plan[i] = NULL;
    }
    peri_free(e->pool);
    peri_free(e->arena);
    peri_free(e->weight_ptr);
    peri_weights_free(e->weights);
    peri_prefix_fini(&e->blocks);
    peri_kv_layout_fini(&e->kv);
    peri_backend_close(e->backend);
    e->pool = e->arena = NULL;
    e->weight_ptr = NULL;
    e->weights = NULL;
    e->backend = NULL;
    e->arena_bytes = 0;
}

/* The step block for the largest step: header, four arrays of T, contexts, tables, rows. */
static peri_status make_step_block(peri_engine *e, peri_error *err) {
    peri_bucket b = bucket_of(e, PERI_PLAN_ALL_ROWS);
    uint64_t n_tok = (uint64_t)b.hi[PERI_SYM_T], n_seq = (uint64_t)b.hi[PERI_SYM_S];
    uint64_t words = 4 * n_tok + n_seq + n_seq * (uint64_t)b.hi[PERI_SYM_B] + n_tok;
    e->step_bytes = sizeof(peri_step) + 4 * words;
    if (e->step_bytes > UINT32_MAX)
        return peri_fail(err, PERI_E_RANGE, "a step of %llu bytes is too large",
                         (unsigned long long)e->step_bytes);
    e->step = peri_alloc_aligned((size_t)e->step_bytes, 64);
    if (!e->step) return peri_fail(err, PERI_E_NOMEM, "out of memory for a step block");
    return peri_sampler_scratch_new(e->a->n_vocab, &e->scratch, err);
}

/* A device that cannot run the model is no reason to give up while others are left, unless the user
 * named it. */
static peri_status place_somewhere(peri_engine *e, peri_registry *r, peri_error *err) {
    uint64_t bytes = peri_gguf_file_bytes(e->g);
    peri_status st = peri_place_choose(r, bytes, e->o.device, &e->choice, err);
    if (st) return st;
    st = place_on(e, r, e->choice.device, err);
    if (!st) return PERI_OK;
    const char *name = peri_registry_device(r, e->choice.device)->info.name;
    if (st != PERI_E_NO_DRIVER && st != PERI_E_DEVICE_LOST && st != PERI_E_UNSUPPORTED) return st;
    size_t first = e->choice.device;
    for (size_t i = 0; i < peri_registry_n_device(r) && !e->o.device && !e->o.is_strict; i++) {
        const peri_device *d = peri_registry_device(r, i);
        peri_error other;
        if (i == first || !d->is_usable || (d->info.flags & PERI_DEV_EMULATED)) continue;
        drop_device(e);
        if (place_on(e, r, i, &other)) continue;
        peri_log(PERI_LOG_WARN, "device %s was preferred but cannot run this model (%s); using %s",
                 name, err ? err->text : "", d->info.name);
        e->choice.device = i;
        return PERI_OK;
    }
    return st;
}

peri_status peri_engine_new(peri_registry *registry, const peri_gguf *g, const peri_arch *a,
                            const peri_engine_options *o, peri_engine **out, peri_error *err) {
    peri_error local;
    *out = NULL;
    if (!err) err = &local;
    peri_engine *e = peri_calloc(1, sizeof *e);
    if (!e) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    e->g = g;
    e->a = a;
    e->registry = registry;
    e->o = *o;
    peri_status st = place_somewhere(e, registry, err);
    if (!st) st = make_step_block(e, err);
    if (st) {
        peri_engine_free(e);
        return st;
    }
    *out = e;
    return PERI_OK;
}

void peri_engine_free(peri_engine *e) {
    if (!e) return;
    drop_device(e);
    peri_free(e->step);
    peri_sampler_scratch_free(e->scratch);
    peri_free(e->feed_done);
    peri_free(e->feed_part);
    peri_free(e);
}
