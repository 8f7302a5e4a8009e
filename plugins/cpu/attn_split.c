/* SPDX-License-Identifier: MIT
 *
 * attn_split.c - ATTN for single tokens (decode): the keys are split over the workers.
 *
 * The work is reading keys and values, so it is cut along the memory: an item is one chunk of 256
 * keys of a token for several neighbouring key/value heads (all of them when there are chunks
 * enough for all workers), whose rows lie side by side, and all query heads of a group share the
 * read.  An item leaves a part (m, l, o) for each row; when a wave of UNITS chunks is done, the
 * parts of a row are merged into its total in rising order of chunks; where there is one chunk
 * only, by the item itself.  That is the order of attn_tiles.c, so neither waves nor workers enter
 * a result.  A wave bounds the memory, which therefore depends on the heads and not on the context:
 * long contexts take several waves. */
#include "attn.h"

enum { UNITS = 64, ITEMS_PER_WORKER = 4 };

/* A chunk of a token in the wave. */
typedef struct unit {
    int32_t token, base, ordinal; /* base: first key; ordinal: which of the tokens with keys */
    int is_last;                  /* no later chunk of the token has keys it sees */
    int is_only; /* nor has an earlier one: the item that has the part finishes it */
} unit;

typedef struct wave {
    const attn_job *a;
    unit unit[UNITS];
    int32_t n_unit, n_step;  /* n_step: items of a unit, each of n_head heads or the rest */
    int32_t n_head, n_token; /* n_token: tokens with keys so far */
    int32_t n_merge;         /* units with a part to be merged */
    float *part, *total;     /* [UNITS] each; token i has total i mod UNITS */
} wave;

static size_t rows_of(const attn_job *a) {
    return (size_t)a->n_head;
}

/* A worker's scratch: chunk, rows, what they see, then floats. */
typedef struct space {
    attn_chunk *chunk;
    attn_row *row;
    attn_seen *seen;
    attn_space at;
} space;

static space space_of(const attn_job *a, void *scratch) {
    space s = {.chunk = scratch};
    s.row = (attn_row *)(s.chunk + 1);
    s.seen = (attn_seen *)(s.row + rows_of(a));
    uintptr_t at = (uintptr_t)(s.seen + rows_of(a));
    s.at.s = (float *)((at + 63) & ~(uintptr_t)63);
    s.at.q = s.at.s + rows_of(a) * ATTN_CHUNK;
    s.at.wide = s.at.q + rows_of(a) * (size_t)a->dk16;
    return s;
}

size_t attn_split_scratch(const attn_job *a) {
    size_t wide = attn_wide(a->dk16, a->dv16);
    return sizeof(attn_chunk) + rows_of(a) * (sizeof(attn_row) + sizeof(attn_seen)) + 64 +
           (rows_of(a) * (ATTN_CHUNK + (size_t)a->dk16) + wide) * sizeof(float);
}

size_t attn_split_shared(const attn_job *a) {
    return 2 * UNITS * attn_part_floats(a, a->n_head) * sizeof(float);
}

static attn_part rows_from(const attn_job *a, attn_part p, int32_t row) {
    return (attn_part){p.m + row, p.l + row, p.o + (size_t)row * (size_t)a->dv16};
}

static attn_part slot(const attn_job *a, float *p, int32_t i) {
    return attn_part_at(a, p + (size_t)i * attn_part_floats(a, a->n_head), a->n_head);
}

static void run_item(void *arg, uint32_t index, uint32_t worker) {
    const wave *w = arg;
    const attn_job *a = w->a;
    int32_t k = (int32_t)index / w->n_step, g = (int32_t)index % w->n_step * w->n_head;
    int32_t n_head = a->n_kv_head - g < w->n_head ? a->n_kv_head - g : w->n_head;
    const unit *u = &w->unit[k];
    space s = space_of(a, cpu_scratch(a->d, worker));
    attn_part out = rows_from(a, slot(a, w->part, k), g * a->n_group);
    for (int32_t r = 0; r < n_head * a->n_group; r++)
        attn_row_of(a, u->token, g * a->n_group + r, &s.row[r], &s.seen[r]);
    attn_chunk_init(a, n_head, a->n_group, s.chunk);
    attn_chunk_bounds(s.chunk, s.row, s.seen, u->base);
    attn_find_keys(a, u->token, g, u->base, s.chunk);
    a->isa->round(s.chunk, s.row, &s.at);
    a->isa->chunk(s.chunk, s.row, &out, NULL, &s.at);
    if (!u->is_only) return;
    attn_part total = rows_from(a, slot(a, w->total, u->ordinal % UNITS), g * a->n_group);
    attn_part_clear(a, &total, n_head * a->n_group);
    a->isa->merge(&total, &out, n_head * a->n_group, a->dv);
    for (int32_t i = 0; i < n_head; i++)
        attn_finish(a, &total, i * a->n_group, u->token, g + i);
}

/* Merge what the wave found for one token and one key/value head, and finish them if that is all.
 */
static void merge_item(void *arg, uint32_t i, uint32_t worker) {
    const wave *w = arg;
    const attn_job *a = w->a;
    int32_t ordinal = w->unit[0].ordinal + (int32_t)i / a->n_kv_head, g = (int32_t)i % a->n_kv_head,
            row = g * a->n_group;
    attn_part total = rows_from(a, slot(a, w->total, ordinal % UNITS), row);
    (void)worker;
    for (int32_t k = 0; k < w->n_unit; k++) {
        if (w->unit[k].ordinal != ordinal || w->unit[k].is_only) continue;
        attn_part part = rows_from(a, slot(a, w->part, k), row);
        a->isa->merge(&total, &part, a->n_group, a->dv);
        if (w->unit[k].is_last) attn_finish(a, &total, 0, w->unit[k].token, g);
    }
}

/* Items of a unit.  Items of more heads read longer runs of memory, but fewer of them leave workers
 * idle at the end.  A unit that is alone is cut evenly; whole units are taken where the
 * workers divide their number or there are many. */
static int32_t steps_of(int32_t n_unit, int32_t n_token, int32_t n_worker) {
    int is_even = n_token == 1 && n_unit % n_worker == 0 && n_unit > n_worker;
    if (n_unit == 1) return n_worker;
    if (is_even || n_unit >= ITEMS_PER_WORKER * n_worker) return 1;
    return (ITEMS_PER_WORKER * n_worker + n_unit - 1) / n_unit;
}

static void run_wave(wave *w) {
    const attn_job *a = w->a;
    int32_t tokens = w->unit[w->n_unit - 1].ordinal - w->unit[0].ordinal + 1;
    w->n_step = steps_of(w->n_unit, tokens, (int32_t)cpu_workers(a->d));
    if (w->n_step > a->n_kv_head) w->n_step = a->n_kv_head;
    w->n_head = (a->n_kv_head + w->n_step - 1) / w->n_step;
    w->n_step = (a->n_kv_head + w->n_head - 1) / w->n_head;
    cpu_parallel(a->d, (uint32_t)(w->n_unit * w->n_step), run_item, w);
    if (w->n_merge) cpu_parallel(a->d, (uint32_t)(tokens * a->n_kv_head), merge_item, w);
    w->n_unit = w->n_merge = 0;
}

/* A token that sees no key: the sinks alone, or zeros. */
static void finish_empty(const wave *w, int32_t token) {
    const attn_job *a = w->a;
    attn_part none = slot(a, w->total, w->n_token % UNITS); /* no unit of the wave has it yet */
    attn_part_clear(a, &none, a->n_head);
    for (int32_t g = 0; g < a->n_kv_head; g++)
        attn_finish(a, &none, g * a->n_group, token, g);
}

/* The chunks of one token enter waves; full ones run.  A wave and what is left of its last token
 * never hold more than UNITS tokens, so that each has a total of its own. */
static void add_token(wave *w, int32_t token) {
    const attn_job *a = w->a;
    attn_row row;
    attn_seen seen;
    attn_row_of(a, token, 0, &row, &seen);
    if (seen.first >= seen.end) {
        finish_empty(w, token);
        return;
    }
    int32_t first = seen.first / ATTN_CHUNK * ATTN_CHUNK;
    attn_part total = slot(a, w->total, w->n_token % UNITS);
    if (seen.end - first > ATTN_CHUNK) attn_part_clear(a, &total, a->n_head);
    for (int32_t base = first; base < seen.end; base += ATTN_CHUNK) {
        int is_last = seen.end - base <= ATTN_CHUNK, is_only = is_last && base == first;
        w->unit[w->n_unit++] = (unit){token, base, w->n_token, is_last, is_only};
        w->n_merge += !is_only;
        if (w->n_unit == UNITS) run_wave(w);
    }
    w->n_token++;
}

void attn_split_run(const attn_job *a, const int32_t *token, int32_t n, void *shared) {
    wave w = {.a = a, .part = shared};
    w.total = w.part + UNITS * attn_part_floats(a, a->n_head);
    for (int32_t i = 0; i < n; i++)
        add_token(&w, token[i]);
    if (w.n_unit) run_wave(&w);
}
