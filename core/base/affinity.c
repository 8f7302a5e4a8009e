/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "base/affinity.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WATCH_NS = 2000 };

int32_t peri_thread_id(void) {
    static _Thread_local int32_t tid;
    if (tid == 0) tid = (int32_t)syscall(SYS_gettid);
    return tid;
}

int32_t peri_thread_cpu(void) {
    int cpu = sched_getcpu();
    return cpu < CPU_SETSIZE ? cpu : -1;
}

/* The clock of a thread's processor time: the kernel's encoding (linux/posix-timers_types.h), bit 2
 * "of a thread", bits 0-1 "as the scheduler counts". */
static bool cpu_time(int32_t tid, struct timespec *t) {
    clockid_t clock = (clockid_t)(~(uint32_t)tid << 3 | 6);
    return clock_gettime(clock, t) == 0;
}

bool peri_thread_is_stalled(int32_t tid) {
    struct timespec before, after, start, now;
    if (!cpu_time(tid, &before)) return false;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec < WATCH_NS);
    return cpu_time(tid, &after) && before.tv_sec == after.tv_sec &&
           before.tv_nsec == after.tv_nsec;
}

bool peri_thread_affinity(int32_t tid, cpu_set_t *set) {
    return sched_getaffinity(tid, sizeof *set, set) == 0;
}

bool peri_thread_restrict(int32_t tid, const cpu_set_t *set) {
    return sched_setaffinity(tid, sizeof *set, set) == 0;
}

bool peri_thread_move(int32_t tid, int32_t cpu) {
    if (cpu < 0 || cpu >= CPU_SETSIZE) return false;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return peri_thread_restrict(tid, &set);
}
