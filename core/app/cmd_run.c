/* SPDX-License-Identifier: MIT
 *
 * cmd_run.c - perigee run: its options, and the choice between a raw completion and a script. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "cmd.h"
#include "out.h"
#include "run_opts.h"

#define OFF(member) offsetof(peri_run_opts, member)
// clang-format off
static const peri_opt table[] = {
    {"system", 0, PERI_OPT_TEXT, "TEXT", OFF(system), 0, 0,
     "System message of the chat, instead of the assistant's."},
    {"model", 'm', PERI_OPT_TEXT, "FILE", OFF(model), 0, 0,
     "Model file in place of the one that the assistant names."},
    {"assistants", 0, PERI_OPT_LIST, "DIR", OFF(assistants), 0, 0,
     "Folder of assistants: DIR/NAME.lua, NAME.modelfile and NAME.gguf are NAME. May be given several times; the "
     "first that has the name gives it."},
    {"number", 'n', PERI_OPT_INT, "N", OFF(n), -1, 1e9,
     "Generate at most N tokens in one answer; -1: until the model ends or the context is full. Default: -1; 128 with "
     "--raw."},
    {"stop", 0, PERI_OPT_LIST, "TEXT", OFF(stop), 0, 0,
     "End before TEXT would appear in the output. May be given several times."},
    {"think", 0, PERI_OPT_MAYBE, PERI_THINK_VALUES, OFF(think), 0, 0,
     "Let the model think first, where its template knows of it; --think=high says how much, where the template has "
     "levels. A warning tells what the template does not know."},
    {"no-think", 0, PERI_OPT_FLAG, NULL, OFF(no_think), 0, 0,
     "Ask the model not to think first: --think=false."},
    {"prompt-file", 0, PERI_OPT_TEXT, "FILE", OFF(prompt_file), 0, 0,
     "Read (the first part of) the prompt from FILE."},
    {"allow", 0, PERI_OPT_LIST, "CAPABILITY", OFF(allow), 0, 0,
     "Grant the script what its capabilities ask for: fs.read=DIR, fs.write=DIR. May be given several times. "
     "What is not granted is asked for on a terminal, else refused."},
    {"trace", 0, PERI_OPT_FLAG, NULL, OFF(want_trace), 0, 0,
     "Show on stderr what the model is fed, as text and as token ids, and every call of a tool."},
    {"format", 0, PERI_OPT_TEXT, "json|SCHEMA.json", OFF(format), 0, 0,
     "The answer is JSON: any object, or what fits the JSON Schema in SCHEMA.json. The model may think first. A keyword "
     "of the schema that cannot be kept is an error that names it."},
    {"grammar", 0, PERI_OPT_TEXT, "FILE", OFF(grammar), 0, 0,
     "The answer is of the grammar in FILE, which is GBNF."},
    {"grammar-trigger", 0, PERI_OPT_LIST, "TEXT", OFF(triggers), 0, 0,
     "The grammar holds only from behind TEXT on, such as </think>. May be given several times."},
    {"raw", 0, PERI_OPT_FLAG, NULL, OFF(is_raw), 0, 0,
     "Complete the prompt as it stands, without a chat template. TARGET is then a GGUF file or a name."},
    {"no-special", 0, PERI_OPT_FLAG, NULL, OFF(no_special), 0, 0,
     "With --raw: do not put the model's begin-of-text token before the prompt."},
    {"parse-special", 0, PERI_OPT_FLAG, NULL, OFF(parse_special), 0, 0,
     "With --raw: read the text of control tokens in the prompt as those tokens, as a prompt in chat markup needs."},
    {"special", 0, PERI_OPT_FLAG, NULL, OFF(want_special), 0, 0,
     "With --raw: show control tokens in the output."},
    {"kv", 0, PERI_OPT_CHOICE, "f16|f32|q8_0|q4_0", OFF(kv), 0, 0,
     "Type of the stored keys and values: q8_0 takes about half the memory of f16, q4_0 a quarter, both at some accuracy. Default f16."},
    {"ctx", 0, PERI_OPT_INT, "N", OFF(n_ctx), 1, 1 << 30,
     "Tokens of context. Default: what the model was trained for, as far as memory allows."},
};

#define VALUE_REAL "X"
#define VALUE_INT "N"
#define VALUE_FLAG NULL
#define DEFAULT_REAL(x) " Default " #x "."
#define DEFAULT_INT(x) " Default " #x "."
#define DEFAULT_FLAG(x)
static const peri_opt sampling[] = {
    {"seed", 0, PERI_OPT_SEED, "N", OFF(seed), 0, 0,
     "Seed of the random choices: the same seed gives the same text. Default: a fresh one, told by --verbose."},
    {"greedy", 0, PERI_OPT_FLAG, NULL, OFF(is_greedy), 0, 0, "The same as --temp 0."},
#define PERI_SAMPLING_PARAM(name, KIND, lo, hi, off, usual, ollama, openai, key, meaning)                              \
    {#name, 0, PERI_OPT_##KIND, VALUE_##KIND, OFF(sampling.name), lo, hi, meaning "." DEFAULT_##KIND(usual)},
#include "run/sampling.def"
    {"logit_bias", 0, PERI_OPT_LIST, "ID:X", OFF(logit_bias), 0, 0,
     "Add X to the logit of the token ID; ID:false never takes it. May be given several times."},
    {"dry_sequence_breaker", 0, PERI_OPT_LIST, "TEXT", OFF(breakers), 0, 0,
     "Text behind which --dry-multiplier looks for no repetition. May be given several times."},
    {"samplers", 0, PERI_OPT_TEXT, "LIST", OFF(samplers), 0, 0,
     "Links of the chain and their order, such as top_k;top_p;temperature. Replaces an assistant's chain, policies included."},
};
// clang-format on

static void set_defaults(void *values) {
    static const double REAL = NAN;
    static const int64_t INT = PERI_UNSET;
    static const bool FLAG = false;
    peri_run_opts *o = values;
    o->n = o->n_ctx = PERI_UNSET;
#define PERI_SAMPLING_PARAM(name, KIND, lo, hi, off, usual, ollama, openai, key, meaning)          \
    o->sampling.name = KIND;
#include "run/sampling.def"
    /* A seed nobody gave is known by its not being the one drawn here. */
    if (getrandom(&o->fresh, sizeof o->fresh, 0) != (ssize_t)sizeof o->fresh)
        o->fresh = (uint64_t)(peri_now() * 1e9);
    o->seed = o->fresh;
}

/* ID:NUMBER or ID:false */
static bool is_bias(const char *text) {
    char *end;
    errno = 0;
    long long id = strtoll(text, &end, 10);
    if (end == text || *end != ':' || errno || id < 0 || id > INT32_MAX) return false;
    const char *bias = end + 1;
    if (strcmp(bias, "false") == 0) return true;
    double v = strtod(bias, &end);
    return end != bias && *end == 0 && isfinite(v);
}

/* -1, or the exit status after a usage error was reported. */
static int check(peri_run_opts *o) {
    for (size_t i = 0; i < o->stop.n; i++)
        if (o->stop.item[i][0] == 0) return peri_opts_usage("run", "--stop: the text is empty");
    if (o->format && o->grammar)
        return peri_opts_usage("run", "--format and --grammar contradict each other");
    if (o->triggers.n && !o->grammar)
        return peri_opts_usage("run", "--grammar-trigger needs --grammar");
    for (size_t i = 0; i < o->logit_bias.n; i++)
        if (!is_bias(o->logit_bias.item[i]))
            return peri_opts_usage("run",
                                   "--logit-bias: found '%s', expected ID:NUMBER or ID:false",
                                   o->logit_bias.item[i]);
    if (o->is_greedy && !isnan(o->sampling.temp) && o->sampling.temp > 0)
        return peri_opts_usage("run", "--greedy and --temp %g contradict each other",
                               o->sampling.temp);
    if (o->think && o->no_think)
        return peri_opts_usage("run", "--think and --no-think contradict each other");
    if (o->is_greedy) o->sampling.temp = 0;
    return -1;
}

/* The first option given that has no effect the way the command runs, or NULL. */
static const char *idle_option(const peri_run_opts *o) {
    if (!o->is_raw)
        return o->no_special      ? "no-special"
               : o->parse_special ? "parse-special"
               : o->want_special  ? "special"
                                  : NULL;
    return o->system         ? "system"
           : o->model        ? "model"
           : o->assistants.n ? "assistants"
           : o->think        ? "think"
           : o->no_think     ? "no-think"
           : o->allow.n      ? "allow"
           : o->want_trace   ? "trace"
           : o->format       ? "format"
                             : NULL;
}

static int run(const peri_args *args, void *values) {
    peri_run_opts *o = values;
    int status = check(o);
    const char *idle = idle_option(o);
    if (status >= 0) return status;
    if (idle && o->is_raw) return peri_opts_usage("run", "--%s has no meaning with --raw", idle);
    if (idle) return peri_opts_usage("run", "--%s is for --raw", idle);
    return o->is_raw ? peri_run_raw(args, o) : peri_run_chat(args, o);
}

const peri_command peri_cmd_run = {
    .name = "run",
    .synopsis = "run TARGET [OPTION...] [PROMPT...]",
    .summary = "chat with a model or an assistant, or run a script",
    .text =
        "TARGET is a model (a GGUF file, of a split one the first part; or a name that perigee "
        "list shows), an assistant (a Lua file "
        "that returns a table, or a Modelfile: any file whose name does not end in .gguf or .lua) "
        "or any script that uses Perigee. A word that is no file here is the name of an assistant: "
        "of a file in a folder of --assistants, in $XDG_DATA_HOME/perigee/assistants (without that "
        "variable ~/.local/share/perigee/assistants), or among those that come with Perigee, such "
        "as "
        "tutor, coder, translator.\n\n"
        "With a PROMPT, or with text on stdin, the model answers once, on stdout, as the text "
        "comes. The prompt is what arrives on stdin when that is no terminal, then the file of "
        "--prompt-file, then the PROMPT words with spaces between them. A call of a tool is one "
        "dimmed line on stderr when that is a terminal.\n\n"
        "On a terminal and without a PROMPT it is a conversation. What you type after >>> is sent "
        "to the model; a line that ends with \\ goes on in the next one, and so does everything "
        "between \"\"\" and \"\"\". Lines that begin with / are commands: /help lists them. Ctrl-C "
        "stops an answer and keeps the conversation, Ctrl-D at an empty prompt leaves. A "
        "changed assistant is read anew before your next message; one that cannot be used is told "
        "about, and the one before it stays. Lines "
        "can be edited and recalled (Ctrl-R searches); they are kept in "
        "$XDG_STATE_HOME/perigee/history, which only you can read. NO_COLOR turns dimming off.\n\n"
        "A script that returns nothing runs to its end, with the PROMPT words as its arguments. "
        "Scripts run in a sandbox: files only in folders that were granted (--allow), no network, "
        "no programs.\n\n"
        "With --raw a GGUF file completes the prompt as it stands: the parts of the prompt are put "
        "together with nothing between them, and no chat template is used.\n\n"
        "Modelfiles are Ollama's, with its defaults for sampling. INCLUDE FILE reads another one "
        "in "
        "its place, TOOL FILE.lua adds tools, PARAMETER takes every sampling parameter below. FROM "
        "is the path of a GGUF file or the name of a model; GRAMMAR has answers keep to a "
        "grammar; ADAPTER, DRAFT and MCP are read and kept, and cannot be used yet. A word that is "
        "a file and a name is an error: "
        "./NAME is the file, NAME:latest the model.\n\n"
        "Choices are a function of the seed and the position in the text, so a seed gives the same "
        "text whatever else the machine does. For a sampling parameter that is not given, the "
        "assistant's value is taken (from its parameters or its sampler), else what the model file "
        "recommends, else the default. With "
        "--verbose, the device and why it was chosen, "
        "and the speed, are told at the end.",
    .examples =
        "  perigee run model.gguf                            a conversation\n"
        "  perigee run model.gguf \"Why is the sky blue?\"\n"
        "  perigee run model.gguf \"Summarise:\" < notes.txt\n"
        "  perigee run ada \"Why is the sky blue?\"              a stored model (perigee list)\n"
        "  perigee run Modelfile \"Why is the sky blue?\"\n"
        "  perigee run assistant.lua --temp 0.2 --system \"Answer in one line.\"\n"
        "  perigee run assistant.lua --allow fs.read=notes --trace \"What is in todo.txt?\"\n"
        "  perigee run tutor -m model.gguf                   one that comes with Perigee\n"
        "  perigee run --assistants team reviewer < patch.diff\n"
        "  perigee run model.gguf --format person.json \"Who was Ada Lovelace?\"\n"
        "  perigee run model.gguf --grammar yesno.gbnf \"Is water wet?\"\n"
        "  perigee run model.gguf --raw -n 20 --greedy -v \"Once upon a time\"\n"
        "  perigee run model.gguf --raw --parse-special \"<|user|>Hi<|end|><|assistant|>\"\n",
    .opts = table,
    .n_opt = N_OPTS(table),
    .more = sampling,
    .n_more = N_OPTS(sampling),
    .more_head = "SAMPLING",
    .uses = PERI_USES_PLUGINS | PERI_USES_MODEL,
    .min_arg = 1,
    .max_arg = SIZE_MAX,
    .value_bytes = sizeof(peri_run_opts),
    .set_defaults = set_defaults,
    .run = run,
};
