/* SPDX-License-Identifier: MIT
 *
 * A model that the OpenCL plugin cannot run alone, on it and the processor: products whose kernel
 * its driver does not build (a layer of the loader sees to that, tests/plugin/opencl_layer.c) are
 * the processor's, all else stays where it is wanted, and the logits are the processor's own within
 * what f32 sums in another order may differ by.  Skipped where there is no OpenCL device. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_int.h"
#include "base/text.h"
#include "gguf_writer.h"
#include "model/dtype.h"
#include "perigee/perigee.h"
#include "rig.h"

enum { V = 300, N_TOK = 24 };
#define NO_KERNEL "-DTYPE=16 " /* IQ2_XXS */

static peri_runtime *runtime(bool is_strict) {
    /* f32 on both sides; the usual shape for processors rounds activations to bytes. */
    static const char *const settings[] = {"cpu.isa=reference", "opencl.shape=local"};
    peri_runtime_options o = {.size = sizeof o,
                              .n_thread = 1,
                              .settings = settings,
                              .n_setting = 2,
                              .script_dir = PERI_SOURCE_DIR "/scripts",
                              .is_strict = is_strict};
    peri_runtime *rt;
    peri_error err;
    assert_ok(peri_runtime_new_in(&o, PERI_LIBRARY_DIR, &rt, &err), err);
    return rt;
}

static bool has_opencl(peri_runtime *rt) {
    char *json;
    peri_error err;
    assert_ok(peri_runtime_devices(rt, &json, &err), err);
    bool has = strstr(json, "\"plugin\": \"opencl\"") != NULL;
    peri_text_free(json);
    return has;
}

/* Three layers of Q8_0, whose last matrices from the second layer on are IQ2_XXS. */
static const char *write_model(void) {
    peri_gguf_writer w;
    peri_text file = {0};
    const gw_shape shape = {.n_layer = 3,
                            .n_head = 4,
                            .n_kv = 2,
                            .d_model = 256,
                            .d_head = 64,
                            .d_ff = 256,
                            .n_ctx = 512,
                            .dtype_down = PERI_DT_IQ2_XXS};
    gw_init(&w);
    gw_model(&w, "qwen3", PERI_DT_Q8_0, 1, &shape);
    gw_finish(&w, &file);
    const char *path = rig_write("books.gguf", file.data, file.size);
    peri_text_fini(&file);
    gw_fini(&w);
    return path;
}

static peri_status open_on(peri_runtime *rt, const char *device, peri_model **m, peri_error *err) {
    peri_model_options o = {.size = sizeof o, .n_ctx = 64, .n_batch = 16, .device = device};
    return peri_model_open(rt, write_model(), &o, m, err);
}

static int32_t best(const float *row) {
    int32_t id = 0;
    for (int32_t i = 1; i < V; i++)
        if (row[i] > row[id]) id = i;
    return id;
}

/* Feed tok[N_TOK] one by one; where `chosen` is wanted, what comes first is chosen greedily. */
static void follow(peri_model *m, const int32_t *tok, int32_t *chosen, float *logits) {
    peri_session *s;
    peri_error err;
    assert_ok(peri_session_new(m, NULL, &s, &err), err);
    for (int i = 0; i < N_TOK; i++) {
        int32_t id = i && chosen ? best(logits + (size_t)(i - 1) * V) : tok[i];
        if (chosen) chosen[i] = id;
        peri_feed f = {.session = s, .tok = &id, .n_tok = 1, .logits = logits + (size_t)i * V};
        assert_ok(peri_model_step(m, &f, 1, 0, &err), err);
    }
    peri_session_free(s);
}

static float alone[N_TOK * V], mixed[N_TOK * V];

/* The model's logits for tok[N_TOK], the processor's own choices, are those in `alone`. */
static void expect_the_same(peri_model *m, const int32_t *tok) {
    follow(m, tok, NULL, mixed);
    for (int i = 0; i < N_TOK; i++) {
        double error = 0, size = 0;
        for (int k = 0; k < V; k++) {
            double d = (double)mixed[i * V + k] - (double)alone[i * V + k];
            error += d * d;
            size += (double)alone[i * V + k] * (double)alone[i * V + k];
        }
        if (!(error / size <= 1e-6)) fail_msg("token %d: error %g", i, error / size);
        assert_int_equal(best(mixed + (size_t)i * V), best(alone + (size_t)i * V));
    }
}

/* The processor's way through the model: its choices, and `alone`. */
static void go_alone(peri_runtime *rt, int32_t tok[N_TOK]) {
    static const int32_t start[N_TOK] = {5};
    peri_model *m;
    peri_error err;
    assert_ok(open_on(rt, "cpu", &m, &err), err);
    follow(m, start, tok, alone);
    peri_model_close(m);
}

static void every_type_runs_on_opencl(void **state) {
    (void)state;
    int32_t tok[N_TOK];
    peri_model *m;
    peri_error err;
    peri_runtime *rt = runtime(true);
    if (!has_opencl(rt)) {
        peri_runtime_free(rt);
        skip();
    }
    go_alone(rt, tok);
    assert_ok(open_on(rt, "opencl", &m, &err), err);
    expect_the_same(m, tok);
    peri_model_close(m);
    peri_runtime_free(rt);
}

static void what_does_not_build_runs_on_the_processor(void **state) {
    (void)state;
    int32_t tok[N_TOK];
    char *text;
    peri_model *m;
    peri_error err;
    peri_runtime *rt = runtime(false);
    if (!has_opencl(rt)) {
        peri_runtime_free(rt);
        skip();
    }
    go_alone(rt, tok);
    setenv("FAIL_BUILD", NO_KERNEL, 1);
    assert_ok(open_on(rt, "opencl,cpu", &m, &err), err);
    assert_string_equal(peri_model_device(m), "opencl,cpu");
    assert_ok(peri_model_explain(m, &text, &err), err);
    const char *elsewhere =
        strstr(text, "\"elsewhere\": [\n        {\n          \"op\": \"LINEAR\",\n"
                     "          \"count\": 2,\n          \"layers\": \"1-2\",\n"
                     "          \"device\": \"cpu\"");
    if (!elsewhere) fail_msg("explain: %s", text);
    peri_text_free(text);
    expect_the_same(m, tok);
    peri_model_close(m);
    peri_runtime_free(rt);
    unsetenv("FAIL_BUILD");
}

static void strict_and_alone_it_is_refused(void **state) {
    (void)state;
    peri_model *m;
    peri_error err;
    peri_runtime *rt = runtime(true);
    if (!has_opencl(rt)) {
        peri_runtime_free(rt);
        skip();
    }
    setenv("FAIL_BUILD", NO_KERNEL, 1);
    assert_int_equal(open_on(rt, "opencl", &m, &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED,
                 "device opencl cannot run LINEAR of layer 1: kernel linear does not build: ");
    assert_int_equal(open_on(rt, "opencl,cpu", &m, &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED, "--strict: device opencl declines");
    peri_runtime_free(rt);
    unsetenv("FAIL_BUILD");
}

int main(void) {
    setenv("OPENCL_LAYERS", PERI_BINARY_DIR "/tests/plugin/opencl_layer.so", 1);
    setenv("PERIGEE_PLACE_FIGURES", "declared", 1); /* what runs where must not depend on speed */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_runs_on_opencl),
        cmocka_unit_test(what_does_not_build_runs_on_the_processor),
        cmocka_unit_test(strict_and_alone_it_is_refused),
    };
    int rc = peri_run_tests(tests);
    rig_end();
    return rc;
}
