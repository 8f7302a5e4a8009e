/* SPDX-License-Identifier: MIT
 *
 * bench_linear.c - speed of the CPU plugin's matrix products, per instruction set, beside the
 * machine's read bandwidth.
 *
 *     bench_linear [-t THREADS] [-i ISA] [-d TYPE] [-m TOKENS] [-s MxN] [-r REPEATS] [-c]
 *
 * Each thread computes every n-th group of 16 rows; the weights of one shape are repeated until
 * they exceed the caches (256 MB together), so decode figures are those of memory, on large pages
 * where there are some, as the engine keeps weights.  With -c each thread goes over 192 KB (16 rows
 * at least) again and again: what its instructions take.  GB/s counts weight bytes, GMAC/s
 * multiplications; the median of the repeats is printed, and for few tokens the fraction of the
 * bandwidth of a read of the same bytes with memory asked for ahead, measured in between.  Time is
 * the processor time of the slowest thread, so that a busy machine disturbs less.  Not a test: run
 * by hand. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fast.h"
#include "prog.h"

enum { THREADS_MAX = 64, REPEATS_MAX = 64, AHEAD = 4096, HUGE_PAGE = 2 << 20, CACHED = 192 << 10 };
static const size_t FOOTPRINT = (size_t)256 << 20;

typedef struct bench {
    const cpu_isa *isa; /* NULL: plain read */
    linear_in in;       /* of all copies, one behind the other: a matrix of so many rows */
    int64_t window;     /* groups of 16 rows that a thread goes over again and again; 0: all */
    uint32_t n_thread;
} bench;

typedef struct share {
    const bench *b;
    uint32_t thread;
    uint64_t sum;
    double seconds;
} share;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Four independent sums of wide vectors: narrower reads measure the processor, not the memory. */
typedef uint64_t wide __attribute__((vector_size(64), aligned(1), may_alias));
static uint64_t read_all(const uint8_t *p, size_t bytes) {
    wide s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    const wide *w = (const wide *)p, *end = w + bytes / sizeof(wide) / 4 * 4;
    for (; w < end; w += 4) {
        for (int i = 0; i < 4; i++)
            __builtin_prefetch((const uint8_t *)(w + i) + AHEAD);
        s0 += w[0];
        s1 += w[1];
        s2 += w[2];
        s3 += w[3];
    }
    wide t = s0 + s1 + s2 + s3;
    return t[0] + t[1] + t[2] + t[3] + t[4] + t[5] + t[6] + t[7];
}

static void compute(share *s) {
    const bench *b = s->b;
    int64_t groups = (b->in.m + 15) / 16, per = (groups + b->n_thread - 1) / b->n_thread;
    int64_t lo = s->thread * per, hi = lo + per < groups ? lo + per : groups;
    if (!b->isa) {
        s->sum = read_all(b->in.w + (size_t)lo * 16 * b->in.row_bytes,
                          (size_t)(hi - lo) * 16 * b->in.row_bytes);
        return;
    }
    float *acc =
        aligned_alloc(64, (size_t)b->in.n_tok * 16 * LINEAR_TILED_GROUPS * 4 +
                              (size_t)b->in.n * 64 + linear_bf16_floats(b->in.n, b->in.n_tok) * 4);
    if (!acc) abort();
    int is_tiled = linear_is_tiled(b->isa, b->in.type, b->in.n, b->in.n_tok);
    int does_enter = is_tiled || linear_enters(b->isa, b->in.type, b->in.n_tok);
    if (does_enter) b->isa->enter(b->in.type);
    int has_pair = b->isa->pair_int && b->in.n_tok >= LINEAR_PAIR && b->in.type->span > 0 &&
                   b->in.type->span != LINEAR_SPAN_BF16;
    int has_token = b->isa->token_groups && b->in.n_tok == 1 && b->in.type->span > 0 &&
                    b->in.type->span != LINEAR_SPAN_BF16;
    int64_t step = b->in.type->span == LINEAR_SPAN_BF16 && !b->in.by_row ? b->isa->bf16->n_group
                   : is_tiled                                            ? LINEAR_TILED_GROUPS
                   : has_pair                                            ? LINEAR_GROUPS
                   : has_token                                           ? b->isa->token_groups
                                                                         : 1;
    for (int64_t i = lo; i < hi; i += step) {
        int64_t g = b->window ? lo + (i - lo) % b->window : i;
        int32_t rows = i + step <= hi ? (int32_t)step * 16 : 16;
        if (is_tiled) {
            b->isa->tiled->rows(&b->in, g * 16, (int32_t)(i + step <= hi ? step : hi - i) * 16,
                                acc);
            continue;
        }
        if (b->in.type->span == LINEAR_SPAN_F32)
            b->isa->rows_f32(&b->in, g * 16, 16, acc, acc + b->in.n_tok * 16);
        else if (b->in.type->span == LINEAR_SPAN_BF16)
            b->isa->bf16->rows(&b->in, g * 16, rows, acc, acc + b->in.n_tok * 16);
        else if (has_token)
            b->isa->rows_int(&b->in, g * 16, (int32_t)(i + step <= hi ? step : hi - i) * 16, acc);
        else if (rows == 16 || !b->isa->pair_int(&b->in, g * 16, acc))
            for (int32_t r = 0; r < rows; r += 16)
                b->isa->rows_int(&b->in, g * 16 + r, 16, acc);
    }
    if (does_enter) b->isa->leave();
    free(acc);
}

static void *run_share(void *arg) {
    share *s = arg;
    double start = now();
    compute(s);
    s->seconds = now() - start;
    return NULL;
}

static double run(const bench *b) {
    pthread_t t[THREADS_MAX];
    share s[THREADS_MAX];
    double most = 0;
    for (uint32_t i = 0; i < b->n_thread; i++) {
        s[i] = (share){.b = b, .thread = i};
        if (i && pthread_create(&t[i], NULL, run_share, &s[i])) abort();
    }
    run_share(&s[0]);
    for (uint32_t i = 0; i < b->n_thread; i++) {
        if (i) pthread_join(t[i], NULL);
        if (s[i].seconds > most) most = s[i].seconds;
    }
    return most;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

typedef struct options {
    uint32_t n_thread;
    const char *isa, *type;
    int32_t tokens;     /* 0: 1 to 16, 512 */
    long long shape[2]; /* 0: some */
    int repeats, is_cached;
} options;

static void bench_one(const options *o, const cpu_isa *isa, uint32_t dtype, int64_t m, int64_t n,
                      int32_t n_tok, uint8_t *w) {
    const linear_type *t = linear_type_of(dtype);
    bench b = {.isa = isa, .n_thread = o->n_thread};
    b.in = (linear_in){.type = t,
                       .w = w,
                       .m = m,
                       .n = n,
                       .n_tok = n_tok,
                       .by_row = n_tok <= LINEAR_FEW,
                       .row_bytes = (size_t)(n / t->block * t->block_bytes)};
    size_t bytes = b.in.row_bytes * (size_t)m;
    int64_t n_copy = (int64_t)(FOOTPRINT / bytes);
    if (n_tok > 16) n_copy = n_copy * 16 / n_tok;
    if (n_copy < 1) n_copy = 1;
    b.in.m = m * n_copy;
    if (o->is_cached) b.window = 1 + CACHED / (16 * (int64_t)b.in.row_bytes);
    float *x = malloc((size_t)(n_tok * n) * sizeof *x);
    int64_t columns = linear_act_columns(t);
    int is_tiled = linear_is_tiled(isa, t, n, n_tok);
    size_t n_row = is_tiled ? ((size_t)n_tok + 15) / 16 * 16 : (size_t)n_tok;
    size_t kb_bytes = n_row * linear_act_bytes(isa, t);
    size_t act_bytes = ((size_t)((n + columns - 1) / columns) * kb_bytes + 63) & ~(size_t)63;
    uint8_t *act = aligned_alloc(64, act_bytes);
    if (!x || !act) abort();
    memset(act, 0, act_bytes);
    prog_fill(x, n_tok * n, 1, 1);
    b.in.act = act;
    b.in.kb_stride = kb_bytes;
    if (t->span == LINEAR_SPAN_F32) {
        b.in.act = (const uint8_t *)x;
        b.in.kb_stride = (size_t)n * sizeof *x;
    }
    for (int32_t i = 0; i < n_tok && t->span != LINEAR_SPAN_F32; i++) {
        uint8_t *to = act + (size_t)i * linear_act_bytes(isa, t);
        if (t->span == LINEAR_SPAN_BF16)
            isa->bf16->pack(x + i * n, n, b.in.by_row, to, b.in.kb_stride);
        else
            isa->quantize(t, x + i * n, n, to, b.in.kb_stride);
    }
    for (size_t i = 0; is_tiled && i < act_bytes; i += sizeof(act8_tile))
        isa->tiled->arrange(act + i);
    double time[REPEATS_MAX], ratio[REPEATS_MAX], read = 0;
    for (int r = 0; r < o->repeats; r++) {
        time[r] = run(&b);
        if (n_tok > 16) continue;
        bench plain = b;
        plain.isa = NULL;
        double p = run(&plain);
        ratio[r] = p / time[r];
        read += p / o->repeats;
    }
    double s = median(time, o->repeats), total = (double)n_copy * (double)bytes;
    printf("%-7s %-7s %6lldx%-5lld M=%-4d %7.2f GB/s %8.1f GMAC/s", isa->name,
           peri_dtype_of(dtype).name, (long long)m, (long long)n, (int)n_tok, total / s * 1e-9,
           (double)n_copy * (double)m * (double)n * n_tok / s * 1e-9);
    if (n_tok <= 16)
        printf("  %3.0f %% of a read at %.1f GB/s", 100 * median(ratio, o->repeats),
               total / read * 1e-9);
    printf("\n");
    fflush(stdout);
    free(act);
    free(x);
}

static void bench_types(const options *o, const cpu_isa *isa, int64_t m, int64_t n, uint8_t *w) {
    static const uint32_t types[] = {
        PERI_CPU_Q4_0,    PERI_CPU_Q8_0,   PERI_CPU_Q4_K,  PERI_CPU_Q6_K,    PERI_CPU_F16,
        PERI_CPU_BF16,    PERI_CPU_F32,    PERI_CPU_Q4_1,  PERI_CPU_Q5_0,    PERI_CPU_Q5_1,
        PERI_CPU_Q2_K,    PERI_CPU_Q3_K,   PERI_CPU_Q5_K,  PERI_CPU_IQ1_S,   PERI_CPU_IQ1_M,
        PERI_CPU_IQ2_XXS, PERI_CPU_IQ2_XS, PERI_CPU_IQ2_S, PERI_CPU_IQ3_XXS, PERI_CPU_IQ3_S,
        PERI_CPU_IQ4_NL,  PERI_CPU_IQ4_XS, PERI_CPU_TQ1_0, PERI_CPU_TQ2_0,   PERI_CPU_MXFP4,
        PERI_CPU_NVFP4,   PERI_CPU_Q1_0,   PERI_CPU_Q2_0};
    static const int32_t tokens[] = {1, 2, 4, 8, 16, 512};
    for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
        peri_dtype_info t = peri_dtype_of(types[k]);
        int wanted = o->type ? !strcmp(o->type, t.name) : k < 4;
        if (!wanted) continue;
        int64_t blocks = 1 << 12, room = (int64_t)FOOTPRINT / t.bytes;
        prog_blocks(types[k], w, blocks, 3);
        for (int64_t b = blocks; b < room; b += blocks)
            memcpy(w + b * t.bytes, w, (size_t)((room - b < blocks ? room - b : blocks) * t.bytes));
        for (size_t i = 0; !o->tokens && i < sizeof tokens / sizeof tokens[0]; i++)
            bench_one(o, isa, types[k], m, n, tokens[i], w);
        if (o->tokens) bench_one(o, isa, types[k], m, n, o->tokens, w);
    }
}

static void bench_shape(const options *o, int64_t m, int64_t n, uint8_t *w) {
    int n_done = 0; /* without -i the best set there is */
    for (uint32_t i = 0; cpu_level_at(i); i++) {
        const cpu_isa *isa = cpu_isa_of(cpu_level_at(i));
        if (!isa || (o->isa ? strcmp(o->isa, isa->name) : n_done++)) continue;
        bench_types(o, isa, m, n, w);
    }
}

int main(int argc, char **argv) {
    static const int64_t shapes[][2] = {{1024, 1024}, {3072, 1024}, {1024, 3072}, {151936, 1024}};
    options o = {.n_thread = 2, .repeats = 5};
    int c, is_wrong = 0;
    while ((c = getopt(argc, argv, "t:i:d:m:s:r:c")) != -1) {
        if (c == 't')
            o.n_thread = (uint32_t)atoi(optarg);
        else if (c == 'i')
            o.isa = optarg;
        else if (c == 'd')
            o.type = optarg;
        else if (c == 'm')
            is_wrong |= (o.tokens = atoi(optarg)) < 1 || o.tokens > LINEAR_M;
        else if (c == 's')
            is_wrong |= sscanf(optarg, "%lldx%lld", &o.shape[0], &o.shape[1]) != 2 ||
                        o.shape[0] < 1 || o.shape[1] < 1 || o.shape[1] % LINEAR_K;
        else if (c == 'r')
            o.repeats = atoi(optarg);
        else if (c == 'c')
            o.is_cached = 1;
        else
            return 2;
    }
    if (is_wrong)
        fprintf(stderr,
                "bench_linear: -m takes 1 to %d tokens, -s rows x columns, whole times %d\n",
                LINEAR_M, LINEAR_K);
    if (is_wrong || o.n_thread < 1 || o.n_thread > THREADS_MAX || o.repeats < 1 ||
        o.repeats > REPEATS_MAX)
        return 2;
    uint8_t *w = aligned_alloc(HUGE_PAGE, FOOTPRINT * 3); /* F32 151936x1024 is 622 MB */
    if (!w) return 1;
    madvise(w, FOOTPRINT * 3, MADV_HUGEPAGE); /* refused: small pages */
    memset(w, 1, FOOTPRINT * 3);
    if (o.shape[1]) bench_shape(&o, o.shape[0], o.shape[1], w);
    for (size_t s = 0; !o.shape[1] && s < sizeof shapes / sizeof shapes[0]; s++)
        bench_shape(&o, shapes[s][0], shapes[s][1], w);
    free(w);
    return 0;
}
