/* SPDX-License-Identifier: MIT
 *
 * test_tokenizer.c - the tokenizer on small vocabularies: the cases of tests/cases/tokenizer,
 * streams, hostile files and texts, allocation failure.  tests/peer/tokenizers.py compares it with
 * the peer.
 *
 * A case file has one command per line; "text" in quotes takes \n \t \r \" \\ \xHH:
 *   model NAME | pre NAME | u32 KEY N | bool KEY true|false | str KEY "TEXT"
 *   token TYPE SCORE "TEXT"     TYPE: normal unknown control user unused byte
 *   bytes                       256 byte tokens <0x00> .. <0xFF>
 *   alphabet                    256 tokens of the byte-level alphabet, in byte order
 *   merge "LEFT RIGHT"
 *   text "TEXT" [special] [parse]    tokenize, with BOS/EOS, with control tokens recognised
 *   ids N ...                        what that must give
 *   back "TEXT"                      what detokenizing it must give
 *   # comment */
#include "harness.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/status.h"
#include "base/text.h"
#include "fault.h"
#include "gguf_writer.h"
#include "model/tokenizer.h"

/* ---- building a vocabulary ------------------------------------------------------------------- */

enum { MAX_TOKEN = 70000, MAX_MERGE = 400 };

typedef struct vocab {
    peri_gguf_writer w;
    const char *token[MAX_TOKEN];
    float score[MAX_TOKEN];
    int32_t type[MAX_TOKEN];
    const char *merge[MAX_MERGE];
    size_t n, n_merge;
} vocab;

static vocab v;
static char path[] = "/tmp/perigee-test-tokenizer-XXXXXX";

static void begin(const char *model) {
    memset(&v, 0, sizeof v);
    gw_init(&v.w);
    gw_str(&v.w, "general.architecture", "test");
    gw_str(&v.w, "tokenizer.ggml.model", model);
}

static void add(int type, float score, const char *text) {
    assert_true(v.n < MAX_TOKEN);
    v.token[v.n] = peri_str_dup(peri_str_of(text));
    v.score[v.n] = score;
    v.type[v.n++] = type;
}

static void add_merge(const char *text) {
    assert_true(v.n_merge < MAX_MERGE);
    v.merge[v.n_merge++] = peri_str_dup(peri_str_of(text));
}

static void add_bytes(void) {
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        add(PERI_TOK_BYTE, 0, name);
    }
}

static void add_alphabet(void) {
    unsigned next = 256;
    for (unsigned b = 0; b < 256; b++) {
        bool plain = (b >= 33 && b < 127) || (b > 160 && b != 173);
        unsigned cp = plain ? b : next++;
        char utf8[3] = {(char)cp, 0, 0};
        if (cp >= 128) {
            utf8[0] = (char)(0xC0 | cp >> 6);
            utf8[1] = (char)(0x80 | (cp & 63));
        }
        add(PERI_TOK_NORMAL, 0, utf8);
    }
}

/* Write the vocabulary to the test's file; the arrays as far as the arguments say. */
static void write_file(size_t n_score, size_t n_type) {
    peri_text out = {0};
    peri_error err;
    gw_strs(&v.w, "tokenizer.ggml.tokens", v.token, v.n);
    if (n_score) gw_f32s(&v.w, "tokenizer.ggml.scores", v.score, n_score);
    if (n_type) gw_i32s(&v.w, "tokenizer.ggml.token_type", v.type, n_type);
    if (v.n_merge) gw_strs(&v.w, "tokenizer.ggml.merges", v.merge, v.n_merge);
    gw_finish(&v.w, &out);
    assert_ok(peri_file_write(path, out.data, out.size, &err), err);
    peri_text_fini(&out);
    gw_fini(&v.w);
    for (size_t i = 0; i < v.n; i++)
        peri_free((void *)v.token[i]);
    for (size_t i = 0; i < v.n_merge; i++)
        peri_free((void *)v.merge[i]);
}

static peri_gguf *gguf;

static peri_tokenizer *open_file(void) {
    peri_error err;
    peri_tokenizer *t;
    assert_ok(peri_gguf_open(path, &gguf, &err), err);
    assert_ok(peri_tokenizer_new(gguf, &t, &err), err);
    return t;
}

static peri_tokenizer *finish(void) {
    write_file(v.n, v.n);
    return open_file();
}

static void drop(peri_tokenizer *t) {
    peri_tokenizer_free(t);
    peri_gguf_close(gguf);
}

/* The file just described must be refused. */
static void refused(size_t n_score, size_t n_type, peri_status code, const char *fragment) {
    peri_error err;
    peri_tokenizer *t;
    write_file(n_score, n_type);
    assert_ok(peri_gguf_open(path, &gguf, &err), err);
    assert_int_equal(peri_tokenizer_new(gguf, &t, &err), code);
    assert_null(t);
    assert_error(&err, code, fragment);
    peri_gguf_close(gguf);
}

static void begin_spm(void) {
    begin("llama");
    add(PERI_TOK_UNKNOWN, 0, "<unk>");
    add(PERI_TOK_CONTROL, 0, "<s>");
    add(PERI_TOK_CONTROL, 0, "</s>");
    add_bytes();
    add(PERI_TOK_NORMAL, -1, "\xE2\x96\x81");
    add(PERI_TOK_NORMAL, -2, "a");
    add(PERI_TOK_NORMAL, -3, "aa");
    add(PERI_TOK_NORMAL, -4,
        "\xE2\x96\x81"
        "a");
}

static void begin_bpe(const char *pre) {
    begin("gpt2");
    if (pre) gw_str(&v.w, "tokenizer.ggml.pre", pre);
    add_alphabet();
    add(PERI_TOK_NORMAL, 0, "ab");
    add(PERI_TOK_NORMAL, 0, "abab");
    add(PERI_TOK_CONTROL, 0, "<|end|>");
    add_merge("a b");
    add_merge("ab ab");
    gw_u32(&v.w, "tokenizer.ggml.bos_token_id", 258);
}

static peri_status encode(const peri_tokenizer *t, const char *text, size_t size, bool special,
                          int32_t **ids, size_t *n, peri_error *err) {
    peri_tokenize_options o = {.size = sizeof o, .add_special = special, .parse_special = special};
    return peri_tokenize(t, (peri_str){text, size}, &o, ids, n, err);
}

/* ---- cases ----------------------------------------------------------------------------------- */

typedef struct case_run {
    const char *file;
    int line;
    peri_tokenizer *t;
    int32_t *ids;
    size_t n, checked;
} case_run;

static int hex(char c) {
    return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

/* The quoted text at *p, unescaped in place; *p moves behind it. */
static peri_str quoted(case_run *r, char **p) {
    char *s = strchr(*p, '"'), *out;
    if (!s) fail_msg("%s:%d: a text in quotes is missing", r->file, r->line);
    char *start = out = ++s;
    for (; *s && *s != '"'; s++) {
        if (*s != '\\') {
            *out++ = *s;
        } else if (*++s == 'x') {
            *out++ = (char)(hex(s[1]) * 16 + hex(s[2]));
            s += 2;
        } else {
            *out++ = *s == 'n' ? '\n' : *s == 't' ? '\t' : *s == 'r' ? '\r' : *s;
        }
    }
    if (*s != '"') fail_msg("%s:%d: the text does not end", r->file, r->line);
    *p = s + 1;
    return (peri_str){start, (size_t)(out - start)};
}

static void describe(case_run *r, char *word, char *rest) {
    static const char *const types[] = {"",     "normal", "unknown", "control",
                                        "user", "unused", "byte"};
    char key[96], value[96];
    if (strcmp(word, "model") == 0 || strcmp(word, "pre") == 0) {
        snprintf(key, sizeof key, "tokenizer.ggml.%s", word);
        if (word[0] == 'm')
            begin(rest);
        else
            gw_str(&v.w, key, rest);
    } else if (strcmp(word, "token") == 0) {
        float score;
        int type = 6;
        assert_int_equal(sscanf(rest, "%90s %f", value, &score), 2);
        while (type && strcmp(types[type], value) != 0)
            type--;
        peri_str s = quoted(r, &rest);
        char *text = peri_str_dup(s);
        add(type, score, text);
        peri_free(text);
    } else if (strcmp(word, "merge") == 0) {
        char *text = peri_str_dup(quoted(r, &rest));
        add_merge(text);
        peri_free(text);
    } else if (strcmp(word, "bytes") == 0) {
        add_bytes();
    } else if (strcmp(word, "alphabet") == 0) {
        add_alphabet();
    } else {
        assert_int_equal(sscanf(rest, "%90s %90s", key, value), 2);
        if (strcmp(word, "u32") == 0)
            gw_u32(&v.w, key, (uint32_t)strtoul(value, NULL, 10));
        else if (strcmp(word, "bool") == 0)
            gw_bool(&v.w, key, strcmp(value, "true") == 0);
        else
            fail_msg("%s:%d: unknown command %s", r->file, r->line, word);
    }
}

static void expect_ids(case_run *r, char *rest) {
    peri_text want = {0}, got = {0};
    for (char *p = strtok_r(rest, " ", &rest); p; p = strtok_r(NULL, " ", &rest))
        peri_text_addf(&want, " %s", p);
    for (size_t i = 0; i < r->n; i++)
        peri_text_addf(&got, " %d", (int)r->ids[i]);
    if (strcmp(want.data ? want.data : "", got.data ? got.data : "") != 0)
        fail_msg("%s:%d: expected%s, got%s", r->file, r->line, want.data, got.data);
    peri_text_fini(&want);
    peri_text_fini(&got);
    r->checked++;
}

static void expect_back(case_run *r, char *rest) {
    peri_error err;
    peri_text got = {0};
    peri_str want = quoted(r, &rest);
    assert_ok(peri_detokenize(r->t, r->ids, r->n, false, &got, &err), err);
    if (got.size != want.size || (want.size && memcmp(got.data, want.data, want.size) != 0))
        fail_msg("%s:%d: expected \"%.*s\", got \"%s\"", r->file, r->line, PERI_STR_ARG(want),
                 got.data);
    peri_text_fini(&got);
    r->checked++;
}

static void do_line(case_run *r, char *line) {
    peri_error err;
    char *rest = line + strcspn(line, " ");
    if (*rest) *rest++ = '\0';
    if (line[0] == '\0' || line[0] == '#') return;
    if (strcmp(line, "text") == 0) {
        if (!r->t) r->t = finish();
        peri_str s = quoted(r, &rest);
        peri_tokenize_options o = {.size = sizeof o,
                                   .add_special = strstr(rest, "special") != NULL,
                                   .parse_special = strstr(rest, "parse") != NULL};
        peri_free(r->ids);
        assert_ok(peri_tokenize(r->t, s, &o, &r->ids, &r->n, &err), err);
    } else if (strcmp(line, "ids") == 0) {
        expect_ids(r, rest);
    } else if (strcmp(line, "back") == 0) {
        expect_back(r, rest);
    } else {
        describe(r, line, rest);
    }
}

static size_t run_case(const char *file) {
    char name[512], *data, *next;
    size_t size;
    peri_error err;
    case_run r = {.file = file};
    snprintf(name, sizeof name, "%s/tests/cases/tokenizer/%s", PERI_SOURCE_DIR, file);
    assert_ok(peri_file_read(name, 1 << 20, &data, &size, &err), err);
    for (char *line = data; line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        r.line++;
        do_line(&r, line);
    }
    peri_free(r.ids);
    drop(r.t);
    peri_free(data);
    return r.checked;
}

static void cases_give_the_expected_ids_and_texts(void **state) {
    (void)state;
    DIR *d = opendir(PERI_SOURCE_DIR "/tests/cases/tokenizer");
    assert_non_null(d);
    size_t checked = 0;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        size_t n = strlen(e->d_name);
        if (n > 5 && strcmp(e->d_name + n - 5, ".case") == 0) checked += run_case(e->d_name);
    }
    closedir(d);
    assert_true(checked >= 30);
}

/* ---- facts and streams ----------------------------------------------------------------------- */

static void facts_of_a_vocabulary_are_told(void **state) {
    (void)state;
    begin_spm();
    add(PERI_TOK_NORMAL, -5, "<|im_end|>");
    peri_tokenizer *t = finish();
    assert_string_equal(peri_tokenizer_kind(t), "spm");
    assert_string_equal(peri_tokenizer_pre(t), "");
    assert_int_equal(peri_tokenizer_n_vocab(t), 264);
    assert_int_equal(peri_tokenizer_bos(t), 1);
    assert_int_equal(peri_tokenizer_eos(t), 2);
    assert_int_equal(peri_token_find(t, PERI_STR("aa")), 261);
    assert_int_equal(peri_token_find(t, PERI_STR("aaa")), -1);
    assert_int_equal(peri_token_find(t, PERI_STR("")), -1);
    assert_int_equal(peri_token_type(t, 3), PERI_TOK_BYTE);
    assert_int_equal(peri_token_type(t, 0), PERI_TOK_UNKNOWN);
    assert_int_equal(peri_token_type(t, 264), 0);
    assert_int_equal(peri_token_type(t, 263), PERI_TOK_CONTROL); /* known by its text */
    assert_true(peri_token_is_eog(t, 263));
    assert_true(peri_token_is_eog(t, 2));
    assert_false(peri_token_is_eog(t, 1));
    assert_false(peri_token_is_eog(t, -1));
    assert_true(peri_str_eq_c(peri_token_piece(t, 1), "<s>"));
    assert_int_equal(peri_token_piece(t, 1000).size, 0);
    drop(t);
}

static void token_text_hides_control_tokens_unless_asked(void **state) {
    (void)state;
    peri_error err;
    peri_text b = {0};
    begin_spm();
    peri_tokenizer *t = finish();
    assert_ok(peri_token_text(t, 1, false, &b, &err), err);
    assert_int_equal(b.size, 0);
    assert_ok(peri_token_text(t, 1, true, &b, &err), err);
    assert_ok(peri_token_text(t, 3 + 'x', false, &b, &err), err);
    assert_ok(peri_token_text(t, 262, false, &b, &err), err);
    assert_string_equal(b.data, "<s>x a");
    assert_int_equal(peri_token_text(t, 263, false, &b, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "token 263: the vocabulary has 0 to 262");
    peri_text_fini(&b);
    drop(t);
}

/* Feed byte tokens one by one; after each, what came out must be whole UTF-8 so far. */
static void stream_is(const peri_tokenizer *t, const char *bytes, const char *want) {
    peri_error err;
    peri_detok d, fork;
    peri_text out = {0}, other = {0};
    peri_detok_init(&d, t, false);
    for (size_t i = 0; bytes[i]; i++) {
        assert_ok(peri_detok_feed(&d, 3 + (uint8_t)bytes[i], &out, &err), err);
        fork = d; /* a copy goes its own way */
        peri_text_fini(&other);
        assert_ok(peri_detok_feed(&fork, 3 + 'Z', &other, &err), err);
        assert_true(other.size >= 1 && other.data[other.size - 1] == 'Z');
        assert_true(out.size == 0 ||
                    memchr("\xC3\xE4\xB8\xF0\x9F\x98", out.data[out.size - 1], 6) == NULL);
    }
    peri_detok_end(&d, &out);
    assert_string_equal(out.data, want);
    peri_text_fini(&other);
    peri_text_fini(&out);
}

static void stream_releases_whole_characters_only(void **state) {
    (void)state;
    begin_spm();
    peri_tokenizer *t = finish();
    stream_is(t, "a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80z",
              "a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80z");
    stream_is(t, "\xF0\x9F\x98", "\xEF\xBF\xBD");
    stream_is(t, "\xE4\xB8x", "\xEF\xBF\xBDx");
    stream_is(t, "\xFF\xC0\xAFx", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDx");
    stream_is(t, "\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    drop(t);
}

static void stream_drops_the_first_space_where_the_kind_asks(void **state) {
    (void)state;
    peri_error err;
    peri_detok d;
    peri_text out = {0};
    begin_spm();
    peri_tokenizer *t = finish();
    peri_detok_init(&d, t, false);
    for (int i = 0; i < 2; i++)
        assert_ok(peri_detok_feed(&d, 262, &out, &err), err);
    assert_string_equal(out.data, "a a");
    drop(t);
    begin_bpe("gpt-2");
    t = finish();
    peri_text_fini(&out);
    peri_detok_init(&d, t, false);
    assert_ok(peri_detok_feed(&d, ' ', &out, &err), err);
    assert_string_equal(out.data, " ");
    peri_text_fini(&out);
    drop(t);
}

static void whole_texts_lose_spaces_before_punctuation_where_asked(void **state) {
    (void)state;
    peri_error err;
    for (int tidy = 0; tidy < 2; tidy++) {
        begin_bpe(tidy ? "gpt-2" : "qwen2");
        peri_tokenizer *t = finish();
        int32_t *ids;
        size_t n;
        peri_text out = {0};
        const char *text = "a . b ' c it 's we 're ,";
        assert_ok(encode(t, text, strlen(text), false, &ids, &n, &err), err);
        assert_ok(peri_detokenize(t, ids, n, false, &out, &err), err);
        assert_string_equal(out.data, tidy ? "a. b'c it's we're," : text);
        peri_free(ids);
        peri_text_fini(&out);
        drop(t);
    }
}

/* ---- hostile files --------------------------------------------------------------------------- */

static void unknown_names_are_refused_with_the_known_ones(void **state) {
    (void)state;
    begin("no_vocab");
    add(1, 0, "a");
    refused(0, 0, PERI_E_UNSUPPORTED, "tokenizer no_vocab");
    begin("quantum");
    add(1, 0, "a");
    refused(0, 0, PERI_E_UNSUPPORTED, "gpt2");
    begin_bpe("nobody");
    refused(0, 0, PERI_E_UNSUPPORTED, "pre-tokenizer nobody");
}

static void missing_keys_are_named(void **state) {
    (void)state;
    peri_error err;
    peri_tokenizer *t;
    peri_text out = {0};
    gw_init(&v.w);
    gw_str(&v.w, "general.architecture", "test");
    gw_finish(&v.w, &out);
    assert_ok(peri_file_write(path, out.data, out.size, &err), err);
    gw_fini(&v.w);
    peri_text_fini(&out);
    assert_ok(peri_gguf_open(path, &gguf, &err), err);
    assert_int_equal(peri_tokenizer_new(gguf, &t, &err), PERI_E_NOT_FOUND);
    assert_error(&err, PERI_E_NOT_FOUND, "tokenizer.ggml.model");
    peri_gguf_close(gguf);
    begin("gpt2");
    add(1, 0, "a");
    refused(0, 0, PERI_E_NOT_FOUND, "tokenizer.ggml.merges");
}

static void duplicate_tokens_are_refused_by_index(void **state) {
    (void)state;
    begin_spm();
    add(PERI_TOK_NORMAL, 0, "aa");
    refused(v.n, v.n, PERI_E_CORRUPT, "elements 261 and 263 are the same text \"aa\"");
}

static void short_arrays_are_refused(void **state) {
    (void)state;
    begin_spm();
    refused(v.n - 1, v.n, PERI_E_CORRUPT, "tokenizer.ggml.scores");
    begin_spm();
    refused(v.n, 5, PERI_E_CORRUPT, "has 5 elements, the vocabulary 263");
}

static void bytes_that_name_none_and_nan_scores_are_refused(void **state) {
    (void)state;
    begin_spm();
    add(PERI_TOK_BYTE, 0, "<0xG0>");
    refused(v.n, v.n, PERI_E_CORRUPT, "element 263 says byte");
    begin_spm();
    v.score[7] = NAN;
    refused(v.n, v.n, PERI_E_CORRUPT, "element 7 is no number");
}

static void special_ids_out_of_range_keep_the_default(void **state) {
    (void)state;
    begin_spm();
    gw_u32(&v.w, "tokenizer.ggml.bos_token_id", 100000);
    gw_u32(&v.w, "tokenizer.ggml.eos_token_id", UINT32_MAX);
    peri_tokenizer *t = finish();
    assert_int_equal(peri_tokenizer_bos(t), 1);
    assert_int_equal(peri_tokenizer_eos(t), 2);
    drop(t);
    begin_bpe("llama-bpe"); /* adds BOS, and 300 names none; its default 11 is a token */
    gw_u32(&v.w, "tokenizer.ggml.padding_token_id", 300);
    t = finish();
    assert_int_equal(peri_tokenizer_bos(t), 258);
    drop(t);
    begin("bert");
    add(PERI_TOK_NORMAL, 0, "a");
    refused(0, 0, PERI_E_CORRUPT, "tokenizer.ggml.add_bos_token");
}

static void empty_ill_formed_and_long_tokens_do_no_harm(void **state) {
    (void)state;
    peri_error err;
    int32_t *ids;
    size_t n;
    static char longest[65537];
    memset(longest, 'a', sizeof longest - 1);
    static const char *const kinds[] = {"llama", "gpt2", "bert", "t5"};
    for (int k = 0; k < 4; k++) {
        begin(kinds[k]);
        add(PERI_TOK_UNKNOWN, 0, "<unk>");
        add(PERI_TOK_CONTROL, 0, "<s>");
        add(PERI_TOK_CONTROL, 0, "");
        add(PERI_TOK_NORMAL, -1, "\xFF\xC3");
        add(PERI_TOK_NORMAL, -1, longest);
        add(PERI_TOK_USER, -1, "\x80");
        for (int i = 0; i < 110; i++) {
            char name[16];
            snprintf(name, sizeof name, "t%d", i);
            add(PERI_TOK_NORMAL, -1, name);
        }
        add_merge("");
        add_merge("a");
        add_merge(" ");
        add_merge("\xFF \xC3");
        add_merge("nobody knows");
        peri_tokenizer *t = finish();
        assert_ok(encode(t, longest, 40000, true, &ids, &n, &err), err);
        peri_free(ids);
        assert_ok(encode(t, "\xFF\xC3\x80t1 \xF0", 8, true, &ids, &n, &err), err);
        for (size_t i = 0; i < n; i++)
            assert_true(ids[i] >= 0 && ids[i] < peri_tokenizer_n_vocab(t));
        peri_free(ids);
        assert_true(peri_str_eq_c(peri_token_piece(t, 2), "[EMPTY_2]"));
        drop(t);
    }
}

/* A byte array key, which the writer has no call for. */
static void put_bytes_key(const char *key, const uint8_t *data, uint64_t n) {
    uint64_t len = strlen(key);
    uint32_t type[2] = {PERI_GGUF_ARRAY, PERI_GGUF_U8};
    peri_text_add(&v.w.kv, &len, 8);
    peri_text_add(&v.w.kv, key, len);
    peri_text_add(&v.w.kv, type, 8);
    peri_text_add(&v.w.kv, &n, 8);
    peri_text_add(&v.w.kv, data, n);
    v.w.n_kv++;
}

static void begin_unigram(const uint8_t *map, size_t n) {
    begin("t5");
    add(PERI_TOK_CONTROL, 0, "<pad>");
    add(PERI_TOK_CONTROL, 0, "</s>");
    add(PERI_TOK_UNKNOWN, 0, "<unk>");
    add(PERI_TOK_NORMAL, -1, "a");
    add(PERI_TOK_NORMAL, -2, "b");
    put_bytes_key("tokenizer.ggml.precompiled_charsmap", map, n);
}

static void character_maps_are_checked_and_never_left(void **state) {
    (void)state;
    peri_error err;
    int32_t *ids;
    size_t n;
    uint8_t map[4 + 4 * 300 + 8] = {0};
    /* Root base 1; 'x' (0x78) at unit 1 ^ 0x78 has a value at its own base ^ 0; replacement "ab".
     */
    uint32_t bytes = 4 * 300, root = 1u << 10, x = 0x78u | 1u << 8 | 2u << 10, value = 1u << 31;
    memcpy(map, &bytes, 4);
    memcpy(map + 4, &root, 4);
    memcpy(map + 4 + 4 * (1 ^ 0x78), &x, 4);
    memcpy(map + 4 + 4 * (1 ^ 0x78 ^ 2), &value, 4);
    memcpy(map + 4 + bytes, "ab", 3);
    begin_unigram(map, sizeof map);
    peri_tokenizer *t = finish();
    assert_ok(encode(t, "xb", 2, false, &ids, &n, &err), err);
    assert_int_equal(n, 3);
    assert_int_equal(ids[0] * 100 + ids[1] * 10 + ids[2], 344);
    peri_free(ids);
    drop(t);
    begin_unigram(map, 3);
    refused(v.n, v.n, PERI_E_CORRUPT, "tokenizer.ggml.precompiled_charsmap");
    bytes = 1 << 30;
    memcpy(map, &bytes, 4);
    begin_unigram(map, sizeof map);
    refused(v.n, v.n, PERI_E_CORRUPT, "tokenizer.ggml.precompiled_charsmap");
    bytes = 4 * 300; /* random units: any walk must stay inside */
    for (uint64_t seed = 0; seed < 200; seed++) {
        for (size_t i = 4; i < sizeof map - 1; i++)
            map[i] = (uint8_t)gw_random(seed, i);
        memcpy(map, &bytes, 4);
        map[sizeof map - 1] = 0;
        begin_unigram(map, sizeof map);
        t = finish();
        char text[256];
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = (char)gw_random(seed + 1000, i);
        assert_ok(encode(t, text, sizeof text, false, &ids, &n, &err), err);
        peri_free(ids);
        drop(t);
    }
}

/* ---- hostile texts --------------------------------------------------------------------------- */

static double cpu_seconds(void) {
    struct timespec s;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &s);
    return (double)s.tv_sec + 1e-9 * (double)s.tv_nsec;
}

static void long_words_cost_about_linear_time(void **state) {
    (void)state;
    static const char *const texts[] = {"a", "ab", " ",    "\n",           "7",         "?!",
                                        "A", "aB", "\xFF", "\xE4\xB8\xAD", "a\xCC\x81", " a"};
    static const char *const pres[] = {
        NULL,       "gpt-2",     "llama-bpe",  "deepseek-llm", "deepseek-v3",
        "superbpe", "gpt-4o",    "exaone-moe", "afmoe",        "jais-2",
        "bloom",    "chameleon", "kimi-k2",    "gemma4",       "granite-embed-multi-97m"};
    enum { N = 1 << 17 };
    peri_error err;
    char *text = peri_alloc(N);
    for (size_t k = 0; k < sizeof pres / sizeof pres[0]; k++) {
        if (pres[k])
            begin_bpe(pres[k]);
        else
            begin_spm();
        peri_tokenizer *t = finish();
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
            int32_t *ids;
            size_t n, len = strlen(texts[i]);
            for (size_t at = 0; at + len <= N; at += len)
                memcpy(text + at, texts[i], len);
            double from = cpu_seconds();
            assert_ok(encode(t, text, N / len * len, false, &ids, &n, &err), err);
            double took = cpu_seconds() - from;
            /* Quadratic work on 128 KB takes minutes; linear work some 0.1 s, also under
             * sanitizers. */
            if (took > 5)
                fail_msg("%s on \"%s\" took %.1f s", pres[k] ? pres[k] : "spm", texts[i], took);
            peri_free(ids);
        }
        drop(t);
    }
    peri_free(text);
}

static void random_bytes_stay_in_the_vocabulary(void **state) {
    (void)state;
    peri_error err;
    static const char *const pres[] = {NULL,    "default", "tiny_aya", "mmbert",
                                       "youtu", "viking",  "kimi-k2"};
    for (size_t k = 0; k < sizeof pres / sizeof pres[0]; k++) {
        if (pres[k])
            begin_bpe(pres[k]);
        else
            begin_spm();
        peri_tokenizer *t = finish();
        for (uint64_t seed = 0; seed < 300; seed++) {
            char text[64];
            int32_t *ids;
            size_t n;
            for (size_t i = 0; i < sizeof text; i++)
                text[i] = (char)(gw_random(seed, i) >> (i % 3 * 8));
            assert_ok(encode(t, text, seed % sizeof text, true, &ids, &n, &err), err);
            for (size_t i = 0; i < n; i++)
                assert_true(ids[i] >= 0 && ids[i] < peri_tokenizer_n_vocab(t));
            peri_free(ids);
        }
        drop(t);
    }
}

/* ---- allocation failure ---------------------------------------------------------------------- */

static peri_status load_and_use(uint64_t *n_calls, const peri_fault *f, peri_error *err) {
    peri_tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n;
    peri_text out = {0};
    peri_detok d;
    peri_status s = peri_tokenizer_new(gguf, &t, err);
    if (s == PERI_OK) s = encode(t, "a ab<s> \xFF\xE1\xA0\x8E bab?", 16, true, &ids, &n, err);
    if (s == PERI_OK) peri_detok_init(&d, t, true);
    for (size_t i = 0; s == PERI_OK && i < n; i++)
        s = peri_detok_feed(&d, ids[i], &out, err);
    peri_text_fini(&out);
    peri_free(ids);
    peri_tokenizer_free(t);
    *n_calls = f->calls;
    return s;
}

static void allocation_failure_is_clean_at_every_call(void **state) {
    (void)state;
    static const char *const kinds[] = {"llama", "gpt2", "bert", "t5"};
    for (int k = 0; k < 4; k++) {
        begin(kinds[k]);
        add(PERI_TOK_UNKNOWN, 0, "<unk>");
        add(PERI_TOK_CONTROL, 0, "<s>");
        add(PERI_TOK_CONTROL, 0, "");
        add(PERI_TOK_NORMAL, -1, "a");
        add(PERI_TOK_NORMAL, -1, "b");
        add(PERI_TOK_USER, -1, "ab");
        add_merge("a b");
        add_merge("ab c");
        gw_u32(&v.w, "tokenizer.ggml.bos_token_id", 1);
        gw_u32(&v.w, "tokenizer.ggml.seperator_token_id", 1);
        write_file(v.n, v.n);
        peri_error err;
        peri_fault *f = peri_fault_alloc_install();
        assert_ok(peri_gguf_open(path, &gguf, &err), err);
        uint64_t before = f->live, total, calls;
        f->calls = 0;
        assert_ok(load_and_use(&total, f, &err), err);
        assert_int_equal(f->live, before);
        assert_true(total > 5);
        for (uint64_t at = 1; at <= total; at++) {
            for (int persistent = 0; persistent < 2; persistent++) {
                f->calls = 0;
                f->fail_at = at;
                f->persistent = persistent;
                peri_status s = load_and_use(&calls, f, &err);
                f->fail_at = 0;
                f->persistent = false;
                /* The JIT is optional: without its memory the interpreter does the work. */
                if (s != PERI_OK) assert_error(&err, PERI_E_NOMEM, "memory");
                assert_int_equal(f->live, before);
            }
        }
        peri_gguf_close(gguf);
        assert_int_equal(f->live, 0);
        peri_fault_alloc_remove();
    }
}

static int make_path(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int drop_path(void **state) {
    (void)state;
    return unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases_give_the_expected_ids_and_texts),
        cmocka_unit_test(facts_of_a_vocabulary_are_told),
        cmocka_unit_test(token_text_hides_control_tokens_unless_asked),
        cmocka_unit_test(stream_releases_whole_characters_only),
        cmocka_unit_test(stream_drops_the_first_space_where_the_kind_asks),
        cmocka_unit_test(whole_texts_lose_spaces_before_punctuation_where_asked),
        cmocka_unit_test(unknown_names_are_refused_with_the_known_ones),
        cmocka_unit_test(missing_keys_are_named),
        cmocka_unit_test(duplicate_tokens_are_refused_by_index),
        cmocka_unit_test(short_arrays_are_refused),
        cmocka_unit_test(bytes_that_name_none_and_nan_scores_are_refused),
        cmocka_unit_test(special_ids_out_of_range_keep_the_default),
        cmocka_unit_test(empty_ill_formed_and_long_tokens_do_no_harm),
        cmocka_unit_test(character_maps_are_checked_and_never_left),
        cmocka_unit_test(long_words_cost_about_linear_time),
        cmocka_unit_test(random_bytes_stay_in_the_vocabulary),
        cmocka_unit_test(allocation_failure_is_clean_at_every_call),
    };
    if (make_path(NULL)) return 1;
    int rc = peri_run_tests(tests);
    drop_path(NULL);
    return rc;
}
