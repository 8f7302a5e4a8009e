/* SPDX-License-Identifier: MIT
 *
 * bench_attn.c - speed of the CPU plugin's attention over paged keys and values.
 *
 *     bench_attn [-t THREADS] [-i ISA] [-s HxGxD] [-c KEYS] [-q TOKENS] [-n SEQUENCES] [-r REPEATS]
 *                [-k TYPE] [-e MIB]
 *
 * Every sequence holds KEYS keys and its last TOKENS tokens ask.  H query heads, G key/value heads
 * of D elements; TYPE of the keys and values is a name of dtype.def, F16 unless given.  Four layers
 * are kept and asked in turn, so that short contexts do not sit in the nearest cache for ever; with
 * -e every thread reads MIB MiB of other memory before each, outside the time, which is what the
 * weights of a layer do in a model.  GFLOP/s counts 4 D per query head and visible key; GB/s the
 * bytes of the keys and values that are visible to anyone, once.  Thread i runs on processor i.
 * Wall clock, median and best of the repeats. Not a test: run by hand. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/pool.h"
#include "fast.h"
#include "prog.h"

enum { N_LAYER = 4, BLOCK = 64, REPEATS_MAX = 65536, THREADS_MAX = 64, EVICT_PART = 1 << 20 };

typedef struct options {
    uint32_t n_thread;
    const char *isa;
    int64_t n_head, n_kv_head, d;
    int32_t n_key, n_tok, n_seq;
    int repeats;
    uint16_t dtype;
    size_t evict; /* bytes */
} options;

static peri_pool *pool;

static void run_pool(peri_dev *d, uint32_t n, void (*fn)(void *, uint32_t, uint32_t), void *arg) {
    (void)d;
    peri_pool_run(pool, n, fn, arg);
}
static uint32_t count_workers(peri_dev *d) {
    (void)d;
    return peri_pool_workers(pool);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static volatile uint64_t sink;

/* Every worker reads its part of o->evict bytes, so that keys and values are in no cache. */
static void evict_part(void *arg, uint32_t i, uint32_t worker) {
    const uint64_t *x = (const uint64_t *)arg + (size_t)i * EVICT_PART / 8;
    uint64_t sum = 0;
    (void)worker;
    for (size_t k = 0; k < EVICT_PART / 8; k += 8)
        sum += x[k];
    sink = sum;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A step in which the sequences' blocks lie one behind the other. */
static peri_step *new_step(const options *o) {
    int32_t n_tok = o->n_tok * o->n_seq, n_block = (o->n_key + BLOCK - 1) / BLOCK;
    size_t words = (size_t)n_tok * 2 + (size_t)o->n_seq * (size_t)(1 + n_block);
    peri_step *s = calloc(1, sizeof *s + words * 4);
    if (!s) abort();
    s->size = s->bytes = sizeof *s;
    s->n[PERI_SYM_T] = n_tok;
    s->n[PERI_SYM_S] = o->n_seq;
    s->n[PERI_SYM_B] = n_block;
    s->pos = sizeof *s;
    s->seq = s->pos + 4 * (uint32_t)n_tok;
    s->ctx = s->seq + 4 * (uint32_t)n_tok;
    s->table = s->ctx + 4 * (uint32_t)o->n_seq;
    int32_t *pos = (int32_t *)((char *)s + s->pos), *seq = pos + n_tok, *ctx = seq + n_tok,
            *table = ctx + o->n_seq;
    for (int32_t t = 0; t < n_tok; t++) {
        seq[t] = t / o->n_tok;
        pos[t] = o->n_key - o->n_tok + t % o->n_tok;
    }
    for (int32_t i = 0; i < o->n_seq; i++)
        ctx[i] = o->n_key;
    for (int32_t i = 0; i < o->n_seq * n_block; i++)
        table[i] = i;
    return s;
}

static void *big(size_t bytes) {
    bytes = (bytes + ((size_t)2 << 20)) & ~(((size_t)2 << 20) - 1);
    void *p = aligned_alloc((size_t)2 << 20, bytes);
    if (!p) abort();
    madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}

/* n elements, which are 32 KiB of some numbers over and over. */
static void fill(uint16_t dtype, uint8_t *out, int64_t n) {
    static float x[8192];
    peri_dtype_info type = peri_dtype_of(dtype);
    size_t bytes = (size_t)(n / type.n) * (size_t)type.bytes,
           period = (size_t)(8192 / type.n) * (size_t)type.bytes;
    prog_fill(x, 8192, 5, 1);
    ref_encode_row(dtype, x, out, n < 8192 ? n : 8192);
    for (size_t i = period; i < bytes; i++)
        out[i] = out[i - period];
}

static void bench(const options *o, peri_dev *dev, const cpu_isa *isa) {
    int64_t n_tok = (int64_t)o->n_tok * o->n_seq, n_block = (o->n_key + BLOCK - 1) / BLOCK,
            pool_n = n_block * o->n_seq * BLOCK * o->n_kv_head * o->d,
            q_n = n_tok * o->n_head * o->d;
    peri_dtype_info type = peri_dtype_of(o->dtype);
    size_t pool_bytes = (size_t)(pool_n / type.n) * (size_t)type.bytes;
    uint8_t *kv = big(pool_bytes * 2 * N_LAYER);
    float *q = big((size_t)q_n * 2 * sizeof *q);
    fill(o->dtype, kv, pool_n * 2 * N_LAYER);
    prog_fill(q, q_n, 7, 1);
    int64_t row = o->d * 4;
    peri_tensor act = {.dtype = PERI_CPU_F32,
                       .dim = {1, n_tok, o->n_head, o->d},
                       .stride = {n_tok * o->n_head * row, o->n_head * row, row, 4}};
    peri_tensor keys = {.dtype = o->dtype, .dim = {n_block * o->n_seq, BLOCK, o->n_kv_head, o->d}};
    peri_op op = {.code = PERI_OP_ATTN, .n_in = 4, .n_out = 1};
    peri_step *step = new_step(o);
    cpu_job j = {.op = &op, .step = step, .n_operand = 5};
    j.attr.attn = (peri_attn_attr){.size = sizeof j.attr.attn, .scale = 0.1f};
    j.t[0] = j.t[4] = &act;
    j.t[1] = j.t[2] = &keys;
    j.ptr[0] = q;
    j.ptr[4] = q + q_n;
    for (int i = 0; i < 4; i++) {
        j.dim[0][i] = j.dim[4][i] = act.dim[i];
        j.dim[1][i] = j.dim[2][i] = keys.dim[i];
    }
    double time[REPEATS_MAX], pairs = 0;
    void *other = big(o->evict);
    memset(other, 1, o->evict);
    for (int32_t t = 0; t < o->n_tok; t++)
        pairs += (double)(o->n_key - o->n_tok + t + 1) * o->n_seq;
    for (int r = -1; r < o->repeats; r++) {
        double taken = 0;
        for (int il = 0; il < N_LAYER; il++) {
            peri_error e;
            peri_pool_run(pool, (uint32_t)(o->evict / EVICT_PART), evict_part, other);
            double start = now();
            j.ptr[1] = kv + pool_bytes * 2 * (size_t)il;
            j.ptr[2] = kv + pool_bytes * (2 * (size_t)il + 1);
            if (attn_run(dev, isa, &j, &e)) abort();
            taken += now() - start;
        }
        if (r >= 0) time[r] = taken / N_LAYER;
    }
    qsort(time, (size_t)o->repeats, sizeof *time, by_value);
    double flop = pairs * 4.0 * (double)(o->n_head * o->d),
           bytes = (double)o->n_key * o->n_seq * (double)(o->n_kv_head * o->d) * 2 *
                   (double)type.bytes / (double)type.n,
           s = time[o->repeats / 2];
    printf("%-7s %lldx%lldx%lld keys %d tokens %d sequences %d: %9.1f us  %7.1f GFLOP/s  %6.2f GB/s"
           "  (best %.1f us)\n",
           isa->name, (long long)o->n_head, (long long)o->n_kv_head, (long long)o->d, o->n_key,
           o->n_tok, o->n_seq, s * 1e6, flop / s * 1e-9, bytes / s * 1e-9, time[0] * 1e6);
    free(other);
    free(step);
    free(q);
    free(kv);
}

/* A number that nothing is stored in when there is no such type. */
static uint16_t type_named(const char *name) {
    for (uint16_t i = 0; i < 64; i++)
        if (peri_dtype_of(i).name && !strcasecmp(peri_dtype_of(i).name, name)) return i;
    return UINT16_MAX;
}

static int parse(int argc, char **argv, options *o) {
    long long h, g, d;
    for (int c; (c = getopt(argc, argv, "t:i:s:c:q:n:r:e:k:")) != -1;) {
        if (c == 't')
            o->n_thread = (uint32_t)atoi(optarg);
        else if (c == 'i')
            o->isa = optarg;
        else if (c == 's' && sscanf(optarg, "%lldx%lldx%lld", &h, &g, &d) == 3)
            o->n_head = h, o->n_kv_head = g, o->d = d;
        else if (c == 'c')
            o->n_key = atoi(optarg);
        else if (c == 'q')
            o->n_tok = atoi(optarg);
        else if (c == 'n')
            o->n_seq = atoi(optarg);
        else if (c == 'r')
            o->repeats = atoi(optarg);
        else if (c == 'k')
            o->dtype = type_named(optarg);
        else if (c == 'e')
            o->evict = (size_t)strtoul(optarg, NULL, 10) << 20;
        else
            return 0;
    }
    return ref_can_encode(o->dtype) && o->d % peri_dtype_of(o->dtype).n == 0 && o->n_thread > 0 &&
           o->n_kv_head > 0 && o->n_head % o->n_kv_head == 0 && o->d > 0 && o->n_tok > 0 &&
           o->n_key >= o->n_tok && o->n_seq > 0 && o->repeats > 0 && o->repeats <= REPEATS_MAX;
}

int main(int argc, char **argv) {
    options o = {.n_thread = 2,
                 .n_head = 16,
                 .n_kv_head = 8,
                 .d = 128,
                 .n_key = 8192,
                 .n_tok = 1,
                 .n_seq = 1,
                 .repeats = 7,
                 .dtype = PERI_CPU_F16};
    peri_error e;
    if (!parse(argc, argv, &o)) return 2;
    const cpu_isa *isa = NULL; /* without -i: of the best level here */
    for (uint32_t i = 0; cpu_level_at(i) && !isa; i++)
        if (!o.isa || !strcmp(cpu_level_at(i)->name, o.isa)) isa = cpu_isa_of(cpu_level_at(i));
    int32_t cpu[THREADS_MAX];
    for (int32_t i = 0; i < THREADS_MAX; i++)
        cpu[i] = i;
    if (!isa) fprintf(stderr, "no level %s on this processor\n", o.isa ? o.isa : "of attention");
    if (!isa || o.n_thread > THREADS_MAX || peri_pool_new(o.n_thread, cpu, &pool, &e)) return 2;
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    sched_setaffinity(0, sizeof first, &first);
    peri_host host = prog_host;
    host.parallel = run_pool;
    host.workers = count_workers;
    const peri_plugin *plugin = perigee_plugin_v0(&host, &e);
    peri_dev *dev;
    if (!plugin || plugin->open(&host, 0, &dev, &e)) return 1;
    bench(&o, dev, isa);
    plugin->close(dev);
    peri_pool_free(pool);
    return 0;
}
