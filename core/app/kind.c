/* SPDX-License-Identifier: MIT
 *
 * kind.c - what a TARGET is: a model file, a Lua file, a Modelfile, perhaps the name of a model in
 * a store, or a mistake that deserves a good answer (target.h).  Names are looked up, and grammar
 * is judged, in scripts/perigee/store. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "out.h"
#include "target.h"

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* Models and scripts in a folder, at most max; the caller frees the names. */
static size_t list_targets(const char *folder, char **name, size_t max) {
    size_t n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && n < max && (e = readdir(d));)
        if (ends_with(e->d_name, ".gguf") || ends_with(e->d_name, ".lua")) {
            name[n] = strdup(e->d_name);
            if (name[n]) n++;
        }
    if (d) closedir(d);
    return n;
}

/* "; did you mean 'x.gguf'?" from the files in the same folder, else "". */
static void suggest(const char *path, char *text, size_t size) {
    enum { MAX = 256 };
    char *name[MAX];
    const char *slash = strrchr(path, '/'), *word = slash ? slash + 1 : path;
    size_t n_folder = slash ? (size_t)(slash - path) + 1 : 0;
    char *folder = n_folder ? strndup(path, n_folder) : strdup(".");
    size_t n = folder ? list_targets(folder, name, MAX) : 0;
    const char *near = peri_opts_nearest(word, (const char *const *)name, n);
    text[0] = 0;
    if (near) snprintf(text, size, "; did you mean '%.*s%s'?", (int)n_folder, path, near);
    for (size_t i = 0; i < n; i++)
        free(name[i]);
    free(folder);
}

static peri_kind missing(const char *path, int error) {
    char hint[512];
    if (error == ENOENT && strchr(path, '/') == NULL && !ends_with(path, ".gguf") &&
        !ends_with(path, ".lua"))
        return PERI_KIND_NAME;
    suggest(path, hint, sizeof hint);
    peri_out_fail("%s: cannot open: %s%s", path, strerror(error), hint);
    return PERI_KIND_NONE;
}

bool peri_target_is_name(const char *word) {
    if (word[0] == 0 || strchr("./~", word[0])) return false;
    return !ends_with(word, ".gguf") && !ends_with(word, ".lua");
}

/* A file of neither kind by its name: its first bytes tell. */
static peri_kind by_content(const char *path) {
    char head[4] = "";
    FILE *f = fopen(path, "rb");
    if (f == NULL) return missing(path, errno);
    size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    return n == sizeof head && memcmp(head, "GGUF", n) == 0 ? PERI_KIND_MODEL : PERI_KIND_MODELFILE;
}

const char *peri_kind_name(peri_kind kind) {
    static const char *const name[] = {[PERI_KIND_NONE] = "",
                                       [PERI_KIND_MODEL] = "model",
                                       [PERI_KIND_SCRIPT] = "script",
                                       [PERI_KIND_MODELFILE] = "modelfile",
                                       [PERI_KIND_NAME] = "name"};
    return name[kind];
}

peri_kind peri_target_kind(const char *path) {
    struct stat st;
    bool is_there = stat(path, &st) == 0;
    bool is_absent = !is_there && (errno == ENOENT || errno == ENOTDIR);
    if (peri_target_is_name(path) && (is_absent || (is_there && S_ISDIR(st.st_mode))))
        return PERI_KIND_NAME; /* a folder is no target, so it stands in no name's way */
    if (!is_there) return missing(path, errno);
    if (S_ISDIR(st.st_mode)) {
        peri_out_fail("%s: this is a folder; give the path of a .gguf file, a .lua file or a "
                      "Modelfile, or --assistants %s and a name",
                      path, path);
        return PERI_KIND_NONE;
    }
    if (ends_with(path, ".lua")) return PERI_KIND_SCRIPT;
    return ends_with(path, ".gguf") ? PERI_KIND_MODEL : by_content(path);
}
