/* SPDX-License-Identifier: MIT
 *
 * cache_files.c - see cache_files.h. */
#define _GNU_SOURCE
#include "plugin/cache_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/sort.h"
#include "base/status.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum { N_KIND = 3, N_NAME = 2 };
static const peri_cache_kind kinds[N_KIND] = {
    {"probe", "what plugins said when they were examined, and measured bandwidths", ""},
    {"opencl", "programs compiled for OpenCL devices", "opencl"},
    {"figures", "what was measured of devices", ""},
};
/* How their files are called, those that a killed process left unfinished too. */
static const struct {
    const char *begin, *end;
} names[N_KIND][N_NAME] = {
    {{"probe.json", ""}, {"probe.json.", ".tmp"}},     /* cache.c, written by peri_file_write */
    {{"", ".bin"}, {"", ".new"}},                      /* plugins/opencl/cache.c */
    {{"figures.json", ""}, {"figures.json.", ".tmp"}}, /* figures.c, written by peri_file_write */
};

const peri_cache_kind *peri_cache_kind_at(uint32_t index) {
    return index < N_KIND ? &kinds[index] : NULL;
}

/* A name without an end is the whole name. */
static bool is_like(const char *name, const char *begin, const char *end) {
    size_t n = strlen(name), n_begin = strlen(begin), n_end = strlen(end);
    if (n_end == 0) return strcmp(name, begin) == 0;
    return n >= n_begin + n_end && memcmp(name, begin, n_begin) == 0 &&
           memcmp(name + n - n_end, end, n_end) == 0;
}

/* The cache whose file `name` is in `folder`; -1: none. */
static int32_t kind_of(const char *folder, const char *name) {
    for (int32_t k = 0; k < N_KIND; k++)
        for (int i = 0; i < N_NAME && strcmp(kinds[k].folder, folder) == 0; i++)
            if (is_like(name, names[k][i].begin, names[k][i].end)) return k;
    return -1;
}

static bool is_folder_of_ours(const char *name) {
    for (int k = 0; k < N_KIND; k++)
        if (*kinds[k].folder != 0 && strcmp(kinds[k].folder, name) == 0) return true;
    return false;
}

/* ---- listing --------------------------------------------------------------------------------- */

typedef struct scan {
    peri_cache_files *out;
    size_t room;
    const char *folder; /* below the common one; "" is that one */
    int fd;
} scan;

static const char *keep(peri_cache_files *f, const char *text) {
    return peri_arena_str(f->arena, peri_str_of(text)).data;
}

static peri_status no_memory(peri_error *err) {
    return peri_fail(err, PERI_E_NOMEM, "caches: out of memory");
}

static peri_status add(scan *s, const char *name, const struct stat *st, const char *problem,
                       peri_error *err) {
    char shown[2 * NAME_MAX + 2];
    peri_cache_files *f = s->out;
    if (f->n == s->room) {
        size_t room = s->room ? 2 * s->room : 32;
        peri_cache_file *more = peri_resize_array(f->file, room, sizeof *more);
        if (more == NULL) return no_memory(err);
        f->file = more;
        s->room = room;
    }
    snprintf(shown, sizeof shown, "%s%s%s", s->folder, *s->folder ? "/" : "", name);
    peri_cache_file *c = &f->file[f->n];
    *c = (peri_cache_file){.name = keep(f, shown), .kind = -1};
    if (problem != NULL && (c->problem = keep(f, problem)) == NULL) return no_memory(err);
    if (c->name == NULL) return no_memory(err);
    if (st != NULL) {
        c->bytes = st->st_size > 0 ? (uint64_t)st->st_size : 0;
        c->modified = (int64_t)st->st_mtime;
        if (S_ISREG(st->st_mode)) c->kind = kind_of(s->folder, name);
    }
    f->n++;
    return PERI_OK;
}

static peri_status scan_folder(scan *s, peri_error *err);

static peri_status scan_below(scan *s, const char *name, peri_error *err) {
    scan below = *s;
    below.fd = openat(s->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (below.fd < 0) return add(s, name, NULL, peri_errno_text(errno), err);
    below.folder = name;
    peri_status st = scan_folder(&below, err);
    s->room = below.room;
    return st;
}

/* Closes s->fd. */
static peri_status scan_folder(scan *s, peri_error *err) {
    DIR *d = fdopendir(s->fd);
    if (d == NULL) {
        close(s->fd);
        return no_memory(err);
    }
    peri_status status = PERI_OK;
    for (struct dirent *e; status == PERI_OK && (e = readdir(d)) != NULL;) {
        struct stat st;
        const char *name = e->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
        if (fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno != ENOENT) status = add(s, name, NULL, peri_errno_text(errno), err);
        } else if (S_ISDIR(st.st_mode) && *s->folder == 0 && is_folder_of_ours(name))
            status = scan_below(s, name, err);
        else
            status = add(s, name, &st, NULL, err);
    }
    closedir(d);
    return status;
}

static bool is_older(const void *user, uint32_t a, uint32_t b) {
    const peri_cache_file *f = user;
    if (f[a].modified != f[b].modified) return f[a].modified < f[b].modified;
    return strcmp(f[a].name, f[b].name) < 0;
}

static peri_status sort_files(peri_cache_files *f, peri_error *err) {
    uint32_t *order = peri_alloc_array(f->n, sizeof *order);
    peri_cache_file *sorted = peri_alloc_array(f->n, sizeof *sorted);
    peri_status st = order != NULL && sorted != NULL ? PERI_OK : no_memory(err);
    for (size_t i = 0; st == PERI_OK && i < f->n; i++)
        order[i] = (uint32_t)i;
    if (st == PERI_OK && peri_sort_index(order, f->n, is_older, f->file) != PERI_OK)
        st = no_memory(err);
    for (size_t i = 0; st == PERI_OK && i < f->n; i++)
        sorted[i] = f->file[order[i]];
    peri_free(order);
    if (st != PERI_OK) {
        peri_free(sorted);
        return st;
    }
    peri_free(f->file);
    f->file = sorted;
    return PERI_OK;
}

peri_status peri_cache_files_init(peri_cache_files *out, peri_error *err) {
    char folder[PATH_MAX];
    *out = (peri_cache_files){.folder = NULL};
    if (!peri_plugin_cache_path(folder, sizeof folder))
        return peri_fail(err, PERI_E_NOT_FOUND,
                         "there is no place for caches: neither XDG_CACHE_HOME nor HOME is an "
                         "absolute path");
    out->arena = peri_arena_new();
    if (out->arena == NULL || (out->folder = keep(out, folder)) == NULL) return no_memory(err);
    scan s = {.out = out, .folder = "", .fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (s.fd < 0 && errno == ENOENT) return PERI_OK;
    if (s.fd < 0)
        return peri_fail(err, PERI_E_IO, "folder %s cannot be opened: %s", folder,
                         peri_errno_text(errno));
    peri_status st = scan_folder(&s, err);
    return st == PERI_OK ? sort_files(out, err) : st;
}

void peri_cache_files_fini(peri_cache_files *f) {
    peri_free(f->file);
    peri_arena_free(f->arena);
    *f = (peri_cache_files){.folder = NULL};
}

/* ---- removing -------------------------------------------------------------------------------- */

/* The folder of the file is opened anew without following a link, so that what lay in it when it
 * was listed is what is removed. */
static int unlink_file(int top, const peri_cache_file *c) {
    const char *slash = strrchr(c->name, '/'), *folder = kinds[c->kind].folder;
    int fd =
        *folder != 0 ? openat(top, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : top;
    int error = fd < 0 ? errno : 0;
    if (fd >= 0 && unlinkat(fd, slash ? slash + 1 : c->name, 0) != 0 && errno != ENOENT)
        error = errno;
    if (fd >= 0 && fd != top) close(fd);
    return error;
}

peri_status peri_cache_files_prune(peri_cache_files *f, uint32_t wanted, uint64_t keep_bytes,
                                   bool is_dry_run, peri_error *err) {
    uint64_t total = 0;
    int top = -1;
    for (size_t i = 0; i < f->n; i++)
        if (f->file[i].kind >= 0 && (wanted >> f->file[i].kind & 1)) total += f->file[i].bytes;
    for (size_t i = 0; i < f->n; i++) {
        peri_cache_file *c = &f->file[i];
        if (c->kind < 0 || !(wanted >> c->kind & 1)) continue;
        if (total <= keep_bytes && keep_bytes > 0) break;
        if (top < 0 && !is_dry_run &&
            (top = open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
            return peri_fail(err, PERI_E_IO, "folder %s cannot be opened: %s", f->folder,
                             peri_errno_text(errno));
        int error = is_dry_run ? 0 : unlink_file(top, c);
        c->is_removed = error == 0;
        if (error == 0)
            total -= c->bytes;
        else if ((c->problem = keep(f, peri_errno_text(error))) == NULL) {
            close(top);
            return no_memory(err);
        }
    }
    if (top >= 0) close(top);
    return PERI_OK;
}
