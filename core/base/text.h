/* SPDX-License-Identifier: MIT
 *
 * text.h - a growing byte buffer.  Appending after a failed append does nothing and stays failed,
 * so a writer checks once at the end. */
#ifndef PERI_BASE_TEXT_H
#define PERI_BASE_TEXT_H

#include <stdbool.h>

#include "perigee/types.h"

typedef struct peri_text {
    char *data; /* NUL-terminated once anything was appended */
    size_t size, room;
    bool failed; /* an allocation failed */
} peri_text;

/* Make sure that n more bytes fit without moving data; false, and failed, when memory is out. */
bool peri_text_reserve(peri_text *b, size_t n);
void peri_text_add(peri_text *b, const void *data, size_t n);
void peri_text_add_str(peri_text *b, const char *nul_terminated);
void peri_text_addf(peri_text *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void peri_text_fini(peri_text *b); /* frees and zeroes */

#endif
