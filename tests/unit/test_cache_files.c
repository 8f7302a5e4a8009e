/* SPDX-License-Identifier: MIT
 *
 * test_cache_files.c - the caches on disk: what is listed, what may be removed and in which order,
 * and failure of every allocation. */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "perigee/perigee.h"
#include "plugin/cache_files.h"

static char home[64];

static int make_home(void **state) {
    (void)state;
    snprintf(home, sizeof home, "/tmp/perigee-cache-XXXXXX");
    return mkdtemp(home) == NULL || setenv("XDG_CACHE_HOME", home, 1);
}

static int drop_home(void **state) {
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", home);
    return system(command);
}

static const char *at(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/perigee/%s", home, name);
    return path;
}

static void make_folders(void) {
    char path[128];
    snprintf(path, sizeof path, "%s/perigee", home);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mkdir(at("opencl"), 0700), 0);
}

/* A file of so many bytes, that many hours after 1970. */
static void put(const char *name, size_t bytes, int hours) {
    struct timespec times[2] = {{.tv_sec = hours * 3600}, {.tv_sec = hours * 3600}};
    FILE *f = fopen(at(name), "wb");
    assert_non_null(f);
    for (size_t i = 0; i < bytes; i++)
        fputc('x', f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(utimensat(AT_FDCWD, at(name), times, 0), 0);
}

static bool is_there(const char *name) {
    struct stat st;
    return lstat(at(name), &st) == 0;
}

/* "name kind bytes" of each file, in order, separated by "; ". */
static const char *shown(const peri_cache_files *f) {
    static char text[1024];
    size_t n = 0;
    text[0] = 0;
    for (size_t i = 0; i < f->n; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s %d %llu", i ? "; " : "",
                              f->file[i].name, (int)f->file[i].kind,
                              (unsigned long long)f->file[i].bytes);
    return text;
}

static void nothing_is_there_before_the_first_start(void **state) {
    peri_error err;
    peri_cache_files f;
    (void)state;
    assert_ok(peri_cache_files_init(&f, &err), err);
    assert_int_equal(f.n, 0);
    assert_ok(peri_cache_files_prune(&f, UINT32_MAX, 0, false, &err), err);
    peri_cache_files_fini(&f);
    assert_int_not_equal(access(at(""), F_OK), 0); /* and looking made nothing */
}

static void without_a_home_there_is_no_place(void **state) {
    peri_error err;
    peri_cache_files f;
    char *kept = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
    (void)state;
    unsetenv("HOME");
    setenv("XDG_CACHE_HOME", "relative", 1);
    assert_int_equal(peri_cache_files_init(&f, &err), PERI_E_NOT_FOUND);
    assert_error(&err, PERI_E_NOT_FOUND, "XDG_CACHE_HOME");
    peri_cache_files_fini(&f);
    if (kept) setenv("HOME", kept, 1);
    free(kept);
}

static void files_are_listed_oldest_first_and_strangers_apart(void **state) {
    peri_error err;
    peri_cache_files f;
    (void)state;
    make_folders();
    put("opencl/b.bin", 20, 1);
    put("probe.json", 7, 3);
    put("opencl/a.bin.77.new", 5, 2);
    put("opencl/readme", 1, 4);
    put("probe.json.12-0.tmp", 2, 5);
    put("probe.jsonx", 3, 6);
    put("a.bin", 4, 7);
    put("figures.json", 9, 8);
    assert_ok(peri_cache_files_init(&f, &err), err);
    assert_string_equal(shown(&f), "opencl/b.bin 1 20; opencl/a.bin.77.new 1 5; probe.json 0 7; "
                                   "opencl/readme -1 1; probe.json.12-0.tmp 0 2; "
                                   "probe.jsonx -1 3; a.bin -1 4; figures.json 2 9");
    peri_cache_files_fini(&f);
}

static void prune_leaves_the_newest_that_fit_and_other_caches(void **state) {
    peri_error err;
    peri_cache_files f;
    (void)state;
    make_folders();
    put("probe.json", 50, 0);
    put("opencl/1.bin", 10, 1);
    put("opencl/2.bin", 20, 2);
    put("opencl/3.bin", 30, 3);
    put("opencl/note", 99, 0);
    assert_ok(peri_cache_files_init(&f, &err), err);
    assert_ok(peri_cache_files_prune(&f, 1u << 1, 50, true, &err), err);
    assert_true(is_there("opencl/1.bin")); /* a dry run */
    peri_cache_files_fini(&f);
    assert_ok(peri_cache_files_init(&f, &err), err);
    assert_ok(peri_cache_files_prune(&f, 1u << 1, 50, false, &err), err);
    peri_cache_files_fini(&f);
    assert_false(is_there("opencl/1.bin"));
    assert_true(is_there("opencl/2.bin") && is_there("opencl/3.bin") && is_there("probe.json"));
    assert_ok(peri_cache_files_init(&f, &err), err);
    assert_ok(peri_cache_files_prune(&f, UINT32_MAX, 0, false, &err), err);
    peri_cache_files_fini(&f);
    assert_ok(peri_cache_files_init(&f, &err), err);
    assert_string_equal(shown(&f), "opencl/note -1 99");
    peri_cache_files_fini(&f);
}

static void links_are_not_followed(void **state) {
    peri_error err;
    peri_cache_files f;
    char outside[128];
    (void)state;
    make_folders();
    snprintf(outside, sizeof outside, "%s/outside", home);
    assert_int_equal(mkdir(outside, 0700), 0);
    put("../outside/1.bin", 10, 1);
    assert_int_equal(symlink("../../outside/1.bin", at("opencl/2.bin")), 0);
    assert_ok(peri_cache_files_init(&f, &err), err);
    assert_int_equal(f.n, 1);
    assert_int_equal(f.file[0].kind, -1);
    /* the folder becomes a link after it was listed */
    put("opencl/1.bin", 5, 1);
    peri_cache_files_fini(&f);
    assert_ok(peri_cache_files_init(&f, &err), err);
    char moved[256];
    snprintf(moved, sizeof moved, "%s/moved", home);
    assert_int_equal(rename(at("opencl"), moved), 0);
    assert_int_equal(symlink("../outside", at("opencl")), 0);
    assert_ok(peri_cache_files_prune(&f, UINT32_MAX, 0, false, &err), err);
    assert_true(is_there("../outside/1.bin"));
    for (size_t i = 0; i < f.n; i++)
        assert_false(f.file[i].is_removed);
    peri_cache_files_fini(&f);
    assert_ok(peri_cache_files_init(&f, &err), err);
    assert_string_equal(shown(&f), "opencl -1 10"); /* the link, by its own length */
    peri_cache_files_fini(&f);
}

static void every_failing_allocation_is_reported_and_leaks_nothing(void **state) {
    (void)state;
    make_folders();
    put("probe.json", 5, 0);
    put("opencl/1.bin", 5, 1);
    put("opencl/note", 5, 1);
    peri_fault *heap = peri_fault_alloc_install();
    for (int what = 0; what < 2; what++)
        for (uint64_t n = 1;; n++) {
            peri_error err = {0};
            char *json = NULL;
            const char *only[] = {"opencl"};
            peri_caches_prune_options o = {sizeof o, only, 1, 0, true};
            *heap = (peri_fault){.fail_at = n};
            peri_status st =
                what ? peri_caches_prune(&o, &json, &err) : peri_caches_list(&json, &err);
            heap->fail_at = 0;
            if (st == PERI_OK) assert_non_null(strstr(json, "opencl/1.bin"));
            if (st != PERI_OK) assert_error(&err, PERI_E_NOMEM, "memory");
            peri_text_free(json);
            assert_int_equal(heap->live, 0);
            if (st == PERI_OK && heap->calls < n) break;
            assert_true(n < 1000);
        }
    peri_fault_alloc_remove();
}

static void an_unknown_cache_is_named_with_those_there_are(void **state) {
    peri_error err;
    char *json;
    const char *only[] = {"packed"};
    peri_caches_prune_options o = {sizeof o, only, 1, 0, false};
    (void)state;
    assert_int_equal(peri_caches_prune(&o, &json, &err), PERI_E_NOT_FOUND);
    assert_null(json);
    assert_error(&err, PERI_E_NOT_FOUND, "'packed'; there are: probe, opencl");
}

#define WITH_HOME(test) cmocka_unit_test_setup_teardown(test, make_home, drop_home)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_HOME(nothing_is_there_before_the_first_start),
        WITH_HOME(without_a_home_there_is_no_place),
        WITH_HOME(files_are_listed_oldest_first_and_strangers_apart),
        WITH_HOME(prune_leaves_the_newest_that_fit_and_other_caches),
        WITH_HOME(links_are_not_followed),
        WITH_HOME(every_failing_allocation_is_reported_and_leaks_nothing),
        WITH_HOME(an_unknown_cache_is_named_with_those_there_are),
    };
    return peri_run_tests(tests);
}
