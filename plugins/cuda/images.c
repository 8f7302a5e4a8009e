/* SPDX-License-Identifier: MIT
 *
 * images.c - the kernels as nvcc made them, one fatbin for each CU_IMAGE of kernels.def, laid into
 * the plugin by the assembler.  Without CU_IMAGE_DIR there are none. */
#include "cu.h"

#ifdef CU_IMAGE_DIR
#define CU_IMAGE(file)                                                                             \
    __asm__(".pushsection .rodata, \"a\"\n"                                                        \
            ".balign 64\n"                                                                         \
            ".hidden cu_fatbin_" #file "\n.global cu_fatbin_" #file "\n"                           \
            "cu_fatbin_" #file ":\n"                                                               \
            ".incbin \"" CU_IMAGE_DIR "/" #file ".fatbin\"\n"                                      \
            ".hidden cu_fatbin_" #file "_end\n.global cu_fatbin_" #file "_end\n"                   \
            "cu_fatbin_" #file "_end:\n.byte 0\n"                                                  \
            ".popsection\n");                                                                      \
    extern const unsigned char cu_fatbin_##file[], cu_fatbin_##file##_end[];
#include "kernels.def"

cu_image cu_image_at(uint32_t i) {
    static const struct {
        const unsigned char *at, *end;
    } images[] = {
#define CU_IMAGE(file) {cu_fatbin_##file, cu_fatbin_##file##_end},
#include "kernels.def"
    };
    return (cu_image){images[i].at, (size_t)(images[i].end - images[i].at)};
}
#else
cu_image cu_image_at(uint32_t i) {
    (void)i;
    return (cu_image){NULL, 0};
}
#endif
