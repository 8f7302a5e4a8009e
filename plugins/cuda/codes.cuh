/* SPDX-License-Identifier: MIT
 *
 * codes.cuh - weights as small integers with scales: what products with activations of 8 bits need.
 *
 * A group is 32 elements.  Its value with activations a (integers, scale dx) is
 *
 *   dx * (d * I + m * J)
 *   I = sum (q - OFF) a,  J = sum a                                 one scale to a group
 *   I = s0 sum_0 (q - OFF) a + s1 sum_1 ..,  J = n0 sum_0 a + ..    HALVES: one to each 16
 *
 * I and J are exact integers, so that dot products and tiles, which add in different orders, agree.
 *
 *   codes<T>::OFF, HALVES, HAS_MIN      HAS_MIN: there is an m
 *   codes<T>::word(b, g, w)             q of elements 4 w .. 4 w + 3 of group g of the block at b,
 *                                       a byte each, with a sign
 *   codes<T>::scales(b, g)              d, m, s, n; of Q4_K and Q5_K four_scales_at has them
 *   code_words<T>::of(b, g, w)          all eight words, for dot products
 *   group_value<T>, sum_halves<T>       for dot products: from sums of q a
 *   kept_scales<T>, signed_word<T>      for tiles: from sums of (q - OFF) a
 *   FOR_CODE_TYPES(M)                   M(T) for each
 *
 * Blocks are as aligned as weights.cuh says. */
#ifndef PERI_CUDA_CODES_CUH
#define PERI_CUDA_CODES_CUH
#include "async.cuh"
#include "weights.cuh"

// clang-format off
#define FOR_CODE_TYPES(M) M(2) M(3) M(6) M(7) M(8) M(10) M(11) M(12) M(13) M(14) M(20) M(23) M(39)
// clang-format on

/* halves: s0, s1, n0, n1, a byte each; s with a sign. */
struct code_scales {
    float d, m;
    uint32_t halves;
};

template <int T> struct codes;
template <int OFF_, int HALVES_, int HAS_MIN_> struct code_form {
    enum { OFF = OFF_, HALVES = HALVES_, HAS_MIN = HAS_MIN_ };
};

struct alignas(8) two_words {
    uint32_t w[2];
};

/* N words at any address, of which no word is read that has none of their bytes. */
template <int N> DEVICE void words_anywhere(const uint8_t *p, uint32_t *w) {
    const uint32_t *q = (const uint32_t *)((uintptr_t)p & ~(uintptr_t)3);
    int bits = (int)((uintptr_t)p & 3) * 8;
    uint32_t low = q[0];
    UNROLL for (int i = 0; i < N - 1; i++) {
        uint32_t high = q[i + 1];
        w[i] = shift_right(low, high, bits);
        low = high;
    }
    w[N - 1] =
        shift_right(low, *(const uint32_t *)((uintptr_t)(p + 4 * N - 1) & ~(uintptr_t)3), bits);
}
/* N words at a multiple of 8. */
template <int N> DEVICE void words_by_two(const uint8_t *p, uint32_t *w) {
    UNROLL for (int i = 0; i < N / 2; i++) {
        two_words two = ((const two_words *)p)[i];
        w[2 * i] = two.w[0];
        w[2 * i + 1] = two.w[1];
    }
}

/* Four bytes at a multiple of ALIGN. */
template <int ALIGN> DEVICE uint32_t word_at(const uint8_t *p) {
    const uint16_t *h = (const uint16_t *)p;
    if (ALIGN == 4) return *(const uint32_t *)p;
    if (ALIGN == 2) return h[0] | (uint32_t)h[1] << 16;
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
/* Nibbles 4 w .. of 32 in 16 bytes: the low halves are 0 - 15. */
template <int ALIGN> DEVICE uint32_t nibbles_at(const uint8_t *p, int w) {
    return word_at<ALIGN>(p + w % 4 * 4) >> w / 4 * 4 & 0x0f0f0f0fu;
}
/* Bits 0 .. 3 to the lowest bits of the bytes. */
DEVICE uint32_t spread(uint32_t four) {
    return (four & 15) * 0x00204081u & 0x01010101u;
}

/* Entries of a table of 16 bytes, lowest first, for the four nibbles of v (a byte each). */
DEVICE uint32_t look_up(const uint32_t *table, uint32_t v) {
    uint32_t two = v | v >> 4, which = (two & 0xff) | (two >> 8 & 0xff00); /* a nibble each */
    uint32_t low = pick_bytes(table[0], table[1], which & 0x7777u);
    uint32_t high = pick_bytes(table[2], table[3], which & 0x7777u);
    uint32_t mask = (v >> 3 & 0x01010101u) * 0xffu;
    return (low & ~mask) | (high & mask);
}
/* code_iq4 and code_fp4 of weights.cuh. */
DEVICE uint32_t look_up_iq4(uint32_t v) {
    const uint32_t table[4] = {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u};
    return look_up(table, v);
}
DEVICE uint32_t look_up_fp4(uint32_t v) {
    const uint32_t table[4] = {0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu};
    return look_up(table, v);
}

/* ---- 32 elements, one scale ---- */

template <> struct codes<2> : code_form<8, 0, 0> { /* Q4_0 */
    DEVICE uint32_t word(const uint8_t *b, int, int w) {
        return nibbles_at<2>(b + 2, w);
    }
    DEVICE code_scales scales(const uint8_t *b, int) {
        return {half_at(b), 0, 0};
    }
};
template <> struct codes<3> : code_form<0, 0, 1> { /* Q4_1 */
    DEVICE uint32_t word(const uint8_t *b, int, int w) {
        return nibbles_at<4>(b + 4, w);
    }
    DEVICE code_scales scales(const uint8_t *b, int) {
        return {half_at(b), half_at(b + 2), 0};
    }
};
template <> struct codes<6> : code_form<16, 0, 0> { /* Q5_0 */
    DEVICE uint32_t word(const uint8_t *b, int, int w) {
        return nibbles_at<2>(b + 6, w) | spread(word_at<2>(b + 2) >> 4 * w) << 4;
    }
    DEVICE code_scales scales(const uint8_t *b, int) {
        return {half_at(b), 0, 0};
    }
};
template <> struct codes<7> : code_form<0, 0, 1> { /* Q5_1 */
    DEVICE uint32_t word(const uint8_t *b, int, int w) {
        return nibbles_at<4>(b + 8, w) | spread(word_at<4>(b + 4) >> 4 * w) << 4;
    }
    DEVICE code_scales scales(const uint8_t *b, int) {
        return {half_at(b), half_at(b + 2), 0};
    }
};
template <> struct codes<8> : code_form<0, 0, 0> { /* Q8_0 */
    DEVICE uint32_t word(const uint8_t *b, int, int w) {
        return word_at<2>(b + 2 + 4 * w);
    }
    DEVICE code_scales scales(const uint8_t *b, int) {
        return {half_at(b), 0, 0};
    }
};
template <> struct codes<20> : code_form<0, 0, 0> { /* IQ4_NL */
    DEVICE uint32_t word(const uint8_t *b, int, int w) {
        return look_up_iq4(nibbles_at<2>(b + 2, w));
    }
    DEVICE code_scales scales(const uint8_t *b, int) {
        return {half_at(b), 0, 0};
    }
};
template <> struct codes<39> : code_form<0, 0, 0> { /* MXFP4: 2^(e - 128), the codes doubled */
    DEVICE uint32_t word(const uint8_t *b, int, int w) {
        return look_up_fp4(nibbles_at<1>(b + 1, w));
    }
    DEVICE code_scales scales(const uint8_t *b, int) {
        uint32_t e = b[0];
        return {float_of(e < 2 ? 0x00200000u << e : (e - 1) << 23), 0, 0};
    }
};

/* ---- 256 elements: eight groups ---- */

/* Of bytes 4 w .. of the 32 that group g shares with three others, its two bits. */
template <int ALIGN> DEVICE uint32_t pairs_at(const uint8_t *p, int g, int w) {
    return word_at<ALIGN>(p + g / 4 * 32 + 4 * w) >> g % 4 * 2 & 0x03030303u;
}

template <> struct codes<10> : code_form<0, 1, 1> { /* Q2_K */
    DEVICE uint32_t word(const uint8_t *b, int g, int w) {
        return pairs_at<4>(b + 16, g, w);
    }
    DEVICE code_scales scales(const uint8_t *b, int g) {
        uint32_t both = *(const uint16_t *)(b + 2 * g);
        return {half_at(b + 80), -half_at(b + 82), (both & 0x0f0fu) | (both >> 4 & 0x0f0fu) << 16};
    }
};
template <> struct codes<11> : code_form<4, 1, 0> { /* Q3_K */
    DEVICE uint32_t word(const uint8_t *b, int g, int w) {
        return pairs_at<2>(b + 32, g, w) | (word_at<2>(b + 4 * w) >> g & 0x01010101u) << 2;
    }
    DEVICE int scale(const uint8_t *b, int s) {
        int low = b[96 + s % 8] >> s / 8 * 4 & 15, top = b[104 + s % 4] >> s / 4 * 2 & 3;
        return (low | top << 4) - 32;
    }
    DEVICE code_scales scales(const uint8_t *b, int g) {
        int s0 = scale(b, 2 * g), s1 = scale(b, 2 * g + 1);
        return {half_at(b + 108), 0, (uint32_t)((s0 & 255) | (s1 & 255) << 8)};
    }
};
template <> struct codes<12> : code_form<0, 0, 1> { /* Q4_K */
    DEVICE uint32_t word(const uint8_t *b, int g, int w) {
        return word_at<4>(b + 16 + g / 2 * 32 + 4 * w) >> g % 2 * 4 & 0x0f0f0f0fu;
    }
};
template <> struct codes<13> : code_form<0, 0, 1> { /* Q5_K */
    DEVICE uint32_t word(const uint8_t *b, int g, int w) {
        return (word_at<4>(b + 48 + g / 2 * 32 + 4 * w) >> g % 2 * 4 & 0x0f0f0f0fu) |
               (word_at<4>(b + 16 + 4 * w) >> g & 0x01010101u) << 4;
    }
};
template <> struct codes<14> : code_form<32, 1, 0> { /* Q6_K */
    DEVICE uint32_t word(const uint8_t *b, int g, int w) {
        uint32_t low = word_at<2>(b + g / 4 * 64 + g % 2 * 32 + 4 * w) >> g % 4 / 2 * 4;
        return (low & 0x0f0f0f0fu) | pairs_at<2>(b + 128, g, w) << 4;
    }
    DEVICE code_scales scales(const uint8_t *b, int g) {
        return {half_at(b + 208), 0, *(const uint16_t *)(b + 192 + 2 * g)};
    }
};
template <> struct codes<23> : code_form<0, 0, 0> { /* IQ4_XS */
    DEVICE uint32_t word(const uint8_t *b, int g, int w) {
        return look_up_iq4(nibbles_at<4>(b + 8 + 16 * g, w));
    }
    DEVICE code_scales scales(const uint8_t *b, int g) {
        int top = *(const uint16_t *)(b + 2) >> 2 * g & 3;
        int scale = (b[4 + g / 2] >> g % 2 * 4 & 15) | top << 4;
        return {half_at(b) * (float)(scale - 32), 0, 0};
    }
};

/* Scales and minima of groups 0 - 3 or 4 - 7 of a block of Q4_K or Q5_K: a byte each, and what they
 * are multiplied by. */
struct four_scales {
    uint32_t scale, least;
    float d, m;
};
DEVICE code_scales scales_in(const four_scales &f, int i) {
    return {(float)(f.scale >> 8 * i & 255) * f.d, -((float)(f.least >> 8 * i & 255) * f.m), 0};
}
DEVICE four_scales four_scales_at(const uint8_t *b, bool is_high) {
    uint32_t v[4]; /* both factors, and scale_min's 12 bytes */
    words_by_two<4>(b, v);
    uint32_t scale = (v[3] & 0x0f0f0f0fu) | (v[1] >> 2 & 0x30303030u);
    uint32_t least = (v[3] >> 4 & 0x0f0f0f0fu) | (v[2] >> 2 & 0x30303030u);
    return {is_high ? scale : v[1] & 0x3f3f3f3fu, is_high ? least : v[2] & 0x3f3f3f3fu,
            widen_f16(v[0] & 0xffff), widen_f16(v[0] >> 16)};
}

/* ---- all words of a group ---- */

template <int T> struct code_words {
    DEVICE void of(const uint8_t *b, int g, uint32_t *w) {
        UNROLL for (int i = 0; i < 8; i++) w[i] = codes<T>::word(b, g, i);
    }
};
template <> struct code_words<2> {
    DEVICE void of(const uint8_t *b, int, uint32_t *w) {
        words_anywhere<4>(b + 2, w);
        UNROLL for (int i = 0; i < 4; i++) {
            w[4 + i] = w[i] >> 4 & 0x0f0f0f0fu;
            w[i] &= 0x0f0f0f0fu;
        }
    }
};
template <> struct code_words<8> {
    DEVICE void of(const uint8_t *b, int, uint32_t *w) {
        words_anywhere<8>(b + 2, w);
    }
};
/* ---- a group's value ----
 *
 * All integers here are smaller than 2^24, so that sums and products of them are exact as floats
 * too. */

/* dot: the sum of q a; j: sum a, or of HALVES J. */
template <int T> DEVICE float group_value(const code_scales &c, float dot, float j, float dx) {
    if (codes<T>::OFF != 0 && !codes<T>::HALVES) dot = fmaf(-(float)codes<T>::OFF, j, dot);
    return dx * (codes<T>::HAS_MIN ? fmaf(c.d, dot, c.m * j) : c.d * dot);
}

/* I and J of HALVES; a: sums of a of both halves, 16 bits each. */
struct halves_sum {
    float i, j;
};
template <int T>
DEVICE halves_sum sum_halves(const code_scales &c, int dot0, int dot1, uint32_t a) {
    int a0 = (int16_t)a, a1 = (int)a >> 16;
    int i = (int8_t)c.halves * (dot0 - codes<T>::OFF * a0) +
            (int8_t)(c.halves >> 8) * (dot1 - codes<T>::OFF * a1);
    int j = (int)(c.halves >> 16 & 255) * a0 + (int)(c.halves >> 24) * a1;
    return {(float)i, (float)j};
}

/* q - OFF of four q, which are smaller than 128. */
template <int T> DEVICE uint32_t signed_word(uint32_t w) {
    if (codes<T>::OFF == 0) return w;
    return ((w | 0x80808080u) - codes<T>::OFF * 0x01010101u) ^ 0x80808080u;
}

/* What is kept of scales, and a group's value: s0, s1 sums of (q - OFF) a of both halves (s0 of all
 * without HALVES), j: sum a. */
template <int HALVES, int HAS_MIN> struct kept_form;
template <> struct kept_form<0, 0> {
    struct type {
        float d;
    };
    DEVICE type of(const code_scales &c) {
        return {c.d};
    }
    DEVICE float value(const type &c, float s0, float, float, uint32_t, float dx) {
        return dx * (c.d * s0);
    }
};
template <> struct kept_form<0, 1> {
    struct alignas(8) type {
        float d, m;
    };
    DEVICE type of(const code_scales &c) {
        return {c.d, c.m};
    }
    DEVICE float value(const type &c, float s0, float, float j, uint32_t, float dx) {
        return dx * fmaf(c.d, s0, c.m * j);
    }
};
DEVICE float halves_dot(uint32_t scales, float s0, float s1) {
    return fmaf((float)(int8_t)scales, s0, (float)(int8_t)(scales >> 8) * s1);
}
template <> struct kept_form<1, 0> {
    struct alignas(8) type {
        float d;
        uint32_t halves;
    };
    DEVICE type of(const code_scales &c) {
        return {c.d, c.halves};
    }
    DEVICE float value(const type &c, float s0, float s1, float, uint32_t, float dx) {
        return dx * (c.d * halves_dot(c.halves, s0, s1));
    }
};
template <> struct kept_form<1, 1> {
    typedef code_scales type;
    DEVICE type of(const code_scales &c) {
        return c;
    }
    DEVICE float value(const type &c, float s0, float s1, float, uint32_t a, float dx) {
        int j = (int)(c.halves >> 16 & 255) * (int16_t)a + (int)(c.halves >> 24) * ((int)a >> 16);
        return dx * fmaf(c.d, halves_dot(c.halves, s0, s1), c.m * (float)j);
    }
};
template <int T> struct kept_scales : kept_form<codes<T>::HALVES, codes<T>::HAS_MIN> {};

#endif
