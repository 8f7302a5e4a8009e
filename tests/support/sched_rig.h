/* SPDX-License-Identifier: MIT
 *
 * sched_rig.h - an engine on a tiny model, and a record of the events of each request. */
#ifndef PERI_TEST_SCHED_RIG_H
#define PERI_TEST_SCHED_RIG_H

#include "api/api_int.h"
#include "run/request.h"

enum { SR_VOCAB = 300, SR_MAX_TOK = 512, SR_MAX_REQUEST = 4096 };

/* What came back for one request, by its tag. */
typedef struct sr_record {
    int32_t tok[SR_MAX_TOK];
    float logprob[SR_MAX_TOK];
    peri_token_logprob top[SR_MAX_TOK][4];
    size_t n_tok, n_progress, n_final;
    char text[4096];
    size_t text_size;
    peri_event final; /* without what it only borrowed */
    char error[256];
    uint64_t at; /* how many events had come before the final one */
} sr_record;

typedef struct sr_rig {
    peri_runtime *rt;
    peri_model *m;
    sr_record *record[SR_MAX_REQUEST]; /* by tag */
    uint64_t n_event;
    uint64_t n_wrong; /* events that must not be: after the final one, contradictory */
} sr_rig;

typedef struct sr_size {
    uint32_t n_ctx, n_session, n_batch;
    bool no_cache;
} sr_size;

/* A llama of the given seed; records are made by sr_tag. */
void sr_open_in(sr_rig *r, const char *library_dir, const char *script_dir, sr_size size);
#define sr_open(r, ...)                                                                            \
    sr_open_in(r, PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", (sr_size){__VA_ARGS__})
void sr_close(sr_rig *r);
/* A tag and record for the next request; never 0. */
uint64_t sr_tag(sr_rig *r);
/* The peri_event_fn; user is the rig. */
void sr_event(void *user, const peri_event *ev);
void sr_fill(int32_t *tok, size_t n, uint32_t salt);
/* The same said by a session of its own, through the direct interface of a fresh engine without a
 * prefix cache: n tokens after the prompt. */
void sr_alone(const int32_t *prompt, size_t n_prompt, const peri_sampling *p, int32_t *tok,
              size_t n);

#endif
