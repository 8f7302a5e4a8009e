/* SPDX-License-Identifier: MIT
 *
 * place_read.c - how fast the host's memory is read, where its plugin's ops cannot be measured. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "plugin/place_int.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum {
    MEASURE_BYTES = 96 << 20, /* larger than the last cache of most machines, soon filled */
    MEASURE_CHUNKS = 192,     /* of 512 KiB, so that a descheduled thread costs little */
    MEASURE_NS = 30000000,    /* how long to read */
};

typedef struct reading {
    const uint64_t *data;
    uint64_t sum[MEASURE_CHUNKS]; /* so that the reads are not optimised away */
} reading;

static void read_chunk(void *arg, uint32_t i, uint32_t worker) {
    reading *m = arg;
    const size_t n = MEASURE_BYTES / MEASURE_CHUNKS / sizeof *m->data;
    const uint64_t *x = m->data + (size_t)i * n;
    uint64_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    (void)worker;
    for (size_t k = 0; k < n; k += 4) {
        s0 += x[k];
        s1 += x[k + 1];
        s2 += x[k + 2];
        s3 += x[k + 3];
    }
    m->sum[i] += s0 + s1 + s2 + s3;
}

static void fill_chunk(void *arg, uint32_t i, uint32_t worker) {
    const size_t n = MEASURE_BYTES / MEASURE_CHUNKS;
    (void)worker;
    memset((char *)arg + (size_t)i * n, (int)i, n);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Read memory of the device's node with its threads; GB/s, 0 when it cannot be measured. */
static double measure(const peri_registry *r, const peri_dev_info *info) {
    const peri_host *host = peri_host_get();
    const peri_topo_node *node = peri_topology_node(r->topology, peri_registry_node_of(r, info));
    uint32_t n =
        peri_topology_threads(r->topology, peri_registry_node_of(r, info), r->n_thread, NULL, 0);
    reading m = {0};
    peri_pool *pool = NULL;
    double gbps = 0;
    char *block = host->alloc(MEASURE_BYTES, 4096, node->numa);
    if (block != NULL && peri_pool_new(n, node->cpu, &pool, NULL) == PERI_OK) {
        m.data = (const uint64_t *)(const void *)block;
        peri_pool_run(pool, MEASURE_CHUNKS, fill_chunk, block);
        int64_t start = now_ns(), end = start;
        uint64_t bytes = 0;
        for (; end - start < MEASURE_NS; end = now_ns()) {
            peri_pool_run(pool, MEASURE_CHUNKS, read_chunk, &m);
            bytes += MEASURE_BYTES;
        }
        gbps = (double)bytes / (double)(end - start);
    }
    peri_pool_free(pool);
    host->free(block);
    return gbps;
}

void peri_place_read(peri_registry *r, size_t i) {
    const peri_device *d = &r->device[i];
    char key[256];
    uint32_t node = peri_registry_node_of(r, &d->info);
    if (!(d->info.flags & PERI_DEV_HOST_MEM) || !peri_topology_is_thissystem(r->topology)) return;
    snprintf(key, sizeof key, "%s, node %u, %u threads", peri_topology_cpu_model(r->topology), node,
             peri_topology_threads(r->topology, node, r->n_thread, NULL, 0));
    double gbps = peri_cache_bandwidth(r->cache, key);
    if (gbps <= 0) {
        gbps = measure(r, &d->info);
        if (gbps > 0) peri_cache_put_bandwidth(r->cache, key, gbps);
        peri_cache_save(r->cache);
    }
    r->measured_gbps[i] = (float)gbps;
}
