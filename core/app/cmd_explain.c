/* SPDX-License-Identifier: MIT
 *
 * cmd_explain.c - perigee explain: where a model would run, and why there. */
#include "cmd.h"
#include "explain_measure.h"
#include "out.h"
#include "target.h"
#include "tree.h"

typedef struct explain_opts {
    int64_t n_ctx;
    int kv;
    bool is_json, want_measure;
} explain_opts;

#define OFF(member) offsetof(explain_opts, member)
static const peri_opt table[] = {
    {"ctx", 0, PERI_OPT_INT, "N", OFF(n_ctx), 1, 1 << 30,
     "Tokens of context. Default: what the model was trained for, as far as memory allows."},
    {"kv", 0, PERI_OPT_CHOICE, "f16|f32|q8_0|q4_0", OFF(kv), 0, 0,
     "Type of the stored keys and values. Default f16."},
    {"measure", 0, PERI_OPT_FLAG, NULL, OFF(want_measure), 0, 0,
     "Also run a prompt and a few tokens, and print predicted and measured tokens per second."},
    {"json", 0, PERI_OPT_FLAG, NULL, OFF(is_json), 0, 0, "Print one JSON document."},
};

static void print_json(const json_t *j) {
    char *text = json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    if (text)
        peri_out_json(text);
    else
        peri_out_fail("out of memory");
    peri_json_free(text);
}

static int run(const peri_args *args, void *values) {
    const explain_opts *o = values;
    peri_error e = {0, ""};
    peri_target t;
    char *text = NULL;
    int status = PERI_EXIT_ERROR;
    json_t *j = NULL;
    peri_model_options mo = {.size = sizeof mo,
                             .n_ctx = (uint32_t)o->n_ctx,
                             .no_prefix_cache = o->want_measure,
                             .kv_type = (uint32_t)o->kv /* in the order of PERI_KV_* */};
    if (o->want_measure) peri_interrupt_catch();
    if (!peri_target_open(&args->common, args->arg[0], &mo, &t)) return status;
    if (peri_model_explain(t.model, &text, &e) != PERI_OK)
        peri_out_error(&e);
    else
        j = peri_out_parse("explain", text);
    if (j && (!o->want_measure || peri_explain_measure(t.model, j))) {
        status = PERI_EXIT_OK;
        if (o->is_json && !o->want_measure)
            peri_out_json(text);
        else if (o->is_json)
            print_json(j);
        else
            peri_tree_print(j, 0);
    }
    json_decref(j);
    peri_text_free(text);
    peri_target_close(&t);
    return peri_interrupt_seen() ? PERI_EXIT_INTERRUPTED : status;
}

const peri_command peri_cmd_explain = {
    .name = "explain",
    .synopsis = "explain TARGET [OPTION...]",
    .summary = "say where a model runs, operation by operation, and why",
    .text =
        "TARGET is a GGUF file or a name that perigee list shows. Opens the model as perigee run "
        "would and prints the chosen devices and why, the other "
        "candidates and why not, which layers are wanted on which device (placement), which "
        "device runs each operation and with what numerics, what a device declined and who runs "
        "it instead (elsewhere) or in pieces (lowered), the copies between devices that a token "
        "needs, the memory each device gives, how fast each device is and whether that was "
        "measured, declared or assumed (figures), and the predicted tokens per second of "
        "generation and of a prompt. Devices that were never measured are measured first, which "
        "takes some tenths of a second each (see perigee devices).\n\n"
        "--place, $PERIGEE_PLACE or the parameter place of an assistant, the first of them that "
        "is given, says what must be where. Its rules are separated by semicolons or ends of "
        "lines; each is PART on DEVICE. PART is layers or layer (their attention, norms, shared "
        "weights, keys and values, and their experts), experts, embedding or head; layers and "
        "experts may be followed by a number or a range, such as 0-9, and are all of them "
        "otherwise. DEVICE is a name as for --device; it need not be listed there. A rule for "
        "experts goes before one for layers, else a later rule before an earlier one. What no "
        "rule decides is placed as usual in the memory that is left. rules shows how many parts "
        "of the model each rule decides.\n\n"
        "With --measure a prompt and "
        "some tokens are run and the predictions for them stand beside what was measured. With "
        "--strict, a warning or a fallback, such as an operation that is not on the device it is "
        "wanted on, is an error.",
    .examples = "  perigee explain model.gguf\n  perigee explain model.gguf --device cpu --json\n"
                "  perigee explain model.gguf --device opencl,cpu --measure\n"
                "  perigee explain model.gguf --device cuda:0 --place 'experts on cpu'\n",
    .opts = table,
    .n_opt = N_OPTS(table),
    .uses = PERI_USES_PLUGINS | PERI_USES_MODEL,
    .min_arg = 1,
    .max_arg = 1,
    .value_bytes = sizeof(explain_opts),
    .run = run,
};
