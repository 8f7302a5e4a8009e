/* SPDX-License-Identifier: MIT
 *
 * test_figures.c - when devices are measured, what is kept, and that placements go by it.  What
 * the clock says is never asserted but where a fake device sleeps: it cannot be faster. */
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "fault.h"
#include "harness.h"
#include "model/dtype.h"
#include "plugin_rig.h"
#include "run/calibrate.h"

static const uint32_t q8[] = {PERI_DT_Q8_0}, q8_f16[] = {PERI_DT_Q8_0, PERI_DT_F16};

/* ---- a measure that counts ---- */

static int n_measured, n_types;
static const char *measured_name;
static peri_status answer;

/* "fast" reads at 900 GB/s, every other device at 50. */
static peri_status fake_measure(peri_backend *b, const uint32_t *dtype, uint32_t n, peri_figures *f,
                                peri_error *err) {
    bool is_fast = strcmp(b->info.name, "fast") == 0;
    n_measured++;
    measured_name = is_fast ? "fast" : "other";
    if (answer) return peri_fail(err, answer, "it is\nasleep");
    f->op_us = 2;
    f->copy_us = 5;
    f->link_gbps = 20;
    for (uint32_t i = 0; i < n; i++) {
        if (peri_figures_type(f, dtype[i])) continue;
        n_types++;
        f->type[f->n_type++] = (peri_type_rate){dtype[i], is_fast ? 900 : 50, 3, 1000};
    }
    return PERI_OK;
}

static void use_rig(peri_rig *rig, const char *devices) {
    rig_init(rig, NULL);
    rig_add(rig, rig_null());
    rig->want_cache = true;
    rig->measure = fake_measure;
    rig_set(rig, "null.devices", devices);
    rig_look(rig);
    n_measured = n_types = 0;
    answer = PERI_OK;
}

static const peri_figures *measure(peri_rig *rig, const char *name, const uint32_t *dtype,
                                   uint32_t n, bool is_again) {
    size_t i = rig_device(rig, name);
    peri_registry_measure(rig->registry, i, NULL, dtype, n, is_again);
    return peri_registry_figures(rig->registry, i);
}

/* ---- when ---- */

static void figures_are_kept_by_type(void **state) {
    (void)state;
    peri_rig rig;
    use_rig(&rig, "name=a;name=b");
    const peri_figures *f = measure(&rig, "a", q8, 1, false);
    assert_int_equal(n_measured, 1);
    assert_true(f->date[0] != 0 && f->n_type == 1 && f->type[0].dtype == PERI_DT_Q8_0);
    measure(&rig, "a", q8, 1, false);
    assert_int_equal(n_measured, 1);
    rig_look(&rig); /* as a later process would */
    f = peri_registry_figures(rig.registry, rig_device(&rig, "a"));
    assert_true(f->n_type == 1 && f->type[0].gbps == 50 && f->type[0].op_us == 3 &&
                f->type[0].gmacs == 1000 && f->op_us == 2 && f->copy_us == 5 && f->link_gbps == 20);
    measure(&rig, "a", q8, 1, false);
    assert_int_equal(n_measured, 1);
    f = measure(&rig, "a", q8_f16, 2, false); /* only the new type */
    assert_int_equal(n_measured, 2);
    assert_int_equal(n_types, 2);
    assert_int_equal(f->n_type, 2);
    measure(&rig, "b", q8, 1, false); /* another device is another entry */
    assert_int_equal(n_measured, 3);
    f = measure(&rig, "a", q8_f16, 2, true);
    assert_int_equal(n_measured, 4);
    assert_int_equal(n_types, 5);
    assert_int_equal(f->n_type, 2);
    rig_fini(&rig);
}

static void a_changed_device_is_measured_again(void **state) {
    (void)state;
    static const char *const other[] = {"name=a,gbps=7", "name=a,mem=5e9", "name=a,location=x",
                                        "name=a,model=m"};
    peri_rig rig;
    use_rig(&rig, "name=a");
    measure(&rig, "a", q8, 1, false);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        rig_set(&rig, "null.devices", other[i]);
        rig_look(&rig);
        measure(&rig, "a", q8, 1, false);
        assert_int_equal(n_measured, (int)i + 2);
    }
    rig_set(&rig, "null.devices", "name=a"); /* the first is still known */
    rig_look(&rig);
    measure(&rig, "a", q8, 1, false);
    assert_int_equal(n_measured, 5);
    rig.n_thread = 1; /* fewer threads, or more: another speed */
    rig_look(&rig);
    size_t before = (size_t)n_measured;
    rig_set(&rig, "null.devices", "name=a;name=b"); /* an option that the plugin asks for */
    rig_look(&rig);
    measure(&rig, "a", q8, 1, false);
    assert_int_equal(n_measured, (int)before + 1);
    rig_fini(&rig);
}

static void a_damaged_file_is_a_hint_and_no_more(void **state) {
    (void)state;
    static const char *const damage[] = {
        "", "{", "[]", "{\"devices\": 7}", "{\"devices\": {\"a\": {}}}",
    };
    peri_rig rig;
    use_rig(&rig, "name=a");
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        measure(&rig, "a", q8, 1, false);
        assert_int_equal(n_measured, (int)i + 1);
        FILE *f = fopen(rig_path(&rig, "cache/perigee/figures.json"), "w");
        assert_non_null(f);
        fputs(damage[i], f);
        fclose(f);
        rig_look(&rig);
        assert_int_equal(peri_registry_figures(rig.registry, 0)->n_type, 0);
    }
    rig_fini(&rig);
}

/* Every number of a sound file, replaced by what is none or is out of range. */
static void odd_numbers_are_not_taken_over(void **state) {
    (void)state;
    static const char *const odd[] = {"-1", "1e300", "\"7\"", "null", "[]"};
    char text[4000], changed[4100];
    peri_rig rig;
    use_rig(&rig, "name=a");
    measure(&rig, "a", q8, 1, false);
    FILE *f = fopen(rig_path(&rig, "cache/perigee/figures.json"), "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    const char *at = strstr(text, "\"attn_gmacs\":");
    assert_non_null(at);
    int n = 0;
    for (const char *s = at; (s = strpbrk(s, "0123456789")) != NULL;
         s += strspn(s, "0123456789.")) {
        if (s[-1] != ' ') continue; /* within a name or a date */
        for (size_t i = 0; i < sizeof odd / sizeof *odd; i++, n++) {
            snprintf(changed, sizeof changed, "%.*s%s%s", (int)(s - text), text, odd[i],
                     s + strspn(s, "0123456789.e"));
            f = fopen(rig_path(&rig, "cache/perigee/figures.json"), "w");
            assert_non_null(f);
            fputs(changed, f);
            fclose(f);
            rig_look(&rig);
            if (peri_registry_figures(rig.registry, 0)->date[0])
                fail_msg("taken over: %s", changed);
        }
    }
    assert_int_equal(n, 9 * 5);
    rig_fini(&rig);
}

static void what_cannot_be_measured_says_why_and_is_left_alone(void **state) {
    (void)state;
    peri_rig rig;
    use_rig(&rig, "name=a,gbps=9");
    answer = PERI_E_UNSUPPORTED;
    const peri_figures *f = measure(&rig, "a", q8, 1, false);
    assert_string_equal(f->why, "it is\\x0aasleep");
    assert_int_equal(f->n_type, 0);
    measure(&rig, "a", q8, 1, false);
    assert_int_equal(n_measured, 1);
    const peri_reads reads = {.bytes = 1000, .n_type = 1, .type = {{PERI_DT_Q8_0, 1000}}};
    peri_split_device s = peri_place_figures(rig.registry, 0, &reads);
    assert_true(s.gbps == 9 && s.copy_us == PERI_SPLIT_COPY_US);
    answer = PERI_OK;
    f = measure(&rig, "a", q8, 1, true); /* asked for, it is tried again */
    assert_true(f->why[0] == 0 && f->n_type == 1);
    rig_fini(&rig);
}

static void declared_figures_can_be_wanted(void **state) {
    (void)state;
    peri_rig rig;
    peri_error err;
    use_rig(&rig, "name=a,gbps=9");
    measure(&rig, "a", q8, 1, false);
    rig_set(&rig, "place.figures", "declared");
    rig_look(&rig);
    const peri_figures *f = measure(&rig, "a", q8, 1, true);
    assert_true(f->n_type == 0 && n_measured == 1);
    rig_set(&rig, "place.figures", "guessed");
    assert_int_equal(rig_try(&rig, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "\"guessed\", expected measured or declared");
    rig_fini(&rig);
}

/* ---- what they decide ---- */

static void placement_goes_by_what_was_measured(void **state) {
    (void)state;
    const peri_reads reads = {.bytes = 4000000000,
                              .n_type = 2,
                              .type = {{PERI_DT_Q8_0, 3000000000}, {PERI_DT_F16, 1000000000}}};
    peri_rig rig;
    peri_choice c;
    peri_error err;
    use_rig(&rig, "name=boast,native=1,gbps=2000;name=fast,native=1,gbps=10");
    assert_ok(peri_place_choose(rig.registry, &reads, NULL, &c, &err), err);
    assert_int_equal(c.device, rig_device(&rig, "fast"));
    assert_non_null(strstr(c.why, "225 tokens/s predicted (900 GB/s)"));
    peri_split_device s = peri_place_figures(rig.registry, c.device, &reads);
    assert_true(s.gbps > 899 && s.gbps < 901 && s.op_us == 2 && s.linear_us == 3 &&
                s.copy_us == 5 && s.link_gbps == 20);
    rig_set(&rig, "place.figures", "declared");
    rig_look(&rig);
    assert_ok(peri_place_choose(rig.registry, &reads, NULL, &c, &err), err);
    assert_int_equal(c.device, rig_device(&rig, "boast"));
    rig_fini(&rig);
    use_rig(&rig, "name=only,native=1"); /* nothing to compare it with */
    assert_ok(peri_place_choose(rig.registry, &reads, NULL, &c, &err), err);
    assert_int_equal(n_measured, 0);
    rig_fini(&rig);
}

static void rates_of_types_add_up_by_time(void **state) {
    (void)state;
    const peri_reads reads = {
        .n_type = 3, .type = {{PERI_DT_Q8_0, 600}, {PERI_DT_F16, 300}, {PERI_DT_F32, 100}}};
    peri_figures f = {.n_type = 2, .type = {{PERI_DT_Q8_0, 100, 0, 0}, {PERI_DT_F16, 50, 0, 0}}};
    double gbps = peri_figures_gbps(&f, &reads); /* 900 in 6 + 6: F32 is read like the others */
    assert_true(gbps > 74.99 && gbps < 75.01);
    f.type[1].gbps = 0; /* declined */
    gbps = peri_figures_gbps(&f, &reads);
    assert_true(gbps > 99.99 && gbps < 100.01);
    f.n_type = 0;
    assert_true(peri_figures_gbps(&f, &reads) == 0);
}

/* ---- measuring in earnest ---- */

static void use_twins(peri_rig *rig, const char *devices) {
    rig_init(rig, NULL);
    rig_add(rig, rig_plugin("twin"));
    rig->measure = peri_calibrate;
    rig_set(rig, "twin.base", PERI_PLUGIN_DIR "/cpu.so");
    rig_set(rig, "twin.devices", devices);
    rig_look(rig);
}

static void the_processor_can_be_measured(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, NULL);
    rig_add(&rig, PERI_PLUGIN_DIR "/cpu.so");
    rig.measure = peri_calibrate;
    rig_look(&rig);
    const peri_figures *f = measure(&rig, "cpu", q8_f16, 2, false);
    assert_string_equal(f->why, "");
    assert_int_equal(f->n_type, 2);
    for (int i = 0; i < 2; i++)
        assert_true(f->type[i].gbps > 0 && f->type[i].gmacs > 0 && f->type[i].op_us >= 0);
    assert_true(f->op_us > 0 && f->kv_gbps > 0 && f->attn_gmacs > 0 && f->copy_us > 0 &&
                f->link_gbps > 0);
    rig_fini(&rig);
}

/* 10^9 bytes/s of a matrix as large as a layer's, all told. */
static double in_all(const peri_type_rate *t) {
    double bytes = 2048 * 2176.0; /* Q8_0 */
    return bytes / (bytes / t->gbps + t->op_us * 1e3);
}

/* The fake sleeps until its bandwidth allows what was read, save for half a millisecond, so no
 * measurement can be far above it. */
static void a_fake_of_known_speed_is_not_found_faster(void **state) {
    (void)state;
    peri_rig rig;
    use_twins(&rig, "name=own,pace=1,own=1,gbps=0.8;name=host,pace=1,gbps=0.4");
    const peri_figures *own = measure(&rig, "own", q8, 1, false),
                       *host = measure(&rig, "host", q8, 1, false);
    assert_true(own->type[0].gbps > 0 && in_all(own->type) < 0.8 * 1.1);
    assert_true(host->type[0].gbps > 0 && in_all(host->type) < 0.4 * 1.1);
    assert_true(own->copy_us > 0 && own->link_gbps > 0);
    rig_fini(&rig);
}

static void declined_ops_are_told_from_slow_ones(void **state) {
    (void)state;
    peri_rig rig;
    use_twins(&rig, "name=a,type=8;name=b,no=ATTN,own=1;name=c,no=NORM;name=d,own=1,limit=1e5");
    const peri_figures *f = measure(&rig, "a", q8_f16, 2, false);
    assert_int_equal(f->n_type, 2);
    assert_true(f->type[0].gbps == 0 && f->type[0].gmacs == 0 && f->type[1].gbps > 0);
    f = measure(&rig, "b", q8, 1, false);
    assert_true(f->kv_gbps == 0 && f->attn_gmacs == 0 && f->type[0].gbps > 0);
    f = measure(&rig, "c", q8, 1, false);
    assert_string_equal(f->why, "it declines NORM");
    f = measure(&rig, "d", q8, 1, false); /* it has no memory for an op's operands */
    assert_true(f->why[0] != 0 && f->date[0] == 0);
    rig_fini(&rig);
}

static void measuring_survives_lack_of_memory(void **state) {
    (void)state;
    peri_rig rig;
    peri_error err;
    peri_fault *f = peri_fault_alloc_install();
    use_twins(&rig, "name=own,own=1");
    peri_backend *b;
    peri_figures warm = {0};
    assert_ok(peri_registry_open(rig.registry, 0, &b, &err), err);
    assert_ok(peri_calibrate(b, NULL, 0, &warm, &err), err); /* what the plugin keeps is made */
    uint64_t held = f->live;
    for (uint64_t n = 1; n < 40; n++) { /* the first allocations are those of all later ones */
        peri_figures figures = {0};
        f->calls = 0;
        f->fail_at = n;
        peri_status st = peri_calibrate(b, NULL, 0, &figures, &err);
        bool is_past_end = f->calls < n;
        f->fail_at = 0;
        assert_true(st == PERI_OK || st == PERI_E_NOMEM);
        assert_int_equal(f->live, held);
        if (is_past_end) break;
    }
    peri_backend_close(b);
    rig_fini(&rig);
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_kept_by_type),
        cmocka_unit_test(a_changed_device_is_measured_again),
        cmocka_unit_test(a_damaged_file_is_a_hint_and_no_more),
        cmocka_unit_test(odd_numbers_are_not_taken_over),
        cmocka_unit_test(what_cannot_be_measured_says_why_and_is_left_alone),
        cmocka_unit_test(declared_figures_can_be_wanted),
        cmocka_unit_test(placement_goes_by_what_was_measured),
        cmocka_unit_test(rates_of_types_add_up_by_time),
        cmocka_unit_test(the_processor_can_be_measured),
        cmocka_unit_test(a_fake_of_known_speed_is_not_found_faster),
        cmocka_unit_test(declined_ops_are_told_from_slow_ones),
        cmocka_unit_test(measuring_survives_lack_of_memory),
    };
    return peri_run_tests(tests);
}
