/* SPDX-License-Identifier: MIT
 *
 * lua_sandbox.c - opening a state: which functions exist, in which environment, and how they are
 * kept from being changed.
 *
 * `allowed` below is the whole list; a test freezes what can be reached from a script as text.  An
 * environment is an empty table in front of the real one: reads go through, a name that is not
 * there raises and names the nearest, writes raise.  Libraries and our modules are such views too
 * (peri_lua_freeze), except that a missing field reads as nil.
 *
 * Read in this order: allowed, peri_lua_freeze, build, peri_lua_open. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/suggest.h"
#include "script/lua_json.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

enum { DEFAULT_MIB = 64, DEFAULT_SLICE_MS = 500, MAX_NAMES = 64 };

const char lua_key_user_env = 'U', lua_key_trusted_env = 'T', lua_key_user_meta = 'm',
           lua_key_frozen = 'f';

/* ---- what exists --------------------------------------------------------------------------- */

/* Functions of the stock libraries that stay as they are.  Absent on purpose: collectgarbage,
 * dofile, loadfile, warn; string.dump; io, os, debug, package whole.  The others of these libraries
 * are replaced: see lua_guard_*, lua_string_own, lua_table_own, lua_math_own. */
static const struct {
    const char *library; /* "_G": base */
    const char *names;
} allowed[] = {
    {"_G", "assert error ipairs next pairs rawequal rawget rawlen select tonumber tostring type"},
    {"string", "byte char format len lower pack packsize reverse sub unpack upper"},
    {"table", "pack unpack"},
    {"math",
     "abs acos asin atan ceil cos deg exp floor fmod huge log max maxinteger min mininteger "
     "modf pi rad sin sqrt tan tointeger type ult"},
    {"utf8", "char charpattern codepoint codes len offset"},
    {"coroutine", ""},
};

static const struct {
    const char *name, *hint;
} absent[] = {
    {"os", "perigee.time, perigee.date"},
    {"io", "print, perigee.fs"},
    {"collectgarbage", NULL},
    {"debug", NULL},
    {"package", "require"},
    {"dofile", "require"},
    {"loadfile", "require"},
    {"loadstring", "load"},
    {"unpack", "table.unpack"},
};

/* ---- read-only views ----------------------------------------------------------------------- */

static int view_next(lua_State *L) {
    lua_settop(L, 2);
    if (lua_next(L, lua_upvalueindex(1))) return 2;
    lua_pushnil(L);
    return 1;
}

/* __pairs with the table behind as upvalue, which the caller never sees. */
static int view_pairs(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushcclosure(L, view_next, 1);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

static int view_len(lua_State *L) {
    lua_pushinteger(L, luaL_len(L, lua_upvalueindex(1)));
    return 1;
}

static const char *shown_key(lua_State *L, int idx) {
    return lua_type(L, idx) == LUA_TSTRING ? lua_tostring(L, idx) : luaL_typename(L, idx);
}

static int view_assign(lua_State *L) {
    peri_lua_misuse(L, "assignment to field '%.60s' of a read-only table", shown_key(L, 2));
}

/* Make the empty table at `view` a view of the table at `behind`. */
static void set_view(lua_State *L, int view, int behind, lua_CFunction assign) {
    lua_createtable(L, 0, 6);
    lua_pushvalue(L, behind);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, assign);
    lua_setfield(L, -2, "__newindex");
    lua_pushvalue(L, behind);
    lua_pushcclosure(L, view_pairs, 1);
    lua_setfield(L, -2, "__pairs");
    lua_pushvalue(L, behind);
    lua_pushcclosure(L, view_len, 1);
    lua_setfield(L, -2, "__len");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, view);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_frozen);
    lua_pushvalue(L, view);
    lua_pushvalue(L, behind);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* Replace the table on top by a view of it. */
static void make_view(lua_State *L, lua_CFunction assign) {
    lua_newtable(L);
    int view = lua_gettop(L);
    set_view(L, view, view - 1, assign);
    lua_remove(L, view - 1);
}

/* Push the view of the table at idx; `memo` (a stack index) maps tables to their views, which are
 * known before their fields are: tables may hold each other. */
static void freeze(lua_State *L, int idx, int memo, int depth) {
    luaL_checkstack(L, 12, "too many nested tables");
    lua_pushvalue(L, idx);
    if (lua_rawget(L, memo) != LUA_TNIL) return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_newtable(L);
    int view = lua_gettop(L), copy = view - 1;
    lua_pushvalue(L, idx);
    lua_pushvalue(L, view);
    lua_rawset(L, memo);
    for (lua_pushnil(L); lua_next(L, idx);) {
        int value = lua_gettop(L);
        lua_pushvalue(L, value - 1);
        bool is_plain = lua_istable(L, value) && depth > 0;
        if (is_plain && lua_getmetatable(L, value)) {
            is_plain = false;
            lua_pop(L, 1);
        }
        if (is_plain)
            freeze(L, value, memo, depth - 1);
        else
            lua_pushvalue(L, value);
        lua_rawset(L, copy);
        lua_settop(L, value - 1);
    }
    if (lua_getmetatable(L, idx)) { /* fields that the module makes when asked */
        lua_pop(L, 1);
        lua_createtable(L, 0, 1);
        lua_pushvalue(L, idx);
        lua_setfield(L, -2, "__index");
        lua_setmetatable(L, copy);
    }
    set_view(L, view, copy, view_assign);
    lua_remove(L, copy);
}

void peri_lua_freeze(lua_State *L, int idx) {
    enum { MAX_DEPTH = 16 };
    idx = lua_absindex(L, idx);
    lua_newtable(L);
    freeze(L, idx, lua_gettop(L), MAX_DEPTH);
    lua_remove(L, -2);
}

/* ---- globals ------------------------------------------------------------------------------- */

/* Reading a global that is not there.  Arguments: the environment's real table, the name. */
static int undeclared(lua_State *L) {
    const char *names[MAX_NAMES], *name = shown_key(L, 2);
    size_t n = 0;
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        if (strcmp(absent[i].name, name) != 0) continue;
        if (absent[i].hint == NULL) peri_lua_misuse(L, "'%s' is not available in scripts", name);
        peri_lua_misuse(L, "'%s' is not available in scripts; use %s", name, absent[i].hint);
    }
    for (lua_pushnil(L); lua_next(L, 1) && n < MAX_NAMES; lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING) names[n++] = lua_tostring(L, -2);
    const char *near = peri_nearest(name, names, n);
    if (near != NULL)
        peri_lua_misuse(L, "undeclared global '%.60s'; did you mean '%s'?", name, near);
    peri_lua_misuse(L, "undeclared global '%.60s'", name);
}

static int assign_global(lua_State *L) {
    const char *name = shown_key(L, 2);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_frozen);
    lua_pushvalue(L, 1);
    lua_rawget(L, -2);
    lua_pushvalue(L, 2);
    if (lua_istable(L, -2) && lua_rawget(L, -2) != LUA_TNIL)
        peri_lua_misuse(L, "assignment to '%.60s', which is read-only (use local)", name);
    peri_lua_misuse(L, "assignment to undeclared global '%.60s' (use local)", name);
}

/* ---- building ------------------------------------------------------------------------------ */

static void copy_allowed(lua_State *L, int from, int to, const char *names) {
    while (*names != 0) {
        size_t n = strcspn(names, " ");
        lua_pushlstring(L, names, n);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, from) == LUA_TNIL)
            luaL_error(L, "the Lua library has no %s", lua_tostring(L, -2));
        lua_rawset(L, to);
        names += n + (names[n] == ' ');
    }
}

/* The libraries as views, shared by both environments: name -> view in the table pushed.  The base
 * functions are under "_G", as they are.  What is behind goes where liblua looks for the names of
 * functions in messages. */
static void push_libraries(lua_State *L) {
    static const luaL_Reg *const own[] = {lua_guard_both, lua_string_own, lua_table_own,
                                          lua_math_own,   NULL,           lua_guard_coroutine};
    lua_newtable(L);
    int all = lua_gettop(L);
    luaL_requiref(L, "_G", luaopen_base, 0);
    luaL_requiref(L, "string", luaopen_string, 0);
    luaL_requiref(L, "table", luaopen_table, 0);
    luaL_requiref(L, "math", luaopen_math, 0);
    luaL_requiref(L, "utf8", luaopen_utf8, 0);
    lua_newtable(L);
    lua_newtable(L);
    int names = lua_gettop(L);
    for (int i = 0; i < 6; i++) {
        lua_newtable(L);
        copy_allowed(L, all + 1 + i, lua_gettop(L), allowed[i].names);
        if (own[i] != NULL) luaL_setfuncs(L, own[i], 0);
        lua_pushvalue(L, -1);
        lua_setfield(L, names, allowed[i].library);
        if (i > 0) make_view(L, view_assign);
        lua_setfield(L, all, allowed[i].library);
    }
    lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_settop(L, all);
}

/* Strings have one metatable for the whole state. */
static void lock_strings(lua_State *L, int libraries) {
    lua_pushliteral(L, "");
    lua_createtable(L, 0, 2);
    lua_getfield(L, libraries, "string");
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

/* Store an environment under `key`. */
static void build_environment(lua_State *L, int libraries, const char *key, bool is_user) {
    lua_newtable(L);
    int env = lua_gettop(L);
    for (int i = 0; i < 6; i++) {
        lua_getfield(L, libraries, allowed[i].library);
        if (i > 0) {
            lua_setfield(L, env, allowed[i].library);
            continue;
        }
        for (lua_pushnil(L); lua_next(L, -2);) {
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, env);
        }
        lua_pop(L, 1);
    }
    if (is_user) {
        luaL_setfuncs(L, lua_guard_user, 0);
    } else {
        lua_getglobal(L, "setmetatable");
        lua_setfield(L, env, "setmetatable");
        lua_getglobal(L, "getmetatable");
        lua_setfield(L, env, "getmetatable");
        lua_getglobal(L, "rawset");
        lua_setfield(L, env, "rawset");
    }
    lua_pushliteral(L, LUA_VERSION);
    lua_setfield(L, env, "_VERSION");
    lua_pushcfunction(L, is_user ? lua_require_user : lua_require_trusted);
    lua_setfield(L, env, "require");
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, undeclared);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, env);
    make_view(L, assign_global);
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, lua_guard_load, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_frozen);
    lua_pushvalue(L, env);
    lua_rawget(L, -2); /* the real table */
    lua_pushvalue(L, env + 1);
    lua_setfield(L, -2, "load");
    lua_pushvalue(L, env);
    lua_setfield(L, -2, "_G");
    lua_settop(L, env);
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

static void new_set(lua_State *L, const char *key, const char *mode) {
    lua_newtable(L);
    if (mode != NULL) {
        lua_createtable(L, 0, 1);
        lua_pushstring(L, mode);
        lua_setfield(L, -2, "__mode");
        lua_setmetatable(L, -2);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

static int build(lua_State *L) {
    new_set(L, &lua_key_user_meta, "k");
    new_set(L, &lua_key_frozen, "k");
    new_set(L, &lua_key_user_loaded, NULL);
    new_set(L, &lua_key_user_files, NULL);
    new_set(L, &lua_key_trusted_loaded, NULL);
    push_libraries(L);
    lock_strings(L, 1);
    build_environment(L, 1, &lua_key_trusted_env, false);
    build_environment(L, 1, &lua_key_user_env, true);
    /* The stock globals are reachable no more. */
    lua_newtable(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    return 0;
}

/* ---- opening and closing ------------------------------------------------------------------- */

static bool copy_text(const char *from, char **to) {
    *to = from != NULL ? peri_str_dup(peri_str_of(from)) : NULL;
    return from == NULL || *to != NULL;
}

static peri_status take_options(peri_lua *l, const peri_lua_options *o, peri_error *err) {
    l->slice_ns = (int64_t)(o->slice_ms != 0 ? o->slice_ms : DEFAULT_SLICE_MS) * 1000000;
    l->seed = o->seed;
    l->user = o->user;
    l->print = o->print;
    l->ask = o->ask;
    if (!copy_text(o->script_dir, &l->script_dir) || !copy_text(o->config_dir, &l->config_dir) ||
        !copy_text(o->work_dir, &l->work_dir))
        return peri_fail(err, PERI_E_NOMEM, "Lua: out of memory");
    for (size_t i = 0; i < o->n_allow; i++) {
        peri_status status = lua_grant_add(l, o->allow[i], err);
        if (status != PERI_OK) return status;
    }
    return PERI_OK;
}

peri_status peri_lua_open(const peri_lua_options *o, peri_lua **out, peri_error *err) {
    static const struct {
        const char *name;
        lua_CFunction open;
    } modules[] = {
        {"error", lua_open_error},   {"json", peri_lua_open_json}, {"fs", lua_open_fs},
        {"grants", lua_open_grants}, {"env", lua_open_env},        {"time", lua_open_time},
        {"out", lua_open_out},
    };
    *out = NULL;
    peri_lua *l = peri_calloc(1, sizeof *l);
    if (l == NULL) return peri_fail(err, PERI_E_NOMEM, "Lua: out of memory");
    peri_status status = take_options(l, o, err);
    size_t max_bytes = o->max_bytes != 0 ? o->max_bytes : (size_t)DEFAULT_MIB << 20;
    if (status == PERI_OK) {
        l->L = peri_lua_new(&l->budget, max_bytes, 0);
        l->budget.is_endless = lua_is_endless;
        l->budget.owner = l;
        if (l->L == NULL) status = peri_fail(err, PERI_E_NOMEM, "Lua: out of memory");
    }
    for (size_t i = 0; status == PERI_OK && i < sizeof modules / sizeof *modules; i++)
        status = peri_lua_module(l, modules[i].name, modules[i].open, err);
    if (status == PERI_OK) {
        memcpy(lua_getextraspace(l->L), &l, sizeof l);
        lua_pushcfunction(l->L, build);
        status = peri_lua_call(l, l->L, 0, 0, err);
    }
    if (status != PERI_OK) {
        peri_lua_close(l);
        return status;
    }
    *out = l;
    return PERI_OK;
}

void peri_lua_close(peri_lua *l) {
    if (l == NULL) return;
    if (l->L != NULL) lua_close(l->L);
    lua_slice_drop(l);
    lua_grant_free(l);
    peri_text_fini(&l->trace);
    peri_free(l->script_dir);
    peri_free(l->work_dir);
    peri_free(l->config_dir);
    peri_free(l->user_dir);
    peri_free(l->user_name);
    peri_free(l);
}

lua_State *peri_lua_main(peri_lua *l) {
    return l->L;
}

size_t peri_lua_used_bytes(const peri_lua *l) {
    return l->budget.used_bytes;
}

peri_status peri_lua_module(peri_lua *l, const char *name, lua_CFunction open, peri_error *err) {
    if (l->n_module == LUA_MODULE_MAX)
        return peri_fail(err, PERI_E_RANGE, "Lua: more than %d C modules", LUA_MODULE_MAX);
    l->module[l->n_module].name = name;
    l->module[l->n_module++].open = open;
    return PERI_OK;
}
