/* SPDX-License-Identifier: MIT
 *
 * progress.h - a line on stderr while something slow goes on. */
#ifndef PERI_APP_PROGRESS_H
#define PERI_APP_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct peri_progress {
    double start, last;
    bool want, is_shown;
    const char *what; /* "loading" when NULL; kept by peri_progress_end */
} peri_progress;

/* want: stderr is a terminal and may be written to.  p->what is set before, or NULL. */
void peri_progress_begin(peri_progress *p, bool want);
/* Shows a bar once half a second has passed, at most ten times a second. */
void peri_progress_show(peri_progress *p, uint64_t done, uint64_t total);
/* Takes the bar away. */
void peri_progress_end(peri_progress *p);

#endif
