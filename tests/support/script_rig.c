/* SPDX-License-Identifier: MIT
 *
 * script_rig.c - see script_rig.h. */
#include "script_rig.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "harness.h"
#include "rig.h"

script_said said;

typedef struct around {
    peri_runtime *rt;
    uint64_t interrupt_at;
} around;

static peri_status write_text(void *user, int stream, const char *data, size_t size) {
    const around *a = user;
    char *to = (stream & 0xff) == PERI_STDOUT ? said.out : said.errors;
    size_t used = strlen(to), room = sizeof said.out - 1 - used;
    memcpy(to + used, data, size < room ? size : room);
    if (++said.n_write == a->interrupt_at) peri_script_interrupt(a->rt);
    return PERI_OK;
}

static const char *meaning(const char *at, size_t *size) {
    static char model[300];
    snprintf(model, sizeof model, "%s/tiny.gguf", rig_dir());
    if (strncmp(at, "@DIR@", 5) == 0) {
        *size = 5;
        return rig_dir();
    }
    if (strncmp(at, "@MODEL@", 7) != 0) return NULL;
    *size = 7;
    if (access(model, R_OK)) rig_tiny("tiny.gguf", "llama", 0, 7);
    return model;
}

const char *script_write(const char *text) {
    static char path[300];
    peri_text b = {0};
    while (*text) {
        size_t size = 1;
        const char *word = *text == '@' ? meaning(text, &size) : NULL;
        if (word)
            peri_text_add_str(&b, word);
        else
            peri_text_add(&b, text, 1);
        text += size;
    }
    snprintf(path, sizeof path, "%s", rig_write("script.lua", b.data ? b.data : "", b.size));
    peri_text_fini(&b);
    return path;
}

peri_status script_run(peri_runtime *rt, const char *path, script_way way, int *status,
                       peri_error *err) {
    char grant[2][300];
    around a = {rt, way.interrupt_at};
    snprintf(grant[0], sizeof grant[0], "fs.write=%s", rig_dir());
    snprintf(grant[1], sizeof grant[1], "fs.read=%s", rig_dir());
    const char *allow[] = {grant[0], grant[1]};
    peri_script_options o = {.size = sizeof o,
                             .entry = path,
                             .allow = allow,
                             .n_allow = 2,
                             .slice_ms = way.slice_ms ? way.slice_ms : 60000,
                             .seed = 42,
                             .host = {.user = &a, .write = write_text}};
    memset(&said, 0, sizeof said);
    return peri_script_run(rt, &o, status, err);
}

int script_say(peri_runtime *rt, const char *text, script_way way) {
    peri_error err;
    int status = -1;
    assert_ok(script_run(rt, script_write(text), way, &status, &err), err);
    return status;
}

void assert_script(peri_runtime *rt, const char *text, const char *want) {
    int status = script_say(rt, text, (script_way){0});
    if (status || strcmp(said.out, want) || *said.errors)
        fail_msg("status %d, found \"%s\", expected \"%s\"; errors: %s", status, said.out, want,
                 said.errors);
}
