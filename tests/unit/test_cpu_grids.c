/* SPDX-License-Identifier: MIT
 *
 * test_cpu_grids.c - the code tables against checksums of the peer's own tables, and against what
 * must hold of any correct table. */
#include <inttypes.h>

#include "grids.h"
#include "harness.h"

/* FNV-1a over the entries' bytes, lowest first. */
static uint64_t sum_of(uint64_t hash, uint64_t entry, int n_byte) {
    for (int k = 0; k < n_byte; k++)
        hash = (hash ^ (entry >> 8 * k & 255)) * 0x100000001b3u;
    return hash;
}

static void book8(const char *name, const uint64_t *book, int n, uint64_t want) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0; i < n; i++)
        hash = sum_of(hash, book[i], 8);
    if (hash != want)
        fail_msg("%s: checksum 0x%016" PRIx64 ", expected 0x%016" PRIx64, name, hash, want);
}

static void book4(const char *name, const uint32_t *book, int n, uint64_t want) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0; i < n; i++)
        hash = sum_of(hash, book[i], 4);
    if (hash != want)
        fail_msg("%s: checksum 0x%016" PRIx64 ", expected 0x%016" PRIx64, name, hash, want);
}

static void books_have_their_checksums(void **state) {
    (void)state;
    book8("IQ2_XXS", cpu_grid_iq2_xxs, 256, 0xbb4ee025b5ac6e8eu);
    book8("IQ2_XS", cpu_grid_iq2_xs, 512, 0xc9b1ee61e79909bdu);
    book8("IQ2_S", cpu_grid_iq2_s, 1024, 0x123edd38a3b62b90u);
    book8("IQ1", cpu_grid_iq1, 2048, 0x6703ed863501ae2eu);
    book4("IQ3_XXS", cpu_grid_iq3_xxs, 256, 0xdfa5dc83d6a155d5u);
    book4("IQ3_S", cpu_grid_iq3_s, 512, 0xfa37020c25b44829u);
}

/* The expanders negate bytes of IQ2 and IQ3 without looking at borrows: none may be 0. */
static void books_hold_only_their_values(void **state) {
    (void)state;
    for (int i = 0; i < 2048; i++)
        for (int k = 0; k < 8; k++) {
            int v = (int8_t)(cpu_grid_iq1[i] >> 8 * k);
            assert_in_range(v + 1, 0, 2);
            v = (int8_t)(cpu_grid_iq2_s[i % 1024] >> 8 * k);
            if (v != 8 && v != 25 && v != 43) fail_msg("IQ2_S entry %d: %d", i % 1024, v);
            assert_in_range((int8_t)(cpu_grid_iq3_xxs[i % 256] >> 8 * (k % 4)), 4, 62);
            assert_in_range((int8_t)(cpu_grid_iq3_s[i % 512] >> 8 * (k % 4)), 1, 15);
        }
}

static void sign_codes_have_an_even_number_of_bits(void **state) {
    (void)state;
    for (uint32_t s = 0; s < 128; s++) {
        uint32_t all = cpu_signs7(s), n = 0;
        for (int k = 0; k < 8; k++)
            n += all >> k & 1;
        assert_int_equal(all & 127, s);
        assert_int_equal(n % 2, 0);
    }
}

static void small_scales_are_their_numbers(void **state) {
    (void)state;
    assert_true(cpu_e8m0_half(0) == 0x1p-128f);
    assert_true(cpu_e8m0_half(1) == 0x1p-127f);
    assert_true(cpu_e8m0_half(128) == 1.0f);
    assert_true(cpu_e8m0_half(255) == 0x1p127f);
    assert_true(cpu_e4m3_half(0) == 0.0f);
    assert_true(cpu_e4m3_half(1) == 0x1p-10f);
    assert_true(cpu_e4m3_half(8) == 0x1p-7f);
    assert_true(cpu_e4m3_half(0x38) == 0.5f);
    assert_true(cpu_e4m3_half(0x7e) == 224.0f);
    assert_true(cpu_e4m3_half(0x7f) == 0.0f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(books_have_their_checksums),
        cmocka_unit_test(books_hold_only_their_values),
        cmocka_unit_test(sign_codes_have_an_even_number_of_bits),
        cmocka_unit_test(small_scales_are_their_numbers),
    };
    return peri_run_tests(tests);
}
