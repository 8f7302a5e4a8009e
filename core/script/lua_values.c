/* SPDX-License-Identifier: MIT
 *
 * lua_values.c - Lua arguments to C values, strictly: what is not understood is an error that names
 * the nearest thing that would be. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/suggest.h"
#include "script/engine_int.h"
#include "script/lua_plain.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

enum { MAX_KEY = 64 };

_Noreturn void peri_lua_blame(lua_State *L, const char *fmt, ...) {
    char where[160];
    peri_error err;
    va_list ap;
    va_start(ap, fmt);
    peri_vfail(&err, PERI_E_INVALID, fmt, ap);
    va_end(ap);
    lua_user_where(peri_lua_of(L), L, where, sizeof where);
    lua_pushfstring(L, "%s%s%s", where, *where ? ": " : "", err.text);
    lua_error(L);
    __builtin_unreachable();
}

/* ---- option tables ------------------------------------------------------------------------------
 */

static const char *nearest(const char *name, const value_table *t) {
    const char *all[MAX_KEY];
    size_t n = 0;
    for (size_t i = 0; i < t->n_key && n < MAX_KEY; i++)
        all[n++] = t->key[i].name;
    for (size_t i = 0; i < t->n_other && n < MAX_KEY; i++)
        all[n++] = t->other[i];
    return peri_nearest(name, all, n);
}

static void read_one(lua_State *L, const char *what, const value_key *k, void *out) {
    char *at = (char *)out + k->off;
    if (k->kind == VALUE_FLAG && lua_isboolean(L, -1)) {
        *(bool *)(void *)at = lua_toboolean(L, -1);
    } else if (k->kind == VALUE_TEXT && lua_type(L, -1) == LUA_TSTRING) {
        const char *text = lua_tostring(L, -1);
        if (strlen(text) != lua_rawlen(L, -1))
            peri_lua_blame(L, "%s: %s holds a zero byte", what, k->name);
        *(const char **)(void *)at = text;
    } else if (k->kind == VALUE_INT && lua_type(L, -1) == LUA_TNUMBER) {
        int is_int = 0;
        lua_Integer x = lua_tointegerx(L, -1, &is_int);
        if (!is_int || x < k->lo || x > k->hi)
            peri_lua_blame(L, "%s: %s: found %s, expected a whole number from %lld to %lld", what,
                           k->name, luaL_tolstring(L, -1, NULL), (long long)k->lo,
                           (long long)k->hi);
        *(int64_t *)(void *)at = x;
    } else {
        static const char *const names[] = {"a whole number", "true or false", "a string"};
        peri_lua_blame(L, "%s: %s: found %s, expected %s", what, k->name, luaL_typename(L, -1),
                       names[k->kind]);
    }
}

/* One entry: the name at -2, the value at -1. */
static void read_entry(lua_State *L, const value_table *t, void *out) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    if (!name) peri_lua_blame(L, "%s: has list entries, expected named keys only", t->what);
    size_t i = 0, j = 0;
    while (i < t->n_key && strcmp(t->key[i].name, name))
        i++;
    while (j < t->n_other && strcmp(t->other[j], name))
        j++;
    if (i < t->n_key) {
        read_one(L, t->what, &t->key[i], out);
    } else if (j == t->n_other) {
        const char *near = nearest(name, t);
        if (near)
            peri_lua_blame(L, "%s: unknown key \"%s\"; did you mean \"%s\"?", t->what, name, near);
        peri_lua_blame(L, "%s: unknown key \"%s\"", t->what, name);
    }
}

void value_read(lua_State *L, int idx, const value_table *t, void *out) {
    if (lua_isnoneornil(L, idx)) return;
    if (!lua_istable(L, idx))
        peri_lua_blame(L, "%s: found %s, expected a table of options", t->what,
                       luaL_typename(L, idx));
    luaL_checkstack(L, 6, t->what);
    int top = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, idx); lua_settop(L, top + 1))
        read_entry(L, t, out);
}

int value_push_field(lua_State *L, int idx, const char *name) {
    idx = lua_absindex(L, idx);
    lua_pushstring(L, name);
    return lua_rawget(L, idx);
}

/* ---- memory -------------------------------------------------------------------------------------
 */

void value_empty_box(value_box *b) {
    peri_free(b->heap);
    b->heap = NULL;
    peri_text_fini(&b->text);
}

static int collect_box(lua_State *L) {
    value_empty_box(lua_touserdata(L, 1));
    return 0;
}

value_box *value_push_box(lua_State *L) {
    value_box *b = lua_newuserdatauv(L, sizeof *b, 0);
    memset(b, 0, sizeof *b);
    luaL_setmetatable(L, BOX_CLASS);
    return b;
}

void value_new_class(lua_State *L, const char *name, const luaL_Reg *meta,
                     const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, meta, 0);
    lua_newtable(L);
    if (methods) luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "locked");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void value_make_classes(lua_State *L) {
    static const luaL_Reg meta[] = {{"__gc", collect_box}, {NULL, NULL}};
    value_new_class(L, BOX_CLASS, meta, NULL);
}

/* ---- lists --------------------------------------------------------------------------------------
 */

static size_t list_size(lua_State *L, int idx, const char *what) {
    if (!lua_istable(L, idx))
        peri_lua_blame(L, "%s: found %s, expected a list", what, luaL_typename(L, idx));
    lua_Unsigned n = lua_rawlen(L, idx);
    if (n > INT32_MAX / 8) peri_lua_blame(L, "%s: %llu entries are too many", what, n);
    return (size_t)n;
}

int32_t *value_push_ids(lua_State *L, int idx, const char *what, size_t *n) {
    *n = list_size(L, idx, what);
    int32_t *id = lua_newuserdatauv(L, (*n + 1) * sizeof *id, 0);
    for (size_t i = 0; i < *n; i++) {
        int is_int = 0;
        lua_rawgeti(L, idx, (lua_Integer)i + 1);
        lua_Integer x = lua_tointegerx(L, -1, &is_int);
        if (!is_int || lua_type(L, -1) != LUA_TNUMBER || x < INT32_MIN || x > INT32_MAX)
            peri_lua_blame(L, "%s: entry %zu is %s, expected a token id", what, i + 1,
                           luaL_tolstring(L, -1, NULL));
        id[i] = (int32_t)x;
        lua_pop(L, 1);
    }
    return id;
}

/* A string without zero bytes on top of the stack, which its table keeps alive. */
static const char *checked_text(lua_State *L, const char *what, size_t i) {
    if (lua_type(L, -1) != LUA_TSTRING)
        peri_lua_blame(L, "%s: entry %zu is %s, expected a string", what, i, luaL_typename(L, -1));
    const char *s = lua_tostring(L, -1);
    if (strlen(s) != lua_rawlen(L, -1))
        peri_lua_blame(L, "%s: entry %zu holds a zero byte", what, i);
    return s;
}

const char **value_push_texts(lua_State *L, int idx, const char *what, size_t *n) {
    bool is_one = lua_type(L, idx) == LUA_TSTRING;
    *n = is_one ? 1 : list_size(L, idx, what);
    const char **text = lua_newuserdatauv(L, (*n + 1) * sizeof *text, 0);
    text[*n] = NULL;
    for (size_t i = 0; i < *n; i++) {
        if (is_one)
            lua_pushvalue(L, idx);
        else
            lua_rawgeti(L, idx, (lua_Integer)i + 1);
        text[i] = checked_text(L, what, i + 1);
        lua_pop(L, 1);
    }
    return text;
}

void value_push_list(lua_State *L, const int32_t *id, size_t n) {
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_pushinteger(L, id[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

/* ---- sampling -----------------------------------------------------------------------------------
 */

/* { [id] = number or false } on top of the stack: push the buffer. */
static void read_bias(lua_State *L, peri_sampling *p) {
    int idx = lua_gettop(L);
    size_t n = 0;
    if (!lua_istable(L, idx))
        peri_lua_blame(L, "sampling: logit_bias: found %s, expected { [id] = bias }",
                       luaL_typename(L, idx));
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1))
        n++;
    peri_logit_bias *bias = lua_newuserdatauv(L, (n + 1) * sizeof *bias, 0);
    p->bias = bias;
    p->n_bias = 0;
    for (lua_pushnil(L); lua_next(L, idx) && p->n_bias < n; lua_pop(L, 1)) {
        bool is_ban = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
        if (!lua_isinteger(L, -2) || (!is_ban && lua_type(L, -1) != LUA_TNUMBER))
            peri_lua_blame(L, "sampling: logit_bias: expected token ids as keys, numbers or false "
                              "as values");
        lua_Integer id = lua_tointeger(L, -2);
        if (id < 0 || id > INT32_MAX)
            peri_lua_blame(L, "sampling: logit_bias: %lld is no token id", (long long)id);
        bias[p->n_bias++] =
            (peri_logit_bias){(int32_t)id, is_ban ? -INFINITY : (float)lua_tonumber(L, -1)};
    }
}

/* A field of the table on top as text that the table keeps alive; blamed when it is none. */
static peri_str policy_field(lua_State *L, const char *name) {
    peri_str s;
    if (value_push_field(L, -1, name) != LUA_TSTRING)
        peri_lua_blame(L, "sampling: samplers: a policy's %s: found %s, expected a string", name,
                       luaL_typename(L, -1));
    s.data = lua_tolstring(L, -1, &s.size);
    lua_pop(L, 1);
    return s;
}

/* { policy = name, text = source, settings = table } on top, popped: policy number n_policy.  The
 * bytes of its settings go to entry n_policy + 1 of the list at `keep`. */
static void read_policy(lua_State *L, int keep, peri_policy_text *policy, peri_sampling *p) {
    peri_error err;
    if (p->n_policy == PERI_MAX_POLICY)
        peri_lua_blame(L, "sampling: samplers: more than %d policies", PERI_MAX_POLICY);
    peri_policy_text *q = &policy[p->n_policy];
    peri_str name = policy_field(L, "policy");
    if (strlen(name.data) != name.size)
        peri_lua_blame(L, "sampling: samplers: the name of a policy holds a zero byte");
    *q = (peri_policy_text){.name = name.data, .text = policy_field(L, "text")};
    if (value_push_field(L, -1, "settings") != LUA_TNIL) {
        value_box *b = value_push_box(L);
        if (!plain_write(L, lua_gettop(L) - 1, "settings", &b->text, PERI_MAX_POLICY_BYTES, &err))
            peri_lua_blame(L, "sampling: samplers: policy %s: %s", name.data, err.text);
        lua_pushlstring(L, b->text.data, b->text.size);
        q->given.data = lua_tolstring(L, -1, &q->given.size);
        lua_rawseti(L, keep, (lua_Integer)p->n_policy + 1);
        value_empty_box(b);
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
    if (peri_sampling_add_policy(p, p->n_policy++, &err))
        peri_lua_blame(L, "sampling: %s", err.text);
}

/* A string for peri_sampling_set_order, or a list of names and policies, on top of the stack: push
 * what holds the policies. */
static void read_order(lua_State *L, peri_sampling *p) {
    peri_error err;
    int idx = lua_gettop(L);
    p->n_order = -1; /* an empty list is a chain of no links */
    bool is_text = lua_type(L, idx) == LUA_TSTRING;
    size_t n = is_text ? 1 : list_size(L, idx, "sampling: samplers");
    if (n) p->n_order = 0;
    if (n == 1 && !is_text) {
        lua_rawgeti(L, idx, 1);
        is_text = lua_type(L, -1) == LUA_TSTRING;
    }
    if (is_text) { /* many in one, perhaps by letters */
        if (peri_sampling_set_order(p, checked_text(L, "sampling: samplers", 1), &err))
            peri_lua_blame(L, "sampling: samplers: %s", err.text);
        lua_pushnil(L);
        return;
    }
    lua_newtable(L);
    int keep = lua_gettop(L);
    peri_policy_text *policy = lua_newuserdatauv(L, PERI_MAX_POLICY * sizeof *policy, 0);
    lua_rawseti(L, keep, 0);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, idx, (lua_Integer)i + 1);
        if (lua_istable(L, -1)) {
            read_policy(L, keep, policy, p);
            continue;
        }
        const char *name = checked_text(L, "sampling: samplers", i + 1);
        if (peri_sampling_add_link(p, name, &err)) peri_lua_blame(L, "sampling: %s", err.text);
        lua_pop(L, 1);
    }
    p->policy = p->n_policy ? policy : NULL;
}

static void read_number(lua_State *L, const char *name, peri_sampling *p) {
    peri_error err;
    if (!strcmp(name, "seed")) {
        int is_int = 0;
        p->seed = (uint64_t)lua_tointegerx(L, -1, &is_int);
        if (!is_int || lua_type(L, -1) != LUA_TNUMBER)
            peri_lua_blame(L, "sampling: seed: found %s, expected a whole number",
                           luaL_tolstring(L, -1, NULL));
        return;
    }
    double x = lua_isboolean(L, -1) ? lua_toboolean(L, -1) : lua_tonumber(L, -1);
    int i = peri_sampling_find(name);
    if (i >= 0 && lua_type(L, -1) != LUA_TNUMBER && !lua_isboolean(L, -1))
        peri_lua_blame(L, "sampling: %s: found %s, expected a number", name, luaL_typename(L, -1));
    if (peri_sampling_set(p, name, x, &err)) peri_lua_blame(L, "sampling: %s", err.text);
}

/* The text on top of the stack, which its table keeps alive. */
static void read_grammar(lua_State *L, peri_sampling *p) {
    if (lua_type(L, -1) != LUA_TSTRING)
        peri_lua_blame(L, "sampling: grammar: found %s, expected a text in GBNF",
                       luaL_typename(L, -1));
    p->grammar.data = lua_tolstring(L, -1, &p->grammar.size);
}

void value_read_sampling(lua_State *L, int idx, const peri_gguf *g, uint64_t seed,
                         peri_sampling *p) {
    peri_error err;
    int top = lua_gettop(L);
    luaL_checkstack(L, 16, "sampling");
    if (peri_sampling_init(p, PERI_ORIGIN_RUN, g, &err)) luaL_error(L, "%s", err.text);
    p->seed = seed;
    for (int i = 0; i < 4; i++)
        lua_pushnil(L);
    if (lua_isnoneornil(L, idx)) return;
    if (!lua_istable(L, idx))
        peri_lua_blame(L, "sampling: found %s, expected a table", luaL_typename(L, idx));
    for (lua_pushnil(L); lua_next(L, idx); lua_settop(L, top + 5)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
        if (!name) peri_lua_blame(L, "sampling: has list entries, expected named parameters only");
        if (!strcmp(name, "logit_bias")) {
            read_bias(L, p);
            lua_replace(L, top + 1);
        } else if (!strcmp(name, "dry_sequence_breakers")) {
            p->breaker = value_push_texts(L, lua_gettop(L), "sampling: dry_sequence_breakers",
                                          &p->n_breaker);
            lua_replace(L, top + 2);
        } else if (!strcmp(name, "samplers")) {
            read_order(L, p);
            lua_replace(L, top + 3);
        } else if (!strcmp(name, "grammar")) {
            read_grammar(L, p);
        } else if (!strcmp(name, "grammar_trigger")) {
            p->trigger =
                value_push_texts(L, lua_gettop(L), "sampling: grammar_trigger", &p->n_trigger);
            lua_replace(L, top + 4);
        } else {
            read_number(L, name, p);
        }
    }
    lua_settop(L, top + 4);
    if (peri_sampling_check(p, &err)) peri_lua_blame(L, "sampling: %s", err.text);
}
