/* SPDX-License-Identifier: MIT
 *
 * books.cuh - weights whose bits are indices into the books of grids.def: IQ1, IQ2, IQ3.  Part of
 * weights.cuh, which says what weights<T> is.
 *
 * Entries stay as the table has them, numbers of two bits for eight elements or of four bits for
 * four, and become values by arithmetic: the largest book then has 4 KB.  They are read through the
 * caches of global memory, because lanes of a warp want different entries. */
#ifndef PERI_CUDA_BOOKS_CUH
#define PERI_CUDA_BOOKS_CUH

#define BOOK_ROW(a, b, c, d, e, f, g, h) a, b, c, d, e, f, g, h,
static __device__ const uint16_t book_iq2_xxs[256] = {
#define PERI_GRID_IQ2_XXS BOOK_ROW
#include "perigee/grids.def"
};
static __device__ const uint16_t book_iq2_xs[512] = {
#define PERI_GRID_IQ2_XS BOOK_ROW
#include "perigee/grids.def"
};
static __device__ const uint16_t book_iq2_s[1024] = {
#define PERI_GRID_IQ2_S BOOK_ROW
#include "perigee/grids.def"
};
static __device__ const uint16_t book_iq1[2048] = {
#define PERI_GRID_IQ1 BOOK_ROW
#include "perigee/grids.def"
};
static __device__ const uint16_t book_iq3_xxs[256] = {
#define PERI_GRID_IQ3_XXS BOOK_ROW
#include "perigee/grids.def"
};
static __device__ const uint16_t book_iq3_s[512] = {
#define PERI_GRID_IQ3_S BOOK_ROW
#include "perigee/grids.def"
};
#undef BOOK_ROW

/* Words at even addresses. */
DEVICE uint32_t word16(const uint8_t *p) {
    return *(const uint16_t *)p;
}
DEVICE uint32_t word32(const uint8_t *p) {
    return word16(p) | word16(p + 2) << 16;
}
DEVICE uint32_t either_half(uint32_t byte, int is_high) {
    return is_high ? byte >> 4 : byte & 15;
}
/* Seven sign bits, and the eighth that makes their number even. */
DEVICE uint32_t signs7(uint32_t seven) {
    uint32_t x = seven ^ seven >> 4;
    x ^= x >> 2;
    x ^= x >> 1;
    return seven | (x & 1) << 7;
}
/* v d, negated where bit k of the signs is set. */
DEVICE float signed_value(uint32_t v, float d, uint32_t signs, int k) {
    return (float)v * float_of(bits_of(d) ^ (signs >> k & 1) << 31);
}
/* IQ2: 8, 25, 43. */
DEVICE void iq2_run(uint32_t entry, float d, uint32_t signs, float *w) {
    RUN(k) {
        uint32_t n = entry >> 2 * k & 3;
        w[k] = signed_value(8 + 17 * n + (n >> 1), d, signs, k);
    }
}
/* IQ1: -1, 0, 1, and an eighth more or less. */
DEVICE void iq1_run(uint32_t index, int is_less, float d, float *w) {
    uint32_t entry = book_iq1[index];
    float zero = is_less ? 1.125f : 0.875f;
    RUN(k) w[k] = ((float)(entry >> 2 * k & 3) - zero) * d;
}

template <> struct weights<16> : block_weights<256, 66> { /* IQ2_XXS */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        const uint8_t *q = b + 2 + r / 4 * 8;
        uint32_t a = word32(q + 4);
        float d = half_at(b) * (0.5f + (float)(a >> 28)) * 0.25f;
        iq2_run(book_iq2_xxs[q[r % 4]], d, signs7(a >> 7 * (r % 4) & 127), w);
    }
};
template <> struct weights<17> : block_weights<256, 74> { /* IQ2_XS */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        uint32_t q = word16(b + 2 + 2 * r);
        float d = half_at(b) * (0.5f + (float)either_half(b[66 + r / 4], r / 2 % 2)) * 0.25f;
        iq2_run(book_iq2_xs[q & 511], d, signs7(q >> 9), w);
    }
};
template <> struct weights<22> : block_weights<256, 82> { /* IQ2_S */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        uint32_t index = b[2 + r] | (b[66 + r / 4] >> r % 4 * 2 & 3u) << 8;
        float d = half_at(b) * (0.5f + (float)either_half(b[74 + r / 4], r / 2 % 2)) * 0.25f;
        iq2_run(book_iq2_s[index], d, b[34 + r], w);
    }
};
template <> struct weights<18> : block_weights<256, 98> { /* IQ3_XXS: 4, 12 .. 52, and 62 */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        uint32_t a = word32(b + 66 + r / 4 * 4), signs = signs7(a >> 7 * (r % 4) & 127);
        uint32_t two = book_iq3_xxs[b[2 + 2 * r]] | (uint32_t)book_iq3_xxs[b[3 + 2 * r]] << 16;
        float d = half_at(b) * (0.5f + (float)(a >> 28)) * 0.5f;
        RUN(k) {
            uint32_t n = two >> 4 * k & 15;
            w[k] = signed_value(4 + 8 * n + (((n + 1) >> 3) << 1), d, signs, k);
        }
    }
};
template <> struct weights<21> : block_weights<256, 110> { /* IQ3_S: 1, 3 .. 15 */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        uint32_t h = b[66 + r / 4] >> r % 4 * 2;
        uint32_t i = b[2 + 2 * r] | (h & 1) << 8, j = b[3 + 2 * r] | (h >> 1 & 1) << 8;
        uint32_t two = book_iq3_s[i] | (uint32_t)book_iq3_s[j] << 16;
        float d = half_at(b) * (float)(1 + 2 * either_half(b[106 + r / 8], r / 4 % 2));
        RUN(k) w[k] = signed_value(1 + 2 * (two >> 4 * k & 15), d, b[74 + r], k);
    }
};
template <> struct weights<19> : block_weights<256, 50> { /* IQ1_S */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        uint32_t h = word16(b + 34 + r / 4 * 2);
        float d = half_at(b) * (float)(1 + 2 * (h >> 12 & 7));
        iq1_run(b[2 + r] | (h >> r % 4 * 3 & 7) << 8, h >> 15, d, w);
    }
};
template <> struct weights<29> : block_weights<256, 56> { /* IQ1_M: a scale in four nibbles */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        uint32_t h = either_half(b[32 + r / 2], r % 2);
        uint32_t scale = word16(b + 48 + r / 8 * 2) >> r / 2 % 4 * 3 & 7;
        uint32_t top = word16(b + 48) >> 12 | (word16(b + 50) >> 12) << 4 |
                       (word16(b + 52) >> 12) << 8 | (word16(b + 54) >> 12) << 12;
        float d = widen_f16((uint16_t)top) * (float)(1 + 2 * scale);
        iq1_run(b[r] | (h & 7) << 8, h >> 3, d, w);
    }
};

#endif
