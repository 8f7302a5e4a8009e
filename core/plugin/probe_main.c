/* SPDX-License-Identifier: MIT
 *
 * probe_main.c - the program perigee-probe: loads one plugin and lists its devices, so that what
 * goes wrong in there costs this process and not the user's.  libperigee starts it (probe.c); it is
 * of no use by hand.
 *
 * It talks over the socket PERI_PROBE_FD, a line at a time:
 *   in   {"path":..., "nodes":[[numa, n_core, n_worker, "mem_total", "mem_free"], ...]}
 *   out  @load | @entry | @device N      what runs next, so that a crash can be placed
 *   out  ?KEY                            the plugin asks for an option; in: JSON string or null
 *   out  !N TEXT                         the plugin logs at level N
 *   out  {"devices":[...], ...} or {"status":N, "reason":...}    the answer, and the end
 *
 * The plugin's standard input is empty, its standard error goes nowhere, and its standard output is
 * a pipe that is looked into afterwards: a plugin that prints there would corrupt `perigee devices
 * --json`, so it is refused here. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum { LINE_BYTES = 1 << 16, CPU_SECONDS_MAX = 60 };

static int socket_fd = PERI_PROBE_FD;
static char line[LINE_BYTES]; /* the last line read, NUL-terminated */

/* ---- lines
 * --------------------------------------------------------------------------------------- */

static void send_bytes(const char *data, size_t n) {
    while (n > 0) {
        ssize_t put = send(socket_fd, data, n, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) _exit(3); /* nobody listens any more */
        data += put;
        n -= (size_t)put;
    }
}

/* Send prefix and text as one line; line feeds in the text become spaces. */
static void send_line(const char *prefix, const char *text) {
    peri_text b = {0};
    peri_text_add_str(&b, prefix);
    peri_text_add_str(&b, text);
    if (b.failed) _exit(4);
    for (size_t i = 0; i < b.size; i++)
        if (b.data[i] == '\n' || b.data[i] == '\r') b.data[i] = ' ';
    peri_text_add(&b, "\n", 1);
    if (b.failed) _exit(4);
    send_bytes(b.data, b.size);
    peri_text_fini(&b);
}

/* Read one line; false at the end of the conversation. */
static bool read_line(void) {
    size_t n = 0;
    while (n + 1 < sizeof line) {
        ssize_t got = recv(socket_fd, line + n, 1, 0); /* lines are few and short */
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        if (line[n] == '\n') {
            line[n] = 0;
            return true;
        }
        n++;
    }
    return false;
}

/* ---- services
 * ------------------------------------------------------------------------------------ */

static const char *ask_option(void *user, const char *key) {
    static char value[LINE_BYTES]; /* copied by the caller before the next question */
    json_t *j;
    (void)user;
    send_line("?", key);
    if (!read_line()) _exit(3);
    if (peri_json_parse(line, strlen(line), &j, NULL) != PERI_OK) return NULL;
    const char *s = json_string_value(j); /* NULL for null */
    if (s != NULL) snprintf(value, sizeof value, "%s", s);
    json_decref(j);
    return s != NULL ? value : NULL;
}

static void forward_log(void *user, int level, const char *text) {
    char prefix[8];
    (void)user;
    snprintf(prefix, sizeof prefix, "!%d ", level);
    send_line(prefix, text);
}

static void tell_stage(const char *what) {
    send_line("@", what);
}

/* ---- the request
 * --------------------------------------------------------------------------------- */

static uint64_t number_at(const json_t *array, size_t i) {
    const json_t *v = json_array_get(array, i);
    if (json_is_string(v)) return strtoull(json_string_value(v), NULL, 10);
    return (uint64_t)json_integer_value(v);
}

static const char *read_request(json_t **keep) {
    peri_host_setup setup = {.option = ask_option, .log = forward_log};
    if (!read_line() || peri_json_parse(line, strlen(line), keep, NULL) != PERI_OK) return NULL;
    const json_t *nodes = json_object_get(*keep, "nodes");
    for (size_t i = 0; i < json_array_size(nodes) && i < PERI_NODE_MAX; i++) {
        const json_t *n = json_array_get(nodes, i);
        setup.node[setup.n_node++] = (peri_host_node){.size = sizeof setup.node[0],
                                                      .numa = (int32_t)number_at(n, 0),
                                                      .n_core = (uint32_t)number_at(n, 1),
                                                      .n_worker = (uint32_t)number_at(n, 2),
                                                      .mem_total = number_at(n, 3),
                                                      .mem_free = number_at(n, 4)};
    }
    peri_host_configure(&setup);
    return json_string_value(json_object_get(*keep, "path"));
}

/* ---- isolation
 * ----------------------------------------------------------------------------------- */

/* What the plugin prints ends in the returned pipe. */
static int isolate(void) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP};
    struct rlimit none = {1, 1} /* byte: too small for a core file, and told to core handlers */,
                  cpu = {CPU_SECONDS_MAX, CPU_SECONDS_MAX};
    int pipe_fd[2];
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the program that asked */
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_CPU, &cpu);
    /* A sanitizer's handler would turn the signal into an exit status. */
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        signal(faults[i], SIG_DFL);
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nowhere < 0 || pipe2(pipe_fd, O_CLOEXEC | O_NONBLOCK) != 0) _exit(5);
    if (dup2(nowhere, 0) < 0 || dup2(nowhere, 2) < 0 || dup2(pipe_fd[1], 1) < 0) _exit(5);
    return pipe_fd[0];
}

static peri_status check_output(int pipe_fd, peri_error *err) {
    char text[65];
    int n = 0;
    fflush(NULL);
    if (ioctl(pipe_fd, FIONREAD, &n) != 0 || n <= 0) return PERI_OK;
    ssize_t got = read(pipe_fd, text, sizeof text - 1);
    text[got > 0 ? got : 0] = 0;
    text[strcspn(text, "\r\n")] = 0;
    return peri_fail(err, PERI_E_ABI, "it prints to standard output: \"%s\"", text);
}

/* ---- the examination
 * ----------------------------------------------------------------------------- */

static peri_status list_devices(const peri_plugin *api, json_t *devices, peri_error *err) {
    for (uint32_t i = 0;; i++) {
        char stage[32];
        peri_dev_info info;
        peri_error own = {0};
        snprintf(stage, sizeof stage, "device %u", i);
        tell_stage(stage);
        peri_status status = peri_loader_device(api, peri_host_get(), i, &info, &own);
        if (status == PERI_E_NO_DEVICE && i > 0) return PERI_OK;
        if (status != PERI_OK) return peri_fail(err, status, "%s", own.text);
        if (i == PERI_PLUGIN_DEVICE_MAX)
            return peri_fail(err, PERI_E_ABI, "its device list has no end (%d devices and more)",
                             (int)PERI_PLUGIN_DEVICE_MAX);
        if (json_array_append_new(devices, peri_json_from_info(&info)) != 0)
            return peri_fail(err, PERI_E_NOMEM, "out of memory");
    }
}

static peri_status examine(const char *path, json_t *answer, int pipe_fd, peri_error *err) {
    peri_library lib;
    char name[32], version[64], license[32];
    peri_status status = peri_loader_open(path, peri_host_get(), tell_stage, &lib, err);
    if (status == PERI_OK) status = list_devices(&lib.api, json_object_get(answer, "devices"), err);
    peri_status printed = check_output(pipe_fd, err);
    if (printed != PERI_OK || status != PERI_OK) return printed != PERI_OK ? printed : status;
    peri_escape(name, sizeof name, lib.api.name);
    peri_escape(version, sizeof version, lib.api.version);
    peri_escape(license, sizeof license, lib.api.license);
    if (json_object_set_new(answer, "name", json_string(name)) != 0 ||
        json_object_set_new(answer, "version", json_string(version)) != 0 ||
        json_object_set_new(answer, "license", json_string(license)) != 0)
        return peri_fail(err, PERI_E_NOMEM, "out of memory");
    return PERI_OK;
}

int main(int argc, char **argv) {
    json_t *request = NULL;
    peri_error err = {0};
    int type = 0;
    socklen_t size = sizeof type;
    if (argc != 2 || strcmp(argv[1], "--socket") != 0 ||
        getsockopt(socket_fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
        fputs("perigee-probe: started by libperigee to examine a plugin; of no use by hand\n",
              stderr);
        return 2;
    }
    int pipe_fd = isolate();
    peri_json_init();
    const char *path = read_request(&request);
    if (path == NULL) return 3;
    json_t *answer = json_pack("{s:[]}", "devices");
    if (answer == NULL) return 4;
    peri_status status = examine(path, answer, pipe_fd, &err);
    if (status != PERI_OK)
        answer = json_pack("{s:i, s:s}", "status", (int)status, "reason", err.text);
    char *text;
    if (peri_json_dump(answer, JSON_COMPACT, &text, NULL) != PERI_OK) return 4;
    send_line("", text);
    _exit(0); /* not exit: nothing of the plugin runs again */
}
