/* SPDX-License-Identifier: MIT
 *
 * bench_linear.c - speed of the CPU plugin's matrix products, per instruction set, beside the
 * machine's read bandwidth.
 *
 *     bench_linear [-t THREADS] [-i ISA] [-d TYPE] [-m TOKENS] [-s MxN] [-r REPEATS]
 *
 * Each thread computes every n-th group of 16 rows; the weights of one shape are repeated until
 * they exceed the caches (256 MB together), so decode figures are those of memory.  GB/s counts
 * weight bytes, GMAC/s multiplications; the median of the repeats is printed, and for few tokens
 * the fraction of the bandwidth of a plain read of the same bytes, measured in between.  Time is
 * the processor time of the slowest thread, so that a busy machine disturbs less.  Not a test: run
 * by hand. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fast.h"
#include "prog.h"

enum { THREADS_MAX = 64, REPEATS_MAX = 64 };
static const size_t FOOTPRINT = (size_t)256 << 20;

typedef struct bench {
    const cpu_isa *isa; /* NULL: plain read */
    linear_in in;
    int64_t n_copy; /* of the matrix, one behind the other */
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
    int64_t groups = (b->in.m + 15) / 16 * b->n_copy,
            per = (groups + b->n_thread - 1) / b->n_thread;
    int64_t lo = s->thread * per, hi = lo + per < groups ? lo + per : groups;
    if (!b->isa) {
        s->sum = read_all(b->in.w + (size_t)lo * 16 * b->in.row_bytes,
                          (size_t)(hi - lo) * 16 * b->in.row_bytes);
        return;
    }
    float *acc = aligned_alloc(64, (size_t)b->in.n_tok * 16 * 4 + (size_t)b->in.n * 64);
    if (!acc) abort();
    int is_many = b->isa->enter && b->in.n_tok > LINEAR_FEW;
    if (is_many) b->isa->enter();
    for (int64_t g = lo; g < hi; g++) {
        if (b->in.type->span == LINEAR_SPAN_F32)
            b->isa->rows_f32(&b->in, g * 16, 16, acc, acc + b->in.n_tok * 16);
        else
            b->isa->rows_int(&b->in, g * 16, 16, acc);
    }
    if (is_many) b->isa->leave();
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
    const char *isa, *type, *tokens, *shape;
    int repeats;
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
                       .row_bytes = (size_t)(n / t->block * t->block_bytes)};
    size_t bytes = b.in.row_bytes * (size_t)m;
    b.n_copy = (int64_t)(FOOTPRINT / bytes);
    if (n_tok > 16) b.n_copy = b.n_copy * 16 / n_tok;
    if (b.n_copy < 1) b.n_copy = 1;
    float *x = malloc((size_t)(n_tok * n) * sizeof *x);
    uint8_t *act = aligned_alloc(
        64,
        ((size_t)((n + 255) / 256) * (size_t)n_tok * linear_act_bytes(isa, t) + 63) & ~(size_t)63);
    if (!x || !act) abort();
    prog_fill(x, n_tok * n, 1, 1);
    b.in.act = act;
    b.in.kb_stride = (size_t)n_tok * linear_act_bytes(isa, t);
    if (t->span == LINEAR_SPAN_F32) {
        b.in.act = (const uint8_t *)x;
        b.in.kb_stride = (size_t)n * sizeof *x;
    }
    for (int32_t i = 0; i < n_tok && t->span != LINEAR_SPAN_F32; i++)
        isa->quantize(t, x + i * n, n, act + (size_t)i * linear_act_bytes(isa, t), b.in.kb_stride);
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
    double s = median(time, o->repeats), total = (double)b.n_copy * (double)bytes;
    printf("%-7s %-7s %6lldx%-5lld M=%-4d %7.2f GB/s %8.1f GMAC/s", isa->name,
           ref_dtype_of(dtype).name, (long long)m, (long long)n, (int)n_tok, total / s * 1e-9,
           (double)b.n_copy * (double)m * (double)n * n_tok / s * 1e-9);
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
        ref_dtype t = ref_dtype_of(types[k]);
        int wanted = o->type ? !strcmp(o->type, t.name) : k < 4;
        if (!wanted) continue;
        int64_t blocks = 1 << 12, room = (int64_t)FOOTPRINT / t.bytes;
        prog_blocks(types[k], w, blocks, 3);
        for (int64_t b = blocks; b < room; b += blocks)
            memcpy(w + b * t.bytes, w, (size_t)((room - b < blocks ? room - b : blocks) * t.bytes));
        for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++)
            if (!o->tokens || atoi(o->tokens) == tokens[i])
                bench_one(o, isa, types[k], m, n, tokens[i], w);
    }
}

int main(int argc, char **argv) {
    static const int64_t shapes[][2] = {{1024, 1024}, {3072, 1024}, {1024, 3072}, {151936, 1024}};
    const cpu_isa *sets[] = {&cpu_isa_avx512amx, &cpu_isa_avx512vnni, &cpu_isa_avx512,
                             &cpu_isa_avx2vnni,  &cpu_isa_avx2,       &cpu_isa_scalar};
    options o = {.n_thread = 2, .repeats = 5};
    int c;
    while ((c = getopt(argc, argv, "t:i:d:m:s:r:")) != -1) {
        if (c == 't')
            o.n_thread = (uint32_t)atoi(optarg);
        else if (c == 'i')
            o.isa = optarg;
        else if (c == 'd')
            o.type = optarg;
        else if (c == 'm')
            o.tokens = optarg;
        else if (c == 's')
            o.shape = optarg;
        else if (c == 'r')
            o.repeats = atoi(optarg);
        else
            return 2;
    }
    if (o.n_thread < 1 || o.n_thread > THREADS_MAX || o.repeats < 1 || o.repeats > REPEATS_MAX)
        return 2;
    uint8_t *w = aligned_alloc(64, FOOTPRINT * 3); /* F32 151936x1024 is 622 MB */
    if (!w) return 1;
    memset(w, 1, FOOTPRINT * 3);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        char name[32];
        snprintf(name, sizeof name, "%lldx%lld", (long long)shapes[s][0], (long long)shapes[s][1]);
        if (o.shape && strcmp(o.shape, name)) continue;
        int n_done = 0; /* without -i the best set there is */
        for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
            const cpu_level *l = cpu_level_at((uint32_t)i);
            if (!l->is_available() || (o.isa ? strcmp(o.isa, sets[i]->name) : n_done++)) continue;
            bench_types(&o, sets[i], shapes[s][0], shapes[s][1], w);
        }
    }
    free(w);
    return 0;
}
