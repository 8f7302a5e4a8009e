/* SPDX-License-Identifier: MIT
 *
 * bad_status.c - returns a number that is no status. */
#include "fake.h"

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    (void)h, (void)index, (void)out, (void)e;
    return 5;
}

FAKE_PLUGIN("status", device, fake_open, fake_run);
