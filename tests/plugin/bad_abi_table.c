/* SPDX-License-Identifier: MIT
 *
 * bad_abi_table.c - note and symbol are right, but its table says another ABI. */
#include "fake.h"

const peri_plugin *perigee_plugin_v0(const peri_host *host, peri_error *e) {
    static const peri_plugin table = {.size = sizeof table,
                                      .abi_major = 3,
                                      .abi_minor = 1,
                                      .device = fake_device,
                                      .open = fake_open,
                                      .supports = fake_supports,
                                      .run_op = fake_run};
    (void)host, (void)e;
    return &table;
}
PERI_PLUGIN_NOTE("abi=0.2 name=abi_table arch=any needs=");
