/* SPDX-License-Identifier: MIT
 *
 * bad_arch.c - its note names another processor. */
#include "fake.h"

FAKE_TABLE("arch", fake_device, fake_open, fake_run)
PERI_PLUGIN_NOTE("abi=0.2 name=arch arch=ppc64 needs=");
