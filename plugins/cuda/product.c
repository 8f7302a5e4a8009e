/* SPDX-License-Identifier: MIT
 *
 * product.c - products with weights of the types of codes.cuh: which of the ways of product.cu, and
 * what it needs beforehand.
 *
 * The activations are made bytes once, in scratch, but short rows by each block of dot itself.  One
 * token, or few pairs of token and expert: dot.  More: pairs are sorted by expert, and then tiles
 * of tokens are taken.  All ways give the same bits, so the numbers below are a matter of speed
 * alone; where there is not enough scratch for all tokens, they are taken a part at a time. */
#include <string.h>

#include "job.h"

/* Instructions of a warp to a span of 16 rows, and to a token more: what they have to each other
 * counts.  What was measured of the choice: tests/perf/README.md. */
enum { SPAN_COST = 300, TOKEN_COST = 24 };
/* Pairs per expert, from where on sorting them pays, and from where on tiles have many tokens. */
enum { SORT_FROM = 2, MANY_FROM = 16, SORT_LEAST = 8 };
/* Blocks of tiles to a multiprocessor, below which those of a row are split. */
enum { TILE_BLOCKS = 4 };
/* Tokens up to which rows are split: their sums are written and read once more. */
enum { SPLIT_TOKENS = 64 };

enum { N_PART = 3 };

/* What the ops have in common. */
typedef struct product {
    uint32_t n_part, w[N_PART], bias[N_PART], scale[N_PART], y[N_PART]; /* operands */
    int32_t m[N_PART];                                                  /* rows of W */
    int32_t n, n_tok, n_used, n_expert; /* n_expert 0: no experts, n_used 1 */
    bool is_glu, has_slots;
} product;

static bool is_code_type(uint32_t dtype) {
    switch (dtype) {
    case CU_Q4_0:
    case CU_Q4_1:
    case CU_Q5_0:
    case CU_Q5_1:
    case CU_Q8_0:
    case CU_Q2_K:
    case CU_Q3_K:
    case CU_Q4_K:
    case CU_Q5_K:
    case CU_Q6_K:
    case CU_IQ4_NL:
    case CU_IQ4_XS:
    case CU_MXFP4:
        return true;
    }
    return false;
}

/* Where the up of a pair is put among the operands of its gate. */
enum { UP = CU_NO_OPERAND - 1 };

/* False: another op. */
static bool describe(const cu_job *j, product *o) {
    *o = (product){.n_part = 1, .n_used = 1};
    for (uint32_t k = 0; k < N_PART; k++) {
        o->w[k] = 1 + k;
        o->bias[k] = o->scale[k] = CU_NO_OPERAND;
    }
    switch (j->op->code) {
    case PERI_OP_LINEAR:
        o->bias[0] = 2;
        o->scale[0] = 3;
        o->y[0] = 4;
        break;
    case PERI_OP_LINEAR_QKV:
        o->n_part = N_PART;
        for (uint32_t k = 0; k < N_PART; k++) {
            o->bias[k] = 4 + k;
            o->scale[k] = 7 + k;
            o->y[k] = 10 + k;
        }
        break;
    case PERI_OP_GATE_UP_GLU:
        o->n_part = 2;
        o->is_glu = true;
        o->y[0] = o->y[1] = 3;
        break;
    case PERI_OP_LINEAR_EXPERTS:
        o->bias[0] = 3;
        o->scale[0] = 4;
        o->y[0] = 5;
        o->n_used = j->dim[5][2];
        o->n_expert = j->dim[1][1];
        if (!j->t[UP]) break;
        o->n_part = 2;
        o->is_glu = true;
        o->w[1] = UP;
        o->y[1] = 5;
        break;
    default:
        return false;
    }
    for (uint32_t k = 0; k < o->n_part; k++)
        o->m[k] = j->dim[o->w[k]][2];
    o->n = j->dim[1][3];
    o->n_tok = o->n_expert ? j->dim[5][1] : cu_n_row(j, o->y[0]);
    o->has_slots = o->n_expert && j->dim[0][1] == o->n_tok && j->dim[0][2] == o->n_used;
    return true;
}

uint32_t cu_n_code(const cu_job *j, bool *is_all) {
    product o;
    uint32_t n = 0;
    *is_all = false;
    if (!j->d->has_codes || !describe(j, &o) || o.n_expert > CU_EXPERTS) return 0;
    for (uint32_t k = 0; k < o.n_part; k++)
        n += is_code_type(j->t[o.w[k]]->dtype);
    *is_all = n == o.n_part;
    return n;
}

bool cu_has_codes(const cu_job *j) {
    bool is_all;
    cu_n_code(j, &is_all);
    return is_all;
}

/* ---- ways -------------------------------------------------------------------------------------
 */

/* Of rows of n. */
static int32_t sections_of(int32_t n) {
    return cu_chunks(n, CU_SPAN * CU_SUM_SPANS);
}

uint64_t cu_code_bytes(int32_t n_row, int32_t n) {
    uint64_t padded = (uint64_t)cu_chunks(n, CU_SPAN) * CU_SPAN;
    return (uint64_t)n_row * (padded + padded / CU_GROUP * 12);
}

/* Tokens or pairs of a tile. */
static int32_t tile_of(uint32_t kernel) {
    return kernel == CU_K_few ? CU_TILE_FEW : CU_TILE_MANY;
}

/* Tiles of pairs by expert, those of no expert too, at most. */
static int32_t most_tiles(const product *o, uint32_t kernel) {
    int32_t n_pair = o->n_tok * o->n_used;
    int32_t spare = n_pair < o->n_expert + 1 ? n_pair : o->n_expert + 1;
    return n_pair / tile_of(kernel) + spare;
}

/* Rows of all matrices of the op that have outputs. */
static int32_t width_of(const product *o) {
    int32_t n = 0;
    for (uint32_t k = 0; k < o->n_part; k++)
        n += o->m[k];
    return n;
}

static int32_t unit_of(const product *o, uint32_t kernel) {
    if (kernel == CU_K_dot) return o->n_tok * o->n_used;
    return o->n_expert ? most_tiles(o, kernel) : cu_chunks(o->n_tok, tile_of(kernel));
}

/* Blocks to the sections of a row. */
static int32_t split_of(const product *o, uint32_t kernel, int32_t n_processor) {
    if (kernel == CU_K_dot || o->n_expert || o->is_glu || o->n_tok > SPLIT_TOKENS) return 1;
    int64_t n_block = (int64_t)cu_chunks(width_of(o), CU_TILE_ROWS) * unit_of(o, kernel);
    return n_block < (int64_t)TILE_BLOCKS * n_processor ? sections_of(o->n) : 1;
}

/* What the product takes by tiles, about, in instructions of a warp: rounds of blocks that run at a
 * time, each as long as its spans. */
static int64_t tile_cost(const product *o, uint32_t kernel, int32_t n_processor) {
    int64_t n_split = split_of(o, kernel, n_processor), spans = cu_chunks(o->n, CU_SPAN);
    int64_t n_block = (int64_t)cu_chunks(width_of(o), CU_TILE_ROWS) * unit_of(o, kernel) * n_split;
    int64_t at_once = (int64_t)TILE_BLOCKS * n_processor;
    if (n_split > 1) spans = CU_SUM_SPANS;
    return (n_block + at_once - 1) / at_once * spans * (SPAN_COST + TOKEN_COST * tile_of(kernel));
}

/* Tiles of few tokens, or of many? */
static bool is_for_few(const peri_dev *d, const product *o) {
    if (d->tile) return d->tile == CU_TILE_FEW;
    if (o->n_expert) return (int64_t)o->n_tok * o->n_used < (int64_t)MANY_FROM * o->n_expert;
    return tile_cost(o, CU_K_few, d->n_processor) < tile_cost(o, CU_K_many, d->n_processor);
}

static uint32_t kernel_of(const peri_dev *d, const product *o) {
    int64_t n_pair = (int64_t)o->n_tok * o->n_used;
    bool is_dot = o->n_expert ? n_pair <= SORT_LEAST || n_pair < (int64_t)SORT_FROM * o->n_expert
                              : o->n_tok == 1;
    if (sections_of(o->n) > CU_DOT_SUMS / 2) return CU_K_many; /* longer than any model's */
    return is_dot ? CU_K_dot : is_for_few(d, o) ? CU_K_few : CU_K_many;
}

/* Where in scratch things lie. */
typedef struct room {
    uint64_t order, tiles, sums, bytes;
} room;

static uint64_t aligned(uint64_t n) {
    return (n + 15) / 16 * 16;
}

static room room_of(const product *o, uint32_t kernel, int32_t n_processor) {
    int32_t n_split = split_of(o, kernel, n_processor);
    room r = {.order = cu_code_bytes(o->n_tok * (o->has_slots ? o->n_used : 1), o->n)};
    r.tiles = r.order;
    if (o->n_expert) r.tiles += (uint64_t)o->n_tok * (uint64_t)o->n_used * 4;
    r.sums = r.tiles;
    if (o->n_expert) r.sums += (uint64_t)most_tiles(o, kernel) * 12;
    r.sums = aligned(r.sums);
    r.bytes = r.sums;
    if (n_split > 1) r.bytes += (uint64_t)n_split * (uint64_t)o->n_tok * (uint64_t)width_of(o) * 4;
    return r;
}

/* As many tokens of the op as `bytes` of scratch are enough for; 0: not one. */
static int32_t fitting(const peri_dev *d, const product *o, uint32_t kernel, uint64_t bytes) {
    product part = *o;
    while (part.n_tok && room_of(&part, kernel, d->n_processor).bytes > bytes)
        part.n_tok /= 2;
    return part.n_tok;
}

/* Two matrices of one type and one of Q6_K, for which there is a kernel (product.cu, MIXED)? */
static bool is_mixed(const cu_job *j, const product *o) {
    if (o->n_part != N_PART) return false;
    uint32_t first = j->t[o->w[0]]->dtype, second = j->t[o->w[1]]->dtype;
    return (first == CU_Q4_K || first == CU_Q5_K) && first == second &&
           j->t[o->w[2]]->dtype == CU_Q6_K;
}

static int32_t prepare_kernel(cu_job *j, const product *o, uint32_t kernel, peri_error *e) {
    CUfunction f;
    int32_t st = PERI_OK;
    for (uint32_t k = 0; k < o->n_part && !st; k++)
        st = cu_function_get(j->d, kernel, j->t[o->w[k]]->dtype, &f, e);
    return st;
}

/* Enough for all tokens, or, if need be, for one at a time. */
static int32_t prepare_scratch(peri_dev *d, const product *o, uint32_t kernel, peri_error *e) {
    product part = *o;
    part.n_tok = fitting(d, o, kernel, CU_SCRATCH_BYTES);
    uint64_t bytes = room_of(&part, kernel, d->n_processor).bytes;
    int32_t st = cu_scratch_grow(d, bytes, e);
    if (st != PERI_E_NOMEM || fitting(d, o, kernel, d->scratch_bytes) == 0) return st;
    cu_scratch_warn(d, "prompts are slower", bytes, e);
    *e = (peri_error){0};
    return PERI_OK;
}

int32_t cu_prepare_codes(cu_job *j, const peri_bucket *b, peri_error *e) {
    static const uint32_t kernels[] = {CU_K_dot, CU_K_few, CU_K_many};
    product o;
    CUfunction f;
    (void)b;
    describe(j, &o); /* at the largest shape */
    product few = o; /* rows are split only then, which takes more room for each */
    if (few.n_tok > SPLIT_TOKENS) few.n_tok = SPLIT_TOKENS;
    int32_t n = o.n_tok > 1 ? 3 : 1;
    int32_t st = cu_function_get(j->d, CU_K_quantise, 0, &f, e);
    if (!st) st = cu_function_get(j->d, CU_K_sum_parts, 0, &f, e);
    if (!st && o.n_expert) st = cu_function_get(j->d, CU_K_group, 0, &f, e);
    if (!st && is_mixed(j, &o)) st = cu_function_get(j->d, CU_K_mixed, j->t[o.w[0]]->dtype, &f, e);
    for (int32_t k = 0; k < n && !st; k++) {
        st = prepare_kernel(j, &o, kernels[k], e);
        if (!st) st = prepare_scratch(j->d, &few, kernels[k], e);
        if (!st) st = prepare_scratch(j->d, &o, kernels[k], e);
    }
    return st;
}

/* ---- launches ---------------------------------------------------------------------------------
 */

static void advance(cu_rows *r, int dimension, int32_t n) {
    if (r->at) r->at += (uint64_t)(n * r->stride[dimension]);
}

/* Matrices k .. end - 1 of the op, from token `first` on. */
static cu_product arguments_of(const cu_job *j, const product *o, uint32_t k, uint32_t end,
                               int32_t first) {
    cu_product a = {.x = cu_rows_of(j, 0),
                    .n = o->n,
                    .n_tok = o->n_tok,
                    .n_part = (int32_t)(end - k),
                    .n_used = o->n_used,
                    .is_glu = o->is_glu,
                    .has_slots = o->has_slots,
                    .n_expert = o->n_expert,
                    .n_unit = 1,
                    .n_split = 1};
    if (j->op->code == PERI_OP_LINEAR)
        a.is_scale_last = (j->attr.linear.flags & PERI_LINEAR_SCALE_LAST) != 0;
    if (o->is_glu) {
        a.act = (int32_t)j->attr.act.act;
        a.param = j->attr.act.param;
    }
    advance(&a.x, o->has_slots ? 1 : 2, first);
    if (o->n_expert) a.ids = cu_rows_of(j, 2);
    advance(&a.ids, 2, first);
    int32_t column = 0;
    for (uint32_t i = k; i < end; i++) {
        cu_matrix *m = &a.part[i - k];
        *m = (cu_matrix){.w = cu_at(j, o->w[i]),
                         .bias = cu_at(j, o->bias[i]),
                         .scale = cu_at(j, o->scale[i]),
                         .y = cu_rows_of(j, o->y[i]),
                         .m = o->m[i],
                         .column = column};
        column += o->m[i];
        a.width = column;
        advance(&m->y, o->n_expert ? 1 : 2, first);
    }
    return a;
}

/* Passes of dot that a warp is to have: what it does once, before and after, is as long as these.
 */
enum { WARP_PASSES = 3 };

/* Blocks of dot for passes of all units: whole rounds of the multiprocessors, as many as can run at
 * once on compute capability 9.0; others have less shared memory, and more than one round. */
static int64_t dot_blocks(int64_t n_pass, int32_t n_processor) {
    int64_t round = (int64_t)WARP_PASSES * CU_ROWS * n_processor, n = (n_pass + round / 2) / round;
    return (n < 1 ? 1 : n > CU_DOT_BLOCKS ? CU_DOT_BLOCKS : n) * n_processor;
}

/* Rows of each matrix to blocks of dot, so that all blocks run at once, each warp has a row of a
 * section, and a block's sums have room.  Gives the blocks to a unit. */
static int32_t spread(cu_product *a, int32_t n_processor) {
    int32_t n = 0, n_sum = sections_of(a->n) * (a->is_glu ? 2 : 1);
    int32_t rows = a->is_glu ? a->part[0].m : a->width, n_span = cu_chunks(a->n, CU_SPAN);
    int32_t at_once = n_span > 4 ? 1 : n_span > 2 ? 2 : n_span > 1 ? 4 : 8; /* rows to a pass */
    int64_t all = dot_blocks((int64_t)rows * n_sum * a->n_unit / at_once, n_processor) / a->n_unit;
    for (int32_t i = 0; i < (a->is_glu ? 1 : a->n_part); i++) {
        cu_matrix *m = &a->part[i];
        int64_t block = all * m->m / rows;
        int64_t most = ((int64_t)m->m * n_sum + CU_ROWS - 1) / CU_ROWS;
        int64_t least = cu_chunks(m->m, CU_DOT_SUMS / n_sum);
        if (block > most) block = most;
        if (block > m->m) block = m->m;
        if (block < least) block = least;
        m->first = n;
        m->each = m->m / (int32_t)block;
        m->more = m->m % (int32_t)block;
        n += (int32_t)block;
    }
    return n;
}

/* Tiles of rows; where each matrix's begin. */
static int32_t tile_rows(cu_product *a) {
    int32_t n = 0;
    for (int32_t i = 0; i < (a->is_glu ? 1 : a->n_part); i++) {
        a->part[i].first = n;
        n += cu_chunks(a->part[i].m, a->is_glu ? CU_TILE_ROWS / 2 : CU_TILE_ROWS);
    }
    return n;
}

/* The kernel for matrices of one type. */
static int32_t launch_part(const cu_job *j, cu_product *a, uint32_t kernel, uint32_t dtype,
                           peri_error *e) {
    bool is_dot = kernel == CU_K_dot || kernel == CU_K_mixed;
    int32_t n = is_dot ? spread(a, j->d->n_processor) : tile_rows(a);
    /* A kernel may begin once all blocks of the one before have said ahead_go.  Those of dot have
     * said ahead_wait then, so what wrote the ids that they took has ended. */
    a->has_ids = is_dot && a->n_expert && j->d->ids == a->ids.at;
    int32_t st = cu_launch(j, kernel, dtype, a, (int64_t)n * a->n_unit * a->n_split, e);
    if (is_dot && a->n_expert && !st) j->d->ids = a->ids.at;
    if (st || a->n_split == 1) return st;
    a->n_chunk = cu_chunks(a->width, CU_THREADS);
    return cu_launch(j, CU_K_sum_parts, 0, a, (int64_t)a->n_tok * a->n_chunk, e);
}

/* Steps of stride[1] lie only between rows that are not all of dimension 2. */
static bool is_kept(const cu_kept *k, const cu_kept *now) {
    return k->n == now->n && k->n_row == now->n_row && k->d2 == now->d2 &&
           k->rows.at == now->rows.at && k->rows.stride[2] == now->rows.stride[2] &&
           (k->n_row <= k->d2 || k->rows.stride[1] == now->rows.stride[1]);
}

/* Is there a product with codes among the next ops that takes these rows? */
static bool is_wanted(const cu_job *j, const cu_kept *rows) {
    enum { FAR = 4 };
    for (uint32_t i = j->index + 1; i < j->end && i <= j->index + FAR; i++) {
        cu_job next = {.d = j->d, .p = j->p, .op = peri_op_at(j->p, i), .bind = j->bind};
        product o;
        cu_resolve(&next, j->step->n);
        if (!cu_has_codes(&next) || !describe(&next, &o)) continue;
        cu_kept x = {.rows = cu_rows_of(&next, 0),
                     .n = o.n,
                     .n_row = o.n_tok * (o.has_slots ? o.n_used : 1),
                     .d2 = o.has_slots ? o.n_used : o.n_tok};
        if (is_kept(rows, &x)) return true;
    }
    return false;
}

/* Operand y as rows of a product: heads of a token that follow one another are one. */
static cu_kept rows_of(const cu_job *j, uint32_t y) {
    cu_kept k = {cu_rows_of(j, y), cu_at(j, y) + cu_extent(j, y), j->dim[y][3], j->dim[y][2],
                 j->dim[y][2]};
    if (j->op->code != PERI_OP_ATTN) return k;
    if (k.rows.stride[2] != (int64_t)k.n * 4) return (cu_kept){0};
    k.rows.stride[2] = k.rows.stride[1];
    k.n *= k.n_row;
    k.n_row = k.d2 = j->dim[y][1];
    return k;
}

uint64_t cu_room_for_codes(const cu_job *j, uint32_t y) {
    cu_kept now = rows_of(j, y);
    if (j->dim[y][3] % CU_GROUP || j->dim[y][3] > CU_NORM_ROW || now.n_row == 0) return 0;
    if (cu_code_bytes(now.n_row, now.n) > j->d->scratch_bytes || !is_wanted(j, &now)) return 0;
    j->d->kept = now;
    return j->d->scratch;
}

/* Activations as bytes and pairs by expert, in scratch; q becomes 0 where dot makes the bytes. */
static int32_t launch_before(const cu_job *j, const product *o, cu_product *a, uint32_t kernel,
                             peri_error *e) {
    cu_quantise q = {.q = a->q,
                     .x = a->x,
                     .n = o->n,
                     .n_row = o->n_tok * (o->has_slots ? o->n_used : 1),
                     .d2 = o->has_slots ? o->n_used : o->n_tok,
                     .n_chunk = cu_chunks(cu_chunks(o->n, CU_SPAN) * CU_SPAN, 4 * CU_THREADS)};
    cu_kept now = {q.x, a->x.at + cu_extent(j, 0), o->n, q.n_row, q.d2};
    int32_t st = PERI_OK;
    bool is_there = is_kept(&j->d->kept, &now);
    if (!is_there && kernel == CU_K_dot && o->n <= CU_DOT_ROW) {
        a->q = 0;
    } else if (!is_there) {
        st = cu_launch(j, CU_K_quantise, 0, &q, (int64_t)q.n_row * q.n_chunk, e);
        j->d->kept = now;
    }
    if (st || !o->n_expert || kernel == CU_K_dot) return st;
    cu_group g = {.order = a->order,
                  .tiles = a->tiles,
                  .ids = a->ids,
                  .n_tok = o->n_tok,
                  .n_used = o->n_used,
                  .n_expert = o->n_expert,
                  .tile = tile_of(kernel),
                  .n_tile = a->n_unit};
    return cu_launch(j, CU_K_group, 0, &g, 1, e);
}

/* Tokens first .. first + o->n_tok - 1. */
static int32_t run_tokens(const cu_job *j, const product *o, uint32_t kernel, int32_t first,
                          peri_error *e) {
    int32_t n_processor = j->d->n_processor, st = PERI_OK;
    room r = room_of(o, kernel, n_processor);
    for (uint32_t k = 0, end; k < o->n_part && !st; k = end) {
        uint32_t dtype = j->t[o->w[k]]->dtype;
        for (end = k + 1; end < o->n_part && j->t[o->w[end]]->dtype == dtype;)
            end++;
        uint32_t way = k == 0 && kernel == CU_K_dot && is_mixed(j, o) ? CU_K_mixed : kernel;
        if (way == CU_K_mixed) end = o->n_part;
        cu_product a = arguments_of(j, o, k, end, first);
        a.q = j->d->scratch;
        a.order = a.q + r.order;
        a.tiles = a.q + r.tiles;
        a.sums = a.q + r.sums;
        a.n_unit = unit_of(o, kernel);
        a.n_split = split_of(o, kernel, n_processor);
        st = launch_before(j, o, &a, kernel, e);
        if (!st) st = launch_part(j, &a, way, dtype, e);
    }
    return st;
}

int32_t cu_run_codes(const cu_job *j, peri_error *e) {
    product o;
    int32_t st = PERI_OK;
    describe(j, &o);
    uint32_t kernel = kernel_of(j->d, &o);
    int32_t n_all = o.n_tok, n = fitting(j->d, &o, kernel, j->d->scratch_bytes);
    for (int32_t first = 0; first < n_all && !st; first += n) {
        o.n_tok = n_all - first < n ? n_all - first : n;
        st = run_tokens(j, &o, kernel, first, e);
    }
    return st;
}

/* ---- gate and up of experts
 * ----------------------------------------------------------------------
 *
 * As GATE_UP_GLU is of others: the gate's op with the up's weights, GLU's output and function. */

bool cu_can_pair(const cu_job *gate, const cu_job *up, const cu_job *glu) {
    bool is_plain = !gate->t[3] && !gate->t[4] && !up->t[3] && !up->t[4];
    return is_plain && gate->t[0] == up->t[0] && gate->t[2] == up->t[2] &&
           glu->t[0] == gate->t[5] && glu->t[1] == up->t[5] &&
           gate->t[1]->dtype == up->t[1]->dtype && gate->dim[1][2] == up->dim[1][2] &&
           cu_has_codes(gate);
}

int32_t cu_run_pair(const cu_job *gate, const cu_job *up, const cu_job *glu, peri_error *e) {
    cu_job j = *gate;
    j.attr = glu->attr;
    j.t[5] = glu->t[2];
    memcpy(j.dim[5], glu->dim[2], sizeof j.dim[5]);
    j.t[UP] = up->t[1];
    memcpy(j.dim[UP], up->dim[1], sizeof j.dim[UP]);
    return cu_run_codes(&j, e);
}
