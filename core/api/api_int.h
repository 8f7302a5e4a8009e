/* SPDX-License-Identifier: MIT
 *
 * api_int.h - the objects behind perigee.h, shared by the files of this folder. */
#ifndef PERI_API_INT_H
#define PERI_API_INT_H

#include <stdatomic.h>

#include "net/loop.h"
#include "perigee/perigee.h"
#include "plugin/registry.h"
#include "run/load.h"
#include "script/lua_arch.h"

struct peri_runtime {
    peri_topology *topology;
    peri_registry *registry;
    char *script_dir, *check_program;
    char **setting;       /* [n_setting] "key=value" copies */
    atomic_bool *is_done; /* [n_setting] asked for, or told that it is not */
    size_t n_setting;
    bool is_strict;
    _Atomic(peri_signal *) interrupt; /* made with the first script */
    atomic_bool is_script_running;
};

struct peri_model {
    peri_runtime *rt;
    peri_gguf *g;
    peri_arch *a;               /* NULL only when metadata_only and the architecture is unknown */
    peri_error arch_error;      /* why a is NULL */
    peri_tokenizer *tokenizer;  /* NULL when the file has none that we know */
    peri_error tokenizer_error; /* why */
    peri_engine *engine;        /* NULL when metadata_only */
};

/* peri_runtime_new for a libperigee that lies in library_dir; NULL = find it.  Programs that link
 * the core statically need this. */
peri_status peri_runtime_new_in(const peri_runtime_options *opts, const char *library_dir,
                                peri_runtime **out, peri_error *err);

/* May sessions of this model be driven directly?  Not without an engine, nor while a service drives
 * it. */
peri_status peri_model_may_drive(const peri_model *m, peri_error *err);
/* What loading a model needs of rt; *source is filled and must live as long. */
peri_load_env peri_runtime_load_env(peri_runtime *rt, peri_spec_source *source);

/* Public size-first options: copy what the caller's version holds over zeros. */
void peri_options_copy(void *dst, size_t dst_size, const void *src);

#endif
