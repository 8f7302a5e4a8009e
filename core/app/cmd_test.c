/* SPDX-License-Identifier: MIT
 *
 * cmd_test.c - perigee test: Lua specs, run with the modules of the runtime. */
#include <string.h>

#include "cmd.h"
#include "host.h"
#include "out.h"
#include "target.h"

typedef struct test_opts {
    peri_opt_list allow;
    const char *pattern;
} test_opts;

enum { SLICE_MS = 20000 }; /* all tests of a spec that never waits are one slice */

#define OFF(member) offsetof(test_opts, member)
// clang-format off
static const peri_opt table[] = {
    {"pattern", 0, PERI_OPT_TEXT, "TEXT", OFF(pattern), 0, 0,
     "Run only tests whose name contains TEXT (a Lua pattern)."},
    {"allow", 0, PERI_OPT_LIST, "CAPABILITY", OFF(allow), 0, 0,
     "Grant the specs fs.read=DIR, fs.write=DIR. May be given several times."},
};
// clang-format on

static bool add_file(json_t *list, const char *path) {
    json_t *j;
    if (!peri_host_text("a file name", path, strlen(path), &j)) return false;
    return json_array_append_new(list, j) == 0;
}

static int run(const peri_args *args, void *values) {
    const test_opts *o = values;
    json_t *j = json_object(), *list = json_array();
    bool ok = json_object_set_new(j, "files", list) == 0;
    for (size_t i = 0; ok && i < args->n; i++)
        ok = add_file(list, args->arg[i]);
    if (ok && o->pattern) ok = json_object_set_new(j, "pattern", json_string(o->pattern)) == 0;
    if (ok)
        return peri_host_run(&args->common, &(peri_job_spec){.driver = "test",
                                                             .arguments = j,
                                                             .allow = o->allow,
                                                             .slice_ms = SLICE_MS});
    json_decref(j);
    return PERI_EXIT_ERROR;
}

const peri_command peri_cmd_test = {
    .name = "test",
    .synopsis = "test SPEC.lua... [OPTION...]",
    .summary = "run Lua specs",
    .text = "Runs specs: Lua files that return a table of functions, of which those whose names "
            "begin with \"test\" are run, each between setUp and tearDown. They run in the same "
            "sandbox as scripts; require \"luaunit\" (Debian package lua-unit) has the assertions, "
            "and require \"perigee.fake\" gives a model that answers what the spec tells it to, so "
            "that assistants and tools can be tested without a model file.\n\n"
            "The exit status is 1 when a test failed, and 77 when there was none to run.",
    .examples = "  perigee test assistant_spec.lua\n"
                "  perigee test tests/lua/*_spec.lua --pattern rewind\n",
    .opts = table,
    .n_opt = N_OPTS(table),
    .uses = PERI_USES_PLUGINS,
    .min_arg = 1,
    .max_arg = SIZE_MAX,
    .value_bytes = sizeof(test_opts),
    .run = run,
};
