/* SPDX-License-Identifier: MIT
 *
 * lua_candidates.c - the candidates as a policy sees them: an object that is there during the call.
 *
 * There is one object in a state, so the methods know it by its address, which is their upvalue:
 * that is the whole check of the receiver, and half the cost of a call. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/status.h"
#include "script/policy_int.h"

#include "base/compiler.h"

static candidates *self(lua_State *L) {
    candidates *c = lua_touserdata(L, lua_upvalueindex(1));
    if (lua_touserdata(L, 1) != c)
        luaL_error(L, "found %s, expected the candidates; call with a colon: c:id(i)",
                   luaL_typename(L, 1));
    if (!c->v) luaL_error(L, "the candidates are there only while choose runs");
    return c;
}

static size_t check_index(lua_State *L, const peri_policy_view *v, const char *what) {
    int is_int;
    lua_Integer i = lua_tointegerx(L, 2, &is_int);
    if (!is_int || i < 1 || (lua_Unsigned)i > v->n)
        luaL_error(L, "%s: found %s, expected a candidate from 1 to %d", what,
                   luaL_tolstring(L, 2, NULL), (int)v->n);
    return (size_t)i - 1;
}

static int c_len(lua_State *L) {
    const candidates *c = self(L);
    lua_pushinteger(L, (lua_Integer)c->v->n);
    return 1;
}

static int c_id(lua_State *L) {
    const peri_policy_view *v = self(L)->v;
    lua_pushinteger(L, v->c[check_index(L, v, "id")].id);
    return 1;
}

static int c_logit(lua_State *L) {
    const peri_policy_view *v = self(L)->v;
    lua_pushnumber(L, (lua_Number)v->c[check_index(L, v, "logit")].logit);
    return 1;
}

static int c_p(lua_State *L) {
    peri_policy_view *v = self(L)->v;
    size_t i = check_index(L, v, "p");
    peri_view_softmax(v);
    lua_pushnumber(L, (lua_Number)v->c[i].p);
    return 1;
}

/* ---- texts and tokens ------------------------------------------------------------------------ */

static int push_text(lua_State *L, candidates *c, int32_t id) {
    peri_error err;
    if (!c->v->tokenizer) luaL_error(L, "text: this model file has no tokenizer");
    c->text.size = 0;
    peri_status st = peri_token_text(c->v->tokenizer, id, true, &c->text, &err);
    if (!st && c->text.failed) st = peri_fail(&err, PERI_E_NOMEM, "out of memory for a text");
    if (st) luaL_error(L, "text: %s", err.text);
    lua_pushlstring(L, c->text.size ? c->text.data : "", c->text.size);
    return 1;
}

static int c_text(lua_State *L) {
    candidates *c = self(L);
    return push_text(L, c, c->v->c[check_index(L, c->v, "text")].id);
}

static int32_t check_id(lua_State *L, const peri_policy_view *v, const char *what) {
    int is_int;
    lua_Integer id = lua_tointegerx(L, 2, &is_int);
    if (!is_int || id < 0 || id >= v->n_vocab)
        luaL_error(L, "%s: found %s, expected a token id from 0 to %d", what,
                   luaL_tolstring(L, 2, NULL), (int)v->n_vocab - 1);
    return (int32_t)id;
}

static int c_text_of(lua_State *L) {
    candidates *c = self(L);
    return push_text(L, c, check_id(L, c->v, "text_of"));
}

static int c_find(lua_State *L) {
    const peri_policy_view *v = self(L)->v;
    int32_t id = check_id(L, v, "find");
    for (size_t i = 0; i < v->n; i++)
        if (v->c[i].id == id) {
            lua_pushinteger(L, (lua_Integer)i + 1);
            return 1;
        }
    return 0;
}

/* c:token(i): the i-th token before, from the end when i is below 0. */
static int c_token(lua_State *L) {
    const peri_policy_view *v = self(L)->v;
    lua_Integer i = luaL_checkinteger(L, 2);
    lua_Integer at = i < 0 ? v->n_tok + i : i - 1;
    if (at < 0 || at >= v->n_tok) return 0;
    lua_pushinteger(L, v->tok[at]);
    return 1;
}

static int c_position(lua_State *L) {
    lua_pushinteger(L, self(L)->v->n_tok);
    return 1;
}

static int c_random(lua_State *L) {
    lua_pushnumber(L, peri_view_random(self(L)->v));
    return 1;
}

static int c_other(lua_State *L) {
    const peri_policy_view *v = self(L)->v;
    size_t i = check_index(L, v, "other");
    if (!v->other) return 0;
    float x = v->other[v->c[i].id];
    lua_pushnumber(L, isnan(x) ? -INFINITY : (lua_Number)x);
    return 1;
}

/* ---- changes --------------------------------------------------------------------------------- */

static void touch(peri_policy_view *v) {
    v->has_p = v->is_sorted = false;
}

static int c_set(lua_State *L) {
    peri_policy_view *v = self(L)->v;
    size_t i = check_index(L, v, "set");
    lua_Number x = luaL_checknumber(L, 3);
    if (!(x <= (lua_Number)FLT_MAX))
        luaL_error(L, "set: found %s as a logit, expected a number or -math.huge",
                   luaL_tolstring(L, 3, NULL));
    v->c[i].logit = (float)x;
    touch(v);
    return 0;
}

static int c_ban(lua_State *L) {
    peri_policy_view *v = self(L)->v;
    v->c[check_index(L, v, "ban")].logit = -INFINITY;
    touch(v);
    return 0;
}

static int c_pick(lua_State *L) {
    candidates *c = self(L);
    peri_policy_view *v = c->v;
    if (c->has_picked) luaL_error(L, "pick: a candidate was picked already");
    size_t i = check_index(L, v, "pick");
    if (isinf(v->c[i].logit)) luaL_error(L, "pick: candidate %d is banned", (int)i + 1);
    v->c[0] = v->c[i];
    v->n = 1;
    v->has_p = false;
    v->is_sorted = true;
    c->has_picked = true;
    return 0;
}

static int c_keep(lua_State *L) {
    peri_policy_view *v = self(L)->v;
    size_t n = check_index(L, v, "keep") + 1;
    if (n < v->n) v->has_p = false;
    v->n = n;
    return 0;
}

static int c_sort(lua_State *L) {
    peri_view_sort(self(L)->v);
    return 0;
}

/* ---- the object ------------------------------------------------------------------------------ */

static int c_gc(lua_State *L) {
    peri_text_fini(&((candidates *)lua_touserdata(L, 1))->text);
    return 0;
}

candidates *candidates_push(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"id", c_id},         {"logit", c_logit},       {"p", c_p},         {"text", c_text},
        {"find", c_find},     {"text_of", c_text_of},   {"token", c_token}, {"set", c_set},
        {"ban", c_ban},       {"pick", c_pick},         {"keep", c_keep},   {"sort", c_sort},
        {"random", c_random}, {"position", c_position}, {"other", c_other}, {NULL, NULL}};
    candidates *c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (candidates){0};
    lua_createtable(L, 0, 5);
    lua_pushcfunction(L, c_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushlightuserdata(L, c);
    lua_pushcclosure(L, c_len, 1);
    lua_setfield(L, -2, "__len");
    luaL_newlibtable(L, methods);
    lua_pushlightuserdata(L, c);
    luaL_setfuncs(L, methods, 1);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "perigee.candidates");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    return c;
}
