/* SPDX-License-Identifier: MIT
 *
 * bad_prints.c - prints to standard output. */
#include "fake.h"

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    if (index == 0) {
        printf("hello from the plugin\n");
        fprintf(stderr, "and to standard error, which is only swallowed\n");
    }
    return fake_device(h, index, out, e);
}

FAKE_PLUGIN("prints", device, fake_open, fake_run);
