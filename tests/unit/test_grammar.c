/* SPDX-License-Identifier: MIT
 *
 * test_grammar.c - grammars: the cases of tests/cases/grammar, limits, states, triggers, masks
 * compared with the texts of tokens one by one, allocation failure.
 *
 * The form of a case file stands at the head of notation.case. */
#include "harness.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/text.h"
#include "fault.h"
#include "run/grammar.h"
#include "vocab.h"

enum { MAX_TEXT = 4096 };

static peri_grammar *grammar_of(const char *text) {
    peri_grammar *g;
    peri_error err;
    assert_ok(peri_grammar_new((peri_str){text, strlen(text)}, &g, &err), err);
    return g;
}

static peri_matcher *matcher_of(const char *text, const char *const *trigger, size_t n) {
    peri_grammar *g = grammar_of(text);
    peri_matcher *m;
    peri_error err;
    assert_ok(peri_matcher_new(g, trigger, n, &m, &err), err);
    peri_grammar_free(g);
    return m;
}

static peri_match after(peri_matcher *m, const char *text, size_t n) {
    peri_match s;
    peri_error err;
    assert_ok(peri_matcher_start(m, &s, &err), err);
    assert_ok(peri_matcher_feed(m, &s, text, n, &err), err);
    return s;
}

/* ---- cases ----------------------------------------------------------------------------------- */

typedef struct case_run {
    const char *file;
    int line, n_case, n_text;
    char name[200];
    peri_text grammar;
    peri_matcher *m;
} case_run;

static void end_case(case_run *r) {
    peri_matcher_free(r->m);
    r->m = NULL;
    r->grammar.size = 0;
}

/* "..." to bytes. */
static size_t unquote(const case_run *r, const char *s, char *out) {
    size_t n = 0;
    if (*s++ != '"') fail_msg("%s:%d: expected \"", r->file, r->line);
    for (; *s && *s != '"'; s++) {
        if (*s != '\\') {
            out[n++] = *s;
        } else if (*++s == 'x') {
            char hex[3] = {s[1], s[2], 0};
            out[n++] = (char)strtol(hex, NULL, 16);
            s += 2;
        } else {
            out[n++] = *s == 'n' ? '\n' : *s == 't' ? '\t' : *s;
        }
    }
    return n;
}

static void expect_text(case_run *r, const char *verb, const char *quoted) {
    char text[MAX_TEXT];
    size_t n = unquote(r, quoted, text);
    if (!r->m) {
        peri_grammar *g;
        peri_error err;
        peri_str s = {r->grammar.size ? r->grammar.data : "", r->grammar.size};
        if (peri_grammar_new(s, &g, &err)) fail_msg("%s: %s: %s", r->file, r->name, err.text);
        assert_ok(peri_matcher_new(g, NULL, 0, &r->m, &err), err);
        peri_grammar_free(g);
    }
    peri_match s = after(r->m, text, n);
    const char *found = !s ? "refuse" : peri_matcher_may_end(r->m, s) ? "accept" : "begin";
    r->n_text++;
    if (strcmp(found, verb) != 0)
        fail_msg("%s:%d: %s: found %s, expected %s", r->file, r->line, r->name, found, verb);
}

static void expect_error(case_run *r, const char *words) {
    peri_grammar *g;
    peri_error err = {0};
    peri_str s = {r->grammar.size ? r->grammar.data : "", r->grammar.size};
    peri_status st = peri_grammar_new(s, &g, &err);
    r->n_text++;
    if (!st) fail_msg("%s:%d: %s: was accepted", r->file, r->line, r->name);
    assert_null(g);
    if (!strstr(err.text, words))
        fail_msg("%s:%d: %s: found \"%s\", expected \"%s\"", r->file, r->line, r->name, err.text,
                 words);
}

static void run_line(case_run *r, char *line) {
    char *rest = strchr(line, ' ');
    if (!strncmp(line, "    ", 4)) {
        peri_text_add_str(&r->grammar, line + 4);
        peri_text_add_str(&r->grammar, "\n");
        return;
    }
    if (rest) rest++;
    if (!*line || *line == '#' || !strcmp(line, "grammar")) return;
    if (!strncmp(line, "case ", 5)) {
        end_case(r);
        snprintf(r->name, sizeof r->name, "%s", rest);
        r->n_case++;
    } else if (!strncmp(line, "error ", 6)) {
        expect_error(r, rest);
    } else if (rest) {
        char verb[16];
        snprintf(verb, sizeof verb, "%.*s", (int)(rest - line - 1), line);
        expect_text(r, verb, rest);
    } else {
        fail_msg("%s:%d: not understood: %s", r->file, r->line, line);
    }
}

static void run_file(const char *path, case_run *r) {
    char line[MAX_TEXT];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    r->file = path;
    r->line = 0;
    while (fgets(line, sizeof line, f)) {
        r->line++;
        line[strcspn(line, "\n")] = 0;
        run_line(r, line);
    }
    end_case(r);
    fclose(f);
}

static void the_cases_of_the_files_hold(void **state) {
    (void)state;
    case_run r = {0};
    DIR *d = opendir(PERI_SOURCE_DIR "/tests/cases/grammar");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[1024];
        if (!strstr(e->d_name, ".case")) continue;
        snprintf(path, sizeof path, PERI_SOURCE_DIR "/tests/cases/grammar/%s", e->d_name);
        run_file(path, &r);
    }
    closedir(d);
    peri_text_fini(&r.grammar);
    if (r.n_case < 37 || r.n_text < 90) fail_msg("only %d cases, %d texts", r.n_case, r.n_text);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void refuse(const peri_text *text, peri_status code, const char *words) {
    peri_grammar *g;
    peri_error err;
    assert_false(text->failed);
    assert_int_equal(peri_grammar_new((peri_str){text->data, text->size}, &g, &err), code);
    assert_error(&err, code, words);
}

static void a_million_groups_are_refused(void **state) {
    (void)state;
    peri_text t = {0};
    peri_text_add_str(&t, "root ::= ");
    for (int i = 0; i < 200000; i++)
        peri_text_add_str(&t, "(");
    refuse(&t, PERI_E_RANGE, "line 1, column 138: more than 128 groups");
    for (int i = 0; i < 800000; i++)
        peri_text_add_str(&t, "(");
    refuse(&t, PERI_E_RANGE, "it has 1000009 bytes, at most 524288");
    peri_text_fini(&t);
}

static void a_chain_of_rules_is_no_recursion_in_c(void **state) {
    (void)state;
    peri_text t = {0};
    enum { N = 16000 };
    peri_text_add_str(&t, "root ::= r0\n");
    for (int i = 0; i < N; i++)
        peri_text_addf(&t, "r%d ::= r%d?\n", i, i + 1);
    peri_text_addf(&t, "r%d ::= \"x\"", N);
    peri_text_add(&t, "", 1);
    peri_matcher *m = matcher_of(t.data, NULL, 0);
    assert_true(peri_matcher_may_end(m, after(m, "", 0)));
    assert_true(peri_matcher_may_end(m, after(m, "x", 1)));
    assert_int_equal(after(m, "xx", 2), PERI_MATCH_DEAD);
    peri_matcher_free(m);
    t.size = 0;
    for (int i = 0; i < 17000; i++)
        peri_text_addf(&t, "r%d ::= \"x\"\n", i);
    refuse(&t, PERI_E_RANGE, "more than 16384 rules");
    peri_text_fini(&t);
}

static void deep_texts_take_room_not_stack(void **state) {
    (void)state;
    enum { N = 100000 };
    peri_matcher *m = matcher_of("root ::= \"[\" root \"]\" | \"\"", NULL, 0);
    char *text = peri_alloc(2 * N);
    memset(text, '[', N);
    memset(text + N, ']', N);
    assert_true(peri_matcher_may_end(m, after(m, text, 2 * N)));
    assert_false(peri_matcher_may_end(m, after(m, text, 2 * N - 1)));
    peri_free(text);
    peri_matcher_free(m);
}

/* A state for every number of a's; what there is to remember stays in bounds. */
static void many_readings_take_bounded_room(void **state) {
    (void)state;
    peri_matcher *m = matcher_of("root ::= x x x x x x \"b\"\nx ::= \"a\" x \"a\" | y\n"
                                 "y ::= \"a\" y | \"a\"* \"c\"?",
                                 NULL, 0);
    char text[400];
    memset(text, 'a', sizeof text);
    peri_match s = after(m, text, sizeof text);
    assert_true(s != PERI_MATCH_DEAD);
    assert_true(peri_matcher_bytes(m) < 64u << 20);
    peri_matcher_free(m);
}

static void forgetting_states_changes_nothing(void **state) {
    (void)state;
    peri_matcher *m = matcher_of("root ::= [ab]{0,9000} \"c\"", NULL, 0);
    char text[9000];
    memset(text, 'a', sizeof text);
    uint64_t age = peri_matcher_age(m);
    size_t least = peri_matcher_bytes(m);
    for (int i = 0; i < 4; i++) {
        text[8999] = i == 2 ? 'c' : 'a';
        peri_match s = after(m, text, sizeof text);
        assert_true(s != PERI_MATCH_DEAD);
        assert_int_equal(peri_matcher_may_end(m, s), i == 2);
        size_t bytes = peri_matcher_bytes(m);
        assert_true(bytes > 9000 * sizeof(uint32_t));
        peri_matcher_tidy(m, bytes);
        assert_int_equal(peri_matcher_age(m), age);
        peri_matcher_tidy(m, bytes - 1);
        assert_int_equal(peri_matcher_age(m), ++age);
        assert_true(peri_matcher_bytes(m) < bytes / 2 + least);
    }
    peri_matcher_free(m);
}

/* ---- triggers -------------------------------------------------------------------------------- */

static void a_trigger_arms_the_grammar(void **state) {
    (void)state;
    static const char *const trigger[] = {"</think>", "<<call", "k>>"};
    peri_matcher *m = matcher_of("root ::= \"yes\"", trigger, 3);
    static const struct {
        const char *text;
        bool is_alive, may_end, is_waiting;
    } row[] = {
        {"", true, true, true},
        {"anything </thin", true, true, true},
        {"a</think>", true, false, false},
        {"a</think>ye", true, false, false},
        {"a</think>yes", true, true, false},
        {"a</think>no", false, false, false},
        {"<<<callyes", true, true, false},
        {"</thi</think>yes", true, true, false},
        {"</think>>yes", false, false, false},
        {"</thik>>yes", true, true, false}, /* the end of one text begins another */
        {"<</think>yes", true, true, false},
        {"\xFF\xC0yes", true, true, true}, /* any bytes */
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        peri_match s = after(m, row[i].text, strlen(row[i].text));
        if ((s != PERI_MATCH_DEAD) != row[i].is_alive ||
            (s && peri_matcher_may_end(m, s) != row[i].may_end) ||
            peri_match_is_waiting(s) != row[i].is_waiting)
            fail_msg("%s: state %u", row[i].text, s);
    }
    peri_matcher_free(m);
}

static void bad_triggers_are_refused(void **state) {
    (void)state;
    static const char *const empty[] = {"a", ""};
    const char *many[PERI_GRAMMAR_TRIGGERS + 1];
    peri_grammar *g = grammar_of("root ::= \"a\"");
    peri_matcher *m;
    peri_error err;
    assert_int_equal(peri_matcher_new(g, empty, 2, &m, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "an empty trigger");
    for (int i = 0; i <= PERI_GRAMMAR_TRIGGERS; i++)
        many[i] = "x";
    assert_int_equal(peri_matcher_new(g, many, PERI_GRAMMAR_TRIGGERS + 1, &m, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "17 triggers of 17 bytes, at most 16 of 1024");
    assert_null(m);
    peri_grammar_free(g);
}

/* ---- masks ----------------------------------------------------------------------------------- */

static const char *const pieces[] = {"a", "b",      "ab",   "abc", "c",   "\"",  "{",
                                     "}", "{\"",    "\":",  "1",   "12",  "tru", "true",
                                     ",", "abcabc", "</t>", "<",   "/t>", "t>a", "</t>1"};
enum { N_PIECE = sizeof pieces / sizeof pieces[0] };

/* A vocabulary with byte tokens, a control token, an end token, and the pieces. */
static peri_tokenizer *open_vocab(void) {
    vocab_begin("llama");
    vocab_add(PERI_TOK_UNKNOWN, 0, "<unk>");
    vocab_add(PERI_TOK_CONTROL, 0, "<s>");
    vocab_add(PERI_TOK_CONTROL, 0, "</s>");
    vocab_bytes();
    for (int i = 0; i < N_PIECE; i++)
        vocab_add(i % 3 ? PERI_TOK_NORMAL : PERI_TOK_USER, (float)-i, pieces[i]);
    gw_u32(vocab_writer(), "tokenizer.ggml.eos_token_id", 2);
    return vocab_open();
}

static bool is_in(const peri_token_mask *m, int32_t id) {
    if (m->bit) return m->bit[id / 32] >> id % 32 & 1;
    for (uint32_t i = 0; i < m->n; i++)
        if (m->id[i] == id) return true;
    return false;
}

/* The mask against every token's text. */
static void check_mask(peri_matcher *m, peri_masks *k, const peri_token_table *t, peri_match s) {
    peri_token_mask mask;
    peri_error err;
    uint32_t n = 0;
    assert_ok(peri_masks_get(k, s, &mask, &err), err);
    for (int32_t id = 0; id < t->n_vocab; id++) {
        peri_str text = peri_token_table_text(t, id);
        peri_match to = s;
        bool expected;
        assert_ok(peri_matcher_feed(m, &to, text.data, text.size, &err), err);
        if (text.size && !peri_token_is_eog(t->tokenizer, id))
            expected = to != PERI_MATCH_DEAD;
        else
            expected = peri_match_is_waiting(s) ||
                       (peri_token_is_eog(t->tokenizer, id) && peri_matcher_may_end(m, s));
        n += expected;
        if (is_in(&mask, id) != expected)
            fail_msg("token %d (%.*s): found %d, expected %d", id, (int)text.size, text.data,
                     is_in(&mask, id), expected);
    }
    assert_int_equal(mask.n, n);
    assert_int_equal(mask.may_end, peri_matcher_may_end(m, s));
}

static void masks_agree_with_the_texts(void **state) {
    (void)state;
    static const char *const grammar[] = {
        "root ::= [ab]* \"c\"",
        "root ::= [^\"]{0,3}",
        "root ::= \"{\" (\"\\\"\" [^\"]* \"\\\"\" \":\" value)? \"}\"\nvalue ::= root | [0-9]+ | "
        "\"true\"",
        "root ::= \"\\u20ac\"* .",
    };
    static const char *const text[] = {"",        "a",    "ab",       "{",   "{\"a",
                                       "{\"a\":", "\xE2", "\xE2\x82", "</t", "</t>"};
    static const char *const trigger[] = {"</t>"};
    peri_tokenizer *t = open_vocab();
    peri_token_table *table;
    peri_token_tree *tree;
    peri_error err;
    int n = 0;
    assert_ok(peri_token_table_new(t, &table, &err), err);
    assert_ok(peri_token_tree_new(table, &tree, &err), err);
    for (size_t i = 0; i < 8; i++) {
        peri_masks *k;
        peri_matcher *m = matcher_of(grammar[i / 2], trigger, i % 2);
        assert_ok(peri_masks_new(m, tree, &k, &err), err);
        for (int twice = 0; twice < 2; twice++)
            for (size_t j = 0; j < sizeof text / sizeof text[0]; j++) {
                peri_match s = after(m, text[j], strlen(text[j]));
                if (s == PERI_MATCH_DEAD) continue;
                check_mask(m, k, table, s);
                n++;
            }
        peri_masks_free(k);
        peri_matcher_free(m);
    }
    assert_true(n > 60);
    peri_token_tree_free(tree);
    peri_token_table_free(table);
    vocab_close(t);
}

/* ---- out of memory --------------------------------------------------------------------------- */

static peri_status whole_life(const peri_token_table *t, peri_error *err) {
    static const char text[] = "root ::= a{2,5} b* [^a-c\\u0100-\\u1234]\na ::= \"x\" | \"y\" a?\n"
                               "b ::= (\"1\" | \"2\")+";
    static const char *const trigger[] = {"go"};
    peri_grammar *g = NULL;
    peri_matcher *m = NULL;
    peri_token_tree *tree = NULL;
    peri_masks *k = NULL;
    peri_match s;
    peri_token_mask mask;
    peri_status st = peri_grammar_new(PERI_STR(text), &g, err);
    if (!st) st = peri_matcher_new(g, trigger, 1, &m, err);
    if (!st) st = peri_token_tree_new(t, &tree, err);
    if (!st) st = peri_masks_new(m, tree, &k, err);
    if (!st) st = peri_matcher_start(m, &s, err);
    if (!st) st = peri_masks_get(k, s, &mask, err);
    if (!st) st = peri_matcher_feed(m, &s, "goxyx", 5, err);
    if (!st) st = peri_masks_get(k, s, &mask, err);
    peri_masks_free(k);
    peri_token_tree_free(tree);
    peri_matcher_free(m);
    peri_grammar_free(g);
    return st;
}

static void every_lack_of_memory_is_an_error(void **state) {
    (void)state;
    peri_tokenizer *t = open_vocab();
    peri_token_table *table;
    peri_error err;
    peri_fault *f = peri_fault_alloc_install();
    assert_ok(peri_token_table_new(t, &table, &err), err);
    uint64_t live = f->live;
    uint64_t n = 0;
    for (;; n++) {
        f->calls = 0;
        f->fail_at = n + 1;
        peri_status st = whole_life(table, &err);
        assert_int_equal(f->live, live);
        if (!st) break;
        assert_int_equal(st, PERI_E_NOMEM);
        assert_error(&err, PERI_E_NOMEM, "out of memory");
    }
    f->fail_at = 0;
    assert_true(n > 30);
    peri_token_table_free(table);
    peri_fault_alloc_remove();
    vocab_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cases_of_the_files_hold),
        cmocka_unit_test(a_million_groups_are_refused),
        cmocka_unit_test(a_chain_of_rules_is_no_recursion_in_c),
        cmocka_unit_test(deep_texts_take_room_not_stack),
        cmocka_unit_test(many_readings_take_bounded_room),
        cmocka_unit_test(forgetting_states_changes_nothing),
        cmocka_unit_test(a_trigger_arms_the_grammar),
        cmocka_unit_test(bad_triggers_are_refused),
        cmocka_unit_test(masks_agree_with_the_texts),
        cmocka_unit_test(every_lack_of_memory_is_an_error),
    };
    return peri_run_tests(tests);
}
