/* SPDX-License-Identifier: MIT
 *
 * stub.c - the library that bad_library.c is linked against and that nobody finds afterwards. */
__attribute__((visibility("default"))) int peri_stub_function(void);
int peri_stub_function(void) {
    return 0;
}
