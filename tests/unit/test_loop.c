/* SPDX-License-Identifier: MIT
 *
 * The event loop and its worker: order, threads, sleeping instead of polling, and memory. */
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "fault.h"
#include "net/worker.h"

static uint64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static peri_loop *new_loop(void) {
    peri_loop *l;
    peri_error err;
    assert_ok(peri_loop_new(&l, &err), err);
    return l;
}

static void once(peri_loop *l) {
    peri_error err;
    assert_ok(peri_loop_once(l, &err), err);
}

typedef struct note {
    char text[64];
    size_t n;
} note;
typedef struct entry {
    note *to;
    char letter;
    peri_post post;
} entry;

static void write_letter(void *user) {
    entry *e = user;
    e->to->text[e->to->n++] = e->letter;
}

static void timers_fire_in_order_of_time_and_never_early(void **state) {
    (void)state;
    peri_loop *l = new_loop();
    note n = {"", 0};
    entry e[3] = {{.to = &n, .letter = 'a'}, {.to = &n, .letter = 'b'}, {.to = &n, .letter = 'c'}};
    peri_timer *t[3];
    peri_error err;
    static const uint64_t ns[3] = {30000000, 10000000, 20000000};
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < 3; i++) {
        assert_ok(peri_timer_new(l, write_letter, &e[i], &t[i], &err), err);
        assert_ok(peri_timer_start(t[i], ns[i], &err), err);
    }
    while (n.n < 1)
        once(l);
    assert_true(clock_ns(CLOCK_MONOTONIC) - start >= 10000000);
    while (n.n < 3)
        once(l);
    assert_true(clock_ns(CLOCK_MONOTONIC) - start >= 30000000);
    assert_string_equal(n.text, "bca");
    for (int i = 0; i < 3; i++)
        peri_timer_free(t[i]);
    peri_loop_free(l);
}

static void a_stopped_timer_stays_silent_and_a_restarted_one_moves(void **state) {
    (void)state;
    peri_loop *l = new_loop();
    note n = {"", 0};
    entry a = {.to = &n, .letter = 'a'}, b = {.to = &n, .letter = 'b'},
          c = {.to = &n, .letter = 'c'};
    peri_timer *ta, *tb, *tc;
    peri_error err;
    assert_ok(peri_timer_new(l, write_letter, &a, &ta, &err), err);
    assert_ok(peri_timer_new(l, write_letter, &b, &tb, &err), err);
    assert_ok(peri_timer_new(l, write_letter, &c, &tc, &err), err);
    assert_ok(peri_timer_start(ta, 1000000, &err), err);
    assert_ok(peri_timer_start(tb, 1000000, &err), err);
    assert_ok(peri_timer_start(tc, 10000000, &err), err);
    peri_timer_stop(ta);
    assert_ok(peri_timer_start(tb, 20000000, &err), err);
    while (n.n < 2)
        once(l);
    assert_string_equal(n.text, "cb");
    peri_timer_free(ta);
    peri_timer_free(tb);
    peri_timer_free(tc);
    peri_loop_free(l);
}

enum { N_POST = 20000, N_POSTER = 3 };
typedef struct poster {
    peri_loop *l;
    struct numbered {
        peri_post post;
        struct poster *by;
        int number;
    } item[N_POST];
    int n_seen;
    bool was_ordered;
} poster;

static void see(void *user) {
    struct numbered *i = user;
    i->by->was_ordered = i->by->was_ordered && i->number == i->by->n_seen;
    i->by->n_seen++;
}

static void *post_all(void *user) {
    poster *p = user;
    for (int i = 0; i < N_POST; i++) {
        p->item[i] = (struct numbered){.post = {.fn = see, .user = &p->item[i]}, p, i};
        peri_loop_post(p->l, &p->item[i].post);
    }
    return NULL;
}

static void posts_of_several_threads_all_arrive_each_in_its_order(void **state) {
    (void)state;
    static poster p[N_POSTER];
    pthread_t thread[N_POSTER];
    peri_loop *l = new_loop();
    for (int i = 0; i < N_POSTER; i++) {
        p[i] = (poster){.l = l, .was_ordered = true};
        assert_int_equal(pthread_create(&thread[i], NULL, post_all, &p[i]), 0);
    }
    while (p[0].n_seen + p[1].n_seen + p[2].n_seen < N_POSTER * N_POST)
        once(l);
    for (int i = 0; i < N_POSTER; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(p[i].n_seen, N_POST);
        assert_true(p[i].was_ordered);
    }
    assert_false(peri_loop_drain(l));
    peri_loop_free(l);
}

static void waiting_costs_no_processor_time(void **state) {
    (void)state;
    peri_loop *l = new_loop();
    note n = {"", 0};
    entry a = {.to = &n, .letter = 'a'};
    peri_timer *t;
    peri_error err;
    assert_ok(peri_timer_new(l, write_letter, &a, &t, &err), err);
    assert_ok(peri_timer_start(t, 300000000, &err), err);
    uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    int n_round = 0;
    for (; n.n < 1; n_round++)
        once(l);
    uint64_t used = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    if (used > 30000000) fail_msg("used %llu ns in 300 ms of waiting", (unsigned long long)used);
    assert_true(n_round <= 3);
    peri_timer_free(t);
    peri_loop_free(l);
}

/* ---- signals ---- */

static peri_signal *raised;

static void on_alarm(int number) {
    (void)number;
    peri_signal_raise(raised);
}

static uint64_t n_taken;
static void take(void *user) {
    n_taken += peri_signal_take(user);
}

static void a_signal_handler_wakes_the_loop(void **state) {
    (void)state;
    peri_loop *l = new_loop();
    peri_watch *w;
    peri_error err;
    assert_ok(peri_signal_new(&raised, &err), err);
    assert_ok(peri_watch_signal(l, raised, take, raised, &w, &err), err);
    struct sigaction sa, kept;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_alarm;
    sigaction(SIGALRM, &sa, &kept);
    struct timespec soon = {0, 20000000};
    timer_t timer;
    struct sigevent ev;
    memset(&ev, 0, sizeof ev);
    ev.sigev_notify = SIGEV_SIGNAL;
    ev.sigev_signo = SIGALRM;
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &ev, &timer), 0);
    struct itimerspec when = {.it_value = soon};
    timer_settime(timer, 0, &when, NULL);
    n_taken = 0;
    while (!n_taken)
        once(l);
    assert_int_equal(n_taken, 1);
    errno = 4711;
    peri_signal_raise(raised);
    peri_signal_raise(raised);
    assert_int_equal(errno, 4711);
    once(l);
    assert_int_equal(n_taken, 3);
    assert_int_equal(peri_signal_take(raised), 0);
    timer_delete(timer);
    sigaction(SIGALRM, &kept, NULL);
    peri_watch_free(w);
    peri_signal_free(raised);
    peri_loop_free(l);
}

/* ---- worker ---- */

typedef struct task {
    peri_job job;
    pthread_t ran_on, done_on;
    int n_run, n_done;
    bool was_run, wants_nap;
} task;

static void run_task(void *user) {
    task *t = user;
    t->ran_on = pthread_self();
    t->n_run++;
    if (t->wants_nap) nanosleep(&(struct timespec){0, 400000000}, NULL);
}

static void task_done(void *user) {
    task *t = user;
    t->done_on = pthread_self();
    t->was_run = t->job.was_run;
    t->n_done++;
}

static void jobs_run_elsewhere_and_end_on_the_loop(void **state) {
    (void)state;
    peri_loop *l = new_loop();
    peri_worker *w;
    peri_error err;
    assert_ok(peri_worker_new(l, false, &w, &err), err);
    task t[4];
    memset(t, 0, sizeof t);
    for (int i = 0; i < 4; i++) {
        t[i].job = (peri_job){.run = run_task, .done = task_done, .user = &t[i]};
        peri_worker_submit(w, &t[i].job);
    }
    while (!t[3].n_done)
        once(l);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(t[i].n_run, 1);
        assert_int_equal(t[i].n_done, 1);
        assert_true(t[i].was_run);
        assert_false(pthread_equal(t[i].ran_on, pthread_self()));
        assert_true(pthread_equal(t[i].done_on, pthread_self()));
    }
    peri_worker_free(w);
    peri_loop_free(l);
}

static void freeing_a_worker_ends_every_job_once(void **state) {
    (void)state;
    peri_loop *l = new_loop();
    peri_worker *w;
    peri_error err;
    assert_ok(peri_worker_new(l, true, &w, &err), err);
    task t[8];
    memset(t, 0, sizeof t);
    for (int i = 0; i < 8; i++) {
        t[i].wants_nap = true;
        t[i].job = (peri_job){.run = run_task, .done = task_done, .user = &t[i]};
        peri_worker_submit(w, &t[i].job);
    }
    peri_worker_free(w);
    assert_true(peri_loop_drain(l));
    int n_run = 0;
    for (int i = 0; i < 8; i++) {
        assert_int_equal(t[i].n_done, 1);
        assert_int_equal(t[i].n_run, t[i].was_run);
        n_run += t[i].n_run;
    }
    assert_true(n_run <= 2);
    peri_loop_free(l);
}

/* ---- memory ---- */

static peri_status use_everything(peri_error *err) {
    peri_loop *l = NULL;
    peri_worker *w = NULL;
    peri_timer *t = NULL;
    peri_watch *watch = NULL;
    peri_signal *s = NULL;
    note n = {"", 0};
    entry a = {.to = &n, .letter = 'a'};
    task job = {.n_run = 0};
    peri_status st = peri_loop_new(&l, err);
    if (!st) st = peri_signal_new(&s, err);
    if (!st) st = peri_watch_signal(l, s, take, s, &watch, err);
    if (!st) st = peri_worker_new(l, false, &w, err);
    if (!st) st = peri_timer_new(l, write_letter, &a, &t, err);
    if (!st) st = peri_timer_start(t, 1, err);
    if (!st) {
        job.job = (peri_job){.run = run_task, .done = task_done, .user = &job};
        peri_worker_submit(w, &job.job);
        peri_signal_raise(s);
    }
    while (!st && (!job.n_done || !n.n))
        st = peri_loop_once(l, err);
    peri_worker_free(w);
    peri_timer_free(t);
    peri_watch_free(watch);
    peri_signal_free(s);
    peri_loop_free(l);
    return st;
}

static void every_failing_allocation_is_reported_and_leaves_nothing(void **state) {
    (void)state;
    peri_error err;
    assert_ok(use_everything(&err), err); /* libevent is set up with the process's first loop */
    peri_fault *fault = peri_fault_alloc_install();
    uint64_t n = 0, n_failed = 0;
    do {
        fault->calls = 0;
        fault->fail_at = ++n;
        memset(&err, 0, sizeof err);
        peri_status st = use_everything(&err);
        assert_int_equal(fault->live, 0);
        if (st) assert_error(&err, PERI_E_NOMEM, "memory");
        n_failed += st != PERI_OK;
    } while (fault->calls >= n);
    assert_true(n_failed >= 10); /* libevent does without one of its own */
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order_of_time_and_never_early),
        cmocka_unit_test(a_stopped_timer_stays_silent_and_a_restarted_one_moves),
        cmocka_unit_test(posts_of_several_threads_all_arrive_each_in_its_order),
        cmocka_unit_test(waiting_costs_no_processor_time),
        cmocka_unit_test(a_signal_handler_wakes_the_loop),
        cmocka_unit_test(jobs_run_elsewhere_and_end_on_the_loop),
        cmocka_unit_test(freeing_a_worker_ends_every_job_once),
        cmocka_unit_test(every_failing_allocation_is_reported_and_leaves_nothing),
    };
    return peri_run_tests(tests);
}
