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

static inline uint32_t __reduce_max_sync(unsigned all, uint32_t v) {
    for (int mask = 16; mask; mask /= 2) {
        uint32_t other = __shfl_xor_sync(all, v, mask);
        if (other > v) v = other;
    }
    return v;
}
static inline uint32_t __reduce_min_sync(unsigned all, uint32_t v) {
    return ~__reduce_max_sync(all, ~v);
}

static inline uint32_t __ballot_sync(unsigned all, bool is_so) {
    uint32_t v = is_so ? 1u << threadIdx.x % 32 : 0;
    for (int mask = 16; mask; mask /= 2)
        v |= __shfl_xor_sync(all, v, mask);
    return v;
}

static inline int __popcll(uint64_t v) {
    return __builtin_popcountll(v);
}

template <typename To, typename From> static inline To shim_bits(From v) {
    To out;
    static_assert(sizeof out == sizeof v, "two types of one size");
    memcpy(&out, &v, sizeof out);
    return out;
}

/* Copies to shared memory: what they write is spoilt at once and there when it has been waited for.
 */
void shim_copy(void *to, const void *from, int n, int size);
void shim_copy_commit();
void shim_copy_wait(int n_group);

static inline int shim_dot_4(uint32_t a, uint32_t b, int sum) {
    for (int i = 0; i < 32; i += 8)
        sum += (int8_t)(a >> i) * (int8_t)(b >> i);
    return sum;
}
static inline uint32_t shim_pick_bytes(uint32_t a, uint32_t b, uint32_t s) {
    uint64_t both = (uint64_t)b << 32 | a;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++)
        out |= (uint32_t)(both >> (s >> 4 * i & 7) * 8 & 255) << 8 * i;
    return out;
}
/* c += A B by the warp, of signed bytes: async.cuh, tile_32 and tile_16 (n: 32, 16). */
void shim_tile(int *c, const uint32_t *a, const uint32_t *b, int n);

/* Blocks run one after the other, threads change places only where they wait. */
static inline int atomicAdd(int *at, int n) {
    int old = *at;
    *at += n;
    return old;
}
static inline void __threadfence() {
}

/* Every thread has to come here, once. */
void shim_ahead_wait();

/* Every kernel, found by its name. */
struct shim_kernel {
    const char *name;
    size_t n_args;
    int n_thread; /* of a block */
    void (*run)(const void *args);
    const shim_kernel *next;
    shim_kernel(const char *name, size_t n_args, int n_thread, void (*run)(const void *args));
};
const shim_kernel *shim_find(const char *name);
/* Run all threads of all blocks, from the first on or from the last. */
void shim_launch(const shim_kernel *k, const void *args, unsigned n_block,
                 bool is_reversed = false);
/* The same in two parts: the first block until all its threads say ahead_wait, and the rest.  What
 * is done in between, the first part cannot have seen.  Two at a time may have begun, of two
 * kernels: the shared memory of a kernel is one. */
struct shim_begun;
shim_begun *shim_begin(const shim_kernel *k, const void *args, unsigned n_block);
void shim_end(shim_begun *block);
void shim_drop(shim_begun *block); /* instead of shim_end */

#define SHIM_KERNEL(name, args, n_thread)                                                          \
    static void name##_body(const args &a);                                                        \
    static const shim_kernel name##_entry(#name, sizeof(args), n_thread, [](const void *p) {       \
        name##_body(*static_cast<const args *>(p));                                                \
    });                                                                                            \
    static void name##_body(const args &a)

#endif
