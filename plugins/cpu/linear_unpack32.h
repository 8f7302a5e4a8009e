/* SPDX-License-Identifier: MIT
 *
 * linear_unpack32.h - the types of span 32, taken apart; included by linear_unpack.h, which has the
 * sink.
 *
 * Blocks have odd sizes, of 17 to 34 bytes, and their scales lie between the columns.  Eight blocks
 * of a row are one run of bytes: it is read 16 bytes at a time and transposed as any other, and
 * what does not begin at a multiple of four, columns and scales alike, is put together from two
 * registers.  One transposition in nine more is cheaper than to fetch the scales apart: for 256
 * columns of 16 rows in the cache and 2, 4 and 16 tokens MXFP4 went from 62, 110 and 232 GMAC/s to
 * 103, 166 and 285, Q8_0 from 72, 127 and 249 to 93, 155 and 273, Q4_0 from 100, 159 and 277 to
 * 112, 177 and 295 (Zen 5, AVX-512, one thread). */
#ifndef PERI_CPU_LINEAR_UNPACK32_H
#define PERI_CPU_LINEAR_UNPACK32_H

/* ---- runs of eight blocks ---- */

/* Bytes at .. at + 3 of each row, of a run whose bytes 4 i .. are v[i]; at is a literal. */
SIMD_FN vi dword_at(const vi *v, int at) {
    int i = at / 4;
    switch (at % 4) {
    case 1:
        return vi_or(vi_shr32(v[i], 8), vi_shl32(v[i + 1], 24));
    case 2:
        return vi_or(vi_shr32(v[i], 16), vi_shl32(v[i + 1], 16));
    case 3:
        return vi_or(vi_shr32(v[i], 24), vi_shl32(v[i + 1], 8));
    default:
        return v[i];
    }
}
/* The f16 there, at an even place. */
SIMD_FN vf half_at(const vi *v, int at) {
    return vf_f16_low(at % 4 ? vi_shr32(v[at / 4], 16) : v[at / 4]);
}
/* The byte there. */
SIMD_FN vi byte_at(const vi *v, int at) {
    vi x = v[at / 4], byte = vi_set1(255);
    switch (at % 4) {
    case 1:
        return vi_and(vi_shr32(x, 8), byte);
    case 2:
        return vi_and(vi_shr32(x, 16), byte);
    case 3:
        return vi_shr32(x, 24);
    default:
        return vi_and(x, byte);
    }
}

/* Where eight blocks of each row may be read: p, or for the last blocks of a row a copy. */
SIMD_FN const uint8_t *run_of(const uint8_t *p, size_t *s, int n_block, int bytes, uint8_t *room) {
    if (n_block == 8) return p;
    memset(room, 0, (size_t)(W * 8 * bytes));
    for (int r = 0; r < W; r++)
        memcpy(room + r * 8 * bytes, p + (size_t)r * *s, (size_t)(n_block * bytes));
    *s = (size_t)(8 * bytes);
    return room;
}

/* CALL(b, at) for the first n_block of N blocks of BYTES bytes, as soon as v has it from its byte
 * `at` on; N * BYTES is a multiple of 4, and the last 16 bytes may overlap those before. */
#define EACH_OF(N, BYTES, n_block, CALL)                                                           \
    vi v[KB_BYTES_MAX / 4];                                                                        \
    _Pragma("GCC unroll 17") for (int t = 0; 16 * t < N * BYTES; t++) {                            \
        int from = 16 * t + 16 <= N * BYTES ? 16 * t : N * BYTES - 16;                             \
        load_rows(o, p + from, s, v + from / 4);                                                   \
        _Pragma("GCC unroll 8") for (int b = 0; b < N; b++) {                                      \
            int at = b * BYTES;                                                                    \
            if ((at + BYTES - 1) / 16 == t && b < (n_block)) CALL;                                 \
        }                                                                                          \
    }
#define EACH_BLOCK(BYTES, CALL)                                                                    \
    uint8_t room[W * KB_BYTES_MAX];                                                                \
    p = run_of(p, &s, n_block, BYTES, room);                                                       \
    EACH_OF(8, BYTES, n_block, CALL)

/* ---- nibbles ---- */

/* Bits 4j .. 4j+3 of each row's dword as the value 16 in four bytes. */
SIMD_FN vi fifth_bits(vi bits, int j) {
    vi spread = shuffle_dwords(bits, (uint32_t)(j / 2) * 0x01010101u);
    vi one = vi_set1(j % 2 ? (int32_t)0x80402010u : 0x08040201);
    return vi_andnot(vi_eq0_8(vi_and(spread, one)), vi_set1_8(16));
}

/* Q4_0, Q4_1, Q5_0, Q5_1: f16 d, f16 m if has_min, u32 fifth bits if has_high, 16 bytes of nibbles.
 */
SIMD_FN void nibble_block(sink *o, const vi *v, int b, int at, int has_min, int has_high) {
    int bits_at = at + 2 + 2 * has_min;
    vi low = vi_set1_8(15), bits = has_high ? dword_at(v, bits_at) : low;
    vf_store(o->p->d + b * W, half_at(v, at));
    if (has_min) vf_store(o->p->m + b * W, half_at(v, at + 2));
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        vi x = dword_at(v, bits_at + 4 * has_high + 4 * j);
        vi lo = vi_and(x, low), hi = vi_and(vi_shr16(x, 4), low);
        if (has_high) {
            lo = vi_or(lo, fifth_bits(bits, j));
            hi = vi_or(hi, fifth_bits(bits, j + 4));
        }
        put8(o, b * 8, j, lo);
        put8(o, b * 8, j + 4, hi);
    }
    end_block(o, b);
}
SIMD_FN void unpack_q4_0(const uint8_t *p, size_t s, int n_block, sink *o) {
    EACH_BLOCK(18, nibble_block(o, v, b, at, 0, 0));
}
SIMD_FN void unpack_q4_1(const uint8_t *p, size_t s, int n_block, sink *o) {
    EACH_BLOCK(20, nibble_block(o, v, b, at, 1, 0));
}
SIMD_FN void unpack_q5_0(const uint8_t *p, size_t s, int n_block, sink *o) {
    EACH_BLOCK(22, nibble_block(o, v, b, at, 0, 1));
}
SIMD_FN void unpack_q5_1(const uint8_t *p, size_t s, int n_block, sink *o) {
    EACH_BLOCK(24, nibble_block(o, v, b, at, 1, 1));
}

/* Block b, whose 16 bytes of nibbles, numbers of values in a table, begin at `at`; signed values
 * are put16's. */
SIMD_FN void coded_block(sink *o, const vi *v, int b, int at, vi table, int is_signed) {
    vi low = vi_set1_8(15);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        vi x = dword_at(v, at + 4 * j), lo = vi_shuffle8(table, vi_and(x, low)),
           hi = vi_shuffle8(table, vi_and(vi_shr16(x, 4), low));
        if (is_signed) {
            put16(o, b * 8, j, lo);
            put16(o, b * 8, j + 4, hi);
        } else {
            put8(o, b * 8, j, lo);
            put8(o, b * 8, j + 4, hi);
        }
    }
    end_block(o, b);
}

/* IQ4_NL: f16 d, 16 bytes of nibbles. */
SIMD_FN void iq4_nl_block(sink *o, const vi *v, int b, int at) {
    vf_store(o->p->d + b * W, half_at(v, at));
    coded_block(o, v, b, at + 2, code_table(cpu_code_iq4), 1);
}
SIMD_FN void unpack_iq4_nl(const uint8_t *p, size_t s, int n_block, sink *o) {
    EACH_BLOCK(18, iq4_nl_block(o, v, b, at));
}

/* Half of an E8M0 scale: 2^(e - 128), denormal for 0 and 1 (cpu_e8m0_half). */
SIMD_FN vf e8m0_half(vi e) {
    vi one = vi_set1(1), small = vi_shl32(vi_add32(vi_and(e, one), one), 21);
    return vf_bits(vi_max32(vi_shl32(vi_add32(e, vi_set1(-1)), 23), small));
}

/* MXFP4: E8M0 scale, 16 bytes of nibbles; values -12..12 become 0..24. */
SIMD_FN void mxfp4_block(sink *o, const vi *v, int b, int at) {
    vf_store(o->p->d + b * W, e8m0_half(byte_at(v, at)));
    coded_block(o, v, b, at + 1, vi_add8(code_table(cpu_code_fp4), vi_set1_8(12)), 0);
}
SIMD_FN void unpack_mxfp4(const uint8_t *p, size_t s, int n_block, sink *o) {
    EACH_BLOCK(17, mxfp4_block(o, v, b, at));
}

/* NVFP4: four E4M3 scales, then 8 bytes of nibbles per 16 columns.  A scale's bits in f32's place
 * are its value times 2^-120; half is wanted; 0x7f is 0. */
SIMD_FN void unpack_nvfp4(const uint8_t *p, size_t s, int n_block, sink *o) {
    vi low = vi_set1_8(15), table = code_table(cpu_code_fp4), nan = vi_set1_8(0x7f);
    for (int b = 0; b < n_block; b++, p += 36) {
        vi e = gather_dword(p, s), v[4];
        e = vi_and(vi_andnot(vi_eq0_8(vi_xor(e, nan)), e), nan);
        for (int half = 0; half < 2; half++) {
            vi one = vi_set1(127);
            vf scale = vf_set1(0x1p119f);
            float *d = o->p->d + (2 * b + half) * W, *m = o->p->m + (2 * b + half) * W;
            vf_store(d, vf_mul(vf_bits(vi_shl32(vi_and(e, one), 20)), scale));
            vf_store(m, vf_mul(vf_bits(vi_shl32(vi_and(vi_shr32(e, 8), one), 20)), scale));
            e = vi_shr32(e, 16);
            load_rows(o, p + 4 + 16 * half, s, v);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) { /* v[2 i], v[2 i + 1]: bytes of sub-block i */
                int at = (2 * b + half) * 8, i = j / 2 * 4 + j % 2;
                put16(o, at, i, vi_shuffle8(table, vi_and(v[j], low)));
                put16(o, at, i + 2, vi_shuffle8(table, vi_and(vi_shr16(v[j], 4), low)));
            }
            end_block(o, 2 * b + half);
        }
    }
}

/* ---- bytes, bits and pairs ---- */

/* Q8_0: f16 d, 32 bytes. */
SIMD_FN void q8_0_block(sink *o, const vi *v, int b, int at) {
    vf_store(o->p->d + b * W, half_at(v, at));
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        put16(o, b * 8, j, dword_at(v, at + 2 + 4 * j));
    end_block(o, b);
}
SIMD_FN void unpack_q8_0(const uint8_t *p, size_t s, int n_block, sink *o) {
    EACH_BLOCK(Q8_0_BYTES, q8_0_block(o, v, b, at));
}

/* Q1_0: f16 d, 128 bits; 0 or 2. */
SIMD_FN void unpack_q1_0(const uint8_t *p, size_t s, int n_block, sink *o) {
    for (int b = 0; b < n_block; b++, p += 18) {
        vi v[4];
        load_rows(o, p + 2, s, v);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            scales(o, 0, p, s, 1, 18, o->p->d + (4 * b + i) * W);
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++)
                put8(o, (4 * b + i) * 8, j, vi_shr16(fifth_bits(v[i], j), 3));
            end_block(o, 4 * b + i);
        }
    }
}

/* Q2_0: f16 d, 64 bit pairs, four columns a byte. */
SIMD_FN void unpack_q2_0(const uint8_t *p, size_t s, int n_block, sink *o) {
    for (int b = 0; b < n_block; b++, p += 18) {
        vi v[4];
        load_rows(o, p + 2, s, v);
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            scales(o, 0, p, s, 1, 18, o->p->d + (2 * b + half) * W);
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++) {
                vi x = shuffle_dwords(v[2 * half + k / 4], (uint32_t)(k % 4) * 0x01010101u);
                vi low = vi_or(vi_and(x, vi_set1(3)), vi_and(vi_shr32(x, 2), vi_set1(0x300)));
                vi high = vi_or(vi_and(vi_shr32(x, 4), vi_set1(0x30000)),
                                vi_and(vi_shr32(x, 6), vi_set1(0x3000000)));
                put8(o, (2 * b + half) * 8, k, vi_or(low, high));
            }
            end_block(o, 2 * b + half);
        }
    }
}

#endif
