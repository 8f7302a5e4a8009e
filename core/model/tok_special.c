/* SPDX-License-Identifier: MIT
 *
 * tok_special.c - splits special tokens off a text.
 *
 * They are found longest first over the whole text, each leftmost first in what longer ones left:
 * that is the order models were trained with, and it is not the same as leftmost-longest.  To do it
 * in about one pass, a token is searched for only when every pair of neighbouring bytes in it
 * occurs somewhere in the text.
 *
 * Text marked as input came from outside - a message, a file, a tool - and must not be able to act
 * as markup.  A special token of which any byte lies in an input range is not recognised when it is
 * a control token, ends a generation, or is a user-defined token that looks like markup: in angle
 * or square brackets, such as <tool_call>, <think> or [INST], which templates use in the same way
 * and files often store so.  Other user-defined tokens (runs of spaces, words of a domain) carry no
 * role, so they stay, and text without markup gives the same ids whether marked or not. */
#define _GNU_SOURCE /* memmem */
#include <string.h>

#include "base/status.h"
#include "tok_int.h"

bool tok_touches_input(const peri_tokenize_options *o, size_t off, size_t n) {
    size_t lo = 0, hi = o->n_input; /* the first range that ends behind off */
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (o->input[mid].off + o->input[mid].n <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    while (lo < o->n_input && o->input[lo].n == 0)
        lo++;
    return lo < o->n_input && o->input[lo].off < off + n;
}

bool tok_is_markup(const peri_tokenizer *t, int32_t id) {
    peri_str s = t->piece[id];
    if (t->attr[id] & (TOK_CONTROL | TOK_EOG)) return true;
    if (!(t->attr[id] & TOK_USER) || s.size < 3) return false;
    return (s.data[0] == '<' && s.data[s.size - 1] == '>') ||
           (s.data[0] == '[' && s.data[s.size - 1] == ']');
}

size_t tok_cut(const peri_tokenizer *t, peri_str text, int32_t id, size_t at) {
    peri_str s = t->piece[id];
    const char *from = text.data + at;
    const char *hit = s.size ? memmem(from, text.size - at, s.data, s.size) : NULL;
    if (!hit && s.size && memmem(text.data, text.size, s.data, s.size)) return text.size;
    size_t end = hit ? (size_t)(hit - text.data) : at;
    end += tok_utf8_len((uint8_t)text.data[end]);
    return end < text.size ? end : text.size;
}

static void add_fragment(tok_fragments *f, size_t off, size_t n, int32_t id) {
    if (f->failed || (id < 0 && n == 0)) return;
    if (f->n == f->room) {
        size_t room = f->room ? f->room * 2 : 16;
        tok_fragment *grown = peri_resize_array(f->at, room, sizeof *grown);
        if (!grown) {
            f->failed = true;
            return;
        }
        f->at = grown;
        f->room = room;
    }
    f->at[f->n++] = (tok_fragment){off, n, id};
}

/* Which pairs of neighbouring bytes occur in a text. */
typedef struct pairs {
    uint64_t bit[65536 / 64];
} pairs;

static void note_pairs(pairs *p, peri_str text) {
    const uint8_t *s = (const uint8_t *)text.data;
    memset(p, 0, sizeof *p);
    for (size_t i = 1; i < text.size; i++) {
        unsigned x = (unsigned)s[i - 1] << 8 | s[i];
        p->bit[x / 64] |= (uint64_t)1 << (x % 64);
    }
}

static bool may_occur(const pairs *p, peri_str piece, peri_str text) {
    const uint8_t *s = (const uint8_t *)piece.data;
    if (piece.size > text.size) return false;
    for (size_t i = 1; i < piece.size; i++) {
        unsigned x = (unsigned)s[i - 1] << 8 | s[i];
        if (!(p->bit[x / 64] >> (x % 64) & 1)) return false;
    }
    return true;
}

static bool is_c_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Cut one piece of plain text at every occurrence of a token, into dst. */
static void cut_fragment(const peri_tokenizer *t, peri_str text, const peri_tokenize_options *o,
                         tok_fragment f, int32_t id, tok_fragments *dst) {
    peri_str piece = t->piece[id];
    size_t at = f.off, end = f.off + f.n, search = at;
    while (search < end) {
        const char *hit = memmem(text.data + search, end - search, piece.data, piece.size);
        if (!hit) break;
        size_t from = (size_t)(hit - text.data), left = from;
        search = from + 1;
        if (tok_touches_input(o, from, piece.size) && tok_is_markup(t, id)) continue;
        while (t->attr[id] & TOK_LSTRIP && left > at && is_c_space(text.data[left - 1]))
            left--;
        add_fragment(dst, at, left - at, -1);
        add_fragment(dst, from, piece.size, id);
        at = from + piece.size;
        while (t->attr[id] & TOK_RSTRIP && at < end && is_c_space(text.data[at]))
            at++;
        search = at;
    }
    add_fragment(dst, at, end - at, -1);
}

peri_status tok_partition(const peri_tokenizer *t, peri_str text, const peri_tokenize_options *o,
                          tok_fragments *list, peri_error *err) {
    tok_fragments next = {0};
    pairs *p = t->n_special ? peri_alloc(sizeof *p) : NULL;
    if (p) note_pairs(p, text);
    add_fragment(list, 0, text.size, -1);
    for (size_t i = 0; p && i < t->n_special && !list->failed; i++) {
        int32_t id = (int32_t)t->special[i];
        if (!o->parse_special && (t->attr[id] & (TOK_CONTROL | TOK_UNKNOWN))) continue;
        if (!may_occur(p, t->piece[id], text)) continue;
        next.n = 0;
        next.failed = false;
        for (size_t k = 0; k < list->n; k++) {
            if (list->at[k].id >= 0)
                add_fragment(&next, list->at[k].off, list->at[k].n, list->at[k].id);
            else
                cut_fragment(t, text, o, list->at[k], id, &next);
        }
        tok_fragments swap = *list;
        *list = next;
        next = swap;
    }
    bool ok = !list->failed && (p || !t->n_special);
    peri_free(next.at);
    peri_free(p);
    return ok ? PERI_OK
              : peri_fail(err, PERI_E_NOMEM, "no memory to tokenize %zu bytes", text.size);
}
