/* SPDX-License-Identifier: MIT
 *
 * lua_table.c - table.concat, insert, remove, move and sort, which look at the deadline in their
 * loops: a __len or a range argument makes them as long as it likes.
 *
 * Source: Lua 5.4 reference manual, section 6.6.  sort is a merge sort: stable, at most n log2 n
 * comparisons whatever the comparison answers, and an error in it leaves the table as it was. */
#include <limits.h>

#include "script/sandbox_int.h"

#include "base/compiler.h"

enum { CAN_READ = 1, CAN_WRITE = 2, HAS_LEN = 4 };

static bool has_field(lua_State *L, int meta, const char *name) {
    lua_pushstring(L, name);
    bool found = lua_rawget(L, meta) != LUA_TNIL;
    lua_pop(L, 1);
    return found;
}

/* A table, or something whose metatable makes it behave as one. */
static void check_table(lua_State *L, int arg, int want) {
    if (lua_istable(L, arg)) return;
    if (lua_getmetatable(L, arg)) {
        int meta = lua_gettop(L);
        bool is_fit = (!(want & CAN_READ) || has_field(L, meta, "__index")) &&
                      (!(want & CAN_WRITE) || has_field(L, meta, "__newindex")) &&
                      (!(want & HAS_LEN) || has_field(L, meta, "__len"));
        lua_pop(L, 1);
        if (is_fit) return;
    }
    luaL_checktype(L, arg, LUA_TTABLE);
}

static lua_Integer length(lua_State *L, int arg, int want) {
    check_table(L, arg, want | HAS_LEN);
    return luaL_len(L, arg);
}

static int own_insert(lua_State *L) {
    lua_Integer e = length(L, 1, CAN_READ | CAN_WRITE), pos;
    e = (lua_Integer)((lua_Unsigned)e + 1);
    switch (lua_gettop(L)) {
    case 2:
        pos = e;
        break;
    case 3:
        pos = luaL_checkinteger(L, 2);
        luaL_argcheck(L, (lua_Unsigned)pos - 1u < (lua_Unsigned)e, 2, "position out of bounds");
        for (lua_Integer i = e; i > pos; i--) {
            peri_lua_poll(L);
            lua_geti(L, 1, i - 1);
            lua_seti(L, 1, i);
        }
        break;
    default:
        return luaL_error(L, "wrong number of arguments to 'insert'");
    }
    lua_seti(L, 1, pos);
    return 0;
}

static int own_remove(lua_State *L) {
    lua_Integer size = length(L, 1, CAN_READ | CAN_WRITE);
    lua_Integer pos = luaL_optinteger(L, 2, size);
    if (pos != size)
        luaL_argcheck(L, (lua_Unsigned)pos - 1u <= (lua_Unsigned)size, 2, "position out of bounds");
    lua_geti(L, 1, pos);
    for (; pos < size; pos++) {
        peri_lua_poll(L);
        lua_geti(L, 1, pos + 1);
        lua_seti(L, 1, pos);
    }
    lua_pushnil(L);
    lua_seti(L, 1, pos);
    return 1;
}

static int own_move(lua_State *L) {
    lua_Integer from = luaL_checkinteger(L, 2), end = luaL_checkinteger(L, 3),
                to = luaL_checkinteger(L, 4);
    int target = lua_isnoneornil(L, 5) ? 1 : 5;
    check_table(L, 1, CAN_READ);
    check_table(L, target, CAN_WRITE);
    if (end >= from) {
        luaL_argcheck(L, from > 0 || end < LUA_MAXINTEGER + from, 3, "too many elements to move");
        lua_Integer n = end - from + 1;
        luaL_argcheck(L, to <= LUA_MAXINTEGER - n + 1, 4, "destination wrap around");
        bool is_upward = to > end || to <= from || (target != 1 && !lua_compare(L, 1, 5, LUA_OPEQ));
        for (lua_Integer k = 0; k < n; k++) {
            lua_Integer i = is_upward ? k : n - 1 - k;
            peri_lua_poll(L);
            lua_geti(L, 1, from + i);
            lua_seti(L, target, to + i);
        }
    }
    lua_pushvalue(L, target);
    return 1;
}

static void add_field(lua_State *L, lua_buf *b, lua_Integer i) {
    size_t n;
    lua_geti(L, 1, i);
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid value (%s) at index %I in table for 'concat'", luaL_typename(L, -1),
                   (LUAI_UACINT)i);
    const char *s = lua_tolstring(L, -1, &n);
    lua_buf_add(b, s, n);
    lua_pop(L, 1);
}

static int own_concat(lua_State *L) {
    lua_Integer last = length(L, 1, CAN_READ);
    size_t n_sep;
    const char *sep = luaL_optlstring(L, 2, "", &n_sep);
    lua_Integer i = luaL_optinteger(L, 3, 1);
    lua_buf b;
    last = luaL_optinteger(L, 4, last);
    lua_buf_init(&b, L);
    for (; i < last; i++) {
        peri_lua_poll(L);
        add_field(L, &b, i);
        lua_buf_add(&b, sep, n_sep);
    }
    if (i == last) add_field(L, &b, i);
    lua_buf_push(&b);
    return 1;
}

/* ---- sort ---------------------------------------------------------------------------------- */

enum { SORT_A = 3, SORT_B = 4 }; /* stack slots of the two scratch tables */

/* Does the value on top come before the one below it?  Both stay. */
static bool is_before(lua_State *L) {
    peri_lua_poll(L);
    if (lua_isnil(L, 2)) return lua_compare(L, -1, -2, LUA_OPLT);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -4);
    lua_call(L, 2, 1);
    bool yes = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return yes;
}

/* Merge runs [lo, mid) and [mid, hi) of table `from` into table `to`; indices from 1. */
static void merge(lua_State *L, int from, int to, lua_Integer lo, lua_Integer mid, lua_Integer hi) {
    lua_Integer a = lo, b = mid;
    for (lua_Integer k = lo; k < hi; k++) {
        bool take_b = a >= mid;
        if (a < mid && b < hi) {
            lua_rawgeti(L, from, a);
            lua_rawgeti(L, from, b);
            take_b = is_before(L);
            lua_pop(L, 2);
        }
        lua_rawgeti(L, from, take_b ? b++ : a++);
        lua_rawseti(L, to, k);
    }
}

static int own_sort(lua_State *L) {
    lua_Integer n = length(L, 1, CAN_READ | CAN_WRITE);
    if (n < 2) return 0;
    luaL_argcheck(L, n < INT_MAX, 1, "array too big");
    if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_newtable(L);
    lua_newtable(L);
    for (lua_Integer i = 1; i <= n; i++) {
        peri_lua_poll(L);
        lua_geti(L, 1, i);
        lua_rawseti(L, SORT_A, i);
    }
    int from = SORT_A, to = SORT_B;
    for (lua_Integer width = 1; width < n; width *= 2) {
        for (lua_Integer lo = 1; lo <= n; lo += 2 * width) {
            lua_Integer mid = lo + width < n + 1 ? lo + width : n + 1;
            lua_Integer hi = mid + width < n + 1 ? mid + width : n + 1;
            merge(L, from, to, lo, mid, hi);
        }
        int other = from;
        from = to;
        to = other;
    }
    for (lua_Integer i = 1; i <= n; i++) {
        peri_lua_poll(L);
        lua_rawgeti(L, from, i);
        lua_seti(L, 1, i);
    }
    return 0;
}

const luaL_Reg lua_table_own[] = {
    {"concat", own_concat}, {"insert", own_insert}, {"remove", own_remove},
    {"move", own_move},     {"sort", own_sort},     {NULL, NULL},
};
