/* SPDX-License-Identifier: MIT
 *
 * cuda_ceiling.c - cuda_ceiling [-m MIB] [-l LAUNCHES] [-r ROUNDS] [-i INDEX]: what a CUDA device
 * can do at best, as one JSON document; cuda_bench.py asks for it first and judges by it.
 *
 *   read_gbps   1e9 bytes read per second, MIB of memory (8192, and at most a third of what is
 * free) copy_gbps   bytes read and written per second when one half is copied to the other
 *   write_gbps  bytes per second from pinned memory of this machine to the device
 *   launch_us   from one empty kernel to the next, LAUNCHES (2000) of them queued
 *   graph_us    the same as one graph; sync_us: one empty kernel and waiting for it
 *
 * The best of ROUNDS (10) counts, because disturbance only ever slows.  Without a device the
 * document has one member, `skipped`, which says why, and the exit status is 77. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cu.h"
#include "cuda_ceiling.h"

#ifdef CEILING_FATBIN
__asm__(".pushsection .rodata, \"a\"\n.balign 64\nceiling_image:\n.incbin \"" CEILING_FATBIN "\"\n"
        ".byte 0\n.popsection\n");
extern const unsigned char ceiling_image[];
#else
static const char ceiling_image[] = "stand-in"; /* tests/plugin/cuda takes this for a module */
#endif

enum { SKIPPED = 77, MIB = 1 << 20, PIECE = 16 };
enum {
    GRAIN = CEILING_BLOCKS * CU_THREADS * CEILING_UNROLL * PIECE
}; /* what every thread can share */

typedef struct world {
    const cu_api *cu;
    CUcontext context;
    CUstream stream;
    CUmodule module;
    CUdeviceptr at;
    void *pinned;
    uint64_t bytes;
    long n_launch, n_round;
} world;

/* Out of the run with what the driver said; the document says so too. */
static void check(const world *w, const char *what, CUresult code) {
    peri_error e = {0};
    if (code == CUDA_SUCCESS) return;
    cu_fail(w->cu, &e, what, code);
    fprintf(stderr, "cuda_ceiling: %s\n", e.text);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void launch(const world *w, const char *name, void *arguments, unsigned n_block) {
    CUfunction f;
    check(w, name, w->cu->cuModuleGetFunction(&f, w->module, name));
    check(
        w, "cuLaunchKernel",
        w->cu->cuLaunchKernel(f, n_block, 1, 1, CU_THREADS, 1, 1, 0, w->stream, &arguments, NULL));
}

static void wait(const world *w) {
    check(w, "cuStreamSynchronize", w->cu->cuStreamSynchronize(w->stream));
}

/* ---- what is measured -------------------------------------------------------------------------
 */

static void read_all(const world *w, void *unused) {
    ceiling_read a = {.from = w->at, .out = w->at, .n = w->bytes / PIECE};
    (void)unused;
    launch(w, "peri_ceiling_read", &a, CEILING_BLOCKS);
}

static void copy_half(const world *w, void *unused) {
    uint64_t half = w->bytes / 2 / GRAIN * GRAIN;
    ceiling_copy a = {.from = w->at, .to = w->at + half, .n = half / PIECE};
    (void)unused;
    launch(w, "peri_ceiling_copy", &a, CEILING_BLOCKS);
}

static void write_some(const world *w, void *unused) {
    (void)unused;
    check(w, "cuMemcpyHtoDAsync", w->cu->cuMemcpyHtoDAsync(w->at, w->pinned, GRAIN, w->stream));
}

static void launch_many(const world *w, void *n) {
    ceiling_nothing a = {0};
    for (long i = 0; i < *(long *)n; i++)
        launch(w, "peri_ceiling_nothing", &a, 1);
}

static void launch_graph(const world *w, void *exec) {
    check(w, "cuGraphLaunch", w->cu->cuGraphLaunch((CUgraphExec)exec, w->stream));
}

/* The best seconds of a call and what it queued. */
static double best(const world *w, void (*queue)(const world *w, void *arg), void *arg) {
    double least = INFINITY;
    for (long i = 0; i <= w->n_round; i++) { /* the first is not counted */
        double start = now();
        queue(w, arg);
        wait(w);
        double s = now() - start;
        if (i && s < least) least = s;
    }
    return least > 0 ? least : 1e-9;
}

static double graph_seconds(world *w) {
    CUgraph g;
    CUgraphExec exec;
    check(w, "cuStreamBeginCapture",
          w->cu->cuStreamBeginCapture(w->stream, CU_CAPTURE_THREAD_LOCAL));
    launch_many(w, &w->n_launch);
    check(w, "cuStreamEndCapture", w->cu->cuStreamEndCapture(w->stream, &g));
    check(w, "cuGraphInstantiateWithFlags", w->cu->cuGraphInstantiateWithFlags(&exec, g, 0));
    check(w, "cuGraphDestroy", w->cu->cuGraphDestroy(g));
    double s = best(w, launch_graph, exec);
    check(w, "cuGraphExecDestroy", w->cu->cuGraphExecDestroy(exec));
    return s;
}

/* ---- the run ----------------------------------------------------------------------------------
 */

static void start(world *w, CUdevice d, uint64_t mib) {
    size_t n_free, n_all;
    check(w, "cuDevicePrimaryCtxRetain", w->cu->cuDevicePrimaryCtxRetain(&w->context, d));
    check(w, "cuCtxSetCurrent", w->cu->cuCtxSetCurrent(w->context));
    check(w, "cuStreamCreate", w->cu->cuStreamCreate(&w->stream, CU_STREAM_NON_BLOCKING));
    check(w, "cuModuleLoadData", w->cu->cuModuleLoadData(&w->module, ceiling_image));
    check(w, "cuMemGetInfo", w->cu->cuMemGetInfo(&n_free, &n_all));
    w->bytes = mib * MIB < n_free / 3 ? mib * MIB : n_free / 3;
    w->bytes = w->bytes / GRAIN * GRAIN;
    if (w->bytes < 2 * GRAIN) w->bytes = 2 * GRAIN;
    check(w, "cuMemAlloc", w->cu->cuMemAlloc(&w->at, w->bytes));
    check(w, "cuMemHostAlloc", w->cu->cuMemHostAlloc(&w->pinned, GRAIN, 0));
    memset(w->pinned, 0x5a, GRAIN);
}

static void stop(world *w, CUdevice d) {
    check(w, "cuMemFreeHost", w->cu->cuMemFreeHost(w->pinned));
    check(w, "cuMemFree", w->cu->cuMemFree(w->at));
    check(w, "cuModuleUnload", w->cu->cuModuleUnload(w->module));
    check(w, "cuStreamDestroy", w->cu->cuStreamDestroy(w->stream));
    check(w, "cuDevicePrimaryCtxRelease", w->cu->cuDevicePrimaryCtxRelease(d));
}

static void report(world *w, const peri_dev_info *info) {
    int driver = 0;
    long one = 1;
    double half = (double)(w->bytes / 2 / GRAIN * GRAIN), n = (double)w->n_launch;
    check(w, "cuDriverGetVersion", w->cu->cuDriverGetVersion(&driver));
    printf("{\"device\": \"%s\", \"isa\": \"%s\", \"location\": \"%s\", \"driver\": %d, ",
           info->model, info->isa, info->location, driver);
    printf("\"mem_total\": %llu, \"declared_gbps\": %.1f, \"bytes\": %llu, ",
           (unsigned long long)info->mem_total, (double)info->mem_gbps,
           (unsigned long long)w->bytes);
    printf("\"read_gbps\": %.2f, ", (double)w->bytes / best(w, read_all, NULL) / 1e9);
    printf("\"copy_gbps\": %.2f, ", 2 * half / best(w, copy_half, NULL) / 1e9);
    printf("\"write_gbps\": %.2f, ", GRAIN / best(w, write_some, NULL) / 1e9);
    printf("\"sync_us\": %.3f, ", best(w, launch_many, &one) * 1e6);
    printf("\"launch_us\": %.3f, ", best(w, launch_many, &w->n_launch) / n * 1e6);
    printf("\"graph_us\": %.3f}\n", graph_seconds(w) / n * 1e6);
}

static long number(const char *text, long least, long most) {
    char *end;
    long v = strtol(text, &end, 10);
    if (*text && !*end && v >= least && v <= most) return v;
    fprintf(stderr, "cuda_ceiling: found '%s', expected a number from %ld to %ld\n", text, least,
            most);
    exit(2);
}

int main(int argc, char **argv) {
    world w = {.n_launch = 2000, .n_round = 10};
    CUdevice found[CU_DEVICES];
    peri_dev_info info;
    peri_error e = {0};
    uint32_t n = 0;
    long mib = 8192, index = 0;
    for (int i = 1; i < argc; i += 2) {
        const char *o = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(o, "-m") == 0)
            mib = number(v, 1, 1 << 20);
        else if (strcmp(o, "-l") == 0)
            w.n_launch = number(v, 1, 100000);
        else if (strcmp(o, "-r") == 0)
            w.n_round = number(v, 1, 1000);
        else if (strcmp(o, "-i") == 0)
            index = number(v, 0, CU_DEVICES - 1);
        else {
            fputs("usage: cuda_ceiling [-m MIB] [-l LAUNCHES] [-r ROUNDS] [-i INDEX]\n", stderr);
            return 2;
        }
    }
    w.cu = cu_load(&e);
    if (!w.cu || cu_find(w.cu, found, &n, &e) || index >= (long)n ||
        cu_describe(w.cu, found[index], (uint32_t)index, &info, &e)) {
        printf("{\"skipped\": \"%s\"}\n", e.text);
        return SKIPPED;
    }
    start(&w, found[index], (uint64_t)mib);
    report(&w, &info);
    stop(&w, found[index]);
    return 0;
}
