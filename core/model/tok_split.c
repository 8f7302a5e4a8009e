/* SPDX-License-Identifier: MIT
 *
 * tok_split.c - cutting text into words with the patterns of pretok.def, on PCRE2.
 *
 * The text is first read leniently (unicode.c) and written back as UTF-8, so a word never holds an
 * ill-formed byte.  Patterns run on a view of the same length in which the two things PCRE2 sees
 * differently from the pattern's authors are replaced: an encoded surrogate (not allowed in PCRE2's
 * UTF mode) becomes U+E000, and U+180E (white space to PCRE2, not to Unicode) becomes U+200B. Plain
 * text, the usual case, is neither copied nor changed.
 *
 * Hostile text: no pattern nests unbounded repeats over the same characters, PCRE2's match, depth
 * and heap limits are set, a match that outgrows the JIT's stack is run again by the interpreter on
 * the heap, and a match that outgrows that is an error.  Without JIT the interpreter does it all.
 * Compiled patterns are shared by all threads; what changes is made per call.  PCRE2 allocates
 * through peri_alloc, except for the executable pages of its JIT. */
#define _GNU_SOURCE           /* memmem */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "tok_int.h"

#define TOK_CUT_THOUSANDS       "(*CUT_THOUSANDS)"
#define TOK_CUT_ASCII_THOUSANDS "(*CUT_ASCII_THOUSANDS)"

#define TOK_FAMILY(id, ...) static const char *const family_##id[] = {__VA_ARGS__, NULL};
#include "pretok.def"
#undef TOK_FAMILY

static const tok_pre pre_table[] = {
#define TOK_PRE(name, id, flags) {name, family_##id, flags},
#include "pretok.def"
#undef TOK_PRE
};

enum {
    MAX_PATTERNS = 6,
    N_PRE = sizeof pre_table / sizeof pre_table[0],
    MATCH_LIMIT = 50000000,    /* steps of one match; a 1 MB word needs about 1,000,000 */
    HEAP_LIMIT_KIB = 256 << 10 /* memory of one match */
};

#define TOK_FAMILY(id, ...)                                                                        \
    _Static_assert(sizeof family_##id / sizeof family_##id[0] <= MAX_PATTERNS + 1, #id);
#include "pretok.def"
#undef TOK_FAMILY

struct tok_split {
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    const tok_pre *pre;
    int n;
    pcre2_code *code[MAX_PATTERNS]; /* NULL for the hand-written cuts */
};

const tok_pre *tok_pre_find(peri_str name) {
    for (size_t i = 0; i < N_PRE; i++)
        if (peri_str_eq_c(name, pre_table[i].name)) return &pre_table[i];
    return NULL;
}

void tok_pre_list(char *dst, size_t room) {
    size_t n = 0;
    dst[0] = '\0';
    for (size_t i = 0; i < N_PRE && n < room; i++) {
        int k = snprintf(dst + n, room - n, "%s%s", i ? ", " : "", pre_table[i].name);
        n += k > 0 ? (size_t)k : 0;
    }
}

/* ---- compiling ------------------------------------------------------------------------------- */

static void *pcre_alloc(size_t n, void *user) {
    (void)user;
    return peri_alloc(n);
}

static void pcre_free(void *p, void *user) {
    (void)user;
    peri_free(p);
}

static peri_status compile(tok_split *s, pcre2_compile_context *how, peri_error *err) {
    for (; s->pre->pattern[s->n]; s->n++) {
        const char *text = s->pre->pattern[s->n];
        if (text[0] == '(' && text[1] == '*') continue;
        int code;
        size_t at;
        pcre2_code *c =
            pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &code, &at, how);
        if (!c && code == PCRE2_ERROR_HEAP_FAILED) return peri_fail(err, PERI_E_NOMEM, "no memory");
        if (!c) {
            char why[120];
            pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            return peri_fail(err, PERI_E_OTHER, "pre-tokenizer %s, pattern %d, at %zu: %s",
                             s->pre->name, s->n + 1, at, why);
        }
        s->code[s->n] = c;
        pcre2_jit_compile(c, PCRE2_JIT_COMPLETE); /* failing is fine: the interpreter remains */
    }
    return PERI_OK;
}

peri_status tok_split_new(const tok_pre *pre, tok_split **out, peri_error *err) {
    *out = NULL;
    tok_split *s = peri_calloc(1, sizeof *s);
    if (!s) return peri_fail(err, PERI_E_NOMEM, "no memory for pre-tokenizer %s", pre->name);
    s->pre = pre;
    pcre2_compile_context *how = NULL;
    peri_status status = PERI_E_NOMEM;
    s->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (s->memory) s->limits = pcre2_match_context_create(s->memory);
    if (s->limits) how = pcre2_compile_context_create(s->memory);
    if (how) {
        pcre2_set_match_limit(s->limits, MATCH_LIMIT);
        pcre2_set_depth_limit(s->limits, MATCH_LIMIT);
        pcre2_set_heap_limit(s->limits, HEAP_LIMIT_KIB);
        status = compile(s, how, err);
    }
    pcre2_compile_context_free(how);
    if (status != PERI_OK) {
        tok_split_free(s);
        if (status == PERI_E_NOMEM)
            peri_fail(err, status, "no memory for pre-tokenizer %s", pre->name);
        return status;
    }
    *out = s;
    return PERI_OK;
}

void tok_split_free(tok_split *s) {
    if (!s) return;
    for (int i = 0; i < MAX_PATTERNS; i++)
        pcre2_code_free(s->code[i]);
    pcre2_match_context_free(s->limits);
    pcre2_general_context_free(s->memory);
    peri_free(s);
}

/* ---- running --------------------------------------------------------------------------------- */

typedef struct split_run {
    const tok_split *s;
    const char *text; /* what words are taken from */
    const char *view; /* what patterns see; same length */
    pcre2_match_data *match;
    tok_word_fn fn;
    void *user;
    peri_error *err;
} split_run;

static peri_status cut(split_run *r, int k, size_t from, size_t to);

/* The next match of pattern k in [from, to) at or after `at`.  *found false when there is none. */
static peri_status next_match(split_run *r, int k, size_t from, size_t to, size_t at, bool *found) {
    const pcre2_code *code = r->s->code[k];
    PCRE2_SPTR subject = (PCRE2_SPTR)r->view + from;
    uint32_t how = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int rc = pcre2_match(code, subject, to - from, at - from, how, r->match, r->s->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT || rc == PCRE2_ERROR_MATCHLIMIT)
        rc = pcre2_match(code, subject, to - from, at - from, how | PCRE2_NO_JIT, r->match,
                         r->s->limits);
    *found = rc >= 0;
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) return PERI_OK;
    if (rc == PCRE2_ERROR_NOMEMORY) return PERI_E_NOMEM;
    return peri_fail(r->err, PERI_E_RANGE,
                     "pre-tokenizer %s: a stretch of %zu bytes is too complex to split (PCRE2 %d)",
                     r->s->pre->name, to - from, rc);
}

static peri_status cut_by_pattern(split_run *r, int k, size_t from, size_t to) {
    size_t at = from;
    peri_status s = PERI_OK;
    while (s == PERI_OK && at < to) {
        bool found;
        s = next_match(r, k, from, to, at, &found);
        if (s != PERI_OK) return s;
        if (!found) return cut(r, k + 1, at, to);
        const size_t *span = pcre2_get_ovector_pointer(r->match);
        size_t start = from + span[0], end = from + span[1];
        if (start > at) s = cut(r, k + 1, at, start);
        if (s == PERI_OK) s = cut(r, k + 1, start, end);
        at = end;
    }
    return s;
}

/* Length in characters of the run of digits at `at` (ASCII only or \p{N}). */
static size_t digit_run(const split_run *r, size_t at, size_t to, bool ascii) {
    size_t n = 0;
    for (; at < to; n++) {
        uint32_t cp;
        bool ok;
        size_t len = tok_utf8_get((const uint8_t *)r->view + at, to - at, &cp, &ok);
        if (ascii ? cp < '0' || cp > '9' : !tok_is_number(cp)) break;
        at += len;
    }
    return n;
}

static peri_status cut_thousands(split_run *r, int k, size_t from, size_t to, bool ascii) {
    size_t start = from;
    peri_status s = PERI_OK;
    for (size_t i = from; s == PERI_OK && i < to;) {
        size_t n = digit_run(r, i, to, ascii);
        if (n == 0) {
            i += tok_utf8_len((uint8_t)r->view[i]);
            continue;
        }
        /* Places with a multiple of 3 digits behind them: not before the first digit when cuts come
         * behind groups, not after the last one when they come before. */
        for (size_t left = n; s == PERI_OK; left--) {
            bool place = left % 3 == 0 && (ascii ? left > 0 : left < n);
            if (place && i > start) {
                s = cut(r, k + 1, start, i);
                start = i;
            }
            if (left == 0) break;
            i += tok_utf8_len((uint8_t)r->view[i]);
        }
    }
    return s == PERI_OK && start < to ? cut(r, k + 1, start, to) : s;
}

/* Apply patterns k and later to [from, to). */
static peri_status cut(split_run *r, int k, size_t from, size_t to) {
    if (k == r->s->n) return r->fn(r->user, r->text + from, to - from);
    if (r->s->code[k]) return cut_by_pattern(r, k, from, to);
    return cut_thousands(r, k, from, to, strcmp(r->s->pre->pattern[k], TOK_CUT_THOUSANDS) != 0);
}

/* Rewrite text well-formed into dst (3 bytes per byte are enough) and the view of it behind it. */
static size_t clean(peri_str text, char *dst, char *view) {
    size_t n = 0;
    for (size_t i = 0; i < text.size;) {
        uint32_t cp;
        bool ok;
        i += tok_utf8_get((const uint8_t *)text.data + i, text.size - i, &cp, &ok);
        uint32_t seen = cp >= 0xD800 && cp < 0xE000 ? 0xE000 : cp == 0x180E ? 0x200B : cp;
        tok_utf8_put(seen, view + n);
        n += tok_utf8_put(cp, dst + n);
    }
    return n;
}

peri_status tok_split_run(const tok_split *s, peri_str text, tok_word_fn fn, void *user,
                          peri_error *err) {
    if (text.size == 0) return PERI_OK;
    split_run r = {
        .s = s, .text = text.data, .view = text.data, .fn = fn, .user = user, .err = err};
    size_t n = text.size;
    char *copy = NULL;
    bool plain = tok_utf8_check((const uint8_t *)text.data, n, 0) == n &&
                 memmem(text.data, n, "\xE1\xA0\x8E", 3) == NULL;
    if (!plain) {
        copy = peri_alloc_array(n, 6);
        if (!copy) return PERI_E_NOMEM;
        r.text = copy;
        r.view = copy + 3 * n;
        n = clean(text, copy, copy + 3 * n);
    }
    r.match = pcre2_match_data_create(1, s->memory);
    peri_status status = r.match ? cut(&r, 0, 0, n) : PERI_E_NOMEM;
    pcre2_match_data_free(r.match);
    peri_free(copy);
    return status;
}
