/* SPDX-License-Identifier: MIT
 *
 * bad_segv.c - a constructor that writes to address 0. */
#include "fake.h"

__attribute__((constructor, no_sanitize("address", "undefined"))) static void crash(void) {
    volatile int *volatile nowhere = NULL; /* volatile, so that no compiler knows better */
    *nowhere = 1;
}

FAKE_PLUGIN("segv", fake_device, fake_open, fake_run);
