/* SPDX-License-Identifier: MIT
 *
 * tok_int.h - what the tokenizer's files share; included by core/model/tok*.c and unicode.c only.
 *
 * tokenizer.c   the public functions: split off special tokens, hand the rest to the kind,
 * detokenize tok_special.c special tokens and marked input tok_load.c    reads and checks the
 * tokenizer.ggml.* keys tok_index.c   text -> id hash, prefix trie, growing id list tok_split.c
 * pre-tokenizer patterns (pretok.def) on PCRE2 tok_spm.c tok_bpe.c tok_wordpiece.c tok_unigram.c
 * one algorithm each unicode.c     decoding and character classes */
#ifndef PERI_MODEL_TOK_INT_H
#define PERI_MODEL_TOK_INT_H

#include <stdbool.h>

#include "base/alloc.h"
#include "model/tokenizer.h"

/* ---- unicode.c ------------------------------------------------------------------------------- */

enum { TOK_BAD_CP = 0xFFFD };

/* Bytes the lead byte promises: 1 for ASCII and continuation bytes, else 2 to 4. */
size_t tok_utf8_len(uint8_t lead);
/* Decode one code point; surrogates pass, overlong forms and what is above 10FFFF do not.  Returns
 * the bytes used; *ok false (one byte used, *cp = U+FFFD) when ill-formed.  n > 0. */
size_t tok_utf8_get(const uint8_t *s, size_t n, uint32_t *cp, bool *ok);
/* 1 to 4 bytes into dst. */
size_t tok_utf8_put(uint32_t cp, char *dst);
/* First byte at or after `from` that starts no well-formed UTF-8 character; n when there is none.
 */
size_t tok_utf8_check(const uint8_t *s, size_t n, size_t from);
bool tok_is_space(uint32_t cp);       /* White_Space of Unicode */
bool tok_is_number(uint32_t cp);      /* general category N */
bool tok_is_mark(uint32_t cp);        /* M */
bool tok_is_punctuation(uint32_t cp); /* P */
bool tok_is_other(uint32_t cp);       /* C, but not Cn (unassigned) */
bool tok_is_cjk(uint32_t cp);         /* split off as one word by BERT */
uint32_t tok_lower(uint32_t cp);      /* simple mapping */
uint32_t tok_nfd_first(uint32_t cp);  /* first code point of its canonical decomposition */
/* Byte <-> character of the byte-level alphabet ("GPT-2 bytes to unicode"); -1 when outside it. */
uint32_t tok_byte_to_cp(uint8_t byte);
int tok_cp_to_byte(uint32_t cp);

/* ---- tok_index.c ----------------------------------------------------------------------------- */

/* Open-addressing hash from text to an index into a caller-owned array of strings. */
typedef struct tok_slot {
    uint32_t hash, at; /* at: index + 1; 0 means empty */
} tok_slot;
typedef struct tok_map {
    tok_slot *slot;
    size_t mask;
    const peri_str *str;
} tok_map;
bool tok_map_init(tok_map *m, const peri_str *str,
                  size_t room); /* at most `room` entries will come */
void tok_map_fini(tok_map *m);
/* Insert str[i]; returns the index that already has that text, else -1. */
int64_t tok_map_put(tok_map *m, uint32_t i);
int32_t tok_map_get(const tok_map *m, const char *s, size_t n); /* -1 when absent */

/* Trie of texts, in level order: the children of node k are first[k] .. first[k + 1].  Node 0 is
 * the root, and no child, so 0 also means "none".  9 bytes per distinct prefix. */
typedef struct tok_trie {
    uint8_t *label;  /* [n] last byte of the prefix; ascending among siblings */
    uint32_t *first; /* [n + 1] */
    int32_t *id;     /* [n] the entry that is exactly this prefix, or -1 */
} tok_trie;
/* Of str[id[0 .. n-1]]; reorders id.  No text may be empty. */
bool tok_trie_init(tok_trie *t, const peri_str *str, uint32_t *id, size_t n);
void tok_trie_fini(tok_trie *t);
/* The child of node by byte c; 0 when there is none. */
static inline uint32_t tok_trie_step(const tok_trie *t, uint32_t node, uint8_t c) {
    uint32_t at = t->first[node], end = t->first[node + 1];
    while (end - at > 8) {
        uint32_t mid = at + (end - at) / 2;
        if (t->label[mid] <= c)
            at = mid;
        else
            end = mid;
    }
    for (; at < end; at++)
        if (t->label[at] == c) return at;
    return 0;
}

/* Growing list of ids; like peri_text it stays failed once an allocation failed. */
typedef struct tok_ids {
    int32_t *id;
    size_t n, room;
    bool failed;
} tok_ids;
void tok_ids_add(tok_ids *v, int32_t id);

/* Binary heap of merges, smallest key first. */
typedef struct tok_heap_item {
    uint64_t key; /* rank in the high half, position of the left symbol in the low half */
    uint32_t a, b;
} tok_heap_item;
typedef struct tok_heap {
    tok_heap_item *item;
    size_t n, room;
} tok_heap;
bool tok_heap_push(tok_heap *h, tok_heap_item e); /* false when out of memory */
tok_heap_item tok_heap_pop(tok_heap *h);          /* n > 0 */

/* ---- tok_split.c ----------------------------------------------------------------------------- */

/* One row of pretok.def. */
typedef struct tok_pre {
    const char *name;
    const char *const *pattern; /* NULL-terminated, applied one after the other */
    uint32_t flags;             /* TOK_PRE_* */
} tok_pre;
enum {
    TOK_PRE_ADD_BOS = 1,      /* add_bos_token when the file does not say */
    TOK_PRE_WHOLE_WORD = 2,   /* a word that is a token needs no merges ("ignore_merges") */
    TOK_PRE_KEEP_SPACES = 4,  /* whole-text detokenisation does not tidy spaces */
    TOK_PRE_RAW = 8,          /* merges work on UTF-8 text, not on the byte-level alphabet */
    TOK_PRE_ESCAPE = 16,      /* space becomes U+2581 first */
    TOK_PRE_NEWLINES = 32,    /* a run of newlines that is a token needs no merges */
    TOK_PRE_FORCE_BOS = 64,   /* add_bos_token whatever the file says */
    TOK_PRE_NO_BOS = 128,     /* no default BOS id */
    TOK_PRE_NO_MERGES = 256,  /* the merges key may be missing */
    TOK_PRE_PREFIX = 512,     /* a line that starts with no space gets one */
    TOK_PRE_KEEP_CASE = 1024, /* no lower case when the file does not say */
    TOK_PRE_SPM_LIKE = TOK_PRE_RAW | TOK_PRE_ESCAPE
};
const tok_pre *tok_pre_find(peri_str name); /* or NULL */
/* Append every known name, separated by ", ", to a message buffer of `room` bytes. */
void tok_pre_list(char *dst, size_t room);

typedef struct tok_split tok_split;
peri_status tok_split_new(const tok_pre *pre, tok_split **out, peri_error *err);
void tok_split_free(tok_split *s); /* accepts NULL */
/* Called once per word, in order; the words cover the text.  Not PERI_OK ends the split. */
typedef peri_status (*tok_word_fn)(void *user, const char *word, size_t n);
peri_status tok_split_run(const tok_split *s, peri_str text, tok_word_fn fn, void *user,
                          peri_error *err);

/* ---- the tokenizer --------------------------------------------------------------------------- */

enum { TOK_SPM, TOK_BPE, TOK_WORDPIECE, TOK_UNIGRAM };
enum { /* attributes of a token; type of the file plus what its text implies */
       TOK_NORMAL = 1,
       TOK_UNKNOWN = 2,
       TOK_CONTROL = 4,
       TOK_USER = 8,
       TOK_UNUSED = 16,
       TOK_BYTE = 32,
       TOK_EOG = 64, /* ends generation */
       TOK_LSTRIP = 128,
       TOK_RSTRIP = 256 /* as a special token it swallows ASCII space on that side */
};

typedef struct tok_bpe tok_bpe;
typedef struct tok_unigram tok_unigram;

struct peri_tokenizer {
    const peri_gguf *g;
    int kind;
    const tok_pre *pre; /* BPE only */
    peri_arena *arena;  /* texts that are not in the file */
    int32_t n_vocab;
    peri_str *piece;  /* [n_vocab] */
    float *score;     /* [n_vocab] or NULL: all 0 */
    uint16_t *attr;   /* [n_vocab] */
    size_t max_piece; /* bytes of the longest */
    tok_map by_text;
    bool joins[256];      /* SPM: some entry has this byte before a U+2581 */
    int32_t byte_id[256]; /* SPM and raw BPE: token of a byte, or -1 */
    uint32_t *special;    /* tokens split off before anything else, longest text first */
    size_t n_special;
    int32_t bos, eos, eot, unk, sep; /* -1: none */
    bool add_bos, add_eos, add_space_prefix, drop_extra_spaces, tidy_spaces, escape_spaces;
    bool lower, strip_accents; /* WordPiece and "whitespace" */
    bool by_space;             /* tokenizer model "whitespace" */
    tok_trie trie;             /* WordPiece: all tokens */
    tok_bpe *bpe;
    tok_split *split;
    tok_unigram *unigram;
};

/* ---- tok_special.c --------------------------------------------------------------------------- */

typedef struct tok_fragment {
    size_t off, n;
    int32_t id; /* -1: plain text */
} tok_fragment;

typedef struct tok_fragments {
    tok_fragment *at;
    size_t n, room;
    bool failed;
} tok_fragments;

/* Special tokens and the text between them, in order; the caller frees list->at. */
peri_status tok_partition(const peri_tokenizer *t, peri_str text, const peri_tokenize_options *o,
                          tok_fragments *list, peri_error *err);
/* Does any byte of [off, off + n) lie in an input range?  n > 0. */
bool tok_touches_input(const peri_tokenize_options *o, size_t off, size_t n);
/* A token that input must not be able to write. */
bool tok_is_markup(const peri_tokenizer *t, int32_t id);
/* The next border, behind `at`, of text cut so that token id does not come out: after the first
 * character of every place where its text stands, or after every character when it stands nowhere
 * (the merges see a changed text). */
size_t tok_cut(const peri_tokenizer *t, peri_str text, int32_t id, size_t at);

/* Fill t from t->g (tok_load.c). */
peri_status tok_load(peri_tokenizer *t, peri_error *err);

/* Each appends the ids of one stretch of text without special tokens. */
peri_status tok_spm_run(const peri_tokenizer *t, peri_str text, tok_ids *out, peri_error *err);
peri_status tok_bpe_new(peri_tokenizer *t, peri_error *err); /* sets t->bpe */
void tok_bpe_free(tok_bpe *b);                               /* accepts NULL */
peri_status tok_bpe_run(const peri_tokenizer *t, peri_str text, tok_ids *out, peri_error *err);
peri_status tok_wordpiece_run(const peri_tokenizer *t, peri_str text, tok_ids *out,
                              peri_error *err);
peri_status tok_unigram_new(peri_tokenizer *t, peri_error *err); /* sets t->unigram */
void tok_unigram_free(tok_unigram *u);                           /* accepts NULL */
peri_status tok_unigram_run(const peri_tokenizer *t, peri_str text, tok_ids *out, peri_error *err);

#endif
