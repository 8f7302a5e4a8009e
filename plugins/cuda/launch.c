/* SPDX-License-Identifier: MIT
 *
 * launch.c - from an op to its kernel: which one, what it is given, how many blocks.
 *
 * Grids have one dimension, whatever the shape, because only that one may be long. */
#include <math.h>

#include "job.h"

void cu_resolve(cu_job *j, const int32_t *n) {
    j->attr = peri_op_attr_get(j->p, j->op);
    for (uint32_t k = 0; k < (uint32_t)j->op->n_in + j->op->n_out; k++) {
        j->t[k] = peri_operand(j->p, j->op, k);
        for (int i = 0; i < 4 && j->t[k]; i++)
            j->dim[k][i] = (int32_t)peri_dim(j->t[k], i, n);
    }
}

/* ---- which kernel -----------------------------------------------------------------------------
 */

/* Of an op that is one launch and no product with any number of tokens. */
static uint32_t kernel_of(const cu_job *j, uint32_t *dtype) {
    *dtype = 0;
    switch (j->op->code) {
    case PERI_OP_EMBED:
        *dtype = j->t[0]->dtype;
        return CU_K_embed;
    case PERI_OP_NORM:
        return j->dim[0][3] <= CU_NORM_SHORT ? CU_K_norm_short : CU_K_norm;
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

/* Types that are not of blocks: FOR_PLAIN_TYPES of weights.cuh. */
static bool is_plain(uint32_t dtype) {
    return dtype == CU_F32 || dtype == CU_F16 || dtype == CU_BF16 || dtype == CU_F64;
}

static uint32_t product_kernel(const cu_job *j, bool is_many) {
    if (j->op->code == PERI_OP_GATE_UP_GLU && is_plain(j->t[1]->dtype))
        return is_many ? CU_K_gate_up_many : CU_K_gate_up_few;
    return is_many ? CU_K_linear_many : CU_K_linear_few;
}

/* ---- attention: a token's parts one after the other, or a block each ---- */

/* Up to so many tokens a sum is split. */
enum { SPLIT_TOKENS = 32 };
/* Blocks take a head each up to this number of them: then the device has multiprocessors to spare,
 * and they read the same keys out of its cache again. */
enum { SINGLE_BLOCKS = 128 };

/* Fewer tokens of a sequence than this, one behind the other, are taken singly: then multiplying
 * for the rest of a block is dearer than reading their keys once more. */
enum { LEAST_MANY = 3 };

/* How a step's attention runs. */
typedef struct plan_attn {
    bool is_tiled, is_split;
    int32_t n_tile, n_part;
    int64_t n_group; /* of blocks over the same keys of a token */
    uint64_t bytes;  /* of scratch, for one token's parts; 0: they are not split */
} plan_attn;

static plan_attn plan_of(const cu_job *j, int32_t n_tok, int32_t n_block) {
    int32_t n_head = j->dim[0][2], n_kv_head = j->dim[1][2], all = n_head / n_kv_head;
    int32_t dk = j->dim[1][3], dv = j->dim[2][3];
    int64_t n_key = (int64_t)n_block * j->dim[1][1];
    plan_attn p = {.n_part = (int32_t)((n_key + CU_PART - 1) / CU_PART)};
    p.is_tiled = all > 1 && dk <= CU_TILE_HEAD && dv <= CU_TILE_HEAD &&
                 (int64_t)n_tok * n_head * p.n_part > SINGLE_BLOCKS;
    p.n_tile = p.is_tiled ? (all + CU_TILE - 1) / CU_TILE : all;
    p.n_group = (int64_t)n_kv_head * p.n_tile;
    p.is_split = n_tok <= SPLIT_TOKENS && n_tok * p.n_group <= CU_COUNTS;
    p.bytes = p.n_part < 2 ? 0 : (uint64_t)n_head * (uint64_t)p.n_part * (uint64_t)(dv + 2) * 4;
    return p;
}

/* Bytes of scratch for the outputs of so many tokens as a product takes them. */
static uint64_t codes_of(const cu_job *j, int32_t n_tok) {
    return cu_code_bytes(n_tok, j->dim[0][2] * j->dim[2][3]);
}

/* Counts of blocks that are done: 0 between launches. */
static int32_t prepare_counts(peri_dev *d, peri_error *e) {
    static const int32_t zero[CU_COUNTS];
    if (d->counts) return PERI_OK;
    CUresult rc = d->cu->cuMemAlloc(&d->counts, sizeof zero);
    if (rc != CUDA_SUCCESS) {
        d->counts = 0;
        return cu_fail(d->cu, e, "device memory for counts of blocks", rc);
    }
    rc = d->cu->cuMemcpyHtoDAsync(d->counts, zero, sizeof zero, d->stream);
    if (rc == CUDA_SUCCESS) return cu_wait(d, "writing counts of blocks", e);
    d->cu->cuMemFree(d->counts);
    d->counts = 0;
    return cu_fail(d->cu, e, "cuMemcpyHtoDAsync", rc);
}

static int32_t prepare_attn(cu_job *j, const peri_bucket *b, peri_error *e) {
    static const uint32_t kernels[] = {CU_K_attn,           CU_K_attn_part, CU_K_attn_tile,
                                       CU_K_attn_tile_part, CU_K_attn_many, CU_K_attn_tile_many};
    int32_t st = prepare_counts(j->d, e), n_tok = j->dim[0][1];
    CUfunction f;
    for (uint32_t k = 0; k < sizeof kernels / sizeof *kernels && !st; k++)
        st = cu_function_get(j->d, kernels[k], j->t[1]->dtype, &f, e);
    if (n_tok > SPLIT_TOKENS) n_tok = SPLIT_TOKENS;
    plan_attn p = plan_of(j, n_tok, b->hi[PERI_SYM_B]);
    uint64_t n = (uint64_t)n_tok, codes = codes_of(j, n_tok);
    if (p.bytes && n > CU_SCRATCH_BYTES / p.bytes) n = CU_SCRATCH_BYTES / p.bytes;
    peri_error why = {0};
    if (!st && cu_scratch_grow(j->d, codes + n * p.bytes, &why) != PERI_OK)
        cu_scratch_warn(j->d, "attention over many keys is slower", codes + n * p.bytes, &why);
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

/* A product of any number of tokens, with n weights; ROUTE behind it may be the same launch. */
static int32_t prepare_product(const cu_job *j, uint32_t n, uint32_t op, peri_error *e) {
    CUfunction f;
    int32_t st = PERI_OK;
    for (uint32_t k = 1; k <= n && !st; k++) {
        st = cu_function_get(j->d, product_kernel(j, false), j->t[k]->dtype, &f, e);
        if (!st && j->dim[0][2] >= CU_MANY_FROM)
            st = cu_function_get(j->d, product_kernel(j, true), j->t[k]->dtype, &f, e);
    }
    if (st || !cu_can_route(j) || op + 1 == j->p->n_ops ||
        peri_op_at(j->p, op + 1)->code != PERI_OP_ROUTE)
        return st;
    st = cu_function_get(j->d, CU_K_linear_route, j->t[1]->dtype, &f, e);
    return st ? st : prepare_counts(j->d, e);
}

int32_t cu_prepare(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                   peri_error *e) {
    cu_job j = {.d = d, .p = p, .op = peri_op_at(p, op)};
    CUfunction f;
    uint32_t dtype;
    cu_resolve(&j, b->hi);
    int32_t st = cu_enter(d, e);
    if (st) return st;
    if (j.op->code == PERI_OP_ATTN) return prepare_attn(&j, b, e);
    if (j.op->code == PERI_OP_TOPK) return prepare_topk(d, e);
    if (cu_has_codes(&j)) return cu_prepare_codes(&j, b, e);
    uint32_t n = n_weight_of(j.op->code);
    if (n == 0) {
        uint32_t kernel = kernel_of(&j, &dtype);
        if (j.op->code == PERI_OP_KV_APPEND) st = cu_function_get(d, CU_K_heads, dtype, &f, e);
        if (j.op->code == PERI_OP_EXPERT_SUM) st = cu_function_get(d, CU_K_sum_norm, 0, &f, e);
        return st ? st : cu_function_get(d, kernel, dtype, &f, e);
    }
    return prepare_product(&j, n, op, e);
}

const char *cu_numerics(peri_dev *d, const peri_program *p, uint32_t op) {
    cu_job j = {.d = d, .p = p, .op = peri_op_at(p, op)};
    const int32_t n[PERI_NSYM] = {0};
    bool is_all;
    cu_resolve(&j, n);
    uint32_t n_code = cu_n_code(&j, &is_all);
    return n_code == 0 ? "act=f32 acc=f32" : is_all ? "act=q8/32 acc=i32" : NULL;
}

/* ---- addresses and launches -------------------------------------------------------------------
 */

uint64_t cu_at(const cu_job *j, uint32_t k) {
    const peri_tensor *t = j->t[k];
    if (!t) return 0;
    const peri_buf *b = t->kind == PERI_T_ACT      ? j->bind->arena
                        : t->kind == PERI_T_WEIGHT ? j->bind->weights[t->ref]
                                                   : j->bind->pools[t->ref];
    return b->at + t->off;
}

cu_rows cu_rows_of(const cu_job *j, uint32_t k) {
    cu_rows r = {.at = cu_at(j, k)};
    for (int i = 0; i < 3 && j->t[k]; i++)
        r.stride[i] = j->t[k]->stride[i];
    return r;
}

/* From row `first` of dimension 2 on. */
static cu_rows rows_from(const cu_job *j, uint32_t k, int32_t first) {
    cu_rows r = cu_rows_of(j, k);
    r.at += (uint64_t)(first * r.stride[2]);
    return r;
}

/* One of the step's arrays. */
static uint64_t step_at(const cu_job *j, uint32_t off) {
    return j->step_on + off;
}

int32_t cu_n_row(const cu_job *j, uint32_t k) {
    return j->dim[k][0] * j->dim[k][1] * j->dim[k][2];
}

uint64_t cu_extent(const cu_job *j, uint32_t k) {
    int64_t last = 0;
    for (int i = 0; i < 3; i++)
        last += (j->dim[k][i] - 1) * j->t[k]->stride[i];
    return (uint64_t)last + (uint64_t)j->dim[k][3] * 4;
}

int32_t cu_launch(const cu_job *j, uint32_t kernel, uint32_t dtype, void *arguments,
                  int64_t n_block, peri_error *e) {
    CUfunction f;
    int32_t st = cu_function_get(j->d, kernel, dtype, &f, e);
    if (st || n_block == 0) return st;
    if (n_block > INT32_MAX)
        return peri_plugin_fail(e, PERI_E_RANGE, "an operation of %lld blocks", (long long)n_block);
    const cu_api *cu = j->d->cu;
    CUresult rc;
    j->d->ids = 0;
    if (j->d->has_ahead) {
        CUlaunchAttribute ahead = {.id = CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION,
                                   .value = {.is_allowed = 1}};
        CUlaunchConfig c = {.grid_x = (unsigned)n_block,
                            .grid_y = 1,
                            .grid_z = 1,
                            .block_x = cu_n_thread(kernel),
                            .block_y = 1,
                            .block_z = 1,
                            .stream = j->d->stream,
                            .attributes = &ahead,
                            .n_attribute = 1};
        rc = cu->cuLaunchKernelEx(&c, f, &arguments, NULL);
    } else {
        rc = cu->cuLaunchKernel(f, (unsigned)n_block, 1, 1, cu_n_thread(kernel), 1, 1, 0,
                                j->d->stream, &arguments, NULL);
    }
    if (rc == CUDA_SUCCESS) return PERI_OK;
    return cu_fail(cu, e, j->d->has_ahead ? "cuLaunchKernelEx" : "cuLaunchKernel", rc);
}

/* The kernel of an op that is one launch. */
static int32_t launch(const cu_job *j, void *arguments, int64_t n_block, peri_error *e) {
    uint32_t dtype, kernel = kernel_of(j, &dtype);
    return cu_launch(j, kernel, dtype, arguments, n_block, e);
}

/* ---- products ---------------------------------------------------------------------------------
 */

/* Operands of one product. */
typedef struct product {
    uint32_t w, bias, scale, y;
} product;

static cu_linear linear_of(const cu_job *j, product o, uint32_t flags) {
    int32_t n_tok = cu_n_row(j, o.y);
    cu_linear a = {.w = cu_at(j, o.w),
                   .bias = cu_at(j, o.bias),
                   .scale = cu_at(j, o.scale),
                   .x = cu_rows_of(j, 0),
                   .y = cu_rows_of(j, o.y),
                   .n = j->dim[o.w][3],
                   .m = j->dim[o.w][2],
                   .n_tok = n_tok,
                   .n_group = cu_chunks(n_tok, n_tok >= CU_MANY_FROM ? CU_TOKENS : 1),
                   .is_scale_last = (flags & PERI_LINEAR_SCALE_LAST) != 0};
    a.by_group = cu_divisor_of(a.n_group > 0 ? a.n_group : 1);
    return a;
}

/* Of LINEAR. */
cu_linear cu_linear_of(const cu_job *j) {
    return linear_of(j, (product){1, 2, 3, 4}, j->attr.linear.flags);
}

static int32_t run_product(const cu_job *j, cu_linear a, uint32_t w, peri_error *e) {
    return cu_launch(j, product_kernel(j, a.n_tok >= CU_MANY_FROM), j->t[w]->dtype, &a,
                     (int64_t)cu_chunks(a.m, CU_ROWS) * a.n_group, e);
}

static int32_t run_qkv(const cu_job *j, peri_error *e) {
    int32_t st = PERI_OK;
    for (uint32_t k = 0; k < 3 && !st; k++)
        st = run_product(j, linear_of(j, (product){1 + k, 4 + k, 7 + k, 10 + k}, 0), 1 + k, e);
    return st;
}

static int32_t run_gate_up(const cu_job *j, peri_error *e) {
    cu_linear a = linear_of(j, (product){1, CU_NO_OPERAND, CU_NO_OPERAND, 3}, 0);
    a.up = cu_at(j, 2);
    a.act = (int32_t)j->attr.act.act;
    a.param = j->attr.act.param;
    return run_product(j, a, 1, e);
}

/* x, W, ids, b?, s?, y */
static int32_t run_experts(const cu_job *j, peri_error *e) {
    int32_t m = j->dim[1][2], n_tok = j->dim[5][1], n_used = j->dim[5][2];
    cu_experts a = {.w = cu_at(j, 1),
                    .bias = cu_at(j, 3),
                    .scale = cu_at(j, 4),
                    .x = cu_rows_of(j, 0),
                    .y = cu_rows_of(j, 5),
                    .ids = cu_rows_of(j, 2),
                    .n = j->dim[1][3],
                    .m = m,
                    .n_used = n_used,
                    .n_expert = j->dim[1][1],
                    .has_slots = j->dim[0][1] == n_tok && j->dim[0][2] == n_used,
                    .n_pair = n_tok * n_used};
    return launch(j, &a, (int64_t)cu_chunks(m, CU_ROWS) * a.n_pair, e);
}

static int32_t run_embed(const cu_job *j, peri_error *e) {
    const peri_step *s = j->step;
    uint32_t off = j->attr.embed.source ? s->pos : s->tok;
    cu_embed a = {.w = cu_at(j, 0),
                  .ids = step_at(j, off),
                  .y = cu_rows_of(j, 1),
                  .n = j->dim[0][3],
                  .n_chunk = cu_chunks(j->dim[0][3], 8 * CU_THREADS),
                  .scale = j->attr.embed.scale};
    return launch(j, &a, (int64_t)a.n_chunk * j->dim[1][2], e);
}

/* ---- rows -------------------------------------------------------------------------------------
 */

/* x, w?, b?, y */
cu_norm cu_norm_of(const cu_job *j) {
    cu_norm a = {.w = cu_at(j, 1),
                 .bias = cu_at(j, 2),
                 .x = cu_rows_of(j, 0),
                 .y = cu_rows_of(j, 3),
                 .d1 = j->dim[0][1],
                 .d2 = j->dim[0][2],
                 .n = j->dim[0][3],
                 .n_vector = j->t[1]   ? j->dim[1][2]
                             : j->t[2] ? j->dim[2][2]
                                       : 1,
                 .kind = (int32_t)j->attr.norm.kind,
                 .n_row = cu_n_row(j, 0),
                 .eps = j->attr.norm.eps};
    return a;
}

static int32_t run_norm(const cu_job *j, peri_error *e) {
    cu_norm a = cu_norm_of(j);
    if (a.d1 == 1 && j->dim[0][0] == 1) a.q = cu_room_for_codes(j, 3);
    return launch(j, &a, a.n_row, e);
}

/* a, b, w?, bias?, sum, y */
cu_add_norm cu_add_norm_of(const cu_job *j) {
    cu_add_norm a = {.w = cu_at(j, 2),
                     .bias = cu_at(j, 3),
                     .a = cu_rows_of(j, 0),
                     .b = cu_rows_of(j, 1),
                     .sum = cu_rows_of(j, 4),
                     .y = cu_rows_of(j, 5),
                     .n = j->dim[0][3],
                     .kind = (int32_t)j->attr.norm.kind,
                     .n_row = cu_n_row(j, 0),
                     .eps = j->attr.norm.eps};
    return a;
}

static int32_t run_add_norm(const cu_job *j, peri_error *e) {
    cu_add_norm a = cu_add_norm_of(j);
    a.q = cu_room_for_codes(j, 5);
    return launch(j, &a, a.n_row, e);
}

/* ACT, SCALE (one input), GLU, ADD, MUL (two) */
static int32_t run_map(const cu_job *j, peri_error *e) {
    uint16_t code = j->op->code;
    bool has_act = code == PERI_OP_ACT || code == PERI_OP_GLU;
    cu_map a = {.a = cu_rows_of(j, 0),
                .y = cu_rows_of(j, j->op->n_in),
                .d1 = j->dim[0][1],
                .d2 = j->dim[0][2],
                .n = j->dim[0][3],
                .n_chunk = cu_chunks(j->dim[0][3], CU_THREADS)};
    if (has_act) {
        a.act = (int32_t)j->attr.act.act;
        a.param = j->attr.act.param;
    }
    if (code == PERI_OP_SCALE) a.param = j->attr.scale.scale;
    if (j->op->n_in > 1) a.b = cu_rows_of(j, 1);
    if (j->op->n_in > 1 && cu_n_row(j, 1) == 1) a.b = (cu_rows){.at = a.b.at}; /* for every row */
    if (code == PERI_OP_MUL) a.is_one = j->dim[1][3] != j->dim[0][3];
    return launch(j, &a, (int64_t)cu_n_row(j, 0) * a.n_chunk, e);
}

static int32_t run_pick(const cu_job *j, peri_error *e) {
    cu_pick a = {.row = step_at(j, j->step->out_row),
                 .x = cu_rows_of(j, 0),
                 .y = cu_rows_of(j, 1),
                 .n = j->dim[0][3],
                 .n_chunk = cu_chunks(j->dim[0][3], CU_THREADS)};
    return launch(j, &a, (int64_t)a.n_chunk * j->dim[1][2], e);
}

/* x [T][K][n], w, y */
cu_expert_sum cu_expert_sum_of(const cu_job *j) {
    cu_expert_sum a = {.x = cu_rows_of(j, 0),
                       .w = cu_rows_of(j, 1),
                       .y = cu_rows_of(j, 2),
                       .n_used = j->dim[0][2],
                       .n = j->dim[0][3],
                       .n_chunk = cu_chunks(j->dim[0][3], CU_THREADS)};
    return a;
}

static int32_t run_expert_sum(const cu_job *j, peri_error *e) {
    cu_expert_sum a = cu_expert_sum_of(j);
    return launch(j, &a, (int64_t)a.n_chunk * j->dim[0][1], e);
}

/* l, bias?, ids, w */
cu_route cu_route_of(const cu_job *j) {
    const peri_route_attr *r = &j->attr.route;
    cu_route a = {.bias = cu_at(j, 1),
                  .l = cu_rows_of(j, 0),
                  .ids = cu_rows_of(j, 2),
                  .w = cu_rows_of(j, 3),
                  .n = j->dim[0][3],
                  .n_used = j->dim[2][3],
                  .kind = (int32_t)r->kind,
                  .renorm = r->renorm != 0,
                  .n_group = (int32_t)r->n_group,
                  .n_group_used = (int32_t)r->n_group_used,
                  .weight_scale = r->weight_scale};
    return a;
}

static int32_t run_route(const cu_job *j, peri_error *e) {
    cu_route a = cu_route_of(j);
    return launch(j, &a, j->dim[0][2], e);
}

/* Rows first .. of x, ids, y, whose lists fit into the room there is. */
static int32_t run_topk_rows(const cu_job *j, int32_t first, int32_t n_row, peri_error *e) {
    int32_t n = j->dim[0][3], k = j->dim[1][3], chunk = (int32_t)cu_topk_chunk(n, k);
    cu_topk_sort s = {.lists = j->d->topk,
                      .x = rows_from(j, 0, first),
                      .n = n,
                      .k = k,
                      .chunk = chunk,
                      .n_chunk = cu_chunks(n, chunk)};
    cu_topk_merge m = {.out = s.lists,
                       .in = s.lists + (uint64_t)n_row * (uint64_t)s.n_chunk * (uint64_t)k * 8,
                       .x = s.x,
                       .ids = rows_from(j, 1, first),
                       .y = rows_from(j, 2, first),
                       .k = k,
                       .n_each = (int32_t)cu_topk_lists(k),
                       .n_group = s.n_chunk};
    int32_t st = cu_launch(j, CU_K_topk_sort, 0, &s, (int64_t)n_row * s.n_chunk, e);
    do { /* what came out goes in, and the room of what went in is free */
        uint64_t out = m.in;
        m.in = m.out;
        m.out = out;
        m.n_list = m.n_group;
        m.n_group = cu_chunks(m.n_list, m.n_each);
        if (!st) st = cu_launch(j, CU_K_topk_merge, 0, &m, (int64_t)n_row * m.n_group, e);
    } while (m.n_group > 1 && !st);
    return st;
}

/* x, ids, y */
static int32_t run_topk(const cu_job *j, peri_error *e) {
    int32_t n_row = j->dim[0][2], st = PERI_OK;
    int32_t n = (int32_t)(CU_TOPK_ROOM / cu_topk_bytes(j->dim[0][3], j->dim[1][3]));
    for (int32_t r = 0; r < n_row && !st; r += n)
        st = run_topk_rows(j, r, n_row - r < n ? n_row - r : n, e);
    return st;
}

/* ---- attention --------------------------------------------------------------------------------
 */

/* x, factor?, y */
cu_rope cu_rope_of(const cu_job *j) {
    const peri_rope_attr *r = &j->attr.rope;
    const peri_tensor *x = j->t[0], *y = j->t[2];
    bool is_in_place =
        x->off == y->off && x->stride[1] == y->stride[1] && x->stride[2] == y->stride[2];
    int32_t n_rot = (int32_t)r->n_rot, n_item = n_rot / 2;
    if (!is_in_place) n_item += j->dim[0][3] - n_rot;
    cu_rope a = {.factor = cu_at(j, 1),
                 .pos = step_at(j, j->step->pos),
                 .x = cu_rows_of(j, 0),
                 .y = cu_rows_of(j, 2),
                 .n_head = j->dim[0][2],
                 .n = j->dim[0][3],
                 .first = (int32_t)r->first,
                 .n_rot = n_rot,
                 .is_neox = r->pairs == PERI_ROPE_NEOX,
                 .n_item = n_item,
                 .n_chunk = cu_chunks(n_item, CU_THREADS),
                 .ratio = powf(r->base, -2.0f / (float)n_rot),
                 .magnitude = r->magnitude,
                 .ext = r->ext,
                 .ramp_lo = r->ramp_lo,
                 .ramp_hi = r->ramp_hi,
                 .freq_scale = r->freq_scale};
    return a;
}

static int32_t run_rope(const cu_job *j, peri_error *e) {
    cu_rope a = cu_rope_of(j);
    return launch(j, &a, (int64_t)j->dim[0][1] * a.n_head * a.n_chunk, e);
}

/* k, v, Kpool, Vpool */
cu_append cu_append_of(const cu_job *j) {
    cu_append a = {.slot = step_at(j, j->step->slot),
                   .k_pool = cu_at(j, 2),
                   .v_pool = cu_at(j, 3),
                   .k = cu_rows_of(j, 0),
                   .v = cu_rows_of(j, 1),
                   .n_head = j->dim[0][2],
                   .dk = j->dim[0][3],
                   .dv = j->dim[1][3]};
    return a;
}

static int32_t run_append(const cu_job *j, peri_error *e) {
    cu_append a = cu_append_of(j);
    return launch(j, &a, (int64_t)j->dim[0][1] * a.n_head, e);
}

/* More tokens than are split: those that follow one another in a sequence are taken together. */
static int32_t launch_many(const cu_job *j, cu_attn *a, const plan_attn *p, peri_error *e) {
    uint32_t dtype = j->t[1]->dtype;
    int32_t n_seq = j->step->n[PERI_SYM_S], st = PERI_OK;
    bool is_many =
        a->dk <= CU_QUERY_HEAD && a->dv <= CU_QUERY_HEAD && a->n_tok - n_seq >= LEAST_MANY;
    a->tile_tokens = CU_QUERIES / (p->is_tiled ? CU_TILE : 1);
    a->least = n_seq == 1 ? 1 : LEAST_MANY;
    if (is_many) {
        st = cu_launch(j, p->is_tiled ? CU_K_attn_tile_many : CU_K_attn_many, dtype, a,
                       cu_chunks(a->n_tok, a->tile_tokens) * p->n_group, e);
    } else {
        a->least = INT32_MAX;
        a->codes = cu_room_for_codes(j, 4);
    }
    if (st || (is_many && n_seq == 1)) return st;
    return cu_launch(j, p->is_tiled ? CU_K_attn_tile : CU_K_attn, dtype, a, a->n_tok * p->n_group,
                     e);
}

/* The bits are the same, whatever the way.  Parts lie in scratch behind the outputs as bytes. */
static int32_t launch_attn(const cu_job *j, cu_attn *a, peri_error *e) {
    int64_t n_tok = a->n_tok;
    plan_attn p = plan_of(j, a->n_tok, a->max_blocks);
    uint64_t codes = codes_of(j, a->n_tok);
    a->n_tile = p.n_tile;
    a->n_part = p.n_part;
    a->by_tile = cu_divisor_of(p.n_tile);
    a->by_group = cu_divisor_of((int32_t)p.n_group);
    a->by_part = cu_divisor_of(p.n_part > 0 ? p.n_part : 1);
    if (!p.is_split || codes + (uint64_t)n_tok * p.bytes > j->d->scratch_bytes)
        return launch_many(j, a, &p, e);
    if (p.bytes) j->d->kept.n = 0;
    a->codes = cu_room_for_codes(j, 4);
    a->count = j->d->counts;
    a->part = j->d->scratch + codes;
    a->top =
        a->part + (uint64_t)n_tok * (uint64_t)a->n_head * (uint64_t)p.n_part * (uint64_t)a->dv * 4;
    return cu_launch(j, p.is_tiled ? CU_K_attn_tile_part : CU_K_attn_part, j->t[1]->dtype, a,
                     n_tok * p.n_part * p.n_group, e);
}

/* q, Kpool, Vpool, sink?, y */
static int32_t run_attn(const cu_job *j, peri_error *e) {
    const peri_attn_attr *r = &j->attr.attn;
    const peri_step *s = j->step;
    cu_attn a = {.k_pool = cu_at(j, 1),
                 .v_pool = cu_at(j, 2),
                 .sink = cu_at(j, 3),
                 .pos = step_at(j, s->pos),
                 .seq = step_at(j, s->seq),
                 .ctx = step_at(j, s->ctx),
                 .table = step_at(j, s->table),
                 .q = cu_rows_of(j, 0),
                 .y = cu_rows_of(j, 4),
                 .n_tok = j->dim[0][1],
                 .n_head = j->dim[0][2],
                 .n_kv_head = j->dim[1][2],
                 .n_each = j->dim[0][2] / j->dim[1][2],
                 .n_seq = s->n[PERI_SYM_S],
                 .dk = j->dim[1][3],
                 .dv = j->dim[2][3],
                 .by_block = cu_divisor_of(j->dim[1][1]),
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

/* Activations in scratch are no longer those in memory when the op writes there. */
static void forget_written(const cu_job *j) {
    cu_kept *k = &j->d->kept;
    for (uint32_t i = j->op->n_in; i < (uint32_t)j->op->n_in + j->op->n_out && k->n; i++)
        if (j->t[i] && cu_at(j, i) < k->end && cu_at(j, i) + cu_extent(j, i) > k->rows.at) k->n = 0;
}

static int32_t queue_job(const cu_job *j, peri_error *e) {
    if (cu_has_codes(j)) return cu_run_codes(j, e);
    switch (j->op->code) {
    case PERI_OP_LINEAR:
        return run_product(j, cu_linear_of(j), 1, e);
    case PERI_OP_LINEAR_QKV:
        return run_qkv(j, e);
    case PERI_OP_GATE_UP_GLU:
        return run_gate_up(j, e);
    case PERI_OP_LINEAR_EXPERTS:
        return run_experts(j, e);
    case PERI_OP_EMBED:
        return run_embed(j, e);
    case PERI_OP_NORM:
        return run_norm(j, e);
    case PERI_OP_ADD_NORM:
        return run_add_norm(j, e);
    case PERI_OP_ROPE:
        return run_rope(j, e);
    case PERI_OP_KV_APPEND:
        return run_append(j, e);
    case PERI_OP_ATTN:
        return run_attn(j, e);
    case PERI_OP_ROUTE:
        return run_route(j, e);
    case PERI_OP_EXPERT_SUM:
        return run_expert_sum(j, e);
    case PERI_OP_ROWS:
        return run_pick(j, e);
    case PERI_OP_TOPK:
        return run_topk(j, e);
    }
    return run_map(j, e);
}

int32_t cu_queue_ops(peri_dev *d, cu_ops o, const peri_bind *m, const peri_step *s, CUdeviceptr at,
                     peri_error *e) {
    int32_t st = PERI_OK;
    d->kept.n = 0; /* the host may have written since */
    for (uint32_t i = o.first, n_job; i < o.first + o.n && !st; i += n_job) {
        cu_job j[CU_TOGETHER] = {{.d = d,
                                  .p = o.p,
                                  .op = peri_op_at(o.p, i),
                                  .index = i,
                                  .end = o.first + o.n,
                                  .bind = m,
                                  .step = s,
                                  .step_on = at}};
        cu_resolve(&j[0], s->n);
        n_job = d->is_together ? cu_match(j) : 1;
        for (uint32_t k = 0; k < n_job; k++)
            forget_written(&j[k]);
        st = n_job > 1 ? cu_queue_together(j, n_job, e) : queue_job(&j[0], e);
        if (n_job > 1 && j[0].op->code == PERI_OP_LINEAR_EXPERTS)
            forget_written(&j[n_job - 1]); /* where its own input was */
    }
    return st;
}

int32_t cu_run_op(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                  const peri_step *s, peri_error *e) {
    cu_limits l = {0};
    cu_limits_add(&l, p, op);
    int32_t st = cu_limits_check(&l, s, e);
    if (!st) st = cu_enter(d, e);
    if (!st) st = cu_step_send(d, &d->step, s, e);
    return st ? st : cu_queue_ops(d, (cu_ops){p, op, 1}, m, s, d->step.at, e);
}
