/* SPDX-License-Identifier: MIT
 *
 * weights.cuh - weights of every type that a kernel decodes, eight at a time, from the blocks as
 * they lie in the file.
 *
 *   weights<T>::N, BYTES     elements and bytes of a block; of plain types eight elements
 *   weights<T>::IS_PLAIN     rows may end within eight
 *   weights<T>::run(b, r, w) elements 8 r .. 8 r + 7 of the block at b
 *   weights<T>::one(b, i)    plain types: element i
 *   FOR_WEIGHT_TYPES(M)      M(T) for each; FOR_PLAIN_TYPES, FOR_BLOCK_TYPES
 *
 * T is a number of dtype.def.  Layouts are those of GGUF; ref_dequant.c and ref_dequant_code.c of
 * the CPU plugin describe each, byte by byte.  A block is known to be as aligned as its size allows
 * (weights begin at a multiple of 8), so halves are read whole where all offsets are even. */
#ifndef PERI_CUDA_WEIGHTS_CUH
#define PERI_CUDA_WEIGHTS_CUH
#include "device.cuh"

// clang-format off
#define FOR_PLAIN_TYPES(M) M(0) M(1) M(30) M(28)
#define FOR_BLOCK_TYPES(M)                                                                         \
    M(2) M(3) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15) M(20) M(23) M(39) M(40)      \
    M(34) M(35) M(41) M(42) M(16) M(17) M(18) M(19) M(21) M(22) M(29)
#define FOR_WEIGHT_TYPES(M) FOR_PLAIN_TYPES(M) FOR_BLOCK_TYPES(M)
// clang-format on

static __constant__ int8_t code_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                           1,    13,   25,  38,  53,  69,  89,  113};
static __constant__ int8_t code_fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

template <int T> struct weights;

/* The f16 at an even address. */
DEVICE float half_at(const uint8_t *p) {
    return widen_f16(*(const uint16_t *)p);
}
/* Nibble i of 32 in 16 bytes: the low halves are 0 - 15, the high ones 16 - 31. */
DEVICE int nibble(const uint8_t *q, int i) {
    return q[i % 16] >> i / 16 * 4 & 15;
}
/* (q - zero) * d, rounded once; zero is a power of two. */
DEVICE float centred(int q, float zero, float d) {
    return fmaf((float)q, d, -zero * d);
}

#define RUN(k) UNROLL for (int k = 0; k < 8; k++)

/* ---- plain ---- */

template <typename E> struct plain_weights {
    enum { N = 8, BYTES = 8 * sizeof(E), IS_PLAIN = 1 };
};
template <> struct weights<0> : plain_weights<float> {
    DEVICE float one(const uint8_t *b, int i) {
        return ((const float *)b)[i];
    }
    DEVICE void run(const uint8_t *b, int, float *w) {
        RUN(k) w[k] = one(b, k);
    }
};
template <> struct weights<1> : plain_weights<uint16_t> {
    DEVICE float one(const uint8_t *b, int i) {
        return half_at(b + 2 * i);
    }
    DEVICE void run(const uint8_t *b, int, float *w) {
        RUN(k) w[k] = one(b, k);
    }
};
template <> struct weights<30> : plain_weights<uint16_t> {
    DEVICE float one(const uint8_t *b, int i) {
        return widen_bf16(((const uint16_t *)b)[i]);
    }
    DEVICE void run(const uint8_t *b, int, float *w) {
        RUN(k) w[k] = one(b, k);
    }
};
template <> struct weights<28> : plain_weights<double> {
    DEVICE float one(const uint8_t *b, int i) {
        return (float)((const double *)b)[i];
    }
    DEVICE void run(const uint8_t *b, int, float *w) {
        RUN(k) w[k] = one(b, k);
    }
};

/* Blocks of N elements and BYTES bytes. */
template <int N_, int BYTES_> struct block_weights {
    enum { N = N_, BYTES = BYTES_, IS_PLAIN = 0 };
    DEVICE float one(const uint8_t *, int) { /* rows are whole blocks: never asked for */
        return 0;
    }
};

/* ---- 32 elements, one scale ---- */

template <> struct weights<2> : block_weights<32, 18> { /* Q4_0 */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = half_at(b);
        RUN(k) w[k] = centred(nibble(b + 2, 8 * r + k), 8, d);
    }
};
template <> struct weights<3> : block_weights<32, 20> { /* Q4_1 */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = half_at(b), m = half_at(b + 2);
        RUN(k) w[k] = fmaf((float)nibble(b + 4, 8 * r + k), d, m);
    }
};
template <> struct weights<6> : block_weights<32, 22> { /* Q5_0 */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = half_at(b);
        RUN(k) w[k] = centred(nibble(b + 6, 8 * r + k) | (b[2 + r] >> k & 1) << 4, 16, d);
    }
};
template <> struct weights<7> : block_weights<32, 24> { /* Q5_1 */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = half_at(b), m = half_at(b + 2);
        RUN(k) w[k] = fmaf((float)(nibble(b + 8, 8 * r + k) | (b[4 + r] >> k & 1) << 4), d, m);
    }
};
template <> struct weights<8> : block_weights<32, 34> { /* Q8_0 */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = half_at(b);
        RUN(k) w[k] = (float)(int8_t)b[2 + 8 * r + k] * d;
    }
};
template <> struct weights<9> : block_weights<32, 36> { /* Q8_1 */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = half_at(b);
        RUN(k) w[k] = (float)(int8_t)b[4 + 8 * r + k] * d;
    }
};

/* ---- 256 elements, scales of sub-blocks ---- */

/* Two and four bits of element i of 256. */
DEVICE int two_bits(const uint8_t *q, int i) {
    return q[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
}
DEVICE int four_bits(const uint8_t *q, int i) {
    return q[i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15;
}

template <> struct weights<10> : block_weights<256, 84> { /* Q2_K */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        int sc = b[r / 2];
        float d = half_at(b + 80) * (float)(sc & 15), m = half_at(b + 82) * (float)(sc >> 4);
        RUN(k) w[k] = fmaf((float)two_bits(b + 16, 8 * r + k), d, -m);
    }
};
template <> struct weights<11> : block_weights<256, 110> { /* Q3_K */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        int s = r / 2, low = b[96 + s % 8] >> s / 8 * 4 & 15, top = b[104 + s % 4] >> s / 4 * 2 & 3;
        float d = half_at(b + 108) * (float)((low | top << 4) - 32);
        RUN(k) {
            int i = 8 * r + k, third = b[i % 32] >> i / 32 & 1;
            w[k] = centred(two_bits(b + 32, i) | third << 2, 4, d);
        }
    }
};

/* Scale and minimum of sub-block s of Q4_K and Q5_K. */
DEVICE void scale_min(const uint8_t *sc, int s, float *scale, float *least) {
    int a = sc[s % 4], m = sc[4 + s % 4], both = sc[8 + s % 4];
    *scale = (float)(s < 4 ? a & 63 : (both & 15) | a >> 6 << 4);
    *least = (float)(s < 4 ? m & 63 : both >> 4 | m >> 6 << 4);
}

template <> struct weights<12> : block_weights<256, 144> { /* Q4_K */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float scale, least;
        scale_min(b + 4, r / 4, &scale, &least);
        scale *= half_at(b);
        least *= half_at(b + 2);
        RUN(k) w[k] = fmaf((float)four_bits(b + 16, 8 * r + k), scale, -least);
    }
};
template <> struct weights<13> : block_weights<256, 176> { /* Q5_K */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float scale, least;
        scale_min(b + 4, r / 4, &scale, &least);
        scale *= half_at(b);
        least *= half_at(b + 2);
        RUN(k) {
            int i = 8 * r + k, fifth = b[16 + i % 32] >> i / 32 & 1;
            w[k] = fmaf((float)(four_bits(b + 48, i) | fifth << 4), scale, -least);
        }
    }
};
template <> struct weights<14> : block_weights<256, 210> { /* Q6_K */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = half_at(b + 208) * (float)(int8_t)b[192 + r / 2];
        RUN(k) {
            int i = 8 * r + k, half = i / 128, j = i % 128;
            int low = b[half * 64 + j % 64] >> j / 64 * 4 & 15;
            int top = b[128 + half * 32 + j % 32] >> j / 32 * 2 & 3;
            w[k] = centred(low | top << 4, 32, d);
        }
    }
};
template <> struct weights<15> : block_weights<256, 292> { /* Q8_K */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = *(const float *)b;
        RUN(k) w[k] = (float)(int8_t)b[4 + 8 * r + k] * d;
    }
};

/* ---- codes ---- */

template <> struct weights<20> : block_weights<32, 18> { /* IQ4_NL */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = half_at(b);
        RUN(k) w[k] = (float)code_iq4[nibble(b + 2, 8 * r + k)] * d;
    }
};
template <> struct weights<23> : block_weights<256, 136> { /* IQ4_XS */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        int s = r / 4, top = *(const uint16_t *)(b + 2) >> 2 * s & 3;
        int scale = (b[4 + s / 2] >> s % 2 * 4 & 15) | top << 4;
        float d = half_at(b) * (float)(scale - 32);
        RUN(k) w[k] = (float)code_iq4[nibble(b + 8 + 16 * s, 8 * (r % 4) + k)] * d;
    }
};
template <> struct weights<39> : block_weights<32, 17> { /* MXFP4: 2^(e - 128), the codes doubled */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        uint32_t e = b[0];
        float d = float_of(e < 2 ? 0x00200000u << e : (e - 1) << 23);
        RUN(k) w[k] = (float)code_fp4[nibble(b + 1, 8 * r + k)] * d;
    }
};
template <> struct weights<40> : block_weights<64, 36> { /* NVFP4: E4M3 without a sign, halved */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        uint32_t e = b[r / 2], exponent = e >> 3 & 15, m = e & 7;
        float d = exponent ? float_of((exponent + 119) << 23 | m << 20) : (float)m * 0x1p-10f;
        if (e == 0x7f) d = 0;
        RUN(k) w[k] = (float)code_fp4[b[4 + r / 2 * 8 + k] >> r % 2 * 4 & 15] * d;
    }
};

/* ---- two and three values ---- */

template <> struct weights<34> : block_weights<256, 54> { /* TQ1_0 */
    /* Digit n of a byte: the integer part of 3 (byte 3^n mod 256) / 256. */
    DEVICE int digit(int byte, int n) {
        int power = n == 0 ? 1 : n == 1 ? 3 : n == 2 ? 9 : n == 3 ? 27 : 81;
        return (byte * power & 255) * 3 >> 8;
    }
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = half_at(b + 52);
        RUN(k) {
            int i = 8 * r + k, j = i - 160, l = i - 240;
            int q = r < 20   ? digit(b[i % 32], i / 32)
                    : r < 30 ? digit(b[32 + j % 16], j / 16)
                             : digit(b[48 + l % 4], l / 4);
            w[k] = centred(q, 1, d);
        }
    }
};
template <> struct weights<35> : block_weights<256, 66> { /* TQ2_0 */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = half_at(b + 64);
        RUN(k) w[k] = centred(two_bits(b, 8 * r + k), 1, d);
    }
};
template <> struct weights<41> : block_weights<128, 18> { /* Q1_0 */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = half_at(b);
        RUN(k) w[k] = b[2 + r] >> k & 1 ? d : -d;
    }
};
template <> struct weights<42> : block_weights<64, 18> { /* Q2_0 */
    DEVICE void run(const uint8_t *b, int r, float *w) {
        float d = half_at(b);
        RUN(k) w[k] = centred(b[2 + 2 * r + k / 4] >> k % 4 * 2 & 3, 1, d);
    }
};

/* ---- books ---- */
#include "books.cuh"

/* ---- a row ---- */

/* Bytes of a row of n elements. */
template <int T> DEVICE int64_t row_bytes(int n) {
    return (int64_t)n * weights<T>::BYTES / weights<T>::N;
}

/* Elements 8 r .. of a row. */
template <int T> DEVICE void row_run(const uint8_t *row, int r, float *w) {
    enum { RUNS = weights<T>::N / 8 };
    weights<T>::run(row + (int64_t)(r / RUNS) * weights<T>::BYTES, r % RUNS, w);
}

/* What a warp reads of a row of plain weights before it reads of x: of each lane its first RUNS
 * runs of eight elements, 16 bytes at a time, all on the way before one is used.  Only where row
 * and x lie at multiples of 16; other rows are read as they are used. */
template <int T> struct row_ahead {
    enum { RUNS = 8, WIDTH = T == 0 ? 2 : 1 };
    four_words w[RUNS][WIDTH];
    bool is_wide;
};

/* Run r of a row of n elements, or the last one. */
DEVICE int run_within(int r, int n) {
    return r < n / 8 ? r : n / 8 - 1;
}

/* Runs r, r + 32, .. */
template <int T> DEVICE void read_ahead(row_ahead<T> *a, const uint8_t *row, int r, int n) {
    enum { WIDTH = row_ahead<T>::WIDTH };
    const four_words *in = global<const four_words>((uint64_t)(uintptr_t)row);
    UNROLL for (int i = 0; i < row_ahead<T>::RUNS; i++) {
        int at = run_within(r + i * CU_WARP, n);
        UNROLL for (int k = 0; k < WIDTH; k++) a->w[i][k] = in[at * WIDTH + k];
    }
}

template <int T> DEVICE void begin_row(row_ahead<T> *a, const uint8_t *row, uint64_t x, int n) {
    bool is_known = T == 0 || T == 1 || T == 30;
    a->is_wide = is_known && n >= 8 && ((uint64_t)(uintptr_t)row | x) % 16 == 0;
    if (a->is_wide) read_ahead(a, row, lane(), n);
}

/* Element k of run i. */
template <int T> DEVICE float one_of(const row_ahead<T> &a, int i, int k) {
    if (T == 0) return float_of(a.w[i][k / 4 % row_ahead<T>::WIDTH].w[k % 4]);
    uint32_t half = a.w[i][0].w[k / 2] >> k % 2 * 16 & 0xffffu;
    return T == 1 ? widen_f16(half) : widen_bf16(half);
}

/* This lane's part of the sum of a row that is_wide, in row_product's order. */
template <int T> DEVICE float sum_ahead(row_ahead<T> *a, const uint8_t *row, uint64_t x, int n) {
    enum { RUNS = row_ahead<T>::RUNS };
    const four_floats *in = global<const four_floats>(x);
    float sum = 0;
    for (int r = lane();;) {
        four_floats v[RUNS][2];
        UNROLL for (int i = 0; i < RUNS; i++) {
            int at = run_within(r + i * CU_WARP, n);
            v[i][0] = in[2 * at];
            v[i][1] = in[2 * at + 1];
        }
        UNROLL for (int i = 0; i < RUNS; i++) { /* no branch: x would be read behind it */
            float more = sum;
            RUN(k) more = fmaf(one_of(*a, i, k), v[i][k / 4].v[k % 4], more);
            sum = r + i * CU_WARP < n / 8 ? more : sum;
        }
        r += RUNS * CU_WARP;
        if (r - lane() >= n / 8) return sum;
        read_ahead(a, row, r, n);
    }
}

/* Sums of one row of weights with TOKENS rows of x, which are `stride` bytes apart; tokens from
 * n_tok on are the last one again.  Lane l takes runs l, l + 32, .. of eight elements, rising, and
 * the lanes are added as warp_sum does: nothing but n decides the order.  All lanes have the sums.
 * ahead: begun; of one token alone it is used. */
template <int T, int TOKENS>
DEVICE void row_product(row_ahead<T> *ahead, const uint8_t *row, uint64_t x, int64_t stride,
                        int n_tok, int n, float *sum) {
    float w[8];
    const float *in[TOKENS];
    UNROLL for (int t = 0; t < TOKENS; t++) {
        in[t] = floats_in(x + (uint64_t)((t < n_tok ? t : n_tok - 1) * stride));
        sum[t] = 0;
    }
    if (TOKENS == 1 && ahead->is_wide)
        sum[0] = sum_ahead(ahead, row, x, n);
    else
        for (int r = lane(); r < n / 8; r += CU_WARP) {
            row_run<T>(row, r, w);
            UNROLL for (int t = 0; t < TOKENS; t++) {
                RUN(k) sum[t] = fmaf(w[k], in[t][8 * r + k], sum[t]);
            }
        }
    if (weights<T>::IS_PLAIN && lane() == n / 8 % CU_WARP)
        for (int i = n / 8 * 8; i < n; i++) {
            float v = weights<T>::one(row, i);
            UNROLL for (int t = 0; t < TOKENS; t++) sum[t] = fmaf(v, in[t][i], sum[t]);
        }
    UNROLL for (int t = 0; t < TOKENS; t++) sum[t] = warp_sum(sum[t]);
}

#endif
