/* SPDX-License-Identifier: MIT
 *
 * op_check.h - for plugins: is an op what op.def says, for every shape of a bucket?
 *
 * What `supports` has to find out before it says yes, so that run_op may assume it: operands are
 * there, of the right kind and type, agree in their extents, lie on whole elements and blocks,
 * without gaps where op.def has none, and attributes are whole and within their ranges.  A plugin
 * adds the limits of its own kernels:
 *
 *     static int can_decode(const void *user, uint32_t dtype) { return dtype == 0; }
 *     static const peri_op_rules rules = {.can_decode = can_decode, .can_cache = can_decode};
 *
 *     peri_op_check c = {.why = out->why};
 *     out->yes = peri_op_check_run(&c, &rules, p, op, bucket) &&
 *                (c.op->code != PERI_OP_ATTN || peri_op_extent(&c, 'k') <= 128 ||
 *                 peri_op_no(&c, "heads of %lld: 128 at most", (long long)peri_op_extent(&c,
 * 'k')));
 *
 * Functions only, no state, nothing allocated; any thread.  Using it is not part of the ABI. */
#ifndef PERIGEE_OP_CHECK_H
#define PERIGEE_OP_CHECK_H

#include <string.h>

#include "perigee/plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- types and attributes ----------------------------------------------------------------------
 */

/* A block of a tensor type: its elements and bytes.  Unknown numbers have no name and blocks of 1.
 */
typedef struct peri_dtype_info {
    const char *name; /* as GGUF's tools print it */
    int64_t n, bytes;
} peri_dtype_info;

static inline peri_dtype_info peri_dtype_of(uint32_t dtype) {
    peri_dtype_info t = {NULL, 1, 1};
    switch (dtype) {
#define PERI_DTYPE(NAME, number, text, elements, size)                                             \
    case number:                                                                                   \
        t.name = text;                                                                             \
        t.n = elements;                                                                            \
        t.bytes = size;                                                                            \
        break;
#include "perigee/dtype.def"
#undef PERI_DTYPE
    }
    return t;
}

typedef union peri_op_attr {
    uint32_t size;
    peri_embed_attr embed;
    peri_linear_attr linear;
    peri_norm_attr norm;
    peri_act_attr act;
    peri_scale_attr scale;
    peri_rope_attr rope;
    peri_attn_attr attn;
    peri_route_attr route;
} peri_op_attr;

/* The op's attributes; what it does not have is 0. */
static inline peri_op_attr peri_op_attr_get(const peri_program *p, const peri_op *op) {
    peri_op_attr a;
    memset(&a, 0, sizeof a);
    if (op->attr_size >= sizeof a.size)
        memcpy(&a, peri_attr(p, op), op->attr_size < sizeof a ? op->attr_size : sizeof a);
    return a;
}

/* ---- the check ---------------------------------------------------------------------------------
 */

/* What a plugin's kernels take of tensor types.  Both functions: 1 or 0 for a number of dtype.def,
 * and for numbers that are not in it. */
typedef struct peri_op_rules {
    int (*can_decode)(const void *user, uint32_t dtype); /* weights */
    int (*can_cache)(const void *user, uint32_t dtype);  /* pools, stored and read */
    const void *user;
    uint32_t pool_align; /* of a pool's offset, bytes; 0: 4 */
} peri_op_rules;

typedef struct peri_op_check {
    char *why; /* [88], the reason of a no; set by the caller, all else by peri_op_check_run */
    const peri_op_rules *rules;
    const peri_program *p;
    const peri_op *op;
    const peri_bucket *b;
    peri_op_attr attr;
    int64_t dim[26], least[26], most[26]; /* by letter of the shape: as in peri_tensor, bounds */
} peri_op_check;

/* Greatest extent of the dimension that the op's shape below calls by this letter; 0 where no
 * operand that is there has it. */
static inline int64_t peri_op_extent(const peri_op_check *c, char letter) {
    return c->most[letter - 'a'];
}

/* Says no: the reason goes to c->why.  0. */
static inline int peri_op_no(peri_op_check *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static inline int peri_op_no(peri_op_check *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->why, sizeof((peri_support *)0)->why, fmt, ap);
    va_end(ap);
    return 0;
}

/* Shapes of an op's operands, inputs then outputs: for each a class and four dimensions, slowest
 * first, and `?` where it may be absent.  Classes: a  activation f32, i  activation i32, v  f32
 * weights without gaps, w  weight, p  pool.  A dimension is 1 or a letter, which stands for one
 * extent throughout the op.  variant 0, 1, ..: NULL when there are no more; the first that fits
 * counts. */
static inline const char *peri_op_shape(uint32_t code, int variant) {
    static const struct {
        uint32_t code;
        const char *operands;
    } shapes[] = {
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
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (shapes[i].code == code && variant-- == 0) return shapes[i].operands;
    return NULL;
}

/* Extent of a dimension at a bound of the bucket; 0 for a symbol that is not one. */
static inline int64_t peri_op_bound_(int64_t dim, const int32_t *n) {
    if (dim >= 0) return dim;
    return dim > -PERI_NSYM ? n[-dim] : 0;
}

/* Two dimensions are one when they are the same number or symbol, or a number and a symbol that
 * can be nothing else; two symbols may differ within their bounds. */
static inline int peri_op_check_dims_(peri_op_check *c, uint32_t k, const peri_tensor *t,
                                      const char *pattern) {
    double all = 1;
    for (int i = 0; i < 4; i++) {
        int64_t lo = peri_op_bound_(t->dim[i], c->b->lo), hi = peri_op_bound_(t->dim[i], c->b->hi);
        if (lo < 0 || hi < 1 || hi > INT32_MAX / 2)
            return peri_op_no(c, "operand %u: dimension %d is %lld", k, i, (long long)hi);
        all *= (double)hi;
        if (pattern[i] == '1') {
            if (hi == 1) continue;
            return peri_op_no(c, "operand %u: dimension %d is %lld, not 1", k, i, (long long)hi);
        }
        int at = pattern[i] - 'a';
        if (c->dim[at] == 0) {
            c->dim[at] = t->dim[i];
            c->least[at] = lo;
            c->most[at] = hi;
        } else if (c->dim[at] != t->dim[i] &&
                   ((c->dim[at] < 0 && t->dim[i] < 0) || c->least[at] != lo || c->most[at] != hi)) {
            return peri_op_no(c, "operand %u: dimension %d is %lld, other operands say %lld", k, i,
                              (long long)t->dim[i], (long long)c->dim[at]);
        }
    }
    return all <= 0x1p40 ? 1 : peri_op_no(c, "operand %u: more than 2^40 elements", k);
}

/* Rows without gaps; extents of 1 have no stride to speak of. */
static inline int peri_op_is_dense_(const peri_op_check *c, const peri_tensor *t, int64_t element) {
    for (int i = 3; i >= 0; i--) {
        int64_t n = peri_op_bound_(t->dim[i], c->b->hi);
        if (n > 1 && t->stride[i] != element) return 0;
        element *= n;
    }
    return 1;
}

static inline int peri_op_check_act_(peri_op_check *c, uint32_t k, const peri_tensor *t,
                                     uint32_t dtype) {
    if (t->dtype != dtype)
        return peri_op_no(c, "operand %u: type number %u, not %s", k, t->dtype,
                          peri_dtype_of(dtype).name);
    if (t->kind != PERI_T_ACT) return peri_op_no(c, "operand %u: not an activation", k);
    if (t->off % 4) return peri_op_no(c, "operand %u: offset %llu", k, (unsigned long long)t->off);
    for (int i = 0; i < 4; i++) {
        if (peri_op_bound_(t->dim[i], c->b->hi) == 1) continue;
        if (t->stride[i] < 4 || t->stride[i] % 4 || (i == 3 && t->stride[i] != 4))
            return peri_op_no(c, "operand %u: stride %lld in dimension %d", k,
                              (long long)t->stride[i], i);
    }
    return 1;
}

/* Weights and pools: fixed extents, rows of whole blocks, no gaps. */
static inline int peri_op_check_stored_(peri_op_check *c, uint32_t k, const peri_tensor *t,
                                        const char *what) {
    peri_dtype_info type = peri_dtype_of(t->dtype);
    for (int i = 0; i < 4; i++)
        if (t->dim[i] < 1) return peri_op_no(c, "operand %u: a %s of symbolic shape", k, what);
    if (t->dim[3] % type.n)
        return peri_op_no(c, "operand %u: rows of %lld, not whole blocks of type %s", k,
                          (long long)t->dim[3], type.name);
    if (type.n > 1 || peri_op_is_dense_(c, t, type.bytes)) return 1;
    return peri_op_no(c, "operand %u: a %s with gaps", k, what);
}

static inline int peri_op_check_weight_(peri_op_check *c, uint32_t k, const peri_tensor *t) {
    const char *name = peri_dtype_of(t->dtype).name;
    if (t->kind != PERI_T_WEIGHT) return peri_op_no(c, "operand %u: not a weight", k);
    if (!name) return peri_op_no(c, "weights of type number %u: unknown", t->dtype);
    if (!c->rules->can_decode(c->rules->user, t->dtype))
        return peri_op_no(c, "weights of type %s: no kernel decodes them", name);
    return peri_op_check_stored_(c, k, t, "weight");
}

static inline int peri_op_check_pool_(peri_op_check *c, uint32_t k, const peri_tensor *t) {
    const char *name = peri_dtype_of(t->dtype).name;
    uint32_t align = c->rules->pool_align ? c->rules->pool_align : 4;
    if (t->kind != PERI_T_POOL) return peri_op_no(c, "operand %u: not a pool", k);
    if (!name || !c->rules->can_cache(c->rules->user, t->dtype))
        return peri_op_no(c, "a cache of type %s: nothing stores or reads it", name ? name : "?");
    if (t->off % align)
        return peri_op_no(c, "operand %u: a pool at byte %llu, not a multiple of %u", k,
                          (unsigned long long)t->off, align);
    return peri_op_check_stored_(c, k, t, "pool");
}

static inline int peri_op_check_vector_(peri_op_check *c, uint32_t k, const peri_tensor *t) {
    if (t->dtype != 0) return peri_op_no(c, "operand %u: type number %u, not F32", k, t->dtype);
    if (t->kind != PERI_T_WEIGHT) return peri_op_no(c, "operand %u: not a weight", k);
    if (!(t->off % 4) && peri_op_is_dense_(c, t, 4)) return 1;
    return peri_op_no(c, "operand %u: a vector with gaps", k);
}

static inline int peri_op_check_operand_(peri_op_check *c, uint32_t k, const peri_tensor *t,
                                         const char *pattern) {
    enum { F32 = 0, I32 = 26 }; /* dtype.def */
    if (!peri_op_check_dims_(c, k, t, pattern + 1)) return 0;
    switch (pattern[0]) {
    case 'w':
        return peri_op_check_weight_(c, k, t);
    case 'v':
        return peri_op_check_vector_(c, k, t);
    case 'p':
        return peri_op_check_pool_(c, k, t);
    }
    return peri_op_check_act_(c, k, t, pattern[0] == 'i' ? I32 : F32);
}

static inline int peri_op_check_shape_(peri_op_check *c, const char *pattern) {
    memset(c->dim, 0, sizeof c->dim);
    memset(c->most, 0, sizeof c->most);
    for (uint32_t k = 0; k < (uint32_t)c->op->n_in + c->op->n_out; k++) {
        uint32_t index = peri_arg(c->p, c->op, k);
        int may_lack = pattern[5] == '?';
        if (index == PERI_NONE && !may_lack) return peri_op_no(c, "operand %u is missing", k);
        if (index != PERI_NONE && index >= c->p->n_tensors)
            return peri_op_no(c, "operand %u: tensor %u of %u", k, index, c->p->n_tensors);
        if (index != PERI_NONE &&
            !peri_op_check_operand_(c, k, peri_tensor_at(c->p, index), pattern))
            return 0;
        pattern += 6 + may_lack;
    }
    return 1;
}

/* ---- attributes ---- */

/* The struct is there and whole, and says nothing in fields that are newer than this header. */
static inline int peri_op_read_attr_(peri_op_check *c, uint32_t known) {
    uint32_t room = c->op->attr_size;
    if (known == 0) return room ? peri_op_no(c, "%u bytes of attributes, 0 expected", room) : 1;
    uint64_t end = (uint64_t)c->p->attrs + c->op->attr + room;
    if (end > c->p->bytes || c->op->attr % 4)
        return peri_op_no(c, "attributes outside the program");
    if (room >= known) c->attr = peri_op_attr_get(c->p, c->op);
    uint32_t said = c->attr.size;
    if (said < known || said > room)
        return peri_op_no(c, "%u bytes of attributes in %u, %u expected", said, room, known);
    const unsigned char *bytes = (const unsigned char *)peri_attr(c->p, c->op);
    for (uint32_t i = known; i < said; i++)
        if (bytes[i]) return peri_op_no(c, "attribute byte %u is newer than this plugin", i);
    return 1;
}

static inline int peri_op_check_rope_(peri_op_check *c, const peri_rope_attr *a) {
    int64_t width = peri_op_extent(c, 'd'), n_factor = peri_op_extent(c, 'r');
    if (a->pairs > PERI_ROPE_NEOX) return peri_op_no(c, "pairs %u", a->pairs);
    if (a->n_rot == 0 || a->n_rot % 2)
        return peri_op_no(c, "n_rot %u, not a positive even number", a->n_rot);
    if ((int64_t)a->first + a->n_rot > width)
        return peri_op_no(c, "elements %u to %lld of heads of %lld", a->first,
                          (long long)a->first + a->n_rot, (long long)width);
    if (n_factor && n_factor * 2 != a->n_rot)
        return peri_op_no(c, "%lld factors for n_rot %u", (long long)n_factor, a->n_rot);
    return a->base > 0 ? 1 : peri_op_no(c, "base %g", (double)a->base);
}

static inline int peri_op_check_attn_(peri_op_check *c, const peri_attn_attr *a) {
    int64_t n_head = peri_op_extent(c, 'h'), n_kv_head = peri_op_extent(c, 'g');
    if (a->flags >> 16 & ~(PERI_ATTN_NOT_CAUSAL >> 16))
        return peri_op_no(c, "flags 0x%x", a->flags);
    if (n_head % n_kv_head)
        return peri_op_no(c, "%lld heads over %lld key/value heads", (long long)n_head,
                          (long long)n_kv_head);
    if (a->window < 0 || a->chunk < 0)
        return peri_op_no(c, "window %d, chunk %d", a->window, a->chunk);
    if (a->cap >= 0 && a->alibi_max >= 0) return 1;
    return peri_op_no(c, "cap %g, alibi_max %g", (double)a->cap, (double)a->alibi_max);
}

static inline int peri_op_check_route_(peri_op_check *c, const peri_route_attr *a) {
    int64_t n = peri_op_extent(c, 'e'), used = peri_op_extent(c, 'k'), open = n;
    if (a->kind > PERI_ROUTE_SOFTMAX_CHOSEN) return peri_op_no(c, "route kind %u", a->kind);
    if (a->n_group > 1) {
        if (n % a->n_group)
            return peri_op_no(c, "%lld experts in %u groups", (long long)n, a->n_group);
        if (a->n_group_used < 1 || a->n_group_used > a->n_group)
            return peri_op_no(c, "%u of %u groups used", a->n_group_used, a->n_group);
        open = n / a->n_group * a->n_group_used;
    }
    if (used <= open) return 1;
    return peri_op_no(c, "%lld of %lld experts used", (long long)used, (long long)open);
}

static inline int peri_op_check_topk_(peri_op_check *c) {
    int64_t k = peri_op_extent(c, 'k'), n = peri_op_extent(c, 'v');
    if (k >= 1 && k <= PERI_TOPK_MAX && k <= n) return 1;
    return peri_op_no(c, "%lld of %lld elements, %d at most", (long long)k, (long long)n,
                      PERI_TOPK_MAX);
}

static inline int peri_op_check_attr_(peri_op_check *c) {
    const peri_op_attr *a = &c->attr;
    switch (c->op->code) {
    case PERI_OP_EMBED:
        return a->embed.source <= 1 ? 1 : peri_op_no(c, "source %u", a->embed.source);
    case PERI_OP_LINEAR:
        if (!(a->linear.flags >> 16 & ~(PERI_LINEAR_SCALE_LAST >> 16))) return 1;
        return peri_op_no(c, "flags 0x%x", a->linear.flags);
    case PERI_OP_NORM:
    case PERI_OP_ADD_NORM:
        if (a->norm.kind > PERI_NORM_L2) return peri_op_no(c, "norm kind %u", a->norm.kind);
        return a->norm.eps >= 0 ? 1 : peri_op_no(c, "eps %g", (double)a->norm.eps);
    case PERI_OP_ROPE:
        return peri_op_check_rope_(c, &a->rope);
    case PERI_OP_ATTN:
        return peri_op_check_attn_(c, &a->attn);
    case PERI_OP_ACT:
    case PERI_OP_GLU:
    case PERI_OP_GATE_UP_GLU:
        if (a->act.act > PERI_ACT_SOFTCAP) return peri_op_no(c, "activation %u", a->act.act);
        if (a->act.act != PERI_ACT_SOFTCAP || a->act.param > 0) return 1;
        return peri_op_no(c, "cap %g", (double)a->act.param);
    case PERI_OP_ROUTE:
        return peri_op_check_route_(c, &a->route);
    case PERI_OP_TOPK:
        return peri_op_check_topk_(c);
    }
    return 1;
}

/* Bytes of an op's attributes as this header knows them, and its operands; 0 for a code that is
 * not in op.def. */
static inline int peri_op_form_(uint32_t code, uint32_t *n_in, uint32_t *n_out, uint32_t *attr) {
    typedef struct none {
        char unused;
    } none; /* op.def's word for "no attributes" */
    switch (code) {
#define PERI_OP(NAME, code, level, inputs, outputs, type)                                          \
    case code:                                                                                     \
        *n_in = inputs;                                                                            \
        *n_out = outputs;                                                                          \
        *attr = sizeof(type) == 1 ? 0 : (uint32_t)sizeof(type);                                    \
        return 1;
#include "perigee/op.def"
#undef PERI_OP
    }
    return 0;
}

/* 1, and *c holds the op, its attributes and extents; or 0 with the reason in c->why.  *rules is
 * not kept beyond the life of *c. */
static inline int peri_op_check_run(peri_op_check *c, const peri_op_rules *rules,
                                    const peri_program *p, uint32_t op, const peri_bucket *b) {
    uint32_t n_in, n_out, attr_size;
    const char *shape;
    c->rules = rules;
    c->p = p;
    c->b = b;
    memset(&c->attr, 0, sizeof c->attr);
    if (op >= p->n_ops) return peri_op_no(c, "op %u of a program of %u", op, p->n_ops);
    c->op = peri_op_at(p, op);
    if (!peri_op_form_(c->op->code, &n_in, &n_out, &attr_size))
        return peri_op_no(c, "operation 0x%04x is unknown here", c->op->code);
    if (c->op->n_in != n_in || c->op->n_out != n_out)
        return peri_op_no(c, "%u inputs and %u outputs, %u and %u expected", c->op->n_in,
                          c->op->n_out, n_in, n_out);
    if (!peri_op_read_attr_(c, attr_size)) return 0;
    for (int i = 0; (shape = peri_op_shape(c->op->code, i)) != NULL; i++)
        if (peri_op_check_shape_(c, shape)) return peri_op_check_attr_(c);
    return 0;
}

#ifdef __cplusplus
}
#endif
#endif
