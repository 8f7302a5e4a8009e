/* SPDX-License-Identifier: MIT
 *
 * test_dequant.c - each block layout on a block worked out by hand, and the half-precision
 * conversions over all their values.  tests/peer/dequant.py compares whole random blocks with the
 * peer's decoder. */
#include <math.h>
#include <string.h>

#include "harness.h"
#include "ref.h"

/* f16 of a few numbers. */
enum { HALF_1 = 0x3c00, HALF_2 = 0x4000, HALF_M05 = 0xb800, HALF_025 = 0x3400 };

static void put16(unsigned char *b, uint32_t half) {
    b[0] = (unsigned char)half;
    b[1] = (unsigned char)(half >> 8);
}

static float block[256];

static void decode(uint32_t dtype, const unsigned char *bytes) {
    memset(block, 0xff, sizeof block);
    ref_dequant_row(dtype, bytes, block, peri_dtype_of(dtype).n);
}

static void value_is(int i, double want) {
    if ((double)block[i] != want)
        fail_msg("element %d: %g, expected %g", i, (double)block[i], want);
}

static void dequant_plain_types(void **state) {
    (void)state;
    const double wide = -1234.5;
    unsigned char row[8] = {0x00, 0x3c, 0x00, 0xb8, 0x00, 0x34, 0xff, 0x7b};
    ref_dequant_row(PERI_CPU_F16, row, block, 4);
    value_is(0, 1);
    value_is(1, -0.5);
    value_is(2, 0.25);
    value_is(3, 65504);
    unsigned char bf[6] = {0x80, 0x3f, 0x20, 0xc1, 0x01, 0x00}; /* 1, -10, the smallest subnormal */
    ref_dequant_row(PERI_CPU_BF16, bf, block, 3);
    value_is(0, 1);
    value_is(1, -10);
    value_is(2, 0x1p-133);
    memcpy(row, &wide, 8);
    ref_dequant_row(PERI_CPU_F64, row, block, 1);
    value_is(0, -1234.5);
    unsigned char f[8] = {0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0};
    ref_dequant_row(PERI_CPU_F32, f, block, 2);
    value_is(0, 1);
    value_is(1, -2);
}

static void dequant_q4_0_and_q4_1(void **state) {
    (void)state;
    unsigned char b[20] = {0};
    put16(b, HALF_2);
    b[2] = 0x8f;  /* elements 0: 15 - 8, 16: 8 - 8 */
    b[17] = 0x1c; /* elements 15: 12 - 8, 31: 1 - 8 */
    decode(PERI_CPU_Q4_0, b);
    value_is(0, 14);
    value_is(16, 0);
    value_is(1, -16);
    value_is(15, 8);
    value_is(31, -14);
    memset(b, 0, sizeof b);
    put16(b, HALF_025);
    put16(b + 2, HALF_M05);
    b[4] = 0x2f;
    decode(PERI_CPU_Q4_1, b);
    value_is(0, 15 * 0.25 - 0.5);
    value_is(16, 0);
    value_is(31, -0.5);
}

static void dequant_q5_0_and_q5_1(void **state) {
    (void)state;
    unsigned char b[24] = {0};
    put16(b, HALF_1);
    b[2] = 0x01; /* fifth bit of element 0 */
    b[5] = 0x80; /* and of element 31 */
    b[6] = 0x03;
    b[21] = 0x90; /* element 31: 9 */
    decode(PERI_CPU_Q5_0, b);
    value_is(0, 3);
    value_is(1, -16);
    value_is(16, -16);
    value_is(31, 9);
    memset(b, 0, sizeof b);
    put16(b, HALF_M05);
    put16(b + 2, HALF_2);
    b[6] = 0x01; /* fifth bit of element 16 */
    b[8] = 0x4f; /* elements 0: 15, 16: 4 + 16 */
    decode(PERI_CPU_Q5_1, b);
    value_is(0, -5.5);
    value_is(16, -8);
    value_is(31, 2);
}

static void dequant_q8_types(void **state) {
    (void)state;
    unsigned char b[292] = {0};
    put16(b, HALF_025);
    b[2] = 0x80;
    b[33] = 0x7f;
    decode(PERI_CPU_Q8_0, b);
    value_is(0, -32);
    value_is(31, 31.75);
    memset(b, 0, sizeof b);
    put16(b, HALF_2);
    put16(b + 2, 0x7c00); /* the sum is not used */
    b[4] = 0xff;
    b[35] = 3;
    decode(PERI_CPU_Q8_1, b);
    value_is(0, -2);
    value_is(31, 6);
    memset(b, 0, sizeof b);
    b[2] = 0x80, b[3] = 0x3f; /* 1 as f32 */
    b[4] = 0x81;
    b[259] = 5;
    memset(b + 260, 0x77, 32); /* nor are the sums */
    decode(PERI_CPU_Q8_K, b);
    value_is(0, -127);
    value_is(1, 0);
    value_is(255, 5);
}

static void dequant_q2_k(void **state) {
    (void)state;
    unsigned char b[84] = {0};
    b[0] = 0x23; /* sub-block 0: scale 3, minimum 2 */
    b[9] = 0x0f; /* sub-block 9 (elements 144-159): scale 15 */
    b[15] = 0x50;
    b[16] = 0xe4;      /* elements 0, 32, 64, 96: 0 1 2 3 */
    b[16 + 32] = 0x08; /* second half, byte 0: element 128 + 32: 2 */
    b[16 + 48] = 0x02; /* byte 16: element 128 + 16: 2 */
    put16(b + 80, HALF_2);
    put16(b + 82, HALF_025);
    decode(PERI_CPU_Q2_K, b);
    value_is(0, -0.5);
    value_is(15, -0.5);
    value_is(16, 0);
    value_is(144, 60);
    value_is(145, 0);
    value_is(160, 0); /* scale 0 */
    value_is(255, -1.25);
}

static void dequant_q3_k(void **state) {
    (void)state;
    unsigned char b[110] = {0};
    b[0] = 0x01;       /* third bit of element 0 */
    b[32] = 0x03;      /* element 0: 3 */
    b[32 + 63] = 0x40; /* element 128 + 96 + 31 = 255: 1 */
    b[96] = 0x05;      /* scale 0: low 5 */
    b[96 + 7] = 0xc0;  /* scale 15: low 12 */
    b[96 + 8] = 0x03;  /* scale 0: high 3 */
    b[96 + 11] = 0x80; /* scale 15: high 2 */
    put16(b + 108, HALF_1);
    decode(PERI_CPU_Q3_K, b);
    value_is(0, (5 + 48 - 32) * 3);
    value_is(1, (5 + 48 - 32) * -4);
    value_is(16, 32 * 4); /* scale 0 - 32, number 0 - 4 */
    value_is(255, (12 + 32 - 32) * (1 - 4));
}

static void dequant_q4_k_and_q5_k(void **state) {
    (void)state;
    unsigned char b[176] = {0};
    put16(b, HALF_1);
    put16(b + 2, HALF_2);
    b[4] = 0xc5;       /* scale 0: 5; top bits of scale 4: 3 */
    b[4 + 4] = 0x47;   /* minimum 0: 7; top bits of minimum 4: 1 */
    b[4 + 8] = 0x21;   /* scale 4: 1 + 48; minimum 4: 2 + 16 */
    b[4 + 7] = 0x3f;   /* minimum 3: 63 */
    b[16] = 0xa9;      /* elements 0: 9, 32: 10 */
    b[16 + 64] = 0x0b; /* element 128, sub-block 4: 11 */
    decode(PERI_CPU_Q4_K, b);
    value_is(0, 5 * 9 - 14);
    value_is(1, -14);
    value_is(32, 0);
    value_is(96, -126);
    value_is(128, 49 * 11 - 36);
    value_is(255, 0);
    memmove(b + 48, b + 16, 128); /* the same with fifth bits */
    memset(b + 16, 0, 32);
    b[16] = 0x11; /* of elements 0 and 128 */
    decode(PERI_CPU_Q5_K, b);
    value_is(0, 5 * (9 + 16) - 14);
    value_is(128, 49 * (11 + 16) - 36);
    value_is(96, -126);
}

static void dequant_q6_k(void **state) {
    (void)state;
    unsigned char b[210] = {0};
    b[0] = 0xf1;        /* elements 0: 1, 64: 15 */
    b[64 + 63] = 0x70;  /* element 128 + 127: 7 */
    b[128] = 0x12;      /* high bits: element 0: 2, element 64: 1 */
    b[128 + 63] = 0xc0; /* element 255: 3 */
    b[192] = 0xff;      /* scale 0: -1 */
    b[192 + 4] = 3;
    b[192 + 15] = 0x80;
    put16(b + 208, HALF_2);
    decode(PERI_CPU_Q6_K, b);
    value_is(0, -2 * (1 + 32 - 32));
    value_is(1, 64);
    value_is(64, 6 * (15 + 16 - 32));
    value_is(32, 0);
    value_is(255, -256 * (7 + 48 - 32));
}

static void dequant_sixteen_values(void **state) {
    (void)state;
    unsigned char b[136] = {0};
    put16(b, HALF_2);
    b[2] = 0xf7; /* elements 0: code 7, 16: code 15 */
    b[17] = 0x80;
    decode(PERI_CPU_IQ4_NL, b);
    value_is(0, -20);
    value_is(16, 226);
    value_is(1, -254);
    value_is(31, 2);
    memset(b, 0, sizeof b);
    put16(b, HALF_025);
    b[2] = 0x0d; /* top bits of scales 0: 1, 1: 3 */
    b[3] = 0x80; /* of scale 7: 2 */
    b[4] = 0x21; /* low bits of scales 0: 1, 1: 2 */
    b[7] = 0x50; /* of scale 7: 5 */
    b[8] = 0x98; /* sub-block 0: elements 0: code 8, 16: code 9 */
    b[8 + 16] = 0xa0;
    b[135] = 0xb0; /* element 255: code 11 */
    decode(PERI_CPU_IQ4_XS, b);
    value_is(0, 0.25 * (17 - 32) * 1);
    value_is(16, 0.25 * (17 - 32) * 13);
    value_is(32, 0.25 * (50 - 32) * -127);
    value_is(48, 0.25 * (50 - 32) * 25);
    value_is(255, 0.25 * (37 - 32) * 38);
}

static void dequant_four_bit_floats(void **state) {
    (void)state;
    unsigned char b[36] = {0};
    b[0] = 129;  /* 2^2 times half a code */
    b[1] = 0xf7; /* elements 0: 6, 16: -6 */
    b[16] = 0x19;
    decode(PERI_CPU_MXFP4, b);
    value_is(0, 4 * 6);
    value_is(16, 4 * -6);
    value_is(15, 4 * -0.5);
    value_is(31, 4 * 0.5);
    value_is(1, 0);
    b[0] = 0;
    decode(PERI_CPU_MXFP4, b);
    value_is(0, 6 * 0x1p-127);
    memset(b, 0, sizeof b);
    b[0] = 0x38;      /* 1 */
    b[1] = 0x41;      /* 2 * (1 + 1/8) */
    b[2] = 0x7f;      /* counts as 0 */
    b[3] = 0x01;      /* 2^-9 */
    b[4] = 0xa3;      /* elements 0: 1.5, 8: -1 */
    b[4 + 8] = 0x50;  /* elements 16: 0, 24: 3 */
    b[4 + 16] = 0x77; /* element 32 */
    b[4 + 31] = 0x60; /* element 63: 4 */
    decode(PERI_CPU_NVFP4, b);
    value_is(0, 1.5);
    value_is(8, -1);
    value_is(16, 0);
    value_is(24, 2.25 * 3);
    value_is(32, 0);
    value_is(63, 4 * 0x1p-9);
}

static void dequant_ternary_and_binary(void **state) {
    (void)state;
    unsigned char b[66] = {0};
    put16(b, HALF_M05);
    b[2] = 0x02;  /* element 1 */
    b[17] = 0x80; /* element 127 */
    decode(PERI_CPU_Q1_0, b);
    value_is(0, 0.5);
    value_is(1, -0.5);
    value_is(126, 0.5);
    value_is(127, -0.5);
    decode(PERI_CPU_Q2_0, b); /* the same bytes: element 0: 2, 63: 2 */
    value_is(0, -0.5);
    value_is(1, 0.5);
    value_is(62, 0.5);
    value_is(63, -0.5);
    memset(b, 0, sizeof b);
    put16(b + 64, HALF_2);
    b[0] = 0xe4;  /* elements 0, 32, 64, 96: 0 1 2 3 */
    b[63] = 0x80; /* element 255: 2 */
    decode(PERI_CPU_TQ2_0, b);
    value_is(0, -2);
    value_is(32, 0);
    value_is(64, 2);
    value_is(96, 4);
    value_is(254, -2);
    value_is(255, 2);
    memset(b, 0, sizeof b);
    put16(b + 52, HALF_1);
    b[1] = 0xff;  /* five times 2 */
    b[0] = 0x80;  /* 0.5 = 0.11111 in base 3: five times 1 */
    b[47] = 0x56; /* a little over 1/3: 1 0 0 .. */
    b[51] = 0xab; /* a little over 2/3: 2 0 0 0 */
    decode(PERI_CPU_TQ1_0, b);
    value_is(0, 0);
    value_is(128, 0);
    value_is(1, 1);
    value_is(129, 1);
    value_is(2, -1);
    value_is(160 + 15, 0);
    value_is(160 + 31, -1);
    value_is(243, 1);
    value_is(247, -1);
    value_is(255, -1);
}

/* Entry 1 of IQ2_XXS and IQ2_XS: element 0 is 43, the others 8; entry 0: all 8. */
static void dequant_iq2(void **state) {
    (void)state;
    unsigned char b[82] = {0};
    put16(b, HALF_2);
    b[2] = 1; /* sub-block 0, run 0: entry 1 */
    b[6] =
        0x81; /* signs of run 0: element 0, and by parity 7; of run 1: element 0 (bit 7), and 7 */
    b[9] = 0x30; /* scale 3 */
    decode(PERI_CPU_IQ2_XXS, b);
    value_is(0, -2 * 3.5 * 0.25 * 43);
    value_is(1, 2 * 3.5 * 0.25 * 8);
    value_is(7, -2 * 3.5 * 0.25 * 8);
    value_is(8, -2 * 3.5 * 0.25 * 8);
    value_is(9, 2 * 3.5 * 0.25 * 8);
    value_is(32, 2 * 0.5 * 0.25 * 8);
    memset(b, 0, sizeof b);
    put16(b, HALF_1);
    b[2] = 1, b[3] = 0x06; /* entry 1; signs 3: elements 0 and 1 */
    b[66] = 0x91;          /* scales 0: 1, 1: 9 */
    decode(PERI_CPU_IQ2_XS, b);
    value_is(0, -1.5 * 0.25 * 43);
    value_is(1, -1.5 * 0.25 * 8);
    value_is(2, 1.5 * 0.25 * 8);
    value_is(16, 9.5 * 0.25 * 8);
    memset(b, 0, sizeof b);
    put16(b, HALF_1);
    b[2 + 31] = 0xff; /* the last run: entry 0x3ff, eight times 43 */
    b[66 + 7] = 0xc0;
    b[34 + 31] = 0x80;
    b[74 + 7] = 0x20;
    decode(PERI_CPU_IQ2_S, b);
    value_is(248, 2.5 * 0.25 * 43);
    value_is(255, -2.5 * 0.25 * 43);
    value_is(0, 0.5 * 0.25 * 8);
}

/* Entry 1 of IQ3_XXS: 20 4 4 4; entry 511 of IQ3_S: 1 1 15 15; entry 0: all 4, all 1. */
static void dequant_iq3(void **state) {
    (void)state;
    unsigned char b[110] = {0};
    put16(b, HALF_2);
    b[3] = 1;     /* elements 4-7: entry 1 */
    b[66] = 0x10; /* signs of elements 0-7: element 4, and by parity 7 */
    b[69] = 0x20; /* scale 2 */
    decode(PERI_CPU_IQ3_XXS, b);
    value_is(0, 2 * 2.5 * 0.5 * 4);
    value_is(4, -2 * 2.5 * 0.5 * 20);
    value_is(5, 2 * 2.5 * 0.5 * 4);
    value_is(7, -2 * 2.5 * 0.5 * 4);
    value_is(32, 2 * 0.5 * 0.5 * 4);
    memset(b, 0, sizeof b);
    put16(b, HALF_1);
    b[2 + 63] = 0xff; /* the last four: entry 511 */
    b[66 + 7] = 0x80;
    b[74] = 0x10;  /* sign of element 4 */
    b[106] = 0x04; /* scale of sub-block 0: 4 */
    b[109] = 0x70; /* of sub-block 7: 7 */
    decode(PERI_CPU_IQ3_S, b);
    value_is(0, 9);
    value_is(4, -9);
    value_is(32, 1);
    value_is(255, 15 * 15);
}

/* Entry 0 of IQ1: eight times -1; entry 2047: eight times 1. */
static void dequant_iq1(void **state) {
    (void)state;
    unsigned char b[56] = {0};
    put16(b, HALF_2);
    b[2 + 1] = 0xff; /* run 1: entry 0x7ff */
    b[34] = 0x38;    /* its three bits on top */
    b[35] = 0xa0;    /* sub-block 0: scale 2, delta negative */
    decode(PERI_CPU_IQ1_S, b);
    value_is(0, 2 * 5 * (-1 - 0.125));
    value_is(8, 2 * 5 * (1 - 0.125));
    value_is(32, 2 * (-1 + 0.125));
    memset(b, 0, sizeof b);
    b[31] = 0xff; /* the last run: entry 0x7ff, delta negative */
    b[32 + 15] = 0xf0;
    b[48 + 6] = 0x00; /* scale of the last 16 elements: 5 */
    b[48 + 7] = 0x3a; /* 5 << 9, top nibble of d = 3 */
    b[48 + 5] = 0xc0; /* d = 0x3c00 */
    b[48] = 0x03;     /* scale of the first 16: 3 */
    decode(PERI_CPU_IQ1_M, b);
    value_is(0, 7 * (-1 + 0.125));
    value_is(16, -1 + 0.125);
    value_is(248, 11 * (1 - 0.125));
    value_is(240, 11 * (-1 + 0.125));
}

static void dequant_knows_all_types_but_integers(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 300; i++) {
        int is_integer =
            i == PERI_CPU_I8 || i == PERI_CPU_I16 || i == PERI_CPU_I32 || i == PERI_CPU_I64;
        if (ref_can_dequant(i) != (peri_dtype_of(i).name && !is_integer))
            fail_msg("type %u: %d", i, ref_can_dequant(i));
    }
}

/* ---- half precision ---- */

static double half_value(uint32_t h) {
    int exponent = (int)(h >> 10 & 31);
    double mantissa = (double)(h & 0x3ff), sign = h & 0x8000 ? -1 : 1;
    if (exponent == 31) return mantissa != 0 ? (double)NAN : sign * (double)INFINITY;
    return sign * (exponent ? ldexp(1 + mantissa / 1024, exponent - 15) : ldexp(mantissa, -24));
}

static void half_widens_to_its_value(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        double want = half_value(h), got = (double)ref_f16_to_f32((uint16_t)h);
        if (isnan(want) ? !isnan(got) : want != got || signbit(want) != signbit(got))
            fail_msg("half 0x%04x: %g, expected %g", h, got, want);
    }
}

/* Each half, the midpoint to the next and its neighbours: nearest, ties to the even one. */
static void half_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float low = ref_f16_to_f32((uint16_t)h);
        float high = h == 0x7bff ? 65536 : ref_f16_to_f32((uint16_t)(h + 1)),
              middle = (low + high) / 2;
        assert_int_equal(ref_f32_to_f16(low), h);
        assert_int_equal(ref_f32_to_f16(-low), h | 0x8000);
        assert_int_equal(ref_f32_to_f16(middle), h + (h & 1));
        assert_int_equal(ref_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(ref_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_int_equal(ref_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(ref_f32_to_f16(-INFINITY), 0xfc00);
    assert_true(isnan(ref_f16_to_f32(ref_f32_to_f16(NAN))));
    assert_int_equal(ref_f32_to_f16(1e-30f), 0);
}

static void bf16_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7f80; h++) {
        uint32_t bits = h << 16;
        float f;
        memcpy(&f, &bits, 4);
        assert_int_equal(ref_f32_to_bf16(f), h);
        bits |= 0x8000;
        memcpy(&f, &bits, 4);
        assert_int_equal(ref_f32_to_bf16(f), h + (h & 1));
        assert_int_equal(ref_f32_to_bf16(nextafterf(f, 0)), h);
        assert_int_equal(ref_f32_to_bf16(-nextafterf(f, INFINITY)), (h + 1) | 0x8000);
    }
    float back, nan = NAN;
    uint32_t bits = (uint32_t)ref_f32_to_bf16(nan) << 16;
    memcpy(&back, &bits, 4);
    assert_true(isnan(back));
    assert_int_equal(ref_f32_to_bf16(INFINITY), 0x7f80);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dequant_plain_types),
        cmocka_unit_test(dequant_q4_0_and_q4_1),
        cmocka_unit_test(dequant_q5_0_and_q5_1),
        cmocka_unit_test(dequant_q8_types),
        cmocka_unit_test(dequant_q2_k),
        cmocka_unit_test(dequant_q3_k),
        cmocka_unit_test(dequant_q4_k_and_q5_k),
        cmocka_unit_test(dequant_q6_k),
        cmocka_unit_test(dequant_sixteen_values),
        cmocka_unit_test(dequant_four_bit_floats),
        cmocka_unit_test(dequant_ternary_and_binary),
        cmocka_unit_test(dequant_iq2),
        cmocka_unit_test(dequant_iq3),
        cmocka_unit_test(dequant_iq1),
        cmocka_unit_test(dequant_knows_all_types_but_integers),
        cmocka_unit_test(half_widens_to_its_value),
        cmocka_unit_test(half_rounds_to_nearest_even),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
    };
    return peri_run_tests(tests);
}
