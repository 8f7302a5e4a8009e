/* SPDX-License-Identifier: MIT
 *
 * shared_handle.c - a plugin whose every device has the same handle. */
#include "fake.h"

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    peri_dev_info d = fake_info(index);
    (void)h;
    if (index > 1) return peri_plugin_fail(e, PERI_E_NO_DEVICE, "no more");
    peri_put(out, &d, sizeof d);
    return PERI_OK;
}

static int32_t open_same(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e) {
    static int only_one;
    (void)h, (void)index, (void)e;
    *out = (peri_dev *)(void *)&only_one;
    return PERI_OK;
}

FAKE_PLUGIN("shared_handle", device, open_same, fake_run);
