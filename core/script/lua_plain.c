/* SPDX-License-Identifier: MIT
 *
 * lua_plain.c - see lua_plain.h.  Little-endian, one letter before each value:
 *   t f         true, false
 *   i u64       a whole number        d u64  another number
 *   s u32 ...   a string
 *   [ u32 ...   n values: a list without holes and other keys; so is an empty table
 *   { u32 ...   n pairs of key and value, numbers first, in rising order */
#include "script/lua_plain.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "script/lua_sandbox.h"

#include "base/compiler.h"

/* ---- keys ------------------------------------------------------------------------------------ */

static bool is_before(const plain_key *a, const plain_key *b) {
    if (a->is_text != b->is_text) return b->is_text;
    if (!a->is_text) return a->is_int && b->is_int ? a->i < b->i : a->x < b->x;
    size_t n = a->s.size < b->s.size ? a->s.size : b->s.size;
    int order = n ? memcmp(a->s.data, b->s.data, n) : 0;
    return order ? order < 0 : a->s.size < b->s.size;
}

static void sift(lua_State *L, plain_key *key, size_t n, size_t i) {
    for (;;) {
        size_t last = i, l = 2 * i + 1, r = l + 1;
        if (l < n && is_before(&key[last], &key[l])) last = l;
        if (r < n && is_before(&key[last], &key[r])) last = r;
        if (last == i) return;
        plain_key t = key[i];
        key[i] = key[last];
        key[last] = t;
        i = last;
        peri_lua_poll(L);
    }
}

static void sort(lua_State *L, plain_key *key, size_t n) {
    for (size_t i = n / 2; i-- > 0;)
        sift(L, key, n, i);
    while (n > 1) {
        plain_key t = key[0];
        key[0] = key[--n];
        key[n] = t;
        sift(L, key, n, 0);
    }
}

plain_key *plain_push_keys(lua_State *L, int idx, size_t *n) {
    idx = lua_absindex(L, idx);
    luaL_checkstack(L, 4, "too many nested tables");
    *n = 0;
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        int type = lua_type(L, -2);
        peri_lua_poll(L);
        ++*n;
        if (type == LUA_TNUMBER || type == LUA_TSTRING) continue;
        lua_pop(L, 2);
        return NULL;
    }
    plain_key *key = lua_newuserdatauv(L, (*n + 1) * sizeof *key, 0);
    size_t at = 0;
    for (lua_pushnil(L); lua_next(L, idx) && at < *n; lua_pop(L, 1), at++) {
        key[at] = (plain_key){.is_text = lua_type(L, -2) == LUA_TSTRING};
        if (key[at].is_text) {
            key[at].s.data = lua_tolstring(L, -2, &key[at].s.size);
        } else {
            key[at].is_int = lua_isinteger(L, -2);
            key[at].i = lua_tointeger(L, -2);
            key[at].x = lua_tonumber(L, -2);
        }
    }
    sort(L, key, *n);
    return key;
}

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct writer {
    lua_State *L;
    peri_text *out;
    size_t begin, most;
    char path[160]; /* of the value being written */
    peri_error *err;
} writer;

static void put_u32(peri_text *t, uint32_t x) {
    const uint8_t b[4] = {(uint8_t)x, (uint8_t)(x >> 8), (uint8_t)(x >> 16), (uint8_t)(x >> 24)};
    peri_text_add(t, b, sizeof b);
}

static void put_number(writer *w, int idx) {
    uint64_t u;
    if (lua_isinteger(w->L, idx)) {
        u = (uint64_t)lua_tointeger(w->L, idx);
        peri_text_add(w->out, "i", 1);
    } else {
        double x = lua_tonumber(w->L, idx);
        memcpy(&u, &x, sizeof u);
        peri_text_add(w->out, "d", 1);
    }
    put_u32(w->out, (uint32_t)u);
    put_u32(w->out, (uint32_t)(u >> 32));
}

static void put_text(writer *w, peri_str s) {
    peri_text_add(w->out, "s", 1);
    put_u32(w->out, (uint32_t)s.size);
    peri_text_add(w->out, s.data, s.size);
}

static bool wrong(writer *w, const char *found) {
    peri_fail(w->err, PERI_E_INVALID,
              "%s: found %s, expected plain data (numbers, strings, booleans, tables of them)",
              w->path, found);
    return false;
}

static bool put_value(writer *w, int idx, int depth);

/* The value on top, under a key; popped. */
static bool put_member(writer *w, const plain_key *key, int depth) {
    size_t n = strlen(w->path), room = sizeof w->path - n;
    if (key->is_text)
        snprintf(w->path + n, room, ".%.*s", key->s.size < 40 ? (int)key->s.size : 40, key->s.data);
    else
        snprintf(w->path + n, room, "[%lld]", (long long)key->i);
    bool ok = put_value(w, lua_gettop(w->L), depth);
    lua_pop(w->L, 1);
    if (ok) w->path[n] = 0;
    return ok;
}

static bool put_list(writer *w, int idx, lua_Integer n, int depth) {
    peri_text_add(w->out, "[", 1);
    put_u32(w->out, (uint32_t)n);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(w->L, idx, i);
        if (!put_member(w, &(plain_key){.is_int = true, .i = i}, depth)) return false;
    }
    return true;
}

static bool put_pairs(writer *w, int idx, const plain_key *key, size_t n, int depth) {
    peri_text_add(w->out, "{", 1);
    put_u32(w->out, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        if (!key[i].is_text && !key[i].is_int) return wrong(w, "a key that is a fraction");
        if (key[i].is_text)
            lua_pushlstring(w->L, key[i].s.data, key[i].s.size);
        else
            lua_pushinteger(w->L, key[i].i);
        if (key[i].is_text)
            put_text(w, key[i].s);
        else
            put_number(w, lua_gettop(w->L));
        lua_rawget(w->L, idx);
        if (!put_member(w, &key[i], depth)) return false;
    }
    return true;
}

static bool put_table(writer *w, int idx, int depth) {
    lua_State *L = w->L;
    size_t n;
    if (depth == PLAIN_DEPTH) return wrong(w, "more levels of tables than 16");
    if (lua_getmetatable(L, idx)) {
        lua_pop(L, 1);
        return wrong(w, "a table with a metatable");
    }
    const plain_key *key = plain_push_keys(L, idx, &n);
    if (!key) return wrong(w, "a key that is neither a string nor a number");
    lua_Integer last = (lua_Integer)n;
    bool is_list = !n || (!key[n - 1].is_text && key[0].is_int && key[0].i == 1 &&
                          key[n - 1].is_int && key[n - 1].i == last);
    bool ok = is_list ? put_list(w, idx, last, depth + 1) : put_pairs(w, idx, key, n, depth + 1);
    if (ok) lua_pop(L, 1);
    return ok;
}

static bool put_value(writer *w, int idx, int depth) {
    lua_State *L = w->L;
    peri_str s;
    bool ok = true;
    luaL_checkstack(L, 8, "too many nested tables");
    switch (lua_type(L, idx)) {
    case LUA_TBOOLEAN:
        peri_text_add(w->out, lua_toboolean(L, idx) ? "t" : "f", 1);
        break;
    case LUA_TNUMBER:
        put_number(w, idx);
        break;
    case LUA_TSTRING:
        s.data = lua_tolstring(L, idx, &s.size);
        if (s.size <= w->most) put_text(w, s);
        ok = s.size <= w->most;
        break;
    case LUA_TTABLE:
        ok = put_table(w, idx, depth);
        if (!ok) return false;
        break;
    default: {
        char found[64];
        snprintf(found, sizeof found, "a %s", luaL_typename(L, idx));
        return wrong(w, found);
    }
    }
    if (ok && w->out->size - w->begin <= w->most) return true;
    peri_fail(w->err, PERI_E_RANGE, "%s: takes more than %zu bytes", w->path, w->most);
    return false;
}

bool plain_write(lua_State *L, int idx, const char *what, peri_text *out, size_t most,
                 peri_error *err) {
    writer w = {.L = L, .out = out, .begin = out->size, .most = most, .err = err};
    int top = lua_gettop(L);
    snprintf(w.path, sizeof w.path, "%s", what);
    bool ok = put_value(&w, lua_absindex(L, idx), 0);
    lua_settop(L, top);
    if (ok && out->failed) {
        peri_fail(err, PERI_E_NOMEM, "out of memory for %s", what);
        ok = false;
    }
    return ok;
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct source {
    lua_State *L;
    const uint8_t *at;
    size_t left;
} source;

static bool take_u32(source *f, uint32_t *x) {
    if (f->left < 4) return false;
    *x = f->at[0] | (uint32_t)f->at[1] << 8 | (uint32_t)f->at[2] << 16 | (uint32_t)f->at[3] << 24;
    f->at += 4;
    f->left -= 4;
    return true;
}

static bool read_value(source *f, int depth);

static bool read_number(source *f, bool is_int) {
    uint32_t lo, hi;
    if (!take_u32(f, &lo) || !take_u32(f, &hi)) return false;
    uint64_t u = (uint64_t)hi << 32 | lo;
    double x;
    memcpy(&x, &u, sizeof x);
    if (is_int)
        lua_pushinteger(f->L, (lua_Integer)u);
    else
        lua_pushnumber(f->L, x);
    return true;
}

static bool read_text(source *f) {
    uint32_t n;
    if (!take_u32(f, &n) || n > f->left) return false;
    lua_pushlstring(f->L, (const char *)f->at, n);
    f->at += n;
    f->left -= n;
    return true;
}

static bool read_list(source *f, int depth) {
    uint32_t n;
    if (!take_u32(f, &n) || n > f->left || depth == PLAIN_DEPTH) return false;
    lua_createtable(f->L, (int)n, 0);
    for (uint32_t i = 0; i < n; i++) {
        if (!read_value(f, depth + 1)) return false;
        lua_rawseti(f->L, -2, (lua_Integer)i + 1);
    }
    return true;
}

static bool read_pairs(source *f, int depth) {
    uint32_t n;
    if (!take_u32(f, &n) || n > f->left || depth == PLAIN_DEPTH) return false;
    lua_createtable(f->L, 0, (int)n);
    for (uint32_t i = 0; i < n; i++) {
        if (!read_value(f, PLAIN_DEPTH)) return false;
        if (lua_type(f->L, -1) != LUA_TSTRING && !lua_isinteger(f->L, -1)) return false;
        if (!read_value(f, depth + 1)) return false;
        lua_rawset(f->L, -3);
    }
    return true;
}

static bool read_value(source *f, int depth) {
    luaL_checkstack(f->L, 4, "too many nested tables");
    peri_lua_poll(f->L);
    if (!f->left) return false;
    f->left--;
    switch (*f->at++) {
    case 't':
        lua_pushboolean(f->L, 1);
        return true;
    case 'f':
        lua_pushboolean(f->L, 0);
        return true;
    case 'i':
        return read_number(f, true);
    case 'd':
        return read_number(f, false);
    case 's':
        return read_text(f);
    case '[':
        return read_list(f, depth);
    case '{':
        return read_pairs(f, depth);
    default:
        return false;
    }
}

bool plain_read(lua_State *L, peri_str bytes) {
    source f = {L, (const uint8_t *)bytes.data, bytes.size};
    int top = lua_gettop(L);
    if (read_value(&f, 0) && !f.left) return true;
    lua_settop(L, top);
    return false;
}
