/* SPDX-License-Identifier: MIT
 *
 * sched_step.c - one step: who takes part, with how many tokens, and what follows from it. */
#include <time.h>

#include "base/status.h"
#include "run/sched_int.h"

#include "base/compiler.h"

enum { MIXED_TOKENS = 64 }; /* of prompts in a step that others generate in */

static bool is_feeding(const peri_slot *slot) {
    return slot->is_in && slot->first->r.kind == PERI_REQUEST_FEED;
}

static bool is_generating(const peri_slot *slot) {
    return slot->is_in && slot->first->r.kind == PERI_REQUEST_GENERATE;
}

static size_t count(const peri_sched *s, bool (*is)(const peri_slot *)) {
    size_t n = 0;
    for (size_t i = 0; i < s->n_run; i++)
        n += is(s->run[i]);
    return n;
}

/* Tokens of a session for this step, whose row is wanted whole unless a list may do. */
static peri_step_feed *add(peri_sched *s, peri_slot *slot, const int32_t *tok, size_t n) {
    peri_step_feed *f = &s->feed[s->n_feed];
    s->fed[s->n_feed++] = slot;
    *f = (peri_step_feed){.s = slot->s, .tok = tok, .n_tok = n, .want_row = true};
    return f;
}

/* A prompt's row is wanted whole, because what is asked for next is not known yet; and where
 * somebody besides the sampler looks at the row: log-probabilities, policies beside.  n_made:
 * tokens there will be before the row is used. */
static bool wants_row(const peri_slot *slot, uint64_t n_made) {
    const peri_job *j = slot->first;
    const peri_generate *g = &j->r.generate;
    return j->r.kind != PERI_REQUEST_GENERATE || g->want_logprob || g->n_logprob || j->peer ||
           (g->n_without && !n_made);
}

/* Whether the session can be asked for a token; else this step is for its prediction, as after a
 * rewind. */
static bool is_predicted(peri_sched *s, peri_slot *slot) {
    const peri_session *x = slot->s;
    bool want_row = wants_row(slot, slot->first->n_made);
    if (peri_session_is_predicted(x, want_row)) return true;
    peri_step_feed *f = add(s, slot, &x->tok[x->n_tok - 1], 1);
    f->is_again = true;
    f->want_row = want_row;
    return false;
}

/* Room for one more token of the session and of the one beside it.  PERI_OK with *waits: not now,
 * blocks went to somebody else. */
static peri_status reserve(peri_sched *s, peri_slot *slot, peri_slot *beside, bool *waits,
                           peri_error *err) {
    peri_session *x = slot->s;
    peri_status st = peri_sched_reserve(s, slot, x->n_tok + 1, err);
    if (!st && beside) st = peri_sched_reserve(s, beside, beside->s->n_tok + 1, err);
    *waits = !slot->is_in || (beside && !beside->is_in);
    if (!st || *waits) return PERI_OK;
    /* The youngest makes room for the others itself, if there are any. */
    peri_error ignored;
    if (s->n_run > (beside ? 2 : 1) && peri_session_swap_out(x, &ignored) == PERI_OK) {
        slot->is_in = false;
        *waits = true;
        return PERI_OK;
    }
    return st;
}

/* Let one session generate.  false: it is over and gone from run[]. */
static bool generate(peri_sched *s, peri_slot *slot) {
    peri_session *x = slot->s;
    peri_slot *beside = slot->first->peer ? slot->first->peer_slot : NULL;
    peri_error err;
    bool waits;
    if (beside && !(slot->first->peer->is_running && beside->is_in)) return true;
    if (beside && !beside->s->n_tok) {
        peri_fail(&err, PERI_E_INVALID, "GENERATE: nothing was fed to the session beside yet");
        peri_generate_finish(s, slot, PERI_WHY_ERROR, err.code, &err);
        return false;
    }
    bool is_ready = is_predicted(s, slot);
    if (beside) is_ready = is_predicted(s, beside) && is_ready;
    if (!is_ready) return true;
    if (x->n_tok >= s->e->o.n_ctx || (beside && beside->s->n_tok >= s->e->o.n_ctx)) {
        peri_generate_finish(s, slot, PERI_WHY_CONTEXT, PERI_OK, NULL);
        return false;
    }
    if (reserve(s, slot, beside, &waits, &err)) {
        peri_generate_finish(s, slot, PERI_WHY_ERROR, err.code, &err);
        return false;
    }
    if (waits) return true;
    peri_status st = peri_generate_next(s, slot, &err);
    if (st || slot->first->ends == PERI_WHY_EOG) {
        peri_generate_finish(s, slot, st ? PERI_WHY_ERROR : PERI_WHY_EOG, st, &err);
        return false;
    }
    add(s, slot, &slot->first->pending, 1)->want_row = wants_row(slot, slot->first->n_made);
    if (beside) add(s, beside, &slot->first->pending, 1);
    return true;
}

/* At most n of those that generate; whose turn it is rotates.  In the order of run[], so that
 * whoever is set aside for another has no token on its way. */
static void add_generators(peri_sched *s, size_t n) {
    size_t n_all = count(s, is_generating), first = n_all > n ? s->turn % n_all : 0, it = 0;
    for (size_t i = 0; i < s->n_run; it++) {
        while (i < s->n_run && !is_generating(s->run[i]))
            i++;
        if (i == s->n_run) return;
        bool is_turn = n_all <= n || (it + n_all - first) % n_all < n;
        i += !is_turn || generate(s, s->run[i]);
    }
}

/* Prompts take what is left of the step: `budget` tokens, n places.  Whose turn it is to be first
 * rotates. */
static void add_prompts(peri_sched *s, size_t n, size_t budget) {
    size_t n_all = count(s, is_feeding), it = 0;
    for (size_t round = 0; n_all && round < 2; round++, it = 0)
        for (size_t i = 0; i < s->n_run && n && budget; i++) {
            peri_slot *slot = s->run[i];
            if (!is_feeding(slot)) continue;
            bool is_late = it++ < s->turn % n_all;
            if (is_late != (round == 1)) continue;
            const peri_job *j = slot->first;
            size_t left = j->r.n_tok - j->n_done, take = left < budget ? left : budget;
            add(s, slot, j->r.tok + j->n_done, take);
            budget -= take;
            n--;
        }
}

static void compose(peri_sched *s) {
    size_t places = (size_t)s->e->o.n_session, tokens = (size_t)s->e->o.n_batch;
    size_t n_prompt = count(s, is_feeding), n_gen = count(s, is_generating);
    if (places > tokens) places = tokens;
    s->n_feed = 0;
    s->turn++;
    if (n_prompt && n_gen >= places) /* one place is for prompts; a single one takes turns */
        n_gen = places > 1 ? places - 1 : s->turn % 2;
    if (n_gen) add_generators(s, n_gen < places ? n_gen : places);
    places -= s->n_feed < places ? s->n_feed : places; /* those beside may be more */
    tokens -= s->n_feed < tokens ? s->n_feed : tokens;
    if (s->n_feed && tokens > MIXED_TOKENS) tokens = MIXED_TOKENS;
    add_prompts(s, places, tokens);
}

static void fed_prompt(peri_sched *s, peri_slot *slot, size_t n) {
    peri_job *j = slot->first;
    j->n_done += n;
    peri_event ev = {.kind = PERI_EVENT_PROGRESS,
                     .n_done = j->n_done,
                     .n_total = j->r.n_tok,
                     .n_cached = j->n_cached,
                     .n_tok = slot->s->n_tok};
    if (j->r.want_progress) peri_sched_emit(s, j, slot->id, &ev);
}

/* Requests that have all they asked for. */
static void finish_done(peri_sched *s) {
    for (size_t i = 0; i < s->n_run;) {
        peri_slot *slot = s->run[i];
        peri_job *j = slot->first;
        if (is_feeding(slot) && j->n_done == j->r.n_tok) {
            if (j->r.n_tok) slot->s->n_fed = slot->s->n_tok;
            slot->s->stats.n_prompt += j->r.n_tok;
            slot->s->stats.n_cached += j->n_cached;
            peri_event ev = {.n_done = j->n_done, .n_total = j->r.n_tok, .n_cached = j->n_cached};
            peri_sched_finish(s, slot, PERI_OK, NULL, &ev);
        } else if (is_generating(slot) && j->ends) {
            if (j->peer) i = 0; /* the one beside goes too, and may stand before it */
            peri_generate_finish(s, slot, j->ends, PERI_OK, NULL);
        } else if (slot->is_in && j->r.kind != PERI_REQUEST_FEED &&
                   j->r.kind != PERI_REQUEST_GENERATE && j->r.kind != PERI_REQUEST_BESIDE) {
            peri_sched_answer(s, slot);
        } else {
            i++;
        }
    }
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void take_step(peri_sched *s) {
    peri_error err;
    size_t n = s->n_feed;
    uint64_t start = now_ns(), took;
    peri_status st = peri_engine_step(s->e, s->feed, n, 0, &err);
    took = now_ns() - start;
    for (size_t i = 0; i < n; i++) {
        peri_session *x = s->fed[i]->s;
        bool is_prompt = s->fed[i]->first && is_feeding(s->fed[i]);
        *(is_prompt ? &x->stats.prompt_ns : &x->stats.generate_ns) += took;
        peri_slot *told = st ? peri_beside_leader(s->fed[i]) : NULL;
        if (told)
            peri_sched_abort(s, told, st, &err);
        else if (st)
            continue; /* ended with its leader */
        else if (s->fed[i]->first->r.kind == PERI_REQUEST_FEED)
            fed_prompt(s, s->fed[i], s->feed[i].n_tok);
    }
}

/* Nothing can go on although somebody waits: others cannot be set aside. */
static void give_up(peri_sched *s) {
    peri_error err;
    const peri_slot *slot = s->run[0];
    peri_fail(&err, PERI_E_NOMEM,
              "no room for keys and values: %u blocks of %u tokens wanted, %u of %u are free, and "
              "there is no memory to set other sessions aside",
              peri_session_wants(slot->s, slot->s->n_tok + 1), s->e->kv.block_tokens,
              peri_prefix_room(&s->e->blocks), s->e->blocks.n);
    peri_sched_abort(s, s->run[0], PERI_E_NOMEM, &err);
}

bool peri_sched_step(peri_sched *s) {
    s->n_feed = 0;
    peri_sched_begin(s);
    if (!s->n_run) return false;
    size_t n_before = s->n_run;
    uint64_t n_aside = s->e->n_preempted;
    peri_sched_admit(s);
    finish_done(s); /* what the cache knew all of, what only waited for its blocks */
    compose(s);
    if (s->n_feed) {
        take_step(s);
        finish_done(s);
    } else if (s->n_run == n_before && s->e->n_preempted == n_aside) {
        give_up(s);
    }
    peri_sched_begin(s);
    return s->n_run > 0;
}
