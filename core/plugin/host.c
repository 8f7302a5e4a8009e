/* SPDX-License-Identifier: MIT
 *
 * host.c - the table of services that every plugin receives, and the state behind it.
 *
 * The services carry no context and the table is valid for ever, so the state is the process's: the
 * newest registry's options and memory nodes, and the pools of the devices that are open.  Option
 * values must stay valid for ever too; they are kept in a fixed store that only grows, equal ones
 * once. */
#define _GNU_SOURCE
#include <ctype.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum {
    OPTION_STORE_BYTES = 1 << 16,
    OPEN_MAX = 256,           /* devices open at once */
    BIND_BYTES_MIN = 1 << 16, /* smaller blocks share pages with others: not worth placing */
    NUMA_MAX = 1024,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards setup and the option store */
static peri_host_setup setup;
static char option_store[OPTION_STORE_BYTES]; /* NUL-terminated values, one after another */
static size_t option_used;

/* An open device and its pool; dev is NULL while the slot is free.  Readers hold no lock: a device
 * cannot be closed while one of its calls runs, and only its own slot matters to that call. */
static struct {
    _Atomic(peri_dev *) dev;
    _Atomic(peri_pool *) pool;
} open_devices[OPEN_MAX];

/* ---- memory and log
 * ------------------------------------------------------------------------------- */

/* Ask for the pages of a fresh block on one node.  Best effort: without NUMA there is nothing to
 * do. */
static void prefer_node(void *p, size_t bytes, int node) {
    unsigned long mask[NUMA_MAX / (8 * sizeof(unsigned long))] = {0};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (node < 0 || node >= NUMA_MAX || bytes < BIND_BYTES_MIN) return;
    mask[(size_t)node / (8 * sizeof mask[0])] |= 1ul << ((size_t)node % (8 * sizeof mask[0]));
    syscall(SYS_mbind, p, bytes & ~(page - 1), MPOL_PREFERRED, mask, (unsigned long)NUMA_MAX, 0u);
}

static void *host_alloc(size_t bytes, size_t align, int numa_node) {
    bool is_placed = numa_node >= 0 && bytes >= BIND_BYTES_MIN;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *p = peri_alloc_aligned(bytes, is_placed && align < page ? page : align);
    if (p != NULL && is_placed) prefer_node(p, bytes, numa_node);
    return p;
}

static void host_free(void *p) {
    peri_free(p);
}

static void host_log(int level, const char *utf8) {
    pthread_mutex_lock(&lock);
    void (*log)(void *, int, const char *) = setup.log;
    void *user = setup.user;
    pthread_mutex_unlock(&lock);
    if (utf8 == NULL) return;
    if (level < PERI_LOG_DEBUG) level = PERI_LOG_DEBUG;
    if (level > PERI_LOG_ERROR) level = PERI_LOG_ERROR;
    if (log != NULL)
        log(user, level, utf8);
    else
        peri_log(level, "%s", utf8);
}

/* ---- options
 * -------------------------------------------------------------------------------------- */

bool peri_option_key_is_valid(const char *key) {
    size_t n = 0;
    for (; key != NULL && key[n] != 0 && n <= PERI_OPTION_KEY_MAX; n++)
        if (!islower((unsigned char)key[n]) && !isdigit((unsigned char)key[n]) &&
            strchr("._-", key[n]) == NULL)
            return false;
    return n > 0 && n <= PERI_OPTION_KEY_MAX;
}

/* A copy of value that lives as long as the process; NULL when the store is full.  Lock held. */
static const char *keep(const char *value) {
    size_t bytes = strlen(value) + 1;
    for (size_t at = 0; at < option_used; at += strlen(option_store + at) + 1)
        if (strcmp(option_store + at, value) == 0) return option_store + at;
    if (bytes > sizeof option_store - option_used) return NULL;
    memcpy(option_store + option_used, value, bytes);
    option_used += bytes;
    return option_store + option_used - bytes;
}

static const char *host_option(const char *key) {
    const char *kept = NULL;
    bool is_full = false;
    if (!peri_option_key_is_valid(key)) return NULL;
    pthread_mutex_lock(&lock);
    const char *value = setup.option != NULL ? setup.option(setup.user, key) : NULL;
    if (value != NULL) {
        kept = keep(value);
        is_full = kept == NULL;
    }
    pthread_mutex_unlock(&lock);
    if (is_full) peri_log(PERI_LOG_ERROR, "option %s: no room left for option values", key);
    return kept;
}

/* ---- nodes and threads
 * ---------------------------------------------------------------------------- */

static int32_t host_node(uint32_t index, peri_host_node *out) {
    pthread_mutex_lock(&lock);
    bool exists = index < setup.n_node;
    if (exists) peri_put(out, &setup.node[index], sizeof setup.node[index]);
    pthread_mutex_unlock(&lock);
    return exists ? PERI_OK : PERI_E_NO_DEVICE;
}

static peri_pool *pool_of(peri_dev *d) {
    for (size_t i = 0; d != NULL && i < OPEN_MAX; i++)
        if (atomic_load_explicit(&open_devices[i].dev, memory_order_acquire) == d)
            return atomic_load_explicit(&open_devices[i].pool, memory_order_relaxed);
    return NULL;
}

static void host_parallel(peri_dev *d, uint32_t n,
                          void (*fn)(void *arg, uint32_t i, uint32_t worker), void *arg) {
    peri_pool *pool = pool_of(d);
    if (pool != NULL) {
        peri_pool_run(pool, n, fn, arg);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        fn(arg, i, 0);
}

static uint32_t host_workers(peri_dev *d) {
    peri_pool *pool = pool_of(d);
    return pool != NULL ? peri_pool_workers(pool) : 1;
}

/* ---- what the core calls
 * -------------------------------------------------------------------------- */

const peri_host *peri_host_get(void) {
    static const peri_host table = {.size = sizeof table,
                                    .abi_major = PERI_ABI_MAJOR,
                                    .abi_minor = PERI_ABI_MINOR,
                                    .alloc = host_alloc,
                                    .free = host_free,
                                    .log = host_log,
                                    .option = host_option,
                                    .node = host_node,
                                    .parallel = host_parallel,
                                    .workers = host_workers};
    return &table;
}

void peri_host_configure(const peri_host_setup *s) {
    pthread_mutex_lock(&lock);
    setup = *s;
    pthread_mutex_unlock(&lock);
}

void peri_host_release(const void *owner) {
    pthread_mutex_lock(&lock);
    if (setup.owner == owner) {
        setup.owner = NULL;
        setup.option = NULL;
        setup.log = NULL;
        setup.user = NULL;
    }
    pthread_mutex_unlock(&lock);
}

peri_status peri_host_add_device(peri_dev *d, peri_pool *pool, peri_error *err) {
    size_t i = 0;
    pthread_mutex_lock(&lock);
    bool is_known = pool_of(d) != NULL;
    while (!is_known && i < OPEN_MAX && atomic_load(&open_devices[i].dev) != NULL)
        i++;
    if (!is_known && i < OPEN_MAX) {
        atomic_store(&open_devices[i].pool, pool);
        atomic_store_explicit(&open_devices[i].dev, d, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    if (is_known)
        return peri_fail(err, PERI_E_INVALID, "its handle is that of another open device");
    if (i == OPEN_MAX)
        return peri_fail(err, PERI_E_RANGE, "%d devices are open already", (int)OPEN_MAX);
    return PERI_OK;
}

void peri_host_remove_device(peri_dev *d) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; d != NULL && i < OPEN_MAX; i++)
        if (atomic_load(&open_devices[i].dev) == d) {
            atomic_store(&open_devices[i].dev, NULL);
            atomic_store(&open_devices[i].pool, NULL);
        }
    pthread_mutex_unlock(&lock);
}
