/* SPDX-License-Identifier: MIT
 *
 * tiny_model.c - tiny_model ARCH TYPE SEED OUT: write a tiny random model (gguf_tiny.c), for
 * scripts. TYPE is a name of dtype.def, such as Q8_0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "gguf_writer.h"
#include "model/dtype.h"

int main(int argc, char **argv) {
    peri_gguf_writer w;
    peri_text file = {0};
    const peri_dtype_info *type =
        argc == 5 ? peri_dtype_find((peri_str){argv[2], strlen(argv[2])}) : NULL;
    if (!type) {
        fprintf(stderr, "tiny_model: expected ARCH TYPE SEED OUT%s\n",
                argc == 5 ? "; unknown type" : "");
        return 2;
    }
    gw_init(&w);
    gw_tiny_model(&w, argv[1], type->number, strtoull(argv[3], NULL, 10));
    gw_finish(&w, &file);
    gw_fini(&w);
    FILE *out = fopen(argv[4], "wb");
    int is_good = out && !file.failed && fwrite(file.data, 1, file.size, out) == file.size;
    if (out && fclose(out) != 0) is_good = 0;
    if (!is_good) fprintf(stderr, "tiny_model: %s cannot be written\n", argv[4]);
    peri_text_fini(&file);
    return is_good ? 0 : 1;
}
