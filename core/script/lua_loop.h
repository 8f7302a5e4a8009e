/* SPDX-License-Identifier: MIT
 *
 * lua_loop.h - the scheduler of a script: its functions run as tasks, each a coroutine, and a call
 * that waits lets the other tasks run until what it waits for has happened.
 *
 * Waiting is like a condition variable: whoever provides something keeps a list of waiters; a C
 * function that finds it missing returns peri_lua_wait_for(...), and its continuation looks again.
 * Everything here happens on the loop's thread. */
#ifndef PERI_SCRIPT_LUA_LOOP_H
#define PERI_SCRIPT_LUA_LOOP_H

#include "net/loop.h"
#include "script/lua_sandbox.h"

typedef struct peri_lua_loop peri_lua_loop;

/* Who waits for one thing; zeroed = nobody.  Must not move while somebody waits, and be woken
 * before it goes away. */
typedef struct peri_lua_waiter peri_lua_waiter;
typedef struct peri_lua_waiters {
    peri_lua_waiter *first;
} peri_lua_waiters;

/* Told of errors that nobody in the script saw: message and traceback, several lines. */
typedef void (*peri_lua_report_fn)(void *user, const char *text);

/* One per script; lua and loop are borrowed.  Registers the module "loop" (see
 * scripts/meta/sys/loop.lua). */
peri_status peri_lua_loop_new(peri_lua *lua, peri_loop *loop, peri_lua_report_fn report, void *user,
                              peri_lua_loop **out, peri_error *err);
/* After the Lua state is closed; accepts NULL. */
void peri_lua_loop_free(peri_lua_loop *s);
peri_lua_loop *peri_lua_loop_of(lua_State *L);
peri_loop *peri_lua_loop_base(peri_lua_loop *s);

/* Make a task of the function and its n_arg arguments on top of L's stack (all popped) and push the
 * task.  May raise: out of memory. */
void peri_lua_spawn(lua_State *L, int n_arg);

/* Run the function and its n_arg arguments on the main thread's stack as the main task, until it
 * and all tasks have ended, peri_lua_loop_end was called, or the main task has failed.  No task is
 * left then: what still waited has been cancelled.  *result: the integer or boolean (true = 0,
 * false = 1) that main returned, 0 for none, 1 when it failed or all tasks were stuck.  Statuses
 * other than PERI_OK: memory for starting, the event queue. */
peri_status peri_lua_loop_run(peri_lua_loop *s, int n_arg, int *result, peri_error *err);
/* Let peri_lua_loop_run cancel all tasks and return. */
void peri_lua_loop_end(peri_lua_loop *s);
bool peri_lua_loop_is_ending(const peri_lua_loop *s);
/* Errors reported so far; those of tasks that nobody asked are all reported once the Lua state is
 * closed. */
uint64_t peri_lua_loop_n_error(const peri_lua_loop *s);

/* `return peri_lua_wait_for(L, &list, ctx, k)` from a C function: suspends the task until the list
 * is woken; then k(L, LUA_YIELD, ctx) runs with the stack as it was.  k must check that what it
 * waits for is there, and may wait again.  Raises where no waiting is possible (a finaliser, a sort
 * comparison, outside of any task).  When the task is cancelled k is not called: mark values to be
 * closed (lua_toclose) to be told. */
int peri_lua_wait_for(lua_State *L, peri_lua_waiters *on, lua_KContext ctx, lua_KFunction k);
/* Make all who wait on the list ready. */
void peri_lua_wake(peri_lua_loop *s, peri_lua_waiters *on);

/* Something outside the script is under way that may wake it: a timer, a request, a job.  While the
 * count is above 0 a script in which all tasks wait is no deadlock. */
void peri_lua_hold(peri_lua_loop *s);
void peri_lua_release(peri_lua_loop *s);

#endif
