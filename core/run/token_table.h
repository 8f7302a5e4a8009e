/* SPDX-License-Identifier: MIT
 *
 * token_table.h - the output texts of all tokens, and the ids in the order of their texts: what
 * looks at the vocabulary by bytes (healing, infill) asks here.
 *
 * Immutable once made; any thread.  About twice the bytes of the vocabulary's texts. */
#ifndef PERI_RUN_TOKEN_TABLE_H
#define PERI_RUN_TOKEN_TABLE_H

#include "model/tokenizer.h"

typedef struct peri_token_table {
    const peri_tokenizer *tokenizer;
    int32_t n_vocab;
    uint32_t *off; /* [n_vocab + 1] into text */
    char *text;    /* control tokens have none */
    uint32_t *id;  /* [n_id] ids that have text, by rising text (bytes), then id */
    uint32_t n_id;
    uint32_t max_text; /* bytes of the longest */
} peri_token_table;

/* t must outlive it. */
peri_status peri_token_table_new(const peri_tokenizer *t, peri_token_table **out, peri_error *err);
void peri_token_table_free(peri_token_table *t); /* accepts NULL */

/* Text of a token, borrowed; size 0 for control tokens and ids outside the vocabulary. */
peri_str peri_token_table_text(const peri_token_table *t, int32_t id);
/* The tokens whose text starts with prefix: id[*first .. *first + returned). */
uint32_t peri_token_table_range(const peri_token_table *t, peri_str prefix, uint32_t *first);

#endif
