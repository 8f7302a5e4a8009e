/* SPDX-License-Identifier: MIT
 *
 * job.c - requests are copied into one block: the job, then what it points to, widest first. */
#include "run/job.h"

#include <string.h>

#include "base/alloc.h"
#include "base/reader.h"
#include "base/status.h"

#include "base/compiler.h"

const char *peri_request_name(peri_request_kind kind) {
    static const char *const name[] = {
        [PERI_REQUEST_OPEN] = "OPEN",       [PERI_REQUEST_CLOSE] = "CLOSE",
        [PERI_REQUEST_FEED] = "FEED",       [PERI_REQUEST_GENERATE] = "GENERATE",
        [PERI_REQUEST_CANCEL] = "CANCEL",   [PERI_REQUEST_FORK] = "FORK",
        [PERI_REQUEST_MARK] = "MARK",       [PERI_REQUEST_UNMARK] = "UNMARK",
        [PERI_REQUEST_REWIND] = "REWIND",   [PERI_REQUEST_SAVE] = "SAVE",
        [PERI_REQUEST_RESTORE] = "RESTORE", [PERI_REQUEST_SAMPLING] = "SAMPLING",
        [PERI_REQUEST_TOKENS] = "TOKENS",   [PERI_REQUEST_STATS] = "STATS",
        [PERI_REQUEST_BESIDE] = "BESIDE"};
    return (size_t)kind < sizeof name / sizeof name[0] ? name[kind] : "?";
}

const char *peri_why_name(peri_why why) {
    static const char *const name[] = {[PERI_WHY_NONE] = "",
                                       [PERI_WHY_EOG] = "eog",
                                       [PERI_WHY_LENGTH] = "length",
                                       [PERI_WHY_STOP] = "stop",
                                       [PERI_WHY_CANCELLED] = "cancelled",
                                       [PERI_WHY_CONTEXT] = "context",
                                       [PERI_WHY_ERROR] = "error"};
    return (size_t)why < sizeof name / sizeof name[0] ? name[why] : "";
}

static peri_status check(const peri_request *r, peri_error *err) {
    const peri_generate *g = &r->generate;
    const char *name = peri_request_name(r->kind);
    if (*name == '?')
        return peri_fail(err, PERI_E_INVALID, "request kind %d is unknown", (int)r->kind);
    if (r->kind == PERI_REQUEST_FEED && r->n_tok && !r->tok)
        return peri_fail(err, PERI_E_INVALID, "FEED: %zu tokens, but no array", r->n_tok);
    if ((r->kind == PERI_REQUEST_SAVE || r->kind == PERI_REQUEST_RESTORE) &&
        (!r->path || !*r->path))
        return peri_fail(err, PERI_E_INVALID, "%s: no file name", name);
    if ((r->kind == PERI_REQUEST_OPEN || r->kind == PERI_REQUEST_SAMPLING) && !r->sampling)
        return peri_fail(err, PERI_E_INVALID, "%s: no sampling parameters", name);
    if (r->kind != PERI_REQUEST_GENERATE) return PERI_OK;
    if (g->n_stop_tok && !g->stop_tok)
        return peri_fail(err, PERI_E_INVALID, "GENERATE: %u stop tokens, but no array",
                         g->n_stop_tok);
    for (uint32_t i = 0; i < g->n_stop; i++)
        if (!g->stop || !g->stop[i] || !*g->stop[i])
            return peri_fail(err, PERI_E_INVALID, "GENERATE: stop string %u is empty", i);
    if (g->n_stop > 256 || g->n_stop_tok > 65536)
        return peri_fail(err, PERI_E_RANGE,
                         "GENERATE: %u stop strings and %u stop tokens, expected at most 256 and "
                         "65536",
                         g->n_stop, g->n_stop_tok);
    if (g->n_without && !g->without)
        return peri_fail(err, PERI_E_INVALID, "GENERATE: %u tokens to do without, but no array",
                         g->n_without);
    if (g->beside && g->beside == r->session)
        return peri_fail(err, PERI_E_INVALID, "GENERATE: session %llu beside itself",
                         (unsigned long long)g->beside);
    if (g->n_logprob > 1024)
        return peri_fail(err, PERI_E_RANGE, "GENERATE: %u log-probabilities, expected at most 1024",
                         g->n_logprob);
    return PERI_OK;
}

/* Bytes behind the job, or false when there are too many. */
static bool room(const peri_request *r, size_t *out) {
    const peri_generate *g = &r->generate;
    uint64_t n, tok;
    if (!peri_mul_u64(r->n_tok, sizeof *r->tok, &tok)) return false;
    n = (uint64_t)g->n_stop * sizeof(char *) + (uint64_t)g->n_stop_tok * sizeof(int32_t) +
        (uint64_t)g->n_without * sizeof(int32_t) +
        (uint64_t)g->n_logprob * sizeof(peri_token_logprob) + (r->path ? strlen(r->path) + 1 : 0);
    for (uint32_t i = 0; i < g->n_stop; i++)
        n += strlen(g->stop[i]) + 1;
    if (!peri_add_u64(n, tok, &n) || n > SIZE_MAX / 2) return false;
    *out = (size_t)n;
    return true;
}

/* Copy n bytes to *at and move it on; NULL for nothing. */
static void *place(char **at, const void *data, size_t n) {
    char *p = *at;
    if (!n) return NULL;
    if (data) memcpy(p, data, n);
    *at += n;
    return p;
}

static void copy_parts(peri_job *j, const peri_request *r, char *at) {
    const peri_generate *g = &r->generate;
    const char **stop = place(&at, NULL, g->n_stop * sizeof *stop);
    j->top = place(&at, NULL, g->n_logprob * sizeof *j->top);
    j->r.generate.stop_tok = place(&at, g->stop_tok, g->n_stop_tok * sizeof *g->stop_tok);
    j->r.generate.without = place(&at, g->without, g->n_without * sizeof *g->without);
    j->r.tok = place(&at, r->tok, r->n_tok * sizeof *r->tok);
    for (uint32_t i = 0; i < g->n_stop; i++)
        stop[i] = place(&at, g->stop[i], strlen(g->stop[i]) + 1);
    j->r.generate.stop = stop;
    if (r->path) j->r.path = place(&at, r->path, strlen(r->path) + 1);
}

peri_status peri_job_new(const peri_request *r, uint64_t id, peri_job **out, peri_error *err) {
    peri_request clean = *r;
    size_t n = 0;
    *out = NULL;
    peri_status st = check(r, err);
    if (st) return st;
    if (r->kind != PERI_REQUEST_GENERATE) clean.generate = (peri_generate){0};
    if (r->kind != PERI_REQUEST_FEED) clean.n_tok = 0;
    peri_job *j = room(&clean, &n) ? peri_alloc(sizeof *j + n) : NULL;
    if (!j)
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a request %s",
                         peri_request_name(r->kind));
    *j = (peri_job){.r = clean, .id = id, .pending = -1};
    copy_parts(j, &clean, (char *)(j + 1));
    j->stopper = (peri_stopper){.stop = j->r.generate.stop, .n = j->r.generate.n_stop};
    if (r->sampling && !(j->r.sampling = peri_sampling_dup(r->sampling))) {
        peri_job_free(j);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for sampling parameters");
    }
    *out = j;
    return PERI_OK;
}

void peri_job_free(peri_job *j) {
    if (!j) return;
    peri_free((void *)(uintptr_t)j->r.sampling); /* our own copy */
    peri_stopper_fini(&j->stopper);
    peri_text_fini(&j->piece);
    peri_text_fini(&j->text);
    peri_free(j);
}
