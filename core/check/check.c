/* SPDX-License-Identifier: MIT
 *
 * check.c - starts perigee-check once per stage and gathers its lines (kit_report.c).
 *
 * The child is trusted with nothing but its own report: lines are bounded, time is limited between
 * lines and for the stage, and its process group is killed at the end. */
#define _GNU_SOURCE
#include "check/check.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/status.h"
#include "base/text.h"
#include "model/dtype.h"

#include "base/compiler.h"

enum {
    FD = 3,
    LINE_MAX_BYTES = 1 << 16,
    TIMEOUT_MS = 10000,
    STAGE_FACTOR = 10,
    FINDING_MAX = 200,
    ROW_MAX = 5000
};
static const double SECONDS = 30;

static const char *const stages[] = {"load",       "describe",  "supports", "ops",
                                     "invariance", "lifecycle", "model"};
enum { N_STAGE = sizeof stages / sizeof stages[0] };

typedef struct child {
    const peri_check_options *o;
    pid_t pid;
    int fd;
    int64_t line_ms, start_ms; /* the last sign of life; the start */
    peri_text in;
    json_t *report, *findings, *notes; /* of the plugin; of the stage */
    json_t *place;                     /* what it said last that it was about to do */
    json_int_t n_check;
    double seconds;   /* that a stage for measuring may take; 0: one of the others */
    bool is_finished; /* the stage ended by itself */
} child;

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the child's lines -------------------------------------------------------------------------
 */

/* Lines of the stage that measures. */
static void take_speed(child *c, json_t *line) {
    static const char *const keys[][2] = {{"speed", "rows"}, {"unmeasured", "unmeasured"}};
    json_t *bench = json_object_get(c->report, "bench"), *v;
    if ((v = json_object_get(line, "ceiling")) != NULL) json_object_set(bench, "ceiling", v);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *list = json_object_get(bench, keys[i][1]);
        v = json_object_get(line, keys[i][0]);
        if (v && json_array_size(list) < ROW_MAX) json_array_append(list, v);
    }
}

static void take_line(child *c, const char *line, size_t n) {
    static const char *const about[] = {"plugin", "device"};
    json_t *j, *v;
    if (peri_json_parse(line, n, &j, NULL) != PERI_OK) return;
    if (json_object_get(j, "place")) {
        json_decref(c->place);
        c->place = json_incref(j);
    } else if (json_object_get(j, "finding")) {
        if (json_array_size(c->findings) < FINDING_MAX) json_array_append(c->findings, j);
    } else if ((v = json_object_get(j, "note")) != NULL) {
        if (json_array_size(c->notes) < FINDING_MAX) json_array_append(c->notes, v);
    } else if ((v = json_object_get(j, "operation")) != NULL) {
        json_array_append(json_object_get(c->report, "operations"), v);
    } else if ((v = json_object_get(j, "checks")) != NULL) {
        c->n_check = json_integer_value(v);
        c->is_finished = true;
    }
    for (size_t i = 0; i < sizeof about / sizeof about[0]; i++)
        if ((v = json_object_get(j, about[i])) != NULL) json_object_set(c->report, about[i], v);
    if (c->seconds > 0) take_speed(c, j);
    json_decref(j);
}

/* False at the end of the conversation. */
static bool receive(child *c) {
    char part[8192];
    ssize_t got = read(c->fd, part, sizeof part);
    if (got < 0) return errno == EINTR || errno == EAGAIN;
    if (got == 0) return false;
    c->line_ms = now_ms();
    peri_text_add(&c->in, part, (size_t)got);
    if (c->in.failed) return false;
    size_t used = 0;
    char *end;
    while ((end = memchr(c->in.data + used, '\n', c->in.size - used)) != NULL) {
        take_line(c, c->in.data + used, (size_t)(end - c->in.data) - used);
        used = (size_t)(end - c->in.data) + 1;
    }
    if (used > 0) memmove(c->in.data, c->in.data + used, c->in.size - used);
    c->in.size -= used;
    return c->in.size < LINE_MAX_BYTES;
}

/* ---- a stage that did not end by itself ---------------------------------------------------------
 */

static void find_end(child *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void find_end(child *c, const char *fmt, ...) {
    static const char *const keys[] = {"op", "type", "shape"};
    char text[400];
    const char *place = json_string_value(json_object_get(c->place, "place"));
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    snprintf(text + n, sizeof text - (size_t)n, " in %s", place ? place : "the kit's own start");
    json_t *j = json_pack("{s:s}", "finding", text);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *v = json_object_get(c->place, keys[i]);
        if (v) json_object_set(j, keys[i], v);
    }
    json_array_append_new(c->findings, j);
}

static void judge_end(child *c, int wait_status, bool is_late) {
    int64_t limit = c->o->timeout_ms ? c->o->timeout_ms : TIMEOUT_MS;
    if (is_late && now_ms() - c->line_ms < limit) {
        find_end(c, "the stage as a whole took longer than %.0f s (--timeout), and was stopped",
                 (double)(now_ms() - c->start_ms) / 1000);
    } else if (is_late) {
        find_end(c, "hung: no end after %lld ms", (long long)(now_ms() - c->line_ms));
    } else if (WIFSIGNALED(wait_status)) {
        const char *name = sigabbrev_np(WTERMSIG(wait_status));
        find_end(c, "crashed (SIG%s)", name ? name : "?");
    } else if (!c->is_finished) {
        find_end(c, "ended the process (exit status %d)", WEXITSTATUS(wait_status));
    }
}

static int reap(child *c) {
    int wait_status = 0;
    pid_t got;
    do
        got = waitpid(c->pid, &wait_status, 0);
    while (got < 0 && errno == EINTR);
    kill(-c->pid, SIGKILL); /* what it started */
    return wait_status;
}

/* Until the child closes its end; then what became of it. */
static void attend(child *c) {
    int64_t limit = c->o->timeout_ms ? c->o->timeout_ms : TIMEOUT_MS;
    bool is_late = false;
    for (;;) {
        int64_t now = now_ms(), line_end = c->line_ms + limit;
        int64_t stage_end = c->start_ms + (c->seconds > 0 ? (int64_t)(c->seconds * 1000) + 3 * limit
                                                          : limit * STAGE_FACTOR);
        int64_t left = (line_end < stage_end ? line_end : stage_end) - now;
        struct pollfd wait = {.fd = c->fd, .events = POLLIN};
        if (left <= 0) {
            is_late = true;
            kill(-c->pid, SIGKILL);
            kill(c->pid, SIGKILL);
            break;
        }
        int n = poll(&wait, 1, left > INT_MAX ? INT_MAX : (int)left);
        if (n > 0 && !receive(c)) break;
    }
    judge_end(c, reap(c), is_late);
}

/* ---- starting
 * ------------------------------------------------------------------------------------ */

static int spawn(const char *program, char *const *argv, int fd, pid_t *pid) {
    extern char **environ;
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    int rc = posix_spawn_file_actions_init(&files);
    if (rc != 0) return rc;
    rc = posix_spawnattr_init(&attr);
    if (rc != 0) {
        posix_spawn_file_actions_destroy(&files);
        return rc;
    }
    if ((rc = posix_spawn_file_actions_adddup2(&files, fd, FD)) == 0 &&
        (rc = posix_spawn_file_actions_addclosefrom_np(&files, FD + 1)) == 0 &&
        (rc = posix_spawnattr_setpgroup(&attr, 0)) == 0 &&
        (rc = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP)) == 0)
        rc = posix_spawn(pid, program, &files, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

static peri_status start(child *c, const char *stage, peri_error *err) {
    char device[16], seconds[32];
    int fd[2];
    size_t n = 0;
    const char **argv = peri_alloc_array(c->o->n_setting + 9, sizeof *argv);
    if (!argv) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    snprintf(device, sizeof device, "%u", c->o->device);
    argv[n++] = "perigee-check";
    argv[n++] = c->o->plugin;
    argv[n++] = stage;
    argv[n++] = device;
    argv[n++] = c->o->op ? c->o->op : "-";
    argv[n++] = c->o->type ? c->o->type : "-";
    argv[n++] = c->o->is_small ? "small" : "-";
    snprintf(seconds, sizeof seconds, "%.3f", c->seconds);
    argv[n++] = seconds;
    for (size_t i = 0; i < c->o->n_setting; i++)
        argv[n++] = c->o->setting[i];
    argv[n] = NULL;
    if (pipe2(fd, O_CLOEXEC) != 0) {
        peri_free(argv);
        return peri_fail(err, PERI_E_IO, "no pipe for perigee-check (error %d)", errno);
    }
    int rc = spawn(c->o->program, (char *const *)(uintptr_t)argv, fd[1], &c->pid);
    close(fd[1]);
    peri_free(argv);
    c->fd = fd[0];
    c->start_ms = c->line_ms = now_ms();
    if (rc == 0) return PERI_OK;
    close(c->fd);
    return peri_fail(err, PERI_E_IO, "%s cannot be started (error %d)", c->o->program, rc);
}

static peri_status run_stage(const peri_check_options *o, const char *name, json_t *report,
                             size_t *n_finding, peri_error *err) {
    child c = {.o = o, .report = report, .findings = json_array(), .notes = json_array()};
    if (strcmp(name, "bench") == 0) c.seconds = o->seconds > 0 ? o->seconds : SECONDS;
    peri_status status = start(&c, name, err);
    if (status == PERI_OK) {
        attend(&c);
        close(c.fd);
        *n_finding += json_array_size(c.findings);
        const char *state = json_array_size(c.findings) ? "failed" : "passed";
        json_t *j = json_pack("{s:s,s:s,s:I,s:f,s:O,s:O}", "name", name, "state", state, "checks",
                              c.n_check, "seconds", (double)(now_ms() - c.start_ms) / 1000,
                              "findings", c.findings, "notes", c.notes);
        if (c.in.failed || json_array_append_new(json_object_get(report, "stages"), j) != 0)
            status = peri_fail(err, PERI_E_NOMEM, "out of memory checking a plugin");
    }
    json_decref(c.findings);
    json_decref(c.notes);
    json_decref(c.place);
    peri_text_fini(&c.in);
    return status;
}

/* ---- all stages
 * ---------------------------------------------------------------------------------- */

static bool is_listed(const char *const *list, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], name) == 0) return true;
    return false;
}

static peri_status check_names(const char *const *list, size_t n, peri_error *err) {
    for (size_t i = 0; i < n; i++)
        if (!is_listed(stages, N_STAGE, list[i]))
            return peri_fail(
                err, PERI_E_INVALID,
                "no stage \"%s\"; there are load, describe, supports, ops, invariance, "
                "lifecycle, model",
                list[i]);
    return PERI_OK;
}

static peri_status check_type(const char *type, peri_error *err) {
    if (!type || peri_dtype_find((peri_str){type, strlen(type)})) return PERI_OK;
    return peri_fail(err, PERI_E_INVALID, "no type \"%s\"; there are F32, F16, Q8_0, Q4_K, ...",
                     type);
}

static peri_status check_op(const char *op, peri_error *err) {
    static const char *const names[] = {
#define PERI_OP(NAME, code, level, n_in, n_out, attr) #NAME,
#include "perigee/op.def"
#undef PERI_OP
    };
    if (!op || is_listed(names, sizeof names / sizeof names[0], op)) return PERI_OK;
    return peri_fail(err, PERI_E_INVALID, "no operation \"%s\"; op.def names them, in capitals",
                     op);
}

static peri_status run_all(const peri_check_options *o, json_t *report, size_t *n_finding,
                           peri_error *err) {
    peri_status status = PERI_OK;
    for (size_t i = 0; i < N_STAGE && status == PERI_OK; i++) {
        bool is_wanted =
            (o->n_only == 0 ? !o->is_bench : is_listed(o->only, o->n_only, stages[i])) &&
            !is_listed(o->skip, o->n_skip, stages[i]);
        if (is_wanted) {
            status = run_stage(o, stages[i], report, n_finding, err);
            continue;
        }
        json_t *j = json_pack("{s:s,s:s,s:[],s:[]}", "name", stages[i], "state", "skipped",
                              "findings", "notes");
        if (json_array_append_new(json_object_get(report, "stages"), j) != 0)
            status = peri_fail(err, PERI_E_NOMEM, "out of memory checking a plugin");
    }
    if (status != PERI_OK || !o->is_bench) return status;
    json_object_set_new(report, "bench", json_pack("{s:[],s:[]}", "rows", "unmeasured"));
    return run_stage(o, "bench", report, n_finding, err);
}

peri_status peri_check_run(const peri_check_options *options, char **json, bool *passed,
                           peri_error *err) {
    peri_check_options o = *options;
    char path[PATH_MAX];
    size_t n_finding = 0;
    *json = NULL;
    *passed = false;
    peri_json_init();
    peri_status status = check_names(o.only, o.n_only, err);
    if (status == PERI_OK) status = check_names(o.skip, o.n_skip, err);
    if (status == PERI_OK) status = check_op(o.op, err);
    if (status == PERI_OK) status = check_type(o.type, err);
    if (status != PERI_OK) return status;
    if (!realpath(o.plugin, path))
        return peri_fail(err, errno == ENOENT ? PERI_E_NOT_FOUND : PERI_E_IO, "%s: %s", o.plugin,
                         errno == ENOENT ? "no such file" : "cannot be opened");
    o.plugin = path;
    json_t *report = json_pack("{s:s,s:[],s:[]}", "file", path, "operations", "stages");
    if (!report) return peri_fail(err, PERI_E_NOMEM, "%s: out of memory, or no UTF-8 name", path);
    status = run_all(&o, report, &n_finding, err);
    *passed = status == PERI_OK && n_finding == 0;
    json_object_set_new(report, "findings", json_integer((json_int_t)n_finding));
    json_object_set_new(report, "passed", json_boolean(*passed));
    if (status == PERI_OK) status = peri_json_dump(report, 0, json, err);
    json_decref(report);
    return status;
}
