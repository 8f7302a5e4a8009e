/* SPDX-License-Identifier: MIT
 *
 * cmocka.c - runs a group of tests, one after the other, in this process. */
#include "cmocka.h"

static jmp_buf escape;
enum { ENDED = 0, FAILED = 1, SKIPPED = 2 };

_Noreturn void peri_cmocka_fail(const char *file, int line, const char *format, ...) {
    va_list ap;
    printf("%s:%d: ", file, line);
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    printf("\n");
    longjmp(escape, FAILED);
}

_Noreturn void peri_cmocka_skip(const char *file, int line) {
    printf("%s:%d: skipped\n", file, line);
    longjmp(escape, SKIPPED);
}

static int run_one(const struct CMUnitTest *t) {
    void *state = t->initial_state;
    int outcome = setjmp(escape);
    if (outcome) return outcome; /* left by an assertion */
    if (t->setup_func && t->setup_func(&state)) return FAILED;
    t->test_func(&state);
    if (t->teardown_func && t->teardown_func(&state)) return FAILED;
    return ENDED;
}

int _cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n,
                            int (*setup)(void **state), int (*teardown)(void **state)) {
    static const char *const word[] = {"      OK", "  FAILED", " SKIPPED"};
    int failed = 0;
    void *state = NULL;
    if (setup && setup(&state)) return 1;
    for (size_t i = 0; i < n; i++) {
        int outcome = run_one(&tests[i]);
        failed += outcome == FAILED;
        printf("[ %s ] %s\n", word[outcome], tests[i].name);
        fflush(stdout);
    }
    if (teardown && teardown(&state)) failed++;
    printf("%s: %zu tests, %d failed\n", name, n, failed);
    return failed;
}
