/* SPDX-License-Identifier: MIT
 *
 * arena.c - bump allocation in blocks that double from 4 KiB to 256 KiB.
 *
 * A request larger than a block gets a block of its own, put behind the current one, so that the
 * space left in the current one is not lost.  Everything is zeroed and aligned to 16 bytes. */
#include <string.h>

#include "base/alloc.h"

#include "base/compiler.h"

enum { ALIGN = 16, FIRST_BLOCK = 4096, LAST_BLOCK = 256 * 1024 }; /* bytes */

typedef struct block {
    struct block *next;
    size_t room, used; /* of the payload, which follows the header */
} block;

struct peri_arena {
    block *head; /* the block being filled */
    size_t next_room, bytes;
};

enum { HEADER = (sizeof(block) + ALIGN - 1) / ALIGN * ALIGN };

peri_arena *peri_arena_new(void) {
    peri_arena *a = peri_calloc(1, sizeof *a);
    if (a != NULL) a->next_room = FIRST_BLOCK - HEADER;
    return a;
}

static block *block_new(peri_arena *a, size_t room) {
    size_t bytes;
    if (__builtin_add_overflow(room, (size_t)HEADER, &bytes)) return NULL;
    block *b = peri_calloc(1, bytes);
    if (b == NULL) return NULL;
    b->room = room;
    a->bytes += bytes;
    return b;
}

void *peri_arena_alloc(peri_arena *a, size_t n, size_t element_bytes) {
    size_t bytes;
    if (__builtin_mul_overflow(n, element_bytes, &bytes) || bytes > SIZE_MAX - ALIGN) return NULL;
    bytes = bytes == 0 ? ALIGN : (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    block *b = a->head;
    if (b == NULL || b->room - b->used < bytes) {
        int is_own = b != NULL && bytes > a->next_room / 4;
        b = block_new(a, is_own || bytes > a->next_room ? bytes : a->next_room);
        if (b == NULL) return NULL;
        if (is_own) {
            b->next = a->head->next;
            a->head->next = b;
        } else {
            b->next = a->head;
            a->head = b;
            if (a->next_room < LAST_BLOCK - HEADER) a->next_room = a->next_room * 2 + HEADER;
        }
    }
    void *p = (char *)b + HEADER + b->used;
    b->used += bytes;
    return p;
}

peri_str peri_arena_str(peri_arena *a, peri_str s) {
    peri_str none = {NULL, 0};
    if (s.size == SIZE_MAX) return none;
    char *p = peri_arena_alloc(a, s.size + 1, 1);
    if (p == NULL) return none;
    if (s.size != 0) memcpy(p, s.data, s.size);
    return (peri_str){p, s.size};
}

size_t peri_arena_bytes(const peri_arena *a) {
    return a->bytes;
}

void peri_arena_free(peri_arena *a) {
    if (a == NULL) return;
    for (block *b = a->head; b != NULL;) {
        block *next = b->next;
        peri_free(b);
        b = next;
    }
    peri_free(a);
}
