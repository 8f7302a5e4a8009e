/* SPDX-License-Identifier: MIT
 *
 * log.h - where the core says what it noticed.  The core never prints: the application installs a
 * sink (perigee.h peri_log_set); without one, messages are dropped.  One line per call, no newline.
 */
#ifndef PERI_BASE_LOG_H
#define PERI_BASE_LOG_H

#include "perigee/types.h"

enum { PERI_LOG_DEBUG = 0, PERI_LOG_INFO = 1, PERI_LOG_WARN = 2, PERI_LOG_ERROR = 3 };

typedef void (*peri_log_fn)(void *user, int level, const char *line);
/* Thread-safe to call the sink from any thread only if the sink is; set before threads start. */
void peri_log_set(peri_log_fn fn, void *user);
void peri_log(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
