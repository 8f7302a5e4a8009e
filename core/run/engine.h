/* SPDX-License-Identifier: MIT
 *
 * engine.h - a model placed on a device: bound weights, KV pool, plans, and the step that moves
 * sessions forward.
 *
 * One thread drives an engine.  Interfaces carry plain data - ids, options, logits - so that the
 * engine can move to a process of its own later. */
#ifndef PERI_RUN_ENGINE_H
#define PERI_RUN_ENGINE_H

#include "graph/build.h"
#include "model/tokenizer.h"
#include "plugin/registry.h"
#include "run/memory.h"
#include "run/plan.h"
#include "run/prefix.h"
#include "run/sampler.h"

enum { PERI_PLAN_DECODE, PERI_PLAN_PREFILL, PERI_PLAN_ALL_ROWS, PERI_N_PLAN };
enum { PERI_DECODE_TOKENS = 16, PERI_BLOCK_TOKENS = 64 };

typedef struct peri_engine_options {
    int32_t n_ctx, n_session, n_batch; /* all set, at least 1 */
    uint32_t kv_dtype;                 /* number in dtype.def */
    const char *device;                /* preference, or NULL */
    bool is_strict;                    /* a declined fused op or another fallback is an error */
    bool no_prefix_cache;              /* every token fed is computed */
} peri_engine_options;

typedef struct peri_session peri_session;

typedef struct peri_engine {
    const peri_gguf *g;
    const peri_arch *a;
    const peri_registry *registry;
    peri_engine_options o;
    peri_choice choice;
    peri_backend *backend;
    peri_weights *weights;
    peri_kv_layout kv;
    peri_prefix blocks;
    peri_plan *plan[PERI_N_PLAN];      /* made at first use */
    peri_memory arena, *weight, *pool; /* [n_weight], [n_pool]: one per layer */
    uint32_t n_weight, n_pool;
    peri_buf **weight_buf, **pool_buf; /* the same as a bind names them */
    float *rows; /* [n_rows][n_vocab] logits read from a device's own memory */
    uint64_t n_rows;
    void *step;
    uint64_t step_bytes;
    peri_sampler_scratch *scratch; /* of the sessions' samplers */
    const peri_policy_host *host; /* of their policies; NULL: none.  Set before the first session */
    uint64_t n_step;
    size_t *feed_done; /* [feed_room] step.c's bookkeeping, kept so that steady decoding allocates
                          nothing */
    struct peri_step_part *feed_part;
    size_t feed_room;
    int32_t n_session; /* sessions alive */
    bool is_served;    /* a service drives it; sessions are the service's */
    uint64_t n_kv_copied_bytes, n_preempted, n_swapped_bytes;
} peri_engine;

/* Choose a device (trying the next candidate when one cannot run the model), bind weights, make the
 * decode and prefill plans, allocate the KV pool.  g, a and registry must outlive it. */
peri_status peri_engine_new(peri_registry *registry, const peri_gguf *g, const peri_arch *a,
                            const peri_engine_options *o, peri_engine **out, peri_error *err);
void peri_engine_free(peri_engine *e); /* accepts NULL; all sessions must be gone */
/* The plan for bucket kind PERI_PLAN_*, made now if need be. */
peri_status peri_engine_plan(peri_engine *e, int kind, peri_plan **out, peri_error *err);
/* Bytes of keys and values that one token takes over all layers. */
uint64_t peri_engine_kv_bytes_per_token(const peri_arch *a, uint32_t kv_dtype);
/* Decode tokens per second that the device's bandwidth allows; 0 when the bandwidth is unknown. */
double peri_engine_predicted_tps(const peri_engine *e);

/* ---- steps --------------------------------------------------------------------------------------
 */
/* One feed's share of one step: n_tok tokens, n_row rows of logits from first_row on. */
typedef struct peri_step_part {
    size_t feed;
    int32_t n_tok, first_row, n_row;
} peri_step_part;

typedef struct peri_step_feed {
    peri_session *s;
    const int32_t *tok;
    size_t n_tok;
    float *logits; /* [n_tok][n_vocab] when all_logits, else [n_vocab], or NULL */
    bool all_logits;
    bool is_again; /* n_tok is 1: the session's last token, computed once more for its logits.  Its
                      keys and values are written over by the same bits, so nothing is copied */
} peri_step_feed;

/* step.c: compute all feeds, as perigee.h's peri_model_step says.  The tokens are appended to the
 * sessions' own and full blocks are published.  tok may be the session's own array. */
peri_status peri_engine_step(peri_engine *e, const peri_step_feed *feed, size_t n_feed,
                             size_t chunk, peri_error *err);

#endif
