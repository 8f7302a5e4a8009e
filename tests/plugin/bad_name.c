/* SPDX-License-Identifier: MIT
 *
 * bad_name.c - has another name than its note. */
#include "fake.h"

FAKE_TABLE("wolf", fake_device, fake_open, fake_run)
PERI_PLUGIN_NOTE("abi=0.2 name=sheep arch=any needs=");
