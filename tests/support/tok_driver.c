/* SPDX-License-Identifier: MIT
 *
 * tok_driver.c - the tokenizer on the command line, for tests/peer/tokenizers.py: the same modes
 * and output as tests/peer/peer_tokens.py.
 *
 *   tok_driver info   MODEL...
 *   tok_driver encode MODEL INPUTS [special] [parse]   INPUTS: NUL-separated; one line of ids each
 *   tok_driver decode MODEL IDS [unparse] [stream]     IDS: one line of ids each; one line of hex
 * each tok_driver pieces MODEL [unparse]                  hex of every token, one per line
 *   tok_driver time   MODEL TEXT N                     CPU seconds of the fastest of N encodings */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/text.h"
#include "model/tokenizer.h"

static bool has(int n, char **v, const char *word) {
    for (int i = 0; i < n; i++)
        if (strcmp(v[i], word) == 0) return true;
    return false;
}

static void print_hex(const peri_text *b) {
    for (size_t i = 0; i < b->size; i++)
        printf("%02x", (unsigned)(unsigned char)b->data[i]);
    printf("\n");
}

static int report(const peri_error *err) {
    fprintf(stderr, "tok_driver: %s\n", err->text);
    return 1;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int encode(const peri_tokenizer *t, const char *path, int n_opt, char **opt) {
    peri_error err;
    char *data;
    size_t size;
    if (peri_file_read(path, 1u << 30, &data, &size, &err)) return report(&err);
    peri_tokenize_options o = {.size = sizeof o,
                               .add_special = has(n_opt, opt, "special"),
                               .parse_special = has(n_opt, opt, "parse")};
    for (size_t i = 0; i <= size;) {
        const char *end = memchr(data + i, '\0', size - i);
        size_t len = end ? (size_t)(end - data) - i : size - i;
        int32_t *ids;
        size_t n;
        if (peri_tokenize(t, (peri_str){data + i, len}, &o, &ids, &n, &err)) return report(&err);
        for (size_t k = 0; k < n; k++)
            printf("%s%d", k ? " " : "", (int)ids[k]);
        printf("\n");
        peri_free(ids);
        i += len + 1;
    }
    peri_free(data);
    return 0;
}

static int decode(const peri_tokenizer *t, const char *path, int n_opt, char **opt) {
    peri_error err;
    char *data;
    size_t size, room = 1 << 16;
    bool special = has(n_opt, opt, "unparse"), stream = has(n_opt, opt, "stream");
    if (peri_file_read(path, 1u << 30, &data, &size, &err)) return report(&err);
    int32_t *ids = peri_alloc_array(room, sizeof *ids);
    for (char *line = data; *line;) {
        char *end = strchr(line, '\n');
        size_t n = 0;
        while (line < end && n < room) {
            ids[n++] = (int32_t)strtol(line, &line, 10);
            line += *line == ' ';
        }
        line = end + 1;
        peri_text out = {0};
        peri_detok d;
        peri_detok_init(&d, t, special);
        peri_status s = stream ? PERI_OK : peri_detokenize(t, ids, n, special, &out, &err);
        for (size_t i = 0; stream && s == PERI_OK && i < n; i++)
            s = peri_detok_feed(&d, ids[i], &out, &err);
        if (s != PERI_OK) return report(&err);
        peri_detok_end(&d, &out);
        print_hex(&out);
        peri_text_fini(&out);
    }
    peri_free(ids);
    peri_free(data);
    return 0;
}

static int pieces(const peri_tokenizer *t, bool special) {
    peri_error err;
    for (int32_t i = 0; i < peri_tokenizer_n_vocab(t); i++) {
        peri_text out = {0};
        if (peri_token_text(t, i, special, &out, &err)) return report(&err);
        print_hex(&out);
        peri_text_fini(&out);
    }
    return 0;
}

static int measure(const peri_tokenizer *t, const char *path, int repeat) {
    peri_error err;
    char *data;
    size_t size, n = 0;
    if (peri_file_read(path, 1u << 30, &data, &size, &err)) return report(&err);
    peri_tokenize_options o = {.size = sizeof o};
    double best = 1e9;
    for (int i = 0; i < repeat; i++) {
        int32_t *ids;
        double from = now();
        if (peri_tokenize(t, (peri_str){data, size}, &o, &ids, &n, &err)) return report(&err);
        double took = now() - from;
        if (took < best) best = took;
        peri_free(ids);
    }
    printf("%.6f %zu\n", best, n);
    peri_free(data);
    return 0;
}

static int info(const char *path) {
    peri_error err;
    peri_gguf *g = NULL;
    peri_tokenizer *t = NULL;
    const char *name = strrchr(path, '/');
    peri_status s = peri_gguf_open(path, &g, &err);
    if (s == PERI_OK) s = peri_tokenizer_new(g, &t, &err);
    printf("%s ", name ? name + 1 : path);
    if (s != PERI_OK) {
        printf("refused: %s\n", err.text);
    } else {
        printf("kind=%s pre=%s bos=%d eos=%d n_tokens=%d eog=", peri_tokenizer_kind(t),
               peri_tokenizer_pre(t), (int)peri_tokenizer_bos(t), (int)peri_tokenizer_eos(t),
               (int)peri_tokenizer_n_vocab(t));
        const char *comma = "";
        for (int32_t i = 0; i < peri_tokenizer_n_vocab(t); i++) {
            if (!peri_token_is_eog(t, i)) continue;
            printf("%s%d", comma, (int)i);
            comma = ",";
        }
        printf("\n");
    }
    peri_tokenizer_free(t);
    peri_gguf_close(g);
    return 0;
}

int main(int argc, char **argv) {
    peri_error err;
    peri_gguf *g;
    peri_tokenizer *t;
    if (argc < 3) {
        fprintf(stderr, "usage: tok_driver info|encode|decode|pieces|time MODEL ...\n");
        return 2;
    }
    if (strcmp(argv[1], "info") == 0) {
        for (int i = 2; i < argc; i++)
            info(argv[i]);
        return 0;
    }
    if (peri_gguf_open(argv[2], &g, &err)) return report(&err);
    if (peri_tokenizer_new(g, &t, &err)) return report(&err);
    int rc = 2;
    if (strcmp(argv[1], "encode") == 0 && argc > 3) rc = encode(t, argv[3], argc - 4, argv + 4);
    if (strcmp(argv[1], "decode") == 0 && argc > 3) rc = decode(t, argv[3], argc - 4, argv + 4);
    if (strcmp(argv[1], "pieces") == 0) rc = pieces(t, has(argc - 3, argv + 3, "unparse"));
    if (strcmp(argv[1], "time") == 0 && argc > 4) rc = measure(t, argv[3], atoi(argv[4]));
    peri_tokenizer_free(t);
    peri_gguf_close(g);
    return rc;
}
