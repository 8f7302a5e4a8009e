/* SPDX-License-Identifier: MIT
 *
 * tokenizer.h - text to token ids and back, from the tokenizer.ggml.* keys of a model file.
 *
 * Kinds: SentencePiece BPE ("llama"), byte-level BPE ("gpt2") with a pre-tokenizer of
 * pretok.def, WordPiece ("bert"), Unigram ("t5").  Everything in the file is checked: duplicate
 * tokens, ids out of range, arrays of unequal length, merges that name no token.
 *
 * A tokenizer is immutable after opening and may be used by any thread at once. */
#ifndef PERI_MODEL_TOKENIZER_H
#define PERI_MODEL_TOKENIZER_H

#include <stdbool.h>

#include "gguf.h"
#include "perigee/types.h"

typedef struct peri_tokenizer peri_tokenizer;

enum { /* values of tokenizer.ggml.token_type */
       PERI_TOK_NORMAL = 1,
       PERI_TOK_UNKNOWN = 2,
       PERI_TOK_CONTROL = 3,
       PERI_TOK_USER = 4,
       PERI_TOK_UNUSED = 5,
       PERI_TOK_BYTE = 6
};

/* Build from an open file.  Nothing is borrowed from g except token strings: g must outlive it.
 * Missing model key: NOT_FOUND.  Unknown model or pre name: UNSUPPORTED naming it and listing the
 * known. */
peri_status peri_tokenizer_new(const peri_gguf *g, peri_tokenizer **out, peri_error *err);
void peri_tokenizer_free(peri_tokenizer *t); /* accepts NULL */

typedef struct peri_token_range {
    size_t off, n; /* bytes of the text */
} peri_token_range;

typedef struct peri_tokenize_options {
    uint32_t size;      /* sizeof */
    bool add_special;   /* add BOS/EOS (or CLS/SEP) as the file asks */
    bool parse_special; /* recognise the text of control tokens; user-defined tokens always are */
    /* Parts of the text that came from outside, [n_input], rising, not overlapping.  No special
     * token is recognised that touches one, but for user-defined tokens that do not look like
     * markup (tok_special.c); no control token comes out of them in any other way either.  The
     * text is tokenized as one: where no special text is inside, the ids are those without ranges.
     */
    const peri_token_range *input;
    size_t n_input;
} peri_tokenize_options;

/* PERI_E_RANGE when the input ranges do not fit the text; PERI_E_UNSUPPORTED when input cannot be
 * written without a control token (one of a single character).
 * Ids of text (any bytes; ill-formed UTF-8 becomes U+FFFD or byte tokens as the kind says).
 * *ids is fresh memory the caller frees with peri_free, NULL when *n is 0. */
peri_status peri_tokenize(const peri_tokenizer *t, peri_str text, const peri_tokenize_options *o,
                          int32_t **ids, size_t *n, peri_error *err);

/* Text of one token as it appears in output (byte tokens one byte, control tokens empty unless
 * want_special), appended to dst.  PERI_E_RANGE for an id outside the vocabulary. */
struct peri_text;
peri_status peri_token_text(const peri_tokenizer *t, int32_t id, bool want_special,
                            struct peri_text *dst, peri_error *err);
/* The text of ids[n] at once, appended to dst: the pieces, less the leading space where the kind
 * asks for that, and (only here) with spaces tidied around punctuation and English contractions
 * where the pre-tokenizer asks for that ("clean_up_tokenization_spaces").  A stream is not tidied:
 * it gives back exactly what was tokenized. */
peri_status peri_detokenize(const peri_tokenizer *t, const int32_t *ids, size_t n,
                            bool want_special, struct peri_text *dst, peri_error *err);
/* The stored vocabulary entry, borrowed; size 0 when out of range. */
peri_str peri_token_piece(const peri_tokenizer *t, int32_t id);
int peri_token_type(const peri_tokenizer *t, int32_t id);
/* Id of an exact vocabulary entry, or -1. */
int32_t peri_token_find(const peri_tokenizer *t, peri_str piece);
int32_t peri_tokenizer_n_vocab(const peri_tokenizer *t);
int32_t peri_tokenizer_bos(const peri_tokenizer *t); /* -1 when there is none */
int32_t peri_tokenizer_eos(const peri_tokenizer *t);
int32_t peri_tokenizer_eot(const peri_tokenizer *t); /* end of turn */
/* End of generation: EOS, EOT, EOM and the well-known end-of-turn tokens. */
bool peri_token_is_eog(const peri_tokenizer *t, int32_t id);
const char *peri_tokenizer_kind(const peri_tokenizer *t); /* "spm" "bpe" "wordpiece" "unigram" */
const char *peri_tokenizer_pre(const peri_tokenizer *t);  /* name in pretok.def, or "" */

/* Streaming detokenizer: feeds ids, releases only whole UTF-8 characters (an incomplete tail waits;
 * bytes that can never become a character come out as U+FFFD).  Also drops the leading space where
 * the kind asks for it, of the first token fed only: set `started` when the ids continue a text.
 * Plain data: copy the struct to fork it. */
typedef struct peri_detok {
    const peri_tokenizer *t;
    bool want_special, started;
    uint8_t n_tail;
    char tail[4];
} peri_detok;
void peri_detok_init(peri_detok *d, const peri_tokenizer *t, bool want_special);
peri_status peri_detok_feed(peri_detok *d, int32_t id, struct peri_text *dst, peri_error *err);
void peri_detok_end(peri_detok *d, struct peri_text *dst); /* flush: a broken tail becomes U+FFFD */

#endif
