/* SPDX-License-Identifier: MIT
 *
 * bad_two_faced.c - is one device while it is examined and another one afterwards. */
#include "fake.h"

/* The name that the kernel keeps of the running program. */
static int is_examined(void) {
    char name[32] = "";
    FILE *f = fopen("/proc/self/comm", "re");
    if (f == NULL) return 0;
    size_t n = fread(name, 1, sizeof name - 1, f);
    fclose(f);
    return n > 0 && strncmp(name, "perigee-probe", 13) == 0;
}

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    return fake_device(h, index, out, e) != PERI_OK ? PERI_E_NO_DEVICE
           : is_examined()                          ? PERI_OK
                           : (snprintf(out->location, sizeof out->location, "elsewhere"), PERI_OK);
}

FAKE_PLUGIN("two_faced", device, fake_open, fake_run);
