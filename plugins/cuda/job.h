/* SPDX-License-Identifier: MIT
 *
 * job.h - an op about to be launched: what launch.c and product.c share. */
#ifndef PERI_CUDA_JOB_H
#define PERI_CUDA_JOB_H

#include "cu.h"

typedef struct cu_job {
    peri_dev *d;
    const peri_program *p;
    const peri_op *op;
    uint32_t index, end; /* the op's, and that behind the ops that run together with it */
    const peri_bind *bind;
    const peri_step *step;
    CUdeviceptr step_on;               /* where it lies on the device */
    const peri_tensor *t[CU_OPERANDS]; /* NULL where absent */
    int32_t dim[CU_OPERANDS][4];
    peri_op_attr attr;
} cu_job;

/* Number of an operand that no op has. */
enum { CU_NO_OPERAND = CU_OPERANDS - 1 };

/* Up to so much scratch is taken for an op. */
enum { CU_SCRATCH_BYTES = 128 << 20 };

/* From so many tokens on, a product of activations as they are takes CU_TOKENS of them with each
 * row of weights. */
enum { CU_MANY_FROM = 3 };

static inline int32_t cu_chunks(int32_t n, int32_t per) {
    return (n + per - 1) / per;
}

/* ---- launch.c ---- */

/* Operands, attributes and dimensions of an op for a step's n. */
void cu_resolve(cu_job *j, const int32_t *n);

/* Address of operand k; 0 when it is absent. */
uint64_t cu_at(const cu_job *j, uint32_t k);
cu_rows cu_rows_of(const cu_job *j, uint32_t k);
int32_t cu_n_row(const cu_job *j, uint32_t k);
/* Bytes from the first element of operand k to behind its last. */
uint64_t cu_extent(const cu_job *j, uint32_t k);
/* arguments: the kernel's struct of args.h. */
int32_t cu_launch(const cu_job *j, uint32_t kernel, uint32_t dtype, void *arguments,
                  int64_t n_block, peri_error *e);

/* Arguments of ops by themselves; q of norms: 0. */
cu_linear cu_linear_of(const cu_job *j);
cu_route cu_route_of(const cu_job *j);
cu_norm cu_norm_of(const cu_job *j);
cu_add_norm cu_add_norm_of(const cu_job *j);
cu_expert_sum cu_expert_sum_of(const cu_job *j);
cu_rope cu_rope_of(const cu_job *j);
cu_append cu_append_of(const cu_job *j);

/* ---- together.c ---- */

/* Of j[0] and the ops behind it, how many can be one launch; j[1] .. become these.  1: itself. */
enum { CU_TOGETHER = 5 };
/* Is this a LINEAR that can be one launch with the ROUTE behind it? */
bool cu_can_route(const cu_job *j);
uint32_t cu_match(cu_job j[CU_TOGETHER]);
int32_t cu_queue_together(const cu_job *j, uint32_t n, peri_error *e);

/* ---- product.c ---- */

/* LINEAR_EXPERTS of gate and of up, and GLU: can they be one product, and run it so. */
bool cu_can_pair(const cu_job *gate, const cu_job *up, const cu_job *glu);
int32_t cu_run_pair(const cu_job *gate, const cu_job *up, const cu_job *glu, peri_error *e);

/* Weights of the op that the kernels of product.cu take, and whether that is all of them, which is
 * when they do. */
uint32_t cu_n_code(const cu_job *j, bool *is_all);
bool cu_has_codes(const cu_job *j);
int32_t cu_prepare_codes(cu_job *j, const peri_bucket *b, peri_error *e);
int32_t cu_run_codes(const cu_job *j, peri_error *e);
/* Of rows of n as bytes, with scales, sums and sums of halves: a multiple of 16. */
uint64_t cu_code_bytes(int32_t n_row, int32_t n);
/* Where the op can leave its output y, rows of dimension 2 (ATTN: tokens), as bytes for a product
 * that comes soon; 0: there is none, or no room.  They count as kept. */
uint64_t cu_room_for_codes(const cu_job *j, uint32_t y);

#endif
