/* SPDX-License-Identifier: MIT
 *
 * lua_state.h - Lua states over our allocator, with a memory cap and an instruction limit. */
#ifndef PERI_SCRIPT_LUA_STATE_H
#define PERI_SCRIPT_LUA_STATE_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <stdbool.h>

#include "perigee/types.h"

typedef struct peri_lua_budget {
    size_t used_bytes, max_bytes;
    volatile sig_atomic_t is_over; /* blocks above 64 KiB are refused: see lua_run.c */
    bool is_system_out;            /* what was refused last, the system refused, not max_bytes */
    /* Asked before a block above 64 KiB is made or grows: true refuses it.  May be NULL. */
    bool (*is_endless)(void *owner, size_t bytes);
    void *owner;
} peri_lua_budget;

/* A bare state without libraries.  Allocation beyond max_bytes fails as LUA_ERRMEM; after
 * max_instructions (0: no limit) the running chunk raises "instruction limit".  NULL when out of
 * memory.  Close with lua_close; budget must outlive it. */
lua_State *peri_lua_new(peri_lua_budget *budget, size_t max_bytes, int max_instructions);

#endif
