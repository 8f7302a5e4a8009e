/* SPDX-License-Identifier: MIT
 *
 * cuda_ceiling.cu - the kernels that say what a device can do at best: reading, copying, nothing.
 *
 * A thread takes pieces of 16 bytes, all threads' pieces side by side, CEILING_UNROLL of them asked
 * for before the first is used. */
#include "cuda_ceiling.h"
#include "device.cuh"

struct alignas(16) piece {
    uint32_t w[4];
};

enum { STRIDE = CEILING_BLOCKS * CU_THREADS };

DEVICE uint64_t first_piece() {
    return (uint64_t)blockIdx.x * CU_THREADS + threadIdx.x;
}

KERNEL(ceiling_read, ceiling_read) {
    const piece *from = (const piece *)(uintptr_t)a.from;
    uint32_t sum = 0;
    for (uint64_t i = first_piece(); i < a.n; i += CEILING_UNROLL * STRIDE) {
        piece p[CEILING_UNROLL];
        UNROLL for (int k = 0; k < CEILING_UNROLL; k++) p[k] = from[i + (uint64_t)k * STRIDE];
        UNROLL for (int k = 0; k < CEILING_UNROLL; k++) sum +=
            p[k].w[0] ^ p[k].w[1] ^ p[k].w[2] ^ p[k].w[3];
    }
    if (sum == 0x9e3779b9u) *(uint32_t *)(uintptr_t)a.out = sum;
}

KERNEL(ceiling_copy, ceiling_copy) {
    const piece *from = (const piece *)(uintptr_t)a.from;
    piece *to = (piece *)(uintptr_t)a.to;
    for (uint64_t i = first_piece(); i < a.n; i += CEILING_UNROLL * STRIDE) {
        piece p[CEILING_UNROLL];
        UNROLL for (int k = 0; k < CEILING_UNROLL; k++) p[k] = from[i + (uint64_t)k * STRIDE];
        UNROLL for (int k = 0; k < CEILING_UNROLL; k++) to[i + (uint64_t)k * STRIDE] = p[k];
    }
}

KERNEL(ceiling_nothing, ceiling_nothing) {
    (void)a;
}
