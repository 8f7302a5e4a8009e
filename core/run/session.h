/* SPDX-License-Identifier: MIT
 *
 * session.h - a token timeline: its tokens, the blocks that hold their keys and values, the logits
 * that predict the next one, and a sampler.
 *
 * What a session will say next is a function of model, tokens, sampling parameters, seed and stream
 * alone; blocks, cache, neighbours and the way the tokens arrived change no bit of it.  Hence
 * forks, rewinds, restarts and moves to host memory replay exactly.
 *
 * Blocks.  A block may be held by several sessions, and may be published in the prefix cache.  It
 * is written in place only by a sole holder; a shared one is first copied, as far as it is filled
 * (n_kv_copied_bytes counts that).  Keys and values that came from a file are the file's word only:
 * they are never published, nor is what was computed on top of them.
 *
 * One thread drives an engine and all its sessions. */
#ifndef PERI_RUN_SESSION_H
#define PERI_RUN_SESSION_H

#include "run/engine.h"
#include "run/peaks.h"
#include "run/request.h"
#include "run/sampler.h"

/* A remembered position; see peri_session_mark. */
typedef struct peri_mark {
    peri_session *s; /* NULL: gone, the session was freed */
    struct peri_mark *prev, *next;
    int32_t n_tok;
    int32_t n_rewound; /* >= 0: stale, the session was rewound to there since */
    bool has_logits;
    peri_top top;
    float logits[]; /* [n_vocab] when has_logits */
} peri_mark;

struct peri_session {
    peri_engine *e;
    const peri_tokenizer *tokenizer; /* may be NULL */
    peri_sampler *sampler;
    uint64_t stream,
        n_child;       /* children so far; the k-th gets stream peri_stream_child(stream, k) */
    bool want_special; /* text shows control tokens */
    int32_t n_tok;     /* tokens held */
    int32_t n_fed;     /* tokens when a prompt ended last; what begins there may heal its end */
    int32_t n_foreign; /* the first so many have keys and values read from a file */
    int32_t *tok;      /* [n_ctx] */
    int32_t *block;    /* [room_block] ids; the first n_block are held */
    uint32_t n_block, room_block;
    uint8_t *swapped; /* NULL, or keys and values of n_swapped tokens in kv.h's order */
    int32_t n_swapped;
    float *logits; /* f32 [n_vocab] of the last token */
    float *peak;   /* behind them, peri_n_peak(n_vocab) of these logits if has_peaks */
    bool has_logits, has_peaks;
    peri_top top;    /* or no more than the likeliest tokens of that row */
    bool in_step;    /* guards against a session named twice in one step */
    peri_mark *mark; /* list */
    struct {
        uint64_t n_prompt, n_generated, n_cached, n_computed, prompt_ns, generate_ns;
    } stats;
};

/* An empty session; sampling NULL: seed 0, greedy.  peri_session_free frees it. */
peri_status peri_session_open(peri_engine *e, const peri_tokenizer *t,
                              const peri_sampling *sampling, peri_session **out, peri_error *err);
PERI_API void peri_session_free(peri_session *s); /* accepts NULL; its marks go stale */
/* Other parameters from the next token on; policies that stay the same go on from their state.  On
 * failure nothing changes. */
peri_status peri_session_set_sampling(peri_session *s, const peri_sampling *p, peri_error *err);

/* The sampler and its parameters as peri_sampler_save wrote them.  On failure nothing changes. */
peri_status peri_session_restore_sampler(peri_session *s, peri_reader *r, int32_t n_tok,
                                         peri_error *err);

/* ---- blocks ----------------------------------------------------------------------------------
 */
/* Blocks that n_tok tokens need. */
uint32_t peri_session_blocks(const peri_session *s, int32_t n_tok);
/* Blocks that writing up to n_tok tokens would take beyond those held now. */
uint32_t peri_session_wants(const peri_session *s, int32_t n_tok);
/* Make room to write the tokens n_tok of the session up to n_tok: take blocks, and copy the partly
 * filled one when it is shared.  PERI_E_NOMEM names the room; the session then holds what it held.
 */
peri_status peri_session_reserve(peri_session *s, int32_t n_tok, peri_error *err);
/* Give back blocks beyond those that the tokens need. */
void peri_session_trim(peri_session *s);
/* Take full blocks of tok[n_tok] from the prefix cache, as many as follow the session's last full
 * block; returns the number of tokens appended that way, a multiple of the block size.  0 unless
 * the session ends at a block border.  The prediction is then computed when it is asked for. */
size_t peri_session_attach(peri_session *s, const int32_t *tok, size_t n_tok);
/* Publish the full blocks from token `from` on. */
void peri_session_publish(peri_session *s, int32_t from);
/* Move keys and values to host memory and give up the blocks.  Until it is brought back, a session
 * may be asked, rewound and freed, nothing else. */
peri_status peri_session_swap_out(peri_session *s, peri_error *err);
/* The keys and values of its first n_tok tokens, n_tok > 0, in the order of kv.h, as if they had
 * been moved out of the blocks of a session that holds none. */
peri_status peri_session_put_aside(peri_session *s, const uint8_t *kv, int32_t n_tok,
                                   peri_error *err);
/* Back into blocks, cached ones where they are still there.  PERI_E_NOMEM when there are not
 * enough: the session stays where it is.  Nothing when it was not swapped out. */
peri_status peri_session_swap_in(peri_session *s, peri_error *err);

/* May these tokens be fed: each in the vocabulary, all within the context?  PERI_E_RANGE names the
 * first that may not. */
peri_status peri_session_check(const peri_session *s, const int32_t *tok, size_t n_tok,
                               peri_error *err);
/* Is what its sampler picks from there?  want_row: the whole row. */
bool peri_session_is_predicted(const peri_session *s, bool want_row);
/* Compute it if it is not. */
peri_status peri_session_predict(peri_session *s, peri_error *err);
/* Another last token: what was predicted is gone. */
void peri_session_unpredict(peri_session *s);

/* ---- as perigee.h says -----------------------------------------------------------------------
 */
PERI_API int32_t peri_session_n_tok(const peri_session *s);
PERI_API peri_status peri_session_feed(peri_session *s, const int32_t *tok, size_t n_tok,
                                       peri_error *err);
PERI_API peri_status peri_session_sample(peri_session *s, int32_t *tok, peri_error *err);
PERI_API peri_status peri_session_fork(peri_session *s, peri_session **out, peri_error *err);
PERI_API peri_status peri_session_mark(peri_session *s, peri_mark **out, peri_error *err);
PERI_API void peri_mark_free(peri_mark *m);
PERI_API peri_status peri_session_rewind(peri_session *s, int32_t n, peri_error *err);
PERI_API peri_status peri_session_rewind_to(peri_session *s, const peri_mark *m, peri_error *err);
PERI_API peri_status peri_session_save(const peri_session *s, const char *path, peri_error *err);
/* sampling NULL: as saved.  may_wait: without room for its keys and values it starts in host
 * memory, as after peri_session_swap_out; else that is PERI_E_NOMEM. */
peri_status peri_session_load(peri_engine *e, const peri_tokenizer *t, const char *path,
                              const peri_sampling *sampling, bool may_wait, peri_session **out,
                              peri_error *err);

/* A detokenizer that goes on where the session's tokens end: a character whose bytes are not all
 * there yet is remembered. */
peri_status peri_session_detok(const peri_session *s, bool want_special, peri_detok *out,
                               peri_error *err);
void peri_session_stats_get(const peri_session *s, peri_run_stats *out);
void peri_engine_stats_get(const peri_engine *e, peri_run_stats *out); /* the engine's part */

#endif
