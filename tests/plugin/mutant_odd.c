/* SPDX-License-Identifier: MIT
 *
 * mutant_odd.c - a third lot of planted bugs (mutant.c): what shows at odd positions, at the border
 * of a block, in rows of zeros or with values that are no numbers, where two attributes meet, by
 * the clock or by where memory lies, and in programs that are compiled.
 *
 * Found by: tests/e2e/plugin_mutants_odd.sh. */
#define _GNU_SOURCE
#include <math.h>
#include <time.h>

#include "mutant.h"

static void flip_last_bit(float *y) {
    uint32_t bits;
    memcpy(&bits, y, sizeof bits);
    bits ^= 1;
    memcpy(y, &bits, sizeof bits);
}

/* ---- after the base ---- */

static void odd_positions(const call *c) { /* the other way round at odd positions */
    const peri_rope_attr *a = peri_attr(c->p, c->o);
    const int32_t *pos = peri_step_array(c->s, c->s->pos);
    for (int64_t r = 0; r < n_row(c, 2); r++) {
        float *y = row(c, 2, r) + a->first, z = y[0];
        int64_t other = a->pairs == PERI_ROPE_NEOX ? a->n_rot / 2 : 1;
        if (pos[r / extent(c, 2, 2)] % 2 == 0) continue;
        y[0] = y[other];
        y[other] = z;
    }
}

static void padding_of_one(const call *c) { /* a single row: a vector reaches behind it */
    if (n_row(c, 0) != 1) return;
    row(c, 3, 0)[extent(c, 3, 3) - 1] += 0 * row(c, 0, 0)[extent(c, 0, 3)];
}

static float q8_weight(const call *c, int64_t m, int64_t i) {
    int64_t n = extent(c, 1, 3);
    const signed char *block =
        (const signed char *)peri_ptr(c->m, tensor(c, 1)) + (m * n + i) / 32 * 34;
    _Float16 d;
    memcpy(&d, block, sizeof d);
    return (float)d * block[2 + i % 32];
}

static void last_block(const call *c) { /* the scale of a row's last block, by 1 % */
    int64_t n = tensor(c, 1)->dtype == Q8_0 ? extent(c, 1, 3) : 0;
    float scale = tensor(c, 3) ? row(c, 3, 0)[0] : 1;
    for (int64_t t = 0; t < n_row(c, 4) && n > 32; t++)
        for (int64_t i = n - 32; i < n; i++)
            row(c, 4, t)[0] += 0.01f * scale * row(c, 0, t)[i] * q8_weight(c, 0, i);
}

static int is_zero_row(const call *c, int64_t r) {
    for (int64_t i = 0; i < extent(c, 0, 3); i++)
        if (row(c, 0, r)[i] != 0) return 0;
    return 1;
}

static void zero_row(const call *c) { /* the scale of the activations is 0, and is divided by */
    for (int64_t t = 0; t < n_row(c, 4) && n_row(c, 0) == n_row(c, 4); t++)
        if (is_zero_row(c, t)) row(c, 4, t)[0] = NAN;
}

static void zero_norm(const call *c) { /* 0 / 0 */
    for (int64_t r = 0; r < n_row(c, 3); r++)
        if (is_zero_row(c, r)) row(c, 3, r)[0] = NAN;
}

static void eps_inside(const call *c) { /* L2: sqrt(sum + eps) in place of the larger of the two */
    const peri_norm_attr *a = peri_attr(c->p, c->o);
    for (int64_t r = 0; r < n_row(c, 3) && a->kind == PERI_NORM_L2; r++) {
        double sum = 0;
        for (int64_t i = 0; i < extent(c, 0, 3); i++)
            sum += (double)row(c, 0, r)[i] * (double)row(c, 0, r)[i];
        double by = fmax(sqrt(sum), (double)a->eps) / sqrt(sum + (double)a->eps);
        for (int64_t i = 0; i < extent(c, 3, 3); i++)
            row(c, 3, r)[i] = (float)((double)row(c, 3, r)[i] * by);
    }
}

static void spoil_last(const call *c, float (*change)(float)) {
    uint32_t y = c->o->n_in;
    for (int64_t r = 0; r < n_row(c, y); r++)
        for (int64_t i = 0; i < extent(c, y, 3); i++)
            row(c, y, r)[i] = change(row(c, y, r)[i]);
}
static float without_nan(float x) {
    return isnan(x) ? 0 : x;
}
static float saturated(float x) {
    return isinf(x) ? copysignf(3.4e38f, x) : x;
}
static float flushed(float x) {
    return fabsf(x) < 1.17549435e-38f ? 0 : x;
}
static void nan_to_zero(const call *c) {
    spoil_last(c, without_nan);
}
static void no_infinity(const call *c) {
    spoil_last(c, saturated);
}
static void no_denormal(const call *c) { /* allowed: what is too small to be seen is nothing */
    spoil_last(c, flushed);
}

static void by_clock(const call *c) { /* a last bit by the microsecond */
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_nsec >> 10 & 1) flip_last_bit(row(c, c->o->n_in, 0));
}

static void by_place(const call *c) { /* a last bit by where the input lies */
    if ((uintptr_t)row(c, 0, 0) >> 4 & 1) flip_last_bit(row(c, c->o->n_in, 0));
}

static void first_call(const call *c) { /* what was not yet made */
    static peri_dev *opened;
    if (opened != c->d) row(c, c->o->n_in, 0)[0] *= 1.001f;
    opened = c->d;
}

static void chosen_twice(const call *c) { /* the second expert is the first once more */
    for (int64_t t = 0; t < n_row(c, 2) && extent(c, 2, 3) > 1; t++)
        ((int32_t *)row(c, 2, t))[1] = ((int32_t *)row(c, 2, t))[0];
}

/* ---- in place of the base ---- */

/* The last row of a block goes to the first of the next one. */
static int32_t block_border(const call *c, peri_error *e) {
    peri_step *s = malloc(c->s->bytes);
    int32_t block = (int32_t)extent(c, 2, 1), n_slot = (int32_t)extent(c, 2, 0) * block;
    if (!s) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for a step's copy");
    memcpy(s, c->s, c->s->bytes);
    int32_t *slot = (int32_t *)(void *)((char *)s + s->slot);
    for (int32_t t = 0; t < s->n[PERI_SYM_T]; t++)
        if (slot[t] % block == block - 1 && slot[t] + 1 < n_slot) slot[t]++;
    int32_t status = base.run_op(c->d, c->p, c->op, c->m, s, e);
    free(s);
    return status;
}

/* ALiBi's slope is added before the soft cap: tanh takes both. */
static int32_t cap_last(const call *c, peri_error *e) {
    const peri_attn_attr *a = peri_attr(c->p, c->o);
    if (a->cap > 0 && a->alibi_max > 0) {
        char *copy = malloc(c->p->bytes);
        if (!copy) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for a program's copy");
        memcpy(copy, c->p, c->p->bytes);
        ((peri_attn_attr *)(void *)(copy + c->p->attrs + c->o->attr))->cap = a->cap * 1.05f;
        int32_t status =
            base.run_op(c->d, (const peri_program *)(void *)copy, c->op, c->m, c->s, e);
        free(copy);
        return status;
    }
    return base.run_op(c->d, c->p, c->op, c->m, c->s, e);
}

/* The memory of the call before is used, which may be gone. */
static int32_t stale_bind(const call *c, peri_error *e) {
    static peri_bind kept;
    peri_bind now = *c->m;
    if (kept.size) now.arena = kept.arena;
    kept = *c->m;
    return base.run_op(c->d, c->p, c->op, &now, c->s, e);
}

/* An error of the device is told to nobody. */
static int32_t swallowed(const call *c, peri_error *e) {
    if (n_row(c, 0) > 8) return PERI_OK;
    return base.run_op(c->d, c->p, c->op, c->m, c->s, e);
}

typedef struct odd_row {
    const char *name;
    uint16_t code;
    void (*spoil)(const call *c);                 /* after the base, or */
    int32_t (*run)(const call *c, peri_error *e); /* in its place */
} odd_row;
static const odd_row rows[] = {
    {"odd_positions", PERI_OP_ROPE, odd_positions, NULL},
    {"padding_of_one", PERI_OP_NORM, padding_of_one, NULL},
    {"last_block", PERI_OP_LINEAR, last_block, NULL},
    {"zero_row", PERI_OP_LINEAR, zero_row, NULL},
    {"zero_norm", PERI_OP_NORM, zero_norm, NULL},
    {"eps_inside", PERI_OP_NORM, eps_inside, NULL},
    {"nan_to_zero", PERI_OP_MUL, nan_to_zero, NULL},
    {"no_infinity", PERI_OP_ADD, no_infinity, NULL},
    {"no_denormal", PERI_OP_NORM, no_denormal, NULL},
    {"by_clock", PERI_OP_SCALE, by_clock, NULL},
    {"by_place", PERI_OP_SCALE, by_place, NULL},
    {"first_call", PERI_OP_SCALE, first_call, NULL},
    {"chosen_twice", PERI_OP_ROUTE, chosen_twice, NULL},
    {"block_border", PERI_OP_KV_APPEND, NULL, block_border},
    {"cap_last", PERI_OP_ATTN, NULL, cap_last},
    {"stale_bind", PERI_OP_SCALE, NULL, stale_bind},
    {"swallowed", PERI_OP_GLU, NULL, swallowed},
};

int run_odd(const call *c, int32_t *status, peri_error *e) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const odd_row *r = &rows[i];
        if (!has(r->name) || !is_op(c, r->code)) continue;
        *status = r->run ? r->run(c, e) : base.run_op(c->d, c->p, c->op, c->m, c->s, e);
        if (*status == PERI_OK && r->spoil) r->spoil(c);
        return 1;
    }
    return 0;
}

/* ---- compiled ---- */

struct peri_compiled {
    const peri_program *p;
    uint32_t first, n;
    peri_bind bind; /* of the first run */
    void *kept;
    peri_step *step; /* of the first run with one token each */
};

static int32_t compile(peri_dev *d, const peri_program *p, uint32_t first, uint32_t n,
                       const peri_bucket *b, peri_compiled **out, peri_error *e) {
    (void)d, (void)b;
    peri_compiled *c = calloc(1, sizeof *c);
    if (!c) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory to compile in");
    *c = (peri_compiled){.p = p, .first = first, .n = n};
    c->kept = host->alloc(256, 16, -1);
    *out = c;
    return PERI_OK;
}

/* The numbers of the first step of this size are part of what was recorded. */
static const peri_step *recorded(peri_compiled *c, const peri_step *s) {
    if (!c->step && s->n[PERI_SYM_T] == s->n[PERI_SYM_S] && (c->step = malloc(s->bytes)))
        memcpy(c->step, s, s->bytes);
    return c->step && c->step->n[PERI_SYM_T] == s->n[PERI_SYM_T] ? c->step : s;
}

static int32_t run_compiled(peri_dev *d, peri_compiled *c, const peri_bind *m, const peri_step *s,
                            peri_error *e) {
    if (!c->bind.size) c->bind = *m;
    if (has("compiled_bind")) m = &c->bind;
    if (has("compiled_step")) s = recorded(c, s);
    for (uint32_t i = c->first; i < c->first + c->n; i++) {
        int32_t status = base.run_op(d, c->p, i, m, s, e);
        if (status) return status;
    }
    call last = {d, c->p, c->first + c->n - 1, peri_op_at(c->p, c->first + c->n - 1), m, s};
    if (has("compiled_bits")) flip_last_bit(row(&last, last.o->n_in, 0));
    return PERI_OK;
}

static void free_compiled(peri_dev *d, peri_compiled *c) {
    (void)d;
    if (!has("compiled_leak")) host->free(c->kept);
    free(c->step);
    if (!has("compiled_heap")) free(c);
}

void change_compiled(peri_plugin *table) {
    static const char *const names[] = {"compiled_bind", "compiled_step", "compiled_bits",
                                        "compiled_leak", "compiled_heap", "compiled_well"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!has(names[i])) continue;
        table->compile = compile;
        table->run_compiled = run_compiled;
        table->free_compiled = free_compiled;
    }
}
