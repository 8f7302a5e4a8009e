/* SPDX-License-Identifier: MIT
 *
 * cmd_explain.c - perigee explain: where a model would run, and why there. */
#include "cmd.h"
#include "out.h"
#include "target.h"
#include "tree.h"

typedef struct explain_opts {
    int64_t n_ctx;
    int kv;
    bool is_json;
} explain_opts;

#define OFF(member) offsetof(explain_opts, member)
static const peri_opt table[] = {
    {"ctx", 0, PERI_OPT_INT, "N", OFF(n_ctx), 1, 1 << 30,
     "Tokens of context. Default: what the model was trained for, as far as memory allows."},
    {"kv", 0, PERI_OPT_CHOICE, "f16|f32|q8_0|q4_0", OFF(kv), 0, 0,
     "Type of the stored keys and values. Default f16."},
    {"json", 0, PERI_OPT_FLAG, NULL, OFF(is_json), 0, 0, "Print one JSON document."},
};

static int run(const peri_args *args, void *values) {
    const explain_opts *o = values;
    peri_error e = {0, ""};
    peri_target t;
    char *text = NULL;
    int status = PERI_EXIT_ERROR;
    peri_model_options mo = {.size = sizeof mo,
                             .n_ctx = (uint32_t)o->n_ctx,
                             .kv_type = (uint32_t)o->kv /* in the order of PERI_KV_* */};
    if (!peri_target_open(&args->common, args->arg[0], &mo, &t)) return status;
    if (peri_model_explain(t.model, &text, &e) != PERI_OK) {
        peri_out_error(&e);
    } else if (o->is_json) {
        peri_out_json(text);
        status = PERI_EXIT_OK;
    } else {
        json_t *j = peri_out_parse("explain", text);
        if (j) {
            peri_tree_print(j, 0);
            status = PERI_EXIT_OK;
        }
        json_decref(j);
    }
    peri_text_free(text);
    peri_target_close(&t);
    return status;
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
        "needs, the memory each device gives, and the predicted speed of generation. With "
        "--strict, a warning or a fallback, such as an operation that is not on the device it is "
        "wanted on, is an error.",
    .examples = "  perigee explain model.gguf\n  perigee explain model.gguf --device cpu --json\n"
                "  perigee explain model.gguf --device opencl,cpu\n",
    .opts = table,
    .n_opt = N_OPTS(table),
    .uses = PERI_USES_PLUGINS | PERI_USES_MODEL,
    .min_arg = 1,
    .max_arg = 1,
    .value_bytes = sizeof(explain_opts),
    .run = run,
};
