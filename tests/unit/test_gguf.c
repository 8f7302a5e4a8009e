/* SPDX-License-Identifier: MIT
 *
 * test_gguf.c - the GGUF reader: a good file, then one damage at a time with the exact message.
 *
 * Most cases take the small file below, overwrite one field whose place the writer recorded, and
 * expect the record's name and offset in the message. */
#include "harness.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "fault.h"
#include "gguf_writer.h"
#include "model/dtype.h"
#include "model/gguf_int.h"

static peri_gguf_writer writer;
static peri_text file;

static void write_keys(peri_gguf_writer *w) {
    static const char *const words[] = {"one", "", "three"};
    static const int32_t ints[] = {1, -2, 3};
    static const float floats[] = {0.5f, -1.0f};
    gw_str(w, "general.architecture", "test");
    gw_u32(w, "general.alignment", 32);
    gw_u32(w, "t.count", 7);
    gw_i32(w, "t.minus", -7);
    gw_u64(w, "t.wide", UINT64_MAX);
    gw_f32(w, "t.eps", 1e-5f);
    gw_bool(w, "t.flag", 1);
    gw_strs(w, "t.words", words, 3);
    gw_i32s(w, "t.ints", ints, 3);
    gw_f32s(w, "t.floats", floats, 2);
    gw_i32s(w, "t.empty", ints, 0);
}

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

static int make_small_file(void **state) {
    (void)state;
    gw_init(&writer);
    write_keys(&writer);
    write_tensors(&writer, "");
    gw_finish(&writer, &file);
    return file.failed;
}

static int drop_small_file(void **state) {
    (void)state;
    gw_fini(&writer);
    peri_text_fini(&file);
    return 0;
}

static const peri_gguf_field *field(const char *name, const char *part) {
    for (size_t i = 0; i < writer.n_field; i++)
        if (strcmp(writer.fields[i].name, name) == 0 && strcmp(writer.fields[i].part, part) == 0)
            return &writer.fields[i];
    fail_msg("no field %s of %s", part, name);
    return NULL;
}

static void patch(const char *name, const char *part, uint64_t v) {
    const peri_gguf_field *f = field(name, part);
    memcpy(file.data + f->off, &v, f->bytes < 8 ? f->bytes : 8);
}

/* Open the first n bytes from a block of exactly that size, so that a sanitizer sees a read past
 * it. */
static peri_status open_first(size_t n, peri_gguf **g, void **copy, peri_error *err) {
    *copy = malloc(n + (n == 0));
    assert_non_null(*copy);
    memcpy(*copy, file.data, n);
    return peri_gguf_open_bytes("m.gguf", *copy, n, g, err);
}

static void assert_refused(size_t n, peri_status code, const char *text) {
    peri_error err = {0};
    peri_gguf *g = NULL;
    void *copy;
    peri_status status = open_first(n, &g, &copy, &err);
    free(copy);
    assert_null(g);
    assert_int_equal(status, code);
    assert_int_equal(err.code, code);
    assert_string_equal(err.text, text);
}

/* The whole file; the text after "m.gguf: KIND NAME at offset N: ". */
static void assert_record_refused(const char *kind, const char *name, const char *text) {
    char expected[300];
    const peri_gguf_field *f = field(name, kind[0] == 'k' ? "key_len" : "name_len");
    snprintf(expected, sizeof expected, "m.gguf: %s %s at offset %" PRIu64 ": %s", kind, name,
             f->record_off, text);
    assert_refused(file.size, PERI_E_CORRUPT, expected);
}

/* ---- good files ------------------------------------------------------------------------------ */

static void gguf_reads_keys_of_every_kind(void **state) {
    peri_gguf *g;
    peri_error err;
    void *copy;
    peri_str s;
    int64_t i;
    double d;
    bool b;
    (void)state;
    assert_ok(open_first(file.size, &g, &copy, &err), err);
    assert_int_equal(peri_gguf_version(g), 3);
    assert_int_equal(peri_gguf_n_values(g), 11);
    assert_int_equal(peri_gguf_file_bytes(g), file.size);
    assert_string_equal(peri_gguf_path(g), "m.gguf");
    assert_ok(peri_gguf_check(g, &err), err);
    assert_ok(peri_gguf_get_str(g, "general.architecture", &s, &err), err);
    assert_true(peri_str_eq_c(s, "test"));
    assert_ok(peri_gguf_get_i64(g, "t.count", 7, 7, &i, &err), err);
    assert_int_equal(i, 7);
    assert_ok(peri_gguf_get_i64(g, "t.minus", -10, 0, &i, &err), err);
    assert_int_equal(i, -7);
    assert_ok(peri_gguf_get_f64(g, "t.eps", 0, 1, &d, &err), err);
    assert_true(d == (double)1e-5f);
    assert_ok(peri_gguf_get_f64(g, "t.count", 0, 10, &d, &err), err);
    assert_true(d == 7);
    assert_ok(peri_gguf_get_bool(g, "t.flag", &b, &err), err);
    assert_true(b);
    const peri_gguf_value *v = peri_gguf_find(g, "t.words");
    assert_true(v->is_array && v->type == PERI_GGUF_STRING && v->n == 3);
    assert_int_equal(v->off, field("t.words", "key_len")->record_off);
    assert_true(peri_gguf_as_str(v, 2, &s) && peri_str_eq_c(s, "three"));
    assert_true(peri_gguf_as_str(v, 1, &s) && s.size == 0);
    assert_false(peri_gguf_as_str(v, 3, &s));
    assert_false(peri_gguf_as_i64(v, 0, &i));
    v = peri_gguf_find(g, "t.ints");
    assert_true(peri_gguf_as_i64(v, 1, &i) && i == -2);
    assert_true(peri_gguf_as_f64(v, 1, &d) && d == -2);
    assert_false(peri_gguf_as_i64(v, 3, &i));
    assert_int_equal(peri_gguf_find(g, "t.empty")->n, 0);
    v = peri_gguf_find(g, "t.floats");
    assert_true(peri_gguf_as_f64(v, 0, &d) && d == 0.5);
    assert_false(peri_gguf_as_i64(v, 0, &i)); /* no integer */
    assert_true(peri_gguf_as_i64(v, 1, &i) && i == -1);
    v = peri_gguf_find(g, "t.wide");
    assert_false(peri_gguf_as_i64(v, 0, &i));
    assert_true(peri_gguf_as_f64(v, 0, &d) && d == 18446744073709551616.0);
    assert_null(peri_gguf_find(g, "t.wid"));
    assert_null(peri_gguf_value_at(g, 11));
    assert_true(peri_str_eq_c(peri_gguf_value_at(g, 2)->key, "t.count"));
    peri_gguf_close(g);
    free(copy);
}

static void gguf_places_tensors_slowest_dimension_first(void **state) {
    peri_gguf *g;
    peri_error err;
    void *copy;
    (void)state;
    assert_ok(open_first(file.size, &g, &copy, &err), err);
    assert_int_equal(peri_gguf_n_tensors(g), 3);
    const peri_gguf_tensor *t = peri_gguf_find_tensor(g, "b.weight");
    assert_ptr_equal(t, peri_gguf_tensor_at(g, 1));
    assert_int_equal(t->n_dim, 2);
    assert_int_equal(t->dim[0], 1);
    assert_int_equal(t->dim[1], 1);
    assert_int_equal(t->dim[2], 2);
    assert_int_equal(t->dim[3], 64);
    assert_int_equal(t->dtype, PERI_DT_Q8_0);
    assert_int_equal(t->bytes, 136);
    assert_int_equal(t->info_off, field("b.weight", "name_len")->record_off);
    assert_int_equal(t->data - (const uint8_t *)copy, field("b.weight", "data")->off);
    assert_memory_equal(t->data, "\1\2\3", 3);
    assert_int_equal(peri_gguf_find_tensor(g, "c.weight")->dim[3], 5);
    assert_null(peri_gguf_find_tensor(g, "d.weight"));
    assert_null(peri_gguf_tensor_at(g, 3));
    peri_gguf_close(g);
    free(copy);
}

static void gguf_reads_version_2(void **state) {
    peri_gguf *g;
    peri_error err;
    void *copy;
    (void)state;
    patch("", "version", 2);
    assert_ok(open_first(file.size, &g, &copy, &err), err);
    assert_int_equal(peri_gguf_version(g), 2);
    peri_gguf_close(g);
    free(copy);
}

static void gguf_without_keys_and_tensors_opens(void **state) {
    peri_gguf *g;
    peri_error err;
    (void)state;
    assert_ok(peri_gguf_open_bytes("e", "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, &g, &err),
              err);
    assert_int_equal(peri_gguf_n_values(g), 0);
    assert_int_equal(peri_gguf_n_tensors(g), 0);
    assert_null(peri_gguf_find(g, "x"));
    assert_null(peri_gguf_find_tensor(g, "x"));
    peri_gguf_close(g);
    peri_gguf_close(NULL);
}

/* ---- getters --------------------------------------------------------------------------------- */

static void getters_name_key_offset_found_and_expected(void **state) {
    peri_gguf *g;
    peri_error err;
    void *copy;
    int64_t i = 99;
    double d = 99;
    bool b;
    peri_str s;
    char text[300];
    (void)state;
    assert_ok(open_first(file.size, &g, &copy, &err), err);
    assert_int_equal(peri_gguf_get_i64(g, "t.none", 0, 1, &i, &err), PERI_E_NOT_FOUND);
    assert_string_equal(err.text, "m.gguf: key t.none: found none, expected it");
    assert_int_equal(peri_gguf_get_i64(g, "t.count", 8, 9, &i, &err), PERI_E_CORRUPT);
    snprintf(text, sizeof text, "m.gguf: key t.count at offset %" PRIu64 ": found 7, expected 8..9",
             field("t.count", "key_len")->record_off);
    assert_string_equal(err.text, text);
    assert_int_equal(peri_gguf_get_i64(g, "t.wide", 0, 9, &i, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "found 18446744073709551615, expected 0..9");
    assert_int_equal(peri_gguf_get_i64(g, "t.ints", 0, 9, &i, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "found type array of i32, expected an integer");
    assert_int_equal(peri_gguf_get_i64(g, "t.eps", 0, 9, &i, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "found type f32, expected an integer");
    assert_int_equal(peri_gguf_get_i64(g, "t.flag", 0, 9, &i, &err), PERI_E_CORRUPT);
    assert_int_equal(peri_gguf_get_f64(g, "t.eps", 0.5, 1, &d, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "found 9.99999975e-06, expected a finite number in 0.5..1");
    assert_int_equal(peri_gguf_get_f64(g, "t.flag", 0, 1, &d, &err), PERI_E_CORRUPT);
    assert_int_equal(peri_gguf_get_f64(g, "t.floats", 0, 1, &d, &err), PERI_E_CORRUPT);
    assert_int_equal(peri_gguf_get_bool(g, "t.count", &b, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "found type u32, expected bool");
    assert_int_equal(peri_gguf_get_str(g, "t.words", &s, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "found type array of string, expected a string");
    assert_int_equal(i, 99);
    assert_true(d == 99);
    assert_int_equal(peri_gguf_fail_tensor(g, peri_gguf_tensor_at(g, 1), &err, "found %d", 1),
                     PERI_E_CORRUPT);
    snprintf(text, sizeof text, "m.gguf: tensor b.weight at offset %" PRIu64 ": found 1",
             field("b.weight", "name_len")->record_off);
    assert_string_equal(err.text, text);
    peri_gguf_close(g);
    free(copy);
}

static void float_getter_refuses_nan_and_infinities(void **state) {
    static const uint32_t poison[] = {0x7fc00000, 0x7f800000, 0xff800000, 0xffffffff};
    double d;
    (void)state;
    for (size_t i = 0; i < sizeof poison / sizeof poison[0]; i++) {
        peri_gguf *g;
        peri_error err;
        void *copy;
        patch("t.eps", "value", poison[i]);
        assert_ok(open_first(file.size, &g, &copy, &err), err);
        assert_int_equal(peri_gguf_get_f64(g, "t.eps", -INFINITY, INFINITY, &d, &err),
                         PERI_E_CORRUPT);
        assert_error(&err, PERI_E_CORRUPT, "key t.eps at offset");
        peri_gguf_close(g);
        free(copy);
    }
}

/* ---- header ---------------------------------------------------------------------------------- */

static void gguf_rejects_wrong_magic(void **state) {
    (void)state;
    patch("", "magic", 0x1b465547);
    assert_refused(file.size, PERI_E_CORRUPT,
                   "m.gguf: header: offset 0: magic: found \"GUF?\" (47 55 46 1b), "
                   "expected \"GGUF\"");
}

static void gguf_rejects_other_versions_and_byte_order(void **state) {
    (void)state;
    patch("", "version", 1);
    assert_refused(file.size, PERI_E_UNSUPPORTED,
                   "m.gguf: header: offset 4: version: found 1, expected 2 or 3");
    patch("", "version", 4);
    assert_refused(file.size, PERI_E_CORRUPT,
                   "m.gguf: header: offset 4: version: found 4, expected 2 or 3");
    patch("", "version", 0x03000000);
    assert_refused(file.size, PERI_E_UNSUPPORTED,
                   "m.gguf: header: offset 4: version: found a big-endian file, "
                   "expected a little-endian one");
}

static void gguf_rejects_every_truncated_header(void **state) {
    (void)state;
    assert_refused(0, PERI_E_CORRUPT,
                   "m.gguf: header: offset 0: magic: found 0 bytes left, expected at least 4");
    assert_refused(3, PERI_E_CORRUPT,
                   "m.gguf: header: offset 0: magic: found 3 bytes left, expected at least 4");
    assert_refused(7, PERI_E_CORRUPT,
                   "m.gguf: header: offset 4: version: found 3 bytes left, expected at least 4");
    assert_refused(15, PERI_E_CORRUPT,
                   "m.gguf: header: offset 8: tensor count: found 7 bytes left, expected at "
                   "least 8");
    assert_refused(20, PERI_E_CORRUPT,
                   "m.gguf: header: offset 8: tensor count: found 3, expected at most 0 in 20 "
                   "bytes");
}

static const uint64_t huge[] = {UINT64_C(1) << 31, UINT64_C(1) << 32, INT64_MAX, UINT64_C(1) << 63,
                                UINT64_MAX};
enum { N_HUGE = sizeof huge / sizeof huge[0] };

static void gguf_rejects_huge_counts(void **state) {
    char text[300];
    (void)state;
    for (int i = 0; i < N_HUGE; i++) {
        patch("", "n_tensor", huge[i]);
        snprintf(text, sizeof text,
                 "m.gguf: header: offset 8: tensor count: found %" PRIu64
                 ", expected at most %zu in %zu bytes",
                 huge[i], (file.size - 24) / 33, file.size);
        assert_refused(file.size, PERI_E_CORRUPT, text);
    }
    patch("", "n_tensor", 3);
    for (int i = 0; i < N_HUGE; i++) {
        patch("", "n_kv", huge[i]);
        snprintf(text, sizeof text,
                 "m.gguf: header: offset 16: key count: found %" PRIu64
                 ", expected at most %zu in %zu bytes",
                 huge[i], (file.size - 24) / 14, file.size);
        assert_refused(file.size, PERI_E_CORRUPT, text);
    }
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void gguf_rejects_bad_key_lengths(void **state) {
    char text[300];
    uint64_t off = field("t.count", "key_len")->off, left = file.size - off - 8;
    (void)state;
    for (int i = -1; i < N_HUGE; i++) {
        uint64_t n = i < 0 ? 0 : huge[i];
        patch("t.count", "key_len", n);
        snprintf(text, sizeof text,
                 "m.gguf: key 3 of 11 at offset %" PRIu64 ": name length: found %" PRIu64
                 ", expected 1..65535",
                 off, n);
        assert_refused(file.size, PERI_E_CORRUPT, text);
    }
    patch("t.count", "key_len", 65535);
    snprintf(text, sizeof text,
             "m.gguf: key 3 of 11 at offset %" PRIu64 ": name: found %" PRIu64
             " bytes left, expected at least 65535",
             off, left);
    assert_refused(file.size, PERI_E_CORRUPT, text);
}

static void gguf_rejects_nul_in_a_key(void **state) {
    char text[300];
    (void)state;
    file.data[field("t.count", "key")->off + 2] = 0;
    snprintf(text, sizeof text,
             "m.gguf: key 3 of 11 at offset %" PRIu64
             ": name: found a NUL byte in it, expected text",
             field("t.count", "key")->record_off);
    assert_refused(file.size, PERI_E_CORRUPT, text);
}

static void gguf_rejects_unknown_value_types(void **state) {
    (void)state;
    patch("t.count", "type", 13);
    assert_record_refused("key", "t.count", "found type 13, expected 0..12");
    patch("t.count", "type", UINT32_MAX);
    assert_record_refused("key", "t.count", "found type 4294967295, expected 0..12");
    patch("t.count", "type", PERI_GGUF_U32);
    patch("t.ints", "elem_type", 255);
    assert_record_refused("key", "t.ints", "found element type 255, expected 0..12");
}

static void gguf_rejects_nested_arrays(void **state) {
    char text[300];
    (void)state;
    patch("t.ints", "elem_type", PERI_GGUF_ARRAY);
    snprintf(text, sizeof text,
             "m.gguf: key t.ints at offset %" PRIu64
             ": found an array of arrays, expected an array of plain values",
             field("t.ints", "key_len")->record_off);
    assert_refused(file.size, PERI_E_UNSUPPORTED, text);
}

static void gguf_rejects_huge_array_counts(void **state) {
    (void)state;
    for (int i = 0; i < N_HUGE; i++) {
        char text[200];
        uint64_t left = file.size - field("t.ints", "value")->off;
        patch("t.ints", "count", huge[i]);
        snprintf(text, sizeof text,
                 "found %" PRIu64 " elements of i32, expected at most %" PRIu64 " (%" PRIu64
                 " bytes are left)",
                 huge[i], left / 4, left);
        assert_record_refused("key", "t.ints", text);
    }
    patch("t.ints", "count", 3);
    for (int i = 0; i < N_HUGE; i++) {
        char text[200];
        uint64_t left = file.size - field("t.words", "count")->off - 8;
        patch("t.words", "count", huge[i]);
        snprintf(text, sizeof text,
                 "found %" PRIu64 " strings, expected at most %" PRIu64 " (%" PRIu64
                 " bytes are left)",
                 huge[i], left / 8, left);
        assert_record_refused("key", "t.words", text);
    }
}

static void gguf_rejects_huge_string_lengths(void **state) {
    (void)state;
    for (int i = 0; i < N_HUGE; i++) {
        char text[200];
        snprintf(text, sizeof text,
                 "string: found %" PRIu64 " bytes left, expected at least %" PRIu64,
                 (uint64_t)file.size - field("general.architecture", "str")->off, huge[i]);
        patch("general.architecture", "str_len", huge[i]);
        assert_record_refused("key", "general.architecture", text);
    }
}

static void gguf_rejects_bools_that_are_neither(void **state) {
    (void)state;
    patch("t.flag", "value", 2);
    assert_record_refused("key", "t.flag", "found 2 as element 0 of a bool, expected 0 or 1");
}

static void gguf_rejects_duplicate_keys(void **state) {
    char text[300];
    (void)state;
    memcpy(file.data + field("t.minus", "key")->off, "t.count", 7); /* equal lengths */
    snprintf(text, sizeof text,
             "m.gguf: key t.count at offset %" PRIu64
             ": found the key a second time (first at offset %" PRIu64 "), expected it once",
             field("t.minus", "key")->record_off, field("t.count", "key")->record_off);
    assert_refused(file.size, PERI_E_CORRUPT, text);
}

static void gguf_escapes_hostile_names_in_messages(void **state) {
    char text[300];
    (void)state;
    memcpy(file.data + field("t.count", "key")->off, "\x1b[31m\x07\xff", 7);
    patch("t.count", "type", 99);
    snprintf(text, sizeof text,
             "m.gguf: key \\x1b[31m\\x07\\xff at offset %" PRIu64 ": found type 99, expected 0..12",
             field("t.count", "key")->record_off);
    assert_refused(file.size, PERI_E_CORRUPT, text);
}

/* Escaping makes four bytes of one: the place must not fall off the end of the message. */
static void gguf_keeps_the_offset_behind_a_long_hostile_name(void **state) {
    char text[300], key[200];
    peri_text b = {0};
    uint64_t counts[] = {0, 1}, len = sizeof key;
    (void)state;
    memset(key, 0xff, sizeof key);
    peri_text_add(&b, "GGUF\3\0\0\0", 8);
    peri_text_add(&b, counts, 16);
    peri_text_add(&b, &len, 8);
    peri_text_add(&b, key, sizeof key);
    peri_text_add(&b, "\77\0\0\0", 4);
    peri_error err = {0};
    peri_gguf *g;
    assert_int_equal(peri_gguf_open_bytes("m.gguf", b.data, b.size, &g, &err), PERI_E_CORRUPT);
    snprintf(text, sizeof text, "\\xff... at offset 24: found type 63, expected 0..12");
    assert_error(&err, PERI_E_CORRUPT, text);
    peri_text_fini(&b);
}

/* ---- alignment ------------------------------------------------------------------------------- */

static void gguf_rejects_bad_alignments(void **state) {
    static const uint32_t bad[] = {0,  1,  2,  4,        13,       24,       31,
                                   33, 48, 96, 3u << 10, 1u << 17, 1u << 31, UINT32_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[200];
        patch("general.alignment", "value", bad[i]);
        snprintf(text, sizeof text, "found %u, expected a power of two in 8..65536", bad[i]);
        assert_record_refused("key", "general.alignment", text);
    }
    patch("general.alignment", "value", 32);
    patch("general.alignment", "type", PERI_GGUF_I32);
    assert_record_refused("key", "general.alignment", "found type i32, expected u32");
    patch("general.alignment", "type", PERI_GGUF_F32);
    assert_record_refused("key", "general.alignment", "found type f32, expected u32");
}

static void gguf_honours_other_alignments(void **state) {
    (void)state;
    for (uint32_t alignment = 8; alignment <= 65536; alignment *= 2) {
        peri_gguf *g;
        peri_error err;
        void *copy;
        drop_small_file(NULL);
        gw_init(&writer);
        writer.alignment = alignment;
        gw_u32(&writer, "general.alignment", alignment);
        write_tensors(&writer, "");
        gw_finish(&writer, &file);
        assert_ok(open_first(file.size, &g, &copy, &err), err);
        assert_int_equal(peri_gguf_find_tensor(g, "c.weight")->data - (uint8_t *)copy,
                         field("c.weight", "data")->off);
        assert_int_equal(field("c.weight", "data")->off % alignment, 0);
        peri_gguf_close(g);
        free(copy);
    }
}

/* ---- tensors --------------------------------------------------------------------------------- */

static void gguf_rejects_bad_tensor_names(void **state) {
    char text[300];
    uint64_t off = field("b.weight", "name_len")->off;
    static const uint64_t bad[] = {0, 65, 255, UINT64_MAX};
    (void)state;
    for (int i = 0; i < 4; i++) {
        patch("b.weight", "name_len", bad[i]);
        snprintf(text, sizeof text,
                 "m.gguf: tensor 2 of 3 at offset %" PRIu64 ": name length: found %" PRIu64
                 ", expected 1..64",
                 off, bad[i]);
        assert_refused(file.size, PERI_E_CORRUPT, text);
    }
    patch("b.weight", "name_len", 8);
    file.data[field("b.weight", "name")->off] = 0;
    snprintf(text, sizeof text,
             "m.gguf: tensor 2 of 3 at offset %" PRIu64
             ": name: found a NUL byte in it, expected text",
             off);
    assert_refused(file.size, PERI_E_CORRUPT, text);
}

static void gguf_rejects_duplicate_tensors(void **state) {
    char text[300];
    (void)state;
    file.data[field("c.weight", "name")->off] = 'a';
    snprintf(text, sizeof text,
             "m.gguf: tensor a.weight at offset %" PRIu64
             ": found the name a second time (first at offset %" PRIu64 "), expected it once",
             field("c.weight", "name")->record_off, field("a.weight", "name")->record_off);
    assert_refused(file.size, PERI_E_CORRUPT, text);
}

static void gguf_rejects_dimension_counts(void **state) {
    static const uint32_t bad[] = {0, 5, 1u << 31, UINT32_MAX};
    (void)state;
    for (int i = 0; i < 4; i++) {
        char text[200];
        patch("b.weight", "n_dim", bad[i]);
        snprintf(text, sizeof text, "number of dimensions: found %u, expected 1..4", bad[i]);
        assert_record_refused("tensor", "b.weight", text);
    }
}

static void gguf_rejects_zero_and_negative_dimensions(void **state) {
    static const uint64_t bad[] = {0, UINT64_C(1) << 63, UINT64_MAX};
    (void)state;
    for (int i = 0; i < 3; i++) {
        char text[200];
        patch("c.weight", "dim", bad[i]);
        snprintf(text, sizeof text,
                 "dimension 0: found %" PRIu64 ", expected 1..9223372036854775807", bad[i]);
        assert_record_refused("tensor", "c.weight", text);
    }
}

static void gguf_rejects_dimension_products_that_wrap(void **state) {
    const peri_gguf_field *f = field("a.weight", "dim");
    uint64_t wrap = UINT64_C(0x7fffffffffffffc0); /* the pair of the published overflow */
    (void)state;
    memcpy(file.data + f[0].off, &wrap, 8);
    memcpy(file.data + f[1].off, &wrap, 8);
    assert_record_refused("tensor", "a.weight",
                          "dimension 1: found 9223372036854775744, expected a product of "
                          "dimensions below 2^63");
}

static void gguf_rejects_sizes_that_wrap(void **state) {
    uint64_t n = UINT64_C(1) << 62; /* times four bytes */
    const peri_gguf_field *f = field("a.weight", "dim");
    (void)state;
    memcpy(file.data + f[0].off, &n, 8);
    n = 1;
    memcpy(file.data + f[1].off, &n, 8);
    assert_record_refused("tensor", "a.weight",
                          "found 4611686018427387904 elements of F32, expected a size below 2^64 "
                          "bytes");
}

static void gguf_rejects_rows_of_partial_blocks(void **state) {
    (void)state;
    patch("b.weight", "dim", 48); /* 48 * 2 elements would be three blocks, a row one and a half */
    assert_record_refused("tensor", "b.weight",
                          "dimension 0: found 48, expected a multiple of 32 (blocks of Q8_0)");
}

static void gguf_rejects_unknown_and_removed_types(void **state) {
    static const uint32_t bad[] = {4, 5, 31, 33, 36, 38, 43, 99, UINT32_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[200];
        patch("c.weight", "dtype", bad[i]);
        snprintf(text, sizeof text, "found type %u, expected a known tensor type", bad[i]);
        assert_record_refused("tensor", "c.weight", text);
    }
}

static void gguf_rejects_misaligned_tensor(void **state) {
    (void)state;
    patch("b.weight", "offset", 65);
    assert_record_refused("tensor", "b.weight", "data offset: found 65, expected a multiple of 32");
}

static void gguf_rejects_tensor_past_end(void **state) {
    char text[300];
    uint64_t start = field("a.weight", "data")->off;
    (void)state;
    snprintf(text, sizeof text,
             "m.gguf: tensor c.weight at offset %" PRIu64 ": data: found 10 bytes at %" PRIu64
             "+224, expected an end within the file's %zu",
             field("c.weight", "name")->record_off, start, file.size - 1);
    assert_refused(file.size - 1, PERI_E_CORRUPT, text); /* by one byte */
    static const uint64_t far[] = {1 << 20, UINT64_C(1) << 32, UINT64_C(1) << 63, UINT64_MAX - 31};
    for (int i = 0; i < 4; i++) {
        patch("c.weight", "offset", far[i]);
        snprintf(text, sizeof text,
                 "data: found 10 bytes at %" PRIu64 "+%" PRIu64
                 ", expected an end within the file's %zu",
                 start, far[i], file.size);
        assert_record_refused("tensor", "c.weight", text);
    }
}

static void gguf_rejects_overlapping_tensors(void **state) {
    char text[300];
    (void)state;
    patch("c.weight", "offset", 64); /* inside b.weight */
    snprintf(text, sizeof text,
             "data: found an overlap with tensor b.weight at offset %" PRIu64 ", expected none",
             field("b.weight", "name")->record_off);
    assert_record_refused("tensor", "c.weight", text);
    patch("c.weight", "offset", 224);
    patch("a.weight", "offset", 160); /* the earlier record over the end of b */
    snprintf(text, sizeof text,
             "data: found an overlap with tensor a.weight at offset %" PRIu64 ", expected none",
             field("a.weight", "name")->record_off);
    assert_record_refused("tensor", "b.weight", text);
}

/* ---- truncation, memory, time ---------------------------------------------------------------- */

static void gguf_rejects_every_truncation(void **state) {
    (void)state;
    for (size_t n = 0; n < file.size; n++) {
        peri_gguf *g = NULL;
        peri_error err = {0};
        void *copy;
        peri_status status = open_first(n, &g, &copy, &err);
        assert_int_equal(status, PERI_E_CORRUPT);
        assert_non_null(strstr(err.text, "offset "));
        free(copy);
    }
}

static void gguf_reports_every_failed_allocation(void **state) {
    (void)state;
    peri_text bytes = file;
    peri_fault *heap = peri_fault_alloc_install();
    for (int persistent = 0; persistent < 2; persistent++) {
        for (uint64_t at = 1;; at++) {
            peri_gguf *g;
            peri_error err = {0};
            *heap = (peri_fault){.fail_at = at, .persistent = persistent != 0};
            peri_status status = peri_gguf_open_bytes("m", bytes.data, bytes.size, &g, &err);
            if (status == PERI_OK) {
                peri_gguf_close(g);
                assert_int_equal(heap->live, 0);
                assert_true(at > 5);
                break;
            }
            assert_int_equal(status, PERI_E_NOMEM);
            assert_error(&err, PERI_E_NOMEM, "out of memory");
            assert_null(g);
            assert_int_equal(heap->live, 0);
        }
    }
    peri_fault_alloc_remove();
}

/* Counts that the bytes left could just hold must not cost more than 4 N + 16 MB. */
static void assert_bounded(const peri_text *bytes) {
    peri_gguf *g = NULL;
    peri_fault *heap = peri_fault_alloc_install();
    if (peri_gguf_open_bytes("m", bytes->data, bytes->size, &g, NULL) == PERI_OK)
        peri_gguf_close(g);
    assert_int_equal(heap->live, 0);
    assert_true(heap->peak_bytes <= 4 * bytes->size + (16u << 20));
    peri_fault_alloc_remove();
}

static void gguf_memory_is_bounded_by_the_file(void **state) {
    enum { N = 1 << 20 };
    (void)state;
    /* as many keys as allowed, each as short as can be told apart, all valid */
    peri_text b = {0};
    uint64_t n = N, zero = 0, key_len = 4;
    peri_text_add(&b, "GGUF\3\0\0\0", 8);
    peri_text_add(&b, &zero, 8);
    peri_text_add(&b, &n, 8);
    for (uint32_t i = 0; i < N; i++) {
        char key[] = {(char)(i % 64 + 33), (char)(i / 64 % 64 + 33), (char)(i / 4096 % 64 + 33),
                      (char)(i / 262144 + 33)};
        peri_text_add(&b, &key_len, 8);
        peri_text_add(&b, key, 4);
        peri_text_add(&b, "\0\0\0\0\1", 5);
    }
    assert_bounded(&b);
    b.size = 24; /* the same count over an array of empty strings */
    n = 1;
    memcpy(b.data + 16, &n, 8);
    peri_text_add(&b, "\1\0\0\0\0\0\0\0a\11\0\0\0\10\0\0\0", 17);
    n = N;
    peri_text_add(&b, &n, 8);
    for (uint32_t i = 0; i < N; i++)
        peri_text_add(&b, &zero, 8);
    assert_bounded(&b);
    b.size -= 1; /* and the same cut short */
    assert_bounded(&b);
    peri_text_fini(&b);
}

static void gguf_with_a_million_tensors_opens(void **state) {
    enum { N = 1000000 };
    peri_gguf *g;
    peri_error err;
    (void)state;
    drop_small_file(NULL);
    gw_init(&writer);
    writer.alignment = 8;
    peri_text *b = &file;
    uint64_t n = N, one = 1, dim = 1;
    uint32_t n_dim = 1, type = PERI_DT_I8;
    peri_text_add(b, "GGUF\3\0\0\0", 8);
    peri_text_add(b, &n, 8);
    peri_text_add(b, &one, 8);
    peri_text_add(b, "\21\0\0\0\0\0\0\0general.alignment\4\0\0\0\10\0\0\0", 33);
    for (uint32_t i = 0; i < N; i++) {
        char name[16];
        unsigned number = (unsigned)((uint64_t)(N - i) * 7919 % N); /* a permutation */
        uint64_t name_len = (uint64_t)snprintf(name, sizeof name, "t%u", number);
        uint64_t off = 8 * (uint64_t)i;
        peri_text_add(b, &name_len, 8);
        peri_text_add(b, name, (size_t)name_len);
        peri_text_add(b, &n_dim, 4);
        peri_text_add(b, &dim, 8);
        peri_text_add(b, &type, 4);
        peri_text_add(b, &off, 8);
    }
    while (b->size % 8 != 0)
        peri_text_add(b, "", 1);
    for (uint32_t i = 0; i < N; i++)
        peri_text_add(b, &n, 8);
    assert_ok(peri_gguf_open_bytes("m", b->data, b->size, &g, &err), err);
    assert_non_null(peri_gguf_find_tensor(g, "t123456"));
    assert_null(peri_gguf_find_tensor(g, "t1000000"));
    peri_gguf_close(g);
    assert_bounded(b);
}

/* ---- element types --------------------------------------------------------------------------- */

static void dtype_table_answers(void **state) {
    peri_error err;
    uint64_t bytes = 1;
    (void)state;
    assert_string_equal(peri_dtype_get(PERI_DT_Q4_K)->name, "Q4_K");
    assert_null(peri_dtype_get(4));
    assert_int_equal(peri_dtype_find(PERI_STR("q6_k"))->number, PERI_DT_Q6_K);
    assert_null(peri_dtype_find(PERI_STR("q6_")));
    assert_null(peri_dtype_find(PERI_STR("q6_kk")));
    for (uint32_t i = 0; i < 64; i++) {
        const peri_dtype_info *t = peri_dtype_get(i);
        if (t == NULL) continue;
        assert_int_equal(t->number, i);
        assert_ptr_equal(peri_dtype_find(peri_str_of(t->name)), t);
    }
    assert_ok(peri_dtype_bytes(PERI_DT_Q4_K, 512, &bytes, &err), err);
    assert_int_equal(bytes, 288);
    assert_int_equal(peri_dtype_bytes(PERI_DT_Q4_K, 128, &bytes, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "found 128 elements of Q4_K, expected a multiple of 256");
    assert_int_equal(peri_dtype_bytes(PERI_DT_F64, UINT64_C(1) << 61, &bytes, &err), PERI_E_RANGE);
    assert_int_equal(peri_dtype_bytes(4, 1, &bytes, &err), PERI_E_RANGE);
    assert_int_equal(bytes, 288);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, make_small_file, drop_small_file)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(gguf_reads_keys_of_every_kind),
        CASE(gguf_places_tensors_slowest_dimension_first),
        CASE(gguf_reads_version_2),
        CASE(gguf_without_keys_and_tensors_opens),
        CASE(getters_name_key_offset_found_and_expected),
        CASE(float_getter_refuses_nan_and_infinities),
        CASE(gguf_rejects_wrong_magic),
        CASE(gguf_rejects_other_versions_and_byte_order),
        CASE(gguf_rejects_every_truncated_header),
        CASE(gguf_rejects_huge_counts),
        CASE(gguf_rejects_bad_key_lengths),
        CASE(gguf_rejects_nul_in_a_key),
        CASE(gguf_rejects_unknown_value_types),
        CASE(gguf_rejects_nested_arrays),
        CASE(gguf_rejects_huge_array_counts),
        CASE(gguf_rejects_huge_string_lengths),
        CASE(gguf_rejects_bools_that_are_neither),
        CASE(gguf_rejects_duplicate_keys),
        CASE(gguf_escapes_hostile_names_in_messages),
        CASE(gguf_keeps_the_offset_behind_a_long_hostile_name),
        CASE(gguf_rejects_bad_alignments),
        CASE(gguf_honours_other_alignments),
        CASE(gguf_rejects_bad_tensor_names),
        CASE(gguf_rejects_duplicate_tensors),
        CASE(gguf_rejects_dimension_counts),
        CASE(gguf_rejects_zero_and_negative_dimensions),
        CASE(gguf_rejects_dimension_products_that_wrap),
        CASE(gguf_rejects_sizes_that_wrap),
        CASE(gguf_rejects_rows_of_partial_blocks),
        CASE(gguf_rejects_unknown_and_removed_types),
        CASE(gguf_rejects_misaligned_tensor),
        CASE(gguf_rejects_tensor_past_end),
        CASE(gguf_rejects_overlapping_tensors),
        CASE(gguf_rejects_every_truncation),
        CASE(gguf_reports_every_failed_allocation),
        CASE(gguf_memory_is_bounded_by_the_file),
        CASE(gguf_with_a_million_tensors_opens),
        cmocka_unit_test(dtype_table_answers),
    };
    return peri_run_tests(tests);
}
