/* SPDX-License-Identifier: MIT
 *
 * main.c - the program `perigee`: finds the command, lets opts.c read its options, runs it, closes
 * stdout.
 *
 * Only this folder prints or exits.  It uses the public interface (perigee.h) and nothing else of
 * the engine, so whatever the program can do, another program can do too.  Order: main.c, opts.h,
 * target.h, then any cmd_*.c. */
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "out.h"
#include "perigee/perigee.h"

static const peri_command *const commands[] = {
    &peri_cmd_run,    &peri_cmd_create, &peri_cmd_list,         &peri_cmd_show,
    &peri_cmd_cp,     &peri_cmd_rm,     &peri_cmd_devices,      &peri_cmd_explain,
    &peri_cmd_bench,  &peri_cmd_logits, &peri_cmd_tokenize,     &peri_cmd_detokenize,
    &peri_cmd_render, &peri_cmd_test,   &peri_cmd_plugin_check, &peri_cmd_cache,
};
enum { N_COMMAND = sizeof commands / sizeof commands[0] };

static const char about[] = "Perigee runs language models from GGUF files on this machine. It "
                            "looks at the hardware, asks each backend plugin "
                            "what it can do, and places the model on the device predicted to be "
                            "fastest, or on several; perigee explain says why.";
static const char environment[] =
    "  PERIGEE_PLUGIN_PATH  folders of plugins, separated by colons, instead of the usual ones\n"
    "  PERIGEE_DEVICE       devices for models, like --device\n"
    "  PERIGEE_PLACE        rules of placement, like --place\n"
    "  PERIGEE_CPU_ISA      instruction set of the cpu plugin, like --set cpu.isa=...\n";

static void print_help(FILE *to) {
    fputs("perigee - local inference of language models\n\n"
          "USAGE\n  perigee COMMAND [OPTION...] [ARGUMENT...]\n  perigee COMMAND --help\n"
          "  perigee --version\n\nDESCRIPTION\n",
          to);
    peri_opts_print_text(to, about, 2);
    fputs("\nCOMMANDS\n", to);
    for (int i = 0; i < N_COMMAND; i++)
        fprintf(to, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(to, "  %-12s %s\n", "help lua", peri_cmd_help_lua.summary);
    fprintf(to, "\nENVIRONMENT\n%s", environment);
    fputs("\nEXIT STATUS\n  0 success, 1 an error, 2 wrong usage, 130 interrupted by Ctrl-C.\n"
          "\nResults go to stdout and everything else to stderr. With --json, stdout is one JSON\n"
          "document.\n",
          to);
}

static int unknown_command(const char *word) {
    const char *names[N_COMMAND];
    for (int i = 0; i < N_COMMAND; i++)
        names[i] = commands[i]->name;
    const char *near = peri_opts_nearest(word, names, N_COMMAND);
    if (near) return peri_opts_usage("", "unknown command '%s'; did you mean '%s'?", word, near);
    return peri_opts_usage("", "unknown command '%s'", word);
}

static int run_command(const peri_command *c, int argc, char **argv) {
    peri_args args;
    void *values = calloc(1, c->value_bytes + 1);
    if (values == NULL) return peri_out_fail("out of memory");
    int status = peri_opts_parse(c, argc, argv, &args, values);
    if (status < 0) status = c->run(&args, values);
    peri_args_fini(c, &args, values);
    free(values);
    return status;
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return PERI_EXIT_USAGE;
    }
    const char *word = argv[1];
    bool is_help = strcmp(word, "help") == 0;
    if (strcmp(word, "--version") == 0) {
        printf("perigee %s\n", peri_version());
        return PERI_EXIT_OK;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || (is_help && argc == 2)) {
        print_help(stdout);
        return PERI_EXIT_OK;
    }
    if (word[0] == '-') return peri_opts_usage("", "unknown option '%s'", word);
    if (is_help) word = argv[2];
    if (is_help && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
        print_help(stdout);
        return PERI_EXIT_OK;
    }
    if (is_help && strcmp(word, "lua") == 0)
        return run_command(&peri_cmd_help_lua, argc - 2, argv + 2);
    for (int i = 0; i < N_COMMAND; i++)
        if (strcmp(word, commands[i]->name) == 0) {
            if (!is_help) return run_command(commands[i], argc - 1, argv + 1);
            peri_opts_help(commands[i], stdout);
            return PERI_EXIT_OK;
        }
    return unknown_command(word);
}

int main(int argc, char **argv) {
    peri_out_start();
    return peri_out_finish(dispatch(argc, argv));
}
