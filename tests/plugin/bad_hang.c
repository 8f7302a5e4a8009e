/* SPDX-License-Identifier: MIT
 *
 * bad_hang.c - device() never returns. */
#include "fake.h"

static int32_t hang(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    (void)h, (void)index, (void)out, (void)e;
    for (volatile int is_stuck = 1; is_stuck;)
        continue;
    return PERI_OK;
}

FAKE_PLUGIN("hang", hang, fake_open, fake_run);
