/* SPDX-License-Identifier: MIT
 *
 * shape.c - which of the kernels' three shapes a device gets: the processor's, or one of a graphics
 * card's two (kernels-cl/group.clh).
 *
 * A processor gets vectors: there the others are several times slower (PoCL, Q8_0: 9 times with
 * neighbouring loads).  Everything else gets sub-groups when they can exchange values, else local
 * memory.  The option opencl.shape overrides; a wish that the device cannot fulfil is an error. */
#include <stdio.h>
#include <string.h>

#include "ocl.h"

/* Queries newer than OpenCL 1.2.  An array of cl_name_version: a number and 64 bytes of name. */
enum { MAX_SUB_GROUPS = 0x105c, C_VERSIONS = 0x1066, VERSIONS = 16, LOCAL_BYTES = 8192 };
typedef struct c_version {
    cl_uint version; /* major << 22 | minor << 12 | patch */
    char name[64];
} c_version;

static const char *const names[] = {"vector", "local", "subgroup"};

const char *ocl_shape_name(int32_t kind) {
    return names[kind];
}

static bool has_word(const char *text, const char *word) {
    size_t n = strlen(word);
    for (const char *p = text; (p = strstr(p, word)) != NULL; p += n)
        if ((p == text || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0)) return true;
    return false;
}

/* The language that has sub-groups here: 3.0, 2.0, or NULL. */
static const char *language(const ocl_api *cl, cl_device_id id, const char *extensions) {
    c_version v[VERSIONS];
    size_t bytes = 0;
    char text[64];
    int major = 0, minor = 0;
    if (ocl_number(cl, id, MAX_SUB_GROUPS) > 0 &&
        cl->clGetDeviceInfo(id, C_VERSIONS, sizeof v, v, &bytes) == CL_SUCCESS)
        for (size_t i = 0; i < bytes / sizeof v[0] && i < VERSIONS; i++)
            if (v[i].version >> 22 == 3) return "CL3.0";
    ocl_text(cl, id, CL_DEVICE_OPENCL_C_VERSION, text, sizeof text);
    bool is_two = sscanf(text, "OpenCL C %d.%d", &major, &minor) == 2 && major >= 2;
    return is_two && has_word(extensions, "cl_khr_subgroups") ? "CL2.0" : NULL;
}

/* Why the device cannot have a shape; NULL when it can. */
static const char *obstacle(const ocl_api *cl, cl_device_id id, int32_t kind, const char *std) {
    if (kind == OCL_VECTOR) return NULL;
    if (ocl_number(cl, id, CL_DEVICE_MAX_WORK_GROUP_SIZE) < OCL_LANES)
        return "its work-groups are smaller than 64";
    if (ocl_number(cl, id, CL_DEVICE_LOCAL_MEM_SIZE) < LOCAL_BYTES)
        return "it has less than 8 KiB of local memory";
    return kind == OCL_LOCAL || std ? NULL : "it has no sub-groups";
}

/* Not one of the names: say which of them the device can have. */
static int32_t unknown(const ocl_api *cl, cl_device_id id, const char *want, const char *std,
                       peri_error *e) {
    bool has_local = !obstacle(cl, id, OCL_LOCAL, std);
    bool has_subgroup = !obstacle(cl, id, OCL_SUBGROUP, std);
    return peri_plugin_fail(e, PERI_E_INVALID,
                            "option opencl.shape: \"%.32s\" is unknown; there are vector%s", want,
                            has_subgroup ? ", local and subgroup"
                            : has_local  ? " and local"
                                         : " alone");
}

int32_t ocl_shape_get(const ocl_api *cl, const peri_host *h, cl_device_id id, ocl_shape *out,
                      peri_error *e) {
    char extensions[4096], model[64];
    const char *want = h->option("opencl.shape"), *why;
    int32_t kind = 0;
    ocl_text(cl, id, CL_DEVICE_EXTENSIONS, extensions, sizeof extensions);
    const char *std = language(cl, id, extensions);
    bool has_shuffle = has_word(extensions, "cl_khr_subgroup_shuffle");
    bool is_cpu = (ocl_number(cl, id, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU) != 0;
    if (!want) {
        kind = is_cpu ? OCL_VECTOR : std && has_shuffle ? OCL_SUBGROUP : OCL_LOCAL;
        if (obstacle(cl, id, kind, std)) kind = OCL_VECTOR;
    }
    while (want && kind < 3 && strcmp(want, names[kind]) != 0)
        kind++;
    if (kind == 3) return unknown(cl, id, want, std, e);
    why = obstacle(cl, id, kind, std);
    ocl_text(cl, id, CL_DEVICE_NAME, model, sizeof model);
    if (why)
        return peri_plugin_fail(e, PERI_E_INVALID, "option opencl.shape: no %s on device %s: %s",
                                names[kind], model, why);
    *out = (ocl_shape){.kind = kind,
                       .shuffle = kind == OCL_SUBGROUP && has_shuffle,
                       .std = kind == OCL_SUBGROUP ? std : "CL1.2"};
    return PERI_OK;
}
