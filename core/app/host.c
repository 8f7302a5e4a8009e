/* SPDX-License-Identifier: MIT
 *
 * host.c - running a driver script with the program's terminal (host.h).
 *
 * What a script writes is text from a model, a file or a stranger's script: on a terminal its
 * control characters are shown, never obeyed.  The only colour there is, dimming, is asked for by a
 * flag beside the text and put around it here.
 *
 * Ctrl-C goes to the line being read if there is one, else to the script. */
#include "host.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "line.h"
#include "out.h"
#include "progress.h"
#include "target.h"

typedef struct host {
    bool can_dim[3]; /* by stream */
    bool is_tty[3];
    bool is_quiet;
    peri_progress progress; /* the main thread's: of write and progress */
} host;

/* ---- Ctrl-C -------------------------------------------------------------------------------------
 */

static peri_runtime *running; /* set while the handler is installed */

static void on_interrupt(int number) {
    (void)number;
    if (!peri_line_interrupt()) peri_script_interrupt(running);
}

static void catch_interrupt(peri_runtime *rt) {
    struct sigaction a;
    running = rt;
    memset(&a, 0, sizeof a);
    a.sa_handler = on_interrupt;
    a.sa_flags = SA_RESTART;
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
}

/* ---- callbacks ----------------------------------------------------------------------------------
 */

static peri_status write_text(void *user, int stream, const char *data, size_t size) {
    host *h = user;
    int fd = (stream & ~PERI_DIM) == PERI_STDERR ? PERI_STDERR : PERI_STDOUT;
    bool is_dim = (stream & PERI_DIM) && h->can_dim[fd];
    FILE *to = fd == PERI_STDERR ? stderr : stdout;
    peri_progress_end(&h->progress);
    if (fd == PERI_STDERR) fflush(stdout);
    if (is_dim) fputs("\033[2m", to);
    if (h->is_tty[fd])
        peri_out_untrusted(to, data, size, true);
    else
        fwrite(data, 1, size, to);
    if (is_dim) fputs("\033[0m", to);
    bool failed = fflush(to) != 0 || ferror(to);
    return failed && fd == PERI_STDOUT ? PERI_E_IO : PERI_OK; /* stderr may be closed */
}

static peri_status read_line(void *user, const char *prompt, const char **line) {
    (void)user;
    switch (peri_line_read(prompt, true, line)) {
    case PERI_LINE_OK:
    case PERI_LINE_EOF:
        return PERI_OK;
    case PERI_LINE_INTERRUPTED:
        return PERI_E_CANCELLED;
    case PERI_LINE_FAILED:
        break;
    }
    return PERI_E_IO;
}

static void keep_history(void *user, bool is_kept) {
    (void)user;
    peri_line_keep(is_kept);
}

static bool ask(void *user, const char *question) {
    const char *line;
    (void)user;
    fflush(stdout);
    peri_out_untrusted(stderr, question, strlen(question), true);
    peri_line_end end = peri_line_read(". Allow? [y/N] ", false, &line);
    return end == PERI_LINE_OK && (line[0] == 'y' || line[0] == 'Y');
}

static void show_progress(void *user, const char *path, uint64_t done, uint64_t total) {
    host *h = user;
    (void)path;
    if (h->progress.start == 0)
        peri_progress_begin(&h->progress, h->is_tty[PERI_STDERR] && !h->is_quiet);
    peri_progress_show(&h->progress, done, total);
    if (done >= total) peri_progress_end(&h->progress);
}

/* ---- the run ------------------------------------------------------------------------------------
 */

static bool wants_colour(void) {
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return !(no && no[0]) && term && strcmp(term, "dumb") != 0;
}

static void host_init(host *h, const peri_common *c) {
    memset(h, 0, sizeof *h);
    h->is_quiet = c->is_quiet;
    for (int fd = PERI_STDOUT; fd <= PERI_STDERR; fd++) {
        h->is_tty[fd] = isatty(fd);
        h->can_dim[fd] = h->is_tty[fd] && wants_colour();
    }
}

/* Of the terminal that output or messages go to; 0: they go to none. */
static int64_t columns(void) {
    struct winsize w;
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
        if (isatty(fd)) return ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
    return 0;
}

/* What every driver is told. */
static char *driver_arguments(const peri_common *c, json_t *j) {
    bool in = isatty(STDIN_FILENO), out = isatty(STDOUT_FILENO), err = isatty(STDERR_FILENO);
    int failed =
        json_object_set_new(j, "has_stdin", json_boolean(!in)) |
        json_object_set_new(j, "is_terminal", json_boolean(in && out)) |
        json_object_set_new(j, "shows_calls", json_boolean((err || c->verbosity) && !c->is_quiet)) |
        json_object_set_new(j, "verbose", json_integer(c->verbosity)) |
        json_object_set_new(j, "quiet", json_boolean(c->is_quiet)) |
        json_object_set_new(j, "columns", json_integer(columns()));
    return failed ? NULL : json_dumps(j, JSON_COMPACT);
}

static int run_driver(peri_runtime *rt, const peri_common *c, const peri_job_spec *job,
                      const char *arguments) {
    host h;
    peri_error e = {0, ""};
    int status = PERI_EXIT_ERROR;
    bool can_ask = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    host_init(&h, c);
    h.progress.what = job->progress;
    if (!peri_line_start()) return status;
    peri_script_options o = {.size = sizeof o,
                             .entry = job->driver,
                             .arguments = arguments,
                             .allow = job->allow.item,
                             .n_allow = job->allow.n,
                             .seed = job->seed,
                             .slice_ms = job->slice_ms,
                             .host = {.user = &h,
                                      .write = write_text,
                                      .read_line = read_line,
                                      .ask = can_ask ? ask : NULL,
                                      .progress = show_progress,
                                      .keep_history = can_ask ? keep_history : NULL}};
    catch_interrupt(rt);
    if (peri_script_run(rt, &o, &status, &e) != PERI_OK) status = peri_out_error(&e);
    signal(SIGINT, SIG_DFL);
    peri_progress_end(&h.progress);
    peri_line_stop();
    return status;
}

int peri_host_run(const peri_common *c, const peri_job_spec *job) {
    int status = PERI_EXIT_ERROR;
    peri_target t;
    char *arguments = job->arguments ? driver_arguments(c, job->arguments) : NULL;
    if (arguments == NULL) {
        peri_out_fail("out of memory");
    } else if (peri_target_runtime(c, &t)) {
        status = run_driver(t.rt, c, job, arguments);
        peri_target_close(&t);
    }
    peri_json_free(arguments);
    json_decref(job->arguments);
    return status;
}

bool peri_host_list(json_t *o, const char *name, const peri_opt_list *from) {
    json_t *list;
    if (from->n == 0) return true;
    list = json_array();
    if (json_object_set_new(o, name, list) != 0) return peri_out_fail("out of memory"), false;
    for (size_t i = 0; i < from->n; i++) {
        json_t *j;
        if (!peri_host_text(name, from->item[i], strlen(from->item[i]), &j)) return false;
        if (json_array_append_new(list, j) != 0) return peri_out_fail("out of memory"), false;
    }
    return true;
}

bool peri_host_text(const char *what, const char *text, size_t size, json_t **to) {
    *to = json_stringn(text, size);
    if (*to == NULL) peri_out_fail("%s is no well-formed UTF-8", what);
    return *to != NULL;
}
