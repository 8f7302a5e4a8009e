/* SPDX-License-Identifier: MIT
 *
 * heal.c - what to take back of a prompt, and doing so in a session. */
#include "run/heal.h"

#include <string.h>

#include "base/status.h"
#include "run/sampler.h"
#include "run/session.h"

#include "base/compiler.h"

/* Does a token's text begin with s and go on? */
static bool goes_on(const peri_token_table *t, peri_str s) {
    uint32_t first, n = peri_token_table_range(t, s, &first);
    /* by rising text: the last one has more, unless all are just s */
    return n && peri_token_table_text(t, (int32_t)t->id[first + n - 1]).size > s.size;
}

static bool may_go(const peri_token_table *t, int32_t id) {
    int type = peri_token_type(t->tokenizer, id);
    return (type == PERI_TOK_NORMAL || type == PERI_TOK_BYTE) &&
           peri_token_table_text(t, id).size > 0;
}

peri_status peri_heal_prompt(const peri_token_table *t, const int32_t *ids, size_t n,
                             size_t *n_keep, peri_text *text, peri_error *err) {
    char end[PERI_HEAL_BYTES]; /* the texts of the last tokens, at the end */
    size_t size = 0, back = 0;
    *n_keep = n;
    while (back < PERI_HEAL_TOKENS && back + 1 < n && may_go(t, ids[n - 1 - back])) {
        peri_str s = peri_token_table_text(t, ids[n - 1 - back]);
        if (s.size > sizeof end - size) break;
        size += s.size;
        back++;
        memcpy(end + sizeof end - size, s.data, s.size);
        if (!goes_on(t, (peri_str){end + sizeof end - size, size})) continue;
        *n_keep = n - back;
    }
    for (size_t i = *n_keep; i < n; i++) {
        peri_str s = peri_token_table_text(t, ids[i]);
        peri_text_add(text, s.data, s.size);
    }
    return text->failed ? peri_fail(err, PERI_E_NOMEM, "out of memory for the text to heal")
                        : PERI_OK;
}

size_t peri_heal_repeated(size_t *left, const char *text, size_t size) {
    size_t n = *left < size ? *left : size;
    *left -= n;
    while (n && n < size && ((unsigned char)text[n] & 0xC0) == 0x80)
        n--;
    return n;
}

peri_status peri_session_heal(peri_session *s, size_t *left, peri_error *err) {
    const peri_token_table *t = peri_sampler_table(s->sampler);
    peri_text text = {0};
    size_t n_keep;
    *left = 0;
    if (!peri_sampler_params(s->sampler)->heal || !t) return PERI_OK;
    peri_status st = peri_heal_prompt(t, s->tok, (size_t)s->n_tok, &n_keep, &text, err);
    if (!st && n_keep < (size_t)s->n_tok) {
        st = peri_sampler_heal(s->sampler, (int32_t)n_keep, text.data, text.size, err);
        if (!st) st = peri_session_rewind(s, (int32_t)n_keep, err);
        if (!st) *left = text.size;
    }
    peri_text_fini(&text);
    return st;
}
