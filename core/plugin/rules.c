/* SPDX-License-Identifier: MIT
 *
 * rules.c - reading rules of placement, and which part each of them decides. */
#include "plugin/rules.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"

#include "base/compiler.h"

typedef struct reader {
    const char *text, *at;
    peri_error *err;
} reader;

static const struct {
    const char *word;
    peri_rule_part part;
} words[] = {{"layers", PERI_RULE_LAYERS},
             {"layer", PERI_RULE_LAYERS},
             {"experts", PERI_RULE_EXPERTS},
             {"embedding", PERI_RULE_EMBEDDING},
             {"head", PERI_RULE_HEAD}};

static void skip_spaces(reader *r) {
    r->at += strspn(r->at, " \t");
}

static bool is_end(const reader *r) {
    return *r->at == 0 || *r->at == ';' || *r->at == '\n' || *r->at == '\r';
}

static size_t word_size(const reader *r) {
    return strcspn(r->at, " \t;\n\r");
}

static peri_status expected(const reader *r, const char *what) {
    size_t column = (size_t)(r->at - r->text) + 1;
    if (is_end(r))
        return peri_fail(r->err, PERI_E_INVALID,
                         "column %zu: found the end of the rule, expected %s", column, what);
    return peri_fail(r->err, PERI_E_INVALID, "column %zu: found \"%.*s\", expected %s", column,
                     (int)(word_size(r) < 40 ? word_size(r) : 40), r->at, what);
}

static bool take_word(reader *r, const char *word) {
    size_t n = word_size(r);
    if (strlen(word) != n || strncmp(r->at, word, n) != 0) return false;
    r->at += n;
    skip_spaces(r);
    return true;
}

/* At most six digits, so that no sum of them overflows. */
static bool take_number(reader *r, uint32_t *out) {
    size_t n = strspn(r->at, "0123456789");
    if (n == 0 || n > 6) return false;
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out = *out * 10 + (uint32_t)(r->at[i] - '0');
    r->at += n;
    return true;
}

static peri_status take_range(reader *r, peri_rule *rule) {
    rule->last = PERI_RULE_ALL;
    if (*r->at < '0' || *r->at > '9') return PERI_OK;
    const char *start = r->at;
    bool ok = take_number(r, &rule->first);
    rule->last = rule->first;
    if (ok && *r->at == '-') {
        r->at++;
        ok = take_number(r, &rule->last) && rule->last >= rule->first;
    }
    ok = ok && (*r->at == ' ' || *r->at == '\t');
    if (!ok) {
        r->at = start;
        return expected(r, "a layer or a range of layers, as in 0-9");
    }
    skip_spaces(r);
    return PERI_OK;
}

static peri_status take_rule(reader *r, peri_rule *rule) {
    const char *start = r->at;
    size_t i = 0;
    peri_status st = PERI_OK;
    *rule = (peri_rule){.column = (uint32_t)(start - r->text) + 1};
    while (i < sizeof words / sizeof *words && !take_word(r, words[i].word))
        i++;
    if (i == sizeof words / sizeof *words) return expected(r, "layers, experts, embedding or head");
    rule->part = words[i].part;
    rule->last = PERI_RULE_ALL;
    if (rule->part == PERI_RULE_LAYERS || rule->part == PERI_RULE_EXPERTS) st = take_range(r, rule);
    if (st) return st;
    if (!take_word(r, "on")) return expected(r, "\"on\" and a device");
    size_t n = word_size(r);
    if (n == 0 || n >= sizeof rule->device) return expected(r, "the name of a device");
    memcpy(rule->device, r->at, n);
    r->at += n;
    snprintf(rule->text, sizeof rule->text, "%.*s", (int)(r->at - start), start);
    skip_spaces(r);
    return is_end(r) ? PERI_OK : expected(r, "\";\" and another rule");
}

peri_status peri_rules_parse(const char *text, peri_rules *out, peri_error *err) {
    reader r = {text, text, err};
    out->n = 0;
    while (text) {
        r.at += strspn(r.at, " \t;\n\r");
        if (*r.at == 0) break;
        if (out->n == PERI_RULE_MAX)
            return peri_fail(err, PERI_E_INVALID, "column %zu: more than %d rules",
                             (size_t)(r.at - text) + 1, PERI_RULE_MAX);
        peri_status st = take_rule(&r, &out->rule[out->n]);
        if (st) return st;
        out->n++;
    }
    return PERI_OK;
}

/* Parts of layers first..last: `offset` 1 is the layer, 2 its experts. */
static void mark(const peri_rule *rule, uint8_t number, uint32_t offset, uint32_t n_layer,
                 uint8_t *place) {
    for (uint32_t il = rule->first; il < n_layer && il <= rule->last; il++)
        place[2 * il + offset] = number;
}

peri_status peri_rules_apply(const peri_rules *r, uint32_t n_layer, uint8_t *place,
                             peri_error *err) {
    memset(place, PERI_RULE_FREE, 2 * (size_t)n_layer + 2);
    for (uint32_t i = 0; i < r->n; i++) {
        const peri_rule *rule = &r->rule[i];
        if (rule->last == PERI_RULE_ALL || rule->last < n_layer) continue;
        return peri_fail(err, PERI_E_RANGE, "column %u: \"%s\": the model has layers 0 to %u",
                         rule->column, rule->text, n_layer - 1);
    }
    for (uint32_t i = 0; i < r->n; i++) {
        const peri_rule *rule = &r->rule[i];
        if (rule->part == PERI_RULE_EMBEDDING) place[0] = (uint8_t)i;
        if (rule->part == PERI_RULE_HEAD) place[2 * n_layer + 1] = (uint8_t)i;
        if (rule->part != PERI_RULE_LAYERS) continue;
        mark(rule, (uint8_t)i, 1, n_layer, place);
        mark(rule, (uint8_t)i, 2, n_layer, place);
    }
    for (uint32_t i = 0; i < r->n; i++)
        if (r->rule[i].part == PERI_RULE_EXPERTS) mark(&r->rule[i], (uint8_t)i, 2, n_layer, place);
    return PERI_OK;
}
