/* SPDX-License-Identifier: MIT
 *
 * fuzz_tokenizer.c - libFuzzer: any vocabulary, any text.
 *
 * Input: byte 0 picks the kind, byte 1 the pre-tokenizer, byte 2 switches; up to the first 0xFF
 * follow lines of the vocabulary: a first byte below 0x70 is the token's type (its low bits) and
 * score, another one says that the line is a merge; the rest is the text.  The file is made
 * well-formed, so that the work goes into the tokenizer.  Checked: every id lies in the vocabulary,
 * what a stream releases is whole UTF-8. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "gguf_writer.h"
#include "model/gguf_int.h"
#include "model/tok_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_LINES = 512 };

typedef struct lists {
    const char *token[MAX_LINES], *merge[MAX_LINES];
    float score[MAX_LINES];
    int32_t type[MAX_LINES];
    size_t n, n_merge;
} lists;

static const char *pre_name(uint8_t k) {
    static char all[4096];
    static char *name[256];
    static size_t n;
    if (n == 0) {
        tok_pre_list(all, sizeof all);
        for (char *save, *p = strtok_r(all, ", ", &save); p; p = strtok_r(NULL, ", ", &save))
            name[n++] = p;
    }
    return name[k % n];
}

/* Reads the lines; returns where the text starts. */
static size_t read_lines(const uint8_t *data, size_t size, lists *l) {
    size_t i = 3;
    while (i < size && data[i] != 0xFF && l->n < MAX_LINES && l->n_merge < MAX_LINES) {
        size_t end = i;
        while (end < size && data[end] != '\n' && data[end] != 0xFF && data[end] != 0)
            end++;
        char *text =
            peri_str_dup((peri_str){(const char *)data + i + 1, end > i ? end - i - 1 : 0});
        if (data[i] < 0x70) {
            l->type[l->n] = data[i] & 7;
            l->score[l->n] = -(float)(data[i] >> 3);
            l->token[l->n++] = text;
        } else {
            l->merge[l->n_merge++] = text;
        }
        i = end < size && data[end] != 0xFF ? end + 1 : end;
    }
    return i < size ? i + 1 : size;
}

static void write_vocabulary(const uint8_t *data, const lists *l, peri_text *out) {
    static const char *const kinds[] = {"llama", "gpt2", "bert", "t5", "whitespace"};
    peri_gguf_writer w;
    gw_init(&w);
    gw_str(&w, "general.architecture", "fuzz");
    gw_str(&w, "tokenizer.ggml.model", kinds[data[0] % 5]);
    gw_str(&w, "tokenizer.ggml.pre", pre_name(data[1]));
    gw_bool(&w, "tokenizer.ggml.add_bos_token", data[2] & 1);
    gw_bool(&w, "tokenizer.ggml.add_eos_token", 0);
    gw_bool(&w, "tokenizer.ggml.add_space_prefix", data[2] & 2);
    gw_bool(&w, "tokenizer.ggml.remove_extra_whitespaces", data[2] & 4);
    gw_u32(&w, "tokenizer.ggml.bos_token_id", 0);
    gw_u32(&w, "tokenizer.ggml.unknown_token_id", 1);
    gw_strs(&w, "tokenizer.ggml.tokens", l->token, l->n);
    gw_strs(&w, "tokenizer.ggml.merges", l->merge, l->n_merge);
    gw_f32s(&w, "tokenizer.ggml.scores", l->score, l->n);
    gw_i32s(&w, "tokenizer.ggml.token_type", l->type, l->n);
    gw_finish(&w, out);
    gw_fini(&w);
}

static void use(const peri_tokenizer *t, peri_str text, bool parse) {
    peri_tokenize_options o = {.size = sizeof o, .add_special = true, .parse_special = parse};
    peri_error err;
    int32_t *ids;
    size_t n;
    if (peri_tokenize(t, text, &o, &ids, &n, &err)) return;
    peri_text out = {0};
    peri_detok d;
    peri_detok_init(&d, t, parse);
    for (size_t i = 0; i < n; i++)
        if (peri_detok_feed(&d, ids[i], &out, &err)) abort();
    peri_detok_end(&d, &out);
    if (out.size && tok_utf8_check((const uint8_t *)out.data, out.size, 0) != out.size) abort();
    out.size = 0;
    if (peri_detokenize(t, ids, n, parse, &out, &err)) abort();
    peri_text_fini(&out);
    peri_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4) return 0;
    lists *l = peri_calloc(1, sizeof *l);
    size_t at = read_lines(data, size, l);
    peri_text file = {0};
    write_vocabulary(data, l, &file);
    peri_error err;
    peri_gguf *g = NULL;
    peri_tokenizer *t = NULL;
    if (peri_gguf_open_bytes("input", (const uint8_t *)file.data, file.size, &g, &err)) abort();
    if (peri_tokenizer_new(g, &t, &err) == PERI_OK) {
        peri_str text = {(const char *)data + at, size - at};
        use(t, text, false);
        use(t, text, true);
    }
    peri_tokenizer_free(t);
    peri_gguf_close(g);
    peri_text_fini(&file);
    for (size_t i = 0; i < l->n; i++)
        peri_free((void *)l->token[i]);
    for (size_t i = 0; i < l->n_merge; i++)
        peri_free((void *)l->merge[i]);
    peri_free(l);
    return 0;
}
