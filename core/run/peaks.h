/* SPDX-License-Identifier: MIT
 *
 * peaks.h - the largest logit of each 64 neighbours of a row.
 *
 * A pick looks for the likeliest of some hundred thousand tokens, more than once; of the peaks,
 * which are few, follows which 64 logits are worth a look.  They are found where a row is read
 * anyway, when it is copied to its session.  NaNs are passed over; a peak of nothing else is minus
 * infinity. */
#ifndef PERI_RUN_PEAKS_H
#define PERI_RUN_PEAKS_H

#include <stddef.h>

enum { PERI_PEAK = 64 }; /* logits that one peak stands for; fewer at the end of a row */

static inline size_t peri_n_peak(size_t n) {
    return (n + PERI_PEAK - 1) / PERI_PEAK;
}

/* peak[peri_n_peak(n)] of x[n]. */
void peri_peaks_find(const float *x, size_t n, float *peak);
/* The same, and to[n] = x[n]. */
void peri_peaks_copy(const float *x, size_t n, float *to, float *peak);

#endif
