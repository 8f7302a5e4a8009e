/* SPDX-License-Identifier: MIT
 *
 * engine.c - placing a model on devices that were chosen: weights, KV pools, plans.
 *
 * Which devices is engine_place.c's business, which part of the model on which engine_split.c's.
 *
 * Buckets.  Three plans cover every step: decode (a few tokens), prefill (up to n_batch tokens, a
 * row per session), and all rows (logits of every token, made only when somebody asks).  Where
 * logits lie in a device's own memory, decode and prefill have a second plan each, which gives
 * lists of likeliest tokens beside them (top.h).  They share one arena per device, sized for the
 * largest made so far, so that the lists of a step cost the arena what they take and no more. */
#include "run/engine.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reader.h"
#include "base/status.h"
#include "model/dtype.h"

#include "base/compiler.h"

uint64_t peri_engine_kv_bytes_per_token(const peri_arch *a, uint32_t kv_dtype) {
    uint64_t n = 0;
    for (int32_t il = 0; il < a->n_layer; il++)
        n += (uint64_t)a->layer[il].n_kv * (uint64_t)(a->d_k + a->d_v);
    return peri_dtype_size(kv_dtype, n);
}

bool peri_engine_uses(const peri_engine *e, uint32_t d) {
    return e->seat[d].arena.bytes != 0;
}

const char *peri_engine_isa(const peri_engine *e) {
    uint32_t d = 0;
    while (d + 1 < e->n_device && !peri_engine_uses(e, d))
        d++;
    return e->backend[d]->info.isa;
}

static int32_t min_i32(int32_t a, int32_t b) {
    return a < b ? a : b;
}

peri_bucket peri_engine_bucket(const peri_engine *e, int kind) {
    bool is_decode = kind == PERI_PLAN_DECODE || kind == PERI_PLAN_DECODE_TOP;
    int32_t n_tok = is_decode ? min_i32(PERI_DECODE_TOKENS, e->o.n_batch) : e->o.n_batch;
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

/* ---- what a plan needs -------------------------------------------------------------------------
 */

/* A failure that device d is to blame for. */
static peri_status blame(peri_engine *e, uint32_t d, peri_status st) {
    if (st) e->failed = d;
    return st;
}

/* The arena is replaced by a larger one; no plan keeps addresses. */
static peri_status grow_arena(peri_engine *e, uint32_t d, uint64_t bytes, peri_error *err) {
    peri_plan_seat *s = &e->seat[d];
    peri_memory larger;
    if (bytes <= s->arena.bytes) return PERI_OK;
    peri_status st = peri_memory_alloc(e->backend[d], bytes, PERI_BUF_ARENA, &larger, err);
    if (st) return peri_wrap(err, "%llu bytes of activations", (unsigned long long)bytes);
    peri_memory_free(e->backend[d], &s->arena);
    s->arena = larger;
    s->bind.arena = larger.buf;
    return PERI_OK;
}

static peri_status grow_staging(peri_engine *e, uint64_t bytes, peri_error *err) {
    if (bytes <= e->staging_bytes) return PERI_OK;
    void *larger = bytes <= SIZE_MAX ? peri_alloc_aligned((size_t)bytes, 64) : NULL;
    if (!larger)
        return peri_fail(err, PERI_E_NOMEM, "out of memory: %llu bytes between two devices",
                         (unsigned long long)bytes);
    peri_free(e->staging);
    e->staging = larger;
    e->staging_bytes = bytes;
    return PERI_OK;
}

/* Where a plan's logits are read to when the memory of the device they are on is its own. */
static peri_status grow_rows(peri_engine *e, const peri_plan *p, peri_error *err) {
    uint64_t n, n_row = (uint64_t)p->bucket.hi[PERI_SYM_R];
    if (e->seat[peri_plan_last(p)].arena.host || n_row <= e->n_rows) return PERI_OK;
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

static peri_status grow_memory(peri_engine *e, const peri_plan *p, peri_error *err) {
    peri_status st = grow_staging(e, p->staging_bytes, err);
    for (uint32_t d = 0; d < e->n_device && !st; d++)
        st = blame(e, d, grow_arena(e, d, peri_plan_arena_bytes(p, (uint8_t)d), err));
    return st ? st : grow_rows(e, p, err);
}

/* Weight i, read by an op of device d. */
static peri_status bind_weight(peri_engine *e, uint32_t d, uint32_t i, peri_error *err) {
    peri_engine_device *at = &e->device[d];
    const peri_weight_view *w = peri_weights_at(e->weights, i);
    if (at->weight_buf[i]) return PERI_OK;
    peri_status st = peri_memory_from(e->backend[d], w->data, w->bytes, &at->weight[i], err);
    if (st) return peri_wrap(err, "weight %s", w->name);
    at->weight_buf[i] = at->weight[i].buf;
    at->weight_bytes += w->bytes;
    return PERI_OK;
}

/* The weights a plan's ops read lie on the devices that run them. */
static peri_status bind_plan(peri_engine *e, const peri_plan *p, peri_error *err) {
    for (uint32_t i = 0; i < p->program->n_ops; i++) {
        const peri_op *o = peri_op_at(p->program, i);
        for (uint32_t k = 0; k < o->n_in; k++) {
            const peri_tensor *t = peri_operand(p->program, o, k);
            if (!t || t->kind != PERI_T_WEIGHT) continue;
            peri_status st = blame(e, p->device[i], bind_weight(e, p->device[i], t->ref, err));
            if (st) return st;
        }
    }
    return peri_gguf_check(e->g, err);
}

static peri_status new_plan(peri_engine *e, int kind, peri_plan **out, bool *is_stale,
                            peri_error *err) {
    peri_graph g;
    uint32_t logits, lists = PERI_NONE;
    peri_bucket b = peri_engine_bucket(e, kind);
    const peri_plan_places at = {.backend = e->backend,
                                 .n = e->n_device,
                                 .split = e->n_device > 1 ? &e->split : NULL,
                                 .kv_ok = e->n_device > 1 ? e->kv_ok : NULL,
                                 .kv_at = e->n_device > 1 ? e->kv_at : NULL,
                                 .n_layer = (uint32_t)e->a->n_layer};
    *out = NULL;
    peri_graph_init(&g);
    peri_status st = peri_build(e->a, e->weights, &e->kv, e->o.n_ctx, &g, &logits, err);
    if (!st && (kind == PERI_PLAN_DECODE_TOP || kind == PERI_PLAN_PREFILL_TOP))
        lists = peri_build_top(&g, logits, e->n_top);
    if (!st) st = peri_plan_place(&at, &g, logits, &b, out, is_stale, err);
    if (!st) (*out)->lists = lists;
    peri_graph_fini(&g);
    return st;
}

peri_status peri_engine_plan(peri_engine *e, int kind, peri_plan **out, peri_error *err) {
    bool is_stale = false;
    *out = e->plan[kind];
    if (*out) return PERI_OK;
    peri_plan *p = NULL;
    peri_status st = new_plan(e, kind, &p, &is_stale, err);
    if (!st && is_stale)
        st = peri_fail(err, PERI_E_UNSUPPORTED,
                       "a device declines attention on the keys and values it holds in a step "
                       "that gives the logits of every token");
    if (!st) st = grow_memory(e, p, err);
    if (!st) st = bind_plan(e, p, err);
    if (st) {
        peri_plan_free(p);
        return st;
    }
    e->plan[kind] = *out = p;
    return PERI_OK;
}

/* ---- placing ------------------------------------------------------------------------------------
 */

/* Decode and prefill, which must agree on where keys and values lie: made again while a later one
 * moves them, which narrows kv_ok each time. */
static peri_status make_plans(peri_engine *e, peri_error *err) {
    static const int kinds[] = {PERI_PLAN_DECODE, PERI_PLAN_PREFILL};
    peri_status st = PERI_OK;
    bool is_stale = true;
    while (is_stale && !st) {
        is_stale = false;
        for (size_t i = 0; i < 2 && !st && !is_stale; i++) {
            peri_plan_free(e->plan[kinds[i]]);
            e->plan[kinds[i]] = NULL;
            st = new_plan(e, kinds[i], &e->plan[kinds[i]], &is_stale, err);
        }
    }
    return st ? st : peri_weights_finish(e->weights, err);
}

/* Do the lists come from where the logits are? */
static bool has_lists(peri_engine *e, const peri_plan *p) {
    uint32_t n = p->program->n_ops;
    if (peri_op_at(p->program, n - 1)->code == PERI_OP_TOPK) {
        if (p->device[n - 1] == p->device[n - 2]) return true;
        snprintf(e->no_top, sizeof e->no_top, "the device of the logits declines TOPK");
    }
    for (uint32_t i = 0; i < p->n_note; i++)
        if (p->note[i].code == PERI_OP_TOPK && p->note[i].to == p->note[i].device)
            memcpy(e->no_top, p->note[i].why, sizeof e->no_top);
    return false;
}

/* Whole rows are read where a device declines: that is no failure, whatever --strict says. */
static peri_status make_top_plan(peri_engine *e, int kind, peri_error *err) {
    peri_plan **p = &e->plan[kind];
    bool is_stale = false;
    peri_status st = new_plan(e, kind, p, &is_stale, err);
    if (st || (has_lists(e, *p) && !is_stale)) return st;
    peri_plan_free(*p);
    *p = NULL;
    return PERI_OK;
}

static peri_status make_top_plans(peri_engine *e, peri_error *err) {
    const peri_backend *head = e->backend[peri_plan_last(e->plan[PERI_PLAN_DECODE])];
    size_t n_row = (size_t)peri_engine_bucket(e, PERI_PLAN_PREFILL).hi[PERI_SYM_R];
    *e->no_top = 0;
    if (head->info.flags & PERI_DEV_HOST_MEM) {
        snprintf(e->no_top, sizeof e->no_top, "rows are in host memory, where samplers read them");
        return PERI_OK;
    }
    e->n_top = min_i32(PERI_TOP_TOKENS, e->a->n_vocab);
    e->lists = peri_alloc_array(n_row, 2 * (size_t)e->n_top * sizeof *e->lists);
    if (!e->lists) return peri_fail(err, PERI_E_NOMEM, "out of memory for lists of tokens");
    peri_status st = make_top_plan(e, PERI_PLAN_DECODE_TOP, err);
    if (st || !e->plan[PERI_PLAN_DECODE_TOP] || e->o.n_batch <= PERI_DECODE_TOKENS) return st;
    return make_top_plan(e, PERI_PLAN_PREFILL_TOP, err);
}

/* Their activations and weights. */
static peri_status fit_plans(peri_engine *e, peri_error *err) {
    peri_status st = PERI_OK;
    for (int i = 0; i < PERI_N_PLAN && !st; i++)
        if (e->plan[i]) st = grow_memory(e, e->plan[i], err);
    for (int i = 0; i < PERI_N_PLAN && !st; i++)
        if (e->plan[i]) st = bind_plan(e, e->plan[i], err);
    return st;
}

/* In host memory a device's pools are parts of one block, which is large enough for large pages
 * where a layer's is not: with small ones every second token of an F16 pool of 8 x 128 took two
 * page faults per layer, and attention their misses of address translation. */
static peri_status make_pool_blocks(peri_engine *e, peri_error *err) {
    uint64_t room[PERI_SPLIT_DEVICES] = {0};
    for (uint32_t i = 0; i < (uint32_t)e->a->n_layer; i++)
        room[e->kv_at[i]] += e->kv.layer_bytes[i];
    for (uint32_t d = 0; d < e->n_device; d++) {
        if (room[d] == 0 || !(e->backend[d]->info.flags & PERI_DEV_HOST_MEM)) continue;
        peri_status st =
            peri_memory_alloc(e->backend[d], room[d], PERI_BUF_POOL, &e->device[d].pools, err);
        if (blame(e, d, st)) return st;
    }
    return PERI_OK;
}

static peri_status make_layer_pools(peri_engine *e, peri_error *err) {
    uint64_t used[PERI_SPLIT_DEVICES] = {0};
    for (uint32_t i = 0; i < (uint32_t)e->a->n_layer; i++) {
        uint32_t d = e->kv_at[i];
        peri_engine_device *at = &e->device[d];
        uint64_t bytes = e->kv.layer_bytes[i]; /* a multiple of 64 */
        if (at->pools.host) {
            e->pool[i] = peri_memory_part(&at->pools, used[d], bytes);
            used[d] += bytes;
        } else {
            peri_status st = peri_memory_alloc(e->backend[d], bytes ? bytes : 1, PERI_BUF_POOL,
                                               &e->pool[i], err);
            if (blame(e, d, st)) return st;
        }
        at->pool_buf[i] = e->pool[i].buf;
        at->kv_bytes += bytes;
    }
    return PERI_OK;
}

static peri_status make_pools(peri_engine *e, peri_error *err) {
    uint32_t n = (uint32_t)e->a->n_layer;
    e->pool = peri_calloc(n, sizeof *e->pool);
    if (!e->pool) return peri_fail(err, PERI_E_NOMEM, "out of memory for %u layers", n);
    peri_status st = make_pool_blocks(e, err);
    if (!st) st = make_layer_pools(e, err);
    if (!st) return PERI_OK;
    return peri_wrap(err, "keys and values of %d x %d tokens (%llu bytes)", e->o.n_session,
                     e->o.n_ctx, (unsigned long long)e->kv.bytes);
}

static peri_status check_strict(const peri_engine *e, peri_error *err) {
    for (int kind = 0; e->o.is_strict && kind < PERI_N_PLAN; kind++) {
        const peri_plan *p = e->plan[kind];
        const peri_plan_note *n = p && p->n_note ? p->note : NULL;
        char layers[48] = "", instead[64] = "";
        if (!n) continue;
        if (n->first_layer != 0xffff)
            snprintf(layers, sizeof layers, " of layers %u to %u", n->first_layer, n->last_layer);
        if (n->to != n->device)
            snprintf(instead, sizeof instead, "; %s would run it", e->backend[n->to]->info.name);
        return peri_fail(err, PERI_E_UNSUPPORTED,
                         "--strict: device %s declines %s%s (%u times): %s%s",
                         e->backend[n->device]->info.name, peri_op_name(n->code), layers, n->count,
                         n->why, instead);
    }
    return PERI_OK;
}

/* Tables of what each device holds. */
static peri_status make_tables(peri_engine *e, peri_error *err) {
    uint32_t n_layer = (uint32_t)e->a->n_layer;
    e->n_weight = peri_weights_n(e->weights);
    for (uint32_t d = 0; d < e->n_device; d++) {
        peri_engine_device *at = &e->device[d];
        at->weight = peri_calloc(e->n_weight, sizeof *at->weight);
        at->weight_buf = peri_calloc(e->n_weight, sizeof *at->weight_buf);
        at->pool_buf = peri_calloc(n_layer, sizeof *at->pool_buf);
        if (!at->weight || !at->weight_buf || !at->pool_buf)
            return peri_fail(err, PERI_E_NOMEM, "out of memory binding %u weights", e->n_weight);
        e->seat[d] = (peri_plan_seat){.backend = e->backend[d],
                                      .bind = {.size = sizeof(peri_bind),
                                               .n_weights = e->n_weight,
                                               .n_pools = n_layer,
                                               .weights = at->weight_buf,
                                               .pools = at->pool_buf}};
    }
    return PERI_OK;
}

static peri_status open_devices(peri_engine *e, peri_registry *r, const size_t *device, uint32_t n,
                                peri_error *err) {
    e->failed = n;
    for (e->n_device = 0; e->n_device < n; e->n_device++) {
        uint32_t d = e->n_device;
        e->device[d] = (peri_engine_device){.index = device[d]};
        peri_status st = blame(e, d, peri_registry_open(r, device[d], &e->backend[d], err));
        if (st) return st;
        st = blame(e, d, peri_memory_check(e->backend[d], err));
        if (st) {
            peri_backend_close(e->backend[d]);
            return st;
        }
    }
    return PERI_OK;
}

static peri_status lay_out_kv(peri_engine *e, peri_error *err) {
    uint32_t n_layer = (uint32_t)e->a->n_layer, tokens = e->backend[0]->info.kv_block_tokens;
    if (!tokens || tokens > 4096 || (tokens & (tokens - 1))) tokens = PERI_BLOCK_TOKENS;
    uint64_t per_session = ((uint64_t)e->o.n_ctx + tokens - 1) / tokens, n_block;
    if (!peri_mul_u64(per_session, (uint64_t)e->o.n_session, &n_block) || n_block > INT32_MAX)
        return peri_fail(err, PERI_E_RANGE, "%d sessions of %d tokens are too many", e->o.n_session,
                         e->o.n_ctx);
    e->kv_ok = peri_alloc_array(n_layer, sizeof *e->kv_ok);
    e->kv_at = peri_calloc(n_layer, sizeof *e->kv_at);
    if (!e->kv_ok || !e->kv_at)
        return peri_fail(err, PERI_E_NOMEM, "out of memory for %u layers", n_layer);
    for (uint32_t i = 0; i < n_layer; i++) {
        e->kv_ok[i] = UINT32_MAX;
        e->kv_at[i] = (uint8_t)(e->n_device > 1 ? e->n_device : 0);
    }
    peri_status st =
        peri_kv_layout_init(&e->kv, e->a, e->o.kv_dtype, tokens, (uint32_t)n_block, err);
    if (!st)
        st = peri_prefix_init(&e->blocks, (uint32_t)n_block, tokens, !e->o.no_prefix_cache, err);
    return st;
}

static void name_devices(peri_engine *e) {
    size_t n = 0;
    for (uint32_t d = 0; d < e->n_device && n < sizeof e->names; d++)
        if (peri_engine_uses(e, d))
            n += (size_t)snprintf(e->names + n, sizeof e->names - n, "%s%s", n ? "," : "",
                                  e->backend[d]->info.name);
}

peri_status peri_engine_settle(peri_engine *e, peri_registry *r, const size_t *device,
                               const uint64_t *limit, uint32_t n, peri_error *err) {
    peri_status st = open_devices(e, r, device, n, err);
    if (!st) st = lay_out_kv(e, err);
    if (!st) st = peri_weights_new(e->g, e->a, &e->weights, err);
    if (!st) st = peri_engine_split(e, limit, err);
    if (!st) st = make_plans(e, err);
    if (!st) st = make_top_plans(e, err);
    if (!st) st = check_strict(e, err);
    if (!st) st = make_tables(e, err);
    if (!st) st = fit_plans(e, err);
    if (!st) st = make_pools(e, err);
    if (!st) name_devices(e);
    return st;
}

static void drop_memory(peri_engine *e) {
    for (int32_t i = 0; e->pool && i < e->a->n_layer; i++)
        if (e->pool[i].buf) peri_memory_free(e->backend[e->kv_at[i]], &e->pool[i]);
    for (uint32_t d = 0; d < e->n_device; d++) {
        peri_engine_device *at = &e->device[d];
        for (uint32_t i = 0; at->weight && i < e->n_weight; i++)
            peri_memory_free(e->backend[d], &at->weight[i]);
        peri_memory_free(e->backend[d], &at->pools);
        peri_memory_free(e->backend[d], &e->seat[d].arena);
        peri_free(at->weight);
        peri_free(at->weight_buf);
        peri_free(at->pool_buf);
        *at = (peri_engine_device){0};
        e->seat[d] = (peri_plan_seat){0};
    }
    peri_free(e->pool);
    peri_free(e->rows);
    peri_free(e->staging);
    peri_free(e->lists);
    e->pool = NULL;
    e->lists = NULL;
    e->rows = NULL;
    e->staging = NULL;
    e->n_weight = 0;
    e->n_rows = e->staging_bytes = 0;
}

void peri_engine_unsettle(peri_engine *e) {
    for (int i = 0; i < PERI_N_PLAN; i++) {
        peri_plan_free(e->plan[i]);
        e->plan[i] = NULL;
    }
    drop_memory(e);
    peri_weights_free(e->weights);
    e->weights = NULL;
    peri_split_fini(&e->split);
    peri_prefix_fini(&e->blocks);
    peri_kv_layout_fini(&e->kv);
    peri_free(e->kv_ok);
    peri_free(e->kv_at);
    e->kv_ok = NULL;
    e->kv_at = NULL;
    while (e->n_device)
        peri_backend_close(e->backend[--e->n_device]);
}

/* The step block for the largest step: header, four arrays of T, contexts, tables, rows. */
static peri_status make_step_block(peri_engine *e, peri_error *err) {
    peri_bucket b = peri_engine_bucket(e, PERI_PLAN_ALL_ROWS);
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
    peri_status st = peri_engine_place(e, registry, err);
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
    peri_engine_unsettle(e);
    peri_free(e->rules);
    peri_free(e->rule_of);
    peri_free(e->step);
    peri_sampler_scratch_free(e->scratch);
    peri_free(e->feed_done);
    peri_free(e->feed_part);
    peri_free(e);
}
