/* SPDX-License-Identifier: MIT
 *
 * new_header.c - a plugin built against a newer header, whose structs have grown and whose note has
 * keys that nobody knows yet.  It must work. */
#include "fake.h"

typedef struct {
    peri_dev_info old;
    float link_gbps, submit_us;
    char more[400];
} newer_info;

typedef struct {
    peri_plugin old;
    int32_t (*buf_fold)(peri_dev *d); /* nobody knows it yet */
    void *more[20];
} newer_plugin;

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    newer_info d = {.old = fake_info(index), .link_gbps = 3, .submit_us = 4};
    (void)h;
    if (index > 1) return peri_plugin_fail(e, PERI_E_NO_DEVICE, "no more");
    d.old.size = sizeof d;
    d.old.flags |= 1u << 9; /* unknown, may be ignored */
    memset(d.more, 'm', sizeof d.more);
    peri_put(out, &d, sizeof d);
    return PERI_OK;
}

static int32_t buf_fold(peri_dev *d) {
    (void)d;
    return PERI_E_NOMEM;
}

static void close_device(peri_dev *d) {
    (void)d;
}

static int32_t open_device(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e) {
    static char devices[2];
    (void)h, (void)e;
    *out = (peri_dev *)(void *)&devices[index];
    return PERI_OK;
}

const peri_plugin *perigee_plugin_v0(const peri_host *host, peri_error *e) {
    static const newer_plugin table = {.old = {.size = sizeof table,
                                               .abi_major = PERI_ABI_MAJOR,
                                               .abi_minor = PERI_ABI_MINOR + 7,
                                               .name = "new",
                                               .version = "9",
                                               .license = "MIT",
                                               .device = device,
                                               .open = open_device,
                                               .supports = fake_supports,
                                               .run_op = fake_run,
                                               .close = close_device},
                                       .buf_fold = buf_fold};
    (void)host, (void)e;
    return &table.old;
}
PERI_PLUGIN_NOTE("abi=0.9 name=new arch=any needs= colour=blue");
