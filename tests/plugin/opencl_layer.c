/* SPDX-License-Identifier: MIT
 *
 * opencl_layer.c - a layer of the OpenCL loader (OPENCL_LAYERS) that makes a working driver run out
 * of memory: FAIL_BYTES=N refuses all buffers of N bytes, FAIL_BYTES=all every one, FAIL_KERNEL=N
 * the N-th launch of a kernel and all later ones; one whose compiler fails: FAIL_BUILD=TEXT refuses
 * programs that hold TEXT in their options; and one whose largest buffer has MAX_ALLOC bytes.
 *
 * Buffers are told by size and not counted: how many there are before a weight depends on whether
 * the device is measured first, which takes as many matrices as its speed allows (calibrate.c), and
 * on whether a driver takes host memory as it is or needs a second buffer for a copy.
 *
 * Budget: parameters - the signature of a launch is OpenCL's. */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl_layer.h>
#include <stdlib.h>
#include <string.h>

static const cl_icd_dispatch *real;
static cl_icd_dispatch mine;
static long n_kernel;

static cl_mem create_buffer(cl_context c, cl_mem_flags flags, size_t n, void *host, cl_int *rc) {
    const char *text = getenv("FAIL_BYTES");
    int is_refused = text && (!strcmp(text, "all") || n == strtoull(text, NULL, 10));
    if (!is_refused) return real->clCreateBuffer(c, flags, n, host, rc);
    if (rc) *rc = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    return NULL;
}

static cl_int enqueue(cl_command_queue q, cl_kernel k, cl_uint n_dim, const size_t *first,
                      const size_t *global, const size_t *local, cl_uint n_event,
                      const cl_event *before, cl_event *event) {
    const char *text = getenv("FAIL_KERNEL");
    if (text && ++n_kernel >= strtol(text, NULL, 10)) return CL_OUT_OF_RESOURCES;
    return real->clEnqueueNDRangeKernel(q, k, n_dim, first, global, local, n_event, before, event);
}

static cl_int build(cl_program p, cl_uint n, const cl_device_id *device, const char *options,
                    void(CL_CALLBACK *done)(cl_program, void *), void *user) {
    const char *text = getenv("FAIL_BUILD");
    if (text && options && strstr(options, text)) return CL_BUILD_PROGRAM_FAILURE;
    return real->clBuildProgram(p, n, device, options, done, user);
}

static cl_int device_info(cl_device_id d, cl_device_info what, size_t room, void *out, size_t *n) {
    const char *text = getenv("MAX_ALLOC");
    cl_int rc = real->clGetDeviceInfo(d, what, room, out, n);
    if (text && what == CL_DEVICE_MAX_MEM_ALLOC_SIZE && rc == CL_SUCCESS && out)
        *(cl_ulong *)out = strtoull(text, NULL, 10);
    return rc;
}

__attribute__((visibility("default"))) cl_int clGetLayerInfo(cl_layer_info what, size_t room,
                                                             void *out, size_t *n) {
    if (what != CL_LAYER_API_VERSION) return CL_INVALID_VALUE;
    if (out && room >= sizeof(cl_layer_api_version))
        *(cl_layer_api_version *)out = CL_LAYER_API_VERSION_100;
    if (n) *n = sizeof(cl_layer_api_version);
    return CL_SUCCESS;
}

__attribute__((visibility("default"))) cl_int
clInitLayer(cl_uint n, const cl_icd_dispatch *target, cl_uint *n_out, const cl_icd_dispatch **out) {
    if (!target || !n_out || !out || n < sizeof mine / sizeof mine.clGetPlatformIDs)
        return CL_INVALID_VALUE;
    real = target;
    mine = *target;
    mine.clCreateBuffer = create_buffer;
    mine.clEnqueueNDRangeKernel = enqueue;
    mine.clBuildProgram = build;
    mine.clGetDeviceInfo = device_info;
    *n_out = sizeof mine / sizeof mine.clGetPlatformIDs;
    *out = &mine;
    return CL_SUCCESS;
}
