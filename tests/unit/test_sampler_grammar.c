/* SPDX-License-Identifier: MIT
 *
 * test_sampler_grammar.c - the link `grammar` in a sampler: its place in the chain, where a text
 * begins, triggers, rewinding, clones, saving, and what goes wrong. */
#include "harness.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/text.h"
#include "fault.h"
#include "run/sampler.h"
#include "vocab.h"

enum { UNK, BOS, EOS, THINK, A, B, C, AB, YES, MAX_ID = 1000 };
static int32_t first_byte, n_vocab;

static peri_tokenizer *open_vocab(void) {
    vocab_begin("llama");
    vocab_add(PERI_TOK_UNKNOWN, 0, "<unk>");
    vocab_add(PERI_TOK_CONTROL, 0, "<s>");
    vocab_add(PERI_TOK_CONTROL, 0, "</s>");
    vocab_add(PERI_TOK_CONTROL, 0, "<think>");
    vocab_add(PERI_TOK_NORMAL, -1, "a");
    vocab_add(PERI_TOK_NORMAL, -2, "b");
    vocab_add(PERI_TOK_NORMAL, -3, "c");
    vocab_add(PERI_TOK_NORMAL, -4, "ab");
    first_byte = vocab_add(PERI_TOK_NORMAL, -5, "yes") + 1;
    vocab_bytes();
    gw_u32(vocab_writer(), "tokenizer.ggml.eos_token_id", EOS);
    peri_tokenizer *t = vocab_open();
    n_vocab = peri_tokenizer_n_vocab(t);
    return t;
}

static peri_sampling greedy_with(const char *grammar) {
    peri_sampling p;
    peri_error err;
    assert_ok(peri_sampling_init(&p, PERI_ORIGIN_OFF, NULL, &err), err);
    p.grammar = peri_str_of(grammar);
    return p;
}

static peri_sampler *make(const peri_sampling *p, const peri_sampler_vocab *v) {
    peri_sampler *s;
    peri_error err;
    assert_ok(peri_sampler_new(p, v, &s, &err), err);
    return s;
}

/* A model that likes the ids in the order given, most first, then all others by rising id. */
static const float *liking(const int32_t *id, size_t n) {
    static float logits[MAX_ID];
    for (int32_t i = 0; i < n_vocab; i++)
        logits[i] = -(float)i / 100;
    for (size_t i = 0; i < n; i++)
        logits[id[i]] = (float)(100 - i);
    return logits;
}
#define LIKING(...)                                                                                \
    liking((const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static int32_t pick(peri_sampler *s, const float *logits, const int32_t *tok, int32_t n_tok) {
    peri_error err;
    int32_t id;
    assert_ok(peri_sampler_pick(s, logits, tok, n_tok, &id, &err), err);
    return id;
}

typedef struct world {
    peri_tokenizer *t;
    peri_sampler_scratch *x;
    peri_sampler_vocab v;
} world;

static int set_up(void **state) {
    static world w;
    peri_error err;
    w.t = open_vocab();
    assert_ok(peri_sampler_scratch_new(n_vocab, &w.x, &err), err);
    w.v = (peri_sampler_vocab){.n_vocab = n_vocab, .n_ctx = 64, .tokenizer = w.t, .scratch = w.x};
    *state = &w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    peri_sampler_scratch_free(w->x);
    vocab_close(w->t);
    return 0;
}

static void the_likeliest_that_is_allowed_is_chosen(void **state) {
    world *w = *state;
    peri_sampling p = greedy_with("root ::= \"a\" [bc]+ \"yes\"?");
    peri_sampler *s = make(&p, &w->v);
    int32_t tok[8] = {BOS, C};
    assert_int_equal(tok[2] = pick(s, LIKING(EOS, BOS, C, YES, B, A), tok, 2), A);
    assert_int_equal(tok[3] = pick(s, LIKING(EOS, BOS, YES, A, B), tok, 3), B);
    assert_int_equal(tok[4] = pick(s, LIKING(BOS, A, C, EOS), tok, 4), C);
    assert_int_equal(tok[5] = pick(s, LIKING(BOS, AB, YES), tok, 5), YES);
    assert_int_equal(pick(s, LIKING(A, B, C, YES, BOS), tok, 6), EOS);
    peri_sampler_free(s);
    /* a token that goes too far, and one byte of a character */
    p = greedy_with("root ::= \"a\" \"\\u20ac\"");
    s = make(&p, &w->v);
    assert_int_equal(tok[2] = pick(s, LIKING(AB, A), tok, 2), A);
    assert_int_equal(tok[3] = pick(s, LIKING(A, B), tok, 3), first_byte + 0xE2);
    assert_int_equal(tok[4] = pick(s, LIKING(A, EOS), tok, 4), first_byte + 0x82);
    assert_int_equal(tok[5] = pick(s, LIKING(A, EOS), tok, 5), first_byte + 0xAC);
    assert_int_equal(pick(s, LIKING(A, B), tok, 6), EOS);
    peri_sampler_free(s);
}

static void its_place_is_first_unless_the_order_names_it(void **state) {
    world *w = *state;
    peri_arena *a = peri_arena_new();
    peri_error err;
    int32_t tok[] = {BOS}, id;
    const peri_candidate *c;
    peri_sampling p = greedy_with("root ::= [ab]");
    p.temp = 1;
    p.top_k = 2;
    peri_sampler *s = make(&p, &w->v);
    id = pick(s, LIKING(C, YES, A, B, EOS), tok, 1);
    assert_true(id == A || id == B);
    assert_int_equal(peri_sampler_survivors(s, &c), 2);
    peri_sampler_free(s);
    assert_ok(peri_sampling_apply(&p, a, "samplers=top_k;grammar;temperature", &err), err);
    s = make(&p, &w->v);
    assert_int_equal(pick(s, LIKING(C, B, A), tok, 1), B);
    assert_int_equal(peri_sampler_pick(s, LIKING(C, YES, A), tok, 1, &id, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "the samplers before it left no token that it allows");
    assert_int_equal(id, -1);
    peri_sampler_free(s);
    p.mirostat = 2;
    s = make(&p, &w->v);
    id = pick(s, LIKING(C, YES, A, B), tok, 1);
    assert_true(id == A || id == B);
    peri_sampler_free(s);
    peri_arena_free(a);
}

static void a_text_begins_behind_what_was_fed(void **state) {
    world *w = *state;
    peri_sampling p = greedy_with("root ::= \"a\" \"b\" \"c\"");
    peri_sampler *s = make(&p, &w->v);
    int32_t tok[16] = {BOS};
    assert_int_equal(tok[1] = pick(s, LIKING(YES), tok, 1), A);
    assert_int_equal(tok[2] = pick(s, LIKING(YES), tok, 2), B);
    tok[3] = YES; /* fed */
    assert_int_equal(tok[4] = pick(s, LIKING(YES), tok, 4), A);
    assert_int_equal(tok[5] = pick(s, LIKING(YES), tok, 5), B);
    assert_int_equal(tok[6] = pick(s, LIKING(YES), tok, 6), C);
    assert_int_equal(tok[7] = pick(s, LIKING(YES), tok, 7), EOS);
    tok[7] = EOS; /* the prompt begins with what was chosen */
    tok[8] = YES;
    assert_int_equal(pick(s, LIKING(YES), tok, 9), A);
    /* back into the first text: it goes on there */
    assert_int_equal(pick(s, LIKING(YES), tok, 2), B);
    assert_int_equal(pick(s, LIKING(YES), tok, 6), A); /* what stood behind is fed now */
    peri_sampler_free(s);
}

static void clones_and_saved_ones_go_on_alike(void **state) {
    world *w = *state;
    static const char *const trigger[] = {"c", "<think>"};
    peri_sampling p = greedy_with("root ::= \"a\" root? \"b\"");
    p.trigger = trigger;
    p.n_trigger = 2;
    peri_sampler *s = make(&p, &w->v), *clone, *back;
    peri_error err;
    peri_text bytes = {0};
    int32_t tok[16] = {BOS};
    assert_int_equal(tok[1] = pick(s, LIKING(YES), tok, 1), YES);
    assert_int_equal(tok[2] = pick(s, LIKING(THINK), tok, 2), THINK); /* arms: a control token */
    assert_int_equal(tok[3] = pick(s, LIKING(YES, EOS, A), tok, 3), A);
    assert_int_equal(tok[4] = pick(s, LIKING(A), tok, 4), A);
    assert_int_equal(tok[5] = pick(s, LIKING(B), tok, 5), B);
    assert_ok(peri_sampler_clone(s, 7, 5, &clone, &err), err);
    assert_ok(peri_sampler_save(s, 5, &bytes, &err), err);
    peri_reader r = {.name = "saved", .data = (const uint8_t *)bytes.data, .size = bytes.size};
    assert_ok(peri_sampler_restore(&r, &w->v, 5, &back, &err), err);
    assert_int_equal(peri_reader_left(&r), 0);
    peri_sampler *all[] = {s, clone, back};
    for (int i = 0; i < 3; i++) {
        int32_t copy[16];
        memcpy(copy, tok, sizeof copy);
        assert_int_equal(copy[5] = pick(all[i], LIKING(B), copy, 5), B);
        assert_int_equal(copy[6] = pick(all[i], LIKING(A, EOS), copy, 6), B);
        assert_int_equal(pick(all[i], LIKING(A, B), copy, 7), EOS);
        assert_int_equal(peri_sampler_params(all[i])->n_trigger, 2);
    }
    for (uint64_t cut = 0; cut < bytes.size; cut++) { /* no beginning of it is taken for it */
        r = (peri_reader){.name = "saved", .data = (const uint8_t *)bytes.data, .size = cut};
        assert_true(peri_sampler_restore(&r, &w->v, 5, &(peri_sampler *){NULL}, &err) != PERI_OK);
    }
    peri_sampler_free(back);
    peri_sampler_free(clone);
    peri_sampler_free(s);
    peri_text_fini(&bytes);
}

static void a_trigger_of_text_arms_inside_a_token(void **state) {
    world *w = *state;
    static const char *const trigger[] = {"a"};
    peri_sampling p = greedy_with("root ::= \"c\"");
    p.trigger = trigger;
    p.n_trigger = 1;
    peri_sampler *s = make(&p, &w->v);
    int32_t tok[8] = {BOS};
    /* "ab" would arm, and b is not of the grammar: it may not come; everything else may */
    assert_int_equal(tok[1] = pick(s, LIKING(AB, YES), tok, 1), YES);
    assert_int_equal(tok[2] = pick(s, LIKING(AB, A), tok, 2), A);
    assert_int_equal(tok[3] = pick(s, LIKING(AB, A, EOS), tok, 3), C);
    assert_int_equal(pick(s, LIKING(AB, A), tok, 4), EOS);
    assert_int_equal(pick(s, LIKING(EOS), tok, 2), EOS); /* it may end before */
    peri_sampler_free(s);
}

static void what_cannot_be_is_refused(void **state) {
    world *w = *state;
    static const char *const trigger[] = {"x"};
    peri_sampler *s;
    peri_error err;
    peri_sampling p = greedy_with("root ::= \"a\"\nroot ::= b");
    assert_int_equal(peri_sampler_new(&p, &w->v, &s, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "grammar: line 2, column 1");
    p = greedy_with("root ::= \"a\"");
    p.heal = 1;
    assert_int_equal(peri_sampler_new(&p, &w->v, &s, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "heal");
    p = greedy_with("");
    p.trigger = trigger;
    p.n_trigger = 1;
    assert_int_equal(peri_sampler_new(&p, &w->v, &s, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "no grammar");
    p = greedy_with("root ::= \"a\"");
    peri_sampler_vocab v = w->v;
    v.tokenizer = NULL;
    assert_int_equal(peri_sampler_new(&p, &v, &s, &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED, "needs a tokenizer");
    int32_t tok[] = {BOS, A}, id;
    p.ignore_eos = 1;
    s = make(&p, &w->v);
    assert_int_equal(tok[1] = pick(s, LIKING(B), tok, 1), A);
    assert_int_equal(peri_sampler_pick(s, LIKING(B), tok, 2, &id, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "no token is left");
    peri_sampler_free(s);
}

static void lack_of_memory_is_an_error(void **state) {
    (void)state;
    peri_tokenizer *t = open_vocab();
    peri_sampler_vocab v = {.n_vocab = n_vocab, .n_ctx = 16, .tokenizer = t};
    peri_sampling p = greedy_with("root ::= (\"a\" | \"b\" root){1,3}");
    peri_fault *f = peri_fault_alloc_install();
    peri_error err;
    uint64_t n = 0, live = f->live;
    peri_status st = PERI_E_NOMEM;
    for (; st; n++) {
        peri_sampler *s = NULL, *clone = NULL;
        int32_t tok[] = {BOS, 0}, id;
        f->calls = 0;
        f->fail_at = n + 1;
        st = peri_sampler_new(&p, &v, &s, &err);
        if (!st) st = peri_sampler_pick(s, LIKING(C, B), tok, 1, &tok[1], &err);
        if (!st) st = peri_sampler_clone(s, 1, 2, &clone, &err);
        if (!st) st = peri_sampler_pick(clone, LIKING(C, A), tok, 2, &id, &err);
        if (!st) assert_int_equal(id, A);
        peri_sampler_free(clone);
        peri_sampler_free(s);
        assert_int_equal(f->live, live);
        if (st) assert_error(&err, PERI_E_NOMEM, "memory");
    }
    assert_true(n > 60);
    f->fail_at = 0;
    peri_fault_alloc_remove();
    vocab_close(t);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        IN_WORLD(the_likeliest_that_is_allowed_is_chosen),
        IN_WORLD(its_place_is_first_unless_the_order_names_it),
        IN_WORLD(a_text_begins_behind_what_was_fed),
        IN_WORLD(clones_and_saved_ones_go_on_alike),
        IN_WORLD(a_trigger_of_text_arms_inside_a_token),
        IN_WORLD(what_cannot_be_is_refused),
        cmocka_unit_test(lack_of_memory_is_an_error),
    };
    return peri_run_tests(tests);
}
