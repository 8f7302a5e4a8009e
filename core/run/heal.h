/* SPDX-License-Identifier: MIT
 *
 * heal.h - token healing: a prompt that ends inside a word ends in tokens the model never saw
 * before the rest of the word ("http" ":" instead of "http" "://").
 *
 * The last tokens are taken back as far as some token's text goes on from theirs, and what is
 * generated must first spell the same bytes (peri_sampler_heal), in whatever tokens. */
#ifndef PERI_RUN_HEAL_H
#define PERI_RUN_HEAL_H

#include "base/text.h"
#include "run/token_table.h"

enum { PERI_HEAL_TOKENS = 8 }; /* most taken back */

/* How many of ids[n] stay, and the text of those taken back, appended to text; *n_keep = n when
 * there is nothing to heal.  Only plain and byte tokens are taken back, and never all tokens.
 * PERI_E_NOMEM. */
peri_status peri_heal_prompt(const peri_token_table *t, const int32_t *ids, size_t n,
                             size_t *n_keep, peri_text *text, peri_error *err);

/* Of the next piece of output, text[size], so many bytes only repeat the prompt; *left: how many
 * are still to come, in the beginning the size of the healed text.  Never cuts a character. */
size_t peri_heal_repeated(size_t *left, const char *text, size_t size);

struct peri_session;
/* Before generating from a session whose last tokens are a prompt: with the parameter heal, rewind
 * it to what stays and bind its sampler; *left as above (0: nothing to heal).  On failure the
 * session is as it was. */
peri_status peri_session_heal(struct peri_session *s, size_t *left, peri_error *err);

#endif
