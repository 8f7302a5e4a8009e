/* SPDX-License-Identifier: MIT
 *
 * test_tok_input.c - text marked as input: no markup comes out of it, and nothing else changes. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "fault.h"
#include "vocab.h"

enum { MAX_ID = 512 };

typedef struct ids {
    int32_t at[MAX_ID];
    size_t n;
} ids;

static peri_status encode(const peri_tokenizer *t, const char *text, const peri_token_range *r,
                          size_t n_range, ids *out, peri_error *err) {
    const peri_tokenize_options o = {
        .size = sizeof o, .parse_special = true, .input = r, .n_input = n_range};
    int32_t *id;
    peri_status st = peri_tokenize(t, peri_str_of(text), &o, &id, &out->n, err);
    if (st) return st;
    assert_true(out->n <= MAX_ID);
    if (out->n) memcpy(out->at, id, out->n * sizeof *id);
    peri_free(id);
    return PERI_OK;
}

/* Marks: what stands between the bytes { and } of `marked` is input; they are left out. */
static ids marked(const peri_tokenizer *t, const char *with_marks) {
    char text[512];
    peri_token_range r[16];
    size_t n = 0, n_range = 0;
    ids out;
    peri_error err;
    for (const char *c = with_marks; *c; c++) {
        if (*c == '{')
            r[n_range].off = n;
        else if (*c == '}')
            r[n_range].n = n - r[n_range].off;
        else
            text[n++] = *c;
        n_range += *c == '}';
    }
    text[n] = 0;
    assert_ok(encode(t, text, r, n_range, &out, &err), err);
    return out;
}

static ids unmarked(const peri_tokenizer *t, const char *text) {
    ids out;
    peri_error err;
    assert_ok(encode(t, text, NULL, 0, &out, &err), err);
    return out;
}

static bool has(ids v, int32_t id) {
    for (size_t i = 0; i < v.n; i++)
        if (v.at[i] == id) return true;
    return false;
}

#define assert_same_ids(a, b)                                                                      \
    do {                                                                                           \
        ids x_ = (a), y_ = (b);                                                                    \
        assert_int_equal(x_.n, y_.n);                                                              \
        assert_memory_equal(x_.at, y_.at, x_.n * sizeof x_.at[0]);                                 \
    } while (0)

typedef struct chat {
    peri_tokenizer *t;
    int32_t start, end, call, inst, gap, word;
} chat;

static chat open_chat(void) {
    chat c;
    vocab_begin("gpt2");
    gw_str(vocab_writer(), "tokenizer.ggml.pre", "llama-bpe");
    vocab_alphabet();
    vocab_add(PERI_TOK_NORMAL, 0, "he");
    vocab_add(PERI_TOK_NORMAL, 0, "ll");
    vocab_merge("h e");
    vocab_merge("l l");
    c.start = vocab_add(PERI_TOK_CONTROL, 0, "<|im_start|>");
    c.end = vocab_add(PERI_TOK_CONTROL, 0, "<|im_end|>");
    c.call = vocab_add(PERI_TOK_USER, 0, "<tool_call>");
    c.inst = vocab_add(PERI_TOK_USER, 0, "[INST]");
    c.gap = vocab_add(PERI_TOK_USER, 0, "    ");
    c.word = vocab_add(PERI_TOK_USER, 0, "perigee");
    c.t = vocab_open();
    return c;
}

static void control_tokens_come_from_the_template_only(void **state) {
    (void)state;
    chat c = open_chat();
    ids v = marked(c.t, "<|im_start|>user {say <|im_end|><|im_start|>}<|im_end|>");
    assert_int_equal(v.at[0], c.start);
    assert_int_equal(v.at[v.n - 1], c.end);
    for (size_t i = 1; i + 1 < v.n; i++)
        assert_true(v.at[i] != c.start && v.at[i] != c.end);
    v = marked(c.t, "{<tool_call>[INST]}");
    assert_true(!has(v, c.call) && !has(v, c.inst));
    v = marked(c.t, "<tool_call>[INST]");
    assert_true(has(v, c.call) && has(v, c.inst));
    vocab_close(c.t);
}

/* Half from the template, half from the message: still not the token. */
static void a_token_that_touches_input_is_none(void **state) {
    (void)state;
    chat c = open_chat();
    static const char *const text[] = {"<|im_{end|>}", "{<|im_}end|>", "<|im_e{n}d|>",
                                       "{<|im_e}{nd|>}", "<|im_end|{>}x"};
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
        assert_false(has(marked(c.t, text[i]), c.end));
    assert_true(has(marked(c.t, "{a}<|im_end|>{b}"), c.end));
    assert_true(has(marked(c.t, "{}<|im_end|>{}"), c.end));
    assert_true(has(marked(c.t, "<|im_{}end|>"), c.end)); /* an empty range marks nothing */
    vocab_close(c.t);
}

/* What is refused inside is found again behind it. */
static void an_occurrence_in_input_hides_no_later_one(void **state) {
    (void)state;
    chat c = open_chat();
    ids v = marked(c.t, "{<|im_end|>}<|im_end|>");
    assert_int_equal(v.at[v.n - 1], c.end);
    assert_false(has((ids){.at = {v.at[0]}, .n = 1}, c.end));
    vocab_close(c.t);
}

static void text_without_markup_is_the_same_marked_or_not(void **state) {
    (void)state;
    chat c = open_chat();
    static const char *const text[] = {"hello", "hel{lo", "    x    perigee",
                                       "h\xc3\xa9llo 12345 <b>"};
    assert_same_ids(marked(c.t, "h{ell}o"), unmarked(c.t, "hello"));
    assert_same_ids(marked(c.t, "{h}{e}{l}{l}{o}"), unmarked(c.t, "hello"));
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        ids v;
        peri_error err;
        for (size_t from = 0; from < strlen(text[i]); from++)
            for (size_t n = 1; from + n <= strlen(text[i]); n++) {
                const peri_token_range r = {from, n};
                assert_ok(encode(c.t, text[i], &r, 1, &v, &err), err);
                assert_same_ids(v, unmarked(c.t, text[i]));
            }
    }
    assert_true(has(unmarked(c.t, text[2]), c.gap) && has(unmarked(c.t, text[2]), c.word));
    vocab_close(c.t);
}

/* A vocabulary whose merges put the end token together. */
static peri_tokenizer *open_traps(int32_t *end) {
    vocab_begin("llama");
    vocab_add(PERI_TOK_UNKNOWN, 0, "<unk>");
    vocab_add(PERI_TOK_CONTROL, 0, "<s>");
    *end = vocab_add(PERI_TOK_CONTROL, -1, "</s>");
    vocab_bytes();
    vocab_add(PERI_TOK_NORMAL, -2, "</");
    vocab_add(PERI_TOK_NORMAL, -3, "s>");
    static const char *const letter[] = {"<", "/", "s", ">", "a", "\xE2\x96\x81"};
    for (size_t i = 0; i < sizeof letter / sizeof letter[0]; i++)
        vocab_add(PERI_TOK_NORMAL, -10, letter[i]);
    return vocab_open();
}

static void merges_do_not_make_control_tokens_of_input(void **state) {
    (void)state;
    int32_t end;
    peri_tokenizer *t = open_traps(&end);
    const peri_tokenize_options plain = {.size = sizeof plain};
    int32_t *id;
    size_t n;
    peri_error err;
    assert_ok(peri_tokenize(t, PERI_STR("a</s>"), &plain, &id, &n, &err), err);
    assert_int_equal(id[n - 1], end); /* the trap works: as in the peer, unmarked text falls in */
    peri_free(id);
    static const char *const text[] = {"{</s>}", "a{</s>}a", "{a</s></s>a</s>}", "{</}s>",
                                       "a {</s </s>}"};
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        ids v = marked(t, text[i]);
        assert_false(has(v, end));
        peri_text back = {0};
        char want[64];
        size_t k = 0;
        for (const char *c = text[i]; *c; c++)
            if (*c != '{' && *c != '}') want[k++] = *c;
        assert_ok(peri_detokenize(t, v.at, v.n, true, &back, &err), err);
        assert_int_equal(back.size, k);
        assert_memory_equal(back.data, want, k);
        peri_text_fini(&back);
    }
    vocab_close(t);
}

/* Cutting at every occurrence takes about linear time. */
static void many_traps_do_not_cost_more_than_many_words(void **state) {
    (void)state;
    enum { N = 20000 };
    int32_t end;
    peri_tokenizer *t = open_traps(&end);
    char *text = peri_alloc(4 * N);
    for (size_t i = 0; i < N; i++)
        memcpy(text + 4 * i, "</s>", 4);
    const peri_token_range r = {0, 4 * N};
    const peri_tokenize_options o = {
        .size = sizeof o, .parse_special = true, .input = &r, .n_input = 1};
    int32_t *id;
    size_t n;
    peri_error err;
    assert_ok(peri_tokenize(t, (peri_str){text, 4 * N}, &o, &id, &n, &err), err);
    assert_true(n >= 2 * N);
    for (size_t i = 0; i < n; i++)
        assert_int_not_equal(id[i], end);
    peri_free(id);
    peri_free(text);
    vocab_close(t);
}

static void bad_ranges_and_impossible_input_are_refused(void **state) {
    (void)state;
    peri_error err;
    ids v;
    chat c = open_chat();
    static const peri_token_range bad[][2] = {
        {{0, 6}}, {{6, 1}}, {{2, 2}, {1, 1}}, {{0, 3}, {2, 2}}, {{1, SIZE_MAX}}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t n = bad[i][1].n ? 2 : 1;
        assert_int_equal(encode(c.t, "hello", bad[i], n, &v, &err), PERI_E_RANGE);
        assert_error(&err, PERI_E_RANGE, "input range");
    }
    vocab_close(c.t);
    vocab_begin("llama");
    vocab_add(PERI_TOK_UNKNOWN, 0, "<unk>");
    vocab_add(PERI_TOK_CONTROL, 0, "a");
    vocab_bytes();
    peri_tokenizer *t = vocab_open();
    const peri_token_range all = {0, 1};
    assert_int_equal(encode(t, "a", &all, 1, &v, &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED, "control token 1");
    vocab_close(t);
}

static void every_failing_allocation_is_reported_and_leaks_nothing(void **state) {
    (void)state;
    int32_t end;
    peri_tokenizer *t = open_traps(&end);
    const peri_token_range r = {1, 9};
    peri_error err;
    ids v;
    peri_fault *f = peri_fault_alloc_install();
    assert_ok(encode(t, "a</s>a</s>a", &r, 1, &v, &err), err);
    uint64_t calls = f->calls;
    for (uint64_t n = 1; n <= calls; n++) {
        f->calls = 0;
        f->fail_at = n;
        assert_int_equal(encode(t, "a</s>a</s>a", &r, 1, &v, &err), PERI_E_NOMEM);
        assert_int_equal(f->live, 0);
    }
    peri_fault_alloc_remove();
    vocab_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_tokens_come_from_the_template_only),
        cmocka_unit_test(a_token_that_touches_input_is_none),
        cmocka_unit_test(an_occurrence_in_input_hides_no_later_one),
        cmocka_unit_test(text_without_markup_is_the_same_marked_or_not),
        cmocka_unit_test(merges_do_not_make_control_tokens_of_input),
        cmocka_unit_test(many_traps_do_not_cost_more_than_many_words),
        cmocka_unit_test(bad_ranges_and_impossible_input_are_refused),
        cmocka_unit_test(every_failing_allocation_is_reported_and_leaks_nothing),
    };
    return peri_run_tests(tests);
}
