/* SPDX-License-Identifier: MIT
 *
 * log.c - hands one escaped line per call to the installed sink, or drops it. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/status.h"

#include "base/compiler.h"

enum { LINE_BYTES = 1024 }; /* longer lines end in "..." */

static peri_log_fn sink;
static void *sink_user;

void peri_log_set(peri_log_fn fn, void *user) {
    sink = fn;
    sink_user = user;
}

void peri_log(int level, const char *fmt, ...) {
    char raw[LINE_BYTES * 2], line[LINE_BYTES];
    if (sink == NULL) return;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    peri_escape(line, sizeof line, raw);
    sink(sink_user, level, line);
}
