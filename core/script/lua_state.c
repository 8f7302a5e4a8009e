/* SPDX-License-Identifier: MIT
 *
 * lua_state.c - see lua_state.h.  The panic function is never reached: every entry is a protected
 * call. */
#include "script/lua_state.h"

#include "base/alloc.h"
#include "base/compiler.h"

enum { LARGE = 64 << 10 }; /* bytes */

static void *lua_resize(void *user, void *p, size_t old_bytes, size_t bytes) {
    peri_lua_budget *b = user;
    size_t held = p ? old_bytes : 0; /* for a new block old_bytes is a type tag */
    if (bytes == 0) {
        peri_free(p);
        b->used_bytes -= held;
        return NULL;
    }
    if (bytes > held && bytes > LARGE && b->is_endless && b->is_endless(b->owner, bytes))
        b->is_over = 1;
    if (bytes > held &&
        (b->used_bytes + (bytes - held) > b->max_bytes || (b->is_over && bytes > LARGE))) {
        b->is_system_out = false;
        return NULL;
    }
    void *q = peri_resize_array(p, bytes, 1);
    if (!q && bytes > held) {
        b->is_system_out = true;
        return NULL;
    }
    b->used_bytes += bytes - held;
    return q ? q : p; /* Lua relies on shrinking never failing: the old block serves */
}

static void out_of_instructions(lua_State *L, lua_Debug *ar) {
    (void)ar;
    luaL_error(L, "instruction limit reached");
}

lua_State *peri_lua_new(peri_lua_budget *budget, size_t max_bytes, int max_instructions) {
    *budget = (peri_lua_budget){.max_bytes = max_bytes};
    lua_State *L = lua_newstate(lua_resize, budget);
    if (L && max_instructions > 0)
        lua_sethook(L, out_of_instructions, LUA_MASKCOUNT, max_instructions);
    return L;
}
