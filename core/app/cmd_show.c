/* SPDX-License-Identifier: MIT
 *
 * cmd_show.c - perigee show: what a model file holds, or what an architecture is.  Assistants and
 * the parts that only they have go to scripts/perigee/cli/show.lua.
 *
 * Without --json several parts follow one another under headings; with it one part is that part's
 * document, several are members of one object. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "host.h"
#include "out.h"
#include "target.h"
#include "tree.h"

typedef struct show_opts {
    bool want[PERI_SHOW_TEMPLATE + 1];          /* by peri_facet */
    bool want_modelfile, want_lua, want_system; /* parts of assistants */
    peri_opt_list assistants;
    bool is_json;
} show_opts;

#define WANT(facet) (offsetof(show_opts, want) + (facet) * sizeof(bool))
// clang-format off
static const peri_opt table[] = {
    {"modelfile", 0, PERI_OPT_FLAG, NULL, offsetof(show_opts, want_modelfile), 0, 0,
     "TARGET as a Modelfile: includes in their places, paths absolute. What no Modelfile can say is a comment."},
    {"lua", 0, PERI_OPT_FLAG, NULL, offsetof(show_opts, want_lua), 0, 0,
     "TARGET as one table in Lua, with everything it builds on. Functions are comments."},
    {"system", 0, PERI_OPT_FLAG, NULL, offsetof(show_opts, want_system), 0, 0, "The system message."},
    {"arch", 0, PERI_OPT_FLAG, NULL, WANT(PERI_SHOW_ARCH), 0, 0,
     "The architecture with every option resolved. TARGET may then also be the name of an architecture."},
    {"tensors", 0, PERI_OPT_FLAG, NULL, WANT(PERI_SHOW_TENSORS), 0, 0, "Every tensor: type, shape, bytes, offset, use."},
    {"parameters", 0, PERI_OPT_FLAG, NULL, WANT(PERI_SHOW_PARAMETERS), 0, 0, "Parameters and where each comes from."},
    {"template", 0, PERI_OPT_FLAG, NULL, WANT(PERI_SHOW_TEMPLATE), 0, 0, "The chat template."},
    {"metadata", 0, PERI_OPT_FLAG, NULL, WANT(PERI_SHOW_METADATA), 0, 0, "All keys of the file, long arrays shortened."},
    {"assistants", 0, PERI_OPT_LIST, "DIR", offsetof(show_opts, assistants), 0, 0,
     "Folder of assistants that TARGET may name. May be given several times."},
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

/* The exit status; -1: there is no architecture of that name, but a model in a store. */
static int show_arch(const peri_args *args, const show_opts *o) {
    peri_target t;
    peri_error e = {0, ""};
    char *text = NULL;
    if (!peri_target_runtime(&args->common, &t)) return PERI_EXIT_ERROR;
    bool ok = peri_runtime_arch(t.rt, args->arg[0], &text, &e) == PERI_OK;
    bool is_stored = peri_target_is_stored(&t, args->arg[0]);
    if (ok && is_stored) {
        peri_out_fail("'%s' is an architecture, and a model in a store: write %s:latest for the "
                      "model's",
                      args->arg[0], args->arg[0]);
        ok = false;
    } else if (is_stored) {
        peri_target_close(&t);
        return -1;
    } else if (!ok) {
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

/* The parts that were asked for, in the order of printing; an array of names. */
static json_t *parts(const show_opts *o) {
    const struct {
        bool is_wanted;
        const char *name;
    } all[] = {{o->want[PERI_SHOW_SUMMARY], "summary"},
               {o->want_modelfile, "modelfile"},
               {o->want_lua, "lua"},
               {o->want_system, "system"},
               {o->want[PERI_SHOW_PARAMETERS], "parameters"},
               {o->want[PERI_SHOW_TEMPLATE], "template"}};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i].is_wanted) json_array_append_new(list, json_string(all[i].name));
    if (json_array_size(list) == 0) json_array_append_new(list, json_string("summary"));
    return list;
}

static int show_assistant(const peri_args *args, const show_opts *o, peri_kind kind) {
    static const int of_file[] = {PERI_SHOW_ARCH, PERI_SHOW_TENSORS, PERI_SHOW_METADATA};
    for (size_t i = 0; i < sizeof of_file / sizeof of_file[0]; i++)
        if (o->want[of_file[i]])
            return peri_opts_usage("show",
                                   kind == PERI_KIND_MODEL || kind == PERI_KIND_NAME
                                       ? "--%s cannot be shown together with parts of an assistant"
                                       : "--%s is a part of a GGUF file, and TARGET is none",
                                   names[of_file[i]]);
    json_t *j = json_object(), *target;
    if (!peri_host_text("TARGET", args->arg[0], strlen(args->arg[0]), &target)) {
        json_decref(j);
        return PERI_EXIT_ERROR;
    }
    int failed = json_object_set_new(j, "target", target) |
                 json_object_set_new(j, "kind", json_string(peri_kind_name(kind))) |
                 json_object_set_new(j, "json", json_boolean(o->is_json)) |
                 json_object_set_new(j, "parts", parts(o));
    if (!failed && !peri_host_list(j, "assistants", &o->assistants)) {
        json_decref(j);
        return PERI_EXIT_ERROR;
    }
    if (!failed)
        return peri_host_run(&args->common, &(peri_job_spec){.driver = "show", .arguments = j});
    json_decref(j);
    return peri_out_fail("out of memory");
}

/* Are all parts that were asked for parts of the model file, and is there one? */
static bool wants_file_only(const show_opts *o) {
    bool wants_file =
        o->want[PERI_SHOW_ARCH] || o->want[PERI_SHOW_TENSORS] || o->want[PERI_SHOW_METADATA];
    return wants_file && !o->want_modelfile && !o->want_lua && !o->want_system &&
           !o->want[PERI_SHOW_SUMMARY] && !o->want[PERI_SHOW_PARAMETERS] &&
           !o->want[PERI_SHOW_TEMPLATE];
}

static int run(const peri_args *args, void *values) {
    show_opts *o = values;
    const char *target = args->arg[0];
    bool is_plain = peri_target_is_name(target) && strpbrk(target, "/:") == NULL;
    if (o->want[PERI_SHOW_ARCH] && is_plain && access(target, F_OK) != 0) {
        int status = show_arch(args, o);
        if (status >= 0) return status;
    }
    peri_kind kind = peri_target_kind(target);
    if (kind == PERI_KIND_NONE) return PERI_EXIT_ERROR;
    if (kind == PERI_KIND_NAME && wants_file_only(o)) return show_model(args, o);
    if (kind != PERI_KIND_MODEL || o->want_modelfile || o->want_lua || o->want_system)
        return show_assistant(args, o, kind);
    return show_model(args, o);
}

const peri_command peri_cmd_show = {
    .name = "show",
    .synopsis = "show TARGET [OPTION...]",
    .summary = "show what is in a model file or an assistant",
    .text = "Shows a summary of TARGET, or the parts that the options name. TARGET is a GGUF file, "
            "the name of a stored model, a Modelfile, or an assistant in Lua, which is run up to "
            "where it returns its table; "
            "or the "
            "name of an assistant, as for perigee run.\n\n"
            "Of a GGUF file only the metadata is looked at; no device is opened. Of an assistant "
            "there are --modelfile, --lua, --system, --parameters and --template; where it leaves "
            "a parameter or the template to its model, that is asked. What is odd in a Modelfile "
            "is told on stderr. Control characters in texts are shown as \\xNN on a terminal.",
    .examples = "  perigee show model.gguf\n  perigee show model.gguf --tensors --json\n"
                "  perigee show Modelfile --parameters\n"
                "  perigee show assistant.lua --modelfile > Modelfile\n"
                "  perigee show --arch qwen3\n",
    .opts = table,
    .n_opt = N_OPTS(table),
    .uses = PERI_USES_PLUGINS,
    .min_arg = 1,
    .max_arg = 1,
    .value_bytes = sizeof(show_opts),
    .run = run,
};
