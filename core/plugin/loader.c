/* SPDX-License-Identifier: MIT
 *
 * loader.c - brings a plugin into this process and checks what it hands over.
 *
 * Runs twice for a plugin: in the probing child, and here on first use.  The plugin's table is
 * copied into a zeroed one of our size, so that a function which an older plugin does not have is
 * NULL, and one that we do not know is left out.  What device() fills is distrusted: it gets a
 * block with guard bytes behind it, and every string must end inside its array.  A library that was
 * loaded is never unloaded: drivers keep threads and thread-local destructors in it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "plugin/plugin_int.h"

#include "base/compiler.h"

typedef const peri_plugin *(*entry_fn)(const peri_host *host, peri_error *e);

/* The symbol of another major version, for the message; 0 when there is none. */
static int other_major(void *handle) {
    for (int major = 1; major <= 9; major++) {
        char symbol[32];
        snprintf(symbol, sizeof symbol, "perigee_plugin_v%d", major);
        if (dlsym(handle, symbol) != NULL) return major;
    }
    return 0;
}

static peri_status find_entry(void *handle, entry_fn *out, peri_error *err) {
    void *symbol = dlsym(handle, PERI_PLUGIN_SYMBOL);
    if (symbol != NULL) {
        memcpy(out, &symbol, sizeof symbol); /* ISO C has no cast from object to function pointer */
        return PERI_OK;
    }
    int major = other_major(handle);
    if (major != 0)
        return peri_fail(err, PERI_E_ABI, "built for plugin ABI %d, this core speaks %d", major,
                         PERI_ABI_MAJOR);
    return peri_fail(err, PERI_E_ABI, "exports no %s", PERI_PLUGIN_SYMBOL);
}

/* A plugin's error text in a form that can be shown. */
static const char *text_of(peri_error *e, peri_status code) {
    e->text[sizeof e->text - 1] = 0;
    return e->text[0] != 0 ? e->text : peri_status_text(code);
}

/* ---- the table ------------------------------------------------------------------------------- */

static peri_status normalise(const peri_plugin *table, peri_plugin *out, peri_error *err) {
    *out = (peri_plugin){0};
    if (!PERI_HAS(table, run_op))
        return peri_fail(err, PERI_E_ABI,
                         "its table has %u bytes, too few for the required functions", table->size);
    memcpy(out, table, table->size < sizeof *out ? table->size : sizeof *out);
    out->size = sizeof *out;
    if (out->abi_major != PERI_ABI_MAJOR)
        return peri_fail(err, PERI_E_ABI,
                         "its table is of plugin ABI %u.%u, this core speaks %d.%d", out->abi_major,
                         out->abi_minor, PERI_ABI_MAJOR, PERI_ABI_MINOR);
    const char *missing = out->device == NULL     ? "device"
                          : out->open == NULL     ? "open"
                          : out->supports == NULL ? "supports"
                          : out->run_op == NULL   ? "run_op"
                                                  : NULL;
    if (missing != NULL) return peri_fail(err, PERI_E_ABI, "required function %s is NULL", missing);
    if (out->name == NULL) out->name = "";
    if (out->version == NULL) out->version = "";
    if (out->license == NULL) out->license = "";
    return PERI_OK;
}

/* "/a/b/x.so: libfoo.so.1: cannot open shared object file: No such file or directory" without the
 * part that the caller shows anyway. */
static peri_status loading_failed(const char *path, peri_error *err) {
    const char *text = dlerror();
    size_t n = strlen(path);
    if (text == NULL) text = "unknown reason";
    if (strncmp(text, path, n) == 0 && text[n] == ':') text += n + 1 + (text[n + 1] == ' ');
    return peri_fail(err, PERI_E_OTHER, "cannot be loaded: %s", text);
}

peri_status peri_loader_open(const char *path, const peri_host *host,
                             void (*stage)(const char *what), peri_library *out, peri_error *err) {
    entry_fn entry = NULL;
    peri_error e = {0};
    *out = (peri_library){0};
    if (stage != NULL) stage("load");
    /* NOW: a missing symbol shows here and not in the middle of a token.  LOCAL: plugins do not see
     * each other. */
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) return loading_failed(path, err);
    peri_status status = find_entry(handle, &entry, err);
    if (status != PERI_OK) {
        dlclose(handle);
        return status;
    }
    if (stage != NULL) stage("entry");
    const peri_plugin *table = entry(host, &e);
    if (table == NULL)
        return peri_fail(err, e.code < 0 ? e.code : PERI_E_OTHER, "%s", text_of(&e, PERI_E_OTHER));
    return normalise(table, &out->api, err);
}

/* ---- devices --------------------------------------------------------------------------------- */

static peri_status check_string(const char *s, size_t room, uint32_t index, const char *field,
                                peri_error *err) {
    if (memchr(s, 0, room) != NULL) return PERI_OK;
    return peri_fail(err, PERI_E_ABI, "device %u: %s is not terminated within its %zu bytes", index,
                     field, room);
}

static peri_status check_info(const peri_dev_info *info, uint32_t index, peri_error *err) {
    peri_status status;
    if (info->size != sizeof *info)
        return peri_fail(err, PERI_E_ABI,
                         "device %u: it overwrote the size field (found %u, expected %zu)", index,
                         info->size, sizeof *info);
    if ((status = check_string(info->name, sizeof info->name, index, "name", err)) != PERI_OK ||
        (status = check_string(info->model, sizeof info->model, index, "model", err)) != PERI_OK ||
        (status = check_string(info->isa, sizeof info->isa, index, "isa", err)) != PERI_OK ||
        (status = check_string(info->location, sizeof info->location, index, "location", err)) !=
            PERI_OK)
        return status;
    if (info->name[0] == 0) return peri_fail(err, PERI_E_ABI, "device %u: it has no name", index);
    if ((info->flags >> 16) != 0)
        return peri_fail(err, PERI_E_UNSUPPORTED,
                         "device %u: flags 0x%x must be understood and are not", index,
                         info->flags & 0xffff0000u);
    if (!(info->mem_gbps >= 0 && info->mem_gbps < 1e9f)) /* catches NaN */
        return peri_fail(err, PERI_E_ABI, "device %u: bandwidth of %g GB/s", index,
                         (double)info->mem_gbps);
    return PERI_OK;
}

peri_status peri_loader_device(const peri_plugin *api, const peri_host *host, uint32_t index,
                               peri_dev_info *out, peri_error *err) {
    enum { GUARD_BYTES = 512, GUARD = 0xa5 };
    struct {
        peri_dev_info info;
        unsigned char guard[GUARD_BYTES];
    } room;
    peri_error e = {0};
    memset(&room, 0, sizeof room);
    memset(room.guard, GUARD, sizeof room.guard);
    room.info.size = sizeof room.info;
    int32_t status = api->device(host, index, &room.info, &e);
    for (size_t i = 0; i < sizeof room.guard; i++)
        if (room.guard[i] != GUARD)
            return peri_fail(err, PERI_E_ABI, "device %u: it wrote past the room it was given",
                             index);
    if (status > 0)
        return peri_fail(err, PERI_E_ABI, "device %u: returned %d, which is no status", index,
                         (int)status);
    if (status < 0) return peri_fail(err, status, "%s", text_of(&e, status));
    peri_status checked = check_info(&room.info, index, err);
    if (checked != PERI_OK) return checked;
    *out = room.info;
    /* From here on the strings are printable UTF-8, whatever the plugin wrote. */
    peri_escape(out->name, sizeof out->name, room.info.name);
    peri_escape(out->model, sizeof out->model, room.info.model);
    peri_escape(out->isa, sizeof out->isa, room.info.isa);
    peri_escape(out->location, sizeof out->location, room.info.location);
    return PERI_OK;
}
