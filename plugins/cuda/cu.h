/* SPDX-License-Identifier: MIT
 *
 * cu.h - the CUDA backend: what its host files share.
 *
 * Read in this order: driver.c (finding the driver), device.c (what it offers), memory.c (buffers),
 * kernels.c (modules and functions), check.c (is an op what op.def says), launch.c (from an op to
 * its kernel), together.c
 * (ops that are one launch), product.c (which of the kernels for products with integers), step.c
 * (the step on the device, and is it what it may be), graph.c (ops that run together), plugin.c
 * (the table).  The kernels are the files *.cu, over device.cuh; what they are given is in args.h.
 */
#ifndef PERI_CUDA_CU_H
#define PERI_CUDA_CU_H

#include <stdbool.h>

#include "args.h"
#include "cuda_min.h"
#include "perigee/op_check.h"

enum { CU_OPERANDS = 16, CU_DEVICES = 32, CU_TYPES = 64 };
/* Bytes of a short read: lists of the likeliest tokens of 256 sequences. */
enum { CU_LANDING = 256 << 10 };

/* Type numbers, from dtype.def. */
enum {
#define PERI_DTYPE(NAME, number, name, elements, bytes) CU_##NAME = (number),
#include "perigee/dtype.def"
#undef PERI_DTYPE
};

/* ---- driver.c ---------------------------------------------------------------------------------
 */

/* The driver's functions after cuInit, or NULL with *e filled (NO_DRIVER, NO_DEVICE).  It is loaded
 * once and stays. */
const cu_api *cu_load(peri_error *e);
/* "what: CUDA_NAME (n)" with the status that fits: NOMEM, DEVICE_LOST, NO_DEVICE, OTHER. */
int32_t cu_fail(const cu_api *cu, peri_error *e, const char *what, CUresult code);

/* ---- device.c ---------------------------------------------------------------------------------
 */

/* The devices that the kernels run on, in the driver's order; NO_DEVICE with the reason when there
 * are none. */
int32_t cu_find(const cu_api *cu, CUdevice out[CU_DEVICES], uint32_t *n, peri_error *e);
int32_t cu_describe(const cu_api *cu, CUdevice d, uint32_t index, peri_dev_info *out,
                    peri_error *e);

/* ---- kernels.c --------------------------------------------------------------------------------
 */

enum {
#define CU_KERNEL(name, file, types) CU_K_##name,
#include "kernels.def"
    CU_N_KERNEL
};
enum {
#define CU_IMAGE(file) CU_I_##file,
#include "kernels.def"
    CU_N_IMAGE
};

/* images.c: the modules as nvcc made them; all empty in a build without nvcc. */
typedef struct cu_image {
    const unsigned char *data;
    size_t bytes;
} cu_image;
cu_image cu_image_at(uint32_t i);

typedef struct cu_modules {
    CUmodule module[CU_N_IMAGE];
    CUfunction function[CU_N_KERNEL][CU_TYPES]; /* NULL: not asked for yet */
} cu_modules;
/* dtype: 0 for kernels without types.  Loads its module when it is the first of it. */
int32_t cu_function_get(peri_dev *d, uint32_t kernel, uint32_t dtype, CUfunction *out,
                        peri_error *e);
/* Threads of a block of it. */
uint32_t cu_n_thread(uint32_t kernel);
void cu_modules_unload(peri_dev *d);

/* ---- an open device ---------------------------------------------------------------------------
 */

struct peri_buf {
    CUdeviceptr at;
    uint64_t bytes;
};

/* A step's block on the device. */
typedef struct cu_step {
    CUdeviceptr at;
    uint64_t room, bytes; /* bytes 0: what lies there is unknown */
    unsigned char *now;   /* [room] what lies there; pinned */
    uint64_t sent;        /* d->n_wait of its copy: while that is so, the copy may not have ended */
} cu_step;

/* Activations that lie in scratch as bytes: rows of n at `rows`, of memory from x on. */
typedef struct cu_kept {
    cu_rows rows;
    uint64_t end;         /* of that memory */
    int32_t n, n_row, d2; /* n 0: none do */
} cu_kept;

struct peri_dev {
    const peri_host *host;
    const cu_api *cu;
    CUdevice device;
    CUcontext context;
    CUstream stream;
    cu_modules modules;
    cu_step step;        /* of ops that run one at a time */
    CUdeviceptr topk;    /* [CU_TOPK_ROOM] lists of TOPK; never moves, as graphs know where it is */
    CUdeviceptr counts;  /* i32 [CU_COUNTS] of blocks, 0 between launches; never moves */
    void *landing;       /* [CU_LANDING] pinned: where short reads arrive (memory.c) */
    uint64_t n_wait;     /* waits for the stream so far, and one */
    int32_t n_processor; /* its multiprocessors */
    int32_t tile;        /* tokens of a product's tiles; 0: what takes less */
    bool has_graphs;     /* compiled ops become graphs */
    bool has_codes;      /* products with activations of 8 bits */
    bool is_together;    /* ops that follow one another may be one launch */
    bool has_ahead;      /* kernels begin before the one before has ended */
    CUdeviceptr scratch; /* of an op while it runs; but for `kept`, nothing in it outlives the op */
    cu_kept kept;
    uint64_t ids; /* experts that all blocks of the kernel launched last have read; 0: none */
    uint64_t scratch_bytes;
};

/* ---- memory.c ---------------------------------------------------------------------------------
 */

int32_t cu_enter(peri_dev *d, peri_error *e); /* the context becomes this thread's */
/* what: of an error that shows now. */
int32_t cu_wait(peri_dev *d, const char *what, peri_error *e);

int32_t cu_buf_alloc(peri_dev *d, uint64_t bytes, uint32_t usage, peri_buf **out, peri_error *e);
void cu_buf_free(peri_dev *d, peri_buf *b);
int32_t cu_buf_write(peri_dev *d, peri_buf *b, uint64_t off, const void *src, uint64_t bytes,
                     peri_error *e);
int32_t cu_buf_read(peri_dev *d, peri_buf *b, uint64_t off, void *dst, uint64_t bytes,
                    peri_error *e);
int32_t cu_buf_copy(peri_dev *d, peri_buf *dst, uint64_t dst_off, peri_buf *src, uint64_t src_off,
                    uint64_t bytes, peri_error *e);
/* At least that much scratch; where there is no memory for it, what there was. */
int32_t cu_scratch_grow(peri_dev *d, uint64_t bytes, peri_error *e);
/* Says that it could not be had; what: the consequence. */
void cu_scratch_warn(peri_dev *d, const char *what, uint64_t bytes, const peri_error *why);

/* ---- step.c -----------------------------------------------------------------------------------
 */

/* Room for steps of n bytes.  Waits for readers of the old block. */
int32_t cu_step_grow(peri_dev *d, cu_step *at, uint64_t n, peri_error *e);
/* The step on the device, sent when it differs from what is there. */
int32_t cu_step_send(peri_dev *d, cu_step *at, const peri_step *s, peri_error *e);
void cu_step_free(peri_dev *d, cu_step *at);

/* What the numbers of a step index, the least of all ops that were added; 0: no op asks. */
typedef struct cu_limits {
    int64_t tok_rows, pos_rows; /* of tables that tokens and positions pick from */
    int64_t n_slot, n_block, block_tokens;
    bool wants_rows;
} cu_limits;
/* False: its pool has blocks of another size than those before. */
bool cu_limits_add(cu_limits *l, const peri_program *p, uint32_t op);
/* RANGE names the number that is outside. */
int32_t cu_limits_check(const cu_limits *l, const peri_step *s, peri_error *e);

/* ---- check.c ----------------------------------------------------------------------------------
 */

/* 1, or 0 with the reason. */
int cu_check(const peri_program *p, uint32_t op, const peri_bucket *b, char why[88]);

/* ---- launch.c ---------------------------------------------------------------------------------
 */

/* Find the kernels that the op will need, for every shape of the bucket. */
int32_t cu_prepare(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                   peri_error *e);
/* How exactly the op is computed, as supports declares it; NULL: its weights differ in that. */
const char *cu_numerics(peri_dev *d, const peri_program *p, uint32_t op);
int32_t cu_run_op(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                  const peri_step *s, peri_error *e);
/* TOPK: lists that a block takes. */
static inline int64_t cu_topk_lists(int64_t k) {
    return CU_CHUNKS * CU_CHUNK / k;
}
/* Elements of a chunk: as few as leave lists for one block, if that can be. */
static inline int64_t cu_topk_chunk(int64_t n, int64_t k) {
    int64_t chunk = CU_CHUNK;
    while (chunk < CU_CHUNKS * CU_CHUNK && (n + chunk - 1) / chunk > cu_topk_lists(k))
        chunk += CU_CHUNK;
    return chunk;
}
/* Bytes of the lists of a row, of which CU_TOPK_ROOM are kept. */
enum { CU_TOPK_ROOM = 4 << 20 };
static inline int64_t cu_topk_bytes(int64_t n, int64_t k) {
    int64_t chunk = cu_topk_chunk(n, k), n_chunk = (n + chunk - 1) / chunk;
    int64_t n_each = cu_topk_lists(k);
    return (n_chunk + (n_chunk + n_each - 1) / n_each) * k * 8;
}
/* ATTN: of so many tiles of heads, of all tokens together, parts are counted. */
enum { CU_COUNTS = 32 << 10 };
/* Ops first .. first + n - 1 of a program. */
typedef struct cu_ops {
    const peri_program *p;
    uint32_t first, n;
} cu_ops;
/* Queue their kernels: the step has been checked and lies at `at`. */
int32_t cu_queue_ops(peri_dev *d, cu_ops o, const peri_bind *m, const peri_step *s, CUdeviceptr at,
                     peri_error *e);

/* ---- graph.c ----------------------------------------------------------------------------------
 */

int32_t cu_compile(peri_dev *d, const peri_program *p, uint32_t first, uint32_t n,
                   const peri_bucket *b, peri_compiled **out, peri_error *e);
int32_t cu_run_compiled(peri_dev *d, peri_compiled *c, const peri_bind *m, const peri_step *s,
                        peri_error *e);
void cu_free_compiled(peri_dev *d, peri_compiled *c);

#endif
