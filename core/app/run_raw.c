/* SPDX-License-Identifier: MIT
 *
 * run_raw.c - perigee run --raw: the prompt in, the completion out as it comes, without a script.
 *
 * The prompt is fed in slices, so that Ctrl-C is seen between them; results do not depend on the
 * slices (perigee.h).  A stop string is never shown: text that may be the beginning of one is held
 * back until the next piece decides. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "out.h"
#include "run_opts.h"
#include "target.h"

enum { DEFAULT_N = 128 };

/* ---- sampling -----------------------------------------------------------------------------------
 */

/* "NAME=VALUE" texts, as peri_session_options takes them. */
typedef struct settings {
    char **item; /* [n] */
    size_t n;
    bool failed;
} settings;

static void add_setting(settings *s, const char *fmt, ...) {
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int size = vasprintf(&text, fmt, ap);
    va_end(ap);
    char **grown = size < 0 ? NULL : realloc(s->item, (s->n + 1) * sizeof *grown);
    if (grown == NULL) {
        if (size >= 0) free(text);
        s->failed = true;
        return;
    }
    s->item = grown;
    s->item[s->n++] = text;
}

static void free_settings(settings *s) {
    for (size_t i = 0; i < s->n; i++)
        free(s->item[i]);
    free(s->item);
}

#define ADD_REAL(name, v) add_setting(s, "%s=%.17g", name, v)
#define ADD_INT(name, v)  add_setting(s, "%s=%lld", name, (long long)(v))
#define ADD_FLAG(name, v) add_setting(s, "%s=%d", name, v)

static bool add_grammar(const char *path, settings *s) {
    char *text = NULL;
    size_t size = 0;
    bool ok = peri_read_file(path, &text, &size);
    if (ok && strlen(text) != size) {
        peri_out_fail("%s: byte %zu is zero, expected a grammar", path, strlen(text));
        ok = false;
    }
    if (ok) add_setting(s, "grammar=%s", text);
    free(text);
    return ok;
}

/* What was given; for the rest the library knows the file's recommendation and the defaults. */
static bool list_settings(const peri_run_opts *o, settings *s) {
#define PERI_SAMPLING_PARAM(name, KIND, lo, hi, off, usual, ollama, openai, key, meaning)          \
    if (PERI_GIVEN_##KIND(o->sampling.name)) ADD_##KIND(#name, o->sampling.name);
#include "run/sampling.def"
    for (size_t i = 0; i < o->logit_bias.n; i++)
        add_setting(s, "logit_bias=%s", o->logit_bias.item[i]);
    for (size_t i = 0; i < o->breakers.n; i++)
        add_setting(s, "dry_sequence_breaker=%s", o->breakers.item[i]);
    for (size_t i = 0; i < o->triggers.n; i++)
        add_setting(s, "grammar_trigger=%s", o->triggers.item[i]);
    if (o->grammar && !add_grammar(o->grammar, s)) return false;
    if (o->samplers) add_setting(s, "samplers=%s", o->samplers);
    if (s->failed) peri_out_fail("out of memory");
    return !s->failed;
}

/* ---- the prompt ---------------------------------------------------------------------------------
 */

typedef struct buffer {
    char *data;
    size_t size;
} buffer;

static bool append(buffer *b, const char *data, size_t size) {
    char *grown = size > SIZE_MAX - b->size - 1 ? NULL : realloc(b->data, b->size + size + 1);
    if (grown == NULL) {
        peri_out_fail("out of memory for a prompt of %zu bytes", b->size + size);
        return false;
    }
    b->data = grown;
    memcpy(grown + b->size, data, size);
    b->size += size;
    grown[b->size] = 0;
    return true;
}

static bool append_owned(buffer *b, bool was_read, char *text, size_t size) {
    bool ok = was_read && append(b, text, size);
    free(text);
    return ok;
}

/* stdin when it is no terminal, then --prompt-file, then the arguments, with nothing between them.
 */
static bool read_prompt(const peri_args *args, const peri_run_opts *o, buffer *b) {
    char *text = NULL;
    size_t size = 0;
    if (!append(b, "", 0)) return false;
    if (!isatty(STDIN_FILENO)) {
        bool ok = peri_read_all(stdin, "stdin", &text, &size);
        if (!append_owned(b, ok, text, size)) return false;
    }
    if (o->prompt_file) {
        bool ok = peri_read_file(o->prompt_file, &text, &size);
        if (!append_owned(b, ok, text, size)) return false;
    }
    for (size_t i = 1; i < args->n; i++) {
        if (i > 1 && !append(b, " ", 1)) return false;
        if (!append(b, args->arg[i], strlen(args->arg[i]))) return false;
    }
    return true;
}

/* ---- the output ---------------------------------------------------------------------------------
 */

typedef struct output {
    const peri_opt_list *stop;
    buffer held; /* text that may be the beginning of a stop string */
    bool was_stopped, failed;
    char last;
} output;

static void show(output *out, size_t size) {
    if (size == 0) return;
    peri_out_text(out->held.data, size);
    fflush(stdout);
    out->last = out->held.data[size - 1];
    memmove(out->held.data, out->held.data + size, out->held.size - size);
    out->held.size -= size;
}

/* Where the first stop string begins, or SIZE_MAX. */
static size_t find_stop(const output *out) {
    size_t first = SIZE_MAX;
    for (size_t i = 0; i < out->stop->n; i++) {
        const char *s = out->stop->item[i];
        const char *at = memmem(out->held.data, out->held.size, s, strlen(s));
        if (at && (size_t)(at - out->held.data) < first) first = (size_t)(at - out->held.data);
    }
    return first;
}

/* Bytes at the end that are the beginning of a stop string. */
static size_t undecided(const output *out) {
    size_t most = 0;
    for (size_t i = 0; i < out->stop->n; i++) {
        const char *s = out->stop->item[i];
        size_t n = strlen(s);
        if (n > out->held.size + 1) n = out->held.size + 1;
        for (size_t k = n ? n - 1 : 0; k > most; k--)
            if (memcmp(out->held.data + out->held.size - k, s, k) == 0) most = k;
    }
    return most;
}

static int on_piece(void *user, const char *text, size_t size, int32_t tok) {
    output *out = user;
    (void)tok;
    if (size && !append(&out->held, text, size)) {
        out->failed = true;
        return 1;
    }
    size_t stop = out->held.size ? find_stop(out) : SIZE_MAX;
    if (stop != SIZE_MAX) {
        show(out, stop);
        out->held.size = 0;
        out->was_stopped = true;
        return 1;
    }
    show(out, out->held.size - undecided(out));
    return peri_interrupt_seen() || peri_out_has_failed();
}

/* ---- the run ------------------------------------------------------------------------------------
 */

static const char *reason(peri_stop why, const output *out) {
    if (peri_interrupt_seen()) return "interrupted";
    if (out->was_stopped) return "stop string";
    switch (why) {
    case PERI_STOP_LENGTH:
        return "length reached";
    case PERI_STOP_EOG:
        return "end of generation";
    case PERI_STOP_CONTEXT:
        return "context full";
    case PERI_STOP_CALLBACK:
        break;
    }
    return "output ended";
}

static double rate(uint64_t n, uint64_t ns) {
    return ns ? (double)n * 1e9 / (double)ns : 0;
}

static void tell(const peri_args *args, const peri_run_opts *o, const peri_target *t,
                 const peri_session *s, const char *why) {
    peri_session_stats st = {.size = sizeof st};
    peri_session_get_stats(s, &st);
    if (args->common.verbosity == 0) return;
    int64_t threads = peri_target_threads(&args->common, t);
    peri_out_note("plugin %s (%s, %lld threads): %s", peri_model_device(t->model),
                  peri_model_isa(t->model), (long long)threads, peri_model_placement(t->model));
    peri_out_note("loaded in %.0f ms, context %d tokens, seed %llu", t->load_s * 1e3,
                  (int)peri_model_n_ctx(t->model), (unsigned long long)o->seed);
    peri_out_note("prompt %llu tokens, %.1f tokens/s", (unsigned long long)st.n_prompt,
                  rate(st.n_prompt, st.prompt_ns));
    peri_out_note("generated %llu tokens, %.1f tokens/s; %s", (unsigned long long)st.n_generated,
                  rate(st.n_generated, st.generate_ns), why);
}

/* Feed the prompt in slices.  CANCELLED after Ctrl-C. */
static peri_status feed(peri_session *s, const int32_t *tok, size_t n, peri_error *e) {
    enum { SLICE = 256 };
    for (size_t i = 0; i < n; i += SLICE) {
        if (peri_interrupt_seen()) return PERI_E_CANCELLED;
        peri_status status = peri_session_feed(s, tok + i, n - i < SLICE ? n - i : SLICE, e);
        if (status != PERI_OK) return status;
    }
    return peri_interrupt_seen() ? PERI_E_CANCELLED : PERI_OK;
}

/* Generate and end the line on a terminal. */
static int generate(const peri_args *args, const peri_run_opts *o, const peri_target *t,
                    peri_session *s) {
    peri_error e = {0, ""};
    peri_stop why = PERI_STOP_LENGTH;
    output out = {.stop = &o->stop, .last = '\n'};
    size_t n = o->n == PERI_UNSET ? DEFAULT_N : (size_t)o->n;
    if (o->n == -1) n = (size_t)peri_model_n_ctx(t->model);
    peri_status status = peri_session_generate(s, n, on_piece, &out, &why, &e);
    if (!out.was_stopped) show(&out, out.held.size);
    if (out.last != '\n' && isatty(STDOUT_FILENO)) putchar('\n');
    fflush(stdout);
    free(out.held.data);
    if (status != PERI_OK && !peri_interrupt_seen()) return peri_out_error(&e);
    tell(args, o, t, s, reason(why, &out));
    if (peri_interrupt_seen()) return PERI_EXIT_INTERRUPTED;
    return out.failed ? PERI_EXIT_ERROR : PERI_EXIT_OK;
}

/* Feed and generate in a new session. */
static int run_session(const peri_args *args, const peri_run_opts *o, const peri_target *t,
                       const int32_t *ids, size_t n) {
    peri_error e = {0, ""};
    int status = PERI_EXIT_ERROR;
    settings list = {NULL, 0, false};
    peri_session *s = NULL;
    if (list_settings(o, &list)) {
        peri_session_options so = {.size = sizeof so,
                                   .seed = o->seed,
                                   .want_special = o->want_special,
                                   .defaults = PERI_DEFAULTS_RUN,
                                   .sampling = (const char *const *)list.item,
                                   .n_sampling = list.n};
        peri_status st = peri_session_new(t->model, &so, &s, &e);
        if (st == PERI_OK) st = feed(s, ids, n, &e);
        if (st == PERI_OK)
            status = generate(args, o, t, s);
        else
            status = peri_interrupt_seen() ? PERI_EXIT_INTERRUPTED : peri_out_error(&e);
    }
    if (s) peri_session_free(s);
    free_settings(&list);
    return status;
}

static int complete(const peri_args *args, const peri_run_opts *o, const peri_target *t,
                    const buffer *prompt) {
    peri_error e = {0, ""};
    int status = PERI_EXIT_ERROR;
    int32_t *ids = NULL;
    size_t n = 0, n_ctx = (size_t)peri_model_n_ctx(t->model);
    uint32_t flags = (o->no_special ? PERI_TOK_NO_SPECIAL : 0u) |
                     (o->parse_special ? PERI_TOK_PARSE_SPECIAL : 0u);
    if (peri_model_tokenize(t->model, prompt->data, prompt->size, flags, &ids, &n, &e) != PERI_OK)
        peri_out_error(&e);
    else if (n == 0)
        peri_out_fail("the prompt is empty, and this model has no begin-of-text token");
    else if (n >= n_ctx)
        peri_out_fail("the prompt has %zu tokens, but the context holds %zu (see --ctx)", n, n_ctx);
    else
        status = run_session(args, o, t, ids, n);
    peri_text_free(ids);
    return status;
}

int peri_run_raw(const peri_args *args, const peri_run_opts *o) {
    buffer prompt = {NULL, 0};
    peri_target t;
    int status = PERI_EXIT_ERROR;
    if (args->n == 1 && o->prompt_file == NULL && isatty(STDIN_FILENO))
        return peri_opts_usage("run", "no prompt: give it as arguments, with --prompt-file, or on "
                                      "stdin");
    if (!read_prompt(args, o, &prompt)) {
        free(prompt.data);
        return PERI_EXIT_ERROR;
    }
    peri_interrupt_catch();
    peri_model_options mo = {.size = sizeof mo,
                             .n_ctx = o->n_ctx == PERI_UNSET ? 0 : (uint32_t)o->n_ctx,
                             .kv_type = (uint32_t)o->kv /* in the order of PERI_KV_* */};
    if (peri_target_open(&args->common, args->arg[0], &mo, &t)) {
        status = complete(args, o, &t, &prompt);
        peri_target_close(&t);
    } else {
        status = peri_interrupt_seen() ? PERI_EXIT_INTERRUPTED : PERI_EXIT_ERROR;
    }
    free(prompt.data);
    return status;
}
