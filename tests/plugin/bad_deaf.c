/* SPDX-License-Identifier: MIT
 *
 * bad_deaf.c - a constructor that closes every descriptor and sleeps, so that only the time limit
 * ends it. */
#include <unistd.h>

#include "fake.h"

__attribute__((constructor)) static void turn_deaf(void) {
    for (int fd = 0; fd < 64; fd++)
        close(fd);
    for (;;)
        pause();
}

FAKE_PLUGIN("deaf", fake_device, fake_open, fake_run);
