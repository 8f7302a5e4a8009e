/* SPDX-License-Identifier: MIT
 *
 * Damaged model files through the whole engine: each mutant is loaded and runs four tokens, or is
 * refused by the name the mutator expects.  5,000 by default; PERI_MUTANTS and PERI_SEED change
 * number and seed. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fault.h"
#include "gguf_mutate.h"
#include "perigee/perigee.h"
#include "rig.h"

enum { MAX_MS = 2000 }; /* of CPU time for one mutant, sanitizers included */

typedef struct tally {
    uint64_t n, n_refused, n_ran;
} tally;

static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* Load, four tokens, close; the file shrinks in between where the mutant says so. */
static peri_status load_and_run(peri_runtime *rt, const peri_mutant *m, const char *path,
                                peri_error *err) {
    static const int32_t tok[] = {3, 1, 4, 1};
    peri_model_options o = {.size = sizeof o, .n_ctx = 32, .n_batch = 8};
    peri_model *model;
    peri_session *s = NULL;
    peri_status st = peri_model_open(rt, path, &o, &model, err);
    if (st) return st;
    if (m->truncate_to >= 0) assert_int_equal(truncate(path, m->truncate_to), 0);
    st = peri_session_new(model, NULL, &s, err);
    if (!st) st = peri_session_feed(s, tok, 2, err);
    if (!st) st = peri_session_feed(s, tok + 2, 2, err);
    int32_t id;
    if (!st) st = peri_session_sample(s, &id, err);
    peri_session_free(s);
    peri_model_close(model);
    return st;
}

static const char *judge(const peri_mutant *m, peri_status st, const peri_error *err) {
    if (m->must_fail_in_reader) {
        if (st == PERI_OK) return "it ran";
        return m->expect[0] && !strstr(err->text, m->expect)
                   ? "the message lacks what the reader must say"
                   : NULL;
    }
    if (m->truncate_to == 0 && st == PERI_OK) return "the loss of the file went unseen";
    if (st == PERI_OK || (st == PERI_E_IO && m->truncate_to >= 0)) return NULL;
    if (!m->may_fail_in_reader && !m->may_fail_in_model && m->truncate_to < 0) return "it must run";
    /* Poisoned weights show only in the result; which of them it was, nobody can tell. */
    if (st == PERI_E_OTHER && strstr(err->text, "not finite numbers")) return NULL;
    /* A renamed key is a missing one: its default stands, and the first tensor that contradicts it
     * is what can be named. */
    if (strstr(m->what, "renamed") && strstr(err->text, "tensor ")) return NULL;
    if (m->is_name_sure && m->name[0] && !strstr(err->text, m->name))
        return "the message does not name what was damaged";
    return NULL;
}

static const char *save(const peri_mutant *m) {
    static char path[300];
    char second[300];
    snprintf(second, sizeof second, "%s/m-00002-of-00002.gguf", rig_dir());
    unlink(second);
    if (m->is_split && m->second.size)
        rig_write("m-00002-of-00002.gguf", m->second.data, m->second.size);
    snprintf(
        path, sizeof path, "%s",
        rig_write(m->is_split ? "m-00001-of-00002.gguf" : "m.gguf", m->bytes.data, m->bytes.size));
    return path;
}

static void try_mutant(peri_runtime *rt, uint64_t seed, uint64_t index, tally *tallies,
                       peri_fault *heap) {
    peri_mutant m;
    peri_error err = {0};
    peri_mutant_make(seed, index, &m);
    const char *path = save(&m);
    uint64_t held = heap->live;
    double start = cpu_ms();
    peri_status st = load_and_run(rt, &m, path, &err);
    double took = cpu_ms() - start;
    const char *complaint = judge(&m, st, &err);
    if (!complaint && heap->live != held) complaint = "it leaks";
    if (!complaint && took > MAX_MS) complaint = "it takes too long";
    if (complaint)
        fail_msg("mutant %llu of seed %llu, %s: %s: %s\n  found    %d %s\n  expected name \"%s\", "
                 "text \"%s\"",
                 (unsigned long long)index, (unsigned long long)seed, m.class_name, m.what,
                 complaint, (int)st, err.text, m.name, m.expect);
    for (int i = 0; i < PERI_N_MUTANT_CLASS; i++) {
        if (strcmp(peri_mutant_classes[i], m.class_name)) continue;
        tallies[i].n++;
        tallies[i].n_refused += st != PERI_OK;
        tallies[i].n_ran += st == PERI_OK;
    }
    peri_mutant_free(&m);
}

static uint64_t number_from(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void mutants_run_or_are_refused_by_name(void **state) {
    (void)state;
    uint64_t n = number_from("PERI_MUTANTS", 5000), seed = number_from("PERI_SEED", 1), n_ran = 0;
    tally tallies[PERI_N_MUTANT_CLASS] = {{0}};
    peri_fault *heap = peri_fault_alloc_install();
    peri_runtime *rt = rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 1, NULL);
    peri_mutant first; /* builds the cache and what the process keeps */
    peri_error err;
    peri_mutant_make(seed, 0, &first);
    load_and_run(rt, &first, save(&first), &err);
    peri_mutant_free(&first);
    for (uint64_t i = 0; i < n; i++) {
        heap->peak_bytes = heap->live_bytes;
        try_mutant(rt, seed, i, tallies, heap);
    }
    print_message("seed %llu, %llu mutants; class: made, refused, ran\n", (unsigned long long)seed,
                  (unsigned long long)n);
    for (int i = 0; i < PERI_N_MUTANT_CLASS; i++) {
        print_message("  %-5s %6llu %6llu %6llu\n", peri_mutant_classes[i],
                      (unsigned long long)tallies[i].n, (unsigned long long)tallies[i].n_refused,
                      (unsigned long long)tallies[i].n_ran);
        n_ran += tallies[i].n_ran;
    }
    assert_true(4 * n_ran >= n); /* the damage must reach past the reader */
    peri_runtime_free(rt);
    peri_mutant_cache_free();
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(mutants_run_or_are_refused_by_name)};
    int rc = peri_run_tests(tests);
    rig_end();
    return rc;
}
