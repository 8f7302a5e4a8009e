/* SPDX-License-Identifier: MIT
 *
 * attn_ops.c - ATTN and KV_APPEND of the fast levels: what is taken, the check of the step, and
 * which tokens go which way (attn.h). */
#include <string.h>

#include "attn.h"

enum { Q = ATTN_Q, KPOOL = ATTN_KPOOL, VPOOL = ATTN_VPOOL };

/* ---- ATTN ---- */

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

/* Cut the step's tokens into tiles; single tokens, which have a way of their own, go to alone[]. */
static int32_t make_tiles(const attn_job *a, attn_tile *out, int32_t *alone, int32_t *n_alone) {
    const peri_step *s = a->j->step;
    const int32_t *seq = peri_step_array(s, s->seq);
    int32_t n = 0, most = attn_tile_rows(a) / a->n_group, n_tok = (int32_t)a->j->dim[Q][1];
    *n_alone = 0;
    for (int32_t t = 0; t < n_tok;) {
        attn_tile tile = {t, 0};
        while (t < n_tok && tile.n < most && seq[t] == seq[tile.first])
            t++, tile.n++;
        if (tile.n == 1)
            alone[(*n_alone)++] = tile.first;
        else
            out[n++] = tile;
    }
    return n;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static int32_t run_attn(cpu_dev *d, const cpu_isa *isa, const cpu_job *j, peri_error *e) {
    attn_job a = {.d = d, .j = j, .isa = isa->attn, .n_head = (int32_t)j->dim[Q][2]};
    int64_t n_tok = j->dim[Q][1];
    int32_t rc = check_step(j, e), n_alone;
    if (rc || n_tok == 0) return rc;
    a.n_kv_head = (int32_t)j->dim[KPOOL][2];
    a.n_group = a.n_head / a.n_kv_head;
    a.dk = (int32_t)j->dim[KPOOL][3];
    a.dv = (int32_t)j->dim[VPOOL][3];
    a.dk16 = (a.dk + 15) & ~15;
    a.dv16 = (a.dv + 15) & ~15;
    size_t split = attn_split_shared(&a);
    rc = cpu_reserve(d, larger(attn_tiles_scratch(&a), attn_split_scratch(&a)),
                     split + (size_t)n_tok * (sizeof(attn_tile) + sizeof(int32_t)), e);
    if (rc) return rc;
    attn_tile *tile = (attn_tile *)((char *)cpu_shared(d) + split);
    int32_t *alone = (int32_t *)(tile + n_tok), n_tile = make_tiles(&a, tile, alone, &n_alone);
    attn_tiles_run(&a, tile, n_tile);
    attn_split_run(&a, alone, n_alone, cpu_shared(d));
    return PERI_OK;
}

/* ---- KV_APPEND ---- */

static void append(const cpu_job *j, const vec_isa *isa, uint32_t from, uint32_t pool, int64_t t,
                   int64_t at) {
    int64_t n_kv_head = j->dim[pool][2], n = j->dim[pool][3];
    uint32_t dtype = j->t[pool]->dtype;
    size_t bytes = attn_head_bytes(dtype, n);
    char *out = (char *)j->ptr[pool] + (size_t)(at * n_kv_head) * bytes;
    for (int64_t g = 0; g < n_kv_head; g++, out += bytes) {
        const float *x = ref_row_f32(j, from, t * n_kv_head + g);
        if (dtype == PERI_CPU_F16)
            isa->to_f16(x, (uint16_t *)out, n);
        else if (dtype == PERI_CPU_Q8_0)
            isa->to_q8_0(x, (uint8_t *)out, n);
        else
            ref_encode_row(dtype, x, out, n);
    }
}

enum { APPEND_TOKENS = 2 }; /* of a range: about a microsecond, most of it waiting for memory */

typedef struct append_job {
    const cpu_job *j;
    const vec_isa *isa;
} append_job;

static void append_range(void *arg, uint32_t i, uint32_t worker) {
    const append_job *a = arg;
    const int32_t *slot = peri_step_array(a->j->step, a->j->step->slot);
    int64_t lo = (int64_t)i * APPEND_TOKENS, hi = lo + APPEND_TOKENS, n = a->j->dim[0][1];
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
    append_job a = {j, isa->vec};
    cpu_parallel(d, (uint32_t)((n + APPEND_TOKENS - 1) / APPEND_TOKENS), append_range, &a);
    return PERI_OK;
}

/* ---- both ---- */

int attn_supports(const peri_program *p, const peri_op *op, char numerics[28]) {
    const peri_tensor *k, *v;
    snprintf(numerics, 28, "act=f32 acc=f32");
    if (op->code == PERI_OP_KV_APPEND) {
        return 1;
    }
    if (op->code != PERI_OP_ATTN) return 0;
    k = peri_operand(p, op, KPOOL);
    if (k->dtype == PERI_CPU_F16 || k->dtype == PERI_CPU_BF16)
        snprintf(numerics, 28, "act=bf16 acc=f32");
    v = peri_operand(p, op, VPOOL);
    return k->dtype == v->dtype && k->dim[3] <= ATTN_D_MAX && v->dim[3] <= ATTN_D_MAX &&
           peri_operand(p, op, Q)->dim[2] / k->dim[2] <= ATTN_ROWS_MAX;
}

int32_t attn_run(cpu_dev *d, const cpu_isa *isa, const cpu_job *j, peri_error *e) {
    return j->op->code == PERI_OP_ATTN ? run_attn(d, isa, j, e) : run_append(d, isa, j, e);
}
