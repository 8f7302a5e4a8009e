/* SPDX-License-Identifier: MIT
 *
 * plan.h - a program whose ops have each found a device that runs them for every shape of a bucket.
 *
 * All devices use one program and one layout of the arena; each has an arena of its own of that
 * layout, as far as its ops reach.  What an op reads and another device has written is copied
 * before it: a crossing. */
#ifndef PERI_RUN_PLAN_H
#define PERI_RUN_PLAN_H

#include <stdbool.h>

#include "graph/graph.h"
#include "plugin/registry.h"
#include "plugin/split.h"
#include "run/memory.h"

/* Before op `op` the storage of tensor `tensor` is copied, as far as the step fills it. */
typedef struct peri_crossing {
    uint32_t op, tensor;
    uint8_t from, to; /* devices */
} peri_crossing;

/* Ops that follow one another on one device with no crossing between them. */
typedef struct peri_stretch {
    uint32_t first, n;
    peri_dev *dev;
    peri_compiled *compiled; /* NULL: run one at a time */
    void (*free_compiled)(peri_dev *d, peri_compiled *c);
} peri_stretch;

/* Ops of one kind that a device declined for one reason: lowered, or run by another device. */
typedef struct peri_plan_note {
    uint16_t code, first_layer, last_layer; /* 0xffff: outside the layers */
    uint8_t device, to;                     /* who declined; who runs it, or the same: lowered */
    uint32_t count;
    char why[88];
} peri_plan_note;

typedef struct peri_plan {
    peri_bucket bucket;
    peri_program *program;
    uint32_t logits;         /* tensor of the result */
    uint32_t lists;          /* tensor of the likeliest tokens beside it, or PERI_NONE */
    uint8_t *device;         /* [n_ops] which of the devices runs it */
    char (*numerics)[28];    /* [n_ops] what the device declared */
    peri_crossing *crossing; /* [n_crossing] in the order of the ops */
    uint32_t n_crossing;
    peri_stretch *stretch; /* [n_stretch] all ops, in their order */
    uint32_t n_stretch;
    uint64_t staging_bytes; /* of the largest crossing between two devices' own memories */
    peri_plan_note *note;   /* [n_note] for `perigee explain` and --strict */
    uint32_t n_note, note_room;
} peri_plan;

/* The devices that ops may run on, and what is wanted of them. */
typedef struct peri_plan_places {
    peri_backend *const *backend; /* [n], most preferred first; at most PERI_SPLIT_DEVICES */
    uint32_t n;
    const peri_split *split; /* the device wanted for each part; NULL: the first for all */
    /* Where the keys and values of a layer may lie, a bit per device, and where they do (n: not
     * decided yet), because all plans share them.  [n_layer]; NULL when n is 1. */
    uint32_t *kv_ok;
    uint8_t *kv_at;
    uint32_t n_layer;
} peri_plan_places;

/* Ask for each op of the graph, at its highest level over the whole bucket, the device wanted for
 * it; lower what that declines and ask again.  But a fused op whose matrices that would not take in
 * pieces either goes whole to another device, where there is one that takes it.  A declined level-0
 * op goes to the first other device that takes it, and ops without weights around it follow where
 * that saves crossings.  What nobody takes makes the plan impossible: PERI_E_UNSUPPORTED naming op,
 * layer and each device's reason.  g is consumed (lowered in place).  Free with peri_plan_free.
 * *is_stale: keys and values of a layer had to go elsewhere than an earlier plan put them; kv_ok
 * says so now, and earlier plans must be made again. */
peri_status peri_plan_place(const peri_plan_places *at, peri_graph *g, uint32_t logits,
                            const peri_bucket *bucket, peri_plan **out, bool *is_stale,
                            peri_error *err);
/* The same for one device, which takes all or makes the plan impossible. */
peri_status peri_plan_new(peri_backend *d, peri_graph *g, uint32_t logits,
                          const peri_bucket *bucket, peri_plan **out, peri_error *err);
/* While the devices are open.  Accepts NULL. */
void peri_plan_free(peri_plan *p);

/* What a device brings to a run: its buffers, its arena among them. */
typedef struct peri_plan_seat {
    peri_backend *backend;
    peri_bind bind;
    peri_memory arena;
} peri_plan_seat;
/* Run every op, and the crossings between them.  seat[]: by the numbers of plan->device.  staging:
 * plan->staging_bytes.  The error names device, op and layer. */
peri_status peri_plan_run_on(const peri_plan *p, const peri_plan_seat *seat, void *staging,
                             const peri_step *step, peri_error *err);
/* The same for a plan of one device. */
peri_status peri_plan_run(const peri_plan *p, peri_backend *d, const peri_bind *bind,
                          const peri_step *step, peri_error *err);
/* Does the bucket hold a step of these sizes? */
bool peri_plan_fits(const peri_bucket *b, int32_t n_tok, int32_t n_seq, int32_t n_row);
/* The device that the logits are on. */
uint8_t peri_plan_last(const peri_plan *p);
/* Bytes of the arena that the ops of device d and copies to and from it reach; 0: it has none. */
uint64_t peri_plan_arena_bytes(const peri_plan *p, uint8_t d);
/* Bytes of a crossing, or of any activation's storage, in a step of these sizes. */
uint64_t peri_plan_act_bytes(const peri_plan *p, uint32_t tensor, const int32_t *n);

#endif
