/* SPDX-License-Identifier: MIT
 *
 * script_rig.h - running scripts and keeping what they write, in memory that is not on the heap. */
#ifndef PERI_TEST_SCRIPT_RIG_H
#define PERI_TEST_SCRIPT_RIG_H

#include "perigee/perigee.h"

typedef struct script_said {
    char out[16384], errors[16384]; /* what is longer is cut */
    uint64_t n_write;
} script_said;
extern script_said said;

typedef struct script_way {
    uint32_t slice_ms;     /* 0: long enough for the slowest machine */
    uint64_t interrupt_at; /* raise the interrupt at that write; 0: never */
} script_way;

/* Write DIR/script.lua; in the text @DIR@ stands for the folder of rig.h and @MODEL@ for a tiny
 * random model there.  Its path: static, valid until the next call. */
const char *script_write(const char *text);
/* Run a file; said is new.  It may read and write the folder of rig.h. */
peri_status script_run(peri_runtime *rt, const char *path, script_way way, int *status,
                       peri_error *err);
/* Run a text and return its exit status; the test fails when it cannot even start. */
int script_say(peri_runtime *rt, const char *text, script_way way);
/* Run it, and compare what it wrote; errors must be empty and the status 0. */
void assert_script(peri_runtime *rt, const char *text, const char *want);

#endif
