/* SPDX-License-Identifier: MIT
 *
 * launch.c - from an op to its kernel: which one, what it is given, how many blocks.
 *
 * Grids have one dimension, whatever the shape, because only that one may be long. */
#include <math.h>

#include "cu.h"

/* From so many tokens on, a product takes CU_TOKENS of them with each row of weights. */
enum { MANY_FROM = 3 };

typedef struct job {
    peri_dev *d;
    const peri_program *p;
    const peri_op *op;
    const peri_bind *bind;
    const peri_step *step;
    CUdeviceptr step_on;               /* where it lies on the device */
    const peri_tensor *t[CU_OPERANDS]; /* NULL where absent */
    int32_t dim[CU_OPERANDS][4];
    cu_attr attr;
} job;

static void resolve(job *j, const int32_t *n) {
    j->attr = cu_attr_get(j->p, j->op);
    for (uint32_t k = 0; k < (uint32_t)j->op->n_in + j->op->n_out; k++) {
        j->t[k] = peri_operand(j->p, j->op, k);
        for (int i = 0; i < 4 && j->t[k]; i++)
            j->dim[k][i] = (int32_t)peri_dim(j->t[k], i, n);
    }
}

/* ---- which kernel -----------------------------------------------------------------------------
 */

/* Of an op that is one launch and no product with any number of tokens. */
static uint32_t kernel_of(const job *j, uint32_t *dtype) {
    *dtype = 0;
    switch (j->op->code) {
    case PERI_OP_EMBED:
        *dtype = j->t[0]->dtype;
        return CU_K_embed;
    case PERI_OP_NORM:
        return CU_K_norm;
    case PERI_OP_ADD_NORM:
        return CU_K_add_norm;
    case PERI_OP_ROPE:
        return CU_K_rope;
    case PERI_OP_KV_APPEND:
        *dtype = j->t[2]->dtype;
        return CU_K_kv_append;
    case PERI_OP_ACT:
        return CU_K_act;
    case PERI_OP_GLU:
        return CU_K_glu;
    case PERI_OP_ADD:
        return CU_K_add;
    case PERI_OP_MUL:
        return CU_K_mul;
    case PERI_OP_SCALE:
        return CU_K_scale;
    case PERI_OP_ROUTE:
        return CU_K_route;
    case PERI_OP_EXPERT_SUM:
        return CU_K_expert_sum;
    case PERI_OP_LINEAR_EXPERTS:
        *dtype = j->t[1]->dtype;
        return CU_K_experts;
    default:
        return CU_K_pick;
    }
}

/* Number of weights of a product that takes any number of tokens, operands 1 .. ; 0: another op. */
static uint32_t n_weight_of(uint16_t code) {
    return code == PERI_OP_LINEAR || code == PERI_OP_GATE_UP_GLU ? 1
           : code == PERI_OP_LINEAR_QKV                          ? 3
                                                                 : 0;
}

static uint32_t product_kernel(const job *j, bool is_many) {
    if (j->op->code == PERI_OP_GATE_UP_GLU) return is_many ? CU_K_gate_up_many : CU_K_gate_up_few;
    return is_many ? CU_K_linear_many : CU_K_linear_few;
}

/* ---- attention: in one go, or split by keys ---- */

/* Up to so many tokens a sum is split; up to so much scratch is taken for it. */
enum { SPLIT_TOKENS = 32, SCRATCH_BYTES = 128 << 20 };

/* How a step's attention runs. */
typedef struct plan_attn {
    bool is_tiled;
    int32_t n_tile, n_part;
    uint64_t bytes; /* of scratch, for one token */
} plan_attn;

static plan_attn plan_of(const job *j, int32_t n_block) {
    int32_t all = j->dim[0][2] / j->dim[1][2], dk = j->dim[1][3], dv = j->dim[2][3];
    plan_attn p = {.is_tiled = all > 1 && dk <= CU_TILE_HEAD && dv <= CU_TILE_HEAD};
    int64_t n_key = (int64_t)n_block * j->dim[1][1];
    p.n_tile = p.is_tiled ? (all + CU_TILE - 1) / CU_TILE : all;
    p.n_part = (int32_t)((n_key + CU_PART - 1) / CU_PART);
    p.bytes = (uint64_t)j->dim[0][2] * (uint64_t)p.n_part * (uint64_t)(dv + 2) * 4;
    return p;
}

static int32_t prepare_attn(job *j, const peri_bucket *b, peri_error *e) {
    plan_attn p = plan_of(j, b->hi[PERI_SYM_B]);
    CUfunction f;
    int32_t st =
        cu_function_get(j->d, p.is_tiled ? CU_K_attn_tile : CU_K_attn, j->t[1]->dtype, &f, e);
    if (p.n_part < 2 || st) return st;
    st = cu_function_get(j->d, p.is_tiled ? CU_K_attn_tile_part : CU_K_attn_part, j->t[1]->dtype,
                         &f, e);
    if (!st) st = cu_function_get(j->d, CU_K_attn_merge, 0, &f, e);
    uint64_t n = j->dim[0][1] < SPLIT_TOKENS ? (uint64_t)j->dim[0][1] : SPLIT_TOKENS;
    if (p.bytes && n > SCRATCH_BYTES / p.bytes) n = SCRATCH_BYTES / p.bytes;
    if (!st) cu_scratch_grow(j->d, n * p.bytes);
    return st;
}

static int32_t prepare_topk(peri_dev *d, peri_error *e) {
    CUfunction f;
    int32_t st = cu_function_get(d, CU_K_topk_sort, 0, &f, e);
    if (!st) st = cu_function_get(d, CU_K_topk_merge, 0, &f, e);
    if (st || d->topk) return st;
    CUresult rc = d->cu->cuMemAlloc(&d->topk, CU_TOPK_ROOM);
    if (rc == CUDA_SUCCESS) return PERI_OK;
    d->topk = 0;
    return cu_fail(d->cu, e, "device memory for lists of TOPK", rc);
}

int32_t cu_prepare(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                   peri_error *e) {
    job j = {.d = d, .p = p, .op = peri_op_at(p, op)};
    CUfunction f;
    uint32_t dtype;
    resolve(&j, b->hi);
    int32_t st = cu_enter(d, e);
    if (st) return st;
    if (j.op->code == PERI_OP_ATTN) return prepare_attn(&j, b, e);
    if (j.op->code == PERI_OP_TOPK) return prepare_topk(d, e);
    uint32_t n = n_weight_of(j.op->code);
    if (n == 0) {
        uint32_t kernel = kernel_of(&j, &dtype);
        return cu_function_get(d, kernel, dtype, &f, e);
    }
    for (uint32_t k = 1; k <= n && !st; k++) {
        st = cu_function_get(d, product_kernel(&j, false), j.t[k]->dtype, &f, e);
        if (!st && j.dim[0][2] >= MANY_FROM)
            st = cu_function_get(d, product_kernel(&j, true), j.t[k]->dtype, &f, e);
    }
    return st;
}

/* ---- addresses and launches -------------------------------------------------------------------
 */

/* Address of operand k; 0 when it is absent. */
static uint64_t at(const job *j, uint32_t k) {
    const peri_tensor *t = j->t[k];
    if (!t) return 0;
    const peri_buf *b = t->kind == PERI_T_ACT      ? j->bind->arena
                        : t->kind == PERI_T_WEIGHT ? j->bind->weights[t->ref]
                                                   : j->bind->pools[t->ref];
    return b->at + t->off;
}

static cu_rows rows(const job *j, uint32_t k) {
    cu_rows r = {.at = at(j, k)};
    for (int i = 0; i < 3 && j->t[k]; i++)
        r.stride[i] = j->t[k]->stride[i];
    return r;
}

/* From row `first` of dimension 2 on. */
static cu_rows rows_from(const job *j, uint32_t k, int32_t first) {
    cu_rows r = rows(j, k);
    r.at += (uint64_t)(first * r.stride[2]);
    return r;
}

/* One of the step's arrays. */
static uint64_t step_at(const job *j, uint32_t off) {
    return j->step_on + off;
}

static int32_t n_row(const job *j, uint32_t k) {
    return j->dim[k][0] * j->dim[k][1] * j->dim[k][2];
}

static int32_t chunks(int32_t n, int32_t per) {
    return (n + per - 1) / per;
}

static int32_t launch_kernel(const job *j, uint32_t kernel, uint32_t dtype, void *arguments,
                             int64_t n_block, peri_error *e) {
    CUfunction f;
    int32_t st = cu_function_get(j->d, kernel, dtype, &f, e);
    if (st || n_block == 0) return st;
    if (n_block > INT32_MAX)
        return peri_plugin_fail(e, PERI_E_RANGE, "an operation of %lld blocks", (long long)n_block);
    CUresult rc = j->d->cu->cuLaunchKernel(f, (unsigned)n_block, 1, 1, CU_THREADS, 1, 1, 0,
                                           j->d->stream, &arguments, NULL);
    return rc == CUDA_SUCCESS ? PERI_OK : cu_fail(j->d->cu, e, "cuLaunchKernel", rc);
}

/* The kernel of an op that is one launch. */
static int32_t launch(const job *j, void *arguments, int64_t n_block, peri_error *e) {
    uint32_t dtype, kernel = kernel_of(j, &dtype);
    return launch_kernel(j, kernel, dtype, arguments, n_block, e);
}

/* ---- products ---------------------------------------------------------------------------------
 */

/* Operands of one product. */
typedef struct product {
    uint32_t w, bias, scale, y;
} product;

static int32_t run_product(const job *j, product o, uint32_t flags, peri_error *e) {
    int32_t n_tok = n_row(j, o.y), m = j->dim[o.w][2];
    bool is_many = n_tok >= MANY_FROM;
    cu_linear a = {.w = at(j, o.w),
                   .bias = at(j, o.bias),
                   .scale = at(j, o.scale),
                   .x = rows(j, 0),
                   .y = rows(j, o.y),
                   .n = j->dim[o.w][3],
                   .m = m,
                   .n_tok = n_tok,
                   .n_group = chunks(n_tok, is_many ? CU_TOKENS : 1),
                   .is_scale_last = (flags & PERI_LINEAR_SCALE_LAST) != 0};
    return launch_kernel(j, product_kernel(j, is_many), j->t[o.w]->dtype, &a,
                         (int64_t)chunks(m, CU_ROWS) * a.n_group, e);
}

static int32_t run_qkv(const job *j, peri_error *e) {
    int32_t st = PERI_OK;
    for (uint32_t k = 0; k < 3 && !st; k++)
        st = run_product(j, (product){1 + k, 4 + k, 7 + k, 10 + k}, 0, e);
    return st;
}

static int32_t run_gate_up(const job *j, peri_error *e) {
    int32_t n_tok = j->dim[3][2], m = j->dim[1][2];
    bool is_many = n_tok >= MANY_FROM;
    cu_gate_up a = {.gate = at(j, 1),
                    .up = at(j, 2),
                    .x = rows(j, 0),
                    .y = rows(j, 3),
                    .n = j->dim[1][3],
                    .m = m,
                    .n_tok = n_tok,
                    .n_group = chunks(n_tok, is_many ? CU_TOKENS : 1),
                    .act = (int32_t)j->attr.act.act,
                    .param = j->attr.act.param};
    return launch_kernel(j, product_kernel(j, is_many), j->t[1]->dtype, &a,
                         (int64_t)chunks(m, CU_ROWS) * a.n_group, e);
}

/* x, W, ids, b?, s?, y */
static int32_t run_experts(const job *j, peri_error *e) {
    int32_t m = j->dim[1][2], n_tok = j->dim[5][1], n_used = j->dim[5][2];
    cu_experts a = {.w = at(j, 1),
                    .bias = at(j, 3),
                    .scale = at(j, 4),
                    .x = rows(j, 0),
                    .y = rows(j, 5),
                    .ids = rows(j, 2),
                    .n = j->dim[1][3],
                    .m = m,
                    .n_used = n_used,
                    .n_expert = j->dim[1][1],
                    .has_slots = j->dim[0][1] == n_tok && j->dim[0][2] == n_used,
                    .n_pair = n_tok * n_used};
    return launch(j, &a, (int64_t)chunks(m, CU_ROWS) * a.n_pair, e);
}

static int32_t run_embed(const job *j, peri_error *e) {
    const peri_step *s = j->step;
    uint32_t off = j->attr.embed.source ? s->pos : s->tok;
    cu_embed a = {.w = at(j, 0),
                  .ids = step_at(j, off),
                  .y = rows(j, 1),
                  .n = j->dim[0][3],
                  .n_chunk = chunks(j->dim[0][3], 8 * CU_THREADS),
                  .scale = j->attr.embed.scale};
    return launch(j, &a, (int64_t)a.n_chunk * j->dim[1][2], e);
}

/* ---- rows -------------------------------------------------------------------------------------
 */

/* x, w?, b?, y */
static int32_t run_norm(const job *j, peri_error *e) {
    cu_norm a = {.w = at(j, 1),
                 .bias = at(j, 2),
                 .x = rows(j, 0),
                 .y = rows(j, 3),
                 .d1 = j->dim[0][1],
                 .d2 = j->dim[0][2],
                 .n = j->dim[0][3],
                 .n_vector = j->t[1]   ? j->dim[1][2]
                             : j->t[2] ? j->dim[2][2]
                                       : 1,
                 .kind = (int32_t)j->attr.norm.kind,
                 .eps = j->attr.norm.eps};
    return launch(j, &a, n_row(j, 0), e);
}

/* a, b, w?, bias?, sum, y */
static int32_t run_add_norm(const job *j, peri_error *e) {
    cu_add_norm a = {.w = at(j, 2),
                     .bias = at(j, 3),
                     .a = rows(j, 0),
                     .b = rows(j, 1),
                     .sum = rows(j, 4),
                     .y = rows(j, 5),
                     .n = j->dim[0][3],
                     .kind = (int32_t)j->attr.norm.kind,
                     .eps = j->attr.norm.eps};
    return launch(j, &a, n_row(j, 0), e);
}

/* ACT, SCALE (one input), GLU, ADD, MUL (two) */
static int32_t run_map(const job *j, peri_error *e) {
    uint16_t code = j->op->code;
    bool has_act = code == PERI_OP_ACT || code == PERI_OP_GLU;
    cu_map a = {.a = rows(j, 0),
                .y = rows(j, j->op->n_in),
                .d1 = j->dim[0][1],
                .d2 = j->dim[0][2],
                .n = j->dim[0][3],
                .n_chunk = chunks(j->dim[0][3], CU_THREADS)};
    if (has_act) {
        a.act = (int32_t)j->attr.act.act;
        a.param = j->attr.act.param;
    }
    if (code == PERI_OP_SCALE) a.param = j->attr.scale.scale;
    if (j->op->n_in > 1) a.b = rows(j, 1);
    if (j->op->n_in > 1 && n_row(j, 1) == 1) a.b = (cu_rows){.at = a.b.at}; /* for every row */
    if (code == PERI_OP_MUL) a.is_one = j->dim[1][3] != j->dim[0][3];
    return launch(j, &a, (int64_t)n_row(j, 0) * a.n_chunk, e);
}

static int32_t run_pick(const job *j, peri_error *e) {
    cu_pick a = {.row = step_at(j, j->step->out_row),
                 .x = rows(j, 0),
                 .y = rows(j, 1),
                 .n = j->dim[0][3],
                 .n_chunk = chunks(j->dim[0][3], CU_THREADS)};
    return launch(j, &a, (int64_t)a.n_chunk * j->dim[1][2], e);
}

/* x [T][K][n], w, y */
static int32_t run_expert_sum(const job *j, peri_error *e) {
    cu_expert_sum a = {.x = rows(j, 0),
                       .w = rows(j, 1),
                       .y = rows(j, 2),
                       .n_used = j->dim[0][2],
                       .n = j->dim[0][3],
                       .n_chunk = chunks(j->dim[0][3], CU_THREADS)};
    return launch(j, &a, (int64_t)a.n_chunk * j->dim[0][1], e);
}

/* l, bias?, ids, w */
static int32_t run_route(const job *j, peri_error *e) {
    const peri_route_attr *r = &j->attr.route;
    cu_route a = {.bias = at(j, 1),
                  .l = rows(j, 0),
                  .ids = rows(j, 2),
                  .w = rows(j, 3),
                  .n = j->dim[0][3],
                  .n_used = j->dim[2][3],
                  .kind = (int32_t)r->kind,
                  .renorm = r->renorm != 0,
                  .n_group = (int32_t)r->n_group,
                  .n_group_used = (int32_t)r->n_group_used,
                  .weight_scale = r->weight_scale};
    return launch(j, &a, j->dim[0][2], e);
}

/* Rows first .. of x, ids, y, whose lists fit into the room there is. */
static int32_t run_topk_rows(const job *j, int32_t first, int32_t n_row, peri_error *e) {
    cu_topk_sort s = {.lists = j->d->topk,
                      .x = rows_from(j, 0, first),
                      .n = j->dim[0][3],
                      .k = j->dim[1][3],
                      .n_chunk = chunks(j->dim[0][3], CU_CHUNK)};
    cu_topk_merge m = {.out = s.lists,
                       .in = s.lists + (uint64_t)n_row * (uint64_t)s.n_chunk * (uint64_t)s.k * 8,
                       .x = s.x,
                       .ids = rows_from(j, 1, first),
                       .y = rows_from(j, 2, first),
                       .k = s.k,
                       .width = 1,
                       .n_group = s.n_chunk};
    int32_t st = launch_kernel(j, CU_K_topk_sort, 0, &s, (int64_t)n_row * s.n_chunk, e);
    while (m.width < m.k)
        m.width *= 2;
    do { /* what came out goes in, and the room of what went in is free */
        uint64_t out = m.in;
        m.in = m.out;
        m.out = out;
        m.n_list = m.n_group;
        m.n_group = chunks(m.n_list, CU_LISTS);
        if (!st) st = launch_kernel(j, CU_K_topk_merge, 0, &m, (int64_t)n_row * m.n_group, e);
    } while (m.n_group > 1 && !st);
    return st;
}

/* x, ids, y */
static int32_t run_topk(const job *j, peri_error *e) {
    int32_t n_row = j->dim[0][2], st = PERI_OK;
    int32_t n = (int32_t)(CU_TOPK_ROOM / cu_topk_bytes(j->dim[0][3], j->dim[1][3]));
    for (int32_t r = 0; r < n_row && !st; r += n)
        st = run_topk_rows(j, r, n_row - r < n ? n_row - r : n, e);
    return st;
}

/* ---- attention --------------------------------------------------------------------------------
 */

/* x, factor?, y */
static int32_t run_rope(const job *j, peri_error *e) {
    const peri_rope_attr *r = &j->attr.rope;
    const peri_tensor *x = j->t[0], *y = j->t[2];
    bool is_in_place =
        x->off == y->off && x->stride[1] == y->stride[1] && x->stride[2] == y->stride[2];
    int32_t n_rot = (int32_t)r->n_rot, n_item = n_rot / 2;
    if (!is_in_place) n_item += j->dim[0][3] - n_rot;
    cu_rope a = {.factor = at(j, 1),
                 .pos = step_at(j, j->step->pos),
                 .x = rows(j, 0),
                 .y = rows(j, 2),
                 .n_head = j->dim[0][2],
                 .n = j->dim[0][3],
                 .first = (int32_t)r->first,
                 .n_rot = n_rot,
                 .is_neox = r->pairs == PERI_ROPE_NEOX,
                 .n_item = n_item,
                 .n_chunk = chunks(n_item, CU_THREADS),
                 .ratio = powf(r->base, -2.0f / (float)n_rot),
                 .magnitude = r->magnitude,
                 .ext = r->ext,
                 .ramp_lo = r->ramp_lo,
                 .ramp_hi = r->ramp_hi,
                 .freq_scale = r->freq_scale};
    return launch(j, &a, (int64_t)j->dim[0][1] * a.n_head * a.n_chunk, e);
}

/* k, v, Kpool, Vpool */
static int32_t run_append(const job *j, peri_error *e) {
    cu_append a = {.slot = step_at(j, j->step->slot),
                   .k_pool = at(j, 2),
                   .v_pool = at(j, 3),
                   .k = rows(j, 0),
                   .v = rows(j, 1),
                   .n_head = j->dim[0][2],
                   .dk = j->dim[0][3],
                   .dv = j->dim[1][3]};
    return launch(j, &a, (int64_t)j->dim[0][1] * a.n_head, e);
}

/* Split where that is worth it and there is room; the bits are the same. */
static int32_t launch_attn(const job *j, cu_attn *a, peri_error *e) {
    plan_attn p = plan_of(j, a->max_blocks);
    uint32_t dtype = j->t[1]->dtype;
    int64_t n_tok = j->dim[0][1], n_group = (int64_t)a->n_kv_head * p.n_tile;
    a->n_tile = p.n_tile;
    a->n_part = p.n_part;
    if (p.n_part < 2 || n_tok > SPLIT_TOKENS || (uint64_t)n_tok * p.bytes > j->d->scratch_bytes)
        return launch_kernel(j, p.is_tiled ? CU_K_attn_tile : CU_K_attn, dtype, a, n_tok * n_group,
                             e);
    a->top = j->d->scratch;
    a->part = a->top + (uint64_t)n_tok * (uint64_t)a->n_head * (uint64_t)p.n_part * 8;
    int32_t st = launch_kernel(j, p.is_tiled ? CU_K_attn_tile_part : CU_K_attn_part, dtype, a,
                               n_tok * p.n_part * n_group, e);
    return st ? st : launch_kernel(j, CU_K_attn_merge, 0, a, n_tok * a->n_head, e);
}

/* q, Kpool, Vpool, sink?, y */
static int32_t run_attn(const job *j, peri_error *e) {
    const peri_attn_attr *r = &j->attr.attn;
    const peri_step *s = j->step;
    cu_attn a = {.k_pool = at(j, 1),
                 .v_pool = at(j, 2),
                 .sink = at(j, 3),
                 .pos = step_at(j, s->pos),
                 .seq = step_at(j, s->seq),
                 .ctx = step_at(j, s->ctx),
                 .table = step_at(j, s->table),
                 .q = rows(j, 0),
                 .y = rows(j, 4),
                 .n_head = j->dim[0][2],
                 .n_kv_head = j->dim[1][2],
                 .dk = j->dim[1][3],
                 .dv = j->dim[2][3],
                 .max_blocks = s->n[PERI_SYM_B],
                 .block_tokens = j->dim[1][1],
                 .window = r->window,
                 .chunk = r->chunk,
                 .is_not_causal = (r->flags & PERI_ATTN_NOT_CAUSAL) != 0,
                 .scale = r->scale,
                 .cap = r->cap,
                 .alibi_max = r->alibi_max};
    return launch_attn(j, &a, e);
}

/* ---- all --------------------------------------------------------------------------------------
 */

int32_t cu_queue_op(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                    const peri_step *s, CUdeviceptr at, peri_error *e) {
    job j = {.d = d, .p = p, .op = peri_op_at(p, op), .bind = m, .step = s, .step_on = at};
    resolve(&j, s->n);
    switch (j.op->code) {
    case PERI_OP_LINEAR:
        return run_product(&j, (product){1, 2, 3, 4}, j.attr.linear.flags, e);
    case PERI_OP_LINEAR_QKV:
        return run_qkv(&j, e);
    case PERI_OP_GATE_UP_GLU:
        return run_gate_up(&j, e);
    case PERI_OP_LINEAR_EXPERTS:
        return run_experts(&j, e);
    case PERI_OP_EMBED:
        return run_embed(&j, e);
    case PERI_OP_NORM:
        return run_norm(&j, e);
    case PERI_OP_ADD_NORM:
        return run_add_norm(&j, e);
    case PERI_OP_ROPE:
        return run_rope(&j, e);
    case PERI_OP_KV_APPEND:
        return run_append(&j, e);
    case PERI_OP_ATTN:
        return run_attn(&j, e);
    case PERI_OP_ROUTE:
        return run_route(&j, e);
    case PERI_OP_EXPERT_SUM:
        return run_expert_sum(&j, e);
    case PERI_OP_ROWS:
        return run_pick(&j, e);
    case PERI_OP_TOPK:
        return run_topk(&j, e);
    }
    return run_map(&j, e);
}

int32_t cu_run_op(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                  const peri_step *s, peri_error *e) {
    cu_limits l = {0};
    cu_limits_add(&l, p, op);
    int32_t st = cu_limits_check(&l, s, e);
    if (!st) st = cu_enter(d, e);
    if (!st) st = cu_step_send(d, &d->step, s, e);
    return st ? st : cu_queue_op(d, p, op, m, s, d->step.at, e);
}
