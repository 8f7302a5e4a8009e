/* SPDX-License-Identifier: MIT
 *
 * opencl_icd.c - an OpenCL driver that crashes when its platforms are counted. */
#include <stdlib.h>

__attribute__((visibility("default"))) int clIcdGetPlatformIDsKHR(unsigned n, void **out,
                                                                  unsigned *n_out);
__attribute__((visibility("default"))) void *clGetExtensionFunctionAddress(const char *name);

int clIcdGetPlatformIDsKHR(unsigned n, void **out, unsigned *n_out) {
    (void)n, (void)out, (void)n_out;
    abort();
}

void *clGetExtensionFunctionAddress(const char *name) {
    (void)name;
    return (void *)(size_t)clIcdGetPlatformIDsKHR;
}
