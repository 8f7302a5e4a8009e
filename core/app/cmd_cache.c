/* SPDX-License-Identifier: MIT
 *
 * cmd_cache.c - perigee cache list and prune: what is kept on disk from start to start. */
#include <string.h>

#include "cmd.h"
#include "out.h"
#include "perigee/perigee.h"

typedef struct cache_opts {
    bool is_json, want_files, is_dry_run;
    const char *keep;
} cache_opts;

#define OFF(member) offsetof(cache_opts, member)
// clang-format off
static const peri_opt table[] = {
    {"files", 0, PERI_OPT_FLAG, NULL, OFF(want_files), 0, 0, "list: every file too, the oldest first."},
    {"keep", 0, PERI_OPT_TEXT, "SIZE", OFF(keep), 0, 0,
     "prune: leave the newest files that take at most SIZE together. SIZE is a number of bytes, or one with K, M or G "
     "behind it (units of 1024). Default: leave none."},
    {"dry-run", 0, PERI_OPT_FLAG, NULL, OFF(is_dry_run), 0, 0, "prune: tell what would be removed, and remove nothing."},
    {"json", 0, PERI_OPT_FLAG, NULL, OFF(is_json), 0, 0,
     "Print one JSON document. list: folder, caches (name, files, bytes, oldest, newest, holds), files (file, cache, bytes, "
     "modified), unknown, problems (file, problem). prune: folder, removed (as files), bytes, left_bytes, problems."},
};
// clang-format on

static const char *size_of(const json_t *o, const char *key, char *buf, size_t n) {
    return peri_bytes_show(peri_json_number(o, key, 0), buf, n);
}

static void print_caches(const json_t *caches) {
    static const char *const heads[] = {"cache", "files", "size", "oldest", "newest", "holds"};
    peri_table *t = peri_table_new(N_OPTS(heads), heads);
    char buf[32];
    size_t i;
    json_t *c;
    json_array_foreach(caches, i, c) {
        peri_table_row(t);
        peri_table_cell(t, "%s", peri_json_text(c, "name"));
        peri_table_cell(t, "%.0f", peri_json_number(c, "files", 0));
        peri_table_cell(t, "%s", size_of(c, "bytes", buf, sizeof buf));
        peri_table_cell(t, "%.10s", peri_json_text(c, "oldest"));
        peri_table_cell(t, "%.10s", peri_json_text(c, "newest"));
        peri_table_cell(t, "%s", peri_json_text(c, "holds"));
    }
    peri_table_print(t, 0, 1u << 1 | 1u << 2);
}

static void print_files(const json_t *files) {
    static const char *const heads[] = {"modified", "size", "file"};
    if (json_array_size(files) == 0) return;
    peri_table *t = peri_table_new(N_OPTS(heads), heads);
    char buf[32];
    size_t i;
    json_t *f;
    json_array_foreach(files, i, f) {
        peri_table_row(t);
        peri_table_cell(t, "%s", peri_json_text(f, "modified"));
        peri_table_cell(t, "%s", size_of(f, "bytes", buf, sizeof buf));
        peri_table_cell(t, "%s", peri_json_text(f, "file"));
    }
    printf("\n");
    peri_table_print(t, 0, 1u << 1);
}

/* Says what went wrong with single files; the exit status. */
static int problems(const json_t *j) {
    size_t i;
    json_t *p;
    int status = PERI_EXIT_OK;
    json_array_foreach(json_object_get(j, "problems"), i, p) status =
        peri_out_fail("%s/%s: %s", peri_json_text(j, "folder"), peri_json_text(p, "file"),
                      peri_json_text(p, "problem"));
    return status;
}

static void print_list(const json_t *j, const cache_opts *o) {
    const json_t *unknown = json_object_get(j, "unknown");
    const char *folder = peri_json_text(j, "folder");
    size_t i;
    json_t *f;
    peri_out_untrusted(stdout, folder, strlen(folder), false);
    printf("\n\n");
    print_caches(json_object_get(j, "caches"));
    if (o->want_files) print_files(json_object_get(j, "files"));
    json_array_foreach(unknown, i, f) {
        const char *name = peri_json_text(f, "file");
        printf("%snot of a cache, left alone: ", i ? "" : "\n");
        peri_out_untrusted(stdout, name, strlen(name), false);
        printf("\n");
    }
}

static void print_pruned(const json_t *j, const cache_opts *o) {
    char gone[32], left[32];
    if (o->is_dry_run || o->want_files) print_files(json_object_get(j, "removed"));
    size_t n = json_array_size(json_object_get(j, "removed"));
    printf("%s %zu file%s, %s; %s left\n", o->is_dry_run ? "would remove" : "removed", n,
           n == 1 ? "" : "s", size_of(j, "bytes", gone, sizeof gone),
           size_of(j, "left_bytes", left, sizeof left));
}

/* Print the document `text` and release it; the exit status. */
static int show(char *text, const cache_opts *o,
                void (*print)(const json_t *, const cache_opts *)) {
    json_t *j = peri_out_parse("cache", text);
    int status = j ? PERI_EXIT_OK : PERI_EXIT_ERROR;
    if (j && o->is_json) peri_out_json(text);
    if (j && !o->is_json) print(j, o);
    if (j) status = problems(j);
    json_decref(j);
    peri_text_free(text);
    return status;
}

/* "500", "64K", "2G"; false when it is none. */
static bool read_size(const char *text, uint64_t *out) {
    static const char units[] = "KMG";
    uint64_t n = 0;
    const char *s = text;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (n > (UINT64_MAX - 9) / 10) return false;
        n = n * 10 + (uint64_t)(*s - '0');
    }
    const char *unit = *s ? strchr(units, *s) : NULL;
    int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if (s == text || (*s && (!unit || s[1])) || n > UINT64_MAX >> shift) return false;
    *out = n << shift;
    return true;
}

static int list(const peri_args *args, const cache_opts *o) {
    peri_error e = {0, ""};
    char *text;
    if (args->n > 1) return peri_opts_usage("cache", "unexpected argument '%s'", args->arg[1]);
    if (o->keep || o->is_dry_run)
        return peri_opts_usage("cache", "--%s is for prune", o->keep ? "keep" : "dry-run");
    if (peri_caches_list(&text, &e) != PERI_OK) return peri_out_error(&e);
    return show(text, o, print_list);
}

static int prune(const peri_args *args, const cache_opts *o) {
    peri_error e = {0, ""};
    char *text;
    peri_caches_prune_options p = {.size = sizeof p,
                                   .only = args->arg + 1,
                                   .n_only = args->n - 1,
                                   .is_dry_run = o->is_dry_run};
    if (o->keep && !read_size(o->keep, &p.keep_bytes))
        return peri_opts_usage("cache", "--keep: found '%s', expected a size such as 500M",
                               o->keep);
    if (peri_caches_prune(&p, &text, &e) != PERI_OK) return peri_out_error(&e);
    return show(text, o, print_pruned);
}

static int run(const peri_args *args, void *values) {
    static const char *const actions[] = {"list", "prune"};
    if (strcmp(args->arg[0], "list") == 0) return list(args, values);
    if (strcmp(args->arg[0], "prune") == 0) return prune(args, values);
    const char *near = peri_opts_nearest(args->arg[0], actions, N_OPTS(actions));
    return peri_opts_usage("cache", "found '%s', expected list or prune%s%s%s", args->arg[0],
                           near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

const peri_command peri_cmd_cache = {
    .name = "cache",
    .synopsis = "cache {list | prune [CACHE...]} [OPTION...]",
    .summary = "show or empty what is kept on disk from start to start",
    .text =
        "list shows the caches, how many files each has and how much room they take. prune removes "
        "the files of the named caches, or of all, the oldest first. What is removed is made again "
        "when it is needed: only the next start takes longer. Processes that run meanwhile are "
        "not disturbed.\n\n"
        "The folder is $XDG_CACHE_HOME/perigee, without that variable ~/.cache/perigee. The "
        "caches:\n\n"
        "  probe    what plugins said when they were examined, and bandwidths (probe.json)\n"
        "  opencl   programs compiled for OpenCL devices, one file each, below opencl\n"
        "  figures  what was measured of devices, for placement (figures.json)\n\n"
        "Weights are not among them: they are used as they lie in the model file, mapped or copied "
        "into large pages (--weights), so that nothing has to be prepared and kept. Models in the "
        "store, records of plugins and saved conversations are no caches either and stay: those "
        "are data. Files in the folder that no cache uses are listed and left alone; links are "
        "not followed.\n\n"
        "The exit status is 1 when a file could not be looked at or removed.",
    .examples = "  perigee cache list\n"
                "  perigee cache list --files\n"
                "  perigee cache prune                  empty all\n"
                "  perigee cache prune opencl --keep 50M\n",
    .opts = table,
    .n_opt = N_OPTS(table),
    .min_arg = 1,
    .max_arg = 16,
    .value_bytes = sizeof(cache_opts),
    .run = run,
};
