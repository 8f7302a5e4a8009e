/* SPDX-License-Identifier: MIT
 *
 * status.h - filling a peri_error, and naming codes. */
#ifndef PERI_BASE_STATUS_H
#define PERI_BASE_STATUS_H

#include <stdarg.h>
#include <stdbool.h>

#include "perigee/types.h"

/* Write code and formatted text into *err (ignored when NULL) and return code.  Text that does not
 * fit ends in "..." at a UTF-8 border; control bytes are shown as \xNN, so that a hostile file
 * never reaches the terminal.  Allocates nothing. */
peri_status peri_fail(peri_error *err, peri_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
peri_status peri_vfail(peri_error *err, peri_status code, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));
/* Put "context: " in front of an error on its way up; returns err->code (PERI_E_OTHER when NULL).
 */
peri_status peri_wrap(peri_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Copy NUL-terminated src to dst[room], with control characters, directional marks and bytes that
 * are no well-formed UTF-8 as \xNN.  false when it was cut; it then ends in "...". */
bool peri_escape(char *dst, size_t room, const char *src);
/* What an errno value means, in English and without its number; never NULL. */
const char *peri_errno_text(int number);

#define PERI_STR(literal) ((peri_str){(literal), sizeof(literal) - 1})
/* printf("%.*s", PERI_STR_ARG(s)); at most 80 bytes of it. */
#define PERI_STR_ARG(s) ((int)((s).size > 80 ? 80 : (s).size)), ((s).size ? (s).data : "")
peri_str peri_str_of(const char *nul_terminated);
int peri_str_eq(peri_str a, peri_str b);
int peri_str_eq_c(peri_str a, const char *nul_terminated);

#endif
