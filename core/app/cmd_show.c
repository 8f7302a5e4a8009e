/* SPDX-License-Identifier: MIT
 *
 * cmd_show.c - perigee show: what a model file holds, or what an architecture is.
 *
 * Without --json several parts follow one another under headings; with it one part is that part's
 * document, several are members of one object. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "out.h"
#include "target.h"
#include "tree.h"

typedef struct show_opts {
    bool want[PERI_SHOW_TEMPLATE + 1]; /* by peri_facet */
    bool is_json;
} show_opts;

#define WANT(facet) (offsetof(show_opts, want) + (facet) * sizeof(bool))
// clang-format off
static const peri_opt table[] = {
    {"arch", 0, PERI_OPT_FLAG, NULL, WANT(PERI_SHOW_ARCH), 0, 0,
     "The architecture with every option resolved. TARGET may then also be the name of an architecture."},
    {"tensors", 0, PERI_OPT_FLAG, NULL, WANT(PERI_SHOW_TENSORS), 0, 0, "Every tensor: type, shape, bytes, offset, use."},
    {"parameters", 0, PERI_OPT_FLAG, NULL, WANT(PERI_SHOW_PARAMETERS), 0, 0, "Parameters and where each comes from."},
    {"template", 0, PERI_OPT_FLAG, NULL, WANT(PERI_SHOW_TEMPLATE), 0, 0, "The chat template."},
    {"metadata", 0, PERI_OPT_FLAG, NULL, WANT(PERI_SHOW_METADATA), 0, 0, "All keys of the file, long arrays shortened."},
    {"json", 0, PERI_OPT_FLAG, NULL, offsetof(show_opts, is_json), 0, 0, "Print one JSON document."},
};
// clang-format on
static const char *const names[] = {"summary",  "parameters", "tensors",
                                    "metadata", "arch",       "template"};
enum { N_FACET = PERI_SHOW_TEMPLATE + 1 };

static bool is_text(int facet) {
    return facet == PERI_SHOW_ARCH || facet == PERI_SHOW_TEMPLATE;
}

static void print_line_end(const char *text) {
    size_t n = strlen(text);
    if (n && text[n - 1] != '\n') putchar('\n');
}

/* A text as a JSON string. */
static bool print_string(const char *text) {
    json_t *j = json_string(text);
    char *dump = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    if (dump) fputs(dump, stdout);
    bool ok = dump != NULL;
    peri_json_free(dump);
    json_decref(j);
    return ok ||
           (peri_out_fail("this text is no well-formed UTF-8 and cannot be shown as JSON"), false);
}

static bool print_facet(int facet, const char *text) {
    if (is_text(facet)) {
        peri_out_text(text, strlen(text));
        print_line_end(text);
        return true;
    }
    json_t *j = peri_out_parse(names[facet], text);
    if (j) peri_tree_print(j, 0);
    json_decref(j);
    return j != NULL;
}

static bool show_facet(const peri_model *m, const show_opts *o, int facet, bool is_first,
                       bool is_only) {
    peri_error e = {0, ""};
    char *text = NULL;
    bool ok = peri_model_show(m, (peri_facet)facet, &text, &e) == PERI_OK;
    if (!ok) {
        peri_out_error(&e);
    } else if (!o->is_json) {
        if (!is_only) printf("%s%s\n", is_first ? "" : "\n", names[facet]);
        ok = print_facet(facet, text);
    } else {
        if (!is_only || is_text(facet)) printf("%s\"%s\": ", is_first ? "{" : ",\n ", names[facet]);
        if (is_text(facet))
            ok = print_string(text);
        else
            fputs(text, stdout);
        if (is_only) puts(is_text(facet) ? "}" : "");
    }
    peri_text_free(text);
    return ok;
}

static int show_model(const peri_args *args, show_opts *o) {
    peri_target t;
    int n = 0;
    bool ok = true, is_first = true;
    for (int i = 0; i < N_FACET; i++)
        n += o->want[i];
    if (n == 0) o->want[PERI_SHOW_SUMMARY] = true;
    if (!peri_target_open(&args->common, args->arg[0], NULL, &t)) return PERI_EXIT_ERROR;
    for (int i = 0; i < N_FACET && ok; i++) {
        if (!o->want[i]) continue;
        ok = show_facet(t.model, o, i, is_first, n <= 1);
        is_first = false;
    }
    if (ok && o->is_json && n > 1) puts("}");
    peri_target_close(&t);
    return ok ? PERI_EXIT_OK : PERI_EXIT_ERROR;
}

static int show_arch(const peri_args *args, const show_opts *o) {
    peri_target t;
    peri_error e = {0, ""};
    char *text = NULL;
    if (!peri_target_runtime(&args->common, &t)) return PERI_EXIT_ERROR;
    bool ok = peri_runtime_arch(t.rt, args->arg[0], &text, &e) == PERI_OK;
    if (!ok) {
        peri_out_error(&e);
    } else if (o->is_json) {
        fputs("{\"arch\": ", stdout);
        ok = print_string(text);
        puts("}");
    } else {
        peri_out_text(text, strlen(text));
        print_line_end(text);
    }
    peri_text_free(text);
    peri_target_close(&t);
    return ok ? PERI_EXIT_OK : PERI_EXIT_ERROR;
}

static int run(const peri_args *args, void *values) {
    show_opts *o = values;
    const char *target = args->arg[0];
    size_t n = strlen(target);
    bool is_path = strchr(target, '/') || (n > 5 && strcmp(target + n - 5, ".gguf") == 0) ||
                   access(target, F_OK) == 0;
    if (o->want[PERI_SHOW_ARCH] && !is_path) return show_arch(args, o);
    return show_model(args, o);
}

const peri_command peri_cmd_show = {
    .name = "show",
    .synopsis = "show TARGET [OPTION...]",
    .summary = "show what is in a model file",
    .text = "Shows a summary of the GGUF file TARGET, or the parts that the options name. Only the "
            "file is looked at; no device is "
            "opened. Control characters in the file's texts are shown as \\xNN on a terminal.",
    .examples = "  perigee show model.gguf\n  perigee show model.gguf --tensors --json\n"
                "  perigee show --arch qwen3\n",
    .opts = table,
    .n_opt = N_OPTS(table),
    .uses = PERI_USES_PLUGINS,
    .min_arg = 1,
    .max_arg = 1,
    .value_bytes = sizeof(show_opts),
    .run = run,
};
