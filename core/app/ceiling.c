/* SPDX-License-Identifier: MIT
 *
 * ceiling.c - see ceiling.h.
 *
 * Reading: every thread sums its own part of a block larger than most caches; the best of ROUNDS,
 * because disturbance only ever slows, on large pages where there are some.  Threads are pinned:
 * new ones else wait behind their parent on its processor.  Arithmetic: chains of the instruction
 * that the integer kernels of the level live on, from registers, enough of them to hide its
 * latency: tdpbssd where the level is on tiles, vpdpbusd where it has VNNI, else vpmaddubsw with
 * the addition of 16-bit lanes that must follow it.  The kernel's permission for tiles is the
 * process's, and a plugin that runs on them in this process has it. */
#include "ceiling.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

enum {
    READ_BYTES = 256 << 20,
    ROUNDS = 5,
    HUGE_PAGE = 2 << 20,
    AHEAD = 4096,    /* bytes that reading asks for ahead */
    CHAINS = 12,     /* independent sums; latency times width of the units is at most 10 */
    STEPS = 2000000, /* of all chains: some milliseconds */
    TILE_STEPS = STEPS / 16,
};

/* Do a thread's share of the work; returns 8-bit multiplications done (0 for reading). */
typedef double (*task_fn)(const uint8_t *p, size_t bytes);

/* Closed until all threads exist; is_off: one of them does not. */
typedef struct gate {
    pthread_mutex_t lock;
    bool is_off;
} gate;

typedef struct share {
    task_fn task;
    const uint8_t *p;
    size_t bytes;
    gate *gate;
    int cpu; /* processor to run on; -1: any */
    double seconds, macs;
    pthread_t thread;
} share;

static volatile uint64_t sink; /* keeps results from being optimised away */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef uint64_t u64x2 __attribute__((vector_size(16)));

static double read_part(const uint8_t *p, size_t bytes) {
    const u64x2 *v = (const u64x2 *)(const void *)p; /* 64-byte aligned */
    u64x2 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    for (size_t i = 0, n = bytes / sizeof *v; i + 4 <= n; i += 4) {
        __builtin_prefetch((const uint8_t *)(v + i) + AHEAD);
        s0 += v[i];
        s1 += v[i + 1];
        s2 += v[i + 2];
        s3 += v[i + 3];
    }
    s0 += s1 + s2 + s3;
    sink = s0[0] + s0[1];
    return 0;
}

#if defined(__x86_64__)
/* One task per unit: CHAINS chains of STEP, which does `macs` multiplications; the empty asm keeps
 * each result alive. */
#define UNIT_TASK(name, isa, type, zero, macs, STEP)                                               \
    __attribute__((target(isa))) static double name(const uint8_t *p, size_t bytes) {              \
        type c[CHAINS], x;                                                                         \
        (void)bytes;                                                                               \
        memcpy(&x, p, sizeof x);                                                                   \
        for (int k = 0; k < CHAINS; k++)                                                           \
            c[k] = zero;                                                                           \
        for (int i = 0; i < STEPS; i++) {                                                          \
            _Pragma("GCC unroll 12") for (int k = 0; k < CHAINS; k++) {                            \
                c[k] = STEP;                                                                       \
                __asm__ volatile("" : : "x"(c[k]));                                                \
            }                                                                                      \
        }                                                                                          \
        for (int k = 1; k < CHAINS; k++)                                                           \
            c[0] |= c[k];                                                                          \
        sink = (uint64_t)c[0][0];                                                                  \
        return (double)STEPS * CHAINS * (macs);                                                    \
    }
UNIT_TASK(dot_zmm, "avx512f,avx512bw,avx512vnni", __m512i, _mm512_setzero_si512(), 64,
          _mm512_dpbusd_epi32(c[k], x, x))
UNIT_TASK(dot_ymm, "avx2,avxvnni", __m256i, _mm256_setzero_si256(), 32,
          _mm256_dpbusd_avx_epi32(c[k], x, x))
UNIT_TASK(madd_zmm, "avx512f,avx512bw", __m512i, _mm512_setzero_si512(), 64,
          _mm512_add_epi16(c[k], _mm512_maddubs_epi16(x, c[k])))
UNIT_TASK(madd_ymm, "avx2", __m256i, _mm256_setzero_si256(), 32,
          _mm256_add_epi16(c[k], _mm256_maddubs_epi16(x, c[k])))

/* A plugin may emulate them. */
static bool has_tiles(void) {
    unsigned a = 0, b, c, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 25 & 1);
}

/* Four sums of 16 x 16 from two tiles of each factor, 64 products to an element. */
__attribute__((target("amx-tile,amx-int8"))) static double dot_tile(const uint8_t *p,
                                                                    size_t bytes) {
    struct {
        uint8_t palette, zero[15];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape __attribute__((aligned(64))) = {.palette = 1};
    uint8_t tile[16 * 64];
    (void)p;
    (void)bytes;
    memset(tile, 1, sizeof tile);
    for (int i = 0; i < 8; i++) {
        shape.row_bytes[i] = 64;
        shape.rows[i] = 16;
    }
    __asm__ volatile("ldtilecfg %0\n\ttilezero %%tmm0\n\ttilezero %%tmm1\n\t"
                     "tilezero %%tmm2\n\ttilezero %%tmm3\n\t"
                     "tileloadd (%1,%2,1), %%tmm4\n\ttileloadd (%1,%2,1), %%tmm5\n\t"
                     "tileloadd (%1,%2,1), %%tmm6\n\ttileloadd (%1,%2,1), %%tmm7"
                     :
                     : "m"(shape), "r"(tile), "r"((size_t)64)
                     : "memory");
    for (int i = 0; i < TILE_STEPS; i++)
        __asm__ volatile("tdpbssd %%tmm6, %%tmm4, %%tmm0\n\ttdpbssd %%tmm7, %%tmm4, %%tmm1\n\t"
                         "tdpbssd %%tmm6, %%tmm5, %%tmm2\n\ttdpbssd %%tmm7, %%tmm5, %%tmm3" ::);
    __asm__ volatile("tilestored %%tmm3, (%0,%1,1)\n\ttilerelease"
                     :
                     : "r"(tile), "r"((size_t)64)
                     : "memory");
    sink = tile[0];
    return (double)TILE_STEPS * 4 * 16 * 16 * 64;
}
#endif

typedef struct unit {
    const char *isa, *name;
    task_fn task;
    bool (*needs)(void); /* asked in vain: there is no such unit; NULL: the level has it */
} unit;
static const unit units[] = {
#if defined(__x86_64__)
    {"avx512amx", "tdpbssd tmm", dot_tile, has_tiles},
    {"avx512bf16", "vpdpbusd zmm", dot_zmm, NULL},
    {"avx512vnni", "vpdpbusd zmm", dot_zmm, NULL},
    {"avx2vnni", "vpdpbusd ymm", dot_ymm, NULL},
    {"avx512", "vpmaddubsw zmm", madd_zmm, NULL},
    {"avx2", "vpmaddubsw ymm", madd_ymm, NULL},
#endif
    {NULL, NULL, NULL, NULL},
};

static void *run_share(void *arg) {
    share *s = arg;
    pthread_mutex_lock(&s->gate->lock);
    bool is_off = s->gate->is_off;
    pthread_mutex_unlock(&s->gate->lock);
    if (is_off) return NULL;
    cpu_set_t old, one;
    bool is_pinned = s->cpu >= 0 && !pthread_getaffinity_np(pthread_self(), sizeof old, &old);
    CPU_ZERO(&one);
    if (is_pinned) CPU_SET((size_t)s->cpu, &one);
    if (is_pinned) pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    double start = now();
    s->macs = s->task(s->p, s->bytes);
    s->seconds = now() - start;
    if (is_pinned) pthread_setaffinity_np(pthread_self(), sizeof old, &old);
    return NULL;
}

/* The i-th processor that this thread may use, or -1. */
static int cpu_at(size_t i) {
    cpu_set_t may;
    if (pthread_getaffinity_np(pthread_self(), sizeof may, &may)) return -1;
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET((size_t)c, &may) && i-- == 0) return c;
    return -1;
}

/* All threads at once, the caller one of them: bytes or multiplications per second of the slowest;
 * 0 when a thread could not start. */
static double run_all(share *s, size_t n, task_fn task, const uint8_t *p) {
    gate g = {.lock = PTHREAD_MUTEX_INITIALIZER};
    size_t started = 1, per = READ_BYTES / n & ~(size_t)63;
    double longest = 0, macs = 0;
    for (size_t i = 0; i < n; i++) {
        s[i] = (share){.task = task, .p = p + i * per, .bytes = per, .gate = &g};
        s[i].cpu = cpu_at(i);
    }
    pthread_mutex_lock(&g.lock);
    while (started < n && !pthread_create(&s[started].thread, NULL, run_share, &s[started]))
        started++;
    g.is_off = started < n;
    pthread_mutex_unlock(&g.lock);
    run_share(&s[0]);
    for (size_t i = 0; i < started; i++) {
        if (i) pthread_join(s[i].thread, NULL);
        if (s[i].seconds > longest) longest = s[i].seconds;
        macs += s[i].macs;
    }
    if (g.is_off || !(longest > 0)) return 0;
    return (macs > 0 ? macs : (double)(per * n)) / longest;
}

/* The best of the rounds. */
static double best_of(share *s, size_t n, task_fn task, const uint8_t *p) {
    double best = 0;
    for (int r = 0; r < ROUNDS; r++) {
        double x = run_all(s, n, task, p);
        if (x > best) best = x;
    }
    return best;
}

bool peri_ceiling_measure(int64_t n_thread, const char *isa, peri_ceiling *out) {
    size_t n = n_thread < 1 ? 1 : (size_t)n_thread;
    share *s = n <= READ_BYTES / 64 ? calloc(n, sizeof *s) : NULL;
    uint8_t *p = aligned_alloc(HUGE_PAGE, READ_BYTES);
    *out = (peri_ceiling){0};
    if (s && p) {
        madvise(p, READ_BYTES, MADV_HUGEPAGE);
        memset(p, 1, READ_BYTES);
        out->read_gbps = best_of(s, n, read_part, p) * 1e-9;
        for (const unit *u = units; u->isa; u++) {
            if (strcmp(u->isa, isa) || (u->needs && !u->needs())) continue;
            out->unit = u->name;
            out->unit_gmacs = best_of(s, n, u->task, p) * 1e-9;
        }
    }
    free(s);
    free(p);
    return out->read_gbps > 0 && (!out->unit || out->unit_gmacs > 0);
}
