/* SPDX-License-Identifier: MIT
 *
 * split.h - which device each part of a model should run on: a pure function of figures.
 *
 * A model is a chain of parts: the embedding, for each layer its attention with norms, shared
 * weights, router and keys and values, then its routed experts, and the head.  Part numbers: 0 the
 * embedding, 1 + 2 il layer il, 2 + 2 il its experts, 2 n_layer + 1 the head. */
#ifndef PERI_PLUGIN_SPLIT_H
#define PERI_PLUGIN_SPLIT_H

#include <stdbool.h>

#include "base/text.h"
#include "perigee/types.h"

enum { PERI_SPLIT_DEVICES = 16 };

/* What one copy of an activation between two devices costs where nothing better is known:
 * microseconds to hand it over and wait, and 10^9 bytes/s.  Source: assumed, a pinned copy of a few
 * kilobytes over PCI Express. */
#define PERI_SPLIT_COPY_US   10.0
#define PERI_SPLIT_LINK_GBPS 8.0

typedef struct peri_split_device {
    const char *name;
    uint64_t room;  /* bytes for weights, keys and values; UINT64_MAX = no limit known */
    double gbps;    /* of weights; 0 = unknown */
    double kv_gbps; /* of keys and values; 0 = as for weights */
    /* What an op costs beside reading: any, one with a matrix, attention. */
    double op_us, linear_us, attn_us;
    double copy_us, link_gbps; /* of a copy to or from it */
} peri_split_device;

typedef struct peri_split_part {
    uint64_t bytes;    /* of weights */
    uint64_t kv_bytes; /* of its pool of keys and values */
    /* Read for one token: weights (of experts the chosen share), and keys and values of a context
     * that is half full. */
    uint64_t token_bytes, kv_token_bytes;
    uint32_t n_op, n_linear, n_attn; /* ops with a matrix, attention, and others */
    uint32_t n_copy;     /* activations to be copied when the part before is on another device */
    uint64_t copy_bytes; /* of these together, for one token */
} peri_split_part;

typedef struct peri_split {
    uint32_t n_part, n_device;
    uint8_t *device;                   /* [n_part] */
    bool *is_empty;                    /* [n_part] the part holds and reads nothing */
    uint64_t held[PERI_SPLIT_DEVICES]; /* bytes of weights, keys and values */
    uint32_t n_copy;                   /* per token */
    uint64_t copy_bytes;
    double token_s; /* predicted for a short context; 0 = a bandwidth is unknown */
} peri_split;

enum { PERI_SPLIT_FREE = 0xff };

typedef struct peri_split_task {
    const peri_split_device
        *device; /* the more preferred first, as named by the user or by speed */
    const peri_split_part *part;
    uint32_t n_device, n_part;
    bool is_tied;         /* the embedding and the head are one weight and stay together */
    const uint8_t *fixed; /* [n_part] the device a part must be on, or PERI_SPLIT_FREE; NULL: all
                             are free */
} peri_split_task;

/* Decide.  Parts fill each device in turn, around what is fixed, those most read per byte of memory
 * first; then, where all speeds are known, parts move to later devices where that makes a token
 * cheaper, copies included.  PERI_E_NOMEM says what is needed and what there is, PERI_E_INVALID
 * that two parts of one weight are fixed apart.  Free with peri_split_fini. */
peri_status peri_split_solve(const peri_split_task *t, peri_split *out, peri_error *err);
void peri_split_fini(peri_split *s);
/* Fill held, n_copy, copy_bytes and token_s from the devices of the parts. */
void peri_split_measure(const peri_split_device *device, const peri_split_part *part,
                        peri_split *s);
/* "layers 0-3 on gpu0", a line for each run of layers, for experts, the embedding and the head.
 * name[n_device]. */
void peri_split_describe(const peri_split *s, const char *const *name, peri_text *out);

#endif
