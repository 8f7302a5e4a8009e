/* SPDX-License-Identifier: MIT
 *
 * bad_handle.c - opens without a handle and calls it a success. */
#include "fake.h"

static int32_t open_nothing(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e) {
    (void)h, (void)index, (void)e;
    *out = NULL;
    return PERI_OK;
}

FAKE_PLUGIN("handle", fake_device, open_nothing, fake_run);
