/* SPDX-License-Identifier: MIT
 *
 * lua_store_model.c - store.describe: what a model file says about itself that a store writes down.
 * The whole header is checked by opening it (gguf.h); nothing is loaded and no device is asked. */
#include <stdio.h>

#include "base/status.h"
#include "model/gguf.h"
#include "script/store_int.h"

#include "base/compiler.h"

static int close_file(lua_State *L) {
    peri_gguf **g = lua_touserdata(L, 1);
    peri_gguf_close(*g);
    *g = NULL;
    return 0;
}

static peri_gguf **push_file(lua_State *L) {
    peri_gguf **g = lua_newuserdatauv(L, sizeof(peri_gguf *), 0);
    *g = NULL;
    if (luaL_newmetatable(L, "perigee store file")) {
        lua_pushcfunction(L, close_file);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return g;
}

static void set_text(lua_State *L, const peri_gguf *g, const char *key, const char *field) {
    peri_str s;
    const peri_gguf_value *v = peri_gguf_find(g, key);
    if (v == NULL || !peri_gguf_as_str(v, 0, &s)) return;
    lua_pushlstring(L, s.data, s.size);
    lua_setfield(L, -2, field);
}

/* ARCHITECTURE.suffix, or key itself for an empty architecture. */
static void set_integer(lua_State *L, const peri_gguf *g, peri_str arch, const char *suffix,
                        const char *field) {
    char key[160];
    int64_t x;
    snprintf(key, sizeof key, "%.*s%s%s", PERI_STR_ARG(arch), arch.size ? "." : "", suffix);
    const peri_gguf_value *v = peri_gguf_find(g, key);
    if (v == NULL || v->is_array || !peri_gguf_as_i64(v, 0, &x)) return;
    lua_pushinteger(L, x);
    lua_setfield(L, -2, field);
}

static uint64_t n_element(const peri_gguf *g) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < peri_gguf_n_tensors(g); i++) {
        const peri_gguf_tensor *t = peri_gguf_tensor_at(g, i);
        n += (uint64_t)t->dim[0] * (uint64_t)t->dim[1] * (uint64_t)t->dim[2] * (uint64_t)t->dim[3];
    }
    return n;
}

/* store.describe(path) -> table | nil, err */
int store_describe(lua_State *L) {
    const char *path = store_check_name(L, 1);
    peri_error err;
    peri_str arch = {"", 0};
    peri_gguf **g = push_file(L);
    if (peri_gguf_open(path, g, &err)) return peri_lua_fail(L, &err);
    const peri_gguf_value *v = peri_gguf_find(*g, "general.architecture");
    if (v != NULL) peri_gguf_as_str(v, 0, &arch);
    lua_newtable(L);
    set_text(L, *g, "general.architecture", "architecture");
    set_text(L, *g, "general.name", "name");
    set_text(L, *g, "general.type", "type");
    set_text(L, *g, "tokenizer.chat_template", "template");
    set_integer(L, *g, (peri_str){"", 0}, "general.file_type", "file_type");
    set_integer(L, *g, (peri_str){"", 0}, "split.count", "n_file");
    set_integer(L, *g, arch, "context_length", "n_ctx");
    set_integer(L, *g, arch, "embedding_length", "d_model");
    lua_pushinteger(L, (lua_Integer)n_element(*g));
    lua_setfield(L, -2, "n_parameter");
    peri_gguf_close(*g);
    *g = NULL;
    return 1;
}
