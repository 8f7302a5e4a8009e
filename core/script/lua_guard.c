/* SPDX-License-Identifier: MIT
 *
 * lua_guard.c - the base functions and coroutines that must not let a script keep running past its
 * slice, wait in the wrong place, or reach what is not its own.
 *
 * Every function that catches errors (pcall, xpcall, coroutine.resume, wrap and close) looks at
 * is_expired afterwards and raises again.  Message handlers of the script run only before that.
 *
 * A wait (peri_lua_wait) yields with a mark that no script can make.  A resume that receives the
 * mark yields in turn, until the host is reached; what the host resumes with goes down the same
 * way. */
#include <string.h>

#include "script/sandbox_int.h"

#include "base/compiler.h"

enum { MAX_CLOSE = 64 }; /* nested coroutine.close: liblua does not count its C stack */

/* ---- pcall, xpcall ------------------------------------------------------------------------- */

static int finish_pcall(lua_State *L, int status, lua_KContext n_extra) {
    peri_lua_poll(L);
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_pushboolean(L, 0);
        lua_pushvalue(L, -2);
        return 2;
    }
    return lua_gettop(L) - (int)n_extra;
}

static int guard_pcall(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, finish_pcall);
    return finish_pcall(L, status, 0);
}

static int handler(lua_State *L) {
    if (peri_lua_of(L)->is_expired) return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

static int guard_xpcall(lua_State *L) {
    int n = lua_gettop(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, handler, 1);
    lua_replace(L, 2);
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2); /* f, handler, true, f, arguments */
    int status = lua_pcallk(L, n - 2, LUA_MULTRET, 2, 2, finish_pcall);
    return finish_pcall(L, status, 2);
}

/* ---- coroutines ---------------------------------------------------------------------------- */

static lua_State *check_co(lua_State *L) {
    lua_State *co = lua_tothread(L, 1);
    luaL_argexpected(L, co != NULL, 1, "coroutine");
    return co;
}

static const char *co_status(lua_State *L, lua_State *co) {
    lua_Debug ar;
    if (L == co) return "running";
    switch (lua_status(co)) {
    case LUA_YIELD:
        return lua_is_waiting(co) ? "normal" : "suspended";
    case LUA_OK:
        if (lua_getstack(co, 0, &ar)) return "normal";
        return lua_gettop(co) == 0 ? "dead" : "suspended";
    default:
        return "dead";
    }
}

static int new_co(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    return 1;
}

static int continue_wait(lua_State *L, int status, lua_KContext ctx);

/* Resume co with the n_arg values on top of L; the stack below stays.  The number of results on L's
 * stack, or -1 with an error object there.  When it waits, this does not return but yields. */
static int run_co(lua_State *L, lua_State *co, int n_arg, lua_KContext is_wrap) {
    peri_lua *l = peri_lua_of(L);
    const char *state = co_status(L, co);
    int n = 0, rc = LUA_YIELD;
    if (strcmp(state, "suspended") != 0) {
        lua_pushfstring(L, "cannot resume %s coroutine",
                        strcmp(state, "dead") == 0 ? "dead" : "non-suspended");
        return -1;
    }
    if (!lua_checkstack(co, n_arg + 1)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, n_arg);
    lua_frame frame;
    lua_frame_push(l, &frame, co);
    if (!l->is_expired) rc = lua_resume(co, L, n_arg, &n);
    lua_frame_pop(l, &frame);
    peri_lua_poll(L);
    if (rc != LUA_OK && rc != LUA_YIELD) {
        lua_xmove(co, L, 1);
        return -1;
    }
    if (!lua_checkstack(L, n + 2)) {
        lua_pop(co, n);
        lua_pushliteral(L, "too many results to resume");
        return -1;
    }
    lua_xmove(co, L, n);
    if (rc == LUA_YIELD && n > 0 && lua_touserdata(L, -1) == &lua_key_wait) {
        lua_set_waiting(co, true);
        return lua_yieldk(L, n, is_wrap, continue_wait);
    }
    return n;
}

static int finish_resume(lua_State *L, int n) {
    lua_pushboolean(L, n >= 0);
    lua_insert(L, n >= 0 ? -(n + 1) : -2);
    return n >= 0 ? n + 1 : 2;
}

int lua_guard_close(lua_State *L, lua_State *co) {
    peri_lua *l = peri_lua_of(L);
    if (lua_is_stopped(co)) return LUA_OK; /* see lua_run.c */
    lua_frame frame;
    lua_frame_push(l, &frame, co);
    l->close_depth++;
    int status = lua_resetthread(co);
    l->close_depth--;
    lua_frame_pop(l, &frame);
    return status;
}

static void check_close_depth(lua_State *L) {
    if (peri_lua_of(L)->close_depth >= MAX_CLOSE)
        luaL_error(L, "C stack overflow: more than %d nested coroutine.close", MAX_CLOSE);
}

/* Results of a wrapped coroutine; an error ends it, and is raised with the caller's place. */
static int finish_wrap(lua_State *L, lua_State *co, int n) {
    if (n >= 0) return n;
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD) {
        check_close_depth(L);
        status = lua_guard_close(L, co);
        peri_lua_poll(L);
        if (status != LUA_OK) {
            lua_pop(L, 1);
            lua_xmove(co, L, 1);
        }
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int wrap_call(lua_State *L) {
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    return finish_wrap(L, co, run_co(L, co, lua_gettop(L), 1));
}

static int guard_resume(lua_State *L) {
    lua_State *co = check_co(L);
    return finish_resume(L, run_co(L, co, lua_gettop(L) - 1, 0));
}

/* The host has resumed L with values, which belong to the coroutine that waits. */
static int continue_wait(lua_State *L, int status, lua_KContext is_wrap) {
    (void)status;
    lua_State *co = is_wrap ? lua_tothread(L, lua_upvalueindex(1)) : lua_tothread(L, 1);
    lua_set_waiting(co, false);
    if (is_wrap) return finish_wrap(L, co, run_co(L, co, lua_gettop(L), 1));
    return finish_resume(L, run_co(L, co, lua_gettop(L) - 1, 0));
}

static int guard_wrap(lua_State *L) {
    new_co(L);
    lua_pushcclosure(L, wrap_call, 1);
    return 1;
}

static bool is_outside(lua_State *L) {
    const lua_frame *f = peri_lua_of(L)->frame;
    return f == NULL || f->is_host;
}

static int guard_yield(lua_State *L) {
    if (is_outside(L)) return luaL_error(L, "attempt to yield from outside a coroutine");
    return lua_yield(L, lua_gettop(L));
}

static int guard_isyieldable(lua_State *L) {
    lua_State *co = lua_isthread(L, 1) ? lua_tothread(L, 1) : L;
    lua_pushboolean(L, lua_isyieldable(co) && !(co == L && is_outside(L)));
    return 1;
}

static int guard_running(lua_State *L) {
    lua_pushthread(L);
    lua_pushboolean(L, is_outside(L));
    return 2;
}

static int guard_status(lua_State *L) {
    lua_pushstring(L, co_status(L, check_co(L)));
    return 1;
}

static int guard_close(lua_State *L) {
    lua_State *co = check_co(L);
    const char *state = co_status(L, co);
    if (strcmp(state, "dead") != 0 && strcmp(state, "suspended") != 0)
        return luaL_error(L, "cannot close a %s coroutine", state);
    check_close_depth(L);
    int status = lua_guard_close(L, co);
    peri_lua_poll(L);
    if (status == LUA_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushboolean(L, 0);
    lua_xmove(co, L, 1);
    return 2;
}

const luaL_Reg lua_guard_coroutine[] = {
    {"create", new_co},
    {"resume", guard_resume},
    {"wrap", guard_wrap},
    {"yield", guard_yield},
    {"isyieldable", guard_isyieldable},
    {"running", guard_running},
    {"status", guard_status},
    {"close", guard_close},
    {NULL, NULL},
};

/* ---- load ---------------------------------------------------------------------------------- */

typedef struct source {
    const char *text; /* NULL: call the function at index 1 */
    size_t size;
} source;

enum { PIECE = 4096 }; /* bytes compiled between two looks at the deadline */

static const char *read_piece(lua_State *L, void *user, size_t *size) {
    source *s = user;
    peri_lua_poll(L);
    if (s->text != NULL) {
        const char *piece = s->text;
        *size = s->size < PIECE ? s->size : PIECE;
        s->text += *size;
        s->size -= *size;
        return *size != 0 ? piece : NULL;
    }
    luaL_checkstack(L, 2, "too many nested functions");
    lua_pushvalue(L, 1);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        *size = 0;
        return NULL;
    }
    if (lua_type(L, -1) != LUA_TSTRING) luaL_error(L, "reader function must return a string");
    lua_replace(L, 5); /* keeps the piece alive */
    return lua_tolstring(L, 5, size);
}

int lua_guard_load(lua_State *L) {
    source s = {.text = lua_tolstring(L, 1, &s.size)};
    const char *mode = luaL_optstring(L, 3, "t");
    bool has_env = !lua_isnone(L, 4);
    const char *name = luaL_optstring(L, 2, s.text != NULL ? s.text : "=(load)");
    if (s.text == NULL) luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 5);
    if (strchr(mode, 't') == NULL) {
        luaL_pushfail(L);
        lua_pushfstring(L, "attempt to load a text chunk (mode is '%s')", mode);
        return 2;
    }
    int status = lua_load(L, read_piece, &s, name, "t");
    peri_lua_poll(L);
    if (status != LUA_OK) {
        luaL_pushfail(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushvalue(L, has_env ? 4 : lua_upvalueindex(1));
    if (lua_setupvalue(L, -2, 1) == NULL) lua_pop(L, 1);
    return 1;
}

/* ---- metatables and raw access of the user environment ------------------------------------- */

/* Does the registry's set `key` hold the value at idx? */
static bool is_in(lua_State *L, const char *key, int idx) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
    lua_pushvalue(L, idx);
    lua_rawget(L, -2);
    bool found = lua_toboolean(L, -1);
    lua_pop(L, 2);
    return found;
}

static void check_not_frozen(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    if (is_in(L, &lua_key_frozen, 1)) peri_lua_misuse(L, "this table is read-only");
}

static int user_setmetatable(lua_State *L) {
    int type = lua_type(L, 2);
    check_not_frozen(L);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    lua_settop(L, 2);
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    if (lua_getmetatable(L, 1)) {
        if (!is_in(L, &lua_key_user_meta, 3))
            return luaL_error(L, "cannot change a protected metatable");
        lua_pop(L, 1);
    }
    if (type == LUA_TTABLE) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            peri_lua_misuse(L, "__gc is not allowed in a script; use a variable marked <close>");
        lua_pop(L, 1);
        lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_key_user_meta);
        lua_pushvalue(L, 2);
        lua_pushboolean(L, 1);
        lua_rawset(L, -3);
        lua_pop(L, 1);
    }
    lua_setmetatable(L, 1);
    return 1;
}

static int user_getmetatable(lua_State *L) {
    luaL_checkany(L, 1);
    if (!lua_getmetatable(L, 1)) {
        lua_pushnil(L);
        return 1;
    }
    int meta = lua_gettop(L);
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) return 1;
    if (is_in(L, &lua_key_user_meta, meta)) return 1;
    lua_pushboolean(L, 0); /* there is one, and it is not the script's */
    return 1;
}

static int user_rawset(lua_State *L) {
    check_not_frozen(L);
    luaL_checkany(L, 2);
    luaL_checkany(L, 3);
    lua_settop(L, 3);
    lua_rawset(L, 1);
    return 1;
}

/* print: through the host's callback, one call a line. */
static int guard_print(lua_State *L) {
    peri_lua *l = peri_lua_of(L);
    lua_buf b;
    int n = lua_gettop(L);
    lua_buf_init(&b, L);
    for (int i = 1; i <= n; i++) {
        size_t size;
        const char *s = luaL_tolstring(L, i, &size);
        if (i > 1) lua_buf_add(&b, "\t", 1);
        lua_buf_add(&b, s, size);
        lua_pop(L, 1);
    }
    lua_buf_add(&b, "\n", 1);
    if (l->print != NULL) l->print(l->user, b.data, b.size);
    return 0;
}

const luaL_Reg lua_guard_both[] = {
    {"pcall", guard_pcall},
    {"xpcall", guard_xpcall},
    {"print", guard_print},
    {NULL, NULL},
};

const luaL_Reg lua_guard_user[] = {
    {"setmetatable", user_setmetatable},
    {"getmetatable", user_getmetatable},
    {"rawset", user_rawset},
    {NULL, NULL},
};
