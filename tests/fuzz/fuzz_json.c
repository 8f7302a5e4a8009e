/* SPDX-License-Identifier: MIT
 *
 * fuzz_json.c - JSON text into Lua values and back: what was read is written, and reads as the same
 * text again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "script/lua_json.h"
#include "script/lua_sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static peri_lua *state;

/* Arguments: the text. */
static int round_trip(lua_State *L) {
    size_t n, n1, n2;
    peri_error err;
    const char *text = lua_tolstring(L, 1, &n);
    if (peri_lua_push_json(L, text, n, &err) != PERI_OK) {
        if (err.text[0] == 0) abort();
        return 0;
    }
    if (peri_lua_to_json(L, -1, &err) != PERI_OK) abort();
    const char *first = lua_tolstring(L, -1, &n1);
    if (peri_lua_push_json(L, first, n1, &err) != PERI_OK) abort();
    if (peri_lua_to_json(L, -1, &err) != PERI_OK) abort();
    const char *second = lua_tolstring(L, -1, &n2);
    if (n1 != n2 || memcmp(first, second, n1) != 0) abort();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    peri_error err;
    peri_lua_options o = {.size = sizeof o, .slice_ms = 60000, .work_dir = "/"};
    if (state == NULL && peri_lua_open(&o, &state, &err) != PERI_OK) abort();
    lua_State *L = peri_lua_main(state);
    lua_settop(L, 0);
    lua_pushcfunction(L, round_trip);
    lua_pushlstring(L, (const char *)data, size);
    if (peri_lua_call(state, L, 1, 0, &err) != PERI_OK) abort();
    return 0;
}
