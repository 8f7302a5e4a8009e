/* SPDX-License-Identifier: MIT
 *
 * tok_spm.c - SentencePiece BPE: the text starts as single characters; the adjacent pair whose
 * joined text is the vocabulary entry of the highest score is joined first (the leftmost of equals)
 * until no pair is an entry.  A character that is no entry becomes its byte tokens.
 *
 * Pairs wait in a heap; a pair that was overtaken by another join is noticed by its stale length
 * and dropped, so n characters cost O(n log n) whatever they are.  The text is handled in stretches
 * that no entry can reach out of, mostly words: the same result from a small heap (2 to 3 times as
 * fast). Source: google/sentencepiece src/bpe_model.cc. */
#include <string.h>

#include "base/status.h"
#include "tok_int.h"

typedef struct spm_symbol {
    int32_t prev, next; /* -1 at the ends */
    uint32_t off, n;    /* bytes of the text; n is 0 once joined to the left */
} spm_symbol;

typedef struct spm_work {
    const peri_tokenizer *t;
    const char *text;
    spm_symbol *sym;
    size_t n_sym;
    tok_heap heap;
} spm_work;

/* An unsigned number that is smaller the higher the score. */
static uint32_t rank_of(float score) {
    uint32_t u;
    score += 0.0f; /* -0 becomes 0 */
    memcpy(&u, &score, 4);
    u = u >> 31 ? ~u : u | 0x80000000u;
    return ~u;
}

static bool offer(spm_work *w, int32_t left, int32_t right) {
    if (left < 0 || right < 0) return true;
    uint32_t n = w->sym[left].n + w->sym[right].n;
    if (n > w->t->max_piece) return true;
    int32_t id = tok_map_get(&w->t->by_text, w->text + w->sym[left].off, n);
    if (id < 0) return true;
    float score = w->t->score ? w->t->score[id] : 0.0f;
    tok_heap_item e = {(uint64_t)rank_of(score) << 32 | (uint32_t)left, (uint32_t)right, n};
    return tok_heap_push(&w->heap, e);
}

static bool join_all(spm_work *w) {
    for (size_t i = 1; i < w->n_sym; i++)
        if (!offer(w, (int32_t)i - 1, (int32_t)i)) return false;
    while (w->heap.n) {
        tok_heap_item e = tok_heap_pop(&w->heap);
        int32_t l = (int32_t)(uint32_t)e.key, r = (int32_t)e.a;
        spm_symbol *left = &w->sym[l], *right = &w->sym[r];
        if (left->n == 0 || right->n == 0 || left->n + right->n != e.b) continue;
        left->n = e.b;
        right->n = 0;
        left->next = right->next;
        if (right->next >= 0) w->sym[right->next].prev = l;
        if (!offer(w, left->prev, l) || !offer(w, l, left->next)) return false;
    }
    return true;
}

static void emit(const spm_work *w, tok_ids *out) {
    for (int32_t i = w->n_sym ? 0 : -1; i >= 0; i = w->sym[i].next) {
        const char *s = w->text + w->sym[i].off;
        int32_t id = tok_map_get(&w->t->by_text, s, w->sym[i].n);
        if (id >= 0) {
            tok_ids_add(out, id);
            continue;
        }
        for (uint32_t k = 0; k < w->sym[i].n; k++) {
            int32_t byte = w->t->byte_id[(uint8_t)s[k]];
            if (byte < 0) byte = w->t->unk;
            if (byte >= 0) tok_ids_add(out, byte);
        }
    }
}

/* One stretch no entry reaches out of. */
static bool run_stretch(spm_work *w, const char *text, size_t n, tok_ids *out) {
    w->text = text;
    w->n_sym = w->heap.n = 0;
    for (size_t off = 0; off < n;) {
        size_t len = tok_utf8_len((uint8_t)text[off]);
        if (len > n - off) len = n - off;
        int32_t at = (int32_t)w->n_sym++;
        w->sym[at] =
            (spm_symbol){at - 1, off + len == n ? -1 : at + 1, (uint32_t)off, (uint32_t)len};
        off += len;
    }
    if (!join_all(w)) return false;
    emit(w, out);
    return !out->failed;
}

/* Where the stretch that starts at `from` ends: before the next U+2581 that no entry has behind the
 * byte in front of it.  Characters count as in run_stretch, so that both cut ill-formed text alike.
 */
static size_t stretch_end(const peri_tokenizer *t, peri_str text, size_t from) {
    size_t i = from;
    while (i < text.size) {
        i += tok_utf8_len((uint8_t)text.data[i]);
        if (i + 3 <= text.size && memcmp(text.data + i, "\xE2\x96\x81", 3) == 0 &&
            !t->joins[(uint8_t)text.data[i - 1]])
            return i;
    }
    return text.size;
}

peri_status tok_spm_run(const peri_tokenizer *t, peri_str text, tok_ids *out, peri_error *err) {
    spm_work w = {.t = t};
    size_t room = 0;
    bool ok = true;
    for (size_t from = 0; ok && from < text.size;) {
        size_t end = stretch_end(t, text, from);
        if (end - from > room) {
            peri_free(w.sym);
            room = end - from + 64;
            w.sym = peri_alloc_array(room, sizeof *w.sym);
        }
        ok = w.sym && run_stretch(&w, text.data + from, end - from, out);
        from = end;
    }
    peri_free(w.sym);
    peri_free(w.heap.item);
    if (ok) return PERI_OK;
    return peri_fail(err, PERI_E_NOMEM, "no memory to tokenize %zu bytes", text.size);
}
