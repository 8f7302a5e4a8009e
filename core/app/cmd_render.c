/* SPDX-License-Identifier: MIT
 *
 * cmd_render.c - perigee render: the exact prompt text that a conversation becomes. */
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "host.h"
#include "out.h"
#include "run_opts.h"
#include "target.h"

typedef struct render_opts {
    const char *messages, *tools;
    peri_opt_list assistants;
    int think; /* PERI_OPT_MAYBE of PERI_THINK_VALUES */
    bool no_prompt;
} render_opts;

#define OFF(member) offsetof(render_opts, member)
// clang-format off
static const peri_opt table[] = {
    {"messages", 0, PERI_OPT_TEXT, "FILE", OFF(messages), 0, 0,
     "JSON list of messages: {\"role\": \"user\", \"content\": \"...\"}, ...; - reads stdin."},
    {"tools", 0, PERI_OPT_TEXT, "FILE", OFF(tools), 0, 0,
     "JSON list of tools: {\"type\": \"function\", \"function\": {\"name\", \"description\", \"parameters\"}}, ..."},
    {"assistants", 0, PERI_OPT_LIST, "DIR", OFF(assistants), 0, 0,
     "Folder of assistants that TARGET may name. May be given several times."},
    {"think", 0, PERI_OPT_MAYBE, PERI_THINK_VALUES, OFF(think), 0, 0,
     "The model may think first, or not, or how much; instead of what the assistant says."},
    {"no-generation-prompt", 0, PERI_OPT_FLAG, NULL, OFF(no_prompt), 0, 0,
     "End after the last message, without the beginning of the model's answer."},
};
// clang-format on

/* The text of a JSON file; the driver parses it and names the file where it is wrong. */
static bool set_file(json_t *j, const char *name, const char *path) {
    char *text = NULL;
    size_t size = 0;
    json_t *v = NULL;
    bool ok = strcmp(path, "-") == 0 ? peri_read_all(stdin, "stdin", &text, &size)
                                     : peri_read_file(path, &text, &size);
    ok = ok && peri_host_text(path, text, size, &v);
    free(text);
    if (!ok) return false;
    char key[32];
    snprintf(key, sizeof key, "%s_name", name);
    return json_object_set_new(j, name, v) == 0 &&
           json_object_set_new(j, key, json_string(path)) == 0;
}

static int run(const peri_args *args, void *values) {
    const render_opts *o = values;
    if (o->messages == NULL) return peri_opts_usage("render", "--messages FILE is missing");
    peri_kind kind = peri_target_kind(args->arg[0]);
    if (kind == PERI_KIND_NONE) return PERI_EXIT_ERROR;
    json_t *j = json_object();
    bool ok = set_file(j, "messages", o->messages) &&
              (!o->tools || set_file(j, "tools", o->tools)) &&
              peri_host_list(j, "assistants", &o->assistants);
    int failed = json_object_set_new(j, "target", json_string(args->arg[0])) |
                 json_object_set_new(j, "kind", json_string(peri_kind_name(kind))) |
                 json_object_set_new(j, "generation_prompt", json_boolean(!o->no_prompt));
    if (o->think) failed |= json_object_set_new(j, "think", peri_think_json(o->think));
    if (ok && failed) peri_out_fail("out of memory, or TARGET is no well-formed UTF-8");
    if (ok && !failed)
        return peri_host_run(&args->common, &(peri_job_spec){.driver = "render", .arguments = j});
    json_decref(j);
    return PERI_EXIT_ERROR;
}

const peri_command peri_cmd_render = {
    .name = "render",
    .synopsis = "render TARGET --messages FILE [--tools FILE] [OPTION...]",
    .summary = "print the prompt that messages become",
    .text = "Prints what the chat template of TARGET, a GGUF file, a name of perigee list, or an "
            "assistant (in Lua, or a "
            "Modelfile), makes of a conversation: the text, byte for byte, that the model would be "
            "fed. The system "
            "message and the tools of an assistant take part.\n\n"
            "Nothing is loaded but the file's metadata.",
    .examples = "  perigee render model.gguf --messages chat.json\n"
                "  perigee render assistant.lua --messages - --tools tools.json < chat.json\n",
    .opts = table,
    .n_opt = N_OPTS(table),
    .uses = PERI_USES_PLUGINS,
    .min_arg = 1,
    .max_arg = 1,
    .value_bytes = sizeof(render_opts),
    .run = run,
};
