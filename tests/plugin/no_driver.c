/* SPDX-License-Identifier: MIT
 *
 * no_driver.c - a sound plugin for a GPU whose driver is not installed. */
#include "fake.h"

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    (void)h, (void)index, (void)out;
    return peri_plugin_fail(e, PERI_E_NO_DRIVER, "libcuda.so.1 not found");
}

FAKE_TABLE("gpu", device, fake_open, fake_run)
PERI_PLUGIN_NOTE("abi=0.2 name=gpu arch=any needs=libcuda.so.1 pci=10de");
