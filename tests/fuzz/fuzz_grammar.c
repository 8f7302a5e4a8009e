/* SPDX-License-Identifier: MIT
 *
 * fuzz_grammar.c - a grammar, a zero byte, a text: the grammar is refused with a message or
 * followed, and what follows a text does not depend on where the text is cut. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "run/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void follow(peri_matcher *m, const char *text, size_t n) {
    peri_match whole, parts;
    peri_error err;
    if (peri_matcher_start(m, &whole, &err)) return;
    parts = whole;
    if (peri_matcher_feed(m, &whole, text, n, &err)) return;
    for (size_t i = 0; i < n; i++) {
        if (peri_matcher_feed(m, &parts, text + i, 1, &err)) abort();
        if (parts == PERI_MATCH_DEAD && peri_matcher_may_end(m, parts)) abort();
    }
    if (whole != parts) abort();
    peri_matcher_tidy(m, 0);
    if (peri_matcher_start(m, &parts, &err)) abort();
    if (peri_matcher_feed(m, &parts, text, n, &err)) abort();
    if ((whole == PERI_MATCH_DEAD) != (parts == PERI_MATCH_DEAD)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *s = (const char *)data;
    const char *zero = size ? memchr(s, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - s) : size;
    peri_grammar *g = NULL;
    peri_matcher *m = NULL;
    peri_error err = {0};
    if (peri_grammar_new((peri_str){s, n}, &g, &err)) {
        if (!err.text[0] || g) abort();
        return 0;
    }
    if (peri_matcher_new(g, NULL, 0, &m, &err) == PERI_OK && zero)
        follow(m, zero + 1, size - n - 1);
    peri_matcher_free(m);
    peri_grammar_free(g);
    return 0;
}
