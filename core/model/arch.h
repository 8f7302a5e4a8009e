/* SPDX-License-Identifier: MIT
 *
 * arch.h - a flattened architecture: what a spec says about one model file, as plain data.
 *
 * core/script/lua_arch.c fills it from scripts/arch/NAME.lua and the file's keys; a unit test fills
 * it by hand. After that no Lua is involved.  The graph builder reads it, nobody changes it. */
#ifndef PERI_MODEL_ARCH_H
#define PERI_MODEL_ARCH_H

#include <stdbool.h>

#include "base/alloc.h"
#include "gguf.h"
#include "perigee/types.h"

/* Block kinds; 0 is none. */
typedef enum peri_block_kind {
    PERI_BLOCK_NONE,
#define PERI_ARCH_BLOCK(kind, meaning) PERI_BLOCK_##kind,
#include "arch.def"
    PERI_BLOCK_COUNT
} peri_block_kind;

/* Resolved options of one block in one layer: every option is a double (an enumerator's index, a
 * number, or 0/1). */
typedef struct peri_block_gqa {
    double qk_norm, mask, scale, cap, rope_pairs, rope_factors, rope_scaling, rope_base;
} peri_block_gqa;
typedef struct peri_block_gated {
    double act, fused;
} peri_block_gated;
typedef struct peri_block_moe {
    double router, act, renorm;
} peri_block_moe;

/* Values of the enumerated options, in the order of arch.def. */
enum { PERI_QK_NORM_NONE, PERI_QK_NORM_HEAD };
enum { PERI_MASK_FULL, PERI_MASK_WINDOW };
enum { PERI_PAIRS_NORM, PERI_PAIRS_NEOX };
enum { PERI_FACTORS_NONE, PERI_FACTORS_AUTO, PERI_FACTORS_LONG_SHORT };
enum { PERI_SCALING_KEY, PERI_SCALING_NONE };
enum { PERI_FFN_SILU, PERI_FFN_GELU };

/* stream += post(block(pre(stream))).  Stems name tensors blk.N.STEM.weight; "" = no norm there. */
typedef struct peri_arch_step {
    const char *pre, *post;
    peri_block_kind kind;
    union {
        peri_block_gqa gqa;
        peri_block_gated gated;
        peri_block_moe moe;
        double option[16];
    } u;
} peri_arch_step;

enum { PERI_ARCH_MAX_STEP = 8 };
typedef struct peri_arch_layer {
    int32_t n_head, n_kv, d_ff; /* the LAYERS parameters */
    uint32_t n_step;
    peri_arch_step step[PERI_ARCH_MAX_STEP];
} peri_arch_layer;

typedef enum peri_rope_scaling {
    PERI_ROPE_SCALING_NONE,
    PERI_ROPE_SCALING_LINEAR,
    PERI_ROPE_SCALING_YARN
} peri_rope_scaling;

typedef struct peri_arch {
    peri_arena *arena;                            /* owns every string and array here */
    const char *name, *parent, *source, *checked; /* "" when absent */
    const char *spec_path;
    int32_t n_layer, d_model, n_ctx, d_k, d_v, d_rot, n_expert, n_used, d_expert, window, n_vocab;
    double eps_rms, rope_base;
    /* rope.scaling.*; factor >= 1.  Source: YaRN, Peng et al. 2023; keys of the GGUF specification.
     */
    peri_rope_scaling scaling;
    double scaling_factor, attn_factor, ext_factor, beta_fast, beta_slow;
    int32_t n_ctx_orig;
    double embed_scale, head_scale, head_cap; /* 1, 1, 0 */
    const char *head_norm;                    /* stem of the final norm, "output_norm" */
    const char *const *scales;                /* [n_scale] stems whose .scale tensors are applied */
    uint32_t n_scale;
    bool want_all_scales;
    const char *const
        *unused; /* [n_unused] globs of tensors that may be present and are not read */
    uint32_t n_unused;
    const char **keys; /* [n_key] GGUF keys that were read, sorted, for show --arch */
    uint32_t n_key;
    peri_arch_layer *layer; /* [n_layer] */
} peri_arch;

/* How specs are read: given to whoever opens models, so that this folder knows no Lua.
 * Fills *out (to be freed with peri_arch_free).  NOT_FOUND when no spec has that architecture's
 * name. */
typedef peri_status (*peri_arch_load_fn)(void *user, const peri_gguf *g, peri_arch **out,
                                         peri_error *err);
void peri_arch_free(peri_arch *a); /* accepts NULL */

/* The option table of a kind, from arch.def. */
typedef enum peri_option_type {
    PERI_OPTION_ENUM,
    PERI_OPTION_NUM,
    PERI_OPTION_FLAG
} peri_option_type;
typedef struct peri_arch_option {
    peri_block_kind kind;
    const char *name; /* "rope_base" */
    peri_option_type type;
    const char *values; /* "none|head", or NULL */
    double number;      /* default */
    const char *meaning;
    uint32_t slot; /* index into peri_arch_step.u.option */
} peri_arch_option;
extern const peri_arch_option peri_arch_options[];
extern const uint32_t peri_arch_n_option;
const char *peri_block_kind_name(peri_block_kind kind); /* "gqa" */
peri_block_kind peri_block_kind_find(peri_str name);    /* NONE when unknown */
/* Index of a value in "a|b|c", or -1; and the value at an index, borrowed. */
int peri_option_value_find(const char *values, peri_str name);
peri_str peri_option_value_at(const char *values, int index);

/* Standard parameters of arch.def as a table. */
typedef enum peri_param_type {
    PERI_PARAM_INT,
    PERI_PARAM_FLOAT,
    PERI_PARAM_LAYERS
} peri_param_type;
typedef enum peri_param_fallback {
    PERI_FALLBACK_REQUIRED,
    PERI_FALLBACK_NUMBER,
    PERI_FALLBACK_HEADS,
    PERI_FALLBACK_N_HEAD,
    PERI_FALLBACK_D_K,
    PERI_FALLBACK_D_FF
} peri_param_fallback;
typedef struct peri_arch_param {
    const char *name, *key;
    peri_param_type type;
    peri_param_fallback fallback;
    double number, lo, hi;
    const char *meaning;
} peri_arch_param;
extern const peri_arch_param peri_arch_params[];
extern const uint32_t peri_arch_n_param;

/* Read the standard parameters and the rope.scaling keys into a (arena, n_layer's layers allocated
 * here). */
peri_status peri_arch_read_params(peri_arch *a, const peri_gguf *g, peri_error *err);
/* Value of a standard parameter in a layer; false for an unknown name. */
bool peri_arch_param_get(const peri_arch *a, const char *name, int32_t il, double *out);
/* Remember that a key was read. */
peri_status peri_arch_note_key(peri_arch *a, const char *key, peri_error *err);
/* The flattened spec as text: what `perigee show --arch` prints. */
struct peri_text;
void peri_arch_print(const peri_arch *a, struct peri_text *out);

#endif
