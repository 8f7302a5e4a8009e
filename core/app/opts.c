/* SPDX-License-Identifier: MIT
 *
 * opts.c - the option parser, driven by the tables of the commands (opts.h); manual.c prints them.
 *
 * Reading order: finding an option, storing a value, the parser.  An option that takes a value
 * takes the next word whatever it looks like, so that `-n -1` needs no quoting. */
#include "opts.h"

#include <errno.h>
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
     "A setting for a plugin, such as cpu.isa=avx2. May be given several times. One that no "
     "plugin has asked for when a model is loaded is warned of."},
    {"threads", 't', PERI_OPT_INT, "N", COMMON(n_thread), 1, 4096,
     "CPU threads. Without it: the cores that affinity and cgroup quota leave to this process."},
    {"strict", 0, PERI_OPT_FLAG, NULL, COMMON(is_strict), 0, 0,
     "Make warnings and fallbacks errors."},
    {"pinned", 0, PERI_OPT_FLAG, NULL, COMMON(is_pinned), 0, 0,
     "Refuse a plugin whose file has changed since its SHA-256 was recorded at its first use. --strict does so too."},
    {"verbose", 'v', PERI_OPT_COUNT, NULL, COMMON(verbosity), 0, 0,
     "Say more on stderr; twice for debugging."},
    {"quiet", 'q', PERI_OPT_FLAG, NULL, COMMON(is_quiet), 0, 0,
     "Say nothing on stderr but errors."},
};
static const peri_opt model_opts[] = {
    {"device", 0, PERI_OPT_TEXT, "LIST", COMMON(device), 0, 0,
     "Devices or plugins, such as cuda:0,cpu: all of them may be used for one model, each for the parts where it should be "
     "fastest (the first where that is the same) and for what the others decline or have no memory for; one name means "
     "that device alone. Without it: $PERIGEE_DEVICE, or the device predicted to be fastest, with others where it needs "
     "them (see perigee explain)."},
    {"place", 0, PERI_OPT_TEXT, "RULES", COMMON(place), 0, 0,
     "What must be where, such as 'layers 0-9 on cuda:0; experts on cpu; head on cuda:1': see perigee explain --help. "
     "Without it: $PERIGEE_PLACE."},
    {"weights", 0, PERI_OPT_CHOICE, "auto|map|copy", COMMON(weights), 0, 0,
     "Where processors read weights: auto copies them into memory in large pages where there is room, from which they "
     "are read 5 to 18 % faster; map reads the mapped file, which processes share; copy always copies."},
};
// clang-format on
#define N_ARRAY(a) (sizeof(a) / sizeof((a)[0]))

size_t peri_opts_groups(const peri_command *c, peri_opt_group group[PERI_OPT_GROUPS]) {
    size_t n = 0;
    group[n++] = (peri_opt_group){c->opts, c->n_opt, NULL, false};
    if (c->uses & PERI_USES_MODEL)
        group[n++] = (peri_opt_group){model_opts, N_ARRAY(model_opts), NULL, true};
    if (c->uses & PERI_USES_PLUGINS)
        group[n++] = (peri_opt_group){plugin_opts, N_ARRAY(plugin_opts), NULL, true};
    if (c->more) group[n++] = (peri_opt_group){c->more, c->n_more, c->more_head, false};
    return n;
}

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
    peri_opt_group group[PERI_OPT_GROUPS];
    size_t n_group;
} parser;

/* Words are the same with '-' and with '_' in them: sampling parameters are known as top_k too. */
static bool is_same_word(const char *name, const char *word, size_t size) {
    for (size_t i = 0; i < size; i++) {
        char c = word[i] == '_' ? '-' : word[i];
        if (c != (name[i] == '_' ? '-' : name[i])) return false;
    }
    return name[size] == 0;
}

static slot find(const parser *p, const char *name, size_t size, char letter) {
    for (size_t g = 0; g < p->n_group; g++)
        for (size_t i = 0; i < p->group[g].n; i++) {
            const peri_opt *o = &p->group[g].opts[i];
            bool is_it = letter ? o->letter == letter : is_same_word(o->name, name, size);
            if (is_it) return (slot){o, p->group[g].is_common ? &p->args->common : p->values};
        }
    return (slot){NULL, NULL};
}

static int unknown_option(const parser *p, const char *name, size_t size) {
    const char *names[128];
    char word[48];
    size_t n = 0;
    for (size_t g = 0; g < p->n_group; g++)
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

/* The index of text in "f16|f32", or -1. */
static int choice_index(const char *choices, const char *text) {
    const char *s = choices;
    for (int i = 0; s; i++) {
        const char *bar = strchr(s, '|');
        size_t n = bar ? (size_t)(bar - s) : strlen(s);
        if (strlen(text) == n && memcmp(s, text, n) == 0) return i;
        s = bar ? bar + 1 : NULL;
    }
    return -1;
}

static int store_choice(const parser *p, const peri_opt *o, int *to, const char *text) {
    int i = choice_index(o->value, text);
    if (i < 0) return bad_value(p, o, text, o->value);
    *to = i;
    return -1;
}

static int store_maybe(const parser *p, const peri_opt *o, int *to, const char *text) {
    int i = text ? choice_index(o->value, text) : 0;
    if (i < 0) return bad_value(p, o, text, o->value);
    *to = i + 1;
    return -1;
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
    case PERI_OPT_MAYBE:
        return store_maybe(p, s.opt, (int *)(void *)to, text);
    }
    return PERI_EXIT_ERROR;
}

static bool takes_value(const peri_opt *o) {
    return o->kind != PERI_OPT_FLAG && o->kind != PERI_OPT_COUNT && o->kind != PERI_OPT_MAYBE;
}

/* ---- the parser ---------------------------------------------------------------------------------
 */

/* An option whose value may be left out.  A value as the next word would be taken for something
 * else, so it is refused. */
static int parse_maybe(const parser *p, slot s, const char *value, const char *next) {
    if (value == NULL && next && choice_index(s.opt->value, next) >= 0)
        return peri_opts_usage(p->c->name, "--%s %s: the value goes behind an =, --%s=%s",
                               s.opt->name, next, s.opt->name, next);
    return store(p, s, value);
}

/* --name, --name=VALUE, --name VALUE.  *i moves when the next word was used. */
static int parse_long(const parser *p, int argc, char **argv, int *i) {
    const char *name = argv[*i] + 2, *eq = strchr(name, '=');
    size_t size = eq ? (size_t)(eq - name) : strlen(name);
    slot s = find(p, name, size, 0);
    if (s.opt == NULL) return unknown_option(p, name, size);
    if (s.opt->kind == PERI_OPT_MAYBE) return parse_maybe(p, s, eq ? eq + 1 : NULL, argv[*i + 1]);
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
    const char *device = c->uses & PERI_USES_MODEL ? getenv("PERIGEE_DEVICE") : NULL;
    if (device != NULL && *device != 0) args->common.device = device;
    const char *place = c->uses & PERI_USES_MODEL ? getenv("PERIGEE_PLACE") : NULL;
    if (place != NULL && *place != 0) args->common.place = place;
    p = (parser){.c = c, .args = args, .values = values};
    p.n_group = peri_opts_groups(c, p.group);
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
    peri_opt_group group[PERI_OPT_GROUPS];
    size_t n = peri_opts_groups(c, group);
    for (size_t g = 0; g < n; g++)
        free_lists(group[g].opts, group[g].n, group[g].is_common ? &args->common : values);
    free(args->arg);
    args->arg = NULL;
}
