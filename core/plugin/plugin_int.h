/* SPDX-License-Identifier: MIT
 *
 * plugin_int.h - what the files of core/plugin share; included nowhere else, probe_main.c excepted.
 *
 * The way of a plugin file: search.c finds it and checks who may write it, note.c reads its ELF
 * note, pins.c compares it with the record of its first use, cache.c knows the last answer or
 * probe.c has it examined in a child (probe_main.c, which uses loader.c), registry.c lists its
 * devices and opens them through loader.c and host.c. */
#ifndef PERI_PLUGIN_INT_H
#define PERI_PLUGIN_INT_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/status.h"
#include "base/text.h"
#include "plugin/loader.h"
#include "plugin/registry.h"

enum {
    PERI_NODE_MAX = 64,       /* memory nodes told to plugins */
    PERI_ASKED_MAX = 32,      /* options one plugin may ask for while it is examined */
    PERI_OPTION_KEY_MAX = 63, /* bytes */
    PERI_REASON_BYTES = 240,
    PERI_PROBE_PROTOCOL = 1, /* raised when the child's answer or its checks change */
    PERI_PROBE_FD = 3,       /* the child's socket */
};

/* ---- cgroup.c: what control groups allow
 * --------------------------------------------------------- */
typedef struct peri_cgroup {
    double n_cpu;       /* processors' worth of time; 0 = no limit */
    uint64_t mem_bytes; /* 0 = no limit */
} peri_cgroup;
/* root and self as in peri_topology_options.  Files that are missing or odd mean no limit; only
 * NOMEM fails. */
peri_status peri_cgroup_read(const char *root, const char *self, peri_cgroup *out, peri_error *err);

/* ---- host.c: the services plugins get
 * ------------------------------------------------------------- */
typedef struct peri_host_setup {
    const void *owner; /* whoever may take the setup back */
    const char *(*option)(void *user, const char *key);
    void *user;
    void (*log)(void *user, int level, const char *line); /* NULL = peri_log */
    uint32_t n_node;
    peri_host_node node[PERI_NODE_MAX];
} peri_host_setup;
const peri_host *peri_host_get(void);
/* The newest setup serves all plugins of the process; it is copied. */
void peri_host_configure(const peri_host_setup *s);
/* From now on no option is answered, if the setup is still the owner's. */
void peri_host_release(const void *owner);
/* host->parallel and host->workers of d use pool from now on.  PERI_E_INVALID when d is registered
 * already, PERI_E_RANGE when too many devices are open. */
peri_status peri_host_add_device(peri_dev *d, peri_pool *pool, peri_error *err);
void peri_host_remove_device(peri_dev *d);
/* A key of [a-z0-9._-] of at most PERI_OPTION_KEY_MAX bytes? */
bool peri_option_key_is_valid(const char *key);

/* ---- json.c
 * ------------------------------------------------------------------------------------------ */
/* {"name":..., "location":..., ...}; NULL when out of memory. */
json_t *peri_json_from_info(const peri_dev_info *info);
/* Checked inverse. */
peri_status peri_json_to_info(const json_t *j, peri_dev_info *out, peri_error *err);

/* ---- probe.c
 * ------------------------------------------------------------------------------------- */
typedef struct peri_asked {
    char key[PERI_OPTION_KEY_MAX + 1];
    char *value; /* NULL: not set */
} peri_asked;

typedef struct peri_probe_result {
    peri_status status; /* PERI_OK: at least one device */
    bool is_crash;      /* it crashed or hung: counts towards quarantine */
    bool is_cached;     /* by cache.c */
    uint64_t options_hash;
    char reason[PERI_REASON_BYTES];
    json_t *answer; /* the child's, when PERI_OK */
    uint32_t n_asked;
    peri_asked asked[PERI_ASKED_MAX];
} peri_probe_result;

typedef struct peri_probe_job {
    const char *path;
    peri_probe_result result;
} peri_probe_job;

typedef struct peri_probe_options {
    const char *program;
    uint32_t timeout_ms;
    const char *(*option)(void *user, const char *key); /* with environment and all; never NULL */
    void *user;
    const peri_host_node *node; /* [n_node] */
    uint32_t n_node;
} peri_probe_options;

/* Examine all files, in parallel.  What is wrong with a plugin is in its result; fails only when
 * out of memory.  Results are released with peri_probe_result_fini in either case. */
peri_status peri_probe_run(const peri_probe_options *o, peri_probe_job *jobs, size_t n,
                           peri_error *err);
void peri_probe_result_fini(peri_probe_result *r);

/* ---- cache.c: what probes said the last time
 * -------------------------------------------------------- */
typedef struct peri_cache peri_cache;
/* Load, or start empty.  Never fails except for memory.  NULL *out with PERI_OK: no cache wanted or
 * possible. */
peri_status peri_cache_open(bool want_none, const char *machine, peri_cache **out, peri_error *err);
/* Fill *r from the cache.  false: the file must be examined. */
bool peri_cache_get(peri_cache *c, const char *path, const struct stat *st,
                    const peri_probe_options *o, peri_probe_result *r);
/* Remember a result.  What cannot be remembered is forgotten. */
void peri_cache_put(peri_cache *c, const char *path, const struct stat *st,
                    const peri_probe_result *r);
double peri_cache_bandwidth(peri_cache *c, const char *key); /* GB/s; 0 = not known */
void peri_cache_put_bandwidth(peri_cache *c, const char *key, double gbps);
/* Write when changed; an unwritable cache is no error. */
void peri_cache_save(peri_cache *c);
void peri_cache_free(peri_cache *c); /* accepts NULL */
/* FNV-1a of 64 bits, begun with PERI_HASH_START and gone on with; NULL counts as a text of its own.
 */
#define PERI_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t peri_plugin_hash(uint64_t h, const char *text);
/* Of the options asked for and their values. */
uint64_t peri_plugin_options_hash(const peri_probe_result *r);
/* Device, inode, size and both times of a file as text of less than 160 bytes. */
void peri_plugin_identity(const struct stat *st, char *out, size_t room);
/* Make all folders above a file (mode 0700); path is changed on the way and put back.  False when
 * the last of them cannot be made. */
bool peri_plugin_make_folders(char *path);

/* ---- figures.c
 * -------------------------------------------------------------------------------------- */
/* Take over what the file of figures knows of the registry's devices. */
void peri_figures_load(peri_registry *r);
/* Read the setting place.figures.  PERI_E_INVALID names another value. */
peri_status peri_figures_setting(peri_registry *r, peri_error *err);

/* ---- registry.c, search.c, report.c, place.c
 * -------------------------------------------------------- */
typedef struct peri_file {
    peri_plugin_file show; /* what callers see */
    peri_note note;
    struct stat st;
    bool is_unrecorded; /* by pins.c, before this start */
    bool is_loaded;
    uint64_t options_hash; /* of what it asked for when it was examined, and the values */
    peri_library library;
} peri_file;

struct peri_registry {
    peri_arena *arena; /* all strings below */
    const peri_topology *topology;
    const char *(*option)(void *user, const char *key);
    void *option_user;
    const char *library_dir, *probe_program;
    char cache_dir[PATH_MAX]; /* "" when there is no place for one */
    uint32_t n_thread;
    peri_cache *cache;
    peri_file *file;
    size_t n_file, file_room;
    peri_device *device;
    size_t n_device, device_room;
    float *measured_gbps;  /* [n_device], by place.c; 0 = not measured */
    peri_figures *figures; /* [n_device], by figures.c */
    peri_measure_fn measure;
    bool is_declared;      /* nothing is measured: place.figures=declared */
    uint64_t drivers_hash; /* where drivers are looked for, and when they were installed */
    const char **note;
    size_t n_note, note_room;
    uint32_t n_node;
    peri_host_node node[PERI_NODE_MAX];
};

/* Command line, then environment, then NULL: what host->option answers. */
const char *peri_registry_option(void *registry, const char *key);
peri_status peri_registry_add_note(peri_registry *r, peri_error *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Grow an array of the registry by one zeroed element; NULL when out of memory. */
void *peri_registry_grow(void **array, size_t *n, size_t *room, size_t element_bytes);
/* The file will not be used; only NOMEM fails. */
peri_status peri_registry_refuse(peri_registry *r, peri_file *f, peri_status why,
                                 const char *reason, peri_error *err);
/* pins.c: compare the usable files with what was recorded at their first use, before any code of
 * them runs; a change is noted, or refused when pinned.  Only NOMEM fails. */
peri_status peri_pins_check(peri_registry *r, bool is_pinned, peri_error *err);
/* search.c: NAME among the user's data, "$XDG_DATA_HOME/perigee/NAME" or below ~/.local/share;
 * false when there is no place for it. */
bool peri_plugin_data_path(const char *name, char *out, size_t room);
/* List every file of the search path, refusing those that others may write. */
peri_status peri_search_run(peri_registry *r, const peri_registry_options *o, peri_error *err);
/* Memory node of a device: index into the topology's nodes; 0 when nothing is known. */
uint32_t peri_registry_node_of(const peri_registry *r, const peri_dev_info *info);
/* Sentences on PCI functions that no usable device drives. */
peri_status peri_report_unclaimed(peri_registry *r, peri_error *err);
bool peri_report_is_claimed(const peri_registry *r, const peri_topo_pci *pci);

#endif
