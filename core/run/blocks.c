/* SPDX-License-Identifier: MIT
 *
 * blocks.c - a stack of free ids; the lowest id is handed out first from a fresh pool. */
#include "run/blocks.h"

#include "base/alloc.h"
#include "base/status.h"

#include "base/compiler.h"

peri_status peri_blocks_init(peri_blocks *b, uint32_t n, peri_error *err) {
    *b = (peri_blocks){.n = n, .n_free = n};
    b->free_list = peri_alloc_array(n, sizeof *b->free_list);
    b->count = peri_calloc(n, sizeof *b->count);
    if (!b->free_list || !b->count) {
        peri_blocks_fini(b);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a table of %u key/value blocks", n);
    }
    for (uint32_t i = 0; i < n; i++)
        b->free_list[i] = (int32_t)(n - 1 - i);
    return PERI_OK;
}

void peri_blocks_fini(peri_blocks *b) {
    peri_free(b->free_list);
    peri_free(b->count);
    *b = (peri_blocks){0};
}

int32_t peri_blocks_take(peri_blocks *b) {
    if (!b->n_free) return -1;
    int32_t id = b->free_list[--b->n_free];
    b->count[id] = 1;
    return id;
}

void peri_blocks_release(peri_blocks *b, int32_t id) {
    if (--b->count[id] == 0) b->free_list[b->n_free++] = id;
}
