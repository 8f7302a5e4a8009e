/* SPDX-License-Identifier: MIT
 *
 * vocab.h - small vocabularies for tests, written as a model file and opened. */
#ifndef PERI_TEST_VOCAB_H
#define PERI_TEST_VOCAB_H

#include "gguf_writer.h"
#include "model/tokenizer.h"

/* One at a time. */
void vocab_begin(const char *model);                        /* "llama", "gpt2", ... */
int32_t vocab_add(int type, float score, const char *text); /* PERI_TOK_*; the token's id */
void vocab_merge(const char *left_right);
void vocab_alphabet(void);            /* the 256 characters of the byte-level alphabet */
void vocab_bytes(void);               /* <0x00> .. <0xFF> */
peri_gguf_writer *vocab_writer(void); /* for more keys */
/* Write and open; fails the test on error. */
peri_tokenizer *vocab_open(void);
void vocab_close(peri_tokenizer *t); /* and its file */

#endif
