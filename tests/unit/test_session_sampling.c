/* SPDX-License-Identifier: MIT
 *
 * test_session_sampling.c - sampling through perigee.h, on the bundled model: options by field and
 * by name, and a prompt that ends inside a token. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "perigee/perigee.h"
#include "rig.h"

static peri_runtime *rt;
static peri_model *m;

static int open_model(void **state) {
    (void)state;
    peri_model_options o = {.size = sizeof o, .n_ctx = 256, .n_session = 2};
    peri_error err;
    rt = rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 1, NULL);
    assert_ok(
        peri_model_open(rt, PERI_SOURCE_DIR "/examples/demo-model/perigee-demo.gguf", &o, &m, &err),
        err);
    return 0;
}

static int close_model(void **state) {
    (void)state;
    peri_model_close(m);
    peri_runtime_free(rt);
    return 0;
}

static peri_session *open_session(const char *const *sampling, size_t n, uint32_t defaults) {
    peri_session_options o = {
        .size = sizeof o, .seed = 3, .defaults = defaults, .sampling = sampling, .n_sampling = n};
    peri_session *s;
    peri_error err;
    assert_ok(peri_session_new(m, &o, &s, &err), err);
    return s;
}

typedef struct heard {
    char text[1024];
    size_t size;
} heard;

static int hear(void *user, const char *text, size_t size, int32_t tok) {
    heard *h = user;
    (void)tok;
    assert_true(h->size + size < sizeof h->text);
    memcpy(h->text + h->size, text, size);
    h->size += size;
    h->text[h->size] = 0;
    return 0;
}

static void say(peri_session *s, const char *prompt, size_t n, heard *h) {
    peri_error err;
    peri_stop why;
    memset(h, 0, sizeof *h);
    assert_ok(peri_session_feed_text(s, prompt, strlen(prompt), PERI_TOK_PARSE_SPECIAL, &err), err);
    assert_ok(peri_session_generate(s, n, hear, h, &why, &err), err);
}

#define CHAT "<|im_start|>user\nWhat is 12 + 7?<|im_end|>\n<|im_start|>assistant\n"

/* A prompt that stops inside the answer's first word goes on as the whole answer does, and the
 * taken-back part is not shown twice. */
static void a_prompt_cut_inside_a_token_goes_on_as_the_whole_text(void **state) {
    (void)state;
    static const char *const heal[] = {"heal=1"};
    heard whole, h;
    peri_session *s = open_session(NULL, 0, PERI_DEFAULTS_OFF);
    say(s, CHAT, 24, &whole);
    peri_session_free(s);
    assert_true(whole.size > 12);
    for (size_t cut = 1; cut < 12; cut++) {
        char prompt[256];
        snprintf(prompt, sizeof prompt, CHAT "%.*s", (int)cut, whole.text);
        s = open_session(heal, 1, PERI_DEFAULTS_OFF);
        say(s, prompt, 24, &h);
        size_t n = whole.size - cut < h.size ? whole.size - cut : h.size;
        assert_true(n > 0);
        if (memcmp(h.text, whole.text + cut, n) != 0)
            fail_msg("cut after %zu bytes of \"%s\": found \"%s\"", cut, whole.text, h.text);
        peri_session_free(s);
    }
}

/* Healing changes nothing where generation goes on from generated text. */
static void generation_in_two_parts_is_generation_in_one(void **state) {
    (void)state;
    static const char *const heal[] = {"heal=1", "temp=1.2"};
    heard one, two;
    peri_error err;
    peri_session *s = open_session(heal, 2, PERI_DEFAULTS_OFF);
    say(s, "It is a w", 20, &one);
    peri_session_free(s);
    s = open_session(heal, 2, PERI_DEFAULTS_OFF);
    say(s, "It is a w", 7, &two);
    assert_ok(peri_session_generate(s, 13, hear, &two, NULL, &err), err);
    peri_session_free(s);
    assert_string_equal(one.text, two.text);
}

static void fields_and_names_say_the_same(void **state) {
    (void)state;
    static const char *const names[] = {"temp=1.5",           "top_k=30",   "repeat_penalty=1.3",
                                        "repeat_last_n=-1",   "mirostat=2", "mirostat_tau=3",
                                        "logit_bias=70:-2.5", "seed=9"};
    static const char *const more[] = {"logit_bias=70:-2.5"};
    heard a, b;
    peri_error err;
    peri_session_options o = {.size = sizeof o,
                              .seed = 9,
                              .temp = 1.5f,
                              .top_k = 30,
                              .repeat_penalty = 1.3f,
                              .repeat_last_n = -1,
                              .mirostat = 2,
                              .mirostat_tau = 3,
                              .sampling = more,
                              .n_sampling = 1};
    peri_session *s = open_session(names, sizeof names / sizeof names[0], PERI_DEFAULTS_OFF);
    say(s, "The", 40, &a);
    peri_session_free(s);
    assert_ok(peri_session_new(m, &o, &s, &err), err);
    say(s, "The", 40, &b);
    peri_session_free(s);
    assert_string_equal(a.text, b.text);
}

static void wrong_options_are_named(void **state) {
    (void)state;
    static const struct {
        const char *setting;
        peri_status code;
        const char *text;
    } bad[] = {{"topk=3", PERI_E_NOT_FOUND, "did you mean top_k?"},
               {"top_p=2", PERI_E_RANGE, "top_p: found 2"},
               {"logit_bias=99999999:1", PERI_E_RANGE, "found token 99999999"},
               {"samplers=bottom_k", PERI_E_NOT_FOUND, "no sampler is called bottom_k"}};
    peri_error err;
    peri_session *s;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        peri_session_options o = {.size = sizeof o, .sampling = &bad[i].setting, .n_sampling = 1};
        assert_int_equal(peri_session_new(m, &o, &s, &err), bad[i].code);
        assert_error(&err, bad[i].code, bad[i].text);
        assert_null(s);
    }
    peri_session_options o = {.size = sizeof o, .defaults = 17};
    assert_int_equal(peri_session_new(m, &o, &s, &err), PERI_E_INVALID);
    o = (peri_session_options){.size = sizeof o, .xtc_threshold = 3};
    assert_int_equal(peri_session_new(m, &o, &s, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "xtc_threshold");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_cut_inside_a_token_goes_on_as_the_whole_text),
        cmocka_unit_test(generation_in_two_parts_is_generation_in_one),
        cmocka_unit_test(fields_and_names_say_the_same),
        cmocka_unit_test(wrong_options_are_named),
    };
    open_model(NULL);
    int rc = peri_run_tests(tests);
    close_model(NULL);
    rig_end();
    return rc;
}
