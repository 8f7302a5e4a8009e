/* SPDX-License-Identifier: MIT
 *
 * fake.h - a sound little plugin, of which each bad_*.c spoils one thing. */
#ifndef PERI_TEST_FAKE_H
#define PERI_TEST_FAKE_H

#include <string.h>

#include "perigee/plugin.h"

static inline peri_dev_info fake_info(uint32_t index) {
    peri_dev_info d = {.size = sizeof d, .flags = PERI_DEV_HOST_MEM | PERI_DEV_EMULATED};
    snprintf(d.name, sizeof d.name, "fake%u", index);
    snprintf(d.location, sizeof d.location, "fake:%u", index);
    return d;
}

static inline int32_t fake_device(const peri_host *h, uint32_t index, peri_dev_info *out,
                                  peri_error *e) {
    peri_dev_info d = fake_info(index);
    (void)h;
    if (index > 0) return peri_plugin_fail(e, PERI_E_NO_DEVICE, "no more");
    peri_put(out, &d, sizeof d);
    return PERI_OK;
}

static inline int32_t fake_open(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e) {
    *out = h->alloc(16, 16, -1);
    (void)index;
    return *out ? PERI_OK : peri_plugin_fail(e, PERI_E_NOMEM, "no memory");
}

static inline int32_t fake_supports(peri_dev *d, const peri_program *p, uint32_t op,
                                    const peri_bucket *b, peri_support *out, peri_error *e) {
    peri_support s = {.size = sizeof s, .why = "a fake computes nothing"};
    (void)d, (void)p, (void)op, (void)b, (void)e;
    peri_put(out, &s, sizeof s);
    return PERI_OK;
}

static inline int32_t fake_run(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                               const peri_step *s, peri_error *e) {
    (void)d, (void)p, (void)op, (void)m, (void)s;
    return peri_plugin_fail(e, PERI_E_UNSUPPORTED, "a fake computes nothing");
}

#define FAKE_TABLE(title, device_fn, open_fn, run_fn)                                              \
    const peri_plugin *perigee_plugin_v0(const peri_host *host, peri_error *e) {                   \
        static const peri_plugin table = {.size = sizeof table,                                    \
                                          .abi_major = PERI_ABI_MAJOR,                             \
                                          .abi_minor = PERI_ABI_MINOR,                             \
                                          .name = title,                                           \
                                          .version = "1",                                          \
                                          .license = "MIT",                                        \
                                          .device = device_fn,                                     \
                                          .open = open_fn,                                         \
                                          .supports = fake_supports,                               \
                                          .run_op = run_fn};                                       \
        (void)host, (void)e;                                                                       \
        return &table;                                                                             \
    }
#define FAKE_PLUGIN(title, device_fn, open_fn, run_fn)                                             \
    FAKE_TABLE(title, device_fn, open_fn, run_fn)                                                  \
    PERI_PLUGIN_NOTE("abi=0.2 name=" title " arch=any needs=")

#endif
