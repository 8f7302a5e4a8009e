/* SPDX-License-Identifier: MIT
 *
 * cmd_tokenize.c - perigee tokenize and perigee detokenize: text to token ids and back, both exact.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "out.h"
#include "target.h"

typedef struct tok_opts {
    const char *model;
    bool no_special, parse_special, want_special, has_lines, is_json;
} tok_opts;

#define OFF(member) offsetof(tok_opts, member)
// clang-format off
static const peri_opt to_ids[] = {
    {"model", 'm', PERI_OPT_TEXT, "MODEL", OFF(model), 0, 0, "The model whose tokenizer is used: a GGUF file or a name."},
    {"no-special", 0, PERI_OPT_FLAG, NULL, OFF(no_special), 0, 0,
     "Add no begin- or end-of-text tokens, and read the text of control tokens as plain text."},
    {"parse-special", 0, PERI_OPT_FLAG, NULL, OFF(parse_special), 0, 0,
     "With --no-special: still read the text of control tokens as those tokens."},
    {"lines0", 0, PERI_OPT_FLAG, NULL, OFF(has_lines), 0, 0,
     "The input is several texts, each ended by a NUL byte; print one line for each."},
    {"json", 0, PERI_OPT_FLAG, NULL, OFF(is_json), 0, 0,
     "Print {\"tokens\": [...]}, with --lines0 {\"texts\": [[...], ...]}."},
};
static const peri_opt to_text[] = {
    {"model", 'm', PERI_OPT_TEXT, "MODEL", OFF(model), 0, 0, "The model whose tokenizer is used: a GGUF file or a name."},
    {"no-special", 0, PERI_OPT_FLAG, NULL, OFF(no_special), 0, 0, "Leave control tokens out."},
};
// clang-format on

/* Opens the model of -m for its tokenizer; -1, or the exit status. */
static int open_model(const peri_args *args, const char *command, const tok_opts *o,
                      peri_target *t) {
    if (o->model == NULL) return peri_opts_usage(command, "which model? give -m MODEL");
    return peri_target_open(&args->common, o->model, NULL, t) ? -1 : PERI_EXIT_ERROR;
}

/* ---- tokenize -----------------------------------------------------------------------------------
 */

static bool print_ids(const tok_opts *o, const peri_target *t, const char *text, size_t size) {
    peri_error e = {0, ""};
    int32_t *ids = NULL;
    size_t n = 0;
    uint32_t flags = o->no_special ? PERI_TOK_NO_SPECIAL : PERI_TOK_PARSE_SPECIAL;
    if (o->parse_special) flags |= PERI_TOK_PARSE_SPECIAL;
    if (peri_model_tokenize(t->model, text, size, flags, &ids, &n, &e) != PERI_OK) {
        peri_out_error(&e);
        return false;
    }
    if (o->is_json) putchar('[');
    for (size_t i = 0; i < n; i++)
        printf("%s%d", i == 0 ? "" : o->is_json ? ", " : " ", (int)ids[i]);
    if (o->is_json) putchar(']');
    peri_text_free(ids);
    return true;
}

static bool print_texts(const tok_opts *o, const peri_target *t, const char *text, size_t size) {
    bool ok = true;
    if (o->is_json) fputs("{\"texts\": [", stdout);
    for (size_t at = 0; ok && at < size;) {
        const char *nul = memchr(text + at, 0, size - at);
        size_t n = nul ? (size_t)(nul - text) - at : size - at;
        if (o->is_json && at) fputs(",\n ", stdout);
        ok = print_ids(o, t, text + at, n);
        if (!o->is_json) putchar('\n');
        at += n + 1;
    }
    if (o->is_json) fputs("]}\n", stdout);
    return ok;
}

static int run_tokenize(const peri_args *args, void *values) {
    tok_opts *o = values;
    peri_target t;
    char *text;
    size_t size;
    int status = open_model(args, "tokenize", o, &t);
    if (status >= 0) return status;
    bool ok = peri_read_all(stdin, "stdin", &text, &size);
    if (ok && o->has_lines) {
        ok = print_texts(o, &t, text, size);
    } else if (ok) {
        if (o->is_json) fputs("{\"tokens\": ", stdout);
        ok = print_ids(o, &t, text, size);
        fputs(o->is_json ? "}\n" : "\n", stdout);
    }
    free(text);
    peri_target_close(&t);
    return ok ? PERI_EXIT_OK : PERI_EXIT_ERROR;
}

const peri_command peri_cmd_tokenize = {
    .name = "tokenize",
    .synopsis = "tokenize -m MODEL [OPTION...] < TEXT",
    .summary = "text to token ids",
    .text = "Reads text from stdin and prints the ids of its tokens on one line, separated by "
            "spaces. Nothing is added to or "
            "taken from the text, a final newline included. Unless --no-special is given, the "
            "begin- and end-of-text tokens are added that the model asks for, and the text of "
            "control tokens becomes "
            "those tokens.",
    .examples = "  printf 'Hello' | perigee tokenize -m model.gguf\n"
                "  printf 'one\\0two\\0' | perigee tokenize -m model.gguf --no-special --lines0\n",
    .opts = to_ids,
    .n_opt = N_OPTS(to_ids),
    .uses = PERI_USES_PLUGINS,
    .value_bytes = sizeof(tok_opts),
    .run = run_tokenize,
};

/* ---- detokenize ---------------------------------------------------------------------------------
 */

/* Numbers separated by white space or commas, up to `vocab`; false after an error was reported. */
static bool parse_ids(const char *text, int32_t vocab, int32_t **ids, size_t *n) {
    size_t room = strlen(text) / 2 + 1;
    *n = 0;
    *ids = calloc(room, sizeof **ids);
    if (*ids == NULL) return peri_out_fail("out of memory for %zu tokens", room), false;
    for (const char *s = text;;) {
        s += strspn(s, " \t\r\n,");
        if (*s == 0) return true;
        char *end;
        errno = 0;
        long v = strtol(s, &end, 10);
        size_t word = strcspn(s, " \t\r\n,");
        if (end != s + word || errno || v < 0 || v >= vocab)
            return peri_out_fail("token %zu at byte %zu: found '%.*s', expected an id from 0 to %d",
                                 *n, (size_t)(s - text), (int)(word < 40 ? word : 40), s,
                                 (int)vocab - 1),
                   false;
        (*ids)[(*n)++] = (int32_t)v;
        s = end;
    }
}

static int run_detokenize(const peri_args *args, void *values) {
    tok_opts *o = values;
    peri_target t;
    peri_error e = {0, ""};
    char *input = NULL, *text = NULL;
    int32_t *ids = NULL;
    size_t size, n;
    int status = open_model(args, "detokenize", o, &t);
    if (status >= 0) return status;
    status = PERI_EXIT_ERROR;
    if (peri_read_all(stdin, "stdin", &input, &size) &&
        parse_ids(input, peri_model_n_vocab(t.model), &ids, &n)) {
        if (peri_model_detokenize(t.model, ids, n, !o->no_special, &text, &size, &e) == PERI_OK) {
            peri_out_text(text, size);
            status = PERI_EXIT_OK;
        } else {
            peri_out_error(&e);
        }
    }
    peri_text_free(text);
    free(ids);
    free(input);
    peri_target_close(&t);
    return status;
}

const peri_command peri_cmd_detokenize = {
    .name = "detokenize",
    .synopsis = "detokenize -m MODEL [OPTION...] < IDS",
    .summary = "token ids to text",
    .text = "Reads token ids from stdin, separated by white space or commas, and prints exactly "
            "their text, without a newline "
            "of its own.",
    .examples = "  echo 128 77 9 | perigee detokenize -m model.gguf\n",
    .opts = to_text,
    .n_opt = N_OPTS(to_text),
    .uses = PERI_USES_PLUGINS,
    .value_bytes = sizeof(tok_opts),
    .run = run_detokenize,
};
