/* SPDX-License-Identifier: MIT
 *
 * registry.h - every plugin file seen, every device offered, why each is used or refused, and
 * opening a device.
 *
 * Looking at a plugin has three steps, each of which may refuse it in one line: (1) the ELF note is
 * read without loading the file (wrong ABI major, wrong processor, no note); (2) a child process
 * loads it and asks for its devices, with a time limit, so a crash or hang costs the child (cached
 * by file identity); (3) on first use it is loaded here.
 *
 * Search order: files given explicitly; then $PERIGEE_PLUGIN_PATH (colon-separated folders;
 * replaces the rest; ignored in set-uid programs); else $XDG_DATA_HOME/perigee/0/plugins and the
 * folder perigee/0/plugins beside libperigee.so.  Never the working directory; only absolute paths.
 * Refused: files and folders of other users than root and the caller, or writable by others (a
 * group that holds nobody but its owner is not others).
 *
 * The SHA-256 of a plugin is recorded before its code first runs; a later change is a note and a
 * warning, or refuses it (is_pinned).
 *
 * Options a plugin asks for reach it in the child too: `option` is asked, then the environment
 * ("cpu.isa" is PERIGEE_CPU_ISA).  Services, memory nodes and options of the newest registry serve
 * all plugins of the process. */
#ifndef PERI_PLUGIN_REGISTRY_H
#define PERI_PLUGIN_REGISTRY_H

#include <stdbool.h>

#include "base/pool.h"
#include "figures.h"
#include "perigee/plugin.h"
#include "split.h"
#include "topology.h"

typedef struct peri_registry peri_registry;
typedef struct peri_backend peri_backend;
struct json_t; /* of jansson */

/* Measure an open device: the types of *f that are missing, and its other figures where there are
 * none yet.  What the device declines is 0 in *f.  Failure says why it cannot be measured. */
typedef peri_status (*peri_measure_fn)(peri_backend *b, const uint32_t *dtype, uint32_t n,
                                       peri_figures *f, peri_error *err);

typedef struct peri_registry_options {
    uint32_t size;
    const peri_topology *topology; /* borrowed for the registry's life */
    const char *const *files; /* [n_file] --plugin FILE; relative ones to the working directory */
    size_t n_file;
    const char *library_dir;   /* folder of libperigee.so; NULL = found through dladdr */
    const char *probe_program; /* NULL = <library_dir>/perigee/0/perigee-probe */
    uint32_t probe_timeout_ms; /* 0 = 5000 */
    uint32_t n_thread;         /* the user's wish; 0 = decide from the topology */
    const char *(*option)(void *user, const char *key); /* value of "cpu.isa", or NULL */
    void *option_user;
    bool want_no_cache; /* do not read or write the caches of probes and figures */
    bool is_pinned;     /* refuse plugins whose bytes are not those recorded at their first use */
    peri_measure_fn measure; /* NULL: nothing is measured but the memory of the host */
} peri_registry_options;

typedef enum peri_plugin_state {
    PERI_PLUGIN_USABLE,
    PERI_PLUGIN_REFUSED,
    PERI_PLUGIN_NO_DEVICE
} peri_plugin_state;

typedef struct peri_plugin_file {
    const char *path;
    const char *name;     /* from the note, or "" */
    const char *version;  /* from the probe, or "" */
    const char *abi;      /* "0.1", or "" */
    const char *sha256;   /* of its bytes when it was last hashed, or "" when refused before */
    const char *found_by; /* "--plugin", "PERIGEE_PLUGIN_PATH", "user folder", "installed" */
    peri_plugin_state state;
    const char *reason; /* why refused or without device; "" when usable */
} peri_plugin_file;

typedef struct peri_device {
    uint32_t file;  /* index of its plugin file */
    uint32_t index; /* device index inside the plugin */
    peri_dev_info info;
    bool is_usable;     /* false: a duplicate of a better device at the same location */
    const char *reason; /* why not usable, or "" */
} peri_device;

/* An opened device with its plugin's table normalised: every optional function of a smaller, older
 * table is NULL. */
struct peri_backend {
    peri_plugin api;
    peri_dev *dev;
    peri_dev_info info;
    peri_pool *pool; /* of its node */
    const peri_host *host;
};

/* Reads notes and probes; a bad plugin never makes this fail, it is listed as refused.  Fails when
 * out of memory, and for a setting place.figures that is neither "measured" nor "declared". */
peri_status peri_registry_new(const peri_registry_options *o, peri_registry **out, peri_error *err);
void peri_registry_free(peri_registry *r); /* accepts NULL; all backends must be closed */
size_t peri_registry_n_file(const peri_registry *r);
const peri_plugin_file *peri_registry_file(const peri_registry *r, size_t i);
size_t peri_registry_n_device(const peri_registry *r);
const peri_device *peri_registry_device(const peri_registry *r, size_t i);
/* Load the plugin here and open its device.  Failure names plugin and reason.  Close with
 * peri_backend_close. */
peri_status peri_registry_open(peri_registry *r, size_t device, peri_backend **out,
                               peri_error *err);
void peri_backend_close(peri_backend *b); /* accepts NULL; never dlcloses */
/* Measure device i for weights of these types where that has not been done (is_again: whatever was
 * done), through the options' measure; see figures.h.  open: the device, when it is open already.
 * Takes some tenths of a second per device and type; nothing happens with place.figures=declared.
 */
void peri_registry_measure(peri_registry *r, size_t i, peri_backend *open, const uint32_t *dtype,
                           uint32_t n, bool is_again);
/* What was measured of device i, now or in an earlier process. */
const peri_figures *peri_registry_figures(const peri_registry *r, size_t i);
/* The setting place.figures is "declared": nothing is measured. */
bool peri_registry_is_declared(const peri_registry *r);
/* Append to a JSON array what is known of device i, an object per figure: {device, figure, type,
 * value, unit, from}, from being "measured 2026-11-26", "declared by the plugin" or "assumed".
 * False when out of memory. */
bool peri_registry_figure_rows(const peri_registry *r, size_t i, const peri_reads *reads,
                               struct json_t *list);
/* The folder for what can be made again, "cache.dir" of the options; made if need be.  False when
 * there is no place for one. */
bool peri_plugin_cache_folder(char *out, size_t room);
/* Where that folder is or would be; makes nothing. */
bool peri_plugin_cache_path(char *out, size_t room);
/* {"cpu": {...}, "memory_nodes": [...], "pci": [...], "plugins": [...], "devices": [...], "notes":
 * [...]}: what `perigee devices --json` prints.  *json is freed with peri_free. */
peri_status peri_registry_to_json(const peri_registry *r, char **json, peri_error *err);

/* ---- place.c: which device ------------------------------------------------------------------- */
typedef struct peri_choice {
    size_t device;
    char why[240]; /* "cpu on host: only native device; 2 threads: 2 cores, no quota" */
} peri_choice;

/* Choose the device for a model of which a token reads `reads`.  wanted: NULL, or
 * comma-separated names or plugin names in order of preference ("cuda:0,cpu").  When none of
 * them can be used, the error says why of each; an earlier one that cannot is logged as a warning.
 * Candidates are ordered by predicted tokens/s (bandwidth / bytes), native before emulated; enough
 * memory is required when known.  Devices are measured (peri_registry_measure) only when several
 * candidates make it matter.  Why every other device was not: peri_place_note.
 * PERI_E_NO_DEVICE, PERI_E_NOMEM. */
peri_status peri_place_choose(peri_registry *r, const peri_reads *reads, const char *wanted,
                              peri_choice *out, peri_error *err);
/* The devices a model may be spread over.  device[0 .. n-1] are to be used, the more preferred
 * first; device[n .. n+n_reserve-1] only when those cannot do it alone. */
typedef struct peri_place_list {
    size_t device[PERI_SPLIT_DEVICES];
    uint32_t n, n_reserve;
    peri_choice choice; /* of the first, and why it */
    char skipped[320];  /* names of `wanted` that are not used, and why not; else empty */
} peri_place_list;

/* wanted names several devices: those that can be used, in that order; a name given again stands
 * for the next device that goes by it.  One name: that device.  NULL: the one that
 * peri_place_choose takes, with all other native devices in reserve; but where a faster one lacks
 * only the room, or none has room for all weights, all native devices by their speed.  Errors as
 * for peri_place_choose; names that are not used are in `skipped`, nothing is logged of them. */
peri_status peri_place_candidates(peri_registry *r, const peri_reads *reads, const char *wanted,
                                  peri_place_list *out, peri_error *err);
/* The device called `name`, as in `wanted`: one of the list, which is then to be used, else the
 * best other one, appended.  *device: its number in the registry.  PERI_E_NO_DEVICE says why not.
 */
peri_status peri_place_add(peri_registry *r, const peri_reads *reads, const char *name,
                           peri_place_list *list, size_t *device, peri_error *err);
/* Speed, room and link of device i, as far as known.  The name is the registry's. */
peri_split_device peri_place_figures(const peri_registry *r, size_t i, const peri_reads *reads);
/* Why device i was not chosen (or "chosen"), for `perigee explain`. */
void peri_place_note(const peri_registry *r, const peri_choice *c, size_t i,
                     const peri_reads *reads, char *why, size_t n);

#endif
