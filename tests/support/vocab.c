/* SPDX-License-Identifier: MIT
 *
 * vocab.c - see vocab.h. */
#include "vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/status.h"
#include "base/text.h"
#include "harness.h"

enum { MAX_TOKEN = 2000 };

static struct {
    peri_gguf_writer w;
    char *token[MAX_TOKEN], *merge[MAX_TOKEN];
    float score[MAX_TOKEN];
    int32_t type[MAX_TOKEN];
    size_t n, n_merge;
    peri_gguf *g;
} v;

void vocab_begin(const char *model) {
    memset(&v, 0, sizeof v);
    gw_init(&v.w);
    gw_str(&v.w, "general.architecture", "test");
    gw_str(&v.w, "tokenizer.ggml.model", model);
}

int32_t vocab_add(int type, float score, const char *text) {
    assert_true(v.n < MAX_TOKEN);
    v.token[v.n] = peri_str_dup(peri_str_of(text));
    v.score[v.n] = score;
    v.type[v.n] = type;
    return (int32_t)v.n++;
}

void vocab_merge(const char *left_right) {
    assert_true(v.n_merge < MAX_TOKEN);
    v.merge[v.n_merge++] = peri_str_dup(peri_str_of(left_right));
}

void vocab_bytes(void) {
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        vocab_add(PERI_TOK_BYTE, 0, name);
    }
}

void vocab_alphabet(void) {
    unsigned next = 256;
    for (unsigned b = 0; b < 256; b++) {
        bool is_plain = (b >= 33 && b < 127) || (b > 160 && b != 173);
        unsigned cp = is_plain ? b : next++;
        char utf8[3] = {(char)cp, 0, 0};
        if (cp >= 128) {
            utf8[0] = (char)(0xC0 | cp >> 6);
            utf8[1] = (char)(0x80 | (cp & 63));
        }
        vocab_add(PERI_TOK_NORMAL, 0, utf8);
    }
}

peri_gguf_writer *vocab_writer(void) {
    return &v.w;
}

peri_tokenizer *vocab_open(void) {
    char path[] = "/tmp/perigee-test-vocab-XXXXXX";
    peri_text out = {0};
    peri_error err;
    peri_tokenizer *t;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    gw_strs(&v.w, "tokenizer.ggml.tokens", (const char **)v.token, v.n);
    gw_f32s(&v.w, "tokenizer.ggml.scores", v.score, v.n);
    gw_i32s(&v.w, "tokenizer.ggml.token_type", v.type, v.n);
    if (v.n_merge) gw_strs(&v.w, "tokenizer.ggml.merges", (const char **)v.merge, v.n_merge);
    gw_finish(&v.w, &out);
    assert_ok(peri_file_write(path, out.data, out.size, &err), err);
    peri_text_fini(&out);
    gw_fini(&v.w);
    for (size_t i = 0; i < v.n; i++)
        peri_free(v.token[i]);
    for (size_t i = 0; i < v.n_merge; i++)
        peri_free(v.merge[i]);
    assert_ok(peri_gguf_open(path, &v.g, &err), err);
    unlink(path);
    assert_ok(peri_tokenizer_new(v.g, &t, &err), err);
    return t;
}

void vocab_close(peri_tokenizer *t) {
    peri_tokenizer_free(t);
    peri_gguf_close(v.g);
    v.g = NULL;
}
