/* SPDX-License-Identifier: MIT
 *
 * run_opts.h - the options of `perigee run`, and the two ways to run: cmd_run.c reads and checks,
 * run_raw.c completes a prompt as it stands, run_chat.c hands over to the Lua drivers. */
#ifndef PERI_APP_RUN_OPTS_H
#define PERI_APP_RUN_OPTS_H

#include <jansson.h>
#include <math.h>

#include "opts.h"

/* Sampling parameters by name; NAN, PERI_UNSET or false when not given. */
#define PERI_UNSET         INT64_MIN
#define PERI_OPT_TYPE_REAL double
#define PERI_OPT_TYPE_INT  int64_t
#define PERI_OPT_TYPE_FLAG bool
typedef struct peri_run_sampling {
#define PERI_SAMPLING_PARAM(name, KIND, lo, hi, off, usual, ollama, openai, key, meaning)          \
    PERI_OPT_TYPE_##KIND name;
#include "run/sampling.def"
} peri_run_sampling;

typedef struct peri_run_opts {
    bool is_raw, is_greedy, no_special, parse_special, want_special; /* the last three: raw only */
    bool no_think, want_trace;
    int64_t n, n_ctx;     /* PERI_UNSET when not given */
    uint64_t seed, fresh; /* equal: none was given */
    int kv, think;        /* think: PERI_OPT_MAYBE of PERI_THINK_VALUES */
    const char *prompt_file, *system, *format, *model;
    const char *grammar;    /* file of GBNF */
    peri_opt_list triggers; /* of the grammar */
    peri_opt_list stop, allow, logit_bias, breakers, assistants;
    const char *samplers; /* order of the links, "top_k;temperature" */
    peri_run_sampling sampling;
} peri_run_opts;

/* What --think takes, and the JSON of a value that was given. */
#define PERI_THINK_VALUES "true|false|low|medium|high"
json_t *peri_think_json(int think);

/* Was a parameter of that kind given? */
#define PERI_GIVEN_REAL(v) (!isnan(v))
#define PERI_GIVEN_INT(v)  ((v) != PERI_UNSET)
#define PERI_GIVEN_FLAG(v) (v)

/* Both return the exit status. */
int peri_run_raw(const peri_args *args, const peri_run_opts *o);
int peri_run_chat(const peri_args *args, const peri_run_opts *o);

#endif
