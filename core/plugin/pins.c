/* SPDX-License-Identifier: MIT
 *
 * pins.c - which plugins have been used before, and whether they are still the same bytes.
 *
 * One JSON file, $XDG_DATA_HOME/perigee/plugins.json (else below ~/.local/share):
 *
 *   {"plugins": {PATH: {"sha256", "id", "since"}}}
 *
 * A file is recorded before its code runs for the first time, in the child that examines it.  Later
 * its bytes are hashed again when its identity (device, inode, size, both times) has changed, or
 * always when only recorded bytes may run (--pinned).  Other bytes than recorded are reported and
 * recorded anew, or refused when pinned: to accept them, run once without --pinned.
 *
 * Two processes that record at the same time may lose one of the two entries, which is then made
 * at the next start. */
#define _GNU_SOURCE
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "base/sha256.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum { RECORD_BYTES_MAX = 4 << 20, ENTRY_MAX = 2000, SHOWN_DIGITS = 16 };

typedef struct pins {
    char path[PATH_MAX]; /* "" when there is no place for records */
    json_t *root, *plugins;
    bool is_changed;
    char trouble[PERI_REASON_BYTES]; /* why records cannot be read or kept; "" when they can */
} pins;

static peri_status no_memory(peri_error *err) {
    return peri_fail(err, PERI_E_NOMEM, "records of plugins: out of memory");
}

/* ---- the file -------------------------------------------------------------------------------- */

static void give_up(pins *p, const char *why) {
    snprintf(p->trouble, sizeof p->trouble, "%.*s", (int)sizeof p->trouble - 1, why);
}

static peri_status start_empty(pins *p, peri_error *err) {
    json_decref(p->root);
    p->root = json_pack("{s:{}}", "plugins");
    p->plugins = json_object_get(p->root, "plugins");
    return p->plugins != NULL ? PERI_OK : no_memory(err);
}

static peri_status load(pins *p, peri_error *err) {
    char *text = NULL;
    size_t size = 0;
    peri_error why = {0};
    if (!peri_plugin_data_path("plugins.json", p->path, sizeof p->path)) {
        p->path[0] = 0;
        give_up(p, "there is no place for them: neither XDG_DATA_HOME nor HOME is set");
        return start_empty(p, err);
    }
    if (!peri_file_exists(p->path)) return start_empty(p, err);
    peri_status status = peri_file_read(p->path, RECORD_BYTES_MAX, &text, &size, &why);
    if (status == PERI_OK) status = peri_json_parse(text, size, &p->root, &why);
    peri_free(text);
    if (status == PERI_E_NOMEM) return no_memory(err);
    p->plugins = json_object_get(p->root, "plugins");
    if (status == PERI_OK && json_is_object(p->plugins)) return PERI_OK;
    char line[PERI_REASON_BYTES];
    snprintf(line, sizeof line, "%.150s: %.80s", p->path,
             status == PERI_OK ? "no object \"plugins\"" : why.text);
    give_up(p, line);
    return start_empty(p, err);
}

/* Entries of files that are gone make room. */
static void drop_gone(pins *p) {
    const char *path;
    json_t *entry;
    void *next;
    if (json_object_size(p->plugins) < ENTRY_MAX) return;
    json_object_foreach_safe(p->plugins, next, path, entry) {
        if (!peri_file_exists(path)) json_object_del(p->plugins, path);
    }
}

static void save(pins *p) {
    char *text = NULL;
    peri_error why = {0};
    if (!p->is_changed || p->path[0] == 0) return;
    drop_gone(p);
    peri_status status = peri_plugin_make_folders(p->path)
                             ? peri_json_dump(p->root, JSON_INDENT(1) | JSON_SORT_KEYS, &text, &why)
                             : peri_fail(&why, PERI_E_IO, "its folder cannot be made");
    if (status == PERI_OK) status = peri_file_write(p->path, text, strlen(text), &why);
    peri_free(text);
    if (status != PERI_OK) give_up(p, why.text);
}

/* ---- one plugin ------------------------------------------------------------------------------ */

static bool is_hash(const char *s) {
    return s != NULL && strlen(s) == PERI_SHA256_TEXT - 1 &&
           strspn(s, "0123456789abcdef") == PERI_SHA256_TEXT - 1;
}

static peri_status hash_file(const char *path, char text[PERI_SHA256_TEXT], peri_error *err) {
    peri_mapping *m;
    peri_status status = peri_mapping_open(path, &m, err);
    if (status != PERI_OK) return status;
    status = peri_sha256(peri_mapping_data(m), (size_t)peri_mapping_size(m), text, err);
    if (status == PERI_OK) status = peri_mapping_check(m, err);
    peri_mapping_close(m);
    return status;
}

static peri_status record(pins *p, const peri_file *f, const char *id, const char *sha,
                          const char *since, peri_error *err) {
    char today[16];
    time_t now = time(NULL);
    struct tm utc;
    if (since == NULL && gmtime_r(&now, &utc) != NULL &&
        strftime(today, sizeof today, "%Y-%m-%d", &utc) > 0)
        since = today;
    json_t *entry =
        json_pack("{s:s, s:s, s:s}", "sha256", sha, "id", id, "since", since != NULL ? since : "?");
    if (entry == NULL || json_object_set_new(p->plugins, f->show.path, entry) != 0)
        return no_memory(err);
    p->is_changed = true;
    return PERI_OK;
}

/* Its bytes are not those recorded: say so, or refuse it. */
static peri_status report(peri_registry *r, peri_file *f, bool is_pinned, const json_t *entry,
                          const char *sha, peri_error *err) {
    char line[PERI_REASON_BYTES], since[32];
    const char *old = json_string_value(json_object_get(entry, "sha256"));
    const char *date = json_string_value(json_object_get(entry, "since"));
    peri_escape(since, sizeof since, date != NULL ? date : "?");
    snprintf(line, sizeof line, "has changed since %.10s: sha256 %.*s..., recorded %.*s...", since,
             SHOWN_DIGITS, sha, SHOWN_DIGITS, old);
    if (is_pinned) return peri_registry_refuse(r, f, PERI_E_INVALID, line, err);
    peri_log(PERI_LOG_WARN, "plugin %s %s", f->show.path, line);
    return peri_registry_add_note(r, err, "plugin %s %s", f->show.path, line);
}

static peri_status check(peri_registry *r, peri_file *f, pins *p, bool is_pinned, peri_error *err) {
    char id[160], sha[PERI_SHA256_TEXT];
    peri_error why = {0};
    const json_t *entry = json_object_get(p->plugins, f->show.path);
    const char *old = json_string_value(json_object_get(entry, "sha256"));
    const char *old_id = json_string_value(json_object_get(entry, "id"));
    if (!is_hash(old)) old = NULL;
    peri_plugin_identity(&f->st, id, sizeof id);
    bool is_same_file = old != NULL && old_id != NULL && strcmp(id, old_id) == 0;
    if (is_same_file && !is_pinned) {
        snprintf(sha, sizeof sha, "%s", old);
    } else {
        peri_status status = hash_file(f->show.path, sha, &why);
        if (status == PERI_E_NOMEM) return no_memory(err);
        if (status != PERI_OK) return peri_registry_refuse(r, f, status, why.text, err);
    }
    f->show.sha256 = peri_arena_str(r->arena, peri_str_of(sha)).data;
    if (f->show.sha256 == NULL) return no_memory(err);
    bool is_same = old != NULL && strcmp(old, sha) == 0;
    if (old != NULL && !is_same) {
        peri_status status = report(r, f, is_pinned, entry, sha, err);
        if (status != PERI_OK || is_pinned) return status;
    }
    f->is_unrecorded = old == NULL;
    if (is_same && is_same_file) return PERI_OK;
    const char *since = is_same ? json_string_value(json_object_get(entry, "since")) : NULL;
    char kept[32]; /* the entry that holds it is replaced */
    if (since != NULL) snprintf(kept, sizeof kept, "%.31s", since);
    return record(p, f, id, sha, since != NULL ? kept : NULL, err);
}

/* Records could not be read or written: what is not recorded must not run when pinned. */
static peri_status tell_trouble(peri_registry *r, const pins *p, bool is_pinned, peri_error *err) {
    peri_status status = peri_registry_add_note(r, err, "plugins are not recorded: %s", p->trouble);
    for (size_t i = 0; status == PERI_OK && is_pinned && i < r->n_file; i++) {
        peri_file *f = &r->file[i];
        char line[PERI_REASON_BYTES];
        if (f->show.state != PERI_PLUGIN_USABLE || !f->is_unrecorded) continue;
        snprintf(line, sizeof line, "is not recorded (--pinned): %.200s", p->trouble);
        status = peri_registry_refuse(r, f, PERI_E_INVALID, line, err);
    }
    return status;
}

peri_status peri_pins_check(peri_registry *r, bool is_pinned, peri_error *err) {
    pins p = {0};
    peri_status status = load(&p, err);
    for (size_t i = 0; status == PERI_OK && i < r->n_file; i++)
        if (r->file[i].show.state == PERI_PLUGIN_USABLE)
            status = check(r, &r->file[i], &p, is_pinned, err);
    /* Damaged records are kept as they are while only recorded bytes may run. */
    if (status == PERI_OK && !(is_pinned && p.trouble[0] != 0)) save(&p);
    if (status == PERI_OK && p.trouble[0] != 0) status = tell_trouble(r, &p, is_pinned, err);
    json_decref(p.root);
    return status;
}
