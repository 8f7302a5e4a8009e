/* SPDX-License-Identifier: MIT
 *
 * cache_files.h - what is kept on disk from start to start, seen from outside: which files, how
 * much room they take, and removing them.
 *
 * All caches lie below one folder, $XDG_CACHE_HOME/perigee or ~/.cache/perigee.  Everything in
 * them can be made again, so a program that runs meanwhile loses time and nothing else.  Files
 * whose names no cache uses are shown and never touched, and no link is followed. */
#ifndef PERI_PLUGIN_CACHE_FILES_H
#define PERI_PLUGIN_CACHE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "perigee/types.h"

typedef struct peri_cache_kind {
    const char *name, *holds;
    const char *folder; /* below the common one; "" is that one itself */
} peri_cache_kind;

/* Every cache there is; NULL past the last. */
const peri_cache_kind *peri_cache_kind_at(uint32_t index);

typedef struct peri_cache_file {
    const char *name;    /* below the common folder */
    int32_t kind;        /* of peri_cache_kind_at; -1: no cache's */
    const char *problem; /* why it could not be looked at, or not be removed; or NULL */
    uint64_t bytes;      /* its size */
    int64_t modified;    /* seconds since 1970 */
    bool is_removed;     /* by peri_cache_files_prune, or would have been */
} peri_cache_file;

typedef struct peri_cache_files {
    const char *folder;
    peri_cache_file *file; /* [n], oldest first */
    size_t n;
    struct peri_arena *arena;
} peri_cache_files;

/* What is there now.  A folder that does not exist holds nothing.  PERI_E_NOT_FOUND: there is no
 * place for caches.  Release with peri_cache_files_fini, after a failure too. */
peri_status peri_cache_files_init(peri_cache_files *out, peri_error *err);
void peri_cache_files_fini(peri_cache_files *f);

/* Remove files of the kinds whose bit is set, the oldest first, until those that are left take
 * keep_bytes at most.  is_dry_run: only mark them. */
peri_status peri_cache_files_prune(peri_cache_files *f, uint32_t kinds, uint64_t keep_bytes,
                                   bool is_dry_run, peri_error *err);

#endif
