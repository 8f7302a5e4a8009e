/* SPDX-License-Identifier: MIT
 *
 * bad_string.c - a device name that fills its array and does not end. */
#include "fake.h"

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    int32_t status = fake_device(h, index, out, e);
    memset(out->name, 'x', sizeof out->name);
    return status;
}

FAKE_PLUGIN("string", device, fake_open, fake_run);
