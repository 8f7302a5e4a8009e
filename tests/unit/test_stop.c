/* SPDX-License-Identifier: MIT
 *
 * test_stop.c - stop strings over pieces: overlaps, borders, order, and that the cuts between the
 * pieces do not matter, against a plain search over the whole text. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "fault.h"
#include "run/stop.h"

/* Feed one piece; what came out, NUL-terminated in a static buffer. */
static const char *feed(peri_stopper *s, const char *piece, int32_t want_which) {
    static char shown[256];
    peri_text out = {0};
    assert_int_equal(peri_stopper_feed(s, piece, strlen(piece), &out), want_which);
    snprintf(shown, sizeof shown, "%.*s", (int)out.size, out.size ? out.data : "");
    peri_text_fini(&out);
    return shown;
}

static const char *end(peri_stopper *s) {
    static char shown[256];
    peri_text out = {0};
    peri_stopper_end(s, &out);
    snprintf(shown, sizeof shown, "%.*s", (int)out.size, out.size ? out.data : "");
    peri_text_fini(&out);
    peri_stopper_fini(s);
    return shown;
}

static void text_is_held_while_it_may_be_a_stop_string(void **state) {
    (void)state;
    peri_stopper s = {.stop = (const char *const[]){"STOP"}, .n = 1};
    assert_string_equal(feed(&s, "say ST", -1), "say ");
    assert_string_equal(feed(&s, "O", -1), "");
    assert_string_equal(feed(&s, "NE ", -1), "STONE ");
    assert_string_equal(feed(&s, "SSTO", -1), "S");
    assert_string_equal(feed(&s, "P and more", 0), "");
    peri_stopper_fini(&s);
    peri_stopper t = {.stop = (const char *const[]){"STOP"}, .n = 1};
    assert_string_equal(feed(&t, "ST", -1), "");
    assert_string_equal(end(&t), "ST");
}

static void the_first_complete_one_ends_the_text_and_of_equals_the_longest(void **state) {
    (void)state;
    static const char *const stop[] = {"abcd", "bc", "xabc", ""};
    peri_stopper s = {.stop = stop, .n = 4};
    assert_string_equal(feed(&s, "1abcd", 1), "1a"); /* bc is complete before abcd */
    peri_stopper_fini(&s);
    peri_stopper t = {.stop = stop, .n = 4};
    assert_string_equal(feed(&t, "1xabcd", 2), "1"); /* xabc and bc at the same byte */
    peri_stopper_fini(&t);
}

static void strings_that_overlap_themselves_are_found(void **state) {
    (void)state;
    peri_stopper s = {.stop = (const char *const[]){"aab", "\n\n"}, .n = 2};
    assert_string_equal(feed(&s, "aaa", -1), "a");
    assert_string_equal(feed(&s, "b", 0), "");
    peri_stopper_fini(&s);
    peri_stopper t = {.stop = (const char *const[]){"aab", "\n\n"}, .n = 2};
    assert_string_equal(feed(&t, "x\n", -1), "x");
    assert_string_equal(feed(&t, "\n", 1), "");
    peri_stopper_fini(&t);
}

static void without_strings_everything_passes(void **state) {
    (void)state;
    peri_stopper s = {0};
    assert_string_equal(feed(&s, "all of it", -1), "all of it");
    assert_string_equal(end(&s), "");
}

/* Where the text ends, by plain search: before the string that is complete first. */
static size_t search(const char *text, const char *const *stop, size_t n, bool *found) {
    size_t size = strlen(text), longest = 0;
    for (size_t e = 1; e <= size; e++) {
        for (size_t i = 0; i < n; i++) {
            size_t k = strlen(stop[i]);
            if (k <= e && k > longest && memcmp(text + e - k, stop[i], k) == 0) longest = k;
        }
        *found = longest > 0;
        if (longest) return e - longest;
    }
    return size;
}

static void the_cuts_between_the_pieces_do_not_matter(void **state) {
    (void)state;
    static const char *const stop[] = {"aba", "bbb", "abab", "ca"};
    uint32_t x = 1;
    for (int round = 0; round < 3000; round++) {
        char text[24], got[64] = "";
        size_t n = 4 + (size_t)round % 19, used = 0, k = 1 + (size_t)round % 4;
        bool found;
        for (size_t i = 0; i < n; i++)
            text[i] = "abc"[(x = x * 1664525u + 1013904223u) >> 16 & 1 ? 0 : 1 + (x >> 24) % 2];
        text[n] = 0;
        size_t from = search(text, stop, k, &found);
        peri_stopper s = {.stop = stop, .n = (uint32_t)k};
        peri_text out = {0};
        int32_t which = -1;
        while (used < n && which < 0) {
            size_t piece = 1 + ((x = x * 1664525u + 1013904223u) >> 16) % 4;
            if (piece > n - used) piece = n - used;
            which = peri_stopper_feed(&s, text + used, piece, &out);
            used += piece;
            assert_true(out.size <= from); /* never a byte of a stop string */
        }
        assert_int_equal(which >= 0, found);
        peri_stopper_end(&s, &out);
        snprintf(got, sizeof got, "%.*s", (int)out.size, out.size ? out.data : "");
        text[from] = 0;
        assert_string_equal(got, text);
        peri_text_fini(&out);
        peri_stopper_fini(&s);
    }
}

static void a_failing_allocation_marks_the_output(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    for (uint64_t n = 1; n <= 2; n++) {
        peri_stopper s = {.stop = (const char *const[]){"ab"}, .n = 1};
        peri_text out = {0};
        f->calls = 0;
        f->fail_at = n;
        assert_int_equal(peri_stopper_feed(&s, "xxa", 3, &out), -1);
        assert_true(out.failed);
        peri_text_fini(&out);
        peri_stopper_fini(&s);
        assert_int_equal(f->live, 0);
    }
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_held_while_it_may_be_a_stop_string),
        cmocka_unit_test(the_first_complete_one_ends_the_text_and_of_equals_the_longest),
        cmocka_unit_test(strings_that_overlap_themselves_are_found),
        cmocka_unit_test(without_strings_everything_passes),
        cmocka_unit_test(the_cuts_between_the_pieces_do_not_matter),
        cmocka_unit_test(a_failing_allocation_marks_the_output),
    };
    return peri_run_tests(tests);
}
