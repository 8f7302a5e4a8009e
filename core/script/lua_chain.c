/* SPDX-License-Identifier: MIT
 *
 * lua_chain.c - what scripts/perigee/sampler.lua asks about the chain of samplers. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/status.h"
#include "run/grammar.h"
#include "script/engine_int.h"
#include "script/lua_plain.h"
#include "script/lua_policy.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

/* engine.links() -> the names of the samplers there are */
int engine_links(lua_State *L) {
    lua_newtable(L);
    for (int i = 1; i < PERI_N_LINK; i++) {
        lua_pushstring(L, peri_link_name(i));
        lua_rawseti(L, -2, i);
    }
    return 1;
}

/* engine.link(name) -> the name of the sampler that is called so, or nil */
int engine_link(lua_State *L) {
    peri_sampling p = {0};
    peri_error ignored;
    if (peri_sampling_add_link(&p, luaL_checkstring(L, 1), &ignored)) return 0;
    lua_pushstring(L, peri_link_name(p.order[0]));
    return 1;
}

/* engine.order(text) -> the names in it, given by letters or words; or nil, err */
int engine_order(lua_State *L) {
    static const uint8_t usual[] = PERI_DEFAULT_ORDER;
    peri_sampling p = {0};
    peri_error err;
    if (peri_sampling_set_order(&p, luaL_checkstring(L, 1), &err)) return peri_lua_fail(L, &err);
    const uint8_t *order = p.n_order ? p.order : usual;
    int n = p.n_order > 0 ? p.n_order : p.n_order < 0 ? 0 : (int)sizeof usual;
    lua_newtable(L);
    for (int i = 0; i < n; i++) {
        lua_pushstring(L, peri_link_name(order[i]));
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* engine.grammar(gbnf, text?) -> "whole", "beginning" or "no": what the text is of a whole text of
 * the grammar; or nil, err when that is none */
int engine_grammar(lua_State *L) {
    peri_str gbnf, text = {"", 0};
    peri_grammar *g = NULL;
    peri_matcher *m = NULL;
    peri_match state = PERI_MATCH_DEAD;
    peri_error err;
    gbnf.data = luaL_checklstring(L, 1, &gbnf.size);
    if (!lua_isnoneornil(L, 2)) text.data = luaL_checklstring(L, 2, &text.size);
    peri_status st = peri_grammar_new(gbnf, &g, &err);
    if (!st) st = peri_matcher_new(g, NULL, 0, &m, &err);
    if (!st) st = peri_matcher_start(m, &state, &err);
    if (!st) st = peri_matcher_feed(m, &state, text.data, text.size, &err);
    bool is_whole = !st && state != PERI_MATCH_DEAD && peri_matcher_may_end(m, state);
    peri_matcher_free(m);
    peri_grammar_free(g);
    if (st) return peri_lua_fail(L, &err);
    lua_pushstring(L, is_whole ? "whole" : state == PERI_MATCH_DEAD ? "no" : "beginning");
    return 1;
}

/* engine.policy(name) -> the text of scripts/perigee/policy/NAME.lua, or nil */
int engine_policy(lua_State *L) {
    const char *folder = peri_lua_of(L)->script_dir, *name = luaL_checkstring(L, 1);
    char *text = NULL;
    size_t size = 0;
    peri_error ignored;
    lua_settop(L, 1);
    if (!folder || !*name || strspn(name, "abcdefghijklmnopqrstuvwxyz_0123456789") != strlen(name))
        return 0;
    const char *path = lua_pushfstring(L, "%s/perigee/policy/%s.lua", folder, name);
    value_box *b = value_push_box(L);
    if (!peri_file_exists(path)) return 0;
    if (peri_file_read(path, PERI_MAX_POLICY_BYTES, &text, &size, &ignored)) return 0;
    b->heap = text;
    lua_pushlstring(L, text, size);
    value_empty_box(b);
    return 1;
}

/* engine.check_policy { policy =, text =, settings = } -> true, or nil, err: it was loaded here for
 * a moment. */
int engine_check_policy(lua_State *L) {
    peri_policy_host *host = NULL;
    peri_policy_text p = {0};
    void *set = NULL;
    peri_error err;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    value_push_field(L, 1, "policy");
    value_push_field(L, 1, "text");
    value_push_field(L, 1, "settings");
    p.name = luaL_checkstring(L, 2);
    p.text.data = luaL_checklstring(L, 3, &p.text.size);
    value_box *b = value_push_box(L);
    if (strlen(p.name) != lua_rawlen(L, 2)) {
        peri_fail(&err, PERI_E_INVALID, "the name of a policy holds a zero byte");
        return peri_lua_fail(L, &err);
    }
    if (!plain_write(L, 4, "settings", &b->text, PERI_MAX_POLICY_BYTES, &err))
        return peri_lua_fail(L, &err);
    p.given = (peri_str){b->text.data, b->text.size};
    peri_status st = peri_lua_policies_new(&host, &err);
    if (!st) st = host->open(host->user, &p, 1, &set, &err);
    if (!st) host->close(host->user, set);
    peri_lua_policies_free(host);
    value_empty_box(b);
    if (st) return peri_lua_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}
