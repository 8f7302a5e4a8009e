/* SPDX-License-Identifier: MIT
 *
 * launch.c - from an op to its kernel: which variant, which arguments, how many work-items.
 *
 * The only place that knows the kernels' parameter lists.  An absent operand is bound to the step's
 * block and never read, as the flags say. */
#include <math.h>
#include <string.h>

#include "ocl.h"

/* Rows of a group of a product, on a processor and on a graphics card; tokens, when there are
 * MANY_FROM or more; elements of a work-item that runs over rows; keys of a part of attention. */
enum { ROWS = 8, CARD_ROWS = 4, MANY_TOKENS = 8, MANY_FROM = 3, CHUNK = 64, PART = 256 };

typedef struct job {
    peri_dev *d;
    const peri_program *p;
    const peri_op *op;
    const peri_bind *bind;
    const peri_step *step;
    const peri_tensor *t[OCL_OPERANDS]; /* NULL where absent */
    int32_t dim[OCL_OPERANDS][4];
    ocl_attr attr;
} job;

/* ---- variants ---------------------------------------------------------------------------------
 */

static ocl_variant product_variant(const job *j, const char *name, uint32_t k, bool is_many,
                                   int32_t last) {
    int32_t n_row = j->d->shape.kind == OCL_VECTOR ? ROWS : CARD_ROWS;
    return (ocl_variant){name, {(int32_t)j->t[k]->dtype, n_row, is_many ? MANY_TOKENS : 1, last}};
}

static int32_t round_up(int32_t n, int32_t to) {
    return (n + to - 1) / to * to;
}

/* The kernel of an op other than a product; dim as in a job. */
static ocl_variant variant_of(const job *j) {
    const ocl_attr *a = &j->attr;
    switch (j->op->code) {
    case PERI_OP_EMBED:
        return (ocl_variant){"embed", {j->t[0]->dtype}};
    case PERI_OP_NORM:
        return (ocl_variant){"norm", {(int32_t)a->norm.kind}};
    case PERI_OP_ADD_NORM:
        return (ocl_variant){"add_norm", {(int32_t)a->norm.kind}};
    case PERI_OP_ROPE:
        return (ocl_variant){"rope", {(int32_t)a->rope.pairs}};
    case PERI_OP_KV_APPEND:
        return (ocl_variant){"kv_append", {j->t[2]->dtype}};
    case PERI_OP_ATTN:
        return (ocl_variant){
            "attn", {j->t[1]->dtype, j->dim[1][3], j->dim[2][3], j->dim[0][2] / j->dim[1][2]}};
    case PERI_OP_ACT:
        return (ocl_variant){"act", {(int32_t)a->act.act}};
    case PERI_OP_GLU:
        return (ocl_variant){"glu", {(int32_t)a->act.act}};
    case PERI_OP_ADD:
        return (ocl_variant){"add", {0}};
    case PERI_OP_MUL:
        return (ocl_variant){"mul", {0}};
    case PERI_OP_SCALE:
        return (ocl_variant){"scale", {0}};
    case PERI_OP_ROUTE:
        return (ocl_variant){"route", {round_up(j->dim[0][3], 64)}};
    case PERI_OP_EXPERT_SUM:
        return (ocl_variant){"expert_sum", {0}};
    case PERI_OP_TOPK:
        return (ocl_variant){"topk", {round_up(j->dim[1][3], 64)}};
    case PERI_OP_LINEAR_EXPERTS:
        return product_variant(j, "linear_experts", 1, false, 0);
    default:
        return (ocl_variant){"rows", {0}};
    }
}

/* Weights of one type are one kernel's; others are three products. */
static bool is_one_qkv(const job *j) {
    return j->op->code == PERI_OP_LINEAR_QKV && j->t[1]->dtype == j->t[2]->dtype &&
           j->t[1]->dtype == j->t[3]->dtype;
}

/* Number of kernels of a product that takes any number of tokens, with weights 1 .. ; 0: another
 * op.
 */
static uint32_t n_product_of(const job *j) {
    uint16_t code = j->op->code;
    return code == PERI_OP_LINEAR || code == PERI_OP_GATE_UP_GLU || is_one_qkv(j) ? 1
           : code == PERI_OP_LINEAR_QKV                                           ? 3
                                                                                  : 0;
}

static ocl_variant weight_variant(const job *j, uint32_t k, bool is_many) {
    bool is_glu = j->op->code == PERI_OP_GATE_UP_GLU;
    return product_variant(j,
                           is_glu          ? "gate_up_glu"
                           : is_one_qkv(j) ? "linear_qkv"
                                           : "linear",
                           k, is_many, is_glu ? (int32_t)j->attr.act.act : 0);
}

static void resolve(job *j, const int32_t *n) {
    j->attr = ocl_attr_get(j->p, j->op);
    for (uint32_t k = 0; k < (uint32_t)j->op->n_in + j->op->n_out; k++) {
        j->t[k] = peri_operand(j->p, j->op, k);
        for (int i = 0; i < 4 && j->t[k]; i++)
            j->dim[k][i] = (int32_t)peri_dim(j->t[k], i, n);
    }
}

int32_t ocl_prepare(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                    peri_error *e) {
    job j = {.d = d, .p = p, .op = peri_op_at(p, op)};
    cl_kernel kernel;
    int32_t st = PERI_OK;
    resolve(&j, b->hi);
    uint32_t n = n_product_of(&j);
    for (uint32_t k = 1; k <= n && !st; k++) {
        ocl_variant few = weight_variant(&j, k, false), many = weight_variant(&j, k, true);
        st = ocl_kernel_get(d, &few, &kernel, e);
        if (!st && j.dim[0][2] >= MANY_FROM) st = ocl_kernel_get(d, &many, &kernel, e);
    }
    if (n) return st;
    ocl_variant v = variant_of(&j);
    return ocl_kernel_get(d, &v, &kernel, e);
}

/* ---- arguments --------------------------------------------------------------------------------
 */

typedef struct call {
    const job *j;
    cl_kernel kernel;
    cl_uint n; /* arguments bound */
    cl_int rc; /* first failure */
} call;

static int32_t begin(const job *j, const ocl_variant *v, call *c, peri_error *e) {
    *c = (call){.j = j};
    return ocl_kernel_get(j->d, v, &c->kernel, e);
}

static void put(call *c, const void *value, size_t size) {
    cl_int rc = c->j->d->cl->clSetKernelArg(c->kernel, c->n++, size, value);
    if (c->rc == CL_SUCCESS) c->rc = rc;
}

static void put_int(call *c, int32_t v) {
    put(c, &v, sizeof v);
}

static void put_float(call *c, float v) {
    put(c, &v, sizeof v);
}

static void put_room(call *c, size_t n_float) {
    cl_int rc = c->j->d->cl->clSetKernelArg(c->kernel, c->n++, n_float * sizeof(cl_float), NULL);
    if (c->rc == CL_SUCCESS) c->rc = rc;
}

static cl_mem memory_of(const job *j, uint32_t k) {
    const peri_tensor *t = j->t[k];
    const peri_buf *b = !t                         ? NULL
                        : t->kind == PERI_T_ACT    ? j->bind->arena
                        : t->kind == PERI_T_WEIGHT ? j->bind->weights[t->ref]
                                                   : j->bind->pools[t->ref];
    return b ? b->mem : j->d->step;
}

/* Buffer and byte offset. */
static void put_flat(call *c, uint32_t k) {
    cl_mem mem = memory_of(c->j, k);
    cl_long off = c->j->t[k] ? (cl_long)c->j->t[k]->off : 0;
    put(c, &mem, sizeof mem);
    put(c, &off, sizeof off);
}

/* Buffer, and offset with the strides of the first three dimensions; is_one: the one row there is.
 */
static void put_rows_of(call *c, uint32_t k, bool is_one) {
    const peri_tensor *t = c->j->t[k];
    cl_mem mem = memory_of(c->j, k);
    cl_long4 at = {{(cl_long)t->off}};
    for (int i = 0; i < 3 && !is_one; i++)
        at.s[i + 1] = t->stride[i];
    put(c, &mem, sizeof mem);
    put(c, &at, sizeof at);
}

static void put_rows(call *c, uint32_t k) {
    put_rows_of(c, k, false);
}

/* Index, in int32, of one of the step's arrays. */
static int32_t step_index(uint32_t off) {
    return (int32_t)(off / 4);
}

static void put_step(call *c) {
    put(c, &c->j->d->step, sizeof c->j->d->step);
}

/* x by y groups of `lanes` work-items; 0: as many work-items in groups of any size. */
static int32_t enqueue(const call *c, int32_t x, int32_t y, size_t lanes, peri_error *e) {
    const size_t local[2] = {lanes, 1}, global[2] = {(size_t)x * (lanes ? lanes : 1), (size_t)y};
    if (c->rc != CL_SUCCESS) return ocl_fail(e, "clSetKernelArg", c->rc);
    if (x == 0 || y == 0) return PERI_OK;
    cl_int rc = c->j->d->cl->clEnqueueNDRangeKernel(c->j->d->queue, c->kernel, 2, NULL, global,
                                                    lanes ? local : NULL, 0, NULL, NULL);
    return rc == CL_SUCCESS ? PERI_OK : ocl_fail(e, "clEnqueueNDRangeKernel", rc);
}

/* A KERNEL of common.clh. */
static int32_t launch(const call *c, int32_t x, int32_t y, peri_error *e) {
    return enqueue(c, x, y, c->j->d->shape.kind == OCL_VECTOR ? 1 : 0, e);
}

/* A GROUP kernel of group.clh.  Its last parameter is room in local memory: a number for each lane,
 * and `more` of them. */
static int32_t launch_groups_with(call *c, int32_t x, int32_t y, int32_t more, peri_error *e) {
    bool is_vector = c->j->d->shape.kind == OCL_VECTOR;
    put_room(c, is_vector ? 1 : OCL_LANES + (size_t)more);
    return enqueue(c, x, y, is_vector ? 1 : OCL_LANES, e);
}

static int32_t launch_groups(call *c, int32_t x, int32_t y, peri_error *e) {
    return launch_groups_with(c, x, y, 0, e);
}

static int32_t n_row(const job *j, uint32_t k) {
    return j->dim[k][0] * j->dim[k][1] * j->dim[k][2];
}

static int32_t chunks(int32_t n, int32_t per) {
    return (n + per - 1) / per;
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
    ocl_variant v = weight_variant(j, o.w, is_many);
    call c;
    int32_t st = begin(j, &v, &c, e);
    if (st) return st;
    put_flat(&c, o.w);
    put_rows(&c, 0);
    put_rows(&c, o.y);
    put_flat(&c, o.bias);
    put_flat(&c, o.scale);
    put_int(&c, j->dim[o.w][3]);
    put_int(&c, m);
    put_int(&c, n_tok);
    put_int(&c, (j->t[o.bias] ? 1 : 0) | (j->t[o.scale] ? 2 : 0) |
                    (flags & PERI_LINEAR_SCALE_LAST ? 4 : 0));
    return launch_groups(&c, chunks(m, v.value[1]), chunks(n_tok, v.value[2]), e);
}

/* x, W q k v, b? q k v, s? q k v, y q k v: all of them in one launch. */
static int32_t run_one_qkv(const job *j, peri_error *e) {
    int32_t n_tok = j->dim[10][2], flags = 0, n_item = 0;
    cl_int4 m = {{j->dim[1][2], j->dim[2][2], j->dim[3][2]}};
    ocl_variant v = weight_variant(j, 1, n_tok >= MANY_FROM);
    call c;
    int32_t st = begin(j, &v, &c, e);
    if (st) return st;
    put_rows(&c, 0);
    for (uint32_t k = 1; k <= 9; k++)
        put_flat(&c, k);
    for (uint32_t k = 0; k < 3; k++) {
        put_rows(&c, 10 + k);
        flags |= ((j->t[4 + k] ? 1 : 0) | (j->t[7 + k] ? 2 : 0)) << 4 * k;
        n_item += chunks(m.s[k], v.value[1]);
    }
    put_int(&c, j->dim[1][3]);
    put(&c, &m, sizeof m);
    put_int(&c, n_tok);
    put_int(&c, flags);
    return launch_groups(&c, n_item, chunks(n_tok, v.value[2]), e);
}

static int32_t run_qkv(const job *j, peri_error *e) {
    int32_t st = PERI_OK;
    if (is_one_qkv(j)) return run_one_qkv(j, e);
    for (uint32_t k = 0; k < 3 && !st; k++)
        st = run_product(j, (product){1 + k, 4 + k, 7 + k, 10 + k}, 0, e);
    return st;
}

static int32_t run_gate_up(const job *j, peri_error *e) {
    int32_t n_tok = j->dim[3][2], m = j->dim[1][2];
    ocl_variant v = weight_variant(j, 1, n_tok >= MANY_FROM);
    call c;
    int32_t st = begin(j, &v, &c, e);
    if (st) return st;
    put_flat(&c, 1);
    put_flat(&c, 2);
    put_rows(&c, 0);
    put_rows(&c, 3);
    put_int(&c, j->dim[1][3]);
    put_int(&c, m);
    put_int(&c, n_tok);
    put_float(&c, j->attr.act.param);
    return launch_groups(&c, chunks(m, v.value[1]), chunks(n_tok, v.value[2]), e);
}

/* x, W, ids, b?, s?, y */
static int32_t run_experts(const job *j, const ocl_variant *v, call *c, peri_error *e) {
    int32_t m = j->dim[1][2], n_tok = j->dim[5][1], n_used = j->dim[5][2];
    bool has_slots = j->dim[0][1] == n_tok && j->dim[0][2] == n_used;
    put_flat(c, 1);
    put_rows(c, 0);
    put_rows(c, 5);
    put_rows(c, 2);
    put_flat(c, 3);
    put_flat(c, 4);
    put_int(c, j->dim[1][3]);
    put_int(c, m);
    put_int(c, n_used);
    put_int(c, j->dim[1][1]);
    put_int(c, (j->t[3] ? 1 : 0) | (j->t[4] ? 2 : 0) | (has_slots ? 4 : 0));
    return launch_groups(c, chunks(m, v->value[1]), n_tok * n_used, e);
}

static int32_t run_embed(const job *j, call *c, peri_error *e) {
    const peri_step *s = j->step;
    uint32_t off = j->attr.embed.source ? s->pos : s->tok;
    const int32_t *id = peri_step_array(s, off);
    for (int32_t t = 0; t < j->dim[1][2]; t++)
        if (id[t] < 0 || id[t] >= j->dim[0][2])
            return peri_plugin_fail(e, PERI_E_RANGE, "row %d of %d for token %d", (int)id[t],
                                    (int)j->dim[0][2], (int)t);
    put_flat(c, 0);
    put_step(c);
    put_int(c, step_index(off));
    put_rows(c, 1);
    put_int(c, j->dim[0][3]);
    put_int(c, j->dim[1][2]);
    put_float(c, j->attr.embed.scale);
    return launch(c, chunks(j->dim[0][3], 16), j->dim[1][2], e);
}

/* ---- rows -------------------------------------------------------------------------------------
 */

static void put_shape(call *c, uint32_t k) {
    for (int i = 1; i < 4; i++)
        put_int(c, c->j->dim[k][i]);
}

/* x, w?, b?, y */
static int32_t run_norm(const job *j, call *c, peri_error *e) {
    put_rows(c, 0);
    put_rows(c, 3);
    put_flat(c, 1);
    put_flat(c, 2);
    put_shape(c, 0);
    put_int(c, j->t[1] ? j->dim[1][2] : j->t[2] ? j->dim[2][2] : 1);
    put_float(c, j->attr.norm.eps);
    put_int(c, (j->t[1] ? 1 : 0) | (j->t[2] ? 2 : 0));
    return launch_groups(c, n_row(j, 0), 1, e);
}

/* a, b, w?, bias?, sum, y */
static int32_t run_add_norm(const job *j, call *c, peri_error *e) {
    put_rows(c, 0);
    put_rows(c, 1);
    put_rows(c, 4);
    put_rows(c, 5);
    put_flat(c, 2);
    put_flat(c, 3);
    put_int(c, j->dim[0][3]);
    put_float(c, j->attr.norm.eps);
    put_int(c, (j->t[2] ? 1 : 0) | (j->t[3] ? 2 : 0));
    return launch_groups(c, n_row(j, 0), 1, e);
}

/* ACT, SCALE (one input), GLU, ADD, MUL (two): the operands, the shape, and a number. */
static int32_t run_elementwise(const job *j, call *c, peri_error *e) {
    bool is_one_row = j->op->n_in > 1 && n_row(j, 1) == 1;
    put_rows(c, 0);
    if (j->op->n_in > 1) put_rows_of(c, 1, is_one_row);
    put_rows(c, j->op->n_in);
    put_shape(c, 0);
    if (j->op->code == PERI_OP_MUL) put_int(c, j->dim[1][3] != j->dim[0][3]);
    if (j->op->code == PERI_OP_SCALE) put_float(c, j->attr.scale.scale);
    if (j->op->code == PERI_OP_ACT || j->op->code == PERI_OP_GLU) put_float(c, j->attr.act.param);
    return launch(c, chunks(j->dim[0][3], CHUNK), n_row(j, 0), e);
}

static int32_t run_rows(const job *j, call *c, peri_error *e) {
    const int32_t *row = peri_step_array(j->step, j->step->out_row);
    for (int32_t r = 0; r < j->dim[1][2]; r++)
        if (row[r] < 0 || row[r] >= j->dim[0][2])
            return peri_plugin_fail(e, PERI_E_RANGE, "row %d of %d", (int)row[r],
                                    (int)j->dim[0][2]);
    put_rows(c, 0);
    put_step(c);
    put_int(c, step_index(j->step->out_row));
    put_rows(c, 1);
    put_int(c, j->dim[0][3]);
    return launch(c, chunks(j->dim[0][3], CHUNK), j->dim[1][2], e);
}

/* x [T][K][n], w, y */
static int32_t run_expert_sum(const job *j, call *c, peri_error *e) {
    put_rows(c, 0);
    put_rows(c, 1);
    put_rows(c, 2);
    put_int(c, j->dim[0][2]);
    put_int(c, j->dim[0][3]);
    return launch(c, chunks(j->dim[0][3], CHUNK), j->dim[0][1], e);
}

/* l, bias?, ids, w */
static int32_t run_route(const job *j, call *c, peri_error *e) {
    const peri_route_attr *a = &j->attr.route;
    cl_int4 how = {{(cl_int)a->kind, a->renorm != 0, (cl_int)a->n_group, (cl_int)a->n_group_used}};
    put_rows(c, 0);
    put_flat(c, 1);
    put_rows(c, 2);
    put_rows(c, 3);
    put_int(c, j->dim[0][3]);
    put_int(c, j->dim[2][3]);
    put(c, &how, sizeof how);
    put_int(c, j->t[1] != NULL);
    put_float(c, a->weight_scale);
    return launch(c, j->dim[0][2], 1, e);
}

/* x, ids, y */
static int32_t run_topk(const job *j, call *c, peri_error *e) {
    put_rows(c, 0);
    put_rows(c, 1);
    put_rows(c, 2);
    put_int(c, j->dim[0][3]);
    put_int(c, j->dim[1][3]);
    return launch(c, j->dim[0][2], 1, e);
}

/* ---- attention --------------------------------------------------------------------------------
 */

/* x, factor?, y */
static int32_t run_rope(const job *j, call *c, peri_error *e) {
    const peri_rope_attr *a = &j->attr.rope;
    const peri_tensor *x = j->t[0], *y = j->t[2];
    bool is_in_place =
        x->off == y->off && x->stride[1] == y->stride[1] && x->stride[2] == y->stride[2];
    cl_float4 ramp = {{a->ext, a->ramp_lo, a->ramp_hi, a->freq_scale}};
    put_rows(c, 0);
    put_rows(c, 2);
    put_flat(c, 1);
    put_int(c, j->t[1] != NULL);
    put_step(c);
    put_int(c, step_index(j->step->pos));
    put_int(c, j->dim[0][2]);
    put_int(c, j->dim[0][3]);
    put_int(c, (int32_t)a->first);
    put_int(c, (int32_t)a->n_rot);
    put_float(c, powf(a->base, -2.0f / (float)a->n_rot));
    put_float(c, a->magnitude);
    put(c, &ramp, sizeof ramp);
    return launch(c, (int32_t)a->n_rot / 2 + !is_in_place, j->dim[0][1], e);
}

/* k, v, Kpool, Vpool */
static int32_t run_append(const job *j, call *c, peri_error *e) {
    const int32_t *slot = peri_step_array(j->step, j->step->slot);
    int64_t n_slot = (int64_t)j->dim[2][0] * j->dim[2][1];
    for (int32_t t = 0; t < j->dim[0][1]; t++)
        if (slot[t] >= n_slot)
            return peri_plugin_fail(e, PERI_E_RANGE, "slot %d of %lld", (int)slot[t],
                                    (long long)n_slot);
    put_rows(c, 0);
    put_rows(c, 1);
    put_flat(c, 2);
    put_flat(c, 3);
    put_step(c);
    put_int(c, step_index(j->step->slot));
    put_int(c, j->dim[0][2]);
    put_int(c, j->dim[0][3]);
    put_int(c, j->dim[1][3]);
    return launch(c, j->dim[0][2], j->dim[0][1], e);
}

/* The step's numbers index memory: refuse those outside. */
static int32_t check_step(const job *j, peri_error *e) {
    const peri_step *s = j->step;
    const int32_t *seq = peri_step_array(s, s->seq), *ctx = peri_step_array(s, s->ctx);
    int64_t n_tok = j->dim[1][1], max = s->n[PERI_SYM_B];
    for (int32_t t = 0; t < j->dim[0][1]; t++)
        if (seq[t] < 0 || seq[t] >= s->n[PERI_SYM_S])
            return peri_plugin_fail(e, PERI_E_RANGE, "token %d of sequence %d of %d", (int)t,
                                    (int)seq[t], (int)s->n[PERI_SYM_S]);
    for (int32_t k = 0; k < s->n[PERI_SYM_S]; k++) {
        const int32_t *table = peri_step_array(s, s->table) + k * max;
        if (ctx[k] < 0 || ctx[k] > max * n_tok)
            return peri_plugin_fail(e, PERI_E_RANGE, "%d keys of sequence %d, room for %lld",
                                    (int)ctx[k], (int)k, (long long)(max * n_tok));
        for (int64_t b = 0; b * n_tok < ctx[k]; b++)
            if (table[b] < 0 || table[b] >= j->dim[1][0])
                return peri_plugin_fail(e, PERI_E_RANGE, "block %d of %d in sequence %d",
                                        (int)table[b], (int)j->dim[1][0], (int)k);
    }
    return PERI_OK;
}

/* q, Kpool, Vpool, sink?, y */
static int32_t run_attn(const job *j, call *c, peri_error *e) {
    const peri_attn_attr *a = &j->attr.attn;
    const peri_step *s = j->step;
    cl_int4 at = {
        {step_index(s->pos), step_index(s->seq), step_index(s->ctx), step_index(s->table)}};
    int32_t st = check_step(j, e);
    if (st) return st;
    put_rows(c, 0);
    put_flat(c, 1);
    put_flat(c, 2);
    put_flat(c, 3);
    put_rows(c, 4);
    put_step(c);
    put(c, &at, sizeof at);
    put_int(c, s->n[PERI_SYM_B]);
    put_int(c, j->dim[1][1]);
    put_int(c, j->dim[1][2]);
    put_float(c, a->scale);
    put_float(c, a->cap);
    put_float(c, a->alibi_max);
    put_int(c, a->window);
    put_int(c, a->chunk);
    put_int(c, (a->flags & PERI_ATTN_NOT_CAUSAL ? 1 : 0) | (j->t[3] ? 2 : 0));
    return launch_groups_with(c, j->dim[j->d->shape.kind == OCL_VECTOR][2], j->dim[0][1],
                              PART + j->dim[0][3], e);
}

/* ---- all --------------------------------------------------------------------------------------
 */

static int32_t run_one(const job *j, peri_error *e) {
    ocl_variant v = variant_of(j);
    call c;
    int32_t st = begin(j, &v, &c, e);
    if (st) return st;
    switch (j->op->code) {
    case PERI_OP_EMBED:
        return run_embed(j, &c, e);
    case PERI_OP_NORM:
        return run_norm(j, &c, e);
    case PERI_OP_ADD_NORM:
        return run_add_norm(j, &c, e);
    case PERI_OP_ROPE:
        return run_rope(j, &c, e);
    case PERI_OP_KV_APPEND:
        return run_append(j, &c, e);
    case PERI_OP_ATTN:
        return run_attn(j, &c, e);
    case PERI_OP_ROUTE:
        return run_route(j, &c, e);
    case PERI_OP_LINEAR_EXPERTS:
        return run_experts(j, &v, &c, e);
    case PERI_OP_EXPERT_SUM:
        return run_expert_sum(j, &c, e);
    case PERI_OP_ROWS:
        return run_rows(j, &c, e);
    case PERI_OP_TOPK:
        return run_topk(j, &c, e);
    }
    return run_elementwise(j, &c, e);
}

int32_t ocl_run_op(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                   const peri_step *s, peri_error *e) {
    job j = {.d = d, .p = p, .op = peri_op_at(p, op), .bind = m, .step = s};
    int32_t st = ocl_send_step(d, s, e);
    if (st) return st;
    resolve(&j, s->n);
    switch (j.op->code) {
    case PERI_OP_LINEAR:
        return run_product(&j, (product){1, 2, 3, 4}, j.attr.linear.flags, e);
    case PERI_OP_LINEAR_QKV:
        return run_qkv(&j, e);
    case PERI_OP_GATE_UP_GLU:
        return run_gate_up(&j, e);
    }
    return run_one(&j, e);
}
