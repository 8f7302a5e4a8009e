/* SPDX-License-Identifier: MIT
 *
 * cuda_ceiling.h - what the kernels of cuda_ceiling.cu are given: the same text for C and CUDA. */
#ifndef PERI_TESTS_CUDA_CEILING_H
#define PERI_TESTS_CUDA_CEILING_H

#include <stdint.h>

enum { CEILING_BLOCKS = 4096, CEILING_UNROLL = 4 };

/* n: pieces of 16 bytes, a multiple of CEILING_UNROLL for each thread of CEILING_BLOCKS blocks */
typedef struct ceiling_read {
    uint64_t from, out; /* out: 4 bytes, written if ever the sum is an unlikely one */
    uint64_t n;
} ceiling_read;

typedef struct ceiling_copy {
    uint64_t from, to;
    uint64_t n;
} ceiling_copy;

typedef struct ceiling_nothing {
    uint64_t unused;
} ceiling_nothing;

#endif
