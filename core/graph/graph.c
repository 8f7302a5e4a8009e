/* SPDX-License-Identifier: MIT
 *
 * graph.c - building tensors and ops, placing activations, packing a program.
 *
 * Arena placement.  Decode is bound by reading weights, so the arena only has to be small enough to
 * stay in cache and big enough for the largest step.  Lifetimes are intervals of op indices of each
 * storage root; roots are placed in order of first use at the lowest offset free over their whole
 * interval.  Optimal placement is NP-hard; for layered programs this greedy order reuses the same
 * few slots every layer. */
#include "graph/graph.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/compiler.h"
#include "base/reader.h"
#include "base/status.h"
#include "model/dtype.h"

enum { ARENA_ALIGN = 64 };

const char *peri_op_name(uint16_t code) {
    switch (code) {
#define PERI_OP(NAME, number, level, n_in, n_out, attr)                                            \
    case number:                                                                                   \
        return #NAME;
#include "perigee/op.def"
#undef PERI_OP
    default:
        return "?";
    }
}

int peri_op_level(uint16_t code) {
    switch (code) {
#define PERI_OP(NAME, number, level, n_in, n_out, attr)                                            \
    case number:                                                                                   \
        return level;
#include "perigee/op.def"
#undef PERI_OP
    default:
        return -1;
    }
}

void peri_graph_init(peri_graph *g) {
    *g = (peri_graph){.layer = 0xffff};
}

void peri_graph_fini(peri_graph *g) {
    peri_free(g->tensor);
    peri_free(g->op);
    *g = (peri_graph){0};
}

/* Room for one more element; false marks the graph failed. */
static bool grow(peri_graph *g, void *array, uint32_t n, uint32_t *room, size_t element_bytes) {
    if (g->failed) return false;
    if (n < *room) return true;
    uint32_t bigger = *room ? *room * 2 : 256;
    void *p = peri_resize_array(*(void **)array, bigger, element_bytes);
    if (!p) {
        g->failed = true;
        return false;
    }
    memcpy(array, &p, sizeof p);
    *room = bigger;
    return true;
}

static uint32_t add_tensor(peri_graph *g, const peri_tensor *t, uint32_t root) {
    if (!grow(g, &g->tensor, g->n_tensor, &g->room_tensor, sizeof *g->tensor)) return 0;
    uint32_t id = g->n_tensor++;
    g->tensor[id] = (peri_graph_tensor){*t, root == PERI_NONE ? id : root};
    return id;
}

/* Leading 1s, then the given extents. */
static void set_dims(peri_tensor *t, const int64_t *dim, int n_dim) {
    for (int i = 0; i < 4; i++)
        t->dim[i] = i < 4 - n_dim ? 1 : dim[i - (4 - n_dim)];
}

/* Row-major strides of a contiguous tensor; symbols may only stand in the slowest place. */
static void set_strides(peri_tensor *t) {
    int64_t s = peri_dtype_get(t->dtype)->block_bytes;
    for (int i = 3; i >= 0; i--) {
        t->stride[i] = s;
        /* An extent too large for memory is refused when the storage is sized; here it saturates.
         */
        if (t->dim[i] > 0 && __builtin_mul_overflow(s, t->dim[i], &s)) s = INT64_MAX;
    }
}

uint32_t peri_graph_act(peri_graph *g, uint32_t dtype, const int64_t *dim, int n_dim) {
    peri_tensor t = {.dtype = (uint16_t)dtype, .kind = PERI_T_ACT};
    set_dims(&t, dim, n_dim);
    set_strides(&t);
    return add_tensor(g, &t, PERI_NONE);
}

uint32_t peri_graph_view(peri_graph *g, uint32_t parent, const int64_t *dim, int n_dim,
                         int64_t element) {
    if (g->failed) return 0;
    const peri_graph_tensor *p = &g->tensor[parent];
    peri_tensor t = p->t;
    int row = 0; /* the parent's slowest real extent */
    while (row < 3 && t.dim[row] == 1)
        row++;
    int64_t row_stride = p->t.stride[row];
    set_dims(&t, dim, n_dim);
    set_strides(&t);
    for (int i = 0; i <= 4 - n_dim; i++)
        t.stride[i] = row_stride;
    t.off += (uint64_t)element * peri_dtype_get(t.dtype)->block_bytes;
    return add_tensor(g, &t, p->root);
}

uint32_t peri_graph_weight(peri_graph *g, uint32_t ref, uint32_t dtype, const int64_t dim[4]) {
    peri_tensor t = {.dtype = (uint16_t)dtype, .kind = PERI_T_WEIGHT, .ref = ref};
    set_dims(&t, dim, 4);
    if (peri_dtype_get(dtype)->block_elements == 1) set_strides(&t);
    return add_tensor(g, &t, PERI_NONE);
}

uint32_t peri_graph_pool(peri_graph *g, uint32_t ref, uint32_t dtype, const int64_t dim[4],
                         uint64_t off) {
    peri_tensor t = {.dtype = (uint16_t)dtype, .kind = PERI_T_POOL, .ref = ref, .off = off};
    set_dims(&t, dim, 4);
    if (peri_dtype_get(dtype)->block_elements == 1) set_strides(&t);
    return add_tensor(g, &t, PERI_NONE);
}

void peri_graph_add(peri_graph *g, uint16_t code, const uint32_t *operand, int n_in, int n_out,
                    const void *attr, size_t attr_size) {
    if (!grow(g, &g->op, g->n_op, &g->room_op, sizeof *g->op)) return;
    peri_graph_op *o = &g->op[g->n_op++];
    *o = (peri_graph_op){.code = code,
                         .layer = g->layer,
                         .n_in = (uint8_t)n_in,
                         .n_out = (uint8_t)n_out,
                         .attr_size = (uint16_t)attr_size};
    memcpy(o->operand, operand, (size_t)(n_in + n_out) * sizeof *operand);
    if (attr_size) memcpy(o->attr, attr, attr_size);
}

void peri_graph_single(const peri_graph *g, uint32_t i, peri_graph *out) {
    peri_graph_init(out);
    out->layer = g->layer;
    out->tensor = peri_alloc_array(g->n_tensor, sizeof *out->tensor);
    out->op = peri_alloc_array(1, sizeof *out->op);
    out->failed = g->failed || !out->tensor || !out->op;
    if (out->failed) return;
    memcpy(out->tensor, g->tensor, g->n_tensor * sizeof *out->tensor);
    out->op[0] = g->op[i];
    out->n_tensor = out->room_tensor = g->n_tensor;
    out->n_op = out->room_op = 1;
}

/* ---- packing ------------------------------------------------------------------------------------
 */

typedef struct storage {
    uint64_t bytes, off;
    uint32_t first, last; /* op indices; first > last: never used */
} storage;

/* Bytes of a root at the bucket's upper bounds; false on overflow. */
static bool storage_bytes(const peri_tensor *t, const peri_bucket *b, uint64_t *bytes) {
    uint64_t n = peri_dtype_get(t->dtype)->block_bytes;
    for (int i = 0; i < 4; i++) {
        int64_t d = t->dim[i] < 0 ? b->hi[-t->dim[i]] : t->dim[i];
        if (d < 0 || !peri_mul_u64(n, (uint64_t)d, &n)) return false;
    }
    return peri_pad_u64(n, ARENA_ALIGN, bytes);
}

static void find_lifetimes(const peri_graph *g, storage *s) {
    for (uint32_t i = 0; i < g->n_tensor; i++)
        s[i] = (storage){.first = UINT32_MAX};
    for (uint32_t i = 0; i < g->n_op; i++) {
        const peri_graph_op *o = &g->op[i];
        for (int k = 0; k < o->n_in + o->n_out; k++) {
            if (o->operand[k] == PERI_NONE) continue;
            storage *r = &s[g->tensor[o->operand[k]].root];
            if (r->first == UINT32_MAX) r->first = i;
            r->last = i;
        }
    }
}

/* Lowest offset where `bytes` fit beside the live storages at[0 .. n), which are sorted by offset.
 */
static uint64_t lowest_gap(const storage *s, const uint32_t *live, uint32_t n, uint64_t bytes) {
    uint64_t off = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (s[live[i]].off >= off + bytes) break;
        uint64_t end = s[live[i]].off + s[live[i]].bytes;
        if (end > off) off = end;
    }
    return off;
}

static void insert_live(const storage *s, uint32_t *live, uint32_t *n, uint32_t id) {
    uint32_t i = (*n)++;
    for (; i > 0 && s[live[i - 1]].off > s[id].off; i--)
        live[i] = live[i - 1];
    live[i] = id;
}

/* Walk the ops in order, opening each storage at its first use and closing it after its last. */
static peri_status place(const peri_graph *g, const peri_bucket *b, storage *s, uint32_t *live,
                         uint64_t *arena, peri_error *err) {
    uint32_t n_live = 0;
    *arena = ARENA_ALIGN;
    for (uint32_t i = 0; i < g->n_op; i++) {
        const peri_graph_op *o = &g->op[i];
        for (int k = 0; k < o->n_in + o->n_out; k++) {
            if (o->operand[k] == PERI_NONE) continue;
            uint32_t id = g->tensor[o->operand[k]].root;
            if (g->tensor[id].t.kind != PERI_T_ACT || s[id].first != i || s[id].bytes) continue;
            if (!storage_bytes(&g->tensor[id].t, b, &s[id].bytes) || s[id].bytes > INT64_MAX / 2)
                return peri_fail(err, PERI_E_RANGE, "activation of op %u (%s) is too large", i,
                                 peri_op_name(o->code));
            s[id].off = lowest_gap(s, live, n_live, s[id].bytes);
            insert_live(s, live, &n_live, id);
            if (s[id].off + s[id].bytes > *arena) *arena = s[id].off + s[id].bytes;
        }
        uint32_t kept = 0;
        for (uint32_t j = 0; j < n_live; j++)
            if (s[live[j]].last > i) live[kept++] = live[j];
        n_live = kept;
    }
    return PERI_OK;
}

/* FNV-1a, 64 bits.  Source: Fowler, Noll, Vo. */
static uint64_t hash_bytes(const void *p, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
    return h;
}

static void write_ops(const peri_graph *g, peri_program *p) {
    uint32_t *operand = (uint32_t *)((char *)p + p->operands), n = 0, attr = 0;
    peri_op *op = (peri_op *)((char *)p + p->ops);
    for (uint32_t i = 0; i < g->n_op; i++) {
        const peri_graph_op *o = &g->op[i];
        op[i] = (peri_op){.code = o->code,
                          .layer = o->layer,
                          .n_in = o->n_in,
                          .n_out = o->n_out,
                          .attr_size = o->attr_size,
                          .operand = n,
                          .attr = attr};
        memcpy(operand + n, o->operand, (size_t)(o->n_in + o->n_out) * sizeof *operand);
        memcpy((char *)p + p->attrs + attr, o->attr, o->attr_size);
        n += (uint32_t)(o->n_in + o->n_out);
        attr += (o->attr_size + 7u) & ~7u;
    }
}

static peri_program *allocate(const peri_graph *g) {
    uint64_t operands = 0, attrs = 0;
    for (uint32_t i = 0; i < g->n_op; i++) {
        operands += (uint64_t)(g->op[i].n_in + g->op[i].n_out);
        attrs += (g->op[i].attr_size + 7u) & ~7u;
    }
    uint64_t tensors = (sizeof(peri_program) + 63) & ~63ull;
    uint64_t ops = tensors + (uint64_t)g->n_tensor * sizeof(peri_tensor);
    uint64_t list = ops + (uint64_t)g->n_op * sizeof(peri_op);
    uint64_t area = (list + operands * 4 + 7) & ~7ull, bytes = area + attrs;
    if (bytes > UINT32_MAX) return NULL;
    peri_program *p = peri_calloc(1, bytes);
    if (!p) return NULL;
    p->size = sizeof *p;
    p->bytes = (uint32_t)bytes;
    p->n_tensors = g->n_tensor;
    p->tensor_size = sizeof(peri_tensor);
    p->tensors = (uint32_t)tensors;
    p->n_ops = g->n_op;
    p->op_size = sizeof(peri_op);
    p->ops = (uint32_t)ops;
    p->operands = (uint32_t)list;
    p->attrs = (uint32_t)area;
    return p;
}

peri_status peri_graph_pack(const peri_graph *g, const peri_bucket *b, peri_program **out,
                            peri_error *err) {
    *out = NULL;
    peri_status st = PERI_E_NOMEM;
    storage *s = NULL;
    uint32_t *live = NULL;
    peri_program *p = NULL;
    if (g->failed) goto done;
    s = peri_alloc_array(g->n_tensor, sizeof *s);
    live = peri_alloc_array(g->n_tensor, sizeof *live);
    p = allocate(g);
    if (!s || !live || !p) goto done;
    find_lifetimes(g, s);
    st = place(g, b, s, live, &p->arena_bytes, err);
    if (st) goto done;
    peri_tensor *t = (peri_tensor *)((char *)p + p->tensors);
    for (uint32_t i = 0; i < g->n_tensor; i++) {
        t[i] = g->tensor[i].t;
        if (t[i].kind == PERI_T_ACT) t[i].off += s[g->tensor[i].root].off;
    }
    write_ops(g, p);
    size_t head = offsetof(peri_program, hash) + sizeof p->hash;
    p->hash = hash_bytes((const char *)p + head, p->bytes - head);
    *out = p;
    p = NULL;
done:
    if (st == PERI_E_NOMEM)
        peri_fail(err, st, "out of memory building a program of %u ops", g->n_op);
    peri_free(s);
    peri_free(live);
    peri_free(p);
    return st;
}
