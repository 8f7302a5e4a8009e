/* SPDX-License-Identifier: MIT
 *
 * lua_sandbox.h - a script's Lua state: limits, the trusted and the user environment, running code
 * in them, errors, waiting.
 *
 * A peri_lua is one lua_State with two environments:
 *   trusted  our modules below SCRIPT_DIR/perigee: `require` of "perigee", "perigee.NAME" and the C
 *            modules "perigee.sys.NAME"; raw access, stock setmetatable; no os, io, debug, package.
 *   user     the script and the .lua files beside it: allow-listed functions, read-only libraries
 * and modules, no new globals, text chunks only, no __gc, no access to foreign metatables. Both use
 * the same string, table, math, utf8 and coroutine libraries, whose functions look at the deadline
 * while they work.
 *
 * Limits: max_bytes for everything the state holds (buffers included), and slice_ms of processor
 * time between two returns to the host.  When a slice is over, a timer signal (the highest
 * real-time signal without a handler, taken once per process; the owning thread must leave it
 * unblocked) arms a hook on the coroutine that runs.  From then on every instruction raises
 * "FILE:LINE: script ran N ms without waiting"; no pcall, handler or coroutine stops it before it
 * has reached the host, which gets PERI_E_TIMEOUT and may go on with other coroutines of the state.
 *
 * One loop inside liblua looks at nothing: calls through a chain of tables that are each other's
 * __call.  It is broken when its stack has to grow, after at most a slice.
 *
 * Threads: one thread at a time uses a state; the timer follows to the thread that runs it. */
#ifndef PERI_SCRIPT_LUA_SANDBOX_H
#define PERI_SCRIPT_LUA_SANDBOX_H

#include <stdbool.h>

#include "script/lua_state.h"

typedef struct peri_lua peri_lua;

typedef struct peri_lua_options {
    uint32_t size;
    const char *script_dir; /* holds perigee/NAME.lua, our modules; NULL: none */
    size_t max_bytes;       /* 0: 64 MiB */
    uint32_t slice_ms;      /* 0: 500 */
    uint64_t seed;          /* of math.random */
    const char *work_dir;   /* relative paths of grants and of perigee.sys.fs start here; NULL: the
                               current folder */
    const char *config_dir; /* where grants.json keeps answers (see peri_lua_config_dir); NULL:
                               answers hold for this state only */
    const char *const *allow; /* [n_allow] "fs.read=DIR", "fs.write=DIR", "env=NAME" */
    size_t n_allow;
    void *user; /* first argument of the callbacks */
    /* What print and perigee.sys.out.write write; NULL drops it. */
    void (*print)(void *user, const char *text, size_t size);
    /* Ask the person whether the script may have what `question` names (one line of text); NULL:
     * nobody to ask, so the answer is no. */
    bool (*ask)(void *user, const char *question);
} peri_lua_options;

/* INVALID for a malformed option, NOT_FOUND for a granted folder that does not exist, UNSUPPORTED
 * for a capability that this version does not have (net, exec), NOMEM.  Strings are copied. */
peri_status peri_lua_open(const peri_lua_options *o, peri_lua **out, peri_error *err);
void peri_lua_close(peri_lua *l);              /* accepts NULL */
lua_State *peri_lua_main(peri_lua *l);         /* the main thread of the state */
peri_lua *peri_lua_of(lua_State *L);           /* the owner of any of its threads */
size_t peri_lua_used_bytes(const peri_lua *l); /* held now */
/* $XDG_CONFIG_HOME/perigee, else $HOME/.config/perigee; NULL when neither is set or memory is out.
 * The caller frees it with peri_free. */
char *peri_lua_config_dir(void);

/* ---- loading ------------------------------------------------------------------------------- */

/* Offer the C module "perigee.sys.NAME" to trusted code; `open` runs at its first require and
 * leaves the module.  `name` is borrowed for the life of the state; at most 32 modules.  Already
 * there: error, json, fs, grants, env, time, out. */
peri_status peri_lua_module(peri_lua *l, const char *name, lua_CFunction open, peri_error *err);
/* Read a user script (text, at most 1 MiB, a "#!" line is skipped) and leave its main function on
 * the main thread's stack.  Its folder becomes the root of the user's `require`, its SHA-256 the
 * key under which grants are kept.  CORRUPT "FILE:LINE: ..." when it does not compile. */
peri_status peri_lua_load_user(peri_lua *l, const char *path, peri_error *err);
/* The same for text in memory (a line of the REPL, a test); the folder stays as it was. */
peri_status peri_lua_load_text(peri_lua *l, const char *name, const char *text, size_t size,
                               peri_error *err);
/* Leave the value of the trusted module (e.g. "perigee.cli.run") on the main thread's stack, loaded
 * when it was not. */
peri_status peri_lua_require(peri_lua *l, const char *name, peri_error *err);

/* ---- running ------------------------------------------------------------------------------- */

/* Start or continue the coroutine co (made by lua_newthread and anchored by the caller) with the
 * n_arg values on its stack, in a slice of its own; nested in a running slice it shares that one.
 * PERI_OK: it returned or waits, which lua_status(co) tells (LUA_YIELD); *n_result values are on
 * its stack.  Else the coroutine is dead, *err says why, peri_lua_error_text has it in full, and
 * the error object is on top of co: TIMEOUT, NOMEM, OTHER, or the code of an err table. */
peri_status peri_lua_resume(peri_lua *l, lua_State *co, int n_arg, int *n_result, peri_error *err);
/* Protected call of a function and n_arg arguments on L's stack, in a slice as above.  It cannot
 * wait.  On failure nothing is left on the stack. */
peri_status peri_lua_call(peri_lua *l, lua_State *L, int n_arg, int n_result, peri_error *err);
/* End a coroutine that waits or failed: its pending to-be-closed variables are closed, in a slice.
 * Not after TIMEOUT: then nothing of it runs any more. */
peri_status peri_lua_close_thread(peri_lua *l, lua_State *co, peri_error *err);
/* The last failure with a traceback of the user's files, one frame a line; valid until the next
 * call that fails.  Empty when there was none. */
const char *peri_lua_error_text(const peri_lua *l);

/* ---- for C functions of modules ------------------------------------------------------------ */

/* Wait: leave the running C function, through every coroutine the user put in between, to the host,
 * whose peri_lua_resume returns with the n values on top of the stack.  When it resumes with
 * values, k is called with them on top.  Raises "cannot wait here" where Lua cannot yield (inside a
 * comparison of table.sort, a replacement function of gsub, a __tostring, ...).
 * Use: return peri_lua_wait(L, n, ctx, k); */
int peri_lua_wait(lua_State *L, int n, lua_KContext ctx, lua_KFunction k);
/* Call now and then in loops: raises when the slice is over. */
void peri_lua_poll(lua_State *L);
/* Push {code = "not_found", message = text}, which prints as its message: the name of the status in
 * lower case.  One read-only metatable for all. */
void peri_lua_push_error(lua_State *L, peri_status code, const char *text);
/* nil and the err table of *err: `return peri_lua_fail(L, &err);` */
int peri_lua_fail(lua_State *L, const peri_error *err);
/* Raise a caller's mistake at level 1 of Lua code: the line that called the running C function. */
_Noreturn void peri_lua_misuse(lua_State *L, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Push a read-only view of the table at idx, nested plain tables included; what the user's require
 * returns for our modules.  Taken once: later additions do not show. */
void peri_lua_freeze(lua_State *L, int idx);

#endif
