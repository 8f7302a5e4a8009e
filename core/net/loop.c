/* SPDX-License-Identifier: MIT
 *
 * loop.c - see loop.h.  The base is used by one thread only, so libevent needs no locks: other
 * threads touch the list of posts, under our mutex, and an eventfd that the base watches. */
#include "net/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/status.h"

#include "base/compiler.h"

struct peri_signal {
    int fd; /* eventfd, does not block */
};

struct peri_watch {
    struct event *event;
    peri_loop_fn fn;
    void *user;
};

struct peri_timer {
    struct event *event;
    peri_loop_fn fn;
    void *user;
};

struct peri_loop {
    struct event_base *base;
    peri_signal *posted;
    peri_watch *posted_watch;
    pthread_mutex_t lock; /* guards first, last */
    peri_post *first, *last;
};

/* ---- libevent's memory --------------------------------------------------------------------------
 */

static void *event_alloc(size_t bytes) {
    return peri_alloc(bytes);
}

static void *event_resize(void *p, size_t bytes) {
    return peri_resize_array(p, bytes, 1);
}

static void event_release(void *p) {
    peri_free(p);
}

/* libevent would print; what goes wrong is told by our statuses. */
static void event_be_silent(int severity, const char *text) {
    (void)severity;
    (void)text;
}

static void event_setup(void) {
    event_set_mem_functions(event_alloc, event_resize, event_release);
    event_set_log_callback(event_be_silent);
}

/* ---- signals ------------------------------------------------------------------------------------
 */

peri_status peri_signal_new(peri_signal **out, peri_error *err) {
    *out = NULL;
    peri_signal *s = peri_alloc(sizeof *s);
    if (!s) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    s->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->fd < 0) {
        peri_free(s);
        return peri_fail(err, PERI_E_OTHER, "cannot make an event descriptor: %s",
                         peri_errno_text(errno));
    }
    *out = s;
    return PERI_OK;
}

void peri_signal_free(peri_signal *s) {
    if (!s) return;
    close(s->fd);
    peri_free(s);
}

void peri_signal_raise(peri_signal *s) {
    int kept = errno;
    uint64_t one = 1;
    /* EAGAIN means the counter is full: then it is raised already. */
    while (write(s->fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    errno = kept;
}

uint64_t peri_signal_take(peri_signal *s) {
    uint64_t n = 0;
    ssize_t got;
    do
        got = read(s->fd, &n, sizeof n);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof n ? n : 0;
}

/* ---- watches ------------------------------------------------------------------------------------
 */

static void on_watch(evutil_socket_t fd, short what, void *user) {
    peri_watch *w = user;
    (void)fd;
    (void)what;
    w->fn(w->user);
}

peri_status peri_watch_signal(peri_loop *l, peri_signal *s, peri_loop_fn fn, void *user,
                              peri_watch **out, peri_error *err) {
    *out = NULL;
    peri_watch *w = peri_alloc(sizeof *w);
    if (!w) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    *w = (peri_watch){event_new(l->base, s->fd, EV_READ | EV_PERSIST, on_watch, w), fn, user};
    if (!w->event || event_add(w->event, NULL)) {
        peri_watch_free(w);
        return peri_fail(err, PERI_E_NOMEM, "out of memory watching an event descriptor");
    }
    *out = w;
    return PERI_OK;
}

void peri_watch_free(peri_watch *w) {
    if (!w) return;
    if (w->event) event_free(w->event);
    peri_free(w);
}

/* ---- timers -------------------------------------------------------------------------------------
 */

static void on_timer(evutil_socket_t fd, short what, void *user) {
    peri_timer *t = user;
    (void)fd;
    (void)what;
    t->fn(t->user);
}

peri_status peri_timer_new(peri_loop *l, peri_loop_fn fn, void *user, peri_timer **out,
                           peri_error *err) {
    *out = NULL;
    peri_timer *t = peri_alloc(sizeof *t);
    if (!t) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    *t = (peri_timer){evtimer_new(l->base, on_timer, t), fn, user};
    if (!t->event) {
        peri_free(t);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a timer");
    }
    *out = t;
    return PERI_OK;
}

void peri_timer_free(peri_timer *t) {
    if (!t) return;
    event_free(t->event);
    peri_free(t);
}

peri_status peri_timer_start(peri_timer *t, uint64_t ns, peri_error *err) {
    /* libevent counts microseconds: round up, so that it is never early. */
    uint64_t us = ns / 1000 + (ns % 1000 != 0), max_s = 3155760000; /* a century */
    struct timeval tv = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
    if (us / 1000000 > max_s) tv.tv_sec = (time_t)max_s;
    /* libevent remembers the time at which a round of callbacks began; a timer counts from now. */
    event_base_update_cache_time(event_get_base(t->event));
    if (evtimer_add(t->event, &tv))
        return peri_fail(err, PERI_E_NOMEM, "out of memory starting a timer");
    return PERI_OK;
}

void peri_timer_stop(peri_timer *t) {
    evtimer_del(t->event);
}

/* ---- posts --------------------------------------------------------------------------------------
 */

void peri_loop_post(peri_loop *l, peri_post *post) {
    post->next = NULL;
    pthread_mutex_lock(&l->lock);
    bool was_empty = !l->first;
    if (was_empty)
        l->first = post;
    else
        l->last->next = post;
    l->last = post;
    /* Inside the lock: the loop may be freed as soon as it has seen this post. */
    if (was_empty) peri_signal_raise(l->posted);
    pthread_mutex_unlock(&l->lock);
}

bool peri_loop_drain(peri_loop *l) {
    pthread_mutex_lock(&l->lock);
    peri_signal_take(l->posted);
    peri_post *p = l->first;
    l->first = l->last = NULL;
    pthread_mutex_unlock(&l->lock);
    bool had_some = p != NULL;
    while (p) {
        peri_post *next = p->next; /* fn may free or post p */
        p->fn(p->user);
        p = next;
    }
    return had_some;
}

static void on_posted(void *user) {
    peri_loop_drain(user);
}

/* ---- the loop -----------------------------------------------------------------------------------
 */

static struct event_base *new_base(void) {
    struct event_config *c = event_config_new();
    if (!c) return NULL;
    struct event_base *base = NULL;
    if (!event_config_set_flag(c, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV |
                                      EVENT_BASE_FLAG_PRECISE_TIMER))
        base = event_base_new_with_config(c);
    event_config_free(c);
    return base;
}

peri_status peri_loop_new(peri_loop **out, peri_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, event_setup);
    *out = NULL;
    peri_loop *l = peri_calloc(1, sizeof *l);
    if (!l) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    pthread_mutex_init(&l->lock, NULL);
    l->base = new_base();
    peri_status st =
        l->base ? PERI_OK : peri_fail(err, PERI_E_NOMEM, "cannot make an event queue: no memory");
    if (!st) st = peri_signal_new(&l->posted, err);
    if (!st) st = peri_watch_signal(l, l->posted, on_posted, l, &l->posted_watch, err);
    if (st) {
        peri_loop_free(l);
        return st;
    }
    *out = l;
    return PERI_OK;
}

void peri_loop_free(peri_loop *l) {
    if (!l) return;
    peri_watch_free(l->posted_watch);
    peri_signal_free(l->posted);
    if (l->base) event_base_free(l->base);
    pthread_mutex_destroy(&l->lock);
    peri_free(l);
}

static peri_status run_base(peri_loop *l, int how, peri_error *err) {
    if (event_base_loop(l->base, how) < 0)
        return peri_fail(err, PERI_E_OTHER, "the event queue failed: %s", peri_errno_text(errno));
    return PERI_OK;
}

peri_status peri_loop_once(peri_loop *l, peri_error *err) {
    return run_base(l, EVLOOP_ONCE, err);
}

peri_status peri_loop_poll(peri_loop *l, peri_error *err) {
    return run_base(l, EVLOOP_NONBLOCK, err);
}
