/* SPDX-License-Identifier: MIT
 *
 * bad_ill.c - a constructor with an instruction that this processor does not have. */
#include "fake.h"

__attribute__((constructor)) static void crash(void) {
    __builtin_trap();
}

FAKE_PLUGIN("ill", fake_device, fake_open, fake_run);
