/* SPDX-License-Identifier: MIT
 *
 * lua_policy.c - the host of sampling policies: sets of them, and one call.
 *
 * A call runs on a coroutine of the set's state, so that after a failure, one for want of memory
 * too, the lines that ran are still there to be named.  The state of a policy is bytes between
 * calls: it is read before each and written after it, so a call can depend on nothing else, and
 * what core/run keeps is the whole truth.
 *
 * Time.  A hook counts instructions; functions of the libraries, which it does not see, look at the
 * slice's deadline (lua_run.c).  Either way the coroutine is given up and a new one made. */
#include "script/lua_policy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "script/lua_plain.h"
#include "script/policy_int.h"

#include "base/compiler.h"

/* Policies that belong to one chain. */
typedef struct policy_set {
    struct policy_set *next;
    size_t n_ref, n;
    peri_text key; /* all that makes them what they are */
    peri_lua *lua;
    lua_State *co; /* NULL: to be made */
    candidates *c;
} policy_set;

typedef struct policy_host {
    peri_policy_host out; /* first */
    policy_set *first;
} policy_host;

/* What a coroutine is started with. */
typedef struct call {
    policy_set *s;
    const peri_policy_text *policy; /* loading: [n] */
    size_t i;                       /* running */
    peri_policy_view *v;
    peri_error err; /* code NOMEM when it was the system's memory */
} call;

static const char key_policies = 'p', key_co = 'c', key_object = 'o';

/* ---- entering the state ---------------------------------------------------------------------- */

static void on_count(lua_State *L, lua_Debug *ar) {
    peri_lua *l = peri_lua_of(L);
    char where[100];
    (void)ar;
    if (!l->is_expired) {
        lua_user_where(l, L, where, sizeof where);
        snprintf(l->stop_text, sizeof l->stop_text, "%s%sran %d instructions for one token", where,
                 where[0] ? ": " : "", PERI_POLICY_INSTRUCTIONS);
        l->is_expired = 1;
        l->budget.is_over = 1;
    }
    lua_raise_expired(L);
}

static int make_co(lua_State *L) {
    lua_newthread(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_co);
    return 0;
}

static int get_co(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_co);
    return 1;
}

static int put_back(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_policies);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, 1, i);
        lua_rawgeti(L, 2, POLICY_WATCHED);
        policy_put_back(L, 3);
        lua_settop(L, 1);
    }
    return 0;
}

/* A light C function in a protected call, with one result at most left on the stack. */
static peri_status call_c(policy_set *s, lua_CFunction f, int n_result, peri_error *err) {
    lua_State *L = peri_lua_main(s->lua);
    if (!lua_checkstack(L, 8)) return peri_fail(err, PERI_E_NOMEM, "Lua: out of memory");
    lua_pushcfunction(L, f);
    return peri_lua_call(s->lua, L, 0, n_result, err);
}

static peri_status want_co(policy_set *s, peri_error *err) {
    if (s->co) return PERI_OK;
    peri_status st = call_c(s, make_co, 0, err);
    if (!st) st = call_c(s, get_co, 1, err);
    if (st) return st;
    s->co = lua_tothread(peri_lua_main(s->lua), -1);
    lua_pop(peri_lua_main(s->lua), 1); /* the registry holds it */
    return PERI_OK;
}

/* What failed, as the error of a policy: with the file and line in front. */
static peri_status blame(policy_set *s, const peri_error *why, peri_error *err) {
    char where[100];
    const char *text = why->text;
    if (why->code == PERI_E_NOMEM && s->lua->budget.is_system_out)
        return peri_fail(err, PERI_E_NOMEM, "sampling policy: %s", text);
    lua_user_where(s->lua, s->co, where, sizeof where);
    bool has_place = !where[0] || strncmp(text, where, strcspn(where, ":") + 1) == 0;
    return peri_fail(err, PERI_E_POLICY_ERROR, "sampling policy: %s%s%s", has_place ? "" : where,
                     has_place ? "" : ": ", text);
}

/* Run f with c on the set's coroutine. */
static peri_status enter(policy_set *s, lua_CFunction f, call *c, peri_error *err) {
    peri_error why, ignored;
    int n = 0;
    peri_status st = want_co(s, err);
    if (st) return st;
    lua_settop(s->co, 0);
    lua_pushcfunction(s->co, f);
    lua_pushlightuserdata(s->co, c);
    lua_sethook(s->co, on_count, LUA_MASKCOUNT, PERI_POLICY_INSTRUCTIONS);
    st = peri_lua_resume(s->lua, s->co, 1, &n, &why);
    if (s->c) s->c->v = NULL;
    if (!st && c->err.code) { /* a failure that is none of the script's */
        *err = c->err;
        return c->err.code;
    }
    if (!st) return PERI_OK;
    st = blame(s, &why, err);
    s->co = NULL;
    call_c(s, put_back, 0, &ignored); /* fails only when it could not even begin */
    return st;
}

/* ---- one call -------------------------------------------------------------------------------- */

enum { AT_CALL = 1, AT_ENTRY, AT_CHOOSE, AT_STATE, AT_RESULT };

static void check_left(lua_State *L, const peri_policy_view *v, size_t n_before) {
    for (size_t i = 0; i < v->n; i++)
        if (v->c[i].logit > -INFINITY) return;
    policy_fail(L, AT_CHOOSE, "choose left no candidate: all of the %d are banned", (int)n_before);
}

static void push_state(lua_State *L, const peri_policy_view *v) {
    peri_str bytes = v->kept;
    if (!bytes.data) {
        lua_rawgeti(L, AT_ENTRY, POLICY_INITIAL);
        bytes.data = lua_tolstring(L, -1, &bytes.size);
        lua_pop(L, 1); /* the entry holds it */
    }
    if (!plain_read(L, bytes) || !lua_istable(L, -1))
        policy_fail(L, AT_CHOOSE, "the state kept for position %d is malformed", (int)v->n_tok);
}

static int run_one(lua_State *L) {
    call *c = lua_touserdata(L, AT_CALL);
    peri_policy_view *v = c->v;
    size_t n_before = v->n;
    luaL_checkstack(L, 16, "a sampling policy");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_policies);
    lua_rawgeti(L, -1, (lua_Integer)c->i + 1);
    lua_replace(L, AT_ENTRY);
    lua_rawgeti(L, AT_ENTRY, POLICY_CHOOSE);
    push_state(L, v);
    lua_pushvalue(L, AT_CHOOSE);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_object);
    lua_pushvalue(L, AT_STATE);
    lua_rawgeti(L, AT_ENTRY, POLICY_SETTINGS);
    c->s->c->v = v;
    c->s->c->has_picked = false;
    lua_call(L, 3, 1);
    c->s->c->v = NULL;
    if (!lua_isnil(L, AT_RESULT))
        policy_fail(L, AT_CHOOSE, "choose returned a %s; it picks with c:pick(i)",
                    luaL_typename(L, AT_RESULT));
    lua_rawgeti(L, AT_ENTRY, POLICY_WATCHED);
    const char *changed = policy_put_back(L, AT_RESULT + 1);
    if (changed)
        policy_fail(L, AT_CHOOSE,
                    "choose changed '%s', a local of its chunk: what it keeps goes into its state",
                    changed);
    check_left(L, v, n_before);
    if (!plain_write(L, AT_STATE, "state", v->left, PERI_POLICY_STATE, &c->err)) {
        if (c->err.code == PERI_E_NOMEM) return 0;
        char text[sizeof c->err.text];
        memcpy(text, c->err.text, sizeof text);
        c->err.code = PERI_OK;
        policy_fail(L, AT_CHOOSE, "%s", text);
    }
    return 0;
}

static peri_status host_run(void *user, void *at, size_t i, peri_policy_view *v, peri_error *err) {
    policy_set *s = at;
    call c = {.s = s, .i = i, .v = v};
    (void)user;
    return enter(s, run_one, &c, err);
}

/* ---- sets ------------------------------------------------------------------------------------ */

static int load_all(lua_State *L) {
    call *c = lua_touserdata(L, 1);
    lua_newtable(L);
    for (size_t i = 0; i < c->s->n; i++) {
        policy_load(L, &c->policy[i]);
        lua_rawseti(L, 2, (lua_Integer)i + 1);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_policies);
    candidates *object = candidates_push(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_object);
    c->s->c = object;
    return 0;
}

static void make_key(peri_text *key, const peri_policy_text *policy, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const peri_policy_text *p = &policy[i];
        peri_text_addf(key, "%zu %zu %zu ", strlen(p->name), p->text.size, p->given.size);
        peri_text_add_str(key, p->name);
        peri_text_add(key, p->text.data, p->text.size);
        peri_text_add(key, p->given.data, p->given.size);
    }
}

static void free_set(policy_set *s) {
    if (!s) return;
    peri_lua_close(s->lua);
    peri_text_fini(&s->key);
    peri_free(s);
}

static peri_status new_set(const peri_policy_text *policy, size_t n, policy_set **out,
                           peri_error *err) {
    peri_lua_options o = {
        .size = sizeof o, .max_bytes = PERI_POLICY_BYTES, .slice_ms = PERI_POLICY_MS};
    policy_set *s = peri_calloc(1, sizeof *s);
    *out = s;
    if (!s) return peri_fail(err, PERI_E_NOMEM, "out of memory for sampling policies");
    s->n = n;
    s->n_ref = 1;
    peri_status st = peri_lua_open(&o, &s->lua, err);
    call c = {.s = s, .policy = policy};
    return st ? st : enter(s, load_all, &c, err);
}

static peri_status host_open(void *user, const peri_policy_text *policy, size_t n, void **out,
                             peri_error *err) {
    policy_host *h = user;
    policy_set *s;
    peri_text key = {0};
    *out = NULL;
    make_key(&key, policy, n);
    if (key.failed) {
        peri_text_fini(&key);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for sampling policies");
    }
    for (policy_set *known = h->first; known; known = known->next) {
        if (known->key.size != key.size || memcmp(known->key.data, key.data, key.size) != 0)
            continue;
        peri_text_fini(&key);
        known->n_ref++;
        *out = known;
        return PERI_OK;
    }
    peri_status st = new_set(policy, n, &s, err);
    if (st) {
        peri_text_fini(&key);
        free_set(s);
        return st;
    }
    s->key = key;
    s->next = h->first;
    h->first = s;
    *out = s;
    return PERI_OK;
}

static void host_close(void *user, void *at) {
    policy_host *h = user;
    policy_set *s = at;
    if (--s->n_ref) return;
    policy_set **link = &h->first;
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    free_set(s);
}

peri_status peri_lua_policies_new(peri_policy_host **out, peri_error *err) {
    policy_host *h = peri_calloc(1, sizeof *h);
    *out = NULL;
    if (!h) return peri_fail(err, PERI_E_NOMEM, "out of memory for sampling policies");
    h->out = (peri_policy_host){h, host_open, host_close, host_run};
    *out = &h->out;
    return PERI_OK;
}

void peri_lua_policies_free(peri_policy_host *h) {
    peri_free(h); /* its first member; every set went with its last sampler */
}
