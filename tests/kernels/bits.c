/* SPDX-License-Identifier: MIT
 *
 * bits.c - `kernel_bits LEVEL` prints a line for each operation, type and shape that the CPU plugin
 * computes on a level: a hash of the result's bits.  `kernel_bits --levels` prints the names of the
 * levels that this processor has, best first.
 *
 * Two such lists must be equal whatever the level and the processor (op.def, "Numerics"):
 * tests/kernels/aarch64.sh compares an emulated processor's with this one's.  The cases are small,
 * because emulation is slow; test_cpu_*.c look closer, on one processor at a time.  Left out is
 * what the reference code computes with libm on every level (ROPE, ROUTE, two ACT): C says how
 * precise, not which bits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "prog.h"
#include "ref.h"

static const uint16_t types[] = {
    PERI_CPU_F32,     PERI_CPU_F16,    PERI_CPU_BF16,  PERI_CPU_Q4_0,    PERI_CPU_Q4_1,
    PERI_CPU_Q5_0,    PERI_CPU_Q5_1,   PERI_CPU_Q8_0,  PERI_CPU_Q2_K,    PERI_CPU_Q3_K,
    PERI_CPU_Q4_K,    PERI_CPU_Q5_K,   PERI_CPU_Q6_K,  PERI_CPU_IQ1_S,   PERI_CPU_IQ1_M,
    PERI_CPU_IQ2_XXS, PERI_CPU_IQ2_XS, PERI_CPU_IQ2_S, PERI_CPU_IQ3_XXS, PERI_CPU_IQ3_S,
    PERI_CPU_IQ4_NL,  PERI_CPU_IQ4_XS, PERI_CPU_TQ1_0, PERI_CPU_TQ2_0,   PERI_CPU_MXFP4,
    PERI_CPU_NVFP4,   PERI_CPU_Q1_0,   PERI_CPU_Q2_0};
enum { N_TYPE = sizeof types / sizeof types[0], N_MAX = 1 << 17 };

static peri_dev *dev;
static float x[N_MAX], x2[N_MAX];

/* Source: Fowler, Noll, Vo: FNV-1a, 64 bits */
static uint64_t hash(uint64_t h, const void *data, size_t bytes) {
    const unsigned char *p = data;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}
static const uint64_t HASH0 = 0xcbf29ce484222325u;

/* Runs p, prints the line of its first output or, without one, of `written`, and frees p. */
static void show(const char *what, prog *p, const void *written, size_t bytes) {
    static float y[N_MAX];
    peri_error e = {0};
    if (prog_run(p, &e)) {
        fprintf(stderr, "kernel_bits: %s: %s\n", what, e.text);
        exit(1);
    }
    if (p->n_out) {
        bytes = (size_t)prog_size(p, p->n_in) * sizeof *y;
        if (bytes > sizeof y) abort();
        prog_get(p, 0, y);
        written = y;
    }
    printf("%-40s %016llx\n", what, (unsigned long long)hash(HASH0, written, bytes));
    prog_free(p);
}

/* ---- products ---- */

static void linear(uint16_t dtype, int64_t m, int64_t n, int32_t n_tok) {
    char what[64];
    peri_dtype_info t = peri_dtype_of(dtype);
    peri_linear_attr a = {.size = sizeof a};
    unsigned char *w = malloc((size_t)(m * n / t.n * t.bytes));
    if (!w) abort();
    prog_blocks(dtype, w, m * n / t.n, (uint64_t)(dtype + n));
    prog *p = prog_new(dev, n_tok);
    p->code = PERI_OP_LINEAR;
    prog_in(p, DIMS(1, 1, -PERI_SYM_T, n), x, 0);
    prog_weight(p, dtype, DIMS(1, 1, m, n), w);
    prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
    prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
    prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, m), 0);
    prog_attr(p, &a, sizeof a);
    snprintf(what, sizeof what, "LINEAR %s %lldx%lld x %d", t.name, (long long)m, (long long)n,
             (int)n_tok);
    show(what, p, NULL, 0);
    free(w);
}

static void glu_of_two(uint16_t dtype) {
    enum { M = 48, N = 512, TOK = 11 };
    peri_dtype_info t = peri_dtype_of(dtype);
    static unsigned char w[2][M * N * 4];
    peri_act_attr a = {.size = sizeof a, .act = PERI_ACT_SILU};
    char what[64];
    prog *p = prog_new(dev, TOK);
    p->code = PERI_OP_GATE_UP_GLU;
    prog_in(p, DIMS(1, 1, -PERI_SYM_T, N), x, 0);
    for (uint64_t i = 0; i < 2; i++) {
        prog_blocks(dtype, w[i], M * N / t.n, 90 + i);
        prog_weight(p, dtype, DIMS(1, 1, M, N), w[i]);
    }
    prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, M), 0);
    prog_attr(p, &a, sizeof a);
    snprintf(what, sizeof what, "GATE_UP_GLU %s", t.name);
    show(what, p, NULL, 0);
}

/* Rows that are not a multiple of 16, a part block of 256, and tokens of all ways to take them. */
static void products(void) {
    for (int k = 0; k < N_TYPE; k++) {
        int64_t block = peri_dtype_of(types[k]).n;
        int64_t n = block == 256 ? 512 : block == 1 ? 301 : 256 + block * (block == 32 ? 5 : 1);
        static const int32_t tokens[] = {1, 3, 8, 9, 15, 37};
        for (int t = 0; t < 6; t++)
            linear(types[k], 35, n, tokens[t]);
    }
    glu_of_two(PERI_CPU_Q4_0);
    glu_of_two(PERI_CPU_Q6_K);
    glu_of_two(PERI_CPU_F16);
    glu_of_two(PERI_CPU_BF16);
    linear(PERI_CPU_BF16, 35, 1061, 3);
    linear(PERI_CPU_BF16, 35, 1061, 37);
}

/* ---- rows and elements ---- */

enum { ROW = 83, ROW_TOKENS = 7 };

static void norms(void) {
    static const char *const name[] = {"NORM rms", "NORM layer", "NORM l2"};
    static const uint32_t kind[] = {PERI_NORM_RMS, PERI_NORM_LAYER, PERI_NORM_L2};
    for (int i = 0; i < 3; i++) {
        peri_norm_attr a = {.size = sizeof a, .kind = kind[i], .eps = 1e-5f};
        prog *p = prog_new(dev, ROW_TOKENS);
        p->code = PERI_OP_NORM;
        prog_in(p, DIMS(1, 1, -PERI_SYM_T, ROW), x, 0);
        prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, ROW), x2);
        prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, ROW), i == 1 ? x2 + ROW : NULL);
        prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, ROW), 0);
        prog_attr(p, &a, sizeof a);
        show(name[i], p, NULL, 0);
    }
}

static void activations(void) {
    static const uint32_t kinds[] = {PERI_ACT_SILU, PERI_ACT_GELU,   PERI_ACT_GELU_QUICK,
                                     PERI_ACT_RELU, PERI_ACT_RELU2,  PERI_ACT_SIGMOID,
                                     PERI_ACT_TANH, PERI_ACT_SOFTCAP};
    static float wide[ROW_TOKENS * ROW];
    for (int i = 0; i < ROW_TOKENS * ROW; i++)
        wide[i] = x[i] * (i % 5 ? 4.0f : 60.0f);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char what[64];
        peri_act_attr a = {.size = sizeof a, .act = kinds[i], .param = 30.0f};
        prog *p = prog_new(dev, ROW_TOKENS);
        p->code = PERI_OP_ACT;
        prog_in(p, DIMS(1, 1, -PERI_SYM_T, ROW), wide, 0);
        prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, ROW), 0);
        prog_attr(p, &a, sizeof a);
        snprintf(what, sizeof what, "ACT %u", (unsigned)kinds[i]);
        show(what, p, NULL, 0);
    }
}

static void elements(void) {
    static const uint16_t code[] = {PERI_OP_ADD, PERI_OP_MUL, PERI_OP_SCALE};
    static const char *const name[] = {"ADD", "MUL", "SCALE"};
    for (int i = 0; i < 3; i++) {
        peri_scale_attr a = {.size = sizeof a, .scale = -1.3f};
        prog *p = prog_new(dev, ROW_TOKENS);
        p->code = code[i];
        prog_in(p, DIMS(1, 1, -PERI_SYM_T, ROW), x, 0);
        if (code[i] != PERI_OP_SCALE) prog_in(p, DIMS(1, 1, -PERI_SYM_T, ROW), x2, 0);
        prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, ROW), 0);
        if (code[i] == PERI_OP_SCALE) prog_attr(p, &a, sizeof a);
        show(name[i], p, NULL, 0);
    }
}

/* ---- keys and values ---- */

enum { G = 2, DK = 96, DV = 64, B = 16, BLOCKS = 20, CTX = 300, H = 4 };

typedef struct pools {
    unsigned char k[BLOCKS * B * G * DK * 4], v[BLOCKS * B * G * DV * 4];
} pools;

/* Keys 0 .. CTX - 1 into the pools, PROG_MAX_TOKENS at a time. */
static void append(uint16_t dtype, pools *w) {
    char what[64];
    memset(w, 0, sizeof *w);
    snprintf(what, sizeof what, "KV_APPEND %s", peri_dtype_of(dtype).name);
    for (int32_t t0 = 0; t0 < CTX; t0 += PROG_MAX_TOKENS) {
        int32_t n = CTX - t0 < PROG_MAX_TOKENS ? CTX - t0 : PROG_MAX_TOKENS;
        prog *p = prog_new(dev, n);
        p->code = PERI_OP_KV_APPEND;
        prog_in(p, DIMS(1, -PERI_SYM_T, G, DK), x + t0 * G * DK, 0);
        prog_in(p, DIMS(1, -PERI_SYM_T, G, DV), x2 + t0 * G * DV, 0);
        prog_pool(p, dtype, DIMS(BLOCKS, B, G, DK), w->k);
        prog_pool(p, dtype, DIMS(BLOCKS, B, G, DV), w->v);
        for (int32_t t = 0; t < n; t++)
            p->slot[t] = t0 + t;
        show(what, p, w, sizeof *w);
    }
}

/* n_tok tokens at the end of the context. */
static void attend(uint16_t dtype, pools *w, int variant, int32_t n_tok) {
    char what[64];
    peri_attn_attr a = {.size = sizeof a,
                        .scale = 0.2f,
                        .cap = variant == 1 ? 5.0f : 0.0f,
                        .alibi_max = variant == 2 ? 8.0f : 0.0f,
                        .window = variant == 1 ? 200 : 0};
    prog *p = prog_new(dev, n_tok);
    p->code = PERI_OP_ATTN;
    p->n[PERI_SYM_B] = BLOCKS;
    prog_in(p, DIMS(1, -PERI_SYM_T, H, DK), x2 + variant, 0);
    prog_pool(p, dtype, DIMS(BLOCKS, B, G, DK), w->k);
    prog_pool(p, dtype, DIMS(BLOCKS, B, G, DV), w->v);
    prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
    prog_out(p, PERI_CPU_F32, DIMS(1, -PERI_SYM_T, H, DV), 0);
    prog_attr(p, &a, sizeof a);
    for (int32_t t = 0; t < n_tok; t++)
        p->pos[t] = CTX - n_tok + t;
    p->ctx[0] = CTX;
    for (int32_t b = 0; b < BLOCKS; b++)
        p->table[b] = b;
    snprintf(what, sizeof what, "ATTN %s %d x %d", peri_dtype_of(dtype).name, variant, (int)n_tok);
    show(what, p, NULL, 0);
}

static void attention(void) {
    static const uint16_t kinds[] = {PERI_CPU_F32, PERI_CPU_F16, PERI_CPU_BF16, PERI_CPU_Q8_0,
                                     PERI_CPU_Q4_0};
    static pools w;
    for (int k = 0; k < 5; k++) {
        append(kinds[k], &w);
        for (int v = 0; v < 3; v++) {
            attend(kinds[k], &w, v, 1);
            attend(kinds[k], &w, v, 19);
        }
    }
}

static void open_level(const char *isa) {
    peri_error e = {0};
    prog_host_now = (prog_host_state){.isa = isa, .n_node = 1, .n_worker = 2};
    const peri_plugin *plugin = perigee_plugin_v0(&prog_host, &e);
    if (plugin && plugin->open(&prog_host, 0, &dev, &e) == PERI_OK) return;
    fprintf(stderr, "kernel_bits: %s\n", e.text);
    exit(1);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: kernel_bits LEVEL | --levels\n");
        return 2;
    }
    if (!strcmp(argv[1], "--levels")) {
        for (uint32_t i = 0; cpu_level_at(i); i++)
            if (cpu_level_at(i)->is_available()) printf("%s ", cpu_level_at(i)->name);
        printf("\n");
        return 0;
    }
    open_level(argv[1]);
    prog_fill(x, N_MAX, 7, 2);
    prog_fill(x2, N_MAX, 8, 1);
    products();
    norms();
    activations();
    elements();
    attention();
    peri_error e = {0};
    perigee_plugin_v0(&prog_host, &e)->close(dev);
    return 0;
}
