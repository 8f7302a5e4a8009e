/* SPDX-License-Identifier: MIT
 *
 * kernels.c - modules and functions, found when supports is asked and kept while the device is
 * open, so that running an op looks nothing up by name. */
#include <stdio.h>

#include "cu.h"

typedef struct kernel {
    const char *name;
    uint32_t image, has_types, n_thread;
} kernel;

static const kernel kernels[CU_N_KERNEL] = {
#define CU_KERNEL_OF(name, file, types, n_thread) {#name, CU_I_##file, types, n_thread},
#define CU_KERNEL(name, file, types)              CU_KERNEL_OF(name, file, types, CU_THREADS)
#include "kernels.def"
};
static const char *const image_names[CU_N_IMAGE] = {
#define CU_IMAGE(file) #file,
#include "kernels.def"
};

static int32_t load(peri_dev *d, uint32_t i, peri_error *e) {
    char what[64];
    if (d->modules.module[i]) return PERI_OK;
    CUresult rc = d->cu->cuModuleLoadData(&d->modules.module[i], cu_image_at(i).data);
    if (rc == CUDA_SUCCESS) return PERI_OK;
    d->modules.module[i] = NULL;
    snprintf(what, sizeof what, "cuModuleLoadData of the kernels of %s", image_names[i]);
    return cu_fail(d->cu, e, what, rc);
}

int32_t cu_function_get(peri_dev *d, uint32_t k, uint32_t dtype, CUfunction *out, peri_error *e) {
    char name[48], what[80];
    uint32_t at = kernels[k].has_types ? dtype : 0;
    *out = NULL;
    if (at >= CU_TYPES)
        return peri_plugin_fail(e, PERI_E_UNSUPPORTED, "no kernel for type number %u", dtype);
    *out = d->modules.function[k][at];
    if (*out) return PERI_OK;
    int32_t st = load(d, kernels[k].image, e);
    if (st) return st;
    if (kernels[k].has_types)
        snprintf(name, sizeof name, "peri_%s_%u", kernels[k].name, dtype);
    else
        snprintf(name, sizeof name, "peri_%s", kernels[k].name);
    CUresult rc = d->cu->cuModuleGetFunction(&d->modules.function[k][at],
                                             d->modules.module[kernels[k].image], name);
    if (rc != CUDA_SUCCESS) {
        d->modules.function[k][at] = NULL;
        snprintf(what, sizeof what, "cuModuleGetFunction of %s", name);
        return cu_fail(d->cu, e, what, rc);
    }
    *out = d->modules.function[k][at];
    return PERI_OK;
}

uint32_t cu_n_thread(uint32_t k) {
    return kernels[k].n_thread;
}

void cu_modules_unload(peri_dev *d) {
    for (uint32_t i = 0; i < CU_N_IMAGE; i++)
        if (d->modules.module[i]) d->cu->cuModuleUnload(d->modules.module[i]);
    d->modules = (cu_modules){0};
}
