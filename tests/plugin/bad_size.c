/* SPDX-License-Identifier: MIT
 *
 * bad_size.c - overwrites the size that the caller states. */
#include "fake.h"

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    int32_t status = fake_device(h, index, out, e);
    out->size = 7;
    return status;
}

FAKE_PLUGIN("size", device, fake_open, fake_run);
