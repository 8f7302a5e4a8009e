/* SPDX-License-Identifier: MIT
 *
 * engine.c - placing a model: device, weights, KV pool, plans.
 *
 * Buckets.  Three plans cover every step: decode (a few tokens), prefill (up to n_batch tokens, a
 * row per session), and all rows (logits of every token, made only when somebody asks).  They share
 * one arena, sized for the largest made so far. */
#include "run/engine.h"

#include <stdio.h>
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
    peri_memory larger;
    if (bytes <= e->arena.bytes) return PERI_OK;
    peri_status st = peri_memory_alloc(e->backend, bytes, PERI_BUF_ARENA, &larger, err);
    if (st) return peri_wrap(err, "%llu bytes of activations", (unsigned long long)bytes);
    peri_memory_free(e->backend, &e->arena);
    e->arena = larger;
    return PERI_OK;
}

/* Where a plan's logits are read to when the device's memory is its own. */
static peri_status grow_rows(peri_engine *e, uint64_t n_row, peri_error *err) {
    uint64_t n;
    if (e->arena.host || n_row <= e->n_rows) return PERI_OK;
    float *rows = peri_mul_u64(n_row, (uint64_t)e->a->n_vocab, &n) && n <= SIZE_MAX
                      ? peri_alloc_array((size_t)n, sizeof *rows)
                      : NULL;
    if (!rows)
        return peri_fail(err, PERI_E_NOMEM, "out of memory: %llu rows of logits",
                         (unsigned long long)n_row);
    peri_free(e->rows);
    e->rows = rows;
    e->n_rows = n_row;
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
    if (!st) st = grow_rows(e, (uint64_t)b.hi[PERI_SYM_R], err);
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
    e->weight = peri_calloc(n, sizeof *e->weight);
    e->weight_buf = peri_calloc(n, sizeof *e->weight_buf);
    if (!e->weight || !e->weight_buf)
        return peri_fail(err, PERI_E_NOMEM, "out of memory binding %u weights", n);
    for (e->n_weight = 0; e->n_weight < n; e->n_weight++) {
        const peri_weight_view *w = peri_weights_at(e->weights, e->n_weight);
        peri_memory *m = &e->weight[e->n_weight];
        if (peri_memory_from(e->backend, w->data, w->bytes, m, err))
            return peri_wrap(err, "weight %s", w->name);
        e->weight_buf[e->n_weight] = m->buf;
    }
    return peri_gguf_check(e->g, err);
}

static peri_status make_pools(peri_engine *e, peri_error *err) {
    uint32_t n = (uint32_t)e->a->n_layer;
    e->pool = peri_calloc(n, sizeof *e->pool);
    e->pool_buf = peri_calloc(n, sizeof *e->pool_buf);
    if (!e->pool || !e->pool_buf)
        return peri_fail(err, PERI_E_NOMEM, "out of memory for %u layers", n);
    for (e->n_pool = 0; e->n_pool < n; e->n_pool++) {
        peri_memory *m = &e->pool[e->n_pool];
        uint64_t bytes = e->kv.layer_bytes[e->n_pool];
        if (peri_memory_alloc(e->backend, bytes ? bytes : 1, PERI_BUF_POOL, m, err))
            return peri_wrap(err, "keys and values of %d x %d tokens (%llu bytes)", e->o.n_session,
                             e->o.n_ctx, (unsigned long long)e->kv.bytes);
        e->pool_buf[e->n_pool] = m->buf;
    }
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
    st = peri_memory_check(e->backend, err);
    if (st) return st;
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
    if (!st) st = make_pools(e, err);
    return st;
}

static void drop_memory(peri_engine *e) {
    for (uint32_t i = 0; i < e->n_pool; i++)
        peri_memory_free(e->backend, &e->pool[i]);
    for (uint32_t i = 0; i < e->n_weight; i++)
        peri_memory_free(e->backend, &e->weight[i]);
    if (e->backend) peri_memory_free(e->backend, &e->arena);
    peri_free(e->pool);
    peri_free(e->pool_buf);
    peri_free(e->weight);
    peri_free(e->weight_buf);
    peri_free(e->rows);
    e->pool = e->weight = NULL;
    e->pool_buf = e->weight_buf = NULL;
    e->rows = NULL;
    e->n_pool = e->n_weight = 0;
    e->n_rows = 0;
}

static void drop_device(peri_engine *e) {
    for (int i = 0; i < PERI_N_PLAN; i++) {
        peri_plan_free(e->plan[i]);
        e->plan[i] = NULL;
    }
    drop_memory(e);
    peri_weights_free(e->weights);
    peri_prefix_fini(&e->blocks);
    peri_kv_layout_fini(&e->kv);
    peri_backend_close(e->backend);
    e->weights = NULL;
    e->backend = NULL;
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

/* Place on device i instead of `first`, which cannot for the reason in why. */
static bool place_instead(peri_engine *e, peri_registry *r, size_t i, size_t first,
                          const peri_error *why) {
    const char *name = peri_registry_device(r, first)->info.name;
    const char *mine = peri_registry_device(r, i)->info.name;
    peri_error ignored;
    drop_device(e);
    if (place_on(e, r, i, &ignored)) return false;
    peri_log(PERI_LOG_WARN, "device %s was preferred but cannot run this model (%s); using %s",
             name, why->text, mine);
    e->choice.device = i;
    snprintf(e->choice.why, sizeof e->choice.why, "%s instead of %s: %.150s", mine, name,
             why->text);
    return true;
}

/* Is it the device that cannot, and not the model or this process? */
static bool is_of_device(const peri_engine *e, peri_status st) {
    bool has_own = e->backend && !(e->backend->info.flags & PERI_DEV_HOST_MEM);
    return st == PERI_E_NO_DRIVER || st == PERI_E_DEVICE_LOST || st == PERI_E_UNSUPPORTED ||
           (st == PERI_E_NOMEM && has_own);
}

/* A device that cannot run the model is no reason to give up while others are left: the further
 * ones that the user named, or, when none was named, any native one. */
static peri_status place_somewhere(peri_engine *e, peri_registry *r, peri_error *err) {
    uint64_t bytes = peri_gguf_file_bytes(e->g);
    const char *rest = e->o.device;
    peri_choice other;
    peri_error ignored;
    peri_status st = peri_place_choose(r, bytes, rest, &e->choice, err);
    if (st) return st;
    size_t first = e->choice.device;
    st = place_on(e, r, first, err);
    if (!st || e->o.is_strict || !is_of_device(e, st)) return st;
    peri_error why = *err;
    while (rest && (rest = strchr(rest, ',')) != NULL) {
        if (peri_place_choose(r, bytes, ++rest, &other, &ignored) || other.device == first)
            continue;
        if (place_instead(e, r, other.device, first, &why)) return PERI_OK;
    }
    for (size_t i = 0; i < peri_registry_n_device(r) && !e->o.device; i++) {
        const peri_device *d = peri_registry_device(r, i);
        if (i == first || !d->is_usable || (d->info.flags & PERI_DEV_EMULATED)) continue;
        if (place_instead(e, r, i, first, &why)) return PERI_OK;
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
