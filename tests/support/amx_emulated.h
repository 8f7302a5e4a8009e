/* SPDX-License-Identifier: MIT
 *
 * amx_emulated.h - the tiles of AMX-INT8 and AMX-BF16 in plain C, as strict as the processor: what
 * raises an exception there ends the test here, in one line on stderr.  plugins/cpu/amx.h calls it
 * where PERI_AMX_EMULATED is defined.  Source of all rules: Intel SDM vol. 2, the instructions'
 * pages and their exception classes AMX-E1 .. E5. */
#ifndef PERI_TEST_AMX_EMULATED_H
#define PERI_TEST_AMX_EMULATED_H

#ifndef PERI_AMX_EMULATED
#define PERI_AMX_EMULATED 1
#endif
#include "amx.h"

/* Are tiles configured on this thread?  They should not be between jobs. */
int amx_emulated_in_use(void);
/* Products so far, on all threads. */
uint64_t amx_emulated_count(void);
/* Times that tiles were configured so far. */
uint64_t amx_emulated_configs(void);

#endif
