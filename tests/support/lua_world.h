/* SPDX-License-Identifier: MIT
 *
 * lua_world.h - a sandboxed Lua state whose prints and questions a test sees. */
#ifndef PERI_TEST_LUA_WORLD_H
#define PERI_TEST_LUA_WORLD_H

#include "base/text.h"
#include "script/lua_sandbox.h"

/* ThreadSanitizer holds signals back until the next call into libc, which a loop in Lua never
 * makes: tests that wait for the end of a slice begin with this. */
#ifdef __SANITIZE_THREAD__
#define world_needs_signals() skip()
#else
#define world_needs_signals() ((void)0)
#endif

typedef struct world {
    peri_lua *l;
    peri_text out; /* what print wrote */
    bool answer;   /* to questions */
    char question[4200];
    int n_question;
    peri_error err;
} world;

/* Opens the state (slice_ms 0: 5000 here); fails the test when that fails.  w must not move. */
void open_world(world *w, peri_lua_options o);
void close_world(world *w);
/* Run the function on top of the main thread's stack as a coroutine of the host; its results stay
 * on the coroutine, which stays on the main thread's stack. */
peri_status run_top(world *w, lua_State **out, int *n);
/* Run text as the user's script "t.lua"; what it prints is in w->out, its error in w->err. */
peri_status run(world *w, const char *text);
/* The same with a C function as the script's first argument. */
peri_status run_with(world *w, const char *text, lua_CFunction f);
void expect_print(world *w, const char *text, const char *want);
void expect_error(world *w, const char *text, peri_status code, const char *want);
/* Does an ordinary script still work? */
void world_is_fine(world *w);
/* C function: the C module "perigee.sys.NAME" (argument 1), which scripts do not get. */
int sys_module(lua_State *L);

#endif
