/* SPDX-License-Identifier: MIT
 *
 * lua_engine.c - opening models, what they tell about themselves, and text to tokens.  Sessions are
 * in lua_session.c. */
#include "script/lua_engine.h"

#include <string.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/status.h"
#include "script/engine_int.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

static const char registry_key;

engine_host *engine_host_of(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &registry_key);
    engine_host *h = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return h;
}

typedef struct model {
    peri_shared *m; /* NULL once closed */
} model;

peri_shared *engine_check_model(lua_State *L, int idx) {
    model *h = luaL_checkudata(L, idx, MODEL_CLASS);
    if (!h->m) peri_lua_blame(L, "the model is closed");
    return h->m;
}

static int model_close(lua_State *L) {
    model *h = luaL_checkudata(L, 1, MODEL_CLASS);
    peri_shared_drop(h->m);
    h->m = NULL;
    return 0;
}

/* ---- open ---------------------------------------------------------------------------------------
 */

typedef struct open_options {
    int64_t ctx, sessions, batch;
    const char *kv, *device, *place, *weights;
} open_options;

static const value_key open_keys[] = {
    {"ctx", VALUE_INT, offsetof(open_options, ctx), 1, 1 << 30},
    {"sessions", VALUE_INT, offsetof(open_options, sessions), 1, 4096},
    {"batch", VALUE_INT, offsetof(open_options, batch), 1, 65536},
    {"kv", VALUE_TEXT, offsetof(open_options, kv), 0, 0},
    {"device", VALUE_TEXT, offsetof(open_options, device), 0, 0},
    {"place", VALUE_TEXT, offsetof(open_options, place), 0, 0},
    {"weights", VALUE_TEXT, offsetof(open_options, weights), 0, 0},
};
static const value_table model_table = {"model", open_keys, sizeof open_keys / sizeof open_keys[0],
                                        NULL, 0};

static const char *const kv_types[] = {[PERI_LOAD_KV_F16] = "f16",
                                       [PERI_LOAD_KV_F32] = "f32",
                                       [PERI_LOAD_KV_Q8_0] = "q8_0",
                                       [PERI_LOAD_KV_Q4_0] = "q4_0"};
enum { N_KV = sizeof kv_types / sizeof *kv_types };

static void read_open_options(lua_State *L, int idx, peri_load_options *o) {
    open_options v = {.sessions = 4};
    value_read(L, idx, &model_table, &v);
    uint32_t kv_type = 0;
    while (v.kv && kv_type < N_KV && strcmp(v.kv, kv_types[kv_type]))
        kv_type++;
    if (kv_type == N_KV)
        peri_lua_blame(
            L, "model: kv: found \"%s\", expected \"f16\", \"f32\", \"q8_0\" or \"q4_0\"", v.kv);
    uint32_t weights = PERI_LOAD_WEIGHTS_AUTO;
    if (v.weights && !strcmp(v.weights, "map")) weights = PERI_LOAD_WEIGHTS_MAP;
    if (v.weights && !strcmp(v.weights, "copy")) weights = PERI_LOAD_WEIGHTS_COPY;
    if (v.weights && !weights && strcmp(v.weights, "auto"))
        peri_lua_blame(L, "model: weights: found \"%s\", expected \"auto\", \"map\" or \"copy\"",
                       v.weights);
    *o = (peri_load_options){.n_ctx = (uint32_t)v.ctx,
                             .n_session = (uint32_t)v.sessions,
                             .n_batch = (uint32_t)v.batch,
                             .kv_type = kv_type,
                             .weights = weights,
                             .device = v.device,
                             .place = v.place};
}

/* engine.check_place(rules) -> true, or nil, err */
static int engine_check_place(lua_State *L) {
    peri_error err;
    peri_rules *rules = lua_newuserdatauv(L, sizeof *rules, 0);
    if (peri_rules_parse(luaL_checkstring(L, 1), rules, &err)) return peri_lua_fail(L, &err);
    lua_pushboolean(L, true);
    return 1;
}

static model *push_model(lua_State *L) {
    model *h = lua_newuserdatauv(L, sizeof *h, 0);
    h->m = NULL;
    luaL_setmetatable(L, MODEL_CLASS);
    return h;
}

/* Push the path of a model: a relative one is looked for beside the user's script first. */
static const char *push_model_path(lua_State *L) {
    const char *folder = peri_lua_of(L)->user_dir, *path = lua_tostring(L, 1);
    if (!path || lua_type(L, 1) != LUA_TSTRING)
        peri_lua_blame(L, "model: found %s, expected the path of a model file",
                       luaL_typename(L, 1));
    if (strlen(path) != lua_rawlen(L, 1)) peri_lua_blame(L, "model: the path holds a zero byte");
    if (folder && *path && *path != '/') {
        const char *beside = lua_pushfstring(L, "%s/%s", folder, path);
        if (peri_file_exists(beside)) return beside;
    }
    return lua_pushstring(L, path);
}

/* The handle at ctx is closed when this returns, and when the task is cancelled: what is given out
 * is a second one. */
static int open_k(lua_State *L, int status, lua_KContext ctx) {
    peri_shared *m = ((model *)lua_touserdata(L, (int)ctx))->m;
    (void)status;
    if (m->state == PERI_SHARED_LOADING)
        return peri_lua_wait_for(L, &m->loaded_waiters, ctx, open_k);
    if (m->state == PERI_SHARED_FAILED) {
        peri_error err = m->error;
        return peri_lua_fail(L, &err);
    }
    model *h = push_model(L);
    peri_shared_hold(m);
    h->m = m;
    return 1;
}

/* engine.open(path[, options]) */
static int engine_open(lua_State *L) {
    peri_load_options o;
    peri_error err;
    lua_settop(L, 2);
    read_open_options(L, 2, &o);
    const char *path = push_model_path(L);
    model *h = push_model(L);
    int at = lua_gettop(L);
    lua_toclose(L, at);
    peri_status st = peri_models_open(engine_host_of(L)->models, path, &o, &h->m, &err);
    return st ? peri_lua_fail(L, &err) : open_k(L, LUA_OK, at);
}

/* engine.find(path) -> the path under which open would look for it */
static int engine_find(lua_State *L) {
    lua_settop(L, 1);
    push_model_path(L);
    return 1;
}

/* ---- info ---------------------------------------------------------------------------------------
 */

static void set_text(lua_State *L, const char *key, const char *text) {
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_integer(lua_State *L, const char *key, lua_Integer x) {
    lua_pushinteger(L, x);
    lua_setfield(L, -2, key);
}

static void set_file_text(lua_State *L, const peri_gguf *g, const char *key, const char *field) {
    peri_str s;
    const peri_gguf_value *v = peri_gguf_find(g, key);
    if (!v || !peri_gguf_as_str(v, 0, &s)) return;
    lua_pushlstring(L, s.data, s.size);
    lua_setfield(L, -2, field);
}

static void set_token(lua_State *L, const peri_tokenizer *t, int32_t id, const char *field,
                      const char *text_field) {
    if (id < 0) return;
    set_integer(L, field, id);
    peri_str s = peri_token_piece(t, id);
    lua_pushlstring(L, s.data ? s.data : "", s.size);
    lua_setfield(L, -2, text_field);
}

/* Asked of the tokenizer, which knows more than the file's flag. */
static bool adds_bos(lua_State *L, const peri_tokenizer *t) {
    peri_tokenize_options o = {.size = sizeof o, .add_special = true};
    peri_error err;
    int32_t *id;
    size_t n;
    if (peri_tokenize(t, PERI_STR(""), &o, &id, &n, &err)) luaL_error(L, "%s", err.text);
    bool is_first = n > 0 && id[0] == peri_tokenizer_bos(t);
    peri_free(id);
    return is_first;
}

static void set_sampling(lua_State *L, const peri_gguf *g) {
    peri_sampling p;
    peri_error err;
    if (peri_sampling_init(&p, PERI_ORIGIN_RUN, g, &err)) luaL_error(L, "%s", err.text);
    lua_newtable(L);
    for (size_t i = 0; i < peri_sampling_n_param; i++) {
        const peri_sampling_param *q = &peri_sampling_params[i];
        const char *origin = peri_sampling_origin(i, PERI_ORIGIN_RUN, g);
        if (!q->key || !origin || strncmp(origin, "general.", 8)) continue;
        double x = peri_sampling_get(&p, i);
        if (q->kind == PERI_SAMPLING_REAL)
            lua_pushnumber(L, x);
        else
            lua_pushinteger(L, (lua_Integer)x);
        lua_setfield(L, -2, q->name);
    }
    if (peri_gguf_find(g, "general.sampling.sequence")) {
        value_box *b = value_push_box(L);
        peri_sampling_order(&p, &b->text);
        if (b->text.data) lua_pushlstring(L, b->text.data, b->text.size);
        if (b->text.data) lua_setfield(L, -3, "samplers");
        lua_pop(L, 1);
    }
    lua_setfield(L, -2, "sampling");
}

/* model:info() */
static int model_info(lua_State *L) {
    const peri_shared *m = engine_check_model(L, 1);
    const peri_tokenizer *t = m->loaded.tokenizer;
    const peri_engine *e = m->loaded.engine;
    lua_newtable(L);
    set_text(L, "path", m->path);
    set_file_text(L, m->loaded.g, "general.architecture", "architecture");
    set_file_text(L, m->loaded.g, "general.name", "name");
    set_file_text(L, m->loaded.g, "tokenizer.chat_template", "template");
    set_integer(L, "n_ctx", e->o.n_ctx);
    set_integer(L, "n_session", e->o.n_session);
    set_integer(L, "n_vocab", e->a->n_vocab);
    set_text(L, "device", e->names);
    set_text(L, "isa", peri_engine_isa(e));
    set_text(L, "placement", e->choice.why);
    if (t) {
        set_token(L, t, peri_tokenizer_bos(t), "bos", "bos_text");
        set_token(L, t, peri_tokenizer_eos(t), "eos", "eos_text");
        lua_pushboolean(L, adds_bos(L, t));
        lua_setfield(L, -2, "add_bos");
    }
    set_sampling(L, m->loaded.g);
    return 1;
}

/* ---- text and tokens ----------------------------------------------------------------------------
 */

static const peri_tokenizer *check_tokenizer(lua_State *L, const peri_shared *m) {
    if (!m->loaded.tokenizer)
        luaL_error(L, "%s: no tokenizer: %s", m->path, m->loaded.tokenizer_error.text);
    return m->loaded.tokenizer;
}

/* model:detokenize(ids[, want_special]) */
static int model_detokenize(lua_State *L) {
    const peri_shared *m = engine_check_model(L, 1);
    const peri_tokenizer *t = check_tokenizer(L, m);
    size_t n;
    peri_error err;
    bool want_special = lua_toboolean(L, 3);
    const int32_t *id = value_push_ids(L, 2, "detokenize", &n);
    value_box *b = value_push_box(L);
    peri_detok d;
    peri_status st = PERI_OK;
    peri_detok_init(&d, t, want_special);
    for (size_t i = 0; i < n && !st; i++)
        st = peri_detok_feed(&d, id[i], &b->text, &err);
    if (!st) peri_detok_end(&d, &b->text);
    if (!st && b->text.failed) st = peri_fail(&err, PERI_E_NOMEM, "out of memory for a text");
    if (st) return peri_lua_fail(L, &err);
    lua_pushlstring(L, b->text.data ? b->text.data : "", b->text.size);
    value_empty_box(b);
    return 1;
}

typedef struct tokenize_options {
    bool add_special, parse_special;
} tokenize_options;

static const value_key tokenize_keys[] = {
    {"add_special", VALUE_FLAG, offsetof(tokenize_options, add_special), 0, 0},
    {"parse_special", VALUE_FLAG, offsetof(tokenize_options, parse_special), 0, 0},
};
static const value_table tokenize_table = {"tokenize", tokenize_keys,
                                           sizeof tokenize_keys / sizeof tokenize_keys[0], NULL, 0};

/* Entry i of the list of segments at index 2: push its text; is it input? */
static bool push_segment(lua_State *L, lua_Integer i) {
    lua_rawgeti(L, 2, i);
    if (!lua_istable(L, -1))
        peri_lua_blame(L, "tokenize: segment %lld is %s, expected { text =, input = }",
                       (long long)i, luaL_typename(L, -1));
    value_push_field(L, -1, "input");
    bool is_input = lua_toboolean(L, -1);
    lua_pop(L, 1);
    value_push_field(L, -1, "text");
    if (lua_type(L, -1) != LUA_TSTRING)
        peri_lua_blame(L, "tokenize: segment %lld: text is %s, expected a string", (long long)i,
                       luaL_typename(L, -1));
    lua_remove(L, -2);
    return is_input;
}

/* Push the joined text of the segments, and a buffer of the ranges that are input. */
static peri_token_range *push_joined(lua_State *L, size_t *n_range) {
    lua_Integer n = (lua_Integer)lua_rawlen(L, 2);
    luaL_Buffer b;
    size_t at = 0;
    *n_range = 0;
    if (n < 0 || n > 1 << 20) peri_lua_blame(L, "tokenize: %lld segments", (long long)n);
    peri_token_range *range = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *range, 0);
    luaL_buffinit(L, &b);
    for (lua_Integer i = 1; i <= n; i++) {
        bool is_input = push_segment(L, i);
        size_t size = lua_rawlen(L, -1);
        if (is_input && size) range[(*n_range)++] = (peri_token_range){at, size};
        at += size;
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    return range;
}

/* model:tokenize(text or segments[, options]) */
static int model_tokenize(lua_State *L) {
    const peri_shared *m = engine_check_model(L, 1);
    const peri_tokenizer *t = check_tokenizer(L, m);
    tokenize_options v = {true, false};
    peri_error err;
    size_t n, n_range = 0, size;
    peri_token_range *range = NULL;
    lua_settop(L, 3);
    value_read(L, 3, &tokenize_table, &v);
    if (lua_istable(L, 2))
        range = push_joined(L, &n_range);
    else if (lua_type(L, 2) == LUA_TSTRING)
        lua_pushvalue(L, 2);
    else
        peri_lua_blame(L, "tokenize: found %s, expected a string or a list of segments",
                       luaL_typename(L, 2));
    const char *text = lua_tolstring(L, -1, &size);
    value_box *b = value_push_box(L);
    peri_tokenize_options o = {.size = sizeof o,
                               .add_special = v.add_special,
                               .parse_special = v.parse_special,
                               .input = range,
                               .n_input = n_range};
    int32_t *id = NULL;
    peri_status st = peri_tokenize(t, (peri_str){text, size}, &o, &id, &n, &err);
    b->heap = id;
    if (st) return peri_lua_fail(L, &err);
    value_push_list(L, id, n);
    value_empty_box(b);
    return 1;
}

/* engine.parameters() -> { { name=, meaning=, default=, ollama=, lo=, hi= }, ... } */
static int engine_parameters(lua_State *L) {
    lua_newtable(L);
    for (size_t i = 0; i < peri_sampling_n_param; i++) {
        const peri_sampling_param *q = &peri_sampling_params[i];
        lua_newtable(L);
        set_text(L, "name", q->name);
        set_text(L, "meaning", q->meaning);
        lua_pushnumber(L, q->value[PERI_ORIGIN_RUN]);
        lua_setfield(L, -2, "default");
        lua_pushnumber(L, q->value[PERI_ORIGIN_OLLAMA]);
        lua_setfield(L, -2, "ollama");
        lua_pushnumber(L, q->lo);
        lua_setfield(L, -2, "lo");
        lua_pushnumber(L, q->hi);
        lua_setfield(L, -2, "hi");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* ---- registration -------------------------------------------------------------------------------
 */

static int make_classes(lua_State *L) {
    static const luaL_Reg meta[] = {{"__gc", model_close}, {"__close", model_close}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"close", model_close},
                                       {"info", model_info},
                                       {"tokenize", model_tokenize},
                                       {"detokenize", model_detokenize},
                                       {"session", session_open},
                                       {"restore", session_restore},
                                       {NULL, NULL}};
    engine_host *given = lua_touserdata(L, 1);
    value_make_classes(L);
    value_new_class(L, MODEL_CLASS, meta, methods);
    session_make_classes(L);
    engine_host *h = lua_newuserdatauv(L, sizeof *h, 0);
    *h = *given;
    lua_rawsetp(L, LUA_REGISTRYINDEX, &registry_key);
    return 0;
}

static int open_module(lua_State *L) {
    static const luaL_Reg functions[] = {{"open", engine_open},
                                         {"find", engine_find},
                                         {"locate", engine_locate},
                                         {"parameters", engine_parameters},
                                         {"links", engine_links},
                                         {"grammar", engine_grammar},
                                         {"link", engine_link},
                                         {"order", engine_order},
                                         {"policy", engine_policy},
                                         {"check_policy", engine_check_policy},
                                         {"measure", engine_measure},
                                         {"check_place", engine_check_place},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    /* Objects of scripts that stand for a model -> the model, see perigee/model.lua. */
    lua_newtable(L);
    lua_newtable(L);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "wrapped");
    return 1;
}

peri_status peri_lua_engine_offer(peri_lua *lua, peri_models *models, uint64_t seed,
                                  peri_error *err) {
    engine_host h = {models, seed};
    lua_State *L = peri_lua_main(lua);
    if (!lua_checkstack(L, 4)) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    lua_pushcfunction(L, make_classes);
    lua_pushlightuserdata(L, &h);
    peri_status st = peri_lua_call(lua, L, 1, 0, err);
    return st ? st : peri_lua_module(lua, "engine", open_module, err);
}
