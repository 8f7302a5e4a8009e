/* SPDX-License-Identifier: MIT
 *
 * plan.c - asking a device, lowering what it declines, running what it accepted.
 *
 * Packing assigns arena offsets, which no answer may depend on; so the graph is packed once per
 * round of questions, all declined ops of a round are lowered together, and rounds end when nothing
 * was declined. */
#include "run/plan.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"

#include "base/compiler.h"

bool peri_plan_fits(const peri_bucket *b, int32_t n_tok, int32_t n_seq, int32_t n_row) {
    return n_tok <= b->hi[PERI_SYM_T] && n_seq <= b->hi[PERI_SYM_S] && n_row <= b->hi[PERI_SYM_R];
}

void peri_plan_free(peri_plan *p) {
    if (!p) return;
    peri_free(p->program);
    peri_free(p->numerics);
    peri_free(p);
}

static void note_declined(peri_plan *p, uint16_t code, const char *why) {
    for (uint32_t i = 0; i < p->n_note; i++) {
        if (p->note[i].code != code || strcmp(p->note[i].why, why)) continue;
        p->note[i].count++;
        return;
    }
    if (p->n_note == sizeof p->note / sizeof p->note[0]) return;
    struct peri_plan_note *n = &p->note[p->n_note++];
    n->code = code;
    n->count = 1;
    snprintf(n->why, sizeof n->why, "%s", why);
}

/* Ask about op i; *yes and, for a yes, the numerics. */
static peri_status ask(peri_backend *d, peri_plan *p, uint32_t i, peri_support *s,
                       peri_error *err) {
    *s = (peri_support){.size = sizeof *s};
    peri_status st = d->api.supports(d->dev, p->program, i, &p->bucket, s, err);
    s->numerics[sizeof s->numerics - 1] = '\0';
    s->why[sizeof s->why - 1] = '\0';
    return st;
}

/* One round: *n_lowered ops were replaced in g. */
static peri_status ask_all(peri_backend *d, peri_plan *p, peri_graph *g, uint32_t *n_lowered,
                           peri_error *err) {
    uint32_t shift = 0; /* ops inserted in g before the op the program calls i */
    *n_lowered = 0;
    for (uint32_t i = 0; i < p->program->n_ops; i++) {
        const peri_op *o = peri_op_at(p->program, i);
        peri_support s;
        peri_status st = ask(d, p, i, &s, err);
        if (st)
            return peri_wrap(err, "device %s: asked about %s", d->info.name, peri_op_name(o->code));
        if (s.yes) {
            memcpy(p->numerics[i], s.numerics, sizeof s.numerics);
            continue;
        }
        uint32_t before = g->n_op;
        if (!peri_graph_lower(g, i + shift)) {
            char layer[24] = "outside the layers";
            if (o->layer != 0xffff) snprintf(layer, sizeof layer, "of layer %u", o->layer);
            return peri_fail(err, PERI_E_UNSUPPORTED, "device %s cannot run %s %s: %s",
                             d->info.name, peri_op_name(o->code), layer,
                             *s.why ? s.why : "no reason given");
        }
        note_declined(p, o->code, *s.why ? s.why : "no reason given");
        shift += g->n_op - before;
        ++*n_lowered;
    }
    return PERI_OK;
}

peri_status peri_plan_new(peri_backend *d, peri_graph *g, uint32_t logits,
                          const peri_bucket *bucket, peri_plan **out, peri_error *err) {
    *out = NULL;
    peri_plan *p = peri_calloc(1, sizeof *p);
    if (!p) return peri_fail(err, PERI_E_NOMEM, "out of memory making a plan");
    p->bucket = *bucket;
    p->logits = logits;
    peri_status st;
    uint32_t n_lowered = 0;
    do {
        peri_free(p->program);
        peri_free(p->numerics);
        p->numerics = NULL;
        st = peri_graph_pack(g, bucket, &p->program, err);
        if (st) break;
        p->numerics = peri_calloc(p->program->n_ops, sizeof *p->numerics);
        st = p->numerics ? ask_all(d, p, g, &n_lowered, err)
                         : peri_fail(err, PERI_E_NOMEM, "out of memory making a plan");
    } while (!st && n_lowered);
    if (st) {
        peri_plan_free(p);
        return st;
    }
    *out = p;
    return PERI_OK;
}

peri_status peri_plan_run(const peri_plan *p, peri_backend *d, const peri_bind *bind,
                          const peri_step *step, peri_error *err) {
    for (uint32_t i = 0; i < p->program->n_ops; i++) {
        peri_error local = {0};
        peri_status st = d->api.run_op(d->dev, p->program, i, bind, step, &local);
        if (!st) continue;
        if (st > 0) st = PERI_E_OTHER; /* the plugin broke rule R3 */
        const peri_op *o = peri_op_at(p->program, i);
        local.text[sizeof local.text - 1] = '\0';
        return peri_fail(err, st, "device %s: %s (op %u, layer %d): %s", d->info.name,
                         peri_op_name(o->code), i, o->layer == 0xffff ? -1 : o->layer, local.text);
    }
    return PERI_OK;
}
