/* SPDX-License-Identifier: MIT
 *
 * explain_measure.c - perigee explain --measure: a prompt and a few tokens on the placement, beside
 * what was predicted of them.
 *
 * Enough to see whether a placement keeps its promise, in about the time that loading takes;
 * perigee bench measures thoroughly.  Tokens are made up, nothing is sampled and nothing comes from
 * a cache. How many there are follows from the prediction, so that a slow placement is not waited
 * for. */
#include "explain_measure.h"

#include <stdlib.h>

#include "out.h"

enum { MOST_PROMPT = 256, LEAST_PROMPT = 32, MOST_STEP = 24, LEAST_STEP = 6, N_PROMPT_RUN = 3 };
static const double SECONDS = 1.5; /* for the prompts, and for the tokens */

typedef struct trial {
    peri_model *m;
    peri_session *s;
    int32_t tok[MOST_PROMPT];
    uint32_t n_prompt, n_step;
    double pp_s, tg_s;
} trial;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *x, size_t n) {
    qsort(x, n, sizeof *x, by_value);
    return x[n / 2];
}

/* As many tokens as SECONDS allow, and the context. */
static void choose_sizes(trial *t) {
    uint32_t n_ctx = (uint32_t)peri_model_n_ctx(t->m);
    uint32_t room = n_ctx > 2 * MOST_STEP ? n_ctx - MOST_STEP : (n_ctx + 1) / 2;
    double pp, tg;
    t->n_prompt = MOST_PROMPT < room ? MOST_PROMPT : room;
    t->n_step = MOST_STEP;
    for (;;) {
        peri_model_predict(t->m, 0, t->n_prompt, t->n_prompt, &pp, &tg);
        if (t->n_prompt / 2 < LEAST_PROMPT || pp <= 0 || N_PROMPT_RUN * t->n_prompt / pp < SECONDS)
            break;
        t->n_prompt /= 2;
    }
    while (t->n_step > LEAST_STEP && tg > 0 && t->n_step / tg > SECONDS)
        t->n_step /= 2;
    if (t->n_step > n_ctx - t->n_prompt) t->n_step = n_ctx - t->n_prompt;
}

static bool feed(trial *t, uint32_t n, double *seconds) {
    peri_error e = {0, ""};
    const peri_feed f = {.session = t->s, .tok = t->tok, .n_tok = n};
    double start = peri_now();
    if (peri_model_step(t->m, &f, 1, 0, &e) != PERI_OK) return peri_out_error(&e), false;
    *seconds = peri_now() - start;
    return !peri_interrupt_seen();
}

static bool run_prompts(trial *t) {
    double run[N_PROMPT_RUN], first;
    peri_error e = {0, ""};
    if (!feed(t, t->n_prompt, &first)) return false; /* kernels are made, caches filled */
    for (int i = 0; i < N_PROMPT_RUN; i++) {
        if (peri_session_rewind(t->s, 0, &e) != PERI_OK) return peri_out_error(&e), false;
        if (!feed(t, t->n_prompt, &run[i])) return false;
    }
    t->pp_s = median_of(run, N_PROMPT_RUN);
    return true;
}

static bool run_steps(trial *t) {
    double run[MOST_STEP], first;
    uint32_t n = 0;
    if (t->n_step < 2) return true;
    if (!feed(t, 1, &first)) return false;
    for (; n + 1 < t->n_step; n++)
        if (!feed(t, 1, &run[n])) return false;
    t->tg_s = median_of(run, n);
    return true;
}

/* To four digits. */
static json_t *rounded(double x) {
    char text[32];
    snprintf(text, sizeof text, "%.4g", x);
    return x > 0 ? json_real(strtod(text, NULL)) : json_null();
}

static json_t *row_of(const char *what, uint32_t n, double predicted, double measured) {
    char test[32];
    snprintf(test, sizeof test, "%s %u", what, n);
    json_t *row = json_pack("{s:s}", "test", test);
    bool is_known = predicted > 0 && measured > 0;
    json_object_set_new(row, "predicted", rounded(predicted));
    json_object_set_new(row, "measured", rounded(measured));
    json_object_set_new(row, "measured_by_predicted", rounded(is_known ? measured / predicted : 0));
    return row;
}

bool peri_explain_measure(peri_model *m, json_t *explained) {
    trial t = {.m = m};
    peri_error e = {0, ""};
    double pp, tg;
    peri_session_options o = {.size = sizeof o};
    if (peri_session_new(m, &o, &t.s, &e) != PERI_OK) return peri_out_error(&e), false;
    for (uint32_t i = 0; i < MOST_PROMPT; i++)
        t.tok[i] = (int32_t)((uint64_t)i * 7919 % (uint64_t)peri_model_n_vocab(m));
    choose_sizes(&t);
    bool ok = run_prompts(&t) && run_steps(&t);
    peri_session_free(t.s);
    if (!ok) return false;
    peri_model_predict(m, 0, t.n_prompt, t.n_prompt + t.n_step / 2, &pp, &tg);
    json_t *rows = json_array();
    json_array_append_new(rows, row_of("prompt", t.n_prompt, pp, t.n_prompt / t.pp_s));
    json_array_append_new(rows, row_of("generate", t.n_step, tg, t.tg_s > 0 ? 1 / t.tg_s : 0));
    if (json_array_size(rows) == 2 &&
        json_object_set_new(explained, "tokens_per_second", rows) == 0)
        return true;
    return peri_out_fail("out of memory"), false;
}
