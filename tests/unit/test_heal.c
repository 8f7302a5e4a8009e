/* SPDX-License-Identifier: MIT
 *
 * test_heal.c - token healing: what is taken back of a prompt, and that what is chosen then spells
 * it; the infill link and dry's breakers, which look at the same texts. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/text.h"
#include "fault.h"
#include "run/heal.h"
#include "run/sampler.h"
#include "vocab.h"

static peri_tokenizer *tokenizer;
static peri_token_table *table;
static int32_t id_http, id_colon, id_slashes, id_colon_slashes, id_brown, id_bro, id_space_b,
    id_end, id_e2, id_96, id_mark, id_word;

/* SentencePiece pieces: texts are what they say. */
static int open_vocab(void **state) {
    (void)state;
    peri_error err;
    vocab_begin("llama");
    gw_bool(vocab_writer(), "tokenizer.ggml.add_space_prefix", false);
    vocab_add(PERI_TOK_UNKNOWN, 0, "<unk>");
    vocab_add(PERI_TOK_CONTROL, 0, "<s>");
    id_end = vocab_add(PERI_TOK_CONTROL, 0, "</s>");
    vocab_bytes();
    id_e2 = id_end + 1 + 0xE2;
    id_96 = id_end + 1 + 0x96;
    id_http = vocab_add(PERI_TOK_NORMAL, -1, "http");
    id_colon = vocab_add(PERI_TOK_NORMAL, -1, ":");
    id_slashes = vocab_add(PERI_TOK_NORMAL, -1, "//");
    id_colon_slashes = vocab_add(PERI_TOK_NORMAL, -1, "://");
    id_space_b = vocab_add(PERI_TOK_NORMAL, -1,
                           "\xE2\x96\x81"
                           "b");
    id_bro = vocab_add(PERI_TOK_NORMAL, -1, "ro");
    id_brown = vocab_add(PERI_TOK_NORMAL, -1,
                         "\xE2\x96\x81"
                         "brown");
    id_mark = vocab_add(PERI_TOK_NORMAL, -1, "\xE2\x96\x88x");
    id_word = vocab_add(PERI_TOK_USER, -1, ":user");
    tokenizer = vocab_open();
    assert_ok(peri_token_table_new(tokenizer, &table, &err), err);
    return 0;
}

static int close_vocab(void **state) {
    (void)state;
    peri_token_table_free(table);
    vocab_close(tokenizer);
    return 0;
}

static void ranges_hold_all_tokens_with_a_beginning(void **state) {
    (void)state;
    static const char *const prefix[] = {"",       ":",  "://",  "h",        " b",
                                         " brown", "zz", "\xE2", "\xE2\x96", "\xff"};
    for (size_t i = 0; i < sizeof prefix / sizeof prefix[0]; i++) {
        peri_str p = peri_str_of(prefix[i]);
        uint32_t first, n = peri_token_table_range(table, p, &first), want = 0;
        for (int32_t id = 0; id < table->n_vocab; id++) {
            peri_str s = peri_token_table_text(table, id);
            bool starts =
                s.size && s.size >= p.size && (!p.size || memcmp(s.data, p.data, p.size) == 0);
            bool is_in = false;
            for (uint32_t k = first; k < first + n; k++)
                is_in = is_in || table->id[k] == (uint32_t)id;
            assert_int_equal(is_in, starts);
            want += starts;
        }
        assert_int_equal(n, want);
    }
    assert_int_equal(peri_token_table_text(table, id_end).size, 0);
    assert_int_equal(peri_token_table_text(table, -1).size, 0);
    assert_int_equal(peri_token_table_text(table, 1 << 30).size, 0);
}

static void expect_heal(const int32_t *ids, size_t n, size_t want_keep, const char *want_text) {
    peri_text text = {0};
    peri_error err;
    size_t n_keep;
    assert_ok(peri_heal_prompt(table, ids, n, &n_keep, &text, &err), err);
    assert_int_equal(n_keep, want_keep);
    assert_int_equal(text.size, strlen(want_text));
    if (text.size) assert_memory_equal(text.data, want_text, text.size);
    peri_text_fini(&text);
}

static void prompts_lose_the_tokens_a_longer_one_goes_on_from(void **state) {
    (void)state;
    expect_heal((int32_t[]){1, id_http, id_colon}, 3, 2, ":");
    expect_heal((int32_t[]){1, id_http, id_colon_slashes}, 3, 3, "");
    expect_heal((int32_t[]){1, id_space_b, id_bro}, 3, 1, " bro");
    expect_heal((int32_t[]){1, id_http, id_space_b, id_bro}, 4, 2, " bro");
    expect_heal((int32_t[]){id_space_b, id_bro}, 2, 2, ""); /* the first token always stays */
    expect_heal((int32_t[]){1, id_colon, id_end}, 3, 3, "");
    expect_heal((int32_t[]){1, id_colon, id_word}, 3, 3, "");
    expect_heal((int32_t[]){1, id_e2, id_96}, 3, 1, "\xE2\x96"); /* half a character */
    expect_heal((int32_t[]){1}, 1, 1, "");
    expect_heal(NULL, 0, 0, "");
}

static peri_sampler *make(const char *const *setting, size_t n, peri_arena *a) {
    const peri_sampler_vocab v = {.n_vocab = peri_tokenizer_n_vocab(tokenizer),
                                  .n_ctx = 64,
                                  .tokenizer = tokenizer,
                                  .table = table};
    peri_sampling p;
    peri_sampler *s;
    peri_error err;
    assert_ok(peri_sampling_init(&p, PERI_ORIGIN_OFF, NULL, &err), err);
    for (size_t i = 0; i < n; i++)
        assert_ok(peri_sampling_apply(&p, a, setting[i], &err), err);
    assert_ok(peri_sampler_new(&p, &v, &s, &err), err);
    return s;
}
#define MAKE(a, ...)                                                                               \
    make((const char *const[]){__VA_ARGS__},                                                       \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *), (a))

static float logits[1024];

/* The ids that survive a plain draw at tok[n_tok]. */
static size_t survivors(peri_sampler *s, const int32_t *tok, int32_t n_tok, int32_t *id) {
    const peri_candidate *c;
    peri_error err;
    int32_t chosen;
    assert_ok(peri_sampler_pick(s, logits, tok, n_tok, &chosen, &err), err);
    size_t n = peri_sampler_survivors(s, &c);
    for (size_t i = 0; i < n; i++)
        id[i] = c[i].id;
    return n;
}

static bool is_among(const int32_t *id, size_t n, int32_t x) {
    for (size_t i = 0; i < n; i++)
        if (id[i] == x) return true;
    return false;
}

static void choices_spell_the_text_and_then_are_free(void **state) {
    (void)state;
    peri_arena *a = peri_arena_new();
    peri_sampler *s = MAKE(a, "heal=1", "samplers=none");
    peri_error err;
    int32_t tok[8] = {1, id_http}, id[1024];
    size_t n_vocab = (size_t)table->n_vocab;
    assert_ok(peri_sampler_heal(s, 2, "://", 3, &err), err);
    size_t n = survivors(s, tok, 2, id);
    assert_true(is_among(id, n, id_colon) && is_among(id, n, id_colon_slashes));
    assert_true(is_among(id, n, id_end + 1 + ':')); /* the byte */
    assert_int_equal(n, 3);
    tok[2] = id_colon;
    n = survivors(s, tok, 3, id);
    assert_true(is_among(id, n, id_slashes) && is_among(id, n, id_end + 1 + '/'));
    assert_int_equal(n, 2);
    tok[3] = id_slashes;
    assert_int_equal(survivors(s, tok, 4, id), n_vocab);
    tok[2] = id_colon_slashes;
    assert_int_equal(survivors(s, tok, 3, id), n_vocab);
    tok[2] = id_bro; /* fed something else: no longer bound */
    assert_int_equal(survivors(s, tok, 3, id), n_vocab);
    assert_int_equal(survivors(s, tok, 2, id), 3); /* rewound: bound again */
    assert_int_equal(survivors(s, tok, 1, id), n_vocab);
    assert_ok(peri_sampler_heal(s, 0, NULL, 0, &err), err);
    assert_int_equal(survivors(s, tok, 2, id), n_vocab);
    assert_ok(peri_sampler_heal(s, 1, "\xE2\x96", 2, &err), err);
    n = survivors(s, tok, 1, id);
    assert_true(n == 2 && is_among(id, n, id_e2) && is_among(id, n, id_mark));
    assert_int_equal(peri_sampler_heal(s, 1, (const char *)logits, 257, &err), PERI_E_RANGE);
    peri_sampler_free(s);
    s = MAKE(a, "samplers=none");
    peri_sampler_vocab none = {.n_vocab = 4, .n_ctx = 4};
    peri_sampler *bare;
    assert_ok(peri_sampler_new(&(peri_sampling){.heal = 1}, &none, &bare, &err), err);
    assert_int_equal(peri_sampler_heal(bare, 0, "x", 1, &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED, "healing needs a tokenizer");
    peri_sampler_free(bare);
    peri_sampler_free(s);
    peri_arena_free(a);
}

/* A vocabulary without the bytes of the text to spell leaves nothing. */
static void biases_may_leave_no_way_to_spell(void **state) {
    (void)state;
    peri_arena *a = peri_arena_new();
    char ban[3][40];
    const int32_t all[] = {id_colon, id_colon_slashes, id_end + 1 + ':'};
    for (int i = 0; i < 3; i++)
        snprintf(ban[i], sizeof ban[i], "logit_bias=%d:false", all[i]);
    peri_sampler *s = MAKE(a, "heal=1", "temp=1", ban[0], ban[1], ban[2]);
    peri_error err;
    int32_t id, tok[] = {1};
    assert_ok(peri_sampler_heal(s, 1, "://", 3, &err), err);
    assert_int_equal(peri_sampler_pick(s, logits, tok, 1, &id, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "no token is left");
    peri_sampler_free(s);
    peri_arena_free(a);
}

static void clones_and_saved_samplers_heal_on(void **state) {
    (void)state;
    peri_arena *a = peri_arena_new();
    peri_sampler *s = MAKE(a, "heal=1", "samplers=none"), *c, *back;
    const peri_sampler_vocab v = {.n_vocab = table->n_vocab, .n_ctx = 64, .tokenizer = tokenizer};
    peri_text bytes = {0};
    peri_error err;
    int32_t tok[] = {1, id_http}, id[1024];
    assert_ok(peri_sampler_heal(s, 2, "://", 3, &err), err);
    assert_ok(peri_sampler_clone(s, 9, 2, &c, &err), err);
    assert_ok(peri_sampler_save(s, 2, &bytes, &err), err);
    peri_reader r = {"saved", (const uint8_t *)bytes.data, bytes.size, 0};
    assert_ok(peri_sampler_restore(&r, &v, 2, &back, &err), err);
    assert_int_equal(survivors(c, tok, 2, id), 3);
    assert_int_equal(survivors(back, tok, 2, id), 3);
    peri_text_fini(&bytes);
    peri_sampler_free(s);
    peri_sampler_free(c);
    peri_sampler_free(back);
    peri_arena_free(a);
}

static void output_that_repeats_the_prompt_is_counted(void **state) {
    (void)state;
    size_t left = 4;
    assert_int_equal(peri_heal_repeated(&left, "ab", 2), 2);
    assert_int_equal(peri_heal_repeated(&left, "cdef", 4), 2);
    assert_int_equal(peri_heal_repeated(&left, "gh", 2), 0);
    left = 1; /* half a character of the prompt: the whole one is shown */
    assert_int_equal(peri_heal_repeated(&left, "\xC3\xA9x", 3), 0);
    assert_int_equal(left, 0);
}

/* ---- infill and dry over these texts --------------------------------------------------------- */

static void set_probability(int32_t id, double p) {
    logits[id] = (float)log(p);
}

static void only(const int32_t *id, const double *p, size_t n) {
    for (int i = 0; i < 1024; i++)
        logits[i] = -INFINITY;
    for (size_t i = 0; i < n; i++)
        set_probability(id[i], p[i]);
}

static void infill_merges_beginnings_and_ends_in_time(void **state) {
    (void)state;
    peri_arena *a = peri_arena_new();
    peri_sampler *s = MAKE(a, "samplers=top_k;infill", "top_k=4");
    int32_t id[1024], tok[] = {1};
    /* ":" takes up "://"; of four candidates "http" (0.1) is below 0.2 */
    only((int32_t[]){id_colon, id_colon_slashes, id_space_b, id_http}, (double[]){.4, .15, .35, .1},
         4);
    size_t n = survivors(s, tok, 1, id);
    assert_int_equal(n, 2);
    assert_true(is_among(id, n, id_colon) && is_among(id, n, id_space_b));
    /* 3 * 0.09 * 4 > 0.91: the end */
    only((int32_t[]){id_colon, id_http, id_space_b, id_end}, (double[]){.5, .3, .11, .09}, 4);
    n = survivors(s, tok, 1, id);
    assert_int_equal(n, 1);
    assert_int_equal(id[0], id_end);
    /* nothing reaches 0.2: the end as well */
    peri_sampler *wide = MAKE(a, "samplers=infill");
    only((int32_t[]){id_colon, id_http, id_space_b, id_bro, id_slashes, id_mark},
         (double[]){.19, .19, .19, .19, .12, .12}, 6);
    n = survivors(wide, tok, 1, id);
    assert_int_equal(n, 1);
    assert_int_equal(id[0], peri_tokenizer_eos(tokenizer));
    peri_sampler_free(wide);
    peri_sampler_free(s);
    peri_arena_free(a);
    memset(logits, 0, sizeof logits);
}

static void dry_stops_at_breakers_and_never_punishes_them(void **state) {
    (void)state;
    peri_arena *a = peri_arena_new();
    peri_sampler *s = MAKE(a, "samplers=dry", "dry_multiplier=1", "dry_allowed_length=1");
    peri_sampler *n = MAKE(a, "samplers=dry", "dry_multiplier=1", "dry_allowed_length=1",
                           "dry_sequence_breaker=none");
    peri_sampler *w = MAKE(a, "samplers=dry", "dry_multiplier=1", "dry_allowed_length=1",
                           "dry_sequence_breaker=ttp:");
    const int32_t tok[] = {id_http, id_colon, id_bro, id_brown, id_http, id_colon, id_bro};
    const peri_candidate *c;
    peri_error err;
    int32_t id;
    peri_sampler *each[] = {s, n, w};
    /* "http : ro" repeats and brown follows.  The breaker ":" leaves "ro": 1.75^0; none: 1.75^2;
     * "ttp:" begins in "http" and ends in ":", which leaves "ro" as well. */
    const float want[] = {-1, -1.75f * 1.75f, -1};
    for (int i = 0; i < 3; i++) {
        assert_ok(peri_sampler_pick(each[i], logits, tok, 7, &id, &err), err);
        size_t k = peri_sampler_survivors(each[i], &c);
        assert_int_equal(c[k - 1].id, id_brown);
        assert_float_equal(c[k - 1].logit, want[i], 1e-6);
        assert_float_equal(c[k - 2].logit, 0, 0);
    }
    const int32_t ends[] = {id_http, id_colon, id_bro, id_http};
    assert_ok(peri_sampler_pick(s, logits, ends, 4, &id, &err), err); /* ":" would follow */
    size_t k = peri_sampler_survivors(s, &c);
    assert_float_equal(c[k - 1].logit, 0, 0);
    assert_ok(peri_sampler_pick(n, logits, ends, 4, &id, &err), err);
    k = peri_sampler_survivors(n, &c);
    assert_int_equal(c[k - 1].id, id_colon);
    for (int i = 0; i < 3; i++)
        peri_sampler_free(each[i]);
    peri_arena_free(a);
}

static void ignore_eos_bans_what_ends(void **state) {
    (void)state;
    peri_arena *a = peri_arena_new();
    peri_sampler *s = MAKE(a, "ignore_eos=1", "samplers=none");
    int32_t id[1024], tok[] = {1};
    size_t n = survivors(s, tok, 1, id);
    assert_int_equal(n, table->n_vocab - 1);
    assert_false(is_among(id, n, id_end));
    peri_sampler_free(s);
    peri_arena_free(a);
}

static peri_status whole_life(peri_error *err) {
    const peri_sampler_vocab v = {.n_vocab = table->n_vocab, .n_ctx = 8, .tokenizer = tokenizer};
    const peri_sampling p = {.heal = 1,
                             .dry_multiplier = 1,
                             .dry_base = 2,
                             .dry_penalty_last_n = -1,
                             .ignore_eos = 1,
                             .n_order = 2,
                             .order = {PERI_LINK_DRY, PERI_LINK_INFILL}};
    peri_sampler *s;
    peri_text text = {0};
    size_t n_keep;
    const int32_t ids[] = {1, id_colon};
    peri_status st = peri_sampler_new(&p, &v, &s, err);
    if (!st) st = peri_heal_prompt(peri_sampler_table(s), ids, 2, &n_keep, &text, err);
    peri_text_fini(&text);
    peri_sampler_free(s);
    return st;
}

static void every_failing_allocation_is_reported_and_leaks_nothing(void **state) {
    (void)state;
    peri_error err;
    peri_fault *f = peri_fault_alloc_install();
    assert_ok(whole_life(&err), err);
    uint64_t calls = f->calls;
    assert_true(calls > 10);
    for (uint64_t n = 1; n <= calls; n++) {
        f->calls = 0;
        f->fail_at = n;
        assert_int_equal(whole_life(&err), PERI_E_NOMEM);
        assert_int_equal(f->live, 0);
    }
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_hold_all_tokens_with_a_beginning),
        cmocka_unit_test(prompts_lose_the_tokens_a_longer_one_goes_on_from),
        cmocka_unit_test(choices_spell_the_text_and_then_are_free),
        cmocka_unit_test(biases_may_leave_no_way_to_spell),
        cmocka_unit_test(clones_and_saved_samplers_heal_on),
        cmocka_unit_test(output_that_repeats_the_prompt_is_counted),
        cmocka_unit_test(infill_merges_beginnings_and_ends_in_time),
        cmocka_unit_test(dry_stops_at_breakers_and_never_punishes_them),
        cmocka_unit_test(ignore_eos_bans_what_ends),
        cmocka_unit_test(every_failing_allocation_is_reported_and_leaks_nothing),
    };
    open_vocab(NULL);
    int rc = peri_run_tests(tests);
    close_vocab(NULL);
    return rc;
}
