/* SPDX-License-Identifier: MIT
 *
 * fuzz_corpus.c - writes the seed inputs of fuzz_gguf to a folder: small whole files that between
 * them hold every value type, array, alignment and tensor type. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "gguf_writer.h"
#include "model/dtype.h"

static int save(const char *folder, const char *name, peri_gguf_writer *w) {
    char path[512];
    peri_text bytes = {0};
    gw_finish(w, &bytes);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    int ok = f != NULL && fwrite(bytes.data, 1, bytes.size, f) == bytes.size;
    if (f != NULL && fclose(f) != 0) ok = 0;
    if (!ok) fprintf(stderr, "fuzz_corpus: cannot write %s\n", path);
    peri_text_fini(&bytes);
    gw_fini(w);
    return ok;
}

static void all_keys(peri_gguf_writer *w) {
    static const char *const words[] = {"a", "", "abc"};
    static const int32_t ints[] = {1, 2, -3};
    static const float floats[] = {1, 2};
    gw_str(w, "general.architecture", "llama");
    gw_u32(w, "llama.block_count", 1);
    gw_i32(w, "i", -1);
    gw_u64(w, "u", 1);
    gw_f32(w, "f", 1e-5f);
    gw_bool(w, "b", 1);
    gw_strs(w, "tokenizer.ggml.tokens", words, 3);
    gw_i32s(w, "ints", ints, 3);
    gw_f32s(w, "floats", floats, 2);
}

/* One small tensor of every type, 2 rows of one block. */
static void all_tensors(peri_gguf_writer *w) {
    static const char zeros[2 * 512];
    for (uint32_t i = 0; i < 64; i++) {
        const peri_dtype_info *t = peri_dtype_get(i);
        if (t == NULL) continue;
        gw_tensor(w, t->name, i, (int64_t[]){2, t->block_elements}, 2, zeros, 2 * t->block_bytes);
    }
}

int main(int argc, char **argv) {
    static const char four[16];
    peri_gguf_writer w;
    int ok = 1;
    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_corpus FOLDER\n");
        return 2;
    }
    mkdir(argv[1], 0777);
    gw_init(&w);
    ok &= save(argv[1], "empty", &w);
    gw_init(&w);
    all_keys(&w);
    ok &= save(argv[1], "keys", &w);
    gw_init(&w);
    all_tensors(&w);
    ok &= save(argv[1], "tensors", &w);
    gw_init(&w);
    w.version = 2;
    w.alignment = 8;
    gw_u32(&w, "general.alignment", 8);
    all_keys(&w);
    gw_tensor(&w, "t", PERI_DT_F32, (int64_t[]){1, 2, 1, 2}, 4, four, 16);
    gw_tensor(&w, "s", PERI_DT_F32, (int64_t[]){1}, 1, four, 4);
    ok &= save(argv[1], "v2", &w);
    gw_init(&w);
    gw_u32(&w, "split.no", 0);
    gw_u32(&w, "split.count", 1);
    gw_i32(&w, "split.tensors.count", 0);
    ok &= save(argv[1], "split", &w);
    return ok ? 0 : 1;
}
