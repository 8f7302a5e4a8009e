/* SPDX-License-Identifier: MIT
 *
 * ocl.h - the OpenCL backend: what its files share.
 *
 * Read in this order: icd.c (finding the driver), device.c (what it offers), shape.c (which kernels
 * suit it), memory.c (buffers),
 * program.c and cache.c (kernels, and binaries kept from start to start), check.c (is an op what
 * op.def says), launch.c (binding arguments), compiled.c (several ops in one launch), plugin.c (the
 * table).  The kernels are in kernels-cl/
 * and lie in the plugin as text. */
#ifndef PERI_OPENCL_OCL_H
#define PERI_OPENCL_OCL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <stdbool.h>

#include "perigee/op_check.h"

enum { OCL_OPERANDS = 16, OCL_DEVICES = 32, OCL_VALUES = 4 };

/* Type numbers, from dtype.def. */
enum {
#define PERI_DTYPE(NAME, number, name, elements, bytes) OCL_##NAME = (number),
#include "perigee/dtype.def"
#undef PERI_DTYPE
};

/* ---- icd.c ------------------------------------------------------------------------------------
 */

typedef struct ocl_api {
#define CL_FUNCTION(name) __typeof__(&name) name;
#include "icd.def"
#undef CL_FUNCTION
} ocl_api;
/* The loader's functions, or NULL with *e filled (NO_DRIVER).  It is loaded once and stays. */
const ocl_api *ocl_load(peri_error *e);
const char *ocl_error_name(cl_int code);
/* "what: CL_NAME (-n)" with the status that fits: NOMEM, DEVICE_LOST, OTHER. */
int32_t ocl_fail(peri_error *e, const char *what, cl_int code);

/* ---- device.c ---------------------------------------------------------------------------------
 */

typedef struct ocl_found {
    cl_platform_id platform;
    cl_device_id id;
} ocl_found;
/* The usable devices of all platforms, in their order; NO_DRIVER or NO_DEVICE with the reason when
 * there are none. */
int32_t ocl_find(const ocl_api *cl, const peri_host *h, ocl_found out[OCL_DEVICES], uint32_t *n,
                 peri_error *e);
/* shape: NULL when none fits the option. */
void ocl_describe(const ocl_api *cl, const ocl_found *f, uint32_t index, uint32_t n,
                  const char *shape, peri_dev_info *out);
uint64_t ocl_number(const ocl_api *cl, cl_device_id id, cl_device_info what);
void ocl_text(const ocl_api *cl, cl_device_id id, cl_device_info what, char *out, size_t room);

/* ---- shape.c ----------------------------------------------------------------------------------
 */

enum { OCL_VECTOR, OCL_LOCAL, OCL_SUBGROUP, OCL_LANES = 64 };
typedef struct ocl_shape {
    int32_t kind, shuffle; /* SHAPE and SHUFFLE of the kernels */
    const char *std;       /* "CL1.2" */
} ocl_shape;
/* The device's shape, by what it is and by the option opencl.shape; INVALID when that names none or
 * one the device cannot have. */
int32_t ocl_shape_get(const ocl_api *cl, const peri_host *h, cl_device_id id, ocl_shape *out,
                      peri_error *e);
const char *ocl_shape_name(int32_t kind);

/* ---- an open device ---------------------------------------------------------------------------
 */

struct peri_buf {
    cl_mem mem;
    uint64_t bytes;
};

typedef struct ocl_kernel ocl_kernel;

struct peri_dev {
    const peri_host *host;
    const ocl_api *cl;
    ocl_found found;
    cl_context context;
    cl_command_queue queue;
    ocl_shape shape;
    uint64_t max_alloc, local_bytes;
    int32_t n_unit; /* of computing */
    bool is_unified, has_doubles, has_fma;
    uint64_t cache_limit; /* bytes of the cache's folder */
    char identity[512];   /* device and driver, as the cache names them */
    ocl_kernel *kernel;   /* those made so far, a list */
    uint32_t n_built, n_cached;
    cl_mem step; /* the step's block on the device */
    uint64_t step_room;
    unsigned char *step_now; /* [step_room] what lies there */
    uint64_t step_bytes;
};

/* ---- memory.c ---------------------------------------------------------------------------------
 */

int32_t ocl_buf_alloc(peri_dev *d, uint64_t bytes, uint32_t usage, peri_buf **out, peri_error *e);
int32_t ocl_buf_import(peri_dev *d, const void *host, uint64_t bytes, peri_buf **out,
                       peri_error *e);
void ocl_buf_free(peri_dev *d, peri_buf *b);
int32_t ocl_buf_write(peri_dev *d, peri_buf *b, uint64_t off, const void *src, uint64_t bytes,
                      peri_error *e);
int32_t ocl_buf_read(peri_dev *d, peri_buf *b, uint64_t off, void *dst, uint64_t bytes,
                     peri_error *e);
int32_t ocl_buf_copy(peri_dev *d, peri_buf *dst, uint64_t dst_off, peri_buf *src, uint64_t src_off,
                     uint64_t bytes, peri_error *e);
/* The step on the device, sent when it differs from what is there. */
int32_t ocl_send_step(peri_dev *d, const peri_step *s, peri_error *e);

/* ---- program.c, cache.c ------------------------------------------------------------------------
 */

/* A kernel of kernels-cl/NAME.cl with its -D options, in the order of the file's row in program.c.
 */
typedef struct ocl_variant {
    const char *name;
    int32_t value[OCL_VALUES];
} ocl_variant;
/* Made once; later calls find it.  On failure the text names file, options and the compiler's first
 * complaint. */
int32_t ocl_kernel_get(peri_dev *d, const ocl_variant *v, cl_kernel *out, peri_error *e);
void ocl_kernels_free(peri_dev *d);

/* Files below the option cache.dir, one per program.  key: all that decides the binary. */
unsigned char *ocl_cache_read(peri_dev *d, const char *key, size_t n_key, size_t *bytes);
void ocl_cache_write(peri_dev *d, const char *key, size_t n_key, const unsigned char *data,
                     size_t bytes);
/* Bytes that the folder may hold, by the option opencl.cache_mib; INVALID when that is no number.
 */
int32_t ocl_cache_limit(const peri_host *h, uint64_t *bytes, peri_error *e);

/* ---- check.c ----------------------------------------------------------------------------------
 */

/* How a product multiplies weights of a type in rows of n: activations as bytes, a scale for `span`
 * of them, or as f32 with a span of 0.  room: bytes of local memory for a token. */
typedef struct ocl_act {
    int32_t span;
    size_t room;
} ocl_act;
ocl_act ocl_act_of(const peri_dev *d, uint32_t dtype, int64_t n);
/* 1 with what is true of the sums, or 0 with the reason. */
int ocl_check(const peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
              char numerics[28], char why[88]);

/* ---- launch.c ---------------------------------------------------------------------------------
 */

/* Make the kernels that the op will need, for every shape of the bucket. */
int32_t ocl_prepare(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                    peri_error *e);
int32_t ocl_run_op(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                   const peri_step *s, peri_error *e);
/* Number of ops from `first` on, before `end`, that one launch of heads.cl can do for a few tokens:
 * its kernel is made.  0: none. */
uint32_t ocl_prepare_heads(peri_dev *d, const peri_program *p, uint32_t first, uint32_t end,
                           const peri_bucket *b);
/* Those n ops. */
int32_t ocl_run_heads(peri_dev *d, const peri_program *p, uint32_t first, uint32_t n,
                      const peri_bind *m, const peri_step *s, peri_error *e);

/* ---- compiled.c -------------------------------------------------------------------------------
 */

int32_t ocl_compile(peri_dev *d, const peri_program *p, uint32_t first, uint32_t n,
                    const peri_bucket *b, peri_compiled **out, peri_error *e);
int32_t ocl_run_compiled(peri_dev *d, peri_compiled *c, const peri_bind *m, const peri_step *s,
                         peri_error *e);
void ocl_free_compiled(peri_dev *d, peri_compiled *c);

#endif
