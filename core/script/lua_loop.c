/* SPDX-License-Identifier: MIT
 *
 * lua_loop.c - see lua_loop.h.
 *
 * A task is a userdata whose first user value is its coroutine and whose second is its error. While
 * it lives the registry holds it (key: its address), so a task nobody keeps runs on.  Ready tasks
 * stand in a queue; when it is empty the thread sleeps in the event loop.
 *
 * An error that nobody waits for is reported when the task is collected, because until then
 * somebody still may ask.  A full collection follows every such failure before the thread sleeps,
 * so that the report of a dropped task comes at once.
 *
 * Read in this order: peri_lua_wait_for, step, peri_lua_loop_run. */
#include "script/lua_loop.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/text.h"
#include "script/engine_int.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

#define TASK  "perigee.task"
#define WAIT  "perigee.wait"
#define TIMER "perigee.timer"

enum { USER_THREAD = 1, USER_ERROR = 2 };
enum { MAX_NEST = 200 }; /* coroutines that wait inside of each other; liblua allows no more */

typedef enum task_state { TASK_LIVE, TASK_DONE, TASK_FAILED, TASK_CANCELLED } task_state;

typedef struct task {
    peri_lua_loop *s;
    lua_State *co;
    struct task *next, *prev; /* all live tasks */
    struct task *next_ready;
    task_state state;
    bool is_ready, wants_end, was_told; /* was_told: somebody received the error */
    int n_value;                        /* arguments before the start, results at the end */
    peri_lua_waiter *wait;              /* what it waits for */
    peri_lua_waiters ended;
    peri_error error; /* TASK_FAILED */
    char *trace;      /* the error with traceback; NULL when memory was out */
} task;

struct peri_lua_waiter {
    peri_lua_waiter *next, **at; /* list of waiters; at NULL: in none */
    task *task;
    lua_KFunction k;
    lua_KContext ctx;
    /* The coroutines from the one whose call waits to the task's own. */
    uint32_t n_thread;
    lua_State *thread[];
};

struct peri_lua_loop {
    peri_lua *lua;
    peri_loop *loop;
    peri_lua_report_fn report;
    void *user;
    task *live, *ready, **ready_end, *current;
    uint64_t n_hold, n_error;
    bool is_ending, wants_collection;
};

static const char registry_key;

peri_lua_loop *peri_lua_loop_of(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &registry_key);
    peri_lua_loop *s = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return s;
}

peri_loop *peri_lua_loop_base(peri_lua_loop *s) {
    return s->loop;
}

void peri_lua_loop_end(peri_lua_loop *s) {
    s->is_ending = true;
}

bool peri_lua_loop_is_ending(const peri_lua_loop *s) {
    return s->is_ending;
}

uint64_t peri_lua_loop_n_error(const peri_lua_loop *s) {
    return s->n_error;
}

void peri_lua_hold(peri_lua_loop *s) {
    s->n_hold++;
}

void peri_lua_release(peri_lua_loop *s) {
    s->n_hold--;
}

static void report(peri_lua_loop *s, const char *text) {
    s->n_error++;
    s->report(s->user, text);
}

/* ---- waiting ------------------------------------------------------------------------------------
 */

static void make_ready(task *t) {
    if (t->is_ready || t->state != TASK_LIVE) return;
    t->is_ready = true;
    t->next_ready = NULL;
    *t->s->ready_end = t;
    t->s->ready_end = &t->next_ready;
}

/* A task that has ended may be collected at any time: it must not stand in the queue. */
static void drop_ready(task *t) {
    task **at = &t->s->ready;
    while (t->is_ready && *at != t)
        at = &(*at)->next_ready;
    if (!t->is_ready) return;
    *at = t->next_ready;
    if (!*at) t->s->ready_end = at;
    t->is_ready = false;
}

static void unlink_wait(peri_lua_waiter *w) {
    if (w->at) {
        *w->at = w->next;
        if (w->next) w->next->at = w->at;
        w->at = NULL;
    }
    if (w->task && w->task->wait == w) w->task->wait = NULL;
    w->task = NULL;
}

static int collect_wait(lua_State *L) {
    unlink_wait(lua_touserdata(L, 1));
    return 0;
}

void peri_lua_wake(peri_lua_loop *s, peri_lua_waiters *on) {
    (void)s;
    while (on->first) {
        peri_lua_waiter *w = on->first;
        on->first = w->next;
        if (w->next) w->next->at = &on->first;
        w->at = NULL;
        make_ready(w->task);
    }
}

static int go_on(lua_State *L, int status, lua_KContext ctx) {
    peri_lua_waiter *w = lua_touserdata(L, -1);
    (void)ctx;
    lua_KFunction k = w->k;
    lua_KContext its_ctx = w->ctx;
    /* Another task may have resumed the coroutine that waits; then the first one has to look. */
    if (w->task && w->task != w->task->s->current) make_ready(w->task);
    unlink_wait(w);
    lua_pop(L, 1);
    return k(L, status, its_ctx);
}

int peri_lua_wait_for(lua_State *L, peri_lua_waiters *on, lua_KContext ctx, lua_KFunction k) {
    peri_lua_loop *s = peri_lua_loop_of(L);
    task *t = s->current;
    if (!t || !lua_isyieldable(L))
        luaL_error(L, "cannot wait here: not inside a task, or inside a function that Lua calls "
                      "back (a comparison, a finaliser)");
    luaL_checkstack(L, 4, "waiting");
    uint32_t n = 0;
    for (const lua_frame *f = peri_lua_of(L)->frame; f; f = f->is_host ? NULL : f->below)
        n++;
    if (n > MAX_NEST) luaL_error(L, "cannot wait here: %d coroutines deep", (int)n);
    peri_lua_waiter *w = lua_newuserdatauv(L, sizeof *w + n * sizeof w->thread[0], 0);
    *w = (peri_lua_waiter){.task = t, .k = k, .ctx = ctx};
    for (const lua_frame *f = peri_lua_of(L)->frame; f; f = f->is_host ? NULL : f->below)
        w->thread[w->n_thread++] = f->L;
    luaL_setmetatable(L, WAIT);
    if (t->wait) unlink_wait(t->wait);
    t->wait = w;
    if (on) {
        w->next = on->first;
        w->at = &on->first;
        if (w->next) w->next->at = &w->next;
        on->first = w;
    }
    return peri_lua_wait(L, 0, 0, go_on);
}

/* ---- tasks --------------------------------------------------------------------------------------
 */

void peri_lua_spawn(lua_State *L, int n_arg) {
    peri_lua_loop *s = peri_lua_loop_of(L);
    luaL_checkstack(L, n_arg + 8, "starting a task");
    task *t = lua_newuserdatauv(L, sizeof *t, 2);
    memset(t, 0, sizeof *t);
    luaL_setmetatable(L, TASK);
    t->s = s;
    t->state = TASK_CANCELLED; /* until it can run */
    t->co = lua_newthread(L);
    lua_setiuservalue(L, -2, USER_THREAD);
    if (!lua_checkstack(t->co, n_arg + 4)) luaL_error(L, "out of memory for a task");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, t);
    lua_insert(L, -(n_arg + 2));
    lua_xmove(L, t->co, n_arg + 1);
    t->n_value = n_arg;
    t->state = TASK_LIVE;
    t->next = s->live;
    if (t->next) t->next->prev = t;
    s->live = t;
    make_ready(t);
}

static void finish(task *t, task_state state) {
    peri_lua_loop *s = t->s;
    if (t->wait) unlink_wait(t->wait);
    t->state = state;
    if (t->prev)
        t->prev->next = t->next;
    else
        s->live = t->next;
    if (t->next) t->next->prev = t->prev;
    t->next = t->prev = NULL;
    drop_ready(t);
    peri_lua_wake(s, &t->ended);
    lua_State *L = peri_lua_main(s->lua);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, t); /* clearing a key allocates nothing */
}

/* has_object: the error object is on top of the coroutine. */
static void keep_error(task *t, const peri_error *err, bool has_object) {
    lua_State *L = peri_lua_main(t->s->lua);
    t->error = *err;
    if (has_object) t->trace = peri_str_dup(peri_str_of(peri_lua_error_text(t->s->lua)));
    lua_rawgetp(L, LUA_REGISTRYINDEX, t);
    if (has_object && lua_gettop(t->co) > 0) {
        lua_xmove(t->co, L, 1);
        lua_setiuservalue(L, -2, USER_ERROR);
    }
    lua_pop(L, 1);
}

static void close_thread(task *t, lua_State *co) {
    peri_error err = {0, ""};
    if (peri_lua_close_thread(t->s->lua, co, &err)) /* of a __close, nobody else sees it */
        report(t->s, peri_lua_error_text(t->s->lua));
}

/* Variables are closed from the inside out: first those of the coroutines that the task's own runs.
 * The waiter lies in the innermost and may go with it. */
static void end_cancelled(task *t) {
    lua_State *inner[MAX_NEST];
    uint32_t n = 0;
    for (; t->wait && n + 1 < t->wait->n_thread; n++)
        inner[n] = t->wait->thread[n];
    for (uint32_t i = 0; i < n; i++)
        close_thread(t, inner[i]);
    close_thread(t, t->co);
    finish(t, TASK_CANCELLED);
}

static void end_failed(task *t, peri_status st, const peri_error *err, bool has_object) {
    peri_error ignored;
    keep_error(t, err, has_object);
    if (st != PERI_E_TIMEOUT) peri_lua_close_thread(t->s->lua, t->co, &ignored);
    t->s->wants_collection = t->s->wants_collection || !t->ended.first;
    finish(t, TASK_FAILED);
}

/* Let one task run until it waits or ends. */
static void step(task *t) {
    peri_lua_loop *s = t->s;
    peri_error err = {0, ""};
    int n = 0;
    if (t->wants_end || s->is_ending) {
        end_cancelled(t);
        return;
    }
    s->current = t;
    peri_status st = peri_lua_resume(s->lua, t->co, t->n_value, &n, &err);
    s->current = NULL;
    t->n_value = 0;
    if (st) {
        end_failed(t, st, &err, true);
    } else if (lua_status(t->co) != LUA_YIELD) {
        t->n_value = n;
        finish(t, TASK_DONE);
    } else {
        lua_pop(t->co, n);
        if (t->wants_end) {
            end_cancelled(t);
        } else if (!t->wait && !t->is_ready) {
            peri_fail(&err, PERI_E_INVALID, "coroutine.yield outside of a coroutine");
            end_failed(t, PERI_E_INVALID, &err, false);
        }
    }
}

static int collect_task(lua_State *L) {
    task *t = lua_touserdata(L, 1);
    if (t->state == TASK_FAILED && !t->was_told) report(t->s, t->trace ? t->trace : t->error.text);
    t->was_told = true;
    peri_free(t->trace);
    t->trace = NULL;
    return 0;
}

/* ---- the run ------------------------------------------------------------------------------------
 */

/* One round: every task that is ready now. */
static void run_ready(peri_lua_loop *s) {
    task *t = s->ready;
    s->ready = NULL;
    s->ready_end = &s->ready;
    while (t) {
        task *next = t->next_ready;
        t->is_ready = false;
        if (t->state == TASK_LIVE) step(t);
        t = next;
    }
}

static void report_deadlock(peri_lua_loop *s) {
    peri_text text = {0};
    lua_Debug ar;
    peri_text_add_str(&text, "all tasks wait, and nothing is left that could wake one of them:");
    for (task *t = s->live; t; t = t->next) {
        lua_State *L = t->wait ? t->wait->thread[0] : t->co;
        int level = 0;
        while (lua_getstack(L, level, &ar) && lua_getinfo(L, "Sl", &ar) && ar.currentline < 0)
            level++;
        if (lua_getstack(L, level, &ar) && lua_getinfo(L, "Sl", &ar))
            peri_text_addf(&text, "\n  %s:%d waits", ar.short_src, ar.currentline);
    }
    report(s, text.failed ? "all tasks wait: deadlock" : text.data);
    peri_text_fini(&text);
}

static void cancel_all(peri_lua_loop *s) {
    while (s->live) {
        for (task *t = s->live; t; t = t->next) {
            t->wants_end = true;
            make_ready(t);
        }
        run_ready(s);
    }
}

static void collect(peri_lua_loop *s) {
    s->wants_collection = false;
    lua_gc(peri_lua_main(s->lua), LUA_GCCOLLECT);
}

/* Push the main task; its function and arguments are on the stack. */
static int spawn_protected(lua_State *L) {
    peri_lua_spawn(L, lua_gettop(L) - 1);
    return 1;
}

static int result_of(const task *t) {
    lua_State *co = t->co;
    if (t->state != TASK_DONE) return t->state == TASK_FAILED;
    if (t->n_value < 1) return 0;
    if (lua_isboolean(co, -t->n_value)) return !lua_toboolean(co, -t->n_value);
    int is_int = 0;
    lua_Integer value = lua_tointegerx(co, -t->n_value, &is_int);
    return is_int && value >= 0 && value <= 255 ? (int)value : 0;
}

static peri_status run_tasks(peri_lua_loop *s, const task *main, bool *is_stuck, peri_error *err) {
    peri_status st = PERI_OK;
    while (!st && s->live && !s->is_ending && main->state != TASK_FAILED) {
        if (s->ready) {
            run_ready(s);
            st = peri_loop_poll(s->loop, err);
            continue;
        }
        if (s->wants_collection) collect(s);
        if (s->ready) continue;
        if (!s->n_hold) {
            *is_stuck = true;
            report_deadlock(s);
            break;
        }
        st = peri_loop_once(s->loop, err);
    }
    return st;
}

peri_status peri_lua_loop_run(peri_lua_loop *s, int n_arg, int *result, peri_error *err) {
    lua_State *L = peri_lua_main(s->lua);
    bool is_stuck = false;
    *result = 1;
    if (!lua_checkstack(L, 16)) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    lua_pushcfunction(L, spawn_protected);
    lua_insert(L, -(n_arg + 2));
    peri_status st = peri_lua_call(s->lua, L, n_arg + 1, 1, err);
    if (st) return st;
    task *main = lua_touserdata(L, -1); /* stays on the stack meanwhile */
    int at = lua_gettop(L);
    st = run_tasks(s, main, &is_stuck, err);
    cancel_all(s);
    *result = is_stuck ? 1 : result_of(main);
    lua_remove(L, at);
    return st;
}

/* ---- the module "loop" --------------------------------------------------------------------------
 */

static task *check_task(lua_State *L) {
    return luaL_checkudata(L, 1, TASK);
}

static int loop_spawn(lua_State *L) {
    if (!lua_isfunction(L, 1))
        peri_lua_blame(L, "spawn: found %s, expected a function", luaL_typename(L, 1));
    peri_lua_spawn(L, lua_gettop(L) - 1);
    return 1;
}

static int push_results(lua_State *L, task *t) {
    int n = t->n_value;
    luaL_checkstack(L, n + 1, "too many results");
    if (!lua_checkstack(t->co, 1)) return luaL_error(L, "out of memory");
    for (int i = n; i > 0; i--) {
        lua_pushvalue(t->co, -i);
        lua_xmove(t->co, L, 1);
    }
    return n;
}

static int push_failure(lua_State *L, task *t) {
    lua_pushnil(L);
    if (t->state == TASK_CANCELLED) {
        peri_lua_push_error(L, PERI_E_CANCELLED, "the task was cancelled");
        return 2;
    }
    t->was_told = true;
    if (lua_getiuservalue(L, 1, USER_ERROR) == LUA_TTABLE) return 2;
    /* What Lua says when memory is out names no place. */
    bool says_more = t->error.code != PERI_E_NOMEM && lua_type(L, -1) == LUA_TSTRING;
    const char *text = says_more ? lua_tostring(L, -1) : t->error.text;
    peri_lua_push_error(L, t->error.code, text);
    lua_remove(L, -2);
    return 2;
}

static int wait_k(lua_State *L, int status, lua_KContext ctx) {
    task *t = check_task(L);
    (void)status;
    if (t->state == TASK_LIVE) return peri_lua_wait_for(L, &t->ended, ctx, wait_k);
    return t->state == TASK_DONE ? push_results(L, t) : push_failure(L, t);
}

static int task_wait(lua_State *L) {
    task *t = check_task(L);
    if (t == t->s->current) peri_lua_blame(L, "a task cannot wait for itself");
    lua_settop(L, 1);
    return wait_k(L, LUA_OK, 0);
}

static int never(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    return luaL_error(L, "the task was cancelled");
}

static int task_cancel(lua_State *L) {
    task *t = check_task(L);
    if (t->state != TASK_LIVE) return 0;
    t->wants_end = true;
    make_ready(t);
    return t == t->s->current ? peri_lua_wait_for(L, NULL, 0, never) : 0;
}

static int task_status(lua_State *L) {
    static const char *const names[] = {"running", "done", "failed", "cancelled"};
    lua_pushstring(L, names[check_task(L)->state]);
    return 1;
}

/* loop.is_task(value) */
static int loop_is_task(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushboolean(L, luaL_testudata(L, 1, TASK) != NULL);
    return 1;
}

/* loop.blame(text): raise a mistake of the script with the place of its innermost function. */
static int loop_blame(lua_State *L) {
    peri_lua_blame(L, "%s", luaL_checkstring(L, 1));
}

/* ---- sleeping ---- */

typedef struct sleeper {
    peri_lua_loop *s;
    peri_timer *timer;
    peri_lua_waiters waiters;
    bool is_held, is_due;
} sleeper;

static void stop_sleeper(sleeper *z) {
    peri_timer_free(z->timer);
    z->timer = NULL;
    if (z->is_held) peri_lua_release(z->s);
    z->is_held = false;
}

static int collect_sleeper(lua_State *L) {
    stop_sleeper(luaL_checkudata(L, 1, TIMER));
    return 0;
}

static void on_due(void *user) {
    sleeper *z = user;
    z->is_due = true;
    peri_lua_wake(z->s, &z->waiters);
}

static int sleep_k(lua_State *L, int status, lua_KContext ctx) {
    sleeper *z = lua_touserdata(L, 2);
    (void)status;
    if (!z->is_due) return peri_lua_wait_for(L, &z->waiters, ctx, sleep_k);
    return 0;
}

static int loop_sleep(lua_State *L) {
    lua_Number seconds = lua_type(L, 1) == LUA_TNUMBER ? lua_tonumber(L, 1) : -1;
    if (!(seconds >= 0 && seconds <= 1e9))
        peri_lua_blame(L, "sleep: found %s, expected seconds from 0 to 1e9",
                       luaL_tolstring(L, 1, NULL));
    lua_settop(L, 1);
    sleeper *z = lua_newuserdatauv(L, sizeof *z, 0);
    memset(z, 0, sizeof *z);
    z->s = peri_lua_loop_of(L);
    luaL_setmetatable(L, TIMER);
    lua_toclose(L, 2);
    peri_error err;
    peri_status st = peri_timer_new(z->s->loop, on_due, z, &z->timer, &err);
    if (!st) st = peri_timer_start(z->timer, (uint64_t)(seconds * 1e9), &err);
    if (st) return luaL_error(L, "%s", err.text);
    z->is_held = true;
    peri_lua_hold(z->s);
    return sleep_k(L, LUA_OK, 0);
}

/* ---- registration ---- */

/* Also called with the scheduler, before any script code: the classes must exist. */
static int make_classes(lua_State *L) {
    static const luaL_Reg task_meta[] = {{"__gc", collect_task}, {NULL, NULL}};
    static const luaL_Reg task_methods[] = {
        {"wait", task_wait}, {"cancel", task_cancel}, {"status", task_status}, {NULL, NULL}};
    static const luaL_Reg wait_meta[] = {{"__gc", collect_wait}, {NULL, NULL}};
    static const luaL_Reg timer_meta[] = {
        {"__gc", collect_sleeper}, {"__close", collect_sleeper}, {NULL, NULL}};
    value_new_class(L, TASK, task_meta, task_methods);
    value_new_class(L, WAIT, wait_meta, NULL);
    value_new_class(L, TIMER, timer_meta, NULL);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &registry_key); /* the scheduler, on top */
    return 0;
}

static int open_module(lua_State *L) {
    static const luaL_Reg functions[] = {{"spawn", loop_spawn},
                                         {"sleep", loop_sleep},
                                         {"is_task", loop_is_task},
                                         {"blame", loop_blame},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}

peri_status peri_lua_loop_new(peri_lua *lua, peri_loop *loop, peri_lua_report_fn fn, void *user,
                              peri_lua_loop **out, peri_error *err) {
    *out = NULL;
    peri_lua_loop *s = peri_calloc(1, sizeof *s);
    if (!s) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    *s = (peri_lua_loop){.lua = lua, .loop = loop, .report = fn, .user = user};
    s->ready_end = &s->ready;
    lua_State *L = peri_lua_main(lua);
    peri_status st = PERI_OK;
    if (!lua_checkstack(L, 4)) st = peri_fail(err, PERI_E_NOMEM, "out of memory");
    if (!st) {
        lua_pushcfunction(L, make_classes);
        lua_pushlightuserdata(L, s);
        st = peri_lua_call(lua, L, 1, 0, err);
    }
    if (!st) st = peri_lua_module(lua, "loop", open_module, err);
    if (st) {
        peri_free(s);
        return st;
    }
    *out = s;
    return PERI_OK;
}

void peri_lua_loop_free(peri_lua_loop *s) {
    peri_free(s);
}
