/* SPDX-License-Identifier: MIT
 *
 * lua_policy_load.c - the text of a policy becomes a function, its settings and its first state.
 *
 * The chunk returns choose, or { choose =, settings =, state = } and functions of other names,
 * which are for scripts that require the file.  What choose can reach besides its arguments must
 * not remember anything, or a rewound text would not be said again: so every upvalue below it is
 * looked at here, and compared after each call (policy_put_back). */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "base/suggest.h"
#include "script/lua_plain.h"
#include "script/policy_int.h"

#include "base/compiler.h"

enum { MAX_NAMES = 64, MAX_WATCHED = 256, MAX_FUNCTIONS = 64 };

static const char key_env = 'P';

_Noreturn void policy_fail(lua_State *L, int idx, const char *fmt, ...) {
    char text[400];
    lua_Debug ar;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    lua_pushvalue(L, idx);
    lua_getinfo(L, ">S", &ar);
    lua_pushfstring(L, "%s:%d: %s", ar.short_src, ar.linedefined, text);
    lua_error(L);
    __builtin_unreachable();
}

/* ---- the environment ------------------------------------------------------------------------- */

static const char *const base_names[] = {"assert",   "error",    "ipairs", "rawequal",
                                         "rawlen",   "select",   "string", "table",
                                         "tonumber", "tostring", "type",   "utf8"};

static const struct {
    const char *name, *hint;
} absent[] = {{"next", "pairs"},
              {"print", "error, to see a value"},
              {"pcall", NULL},
              {"xpcall", NULL},
              {"coroutine", NULL},
              {"load", NULL},
              {"require", NULL},
              {"setmetatable", NULL},
              {"getmetatable", NULL},
              {"rawget", "indexing"},
              {"os", NULL},
              {"io", NULL},
              {"debug", NULL},
              {"collectgarbage", NULL},
              {"rawset", "assignment"}};

/* Reading a global that is not there.  Arguments: the table of globals, the name. */
static int undeclared(lua_State *L) {
    const char *names[MAX_NAMES];
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2);
    size_t n = 0;
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        if (strcmp(absent[i].name, name) != 0) continue;
        if (!absent[i].hint) peri_lua_misuse(L, "'%s' is not available in policies", name);
        peri_lua_misuse(L, "'%s' is not available in policies; use %s", name, absent[i].hint);
    }
    for (lua_pushnil(L); lua_next(L, 1) && n < MAX_NAMES; lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING) names[n++] = lua_tostring(L, -2);
    const char *near = peri_nearest(name, names, n);
    if (near) peri_lua_misuse(L, "undeclared global '%.60s'; did you mean '%s'?", name, near);
    peri_lua_misuse(L, "undeclared global '%.60s'", name);
}

static int assign_global(lua_State *L) {
    peri_lua_misuse(L, "assignment to global '%.60s': a policy keeps what it needs in its state",
                    lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2));
}

static int no_random(lua_State *L) {
    peri_lua_misuse(L, "math.random is not available in policies; use c:random()");
}

static int pairs_next(lua_State *L) {
    const plain_key *key = lua_touserdata(L, lua_upvalueindex(1));
    lua_Integer at = lua_tointeger(L, lua_upvalueindex(2));
    if (at == lua_tointeger(L, lua_upvalueindex(3))) return 0;
    lua_pushinteger(L, at + 1);
    lua_replace(L, lua_upvalueindex(2));
    if (key[at].is_text)
        lua_pushlstring(L, key[at].s.data, key[at].s.size);
    else if (key[at].is_int)
        lua_pushinteger(L, key[at].i);
    else
        lua_pushnumber(L, key[at].x);
    lua_pushvalue(L, -1);
    lua_gettable(L, 1);
    return 2;
}

/* pairs in the order of keys, numbers first: the order of a hash differs from run to run. */
static int sorted_pairs(lua_State *L) {
    size_t n;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_frozen);
    lua_pushvalue(L, 1);
    if (lua_rawget(L, -2) == LUA_TNIL) lua_pushvalue(L, 1); /* else: the table behind a view */
    if (!plain_push_keys(L, lua_gettop(L), &n))
        luaL_error(L, "pairs: keys are strings and numbers in policies");
    lua_pushinteger(L, 0);
    lua_pushinteger(L, (lua_Integer)n);
    lua_pushvalue(L, -4); /* keeps the texts of the keys */
    lua_pushcclosure(L, pairs_next, 4);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

/* Push a read-only copy of the library math without random numbers. */
static void push_math(lua_State *L) {
    lua_newtable(L);
    int copy = lua_gettop(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_frozen);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_user_env);
    lua_getfield(L, -1, "math");
    lua_rawget(L, copy + 1);
    for (lua_pushnil(L); lua_next(L, -2);) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, copy);
    }
    lua_pushcfunction(L, no_random);
    lua_setfield(L, copy, "random");
    lua_pushnil(L);
    lua_setfield(L, copy, "randomseed");
    peri_lua_freeze(L, copy);
    lua_replace(L, copy);
    lua_settop(L, copy);
}

/* Push the environment of policies, made at first use: a view, so that nothing in it can be set. */
static void push_env(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key_env) == LUA_TTABLE) return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_newtable(L);
    int real = lua_gettop(L), view = real - 1;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_user_env);
    for (size_t i = 0; i < sizeof base_names / sizeof *base_names; i++) {
        lua_getfield(L, real + 1, base_names[i]);
        lua_setfield(L, real, base_names[i]);
    }
    push_math(L);
    lua_setfield(L, real, "math");
    lua_pushcfunction(L, sorted_pairs);
    lua_setfield(L, real, "pairs");
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, undeclared);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, real);
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, real);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, assign_global);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, view);
    lua_settop(L, view);
    lua_pushvalue(L, view);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_env);
}

/* ---- what choose can reach ------------------------------------------------------------------- */

typedef struct reach {
    lua_State *L;
    int choose, list; /* stack indices: the policy's function, the list of what is watched */
    lua_Integer n;
    const void *seen[MAX_FUNCTIONS];
    size_t n_seen;
} reach;

static bool is_env(lua_State *L, int idx) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_env);
    bool is_same = lua_rawequal(L, -1, idx);
    lua_pop(L, 1);
    return is_same;
}

static bool is_view(lua_State *L, int idx) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_frozen);
    lua_pushvalue(L, idx);
    bool is_one = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 2);
    return is_one;
}

static void walk(reach *r, int function);

/* An upvalue's value on top. */
static void look_at(reach *r, const char *name) {
    lua_State *L = r->L;
    int at = lua_gettop(L), type = lua_type(L, at);
    if (is_env(L, at)) return;
    if (type == LUA_TFUNCTION && !lua_iscfunction(L, at)) {
        walk(r, at);
        return;
    }
    bool is_fine = type == LUA_TNIL || type == LUA_TBOOLEAN || type == LUA_TNUMBER ||
                   type == LUA_TSTRING || (type == LUA_TTABLE && is_view(L, at));
    if (type == LUA_TFUNCTION) {
        is_fine = lua_getupvalue(L, at, 1) == NULL; /* an iterator, say, has a place in it */
        lua_settop(L, at);
    }
    if (!is_fine)
        policy_fail(L, r->choose,
                    "choose uses the local '%s' of its chunk, a %s, which could remember things "
                    "from one token to the next; what it keeps goes into its state, what it is "
                    "given into its settings",
                    name, lua_typename(L, type));
}

static void walk(reach *r, int function) {
    lua_State *L = r->L;
    const void *address = lua_topointer(L, function);
    for (size_t i = 0; i < r->n_seen; i++)
        if (r->seen[i] == address) return;
    if (r->n_seen == MAX_FUNCTIONS)
        policy_fail(L, r->choose, "choose uses more than %d functions", MAX_FUNCTIONS);
    r->seen[r->n_seen++] = address;
    luaL_checkstack(L, 8, "functions in functions");
    const char *name;
    for (int i = 1; (name = lua_getupvalue(L, function, i)) != NULL; i++) {
        look_at(r, name);
        if (r->n + 3 > 3 * MAX_WATCHED)
            policy_fail(L, r->choose, "choose uses more than %d locals of its chunk", MAX_WATCHED);
        lua_pushvalue(L, function);
        lua_rawseti(L, r->list, ++r->n);
        lua_pushinteger(L, i);
        lua_rawseti(L, r->list, ++r->n);
        lua_rawseti(L, r->list, ++r->n); /* the value; nil leaves a hole */
    }
}

/* Push the list of what is watched; entry 0 is its length. */
static void push_watched(lua_State *L, int choose) {
    lua_newtable(L);
    reach r = {.L = L, .choose = choose, .list = lua_gettop(L)};
    walk(&r, choose);
    lua_pushinteger(L, r.n);
    lua_rawseti(L, r.list, 0);
}

const char *policy_put_back(lua_State *L, int idx) {
    const char *changed = NULL;
    lua_rawgeti(L, idx, 0);
    lua_Integer n = lua_tointeger(L, -1);
    lua_pop(L, 1);
    for (lua_Integer i = 1; i <= n; i += 3) {
        int top = lua_gettop(L);
        lua_rawgeti(L, idx, i);
        lua_rawgeti(L, idx, i + 1);
        int which = (int)lua_tointeger(L, -1);
        lua_rawgeti(L, idx, i + 2);
        const char *name = lua_getupvalue(L, top + 1, which);
        if (!lua_rawequal(L, -1, top + 3)) {
            if (!changed) changed = name;
            lua_pushvalue(L, top + 3);
            lua_setupvalue(L, top + 1, which);
        }
        lua_settop(L, top);
    }
    return changed;
}

/* ---- settings -------------------------------------------------------------------------------- */

/* Raise for a setting that the policy does not have; its settings are at index `known`. */
_Noreturn static void unknown_setting(lua_State *L, const char *chunk, const char *name,
                                      int known) {
    const char *names[MAX_NAMES];
    size_t n = 0;
    for (lua_pushnil(L); lua_next(L, known) && n < MAX_NAMES; lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING) names[n++] = lua_tostring(L, -2);
    const char *near = peri_nearest(name, names, n);
    if (n == 0) luaL_error(L, "%s: setting '%s': the policy has no settings", chunk, name);
    if (near) luaL_error(L, "%s: unknown setting '%s'; did you mean '%s'?", chunk, name, near);
    luaL_error(L, "%s: unknown setting '%s'", chunk, name);
    __builtin_unreachable();
}

/* Push the read-only settings: the defaults at index `own` (a table or nil) under those given. */
static void push_settings(lua_State *L, const peri_policy_text *p, int own) {
    lua_newtable(L);
    int out = lua_gettop(L);
    if (lua_istable(L, own))
        for (lua_pushnil(L); lua_next(L, own);) {
            if (lua_type(L, -2) != LUA_TSTRING)
                luaL_error(L, "%s: settings: found a %s as key, expected names", p->name,
                           luaL_typename(L, -2));
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, out);
        }
    bool has_given = p->given.size > 0;
    if (has_given && (!plain_read(L, p->given) || !lua_istable(L, -1)))
        luaL_error(L, "%s: its settings are malformed", p->name);
    for (lua_pushnil(L); has_given && lua_next(L, out + 1); lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        if (lua_getfield(L, out, name) == LUA_TNIL) unknown_setting(L, p->name, name, out);
        if (lua_type(L, -1) != lua_type(L, -2))
            luaL_error(L, "%s: setting '%s': found a %s, expected a %s", p->name, name,
                       luaL_typename(L, -2), luaL_typename(L, -1));
        lua_pop(L, 1);
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, out);
    }
    lua_settop(L, out);
    peri_lua_freeze(L, out);
    lua_replace(L, out);
}

/* ---- the chunk ------------------------------------------------------------------------------- */

/* The chunk's value at idx: push choose, settings and state. */
static void take_apart(lua_State *L, const peri_policy_text *p, int idx) {
    if (lua_isfunction(L, idx)) {
        lua_pushvalue(L, idx);
        lua_pushnil(L);
        lua_pushnil(L);
        return;
    }
    if (!lua_istable(L, idx))
        luaL_error(L, "%s: returned a %s, expected a function, or a table with choose", p->name,
                   luaL_typename(L, idx));
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        static const char *const known[] = {"choose", "settings", "state"};
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        bool is_known = strcmp(name, "settings") == 0 || strcmp(name, "state") == 0;
        if (lua_isfunction(L, -1) && !is_known) continue;
        if (is_known && lua_istable(L, -1)) continue;
        if (is_known)
            luaL_error(L, "%s: %s: found a %s, expected a table", p->name, name,
                       luaL_typename(L, -1));
        const char *near = peri_nearest(name, known, 3);
        luaL_error(L, "%s: the key '%s' is unknown%s%s%s", p->name, name,
                   near ? "; did you mean '" : ", expected choose, settings, state or functions",
                   near ? near : "", near ? "'?" : "");
    }
    if (lua_getfield(L, idx, "choose") != LUA_TFUNCTION)
        luaL_error(L, "%s: has no function choose", p->name);
    lua_getfield(L, idx, "settings");
    lua_getfield(L, idx, "state");
}

static int text_gc(lua_State *L) {
    peri_text_fini(lua_touserdata(L, 1));
    return 0;
}

/* Push the bytes of the table at idx (nil: an empty one) as a string. */
static void push_initial(lua_State *L, int choose, int idx) {
    peri_error err;
    peri_text *t = lua_newuserdatauv(L, sizeof *t, 0);
    *t = (peri_text){0};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, text_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    if (lua_isnil(L, idx)) {
        lua_newtable(L);
        lua_replace(L, idx);
    }
    if (!plain_write(L, idx, "state", t, PERI_POLICY_STATE, &err))
        policy_fail(L, choose, "%s", err.text);
    lua_pushlstring(L, t->data, t->size);
    peri_text_fini(t);
    lua_remove(L, -2);
}

void policy_load(lua_State *L, const peri_policy_text *p) {
    int top = lua_gettop(L);
    luaL_checkstack(L, 24, "a sampling policy");
    const char *chunk = lua_pushfstring(L, "@%s", p->name);
    if (luaL_loadbufferx(L, p->text.data, p->text.size, chunk, "t") != LUA_OK) lua_error(L);
    push_env(L);
    if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
    lua_call(L, 0, 1);
    take_apart(L, p, top + 2);
    int choose = top + 3;
    if (lua_iscfunction(L, choose)) luaL_error(L, "%s: choose is a function of a library", p->name);
    lua_newtable(L);
    int entry = lua_gettop(L);
    lua_pushvalue(L, choose);
    lua_rawseti(L, entry, POLICY_CHOOSE);
    push_settings(L, p, choose + 1);
    lua_rawseti(L, entry, POLICY_SETTINGS);
    push_initial(L, choose, choose + 2);
    lua_rawseti(L, entry, POLICY_INITIAL);
    push_watched(L, choose);
    lua_rawseti(L, entry, POLICY_WATCHED);
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
}
