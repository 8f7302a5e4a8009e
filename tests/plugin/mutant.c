/* SPDX-License-Identifier: MIT
 *
 * mutant.c - a sound plugin with one planted bug, for testing perigee plugin-check.
 *
 *   mutant.base   path of the sound plugin, which does the work
 *   mutant.bug    name of the bug, see bugs[]
 *
 * Bugs in what an operation computes spoil the result of the base; most strike one operation and
 * one type of weights only, as real ones do.  More are in mutant_more.c and
 * mutant_odd.c. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mutant.h"

const peri_host *host;
peri_plugin base;
static const char *bug = "";

int has(const char *name) {
    return strcmp(bug, name) == 0;
}

/* ---- wrong results: after the base has run ---- */

static void dropped_product(const call *c) { /* the last term of every sum of row 3 */
    if (!is_linear(c, F32) || extent(c, 1, 2) < 4) return;
    int64_t n = extent(c, 1, 3);
    const float *w = (const float *)peri_ptr(c->m, tensor(c, 1)) + 3 * n;
    float scale = tensor(c, 3) ? row(c, 3, 0)[0] : 1;
    for (int64_t t = 0; t < n_row(c, 0); t++)
        row(c, 4, t)[3] -= scale * w[n - 1] * row(c, 0, t)[n - 1];
}

static void wrong_row(const call *c) { /* the last token gets the embedding of the one before */
    int64_t n = is_op(c, PERI_OP_EMBED) ? n_row(c, 1) : 0;
    if (n > 1) memcpy(row(c, 1, n - 1), row(c, 1, n - 2), (size_t)extent(c, 1, 3) * 4);
}

static void wrong_scale(const call *c) { /* one output row of many, by 1 % */
    if (!is_linear(c, Q5_1)) return;
    for (int64_t t = 0; t < n_row(c, 4); t++)
        row(c, 4, t)[extent(c, 4, 3) - 1] *= 1.01f;
}

static void past_padding(const call *c) { /* what lies behind the last row enters a sum */
    if (!is_op(c, PERI_OP_EXPERT_SUM)) return;
    const float *behind = row(c, 0, n_row(c, 0) - 1) + extent(c, 0, 3);
    row(c, 2, 0)[0] += 0 * behind[0];
}

static void past_end(const call *c) { /* one element behind the last row */
    if (is_op(c, PERI_OP_GLU)) row(c, 2, n_row(c, 2) - 1)[extent(c, 2, 3)] = 1;
}

static void past_weights(const call *c) { /* a vector load that reaches behind the weights */
    char sum = 0;
    if (!is_linear(c, F16)) return;
    volatile const char *w = peri_ptr(c->m, tensor(c, 1));
    for (int i = 0; i < 64; i++)
        sum = (char)(sum + w[extent(c, 1, 2) * extent(c, 1, 3) * 2 + i]);
    (void)sum;
}

static void turn_ties(const call *c, uint32_t ids) {
    int64_t n_used = extent(c, ids, 3);
    for (int64_t t = 0; t < n_row(c, 0); t++) {
        int32_t *id = (int32_t *)row(c, ids, t);
        const float *l = row(c, 0, t);
        for (int64_t k = 0; k + 1 < n_used; k++)
            if (l[id[k]] == l[id[k + 1]] && id[k] < id[k + 1]) {
                int32_t other = id[k];
                id[k] = id[k + 1];
                id[k + 1] = other;
            }
    }
}

static void wrong_tie(const call *c) { /* equal experts in the wrong order */
    if (is_op(c, PERI_OP_ROUTE)) turn_ties(c, 2);
}

static void topk_tie(const call *c) { /* equal elements in the wrong order */
    if (is_op(c, PERI_OP_TOPK)) turn_ties(c, 1);
}

static void topk_dropped(const call *c) { /* one element was missed, all behind it move up */
    int64_t k = is_op(c, PERI_OP_TOPK) ? extent(c, 1, 3) : 0;
    if (k < 4) return;
    int32_t *id = (int32_t *)row(c, 1, n_row(c, 1) - 1);
    float *y = row(c, 2, n_row(c, 2) - 1);
    memmove(id + 2, id + 3, (size_t)(k - 3) * sizeof *id);
    memmove(y + 2, y + 3, (size_t)(k - 3) * sizeof *y);
}

static void topk_nan(const call *c) { /* what is not a number comes first */
    for (int64_t t = 0; is_op(c, PERI_OP_TOPK) && t < n_row(c, 0); t++)
        for (int32_t i = 0; i < (int32_t)extent(c, 0, 3); i++)
            if (row(c, 0, t)[i] != row(c, 0, t)[i]) ((int32_t *)row(c, 1, t))[0] = i;
}

static void wrong_rounding(const call *c) { /* one more than the nearest half, now and then */
    const int32_t *slot = peri_step_array(c->s, c->s->slot);
    if (!is_op(c, PERI_OP_KV_APPEND) || tensor(c, 2)->dtype != F16 || slot[0] < 0) return;
    uint16_t *k = peri_ptr(c->m, tensor(c, 2));
    k[slot[0] * extent(c, 2, 2) * extent(c, 2, 3)] ^= 1;
}

static void wrong_angle(const call *c) { /* one pair too many is turned */
    if (is_op(c, PERI_OP_ROPE)) row(c, 2, 0)[extent(c, 2, 3) - 1] *= 0.999f;
}

static void batch_order(const call *c) { /* the last bit depends on the number of tokens */
    if (!is_op(c, PERI_OP_NORM) || n_row(c, 0) % 2 == 0) return;
    float *y = row(c, 3, 0);
    uint32_t bits;
    memcpy(&bits, y, 4);
    bits ^= 1;
    memcpy(y, &bits, 4);
}

static void leak(const call *c) {
    if (is_op(c, PERI_OP_SCALE)) (void)!host->alloc(40, 16, -1);
}

static void heap_leak(const call *c) { /* not through the host */
    static void *kept;
    if (!is_op(c, PERI_OP_SCALE)) return;
    void **p = malloc(64);
    if (p) *p = kept; /* a list, so that no leak checker is needed to find it */
    kept = p;
}

/* ---- results that change: after the base has run, too ---- */

static void add_item(void *arg, uint32_t i, uint32_t worker) { /* whoever comes first */
    static char lock;
    float *sum = arg;
    (void)worker;
    while (__atomic_test_and_set(&lock, __ATOMIC_ACQUIRE))
        sched_yield();
    *sum += 1.0f / (float)(3 * i + 1);
    __atomic_clear(&lock, __ATOMIC_RELEASE);
}

static void unordered_sum(const call *c) { /* a last bit depends on the order of arrival */
    float sum = 0, ordered = 0;
    if (!is_op(c, PERI_OP_ADD_NORM) && !is_op(c, PERI_OP_NORM)) return;
    for (uint32_t i = 0; i < 64; i++)
        add_item(&ordered, i, 0);
    host->parallel(c->d, 64, add_item, &sum);
    for (int64_t r = 0; r < n_row(c, c->o->n_in); r++)
        row(c, c->o->n_in, r)[0] *= 1 + (sum - ordered);
}

typedef struct blocks {
    const call *c;
    float shared; /* every worker's own, had it been written well */
} blocks;

static void race_item(void *arg, uint32_t i, uint32_t worker) {
    blocks *b = arg;
    volatile float *shared = &b->shared;
    (void)worker;
    *shared = row(b->c, 0, i)[0];
    nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL); /* as if a queue were waited for */
    row(b->c, 2, i)[0] = *shared + row(b->c, 1, 0)[0];
}

static void race(const call *c) { /* items share scratch */
    blocks b = {c, 0};
    if (is_op(c, PERI_OP_ADD) && tensor(c, 1)->kind == PERI_T_WEIGHT && n_row(c, 0) > 1)
        host->parallel(c->d, (uint32_t)n_row(c, 0), race_item, &b);
}

static void late_token(const call *c) { /* a batch's second half of 64 */
    if (!is_linear(c, F16)) return;
    for (int64_t t = 32; t < n_row(c, 4); t++)
        row(c, 4, t)[0] *= 1.001f;
}

static void wide_row(const call *c) { /* a sum that is right up to 1024 terms */
    if (!is_linear(c, Q8_0) || extent(c, 1, 3) <= 1024) return;
    for (int64_t t = 0; t < n_row(c, 4); t++)
        row(c, 4, t)[0] *= 1.001f;
}

static void hot_softplus(const call *c) { /* log(1 + e^x) where e^x has no place in f32 */
    const peri_act_attr *a = peri_attr(c->p, c->o);
    if (!is_op(c, PERI_OP_ACT) || a->act != PERI_ACT_SOFTPLUS) return;
    for (int64_t r = 0; r < n_row(c, 1); r++)
        for (int64_t i = 0; i < extent(c, 1, 3); i++)
            if (row(c, 1, r)[i] > 88) row(c, 1, r)[i] = 1.0f / 0.0f;
}

static void hot_softmax(const call *c) { /* e^z without the largest z taken off first */
    const peri_attn_attr *a = peri_attr(c->p, c->o);
    if (!is_op(c, PERI_OP_ATTN) || a->scale < 30) return;
    for (int64_t r = 0; r < n_row(c, 4); r++)
        row(c, 4, r)[0] = 0.0f / 0.0f;
}

static void padding_slot(const call *c) { /* slot -1 taken for slot 0 */
    const int32_t *slot = peri_step_array(c->s, c->s->slot);
    int64_t n_head = is_op(c, PERI_OP_KV_APPEND) ? extent(c, 0, 2) : 0;
    if (n_head == 0 || tensor(c, 2)->dtype != F32) return;
    for (int64_t t = 0; t < extent(c, 0, 1); t++)
        if (slot[t] < 0)
            memcpy(peri_ptr(c->m, tensor(c, 2)), row(c, 0, t * n_head),
                   (size_t)extent(c, 0, 3) * 4);
}

typedef struct bug_row {
    const char *name;
    void (*spoil)(const call *c); /* after the base; NULL: elsewhere */
} bug_row;

static const bug_row bugs[] = {
    {"dropped_product", dropped_product},
    {"wrong_row", wrong_row},
    {"wrong_scale", wrong_scale},
    {"past_padding", past_padding},
    {"past_end", past_end},
    {"past_weights", past_weights},
    {"wrong_tie", wrong_tie},
    {"wrong_rounding", wrong_rounding},
    {"wrong_angle", wrong_angle},
    {"batch_order", batch_order},
    {"leak", leak},
    {"heap_leak", heap_leak},
    {"unordered_sum", unordered_sum},
    {"race", race},
    {"late_token", late_token},
    {"wide_row", wide_row},
    {"hot_softplus", hot_softplus},
    {"hot_softmax", hot_softmax},
    {"padding_slot", padding_slot},
    {"topk_tie", topk_tie},
    {"topk_dropped", topk_dropped},
    {"topk_nan", topk_nan},
};

/* ---- attributes and counts that are not read ---- */

/* The base runs a copy of the program in which one attribute has a usual value. */
typedef struct blind_row {
    const char *name;
    uint16_t code;
    size_t at;      /* of the attribute */
    uint32_t value; /* its bits */
} blind_row;
static const blind_row blind[] = {
    {"no_eps", PERI_OP_NORM, offsetof(peri_norm_attr, eps), 0},
    {"no_cap", PERI_OP_ATTN, offsetof(peri_attn_attr, cap), 0},
    {"no_window", PERI_OP_ATTN, offsetof(peri_attn_attr, window), 0},
    {"no_chunk", PERI_OP_ATTN, offsetof(peri_attn_attr, chunk), 0},
    {"no_slopes", PERI_OP_ATTN, offsetof(peri_attn_attr, alibi_max), 0},
    {"no_groups", PERI_OP_ROUTE, offsetof(peri_route_attr, n_group), 0},
    {"no_renorm", PERI_OP_ROUTE, offsetof(peri_route_attr, renorm), 0},
    {"no_route_scale", PERI_OP_ROUTE, offsetof(peri_route_attr, weight_scale), 0x3f800000},
    {"one_group", PERI_OP_ROUTE, offsetof(peri_route_attr, n_group_used), 1},
    {"no_first", PERI_OP_ROPE, offsetof(peri_rope_attr, first), 0},
    {"no_embed_scale", PERI_OP_EMBED, offsetof(peri_embed_attr, scale), 0x3f800000},
    {"no_ramp", PERI_OP_ROPE, offsetof(peri_rope_attr, ext), 0},
    {"no_magnitude", PERI_OP_ROPE, offsetof(peri_rope_attr, magnitude), 0x3f800000},
    {"scale_first", PERI_OP_LINEAR, offsetof(peri_linear_attr, flags), 0},
    {"positions_as_ids", PERI_OP_EMBED, offsetof(peri_embed_attr, source), 1},
};

static int32_t run_blind(const call *c, const blind_row *b, peri_error *e) {
    char *copy = malloc(c->p->bytes);
    if (!copy) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for a program's copy");
    memcpy(copy, c->p, c->p->bytes);
    memcpy(copy + c->p->attrs + c->o->attr + b->at, &b->value, sizeof b->value);
    int32_t status = base.run_op(c->d, (const peri_program *)(void *)copy, c->op, c->m, c->s, e);
    free(copy);
    return status;
}

/* Keys beyond the 900th are forgotten, as if a table had no more room. */
static int32_t forget_keys(const call *c, peri_error *e) {
    char copy[1 << 14];
    if (c->s->bytes > sizeof copy)
        return peri_plugin_fail(e, PERI_E_RANGE, "a step of %u bytes", c->s->bytes);
    memcpy(copy, c->s, c->s->bytes);
    int32_t *ctx = (int32_t *)(copy + c->s->ctx);
    for (int32_t i = 0; i < c->s->n[PERI_SYM_S]; i++)
        if (ctx[i] > 900) ctx[i] = 900;
    return base.run_op(c->d, c->p, c->op, c->m, (const peri_step *)(void *)copy, e);
}

/* Keys are read from the blocks in rising order, whatever the table says. */
static int32_t ignore_table(const call *c, peri_error *e) {
    char copy[1 << 14];
    if (c->s->bytes > sizeof copy)
        return peri_plugin_fail(e, PERI_E_RANGE, "a step of %u bytes", c->s->bytes);
    memcpy(copy, c->s, c->s->bytes);
    int32_t *table = (int32_t *)(copy + c->s->table), n = c->s->n[PERI_SYM_S] * c->s->n[PERI_SYM_B];
    for (int32_t i = 0, next = 0; i < n; i++)
        if (table[i] >= 0) table[i] = next++;
    return base.run_op(c->d, c->p, c->op, c->m, (const peri_step *)(void *)copy, e);
}

static int32_t run_op(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                      const peri_step *s, peri_error *e) {
    call c = {d, p, op, peri_op_at(p, op), m, s};
    if (has("lying_supports") && is_op(&c, PERI_OP_MUL) && n_row(&c, 0) > 4)
        return peri_plugin_fail(e, PERI_E_UNSUPPORTED, "more than 4 rows");
    if (has("crash") && is_op(&c, PERI_OP_LINEAR_EXPERTS)) __builtin_trap();
    if (has("ignored_table") && is_op(&c, PERI_OP_ATTN)) return ignore_table(&c, e);
    if (has("prints") && is_op(&c, PERI_OP_SCALE)) fputs("scaling\n", stderr);
    if (has("forgotten_keys") && is_op(&c, PERI_OP_ATTN)) return forget_keys(&c, e);
    for (size_t i = 0; i < sizeof blind / sizeof *blind; i++)
        if (has(blind[i].name) && is_op(&c, blind[i].code)) return run_blind(&c, &blind[i], e);
    int32_t status;
    if (run_instead(&c, &status, e) || run_odd(&c, &status, e)) return status;
    status = base.run_op(d, p, op, m, s, e);
    if (status == PERI_OK) spoil_more(&c);
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs && status == PERI_OK; i++)
        if (has(bugs[i].name)) bugs[i].spoil(&c);
    return status;
}

/* ---- wrong answers ---- */

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    static uint32_t n_asked;
    int32_t status = base.device(h, index, out, e);
    if (has("crash_in_list") && index > 0) __builtin_trap();
    if (has("unstable_list") && status == PERI_OK && n_asked++ > 1)
        snprintf(out->location, sizeof out->location, "elsewhere");
    return status;
}

static int32_t supports(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                        peri_support *out, peri_error *e) {
    static int n_asked;
    uint16_t code = peri_op_at(p, op)->code;
    while (has("hang") && code == 0x0eee)
        __asm__ volatile("");
    int32_t status = base.supports(d, p, op, b, out, e);
    if (has("unknown_yes") && code == 0x0eee) out->yes = 1;
    if (has("moody_supports") && code == PERI_OP_ACT) out->yes = n_asked++ % 2;
    if (has("silent_no") && !out->yes) memset(out->why, 0, sizeof out->why);
    if (has("silent_no") && code == PERI_OP_ACT) out->yes = 0;
    if (status == PERI_OK) answer_more(code, b, out);
    return status;
}

static void close_device(peri_dev *d) {
    if (!has("unclosed")) base.close(d);
}

const peri_plugin *perigee_plugin_v0(const peri_host *h, peri_error *e) {
    static peri_plugin table;
    const char *path = h->option("mutant.base"), *wanted = h->option("mutant.bug");
    const peri_plugin *(*entry)(const peri_host *, peri_error *);
    void *handle = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    void *symbol = handle ? dlsym(handle, PERI_PLUGIN_SYMBOL) : NULL;
    if (!symbol) {
        peri_plugin_fail(e, PERI_E_OTHER, "option mutant.base is no plugin");
        return NULL;
    }
    memcpy(&entry, &symbol, sizeof entry);
    const peri_plugin *sound = entry(h, e);
    if (!sound) return NULL;
    host = h;
    base = *sound;
    if (wanted) bug = wanted;
    table = base;
    table.name = "mutant";
    table.device = device;
    table.open = open_more;
    table.supports = supports;
    table.run_op = run_op;
    table.close = close_device;
    change_memory(&table);
    change_compiled(&table);
    return &table;
}

PERI_PLUGIN_NOTE("abi=0.2 name=mutant arch=any needs=");
