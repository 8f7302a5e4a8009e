/* SPDX-License-Identifier: MIT
 *
 * opencl_layer.c - a layer of the OpenCL loader (OPENCL_LAYERS) that makes a working driver run out
 * of memory: FAIL_BUFFER=N refuses the N-th buffer and all later ones, FAIL_KERNEL=N the N-th
 * launch of a kernel and all later ones; one whose compiler fails: FAIL_BUILD=TEXT refuses programs
 * that hold TEXT in their options; and one whose largest buffer has MAX_ALLOC bytes.
 *
 * Budget: parameters - the signature of a launch is OpenCL's. */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl_layer.h>
#include <stdlib.h>
#include <string.h>

static const cl_icd_dispatch *real;
static cl_icd_dispatch mine;
static long n_buffer, n_kernel;

static int is_due(const char *name, long n) {
    const char *text = getenv(name);
    return text && n >= strtol(text, NULL, 10);
}

static cl_mem create_buffer(cl_context c, cl_mem_flags flags, size_t n, void *host, cl_int *rc) {
    if (!is_due("FAIL_BUFFER", ++n_buffer)) return real->clCreateBuffer(c, flags, n, host, rc);
    if (rc) *rc = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    return NULL;
}

static cl_int enqueue(cl_command_queue q, cl_kernel k, cl_uint n_dim, const size_t *first,
                      const size_t *global, const size_t *local, cl_uint n_event,
                      const cl_event *before, cl_event *event) {
    if (is_due("FAIL_KERNEL", ++n_kernel)) return CL_OUT_OF_RESOURCES;
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
