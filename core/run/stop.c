/* SPDX-License-Identifier: MIT
 *
 * stop.c - see stop.h.  Of several stop strings in the text the one that begins first counts, and
 * of those the first in the list. */
#include "run/stop.h"

#include <string.h>

#include "base/compiler.h"

/* Does held[at..] begin with the string, or, where it is shorter, is it a beginning of it? */
static bool may_be(const peri_stopper *s, size_t at, const char *stop, bool *is_whole) {
    size_t left = s->held.size - at, n = strlen(stop);
    *is_whole = n <= left;
    return memcmp(s->held.data + at, stop, n < left ? n : left) == 0;
}

int32_t peri_stopper_feed(peri_stopper *s, const char *piece, size_t size, peri_text *out) {
    if (!s->n) {
        peri_text_add(out, piece, size);
        return -1;
    }
    peri_text_add(&s->held, piece, size);
    if (s->held.failed) {
        out->failed = true;
        return -1;
    }
    size_t at = 0;
    bool is_held = false;
    for (; at < s->held.size && !is_held; at += !is_held)
        for (uint32_t i = 0; i < s->n; i++) {
            bool is_whole;
            if (!may_be(s, at, s->stop[i], &is_whole)) continue;
            if (is_whole) {
                peri_text_add(out, s->held.data, at);
                s->held.size = 0;
                return (int32_t)i;
            }
            is_held = true;
        }
    peri_text_add(out, s->held.data, at);
    s->held.size -= at;
    memmove(s->held.data, s->held.data + at, s->held.size);
    return -1;
}

void peri_stopper_end(peri_stopper *s, peri_text *out) {
    peri_text_add(out, s->held.data, s->held.size);
    s->held.size = 0;
}

void peri_stopper_fini(peri_stopper *s) {
    peri_text_fini(&s->held);
}
