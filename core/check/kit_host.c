/* SPDX-License-Identifier: MIT
 *
 * kit_host.c - the services a plugin gets from the kit: they count, poison, shuffle and watch.
 *
 * Memory: every block is filled with NaN bytes, has guard bytes behind it, and is counted. Threads:
 * the items of a job are handed out in an order that kit_host_now.shuffle chooses, to as many
 * threads as kit_host_now.n_worker says: 1 or KIT_WORKERS.  For measuring, jobs go straight to a
 * pool of one pinned thread per processor. */
#define _GNU_SOURCE
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "check/kit.h"
#include "plugin/registry.h"

#include "base/compiler.h"

enum { GUARD_BYTES = 64, GUARD = 0xa5, CPU_MAX = 1024 };

kit_host_state kit_host_now = {.n_worker = 1};
static peri_pool *pool;

/* The processors that this process may use. */
static uint32_t list_cpus(int32_t *cpu) {
    cpu_set_t may;
    uint32_t n = 0;
    if (sched_getaffinity(0, sizeof may, &may) != 0) return 0;
    for (int i = 0; i < CPU_SETSIZE && n < CPU_MAX; i++)
        if (CPU_ISSET((size_t)i, &may)) cpu[n++] = i;
    return n;
}

bool kit_host_init(bool is_bench, peri_error *err) {
    static int32_t cpu[CPU_MAX];
    uint32_t n = is_bench ? list_cpus(cpu) : 0;
    kit_host_now.is_bench = is_bench;
    kit_host_now.n_worker = n ? n : 1;
    return peri_pool_new(n ? n : KIT_WORKERS, n ? cpu : NULL, &pool, err) == PERI_OK;
}

/* ---- memory ------------------------------------------------------------------------------------
 */

typedef struct block { /* directly in front of what the plugin gets */
    void *start;
    size_t bytes;
} block;

static void *host_alloc(size_t bytes, size_t align, int numa_node) {
    int64_t n = __atomic_add_fetch(&kit_host_now.n_alloc, 1, __ATOMIC_RELAXED);
    (void)numa_node;
    if (kit_host_now.fail_at && n >= kit_host_now.fail_at) return NULL;
    if (align < sizeof(block)) align = sizeof(block);
    char *start = bytes < SIZE_MAX / 2 && align < SIZE_MAX / 4
                      ? peri_alloc_aligned(align + bytes + GUARD_BYTES, align)
                      : NULL;
    if (!start) return NULL;
    char *p = start + align;
    block b = {start, bytes};
    memcpy(p - sizeof b, &b, sizeof b);
    memset(p, 0xff, bytes);
    memset(p + bytes, GUARD, GUARD_BYTES);
    __atomic_add_fetch(&kit_host_now.n_live, 1, __ATOMIC_RELAXED);
    return p;
}

static void host_free(void *p) {
    block b;
    if (!p) return;
    memcpy(&b, (char *)p - sizeof b, sizeof b);
    for (size_t i = 0; i < GUARD_BYTES; i++)
        if (((unsigned char *)p)[b.bytes + i] != GUARD) {
            __atomic_add_fetch(&kit_host_now.n_overrun, 1, __ATOMIC_RELAXED);
            break;
        }
    __atomic_sub_fetch(&kit_host_now.n_live, 1, __ATOMIC_RELAXED);
    peri_free(b.start);
}

/* ---- log, options, nodes -----------------------------------------------------------------------
 */

static void host_log(int level, const char *utf8) {
    (void)level, (void)utf8;
}

/* "cpu.isa" from the settings, else $PERIGEE_CPU_ISA. */
static const char *host_option(const char *key) {
    char name[80] = "PERIGEE_";
    size_t n = strlen(key), at = strlen(name);
    for (int i = kit_host_now.n_setting; i-- > 0;)
        if (!strncmp(kit_host_now.setting[i], key, n) && kit_host_now.setting[i][n] == '=')
            return kit_host_now.setting[i] + n + 1;
    for (size_t i = 0; i < n && at + 1 < sizeof name; i++, at++) {
        char c = key[i];
        name[at] = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c == '.' || c == '-' ? '_' : c;
    }
    if (getenv(name) || strcmp(key, "cache.dir") != 0) return getenv(name);
    static char folder[PATH_MAX];
    return peri_plugin_cache_folder(folder, sizeof folder) ? folder : NULL;
}

static int32_t host_node(uint32_t index, peri_host_node *out) {
    uint32_t n = kit_host_now.is_bench ? kit_host_now.n_worker : KIT_WORKERS;
    peri_host_node node = {.size = sizeof node,
                           .numa = -1,
                           .n_core = n,
                           .n_worker = n,
                           .mem_total = (uint64_t)8 << 30,
                           .mem_free = (uint64_t)4 << 30};
    if (index > 0) return PERI_E_NO_DEVICE;
    peri_put(out, &node, sizeof node);
    return PERI_OK;
}

/* ---- threads ------------------------------------------------------------------------------------
 */

typedef struct job {
    void (*fn)(void *arg, uint32_t i, uint32_t worker);
    void *arg;
    uint32_t n;
    uint64_t step, first;
    uint32_t n_here; /* workers that have an item */
    bool is_here[KIT_WORKERS];
} job;

/* Items that share what they should not only show it when they run at the same time: nobody begins
 * before every worker has an item, or has not come in time. */
static void wait_for_all(job *j, uint32_t worker) {
    enum { WAIT_NS = 2000000 };
    uint32_t wanted = j->n < KIT_WORKERS ? j->n : KIT_WORKERS;
    struct timespec start, now;
    if (kit_host_now.n_worker == 1 || j->is_here[worker]) return;
    j->is_here[worker] = true;
    __atomic_add_fetch(&j->n_here, 1, __ATOMIC_ACQ_REL);
    clock_gettime(CLOCK_MONOTONIC, &start);
    while (__atomic_load_n(&j->n_here, __ATOMIC_ACQUIRE) < wanted) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec > WAIT_NS) break;
        sched_yield();
    }
}

static void run_item(void *arg, uint32_t i, uint32_t worker) {
    job *j = arg;
    wait_for_all(j, worker);
    j->fn(j->arg, (uint32_t)((j->first + i * j->step) % j->n), worker);
}

static uint64_t common_divisor(uint64_t a, uint64_t b) {
    return b ? common_divisor(b, a % b) : a;
}

static void host_parallel(peri_dev *d, uint32_t n,
                          void (*fn)(void *arg, uint32_t i, uint32_t worker), void *arg) {
    job j = {.fn = fn, .arg = arg, .n = n, .step = 1};
    (void)d;
    if (n == 0) return;
    if (kit_host_now.is_bench) {
        peri_pool_run(pool, n, fn, arg);
        return;
    }
    if (kit_host_now.shuffle) { /* i -> first + i * step, step coprime to n: every item once */
        j.first = kit_host_now.shuffle % n;
        j.step = n > 2 ? n - 1 - kit_host_now.shuffle % (n / 2) : 1;
        while (common_divisor(j.step, n) != 1)
            j.step++;
    }
    if (kit_host_now.n_worker > 1) {
        peri_pool_run(pool, n, run_item, &j);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        run_item(&j, i, 0);
}

static uint32_t host_workers(peri_dev *d) {
    (void)d;
    return kit_host_now.n_worker;
}

const peri_host kit_host = {.size = sizeof kit_host,
                            .abi_major = PERI_ABI_MAJOR,
                            .abi_minor = PERI_ABI_MINOR,
                            .alloc = host_alloc,
                            .free = host_free,
                            .log = host_log,
                            .option = host_option,
                            .node = host_node,
                            .parallel = host_parallel,
                            .workers = host_workers};
