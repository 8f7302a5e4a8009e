/* SPDX-License-Identifier: MIT
 *
 * cgroup.c - processor time and memory that control groups allow this process.
 *
 * hwloc does not see quotas: a container with half a processor looks like the whole machine to it,
 * and as many threads as cores then spend their time being throttled.  A limit anywhere between our
 * group and the root counts, so every level is read and the smallest wins.
 *
 * v2: cpu.max "max 100000" or "150000 100000" (quota and period, microseconds); memory.max.
 * v1: cpu.cfs_quota_us (-1 = none), cpu.cfs_period_us; memory.limit_in_bytes (near 2^63 = none).
 * Source: Linux Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst,
 * scheduler/sched-bwc.rst.
 *
 * Inside a container the path of /proc/self/cgroup may name folders that are not mounted here;
 * levels that do not exist are skipped and the mount's own root is always read. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum { FILE_BYTES = 65536, PATH_BYTES = 4096 };
#define MEM_NONE                                                                                   \
    (UINT64_C(1) << 60) /* no machine has as much; v1 writes "none" as 2^63 less a page */

/* Read a small file as text; *out is NULL when there is none. */
static peri_status read_text(const char *path, char **out, peri_error *err) {
    size_t size;
    if (peri_file_read(path, FILE_BYTES, out, &size, NULL) != PERI_E_NOMEM) return PERI_OK;
    return peri_fail(err, PERI_E_NOMEM, "%s: out of memory", path);
}

/* The first number of a file; -1 when there is none ("max", missing). */
static peri_status read_number(const char *folder, const char *name, int64_t *out,
                               peri_error *err) {
    char path[PATH_BYTES + 64], *text;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    *out = -1;
    peri_status status = read_text(path, &text, err);
    if (text != NULL && text[0] >= '0' && text[0] <= '9') *out = strtoll(text, NULL, 10);
    peri_free(text);
    return status;
}

static void lower_cpu(peri_cgroup *g, int64_t quota_us, int64_t period_us) {
    if (quota_us <= 0 || period_us <= 0) return;
    double n = (double)quota_us / (double)period_us;
    if (g->n_cpu == 0 || n < g->n_cpu) g->n_cpu = n;
}

static void lower_mem(peri_cgroup *g, int64_t bytes) {
    if (bytes < 0 || (uint64_t)bytes >= MEM_NONE) return;
    if (g->mem_bytes == 0 || (uint64_t)bytes < g->mem_bytes) g->mem_bytes = (uint64_t)bytes;
}

/* ---- one level ------------------------------------------------------------------------------- */

static peri_status level_v2(const char *folder, peri_cgroup *g, peri_error *err) {
    char path[PATH_BYTES + 64], *text;
    int64_t bytes;
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    peri_status status = read_text(path, &text, err);
    if (text != NULL) {
        int64_t quota = 0, period = 100000; /* microseconds; the default period */
        if (sscanf(text, "%" SCNd64 " %" SCNd64, &quota, &period) >= 1) lower_cpu(g, quota, period);
        peri_free(text);
    }
    if (status == PERI_OK) status = read_number(folder, "memory.max", &bytes, err);
    if (status == PERI_OK) lower_mem(g, bytes);
    return status;
}

static peri_status level_v1_cpu(const char *folder, peri_cgroup *g, peri_error *err) {
    int64_t quota = -1, period = -1;
    peri_status status = read_number(folder, "cpu.cfs_quota_us", &quota, err);
    if (status == PERI_OK) status = read_number(folder, "cpu.cfs_period_us", &period, err);
    if (status == PERI_OK) lower_cpu(g, quota, period);
    return status;
}

static peri_status level_v1_memory(const char *folder, peri_cgroup *g, peri_error *err) {
    int64_t bytes = -1;
    peri_status status = read_number(folder, "memory.limit_in_bytes", &bytes, err);
    if (status == PERI_OK) lower_mem(g, bytes);
    return status;
}

typedef peri_status (*level_fn)(const char *folder, peri_cgroup *g, peri_error *err);

/* Every level from mount/group up to mount. */
static peri_status walk(const char *mount, const char *group, level_fn level, peri_cgroup *g,
                        peri_error *err) {
    char folder[PATH_BYTES];
    size_t root = strlen(mount);
    /* A group outside our cgroup namespace is written with ".."; only the mount is ours to read. */
    bool is_inside = group[0] == '/' && strstr(group, "/..") == NULL;
    if ((size_t)snprintf(folder, sizeof folder, "%s%s", mount, is_inside ? group : "") >=
        sizeof folder)
        return PERI_OK;
    for (;;) {
        size_t n = strlen(folder);
        while (n > root && folder[n - 1] == '/')
            folder[--n] = 0;
        peri_status status = level(folder, g, err);
        if (status != PERI_OK || n <= root) return status;
        while (n > root && folder[n - 1] != '/')
            folder[--n] = 0;
    }
}

/* ---- /proc/self/cgroup ----------------------------------------------------------------------- */

/* Is `name` one of the comma-separated controllers? */
static bool has_controller(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *s = list; *s != 0; s += strcspn(s, ","), s += *s == ',')
        if (strncmp(s, name, n) == 0 && (s[n] == ',' || s[n] == 0)) return true;
    return false;
}

/* "N:controllers:/group", the line already cut into its last two fields. */
static peri_status read_line(const char *root, const char *controllers, const char *group,
                             peri_cgroup *g, peri_error *err) {
    char mount[PATH_BYTES];
    peri_status status = PERI_OK;
    if (controllers[0] == 0) { /* v2; beside v1 it is mounted one folder deeper */
        snprintf(mount, sizeof mount, "%.4000s/unified", root);
        status = walk(mount, group, level_v2, g, err);
        if (status == PERI_OK) status = walk(root, group, level_v2, g, err);
        return status;
    }
    if (has_controller(controllers, "cpu")) { /* mounted as "cpu,cpuacct", linked as "cpu" */
        snprintf(mount, sizeof mount, "%.3000s/%.1000s", root, controllers);
        status = walk(mount, group, level_v1_cpu, g, err);
        snprintf(mount, sizeof mount, "%.4000s/cpu", root);
        if (status == PERI_OK) status = walk(mount, group, level_v1_cpu, g, err);
    }
    if (status == PERI_OK && has_controller(controllers, "memory")) {
        snprintf(mount, sizeof mount, "%.4000s/memory", root);
        status = walk(mount, group, level_v1_memory, g, err);
    }
    return status;
}

peri_status peri_cgroup_read(const char *root, const char *self, peri_cgroup *out,
                             peri_error *err) {
    char *text;
    *out = (peri_cgroup){0};
    if (root == NULL) root = "/sys/fs/cgroup";
    peri_status status = read_text(self != NULL ? self : "/proc/self/cgroup", &text, err);
    for (char *line = text; status == PERI_OK && line != NULL && *line != 0;) {
        char *end = strchr(line, '\n'), *controllers = strchr(line, ':');
        if (end != NULL) *end = 0;
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group != NULL) {
            *group = 0;
            status = read_line(root, controllers + 1, group + 1, out, err);
        }
        line = end != NULL ? end + 1 : NULL;
    }
    peri_free(text);
    return status;
}
