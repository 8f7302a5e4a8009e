/* SPDX-License-Identifier: MIT
 *
 * lua_run.c - slices: running Lua code until it returns, waits, fails, or its time is over.
 *
 * Trusted and user code run without a hook, which would cost a third of their speed.  Instead each
 * slice sets a timer whose signal comes to the owning thread.  The handler may call lua_sethook:
 * Lua documents it as safe inside a signal, on the thread that runs the state.  What it needs is
 * the coroutine that runs now, so every resume goes through lua_frame_push, which keeps it in
 * `running`.
 *
 * No gap: a resume first sets `running`, then looks at is_expired; the handler first sets
 * is_expired, then arms `running`.  Whichever comes first, the other notices.  The clock that
 * counts is the thread's processor time; the timer is set again for the rest when the machine was
 * busy with something else.
 *
 * Two facts of liblua 5.4 shape the rest.  An error raised inside a hook calls the message handler
 * while hooks are off: xpcall's handlers are therefore ours (lua_guard.c) and call nothing of the
 * script once is_expired is set.  And a coroutine that dies inside a hook keeps hooks off for good:
 * such coroutines, known by the hook they still carry, are never entered again, not even to close
 * their variables.
 *
 * One loop of the VM sees neither hook nor poll: calling a table whose __call is a table, and so
 * on, which adds an argument each time and shifts the others, in a time that grows with their
 * square.  It ends when the stack cannot grow, which the allocator refuses (is_over) once the slice
 * is over, or a quarter of it when such a chain asks: the next time would be four times as late.
 * It is known by a frame that has grown by exactly what was added to the stack the last time, which
 * nothing else does.
 *
 * Outside lua_pcall and lua_resume nothing here may allocate in the state, or it would end the
 * process. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/status.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid /* glibc before 2.38 does not name it */
#endif

enum {
    MAX_TRACE = 20,
    MAX_TEXT = 8192, /* bytes of an error text */
    NS_PER_MS = 1000000,
    STACK_VALUE = 16, /* bytes of a value on Lua's stack, and how many it has in reserve */
    STACK_EXTRA = 5
};

const char lua_key_wait = 'y';

/* The state whose slice runs on this thread. */
static _Thread_local peri_lua *volatile armed;
static int slice_signal; /* 0: none could be had */

/* ---- time ---------------------------------------------------------------------------------- */

static int64_t cpu_now(void) {
    struct timespec t = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* ns 0 stops it. */
static void set_timer(peri_lua *l, int64_t ns) {
    if (ns != 0 && ns < NS_PER_MS) ns = NS_PER_MS;
    struct itimerspec t = {.it_value = {.tv_sec = (time_t)(ns / INT64_C(1000000000)),
                                        .tv_nsec = (long)(ns % INT64_C(1000000000))}};
    timer_settime(l->timer, 0, &t, NULL);
}

static void on_hook(lua_State *L, lua_Debug *ar) {
    peri_lua *l = peri_lua_of(L);
    (void)ar;
    if (l->is_expired) lua_raise_expired(L);
    lua_sethook(L, NULL, 0, 0); /* left over from an earlier slice */
    if (l->is_expired) lua_sethook(L, on_hook, LUA_MASKCOUNT, 1);
}

/* The slice is over. */
static void expire(peri_lua *l) {
    l->is_expired = 1;
    l->budget.is_over = 1;
    lua_sethook(l->running, on_hook, LUA_MASKCOUNT, 1);
}

static void on_timer(int number) {
    int saved = errno;
    peri_lua *l = armed;
    (void)number;
    if (l != NULL && !l->is_expired) {
        int64_t left = l->slice_ns - (cpu_now() - l->start_ns);
        if (left > 0)
            set_timer(l, left);
        else
            expire(l);
    }
    errno = saved;
}

bool lua_is_endless(void *owner, size_t bytes) {
    peri_lua *l = owner;
    if (l != armed || l->is_expired || l->running == NULL) return false;
    int64_t n = lua_gettop(l->running);
    bool is_next = l->running == l->grown && n - l->n_grown == l->n_more;
    l->grown = l->running;
    l->n_grown = n;
    l->n_more = ((int64_t)(bytes / STACK_VALUE) - STACK_EXTRA) / 2;
    if (!is_next || cpu_now() - l->start_ns < l->slice_ns / 4) return false;
    expire(l);
    return true;
}

bool lua_is_stopped(lua_State *co) {
    int status = lua_status(co);
    return status != LUA_OK && status != LUA_YIELD && lua_gethook(co) == on_hook;
}

/* Once per process: the highest real-time signal that nobody handles. */
static void take_signal(void) {
    for (int number = SIGRTMAX; number >= SIGRTMIN && slice_signal == 0; number--) {
        struct sigaction now, ours = {.sa_handler = on_timer, .sa_flags = SA_RESTART | SA_ONSTACK};
        sigemptyset(&ours.sa_mask);
        if (sigaction(number, NULL, &now) != 0 || (now.sa_flags & SA_SIGINFO) != 0 ||
            now.sa_handler != SIG_DFL)
            continue;
        if (sigaction(number, &ours, NULL) == 0) slice_signal = number;
    }
}

void lua_slice_drop(peri_lua *l) {
    if (l->has_timer) timer_delete(l->timer);
    l->has_timer = false;
}

/* A timer that signals this thread. */
static peri_status bind_timer(peri_lua *l, peri_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (l->has_timer && pthread_equal(l->owner, pthread_self())) return PERI_OK;
    lua_slice_drop(l);
    pthread_once(&once, take_signal);
    if (slice_signal == 0)
        return peri_fail(err, PERI_E_UNSUPPORTED, "Lua: every real-time signal is taken");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, slice_signal);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = slice_signal};
    e.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &e, &l->timer) != 0)
        return peri_fail(err, PERI_E_OTHER, "Lua: cannot create a timer (error %d)", errno);
    l->has_timer = true;
    l->owner = pthread_self();
    return PERI_OK;
}

/* ---- frames and slices --------------------------------------------------------------------- */

void lua_frame_push(peri_lua *l, lua_frame *f, lua_State *L) {
    f->L = L;
    f->below = l->frame;
    f->is_host = false;
    l->frame = f;
    l->running = L;
}

void lua_frame_pop(peri_lua *l, lua_frame *f) {
    l->frame = f->below;
    l->running = f->below != NULL ? f->below->L : NULL;
    if (l->is_expired && l->running != NULL) /* the handler armed what ran above */
        lua_sethook(l->running, on_hook, LUA_MASKCOUNT, 1);
}

static peri_status slice_begin(peri_lua *l, lua_frame *f, lua_State *L, peri_error *err) {
    if (l->depth == 0) {
        peri_status status = bind_timer(l, err);
        if (status != PERI_OK) return status;
        l->is_expired = 0;
        l->stop_text[0] = 0;
    } else if (l->is_expired) {
        return peri_fail(err, PERI_E_TIMEOUT, "Lua: the slice is over");
    }
    lua_frame_push(l, f, L);
    f->is_host = true;
    if (l->depth++ == 0) {
        l->start_ns = cpu_now();
        l->outer = armed;
        armed = l;
        set_timer(l, l->slice_ns);
    }
    return PERI_OK;
}

static void slice_end(peri_lua *l, lua_frame *f) {
    if (--l->depth == 0) {
        armed = l->outer;
        set_timer(l, 0);
        if (l->outer != NULL) /* its signal may have come while ours was armed */
            set_timer(l->outer, l->outer->slice_ns - (cpu_now() - l->outer->start_ns));
        int status = lua_status(f->L);
        if (status == LUA_OK || status == LUA_YIELD) lua_sethook(f->L, NULL, 0, 0);
        l->is_expired = 0;
        l->budget.is_over = 0;
    }
    lua_frame_pop(l, f);
}

/* ---- where --------------------------------------------------------------------------------- */

/* Modules of ours are loaded as "=perigee..."; what else is written in Lua is the user's. */
static bool is_user(const lua_Debug *ar) {
    return ar->what[0] != 'C' && strncmp(ar->source, "=perigee", 8) != 0;
}

static bool where_in(lua_State *L, char *out, size_t room) {
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (!is_user(&ar) || ar.currentline < 0) continue;
        snprintf(out, room, "%s:%d", ar.short_src, ar.currentline);
        return true;
    }
    return false;
}

void lua_user_where(peri_lua *l, lua_State *L, char *out, size_t room) {
    out[0] = 0;
    if (where_in(L, out, room)) return;
    for (lua_frame *f = l->frame; f != NULL; f = f->below)
        if (f->L != L && where_in(f->L, out, room)) return;
}

/* Fill in stop_text, once a slice. */
static void note_place(peri_lua *l, lua_State *L) {
    char where[100];
    if (l->stop_text[0] != 0) return;
    lua_user_where(l, L, where, sizeof where);
    snprintf(l->stop_text, sizeof l->stop_text,
             "%s%sscript ran %" PRId64
             " ms without waiting; perigee.sleep(0) in a long loop lets others go on",
             where, where[0] ? ": " : "", l->slice_ns / NS_PER_MS);
}

_Noreturn void lua_raise_expired(lua_State *L) {
    peri_lua *l = peri_lua_of(L);
    lua_sethook(L, on_hook, LUA_MASKCOUNT, 1); /* what is left of this coroutine stops as well */
    note_place(l, L);
    peri_lua_push_error(L, PERI_E_TIMEOUT, l->stop_text);
    lua_error(L);
    __builtin_unreachable();
}

void peri_lua_poll(lua_State *L) {
    if (peri_lua_of(L)->is_expired) lua_raise_expired(L);
}

/* ---- failures ------------------------------------------------------------------------------ */

static void note_text(peri_lua *l, const char *s, size_t size) {
    peri_text_add(&l->trace, s, size > MAX_TEXT ? MAX_TEXT : size);
}

/* Argument: an error object.  Its text goes to l->trace, its code is returned. */
static int describe(lua_State *L) {
    peri_lua *l = peri_lua_of(L);
    peri_status code = PERI_E_OTHER;
    size_t size;
    if (lua_is_error(L, 1, &code)) {
        lua_getfield(L, 1, "message");
        if (lua_type(L, -1) == LUA_TSTRING) lua_replace(L, 1);
        lua_settop(L, 1);
    }
    const char *s = luaL_tolstring(L, 1, &size);
    note_text(l, s, size);
    lua_pushinteger(L, code);
    return 1;
}

/* The same for the object on top of `from`, which may be a dead coroutine. */
static peri_status note_object(peri_lua *l, lua_State *from) {
    lua_State *L = l->L;
    lua_frame frame;
    peri_status code = PERI_E_OTHER;
    if (!lua_checkstack(L, 4) || !lua_checkstack(from, 1)) return PERI_E_NOMEM;
    lua_frame_push(l, &frame, L);
    frame.is_host = true;
    lua_pushcfunction(L, describe);
    lua_pushvalue(from, from == L ? -2 : -1);
    if (from != L) lua_xmove(from, L, 1);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK)
        code = (peri_status)lua_tointeger(L, -1);
    else
        note_text(l, "an error that has no text", 25);
    lua_pop(L, 1);
    lua_frame_pop(l, &frame);
    return code;
}

static void note_frames(peri_lua *l, lua_State *L) {
    lua_Debug ar;
    int n = 0;
    for (int level = 0; n < MAX_TRACE && lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sln", &ar);
        if (!is_user(&ar)) continue;
        n++;
        if (ar.what[0] == 'm')
            peri_text_addf(&l->trace, "\n  %s:%d: in the script", ar.short_src, ar.currentline);
        else
            peri_text_addf(&l->trace, "\n  %s:%d: in function %s", ar.short_src, ar.currentline,
                           ar.name != NULL ? ar.name : "?");
    }
}

/* The report of a slice that is over. */
static peri_status note_expired(peri_lua *l, lua_State *L) {
    note_place(l, L);
    peri_text_fini(&l->trace);
    peri_text_add_str(&l->trace, l->stop_text);
    return PERI_E_TIMEOUT;
}

/* Begin a report: what failed.  The error object is on top of L. */
static peri_status note_failure(peri_lua *l, lua_State *L, int status) {
    peri_text_fini(&l->trace);
    if (l->is_expired) return note_expired(l, L);
    if (status != LUA_ERRMEM) {
        peri_status code = note_object(l, L);
        return l->is_expired ? note_expired(l, L) : code; /* its __tostring may run long */
    }
    char where[100];
    lua_user_where(l, L, where, sizeof where);
    peri_text_addf(&l->trace, "%s%s", where, where[0] ? ": " : "");
    if (l->budget.is_system_out)
        peri_text_add_str(&l->trace, "the system is out of memory");
    else
        peri_text_addf(&l->trace, "script used up its %zu MiB of memory",
                       l->budget.max_bytes >> 20);
    return PERI_E_NOMEM;
}

static peri_status report(peri_lua *l, peri_status code, size_t head, peri_error *err) {
    if (l->trace.failed || l->trace.data == NULL)
        return peri_fail(err, PERI_E_NOMEM, "Lua: out of memory");
    return peri_fail(err, code, "%.*s", head > 4000 ? 4000 : (int)head, l->trace.data);
}

const char *peri_lua_error_text(const peri_lua *l) {
    return l->trace.data != NULL ? l->trace.data : "";
}

/* ---- running ------------------------------------------------------------------------------- */

peri_status peri_lua_resume(peri_lua *l, lua_State *co, int n_arg, int *n_result, peri_error *err) {
    lua_frame frame;
    lua_State *from = l->running;
    *n_result = 0;
    int before = lua_status(co);
    if (before != LUA_OK && before != LUA_YIELD)
        return peri_fail(err, PERI_E_INVALID, "Lua: the coroutine is dead");
    peri_status status = slice_begin(l, &frame, co, err);
    if (status != PERI_OK) return status;
    lua_set_waiting(co, false);
    int rc = lua_resume(co, from, n_arg, n_result);
    if (rc == LUA_OK || rc == LUA_YIELD) {
        lua_set_waiting(co, rc == LUA_YIELD); /* for the host, not for scripts that know it */
        if (rc == LUA_YIELD && *n_result > 0 && lua_touserdata(co, -1) == &lua_key_wait) {
            lua_pop(co, 1);
            --*n_result;
        }
    } else {
        *n_result = 0;
        peri_status code = note_failure(l, co, rc);
        size_t head = l->trace.size;
        note_frames(l, co);
        status = report(l, code, head, err);
    }
    slice_end(l, &frame);
    return status;
}

/* Message handler of peri_lua_call, which runs while the frames are still there: the report is made
 * here; the error object becomes its code. */
static int call_failed(lua_State *L) {
    peri_lua *l = peri_lua_of(L);
    peri_status code;
    peri_text_fini(&l->trace);
    if (l->is_expired) {
        code = note_expired(l, L);
    } else {
        lua_pushcfunction(L, describe);
        lua_pushvalue(L, 1);
        lua_call(L, 1, 1);
        code = (peri_status)lua_tointeger(L, -1);
    }
    l->trace_head = l->trace.size;
    note_frames(l, L);
    lua_pushinteger(L, code);
    return 1;
}

peri_status peri_lua_call(peri_lua *l, lua_State *L, int n_arg, int n_result, peri_error *err) {
    lua_frame frame;
    int base = lua_gettop(L) - n_arg;
    peri_status status = PERI_E_NOMEM;
    if (!lua_checkstack(L, 8))
        peri_fail(err, PERI_E_NOMEM, "Lua: out of memory");
    else
        status = slice_begin(l, &frame, L, err);
    if (status != PERI_OK) {
        lua_settop(L, base - 1);
        return status;
    }
    lua_pushcfunction(L, call_failed);
    lua_insert(L, base);
    l->trace_head = 0;
    int rc = lua_pcall(L, n_arg, n_result, base);
    lua_remove(L, base);
    if (rc != LUA_OK) {
        peri_status code = (peri_status)lua_tointeger(L, -1);
        if (l->trace_head == 0) { /* the handler did not run or did not end */
            code = note_failure(l, L, rc);
            l->trace_head = l->trace.size;
        }
        status = report(l, code, l->trace_head, err);
        lua_settop(L, base - 1);
    }
    slice_end(l, &frame);
    return status;
}

peri_status peri_lua_close_thread(peri_lua *l, lua_State *co, peri_error *err) {
    lua_frame frame;
    peri_status status = slice_begin(l, &frame, l->running != NULL ? l->running : l->L, err);
    if (status != PERI_OK) return status;
    lua_set_waiting(co, false);
    int rc = lua_guard_close(l->running, co);
    if (rc != LUA_OK && rc != LUA_YIELD) {
        peri_status code = note_failure(l, co, rc);
        status = report(l, code, l->trace.size, err);
    }
    slice_end(l, &frame);
    return status;
}

/* ---- waiting ------------------------------------------------------------------------------- */

int peri_lua_wait(lua_State *L, int n, lua_KContext ctx, lua_KFunction k) {
    peri_lua *l = peri_lua_of(L);
    for (lua_frame *f = l->frame; f != NULL; f = f->below) {
        if (!lua_isyieldable(f->L))
            luaL_error(L, "cannot wait here: a function called from C (a comparison, a "
                          "replacement, a __tostring) must not wait");
        if (f->is_host) break;
    }
    lua_pushlightuserdata(L, (void *)&lua_key_wait);
    return lua_yieldk(L, n + 1, ctx, k);
}

/* ---- what a coroutine carries -------------------------------------------------------------- */

static uintptr_t *extra(lua_State *L) {
    return lua_getextraspace(L);
}

peri_lua *peri_lua_of(lua_State *L) {
    return (peri_lua *)(*extra(L) & ~(uintptr_t)1);
}

bool lua_is_waiting(lua_State *co) {
    return *extra(co) & 1;
}

void lua_set_waiting(lua_State *co, bool is_waiting) {
    *extra(co) = (*extra(co) & ~(uintptr_t)1) | is_waiting;
}
