/* SPDX-License-Identifier: MIT
 *
 * step.c - the step's block on the device, and whether its numbers are what they may be: they
 * index memory there, where nothing checks them.
 *
 * The block is copied from pinned memory of our own, which is not touched again before the copy
 * has ended; so nothing waits as long as each step is followed by a read. */
#include <string.h>

#include "cu.h"

void cu_step_free(peri_dev *d, cu_step *at) {
    if (at->at) d->cu->cuMemFree(at->at);
    if (at->now) d->cu->cuMemFreeHost(at->now);
    *at = (cu_step){0};
}

int32_t cu_step_grow(peri_dev *d, cu_step *at, uint64_t n, peri_error *e) {
    void *now = NULL;
    int32_t st = cu_wait(d, "waiting for the step before", e);
    if (st) return st;
    cu_step_free(d, at);
    CUresult rc = d->cu->cuMemHostAlloc(&now, (size_t)n, 0);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, "pinned memory for the step", rc);
    at->now = now;
    rc = d->cu->cuMemAlloc(&at->at, (size_t)n);
    if (rc != CUDA_SUCCESS) {
        at->at = 0;
        cu_step_free(d, at);
        return cu_fail(d->cu, e, "device memory for the step", rc);
    }
    at->room = n;
    return PERI_OK;
}

int32_t cu_step_send(peri_dev *d, cu_step *at, const peri_step *s, peri_error *e) {
    uint64_t n = s->bytes;
    int32_t st = PERI_OK;
    if (n == at->bytes && memcmp(at->now, s, (size_t)n) == 0) return PERI_OK;
    if (at->sent == d->n_wait) st = cu_wait(d, "waiting for the step before", e);
    /* twice what is needed now: steps grow with the context */
    if (!st && n > at->room) st = cu_step_grow(d, at, n * 2 < 65536 ? 65536 : n * 2, e);
    if (st) return st;
    memcpy(at->now, s, (size_t)n);
    at->bytes = 0; /* should the copy fail */
    CUresult rc = d->cu->cuMemcpyHtoDAsync(at->at, at->now, (size_t)n, d->stream);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, "writing the step", rc);
    at->sent = d->n_wait;
    at->bytes = n;
    return PERI_OK;
}

/* ---- limits -----------------------------------------------------------------------------------
 */

static void lower(int64_t *limit, int64_t to) {
    if (*limit == 0 || to < *limit) *limit = to;
}

bool cu_limits_add(cu_limits *l, const peri_program *p, uint32_t op) {
    const peri_op *o = peri_op_at(p, op);
    const peri_tensor *pool = NULL;
    switch (o->code) {
    case PERI_OP_EMBED:
        lower(peri_op_attr_get(p, o).embed.source ? &l->pos_rows : &l->tok_rows,
              peri_operand(p, o, 0)->dim[2]);
        return true;
    case PERI_OP_ROWS:
        l->wants_rows = true;
        return true;
    case PERI_OP_KV_APPEND:
        pool = peri_operand(p, o, 2);
        lower(&l->n_slot, pool->dim[0] * pool->dim[1]);
        return true;
    case PERI_OP_ATTN:
        pool = peri_operand(p, o, 1);
        lower(&l->n_block, pool->dim[0]);
        if (l->block_tokens && l->block_tokens != pool->dim[1]) return false;
        l->block_tokens = pool->dim[1];
    }
    return true;
}

/* Each of n numbers must lie in lo .. end - 1. */
static int32_t check_numbers(const peri_step *s, uint32_t off, int32_t n, int64_t lo, int64_t end,
                             const char *what, peri_error *e) {
    const int32_t *v = peri_step_array(s, off);
    for (int32_t i = 0; i < n; i++)
        if (v[i] < lo || v[i] >= end)
            return peri_plugin_fail(e, PERI_E_RANGE, "%s %d of %lld (number %d of the step)", what,
                                    (int)v[i], (long long)end, (int)i);
    return PERI_OK;
}

static int32_t check_tables(const cu_limits *l, const peri_step *s, peri_error *e) {
    int64_t max = s->n[PERI_SYM_B];
    const int32_t *ctx = peri_step_array(s, s->ctx), *table = peri_step_array(s, s->table);
    for (int32_t k = 0; k < s->n[PERI_SYM_S]; k++, table += max) {
        if (ctx[k] < 0 || ctx[k] > max * l->block_tokens)
            return peri_plugin_fail(e, PERI_E_RANGE, "%d keys of sequence %d, room for %lld",
                                    (int)ctx[k], (int)k, (long long)(max * l->block_tokens));
        for (int64_t b = 0; b * l->block_tokens < ctx[k]; b++)
            if (table[b] < 0 || table[b] >= l->n_block)
                return peri_plugin_fail(e, PERI_E_RANGE, "block %d of %lld in sequence %d",
                                        (int)table[b], (long long)l->n_block, (int)k);
    }
    return PERI_OK;
}

int32_t cu_limits_check(const cu_limits *l, const peri_step *s, peri_error *e) {
    int32_t st = PERI_OK, n_tok = s->n[PERI_SYM_T];
    if (l->tok_rows) st = check_numbers(s, s->tok, n_tok, 0, l->tok_rows, "row", e);
    if (l->pos_rows && !st) st = check_numbers(s, s->pos, n_tok, 0, l->pos_rows, "row", e);
    if (l->n_slot && !st) st = check_numbers(s, s->slot, n_tok, INT32_MIN, l->n_slot, "slot", e);
    if (l->wants_rows && !st)
        st = check_numbers(s, s->out_row, s->n[PERI_SYM_R], 0, n_tok, "output row", e);
    if (l->block_tokens && !st)
        st = check_numbers(s, s->seq, n_tok, 0, s->n[PERI_SYM_S], "sequence", e);
    return l->block_tokens && !st ? check_tables(l, s, e) : st;
}
