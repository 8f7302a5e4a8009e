/* SPDX-License-Identifier: MIT
 *
 * amx.c - may this process use the tiles of AMX-INT8, and those of AMX-BF16?
 *
 * Three have to agree.  The processor must have the instructions (CPUID leaf 7: AMX-TILE,
 * AMX-INT8).  The kernel must keep the tiles' state (XCR0 bits 17 and 18).  And it must have been
 * asked: the 8 KB per thread are given on request only, to all threads of the process at once, and
 * refused where a thread's signal stack has no room for them.  It is asked once, at first need, and
 * a refusal stays.  Source: Linux, Documentation/arch/x86/xstate.rst. */
#include "amx.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fast.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_TILE_CONFIG = 17, XFEATURE_TILE_DATA = 18 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char missing[96];

static uint32_t state_bits(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static void ask(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    const uint32_t tiles = 1u << XFEATURE_TILE_CONFIG | 1u << XFEATURE_TILE_DATA;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 24 & 1))
        snprintf(missing, sizeof missing, "the processor has no AMX tiles");
    else if (!(d >> 25 & 1))
        snprintf(missing, sizeof missing, "the processor has AMX tiles without int8 products");
    else if (!__get_cpuid_count(1, 0, &a, &b, &c, &d) || !(c >> 27 & 1) ||
             (state_bits() & tiles) != tiles)
        snprintf(missing, sizeof missing, "the kernel does not keep AMX tiles for threads");
    else if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILE_DATA))
        snprintf(missing, sizeof missing, "the kernel refuses AMX tiles to this process: %s",
                 strerror(errno));
}

const char *amx_missing(void) {
    pthread_once(&once, ask);
    return missing[0] ? missing : NULL;
}

const char *amx_bf16_missing(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1)) return NULL;
    return "the processor's tiles have no products of bf16";
}

#else

const char *amx_bf16_missing(void) {
    return amx_missing();
}

const char *amx_missing(void) {
    return "not built for Linux on x86-64";
}

#endif
