/* SPDX-License-Identifier: MIT
 *
 * probe.c - has plugins examined by children (probe_main.c), all at once, and judges what came
 * back.
 *
 * posix_spawn and not fork: the caller may have threads, and a driver that was started here would
 * not survive a fork.  One stream socket per child carries the conversation described in
 * probe_main.c.  A child is trusted with nothing: its lines are bounded, its options limited in
 * number, its answer parsed strictly, and when the time is up its whole process group is killed.
 * Time is wall time from the start of each child. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum {
    AT_ONCE_MAX = 16,        /* children at a time */
    INPUT_MAX = 1 << 18,     /* bytes a child may leave unread or send in one line */
    LOG_LINES_MAX = 100,     /* of one plugin while it is examined */
    REAP_MS = 10,            /* how often a child whose socket is silent is looked at */
    OPTION_VALUE_MAX = 60000 /* bytes; the child's buffer is a little larger */
};

typedef struct child {
    peri_probe_job *job;
    pid_t pid; /* 0: no process */
    int fd;
    int64_t deadline_ms;
    peri_text in;
    char stage[64]; /* what it said last that it was about to do */
    uint32_t n_log;
    bool is_closed; /* nothing more will come */
    bool is_done;
} child;

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static peri_status no_memory(peri_error *err) {
    return peri_fail(err, PERI_E_NOMEM, "examining plugins: out of memory");
}

static void refuse(child *c, peri_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void refuse(child *c, peri_status status, const char *fmt, ...) {
    char text[sizeof c->job->result.reason * 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->job->result.status = status;
    peri_escape(c->job->result.reason, sizeof c->job->result.reason, text);
    c->is_done = true;
}

void peri_probe_result_fini(peri_probe_result *r) {
    json_decref(r->answer);
    for (uint32_t i = 0; i < r->n_asked; i++)
        peri_free(r->asked[i].value);
    *r = (peri_probe_result){0};
}

/* ---- starting and stopping
 * ------------------------------------------------------------------------- */

static peri_status send_all(child *c, const char *data, size_t n) {
    while (n > 0) { /* the socket's buffer holds far more than one line */
        ssize_t put = send(c->fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return PERI_E_IO;
        data += put;
        n -= (size_t)put;
    }
    return PERI_OK;
}

static peri_status send_request(child *c, const peri_probe_options *o, peri_error *err) {
    json_t *nodes = json_array();
    for (uint32_t i = 0; i < o->n_node; i++) {
        char total[24], unused[24];
        snprintf(total, sizeof total, "%llu", (unsigned long long)o->node[i].mem_total);
        snprintf(unused, sizeof unused, "%llu", (unsigned long long)o->node[i].mem_free);
        json_array_append_new(nodes,
                              json_pack("[i,i,i,s,s]", (int)o->node[i].numa, (int)o->node[i].n_core,
                                        (int)o->node[i].n_worker, total, unused));
    }
    bool is_whole = json_array_size(nodes) == o->n_node;
    json_t *request =
        json_pack("{s:s%, s:o}", "path", c->job->path, strlen(c->job->path), "nodes", nodes);
    char *text;
    peri_status status = peri_json_dump(is_whole ? request : NULL, JSON_COMPACT, &text, err);
    json_decref(request);
    if (status != PERI_OK) return status;
    /* A child that is gone already shows on the next read. */
    if (send_all(c, text, strlen(text)) == PERI_OK) (void)send_all(c, "\n", 1);
    peri_free(text);
    return PERI_OK;
}

static int spawn(const char *program, int fd, pid_t *pid) {
    extern char **environ;
    char *argv[] = {(char *)(uintptr_t) "perigee-probe", (char *)(uintptr_t) "--socket", NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int rc = posix_spawn_file_actions_init(&files);
    if (rc != 0) return rc;
    rc = posix_spawnattr_init(&attr);
    if (rc != 0) {
        posix_spawn_file_actions_destroy(&files);
        return rc;
    }
    sigemptyset(&none);
    sigfillset(&all);
    /* dup2 clears close-on-exec, also when both numbers are equal; nothing else of ours goes along.
     */
    if ((rc = posix_spawn_file_actions_adddup2(&files, fd, PERI_PROBE_FD)) == 0 &&
        (rc = posix_spawn_file_actions_addclosefrom_np(&files, PERI_PROBE_FD + 1)) == 0 &&
        (rc = posix_spawnattr_setsigmask(&attr, &none)) == 0 &&
        (rc = posix_spawnattr_setsigdefault(&attr, &all)) == 0 &&
        (rc = posix_spawnattr_setpgroup(&attr, 0)) == 0 &&
        (rc = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                  POSIX_SPAWN_SETSIGDEF)) == 0)
        rc = posix_spawn(pid, program, &files, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

static peri_status start(child *c, peri_probe_job *job, const peri_probe_options *o,
                         peri_error *err) {
    int fd[2];
    *c = (child){.job = job, .fd = -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) != 0) {
        refuse(c, PERI_E_IO, "cannot be examined: no socket: %s", peri_errno_text(errno));
        return PERI_OK;
    }
    c->fd = fd[0];
    c->deadline_ms = now_ms() + o->timeout_ms;
    int rc = spawn(o->program, fd[1], &c->pid);
    close(fd[1]);
    if (rc != 0) {
        c->pid = 0;
        refuse(c, PERI_E_IO, "cannot be examined: %s cannot be started: %s", o->program,
               peri_errno_text(rc));
        return PERI_OK;
    }
    return send_request(c, o, err);
}

/* Kill what is left of the child and everything it started; its wait status, -1 when not known. */
static int reap(child *c) {
    int wait_status = -1;
    pid_t got;
    if (c->pid <= 0) return -1;
    kill(-c->pid, SIGKILL);
    kill(c->pid, SIGKILL); /* in case it has not become a group yet */
    do
        got = waitpid(c->pid, &wait_status, 0);
    while (got < 0 && errno == EINTR);
    c->pid = 0;
    return got < 0 ? -1 : wait_status;
}

static void stop(child *c) {
    reap(c);
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    peri_text_fini(&c->in);
}

/* ---- the conversation
 * ----------------------------------------------------------------------------- */

static peri_status answer_option(child *c, const char *key, const peri_probe_options *o,
                                 peri_error *err) {
    peri_probe_result *r = &c->job->result;
    const char *value = NULL;
    if (peri_option_key_is_valid(key)) value = o->option(o->user, key);
    if (value != NULL && strlen(value) > OPTION_VALUE_MAX) value = NULL;
    uint32_t i = 0;
    while (i < r->n_asked && strcmp(r->asked[i].key, key) != 0)
        i++;
    if (i == PERI_ASKED_MAX) {
        refuse(c, PERI_E_ABI, "it asks for more than %d options", (int)PERI_ASKED_MAX);
        return PERI_OK;
    }
    if (i == r->n_asked) {
        snprintf(r->asked[i].key, sizeof r->asked[i].key, "%s", key);
        r->asked[i].value = value != NULL ? peri_str_dup(peri_str_of(value)) : NULL;
        if (value != NULL && r->asked[i].value == NULL) return no_memory(err);
        r->n_asked++;
    }
    char *text = NULL;
    peri_status status = peri_json_quote(value, &text, err);
    if (status != PERI_OK) return status;
    if (send_all(c, text, strlen(text)) == PERI_OK) (void)send_all(c, "\n", 1);
    peri_free(text);
    return PERI_OK;
}

/* The last line: devices, or a refusal. */
static peri_status take_answer(child *c, const char *line, peri_error *err) {
    peri_probe_result *r = &c->job->result;
    peri_error own = {0};
    json_t *j;
    peri_status status = peri_json_parse(line, strlen(line), &j, &own);
    if (status == PERI_E_NOMEM) return no_memory(err);
    const json_t *devices = json_object_get(j, "devices"), *code = json_object_get(j, "status"),
                 *reason = json_object_get(j, "reason");
    if (status == PERI_OK && json_is_integer(code) && json_integer_value(code) < 0 &&
        json_integer_value(code) > INT32_MIN && json_is_string(reason)) {
        refuse(c, (peri_status)json_integer_value(code), "%s", json_string_value(reason));
    } else if (status == PERI_OK && json_array_size(devices) > 0 &&
               json_array_size(devices) <= PERI_PLUGIN_DEVICE_MAX) {
        r->status = PERI_OK;
        r->answer = json_incref(j);
        c->is_done = true;
    } else {
        refuse(c, PERI_E_CORRUPT, "its examination ended in a malformed answer");
    }
    json_decref(j);
    return PERI_OK;
}

static peri_status take_line(child *c, char *line, const peri_probe_options *o, peri_error *err) {
    switch (line[0]) {
    case '@':
        peri_escape(c->stage, sizeof c->stage, line + 1);
        return PERI_OK;
    case '?':
        return answer_option(c, line + 1, o, err);
    case '!':
        if (line[1] >= '0' && line[1] <= '3' && line[2] == ' ' && c->n_log++ < LOG_LINES_MAX)
            peri_log(line[1] - '0', "%s", line + 3);
        return PERI_OK;
    case '{':
        return take_answer(c, line, err);
    default:
        refuse(c, PERI_E_CORRUPT, "its examination sent a malformed line");
        return PERI_OK;
    }
}

/* Take what has arrived; *has_some tells whether something had. */
static peri_status receive(child *c, const peri_probe_options *o, bool *has_some, peri_error *err) {
    char part[4096];
    ssize_t got = recv(c->fd, part, sizeof part, MSG_DONTWAIT);
    *has_some = got > 0;
    if (got == 0) c->is_closed = true;
    if (got <= 0) return PERI_OK;
    peri_text_add(&c->in, part, (size_t)got);
    if (c->in.failed) return no_memory(err);
    size_t used = 0;
    char *end;
    while (!c->is_done && (end = memchr(c->in.data + used, '\n', c->in.size - used)) != NULL) {
        *end = 0;
        peri_status status = take_line(c, c->in.data + used, o, err);
        if (status != PERI_OK) return status;
        used = (size_t)(end - c->in.data) + 1;
    }
    if (used > 0) {
        memmove(c->in.data, c->in.data + used, c->in.size - used);
        c->in.size -= used;
    }
    if (c->in.size > INPUT_MAX) refuse(c, PERI_E_CORRUPT, "its examination sent an endless line");
    return PERI_OK;
}

/* ---- judging a child that ended without an answer
 * -------------------------------------------------- */

static const char *where(const child *c, char *room, size_t n) {
    unsigned index;
    if (strcmp(c->stage, "load") == 0) return "while loading, in a constructor";
    if (strcmp(c->stage, "entry") == 0) return "in " PERI_PLUGIN_SYMBOL;
    if (sscanf(c->stage, "device %u", &index) == 1) {
        snprintf(room, n, "in device(%u)", index);
        return room;
    }
    return "before it was loaded";
}

static void judge_end(child *c, int wait_status) {
    char room[48];
    const char *place = where(c, room, sizeof room);
    c->job->result.is_crash = true;
    if (wait_status >= 0 && WIFSIGNALED(wait_status)) {
        const char *name = sigabbrev_np(WTERMSIG(wait_status));
        refuse(c, PERI_E_OTHER, "crashed %s (SIG%s)", place, name != NULL ? name : "?");
    } else if (wait_status >= 0 && WIFEXITED(wait_status)) {
        refuse(c, PERI_E_OTHER, "ended the process %s (exit status %d)", place,
               WEXITSTATUS(wait_status));
    } else {
        refuse(c, PERI_E_OTHER, "ended %s", place);
    }
}

/* Has the child ended?  It stays a zombie, so that its number still means its process group. */
static bool has_ended(const child *c) {
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

/* One look at a child: its socket, its process, its time. */
static peri_status look(child *c, const peri_probe_options *o, peri_error *err) {
    bool has_some,
        was_ended = has_ended(c); /* asked first: what it said before lies in the socket */
    peri_status status;
    do
        status = receive(c, o, &has_some, err);
    while (status == PERI_OK && !c->is_done && has_some && was_ended);
    if (status != PERI_OK || c->is_done) return status;
    if (was_ended) {
        judge_end(c, reap(c));
    } else if (now_ms() >= c->deadline_ms) {
        char room[48];
        c->job->result.is_crash = true;
        refuse(c, PERI_E_TIMEOUT, "hung %s: no answer within %u ms", where(c, room, sizeof room),
               o->timeout_ms);
    }
    return status;
}

peri_status peri_probe_run(const peri_probe_options *o, peri_probe_job *jobs, size_t n,
                           peri_error *err) {
    child running[AT_ONCE_MAX];
    size_t n_running = 0, next = 0;
    peri_status status = PERI_OK;
    peri_json_init();
    while (status == PERI_OK && (next < n || n_running > 0)) {
        struct pollfd wait[AT_ONCE_MAX];
        while (status == PERI_OK && next < n && n_running < AT_ONCE_MAX)
            status = start(&running[n_running++], &jobs[next++], o, err);
        bool has_finished = false;
        for (size_t i = 0; i < n_running; i++) {
            wait[i] =
                (struct pollfd){.fd = running[i].is_closed ? -1 : running[i].fd, .events = POLLIN};
            has_finished |= running[i].is_done;
        }
        if (!has_finished) poll(wait, (nfds_t)n_running, REAP_MS);
        for (size_t i = 0; i < n_running && status == PERI_OK; i++)
            if (!running[i].is_done) status = look(&running[i], o, err);
        for (size_t i = n_running; i-- > 0;) {
            if (!running[i].is_done) continue;
            stop(&running[i]);
            running[i] = running[--n_running];
        }
    }
    while (n_running > 0)
        stop(&running[--n_running]);
    return status;
}
