/* SPDX-License-Identifier: MIT
 *
 * attn_rows.c - query rows of ATTN, the keys they see, where those lie, and the results. */
#include <math.h>
#include <string.h>

#include "attn.h"

/* Keys that position pos may see, op.def. */
static void visible_keys(const peri_attn_attr *a, int32_t pos, int32_t n_ctx, attn_seen *out) {
    int64_t first = 0, end = n_ctx;
    if (!(a->flags & PERI_ATTN_NOT_CAUSAL) && (int64_t)pos + 1 < end) end = (int64_t)pos + 1;
    if (a->window > 0 && (int64_t)pos - a->window + 1 > first) first = (int64_t)pos - a->window + 1;
    if (a->chunk > 0) {
        int64_t from = (int64_t)(pos / a->chunk) * a->chunk;
        if (from > first) first = from;
        if (from + a->chunk < end) end = from + a->chunk;
    }
    *out = (attn_seen){pos, (int32_t)first, (int32_t)(end > first ? end : first)};
}

/* op.def: slope_h. */
static float alibi_slope(float alibi_max, int64_t h, int64_t n_head) {
    int64_t n = 1;
    if (alibi_max == 0) return 0;
    while (n * 2 <= n_head)
        n *= 2;
    if (h < n) return (float)exp2(-(double)alibi_max * (double)(h + 1) / (double)n);
    return (float)exp2(-(double)alibi_max * (double)(2 * (h - n) + 1) / (double)(2 * n));
}

void attn_row_of(const attn_job *a, int32_t token, int32_t h, attn_row *row, attn_seen *seen) {
    const peri_step *s = a->j->step;
    const peri_attn_attr *attr = &a->j->attr.attn;
    int32_t seq = peri_step_array(s, s->seq)[token], pos = peri_step_array(s, s->pos)[token];
    *row = (attn_row){.q = ref_row_f32(a->j, ATTN_Q, (int64_t)token * a->n_head + h),
                      .slope = alibi_slope(attr->alibi_max, h, a->n_head)};
    visible_keys(attr, pos, peri_step_array(s, s->ctx)[seq], seen);
}

void attn_chunk_init(const attn_job *a, int32_t n_head, int32_t n_row, attn_chunk *c) {
    uint16_t dtype = a->j->t[ATTN_KPOOL]->dtype;
    c->dtype = dtype;
    c->n_head = n_head;
    c->n_row = n_row;
    c->dk = a->dk;
    c->dv = a->dv;
    c->k_bytes = attn_head_bytes(dtype, a->dk);
    c->v_bytes = attn_head_bytes(dtype, a->dv);
    c->scale = a->j->attr.attn.scale;
    c->cap = a->j->attr.attn.cap;
}

static int32_t clamp(int32_t x) {
    return x < 0 ? 0 : x > ATTN_CHUNK ? ATTN_CHUNK : x;
}

int attn_chunk_bounds(attn_chunk *c, attn_row *row, const attn_seen *seen, int32_t base) {
    c->lo = ATTN_CHUNK;
    c->hi = 0;
    for (int32_t r = 0; r < c->n_head * c->n_row; r++) {
        row[r].lo = clamp(seen[r].first - base);
        row[r].hi = clamp(seen[r].end - base);
        row[r].origin = (float)seen[r].pos - (float)base;
        if (row[r].lo >= row[r].hi) {
            row[r].lo = row[r].hi = 0;
            continue;
        }
        if (row[r].lo < c->lo) c->lo = row[r].lo;
        if (row[r].hi > c->hi) c->hi = row[r].hi;
    }
    return c->lo < c->hi;
}

void attn_find_keys(const attn_job *a, int32_t token, int32_t g, int32_t base, attn_chunk *c) {
    const peri_step *s = a->j->step;
    int64_t per_block = a->j->dim[ATTN_KPOOL][1];
    int64_t seq = peri_step_array(s, s->seq)[token];
    const int32_t *table = peri_step_array(s, s->table) + seq * s->n[PERI_SYM_B];
    for (int32_t i = c->lo; i < c->hi;) {
        int64_t key = base + i, in_block = key % per_block;
        size_t at = (size_t)((table[key / per_block] * per_block + in_block) * a->n_kv_head + g);
        const uint8_t *k = (const uint8_t *)a->j->ptr[ATTN_KPOOL] + at * c->k_bytes;
        const uint8_t *v = (const uint8_t *)a->j->ptr[ATTN_VPOOL] + at * c->v_bytes;
        for (; in_block < per_block && i < c->hi; in_block++, i++) {
            c->k[i] = k;
            c->v[i] = v;
            k += (size_t)a->n_kv_head * c->k_bytes;
            v += (size_t)a->n_kv_head * c->v_bytes;
        }
    }
}

void attn_finish(const attn_job *a, const attn_part *p, int32_t first_row, int32_t token,
                 int32_t g) {
    for (int32_t k = 0; k < a->n_group; k++) {
        int64_t h = (int64_t)g * a->n_group + k;
        const float *sink = a->j->ptr[ATTN_SINK];
        a->isa->finish(p, first_row + k, sink ? sink + h : NULL,
                       ref_row_f32(a->j, ATTN_Y, (int64_t)token * a->n_head + h), a->dv);
    }
}

void attn_part_clear(const attn_job *a, const attn_part *p, int32_t n_row) {
    for (int32_t r = 0; r < n_row; r++) {
        p->m[r] = -INFINITY;
        p->l[r] = 0.0f;
    }
    memset(p->o, 0, (size_t)n_row * (size_t)a->dv16 * sizeof *p->o);
}

/* o comes first: rows of 16 elements stay on cache lines. */
attn_part attn_part_at(const attn_job *a, float *p, int32_t n_row) {
    float *m = p + (size_t)n_row * (size_t)a->dv16;
    return (attn_part){.m = m, .l = m + n_row, .o = p};
}

size_t attn_part_floats(const attn_job *a, int32_t n_row) {
    return ((size_t)n_row * (size_t)(a->dv16 + 2) + 15) & ~(size_t)15;
}
