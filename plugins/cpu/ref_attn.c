/* SPDX-License-Identifier: MIT
 *
 * ref_attn.c - KV_APPEND and ATTN over paged pools.
 *
 * The order of a sum is fixed by key numbers alone: keys are taken in chunks of 256 counted from
 * key 0, a chunk gives (largest logit m, sum of exponentials l, weighted values o), and chunks are
 * merged in rising order.  Block ids, slots, neighbours in the step and threads do not enter. */
#include <math.h>
#include <string.h>

#include "ref.h"

enum { CHUNK = 256 };
enum { Q = 0, KPOOL = 1, VPOOL = 2, SINK = 3, Y = 4 }; /* operands of ATTN */

/* Key/value head g of row `at` of a pool [blocks * B][G][d]. */
static char *pool_head(const cpu_job *j, uint32_t k, int64_t at, int64_t g) {
    peri_dtype_info type = peri_dtype_of(j->t[k]->dtype);
    int64_t n_block = (at * j->dim[k][2] + g) * (j->dim[k][3] / type.n);
    return (char *)j->ptr[k] + (size_t)n_block * (size_t)type.bytes;
}

/* ---- KV_APPEND ---- */

static void store_row(const cpu_job *j, uint32_t from, uint32_t pool, int64_t t, int64_t at) {
    for (int64_t g = 0; g < j->dim[pool][2]; g++)
        ref_encode_row(j->t[pool]->dtype, ref_row_f32(j, from, t * j->dim[pool][2] + g),
                       pool_head(j, pool, at, g), j->dim[pool][3]);
}

static void append_tokens(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    const int32_t *slot = peri_step_array(j->step, j->step->slot);
    (void)scratch;
    for (int64_t t = lo; t < hi; t++) {
        if (slot[t] < 0) continue;
        store_row(j, 0, 2, t, slot[t]);
        store_row(j, 1, 3, t, slot[t]);
    }
}

int32_t ref_kv_append(cpu_dev *d, const cpu_job *j, peri_error *e) {
    const int32_t *slot = peri_step_array(j->step, j->step->slot);
    int64_t n_slot = j->dim[2][0] * j->dim[2][1];
    for (int64_t t = 0; t < j->dim[0][1]; t++)
        if (slot[t] >= n_slot)
            return peri_plugin_fail(e, PERI_E_RANGE, "KV_APPEND: slot %d of %lld wanted",
                                    (int)slot[t], (long long)n_slot);
    ref_split(d, j, j->dim[0][1], j->dim[0][2] * (j->dim[0][3] + j->dim[1][3]) * 2, append_tokens);
    return PERI_OK;
}

/* ---- ATTN ---- */

/* One (token, key/value head) at work: the H / G query heads that share its keys. */
typedef struct work {
    const cpu_job *j;
    const int32_t *table;               /* block ids of the token's sequence */
    int64_t t, g, n_group, pos, lo, hi; /* visible keys lo .. hi - 1 */
    float *row;                         /* f32 [max(dk, dv)] a key or value, widened */
    double *z;                          /* f64 [n_group][CHUNK] logits, then exponentials */
    double *m, *l;                      /* f64 [n_group] running maximum and sum */
    double *o, *part; /* f64 [n_group][dv] running and the chunk's weighted values */
} work;

static const float *pool_row(const work *w, uint32_t k, int64_t key) {
    const cpu_job *j = w->j;
    int64_t n_tok = j->dim[k][1], at = w->table[key / n_tok] * n_tok + key % n_tok;
    ref_dequant_row(j->t[k]->dtype, pool_head(j, k, at, w->g), w->row, j->dim[k][3]);
    return w->row;
}

/* op.def: slope_h. */
static double alibi_slope(double alibi_max, int64_t h, int64_t n_head) {
    int64_t n = 1;
    if (alibi_max == 0) return 0;
    while (n * 2 <= n_head)
        n *= 2;
    if (h < n) return exp2(-alibi_max * (double)(h + 1) / (double)n);
    return exp2(-alibi_max * (double)(2 * (h - n) + 1) / (double)(2 * n));
}

static void chunk_logits(work *w, int64_t lo, int64_t hi) {
    const cpu_job *j = w->j;
    const peri_attn_attr *a = &j->attr.attn;
    int64_t n_head = j->dim[Q][2];
    for (int64_t key = lo; key < hi; key++) {
        const float *k = pool_row(w, KPOOL, key);
        for (int64_t i = 0; i < w->n_group; i++) {
            int64_t h = w->g * w->n_group + i;
            const float *q = ref_row_f32(j, Q, w->t * n_head + h);
            double z = (double)a->scale * ref_dot(q, k, j->dim[Q][3]);
            if (a->cap > 0) z = (double)a->cap * tanh(z / (double)a->cap);
            z += alibi_slope((double)a->alibi_max, h, n_head) * (double)(key - w->pos);
            w->z[i * CHUNK + key - lo] = z;
        }
    }
}

/* Append to head i's running (m, l, o) a part that has maximum m, sum l, and values `part` (NULL:
 * none). */
static void merge(work *w, int64_t i, double m, double l, const double *part) {
    int64_t dv = w->j->dim[VPOOL][3];
    int is_first = w->l[i] == 0; /* a sum of exponentials holds at least e^0; a NaN is kept */
    double top = !is_first && w->m[i] > m ? w->m[i] : m;
    double keep = is_first ? 0 : exp(w->m[i] - top), take = exp(m - top);
    for (int64_t c = 0; c < dv; c++)
        w->o[i * dv + c] = w->o[i * dv + c] * keep + (part ? part[c] * take : 0);
    w->l[i] = w->l[i] * keep + l * take;
    w->m[i] = top;
}

static void add_chunk(work *w, int64_t lo, int64_t hi) {
    int64_t dv = w->j->dim[VPOOL][3], n = hi - lo;
    chunk_logits(w, lo, hi);
    memset(w->part, 0, (size_t)(w->n_group * dv) * sizeof *w->part);
    double *m = w->z + w->n_group * CHUNK, *l = m + w->n_group; /* of this chunk */
    for (int64_t i = 0; i < w->n_group; i++) {
        double *z = w->z + i * CHUNK;
        m[i] = z[0];
        l[i] = 0;
        for (int64_t k = 1; k < n; k++)
            if (z[k] > m[i]) m[i] = z[k];
        for (int64_t k = 0; k < n; k++)
            l[i] += z[k] = exp(z[k] - m[i]);
    }
    for (int64_t k = 0; k < n; k++) {
        const float *v = pool_row(w, VPOOL, lo + k);
        for (int64_t i = 0; i < w->n_group; i++)
            for (int64_t c = 0; c < dv; c++)
                w->part[i * dv + c] += w->z[i * CHUNK + k] * (double)v[c];
    }
    for (int64_t i = 0; i < w->n_group; i++)
        merge(w, i, m[i], l[i], w->part + i * dv);
}

/* Keys that the token may see are one range; see op.def for its bounds. */
static void visible_keys(work *w, int64_t n_ctx) {
    const peri_attn_attr *a = &w->j->attr.attn;
    w->lo = 0;
    w->hi = n_ctx;
    if (!(a->flags & PERI_ATTN_NOT_CAUSAL) && w->pos + 1 < w->hi) w->hi = w->pos + 1;
    if (a->window > 0 && w->pos - a->window + 1 > w->lo) w->lo = w->pos - a->window + 1;
    if (a->chunk > 0) {
        int64_t first = w->pos / a->chunk * a->chunk;
        if (first > w->lo) w->lo = first;
        if (first + a->chunk < w->hi) w->hi = first + a->chunk;
    }
}

static void attend(work *w) {
    const cpu_job *j = w->j;
    int64_t dv = j->dim[VPOOL][3];
    memset(w->o, 0, (size_t)(w->n_group * dv) * sizeof *w->o);
    memset(w->l, 0, (size_t)w->n_group * sizeof *w->l);
    for (int64_t lo = w->lo; lo < w->hi;) {
        int64_t end = (lo / CHUNK + 1) * CHUNK, hi = end < w->hi ? end : w->hi;
        add_chunk(w, lo, hi);
        lo = hi;
    }
    for (int64_t i = 0; i < w->n_group; i++) {
        int64_t h = w->g * w->n_group + i;
        float *y = ref_row_f32(j, Y, w->t * j->dim[Q][2] + h);
        if (j->ptr[SINK]) merge(w, i, (double)((const float *)j->ptr[SINK])[h], 1, NULL);
        for (int64_t c = 0; c < dv; c++)
            y[c] = w->lo < w->hi ? (float)(w->o[i * dv + c] / w->l[i]) : 0;
    }
}

static size_t scratch_doubles(const cpu_job *j) {
    size_t n_group = (size_t)(j->dim[Q][2] / j->dim[KPOOL][2]), dv = (size_t)j->dim[VPOOL][3];
    return n_group * (CHUNK + 4 + 2 * dv);
}

static void attn_items(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    const peri_step *s = j->step;
    int64_t n_kv_head = j->dim[KPOOL][2], n_group = j->dim[Q][2] / n_kv_head;
    work w = {.j = j, .n_group = n_group, .z = scratch};
    w.m = w.z + n_group * (CHUNK + 2);
    w.l = w.m + n_group;
    w.o = w.l + n_group;
    w.part = w.o + n_group * j->dim[VPOOL][3];
    w.row = (float *)(w.part + n_group * j->dim[VPOOL][3]);
    for (int64_t i = lo; i < hi; i++) {
        w.t = i / n_kv_head;
        w.g = i % n_kv_head;
        int32_t seq = peri_step_array(s, s->seq)[w.t];
        w.pos = peri_step_array(s, s->pos)[w.t];
        w.table = peri_step_array(s, s->table) + (int64_t)seq * s->n[PERI_SYM_B];
        visible_keys(&w, peri_step_array(s, s->ctx)[seq]);
        attend(&w);
    }
}

/* The step's numbers index memory: refuse those outside, and tell the largest context. */
static int32_t check_step(const cpu_job *j, int64_t *n_ctx, peri_error *e) {
    const peri_step *s = j->step;
    const int32_t *seq = peri_step_array(s, s->seq), *ctx = peri_step_array(s, s->ctx);
    int64_t n_tok = j->dim[KPOOL][1], n_block = j->dim[KPOOL][0];
    for (int64_t t = 0; t < j->dim[Q][1]; t++)
        if (seq[t] < 0 || seq[t] >= s->n[PERI_SYM_S])
            return peri_plugin_fail(e, PERI_E_RANGE, "ATTN: token %lld of sequence %d of %d",
                                    (long long)t, (int)seq[t], (int)s->n[PERI_SYM_S]);
    for (int32_t k = 0; k < s->n[PERI_SYM_S]; k++) {
        const int32_t *table = peri_step_array(s, s->table) + (int64_t)k * s->n[PERI_SYM_B];
        if (ctx[k] < 0 || ctx[k] > s->n[PERI_SYM_B] * n_tok)
            return peri_plugin_fail(e, PERI_E_RANGE, "ATTN: %d keys of sequence %d, room for %lld",
                                    (int)ctx[k], (int)k, (long long)(s->n[PERI_SYM_B] * n_tok));
        if (ctx[k] > *n_ctx) *n_ctx = ctx[k];
        for (int64_t b = 0; b * n_tok < ctx[k]; b++)
            if (table[b] < 0 || table[b] >= n_block)
                return peri_plugin_fail(e, PERI_E_RANGE, "ATTN: block %d of %lld in sequence %d",
                                        (int)table[b], (long long)n_block, (int)k);
    }
    return PERI_OK;
}

int32_t ref_attn(cpu_dev *d, const cpu_job *j, peri_error *e) {
    int64_t dk = j->dim[KPOOL][3], dv = j->dim[VPOOL][3], n_ctx = 1;
    int64_t n_kv_head = j->dim[KPOOL][2], n_group = j->dim[Q][2] / n_kv_head;
    int32_t rc = check_step(j, &n_ctx, e);
    if (rc) return rc;
    size_t row = (size_t)(dk > dv ? dk : dv) * sizeof(float);
    rc = cpu_reserve(d, scratch_doubles(j) * sizeof(double) + row, 0, e);
    if (rc) return rc;
    ref_split(d, j, j->dim[Q][1] * n_kv_head, n_ctx * (dk + dv) * n_group, attn_items);
    return PERI_OK;
}
