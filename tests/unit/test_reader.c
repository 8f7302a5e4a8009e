/* SPDX-License-Identifier: MIT
 *
 * test_reader.c - the bounds-checked cursor and checked arithmetic. */
#include "harness.h"

#include <string.h>

#include "base/reader.h"

static void reader_loads_little_endian(void **state) {
    static const uint8_t bytes[] = {1, 2, 1, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 0xff};
    peri_reader r = {"f", bytes, sizeof bytes, 0};
    peri_error err;
    uint8_t a;
    uint16_t b;
    uint32_t c;
    uint64_t d;
    (void)state;
    assert_ok(peri_read_u8(&r, "a", &a, &err), err);
    assert_ok(peri_read_u16(&r, "b", &b, &err), err);
    assert_ok(peri_read_u32(&r, "c", &c, &err), err);
    assert_ok(peri_read_u64(&r, "d", &d, &err), err);
    assert_int_equal(a, 1);
    assert_int_equal(b, 0x0102);
    assert_int_equal(c, 0x01020304);
    assert_true(d == 0xff02030405060708u);
    assert_int_equal(peri_reader_left(&r), 0);
}

static void reader_names_the_field_and_offset_at_the_end(void **state) {
    static const uint8_t bytes[10] = {0};
    peri_reader r = {"model.gguf", bytes, sizeof bytes, 7};
    peri_error err;
    uint32_t v = 42;
    uint64_t w = 43;
    (void)state;
    assert_int_equal(peri_read_u32(&r, "key count", &v, &err), PERI_E_CORRUPT);
    assert_string_equal(err.text, "model.gguf: offset 7: key count: needs 4 bytes, 3 left");
    assert_int_equal(v, 42);
    assert_int_equal(r.off, 7);
    assert_int_equal(peri_read_u64(&r, "x", &w, NULL), PERI_E_CORRUPT);
    assert_int_equal(w, 43);
}

static void reader_borrows_bytes_within_bounds_only(void **state) {
    static const uint8_t bytes[10] = {0};
    peri_reader r = {"f", bytes, sizeof bytes, 4};
    peri_error err;
    const uint8_t *p = NULL;
    (void)state;
    assert_int_equal(peri_read_bytes(&r, "s", UINT64_MAX, &p, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "needs 18446744073709551615 bytes, 6 left");
    assert_null(p);
    assert_int_equal(peri_read_bytes(&r, "s", 7, &p, &err), PERI_E_CORRUPT);
    assert_ok(peri_read_bytes(&r, "s", 6, &p, &err), err);
    assert_ptr_equal(p, bytes + 4);
    assert_ok(peri_read_bytes(&r, "s", 0, &p, &err), err);
    assert_ptr_equal(p, bytes + 10);
}

static void arithmetic_refuses_overflow(void **state) {
    uint64_t v = 5;
    (void)state;
    assert_false(peri_add_u64(UINT64_MAX, 1, &v));
    assert_false(peri_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &v));
    assert_false(peri_pad_u64(UINT64_MAX - 3, 32, &v));
    assert_int_equal(v, 5);
    assert_true(peri_add_u64(UINT64_MAX - 1, 1, &v) && v == UINT64_MAX);
    assert_true(peri_mul_u64(UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, &v));
    assert_true(v == UINT64_C(0xffffffff00000000));
    assert_true(peri_pad_u64(33, 32, &v) && v == 64);
    assert_true(peri_pad_u64(64, 32, &v) && v == 64);
    assert_true(peri_pad_u64(0, 32, &v) && v == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader_loads_little_endian),
        cmocka_unit_test(reader_names_the_field_and_offset_at_the_end),
        cmocka_unit_test(reader_borrows_bytes_within_bounds_only),
        cmocka_unit_test(arithmetic_refuses_overflow),
    };
    return peri_run_tests(tests);
}
