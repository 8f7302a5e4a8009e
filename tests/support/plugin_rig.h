/* SPDX-License-Identifier: MIT
 *
 * plugin_rig.h - what tests of the plugin registry share: a private home, options, a registry over
 * given files. */
#ifndef PERI_TEST_PLUGIN_RIG_H
#define PERI_TEST_PLUGIN_RIG_H

#include "plugin/registry.h"

enum { RIG_OPTION_MAX = 8, RIG_FILE_MAX = 48 };

typedef struct peri_rig {
    char home[128]; /* XDG_CACHE_HOME, XDG_DATA_HOME and HOME lie in here */
    peri_topology *topology;
    const char *option[RIG_OPTION_MAX][2];
    const char *file[RIG_FILE_MAX]; /* into path */
    char path[RIG_FILE_MAX][256];
    size_t n_file;
    uint32_t timeout_ms, n_thread;
    bool want_cache, is_probe_missing, is_pinned;
    peri_measure_fn measure;
    peri_registry *registry;
} peri_rig;

/* A fresh home and this synthetic machine (NULL = this one). */
void rig_init(peri_rig *rig, const char *synthetic);
/* Frees everything and removes the home. */
void rig_fini(peri_rig *rig);
void rig_set(peri_rig *rig, const char *key, const char *value); /* NULL value unsets; borrowed */
void rig_add(peri_rig *rig, const char *path);                   /* one more --plugin */
/* Build the registry anew over rig->file; fails the test when that fails. */
void rig_look(peri_rig *rig);
peri_status rig_try(peri_rig *rig, peri_error *err);
/* Path of a file below the home, of a plugin of tests/plugin, of the null plugin; static storage, a
 * few at a time. */
const char *rig_path(const peri_rig *rig, const char *name);
const char *rig_plugin(const char *name);
const char *rig_null(void);
/* Copy a file to home/name with the mode. */
const char *rig_copy(const peri_rig *rig, const char *from, const char *name, unsigned mode);
/* The listed file whose path ends in `tail`; fails the test when there is none. */
const peri_plugin_file *rig_file(const peri_rig *rig, const char *tail);
/* Index of the device of that name; fails the test when there is none. */
size_t rig_device(const peri_rig *rig, const char *name);

#endif
