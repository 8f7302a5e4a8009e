/* SPDX-License-Identifier: MIT
 *
 * unicode.c - lenient UTF-8 decoding and the character classes tokenizers split by.
 *
 * Classes come from utf8proc.  Every byte sequence has one reading, on which all kinds agree:
 * encoded surrogates decode to what they spell, every other byte that starts no well-formed
 * character reads as U+FFFD by itself. */
#include <string.h>

#include <utf8proc.h>

#include "tok_int.h"

size_t tok_utf8_len(uint8_t lead) {
    if (lead < 0xC0) return 1;
    return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

size_t tok_utf8_get(const uint8_t *s, size_t n, uint32_t *cp, bool *ok) {
    uint8_t lead = s[0];
    *ok = true;
    *cp = lead;
    if (lead < 0x80) return 1;
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = tok_utf8_len(lead);
    uint32_t v = lead & (0x7Fu >> len);
    bool good = lead >= 0xC0 && lead < 0xF8 && len <= n;
    for (size_t i = 1; good && i < len; i++) {
        good = (s[i] & 0xC0) == 0x80;
        v = v << 6 | (s[i] & 0x3Fu);
    }
    if (good && v >= least[len] && v <= 0x10FFFF) {
        *cp = v;
        return len;
    }
    *ok = false;
    *cp = TOK_BAD_CP;
    return 1;
}

size_t tok_utf8_put(uint32_t cp, char *dst) {
    if (cp < 0x80) {
        dst[0] = (char)cp;
        return 1;
    }
    size_t len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--) {
        dst[i] = (char)(0x80 | (cp & 0x3F));
        cp >>= 6;
    }
    dst[0] = (char)((0xF00u >> len) | cp);
    return len;
}

size_t tok_utf8_check(const uint8_t *s, size_t n, size_t from) {
    size_t i = from;
    while (i < n) {
        uint64_t eight;
        if (n - i >= 8 && (memcpy(&eight, s + i, 8), (eight & 0x8080808080808080u) == 0)) {
            i += 8;
            continue;
        }
        uint32_t cp;
        bool ok;
        size_t len = tok_utf8_get(s + i, n - i, &cp, &ok);
        if (!ok || (cp >= 0xD800 && cp < 0xE000)) return i;
        i += len;
    }
    return n;
}

bool tok_is_space(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= '\t' && cp <= '\r');
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static utf8proc_category_t category(uint32_t cp) {
    return utf8proc_category((utf8proc_int32_t)cp);
}

bool tok_is_number(uint32_t cp) {
    if (cp < 0x80) return cp >= '0' && cp <= '9';
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

bool tok_is_mark(uint32_t cp) {
    if (cp < 0x300) return false;
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME;
}

bool tok_is_punctuation(uint32_t cp) {
    if (cp < 0x80) return cp != 0 && strchr("!\"#%&'()*,-./:;?@[\\]_{}", (int)cp) != NULL;
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool tok_is_other(uint32_t cp) {
    if (cp < 0x80) return cp < 0x20 || cp == 0x7F;
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CS ||
           c == UTF8PROC_CATEGORY_CO;
}

bool tok_is_cjk(uint32_t cp) {
    /* Source: BertNormalizer of huggingface/tokenizers, whose Extension E starts at 2B920. */
    static const uint32_t range[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                        {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                        {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    if (cp < 0x3400) return false;
    for (size_t i = 0; i < sizeof range / sizeof range[0]; i++)
        if (cp >= range[i][0] && cp <= range[i][1]) return true;
    return false;
}

uint32_t tok_lower(uint32_t cp) {
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

uint32_t tok_nfd_first(uint32_t cp) {
    if (cp < 0xC0) return cp;
    utf8proc_int32_t out[32]; /* the longest canonical decomposition has 4 */
    int boundary = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)cp, out, 32, UTF8PROC_DECOMPOSE, &boundary);
    return n > 0 && n <= 32 ? (uint32_t)out[0] : cp;
}

/* The printable bytes stand for themselves, the other 68 for U+0100 onwards in byte order.
 * Source: openai/gpt-2 src/encoder.py bytes_to_unicode. */
uint32_t tok_byte_to_cp(uint8_t b) {
    if ((b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD)) return b;
    if (b <= 0x20) return 256u + b;
    if (b == 0xAD) return 323;
    return b == 0x7F ? 289 : 290u + (b - 0x80u);
}

int tok_cp_to_byte(uint32_t cp) {
    if (cp < 256) return tok_byte_to_cp((uint8_t)cp) == cp ? (int)cp : -1;
    if (cp <= 288) return (int)cp - 256;
    if (cp == 289) return 0x7F;
    if (cp <= 322) return (int)cp - 290 + 0x80;
    return cp == 323 ? 0xAD : -1;
}
