/* SPDX-License-Identifier: MIT
 *
 * kit_case.c - from a row of kit_shapes.c to operands with values.
 *
 * Every value is a pure function of the shape, the operand, the token's number in the whole case
 * and the element, so that a case cut into pieces, or with its KV blocks elsewhere, is the same
 * question and has the same answer.  kit_memory.c lays a case out and runs it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "check/kit.h"
#include "model/dtype.h"

#include "base/compiler.h"

typedef struct builder {
    kit_case *c;
    const kit_want *want;
    int64_t extent[128];
    uint64_t seed;
    int32_t n_all; /* tokens of the whole case */
} builder;

/* ---- extents and the step
 * ------------------------------------------------------------------------ */

static void read_extents(builder *b) {
    const kit_shape *s = b->c->shape;
    for (const char *p = s->extents; *p; p += strcspn(p, " "), p += *p == ' ')
        b->extent[(unsigned char)*p & 127] = strtol(p + 1, NULL, 10);
    b->extent['1'] = 1;
    b->extent['c'] = s->n_block_tok;
    for (const char *p = s->operands; *p; p += strcspn(p, " "), p += *p == ' ') {
        if (*p != 'w' && *p != 'p') continue;
        int64_t block = peri_dtype_get(b->c->dtype)->block_elements;
        int64_t *n = &b->extent[(unsigned char)p[4] & 127];
        *n = (*n + block - 1) / block * block;
    }
}

/* Sequences share the tokens; the blocks of all of them are dealt out in an order of the layout. */
static void make_table(builder *b, const int32_t *ctx) {
    kit_step *s = &b->c->step;
    int32_t block = b->c->shape->n_block_tok, most = 1, total = 2, order[KIT_SEQS * KIT_BLOCKS + 2];
    int32_t first = (int32_t)b->extent['O']; /* blocks in front that nobody uses */
    for (int i = 0; i < KIT_SEQS && block; i++) {
        int32_t n = (ctx[i] + block - 1) / block;
        total += n;
        if (n > most) most = n;
    }
    for (int32_t i = 0; i < total; i++) { /* a shuffle; the last two stay unused */
        int32_t at = (int32_t)kit_pick(b->want->layout + 11, (uint64_t)i, (uint32_t)i + 1);
        order[i] = order[at];
        order[at] = i;
    }
    s->n[PERI_SYM_B] = most;
    b->extent['b'] = first + total;
    for (int32_t i = 0, next = 0; i < KIT_SEQS; i++)
        for (int32_t k = 0; k < most; k++)
            s->table[i * most + k] = block && k * block < ctx[i] ? first + order[next++] : -1;
}

static void make_step(builder *b) {
    kit_step *s = &b->c->step;
    int32_t n_all = b->n_all, first = b->want->first, ctx[KIT_SEQS] = {0};
    int32_t n = b->want->n_tok ? b->want->n_tok : n_all, block = b->c->shape->n_block_tok;
    int32_t pos[KIT_TOKENS], seq[KIT_TOKENS];
    uint32_t n_id = b->c->shape->code == PERI_OP_EMBED ? (uint32_t)b->extent['v'] : 50;
    for (int32_t t = 0; t < n_all; t++) {
        seq[t] = n_all < KIT_SEQS ? t : t * KIT_SEQS / n_all;
        bool is_first = t == 0 || seq[t] != seq[t - 1];
        pos[t] = is_first ? seq[t] * (int32_t)b->extent['P'] : pos[t - 1] + 1;
        ctx[seq[t]] = pos[t] + 1;
    }
    s->n[PERI_SYM_T] = n;
    s->n[PERI_SYM_S] = KIT_SEQS;
    s->n[PERI_SYM_R] = (n + 1) / 2;
    make_table(b, ctx);
    memcpy(s->ctx, ctx, sizeof ctx);
    for (int32_t t = 0; t < n; t++) {
        s->pos[t] = pos[first + t];
        s->seq[t] = seq[first + t];
        s->tok[t] = (int32_t)kit_pick(b->seed, (uint64_t)(first + t), 50);
        if ((first + t) % 2) s->tok[t] = (int32_t)n_id - 1 - s->tok[t]; /* from both ends */
        s->out_row[t / 2] = t - t % 2;
        s->slot[t] = -1;
        if (!block || (first + t) % 5 == 3) continue; /* every fifth token is padding */
        s->slot[t] =
            s->table[s->seq[t] * s->n[PERI_SYM_B] + s->pos[t] / block] * block + s->pos[t] % block;
    }
}

/* ---- values
 * --------------------------------------------------------------------------------------- */

static int64_t size_of(const kit_case *c, const kit_operand *x) {
    int64_t n = 1;
    for (int i = 0; i < 4; i++)
        n *= x->dim[i] < 0 ? c->step.n[-x->dim[i]] : x->dim[i];
    return n;
}

/* Between -1 and 1, with outliers. */
static double number(uint64_t seed, uint64_t i) {
    return (double)kit_random(seed, i) * (kit_pick(seed + 1, i, 50) ? 1 : 8);
}

/* Rows of five kinds: no two alike, equal ones in plenty, with NaN and infinities, hardly a number
 * among NaN, and zeros of both signs. */
static double logit(uint64_t seed, uint64_t at, uint64_t row) {
    static const double odd[] = {(double)NAN, -INFINITY, INFINITY};
    uint32_t what = kit_pick(seed + 2, at, 40);
    double equal = kit_pick(seed, at, 24) * 0.25 - 3;
    switch (row % 5) {
    case 0:
        return number(seed, at);
    case 1:
        return equal;
    case 2:
        return what < 3 ? odd[what] : equal;
    case 3:
        return what ? odd[what % 2] : equal;
    default:
        return what % 3 ? -equal * equal : what % 2 ? -0.0 : 0;
    }
}

/* What real activations hold now and then: rows of zeros, of which a scale or a norm is 0; rows
 * next to nothing, where eps decides; values that are no numbers, which the simplest operations
 * pass on as IEEE 754 says. */
static double odd_number(uint16_t code, double x, uint64_t seed, uint64_t at, int64_t row) {
    static const double odd[] = {(double)NAN, -INFINITY, INFINITY};
    uint32_t what = kit_pick(seed + 2, at, 24);
    switch (code) {
    case PERI_OP_NORM:
    case PERI_OP_ADD_NORM:
        return row % 4 == 2 ? 0 : row % 4 == 3 ? x * 0x1p-27 : x;
    case PERI_OP_LINEAR:
    case PERI_OP_LINEAR_EXPERTS:
    case PERI_OP_LINEAR_QKV:
    case PERI_OP_GATE_UP_GLU:
        return row % 8 == 5 ? 0 : x;
    case PERI_OP_ADD:
    case PERI_OP_MUL:
    case PERI_OP_SCALE:
        return row % 4 == 1 && what < 3 ? odd[what] : x;
    }
    return x;
}

static void fill_activation(builder *b, kit_operand *x, uint64_t seed) {
    int64_t n = size_of(b->c, x), per_tok = n / b->c->step.n[PERI_SYM_T];
    uint16_t code = b->c->shape->code;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = b->want->first * per_tok + i, row = at / x->dim[3];
        double by = b->extent['X'] ? (double)b->extent['X'] : 1;
        x->v[i] = odd_number(code, number(seed, (uint64_t)at) * by, seed, (uint64_t)at, row);
        /* Ties are wanted, and nothing that only rounding tells apart. */
        if (code == PERI_OP_TOPK) x->v[i] = logit(seed, (uint64_t)at, (uint64_t)row);
        if (code == PERI_OP_ROUTE) x->v[i] = kit_pick(seed, (uint64_t)at, 24) * 0.25 - 3;
        if (x->kind != 'i') continue;
        int64_t choice = at % x->dim[3]; /* different experts per token */
        x->v[i] = (double)((kit_pick(seed, (uint64_t)row, 64) + choice) % b->extent['e']);
    }
}

/* Key row j of sequence s gives the same numbers wherever it lies; other rows are poison. */
static void fill_pool(builder *b, kit_operand *x, uint64_t seed) {
    const kit_step *s = &b->c->step;
    int64_t n = x->dim[2] * x->dim[3], block = x->dim[1], n_row = x->dim[0] * block;
    for (int64_t i = 0; i < n_row * n; i++)
        x->v[i] = (double)NAN;
    for (int32_t q = 0; q < KIT_SEQS && b->c->shape->code == PERI_OP_ATTN; q++)
        for (int64_t j = 0; j < s->ctx[q]; j++) {
            int64_t row = s->table[q * s->n[PERI_SYM_B] + j / block] * block + j % block;
            for (int64_t i = 0; i < n; i++)
                x->v[row * n + i] = number(seed, (uint64_t)((q * 4096 + j) * n + i));
        }
}

/* Round v to the operand's type and keep the bits. */
static bool keep_bits(kit_operand *x, int64_t n) {
    x->n_bits = (size_t)peri_dtype_size(x->dtype, (uint64_t)n);
    x->bits = peri_alloc(x->n_bits);
    if (!x->bits) return false;
    if (x->kind != 'i') kit_encode(x->dtype, x->v, n, x->bits);
    for (int64_t i = 0; i < n && x->kind == 'i'; i++) {
        int32_t id = (int32_t)x->v[i];
        memcpy(x->bits + (size_t)i * sizeof id, &id, sizeof id);
    }
    return true;
}

static bool fill_weight(kit_operand *x, int64_t n, uint64_t seed) {
    const peri_dtype_info *t = peri_dtype_get(x->dtype);
    int64_t n_block = n / t->block_elements;
    x->n_bits = (size_t)n_block * t->block_bytes;
    x->bits = peri_calloc(1, x->n_bits);
    if (!x->bits || !kit_can_decode(x->dtype)) return x->bits != NULL;
    kit_random_blocks(x->dtype, x->bits, n_block, seed);
    kit_decode(x->dtype, x->bits, n, x->v);
    return true;
}

/* Weights and vectors are those of the whole case, pools where the blocks lie as they do there. */
static bool borrow(const builder *b, kit_operand *x) {
    const kit_case *whole = b->want->whole;
    bool is_equal = x->kind == 'w' || x->kind == 'v' ||
                    (x->kind == 'p' && whole && whole->layout == b->want->layout);
    if (!whole || !is_equal) return false;
    const kit_operand *same = &whole->x[x - b->c->x];
    x->v = same->v;
    x->bits = same->bits;
    x->n_bits = same->n_bits;
    x->is_borrowed = true;
    return true;
}

static bool fill(builder *b, kit_operand *x, uint64_t seed) {
    int64_t n = size_of(b->c, x);
    if (borrow(b, x)) return true;
    x->v = peri_calloc((size_t)n, sizeof *x->v);
    if (!x->v) return false;
    switch (x->kind) {
    case 'w':
        return fill_weight(x, n, seed);
    case 'p':
        fill_pool(b, x, seed);
        return keep_bits(x, n);
    case 'v':
        for (int64_t i = 0; i < n; i++)
            x->v[i] = number(seed, (uint64_t)i);
        if (b->c->shape->code == PERI_OP_ROPE) /* factors */
            for (int64_t i = 0; i < n; i++)
                x->v[i] = 1 + (double)(float)(kit_pick(seed, (uint64_t)i, 8) * 0.25);
        if (b->c->shape->code == PERI_OP_ROUTE) /* biases that keep ties and gaps apart */
            for (int64_t i = 0; i < n; i++)
                x->v[i] = (double)(float)(0.01 * kit_pick(seed, (uint64_t)i, 3));
        break;
    case 'a':
    case 'i':
        fill_activation(b, x, seed);
        break;
    default:
        return true;
    }
    for (int64_t i = 0; i < n; i++)
        x->v[i] = (double)(float)x->v[i];
    return keep_bits(x, n);
}

/* ---- the case
 * --------------------------------------------------------------------------------------- */

static bool add_operand(builder *b, const char *pattern, uint32_t k) {
    kit_operand *x = &b->c->x[k];
    bool is_absent = pattern[5] == '?' && b->want->is_absent;
    x->kind = is_absent ? '-' : pattern[0];
    x->dtype = pattern[0] == 'w' || pattern[0] == 'p'   ? b->c->dtype
               : pattern[0] == 'i' || pattern[0] == 'n' ? (uint16_t)PERI_DT_I32
                                                        : (uint16_t)PERI_DT_F32;
    x->gap = x->kind == 'a' || x->kind == 'o' ? (int64_t)((k + b->want->layout) % 3) * 5 : 0;
    for (int i = 0; i < 4; i++)
        x->dim[i] = pattern[1 + i] == 't'   ? -PERI_SYM_T
                    : pattern[1 + i] == 'z' ? -PERI_SYM_R
                                            : b->extent[(unsigned char)pattern[1 + i] & 127];
    if (strchr("on", pattern[0]))
        b->c->n_out++;
    else
        b->c->n_in++;
    return is_absent || fill(b, x, b->seed + 10 * k);
}

static void name_case(kit_case *c) {
    int n = snprintf(c->name, sizeof c->name, "T=%d", c->step.n[PERI_SYM_T]);
    for (uint32_t k = 0; k < c->n_in + c->n_out; k++) {
        const kit_operand *x = &c->x[k];
        if (n >= (int)sizeof c->name - 24) break;
        n += snprintf(c->name + n, sizeof c->name - (size_t)n, " %c[", x->kind);
        for (int i = 0; i < 4 && x->kind != '-' && n < (int)sizeof c->name - 16; i++) {
            if (i < 3 && x->dim[i] == 1) continue;
            int64_t d = x->dim[i] < 0 ? c->step.n[-x->dim[i]] : x->dim[i];
            n += snprintf(c->name + n, sizeof c->name - (size_t)n, i < 3 ? "%lldx" : "%lld",
                          (long long)d);
        }
        n += snprintf(c->name + n, sizeof c->name - (size_t)n, "]");
    }
}

bool kit_case_init(kit_case *c, const kit_shape *s, uint32_t dtype, const kit_want *w) {
    builder b = {
        .c = c, .want = w, .n_all = s->n_tok, .seed = (uint64_t)(s->code * 131) + s->n_tok};
    *c = (kit_case){.shape = s,
                    .dtype = (uint16_t)dtype,
                    .layout = w->layout,
                    .slack = w->layout % 2 ? KIT_SLACK : 0,
                    .num = {.act = 32}};
    read_extents(&b);
    make_step(&b);
    uint32_t k = 0;
    for (const char *p = s->operands; *p; p += strcspn(p, " "), p += *p == ' ')
        if (!add_operand(&b, p, k++)) return false;
    name_case(c);
    return true;
}

void kit_case_fini(kit_case *c) {
    for (uint32_t k = 0; k < KIT_OPERANDS; k++) {
        if (c->x[k].is_borrowed) continue;
        peri_free(c->x[k].v);
        peri_free(c->x[k].bits);
    }
    *c = (kit_case){0};
}

double kit_case_macs(const kit_case *c) {
    const kit_operand *x = c->x;
    double n_tok = c->step.n[PERI_SYM_T], sum = 0;
    switch (c->shape->code) {
    case PERI_OP_ATTN:
        for (int32_t t = 0; t < c->step.n[PERI_SYM_T]; t++)
            sum += c->step.ctx[c->step.seq[t]];
        return sum * (double)(x[0].dim[2] * (x[1].dim[3] + x[2].dim[3]));
    case PERI_OP_LINEAR_EXPERTS:
        return n_tok * (double)(x[2].dim[3] * x[1].dim[2] * x[1].dim[3]);
    case PERI_OP_LINEAR:
    case PERI_OP_LINEAR_QKV:
    case PERI_OP_GATE_UP_GLU:
        for (uint32_t k = 1; k < c->n_in; k++)
            if (x[k].kind == 'w') sum += n_tok * (double)(x[k].dim[2] * x[k].dim[3]);
        return sum;
    }
    return 0;
}

bool kit_case_reference(kit_case *c) {
    kit_op o = {.code = c->shape->code,
                .n_in = c->n_in,
                .n_out = c->n_out,
                .attr = c->shape->attr,
                .step = &c->step,
                .num = c->num};
    for (uint32_t k = 0; k < c->n_in + c->n_out; k++) {
        o.v[k] = c->x[k].kind == '-' ? NULL : c->x[k].v;
        o.dtype[k] = c->x[k].dtype;
        for (int i = 0; i < 4; i++)
            o.dim[k][i] = c->x[k].dim[i] < 0 ? c->step.n[-c->x[k].dim[i]] : c->x[k].dim[i];
    }
    return kit_ref_run(&o);
}

bool kit_op_is_wanted(const kit_plugin *p, uint16_t code) {
    static const struct {
        const char *name;
        uint16_t code;
    } names[] = {
#define PERI_OP(NAME, number, level, n_in, n_out, attr) {#NAME, number},
#include "perigee/op.def"
#undef PERI_OP
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == code) return !p->only_op || strcmp(p->only_op, names[i].name) == 0;
    return false;
}

bool kit_is_wanted(const kit_plugin *p, const kit_shape *s, uint32_t dtype) {
    bool has_type = kit_dtype_at(s, 1) >= 0;
    const peri_dtype_info *t = peri_dtype_get(has_type ? dtype : (uint32_t)PERI_DT_F32);
    return kit_op_is_wanted(p, s->code) &&
           (!p->only_type || strcasecmp(p->only_type, t->name) == 0);
}
