/* SPDX-License-Identifier: MIT
 *
 * prefix.h - the blocks of the KV pool: who holds each, which are free, and which still hold a
 * known piece of text that another session can reuse.
 *
 * A block is free, held (by one or more sessions), or cached (held by nobody, but published: its
 * keys and values belong to a known run of tokens).  A full block is published under the key
 * (block before it, its own tokens), so finding a prefix walks block by block from the start of the
 * text; tokens are compared, never only their hash.  Cached blocks are given up for room, the one
 * released longest ago first.
 *
 * "The block before" is named by a serial number that is never used twice, not by its id: when a
 * block is given up, what followed it can no longer be found and ages out by itself.
 *
 * Nothing is allocated after init.  One thread. */
#ifndef PERI_RUN_PREFIX_H
#define PERI_RUN_PREFIX_H

#include <stdbool.h>

#include "perigee/types.h"

typedef struct peri_prefix {
    uint32_t n, n_free, n_cached;
    uint32_t block_tokens, n_bucket; /* n_bucket: a power of two */
    bool is_on;
    int32_t *free_list;     /* [n] stack of free ids, the first n_free */
    uint32_t *count;        /* [n] holders */
    uint64_t *serial;       /* [n] name of a published block, else 0 */
    uint64_t *parent;       /* [n] serial of the block before, 0 at the start of a text */
    int32_t *tok;           /* [n][block_tokens] text of a published block */
    int32_t *chain;         /* [n] next block of the same bucket, or -1 */
    int32_t *bucket;        /* [n_bucket] */
    int32_t *older, *newer; /* [n] cached blocks in the order of their release */
    int32_t oldest, newest;
    uint64_t last_serial, n_evicted;
} peri_prefix;

/* is_on false: nothing is ever published or found. */
peri_status peri_prefix_init(peri_prefix *p, uint32_t n, uint32_t block_tokens, bool is_on,
                             peri_error *err);
void peri_prefix_fini(peri_prefix *p);

/* A block with one holder and unknown contents: a free one, else the oldest cached one; -1 when all
 * are held. */
int32_t peri_prefix_take(peri_prefix *p);
/* One more holder. */
void peri_prefix_hold(peri_prefix *p, int32_t id);
/* One holder less; the last one's block becomes cached or free. */
void peri_prefix_release(peri_prefix *p, int32_t id);
/* Blocks that take could still hand out. */
uint32_t peri_prefix_room(const peri_prefix *p);

/* The published block that holds tok[block_tokens] after the block `parent` (a serial), or -1.  Not
 * held by the call. */
int32_t peri_prefix_find(const peri_prefix *p, uint64_t parent, const int32_t *tok);
/* A held block is full: make it known.  Returns the id to hold from now on - a twin that was known
 * before, then held instead of id, or id itself. */
int32_t peri_prefix_publish(peri_prefix *p, int32_t id, uint64_t parent, const int32_t *tok);
/* Its only holder is about to overwrite it.  Nothing when it is not published. */
void peri_prefix_unpublish(peri_prefix *p, int32_t id);
/* Forget every cached block. */
void peri_prefix_drop(peri_prefix *p);

#endif
