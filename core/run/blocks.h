/* SPDX-License-Identifier: MIT
 *
 * blocks.h - the KV block table's other half: which blocks are free, and how many sessions hold
 * each. */
#ifndef PERI_RUN_BLOCKS_H
#define PERI_RUN_BLOCKS_H

#include "perigee/types.h"

typedef struct peri_blocks {
    int32_t *free_list; /* [n] stack of free ids */
    uint32_t *count;    /* [n] holders */
    uint32_t n, n_free;
} peri_blocks;

peri_status peri_blocks_init(peri_blocks *b, uint32_t n, peri_error *err);
void peri_blocks_fini(peri_blocks *b);
/* A free block with one holder, or -1. */
int32_t peri_blocks_take(peri_blocks *b);
void peri_blocks_release(peri_blocks *b, int32_t id);

#endif
