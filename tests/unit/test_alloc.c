/* SPDX-License-Identifier: MIT
 *
 * test_alloc.c - the allocator table, the arena and the growing buffer, with failures. */
#include "harness.h"

#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/text.h"
#include "fault.h"

static void sizes_that_overflow_are_refused(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    assert_null(peri_alloc_array(SIZE_MAX / 4 + 1, 4));
    assert_null(peri_calloc(SIZE_MAX / 2, 3));
    assert_null(peri_resize_array(NULL, SIZE_MAX / 8, 16));
    assert_null(peri_alloc((size_t)PTRDIFF_MAX + 1));
    assert_null(peri_alloc_aligned(64, 48));
    assert_int_equal(f->calls, 0); /* none reached the table */
    peri_fault_alloc_remove();
}

static void requests_are_aligned_and_zeroed(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    for (size_t align = 1; align <= 4096; align *= 2) {
        void *p = peri_alloc_aligned(100, align);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (align < 16 ? 16 : align), 0);
        peri_free(p);
    }
    void *nothing = peri_alloc(0);
    assert_non_null(nothing);
    peri_free(nothing);
    unsigned char *z = peri_calloc(10, 10);
    for (int i = 0; i < 100; i++)
        assert_int_equal(z[i], 0);
    peri_free(z);
    peri_free(NULL);
    assert_int_equal(f->live, 0);
    assert_int_equal(f->live_bytes, 0);
    assert_int_equal(f->peak_bytes, 100);
    peri_fault_alloc_remove();
}

static void large_blocks_begin_at_large_pages(void **state) {
    static const size_t large = (size_t)4 << 20, page = (size_t)2 << 20;
    (void)state;
    char *p = peri_alloc_large(large + 5), *q = peri_alloc_large(large - 1);
    assert_non_null(p);
    assert_non_null(q);
    assert_int_equal((uintptr_t)p % page, 0);
    assert_int_equal((uintptr_t)q % 64, 0);
    p[0] = p[large + 4] = q[0] = q[large - 2] = 1;
    peri_free(p);
    peri_free(q);
    assert_null(peri_alloc_large(SIZE_MAX));
    peri_fault *f = peri_fault_alloc_install();
    f->fail_at = 1;
    assert_null(peri_alloc_large(large));
    peri_fault_alloc_remove();
}

static void default_table_aligns_too(void **state) {
    (void)state;
    char *p = peri_alloc_aligned(65, 64);
    assert_int_equal((uintptr_t)p % 64, 0);
    memset(p, 1, 65);
    peri_free(p);
    p = peri_resize_array(NULL, 3, 5);
    memcpy(p, "fourteen bytes", 15);
    p = peri_resize_array(p, 1000, 5);
    assert_string_equal(p, "fourteen bytes");
    peri_free(p);
}

static void nth_call_fails_once_or_for_good(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    f->fail_at = 2;
    void *a = peri_alloc(1), *b = peri_alloc(1), *c = peri_alloc(1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    peri_free(a);
    peri_free(c);
    assert_int_equal(f->live, 0);
    *f = (peri_fault){.fail_at = 1, .persistent = true};
    assert_null(peri_alloc(1));
    assert_null(peri_str_dup(PERI_STR("x")));
    assert_null(peri_strf("%d", 1));
    peri_fault_alloc_remove();
}

static void failed_resize_keeps_the_block(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    char *p = peri_str_dup(PERI_STR("still here"));
    f->fail_at = f->calls + 1;
    assert_null(peri_resize_array(p, 1000, 1));
    assert_string_equal(p, "still here");
    peri_free(p);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

static void formatted_and_copied_strings(void **state) {
    (void)state;
    char *p = peri_strf("%s-%05d", "blk", 7);
    assert_string_equal(p, "blk-00007");
    peri_free(p);
    p = peri_str_dup((peri_str){"a\0b", 3});
    assert_memory_equal(p, "a\0b", 4);
    peri_free(p);
}

static void arena_gives_aligned_zeroed_disjoint_memory(void **state) {
    enum { N = 2000 };
    static unsigned char *p[N];
    size_t total = 0;
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    peri_arena *a = peri_arena_new();
    for (size_t i = 0; i < N; i++) {
        size_t n = i % 97 == 0 ? 20000 : i % 13 + 1;
        p[i] = peri_arena_alloc(a, n, 3);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        for (size_t k = 0; k < 3 * n; k++)
            assert_int_equal(p[i][k], 0);
        memset(p[i], (int)(i % 255 + 1), 3 * n);
        total += 3 * n;
    }
    for (size_t i = 0; i < N; i++) {
        size_t n = i % 97 == 0 ? 20000 : i % 13 + 1;
        for (size_t k = 0; k < 3 * n; k++)
            assert_int_equal(p[i][k], i % 255 + 1);
    }
    assert_in_range(peri_arena_bytes(a), total, total + total / 4 + 1024 * 1024);
    assert_true(f->peak_bytes >= peri_arena_bytes(a));
    peri_arena_free(a);
    peri_arena_free(NULL);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

static void arena_stays_usable_after_a_failed_request(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    peri_arena *a = peri_arena_new();
    assert_null(peri_arena_alloc(a, SIZE_MAX, 2));
    assert_null(peri_arena_alloc(a, SIZE_MAX, 1));
    assert_null(peri_arena_alloc(a, (size_t)PTRDIFF_MAX, 1));
    char *p = peri_arena_alloc(a, 8, 1);
    assert_non_null(p);
    f->fail_at = f->calls + 1;
    assert_null(peri_arena_alloc(a, 1, 1000000));
    assert_null(peri_arena_str(a, (peri_str){p, SIZE_MAX}).data);
    peri_str s = peri_arena_str(a, PERI_STR("abc"));
    assert_string_equal(s.data, "abc");
    assert_int_equal(s.size, 3);
    peri_arena_free(a);
    assert_int_equal(f->live, 0);
    f->fail_at = f->calls + 1;
    assert_null(peri_arena_new());
    peri_fault_alloc_remove();
}

static void text_grows_and_is_terminated(void **state) {
    peri_text b = {0};
    (void)state;
    for (int i = 0; i < 1000; i++)
        peri_text_addf(&b, "%d,", i % 10);
    peri_text_add_str(&b, "end");
    peri_text_add(&b, "\0x", 2);
    assert_false(b.failed);
    assert_int_equal(b.size, 2005);
    assert_string_equal(b.data + 2000, "end");
    assert_int_equal(b.data[2005], 0);
    peri_text_fini(&b);
    assert_null(b.data);
}

static void text_stays_failed(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    peri_text b = {0};
    peri_text_add_str(&b, "kept");
    f->fail_at = f->calls + 1;
    char big[500] = {0};
    peri_text_add(&b, big, sizeof big);
    assert_true(b.failed);
    peri_text_add_str(&b, "more");
    peri_text_addf(&b, "%d", 1);
    assert_string_equal(b.data, "kept");
    peri_text_fini(&b);
    assert_false(b.failed);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(requests_are_aligned_and_zeroed),
        cmocka_unit_test(large_blocks_begin_at_large_pages),
        cmocka_unit_test(default_table_aligns_too),
        cmocka_unit_test(nth_call_fails_once_or_for_good),
        cmocka_unit_test(failed_resize_keeps_the_block),
        cmocka_unit_test(formatted_and_copied_strings),
        cmocka_unit_test(arena_gives_aligned_zeroed_disjoint_memory),
        cmocka_unit_test(arena_stays_usable_after_a_failed_request),
        cmocka_unit_test(text_grows_and_is_terminated),
        cmocka_unit_test(text_stays_failed),
    };
    return peri_run_tests(tests);
}
