/* SPDX-License-Identifier: MIT
 *
 * harness.c - runs a cmocka group and turns its outcome into an exit status.
 *
 * cmocka's runner returns the number of failures only: a group of which every test was skipped, or
 * that held none, would look like a success.  So each test runs through its own small group; its
 * skips are counted by wrapping the test function's state.
 *
 * Each program has a data folder of its own, new and removed in the end: a record of plugins that
 * is older than the last build warns of changed files, and fails what runs in strict mode. */
#define _GNU_SOURCE
#include "harness.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"

enum { SKIPPED = 77 };

typedef struct wrapped {
    const struct CMUnitTest *test;
    void *own;     /* the state the test itself sees */
    int has_ended; /* the body returned: neither skipped nor failed */
} wrapped;

/* skip() and a failed assertion leave by longjmp, past the last line. */
static void run_body(void **state) {
    wrapped *w = *state;
    w->test->test_func(&w->own);
    w->has_ended = 1;
}

static int run_setup(void **state) {
    wrapped *w = *state;
    return w->test->setup_func ? w->test->setup_func(&w->own) : 0;
}

static int run_teardown(void **state) {
    wrapped *w = *state;
    return w->test->teardown_func ? w->test->teardown_func(&w->own) : 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

int peri_run_group(const char *name, const struct CMUnitTest *tests, size_t n) {
    const char *slash = strrchr(name, '/');
    wrapped *w = calloc(n + 1, sizeof *w);
    struct CMUnitTest *outer = calloc(n + 1, sizeof *outer);
    char data[] = "/tmp/perigee-test-data-XXXXXX";
    if (w == NULL || outer == NULL) abort();
    if (mkdtemp(data) == NULL || setenv("XDG_DATA_HOME", data, 1) != 0) {
        fprintf(stderr, "%s: no folder for its data: %s cannot be made\n", name, data);
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        w[i].test = &tests[i];
        w[i].own = tests[i].initial_state;
        outer[i] = (struct CMUnitTest){tests[i].name, run_body, run_setup, run_teardown, &w[i]};
    }
    int failed = _cmocka_run_group_tests(slash ? slash + 1 : name, outer, n, NULL, NULL);
    nftw(data, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    size_t passed = 0;
    for (size_t i = 0; i < n; i++)
        passed += (size_t)w[i].has_ended;
    free(outer);
    free(w);
    if (failed != 0 || n == 0) return 1;
    return passed == 0 ? SKIPPED : 0;
}

void assert_error(const peri_error *err, peri_status code, const char *fragment) {
    if (err->code != code)
        fail_msg("found code %d (%s), expected %d (%s): %s", (int)err->code,
                 peri_status_name(err->code), (int)code, peri_status_name(code), err->text);
    if (strstr(err->text, fragment) == NULL)
        fail_msg("found text \"%s\", expected in it \"%s\"", err->text, fragment);
}

const char *peri_test_peer(void) {
    const char *path = getenv("PERIGEE_PEER");
    return path != NULL && access(path, X_OK) == 0 ? path : NULL;
}

const char *peri_test_data(void) {
    struct stat st;
    const char *path = getenv("PERIGEE_TEST_DATA");
    return path != NULL && stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? path : NULL;
}
