/* SPDX-License-Identifier: MIT
 *
 * bad_overrun.c - writes past the room it is given. */
#include "fake.h"

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    int32_t status = fake_device(h, index, out, e);
    volatile char *bytes = (volatile char *)out;
    for (size_t i = sizeof *out; i < sizeof *out + 40; i++)
        bytes[i] = 0;
    return status;
}

FAKE_PLUGIN("overrun", device, fake_open, fake_run);
