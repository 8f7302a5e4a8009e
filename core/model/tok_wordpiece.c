/* SPDX-License-Identifier: MIT
 *
 * tok_wordpiece.c - BERT's tokenizer: the text is cut at white space, before and behind punctuation
 * and CJK characters; control characters go; case and accents go when the file asks.  A word, with
 * U+2581 in front, is then covered from the left with the longest entry that fits each time; a word
 * that cannot be covered is the unknown token.
 *
 * In files of this kind an entry that starts a word begins with U+2581 and others are bare (the
 * converter rewrote "##").  Accents go by keeping the first code point of each character's
 * canonical decomposition, as ggml-org/llama.cpp does, so a Hangul syllable keeps its first jamo
 * only. */
#include <string.h>

#include "base/status.h"
#include "tok_int.h"

/* Longest entry that text starts with; its length in *n. */
static int32_t longest(const tok_trie *t, const char *text, size_t size, size_t *n) {
    int32_t best = -1;
    uint32_t node = 0;
    for (size_t d = 0; d < size && (node = tok_trie_step(t, node, (uint8_t)text[d])) != 0; d++) {
        if (t->id[node] < 0) continue;
        best = t->id[node];
        *n = d + 1;
    }
    return best;
}

/* Cover one word (U+2581 in front). */
static void do_word(const peri_tokenizer *t, const char *word, size_t n, tok_ids *out) {
    size_t before = out->n;
    for (size_t i = 0, len = 0; i < n; i += len) {
        int32_t id = longest(&t->trie, word + i, n - i, &len);
        if (id < 0) {
            out->n = before;
            break;
        }
        tok_ids_add(out, id);
        if (out->failed) return;
    }
    if (out->n == before && t->unk >= 0) tok_ids_add(out, t->unk);
}

/* Everything of ASCII that can be seen but letters and digits. */
static bool is_ascii_mark(uint32_t cp) {
    uint32_t letter = cp | 32;
    return cp > ' ' && cp < 0x7F && !(cp >= '0' && cp <= '9') && !(letter >= 'a' && letter <= 'z');
}

enum { PREFIX = 3 }; /* bytes of U+2581 */

peri_status tok_wordpiece_run(const peri_tokenizer *t, peri_str text, tok_ids *out,
                              peri_error *err) {
    char *word = peri_alloc_array(text.size + 4, 4);
    if (!word) return peri_fail(err, PERI_E_NOMEM, "no memory to tokenize %zu bytes", text.size);
    memcpy(word, "\xE2\x96\x81", PREFIX);
    size_t n = PREFIX;
    for (size_t i = 0; i <= text.size;) {
        uint32_t cp = ' ';
        bool ok;
        if (i == text.size)
            i++;
        else
            i += tok_utf8_get((const uint8_t *)text.data + i, text.size - i, &cp, &ok);
        if (t->strip_accents) cp = tok_nfd_first(cp);
        bool space = tok_is_space(cp);
        if (!space && (cp == 0 || cp == TOK_BAD_CP || tok_is_other(cp))) continue;
        if (!space && t->strip_accents && tok_is_mark(cp)) continue;
        bool alone = cp < 0x80 ? is_ascii_mark(cp) : tok_is_punctuation(cp) || tok_is_cjk(cp);
        if ((space || alone) && n > PREFIX) {
            do_word(t, word, n, out);
            n = PREFIX;
        }
        if (space) continue;
        n += tok_utf8_put(t->lower ? tok_lower(cp) : cp, word + n);
        if (!alone) continue;
        do_word(t, word, n, out);
        n = PREFIX;
    }
    peri_free(word);
    if (out->failed) return peri_fail(err, PERI_E_NOMEM, "no memory for %zu tokens", out->n);
    return PERI_OK;
}
