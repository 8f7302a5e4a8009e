/* SPDX-License-Identifier: MIT
 *
 * progress.c - the loading bar (progress.h). */
#include "progress.h"

#include <stdio.h>
#include <string.h>

#include "out.h"

enum { WIDTH = 24 };

void peri_progress_begin(peri_progress *p, bool want) {
    *p = (peri_progress){.start = peri_now(), .want = want, .what = p->what};
}

void peri_progress_show(peri_progress *p, uint64_t done, uint64_t total) {
    double now = peri_now(), share = total ? (double)done / (double)total : 0;
    if (!p->want || now - p->start < 0.5 || now - p->last < 0.1) return;
    char a[32], b[32], bar[WIDTH + 1];
    int full = share < 1 ? (int)(share * WIDTH) : WIDTH;
    memset(bar, '.', WIDTH);
    memset(bar, '#', (size_t)full);
    bar[WIDTH] = 0;
    fprintf(stderr, "\r%s [%s] %3.0f%%  %s of %s\033[K", p->what ? p->what : "loading", bar,
            share * 100, peri_bytes_show((double)done, a, sizeof a),
            peri_bytes_show((double)total, b, sizeof b));
    fflush(stderr);
    p->last = now;
    p->is_shown = true;
}

void peri_progress_end(peri_progress *p) {
    if (p->is_shown) fputs("\r\033[K", stderr);
    *p = (peri_progress){.what = p->what};
}
