/* SPDX-License-Identifier: MIT
 *
 * grammar.h - constrained text: a grammar in GBNF, and which tokens may come next.
 *
 * The notation is that of the peer's GBNF files:
 *
 *     root  ::= "yes" | "no" [.!]?          a rule; text begins at root
 *     pair  ::= "(" item ("," item){0,3} ")"
 *
 *   "text" literals and [a-z] or [^a-z] classes of characters, with the escapes \n \r \t \\ \" \[
 * \] \xNN \uNNNN \UNNNNNNNN; . any character; ( ) groups; | alternatives; * + ? {m} {m,} {m,n}
 *   repetition of the item before; # comments to the end of the line.  A rule ends with its line,
 *   unless the line ends in ::= or |, or inside ( ).
 *
 * Names are letters, digits, - and _.  All text is UTF-8, and so is what is matched: bytes, so that
 * a token may end inside a character.  A rule that could call itself before anything is read (left
 * recursion) is refused by name; so are undefined, doubled and missing rules, too deep groups and
 * repetitions that would take too much room.  Errors name line and column.
 *
 * A grammar is immutable; any thread. */
#ifndef PERI_RUN_GRAMMAR_H
#define PERI_RUN_GRAMMAR_H

#include "base/text.h"
#include "perigee/types.h"
#include "run/token_table.h"

enum {
    PERI_GRAMMAR_BYTES = 1 << 19,      /* most bytes of text */
    PERI_GRAMMAR_DEPTH = 128,          /* most groups inside one another */
    PERI_GRAMMAR_RULES = 1 << 14,      /* most rules */
    PERI_GRAMMAR_STEPS = 1 << 18,      /* most steps, repetitions written out */
    PERI_GRAMMAR_TRIGGERS = 16,        /* most triggers */
    PERI_GRAMMAR_TRIGGER_BYTES = 1024, /* of all together */
};

typedef struct peri_grammar peri_grammar;

/* PERI_E_INVALID: not a grammar; PERI_E_RANGE: one of the limits above.  Holds one reference. */
peri_status peri_grammar_new(peri_str text, peri_grammar **out, peri_error *err);
peri_grammar *peri_grammar_hold(peri_grammar *g);
void peri_grammar_free(peri_grammar *g); /* gives up one reference; accepts NULL */

/* ---- states -------------------------------------------------------------------------------------
 *
 * A matcher makes states as they are reached and remembers them by number, so that a state costs
 * nothing to copy or to come back to.  Numbers are valid until the matcher forgets all it made
 * (`age` changes); whoever keeps one keeps the text that led there as well.  One thread at a time.
 */

typedef struct peri_matcher peri_matcher;
typedef uint32_t peri_match; /* a state; PERI_MATCH_DEAD: the text is not of the grammar */
enum { PERI_MATCH_DEAD = 0 };

/* trigger[n_trigger]: until one of these texts was read to its end every text is allowed, and the
 * grammar begins after it; n_trigger 0: it begins at once.  They are copied.  g is held. */
peri_status peri_matcher_new(peri_grammar *g, const char *const *trigger, size_t n_trigger,
                             peri_matcher **out, peri_error *err);
void peri_matcher_free(peri_matcher *m); /* accepts NULL */
/* Where a text begins. */
peri_status peri_matcher_start(peri_matcher *m, peri_match *out, peri_error *err);
/* The state after n more bytes, which may be none.  PERI_E_RANGE: the grammar can be read in more
 * ways at once than there is room for. */
peri_status peri_matcher_feed(peri_matcher *m, peri_match *state, const char *text, size_t n,
                              peri_error *err);
/* Where the grammar begins: what the token of a trigger does when it has no text. */
peri_status peri_matcher_arm(peri_matcher *m, peri_match *out, peri_error *err);
bool peri_match_is_waiting(peri_match state); /* for a trigger */
/* May the text end here? */
bool peri_matcher_may_end(const peri_matcher *m, peri_match state);
uint64_t peri_matcher_age(const peri_matcher *m);
/* Forget all states when they take more than so many bytes. */
void peri_matcher_tidy(peri_matcher *m, size_t most);
size_t peri_matcher_bytes(const peri_matcher *m);

/* ---- tokens -------------------------------------------------------------------------------------
 */

/* Which tokens of a vocabulary may follow: either a list or one bit for each id. */
typedef struct peri_token_mask {
    const uint32_t *bit; /* [(n_vocab + 31) / 32], or NULL */
    const int32_t *id;   /* [n] rising, or NULL */
    uint32_t n;          /* how many are allowed */
    bool may_end;        /* the text may end here; tokens that end it are in it then */
} peri_token_mask;

/* A vocabulary as a tree of bytes; immutable, any thread.  About 16 bytes for each byte of a text
 * that is not the beginning of the one before. */
typedef struct peri_token_tree peri_token_tree;
peri_status peri_token_tree_new(const peri_token_table *t, peri_token_tree **out, peri_error *err);
void peri_token_tree_free(peri_token_tree *t); /* accepts NULL */

/* The masks of one matcher. */
typedef struct peri_masks peri_masks;
/* m and t must outlive it.  Control tokens are never in a mask, but for those that end the text
 * (peri_token_is_eog) where it may end; while a trigger is awaited every token is that does not go
 * on wrongly behind the trigger. */
peri_status peri_masks_new(peri_matcher *m, const peri_token_tree *t, peri_masks **out,
                           peri_error *err);
void peri_masks_free(peri_masks *k); /* accepts NULL */
/* Borrowed until the next call.  The first time in a state costs a walk over the vocabulary; later
 * ones a look. */
peri_status peri_masks_get(peri_masks *k, peri_match state, peri_token_mask *out, peri_error *err);

#endif
