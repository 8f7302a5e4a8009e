/* SPDX-License-Identifier: MIT
 *
 * lua_host.c - see lua_host.h. */
#include "script/lua_host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/status.h"
#include "script/lua_json.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

static const char registry_key, handler_key;

static peri_lua_host *host_of(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &registry_key);
    peri_lua_host *p = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return p;
}

/* ---- output -------------------------------------------------------------------------------------
 */

void peri_lua_host_write(peri_lua_host *p, int stream, const char *data, size_t size) {
    if (p->has_write_failed || !p->o->write) return;
    if (p->o->write(p->o->user, stream, data, size)) {
        p->has_write_failed = true;
        if (p->s) peri_lua_loop_end(p->s);
    }
}

/* host.write(stream, text[, is_dim]) */
static int host_write(lua_State *L) {
    enum { DIM = 256 }; /* PERI_DIM of perigee.h */
    lua_Integer stream = luaL_checkinteger(L, 1);
    size_t size;
    const char *text = luaL_checklstring(L, 2, &size);
    if (stream != 1 && stream != 2)
        peri_lua_misuse(L, "write: found stream %lld, expected 1 or 2", (long long)stream);
    peri_lua_host_write(host_of(L), (int)stream | (lua_toboolean(L, 3) ? DIM : 0), text, size);
    return 0;
}

/* host.progress(done, total): of work that takes its time. */
static int host_progress(lua_State *L) {
    const peri_script_setup *o = host_of(L)->o;
    lua_Integer done = luaL_checkinteger(L, 1), total = luaL_checkinteger(L, 2);
    if (o->progress) o->progress(o->user, "", (uint64_t)done, (uint64_t)total);
    return 0;
}

/* ---- input --------------------------------------------------------------------------------------
 */

static void read_on_terminal(void *user) {
    peri_lua_host *p = user;
    peri_lua_reader *r = &p->reader;
    const char *line = NULL;
    r->status = p->o->read_line(p->o->user, r->prompt, &line);
    if (r->status || !line) return;
    r->line = peri_str_dup(peri_str_of(line));
    if (!r->line) r->status = PERI_E_NOMEM;
}

static void line_was_read(void *user) {
    peri_lua_host *p = user;
    peri_lua_reader *r = &p->reader;
    if (!r->job.was_run) r->status = PERI_E_CANCELLED;
    r->state = PERI_READER_READY;
    peri_free(r->prompt);
    r->prompt = NULL;
    peri_lua_release(p->s);
    peri_lua_wake(p->s, &r->waiters);
}

static peri_status start_reading(peri_lua_host *p, const char *prompt, peri_error *err) {
    peri_lua_reader *r = &p->reader;
    if (!p->terminal) {
        peri_status st = peri_worker_new(p->loop, true, &p->terminal, err);
        if (st) return st;
    }
    r->prompt = peri_str_dup(peri_str_of(prompt));
    if (!r->prompt) return peri_fail(err, PERI_E_NOMEM, "out of memory reading a line");
    r->status = PERI_OK;
    r->state = PERI_READER_READING;
    r->job = (peri_job){.run = read_on_terminal, .done = line_was_read, .user = p};
    peri_worker_submit(p->terminal, &r->job);
    peri_lua_hold(p->s);
    return PERI_OK;
}

/* A line that a cancelled task asked for belongs to the next that asks. */
static int read_line_k(lua_State *L, int status, lua_KContext ctx) {
    peri_lua_host *p = host_of(L);
    peri_lua_reader *r = &p->reader;
    peri_error err;
    (void)status;
    if (r->state == PERI_READER_IDLE && start_reading(p, lua_tostring(L, 1), &err))
        return peri_lua_fail(L, &err);
    if (r->state == PERI_READER_READING) return peri_lua_wait_for(L, &r->waiters, ctx, read_line_k);
    if (r->status) {
        r->state = PERI_READER_IDLE;
        peri_fail(&err, r->status,
                  r->status == PERI_E_CANCELLED ? "interrupted" : "no line could be read");
        return peri_lua_fail(L, &err);
    }
    if (r->line)
        lua_pushstring(L, r->line);
    else
        lua_pushnil(L);
    peri_free(r->line);
    r->line = NULL;
    r->state = PERI_READER_IDLE;
    return 1;
}

/* host.read_line(prompt) -> line, or nil at the end, or nil and err */
static int host_read_line(lua_State *L) {
    luaL_checkstring(L, 1);
    lua_settop(L, 1);
    if (!host_of(L)->o->read_line) {
        lua_pushnil(L);
        return 1;
    }
    return read_line_k(L, LUA_OK, 0);
}

/* host.keep_history(is_kept) -> false where no lines are kept anyway */
static int host_keep_history(lua_State *L) {
    const peri_script_setup *o = host_of(L)->o;
    luaL_checktype(L, 1, LUA_TBOOLEAN);
    if (o->keep_history) o->keep_history(o->user, lua_toboolean(L, 1));
    lua_pushboolean(L, o->keep_history != NULL);
    return 1;
}

/* ---- interrupts ---------------------------------------------------------------------------------
 */

static int handler_ended(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    host_of(L)->is_handling = false;
    return 0;
}

static int run_handler(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &handler_key);
    lua_callk(L, 0, 0, 0, handler_ended);
    return handler_ended(L, LUA_OK, 0);
}

static int spawn_handler(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &handler_key) == LUA_TNIL) return 0;
    lua_pushcfunction(L, run_handler);
    peri_lua_spawn(L, 0);
    lua_pushboolean(L, 1);
    return 1;
}

static void end_interrupted(peri_lua_host *p) {
    p->is_interrupted = true;
    peri_lua_loop_end(p->s);
}

static void on_interrupt(void *user) {
    peri_lua_host *p = user;
    uint64_t n = peri_signal_take(p->o->interrupt);
    lua_State *L = peri_lua_main(p->lua);
    peri_error err;
    if (n == 0) return;
    if (n > 1 || p->is_handling) {
        end_interrupted(p);
        return;
    }
    p->is_handling = true;
    lua_pushcfunction(L, spawn_handler);
    if (peri_lua_call(p->lua, L, 0, 1, &err)) {
        end_interrupted(p);
        return;
    }
    if (!lua_toboolean(L, -1)) end_interrupted(p);
    lua_pop(L, 1);
}

/* host.on_interrupt(fn or nil) */
static int host_on_interrupt(lua_State *L) {
    if (!lua_isnoneornil(L, 1)) luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &handler_key);
    return 0;
}

/* ---- loading ------------------------------------------------------------------------------------
 */

/* What peri_lua_load_* left on the main thread's stack, onto L. */
static int take_loaded(lua_State *L, peri_lua_host *p, peri_status st, const peri_error *err) {
    if (st) return peri_lua_fail(L, err);
    lua_State *main = peri_lua_main(p->lua);
    if (main != L) lua_xmove(main, L, 1);
    return 1;
}

/* host.load(path) -> function of the user's script */
static int host_load(lua_State *L) {
    peri_lua_host *p = host_of(L);
    peri_error err;
    lua_forget_user(L);
    return take_loaded(L, p, peri_lua_load_user(p->lua, luaL_checkstring(L, 1), &err), &err);
}

/* host.load_text(name, text) -> function */
static int host_load_text(lua_State *L) {
    peri_lua_host *p = host_of(L);
    peri_error err;
    size_t size;
    const char *name = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &size);
    return take_loaded(L, p, peri_lua_load_text(p->lua, name, text, size, &err), &err);
}

/* host.modules() -> { path, ... } */
static int host_modules(lua_State *L) {
    lua_settop(L, 0);
    lua_newtable(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_user_files);
    lua_Integer n = 0;
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        lua_pushvalue(L, -1);
        lua_rawseti(L, 1, ++n);
    }
    lua_settop(L, 1);
    return 1;
}

/* host.provide(name, value): what require(name) returns to the user's script. */
static int host_provide(lua_State *L) {
    luaL_checkstring(L, 1);
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_user_loaded);
    lua_insert(L, 1);
    lua_rawset(L, 1);
    return 0;
}

/* host.library(name, env) -> function, or nil and err: the Lua library of that name where the
 * distribution installs it, to run in env. */
static int host_library(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    size_t n = strlen(name), size;
    char path[160];
    char *text;
    peri_error err;
    luaL_checktype(L, 2, LUA_TTABLE);
    if (n > 64 || strspn(name, "abcdefghijklmnopqrstuvwxyz_") != n)
        luaL_argerror(L, 1, "expected a plain name");
    snprintf(path, sizeof path, "/usr/share/lua/5.4/%s.lua", name);
    if (peri_file_read(path, 4 << 20, &text, &size, &err)) return peri_lua_fail(L, &err);
    int rc = luaL_loadbufferx(L, text, size, "=perigee.library", "t");
    peri_free(text);
    if (rc) return lua_error(L);
    lua_pushvalue(L, 2);
    lua_setupvalue(L, -2, 1);
    return 1;
}

/* ---- files that the person named ----------------------------------------------------------------
 */

static int push_text(lua_State *L) {
    lua_pushlstring(L, lua_touserdata(L, 1), (size_t)lua_tointeger(L, 2));
    return 1;
}

/* host.read_file(path) -> text, or nil and err.  No grant is asked for: not for scripts. */
static int host_read_file(lua_State *L) {
    char *text;
    size_t size;
    peri_error err;
    if (peri_file_read(luaL_checkstring(L, 1), 64 << 20, &text, &size, &err))
        return peri_lua_fail(L, &err);
    lua_pushcfunction(L, push_text);
    lua_pushlightuserdata(L, text);
    lua_pushinteger(L, (lua_Integer)size);
    int rc = lua_pcall(L, 2, 1, 0); /* out of memory must not lose the text */
    peri_free(text);
    return rc ? lua_error(L) : 1;
}

/* host.write_file(path, text) -> true, or nil and err: replaced as a whole or not at all. */
static int host_write_file(lua_State *L) {
    size_t size;
    peri_error err;
    const char *path = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &size);
    if (peri_file_write(path, text, size, &err)) return peri_lua_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

/* host.make_folder(path) -> true, or nil and err: with those it is in; for this person only. */
static int host_make_folder(lua_State *L) {
    char path[PATH_MAX];
    peri_error err;
    size_t n;
    const char *given = luaL_checklstring(L, 1, &n);
    if (n == 0 || n >= sizeof path || strlen(given) != n) luaL_argerror(L, 1, "no folder's name");
    memcpy(path, given, n + 1);
    for (char *p = path + 1;; p++) {
        if (*p != '/' && *p != 0) continue;
        char end = *p;
        *p = 0;
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            peri_fail(&err, PERI_E_IO, "%s: cannot make this folder: %s", path, strerror(errno));
            return peri_lua_fail(L, &err);
        }
        *p = end;
        if (end == 0) break;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* Names in a folder, at most MAX_NAMES; the handle closes with the collector. */
static int push_names(lua_State *L) {
    enum { MAX_NAMES = 10000 };
    DIR **d = luaL_checkudata(L, 1, "perigee host folder");
    struct dirent *e;
    lua_newtable(L);
    for (lua_Integer n = 0; n < MAX_NAMES && (e = readdir(*d)) != NULL;) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        lua_pushstring(L, e->d_name);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static int close_folder(lua_State *L) {
    DIR **d = lua_touserdata(L, 1);
    if (*d) closedir(*d);
    *d = NULL;
    return 0;
}

/* Set "names" of the table on top to what the folder holds; none when it cannot be read. */
static void set_names(lua_State *L, const char *path) {
    DIR **d = lua_newuserdatauv(L, sizeof(DIR *), 0);
    *d = NULL;
    if (luaL_newmetatable(L, "perigee host folder")) {
        lua_pushcfunction(L, close_folder);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    *d = opendir(path);
    if (*d) {
        lua_pushcfunction(L, push_names);
        lua_pushvalue(L, -2);
        lua_call(L, 1, 1);
        lua_setfield(L, -3, "names");
        closedir(*d);
        *d = NULL;
    }
    lua_pop(L, 1);
}

static bool begins_as_gguf(const char *path) {
    char head[4] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    ssize_t n = read(fd, head, sizeof head);
    close(fd);
    return n == (ssize_t)sizeof head && memcmp(head, "GGUF", sizeof head) == 0;
}

/* Set "stamp" of the table on top to a text that differs when the file was changed or replaced. */
static void set_stamp(lua_State *L, const struct stat *st) {
    char text[160];
    snprintf(text, sizeof text, "%llu:%llu:%lld:%lld.%09ld:%lld.%09ld",
             (unsigned long long)st->st_dev, (unsigned long long)st->st_ino, (long long)st->st_size,
             (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (long long)st->st_ctim.tv_sec,
             st->st_ctim.tv_nsec);
    lua_pushstring(L, text);
    lua_setfield(L, -2, "stamp");
}

/* host.look(path) -> { kind =, path =, is_gguf =, stamp =, names? = }, or nil and err */
static int host_look(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    char real[PATH_MAX];
    struct stat st;
    peri_error err;
    if (strlen(path) != lua_rawlen(L, 1) || !realpath(path, real) || stat(real, &st) != 0) {
        peri_status status = errno == ENOENT || errno == ENOTDIR ? PERI_E_NOT_FOUND : PERI_E_IO;
        peri_fail(&err, status, "%s: %s", path,
                  status == PERI_E_NOT_FOUND ? "no such file or folder" : "cannot be looked at");
        return peri_lua_fail(L, &err);
    }
    lua_settop(L, 0);
    lua_newtable(L);
    lua_pushstring(L, real);
    lua_setfield(L, -2, "path");
    lua_pushstring(L, S_ISREG(st.st_mode) ? "file" : S_ISDIR(st.st_mode) ? "folder" : "other");
    lua_setfield(L, -2, "kind");
    lua_pushboolean(L, S_ISREG(st.st_mode) && begins_as_gguf(real));
    lua_setfield(L, -2, "is_gguf");
    set_stamp(L, &st);
    if (S_ISDIR(st.st_mode)) set_names(L, real);
    return 1;
}

/* ---- the module "host" --------------------------------------------------------------------------
 */

static int open_host(lua_State *L) {
    static const luaL_Reg functions[] = {{"write", host_write},
                                         {"progress", host_progress},
                                         {"read_line", host_read_line},
                                         {"on_interrupt", host_on_interrupt},
                                         {"load", host_load},
                                         {"load_text", host_load_text},
                                         {"provide", host_provide},
                                         {"library", host_library},
                                         {"read_file", host_read_file},
                                         {"write_file", host_write_file},
                                         {"look", host_look},
                                         {"keep_history", host_keep_history},
                                         {"modules", host_modules},
                                         {"make_folder", host_make_folder},
                                         {NULL, NULL}};
    peri_lua_host *p = host_of(L);
    peri_error err;
    const char *arguments = p->o->arguments ? p->o->arguments : "{}";
    luaL_newlib(L, functions);
    if (peri_lua_push_json(L, arguments, strlen(arguments), &err))
        luaL_error(L, "arguments of the driver: %s", err.text);
    lua_setfield(L, -2, "arguments");
    lua_pushstring(L, p->o->version ? p->o->version : "");
    lua_setfield(L, -2, "version");
    lua_pushinteger(L, (lua_Integer)p->o->seed);
    lua_setfield(L, -2, "seed");
    lua_pushstring(L, getenv("HOME"));
    lua_setfield(L, -2, "home");
    const char *data = getenv("XDG_DATA_HOME");
    lua_pushstring(L, data && data[0] == '/' ? data : NULL);
    lua_setfield(L, -2, "data_home");
    char real[PATH_MAX];
    if (p->lua->script_dir && realpath(p->lua->script_dir, real)) {
        lua_pushstring(L, real);
        lua_setfield(L, -2, "scripts");
    }
    return 1;
}

static int set_registry(lua_State *L) {
    lua_rawsetp(L, LUA_REGISTRYINDEX, &registry_key);
    return 0;
}

peri_status peri_lua_host_open(peri_lua_host *p, peri_error *err) {
    lua_State *L = peri_lua_main(p->lua);
    if (!lua_checkstack(L, 8)) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    lua_pushcfunction(L, set_registry);
    lua_pushlightuserdata(L, p);
    peri_status st = peri_lua_call(p->lua, L, 1, 0, err);
    if (!st) st = peri_lua_module(p->lua, "host", open_host, err);
    if (!st) st = peri_watch_signal(p->loop, p->o->interrupt, on_interrupt, p, &p->watch, err);
    return st;
}

void peri_lua_host_close(peri_lua_host *p) {
    peri_watch_free(p->watch);
    p->watch = NULL;
    peri_worker_free(p->terminal);
    p->terminal = NULL;
    if (p->loop) peri_loop_drain(p->loop);
    peri_free(p->reader.prompt);
    peri_free(p->reader.line);
    p->reader = (peri_lua_reader){0};
}
