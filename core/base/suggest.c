/* SPDX-License-Identifier: MIT
 *
 * suggest.c - optimal string alignment distance over short names.
 * Source: Damerau 1964; Levenshtein 1966. */
#include "base/suggest.h"

#include <string.h>

#include "base/compiler.h"

enum { MAX_NAME = 63 };

static unsigned min3(unsigned a, unsigned b, unsigned c) {
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

unsigned peri_edit_distance(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b);
    if (na > MAX_NAME || nb > MAX_NAME) return MAX_NAME;
    unsigned row[3][MAX_NAME + 2]; /* row i-2, i-1, i, rotating */
    for (unsigned j = 0; j <= nb; j++)
        row[0][j] = j;
    for (unsigned i = 1; i <= na; i++) {
        unsigned *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (unsigned j = 1; j <= nb; j++) {
            unsigned cost = a[i - 1] != b[j - 1];
            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + cost);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
    }
    return row[na % 3][nb];
}

const char *peri_nearest(const char *word, const char *const *names, size_t n) {
    unsigned limit = (unsigned)(strlen(word) / 3), best = limit > 1 ? limit + 1 : 2;
    const char *found = NULL;
    for (size_t i = 0; i < n; i++) {
        unsigned d = peri_edit_distance(word, names[i]);
        if (d < best) {
            best = d;
            found = names[i];
        }
    }
    return found;
}
