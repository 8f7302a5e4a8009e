/* SPDX-License-Identifier: MIT
 *
 * cmd_devices.c - perigee devices: what of this machine is used, what is not, and why. */
#include "cmd.h"
#include "out.h"
#include "target.h"
#include "tree.h"

typedef struct devices_opts {
    bool is_json, want_figures;
} devices_opts;

static const peri_opt table[] = {
    {"json", 0, PERI_OPT_FLAG, NULL, offsetof(devices_opts, is_json), 0, 0,
     "Print one JSON document."},
    {"calibrate", 0, PERI_OPT_FLAG, NULL, offsetof(devices_opts, want_figures), 0, 0,
     "Measure every device again first."},
};

static int run(const peri_args *args, void *values) {
    const devices_opts *o = values;
    peri_error e = {0, ""};
    peri_target t;
    char *text = NULL;
    int status = PERI_EXIT_ERROR;
    if (!peri_target_runtime(&args->common, &t)) return status;
    bool ok = !o->want_figures || peri_runtime_calibrate(t.rt, &e) == PERI_OK;
    if (!ok || peri_runtime_devices(t.rt, &text, &e) != PERI_OK) {
        peri_out_error(&e);
    } else if (o->is_json) {
        peri_out_json(text);
        status = PERI_EXIT_OK;
    } else {
        json_t *j = peri_out_parse("devices", text);
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

const peri_command peri_cmd_devices = {
    .name = "devices",
    .synopsis = "devices [OPTION...]",
    .summary = "list processors, memory, plugins and devices, with reasons",
    .text = "Lists the processors this process may use (affinity and cgroup quota considered), "
            "memory nodes, PCI devices that "
            "compute, every plugin file that was seen and whether it is used or why it is refused, "
            "and every device.\n\n"
            "Plugins are looked for in the files of --plugin, then in the folders of "
            "PERIGEE_PLUGIN_PATH or, without it, in "
            "$XDG_DATA_HOME/perigee/0/plugins and beside the library.\n\n"
            "figures says how fast each device is: measured by running operations of its plugin, "
            "when a placement first depended on it or with --calibrate, and kept in figures.json "
            "of the cache folder until plugin, driver, device or number of threads change; else "
            "what the plugin declares, or what is assumed. Without --calibrate this command "
            "measures nothing. --set place.figures=declared measures nothing at all and goes by "
            "what plugins declare.\n\n"
            "The SHA-256 of a plugin is recorded in $XDG_DATA_HOME/perigee/plugins.json before its "
            "code runs for the first time. A file that has changed since is reported once and "
            "recorded anew; with --pinned it is refused.",
    .examples = "  perigee devices\n  perigee devices --calibrate\n"
                "  perigee devices --json | jq .plugins\n",
    .opts = table,
    .n_opt = N_OPTS(table),
    .uses = PERI_USES_PLUGINS,
    .value_bytes = sizeof(devices_opts),
    .run = run,
};
