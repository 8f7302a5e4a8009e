/* SPDX-License-Identifier: MIT
 *
 * tok_index.c - looking up vocabulary entries: a hash for whole texts, a sorted list for prefixes.
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

bool tok_prefix_init(tok_prefix *p, const peri_str *str, uint32_t *id, size_t n) {
    if (peri_sort_index(id, n, before, str) != PERI_OK) {
        peri_free(id);
        return false;
    }
    size_t at = 0;
    for (unsigned b = 0; b < 256; b++) {
        p->first[b] = (uint32_t)at;
        while (at < n && (uint8_t)str[id[at]].data[0] == b)
            at++;
    }
    p->first[256] = (uint32_t)n;
    p->id = id;
    p->n = n;
    p->str = str;
    return true;
}

void tok_prefix_fini(tok_prefix *p) {
    peri_free(p->id);
    memset(p, 0, sizeof *p);
}

/* First place in r whose byte at depth d is above c (or at least c when `least`). */
static size_t bound(const tok_prefix *p, tok_range r, size_t d, unsigned c, bool least) {
    while (r.lo < r.hi) {
        size_t mid = r.lo + (r.hi - r.lo) / 2;
        peri_str s = p->str[p->id[mid]];
        unsigned have = s.size > d ? (uint8_t)s.data[d] + 1u : 0; /* a text that ends sorts first */
        if (least ? have < c + 1 : have <= c + 1)
            r.lo = mid + 1;
        else
            r.hi = mid;
    }
    return r.lo;
}

bool tok_prefix_step(const tok_prefix *p, tok_range *r, size_t d, uint8_t c) {
    if (d == 0) {
        *r = (tok_range){p->first[c], p->first[c + 1u]};
    } else {
        r->lo = bound(p, *r, d, c, true);
        r->hi = bound(p, *r, d, c, false);
    }
    return r->lo < r->hi;
}

int32_t tok_prefix_id(const tok_prefix *p, const tok_range *r, size_t d) {
    return p->str[p->id[r->lo]].size == d ? (int32_t)p->id[r->lo] : -1;
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
