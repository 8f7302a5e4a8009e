/* SPDX-License-Identifier: MIT
 *
 * cache.cuh - keys and values in the types of a pool: heads stored and read.
 *
 *   cache<T>::N, BYTES         elements and bytes of a block
 *   cache<T>::RUN              elements that are read together
 *   cache<T>::run(head, i, v)  elements i .. i + RUN - 1, i a multiple of RUN; the head has whole
 * runs
 *   cache<T>::one(head, i)     element i
 *   cache<T>::store(x, head, n, w, n_warp)  by warp w of n_warp: n numbers to a head, as op.def
 * rounds (KV_APPEND)
 *
 * T is a number of dtype.def: F32 0, F16 1, BF16 30, Q8_0 8, Q4_0 2.  Pools begin at a multiple of
 * 16; a block of the quantised types at an even address. */
#ifndef PERI_CUDA_CACHE_CUH
#define PERI_CUDA_CACHE_CUH
#include "device.cuh"

template <int T> struct cache;

/* ---- plain: 16 bytes at once ---- */

template <typename E> struct alignas(16) wide {
    enum { N = 16 / sizeof(E) };
    E e[N];
};

template <int T, typename E> struct plain_cache {
    enum { N = 1, BYTES = sizeof(E), RUN = wide<E>::N, UNROLLED = T == 0 ? 4 : 8 };
    DEVICE void run(const uint8_t *head, int i, float *v) {
        wide<E> p = *(const wide<E> *)((const E *)head + i);
        UNROLL for (int k = 0; k < RUN; k++) v[k] = cache<T>::widen(p.e[k]);
    }
    DEVICE float one(const uint8_t *head, int i) {
        return cache<T>::widen(((const E *)head)[i]);
    }
    DEVICE void store(const float *x, uint8_t *head, int n, int w, int n_warp) {
        for (int i = w * CU_WARP + lane(); i < n; i += n_warp * CU_WARP)
            ((E *)head)[i] = cache<T>::round(x[i]);
    }
};
template <> struct cache<0> : plain_cache<0, float> {
    DEVICE float widen(float v) {
        return v;
    }
    DEVICE float round(float v) {
        return v;
    }
};
template <> struct cache<1> : plain_cache<1, uint16_t> {
    DEVICE float widen(uint16_t v) {
        return widen_f16(v);
    }
    DEVICE uint16_t round(float v) {
        return round_f16(v);
    }
};
template <> struct cache<30> : plain_cache<30, uint16_t> {
    DEVICE float widen(uint16_t v) {
        return widen_bf16(v);
    }
    DEVICE uint16_t round(float v) {
        return round_bf16(v);
    }
};

/* ---- blocks of 32 with a scale ---- */

/* By a warp, a number of 32 to a lane: the first of largest magnitude, NaN when one is not finite.
 * A warp's largest key is wanted: magnitude, then lanes falling, then the sign. */
DEVICE float largest_of(float x) {
    uint32_t bits = bits_of(x);
    unsigned long long key = (unsigned long long)(bits & 0x7fffffffu) << 32 |
                             (uint32_t)(CU_WARP - 1 - lane()) << 1 | bits >> 31;
    UNROLL for (int mask = CU_WARP / 2; mask; mask /= 2) {
        unsigned long long other = __shfl_xor_sync(0xffffffffu, key, mask);
        if (other > key) key = other;
    }
    uint32_t magnitude = (uint32_t)(key >> 32);
    return float_of(magnitude >= 0x7f800000u ? 0x7fc00000u : magnitude | (uint32_t)key << 31);
}

/* What a block's numbers are multiplied by, 0 where all count as 0; *d becomes the scale kept. */
DEVICE float inverse_of(float *d) {
    float inverse = 1.0f / *d;
    if (isnan(*d)) return 0.0f;
    if (!isinf(inverse)) return inverse;
    *d = 0.0f;
    return 0.0f;
}

/* Bytes 2 i, 2 i + 1 of a block, which begins at an even address. */
DEVICE uint32_t two_bytes(const uint8_t *b, int i) {
    return ((const uint16_t *)b)[i];
}

template <int T, int BYTES_> struct block_cache {
    enum { N = 32, BYTES = BYTES_, RUN = 16, UNROLLED = 4 };
    /* A warp takes a block. */
    DEVICE void store(const float *x, uint8_t *head, int n, int w, int n_warp) {
        for (int b = w; b < n / N; b += n_warp) {
            float v = x[b * N + lane()], d, inverse;
            uint8_t *out = head + (int64_t)b * BYTES;
            d = cache<T>::scale_of(largest_of(v));
            inverse = inverse_of(&d);
            if (lane() == 0) *(uint16_t *)out = round_f16(d);
            cache<T>::put(v, inverse, out + 2);
        }
    }
};
template <> struct cache<8> : block_cache<8, 34> { /* Q8_0 */
    DEVICE float scale_of(float top) {
        return fabsf(top) / 127.0f;
    }
    DEVICE void put(float x, float inverse, uint8_t *q) {
        q[lane()] = (uint8_t)(inverse == 0.0f ? 0 : (int8_t)rintf(x * inverse));
    }
    DEVICE void run(const uint8_t *head, int i, float *v) {
        const uint8_t *b = head + i / N * BYTES, *q = b + 2 + i % N;
        float d = widen_f16(two_bytes(b, 0));
        UNROLL for (int k = 0; k < RUN / 2; k++) {
            uint32_t two = two_bytes(q, k);
            v[2 * k] = (float)(int8_t)two * d;
            v[2 * k + 1] = (float)(int8_t)(two >> 8) * d;
        }
    }
    DEVICE float one(const uint8_t *head, int i) {
        const uint8_t *b = head + i / N * BYTES;
        return (float)(int8_t)b[2 + i % N] * widen_f16(two_bytes(b, 0));
    }
};
template <> struct cache<2> : block_cache<2, 18> { /* Q4_0 */
    DEVICE float scale_of(float top) {
        return top / -8.0f;
    }
    DEVICE void put(float x, float inverse, uint8_t *q) {
        float v = inverse == 0.0f ? 8.0f : x * inverse + 8.5f;
        int code = v < 15.0f ? (int)v : 15, other = __shfl_xor_sync(0xffffffffu, code, 16);
        if (lane() < 16) q[lane()] = (uint8_t)(code | other << 4);
    }
    DEVICE void run(const uint8_t *head, int i, float *v) {
        const uint8_t *b = head + i / N * BYTES;
        float d = widen_f16(two_bytes(b, 0));
        int shift = i % N / 16 * 4;
        UNROLL for (int k = 0; k < RUN / 2; k++) {
            uint32_t two = two_bytes(b, 1 + k) >> shift;
            v[2 * k] = (float)((int)(two & 15) - 8) * d;
            v[2 * k + 1] = (float)((int)(two >> 8 & 15) - 8) * d;
        }
    }
    DEVICE float one(const uint8_t *head, int i) {
        const uint8_t *b = head + i / N * BYTES;
        return (float)((b[2 + i % 16] >> i % N / 16 * 4 & 15) - 8) * widen_f16(two_bytes(b, 0));
    }
};

/* Bytes of a head of n elements. */
template <int T> DEVICE int64_t head_bytes(int n) {
    return (int64_t)n / cache<T>::N * cache<T>::BYTES;
}

#endif
