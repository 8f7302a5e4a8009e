/* SPDX-License-Identifier: MIT
 *
 * alloc.h - the one allocator interface of the core.
 *
 * All heap memory of libperigee, and that of Lua, jansson and PCRE2 through their hooks, goes
 * through the process-wide table set here, so that tests can count and fail the n-th call.
 * Set it before anything is allocated and never while memory is held.  Thread-safe if the table is.
 */
#ifndef PERI_BASE_ALLOC_H
#define PERI_BASE_ALLOC_H

#include "perigee/types.h"

typedef struct peri_allocator {
    /* align is a power of two, at least 16.  NULL on failure.  bytes > 0. */
    void *(*alloc)(void *user, size_t bytes, size_t align);
    /* Like realloc for blocks of alignment 16: p may be NULL; on failure p stays valid. */
    void *(*resize)(void *user, void *p, size_t bytes);
    void (*free)(void *user, void *p);
    void *user;
} peri_allocator;

/* NULL restores the default (aligned_alloc, realloc, free). */
void peri_allocator_set(const peri_allocator *a);

/* All return NULL on failure or when a size product overflows; a request for 0 bytes gets 1.
 * peri_free accepts NULL.  Contents of peri_alloc are undefined, of peri_calloc zero. */
void *peri_alloc(size_t bytes);
void *peri_alloc_array(size_t n, size_t element_bytes);
void *peri_calloc(size_t n, size_t element_bytes);
void *peri_alloc_aligned(size_t bytes, size_t align);
/* For blocks that are read as a whole again and again: of 4 MiB and more on pages of 2 MiB where
 * the system gives some, which cuts the misses of address translation; smaller ones like
 * peri_alloc_aligned(bytes, 64). */
void *peri_alloc_large(size_t bytes);
void *peri_resize_array(void *p, size_t n, size_t element_bytes);
void peri_free(void *p);
/* A NUL-terminated copy the caller frees. */
char *peri_str_dup(peri_str s);
char *peri_strf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Arena: bump allocation, freed as a whole.  A request that fails returns NULL and the arena stays
 * usable.  Not thread-safe.  Memory is zeroed. */
typedef struct peri_arena peri_arena;
peri_arena *peri_arena_new(void);
void *peri_arena_alloc(peri_arena *a, size_t n, size_t element_bytes);
peri_str peri_arena_str(peri_arena *a,
                        peri_str s); /* copy, NUL-terminated; .data NULL on failure */
size_t peri_arena_bytes(const peri_arena *a);
void peri_arena_free(peri_arena *a); /* accepts NULL */

#endif
