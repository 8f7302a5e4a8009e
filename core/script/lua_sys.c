/* SPDX-License-Identifier: MIT
 *
 * lua_sys.c - the small C modules: perigee.sys.time and perigee.sys.out. */
#include <string.h>
#include <time.h>

#include "script/sandbox_int.h"

#include "base/compiler.h"

static double seconds(clockid_t clock) {
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* time.now() -> seconds since 1970 */
static int time_now(lua_State *L) {
    lua_pushnumber(L, seconds(CLOCK_REALTIME));
    return 1;
}

/* time.monotonic() -> seconds from some fixed point, which no clock setting moves */
static int time_monotonic(lua_State *L) {
    lua_pushnumber(L, seconds(CLOCK_MONOTONIC));
    return 1;
}

/* time.date([format [, seconds]]) -> text.  Conversions of strftime without modifiers; "!" in
 * front: UTC instead of local time. */
static int time_date(lua_State *L) {
    enum { MAX_FORMAT = 200 };
    char text[4096];
    struct tm tm;
    size_t n;
    const char *format = luaL_optlstring(L, 1, "%Y-%m-%d %H:%M:%S", &n);
    lua_Number at = luaL_optnumber(L, 2, seconds(CLOCK_REALTIME));
    luaL_argcheck(L, n <= MAX_FORMAT && strlen(format) == n, 1, "too long");
    luaL_argcheck(L, at > -6e10 && at < 2.5e11, 2, "expected a time in the years 0 to 9999");
    for (const char *p = format; (p = strchr(p, '%')) != NULL; p += 2)
        if (p[1] == 0 || strchr("aAbBcdDeFgGhHIjmMnprRStTuUVwWxXyYzZ%", p[1]) == NULL)
            return luaL_argerror(L, 1, lua_pushfstring(L, "unknown conversion '%%%c'", p[1]));
    bool is_utc = format[0] == '!';
    time_t seconds_of = (time_t)at;
    if ((is_utc ? gmtime_r(&seconds_of, &tm) : localtime_r(&seconds_of, &tm)) == NULL)
        return luaL_argerror(L, 2, "no such time");
    lua_pushlstring(L, text, strftime(text, sizeof text, format + is_utc, &tm));
    return 1;
}

int lua_open_time(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"now", time_now}, {"monotonic", time_monotonic}, {"date", time_date}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}

/* out.write(...): strings and numbers, as they are, where print writes. */
static int out_write(lua_State *L) {
    peri_lua *l = peri_lua_of(L);
    int n = lua_gettop(L);
    for (int i = 1; i <= n; i++)
        luaL_checkstring(L, i);
    for (int i = 1; i <= n; i++) {
        size_t size;
        const char *s = lua_tolstring(L, i, &size);
        if (l->print != NULL && size != 0) l->print(l->user, s, size);
    }
    return 0;
}

int lua_open_out(lua_State *L) {
    static const luaL_Reg functions[] = {{"write", out_write}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
