/* SPDX-License-Identifier: MIT
 *
 * kit_stage_ops.c - the stages that run operations: against the reference, and against themselves.
 *
 * Invariance is equality of bits between a whole run and: the same run again, other orders of the
 * items of a job, several threads (repeatedly, because a race shows by chance), keys in other
 * blocks, other offsets in the arena, and the same tokens in pieces.  The second half of these is
 * asked only of a device that claims PERI_DEV_BATCH_INVARIANT. */
#include <stdio.h>
#include <string.h>

#include "check/kit.h"
#include "model/dtype.h"

#include "base/compiler.h"

static bool has_optional(const kit_shape *s) {
    return strchr(s->operands, '?') != NULL;
}

void kit_each_case(kit_plugin *p, bool want_other, bool (*fn)(kit_plugin *p, kit_case *c)) {
    const kit_shape *s;
    for (size_t i = 0; (s = kit_shape_at(i)) && !kit_is_full(); i++) {
        int dtype;
        for (size_t k = 0; (dtype = kit_dtype_at(s, k)) >= 0 && !kit_is_full(); k++) {
            int n_variant = want_other ? 2 : 1;
            if (!kit_is_wanted(p, s, (uint32_t)dtype) || !kit_can_decode((uint32_t)dtype)) continue;
            for (int variant = 0; variant < n_variant; variant++) {
                kit_case c;
                kit_want w = {.layout = 1 + (uint64_t)variant,
                              .is_absent = variant == 1 && has_optional(s)};
                bool is_good = kit_case_init(&c, s, (uint32_t)dtype, &w);
                if (!is_good) kit_find(NULL, "the kit is out of memory");
                bool is_large = is_good && p->is_small && kit_case_macs(&c) > KIT_SMALL;
                if (is_good && !is_large) is_good = fn(p, &c);
                kit_case_fini(&c);
                if (!is_good) break; /* one finding for a shape and type is enough */
            }
        }
    }
}

/* ---- against the reference ----------------------------------------------------------------------
 */

static bool check_result(kit_case *c, kit_result *r) {
    if (r->outcome == KIT_BROKEN) {
        kit_find(c, "%s", r->text);
        return false;
    }
    if (r->outcome == KIT_DECLINED) return true;
    if (!kit_numerics_parse(r->numerics, &c->num)) {
        kit_find(c, "declares numerics \"%s\", which is no class the kit knows", r->numerics);
        return false;
    }
    if (!kit_case_reference(c)) {
        kit_note("%s: the kit has no formula", peri_op_name(c->shape->code));
        return true;
    }
    for (uint32_t k = 0; k < c->n_in + c->n_out; k++)
        if (r->out[k] && !kit_gate_check(c, r, k)) return false;
    return true;
}

static bool run_and_check(kit_plugin *p, kit_case *c) {
    kit_result r;
    kit_case_run(p, c, &r);
    bool is_good = check_result(c, &r);
    kit_result_fini(&r);
    return is_good;
}

/* Types the device takes and the kit cannot check. */
static void note_unchecked(kit_plugin *p) {
    const kit_shape *s;
    for (size_t i = 0; (s = kit_shape_at(i)) != NULL; i++) {
        int dtype;
        if (s->code != PERI_OP_LINEAR) continue;
        for (size_t k = 0; (dtype = kit_dtype_at(s, k)) >= 0; k++) {
            kit_case c;
            kit_want w = {.layout = 1};
            peri_support answer;
            peri_error e = {0};
            if (kit_can_decode((uint32_t)dtype) || !kit_is_wanted(p, s, (uint32_t)dtype)) continue;
            if (kit_case_init(&c, s, (uint32_t)dtype, &w) &&
                kit_case_ask(p, &c, 64, &answer, &e) == PERI_OK && answer.yes)
                kit_note("weights of type %s are taken and not checked: the kit does not decode "
                         "them",
                         kit_type_name(&c));
            kit_case_fini(&c);
        }
        return;
    }
}

void kit_stage_ops(kit_plugin *p) {
    kit_host_now.n_worker = KIT_WORKERS;
    if (!kit_open(p)) return;
    kit_each_case(p, true, run_and_check);
    note_unchecked(p);
    kit_close(p);
}

/* ---- against itself
 * ------------------------------------------------------------------------------ */

/* Compare operand k from row `first` of the whole on; false after a finding. */
static bool is_same(kit_case *whole, const kit_result *a, const kit_result *b, uint32_t k,
                    size_t skip, const char *what) {
    size_t width = 4, n_col = (size_t)whole->x[k].dim[3];
    const unsigned char *want = a->out[k] + skip, *got = b->out[k];
    for (size_t i = 0; i < b->n_out[k]; i += width) {
        float found, expected;
        if (memcmp(want + i, got + i, width) == 0) continue;
        memcpy(&found, got + i, width);
        memcpy(&expected, want + i, width);
        size_t at = (skip + i) / width;
        kit_spot spot = {k, (int64_t)(at / n_col), (int64_t)(at % n_col), (double)found,
                         (double)expected};
        kit_find_at(whole, &spot, "other bits %s (numerics %s)", what, a->numerics);
        return false;
    }
    return true;
}

/* Compare a run of c, all of the whole or a part of it, with the whole's rows. */
static bool run_again(kit_plugin *p, kit_case *c, kit_case *whole, const kit_result *a,
                      int32_t first, const char *what) {
    kit_result r;
    kit_case_run(p, c, &r);
    bool is_good = r.outcome == KIT_RAN;
    if (!is_good)
        kit_find(c, "a part of a case that ran whole (%s): %s", what,
                 r.outcome == KIT_BROKEN ? r.text : "declined");
    for (uint32_t k = c->n_in; k < c->n_in + c->n_out && is_good; k++) {
        size_t per_tok = a->n_out[k] / (size_t)whole->step.n[PERI_SYM_T];
        is_good = is_same(whole, a, &r, k, per_tok * (size_t)first, what);
    }
    kit_result_fini(&r);
    return is_good;
}

/* The whole once more, in the host's current state. */
static bool repeat(kit_plugin *p, kit_case *whole, const kit_result *a, const char *what) {
    return run_again(p, whole, whole, a, 0, what);
}

static bool run_part(kit_plugin *p, kit_case *whole, const kit_result *a, kit_want w,
                     const char *what) {
    kit_case c;
    w.whole = whole;
    bool is_good = kit_case_init(&c, whole->shape, whole->dtype, &w);
    if (is_good)
        is_good = run_again(p, &c, whole, a, w.first, what);
    else
        kit_find(NULL, "the kit is out of memory");
    kit_case_fini(&c);
    return is_good;
}

/* A device keeps the number of its workers while it is open. */
static bool reopen(kit_plugin *p, uint32_t n_worker) {
    kit_close(p);
    kit_host_now.n_worker = n_worker;
    return kit_open(p);
}

static bool check_threads(kit_plugin *p, kit_case *c, const kit_result *a) {
    enum { ORDERS = 6, RACES = 24, RACES_RARE = 6 };
    bool is_usual = !strchr(c->shape->operands, 'w') || c->dtype == PERI_DT_F32 ||
                    c->dtype == PERI_DT_F16 || c->dtype == PERI_DT_Q8_0 ||
                    c->dtype == PERI_DT_Q4_0 || c->dtype == PERI_DT_Q4_K;
    uint64_t n_race = is_usual ? RACES : RACES_RARE; /* types share most of their code */
    bool is_good = repeat(p, c, a, "when run again");
    for (uint64_t i = 1; i <= ORDERS && is_good; i++) {
        kit_host_now.shuffle = i * 7;
        is_good = repeat(p, c, a, "when the items of a job run in another order");
    }
    if (!reopen(p, KIT_WORKERS)) return false;
    for (uint64_t i = 0; i < n_race && is_good; i++) {
        kit_host_now.shuffle = i * 5;
        is_good = repeat(p, c, a, "with several threads");
    }
    kit_host_now.shuffle = 0;
    return reopen(p, 1) && is_good;
}

static bool check_pieces(kit_plugin *p, kit_case *c, const kit_result *a) {
    static const int32_t few[] = {1, 2, 3, 7, 8}, many[] = {33, 64, 67, 128};
    bool is_long = c->shape->n_tok > 64;
    const int32_t *pieces = is_long ? many : few;
    size_t n_piece = is_long ? sizeof many / sizeof *many : sizeof few / sizeof *few;
    bool is_good = true;
    for (uint64_t layout = 2; layout < 5 && is_good; layout++) {
        kit_want w = {.layout = layout};
        is_good = run_part(p, c, a, w, "when operands lie elsewhere, and keys in other blocks");
    }
    for (size_t i = 0; i < n_piece && is_good; i++)
        for (int32_t t = 0; t < c->shape->n_tok && is_good; t += pieces[i]) {
            char what[64];
            int32_t left = c->shape->n_tok - t;
            kit_want w = {.layout = 1, .first = t, .n_tok = left < pieces[i] ? left : pieces[i]};
            snprintf(what, sizeof what, "when tokens come in pieces of %d", (int)pieces[i]);
            is_good = run_part(p, c, a, w, what);
        }
    return is_good;
}

static bool check_invariance(kit_plugin *p, kit_case *c) {
    kit_result a;
    if (c->shape->code == PERI_OP_KV_APPEND || strchr(c->shape->operands, 'z'))
        return true; /* a copy: equal bits are asked of it anyway; rows wanted: no whole to cut */
    kit_case_run(p, c, &a);
    bool is_good = a.outcome != KIT_RAN || check_threads(p, c, &a);
    if (a.outcome == KIT_RAN && is_good && (p->info.flags & PERI_DEV_BATCH_INVARIANT))
        is_good = check_pieces(p, c, &a);
    kit_result_fini(&a);
    return is_good;
}

void kit_stage_invariance(kit_plugin *p) {
    if (!kit_open(p)) return;
    if (!(p->info.flags & PERI_DEV_BATCH_INVARIANT))
        kit_note("the device does not claim PERI_DEV_BATCH_INVARIANT: only repeated runs were "
                 "compared");
    kit_each_case(p, false, check_invariance);
    kit_close(p);
}
