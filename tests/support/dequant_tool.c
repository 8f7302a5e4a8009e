/* SPDX-License-Identifier: MIT
 *
 * dequant_tool.c - `dequant_tool TYPE`: blocks of that type on stdin, their values as f32 on
 * stdout. It links the plugin's decoder directly; tests/peer/dequant.py compares it with the
 * peer's.  `dequant_tool` alone lists types. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ref.h"

static int list_types(void) {
    for (uint32_t i = 0; i < 256; i++)
        if (ref_can_dequant(i)) {
            peri_dtype_info t = peri_dtype_of(i);
            printf("%s %u %d %d\n", t.name, i, (int)t.n, (int)t.bytes);
        }
    return 0;
}

static int convert(uint32_t dtype) {
    peri_dtype_info t = peri_dtype_of(dtype);
    unsigned char block[512];
    float value[256];
    while (fread(block, (size_t)t.bytes, 1, stdin) == 1) {
        ref_dequant_row(dtype, block, value, t.n);
        if (fwrite(value, sizeof *value, (size_t)t.n, stdout) != (size_t)t.n) return 1;
    }
    return fflush(stdout) != 0;
}

int main(int argc, char **argv) {
    if (argc == 1) return list_types();
    for (uint32_t i = 0; i < 256; i++) {
        const char *name = peri_dtype_of(i).name;
        if (name && !strcmp(name, argv[1]) && ref_can_dequant(i)) return convert(i);
    }
    fprintf(stderr, "usage: dequant_tool [TYPE]; \"%s\" is no type that can be decoded\n", argv[1]);
    return 2;
}
