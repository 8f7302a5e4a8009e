/* SPDX-License-Identifier: MIT
 *
 * report.c - what `perigee devices` says: hardware that nobody drives, and everything as JSON.
 *
 * Problem: a user with a GPU and no driver sees a slow model and nothing else.  hwloc lists PCI
 * functions without any driver, and a plugin's note says which vendors it is for, so the two are
 * joined into one sentence. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/plugin_int.h"

#include "base/compiler.h"

static peri_status no_memory(peri_error *err) {
    return peri_fail(err, PERI_E_NOMEM, "plugin registry: out of memory");
}

/* ---- PCI functions that nobody drives
 * ------------------------------------------------------------- */

/* Source: PCI ID repository. */
static const char *vendor_name(uint16_t vendor) {
    switch (vendor) {
    case 0x10de:
        return "NVIDIA";
    case 0x1002:
        return "AMD";
    case 0x8086:
        return "Intel";
    case 0x1ed5:
        return "Moore Threads";
    case 0x19e5:
        return "Huawei";
    default:
        return "PCI";
    }
}

/* Debian's package of a driver library, or NULL. */
static const char *package_of(const char *library) {
    static const char *const known[][2] = {{"libcuda.so.1", "libcuda1"},
                                           {"libOpenCL.so.1", "ocl-icd-libopencl1"},
                                           {"libze_loader.so.1", "libze1"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i][0], library) == 0) return known[i][1];
    return NULL;
}

bool peri_report_is_claimed(const peri_registry *r, const peri_topo_pci *pci) {
    size_t n = strlen(pci->busid);
    for (size_t i = 0; i < r->n_device; i++) {
        const char *location = r->device[i].info.location;
        if (!r->device[i].is_usable || strncmp(location, "pci:", 4) != 0) continue;
        if (strncmp(location + 4, pci->busid, n) != 0) continue;
        if (location[4 + n] == 0 || location[4 + n] == '#') return true; /* #: a slice of it */
    }
    return false;
}

/* Is the vendor among the note's comma-separated hex ids? */
static bool drives_vendor(const peri_note *note, uint16_t vendor) {
    for (const char *s = note->pci; *s != 0;) {
        char *end;
        unsigned long id = strtoul(s, &end, 16);
        if (end != s && id == vendor) return true;
        s = end + strcspn(end, ",");
        if (*s == ',') s++;
    }
    return false;
}

/* What the plugins for this vendor say, or that there is none. */
static peri_status describe_drivers(const peri_registry *r, uint16_t vendor, peri_text *line) {
    bool has_driver = false;
    for (size_t i = 0; i < r->n_file; i++) {
        const peri_file *f = &r->file[i];
        if (!drives_vendor(&f->note, vendor)) continue;
        has_driver = true;
        if (f->show.state == PERI_PLUGIN_USABLE) {
            peri_text_addf(line, "; plugin %s does not offer it", f->show.name);
            continue;
        }
        peri_text_addf(line, "; plugin %s says: %s", f->show.name, f->show.reason);
        for (const char *s = f->note.needs; *s != 0;) {
            char library[128];
            size_t n = strcspn(s, ",");
            snprintf(library, sizeof library, "%.*s", (int)n, s);
            const char *package = package_of(library);
            if (package != NULL)
                peri_text_addf(line, "; %s comes with the Debian package %s", library, package);
            s += n;
            if (*s == ',') s++;
        }
    }
    if (!has_driver) peri_text_add_str(line, "; no plugin here drives it");
    return line->failed ? PERI_E_NOMEM : PERI_OK;
}

peri_status peri_report_unclaimed(peri_registry *r, peri_error *err) {
    peri_status status = PERI_OK;
    for (uint32_t i = 0; status == PERI_OK && i < peri_topology_n_pci(r->topology); i++) {
        const peri_topo_pci *p = peri_topology_pci(r->topology, i);
        if (p->class_id >> 8 == 0x05 || peri_report_is_claimed(r, p))
            continue; /* memory is no device */
        peri_text line = {0};
        peri_text_addf(&line, "%s device %04x:%04x at %s is present", vendor_name(p->vendor),
                       p->vendor, p->device, p->busid);
        if (p->name[0] != 0) peri_text_addf(&line, " (%s)", p->name);
        status = describe_drivers(r, p->vendor, &line);
        if (status != PERI_OK)
            no_memory(err);
        else
            status = peri_registry_add_note(r, err, "%s", line.data);
        peri_text_fini(&line);
    }
    return status;
}

/* ---- JSON
 * ------------------------------------------------------------------------------------------ */

/* Each of these returns NULL when out of memory.  Sizes in bytes are integers: 2^63 suffices. */

static json_t *cpu_json(const peri_registry *r) {
    const peri_topology *t = r->topology;
    return json_pack("{s:s, s:b, s:i, s:I}", "model", peri_topology_cpu_model(t), "is_this_machine",
                     peri_topology_is_thissystem(t), "quota", (int)peri_topology_quota(t),
                     "mem_limit", (json_int_t)peri_topology_mem_limit(t));
}

static json_t *node_json(const peri_registry *r, uint32_t i) {
    const peri_topo_node *n = peri_topology_node(r->topology, i);
    char why[200];
    uint32_t threads = peri_topology_threads(r->topology, i, r->n_thread, why, sizeof why);
    json_t *cpus = json_array();
    for (uint32_t k = 0; k < n->n_core; k++)
        json_array_append_new(cpus, json_integer(n->cpu[k]));
    if (json_array_size(cpus) != n->n_core) {
        json_decref(cpus);
        return NULL;
    }
    return json_pack("{s:i, s:I, s:I, s:i, s:o, s:i, s:s}", "numa", (int)n->numa, "mem_total",
                     (json_int_t)n->mem_total, "mem_free", (json_int_t)n->mem_free, "cores",
                     (int)n->n_core, "processors", cpus, "threads", (int)threads, "why", why);
}

static json_t *pci_json(const peri_registry *r, uint32_t i) {
    const peri_topo_pci *p = peri_topology_pci(r->topology, i);
    char vendor[8], device[8], class_id[8];
    snprintf(vendor, sizeof vendor, "%04x", p->vendor);
    snprintf(device, sizeof device, "%04x", p->device);
    snprintf(class_id, sizeof class_id, "%04x", p->class_id);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:f, s:b}", "busid", p->busid, "vendor",
                     vendor, "device", device, "class", class_id, "name", p->name, "numa",
                     (int)p->numa, "link_gbps", (double)p->link_gbps, "is_claimed",
                     peri_report_is_claimed(r, p));
}

static json_t *plugin_json(const peri_registry *r, uint32_t i) {
    static const char *const states[] = {"usable", "refused", "no_device"};
    const peri_plugin_file *f = &r->file[i].show;
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "path", f->path, "name", f->name,
                     "version", f->version, "abi", f->abi, "found_by", f->found_by, "sha256",
                     f->sha256, "state", states[f->state], "reason", f->reason);
}

static json_t *device_json(const peri_registry *r, uint32_t i) {
    const peri_device *d = &r->device[i];
    const peri_dev_info *info = &d->info;
    return json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:I, s:I, s:f, s:b, s:b, s:b, s:b, s:s}",
                     "name", info->name, "plugin", r->file[d->file].show.name, "index",
                     (int)d->index, "model", info->model, "isa", info->isa, "location",
                     info->location, "mem_total", (json_int_t)info->mem_total, "mem_free",
                     (json_int_t)info->mem_free, "mem_gbps", (double)info->mem_gbps, "is_emulated",
                     (info->flags & PERI_DEV_EMULATED) != 0, "is_host_memory",
                     (info->flags & PERI_DEV_HOST_MEM) != 0, "is_batch_invariant",
                     (info->flags & PERI_DEV_BATCH_INVARIANT) != 0, "is_usable", d->is_usable,
                     "reason", d->reason);
}

/* ---- figures ------------------------------------------------------------------------------------
 */

typedef struct rows {
    const char *device;
    json_t *list;
    bool failed;
} rows;

/* To four digits: more would claim what no clock can tell.  NaN: not known. */
static void add_row(rows *r, const char *figure, const char *type, double value, const char *unit,
                    const char *from) {
    char text[32];
    snprintf(text, sizeof text, "%.4g", value);
    json_t *number = isnan(value) ? json_null() : json_real(strtod(text, NULL));
    json_t *row = json_pack("{s:s, s:s, s:s, s:o, s:s, s:s}", "device", r->device, "figure", figure,
                            "type", type, "value", number, "unit", unit, "from", from);
    r->failed = json_array_append_new(r->list, row) != 0 || r->failed;
}

/* A rate of 0 is one that nobody could tell. */
static double rate(double x) {
    return x > 0 ? x : (double)NAN;
}

static void add_measured(rows *r, const peri_figures *f) {
    char from[40];
    snprintf(from, sizeof from, "measured %s", f->date);
    for (uint32_t i = 0; i < f->n_type; i++) {
        const char *type = peri_figures_type_name(f->type[i].dtype);
        if (f->type[i].gbps <= 0) {
            add_row(r, "weights", type, (double)NAN, "declined", from);
            continue;
        }
        add_row(r, "read weights", type, f->type[i].gbps, "GB/s", from);
        add_row(r, "an op with them", type, f->type[i].op_us, "us", from);
        add_row(r, "multiply weights", type, rate(f->type[i].gmacs), "GMAC/s", from);
    }
    add_row(r, "another op", "", f->op_us, "us", from);
    add_row(r, "read keys, values", "F16", rate(f->kv_gbps), "GB/s", from);
    add_row(r, "attention beside that", "F16", rate(f->attn_us), "us", from);
    add_row(r, "attention", "F16", rate(f->attn_gmacs), "GMAC/s", from);
    add_row(r, "a copy", "", f->copy_us, "us", from);
    add_row(r, "link", "", rate(f->link_gbps), "GB/s", from);
}

bool peri_registry_figure_rows(const peri_registry *r, size_t i, const peri_reads *reads,
                               json_t *list) {
    const peri_dev_info *info = &r->device[i].info;
    rows out = {.device = info->name, .list = list};
    if (r->figures[i].date[0]) {
        add_measured(&out, &r->figures[i]);
        return !out.failed;
    }
    peri_split_device s = peri_place_figures(r, i, reads);
    bool is_assumed = !(s.link_gbps < PERI_SPLIT_LINK_GBPS || s.link_gbps > PERI_SPLIT_LINK_GBPS);
    add_row(&out, "read weights", "", rate(s.gbps), "GB/s",
            info->mem_gbps > 0 ? "declared by the plugin"
            : s.gbps > 0       ? "measured by reading memory"
                               : "");
    add_row(&out, "a copy", "", s.copy_us, "us", "assumed");
    add_row(&out, "link", "", s.link_gbps, "GB/s", is_assumed ? "assumed" : "the topology");
    return !out.failed;
}

static json_t *figures_json(const peri_registry *r) {
    const peri_reads none = {0};
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < r->n_device; i++) {
        if (!r->device[i].is_usable || peri_registry_figure_rows(r, i, &none, list)) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *note_json(const peri_registry *r, uint32_t i) {
    uint32_t n = peri_topology_n_note(r->topology);
    return json_string(i < n ? peri_topology_note(r->topology, i) : r->note[i - n]);
}

/* Add an array of n elements under `key`; false when out of memory. */
static bool add_list(json_t *root, const char *key, const peri_registry *r, size_t n,
                     json_t *(*element)(const peri_registry *r, uint32_t i)) {
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < n; i++)
        if (json_array_append_new(list, element(r, (uint32_t)i)) != 0) break;
    bool is_whole = list != NULL && json_array_size(list) == n;
    return json_object_set_new(root, key, list) == 0 && is_whole;
}

peri_status peri_registry_to_json(const peri_registry *r, char **json, peri_error *err) {
    const peri_topology *t = r->topology;
    json_t *root = json_object();
    bool ok = root != NULL && json_object_set_new(root, "cpu", cpu_json(r)) == 0 &&
              add_list(root, "memory_nodes", r, peri_topology_n_node(t), node_json) &&
              add_list(root, "pci", r, peri_topology_n_pci(t), pci_json) &&
              add_list(root, "plugins", r, r->n_file, plugin_json) &&
              add_list(root, "devices", r, r->n_device, device_json) &&
              json_object_set_new(root, "figures", figures_json(r)) == 0 &&
              add_list(root, "notes", r, peri_topology_n_note(t) + r->n_note, note_json);
    peri_status status = peri_json_dump(ok ? root : NULL, JSON_INDENT(2), json, err);
    json_decref(root);
    return status;
}
