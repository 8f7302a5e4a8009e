/* SPDX-License-Identifier: MIT
 *
 * cmd_plugin_check.c - perigee plugin-check: is this plugin fit for use? */
#include <string.h>

#include "cmd.h"
#include "out.h"
#include "perigee/perigee.h"
#include "target.h"

typedef struct check_opts {
    peri_opt_list only, skip;
    const char *op, *type;
    int64_t device;
    double timeout, seconds;
    bool is_json, is_bench, is_small;
} check_opts;

#define OFF(member) offsetof(check_opts, member)
static const peri_opt table[] = {
    {"only", 0, PERI_OPT_LIST, "STAGE", OFF(only), 0, 0, "Run this stage only. May be repeated."},
    {"skip", 0, PERI_OPT_LIST, "STAGE", OFF(skip), 0, 0, "Leave this stage out. May be repeated."},
    {"op", 0, PERI_OPT_TEXT, "OP", OFF(op), 0, 0,
     "One operation of op.def, such as LINEAR: while you write it."},
    {"type", 0, PERI_OPT_TEXT, "TYPE", OFF(type), 0, 0,
     "One type of weights or cache, such as Q4_K. What has neither counts as F32."},
    {"small", 0, PERI_OPT_FLAG, NULL, OFF(is_small), 0, 0,
     "Only shapes of at most 131072 multiplications: for devices that are simulated."},
    {"bench", 0, PERI_OPT_FLAG, NULL, OFF(is_bench), 0, 0,
     "Measure how fast the operations are. Without --only, nothing is checked."},
    {"seconds", 0, PERI_OPT_REAL, "SECONDS", OFF(seconds), 0.1, 86400,
     "How long --bench may measure. Default 30."},
    {"index", 0, PERI_OPT_INT, "N", OFF(device), 0, 63,
     "Which of the plugin's devices. Default 0, the first."},
    {"timeout", 0, PERI_OPT_REAL, "SECONDS", OFF(timeout), 0.1, 86400,
     "A call that takes longer hangs, and a stage that takes ten times longer. Default 10."},
    {"json", 0, PERI_OPT_FLAG, NULL, OFF(is_json), 0, 0, "Print one JSON document."},
};

static void print_value(const json_t *f, const char *key) {
    char buf[48];
    const json_t *v = json_object_get(f, key);
    if (!v) return;
    printf("%s ", key);
    const char *text = peri_json_show(v, buf, sizeof buf);
    peri_out_untrusted(stdout, text, strlen(text), false);
    fputs(strcmp(key, "expected") == 0 ? "" : ", ", stdout);
}

/* "    LINEAR Q4_K  T=33 a[33x96]...: TEXT" and, where it has one, the place with both values. */
static void print_finding(const json_t *f) {
    static const char *const names[] = {"op", "type", "shape"}, *const values[] = {
                                                                    "operand", "row", "element",
                                                                    "found", "expected"};
    fputs("    ", stdout);
    for (int i = 0; i < 3; i++) {
        const char *text = peri_json_text(f, names[i]);
        peri_out_untrusted(stdout, text, strlen(text), false);
        if (*text) fputs(i == 2 ? ": " : " ", stdout);
    }
    const char *text = peri_json_text(f, "finding");
    peri_out_untrusted(stdout, text, strlen(text), false);
    if (json_object_get(f, "found")) fputs("\n      ", stdout);
    for (int i = 0; i < 5; i++)
        print_value(f, values[i]);
    fputc('\n', stdout);
}

static void print_stage(const json_t *s) {
    const json_t *v;
    size_t i;
    printf("%-11s %s", peri_json_text(s, "name"), peri_json_text(s, "state"));
    if (json_object_get(s, "checks"))
        printf(", %.0f checks, %.1f s", peri_json_number(s, "checks", 0),
               peri_json_number(s, "seconds", 0));
    fputc('\n', stdout);
    json_array_foreach(json_object_get(s, "findings"), i, v) print_finding(v);
    json_array_foreach(json_object_get(s, "notes"), i, v) {
        fputs("    note: ", stdout);
        peri_out_untrusted(stdout, json_string_value(v), json_string_length(v), false);
        fputc('\n', stdout);
    }
}

/* Entries first .. end - 1 are one operation's: the types it takes, then those it does not. */
static void print_operation(const json_t *list, size_t first, size_t end) {
    const char *why = "";
    size_t n_no = 0;
    printf("  %-15s", peri_json_text(json_array_get(list, first), "op"));
    for (size_t i = first; i < end; i++) {
        const json_t *v = json_array_get(list, i);
        const char *type = peri_json_text(v, "type");
        bool is_partial = peri_json_number(v, "no", 0) > 0;
        if (is_partial) why = peri_json_text(v, "why");
        n_no += peri_json_number(v, "yes", 0) == 0;
        if (peri_json_number(v, "yes", 0) > 0)
            printf(" %s%s", *type ? type : "yes", is_partial ? " in part" : "");
    }
    if (n_no == end - first)
        fputs(" no", stdout);
    else if (n_no > 0)
        printf(", not %zu other types", n_no);
    if (*why) fputs(": ", stdout);
    peri_out_untrusted(stdout, why, strlen(why), false);
    fputc('\n', stdout);
}

static bool is_taken(const json_t *list, size_t first, size_t end) {
    bool is_yes = false;
    for (size_t i = first; i < end; i++)
        is_yes |= peri_json_number(json_array_get(list, i), "yes", 0) > 0;
    return is_yes;
}

static void print_operations(const json_t *list) {
    size_t n = json_array_size(list), end, n_level0 = 0, n_taken = 0;
    if (n == 0) return;
    fputs("operations taken\n", stdout);
    for (size_t first = 0; first < n; first = end) {
        const json_t *v = json_array_get(list, first);
        const char *op = peri_json_text(v, "op");
        for (end = first + 1; end < n; end++)
            if (strcmp(op, peri_json_text(json_array_get(list, end), "op")) != 0) break;
        print_operation(list, first, end);
        if (peri_json_number(v, "level", 0) > 0) continue;
        n_level0++;
        n_taken += is_taken(list, first, end);
    }
    printf("  level 0: %zu of %zu operations\n", n_taken, n_level0);
}

/* "  LINEAR  Q4_K  T=1 a[4096] w[2048x4096]  123.4 us  38.2 GB/s  81 %" */
static void print_speed(const json_t *v) {
    const char *type = peri_json_text(v, "type");
    double gmacs = peri_json_number(v, "gmacs", 0), part = peri_json_number(v, "fraction", 0);
    printf("  %-15s%-8s%-42s%10.1f us", peri_json_text(v, "op"), type, peri_json_text(v, "shape"),
           peri_json_number(v, "us", 0));
    printf("%8.1f GB/s", peri_json_number(v, "gbps", 0));
    if (part > 0)
        printf("%5.0f %%", 100 * part);
    else
        fputs("       ", stdout);
    if (gmacs > 0) printf("%9.1f GMAC/s", gmacs);
    fputc('\n', stdout);
}

static bool is_same_op(const json_t *list, size_t a, size_t b) {
    return strcmp(peri_json_text(json_array_get(list, a), "op"),
                  peri_json_text(json_array_get(list, b), "op")) == 0;
}

static bool is_first_of(const json_t *list, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (is_same_op(list, k, i)) return false;
    return true;
}

/* An operation and all its types of the list. */
static void print_late(const json_t *list, size_t i) {
    printf("  %-15s", peri_json_text(json_array_get(list, i), "op"));
    for (size_t k = i; k < json_array_size(list); k++)
        if (is_same_op(list, i, k)) printf(" %s", peri_json_text(json_array_get(list, k), "type"));
    fputc('\n', stdout);
}

static void print_bench(const json_t *b) {
    const json_t *top = json_object_get(b, "ceiling"), *late = json_object_get(b, "unmeasured"), *v;
    size_t i;
    if (top)
        printf("speed; 100 %% is %.1f GB/s, %s\n", peri_json_number(top, "gbps", 0),
               peri_json_text(top, "how"));
    json_array_foreach(json_object_get(b, "rows"), i, v) print_speed(v);
    if (json_array_size(late) == 0) return;
    puts("  the time was up (--seconds; --op and --type narrow), so these were not asked for:");
    json_array_foreach(late, i, v) if (is_first_of(late, i)) print_late(late, i);
}

static void print_report(const json_t *j) {
    const json_t *p = json_object_get(j, "plugin"), *d = json_object_get(j, "device"), *v;
    static const char *const words[] = {"name", "version", "license", "abi"}, *const facts[] = {
                                                                                  "name", "model",
                                                                                  "isa",
                                                                                  "location"};
    size_t i;
    const char *file = peri_json_text(j, "file");
    peri_out_untrusted(stdout, file, strlen(file), false);
    fputc('\n', stdout);
    for (i = 0; p && i < 4; i++) {
        const char *text = peri_json_text(p, words[i]);
        printf("%s%s ", i ? ", " : "plugin ", words[i]);
        peri_out_untrusted(stdout, text, strlen(text), false);
    }
    if (p) fputc('\n', stdout);
    for (i = 0; d && i < 4; i++) {
        const char *text = peri_json_text(d, facts[i]);
        printf("%s%s ", i ? ", " : "device ", facts[i]);
        peri_out_untrusted(stdout, text, strlen(text), false);
    }
    if (d) fputc('\n', stdout);
    json_array_foreach(json_object_get(j, "stages"), i, v) {
        bool is_skipped = strcmp(peri_json_text(v, "state"), "skipped") == 0;
        if (!is_skipped || !json_object_get(j, "bench")) print_stage(v);
    }
    print_operations(json_object_get(j, "operations"));
    print_bench(json_object_get(j, "bench"));
    printf(json_is_true(json_object_get(j, "passed")) ? "passed\n" : "failed: %.0f findings\n",
           peri_json_number(j, "findings", 0));
}

static int run(const peri_args *args, void *values) {
    const check_opts *o = values;
    peri_error e = {0, ""};
    peri_target t;
    char *text = NULL;
    bool has_passed = false;
    int status = PERI_EXIT_ERROR;
    if (!peri_target_runtime(&args->common, &t)) return status;
    peri_plugin_check_options co = {.size = sizeof co,
                                    .device = (uint32_t)o->device,
                                    .only = o->only.item,
                                    .n_only = o->only.n,
                                    .skip = o->skip.item,
                                    .n_skip = o->skip.n,
                                    .op = o->op,
                                    .type = o->type,
                                    .is_bench = o->is_bench,
                                    .is_small = o->is_small,
                                    .seconds = o->seconds,
                                    .timeout_ms = (uint32_t)(o->timeout * 1000)};
    peri_status st = peri_plugin_check(t.rt, args->arg[0], &co, &text, &has_passed, &e);
    if (st != PERI_OK) {
        peri_out_error(&e);
        if (st == PERI_E_INVALID) status = PERI_EXIT_USAGE;
    } else if (o->is_json) {
        peri_out_json(text);
        status = has_passed ? PERI_EXIT_OK : PERI_EXIT_ERROR;
    } else {
        json_t *j = peri_out_parse("plugin-check", text);
        if (j) print_report(j);
        if (j && has_passed) status = PERI_EXIT_OK;
        json_decref(j);
    }
    peri_text_free(text);
    peri_target_close(&t);
    return status;
}

const peri_command peri_cmd_plugin_check = {
    .name = "plugin-check",
    .synopsis = "plugin-check FILE.so [OPTION...]",
    .summary = "certify a backend plugin",
    .text =
        "Runs the conformance kit over a plugin, each stage in a process of its own, so that a "
        "crash or a hang is a finding. A finding names operation, type, shape, row and both "
        "values. The exit status is 1 when there is one.\n\n"
        "Stages:\n"
        "  load        ELF note, symbol, ABI, table\n"
        "  describe    the list of devices: stable, bounded, nothing left behind\n"
        "  supports    stable answers, reasons for a no, a yes kept by run_op\n"
        "  ops         every operation taken, on every type and on awkward shapes, against a "
        "reference in double precision with the declared numerics; wrong reads and writes\n"
        "  invariance  equal bits when repeated, with other threads, blocks and pieces\n"
        "  lifecycle   memory given back, none taken in the steady state, failing allocations\n"
        "  model       a small random model from end to end\n\n"
        "With --bench it measures instead: operations on shapes of usual models, with one token "
        "and with many. GB/s counts the bytes that an operation has to move, each once. The "
        "percentage is of the read bandwidth that was measured in the same run: by the "
        "plugin's threads for a device that computes in host memory, else by the fastest of "
        "copying, ADD and LINEAR on the device. GMAC/s counts multiplications. Weights are taken "
        "in turn from 256 MiB, so that they come from memory. Of several rounds the best "
        "counts. Nobody else should use the machine meanwhile.",
    .examples = "  perigee plugin-check ./mine.so\n"
                "  perigee plugin-check ./mine.so --only ops --op LINEAR\n"
                "  perigee plugin-check ./mine.so --bench --op LINEAR --type Q4_K\n"
                "  perigee plugin-check ./mine.so --set mine.level=2 --json\n",
    .opts = table,
    .n_opt = N_OPTS(table),
    .uses = PERI_USES_PLUGINS,
    .min_arg = 1,
    .max_arg = 1,
    .value_bytes = sizeof(check_opts),
    .run = run,
};
