/* SPDX-License-Identifier: MIT
 *
 * calibrate.h - measuring a device by running ops of its plugin. */
#ifndef PERI_RUN_CALIBRATE_H
#define PERI_RUN_CALIBRATE_H

#include "plugin/registry.h"

/* A peri_measure_fn: nothing else may use the device meanwhile.  UNSUPPORTED when it declines what
 * every model needs; NOMEM when it has no room for the weights of an op. */
peri_status peri_calibrate(peri_backend *b, const uint32_t *dtype, uint32_t n, peri_figures *f,
                           peri_error *err);

#endif
