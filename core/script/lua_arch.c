/* SPDX-License-Identifier: MIT
 *
 * lua_arch.c - loading a spec file, merging its parent, checking every key against arch.def, and
 * filling a peri_arch.
 *
 * Read in this order: load_spec (file to merged table), check_keys (strictness), read_layer (one
 * layer's steps), peri_lua_arch_load. */
#include "script/lua_arch.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "base/io.h"
#include "base/status.h"
#include "base/suggest.h"
#include "script/script_int.h"

enum {
    MAX_SPEC_BYTES = 256 << 10,
    MAX_LUA_BYTES = 8 << 20,
    MAX_INSTRUCTIONS = 1000000,
    MAX_LIST = 64
};

extern const unsigned char peri_arch_prelude[];
extern const size_t peri_arch_prelude_size;

_Noreturn void spec_raise(spec_ctx *c, peri_status st) {
    c->status = st;
    lua_error(c->L);
    __builtin_unreachable();
}

_Noreturn void spec_fail(spec_ctx *c, const char *place, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    peri_vfail(c->err, PERI_E_CORRUPT, fmt, ap);
    va_end(ap);
    peri_wrap(c->err, "%s: %s", c->path, place);
    spec_raise(c, PERI_E_CORRUPT);
}

const char *spec_keep(spec_ctx *c, const char *s) {
    peri_str copy = peri_arena_str(c->a->arena, peri_str_of(s));
    if (!copy.data)
        spec_raise(c, peri_fail(c->err, PERI_E_NOMEM, "out of memory reading %s", c->path));
    return copy.data;
}

/* ---- file to merged table -----------------------------------------------------------------------
 */

/* Push the table a spec file returns.  Stack on entry: env, merge, show at 1, 2, 3. */
static void push_file(spec_ctx *c, const char *name) {
    lua_State *L = c->L;
    size_t len = strlen(name);
    if (len == 0 || len > 64 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len)
        spec_raise(c,
                   peri_fail(c->err, PERI_E_CORRUPT,
                             "architecture name \"%.80s\": expected 1 to 64 of a-z 0-9 _ -", name));
    snprintf(c->path, sizeof c->path, "%s/arch/%s.lua", c->script_dir, name);
    if (!peri_file_exists(c->path))
        spec_raise(c, peri_fail(c->err, PERI_E_NOT_FOUND,
                                "architecture \"%s\" is unknown: there is no %s", name, c->path));
    char *text;
    size_t size;
    peri_status st = peri_file_read(c->path, MAX_SPEC_BYTES, &text, &size, c->err);
    if (st) spec_raise(c, st);
    char chunk[80];
    snprintf(chunk, sizeof chunk, "@%s.lua", name);
    int rc = luaL_loadbufferx(L, text, size, chunk, "t");
    peri_free(text);
    if (rc) lua_error(L);
    lua_pushvalue(L, 1);
    lua_setupvalue(L, -2, 1); /* _ENV: the helpers and nothing else */
    lua_call(L, 0, 1);
    if (!lua_istable(L, -1))
        spec_fail(c, "result", "found %s, expected a table", luaL_typename(L, -1));
    lua_getfield(L, -1, "name");
    const char *got = lua_tostring(L, -1);
    if (!got || strcmp(got, name))
        spec_fail(c, "name", "found \"%s\", expected \"%s\" as the file is called",
                  got ? got : "nil", name);
    lua_pop(L, 1);
}

/* Push the spec `name` with its parent merged. */
static void push_spec(spec_ctx *c, const char *name) {
    lua_State *L = c->L;
    push_file(c, name);
    int spec = lua_gettop(L);
    lua_getfield(L, spec, "parent");
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    const char *parent = lua_tostring(L, -1);
    char path[sizeof c->path];
    memcpy(path, c->path, sizeof path);
    if (!parent) spec_fail(c, "parent", "found %s, expected a name", luaL_typename(L, -1));
    push_file(c, parent);
    lua_getfield(L, -1, "parent");
    if (!lua_isnil(L, -1)) spec_fail(c, "parent", "a parent has no parent of its own");
    lua_pop(L, 1);
    memcpy(c->path, path, sizeof path);
    lua_pushvalue(L, 2); /* merge(parent, spec) */
    lua_insert(L, -2);
    lua_pushvalue(L, spec);
    lua_call(L, 2, 1);
    lua_replace(L, spec);
    lua_settop(L, spec);
}

static void push_prelude(spec_ctx *c) {
    lua_State *L = c->L;
    luaL_requiref(L, "_G", luaopen_base, 1);
    luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 1);
    luaL_requiref(L, LUA_STRLIBNAME, luaopen_string, 1);
    lua_settop(L, 0);
    if (luaL_loadbufferx(L, (const char *)peri_arch_prelude, peri_arch_prelude_size,
                         "=arch_prelude.lua", "t"))
        lua_error(L);
    luaL_newmetatable(L, "perigee.spec.node");
    lua_call(L, 1, 3);
    /* Strings in a spec are data: their methods are out of reach. */
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushnil(L);
    lua_setfield(L, -2, "__index");
    lua_settop(L, 3);
}

/* ---- strictness ---------------------------------------------------------------------------------
 */

static void check_keys(spec_ctx *c, int idx, const char *place, const char *const *known,
                       size_t n) {
    lua_State *L = c->L;
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
        bool is_known = false;
        for (size_t i = 0; key && i < n; i++)
            is_known = is_known || !strcmp(known[i], key);
        if (is_known) continue;
        if (!key) spec_fail(c, place, "has list entries, expected named keys only");
        const char *near = peri_nearest(key, known, n);
        if (near) spec_fail(c, place, "unknown key \"%s\"; did you mean \"%s\"?", key, near);
        spec_fail(c, place, "unknown key \"%s\"", key);
    }
}
#define CHECK_KEYS(c, idx, place, ...)                                                             \
    check_keys(c, idx, place, (const char *const[]){__VA_ARGS__},                                  \
               sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* Push field `key` of the table at idx, an empty table when missing; anything else must be a table.
 */
static int push_table(spec_ctx *c, int idx, const char *key, const char *place) {
    lua_getfield(c->L, idx, key);
    if (lua_isnil(c->L, -1)) {
        lua_pop(c->L, 1);
        lua_newtable(c->L);
    }
    if (!lua_istable(c->L, -1) || spec_is_node(c->L, -1))
        spec_fail(c, place, "found %s, expected a table", luaL_typename(c->L, -1));
    return lua_gettop(c->L);
}

/* A string field resolved for layer il; `otherwise` when missing. */
static const char *field_str(spec_ctx *c, int idx, const char *key, int32_t il, const char *place,
                             const char *otherwise) {
    lua_State *L = c->L;
    lua_getfield(L, idx, key);
    spec_resolve(c, lua_gettop(L), il, place);
    const char *s = otherwise;
    if (lua_type(L, -1) == LUA_TSTRING)
        s = spec_keep(c, lua_tostring(L, -1));
    else if (!lua_isnil(L, -1))
        spec_fail(c, place, "%s: found %s, expected a string", key, luaL_typename(L, -1));
    lua_pop(L, 2);
    return s;
}

static double field_num(spec_ctx *c, int idx, const char *key, const char *place,
                        double otherwise) {
    lua_getfield(c->L, idx, key);
    double x = otherwise;
    if (!lua_isnil(c->L, -1)) x = spec_number(c, lua_gettop(c->L), 0, place);
    lua_pop(c->L, 1);
    return x;
}

/* A list of strings kept in the arena. */
static const char *const *field_list(spec_ctx *c, int idx, const char *key, uint32_t *n) {
    lua_State *L = c->L;
    int list = push_table(c, idx, key, key);
    lua_Integer len = luaL_len(L, list);
    if (len > MAX_LIST) spec_fail(c, key, "more than %d entries", MAX_LIST);
    const char **out = peri_arena_alloc(c->a->arena, (size_t)len + 1, sizeof *out);
    if (!out) spec_raise(c, peri_fail(c->err, PERI_E_NOMEM, "out of memory reading %s", c->path));
    for (lua_Integer i = 1; i <= len; i++) {
        lua_rawgeti(L, list, i);
        if (lua_type(L, -1) != LUA_TSTRING) spec_fail(c, key, "entry %d is no string", (int)i);
        out[i - 1] = spec_keep(c, lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    *n = (uint32_t)len;
    lua_pop(L, 1);
    return out;
}

/* ---- blocks and layers --------------------------------------------------------------------------
 */

/* Option names of a kind, without or with the prefix "rope_", into names[]; returns how many. */
static size_t option_names(peri_block_kind kind, bool want_rope, const char **names) {
    size_t n = 0;
    for (uint32_t i = 0; i < peri_arch_n_option; i++) {
        const peri_arch_option *o = &peri_arch_options[i];
        bool is_rope = !strncmp(o->name, "rope_", 5);
        if (o->kind == kind && is_rope == want_rope) names[n++] = o->name + (is_rope ? 5 : 0);
    }
    return n;
}

static double option_value(spec_ctx *c, const peri_arch_option *o, int idx, int32_t il,
                           const char *place) {
    lua_State *L = c->L;
    if (o->type != PERI_OPTION_ENUM) return spec_number(c, idx, il, place);
    spec_resolve(c, idx, il, place);
    const char *s = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    int v = s ? peri_option_value_find(o->values, peri_str_of(s)) : -1;
    if (v < 0)
        spec_fail(c, place, "found \"%s\", expected one of %s", s ? s : luaL_typename(L, -1),
                  o->values);
    lua_pop(L, 1);
    return v;
}

/* The block table at idx, checked, into step's options for layer il. */
static void read_block(spec_ctx *c, int idx, const char *name, int32_t il, peri_arch_step *step) {
    lua_State *L = c->L;
    char place[96];
    snprintf(place, sizeof place, "blocks.%.40s", name);
    const char *kind = field_str(c, idx, "kind", il, place, "");
    step->kind = peri_block_kind_find(peri_str_of(kind));
    if (step->kind == PERI_BLOCK_NONE) spec_fail(c, place, "unknown kind \"%s\"", kind);
    const char *names[24];
    size_t n = option_names(step->kind, false, names);
    names[n++] = "kind";
    if (option_names(step->kind, true, names + n)) names[n++] = "rope";
    check_keys(c, idx, place, names, n);
    int rope = push_table(c, idx, "rope", place);
    n = option_names(step->kind, true, names);
    check_keys(c, rope, place, names, n);
    for (uint32_t i = 0; i < peri_arch_n_option; i++) {
        const peri_arch_option *o = &peri_arch_options[i];
        if (o->kind != step->kind) continue;
        bool is_rope = !strncmp(o->name, "rope_", 5);
        snprintf(place, sizeof place, "blocks.%.40s.%s%s", name, is_rope ? "rope." : "",
                 o->name + (is_rope ? 5 : 0));
        lua_getfield(L, is_rope ? rope : idx, o->name + (is_rope ? 5 : 0));
        step->u.option[o->slot] =
            lua_isnil(L, -1) ? o->number : option_value(c, o, lua_gettop(L), il, place);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void read_layer(spec_ctx *c, int layer, int blocks, int32_t il) {
    lua_State *L = c->L;
    peri_arch_layer *out = &c->a->layer[il];
    lua_Integer n = luaL_len(L, layer);
    if (n < 1 || n > PERI_ARCH_MAX_STEP)
        spec_fail(c, "layer", "found %d steps, expected 1 to %d", (int)n, PERI_ARCH_MAX_STEP);
    for (lua_Integer i = 1; i <= n; i++) {
        char place[32];
        snprintf(place, sizeof place, "layer[%d]", (int)i);
        lua_rawgeti(L, layer, i);
        int idx = lua_gettop(L);
        if (!lua_istable(L, idx)) spec_fail(c, place, "expected a step {pre, block, post}");
        CHECK_KEYS(c, idx, place, "pre", "block", "post");
        peri_arch_step *step = &out->step[i - 1];
        step->pre = field_str(c, idx, "pre", il, place, "");
        step->post = field_str(c, idx, "post", il, place, "");
        const char *block = field_str(c, idx, "block", il, place, NULL);
        if (!block) spec_fail(c, place, "has no block");
        lua_getfield(L, blocks, block);
        if (!lua_istable(L, -1)) spec_fail(c, place, "block \"%s\" is not in `blocks`", block);
        read_block(c, lua_gettop(L), block, il, step);
        lua_settop(L, idx - 1);
    }
    out->n_step = (uint32_t)n;
}

static void read_spec(spec_ctx *c, int spec) {
    lua_State *L = c->L;
    peri_arch *a = c->a;
    CHECK_KEYS(c, spec, "spec", "name", "parent", "source", "checked", "params", "embed", "blocks",
               "layer", "head", "scales", "unused");
    a->parent = field_str(c, spec, "parent", 0, "parent", "");
    a->source = field_str(c, spec, "source", 0, "source", "");
    a->checked = field_str(c, spec, "checked", 0, "checked", "");
    a->spec_path = spec_keep(c, c->path);
    peri_status st = peri_arch_read_params(a, c->g, c->err);
    if (st) spec_raise(c, st);
    spec_read_params(c, push_table(c, spec, "params", "params"));
    int embed = push_table(c, spec, "embed", "embed"), head = push_table(c, spec, "head", "head");
    CHECK_KEYS(c, embed, "embed", "scale");
    CHECK_KEYS(c, head, "head", "norm", "scale", "cap");
    a->embed_scale = field_num(c, embed, "scale", "embed.scale", 1);
    a->head_norm = field_str(c, head, "norm", 0, "head.norm", "output_norm");
    a->head_scale = field_num(c, head, "scale", "head.scale", 1);
    a->head_cap = field_num(c, head, "cap", "head.cap", 0);
    a->unused = field_list(c, spec, "unused", &a->n_unused);
    lua_getfield(L, spec, "scales");
    a->want_all_scales = lua_isnil(L, -1);
    if (!a->want_all_scales) a->scales = field_list(c, spec, "scales", &a->n_scale);
    int blocks = push_table(c, spec, "blocks", "blocks"),
        layer = push_table(c, spec, "layer", "layer");
    for (int32_t il = 0; il < a->n_layer; il++)
        read_layer(c, layer, blocks, il);
}

/* ---- entry points -------------------------------------------------------------------------------
 */

static int load_protected(lua_State *L) {
    spec_ctx *c = lua_touserdata(L, 1);
    push_prelude(c);
    push_spec(c, c->a->name);
    read_spec(c, lua_gettop(L));
    return 0;
}

static int text_protected(lua_State *L) {
    spec_ctx *c = lua_touserdata(L, 1);
    const char *name = lua_touserdata(L, 2);
    char *text;
    push_prelude(c);
    lua_pushvalue(L, 3);
    push_spec(c, name);
    lua_pushliteral(L, "");
    lua_call(L, 2, 1);
    size_t size;
    const char *s = lua_tolstring(L, -1, &size);
    text = peri_str_dup((peri_str){s, size});
    if (!text)
        spec_raise(c, peri_fail(c->err, PERI_E_NOMEM, "out of memory printing spec %s", name));
    lua_settop(L, 0);
    lua_pushlightuserdata(L, text);
    return 1;
}

/* Run a protected function; *result gets the light userdata it returns, if any. */
static peri_status run(spec_ctx *c, lua_CFunction fn, const char *name, void **result) {
    peri_lua_budget budget;
    c->L = peri_lua_new(&budget, MAX_LUA_BYTES, MAX_INSTRUCTIONS);
    if (!c->L) return peri_fail(c->err, PERI_E_NOMEM, "out of memory reading spec %s", name);
    lua_pushcfunction(c->L, fn);
    lua_pushlightuserdata(c->L, c);
    lua_pushlightuserdata(c->L, (void *)(uintptr_t)name);
    int rc = lua_pcall(c->L, 2, result ? 1 : 0, 0);
    peri_status st = PERI_OK;
    if (rc == LUA_OK) {
        if (result) *result = lua_touserdata(c->L, -1);
    } else if (c->status) {
        st = c->status;
    } else if (rc == LUA_ERRMEM) {
        st = peri_fail(c->err, PERI_E_NOMEM, "out of memory reading spec %s (cap %d MiB)", name,
                       MAX_LUA_BYTES >> 20);
    } else {
        const char *text = lua_type(c->L, -1) == LUA_TSTRING ? lua_tostring(c->L, -1) : "error";
        st = peri_fail(c->err, PERI_E_CORRUPT, "%s/arch/%s", c->script_dir, text);
    }
    lua_close(c->L);
    return st;
}

peri_status peri_lua_arch_load(void *user, const peri_gguf *g, peri_arch **out, peri_error *err) {
    const peri_spec_source *s = user;
    peri_error local;
    *out = NULL;
    peri_str name;
    peri_status st = peri_gguf_get_str(g, "general.architecture", &name, err);
    if (st) return st;
    peri_arena *arena = peri_arena_new();
    peri_arch *a = arena ? peri_arena_alloc(arena, 1, sizeof *a) : NULL;
    peri_str copy = a ? peri_arena_str(arena, name) : (peri_str){NULL, 0};
    if (!copy.data) {
        peri_arena_free(arena);
        return peri_fail(err, PERI_E_NOMEM, "%s: out of memory", peri_gguf_path(g));
    }
    a->arena = arena;
    a->name = copy.data;
    spec_ctx c = {.g = g, .a = a, .err = err ? err : &local, .script_dir = s->script_dir};
    if (strlen(copy.data) != name.size)
        st = peri_gguf_fail_key(g, peri_gguf_find(g, "general.architecture"), err,
                                "holds a NUL byte");
    else
        st = run(&c, load_protected, a->name, NULL);
    if (st == PERI_E_NOT_FOUND || st == PERI_E_CORRUPT) {
        /* Say which file asked for it, unless the text begins with that already. */
        const char *path = peri_gguf_path(g);
        if (err && strncmp(err->text, path, strlen(path))) st = peri_wrap(err, "%s", path);
    }
    if (st) {
        peri_arch_free(a);
        return st;
    }
    *out = a;
    return PERI_OK;
}

peri_status peri_lua_arch_text(const peri_spec_source *s, const char *name, char **text,
                               peri_error *err) {
    peri_error local;
    spec_ctx c = {.err = err ? err : &local, .script_dir = s->script_dir};
    void *result = NULL;
    *text = NULL;
    peri_status st = run(&c, text_protected, name, &result);
    *text = result;
    return st;
}
