/* SPDX-License-Identifier: MIT
 *
 * mutant_more.c - more planted bugs (mutant.c), as somebody would who wants to get past the kit: in
 * copies of the program or the step, in what is remembered from call to call, in what only large
 * numbers reach, in answers, and in memory.
 *
 * A bug may only have to be seen by one stage; tests/e2e/plugin_mutants_more.sh says by which. */
#include <math.h>

#include "mutant.h"

/* ---- the base runs a copy of the program or the step ---- */

typedef struct copies {
    char *program, *step;
} copies;

static peri_tensor *tensor_of(char *program, uint32_t i) {
    return (peri_tensor *)(uintptr_t)peri_tensor_at((const peri_program *)(void *)program, i);
}
static void *attr_of(const call *c, char *program) {
    return program + c->p->attrs + c->o->attr;
}
static uint32_t *operand_of(const call *c, char *program, uint32_t k) {
    return (uint32_t *)(void *)(program + c->p->operands) + c->o->operand + k;
}
static int32_t *array_of(char *step, uint32_t off) {
    return (int32_t *)(void *)(step + off);
}

static void wide_window(const call *c, copies *x) { /* one key too many */
    peri_attn_attr *a = attr_of(c, x->program);
    if (a->window > 0) a->window++;
}
static void not_causal(const call *c, copies *x) { /* later tokens of the step are seen */
    ((peri_attn_attr *)attr_of(c, x->program))->flags |= PERI_ATTN_NOT_CAUSAL;
}
static void no_param(const call *c, copies *x) { /* the soft cap is 1 */
    ((peri_act_attr *)attr_of(c, x->program))->param = 1;
}
static void wrong_gelu(const call *c, copies *x) { /* two formulas for nearly the same */
    peri_act_attr *a = attr_of(c, x->program);
    if (a->act == PERI_ACT_GELU) a->act = PERI_ACT_GELU_ERF;
}
static void no_sink(const call *c, copies *x) {
    *operand_of(c, x->program, 3) = PERI_NONE;
}
static void no_factor(const call *c, copies *x) {
    *operand_of(c, x->program, 1) = PERI_NONE;
}
static void dense(copies *x, const call *c, uint32_t k) { /* rows follow one another */
    peri_tensor *t = tensor_of(x->program, peri_arg(c->p, c->o, k));
    for (int i = 2; i >= 0; i--)
        t->stride[i] = t->stride[i + 1] * peri_dim(t, i + 1, c->s->n);
}
static void dense_input(const call *c, copies *x) {
    dense(x, c, 0);
}
static void dense_output(const call *c, copies *x) {
    dense(x, c, 2);
}
static void rows_as_tokens(const call *c, copies *x) { /* R taken for T: the head on every token */
    for (uint32_t k = 0; k < c->o->n_in + c->o->n_out; k++) {
        uint32_t i = peri_arg(c->p, c->o, k);
        for (int d = 0; d < 4 && i != PERI_NONE; d++)
            if (tensor_of(x->program, i)->dim[d] == -PERI_SYM_R)
                tensor_of(x->program, i)->dim[d] = -PERI_SYM_T;
    }
}
static void short_position(const call *c, copies *x) { /* 16 bits */
    for (int32_t t = 0; t < c->s->n[PERI_SYM_T]; t++)
        array_of(x->step, c->s->pos)[t] &= 0xffff;
}
static void short_id(const call *c, copies *x) {
    for (int32_t t = 0; t < c->s->n[PERI_SYM_T]; t++)
        array_of(x->step, c->s->tok)[t] &= 0xffff;
}
static void short_slot(const call *c, copies *x) {
    for (int32_t t = 0; t < c->s->n[PERI_SYM_T]; t++)
        if (array_of(x->step, c->s->slot)[t] >= 0) array_of(x->step, c->s->slot)[t] &= 0xffff;
}
static void one_sequence(const call *c, copies *x) {
    for (int32_t t = 0; t < c->s->n[PERI_SYM_T]; t++)
        array_of(x->step, c->s->seq)[t] = 0;
}
static void whole_blocks(const call *c, copies *x) { /* keys to the end of the block */
    int32_t block = (int32_t)extent(c, 1, 1), *ctx = array_of(x->step, c->s->ctx);
    ((peri_attn_attr *)attr_of(c, x->program))->flags |= PERI_ATTN_NOT_CAUSAL;
    for (int32_t i = 0; i < c->s->n[PERI_SYM_S]; i++)
        ctx[i] = (ctx[i] + block - 1) / block * block;
}
static void rows_in_order(const call *c, copies *x) { /* the first R rows, not those wanted */
    for (int32_t r = 0; r < c->s->n[PERI_SYM_R]; r++)
        array_of(x->step, c->s->out_row)[r] = r;
}
static void bf16_as_f16(const call *c, copies *x) {
    for (uint32_t k = 2; k < 4; k++) {
        peri_tensor *t = tensor_of(x->program, peri_arg(c->p, c->o, k));
        if (t->dtype == BF16) t->dtype = F16;
    }
}
static void one_head_norm(const call *c, copies *x) { /* the first head's weights for all */
    if (tensor(c, 1)) tensor_of(x->program, peri_arg(c->p, c->o, 1))->dim[2] = 1;
}

/* Keys that were stored once are not stored again, though a session may go back and on. */
static void slot_reuse(const call *c, copies *x) {
    enum { SLOTS = 4096, POOLS = 8 };
    static const void *pool[POOLS];
    static char is_written[POOLS][SLOTS];
    const void *k_pool = peri_ptr(c->m, tensor(c, 2));
    int32_t *slot = array_of(x->step, c->s->slot);
    int p = 0;
    while (p < POOLS && pool[p] && pool[p] != k_pool)
        p++;
    if (p == POOLS || c->s->number <= 1) return; /* it begins to trust at the second step */
    pool[p] = k_pool;
    for (int32_t t = 0; t < c->s->n[PERI_SYM_T]; t++) {
        if (slot[t] < 0 || slot[t] >= SLOTS) continue;
        int was_written = is_written[p][slot[t]];
        is_written[p][slot[t]] = 1;
        if (was_written) slot[t] = -1;
    }
}

typedef struct copy_row {
    const char *name;
    uint16_t code;
    void (*change)(const call *c, copies *x);
} copy_row;
static const copy_row changes[] = {
    {"wide_window", PERI_OP_ATTN, wide_window},
    {"not_causal", PERI_OP_ATTN, not_causal},
    {"no_param", PERI_OP_ACT, no_param},
    {"wrong_gelu", PERI_OP_ACT, wrong_gelu},
    {"no_sink", PERI_OP_ATTN, no_sink},
    {"no_factor", PERI_OP_ROPE, no_factor},
    {"dense_input", PERI_OP_LINEAR, dense_input},
    {"dense_output", PERI_OP_EXPERT_SUM, dense_output},
    {"rows_as_tokens", PERI_OP_LINEAR, rows_as_tokens},
    {"norm_rows", PERI_OP_NORM, rows_as_tokens},
    {"short_position", PERI_OP_ROPE, short_position},
    {"short_id", PERI_OP_EMBED, short_id},
    {"short_slot", PERI_OP_KV_APPEND, short_slot},
    {"one_sequence", PERI_OP_ATTN, one_sequence},
    {"whole_blocks", PERI_OP_ATTN, whole_blocks},
    {"rows_in_order", PERI_OP_ROWS, rows_in_order},
    {"bf16_as_f16", PERI_OP_KV_APPEND, bf16_as_f16},
    {"one_head_norm", PERI_OP_NORM, one_head_norm},
    {"slot_reuse", PERI_OP_KV_APPEND, slot_reuse},
};

static int32_t run_changed(const call *c, const copy_row *b, peri_error *e) {
    copies x = {malloc(c->p->bytes), malloc(c->s->bytes)};
    int32_t status = PERI_E_NOMEM;
    if (x.program && x.step) {
        memcpy(x.program, c->p, c->p->bytes);
        memcpy(x.step, c->s, c->s->bytes);
        b->change(c, &x);
        status = base.run_op(c->d, (const peri_program *)(void *)x.program, c->op, c->m,
                             (const peri_step *)(void *)x.step, e);
    }
    free(x.program);
    free(x.step);
    return status;
}

/* ---- in place of the base ---- */

/* Attention as it should be for F32 pools and no extras, but for the head that is read. */
static int head_modulo(const call *c) {
    const peri_attn_attr *a = peri_attr(c->p, c->o);
    if (tensor(c, 1)->dtype != F32 || a->cap > 0 || a->alibi_max > 0 || tensor(c, 3)) return 0;
    int64_t n_head = extent(c, 0, 2), dk = extent(c, 0, 3), dv = extent(c, 4, 3);
    int64_t block = extent(c, 1, 1), n_kv = extent(c, 1, 2);
    if (dv > 64 || a->window > 0 || a->chunk > 0) return 0;
    const int32_t *pos = peri_step_array(c->s, c->s->pos), *seq = peri_step_array(c->s, c->s->seq);
    const int32_t *ctx = peri_step_array(c->s, c->s->ctx);
    for (int64_t r = 0; r < n_row(c, 0); r++) {
        int64_t t = r / n_head, g = r % n_head % n_kv; /* should be r % n_head / (n_head / n_kv) */
        const int32_t *table = peri_step_array(c->s, c->s->table) + seq[t] * c->s->n[PERI_SYM_B];
        double sum = 0, top = -INFINITY, y[64] = {0};
        for (int64_t j = 0; j < ctx[seq[t]]; j++) {
            int64_t at = (table[j / block] * block + j % block) * n_kv + g;
            const float *k = (const float *)peri_ptr(c->m, tensor(c, 1)) + at * dk;
            const float *v = (const float *)peri_ptr(c->m, tensor(c, 2)) + at * dv;
            double z = 0, old = top;
            if (j > pos[t] && !(a->flags & PERI_ATTN_NOT_CAUSAL)) break;
            for (int64_t i = 0; i < dk; i++)
                z += (double)row(c, 0, r)[i] * (double)k[i];
            z *= (double)a->scale;
            top = fmax(top, z);
            sum = sum * exp(old - top) + exp(z - top);
            for (int64_t i = 0; i < dv; i++)
                y[i] = y[i] * exp(old - top) + exp(z - top) * (double)v[i];
        }
        for (int64_t i = 0; i < dv; i++)
            row(c, 4, r)[i] = (float)(y[i] / sum);
    }
    return 1;
}

/* The last call's result again when the addresses are the same: what lies there is not looked at.
 */
static int by_address(const call *c) {
    enum { ROWS = 64, WIDTH = 256 };
    static const float *x;
    static const void *w;
    static int64_t rows;
    static float kept[ROWS][WIDTH];
    static int is_kept;
    int64_t n = n_row(c, 2);
    if (n > ROWS || extent(c, 2, 3) > WIDTH) return 0;
    int is_same = is_kept && x == row(c, 0, 0) && w == (const void *)row(c, 1, 0) && rows == n;
    if (!is_same) {
        peri_error e;
        is_kept = base.run_op(c->d, c->p, c->op, c->m, c->s, &e) == PERI_OK;
    }
    for (int64_t r = 0; r < n; r++)
        memcpy(is_same ? row(c, 2, r) : kept[r], is_same ? kept[r] : row(c, 2, r),
               (size_t)extent(c, 2, 3) * 4);
    x = row(c, 0, 0);
    w = row(c, 1, 0);
    rows = n;
    return 1;
}

static int32_t most_tokens; /* of the last bucket asked for */

/* Room for one token fewer than was promised. */
static int32_t upper_bound(const call *c, peri_error *e) {
    if (c->s->n[PERI_SYM_T] < most_tokens || most_tokens < 2) return PERI_OK;
    return peri_plugin_fail(e, PERI_E_NOMEM, "room for %d tokens", (int)most_tokens - 1);
}

static void trap_unaligned(const void *p, uintptr_t align) { /* as an aligned load would */
    if ((uintptr_t)p % align) __builtin_trap();
}

int run_instead(const call *c, int32_t *status, peri_error *e) {
    *status = PERI_OK;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        if (has(changes[i].name) && is_op(c, changes[i].code)) {
            *status = run_changed(c, &changes[i], e);
            return 1;
        }
    if (has("head_modulo") && is_op(c, PERI_OP_ATTN)) return head_modulo(c);
    if (has("by_address") && is_op(c, PERI_OP_ADD)) return by_address(c);
    if (has("aligned_weights") && is_linear(c, Q8_0))
        trap_unaligned(peri_ptr(c->m, tensor(c, 1)), 32);
    if (has("aligned_rows") && is_op(c, PERI_OP_GLU)) trap_unaligned(row(c, 0, 0), 16);
    if (has("upper_bound") && is_op(c, PERI_OP_MUL)) *status = upper_bound(c, e);
    return *status != PERI_OK;
}

/* ---- after the base ---- */

static float largest(const call *c, int64_t r) {
    float top = 0;
    for (int64_t i = 0; i < extent(c, 0, 3); i++)
        top = fmaxf(top, fabsf(row(c, 0, r)[i]));
    return top;
}

static void neighbour_scale(const call *c) { /* the second row with the first one's scale */
    if (!is_linear(c, Q8_0) || n_row(c, 0) < 2) return;
    float by = largest(c, 0) / largest(c, 1);
    for (int64_t i = 0; i < extent(c, 4, 3); i++)
        row(c, 4, 1)[i] *= by;
}

static void tail_of_one(const call *c) { /* a single token: what does not fill a vector is lost */
    int64_t n = is_linear(c, F32) ? extent(c, 1, 3) : 0, from = n / 32 * 32;
    if (n < 33 || from == n || n_row(c, 0) != 1) return;
    float scale = tensor(c, 3) ? row(c, 3, 0)[0] : 1;
    for (int64_t i = from; i < n; i++)
        row(c, 4, 0)[0] -=
            scale * ((const float *)peri_ptr(c->m, tensor(c, 1)))[i] * row(c, 0, 0)[i];
}

static void expert_order(const call *c) { /* results in rising order of the experts */
    if (!is_op(c, PERI_OP_LINEAR_EXPERTS)) return;
    int64_t used = extent(c, 2, 3), n = extent(c, 5, 3);
    for (int64_t t = 0; t < n_row(c, 2); t++) {
        const int32_t *id = (const int32_t *)row(c, 2, t);
        for (int64_t j = 0; j + 1 < used; j++)
            for (int64_t i = 0; i < n && id[j] > id[j + 1]; i++) {
                float *a = row(c, 5, t * used + j) + i, *b = row(c, 5, t * used + j + 1) + i,
                      z = *a;
                *a = *b;
                *b = z;
            }
    }
}

static void biased_weights(const call *c) { /* the bias that only selects enters the weights */
    const float *bias = is_op(c, PERI_OP_ROUTE) && tensor(c, 1) ? row(c, 1, 0) : NULL;
    for (int64_t t = 0; bias && t < n_row(c, 0); t++)
        for (int64_t k = 0; k < extent(c, 2, 3); k++)
            row(c, 3, t)[k] += bias[((const int32_t *)row(c, 2, t))[k]];
}

static void lost_sum(const call *c) { /* y is right, the sum is not stored where it was */
    if (!is_op(c, PERI_OP_ADD_NORM)) return;
    for (int64_t r = 0; r < n_row(c, 0); r++)
        for (int64_t i = 0; i < extent(c, 0, 3); i++)
            row(c, 4, r)[i] -= row(c, 1, r)[i];
}

static void second_tile(const call *c) { /* tokens from the 64th on */
    if (!is_linear(c, F16)) return;
    for (int64_t t = 64; t < n_row(c, 4); t++)
        row(c, 4, t)[0] *= 1.001f;
}

static void many_rows(const call *c) { /* output rows from the 128th on */
    if (!is_linear(c, F16)) return;
    for (int64_t t = 0; t < n_row(c, 4); t++)
        for (int64_t i = 128; i < extent(c, 4, 3); i++)
            row(c, 4, t)[i] *= 1.001f;
}

static void long_prompt(const call *c) { /* queries of a sequence from the 64th on */
    if (!is_op(c, PERI_OP_ATTN)) return;
    const int32_t *pos = peri_step_array(c->s, c->s->pos);
    for (int64_t r = 0; r < n_row(c, 0); r++) {
        int64_t t = r / extent(c, 0, 2);
        if (t >= 64 && pos[t] - pos[t - 63] == 63) row(c, 4, r)[0] *= 1.001f;
    }
}

static void many_experts(const call *c) { /* experts from the 64th on */
    if (!is_op(c, PERI_OP_LINEAR_EXPERTS)) return;
    for (int64_t t = 0; t < n_row(c, 2); t++)
        for (int64_t j = 0; j < extent(c, 2, 3); j++)
            if (((const int32_t *)row(c, 2, t))[j] >= 64)
                row(c, 5, t * extent(c, 2, 3) + j)[0] *= 1.001f;
}

static void wide_head(const call *c) { /* elements of a value from the 64th on */
    if (!is_op(c, PERI_OP_ATTN)) return;
    for (int64_t r = 0; r < n_row(c, 4); r++)
        for (int64_t i = 64; i < extent(c, 4, 3); i++)
            row(c, 4, r)[i] *= 1.001f;
}

static void per_worker(const call *c) { /* a last bit by the number of threads */
    uint32_t bits;
    if (!is_op(c, PERI_OP_EXPERT_SUM) || host->workers(c->d) < 2) return;
    memcpy(&bits, row(c, 2, 0), 4);
    bits ^= 1;
    memcpy(row(c, 2, 0), &bits, 4);
}

static void spoils_input(const call *c) { /* the input served as scratch */
    if (is_op(c, PERI_OP_ROUTE)) row(c, 0, 0)[0] = 0;
}

static void writes_pool(const call *c) {
    if (is_op(c, PERI_OP_ATTN)) ((char *)peri_ptr(c->m, tensor(c, 1)))[0] ^= 1;
}

static void writes_step(const call *c) { /* positions turned into offsets in place */
    if (is_op(c, PERI_OP_ROPE)) ((int32_t *)(uintptr_t)peri_step_array(c->s, c->s->pos))[0] += 1;
}

static void once_in_a_while(const call *c) { /* every 16th call */
    static int n_call;
    if (is_op(c, PERI_OP_SCALE) && ++n_call % 16 == 0) row(c, 1, 0)[0] *= 1.001f;
}

typedef struct spoil_row {
    const char *name;
    void (*spoil)(const call *c);
} spoil_row;
static const spoil_row spoils[] = {
    {"neighbour_scale", neighbour_scale},
    {"tail_of_one", tail_of_one},
    {"expert_order", expert_order},
    {"biased_weights", biased_weights},
    {"lost_sum", lost_sum},
    {"second_tile", second_tile},
    {"many_rows", many_rows},
    {"long_prompt", long_prompt},
    {"many_experts", many_experts},
    {"wide_head", wide_head},
    {"per_worker", per_worker},
    {"spoils_input", spoils_input},
    {"writes_pool", writes_pool},
    {"writes_step", writes_step},
    {"once_in_a_while", once_in_a_while},
};

void spoil_more(const call *c) {
    for (size_t i = 0; i < sizeof spoils / sizeof *spoils; i++)
        if (has(spoils[i].name)) spoils[i].spoil(c);
}

/* ---- answers and lifetime ---- */

void answer_more(uint16_t code, const peri_bucket *b, peri_support *out) {
    most_tokens = b->hi[PERI_SYM_T];
    if (has("false_numerics") && code == PERI_OP_LINEAR && out->yes)
        snprintf(out->numerics, sizeof out->numerics, "act=f32 acc=f32");
    if (has("rough_numerics") && code == PERI_OP_LINEAR && out->yes) /* what no gate is for */
        snprintf(out->numerics, sizeof out->numerics, "act=q4/32 acc=i32");
    if (has("endless_numerics") && code == PERI_OP_ACT)
        memset(out->numerics, 'x', sizeof out->numerics);
    if (has("wide_answer") && code == PERI_OP_ACT) /* as a newer header's struct would be */
        memset((char *)out + sizeof *out, 1, 8);
    if (has("leak_in_supports") && code == PERI_OP_ACT) (void)!host->alloc(16, 16, -1);
    if (has("fails_large") && code == PERI_OP_GLU && b->hi[PERI_SYM_T] > 1024 && out->yes) {
        out->yes = 0; /* without a reason */
        memset(out->why, 0, sizeof out->why);
    }
}

int32_t open_more(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e) {
    if (!has("leak_in_open")) return base.open(h, index, out, e);
    void *first = h->alloc(64, 16, -1), *second = h->alloc(64, 16, -1);
    if (!second) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory"); /* first stays */
    h->free(first);
    h->free(second);
    return base.open(h, index, out, e);
}

/* ---- memory of a device of its own ---- */

static int32_t write_short(peri_dev *d, peri_buf *b, uint64_t off, const void *src, uint64_t bytes,
                           peri_error *e) { /* a length of 16 bits */
    return base.buf_write(d, b, off, src, bytes > 65536 ? bytes % 65536 : bytes, e);
}

static int32_t read_start(peri_dev *d, peri_buf *b, uint64_t off, void *dst, uint64_t bytes,
                          peri_error *e) { /* what was saved is restored from the start */
    (void)off;
    return base.buf_read(d, b, 0, dst, bytes, e);
}

static int32_t copy_words(peri_dev *d, peri_buf *dst, uint64_t dst_off, peri_buf *src,
                          uint64_t src_off, uint64_t bytes, peri_error *e) { /* offsets in words */
    return base.buf_copy(d, dst, dst_off & ~UINT64_C(3), src, src_off & ~UINT64_C(3), bytes, e);
}

void change_memory(peri_plugin *table) {
    if (has("write_short")) table->buf_write = write_short;
    if (has("read_start")) table->buf_read = read_start;
    if (has("copy_words")) table->buf_copy = copy_words;
}
