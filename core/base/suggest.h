/* SPDX-License-Identifier: MIT
 *
 * suggest.h - the nearest known name, for messages about unknown ones. */
#ifndef PERI_BASE_SUGGEST_H
#define PERI_BASE_SUGGEST_H

#include <stddef.h>

/* Edits (insert, delete, replace, swap neighbours) from a to b; names over 63 bytes count as far
 * apart. */
unsigned peri_edit_distance(const char *a, const char *b);
/* The name nearest to `word` at most a third of its length away (at least 1 edit), or NULL. */
const char *peri_nearest(const char *word, const char *const *names, size_t n);

#endif
