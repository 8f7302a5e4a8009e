/* SPDX-License-Identifier: MIT
 *
 * tokenizer.c - the public face of the tokenizer: splits off special tokens (tok_special.c), hands
 * the text between them to the algorithm of the file's kind, and turns ids back into text. */
#define _GNU_SOURCE /* memmem */
#include <string.h>

#include "base/status.h"
#include "base/text.h"
#include "tok_int.h"

#define SPACE_MARK "\xE2\x96\x81" /* U+2581 */
enum { SPACE_MARK_BYTES = 3, MAX_TEXT = 1 << 29 };

/* ---- life ------------------------------------------------------------------------------------ */

peri_status peri_tokenizer_new(const peri_gguf *g, peri_tokenizer **out, peri_error *err) {
    *out = NULL;
    peri_tokenizer *t = peri_calloc(1, sizeof *t);
    if (t) {
        t->g = g;
        t->arena = peri_arena_new();
    }
    peri_status s = t && t->arena ? tok_load(t, err)
                                  : peri_fail(err, PERI_E_NOMEM, "no memory for a tokenizer");
    if (s != PERI_OK) {
        peri_tokenizer_free(t);
        return s;
    }
    *out = t;
    return PERI_OK;
}

void peri_tokenizer_free(peri_tokenizer *t) {
    if (!t) return;
    tok_split_free(t->split);
    tok_bpe_free(t->bpe);
    tok_unigram_free(t->unigram);
    tok_trie_fini(&t->trie);
    tok_map_fini(&t->by_text);
    peri_free(t->special);
    peri_free(t->piece);
    peri_free(t->score);
    peri_free(t->attr);
    peri_arena_free(t->arena);
    peri_free(t);
}

/* ---- text to ids ----------------------------------------------------------------------------- */

/* Spaces as U+2581.  `prefix`: one in front.  With TOK_PRE_PREFIX, one in front of every line that
 * does not start with one. */
static void escape(const peri_tokenizer *t, peri_str text, bool prefix, peri_text *out) {
    bool lines = t->kind == TOK_BPE && (t->pre->flags & TOK_PRE_PREFIX);
    if (prefix) peri_text_add_str(out, SPACE_MARK);
    size_t from = 0;
    for (size_t i = 0; i < text.size; i++) {
        bool marked =
            text.data[i] == ' ' || (text.size - i >= SPACE_MARK_BYTES &&
                                    memcmp(text.data + i, SPACE_MARK, SPACE_MARK_BYTES) == 0);
        bool starts = i == 0 || text.data[i - 1] == '\n';
        bool add = lines && starts && !marked && text.data[i] != '\n';
        if (!add && text.data[i] != ' ') continue;
        peri_text_add(out, text.data + from, i - from);
        peri_text_add_str(out, SPACE_MARK);
        from = text.data[i] == ' ' ? i + 1 : i;
    }
    peri_text_add(out, text.data + from, text.size - from);
}

static peri_status run_plain(const peri_tokenizer *t, peri_str text, bool after_special,
                             tok_ids *out, peri_error *err) {
    if (t->kind == TOK_WORDPIECE) return tok_wordpiece_run(t, text, out, err);
    if (t->kind == TOK_UNIGRAM) return tok_unigram_run(t, text, out, err);
    if (t->kind == TOK_BPE && !t->escape_spaces) return tok_bpe_run(t, text, out, err);
    peri_text buf = {0};
    escape(t, text, t->kind == TOK_SPM && t->add_space_prefix && after_special, &buf);
    peri_str escaped = {buf.data, buf.size};
    peri_status s = buf.failed
                        ? peri_fail(err, PERI_E_NOMEM, "no memory for %zu bytes of text", text.size)
                    : t->kind == TOK_SPM ? tok_spm_run(t, escaped, out, err)
                                         : tok_bpe_run(t, escaped, out, err);
    peri_text_fini(&buf);
    return s;
}

/* Plain text of which a part is input.  An entry that the file calls a control token could still
 * be put together by the merges: then the text is cut inside every place where it stands. */
static peri_status run_guarded(const peri_tokenizer *t, peri_str text, bool is_input,
                               bool after_special, tok_ids *out, peri_error *err) {
    size_t before = out->n;
    int32_t id = -1;
    peri_status s = run_plain(t, text, after_special, out, err);
    if (s != PERI_OK || !is_input || out->failed) return s;
    for (size_t i = before; i < out->n && id < 0; i++)
        if (tok_is_markup(t, out->id[i])) id = out->id[i];
    if (id < 0) return PERI_OK;
    out->n = before;
    for (size_t at = 0, end; at < text.size && s == PERI_OK; at = end) {
        end = tok_cut(t, text, id, at);
        if (end - at == text.size)
            return peri_fail(err, PERI_E_UNSUPPORTED,
                             "input text \"%.*s\" can only be written with the control token %d",
                             PERI_STR_ARG(text), (int)id);
        s = run_guarded(t, (peri_str){text.data + at, end - at}, true, after_special && at == 0,
                        out, err);
    }
    return s;
}

static peri_status check_ranges(peri_str text, const peri_tokenize_options *o, peri_error *err) {
    size_t end = 0;
    for (size_t i = 0; i < o->n_input; i++) {
        const peri_token_range *r = &o->input[i];
        if (r->off < end || r->off > text.size || r->n > text.size - r->off)
            return peri_fail(err, PERI_E_RANGE,
                             "input range %zu: %zu bytes from %zu; ranges must rise, not overlap, "
                             "and lie in the %zu bytes of text",
                             i, r->n, r->off, text.size);
        end = r->off + r->n;
    }
    return PERI_OK;
}

peri_status peri_tokenize(const peri_tokenizer *t, peri_str text, const peri_tokenize_options *o,
                          int32_t **ids, size_t *n, peri_error *err) {
    *ids = NULL;
    *n = 0;
    if (text.size > MAX_TEXT)
        return peri_fail(err, PERI_E_RANGE, "text of %zu bytes, at most %d can be tokenized",
                         text.size, MAX_TEXT);
    tok_ids out = {0};
    tok_fragments list = {0};
    peri_status s = check_ranges(text, o, err);
    if (s == PERI_OK && text.size) s = tok_partition(t, text, o, &list, err);
    bool wordpiece = t->kind == TOK_WORDPIECE; /* always has both ends */
    if (o->add_special && (t->add_bos || wordpiece) && t->bos >= 0) tok_ids_add(&out, t->bos);
    bool after_special = true;
    for (size_t i = 0; s == PERI_OK && i < list.n; i++) {
        tok_fragment f = list.at[i];
        if (f.id >= 0)
            tok_ids_add(&out, f.id);
        else
            s = run_guarded(t, (peri_str){text.data + f.off, f.n}, tok_touches_input(o, f.off, f.n),
                            after_special, &out, err);
        after_special = f.id >= 0;
    }
    int32_t last = wordpiece ? t->sep : t->add_eos ? t->eos : -1;
    if (o->add_special && last >= 0) tok_ids_add(&out, last);
    peri_free(list.at);
    if (s == PERI_OK && out.failed)
        s = peri_fail(err, PERI_E_NOMEM, "no memory for %zu tokens", out.n);
    if (s != PERI_OK || out.n == 0) {
        peri_free(out.id);
        return s;
    }
    *ids = out.id;
    *n = out.n;
    return PERI_OK;
}

/* ---- ids to text ----------------------------------------------------------------------------- */

static void add_unescaped(peri_text *dst, peri_str s) {
    for (size_t i = 0; i < s.size;) {
        const char *hit = memmem(s.data + i, s.size - i, SPACE_MARK, SPACE_MARK_BYTES);
        size_t end = hit ? (size_t)(hit - s.data) : s.size;
        peri_text_add(dst, s.data + i, end - i);
        if (hit) peri_text_add(dst, " ", 1);
        i = hit ? end + SPACE_MARK_BYTES : end;
    }
}

/* A character outside the byte-level alphabet stands for itself. */
static void add_decoded(peri_text *dst, peri_str s) {
    for (size_t i = 0; i < s.size;) {
        uint32_t cp;
        bool ok;
        size_t len = tok_utf8_get((const uint8_t *)s.data + i, s.size - i, &cp, &ok);
        int byte = ok ? tok_cp_to_byte(cp) : -1;
        char c = (char)byte;
        peri_text_add(dst, byte < 0 ? s.data + i : &c, byte < 0 ? len : 1);
        i += len;
    }
}

static unsigned hex_digit(char c) {
    return c <= '9' ? (unsigned)(c - '0') : ((unsigned)c | 32u) - 'a' + 10u;
}

peri_status peri_token_text(const peri_tokenizer *t, int32_t id, bool want_special, peri_text *dst,
                            peri_error *err) {
    if (id < 0 || id >= t->n_vocab)
        return peri_fail(err, PERI_E_RANGE, "token %d: the vocabulary has 0 to %d", (int)id,
                         (int)t->n_vocab - 1);
    unsigned attr = t->attr[id];
    peri_str piece = t->piece[id];
    if (attr & (TOK_CONTROL | TOK_UNKNOWN | TOK_USER)) {
        if (want_special || !(attr & (TOK_CONTROL | TOK_UNKNOWN)))
            peri_text_add(dst, piece.data, piece.size);
    } else if (attr & TOK_NORMAL) {
        bool raw = t->kind == TOK_BPE && (t->pre->flags & TOK_PRE_RAW) && !t->escape_spaces;
        if (raw)
            peri_text_add(dst, piece.data, piece.size);
        else if (t->kind == TOK_BPE && !t->escape_spaces)
            add_decoded(dst, piece);
        else
            add_unescaped(dst, piece);
    } else if (attr & TOK_BYTE) { /* checked when loading: <0xHH> */
        char byte = (char)(hex_digit(piece.data[3]) << 4 | hex_digit(piece.data[4]));
        peri_text_add(dst, &byte, 1);
    }
    return dst->failed ? peri_fail(err, PERI_E_NOMEM, "no memory for token %d", (int)id) : PERI_OK;
}

/* Bytes of the longest start of s that can still become, or is, one UTF-8 character (Unicode, table
 * 3-7); *whole true when it is one.  0 when s starts none. */
static size_t character(const uint8_t *s, size_t n, bool *whole) {
    uint8_t lead = s[0], lo = 0x80, hi = 0xBF;
    size_t len = lead < 0x80   ? 1
                 : lead < 0xC2 ? 0
                 : lead < 0xE0 ? 2
                 : lead < 0xF0 ? 3
                 : lead < 0xF5 ? 4
                               : 0;
    if (lead == 0xE0) lo = 0xA0;
    if (lead == 0xED) hi = 0x9F;
    if (lead == 0xF0) lo = 0x90;
    if (lead == 0xF4) hi = 0x8F;
    size_t i = len ? 1 : 0;
    for (; i < len && i < n; i++) {
        if (s[i] < lo || s[i] > hi) break;
        lo = 0x80;
        hi = 0xBF;
    }
    *whole = len && i == len;
    return i;
}

void peri_detok_init(peri_detok *d, const peri_tokenizer *t, bool want_special) {
    memset(d, 0, sizeof *d);
    d->t = t;
    d->want_special = want_special;
}

/* Pass bytes on, but for an unfinished character at the end. */
static void release(peri_detok *d, peri_str in, peri_text *dst) {
    const uint8_t *s = (const uint8_t *)in.data;
    size_t i = 0, from = 0;
    d->n_tail = 0;
    while (i < in.size) {
        bool whole;
        size_t n = character(s + i, in.size - i, &whole);
        if (whole) {
            i += n;
            continue;
        }
        peri_text_add(dst, in.data + from, i - from);
        if (n && i + n == in.size) {
            memcpy(d->tail, in.data + i, n);
            d->n_tail = (uint8_t)n;
            return;
        }
        peri_text_add_str(dst, "\xEF\xBF\xBD");
        i += n ? n : 1;
        from = i;
    }
    peri_text_add(dst, in.data + from, i - from);
}

/* What goes in is gathered at the end of dst and what comes out behind it, then moved down, so that
 * a reused dst makes a stream without allocations. */
peri_status peri_detok_feed(peri_detok *d, int32_t id, peri_text *dst, peri_error *err) {
    size_t base = dst->size;
    peri_text_add(dst, d->tail, d->n_tail);
    size_t start = dst->size;
    peri_status s = peri_token_text(d->t, id, d->want_special, dst, err);
    size_t n = dst->size - base, skip = 0;
    if (s == PERI_OK &&
        (dst->failed || !peri_text_reserve(dst, 3 * n))) /* a byte may become U+FFFD */
        s = peri_fail(err, PERI_E_NOMEM, "no memory for token %d", (int)id);
    if (s == PERI_OK && n) {
        const char *raw = dst->data + base;
        skip =
            !d->started && d->t->add_space_prefix && dst->size > start && raw[start - base] == ' ';
        release(d, (peri_str){raw + skip, n - skip}, dst);
        memmove(dst->data + base, raw + n, dst->size - base - n);
        dst->size -= n;
    } else {
        dst->size = base;
    }
    if (dst->data) dst->data[dst->size] = 0;
    if (s == PERI_OK) d->started = true;
    return s;
}

void peri_detok_end(peri_detok *d, peri_text *dst) {
    if (d->n_tail) peri_text_add_str(dst, "\xEF\xBF\xBD");
    d->n_tail = 0;
}

/* The three tidying passes over s[n], in place; each returns the new length.
 * 1: no space before ? ! . or , */
static size_t tidy_marks(char *s, size_t n) {
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        bool mark = s[i] == '?' || s[i] == '!' || s[i] == '.' || s[i] == ',';
        if (mark && i > 0 && out > 0 && s[out - 1] == ' ') out--;
        s[out++] = s[i];
    }
    return out;
}

/* 2: a lone apostrophe loses the spaces on both sides. */
static size_t tidy_lone(char *s, size_t n) {
    size_t out = 0;
    bool fresh = true; /* what stands before s[i] is in the text, not dropped */
    for (size_t i = 0; i < n; i++) {
        bool lone =
            s[i] == '\'' && i > 0 && i + 1 < n && fresh && s[out - 1] == ' ' && s[i + 1] == ' ';
        if (lone) out--;
        s[out++] = s[i];
        fresh = !lone;
        if (lone) i++;
    }
    return out;
}

/* 3: no space before 's 'm 're 've. */
static size_t tidy_contractions(char *s, size_t n) {
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\'' && i > 0 && i + 1 < n && s[out - 1] == ' ') {
            char a = s[i + 1], b = i + 2 < n ? s[i + 2] : '\0';
            if (a == 's' || a == 'm' || ((a == 'r' || a == 'v') && b == 'e')) out--;
        }
        s[out++] = s[i];
    }
    return out;
}

peri_status peri_detokenize(const peri_tokenizer *t, const int32_t *ids, size_t n,
                            bool want_special, peri_text *dst, peri_error *err) {
    size_t start = dst->size;
    for (size_t i = 0; i < n; i++) {
        size_t before = dst->size;
        peri_status s = peri_token_text(t, ids[i], want_special, dst, err);
        if (s != PERI_OK) return s;
        if (i > 0 || !t->add_space_prefix || dst->size == before || dst->data[before] != ' ')
            continue;
        memmove(dst->data + before, dst->data + before + 1, dst->size - before - 1);
        dst->data[--dst->size] = '\0';
    }
    if (t->tidy_spaces && dst->size > start) {
        char *s = dst->data + start;
        size_t k = tidy_contractions(s, tidy_lone(s, tidy_marks(s, dst->size - start)));
        dst->size = start + k;
        dst->data[dst->size] = '\0';
    }
    return PERI_OK;
}

/* ---- facts ----------------------------------------------------------------------------------- */

static bool in_range(const peri_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->n_vocab;
}

peri_str peri_token_piece(const peri_tokenizer *t, int32_t id) {
    return in_range(t, id) ? t->piece[id] : (peri_str){NULL, 0};
}

int peri_token_type(const peri_tokenizer *t, int32_t id) {
    unsigned attr = in_range(t, id) ? t->attr[id] : 0;
    if (attr & TOK_CONTROL) return PERI_TOK_CONTROL;
    if (attr & TOK_UNKNOWN) return PERI_TOK_UNKNOWN;
    if (attr & TOK_USER) return PERI_TOK_USER;
    if (attr & TOK_BYTE) return PERI_TOK_BYTE;
    if (attr & TOK_UNUSED) return PERI_TOK_UNUSED;
    return attr & TOK_NORMAL ? PERI_TOK_NORMAL : 0;
}

int32_t peri_token_find(const peri_tokenizer *t, peri_str piece) {
    return piece.size ? tok_map_get(&t->by_text, piece.data, piece.size) : -1;
}

int32_t peri_tokenizer_n_vocab(const peri_tokenizer *t) {
    return t->n_vocab;
}

int32_t peri_tokenizer_bos(const peri_tokenizer *t) {
    return t->bos;
}

int32_t peri_tokenizer_eos(const peri_tokenizer *t) {
    return t->eos;
}

int32_t peri_tokenizer_eot(const peri_tokenizer *t) {
    return t->eot;
}

bool peri_token_is_eog(const peri_tokenizer *t, int32_t id) {
    return in_range(t, id) && (t->attr[id] & TOK_EOG);
}

const char *peri_tokenizer_kind(const peri_tokenizer *t) {
    static const char *const name[] = {"spm", "bpe", "wordpiece", "unigram"};
    return name[t->kind];
}

const char *peri_tokenizer_pre(const peri_tokenizer *t) {
    return t->pre ? t->pre->name : "";
}
