/* SPDX-License-Identifier: MIT
 *
 * attn_tiles.c - ATTN for tiles of several tokens (prefill).
 *
 * An item is a tile times one key/value head: up to TILE_ROWS query rows, tokens times the heads of
 * the group, that read each key once.  Chunks of 256 keys that no row of the tile sees are skipped;
 * the others are added in rising order, so that how tokens fall into tiles does not enter a result
 * (attn_fast.c).  The work is arithmetic: a key that is widened once serves all rows. */
#include "attn.h"

/* Rows of a tile: many, so that widening costs little (9 % at 256 rows of 128, 5 % at 512), but not
 * so many that workers idle. */
enum { TILE_ROWS = 512, TILE_ROWS_LEAST = 64, ITEMS_PER_WORKER = 4 };
_Static_assert((int)TILE_ROWS <= (int)ATTN_ROWS_MAX, "rows of a tile");

typedef struct run {
    const attn_job *a;
    const attn_tile *tile;
} run;

/* A worker's scratch: the struct, then floats. */
typedef struct space {
    attn_chunk chunk;
    attn_row row[ATTN_ROWS_MAX];
    attn_seen seen[ATTN_ROWS_MAX];
    _Alignas(64) float at[]; /* rows of 16 elements stay on cache lines */
} space;

int32_t attn_tile_rows(const attn_job *a) {
    int64_t rows = TILE_ROWS, n_tok = a->j->dim[ATTN_Q][1];
    int64_t wanted = (int64_t)cpu_workers(a->d) * ITEMS_PER_WORKER;
    while (rows > TILE_ROWS_LEAST && n_tok * a->n_head < wanted * rows)
        rows /= 2;
    return a->n_group > rows ? a->n_group : (int32_t)rows;
}

static size_t pad16(size_t n) {
    return (n + 15) & ~(size_t)15;
}

size_t attn_tiles_scratch(const attn_job *a) {
    int32_t rows = attn_tile_rows(a);
    size_t wide = attn_wide(a->dk16, a->dv16), row = ATTN_CHUNK + (size_t)a->dk16;
    size_t floats = pad16(2 * attn_part_floats(a, rows) + (size_t)rows * row + wide);
    return sizeof(space) + floats * sizeof(float) +
           (a->isa->tile_bytes ? a->isa->tile_bytes(rows, a->dk, a->dv) : 0);
}

static void run_item(void *arg, uint32_t i, uint32_t worker) {
    const run *u = arg;
    const attn_job *a = u->a;
    const attn_tile *t = &u->tile[i / (uint32_t)a->n_kv_head];
    int32_t g = (int32_t)(i % (uint32_t)a->n_kv_head), n_row = t->n * a->n_group;
    space *s = cpu_scratch(a->d, worker);
    size_t part = attn_part_floats(a, attn_tile_rows(a));
    attn_part total = attn_part_at(a, s->at, n_row), one = attn_part_at(a, s->at + part, n_row);
    attn_space at = {.s = s->at + 2 * part};
    at.q = at.s + (size_t)attn_tile_rows(a) * ATTN_CHUNK;
    at.wide = at.q + (size_t)attn_tile_rows(a) * (size_t)a->dk16;
    if (a->isa->tile_bytes)
        at.tiles = s->at + pad16((size_t)(at.wide - s->at) + attn_wide(a->dk16, a->dv16));
    int32_t lo = INT32_MAX, hi = 0;
    for (int32_t r = 0; r < n_row; r++) {
        attn_row_of(a, t->first + r / a->n_group, g * a->n_group + r % a->n_group, &s->row[r],
                    &s->seen[r]);
        if (s->seen[r].first < lo) lo = s->seen[r].first;
        if (s->seen[r].end > hi) hi = s->seen[r].end;
    }
    attn_chunk_init(a, 1, n_row, &s->chunk);
    a->isa->round(&s->chunk, s->row, &at);
    attn_part_clear(a, &total, n_row);
    for (int32_t base = lo / ATTN_CHUNK * ATTN_CHUNK; base < hi; base += ATTN_CHUNK) {
        if (!attn_chunk_bounds(&s->chunk, s->row, s->seen, base)) continue;
        attn_find_keys(a, t->first, g, base, &s->chunk);
        a->isa->chunk(&s->chunk, s->row, &one, &total, &at);
    }
    for (int32_t k = 0; k < t->n; k++)
        attn_finish(a, &total, k * a->n_group, t->first + k, g);
}

void attn_tiles_run(const attn_job *a, const attn_tile *tile, int32_t n_tile) {
    run u = {a, tile};
    cpu_parallel(a->d, (uint32_t)n_tile * (uint32_t)a->n_kv_head, run_item, &u);
}
