/* SPDX-License-Identifier: MIT
 *
 * bad_null.c - returns no table, and says why. */
#include "fake.h"

const peri_plugin *perigee_plugin_v0(const peri_host *host, peri_error *e) {
    (void)host;
    peri_plugin_fail(e, PERI_E_OTHER, "the moon is in the wrong phase");
    return NULL;
}
PERI_PLUGIN_NOTE("abi=0.2 name=null_table arch=any needs=");
