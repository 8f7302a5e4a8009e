/* SPDX-License-Identifier: MIT
 *
 * plugin.c - the CUDA backend's table: NVIDIA devices through the driver alone.
 *
 * Operations are queued in order and nothing waits but reads and writes of memory.  Kernels are
 * looked up when supports is asked, so that what a driver cannot load is declined with its words
 * and the op never fails for it later. */
#include <stdio.h>
#include <string.h>

#include "cu.h"

/* ---- discovery --------------------------------------------------------------------------------
 */

static int32_t find(uint32_t index, const cu_api **cu, CUdevice *out, peri_error *e) {
    CUdevice found[CU_DEVICES];
    uint32_t n;
    if (cu_image_at(0).bytes == 0)
        return peri_plugin_fail(e, index ? PERI_E_NO_DEVICE : PERI_E_NO_DRIVER,
                                "this plugin was built without its kernels: nvcc was not there; no "
                                "driver is looked for");
    *cu = cu_load(e);
    int32_t st = *cu ? cu_find(*cu, found, &n, e) : e->code;
    if (st) return index && st == PERI_E_NO_DRIVER ? PERI_E_NO_DEVICE : st;
    if (index >= n)
        return peri_plugin_fail(e, PERI_E_NO_DEVICE, "%u devices, no number %u", n, index);
    *out = found[index];
    return PERI_OK;
}

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    const cu_api *cu;
    CUdevice d;
    peri_dev_info info;
    (void)h;
    int32_t st = find(index, &cu, &d, e);
    if (!st) st = cu_describe(cu, d, index, &info, e);
    if (!st) peri_put(out, &info, sizeof info);
    return st;
}

/* ---- lifetime ---------------------------------------------------------------------------------
 */

static void close_device(peri_dev *d) {
    if (!d) return;
    if (d->context) {
        d->cu->cuCtxSetCurrent(d->context);
        if (d->stream) d->cu->cuStreamSynchronize(d->stream);
        cu_step_free(d, &d->step);
        if (d->scratch) d->cu->cuMemFree(d->scratch);
        if (d->topk) d->cu->cuMemFree(d->topk);
        if (d->counts) d->cu->cuMemFree(d->counts);
        if (d->landing) d->cu->cuMemFreeHost(d->landing);
        cu_modules_unload(d);
        if (d->stream) d->cu->cuStreamDestroy(d->stream);
        d->cu->cuCtxSetCurrent(NULL);
        d->cu->cuDevicePrimaryCtxRelease(d->device);
    }
    d->host->free(d);
}

static int32_t start(peri_dev *d, peri_error *e) {
    int n = 0;
    CUresult rc = d->cu->cuDeviceGetAttribute(&n, CU_ATTR_MULTIPROCESSOR_COUNT, d->device);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, "cuDeviceGetAttribute", rc);
    d->n_processor = n > 0 ? n : 1;
    rc = d->cu->cuDevicePrimaryCtxRetain(&d->context, d->device);
    if (rc != CUDA_SUCCESS) {
        d->context = NULL;
        return cu_fail(d->cu, e, "cuDevicePrimaryCtxRetain", rc);
    }
    rc = d->cu->cuCtxSetCurrent(d->context);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, "cuCtxSetCurrent", rc);
    rc = d->cu->cuStreamCreate(&d->stream, CU_STREAM_NON_BLOCKING);
    if (rc != CUDA_SUCCESS) {
        d->stream = NULL;
        return cu_fail(d->cu, e, "cuStreamCreate", rc);
    }
    rc = d->cu->cuMemHostAlloc(&d->landing, CU_LANDING, 0);
    if (rc == CUDA_SUCCESS) return PERI_OK;
    d->landing = NULL;
    return cu_fail(d->cu, e, "pinned memory for reads", rc);
}

/* An option of two words; *second becomes whether it says the second one. */
static int32_t read_option(peri_dev *d, const char *key, const char *const words[2], bool *second,
                           peri_error *e) {
    const char *text = d->host->option(key);
    if (!text) return PERI_OK;
    *second = strcmp(text, words[1]) == 0;
    if (*second || strcmp(text, words[0]) == 0) return PERI_OK;
    return peri_plugin_fail(e, PERI_E_INVALID, "option %s: found '%.32s', expected %s or %s", key,
                            text, words[0], words[1]);
}

/* Kernels that begin early wait by themselves (ahead_wait), which is in the code for compute
 * capability 9.0 and 12, not in the PTX for others; in graphs there is such a thing since
 * CUDA 12.3. */
static bool can_begin_early(const peri_dev *d) {
    enum { LEAST_DRIVER = 12030 };
    int major = 0, minor = 0, version = 0;
    const cu_api *cu = d->cu;
    if (!cu->cuLaunchKernelEx || cu->cuDriverGetVersion(&version) != CUDA_SUCCESS ||
        cu->cuDeviceGetAttribute(&major, CU_ATTR_COMPUTE_CAPABILITY_MAJOR, d->device) !=
            CUDA_SUCCESS ||
        cu->cuDeviceGetAttribute(&minor, CU_ATTR_COMPUTE_CAPABILITY_MINOR, d->device) !=
            CUDA_SUCCESS)
        return false;
    return ((major == 9 && minor == 0) || major == 12) && version >= LEAST_DRIVER;
}

/* cuda.graphs: 0 launches compiled ops one by one.  cuda.together: 0 gives each op a launch of its
 * own, however they follow one another (together.c).  cuda.pdl: 0 lets no kernel begin before the
 * one before has ended.  cuda.act: products with activations as they are (f32), or of 8 bits (q8)
 * where there are kernels for that.  cuda.tile: so many tokens are a tile of products; without it,
 * what is reckoned to take less. */
static int32_t read_options(peri_dev *d, peri_error *e) {
    static const char *const switches[2] = {"0", "1"}, *const forms[2] = {"f32", "q8"},
                             *const tiles[2] = {"8", "32"};
    bool is_many = false;
    d->has_graphs = d->has_codes = d->is_together = true;
    int32_t st = read_option(d, "cuda.graphs", switches, &d->has_graphs, e);
    if (!st) st = read_option(d, "cuda.together", switches, &d->is_together, e);
    bool can_begin = can_begin_early(d);
    d->has_ahead = can_begin;
    if (!st) st = read_option(d, "cuda.pdl", switches, &d->has_ahead, e);
    if (!st && d->has_ahead && !can_begin) {
        d->has_ahead = false;
        d->host->log(2, "cuda: cuda.pdl needs compute capability 9.0 or 12 and CUDA 12.3: kernels "
                        "begin one after the other");
    }
    if (!st) st = read_option(d, "cuda.tile", tiles, &is_many, e);
    if (d->host->option("cuda.tile")) d->tile = is_many ? CU_TILE_MANY : CU_TILE_FEW;
    return st ? st : read_option(d, "cuda.act", forms, &d->has_codes, e);
}

static int32_t open_device(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e) {
    const cu_api *cu;
    CUdevice device_number;
    *out = NULL;
    int32_t st = find(index, &cu, &device_number, e);
    if (st) return st;
    peri_dev *d = h->alloc(sizeof *d, _Alignof(peri_dev), -1);
    if (!d) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for a device handle");
    *d = (peri_dev){.host = h, .cu = cu, .device = device_number, .n_wait = 1};
    st = read_options(d, e);
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
    const char *numerics = NULL;
    s.yes = cu_check(p, op, b, s.why);
    if (s.yes) numerics = cu_numerics(d, p, op);
    if (s.yes && !numerics) {
        s.yes = 0;
        snprintf(s.why, sizeof s.why,
                 "weights some of which take activations of 8 bits: an op for each");
    }
    if (s.yes && cu_prepare(d, p, op, b, &why) != PERI_OK) {
        s.yes = 0;
        snprintf(s.why, sizeof s.why, "%.87s", why.text);
    }
    if (s.yes) snprintf(s.numerics, sizeof s.numerics, "%s", numerics);
    peri_put(out, &s, sizeof s);
    return PERI_OK;
}

static const peri_plugin plugin = {
    .size = sizeof plugin,
    .abi_major = PERI_ABI_MAJOR,
    .abi_minor = PERI_ABI_MINOR,
    .name = "cuda",
    .version = "0.1.0",
    .license = "MIT",
    .device = device,
    .open = open_device,
    .supports = supports,
    .run_op = cu_run_op,
    .close = close_device,
    .buf_alloc = cu_buf_alloc,
    .buf_free = cu_buf_free,
    .buf_write = cu_buf_write,
    .buf_read = cu_buf_read,
    .buf_copy = cu_buf_copy,
    .compile = cu_compile,
    .run_compiled = cu_run_compiled,
    .free_compiled = cu_free_compiled,
};

const peri_plugin *perigee_plugin_v0(const peri_host *host, peri_error *e) {
    if (host->abi_major == PERI_ABI_MAJOR && PERI_HAS(host, option)) return &plugin;
    peri_plugin_fail(e, PERI_E_ABI, "cuda speaks plugin ABI %d.%d, the host %u.%u", PERI_ABI_MAJOR,
                     PERI_ABI_MINOR, host->abi_major, host->abi_minor);
    return NULL;
}

PERI_PLUGIN_NOTE("abi=0.3 name=cuda arch=any needs=libcuda.so.1 pci=10de");
