/* SPDX-License-Identifier: MIT
 *
 * load.h - from the path of a model file to everything that runs it: the file, its architecture,
 * its tokenizer, and an engine on its devices, with default sizes where the user gave none. */
#ifndef PERI_RUN_LOAD_H
#define PERI_RUN_LOAD_H

#include "run/engine.h"

/* Where models are loaded; borrowed, must outlive what is loaded. */
typedef struct peri_load_env {
    const peri_topology *topology;
    peri_registry *registry;
    peri_arch_load_fn load_arch;
    void *load_arch_user;
    /* Once the devices are open: tell of settings that nobody asks for.  May be NULL. */
    peri_status (*check_settings)(void *user, peri_error *err);
    void *check_settings_user;
    bool is_strict; /* warnings and fallbacks become errors */
} peri_load_env;

enum { /* as PERI_KV_* of perigee.h */
       PERI_LOAD_KV_F16 = 0,
       PERI_LOAD_KV_F32 = 1,
       PERI_LOAD_KV_Q8_0 = 2,
       PERI_LOAD_KV_Q4_0 = 3
};
enum { PERI_LOAD_WEIGHTS_AUTO = 0, PERI_LOAD_WEIGHTS_MAP = 1, PERI_LOAD_WEIGHTS_COPY = 2 };

typedef struct peri_load_options {
    uint32_t n_ctx;       /* tokens a session may hold; 0 = trained length, capped by memory */
    uint32_t n_session;   /* full sessions there is room for; 0 = 1 */
    uint32_t n_batch;     /* most tokens in one step; 0 = 512 */
    uint32_t kv_type;     /* PERI_LOAD_KV_* */
    uint32_t weights;     /* PERI_LOAD_WEIGHTS_* */
    const char *device;   /* names, the preferred first, or NULL */
    const char *place;    /* rules of placement (plugin/rules.h), or NULL */
    bool no_prefix_cache; /* every token fed is computed */
    bool metadata_only;   /* no engine; an unknown architecture is no error */
    /* Bytes done of total; nonzero cancels (PERI_E_CANCELLED).  May be NULL. */
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *progress_user;
} peri_load_options;

typedef struct peri_loaded {
    peri_gguf *g;
    peri_arch *a;               /* NULL only when metadata_only and the architecture is unknown */
    peri_error arch_error;      /* why a is NULL */
    peri_tokenizer *tokenizer;  /* NULL when the file has none that we know */
    peri_error tokenizer_error; /* why */
    peri_engine *engine;        /* NULL when metadata_only */
} peri_loaded;

/* Fills *out; on failure it is all NULL.  Loading at the same time from two threads with one
 * registry is not allowed; engines that run meanwhile are not disturbed. */
peri_status peri_loaded_init(peri_loaded *out, const peri_load_env *env, const char *path,
                             const peri_load_options *o, peri_error *err);
void peri_loaded_fini(peri_loaded *l); /* all sessions must be gone */

#endif
