/* SPDX-License-Identifier: MIT
 *
 * kit_main.c - the program perigee-check: loads one plugin and runs one stage of the conformance
 * kit on it, so that what goes wrong in there costs this process.  check.c starts it; it is of no
 * use by hand.
 *
 *     perigee-check PLUGIN STAGE DEVICE OP|- TYPE|- small|- SECONDS [KEY=VALUE...]
 *
 * The report goes to descriptor 3 (kit_report.c).
 *
 * What the plugin prints ends in a pipe that is looked into afterwards (rule R7 of plugin.h). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/status.h"
#include "check/report.h"

#include "base/compiler.h"

enum { N_ARG = 8 };

static int output_fd; /* what the plugin prints */

/* Nothing of the parent's terminal, no core files, and signals as the system has them. */
static bool isolate(void) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP};
    struct rlimit none = {1, 1};
    int pipe_fd[2], nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CORE, &none);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        signal(faults[i], SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    if (nowhere < 0 || pipe2(pipe_fd, O_CLOEXEC | O_NONBLOCK) != 0) return false;
    output_fd = pipe_fd[0];
    return dup2(nowhere, 0) >= 0 && dup2(pipe_fd[1], 1) >= 0 && dup2(pipe_fd[1], 2) >= 0;
}

static void check_output(void) {
    char text[65];
    int n = 0;
    fflush(NULL);
    if (ioctl(output_fd, FIONREAD, &n) != 0 || n <= 0) return;
    ssize_t got = read(output_fd, text, sizeof text - 1);
    text[got > 0 ? got : 0] = 0;
    text[strcspn(text, "\r\n")] = 0;
    kit_find(NULL, "it prints to standard output or standard error: \"%s\"", text);
}

static void tell_step(const char *what) {
    kit_place(strcmp(what, "load") == 0 ? "a constructor, while loading" : PERI_PLUGIN_SYMBOL,
              NULL);
}

/* Note, symbol, table.  False after a finding; the stage `load` also looks at what they say. */
static bool load(const char *path, bool is_stage, kit_plugin *p) {
    peri_error e = {0};
    peri_note note = {0};
    peri_library lib;
    kit_count();
    if (peri_note_read(path, &note, &e) != PERI_OK) {
        kit_find(NULL, "note: %s", e.text);
        return false;
    }
    kit_count();
    if (peri_loader_open(path, &kit_host, tell_step, &lib, &e) != PERI_OK) {
        kit_find(NULL, "%s", e.text);
        return false;
    }
    p->api = lib.api;
    p->has_driver = note.needs[0] != 0;
    if (!is_stage) return true;
    kit_send(json_pack("{s:{s:s%,s:s%,s:s%,s:s%}}", "plugin", "name", note.name, strlen(note.name),
                       "abi", note.abi, strlen(note.abi), "version", lib.api.version,
                       strlen(lib.api.version), "license", lib.api.license,
                       strlen(lib.api.license)));
    if (strcmp(lib.api.name, note.name) != 0)
        kit_find(NULL, "its note calls it \"%s\", its table \"%s\"", note.name, lib.api.name);
    if (!lib.api.close) kit_note("no close: devices cannot give anything back");
    if (kit_host_now.n_live) kit_find(NULL, "loading took memory of host->alloc and kept it");
    return true;
}

/* The device the stages are about; false when there is none, which is said. */
static bool choose_device(kit_plugin *p) {
    peri_error e = {0};
    char what[32];
    snprintf(what, sizeof what, "device(%u)", p->index);
    kit_place(what, NULL);
    peri_status status = peri_loader_device(&p->api, &kit_host, p->index, &p->info, &e);
    if (status != PERI_OK) {
        kit_find(NULL, "no device %u to check: %s (%s)", p->index, e.text,
                 peri_status_name(status));
        return false;
    }
    peri_backend d = {.api = p->api, .info = p->info};
    if (peri_memory_check(&d, &e) == PERI_OK) return true;
    kit_find(NULL, "%s", e.text);
    return false;
}

static void tell_device(const kit_plugin *p) {
    kit_send(json_pack("{s:{s:s,s:s,s:s,s:s,s:b}}", "device", "name", p->info.name, "model",
                       p->info.model, "isa", p->info.isa, "location", p->info.location,
                       "batch_invariant", (int)(p->info.flags & PERI_DEV_BATCH_INVARIANT)));
}

typedef struct stage {
    const char *name;
    void (*run)(kit_plugin *p);
} stage;

static const stage stages[] = {
    {"supports", kit_stage_supports},     {"ops", kit_stage_ops},
    {"invariance", kit_stage_invariance}, {"lifecycle", kit_stage_lifecycle},
    {"model", kit_stage_model},           {"bench", kit_stage_bench},
};

static int run_stage(const char *path, const char *name, kit_plugin *p) {
    bool is_load = strcmp(name, "load") == 0, is_bench = strcmp(name, "bench") == 0;
    if (!load(path, is_load || is_bench, p) || is_load) return 0;
    if (strcmp(name, "describe") == 0) {
        if (choose_device(p)) tell_device(p);
        kit_stage_describe(p);
        return 0;
    }
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
        if (strcmp(name, stages[i].name) == 0) {
            if (!choose_device(p)) return 0;
            if (is_bench) tell_device(p);
            stages[i].run(p);
            return 0;
        }
    return 2;
}

/* The n-th argument, NULL for "-". */
static const char *argument(char **argv, int n) {
    return strcmp(argv[n], "-") == 0 ? NULL : argv[n];
}

int main(int argc, char **argv) {
    struct stat st;
    peri_error e = {0};
    if (argc < N_ARG || fstat(KIT_FD, &st) != 0 || S_ISREG(st.st_mode)) {
        fputs("perigee-check: started by perigee plugin-check; of no use by hand\n", stderr);
        return 2;
    }
    kit_plugin p = {.index = (uint32_t)strtoul(argv[3], NULL, 10),
                    .only_op = argument(argv, 4),
                    .only_type = argument(argv, 5),
                    .is_small = argument(argv, 6) != NULL,
                    .seconds = strtod(argv[7], NULL)};
    kit_host_now.setting = (const char *const *)argv + N_ARG;
    kit_host_now.n_setting = argc - N_ARG;
    peri_json_init();
    if (!isolate() || !kit_host_init(strcmp(argv[2], "bench") == 0, &e)) return 4;
    int status = run_stage(argv[1], argv[2], &p);
    check_output();
    kit_finish();
    _exit(status); /* not exit: nothing of the plugin runs again */
}
