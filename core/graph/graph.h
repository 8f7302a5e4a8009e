/* SPDX-License-Identifier: MIT
 *
 * graph.h - a program under construction: tensors and ops in growing arrays, then packed into one
 * pointer-free block.
 *
 * Builders call the peri_graph_* functions without checking each: after a failure the graph stays
 * failed, ids are 0, and peri_graph_pack reports it.  Not thread-safe. */
#ifndef PERI_GRAPH_GRAPH_H
#define PERI_GRAPH_GRAPH_H

#include <stdbool.h>

#include "perigee/plugin.h"

typedef struct peri_graph_tensor {
    peri_tensor t; /* off is relative to the root's storage for ACT */
    uint32_t root; /* tensor that owns the storage; itself unless a view */
} peri_graph_tensor;

enum { PERI_GRAPH_MAX_OPERAND = 16, PERI_GRAPH_MAX_ATTR = 64 };
typedef struct peri_graph_op {
    uint16_t code, layer;
    uint8_t n_in, n_out;
    uint16_t attr_size;
    uint32_t operand[PERI_GRAPH_MAX_OPERAND]; /* tensor ids or PERI_NONE */
    unsigned char attr[PERI_GRAPH_MAX_ATTR];
} peri_graph_op;

typedef struct peri_graph {
    peri_graph_tensor *tensor;
    uint32_t n_tensor, room_tensor;
    peri_graph_op *op;
    uint32_t n_op, room_op;
    uint16_t layer; /* given to ops added next; 0xffff outside layers */
    bool failed;
} peri_graph;

void peri_graph_init(peri_graph *g);
void peri_graph_fini(peri_graph *g);
/* An activation of d[n_dim], slowest first; a negative extent is a PERI_SYM_*, allowed in the first
 * place only. */
uint32_t peri_graph_act(peri_graph *g, uint32_t dtype, const int64_t *dim, int n_dim);
/* A part of an ACT tensor seen with other dimensions: the last dim[n_dim - 1] extents lie
 * contiguously per row of the parent, beginning `element` elements into each row; the first extent
 * is the parent's own (its row symbol). */
uint32_t peri_graph_view(peri_graph *g, uint32_t parent, const int64_t *dim, int n_dim,
                         int64_t element);
/* Weight number `ref` with its type and dimensions [4], slowest first. */
uint32_t peri_graph_weight(peri_graph *g, uint32_t ref, uint32_t dtype, const int64_t dim[4]);
/* Part of pool `ref` at byte `off`. */
uint32_t peri_graph_pool(peri_graph *g, uint32_t ref, uint32_t dtype, const int64_t dim[4],
                         uint64_t off);
/* operand[n_in + n_out]: inputs, then outputs.  attr may be NULL. */
void peri_graph_add(peri_graph *g, uint16_t code, const uint32_t *operand, int n_in, int n_out,
                    const void *attr, size_t attr_size);

/* Place activations in an arena by lifetime (greedy, 64-byte aligned, sizes at the bucket's upper
 * bounds) and pack. *out: one block the caller frees with peri_free. */
peri_status peri_graph_pack(const peri_graph *g, const peri_bucket *b, peri_program **out,
                            peri_error *err);

/* A graph of op i of g alone, with all tensors of g.  *out is to be finished in any case. */
void peri_graph_single(const peri_graph *g, uint32_t i, peri_graph *out);

/* lower.c: replace op i by ops of lower levels in place; false when it is level 0 already. */
bool peri_graph_lower(peri_graph *g, uint32_t i);
/* Facts of op.def. */
const char *peri_op_name(uint16_t code); /* "LINEAR"; "?" when unknown */
int peri_op_level(uint16_t code);        /* -1 when unknown */

#endif
