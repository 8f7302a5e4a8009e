/* SPDX-License-Identifier: MIT
 *
 * lua_arch.h - reading architecture specs: scripts/arch/NAME.lua plus the keys of a model file make
 * a peri_arch.
 *
 * A spec is data.  Its file may use only the helpers of the schema (every, first, pattern, has,
 * pick, rsqrt, sqrt, ratio, DROP); no library, no bytecode, a memory cap and an instruction limit.
 * Unknown keys and values are errors that name the nearest known one, the file and the place in it.
 * Each call uses a Lua state of its own: thread-safe. */
#ifndef PERI_SCRIPT_LUA_ARCH_H
#define PERI_SCRIPT_LUA_ARCH_H

#include "model/arch.h"

typedef struct peri_spec_source {
    const char *script_dir; /* holds arch/ */
} peri_spec_source;

/* A peri_arch_load_fn; user is a peri_spec_source. */
peri_status peri_lua_arch_load(void *user, const peri_gguf *g, peri_arch **out, peri_error *err);
/* The spec of one architecture with its parent merged, as Lua-like text the caller frees with
 * peri_free. */
peri_status peri_lua_arch_text(const peri_spec_source *s, const char *name, char **text,
                               peri_error *err);

#endif
