/* SPDX-License-Identifier: MIT
 *
 * request.h - what crosses between the engine thread and the rest: requests one way, events the
 * other.
 *
 * All of it is plain data - ids, numbers, bytes, never a pointer to the other side's objects - so
 * that the engine can live in another process one day.  Ids are never reused and never 0.
 *
 * Rules.  Requests of one session run in the order of submission, one at a time; those of different
 * sessions run side by side.  PERI_REQUEST_CANCEL does not queue.  Every accepted request ends in
 * exactly one event with is_final; a request on a session that does not exist, or was closed, ends
 * with PERI_E_NOT_FOUND.  A failed request leaves its session where it was.  A GENERATE is the
 * exception: the tokens it told about are in the session, but perhaps the last of them.  Cancelled
 * requests end with PERI_E_CANCELLED; a GENERATE with PERI_OK and PERI_WHY_CANCELLED. */
#ifndef PERI_RUN_REQUEST_H
#define PERI_RUN_REQUEST_H

#include <stdbool.h>

#include "perigee/types.h"
#include "run/sampler.h"

typedef enum peri_request_kind {
    PERI_REQUEST_OPEN,  /* sampling -> session */
    PERI_REQUEST_CLOSE, /* cancels what the session runs and has queued, then frees it */
    PERI_REQUEST_FEED,  /* tok[n_tok] are appended; a cached prefix is not computed again */
    /* One TOKEN event per token; tokens stay in the session.  With the sampling parameter `heal`, a
     * prompt fed just before loses its last tokens where they end inside a word, and the tokens
     * that replace them are told about, without the text they only repeat. */
    PERI_REQUEST_GENERATE,
    PERI_REQUEST_CANCEL,   /* target: a request that runs or waits; NOT_FOUND when it has ended */
    PERI_REQUEST_FORK,     /* -> session, sharing the blocks; its sampler on a stream of its own */
    PERI_REQUEST_MARK,     /* -> mark: tokens and prediction at this position */
    PERI_REQUEST_UNMARK,   /* mark: forget it (closing the session forgets all) */
    PERI_REQUEST_REWIND,   /* to mark, or when mark is 0 to position */
    PERI_REQUEST_SAVE,     /* path, replaced in one piece */
    PERI_REQUEST_RESTORE,  /* path -> session, and its tokens; waits for no room */
    PERI_REQUEST_SAMPLING, /* new parameters; stream 0 keeps the session's own */
    PERI_REQUEST_TOKENS,   /* -> the session's tokens */
    PERI_REQUEST_STATS,    /* -> stats of session (0: of the engine alone) */
    PERI_REQUEST_BESIDE    /* never submitted: a session that follows a GENERATE of another */
} peri_request_kind;

/* How text is generated.  Nothing here outlives the request. */
typedef struct peri_generate {
    uint64_t max;            /* most tokens; 0 = until the context is full */
    const char *const *stop; /* [n_stop] strings that end the text, NUL-terminated, not empty */
    const int32_t *stop_tok; /* [n_stop_tok] tokens that end it, besides the model's own */
    uint32_t n_stop, n_stop_tok;
    uint32_t n_logprob; /* so many likeliest tokens with each TOKEN event; 0 = none */
    bool want_logprob;  /* at least the chosen token's own */
    bool want_special;  /* control tokens appear in the text */
    bool ignore_eog;    /* the model's end tokens are tokens like others */
    /* Another session, whose prediction sampling policies may look at, and which is given every
     * token as well; 0: none.  Its own requests wait until this one is over; closing it ends this
     * one with PERI_E_NOT_FOUND.  Both need room. */
    uint64_t beside;
    const int32_t *without; /* [n_without] tokens that the first one is not */
    uint32_t n_without;
} peri_generate;

typedef struct peri_request {
    peri_request_kind kind;
    uint64_t tag;       /* the caller's, repeated in every event of the request */
    uint64_t session;   /* all but OPEN, RESTORE, CANCEL */
    uint64_t target;    /* CANCEL */
    uint64_t mark;      /* REWIND, UNMARK */
    int32_t position;   /* REWIND */
    const int32_t *tok; /* FEED */
    size_t n_tok;
    bool want_progress;            /* FEED: a PROGRESS event after each chunk */
    const peri_sampling *sampling; /* OPEN, SAMPLING; in RESTORE NULL = as saved */
    const char *path;              /* SAVE, RESTORE */
    peri_generate generate;        /* GENERATE */
} peri_request;

typedef enum peri_event_kind {
    PERI_EVENT_PROGRESS, /* n_done of n_total tokens of a FEED are in */
    PERI_EVENT_TOKEN,    /* of a GENERATE */
    PERI_EVENT_FINAL     /* is_final */
} peri_event_kind;

/* Why a GENERATE ended. */
typedef enum peri_why {
    PERI_WHY_NONE, /* not a GENERATE */
    PERI_WHY_EOG,  /* the model's end, or a stop token: `id` is it, and it is not in the session */
    PERI_WHY_LENGTH,
    PERI_WHY_STOP, /* a stop string: number `stop` of the request */
    PERI_WHY_CANCELLED,
    PERI_WHY_CONTEXT, /* the session is full */
    PERI_WHY_ERROR
} peri_why;
/* "eog" "length" "stop" "cancelled" "context" "error", "" for NONE. */
const char *peri_why_name(peri_why why);

typedef struct peri_run_stats {
    /* of the session */
    uint64_t n_tok, n_prompt, n_generated, n_cached; /* held; fed; sampled; taken from the cache */
    uint64_t n_computed; /* tokens of this session that went through the model */
    uint64_t prompt_ns, generate_ns;
    /* of the engine, since it was made */
    uint64_t n_kv_copied_bytes; /* keys and values copied because a shared block was written */
    uint64_t n_block, n_block_free, n_block_cached; /* cached: held by no session, still known */
    uint64_t n_evicted;                             /* cached blocks given up for room */
    uint64_t n_preempted, n_swapped_bytes; /* sessions moved to host memory; bytes both ways */
    uint64_t n_step;
    uint64_t n_row_top, n_row_whole, n_row_bytes; /* see engine.h */
} peri_run_stats;

/* Everything a pointer leads to is borrowed for the call.  Fields not named for a kind are 0. */
typedef struct peri_event {
    peri_event_kind kind;
    bool is_final;
    uint64_t request, tag; /* as submitted */
    uint64_t session;      /* the one named, or the one that was made */
    peri_status status;    /* FINAL: PERI_OK, or what went wrong with its text */
    const char *error;     /* never NULL; "" unless status is a failure */
    /* FEED */
    size_t n_done, n_total, n_cached; /* n_cached: of them from the prefix cache */
    /* TOKEN; the FINAL event of GENERATE may carry a last piece of text with id -1 */
    int32_t id;
    const char *text; /* whole UTF-8 characters that can no longer become part of a stop string */
    size_t text_size;
    float logprob;                 /* of id, when asked for */
    const peri_token_logprob *top; /* [n_top], likeliest first */
    uint32_t n_top;
    /* FINAL */
    peri_why why;
    uint32_t stop;      /* which stop string */
    uint64_t mark;      /* MARK */
    int32_t n_tok;      /* the session's tokens now (FEED, GENERATE, REWIND, FORK, RESTORE, ...) */
    const int32_t *tok; /* [n_tok] TOKENS and RESTORE */
    peri_run_stats stats; /* STATS */
} peri_event;

typedef void (*peri_event_fn)(void *user, const peri_event *ev);

#endif
