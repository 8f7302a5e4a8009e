/* SPDX-License-Identifier: MIT
 *
 * linear.c - the matrix products of the fast levels, cut into work: LINEAR, LINEAR_QKV,
 * GATE_UP_GLU, LINEAR_EXPERTS.
 *
 * An op is a list of products (parts) over the same tokens.  Per block of at most LINEAR_M tokens:
 * the rows of activations are quantised once per form that the parts want (for tiles 256 columns of
 * 16 tokens at a time), into shared scratch;
 * then workers take chunks of 16-row groups, compute plain sums into their own scratch and store
 * them with scale, bias or GLU.
 *
 * Experts: a (token, choice) is a pair.  Pairs are sorted by expert, their activations quantised in
 * that order, so that an expert is a product over consecutive rows and its weights are unpacked
 * once; the stores undo the order.
 *
 * Chunks only split output rows, so no result depends on them.  A worker's chunks are neighbours
 * (host->parallel), so small ones cost little more than a claim, and they bound what the others
 * wait for at the end; an op of a few microseconds stays on the calling thread. */
#include <string.h>

#include "expand.h"
#include "fast.h"

enum {
    PARTS_MAX = 3,
    FORMS_MAX = 3,
    PAIRS_MAX = 4096,        /* pairs of a block of tokens in LINEAR_EXPERTS */
    ALONE_BYTES = 128 << 10, /* weights of an op that is not split: about 4 us of reading */
    CHUNK_BYTES = 16 << 10,  /* weights read by one chunk, at least */
    CHUNKS_PER_WORKER = 32,
    CHUNKS_AT_LEAST = 4, /* per worker, where a call takes many groups */
    FEW_TOKENS = 16,
    QUANTIZE_ELEMENTS = 2048, /* activations quantised by one chunk, at least: about 1 us */
    PIECE_TOKENS = 8,         /* of sums that leave together */
    START_BYTES = 8192,       /* asked for where a stream begins: as far as kernels ask ahead */
    LINE = 64,
};

#define CODED(NAME, name, ...)                                                                     \
    { .dtype = PERI_CPU_##NAME, .expand = linear_expand_##name, __VA_ARGS__ }
static const linear_type types[] = {
    {.dtype = PERI_CPU_F32, .span = LINEAR_SPAN_F32, .block = 1, .block_bytes = 4},
    {.dtype = PERI_CPU_F16, .span = LINEAR_SPAN_F32, .block = 1, .block_bytes = 2},
    {.dtype = PERI_CPU_BF16, .span = LINEAR_SPAN_BF16, .block = 1, .block_bytes = 2},
    {.dtype = PERI_CPU_Q4_0, .span = 32, .block = 32, .block_bytes = 18, .offset = 8},
    {.dtype = PERI_CPU_Q4_1, .span = 32, .block = 32, .block_bytes = 20, .min_sub = 32},
    {.dtype = PERI_CPU_Q5_0, .span = 32, .block = 32, .block_bytes = 22, .offset = 16},
    {.dtype = PERI_CPU_Q5_1,
     .span = 32,
     .block = 32,
     .block_bytes = 24,
     .offset = 16,
     .min_sub = 32},
    {.dtype = PERI_CPU_Q8_0, .span = 32, .block = 32, .block_bytes = 34, .is_wide = 1},
    {.dtype = PERI_CPU_Q2_K, .span = 256, .block = 256, .block_bytes = 84, .min_sub = 16},
    {.dtype = PERI_CPU_Q3_K, .span = 256, .block = 256, .block_bytes = 110, .offset = 4},
    {.dtype = PERI_CPU_Q4_K, .span = 256, .block = 256, .block_bytes = 144, .min_sub = 32},
    {.dtype = PERI_CPU_Q5_K, .span = 256, .block = 256, .block_bytes = 176, .min_sub = 32},
    {.dtype = PERI_CPU_Q6_K, .span = 256, .block = 256, .block_bytes = 210, .offset = 32},
    CODED(Q1_0, q1_0, .span = 32, .block = 128, .block_bytes = 18, .offset = 1),
    CODED(Q2_0, q2_0, .span = 32, .block = 64, .block_bytes = 18, .offset = 1),
    CODED(TQ1_0, tq1_0, .span = 256, .block = 256, .block_bytes = 54, .offset = 1),
    CODED(TQ2_0, tq2_0, .span = 256, .block = 256, .block_bytes = 66, .offset = 1),
    CODED(MXFP4, mxfp4, .span = 32, .block = 32, .block_bytes = 17, .offset = 12),
    CODED(NVFP4, nvfp4, .span = 32, .block = 64, .block_bytes = 36, .is_wide = 1, .has_two = 1),
    CODED(IQ1_S, iq1_s, .span = 256, .block = 256, .block_bytes = 50, .is_wide = 1),
    CODED(IQ1_M, iq1_m, .span = 256, .block = 256, .block_bytes = 56, .is_wide = 1),
    CODED(IQ2_XXS, iq2_xxs, .span = 256, .block = 256, .block_bytes = 66, .is_wide = 1),
    CODED(IQ2_XS, iq2_xs, .span = 256, .block = 256, .block_bytes = 74, .is_wide = 1),
    CODED(IQ2_S, iq2_s, .span = 256, .block = 256, .block_bytes = 82, .is_wide = 1),
    CODED(IQ3_XXS, iq3_xxs, .span = 256, .block = 256, .block_bytes = 98, .is_wide = 1),
    CODED(IQ3_S, iq3_s, .span = 256, .block = 256, .block_bytes = 110, .is_wide = 1),
    CODED(IQ4_NL, iq4_nl, .span = 32, .block = 32, .block_bytes = 18, .is_wide = 1),
    CODED(IQ4_XS, iq4_xs, .span = 256, .block = 256, .block_bytes = 136, .is_wide = 1),
};

const linear_type *linear_type_of(uint32_t dtype) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == dtype) return &types[i];
    return NULL;
}

/* ---- which ops ---- */

static const char *numerics_of(const linear_type *t) {
    switch (t->span) {
    case 32:
        return "act=q8/32 acc=i32";
    case 256:
        return "act=q8/256 acc=i32";
    case LINEAR_SPAN_BF16:
        return "act=bf16 acc=f32";
    default:
        return "act=f32 acc=f32";
    }
}

/* Weights of one op must agree on numerics: the declaration holds for all outputs.  Where they do
 * not, an op for each is what the level can do: CPU_IN_PARTS. */
int linear_supports(const peri_program *p, const peri_op *op, char numerics[28]) {
    uint32_t first = 1, count = op->code == PERI_OP_LINEAR_QKV    ? 3
                                : op->code == PERI_OP_GATE_UP_GLU ? 2
                                                                  : 1;
    const char *text = NULL;
    int rc = 1;
    for (uint32_t k = first; k < first + count; k++) {
        const linear_type *t = linear_type_of(peri_operand(p, op, k)->dtype);
        if (!t) return 0;
        if (text && numerics_of(t) != text) rc = CPU_IN_PARTS;
        text = numerics_of(t);
    }
    snprintf(numerics, 28, "%s", text);
    return rc;
}

/* ---- an op as products ---- */

typedef struct part {
    linear_in in; /* act and n_tok are set per block */
    uint32_t form;
    int64_t n_group;
    const float *scale, *bias;
    uint8_t *y;
    int64_t y_stride, y_stride_pair;
} part;

/* A form of activations; two types share it when their act8 would be the same bytes. */
typedef struct form {
    const linear_type *type;
    size_t off, kb_stride; /* in shared scratch; per block of columns, or per row (f32) */
} form;

typedef struct product {
    cpu_dev *d;
    const cpu_isa *isa;
    const cpu_job *j;
    part part[PARTS_MAX];
    form form[FORMS_MAX];
    uint32_t n_part, n_form, flags;
    int is_glu, is_tiled;
    const uint8_t *x;
    int64_t x_stride, x_stride_pair, n; /* x_stride_pair 0: all choices of a token share x */
    int64_t tok0;
    int32_t n_tok; /* rows of activations of this block: tokens, or pairs */
    /* experts only */
    int64_t n_choice, expert_bytes;
    int32_t *pair, *expert, *first; /* [n_tok] pair at a sorted place; [n_active]; [n_active + 1] */
    int32_t n_active;
    int64_t n_group, chunk; /* groups in all, per chunk */
    size_t acc_floats;
} product;

static int same_form(const linear_type *a, const linear_type *b) {
    return a->span == b->span && a->offset == b->offset && a->min_sub == b->min_sub &&
           a->is_wide == b->is_wide && a->has_two == b->has_two;
}

static uint32_t form_of(product *o, const linear_type *t) {
    uint32_t i = 0;
    while (i < o->n_form && !same_form(o->form[i].type, t))
        i++;
    if (i == o->n_form) o->form[o->n_form++] = (form){.type = t};
    return i;
}

/* Operand numbers; 0 = absent. */
static void add_part(product *o, uint32_t w, uint32_t bias, uint32_t scale, uint32_t y) {
    const cpu_job *j = o->j;
    part *p = &o->part[o->n_part++];
    const linear_type *t = linear_type_of(j->t[w]->dtype);
    int64_t m = j->dim[w][2], n = j->dim[w][3];
    p->in = (linear_in){.type = t,
                        .w = j->ptr[w],
                        .m = m,
                        .n = n,
                        .row_bytes = (size_t)(n / t->block * t->block_bytes)};
    p->form = form_of(o, t);
    p->n_group = (m + LINEAR_ROWS - 1) / LINEAR_ROWS;
    p->bias = bias ? j->ptr[bias] : NULL;
    p->scale = scale ? j->ptr[scale] : NULL;
    p->y = j->ptr[y];
    p->y_stride = j->t[y]->stride[2];
}

/* ---- quantising ---- */

/* The order of BF16 activations. */
static int is_by_row(const product *o) {
    return o->n_tok <= LINEAR_FEW;
}

/* Row i of the block: f32 [n]. */
static const float *x_row(const product *o, int32_t i) {
    if (!o->pair) return (const float *)(o->x + (o->tok0 + i) * o->x_stride);
    int64_t t = o->tok0 + o->pair[i] / o->n_choice, c = o->pair[i] % o->n_choice;
    return (const float *)(o->x + t * o->x_stride + c * o->x_stride_pair);
}

typedef struct quantize_job {
    const product *o;
    int32_t chunk;
} quantize_job;

static void quantize_chunk(void *arg, uint32_t i, uint32_t worker) {
    const quantize_job *q = arg;
    const product *o = q->o;
    int32_t lo = (int32_t)i * q->chunk, hi = lo + q->chunk < o->n_tok ? lo + q->chunk : o->n_tok;
    uint8_t *base = cpu_shared(o->d);
    (void)worker;
    for (uint32_t f = 0; f < o->n_form; f++) {
        const form *fm = &o->form[f];
        for (int32_t r = lo; r < hi; r++) {
            uint8_t *to = base + fm->off + (size_t)r * linear_act_bytes(o->isa, fm->type);
            if (fm->type->span == LINEAR_SPAN_F32)
                memcpy(base + fm->off + (size_t)r * fm->kb_stride, x_row(o, r),
                       (size_t)o->n * sizeof(float));
            else if (fm->type->span == LINEAR_SPAN_BF16)
                o->isa->bf16->pack(x_row(o, r), o->n, is_by_row(o), to, fm->kb_stride);
            else
                o->isa->quantize(fm->type, x_row(o, r), o->n, to, fm->kb_stride);
        }
    }
}

static void quantize(const product *o) {
    int64_t chunk = (QUANTIZE_ELEMENTS + o->n - 1) / o->n;
    uint32_t n_form = 0;
    for (uint32_t f = 0; f < o->n_form; f++)
        n_form += o->form[f].kb_stride != 0;
    if (n_form == 0) return;
    quantize_job q = {.o = o, .chunk = (int32_t)chunk};
    cpu_parallel(o->d, (uint32_t)((o->n_tok + chunk - 1) / chunk), quantize_chunk, &q);
}

/* ---- tiles of activations ---- */

static int is_tiled(const product *o) {
    int yes = 1;
    for (uint32_t k = 0; k < o->n_part; k++)
        yes &= linear_is_tiled(o->isa, o->part[k].in.type, o->n, o->n_tok);
    return yes;
}

/* Rows of activations for which there is room. */
static int64_t rows_of(const product *o) {
    return o->is_tiled ? (o->n_tok + LINEAR_ROWS - 1) / LINEAR_ROWS * LINEAR_ROWS : o->n_tok;
}

/* Tile i of all of a form, 256 columns of 16 tokens: they become bytes and are arranged at once,
 * while they are near. */
static void quantize_tile(void *arg, uint32_t i, uint32_t worker) {
    const product *o = arg;
    int64_t n_tile = rows_of(o) / LINEAR_ROWS, per_form = n_tile * (o->n / LINEAR_K);
    const form *f = &o->form[i / per_form];
    int64_t kb = i % per_form / n_tile, first = i % n_tile * LINEAR_ROWS;
    int64_t n = o->n_tok - first < LINEAR_ROWS ? o->n_tok - first : LINEAR_ROWS;
    uint8_t *at = (uint8_t *)cpu_shared(o->d) + f->off + (size_t)kb * f->kb_stride +
                  (size_t)first * sizeof(act8);
    (void)worker;
    for (int64_t r = 0; r < n; r++)
        o->isa->quantize(f->type, x_row(o, (int32_t)(first + r)) + kb * LINEAR_K, LINEAR_K,
                         at + (size_t)r * sizeof(act8), f->kb_stride);
    memset(at + (size_t)n * sizeof(act8), 0, (size_t)(LINEAR_ROWS - n) * sizeof(act8));
    o->isa->tiled->arrange(at);
}

static void quantize_tiles(product *o) {
    int64_t n = o->n_form * (rows_of(o) / LINEAR_ROWS) * (o->n / LINEAR_K);
    cpu_parallel(o->d, (uint32_t)n, quantize_tile, o);
}

/* ---- products ---- */

/* The start of a worker's scratch: where the weights that it read last end, per part.  Other ops
 * leave other things there, which costs a needless or a missing request at most. */
typedef struct streams {
    _Alignas(LINE) const uint8_t *end[PARTS_MAX];
} streams;

static void ask_for(const uint8_t *w, size_t bytes) {
    size_t most = bytes < START_BYTES ? bytes : START_BYTES;
    for (size_t i = 0; i < most; i += LINE)
        __builtin_prefetch(w + i);
}

static float *acc_of(const product *o, uint32_t worker) {
    return (float *)((char *)cpu_scratch(o->d, worker) + sizeof(streams));
}

/* Rows row0 .. of a part (of one expert), times rows tok .. of the activations. */
typedef struct block {
    int64_t expert, row0;
    int32_t rows, tok, n_tok;
} block;

/* Kernels ask for memory while they read what comes before it; where nothing does, all of it is
 * asked for at once: the first 55 KB of a Q4_0 product took 3.3 us, all later ones 1.6.  w: the
 * weights of the part, or of one of its experts. */
static void begin_stream(const product *o, const part *p, const block *b, const uint8_t *w,
                         uint32_t worker) {
    streams *s = cpu_scratch(o->d, worker);
    const uint8_t **end = &s->end[p - o->part];
    const uint8_t *first = w + (size_t)b->row0 * p->in.row_bytes;
    if (*end != first) ask_for(first, (size_t)(p->in.m - b->row0) * p->in.row_bytes);
    *end = first + (size_t)b->rows * p->in.row_bytes;
}

/* One or two groups of rows, acc[2][n_tok][16]; of one token as many as the set takes.  1: the sums
 * are where they belong already. */
static int sums_int(const product *o, const linear_in *in, const block *b, float *acc) {
    if (b->n_tok == 1 && o->isa->token_groups) {
        o->isa->rows_int(in, b->row0, b->rows, acc);
        return 0;
    }
    int is_pair = b->rows == 2 * LINEAR_ROWS && b->n_tok >= LINEAR_PAIR && o->isa->pair_int;
    int done = is_pair ? o->isa->pair_int(in, b->row0, acc) : 0;
    if (done) return done == LINEAR_STORED;
    int32_t first = b->rows < LINEAR_ROWS ? b->rows : LINEAR_ROWS;
    o->isa->rows_int(in, b->row0, first, acc);
    if (b->rows > first)
        o->isa->rows_int(in, b->row0 + first, b->rows - first,
                         acc + (size_t)b->n_tok * LINEAR_ROWS);
    return 0;
}

/* Of a part whose sums are the results as they are. */
static float *y_of(const product *o, const part *p, const block *b) {
    int is_plain = !o->is_glu && !o->pair && !p->scale && !p->bias;
    return is_plain ? (float *)(p->y + (o->tok0 + b->tok) * p->y_stride) : NULL;
}

/* 1: the sums are where they belong already. */
static int sums(const product *o, const part *p, const block *b, uint32_t worker, float *acc) {
    linear_in in = p->in;
    const form *f = &o->form[p->form];
    const uint8_t *shared = cpu_shared(o->d);
    in.w += b->expert * o->expert_bytes;
    if (b->n_tok == 1) begin_stream(o, p, b, in.w, worker);
    in.n_tok = b->n_tok;
    in.kb_stride = f->kb_stride;
    float *scratch = acc_of(o, worker) + o->acc_floats;
    if (in.type->span != LINEAR_SPAN_F32) {
        in.act = shared + f->off + (size_t)b->tok * linear_act_bytes(o->isa, in.type);
        in.by_row = is_by_row(o);
        in.y = y_of(o, p, b);
        in.y_stride = (size_t)p->y_stride / sizeof(float);
        if (o->is_tiled) return o->isa->tiled->rows(&in, b->row0, b->rows, acc) == LINEAR_STORED;
        if (in.type->span != LINEAR_SPAN_BF16) return sums_int(o, &in, b, acc);
        o->isa->bf16->rows(&in, b->row0, b->rows, acc, scratch);
        return 0;
    }
    if (f->kb_stride)
        in.act = shared + f->off + (size_t)b->tok * f->kb_stride;
    else { /* in place */
        in.act = (const uint8_t *)x_row(o, b->tok);
        in.kb_stride = (size_t)o->x_stride;
    }
    o->isa->rows_f32(&in, b->row0, b->rows, acc, scratch);
    return 0;
}

static void store(const product *o, const part *p, const block *b, const float *acc) {
    const float *bias = p->bias ? p->bias + b->expert * p->in.m + b->row0 : NULL;
    float scale = p->scale ? p->scale[b->expert] : 1.0f;
    for (int32_t i = 0; i < b->n_tok; i++, acc += LINEAR_ROWS) {
        int64_t t = b->tok + i, c = 0;
        if (o->pair) {
            c = o->pair[t] % o->n_choice;
            t = o->pair[t] / o->n_choice;
        }
        float *y = (float *)(p->y + (o->tok0 + t) * p->y_stride + c * p->y_stride_pair) + b->row0;
        if (!p->scale && !bias && b->rows == LINEAR_ROWS)
            memcpy(y, acc, LINEAR_ROWS * sizeof *y); /* a constant size is a register or two */
        else if (!p->scale && !bias)
            memcpy(y, acc, (size_t)b->rows * sizeof *y);
        else if (o->flags & PERI_LINEAR_SCALE_LAST)
            for (int32_t r = 0; r < b->rows; r++)
                y[r] = scale * (acc[r] + (bias ? bias[r] : 0.0f));
        else
            for (int32_t r = 0; r < b->rows; r++)
                y[r] = scale * acc[r] + (bias ? bias[r] : 0.0f);
    }
}

/* Groups of 16 rows that one call computes, for many tokens of the op or for one: n_tok, all or an
 * expert's. */
static int32_t groups_per_call(const product *o, const part *p, int32_t n_tok) {
    int16_t span = p->in.type->span;
    if (o->is_tiled) return LINEAR_TILED_GROUPS;
    if (span == LINEAR_SPAN_F32) return 1;
    if (span == LINEAR_SPAN_BF16) return is_by_row(o) ? 1 : o->isa->bf16->n_group;
    if (n_tok == 1 && o->isa->token_groups) return o->isa->token_groups;
    return o->isa->pair_int && o->n_tok >= LINEAR_PAIR ? LINEAR_GROUPS : 1;
}

/* Lanes beyond the matrix hold nothing to apply a function to. */
static void clear_lanes(float *acc, int32_t n_tok, int32_t rows) {
    for (int32_t i = 0; i < n_tok && rows < LINEAR_ROWS; i++, acc += LINEAR_ROWS)
        memset(acc + rows, 0, (size_t)(LINEAR_ROWS - rows) * sizeof *acc);
}

/* A group of gate and one of up become results, in the place of the first. */
static void apply_glu(const product *o, int32_t n_tok, int32_t rows, float *gate, float *up) {
    const peri_act_attr *a = &o->j->attr.act;
    clear_lanes(gate, n_tok, rows);
    clear_lanes(up, n_tok, rows);
    o->isa->vec->act(a->act, a->param, gate, up, gate, (int64_t)n_tok * LINEAR_ROWS);
}

/* Rows and tokens of b, n_group groups, of the part or of gate and up.  Sums leave by pieces of
 * tokens: the lines of y are in no cache, and processors fetch them for the stores of one piece
 * while they compute the next. */
static void run_block(const product *o, const part *p, block b, int32_t n_group, uint32_t worker) {
    float *acc = acc_of(o, worker);
    size_t group = (size_t)b.n_tok * LINEAR_ROWS;
    if (sums(o, p, &b, worker, acc)) return;
    if (o->is_glu) sums(o, p + 1, &b, worker, acc + (size_t)n_group * group);
    for (int32_t tok = 0; tok < b.n_tok; tok += PIECE_TOKENS) {
        block piece = b;
        piece.tok += tok;
        piece.n_tok = b.n_tok - tok < PIECE_TOKENS ? b.n_tok - tok : PIECE_TOKENS;
        float *x = acc + (size_t)tok * LINEAR_ROWS;
        for (int32_t left = b.rows; left > 0; left -= LINEAR_ROWS, x += group) {
            piece.rows = left < LINEAR_ROWS ? left : LINEAR_ROWS;
            if (o->is_glu) apply_glu(o, piece.n_tok, piece.rows, x, x + (size_t)n_group * group);
            store(o, p, &piece, x);
            piece.row0 += LINEAR_ROWS;
        }
    }
}

/* Group g, and those behind it that the same call can compute, below `end`; returns how many. */
static int32_t run_groups(const product *o, int64_t g, int64_t end, uint32_t worker) {
    const part *p = o->part;
    block b = {.n_tok = o->n_tok};
    end -= g;
    if (o->pair) {
        int64_t a = g / p->n_group;
        g %= p->n_group;
        b.expert = o->expert[a];
        b.tok = o->first[a];
        b.n_tok = o->first[a + 1] - b.tok;
    }
    while (!o->is_glu && g >= p->n_group)
        g -= p++->n_group;
    int32_t n = groups_per_call(o, p, b.n_tok);
    if (n > end) n = (int32_t)end;
    if (n > p->n_group - g) n = (int32_t)(p->n_group - g);
    b.row0 = g * LINEAR_ROWS;
    int64_t rows = p->in.m - b.row0;
    b.rows = rows < n * LINEAR_ROWS ? (int32_t)rows : n * LINEAR_ROWS;
    for (int32_t last = b.tok + b.n_tok; b.tok < last; b.tok += LINEAR_M) {
        b.n_tok = last - b.tok < LINEAR_M ? last - b.tok : LINEAR_M;
        run_block(o, p, b, n, worker);
    }
    return n;
}

static void run_chunk(void *arg, uint32_t i, uint32_t worker) {
    const product *o = arg;
    int64_t lo = (int64_t)i * o->chunk,
            hi = lo + o->chunk < o->n_group ? lo + o->chunk : o->n_group;
    int does_enter = o->is_tiled || linear_enters(o->isa, o->part->in.type, o->n_tok);
    if (does_enter) o->isa->enter(o->part->in.type);
    while (lo < hi)
        lo += run_groups(o, lo, hi, worker);
    if (does_enter) o->isa->leave();
}

/* Groups per chunk, from the bytes of weights of all groups. */
static int64_t chunk_of(const product *o) {
    int64_t bytes = 0, wanted = (int64_t)CHUNKS_PER_WORKER * cpu_workers(o->d), least = CHUNK_BYTES;
    for (uint32_t k = 0; k < o->n_part; k++)
        bytes += o->part[k].in.m * (int64_t)o->part[k].in.row_bytes;
    if (o->pair) bytes *= o->n_active;
    if (bytes < ALONE_BYTES && o->n_tok <= FEW_TOKENS) return o->n_group;
    if (o->n_tok > FEW_TOKENS) least = least * 16 / o->n_tok;
    if (wanted > bytes / (least + 1)) wanted = bytes / (least + 1);
    if (wanted < 1) wanted = 1;
    int64_t chunk = (o->n_group + wanted - 1) / wanted;
    if (o->is_tiled) { /* whole calls, unless workers would have nothing to do then */
        int64_t most = o->n_group / (CHUNKS_AT_LEAST * cpu_workers(o->d));
        if (most > LINEAR_TILED_GROUPS) most = LINEAR_TILED_GROUPS;
        return chunk > most ? chunk : most;
    }
    return groups_per_call(o, o->part, o->n_tok) == LINEAR_GROUPS ? chunk + chunk % LINEAR_GROUPS
                                                                  : chunk;
}

/* Lay out shared scratch for `rows` rows of activations, after `used` bytes; returns its size. */
static size_t place_forms(product *o, int64_t rows, size_t used) {
    for (uint32_t f = 0; f < o->n_form; f++) {
        form *fm = &o->form[f];
        int64_t k = linear_act_columns(fm->type), n_kb = (o->n + k - 1) / k;
        fm->off = used = (used + 63) & ~(size_t)63;
        fm->kb_stride = (size_t)rows * linear_act_bytes(o->isa, fm->type);
        if (fm->type->span == LINEAR_SPAN_F32) { /* copied only to sort it */
            fm->kb_stride = o->expert_bytes ? (size_t)o->n * sizeof(float) : 0;
            used += (size_t)rows * fm->kb_stride;
        } else
            used += (size_t)n_kb * fm->kb_stride;
    }
    return used;
}

static int32_t reserve(product *o, size_t shared, peri_error *e) {
    size_t scratch = 0;
    int64_t most = o->n_tok < LINEAR_M ? o->n_tok : LINEAR_M;
    int64_t groups = most; /* times tokens */
    for (uint32_t k = 0; k < o->n_part; k++) {
        int32_t alone = groups_per_call(o, &o->part[k], 1);
        int64_t all = most * groups_per_call(o, &o->part[k], o->n_tok);
        if (all > groups) groups = all;
        if (alone > groups) groups = alone; /* an expert's only token */
    }
    o->acc_floats = (size_t)groups * LINEAR_ROWS * (o->is_glu ? 2 : 1);
    for (uint32_t f = 0; f < o->n_form; f++) {
        int16_t span = o->form[f].type->span;
        size_t floats = span == LINEAR_SPAN_F32    ? (size_t)o->n * LINEAR_ROWS
                        : span == LINEAR_SPAN_BF16 ? linear_bf16_floats(o->n, o->n_tok)
                                                   : 0;
        if (floats > scratch) scratch = floats;
    }
    size_t floats = o->acc_floats + scratch;
    return cpu_reserve(o->d, sizeof(streams) + floats * sizeof(float), shared, e);
}

static int32_t run_dense(product *o, int64_t n_tok, peri_error *e) {
    for (uint32_t k = 0; k < o->n_part && (k == 0 || !o->is_glu); k++)
        o->n_group += o->part[k].n_group;
    for (; o->tok0 < n_tok; o->tok0 += LINEAR_M) {
        o->n_tok = (int32_t)(n_tok - o->tok0 < LINEAR_M ? n_tok - o->tok0 : LINEAR_M);
        o->is_tiled = is_tiled(o);
        int32_t rc = reserve(o, place_forms(o, rows_of(o), 0), e);
        if (rc) return rc;
        if (o->is_tiled)
            quantize_tiles(o);
        else
            quantize(o);
        o->chunk = chunk_of(o);
        cpu_parallel(o->d, (uint32_t)((o->n_group + o->chunk - 1) / o->chunk), run_chunk, o);
    }
    return PERI_OK;
}

/* Sort this block's pairs by expert, stably.  place: [E + 1] zeros. */
static void sort_pairs(product *o, const uint8_t *ids, int64_t ids_stride, int64_t n_expert,
                       int32_t *place) {
    for (int32_t i = 0; i < o->n_tok; i++) {
        const int32_t *row = (const int32_t *)(ids + (o->tok0 + i / o->n_choice) * ids_stride);
        place[row[i % o->n_choice] + 1]++;
    }
    o->n_active = 0;
    for (int64_t x = 0; x < n_expert; x++) {
        if (place[x + 1]) {
            o->expert[o->n_active] = (int32_t)x;
            o->first[o->n_active++] = place[x];
        }
        place[x + 1] += place[x];
    }
    o->first[o->n_active] = o->n_tok;
    for (int32_t i = 0; i < o->n_tok; i++) {
        const int32_t *row = (const int32_t *)(ids + (o->tok0 + i / o->n_choice) * ids_stride);
        o->pair[place[row[i % o->n_choice]]++] = i;
    }
}

static int32_t run_experts(product *o, peri_error *e) {
    const cpu_job *j = o->j;
    int64_t n_tok = j->dim[5][1], n_expert = j->dim[1][1], step;
    part *p = o->part;
    o->n_choice = j->dim[5][2];
    o->expert_bytes = p->in.m * (int64_t)p->in.row_bytes;
    p->y_stride = j->t[5]->stride[1];
    p->y_stride_pair = j->t[5]->stride[2];
    for (int64_t t = 0; t < n_tok; t++) {
        const int32_t *id = (const int32_t *)((const uint8_t *)j->ptr[2] + t * j->t[2]->stride[2]);
        for (int64_t c = 0; c < o->n_choice; c++)
            if (id[c] < 0 || id[c] >= n_expert)
                return peri_plugin_fail(e, PERI_E_RANGE,
                                        "LINEAR_EXPERTS: expert %d of %lld wanted for token %lld",
                                        (int)id[c], (long long)n_expert, (long long)t);
    }
    step = PAIRS_MAX / o->n_choice > 1 ? PAIRS_MAX / o->n_choice : 1;
    for (; o->tok0 < n_tok; o->tok0 += step) {
        o->n_tok = (int32_t)((n_tok - o->tok0 < step ? n_tok - o->tok0 : step) * o->n_choice);
        size_t lists = ((size_t)o->n_tok + 3 * (size_t)n_expert + 2) * sizeof(int32_t);
        int32_t rc = reserve(o, place_forms(o, o->n_tok, lists), e);
        if (rc) return rc;
        o->pair = cpu_shared(o->d);
        o->expert = o->pair + o->n_tok;
        o->first = o->expert + n_expert;
        int32_t *place = o->first + n_expert + 1;
        memset(place, 0, ((size_t)n_expert + 1) * sizeof *place);
        sort_pairs(o, j->ptr[2], j->t[2]->stride[2], n_expert, place);
        quantize(o);
        o->n_group = p->n_group * o->n_active;
        o->chunk = chunk_of(o);
        cpu_parallel(o->d, (uint32_t)((o->n_group + o->chunk - 1) / o->chunk), run_chunk, o);
    }
    return PERI_OK;
}

int32_t linear_run(cpu_dev *d, const cpu_isa *isa, const cpu_job *j, peri_error *e) {
    product o = {.d = d,
                 .isa = isa,
                 .j = j,
                 .x = j->ptr[0],
                 .x_stride = j->t[0]->stride[2],
                 .n = j->dim[0][3]};
    switch (j->op->code) {
    case PERI_OP_LINEAR:
        o.flags = j->attr.linear.flags;
        add_part(&o, 1, 2, 3, 4);
        return run_dense(&o, j->dim[4][2], e);
    case PERI_OP_LINEAR_QKV:
        add_part(&o, 1, 4, 7, 10);
        add_part(&o, 2, 5, 8, 11);
        add_part(&o, 3, 6, 9, 12);
        return run_dense(&o, j->dim[10][2], e);
    case PERI_OP_GATE_UP_GLU:
        o.is_glu = 1;
        add_part(&o, 1, 0, 0, 3);
        add_part(&o, 2, 0, 0, 3);
        return run_dense(&o, j->dim[3][2], e);
    default:
        add_part(&o, 1, 3, 4, 5);
        if (j->t[0]->dim[1] == j->t[2]->dim[2] &&
            j->t[0]->dim[2] == j->t[2]->dim[3]) { /* [T][K][n] */
            o.x_stride = j->t[0]->stride[1];
            o.x_stride_pair = j->t[0]->stride[2];
        }
        return run_experts(&o, e);
    }
}
