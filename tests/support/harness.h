/* SPDX-License-Identifier: MIT
 *
 * harness.h - the cmocka wrapper every unit test ends in. */
#ifndef PERI_TEST_HARNESS_H
#define PERI_TEST_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "perigee/types.h"

/* Runs a cmocka group.  Returns 0 when all passed, 77 when every test of the program was skipped, 1
 * when one failed or none ran.  XDG_DATA_HOME is a new folder meanwhile.  Use: `return
 * peri_run_tests(tests);` */
int peri_run_group(const char *name, const struct CMUnitTest *tests, size_t n);
#define peri_run_tests(tests) peri_run_group(__FILE__, (tests), sizeof(tests) / sizeof((tests)[0]))

/* Assert success, printing the error text otherwise. */
#define assert_ok(call, err)                                                                       \
    do {                                                                                           \
        peri_status status_ = (call);                                                              \
        if (status_ != PERI_OK) fail_msg("%s: %d: %s", #call, (int)status_, (err).text);           \
    } while (0)
/* Assert that err holds the code and that each given fragment occurs in its text. */
void assert_error(const peri_error *err, peri_status code, const char *fragment);

/* Path of the peer's runner when PERIGEE_PEER names one and it works, else NULL (then skip()). */
const char *peri_test_peer(void);
/* Folder of the reference data when PERIGEE_TEST_DATA names one, else NULL. */
const char *peri_test_data(void);

#endif
