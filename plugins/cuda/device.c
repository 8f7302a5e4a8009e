/* SPDX-License-Identifier: MIT
 *
 * device.c - which devices the driver offers, and what it says of them.
 *
 * Usable: compute capability 8.0 and later, which is what the kernels are built for.  Free memory
 * is not told: the driver knows it only with a context, and listing makes none. */
#include <stdio.h>

#include "cu.h"

enum { LEAST_MAJOR = 8 };

static int attribute(const cu_api *cu, CUdevice d, int which) {
    int v = 0;
    return cu->cuDeviceGetAttribute(&v, which, d) == CUDA_SUCCESS ? v : 0;
}

int32_t cu_find(const cu_api *cu, CUdevice out[CU_DEVICES], uint32_t *n, peri_error *e) {
    int n_all = 0;
    *n = 0;
    CUresult rc = cu->cuDeviceGetCount(&n_all);
    if (rc != CUDA_SUCCESS) return cu_fail(cu, e, "cuDeviceGetCount", rc);
    peri_plugin_fail(e, PERI_E_NO_DEVICE, "the driver lists no device");
    for (int i = 0; i < n_all && *n < CU_DEVICES; i++) {
        CUdevice d;
        rc = cu->cuDeviceGet(&d, i);
        if (rc != CUDA_SUCCESS) return cu_fail(cu, e, "cuDeviceGet", rc);
        int major = attribute(cu, d, CU_ATTR_COMPUTE_CAPABILITY_MAJOR);
        if (major >= LEAST_MAJOR) {
            out[(*n)++] = d;
            continue;
        }
        char name[64] = "?";
        cu->cuDeviceGetName(name, sizeof name, d);
        peri_plugin_fail(e, PERI_E_NO_DEVICE,
                         "%s has compute capability %d.%d, the kernels need %d.0 or later", name,
                         major, attribute(cu, d, CU_ATTR_COMPUTE_CAPABILITY_MINOR), LEAST_MAJOR);
    }
    return *n ? PERI_OK : PERI_E_NO_DEVICE;
}

int32_t cu_describe(const cu_api *cu, CUdevice d, uint32_t index, peri_dev_info *out,
                    peri_error *e) {
    size_t bytes = 0;
    *out = (peri_dev_info){.size = sizeof *out, .flags = PERI_DEV_BATCH_INVARIANT};
    CUresult rc = cu->cuDeviceGetName(out->model, (int)sizeof out->model, d);
    if (rc != CUDA_SUCCESS) return cu_fail(cu, e, "cuDeviceGetName", rc);
    out->model[sizeof out->model - 1] = 0;
    rc = cu->cuDeviceTotalMem(&bytes, d);
    if (rc != CUDA_SUCCESS) return cu_fail(cu, e, "cuDeviceTotalMem", rc);
    out->mem_total = bytes;
    snprintf(out->name, sizeof out->name, "cuda:%u", index);
    snprintf(out->isa, sizeof out->isa, "sm_%d%d",
             attribute(cu, d, CU_ATTR_COMPUTE_CAPABILITY_MAJOR),
             attribute(cu, d, CU_ATTR_COMPUTE_CAPABILITY_MINOR));
    snprintf(out->location, sizeof out->location, "pci:%04x:%02x:%02x.0",
             attribute(cu, d, CU_ATTR_PCI_DOMAIN_ID) & 0xffff,
             attribute(cu, d, CU_ATTR_PCI_BUS_ID) & 0xff,
             attribute(cu, d, CU_ATTR_PCI_DEVICE_ID) & 0xff);
    /* two transfers a clock on a bus of so many bits */
    out->mem_gbps = 2.0f * (float)attribute(cu, d, CU_ATTR_MEMORY_CLOCK_RATE) *
                    (float)attribute(cu, d, CU_ATTR_GLOBAL_MEMORY_BUS_WIDTH) / 8e6f;
    return PERI_OK;
}
