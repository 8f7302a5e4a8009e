/* SPDX-License-Identifier: MIT
 *
 * quant.cuh - activations as bytes with a scale to each CU_GROUP of them, as products with codes
 * take them (product.cu): how they are made, and where they lie. */
#ifndef PERI_CUDA_QUANT_CUH
#define PERI_CUDA_QUANT_CUH
#include "async.cuh"

enum { DOT_LANES = 8 }; /* that share a group: four elements to a lane */

DEVICE int spans_of(int n) {
    return (n + CU_SPAN - 1) / CU_SPAN;
}

/* sum: of a group's integers. */
struct alignas(8) group_meta {
    float dx, sum;
};

/* N groups at once, each by eight lanes that follow one another: four elements of each to a lane.
 * Gives the lane's four integers; all eight have the scale and the sums, *halves those of 0 - 15
 * and 16 - 31, 16 bits each. */
template <int N>
DEVICE void quantise_fours(const float (*v)[4], uint32_t *q, group_meta *m, uint32_t *halves) {
    uint32_t top[N];
    float inverse[N];
    UNROLL for (int g = 0; g < N; g++) {
        top[g] = 0;
        UNROLL for (int k = 0; k < 4; k++) {
            uint32_t b = bits_of(v[g][k]) & 0x7fffffffu;
            top[g] = b > top[g] ? b : top[g];
        }
    }
    UNROLL for (int mask = 1; mask < DOT_LANES; mask *= 2) UNROLL for (int g = 0; g < N; g++) {
        uint32_t b = __shfl_xor_sync(0xffffffffu, top[g], mask);
        top[g] = b > top[g] ? b : top[g];
    }
    UNROLL for (int g = 0; g < N; g++) {
        m[g].dx = float_of(top[g]) / 127.0f;
        inverse[g] = 1.0f / m[g].dx;
        if (isinf(inverse[g])) m[g].dx = inverse[g] = 0;
        if (top[g] >= 0x7f800000u) {
            m[g].dx = float_of(0x7fc00000u);
            inverse[g] = 0;
        }
    }
    UNROLL for (int g = 0; g < N; g++) {
        q[g] = 0;
        UNROLL for (int k = 0; k < 4;
                    k++) { /* to nearest, ties to even: 1.5 * 2^23 has units of 1 */
            uint32_t i = bits_of(v[g][k] * inverse[g] + 0x1.8p23f) & 255;
            q[g] |= (inverse[g] == 0 ? 0 : i) << 8 * k;
        }
    }
    UNROLL for (int g = 0; g < N; g++) {
        int sum = dot_4(q[g], 0x01010101u, 0);
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        int other = __shfl_xor_sync(0xffffffffu, sum, 4);
        bool is_second = lane() & 4;
        m[g].sum = (float)(sum + other);
        halves[g] = ((uint32_t)(is_second ? other : sum) & 0xffffu) |
                    (uint32_t)(is_second ? sum : other) << 16;
    }
}

/* Elements 4 i .. of a row of n, a multiple of CU_GROUP; 0 beyond. */
DEVICE void load_four(const float *x, int i, int n, float *v) {
    if (4 * i >= n) {
        UNROLL for (int k = 0; k < 4; k++) v[k] = 0;
    } else if ((uint64_t)(uintptr_t)x % 16 == 0) {
        four_floats f = *(const four_floats *)(x + 4 * i);
        UNROLL for (int k = 0; k < 4; k++) v[k] = f.v[k];
    } else {
        UNROLL for (int k = 0; k < 4; k++) v[k] = x[4 * i + k];
    }
}

/* Of a row of n: its bytes, its groups and the halves' sums, all of whole spans, in this order of
 * all n_row rows; q: where the first row's bytes are. */
DEVICE int padded(int n) {
    return spans_of(n) * CU_SPAN;
}
DEVICE uint8_t *codes_at(uint8_t *q, int row, int n) {
    return q + (int64_t)row * padded(n);
}
DEVICE group_meta *meta_at(uint8_t *q, int n_row, int row, int n) {
    return (group_meta *)codes_at(q, n_row, n) + (int64_t)row * (padded(n) / CU_GROUP);
}
DEVICE uint32_t *halves_at(uint8_t *q, int n_row, int row, int n) {
    return (uint32_t *)meta_at(q, n_row, n_row, n) + (int64_t)row * (padded(n) / CU_GROUP);
}

/* Words of a group lie in the order 0 4 1 5 2 6 3 7, as a lane of tile_32 takes two of them. */
DEVICE int place_of_word(int w) {
    return w % 4 * 2 + w / 4;
}

/* By all lanes: elements 4 i .. and N - 1 times more, `step` fours on, of row r of n_row rows; i
 * rising with the lane. */
template <int N>
DEVICE void store_codes(uint8_t *q, int n_row, int r, int i, int step, int n, const float (*v)[4]) {
    group_meta m[N];
    uint32_t halves[N], word[N];
    int w = i % DOT_LANES; /* step: whole groups */
    uint32_t *words = (uint32_t *)codes_at(q, r, n);
    group_meta *metas = meta_at(q, n_row, r, n);
    uint32_t *sums = halves_at(q, n_row, r, n);
    quantise_fours<N>(v, word, m, halves);
    UNROLL for (int g = 0; g < N; g++) {
        int at = i + g * step;
        if (4 * at >= padded(n)) return;
        words[at - w + place_of_word(w)] = word[g];
        if (w) continue;
        metas[at / DOT_LANES] = m[g];
        sums[at / DOT_LANES] = halves[g];
    }
}
DEVICE void store_codes(uint8_t *q, int n_row, int r, int i, int n, const float *v) {
    store_codes<1>(q, n_row, r, i, 0, n, (const float(*)[4])v);
}

#endif
