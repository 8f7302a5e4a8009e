/* SPDX-License-Identifier: MIT
 *
 * lua_json.c - reading JSON into Lua values, and the module perigee.sys.json.
 *
 * A parser of our own: jansson keeps neither the order of keys it was given by a table, nor the
 * digits of large integers, nor a line and column that count characters.  Source: RFC 8259,
 * strictly; besides, a key that occurs twice in an object is an error, and text is well-formed
 * UTF-8.
 *
 * An object's metatable is its list of keys; __pairs follows it.  Arrays share one metatable.  The
 * parser recurses at most JSON_MAX_DEPTH deep and looks at the deadline at every value. */
#include <stdio.h>
#include <string.h>

#include "base/sort.h"
#include "base/status.h"
#include "base/suggest.h"
#include "script/json_int.h"

#include "base/compiler.h"

static const char key_array = 'a', key_null = 'n', key_number = 'd';

/* ---- kinds --------------------------------------------------------------------------------- */

static int object_pairs(lua_State *L);

json_kind json_kind_of(lua_State *L, int idx) {
    json_kind kind = lua_istable(L, idx) ? JSON_PLAIN : JSON_OTHER;
    luaL_checkstack(L, 4, NULL);
    if (!lua_getmetatable(L, idx)) return kind;
    int meta = lua_gettop(L);
    if (kind == JSON_PLAIN) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &key_array);
        lua_pushliteral(L, "__pairs");
        lua_rawget(L, meta);
        if (lua_rawequal(L, meta, meta + 1))
            kind = JSON_ARRAY;
        else if (lua_tocfunction(L, -1) == object_pairs)
            kind = JSON_ORDERED;
    } else if (lua_type(L, idx) == LUA_TUSERDATA) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &key_null);
        lua_rawgetp(L, LUA_REGISTRYINDEX, &key_number);
        if (lua_rawequal(L, meta, meta + 2))
            kind = JSON_NUMBER;
        else if (lua_rawequal(L, idx, meta + 1))
            kind = JSON_NULL;
    }
    lua_settop(L, meta - 1);
    return kind;
}

/* ---- keys in order ------------------------------------------------------------------------- */

static bool is_less(const void *user, uint32_t a, uint32_t b) {
    const peri_str *s = user;
    size_t n = s[a].size < s[b].size ? s[a].size : s[b].size;
    int c = n != 0 ? memcmp(s[a].data, s[b].data, n) : 0;
    return c != 0 ? c < 0 : s[a].size < s[b].size;
}

void lua_sort_strings(lua_State *L, lua_Integer first, lua_Integer n) {
    size_t count = n >= first ? (size_t)(n - first + 1) : 0;
    if (count < 2) return;
    int list = lua_gettop(L);
    peri_str *text = lua_newuserdatauv(L, count * (sizeof *text + sizeof(uint32_t)), 0);
    uint32_t *index = (uint32_t *)(text + count);
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, list, first + (lua_Integer)i);
        text[i].data = lua_tolstring(L, -1, &text[i].size);
        lua_rawseti(L, -2, (lua_Integer)i + 1); /* keeps the text alive */
        index[i] = (uint32_t)i;
    }
    if (peri_sort_index(index, count, is_less, text) != PERI_OK) luaL_error(L, "not enough memory");
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, -1, (lua_Integer)index[i] + 1);
        lua_rawseti(L, list, first + (lua_Integer)i);
    }
    lua_settop(L, list);
}

/* Append the recorded keys that still have a value; returns how many. */
static lua_Integer recorded_keys(lua_State *L, int idx, int list) {
    lua_Integer n = 0;
    lua_getmetatable(L, idx);
    lua_Integer total = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= total; i++) {
        lua_rawgeti(L, -1, i);
        lua_pushvalue(L, -1);
        bool is_there = lua_rawget(L, idx) != LUA_TNIL;
        lua_pop(L, 1);
        if (is_there)
            lua_rawseti(L, list, ++n);
        else
            lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return n;
}

/* Append the keys of which `want_strings` tells whether they are strings, unless listed before. */
static lua_Integer other_keys(lua_State *L, int idx, int list, lua_Integer n, bool want_strings) {
    lua_Integer listed = n;
    lua_newtable(L);
    int seen = lua_gettop(L);
    for (lua_Integer i = 1; want_strings && i <= listed; i++) {
        lua_rawgeti(L, list, i);
        lua_pushboolean(L, 1);
        lua_rawset(L, seen);
    }
    for (lua_pushnil(L); lua_next(L, idx);) {
        lua_pop(L, 1);
        if ((lua_type(L, -1) == LUA_TSTRING) != want_strings) continue;
        lua_pushvalue(L, -1);
        if (lua_rawget(L, seen) == LUA_TNIL) {
            lua_pushvalue(L, -2);
            lua_rawseti(L, list, ++n);
        }
        lua_pop(L, 1);
    }
    lua_settop(L, seen - 1);
    return n;
}

void json_push_keys(lua_State *L, int idx, bool want_sort) {
    luaL_checkstack(L, 10, NULL);
    idx = lua_absindex(L, idx);
    lua_Integer n = 0, total = 0;
    json_kind kind = json_kind_of(L, idx);
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1))
        total++;
    lua_newtable(L);
    int list = lua_gettop(L);
    if (kind == JSON_ORDERED) n = recorded_keys(L, idx, list);
    lua_Integer recorded = n;
    if (n < total) {
        n = other_keys(L, idx, list, n, true);
        lua_sort_strings(L, want_sort ? 1 : recorded + 1, n);
        if (n < total) other_keys(L, idx, list, n, false);
    } else if (want_sort) {
        lua_sort_strings(L, 1, n);
    }
}

/* Upvalues: table, list, position. */
static int object_next(lua_State *L) {
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(3));
    for (;;) {
        if (lua_rawgeti(L, lua_upvalueindex(2), ++i) == LUA_TNIL) return 1;
        lua_pushvalue(L, -1);
        if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) break; /* else removed meanwhile */
        lua_pop(L, 2);
    }
    lua_pushinteger(L, i);
    lua_replace(L, lua_upvalueindex(3));
    return 2;
}

static int object_pairs(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    json_push_keys(L, 1, false);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, object_next, 3);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

/* Push an object without keys and its metatable. */
static void push_object(lua_State *L) {
    lua_newtable(L);
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, object_pairs);
    lua_setfield(L, -2, "__pairs");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -1);
    lua_setmetatable(L, -3);
}

/* ---- reading ------------------------------------------------------------------------------- */

typedef struct json_in {
    lua_State *L;
    const char *begin, *p, *end;
    peri_error *err;
} json_in;

int json_utf8(const char *p, const char *end) {
    const unsigned char *s = (const unsigned char *)p;
    static const struct {
        unsigned char lo, hi, lo2, hi2; /* first and second byte */
        int n;
    } form[] = {{0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
                {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3},
                {0xEE, 0xEF, 0x80, 0xBF, 3}, {0xF0, 0xF0, 0x90, 0xBF, 4},
                {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4}};
    if (p >= end) return 0;
    if (s[0] < 0x80) return 1;
    for (size_t i = 0; i < sizeof form / sizeof *form; i++) {
        if (s[0] < form[i].lo || s[0] > form[i].hi) continue;
        if (end - p < form[i].n || s[1] < form[i].lo2 || s[1] > form[i].hi2) return 0;
        for (int k = 2; k < form[i].n; k++)
            if ((s[k] & 0xC0) != 0x80) return 0;
        return form[i].n;
    }
    return 0;
}

/* "line L, column C: found ..., expected WHAT" for the place `at`; false. */
static bool fail(json_in *in, const char *at, const char *expected) {
    size_t line = 1, column = 1;
    char found[16] = "end of text";
    for (const char *q = in->begin; q < at; q++) {
        if (*q == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)*q & 0xC0) != 0x80) {
            column++;
        }
    }
    if (at < in->end) {
        int n = json_utf8(at, in->end);
        if (n == 0)
            snprintf(found, sizeof found, "byte 0x%02x", (unsigned char)*at);
        else
            snprintf(found, sizeof found, "'%.*s'", n, at);
    }
    peri_fail(in->err, PERI_E_CORRUPT, "line %zu, column %zu: found %s, expected %s", line, column,
              found, expected);
    return false;
}

static void skip_space(json_in *in) {
    while (in->p < in->end && memchr(" \t\n\r", *in->p, 4) != NULL)
        in->p++;
}

static bool hex4(json_in *in, unsigned *out) {
    unsigned x = 0;
    for (int i = 0; i < 4; i++) {
        unsigned c = in->p < in->end ? (unsigned char)*in->p : 0;
        unsigned digit = c - '0' < 10 ? c - '0' : (c | 32) - 'a' < 6 ? (c | 32) - 'a' + 10 : 99;
        if (digit == 99) return fail(in, in->p, "four hexadecimal digits");
        x = x * 16 + digit;
        in->p++;
    }
    *out = x;
    return true;
}

static void add_utf8(lua_buf *b, unsigned c) {
    char s[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        s[i] = (char)(0x80 | (c & 0x3F));
    s[0] = (char)(lead[n] | c);
    lua_buf_add(b, s, n);
}

/* What follows a backslash. */
static bool read_escape(json_in *in, lua_buf *b) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *at = in->p - 1;
    char c = in->p < in->end ? *in->p++ : 0;
    const char *name = c != 0 ? strchr(names, c) : NULL;
    unsigned x = 0, low = 0;
    if (name != NULL) {
        lua_buf_add(b, values + (name - names), 1);
        return true;
    }
    if (c != 'u') return fail(in, at, "an escape of JSON");
    if (!hex4(in, &x)) return false;
    if (x - 0xDC00 < 0x400) return fail(in, at, "no low surrogate without a high one");
    if (x - 0xD800 < 0x400) {
        if (in->end - in->p < 2 || in->p[0] != '\\' || in->p[1] != 'u')
            return fail(in, in->p, "\\u and a low surrogate");
        const char *second = in->p;
        in->p += 2;
        if (!hex4(in, &low)) return false;
        if (low - 0xDC00 >= 0x400) return fail(in, second, "a low surrogate");
        x = 0x10000 + ((x - 0xD800) << 10) + (low - 0xDC00);
    }
    add_utf8(b, x);
    return true;
}

/* Past the characters that stand for themselves; false for an ill-formed one. */
static bool skip_plain(json_in *in) {
    while (in->p < in->end && *in->p != '"' && *in->p != '\\') {
        int n = json_utf8(in->p, in->end);
        if (n == 0) return fail(in, in->p, "well-formed UTF-8");
        if ((unsigned char)*in->p < 32) return fail(in, in->p, "control characters escaped");
        in->p += n;
    }
    return in->p < in->end || fail(in, in->p, "'\"' at the end of the string");
}

/* A string, after its opening quote. */
static bool read_string(json_in *in) {
    const char *from = in->p;
    lua_buf b;
    if (!skip_plain(in)) return false;
    if (*in->p == '"') {
        lua_pushlstring(in->L, from, (size_t)(in->p - from));
        in->p++;
        return true;
    }
    lua_buf_init(&b, in->L);
    for (;;) {
        lua_buf_add(&b, from, (size_t)(in->p - from));
        if (*in->p++ == '"') break;
        if (!read_escape(in, &b)) return false;
        from = in->p;
        if (!skip_plain(in)) return false;
    }
    lua_buf_push(&b);
    lua_replace(in->L, b.idx);
    return true;
}

static bool at_digit(const json_in *in) {
    return in->p < in->end && *in->p >= '0' && *in->p <= '9';
}

static bool skip_digits(json_in *in) {
    if (!at_digit(in)) return fail(in, in->p, "a digit");
    while (at_digit(in))
        in->p++;
    return true;
}

static void push_digits(lua_State *L, const char *s, size_t n) {
    char *text = lua_newuserdatauv(L, n + 1, 0);
    memcpy(text, s, n);
    text[n] = 0;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_number);
    lua_setmetatable(L, -2);
}

static bool read_number(json_in *in) {
    const char *from = in->p;
    bool is_integer = true;
    if (*in->p == '-') in->p++;
    if (in->p < in->end && *in->p == '0')
        in->p++;
    else if (!skip_digits(in))
        return false;
    if (in->p < in->end && *in->p == '.') {
        in->p++;
        is_integer = false;
        if (!skip_digits(in)) return false;
    }
    if (in->p < in->end && (*in->p | 32) == 'e') {
        in->p++;
        is_integer = false;
        if (in->p < in->end && (*in->p == '+' || *in->p == '-')) in->p++;
        if (!skip_digits(in)) return false;
    }
    /* A copy with a NUL behind it, which Lua's conversion wants. */
    lua_pushlstring(in->L, from, (size_t)(in->p - from));
    if (lua_stringtonumber(in->L, lua_tostring(in->L, -1)) == 0) return fail(in, from, "a number");
    lua_remove(in->L, -2);
    if (is_integer && !lua_isinteger(in->L, -1)) {
        lua_pop(in->L, 1);
        push_digits(in->L, from, (size_t)(in->p - from));
    } else if (!is_integer && lua_tonumber(in->L, -1) - lua_tonumber(in->L, -1) != 0) {
        return fail(in, from, "a number that fits 64-bit floating point");
    }
    return true;
}

static bool read_value(json_in *in, int depth);

static bool read_array(json_in *in, int depth) {
    lua_State *L = in->L;
    lua_newtable(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_array);
    lua_setmetatable(L, -2);
    skip_space(in);
    if (in->p < in->end && *in->p == ']') {
        in->p++;
        return true;
    }
    for (lua_Integer i = 1;; i++) {
        if (!read_value(in, depth)) return false;
        lua_rawseti(L, -2, i);
        skip_space(in);
        if (in->p >= in->end || (*in->p != ',' && *in->p != ']'))
            return fail(in, in->p, "',' or ']'");
        if (*in->p++ == ']') return true;
    }
}

/* Key, colon and value into the object at `object`, whose metatable lies above it. */
static bool read_pair(json_in *in, int object, lua_Integer i, int depth) {
    lua_State *L = in->L;
    const char *at = in->p;
    if (at >= in->end || *at != '"') return fail(in, at, i == 1 ? "'\"' or '}'" : "'\"'");
    in->p++;
    if (!read_string(in)) return false;
    lua_pushvalue(L, -1);
    if (lua_rawget(L, object) != LUA_TNIL) return fail(in, at, "a key that did not occur before");
    lua_pop(L, 1);
    skip_space(in);
    if (in->p >= in->end || *in->p != ':') return fail(in, in->p, "':'");
    in->p++;
    lua_pushvalue(L, -1);
    lua_rawseti(L, object + 1, i);
    if (!read_value(in, depth)) return false;
    lua_rawset(L, object);
    return true;
}

static bool read_object(json_in *in, int depth) {
    lua_State *L = in->L;
    push_object(L);
    int object = lua_gettop(L) - 1;
    skip_space(in);
    if (in->p < in->end && *in->p == '}') {
        in->p++;
        lua_pop(L, 1);
        return true;
    }
    for (lua_Integer i = 1;; i++) {
        skip_space(in);
        if (!read_pair(in, object, i, depth)) return false;
        skip_space(in);
        if (in->p >= in->end || (*in->p != ',' && *in->p != '}'))
            return fail(in, in->p, "',' or '}'");
        if (*in->p++ == '}') break;
    }
    lua_pop(L, 1);
    return true;
}

static bool read_word(json_in *in, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(in->end - in->p) < n || memcmp(in->p, word, n) != 0)
        return fail(in, in->p, "a value");
    in->p += n;
    if (*word == 'n')
        lua_rawgetp(in->L, LUA_REGISTRYINDEX, &key_null);
    else
        lua_pushboolean(in->L, *word == 't');
    return true;
}

static bool read_value(json_in *in, int depth) {
    luaL_checkstack(in->L, 12, "JSON");
    peri_lua_poll(in->L);
    skip_space(in);
    if (in->p >= in->end) return fail(in, in->p, "a value");
    switch (*in->p) {
    case '{':
    case '[':
        if (depth == JSON_MAX_DEPTH) return fail(in, in->p, "at most 128 levels of nesting");
        return *in->p++ == '{' ? read_object(in, depth + 1) : read_array(in, depth + 1);
    case '"':
        in->p++;
        return read_string(in);
    case 't':
        return read_word(in, "true");
    case 'f':
        return read_word(in, "false");
    case 'n':
        return read_word(in, "null");
    default:
        if (*in->p != '-' && !at_digit(in)) return fail(in, in->p, "a value");
        return read_number(in);
    }
}

/* The registry holds what values need, also when no script has required the module yet. */
static void prepare(lua_State *L);

peri_status peri_lua_push_json(lua_State *L, const char *text, size_t size, peri_error *err) {
    json_in in = {.L = L, .begin = text, .p = text, .end = text + size, .err = err};
    int top = lua_gettop(L);
    prepare(L);
    bool is_good = read_value(&in, 0);
    if (is_good) {
        skip_space(&in);
        is_good = in.p == in.end || fail(&in, in.p, "nothing after the value");
    }
    if (is_good) return PERI_OK;
    lua_settop(L, top);
    return PERI_E_CORRUPT;
}

peri_status peri_lua_to_json(lua_State *L, int idx, peri_error *err) {
    static const json_style compact = {.item = ",", .key = ":"};
    prepare(L);
    return json_write(L, lua_absindex(L, idx), &compact, err) ? PERI_OK : PERI_E_INVALID;
}

/* ---- the module ---------------------------------------------------------------------------- */

static void check_options(lua_State *L, int idx, const char *const *known, size_t n) {
    if (lua_isnoneornil(L, idx)) return;
    luaL_checktype(L, idx, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "(no string)";
        bool is_known = false;
        for (size_t i = 0; i < n; i++)
            is_known = is_known || strcmp(known[i], key) == 0;
        if (is_known) continue;
        const char *near = peri_nearest(key, known, n);
        peri_lua_misuse(L, "JSON: unknown option '%.40s'%s%s%s", key,
                        near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
}

static int json_decode(lua_State *L) {
    size_t size;
    peri_error err;
    const char *text = luaL_checklstring(L, 1, &size);
    check_options(L, 2, NULL, 0);
    if (peri_lua_push_json(L, text, size, &err) != PERI_OK) return peri_lua_fail(L, &err);
    return 1;
}

static const char *option_text(lua_State *L, int idx, const char *name, const char *otherwise) {
    if (lua_isnil(L, -1)) return otherwise;
    if (lua_type(L, -1) != LUA_TSTRING) peri_lua_misuse(L, "JSON: %s: expected a string", name);
    (void)idx;
    return lua_tostring(L, -1);
}

static bool option_flag(lua_State *L, int idx, const char *name) {
    int type = lua_getfield(L, idx, name);
    bool value = lua_toboolean(L, -1);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN)
        peri_lua_misuse(L, "JSON: %s: found %s, expected a boolean", name, luaL_typename(L, -1));
    lua_pop(L, 1);
    return value;
}

/* Values of the options table at idx; texts stay on the stack. */
static void read_style(lua_State *L, int idx, json_style *style) {
    static const char *const known[] = {"indent", "sort", "ascii", "separators", "python"};
    static const char spaces[] = "                ";
    check_options(L, idx, known, 5);
    style->want_sort = option_flag(L, idx, "sort");
    style->want_ascii = option_flag(L, idx, "ascii");
    bool is_python = option_flag(L, idx, "python");
    if (lua_getfield(L, idx, "indent") == LUA_TNUMBER) {
        lua_Integer n = luaL_checkinteger(L, -1);
        if (n < 0 || n > 16) peri_lua_misuse(L, "JSON: indent: expected 0 to 16 spaces");
        style->indent = spaces + 16 - n;
    } else {
        style->indent = option_text(L, idx, "indent", NULL);
    }
    style->item = is_python && style->indent == NULL ? ", " : ",";
    style->key = is_python || style->indent != NULL ? ": " : ":";
    if (lua_getfield(L, idx, "separators") == LUA_TNIL) return;
    if (!lua_istable(L, -1)) peri_lua_misuse(L, "JSON: separators: expected {item, key}");
    int list = lua_gettop(L);
    lua_rawgeti(L, list, 1);
    style->item = option_text(L, list, "separators[1]", style->item);
    lua_rawgeti(L, list, 2);
    style->key = option_text(L, list, "separators[2]", style->key);
}

static int json_encode(lua_State *L) {
    json_style style = {.item = ",", .key = ":"};
    peri_error err;
    luaL_checkany(L, 1);
    lua_settop(L, 2);
    if (!lua_isnil(L, 2)) read_style(L, 2, &style);
    if (!json_write(L, 1, &style, &err)) return peri_lua_fail(L, &err);
    return 1;
}

static int json_array(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    if (json_kind_of(L, 1) != JSON_ARRAY) {
        if (lua_getmetatable(L, 1)) peri_lua_misuse(L, "json.array: the table has a metatable");
        lua_rawgetp(L, LUA_REGISTRYINDEX, &key_array);
        lua_setmetatable(L, 1);
    }
    lua_settop(L, 1);
    return 1;
}

/* json.object{ {key, value}, ... } */
static int json_object(lua_State *L) {
    lua_settop(L, 1);
    if (!lua_isnil(L, 1)) luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer n = lua_isnil(L, 1) ? 0 : luaL_len(L, 1);
    push_object(L);
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_geti(L, 1, i) != LUA_TTABLE || lua_geti(L, 4, 1) != LUA_TSTRING)
            peri_lua_misuse(L, "json.object: entry %d: expected {key, value}", (int)i);
        lua_geti(L, 4, 2);
        if (lua_isnil(L, -1))
            peri_lua_misuse(L, "json.object: entry %d: the value is nil; use json.null", (int)i);
        lua_pushvalue(L, 5);
        if (lua_rawget(L, 2) != LUA_TNIL)
            peri_lua_misuse(L, "json.object: key '%.60s' occurs twice", lua_tostring(L, 5));
        lua_pop(L, 1);
        lua_pushvalue(L, 5);
        lua_rawseti(L, 3, i);
        lua_rawset(L, 2);
        lua_settop(L, 3);
    }
    lua_settop(L, 2);
    return 1;
}

/* json.number("123456789012345678901"): an integer of any length. */
static int json_number(lua_State *L) {
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n), *digits = s + (n > 0 && s[0] == '-');
    size_t n_digit = (size_t)(s + n - digits);
    if (n_digit == 0 || strspn(digits, "0123456789") != n_digit || (n_digit > 1 && *digits == '0'))
        peri_lua_misuse(L, "json.number: expected the digits of an integer, found '%.40s'", s);
    push_digits(L, s, n);
    return 1;
}

static int json_keys(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    json_push_keys(L, 1, false);
    return 1;
}

/* json.kind(v): "object", "array", "null", "number", or the Lua type. */
static int json_kind_name(lua_State *L) {
    luaL_checkany(L, 1);
    switch (json_kind_of(L, 1)) {
    case JSON_ORDERED:
        lua_pushliteral(L, "object");
        break;
    case JSON_ARRAY:
        lua_pushliteral(L, "array");
        break;
    case JSON_NULL:
        lua_pushliteral(L, "null");
        break;
    case JSON_NUMBER:
        lua_pushliteral(L, "number");
        break;
    case JSON_PLAIN:
        lua_pushstring(L, lua_rawlen(L, 1) > 0 ? "array" : "object");
        break;
    default:
        lua_pushstring(L, luaL_typename(L, 1));
        break;
    }
    return 1;
}

static int null_tostring(lua_State *L) {
    lua_pushliteral(L, "null");
    return 1;
}

static int number_tostring(lua_State *L) {
    if (json_kind_of(L, 1) != JSON_NUMBER) return luaL_argerror(L, 1, "expected a json.number");
    lua_pushstring(L, lua_touserdata(L, 1));
    return 1;
}

static int number_eq(lua_State *L) {
    bool is_equal = json_kind_of(L, 1) == JSON_NUMBER && json_kind_of(L, 2) == JSON_NUMBER &&
                    strcmp(lua_touserdata(L, 1), lua_touserdata(L, 2)) == 0;
    lua_pushboolean(L, is_equal);
    return 1;
}

static void push_meta(lua_State *L, const char *name, const luaL_Reg *functions) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    if (functions != NULL) luaL_setfuncs(L, functions, 0);
}

static void prepare(lua_State *L) {
    static const luaL_Reg of_null[] = {{"__tostring", null_tostring}, {NULL, NULL}};
    static const luaL_Reg of_number[] = {
        {"__tostring", number_tostring}, {"__eq", number_eq}, {NULL, NULL}};
    luaL_checkstack(L, 8, NULL);
    bool is_done = lua_rawgetp(L, LUA_REGISTRYINDEX, &key_null) != LUA_TNIL;
    lua_pop(L, 1);
    if (is_done) return;
    push_meta(L, "perigee.json.array", NULL);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_array);
    push_meta(L, "perigee.json.number", of_number);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_number);
    lua_newuserdatauv(L, 0, 0);
    push_meta(L, "perigee.json.null", of_null);
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_null);
}

int peri_lua_open_json(lua_State *L) {
    static const luaL_Reg functions[] = {{"decode", json_decode},  {"encode", json_encode},
                                         {"array", json_array},    {"object", json_object},
                                         {"number", json_number},  {"keys", json_keys},
                                         {"kind", json_kind_name}, {NULL, NULL}};
    prepare(L);
    luaL_newlib(L, functions);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_null);
    lua_setfield(L, -2, "null");
    return 1;
}
