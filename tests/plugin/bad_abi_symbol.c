/* SPDX-License-Identifier: MIT
 *
 * bad_abi_symbol.c - its note is right, but it exports another ABI's symbol. */
#include "fake.h"

PERI_API const void *perigee_plugin_v7(const void *host);
const void *perigee_plugin_v7(const void *host) {
    return host;
}
PERI_PLUGIN_NOTE("abi=0.2 name=abi_symbol arch=any needs=");
