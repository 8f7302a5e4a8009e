/* SPDX-License-Identifier: MIT
 *
 * bad_no_symbol.c - a note and nothing else. */
#include "perigee/plugin.h"

PERI_PLUGIN_NOTE("abi=0.2 name=no_symbol arch=any needs=");
