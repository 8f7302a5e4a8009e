/* SPDX-License-Identifier: MIT
 *
 * prefix.c - a stack of free ids, a hash of published blocks, a list of the cached ones.
 *
 * Why children are given up before their parents: whoever holds a block holds all before it, and
 * sessions release from the end, so the last release of a block comes before that of the one it
 * follows. */
#include "run/prefix.h"

#include <string.h>

#include "base/alloc.h"
#include "base/status.h"

#include "base/compiler.h"

peri_status peri_prefix_init(peri_prefix *p, uint32_t n, uint32_t block_tokens, bool is_on,
                             peri_error *err) {
    *p = (peri_prefix){.n = n,
                       .n_free = n,
                       .block_tokens = block_tokens,
                       .n_bucket = 1,
                       .is_on = is_on,
                       .oldest = -1,
                       .newest = -1};
    while (p->n_bucket < n && p->n_bucket < 1u << 30)
        p->n_bucket *= 2;
    p->free_list = peri_alloc_array(n, sizeof *p->free_list);
    p->count = peri_calloc(n, sizeof *p->count);
    p->serial = peri_calloc(n, sizeof *p->serial);
    p->parent = peri_calloc(n, sizeof *p->parent);
    p->tok = is_on ? peri_alloc_array(n, block_tokens * sizeof *p->tok) : NULL;
    p->chain = peri_alloc_array(n, sizeof *p->chain);
    p->bucket = peri_alloc_array(p->n_bucket, sizeof *p->bucket);
    p->older = peri_alloc_array(n, sizeof *p->older);
    p->newer = peri_alloc_array(n, sizeof *p->newer);
    if (!p->free_list || !p->count || !p->serial || !p->parent || (is_on && !p->tok) || !p->chain ||
        !p->bucket || !p->older || !p->newer) {
        peri_prefix_fini(p);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a table of %u key/value blocks", n);
    }
    for (uint32_t i = 0; i < n; i++)
        p->free_list[i] = (int32_t)(n - 1 - i); /* the lowest id is handed out first */
    for (uint32_t i = 0; i < p->n_bucket; i++)
        p->bucket[i] = -1;
    return PERI_OK;
}

void peri_prefix_fini(peri_prefix *p) {
    peri_free(p->free_list);
    peri_free(p->count);
    peri_free(p->serial);
    peri_free(p->parent);
    peri_free(p->tok);
    peri_free(p->chain);
    peri_free(p->bucket);
    peri_free(p->older);
    peri_free(p->newer);
    *p = (peri_prefix){0};
}

/* ---- the hash -------------------------------------------------------------------------------- */

static uint32_t bucket_of(const peri_prefix *p, uint64_t parent, const int32_t *tok) {
    uint64_t h = parent * 0x9E3779B97F4A7C15u;
    for (uint32_t i = 0; i < p->block_tokens; i++) {
        h = (h ^ (uint32_t)tok[i]) * 0xBF58476D1CE4E5B9u;
        h ^= h >> 29;
    }
    return (uint32_t)(h >> 32) & (p->n_bucket - 1);
}

static int32_t *tokens_of(const peri_prefix *p, int32_t id) {
    return p->tok + (size_t)id * p->block_tokens;
}

int32_t peri_prefix_find(const peri_prefix *p, uint64_t parent, const int32_t *tok) {
    if (!p->is_on) return -1;
    for (int32_t id = p->bucket[bucket_of(p, parent, tok)]; id >= 0; id = p->chain[id])
        if (p->parent[id] == parent &&
            memcmp(tokens_of(p, id), tok, p->block_tokens * sizeof *tok) == 0)
            return id;
    return -1;
}

void peri_prefix_unpublish(peri_prefix *p, int32_t id) {
    if (!p->serial[id]) return;
    int32_t *at = &p->bucket[bucket_of(p, p->parent[id], tokens_of(p, id))];
    while (*at != id)
        at = &p->chain[*at];
    *at = p->chain[id];
    p->serial[id] = 0;
}

int32_t peri_prefix_publish(peri_prefix *p, int32_t id, uint64_t parent, const int32_t *tok) {
    if (!p->is_on || p->serial[id]) return id;
    int32_t twin = peri_prefix_find(p, parent, tok);
    if (twin >= 0) {
        peri_prefix_hold(p, twin);
        peri_prefix_release(p, id);
        return twin;
    }
    uint32_t b = bucket_of(p, parent, tok);
    memcpy(tokens_of(p, id), tok, p->block_tokens * sizeof *tok);
    p->parent[id] = parent;
    p->serial[id] = ++p->last_serial;
    p->chain[id] = p->bucket[b];
    p->bucket[b] = id;
    return id;
}

/* ---- the list of cached blocks --------------------------------------------------------------- */

static void list_add(peri_prefix *p, int32_t id) {
    p->older[id] = p->newest;
    p->newer[id] = -1;
    if (p->newest >= 0)
        p->newer[p->newest] = id;
    else
        p->oldest = id;
    p->newest = id;
    p->n_cached++;
}

static void list_remove(peri_prefix *p, int32_t id) {
    int32_t older = p->older[id], newer = p->newer[id];
    if (older >= 0)
        p->newer[older] = newer;
    else
        p->oldest = newer;
    if (newer >= 0)
        p->older[newer] = older;
    else
        p->newest = older;
    p->n_cached--;
}

/* ---- holders --------------------------------------------------------------------------------- */

int32_t peri_prefix_take(peri_prefix *p) {
    int32_t id;
    if (p->n_free) {
        id = p->free_list[--p->n_free];
    } else {
        id = p->oldest;
        if (id < 0) return -1;
        list_remove(p, id);
        peri_prefix_unpublish(p, id);
        p->n_evicted++;
    }
    p->count[id] = 1;
    return id;
}

void peri_prefix_hold(peri_prefix *p, int32_t id) {
    if (p->count[id]++ == 0) list_remove(p, id);
}

void peri_prefix_release(peri_prefix *p, int32_t id) {
    if (--p->count[id]) return;
    if (p->serial[id])
        list_add(p, id);
    else
        p->free_list[p->n_free++] = id;
}

uint32_t peri_prefix_room(const peri_prefix *p) {
    return p->n_free + p->n_cached;
}

void peri_prefix_drop(peri_prefix *p) {
    while (p->oldest >= 0) {
        int32_t id = p->oldest;
        list_remove(p, id);
        peri_prefix_unpublish(p, id);
        p->free_list[p->n_free++] = id;
    }
}
