/* SPDX-License-Identifier: MIT
 *
 * check.h - certify a plugin: run the conformance kit (kit.h, the program perigee-check) over it,
 * stage by stage, each in a child of its own, and gather what it says.
 *
 * Stages: load, describe, supports, ops, invariance, lifecycle, model; and bench, which measures
 * and runs only when asked for.  A stage that crashes or hangs is a finding that names the signal,
 * the call and the case; the stages after it still run.
 */
#ifndef PERI_CHECK_CHECK_H
#define PERI_CHECK_CHECK_H

#include <stdbool.h>

#include "perigee/types.h"

typedef struct peri_check_options {
    const char *program;        /* perigee-check */
    const char *plugin;         /* the file */
    const char *const *setting; /* [n_setting] "key=value", before the environment */
    size_t n_setting;
    const char *const *only, *const *skip; /* names of stages; n_only 0: all */
    size_t n_only, n_skip;
    const char *op;      /* one operation, "LINEAR"; NULL: all */
    const char *type;    /* one type, "Q4_K"; NULL: all.  What has no weights or cache is F32 */
    uint32_t device;     /* of the plugin's devices */
    bool is_small;       /* only shapes of few multiplications: for simulators */
    uint32_t timeout_ms; /* without a sign of life, and 10 times that for a stage; 0 = 10000 */
    bool is_bench;       /* measure; without `only`, nothing else is done */
    double seconds;      /* that measuring may take; 0 = 30 */
} peri_check_options;

/* {"file":..., "passed":..., "findings":N, "plugin":{...}, "device":{...}, "operations":[...],
 * "stages":[{"name", "state": "passed" | "failed" | "skipped", "checks", "seconds",
 * "findings":[...], "notes":[...]}], "bench":{"ceiling":{"gbps", "how", "threads", "told_gbps"},
 * "rows":[{"op", "type", "shape", "us", "bytes", "rounds", "gbps", "gmacs", "fraction"}],
 * "unmeasured":[{"op", "type"}]}}, freed with peri_free.  What is wrong with the plugin is in
 * there; fails for unknown stages and operations (PERI_E_INVALID), when the program cannot be
 * started, and when out of memory. */
peri_status peri_check_run(const peri_check_options *o, char **json, bool *passed, peri_error *err);

#endif
