/* SPDX-License-Identifier: MIT
 *
 * bad_exit.c - a constructor that ends the program. */
#include <unistd.h>

#include "fake.h"

__attribute__((constructor)) static void leave(void) {
    _exit(0);
}

FAKE_PLUGIN("exit", fake_device, fake_open, fake_run);
