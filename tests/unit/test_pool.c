/* SPDX-License-Identifier: MIT
 *
 * test_pool.c - every chunk runs exactly once, on a worker of its own, and is visible afterwards.
 * Also run under the thread sanitizer.  PERIGEE_TEST_TIMES=1 prints what an empty job costs. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/pool.h"
#include "fault.h"
#include "harness.h"

static peri_pool *new_pool(uint32_t n) {
    peri_pool *p = NULL;
    peri_error err;
    assert_ok(peri_pool_new(n, NULL, &p, &err), err);
    assert_int_equal(peri_pool_workers(p), n);
    return p;
}

typedef struct job {
    uint32_t *count; /* [n] plain memory: the pool must order the accesses */
    uint64_t per_worker[8];
    _Atomic int is_busy[8]; /* one call at a time per worker */
    _Atomic int n_clash;
    uint32_t n_worker;
} job;

static void count_chunk(void *arg, uint32_t i, uint32_t worker) {
    job *j = arg;
    if (worker >= j->n_worker || atomic_exchange(&j->is_busy[worker], 1) != 0)
        atomic_fetch_add(&j->n_clash, 1);
    j->count[i]++;
    j->per_worker[worker]++;
    atomic_store(&j->is_busy[worker], 0);
}

static void check_sizes(uint32_t n_worker) {
    enum { LARGEST = 100003 };
    static const uint32_t sizes[] = {0, 1, 2, 3, 7, 64, 1000, LARGEST, 1, 0, 2};
    peri_pool *p = new_pool(n_worker);
    job j = {.count = calloc(LARGEST, sizeof(uint32_t)), .n_worker = n_worker};
    assert_non_null(j.count);
    uint64_t total = 0, seen = 0;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        memset(j.count, 0, LARGEST * sizeof(uint32_t));
        peri_pool_run(p, sizes[s], count_chunk, &j);
        for (uint32_t i = 0; i < LARGEST; i++)
            assert_int_equal(j.count[i], i < sizes[s]);
        total += sizes[s];
    }
    for (int w = 0; w < 8; w++)
        seen += j.per_worker[w];
    assert_int_equal(seen, total);
    assert_int_equal(j.n_clash, 0);
    free(j.count);
    peri_pool_free(p);
}

static void pool_runs_every_chunk_once(void **state) {
    (void)state;
    for (uint32_t n = 1; n <= 5; n++)
        check_sizes(n);
}

static void add_one(void *arg, uint32_t i, uint32_t worker) {
    (void)worker;
    ((uint32_t *)arg)[i]++;
}

static void pool_survives_many_tiny_jobs(void **state) {
    (void)state;
    enum { N_JOB = 100000 };
    peri_pool *p = new_pool(3);
    uint32_t cell[4] = {0};
    for (uint32_t k = 0; k < N_JOB; k++) {
        peri_pool_run(p, 1 + k % 4, add_one, cell);
        /* The caller reads what workers wrote, and writes what the next job's workers read. */
        if (cell[0] != k + 1) fail_msg("job %u: first chunk ran %u times", k, cell[0]);
    }
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(cell[i], N_JOB - i * N_JOB / 4);
    peri_pool_free(p);
}

static void pool_wakes_sleeping_workers(void **state) {
    (void)state;
    peri_pool *p = new_pool(2);
    uint32_t cell[64] = {0};
    for (uint32_t k = 0; k < 200; k++) {
        struct timespec nap = {0, (long)(k % 8) * 10000}; /* around the spinning time */
        nanosleep(&nap, NULL);
        peri_pool_run(p, 64, add_one, cell);
    }
    for (uint32_t i = 0; i < 64; i++)
        assert_int_equal(cell[i], 200);
    peri_pool_free(p);
}

static void slow_second_chunk(void *arg, uint32_t i, uint32_t worker) {
    (void)worker;
    struct timespec nap = {0, 3000000};
    if (i == 0 || i == 1) nanosleep(&nap, NULL);
    ((uint32_t *)arg)[i]++;
}

static void pool_waits_for_a_slow_worker(void **state) {
    (void)state;
    peri_pool *p = new_pool(3);
    uint32_t cell[3] = {0};
    for (uint32_t k = 0; k < 30; k++) {
        peri_pool_run(p, 3, slow_second_chunk, cell);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(cell[i], k + 1);
    }
    peri_pool_free(p);
}

typedef struct stretches {
    _Atomic uint32_t n_done;
    uint32_t n, n_run[2], last[2]; /* of each worker: runs of neighbours, the last chunk */
} stretches;

/* The first chunk returns after all others. */
static void note_stretch(void *arg, uint32_t i, uint32_t worker) {
    stretches *o = arg;
    struct timespec nap = {0, 100000};
    if (o->n_run[worker] == 0 || i != o->last[worker] + 1) o->n_run[worker]++;
    o->last[worker] = i;
    while (i == 0 && atomic_load(&o->n_done) != o->n - 1)
        nanosleep(&nap, NULL);
    atomic_fetch_add(&o->n_done, 1);
}

static void pool_helps_out_with_neighbouring_chunks(void **state) {
    (void)state;
    peri_pool *p = new_pool(2);
    for (uint32_t k = 0; k < 50; k++) {
        stretches o = {.n = 64};
        peri_pool_run(p, o.n, note_stretch, &o);
        /* The own range; halves of the other's 32 chunks, 16, 8, 4, 2, 1; a last one. */
        for (int w = 0; w < 2; w++)
            if (o.n_run[w] > 7) fail_msg("job %u: worker %d ran %u stretches", k, w, o.n_run[w]);
    }
    peri_pool_free(p);
}

static void pool_idles_without_processor_time(void **state) {
    (void)state;
    peri_pool *p = new_pool(4);
    uint32_t cell[4] = {0};
    peri_pool_run(p, 4, add_one, cell);
    struct timespec nap = {0, 20000000}, a, b;
    nanosleep(&nap, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    nap.tv_nsec = 200000000;
    nanosleep(&nap, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    int64_t used_us = ((int64_t)b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000;
    if (used_us > 20000) fail_msg("200 ms of waiting used %d us", (int)used_us);
    peri_pool_free(p);
}

/* A job of two chunks, one for each worker; one of them sleeps in it, as one does that lost its
 * processor. */
typedef struct sleepy {
    _Atomic int n_inside;
    uint32_t sleeper;
    int before, after; /* the sleeper's processor */
    cpu_set_t set[2];  /* where each worker may run, as it begins */
} sleepy;

static void sleep_in_chunk(void *arg, uint32_t i, uint32_t worker) {
    (void)i;
    sleepy *s = arg;
    if (sched_getaffinity(0, sizeof s->set[0], &s->set[worker]) != 0) CPU_ZERO(&s->set[worker]);
    atomic_fetch_add(&s->n_inside, 1);
    while (atomic_load(&s->n_inside) < 2)
        sched_yield();
    if (worker != s->sleeper) return;
    s->before = sched_getcpu();
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    s->after = sched_getcpu();
}

static void pool_pins_workers_and_leaves_the_caller_alone(void **state) {
    (void)state;
    cpu_set_t before, after;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    int last = -1;
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &before)) last = c;
    int32_t cpu[2] = {last, last};
    peri_pool *p = NULL;
    peri_error err;
    assert_ok(peri_pool_new(2, cpu, &p, &err), err);
    sleepy s = {.sleeper = 2}; /* nobody */
    peri_pool_run(p, 2, sleep_in_chunk, &s);
    assert_int_equal(CPU_COUNT(&s.set[1]), 1);
    assert_true(CPU_ISSET((size_t)last, &s.set[1]));
    assert_true(CPU_EQUAL(&s.set[0], &before));
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
    peri_pool_free(p);
}

static void pool_names_a_processor_that_does_not_exist(void **state) {
    (void)state;
    int32_t cpu[2] = {0, 60000};
    peri_pool *p = NULL;
    peri_error err;
    assert_int_equal(peri_pool_new(2, cpu, &p, &err), PERI_E_OTHER);
    assert_null(p);
    assert_error(&err, PERI_E_OTHER, "worker 1 of 2 on processor 60000");
    cpu[1] = -5;
    assert_int_equal(peri_pool_new(2, cpu, &p, &err), PERI_E_OTHER);
    assert_int_equal(peri_pool_new(0, NULL, &p, &err), PERI_E_INVALID);
}

static void pool_creation_survives_lack_of_memory(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    peri_error err;
    peri_pool *p = NULL;
    for (uint64_t n = 1; n <= 2; n++) {
        f->calls = 0;
        f->fail_at = n;
        assert_int_equal(peri_pool_new(3, NULL, &p, &err), PERI_E_NOMEM);
        assert_null(p);
        assert_int_equal(f->live, 0);
    }
    f->fail_at = 0;
    assert_ok(peri_pool_new(3, NULL, &p, &err), err);
    uint64_t calls = f->calls;
    uint32_t cell[9] = {0};
    for (int k = 0; k < 100; k++)
        peri_pool_run(p, 9, add_one, cell);
    assert_int_equal(f->calls, calls); /* running allocates nothing */
    peri_pool_free(p);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

static void pool_stops_promptly(void **state) {
    (void)state;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    uint32_t cell[2] = {0};
    for (int k = 0; k < 200; k++) {
        peri_pool *p = new_pool(3);
        if (k % 2) peri_pool_run(p, 2, add_one, cell);
        peri_pool_free(p);
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    assert_int_equal(cell[1], 100);
    if (b.tv_sec - a.tv_sec > 20) fail_msg("200 pools took %d s", (int)(b.tv_sec - a.tv_sec));
}

/* A worker that woke for the last chunk may look for work only when the pool is already stopping:
 * it must neither run a chunk that does not exist nor keep the others from seeing the end. */
static void pool_stops_right_after_a_job(void **state) {
    (void)state;
    uint32_t cell[2] = {0};
    for (uint32_t k = 1; k <= 5000; k++) {
        peri_pool *p = new_pool(3);
        peri_pool_run(p, 2, add_one, cell);
        peri_pool_free(p);
        assert_int_equal(cell[0], k);
        assert_int_equal(cell[1], k);
    }
}

/* Two processors that this thread may use; returns how many there are. */
static int two_processors(int32_t cpu[2]) {
    cpu_set_t set;
    int n = 0;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    for (int32_t i = 0; i < CPU_SETSIZE && n < 2; i++)
        if (CPU_ISSET((size_t)i, &set)) cpu[n++] = i;
    return n;
}

/* Jobs in which `sleeper` sleeps, until it woke up somewhere else; fails after 200.  The caller
 * begins each on processor `begin`, free to go where it might before: were it on the worker's, as
 * the system may leave it for seconds, there would be nowhere to move to. */
static void sleep_until_moved(peri_pool *p, uint32_t sleeper, int32_t begin, sleepy *s) {
    cpu_set_t set, one;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    CPU_ZERO(&one);
    CPU_SET((size_t)begin, &one);
    for (int k = 0; k < 200; k++) {
        assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
        assert_int_equal(sched_setaffinity(0, sizeof set, &set), 0);
        *s = (sleepy){.sleeper = sleeper};
        peri_pool_run(p, 2, sleep_in_chunk, s);
        if (s->after != s->before) return;
    }
    fail_msg("200 jobs, and worker %u was never moved", sleeper);
}

static void pool_moves_a_worker_without_processor(void **state) {
    (void)state;
    int32_t cpu[2];
    if (two_processors(cpu) < 2) skip();
    cpu_set_t all, mine;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&mine);
    CPU_SET((size_t)cpu[0], &mine);
    assert_int_equal(sched_setaffinity(0, sizeof mine, &mine), 0);
    peri_pool *p = NULL;
    peri_error err;
    assert_ok(peri_pool_new(2, cpu, &p, &err), err);
    sleepy s;
    sleep_until_moved(p, 1, cpu[0], &s);
    assert_int_equal(s.after, cpu[0]);
    s = (sleepy){.sleeper = 2};
    peri_pool_run(p, 2, sleep_in_chunk, &s);
    assert_int_equal(CPU_COUNT(&s.set[1]), 1);
    assert_true(CPU_ISSET((size_t)cpu[1], &s.set[1]));
    assert_true(CPU_EQUAL(&s.set[0], &mine));
    peri_pool_free(p);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

static void pool_changes_places_with_a_caller_without_processor(void **state) {
    (void)state;
    int32_t cpu[2];
    if (two_processors(cpu) < 2) skip();
    cpu_set_t all, now;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    peri_pool *p = NULL;
    peri_error err;
    assert_ok(peri_pool_new(2, cpu, &p, &err), err);
    sleepy s;
    sleep_until_moved(p, 0, cpu[0], &s);
    assert_int_equal(sched_getaffinity(0, sizeof now, &now), 0);
    assert_true(CPU_EQUAL(&now, &all));
    s = (sleepy){.sleeper = 2};
    peri_pool_run(p, 2, sleep_in_chunk, &s);
    assert_int_equal(CPU_COUNT(&s.set[1]), 1);
    assert_true(CPU_EQUAL(&s.set[0], &all));
    peri_pool_free(p);
}

static void nothing(void *arg, uint32_t i, uint32_t worker) {
    (void)arg, (void)i, (void)worker;
}

static int order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_times(void) {
    static double us[20001];
    for (uint32_t n_worker = 1; n_worker <= 2; n_worker++) {
        peri_pool *p = new_pool(n_worker);
        for (int k = 0; k < 20001; k++) {
            struct timespec a, b;
            clock_gettime(CLOCK_MONOTONIC, &a);
            peri_pool_run(p, 16, nothing, NULL);
            clock_gettime(CLOCK_MONOTONIC, &b);
            us[k] = (double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) / 1e3;
        }
        qsort(us, 20001, sizeof us[0], order);
        print_message("empty job of 16 chunks, %u workers: median %.2f us, 90%% %.2f, 99%% %.2f\n",
                      n_worker, us[10000], us[18000], us[19800]);
        peri_pool_free(p);
    }
}

int main(void) {
    if (getenv("PERIGEE_TEST_TIMES") != NULL) print_times();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_runs_every_chunk_once),
        cmocka_unit_test(pool_survives_many_tiny_jobs),
        cmocka_unit_test(pool_wakes_sleeping_workers),
        cmocka_unit_test(pool_waits_for_a_slow_worker),
        cmocka_unit_test(pool_helps_out_with_neighbouring_chunks),
        cmocka_unit_test(pool_idles_without_processor_time),
        cmocka_unit_test(pool_pins_workers_and_leaves_the_caller_alone),
        cmocka_unit_test(pool_names_a_processor_that_does_not_exist),
        cmocka_unit_test(pool_creation_survives_lack_of_memory),
        cmocka_unit_test(pool_stops_promptly),
        cmocka_unit_test(pool_stops_right_after_a_job),
        cmocka_unit_test(pool_moves_a_worker_without_processor),
        cmocka_unit_test(pool_changes_places_with_a_caller_without_processor),
    };
    return peri_run_tests(tests);
}
