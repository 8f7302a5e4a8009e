/* SPDX-License-Identifier: MIT
 *
 * device.c - which devices the installed drivers offer, and what they say of themselves.
 *
 * Usable: little endian, with a compiler, OpenCL 1.2 or later.  Where it is: the PCI address, by
 * the common query, else by the two makers' own; a processor has none and is a part of the host,
 * seen through this plugin, and so emulated. */
#include <stdio.h>
#include <string.h>

#include "ocl.h"

enum { PLATFORMS = 16, PCI_COMMON = 0x410f, PCI_AMD = 0x4037, BUS_NV = 0x4008, SLOT_NV = 0x4009 };

uint64_t ocl_number(const ocl_api *cl, cl_device_id id, cl_device_info what) {
    uint64_t v = 0; /* little endian: narrower answers fill the lower bytes */
    return cl->clGetDeviceInfo(id, what, sizeof v, &v, NULL) == CL_SUCCESS ? v : 0;
}

void ocl_text(const ocl_api *cl, cl_device_id id, cl_device_info what, char *out, size_t room) {
    char text[2048] = "";
    if (cl->clGetDeviceInfo(id, what, sizeof text - 1, text, NULL) != CL_SUCCESS) text[0] = 0;
    snprintf(out, room, "%s", text + strspn(text, " "));
}

/* Why a device cannot be used; false when it can. */
static bool is_refused(const ocl_api *cl, cl_device_id id, char why[200]) {
    char name[64], version[64];
    int major = 0, minor = 0;
    ocl_text(cl, id, CL_DEVICE_NAME, name, sizeof name);
    ocl_text(cl, id, CL_DEVICE_VERSION, version, sizeof version);
    const char *text = sscanf(version, "OpenCL %d.%d", &major, &minor) != 2 ? "has no version"
                       : major * 10 + minor < 12                  ? "is older than OpenCL 1.2"
                       : !ocl_number(cl, id, CL_DEVICE_AVAILABLE) ? "is not available"
                       : !ocl_number(cl, id, CL_DEVICE_COMPILER_AVAILABLE) ? "has no compiler"
                       : !ocl_number(cl, id, CL_DEVICE_ENDIAN_LITTLE)      ? "is big endian"
                                                                           : NULL;
    if (text) snprintf(why, 200, "device %s %s", name, text);
    return text != NULL;
}

/* Add the usable devices of one platform. */
static void find_on(const ocl_api *cl, cl_platform_id platform, ocl_found *out, uint32_t *n,
                    char why[200]) {
    cl_device_id id[OCL_DEVICES];
    cl_uint n_id = 0;
    char name[64] = "?";
    cl->clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof name - 1, name, NULL);
    cl_int rc = cl->clGetDeviceIDs(
        platform, CL_DEVICE_TYPE_CPU | CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_ACCELERATOR, OCL_DEVICES,
        id, &n_id);
    if (rc != CL_SUCCESS || n_id == 0)
        snprintf(why, 200, "platform %s: %s (%d)", name,
                 rc == CL_SUCCESS ? "no device" : ocl_error_name(rc), (int)rc);
    for (cl_uint i = 0; rc == CL_SUCCESS && i < n_id && i < OCL_DEVICES && *n < OCL_DEVICES; i++)
        if (!is_refused(cl, id[i], why)) out[(*n)++] = (ocl_found){platform, id[i]};
}

int32_t ocl_find(const ocl_api *cl, const peri_host *h, ocl_found out[OCL_DEVICES], uint32_t *n,
                 peri_error *e) {
    cl_platform_id platform[PLATFORMS];
    cl_uint n_platform = 0;
    char why[200] = "";
    *n = 0;
    cl_int rc = cl->clGetPlatformIDs(PLATFORMS, platform, &n_platform);
    if (rc == CL_SUCCESS && n_platform == 0) rc = -1001;
    if (rc != CL_SUCCESS)
        return peri_plugin_fail(e, PERI_E_NO_DRIVER, "libOpenCL.so.1 is there, but %s (%d)",
                                ocl_error_name(rc), (int)rc);
    for (cl_uint i = 0; i < n_platform && i < PLATFORMS; i++)
        find_on(cl, platform[i], out, n, why);
    if (*n == 0) return peri_plugin_fail(e, PERI_E_NO_DEVICE, "no usable device: %s", why);
    if (why[0]) h->log(0, why);
    return PERI_OK;
}

/* "pci:0000:3b:00.0", or "host#N" for the N-th of all that is a processor. */
static void locate(const ocl_api *cl, cl_device_id id, uint32_t index, char out[32]) {
    cl_uint common[4] = {0}, bus = 0, slot = 0;
    unsigned char amd[24] = {0}; /* type, unused.., bus, device, function in the last three bytes */
    if (cl->clGetDeviceInfo(id, PCI_COMMON, sizeof common, common, NULL) == CL_SUCCESS)
        snprintf(out, 32, "pci:%04x:%02x:%02x.%x", common[0], common[1], common[2], common[3]);
    else if (cl->clGetDeviceInfo(id, PCI_AMD, sizeof amd, amd, NULL) == CL_SUCCESS && amd[0] == 1)
        snprintf(out, 32, "pci:0000:%02x:%02x.%x", amd[21], amd[22], amd[23]);
    else if (cl->clGetDeviceInfo(id, BUS_NV, sizeof bus, &bus, NULL) == CL_SUCCESS &&
             cl->clGetDeviceInfo(id, SLOT_NV, sizeof slot, &slot, NULL) == CL_SUCCESS)
        snprintf(out, 32, "pci:0000:%02x:%02x.%x", bus, slot >> 3, slot & 7);
    else
        snprintf(out, 32, "host#%u", index);
}

void ocl_describe(const ocl_api *cl, const ocl_found *f, uint32_t index, uint32_t n,
                  const char *shape, peri_dev_info *out) {
    char version[64];
    bool is_cpu = (ocl_number(cl, f->id, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU) != 0;
    *out = (peri_dev_info){.size = sizeof *out,
                           .flags = PERI_DEV_BATCH_INVARIANT | (is_cpu ? PERI_DEV_EMULATED : 0),
                           .name = "opencl",
                           .mem_total = ocl_number(cl, f->id, CL_DEVICE_GLOBAL_MEM_SIZE)};
    if (n > 1) snprintf(out->name, sizeof out->name, "opencl:%u", index);
    ocl_text(cl, f->id, CL_DEVICE_NAME, out->model, sizeof out->model);
    ocl_text(cl, f->id, CL_DEVICE_VERSION, version, sizeof version);
    size_t word = strcspn(version, " ");
    word += version[word] == ' ';
    snprintf(out->isa, sizeof out->isa, "%.*s%s%s", (int)(word + strcspn(version + word, " ")),
             version, shape ? ", " : "", shape ? shape : "");
    locate(cl, f->id, index, out->location);
}
