/* SPDX-License-Identifier: MIT
 *
 * test_gguf_shards.c - GGUF models opened by path: shards, names, failing file calls, truncation.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "fault.h"
#include "gguf_writer.h"
#include "model/dtype.h"
#include "model/gguf.h"

static void write_tensors(peri_gguf_writer *w, const char *prefix) {
    static const int64_t dims_a[] = {3, 4}, dims_b[] = {2, 64}, dims_c[] = {5};
    static const unsigned char bytes[136] = {1, 2, 3};
    char name[64];
    snprintf(name, sizeof name, "%sa.weight", prefix);
    gw_tensor(w, name, PERI_DT_F32, dims_a, 2, bytes, 48);
    snprintf(name, sizeof name, "%sb.weight", prefix);
    gw_tensor(w, name, PERI_DT_Q8_0, dims_b, 2, bytes, 136);
    snprintf(name, sizeof name, "%sc.weight", prefix);
    gw_tensor(w, name, PERI_DT_F16, dims_c, 1, bytes, 10);
}

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/perigee-gguf-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int drop_folder(void **state) {
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void save(const char *name, const peri_text *bytes) {
    FILE *f = fopen(path_of(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes->data, 1, bytes->size, f), bytes->size);
    assert_int_equal(fclose(f), 0);
}

typedef struct shard_plan {
    const char *prefix; /* of its tensors; NULL: none */
    uint32_t no, count;
    int32_t total; /* split.tensors.count; -1: no such key */
} shard_plan;

static void save_shard(const char *name, shard_plan plan) {
    peri_gguf_writer w;
    peri_text bytes = {0};
    gw_init(&w);
    if (plan.no == 0) gw_str(&w, "general.architecture", "test");
    gw_u32(&w, "split.no", plan.no);
    gw_u32(&w, "split.count", plan.count);
    if (plan.total >= 0) gw_i32(&w, "split.tensors.count", plan.total);
    if (plan.prefix != NULL) write_tensors(&w, plan.prefix);
    gw_finish(&w, &bytes);
    save(name, &bytes);
    gw_fini(&w);
    peri_text_fini(&bytes);
}

/* A file without split keys; the type of its key t.count as given. */
static void save_whole(const char *name, uint32_t type) {
    peri_gguf_writer w;
    peri_text bytes = {0};
    gw_init(&w);
    gw_u32(&w, "t.count", 1);
    write_tensors(&w, "");
    gw_finish(&w, &bytes);
    memcpy(bytes.data + w.fields[2].off, &type, sizeof type);
    assert_string_equal(w.fields[2].part, "type");
    save(name, &bytes);
    gw_fini(&w);
    peri_text_fini(&bytes);
}

static void assert_open_fails(const char *name, peri_status code, const char *fragment) {
    peri_gguf *g;
    peri_error err = {0};
    assert_int_equal(peri_gguf_open(path_of(name), &g, &err), code);
    assert_error(&err, code, fragment);
    assert_null(g);
}

static void gguf_opens_all_shards(void **state) {
    peri_gguf *g;
    peri_error err;
    (void)state;
    save_shard("m-00001-of-00003.gguf", (shard_plan){NULL, 0, 3, 6});
    save_shard("m-00002-of-00003.gguf", (shard_plan){"x.", 1, 3, 6});
    save_shard("m-00003-of-00003.gguf", (shard_plan){"y.", 2, 3, -1});
    peri_fault *heap = peri_fault_alloc_install();
    peri_fault *io = peri_fault_io_install();
    assert_ok(peri_gguf_open(path_of("m-00001-of-00003.gguf"), &g, &err), err);
    assert_int_equal(peri_gguf_n_tensors(g), 6);
    assert_int_equal(peri_gguf_n_values(g), 4);
    const peri_gguf_tensor *t = peri_gguf_find_tensor(g, "y.b.weight");
    assert_int_equal(t->shard, 2);
    assert_memory_equal(t->data, "\1\2\3", 3);
    assert_int_equal(peri_gguf_fail_tensor(g, t, &err, "x"), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "m-00003-of-00003.gguf: tensor y.b.weight at offset");
    assert_int_equal(truncate(path_of("m-00003-of-00003.gguf"), 0), 0);
    assert_int_equal(t->data[0], 0);
    assert_int_equal(peri_gguf_check(g, &err), PERI_E_IO);
    assert_error(&err, PERI_E_IO, "m-00003-of-00003.gguf: changed while in use");
    peri_gguf_close(g);
    assert_int_equal(heap->live, 0);
    assert_int_equal(io->live, 0);
    peri_fault_io_remove();
    peri_fault_alloc_remove();
}

static void gguf_reports_every_failed_file_call_of_shards(void **state) {
    (void)state;
    save_shard("m-00001-of-00002.gguf", (shard_plan){"x.", 0, 2, 6});
    save_shard("m-00002-of-00002.gguf", (shard_plan){"y.", 1, 2, 6});
    peri_fault *heap = peri_fault_alloc_install();
    peri_fault *io = peri_fault_io_install();
    for (uint64_t at = 1;; at++) {
        peri_gguf *g;
        peri_error err = {0};
        *io = (peri_fault){.fail_at = at};
        peri_status status = peri_gguf_open(path_of("m-00001-of-00002.gguf"), &g, &err);
        if (status != PERI_OK) assert_error(&err, PERI_E_IO, "-of-00002.gguf: cannot ");
        peri_gguf_close(g);
        assert_int_equal(heap->live, 0);
        assert_int_equal(io->live, 0);
        if (status == PERI_OK) {
            assert_int_equal(at, 7); /* open, size and map of two files */
            break;
        }
    }
    for (uint64_t at = 1;; at++) {
        peri_gguf *g;
        *heap = (peri_fault){.fail_at = at};
        *io = (peri_fault){0};
        peri_status status = peri_gguf_open(path_of("m-00001-of-00002.gguf"), &g, NULL);
        peri_gguf_close(g);
        assert_int_equal(heap->live, 0);
        assert_int_equal(io->live, 0);
        if (status == PERI_OK) break;
        assert_int_equal(status, PERI_E_NOMEM);
    }
    peri_fault_io_remove();
    peri_fault_alloc_remove();
}

static void gguf_rejects_shards_that_do_not_belong_together(void **state) {
    (void)state;
    save_shard("m-00001-of-00002.gguf", (shard_plan){"x.", 0, 2, 6});
    assert_open_fails("m-00001-of-00002.gguf", PERI_E_NOT_FOUND,
                      "m-00002-of-00002.gguf: cannot open");
    save_shard("m-00002-of-00002.gguf", (shard_plan){"x.", 1, 2, 6});
    assert_open_fails("m-00001-of-00002.gguf", PERI_E_CORRUPT,
                      "m-00002-of-00002.gguf: tensor x.a.weight at offset ");
    assert_open_fails("m-00001-of-00002.gguf", PERI_E_CORRUPT, " of another shard)");
    save_shard("m-00002-of-00002.gguf", (shard_plan){"y.", 0, 2, 6});
    assert_open_fails("m-00001-of-00002.gguf", PERI_E_CORRUPT, "found 0, expected 1");
    save_shard("m-00002-of-00002.gguf", (shard_plan){"y.", 1, 3, 6});
    assert_open_fails("m-00001-of-00002.gguf", PERI_E_CORRUPT,
                      "m-00002-of-00002.gguf: key split.count at offset ");
    save_shard("m-00002-of-00002.gguf", (shard_plan){"y.", 1, 2, 6});
    save_shard("m-00001-of-00002.gguf", (shard_plan){"x.", 0, 2, 7});
    assert_open_fails("m-00001-of-00002.gguf", PERI_E_CORRUPT, "found 7, expected 6");
    save_whole("m-00001-of-00002.gguf", PERI_GGUF_U32); /* no split keys at all */
    assert_open_fails("m-00001-of-00002.gguf", PERI_E_CORRUPT,
                      "header: offset 16: keys: found no split.count, expected it with 2");
}

static void gguf_rejects_split_keys_that_are_no_integers(void **state) {
    static const float two = 2;
    (void)state;
    for (int is_array = 0; is_array < 2; is_array++) {
        peri_gguf_writer w;
        peri_text bytes = {0};
        gw_init(&w);
        if (is_array)
            gw_i32s(&w, "split.count", (int32_t[]){2}, 1);
        else
            gw_f32(&w, "split.count", two);
        gw_u32(&w, "split.no", 0);
        gw_finish(&w, &bytes);
        save("m-00001-of-00002.gguf", &bytes);
        gw_fini(&w);
        peri_text_fini(&bytes);
        assert_open_fails("m-00001-of-00002.gguf", PERI_E_CORRUPT,
                          is_array ? "key split.count at offset 24: found type array of i32"
                                   : "key split.count at offset 24: found type f32");
    }
}

static void gguf_asks_for_the_first_shard_by_name(void **state) {
    (void)state;
    assert_open_fails("m-00002-of-00003.gguf", PERI_E_INVALID, "expected the first: ");
    assert_open_fails("m-00002-of-00003.gguf", PERI_E_INVALID, "m-00001-of-00003.gguf");
    assert_open_fails("m-00000-of-00003.gguf", PERI_E_INVALID,
                      "found shard 0 of 3 in the name, expected numbers");
    assert_open_fails("m-00004-of-00003.gguf", PERI_E_INVALID,
                      "found shard 4 of 3 in the name, expected numbers");
    save_shard("renamed.gguf", (shard_plan){"x.", 0, 3, 6});
    assert_open_fails("renamed.gguf", PERI_E_CORRUPT,
                      "found 3 shards, expected a file name ending in -00001-of-00003.gguf");
}

static void gguf_opens_single_files_whatever_their_name(void **state) {
    static const char *const names[] = {"m.gguf", "m-00001-of-00001.gguf", "m",
                                        "-0001-of-0002.gguf", "blob-00001-of-00002.bin"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        peri_gguf *g;
        peri_error err;
        save_whole(names[i], PERI_GGUF_U32);
        assert_ok(peri_gguf_open(path_of(names[i]), &g, &err), err);
        assert_string_equal(peri_gguf_path(g), path_of(names[i]));
        peri_gguf_close(g);
    }
}

static void gguf_shows_the_end_of_a_long_path(void **state) {
    char name[201];
    (void)state;
    memset(name, 'n', 195);
    memcpy(name + 195, ".gguf", 6);
    save_whole(name, 77);
    assert_open_fails(name, PERI_E_CORRUPT, "nnn.gguf: key t.count at offset");
    assert_open_fails(name, PERI_E_CORRUPT, "found type 77, expected 0..12");
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(gguf_opens_all_shards),
        CASE(gguf_reports_every_failed_file_call_of_shards),
        CASE(gguf_rejects_shards_that_do_not_belong_together),
        CASE(gguf_rejects_split_keys_that_are_no_integers),
        CASE(gguf_asks_for_the_first_shard_by_name),
        CASE(gguf_opens_single_files_whatever_their_name),
        CASE(gguf_shows_the_end_of_a_long_path),
    };
    return peri_run_tests(tests);
}
