/* SPDX-License-Identifier: MIT
 *
 * sampling.c - the parameters by name: reading, checking, defaults by origin, order of the links.
 */
#include "run/sampling.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/suggest.h"
#include "run/grammar.h"

#include "base/compiler.h"

#define KEY(suffix) (sizeof suffix > 1 ? "general.sampling." suffix : NULL)
#define PERI_SAMPLING_PARAM(name, kind, lo, hi, off, run, ollama, openai, key, meaning)            \
    {#name,   PERI_SAMPLING_##kind,         lo, hi, {off, run, ollama, openai}, KEY(key),          \
     meaning, offsetof(peri_sampling, name)},
const peri_sampling_param peri_sampling_params[] = {
#include "run/sampling.def"
};
const size_t peri_sampling_n_param = sizeof peri_sampling_params / sizeof peri_sampling_params[0];
enum { N_PARAM = sizeof peri_sampling_params / sizeof peri_sampling_params[0] };

typedef struct link_name {
    const char *name;
    char letter;
} link_name;
static const link_name links[PERI_N_LINK] = {
#define PERI_SAMPLING_LINK(name, text, letter) [PERI_LINK_##name] = {text, letter},
#include "run/sampling.def"
};

/* Other words for the same thing: those of the peer's and Ollama's request fields. */
static const struct {
    const char *other, *name;
} same_param[] = {{"temperature", "temp"}, {"typ_p", "typical_p"}},
  same_link[] = {{"temp", "temperature"},
                 {"typical", "typ_p"},
                 {"typical_p", "typ_p"},
                 {"top_sigma", "top_n_sigma"}};

/* What is no parameter of the table but can be set by "name=value". */
static const char *const more_names[] = {
    "seed", "samplers", "logit_bias", "dry_sequence_breaker", "grammar", "grammar_trigger"};
enum { N_MORE = sizeof more_names / sizeof more_names[0] };

int peri_sampling_find(const char *name) {
    for (size_t i = 0; i < sizeof same_param / sizeof same_param[0]; i++)
        if (strcmp(name, same_param[i].other) == 0) name = same_param[i].name;
    for (int i = 0; i < N_PARAM; i++)
        if (strcmp(name, peri_sampling_params[i].name) == 0) return i;
    return -1;
}

double peri_sampling_get(const peri_sampling *p, size_t i) {
    const char *at = (const char *)p + peri_sampling_params[i].off;
    float real;
    int32_t whole;
    if (peri_sampling_params[i].kind == PERI_SAMPLING_REAL) {
        memcpy(&real, at, sizeof real);
        return (double)real;
    }
    memcpy(&whole, at, sizeof whole);
    return whole;
}

static void put(peri_sampling *p, size_t i, double x) {
    char *at = (char *)p + peri_sampling_params[i].off;
    float real = (float)x;
    if (peri_sampling_params[i].kind == PERI_SAMPLING_REAL) {
        memcpy(at, &real, sizeof real);
    } else {
        int32_t whole = (int32_t)x;
        memcpy(at, &whole, sizeof whole);
    }
}

static peri_status check_value(size_t i, double x, peri_error *err) {
    const peri_sampling_param *q = &peri_sampling_params[i];
    bool is_whole = q->kind != PERI_SAMPLING_REAL;
    /* hi in float as well: 0.99 as a float is a little more than 0.99. */
    double hi = is_whole ? q->hi : (double)(float)q->hi;
    if (x >= q->lo && (x <= q->hi || x <= hi) && (!is_whole || x == floor(x))) return PERI_OK;
    return peri_fail(err, PERI_E_RANGE, "%s: found %.9g, expected a %snumber from %g to %.10g",
                     q->name, x, is_whole ? "whole " : "", q->lo, q->hi);
}

static peri_status unknown(const char *name, peri_error *err) {
    const char *names[N_PARAM + N_MORE];
    for (size_t i = 0; i < N_PARAM; i++)
        names[i] = peri_sampling_params[i].name;
    memcpy(names + N_PARAM, more_names, sizeof more_names);
    const char *near = peri_nearest(name, names, N_PARAM + N_MORE);
    if (near)
        return peri_fail(err, PERI_E_NOT_FOUND, "%s: no such sampling parameter; did you mean %s?",
                         name, near);
    return peri_fail(err, PERI_E_NOT_FOUND, "%s: no such sampling parameter", name);
}

peri_status peri_sampling_set(peri_sampling *p, const char *name, double value, peri_error *err) {
    if (strcmp(name, "seed") == 0) {
        if (!(value >= 0 && value <= 0x1p53 && value == floor(value)))
            return peri_fail(err, PERI_E_RANGE,
                             "seed: found %.17g, expected a whole number from 0 to 2^53", value);
        p->seed = (uint64_t)value;
        return PERI_OK;
    }
    int i = peri_sampling_find(name);
    if (i < 0) return unknown(name, err);
    peri_status st = check_value((size_t)i, value, err);
    if (!st) put(p, (size_t)i, value);
    return st;
}

/* ---- defaults -------------------------------------------------------------------------------- */

const char *peri_sampling_origin(size_t i, peri_origin origin, const peri_gguf *g) {
    static const char *const whose[PERI_N_ORIGIN] = {"off", "default of run", "default of Ollama",
                                                     "default of /v1"};
    const char *key = peri_sampling_params[i].key;
    if (key && origin != PERI_ORIGIN_OFF && g && peri_gguf_find(g, key)) return key;
    return whose[origin];
}

static peri_status read_file(peri_sampling *p, const peri_gguf *g, peri_error *err) {
    peri_str order;
    double x;
    for (size_t i = 0; i < N_PARAM; i++) {
        const peri_sampling_param *q = &peri_sampling_params[i];
        const peri_gguf_value *v = q->key ? peri_gguf_find(g, q->key) : NULL;
        if (!v) continue;
        if (v->is_array || !peri_gguf_as_f64(v, 0, &x))
            return peri_gguf_fail_key(g, v, err, "expected a number");
        peri_error why;
        if (check_value(i, x, &why)) return peri_gguf_fail_key(g, v, err, "%s", why.text);
        put(p, i, x);
    }
    const peri_gguf_value *v = peri_gguf_find(g, "general.sampling.sequence");
    if (!v) return PERI_OK;
    char text[256];
    peri_error why;
    if (!peri_gguf_as_str(v, 0, &order) || order.size >= sizeof text)
        return peri_gguf_fail_key(g, v, err, "expected a text of names of samplers");
    memcpy(text, order.size ? order.data : "", order.size);
    text[order.size] = 0;
    if (peri_sampling_set_order(p, text, &why))
        return peri_gguf_fail_key(g, v, err, "%s", why.text);
    return PERI_OK;
}

peri_status peri_sampling_init(peri_sampling *p, peri_origin origin, const peri_gguf *g,
                               peri_error *err) {
    memset(p, 0, sizeof *p);
    for (size_t i = 0; i < N_PARAM; i++)
        put(p, i, peri_sampling_params[i].value[origin]);
    return g && origin != PERI_ORIGIN_OFF ? read_file(p, g, err) : PERI_OK;
}

/* ---- order ----------------------------------------------------------------------------------- */

static int find_link(const char *name) {
    for (size_t i = 0; i < sizeof same_link / sizeof same_link[0]; i++)
        if (strcmp(name, same_link[i].other) == 0) name = same_link[i].name;
    for (int i = 1; i < PERI_N_LINK; i++)
        if (strcmp(name, links[i].name) == 0) return i;
    return 0;
}

static int find_letter(char c) {
    for (int i = 1; i < PERI_N_LINK; i++)
        if (links[i].letter == c) return i;
    return 0;
}

static peri_status unknown_link(const char *word, peri_error *err) {
    char known[256] = "";
    size_t used = 0;
    const char *names[PERI_N_LINK];
    for (int i = 1; i < PERI_N_LINK; i++) {
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i > 1 ? ", " : "",
                                 links[i].name);
        names[i - 1] = links[i].name;
    }
    const char *near = peri_nearest(word, names, PERI_N_LINK - 1);
    if (near)
        return peri_fail(err, PERI_E_NOT_FOUND,
                         "samplers: no sampler is called %s; did you mean "
                         "%s?",
                         word, near);
    return peri_fail(err, PERI_E_NOT_FOUND, "samplers: no sampler is called %s; there are %s", word,
                     known);
}

static peri_status add_link(peri_sampling *p, int link, peri_error *err) {
    if (p->n_order == PERI_MAX_ORDER)
        return peri_fail(err, PERI_E_RANGE, "samplers: more than %d names", PERI_MAX_ORDER);
    p->order[p->n_order++] = (uint8_t)link;
    return PERI_OK;
}

peri_status peri_sampling_add_link(peri_sampling *p, const char *name, peri_error *err) {
    int link = find_link(name);
    return link ? add_link(p, link, err) : unknown_link(name, err);
}

peri_status peri_sampling_add_policy(peri_sampling *p, size_t i, peri_error *err) {
    return add_link(p, PERI_LINK_POLICY + (int)i, err);
}

const char *peri_link_name(int link) {
    return links[link].name;
}

peri_status peri_sampling_set_order(peri_sampling *p, const char *text, peri_error *err) {
    static const char gaps[] = ";, \t";
    peri_sampling made = *p;
    peri_status st = PERI_OK;
    memset(made.order, 0, sizeof made.order);
    made.n_order = strcmp(text, "none") == 0 ? -1 : 0;
    const char *at = made.n_order ? "" : text;
    for (at += strspn(at, gaps); *at && !st; at += strspn(at, gaps)) {
        char word[64];
        size_t n = strcspn(at, gaps);
        snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), at);
        int link = find_link(word);
        bool is_letters = !link && !text[strcspn(text, gaps)];
        for (size_t i = 0; i < n && is_letters; i++)
            is_letters = find_letter(at[i]) != 0;
        if (link) st = add_link(&made, link, err);
        for (size_t i = 0; i < n && is_letters && !st; i++)
            st = add_link(&made, find_letter(at[i]), err);
        if (!link && !is_letters) st = unknown_link(word, err);
        at += n;
    }
    if (!st) *p = made;
    return st;
}

void peri_sampling_order(const peri_sampling *p, peri_text *dst) {
    static const uint8_t usual[] = PERI_DEFAULT_ORDER;
    const uint8_t *order = p->n_order > 0 ? p->order : usual;
    size_t n = p->n_order > 0 ? (size_t)p->n_order : p->n_order < 0 ? 0 : sizeof usual;
    for (size_t i = 0; i < n; i++) {
        bool is_policy = order[i] >= PERI_LINK_POLICY;
        peri_text_addf(dst, "%s%s%s", i ? ";" : "", is_policy ? "policy " : "",
                       is_policy ? p->policy[order[i] - PERI_LINK_POLICY].name
                                 : links[order[i]].name);
    }
}

/* ---- "name=value" ---------------------------------------------------------------------------- */

static peri_status add_bias(peri_sampling *p, peri_arena *a, const char *value, peri_error *err) {
    char *end;
    errno = 0;
    long id = strtol(value, &end, 10);
    float bias = -INFINITY;
    bool ok = end != value && *end == ':' && !errno && id >= 0 && id <= INT32_MAX;
    if (ok && strcmp(end + 1, "false") != 0) {
        const char *from = end + 1;
        bias = strtof(from, &end);
        ok = end != from && !*end && !isnan(bias) && bias < INFINITY;
    }
    if (!ok)
        return peri_fail(err, PERI_E_INVALID,
                         "logit_bias: found %s, expected ID:NUMBER or ID:false", value);
    if (p->n_bias >= PERI_MAX_BIAS)
        return peri_fail(err, PERI_E_RANGE, "logit_bias: more than %d", PERI_MAX_BIAS);
    peri_logit_bias *grown = peri_arena_alloc(a, p->n_bias + 1, sizeof *grown);
    if (!grown) return peri_fail(err, PERI_E_NOMEM, "out of memory for %zu biases", p->n_bias + 1);
    if (p->n_bias) memcpy(grown, p->bias, p->n_bias * sizeof *grown);
    grown[p->n_bias++] = (peri_logit_bias){(int32_t)id, bias};
    p->bias = grown;
    return PERI_OK;
}

static peri_status add_breaker(peri_sampling *p, peri_arena *a, const char *value,
                               peri_error *err) {
    if (p->n_breaker >= PERI_MAX_BREAKER)
        return peri_fail(err, PERI_E_RANGE, "dry_sequence_breaker: more than %d", PERI_MAX_BREAKER);
    const char **grown = peri_arena_alloc(a, p->n_breaker + 1, sizeof *grown);
    peri_str text = peri_arena_str(a, peri_str_of(value));
    if (!grown || !text.data)
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a sequence breaker");
    if (p->n_breaker) memcpy(grown, p->breaker, p->n_breaker * sizeof *grown);
    p->breaker = grown;
    if (strcmp(value, "none") != 0) grown[p->n_breaker++] = text.data;
    return PERI_OK;
}

static peri_status set_grammar(peri_sampling *p, peri_arena *a, const char *value,
                               peri_error *err) {
    p->grammar = peri_arena_str(a, peri_str_of(value));
    return p->grammar.data ? PERI_OK : peri_fail(err, PERI_E_NOMEM, "out of memory for a grammar");
}

static peri_status add_trigger(peri_sampling *p, peri_arena *a, const char *value,
                               peri_error *err) {
    if (p->n_trigger >= PERI_GRAMMAR_TRIGGERS)
        return peri_fail(err, PERI_E_RANGE, "grammar_trigger: more than %d", PERI_GRAMMAR_TRIGGERS);
    const char **grown = peri_arena_alloc(a, p->n_trigger + 1, sizeof *grown);
    peri_str text = peri_arena_str(a, peri_str_of(value));
    if (!grown || !text.data) return peri_fail(err, PERI_E_NOMEM, "out of memory for a trigger");
    if (p->n_trigger) memcpy(grown, p->trigger, p->n_trigger * sizeof *grown);
    grown[p->n_trigger++] = text.data;
    p->trigger = grown;
    return PERI_OK;
}

static peri_status apply_seed(peri_sampling *p, const char *value, peri_error *err) {
    char *end;
    errno = 0;
    unsigned long long x = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || errno)
        return peri_fail(err, PERI_E_INVALID, "seed: found %s, expected a whole number", value);
    p->seed = x;
    return PERI_OK;
}

peri_status peri_sampling_apply(peri_sampling *p, peri_arena *a, const char *setting,
                                peri_error *err) {
    char name[64], *end;
    const char *eq = strchr(setting, '=');
    if (!eq || eq == setting || (size_t)(eq - setting) >= sizeof name)
        return peri_fail(err, PERI_E_INVALID, "sampling setting %.60s: expected NAME=VALUE",
                         setting);
    snprintf(name, sizeof name, "%.*s", (int)(eq - setting), setting);
    const char *value = eq + 1;
    if (strcmp(name, "seed") == 0) return apply_seed(p, value, err);
    if (strcmp(name, "samplers") == 0) return peri_sampling_set_order(p, value, err);
    if (strcmp(name, "logit_bias") == 0) return add_bias(p, a, value, err);
    if (strcmp(name, "dry_sequence_breaker") == 0) return add_breaker(p, a, value, err);
    if (strcmp(name, "grammar") == 0) return set_grammar(p, a, value, err);
    if (strcmp(name, "grammar_trigger") == 0) return add_trigger(p, a, value, err);
    int i = peri_sampling_find(name);
    if (i < 0) return unknown(name, err);
    if (peri_sampling_params[i].kind == PERI_SAMPLING_FLAG && strcmp(value, "true") == 0)
        value = "1";
    if (peri_sampling_params[i].kind == PERI_SAMPLING_FLAG && strcmp(value, "false") == 0)
        value = "0";
    double x = strtod(value, &end);
    if (end == value || *end)
        return peri_fail(err, PERI_E_INVALID, "%s: found \"%.60s\", expected a number", name,
                         value);
    return peri_sampling_set(p, name, x, err);
}

/* ---- checking and copying -------------------------------------------------------------------- */

/* The policies stand in the order, each once, in the order of their numbers. */
static peri_status check_policies(const peri_sampling *p, peri_error *err) {
    size_t n = 0;
    if (p->n_policy > PERI_MAX_POLICY)
        return peri_fail(err, PERI_E_RANGE, "samplers: found %zu policies, at most %d", p->n_policy,
                         PERI_MAX_POLICY);
    for (int i = 0; i < p->n_order; i++) {
        if (p->order[i] < PERI_LINK_POLICY) continue;
        if (p->order[i] != PERI_LINK_POLICY + n)
            return peri_fail(err, PERI_E_INVALID,
                             "samplers: found policy %d in place %zu of the policies",
                             p->order[i] - PERI_LINK_POLICY, n);
        n++;
    }
    if (n != p->n_policy)
        return peri_fail(err, PERI_E_INVALID, "samplers: %zu policies, but %zu in the chain",
                         p->n_policy, n);
    for (size_t i = 0; i < p->n_policy; i++) {
        if (p->policy[i].text.size > PERI_MAX_POLICY_BYTES ||
            p->policy[i].given.size > PERI_MAX_POLICY_BYTES)
            return peri_fail(err, PERI_E_RANGE, "samplers: policy %s has more than %d bytes",
                             p->policy[i].name, PERI_MAX_POLICY_BYTES);
    }
    if (p->n_policy && p->mirostat)
        return peri_fail(err, PERI_E_INVALID,
                         "mirostat takes the place of the chain, so policy %s would never run; "
                         "use one of them",
                         p->policy[0].name);
    return PERI_OK;
}

/* The grammar is read here as well, so that what is wrong with it is told where it was given. */
static peri_status check_grammar(const peri_sampling *p, peri_error *err) {
    peri_grammar *g = NULL;
    peri_matcher *m = NULL;
    if (!p->grammar.size && p->n_trigger)
        return peri_fail(err, PERI_E_INVALID, "grammar_trigger: there is no grammar to begin");
    if (!p->grammar.size) return PERI_OK;
    if (p->heal)
        return peri_fail(err, PERI_E_INVALID,
                         "heal begins inside the prompt, where no grammar holds; use one of them");
    peri_status st = peri_grammar_new(p->grammar, &g, err);
    if (!st) st = peri_matcher_new(g, p->trigger, p->n_trigger, &m, err);
    peri_matcher_free(m);
    peri_grammar_free(g);
    return st;
}

peri_status peri_sampling_check(const peri_sampling *p, peri_error *err) {
    for (size_t i = 0; i < N_PARAM; i++) {
        peri_status st = check_value(i, peri_sampling_get(p, i), err);
        if (st) return st;
    }
    if (p->n_order > PERI_MAX_ORDER)
        return peri_fail(err, PERI_E_RANGE, "samplers: found %d names, at most %d", p->n_order,
                         PERI_MAX_ORDER);
    for (int i = 0; i < p->n_order; i++) {
        bool is_policy =
            p->order[i] >= PERI_LINK_POLICY && p->order[i] - (size_t)PERI_LINK_POLICY < p->n_policy;
        if (!is_policy && (p->order[i] == PERI_LINK_NONE || p->order[i] >= PERI_N_LINK))
            return peri_fail(err, PERI_E_RANGE, "samplers: found link %d, expected 1 to %d",
                             p->order[i], PERI_N_LINK - 1);
    }
    peri_status st = check_policies(p, err);
    if (!st) st = check_grammar(p, err);
    if (st) return st;
    if (p->n_bias > PERI_MAX_BIAS || p->n_breaker > PERI_MAX_BREAKER)
        return peri_fail(err, PERI_E_RANGE,
                         "found %zu biases and %zu sequence breakers, at most %d and %d", p->n_bias,
                         p->n_breaker, PERI_MAX_BIAS, PERI_MAX_BREAKER);
    for (size_t i = 0; i < p->n_bias; i++)
        if (isnan(p->bias[i].bias) || p->bias[i].bias == INFINITY)
            return peri_fail(err, PERI_E_RANGE,
                             "logit_bias of token %d: found %g, expected a number", p->bias[i].id,
                             (double)p->bias[i].bias);
    return PERI_OK;
}

/* Bytes of all texts that p points to. */
static size_t text_bytes(const peri_sampling *p) {
    size_t n = 0;
    for (size_t i = 0; i < p->n_breaker; i++)
        n += strlen(p->breaker[i]) + 1;
    for (size_t i = 0; i < p->n_policy; i++)
        n += strlen(p->policy[i].name) + 1 + p->policy[i].text.size + p->policy[i].given.size;
    for (size_t i = 0; i < p->n_trigger; i++)
        n += strlen(p->trigger[i]) + 1;
    return n + p->grammar.size;
}

static char *put_bytes(char **at, const void *data, size_t n) {
    char *p = *at;
    if (n) memcpy(p, data, n);
    *at += n;
    return p;
}

/* One block: the struct, the lists of pointers, the biases, the texts. */
peri_sampling *peri_sampling_dup(const peri_sampling *p) {
    size_t bias = p->n_bias * sizeof *p->bias, list = (p->n_breaker + 1) * sizeof *p->breaker;
    size_t policies = p->n_policy * sizeof *p->policy, triggers = p->n_trigger * sizeof *p->trigger;
    char *block = peri_alloc(sizeof *p + list + triggers + policies + bias + text_bytes(p));
    if (!block) return NULL;
    peri_sampling *made = (peri_sampling *)(void *)block;
    char *at = block + sizeof *p;
    *made = *p;
    const char **breaker = (const char **)(void *)put_bytes(&at, p->breaker, 0);
    at += list;
    const char **trigger = (const char **)(void *)put_bytes(&at, p->trigger, triggers);
    peri_policy_text *policy = (peri_policy_text *)(void *)put_bytes(&at, p->policy, policies);
    made->bias = (peri_logit_bias *)(void *)put_bytes(&at, p->bias, bias);
    if (!p->n_bias) made->bias = NULL;
    for (size_t i = 0; i < p->n_breaker; i++)
        breaker[i] = put_bytes(&at, p->breaker[i], strlen(p->breaker[i]) + 1);
    for (size_t i = 0; i < p->n_policy; i++) {
        const peri_policy_text *from = &p->policy[i];
        policy[i].name = put_bytes(&at, from->name, strlen(from->name) + 1);
        policy[i].text.data = put_bytes(&at, from->text.data, from->text.size);
        policy[i].given.data = put_bytes(&at, from->given.data, from->given.size);
    }
    for (size_t i = 0; i < p->n_trigger; i++)
        trigger[i] = put_bytes(&at, p->trigger[i], strlen(p->trigger[i]) + 1);
    made->trigger = p->n_trigger ? trigger : NULL;
    made->grammar.data = put_bytes(&at, p->grammar.data, p->grammar.size);
    if (p->breaker) made->breaker = breaker;
    made->policy = p->n_policy ? policy : NULL;
    return made;
}
