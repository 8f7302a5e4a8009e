/* SPDX-License-Identifier: MIT
 *
 * cmd.h - the commands, each defined in cmd_NAME.c (detokenize beside tokenize; create, list, cp
 * and rm in cmd_store.c). */
#ifndef PERI_APP_CMD_H
#define PERI_APP_CMD_H

#include "opts.h"

extern const peri_command peri_cmd_run, peri_cmd_show, peri_cmd_devices, peri_cmd_explain,
    peri_cmd_bench, peri_cmd_logits, peri_cmd_tokenize, peri_cmd_detokenize, peri_cmd_render,
    peri_cmd_test, peri_cmd_plugin_check, peri_cmd_create, peri_cmd_list, peri_cmd_cp, peri_cmd_rm,
    peri_cmd_cache, peri_cmd_help_lua;

#define N_OPTS(table) (sizeof(table) / sizeof((table)[0]))

#endif
