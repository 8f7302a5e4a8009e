/* SPDX-License-Identifier: MIT
 *
 * device.cuh - what every kernel here stands on: addresses, half precision, and sums in one order.
 *
 * KERNEL(name, args) { .. } is kernel peri_name, given `const args &a`; KERNEL_AHEAD one that says
 * ahead_wait itself; KERNEL_DENSE one of which n_block blocks are to run in a multiprocessor, which
 * limits its registers; KERNEL_OF one of blocks of n_thread threads, which says ahead_wait itself.
 * Every other block has CU_THREADS threads.  The same text is compiled by nvcc and, for tests, as
 * C++ for the processor: then cuda_shim.h (tests/plugin/cuda) stands for the few words of CUDA that
 * are used: threadIdx.x, blockIdx.x, __shared__, __constant__, __device__, __syncthreads,
 * __syncwarp, __threadfence, __shfl_xor_sync, __reduce_max_sync, __reduce_min_sync, __ballot_sync,
 * __popcll, atomicAdd.
 *
 * Every block may have all registers: left to choose, ptxas spills some for the sake of more
 * blocks.
 *
 * Results must not depend on the batch (op.def, Numerics): nvcc is told not to contract, every
 * product that is to be fused says fmaf, and lanes are added by warp_sum and block_sum. */
#ifndef PERI_CUDA_DEVICE_CUH
#define PERI_CUDA_DEVICE_CUH

#include "args.h"

#ifdef __CUDACC__
#define KERNEL_OF(name, args, n_thread, n_block)                                                   \
    extern "C" __global__ void __launch_bounds__(n_thread, n_block)                                \
        peri_##name(const __grid_constant__ args a)
#define DEVICE       static __device__ __forceinline__
#define UNROLL       _Pragma("unroll")
#define UNROLL_BY(n) _Pragma(CU_TEXT(unroll n))
#define CU_TEXT(x)   #x
#else
#include "cuda_shim.h"
#define KERNEL_OF(name, args, n_thread, n_block) SHIM_KERNEL(peri_##name, args, n_thread)
#define DEVICE                                   static inline
#define UNROLL
#define UNROLL_BY(n)
#endif

/* ---- before and after the kernel before ----
 *
 * Where plugin.c lets them, kernels begin before the one before them has ended (launch.c).
 * Until ahead_wait returns they may read nothing but weights and the step's arrays, which no kernel
 * writes, and write nothing.  Every kernel says it, so that one that has ended tells that all
 * before it have.
 *
 * The next kernel begins when all blocks have said ahead_go or ended.  Small kernels say it first:
 * what comes next has weights to fetch meanwhile.  Large ones say it when nothing is left to be
 * fetched: what comes next would be in their way. */
DEVICE void ahead_go() {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
DEVICE void ahead_wait() {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#elif !defined(__CUDACC__)
    shim_ahead_wait();
#endif
}

#define KERNEL_ENTRY(name, args, n_block) KERNEL_OF(name, args, CU_THREADS, n_block)
#define KERNEL_AHEAD(name, args)          KERNEL_ENTRY(name, args, 1)
#define KERNEL_DENSE(name, args, n_block)                                                          \
    DEVICE void name##_kernel(const args &a);                                                      \
    KERNEL_ENTRY(name, args, n_block) {                                                            \
        ahead_go();                                                                                \
        ahead_wait();                                                                              \
        name##_kernel(a);                                                                          \
    }                                                                                              \
    DEVICE void name##_kernel(const args &a)
#define KERNEL(name, args) KERNEL_DENSE(name, args, 1)

/* ---- addresses ---- */

/* All addresses that kernels are given are of global memory, which the compiler cannot know. */
template <typename E> DEVICE E *global(uint64_t at) {
    E *p = (E *)(uintptr_t)at;
#ifdef __CUDACC__
    __builtin_assume(__isGlobal(p));
#endif
    return p;
}
DEVICE const float *floats_in(uint64_t at) {
    return global<const float>(at);
}
DEVICE float *floats_out(uint64_t at) {
    return global<float>(at);
}
DEVICE const int32_t *ints_in(uint64_t at) {
    return global<const int32_t>(at);
}

/* What another kernel wrote that has ended, before ahead_wait: a multiprocessor's own cache may
 * hold what was there before. */
DEVICE int32_t read_past_l1(const int32_t *p) {
#ifdef __CUDACC__
    return __ldcg(p);
#else
    return *p;
#endif
}

DEVICE int quotient(int x, const cu_divisor &d) {
    return (int)((uint64_t)(uint32_t)x * d.mul >> d.shift);
}

/* 16 bytes, read and written at once. */
struct alignas(16) four_floats {
    float v[4];
};
struct alignas(16) four_words {
    uint32_t w[4];
};

/* Row r of [d0][d1][d2][n], counted through; without a division where d0 and d1 are 1. */
DEVICE uint64_t row_at(const cu_rows &x, int r, int d1, int d2) {
    if (r < d2) return x.at + (uint64_t)(r * x.stride[2]);
    return x.at +
           (uint64_t)(r / d2 / d1 * x.stride[0] + r / d2 % d1 * x.stride[1] + r % d2 * x.stride[2]);
}

/* ---- bits ---- */

DEVICE float float_of(uint32_t u) {
#ifdef __CUDACC__
    return __uint_as_float(u);
#else
    return shim_bits<float>(u);
#endif
}

DEVICE uint32_t bits_of(float f) {
#ifdef __CUDACC__
    return __float_as_uint(f);
#else
    return shim_bits<uint32_t>(f);
#endif
}

/* f16 to f32, exact: by the device's instruction, else the exponent is moved by a multiplication;
 * infinities and NaN are kept. */
DEVICE float widen_f16(uint32_t h) {
#ifdef __CUDACC__
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"((uint16_t)h));
    return f;
#else
    uint32_t mag = (h & 0x7fffu) << 13, sign = (h & 0x8000u) << 16;
    if ((h & 0x7c00u) == 0x7c00u) return float_of(mag | 0x7f800000u | sign);
    return float_of(bits_of(float_of(mag) * 0x1p112f) | sign);
#endif
}

DEVICE float widen_bf16(uint32_t h) {
    return float_of(h << 16);
}

/* To nearest, ties to even. */
DEVICE uint16_t round_f16(float x) {
    uint32_t u = bits_of(x), sign = u >> 16 & 0x8000u, mag = u & 0x7fffffffu;
    if (mag > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (mag >> 13 & 0x1ffu));
    if (mag >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (mag < 0x38800000u) /* below 2^-14: units of 2^-24, rounded by adding 2^23 */
        return (uint16_t)(sign | (bits_of(float_of(mag) * 0x1p24f + 0x1p23f) - 0x4b000000u));
    uint32_t half = mag - 0x38000000u;
    return (uint16_t)(sign | (half + 0xfffu + (half >> 13 & 1u)) >> 13);
}

DEVICE uint16_t round_bf16(float x) {
    uint32_t u = bits_of(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* ---- sums ---- */

DEVICE int lane() {
    return (int)threadIdx.x % CU_WARP;
}
DEVICE int warp() {
    return (int)threadIdx.x / CU_WARP;
}

/* Of the 32 lanes; every lane has the same bits of it. */
DEVICE float warp_sum(float v) {
    UNROLL for (int mask = CU_WARP / 2; mask; mask /= 2) v += __shfl_xor_sync(0xffffffffu, v, mask);
    return v;
}

DEVICE float warp_max(float v) {
    UNROLL for (int mask = CU_WARP / 2; mask; mask /= 2) v =
        fmaxf(v, __shfl_xor_sync(0xffffffffu, v, mask));
    return v;
}

/* *p, read each time and in this order: where there are not registers enough to keep it, or what is
 * far ahead. */
template <typename V> DEVICE V read_anew(const V *p) {
    enum { EACH = alignof(V) % 8 ? 4 : 8, N = sizeof(V) / EACH };
    union {
        uint64_t two[(sizeof(V) + 7) / 8];
        uint32_t one[sizeof(V) / 4];
        V v;
    } u;
    UNROLL for (int i = 0; i < N; i++) {
        if (EACH == 8)
            u.two[i] = ((const volatile uint64_t *)(const void *)p)[i];
        else
            u.one[i] = ((const volatile uint32_t *)(const void *)p)[i];
    }
    return u.v;
}

/* Of a block of WARPS warps, ((0 + 1) + (2 + 3)) + ..; s: as many numbers of shared memory, for
 * this sum alone. */
template <int WARPS> DEVICE float block_sum(float v, float *s) {
    float part[WARPS];
    v = warp_sum(v);
    if (lane() == 0) s[warp()] = v;
    __syncthreads();
    UNROLL for (int i = 0; i < WARPS; i++) part[i] = s[i];
    UNROLL for (int step = 1; step < WARPS; step *= 2)
        UNROLL for (int i = 0; i < WARPS; i += 2 * step) part[i] += part[i + step];
    return part[0];
}

/* ---- the last of several blocks ---- */

/* What this block has to write is written; true for the one of n that finds that of all others
 * there, too.  counts: i32, 0 before; that of number i is 0 again then, for the next launch.
 * is: of shared memory. */
DEVICE bool is_last(uint64_t counts, int i, int n, int *is) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        int *count = global<int>(counts) + i;
        *is = atomicAdd(count, 1) == n - 1;
        if (*is) *count = 0;
        __threadfence();
    }
    __syncthreads();
    return *is != 0;
}

/* ---- activations ---- */

/* op.def, ACT: the function of that number. */
DEVICE float activate(int act, float x, float param) {
    switch (act) {
    case 0: /* SILU */
        return x / (1.0f + expf(-x));
    case 1: /* GELU: (1 + tanh u) / 2 = 1 / (1 + e^-2u) */
        return x / (1.0f + expf(-1.5957691216f * (x + 0.044715f * x * x * x)));
    case 2: /* GELU_ERF */
        return 0.5f * x * erfcf(x * -0.70710678118f);
    case 3: /* GELU_QUICK */
        return x / (1.0f + expf(-1.702f * x));
    case 4: /* RELU; a NaN stays one */
        return x < 0.0f ? 0.0f : x;
    case 5: /* RELU2 */
        return x < 0.0f ? 0.0f : x * x;
    case 6: /* SIGMOID */
        return 1.0f / (1.0f + expf(-x));
    case 7: /* TANH */
        return tanhf(x);
    case 8: /* SOFTPLUS */
        return x > 20.0f ? x : log1pf(expf(x));
    default: /* SOFTCAP */
        return param * tanhf(x / param);
    }
}

#endif
