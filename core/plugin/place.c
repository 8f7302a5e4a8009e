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
 * threads of ours read (place_read.c).  Measuring is for comparisons: the usual machine has one
 * candidate and starts at once.  What the user asks for by name goes before all of this.  Which
 * devices share a model: place_list.c. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "plugin/place_int.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

/* ---- facts about one device
 * ------------------------------------------------------------------------- */

bool peri_place_is_emulated(const peri_device *d) {
    return (d->info.flags & PERI_DEV_EMULATED) != 0;
}

static bool is_host_memory(const peri_device *d) {
    return (d->info.flags & PERI_DEV_HOST_MEM) != 0;
}

/* Measured by running ops, else declared, else that of the memory; 0 = unknown. */
float peri_place_gbps(const peri_registry *r, size_t i, const peri_reads *reads) {
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
bool peri_place_is_better(const peri_registry *r, const peri_reads *reads, size_t a, size_t b) {
    bool a_emulated = peri_place_is_emulated(&r->device[a]),
         b_emulated = peri_place_is_emulated(&r->device[b]);
    if (a_emulated != b_emulated) return b_emulated;
    float a_gbps = peri_place_gbps(r, a, reads), b_gbps = peri_place_gbps(r, b, reads);
    return a_gbps != b_gbps ? a_gbps > b_gbps : a < b;
}

/* ---- measuring ------------------------------------------------------------------------------
 */

void peri_place_measure(peri_registry *r, const peri_reads *reads, size_t i) {
    uint32_t dtype[PERI_FIGURE_TYPES];
    for (uint32_t k = 0; k < reads->n_type; k++)
        dtype[k] = reads->type[k].dtype;
    peri_registry_measure(r, i, NULL, dtype, reads->n_type, false);
    if (peri_place_gbps(r, i, reads) <= 0) peri_place_read(r, i);
}

/* Measure where a comparison depends on it: several candidates of the better class. */
static void find_bandwidths(peri_registry *r, const peri_reads *reads, const bool *is_candidate) {
    for (int emulated = 0; emulated <= 1; emulated++) {
        size_t n = 0;
        for (size_t i = 0; i < r->n_device; i++)
            n += is_candidate[i] && peri_place_is_emulated(&r->device[i]) == (emulated != 0);
        if (n == 0) continue;
        for (size_t i = 0; n > 1 && i < r->n_device; i++)
            if (is_candidate[i] && peri_place_is_emulated(&r->device[i]) == (emulated != 0))
                peri_place_measure(r, reads, i);
        return; /* the other class cannot win */
    }
}

/* ---- choosing -------------------------------------------------------------------------------
 */

/* The best candidate, or n_device. */
size_t peri_place_best(const peri_registry *r, const peri_reads *reads, const bool *is_candidate) {
    size_t best = r->n_device;
    for (size_t i = 0; i < r->n_device; i++)
        if (is_candidate[i] && (best == r->n_device || peri_place_is_better(r, reads, i, best)))
            best = i;
    return best;
}

bool peri_place_is_named(const peri_registry *r, size_t i, const char *name) {
    const peri_device *d = &r->device[i];
    return strcmp(d->info.name, name) == 0 || strcmp(r->file[d->file].show.name, name) == 0;
}

/* Is it the plugin's name, or that of a device it would have ("cuda:0")? */
static bool is_of_plugin(const peri_plugin_file *f, const char *name) {
    size_t n = strcspn(name, ":");
    return f->name[0] != 0 && strlen(f->name) == n && strncmp(f->name, name, n) == 0;
}

/* Why nothing called `name` can be used. */
void peri_place_why_not(const peri_registry *r, const char *name, const peri_reads *reads,
                        char *why, size_t n) {
    for (size_t i = 0; i < r->n_device; i++)
        if (peri_place_is_named(r, i, name) && is_out(r, i, reads, why, n)) return;
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
        char name[64], why[PERI_PLACE_REASON];
        size_t n = strcspn(s, ","), best;
        snprintf(name, sizeof name, "%.*s", (int)n, s);
        s += n;
        if (n == 0) continue;
        for (size_t i = 0; i < r->n_device; i++)
            is_candidate[i] =
                peri_place_is_named(r, i, name) && !is_out(r, i, reads, why, sizeof why);
        find_bandwidths(r, reads, is_candidate);
        best = peri_place_best(r, reads, is_candidate);
        if (best < r->n_device) return best;
        peri_place_why_not(r, name, reads, why, sizeof why);
        peri_text_addf(skipped, "%s%s: %s", skipped->size ? "; " : "", name, why);
    }
    return r->n_device;
}

/* "16.2 tokens/s predicted (100 GB/s)", or that nothing is known. */
static void predict(const peri_registry *r, size_t i, const peri_reads *reads, char *out,
                    size_t n) {
    double gbps = (double)peri_place_gbps(r, i, reads);
    if (gbps <= 0)
        snprintf(out, n, "bandwidth unknown");
    else if (reads->bytes == 0)
        snprintf(out, n, "%.3g GB/s", gbps);
    else
        snprintf(out, n, "%.3g tokens/s predicted (%.3g GB/s)", gbps * 1e9 / (double)reads->bytes,
                 gbps);
}

/* Write why the winner won.  is_candidate: it and those it was compared with. */
void peri_place_explain(const peri_registry *r, const bool *is_candidate, const peri_reads *reads,
                        const char *wish, peri_choice *c) {
    const peri_device *d = &r->device[c->device];
    char speed[80], reason[120], threads[160], line[sizeof c->why * 2];
    size_t n = 0, n_native = 0;
    for (size_t i = 0; i < r->n_device; i++) {
        n += is_candidate[i];
        n_native += is_candidate[i] && !peri_place_is_emulated(&r->device[i]);
    }
    predict(r, c->device, reads, speed, sizeof speed);
    bool is_only = n == 1 || (n_native == 1 && !peri_place_is_emulated(d));
    if (is_only)
        snprintf(reason, sizeof reason, "only %s%s%s", n > 1 ? "native " : "",
                 wish != NULL ? "one of that name" : "device",
                 peri_place_gbps(r, c->device, reads) > 0 ? "" : ", bandwidth not measured");
    else
        snprintf(reason, sizeof reason, "first of %zu: %s", n, speed);
    threads[0] = 0;
    if (is_host_memory(d))
        peri_topology_threads(r->topology, peri_registry_node_of(r, &d->info), r->n_thread, threads,
                              sizeof threads);
    snprintf(line, sizeof line, "%s on %s: %s%s%s%s%s", d->info.name,
             d->info.location[0] ? d->info.location : "an unnamed place",
             wish != NULL ? "asked for; " : "", reason, threads[0] ? "; " : "", threads,
             peri_place_is_emulated(d) ? "; emulated" : "");
    peri_escape(c->why, sizeof c->why, line);
}

/* Nothing can be used and nothing was asked for: say why of each. */
static peri_status nothing_there(peri_registry *r, const peri_reads *reads, peri_error *err) {
    peri_text list = {0};
    char why[PERI_PLACE_REASON];
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
    char why[PERI_PLACE_REASON];
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
        best = peri_place_best(r, reads, is_candidate);
        if (best == r->n_device) status = nothing_there(r, reads, err);
    }
    if (status == PERI_OK) {
        out->device = best;
        peri_place_explain(r, is_candidate, reads, wanted, out);
    }
    peri_text_fini(&skipped);
    peri_free(is_candidate);
    return status;
}

/* ---- telling --------------------------------------------------------------------------------
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
                           .gbps = (double)peri_place_gbps(r, i, reads),
                           .copy_us = PERI_SPLIT_COPY_US,
                           .link_gbps = link_of(r, &d->info)};
    if (!f->date[0]) return s;
    s.kv_gbps = f->kv_gbps;
    s.attn_us = f->attn_us > f->op_us ? f->attn_us : f->op_us;
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
    if (peri_place_is_better(r, reads, i, c->device)) {
        snprintf(why, n, "%s was asked for", chosen->info.name);
        return;
    }
    predict(r, i, reads, mine, sizeof mine);
    predict(r, c->device, reads, other, sizeof other);
    if (peri_place_is_emulated(d) && !peri_place_is_emulated(chosen))
        snprintf(why, n, "emulated; %s is native", chosen->info.name);
    else if (peri_place_gbps(r, i, reads) == peri_place_gbps(r, c->device, reads))
        snprintf(why, n, "nothing tells it from %s, which is listed first: %s", chosen->info.name,
                 mine);
    else
        snprintf(why, n, "slower than %s: %s against %s", chosen->info.name, mine, other);
}
