/* SPDX-License-Identifier: MIT
 *
 * bad_endless.c - lists devices without end. */
#include "fake.h"

static int32_t endless(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    peri_dev_info d = fake_info(index);
    (void)h, (void)e;
    peri_put(out, &d, sizeof d);
    return PERI_OK;
}

FAKE_PLUGIN("endless", endless, fake_open, fake_run);
