/* SPDX-License-Identifier: MIT
 *
 * attn_ops.c - ATTN and KV_APPEND of the fast levels, cut into work.
 *
 * An item is a tile of consecutive tokens of one sequence times one key/value head: up to TILE_ROWS
 * query rows (tokens times the heads of the group) that read each key once.  Chunks of 256 keys
 * that no row of the tile sees are skipped; the others are added in rising order, so that how
 * tokens fall into tiles does not enter a result (attn_fast.c). */
#include <math.h>
#include <string.h>

#include "fast.h"

enum { TILE_ROWS = 64 };
enum { Q = 0, KPOOL = 1, VPOOL = 2, SINK = 3, Y = 4 }; /* operands of ATTN */

typedef struct tile {
    int32_t first, n; /* tokens */
} tile;

typedef struct attn_job {
    cpu_dev *d;
    const cpu_job *j;
    const attn_isa *isa;
    const tile *tile; /* in shared scratch */
    int64_t n_kv_head, n_group;
    int32_t rows; /* room in scratch */
} attn_job;

/* A worker's scratch: the structs, then floats. */
typedef struct space {
    attn_chunk chunk;
    attn_row row[ATTN_ROWS_MAX];
    int32_t lo[ATTN_ROWS_MAX], hi[ATTN_ROWS_MAX]; /* visible keys of each row, counted from key 0 */
    float o[];
} space;

static int64_t pad16(int64_t n) {
    return (n + 15) & ~(int64_t)15;
}

static size_t space_bytes(const attn_job *a) {
    int64_t dk = pad16(a->j->dim[KPOOL][3]), dv = pad16(a->j->dim[VPOOL][3]);
    return sizeof(space) +
           (size_t)(a->rows * (2 * dv + ATTN_CHUNK) + ATTN_SUB * (dk > dv ? dk : dv)) *
               sizeof(float);
}

/* Keys that position pos may see, op.def. */
static void visible_keys(const peri_attn_attr *a, int32_t pos, int32_t n_ctx, int32_t *lo,
                         int32_t *hi) {
    int64_t first = 0, end = n_ctx;
    if (!(a->flags & PERI_ATTN_NOT_CAUSAL) && (int64_t)pos + 1 < end) end = (int64_t)pos + 1;
    if (a->window > 0 && (int64_t)pos - a->window + 1 > first) first = (int64_t)pos - a->window + 1;
    if (a->chunk > 0) {
        int64_t from = (int64_t)(pos / a->chunk) * a->chunk;
        if (from > first) first = from;
        if (from + a->chunk < end) end = from + a->chunk;
    }
    *lo = (int32_t)first;
    *hi = (int32_t)(end > first ? end : first);
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

/* The tile's rows: token-major, the group's heads of a token together. */
static int32_t make_rows(const attn_job *a, const tile *t, int64_t g, space *s) {
    const cpu_job *j = a->j;
    const peri_step *step = j->step;
    int64_t n_head = j->dim[Q][2], dv = pad16(j->dim[VPOOL][3]);
    int32_t n = 0,
            n_ctx = peri_step_array(step, step->ctx)[peri_step_array(step, step->seq)[t->first]];
    for (int32_t i = 0; i < t->n; i++) {
        int32_t token = t->first + i, pos = peri_step_array(step, step->pos)[token];
        for (int64_t k = 0; k < a->n_group; k++, n++) {
            int64_t h = g * a->n_group + k;
            s->row[n] = (attn_row){.q = ref_row_f32(j, Q, token * n_head + h),
                                   .o = s->o + n * dv,
                                   .m = -INFINITY,
                                   .slope = alibi_slope(j->attr.attn.alibi_max, h, n_head),
                                   .origin = (float)pos};
            visible_keys(&j->attr.attn, pos, n_ctx, &s->lo[n], &s->hi[n]);
        }
    }
    memset(s->o, 0, (size_t)(n * dv) * sizeof(float));
    return n;
}

static int32_t clamp(int32_t x, int32_t lo, int32_t hi) {
    return x < lo ? lo : x > hi ? hi : x;
}

/* Addresses of the chunk's keys from key `base` on that lie in lo .. hi - 1. */
static void find_keys(const attn_job *a, const int32_t *table, int64_t g, int32_t base,
                      attn_chunk *c) {
    const cpu_job *j = a->j;
    int64_t per_block = j->dim[KPOOL][1], bytes = ref_dtype_of(c->dtype).bytes;
    for (int32_t i = c->lo; i < c->hi; i++) {
        int64_t key = base + i,
                at = (table[key / per_block] * per_block + key % per_block) * a->n_kv_head + g;
        c->k[i] = (const uint8_t *)j->ptr[KPOOL] + at * c->dk * bytes;
        c->v[i] = (const uint8_t *)j->ptr[VPOOL] + at * c->dv * bytes;
    }
}

static void run_chunk(const attn_job *a, space *s, const attn_space *sub, const int32_t *table,
                      int64_t g, int32_t base, int32_t n_row) {
    attn_chunk *c = &s->chunk;
    c->lo = ATTN_CHUNK;
    c->hi = 0;
    for (int32_t r = 0; r < n_row; r++) {
        attn_row *row = &s->row[r];
        row->lo = clamp(s->lo[r] - base, 0, ATTN_CHUNK);
        row->hi = clamp(s->hi[r] - base, 0, ATTN_CHUNK);
        if (row->lo >= row->hi)
            row->lo = row->hi = 0;
        else {
            if (row->lo < c->lo) c->lo = row->lo;
            if (row->hi > c->hi) c->hi = row->hi;
        }
        row->origin -= (float)base;
    }
    if (c->lo < c->hi) {
        find_keys(a, table, g, base, c);
        a->isa->chunk(c, s->row, n_row, sub);
    }
    for (int32_t r = 0; r < n_row; r++)
        s->row[r].origin += (float)base;
}

static void run_item(void *arg, uint32_t i, uint32_t worker) {
    const attn_job *a = arg;
    const cpu_job *j = a->j;
    const peri_step *step = j->step;
    const tile *t = &a->tile[i / a->n_kv_head];
    int64_t g = i % a->n_kv_head;
    space *s = cpu_scratch(a->d, worker);
    int32_t n_row = make_rows(a, t, g, s), lo = INT32_MAX, hi = 0;
    const int32_t *table =
        peri_step_array(step, step->table) +
        (int64_t)peri_step_array(step, step->seq)[t->first] * step->n[PERI_SYM_B];
    int64_t dv = pad16(j->dim[VPOOL][3]);
    attn_space sub = {.o = s->o + a->rows * dv};
    sub.s = sub.o + a->rows * dv;
    sub.wide = sub.s + a->rows * ATTN_CHUNK;
    s->chunk.dtype = j->t[KPOOL]->dtype;
    s->chunk.dk = (int32_t)j->dim[KPOOL][3];
    s->chunk.dv = (int32_t)j->dim[VPOOL][3];
    s->chunk.scale = j->attr.attn.scale;
    s->chunk.cap = j->attr.attn.cap;
    for (int32_t r = 0; r < n_row; r++) {
        if (s->lo[r] < lo) lo = s->lo[r];
        if (s->hi[r] > hi) hi = s->hi[r];
    }
    for (int64_t base = lo / ATTN_CHUNK * ATTN_CHUNK; base < hi; base += ATTN_CHUNK)
        run_chunk(a, s, &sub, table, g, (int32_t)base, n_row);
    for (int32_t r = 0; r < n_row; r++) {
        int64_t h = g * a->n_group + r % a->n_group;
        const float *sink = j->ptr[SINK] ? (const float *)j->ptr[SINK] + h : NULL;
        a->isa->finish(&s->row[r], sink,
                       ref_row_f32(j, Y, (t->first + r / a->n_group) * j->dim[Q][2] + h),
                       s->chunk.dv);
    }
}

/* The step's numbers index memory: refuse those outside. */
static int32_t check_step(const cpu_job *j, peri_error *e) {
    const peri_step *s = j->step;
    const int32_t *seq = peri_step_array(s, s->seq), *ctx = peri_step_array(s, s->ctx);
    int64_t per_block = j->dim[KPOOL][1], n_block = j->dim[KPOOL][0];
    for (int64_t t = 0; t < j->dim[Q][1]; t++)
        if (seq[t] < 0 || seq[t] >= s->n[PERI_SYM_S])
            return peri_plugin_fail(e, PERI_E_RANGE, "ATTN: token %lld of sequence %d of %d",
                                    (long long)t, (int)seq[t], (int)s->n[PERI_SYM_S]);
    for (int32_t k = 0; k < s->n[PERI_SYM_S]; k++) {
        const int32_t *table = peri_step_array(s, s->table) + (int64_t)k * s->n[PERI_SYM_B];
        if (ctx[k] < 0 || ctx[k] > s->n[PERI_SYM_B] * per_block)
            return peri_plugin_fail(e, PERI_E_RANGE, "ATTN: %d keys of sequence %d, room for %lld",
                                    (int)ctx[k], (int)k, (long long)(s->n[PERI_SYM_B] * per_block));
        for (int64_t b = 0; b * per_block < ctx[k]; b++)
            if (table[b] < 0 || table[b] >= n_block)
                return peri_plugin_fail(e, PERI_E_RANGE, "ATTN: block %d of %lld in sequence %d",
                                        (int)table[b], (long long)n_block, (int)k);
    }
    return PERI_OK;
}

/* Cut the step's tokens into tiles; returns their number. */
static int32_t make_tiles(const attn_job *a, tile *out) {
    const peri_step *s = a->j->step;
    const int32_t *seq = peri_step_array(s, s->seq);
    int32_t n = 0, most = (int32_t)(a->rows / a->n_group), n_tok = (int32_t)a->j->dim[Q][1];
    for (int32_t t = 0; t < n_tok; t++) {
        if (n == 0 || out[n - 1].n == most || seq[t] != seq[t - 1]) out[n++] = (tile){t, 0};
        out[n - 1].n++;
    }
    return n;
}

static int32_t run_attn(cpu_dev *d, const cpu_isa *isa, const cpu_job *j, peri_error *e) {
    attn_job a = {.d = d, .j = j, .isa = isa->attn, .n_kv_head = j->dim[KPOOL][2]};
    int64_t n_tok = j->dim[Q][1];
    int32_t rc = check_step(j, e);
    if (rc || n_tok == 0) return rc;
    a.n_group = j->dim[Q][2] / a.n_kv_head;
    a.rows = (int32_t)(a.n_group > TILE_ROWS ? a.n_group : TILE_ROWS);
    rc = cpu_reserve(d, space_bytes(&a), (size_t)n_tok * sizeof(tile), e);
    if (rc) return rc;
    tile *tiles = cpu_shared(d);
    a.tile = tiles;
    cpu_parallel(d, (uint32_t)(make_tiles(&a, tiles) * a.n_kv_head), run_item, &a);
    return PERI_OK;
}

/* ---- KV_APPEND ---- */

static void append(const cpu_job *j, const vec_isa *isa, uint32_t from, uint32_t pool, int64_t t,
                   int64_t at) {
    int64_t n_kv_head = j->dim[pool][2], n = j->dim[pool][3];
    for (int64_t g = 0; g < n_kv_head; g++) {
        const float *x = ref_row_f32(j, from, t * n_kv_head + g);
        int64_t i = (at * n_kv_head + g) * n;
        if (j->t[pool]->dtype == PERI_CPU_F32)
            memcpy((float *)j->ptr[pool] + i, x, (size_t)n * sizeof *x);
        else
            isa->to_f16(x, (uint16_t *)j->ptr[pool] + i, n);
    }
}

typedef struct append_job {
    const cpu_job *j;
    const vec_isa *isa;
    int64_t per_range;
} append_job;

static void append_range(void *arg, uint32_t i, uint32_t worker) {
    const append_job *a = arg;
    const int32_t *slot = peri_step_array(a->j->step, a->j->step->slot);
    int64_t lo = (int64_t)i * a->per_range, hi = lo + a->per_range, n = a->j->dim[0][1];
    (void)worker;
    for (int64_t t = lo; t < hi && t < n; t++) {
        if (slot[t] < 0) continue;
        append(a->j, a->isa, 0, 2, t, slot[t]);
        append(a->j, a->isa, 1, 3, t, slot[t]);
    }
}

static int32_t run_append(cpu_dev *d, const cpu_isa *isa, const cpu_job *j, peri_error *e) {
    const int32_t *slot = peri_step_array(j->step, j->step->slot);
    int64_t n_slot = j->dim[2][0] * j->dim[2][1], n = j->dim[0][1];
    for (int64_t t = 0; t < n; t++)
        if (slot[t] >= n_slot)
            return peri_plugin_fail(e, PERI_E_RANGE, "KV_APPEND: slot %d of %lld wanted",
                                    (int)slot[t], (long long)n_slot);
    append_job a = {j, isa->vec, 32};
    cpu_parallel(d, (uint32_t)((n + a.per_range - 1) / a.per_range), append_range, &a);
    return PERI_OK;
}

/* ---- both ---- */

int attn_supports(const peri_program *p, const peri_op *op, char numerics[28]) {
    const peri_tensor *k, *v;
    snprintf(numerics, 28, "act=f32 acc=f32");
    if (op->code == PERI_OP_KV_APPEND) {
        k = peri_operand(p, op, 2);
        v = peri_operand(p, op, 3);
        return k->dtype != PERI_CPU_BF16 && v->dtype != PERI_CPU_BF16;
    }
    if (op->code != PERI_OP_ATTN) return 0;
    k = peri_operand(p, op, KPOOL);
    v = peri_operand(p, op, VPOOL);
    return k->dtype == v->dtype && k->dim[3] <= ATTN_D_MAX && v->dim[3] <= ATTN_D_MAX &&
           peri_operand(p, op, Q)->dim[2] / k->dim[2] <= ATTN_ROWS_MAX;
}

int32_t attn_run(cpu_dev *d, const cpu_isa *isa, const cpu_job *j, peri_error *e) {
    return j->op->code == PERI_OP_ATTN ? run_attn(d, isa, j, e) : run_append(d, isa, j, e);
}
