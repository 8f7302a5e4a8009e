/* SPDX-License-Identifier: MIT
 *
 * attn.h - what the drivers of ATTN share: attn_ops.c checks the step and sorts tokens into tiles,
 * attn_tiles.c runs tiles of many tokens, attn_split.c single tokens, attn_rows.c makes the rows
 * and finds the keys for both. */
#ifndef PERI_CPU_ATTN_H
#define PERI_CPU_ATTN_H

#include "fast.h"

enum { ATTN_Q = 0, ATTN_KPOOL = 1, ATTN_VPOOL = 2, ATTN_SINK = 3, ATTN_Y = 4 }; /* operands */

/* Consecutive tokens of one sequence. */
typedef struct attn_tile {
    int32_t first, n;
} attn_tile;

typedef struct attn_job {
    cpu_dev *d;
    const cpu_job *j;
    const attn_isa *isa;
    int32_t n_head, n_kv_head, n_group; /* n_group query heads read one key/value head */
    int32_t dk, dv, dk16, dv16;         /* elements; rounded up to 16 */
} attn_job;

/* Bytes of a head of n elements of a pool. */
static inline size_t attn_head_bytes(uint32_t dtype, int64_t n) {
    peri_dtype_info type = peri_dtype_of(dtype);
    return (size_t)(n / type.n) * (size_t)type.bytes;
}

/* What a row sees, counted from key 0: first <= key < end. */
typedef struct attn_seen {
    int32_t pos, first, end;
} attn_seen;

/* Row and visible keys of head h of a token. */
void attn_row_of(const attn_job *a, int32_t token, int32_t h, attn_row *row, attn_seen *seen);

/* The chunk's constant fields. */
void attn_chunk_init(const attn_job *a, int32_t n_head, int32_t n_row, attn_chunk *c);

/* Restrict rows and chunk to the 256 keys from `base` on; 0 when no row sees any of them. */
int attn_chunk_bounds(attn_chunk *c, attn_row *row, const attn_seen *seen, int32_t base);

/* Addresses of the chunk's keys lo .. hi - 1 for key/value head g of a token's sequence. */
void attn_find_keys(const attn_job *a, int32_t token, int32_t g, int32_t base, attn_chunk *c);

/* Write the results of rows 0 .. n_group - 1 of part p, heads g * n_group .. of a token. */
void attn_finish(const attn_job *a, const attn_part *p, int32_t first_row, int32_t token,
                 int32_t g);

/* Rows of p with no key yet. */
void attn_part_clear(const attn_job *a, const attn_part *p, int32_t n_row);

/* A part for n_row rows in floats p; attn_part_floats of them. */
attn_part attn_part_at(const attn_job *a, float *p, int32_t n_row);
size_t attn_part_floats(const attn_job *a, int32_t n_row);

/* Most query rows a tile of several tokens has: tokens times n_group. */
int32_t attn_tile_rows(const attn_job *a);

/* Bytes of a worker's scratch, and of scratch seen by all workers. */
size_t attn_tiles_scratch(const attn_job *a);
size_t attn_split_scratch(const attn_job *a);
size_t attn_split_shared(const attn_job *a);

void attn_tiles_run(const attn_job *a, const attn_tile *tile, int32_t n_tile);
/* token[n]: tokens that are tiles of their own.  shared: attn_split_shared bytes. */
void attn_split_run(const attn_job *a, const int32_t *token, int32_t n, void *shared);

#endif
