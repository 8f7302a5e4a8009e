/* SPDX-License-Identifier: MIT
 *
 * registry.c - the list of plugin files and devices, and opening a device.
 *
 * Building the list loads no plugin here: search.c names files, note.c reads their notes, cache.c
 * or probe.c tell what they offer.  A plugin is loaded with the first device that is opened, and
 * what it says then must be what it said when examined.  The list does not change once built;
 * everything in it lives in one arena. */
#define _GNU_SOURCE
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum { PROBE_TIMEOUT_MS = 5000 };

static peri_status no_memory(peri_error *err) {
    return peri_fail(err, PERI_E_NOMEM, "plugin registry: out of memory");
}

void *peri_registry_grow(void **array, size_t *n, size_t *room, size_t element_bytes) {
    if (*n == *room) {
        size_t more = *room * 2 + 8;
        void *p = peri_resize_array(*array, more, element_bytes);
        if (p == NULL) return NULL;
        *array = p;
        *room = more;
    }
    char *element = (char *)*array + (*n)++ * element_bytes;
    memset(element, 0, element_bytes);
    return element;
}

peri_status peri_registry_add_note(peri_registry *r, peri_error *err, const char *fmt, ...) {
    char line[1024], clean[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    peri_escape(clean, sizeof clean, line);
    const char *kept = peri_arena_str(r->arena, peri_str_of(clean)).data;
    const char **note = kept == NULL ? NULL
                                     : peri_registry_grow((void **)&r->note, &r->n_note,
                                                          &r->note_room, sizeof *note);
    if (note == NULL) return no_memory(err);
    *note = kept;
    return PERI_OK;
}

/* ---- what plugins may ask for
 * --------------------------------------------------------------------- */

/* "cpu.isa" -> PERIGEE_CPU_ISA. */
static const char *from_environment(const char *key) {
    char name[sizeof "PERIGEE_" + PERI_OPTION_KEY_MAX];
    size_t n = strlen(key);
    if (n > PERI_OPTION_KEY_MAX) return NULL;
    memcpy(name, "PERIGEE_", 8);
    for (size_t i = 0; i <= n; i++) {
        unsigned char c = (unsigned char)key[i];
        name[8 + i] = c == '.' || c == '-' ? '_' : (char)toupper(c);
    }
    return secure_getenv(name);
}

const char *peri_registry_option(void *registry, const char *key) {
    const peri_registry *r = registry;
    const char *value = r->option != NULL ? r->option(r->option_user, key) : NULL;
    if (value == NULL) value = from_environment(key);
    if (value == NULL && strcmp(key, "cache.dir") == 0 && r->cache_dir[0] != 0)
        value = r->cache_dir;
    return value;
}

static void list_nodes(peri_registry *r) {
    uint64_t limit = peri_topology_mem_limit(r->topology);
    for (uint32_t i = 0; i < peri_topology_n_node(r->topology) && i < PERI_NODE_MAX; i++) {
        const peri_topo_node *t = peri_topology_node(r->topology, i);
        peri_host_node *h = &r->node[r->n_node++];
        *h = (peri_host_node){.size = sizeof *h,
                              .numa = peri_topology_n_node(r->topology) == 1 ? -1 : t->numa,
                              .n_core = t->n_core,
                              .n_worker =
                                  peri_topology_threads(r->topology, i, r->n_thread, NULL, 0),
                              .mem_total = t->mem_total,
                              .mem_free = t->mem_free};
        if (limit != 0 && h->mem_total > limit) h->mem_total = limit;
        if (h->mem_free > h->mem_total) h->mem_free = h->mem_total;
    }
}

static void offer_services(peri_registry *r) {
    peri_host_setup s = {
        .owner = r, .option = peri_registry_option, .user = r, .n_node = r->n_node};
    memcpy(s.node, r->node, sizeof s.node);
    peri_host_configure(&s);
}

uint32_t peri_registry_node_of(const peri_registry *r, const peri_dev_info *info) {
    int32_t numa = -1;
    if (strncmp(info->location, "numa:", 5) == 0)
        numa = (int32_t)strtol(info->location + 5, NULL, 10);
    for (uint32_t i = 0; i < peri_topology_n_pci(r->topology); i++) {
        const peri_topo_pci *p = peri_topology_pci(r->topology, i);
        size_t n = strlen(p->busid);
        if (strncmp(info->location, "pci:", 4) == 0 &&
            strncmp(info->location + 4, p->busid, n) == 0)
            numa = p->numa;
    }
    for (uint32_t i = 0; numa >= 0 && i < peri_topology_n_node(r->topology); i++)
        if (peri_topology_node(r->topology, i)->numa == numa) return i;
    return 0;
}

/* ---- looking at files
 * ------------------------------------------------------------------------------ */

peri_status peri_registry_refuse(peri_registry *r, peri_file *f, peri_status why,
                                 const char *reason, peri_error *err) {
    /* "None here" and "driver missing" are what a sound plugin says on another machine. */
    f->show.state = why == PERI_E_NO_DEVICE || why == PERI_E_NO_DRIVER ? PERI_PLUGIN_NO_DEVICE
                                                                       : PERI_PLUGIN_REFUSED;
    f->show.reason = peri_arena_str(r->arena, peri_str_of(reason)).data;
    return f->show.reason != NULL ? PERI_OK : no_memory(err);
}

static peri_status read_note(peri_registry *r, peri_file *f, peri_error *err) {
    peri_error why = {0};
    peri_status status = peri_note_read(f->show.path, &f->note, &why);
    if (status == PERI_E_NOMEM) return no_memory(err);
    char name[sizeof f->note.name], abi[sizeof f->note.abi];
    peri_escape(name, sizeof name, f->note.name);
    peri_escape(abi, sizeof abi, f->note.abi);
    f->show.name = peri_arena_str(r->arena, peri_str_of(name)).data;
    f->show.abi = peri_arena_str(r->arena, peri_str_of(abi)).data;
    if (f->show.name == NULL || f->show.abi == NULL) return no_memory(err);
    return status == PERI_OK ? PERI_OK : peri_registry_refuse(r, f, status, why.text, err);
}

/* Take over a usable answer: version and devices. */
static peri_status take_answer(peri_registry *r, uint32_t file, const json_t *answer,
                               bool is_cached, peri_error *err) {
    peri_file *f = &r->file[file];
    peri_error why = {0};
    char version_text[64];
    const char *name = json_string_value(json_object_get(answer, "name"));
    const char *version = json_string_value(json_object_get(answer, "version"));
    const json_t *devices = json_object_get(answer, "devices");
    if (name != NULL && name[0] != 0 && strcmp(name, f->note.name) != 0) {
        peri_fail(&why, PERI_E_ABI, "calls itself '%.60s', but its note says '%s'", name,
                  f->note.name);
        return peri_registry_refuse(r, f, PERI_E_ABI, why.text, err);
    }
    peri_escape(version_text, sizeof version_text, version != NULL ? version : "");
    f->show.version = peri_arena_str(r->arena, peri_str_of(version_text)).data;
    if (f->show.version == NULL) return no_memory(err);
    size_t before = r->n_device;
    for (size_t i = 0; i < json_array_size(devices); i++) {
        peri_dev_info info;
        peri_status status = peri_json_to_info(json_array_get(devices, i), &info, &why);
        if (status != PERI_OK) {
            r->n_device = before;
            return peri_registry_refuse(r, f, status, why.text, err);
        }
        peri_device *d =
            peri_registry_grow((void **)&r->device, &r->n_device, &r->device_room, sizeof *d);
        if (d == NULL) return no_memory(err);
        if (is_cached) info.mem_free = 0; /* of another day */
        *d = (peri_device){
            .file = file, .index = (uint32_t)i, .info = info, .is_usable = true, .reason = ""};
    }
    return PERI_OK;
}

static peri_status take_result(peri_registry *r, uint32_t file, const peri_probe_result *result,
                               peri_error *err) {
    r->file[file].options_hash = result->options_hash;
    if (result->status == PERI_OK)
        return take_answer(r, file, result->answer, result->is_cached, err);
    return peri_registry_refuse(r, &r->file[file], result->status, result->reason, err);
}

/* Examine the files whose answer is not in the cache, then take all answers in the order of the
 * files. */
static peri_status examine(peri_registry *r, const peri_probe_options *o, peri_error *err) {
    peri_probe_job *jobs = peri_calloc(r->n_file + 1, sizeof *jobs);
    peri_probe_result *results = peri_calloc(r->n_file + 1, sizeof *results);
    uint32_t *file_of = peri_calloc(r->n_file + 1, sizeof *file_of);
    peri_status status = PERI_OK;
    size_t n = 0;
    if (jobs == NULL || results == NULL || file_of == NULL) status = no_memory(err);
    for (uint32_t i = 0; status == PERI_OK && i < r->n_file; i++) {
        peri_file *f = &r->file[i];
        if (f->show.state != PERI_PLUGIN_USABLE) continue;
        if (peri_cache_get(r->cache, f->show.path, &f->st, o, &results[i])) continue;
        jobs[n].path = f->show.path;
        file_of[n++] = i;
    }
    if (status == PERI_OK) status = peri_probe_run(o, jobs, n, err);
    for (size_t k = 0; k < n; k++) {
        results[file_of[k]] = jobs[k].result;
        results[file_of[k]].options_hash = peri_plugin_options_hash(&jobs[k].result);
        if (status == PERI_OK)
            peri_cache_put(r->cache, jobs[k].path, &r->file[file_of[k]].st, &jobs[k].result);
    }
    for (uint32_t i = 0; results != NULL && i < r->n_file; i++) {
        if (status == PERI_OK && r->file[i].show.state == PERI_PLUGIN_USABLE)
            status = take_result(r, i, &results[i], err);
        peri_probe_result_fini(&results[i]);
    }
    peri_free(jobs);
    peri_free(results);
    peri_free(file_of);
    return status;
}

/* ---- one physical device, several plugins
 * ---------------------------------------------------------- */

/* Is a the better driver of their common location?  Native first, then bandwidth, then search
 * order. */
static bool is_better(const peri_device *a, const peri_device *b) {
    bool a_emulated = (a->info.flags & PERI_DEV_EMULATED) != 0;
    bool b_emulated = (b->info.flags & PERI_DEV_EMULATED) != 0;
    if (a_emulated != b_emulated) return b_emulated;
    if (a->info.mem_gbps != b->info.mem_gbps) return a->info.mem_gbps > b->info.mem_gbps;
    return a->file < b->file;
}

static peri_status mark_duplicate(peri_registry *r, peri_device *worse, const peri_device *better,
                                  peri_error *err) {
    bool was_emulated = (worse->info.flags & ~better->info.flags & PERI_DEV_EMULATED) != 0;
    const char *why = was_emulated ? "which is native"
                      : better->info.mem_gbps != worse->info.mem_gbps
                          ? "which reports more bandwidth"
                          : "which was found first";
    char text[PERI_REASON_BYTES], clean[PERI_REASON_BYTES];
    snprintf(text, sizeof text, "same device (%s) as %s of plugin %s, %s", worse->info.location,
             better->info.name, r->file[better->file].show.name, why);
    peri_escape(clean, sizeof clean, text);
    worse->is_usable = false;
    worse->reason = peri_arena_str(r->arena, peri_str_of(clean)).data;
    return worse->reason != NULL ? PERI_OK : no_memory(err);
}

static peri_status drop_duplicates(peri_registry *r, peri_error *err) {
    for (size_t i = 0; i < r->n_device; i++) {
        peri_device *d = &r->device[i], *best = d;
        if (d->info.location[0] == 0) continue;
        for (size_t k = 0; k < r->n_device; k++) {
            peri_device *other = &r->device[k];
            /* A plugin knows what it lists twice (slices of one chip). */
            if (other->file != d->file && strcmp(other->info.location, d->info.location) == 0 &&
                is_better(other, best))
                best = other;
        }
        if (best == d) continue;
        peri_status status = mark_duplicate(r, d, best, err);
        if (status != PERI_OK) return status;
    }
    return PERI_OK;
}

/* Free memory of the host is the topology's to say. */
static void set_host_free(peri_registry *r) {
    for (size_t i = 0; i < r->n_device; i++) {
        peri_dev_info *info = &r->device[i].info;
        uint32_t node = peri_registry_node_of(r, info);
        uint64_t unused = node < r->n_node ? r->node[node].mem_free : 0;
        bool is_host =
            strcmp(info->location, "host") == 0 || strncmp(info->location, "numa:", 5) == 0;
        if (!is_host || unused == 0) continue;
        info->mem_free =
            info->mem_total != 0 && unused > info->mem_total ? info->mem_total : unused;
    }
}

/* ---- the registry
 * ---------------------------------------------------------------------------------- */

/* What decides which driver a plugin meets: where libraries and drivers are looked for, and when
 * the lists of them, which every installation of a driver renews, were written. */
static uint64_t hash_drivers(uint64_t h) {
    static const char *const names[] = {
        "LD_LIBRARY_PATH",      "OCL_ICD_VENDORS",      "OCL_ICD_FILENAMES",
        "OPENCL_LAYERS",        "CUDA_VISIBLE_DEVICES", "POCL_DEVICES",
        "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",   "ZE_AFFINITY_MASK"};
    static const char *const lists[] = {"/etc/ld.so.cache", "/etc/OpenCL/vendors"};
    char line[64];
    struct stat st;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = secure_getenv(names[i]);
        h = peri_plugin_hash(peri_plugin_hash(h, value), ";");
    }
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (stat(lists[i], &st) != 0) continue;
        snprintf(line, sizeof line, "%zu:%lld.%ld;", i, (long long)st.st_mtim.tv_sec,
                 st.st_mtim.tv_nsec);
        h = peri_plugin_hash(h, line);
    }
    return h;
}

/* What a cached answer is bound to besides its file: this boot, this core, these nodes and devices.
 */
static peri_status machine_of(peri_registry *r, char *out, size_t room, peri_error *err) {
    char *boot, line[160];
    size_t size;
    uint64_t h = PERI_HASH_START;
    peri_status status = peri_file_read("/proc/sys/kernel/random/boot_id", 256, &boot, &size, NULL);
    if (status == PERI_E_NOMEM) return no_memory(err);
    for (uint32_t i = 0; i < r->n_node; i++) {
        const peri_host_node *n = &r->node[i];
        snprintf(line, sizeof line, "n%d:%u:%u:%" PRIu64 ";", n->numa, n->n_core, n->n_worker,
                 n->mem_total);
        h = peri_plugin_hash(h, line);
    }
    for (uint32_t i = 0; i < peri_topology_n_pci(r->topology); i++) {
        const peri_topo_pci *p = peri_topology_pci(r->topology, i);
        snprintf(line, sizeof line, "p%s:%04x:%04x;", p->busid, p->vendor, p->device);
        h = peri_plugin_hash(h, line);
    }
    r->drivers_hash = hash_drivers(PERI_HASH_START);
    h = hash_drivers(h);
    snprintf(out, room, "%.36s %d.%d/%d %016" PRIx64, boot != NULL ? boot : "?", PERI_ABI_MAJOR,
             PERI_ABI_MINOR, PERI_PROBE_PROTOCOL, h);
    peri_free(boot);
    return PERI_OK;
}

static peri_status build(peri_registry *r, const peri_registry_options *o, peri_error *err) {
    char machine[128];
    if (o->want_no_cache || !peri_plugin_cache_folder(r->cache_dir, sizeof r->cache_dir))
        r->cache_dir[0] = 0;
    list_nodes(r);
    offer_services(r);
    peri_status status = peri_figures_setting(r, err);
    if (status == PERI_OK) status = peri_search_run(r, o, err);
    for (size_t i = 0; status == PERI_OK && i < r->n_file; i++)
        if (r->file[i].show.state == PERI_PLUGIN_USABLE) status = read_note(r, &r->file[i], err);
    if (status == PERI_OK) status = peri_pins_check(r, o->is_pinned, err);
    if (status == PERI_OK) status = machine_of(r, machine, sizeof machine, err);
    if (status == PERI_OK) status = peri_cache_open(o->want_no_cache, machine, &r->cache, err);
    if (status != PERI_OK) return status;
    char *program = o->probe_program != NULL
                        ? peri_str_dup(peri_str_of(o->probe_program))
                        : peri_strf("%s/perigee/%d/perigee-probe", r->library_dir, PERI_ABI_MAJOR);
    if (program == NULL) return no_memory(err);
    peri_probe_options probe = {.program = program,
                                .timeout_ms =
                                    o->probe_timeout_ms ? o->probe_timeout_ms : PROBE_TIMEOUT_MS,
                                .option = peri_registry_option,
                                .user = r,
                                .node = r->node,
                                .n_node = r->n_node};
    status = examine(r, &probe, err);
    peri_free(program);
    if (status == PERI_OK) status = drop_duplicates(r, err);
    if (status != PERI_OK) return status;
    set_host_free(r);
    peri_cache_save(r->cache);
    r->measured_gbps = peri_calloc(r->n_device, sizeof *r->measured_gbps);
    r->figures = peri_calloc(r->n_device, sizeof *r->figures);
    if (r->measured_gbps == NULL || r->figures == NULL) return no_memory(err);
    if (!r->is_declared) peri_figures_load(r);
    return peri_report_unclaimed(r, err);
}

peri_status peri_registry_new(const peri_registry_options *o, peri_registry **out,
                              peri_error *err) {
    *out = NULL;
    if (o->topology == NULL) return peri_fail(err, PERI_E_INVALID, "plugin registry: no topology");
    peri_json_init();
    peri_registry *r = peri_calloc(1, sizeof *r);
    if (r == NULL) return no_memory(err);
    r->topology = o->topology;
    r->option = o->option;
    r->option_user = o->option_user;
    r->n_thread = o->n_thread;
    r->measure = o->measure;
    r->arena = peri_arena_new();
    peri_status status = r->arena == NULL ? no_memory(err) : build(r, o, err);
    if (status != PERI_OK) {
        peri_registry_free(r);
        return status;
    }
    *out = r;
    return PERI_OK;
}

void peri_registry_free(peri_registry *r) {
    if (r == NULL) return;
    peri_host_release(r);
    peri_cache_free(r->cache);
    peri_free(r->file);
    peri_free(r->device);
    peri_free(r->measured_gbps);
    peri_free(r->figures);
    peri_free(r->note);
    peri_arena_free(r->arena);
    peri_free(r);
}

size_t peri_registry_n_file(const peri_registry *r) {
    return r->n_file;
}

const peri_plugin_file *peri_registry_file(const peri_registry *r, size_t i) {
    return i < r->n_file ? &r->file[i].show : NULL;
}

size_t peri_registry_n_device(const peri_registry *r) {
    return r->n_device;
}

const peri_device *peri_registry_device(const peri_registry *r, size_t i) {
    return i < r->n_device ? &r->device[i] : NULL;
}

/* ---- opening
 * --------------------------------------------------------------------------------------- */

static peri_status load_plugin(peri_file *f, peri_error *err) {
    struct stat st;
    if (f->is_loaded) return PERI_OK;
    if (stat(f->show.path, &st) != 0 || st.st_ino != f->st.st_ino || st.st_size != f->st.st_size ||
        st.st_mtim.tv_sec != f->st.st_mtim.tv_sec || st.st_mtim.tv_nsec != f->st.st_mtim.tv_nsec ||
        st.st_ctim.tv_sec != f->st.st_ctim.tv_sec || st.st_ctim.tv_nsec != f->st.st_ctim.tv_nsec)
        return peri_fail(err, PERI_E_OTHER, "its file has changed since it was examined");
    peri_status status = peri_loader_open(f->show.path, peri_host_get(), NULL, &f->library, err);
    f->is_loaded = status == PERI_OK;
    return status;
}

/* Is the device still the one it was when examined? */
static peri_status recheck(const peri_plugin *api, const peri_device *d, peri_dev_info *now,
                           peri_error *err) {
    peri_status status = peri_loader_device(api, peri_host_get(), d->index, now, err);
    if (status != PERI_OK) return status;
    if (strcmp(now->name, d->info.name) != 0 || strcmp(now->location, d->info.location) != 0 ||
        now->flags != d->info.flags || now->mem_total != d->info.mem_total)
        return peri_fail(err, PERI_E_OTHER,
                         "device %u was %s at %s when examined and is %s at %s now", d->index,
                         d->info.name, d->info.location, now->name, now->location);
    return PERI_OK;
}

static peri_status new_pool(const peri_registry *r, const peri_dev_info *info, peri_pool **out,
                            peri_error *err) {
    uint32_t i = peri_registry_node_of(r, info);
    const peri_topo_node *node = peri_topology_node(r->topology, i);
    uint32_t n = peri_topology_threads(r->topology, i, r->n_thread, NULL, 0);
    bool can_pin = peri_topology_is_thissystem(r->topology) && node != NULL;
    peri_error why = {0};
    peri_status status = peri_pool_new(n, can_pin ? node->cpu : NULL, out, &why);
    if (status == PERI_E_OTHER && can_pin) { /* the affinity may have shrunk since */
        peri_log(PERI_LOG_WARN, "%s: threads run unpinned: %s", info->name, why.text);
        status = peri_pool_new(n, NULL, out, &why);
    }
    return status == PERI_OK ? PERI_OK : peri_fail(err, status, "%s", why.text);
}

static peri_status open_device(peri_backend *b, uint32_t index, peri_error *err) {
    peri_error e = {0};
    int32_t status = b->api.open(b->host, index, &b->dev, &e);
    e.text[sizeof e.text - 1] = 0;
    if (status < 0) {
        b->dev = NULL; /* whatever it wrote is no handle */
        return peri_fail(err, status, "open: %s", e.text[0] ? e.text : peri_status_text(status));
    }
    if (status > 0 || b->dev == NULL) {
        b->dev = NULL;
        return peri_fail(err, PERI_E_ABI, "open returned %d and %s handle", (int)status,
                         status > 0 ? "perhaps a" : "no");
    }
    status = peri_host_add_device(b->dev, b->pool, err);
    if (status != PERI_OK) b->dev = NULL; /* it may be another's: closing it would be worse */
    return status;
}

peri_status peri_registry_open(peri_registry *r, size_t device, peri_backend **out,
                               peri_error *err) {
    *out = NULL;
    if (device >= r->n_device)
        return peri_fail(err, PERI_E_RANGE, "device %zu: there are %zu", device, r->n_device);
    peri_device *d = &r->device[device];
    peri_file *f = &r->file[d->file];
    if (!d->is_usable)
        return peri_fail(err, PERI_E_INVALID, "device %s of plugin %s: %s", d->info.name,
                         f->show.name, d->reason);
    peri_backend *b = peri_calloc(1, sizeof *b);
    if (b == NULL) return no_memory(err);
    peri_error why = {0};
    b->host = peri_host_get();
    peri_status status = load_plugin(f, &why);
    if (status == PERI_OK) status = recheck(&f->library.api, d, &b->info, &why);
    if (status == PERI_OK) {
        b->api = f->library.api;
        status = new_pool(r, &b->info, &b->pool, &why);
    }
    if (status == PERI_OK) status = open_device(b, d->index, &why);
    if (status != PERI_OK) {
        peri_backend_close(b);
        return peri_fail(err, status, "device %s of plugin %s (%s): %s", d->info.name, f->show.name,
                         f->show.path, why.text);
    }
    *out = b;
    return PERI_OK;
}

void peri_backend_close(peri_backend *b) {
    if (b == NULL) return;
    if (b->dev != NULL) {
        peri_host_remove_device(b->dev); /* first: once closed, its address may be another's */
        if (b->api.close != NULL) b->api.close(b->dev);
    }
    peri_pool_free(b->pool);
    peri_free(b);
}
