/* SPDX-License-Identifier: MIT
 *
 * cmd_help.c - perigee help lua [NAME...]: what scripts can use, from the comments of the modules
 * themselves (scripts/perigee/cli/help.lua).  Help on commands is main.c's. */
#include <string.h>

#include "cmd.h"
#include "host.h"
#include "out.h"

static int run(const peri_args *args, void *values) {
    (void)values;
    json_t *j = json_object();
    peri_opt_list names = {args->arg, args->n};
    if (peri_host_list(j, "names", &names))
        return peri_host_run(&args->common, &(peri_job_spec){.driver = "help", .arguments = j});
    json_decref(j);
    return PERI_EXIT_ERROR;
}

const peri_command peri_cmd_help_lua = {
    .name = "help lua",
    .synopsis = "help lua [NAME...]",
    .summary = "what scripts can use",
    .text =
        "Lists the functions, tables and keys that scripts and assistants can use; with a NAME "
        "tells all about it. A name is that of a function (perigee.spawn, chat:send), of a table "
        "(assistant, tool) or of one of its keys (on_request, needs_approval). Editors with a "
        "language server for Lua show the same texts when their library is the folder "
        "share/perigee.",
    .examples =
        "  perigee help lua\n  perigee help lua chat:send\n  perigee help lua on_tool_call\n",
    .max_arg = SIZE_MAX,
    .run = run,
};
