/* SPDX-License-Identifier: MIT
 *
 * tok_unigram.c - SentencePiece Unigram: the text is normalised, then the cover by vocabulary
 * entries with the highest sum of scores (log probabilities) is found by dynamic programming, left
 * to right; of equal sums the one found first stays.
 *
 * A character no entry covers alone may be the unknown token at the lowest score minus 10;
 * user-defined entries score 0 and pass normalisation unchanged.  Normalisation replaces the
 * longest match in the precompiled character map: a trie as a XOR-compressed double array of 32-bit
 * units (base in bits 10-30, shifted left by 8 more when bit 9 is set; bit 8: a value follows;
 * label in bits 0-7), and the replacement texts, NUL-terminated.  Every step in the map is
 * bounds-checked: it comes from the file. Source: google/sentencepiece src/unigram_model.cc,
 * src/normalizer.cc; s-yata/darts-clone. */
#include <float.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"
#include "tok_int.h"

struct tok_unigram {
    tok_trie piece;      /* normal, user-defined and unused entries */
    tok_trie user;       /* user-defined entries */
    const uint8_t *unit; /* little-endian, unaligned */
    size_t n_unit;
    const char *replacement;
    size_t replacement_bytes;
    double unknown_score;
};

/* ---- opening --------------------------------------------------------------------------------- */

static uint32_t unit_at(const tok_unigram *u, size_t i) {
    const uint8_t *p = u->unit + 4 * i;
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static peri_status open_charsmap(const peri_tokenizer *t, tok_unigram *u, peri_error *err) {
    const peri_gguf_value *v = peri_gguf_find(t->g, "tokenizer.ggml.precompiled_charsmap");
    if (!v) return PERI_OK;
    if (!v->is_array || (v->type != PERI_GGUF_U8 && v->type != PERI_GGUF_I8))
        return peri_gguf_fail_key(t->g, v, err, "expected an array of bytes");
    if (v->n == 0) return PERI_OK;
    u->unit = v->data;
    uint32_t bytes = v->n >= 4 ? unit_at(u, 0) : 0;
    if (v->n < 4 || bytes > v->n - 4 || bytes % 4 != 0)
        return peri_gguf_fail_key(t->g, v, err,
                                  "says its trie has %u bytes, but it has %llu in all", bytes,
                                  (unsigned long long)v->n);
    u->unit += 4;
    u->n_unit = bytes / 4;
    u->replacement = (const char *)u->unit + bytes;
    u->replacement_bytes = (size_t)v->n - 4 - bytes;
    if (u->replacement_bytes && u->replacement[u->replacement_bytes - 1] != '\0')
        return peri_gguf_fail_key(t->g, v, err, "its last replacement text is not terminated");
    return PERI_OK;
}

/* Trie of the entries that have one of the attributes. */
static bool index_of(const peri_tokenizer *t, unsigned attr, tok_trie *out) {
    uint32_t *id = peri_alloc_array((size_t)t->n_vocab, sizeof *id);
    size_t n = 0;
    for (int32_t i = 0; id && i < t->n_vocab; i++)
        if (t->attr[i] & attr) id[n++] = (uint32_t)i;
    bool ok = id && tok_trie_init(out, t->piece, id, n);
    peri_free(id);
    return ok;
}

peri_status tok_unigram_new(peri_tokenizer *t, peri_error *err) {
    tok_unigram *u = t->unigram = peri_calloc(1, sizeof *u);
    if (!u || !index_of(t, TOK_NORMAL | TOK_USER | TOK_UNUSED, &u->piece) ||
        !index_of(t, TOK_USER, &u->user))
        return peri_fail(err, PERI_E_NOMEM, "no memory for %d tokens", (int)t->n_vocab);
    float lowest = FLT_MAX;
    for (int32_t i = 0; i < t->n_vocab; i++)
        if ((t->attr[i] & TOK_NORMAL) && t->score && t->score[i] < lowest) lowest = t->score[i];
    if (!t->score) lowest = 0;
    u->unknown_score = (double)(lowest - 10.0f);
    return open_charsmap(t, u, err);
}

void tok_unigram_free(tok_unigram *u) {
    if (!u) return;
    tok_trie_fini(&u->piece);
    tok_trie_fini(&u->user);
    peri_free(u);
}

/* ---- normalising ----------------------------------------------------------------------------- */

/* Longest prefix of s in the map: bytes it takes, 0 for none; its replacement in *out. */
static size_t map_prefix(const tok_unigram *u, const uint8_t *s, size_t n, peri_str *out) {
    if (u->n_unit == 0) return 0;
    size_t taken = 0;
    uint32_t value = 0, unit = unit_at(u, 0);
    size_t at = (unit >> 10) << ((unit & 0x200) >> 6);
    for (size_t i = 0; i < n && s[i] != 0; i++) {
        at ^= s[i];
        if (at >= u->n_unit) break;
        unit = unit_at(u, at);
        if ((unit & 0x800000FFu) != s[i]) break;
        at ^= (size_t)(unit >> 10) << ((unit & 0x200) >> 6);
        if (!(unit >> 8 & 1)) continue;
        if (at >= u->n_unit) break;
        taken = i + 1;
        value = unit_at(u, at) & 0x7FFFFFFFu;
    }
    if (taken == 0 || value >= u->replacement_bytes) return 0;
    out->data = u->replacement + value;
    out->size = strlen(out->data); /* the last byte of the texts is a NUL */
    return taken;
}

/* Longest run of bytes that starts some user-defined entry (not only a whole one: that is how
 * ggml-org/llama.cpp looks them up, so the start of an entry is shielded too). */
static size_t user_prefix(const tok_unigram *u, const uint8_t *s, size_t n) {
    size_t d = 0;
    uint32_t node = 0;
    while (d < n && (node = tok_trie_step(&u->user, node, s[d])) != 0)
        d++;
    return d;
}

/* What the text at s normalises to next, and how many bytes that takes. */
static size_t next_piece(const tok_unigram *u, const uint8_t *s, size_t n, peri_str *out) {
    size_t taken = user_prefix(u, s, n);
    if (taken == 0) {
        taken = map_prefix(u, s, n, out);
        if (taken) return taken;
        uint32_t cp;
        bool ok;
        taken = tok_utf8_get(s, n, &cp, &ok);
        if (!ok) {
            *out = PERI_STR("\xEF\xBF\xBD");
            return taken;
        }
    }
    *out = (peri_str){(const char *)s, taken};
    return taken;
}

static void normalise(const peri_tokenizer *t, peri_str text, peri_text *out) {
    const char *space = t->escape_spaces ? "\xE2\x96\x81" : " ";
    bool prefix = t->add_space_prefix, in_word = false;
    for (size_t i = 0; i < text.size && !out->failed;) {
        peri_str piece;
        i += next_piece(t->unigram, (const uint8_t *)text.data + i, text.size - i, &piece);
        for (size_t k = 0; k < piece.size; k++) {
            bool is_space = piece.data[k] == ' ';
            if (is_space ? !t->drop_extra_spaces : !in_word && (prefix || t->drop_extra_spaces)) {
                peri_text_add_str(out, space);
                if (!is_space) prefix = false;
            }
            in_word = !is_space;
            if (!is_space) peri_text_add(out, piece.data + k, 1);
        }
    }
}

/* ---- the best cover -------------------------------------------------------------------------- */

typedef struct best {
    double score;
    int32_t id;
    uint32_t from;
} best;

static void offer(best *b, double score, int32_t id, size_t from) {
    if (score > b->score) *b = (best){score, id, (uint32_t)from};
}

static void cover(const peri_tokenizer *t, const uint8_t *s, size_t n, best *b) {
    const tok_unigram *u = t->unigram;
    for (size_t i = 0; i <= n; i++)
        b[i] = (best){i ? -DBL_MAX : 0, t->unk, 0};
    for (size_t i = 0; i < n;) {
        size_t len = tok_utf8_len(s[i]);
        if (len > n - i) len = n - i;
        bool covered = false;
        uint32_t node = 0;
        for (size_t k = i; k < n && (node = tok_trie_step(&u->piece, node, s[k])) != 0; k++) {
            int32_t id = u->piece.id[node];
            if (id < 0) continue;
            if (k + 1 == i + len) covered = true;
            double score = t->attr[id] & TOK_USER || !t->score ? 0.0 : (double)t->score[id];
            offer(&b[k + 1], b[i].score + score, id, i);
        }
        if (!covered) offer(&b[i + len], b[i].score + u->unknown_score, t->unk, i);
        i += len;
    }
}

peri_status tok_unigram_run(const peri_tokenizer *t, peri_str text, tok_ids *out, peri_error *err) {
    peri_text norm = {0};
    best *b = NULL;
    normalise(t, text, &norm);
    size_t n = norm.size, first = out->n;
    if (!norm.failed && n < UINT32_MAX) b = peri_alloc_array(n + 1, sizeof *b);
    bool ok = b != NULL;
    if (ok && n) {
        cover(t, (const uint8_t *)norm.data, n, b);
        bool was_unknown = false; /* neighbouring unknown characters are one token */
        for (size_t i = n;; i = b[i].from) {
            bool unknown = b[i].id == t->unk;
            if (!(unknown && was_unknown) && b[i].id >= 0) tok_ids_add(out, b[i].id);
            was_unknown = unknown;
            if (b[i].from == 0) break;
        }
        for (size_t lo = first, hi = out->n; lo + 1 < hi; lo++) {
            int32_t id = out->id[--hi];
            out->id[hi] = out->id[lo];
            out->id[lo] = id;
        }
    }
    peri_free(b);
    peri_text_fini(&norm);
    if (!ok || out->failed)
        return peri_fail(err, PERI_E_NOMEM, "no memory to tokenize %zu bytes", text.size);
    return PERI_OK;
}
