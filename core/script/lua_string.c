/* SPDX-License-Identifier: MIT
 *
 * lua_string.c - string.find, match, gmatch, gsub and rep on the matcher of lua_pattern.c.
 *
 * Source: Lua 5.4 reference manual, section 6.4.  The other functions of the library do work that
 * is linear in strings the memory cap bounds, and stay as they are. */
#define _GNU_SOURCE
#include <string.h>

#include "script/lua_pattern.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

/* Start of a search: negative positions count from the end; from 0. */
static size_t start_of(lua_Integer init, size_t size) {
    if (init > 0) return (size_t)init - 1;
    if (init == 0 || init < -(lua_Integer)size) return 0;
    return size + (size_t)init;
}

static bool is_plain(const char *p, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (p[i] != 0 && strchr("^$*+?.([%-", p[i]) != NULL) return false;
    return true;
}

static int find_plain(lua_State *L, const char *s, size_t size, size_t start, const char *p,
                      size_t n) {
    const char *from = s + start, *at;
    if (n == 0)
        at = from;
    else if (n == 1) /* of memmem the address sanitizer checks all that is left, every time */
        at = memchr(from, p[0], size - start);
    else
        at = memmem(from, size - start, p, n); /* linear in glibc */
    if (at == NULL) {
        luaL_pushfail(L);
        return 1;
    }
    lua_pushinteger(L, at - s + 1);
    lua_pushinteger(L, at - s + (lua_Integer)n);
    return 2;
}

static int search(lua_State *L, bool want_find) {
    size_t size, n;
    const char *s = luaL_checklstring(L, 1, &size), *text = luaL_checklstring(L, 2, &n);
    size_t start = start_of(luaL_optinteger(L, 3, 1), size);
    if (start > size) {
        luaL_pushfail(L);
        return 1;
    }
    if (want_find && (lua_toboolean(L, 4) || is_plain(text, n)))
        return find_plain(L, s, size, start, text, n);
    bool is_anchored = n > 0 && text[0] == '^';
    pat p;
    pat_match m;
    pat_compile(L, &p, text + is_anchored, n - is_anchored);
    pat_match_init(&m, L, &p, s, size);
    for (const char *at = s + start; at <= m.end; at++) {
        const char *e = pat_match_at(&m, at);
        if (e != NULL) {
            if (!want_find) return pat_push_captures(&m, at, e);
            lua_pushinteger(L, at - s + 1);
            lua_pushinteger(L, e - s);
            return 2 + pat_push_captures(&m, NULL, NULL);
        }
        if (is_anchored) break;
    }
    luaL_pushfail(L);
    return 1;
}

static int own_find(lua_State *L) {
    return search(L, true);
}

static int own_match(lua_State *L) {
    return search(L, false);
}

/* ---- gmatch -------------------------------------------------------------------------------- */

/* Upvalues of the iterator: subject, pattern text, this, the long pattern's memory. */
typedef struct gmatch {
    const char *at, *last; /* next start; end of the last match */
    pat_match m;
    pat p;
} gmatch;

static int next_match(lua_State *L) {
    gmatch *g = lua_touserdata(L, lua_upvalueindex(3));
    g->m.L = L;
    for (const char *s = g->at; s <= g->m.end; s++) {
        const char *e = pat_match_at(&g->m, s);
        if (e != NULL && e != g->last) {
            g->at = g->last = e;
            return pat_push_captures(&g->m, s, e);
        }
    }
    return 0;
}

static int own_gmatch(lua_State *L) {
    size_t size, n;
    const char *s = luaL_checklstring(L, 1, &size), *text = luaL_checklstring(L, 2, &n);
    size_t start = start_of(luaL_optinteger(L, 3, 1), size);
    lua_settop(L, 2);
    gmatch *g = lua_newuserdatauv(L, sizeof *g, 0);
    pat_compile(L, &g->p, text, n);
    pat_match_init(&g->m, L, &g->p, s, size);
    g->at = s + (start > size ? size + 1 : start);
    g->last = NULL;
    lua_pushcclosure(L, next_match, 4);
    return 1;
}

/* ---- gsub ---------------------------------------------------------------------------------- */

/* The replacement text with its %0 to %9. */
static void add_text(pat_match *m, lua_buf *b, const char *s, const char *e) {
    lua_State *L = m->L;
    size_t n;
    const char *r = lua_tolstring(L, 3, &n), *end = r + n;
    while (r < end) {
        const char *percent = memchr(r, '%', (size_t)(end - r));
        lua_buf_add(b, r, (size_t)((percent != NULL ? percent : end) - r));
        if (percent == NULL) return;
        char c = percent + 1 < end ? percent[1] : 0;
        r = percent + 2;
        if (c == '%') {
            lua_buf_add(b, "%", 1);
        } else if (c == '0') {
            lua_buf_add(b, s, (size_t)(e - s));
        } else if (c >= '1' && c <= '9') {
            pat_push_capture(m, c - '1', s, e);
            size_t size;
            const char *text = luaL_tolstring(L, -1, &size);
            lua_buf_add(b, text, size);
            lua_pop(L, 2);
        } else {
            luaL_error(L, "invalid use of '%%' in replacement string");
        }
    }
}

/* Add what replaces s..e; was it changed? */
static bool add_value(pat_match *m, lua_buf *b, const char *s, const char *e) {
    lua_State *L = m->L;
    switch (lua_type(L, 3)) {
    case LUA_TFUNCTION:
        lua_pushvalue(L, 3);
        lua_call(L, pat_push_captures(m, s, e), 1);
        break;
    case LUA_TTABLE:
        pat_push_capture(m, 0, s, e);
        lua_gettable(L, 3);
        break;
    default:
        add_text(m, b, s, e);
        return true;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        lua_buf_add(b, s, (size_t)(e - s));
        return false;
    }
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    size_t size;
    const char *text = lua_tolstring(L, -1, &size);
    lua_buf_add(b, text, size);
    lua_pop(L, 1);
    return true;
}

static int own_gsub(lua_State *L) {
    size_t size, n;
    const char *s = luaL_checklstring(L, 1, &size), *text = luaL_checklstring(L, 2, &n);
    int type = lua_type(L, 3);
    luaL_argexpected(L,
                     type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TTABLE ||
                         type == LUA_TFUNCTION,
                     3, "string/function/table");
    lua_Integer limit = luaL_optinteger(L, 4, (lua_Integer)size + 1), count = 0;
    bool is_anchored = n > 0 && text[0] == '^', is_changed = false;
    const char *last = NULL;
    pat p;
    pat_match m;
    lua_buf b;
    pat_compile(L, &p, text + is_anchored, n - is_anchored);
    pat_match_init(&m, L, &p, s, size);
    lua_buf_init(&b, L);
    while (count < limit) {
        const char *e = pat_match_at(&m, s);
        if (e != NULL && e != last) {
            count++;
            is_changed |= add_value(&m, &b, s, e);
            s = last = e;
        } else if (s < m.end) {
            lua_buf_add(&b, s++, 1);
        } else {
            break;
        }
        if (is_anchored) break;
    }
    if (is_changed) {
        lua_buf_add(&b, s, (size_t)(m.end - s));
        lua_buf_push(&b);
    } else {
        lua_pushvalue(L, 1);
    }
    lua_pushinteger(L, count);
    return 2;
}

/* ---- rep ----------------------------------------------------------------------------------- */

static int own_rep(lua_State *L) {
    size_t n, n_sep, total;
    const char *s = luaL_checklstring(L, 1, &n);
    lua_Integer count = luaL_checkinteger(L, 2);
    const char *sep = luaL_optlstring(L, 3, "", &n_sep);
    if (count <= 0 || n + n_sep == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if (__builtin_add_overflow(n, n_sep, &total) ||
        __builtin_mul_overflow(total, (size_t)count, &total) || total > PTRDIFF_MAX)
        return luaL_error(L, "resulting string too large");
    total -= n_sep;
    char *out = lua_newuserdatauv(L, total, 0);
    for (char *at = out; at < out + total;) {
        peri_lua_poll(L);
        memcpy(at, s, n);
        at += n;
        if (at < out + total && n_sep != 0) {
            memcpy(at, sep, n_sep);
            at += n_sep;
        }
    }
    lua_pushlstring(L, out, total);
    return 1;
}

const luaL_Reg lua_string_own[] = {
    {"find", own_find}, {"match", own_match}, {"gmatch", own_gmatch},
    {"gsub", own_gsub}, {"rep", own_rep},     {NULL, NULL},
};
