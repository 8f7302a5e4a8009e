/* SPDX-License-Identifier: MIT
 *
 * job.h - a request on its way: a checked copy, and how far it has come. */
#ifndef PERI_RUN_JOB_H
#define PERI_RUN_JOB_H

#include "base/text.h"
#include "run/request.h"
#include "run/stop.h"

typedef struct peri_job {
    struct peri_job *next;
    peri_request r; /* all it points to lies in the job */
    uint64_t id;
    bool is_running; /* takes part in steps; false while it waits for its turn */
    /* A GENERATE with a session beside it, and the BESIDE that stands in that session's queue. */
    struct peri_job *peer;
    struct peri_slot *peer_slot;
    /* FEED */
    int32_t n_before; /* the session's tokens when it began */
    size_t n_done, n_cached;
    /* GENERATE */
    uint64_t n_made;
    int32_t pending; /* sampled, on its way through the model */
    peri_why ends;   /* why it ends once that is done, or NONE */
    uint32_t stop;
    peri_detok detok;
    peri_stopper stopper;
    size_t repeated;         /* bytes to come that spell the end of a healed prompt again */
    peri_text piece, text;   /* of one token; what may be shown */
    peri_token_logprob *top; /* [n_logprob] */
} peri_job;

/* Copy a request.  PERI_E_INVALID names what is malformed whatever the session. */
peri_status peri_job_new(const peri_request *r, uint64_t id, peri_job **out, peri_error *err);
void peri_job_free(peri_job *j); /* accepts NULL */
/* "FEED", for messages. */
const char *peri_request_name(peri_request_kind kind);

#endif
