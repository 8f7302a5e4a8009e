/* SPDX-License-Identifier: MIT
 *
 * ceiling.h - what the machine could do at best: bytes read per second and 8-bit multiplications
 * per second, measured, so that speeds can be told as fractions. */
#ifndef PERI_APP_CEILING_H
#define PERI_APP_CEILING_H

#include <stdbool.h>
#include <stdint.h>

typedef struct peri_ceiling {
    double read_gbps;  /* 1e9 bytes/s, all threads together */
    const char *unit;  /* instruction that was timed; NULL: none is known for this level */
    double unit_gmacs; /* 1e9 8-bit multiplications/s, all threads together; 0 without a unit */
} peri_ceiling;

/* Measure with n_thread threads, which takes about a third of a second and 256 MiB meanwhile.  isa:
 * the level in use (peri_model_isa).  False when memory or threads are not to be had. */
bool peri_ceiling_measure(int64_t n_thread, const char *isa, peri_ceiling *out);

#endif
