/* SPDX-License-Identifier: MIT
 *
 * async.cuh - what the products take from the device besides arithmetic: copies to shared memory
 * that run by themselves, sums of four products of bytes, and tiles of them.  For tests
 * cuda_shim.h has each once more. */
#ifndef PERI_CUDA_ASYNC_CUH
#define PERI_CUDA_ASYNC_CUH
#include "device.cuh"

/* ---- copies ------------------------------------------------------------------------------------
 *
 * A thread's copies belong to its next group, which copy_commit closes; copy_wait<N> returns when
 * all groups but the N latest are there, for this thread to see. */

/* 16 bytes to `to`, of which n (0 .. 16) are read from `from` and the rest is 0.  Both are
 * multiples of 16. */
DEVICE void copy_16(void *to, const void *from, int n) {
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(n)
                 : "memory");
#else
    shim_copy(to, from, n, 16);
#endif
}

/* Addresses in shared memory. */
#ifdef __CUDACC__
typedef uint32_t shared_at;
DEVICE shared_at shared_of(void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}
#else
typedef uint8_t *shared_at;
DEVICE shared_at shared_of(void *p) {
    return (uint8_t *)p;
}
#endif

/* 16 bytes, at multiples of 16. */
DEVICE void copy_unit(shared_at to, const void *from) {
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from))
                 : "memory");
#else
    shim_copy(to, from, 16, 16);
#endif
}

/* 16 bytes of what is read once in a step: they are the first to leave the L2 cache. */
DEVICE void copy_16_once(shared_at to, const void *from) {
#ifdef __CUDACC__
    uint64_t once;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(once));
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from)), "l"(once)
                 : "memory");
#else
    shim_copy(to, from, 16, 16);
#endif
}

/* 8 bytes, at multiples of 8. */
DEVICE void copy_8(shared_at to, const void *from) {
#ifdef __CUDACC__
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from))
                 : "memory");
#else
    shim_copy(to, from, 8, 8);
#endif
}

DEVICE void copy_commit() {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    shim_copy_commit();
#endif
}

template <int N> DEVICE void copy_wait() {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#else
    shim_copy_wait(N);
#endif
}

/* `from` comes nearer, as far as the cache of all multiprocessors. */
DEVICE void fetch_ahead(const void *from) {
#ifdef __CUDACC__
    asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(from)));
#else
    (void)from;
#endif
}

/* ---- bytes ---- */

/* sum + the four products of bytes with a sign. */
DEVICE int dot_4(uint32_t a, uint32_t b, int sum) {
#ifdef __CUDACC__
    return __dp4a((int)a, (int)b, sum);
#else
    return shim_dot_4(a, b, sum);
#endif
}

/* The same of bytes without a sign with such that have one. */
DEVICE int dot_4_high(uint32_t a, uint32_t b, int sum) {
#ifdef __CUDACC__
    asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
#else
    for (int i = 0; i < 32; i += 8)
        sum += (int)(a >> i & 255) * (int8_t)(b >> i);
    return sum;
#endif
}

/* Bytes number s & 7, s >> 4 & 7, .. of a, b counted through. */
DEVICE uint32_t pick_bytes(uint32_t a, uint32_t b, uint32_t s) {
#ifdef __CUDACC__
    return __byte_perm(a, b, s);
#else
    return shim_pick_bytes(a, b, s);
#endif
}

/* The low word of high and low, taken together, `bits` (0 .. 31) to the right. */
DEVICE uint32_t shift_right(uint32_t low, uint32_t high, int bits) {
#ifdef __CUDACC__
    return __funnelshift_r(low, high, bits);
#else
    return (uint32_t)(((uint64_t)high << 32 | low) >> bits);
#endif
}

/* By a warp: c += A B, A [16][32], B [32][8], or with 16 in place of 32.  Lane 4 i + j has of A, in
 * words of four bytes along the shared dimension, a: word j of row i, word j of row i + 8, and then
 * (32) word j + 4 of both; of B, b: word j of column i and (32) word j + 4; of C, c: columns 2 j
 * and 2 j + 1 of row i, then of row i + 8. */
DEVICE void tile_32(int *c, const uint32_t *a, const uint32_t *b) {
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    shim_tile(c, a, b, 32);
#endif
}
DEVICE void tile_16(int *c, const uint32_t *a, uint32_t b) {
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
#else
    shim_tile(c, a, &b, 16);
#endif
}

#endif
