/* SPDX-License-Identifier: MIT
 *
 * caches.c - what is cached on disk, as documents (plugin/cache_files.h does the work). */
#include <string.h>
#include <time.h>

#include "api/api_int.h"
#include "api/doc.h"
#include "base/status.h"
#include "plugin/cache_files.h"

#include "base/compiler.h"

/* "2026-11-26T04:30:00Z" */
static json_t *when(int64_t seconds) {
    char text[32];
    struct tm t;
    time_t at = (time_t)seconds;
    if (!gmtime_r(&at, &t) || !strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &t))
        return json_null();
    return json_string(text);
}

static void put_folder(peri_doc *d, const peri_cache_files *f) {
    peri_doc_put(d, d->root, "folder", peri_doc_cstr(f->folder));
}

static json_t *describe(peri_doc *d, const peri_cache_file *c) {
    json_t *o = json_object();
    peri_doc_put(d, o, "file", peri_doc_cstr(c->name));
    if (c->kind >= 0)
        peri_doc_put(d, o, "cache", json_string(peri_cache_kind_at((uint32_t)c->kind)->name));
    peri_doc_put(d, o, "bytes", json_integer((json_int_t)c->bytes));
    peri_doc_put(d, o, "modified", when(c->modified));
    return o;
}

static void put_problems(peri_doc *d, const peri_cache_files *f) {
    json_t *list = json_array();
    for (size_t i = 0; i < f->n; i++) {
        if (!f->file[i].problem) continue;
        json_t *o = json_object();
        peri_doc_put(d, o, "file", peri_doc_cstr(f->file[i].name));
        peri_doc_put(d, o, "problem", peri_doc_cstr(f->file[i].problem));
        peri_doc_append(d, list, o);
    }
    peri_doc_put(d, d->root, "problems", list);
}

/* Files are in order of age. */
static json_t *sum_of(peri_doc *d, const peri_cache_files *f, uint32_t kind) {
    const peri_cache_kind *k = peri_cache_kind_at(kind);
    const peri_cache_file *oldest = NULL, *newest = NULL;
    uint64_t bytes = 0, n = 0;
    for (size_t i = 0; i < f->n; i++) {
        if (f->file[i].kind != (int32_t)kind) continue;
        if (!oldest) oldest = &f->file[i];
        newest = &f->file[i];
        bytes += f->file[i].bytes;
        n++;
    }
    json_t *o = json_object();
    peri_doc_put(d, o, "name", json_string(k->name));
    peri_doc_put(d, o, "files", json_integer((json_int_t)n));
    peri_doc_put(d, o, "bytes", json_integer((json_int_t)bytes));
    peri_doc_put(d, o, "oldest", oldest ? when(oldest->modified) : json_null());
    peri_doc_put(d, o, "newest", newest ? when(newest->modified) : json_null());
    peri_doc_put(d, o, "holds", json_string(k->holds));
    return o;
}

peri_status peri_caches_list(char **json, peri_error *err) {
    peri_cache_files f;
    *json = NULL;
    peri_json_init();
    peri_status st = peri_cache_files_init(&f, err);
    if (st == PERI_OK) {
        peri_doc d = {.root = json_object()};
        json_t *caches = json_array(), *files = json_array(), *unknown = json_array();
        put_folder(&d, &f);
        for (uint32_t k = 0; peri_cache_kind_at(k); k++)
            peri_doc_append(&d, caches, sum_of(&d, &f, k));
        for (size_t i = 0; i < f.n; i++)
            if (!f.file[i].problem)
                peri_doc_append(&d, f.file[i].kind < 0 ? unknown : files, describe(&d, &f.file[i]));
        peri_doc_put(&d, d.root, "caches", caches);
        peri_doc_put(&d, d.root, "files", files);
        peri_doc_put(&d, d.root, "unknown", unknown);
        put_problems(&d, &f);
        st = peri_doc_finish(&d, json, err);
    }
    peri_cache_files_fini(&f);
    return st;
}

/* The kinds of these names as bits. */
static peri_status kinds_of(const peri_caches_prune_options *o, uint32_t *bits, peri_error *err) {
    *bits = o->n_only ? 0 : UINT32_MAX;
    for (size_t i = 0; i < o->n_only; i++) {
        uint32_t k = 0;
        while (peri_cache_kind_at(k) && strcmp(peri_cache_kind_at(k)->name, o->only[i]) != 0)
            k++;
        if (!peri_cache_kind_at(k)) {
            peri_text names = {0};
            for (uint32_t n = 0; peri_cache_kind_at(n); n++)
                peri_text_addf(&names, "%s%s", n ? ", " : "", peri_cache_kind_at(n)->name);
            peri_status st =
                peri_fail(err, PERI_E_NOT_FOUND, "no cache is called '%s'; there are: %s",
                          o->only[i], names.data ? names.data : "");
            peri_text_fini(&names);
            return st;
        }
        *bits |= 1u << k;
    }
    return PERI_OK;
}

static peri_status tell_removed(const peri_cache_files *f, uint32_t kinds, char **json,
                                peri_error *err) {
    peri_doc d = {.root = json_object()};
    json_t *removed = json_array();
    uint64_t bytes = 0, left = 0;
    for (size_t i = 0; i < f->n; i++) {
        const peri_cache_file *c = &f->file[i];
        if (c->is_removed) {
            peri_doc_append(&d, removed, describe(&d, c));
            bytes += c->bytes;
        } else if (c->kind >= 0 && (kinds >> c->kind & 1))
            left += c->bytes;
    }
    put_folder(&d, f);
    peri_doc_put(&d, d.root, "bytes", json_integer((json_int_t)bytes));
    peri_doc_put(&d, d.root, "left_bytes", json_integer((json_int_t)left));
    peri_doc_put(&d, d.root, "removed", removed);
    put_problems(&d, f);
    return peri_doc_finish(&d, json, err);
}

peri_status peri_caches_prune(const peri_caches_prune_options *opts, char **json, peri_error *err) {
    peri_caches_prune_options o;
    peri_cache_files f = {.folder = NULL};
    uint32_t kinds;
    *json = NULL;
    peri_json_init();
    peri_options_copy(&o, sizeof o, opts);
    peri_status st = kinds_of(&o, &kinds, err);
    if (st == PERI_OK) st = peri_cache_files_init(&f, err);
    if (st == PERI_OK) st = peri_cache_files_prune(&f, kinds, o.keep_bytes, o.is_dry_run, err);
    if (st == PERI_OK) st = tell_removed(&f, kinds, json, err);
    peri_cache_files_fini(&f);
    return st;
}
