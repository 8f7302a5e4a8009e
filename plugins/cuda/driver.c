/* SPDX-License-Identifier: MIT
 *
 * driver.c - libcuda.so.1, loaded when first asked for and never unloaded: the driver keeps threads
 * in this process.  Nothing is linked, so that the plugin loads where there is no driver. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "cu.h"

static const struct {
    const char *name;
    int version, is_required;
} functions[] = {
#define CU_FUNCTION(name, parameters)       {#name, CU_ABI_VERSION, 1},
#define CU_LATER(name, version, parameters) {#name, version, 0},
#include "driver.def"
#undef CU_FUNCTION
#undef CU_LATER
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static cu_api api;     /* written by load, once */
static peri_error why; /* code 0: usable */

static void find_functions(void *library) {
    cu_get_proc_address_fn get;
    void *symbol = dlsym(library, "cuGetProcAddress");
    void **slot = (void **)(void *)&api;
    if (!symbol) {
        peri_plugin_fail(&why, PERI_E_NO_DRIVER,
                         "libcuda.so.1 is older than CUDA 11.3: it has no cuGetProcAddress");
        return;
    }
    memcpy(&get, &symbol, sizeof get);
    for (size_t i = 0; i < sizeof functions / sizeof functions[0] && !why.code; i++) {
        CUresult rc = get(functions[i].name, &slot[i], functions[i].version, 0);
        if (rc == CUDA_SUCCESS && slot[i]) continue;
        slot[i] = NULL;
        if (functions[i].is_required)
            peri_plugin_fail(
                &why, PERI_E_NO_DRIVER, "libcuda.so.1 has no function %s of CUDA %d.%d (%d)",
                functions[i].name, CU_ABI_VERSION / 1000, CU_ABI_VERSION % 1000 / 10, rc);
    }
}

/* A library without a driver behind it, or without a device, is as good as none. */
static void start(void) {
    CUresult rc = api.cuInit(0);
    if (rc == CUDA_SUCCESS) return;
    cu_fail(&api, &why, "libcuda.so.1 is there, but cuInit", rc);
    if (why.code != PERI_E_NO_DEVICE) why.code = PERI_E_NO_DRIVER;
}

static void load(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *text = dlerror();
        int is_missing = text && strstr(text, "No such file") != NULL;
        peri_plugin_fail(&why, PERI_E_NO_DRIVER, "%s",
                         is_missing || !text ? "libcuda.so.1 not found" : text);
        return;
    }
    find_functions(library);
    if (!why.code) start();
}

const cu_api *cu_load(peri_error *e) {
    pthread_once(&once, load);
    if (!why.code) return &api;
    *e = why;
    return NULL;
}

/* After these nothing runs in the context any more. */
static bool is_lost(CUresult code) {
    switch (code) {
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
        return true;
    }
    return false;
}

int32_t cu_fail(const cu_api *cu, peri_error *e, const char *what, CUresult code) {
    const char *name = NULL;
    int32_t status = code == CUDA_ERROR_OUT_OF_MEMORY ? PERI_E_NOMEM
                     : code == CUDA_ERROR_NO_DEVICE   ? PERI_E_NO_DEVICE
                     : is_lost(code)                  ? PERI_E_DEVICE_LOST
                                                      : PERI_E_OTHER;
    if (cu->cuGetErrorName(code, &name) != CUDA_SUCCESS || !name) name = "error";
    return peri_plugin_fail(e, status, "%s: %s (%d)", what, name, code);
}
