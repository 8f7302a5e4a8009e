/* SPDX-License-Identifier: MIT
 *
 * test_io.c - whole files, mappings, truncation while mapped, and failure of every call. */
#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io.h"
#include "fault.h"

static char folder[64];
static char path[128];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/perigee-io-XXXXXX");
    if (mkdtemp(folder) == NULL) return -1;
    snprintf(path, sizeof path, "%s/file", folder);
    return 0;
}

/* Also proves that nothing else was left in the folder. */
static int drop_folder(void **state) {
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void fill_file(size_t bytes) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (size_t i = 0; i < bytes; i++)
        fputc((int)(i * 7 % 251 + 1), f);
    assert_int_equal(fclose(f), 0);
}

static void written_file_reads_back(void **state) {
    peri_error err;
    char *data;
    size_t size;
    (void)state;
    assert_ok(peri_file_write(path, "hello\0there", 11, &err), err);
    assert_ok(peri_file_write(path, "again\0there", 11, &err), err);
    assert_ok(peri_file_read(path, 11, &data, &size, &err), err);
    assert_int_equal(size, 11);
    assert_memory_equal(data, "again\0there", 12);
    peri_free(data);
    assert_true(peri_file_exists(path));
    assert_false(peri_file_exists(folder));
}

static void empty_file_reads_as_empty(void **state) {
    peri_error err;
    char *data;
    size_t size = 9;
    (void)state;
    assert_ok(peri_file_write(path, "", 0, &err), err);
    assert_ok(peri_file_read(path, 0, &data, &size, &err), err);
    assert_int_equal(size, 0);
    assert_string_equal(data, "");
    peri_free(data);
}

static void file_without_a_size_reads_to_its_end(void **state) {
    peri_error err;
    char *data;
    size_t size;
    (void)state;
    assert_ok(peri_file_read("/proc/self/status", 100000, &data, &size, &err), err);
    assert_true(size > 100);
    assert_non_null(strstr(data, "Name:"));
    peri_free(data);
    assert_int_equal(peri_file_read("/proc/self/status", 100, &data, &size, &err), PERI_E_RANGE);
    assert_null(data);
}

static void too_large_a_file_is_refused(void **state) {
    peri_error err;
    char *data;
    size_t size;
    (void)state;
    fill_file(100);
    assert_int_equal(peri_file_read(path, 99, &data, &size, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "file: found 100 bytes, expected at most 99");
    assert_null(data);
}

static void what_is_no_file_is_refused_by_name(void **state) {
    peri_mapping *m;
    peri_error err;
    (void)state;
    assert_int_equal(peri_mapping_open("/nonexistent/x.gguf", &m, &err), PERI_E_NOT_FOUND);
    assert_error(&err, PERI_E_NOT_FOUND, "/nonexistent/x.gguf: cannot open: No such file");
    assert_int_equal(peri_mapping_open("/tmp", &m, &err), PERI_E_IO);
    assert_error(&err, PERI_E_IO, "/tmp: is a directory");
    assert_int_equal(peri_mapping_open("/dev/null", &m, &err), PERI_E_IO);
    assert_error(&err, PERI_E_IO, "/dev/null: is a device");
    assert_int_equal(peri_mapping_open("", &m, &err), PERI_E_INVALID);
    assert_int_equal(peri_mapping_open(NULL, &m, &err), PERI_E_INVALID);
    fill_file(0);
    assert_int_equal(peri_mapping_open(path, &m, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "the file is empty");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer */
    assert_int_equal(peri_mapping_open(path, &m, &err), PERI_E_IO);
    assert_error(&err, PERI_E_IO, "pipe");
    assert_null(m);
}

static void mapping_shows_the_file(void **state) {
    peri_mapping *m;
    peri_error err;
    (void)state;
    fill_file(10000);
    assert_ok(peri_mapping_open(path, &m, &err), err);
    assert_int_equal(peri_mapping_size(m), 10000);
    assert_string_equal(peri_mapping_path(m), path);
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal(peri_mapping_data(m)[i], i * 7 % 251 + 1);
    peri_mapping_will_need(m, 5000, 100000);
    peri_mapping_will_need(m, 10000, 1);
    peri_mapping_will_need(m, 9999, UINT64_MAX);
    assert_ok(peri_mapping_check(m, &err), err);
    peri_mapping_close(m);
    peri_mapping_close(NULL);
}

/* volatile: a read whose value nobody needs must happen all the same. */
static unsigned sum(const peri_mapping *m) {
    const volatile uint8_t *p = peri_mapping_data(m);
    unsigned total = 0;
    for (uint64_t i = 0; i < peri_mapping_size(m); i++)
        total += p[i];
    return total;
}

static void truncation_while_mapped_survives(void **state) {
    peri_mapping *m, *other;
    peri_error err;
    char text[256];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    (void)state;
    fill_file(10 * page + 5);
    assert_ok(peri_mapping_open(path, &m, &err), err);
    assert_ok(peri_mapping_open("/proc/self/exe", &other, &err), err);
    assert_int_equal(truncate(path, (off_t)(3 * page)), 0);
    assert_ok(peri_mapping_check(m, &err), err); /* nobody has looked yet */
    assert_int_equal(peri_mapping_data(m)[7 * page], 0);
    assert_int_equal(peri_mapping_data(m)[10 * page + 4], 0);
    assert_int_equal(peri_mapping_check(m, &err), PERI_E_IO);
    snprintf(text, sizeof text, "%s: changed while in use: page at byte %zu vanished (file was %zu",
             path, 7 * page, 10 * page + 5);
    assert_error(&err, PERI_E_IO, text);
    sum(m); /* pages 3 to 6 go too; the lowest is kept */
    snprintf(text, sizeof text, "page at byte %zu vanished", 3 * page);
    assert_int_equal(peri_mapping_check(m, &err), PERI_E_IO);
    assert_error(&err, PERI_E_IO, text);
    assert_int_equal(peri_mapping_data(m)[3 * page - 1], (3 * page - 1) * 7 % 251 + 1);
    assert_ok(peri_mapping_check(other, &err), err);
    peri_mapping_close(m);
    peri_mapping_close(other);
}

static bool until(void *user, uint64_t done) {
    uint64_t *limit = user;
    return done < *limit;
}

/* Addresses stay, bytes stay, and what happens to the file later is not seen any more. */
static void copied_mapping_is_the_file_as_it_was(void **state) {
    const size_t sizes[] = {5, 4096, PERI_LARGE_PAGE, PERI_LARGE_PAGE + 1, (64u << 20) + 9000};
    peri_pool *pool;
    peri_error err;
    (void)state;
    assert_ok(peri_pool_new(2, NULL, &pool, &err), err);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        peri_mapping *m;
        fill_file(sizes[i]);
        assert_ok(peri_mapping_open(path, &m, &err), err);
        const uint8_t *data = peri_mapping_data(m);
        assert_int_equal((uintptr_t)data % PERI_LARGE_PAGE, 0);
        unsigned before = sum(m);
        assert_int_equal(peri_mapping_copy_in(m, pool, NULL, NULL), sizes[i]);
        assert_ptr_equal(peri_mapping_data(m), data);
        assert_int_equal(sum(m), before);
        assert_int_equal(truncate(path, 1), 0);
        assert_int_equal(sum(m), before);
        assert_int_equal(data[sizes[i] - 1], (sizes[i] - 1) * 7 % 251 + 1);
        assert_ok(peri_mapping_check(m, &err), err);
        peri_mapping_close(m);
    }
    peri_pool_free(pool);
}

static void copying_may_stop_half_way(void **state) {
    const size_t size = 66u << 20;
    uint64_t limit = 1;
    peri_mapping *m;
    peri_pool *pool;
    peri_error err;
    (void)state;
    assert_ok(peri_pool_new(1, NULL, &pool, &err), err);
    fill_file(size);
    assert_ok(peri_mapping_open(path, &m, &err), err);
    unsigned before = sum(m);
    uint64_t n = peri_mapping_copy_in(m, pool, until, &limit);
    assert_true(n > 0 && n < size);
    assert_int_equal(sum(m), before);
    assert_int_equal(truncate(path, (off_t)(n / 2)), 0); /* the rest is still the file */
    assert_int_equal(peri_mapping_data(m)[n - 1], (n - 1) * 7 % 251 + 1);
    assert_ok(peri_mapping_check(m, &err), err);
    assert_int_equal(peri_mapping_data(m)[n], 0);
    assert_int_equal(peri_mapping_check(m, &err), PERI_E_IO);
    peri_mapping_close(m);
    peri_pool_free(pool);
}

/* Pages that vanish before they are copied are missed as always. */
static void a_file_truncated_before_it_is_copied_is_damaged(void **state) {
    peri_mapping *m;
    peri_pool *pool;
    peri_error err;
    (void)state;
    assert_ok(peri_pool_new(2, NULL, &pool, &err), err);
    fill_file(10u << 20);
    assert_ok(peri_mapping_open(path, &m, &err), err);
    assert_int_equal(truncate(path, 3 << 20), 0);
    peri_mapping_copy_in(m, pool, NULL, NULL);
    assert_int_equal(peri_mapping_check(m, &err), PERI_E_IO);
    assert_error(&err, PERI_E_IO, "page at byte 3145728 vanished");
    peri_mapping_close(m);
    peri_pool_free(pool);
}

static void slot_is_clean_for_the_next_mapping(void **state) {
    peri_mapping *m;
    peri_error err;
    (void)state;
    for (int i = 0; i < 1100; i++) { /* more than there are slots */
        if (i % 100 == 0) fill_file(5);
        assert_ok(peri_mapping_open(path, &m, &err), err);
        assert_ok(peri_mapping_check(m, &err), err);
        if (i % 100 == 99) {
            assert_int_equal(truncate(path, 0), 0);
            assert_int_equal(peri_mapping_data(m)[0], 0);
            assert_int_equal(peri_mapping_check(m, &err), PERI_E_IO);
        }
        peri_mapping_close(m);
    }
}

typedef struct reading {
    peri_mapping *m;
    atomic_bool is_over;
} reading;

/* Until the file has lost its last byte, and once more. */
static void *sum_in_thread(void *user) {
    reading *r = user;
    while (!atomic_load(&r->is_over))
        sum(r->m);
    sum(r->m);
    return NULL;
}

static void truncation_under_several_threads_survives(void **state) {
    peri_mapping *m;
    peri_error err;
    pthread_t thread[4];
    (void)state;
    fill_file(200000);
    assert_ok(peri_mapping_open(path, &m, &err), err);
    reading r = {.m = m};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, sum_in_thread, &r), 0);
    for (long n = 190000; n >= 0; n -= 10000) {
        assert_int_equal(truncate(path, n), 0);
        usleep(500);
    }
    atomic_store(&r.is_over, true);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(peri_mapping_check(m, &err), PERI_E_IO);
    assert_int_equal(sum(m), 0);
    peri_mapping_close(m);
}

/* A bus error outside our mappings ends the process as without us, or reaches the older handler. */
static volatile sig_atomic_t is_older_called;
static void older_handler(int number) {
    (void)number;
    is_older_called = 1;
    _exit(42);
}

static int status_of_foreign_fault(int want_handler) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct sigaction plain = {.sa_handler = want_handler ? older_handler : SIG_DFL};
        peri_mapping *m;
        FILE *f;
        sigaction(SIGBUS, &plain, NULL);
        if (peri_mapping_open("/proc/self/exe", &m, NULL) != PERI_OK) _exit(1);
        f = fopen(path, "r+b");
        if (f == NULL) _exit(2);
        volatile char *p = mmap(NULL, 10, PROT_READ, MAP_SHARED, fileno(f), 0);
        if (p == MAP_FAILED || ftruncate(fileno(f), 0) != 0) _exit(3);
        _exit(p[0] == 0 ? 4 : 5);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

/* The children install the guard themselves, so this runs before any mapping of this process. */
static void faults_elsewhere_go_to_the_previous_handler(void **state) {
    (void)state;
    fill_file(10);
    int status = status_of_foreign_fault(0);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
    fill_file(10);
    status = status_of_foreign_fault(1);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

static void every_failing_call_is_reported_and_leaks_nothing(void **state) {
    (void)state;
    fill_file(20);
    peri_fault *heap = peri_fault_alloc_install();
    peri_fault *io = peri_fault_io_install();
    int n_failed = 0;
    for (int persistent = 0; persistent < 2; persistent++) {
        for (uint64_t at = 1;; at++) {
            peri_error err = {0};
            peri_mapping *m = NULL;
            char *data = NULL;
            size_t size;
            *io = (peri_fault){.fail_at = at, .persistent = persistent != 0};
            peri_status a = peri_file_write(path, "0123456789abcdefghij", 20, &err);
            peri_status b = a ? a : peri_file_read(path, 100, &data, &size, &err);
            peri_status c = b ? b : peri_mapping_open(path, &m, &err);
            if (c != PERI_OK) {
                assert_int_equal(c, PERI_E_IO);
                assert_error(&err, PERI_E_IO, path);
                n_failed++;
            } else { /* short reads and writes (7 bytes a call) were put together */
                assert_int_equal(size, 20);
                assert_string_equal(data, "0123456789abcdefghij");
            }
            peri_free(data);
            peri_mapping_close(m);
            assert_int_equal(io->live, 0);
            assert_int_equal(heap->live, 0);
            if (c == PERI_OK) break;
        }
    }
    /* write: open 3 writes sync rename; read: open size 4 reads; map: open size map */
    assert_int_equal(n_failed, 2 * 15);
    peri_fault_io_remove();
    peri_fault_alloc_remove();
}

static void every_failing_allocation_is_reported_and_leaks_nothing(void **state) {
    (void)state;
    peri_fault *heap = peri_fault_alloc_install();
    for (uint64_t at = 1;; at++) {
        peri_error err = {0};
        peri_mapping *m = NULL;
        char *data = NULL;
        size_t size;
        *heap = (peri_fault){.fail_at = at};
        peri_status a = peri_file_write(path, "x", 1, &err);
        peri_status b = a ? a : peri_file_read("/proc/self/status", 100000, &data, &size, &err);
        peri_status c = b ? b : peri_mapping_open(path, &m, &err);
        if (c != PERI_OK) assert_error(&err, PERI_E_NOMEM, "out of memory");
        peri_free(data);
        peri_mapping_close(m);
        assert_int_equal(heap->live, 0);
        if (c == PERI_OK) break;
        assert_true(at < 100);
    }
    peri_fault_alloc_remove();
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(faults_elsewhere_go_to_the_previous_handler),
        WITH_FOLDER(written_file_reads_back),
        WITH_FOLDER(empty_file_reads_as_empty),
        WITH_FOLDER(file_without_a_size_reads_to_its_end),
        WITH_FOLDER(too_large_a_file_is_refused),
        WITH_FOLDER(what_is_no_file_is_refused_by_name),
        WITH_FOLDER(mapping_shows_the_file),
        WITH_FOLDER(truncation_while_mapped_survives),
        WITH_FOLDER(copied_mapping_is_the_file_as_it_was),
        WITH_FOLDER(copying_may_stop_half_way),
        WITH_FOLDER(a_file_truncated_before_it_is_copied_is_damaged),
        WITH_FOLDER(slot_is_clean_for_the_next_mapping),
        WITH_FOLDER(truncation_under_several_threads_survives),
        WITH_FOLDER(every_failing_call_is_reported_and_leaks_nothing),
        WITH_FOLDER(every_failing_allocation_is_reported_and_leaks_nothing),
    };
    return peri_run_tests(tests);
}
