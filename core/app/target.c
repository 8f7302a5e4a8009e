/* SPDX-License-Identifier: MIT
 *
 * target.c - opening what a command works on (target.h).
 *
 * A load that takes longer than half a second shows a progress line when stderr is a terminal.
 * Ctrl-C during a load cancels it through the progress callback. */
#include "target.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "out.h"
#include "progress.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

void peri_interrupt_catch(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = on_interrupt;
    a.sa_flags = (int)SA_RESETHAND; /* the second one kills */
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
}

bool peri_interrupt_seen(void) {
    return interrupted != 0;
}

/* ---- messages and progress ----------------------------------------------------------------------
 */

/* user: the least level to be shown, as int. */
static void print_message(void *user, int level, const char *line) {
    static const char *const prefix[] = {"debug: ", "", "warning: ", "error: "};
    const int *least = user;
    if (level < *least) return;
    peri_out_note("%s%s", level >= 0 && level <= 3 ? prefix[level] : "", line);
}

/* Outlives the runtime, which may speak until it is freed. */
static int least_level;

static int on_progress(void *user, uint64_t done, uint64_t total) {
    peri_progress_show(user, done, total);
    return peri_interrupt_seen();
}

/* ---- opening ------------------------------------------------------------------------------------
 */

/* Is `name` (n bytes) that of a device or plugin that can be used? */
static bool is_usable(const json_t *devices, const char *name, size_t n) {
    static const char *const keys[] = {"name", "plugin"};
    const json_t *d;
    size_t i;
    json_array_foreach(devices, i, d) for (int k = 0; k < 2; k++) {
        const char *text = peri_json_text(d, keys[k]);
        if (strlen(text) == n && strncmp(text, name, n) == 0 &&
            json_is_true(json_object_get(d, "is_usable")))
            return true;
    }
    return false;
}

/* Where a name comes from that nobody typed; what is wrong with it is told when it is needed. */
static void tell_environment(const peri_common *c, const peri_target *t) {
    peri_error e = {0, ""};
    char *text = NULL;
    if (c->is_quiet || c->device == NULL || c->device != getenv("PERIGEE_DEVICE")) return;
    if (peri_runtime_devices(t->rt, &text, &e) != PERI_OK) return;
    json_t *j = json_loads(text, 0, NULL);
    size_t n;
    for (const char *s = c->device; *s; s += n, s += *s == ',') {
        n = strcspn(s, ",");
        if (n == 0 || is_usable(json_object_get(j, "devices"), s, n)) continue;
        peri_out_note("warning: device %.*s is asked for by the environment variable "
                      "PERIGEE_DEVICE",
                      (int)n, s);
    }
    json_decref(j);
    peri_text_free(text);
}

bool peri_target_runtime(const peri_common *c, peri_target *t) {
    peri_error e = {0, ""};
    peri_runtime_options o = {
        .size = sizeof o,
        .n_thread = (uint32_t)c->n_thread,
        .plugin_files = c->plugins.item,
        .n_plugin_file = c->plugins.n,
        .settings = c->settings.item,
        .n_setting = c->settings.n,
        .message = print_message,
        .message_user = &least_level,
        .is_strict = c->is_strict,
        .is_pinned = c->is_pinned,
    };
    memset(t, 0, sizeof *t);
    least_level = c->is_quiet ? 3 : c->verbosity == 0 ? 2 : c->verbosity == 1 ? 1 : 0;
    for (size_t i = 0; i < c->settings.n; i++)
        if (strchr(c->settings.item[i], '=') == NULL) {
            peri_out_fail("--set %s: expected KEY=VALUE", c->settings.item[i]);
            return false;
        }
    if (peri_runtime_new(&o, &t->rt, &e) != PERI_OK) {
        peri_out_error(&e);
        return false;
    }
    tell_environment(c, t);
    return true;
}

/* ---- names of models ----------------------------------------------------------------------------
 */

typedef struct answer {
    char *text;
    size_t size;
    bool is_quiet; /* what is wrong is not told */
} answer;

/* What the driver writes: the path on stdout, what is wrong on stderr. */
static peri_status take_answer(void *user, int stream, const char *data, size_t size) {
    answer *a = user;
    if (stream != PERI_STDOUT) {
        if (!a->is_quiet) peri_out_untrusted(stderr, data, size, true);
        return PERI_OK;
    }
    char *more = realloc(a->text, a->size + size + 1);
    if (more == NULL) return PERI_E_NOMEM;
    memcpy(more + a->size, data, size);
    a->text = more;
    a->size += size;
    a->text[a->size] = 0;
    return PERI_OK;
}

/* The file that the word stands for, to be freed; NULL after an error was reported. */
static char *find_file(peri_runtime *rt, const char *word, bool is_quiet) {
    answer a = {.is_quiet = is_quiet};
    peri_error e = {0, ""};
    int status = PERI_EXIT_ERROR;
    json_t *j = json_pack("{s:s}", "name", word);
    char *arguments = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    if (arguments == NULL) {
        peri_out_fail("%s: no well-formed UTF-8, or out of memory", word);
        return NULL;
    }
    peri_script_options o = {.size = sizeof o,
                             .entry = "resolve",
                             .arguments = arguments,
                             .host = {.user = &a, .write = take_answer}};
    if (peri_script_run(rt, &o, &status, &e) != PERI_OK) peri_out_error(&e);
    peri_json_free(arguments);
    if (status == PERI_EXIT_OK && a.text) return a.text;
    free(a.text);
    return NULL;
}

bool peri_target_is_stored(const peri_target *t, const char *name) {
    char *found = find_file(t->rt, name, true);
    free(found);
    return found != NULL;
}

/* Open the model in the runtime that t has. */
static bool open_model(const char *word, const peri_model_options *o, peri_target *t) {
    peri_error e = {0, ""};
    char *found = NULL;
    if (peri_target_is_name(word) && (found = find_file(t->rt, word, false)) == NULL) return false;
    double start = peri_now();
    peri_status status = peri_model_open(t->rt, found ? found : word, o, &t->model, &e);
    t->load_s = peri_now() - start;
    free(found);
    if (status != PERI_OK) {
        peri_progress_end(o->progress_user);
        if (!peri_interrupt_seen()) peri_out_error(&e);
    }
    return status == PERI_OK;
}

bool peri_target_open(const peri_common *c, const char *path, const peri_model_options *options,
                      peri_target *t) {
    peri_progress p = {0};
    peri_progress_begin(&p, isatty(STDERR_FILENO) && !c->is_quiet);
    peri_model_options o = {.size = sizeof o, .metadata_only = true};
    if (options) o = *options;
    o.device = c->device;
    o.place = c->place;
    o.weights = (uint32_t)c->weights;
    o.progress = on_progress;
    o.progress_user = &p;
    if (!peri_target_runtime(c, t)) return false;
    bool ok = open_model(path, &o, t);
    peri_progress_end(&p);
    if (ok) return true;
    peri_target_close(t);
    return false;
}

void peri_target_close(peri_target *t) {
    if (t->model) peri_model_close(t->model);
    if (t->rt) peri_runtime_free(t->rt);
    t->model = NULL;
    t->rt = NULL;
}

int64_t peri_target_threads(const peri_common *c, const peri_target *t) {
    peri_error e = {0, ""};
    char *text = NULL;
    double n = 0;
    if (peri_runtime_devices(t->rt, &text, &e) == PERI_OK) {
        json_t *j = json_loads(text, 0, NULL);
        const json_t *nodes = json_object_get(j, "memory_nodes");
        for (size_t i = 0; i < json_array_size(nodes); i++)
            n += peri_json_number(json_array_get(nodes, i), "threads", 0);
        json_decref(j);
    }
    peri_text_free(text);
    return n > 0 ? (int64_t)n : c->n_thread;
}

/* ---- input --------------------------------------------------------------------------------------
 */

bool peri_read_all(FILE *from, const char *name, char **text, size_t *size) {
    size_t room = 1 << 16, n = 0;
    char *data = malloc(room);
    *text = NULL;
    *size = 0;
    while (data) {
        size_t got = fread(data + n, 1, room - n - 1, from);
        n += got;
        if (got == 0) break;
        if (n + 1 < room) continue;
        char *grown = room > SIZE_MAX / 2 ? NULL : realloc(data, room * 2);
        if (grown == NULL) {
            free(data);
            data = NULL;
        } else {
            data = grown;
            room *= 2;
        }
    }
    if (data == NULL) {
        peri_out_fail("%s: out of memory after %zu bytes", name, n);
        return false;
    }
    if (ferror(from)) {
        peri_out_fail("%s: cannot read: %s", name, strerror(errno));
        free(data);
        return false;
    }
    data[n] = 0;
    *text = data;
    *size = n;
    return true;
}

bool peri_read_file(const char *path, char **text, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        peri_out_fail("%s: cannot open: %s", path, strerror(errno));
        return false;
    }
    bool ok = peri_read_all(f, path, text, size);
    fclose(f);
    return ok;
}
