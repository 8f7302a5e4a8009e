/* SPDX-License-Identifier: MIT
 *
 * stop.h - stop strings: text comes out only when it can no longer become part of one.
 *
 * The result does not depend on where the pieces are cut: the first string to be complete ends the
 * text, of several complete at the same byte the longest; the text ends before it. */
#ifndef PERI_RUN_STOP_H
#define PERI_RUN_STOP_H

#include "base/text.h"
#include "perigee/types.h"

typedef struct peri_stopper {
    const char *const *stop; /* [n], borrowed, NUL-terminated; an empty one is never found */
    uint32_t n;
    peri_text held;
} peri_stopper;

/* Add a piece.  Text that is safe is appended to out.  Returns the number of the stop string that
 * ends the text, or -1.  After that nothing more may be fed. */
int32_t peri_stopper_feed(peri_stopper *s, const char *piece, size_t size, peri_text *out);
/* The text ends otherwise: release what was held. */
void peri_stopper_end(peri_stopper *s, peri_text *out);
void peri_stopper_fini(peri_stopper *s);

#endif
