/* SPDX-License-Identifier: MIT
 *
 * test_sampling.c - sampling parameters by name, orders, defaults by origin and from the file,
 * copies, and what a session makes of them. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/text.h"
#include "fault.h"
#include "gguf_writer.h"
#include "run/sampling.h"

static peri_sampling p;
static peri_error err;

static void order_is(const char *want) {
    peri_text text = {0};
    peri_sampling_order(&p, &text);
    assert_string_equal(text.size ? text.data : "", want);
    peri_text_fini(&text);
}

#define USUAL "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature"

static void names_set_fields(void **state) {
    (void)state;
    memset(&p, 0, sizeof p);
    assert_ok(peri_sampling_set(&p, "top_k", 7, &err), err);
    assert_ok(peri_sampling_set(&p, "top_p", 0.5, &err), err);
    assert_ok(peri_sampling_set(&p, "temperature", 1.5, &err), err);
    assert_ok(peri_sampling_set(&p, "ignore_eos", 1, &err), err);
    assert_ok(peri_sampling_set(&p, "seed", 0x1p53, &err), err);
    assert_int_equal(p.top_k, 7);
    assert_float_equal(p.top_p, 0.5, 0);
    assert_float_equal(p.temp, 1.5, 0);
    assert_int_equal(p.ignore_eos, 1);
    assert_true(p.seed == 1ull << 53);
    for (size_t i = 0; i < peri_sampling_n_param; i++)
        assert_int_equal(peri_sampling_find(peri_sampling_params[i].name), i);
}

static void wrong_names_and_values_are_told_with_what_would_be_right(void **state) {
    (void)state;
    memset(&p, 0, sizeof p);
    const peri_sampling before = p;
    assert_int_equal(peri_sampling_set(&p, "top_kk", 1, &err), PERI_E_NOT_FOUND);
    assert_error(&err, PERI_E_NOT_FOUND, "did you mean top_k?");
    assert_int_equal(peri_sampling_set(&p, "zebra", 1, &err), PERI_E_NOT_FOUND);
    assert_error(&err, PERI_E_NOT_FOUND, "zebra: no such sampling parameter");
    assert_int_equal(peri_sampling_set(&p, "top_p", 1.5, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "top_p: found 1.5, expected a number from 0 to 1");
    assert_int_equal(peri_sampling_set(&p, "top_k", 1.5, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "a whole number");
    assert_int_equal(peri_sampling_set(&p, "seed", -1, &err), PERI_E_RANGE);
    assert_int_equal(peri_sampling_set(&p, "temp", NAN, &err), PERI_E_RANGE);
    assert_memory_equal(&p, &before, sizeof p);
}

static void orders_are_names_or_letters(void **state) {
    (void)state;
    memset(&p, 0, sizeof p);
    order_is(USUAL);
    assert_ok(peri_sampling_set_order(&p, "top_k;temperature", &err), err);
    order_is("top_k;temperature");
    assert_ok(peri_sampling_set_order(&p, " temp , typical_p ", &err), err);
    order_is("temperature;typ_p");
    assert_ok(peri_sampling_set_order(&p, "edskypmxt", &err), err);
    order_is(USUAL);
    assert_ok(peri_sampling_set_order(&p, "ai", &err), err);
    order_is("adaptive_p;infill");
    assert_ok(peri_sampling_set_order(&p, "xtc", &err), err); /* a name, though x, t are letters */
    order_is("xtc");
    assert_ok(peri_sampling_set_order(&p, "none", &err), err);
    order_is("");
    assert_int_equal(peri_sampling_set_order(&p, "top_k;topp", &err), PERI_E_NOT_FOUND);
    assert_error(&err, PERI_E_NOT_FOUND, "did you mean top_p?");
    assert_int_equal(peri_sampling_set_order(&p, "q", &err), PERI_E_NOT_FOUND);
    assert_error(&err, PERI_E_NOT_FOUND, "there are penalties, dry");
    assert_int_equal(peri_sampling_set_order(&p, "kkkkkkkkkkkkkkkkk", &err), PERI_E_RANGE);
    order_is(""); /* unchanged by failures */
    assert_ok(peri_sampling_set_order(&p, "", &err), err);
    order_is(USUAL);
}

static void settings_are_read(void **state) {
    (void)state;
    peri_arena *a = peri_arena_new();
    memset(&p, 0, sizeof p);
    static const char *const good[] = {"temp=0.25",
                                       "seed=18446744073709551615",
                                       "heal=true",
                                       "logit_bias=5:-1.5",
                                       "logit_bias=6:false",
                                       "dry_sequence_breaker=\n",
                                       "dry_sequence_breaker==x",
                                       "samplers=kt"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_ok(peri_sampling_apply(&p, a, good[i], &err), err);
    assert_float_equal(p.temp, 0.25, 0);
    assert_true(p.seed == UINT64_MAX && p.heal == 1);
    assert_int_equal(p.n_bias, 2);
    assert_true(p.bias[0].id == 5 && p.bias[0].bias == -1.5f && p.bias[1].bias == -INFINITY);
    assert_int_equal(p.n_breaker, 2);
    assert_string_equal(p.breaker[1], "=x");
    static const struct {
        const char *setting;
        peri_status code;
        const char *text;
    } bad[] = {
        {"temp", PERI_E_INVALID, "expected NAME=VALUE"},
        {"=3", PERI_E_INVALID, "expected NAME=VALUE"},
        {"temp=warm", PERI_E_INVALID, "found \"warm\", expected a number"},
        {"temp=", PERI_E_INVALID, "expected a number"},
        {"temp=nan", PERI_E_RANGE, "found nan"},
        {"seed=-1", PERI_E_INVALID, "expected a whole number"},
        {"seed=18446744073709551616", PERI_E_INVALID, "expected a whole number"},
        {"logit_bias=5", PERI_E_INVALID, "expected ID:NUMBER"},
        {"logit_bias=-1:3", PERI_E_INVALID, "expected ID:NUMBER"},
        {"logit_bias=5:x", PERI_E_INVALID, "expected ID:NUMBER"},
        {"logit_bias=5:inf", PERI_E_INVALID, "expected ID:NUMBER"},
        {"logit_bias=99999999999:1", PERI_E_INVALID, "expected ID:NUMBER"},
        {"logit_bais=5:1", PERI_E_NOT_FOUND, "did you mean logit_bias?"},
        {"sampler=kt", PERI_E_NOT_FOUND, "did you mean samplers?"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(peri_sampling_apply(&p, a, bad[i].setting, &err), bad[i].code);
        assert_error(&err, bad[i].code, bad[i].text);
    }
    assert_ok(peri_sampling_check(&p, &err), err);
    memset(&p, 0, sizeof p);
    assert_ok(peri_sampling_apply(&p, a, "dry_sequence_breaker=none", &err), err);
    assert_true(p.breaker && p.n_breaker == 0);
    peri_arena_free(a);
}

static void defaults_follow_the_origin(void **state) {
    (void)state;
    static const struct {
        peri_origin origin;
        double temp, top_k, top_p, min_p;
    } want[] = {{PERI_ORIGIN_OFF, 0, 0, 1, 0},
                {PERI_ORIGIN_RUN, 0.8, 40, 0.95, 0.05},
                {PERI_ORIGIN_OLLAMA, 0.8, 40, 0.9, 0},
                {PERI_ORIGIN_OPENAI, 1, 0, 1, 0}};
    for (size_t i = 0; i < 4; i++) {
        assert_ok(peri_sampling_init(&p, want[i].origin, NULL, &err), err);
        assert_float_equal(p.temp, want[i].temp, 1e-7);
        assert_int_equal(p.top_k, want[i].top_k);
        assert_float_equal(p.top_p, want[i].top_p, 1e-7);
        assert_float_equal(p.min_p, want[i].min_p, 1e-7);
        assert_ok(peri_sampling_check(&p, &err), err);
    }
    assert_string_equal(peri_sampling_origin(0, PERI_ORIGIN_OLLAMA, NULL), "default of Ollama");
}

/* A file with the given recommendations. */
static peri_gguf *open_file(double top_p, const char *sequence) {
    char name[] = "/tmp/perigee-test-sampling-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    close(fd);
    peri_gguf_writer w;
    peri_text out = {0};
    peri_gguf *g;
    gw_init(&w);
    gw_str(&w, "general.architecture", "test");
    gw_f32(&w, "general.sampling.top_p", (float)top_p);
    gw_u32(&w, "general.sampling.top_k", 20);
    gw_f32(&w, "general.sampling.penalty_repeat", 1.25f);
    if (sequence) gw_str(&w, "general.sampling.sequence", sequence);
    gw_finish(&w, &out);
    gw_fini(&w);
    assert_ok(peri_file_write(name, out.data, out.size, &err), err);
    peri_text_fini(&out);
    assert_ok(peri_gguf_open(name, &g, &err), err);
    unlink(name);
    return g;
}

static void the_model_file_comes_first(void **state) {
    (void)state;
    peri_gguf *g = open_file(0.5, "top_k;temperature");
    assert_ok(peri_sampling_init(&p, PERI_ORIGIN_RUN, g, &err), err);
    assert_float_equal(p.top_p, 0.5, 0);
    assert_int_equal(p.top_k, 20);
    assert_float_equal(p.repeat_penalty, 1.25, 0);
    assert_float_equal(p.temp, 0.8, 1e-7);
    order_is("top_k;temperature");
    size_t top_p = (size_t)peri_sampling_find("top_p"), temp = (size_t)peri_sampling_find("temp");
    assert_string_equal(peri_sampling_origin(top_p, PERI_ORIGIN_RUN, g), "general.sampling.top_p");
    assert_string_equal(peri_sampling_origin(temp, PERI_ORIGIN_RUN, g), "default of run");
    assert_string_equal(peri_sampling_origin(top_p, PERI_ORIGIN_OFF, g), "off");
    assert_ok(peri_sampling_init(&p, PERI_ORIGIN_OFF, g, &err), err);
    assert_int_equal(p.top_k, 0);
    peri_gguf_close(g);
    g = open_file(7, NULL);
    assert_int_equal(peri_sampling_init(&p, PERI_ORIGIN_RUN, g, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "key general.sampling.top_p");
    peri_gguf_close(g);
    g = open_file(0.5, "top_k;bottom_k");
    assert_int_equal(peri_sampling_init(&p, PERI_ORIGIN_RUN, g, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "bottom_k");
    peri_gguf_close(g);
}

static void copies_hold_all_they_point_to(void **state) {
    (void)state;
    char text[] = "abc";
    const char *breaker[] = {text, "d"};
    peri_logit_bias bias[] = {{3, 1}, {4, 2}};
    peri_sampling from = {.temp = 2, .bias = bias, .n_bias = 2, .breaker = breaker, .n_breaker = 2};
    peri_sampling *c = peri_sampling_dup(&from);
    assert_non_null(c);
    text[0] = 'x';
    breaker[1] = "gone";
    bias[1].id = 9;
    assert_string_equal(c->breaker[0], "abc");
    assert_string_equal(c->breaker[1], "d");
    assert_true(c->bias[1].id == 4 && c->temp == 2);
    peri_free(c);
    from = (peri_sampling){.breaker = breaker};
    c = peri_sampling_dup(&from);
    assert_true(c->breaker && !c->n_breaker && !c->bias);
    peri_free(c);
    peri_fault *f = peri_fault_alloc_install();
    f->fail_at = 1;
    assert_null(peri_sampling_dup(&from));
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_set_fields),
        cmocka_unit_test(wrong_names_and_values_are_told_with_what_would_be_right),
        cmocka_unit_test(orders_are_names_or_letters),
        cmocka_unit_test(settings_are_read),
        cmocka_unit_test(defaults_follow_the_origin),
        cmocka_unit_test(the_model_file_comes_first),
        cmocka_unit_test(copies_hold_all_they_point_to),
    };
    return peri_run_tests(tests);
}
