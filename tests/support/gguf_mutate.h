/* SPDX-License-Identifier: MIT
 *
 * gguf_mutate.h - seeded damage to complete tiny models, with the outcome each must have.
 *
 * Bases: the seven architectures of gw_tiny_model as F32, Q8_0, F16 (version 2) and Q4_0 in two
 * shards. Classes G1 to G14 are those of known GGUF bugs: G1 sizes that wrap, G2 counts and
 * lengths, G3 data outside the file or overlapping, G4 dimension counts, G5 zeros, G6 alignment, G7
 * type confusion, G8 architecture limits, G9 vocabulary, G10 numeric poison, G11 names, G12
 * amplification, G13 truncation before opening and under the mapping, G14 the second file.  "flip"
 * is one to eight random bits in the metadata, "ok" a change that hurts nobody: such a mutant must
 * load and run.
 *
 * The same seed and index give the same mutant everywhere.  Make and free mutants with the same
 * allocator installed, and the cache too: bases are built once and kept. */
#ifndef PERI_TEST_GGUF_MUTATE_H
#define PERI_TEST_GGUF_MUTATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"
#include "perigee/types.h"

typedef struct peri_mutant {
    char class_name[8];  /* "G1".."G14", "flip", "ok" */
    char what[200];      /* one line: base and damage */
    peri_text bytes;     /* the file; the first shard when is_split */
    peri_text second;    /* the second shard; size 0: that file is missing */
    bool is_split;       /* save as NAME-00001-of-00002.gguf and NAME-00002-of-00002.gguf */
    int64_t truncate_to; /* cut the (first) file to this size after opening; -1: leave it */

    bool must_fail_in_reader; /* peri_gguf_open must refuse it, with `expect` in the text */
    bool may_fail_in_reader;  /* it may; "offset " must then be in the text */
    bool may_fail_in_model;   /* loading or running may refuse it; all three false: must run */
    /* Loading must name `name` if it refuses; false where another name is as good, say a tensor
     * whose shape no longer fits the damaged key. */
    bool is_name_sure;
    char name[96];    /* key or tensor that was damaged; "" when there is none */
    uint64_t offset;  /* of its record */
    char expect[200]; /* fragment a refusal by the reader must contain; "" for none */
} peri_mutant;

/* Number of classes, and their names for tallies. */
enum { PERI_N_MUTANT_CLASS = 16 };
extern const char *const peri_mutant_classes[PERI_N_MUTANT_CLASS];

void peri_mutant_make(uint64_t seed, uint64_t index, peri_mutant *m);
void peri_mutant_free(peri_mutant *m);
void peri_mutant_cache_free(void);

/* Does the reader's answer fit?  NULL when it does, else a sentence. */
const char *peri_mutant_judge_reader(const peri_mutant *m, peri_status status,
                                     const peri_error *err);

#endif
