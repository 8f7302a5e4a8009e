/* SPDX-License-Identifier: MIT
 *
 * cuda_min.h - as much of the CUDA driver interface as this plugin calls: types, numbers, and, in
 * driver.def, functions.  Written from the public reference, so that neither the toolkit nor its
 * headers are needed to build.
 *
 * Source: CUDA Driver API reference, "Data types used by CUDA driver" and the pages of each
 * function.  Sizes hold for 64-bit systems.  Functions are asked for by the version ABI_VERSION, in
 * which they have these parameters. */
#ifndef PERI_CUDA_CUDA_MIN_H
#define PERI_CUDA_CUDA_MIN_H

#include <stddef.h>
#include <stdint.h>

enum { CU_ABI_VERSION = 11040 }; /* CUDA 11.4; driver R470 and later have it */

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;

/* CUresult, those that are told apart */
enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_STUB_LIBRARY = 34,
    CUDA_ERROR_DEVICE_UNAVAILABLE = 46,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_ECC_UNCORRECTABLE = 214,
    CUDA_ERROR_NVLINK_UNCORRECTABLE = 220,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_LAUNCH_TIMEOUT = 702,
    CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
    CUDA_ERROR_ASSERT = 710,
    CUDA_ERROR_HARDWARE_STACK_ERROR = 714,
    CUDA_ERROR_ILLEGAL_INSTRUCTION = 715,
    CUDA_ERROR_MISALIGNED_ADDRESS = 716,
    CUDA_ERROR_INVALID_ADDRESS_SPACE = 717,
    CUDA_ERROR_INVALID_PC = 718,
    CUDA_ERROR_LAUNCH_FAILED = 719
};

/* CUdevice_attribute */
enum {
    CU_ATTR_MULTIPROCESSOR_COUNT = 16,
    CU_ATTR_MEMORY_CLOCK_RATE = 36,       /* kHz */
    CU_ATTR_GLOBAL_MEMORY_BUS_WIDTH = 37, /* bits */
    CU_ATTR_PCI_BUS_ID = 33,
    CU_ATTR_PCI_DEVICE_ID = 34,
    CU_ATTR_PCI_DOMAIN_ID = 50,
    CU_ATTR_COMPUTE_CAPABILITY_MAJOR = 75,
    CU_ATTR_COMPUTE_CAPABILITY_MINOR = 76
};

enum { CU_STREAM_NON_BLOCKING = 1 };
/* CUstreamCaptureMode: other threads may go on calling what a capture forbids to its own. */
enum { CU_CAPTURE_THREAD_LOCAL = 1 };

/* The one function that is looked up by its name in the library. */
typedef CUresult (*cu_get_proc_address_fn)(const char *name, void **out, int version,
                                           uint64_t flags);

/* CUlaunchAttribute and CUlaunchConfig.  The attribute: the kernel may begin before the one before
 * it in the stream has ended. */
enum { CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION = 6 };
typedef struct CUlaunchAttribute {
    int id, reserved;
    union {
        char bytes[64];
        int is_allowed;
    } value;
} CUlaunchAttribute;
typedef struct CUlaunchConfig {
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
    CUstream stream;
    CUlaunchAttribute *attributes;
    unsigned n_attribute;
} CUlaunchConfig;

typedef struct cu_api {
#define CU_FUNCTION(name, parameters)       CUresult(*name) parameters;
#define CU_LATER(name, version, parameters) CUresult(*name) parameters;
#include "driver.def"
#undef CU_FUNCTION
#undef CU_LATER
} cu_api;

#endif
