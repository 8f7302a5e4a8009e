/* SPDX-License-Identifier: MIT
 *
 * figures.c - when devices are measured, and the file that keeps what was found.
 *
 * figures.json: {"devices": {identity: {"date", "op_us", ..., "types": {"Q4_0": [gbps, op_us,
 * gmacs]}}}}. The identity is a line of text with everything a speed depends on: the plugin's bytes
 * and the options it asks for, the device's own description, driver libraries, threads.  A device
 * that has changed is a stranger and is measured again; entries of the old one stay until the file
 * is full. The file is a hint: what is odd in it is measured anew, and failing to write it is no
 * error.
 *
 * A device that cannot be measured (no LINEAR, no memory) keeps what its plugin declares; the
 * reason is kept for this process and shown by `perigee explain`. */
#include "plugin/figures.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum { FILE_BYTES_MAX = 1 << 20, DEVICE_MAX = 64, IDENTITY_BYTES = 700 };

/* ---- figures ------------------------------------------------------------------------------------
 */

const peri_type_rate *peri_figures_type(const peri_figures *f, uint32_t dtype) {
    for (uint32_t i = 0; i < f->n_type; i++)
        if (f->type[i].dtype == dtype) return &f->type[i];
    return NULL;
}

/* Types that were not measured are read like the others. */
double peri_figures_gbps(const peri_figures *f, const peri_reads *reads) {
    double bytes = 0, seconds = 0;
    for (uint32_t i = 0; i < reads->n_type; i++) {
        const peri_type_rate *t = peri_figures_type(f, reads->type[i].dtype);
        if (!t || t->gbps <= 0) continue;
        bytes += (double)reads->type[i].bytes;
        seconds += (double)reads->type[i].bytes / t->gbps;
    }
    return seconds > 0 ? bytes / seconds : 0;
}

const char *peri_figures_type_name(uint32_t number) {
    switch (number) {
#define PERI_DTYPE(NAME, number, name, elements, bytes)                                            \
    case number:                                                                                   \
        return name;
#include "perigee/dtype.def"
#undef PERI_DTYPE
    default:
        return NULL;
    }
}

static bool type_number(const char *name, uint32_t *out) {
    static const uint32_t number[] = {
#define PERI_DTYPE(NAME, number, name, elements, bytes) number,
#include "perigee/dtype.def"
#undef PERI_DTYPE
    };
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        if (strcmp(peri_figures_type_name(number[i]), name) != 0) continue;
        *out = number[i];
        return true;
    }
    return false;
}

/* ---- the file -----------------------------------------------------------------------------------
 */

static const struct {
    const char *key;
    size_t off;
} member[] = {{"op_us", offsetof(peri_figures, op_us)},
              {"kv_gbps", offsetof(peri_figures, kv_gbps)},
              {"attn_us", offsetof(peri_figures, attn_us)},
              {"attn_gmacs", offsetof(peri_figures, attn_gmacs)},
              {"copy_us", offsetof(peri_figures, copy_us)},
              {"link_gbps", offsetof(peri_figures, link_gbps)}};
enum { N_MEMBER = sizeof member / sizeof *member };

static double *member_of(peri_figures *f, size_t i) {
    return (double *)(void *)((char *)f + member[i].off);
}

static bool file_path(const peri_registry *r, char *out, size_t room) {
    if (!r->cache_dir[0]) return false;
    int n = snprintf(out, room, "%s/figures.json", r->cache_dir);
    return n > 0 && (size_t)n < room;
}

/* The devices of the file, or an empty object; NULL only when out of memory. */
static json_t *read_file(const peri_registry *r) {
    char path[PATH_MAX + 16], *text;
    size_t size;
    json_t *root = NULL;
    if (file_path(r, path, sizeof path) &&
        peri_file_read(path, FILE_BYTES_MAX, &text, &size, NULL) == PERI_OK) {
        peri_json_init();
        (void)peri_json_parse(text, size, &root, NULL);
        peri_free(text);
    }
    json_t *devices = json_incref(json_object_get(root, "devices"));
    json_decref(root);
    if (json_is_object(devices)) return devices;
    json_decref(devices);
    return json_object();
}

static bool number_of(const json_t *j, double *out) {
    double x = json_number_value(j);
    *out = x;
    return json_is_number(j) && x >= 0 && x < 1e9;
}

static bool from_json(json_t *j, peri_figures *out) {
    peri_figures f = {0};
    const char *date = json_string_value(json_object_get(j, "date")), *name;
    json_t *types = json_object_get(j, "types"), *pair;
    if (!date || strlen(date) >= sizeof f.date || !json_is_object(types)) return false;
    for (const char *s = date; *s; s++)
        if (!strchr("0123456789-", *s)) return false;
    snprintf(f.date, sizeof f.date, "%s", date);
    for (size_t i = 0; i < N_MEMBER; i++)
        if (!number_of(json_object_get(j, member[i].key), member_of(&f, i))) return false;
    json_object_foreach(types, name, pair) {
        peri_type_rate *t = &f.type[f.n_type];
        if (f.n_type == PERI_FIGURE_TYPES || !type_number(name, &t->dtype) ||
            !number_of(json_array_get(pair, 0), &t->gbps) ||
            !number_of(json_array_get(pair, 1), &t->op_us) ||
            !number_of(json_array_get(pair, 2), &t->gmacs))
            return false;
        f.n_type++;
    }
    if (!f.date[0] || f.op_us <= 0) return false;
    *out = f;
    return true;
}

static json_t *to_json(peri_figures *f) {
    json_t *j = json_pack("{s:s, s:{}}", "date", f->date, "types");
    json_t *types = json_object_get(j, "types");
    int failed = !j;
    for (size_t i = 0; j && i < N_MEMBER; i++)
        failed |= json_object_set_new(j, member[i].key, json_real(*member_of(f, i)));
    for (uint32_t i = 0; j && i < f->n_type; i++)
        failed |= json_object_set_new(
            types, peri_figures_type_name(f->type[i].dtype),
            json_pack("[f,f,f]", f->type[i].gbps, f->type[i].op_us, f->type[i].gmacs));
    if (!failed) return j;
    json_decref(j);
    return NULL;
}

static void identify(const peri_registry *r, size_t i, char out[IDENTITY_BYTES]) {
    const peri_device *d = &r->device[i];
    const peri_file *f = &r->file[d->file];
    uint32_t node = peri_registry_node_of(r, &d->info);
    char line[IDENTITY_BYTES];
    snprintf(line, sizeof line,
             "%s of %s %s %s; %s; %s; %s; flags %u; %" PRIu64 " bytes; %g GB/s; options %016" PRIx64
             "; drivers %016" PRIx64 "; %u threads of %s",
             d->info.name, f->show.name, f->show.version, f->show.sha256, d->info.model,
             d->info.isa, d->info.location, d->info.flags, d->info.mem_total,
             (double)d->info.mem_gbps, f->options_hash, r->drivers_hash,
             peri_topology_threads(r->topology, node, r->n_thread, NULL, 0),
             peri_topology_cpu_model(r->topology));
    peri_escape(out, IDENTITY_BYTES, line);
}

void peri_figures_load(peri_registry *r) {
    json_t *devices = read_file(r);
    for (size_t i = 0; i < r->n_device; i++) {
        char id[IDENTITY_BYTES];
        identify(r, i, id);
        (void)from_json(json_object_get(devices, id), &r->figures[i]);
    }
    json_decref(devices);
}

/* Others may have written in the meantime, so the file is read again. */
static void save(peri_registry *r, size_t i) {
    char path[PATH_MAX + 16], id[IDENTITY_BYTES], *text = NULL;
    if (!file_path(r, path, sizeof path)) return;
    json_t *devices = read_file(r), *root = NULL;
    identify(r, i, id);
    if (json_object_size(devices) >= DEVICE_MAX && !json_object_get(devices, id))
        json_object_clear(devices);
    if (json_object_set_new(devices, id, to_json(&r->figures[i])) == 0)
        root = json_pack("{s:O}", "devices", devices);
    if (root && peri_json_dump(root, JSON_INDENT(1) | JSON_SORT_KEYS, &text, NULL) == PERI_OK)
        (void)peri_file_write(path, text, strlen(text), NULL);
    peri_free(text);
    json_decref(root);
    json_decref(devices);
}

/* ---- measuring ----------------------------------------------------------------------------------
 */

static bool knows_all(const peri_figures *f, const uint32_t *dtype, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (!peri_figures_type(f, dtype[i])) return false;
    return f->date[0] != 0;
}

static void write_date(char out[24]) {
    time_t now = time(NULL);
    struct tm t;
    out[0] = 0;
    if (gmtime_r(&now, &t)) strftime(out, 24, "%Y-%m-%d", &t);
}

void peri_registry_measure(peri_registry *r, size_t i, peri_backend *open, const uint32_t *dtype,
                           uint32_t n, bool is_again) {
    peri_figures *f = &r->figures[i], now = {0};
    peri_error err = {0};
    peri_backend *b = open;
    if (!r->measure || r->is_declared || !r->device[i].is_usable ||
        !peri_topology_is_thissystem(r->topology))
        return;
    if (!is_again && (f->why[0] || knows_all(f, dtype, n))) return;
    if (!is_again) now = *f;
    peri_log(PERI_LOG_INFO, "device %s: measuring how fast it is", r->device[i].info.name);
    peri_status st = b ? PERI_OK : peri_registry_open(r, i, &b, &err);
    if (!st) st = r->measure(b, dtype, n, &now, &err);
    if (b != open) peri_backend_close(b);
    if (st) {
        peri_escape(f->why, sizeof f->why, err.text);
        peri_log(PERI_LOG_INFO, "device %s: not measured: %s", r->device[i].info.name, f->why);
        return;
    }
    write_date(now.date);
    *f = now;
    save(r, i);
}

const peri_figures *peri_registry_figures(const peri_registry *r, size_t i) {
    return &r->figures[i];
}

bool peri_registry_is_declared(const peri_registry *r) {
    return r->is_declared;
}

peri_status peri_figures_setting(peri_registry *r, peri_error *err) {
    const char *value = peri_registry_option(r, "place.figures");
    r->is_declared = value && strcmp(value, "declared") == 0;
    if (!value || r->is_declared || strcmp(value, "measured") == 0) return PERI_OK;
    return peri_fail(err, PERI_E_INVALID,
                     "setting place.figures is \"%.40s\", expected measured or declared", value);
}
