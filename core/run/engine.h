/* SPDX-License-Identifier: MIT
 *
 * engine.h - a model placed on one device or several: bound weights, KV pools, plans, and the step
 * that moves sessions forward.
 *
 * One thread drives an engine.  Interfaces carry plain data - ids, options, logits - so that the
 * engine can move to a process of its own later. */
#ifndef PERI_RUN_ENGINE_H
#define PERI_RUN_ENGINE_H

#include "graph/build.h"
#include "model/tokenizer.h"
#include "plugin/registry.h"
#include "plugin/rules.h"
#include "run/memory.h"
#include "run/plan.h"
#include "run/prefix.h"
#include "run/sampler.h"

/* DECODE_TOP, PREFILL_TOP: as those, with the likeliest tokens of each row beside it; see top.h. */
enum {
    PERI_PLAN_DECODE,
    PERI_PLAN_PREFILL,
    PERI_PLAN_ALL_ROWS,
    PERI_PLAN_DECODE_TOP,
    PERI_PLAN_PREFILL_TOP,
    PERI_N_PLAN
};
enum { PERI_DECODE_TOKENS = 16, PERI_BLOCK_TOKENS = 64 };

typedef struct peri_engine_options {
    int32_t n_ctx, n_session, n_batch; /* all set, at least 1 */
    uint32_t kv_dtype;                 /* number in dtype.def */
    const char *device;                /* names in order of preference, or NULL */
    const char *place;                 /* rules of placement (plugin/rules.h), or NULL */
    bool is_strict;                    /* a declined fused op or another fallback is an error */
    bool no_prefix_cache;              /* every token fed is computed */
} peri_engine_options;

typedef struct peri_session peri_session;

/* One of the engine's devices.  Weights and pools that no op here uses are absent. */
typedef struct peri_engine_device {
    size_t index;                      /* in the registry */
    peri_memory *weight;               /* [n_weight] */
    peri_buf **weight_buf, **pool_buf; /* [n_weight], [n_layer]: the same as a bind names them */
    peri_memory pools; /* of all layers, where it is host memory: what the engine's are parts of */
    uint64_t weight_bytes, kv_bytes;
} peri_engine_device;

typedef struct peri_engine {
    const peri_gguf *g;
    const peri_arch *a;
    peri_registry *registry;
    peri_engine_options o;
    peri_reads reads; /* what a token reads, as far as the file tells */
    peri_choice choice;
    peri_backend *backend[PERI_SPLIT_DEVICES]; /* [n_device], most preferred first */
    peri_engine_device device[PERI_SPLIT_DEVICES];
    peri_plan_seat seat[PERI_SPLIT_DEVICES]; /* what they bring to a step */
    uint32_t n_device;
    uint32_t failed;   /* the device whose fault a failed placement was, or n_device */
    peri_split split;  /* what is wanted of them, when there are several */
    peri_rules *rules; /* the user's; NULL: none */
    size_t rule_device[PERI_RULE_MAX]; /* the registry's numbers of the devices they name */
    uint8_t *rule_of; /* [n_part] which rule decides a part, or PERI_RULE_FREE; NULL: no rules */
    uint32_t *kv_ok;  /* [n_layer], see peri_plan_places */
    uint8_t *kv_at;   /* [n_layer] the device of the layer's keys and values */
    char names[96];   /* of the devices that run ops: "opencl,cpu" */
    peri_weights *weights;
    peri_kv_layout kv;
    peri_prefix blocks;
    peri_plan *plan[PERI_N_PLAN]; /* ALL_ROWS at first use; those with lists or never */
    int32_t n_top;                /* tokens of a list */
    int32_t *lists;               /* [PREFILL's rows][2][n_top] as read from the device */
    char no_top[88];              /* why there is no plan with lists */
    peri_memory *pool;            /* [n_layer] */
    uint32_t n_weight;
    void *staging; /* for copies between two devices' own memories */
    uint64_t staging_bytes;
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
    uint64_t n_row_top, n_row_whole; /* rows given as lists; rows given whole */
    uint64_t n_row_bytes;            /* read of both from devices with memory of their own */
} peri_engine;

/* Choose devices (giving up one that fails while others are left), decide which runs what, make the
 * decode and prefill plans, bind weights, allocate the KV pools.  g, a and registry must outlive
 * it. */
peri_status peri_engine_new(peri_registry *registry, const peri_gguf *g, const peri_arch *a,
                            const peri_engine_options *o, peri_engine **out, peri_error *err);
void peri_engine_free(peri_engine *e); /* accepts NULL; all sessions must be gone */
/* The plan for bucket kind PERI_PLAN_*, made now if need be. */
peri_status peri_engine_plan(peri_engine *e, int kind, peri_plan **out, peri_error *err);
/* Bytes of keys and values that one token takes over all layers. */
uint64_t peri_engine_kv_bytes_per_token(const peri_arch *a, uint32_t kv_dtype);
/* predict.c: measure the devices that are used, where that has not been done. */
void peri_engine_measure(const peri_engine *e);
/* Tokens per second that the devices' figures and the crossings allow: of generation after n_key
 * tokens, and of a prompt of n_tok after n_key.  0 when a figure is unknown. */
double peri_engine_predicted_tps(const peri_engine *e, uint64_t n_key);
double peri_engine_predicted_prompt_tps(const peri_engine *e, uint64_t n_key, int32_t n_tok);
/* Is anything run by device d? */
bool peri_engine_uses(const peri_engine *e, uint32_t d);
/* Instruction set of the first device that is used. */
const char *peri_engine_isa(const peri_engine *e);
/* engine_place.c: choose, and place with peri_engine_settle; what peri_engine_new does first. */
peri_status peri_engine_place(peri_engine *e, peri_registry *r, peri_error *err);
/* engine.c: place on the devices whose registry numbers are device[n]; limit[n]: bytes of weights,
 * keys and values each may hold beyond what the device says, UINT64_MAX = no more is known.
 * Undone by peri_engine_unsettle, also after a failure. */
peri_status peri_engine_settle(peri_engine *e, peri_registry *r, const size_t *device,
                               const uint64_t *limit, uint32_t n, peri_error *err);
void peri_engine_unsettle(peri_engine *e);
/* Parts that rule i decides and that hold anything. */
uint32_t peri_engine_decided_by(const peri_engine *e, uint32_t i);
/* engine_split.c: e->split for the devices opened, of which each gets at most limit[d]. */
peri_status peri_engine_split(peri_engine *e, const uint64_t *limit, peri_error *err);
/* Bytes an op reads of weight `ref` for one token: of an embedding a row, else all that is used. */
uint64_t peri_engine_token_bytes(const peri_engine *e, uint16_t code, uint32_t ref);
/* Keys that the last of n tokens sees at most. */
uint64_t peri_attn_keys(const peri_attn_attr *a, uint64_t n);
/* Bytes of that many keys and values of a layer. */
uint64_t peri_engine_kv_read_bytes(const peri_engine *e, uint16_t layer, uint64_t n_key);
/* What the core knows or assumes of device d. */
peri_split_device peri_engine_figures(const peri_engine *e, uint32_t d);
peri_bucket peri_engine_bucket(const peri_engine *e, int kind);

/* ---- steps --------------------------------------------------------------------------------------
 */
/* One feed's share of one step: n_tok tokens, n_row rows of logits from first_row on. */
typedef struct peri_step_part {
    size_t feed;
    int32_t n_tok, first_row, n_row;
    bool has_list; /* its row, of which there is one, comes as a list */
} peri_step_part;

typedef struct peri_step_feed {
    peri_session *s;
    const int32_t *tok;
    size_t n_tok;
    float *logits; /* [n_tok][n_vocab] when all_logits, else [n_vocab], or NULL */
    bool all_logits;
    bool want_row; /* the session gets its last row whole, even where its sampler needs no more than
                      a list */
    bool is_again; /* n_tok is 1: the session's last token, computed once more for its logits.  Its
                      keys and values are written over by the same bits, so nothing is copied */
} peri_step_feed;

/* step.c: compute all feeds, as perigee.h's peri_model_step says.  The tokens are appended to the
 * sessions' own and full blocks are published.  tok may be the session's own array. */
peri_status peri_engine_step(peri_engine *e, const peri_step_feed *feed, size_t n_feed,
                             size_t chunk, peri_error *err);

#endif
