/* SPDX-License-Identifier: MIT
 *
 * bad_library.c - needs a library that is not there. */
#include "fake.h"

int peri_stub_function(void);

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    return fake_device(h, index + (uint32_t)peri_stub_function(), out, e);
}

FAKE_PLUGIN("library", device, fake_open, fake_run);
