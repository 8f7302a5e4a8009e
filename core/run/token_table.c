/* SPDX-License-Identifier: MIT
 *
 * token_table.c - texts side by side in one block, ids sorted once, ranges by bisection. */
#include "run/token_table.h"

#include <string.h>

#include "base/alloc.h"
#include "base/sort.h"
#include "base/status.h"
#include "base/text.h"

#include "base/compiler.h"

peri_str peri_token_table_text(const peri_token_table *t, int32_t id) {
    if (id < 0 || id >= t->n_vocab) return (peri_str){NULL, 0};
    return (peri_str){t->text + t->off[id], t->off[id + 1] - t->off[id]};
}

static bool before(const void *user, uint32_t a, uint32_t b) {
    const peri_token_table *t = user;
    peri_str x = peri_token_table_text(t, (int32_t)a), y = peri_token_table_text(t, (int32_t)b);
    int c = memcmp(x.data, y.data, x.size < y.size ? x.size : y.size);
    return c ? c < 0 : x.size != y.size ? x.size < y.size : a < b;
}

static peri_status fill(peri_token_table *t, peri_text *all, peri_error *err) {
    for (int32_t i = 0; i < t->n_vocab; i++) {
        size_t from = all->size;
        t->off[i] = (uint32_t)from;
        peri_status st = peri_token_text(t->tokenizer, i, false, all, err);
        if (st) return st;
        if (all->size >= UINT32_MAX)
            return peri_fail(err, PERI_E_RANGE, "the vocabulary has more than 4 GB of text");
        if (all->size - from > t->max_text) t->max_text = (uint32_t)(all->size - from);
        if (all->size > from) t->id[t->n_id++] = (uint32_t)i;
    }
    t->off[t->n_vocab] = (uint32_t)all->size;
    return PERI_OK;
}

peri_status peri_token_table_new(const peri_tokenizer *tokenizer, peri_token_table **out,
                                 peri_error *err) {
    peri_text all = {0};
    *out = NULL;
    peri_token_table *t = peri_calloc(1, sizeof *t);
    if (!t) return peri_fail(err, PERI_E_NOMEM, "out of memory for the texts of tokens");
    t->tokenizer = tokenizer;
    t->n_vocab = peri_tokenizer_n_vocab(tokenizer);
    t->off = peri_alloc_array((size_t)t->n_vocab + 1, sizeof *t->off);
    t->id = peri_alloc_array((size_t)t->n_vocab, sizeof *t->id);
    peri_status st = t->off && t->id
                         ? fill(t, &all, err)
                         : peri_fail(err, PERI_E_NOMEM, "out of memory for the texts of tokens");
    t->text = all.data; /* peri_free frees it: text.c grows it with peri_resize_array */
    if (!st && peri_sort_index(t->id, t->n_id, before, t))
        st = peri_fail(err, PERI_E_NOMEM, "out of memory to sort %u tokens", t->n_id);
    if (st)
        peri_token_table_free(t);
    else
        *out = t;
    return st;
}

void peri_token_table_free(peri_token_table *t) {
    if (!t) return;
    peri_free(t->off);
    peri_free(t->text);
    peri_free(t->id);
    peri_free(t);
}

/* Below 0, 0 or above 0: the token's text comes before those with the prefix, has it, or comes
 * after. */
static int compare(peri_str text, peri_str prefix) {
    size_t n = text.size < prefix.size ? text.size : prefix.size;
    int c = n ? memcmp(text.data, prefix.data, n) : 0;
    return c ? c : text.size < prefix.size ? -1 : 0;
}

/* First index whose token compares above `least` (-1: not before, 0: after the prefix). */
static uint32_t bisect(const peri_token_table *t, peri_str prefix, int least) {
    uint32_t lo = 0, hi = t->n_id;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = compare(peri_token_table_text(t, (int32_t)t->id[mid]), prefix);
        if (least < 0 ? c < 0 : c <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

uint32_t peri_token_table_range(const peri_token_table *t, peri_str prefix, uint32_t *first) {
    *first = bisect(t, prefix, -1);
    return bisect(t, prefix, 0) - *first;
}
