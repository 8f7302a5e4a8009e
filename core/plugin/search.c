/* SPDX-License-Identifier: MIT
 *
 * search.c - which files are plugins to look at, in which order, and who could have written them.
 *
 * Order and folders: registry.h.  Code that we load runs with all rights of the user, so a file
 * counts only if nobody else could have put it there: it and its folder belong to root or to the
 * user and are writable by nobody else and no group of several users; no folder above may be
 * writable by everybody, unless its sticky bit (as on /tmp) keeps others from replacing what is
 * ours.  Links are resolved first, so the checks are about the real file. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum { FOLDER_FILES_MAX = 256 };

/* ---- trust ----------------------------------------------------------------------------------- */

static bool is_ours(const struct stat *st) {
    return st->st_uid == 0 || st->st_uid == geteuid();
}

/* Is it the group that has the owner's name and nobody else in it?  Where every user has such a
 * group, files are commonly made writable by it. */
static bool is_private_group(const struct stat *st) {
    char user_text[4096], group_text[4096];
    struct passwd user, *u = NULL;
    struct group group, *g = NULL;
    if (getpwuid_r(st->st_uid, &user, user_text, sizeof user_text, &u) != 0 || u == NULL ||
        u->pw_gid != st->st_gid ||
        getgrgid_r(st->st_gid, &group, group_text, sizeof group_text, &g) != 0 || g == NULL ||
        strcmp(g->gr_name, u->pw_name) != 0)
        return false;
    for (char **member = g->gr_mem; *member != NULL; member++)
        if (strcmp(*member, u->pw_name) != 0) return false;
    return true;
}

static bool others_may_write(const struct stat *st) {
    return (st->st_mode & S_IWOTH) != 0 || ((st->st_mode & S_IWGRP) != 0 && !is_private_group(st));
}

/* The folder that holds the file, and all above it.  path is changed on the way. */
static peri_status check_folders(char *path, peri_error *err) {
    struct stat st;
    bool is_own = true;
    for (char *slash; (slash = strrchr(path, '/')) != NULL; is_own = false) {
        slash[slash == path ? 1 : 0] = 0;
        if (stat(path, &st) != 0)
            return peri_fail(err, PERI_E_IO, "folder %s cannot be looked at: %s", path,
                             peri_errno_text(errno));
        bool is_open = is_own ? others_may_write(&st) : (st.st_mode & S_IWOTH) != 0;
        if (is_open && (st.st_mode & S_ISVTX) == 0)
            return peri_fail(err, PERI_E_INVALID, "folder %s is writable by others (mode %04o)",
                             path, st.st_mode & 07777u);
        if (is_own && !is_ours(&st))
            return peri_fail(err, PERI_E_INVALID,
                             "folder %s belongs to user %u, not to root or you", path,
                             (unsigned)st.st_uid);
        if (slash == path) break;
    }
    return PERI_OK;
}

static peri_status check_trust(const char *path, struct stat *st, peri_error *err) {
    char folder[PATH_MAX];
    if (stat(path, st) != 0)
        return peri_fail(err, PERI_E_IO, "cannot be looked at: %s", peri_errno_text(errno));
    if (!S_ISREG(st->st_mode)) return peri_fail(err, PERI_E_INVALID, "is not a regular file");
    if (!is_ours(st))
        return peri_fail(err, PERI_E_INVALID, "belongs to user %u, not to root or you",
                         (unsigned)st->st_uid);
    if (others_may_write(st))
        return peri_fail(err, PERI_E_INVALID, "is writable by others (mode %04o)",
                         st->st_mode & 07777u);
    snprintf(folder, sizeof folder, "%s", path);
    return check_folders(folder, err);
}

/* ---- listing --------------------------------------------------------------------------------- */

static peri_status no_memory(peri_error *err) {
    return peri_fail(err, PERI_E_NOMEM, "plugin search: out of memory");
}

static const char *keep(peri_registry *r, const char *s) {
    return peri_arena_str(r->arena, peri_str_of(s)).data;
}

static bool is_listed(const peri_registry *r, const struct stat *st) {
    for (size_t i = 0; i < r->n_file; i++)
        if (r->file[i].st.st_dev == st->st_dev && r->file[i].st.st_ino == st->st_ino &&
            r->file[i].st.st_ino != 0)
            return true;
    return false;
}

/* List a file, refused at once when it cannot be trusted. */
static peri_status add_file(peri_registry *r, const char *path, const char *found_by,
                            peri_error *err) {
    char real[PATH_MAX], shown[PATH_MAX];
    struct stat st = {0};
    peri_error why = {0};
    peri_status trust = PERI_OK;
    if (realpath(path, real) == NULL) {
        const char *text = strerrordesc_np(errno);
        trust = peri_fail(&why, PERI_E_NOT_FOUND, "cannot be opened: %s", text ? text : "?");
        snprintf(real, sizeof real, "%s", path);
    } else {
        trust = check_trust(real, &st, &why);
    }
    if (is_listed(r, &st)) return PERI_OK;
    peri_file *f = peri_registry_grow((void **)&r->file, &r->n_file, &r->file_room, sizeof *f);
    if (f == NULL) return no_memory(err);
    /* Its name goes into messages and JSON; one that would have to be altered for that is refused.
     */
    if (!peri_escape(shown, sizeof shown, real) || strcmp(shown, real) != 0)
        trust = peri_fail(&why, PERI_E_INVALID, "its path is no plain UTF-8");
    f->st = st;
    f->show =
        (peri_plugin_file){.path = keep(r, shown),
                           .name = "",
                           .version = "",
                           .sha256 = "",
                           .abi = "",
                           .found_by = found_by,
                           .state = trust == PERI_OK ? PERI_PLUGIN_USABLE : PERI_PLUGIN_REFUSED,
                           .reason = trust == PERI_OK ? "" : keep(r, why.text)};
    return f->show.path != NULL && f->show.reason != NULL ? PERI_OK : no_memory(err);
}

static int is_candidate(const struct dirent *e) {
    size_t n = strlen(e->d_name);
    return n > 3 && e->d_name[0] != '.' && strcmp(e->d_name + n - 3, ".so") == 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The *.so of a folder, sorted, so that the order does not depend on the file system. */
static peri_status add_folder(peri_registry *r, const char *folder, const char *found_by,
                              peri_error *err) {
    char *names[FOLDER_FILES_MAX], path[PATH_MAX];
    size_t n = 0;
    peri_status status = PERI_OK;
    DIR *dir = opendir(folder);
    if (dir == NULL) return PERI_OK;
    for (struct dirent *e;
         status == PERI_OK && n < FOLDER_FILES_MAX && (e = readdir(dir)) != NULL;) {
        if (!is_candidate(e)) continue;
        names[n] = peri_str_dup(peri_str_of(e->d_name));
        if (names[n] == NULL)
            status = no_memory(err);
        else
            n++;
    }
    closedir(dir);
    qsort(names, n, sizeof names[0], by_name);
    for (size_t i = 0; i < n; i++) {
        if (status == PERI_OK &&
            (size_t)snprintf(path, sizeof path, "%s/%s", folder, names[i]) < sizeof path)
            status = add_file(r, path, found_by, err);
        peri_free(names[i]);
    }
    return status;
}

/* ---- folders
 * ------------------------------------------------------------------------------------- */

static peri_status add_path_variable(peri_registry *r, const char *folders, peri_error *err) {
    char folder[PATH_MAX];
    peri_status status = PERI_OK;
    for (const char *s = folders; status == PERI_OK && *s != 0;) {
        size_t n = strcspn(s, ":");
        if (n > 0 && n < sizeof folder) {
            memcpy(folder, s, n);
            folder[n] = 0;
            if (folder[0] != '/')
                status = peri_registry_add_note(
                    r, err, "PERIGEE_PLUGIN_PATH: '%s' is ignored: not an absolute path", folder);
            else if (access(folder, R_OK | X_OK) != 0)
                status = peri_registry_add_note(r, err,
                                                "PERIGEE_PLUGIN_PATH: folder %s cannot be read: %s",
                                                folder, peri_errno_text(errno));
            else
                status = add_folder(r, folder, "PERIGEE_PLUGIN_PATH", err);
        }
        s += n;
        if (*s == ':') s++;
    }
    return status;
}

bool peri_plugin_data_path(const char *name, char *out, size_t room) {
    const char *xdg = secure_getenv("XDG_DATA_HOME"), *home = secure_getenv("HOME");
    int n = -1;
    if (xdg != NULL && xdg[0] == '/')
        n = snprintf(out, room, "%s/perigee/%s", xdg, name);
    else if (home != NULL && home[0] == '/')
        n = snprintf(out, room, "%s/.local/share/perigee/%s", home, name);
    return n > 0 && (size_t)n < room;
}

static peri_status add_user_folder(peri_registry *r, peri_error *err) {
    char folder[PATH_MAX], name[32];
    snprintf(name, sizeof name, "%d/plugins", PERI_ABI_MAJOR);
    if (!peri_plugin_data_path(name, folder, sizeof folder)) return PERI_OK;
    return add_folder(r, folder, "user folder", err);
}

/* Folder of the shared object (or program) that this function lives in. */
static bool own_folder(char *out) {
    Dl_info info;
    if (dladdr((void *)(uintptr_t)&peri_search_run, &info) == 0 || info.dli_fname == NULL)
        return false;
    /* A program's own entry may be relative to the folder it was started in. */
    if (info.dli_fname[0] != '/') {
        ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
        if (n <= 0) return false;
        out[n] = 0;
    } else if (realpath(info.dli_fname, out) == NULL) {
        return false;
    }
    char *slash = strrchr(out, '/');
    if (slash == NULL) return false;
    *slash = 0;
    return true;
}

peri_status peri_search_run(peri_registry *r, const peri_registry_options *o, peri_error *err) {
    char folder[PATH_MAX];
    peri_status status = PERI_OK;
    if (o->library_dir != NULL)
        r->library_dir = keep(r, o->library_dir);
    else
        r->library_dir = own_folder(folder) ? keep(r, folder) : "";
    if (r->library_dir == NULL) return no_memory(err);
    for (size_t i = 0; status == PERI_OK && i < o->n_file; i++)
        status = add_file(r, o->files[i], "--plugin", err);
    const char *path = secure_getenv("PERIGEE_PLUGIN_PATH");
    if (status != PERI_OK) return status;
    if (path != NULL && path[0] != 0) return add_path_variable(r, path, err);
    status = add_user_folder(r, err);
    if (status != PERI_OK || r->library_dir[0] != '/') return status;
    if ((size_t)snprintf(folder, sizeof folder, "%s/perigee/%d/plugins", r->library_dir,
                         PERI_ABI_MAJOR) >= sizeof folder)
        return PERI_OK;
    return add_folder(r, folder, "installed", err);
}
