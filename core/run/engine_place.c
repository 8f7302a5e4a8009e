/* SPDX-License-Identifier: MIT
 *
 * engine_place.c - which devices a model is placed on, and what happens when one of them cannot.
 *
 * Problem.  Whether a device can run a model is only known when everything has been tried: ops are
 * asked, memory is allocated.  A device that fails is no reason to give up while others are left.
 *
 * Choice.  The candidates of place.c are placed together.  When that fails and a device is to
 * blame, in this order: (1) the native devices held in reserve join, when the user named none; (2)
 * a device that ran out of memory is given less, once; (3) it is left out, unless a rule of the
 * user's names it.  Each is one line in the log, and with --strict an error instead; so is a name
 * in the list that stands for no device. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/status.h"
#include "run/engine.h"

#include "base/compiler.h"

typedef struct attempt {
    size_t device[PERI_SPLIT_DEVICES];
    uint64_t limit[PERI_SPLIT_DEVICES];
    uint32_t n, n_reserve;
} attempt;

static const char *name_of(const peri_registry *r, size_t device) {
    return peri_registry_device(r, device)->info.name;
}

/* Is it a device that cannot, and not the model or this process? */
static bool is_of_device(const peri_engine *e, peri_status st) {
    bool has_own = false;
    for (uint32_t d = 0; d < e->n_device; d++)
        has_own = has_own || !(e->backend[d]->info.flags & PERI_DEV_HOST_MEM);
    return st == PERI_E_NO_DRIVER || st == PERI_E_DEVICE_LOST || st == PERI_E_UNSUPPORTED ||
           (st == PERI_E_NOMEM && has_own);
}

static void join_reserve(const peri_registry *r, attempt *a, const char *why) {
    a->n += a->n_reserve;
    a->n_reserve = 0;
    peri_log(
        PERI_LOG_WARN, "device %s was preferred but cannot run all of this model (%s); %s%s help",
        name_of(r, a->device[0]), why, name_of(r, a->device[1]), a->n > 2 ? " and others" : " may");
}

static void leave_out(const peri_registry *r, attempt *a, uint32_t d, const char *why) {
    size_t device = a->device[d];
    for (uint32_t i = d; i + 1 < a->n; i++) {
        a->device[i] = a->device[i + 1];
        a->limit[i] = a->limit[i + 1];
    }
    a->n--;
    peri_log(PERI_LOG_WARN, "device %s was preferred but cannot run this model (%s); using %s",
             name_of(r, device), why, name_of(r, a->device[0]));
}

/* Change the attempt for the next try; false when there is nothing left to try. */
static bool change(peri_engine *e, const peri_registry *r, attempt *a, peri_status st,
                   const peri_error *why) {
    uint32_t d = e->failed;
    if (a->n_reserve) {
        join_reserve(r, a, why->text);
        return true;
    }
    if (a->n < 2 || d >= a->n) return false;
    for (uint32_t i = 0; e->rules && i < e->rules->n; i++)
        if (e->rule_device[i] == a->device[d]) return false;
    uint64_t held = d < e->n_device ? e->device[d].weight_bytes + e->device[d].kv_bytes : 0;
    if (st == PERI_E_NOMEM && held && a->limit[d] == UINT64_MAX) {
        a->limit[d] = held - held / 8;
        peri_log(
            PERI_LOG_WARN,
            "device %s ran out of memory (%s); it gets %llu MiB and the other devices the rest",
            name_of(r, a->device[d]), why->text, (unsigned long long)(a->limit[d] >> 20));
        return true;
    }
    leave_out(r, a, d, why->text);
    return true;
}

/* "a on x: ...; with b for what it does not hold". */
static void explain(peri_engine *e, const peri_place_list *list, const attempt *a,
                    const peri_error *why) {
    const peri_registry *r = e->registry;
    e->choice = list->choice;
    if (a->device[0] != list->device[0]) {
        e->choice.device = a->device[0];
        snprintf(e->choice.why, sizeof e->choice.why, "%s instead of %s: %.150s",
                 name_of(r, a->device[0]), name_of(r, list->device[0]), why->text);
    }
    size_t n = strlen(e->choice.why);
    if (strchr(e->names, ','))
        snprintf(e->choice.why + n, sizeof e->choice.why - n, "; on %s together", e->names);
}

/* Bytes of matrices by type, from the file alone; types with less than a tenth do not count. */
static peri_reads reads_of(const peri_gguf *g) {
    peri_reads all = {.bytes = peri_gguf_file_bytes(g)}, r = {.bytes = all.bytes};
    uint64_t sum = 0;
    for (uint64_t i = 0; i < peri_gguf_n_tensors(g); i++) {
        const peri_gguf_tensor *t = peri_gguf_tensor_at(g, i);
        uint32_t k = 0;
        if (t->dim[2] < 2) continue;
        while (k < all.n_type && all.type[k].dtype != t->dtype)
            k++;
        if (k == PERI_FIGURE_TYPES) continue;
        if (k == all.n_type) all.type[all.n_type++].dtype = t->dtype;
        all.type[k].bytes += t->bytes;
        sum += t->bytes;
    }
    for (;;) {
        uint32_t most = 0;
        for (uint32_t k = 1; k < all.n_type; k++)
            if (all.type[k].bytes > all.type[most].bytes) most = k;
        if (!all.n_type || all.type[most].bytes <= sum / 10) return r;
        r.type[r.n_type++] = all.type[most];
        all.type[most].bytes = 0;
    }
}

/* ---- rules --------------------------------------------------------------------------------------
 */

static peri_status read_rules(peri_engine *e, peri_error *err) {
    uint32_t n_layer = (uint32_t)e->a->n_layer;
    if (!e->o.place || !*e->o.place) return PERI_OK;
    e->rules = peri_calloc(1, sizeof *e->rules);
    e->rule_of = peri_calloc(2 * (size_t)n_layer + 2, 1);
    if (!e->rules || !e->rule_of) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    peri_status st = peri_rules_parse(e->o.place, e->rules, err);
    if (!st) st = peri_rules_apply(e->rules, n_layer, e->rule_of, err);
    return st ? peri_wrap(err, "rules of placement") : PERI_OK;
}

/* The devices that rules name are used, whatever else is. */
static peri_status add_named(peri_engine *e, peri_registry *r, peri_place_list *list,
                             peri_error *err) {
    for (uint32_t i = 0; e->rules && i < e->rules->n; i++) {
        const peri_rule *rule = &e->rules->rule[i];
        peri_status st = peri_place_add(r, &e->reads, rule->device, list, &e->rule_device[i], err);
        if (st) return peri_wrap(err, "rules of placement: column %u", rule->column);
    }
    return PERI_OK;
}

uint32_t peri_engine_decided_by(const peri_engine *e, uint32_t i) {
    uint32_t n = 0;
    for (uint32_t p = 0; p < 2 * (uint32_t)e->a->n_layer + 2; p++)
        n += e->rule_of[p] == i && !(e->split.is_empty && e->split.is_empty[p]);
    return n;
}

/* A rule that decides nothing is a misunderstanding. */
static peri_status check_rules(const peri_engine *e, peri_error *err) {
    for (uint32_t i = 0; e->rules && i < e->rules->n; i++) {
        const peri_rule *rule = &e->rules->rule[i];
        if (peri_engine_decided_by(e, i)) continue;
        if (e->o.is_strict)
            return peri_fail(err, PERI_E_INVALID,
                             "--strict: rules of placement: column %u: \"%s\" decides nothing",
                             rule->column, rule->text);
        peri_log(PERI_LOG_WARN,
                 "rules of placement: column %u: \"%s\" decides nothing: the model has no such "
                 "part, or later rules decide it",
                 rule->column, rule->text);
    }
    return PERI_OK;
}

peri_status peri_engine_place(peri_engine *e, peri_registry *r, peri_error *err) {
    peri_place_list list;
    peri_error why = {0};
    e->reads = reads_of(e->g);
    peri_status st = read_rules(e, err);
    if (!st) st = peri_place_candidates(r, &e->reads, e->o.device, &list, err);
    if (!st) st = add_named(e, r, &list, err);
    if (st) return st;
    if (list.skipped[0] && e->o.is_strict)
        return peri_fail(err, PERI_E_NO_DEVICE, "--strict: device %s", list.skipped);
    if (list.skipped[0]) peri_log(PERI_LOG_WARN, "device %s", list.skipped);
    attempt a = {.n = list.n, .n_reserve = list.n_reserve};
    memcpy(a.device, list.device, sizeof a.device);
    for (uint32_t d = 0; d < PERI_SPLIT_DEVICES; d++)
        a.limit[d] = UINT64_MAX;
    for (;;) {
        st = peri_engine_settle(e, r, a.device, a.limit, a.n, err);
        if (!st) {
            explain(e, &list, &a, &why);
            return check_rules(e, err);
        }
        bool is_first = !why.code; /* the first reason is the one that tells most */
        if (is_first) why = *err;
        if (e->o.is_strict || !is_of_device(e, st) || !change(e, r, &a, st, err)) {
            if (is_first) return st;
            peri_error last = *err;
            return peri_fail(err, why.code, "%.120s; then: %.110s", why.text, last.text);
        }
        peri_engine_unsettle(e);
    }
}
