/* SPDX-License-Identifier: MIT
 *
 * topology.h - what hwloc and the kernel say about this machine, as plain data: memory nodes,
 * usable cores, caches, PCI devices, affinity, cgroup quota.  Each fact that decides something
 * carries the sentence that `perigee devices` prints.
 *
 * hwloc components that start drivers (opencl, gl, cuda, nvml, rsmi, levelzero) are blacklisted
 * before loading. */
#ifndef PERI_PLUGIN_TOPOLOGY_H
#define PERI_PLUGIN_TOPOLOGY_H

#include <stdbool.h>

#include "perigee/types.h"

typedef struct peri_topology peri_topology;

typedef struct peri_topology_options {
    uint32_t size;
    const char *synthetic; /* hwloc synthetic description, for tests; NULL = this machine */
    const char *xml;       /* hwloc XML file, for tests */
    const char
        *cgroup_root; /* folder standing for /sys/fs/cgroup, for tests; NULL = the real one */
    const char *cgroup_self; /* file standing for /proc/self/cgroup */
    const char *cpuset; /* hwloc list syntax "0-3": restrict to these processors, for tests (cgroup
                           slice) */
} peri_topology_options;

typedef struct peri_topo_node {   /* one NUMA node with processors the process may use */
    int32_t numa;                 /* OS index */
    uint64_t mem_total, mem_free; /* bytes; free 0 when unknown */
    uint32_t n_core;              /* usable cores of the fastest kind */
    const int32_t *cpu; /* [n_core] OS number of one processor (first hardware thread) per core,
                           fastest kind first */
} peri_topo_node;

typedef struct peri_topo_pci { /* a display (03xx), processing (0bxx, 12xx) or CXL memory function
                                */
    char busid[16];            /* "0000:3b:00.0" */
    uint16_t vendor, device, class_id;
    char name[96];   /* vendor and device name when known, else "" */
    int32_t numa;    /* nearest node, -1 unknown */
    float link_gbps; /* 0 unknown */
} peri_topo_pci;

/* NULL options = this machine.  The object is immutable afterwards. */
peri_status peri_topology_new(const peri_topology_options *o, peri_topology **out, peri_error *err);
void peri_topology_free(peri_topology *t);
uint32_t peri_topology_n_node(const peri_topology *t);
const peri_topo_node *peri_topology_node(const peri_topology *t, uint32_t i);
uint32_t peri_topology_n_pci(const peri_topology *t);
const peri_topo_pci *peri_topology_pci(const peri_topology *t, uint32_t i);
/* Processors' worth of time per second that cgroups allow, rounded down, at least 1; 0 = no limit.
 */
uint32_t peri_topology_quota(const peri_topology *t);
/* Bytes that cgroups allow this process; 0 = no limit. */
uint64_t peri_topology_mem_limit(const peri_topology *t);
/* Threads to use on node i when the user wants `wanted` (0 = no wish): bounded by cores, affinity
 * and quota.  why (may be NULL, size n) receives the sentence: "2 threads: 2 cores allowed by
 * affinity of 8; quota none". */
uint32_t peri_topology_threads(const peri_topology *t, uint32_t node, uint32_t wanted, char *why,
                               size_t n);
/* Sentences, one per fact that mattered ("affinity: 2 of 8 processors", "cgroup quota: 1.5
 * processors, rounded down to 1"). */
uint32_t peri_topology_n_note(const peri_topology *t);
const char *peri_topology_note(const peri_topology *t, uint32_t i);
/* "Intel Xeon ..." or "" */
const char *peri_topology_cpu_model(const peri_topology *t);
bool peri_topology_is_thissystem(const peri_topology *t);

#endif
