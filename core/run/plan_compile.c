/* SPDX-License-Identifier: MIT
 *
 * plan_compile.c - a plan cut into stretches, each offered to its device to be compiled.
 *
 * A stretch is as long as one device runs op after op and nothing crosses: on one device, a whole
 * step.  A plugin without `compile`, or one that answers UNSUPPORTED, runs its ops one at a time;
 * the results are the same (plugin.h), so nothing is said about it. */
#include "base/alloc.h"
#include "base/status.h"
#include "run/plan_int.h"

#include "base/compiler.h"

/* Does a stretch begin at op i?  next: the first crossing that is not before i. */
static bool begins(const peri_plan *p, uint32_t i, uint32_t next) {
    return i == 0 || p->device[i] != p->device[i - 1] ||
           (next < p->n_crossing && p->crossing[next].op == i);
}

/* Cut; with out NULL only count. */
static uint32_t cut(const peri_plan *p, peri_stretch *out) {
    uint32_t n = 0, next = 0;
    for (uint32_t i = 0; i < p->program->n_ops; i++) {
        while (next < p->n_crossing && p->crossing[next].op < i)
            next++;
        if (begins(p, i, next)) {
            if (out) out[n].first = i;
            n++;
        }
        if (out) out[n - 1].n++;
    }
    return n;
}

static peri_status compile(peri_backend *d, peri_plan *p, peri_stretch *s, peri_error *err) {
    peri_error local = {0};
    s->dev = d->dev;
    s->free_compiled = d->api.free_compiled;
    if (!d->api.compile || !d->api.run_compiled || !d->api.free_compiled) return PERI_OK;
    int32_t st =
        d->api.compile(d->dev, p->program, s->first, s->n, &p->bucket, &s->compiled, &local);
    if (!st) return PERI_OK;
    s->compiled = NULL;
    if (st == PERI_E_UNSUPPORTED) return PERI_OK;
    local.text[sizeof local.text - 1] = '\0';
    return peri_fail(err, st > 0 ? PERI_E_OTHER : st, "device %s: compiling ops %u to %u: %s",
                     d->info.name, s->first, s->first + s->n - 1, local.text);
}

peri_status peri_plan_compile(const peri_plan_places *at, peri_plan *p, peri_error *err) {
    peri_status st = PERI_OK;
    uint32_t n = cut(p, NULL);
    p->stretch = peri_calloc(n, sizeof *p->stretch);
    if (!p->stretch) return peri_fail(err, PERI_E_NOMEM, "out of memory making a plan");
    p->n_stretch = cut(p, p->stretch);
    for (uint32_t i = 0; i < n && !st; i++) {
        peri_stretch *s = &p->stretch[i];
        st = compile(at->backend[p->device[s->first]], p, s, err);
    }
    return st;
}

void peri_plan_uncompile(peri_plan *p) {
    for (uint32_t i = 0; i < p->n_stretch; i++) {
        peri_stretch *s = &p->stretch[i];
        if (s->compiled) s->free_compiled(s->dev, s->compiled);
    }
    peri_free(p->stretch);
    p->stretch = NULL;
    p->n_stretch = 0;
}
