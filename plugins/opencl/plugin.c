/* SPDX-License-Identifier: MIT
 *
 * plugin.c - the OpenCL backend's table: devices of OpenCL 1.2 and later, with memory of their own.
 *
 * Operations are queued in order and nothing waits but reads of memory.  Kernels are made when
 * supports is asked, so that what does not build is declined with the compiler's words and the op
 * never fails for it later. */
#include <stdio.h>
#include <string.h>

#include "ocl.h"

/* ---- discovery --------------------------------------------------------------------------------
 */

static int32_t find(const peri_host *h, uint32_t index, const ocl_api **cl,
                    ocl_found found[OCL_DEVICES], uint32_t *n, peri_error *e) {
    *cl = ocl_load(e);
    if (!*cl) return PERI_E_NO_DRIVER;
    int32_t st = ocl_find(*cl, h, found, n, e);
    if (st) return index && st == PERI_E_NO_DRIVER ? PERI_E_NO_DEVICE : st;
    if (index < *n) return PERI_OK;
    return peri_plugin_fail(e, PERI_E_NO_DEVICE, "%u devices, no number %u", *n, index);
}

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    const ocl_api *cl;
    ocl_found found[OCL_DEVICES];
    uint32_t n;
    peri_dev_info info;
    int32_t st = find(h, index, &cl, found, &n, e);
    if (st) return st;
    /* A wrong opencl.shape is no reason to hide the device: open says what is wrong. */
    ocl_shape shape;
    peri_error ignored;
    bool has_shape = ocl_shape_get(cl, h, found[index].id, &shape, &ignored) == PERI_OK;
    ocl_describe(cl, &found[index], index, n, has_shape ? ocl_shape_name(shape.kind) : NULL, &info);
    peri_put(out, &info, sizeof info);
    return PERI_OK;
}

/* ---- lifetime ---------------------------------------------------------------------------------
 */

static void close_device(peri_dev *d) {
    char text[96];
    if (!d) return;
    if (d->queue) d->cl->clFinish(d->queue);
    ocl_kernels_free(d);
    if (d->step) d->cl->clReleaseMemObject(d->step);
    if (d->queue) d->cl->clReleaseCommandQueue(d->queue);
    if (d->context) d->cl->clReleaseContext(d->context);
    if (d->n_built + d->n_cached) {
        snprintf(text, sizeof text, "opencl: %u programs compiled, %u from the cache", d->n_built,
                 d->n_cached);
        d->host->log(0, text);
    }
    d->host->free(d->step_now);
    d->host->free(d);
}

/* What the cache knows a device by: everything that may change what a compiler makes. */
static void identify(peri_dev *d) {
    static const cl_device_info what[] = {CL_DEVICE_VENDOR, CL_DEVICE_NAME, CL_DEVICE_VERSION,
                                          CL_DRIVER_VERSION};
    size_t at = 0, room = sizeof d->identity;
    char platform[128] = "";
    d->cl->clGetPlatformInfo(d->found.platform, CL_PLATFORM_VERSION, sizeof platform - 1, platform,
                             NULL);
    at += (size_t)snprintf(d->identity, room, "%.127s", platform);
    for (size_t i = 0; i < sizeof what / sizeof what[0]; i++) {
        char text[92];
        ocl_text(d->cl, d->found.id, what[i], text, sizeof text);
        at += (size_t)snprintf(d->identity + at, room - at, "\n%s", text);
    }
}

static int32_t start(peri_dev *d, peri_error *e) {
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM,
                                                (cl_context_properties)d->found.platform, 0};
    char extensions[2048];
    cl_int rc;
    d->context = d->cl->clCreateContext(properties, 1, &d->found.id, NULL, NULL, &rc);
    if (rc != CL_SUCCESS) {
        d->context = NULL;
        return ocl_fail(e, "clCreateContext", rc);
    }
    d->queue = d->cl->clCreateCommandQueue(d->context, d->found.id, 0, &rc);
    if (rc != CL_SUCCESS) {
        d->queue = NULL;
        return ocl_fail(e, "clCreateCommandQueue", rc);
    }
    d->max_alloc = ocl_number(d->cl, d->found.id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    d->local_bytes = ocl_number(d->cl, d->found.id, CL_DEVICE_LOCAL_MEM_SIZE);
    d->n_unit = (int32_t)ocl_number(d->cl, d->found.id, CL_DEVICE_MAX_COMPUTE_UNITS);
    d->is_unified = ocl_number(d->cl, d->found.id, CL_DEVICE_HOST_UNIFIED_MEMORY) != 0;
    ocl_text(d->cl, d->found.id, CL_DEVICE_EXTENSIONS, extensions, sizeof extensions);
    d->has_fma = (ocl_number(d->cl, d->found.id, CL_DEVICE_SINGLE_FP_CONFIG) & CL_FP_FMA) != 0;
    d->has_doubles = strstr(extensions, "cl_khr_fp64") != NULL;
    identify(d);
    return PERI_OK;
}

static int32_t open_device(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e) {
    const ocl_api *cl;
    ocl_found found[OCL_DEVICES];
    uint32_t n;
    *out = NULL;
    int32_t st = find(h, index, &cl, found, &n, e);
    if (st) return st;
    peri_dev *d = h->alloc(sizeof *d, _Alignof(peri_dev), -1);
    if (!d) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for a device handle");
    *d = (peri_dev){.host = h, .cl = cl, .found = found[index]};
    st = ocl_shape_get(cl, h, d->found.id, &d->shape, e);
    if (!st) st = ocl_cache_limit(h, &d->cache_limit, e);
    if (!st) st = start(d, e);
    if (st) {
        close_device(d);
        return st;
    }
    *out = d;
    return PERI_OK;
}

/* ---- operations -------------------------------------------------------------------------------
 */

static int32_t supports(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                        peri_support *out, peri_error *e) {
    peri_support s = {.size = sizeof s};
    peri_error why = {0};
    (void)e;
    s.yes = ocl_check(d, p, op, b, s.numerics, s.why);
    if (s.yes && ocl_prepare(d, p, op, b, &why) != PERI_OK) {
        s.yes = 0;
        s.numerics[0] = 0;
        snprintf(s.why, sizeof s.why, "%.87s", why.text);
    }
    peri_put(out, &s, sizeof s);
    return PERI_OK;
}

static const peri_plugin plugin = {
    .size = sizeof plugin,
    .abi_major = PERI_ABI_MAJOR,
    .abi_minor = PERI_ABI_MINOR,
    .name = "opencl",
    .version = "0.1.0",
    .license = "MIT",
    .device = device,
    .open = open_device,
    .supports = supports,
    .run_op = ocl_run_op,
    .close = close_device,
    .buf_alloc = ocl_buf_alloc,
    .buf_import = ocl_buf_import,
    .buf_free = ocl_buf_free,
    .buf_write = ocl_buf_write,
    .buf_read = ocl_buf_read,
    .buf_copy = ocl_buf_copy,
    .compile = ocl_compile,
    .run_compiled = ocl_run_compiled,
    .free_compiled = ocl_free_compiled,
};

const peri_plugin *perigee_plugin_v0(const peri_host *host, peri_error *e) {
    if (host->abi_major == PERI_ABI_MAJOR && PERI_HAS(host, option)) return &plugin;
    peri_plugin_fail(e, PERI_E_ABI, "opencl speaks plugin ABI %d.%d, the host %u.%u",
                     PERI_ABI_MAJOR, PERI_ABI_MINOR, host->abi_major, host->abi_minor);
    return NULL;
}

/* Makers of graphics cards that come with an OpenCL driver: AMD, Intel, NVIDIA. */
PERI_PLUGIN_NOTE("abi=0.3 name=opencl arch=any needs=libOpenCL.so.1 pci=1002,8086,10de");
