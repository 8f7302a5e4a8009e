/* SPDX-License-Identifier: MIT
 *
 * linear_token_avx2.c - products of block-quantised weights with one token, a row at a time, on
 * 256-bit registers; for every level of x86 but those with AVX-512 and VNNI, which have
 * linear_token.c (measured on avx2 alone).  The types with a line in `types` below; others take the
 * way of linear_int.c or linear_vnni.c.
 *
 * As there, rows follow one another, so that memory is read as one stream. Kernels with rows in
 * lanes read 8 streams at once and unpack into a panel in the first cache (Zen 3, one thread, a
 * read of 11 GB/s: Q4_0 5.6 GB/s so).
 *
 * A register holds 32 columns of a row as unsigned bytes; vpmaddubsw with as many activations gives
 * 16 sums of two columns, which stay within int16: signed weights become their magnitudes, and
 * their signs move to the activations (128 * 127 * 2 = 32512).
 *
 * Span 32: 256 columns (a unit) are added up to the integer sums of eight blocks and multiplied by
 * their scales; eight rows of that are transposed, and the chains of FMAs run over the blocks with
 * rows in lanes.  Types of nibbles have blocks i and i + 4 in the two halves of a register, so that
 * columns 0 to 15 of both are its low nibbles and 16 to 31 its high ones: four partial sums to a
 * block, and blocks come out in their order.
 * Span 256: one vpmaddwd applies the scales of the sub-blocks, and the eight partial sums of a
 * superblock are added up together with those of seven other rows. */
#include "linear_unpack.h"

#include "linear_scales.h"

#define HAS_MINIMA_256(dtype)                                                                      \
    ((dtype) == PERI_CPU_Q2_K || (dtype) == PERI_CPU_Q4_K || (dtype) == PERI_CPU_Q5_K)
#define HAS_MINIMA_32(dtype) ((dtype) == PERI_CPU_Q4_1 || (dtype) == PERI_CPU_Q5_1)
#define IS_SIGNED(dtype)                                                                           \
    ((dtype) == PERI_CPU_Q8_0 || (dtype) == PERI_CPU_IQ4_NL || (dtype) == PERI_CPU_IQ4_XS)
/* Columns of a block are the low and the high nibbles of 16 bytes. */
#define HAS_NIBBLES(dtype)                                                                         \
    ((dtype) == PERI_CPU_Q4_0 || (dtype) == PERI_CPU_Q4_1 || (dtype) == PERI_CPU_Q5_0 ||           \
     (dtype) == PERI_CPU_Q5_1 || (dtype) == PERI_CPU_IQ4_NL || (dtype) == PERI_CPU_MXFP4 ||        \
     (dtype) == PERI_CPU_IQ4_XS)

enum {
    ROWS = W,
    SEGMENT = 32768, /* columns of a row before the next row: what is kept of 8 rows is 53 KB, and
                        the activations 41, both on the stack */
    N_KB = SEGMENT / LINEAR_K,
    TAIL_BYTES = 8 * 34, /* the largest unit's */
    AHEAD = 4096,        /* bytes; how far memory is asked for */
    BEFORE = 128,        /* bytes; and as far ahead, for each 256 columns, before the first row */
};

/* What is kept of 8 rows and a segment. */
typedef union kept {
    float x[N_KB][ROWS][8]; /* span 32: [block], sums as they enter the chain */
    struct {
        vi t[ROWS];      /* to be added up */
        __m128i u[ROWS]; /* minima times the sums of activations; row_pair(r) is row r's place */
        int32_t d[ROWS]; /* f16 d, above it f16 dmin */
    } kb[N_KB];
} kept;

/* Rows r and r + 4 side by side. */
SIMD_FN int row_pair(int r) {
    return r % 4 * 2 + r / 4;
}

/* 256 activations as the rows' products take them. */
typedef struct shared {
    vi x[8]; /* 32 columns, in order; of nibbles 2 i: columns 0 to 15 of blocks i and i + 4 (IQ4_XS:
                2 i and 2 i + 1), 2 i + 1: columns 16 to 31 */
    vi sum;  /* span 32: the weights' offset times -sums of blocks, or with minima the sums.  Q4_K,
                Q5_K: sums of 32, int16, twice.  Q2_K: of 16.  Q3_K, Q6_K: of 16, even ones, then
                odd ones. */
    const float *dx;
} shared;

/* ---- activations ---- */

/* 32 of act16 as bytes in their order. */
SIMD_FN vi narrow(const int16_t *q) {
    const vi order = vi_lane4(0x03010200, 0x07050604, 0x0b090a08, 0x0f0d0e0c);
    vi x = _mm256_packs_epi16(vi_load(q), vi_load(q + 16));
    return vi_shuffle8(_mm256_permute4x64_epi64(x, 0xd8), order);
}

/* Sums of the two int16 of each dword. */
SIMD_FN vi add_halves(vi x) {
    return vi_madd16(x, vi_set1_16(1));
}

/* has_dot: the form of act8 (linear.h). */
SIMD_FN vi offsets(const int32_t *off, int has_dot) {
    vi x = vi_load(off);
    return has_dot ? x : add_halves(x);
}

/* The weights' offset is 2 to so many. */
SIMD_FN int offset_bits(uint16_t dtype) {
    return dtype == PERI_CPU_Q6_K ? 5 : 2; /* Q3_K */
}

/* Sums of 16 out of what these types have in act8.off: even ones first. */
SIMD_FN vi sums16(uint16_t dtype, const act8 *a, int has_dot) {
    const vi even_first = vi_lane4(0x05040100, 0x0d0c0908, 0x07060302, 0x0f0e0b0a);
    vi lo = offsets(a->off, has_dot), hi = offsets(a->off + 8, has_dot), zero = vi_set1(0);
    int shift = offset_bits(dtype);
    lo = _mm256_srai_epi32(_mm256_sub_epi32(zero, lo), shift);
    hi = _mm256_srai_epi32(_mm256_sub_epi32(zero, hi), shift);
    vi x = _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);
    return _mm256_permute4x64_epi64(vi_shuffle8(x, even_first), 0xd8);
}

/* Totals of the halves of four registers, in lanes 0 to 3 of each half. */
SIMD_FN vi quad_sums(const vi m[4]) {
    return _mm256_hadd_epi32(_mm256_hadd_epi32(m[0], m[1]), _mm256_hadd_epi32(m[2], m[3]));
}

/* The totals of eight registers. */
SIMD_FN vi whole_sums(const vi m[8]) {
    vi a = quad_sums(m), b = quad_sums(m + 4);
    return vi_add32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

/* Types as literals. */
SIMD_FN void shared_of(uint16_t dtype, const uint8_t *act, int has_dot, shared *out) {
    const act8 *a = (const act8 *)act;
    const act16 *wide = (const act16 *)act;
    int is_wide = IS_SIGNED(dtype) && !has_dot, far = dtype == PERI_CPU_IQ4_XS ? 1 : 4;
    vi q[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        q[i] = is_wide ? narrow(wide->q + 32 * i) : vi_load(a->q + 32 * i);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        int b = i / 2 * (far == 1 ? 2 : 1);
        out->x[i] = !HAS_NIBBLES(dtype) ? q[i]
                    : i % 2 == 0        ? _mm256_permute2x128_si256(q[b], q[b + far], 0x20)
                                        : _mm256_permute2x128_si256(q[b], q[b + far], 0x31);
    }
    out->dx = is_wide ? wide->dx : a->dx;
    if (HAS_MINIMA_32(dtype) || dtype == PERI_CPU_Q2_K)
        out->sum = vi_load(a->sum);
    else if (HAS_MINIMA_256(dtype))
        out->sum = vi_lane_at(a->sum);
    else if (dtype == PERI_CPU_Q6_K || dtype == PERI_CPU_Q3_K)
        out->sum = sums16(dtype, a, has_dot);
    else
        out->sum = IS_SIGNED(dtype) ? vi_set1(0) : offsets(a->off, has_dot);
}

/* ---- span 32 ---- */

/* 16 bytes at p, and `far` behind them. */
SIMD_FN vi two_lanes(const uint8_t *p, int far) {
    vi x = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p));
    return _mm256_inserti128_si256(x, _mm_loadu_si128((const __m128i *)(p + far)), 1);
}

/* Sums of two columns, int16: of signed weights. */
SIMD_FN vi signed_pairs(vi w, vi x) {
    return vi_maddubs(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}

SIMD_FN vi low_nibbles(vi x) {
    return vi_and(x, vi_set1_8(15));
}

/* The f16 that begin eight blocks of 18 bytes, 36 from one pair to the next: in the i-th 32 bytes
 * they are the low half of dword i and the high half of dword 4 + i. */
SIMD_FN vf scales18(const uint8_t *p) {
    vi x = _mm256_blend_epi32(vi_load(p), vi_load(p + 32), 0x22);
    vi y = _mm256_blend_epi32(vi_load(p + 64), vi_load(p + 96), 0x88);
    x = _mm256_blend_epi32(x, y, 0xcc);
    __m128i d = _mm_blend_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1), 0xaa);
    return _mm256_cvtph_ps(d);
}

/* Of 34 bytes, 68 for a pair: likewise, in the first and third 16 of each 64 bytes. */
SIMD_FN __m128i dwords64(const uint8_t *p) {
    const __m128i *q = (const __m128i *)p; /* 16 bytes each */
    __m128i x = _mm_blend_epi32(_mm_loadu_si128(q), _mm_loadu_si128(q + 4), 0x2);
    __m128i y = _mm_blend_epi32(_mm_loadu_si128(q + 8), _mm_loadu_si128(q + 12), 0x8);
    return _mm_blend_epi32(x, y, 0xc);
}
SIMD_FN vf scales34(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_blend_epi16(dwords64(p), dwords64(p + 32), 0xaa));
}

SIMD_FN vf scales22(const uint8_t *p) {
    uint16_t d[8];
#pragma GCC unroll 8
    for (int b = 0; b < 8; b++)
        memcpy(&d[b], p + 22 * b, sizeof *d);
    return _mm256_cvtph_ps(_mm_setr_epi16((short)d[0], (short)d[1], (short)d[2], (short)d[3],
                                          (short)d[4], (short)d[5], (short)d[6], (short)d[7]));
}

/* What begins four, and eight, blocks of Q4_1 or Q5_1: f16 d, above it f16 m.  As an array, which
 * the compiler keeps in memory, they took as long as all else. */
SIMD_FN __m128i four_heads(const uint8_t *p, int bytes) {
    __m128i d[4];
#pragma GCC unroll 4
    for (int b = 0; b < 4; b++)
        d[b] = _mm_loadu_si32(p + bytes * b);
    return _mm_unpacklo_epi64(_mm_unpacklo_epi32(d[0], d[1]), _mm_unpacklo_epi32(d[2], d[3]));
}
SIMD_FN vi heads32(const uint8_t *p, int bytes) {
    return _mm256_set_m128i(four_heads(p + 4 * bytes, bytes), four_heads(p, bytes));
}

/* Of MXFP4, a byte each (cpu_e8m0_half). */
SIMD_FN vf scales17(const uint8_t *p) {
    vi e = _mm256_setr_epi32(p[0], p[17], p[34], p[51], p[68], p[85], p[102], p[119]);
    return e8m0_half(e);
}

SIMD_FN vf scales32(uint16_t dtype, const uint8_t *p) {
    return dtype == PERI_CPU_Q8_0    ? scales34(p)
           : dtype == PERI_CPU_MXFP4 ? scales17(p)
           : dtype == PERI_CPU_Q5_0  ? scales22(p)
                                     : scales18(p);
}

/* The same of sums of 8 columns that fit int16, and, with_16, so do sums of 16: packing takes one
 * shuffle, and the addition is no instruction of its own. */
SIMD_FN vi quad_sums16(const vi m[4], int with_16) {
    vi a = add_halves(_mm256_packs_epi32(m[0], m[1]));
    vi b = add_halves(_mm256_packs_epi32(m[2], m[3]));
    return with_16 ? add_halves(_mm256_packs_epi32(a, b)) : _mm256_hadd_epi32(a, b);
}

/* Fifth bits of a block in each half, whose 16 bytes begin at its d: 16 where set. */
SIMD_FN vi fifths_of(vi block, int from) {
    const vi bit = vi_lane4(0x08040201, (int)0x80402010, 0x08040201, (int)0x80402010);
    int a = 0x01010101 * from, b = 0x01010101 * (from + 1);
    vi x = vi_and(vi_shuffle8(block, vi_lane4(a, a, b, b)), bit);
    return vi_and(_mm256_cmpeq_epi8(x, bit), vi_set1_8(16));
}

/* Partial sums of blocks i and i + 4 of 32 columns, four each. */
SIMD_FN vi nibble_sums(uint16_t dtype, const uint8_t *p, int bytes, const vi x[2]) {
    vi v = two_lanes(p + bytes - 16, 4 * bytes);
    vi low = low_nibbles(v), high = low_nibbles(vi_shr16(v, 4));
    if (dtype == PERI_CPU_IQ4_NL) {
        vi code = vi_lane_at(cpu_code_iq4);
        return vi_add32(add_halves(signed_pairs(vi_shuffle8(code, low), x[0])),
                        add_halves(signed_pairs(vi_shuffle8(code, high), x[1])));
    }
    if (dtype == PERI_CPU_MXFP4) {
        vi code = vi_add8(vi_lane_at(cpu_code_fp4), vi_set1_8(12));
        low = vi_shuffle8(code, low);
        high = vi_shuffle8(code, high);
    }
    if (dtype == PERI_CPU_Q5_0 || dtype == PERI_CPU_Q5_1) {
        int at = dtype == PERI_CPU_Q5_0 ? 2 : 4;
        vi block = two_lanes(p, 4 * bytes);
        low = vi_or(low, fifths_of(block, at));
        high = vi_or(high, fifths_of(block, at + 2));
    }
    return add_halves(vi_add16(vi_maddubs(low, x[0]), vi_maddubs(high, x[1])));
}

/* The integer sums of eight blocks of a row. */
SIMD_FN vi unit_sums(uint16_t dtype, const uint8_t *p, int bytes, const shared *a) {
    vi m[8];
    if (dtype == PERI_CPU_Q8_0) {
#pragma GCC unroll 8
        for (int b = 0; b < 8; b++)
            m[b] = add_halves(signed_pairs(vi_load(p + 34 * b + 2), a->x[b]));
        return whole_sums(m);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        m[i] = nibble_sums(dtype, p + i * bytes, bytes, a->x + 2 * i);
    if (dtype == PERI_CPU_IQ4_NL) return quad_sums(m);
    vi sums = quad_sums16(m, dtype == PERI_CPU_Q4_0 || dtype == PERI_CPU_Q4_1);
    return HAS_MINIMA_32(dtype) ? sums : vi_add32(sums, a->sum);
}

/* Eight blocks of a row as they enter the chain. */
SIMD_FN vf unit32(uint16_t dtype, const uint8_t *p, int bytes, const shared *a) {
    vf sums = vf_cvt(unit_sums(dtype, p, bytes, a));
    if (!HAS_MINIMA_32(dtype)) return vf_mul(sums, scales32(dtype, p));
    vi head = heads32(p, bytes);
    return vf_fma(vf_cvt(a->sum), vf_f16_low(vi_shr32(head, 16)), vf_mul(sums, vf_f16_low(head)));
}

/* v[i]: lanes are rows, i a block of unit u. */
SIMD_FN void load_unit(const kept *k, int u, vf v[8]) {
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++)
        v[r] = vf_load(k->x[u][r]);
    transpose8(v);
}

SIMD_FN vf chains32(uint16_t dtype, const kept *k, int n_block, const shared *a, vf acc) {
    vf v[8];
    (void)dtype;
    for (int u = 0; u < n_block / 8; u++) {
        load_unit(k, u, v);
#pragma GCC unroll 8
        for (int b = 0; b < 8; b++)
            acc = vf_fma(v[b], vf_set1(a[u].dx[b]), acc);
    }
    if (n_block % 8 == 0) return acc;
    load_unit(k, n_block / 8, v);
#pragma GCC unroll 8
    for (int b = 0; b < 8; b++) /* all are taken apart, so that v stays in registers */
        if (b < n_block % 8) acc = vf_fma(v[b], vf_set1(a[n_block / 8].dx[b]), acc);
    return acc;
}

/* ---- span 256 ---- */

/* Word j of each half of sc, for all products there. */
SIMD_FN vi scale_at(vi sc, int j) {
    return vi_shuffle8(sc, vi_set1_16(2 * j | (2 * j + 1) << 8));
}

/* 16 signed scales as int16: even ones in the first half, odd ones in the second. */
SIMD_FN vi scales_of_16(__m128i sc) {
    const __m128i even_first = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    return _mm256_cvtepi8_epi16(_mm_shuffle_epi8(sc, even_first));
}

/* Columns 32 j .. of a superblock as unsigned bytes; j is a literal. */
SIMD_FN vi weights256(uint16_t dtype, const uint8_t *p, int j) {
    if (dtype == PERI_CPU_Q6_K) { /* four 32s of a half share the bytes of high pairs */
        vi q = vi_load(p + j / 4 * 64 + j % 2 * 32), h = vi_load(p + 128 + j / 4 * 32);
        vi top = vi_set1_8(0x30);
        h = j % 4 == 0   ? vi_shl16(h, 4)
            : j % 4 == 1 ? vi_shl16(h, 2)
            : j % 4 == 2 ? h
                         : vi_shr16(h, 2);
        return vi_or(low_nibbles(j % 4 < 2 ? q : vi_shr16(q, 4)), vi_and(h, top));
    }
    if (dtype == PERI_CPU_Q3_K) {
        vi q = vi_shr16(vi_load(p + 32 + j / 4 * 32), j % 4 * 2), h = vi_load(p);
        h = j < 2 ? vi_shl16(h, 2 - j) : vi_shr16(h, j - 2);
        return vi_or(vi_and(q, vi_set1_8(3)), vi_and(h, vi_set1_8(4)));
    }
    if (dtype == PERI_CPU_Q2_K)
        return vi_and(vi_shr16(vi_load(p + 16 + j / 4 * 32), j % 4 * 2), vi_set1_8(3));
    vi q = vi_load(p + (dtype == PERI_CPU_Q5_K ? 48 : 16) + j / 2 * 32);
    q = low_nibbles(j % 2 ? vi_shr16(q, 4) : q);
    if (dtype == PERI_CPU_Q4_K) return q;
    vi h = vi_load(p + 16);
    h = j < 4 ? vi_shl16(h, 4 - j) : vi_shr16(h, j - 4);
    return vi_or(q, vi_and(h, vi_set1_8(16)));
}

/* sum_j sc_j sum_k q a as eight partial sums; of 16 columns for each half where there are as many
 * scales, scale_at has both. */
SIMD_FN vi scaled(uint16_t dtype, const uint8_t *p, vi sc, const shared *a) {
    vi t = vi_set1(0);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        t = vi_add32(t, vi_madd16(vi_maddubs(weights256(dtype, p, j), a->x[j]), scale_at(sc, j)));
    return t;
}

/* Blocks 2 i and 2 i + 1 are the halves of a register. */
SIMD_FN vi iq4_xs(const uint8_t *p, const shared *a) {
    vi words = _mm256_packs_epi32(iq4_xs_scales(p), vi_set1(0)), t = vi_set1(0);
    words = _mm256_permute4x64_epi64(words, 0x08); /* 0 to 7 */
    const __m128i even_first = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    __m128i sc = _mm_shuffle_epi8(_mm256_castsi256_si128(words), even_first);
    words = _mm256_permute4x64_epi64(_mm256_castsi128_si256(sc), 0x10);
    vi code = vi_lane_at(cpu_code_iq4);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vi v = vi_load(p + 8 + 32 * i), scale = scale_at(words, i);
        vi low = vi_shuffle8(code, low_nibbles(v));
        vi high = vi_shuffle8(code, low_nibbles(vi_shr16(v, 4)));
        t = vi_add32(t, vi_madd16(signed_pairs(low, a->x[2 * i]), scale));
        t = vi_add32(t, vi_madd16(signed_pairs(high, a->x[2 * i + 1]), scale));
    }
    return t;
}

/* Scales of Q4_K and Q5_K, and minima, a byte each: 12 bytes v0 v1 v2 of four (linear_unpack.h). */
SIMD_FN void six_bits(const uint8_t *p, uint64_t *scales, uint64_t *minima) {
    const uint32_t six = 0x3f3f3f3f, low = 0x0f0f0f0f, top = 0x30303030;
    uint32_t v[3];
    memcpy(v, p, sizeof v);
    *scales = (v[0] & six) | (uint64_t)((v[2] & low) | (v[0] >> 2 & top)) << 32;
    *minima = (v[1] & six) | (uint64_t)((v[2] >> 4 & low) | (v[1] >> 2 & top)) << 32;
}
SIMD_FN __m128i words_of(uint64_t bytes) {
    return _mm_cvtepu8_epi16(_mm_cvtsi64_si128((int64_t)bytes));
}

/* Sixteen scales in low nibbles, minima in high ones. */
SIMD_FN void superblock_q2_k(const uint8_t *p, const shared *a, kept *k, int kb, int r) {
    __m128i both = _mm_loadu_si128((const __m128i *)p), low = _mm_set1_epi8(15);
    __m128i minima = _mm_and_si128(_mm_srli_epi16(both, 4), low);
    vi u = vi_madd16(_mm256_cvtepu8_epi16(minima), a->sum);
    k->kb[kb].t[r] = scaled(PERI_CPU_Q2_K, p, scales_of_16(_mm_and_si128(both, low)), a);
    k->kb[kb].u[row_pair(r)] =
        _mm_add_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
    memcpy(&k->kb[kb].d[r], p + 80, 4);
}

/* 256 columns of row r. */
SIMD_FN void superblock(uint16_t dtype, const uint8_t *p, const shared *a, kept *k, int kb, int r) {
    if (dtype == PERI_CPU_Q2_K) {
        superblock_q2_k(p, a, k, kb, r);
        return;
    }
    if (HAS_MINIMA_256(dtype)) {
        uint64_t scales, minima;
        six_bits(p + 4, &scales, &minima);
        __m128i sums = _mm256_castsi256_si128(a->sum);
        k->kb[kb].t[r] = scaled(dtype, p, vi_lane(words_of(scales)), a);
        k->kb[kb].u[row_pair(r)] = _mm_madd_epi16(words_of(minima), sums);
        memcpy(&k->kb[kb].d[r], p, 4);
        return;
    }
    uint16_t d;
    if (dtype == PERI_CPU_IQ4_XS) {
        k->kb[kb].t[r] = iq4_xs(p, a);
        memcpy(&d, p, sizeof d);
    } else {
        int is_q6 = dtype == PERI_CPU_Q6_K;
        vi sc =
            scales_of_16(is_q6 ? _mm_loadu_si128((const __m128i *)(p + 192)) : q3_k_scales(p + 96));
        vi off = vi_shl32(vi_madd16(sc, a->sum), offset_bits(dtype));
        k->kb[kb].t[r] = _mm256_sub_epi32(scaled(dtype, p, sc, a), off);
        memcpy(&d, p + (is_q6 ? 208 : 108), sizeof d);
    }
    k->kb[kb].d[r] = d;
}

SIMD_FN vf chains256(uint16_t dtype, const kept *k, int n_kb, const shared *a, vf acc) {
    for (int kb = 0; kb < n_kb; kb++) {
        vi d = vi_load(k->kb[kb].d);
        vf x = vf_mul(vf_cvt(whole_sums(k->kb[kb].t)), vf_f16_low(d));
        if (HAS_MINIMA_256(dtype)) {
            vi u[4];
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                u[i] = vi_load(k->kb[kb].u + 2 * i);
            x = vf_fnma(vf_cvt(quad_sums(u)), vf_f16_low(vi_shr32(d, 16)), x);
        }
        acc = vf_fma(x, vf_set1(a[kb].dx[0]), acc);
    }
    return acc;
}

/* ---- rows ---- */

/* Columns of a segment, of some rows. */
typedef struct segment {
    const uint8_t *w, *end; /* of row 0; of what may be read */
    size_t stride;
    int32_t rows;
    int n, has_dot; /* columns; the form of the activations (linear.h) */
    const uint8_t *act;
    size_t kb_stride;
} segment;

/* The bytes that are read so far after those at p are asked for. */
SIMD_FN void ask(uintptr_t p, int bytes) {
    uintptr_t ahead = p + AHEAD; /* may be behind everything: no object's address */
#pragma GCC unroll 5
    for (int i = 0; i < bytes; i += 64)
        simd_prefetch((const void *)(ahead + (uintptr_t)i));
}

/* All activations of a segment. */
SIMD_FN void share(uint16_t dtype, const segment *g, shared *a) {
    for (int kb = 0; kb * LINEAR_K < g->n; kb++) {
        const uint8_t *act = g->act + (size_t)kb * g->kb_stride;
        ask((uintptr_t)g->w + (uintptr_t)(kb * BEFORE), BEFORE);
        if (g->has_dot)
            shared_of(dtype, act, 1, &a[kb]);
        else
            shared_of(dtype, act, 0, &a[kb]);
    }
}

SIMD_FN void rows32(uint16_t dtype, int bytes, const segment *g, const shared *a, int32_t r0,
                    kept *k) {
    int n_block = g->n / 32;
    for (int32_t r = 0; r < ROWS && r0 + r < g->rows; r++) {
        const uint8_t *p = g->w + (size_t)(r0 + r) * g->stride;
        for (int u = 0; u * 8 < n_block; u++, p += 8 * bytes) {
            uint8_t tail[TAIL_BYTES];
            const uint8_t *q = p;
            ask((uintptr_t)p, 8 * bytes);
            if (g->end - p < 8 * bytes) { /* else the next row's blocks are dropped */
                memset(tail, 0, sizeof tail);
                memcpy(tail, p, (size_t)((n_block - u * 8) * bytes));
                q = tail;
            }
            vf_store(k->x[u][r], unit32(dtype, q, bytes, &a[u]));
        }
    }
}

SIMD_FN void rows256(uint16_t dtype, int bytes, const segment *g, const shared *a, int32_t r0,
                     kept *k) {
    for (int32_t r = 0; r < ROWS && r0 + r < g->rows; r++) {
        const uint8_t *p = g->w + (size_t)(r0 + r) * g->stride;
        for (int kb = 0; kb < g->n / LINEAR_K; kb++, p += bytes) {
            ask((uintptr_t)p, bytes);
            superblock(dtype, p, &a[kb], k, kb, r);
        }
    }
}

#define SEGMENT_OF(name, span, dtype, bytes)                                                       \
    static void segment_##name(const segment *g, kept *k, float *acc) {                            \
        shared a[N_KB];                                                                            \
        share(dtype, g, a);                                                                        \
        for (int32_t r = 0; r < g->rows; r += ROWS) {                                              \
            rows##span(dtype, bytes, g, a, r, k);                                                  \
            vf_store(acc + r, chains##span(dtype, k, g->n / (span), a, vf_load(acc + r)));         \
        }                                                                                          \
    }
SEGMENT_OF(q4_0, 32, PERI_CPU_Q4_0, 18)
SEGMENT_OF(q4_1, 32, PERI_CPU_Q4_1, 20)
SEGMENT_OF(q5_0, 32, PERI_CPU_Q5_0, 22)
SEGMENT_OF(q5_1, 32, PERI_CPU_Q5_1, 24)
SEGMENT_OF(q8_0, 32, PERI_CPU_Q8_0, 34)
SEGMENT_OF(iq4_nl, 32, PERI_CPU_IQ4_NL, 18)
SEGMENT_OF(mxfp4, 32, PERI_CPU_MXFP4, 17)
SEGMENT_OF(q2_k, 256, PERI_CPU_Q2_K, 84)
SEGMENT_OF(q3_k, 256, PERI_CPU_Q3_K, 110)
SEGMENT_OF(q4_k, 256, PERI_CPU_Q4_K, 144)
SEGMENT_OF(q5_k, 256, PERI_CPU_Q5_K, 176)
SEGMENT_OF(q6_k, 256, PERI_CPU_Q6_K, 210)
SEGMENT_OF(iq4_xs, 256, PERI_CPU_IQ4_XS, 136)

static const struct {
    uint16_t dtype;
    void (*segment)(const segment *g, kept *k, float *acc);
} types[] = {
    {PERI_CPU_Q4_0, segment_q4_0},     {PERI_CPU_Q4_1, segment_q4_1},
    {PERI_CPU_Q5_0, segment_q5_0},     {PERI_CPU_Q5_1, segment_q5_1},
    {PERI_CPU_Q8_0, segment_q8_0},     {PERI_CPU_IQ4_NL, segment_iq4_nl},
    {PERI_CPU_MXFP4, segment_mxfp4},   {PERI_CPU_Q2_K, segment_q2_k},
    {PERI_CPU_Q3_K, segment_q3_k},     {PERI_CPU_Q4_K, segment_q4_k},
    {PERI_CPU_Q5_K, segment_q5_k},     {PERI_CPU_Q6_K, segment_q6_k},
    {PERI_CPU_IQ4_XS, segment_iq4_xs},
};

int linear_token_avx2(const linear_in *in, int has_dot, int64_t row0, int32_t rows, float *acc) {
    kept k;
    const linear_type *t = in->type;
    size_t i = 0;
    while (i < sizeof types / sizeof *types && types[i].dtype != t->dtype)
        i++;
    if (i == sizeof types / sizeof *types) return 0;
    int32_t groups = (rows + LINEAR_ROWS - 1) / LINEAR_ROWS;
    memset(acc, 0, (size_t)groups * LINEAR_ROWS * sizeof *acc);
    if (rows < ROWS) memset(&k, 0, sizeof k); /* of rows that are not there */
    segment g = {.end = in->w + (size_t)in->m * in->row_bytes,
                 .stride = in->row_bytes,
                 .rows = rows,
                 .has_dot = has_dot,
                 .kb_stride = in->kb_stride};
    for (int64_t col = 0; col < in->n; col += SEGMENT) {
        g.n = in->n - col < SEGMENT ? (int)(in->n - col) : SEGMENT;
        g.w = in->w + (size_t)row0 * in->row_bytes + (size_t)(col / t->block * t->block_bytes);
        g.act = in->act + (size_t)(col / LINEAR_K) * in->kb_stride;
        types[i].segment(&g, &k, acc);
    }
    return 1;
}
