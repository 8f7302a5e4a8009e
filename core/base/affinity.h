/* SPDX-License-Identifier: MIT
 *
 * affinity.h - where threads of this process run, by the operating system's thread number. */
#ifndef PERI_BASE_AFFINITY_H
#define PERI_BASE_AFFINITY_H

#ifndef _GNU_SOURCE
#error "affinity.h needs _GNU_SOURCE, for cpu_set_t"
#endif
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

/* The calling thread's number. */
int32_t peri_thread_id(void);
/* The processor the calling thread is on; -1 where that is not known, or beyond a cpu_set_t. */
int32_t peri_thread_cpu(void);

/* Has the thread had no processor time for two microseconds?  False also when that cannot be told.
 * Takes those two microseconds. */
bool peri_thread_is_stalled(int32_t tid);

/* tid 0: the calling thread.  False when the system refuses, or has more processors than a
 * cpu_set_t. */
bool peri_thread_affinity(int32_t tid, cpu_set_t *set);
bool peri_thread_restrict(int32_t tid, const cpu_set_t *set);
/* To one processor.  A thread that waits for a processor moves at once. */
bool peri_thread_move(int32_t tid, int32_t cpu);

#endif
