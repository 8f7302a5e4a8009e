/* SPDX-License-Identifier: MIT
 *
 * check.c - is an op what op.def says, and within what the kernels take?
 *
 * Shapes are a table: per operand a class and four dimensions, slowest first, and `?` where it may
 * be absent.  Classes: a  activation f32, i  activation i32, v  f32 numbers without gaps, w weight,
 * p  pool.  A dimension is 1 or a letter, which stands for one extent throughout the op.  Of
 * several rows for an op the first that fits counts; if none does, the last one's complaint. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cu.h"

typedef struct shape {
    uint16_t code;
    const char *operands;
} shape;

// clang-format off
static const shape shapes[] = {
    {PERI_OP_EMBED, "w11vn a11tn"},
    {PERI_OP_LINEAR, "a11tn w11mn v111m? v1111? a11tm"},
    {PERI_OP_NORM, "a1thn v11hn? v11hn? a1thn"},
    {PERI_OP_NORM, "axyzn v111n? v111n? axyzn"},
    {PERI_OP_ROPE, "a1thd v111r? a1thd"},
    {PERI_OP_KV_APPEND, "a1tgk a1tgv pbcgk pbcgv"},
    {PERI_OP_ATTN, "a1thk pbcgk pbcgv v111h? a1thv"},
    {PERI_OP_ACT, "axyzn axyzn"},
    {PERI_OP_GLU, "axyzn axyzn axyzn"},
    {PERI_OP_ADD, "axyzn axyzn axyzn"},
    {PERI_OP_ADD, "axyzn v111n axyzn"},
    {PERI_OP_MUL, "axyzn axyzn axyzn"},
    {PERI_OP_MUL, "axyzn v1111 axyzn"},
    {PERI_OP_MUL, "axyzn v111n axyzn"},
    {PERI_OP_SCALE, "axyzn axyzn"},
    {PERI_OP_ROUTE, "a11te v111e? i11tk a11tk"},
    {PERI_OP_LINEAR_EXPERTS, "a1tkn w1emn i11tk v11em? v111e? a1tkm"},
    {PERI_OP_LINEAR_EXPERTS, "a11tn w1emn i11tk v11em? v111e? a1tkm"},
    {PERI_OP_EXPERT_SUM, "a1tkn a11tk a11tn"},
    {PERI_OP_ROWS, "a11tn a11rn"},
    {PERI_OP_ADD_NORM, "a11tn a11tn v111n? v111n? a11tn a11tn"},
    {PERI_OP_LINEAR_QKV, "a11tn w11an w11bn w11cn v111a? v111b? v111c? v1111? v1111? v1111? a11ta a11tb a11tc"},
    {PERI_OP_GATE_UP_GLU, "a11tn w11mn w11mn a11tm"},
    {PERI_OP_TOPK, "a11rv i11rk a11rk"},
};
// clang-format on

typedef struct none {
    char unused;
} none; /* op.def's word for "no attributes" */

typedef struct form {
    uint32_t n_in, n_out, attr_size;
} form;

/* False for a code that is not in op.def. */
static bool form_of(uint16_t code, form *out) {
    switch (code) {
#define PERI_OP(NAME, code, level, n_in, n_out, attr)                                              \
    case code:                                                                                     \
        *out = (form){n_in, n_out, sizeof(attr) == 1 ? 0 : sizeof(attr)};                          \
        return true;
#include "perigee/op.def"
#undef PERI_OP
    }
    return false;
}

cu_dtype cu_dtype_of(uint32_t dtype) {
    switch (dtype) {
#define PERI_DTYPE(NAME, number, name, elements, bytes)                                            \
    case number:                                                                                   \
        return (cu_dtype){name, elements, bytes};
#include "perigee/dtype.def"
#undef PERI_DTYPE
    }
    return (cu_dtype){NULL, 1, 1};
}

typedef struct check {
    const peri_program *p;
    const peri_op *op;
    const peri_bucket *b;
    cu_attr attr;
    char *why; /* [88] */
    int64_t dim[26], least[26],
        most[26]; /* of each letter met: as in peri_tensor, and its bounds */
} check;

static int no(check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int no(check *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->why, 88, fmt, ap);
    va_end(ap);
    return 0;
}

/* ---- operands ---------------------------------------------------------------------------------
 */

static int64_t bound(int64_t dim, const int32_t *n) {
    if (dim >= 0) return dim;
    return dim > -PERI_NSYM ? n[-dim] : 0;
}

static int check_dims(check *c, uint32_t k, const peri_tensor *t, const char *pattern) {
    double all = 1;
    for (int i = 0; i < 4; i++) {
        int64_t lo = bound(t->dim[i], c->b->lo), hi = bound(t->dim[i], c->b->hi);
        if (lo < 0 || hi < 1 || hi > INT32_MAX / 2)
            return no(c, "operand %u: extent %d is %lld", k, i, (long long)hi);
        all *= (double)hi;
        if (pattern[i] == '1') {
            if (hi == 1) continue;
            return no(c, "operand %u: extent %d is %lld, not 1", k, i, (long long)hi);
        }
        int letter = pattern[i] - 'a';
        bool is_same =
            c->dim[letter] == t->dim[i] || ((c->dim[letter] >= 0 || t->dim[i] >= 0) &&
                                            c->least[letter] == lo && c->most[letter] == hi);
        if (c->dim[letter] == 0) {
            c->dim[letter] = t->dim[i];
            c->least[letter] = lo;
            c->most[letter] = hi;
        } else if (!is_same) {
            return no(c, "operand %u: extent %d is %lld, others say %lld", k, i,
                      (long long)t->dim[i], (long long)c->dim[letter]);
        }
    }
    return all < 0x1p40 ? 1 : no(c, "operand %u: more than 2^40 elements", k);
}

static bool is_dense(const check *c, const peri_tensor *t, int64_t element) {
    for (int i = 3; i >= 0; i--) {
        int64_t n = bound(t->dim[i], c->b->hi);
        if (n > 1 && t->stride[i] != element) return false;
        element *= n;
    }
    return true;
}

static int check_activation(check *c, uint32_t k, const peri_tensor *t, uint32_t dtype) {
    if (t->dtype != dtype)
        return no(c, "operand %u: type number %u, not %s", k, t->dtype, cu_dtype_of(dtype).name);
    if (t->kind != PERI_T_ACT || t->off % 4) return no(c, "operand %u: no activation", k);
    for (int i = 0; i < 4; i++) {
        if (bound(t->dim[i], c->b->hi) == 1) continue;
        if (t->stride[i] < 4 || t->stride[i] % 4 || (i == 3 && t->stride[i] != 4))
            return no(c, "operand %u: stride %lld in dimension %d", k, (long long)t->stride[i], i);
    }
    return 1;
}

/* The types that weights.cuh has. */
static bool can_decode(uint32_t dtype) {
    switch (dtype) {
    case CU_F32:
    case CU_F16:
    case CU_BF16:
    case CU_Q4_0:
    case CU_Q4_1:
    case CU_Q5_0:
    case CU_Q5_1:
    case CU_Q8_0:
    case CU_Q8_1:
    case CU_Q2_K:
    case CU_Q3_K:
    case CU_Q4_K:
    case CU_Q5_K:
    case CU_Q6_K:
    case CU_Q8_K:
    case CU_IQ4_NL:
    case CU_IQ4_XS:
    case CU_TQ1_0:
    case CU_TQ2_0:
    case CU_MXFP4:
    case CU_NVFP4:
    case CU_Q1_0:
    case CU_Q2_0:
    case CU_IQ1_S:
    case CU_IQ1_M:
    case CU_IQ2_XXS:
    case CU_IQ2_XS:
    case CU_IQ2_S:
    case CU_IQ3_XXS:
    case CU_IQ3_S:
    case CU_F64:
        return true;
    }
    return false;
}

static int check_weight(check *c, uint32_t k, const peri_tensor *t) {
    cu_dtype type = cu_dtype_of(t->dtype);
    if (t->kind != PERI_T_WEIGHT) return no(c, "operand %u: not a weight", k);
    if (!can_decode(t->dtype))
        return no(c, "weights of type %s: no kernel decodes them", type.name ? type.name : "?");
    for (int i = 0; i < 4; i++)
        if (t->dim[i] < 1) return no(c, "operand %u: a weight of symbolic shape", k);
    if (t->dim[3] % type.n)
        return no(c, "operand %u: rows of %lld, no whole blocks of %s", k, (long long)t->dim[3],
                  type.name);
    if (type.n == 1 && !is_dense(c, t, type.bytes)) return no(c, "operand %u: gaps", k);
    return 1;
}

static int check_vector(check *c, uint32_t k, const peri_tensor *t) {
    if (t->dtype != CU_F32) return no(c, "operand %u: type number %u, not F32", k, t->dtype);
    if (t->kind == PERI_T_POOL || t->off % 4 || !is_dense(c, t, 4))
        return no(c, "operand %u: no run of numbers", k);
    return 1;
}

static int check_pool(check *c, uint32_t k, const peri_tensor *t) {
    cu_dtype type = cu_dtype_of(t->dtype);
    if (t->kind != PERI_T_POOL) return no(c, "operand %u: not a pool", k);
    if (t->dtype != CU_F32 && t->dtype != CU_F16 && t->dtype != CU_BF16)
        return no(c, "a cache of type %s: no kernel reads it", type.name ? type.name : "?");
    for (int i = 0; i < 4; i++)
        if (t->dim[i] < 1) return no(c, "operand %u: a pool of symbolic shape", k);
    if (t->off % 16) /* keys are read 16 bytes at a time */
        return no(c, "operand %u: a pool at byte %llu, no multiple of 16", k,
                  (unsigned long long)t->off);
    return is_dense(c, t, type.bytes) ? 1 : no(c, "operand %u: a pool with gaps", k);
}

static int check_operand(check *c, uint32_t k, const peri_tensor *t, const char *pattern) {
    if (!check_dims(c, k, t, pattern + 1)) return 0;
    switch (pattern[0]) {
    case 'w':
        return check_weight(c, k, t);
    case 'v':
        return check_vector(c, k, t);
    case 'p':
        return check_pool(c, k, t);
    }
    return check_activation(c, k, t, pattern[0] == 'i' ? CU_I32 : CU_F32);
}

static int check_shape(check *c, const char *pattern) {
    memset(c->dim, 0, sizeof c->dim);
    memset(c->most, 0, sizeof c->most);
    for (uint32_t k = 0; k < (uint32_t)c->op->n_in + c->op->n_out; k++) {
        uint32_t index = peri_arg(c->p, c->op, k);
        bool may_lack = pattern[5] == '?';
        if (index == PERI_NONE && !may_lack) return no(c, "operand %u is missing", k);
        if (index != PERI_NONE && index >= c->p->n_tensors)
            return no(c, "operand %u: tensor %u of %u", k, index, c->p->n_tensors);
        if (index != PERI_NONE && !check_operand(c, k, peri_tensor_at(c->p, index), pattern))
            return 0;
        pattern += 6 + may_lack;
    }
    return 1;
}

static int check_shapes(check *c) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (shapes[i].code == c->op->code && check_shape(c, shapes[i].operands)) return 1;
    return 0;
}

/* ---- attributes -------------------------------------------------------------------------------
 */

cu_attr cu_attr_get(const peri_program *p, const peri_op *op) {
    cu_attr a;
    memset(&a, 0, sizeof a);
    if (op->attr_size >= sizeof a.size)
        memcpy(&a, peri_attr(p, op), op->attr_size < sizeof a ? op->attr_size : sizeof a);
    return a;
}

/* The struct is there and whole, and says nothing in fields that are newer than this plugin. */
static int check_attr_size(check *c, const form *f) {
    uint32_t room = c->op->attr_size, said = c->attr.size;
    if (f->attr_size == 0) return room ? no(c, "%u bytes of attributes, none expected", room) : 1;
    uint64_t end = (uint64_t)c->p->attrs + c->op->attr + room;
    if (end > c->p->bytes || c->op->attr % 4) return no(c, "attributes outside the program");
    if (said < f->attr_size || said > room)
        return no(c, "%u bytes of attributes in %u, %u expected", said, room, f->attr_size);
    const unsigned char *bytes = peri_attr(c->p, c->op);
    for (uint32_t i = f->attr_size; i < said; i++)
        if (bytes[i]) return no(c, "attribute byte %u is newer than this plugin", i);
    return 1;
}

static int check_rope(check *c, const peri_rope_attr *a) {
    int64_t d = c->most['d' - 'a'], r = c->most['r' - 'a'];
    if (a->pairs > PERI_ROPE_NEOX) return no(c, "pairs %u", a->pairs);
    if (a->n_rot == 0 || a->n_rot % 2 || (int64_t)a->first + a->n_rot > d)
        return no(c, "n_rot %u from %u on in heads of %lld", a->n_rot, a->first, (long long)d);
    if (r && r * 2 != a->n_rot) return no(c, "%lld factors for n_rot %u", (long long)r, a->n_rot);
    return a->base > 0 ? 1 : no(c, "base %g", (double)a->base);
}

static int check_attn(check *c, const peri_attn_attr *a) {
    int64_t h = c->most['h' - 'a'], g = c->most['g' - 'a'];
    int64_t dk = c->most['k' - 'a'], dv = c->most['v' - 'a'];
    if (a->flags >> 16 & ~(PERI_ATTN_NOT_CAUSAL >> 16)) return no(c, "flags 0x%x", a->flags);
    if (h % g) return no(c, "%lld heads over %lld", (long long)h, (long long)g);
    if (a->window < 0 || a->chunk < 0) return no(c, "window %d, chunk %d", a->window, a->chunk);
    if (!(a->cap >= 0) || !(a->alibi_max >= 0))
        return no(c, "cap %g, alibi_max %g", (double)a->cap, (double)a->alibi_max);
    if (dk <= CU_HEAD && dv <= CU_HEAD) return 1; /* they lie in a block's shared memory */
    return no(c, "heads of %lld and %lld: %d at most", (long long)dk, (long long)dv, CU_HEAD);
}

static int check_route(check *c, const peri_route_attr *a) {
    int64_t n = c->most['e' - 'a'], used = c->most['k' - 'a'], open = n;
    if (a->kind > PERI_ROUTE_SOFTMAX_CHOSEN) return no(c, "route kind %u", a->kind);
    if (n > CU_EXPERTS) return no(c, "%lld experts, %d at most", (long long)n, CU_EXPERTS);
    if (a->n_group > 1) {
        if (n % a->n_group || a->n_group_used < 1 || a->n_group_used > a->n_group)
            return no(c, "%u of %u groups of %lld experts", a->n_group_used, a->n_group,
                      (long long)n);
        open = n / a->n_group * a->n_group_used;
    }
    return used <= open ? 1 : no(c, "%lld of %lld experts", (long long)used, (long long)open);
}

static int check_topk(check *c) {
    int64_t k = c->most['k' - 'a'], n = c->most['v' - 'a'];
    if (k < 1 || k > CU_TOPK || k > n)
        return no(c, "%lld of %lld elements, %d at most", (long long)k, (long long)n, CU_TOPK);
    if (cu_topk_bytes(n, k) <= CU_TOPK_ROOM) return 1;
    return no(c, "%lld of %lld elements: no room for lists of so many", (long long)k, (long long)n);
}

static int check_attr(check *c) {
    const cu_attr *a = &c->attr;
    switch (c->op->code) {
    case PERI_OP_EMBED:
        return a->embed.source <= 1 ? 1 : no(c, "source %u", a->embed.source);
    case PERI_OP_LINEAR:
        if (!(a->linear.flags >> 16 & ~(PERI_LINEAR_SCALE_LAST >> 16))) return 1;
        return no(c, "flags 0x%x", a->linear.flags);
    case PERI_OP_NORM:
    case PERI_OP_ADD_NORM:
        if (a->norm.kind <= PERI_NORM_L2 && a->norm.eps >= 0) return 1;
        return no(c, "norm kind %u, eps %g", a->norm.kind, (double)a->norm.eps);
    case PERI_OP_ROPE:
        return check_rope(c, &a->rope);
    case PERI_OP_ATTN:
        return check_attn(c, &a->attn);
    case PERI_OP_ACT:
    case PERI_OP_GLU:
    case PERI_OP_GATE_UP_GLU:
        if (a->act.act > PERI_ACT_SOFTCAP) return no(c, "activation %u", a->act.act);
        if (a->act.act != PERI_ACT_SOFTCAP || a->act.param > 0) return 1;
        return no(c, "cap %g", (double)a->act.param);
    case PERI_OP_ROUTE:
        return check_route(c, &a->route);
    case PERI_OP_TOPK:
        return check_topk(c);
    }
    return 1;
}

int cu_check(const peri_program *p, uint32_t op, const peri_bucket *b, char why[88]) {
    check c = {.p = p, .b = b, .why = why};
    form f;
    if (op >= p->n_ops) return no(&c, "op %u of a program of %u", op, p->n_ops);
    c.op = peri_op_at(p, op);
    if (!form_of(c.op->code, &f)) return no(&c, "operation 0x%04x is unknown here", c.op->code);
    if (c.op->n_in != f.n_in || c.op->n_out != f.n_out)
        return no(&c, "%u inputs and %u outputs, %u and %u expected", c.op->n_in, c.op->n_out,
                  f.n_in, f.n_out);
    if (f.attr_size <= c.op->attr_size) c.attr = cu_attr_get(p, c.op);
    if (!check_attr_size(&c, &f) || !check_shapes(&c) || !check_attr(&c)) return 0;
    if (c.op->code == PERI_OP_GATE_UP_GLU &&
        peri_operand(p, c.op, 1)->dtype != peri_operand(p, c.op, 2)->dtype)
        return no(&c, "gate and up of two types: an op for each");
    return 1;
}
