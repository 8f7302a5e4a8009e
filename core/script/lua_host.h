/* SPDX-License-Identifier: MIT
 *
 * lua_host.h - perigee.sys.host: what our drivers get from the program around the script: its
 * arguments, output, lines of input, interrupts, and the loading of the user's file.  Described in
 * scripts/meta/sys/host.lua. */
#ifndef PERI_SCRIPT_LUA_HOST_H
#define PERI_SCRIPT_LUA_HOST_H

#include "net/worker.h"
#include "script/lua_loop.h"
#include "script/lua_script.h"

/* The one line that is being read, or was read and not taken yet. */
typedef struct peri_lua_reader {
    enum { PERI_READER_IDLE, PERI_READER_READING, PERI_READER_READY } state;
    peri_job job;
    char *prompt, *line; /* line NULL: end of input, or failed */
    peri_status status;
    peri_lua_waiters waiters;
} peri_lua_reader;

typedef struct peri_lua_host {
    const peri_script_setup *o; /* these four are set by the owner */
    peri_loop *loop;
    peri_lua *lua;
    peri_lua_loop *s;
    peri_worker *terminal; /* made with the first read_line */
    peri_watch *watch;
    peri_lua_reader reader;
    bool is_interrupted;
    bool is_handling; /* the driver has not dealt with the last interrupt */
    bool has_write_failed;
} peri_lua_host;

/* Offer the module "host" and watch for interrupts.  p must not move until the Lua state is closed;
 * then peri_lua_host_close, which waits for a read_line that is under way. */
peri_status peri_lua_host_open(peri_lua_host *p, peri_error *err);
void peri_lua_host_close(peri_lua_host *p);
/* Write to the program; after a failure nothing more is written and the script ends. */
void peri_lua_host_write(peri_lua_host *p, int stream, const char *data, size_t size);

#endif
