/* SPDX-License-Identifier: MIT
 *
 * weights.h - which tensors of the file an architecture reads, each checked for its shape.
 *
 * Strict both ways: a tensor the graph needs and the file lacks, a wrong shape, and a tensor of the
 * file that nothing reads are errors that name the tensor, its offset and both shapes.  Matrices
 * stay where they are mapped; vectors (norms, biases, scales, factors) are widened to f32 when the
 * file holds another float type. */
#ifndef PERI_MODEL_WEIGHTS_H
#define PERI_MODEL_WEIGHTS_H

#include <stdbool.h>

#include "arch.h"
#include "gguf.h"

typedef struct peri_weight_view {
    const char *name; /* NUL-terminated, owned by the weights */
    const void *data; /* in the mapping, or an f32 copy */
    uint32_t dtype;
    int64_t dim[4]; /* slowest first, leading 1s */
    uint64_t bytes;
} peri_weight_view;

typedef struct peri_weights peri_weights;

/* g and a must outlive it. */
peri_status peri_weights_new(const peri_gguf *g, const peri_arch *a, peri_weights **out,
                             peri_error *err);
void peri_weights_free(peri_weights *w); /* accepts NULL */

enum {
    PERI_BIND_OPTIONAL = 1, /* absent: *index = PERI_WEIGHT_NONE */
    PERI_BIND_VECTOR = 2    /* widen to f32; a plain float type is required */
};
#define PERI_WEIGHT_NONE 0xffffffffu

/* Bind the tensor `name` with dimensions dim[n_dim], slowest first; extra leading 1s in the file
 * are ignored.  Binding a name again returns the same index (its shape is checked again). NOT_FOUND
 * or CORRUPT as described above. */
peri_status peri_weights_bind(peri_weights *w, const char *name, const int64_t *dim, int n_dim,
                              uint32_t flags, uint32_t *index, peri_error *err);
/* Does the file hold the tensor? */
bool peri_weights_has(const peri_weights *w, const char *name);
/* Are the .scale tensors of this stem applied (spec key `scales`)? */
bool peri_weights_uses_scale(const peri_weights *w, const char *stem);
/* Every tensor of the file must be bound, matched by `unused`, an unread scale, or an .input_scale.
 */
peri_status peri_weights_finish(const peri_weights *w, peri_error *err);
/* "bound", "unused" or "unread scale" for `show --tensors`; "unknown" when finish would refuse it.
 */
const char *peri_weights_state(const peri_weights *w, const peri_gguf_tensor *t);

uint32_t peri_weights_n(const peri_weights *w);
const peri_weight_view *peri_weights_at(const peri_weights *w, uint32_t i);
/* Bytes of all bound weights; and those read for one token (experts: the share that is used). */
uint64_t peri_weights_bytes(const peri_weights *w);
uint64_t peri_weights_token_bytes(const peri_weights *w);
/* Of weight i, those an op that multiplies with it reads for one token. */
uint64_t peri_weights_used_bytes(const peri_weights *w, uint32_t i);
/* Multiplications with weights for a token of a prompt, whose logits nobody wants. */
uint64_t peri_weights_token_macs(const peri_weights *w);

#endif
