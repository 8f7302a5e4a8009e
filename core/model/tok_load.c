/* SPDX-License-Identifier: MIT
 *
 * tok_load.c - the tokenizer.ggml.* keys of a model file, checked and completed.
 *
 * Order matters, because what files leave out is guessed from what they have: kind and its
 * defaults, tokens with scores and types, the algorithm's own tables, special ids, roles and ends
 * of generation known by their text (TOK_MARK of pretok.def), then the list of tokens that are
 * split off first. Refused: duplicate texts, arrays shorter than the vocabulary, scores that are no
 * number, byte tokens that name no byte.  Tolerated as published files need it: special ids out of
 * range (default kept), empty texts (named [EMPTY_id]). Source of defaults and order:
 * ggml-org/llama.cpp src/llama-vocab.cpp, release 0.7.0. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/sort.h"
#include "base/status.h"
#include "tok_int.h"

#define KEY "tokenizer.ggml."
#define KNOWN_MODELS                                                                               \
    "llama (SentencePiece BPE), gpt2, gemma4, whitespace (byte-level BPE), "                       \
    "bert (WordPiece), t5 (Unigram)"

enum role {
    BOS,
    EOS,
    EOT,
    EOM,
    UNK,
    SEP,
    PAD,
    FIM_PRE,
    FIM_SUF,
    FIM_MID,
    FIM_PAD,
    FIM_REP,
    FIM_SEP,
    N_ROLE,
    EOG,
    SHOWN /* uses of TOK_MARK that are no role */
};

static const struct {
    const char *key;
    enum role role;
} role_keys[] = {
    {KEY "bos_token_id", BOS},         {KEY "eos_token_id", EOS},
    {KEY "eot_token_id", EOT},         {KEY "eom_token_id", EOM},
    {KEY "unknown_token_id", UNK},     {KEY "seperator_token_id", SEP}, /* spelt so in files */
    {KEY "padding_token_id", PAD},     {KEY "fim_pre_token_id", FIM_PRE},
    {KEY "fim_suf_token_id", FIM_SUF}, {KEY "fim_mid_token_id", FIM_MID},
    {KEY "fim_pad_token_id", FIM_PAD}, {KEY "fim_rep_token_id", FIM_REP},
    {KEY "fim_sep_token_id", FIM_SEP}, {KEY "prefix_token_id", FIM_PRE},
    {KEY "suffix_token_id", FIM_SUF},  {KEY "middle_token_id", FIM_MID},
};

static const struct {
    enum role use;
    const char *text;
} marks[] = {
#define TOK_MARK(use, text) {use, text},
#include "pretok.def"
#undef TOK_MARK
};

static const struct {
    int family;
    const char *key, *part, *text;
    unsigned attr;
    bool on;
} strips[] = {
#define TOK_STRIP(family, key, part, text, attr, on) {family, key, part, text, attr, on},
#include "pretok.def"
#undef TOK_STRIP
};

/* ---- kind ------------------------------------------------------------------------------------ */

static void set_roles(int32_t *role, int32_t bos, int32_t eos, int32_t unk, int32_t sep,
                      int32_t pad) {
    for (int i = 0; i < N_ROLE; i++)
        role[i] = -1;
    role[BOS] = bos;
    role[EOS] = eos;
    role[UNK] = unk;
    role[SEP] = sep;
    role[PAD] = pad;
}

static peri_status read_pre(peri_tokenizer *t, bool is_gemma4, int32_t *role, peri_error *err) {
    peri_str name = PERI_STR("default");
    const char *key = KEY "pre";
    if (is_gemma4) {
        name = PERI_STR("gemma4");
    } else if (peri_gguf_find(t->g, key)) {
        peri_status s = peri_gguf_get_str(t->g, key, &name, err);
        if (s != PERI_OK) return s;
    }
    if (name.size == 0) name = PERI_STR("default");
    t->pre = tok_pre_find(name);
    if (!t->pre) {
        char known[1600];
        tok_pre_list(known, sizeof known);
        return peri_fail(err, PERI_E_UNSUPPORTED, "pre-tokenizer %.*s (%s) is not known; known: %s",
                         PERI_STR_ARG(name), key, known);
    }
    if (!is_gemma4 && !peri_gguf_find(t->g, key))
        peri_log(PERI_LOG_WARN, "%s: key %s is missing; words are cut by the default patterns",
                 peri_gguf_path(t->g), key);
    uint32_t flags = t->pre->flags;
    t->add_bos = flags & TOK_PRE_ADD_BOS;
    t->tidy_spaces = !(flags & TOK_PRE_KEEP_SPACES);
    t->escape_spaces = flags & TOK_PRE_ESCAPE;
    if (flags & TOK_PRE_NO_BOS) role[BOS] = -1;
    if (flags & TOK_PRE_KEEP_CASE) t->lower = false;
    return PERI_OK;
}

static peri_status read_kind(peri_tokenizer *t, int32_t *role, peri_error *err) {
    peri_str model;
    peri_status s = peri_gguf_get_str(t->g, KEY "model", &model, err);
    if (s != PERI_OK) return s;
    t->escape_spaces = t->lower = true;
    bool is_gemma4 = peri_str_eq_c(model, "gemma4");
    t->by_space = peri_str_eq_c(model, "whitespace");
    if (peri_str_eq_c(model, "llama")) {
        t->kind = TOK_SPM;
        set_roles(role, 1, 2, 0, -1, -1);
        t->add_space_prefix = t->add_bos = true;
    } else if (peri_str_eq_c(model, "bert")) {
        t->kind = TOK_WORDPIECE;
        set_roles(role, 101, -1, 100, 102, 0);
        t->add_bos = t->tidy_spaces = true;
    } else if (peri_str_eq_c(model, "t5")) {
        t->kind = TOK_UNIGRAM;
        set_roles(role, -1, 1, 2, -1, 0);
        t->add_eos = true;
    } else if (peri_str_eq_c(model, "gpt2") || is_gemma4 || t->by_space) {
        t->kind = TOK_BPE;
        set_roles(role, is_gemma4 ? -1 : 11, is_gemma4 ? -1 : 11, -1, -1, -1);
        return read_pre(t, is_gemma4, role, err);
    } else {
        return peri_fail(err, PERI_E_UNSUPPORTED,
                         "tokenizer %.*s (" KEY "model) is not supported, only token ids work; "
                         "known: " KNOWN_MODELS,
                         PERI_STR_ARG(model));
    }
    return PERI_OK;
}

static peri_status read_bool(const peri_gguf *g, const char *key, bool *out, peri_error *err) {
    return peri_gguf_find(g, key) ? peri_gguf_get_bool(g, key, out, err) : PERI_OK;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static peri_status no_memory(const peri_tokenizer *t, peri_error *err) {
    return peri_fail(err, PERI_E_NOMEM, "%s: no memory for %d tokens", peri_gguf_path(t->g),
                     (int)t->n_vocab);
}

static peri_status read_tokens(peri_tokenizer *t, peri_error *err) {
    const char *key = KEY "tokens";
    const peri_gguf_value *v = peri_gguf_find(t->g, key);
    if (!v)
        return peri_fail(err, PERI_E_NOT_FOUND, "%s: key %s is missing", peri_gguf_path(t->g), key);
    if (!v->is_array || v->type != PERI_GGUF_STRING || v->n == 0 || v->n > INT32_MAX / 4)
        return peri_gguf_fail_key(t->g, v, err, "expected an array of 1 to %d strings",
                                  INT32_MAX / 4);
    t->n_vocab = (int32_t)v->n;
    t->piece = peri_alloc_array((size_t)v->n, sizeof *t->piece);
    t->attr = peri_alloc_array((size_t)v->n, sizeof *t->attr);
    if (!t->piece || !t->attr || !tok_map_init(&t->by_text, t->piece, (size_t)v->n))
        return no_memory(t, err);
    for (int32_t i = 0; i < t->n_vocab; i++) {
        t->piece[i] = v->strings[i];
        t->attr[i] = TOK_NORMAL;
        if (t->piece[i].size == 0) {
            char name[32];
            int n = snprintf(name, sizeof name, "[EMPTY_%d]", (int)i);
            t->piece[i] = peri_arena_str(t->arena, (peri_str){name, (size_t)n});
            if (!t->piece[i].data) return no_memory(t, err);
        }
        if (t->piece[i].size > t->max_piece) t->max_piece = t->piece[i].size;
        int64_t other = tok_map_put(&t->by_text, (uint32_t)i);
        if (other >= 0)
            return peri_gguf_fail_key(t->g, v, err, "elements %d and %d are the same text \"%.*s\"",
                                      (int)other, (int)i, PERI_STR_ARG(t->piece[i]));
    }
    return PERI_OK;
}

static peri_status array_for_tokens(const peri_tokenizer *t, const char *key, bool is_int,
                                    const peri_gguf_value **out, peri_error *err) {
    const peri_gguf_value *v = *out = peri_gguf_find(t->g, key);
    if (!v) return PERI_OK;
    if (!v->is_array || (v->type != PERI_GGUF_I32 && (is_int || v->type != PERI_GGUF_F32)))
        return peri_gguf_fail_key(t->g, v, err, "expected an array of %s",
                                  is_int ? "32-bit integers" : "numbers");
    if (v->n < (uint64_t)t->n_vocab)
        return peri_gguf_fail_key(t->g, v, err, "has %llu elements, the vocabulary %d",
                                  (unsigned long long)v->n, (int)t->n_vocab);
    return PERI_OK;
}

static peri_status read_scores(peri_tokenizer *t, peri_error *err) {
    const peri_gguf_value *v;
    peri_status s = array_for_tokens(t, KEY "scores", false, &v, err);
    if (s != PERI_OK || !v) return s;
    t->score = peri_alloc_array((size_t)t->n_vocab, sizeof *t->score);
    if (!t->score) return no_memory(t, err);
    for (int32_t i = 0; i < t->n_vocab; i++) {
        double x = 0;
        peri_gguf_as_f64(v, (uint64_t)i, &x);
        if (x != x) return peri_gguf_fail_key(t->g, v, err, "element %d is no number", (int)i);
        t->score[i] = (float)x;
    }
    return PERI_OK;
}

/* The byte a text like <0x0A> names, or -1. */
static int named_byte(peri_str s) {
    unsigned x = 0;
    if (s.size != 6 || memcmp(s.data, "<0x", 3) != 0 || s.data[5] != '>') return -1;
    for (int i = 3; i < 5; i++) {
        char c = s.data[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        x = x * 16 + (unsigned)digit;
    }
    return (int)x;
}

static peri_status read_types(peri_tokenizer *t, peri_error *err) {
    static const uint16_t attr_of[] = {0,        TOK_NORMAL, TOK_UNKNOWN, TOK_CONTROL,
                                       TOK_USER, TOK_UNUSED, TOK_BYTE};
    const peri_gguf_value *v;
    peri_status s = array_for_tokens(t, KEY "token_type", true, &v, err);
    if (s != PERI_OK || !v) return s;
    for (int32_t i = 0; i < t->n_vocab; i++) {
        int64_t type = 0;
        peri_gguf_as_i64(v, (uint64_t)i, &type);
        t->attr[i] = type >= 0 && type <= 6 ? attr_of[type] : 0;
        if (type == PERI_TOK_BYTE && named_byte(t->piece[i]) < 0)
            return peri_gguf_fail_key(t->g, v, err,
                                      "element %d says byte, but token \"%.*s\" is not like <0x0A>",
                                      (int)i, PERI_STR_ARG(t->piece[i]));
    }
    return PERI_OK;
}

/* Bytes that stand before a U+2581 inside some entry: only behind them can a join cross a word
 * start. */
static void find_joins(peri_tokenizer *t) {
    for (int32_t i = 0; i < t->n_vocab; i++) {
        peri_str s = t->piece[i];
        for (size_t k = 1; k + 3 <= s.size; k++)
            if (memcmp(s.data + k, "\xE2\x96\x81", 3) == 0) t->joins[(uint8_t)s.data[k - 1]] = true;
    }
}

static void find_bytes(peri_tokenizer *t) {
    for (int b = 0; b < 256; b++) {
        char name[8], byte = (char)b;
        int n = snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        t->byte_id[b] = tok_map_get(&t->by_text, name, (size_t)n);
        if (t->byte_id[b] < 0 && t->kind == TOK_SPM)
            t->byte_id[b] = tok_map_get(&t->by_text, &byte, 1);
    }
}

static peri_status build_tables(peri_tokenizer *t, peri_error *err) {
    if (t->kind == TOK_UNIGRAM) return tok_unigram_new(t, err);
    if (t->kind == TOK_BPE) {
        peri_status s = tok_bpe_new(t, err);
        return s == PERI_OK ? tok_split_new(t->pre, &t->split, err) : s;
    }
    if (t->kind == TOK_WORDPIECE) {
        uint32_t *id = peri_alloc_array((size_t)t->n_vocab, sizeof *id);
        for (int32_t i = 0; id && i < t->n_vocab; i++)
            id[i] = (uint32_t)i;
        bool ok = id && tok_trie_init(&t->trie, t->piece, id, (size_t)t->n_vocab);
        peri_free(id);
        if (!ok) return no_memory(t, err);
    }
    return PERI_OK;
}

/* ---- special tokens -------------------------------------------------------------------------- */

static peri_status read_roles(const peri_tokenizer *t, int32_t *role, peri_error *err) {
    for (int i = 0; i < N_ROLE; i++)
        if (role[i] >= t->n_vocab) role[i] = -1;
    for (size_t i = 0; i < sizeof role_keys / sizeof role_keys[0]; i++) {
        int64_t id;
        const peri_gguf_value *v = peri_gguf_find(t->g, role_keys[i].key);
        if (!v) continue;
        if (v->is_array || !peri_gguf_as_i64(v, 0, &id))
            return peri_gguf_fail_key(t->g, v, err, "expected an integer");
        if (id >= 0 && id < t->n_vocab)
            role[role_keys[i].role] = (int32_t)id;
        else
            peri_log(PERI_LOG_WARN, "%s: key %s is %lld, but there are %d tokens: ignored",
                     peri_gguf_path(t->g), role_keys[i].key, (long long)id, (int)t->n_vocab);
    }
    return PERI_OK;
}

static peri_status read_switches(peri_tokenizer *t, peri_error *err) {
    const peri_gguf *g = t->g;
    bool unused = false;
    peri_status s = read_bool(g, KEY "add_bos_token", &t->add_bos, err);
    if (s == PERI_OK) s = read_bool(g, KEY "add_eos_token", &t->add_eos, err);
    if (s == PERI_OK) s = read_bool(g, KEY "add_sep_token", &unused, err);
    if (s == PERI_OK) s = read_bool(g, KEY "add_space_prefix", &t->add_space_prefix, err);
    if (s == PERI_OK) s = read_bool(g, KEY "remove_extra_whitespaces", &t->drop_extra_spaces, err);
    if (s == PERI_OK) s = read_bool(g, KEY "normalizer.lowercase", &t->lower, err);
    t->strip_accents = t->lower;
    if (s == PERI_OK) s = read_bool(g, KEY "normalizer.strip_accents", &t->strip_accents, err);
    if (s != PERI_OK) return s;
    if (t->kind == TOK_BPE && (t->pre->flags & TOK_PRE_FORCE_BOS)) t->add_bos = true;
    const char *lacks = t->add_bos && t->bos < 0 ? "bos" : t->add_eos && t->eos < 0 ? "eos" : NULL;
    if (lacks)
        return peri_fail(err, PERI_E_CORRUPT,
                         "%s: " KEY "add_%s_token is true, but " KEY "%s_token_id names no token",
                         peri_gguf_path(g), lacks, lacks);
    return PERI_OK;
}

static int32_t find_text(const peri_tokenizer *t, const char *text) {
    return tok_map_get(&t->by_text, text, strlen(text));
}

static bool ends_with_mark(const peri_tokenizer *t, const char *text) {
    int32_t id = find_text(t, text);
    return id >= 0 && (t->attr[id] & TOK_EOG);
}

/* Two families mark texts as ends that are none beside certain others of theirs. */
static void settle_ends(peri_tokenizer *t) {
    bool call = ends_with_mark(t, "<|call|>") || ends_with_mark(t, "<|calls|>");
    if (call && (ends_with_mark(t, "<|return|>") || ends_with_mark(t, "<|flush|>")) &&
        ends_with_mark(t, "<|end|>"))
        t->attr[find_text(t, "<|end|>")] = TOK_USER;
    if ((ends_with_mark(t, "<|tool_response>") || ends_with_mark(t, "<|plamo:eos|>")) &&
        ends_with_mark(t, "</s>"))
        t->attr[find_text(t, "</s>")] = TOK_NORMAL;
}

static void mark_by_text(peri_tokenizer *t, int32_t *role) {
    bool named[N_ROLE];
    for (int i = 0; i < N_ROLE; i++)
        named[i] = role[i] >= 0;
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        enum role use = marks[i].use;
        int32_t id = find_text(t, marks[i].text);
        if (id < 0 || (use < N_ROLE && (named[use] || role[use] >= 0))) continue;
        if (use == SHOWN) {
            t->attr[id] = TOK_USER | (t->attr[id] & TOK_EOG);
            continue;
        }
        t->attr[id] |= TOK_CONTROL;
        if (use == EOG)
            t->attr[id] |= TOK_EOG;
        else
            role[use] = id;
    }
    static const enum role ends[] = {EOS, EOT, EOM, FIM_PAD, FIM_REP, FIM_SEP};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (role[ends[i]] >= 0) t->attr[role[ends[i]]] |= TOK_EOG;
    settle_ends(t);
}

static bool longer_first(const void *user, uint32_t a, uint32_t b) {
    const peri_str *piece = user;
    return piece[a].size > piece[b].size;
}

static bool contains(peri_str s, const char *part) {
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= s.size; i++)
        if (strncasecmp(s.data + i, part, n) == 0) return true;
    return false;
}

static void set_attr(peri_tokenizer *t, int32_t id, unsigned attr, bool on) {
    unsigned have = t->attr[id];
    t->attr[id] = (uint16_t)(on ? have | attr : have & ~attr);
}

static void set_strips(peri_tokenizer *t) {
    int family = 0;
    for (size_t i = 0; i < sizeof strips / sizeof strips[0]; i++) {
        const peri_gguf_value *v = peri_gguf_find(t->g, strips[i].key);
        peri_str value;
        if (family && family != strips[i].family) return;
        if (!v || v->is_array || !peri_gguf_as_str(v, 0, &value)) continue;
        if (!contains(value, strips[i].part)) continue;
        family = strips[i].family;
        int32_t id = strips[i].text ? find_text(t, strips[i].text) : -1;
        for (size_t k = 0; !strips[i].text && k < t->n_special; k++)
            set_attr(t, (int32_t)t->special[k], strips[i].attr, strips[i].on);
        if (id >= 0) set_attr(t, id, strips[i].attr, strips[i].on);
    }
}

static peri_status list_special(peri_tokenizer *t, peri_error *err) {
    size_t n = 0;
    const unsigned special = TOK_CONTROL | TOK_USER | TOK_UNKNOWN;
    for (int32_t i = 0; i < t->n_vocab; i++)
        n += (t->attr[i] & special) != 0;
    t->special = peri_alloc_array(n, sizeof *t->special);
    if (!t->special) return no_memory(t, err);
    for (int32_t i = 0; i < t->n_vocab; i++)
        if (t->attr[i] & special) t->special[t->n_special++] = (uint32_t)i;
    if (peri_sort_index(t->special, n, longer_first, t->piece) != PERI_OK) return no_memory(t, err);
    set_strips(t);
    return PERI_OK;
}

peri_status tok_load(peri_tokenizer *t, peri_error *err) {
    int32_t role[N_ROLE];
    peri_status s = read_kind(t, role, err);
    if (s == PERI_OK) s = read_tokens(t, err);
    if (s == PERI_OK) s = read_scores(t, err);
    if (s == PERI_OK) s = read_types(t, err);
    if (s == PERI_OK) s = build_tables(t, err);
    if (s == PERI_OK) s = read_roles(t, role, err);
    if (s != PERI_OK) return s;
    find_bytes(t);
    find_joins(t);
    t->bos = role[BOS];
    t->eos = role[EOS];
    t->unk = role[UNK];
    t->sep = role[SEP];
    s = read_switches(t, err);
    if (s != PERI_OK) return s;
    mark_by_text(t, role);
    t->eot = role[EOT];
    return list_special(t, err);
}
