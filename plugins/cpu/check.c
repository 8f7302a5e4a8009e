/* SPDX-License-Identifier: MIT
 *
 * check.c - validation of an op against the shapes of op.def.
 *
 * The shapes are a table of patterns.  An operand is five characters and an optional `?` (may be
 * absent): its class, then its four dimensions, slowest first.  Classes: a  activation, f32, rows
 * may have gaps           i  activation, i32 v  f32 vectors without gaps, weight or activation  w
 * weight of a type that can be decoded p  pool, F32, F16, BF16, Q8_0 or Q4_0 A dimension is 1, or a
 * letter that stands for the same extent throughout the op.  An op with several shapes has several
 * lines; the first that fits is taken, and when none fits the complaint is that of the last. */
#include "check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ref.h"

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
    {PERI_OP_LINEAR_QKV, "a11tn w11an w11bn w11cn v111a? v111b? v111c? v1111? v1111? v1111? "
                         "a11ta a11tb a11tc"},
    {PERI_OP_GATE_UP_GLU, "a11tn w11mn w11mn a11tm"},
    {PERI_OP_TOPK, "a11rv i11rk a11rk"},
};
// clang-format on

typedef struct none {
    char unused;
} none; /* op.def's word for "no attributes" */

typedef struct op_info {
    const char *name;
    uint32_t n_in, n_out, attr_size;
} op_info;

static op_info info_of(uint16_t code) {
    switch (code) {
#define PERI_OP(NAME, code, level, n_in, n_out, attr)                                              \
    case code:                                                                                     \
        return (op_info){#NAME, n_in, n_out, sizeof(attr) == 1 ? 0 : sizeof(attr)};
#include "perigee/op.def"
#undef PERI_OP
    }
    return (op_info){NULL, 0, 0, 0};
}

typedef struct check {
    const peri_program *p;
    const peri_op *op;
    const peri_bucket *b;
    op_info info;
    cpu_attr attr;
    char *why;          /* [88] */
    int64_t letter[26]; /* a dim as in peri_tensor, 0 = not met yet */
    int64_t hi[26];     /* its largest extent */
} check;

static int no(check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int no(check *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->why, 88, fmt, ap);
    va_end(ap);
    return 0;
}

/* ---- operands ---- */

/* Extent of a dim at a bound of the bucket; 0 when the symbol is unknown. */
static int64_t extent(int64_t dim, const int32_t *bound) {
    if (dim >= 0) return dim;
    return dim > -PERI_NSYM ? bound[-dim] : 0;
}

/* Two dims that are equal for every shape of the bucket. */
static int is_same(const check *c, int64_t a, int64_t b) {
    if (a == b) return 1;
    if (a < 0 && b < 0) return 0; /* two symbols may differ within their bounds */
    return extent(a, c->b->lo) == extent(b, c->b->lo) && extent(a, c->b->hi) == extent(b, c->b->hi);
}

static int check_dims(check *c, uint32_t k, const peri_tensor *t, const char *pattern) {
    double total = 1;
    for (int i = 0; i < 4; i++) {
        int64_t hi = extent(t->dim[i], c->b->hi), lo = extent(t->dim[i], c->b->lo);
        if (hi < 1 || hi > INT32_MAX || lo < 0)
            return no(c, "operand %u: dimension %d is %lld", k, i, (long long)hi);
        total *= (double)hi;
        if (pattern[i] == '1') {
            if (hi != 1)
                return no(c, "operand %u: dimension %d is %lld, not 1", k, i, (long long)hi);
            continue;
        }
        int64_t *letter = &c->letter[pattern[i] - 'a'];
        if (*letter == 0) {
            *letter = t->dim[i];
            c->hi[pattern[i] - 'a'] = hi;
        } else if (!is_same(c, *letter, t->dim[i])) {
            return no(c, "operand %u: dimension %d is %lld, other operands say %lld", k, i,
                      (long long)t->dim[i], (long long)*letter);
        }
    }
    return total <= 0x1p40 ? 1 : no(c, "operand %u: more than 2^40 elements", k);
}

/* Rows without gaps; extents of 1 have no stride to speak of. */
static int is_dense(const check *c, const peri_tensor *t, int64_t element) {
    int64_t want = element;
    for (int i = 3; i >= 0; i--) {
        int64_t hi = extent(t->dim[i], c->b->hi);
        if (hi > 1 && t->stride[i] != want) return 0;
        want *= hi;
    }
    return 1;
}

static int check_activation(check *c, uint32_t k, const peri_tensor *t) {
    if (t->kind != PERI_T_ACT) return no(c, "operand %u: not an activation", k);
    if (t->off % 4) return no(c, "operand %u: offset %llu", k, (unsigned long long)t->off);
    for (int i = 0; i < 4; i++) {
        if (extent(t->dim[i], c->b->hi) == 1) continue;
        if (t->stride[i] < 4 || t->stride[i] % 4 || (i == 3 && t->stride[i] != 4))
            return no(c, "operand %u: stride %lld in dimension %d", k, (long long)t->stride[i], i);
    }
    return 1;
}

static int check_weight(check *c, uint32_t k, const peri_tensor *t) {
    ref_dtype type = ref_dtype_of(t->dtype);
    if (t->kind != PERI_T_WEIGHT) return no(c, "operand %u: not a weight", k);
    if (!type.name) return no(c, "weights of type number %u: unknown", t->dtype);
    if (!ref_can_dequant(t->dtype)) /* I8, I16, I32, I64 */
        return no(c, "weights of type %s: integers, which no operation multiplies", type.name);
    if (t->dim[3] < 1 || t->dim[3] % type.n)
        return no(c, "operand %u: rows of %lld, not whole blocks of type %s", k,
                  (long long)t->dim[3], type.name);
    for (int i = 0; i < 3; i++)
        if (t->dim[i] < 1) return no(c, "operand %u: a weight of symbolic shape", k);
    if (type.n == 1 && !is_dense(c, t, type.bytes)) return no(c, "operand %u: rows with gaps", k);
    return 1;
}

static int check_vector(check *c, uint32_t k, const peri_tensor *t) {
    if (t->dtype != PERI_CPU_F32) return no(c, "operand %u: type number %u, not F32", k, t->dtype);
    if (t->kind == PERI_T_POOL) return no(c, "operand %u: a pool", k);
    if (t->off % 4 || !is_dense(c, t, 4)) return no(c, "operand %u: numbers with gaps", k);
    return 1;
}

static int check_pool(check *c, uint32_t k, const peri_tensor *t) {
    if (t->kind != PERI_T_POOL) return no(c, "operand %u: not a pool", k);
    ref_dtype type = ref_dtype_of(t->dtype);
    if (!ref_can_encode(t->dtype))
        return no(c, "a cache of type %s: nothing stores or reads it", type.name ? type.name : "?");
    for (int i = 0; i < 4; i++)
        if (t->dim[i] < 1) return no(c, "operand %u: a pool of symbolic shape", k);
    if (t->dim[3] % type.n)
        return no(c, "operand %u: heads of %lld, not whole blocks of type %s", k,
                  (long long)t->dim[3], type.name);
    if (t->off % 4 || (type.n == 1 && !is_dense(c, t, type.bytes)))
        return no(c, "operand %u: a pool with gaps", k);
    return 1;
}

static int check_operand(check *c, uint32_t k, const peri_tensor *t, const char *pattern) {
    uint32_t element = pattern[0] == 'i' ? PERI_CPU_I32 : PERI_CPU_F32;
    if (!check_dims(c, k, t, pattern + 1)) return 0;
    switch (pattern[0]) {
    case 'w':
        return check_weight(c, k, t);
    case 'v':
        return check_vector(c, k, t);
    case 'p':
        return check_pool(c, k, t);
    }
    if (t->dtype != element)
        return no(c, "operand %u: type number %u, not %s", k, t->dtype, ref_dtype_of(element).name);
    return check_activation(c, k, t);
}

static int check_shape(check *c, const char *pattern) {
    memset(c->letter, 0, sizeof c->letter);
    memset(c->hi, 0, sizeof c->hi);
    for (uint32_t k = 0; k < (uint32_t)c->op->n_in + c->op->n_out; k++) {
        int is_optional = pattern[5] == '?';
        uint32_t index = peri_arg(c->p, c->op, k);
        if (index == PERI_NONE && !is_optional) return no(c, "operand %u is missing", k);
        if (index != PERI_NONE && index >= c->p->n_tensors)
            return no(c, "operand %u: tensor %u of %u", k, index, c->p->n_tensors);
        if (index != PERI_NONE && !check_operand(c, k, peri_tensor_at(c->p, index), pattern))
            return 0;
        pattern += 6 + is_optional;
    }
    return 1;
}

static int check_shapes(check *c) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (shapes[i].code == c->op->code && check_shape(c, shapes[i].operands)) return 1;
    return 0;
}

/* ---- attributes ---- */

cpu_attr cpu_attr_get(const peri_program *p, const peri_op *op) {
    cpu_attr a = {0};
    uint32_t n = op->attr_size < sizeof a ? op->attr_size : (uint32_t)sizeof a;
    if (n >= 4) memcpy(&a, peri_attr(p, op), n);
    return a;
}

/* Present, whole, and nothing said in fields that this plugin does not know. */
static int check_attr_size(check *c) {
    uint32_t known = c->info.attr_size, room = c->op->attr_size, said = c->attr.size;
    if (known == 0) return room == 0 ? 1 : no(c, "%u bytes of attributes, 0 expected", room);
    uint64_t end = (uint64_t)c->p->attrs + c->op->attr + room;
    if (end > c->p->bytes || c->op->attr % 4) return no(c, "attributes outside the program");
    if (room < known || said < known || said > room)
        return no(c, "%u bytes of attributes in %u, %u expected", said, room, known);
    const char *bytes = peri_attr(c->p, c->op);
    for (uint32_t i = known; i < said; i++)
        if (bytes[i]) return no(c, "attribute byte %u is newer than this plugin", i);
    return 1;
}

static int check_norm(check *c, const peri_norm_attr *a) {
    if (a->kind > PERI_NORM_L2) return no(c, "norm kind %u", a->kind);
    return a->eps >= 0 ? 1 : no(c, "eps %g", (double)a->eps);
}

static int check_act(check *c, const peri_act_attr *a) {
    if (a->act > PERI_ACT_SOFTCAP) return no(c, "activation %u", a->act);
    if (a->act == PERI_ACT_SOFTCAP && !(a->param > 0)) return no(c, "cap %g", (double)a->param);
    return 1;
}

static int check_rope(check *c, const peri_rope_attr *a) {
    int64_t width = c->hi['d' - 'a'], n_factor = c->hi['r' - 'a'];
    if (a->pairs > PERI_ROPE_NEOX) return no(c, "pairs %u", a->pairs);
    if (a->n_rot == 0 || a->n_rot % 2)
        return no(c, "n_rot %u, not a positive even number", a->n_rot);
    if ((int64_t)a->first + a->n_rot > width)
        return no(c, "elements %u to %lld of heads of %lld", a->first,
                  (long long)a->first + a->n_rot, (long long)width);
    if (n_factor && n_factor * 2 != a->n_rot)
        return no(c, "%lld factors for n_rot %u", (long long)n_factor, a->n_rot);
    return a->base > 0 ? 1 : no(c, "base %g", (double)a->base);
}

static int check_attn(check *c, const peri_attn_attr *a) {
    int64_t n_head = c->hi['h' - 'a'], n_kv_head = c->hi['g' - 'a'];
    if (a->flags >> 16 & ~(PERI_ATTN_NOT_CAUSAL >> 16)) return no(c, "flags 0x%x", a->flags);
    if (n_head % n_kv_head)
        return no(c, "%lld heads over %lld key/value heads", (long long)n_head,
                  (long long)n_kv_head);
    if (a->window < 0 || a->chunk < 0) return no(c, "window %d, chunk %d", a->window, a->chunk);
    if (!(a->cap >= 0) || !(a->alibi_max >= 0))
        return no(c, "cap %g, alibi_max %g", (double)a->cap, (double)a->alibi_max);
    return 1;
}

static int check_route(check *c, const peri_route_attr *a) {
    int64_t n_expert = c->hi['e' - 'a'], n_used = c->hi['k' - 'a'], open = n_expert;
    if (a->kind > PERI_ROUTE_SOFTMAX_CHOSEN) return no(c, "route kind %u", a->kind);
    if (a->n_group > 1) {
        if (n_expert % a->n_group)
            return no(c, "%lld experts in %u groups", (long long)n_expert, a->n_group);
        if (a->n_group_used < 1 || a->n_group_used > a->n_group)
            return no(c, "%u of %u groups used", a->n_group_used, a->n_group);
        open = n_expert / a->n_group * a->n_group_used;
    }
    return n_used <= open ? 1
                          : no(c, "%lld of %lld experts used", (long long)n_used, (long long)open);
}

static int check_topk(check *c) {
    int64_t k = c->hi['k' - 'a'], n = c->hi['v' - 'a'];
    if (k >= 1 && k <= PERI_TOPK_MAX && k <= n) return 1;
    return no(c, "%lld of %lld elements, %d at most", (long long)k, (long long)n, PERI_TOPK_MAX);
}

static int check_attr(check *c) {
    const cpu_attr *a = &c->attr;
    switch (c->op->code) {
    case PERI_OP_EMBED:
        return a->embed.source <= 1 ? 1 : no(c, "source %u", a->embed.source);
    case PERI_OP_LINEAR:
        if (a->linear.flags >> 16 & ~(PERI_LINEAR_SCALE_LAST >> 16))
            return no(c, "flags 0x%x", a->linear.flags);
        return 1;
    case PERI_OP_NORM:
    case PERI_OP_ADD_NORM:
        return check_norm(c, &a->norm);
    case PERI_OP_ROPE:
        return check_rope(c, &a->rope);
    case PERI_OP_ATTN:
        return check_attn(c, &a->attn);
    case PERI_OP_ACT:
    case PERI_OP_GLU:
    case PERI_OP_GATE_UP_GLU:
        return check_act(c, &a->act);
    case PERI_OP_ROUTE:
        return check_route(c, &a->route);
    case PERI_OP_TOPK:
        return check_topk(c);
    }
    return 1;
}

int cpu_check(const peri_program *p, uint32_t op, const peri_bucket *b, char why[88]) {
    check c = {.p = p, .b = b, .why = why};
    if (op >= p->n_ops) return no(&c, "op %u of a program of %u", op, p->n_ops);
    c.op = peri_op_at(p, op);
    c.info = info_of(c.op->code);
    if (!c.info.name) return no(&c, "operation 0x%04x is unknown here", c.op->code);
    if (c.op->n_in != c.info.n_in || c.op->n_out != c.info.n_out)
        return no(&c, "%u inputs and %u outputs, %u and %u expected", c.op->n_in, c.op->n_out,
                  c.info.n_in, c.info.n_out);
    if (c.info.attr_size <= c.op->attr_size) c.attr = cpu_attr_get(p, c.op);
    return check_attr_size(&c) && check_shapes(&c) && check_attr(&c);
}
