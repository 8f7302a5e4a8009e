/* SPDX-License-Identifier: MIT
 *
 * sort.h - stable index sort with a fixed bound, for tables read from untrusted files.
 *
 * libc's qsort may allocate past our allocator and may be quadratic; this one is a merge sort. */
#ifndef PERI_BASE_SORT_H
#define PERI_BASE_SORT_H

#include <stdbool.h>

#include "perigee/types.h"

/* Does element a come before element b?  A strict weak order; ties keep their order. */
typedef bool (*peri_less_fn)(const void *user, uint32_t a, uint32_t b);

/* Sort index[n] (any numbers the callback understands).  At most n log2 n calls; 4 n bytes of
 * scratch, freed before returning.  NOMEM leaves index in some order. */
peri_status peri_sort_index(uint32_t *index, size_t n, peri_less_fn less, const void *user);

#endif
