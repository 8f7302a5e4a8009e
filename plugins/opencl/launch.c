/* SPDX-License-Identifier: MIT
 *
 * launch.c - from an op to its kernel: which variant, which arguments, how many work-items.
 *
 * The only place that knows the kernels' parameter lists.  An absent operand is bound to the step's
 * block and never read, as the flags say. */
#include <math.h>
#include <string.h>

#include "ocl.h"

/* Rows of a group of a product, on a processor and on a graphics card; with activations as bytes
 * from LEAST_ROWS to MOST_ROWS, so that making those takes a tenth of the time, but SHARES groups
 * for each unit of computing if there are so many rows; tokens, when there are MANY_FROM or more;
 * elements of a work-item that runs over rows; keys of a part of attention. */
enum {
    ROWS = 8,
    CARD_ROWS = 4,
    LEAST_ROWS = 16,
    MOST_ROWS = 256,
    SHARES = 4,
    MANY_TOKENS = 8,
    MANY_FROM = 3,
    CHUNK = 64,
    PART = 256
};
/* Operations of heads.cl, of which the first two may be missing. */
enum { H_NORM, H_NORM_2, H_ROPE, H_ROPE_2, H_APPEND, H_OPS };

typedef struct job {
    peri_dev *d;
    const peri_program *p;
    const peri_op *op;
    const peri_bind *bind;
    const peri_step *step;
    const peri_tensor *t[OCL_OPERANDS]; /* NULL where absent */
    int32_t dim[OCL_OPERANDS][4];
    peri_op_attr attr;
} job;

/* ---- variants ---------------------------------------------------------------------------------
 */

static ocl_act act_of(const job *j, uint32_t k) {
    return ocl_act_of(j->d, j->t[k]->dtype, j->dim[k][3]);
}

/* k: an operand that is weights; last: a value more. */
static ocl_variant product_variant(const job *j, const char *name, uint32_t k, bool is_many,
                                   int32_t last) {
    ocl_act a = act_of(j, k);
    bool has_room = MANY_TOKENS * a.room <= j->d->local_bytes;
    return (ocl_variant){
        name, {(int32_t)j->t[k]->dtype, a.span != 0, is_many && has_room ? MANY_TOKENS : 1, last}};
}

static int32_t round_up(int32_t n, int32_t to) {
    return (n + to - 1) / to * to;
}

/* The kernel of an op other than a product; dim as in a job. */
static ocl_variant variant_of(const job *j) {
    const peri_op_attr *a = &j->attr;
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
    j->attr = peri_op_attr_get(j->p, j->op);
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

static void put_room(call *c, size_t bytes) {
    cl_int rc = c->j->d->cl->clSetKernelArg(c->kernel, c->n++, bytes, NULL);
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
    put_room(c, (is_vector ? 1 : OCL_LANES + (size_t)more) * sizeof(cl_float));
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

/* Rows of a group, of m of weights k for n_group groups of tokens. */
static int32_t rows_of(const job *j, uint32_t k, int64_t m, int64_t n_group) {
    const peri_dev *d = j->d;
    if (d->shape.kind != OCL_VECTOR) return CARD_ROWS;
    if (!act_of(j, k).span) return ROWS;
    int64_t n = m * n_group / (SHARES * (d->n_unit > 0 ? d->n_unit : 1));
    return n < LEAST_ROWS ? LEAST_ROWS : n > MOST_ROWS ? MOST_ROWS : (int32_t)n;
}

/* The kernel of weights k, whose last parameters are the rows of a group and its room. */
static int32_t launch_product(call *c, const ocl_variant *v, uint32_t k, int32_t rows, int32_t x,
                              int32_t y, peri_error *e) {
    size_t room = act_of(c->j, k).room * (size_t)v->value[2];
    put_int(c, rows);
    if (!room) return launch_groups(c, x, y, e);
    put_room(c, room);
    return enqueue(c, x, y, 1, e);
}

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
    int32_t n_group = chunks(n_tok, v.value[2]), rows = rows_of(j, o.w, m, n_group);
    return launch_product(&c, &v, o.w, rows, chunks(m, rows), n_group, e);
}

/* x, W q k v, b? q k v, s? q k v, y q k v: all of them in one launch. */
static int32_t run_one_qkv(const job *j, peri_error *e) {
    int32_t n_tok = j->dim[10][2], flags = 0, n_item = 0;
    cl_int4 m = {{j->dim[1][2], j->dim[2][2], j->dim[3][2]}};
    ocl_variant v = weight_variant(j, 1, n_tok >= MANY_FROM);
    int32_t n_group = chunks(n_tok, v.value[2]);
    int32_t rows = rows_of(j, 1, (int64_t)m.s[0] + m.s[1] + m.s[2], n_group);
    call c;
    int32_t st = begin(j, &v, &c, e);
    if (st) return st;
    put_rows(&c, 0);
    for (uint32_t k = 1; k <= 9; k++)
        put_flat(&c, k);
    for (uint32_t k = 0; k < 3; k++) {
        put_rows(&c, 10 + k);
        flags |= ((j->t[4 + k] ? 1 : 0) | (j->t[7 + k] ? 2 : 0)) << 4 * k;
        n_item += chunks(m.s[k], rows);
    }
    put_int(&c, j->dim[1][3]);
    put(&c, &m, sizeof m);
    put_int(&c, n_tok);
    put_int(&c, flags);
    return launch_product(&c, &v, 1, rows, n_item, n_group, e);
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
    int32_t n_group = chunks(n_tok, v.value[2]), rows = rows_of(j, 1, m, n_group);
    return launch_product(&c, &v, 1, rows, chunks(m, rows), n_group, e);
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
    int32_t rows = rows_of(j, 1, m, (int64_t)n_tok * n_used);
    return launch_product(c, v, 1, rows, chunks(m, rows), n_tok * n_used, e);
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

static cl_float4 ramp_of(const peri_rope_attr *a) {
    return (cl_float4){{a->ext, a->ramp_lo, a->ramp_hi, a->freq_scale}};
}

static float ratio_of(const peri_rope_attr *a) {
    return powf(a->base, -2.0f / (float)a->n_rot);
}

/* x, factor?, y */
static int32_t run_rope(const job *j, call *c, peri_error *e) {
    const peri_rope_attr *a = &j->attr.rope;
    const peri_tensor *x = j->t[0], *y = j->t[2];
    bool is_in_place =
        x->off == y->off && x->stride[1] == y->stride[1] && x->stride[2] == y->stride[2];
    cl_float4 ramp = ramp_of(a);
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
    put_float(c, ratio_of(a));
    put_float(c, a->magnitude);
    put(c, &ramp, sizeof ramp);
    return launch(c, (int32_t)a->n_rot / 2 + !is_in_place, j->dim[0][1], e);
}

static int32_t check_slots(const job *j, peri_error *e) {
    const int32_t *slot = peri_step_array(j->step, j->step->slot);
    int64_t n_slot = (int64_t)j->dim[2][0] * j->dim[2][1];
    for (int32_t t = 0; t < j->dim[0][1]; t++)
        if (slot[t] >= n_slot)
            return peri_plugin_fail(e, PERI_E_RANGE, "slot %d of %lld", (int)slot[t],
                                    (long long)n_slot);
    return PERI_OK;
}

/* k, v, Kpool, Vpool */
static int32_t run_append(const job *j, call *c, peri_error *e) {
    int32_t st = check_slots(j, e);
    if (st) return st;
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

/* ---- several in one launch --------------------------------------------------------------------
 */

static ocl_variant heads_variant(const job j[H_OPS], bool has_norms) {
    return (ocl_variant){"heads",
                         {(int32_t)j[H_APPEND].t[2]->dtype, (int32_t)j[H_ROPE].attr.rope.pairs,
                          has_norms ? (int32_t)j[H_NORM].attr.norm.kind : 0, has_norms}};
}

/* A norm without bias, whose weights are the same for all heads. */
static bool is_plain_norm(const job *j) {
    return j->op->code == PERI_OP_NORM && !j->t[2] && (!j->t[1] || j->dim[1][2] == 1);
}

static bool are_alike(const job *a, const job *b) {
    const peri_norm_attr *n = &a->attr.norm, *m = &b->attr.norm;
    return is_plain_norm(a) && is_plain_norm(b) && n->kind == m->kind && n->eps == m->eps &&
           !a->t[1] == !b->t[1] && a->dim[0][3] == b->dim[0][3];
}

static bool turn_alike(const job *a, const job *b) {
    const peri_rope_attr *r = &a->attr.rope, *q = &b->attr.rope;
    const peri_tensor *f = a->t[1], *g = b->t[1];
    return a->op->code == PERI_OP_ROPE && b->op->code == PERI_OP_ROPE && r->pairs == q->pairs &&
           r->first == q->first && r->n_rot == q->n_rot && r->base == q->base &&
           r->freq_scale == q->freq_scale && r->ext == q->ext && r->ramp_lo == q->ramp_lo &&
           r->ramp_hi == q->ramp_hi && r->magnitude == q->magnitude &&
           a->dim[0][3] == b->dim[0][3] &&
           (f == g || (f && g && f->kind == g->kind && f->ref == g->ref && f->off == g->off));
}

/* Those from `first` on, into their places; their number, or 0 when they are not what heads.cl does
 * or, from `end` on, too few. */
static uint32_t resolve_heads(peri_dev *d, const peri_program *p, uint32_t first, uint32_t end,
                              const int32_t *n, job j[H_OPS]) {
    if (d->shape.kind != OCL_VECTOR || first >= end) return 0;
    uint32_t at = peri_op_at(p, first)->code == PERI_OP_NORM ? H_NORM : H_ROPE;
    uint32_t count = H_OPS - at;
    if (end - first < count) return 0;
    for (uint32_t i = at; i < H_OPS; i++) {
        j[i] = (job){.d = d, .p = p, .op = peri_op_at(p, first + i - at)};
        resolve(&j[i], n);
    }
    if (at == H_NORM && !are_alike(&j[H_NORM], &j[H_NORM_2])) return 0;
    if (!turn_alike(&j[H_ROPE], &j[H_ROPE_2]) || j[H_APPEND].op->code != PERI_OP_KV_APPEND)
        return 0;
    return count;
}

uint32_t ocl_prepare_heads(peri_dev *d, const peri_program *p, uint32_t first, uint32_t end,
                           const peri_bucket *b) {
    job j[H_OPS];
    cl_kernel kernel;
    peri_error ignored; /* without the kernel the operations are launched one by one */
    uint32_t n = resolve_heads(d, p, first, end, b->hi, j);
    if (!n) return 0;
    ocl_variant v = heads_variant(j, n == H_OPS);
    return ocl_kernel_get(d, &v, &kernel, &ignored) == PERI_OK ? n : 0;
}

/* x, w?, b?, y; an absent norm's arguments are not read. */
static void put_norm(call *c, const job *j) {
    cl_int2 rows = {{n_row(j, 0), j->dim[0][2]}};
    c->j = j;
    put_rows(c, 0);
    put_rows(c, 3);
    put_flat(c, 1);
    put(c, &rows, sizeof rows);
}

static void put_norms(call *c, const job j[H_OPS], bool has_norms) {
    const peri_norm_attr *a = &j[H_NORM].attr.norm;
    for (uint32_t i = H_NORM; i <= H_NORM_2; i++) {
        if (has_norms) {
            put_norm(c, &j[i]);
            continue;
        }
        c->j = &j[H_ROPE]; /* any memory */
        put_rows(c, 0);
        put_rows(c, 2);
        put_flat(c, 1);
        put(c, &(cl_int2){{0, 1}}, sizeof(cl_int2));
    }
    put_int(c, has_norms ? j[H_NORM].dim[0][3] : 0);
    put_float(c, has_norms ? a->eps : 0);
    put_int(c, has_norms && j[H_NORM].t[1] ? 1 : 0);
}

static void put_ropes(call *c, const job j[H_OPS]) {
    const peri_rope_attr *a = &j[H_ROPE].attr.rope;
    cl_int2 rot = {{(cl_int)a->first, (cl_int)a->n_rot}};
    cl_float4 ramp = ramp_of(a);
    for (uint32_t i = H_ROPE; i <= H_ROPE_2; i++) {
        c->j = &j[i];
        put_rows(c, 0);
        put_rows(c, 2);
        put_int(c, j[i].dim[0][2]);
    }
    put_flat(c, 1);
    put_int(c, j[H_ROPE].t[1] != NULL);
    put_int(c, j[H_ROPE].dim[0][3]);
    put(c, &rot, sizeof rot);
    put_float(c, ratio_of(a));
    put_float(c, a->magnitude);
    put(c, &ramp, sizeof ramp);
}

static int32_t launch_heads(const job j[H_OPS], bool has_norms, peri_error *e) {
    const job *k = &j[H_APPEND];
    int32_t n_tok = k->dim[0][1];
    ocl_variant v = heads_variant(j, has_norms);
    call c;
    int32_t st = check_slots(k, e);
    if (!st) st = begin(k, &v, &c, e);
    if (st) return st;
    put_norms(&c, j, has_norms);
    put_ropes(&c, j);
    c.j = k;
    for (uint32_t i = 0; i < 2; i++)
        put_rows(&c, i);
    for (uint32_t i = 2; i < 4; i++)
        put_flat(&c, i);
    put_int(&c, k->dim[0][2]);
    put_int(&c, k->dim[0][3]);
    put_int(&c, k->dim[1][3]);
    put_step(&c);
    put_int(&c, step_index(k->step->pos));
    put_int(&c, step_index(k->step->slot));
    put_int(&c, n_tok);
    put_room(&c, (size_t)n_tok * j[H_ROPE].attr.rope.n_rot * sizeof(cl_float));
    return enqueue(&c, 1, 1, 1, e);
}

int32_t ocl_run_heads(peri_dev *d, const peri_program *p, uint32_t first, uint32_t n,
                      const peri_bind *m, const peri_step *s, peri_error *e) {
    job j[H_OPS];
    int32_t st = ocl_send_step(d, s, e);
    if (st) return st;
    if (resolve_heads(d, p, first, first + n, s->n, j) != n)
        return peri_plugin_fail(e, PERI_E_INVALID, "ops %u to %u are not what they were", first,
                                first + n - 1);
    for (uint32_t i = H_OPS - n; i < H_OPS; i++) {
        j[i].bind = m;
        j[i].step = s;
    }
    return launch_heads(j, n == H_OPS, e);
}
