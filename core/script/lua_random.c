/* SPDX-License-Identifier: MIT
 *
 * lua_random.c - math.random from the counter-based generator: the n-th draw of a script is a
 * function of the state's seed and n, on every machine. */
#include "run/rng.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

/* Stream of scripts, apart from those of sessions, which count from 0 or are hashes.  "lua" */
#define SCRIPT_STREAM UINT64_C(0x6c7561)

static uint64_t draw(peri_lua *l) {
    const uint32_t key[2] = {(uint32_t)l->seed, (uint32_t)(l->seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)l->n_draw, (uint32_t)(l->n_draw >> 32),
                                 (uint32_t)SCRIPT_STREAM, (uint32_t)(SCRIPT_STREAM >> 32)};
    uint32_t w[4];
    l->n_draw++;
    peri_philox(counter, key, w);
    return (uint64_t)w[0] << 32 | w[1];
}

/* Uniform in [0, limit]: the fitting low bits, drawn again when too large. */
static uint64_t draw_up_to(peri_lua *l, uint64_t limit) {
    uint64_t mask = limit, x;
    for (int shift = 1; shift < 64; shift *= 2)
        mask |= mask >> shift;
    do
        x = draw(l) & mask;
    while (x > limit);
    return x;
}

static int own_random(lua_State *L) {
    peri_lua *l = peri_lua_of(L);
    lua_Integer low = 1, high;
    switch (lua_gettop(L)) {
    case 0:
        lua_pushnumber(L, (double)(draw(l) >> 11) * 0x1p-53);
        return 1;
    case 1:
        high = luaL_checkinteger(L, 1);
        if (high == 0) {
            lua_pushinteger(L, (lua_Integer)draw(l));
            return 1;
        }
        break;
    case 2:
        low = luaL_checkinteger(L, 1);
        high = luaL_checkinteger(L, 2);
        break;
    default:
        return luaL_error(L, "wrong number of arguments");
    }
    luaL_argcheck(L, low <= high, lua_gettop(L), "interval is empty");
    lua_pushinteger(L,
                    (lua_Integer)((uint64_t)low + draw_up_to(l, (uint64_t)high - (uint64_t)low)));
    return 1;
}

static int own_randomseed(lua_State *L) {
    peri_lua_misuse(L, "math.randomseed is not available: the program's --seed decides, so that a "
                       "run can be repeated");
}

const luaL_Reg lua_math_own[] = {
    {"random", own_random},
    {"randomseed", own_randomseed},
    {NULL, NULL},
};
