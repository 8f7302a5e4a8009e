/* SPDX-License-Identifier: MIT
 *
 * kernels.h - the border between the plugin shell (plugin.c, which owns devices, checks and
 * reference code) and the fast kernels (dispatch.c and its levels).
 *
 * The shell validates an op completely in supports(): operands, dtypes, shapes, strides, attributes
 * and their ranges.  Then it asks the level in use; a level that says no, or has no supports at
 * all, leaves the op to the reference code, or has a fused op taken apart.  In run_op the shell
 * resolves every operand to an address and an actual shape, puts that in a cpu_job and calls the
 * level's run, or the reference.
 *
 * Rules for a level
 * - Its answer depends on the op: types, inner dimensions, attributes - never on T, R, S, B.  Then
 * results cannot depend on the batch either (PERI_DEV_BATCH_INVARIANT, op.def "Numerics").
 * - Each output element is computed in one order fixed by the inner dimensions: chunks are output
 * rows or tokens, never parts of a sum.
 * - What it said in `numerics` holds for all of the op's outputs.
 * - No memory but cpu_reserve's and cpu_keep's; no thread but cpu_parallel's. */
#ifndef PERI_CPU_KERNELS_H
#define PERI_CPU_KERNELS_H

#include "perigee/op_check.h"

enum { PERI_CPU_MAX_OPERANDS = 16 };

/* One op, operands resolved.  Index: inputs, then outputs, as in op.def; absent optional operands
 * have t and ptr NULL and dim 0.  dim: actual extents, slowest first, leading 1s.  Strides (bytes)
 * are t[k]->stride; an ACT's last dimension is contiguous, the others may have gaps; WEIGHT and
 * POOL rows follow one another without gaps. */
typedef struct cpu_job {
    const peri_program *p;
    const peri_op *op;
    const peri_bind *bind;
    const peri_step *step;
    peri_op_attr attr;
    uint32_t n_operand; /* op->n_in + op->n_out */
    void *ptr[PERI_CPU_MAX_OPERANDS];
    const peri_tensor *t[PERI_CPU_MAX_OPERANDS];
    int64_t dim[PERI_CPU_MAX_OPERANDS][4];
} cpu_job;

/* The open device. */
typedef struct peri_dev cpu_dev;

/* Make sure that each worker has `per_worker` bytes of scratch and the job has `shared` bytes. From
 * the thread of run_op only, before cpu_parallel; grows and never shrinks, so that the steady state
 * allocates nothing.  Old contents are lost. */
int32_t cpu_reserve(cpu_dev *d, size_t per_worker, size_t shared, peri_error *e);
void *cpu_scratch(const cpu_dev *d, uint32_t worker); /* 64-byte aligned; this worker's own */
void *cpu_shared(const cpu_dev *d);                   /* 64-byte aligned; seen by all workers */

/* Memory for what depends on three runs of bytes alone, kept from op to op: *is_there when they are
 * those of the last call, and so is what was put there; else it is for the caller to fill, all of
 * it, before the next call.  From the thread of run_op only.  NULL: no memory, e says so. */
typedef struct cpu_bytes {
    const void *p;
    size_t n;
} cpu_bytes;
enum { CPU_KEYS = 3 };
void *cpu_keep(cpu_dev *d, const cpu_bytes key[CPU_KEYS], size_t bytes, int *is_there,
               peri_error *e);

/* Threads of the device; at least 1. */
uint32_t cpu_workers(const cpu_dev *d);
/* fn(arg, i, worker) for i in 0 .. n-1, then wait.  n <= 1, or one worker: on the calling thread,
 * as worker 0. */
void cpu_parallel(cpu_dev *d, uint32_t n, void (*fn)(void *arg, uint32_t i, uint32_t worker),
                  void *arg);

enum { CPU_IN_PARTS = -1 };

/* One instruction-set level. */
typedef struct cpu_level {
    const char *name;          /* "scalar", "avx2", "neondot": as in cpu.isa, peri_dev_info.isa */
    int (*is_available)(void); /* can this processor run it? */
    /* Where it is not available: why, for the log, at *log_level (info; a warning where the
     * processor should have been able to).  NULL: there is nothing to tell. */
    const char *(*why_not)(int *log_level);
    /* 1: run() takes this op, numerics filled ("act=q8/32 acc=i32").  0: the reference does.
     * CPU_IN_PARTS: the shell declines this fused op, and the core asks for the ops it stands for.
     * May be NULL: 0 always. */
    int (*supports)(const peri_program *p, const peri_op *op, char numerics[28]);
    int32_t (*run)(cpu_dev *d, const cpu_job *j, peri_error *e);
    /* Where it is available: what it does without, and why, for the log as why_not's.  NULL: of
     * nothing. */
    const char *(*note)(int *log_level);
} cpu_level;

/* Every level compiled in, best first, available here or not; NULL past the last.  "reference" is
 * none of them: the shell knows it.  Implemented in dispatch.c. */
const cpu_level *cpu_level_at(uint32_t index);

/* The processors ("x86-64", "aarch64") that a level by this name is for; NULL: all, or none. */
const char *cpu_level_arch(const char *name);

#endif
