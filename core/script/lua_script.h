/* SPDX-License-Identifier: MIT
 *
 * lua_script.h - one whole run of a script: its state, scheduler, models, terminal, interrupts.
 * perigee.h (peri_script_run) says what each option means; the module perigee.sys.host is described
 * in scripts/meta/sys/host.lua. */
#ifndef PERI_SCRIPT_LUA_SCRIPT_H
#define PERI_SCRIPT_LUA_SCRIPT_H

#include "net/loop.h"
#include "run/load.h"

typedef struct peri_script_setup {
    const char *script_dir;   /* holds perigee/ */
    const peri_load_env *env; /* where models are loaded */
    peri_signal *interrupt;   /* raised by peri_script_interrupt */
    const char *version;      /* host.version */
    const char *entry, *arguments;
    const char *const *allow;
    size_t n_allow, max_bytes;
    uint32_t slice_ms;
    uint64_t seed;
    /* As peri_script_host. */
    void *user;
    peri_status (*write)(void *user, int stream, const char *data, size_t size);
    peri_status (*read_line)(void *user, const char *prompt, const char **line);
    bool (*ask)(void *user, const char *question);
    void (*progress)(void *user, const char *path, uint64_t done, uint64_t total);
    void (*keep_history)(void *user, bool is_kept);
} peri_script_setup;

enum { PERI_SCRIPT_INTERRUPTED = 130 };

peri_status peri_lua_script_run(const peri_script_setup *o, int *exit_status, peri_error *err);

#endif
