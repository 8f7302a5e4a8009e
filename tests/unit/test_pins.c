/* SPDX-License-Identifier: MIT
 *
 * test_pins.c - the record of plugins: made at the first use, compared at every other.  Lack of
 * memory on the way is in test_registry.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io.h"
#include "harness.h"
#include "plugin_rig.h"

#define ONE_NODE "package:1 numa:1(memory=4GB) core:2 pu:1"

static char records[4096];

/* The text of the records; static storage. */
static const char *read_records(const peri_rig *rig) {
    char *text;
    size_t size;
    peri_error err = {0};
    assert_ok(peri_file_read(rig_path(rig, "data/perigee/plugins.json"), sizeof records - 1, &text,
                             &size, &err),
              err);
    snprintf(records, sizeof records, "%s", text);
    peri_free(text);
    return records;
}

static void write_records(const peri_rig *rig, const char *text) {
    peri_error err = {0};
    assert_ok(peri_file_write(rig_path(rig, "data/perigee/plugins.json"), text, strlen(text), &err),
              err);
}

static bool has_note(const peri_rig *rig, const char *part) {
    char *json;
    peri_error err = {0};
    assert_ok(peri_registry_to_json(rig->registry, &json, &err), err);
    bool found = strstr(json, part) != NULL;
    peri_free(json);
    return found;
}

/* One plugin, looked at once. */
static void start(peri_rig *rig) {
    rig_init(rig, ONE_NODE);
    rig_add(rig, rig_copy(rig, rig_plugin("new_header"), "one.so", 0755));
    rig_look(rig);
    assert_int_equal(rig_file(rig, "one.so")->state, PERI_PLUGIN_USABLE);
    assert_int_equal(strlen(rig_file(rig, "one.so")->sha256), 64);
    assert_non_null(strstr(read_records(rig), rig_file(rig, "one.so")->sha256));
}

static void change(peri_rig *rig) {
    rig_copy(rig, rig_plugin("old_header"), "one.so", 0755);
}

static void same_bytes_are_no_change(void **state) {
    (void)state;
    peri_rig rig;
    start(&rig);
    char before[65];
    snprintf(before, sizeof before, "%s", rig_file(&rig, "one.so")->sha256);
    rig.is_pinned = true;
    rig_look(&rig);
    assert_int_equal(rig_file(&rig, "one.so")->state, PERI_PLUGIN_USABLE);
    rig_copy(&rig, rig_plugin("new_header"), "one.so", 0755); /* another inode or time */
    rig_look(&rig);
    assert_int_equal(rig_file(&rig, "one.so")->state, PERI_PLUGIN_USABLE);
    assert_string_equal(rig_file(&rig, "one.so")->sha256, before);
    assert_false(has_note(&rig, "has changed since"));
    rig_fini(&rig);
}

static void a_change_is_reported_once(void **state) {
    (void)state;
    peri_rig rig;
    start(&rig);
    char before[65];
    snprintf(before, sizeof before, "%s", rig_file(&rig, "one.so")->sha256);
    change(&rig);
    rig_look(&rig);
    assert_int_equal(rig_file(&rig, "one.so")->state, PERI_PLUGIN_USABLE);
    assert_true(has_note(&rig, "one.so has changed since 20"));
    before[16] = 0;
    assert_true(has_note(&rig, before));
    assert_non_null(strstr(read_records(&rig), rig_file(&rig, "one.so")->sha256));
    assert_null(strstr(read_records(&rig), before));
    rig_look(&rig);
    assert_false(has_note(&rig, "has changed since"));
    rig_fini(&rig);
}

static void a_change_is_refused_when_pinned(void **state) {
    (void)state;
    peri_rig rig;
    start(&rig);
    change(&rig);
    rig.is_pinned = true;
    for (int i = 0; i < 2; i++) { /* refusing does not accept it */
        rig_look(&rig);
        assert_int_equal(rig_file(&rig, "one.so")->state, PERI_PLUGIN_REFUSED);
        assert_non_null(strstr(rig_file(&rig, "one.so")->reason, "has changed since 20"));
        assert_int_equal(peri_registry_n_device(rig.registry), 0);
    }
    rig.is_pinned = false;
    rig_look(&rig);
    rig.is_pinned = true;
    rig_look(&rig);
    assert_int_equal(rig_file(&rig, "one.so")->state, PERI_PLUGIN_USABLE);
    rig_fini(&rig);
}

/* A plugin whose constructor kills its process is refused before it is examined. */
static void a_refused_file_is_not_run(void **state) {
    (void)state;
    peri_rig rig;
    start(&rig);
    rig_copy(&rig, rig_plugin("bad_ill"), "one.so", 0755);
    rig.is_pinned = true;
    rig_look(&rig);
    assert_non_null(strstr(rig_file(&rig, "one.so")->reason, "has changed since"));
    assert_null(strstr(rig_file(&rig, "one.so")->reason, "crashed"));
    rig_fini(&rig);
}

static void damaged_records_are_told(void **state) {
    (void)state;
    static const char *const texts[] = {"", "{", "[]", "{\"plugins\": []}", "\xff\xfe"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        peri_rig rig;
        start(&rig);
        write_records(&rig, texts[i]);
        rig.is_pinned = true;
        rig_look(&rig);
        assert_int_equal(rig_file(&rig, "one.so")->state, PERI_PLUGIN_REFUSED);
        assert_non_null(strstr(rig_file(&rig, "one.so")->reason, "is not recorded (--pinned): "));
        assert_non_null(strstr(rig_file(&rig, "one.so")->reason, "plugins.json"));
        assert_string_equal(read_records(&rig), texts[i]);
        rig.is_pinned = false;
        rig_look(&rig);
        assert_int_equal(rig_file(&rig, "one.so")->state, PERI_PLUGIN_USABLE);
        assert_true(has_note(&rig, "plugins are not recorded: "));
        rig.is_pinned = true; /* they were written anew */
        rig_look(&rig);
        assert_int_equal(rig_file(&rig, "one.so")->state, PERI_PLUGIN_USABLE);
        rig_fini(&rig);
    }
}

/* Entries that are no entries count as none. */
static void odd_entries_are_recorded_anew(void **state) {
    (void)state;
    static const char *const entries[] = {
        "3", "{}", "{\"sha256\": 4, \"id\": []}", "{\"sha256\": \"abc\", \"id\": \"\"}",
        "{\"sha256\": \"zz00000000000000000000000000000000000000000000000000000000000000\"}"};
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        char text[512];
        peri_rig rig;
        start(&rig);
        snprintf(text, sizeof text, "{\"plugins\": {\"%s\": %s}}", rig_file(&rig, "one.so")->path,
                 entries[i]);
        write_records(&rig, text);
        rig_look(&rig);
        assert_int_equal(rig_file(&rig, "one.so")->state, PERI_PLUGIN_USABLE);
        assert_false(has_note(&rig, "has changed since"));
        assert_non_null(strstr(read_records(&rig), rig_file(&rig, "one.so")->sha256));
        rig_fini(&rig);
    }
}

static void without_a_place_pinned_refuses(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, ONE_NODE);
    rig_add(&rig, rig_copy(&rig, rig_plugin("new_header"), "one.so", 0755));
    FILE *f = fopen(rig_path(&rig, "data"), "w"); /* a file where the folder should be */
    assert_non_null(f);
    fclose(f);
    rig_look(&rig);
    assert_int_equal(rig_file(&rig, "one.so")->state, PERI_PLUGIN_USABLE);
    assert_true(has_note(&rig, "plugins are not recorded: "));
    rig.is_pinned = true;
    rig_look(&rig);
    assert_int_equal(rig_file(&rig, "one.so")->state, PERI_PLUGIN_REFUSED);
    unsetenv("XDG_DATA_HOME");
    unsetenv("HOME");
    rig_look(&rig);
    assert_non_null(strstr(rig_file(&rig, "one.so")->reason,
                           "there is no place for them: neither XDG_DATA_HOME nor HOME is set"));
    rig_fini(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes_are_no_change),
        cmocka_unit_test(a_change_is_reported_once),
        cmocka_unit_test(a_change_is_refused_when_pinned),
        cmocka_unit_test(a_refused_file_is_not_run),
        cmocka_unit_test(damaged_records_are_told),
        cmocka_unit_test(odd_entries_are_recorded_anew),
        cmocka_unit_test(without_a_place_pinned_refuses),
    };
    return peri_run_tests(tests);
}
