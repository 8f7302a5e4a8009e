/* SPDX-License-Identifier: MIT
 *
 * lua_buf.c - a growing buffer whose memory is the Lua state's: it counts against the cap, and an
 * error that passes leaves it to the collector.  Unlike luaL_Buffer it may be filled while the
 * stack above its slot changes. */
#include <string.h>

#include "script/sandbox_int.h"

#include "base/compiler.h"

void lua_buf_init(lua_buf *b, lua_State *L) {
    lua_pushnil(L);
    b->L = L;
    b->idx = lua_gettop(L);
    b->data = b->first;
    b->size = 0;
    b->room = sizeof b->first;
}

char *lua_buf_room(lua_buf *b, size_t n) {
    if (n <= b->room - b->size) return b->data + b->size;
    if (n > (SIZE_MAX >> 2) - b->size) luaL_error(b->L, "not enough memory");
    size_t room = b->room * 2;
    while (room < b->size + n)
        room *= 2;
    char *data = lua_newuserdatauv(b->L, room, 0);
    memcpy(data, b->data, b->size);
    lua_replace(b->L, b->idx);
    b->data = data;
    b->room = room;
    return b->data + b->size;
}

void lua_buf_add(lua_buf *b, const char *data, size_t n) {
    char *to = lua_buf_room(b, n);
    if (n != 0) memcpy(to, data, n);
    b->size += n;
}

void lua_buf_push(lua_buf *b) {
    lua_pushlstring(b->L, b->data, b->size);
}
