/* SPDX-License-Identifier: MIT
 *
 * test_gguf_mutants.c - damaged files through the reader: no crash, no leak, bounded memory, and
 * the message names the damaged record.
 *
 * PERI_MUTANTS=N sets their number (5,000), PERI_SEED=S the seed (1). */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "gguf_mutate.h"
#include "model/gguf_int.h"

static char folder[64], single_path[128], first_path[128], second_path[128];

typedef struct tally {
    uint64_t n, n_refused;
} tally;

static void save(const char *path, const peri_text *bytes) {
    unlink(path); /* rewriting in place would wait for the disk */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes->data, 1, bytes->size, f), bytes->size);
    assert_int_equal(fclose(f), 0);
}

/* Touch every byte that a user of the object could, so that a sanitizer sees a bad pointer. */
static uint64_t read_all(const peri_gguf *g) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < peri_gguf_n_values(g); i++) {
        const peri_gguf_value *v = peri_gguf_value_at(g, i);
        for (uint64_t k = 0; k < v->n && v->type == PERI_GGUF_STRING; k++)
            for (size_t c = 0; c < v->strings[k].size; c += 16)
                sum += (unsigned char)v->strings[k].data[c];
        double d = 0;
        for (uint64_t k = 0; k < v->n && peri_gguf_as_f64(v, k, &d); k++)
            sum += d > 0;
    }
    for (uint64_t i = 0; i < peri_gguf_n_tensors(g); i++) {
        const peri_gguf_tensor *t = peri_gguf_tensor_at(g, i);
        for (uint64_t c = 0; c < t->bytes; c += 256)
            sum += t->data[c];
        sum += t->data[t->bytes - 1];
    }
    return sum;
}

/* From files, as users do. */
static peri_status open_from_files(const peri_mutant *m, peri_gguf **g, peri_error *err) {
    const char *path = m->is_split ? first_path : single_path;
    save(path, &m->bytes);
    unlink(second_path);
    if (m->is_split && m->second.size != 0) save(second_path, &m->second);
    return peri_gguf_open(path, g, err);
}

static void try_mutant(uint64_t seed, uint64_t index, tally *tallies, volatile uint64_t *sum) {
    peri_mutant m;
    peri_gguf *g = NULL;
    peri_error err = {0};
    void *copy = NULL;
    peri_mutant_make(seed, index, &m);
    bool want_files = m.is_split || m.truncate_to >= 0 || index % 16 == 0;
    uint64_t n = m.bytes.size + (m.is_split ? m.second.size : 0);
    peri_fault *heap = peri_fault_alloc_install();
    peri_status status;
    if (want_files) {
        status = open_from_files(&m, &g, &err);
    } else { /* a block of exactly that size, so that a sanitizer sees a read past it */
        copy = malloc(m.bytes.size);
        memcpy(copy, m.bytes.data, m.bytes.size);
        status = peri_gguf_open_bytes("mutant", copy, m.bytes.size, &g, &err);
    }
    const char *complaint = peri_mutant_judge_reader(&m, status, &err);
    if (complaint == NULL && heap->peak_bytes > 4 * n + (16u << 20))
        complaint = "it took more than 4 N + 16 MB";
    if (complaint == NULL && (status == PERI_OK) != (g != NULL))
        complaint = "status without object";
    if (complaint == NULL && g != NULL) {
        if (m.truncate_to >= 0) {
            const char *path = m.is_split ? first_path : single_path;
            assert_int_equal(truncate(path, m.truncate_to), 0);
        }
        *sum += read_all(g);
        if (m.truncate_to == 0 && peri_gguf_check(g, &err) != PERI_E_IO)
            complaint = "the loss of the file went unseen";
    }
    peri_gguf_close(g);
    if (complaint == NULL && heap->live != 0) complaint = "it leaks";
    peri_fault_alloc_remove();
    if (complaint != NULL)
        fail_msg("mutant %llu of seed %llu, %s: %s: %s\n  found    %d %s\n  expected %s",
                 (unsigned long long)index, (unsigned long long)seed, m.class_name, m.what,
                 complaint, (int)status, err.text,
                 m.expect[0]             ? m.expect
                 : m.must_fail_in_reader ? "a refusal"
                                         : "success");
    for (int i = 0; i < PERI_N_MUTANT_CLASS; i++)
        if (strcmp(peri_mutant_classes[i], m.class_name) == 0) {
            tallies[i].n++;
            tallies[i].n_refused += status != PERI_OK;
        }
    free(copy);
    peri_mutant_free(&m);
}

static uint64_t number_from(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void mutants_are_refused_by_name_or_open(void **state) {
    uint64_t n = number_from("PERI_MUTANTS", 5000), seed = number_from("PERI_SEED", 1);
    tally tallies[PERI_N_MUTANT_CLASS] = {{0, 0}};
    volatile uint64_t sum = 0;
    uint64_t n_refused = 0;
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/perigee-mutants-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(single_path, sizeof single_path, "%s/m.gguf", folder);
    snprintf(first_path, sizeof first_path, "%s/m-00001-of-00002.gguf", folder);
    snprintf(second_path, sizeof second_path, "%s/m-00002-of-00002.gguf", folder);
    for (uint64_t i = 0; i < n; i++)
        try_mutant(seed, i, tallies, &sum);
    peri_mutant_cache_free();
    unlink(single_path);
    unlink(first_path);
    unlink(second_path);
    assert_int_equal(rmdir(folder), 0);
    printf("seed %llu, %llu mutants; class: made, refused by the reader\n",
           (unsigned long long)seed, (unsigned long long)n);
    for (int i = 0; i < PERI_N_MUTANT_CLASS; i++) {
        printf("  %-4s %6llu %6llu\n", peri_mutant_classes[i], (unsigned long long)tallies[i].n,
               (unsigned long long)tallies[i].n_refused);
        n_refused += tallies[i].n_refused;
        if (n >= 5000) assert_true(tallies[i].n > n / 100); /* no class is forgotten */
    }
    if (n >= 5000) assert_in_range(n_refused, n / 4, n * 3 / 4);
}

static void mutants_are_reproducible(void **state) {
    (void)state;
    for (uint64_t i = 0; i < 50; i++) {
        peri_mutant a, b;
        peri_mutant_make(9, i, &a);
        peri_mutant_make(9, i, &b);
        assert_string_equal(a.what, b.what);
        assert_int_equal(a.bytes.size, b.bytes.size);
        assert_memory_equal(a.bytes.data, b.bytes.data, a.bytes.size);
        peri_mutant_free(&a);
        peri_mutant_free(&b);
    }
    peri_mutant_cache_free();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutants_are_reproducible),
        cmocka_unit_test(mutants_are_refused_by_name_or_open),
    };
    return peri_run_tests(tests);
}
