/* SPDX-License-Identifier: MIT
 *
 * test_status.c - error texts: names, escaping, cutting, wrapping; log lines; strings. */
#include "harness.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"

static void status_names_and_texts_cover_every_code(void **state) {
    (void)state;
    assert_string_equal(peri_status_name(PERI_OK), "OK");
    assert_string_equal(peri_status_name(PERI_E_NOMEM), "NOMEM");
    assert_string_equal(peri_status_text(PERI_E_NOMEM), "out of memory");
    assert_string_equal(peri_status_text(PERI_OK), "success");
    assert_string_equal(peri_status_name(7), "?");
#define CHECK(name, number, text)                                                                  \
    assert_string_equal(peri_status_name(number), #name);                                          \
    assert_string_equal(peri_status_text(number), text);
    PERI_STATUS_LIST(CHECK)
#undef CHECK
}

static void fail_formats_and_returns_the_code(void **state) {
    peri_error err;
    (void)state;
    assert_int_equal(peri_fail(&err, PERI_E_IO, "%s: %d", "a.gguf", 5), PERI_E_IO);
    assert_int_equal(err.code, PERI_E_IO);
    assert_string_equal(err.text, "a.gguf: 5");
    assert_int_equal(peri_fail(NULL, PERI_E_RANGE, "x"), PERI_E_RANGE);
}

static void fail_escapes_control_bytes(void **state) {
    peri_error err;
    (void)state;
    peri_fail(&err, PERI_E_IO, "%s", "a\x1b[31m\n\t\x7f");
    assert_string_equal(err.text, "a\\x1b[31m\\x0a\\x09\\x7f");
    peri_fail(&err, PERI_E_IO, "%s", "\xc2\x9bm"); /* C1: CSI as one character */
    assert_string_equal(err.text, "\\xc2\\x9bm");
    peri_fail(&err, PERI_E_IO, "%s",
              "\xe2\x80\xae"
              "gguf"); /* right-to-left override */
    assert_string_equal(err.text, "\\xe2\\x80\\xaegguf");
}

static void fail_keeps_utf8_and_escapes_broken_utf8(void **state) {
    peri_error err;
    (void)state;
    peri_fail(&err, PERI_E_IO, "%s", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    assert_string_equal(err.text, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    peri_fail(&err, PERI_E_IO, "%s", "\xff|\xc0\x80|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82");
    assert_string_equal(err.text,
                        "\\xff|\\xc0\\x80|\\xed\\xa0\\x80|\\xf4\\x90\\x80\\x80|\\xe2\\x82");
}

static void fail_cuts_long_text_at_a_character(void **state) {
    peri_error err;
    char text[2000];
    (void)state;
    for (size_t shift = 0; shift < 8; shift++) {
        memset(text, 'x', shift);
        for (size_t i = shift; i + 3 < sizeof text; i += 3)
            memcpy(text + i, "\xe2\x82\xac", 4);
        peri_fail(&err, PERI_E_IO, "%s", text);
        size_t n = strlen(err.text);
        assert_in_range(n, sizeof err.text - 4, sizeof err.text - 1);
        assert_string_equal(err.text + n - 3, "...");
        assert_memory_equal(err.text + n - 6, "\xe2\x82\xac", 3);
        assert_int_equal((n - 3 - shift) % 3, 0);
    }
    memset(text, 'a', sizeof err.text - 1);
    text[sizeof err.text - 1] = 0;
    peri_fail(&err, PERI_E_IO, "%s", text); /* exactly full: nothing is cut */
    assert_string_equal(err.text, text);
}

static void wrap_puts_context_in_front(void **state) {
    peri_error err;
    (void)state;
    peri_fail(&err, PERI_E_CORRUPT, "key a\n");
    assert_int_equal(peri_wrap(&err, "shard %d", 2), PERI_E_CORRUPT);
    assert_string_equal(err.text, "shard 2: key a\\x0a");
    assert_int_equal(peri_wrap(NULL, "x"), PERI_E_OTHER);
}

static void escape_survives_every_buffer_size(void **state) {
    char out[32];
    (void)state;
    for (size_t room = 0; room < sizeof out; room++) {
        memset(out, '#', sizeof out);
        bool whole = peri_escape(out, room,
                                 "ab\x01\xe2\x82\xac"
                                 "cd\x02");
        assert_int_equal(whole, room >= 16);
        for (size_t i = room; i < sizeof out; i++)
            assert_int_equal(out[i], '#');
        if (room > 0) assert_true(memchr(out, 0, room) != NULL);
    }
}

static void strings_compare_by_content(void **state) {
    (void)state;
    peri_str none = {NULL, 0};
    assert_true(peri_str_eq(none, PERI_STR("")));
    assert_true(peri_str_eq(PERI_STR("abc"), peri_str_of("abc")));
    assert_false(peri_str_eq(PERI_STR("abc"), PERI_STR("abd")));
    assert_true(peri_str_eq_c(PERI_STR("abc"), "abc"));
    assert_false(peri_str_eq_c(PERI_STR("abc\0d"), "abc"));
    assert_int_equal(peri_str_of(NULL).size, 0);
}

static int seen_level;
static char seen_line[2048];
static void remember(void *user, int level, const char *line) {
    assert_ptr_equal(user, &seen_level);
    seen_level = level;
    strncpy(seen_line, line, sizeof seen_line - 1);
}

static void log_lines_reach_the_sink_escaped(void **state) {
    (void)state;
    peri_log_set(remember, &seen_level);
    peri_log(PERI_LOG_WARN, "model %s", "a\x1b]0;owned\x07");
    assert_int_equal(seen_level, PERI_LOG_WARN);
    assert_string_equal(seen_line, "model a\\x1b]0;owned\\x07");
    peri_log_set(NULL, NULL);
    peri_log(PERI_LOG_ERROR, "dropped");
    assert_string_equal(seen_line, "model a\\x1b]0;owned\\x07");
}

static void system_errors_have_words(void **state) {
    (void)state;
    assert_string_equal(peri_errno_text(EACCES), "Permission denied");
    assert_string_equal(peri_errno_text(-1), "unknown system error");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_names_and_texts_cover_every_code),
        cmocka_unit_test(fail_formats_and_returns_the_code),
        cmocka_unit_test(fail_escapes_control_bytes),
        cmocka_unit_test(fail_keeps_utf8_and_escapes_broken_utf8),
        cmocka_unit_test(fail_cuts_long_text_at_a_character),
        cmocka_unit_test(wrap_puts_context_in_front),
        cmocka_unit_test(escape_survives_every_buffer_size),
        cmocka_unit_test(strings_compare_by_content),
        cmocka_unit_test(system_errors_have_words),
        cmocka_unit_test(log_lines_reach_the_sink_escaped),
    };
    return peri_run_tests(tests);
}
