/* SPDX-License-Identifier: MIT
 *
 * fault.h - a counting allocator and file layer that fail on demand. */
#ifndef PERI_TEST_FAULT_H
#define PERI_TEST_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct peri_fault {
    uint64_t calls;   /* fallible calls so far */
    uint64_t fail_at; /* 1-based number of the call to fail; 0 = none */
    bool persistent;  /* fail that call and every later one */
    uint64_t n_more;  /* fail so many after that one: Lua tries each allocation twice */
    uint64_t live;    /* blocks (or descriptors and mappings) held now */
    uint64_t peak_bytes, live_bytes;
} peri_fault;

/* Install the counting allocator; thread-safe.  Returned object is static; reset it freely when
 * live == 0. */
peri_fault *peri_fault_alloc_install(void);
void peri_fault_alloc_remove(void);
/* Same for core/base/io.h. */
peri_fault *peri_fault_io_install(void);
void peri_fault_io_remove(void);

#endif
