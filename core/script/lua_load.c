/* SPDX-License-Identifier: MIT
 *
 * lua_load.c - text from outside becomes a function of the user environment.  Precompiled chunks
 * are refused everywhere: the VM does not verify them. */
#include <string.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/sha256.h"
#include "base/status.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

/* Leave the function on the stack.  chunk: "@FILE" or "=NAME". */
static peri_status load_chunk(peri_lua *l, const char *chunk, const char *text, size_t size,
                              peri_error *err) {
    lua_State *L = l->L;
    if (!lua_checkstack(L, 4)) return peri_fail(err, PERI_E_NOMEM, "Lua: out of memory");
    if (size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        size -= 3;
    }
    if (size > 0 &&
        text[0] == '#') { /* "#!/usr/bin/env ...": the line's end stays, for the count */
        const char *end = memchr(text, '\n', size);
        size = end != NULL ? size - (size_t)(end - text) : 0;
        text = end != NULL ? end : text;
    }
    int rc = luaL_loadbufferx(L, text, size, chunk, "t");
    if (rc == LUA_OK) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_user_env);
        if (lua_setupvalue(L, -2, 1) == NULL) lua_pop(L, 1);
        return PERI_OK;
    }
    const char *why = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "cannot be compiled";
    if (rc == LUA_ERRMEM)
        peri_fail(err, PERI_E_NOMEM, "%s: out of memory while compiling", chunk + 1);
    else if (strncmp(why, "attempt to load a binary chunk", 30) == 0)
        peri_fail(err, PERI_E_CORRUPT, "%s: is a precompiled chunk, expected Lua text", chunk + 1);
    else
        peri_fail(err, PERI_E_CORRUPT, "%s", why);
    peri_text_fini(&l->trace);
    peri_text_add(&l->trace, why, strlen(why) > 8192 ? 8192 : strlen(why));
    lua_pop(L, 1);
    return rc == LUA_ERRMEM ? PERI_E_NOMEM : PERI_E_CORRUPT;
}

peri_status peri_lua_load_text(peri_lua *l, const char *name, const char *text, size_t size,
                               peri_error *err) {
    char *chunk = peri_strf("@%s", name);
    if (chunk == NULL) return peri_fail(err, PERI_E_NOMEM, "Lua: out of memory");
    peri_status status = load_chunk(l, chunk, text, size, err);
    peri_free(chunk);
    return status;
}

/* The script's name, folder and hash. */
static peri_status take_file(peri_lua *l, const char *path, const char *text, size_t size,
                             peri_error *err) {
    const char *slash = strrchr(path, '/');
    char *name = peri_str_dup(peri_str_of(path)), *dir;
    if (slash == NULL)
        dir = peri_str_dup(PERI_STR("."));
    else
        dir = peri_str_dup((peri_str){path, slash == path ? 1 : (size_t)(slash - path)});
    peri_status status = PERI_OK;
    if (name == NULL || dir == NULL)
        status = peri_fail(err, PERI_E_NOMEM, "%s: out of memory", path);
    if (status == PERI_OK) status = peri_sha256(text, size, l->user_hash, err);
    if (status != PERI_OK) {
        peri_free(name);
        peri_free(dir);
        return status;
    }
    peri_free(l->user_name);
    peri_free(l->user_dir);
    l->user_name = name;
    l->user_dir = dir;
    return PERI_OK;
}

peri_status peri_lua_load_user(peri_lua *l, const char *path, peri_error *err) {
    char *text = NULL;
    size_t size = 0;
    peri_status status = peri_file_read(path, LUA_SOURCE_MAX, &text, &size, err);
    if (status == PERI_OK) status = take_file(l, path, text, size, err);
    if (status == PERI_OK) status = peri_lua_load_text(l, path, text, size, err);
    peri_free(text);
    return status;
}

static int require_named(lua_State *L) {
    const char *name = lua_touserdata(L, 1);
    lua_pushcfunction(L, lua_require_trusted);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
    return 1;
}

peri_status peri_lua_require(peri_lua *l, const char *name, peri_error *err) {
    if (!lua_checkstack(l->L, 4)) return peri_fail(err, PERI_E_NOMEM, "Lua: out of memory");
    lua_pushcfunction(l->L, require_named);
    lua_pushlightuserdata(l->L, (void *)name);
    return peri_lua_call(l, l->L, 1, 1, err);
}
