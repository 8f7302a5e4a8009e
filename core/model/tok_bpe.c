/* SPDX-License-Identifier: MIT
 *
 * tok_bpe.c - byte-level BPE: each word of the pre-tokenizer starts as single bytes (single
 * characters when the pre-tokenizer works on raw text); the adjacent pair of the lowest merge rank
 * is joined first (the leftmost of equals) until no pair has a rank.
 *
 * Symbols are numbers: vocabulary ids first, then the texts that occur in merges only.  Vocabulary
 * texts of byte-level files are decoded once, so a word is looked up as the bytes it is.  Short
 * words are merged by scanning for the lowest rank, long ones through a heap, so that no word costs
 * more than O(n log n). Source: openai/gpt-2 src/encoder.py; the order of equal ranks as in
 * ggml-org/llama.cpp. */
#include <string.h>

#include "base/status.h"
#include "tok_int.h"

enum { SHORT_WORD = 24 }; /* symbols; below it a scan costs less than a heap */
#define NO_RANK   UINT32_MAX
#define NO_SYMBOL UINT32_MAX /* a character that takes part in no token and no merge */

typedef struct bpe_merge {
    uint32_t left, right, rank, result; /* rank NO_RANK: empty slot */
} bpe_merge;

struct tok_bpe {
    uint32_t n_vocab, n_symbol, room;
    peri_str *text; /* [room] decoded; .data NULL when it can match no word */
    tok_map by_text;
    bpe_merge *merge;
    size_t mask;
    uint32_t byte_symbol[256];
};

/* ---- tables ---------------------------------------------------------------------------------- */

static bpe_merge *find_merge(const tok_bpe *b, uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    for (size_t i = (size_t)(h >> 29) & b->mask;; i = (i + 1) & b->mask) {
        bpe_merge *m = &b->merge[i];
        if (m->rank == NO_RANK || (m->left == left && m->right == right)) return m;
    }
}

/* The form words are compared with, into dst (at least s.size bytes): the bytes a byte-level text
 * stands for, else the text.  False when no word can look like it. */
static bool word_form(const peri_tokenizer *t, peri_str s, char *dst, size_t *n) {
    *n = 0;
    if (t->pre->flags & TOK_PRE_RAW) {
        if (s.size) memcpy(dst, s.data, s.size);
        *n = s.size;
        return true;
    }
    for (size_t i = 0; i < s.size;) {
        uint32_t cp;
        bool ok;
        i += tok_utf8_get((const uint8_t *)s.data + i, s.size - i, &cp, &ok);
        int byte = ok ? tok_cp_to_byte(cp) : -1;
        if (byte < 0) return false;
        dst[(*n)++] = (char)byte;
    }
    return true;
}

/* Room for one more symbol in text and map. */
static bool reserve(tok_bpe *b) {
    if (b->n_symbol < b->room) return true;
    uint32_t room = b->room ? b->room + b->room / 2 : b->n_vocab + 512;
    peri_str *grown = peri_resize_array(b->text, room, sizeof *grown);
    if (!grown) return false;
    b->text = grown;
    b->room = room;
    tok_map_fini(&b->by_text);
    if (!tok_map_init(&b->by_text, b->text, room)) return false;
    for (uint32_t i = 0; i < b->n_symbol; i++)
        if (b->text[i].data) tok_map_put(&b->by_text, i);
    return true;
}

/* Symbol of a form, added (copied) when it is new.  False when out of memory. */
static bool symbol_of(peri_tokenizer *t, const char *form, size_t n, uint32_t *out) {
    tok_bpe *b = t->bpe;
    *out = (uint32_t)tok_map_get(&b->by_text, form, n);
    if (*out != NO_SYMBOL) return true;
    if (!reserve(b)) return false;
    peri_str copy = peri_arena_str(t->arena, (peri_str){form, n});
    if (!copy.data) return false;
    *out = b->n_symbol++;
    b->text[*out] = copy;
    tok_map_put(&b->by_text, *out);
    return true;
}

static bool add_vocab(peri_tokenizer *t) {
    tok_bpe *b = t->bpe;
    b->n_vocab = (uint32_t)t->n_vocab;
    if (!reserve(b)) return false;
    size_t total = 0;
    for (int32_t i = 0; i < t->n_vocab; i++)
        total += t->piece[i].size;
    char *at = peri_arena_alloc(t->arena, total + 1, 1);
    if (!at) return false;
    for (int32_t i = 0; i < t->n_vocab; i++) {
        size_t n;
        bool ok = word_form(t, t->piece[i], at, &n);
        b->text[i] = ok ? (peri_str){at, n} : (peri_str){NULL, 0};
        if (ok) tok_map_put(&b->by_text, (uint32_t)i);
        at += n;
    }
    b->n_symbol = b->n_vocab;
    for (unsigned c = 0; c < 256; c++) {
        char byte = (char)c;
        if (!symbol_of(t, &byte, 1, &b->byte_symbol[c])) return false;
    }
    return true;
}

/* One merge, "left right" cut at the first space after the first byte; of two equal pairs the first
 * keeps its rank, and a line that names no pair is never used. */
static bool add_merge(peri_tokenizer *t, peri_str m, uint32_t rank, char *buf) {
    const char *gap = m.size > 1 ? memchr(m.data + 1, ' ', m.size - 1) : NULL;
    if (!gap) return true;
    size_t cut = (size_t)(gap - m.data), n_left, n_right;
    uint32_t left, right, both;
    if (!word_form(t, (peri_str){m.data, cut}, buf, &n_left)) return true;
    if (!word_form(t, (peri_str){gap + 1, m.size - cut - 1}, buf + n_left, &n_right)) return true;
    if (n_left == 0 || n_right == 0) return true;
    if (!symbol_of(t, buf, n_left, &left) || !symbol_of(t, buf + n_left, n_right, &right) ||
        !symbol_of(t, buf, n_left + n_right, &both))
        return false;
    bpe_merge *e = find_merge(t->bpe, left, right);
    if (e->rank == NO_RANK) *e = (bpe_merge){left, right, rank, both};
    return true;
}

peri_status tok_bpe_new(peri_tokenizer *t, peri_error *err) {
    const char *key = "tokenizer.ggml.merges";
    const peri_gguf_value *v = peri_gguf_find(t->g, key);
    if (!v && !(t->pre->flags & TOK_PRE_NO_MERGES))
        return peri_fail(err, PERI_E_NOT_FOUND, "%s: key %s is missing", peri_gguf_path(t->g), key);
    if (v && (!v->is_array || v->type != PERI_GGUF_STRING || v->n >= UINT32_MAX / 4))
        return peri_gguf_fail_key(t->g, v, err, "expected an array of strings");
    uint64_t n = v ? v->n : 0;
    size_t room = 16, longest = 0;
    while (room < n + n / 2)
        room *= 2;
    for (uint64_t i = 0; i < n; i++)
        if (v->strings[i].size > longest) longest = v->strings[i].size;
    tok_bpe *b = t->bpe = peri_calloc(1, sizeof *b);
    char *buf = peri_alloc(longest + 1);
    if (b) b->merge = peri_alloc_array(room, sizeof *b->merge);
    bool ok = b && buf && b->merge;
    if (ok) {
        b->mask = room - 1;
        for (size_t i = 0; i < room; i++)
            b->merge[i].rank = NO_RANK;
        ok = add_vocab(t);
    }
    for (uint64_t i = 0; ok && i < n; i++)
        ok = add_merge(t, v->strings[i], (uint32_t)i, buf);
    peri_free(buf);
    if (!ok)
        return peri_fail(err, PERI_E_NOMEM, "no memory for %llu merges", (unsigned long long)n);
    return PERI_OK;
}

void tok_bpe_free(tok_bpe *b) {
    if (!b) return;
    tok_map_fini(&b->by_text);
    peri_free(b->text);
    peri_free(b->merge);
    peri_free(b);
}

/* ---- one word -------------------------------------------------------------------------------- */

typedef struct bpe_symbol {
    uint32_t id, off;   /* off: byte of the word it starts at */
    int32_t prev, next; /* used by long words; -1 at the ends */
} bpe_symbol;

typedef struct bpe_work {
    const peri_tokenizer *t;
    tok_ids *out;
    bpe_symbol *sym;
    size_t room;
    tok_heap heap;
} bpe_work;

/* The word's first symbols into w->sym; their count. */
static size_t spell(bpe_work *w, const char *word, size_t n) {
    const tok_bpe *b = w->t->bpe;
    size_t k = 0;
    if (!(w->t->pre->flags & TOK_PRE_RAW)) {
        for (; k < n; k++)
            w->sym[k] = (bpe_symbol){b->byte_symbol[(uint8_t)word[k]], (uint32_t)k, 0, 0};
        return n;
    }
    for (size_t off = 0; off < n; k++) {
        size_t len = tok_utf8_len((uint8_t)word[off]);
        if (len > n - off) len = n - off;
        uint32_t id = (uint32_t)tok_map_get(&b->by_text, word + off, len);
        w->sym[k] = (bpe_symbol){id, (uint32_t)off, 0, 0};
        off += len;
    }
    return k;
}

static const bpe_merge *merge_of(const tok_bpe *b, uint32_t left, uint32_t right) {
    static const bpe_merge none = {0, 0, NO_RANK, 0};
    return left == NO_SYMBOL || right == NO_SYMBOL ? &none : find_merge(b, left, right);
}

/* Repeatedly join the pair of the lowest rank; returns how many symbols are left. */
static size_t join_short(bpe_work *w, size_t n) {
    const tok_bpe *b = w->t->bpe;
    const bpe_merge *m[SHORT_WORD];
    for (size_t i = 0; i + 1 < n; i++)
        m[i] = merge_of(b, w->sym[i].id, w->sym[i + 1].id);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (m[i]->rank < m[best]->rank) best = i;
        if (m[best]->rank == NO_RANK) break;
        w->sym[best].id = m[best]->result;
        n--;
        for (size_t i = best + 1; i < n; i++) {
            w->sym[i] = w->sym[i + 1];
            m[i - 1] = m[i];
        }
        if (best + 1 < n) m[best] = merge_of(b, w->sym[best].id, w->sym[best + 1].id);
        if (best > 0) m[best - 1] = merge_of(b, w->sym[best - 1].id, w->sym[best].id);
    }
    return n;
}

static bool offer(bpe_work *w, int32_t left, int32_t right) {
    if (left < 0 || right < 0) return true;
    uint32_t a = w->sym[left].id, c = w->sym[right].id;
    const bpe_merge *m = merge_of(w->t->bpe, a, c);
    if (m->rank == NO_RANK) return true;
    tok_heap_item e = {(uint64_t)m->rank << 32 | (uint32_t)left, a, c};
    return tok_heap_push(&w->heap, e);
}

/* The same through a heap.  A waiting pair is stale when its left symbol was joined away or either
 * side has become another symbol. */
static bool join_long(bpe_work *w, size_t *n) {
    bpe_symbol *sym = w->sym;
    w->heap.n = 0;
    for (size_t i = 0; i < *n; i++) {
        sym[i].prev = (int32_t)i - 1;
        sym[i].next = i + 1 < *n ? (int32_t)i + 1 : -1;
    }
    for (size_t i = 1; i < *n; i++)
        if (!offer(w, (int32_t)i - 1, (int32_t)i)) return false;
    while (w->heap.n) {
        tok_heap_item e = tok_heap_pop(&w->heap);
        int32_t l = (int32_t)(uint32_t)e.key, r = sym[l].next;
        if (sym[l].id != e.a || r < 0 || sym[r].id != e.b) continue;
        sym[l].id = find_merge(w->t->bpe, e.a, e.b)->result;
        sym[l].next = sym[r].next;
        if (sym[r].next >= 0) sym[sym[r].next].prev = l;
        sym[r].id = NO_SYMBOL; /* no waiting pair has it on its left */
        if (!offer(w, sym[l].prev, l) || !offer(w, l, sym[l].next)) return false;
    }
    size_t k = 0;
    for (int32_t i = 0; i >= 0; i = sym[i].next)
        sym[k++] = sym[i];
    *n = k;
    return true;
}

/* A text that is no token: byte tokens of a raw vocabulary; else the bytes of its byte-level
 * spelling that are tokens by themselves, and nothing for the rest. */
static void emit_unknown(const bpe_work *w, const char *s, size_t n) {
    const peri_tokenizer *t = w->t;
    for (size_t i = 0; i < n; i++) {
        if (t->pre->flags & TOK_PRE_RAW) {
            if (t->byte_id[(uint8_t)s[i]] >= 0) tok_ids_add(w->out, t->byte_id[(uint8_t)s[i]]);
            continue;
        }
        char spelt[4];
        size_t len = tok_utf8_put(tok_byte_to_cp((uint8_t)s[i]), spelt);
        for (size_t k = 0; k < len; k++) {
            int32_t id = tok_map_get(&t->by_text, spelt + k, 1);
            if (id >= 0) tok_ids_add(w->out, id);
        }
    }
}

static bool is_whole(const peri_tokenizer *t, const char *word, size_t n, uint32_t *id) {
    uint32_t flags = t->pre->flags;
    bool newlines = (flags & TOK_PRE_NEWLINES) && word[0] == '\n' && word[n - 1] == '\n';
    for (size_t i = 0; newlines && i < n; i++)
        newlines = word[i] == '\n';
    if (!(flags & TOK_PRE_WHOLE_WORD) && !newlines) return false;
    *id = (uint32_t)tok_map_get(&t->bpe->by_text, word, n);
    return *id < t->bpe->n_vocab;
}

static peri_status do_word(void *user, const char *word, size_t n) {
    bpe_work *w = user;
    uint32_t id;
    if (n == 0) return PERI_OK;
    if (is_whole(w->t, word, n, &id)) {
        tok_ids_add(w->out, (int32_t)id);
        return PERI_OK;
    }
    if (n > w->room) {
        peri_free(w->sym);
        w->room = n + 256;
        w->sym = peri_alloc_array(w->room, sizeof *w->sym);
        if (!w->sym) {
            w->room = 0;
            return PERI_E_NOMEM;
        }
    }
    size_t k = spell(w, word, n);
    if (k <= SHORT_WORD)
        k = join_short(w, k);
    else if (!join_long(w, &k))
        return PERI_E_NOMEM;
    for (size_t i = 0; i < k; i++) {
        size_t end = i + 1 < k ? w->sym[i + 1].off : n;
        if (w->sym[i].id < w->t->bpe->n_vocab)
            tok_ids_add(w->out, (int32_t)w->sym[i].id);
        else
            emit_unknown(w, word + w->sym[i].off, end - w->sym[i].off);
    }
    return w->out->failed ? PERI_E_NOMEM : PERI_OK;
}

/* Cut at white space, which is dropped, in lower case when the file asks ("whitespace" files). */
static peri_status run_by_space(bpe_work *w, peri_str text, peri_error *err) {
    const peri_tokenizer *t = w->t;
    char *buf = peri_alloc_array(text.size + 1, 4);
    if (!buf) return peri_fail(err, PERI_E_NOMEM, "no memory to tokenize %zu bytes", text.size);
    peri_status s = PERI_OK;
    size_t n = 0;
    for (size_t i = 0; s == PERI_OK && i < text.size;) {
        uint32_t cp;
        bool ok;
        i += tok_utf8_get((const uint8_t *)text.data + i, text.size - i, &cp, &ok);
        bool space = tok_is_space(cp);
        if (!space) n += tok_utf8_put(t->lower ? tok_lower(cp) : cp, buf + n);
        if (n && (space || i == text.size)) {
            s = tok_split_run(t->split, (peri_str){buf, n}, do_word, w, err);
            n = 0;
        }
    }
    peri_free(buf);
    return s;
}

peri_status tok_bpe_run(const peri_tokenizer *t, peri_str text, tok_ids *out, peri_error *err) {
    bpe_work w = {.t = t, .out = out};
    peri_status s =
        t->by_space ? run_by_space(&w, text, err) : tok_split_run(t->split, text, do_word, &w, err);
    peri_free(w.sym);
    peri_free(w.heap.item);
    if (s == PERI_E_NOMEM || (s == PERI_OK && out->failed))
        return peri_fail(err, PERI_E_NOMEM, "no memory to tokenize %zu bytes", text.size);
    return s;
}
