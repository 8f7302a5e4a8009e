/* SPDX-License-Identifier: MIT
 *
 * cuda_shim.h - the words of CUDA that the kernels of plugins/cuda use, for a C++ compiler: the
 * same kernels run on the processor, under its sanitizers.
 *
 * A block's threads are fibers of one thread (fibers.cc), which run in turns and change places
 * where CUDA would wait.  Stricter than CUDA: every thread of a block has to come to
 * __syncthreads, every lane of a warp to __syncwarp and a shuffle; else the process ends with a
 * message.  Shared memory is static, one block running at a time.  Not seen here: races between
 * threads that do not wait for each other, and what the hardware makes of an address. */
#ifndef PERI_TESTS_CUDA_SHIM_H
#define PERI_TESTS_CUDA_SHIM_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __shared__   static
#define __constant__ const
#define __device__

struct shim_index {
    unsigned x;
};
extern shim_index threadIdx, blockIdx;

void __syncthreads();
void __syncwarp();
/* `bits` of the lane whose number differs from this one's by `mask`. */
uint64_t shim_shuffle(uint64_t bits, unsigned mask);

template <typename T> static inline T __shfl_xor_sync(unsigned, T v, int mask) {
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    bits = shim_shuffle(bits, (unsigned)mask);
    memcpy(&v, &bits, sizeof v);
    return v;
}

template <typename To, typename From> static inline To shim_bits(From v) {
    To out;
    static_assert(sizeof out == sizeof v, "two types of one size");
    memcpy(&out, &v, sizeof out);
    return out;
}

/* Every kernel, found by its name. */
struct shim_kernel {
    const char *name;
    size_t n_args;
    void (*run)(const void *args);
    const shim_kernel *next;
    shim_kernel(const char *name, size_t n_args, void (*run)(const void *args));
};
const shim_kernel *shim_find(const char *name);
/* Run all threads of all blocks. */
void shim_launch(const shim_kernel *k, const void *args, unsigned n_block);

#define SHIM_KERNEL(name, args)                                                                    \
    static void name##_body(const args &a);                                                        \
    static const shim_kernel name##_entry(                                                         \
        #name, sizeof(args), [](const void *p) { name##_body(*static_cast<const args *>(p)); });   \
    static void name##_body(const args &a)

#endif
