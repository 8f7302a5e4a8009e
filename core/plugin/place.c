/* SPDX-License-Identifier: MIT
 *
 * place.c - which device a model runs on, and why not on the others.
 *
 * Problem: plugins offer devices of unlike speed, memory and kind.  Fixed priorities age badly and
 * surprise; so devices are ranked by what decides the speed of generating text: every token reads
 * all weights once, hence
 *
 *     predicted tokens/s = bandwidth in bytes/s / weight bytes per token.
 *
 * A device without enough memory is out; a native one comes before an emulated one whatever it
 * promises; a known bandwidth before an unknown one; then the order of the list decides.  What a
 * plugin's own ops reach counts (figures.h), else what it declares, else for host memory what
 * threads of ours read.  Measuring is for comparisons: the usual machine has one candidate and
 * starts at once. What the user asks for by name goes before all of this. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum {
    MEASURE_BYTES = 96 << 20, /* larger than the last cache of most machines, soon filled */
    MEASURE_CHUNKS = 192,     /* of 512 KiB, so that a descheduled thread costs little */
    MEASURE_NS = 30000000,    /* how long to read */
    BAD_REASON_BYTES = 160,
};

/* ---- facts about one device
 * ------------------------------------------------------------------------- */

static bool is_emulated(const peri_device *d) {
    return (d->info.flags & PERI_DEV_EMULATED) != 0;
}

static bool is_host_memory(const peri_device *d) {
    return (d->info.flags & PERI_DEV_HOST_MEM) != 0;
}

/* Measured by running ops, else declared, else that of the memory; 0 = unknown. */
static float bandwidth(const peri_registry *r, size_t i, const peri_reads *reads) {
    float gbps = (float)peri_figures_gbps(&r->figures[i], reads);
    if (gbps > 0) return gbps;
    return r->device[i].info.mem_gbps > 0 ? r->device[i].info.mem_gbps : r->measured_gbps[i];
}

/* Bytes that a model may fill; 0 = unknown.  Weights in host memory are mapped from the file, and
 * what else is cached there makes room for them, so the total counts and not what is free. */
static uint64_t room_for_weights(const peri_device *d) {
    if (is_host_memory(d) || d->info.mem_free == 0) return d->info.mem_total;
    return d->info.mem_free;
}

/* Why device i cannot be chosen at all; false when it can. */
static bool is_out(const peri_registry *r, size_t i, const peri_reads *reads, char *why, size_t n) {
    const peri_device *d = &r->device[i];
    uint64_t room = room_for_weights(d);
    if (!d->is_usable)
        snprintf(why, n, "%s", d->reason);
    else if (room != 0 && reads->bytes > room)
        snprintf(why, n, "not enough memory: needs %" PRIu64 " MiB, has %" PRIu64 " MiB",
                 reads->bytes >> 20, room >> 20);
    else
        return false;
    return true;
}

/* Is device a the better choice?  Both can be chosen. */
static bool is_better(const peri_registry *r, const peri_reads *reads, size_t a, size_t b) {
    bool a_emulated = is_emulated(&r->device[a]), b_emulated = is_emulated(&r->device[b]);
    if (a_emulated != b_emulated) return b_emulated;
    float a_gbps = bandwidth(r, a, reads), b_gbps = bandwidth(r, b, reads);
    return a_gbps != b_gbps ? a_gbps > b_gbps : a < b;
}

/* ---- measuring host memory
 * ---------------------------------------------------------------------------- */

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

/* Of the host's memory, where its plugin's ops cannot be measured. */
static void find_host_bandwidth(peri_registry *r, size_t i) {
    const peri_device *d = &r->device[i];
    char key[256];
    uint32_t node = peri_registry_node_of(r, &d->info);
    if (!is_host_memory(d) || !peri_topology_is_thissystem(r->topology)) return;
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

static void find_bandwidth(peri_registry *r, const peri_reads *reads, size_t i) {
    uint32_t dtype[PERI_FIGURE_TYPES];
    for (uint32_t k = 0; k < reads->n_type; k++)
        dtype[k] = reads->type[k].dtype;
    peri_registry_measure(r, i, NULL, dtype, reads->n_type, false);
    if (bandwidth(r, i, reads) <= 0) find_host_bandwidth(r, i);
}

/* Measure where a comparison depends on it: several candidates of the better class. */
static void find_bandwidths(peri_registry *r, const peri_reads *reads, const bool *is_candidate) {
    for (int emulated = 0; emulated <= 1; emulated++) {
        size_t n = 0;
        for (size_t i = 0; i < r->n_device; i++)
            n += is_candidate[i] && is_emulated(&r->device[i]) == (emulated != 0);
        if (n == 0) continue;
        for (size_t i = 0; n > 1 && i < r->n_device; i++)
            if (is_candidate[i] && is_emulated(&r->device[i]) == (emulated != 0))
                find_bandwidth(r, reads, i);
        return; /* the other class cannot win */
    }
}

/* ---- choosing
 * ------------------------------------------------------------------------------------------ */

/* The best candidate, or n_device. */
static size_t best_of(const peri_registry *r, const peri_reads *reads, const bool *is_candidate) {
    size_t best = r->n_device;
    for (size_t i = 0; i < r->n_device; i++)
        if (is_candidate[i] && (best == r->n_device || is_better(r, reads, i, best))) best = i;
    return best;
}

static bool is_named(const peri_registry *r, size_t i, const char *name) {
    const peri_device *d = &r->device[i];
    return strcmp(d->info.name, name) == 0 || strcmp(r->file[d->file].show.name, name) == 0;
}

/* Is it the plugin's name, or that of a device it would have ("cuda:0")? */
static bool is_of_plugin(const peri_plugin_file *f, const char *name) {
    size_t n = strcspn(name, ":");
    return f->name[0] != 0 && strlen(f->name) == n && strncmp(f->name, name, n) == 0;
}

/* Why nothing called `name` can be used. */
static void why_not(const peri_registry *r, const char *name, const peri_reads *reads, char *why,
                    size_t n) {
    for (size_t i = 0; i < r->n_device; i++)
        if (is_named(r, i, name) && is_out(r, i, reads, why, n)) return;
    for (size_t i = 0; i < r->n_file; i++) {
        const peri_plugin_file *f = &r->file[i].show;
        if (!is_of_plugin(f, name) || f->state == PERI_PLUGIN_USABLE) continue;
        snprintf(why, n, "plugin %s: %s", f->path, f->reason);
        return;
    }
    peri_text list = {0};
    for (size_t i = 0; i < r->n_device; i++)
        if (r->device[i].is_usable)
            peri_text_addf(&list, "%s%s", list.size ? ", " : "", r->device[i].info.name);
    snprintf(why, n, "no such device or plugin; there are: %s",
             list.size && !list.failed ? list.data : "none");
    peri_text_fini(&list);
}

/* The best device that goes by one of the wanted names, in their order.  `skipped` gets why earlier
 * ones were not. */
static size_t best_wanted(peri_registry *r, const char *wanted, const peri_reads *reads,
                          bool *is_candidate, peri_text *skipped) {
    for (const char *s = wanted; *s != 0; s += *s == ',') {
        char name[64], why[BAD_REASON_BYTES];
        size_t n = strcspn(s, ","), best;
        snprintf(name, sizeof name, "%.*s", (int)n, s);
        s += n;
        if (n == 0) continue;
        for (size_t i = 0; i < r->n_device; i++)
            is_candidate[i] = is_named(r, i, name) && !is_out(r, i, reads, why, sizeof why);
        find_bandwidths(r, reads, is_candidate);
        best = best_of(r, reads, is_candidate);
        if (best < r->n_device) return best;
        why_not(r, name, reads, why, sizeof why);
        peri_text_addf(skipped, "%s%s: %s", skipped->size ? "; " : "", name, why);
    }
    return r->n_device;
}

/* "16.2 tokens/s predicted (100 GB/s)", or that nothing is known. */
static void predict(const peri_registry *r, size_t i, const peri_reads *reads, char *out,
                    size_t n) {
    double gbps = (double)bandwidth(r, i, reads);
    if (gbps <= 0)
        snprintf(out, n, "bandwidth unknown");
    else if (reads->bytes == 0)
        snprintf(out, n, "%.3g GB/s", gbps);
    else
        snprintf(out, n, "%.3g tokens/s predicted (%.3g GB/s)", gbps * 1e9 / (double)reads->bytes,
                 gbps);
}

/* Write why the winner won.  is_candidate: it and those it was compared with. */
static void explain_choice(const peri_registry *r, const bool *is_candidate,
                           const peri_reads *reads, const char *wish, peri_choice *c) {
    const peri_device *d = &r->device[c->device];
    char speed[80], reason[120], threads[160], line[sizeof c->why * 2];
    size_t n = 0, n_native = 0;
    for (size_t i = 0; i < r->n_device; i++) {
        n += is_candidate[i];
        n_native += is_candidate[i] && !is_emulated(&r->device[i]);
    }
    predict(r, c->device, reads, speed, sizeof speed);
    bool is_only = n == 1 || (n_native == 1 && !is_emulated(d));
    if (is_only)
        snprintf(reason, sizeof reason, "only %s%s%s", n > 1 ? "native " : "",
                 wish != NULL ? "one of that name" : "device",
                 bandwidth(r, c->device, reads) > 0 ? "" : ", bandwidth not measured");
    else
        snprintf(reason, sizeof reason, "first of %zu: %s", n, speed);
    threads[0] = 0;
    if (is_host_memory(d))
        peri_topology_threads(r->topology, peri_registry_node_of(r, &d->info), r->n_thread, threads,
                              sizeof threads);
    snprintf(line, sizeof line, "%s on %s: %s%s%s%s%s", d->info.name,
             d->info.location[0] ? d->info.location : "an unnamed place",
             wish != NULL ? "asked for; " : "", reason, threads[0] ? "; " : "", threads,
             is_emulated(d) ? "; emulated" : "");
    peri_escape(c->why, sizeof c->why, line);
}

/* Nothing can be used and nothing was asked for: say why of each. */
static peri_status nothing_there(peri_registry *r, const peri_reads *reads, peri_error *err) {
    peri_text list = {0};
    char why[BAD_REASON_BYTES];
    for (size_t i = 0; i < r->n_device; i++)
        if (is_out(r, i, reads, why, sizeof why))
            peri_text_addf(&list, "%s%s: %s", list.size ? "; " : "", r->device[i].info.name, why);
    if (r->n_device == 0) {
        for (size_t i = 0; i < r->n_file; i++)
            peri_text_addf(&list, "%s%s: %s", list.size ? "; " : "", r->file[i].show.path,
                           r->file[i].show.reason);
        if (r->n_file == 0)
            peri_text_addf(&list, "no plugin file found, looked in %s/perigee/%d/plugins",
                           r->library_dir, PERI_ABI_MAJOR);
    }
    peri_status status =
        peri_fail(err, list.failed ? PERI_E_NOMEM : PERI_E_NO_DEVICE, "no device can be used: %s",
                  list.failed ? "out of memory" : list.data);
    peri_text_fini(&list);
    return status;
}

peri_status peri_place_choose(peri_registry *r, const peri_reads *reads, const char *wanted,
                              peri_choice *out, peri_error *err) {
    bool *is_candidate = peri_calloc(r->n_device, sizeof *is_candidate);
    peri_text skipped = {0};
    peri_status status = PERI_OK;
    char why[BAD_REASON_BYTES];
    size_t best;
    *out = (peri_choice){0};
    if (is_candidate == NULL) return peri_fail(err, PERI_E_NOMEM, "placement: out of memory");
    if (wanted != NULL && wanted[0] != 0) {
        best = best_wanted(r, wanted, reads, is_candidate, &skipped);
        if (best == r->n_device)
            status = peri_fail(err, skipped.failed ? PERI_E_NOMEM : PERI_E_NO_DEVICE, "device %s",
                               skipped.size && !skipped.failed ? skipped.data : wanted);
        else if (skipped.size && !skipped.failed)
            peri_log(PERI_LOG_WARN, "device %s", skipped.data);
    } else {
        wanted = NULL;
        for (size_t i = 0; i < r->n_device; i++)
            is_candidate[i] = !is_out(r, i, reads, why, sizeof why);
        find_bandwidths(r, reads, is_candidate);
        best = best_of(r, reads, is_candidate);
        if (best == r->n_device) status = nothing_there(r, reads, err);
    }
    if (status == PERI_OK) {
        out->device = best;
        explain_choice(r, is_candidate, reads, wanted, out);
    }
    peri_text_fini(&skipped);
    peri_free(is_candidate);
    return status;
}

/* ---- several devices ----------------------------------------------------------------------------
 */

/* 10^9 bytes/s of the link to a PCI device, as the topology knows it; else the assumed one. */
static double link_of(const peri_registry *r, const peri_dev_info *info) {
    for (uint32_t i = 0; i < peri_topology_n_pci(r->topology); i++) {
        const peri_topo_pci *p = peri_topology_pci(r->topology, i);
        size_t n = strlen(p->busid);
        if (p->link_gbps > 0 && strncmp(info->location, "pci:", 4) == 0 &&
            strncmp(info->location + 4, p->busid, n) == 0)
            return (double)p->link_gbps;
    }
    return PERI_SPLIT_LINK_GBPS;
}

peri_split_device peri_place_figures(const peri_registry *r, size_t i, const peri_reads *reads) {
    const peri_device *d = &r->device[i];
    const peri_figures *f = &r->figures[i];
    uint64_t room = room_for_weights(d);
    peri_split_device s = {.name = d->info.name,
                           .room = room ? room : UINT64_MAX,
                           .gbps = (double)bandwidth(r, i, reads),
                           .copy_us = PERI_SPLIT_COPY_US,
                           .link_gbps = link_of(r, &d->info)};
    if (!f->date[0]) return s;
    s.kv_gbps = f->kv_gbps;
    s.op_us = f->op_us;
    s.linear_us = f->n_type ? f->type[0].op_us : f->op_us;
    for (uint32_t k = 0; k < reads->n_type; k++) {
        const peri_type_rate *t = peri_figures_type(f, reads->type[k].dtype);
        if (!t || t->gbps <= 0) continue;
        s.linear_us = t->op_us;
        break;
    }
    s.copy_us = f->copy_us;
    s.link_gbps = f->link_gbps;
    return s;
}

static bool is_listed(const peri_place_list *l, size_t i) {
    for (uint32_t k = 0; k < l->n + l->n_reserve; k++)
        if (l->device[k] == i) return true;
    return false;
}

/* Mark the usable devices that are not listed yet and go by `name` (NULL: all native ones). */
static void mark(const peri_registry *r, const char *name, const peri_place_list *l,
                 bool *is_candidate) {
    for (size_t i = 0; i < r->n_device; i++)
        is_candidate[i] = r->device[i].is_usable && !is_listed(l, i) &&
                          (name ? is_named(r, i, name) : !is_emulated(&r->device[i]));
}

/* The devices named, in their order. */
static peri_status list_named(const peri_registry *r, const peri_reads *reads, const char *wanted,
                              bool *is_candidate, peri_place_list *l, peri_error *err) {
    const peri_reads none = {0};
    peri_text skipped = {0};
    char name[64], why[BAD_REASON_BYTES];
    for (const char *s = wanted; *s != 0 && l->n < PERI_SPLIT_DEVICES; s += *s == ',') {
        size_t n = strcspn(s, ",");
        snprintf(name, sizeof name, "%.*s", (int)n, s);
        s += n;
        if (n == 0) continue;
        mark(r, name, l, is_candidate);
        size_t best = best_of(r, reads, is_candidate);
        if (best < r->n_device) {
            l->device[l->n++] = best;
            continue;
        }
        why_not(r, name, &none, why, sizeof why);
        for (uint32_t k = 0; k < l->n; k++)
            if (is_named(r, l->device[k], name))
                snprintf(why, sizeof why, "named once more than there are devices of that name");
        peri_text_addf(&skipped, "%s%s: %s", skipped.size ? "; " : "", name, why);
    }
    peri_status st = PERI_OK;
    if (l->n == 0)
        st = peri_fail(err, skipped.failed ? PERI_E_NOMEM : PERI_E_NO_DEVICE, "device %s",
                       skipped.size && !skipped.failed ? skipped.data : wanted);
    else if (skipped.size)
        snprintf(l->skipped, sizeof l->skipped, "%s",
                 skipped.failed ? "out of memory for the reason" : skipped.data);
    peri_text_fini(&skipped);
    return st;
}

/* All native devices that are not listed yet, by speed. */
static uint32_t list_native(const peri_registry *r, const peri_reads *reads, bool *is_candidate,
                            peri_place_list *l) {
    uint32_t n = 0;
    for (;;) {
        mark(r, NULL, l, is_candidate);
        for (uint32_t k = 0; k < n; k++)
            is_candidate[l->device[l->n + k]] = false;
        size_t best = best_of(r, reads, is_candidate);
        if (best == r->n_device || l->n + n == PERI_SPLIT_DEVICES) return n;
        l->device[l->n + n++] = best;
    }
}

/* Is there a native device that is faster than the chosen one and only lacks room for everything?
 */
static bool has_faster(const peri_registry *r, const peri_reads *reads, size_t chosen) {
    for (size_t i = 0; i < r->n_device; i++)
        if (r->device[i].is_usable && !is_emulated(&r->device[i]) && bandwidth(r, i, reads) > 0 &&
            i != chosen && is_better(r, reads, i, chosen))
            return true;
    return false;
}

static void find_all_bandwidths(peri_registry *r, const peri_reads *reads,
                                const peri_place_list *l) {
    for (uint32_t k = 0; l->n > 1 && k < l->n; k++)
        find_bandwidth(r, reads, l->device[k]);
}

/* A fast device without room for everything takes a part, so its speed matters as well. */
static void find_native_bandwidths(peri_registry *r, const peri_reads *reads) {
    size_t n = 0;
    for (size_t i = 0; i < r->n_device; i++)
        n += r->device[i].is_usable && !is_emulated(&r->device[i]);
    for (size_t i = 0; n > 1 && i < r->n_device; i++)
        if (r->device[i].is_usable && !is_emulated(&r->device[i])) find_bandwidth(r, reads, i);
}

/* "gpu0, cpu: asked for in this order", or that none has room for all. */
static void explain_list(const peri_registry *r, bool is_asked_for, peri_place_list *l) {
    peri_text t = {0};
    for (uint32_t k = 0; k < l->n; k++)
        peri_text_addf(&t, "%s%s", k ? ", " : "", r->device[l->device[k]].info.name);
    peri_text_add_str(&t, is_asked_for
                              ? ": asked for in this order"
                              : ": the fastest has no room for all weights; by their speed");
    if (!t.failed) peri_escape(l->choice.why, sizeof l->choice.why, t.data);
    peri_text_fini(&t);
}

peri_status peri_place_candidates(peri_registry *r, const peri_reads *reads, const char *wanted,
                                  peri_place_list *out, peri_error *err) {
    bool *is_candidate = peri_calloc(r->n_device, sizeof *is_candidate);
    *out = (peri_place_list){0};
    if (is_candidate == NULL) return peri_fail(err, PERI_E_NOMEM, "placement: out of memory");
    peri_status st = PERI_OK;
    bool is_list = wanted != NULL && strchr(wanted, ',') != NULL;
    if (is_list) {
        st = list_named(r, reads, wanted, is_candidate, out, err);
    } else {
        bool is_free = wanted == NULL || *wanted == 0;
        if (is_free) find_native_bandwidths(r, reads);
        st = peri_place_choose(r, reads, wanted, &out->choice, err);
        if (st == PERI_OK && !(is_free && has_faster(r, reads, out->choice.device))) {
            out->n = 1;
            out->device[0] = out->choice.device;
            if (is_free) out->n_reserve = list_native(r, reads, is_candidate, out);
        } else if (is_free && (st == PERI_OK || st == PERI_E_NO_DEVICE)) {
            out->n = list_native(r, reads, is_candidate,
                                 out); /* together they may be faster, or have room */
            if (out->n > 1)
                st = PERI_OK;
            else
                out->n = 0;
        }
    }
    if (st == PERI_OK) find_all_bandwidths(r, reads, out);
    if (st == PERI_OK && (is_list || out->n > 1)) {
        for (size_t i = 0; i < r->n_device; i++)
            is_candidate[i] = i == out->device[0];
        out->choice.device = out->device[0];
        explain_choice(r, is_candidate, reads, is_list ? wanted : NULL, &out->choice);
        if (out->n > 1) explain_list(r, is_list, out);
    }
    peri_free(is_candidate);
    return st;
}

/* Position k of the list becomes the last of those to be used. */
static void use_reserve(peri_place_list *l, uint32_t k) {
    size_t device = l->device[k];
    for (; k > l->n; k--)
        l->device[k] = l->device[k - 1];
    l->device[l->n++] = device;
    l->n_reserve--;
}

/* None of the list goes by the name: append the best that does. */
static peri_status append_named(peri_registry *r, const peri_reads *reads, const char *name,
                                peri_place_list *l, peri_error *err) {
    char why[BAD_REASON_BYTES];
    bool *is_candidate = peri_calloc(r->n_device, sizeof *is_candidate);
    if (is_candidate == NULL) return peri_fail(err, PERI_E_NOMEM, "placement: out of memory");
    mark(r, name, l, is_candidate);
    size_t best = best_of(r, reads, is_candidate);
    peri_free(is_candidate);
    if (best == r->n_device) {
        const peri_reads none = {0};
        why_not(r, name, &none, why, sizeof why);
        return peri_fail(err, PERI_E_NO_DEVICE, "device %s: %s", name, why);
    }
    if (l->n + l->n_reserve == PERI_SPLIT_DEVICES) {
        if (l->n_reserve == 0)
            return peri_fail(err, PERI_E_RANGE, "device %s: more than %d devices", name,
                             PERI_SPLIT_DEVICES);
        l->n_reserve--;
    }
    l->device[l->n + l->n_reserve++] = best;
    use_reserve(l, l->n + l->n_reserve - 1);
    return PERI_OK;
}

peri_status peri_place_add(peri_registry *r, const peri_reads *reads, const char *name,
                           peri_place_list *list, size_t *device, peri_error *err) {
    uint32_t k = 0, n_before = list->n;
    while (k < list->n + list->n_reserve && !is_named(r, list->device[k], name))
        k++;
    peri_status st = PERI_OK;
    if (k == list->n + list->n_reserve)
        st = append_named(r, reads, name, list, err);
    else if (k >= list->n)
        use_reserve(list, k);
    if (st != PERI_OK) return st;
    *device = list->device[k < n_before ? k : list->n - 1];
    if (list->n > n_before) find_all_bandwidths(r, reads, list);
    return PERI_OK;
}

void peri_place_note(const peri_registry *r, const peri_choice *c, size_t i,
                     const peri_reads *reads, char *why, size_t n) {
    char mine[80], other[80];
    if (n == 0) return;
    why[0] = 0;
    if (i >= r->n_device || c->device >= r->n_device) return;
    const peri_device *d = &r->device[i], *chosen = &r->device[c->device];
    if (i == c->device) {
        snprintf(why, n, "chosen: %s", c->why);
        return;
    }
    if (is_out(r, i, reads, why, n)) return;
    if (is_better(r, reads, i, c->device)) {
        snprintf(why, n, "%s was asked for", chosen->info.name);
        return;
    }
    predict(r, i, reads, mine, sizeof mine);
    predict(r, c->device, reads, other, sizeof other);
    if (is_emulated(d) && !is_emulated(chosen))
        snprintf(why, n, "emulated; %s is native", chosen->info.name);
    else if (bandwidth(r, i, reads) == bandwidth(r, c->device, reads))
        snprintf(why, n, "nothing tells it from %s, which is listed first: %s", chosen->info.name,
                 mine);
    else
        snprintf(why, n, "slower than %s: %s against %s", chosen->info.name, mine, other);
}
