/* SPDX-License-Identifier: MIT
 *
 * manual.c - the manual page of a command, printed from its tables (opts.h). */
#include <string.h>

#include "opts.h"

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

/* Sampling parameters are named with '_' in tables and scripts, options with '-'. */
static void print_name(FILE *to, const char *name) {
    for (; *name; name++)
        fputc(*name == '_' ? '-' : *name, to);
}

/* Meanings in tables begin with a small letter; names of parameters keep theirs. */
static void print_sentence(FILE *to, const char *text) {
    char line[512];
    snprintf(line, sizeof line, "%s", text);
    bool is_name = memchr(line, '_', strcspn(line, " ")) != NULL;
    if (line[0] >= 'a' && line[0] <= 'z' && !is_name) line[0] = (char)(line[0] - 'a' + 'A');
    peri_opts_print_text(to, line, 8);
}

static void print_options(FILE *to, const peri_opt *opts, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const peri_opt *o = &opts[i];
        fputs("  ", to);
        if (o->letter) fprintf(to, "-%c, ", o->letter);
        fputs("--", to);
        print_name(to, o->name);
        if (o->value) fprintf(to, o->kind == PERI_OPT_MAYBE ? "[=%s]" : " %s", o->value);
        fputc('\n', to);
        print_sentence(to, o->help);
    }
}

void peri_opts_help(const peri_command *c, FILE *to) {
    peri_opt_group group[PERI_OPT_GROUPS];
    size_t n = peri_opts_groups(c, group);
    fprintf(to, "perigee %s - %s\n\nUSAGE\n  perigee %s\n\nDESCRIPTION\n", c->name, c->summary,
            c->synopsis);
    peri_opts_print_text(to, c->text, 2);
    fputs("\nOPTIONS\n", to);
    for (size_t g = 0; g < n; g++)
        if (group[g].head == NULL) print_options(to, group[g].opts, group[g].n);
    fputs("  -h, --help\n        Print this page.\n", to);
    for (size_t g = 0; g < n; g++)
        if (group[g].head) {
            fprintf(to, "\n%s\n", group[g].head);
            print_options(to, group[g].opts, group[g].n);
        }
    fputs("\nEXIT STATUS\n"
          "  0 success, 1 an error, 2 wrong usage, 130 interrupted by Ctrl-C.\n",
          to);
    if (c->examples) fprintf(to, "\nEXAMPLES\n%s", c->examples);
}
