/* SPDX-License-Identifier: MIT
 *
 * lua_script.c - see lua_script.h.  Order of life: loop, Lua state, scheduler, host, models; at the
 * end the Lua state goes first, so that every handle is closed while what it leads to is still
 * there. */
#include "script/lua_script.h"

#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "script/lua_engine.h"
#include "script/lua_host.h"
#include "script/lua_store.h"

#include "base/compiler.h"

typedef struct script {
    const peri_script_setup *o;
    peri_lua_host host;
    peri_models *models;
} script;

static void on_print(void *user, const char *text, size_t size) {
    peri_lua_host_write(&((script *)user)->host, 1, text, size);
}

static bool on_ask(void *user, const char *question) {
    script *p = user;
    return p->o->ask && p->o->ask(p->o->user, question);
}

static void on_report(void *user, const char *text) {
    script *p = user;
    peri_lua_host_write(&p->host, 2, text, strlen(text));
    peri_lua_host_write(&p->host, 2, "\n", 1);
}

static void on_progress(void *user, const char *path, uint64_t done, uint64_t total) {
    script *p = user;
    if (p->o->progress) p->o->progress(p->o->user, path, done, total);
}

/* ---- begin and end ------------------------------------------------------------------------------
 */

static peri_status open_lua(script *p, peri_error *err) {
    char *config = peri_lua_config_dir();
    peri_lua_options o = {.size = sizeof o,
                          .script_dir = p->o->script_dir,
                          .max_bytes = p->o->max_bytes ? p->o->max_bytes : (size_t)256 << 20,
                          .slice_ms = p->o->slice_ms,
                          .seed = p->o->seed,
                          .config_dir = config,
                          .allow = p->o->allow,
                          .n_allow = p->o->n_allow,
                          .user = p,
                          .print = on_print,
                          .ask = p->o->ask ? on_ask : NULL};
    peri_status st = peri_lua_open(&o, &p->host.lua, err);
    peri_free(config);
    return st;
}

static peri_status begin(script *p, peri_error *err) {
    peri_lua_host *h = &p->host;
    h->o = p->o;
    peri_status st = peri_loop_new(&h->loop, err);
    if (!st) st = open_lua(p, err);
    if (!st) st = peri_lua_loop_new(h->lua, h->loop, on_report, p, &h->s, err);
    if (!st) st = peri_lua_host_open(h, err);
    if (!st) st = peri_lua_store_offer(h->lua, err);
    if (!st) st = peri_models_new(h->s, p->o->env, on_progress, p, &p->models, err);
    if (!st) st = peri_lua_engine_offer(h->lua, p->models, p->o->seed, err);
    return st;
}

/* Closing the state closes every handle, and reports the errors that nobody asked for. */
static void end(script *p) {
    peri_lua_close(p->host.lua);
    p->host.lua = NULL;
    peri_models_free(p->models);
    peri_lua_host_close(&p->host);
}

/* The value of a driver module on top of L: its function, which takes host.arguments. */
static int pick_main(lua_State *L) {
    if (lua_istable(L, 1)) lua_getfield(L, 1, "main");
    if (!lua_isfunction(L, -1))
        luaL_error(L, "the driver returned %s, expected a function or a table with main",
                   luaL_typename(L, 1));
    return 1;
}

static bool is_path(const char *entry) {
    size_t n = strlen(entry);
    return strchr(entry, '/') || (n > 4 && !strcmp(entry + n - 4, ".lua"));
}

/* Leave the main function and its arguments on the stack. */
static peri_status load_entry(script *p, int *n_arg, peri_error *err) {
    lua_State *L = peri_lua_main(p->host.lua);
    char name[80];
    *n_arg = 0;
    if (is_path(p->o->entry)) return peri_lua_load_user(p->host.lua, p->o->entry, err);
    size_t n = strlen(p->o->entry);
    if (n == 0 || n > 40 || strspn(p->o->entry, "abcdefghijklmnopqrstuvwxyz_") != n)
        return peri_fail(err, PERI_E_NOT_FOUND, "no driver is called \"%s\"", p->o->entry);
    memcpy(name, "perigee.cli.", 12);
    memcpy(name + 12, p->o->entry, n + 1);
    lua_pushcfunction(L, pick_main);
    peri_status st = peri_lua_require(p->host.lua, name, err);
    if (st) {
        lua_pop(L, 1);
        return st;
    }
    st = peri_lua_call(p->host.lua, L, 1, 1, err);
    if (st) return st;
    st = peri_lua_require(p->host.lua, "perigee.sys.host", err);
    if (st) return st;
    lua_getfield(L, -1, "arguments"); /* a plain field: nothing runs, nothing is allocated */
    lua_remove(L, -2);
    *n_arg = 1;
    return PERI_OK;
}

peri_status peri_lua_script_run(const peri_script_setup *o, int *exit_status, peri_error *err) {
    script p = {.o = o};
    int n_arg = 0, result = 1;
    *exit_status = 1;
    peri_status st = begin(&p, err);
    if (!st) st = load_entry(&p, &n_arg, err);
    if (!st) st = peri_lua_loop_run(p.host.s, n_arg, &result, err);
    end(&p);
    if (!st) {
        bool has_failed = p.host.has_write_failed || peri_lua_loop_n_error(p.host.s);
        if (has_failed && !result) result = 1;
        *exit_status = p.host.is_interrupted ? PERI_SCRIPT_INTERRUPTED : result;
    }
    peri_lua_loop_free(p.host.s);
    peri_loop_free(p.host.loop);
    return st;
}
