/* SPDX-License-Identifier: MIT
 *
 * cmd_store.c - perigee create, list, cp, rm: the options; the work is that of
 * scripts/perigee/cli/store.lua. */
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "host.h"
#include "out.h"

typedef struct store_opts {
    const char *file, *quantize;
    bool is_json, want_verify, is_quiet;
} store_opts;

#define OFF(member) offsetof(store_opts, member)
#define QUIET                                                                                      \
    { "quiet", 0, PERI_OPT_FLAG, NULL, OFF(is_quiet), 0, 0, "Say nothing on stderr but errors." }
// clang-format off
static const peri_opt create_opts[] = {
    {"file", 'f', PERI_OPT_TEXT, "FILE", OFF(file), 0, 0, "The Modelfile. Default: Modelfile, in the current folder."},
    {"quantize", 'q', PERI_OPT_TEXT, "TYPE", OFF(quantize), 0, 0,
     "Store the weights in another type: not available yet."},
    QUIET,
};
static const peri_opt list_opts[] = {
    {"json", 0, PERI_OPT_FLAG, NULL, OFF(is_json), 0, 0,
     "Print one JSON document: models (name, digest, size, modified_at, source, store, file, with --verify state) and "
     "problems."},
    {"verify", 0, PERI_OPT_FLAG, NULL, OFF(want_verify), 0, 0,
     "Read every file and compare its SHA-256 with its name. What is damaged is told on stderr, and the exit status is 1."},
    QUIET,
};
static const peri_opt quiet_opts[] = { QUIET };
// clang-format on

/* The words of the command line as a list; NULL after an error was reported. */
static json_t *words(const peri_args *args) {
    json_t *list = json_array();
    for (size_t i = 0; i < args->n; i++) {
        json_t *word;
        if (!peri_host_text("an argument", args->arg[i], strlen(args->arg[i]), &word) ||
            json_array_append_new(list, word) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static int drive(const char *command, const peri_args *args, const store_opts *o) {
    peri_common common = args->common;
    json_t *file, *list = words(args);
    const char *path = o->file ? o->file : "Modelfile";
    if (list == NULL) return PERI_EXIT_ERROR;
    if (!peri_host_text("--file", path, strlen(path), &file)) {
        json_decref(list);
        return PERI_EXIT_ERROR;
    }
    common.is_quiet = o->is_quiet;
    json_t *j = json_pack("{s:s, s:o, s:o, s:b, s:b}", "command", command, "words", list, "file",
                          file, "json", o->is_json, "verify", o->want_verify);
    if (j == NULL) return peri_out_fail("out of memory");
    return peri_host_run(
        &common, &(peri_job_spec){.driver = "store", .arguments = j, .progress = "reading"});
}

static int run_create(const peri_args *args, void *values) {
    const store_opts *o = values;
    if (o->quantize)
        return peri_out_fail("--quantize %s: quantizing is not available yet; give a file of that "
                             "type to FROM",
                             o->quantize);
    return drive("create", args, o);
}

static int run_list(const peri_args *args, void *values) {
    return drive("list", args, values);
}

static int run_cp(const peri_args *args, void *values) {
    return drive("cp", args, values);
}

static int run_rm(const peri_args *args, void *values) {
    return drive("rm", args, values);
}

#define NAMES                                                                                      \
    "A NAME is [HOST/][NAMESPACE/]MODEL[:TAG], as with Ollama: letters, digits, and - _ . in "     \
    "between; the tag is latest when it is left out. Upper and lower case name the same model."
#define STORE                                                                                      \
    "The store is $XDG_DATA_HOME/perigee/models (without that variable "                           \
    "~/.local/share/perigee/models), in the layout of Ollama's."

const peri_command peri_cmd_create = {
    .name = "create",
    .synopsis = "create NAME [-f FILE] [OPTION...]",
    .summary = "store a model under a name, from a Modelfile",
    .text =
        "Reads a Modelfile and stores what it describes under NAME: the model of FROM, ADAPTER and "
        "DRAFT as files; TEMPLATE, SYSTEM, PARAMETER, MESSAGE, LICENSE, RENDERER, PARSER and "
        "REQUIRES beside them. FROM is the path of a GGUF file or the name of a model there is; of "
        "a named one everything is taken over that the Modelfile does not say itself. A chat "
        "template inside the GGUF file stays there. A model of that name is replaced.\n\n" STORE
        " Files are copied (shared with the original where the file system can, which takes no "
        "room), hashed while they are, and become visible when they are complete and on the disk: "
        "whatever interrupts the command leaves the store as it was, and the next one cleans up. "
        "A file whose bytes are there already is not stored again. One process writes at a time; "
        "others wait.\n\n"
        "What Ollama knows is stored so that Ollama can read it. GRAMMAR and MCP are kept as well. "
        "TOOL is an error, because a store holds no scripts.\n\n" NAMES,
    .examples = "  perigee create ada                          from ./Modelfile\n"
                "  perigee create team/ada:v2 -f ada.Modelfile\n"
                "  perigee run ada \"What is your name?\"\n",
    .opts = create_opts,
    .n_opt = N_OPTS(create_opts),
    .min_arg = 1,
    .max_arg = 1,
    .value_bytes = sizeof(store_opts),
    .run = run_create,
};

const peri_command peri_cmd_list = {
    .name = "list",
    .synopsis = "list [PREFIX] [OPTION...]",
    .summary = "the models that can be named",
    .text =
        "Lists the models that other commands take by name, newest first; with PREFIX those whose "
        "names begin so. ID is the beginning of the SHA-256 of the model's manifest. SOURCE says "
        "where a model lies:\n\n"
        "  perigee        our own store, the only one that is ever written\n"
        "  ollama         a store of Ollama: OLLAMA_MODELS, ~/.ollama/models,\n"
        "                 /usr/share/ollama/.ollama/models, /var/lib/ollama\n"
        "  hugging face   its cache: HF_HUB_CACHE, HF_HOME/hub, ~/.cache/huggingface/hub;\n"
        "                 such a model is called hf.co/ORG/NAME:QUANTIZATION\n\n"
        "Where several have a model of one name, the first in this order is taken. What cannot be "
        "read in a store is a warning that names the file.\n\n" STORE "\n\n" NAMES,
    .examples = "  perigee list\n  perigee list qwen --json\n  perigee list --verify\n",
    .opts = list_opts,
    .n_opt = N_OPTS(list_opts),
    .max_arg = 1,
    .value_bytes = sizeof(store_opts),
    .run = run_list,
};

const peri_command peri_cmd_cp = {
    .name = "cp",
    .synopsis = "cp SRC DST [OPTION...]",
    .summary = "store a model under another name",
    .text = "Gives the model SRC the name DST as well. Within our store that takes no room; a "
            "model of Ollama's store or of the cache of Hugging Face is copied into ours. A model "
            "called DST is replaced.\n\n" STORE "\n\n" NAMES,
    .examples = "  perigee cp ada ada:backup\n  perigee cp hf.co/org/model-GGUF:Q4_K_M model\n",
    .opts = quiet_opts,
    .n_opt = N_OPTS(quiet_opts),
    .min_arg = 2,
    .max_arg = 2,
    .value_bytes = sizeof(store_opts),
    .run = run_cp,
};

const peri_command peri_cmd_rm = {
    .name = "rm",
    .synopsis = "rm NAME... [OPTION...]",
    .summary = "remove models from the store",
    .text = "Removes models from our store, and the files that no other model of it has. When one "
            "NAME is not there, nothing is removed. Stores of other programs are never "
            "written.\n\n" STORE "\n\n" NAMES,
    .examples = "  perigee rm ada:backup\n",
    .opts = quiet_opts,
    .n_opt = N_OPTS(quiet_opts),
    .min_arg = 1,
    .max_arg = SIZE_MAX,
    .value_bytes = sizeof(store_opts),
    .run = run_rm,
};
