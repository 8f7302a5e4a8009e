/* SPDX-License-Identifier: MIT
 *
 * pool.c - the worker threads and the ranges they claim chunks from.
 *
 * A job's chunks are dealt out as one range of neighbours per worker.  A worker claims from the
 * front of its own range; when that is empty it takes over the rear half of another's and goes on
 * with that.  Neighbouring chunks usually read neighbouring memory, and a stream that goes on
 * is much faster than one that starts anew: Q4_0 products with two workers read 37 GB/s when chunks
 * of 36 KB went to whoever came first, 49 with 72 KB, 56 with 144 KB, and 69 as two ranges (Zen 5).
 *
 * A range is one 64-bit word, first and end; a compare-and-swap on it claims a chunk, or takes over
 * its rear.  The word needs no job number: a swap that succeeds takes chunks of whichever job is
 * current, and a job stays current until every chunk that was taken was counted in `pending`.
 * Chunks taken over are in no word for a moment; whoever looks then finds less to help with.  They
 * have a word of their own, because the next worker's range may be dealt after chunks of it were
 * taken: whoever still looks for work may find the first ranges before the last are dealt.  The
 * fields of the job may be read only between a claim and that count, and are plain memory.  `epoch`
 * only tells waiting workers that there is something to look for: a job, or the end.
 *
 * Waiting.  Workers wait for epoch to change, the caller for pending == 0; both spin a
 * while and then sleep on the word itself.  Each sleeper announces itself before it sleeps and each
 * waker looks for sleepers after it wrote the word (sequentially consistent both), so no wake-up is
 * lost and a busy pool makes no system call.
 *
 * Shared processors.  A thread that loses its processor to another program usually holds a chunk,
 * and keeps it for a time slice, some 3 ms, while all others wait.  A chunk cannot be taken back,
 * but its thread can be brought along: the caller, when it has waited SPIN_NS, moves workers that
 * hold a chunk and get no processor time to its own processor and sleeps, so that they run there
 * at once; then they go home.  A worker changes places with a caller in that state: without the
 * caller no job starts, so it should have the processor that is free. */
#define _GNU_SOURCE
#include "base/pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/affinity.h"
#include "base/alloc.h"
#include "base/compiler.h"
#include "base/status.h"

enum {
    SPIN_NS = 20000, /* of the caller: about what one futex round trip costs */
    /* Of workers: longer than the caller's own work between two ops.  Beside a busy program a
     * worker that sleeps gives away the rest of its time slice. */
    WORKER_SPIN_NS = 100000,
    SPIN_PAUSES = 16,  /* between two looks at the clock */
    CACHE_LINE = 64,   /* bytes; keeps the words that different threads write apart */
    CPU_MAX = 1 << 16, /* largest processor number taken seriously */
    /* Sleep before looking again who has lost his processor: doubles up to about a time slice. */
    LOOK_NS = 100000,
    LOOK_MOST_NS = 3200000,
};

typedef struct worker {
    /* Chunks nobody claimed yet, range_of: as dealt (only `deal` fills it), and taken over from
     * others (only this worker fills it, when it is empty). */
    _Alignas(CACHE_LINE) _Atomic uint64_t dealt;
    _Atomic uint64_t taken;
    _Alignas(CACHE_LINE) _Atomic uint32_t is_working; /* may hold a chunk */
    _Atomic int32_t tid;                              /* 0: not known yet */
    _Atomic int32_t cpu;                              /* the processor it began to work on, or -1 */
    _Atomic uint32_t is_moved;                        /* by another, and has to go home */
    cpu_set_t home; /* where it may run; worker 0: valid while is_moved */
    peri_pool *pool;
    pthread_t thread;
    uint32_t index;
} worker;

struct peri_pool {
    _Alignas(CACHE_LINE) _Atomic uint32_t epoch;    /* raised after each publication */
    _Alignas(CACHE_LINE) _Atomic uint32_t pending;  /* chunks that have not returned yet */
    _Alignas(CACHE_LINE) _Atomic uint32_t n_asleep; /* workers asleep on `epoch`, or about to be */
    _Atomic uint32_t is_caller_asleep;
    _Atomic uint32_t is_rescuing; /* a worker may be about to move the caller */
    atomic_bool is_stopping;      /* set before the last epoch */
    /* The job; see the file head for when it may be read. */
    _Alignas(CACHE_LINE) peri_pool_fn fn;
    void *arg;
    uint32_t n_worker, n_thread; /* n_thread: started so far, n_worker - 1 when complete */
    bool is_pinned;
    _Atomic int32_t free_cpu; /* of those to pin to, the one without a worker */
    worker *workers;          /* [n_worker]; entry 0, the caller, has no thread */
};

static uint64_t range_of(uint32_t first, uint32_t end) {
    return (uint64_t)end << 32 | first;
}
static uint32_t first_of(uint64_t range) {
    return (uint32_t)range;
}
static uint32_t end_of(uint64_t range) {
    return (uint32_t)(range >> 32);
}

/* At most ns nanoseconds; 0: for ever. */
static void futex_wait(_Atomic uint32_t *word, uint32_t expected, long ns) {
    struct timespec limit = {.tv_nsec = ns};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, ns == 0 ? NULL : &limit, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static void cpu_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Spin until *word is (is_wanted) or is no longer `value`; false when `ns` passed first. */
static bool spin_for(_Atomic uint32_t *word, uint32_t value, bool is_wanted, int64_t ns) {
    int64_t end = 0;
    for (;;) {
        for (int i = 0; i < SPIN_PAUSES; i++) {
            if ((atomic_load_explicit(word, memory_order_acquire) == value) == is_wanted)
                return true;
            cpu_pause();
        }
        int64_t now = now_ns();
        if (end == 0)
            end = now + ns;
        else if (now >= end)
            return false;
    }
}

/* Claim the first chunk of one of the worker's own ranges. */
static bool claim(_Atomic uint64_t *range, uint32_t *chunk) {
    uint64_t r = atomic_load_explicit(range, memory_order_acquire);
    do {
        if (first_of(r) >= end_of(r)) return false;
        *chunk = first_of(r);
    } while (!atomic_compare_exchange_weak_explicit(range, &r, range_of(*chunk + 1, end_of(r)),
                                                    memory_order_acq_rel, memory_order_acquire));
    return true;
}

/* Take over the rear half of another's range, the last chunk at least; `self` has nothing left. */
static bool take_over(worker *self, _Atomic uint64_t *range) {
    uint64_t r = atomic_load_explicit(range, memory_order_acquire);
    uint32_t middle;
    do {
        if (first_of(r) >= end_of(r)) return false;
        middle = first_of(r) + (end_of(r) - first_of(r)) / 2;
    } while (!atomic_compare_exchange_weak_explicit(range, &r, range_of(first_of(r), middle),
                                                    memory_order_acq_rel, memory_order_acquire));
    atomic_store_explicit(&self->taken, range_of(middle, end_of(r)), memory_order_release);
    return true;
}

static bool find_work(peri_pool *p, worker *self) {
    for (uint32_t i = 1; i < p->n_worker; i++) {
        worker *other = &p->workers[(self->index + i) % p->n_worker];
        if (take_over(self, &other->dealt) || take_over(self, &other->taken)) return true;
    }
    return false;
}

/* Back to where it began, and free to go where it might before. */
static void go_home(worker *w) {
    if (atomic_load_explicit(&w->is_moved, memory_order_acquire) == 0) return;
    atomic_store_explicit(&w->is_moved, 0, memory_order_relaxed);
    if (w->index != 0) peri_thread_move(0, atomic_load_explicit(&w->cpu, memory_order_relaxed));
    peri_thread_restrict(0, &w->home);
}

/* The caller leaves a worker's processor, where the system has put it, for the one that has none.
 */
static void step_aside(peri_pool *p) {
    cpu_set_t set;
    if (!p->is_pinned || !peri_thread_affinity(0, &set)) return;
    int32_t cpu = atomic_load(&p->free_cpu);
    if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET((size_t)cpu, &set)) return;
    peri_thread_move(0, cpu);
    peri_thread_restrict(0, &set);
}

/* The caller's part: bring workers here that hold a chunk and get no processor time. */
static void rescue_workers(peri_pool *p) {
    int32_t here = peri_thread_cpu();
    bool is_in_the_way = false;
    for (uint32_t i = 1; i < p->n_worker && here >= 0; i++) {
        worker *w = &p->workers[i];
        int32_t tid = atomic_load(&w->tid);
        if (tid == 0 || atomic_load(&w->is_working) == 0 || atomic_load(&w->is_moved) != 0)
            continue;
        if (atomic_load(&w->cpu) == here)
            is_in_the_way = true;
        else if (peri_thread_is_stalled(tid) && peri_thread_move(tid, here))
            atomic_store(&w->is_moved, 1);
    }
    if (is_in_the_way) step_aside(p);
}

/* Give up this processor for the one where the caller was, so that the two change places.  A pinned
 * worker does so only if no other is pinned there. */
static void take_place(worker *w, int32_t here, int32_t there) {
    peri_pool *p = w->pool;
    if (p->is_pinned) {
        if (there != atomic_load(&p->free_cpu)) return;
        atomic_store(&p->free_cpu, here);
        CPU_ZERO(&w->home);
        CPU_SET((size_t)there, &w->home);
    }
    peri_thread_move(0, there);
    peri_thread_restrict(0, &w->home);
}

/* A worker's part: bring a caller here that holds a chunk and gets no processor time.  One worker
 * at a time; the caller does not return from the job while somebody may move it. */
static void rescue_caller(worker *w) {
    peri_pool *p = w->pool;
    worker *caller = &p->workers[0];
    uint32_t nobody = 0;
    if (atomic_load(&w->tid) == 0 || !atomic_compare_exchange_strong(&p->is_rescuing, &nobody, 1))
        return;
    int32_t here = peri_thread_cpu(), there = atomic_load(&caller->cpu),
            tid = atomic_load(&caller->tid);
    if (atomic_load(&p->pending) != 0 && atomic_load(&caller->is_working) != 0 &&
        atomic_load(&caller->is_moved) == 0 && here >= 0 && there >= 0 && there != here &&
        peri_thread_is_stalled(tid) && peri_thread_affinity(tid, &caller->home) &&
        CPU_ISSET((size_t)here, &caller->home) && peri_thread_move(tid, here)) {
        atomic_store(&caller->is_moved, 1);
        take_place(w, here, there);
    }
    atomic_store(&p->is_rescuing, 0);
}

/* Claim chunks until none is left and run them; then count them as returned. */
static void work(peri_pool *p, uint32_t index) {
    uint32_t n_done = 0, chunk;
    worker *self = &p->workers[index];
    if (index != 0) go_home(self); /* moved when it had just finished the last job */
    atomic_store_explicit(&self->cpu, peri_thread_cpu(), memory_order_relaxed);
    atomic_store_explicit(&self->is_working, 1, memory_order_relaxed);
    do {
        for (; claim(&self->dealt, &chunk) || claim(&self->taken, &chunk); n_done++)
            p->fn(p->arg, chunk, index);
    } while (find_work(p, self));
    atomic_store_explicit(&self->is_working, 0, memory_order_relaxed);
    if (n_done != 0 && atomic_fetch_sub(&p->pending, n_done) == n_done &&
        atomic_load(&p->is_caller_asleep) != 0)
        futex_wake(&p->pending, 1);
    if (index != 0) go_home(self);
}

/* Wait for another epoch than `seen`, with an eye on the caller while a job is under way. */
static void wait_for_job(worker *w, uint32_t seen) {
    peri_pool *p = w->pool;
    long look = LOOK_NS;
    while (!spin_for(&p->epoch, seen, false, WORKER_SPIN_NS)) {
        bool is_job = atomic_load(&p->pending) != 0;
        if (is_job) rescue_caller(w);
        atomic_fetch_add(&p->n_asleep, 1);
        futex_wait(&p->epoch, seen, is_job ? look : 0); /* at once when a job arrived meanwhile */
        atomic_fetch_sub(&p->n_asleep, 1);
        if (look < LOOK_MOST_NS) look *= 2;
    }
}

static void *worker_main(void *user) {
    worker *w = user;
    peri_pool *p = w->pool;
    uint32_t seen = 0;
    if (peri_thread_affinity(0, &w->home)) atomic_store(&w->tid, peri_thread_id());
    for (;;) {
        wait_for_job(w, seen);
        seen = atomic_load_explicit(&p->epoch, memory_order_acquire);
        if (atomic_load_explicit(&p->is_stopping, memory_order_relaxed)) return NULL;
        work(p, w->index);
    }
}

/* Restrict the thread-to-be to one processor.  0 or an errno value. */
static int pin(pthread_attr_t *attr, int32_t cpu) {
    if (cpu < 0 || cpu >= CPU_MAX) return EINVAL;
    cpu_set_t *set = CPU_ALLOC((size_t)cpu + 1);
    if (set == NULL) return ENOMEM;
    size_t bytes = CPU_ALLOC_SIZE((size_t)cpu + 1);
    CPU_ZERO_S(bytes, set);
    CPU_SET_S((size_t)cpu, bytes, set);
    int rc = pthread_attr_setaffinity_np(attr, bytes, set);
    CPU_FREE(set);
    return rc;
}

/* Start one worker.  Signals meant for the process stay with the program's own threads; those that
 * a fault raises on the spot (a vanished page of a mapped file) must stay deliverable here. */
static int start_worker(worker *w, const int32_t *cpu) {
    pthread_attr_t attr;
    sigset_t block, old;
    int rc = pthread_attr_init(&attr);
    if (rc != 0) return rc;
    if (cpu != NULL) rc = pin(&attr, *cpu);
    if (rc == 0) {
        sigfillset(&block);
        static const int on_the_spot[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP};
        for (size_t i = 0; i < sizeof on_the_spot / sizeof on_the_spot[0]; i++)
            sigdelset(&block, on_the_spot[i]);
        pthread_sigmask(SIG_SETMASK, &block, &old);
        rc = pthread_create(&w->thread, &attr, worker_main, w);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    pthread_attr_destroy(&attr);
    if (rc == 0) {
        char name[16]; /* the kernel's limit */
        snprintf(name, sizeof name, "perigee-%u", w->index % 10000);
        pthread_setname_np(w->thread, name);
    }
    return rc;
}

static worker *new_workers(peri_pool *p) {
    uint64_t bytes = (uint64_t)p->n_worker * sizeof(worker);
    worker *w = (size_t)bytes == bytes ? peri_alloc_aligned((size_t)bytes, CACHE_LINE) : NULL;
    for (uint32_t i = 0; w != NULL && i < p->n_worker; i++) {
        memset(&w[i], 0, sizeof w[i]);
        w[i].pool = p;
        w[i].index = i;
    }
    return w;
}

peri_status peri_pool_new(uint32_t n_worker, const int32_t *cpu, peri_pool **out, peri_error *err) {
    *out = NULL;
    if (n_worker == 0) return peri_fail(err, PERI_E_INVALID, "worker pool: 0 workers");
    peri_pool *p = peri_alloc_aligned(sizeof *p, CACHE_LINE);
    if (p == NULL) return peri_fail(err, PERI_E_NOMEM, "worker pool: out of memory");
    memset(p, 0, sizeof *p);
    p->n_worker = n_worker;
    p->workers = new_workers(p);
    if (p->workers == NULL) {
        peri_pool_free(p);
        return peri_fail(err, PERI_E_NOMEM, "worker pool: out of memory for %u workers", n_worker);
    }
    p->is_pinned = cpu != NULL;
    atomic_store(&p->free_cpu, cpu != NULL ? cpu[0] : -1);
    for (uint32_t i = 1; i < n_worker; i++) {
        int rc = start_worker(&p->workers[i], cpu == NULL ? NULL : &cpu[i]);
        if (rc != 0) {
            char where[32] = "any processor";
            if (cpu != NULL) snprintf(where, sizeof where, "processor %d", (int)cpu[i]);
            peri_pool_free(p);
            return peri_fail(err, rc == ENOMEM ? PERI_E_NOMEM : PERI_E_OTHER,
                             "worker pool: cannot start worker %u of %u on %s: %s", i, n_worker,
                             where, peri_errno_text(rc));
        }
        p->n_thread++;
    }
    *out = p;
    return PERI_OK;
}

void peri_pool_free(peri_pool *p) {
    if (p == NULL) return;
    atomic_store(&p->is_stopping, true);
    atomic_fetch_add(&p->epoch, 1);
    futex_wake(&p->epoch, INT_MAX);
    for (uint32_t i = 1; i <= p->n_thread; i++)
        pthread_join(p->workers[i].thread, NULL);
    peri_free(p->workers);
    peri_free(p);
}

uint32_t peri_pool_workers(const peri_pool *p) {
    return p->n_worker;
}

/* Publish the chunks, as even a range for each worker as there are; the first workers get the few
 * chunks of a small job.  Workers that are still looking may claim before this returns. */
static void deal(peri_pool *p, uint32_t n) {
    uint32_t n_range = n < p->n_worker ? n : p->n_worker, first = 0;
    for (uint32_t i = 0; i < n_range; i++) {
        uint32_t end = (uint32_t)((uint64_t)n * (i + 1) / n_range);
        atomic_store_explicit(&p->workers[i].dealt, range_of(first, end), memory_order_release);
        first = end;
    }
}

/* Until all chunks have returned, with an eye on workers that lost their processor. */
static void wait_for_workers(peri_pool *p) {
    if (spin_for(&p->pending, 0, true, SPIN_NS)) return;
    atomic_store(&p->is_caller_asleep, 1);
    long look = LOOK_NS;
    for (;;) {
        uint32_t k = atomic_load(&p->pending);
        if (k == 0) break;
        rescue_workers(p);
        futex_wait(&p->pending, k, look);
        if (look < LOOK_MOST_NS) look *= 2;
    }
    atomic_store_explicit(&p->is_caller_asleep, 0, memory_order_relaxed);
}

void peri_pool_run(peri_pool *p, uint32_t n, peri_pool_fn fn, void *arg) {
    if (n <= 1 || p->n_thread == 0) { /* nothing to share */
        for (uint32_t i = 0; i < n; i++)
            fn(arg, i, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    atomic_store_explicit(&p->workers[0].tid, peri_thread_id(), memory_order_relaxed);
    atomic_store_explicit(&p->pending, n, memory_order_relaxed); /* published with the ranges */
    deal(p, n);
    atomic_fetch_add(&p->epoch, 1);
    if (atomic_load(&p->n_asleep) != 0)
        futex_wake(&p->epoch, n - 1 < INT_MAX ? (int)(n - 1) : INT_MAX);
    work(p, 0);
    wait_for_workers(p);
    while (atomic_load(&p->is_rescuing) != 0) /* a few microseconds, and only after a long wait */
        sched_yield();
    go_home(&p->workers[0]);
}
