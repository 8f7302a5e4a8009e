/* SPDX-License-Identifier: MIT
 *
 * lua_json_out.c - writing Lua values as JSON.
 *
 * Tables are read without metamethods.  Floats are written in the fewest digits that read back as
 * the same number, in the notation of Python's repr (1.0, 0.1, 1e+16, 1e-05), which is what
 * templates are compared with.  A failure names the place as $.key[3]. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "script/json_int.h"

#include "base/compiler.h"

typedef struct json_out {
    lua_State *L;
    const json_style *style;
    peri_error *err;
    lua_buf b;
    int depth;
    struct {
        const void *table;
        const char *key; /* NULL: index */
        lua_Integer index;
    } at[JSON_MAX_DEPTH];
} json_out;

static bool fail(json_out *o, const char *what) {
    char path[160] = "$";
    size_t n = 1;
    for (int i = 0; i < o->depth && n + 24 < sizeof path; i++) {
        if (o->at[i].key == NULL && o->at[i].index == 0) break; /* the table itself */
        int k = o->at[i].key != NULL
                    ? snprintf(path + n, sizeof path - n, ".%.40s", o->at[i].key)
                    : snprintf(path + n, sizeof path - n, "[%lld]", (long long)o->at[i].index);
        n = k < 0 || (size_t)k >= sizeof path - n ? sizeof path - 1 : n + (size_t)k;
    }
    peri_fail(o->err, PERI_E_INVALID, "JSON: %s: %s", path, what);
    return false;
}

static void add(json_out *o, const char *s) {
    lua_buf_add(&o->b, s, strlen(s));
}

/* ---- numbers ------------------------------------------------------------------------------- */

/* digits[n] and the decimal exponent of the first, from the shortest %.{p}e that reads back as x.
 */
static size_t shortest(double x, char digits[20], int *exponent) {
    char text[40];
    /* 15 digits are always kept, so nothing shorter than what 15 leave can do; numbers below the
     * normal range have fewer. */
    int p = fpclassify(x) == FP_SUBNORMAL ? 1 : 15;
    do
        snprintf(text, sizeof text, "%.*e", p - 1, x);
    while (p++ < 17 && strtod(text, NULL) != x);
    size_t n = 0;
    const char *s = text;
    for (; *s != 0 && *s != 'e'; s++)
        if (*s >= '0' && *s <= '9') digits[n++] = *s;
    *exponent = (int)strtol(s + 1, NULL, 10);
    while (n > 1 && digits[n - 1] == '0')
        n--;
    return n;
}

static void add_float(json_out *o, double x) {
    char digits[20], tail[16];
    int e;
    if (signbit(x)) add(o, "-");
    size_t n = shortest(fabs(x), digits, &e);
    if (e < -4 || e >= 16) {
        lua_buf_add(&o->b, digits, 1);
        if (n > 1) {
            add(o, ".");
            lua_buf_add(&o->b, digits + 1, n - 1);
        }
        snprintf(tail, sizeof tail, "e%c%02d", e < 0 ? '-' : '+', abs(e));
        add(o, tail);
    } else if (e < 0) {
        lua_buf_add(&o->b, "0.000", (size_t)(1 - e));
        lua_buf_add(&o->b, digits, n);
    } else {
        for (int i = 0; i <= e || i < (int)n; i++) {
            if (i == e + 1) add(o, ".");
            lua_buf_add(&o->b, i < (int)n ? digits + i : "0", 1);
        }
        if ((int)n <= e + 1) add(o, ".0");
    }
}

static bool write_number(json_out *o, int idx) {
    if (lua_isinteger(o->L, idx)) {
        char text[24];
        snprintf(text, sizeof text, "%lld", (long long)lua_tointeger(o->L, idx));
        add(o, text);
        return true;
    }
    double x = lua_tonumber(o->L, idx);
    if (!isfinite(x)) return fail(o, isnan(x) ? "JSON has no NaN" : "JSON has no infinity");
    add_float(o, x);
    return true;
}

/* ---- strings ------------------------------------------------------------------------------- */

static void add_unicode(json_out *o, unsigned c) {
    char text[16];
    if (c < 0x10000)
        snprintf(text, sizeof text, "\\u%04x", c);
    else
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10),
                 0xDC00 + (c & 0x3FF));
    add(o, text);
}

static unsigned code_of(const char *p, int n) {
    static const unsigned char mask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    unsigned c = (unsigned char)p[0] & mask[n];
    for (int i = 1; i < n; i++)
        c = c << 6 | ((unsigned char)p[i] & 0x3F);
    return c;
}

/* The character at p, n bytes, that cannot stand for itself. */
static void add_escaped(json_out *o, const char *p, int n) {
    static const char names[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *name = *p != 0 ? strchr(names, *p) : NULL;
    if (name == NULL) {
        add_unicode(o, code_of(p, n));
        return;
    }
    add(o, "\\");
    lua_buf_add(&o->b, letters + (name - names), 1);
}

static bool write_string(json_out *o, const char *s, size_t size) {
    const char *end = s + size, *from = s, *p = s;
    add(o, "\"");
    while (p < end) {
        int n = json_utf8(p, end);
        if (n == 0) {
            char what[80];
            snprintf(what, sizeof what, "the string is not UTF-8: byte %zu is 0x%02x",
                     (size_t)(p - s) + 1, (unsigned char)*p);
            return fail(o, what);
        }
        bool is_plain =
            n > 1 ? !o->style->want_ascii : (unsigned char)*p >= 32 && *p != '"' && *p != '\\';
        if (!is_plain) {
            lua_buf_add(&o->b, from, (size_t)(p - from));
            add_escaped(o, p, n);
            from = p + n;
        }
        p += n;
    }
    lua_buf_add(&o->b, from, (size_t)(end - from));
    add(o, "\"");
    return true;
}

/* ---- tables -------------------------------------------------------------------------------- */

static bool write_value(json_out *o, int idx);

static void new_line(json_out *o) {
    if (o->style->indent == NULL) return;
    add(o, "\n");
    for (int i = 0; i < o->depth; i++)
        add(o, o->style->indent);
}

/* Enter the table at idx: depth and cycles. */
static bool enter(json_out *o, int idx) {
    const void *table = lua_topointer(o->L, idx);
    for (int i = 0; i < o->depth; i++)
        if (o->at[i].table == table) return fail(o, "the table contains itself");
    if (o->depth == JSON_MAX_DEPTH) return fail(o, "more than 128 levels of nesting");
    luaL_checkstack(o->L, 12, "JSON");
    o->at[o->depth].table = table;
    o->at[o->depth].key = NULL;
    o->at[o->depth++].index = 0;
    return true;
}

static bool write_array(json_out *o, int idx) {
    lua_Integer n = 0, count = 0;
    lua_State *L = o->L;
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1))
        count++;
    while (lua_rawgeti(L, idx, n + 1) != LUA_TNIL) {
        lua_pop(L, 1);
        n++;
    }
    lua_pop(L, 1);
    if (n != count)
        return fail(o, "an array must have the keys 1 to n and no others (nil is json.null)");
    if (!enter(o, idx)) return false;
    add(o, "[");
    for (lua_Integer i = 1; i <= n; i++) {
        o->at[o->depth - 1].index = i;
        if (i > 1) add(o, o->style->item);
        new_line(o);
        lua_rawgeti(L, idx, i);
        if (!write_value(o, lua_gettop(L))) return false;
        lua_pop(L, 1);
    }
    o->depth--;
    if (n > 0) new_line(o);
    add(o, "]");
    return true;
}

static bool write_object(json_out *o, int idx) {
    lua_State *L = o->L;
    if (!enter(o, idx)) return false;
    json_push_keys(L, idx, o->style->want_sort);
    int list = lua_gettop(L);
    lua_Integer n = (lua_Integer)lua_rawlen(L, list);
    add(o, "{");
    for (lua_Integer i = 1; i <= n; i++) {
        size_t size;
        if (lua_rawgeti(L, list, i) != LUA_TSTRING)
            return fail(o, "an object has only strings as keys, an array only 1 to n");
        const char *key = lua_tolstring(L, -1, &size);
        o->at[o->depth - 1].key = key;
        if (i > 1) add(o, o->style->item);
        new_line(o);
        if (!write_string(o, key, size)) return false;
        add(o, o->style->key);
        lua_pushvalue(L, -1);
        lua_rawget(L, idx);
        if (!write_value(o, lua_gettop(L))) return false;
        lua_settop(L, list);
    }
    lua_pop(L, 1);
    o->depth--;
    if (n > 0) new_line(o);
    add(o, "}");
    return true;
}

static bool write_other(json_out *o, int idx) {
    size_t size;
    const char *s;
    char what[80];
    switch (lua_type(o->L, idx)) {
    case LUA_TBOOLEAN:
        add(o, lua_toboolean(o->L, idx) ? "true" : "false");
        return true;
    case LUA_TNUMBER:
        return write_number(o, idx);
    case LUA_TSTRING:
        s = lua_tolstring(o->L, idx, &size);
        return write_string(o, s, size);
    case LUA_TNIL:
        return fail(o, "found nil; JSON's null is json.null");
    default:
        snprintf(what, sizeof what, "found a %s, which JSON does not have",
                 luaL_typename(o->L, idx));
        return fail(o, what);
    }
}

static bool write_value(json_out *o, int idx) {
    peri_lua_poll(o->L);
    switch (json_kind_of(o->L, idx)) {
    case JSON_NULL:
        add(o, "null");
        return true;
    case JSON_NUMBER:
        add(o, lua_touserdata(o->L, idx));
        return true;
    case JSON_ARRAY:
        return write_array(o, idx);
    case JSON_ORDERED:
        return write_object(o, idx);
    case JSON_PLAIN:
        return lua_rawlen(o->L, idx) > 0 ? write_array(o, idx) : write_object(o, idx);
    default:
        return write_other(o, idx);
    }
}

bool json_write(lua_State *L, int idx, const json_style *style, peri_error *err) {
    json_out o = {.L = L, .style = style, .err = err};
    int top = lua_gettop(L);
    luaL_checkstack(L, 12, "JSON");
    lua_buf_init(&o.b, L);
    bool is_good = write_value(&o, idx);
    if (is_good) {
        lua_buf_push(&o.b);
        lua_replace(L, top + 1);
    }
    lua_settop(L, is_good ? top + 1 : top);
    return is_good;
}
