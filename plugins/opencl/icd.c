/* SPDX-License-Identifier: MIT
 *
 * icd.c - libOpenCL.so.1, loaded when first asked for and never unloaded: drivers keep threads in
 * this process.  Nothing is linked, so that the plugin loads where there is no OpenCL. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "ocl.h"

static const char *const names[] = {
#define CL_FUNCTION(name) #name,
#include "icd.def"
#undef CL_FUNCTION
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static ocl_api api; /* written by load, once */
static char why[200];

static void load(void) {
    void *library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
    void **slot = (void **)(void *)&api;
    if (!library) {
        const char *text = dlerror();
        int is_missing = text && strstr(text, "No such file") != NULL;
        snprintf(why, sizeof why, "%s", is_missing || !text ? "libOpenCL.so.1 not found" : text);
        return;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !why[0]; i++) {
        slot[i] = dlsym(library, names[i]);
        if (!slot[i]) snprintf(why, sizeof why, "libOpenCL.so.1 has no function %s", names[i]);
    }
}

const ocl_api *ocl_load(peri_error *e) {
    pthread_once(&once, load);
    if (!why[0]) return &api;
    peri_plugin_fail(e, PERI_E_NO_DRIVER, "%s", why);
    return NULL;
}

const char *ocl_error_name(cl_int code) {
    static const struct {
        cl_int code;
        const char *name;
    } known[] = {
#define CODE(name) {name, #name}
        CODE(CL_DEVICE_NOT_FOUND),
        CODE(CL_DEVICE_NOT_AVAILABLE),
        CODE(CL_COMPILER_NOT_AVAILABLE),
        CODE(CL_MEM_OBJECT_ALLOCATION_FAILURE),
        CODE(CL_OUT_OF_RESOURCES),
        CODE(CL_OUT_OF_HOST_MEMORY),
        CODE(CL_BUILD_PROGRAM_FAILURE),
        CODE(CL_MAP_FAILURE),
        CODE(CL_INVALID_VALUE),
        CODE(CL_INVALID_DEVICE),
        CODE(CL_INVALID_CONTEXT),
        CODE(CL_INVALID_COMMAND_QUEUE),
        CODE(CL_INVALID_HOST_PTR),
        CODE(CL_INVALID_MEM_OBJECT),
        CODE(CL_INVALID_BINARY),
        CODE(CL_INVALID_BUILD_OPTIONS),
        CODE(CL_INVALID_PROGRAM_EXECUTABLE),
        CODE(CL_INVALID_KERNEL_NAME),
        CODE(CL_INVALID_ARG_INDEX),
        CODE(CL_INVALID_ARG_SIZE),
        CODE(CL_INVALID_KERNEL_ARGS),
        CODE(CL_INVALID_WORK_GROUP_SIZE),
        CODE(CL_INVALID_BUFFER_SIZE),
        {-1001, "no platform is installed"}, /* CL_PLATFORM_NOT_FOUND_KHR */
#undef CODE
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].code == code) return known[i].name;
    return "error";
}

int32_t ocl_fail(peri_error *e, const char *what, cl_int code) {
    int32_t status = PERI_E_OTHER;
    if (code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_RESOURCES ||
        code == CL_OUT_OF_HOST_MEMORY || code == CL_INVALID_BUFFER_SIZE)
        status = PERI_E_NOMEM;
    if (code == CL_DEVICE_NOT_AVAILABLE) status = PERI_E_DEVICE_LOST;
    return peri_plugin_fail(e, status, "%s: %s (%d)", what, ocl_error_name(code), (int)code);
}
