/* SPDX-License-Identifier: MIT
 *
 * sampling.h - how tokens are chosen, as plain data: parameters, order of the links, biases.
 *
 * The values are meant as they stand; a zeroed struct is greedy, all links off.  Callers with
 * nothing to say about a parameter start from peri_sampling_init.  The table is sampling.def. */
#ifndef PERI_RUN_SAMPLING_H
#define PERI_RUN_SAMPLING_H

#include "base/alloc.h"
#include "base/text.h"
#include "model/gguf.h"

typedef enum peri_link {
    PERI_LINK_NONE,
#define PERI_SAMPLING_LINK(name, text, letter) PERI_LINK_##name,
#include "run/sampling.def"
    PERI_N_LINK
} peri_link;

/* Source: the peer 0.7.0, --samplers. */
#define PERI_DEFAULT_ORDER                                                                         \
    {                                                                                              \
        PERI_LINK_PENALTIES, PERI_LINK_DRY, PERI_LINK_TOP_N_SIGMA, PERI_LINK_TOP_K,                \
            PERI_LINK_TYPICAL, PERI_LINK_TOP_P, PERI_LINK_MIN_P, PERI_LINK_XTC,                    \
            PERI_LINK_TEMPERATURE                                                                  \
    }

enum { PERI_MAX_ORDER = 16, PERI_MAX_BREAKER = 64, PERI_MAX_BIAS = 1 << 20 };
/* In an order PERI_LINK_POLICY + i stands for policy i. */
enum { PERI_LINK_POLICY = 128, PERI_MAX_POLICY = 8, PERI_MAX_POLICY_BYTES = 1 << 20 };

/* A sampling policy: a link written in a script, run by the host of policy.h. */
typedef struct peri_policy_text {
    const char *name; /* of the chunk, for messages */
    peri_str text;    /* its source */
    peri_str given;   /* its settings, in the host's own encoding; may be empty */
} peri_policy_text;

typedef struct peri_logit_bias {
    int32_t id;
    float bias; /* added to the logit; -INFINITY bans the token */
} peri_logit_bias;

typedef struct peri_sampling {
    uint64_t seed, stream; /* random numbers: run/rng.h */
#define PERI_SAMPLING_REAL float
#define PERI_SAMPLING_INT  int32_t
#define PERI_SAMPLING_FLAG int32_t
#define PERI_SAMPLING_PARAM(name, kind, lo, hi, off, run, ollama, openai, key, meaning)            \
    PERI_SAMPLING_##kind name;
#include "run/sampling.def"
#undef PERI_SAMPLING_REAL
#undef PERI_SAMPLING_INT
#undef PERI_SAMPLING_FLAG
    int32_t n_order; /* 0: the default order; below 0: no links at all */
    uint8_t order[PERI_MAX_ORDER];
    const peri_logit_bias *bias; /* [n_bias] */
    size_t n_bias;
    /* Texts at which the dry link forgets what came before, [n_breaker]; NULL: newline : " *,
     * NULL-terminated or not, n_breaker 0 with a pointer: none. */
    const char *const *breaker;
    size_t n_breaker;
    const peri_policy_text *policy; /* [n_policy] in the order of the chain, each once */
    size_t n_policy;
    /* What the text must be, in GBNF (run/grammar.h); size 0: anything.  The link that sees to it
     * stands first, unless the order names it.  trigger[n_trigger]: only from behind one of these
     * texts on. */
    peri_str grammar;
    const char *const *trigger;
    size_t n_trigger;
} peri_sampling;

typedef enum peri_sampling_kind {
    PERI_SAMPLING_REAL,
    PERI_SAMPLING_INT,
    PERI_SAMPLING_FLAG
} peri_sampling_kind;

/* Whose defaults stand behind what is not given. */
typedef enum peri_origin {
    PERI_ORIGIN_OFF,    /* everything off: the bare engine */
    PERI_ORIGIN_RUN,    /* run, scripts */
    PERI_ORIGIN_OLLAMA, /* Modelfiles, /api */
    PERI_ORIGIN_OPENAI, /* /v1 */
    PERI_N_ORIGIN
} peri_origin;

typedef struct peri_sampling_param {
    const char *name;
    peri_sampling_kind kind;
    double lo, hi;
    double value[PERI_N_ORIGIN]; /* default by origin */
    const char *key;             /* key of the model file, or NULL */
    const char *meaning;
    size_t off; /* of the field in peri_sampling */
} peri_sampling_param;

/* The table, in its order.  peri_sampling_find: index of a name ("temperature" is also temp, and
 * "typ_p" typical_p), or -1. */
extern const peri_sampling_param peri_sampling_params[];
extern const size_t peri_sampling_n_param;
int peri_sampling_find(const char *name);

/* Start values: what the model file recommends (general.sampling.*; g may be NULL; not read for
 * PERI_ORIGIN_OFF), else the defaults of the origin.  seed and stream are 0.  PERI_E_CORRUPT names
 * the key of a recommendation outside its range. */
peri_status peri_sampling_init(peri_sampling *p, peri_origin origin, const peri_gguf *g,
                               peri_error *err);
/* Where peri_sampling_init takes parameter i from: the key, or words such as "default of run". */
const char *peri_sampling_origin(size_t i, peri_origin origin, const peri_gguf *g);

double peri_sampling_get(const peri_sampling *p, size_t i);
/* Set by name; "seed" takes whole numbers up to 2^53.  PERI_E_NOT_FOUND names the nearest name,
 * PERI_E_RANGE the range. */
peri_status peri_sampling_set(peri_sampling *p, const char *name, double value, peri_error *err);
/* The links by name, "top_k;temperature" (also , or blanks between), or by letters, "kt"; ""
 * restores the default, "none" leaves no links. */
peri_status peri_sampling_set_order(peri_sampling *p, const char *text, peri_error *err);
/* One more link in the order, by name or one of its other spellings; a policy of p by its number.
 * They do not touch what is in the order already. */
peri_status peri_sampling_add_link(peri_sampling *p, const char *name, peri_error *err);
peri_status peri_sampling_add_policy(peri_sampling *p, size_t i, peri_error *err);
/* Names of the links, 1 .. PERI_N_LINK - 1. */
const char *peri_link_name(int link);
/* The order in force by names with ';' between ("policy NAME" for a policy), appended to dst. */
void peri_sampling_order(const peri_sampling *p, peri_text *dst);
/* One "name=value": a parameter, seed, samplers=ORDER, logit_bias=ID:BIAS (or ID:false; added to
 * those there), grammar=TEXT, grammar_trigger=TEXT
 * (several), dry_sequence_breaker=TEXT (the first one replaces the default ones; "none" alone:
 * no breakers).  New arrays lie in a. */
peri_status peri_sampling_apply(peri_sampling *p, peri_arena *a, const char *setting,
                                peri_error *err);
/* Every value inside its range and a number, links known, counts sane. */
peri_status peri_sampling_check(const peri_sampling *p, peri_error *err);
/* A copy with all it points to in one block, freed with peri_free; NULL when out of memory. */
peri_sampling *peri_sampling_dup(const peri_sampling *p);

#endif
