/* SPDX-License-Identifier: MIT
 *
 * together.c - ops that follow one another and are one launch.
 *
 * A launch costs some microseconds in which next to nothing is read, and small ops are nothing but
 * that.  What is computed is the same, bit by bit; where what lies between such ops is not written,
 * they are taken together only when nobody else reads it. */
#include <string.h>

#include "job.h"

/* The op `ahead` of j; false when it is not run together with it. */
static bool job_ahead(const cu_job *j, uint32_t ahead, cu_job *out) {
    if (ahead >= j->end - j->index) return false;
    *out = (cu_job){.d = j->d,
                    .p = j->p,
                    .op = peri_op_at(j->p, j->index + ahead),
                    .index = j->index + ahead,
                    .end = j->end,
                    .bind = j->bind,
                    .step = j->step,
                    .step_on = j->step_on};
    cu_resolve(out, j->step->n);
    return true;
}

static uint32_t arg(const cu_job *j, uint32_t k) {
    return peri_arg(j->p, j->op, k);
}

/* Does any op but number `reader` read operand k of j? */
static bool is_read(const cu_job *j, uint32_t k, uint32_t reader) {
    uint32_t tensor = arg(j, k);
    for (uint32_t i = 0; i < j->p->n_ops; i++) {
        const peri_op *o = peri_op_at(j->p, i);
        for (uint32_t a = 0; a < o->n_in && i != reader; a++)
            if (peri_arg(j->p, o, a) == tensor) return true;
    }
    return false;
}

/* ---- gate and up of experts -------------------------------------------------------------------
 */

/* Which of both experts' products GLU takes as the gate. */
static int gate_of(const cu_job *j) {
    return j[2].t[0] == j[1].t[5];
}

static bool is_pair(cu_job *j) {
    if (!job_ahead(j, 1, &j[1]) || j[1].op->code != PERI_OP_LINEAR_EXPERTS ||
        !job_ahead(j, 2, &j[2]) || j[2].op->code != PERI_OP_GLU)
        return false;
    int gate = gate_of(j);
    for (int k = 0; k < 2; k++)
        if (j[k].t[5] != j[2].t[2] && is_read(&j[k], 5, j[2].index)) return false;
    return cu_can_pair(&j[gate], &j[!gate], &j[2]);
}

/* ---- a sum of experts and the norm behind it ---------------------------------------------------
 */

/* Which operand of ADD_NORM is the sum of experts. */
static uint32_t sum_of(const cu_job *j) {
    return arg(&j[1], 1) == arg(&j[0], 2) ? 1 : 0;
}

static bool is_clear(const cu_job *a, uint32_t k, const cu_job *b, uint32_t l) {
    uint64_t from = cu_at(a, k), other = cu_at(b, l);
    return from + cu_extent(a, k) <= other || other + cu_extent(b, l) <= from;
}

/* Rows are written while others of experts are still read.  Of the block's own all are read before
 * the norm is, so that of a single row it may lie where they were. */
static bool is_sum_norm(cu_job *j) {
    if (!job_ahead(j, 1, &j[1]) || j[1].op->code != PERI_OP_ADD_NORM) return false;
    uint32_t sum = sum_of(j);
    if (arg(&j[1], sum) != arg(&j[0], 2) || arg(&j[1], 1 - sum) == arg(&j[0], 2)) return false;
    if (is_read(j, 2, j[1].index)) return false;
    for (uint32_t k = 0; k < 2; k++) {
        if (!is_clear(j, k, &j[1], 4)) return false;
        if (cu_n_row(&j[1], 5) > 1 && !is_clear(j, k, &j[1], 5)) return false;
    }
    return true;
}

static int32_t run_sum_norm(const cu_job *j, peri_error *e) {
    cu_sum_norm a = {.norm = cu_add_norm_of(&j[1]), .sum = cu_expert_sum_of(&j[0])};
    a.norm.a = cu_rows_of(&j[1], 1 - sum_of(j));
    a.norm.q = cu_room_for_codes(&j[1], 5);
    return cu_launch(j, CU_K_sum_norm, 0, &a, a.norm.n_row, e);
}

/* ---- a product and ROUTE of what it gives -------------------------------------------------------
 *
 * The logits are written, whoever reads them. */

/* Types of which route.cu has the kernel. */
bool cu_can_route(const cu_job *j) {
    if (j->op->code != PERI_OP_LINEAR) return false;
    uint32_t dtype = j->t[1]->dtype;
    return dtype == CU_F32 || dtype == CU_F16 || dtype == CU_BF16;
}

/* One token's experts are written while another's row may still be read. */
static bool is_route(cu_job *j) {
    int32_t n_tok = cu_n_row(j, 4);
    if (!cu_can_route(j) || n_tok >= CU_MANY_FROM || !job_ahead(j, 1, &j[1]) ||
        j[1].op->code != PERI_OP_ROUTE || arg(&j[1], 0) != arg(j, 4))
        return false;
    return n_tok < 2 || (is_clear(j, 0, &j[1], 2) && is_clear(j, 0, &j[1], 3));
}

static int32_t run_route(const cu_job *j, peri_error *e) {
    cu_linear_route a = {
        .linear = cu_linear_of(&j[0]), .route = cu_route_of(&j[1]), .count = j->d->counts};
    a.n_block = cu_chunks(a.linear.m, CU_ROWS);
    return cu_launch(j, CU_K_linear_route, j->t[1]->dtype, &a,
                     (int64_t)a.n_block * a.linear.n_group, e);
}

/* ---- heads ------------------------------------------------------------------------------------
 *
 * [NORM, NORM,] ROPE, ROPE, KV_APPEND, each in place, so that all that they write is written; q, k
 * and v apart, so that no warp reads what another writes. */

/* Up to so many heads of a token are a warp's, once the device is full of warps. */
enum { MOST_HEADS = 8, WARPS = 32 };

/* Bytes of a token's heads, from the first on. */
static int64_t span_of(const cu_heads_part *p, int32_t n) {
    return (p->n_head - 1) * p->stride[1] + (int64_t)n * 4;
}

/* Have they no byte in common?  Those of one buffer may alternate, token by token. */
static bool is_apart(const cu_heads_part *a, int32_t n_a, const cu_heads_part *b, int32_t n_b,
                     int32_t n_tok) {
    if (a->at > b->at) return is_apart(b, n_b, a, n_a, n_tok);
    int64_t between = (int64_t)(b->at - a->at), span = span_of(a, n_a);
    if (a->stride[0] < 0 || a->stride[1] < 0 || b->stride[0] < 0 || b->stride[1] < 0) return false;
    if (between >= (n_tok - 1) * a->stride[0] + span) return true;
    return a->stride[0] == b->stride[0] && between >= span &&
           between + span_of(b, n_b) <= a->stride[0];
}

static cu_heads_part part_of(const cu_rows *x, int32_t n_head) {
    return (cu_heads_part){.at = x->at, .stride = {x->stride[1], x->stride[2]}, .n_head = n_head};
}

/* Of q or k: in place, by itself. */
static bool add_norm(cu_heads *a, const cu_job *j, const uint32_t tensor[2]) {
    cu_norm n = cu_norm_of(j);
    uint32_t k = arg(j, 0) == tensor[0] ? 0 : 1;
    if (arg(j, 0) != tensor[k] || arg(j, 3) != tensor[k] || a->part[k].n_vector) return false;
    a->part[k].w = n.w;
    a->part[k].bias = n.bias;
    a->part[k].n_vector = n.n_vector;
    a->part[k].kind = n.kind;
    a->part[k].eps = n.eps;
    return true;
}

/* Ropes of q and k, by the same angles; op: the ropes and the KV_APPEND. */
static bool begin_heads(cu_heads *a, const cu_job op[3], uint32_t tensor[2]) {
    uint32_t k = arg(&op[0], 0) == arg(&op[2], 0) ? 0 : 1; /* the rope of the keys */
    cu_append append = cu_append_of(&op[2]);
    cu_rope q = cu_rope_of(&op[1 - k]), key = cu_rope_of(&op[k]);
    tensor[0] = arg(&op[1 - k], 0);
    tensor[1] = arg(&op[k], 0);
    if (tensor[1] != arg(&op[2], 0) || tensor[0] == tensor[1]) return false;
    if (arg(&op[0], 2) != arg(&op[0], 0) || arg(&op[1], 2) != arg(&op[1], 0)) return false;
    if (memcmp(&op[0].attr.rope, &op[1].attr.rope, sizeof op[0].attr.rope) != 0) return false;
    if (q.factor != key.factor || q.n != key.n) return false;
    *a = (cu_heads){.part = {part_of(&q.x, q.n_head), part_of(&key.x, key.n_head),
                             part_of(&append.v, append.n_head)},
                    .rope = q,
                    .slot = append.slot,
                    .k_pool = append.k_pool,
                    .v_pool = append.v_pool,
                    .n_tok = op[2].dim[0][1],
                    .d = append.dk,
                    .dv = append.dv};
    if (a->d > CU_KEPT_HEAD || a->dv > CU_KEPT_HEAD || a->d % 4 || a->dv % 4) return false;
    return is_apart(&a->part[0], a->d, &a->part[1], a->d, a->n_tok) &&
           is_apart(&a->part[0], a->d, &a->part[2], a->dv, a->n_tok) &&
           is_apart(&a->part[1], a->d, &a->part[2], a->dv, a->n_tok);
}

/* Warps to a token. */
static int32_t warps_of(const cu_heads *a, int32_t n_processor) {
    int32_t n = a->part[0].n_head + 2 * a->part[1].n_head;
    int64_t room = (int64_t)WARPS * n_processor;
    int64_t each = ((int64_t)a->n_tok * n + room - 1) / room;
    return cu_chunks(n, each < 1 ? 1 : each > MOST_HEADS ? MOST_HEADS : (int32_t)each);
}

/* What the ops from j on, n_norm norms first, do at once; false when they cannot. */
static bool heads_of(const cu_job *j, uint32_t n_norm, cu_heads *a) {
    uint32_t tensor[2];
    if (!begin_heads(a, &j[n_norm], tensor)) return false;
    for (uint32_t k = 0; k < n_norm; k++)
        if (!add_norm(a, &j[k], tensor)) return false;
    a->n_warp = warps_of(a, j->d->n_processor);
    return true;
}

static bool is_heads(cu_job *j, uint32_t n_norm) {
    static const uint16_t codes[] = {PERI_OP_ROPE, PERI_OP_ROPE, PERI_OP_KV_APPEND};
    cu_heads a;
    for (uint32_t k = 0; k < n_norm + 3; k++) {
        if (k > 0 && !job_ahead(j, k, &j[k])) return false;
        if (j[k].op->code != (k < n_norm ? PERI_OP_NORM : codes[k - n_norm])) return false;
    }
    return heads_of(j, n_norm, &a);
}

static int32_t run_heads(const cu_job *j, uint32_t n, peri_error *e) {
    const cu_job *append = &j[n - 1];
    cu_heads a;
    heads_of(j, n - 3, &a);
    return cu_launch(append, CU_K_heads, append->t[2]->dtype, &a,
                     cu_chunks(a.n_tok * a.n_warp, CU_ROWS), e);
}

/* ---- all --------------------------------------------------------------------------------------
 */

uint32_t cu_match(cu_job j[CU_TOGETHER]) {
    switch (j[0].op->code) {
    case PERI_OP_LINEAR:
        return is_route(j) ? 2 : 1;
    case PERI_OP_LINEAR_EXPERTS:
        return is_pair(j) ? 3 : 1;
    case PERI_OP_EXPERT_SUM:
        return is_sum_norm(j) ? 2 : 1;
    case PERI_OP_ROPE:
        return is_heads(j, 0) ? 3 : 1;
    case PERI_OP_NORM:
        return is_heads(j, 2) ? 5 : is_heads(j, 1) ? 4 : 1;
    }
    return 1;
}

int32_t cu_queue_together(const cu_job *j, uint32_t n, peri_error *e) {
    switch (j[0].op->code) {
    case PERI_OP_LINEAR:
        return run_route(j, e);
    case PERI_OP_LINEAR_EXPERTS:
        return cu_run_pair(&j[gate_of(j)], &j[!gate_of(j)], &j[2], e);
    case PERI_OP_EXPERT_SUM:
        return run_sum_norm(j, e);
    }
    return run_heads(j, n, e);
}
