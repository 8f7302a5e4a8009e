/* SPDX-License-Identifier: MIT
 *
 * opts.c - the option parser and the manual pages, both driven by the tables of the commands
 * (opts.h).
 *
 * Reading order: finding an option, storing a value, the parser, then the printer.  An option that
 * takes a value takes the next word whatever it looks like, so that `-n -1` needs no quoting. */
#include "opts.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "out.h"

#define COMMON(member) offsetof(peri_common, member)

// clang-format off
static const peri_opt plugin_opts[] = {
    {"plugin", 0, PERI_OPT_LIST, "FILE", COMMON(plugins), 0, 0,
     "Also look at this plugin file. May be given several times."},
    {"set", 0, PERI_OPT_LIST, "KEY=VALUE", COMMON(settings), 0, 0,
     "A setting for a plugin, such as cpu.isa=avx2. May be given several times."},
    {"threads", 't', PERI_OPT_INT, "N", COMMON(n_thread), 1, 4096,
     "CPU threads. Without it: the cores that affinity and cgroup quota leave to this process."},
    {"strict", 0, PERI_OPT_FLAG, NULL, COMMON(is_strict), 0, 0,
     "Make warnings and fallbacks errors."},
    {"verbose", 'v', PERI_OPT_COUNT, NULL, COMMON(verbosity), 0, 0,
     "Say more on stderr; twice for debugging."},
    {"quiet", 'q', PERI_OPT_FLAG, NULL, COMMON(is_quiet), 0, 0,
     "Say nothing on stderr but errors."},
};
static const peri_opt model_opts[] = {
    {"device", 0, PERI_OPT_TEXT, "LIST", COMMON(device), 0, 0,
     "Devices or plugins in order of preference, such as cuda:0,cpu. Without it: the device predicted to be fastest "
     "(see perigee explain)."},
};
// clang-format on
#define N_ARRAY(a) (sizeof(a) / sizeof((a)[0]))

/* ---- reporting ----------------------------------------------------------------------------------
 */

int peri_opts_usage(const char *command, const char *fmt, ...) {
    char line[1024];
    va_list ap;
    const char *space = command[0] ? " " : "";
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    fprintf(stderr, "perigee%s%s: ", space, command);
    peri_out_untrusted(stderr, line, strlen(line), false);
    fprintf(stderr, "\nTry 'perigee%s%s --help'.\n", space, command);
    return PERI_EXIT_USAGE;
}

/* Edit distance of a and b (insert, delete, replace, swap neighbours), for words shorter than 48
 * bytes. */
static int distance(const char *a, const char *b) {
    enum { MAX = 48 };
    int d[3][MAX + 1];
    size_t na = strlen(a), nb = strlen(b);
    if (na > MAX || nb > MAX) return MAX;
    for (size_t j = 0; j <= nb; j++)
        d[0][j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int *row = d[i % 3], *up = d[(i + 2) % 3], *up2 = d[(i + 1) % 3];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int best = up[j - 1] + (a[i - 1] != b[j - 1]);
            if (up[j] + 1 < best) best = up[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && up2[j - 2] + 1 < best) best = up2[j - 2] + 1;
            row[j] = best;
        }
    }
    return d[na % 3][nb];
}

const char *peri_opts_nearest(const char *word, const char *const *names, size_t n) {
    const char *best = NULL;
    int best_d = (int)strlen(word) / 3 + 1; /* "tmp" may miss two letters, "t" none */
    if (best_d > 3) best_d = 3;
    for (size_t i = 0; i < n; i++) {
        bool is_start = strlen(word) > 1 && strncmp(word, names[i], strlen(word)) == 0;
        int d = is_start ? 1 : distance(word, names[i]);
        if (d <= best_d && (best == NULL || d < best_d)) {
            best = names[i];
            best_d = d;
        }
    }
    return best;
}

/* ---- finding an option --------------------------------------------------------------------------
 */

/* An option and the struct its value goes to. */
typedef struct slot {
    const peri_opt *opt;
    void *base;
} slot;

typedef struct parser {
    const peri_command *c;
    peri_args *args;
    void *values;
    struct {
        const peri_opt *opts;
        size_t n;
        void *base;
    } group[3];
} parser;

static void parser_init(parser *p, const peri_command *c, peri_args *args, void *values) {
    memset(p, 0, sizeof *p);
    p->c = c;
    p->args = args;
    p->values = values;
    p->group[0].opts = c->opts;
    p->group[0].n = c->n_opt;
    p->group[0].base = values;
    if (c->uses & PERI_USES_MODEL) {
        p->group[1].opts = model_opts;
        p->group[1].n = N_ARRAY(model_opts);
        p->group[1].base = &args->common;
    }
    if (c->uses & PERI_USES_PLUGINS) {
        p->group[2].opts = plugin_opts;
        p->group[2].n = N_ARRAY(plugin_opts);
        p->group[2].base = &args->common;
    }
}

static slot find(const parser *p, const char *name, size_t size, char letter) {
    for (size_t g = 0; g < N_ARRAY(p->group); g++)
        for (size_t i = 0; i < p->group[g].n; i++) {
            const peri_opt *o = &p->group[g].opts[i];
            bool is_it = letter ? o->letter == letter
                                : strlen(o->name) == size && memcmp(o->name, name, size) == 0;
            if (is_it) return (slot){o, p->group[g].base};
        }
    return (slot){NULL, NULL};
}

static int unknown_option(const parser *p, const char *name, size_t size) {
    const char *names[64];
    char word[48];
    size_t n = 0;
    for (size_t g = 0; g < N_ARRAY(p->group); g++)
        for (size_t i = 0; i < p->group[g].n && n < N_ARRAY(names) - 1; i++)
            names[n++] = p->group[g].opts[i].name;
    names[n++] = "help";
    if (size >= sizeof word) size = sizeof word - 1;
    memcpy(word, name, size);
    word[size] = 0;
    const char *near = peri_opts_nearest(word, names, n);
    if (near)
        return peri_opts_usage(p->c->name, "unknown option '--%s'; did you mean '--%s'?", word,
                               near);
    return peri_opts_usage(p->c->name, "unknown option '--%s'", word);
}

/* ---- storing a value ----------------------------------------------------------------------------
 */

static int bad_value(const parser *p, const peri_opt *o, const char *text, const char *want) {
    return peri_opts_usage(p->c->name, "--%s: found '%s', expected %s", o->name, text, want);
}

static int store_int(const parser *p, const peri_opt *o, int64_t *to, const char *text) {
    char *end, want[96];
    errno = 0;
    long long v = strtoll(text, &end, 10);
    snprintf(want, sizeof want, "a whole number from %.0f to %.0f", o->lo, o->hi);
    if (end == text || *end || errno || (double)v < o->lo || (double)v > o->hi)
        return bad_value(p, o, text, want);
    *to = v;
    return -1;
}

static int store_real(const parser *p, const peri_opt *o, double *to, const char *text) {
    char *end, want[96];
    double v = strtod(text, &end);
    snprintf(want, sizeof want, "a number from %g to %g", o->lo, o->hi);
    if (end == text || *end || !isfinite(v) || v < o->lo || v > o->hi)
        return bad_value(p, o, text, want);
    *to = v;
    return -1;
}

static int store_seed(const parser *p, const peri_opt *o, uint64_t *to, const char *text) {
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (end == text || *end || errno || text[0] == '-')
        return bad_value(p, o, text, "a whole number from 0 to 18446744073709551615");
    *to = v;
    return -1;
}

static int store_choice(const parser *p, const peri_opt *o, int *to, const char *text) {
    const char *s = o->value;
    for (int i = 0; s; i++) {
        const char *bar = strchr(s, '|');
        size_t n = bar ? (size_t)(bar - s) : strlen(s);
        if (strlen(text) == n && memcmp(s, text, n) == 0) {
            *to = i;
            return -1;
        }
        s = bar ? bar + 1 : NULL;
    }
    return bad_value(p, o, text, o->value);
}

static int store_item(peri_opt_list *list, const char *text) {
    const char **grown = realloc(list->item, (list->n + 1) * sizeof *grown);
    if (grown == NULL) {
        fprintf(stderr, "perigee: out of memory\n");
        return PERI_EXIT_ERROR;
    }
    list->item = grown;
    list->item[list->n++] = text;
    return -1;
}

/* -1, or the exit status. */
static int store(const parser *p, slot s, const char *text) {
    char *to = (char *)s.base + s.opt->off;
    switch (s.opt->kind) {
    case PERI_OPT_FLAG:
        *(bool *)(void *)to = true;
        return -1;
    case PERI_OPT_COUNT:
        *(int *)(void *)to += 1;
        return -1;
    case PERI_OPT_TEXT:
        *(const char **)(void *)to = text;
        return -1;
    case PERI_OPT_LIST:
        return store_item((peri_opt_list *)(void *)to, text);
    case PERI_OPT_INT:
        return store_int(p, s.opt, (int64_t *)(void *)to, text);
    case PERI_OPT_SEED:
        return store_seed(p, s.opt, (uint64_t *)(void *)to, text);
    case PERI_OPT_REAL:
        return store_real(p, s.opt, (double *)(void *)to, text);
    case PERI_OPT_CHOICE:
        return store_choice(p, s.opt, (int *)(void *)to, text);
    }
    return PERI_EXIT_ERROR;
}

static bool takes_value(const peri_opt *o) {
    return o->kind != PERI_OPT_FLAG && o->kind != PERI_OPT_COUNT;
}

/* ---- the parser ---------------------------------------------------------------------------------
 */

/* --name, --name=VALUE, --name VALUE.  *i moves when the next word was used. */
static int parse_long(const parser *p, int argc, char **argv, int *i) {
    const char *name = argv[*i] + 2, *eq = strchr(name, '=');
    size_t size = eq ? (size_t)(eq - name) : strlen(name);
    slot s = find(p, name, size, 0);
    if (s.opt == NULL) return unknown_option(p, name, size);
    if (!takes_value(s.opt)) {
        if (eq) return peri_opts_usage(p->c->name, "--%s takes no value", s.opt->name);
        return store(p, s, NULL);
    }
    if (eq) return store(p, s, eq + 1);
    if (*i + 1 >= argc)
        return peri_opts_usage(p->c->name, "--%s needs a value: %s", s.opt->name, s.opt->value);
    return store(p, s, argv[++*i]);
}

/* -v, -vv, -n 4, -n4. */
static int parse_letters(const parser *p, int argc, char **argv, int *i) {
    for (const char *l = argv[*i] + 1; *l; l++) {
        slot s = find(p, NULL, 0, *l);
        if (s.opt == NULL) return peri_opts_usage(p->c->name, "unknown option '-%c'", *l);
        if (takes_value(s.opt)) {
            if (l[1]) return store(p, s, l + 1);
            if (*i + 1 >= argc)
                return peri_opts_usage(p->c->name, "-%c needs a value: %s", *l, s.opt->value);
            return store(p, s, argv[++*i]);
        }
        int status = store(p, s, NULL);
        if (status >= 0) return status;
    }
    return -1;
}

static bool wants_help(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

int peri_opts_parse(const peri_command *c, int argc, char **argv, peri_args *args, void *values) {
    parser p;
    bool is_literal = false; /* after `--` */
    memset(args, 0, sizeof *args);
    memset(values, 0, c->value_bytes);
    if (c->set_defaults) c->set_defaults(values);
    if (wants_help(argc, argv)) {
        peri_opts_help(c, stdout);
        return PERI_EXIT_OK;
    }
    parser_init(&p, c, args, values);
    args->arg = calloc((size_t)argc + 1, sizeof *args->arg);
    if (args->arg == NULL) {
        fprintf(stderr, "perigee: out of memory\n");
        return PERI_EXIT_ERROR;
    }
    for (int i = 1; i < argc; i++) {
        int status = -1;
        if (is_literal || argv[i][0] != '-' || argv[i][1] == 0) {
            args->arg[args->n++] = argv[i];
        } else if (strcmp(argv[i], "--") == 0) {
            is_literal = true;
        } else {
            status = argv[i][1] == '-' ? parse_long(&p, argc, argv, &i)
                                       : parse_letters(&p, argc, argv, &i);
        }
        if (status >= 0) return status;
    }
    if (args->n < c->min_arg)
        return peri_opts_usage(c->name, "too few arguments; usage: perigee %s", c->synopsis);
    if (args->n > c->max_arg)
        return peri_opts_usage(c->name, "unexpected argument '%s'", args->arg[c->max_arg]);
    return -1;
}

static void free_lists(const peri_opt *opts, size_t n, void *base) {
    for (size_t i = 0; i < n; i++)
        if (opts[i].kind == PERI_OPT_LIST) {
            peri_opt_list *list = (peri_opt_list *)(void *)((char *)base + opts[i].off);
            free(list->item);
            *list = (peri_opt_list){NULL, 0};
        }
}

void peri_args_fini(const peri_command *c, peri_args *args, void *values) {
    free_lists(c->opts, c->n_opt, values);
    free_lists(plugin_opts, N_ARRAY(plugin_opts), &args->common);
    free(args->arg);
    args->arg = NULL;
}

/* ---- the manual ---------------------------------------------------------------------------------
 */

enum { WIDTH = 80 };

/* One paragraph, wrapped. */
static void print_paragraph(FILE *to, const char *text, size_t size, int indent) {
    int column = 0;
    for (size_t i = 0; i < size;) {
        size_t n = 0;
        while (i + n < size && text[i + n] != ' ' && text[i + n] != '\n')
            n++;
        if (column == 0) {
            column = fprintf(to, "%*s%.*s", indent, "", (int)n, text + i);
        } else if (column + 1 + (int)n > WIDTH) {
            column = fprintf(to, "\n%*s%.*s", indent, "", (int)n, text + i) - 1;
        } else {
            column += fprintf(to, " %.*s", (int)n, text + i);
        }
        for (i += n; i < size && (text[i] == ' ' || text[i] == '\n');)
            i++;
    }
    fputc('\n', to);
}

void peri_opts_print_text(FILE *to, const char *text, int indent) {
    while (*text) {
        const char *end = strstr(text, "\n\n");
        size_t size = end ? (size_t)(end - text) : strlen(text);
        if (text[0] == ' ') { /* kept as it is */
            for (size_t i = 0; i < size;) {
                const char *nl = memchr(text + i, '\n', size - i);
                size_t n = nl ? (size_t)(nl - text) - i : size - i;
                fprintf(to, "%*s%.*s\n", indent, "", (int)n, text + i);
                i += n + 1;
            }
        } else {
            print_paragraph(to, text, size, indent);
        }
        text += size;
        if (end) {
            text += 2;
            fputc('\n', to);
        }
    }
}

static void print_options(FILE *to, const peri_opt *opts, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const peri_opt *o = &opts[i];
        fputs("  ", to);
        if (o->letter) fprintf(to, "-%c, ", o->letter);
        fprintf(to, "--%s%s%s\n", o->name, o->value ? " " : "", o->value ? o->value : "");
        peri_opts_print_text(to, o->help, 8);
    }
}

void peri_opts_help(const peri_command *c, FILE *to) {
    fprintf(to, "perigee %s - %s\n\nUSAGE\n  perigee %s\n\nDESCRIPTION\n", c->name, c->summary,
            c->synopsis);
    peri_opts_print_text(to, c->text, 2);
    fputs("\nOPTIONS\n", to);
    print_options(to, c->opts, c->n_opt);
    if (c->uses & PERI_USES_MODEL) print_options(to, model_opts, N_ARRAY(model_opts));
    if (c->uses & PERI_USES_PLUGINS) print_options(to, plugin_opts, N_ARRAY(plugin_opts));
    fputs("  -h, --help\n        Print this page.\n", to);
    fputs("\nEXIT STATUS\n"
          "  0 success, 1 an error, 2 wrong usage, 130 interrupted by Ctrl-C.\n",
          to);
    if (c->examples) fprintf(to, "\nEXAMPLES\n%s", c->examples);
}
