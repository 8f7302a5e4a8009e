/* SPDX-License-Identifier: MIT
 *
 * mapping.c - files mapped read-only, and the guard that lets them vanish.
 *
 * Problem: when a mapped file is truncated, touching a page past its new end raises SIGBUS, which
 * kills the process.  Copying the file would cost its size in memory; checking its length before
 * each use has a race.  Choice: one SIGBUS handler per process.  It looks the fault address up in a
 * table of all mappings, replaces the missing page and all behind it with zeros, notes the offset,
 * and returns; the faulting load then yields zero and the computation runs to its end.  Whoever
 * computed asks peri_mapping_check before using the result.
 *
 * In the handler only mmap (a bare system call on Linux), atomics and the table are used: no lock,
 * no allocation.  A slot is written by the thread that opens or closes the mapping; an address can
 * only fault inside a mapping while that mapping is open, so the slot that matters is always
 * stable, and a slot caught half-written is recognised by its end changing and skipped.
 *
 * Faults elsewhere go to the handler that was there before.  Another library may put its own
 * handler over ours later: each opening of a mapping looks and puts ours on top again. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io_int.h"
#include "base/status.h"

#include "base/compiler.h"

enum { N_SLOT = 1024 }; /* mappings open at once; the largest published model has 191 shards */

typedef struct slot {
    atomic_bool is_taken;
    atomic_uintptr_t start, end; /* end is 0 while the slot names no mapping */
    atomic_uint_fast64_t lost;   /* 1 + lowest offset that vanished; 0 while whole */
} slot;

struct peri_mapping {
    const uint8_t *data;
    uint64_t size;
    slot *guard;
    char *path;
};

static slot slots[N_SLOT];
static struct sigaction previous;
static atomic_uintptr_t page_bytes;
static atomic_flag is_installing = ATOMIC_FLAG_INIT; /* guards `previous` */
/* Are we inside the previous handler?  If that one passes faults on to us in turn, stop the circle.
 */
static _Thread_local volatile sig_atomic_t is_passing __attribute__((tls_model("initial-exec")));

/* ---- the handler ----------------------------------------------------------------------------- */

static slot *slot_of(uintptr_t address, uintptr_t *start, uintptr_t *end) {
    for (int i = 0; i < N_SLOT; i++) {
        slot *s = &slots[i];
        *end = atomic_load(&s->end);
        *start = atomic_load(&s->start);
        if (address >= *start && address < *end && atomic_load(&s->end) == *end) return s;
    }
    return NULL;
}

static void pass_on(int number, siginfo_t *info, void *context) {
    bool is_plain = previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN;
    if (!is_plain && !is_passing) {
        is_passing = 1; /* a handler that leaves by longjmp keeps it set: its next fault is fatal */
        if (previous.sa_flags & SA_SIGINFO)
            previous.sa_sigaction(number, info, context);
        else
            previous.sa_handler(number);
        is_passing = 0;
    } else if (!is_plain || previous.sa_handler == SIG_DFL || info->si_code > 0) {
        /* A fault comes again when we return and then ends the process as it would have without
         * us; a signal that was sent has to be sent again. */
        struct sigaction plain = {.sa_handler = SIG_DFL};
        sigaction(number, &plain, NULL);
        if (info->si_code <= 0) raise(number);
    }
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
    int saved = errno;
    uintptr_t start, end, address = (uintptr_t)info->si_addr;
    slot *s = info->si_code == BUS_ADRERR ? slot_of(address, &start, &end) : NULL;
    if (s != NULL) {
        uintptr_t page = address & ~(page_bytes - 1);
        void *zeros = mmap((void *)page, end - page, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        if (zeros != MAP_FAILED) {
            uint_fast64_t here = page - start + 1, old = atomic_load(&s->lost);
            while ((old == 0 || here < old) && !atomic_compare_exchange_weak(&s->lost, &old, here))
                continue;
            errno = saved;
            return;
        }
    }
    pass_on(number, info, context);
    errno = saved;
}

/* false and errno when the handler could not be installed. */
static bool guard_install(void) {
    struct sigaction now, ours = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    ours.sa_sigaction = on_bus_error;
    sigemptyset(&ours.sa_mask);
    while (atomic_flag_test_and_set(&is_installing))
        usleep(100);
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    bool ok = sigaction(SIGBUS, NULL, &now) == 0;
    if (ok && !((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_bus_error)) {
        previous = now; /* complete before the first call of the handler */
        ok = sigaction(SIGBUS, &ours, NULL) == 0;
    }
    atomic_flag_clear(&is_installing);
    return ok;
}

static slot *slot_take(const void *data, uint64_t size) {
    for (int i = 0; i < N_SLOT; i++) {
        bool is_taken = false;
        if (!atomic_compare_exchange_strong(&slots[i].is_taken, &is_taken, true)) continue;
        atomic_store(&slots[i].lost, 0);
        atomic_store(&slots[i].start, (uintptr_t)data);
        atomic_store(&slots[i].end, ((uintptr_t)data + size + page_bytes - 1) & ~(page_bytes - 1));
        return &slots[i];
    }
    return NULL;
}

static void slot_give_back(slot *s) {
    if (s == NULL) return;
    atomic_store(&s->end, 0);
    atomic_store(&s->start, 0);
    atomic_store(&s->is_taken, false);
}

/* ---- mappings -------------------------------------------------------------------------------- */

static peri_status map_file(peri_mapping *m, const char *path, peri_error *err) {
    const peri_io_ops *ops = peri_io_ops_get();
    int fd;
    uint64_t size;
    peri_status status = peri_io_open_regular(path, &fd, &size, err);
    if (status != PERI_OK) return status;
    if (size == 0) {
        status = peri_fail(err, PERI_E_CORRUPT, "%s: offset 0: the file is empty", path);
    } else if (size > PTRDIFF_MAX) {
        status =
            peri_fail(err, PERI_E_RANGE, "%s: %" PRIu64 " bytes are too many to map", path, size);
    } else if (!guard_install()) {
        status = peri_io_fail(err, path, "guard against truncation", errno);
    } else if ((m->data = ops->map(ops->user, fd, (size_t)size)) == NULL) {
        status = peri_io_fail(err, path, "map", errno);
    } else {
        m->size = size;
        m->guard = slot_take(m->data, size);
        if (m->guard == NULL)
            status = peri_fail(err, PERI_E_RANGE, "%s: %d files are mapped already, expected fewer",
                               path, (int)N_SLOT);
    }
    ops->close(ops->user, fd);
    return status;
}

peri_status peri_mapping_open(const char *path, peri_mapping **out, peri_error *err) {
    *out = NULL;
    if (path == NULL || path[0] == 0) return peri_fail(err, PERI_E_INVALID, "empty file name");
    peri_mapping *m = peri_calloc(1, sizeof *m);
    if (m != NULL) m->path = peri_str_dup(peri_str_of(path));
    if (m == NULL || m->path == NULL) {
        peri_mapping_close(m);
        return peri_fail(err, PERI_E_NOMEM, "%s: out of memory for its name", path);
    }
    peri_status status = map_file(m, path, err);
    if (status != PERI_OK) {
        peri_mapping_close(m);
        return status;
    }
    *out = m;
    return PERI_OK;
}

void peri_mapping_close(peri_mapping *m) {
    const peri_io_ops *ops = peri_io_ops_get();
    if (m == NULL) return;
    slot_give_back(m->guard);
    if (m->data != NULL) ops->unmap(ops->user, (void *)(uintptr_t)m->data, (size_t)m->size);
    peri_free(m->path);
    peri_free(m);
}

const uint8_t *peri_mapping_data(const peri_mapping *m) {
    return m->data;
}

uint64_t peri_mapping_size(const peri_mapping *m) {
    return m->size;
}

const char *peri_mapping_path(const peri_mapping *m) {
    return m->path;
}

peri_status peri_mapping_check(const peri_mapping *m, peri_error *err) {
    uint64_t lost = atomic_load(&m->guard->lost);
    if (lost == 0) return PERI_OK;
    return peri_fail(err, PERI_E_IO,
                     "%s: changed while in use: page at byte %" PRIu64
                     " vanished (file was %" PRIu64 " bytes)",
                     m->path, lost - 1, m->size);
}

void peri_mapping_will_need(const peri_mapping *m, uint64_t off, uint64_t bytes) {
    if (off >= m->size || bytes == 0) return;
    if (bytes > m->size - off) bytes = m->size - off;
    uint64_t first = off & ~(uint64_t)(page_bytes - 1);
    madvise((void *)(uintptr_t)(m->data + first), (size_t)(off - first + bytes), MADV_WILLNEED);
}

/* ---- copying into memory --------------------------------------------------------------------- */

/* So much at a time is there twice; a multiple of the large page, and so large that a model makes
 * few areas of memory. */
enum { COPY_BYTES = 64 << 20 };

bool peri_has_large_pages(void) {
    char *text;
    size_t size;
    if (peri_file_read("/sys/kernel/mm/transparent_hugepage/enabled", 4096, &text, &size, NULL))
        return false;
    bool is_on = strstr(text, "[madvise]") != NULL || strstr(text, "[always]") != NULL;
    peri_free(text);
    return is_on;
}

typedef struct copy {
    uint8_t *to;
    const uint8_t *from;
    size_t bytes;
} copy;

static void copy_large_page(void *arg, uint32_t i, uint32_t worker) {
    const copy *c = arg;
    size_t at = (size_t)i * PERI_LARGE_PAGE, left = c->bytes - at;
    (void)worker;
    memcpy(c->to + at, c->from + at, left < PERI_LARGE_PAGE ? left : PERI_LARGE_PAGE);
}

/* Anonymous memory in large pages, at a border of them; NULL when there is none. */
static uint8_t *take_large(size_t bytes) {
    const uintptr_t large = PERI_LARGE_PAGE;
    uint8_t *all =
        mmap(NULL, bytes + large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return NULL;
    uint8_t *p = (uint8_t *)(((uintptr_t)all + large - 1) & ~(large - 1));
    if (p > all) munmap(all, (size_t)(p - all));
    if (p < all + large) munmap(p + bytes, (size_t)(all + large - p));
    madvise(p, bytes, MADV_HUGEPAGE); /* refused: small pages, as before */
    return p;
}

/* Replace the mapped bytes from `at` on by a copy. */
static bool copy_part(peri_mapping *m, peri_pool *pool, uint64_t at, size_t bytes) {
    size_t whole = (bytes + page_bytes - 1) & ~((size_t)page_bytes - 1);
    uint8_t *target = (uint8_t *)(uintptr_t)(m->data + at), *p = take_large(whole);
    if (p == NULL) return false;
    copy c = {.to = p, .from = target, .bytes = bytes};
    peri_mapping_will_need(m, at, 2 * (uint64_t)bytes);
    peri_pool_run(pool, (uint32_t)((bytes + PERI_LARGE_PAGE - 1) / PERI_LARGE_PAGE),
                  copy_large_page, &c);
    if (mprotect(p, whole, PROT_READ) == 0 &&
        mremap(p, whole, whole, MREMAP_MAYMOVE | MREMAP_FIXED, target) != MAP_FAILED)
        return true;
    munmap(p, whole);
    return false;
}

uint64_t peri_mapping_copy_in(peri_mapping *m, peri_pool *pool,
                              bool (*go_on)(void *user, uint64_t done), void *user) {
    uint64_t done = 0;
    while (done < m->size && (go_on == NULL || go_on(user, done))) {
        uint64_t left = m->size - done;
        size_t bytes = left < COPY_BYTES ? (size_t)left : COPY_BYTES;
        if (!copy_part(m, pool, done, bytes)) break;
        done += bytes;
    }
    return done;
}
