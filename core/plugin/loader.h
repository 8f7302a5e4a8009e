/* SPDX-License-Identifier: MIT
 *
 * loader.h - one plugin file: its ELF note, and the way of its table into this process.  For
 * whoever has to deal with a file that may be bad: the registry's child, and the conformance kit's.
 */
#ifndef PERI_PLUGIN_LOADER_H
#define PERI_PLUGIN_LOADER_H

#include "perigee/plugin.h"

enum { PERI_PLUGIN_DEVICE_MAX = 64 }; /* devices of one plugin; more means a list without end */

/* ---- note.c
 * -------------------------------------------------------------------------------------- */
typedef struct peri_note {
    uint32_t abi_major, abi_minor;
    char abi[24], name[32], arch[16], needs[128], pci[64];
} peri_note;
/* Read and check the note.  The error's text is the reason, without the file's name.  PERI_E_ABI
 * for another major or processor, PERI_E_CORRUPT for no usable ELF file or note, PERI_E_IO,
 * PERI_E_NOMEM. What was read before the failure stays in *out. */
peri_status peri_note_read(const char *path, peri_note *out, peri_error *err);

/* ---- loader.c: a plugin in this process
 * ----------------------------------------------------------- */
typedef struct peri_library {
    peri_plugin api; /* normalised: what the plugin's table lacks is NULL; strings are never NULL */
} peri_library;
/* dlopen, look the symbol up, call it with host, check and normalise the table.  stage(user, "load"
 * or "entry") is called before each step that runs foreign code; may be NULL. */
peri_status peri_loader_open(const char *path, const peri_host *host,
                             void (*stage)(const char *what), peri_library *out, peri_error *err);
/* device(index), distrusting what it writes. */
peri_status peri_loader_device(const peri_plugin *api, const peri_host *host, uint32_t index,
                               peri_dev_info *out, peri_error *err);

#endif
