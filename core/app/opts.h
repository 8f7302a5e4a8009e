/* SPDX-License-Identifier: MIT
 *
 * opts.h - commands and options as tables: one parser and one help printer for all of them.
 *
 * A command is a peri_command: its words for the manual and a table of options, each of which says
 * where its value goes in the command's own struct.  Long options (--name VALUE, --name=VALUE),
 * letters (-n 4, -n4, -vv), `--` ends options, and options may follow arguments.  '-' and '_' are
 * the same inside a name.  What is mistyped
 * is named with the nearest existing word. */
#ifndef PERI_APP_OPTS_H
#define PERI_APP_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum peri_opt_kind {
    PERI_OPT_FLAG,   /* bool: becomes true */
    PERI_OPT_COUNT,  /* int: one more each time */
    PERI_OPT_TEXT,   /* const char *, borrowed from argv */
    PERI_OPT_LIST,   /* peri_opt_list, one more item each time */
    PERI_OPT_INT,    /* int64_t in lo .. hi */
    PERI_OPT_SEED,   /* uint64_t */
    PERI_OPT_REAL,   /* double in lo .. hi */
    PERI_OPT_CHOICE, /* int: index in value, "f16|f32" */
    PERI_OPT_MAYBE   /* int: index in value + 1; the value, which only --name=VALUE gives, may be
                        left out for the first one */
} peri_opt_kind;

typedef struct peri_opt_list {
    const char **item; /* [n], borrowed texts; the array is freed by peri_args_fini */
    size_t n;
} peri_opt_list;

typedef struct peri_opt {
    const char *name;
    char letter; /* 0 = none */
    peri_opt_kind kind;
    const char *value; /* how the value is called in the manual, "N"; NULL for flags */
    size_t off;        /* offsetof(struct of the command, member) */
    double lo, hi;
    const char *help;
} peri_opt;

/* Options every command that touches plugins or models has. */
typedef struct peri_common {
    peri_opt_list plugins, settings;
    const char *device, *place;
    int64_t n_thread;
    int weights;   /* PERI_WEIGHTS_* */
    int verbosity; /* -v repeated */
    bool is_strict, is_pinned, is_quiet;
} peri_common;

enum { PERI_USES_PLUGINS = 1, PERI_USES_MODEL = 2 }; /* which of the common options a command has */

typedef struct peri_args {
    const char **arg; /* [n], borrowed texts */
    size_t n;
    peri_common common;
} peri_args;

typedef struct peri_command {
    const char *name, *synopsis, *summary;
    const char *text; /* paragraphs, separated by a blank line; a line that starts with two spaces
                         is kept as it is */
    const char *examples; /* lines, kept as they are */
    const peri_opt *opts; /* [n_opt] */
    size_t n_opt;
    const peri_opt *more; /* [n_more] a second table, under the heading more_head; may be NULL */
    size_t n_more;
    const char *more_head;
    unsigned uses; /* PERI_USES_* */
    size_t min_arg, max_arg;
    size_t value_bytes; /* size of the struct that `off` counts in */
    /* Puts the defaults into the zeroed struct; may be NULL. */
    void (*set_defaults)(void *values);
    /* The work; returns the exit status. */
    int (*run)(const peri_args *args, void *values);
} peri_command;

/* The tables that make up a command's options, its own first. */
typedef struct peri_opt_group {
    const peri_opt *opts; /* [n] */
    size_t n;
    const char *head; /* heading in the manual, NULL under OPTIONS */
    bool is_common;   /* `off` counts in peri_common */
} peri_opt_group;
enum { PERI_OPT_GROUPS = 4 };
size_t peri_opts_groups(const peri_command *c, peri_opt_group group[PERI_OPT_GROUPS]);

enum { PERI_EXIT_OK = 0, PERI_EXIT_ERROR = 1, PERI_EXIT_USAGE = 2, PERI_EXIT_INTERRUPTED = 130 };

/* Fill args and values from argv[1..], argv[0] being the command's name.  Returns -1 to go on, else
 * the exit status: after
 * --help was printed, or a usage error was reported. */
int peri_opts_parse(const peri_command *c, int argc, char **argv, peri_args *args, void *values);
/* Free what the parser allocated in args and values. */
void peri_args_fini(const peri_command *c, peri_args *args, void *values);
/* The manual page of a command (manual.c). */
void peri_opts_help(const peri_command *c, FILE *to);
/* Paragraphs, wrapped and indented, as in peri_command.text. */
void peri_opts_print_text(FILE *to, const char *text, int indent);
/* The nearest of the names, or NULL when none is near enough to be meant. */
const char *peri_opts_nearest(const char *word, const char *const *names, size_t n);
/* "perigee CMD: MESSAGE" and the line that points to --help; returns PERI_EXIT_USAGE. */
int peri_opts_usage(const char *command, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
