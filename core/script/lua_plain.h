/* SPDX-License-Identifier: MIT
 *
 * lua_plain.h - plain data of Lua as bytes: what crosses between states, and what policies keep.
 *
 * Plain are booleans, numbers, strings, and tables without a metatable whose keys are strings and
 * whole numbers.  Equal data gives equal bytes, whatever order it was built in. */
#ifndef PERI_SCRIPT_LUA_PLAIN_H
#define PERI_SCRIPT_LUA_PLAIN_H

#include "base/text.h"
#include "script/lua_state.h"

enum { PLAIN_DEPTH = 16 };

/* Append the value at idx to out, at most `most` bytes of it.  false, and what is wrong in
 * err->text ("state.x: found a function, expected ..."), else; `what` names the value there.
 * May raise only for want of Lua memory. */
bool plain_write(lua_State *L, int idx, const char *what, peri_text *out, size_t most,
                 peri_error *err);
/* Push the value of the bytes; false, with nothing pushed, when they are malformed. */
bool plain_read(lua_State *L, peri_str bytes);

/* One key of a table. */
typedef struct plain_key {
    bool is_text, is_int;
    lua_Integer i;
    lua_Number x; /* of any number */
    peri_str s;   /* lives as long as the key in its table */
} plain_key;
/* Push a buffer of the keys of the table at idx: numbers by size, then strings by bytes.  NULL,
 * with nothing pushed, when there is a key of another type. */
plain_key *plain_push_keys(lua_State *L, int idx, size_t *n);

#endif
