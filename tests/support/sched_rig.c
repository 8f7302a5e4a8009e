/* SPDX-License-Identifier: MIT
 *
 * sched_rig.c - see sched_rig.h. */
#include "sched_rig.h"

#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "rig.h"
#include "run/session.h"

static const char *library, *scripts; /* of the last rig */

void sr_open_in(sr_rig *r, const char *library_dir, const char *script_dir, sr_size size) {
    peri_error err;
    peri_model_options o = {.size = sizeof o,
                            .n_ctx = size.n_ctx,
                            .n_session = size.n_session,
                            .n_batch = size.n_batch,
                            .no_prefix_cache = size.no_cache};
    *r = (sr_rig){.n_event = 0};
    library = library_dir;
    scripts = script_dir;
    r->rt = rig_runtime(library_dir, script_dir, 1, NULL);
    assert_ok(peri_model_open(r->rt, rig_tiny("model.gguf", "llama", 0, 1), &o, &r->m, &err), err);
}

void sr_close(sr_rig *r) {
    assert_int_equal(r->n_wrong, 0);
    peri_model_close(r->m);
    peri_runtime_free(r->rt);
    for (size_t i = 0; i < SR_MAX_REQUEST; i++)
        free(r->record[i]);
}

uint64_t sr_tag(sr_rig *r) {
    uint64_t tag = 1;
    while (tag < SR_MAX_REQUEST && r->record[tag])
        tag++;
    assert_true(tag < SR_MAX_REQUEST);
    r->record[tag] = calloc(1, sizeof *r->record[tag]);
    assert_non_null(r->record[tag]);
    return tag;
}

static void add_text(sr_record *x, const peri_event *ev) {
    if (x->text_size + ev->text_size >= sizeof x->text) abort();
    if (ev->text_size) memcpy(x->text + x->text_size, ev->text, ev->text_size);
    x->text_size += ev->text_size;
}

void sr_event(void *user, const peri_event *ev) {
    sr_rig *r = user;
    sr_record *x = r->record[ev->tag];
    r->n_event++;
    r->n_wrong += x->n_final != 0;
    add_text(x, ev);
    if (ev->kind == PERI_EVENT_PROGRESS) x->n_progress++;
    if (ev->kind == PERI_EVENT_TOKEN) {
        x->tok[x->n_tok] = ev->id;
        x->logprob[x->n_tok] = ev->logprob;
        if (ev->n_top && ev->n_top <= 4)
            memcpy(x->top[x->n_tok], ev->top, ev->n_top * sizeof *ev->top);
        x->n_tok++;
        if (x->n_tok == SR_MAX_TOK) abort();
    }
    r->n_wrong += ev->is_final != (ev->kind == PERI_EVENT_FINAL);
    if (!ev->is_final) return;
    x->n_final++;
    x->at = r->n_event;
    x->final = *ev;
    if (ev->tok) memcpy(x->tok, ev->tok, (size_t)ev->n_tok * sizeof *ev->tok);
    strncpy(x->error, ev->error, sizeof x->error - 1);
    x->final.tok = NULL;
    x->final.text = x->final.error = NULL;
    r->n_wrong += (ev->status == PERI_OK) != (*ev->error == '\0');
}

void sr_fill(int32_t *tok, size_t n, uint32_t salt) {
    for (size_t i = 0; i < n; i++)
        tok[i] = (int32_t)((i * 7919 + salt * 104729 + i * i) % SR_VOCAB);
}

void sr_alone(const int32_t *prompt, size_t n_prompt, const peri_sampling *p, int32_t *tok,
              size_t n) {
    sr_rig r;
    peri_session *s;
    peri_error err;
    sr_open_in(&r, library, scripts, (sr_size){512, 1, 512, true});
    assert_ok(peri_session_open(r.m->engine, r.m->tokenizer, p, &s, &err), err);
    assert_ok(peri_session_feed(s, prompt, n_prompt, &err), err);
    for (size_t i = 0; i < n; i++) {
        assert_ok(peri_session_sample(s, &tok[i], &err), err);
        assert_ok(peri_session_feed(s, &tok[i], 1, &err), err);
    }
    peri_session_free(s);
    sr_close(&r);
}
