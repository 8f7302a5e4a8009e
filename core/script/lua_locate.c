/* SPDX-License-Identifier: MIT
 *
 * lua_locate.c - engine.locate: where a file that the engine will read or write really lies, for a
 * script that was granted the folder.  The engine opens names by itself, so links are resolved
 * here, below the granted folder only. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "script/engine_int.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

static int refuse(lua_State *L, grant_kind kind, const char *path, bool is_link) {
    const char *slash = strrchr(path, '/');
    size_t n = slash && slash != path ? (size_t)(slash - path) : 1;
    luaL_pushfail(L);
    peri_lua_push_error(L, PERI_E_OTHER, "");
    lua_pushliteral(L, "not_allowed");
    lua_setfield(L, -2, "code");
    lua_pushlstring(L, path, n);
    if (is_link)
        lua_pushfstring(L, "%s is not allowed: a link in it leaves the granted folder", path);
    else
        lua_pushfstring(L, "%s is not allowed; add --allow %s=%s", path, grant_name[kind],
                        lua_tostring(L, -1));
    lua_setfield(L, -3, "message");
    lua_pop(L, 1);
    return 2;
}

/* Push the name of an open descriptor. */
static bool push_name(lua_State *L, int fd) {
    char link[40], name[LUA_PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, sizeof name);
    if (n <= 0 || (size_t)n >= sizeof name) return false;
    lua_pushlstring(L, name, (size_t)n);
    return true;
}

/* The descriptor of the file (read) or of its folder (write); *last: what is left of the name. */
static int open_place(const lua_grant *grant, const char *rest, bool is_write, const char **last) {
    char folder[LUA_PATH_MAX];
    *last = "";
    int root = open(grant->value, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) return -1;
    if (is_write) {
        const char *slash = strrchr(rest, '/');
        *last = slash ? slash + 1 : rest;
        snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - rest) : 1,
                 slash ? rest : ".");
        rest = folder;
    }
    int fd = lua_open_beneath(root, rest, O_PATH | O_CLOEXEC, 0);
    close(root);
    return fd;
}

/* engine.locate(path, "read" or "write") -> absolute path, or nil and err */
int engine_locate(lua_State *L) {
    static const char *const ways[] = {"read", "write", NULL};
    char path[LUA_PATH_MAX];
    const char *rest, *last;
    size_t size;
    if (lua_type(L, 1) != LUA_TSTRING)
        peri_lua_blame(L, "found %s, expected a path", luaL_typename(L, 1));
    const char *name = lua_tolstring(L, 1, &size);
    bool is_write = luaL_checkoption(L, 2, NULL, ways) == 1;
    grant_kind kind = is_write ? GRANT_WRITE : GRANT_READ;
    if (strlen(name) != size || !lua_path_absolute(peri_lua_of(L), name, path))
        peri_lua_blame(L, "path: expected 1 to %d bytes without a zero byte", LUA_PATH_MAX - 1);
    const lua_grant *grant = lua_grant_find(peri_lua_of(L), kind, path, &rest);
    if (!grant) return refuse(L, kind, path, false);
    int fd = open_place(grant, rest, is_write, &last);
    if (fd < 0) {
        peri_error err;
        if (access(path, F_OK) == 0) return refuse(L, kind, path, true);
        peri_fail(&err, PERI_E_NOT_FOUND, "%s: no such file or folder", path);
        return peri_lua_fail(L, &err);
    }
    bool is_known = push_name(L, fd);
    close(fd);
    if (!is_known) return luaL_error(L, "%s: cannot be resolved", path);
    if (is_write) lua_pushfstring(L, "%s/%s", lua_tostring(L, -1), last);
    return 1;
}
