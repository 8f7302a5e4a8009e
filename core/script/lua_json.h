/* SPDX-License-Identifier: MIT
 *
 * lua_json.h - JSON text to Lua values and back (perigee.sys.json).
 *
 * Objects are tables that remember the order of their keys, arrays carry a mark, so that [] and {}
 * differ; null is json.null; integers that do not fit 64 bits keep their digits; floats print in
 * the fewest digits that read back as the same number.  Nesting at most 128.  All memory is the
 * state's. Every function must run inside a protected call. */
#ifndef PERI_SCRIPT_LUA_JSON_H
#define PERI_SCRIPT_LUA_JSON_H

#include "script/lua_state.h"

/* perigee.sys.json: decode encode null array object number keys kind. */
int peri_lua_open_json(lua_State *L);
/* Push the value of a JSON text.  On failure nothing is pushed and *err is CORRUPT "line L, column
 * C: found ..., expected ...". */
peri_status peri_lua_push_json(lua_State *L, const char *text, size_t size, peri_error *err);
/* Push the compact text of the value at idx as a string.  On failure nothing is pushed and *err is
 * INVALID and names the place as $.key[3]. */
peri_status peri_lua_to_json(lua_State *L, int idx, peri_error *err);

#endif
