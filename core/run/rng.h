/* SPDX-License-Identifier: MIT
 *
 * rng.h - counter-based random numbers: a pure function of (seed, stream, position, index), so that
 * a draw does not depend on what was drawn before, by whom, or in which order. Source:
 * Philox4x32-10, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". */
#ifndef PERI_RUN_RNG_H
#define PERI_RUN_RNG_H

#include <stdint.h>

/* Four 32-bit words for counter c[4] under key k[2]. */
void peri_philox(const uint32_t c[4], const uint32_t k[2], uint32_t out[4]);
/* Uniform in [0, 1) with 53 bits.  Key: seed; counter: stream, position, index of the draw at that
 * position. */
double peri_random(uint64_t seed, uint64_t stream, uint32_t position, uint32_t index);
/* Stream of the k-th child (from 1) of a session on `parent`; never 0, the root sessions' stream.
 */
uint64_t peri_stream_child(uint64_t parent, uint64_t k);

#endif
