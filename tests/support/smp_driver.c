/* SPDX-License-Identifier: MIT
 *
 * smp_driver.c - the sampler on the command line, for tests/peer/samplers.py: the same input and
 * output as tests/peer/peer_samplers.py.
 *
 *   smp_driver cases MODEL|- LOGITS N_VOCAB CASES
 *       LOGITS: f32 rows of N_VOCAB.  CASES: a line each, fields separated by tabs: rows "0,3,1"
 *       (one pick from each, in turn), tokens before "5,9,9" or "-", then NAME=VALUE fields over
 *       everything off.  Prints per pick "CHOSEN ID:P ..." by falling P, and a line "." per case.
 *   smp_driver time N_VOCAB N [NAME=VALUE ...]
 *       microseconds of the fastest of N picks, random logits, no tokens before */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/io.h"
#include "run/sampler.h"

enum { MAX_TOKENS = 1 << 16 };

static int report(const peri_error *err) {
    fprintf(stderr, "smp_driver: %s\n", err->text);
    return 1;
}

/* Comma-separated numbers into dst; their count. */
static int32_t numbers(const char *text, int32_t *dst) {
    int32_t n = 0;
    for (char *end; n < MAX_TOKENS; text = end + 1) {
        long x = strtol(text, &end, 10);
        if (end == text) break;
        dst[n++] = (int32_t)x;
        if (*end != ',') break;
    }
    return n;
}

static void print_survivors(peri_sampler *s, int32_t chosen) {
    const peri_candidate *c;
    size_t n = peri_sampler_survivors(s, &c);
    printf("%d", chosen);
    for (size_t i = 0; i < n; i++)
        printf(" %d:%.9g", c[i].id, (double)c[i].p);
    printf("\n");
}

static peri_status one_case(char *line, const float *logits, const peri_sampler_vocab *v,
                            peri_error *err) {
    static int32_t tok[MAX_TOKENS], row[MAX_TOKENS];
    char *field = strchr(line, '\t'), *next;
    int32_t n_row = numbers(line, row), n_tok = field ? numbers(field + 1, tok) : 0;
    peri_sampling p;
    peri_sampler *s = NULL;
    peri_arena *a = peri_arena_new();
    peri_status st = peri_sampling_init(&p, PERI_ORIGIN_OFF, NULL, err);
    field = field ? strchr(field + 1, '\t') : NULL;
    for (; field && !st; field = next) {
        next = strchr(++field, '\t');
        if (next) *next = 0;
        st = peri_sampling_apply(&p, a, field, err);
    }
    if (!st) st = peri_sampler_new(&p, v, &s, err);
    for (int32_t i = 0; i < n_row && !st && n_tok < MAX_TOKENS; i++) {
        st = peri_sampler_pick(s, logits + (size_t)row[i] * (size_t)v->n_vocab, tok, n_tok,
                               &tok[n_tok], err);
        if (!st) print_survivors(s, tok[n_tok++]);
    }
    printf(".\n");
    peri_sampler_free(s);
    peri_arena_free(a);
    return st;
}

static int run_cases(char **arg) {
    peri_error err;
    peri_gguf *g = NULL;
    peri_tokenizer *t = NULL;
    char *logits = NULL, *cases = NULL;
    size_t n_logit, n_case;
    peri_sampler_vocab v = {.n_vocab = (int32_t)strtol(arg[2], NULL, 10), .n_ctx = MAX_TOKENS - 2};
    peri_status st = PERI_OK;
    if (strcmp(arg[0], "-") != 0) {
        st = peri_gguf_open(arg[0], &g, &err);
        if (!st) st = peri_tokenizer_new(g, &t, &err);
    }
    v.tokenizer = t;
    if (!st) st = peri_sampler_scratch_new(v.n_vocab, &v.scratch, &err);
    if (!st && t) st = peri_token_table_new(t, (peri_token_table **)(void *)&v.table, &err);
    if (!st) st = peri_file_read(arg[1], 1u << 30, &logits, &n_logit, &err);
    if (!st) st = peri_file_read(arg[3], 1u << 30, &cases, &n_case, &err);
    for (char *line = cases, *end; !st && line && *line; line = end + 1) {
        end = strchr(line, '\n');
        *end = 0;
        st = one_case(line, (const float *)(const void *)logits, &v, &err);
    }
    peri_free(logits);
    peri_free(cases);
    peri_sampler_scratch_free(v.scratch);
    peri_token_table_free((peri_token_table *)(uintptr_t)v.table);
    peri_tokenizer_free(t);
    peri_gguf_close(g);
    return st ? report(&err) : 0;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Sums of uniform numbers: about normal, deviation 2.5. */
static void fill_logits(float *logits, int32_t n) {
    uint32_t x = 1;
    for (int32_t i = 0; i < n; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++)
            sum += (float)((x = x * 1664525u + 1013904223u) >> 8) / (float)(1 << 24) - 0.5f;
        logits[i] = sum * 4.33f;
    }
}

static int measure(int n_arg, char **arg) {
    peri_error err;
    peri_sampling p;
    peri_sampler *s = NULL;
    peri_sampler_vocab v = {.n_vocab = (int32_t)strtol(arg[0], NULL, 10), .n_ctx = 1 << 20};
    long repeat = strtol(arg[1], NULL, 10);
    float *logits = v.n_vocab > 0 ? peri_alloc_array((size_t)v.n_vocab, sizeof *logits) : NULL;
    peri_arena *a = peri_arena_new();
    double best = INFINITY, sum = 0;
    peri_status st = peri_sampling_init(&p, PERI_ORIGIN_RUN, NULL, &err);
    for (int i = 2; i < n_arg && !st; i++)
        st = peri_sampling_apply(&p, a, arg[i], &err);
    if (!st) st = peri_sampler_new(&p, &v, &s, &err);
    if (!st) fill_logits(logits, v.n_vocab);
    for (long i = 0; i < repeat && !st; i++) {
        static int32_t tok[1];
        int32_t id;
        double from = now();
        st = peri_sampler_pick(s, logits, tok, 0, &id, &err);
        double took = now() - from;
        sum += took;
        if (took < best) best = took;
    }
    if (!st) printf("%.1f us fastest, %.1f us mean\n", best * 1e6, sum * 1e6 / (double)repeat);
    peri_sampler_free(s);
    peri_arena_free(a);
    peri_free(logits);
    return st ? report(&err) : 0;
}

int main(int argc, char **argv) {
    if (argc == 6 && strcmp(argv[1], "cases") == 0) return run_cases(argv + 2);
    if (argc >= 4 && strcmp(argv[1], "time") == 0) return measure(argc - 2, argv + 2);
    fprintf(stderr, "usage: smp_driver cases MODEL|- LOGITS N_VOCAB CASES | time N_VOCAB N ...\n");
    return 2;
}
