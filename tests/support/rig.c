/* SPDX-License-Identifier: MIT
 *
 * rig.c - see rig.h. */
#include "rig.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api_int.h"
#include "base/io.h"
#include "base/text.h"
#include "gguf_writer.h"
#include "harness.h"

static char dir[200];

const char *rig_dir(void) {
    if (*dir) return dir;
    snprintf(dir, sizeof dir, "%s/perigee-test-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir)) fail_msg("cannot make a folder for the test");
    return dir;
}

void rig_end(void) {
    DIR *d = *dir ? opendir(dir) : NULL;
    if (!d) return;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        unlink(path);
    }
    closedir(d);
    rmdir(dir);
    *dir = '\0';
}

const char *rig_write(const char *name, const void *data, size_t size) {
    static char path[300];
    peri_error err;
    snprintf(path, sizeof path, "%s/%s", rig_dir(), name);
    assert_ok(peri_file_write(path, data, size, &err), err);
    return path;
}

const char *rig_tiny(const char *name, const char *arch, uint32_t dtype, uint64_t seed) {
    peri_gguf_writer w;
    peri_text file = {0};
    gw_init(&w);
    gw_tiny_model(&w, arch, dtype, seed);
    gw_finish(&w, &file);
    const char *path = rig_write(name, file.data, file.size);
    peri_text_fini(&file);
    gw_fini(&w);
    return path;
}

peri_runtime *rig_runtime(const char *library_dir, const char *script_dir, uint32_t n_thread,
                          const char *setting) {
    peri_runtime_options o = {.size = sizeof o,
                              .n_thread = n_thread,
                              .settings = &setting,
                              .n_setting = setting != NULL,
                              .script_dir = script_dir};
    peri_runtime *rt;
    peri_error err;
    assert_ok(peri_runtime_new_in(&o, library_dir, &rt, &err), err);
    return rt;
}
