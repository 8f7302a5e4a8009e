/* SPDX-License-Identifier: MIT
 *
 * cache.c - what examining a plugin said the last time, so that a start does not run it again.
 *
 * One JSON file, $XDG_CACHE_HOME/perigee/probe.json.  An entry belongs to a path and holds the
 * identity of the file (device, inode, size, both times) and the options the plugin asked for with
 * their values; it counts only while all of these are the same.
 *
 *   usable     {"id", "asked", "machine", "answer"}   also bound to the machine string: boot, core,
 * nodes, PCI list crashed    {"id", "asked", "crashes", "reason"}   from the second crash or hang
 * on the file is left alone until it changes
 *
 * "No device" and "no driver" are never kept: installing a driver must show at once.  The cache is
 * a hint: it is parsed as strictly as a child's answer, anything odd in it means asking again, and
 * failing to write it is no error. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum { CACHE_BYTES_MAX = 4 << 20, ENTRY_MAX = 200, QUARANTINE_CRASHES = 2 };

struct peri_cache {
    char *path, *machine;
    json_t *root; /* {"plugins": {path: entry}, "bandwidth": {key: GB/s}} */
    bool is_changed;
};

/* ---- the file
 * ------------------------------------------------------------------------------------- */

bool peri_plugin_make_folders(char *path) {
    bool is_there = true;
    for (char *s = path + 1; *s != 0; s++) {
        if (*s != '/') continue;
        *s = 0;
        is_there = mkdir(path, 0700) == 0 || errno == EEXIST;
        *s = '/';
    }
    return is_there;
}

bool peri_plugin_cache_path(char *out, size_t room) {
    const char *xdg = secure_getenv("XDG_CACHE_HOME"), *home = secure_getenv("HOME");
    int n = -1;
    if (xdg != NULL && xdg[0] == '/')
        n = snprintf(out, room, "%s/perigee", xdg);
    else if (home != NULL && home[0] == '/')
        n = snprintf(out, room, "%s/.cache/perigee", home);
    return n >= 0 && (size_t)n < room;
}

bool peri_plugin_cache_folder(char *out, size_t room) {
    return peri_plugin_cache_path(out, room) && peri_plugin_make_folders(out) &&
           (mkdir(out, 0700) == 0 || errno == EEXIST);
}

static json_t *member(const json_t *root, const char *key) {
    json_t *v = json_object_get(root, key);
    return json_is_object(v) ? v : NULL;
}

static peri_status load(peri_cache *c, peri_error *err) {
    char *text;
    size_t size;
    json_t *j = NULL;
    peri_status status = peri_file_read(c->path, CACHE_BYTES_MAX, &text, &size, NULL);
    if (status == PERI_OK) status = peri_json_parse(text, size, &j, NULL);
    peri_free(text);
    if (status == PERI_E_NOMEM) return peri_fail(err, status, "probe cache: out of memory");
    if (member(j, "plugins") != NULL && member(j, "bandwidth") != NULL) {
        c->root = j;
        return PERI_OK;
    }
    json_decref(j);
    c->root = json_pack("{s:{}, s:{}}", "plugins", "bandwidth");
    return c->root != NULL ? PERI_OK : peri_fail(err, PERI_E_NOMEM, "probe cache: out of memory");
}

peri_status peri_cache_open(bool want_none, const char *machine, peri_cache **out,
                            peri_error *err) {
    char folder[PATH_MAX];
    *out = NULL;
    peri_json_init();
    if (want_none || !peri_plugin_cache_folder(folder, sizeof folder)) return PERI_OK;
    peri_cache *c = peri_calloc(1, sizeof *c);
    peri_status status = PERI_OK;
    if (c == NULL || (c->path = peri_strf("%s/probe.json", folder)) == NULL ||
        (c->machine = peri_str_dup(peri_str_of(machine))) == NULL)
        status = peri_fail(err, PERI_E_NOMEM, "probe cache: out of memory");
    if (status == PERI_OK) status = load(c, err);
    if (status != PERI_OK) {
        peri_cache_free(c);
        return status;
    }
    *out = c;
    return PERI_OK;
}

void peri_cache_save(peri_cache *c) {
    if (c == NULL || !c->is_changed) return;
    char *text;
    if (peri_json_dump(c->root, JSON_INDENT(1) | JSON_SORT_KEYS, &text, NULL) == PERI_OK)
        (void)peri_file_write(c->path, text, strlen(text), NULL);
    peri_free(text);
    c->is_changed = false;
}

void peri_cache_free(peri_cache *c) {
    if (c == NULL) return;
    json_decref(c->root);
    peri_free(c->path);
    peri_free(c->machine);
    peri_free(c);
}

/* ---- entries
 * -------------------------------------------------------------------------------------- */

void peri_plugin_identity(const struct stat *st, char *out, size_t room) {
    snprintf(out, room, "%ju:%ju:%jd:%jd.%09ld:%jd.%09ld", (uintmax_t)st->st_dev,
             (uintmax_t)st->st_ino, (intmax_t)st->st_size, (intmax_t)st->st_mtim.tv_sec,
             st->st_mtim.tv_nsec, (intmax_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

uint64_t peri_plugin_hash(uint64_t h, const char *text) {
    for (const char *s = text ? text : "\1none"; *s; s++)
        h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
    return h;
}

static bool is_text(const json_t *v, const char *expected) {
    return json_is_string(v) && strcmp(json_string_value(v), expected) == 0;
}

static uint64_t hash_option(uint64_t h, const char *key, const char *value) {
    return peri_plugin_hash(peri_plugin_hash(peri_plugin_hash(h, key), "="), value);
}

/* Do all options that were asked for have the same values now? */
static bool same_options(const json_t *asked, const peri_probe_options *o, uint64_t *hash) {
    size_t i;
    json_t *pair;
    *hash = PERI_HASH_START;
    if (!json_is_array(asked) || json_array_size(asked) > PERI_ASKED_MAX) return false;
    json_array_foreach(asked, i, pair) {
        const char *key = json_string_value(json_array_get(pair, 0));
        const json_t *old = json_array_get(pair, 1);
        if (!peri_option_key_is_valid(key)) return false;
        const char *now = o->option(o->user, key);
        if (now == NULL ? !json_is_null(old) : !is_text(old, now)) return false;
        *hash = hash_option(*hash, key, now);
    }
    return true;
}

/* Same question for a result just obtained. */
static bool same_asked(const json_t *asked, const peri_probe_result *r) {
    if (json_array_size(asked) != r->n_asked) return false;
    for (uint32_t i = 0; i < r->n_asked; i++) {
        const json_t *pair = json_array_get(asked, i), *old = json_array_get(pair, 1);
        if (!is_text(json_array_get(pair, 0), r->asked[i].key)) return false;
        const char *now = r->asked[i].value;
        if (now == NULL ? !json_is_null(old) : !is_text(old, now)) return false;
    }
    return true;
}

static bool answer_is_sound(const json_t *answer) {
    const json_t *devices = json_object_get(answer, "devices");
    size_t i, n = json_array_size(devices);
    for (i = 0; i < n; i++) {
        peri_dev_info info;
        if (peri_json_to_info(json_array_get(devices, i), &info, NULL) != PERI_OK) return false;
    }
    return n > 0 && n <= PERI_PLUGIN_DEVICE_MAX;
}

bool peri_cache_get(peri_cache *c, const char *path, const struct stat *st,
                    const peri_probe_options *o, peri_probe_result *r) {
    char id[160];
    if (c == NULL) return false;
    json_t *entry = json_object_get(member(c->root, "plugins"), path);
    peri_plugin_identity(st, id, sizeof id);
    if (!is_text(json_object_get(entry, "id"), id) ||
        !same_options(json_object_get(entry, "asked"), o, &r->options_hash))
        return false;
    json_t *answer = json_object_get(entry, "answer");
    if (answer != NULL) {
        if (!is_text(json_object_get(entry, "machine"), c->machine) || !answer_is_sound(answer))
            return false;
        r->status = PERI_OK;
        r->answer = json_incref(answer);
        r->is_cached = true;
        return true;
    }
    const char *reason = json_string_value(json_object_get(entry, "reason"));
    if (json_integer_value(json_object_get(entry, "crashes")) < QUARANTINE_CRASHES ||
        reason == NULL)
        return false;
    char text[2 * PERI_REASON_BYTES];
    snprintf(text, sizeof text, "in quarantine until its file changes, after %d times: %.200s",
             (int)QUARANTINE_CRASHES, reason);
    r->status = PERI_E_OTHER;
    peri_escape(r->reason, sizeof r->reason, text);
    return true;
}

static json_t *list_asked(const peri_probe_result *r) {
    json_t *asked = json_array();
    for (uint32_t i = 0; i < r->n_asked; i++)
        json_array_append_new(asked, json_pack("[s,s?]", r->asked[i].key, r->asked[i].value));
    if (json_array_size(asked) == r->n_asked) return asked;
    json_decref(asked);
    return NULL;
}

void peri_cache_put(peri_cache *c, const char *path, const struct stat *st,
                    const peri_probe_result *r) {
    char id[160];
    if (c == NULL) return;
    json_t *plugins = member(c->root, "plugins"), *old = json_object_get(plugins, path);
    bool is_worth_keeping = r->status == PERI_OK || r->is_crash;
    if (!is_worth_keeping) {
        if (old != NULL && json_object_del(plugins, path) == 0) c->is_changed = true;
        return;
    }
    peri_plugin_identity(st, id, sizeof id);
    json_t *asked = list_asked(r), *entry = NULL;
    if (asked == NULL) return;
    if (r->status == PERI_OK) {
        entry = json_pack("{s:s, s:O, s:s, s:O}", "id", id, "asked", asked, "machine", c->machine,
                          "answer", r->answer);
    } else {
        json_int_t crashes = 1;
        if (is_text(json_object_get(old, "id"), id) && same_asked(json_object_get(old, "asked"), r))
            crashes += json_integer_value(json_object_get(old, "crashes"));
        entry = json_pack("{s:s, s:O, s:I, s:s}", "id", id, "asked", asked, "crashes", crashes,
                          "reason", r->reason);
    }
    json_decref(asked);
    if (entry == NULL) return;
    if (old == NULL && json_object_size(plugins) >= ENTRY_MAX) json_object_clear(plugins);
    if (json_object_set_new(plugins, path, entry) == 0) c->is_changed = true;
}

uint64_t peri_plugin_options_hash(const peri_probe_result *r) {
    uint64_t h = PERI_HASH_START;
    for (uint32_t i = 0; i < r->n_asked; i++)
        h = hash_option(h, r->asked[i].key, r->asked[i].value);
    return h;
}

double peri_cache_bandwidth(peri_cache *c, const char *key) {
    if (c == NULL) return 0;
    double gbps = json_number_value(json_object_get(member(c->root, "bandwidth"), key));
    return gbps > 0 && gbps < 1e6 ? gbps : 0;
}

void peri_cache_put_bandwidth(peri_cache *c, const char *key, double gbps) {
    if (c == NULL) return;
    json_t *all = member(c->root, "bandwidth");
    if (json_object_size(all) >= ENTRY_MAX) json_object_clear(all);
    if (json_object_set_new(all, key, json_real(gbps)) == 0) c->is_changed = true;
}
