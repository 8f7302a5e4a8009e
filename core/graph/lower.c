/* SPDX-License-Identifier: MIT
 *
 * lower.c - what each fused op means in terms of lower ones (op.def).  Adding a fused op means
 * adding its lowering here; a plugin that says no to it receives these pieces instead. */
#include <string.h>

#include "graph/graph.h"

#include "base/compiler.h"

/* Replace op i by the n ops in piece[]. */
static void splice(peri_graph *g, uint32_t i, const peri_graph_op *piece, uint32_t n) {
    static const uint32_t none = PERI_NONE;
    for (uint32_t k = 1; k < n; k++)
        peri_graph_add(g, 0, &none, 1, 0, NULL, 0); /* room */
    if (g->failed) return;
    uint32_t old = g->n_op - (n - 1);
    memmove(&g->op[i + n], &g->op[i + 1], (old - i - 1) * sizeof *g->op);
    memcpy(&g->op[i], piece, n * sizeof *piece);
}

static peri_graph_op piece_of(const peri_graph_op *from, uint16_t code, int n_in, int n_out,
                              const uint32_t *operand) {
    peri_graph_op o = {
        .code = code, .layer = from->layer, .n_in = (uint8_t)n_in, .n_out = (uint8_t)n_out};
    memcpy(o.operand, operand, (size_t)(n_in + n_out) * sizeof *operand);
    return o;
}

static void set_attr(peri_graph_op *o, const void *attr, size_t n) {
    memcpy(o->attr, attr, n);
    o->attr_size = (uint16_t)n;
}

static void lower_add_norm(peri_graph *g, uint32_t i) {
    peri_graph_op o = g->op[i];
    const uint32_t *x = o.operand; /* a b w bias | sum y */
    peri_graph_op p[2] = {
        piece_of(&o, PERI_OP_ADD, 2, 1, (const uint32_t[]){x[0], x[1], x[4]}),
        piece_of(&o, PERI_OP_NORM, 3, 1, (const uint32_t[]){x[4], x[2], x[3], x[5]})};
    set_attr(&p[1], o.attr, o.attr_size);
    splice(g, i, p, 2);
}

static void lower_qkv(peri_graph *g, uint32_t i) {
    peri_graph_op o = g->op[i], p[3];
    const uint32_t *x = o.operand; /* x W3 b3 s3 | y3 */
    peri_linear_attr attr = {.size = sizeof attr};
    for (int k = 0; k < 3; k++) {
        p[k] = piece_of(&o, PERI_OP_LINEAR, 4, 1,
                        (const uint32_t[]){x[0], x[1 + k], x[4 + k], x[7 + k], x[10 + k]});
        set_attr(&p[k], &attr, sizeof attr);
    }
    splice(g, i, p, 3);
}

static void lower_gate_up(peri_graph *g, uint32_t i) {
    peri_graph_op o = g->op[i];
    const uint32_t *x = o.operand; /* x Wgate Wup | y */
    if (g->failed) return;
    const peri_tensor *y = &g->tensor[x[3]].t;
    uint32_t up = peri_graph_act(g, y->dtype, y->dim, 4);
    peri_linear_attr attr = {.size = sizeof attr};
    peri_graph_op p[3] = {piece_of(&o, PERI_OP_LINEAR, 4, 1,
                                   (const uint32_t[]){x[0], x[1], PERI_NONE, PERI_NONE, x[3]}),
                          piece_of(&o, PERI_OP_LINEAR, 4, 1,
                                   (const uint32_t[]){x[0], x[2], PERI_NONE, PERI_NONE, up}),
                          piece_of(&o, PERI_OP_GLU, 2, 1, (const uint32_t[]){x[3], up, x[3]})};
    set_attr(&p[0], &attr, sizeof attr);
    set_attr(&p[1], &attr, sizeof attr);
    set_attr(&p[2], o.attr, o.attr_size);
    splice(g, i, p, 3);
}

/* Whoever wants the likeliest takes them from the row. */
static void lower_topk(peri_graph *g, uint32_t i) {
    g->n_op--;
    memmove(&g->op[i], &g->op[i + 1], (g->n_op - i) * sizeof *g->op);
}

bool peri_graph_lower(peri_graph *g, uint32_t i) {
    switch (g->op[i].code) {
    case PERI_OP_ADD_NORM:
        lower_add_norm(g, i);
        return true;
    case PERI_OP_LINEAR_QKV:
        lower_qkv(g, i);
        return true;
    case PERI_OP_GATE_UP_GLU:
        lower_gate_up(g, i);
        return true;
    case PERI_OP_TOPK:
        lower_topk(g, i);
        return true;
    default:
        return false;
    }
}
