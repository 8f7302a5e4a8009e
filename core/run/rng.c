/* SPDX-License-Identifier: MIT
 *
 * rng.c - Philox4x32-10. */
#include "run/rng.h"

#include "base/compiler.h"

void peri_philox(const uint32_t c[4], const uint32_t k[2], uint32_t out[4]) {
    uint32_t c0 = c[0], c1 = c[1], c2 = c[2], c3 = c[3], k0 = k[0], k1 = k[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

double peri_random(uint64_t seed, uint64_t stream, uint32_t position, uint32_t index) {
    const uint32_t k[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t c[4] = {position, index, (uint32_t)stream, (uint32_t)(stream >> 32)};
    uint32_t w[4];
    peri_philox(c, k, w);
    return (double)(((uint64_t)w[0] << 32 | w[1]) >> 11) * 0x1p-53;
}

/* Two rounds of SplitMix64's finalizer (Steele et al. 2014), which is a bijection of 64 bits: the
 * children of one parent never share a stream. */
static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

uint64_t peri_stream_child(uint64_t parent, uint64_t k) {
    uint64_t x = mix(mix(parent + 0x9E3779B97F4A7C15u) + k * 0x9E3779B97F4A7C15u);
    return x ? x : 1;
}
