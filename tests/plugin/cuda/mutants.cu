/* SPDX-License-Identifier: MIT
 *
 * mutants.cu - kernels with a mistake that the stand-in has to make visible: with FAKE_CUDA=mutant
 * peri_mutant_NAME takes the place of peri_NAME. */
#include "device.cuh"

/* rows.cu, but for reading x before the kernel that makes it has ended. */
KERNEL_AHEAD(mutant_pick, cu_pick) {
    int r = (int)blockIdx.x / a.n_chunk;
    int i = (int)blockIdx.x % a.n_chunk * CU_THREADS + (int)threadIdx.x;
    const float *in = floats_in(a.x.at + (uint64_t)(ints_in(a.row)[r] * a.x.stride[2]));
    float v = i < a.n ? in[i] : 0;
    ahead_wait();
    if (i < a.n) floats_out(a.y.at + (uint64_t)(r * a.y.stride[2]))[i] = v;
}
