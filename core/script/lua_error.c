/* SPDX-License-Identifier: MIT
 *
 * lua_error.c - err tables: {code = "not_found", message = "..."} that print as their message, and
 * the module perigee.sys.error. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/status.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

static const char key_meta = 'e';

static int error_tostring(lua_State *L) {
    lua_getfield(L, 1, "message");
    if (lua_type(L, -1) != LUA_TSTRING) lua_pushliteral(L, "an error without a message");
    return 1;
}

static int error_concat(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    luaL_tolstring(L, 2, NULL);
    lua_concat(L, 2);
    return 1;
}

static void push_meta(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key_meta) == LUA_TTABLE) return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 4);
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushcfunction(L, error_concat);
    lua_setfield(L, -2, "__concat");
    lua_pushliteral(L, "perigee.error");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0); /* getmetatable answers false; nobody changes it */
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_meta);
}

static void push_code(lua_State *L, peri_status code) {
    char name[32];
    const char *s = peri_status_name(code);
    size_t n = strlen(s) < sizeof name ? strlen(s) : sizeof name - 1;
    for (size_t i = 0; i < n; i++)
        name[i] = (char)tolower((unsigned char)s[i]);
    lua_pushlstring(L, name, n);
}

void peri_lua_push_error(lua_State *L, peri_status code, const char *text) {
    luaL_checkstack(L, 4, NULL);
    lua_createtable(L, 0, 2);
    push_code(L, code);
    lua_setfield(L, -2, "code");
    lua_pushstring(L, text);
    lua_setfield(L, -2, "message");
    push_meta(L);
    lua_setmetatable(L, -2);
}

int peri_lua_fail(lua_State *L, const peri_error *err) {
    luaL_pushfail(L);
    peri_lua_push_error(L, err->code, err->text);
    return 2;
}

_Noreturn void peri_lua_misuse(lua_State *L, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    luaL_error(L, "%s", text);
    __builtin_unreachable();
}

bool lua_is_error(lua_State *L, int idx, peri_status *code) {
    idx = lua_absindex(L, idx);
    if (!lua_istable(L, idx) || !lua_getmetatable(L, idx)) return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_meta);
    bool is_error = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    if (!is_error) return false;
    lua_getfield(L, idx, "code");
    const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    *code = PERI_E_OTHER;
    static const peri_status known[] = {
#define CODE(status, number, text) PERI_E_##status,
        PERI_STATUS_LIST(CODE)
#undef CODE
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(name, peri_status_name(known[i])) == 0) *code = known[i];
    lua_pop(L, 1);
    return true;
}

/* error.new(code, message [, fields]): an err table; fields (a table) are copied into it. */
static int error_new(lua_State *L) {
    luaL_checkstring(L, 1);
    luaL_checkstring(L, 2);
    if (!lua_isnoneornil(L, 3)) luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    lua_createtable(L, 0, 2);
    if (lua_istable(L, 3))
        for (lua_pushnil(L); lua_next(L, 3);) {
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, 4);
        }
    lua_pushvalue(L, 1);
    lua_setfield(L, 4, "code");
    lua_pushvalue(L, 2);
    lua_setfield(L, 4, "message");
    push_meta(L);
    lua_setmetatable(L, 4);
    return 1;
}

/* error.is(value): is it an err table? */
static int error_is(lua_State *L) {
    peri_status code;
    luaL_checkany(L, 1);
    lua_pushboolean(L, lua_is_error(L, 1, &code));
    return 1;
}

int lua_open_error(lua_State *L) {
    static const luaL_Reg functions[] = {{"new", error_new}, {"is", error_is}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
