/* SPDX-License-Identifier: MIT
 *
 * generate.c - one generation: a token from the logits, its text past the stop strings, its event.
 */
#include "base/status.h"
#include "run/heal.h"
#include "run/sched_int.h"

#include "base/compiler.h"

peri_status peri_generate_begin(peri_slot *slot, peri_error *err) {
    peri_session *s = slot->s;
    peri_job *j = slot->first;
    if (!s->n_tok)
        return peri_fail(err, PERI_E_INVALID, "GENERATE: nothing was fed to the session yet");
    if (j->r.generate.n_logprob > (uint32_t)s->e->a->n_vocab)
        return peri_fail(err, PERI_E_RANGE, "GENERATE: %u log-probabilities of a vocabulary of %d",
                         j->r.generate.n_logprob, s->e->a->n_vocab);
    for (uint32_t i = 0; i < j->r.generate.n_without; i++)
        if (j->r.generate.without[i] < 0 || j->r.generate.without[i] >= s->e->a->n_vocab)
            return peri_fail(err, PERI_E_RANGE,
                             "GENERATE: without token %d, the vocabulary has 0 to %d",
                             j->r.generate.without[i], s->e->a->n_vocab - 1);
    if (j->peer && peri_sampler_params(s->sampler)->heal)
        return peri_fail(err, PERI_E_INVALID,
                         "GENERATE: heal takes tokens back that the session beside keeps; use one "
                         "of the two");
    if (!s->tokenizer) return PERI_OK;
    peri_status st = s->n_tok == s->n_fed ? peri_session_heal(s, &j->repeated, err) : PERI_OK;
    if (st) return st;
    return peri_session_detok(s, j->r.generate.want_special || s->want_special, &j->detok, err);
}

static bool is_end(const peri_session *s, const peri_generate *g, int32_t id) {
    for (uint32_t i = 0; i < g->n_stop_tok; i++)
        if (g->stop_tok[i] == id) return true;
    return s->tokenizer && !g->ignore_eog && peri_token_is_eog(s->tokenizer, id);
}

/* The token's safe text into j->text; notes a stop string. */
static peri_status add_text(peri_job *j, int32_t id, peri_error *err) {
    j->piece.size = j->text.size = 0;
    if (!j->detok.t) return PERI_OK;
    peri_status st = peri_detok_feed(&j->detok, id, &j->piece, err);
    if (st) return st;
    const char *piece = j->piece.size ? j->piece.data : "";
    size_t skip = j->piece.size ? peri_heal_repeated(&j->repeated, piece, j->piece.size) : 0;
    int32_t stop = peri_stopper_feed(&j->stopper, piece + skip, j->piece.size - skip, &j->text);
    if (j->piece.failed || j->text.failed)
        return peri_fail(err, PERI_E_NOMEM, "out of memory for the text of a token");
    if (stop < 0) return PERI_OK;
    j->ends = PERI_WHY_STOP;
    j->stop = (uint32_t)stop;
    return PERI_OK;
}

static void tell(peri_sched *s, const peri_slot *slot, int32_t id) {
    const peri_job *j = slot->first;
    const peri_generate *g = &j->r.generate;
    peri_event ev = {.kind = PERI_EVENT_TOKEN,
                     .id = id,
                     .text = j->text.size ? j->text.data : "",
                     .text_size = j->text.size,
                     .top = j->top,
                     .n_top = g->n_logprob,
                     .n_tok = slot->s->n_tok};
    if (g->want_logprob || g->n_logprob)
        peri_logprobs(slot->s->logits, s->e->a->n_vocab, id, &ev.logprob, j->top, g->n_logprob);
    peri_sched_emit(s, j, slot->id, &ev);
}

peri_status peri_generate_next(peri_sched *s, peri_slot *slot, peri_error *err) {
    peri_job *j = slot->first;
    const peri_generate *g = &j->r.generate;
    peri_sampler *sampler = slot->s->sampler;
    int32_t id;
    peri_sampler_set_other(sampler, j->peer ? j->peer_slot->s->logits : NULL);
    peri_sampler_set_without(sampler, g->without, j->n_made ? 0 : g->n_without);
    peri_status st = peri_session_sample(slot->s, &id, err);
    peri_sampler_set_other(sampler, NULL);
    peri_sampler_set_without(sampler, NULL, 0);
    if (st) return st;
    j->pending = id;
    if (is_end(slot->s, &j->r.generate, id)) {
        j->ends = PERI_WHY_EOG;
        return PERI_OK;
    }
    st = add_text(j, id, err);
    if (st) return st;
    tell(s, slot, id);
    if (++j->n_made == j->r.generate.max && !j->ends) j->ends = PERI_WHY_LENGTH;
    return PERI_OK;
}

/* Let go of what was held back.  A character cut off comes out as U+FFFD. */
static peri_status last_text(peri_job *j, peri_error *err) {
    j->piece.size = 0;
    peri_detok_end(&j->detok, &j->piece);
    int32_t stop =
        peri_stopper_feed(&j->stopper, j->piece.size ? j->piece.data : "", j->piece.size, &j->text);
    if (stop < 0) peri_stopper_end(&j->stopper, &j->text);
    if (!j->piece.failed && !j->text.failed) return PERI_OK;
    return peri_fail(err, PERI_E_NOMEM, "out of memory for the last of a text");
}

void peri_generate_finish(peri_sched *s, peri_slot *slot, peri_why why, peri_status st,
                          const peri_error *err) {
    peri_job *j = slot->first;
    peri_error local;
    peri_event ev = {.why = why, .id = why == PERI_WHY_EOG ? j->pending : -1, .stop = j->stop};
    j->text.size = 0;
    if (j->detok.t && why != PERI_WHY_STOP && last_text(j, &local) && !st) {
        st = PERI_E_NOMEM;
        err = &local;
        ev.why = PERI_WHY_ERROR;
    }
    ev.text = j->text.size ? j->text.data : "";
    ev.text_size = j->text.size;
    peri_sched_finish(s, slot, st, err, &ev);
}
