/* SPDX-License-Identifier: MIT
 *
 * text.c - the growing byte buffer.  Room doubles; one byte beyond size always holds a NUL. */
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

#include "base/compiler.h"

bool peri_text_reserve(peri_text *b, size_t n) {
    size_t need;
    if (b->failed) return false;
    if (__builtin_add_overflow(b->size, n, &need) || need >= SIZE_MAX / 2) {
        b->failed = true;
        return false;
    }
    need++;
    if (need <= b->room) return true;
    size_t room = b->room < 64 ? 64 : b->room;
    while (room < need)
        room *= 2;
    char *p = peri_resize_array(b->data, room, 1);
    if (p == NULL) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->room = room;
    return true;
}

void peri_text_add(peri_text *b, const void *data, size_t n) {
    if (!peri_text_reserve(b, n)) return;
    if (n != 0) memcpy(b->data + b->size, data, n);
    b->size += n;
    b->data[b->size] = 0;
}

void peri_text_add_str(peri_text *b, const char *nul_terminated) {
    peri_text_add(b, nul_terminated, strlen(nul_terminated));
}

void peri_text_addf(peri_text *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0) b->failed = true;
    if (n >= 0 && peri_text_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->size, (size_t)n + 1, fmt, again);
        b->size += (size_t)n;
    }
    va_end(again);
    va_end(ap);
}

void peri_text_fini(peri_text *b) {
    peri_free(b->data);
    *b = (peri_text){0};
}
