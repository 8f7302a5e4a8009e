/* SPDX-License-Identifier: MIT
 *
 * lua_world.c - see lua_world.h. */
#include "lua_world.h"

#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "script/sandbox_int.h"

static void on_print(void *user, const char *text, size_t size) {
    peri_text_add(&((world *)user)->out, text, size);
}

static bool on_ask(void *user, const char *question) {
    world *w = user;
    w->n_question++;
    snprintf(w->question, sizeof w->question, "%s", question);
    return w->answer;
}

void open_world(world *w, peri_lua_options o) {
    *w = (world){0};
    o.size = sizeof o;
    o.user = w;
    o.print = on_print;
    o.ask = on_ask;
    if (o.slice_ms == 0) o.slice_ms = 5000;
    assert_ok(peri_lua_open(&o, &w->l, &w->err), w->err);
    peri_text_add(&w->out, "", 0);
}

void close_world(world *w) {
    peri_lua_close(w->l);
    peri_text_fini(&w->out);
}

peri_status run_top(world *w, lua_State **out, int *n) {
    lua_State *L = peri_lua_main(w->l), *co = lua_newthread(L);
    lua_insert(L, -2);
    lua_xmove(L, co, 1);
    *out = co;
    return peri_lua_resume(w->l, co, 0, n, &w->err);
}

peri_status run_with(world *w, const char *text, lua_CFunction f) {
    lua_State *L = peri_lua_main(w->l);
    int n = 0;
    peri_text_fini(&w->out);
    peri_text_add(&w->out, "", 0);
    peri_status status = peri_lua_load_text(w->l, "t.lua", text, strlen(text), &w->err);
    if (status != PERI_OK) return status;
    lua_State *co = lua_newthread(L);
    lua_insert(L, -2);
    lua_xmove(L, co, 1);
    if (f != NULL) lua_pushcfunction(co, f);
    status = peri_lua_resume(w->l, co, f != NULL, &n, &w->err);
    if (status == PERI_OK && lua_status(co) == LUA_YIELD) fail_msg("the script waits");
    lua_settop(L, 0);
    return status;
}

peri_status run(world *w, const char *text) {
    return run_with(w, text, NULL);
}

void expect_print(world *w, const char *text, const char *want) {
    assert_ok(run_with(w, text, sys_module), w->err);
    assert_string_equal(w->out.data, want);
}

void expect_error(world *w, const char *text, peri_status code, const char *want) {
    peri_status status = run_with(w, text, sys_module);
    if (status == PERI_OK) fail_msg("no error from: %s\nprinted: %s", text, w->out.data);
    assert_int_equal(status, code);
    assert_error(&w->err, code, want);
}

void world_is_fine(world *w) {
    expect_print(w,
                 "local t = {} for i = 1, 3 do t[i] = ('x'):rep(i) end print(table.concat(t, ','))",
                 "x,xx,xxx\n");
}

int sys_module(lua_State *L) {
    lua_pushcfunction(L, lua_require_trusted);
    lua_pushfstring(L, "perigee.sys.%s", luaL_checkstring(L, 1));
    lua_call(L, 1, 1);
    return 1;
}
