/* SPDX-License-Identifier: MIT
 *
 * tok_index.c - looking up vocabulary entries: a hash for whole texts, a trie for prefixes.
 *
 * The hash is seeded per process so that a vocabulary cannot be crafted to collide; nothing is ever
 * listed in hash order, so results do not depend on the seed. */
#include <string.h>

#include "base/sort.h"
#include "tok_int.h"

/* Multiply-and-fold of two 64-bit words: the high and low halves of the product, xored. */
static uint64_t fold(uint64_t a, uint64_t b) {
    __uint128_t p = (__uint128_t)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint32_t hash(const tok_map *m, const char *s, size_t n) {
    uint64_t h = 0x9E3779B97F4A7C15u ^ (uint64_t)(uintptr_t)m->slot ^ n, w;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&w, s, 8);
        h = fold(h ^ w, 0xA0761D6478BD642Fu);
    }
    w = 0;
    memcpy(&w, s, n);
    h = fold(h ^ w, 0xE7037ED1A0B428DBu);
    return (uint32_t)(h ^ h >> 32);
}

bool tok_map_init(tok_map *m, const peri_str *str, size_t room) {
    size_t n = 16;
    while (n < room + room / 2)
        n *= 2;
    m->str = str;
    m->mask = n - 1;
    m->slot = peri_calloc(n, sizeof *m->slot);
    return m->slot != NULL;
}

void tok_map_fini(tok_map *m) {
    peri_free(m->slot);
    memset(m, 0, sizeof *m);
}

/* The slot of the text, or the empty slot where it belongs. */
static tok_slot *find(const tok_map *m, const char *s, size_t n, uint32_t h) {
    for (size_t i = h & m->mask;; i = (i + 1) & m->mask) {
        tok_slot *e = &m->slot[i];
        if (e->at == 0) return e;
        if (e->hash != h) continue;
        peri_str have = m->str[e->at - 1];
        if (have.size == n && memcmp(have.data, s, n) == 0) return e;
    }
}

int64_t tok_map_put(tok_map *m, uint32_t i) {
    peri_str s = m->str[i];
    uint32_t h = hash(m, s.data, s.size);
    tok_slot *e = find(m, s.data, s.size, h);
    if (e->at != 0) return (int64_t)e->at - 1;
    e->hash = h;
    e->at = i + 1;
    return -1;
}

int32_t tok_map_get(const tok_map *m, const char *s, size_t n) {
    return (int32_t)find(m, s, n, hash(m, s, n))->at - 1;
}

static bool before(const void *user, uint32_t a, uint32_t b) {
    const peri_str *str = user;
    peri_str x = str[a], y = str[b];
    int c = memcmp(x.data, y.data, x.size < y.size ? x.size : y.size);
    return c ? c < 0 : x.size < y.size;
}

/* Distinct non-empty prefixes of sorted texts. */
static size_t count_prefixes(const peri_str *str, const uint32_t *id, size_t n) {
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        peri_str s = str[id[i]], last = i ? str[id[i - 1]] : (peri_str){NULL, 0};
        size_t k = 0;
        while (k < s.size && k < last.size && s.data[k] == last.data[k])
            k++;
        sum += s.size - k;
    }
    return sum;
}

/* Fill the nodes level by level; span[k] is the range of sorted texts that start with node k's
 * prefix. */
static void grow_trie(tok_trie *t, const peri_str *str, const uint32_t *id, size_t n,
                      uint32_t (*span)[2]) {
    uint32_t n_node = 1, level_end = 1;
    size_t depth = 0;
    span[0][0] = 0;
    span[0][1] = (uint32_t)n;
    t->label[0] = 0;
    for (uint32_t k = 0; k < n_node; k++) {
        if (k == level_end) {
            level_end = n_node;
            depth++;
        }
        uint32_t lo = span[k][0], hi = span[k][1];
        t->first[k] = n_node;
        t->id[k] = -1;
        if (lo < hi && str[id[lo]].size == depth) t->id[k] = (int32_t)id[lo++];
        while (lo < hi) {
            uint8_t c = (uint8_t)str[id[lo]].data[depth];
            t->label[n_node] = c;
            span[n_node][0] = lo;
            while (lo < hi && (uint8_t)str[id[lo]].data[depth] == c)
                lo++;
            span[n_node++][1] = lo;
        }
    }
    t->first[n_node] = n_node;
}

bool tok_trie_init(tok_trie *t, const peri_str *str, uint32_t *id, size_t n) {
    if (peri_sort_index(id, n, before, str) != PERI_OK) return false;
    size_t n_node = count_prefixes(str, id, n) + 1;
    uint32_t(*span)[2] = n_node < UINT32_MAX ? peri_alloc_array(n_node, sizeof *span) : NULL;
    t->label = peri_alloc_array(n_node, sizeof *t->label);
    t->first = peri_alloc_array(n_node + 1, sizeof *t->first);
    t->id = peri_alloc_array(n_node, sizeof *t->id);
    bool ok = span && t->label && t->first && t->id;
    if (ok) grow_trie(t, str, id, n, span);
    peri_free(span);
    return ok;
}

void tok_trie_fini(tok_trie *t) {
    peri_free(t->label);
    peri_free(t->first);
    peri_free(t->id);
    memset(t, 0, sizeof *t);
}

void tok_ids_add(tok_ids *v, int32_t id) {
    if (v->failed) return;
    if (v->n == v->room) {
        size_t room = v->room ? v->room * 2 : 64;
        int32_t *grown = peri_resize_array(v->id, room, sizeof *grown);
        if (!grown) {
            v->failed = true;
            return;
        }
        v->id = grown;
        v->room = room;
    }
    v->id[v->n++] = id;
}

bool tok_heap_push(tok_heap *h, tok_heap_item e) {
    if (h->n == h->room) {
        size_t room = h->room ? h->room * 2 : 64;
        tok_heap_item *grown = peri_resize_array(h->item, room, sizeof *grown);
        if (!grown) return false;
        h->item = grown;
        h->room = room;
    }
    size_t i = h->n++;
    for (; i > 0 && h->item[(i - 1) / 2].key > e.key; i = (i - 1) / 2)
        h->item[i] = h->item[(i - 1) / 2];
    h->item[i] = e;
    return true;
}

tok_heap_item tok_heap_pop(tok_heap *h) {
    tok_heap_item top = h->item[0], last = h->item[--h->n];
    size_t i = 0;
    for (size_t c = 1; c < h->n; c = 2 * i + 1) {
        if (c + 1 < h->n && h->item[c + 1].key < h->item[c].key) c++;
        if (h->item[c].key >= last.key) break;
        h->item[i] = h->item[c];
        i = c;
    }
    h->item[i] = last;
    return top;
}
