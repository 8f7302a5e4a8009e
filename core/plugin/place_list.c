/* SPDX-License-Identifier: MIT
 *
 * place_list.c - which devices share a model.
 *
 * The ones named, in their order; else the one that place.c chooses, with the other native ones in
 * reserve for what it cannot do; else, where the fastest has no room for all weights, every native
 * one by its speed. */
#include <stdio.h>
#include <string.h>

#include "plugin/place_int.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

static bool is_listed(const peri_place_list *l, size_t i) {
    for (uint32_t k = 0; k < l->n + l->n_reserve; k++)
        if (l->device[k] == i) return true;
    return false;
}

/* Mark the usable devices that are not listed yet and go by `name` (NULL: all native ones). */
static void mark(const peri_registry *r, const char *name, const peri_place_list *l,
                 bool *is_candidate) {
    for (size_t i = 0; i < r->n_device; i++)
        is_candidate[i] =
            r->device[i].is_usable && !is_listed(l, i) &&
            (name ? peri_place_is_named(r, i, name) : !peri_place_is_emulated(&r->device[i]));
}

/* The devices named, in their order. */
static peri_status list_named(const peri_registry *r, const peri_reads *reads, const char *wanted,
                              bool *is_candidate, peri_place_list *l, peri_error *err) {
    const peri_reads none = {0};
    peri_text skipped = {0};
    char name[64], why[PERI_PLACE_REASON];
    for (const char *s = wanted; *s != 0 && l->n < PERI_SPLIT_DEVICES; s += *s == ',') {
        size_t n = strcspn(s, ",");
        snprintf(name, sizeof name, "%.*s", (int)n, s);
        s += n;
        if (n == 0) continue;
        mark(r, name, l, is_candidate);
        size_t best = peri_place_best(r, reads, is_candidate);
        if (best < r->n_device) {
            l->device[l->n++] = best;
            continue;
        }
        peri_place_why_not(r, name, &none, why, sizeof why);
        for (uint32_t k = 0; k < l->n; k++)
            if (peri_place_is_named(r, l->device[k], name))
                snprintf(why, sizeof why, "named once more than there are devices of that name");
        peri_text_addf(&skipped, "%s%s: %s", skipped.size ? "; " : "", name, why);
    }
    peri_status st = PERI_OK;
    if (l->n == 0)
        st = peri_fail(err, skipped.failed ? PERI_E_NOMEM : PERI_E_NO_DEVICE, "device %s",
                       skipped.size && !skipped.failed ? skipped.data : wanted);
    else if (skipped.size)
        snprintf(l->skipped, sizeof l->skipped, "%s",
                 skipped.failed ? "out of memory for the reason" : skipped.data);
    peri_text_fini(&skipped);
    return st;
}

/* All native devices that are not listed yet, by speed. */
static uint32_t list_native(const peri_registry *r, const peri_reads *reads, bool *is_candidate,
                            peri_place_list *l) {
    uint32_t n = 0;
    for (;;) {
        mark(r, NULL, l, is_candidate);
        for (uint32_t k = 0; k < n; k++)
            is_candidate[l->device[l->n + k]] = false;
        size_t best = peri_place_best(r, reads, is_candidate);
        if (best == r->n_device || l->n + n == PERI_SPLIT_DEVICES) return n;
        l->device[l->n + n++] = best;
    }
}

/* Is there a native device that is faster than the chosen one and only lacks room for everything?
 */
static bool has_faster(const peri_registry *r, const peri_reads *reads, size_t chosen) {
    for (size_t i = 0; i < r->n_device; i++)
        if (r->device[i].is_usable && !peri_place_is_emulated(&r->device[i]) &&
            peri_place_gbps(r, i, reads) > 0 && i != chosen &&
            peri_place_is_better(r, reads, i, chosen))
            return true;
    return false;
}

static void find_all_bandwidths(peri_registry *r, const peri_reads *reads,
                                const peri_place_list *l) {
    for (uint32_t k = 0; l->n > 1 && k < l->n; k++)
        peri_place_measure(r, reads, l->device[k]);
}

/* A fast device without room for everything takes a part, so its speed matters as well. */
static void find_native_bandwidths(peri_registry *r, const peri_reads *reads) {
    size_t n = 0;
    for (size_t i = 0; i < r->n_device; i++)
        n += r->device[i].is_usable && !peri_place_is_emulated(&r->device[i]);
    for (size_t i = 0; n > 1 && i < r->n_device; i++)
        if (r->device[i].is_usable && !peri_place_is_emulated(&r->device[i]))
            peri_place_measure(r, reads, i);
}

/* "gpu0, cpu: asked for in this order", or that none has room for all. */
static void explain_several(const peri_registry *r, bool is_asked_for, peri_place_list *l) {
    peri_text t = {0};
    for (uint32_t k = 0; k < l->n; k++)
        peri_text_addf(&t, "%s%s", k ? ", " : "", r->device[l->device[k]].info.name);
    peri_text_add_str(&t, is_asked_for
                              ? ": asked for in this order"
                              : ": the fastest has no room for all weights; by their speed");
    if (!t.failed) peri_escape(l->choice.why, sizeof l->choice.why, t.data);
    peri_text_fini(&t);
}

/* One name: its device.  None: the best, with all other native devices in reserve, or all native
 * ones where together they may be faster or have room. */
static peri_status list_best(peri_registry *r, const peri_reads *reads, const char *wanted,
                             bool *is_candidate, peri_place_list *l, peri_error *err) {
    bool is_free = wanted == NULL || *wanted == 0;
    if (is_free) find_native_bandwidths(r, reads);
    peri_status st = peri_place_choose(r, reads, wanted, &l->choice, err);
    if (st != PERI_OK && !(is_free && st == PERI_E_NO_DEVICE)) return st;
    if (st != PERI_OK || (is_free && has_faster(r, reads, l->choice.device))) {
        uint32_t n = list_native(r, reads, is_candidate, l);
        if (n < 2 && st != PERI_OK) return st;
        if (n >= 2) {
            l->n = n;
            return PERI_OK;
        }
    }
    l->n = 1;
    l->device[0] = l->choice.device;
    if (is_free) l->n_reserve = list_native(r, reads, is_candidate, l);
    return PERI_OK;
}

/* Why the first of the list, and why these. */
static void explain_list(const peri_registry *r, const peri_reads *reads, const char *asked_for,
                         bool *is_candidate, peri_place_list *l) {
    for (size_t i = 0; i < r->n_device; i++)
        is_candidate[i] = i == l->device[0];
    l->choice.device = l->device[0];
    peri_place_explain(r, is_candidate, reads, asked_for, &l->choice);
    if (l->n > 1) explain_several(r, asked_for != NULL, l);
}

peri_status peri_place_candidates(peri_registry *r, const peri_reads *reads, const char *wanted,
                                  peri_place_list *out, peri_error *err) {
    bool *is_candidate = peri_calloc(r->n_device, sizeof *is_candidate);
    *out = (peri_place_list){0};
    if (is_candidate == NULL) return peri_fail(err, PERI_E_NOMEM, "placement: out of memory");
    bool is_list = wanted != NULL && strchr(wanted, ',') != NULL;
    peri_status st = is_list ? list_named(r, reads, wanted, is_candidate, out, err)
                             : list_best(r, reads, wanted, is_candidate, out, err);
    if (st == PERI_OK) find_all_bandwidths(r, reads, out);
    if (st == PERI_OK && (is_list || out->n > 1))
        explain_list(r, reads, is_list ? wanted : NULL, is_candidate, out);
    peri_free(is_candidate);
    return st;
}

/* Position k of the list becomes the last of those to be used. */
static void use_reserve(peri_place_list *l, uint32_t k) {
    size_t device = l->device[k];
    for (; k > l->n; k--)
        l->device[k] = l->device[k - 1];
    l->device[l->n++] = device;
    l->n_reserve--;
}

/* None of the list goes by the name: append the best that does. */
static peri_status append_named(peri_registry *r, const peri_reads *reads, const char *name,
                                peri_place_list *l, peri_error *err) {
    char why[PERI_PLACE_REASON];
    bool *is_candidate = peri_calloc(r->n_device, sizeof *is_candidate);
    if (is_candidate == NULL) return peri_fail(err, PERI_E_NOMEM, "placement: out of memory");
    mark(r, name, l, is_candidate);
    size_t best = peri_place_best(r, reads, is_candidate);
    peri_free(is_candidate);
    if (best == r->n_device) {
        const peri_reads none = {0};
        peri_place_why_not(r, name, &none, why, sizeof why);
        return peri_fail(err, PERI_E_NO_DEVICE, "device %s: %s", name, why);
    }
    if (l->n + l->n_reserve == PERI_SPLIT_DEVICES) {
        if (l->n_reserve == 0)
            return peri_fail(err, PERI_E_RANGE, "device %s: more than %d devices", name,
                             PERI_SPLIT_DEVICES);
        l->n_reserve--;
    }
    l->device[l->n + l->n_reserve++] = best;
    use_reserve(l, l->n + l->n_reserve - 1);
    return PERI_OK;
}

peri_status peri_place_add(peri_registry *r, const peri_reads *reads, const char *name,
                           peri_place_list *list, size_t *device, peri_error *err) {
    uint32_t k = 0, n_before = list->n;
    while (k < list->n + list->n_reserve && !peri_place_is_named(r, list->device[k], name))
        k++;
    peri_status st = PERI_OK;
    if (k == list->n + list->n_reserve)
        st = append_named(r, reads, name, list, err);
    else if (k >= list->n)
        use_reserve(list, k);
    if (st != PERI_OK) return st;
    *device = list->device[k < n_before ? k : list->n - 1];
    if (list->n > n_before) find_all_bandwidths(r, reads, list);
    return PERI_OK;
}
