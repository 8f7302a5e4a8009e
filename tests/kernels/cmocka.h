/* SPDX-License-Identifier: MIT
 *
 * cmocka.h - as much of cmocka as the tests of the CPU plugin use, over libc alone: for processors
 * for which there is a libc here but no cmocka (PERI_KERNELS_ONLY).  Same names, same meaning: a
 * failed assertion prints file, line and both values and ends the test; the others still run.
 * Nothing else may be added but what such a test uses. */
#ifndef PERI_TEST_KERNELS_CMOCKA_H
#define PERI_TEST_KERNELS_CMOCKA_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    int (*setup_func)(void **state);
    int (*teardown_func)(void **state);
    void *initial_state;
};
#define cmocka_unit_test(f)                                                                        \
    { #f, f, NULL, NULL, NULL }

int _cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n,
                            int (*setup)(void **state), int (*teardown)(void **state));
_Noreturn void peri_cmocka_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
_Noreturn void peri_cmocka_skip(const char *file, int line);

#define fail_msg(...) peri_cmocka_fail(__FILE__, __LINE__, __VA_ARGS__)
#define skip()        peri_cmocka_skip(__FILE__, __LINE__)

#define PERI_CMOCKA_COMPARE(a, op, b)                                                              \
    do {                                                                                           \
        intmax_t a_ = (intmax_t)(a), b_ = (intmax_t)(b);                                           \
        if (!(a_ op b_))                                                                           \
            fail_msg("%s %s %s: found %" PRIdMAX ", and %" PRIdMAX, #a, #op, #b, a_, b_);          \
    } while (0)
#define assert_int_equal(a, b)     PERI_CMOCKA_COMPARE(a, ==, b)
#define assert_int_not_equal(a, b) PERI_CMOCKA_COMPARE(a, !=, b)
#define assert_in_range(x, lo, hi)                                                                 \
    do {                                                                                           \
        uintmax_t x_ = (uintmax_t)(x), lo_ = (uintmax_t)(lo), hi_ = (uintmax_t)(hi);               \
        if (x_ < lo_ || x_ > hi_)                                                                  \
            fail_msg("%s is %" PRIuMAX ", not in %" PRIuMAX " .. %" PRIuMAX, #x, x_, lo_, hi_);    \
    } while (0)
#define assert_true(x)                                                                             \
    do {                                                                                           \
        if (!(x)) fail_msg("%s is false", #x);                                                     \
    } while (0)
#define assert_false(x)                                                                            \
    do {                                                                                           \
        if (x) fail_msg("%s is true", #x);                                                         \
    } while (0)
#define assert_non_null(p)         assert_true((p) != NULL)
#define assert_null(p)             assert_true((p) == NULL)
#define assert_ptr_not_equal(a, b) assert_true((const void *)(a) != (const void *)(b))
#define assert_float_equal(a, b, eps)                                                              \
    do {                                                                                           \
        double a_ = (double)(a), b_ = (double)(b), far_ = a_ < b_ ? b_ - a_ : a_ - b_;             \
        if (!(far_ <= (double)(eps)))                                                              \
            fail_msg("%s is %g, %s is %g: further apart than %g", #a, a_, #b, b_, (double)(eps));  \
    } while (0)
#define PERI_CMOCKA_STRINGS(a, is_same, b)                                                         \
    do {                                                                                           \
        const char *a_ = (a), *b_ = (b);                                                           \
        if ((strcmp(a_, b_) == 0) != (is_same))                                                    \
            fail_msg("%s is \"%s\", %s is \"%s\"", #a, a_, #b, b_);                                \
    } while (0)
#define assert_string_equal(a, b)     PERI_CMOCKA_STRINGS(a, 1, b)
#define assert_string_not_equal(a, b) PERI_CMOCKA_STRINGS(a, 0, b)
#define assert_memory_equal(a, b, n)                                                               \
    do {                                                                                           \
        const unsigned char *a_ = (const void *)(a), *b_ = (const void *)(b);                      \
        for (size_t i_ = 0; i_ < (size_t)(n); i_++)                                                \
            if (a_[i_] != b_[i_])                                                                  \
                fail_msg("byte %zu of %s is 0x%02x, of %s 0x%02x", i_, #a, a_[i_], #b, b_[i_]);    \
    } while (0)

#endif
