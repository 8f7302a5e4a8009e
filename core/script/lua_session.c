/* SPDX-License-Identifier: MIT
 *
 * lua_session.c - sessions and their streams for Lua.
 *
 * Every method that asks the engine pushes a call (a userdata that closes it), and waits until its
 * final event is there; a cancelled task closes the call on its way out.  What a method pushes and
 * what it keeps on the stack is fixed by lua_settop at its begin: the call stands on top, and the
 * continuation is given its index. */
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "script/engine_int.h"

#include "base/compiler.h"

typedef struct session {
    peri_shared *m; /* NULL once closed */
    uint64_t id;
    peri_prepared *undo; /* closes it */
} session;

enum { USER_PARAMS = 1 }; /* user value of a session: its sampling parameters as given */

typedef struct stream {
    peri_call *call; /* NULL once closed */
    bool was_final;  /* the last event was given out */
} stream;

typedef struct mark {
    peri_shared *m;
    uint64_t session, id;
    peri_prepared *undo;
} mark;

static session *check_session(lua_State *L, int idx) {
    session *s = luaL_checkudata(L, idx, SESSION_CLASS);
    if (!s->m) peri_lua_blame(L, "the session is closed");
    return s;
}

/* ---- calls --------------------------------------------------------------------------------------
 */

static int call_close(lua_State *L) {
    peri_call **c = lua_touserdata(L, 1);
    peri_call_close(*c);
    *c = NULL;
    return 0;
}

static peri_call *call_at(lua_State *L, lua_KContext ctx) {
    return *(peri_call **)lua_touserdata(L, (int)ctx);
}

/* Submit r and go on with k.  `return ask(...)` */
static int ask(lua_State *L, peri_shared *m, const peri_request *r, lua_KFunction k) {
    peri_error err;
    luaL_checkstack(L, 16, "asking the engine");
    peri_call **c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = NULL;
    luaL_setmetatable(L, CALL_CLASS);
    int idx = lua_gettop(L);
    lua_toclose(L, idx);
    if (peri_call_new(m, r, c, &err)) return peri_lua_fail(L, &err);
    return k(L, LUA_OK, idx);
}

static int fail_call(lua_State *L, const peri_call *c) {
    peri_error err = c->error;
    return peri_lua_fail(L, &err);
}

/* The rest of every method: wait, then nil and err, or what `push` makes of the final event. */
typedef int (*push_fn)(lua_State *L, peri_call *c);
#define CONTINUATION(name, push)                                                                   \
    static int name(lua_State *L, int status, lua_KContext ctx) {                                  \
        peri_call *c = call_at(L, ctx);                                                            \
        (void)status;                                                                              \
        if (!c->is_final) return peri_lua_wait_for(L, &c->waiters, ctx, name);                     \
        return c->final.status ? fail_call(L, c) : push(L, c);                                     \
    }

static int push_true(lua_State *L, peri_call *c) {
    (void)c;
    lua_pushboolean(L, 1);
    return 1;
}
CONTINUATION(true_k, push_true)

/* ---- sessions -----------------------------------------------------------------------------------
 */

static session *push_session(lua_State *L) {
    session *s = lua_newuserdatauv(L, sizeof *s, 1);
    *s = (session){NULL, 0, NULL};
    luaL_setmetatable(L, SESSION_CLASS);
    return s;
}

/* The session that a call has made; its parameters are at index 2 of the stack. */
static int push_made(lua_State *L, peri_call *c) {
    session *s = push_session(L);
    *s = (session){c->m, c->final.session, peri_call_adopt(c)};
    peri_shared_hold(c->m);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, USER_PARAMS);
    return 1;
}
CONTINUATION(made_k, push_made)

/* A copy of the table at idx (or nil), so that later changes do not show. */
static void push_copy(lua_State *L, int idx) {
    lua_newtable(L);
    if (!lua_istable(L, idx)) return;
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, -5);
    }
}

int session_open(lua_State *L) {
    peri_shared *m = engine_check_model(L, 1);
    peri_sampling p;
    lua_settop(L, 2);
    value_read_sampling(L, 2, m->loaded.g, engine_host_of(L)->seed, &p);
    push_copy(L, 2);
    lua_replace(L, 2);
    return ask(L, m, &(peri_request){.kind = PERI_REQUEST_OPEN, .sampling = &p}, made_k);
}

static const char *check_path(lua_State *L, int idx, const char *what) {
    if (lua_type(L, idx) != LUA_TSTRING)
        peri_lua_blame(L, "%s: found %s, expected a path", what, luaL_typename(L, idx));
    const char *path = lua_tostring(L, idx);
    if (strlen(path) != lua_rawlen(L, idx))
        peri_lua_blame(L, "%s: the path holds a zero byte", what);
    return path;
}

/* model:restore(path[, sampling]): without it the session goes on as it was saved, and sampling()
 * starts from the defaults. */
int session_restore(lua_State *L) {
    peri_shared *m = engine_check_model(L, 1);
    const char *path = check_path(L, 2, "restore");
    peri_sampling p;
    lua_settop(L, 3);
    bool is_given = !lua_isnil(L, 3);
    if (is_given) value_read_sampling(L, 3, m->loaded.g, engine_host_of(L)->seed, &p);
    lua_pushvalue(L, 2); /* keeps the path */
    push_copy(L, 3);
    lua_replace(L, 2);
    peri_request r = {.kind = PERI_REQUEST_RESTORE, .path = path, .sampling = is_given ? &p : NULL};
    return ask(L, m, &r, made_k);
}

static int session_close(lua_State *L) {
    session *s = luaL_checkudata(L, 1, SESSION_CLASS);
    if (s->m) {
        peri_shared_send(s->m, s->undo, &(peri_request){.session = s->id});
        peri_shared_drop(s->m);
    }
    s->m = NULL;
    return 0;
}

static int session_fork(lua_State *L) {
    session *s = check_session(L, 1);
    lua_settop(L, 1);
    lua_getiuservalue(L, 1, USER_PARAMS);
    push_copy(L, 2);
    lua_replace(L, 2);
    return ask(L, s->m, &(peri_request){.kind = PERI_REQUEST_FORK, .session = s->id}, made_k);
}

/* ---- feeding ---- */

static int feed_k(lua_State *L, int status, lua_KContext ctx) {
    peri_call *c = call_at(L, ctx);
    (void)status;
    lua_settop(L, (int)ctx);
    for (peri_note *n = peri_call_take(c); n; n = peri_call_take(c)) {
        lua_Integer done = (lua_Integer)n->ev.n_done, total = (lua_Integer)n->ev.n_total;
        bool is_progress = n->ev.kind == PERI_EVENT_PROGRESS && lua_isfunction(L, 3);
        peri_free(n);
        if (!is_progress) continue;
        lua_pushvalue(L, 3);
        lua_pushinteger(L, done);
        lua_pushinteger(L, total);
        lua_callk(L, 2, 0, ctx, feed_k);
    }
    if (!c->is_final) return peri_lua_wait_for(L, &c->waiters, ctx, feed_k);
    if (c->final.status) return fail_call(L, c);
    lua_pushboolean(L, 1);
    lua_pushinteger(L, (lua_Integer)c->final.n_cached);
    return 2;
}

static int session_feed(lua_State *L) {
    session *s = check_session(L, 1);
    lua_settop(L, 3);
    if (!lua_isnil(L, 3) && !lua_isfunction(L, 3))
        peri_lua_blame(L, "feed: on_progress: found %s, expected a function", luaL_typename(L, 3));
    size_t n;
    const int32_t *id = value_push_ids(L, 2, "feed", &n);
    if (!n) {
        lua_pushboolean(L, 1);
        return 1;
    }
    peri_request r = {.kind = PERI_REQUEST_FEED,
                      .session = s->id,
                      .tok = id,
                      .n_tok = n,
                      .want_progress = lua_isfunction(L, 3)};
    return ask(L, s->m, &r, feed_k);
}

/* ---- asking ---- */

static int push_tokens(lua_State *L, peri_call *c) {
    value_push_list(L, c->final.tok, c->final.tok ? (size_t)c->final.n_tok : 0);
    return 1;
}
CONTINUATION(tokens_k, push_tokens)

static int session_tokens(lua_State *L) {
    session *s = check_session(L, 1);
    lua_settop(L, 1);
    return ask(L, s->m, &(peri_request){.kind = PERI_REQUEST_TOKENS, .session = s->id}, tokens_k);
}

static int push_n_tok(lua_State *L, peri_call *c) {
    lua_pushinteger(L, (lua_Integer)c->final.stats.n_tok);
    return 1;
}
CONTINUATION(n_tok_k, push_n_tok)

static int session_n_tok(lua_State *L) {
    session *s = check_session(L, 1);
    lua_settop(L, 1);
    return ask(L, s->m, &(peri_request){.kind = PERI_REQUEST_STATS, .session = s->id}, n_tok_k);
}

static void set_count(lua_State *L, const char *name, uint64_t n) {
    lua_pushinteger(L, (lua_Integer)n);
    lua_setfield(L, -2, name);
}

static int push_stats(lua_State *L, peri_call *c) {
    const peri_run_stats *s = &c->final.stats;
    lua_newtable(L);
    set_count(L, "n_tok", s->n_tok);
    set_count(L, "n_prompt", s->n_prompt);
    set_count(L, "n_generated", s->n_generated);
    set_count(L, "n_cached", s->n_cached);
    set_count(L, "n_computed", s->n_computed);
    set_count(L, "prompt_ns", s->prompt_ns);
    set_count(L, "generate_ns", s->generate_ns);
    set_count(L, "kv_copied_bytes", s->n_kv_copied_bytes);
    set_count(L, "n_block", s->n_block);
    set_count(L, "n_block_free", s->n_block_free);
    set_count(L, "n_block_cached", s->n_block_cached);
    set_count(L, "n_step", s->n_step);
    set_count(L, "n_row_top", s->n_row_top);
    set_count(L, "n_row_whole", s->n_row_whole);
    set_count(L, "n_row_bytes", s->n_row_bytes);
    return 1;
}
CONTINUATION(stats_k, push_stats)

static int session_stats(lua_State *L) {
    session *s = check_session(L, 1);
    lua_settop(L, 1);
    return ask(L, s->m, &(peri_request){.kind = PERI_REQUEST_STATS, .session = s->id}, stats_k);
}

static int session_save(lua_State *L) {
    session *s = check_session(L, 1);
    const char *path = check_path(L, 2, "save");
    lua_settop(L, 2);
    peri_request r = {.kind = PERI_REQUEST_SAVE, .session = s->id, .path = path};
    return ask(L, s->m, &r, true_k);
}

/* session:sampling(params): over those given so far. */
static int session_sampling(lua_State *L) {
    session *s = check_session(L, 1);
    peri_sampling p;
    lua_settop(L, 2);
    if (!lua_istable(L, 2))
        peri_lua_blame(L, "sampling: found %s, expected a table", luaL_typename(L, 2));
    lua_getiuservalue(L, 1, USER_PARAMS);
    push_copy(L, 3);
    lua_replace(L, 3);
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, 3);
    }
    value_read_sampling(L, 3, s->m->loaded.g, engine_host_of(L)->seed, &p);
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, 1, USER_PARAMS);
    peri_request r = {.kind = PERI_REQUEST_SAMPLING, .session = s->id, .sampling = &p};
    return ask(L, s->m, &r, true_k);
}

/* ---- marks ---- */

static int mark_close(lua_State *L) {
    mark *k = luaL_checkudata(L, 1, MARK_CLASS);
    peri_request r = {.session = k->session, .mark = k->id};
    if (k->m) peri_shared_send(k->m, k->undo, &r);
    peri_shared_drop(k->m);
    k->m = NULL;
    return 0;
}

static int push_mark(lua_State *L, peri_call *c) {
    mark *k = lua_newuserdatauv(L, sizeof *k, 0);
    *k = (mark){c->m, c->final.session, c->final.mark, peri_call_adopt(c)};
    luaL_setmetatable(L, MARK_CLASS);
    peri_shared_hold(c->m);
    return 1;
}
CONTINUATION(mark_k, push_mark)

static int session_mark(lua_State *L) {
    session *s = check_session(L, 1);
    lua_settop(L, 1);
    return ask(L, s->m, &(peri_request){.kind = PERI_REQUEST_MARK, .session = s->id}, mark_k);
}

static int session_rewind(lua_State *L) {
    session *s = check_session(L, 1);
    peri_request r = {.kind = PERI_REQUEST_REWIND, .session = s->id};
    lua_settop(L, 2);
    const mark *k = luaL_testudata(L, 2, MARK_CLASS);
    if (k) {
        if (!k->m || k->m != s->m || k->session != s->id)
            peri_lua_blame(L, "rewind: the mark is of another session");
        r.mark = k->id;
    } else {
        int is_int = 0;
        lua_Integer n = lua_tointegerx(L, 2, &is_int);
        if (!is_int || n < 0 || n > INT32_MAX)
            peri_lua_blame(L, "rewind: found %s, expected a mark or a number of tokens",
                           luaL_tolstring(L, 2, NULL));
        r.position = (int32_t)n;
    }
    return ask(L, s->m, &r, true_k);
}

/* ---- generating ---------------------------------------------------------------------------------
 */

typedef struct generate_options {
    int64_t max, n_logprob;
    bool want_special, ignore_eog;
} generate_options;

static const value_key generate_keys[] = {
    {"max", VALUE_INT, offsetof(generate_options, max), 0, INT32_MAX},
    {"logprobs", VALUE_INT, offsetof(generate_options, n_logprob), 0, 1000},
    {"special", VALUE_FLAG, offsetof(generate_options, want_special), 0, 0},
    {"ignore_eog", VALUE_FLAG, offsetof(generate_options, ignore_eog), 0, 0},
};
static const char *const generate_others[] = {"stop", "stop_tokens", "without", "beside"};
static const value_table generate_table = {
    "generate", generate_keys, sizeof generate_keys / sizeof generate_keys[0], generate_others, 4};

/* The session that is named beside the one at index 1. */
static void read_beside(lua_State *L, peri_generate *g) {
    const session *own = lua_touserdata(L, 1), *other = luaL_testudata(L, -1, SESSION_CLASS);
    if (!other)
        peri_lua_blame(L, "generate: beside: found %s, expected a session", luaL_typename(L, -1));
    if (!other->m) peri_lua_blame(L, "generate: beside: the session is closed");
    if (other->m != own->m) peri_lua_blame(L, "generate: beside: a session of another model");
    if (other->id == own->id) peri_lua_blame(L, "generate: beside: the session itself");
    g->beside = other->id;
}

/* Options at index 2; pushes buffers that *g points into. */
static void read_generate(lua_State *L, peri_generate *g) {
    generate_options v = {0};
    size_t n = 0;
    value_read(L, 2, &generate_table, &v);
    *g = (peri_generate){.max = (uint64_t)v.max,
                         .n_logprob = (uint32_t)v.n_logprob,
                         .want_logprob = v.n_logprob > 0,
                         .want_special = v.want_special,
                         .ignore_eog = v.ignore_eog};
    if (!lua_istable(L, 2)) return;
    if (value_push_field(L, 2, "stop") != LUA_TNIL) {
        g->stop = value_push_texts(L, lua_gettop(L), "generate: stop", &n);
        g->n_stop = (uint32_t)n;
        for (size_t i = 0; i < n; i++)
            if (!*g->stop[i]) peri_lua_blame(L, "generate: stop: entry %zu is empty", i + 1);
    }
    if (value_push_field(L, 2, "stop_tokens") != LUA_TNIL) {
        g->stop_tok = value_push_ids(L, lua_gettop(L), "generate: stop_tokens", &n);
        g->n_stop_tok = (uint32_t)n;
    }
    if (value_push_field(L, 2, "without") != LUA_TNIL) {
        g->without = value_push_ids(L, lua_gettop(L), "generate: without", &n);
        g->n_without = (uint32_t)n;
    }
    if (value_push_field(L, 2, "beside") != LUA_TNIL) read_beside(L, g);
}

/* session:generate([options]) -> stream.  Does not wait.  The stream keeps the options (user value
 * 1) for the names of stop strings, and the session (2), which would be closed if it were collected
 * while the stream is read. */
static int session_generate(lua_State *L) {
    session *s = check_session(L, 1);
    peri_request r = {.kind = PERI_REQUEST_GENERATE, .session = s->id};
    peri_error err;
    lua_settop(L, 2);
    read_generate(L, &r.generate);
    stream *st = lua_newuserdatauv(L, sizeof *st, 2);
    *st = (stream){NULL, false};
    luaL_setmetatable(L, STREAM_CLASS);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 2);
    if (peri_call_new(s->m, &r, &st->call, &err)) return peri_lua_fail(L, &err);
    return 1;
}

static void set_string(lua_State *L, const char *name, const char *text, size_t size) {
    lua_pushlstring(L, text ? text : "", size);
    lua_setfield(L, -2, name);
}

/* { id=, logprob=, text= } of each likely token. */
static void set_top(lua_State *L, const peri_tokenizer *t, const peri_event *ev) {
    peri_error err;
    lua_createtable(L, (int)ev->n_top, 0);
    value_box *b = value_push_box(L);
    for (uint32_t i = 0; i < ev->n_top; i++) {
        lua_createtable(L, 0, 3);
        set_count(L, "id", (uint64_t)ev->top[i].id);
        lua_pushnumber(L, (lua_Number)ev->top[i].logprob);
        lua_setfield(L, -2, "logprob");
        b->text.size = 0;
        if (t && !peri_token_text(t, ev->top[i].id, true, &b->text, &err) && !b->text.failed)
            set_string(L, "text", b->text.data, b->text.size);
        lua_rawseti(L, -3, (lua_Integer)i + 1);
    }
    value_empty_box(b);
    lua_pop(L, 1);
    lua_setfield(L, -2, "top");
}

/* Take the oldest event and push it.  The box exists before the note is taken out of the call. */
static int push_note(lua_State *L, peri_call *c) {
    value_box *b = value_push_box(L);
    peri_note *n = peri_call_take(c);
    b->heap = n;
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, n->ev.id);
    lua_setfield(L, -2, "id");
    set_string(L, "text", n->ev.text, n->ev.text_size);
    if (n->ev.n_top) {
        lua_pushnumber(L, (lua_Number)n->ev.logprob);
        lua_setfield(L, -2, "logprob");
        set_top(L, c->m->loaded.tokenizer, &n->ev);
    }
    value_empty_box(b);
    return 1;
}

static int push_end(lua_State *L, stream *st, int idx) {
    const peri_call *c = st->call;
    lua_createtable(L, 0, 4);
    set_string(L, "text", c->final.text, c->final.text ? c->final.text_size : 0);
    lua_pushstring(L, c->final.status ? "error" : peri_why_name(c->final.why));
    lua_setfield(L, -2, "done");
    set_count(L, "n_tok", (uint64_t)c->final.n_tok);
    if (c->final.status) {
        peri_lua_push_error(L, c->final.status, c->error.text);
        lua_setfield(L, -2, "error");
    }
    if (!c->final.status && c->final.why == PERI_WHY_STOP) {
        lua_getiuservalue(L, idx, 1);
        int type = value_push_field(L, -1, "stop");
        if (type == LUA_TTABLE) {
            lua_rawgeti(L, -1, (lua_Integer)c->final.stop + 1);
            lua_replace(L, -2);
        }
        lua_setfield(L, -3, "stop");
        lua_pop(L, 1);
    }
    if (!c->final.status && c->final.why == PERI_WHY_EOG) {
        lua_pushinteger(L, c->final.id);
        lua_setfield(L, -2, "id");
    }
    st->was_final = true;
    return 1;
}

static int next_k(lua_State *L, int status, lua_KContext ctx) {
    stream *st = lua_touserdata(L, 1);
    (void)status;
    if (!st->call || st->was_final) return 0;
    lua_settop(L, 1);
    if (st->call->first) return push_note(L, st->call);
    if (!st->call->is_final) return peri_lua_wait_for(L, &st->call->waiters, ctx, next_k);
    return push_end(L, st, 1);
}

/* stream:next() -> event or nil */
static int stream_next(lua_State *L) {
    luaL_checkudata(L, 1, STREAM_CLASS);
    lua_settop(L, 1);
    return next_k(L, LUA_OK, 0);
}

/* stream:cancel(): the final event still comes. */
static int stream_cancel(lua_State *L) {
    stream *st = luaL_checkudata(L, 1, STREAM_CLASS);
    if (st->call) peri_call_cancel(st->call);
    return 0;
}

static int stream_close(lua_State *L) {
    stream *st = luaL_checkudata(L, 1, STREAM_CLASS);
    peri_call_close(st->call);
    st->call = NULL;
    return 0;
}

/* ---- registration -------------------------------------------------------------------------------
 */

void session_make_classes(lua_State *L) {
    static const luaL_Reg call_meta[] = {
        {"__gc", call_close}, {"__close", call_close}, {NULL, NULL}};
    static const luaL_Reg mark_meta[] = {
        {"__gc", mark_close}, {"__close", mark_close}, {NULL, NULL}};
    static const luaL_Reg session_meta[] = {
        {"__gc", session_close}, {"__close", session_close}, {NULL, NULL}};
    static const luaL_Reg stream_meta[] = {
        {"__gc", stream_close}, {"__close", stream_close}, {"__call", stream_next}, {NULL, NULL}};
    static const luaL_Reg stream_methods[] = {
        {"next", stream_next}, {"cancel", stream_cancel}, {"close", stream_close}, {NULL, NULL}};
    static const luaL_Reg session_methods[] = {
        {"feed", session_feed},     {"generate", session_generate}, {"tokens", session_tokens},
        {"n_tok", session_n_tok},   {"fork", session_fork},         {"mark", session_mark},
        {"rewind", session_rewind}, {"save", session_save},         {"close", session_close},
        {"stats", session_stats},   {"sampling", session_sampling}, {NULL, NULL}};
    value_new_class(L, CALL_CLASS, call_meta, NULL);
    value_new_class(L, MARK_CLASS, mark_meta, NULL);
    value_new_class(L, SESSION_CLASS, session_meta, session_methods);
    value_new_class(L, STREAM_CLASS, stream_meta, stream_methods);
}
