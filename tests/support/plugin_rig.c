/* SPDX-License-Identifier: MIT
 *
 * plugin_rig.c - see plugin_rig.h.  Nothing of the user's own set-up is seen or touched. */
#define _GNU_SOURCE
#include "plugin_rig.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

void rig_init(peri_rig *rig, const char *synthetic) {
    peri_topology_options o = {.size = sizeof o, .synthetic = synthetic};
    peri_error err = {0};
    memset(rig, 0, sizeof *rig);
    snprintf(rig->home, sizeof rig->home, "/tmp/perigee-test-XXXXXX");
    if (mkdtemp(rig->home) == NULL) fail_msg("no folder for the test");
    setenv("HOME", rig->home, 1);
    setenv("XDG_CACHE_HOME", rig_path(rig, "cache"), 1);
    setenv("XDG_DATA_HOME", rig_path(rig, "data"), 1);
    unsetenv("PERIGEE_PLUGIN_PATH");
    assert_ok(peri_topology_new(&o, &rig->topology, &err), err);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

void rig_fini(peri_rig *rig) {
    peri_registry_free(rig->registry);
    peri_topology_free(rig->topology);
    nftw(rig->home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    memset(rig, 0, sizeof *rig);
}

void rig_set(peri_rig *rig, const char *key, const char *value) {
    for (int i = 0; i < RIG_OPTION_MAX; i++) {
        if (rig->option[i][0] != NULL && strcmp(rig->option[i][0], key) != 0) continue;
        rig->option[i][0] = key;
        rig->option[i][1] = value;
        return;
    }
    fail_msg("too many options");
}

void rig_add(peri_rig *rig, const char *path) {
    if (rig->n_file == RIG_FILE_MAX) fail_msg("too many files");
    snprintf(rig->path[rig->n_file], sizeof rig->path[0], "%s", path);
    rig->file[rig->n_file] = rig->path[rig->n_file];
    rig->n_file++;
}

static const char *option(void *user, const char *key) {
    const peri_rig *rig = user;
    for (int i = 0; i < RIG_OPTION_MAX; i++)
        if (rig->option[i][0] != NULL && strcmp(rig->option[i][0], key) == 0)
            return rig->option[i][1];
    return NULL;
}

peri_status rig_try(peri_rig *rig, peri_error *err) {
    peri_registry_options o = {.size = sizeof o,
                               .topology = rig->topology,
                               .files = rig->file,
                               .n_file = rig->n_file,
                               .library_dir = rig_path(rig, "lib"),
                               .probe_program = rig->is_probe_missing ? "/no/such/program"
                                                                      : PERI_PLUGIN_DIR
                                                    "/../perigee-probe",
                               .probe_timeout_ms = rig->timeout_ms,
                               .n_thread = rig->n_thread,
                               .option = option,
                               .option_user = rig,
                               .want_no_cache = !rig->want_cache,
                               .is_pinned = rig->is_pinned,
                               .measure = rig->measure};
    peri_registry_free(rig->registry);
    rig->registry = NULL;
    return peri_registry_new(&o, &rig->registry, err);
}

void rig_look(peri_rig *rig) {
    peri_error err = {0};
    assert_ok(rig_try(rig, &err), err);
}

static char *next_room(void) {
    static char room[16][512];
    static unsigned next;
    return room[next++ % 16];
}

const char *rig_path(const peri_rig *rig, const char *name) {
    char *s = next_room();
    snprintf(s, 512, "%s/%s", rig->home, name);
    return s;
}

const char *rig_plugin(const char *name) {
    char *s = next_room();
    snprintf(s, 512, "%s/tests/plugin/%s.so", PERI_BINARY_DIR, name);
    return s;
}

const char *rig_null(void) {
    return PERI_PLUGIN_DIR "/null.so";
}

const char *rig_copy(const peri_rig *rig, const char *from, const char *name, unsigned mode) {
    static char block[65536];
    const char *to = rig_path(rig, name);
    unlink(to); /* never truncate in place: it may be loaded */
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    if (in == NULL || out == NULL) fail_msg("cannot copy %s to %s", from, to);
    for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;)
        if (fwrite(block, 1, n, out) != n) fail_msg("cannot write %s", to);
    fclose(in);
    if (fclose(out) != 0 || chmod(to, mode) != 0) fail_msg("cannot write %s", to);
    return to;
}

const peri_plugin_file *rig_file(const peri_rig *rig, const char *tail) {
    for (size_t i = 0; i < peri_registry_n_file(rig->registry); i++) {
        const peri_plugin_file *f = peri_registry_file(rig->registry, i);
        size_t n = strlen(f->path), k = strlen(tail);
        if (n >= k && strcmp(f->path + n - k, tail) == 0) return f;
    }
    fail_msg("%s is not listed", tail);
    return NULL;
}

size_t rig_device(const peri_rig *rig, const char *name) {
    for (size_t i = 0; i < peri_registry_n_device(rig->registry); i++)
        if (strcmp(peri_registry_device(rig->registry, i)->info.name, name) == 0) return i;
    fail_msg("there is no device %s", name);
    return 0;
}
