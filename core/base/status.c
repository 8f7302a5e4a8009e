/* SPDX-License-Identifier: MIT
 *
 * status.c - error texts: formatting, escaping, cutting to length.
 *
 * Owns the rule that text from files can never reach a terminal raw: whatever is no printable,
 * well-formed UTF-8 leaves as \xNN.  Invariants: err->text is NUL-terminated valid UTF-8 and the
 * functions here neither allocate nor touch errno's owner. */
#define _GNU_SOURCE
#include "base/status.h"

#include <stdio.h>
#include <string.h>

#include "base/compiler.h"

const char *peri_status_name(peri_status code) {
    switch (code) {
    case PERI_OK:
        return "OK";
#define NAME_CASE(name, number, text)                                                              \
    case (number):                                                                                 \
        return #name;
        PERI_STATUS_LIST(NAME_CASE)
#undef NAME_CASE
    default:
        return "?";
    }
}

const char *peri_status_text(peri_status code) {
    switch (code) {
    case PERI_OK:
        return "success";
#define TEXT_CASE(name, number, text)                                                              \
    case (number):                                                                                 \
        return text;
        PERI_STATUS_LIST(TEXT_CASE)
#undef TEXT_CASE
    default:
        return "unknown status";
    }
}

/* Bytes of the well-formed UTF-8 character at s, and its code point; 0 when there is none.
 * Source: Unicode 14, table 3-7 (well-formed byte sequences). */
static size_t utf8_length(const unsigned char *s, uint32_t *cp) {
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (n == 0 || s[0] > 0xf4) return 0;
    *cp = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0; /* the final NUL stops here too */
        *cp = *cp << 6 | (s[i] & 0x3fu);
    }
    if (n == 3 && (*cp < 0x800 || (*cp >= 0xd800 && *cp < 0xe000))) return 0;
    if (n == 4 && (*cp < 0x10000 || *cp > 0x10ffff)) return 0;
    return n;
}

/* Would it move the cursor, switch colours or reorder the line?  C0, DEL, C1, line and paragraph
 * separators, and the directional marks, embeddings and isolates. */
static int is_unprintable(uint32_t cp) {
    return cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0x200e || cp == 0x200f ||
           (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069) || cp == 0xfeff;
}

bool peri_escape(char *dst, size_t room, const char *src) {
    const unsigned char *s = (const unsigned char *)src;
    size_t n = 0, keep = 0; /* keep: where "..." still fits behind */
    if (room == 0) return false;
    while (*s != 0) {
        char piece[17];
        uint32_t cp = 0;
        size_t used = utf8_length(s, &cp), len;
        if (used != 0 && !is_unprintable(cp)) {
            memcpy(piece, s, used);
            len = used;
        } else {
            if (used == 0) used = 1;
            len = 0;
            for (size_t i = 0; i < used; i++)
                len += (size_t)snprintf(piece + len, sizeof piece - len, "\\x%02x", s[i]);
        }
        if (n + 3 < room) keep = n;
        if (n + len >= room) {
            if (keep + 4 > room) keep = 0;
            snprintf(dst + keep, room - keep, "...");
            return false;
        }
        memcpy(dst + n, piece, len);
        n += len;
        s += used;
    }
    dst[n] = 0;
    return true;
}

peri_status peri_vfail(peri_error *err, peri_status code, const char *fmt, va_list ap) {
    /* An escaped byte takes four; longer text than this is cut either way. */
    char raw[sizeof err->text * 2];
    if (err == NULL) return code;
    if (vsnprintf(raw, sizeof raw, fmt, ap) < 0) snprintf(raw, sizeof raw, "unprintable message");
    err->code = code;
    peri_escape(err->text, sizeof err->text, raw);
    return code;
}

peri_status peri_fail(peri_error *err, peri_status code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    peri_vfail(err, code, fmt, ap);
    va_end(ap);
    return code;
}

peri_status peri_wrap(peri_error *err, const char *fmt, ...) {
    char context[sizeof err->text];
    char old[sizeof err->text];
    va_list ap;
    if (err == NULL) return PERI_E_OTHER;
    va_start(ap, fmt);
    if (vsnprintf(context, sizeof context, fmt, ap) < 0) context[0] = 0;
    va_end(ap);
    memcpy(old, err->text, sizeof old);
    return peri_fail(err, err->code, "%s: %s", context, old);
}

const char *peri_errno_text(int number) {
    const char *text = strerrordesc_np(number);
    return text ? text : "unknown system error";
}

peri_str peri_str_of(const char *nul_terminated) {
    peri_str s = {nul_terminated, nul_terminated ? strlen(nul_terminated) : 0};
    return s;
}

int peri_str_eq(peri_str a, peri_str b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

int peri_str_eq_c(peri_str a, const char *nul_terminated) {
    return peri_str_eq(a, peri_str_of(nul_terminated));
}
