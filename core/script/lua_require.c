/* SPDX-License-Identifier: MIT
 *
 * lua_require.c - modules: ours ("perigee", "perigee.NAME", and "perigee.sys.NAME" in C) and the
 * .lua files beside the user's script.
 *
 * A module runs once; while it runs its name stands for "being loaded", so a circle is an error and
 * not a second run.  The user gets read-only views of our modules, and never those of is_closed:
 * they reach files without a grant. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/status.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

enum { MAX_NAME = 128 };

const char lua_key_user_loaded = 'u', lua_key_trusted_loaded = 't', lua_key_user_files = 'f';

/* Parts of letters, digits, "_" and "-", joined by single dots. */
static const char *check_name(lua_State *L) {
    const char *s = luaL_checkstring(L, 1);
    size_t n = lua_rawlen(L, 1), part = 0;
    bool is_good = n > 0 && n <= MAX_NAME && n == strlen(s);
    for (size_t i = 0; is_good && i <= n; i++) {
        if (i == n || s[i] == '.') {
            is_good = part > 0;
            part = 0;
        } else {
            part++;
            is_good = memchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-",
                             s[i], 64) != NULL;
        }
    }
    if (!is_good)
        peri_lua_misuse(L,
                        "module name \"%.60s\": expected parts of letters, digits, _ and -, joined "
                        "by dots",
                        s);
    return s;
}

/* NAME with dots as slashes, plus ".lua". */
static void file_of(const char *name, char out[MAX_NAME + 8]) {
    snprintf(out, MAX_NAME + 8, "%s.lua", name);
    for (size_t i = 0; i + 4 < strlen(out); i++)
        if (out[i] == '.') out[i] = '/';
}

/* Push the value of a module that is loaded (true), or note that it is being loaded (false). */
static bool begin(lua_State *L, const char *key) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
    lua_pushvalue(L, 1);
    int type = lua_rawget(L, -2);
    if (type == LUA_TLIGHTUSERDATA)
        peri_lua_misuse(L,
                        "module '%s' is required while it is being loaded: modules must not "
                        "require each other in a circle",
                        lua_tostring(L, 1));
    if (type != LUA_TNIL) return true;
    lua_pop(L, 1);
    lua_pushvalue(L, 1);
    lua_pushlightuserdata(L, (void *)key);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return false;
}

/* Store the value on top (true for nil) as the module's; with is_failed forget the module. */
static void finish(lua_State *L, const char *key, bool is_failed) {
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
    lua_pushvalue(L, 1);
    if (is_failed)
        lua_pushnil(L);
    else
        lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

static int finish_call(lua_State *L, int status, lua_KContext key) {
    bool is_failed = status != LUA_OK && status != LUA_YIELD;
    finish(L, (const char *)key, is_failed);
    peri_lua_poll(L);
    return is_failed ? lua_error(L) : 1;
}

/* Run the loader on top of the stack and store what it returns. */
static int run(lua_State *L, const char *key) {
    int status = lua_pcallk(L, 0, 1, 0, (lua_KContext)key, finish_call);
    return finish_call(L, status, (lua_KContext)key);
}

static int stop(lua_State *L, const char *key, const char *fmt, const char *what) {
    luaL_where(L, 1);
    lua_pushfstring(L, fmt, what);
    lua_concat(L, 2);
    finish(L, key, true);
    return lua_error(L);
}

/* ---- ours ---------------------------------------------------------------------------------- */

static int load_c(lua_State *L, const char *name) {
    peri_lua *l = peri_lua_of(L);
    for (size_t i = 0; i < l->n_module; i++)
        if (strcmp(l->module[i].name, name) == 0) {
            lua_pushcfunction(L, l->module[i].open);
            return run(L, &lua_key_trusted_loaded);
        }
    return stop(L, &lua_key_trusted_loaded, "there is no module '%s'", lua_tostring(L, 1));
}

static int load_ours(lua_State *L, const char *name) {
    peri_lua *l = peri_lua_of(L);
    char file[MAX_NAME + 8], *text = NULL;
    size_t size;
    peri_error err;
    file_of(strcmp(name, "perigee") == 0 ? "perigee.init" : name, file);
    if (l->script_dir == NULL)
        return stop(L, &lua_key_trusted_loaded, "there is no module '%s'", name);
    const char *path = lua_pushfstring(L, "%s/%s", l->script_dir, file);
    if (peri_file_read(path, LUA_SOURCE_MAX, &text, &size, &err) != PERI_OK)
        return stop(L, &lua_key_trusted_loaded, "no such module: %s", err.text);
    char chunk[MAX_NAME + 8];
    snprintf(chunk, sizeof chunk, "=%s", name);
    int rc = luaL_loadbufferx(L, text, size, chunk, "t");
    peri_free(text);
    if (rc != LUA_OK) {
        finish(L, &lua_key_trusted_loaded, true);
        return lua_error(L);
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_trusted_env);
    if (lua_setupvalue(L, -2, 1) == NULL) lua_pop(L, 1);
    return run(L, &lua_key_trusted_loaded);
}

int lua_require_trusted(lua_State *L) {
    const char *name = check_name(L);
    lua_settop(L, 1);
    if (strcmp(name, "perigee") != 0 && strncmp(name, "perigee.", 8) != 0)
        peri_lua_misuse(L, "module '%.60s': expected one of perigee", name);
    if (begin(L, &lua_key_trusted_loaded)) return 1;
    if (strncmp(name, "perigee.sys.", 12) == 0) return load_c(L, name + 12);
    return load_ours(L, name);
}

/* ---- the user's ---------------------------------------------------------------------------- */

static int view_of_ours(lua_State *L) {
    lua_pushcfunction(L, lua_require_trusted);
    lua_pushvalue(L, 1);
    int status = lua_pcall(L, 1, 1, 0);
    if (status == LUA_OK && lua_istable(L, -1)) {
        peri_lua_freeze(L, -1);
        lua_replace(L, -2);
    }
    return finish_call(L, status, (lua_KContext)&lua_key_user_loaded);
}

static int load_file(lua_State *L, const char *name) {
    peri_lua *l = peri_lua_of(L);
    const char *key = &lua_key_user_loaded;
    char file[MAX_NAME + 8];
    peri_error err;
    file_of(name, file);
    if (l->user_dir == NULL)
        return stop(L, key, "module '%s': this script has no folder to look in", name);
    const char *shown = lua_pushfstring(L, "%s/%s", l->user_dir, file);
    int dir = open(l->user_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    peri_status status = lua_push_file(L, dir, file, shown, LUA_SOURCE_MAX, &err);
    if (dir >= 0) close(dir);
    if (status == PERI_E_NOT_FOUND) return stop(L, key, "no such module: there is no %s", shown);
    if (status != PERI_OK) return stop(L, key, "%s", err.text);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_user_files);
    lua_pushstring(L, shown);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
    size_t size;
    const char *text = lua_tolstring(L, -1, &size);
    const char *chunk = lua_pushfstring(L, "@%s", shown);
    if (luaL_loadbufferx(L, text, size, chunk, "t") != LUA_OK) {
        finish(L, key, true);
        return lua_error(L);
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_user_env);
    if (lua_setupvalue(L, -2, 1) == NULL) lua_pop(L, 1);
    return run(L, key);
}

void lua_forget_user(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_user_loaded);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_user_files);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_pushnil(L);
        lua_rawset(L, -6);
    }
    lua_pop(L, 2);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &lua_key_user_files);
}

/* C modules, drivers of commands, the store of models; but what only handles text is open. */
static bool is_closed(const char *name) {
    static const char *const closed[] = {"perigee.sys", "perigee.cli", "perigee.store",
                                         "perigee.source", "perigee.lineage"};
    static const char *const open[] = {"perigee.store.name", "perigee.store.manifest"};
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        if (strcmp(name, open[i]) == 0) return false;
    for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++) {
        size_t n = strlen(closed[i]);
        if (strncmp(name, closed[i], n) == 0 && (name[n] == 0 || name[n] == '.')) return true;
    }
    return false;
}

int lua_require_user(lua_State *L) {
    const char *name = check_name(L);
    lua_settop(L, 1);
    if (is_closed(name))
        peri_lua_misuse(L, "module '%.60s' is not for scripts; see require \"perigee\"", name);
    if (begin(L, &lua_key_user_loaded)) return 1;
    if (strcmp(name, "perigee") == 0 || strncmp(name, "perigee.", 8) == 0) return view_of_ours(L);
    return load_file(L, name);
}
