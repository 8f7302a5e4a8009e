/* SPDX-License-Identifier: MIT
 *
 * topology.c - hwloc's picture of the machine, reduced to the plain data of topology.h.
 *
 * hwloc is asked once, here, and its object is not kept.  Components that start device drivers
 * while the topology loads are switched off first: enumerating devices is the business of plugins,
 * in a child.
 *
 * Which processors.  Decoding one token reads all weights once and waits for memory, so the second
 * hardware thread of a core adds nothing: one processor per core, and on machines with cores of two
 * kinds those of the fastest only - a slow core would finish last.  Quotas come from cgroup.c. */
#include <hwloc.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "plugin/plugin_int.h"
#include "plugin/topology.h"

#include "base/compiler.h"

struct peri_topology {
    peri_arena *arena; /* everything below */
    peri_topo_node *node;
    uint32_t n_node;
    peri_topo_pci *pci;
    uint32_t n_pci;
    const char **note;
    uint32_t n_note, note_room;
    const char *cpu_model;
    uint32_t n_pu, n_pu_all; /* processors allowed, and there */
    bool has_slow_cores, is_thissystem;
    peri_cgroup cgroup;
};

/* While building. */
typedef struct builder {
    peri_topology *t;
    hwloc_topology_t hw;
    hwloc_bitmap_t fast; /* processors of the fastest kind */
    const peri_topology_options *o;
    peri_error *err;
} builder;

static peri_status no_memory(builder *b) {
    return peri_fail(b->err, PERI_E_NOMEM, "topology: out of memory");
}

static peri_status add_note(builder *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static peri_status add_note(builder *b, const char *fmt, ...) {
    peri_topology *t = b->t;
    char line[512], clean[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    peri_escape(clean, sizeof clean, line);
    if (t->n_note == t->note_room) {
        uint32_t room = t->note_room * 2 + 8;
        const char **note = peri_arena_alloc(t->arena, room, sizeof *note);
        if (note == NULL) return no_memory(b);
        if (t->n_note != 0) memcpy(note, t->note, t->n_note * sizeof *note);
        t->note = note;
        t->note_room = room;
    }
    peri_str s = peri_arena_str(t->arena, peri_str_of(clean));
    if (s.data == NULL) return no_memory(b);
    t->note[t->n_note++] = s.data;
    return PERI_OK;
}

static const char *plural(uint64_t n) {
    return n == 1 ? "" : "s";
}

/* ---- loading
 * ------------------------------------------------------------------------------------- */

static peri_status choose_source(builder *b) {
    const peri_topology_options *o = b->o;
    unsigned long flags = 0;
    if (o->synthetic != NULL) {
        if (hwloc_topology_set_synthetic(b->hw, o->synthetic) != 0)
            return peri_fail(b->err, PERI_E_INVALID,
                             "topology: synthetic description '%s' is not valid", o->synthetic);
    } else if (o->xml != NULL) {
        if (hwloc_topology_set_xml(b->hw, o->xml) != 0)
            return peri_fail(b->err, PERI_E_INVALID, "topology: %s: cannot be read as hwloc XML",
                             o->xml);
    } else {
        flags = HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM | HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING |
                HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING;
    }
    if (hwloc_topology_set_flags(b->hw, flags) != 0)
        return peri_fail(b->err, PERI_E_OTHER, "topology: hwloc refuses flags 0x%lx", flags);
    return PERI_OK;
}

/* Restrict to the given processors, as a cgroup's cpuset would. */
static peri_status restrict_to(builder *b, const char *cpuset) {
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    if (set == NULL) return no_memory(b);
    peri_status status = PERI_OK;
    if (hwloc_bitmap_list_sscanf(set, cpuset) != 0 || hwloc_topology_restrict(b->hw, set, 0) != 0)
        status = peri_fail(b->err, PERI_E_INVALID,
                           "topology: processors '%s': not a list of processors of this machine",
                           cpuset);
    hwloc_bitmap_free(set);
    return status;
}

static peri_status load(builder *b) {
    /* These start drivers while the topology loads; unknown names are no error.  "pci" only adds
     * device names to what the Linux component finds by itself, and leaks them (libpciaccess 0.17).
     */
    static const char *const drivers[] = {"opencl", "gl",        "cuda", "nvml",
                                          "rsmi",   "levelzero", "pci"};
    if (hwloc_topology_init(&b->hw) != 0) return no_memory(b);
    for (size_t i = 0; i < sizeof drivers / sizeof drivers[0]; i++)
        hwloc_topology_set_components(b->hw, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, drivers[i]);
    hwloc_topology_set_io_types_filter(b->hw, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    peri_status status = choose_source(b);
    if (status != PERI_OK) return status;
    if (hwloc_topology_load(b->hw) != 0)
        return peri_fail(b->err, PERI_E_OTHER, "topology: hwloc cannot load %s",
                         b->o->xml != NULL ? b->o->xml : "this machine");
    peri_topology *t = b->t;
    t->is_thissystem = hwloc_topology_is_thissystem(b->hw) != 0;
    long online = t->is_thissystem ? sysconf(_SC_NPROCESSORS_ONLN) : 0;
    int n = hwloc_bitmap_weight(hwloc_topology_get_topology_cpuset(b->hw));
    t->n_pu_all = n < 0 ? 0 : (uint32_t)n;
    if (online > 0 && (uint64_t)online > t->n_pu_all) t->n_pu_all = (uint32_t)online;
    if (b->o->cpuset != NULL) status = restrict_to(b, b->o->cpuset);
    if (status != PERI_OK) return status;
    n = hwloc_bitmap_weight(hwloc_topology_get_allowed_cpuset(b->hw));
    t->n_pu = n < 0 ? 0 : (uint32_t)n;
    if (t->n_pu < t->n_pu_all)
        status = add_note(b, "affinity: %u of %u processors", t->n_pu, t->n_pu_all);
    return status;
}

/* ---- kinds of cores
 * ------------------------------------------------------------------------------ */

typedef struct kind {
    hwloc_bitmap_t set;
    const char *type, *capacity; /* NULL: not stated */
    double mhz;                  /* 0: not stated */
} kind;

static kind kind_at(hwloc_topology_t hw, unsigned index, hwloc_bitmap_t set) {
    kind k = {.set = set};
    int efficiency;
    unsigned n_info = 0;
    struct hwloc_info_s *info = NULL;
    if (hwloc_cpukinds_get_info(hw, index, set, &efficiency, &n_info, &info, 0) != 0) return k;
    for (unsigned i = 0; i < n_info; i++) {
        if (strcmp(info[i].name, "CoreType") == 0) k.type = info[i].value;
        if (strcmp(info[i].name, "LinuxCapacity") == 0) k.capacity = info[i].value;
        if (strcmp(info[i].name, "FrequencyMaxMHz") == 0) k.mhz = strtod(info[i].value, NULL);
    }
    return k;
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Cores of one design whose top frequencies lie close are one kind here: servers with a few
 * favoured cores list them as a kind of their own, and dropping all others for 10 % of clock would
 * be folly. */
static bool is_as_fast(const kind *k, const kind *top) {
    return same_text(k->type, top->type) && same_text(k->capacity, top->capacity) && k->mhz > 0 &&
           k->mhz >= 0.8 * top->mhz;
}

static peri_status find_fast_cores(builder *b) {
    hwloc_bitmap_t set = hwloc_bitmap_alloc(), top_set = hwloc_bitmap_alloc();
    b->fast = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(b->hw));
    peri_status status = PERI_OK;
    int n_kind = hwloc_cpukinds_get_nr(b->hw, 0), efficiency = -1;
    if (set == NULL || top_set == NULL || b->fast == NULL) {
        status = no_memory(b);
    } else if (n_kind > 1 &&
               hwloc_cpukinds_get_info(b->hw, (unsigned)n_kind - 1, NULL, &efficiency, NULL, NULL,
                                       0) == 0 &&
               efficiency >= 0) { /* ranked: the last is the fastest */
        kind top = kind_at(b->hw, (unsigned)n_kind - 1, top_set);
        hwloc_bitmap_t fast = hwloc_bitmap_dup(top_set);
        for (int i = 0; i < n_kind - 1 && fast != NULL; i++) {
            kind k = kind_at(b->hw, (unsigned)i, set);
            if (is_as_fast(&k, &top)) hwloc_bitmap_or(fast, fast, set);
        }
        if (fast == NULL) {
            status = no_memory(b);
        } else if (hwloc_bitmap_intersects(fast, b->fast)) {
            int all = hwloc_bitmap_weight(b->fast);
            hwloc_bitmap_and(b->fast, b->fast, fast);
            int n = hwloc_bitmap_weight(b->fast);
            b->t->has_slow_cores = n < all;
            if (n < all)
                status = add_note(
                    b, "core kinds: %d; %d of %d processors belong to the fastest%s%s%s", n_kind, n,
                    all, top.type ? " (" : "", top.type ? top.type : "", top.type ? ")" : "");
        }
        hwloc_bitmap_free(fast);
    }
    hwloc_bitmap_free(set);
    hwloc_bitmap_free(top_set);
    return status;
}

/* ---- memory nodes
 * -------------------------------------------------------------------------------- */

/* One processor of each core in `set`, or of each processor where no cores are known.  Call with
 * cpu NULL to count. */
static uint32_t list_cores(builder *b, hwloc_const_bitmap_t set, int32_t *cpu) {
    bool has_cores = hwloc_get_nbobjs_by_type(b->hw, HWLOC_OBJ_CORE) > 0;
    hwloc_obj_type_t type = has_cores ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
    uint32_t n = 0;
    hwloc_obj_t core = NULL;
    while ((core = hwloc_get_next_obj_by_type(b->hw, type, core)) != NULL) {
        int pu = -1;
        while ((pu = hwloc_bitmap_next(core->cpuset, pu)) >= 0)
            if (hwloc_bitmap_isset(set, (unsigned)pu)) break;
        if (pu < 0) continue;
        if (cpu != NULL) cpu[n] = pu;
        n++;
    }
    return n;
}

/* Free bytes of a node: unused, or clean page cache. */
static peri_status node_free_bytes(builder *b, int32_t numa, uint64_t *out) {
    char path[96], *text;
    size_t size;
    *out = 0;
    if (!b->t->is_thissystem) return PERI_OK;
    snprintf(path, sizeof path, "/sys/devices/system/node/node%d/meminfo", numa);
    peri_status status = peri_file_read(path, 65536, &text, &size, NULL);
    if (status != PERI_OK) return status == PERI_E_NOMEM ? no_memory(b) : PERI_OK;
    static const char *const parts[] = {"MemFree:", "Active(file):", "Inactive(file):"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const char *at = strstr(text, parts[i]);
        if (at != NULL) *out += strtoull(at + strlen(parts[i]), NULL, 10) * 1024;
    }
    peri_free(text);
    return PERI_OK;
}

static peri_status fill_node(builder *b, hwloc_obj_t obj, hwloc_const_bitmap_t usable) {
    peri_topo_node *node = &b->t->node[b->t->n_node];
    uint32_t n = list_cores(b, usable, NULL);
    int32_t *cpu = peri_arena_alloc(b->t->arena, n, sizeof *cpu);
    if (cpu == NULL) return no_memory(b);
    list_cores(b, usable, cpu);
    node->numa = (int32_t)obj->os_index;
    node->mem_total = obj->attr->numanode.local_memory;
    node->n_core = n;
    node->cpu = cpu;
    b->t->n_node++;
    return node_free_bytes(b, node->numa, &node->mem_free);
}

/* Has an earlier node the same processors?  Memory of another speed beside them (HBM, CXL) shows
 * so. */
static const peri_topo_node *twin_of(builder *b, hwloc_obj_t obj) {
    for (uint32_t i = 0; i < b->t->n_node; i++) {
        hwloc_obj_t other = hwloc_get_numanode_obj_by_os_index(b->hw, (unsigned)b->t->node[i].numa);
        if (other != NULL && hwloc_bitmap_isequal(other->cpuset, obj->cpuset))
            return &b->t->node[i];
    }
    return NULL;
}

static peri_status add_numa(builder *b, hwloc_obj_t obj, hwloc_bitmap_t usable) {
    uint64_t mib = obj->attr->numanode.local_memory >> 20;
    hwloc_const_bitmap_t allowed = hwloc_topology_get_allowed_cpuset(b->hw);
    const peri_topo_node *twin = twin_of(b, obj);
    if (twin != NULL)
        return add_note(
            b, "memory node %u (%" PRIu64 " MiB) has the processors of node %d; not used by itself",
            obj->os_index, mib, (int)twin->numa);
    hwloc_bitmap_and(usable, obj->cpuset, b->fast);
    if (hwloc_bitmap_iszero(usable)) hwloc_bitmap_and(usable, obj->cpuset, allowed);
    if (hwloc_bitmap_iszero(usable))
        return add_note(b, "memory node %u (%" PRIu64 " MiB) has no processor that may be used",
                        obj->os_index, mib);
    return fill_node(b, obj, usable);
}

static peri_status find_nodes(builder *b) {
    int n = hwloc_get_nbobjs_by_type(b->hw, HWLOC_OBJ_NUMANODE);
    b->t->node = peri_arena_alloc(b->t->arena, n > 0 ? (size_t)n : 1, sizeof *b->t->node);
    hwloc_bitmap_t usable = hwloc_bitmap_alloc();
    peri_status status = b->t->node == NULL || usable == NULL ? no_memory(b) : PERI_OK;
    hwloc_obj_t obj = NULL;
    while (status == PERI_OK &&
           (obj = hwloc_get_next_obj_by_type(b->hw, HWLOC_OBJ_NUMANODE, obj)) != NULL)
        status = add_numa(b, obj, usable);
    hwloc_bitmap_free(usable);
    if (status == PERI_OK && b->t->n_node == 0)
        return peri_fail(b->err, PERI_E_OTHER, "topology: no memory node has a processor to use");
    return status;
}

/* ---- PCI functions
 * ------------------------------------------------------------------------------- */

static const char *info_of(hwloc_obj_t obj, const char *key) {
    const char *value = obj != NULL ? hwloc_obj_get_info_by_name(obj, key) : NULL;
    return value != NULL ? value : "";
}

/* Display, co-processor, accelerator; CXL memory. */
static bool is_wanted_class(uint16_t class_id) {
    unsigned base = class_id >> 8;
    return base == 0x03 || base == 0x0b || base == 0x12 || class_id == 0x0502;
}

static void fill_pci(builder *b, hwloc_obj_t obj, peri_topo_pci *p) {
    const struct hwloc_pcidev_attr_s *a = &obj->attr->pcidev;
    char name[256];
    snprintf(p->busid, sizeof p->busid, "%04x:%02x:%02x.%01x", a->domain & 0xffffu, a->bus, a->dev,
             a->func & 0xfu);
    p->vendor = a->vendor_id;
    p->device = a->device_id;
    p->class_id = a->class_id;
    const char *vendor = info_of(obj, "PCIVendor"), *device = info_of(obj, "PCIDevice");
    snprintf(name, sizeof name, "%.120s%s%.120s", vendor, vendor[0] && device[0] ? " " : "",
             device);
    peri_escape(p->name, sizeof p->name, name);
    hwloc_obj_t near = hwloc_get_non_io_ancestor_obj(b->hw, obj);
    bool is_one = near != NULL && near->nodeset != NULL && hwloc_bitmap_weight(near->nodeset) == 1;
    p->numa = is_one ? hwloc_bitmap_first(near->nodeset) : -1;
    p->link_gbps = a->linkspeed;
}

static peri_status find_pci(builder *b) {
    size_t n = 0;
    hwloc_obj_t obj = NULL;
    while ((obj = hwloc_get_next_pcidev(b->hw, obj)) != NULL)
        n += is_wanted_class(obj->attr->pcidev.class_id);
    b->t->pci = peri_arena_alloc(b->t->arena, n + 1, sizeof *b->t->pci);
    if (b->t->pci == NULL) return no_memory(b);
    while ((obj = hwloc_get_next_pcidev(b->hw, obj)) != NULL && b->t->n_pci < n)
        if (is_wanted_class(obj->attr->pcidev.class_id))
            fill_pci(b, obj, &b->t->pci[b->t->n_pci++]);
    return PERI_OK;
}

/* ---- the rest
 * ------------------------------------------------------------------------------------ */

static peri_status find_model(builder *b) {
    hwloc_obj_t package = hwloc_get_obj_by_type(b->hw, HWLOC_OBJ_PACKAGE, 0);
    const char *model = info_of(package, "CPUModel");
    if (model[0] == 0) model = info_of(hwloc_get_root_obj(b->hw), "CPUModel");
    peri_str s = peri_arena_str(b->t->arena, peri_str_of(model));
    if (s.data == NULL) return no_memory(b);
    b->t->cpu_model = s.data;
    return PERI_OK;
}

static peri_status describe_caches(builder *b) {
    static const struct {
        hwloc_obj_type_t type;
        const char *name;
    } levels[] = {{HWLOC_OBJ_L1CACHE, "L1d"}, {HWLOC_OBJ_L2CACHE, "L2"}, {HWLOC_OBJ_L3CACHE, "L3"}};
    char line[256] = "";
    size_t n = 0;
    for (size_t i = 0; i < sizeof levels / sizeof levels[0] && n < sizeof line; i++) {
        hwloc_obj_t c = hwloc_get_obj_by_type(b->hw, levels[i].type, 0);
        if (c == NULL) continue;
        unsigned n_core =
            hwloc_get_nbobjs_inside_cpuset_by_type(b->hw, c->cpuset, HWLOC_OBJ_CORE) > 0
                ? (unsigned)hwloc_get_nbobjs_inside_cpuset_by_type(b->hw, c->cpuset, HWLOC_OBJ_CORE)
                : 1;
        n += (size_t)snprintf(line + n, sizeof line - n, "%s%s %" PRIu64 " KiB for %u core%s",
                              n ? ", " : "", levels[i].name, (uint64_t)(c->attr->cache.size >> 10),
                              n_core, plural(n_core));
    }
    return line[0] != 0 ? add_note(b, "caches: %s", line) : PERI_OK;
}

static peri_status read_limits(builder *b) {
    peri_cgroup *g = &b->t->cgroup;
    bool is_asked = b->o->cgroup_root != NULL || b->o->cgroup_self != NULL;
    if (!b->t->is_thissystem && !is_asked) return PERI_OK;
    peri_status status = peri_cgroup_read(b->o->cgroup_root, b->o->cgroup_self, g, b->err);
    uint32_t quota = peri_topology_quota(b->t);
    if (status == PERI_OK && quota != 0)
        status = add_note(b, "cgroup quota: %.3g processors, rounded %s to %u", g->n_cpu,
                          g->n_cpu < 1 ? "up" : "down", quota);
    if (status == PERI_OK && g->mem_bytes != 0)
        status = add_note(b, "cgroup memory limit: %" PRIu64 " MiB", g->mem_bytes >> 20);
    return status;
}

peri_status peri_topology_new(const peri_topology_options *o, peri_topology **out,
                              peri_error *err) {
    static const peri_topology_options this_machine = {.size = sizeof this_machine};
    peri_topology *t = peri_calloc(1, sizeof *t);
    builder b = {.t = t, .o = o != NULL ? o : &this_machine, .err = err};
    *out = NULL;
    if (t != NULL) t->arena = peri_arena_new();
    peri_status status = t == NULL || t->arena == NULL ? no_memory(&b) : load(&b);
    if (status == PERI_OK) status = find_fast_cores(&b);
    if (status == PERI_OK) status = find_nodes(&b);
    if (status == PERI_OK) status = find_pci(&b);
    if (status == PERI_OK) status = find_model(&b);
    if (status == PERI_OK) status = describe_caches(&b);
    if (status == PERI_OK) status = read_limits(&b);
    hwloc_bitmap_free(b.fast);
    if (b.hw != NULL) hwloc_topology_destroy(b.hw);
    if (status != PERI_OK) {
        peri_topology_free(t);
        return status;
    }
    *out = t;
    return PERI_OK;
}

void peri_topology_free(peri_topology *t) {
    if (t == NULL) return;
    peri_arena_free(t->arena);
    peri_free(t);
}

/* ---- what callers see
 * ---------------------------------------------------------------------------- */

uint32_t peri_topology_n_node(const peri_topology *t) {
    return t->n_node;
}

const peri_topo_node *peri_topology_node(const peri_topology *t, uint32_t i) {
    return i < t->n_node ? &t->node[i] : NULL;
}

uint32_t peri_topology_n_pci(const peri_topology *t) {
    return t->n_pci;
}

const peri_topo_pci *peri_topology_pci(const peri_topology *t, uint32_t i) {
    return i < t->n_pci ? &t->pci[i] : NULL;
}

uint32_t peri_topology_quota(const peri_topology *t) {
    double n = t->cgroup.n_cpu;
    if (n <= 0 || n >= UINT32_MAX) return 0;
    return n < 1 ? 1 : (uint32_t)n;
}

uint64_t peri_topology_mem_limit(const peri_topology *t) {
    return t->cgroup.mem_bytes;
}

uint32_t peri_topology_threads(const peri_topology *t, uint32_t node, uint32_t wanted, char *why,
                               size_t n) {
    const peri_topo_node *here = peri_topology_node(t, node);
    uint32_t n_core = here != NULL ? here->n_core : 1, quota = peri_topology_quota(t);
    uint32_t threads = n_core;
    if (quota != 0 && quota < threads) threads = quota;
    if (wanted != 0 && wanted < threads) threads = wanted;
    if (why == NULL || n == 0) return threads;
    char wish[40] = "", place[40] = "", affinity[64] = "", limit[48] = "none";
    if (wanted != 0) snprintf(wish, sizeof wish, "%u wanted, ", wanted);
    if (t->n_node > 1 && here != NULL) snprintf(place, sizeof place, " of node %d", here->numa);
    if (t->n_pu < t->n_pu_all)
        snprintf(affinity, sizeof affinity, ", affinity %u of %u processors", t->n_pu, t->n_pu_all);
    if (quota != 0) snprintf(limit, sizeof limit, "%.3g processors", t->cgroup.n_cpu);
    snprintf(why, n, "%u thread%s: %s%u %score%s%s%s; quota %s", threads, plural(threads), wish,
             n_core, t->has_slow_cores ? "fast " : "", plural(n_core), place, affinity, limit);
    return threads;
}

uint32_t peri_topology_n_note(const peri_topology *t) {
    return t->n_note;
}

const char *peri_topology_note(const peri_topology *t, uint32_t i) {
    return i < t->n_note ? t->note[i] : "";
}

const char *peri_topology_cpu_model(const peri_topology *t) {
    return t->cpu_model;
}

bool peri_topology_is_thissystem(const peri_topology *t) {
    return t->is_thissystem;
}
