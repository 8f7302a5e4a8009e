/* SPDX-License-Identifier: MIT
 *
 * Asking devices, through the null plugin: what a device declines is lowered, what it cannot do at
 * all is named, a device that fails is reported, and --strict turns a lowered op into an error. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "api/api_int.h"
#include "perigee/perigee.h"
#include "rig.h"

#define FAKE "null.devices=name=fake0,location=pci:0000:3b:00.0,mem=24e9,gbps=1000"
#define LEVEL_0                                                                                    \
    "EMBED,LINEAR,NORM,ROPE,KV_APPEND,ATTN,ACT,GLU,ADD,MUL,SCALE,ROUTE,LINEAR_EXPERTS,EXPERT_SUM," \
    "ROWS"

static peri_runtime *runtime(const char *supports, const char *fault, bool is_strict) {
    const char *settings[] = {FAKE, supports, fault};
    peri_runtime_options o = {.size = sizeof o,
                              .settings = settings,
                              .n_setting = fault ? 3 : 2,
                              .script_dir = PERI_SOURCE_DIR "/scripts",
                              .is_strict = is_strict};
    peri_runtime *rt;
    peri_error err;
    assert_ok(peri_runtime_new_in(&o, PERI_LIBRARY_DIR, &rt, &err), err);
    return rt;
}

static peri_status open_on(peri_runtime *rt, const char *device, peri_model **m, peri_error *err) {
    peri_model_options o = {.size = sizeof o, .n_ctx = 64, .device = device};
    return peri_model_open(rt, rig_tiny("model.gguf", "qwen3", 0, 1), &o, m, err);
}

static void a_declined_fused_op_is_lowered_and_listed(void **state) {
    (void)state;
    static const int32_t tok[] = {1, 2, 3};
    peri_runtime *rt = runtime("null.supports=" LEVEL_0, NULL, false);
    peri_model *m;
    peri_session *s;
    peri_error err;
    char *text;
    float logits[300];
    assert_ok(open_on(rt, "fake0", &m, &err), err);
    assert_string_equal(peri_model_device(m), "fake0");
    assert_ok(peri_model_explain(m, &text, &err), err);
    const char *lowered = strstr(text, "\"lowered\"");
    assert_non_null(lowered);
    assert_non_null(strstr(lowered, "GATE_UP_GLU"));
    assert_non_null(strstr(lowered, "LINEAR_QKV"));
    assert_non_null(strstr(lowered, "ADD_NORM"));
    peri_text_free(text);
    assert_ok(peri_session_new(m, NULL, &s, &err), err);
    memset(logits, 1, sizeof logits);
    peri_feed f = {.session = s, .tok = tok, .n_tok = 3, .logits = logits};
    assert_ok(peri_model_step(m, &f, 1, 0, &err), err);
    for (int i = 0; i < 300; i++)
        assert_true(logits[i] == 0); /* the null device computes zeros */
    peri_session_free(s);
    peri_model_close(m);
    peri_runtime_free(rt);
}

static void a_device_that_takes_fused_ops_gets_them(void **state) {
    (void)state;
    peri_runtime *rt = runtime("null.supports=all", NULL, false);
    peri_model *m;
    peri_error err;
    char *text;
    assert_ok(open_on(rt, "fake0", &m, &err), err);
    assert_ok(peri_model_explain(m, &text, &err), err);
    assert_non_null(strstr(text, "\"op\": \"GATE_UP_GLU\""));
    assert_null(strstr(text, "\"op\": \"GLU\""));
    peri_text_free(text);
    peri_model_close(m);
    peri_runtime_free(rt);
}

static void a_missing_level_0_op_is_named_with_the_reason(void **state) {
    (void)state;
    peri_runtime *rt = runtime("null.supports=EMBED,LINEAR,NORM", NULL, false);
    peri_model *m;
    peri_error err;
    assert_int_equal(open_on(rt, "fake0", &m, &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED, "device fake0 cannot run ROPE of layer 0: ");
    assert_null(m);
    peri_runtime_free(rt);
}

static void strict_refuses_a_lowered_op(void **state) {
    (void)state;
    peri_runtime *rt = runtime("null.supports=" LEVEL_0, NULL, true);
    peri_model *m;
    peri_error err;
    assert_int_equal(open_on(rt, "fake0", &m, &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED, "--strict: device fake0 declines");
    peri_runtime_free(rt);
}

static void a_fake_is_never_chosen_before_the_processor(void **state) {
    (void)state;
    peri_runtime *rt = runtime("null.supports=all", NULL, false);
    peri_model *m;
    peri_error err;
    assert_ok(open_on(rt, NULL, &m, &err), err);
    assert_string_equal(peri_model_device(m), "cpu");
    peri_model_close(m);
    assert_int_equal(open_on(rt, "nosuch", &m, &err), PERI_E_NO_DEVICE);
    assert_error(&err, PERI_E_NO_DEVICE, "nosuch");
    peri_runtime_free(rt);
}

static void a_device_lost_in_a_step_ends_that_step(void **state) {
    (void)state;
    static const int32_t tok[] = {1, 2, 3};
    peri_runtime *rt = runtime("null.supports=all", "null.fault=run:device_lost@9", false);
    peri_model *m;
    peri_session *s;
    peri_error err;
    assert_ok(open_on(rt, "fake0", &m, &err), err);
    assert_ok(peri_session_new(m, NULL, &s, &err), err);
    assert_int_equal(peri_session_feed(s, tok, 3, &err), PERI_E_DEVICE_LOST);
    assert_error(&err, PERI_E_DEVICE_LOST, "device fake0: ");
    assert_error(&err, PERI_E_DEVICE_LOST, "op 8");
    assert_int_equal(peri_session_n_tok(s), 0);
    assert_ok(peri_session_feed(s, tok, 3, &err), err); /* the fault comes once */
    peri_session_free(s);
    peri_model_close(m);
    peri_runtime_free(rt);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_declined_fused_op_is_lowered_and_listed),
        cmocka_unit_test(a_device_that_takes_fused_ops_gets_them),
        cmocka_unit_test(a_missing_level_0_op_is_named_with_the_reason),
        cmocka_unit_test(strict_refuses_a_lowered_op),
        cmocka_unit_test(a_fake_is_never_chosen_before_the_processor),
        cmocka_unit_test(a_device_lost_in_a_step_ends_that_step),
    };
    int rc = peri_run_tests(tests);
    rig_end();
    return rc;
}
