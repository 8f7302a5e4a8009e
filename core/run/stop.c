/* SPDX-License-Identifier: MIT
 *
 * stop.c - see stop.h.  Byte by byte, so that the cuts between the pieces do not matter; a text in
 * which one string is complete never waits for a longer one. */
#include "run/stop.h"

#include <string.h>

#include "base/compiler.h"

/* Does the text held end with the first n bytes of stop? */
static bool ends_with(const peri_text *held, const char *stop, size_t n) {
    return n <= held->size && memcmp(held->data + held->size - n, stop, n) == 0;
}

/* The longest string that is complete now, or -1. */
static int32_t complete(const peri_stopper *s) {
    int32_t found = -1;
    size_t longest = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        size_t n = strlen(s->stop[i]);
        if (n <= longest || !ends_with(&s->held, s->stop[i], n)) continue;
        longest = n;
        found = (int32_t)i;
    }
    return found;
}

/* How many bytes at the end are the beginning of a string. */
static size_t undecided(const peri_stopper *s) {
    size_t most = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        size_t n = strlen(s->stop[i]);
        if (n > s->held.size + 1) n = s->held.size + 1;
        for (size_t k = n ? n - 1 : 0; k > most; k--)
            if (ends_with(&s->held, s->stop[i], k)) most = k;
    }
    return most;
}

/* The first n bytes that are held go out. */
static void let_go(peri_stopper *s, size_t n, peri_text *out) {
    if (!n) return;
    peri_text_add(out, s->held.data, n);
    s->held.size -= n;
    memmove(s->held.data, s->held.data + n, s->held.size);
}

int32_t peri_stopper_feed(peri_stopper *s, const char *piece, size_t size, peri_text *out) {
    if (!s->n) {
        peri_text_add(out, piece, size);
        return -1;
    }
    for (size_t i = 0; i < size; i++) {
        peri_text_add(&s->held, piece + i, 1);
        if (s->held.failed) {
            out->failed = true;
            return -1;
        }
        int32_t found = complete(s);
        if (found < 0) continue;
        let_go(s, s->held.size - strlen(s->stop[found]), out);
        s->held.size = 0;
        return found;
    }
    let_go(s, s->held.size - undecided(s), out);
    return -1;
}

void peri_stopper_end(peri_stopper *s, peri_text *out) {
    let_go(s, s->held.size, out);
}

void peri_stopper_fini(peri_stopper *s) {
    peri_text_fini(&s->held);
}
