/* SPDX-License-Identifier: MIT
 *
 * host.h - what the program lends a script: its terminal, its arguments, its Ctrl-C. */
#ifndef PERI_APP_HOST_H
#define PERI_APP_HOST_H

#include <jansson.h>

#include "opts.h"

typedef struct peri_job_spec {
    const char *driver;   /* "run": scripts/perigee/cli/run.lua */
    json_t *arguments;    /* for the driver; taken */
    peri_opt_list allow;  /* --allow; borrowed */
    uint64_t seed;        /* of sessions that name none */
    const char *progress; /* what is shown beside a bar; NULL: "loading" */
    uint32_t slice_ms;    /* longest run of Lua code between two waits; 0 = the default */
} peri_job_spec;

/* Run a driver to its end.  Returns the exit status, after errors were reported. */
int peri_host_run(const peri_common *c, const peri_job_spec *job);

/* A list of texts as the member `name` of o; none where it is empty.  False after an error was
 * reported. */
bool peri_host_list(json_t *o, const char *name, const peri_opt_list *from);

/* json_string that reports what is no UTF-8; `what` names it.  False: *to is NULL. */
bool peri_host_text(const char *what, const char *text, size_t size, json_t **to);

#endif
