/* SPDX-License-Identifier: MIT
 *
 * kit_bench_case.c - one operation on large operands, for measuring.
 *
 * Nothing here checks anything.  Weights lie in as many copies as the region holds and are taken in
 * turn, so that none is still in a cache; activations are larger than caches where the shapes of
 * kit_bench.c say so.  A device with memory of its own gets copies before the clock starts, and a
 * run ends when a word of its memory was read back, which waits for everything before it. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/status.h"
#include "check/bench.h"
#include "model/dtype.h"

#include "base/compiler.h"

enum { COPY_MAX = 64, TILE_BYTES = 1 << 20, ALIGN = 4096 };

typedef struct program {
    peri_program head;
    peri_tensor tensor[KIT_OPERANDS];
    peri_op op;
    uint32_t operand[KIT_OPERANDS];
    unsigned char attr[64];
} program;

struct bench_case {
    kit_plugin *p;
    const kit_shape *shape;
    uint32_t dtype;
    int64_t extent[128];
    program program;
    peri_step *step;
    peri_memory arena, pool[KIT_OPERANDS], weight[COPY_MAX][KIT_OPERANDS];
    peri_buf *weight_at[COPY_MAX][KIT_OPERANDS], *pool_at[KIT_OPERANDS];
    uint32_t n_weight, n_pool, n_copy, next;
    size_t weight_bytes[KIT_OPERANDS], pool_bytes[KIT_OPERANDS];
    char name[96];
};

double bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void bench_fill(uint32_t dtype, unsigned char *region) {
    const peri_dtype_info *t = peri_dtype_get(dtype);
    size_t n_block = TILE_BYTES / t->block_bytes, tile = n_block * t->block_bytes;
    kit_random_blocks(dtype, region, (int64_t)n_block, 5);
    for (size_t at = tile; at < BENCH_REGION_BYTES; at += tile)
        memcpy(region + at, region,
               at + tile > BENCH_REGION_BYTES ? BENCH_REGION_BYTES - at : tile);
}

/* ---- operands ---------------------------------------------------------------------------------
 */

static peri_backend backend(const bench_case *c) {
    return (peri_backend){
        .api = c->p->api, .dev = c->p->dev, .info = c->p->info, .host = &kit_host};
}

static bool is_kind(char kind, const char *kinds) {
    return strchr(kinds, kind) != NULL;
}

static int64_t extent_of(const bench_case *c, const peri_tensor *t, int i) {
    return peri_dim(t, i, c->step->n);
}

static double size_of(const bench_case *c, const peri_tensor *t) {
    const peri_dtype_info *type = peri_dtype_get(t->dtype);
    double n = 1;
    for (int i = 0; i < 4; i++)
        n *= (double)extent_of(c, t, i);
    return n / type->block_elements * type->block_bytes;
}

static void read_extents(bench_case *c) {
    const kit_shape *s = c->shape;
    for (const char *p = s->extents; *p; p += strcspn(p, " "), p += *p == ' ') {
        int64_t n = 0;
        for (const char *q = p + 1; *q >= '0' && *q <= '9'; q++)
            n = n * 10 + (*q - '0');
        c->extent[(unsigned char)*p & 127] = n;
    }
    c->extent['1'] = 1;
    c->extent['c'] = s->n_block_tok;
    if (s->n_block_tok)
        c->extent['b'] = (c->extent['P'] + s->n_tok + s->n_block_tok - 1) / s->n_block_tok;
}

/* A tensor of the program; activations are laid out behind `end`, which is returned moved on. */
static size_t add_tensor(bench_case *c, const char *pattern, uint32_t k, size_t end) {
    peri_tensor *t = &c->program.tensor[k];
    char kind = pattern[0];
    bool is_pool = kind == 'p', is_weight = is_kind(kind, "wv");
    t->dtype = (uint16_t)(is_kind(kind, "wp")   ? c->dtype
                          : is_kind(kind, "in") ? (uint32_t)PERI_DT_I32
                                                : (uint32_t)PERI_DT_F32);
    t->kind = is_weight ? PERI_T_WEIGHT : is_pool ? PERI_T_POOL : PERI_T_ACT;
    t->ref = is_weight ? c->n_weight : is_pool ? c->n_pool : 0;
    for (int i = 0; i < 4; i++)
        t->dim[i] = pattern[1 + i] == 't'   ? -PERI_SYM_T
                    : pattern[1 + i] == 'z' ? -PERI_SYM_R
                                            : c->extent[(unsigned char)pattern[1 + i] & 127];
    const peri_dtype_info *type = peri_dtype_get(t->dtype);
    int64_t stride = type->block_bytes;
    for (int i = 3; i >= 0 && type->block_elements == 1; i--) {
        t->stride[i] = stride;
        stride *= extent_of(c, t, i);
    }
    if (is_weight) c->weight_bytes[c->n_weight++] = (size_t)size_of(c, t);
    if (is_pool) c->pool_bytes[c->n_pool++] = (size_t)size_of(c, t);
    if (is_weight || is_pool) return end;
    t->off = end;
    return (end + (size_t)size_of(c, t) + ALIGN - 1) / ALIGN * ALIGN;
}

/* Optional operands are left out. */
static void make_program(bench_case *c) {
    program *p = &c->program;
    const kit_shape *s = c->shape;
    uint32_t k = 0, n_out = 0;
    size_t end = 0;
    for (const char *q = s->operands; *q; q += strcspn(q, " "), q += *q == ' ', k++) {
        p->operand[k] = q[5] == '?' ? PERI_NONE : k;
        if (q[5] != '?') end = add_tensor(c, q, k, end);
        n_out += is_kind(q[0], "on");
    }
    p->op = (peri_op){.code = s->code,
                      .layer = 0xffff,
                      .n_in = (uint8_t)(k - n_out),
                      .n_out = (uint8_t)n_out,
                      .attr_size = (uint16_t)s->attr_size};
    if (s->attr) memcpy(p->attr, s->attr, s->attr_size);
    p->head = (peri_program){.size = sizeof p->head,
                             .bytes = sizeof *p,
                             .n_tensors = k,
                             .tensor_size = sizeof(peri_tensor),
                             .tensors = offsetof(program, tensor),
                             .n_ops = 1,
                             .op_size = sizeof(peri_op),
                             .ops = offsetof(program, op),
                             .operands = offsetof(program, operand),
                             .attrs = offsetof(program, attr),
                             .arena_bytes = end};
}

/* ---- the step ---------------------------------------------------------------------------------
 */

static int32_t *array(bench_case *c, uint32_t off) {
    return (int32_t *)(void *)((char *)c->step + off);
}

/* Room for n_tok tokens; the table names the blocks in order. */
static bool make_step(bench_case *c) {
    uint32_t n_tok = (uint32_t)c->shape->n_tok, at = sizeof *c->step;
    uint32_t n_block = c->shape->n_block_tok ? (uint32_t)c->extent['b'] : 1;
    size_t bytes = sizeof *c->step + 4 * ((size_t)5 * n_tok + 1 + n_block);
    c->step = peri_calloc(1, bytes);
    if (!c->step) return false;
    uint32_t *const per_tok[] = {&c->step->tok, &c->step->pos, &c->step->seq, &c->step->slot,
                                 &c->step->out_row};
    for (size_t i = 0; i < sizeof per_tok / sizeof *per_tok; i++, at += 4 * n_tok)
        *per_tok[i] = at;
    c->step->ctx = at;
    c->step->table = at + 4;
    c->step->size = sizeof *c->step;
    c->step->bytes = (uint32_t)bytes;
    c->step->n[PERI_SYM_S] = 1;
    c->step->n[PERI_SYM_B] = (int32_t)n_block;
    for (uint32_t i = 0; i < n_block; i++)
        array(c, c->step->table)[i] = (int32_t)i;
    bench_case_set_tokens(c, c->shape->n_tok);
    return true;
}

void bench_case_set_tokens(bench_case *c, int32_t n_tok) {
    peri_step *s = c->step;
    int64_t n_row = c->extent['v'] ? c->extent['v'] : 1;
    s->n[PERI_SYM_T] = s->n[PERI_SYM_R] = n_tok;
    array(c, s->ctx)[0] = (int32_t)c->extent['P'] + n_tok;
    for (int32_t t = 0; t < n_tok; t++) {
        array(c, s->tok)[t] = (int32_t)kit_pick(3, (uint64_t)t, (uint32_t)n_row);
        array(c, s->pos)[t] = array(c, s->slot)[t] = (int32_t)c->extent['P'] + t;
        array(c, s->out_row)[t] = t;
    }
    int n = snprintf(c->name, sizeof c->name, "T=%d", (int)n_tok);
    for (uint32_t k = 0; k < c->program.head.n_tensors; k++) {
        const peri_tensor *t = &c->program.tensor[k];
        bool is_main = t->kind == PERI_T_WEIGHT || t->kind == PERI_T_POOL || k == 0;
        if (c->program.operand[k] == PERI_NONE || !is_main || n > (int)sizeof c->name - 60)
            continue;
        n += snprintf(c->name + n, sizeof c->name - (size_t)n, " %c[",
                      "awp"[t->kind == PERI_T_WEIGHT ? 1
                            : t->kind == PERI_T_POOL ? 2
                                                     : 0]);
        for (int i = 0; i < 4; i++)
            if (i == 3 || extent_of(c, t, i) != 1)
                n += snprintf(c->name + n, sizeof c->name - (size_t)n, i < 3 ? "%lldx" : "%lld]",
                              (long long)extent_of(c, t, i));
    }
}

/* ---- memory -----------------------------------------------------------------------------------
 */

/* The whole of a buffer from a tile of values of one type. */
static bool fill(bench_case *c, const peri_memory *m, uint64_t off, size_t bytes, uint32_t dtype,
                 peri_error *e) {
    peri_backend d = backend(c);
    const peri_dtype_info *t = peri_dtype_get(dtype);
    unsigned char *tile = peri_alloc(TILE_BYTES);
    bool is_good = tile != NULL;
    if (!is_good) peri_fail(e, PERI_E_NOMEM, "out of memory");
    if (is_good && dtype == PERI_DT_I32) /* experts */
        for (uint32_t i = 0; i < TILE_BYTES / 4; i++) {
            uint32_t n = (uint32_t)c->extent['e'], used = (uint32_t)c->extent['k'];
            uint32_t id = (kit_pick(7, i / used, n) + i % used) % n; /* different for a token */
            memcpy(tile + (size_t)i * 4, &id, 4);
        }
    else if (is_good)
        kit_random_blocks(dtype, tile, TILE_BYTES / t->block_bytes, 9);
    for (size_t at = 0; at < bytes && is_good; at += TILE_BYTES)
        is_good =
            peri_memory_write(&d, m, off + at, tile,
                              bytes - at < TILE_BYTES ? bytes - at : TILE_BYTES, e) == PERI_OK;
    peri_free(tile);
    return is_good;
}

static bool make_arena(bench_case *c, peri_error *e) {
    peri_backend d = backend(c);
    if (peri_memory_alloc(&d, c->program.head.arena_bytes, PERI_BUF_ARENA, &c->arena, e))
        return false;
    for (uint32_t k = 0; k < c->program.head.n_tensors; k++) {
        const peri_tensor *t = &c->program.tensor[k];
        if (c->program.operand[k] == PERI_NONE || t->kind != PERI_T_ACT) continue;
        if (!fill(c, &c->arena, t->off, (size_t)size_of(c, t), t->dtype, e)) return false;
    }
    for (uint32_t i = 0; i < c->n_pool; i++) {
        if (peri_memory_alloc(&d, c->pool_bytes[i], PERI_BUF_POOL, &c->pool[i], e) ||
            !fill(c, &c->pool[i], 0, c->pool_bytes[i], c->dtype, e))
            return false;
        c->pool_at[i] = c->pool[i].buf;
    }
    return true;
}

/* As many copies of the weights as the region holds, at least one. */
static bool make_weights(bench_case *c, unsigned char *region, peri_error *e) {
    peri_backend d = backend(c);
    size_t at = 0, all = 0;
    for (uint32_t i = 0; i < c->n_weight; i++)
        all += (c->weight_bytes[i] + ALIGN - 1) / ALIGN * ALIGN;
    if (all > BENCH_REGION_BYTES)
        return peri_fail(e, PERI_E_RANGE, "weights of %zu bytes", all) == PERI_OK;
    for (; c->n_copy < (all ? COPY_MAX : 1) && at + all <= BENCH_REGION_BYTES; c->n_copy++) {
        for (uint32_t i = 0; i < c->n_weight; i++) {
            peri_memory *m = &c->weight[c->n_copy][i];
            if (peri_memory_from(&d, region + at, c->weight_bytes[i], m, e)) return false;
            c->weight_at[c->n_copy][i] = m->buf;
            at += (c->weight_bytes[i] + ALIGN - 1) / ALIGN * ALIGN;
        }
    }
    return true;
}

bench_case *bench_case_new(kit_plugin *p, const kit_shape *s, uint32_t dtype, unsigned char *region,
                           peri_error *e) {
    bench_case *c = peri_calloc(1, sizeof *c);
    if (c) {
        *c = (bench_case){.p = p, .shape = s, .dtype = dtype};
        read_extents(c);
    }
    if (!c || !make_step(c)) {
        peri_fail(e, PERI_E_NOMEM, "out of memory");
        peri_free(c);
        return NULL;
    }
    make_program(c);
    bench_case_set_tokens(c, s->n_tok); /* the name needs the program */
    if (make_arena(c, e) && make_weights(c, region, e)) return c;
    bench_case_free(c);
    return NULL;
}

void bench_case_free(bench_case *c) {
    if (!c) return;
    peri_backend d = backend(c);
    peri_memory_free(&d, &c->arena);
    for (uint32_t i = 0; i < c->n_pool; i++)
        peri_memory_free(&d, &c->pool[i]);
    for (uint32_t k = 0; k < COPY_MAX; k++)
        for (uint32_t i = 0; i < c->n_weight; i++)
            peri_memory_free(&d, &c->weight[k][i]);
    peri_free(c->step);
    peri_free(c);
}

/* ---- asking, running --------------------------------------------------------------------------
 */

int32_t bench_case_ask(bench_case *c, peri_support *out, peri_error *e) {
    peri_bucket b = {.size = sizeof b};
    for (int i = 1; i < PERI_NSYM; i++)
        b.lo[i] = b.hi[i] = 1;
    b.hi[PERI_SYM_T] = b.hi[PERI_SYM_R] = c->shape->n_tok;
    b.hi[PERI_SYM_B] = c->step->n[PERI_SYM_B];
    *out = (peri_support){.size = sizeof *out};
    return c->p->api.supports(c->p->dev, &c->program.head, 0, &b, out, e);
}

double bench_case_run(bench_case *c, uint32_t n, peri_error *e) {
    peri_backend d = backend(c);
    float word;
    int32_t status = PERI_OK;
    peri_bind bind = {.size = sizeof bind,
                      .n_weights = c->n_weight,
                      .n_pools = c->n_pool,
                      .arena = c->arena.buf,
                      .pools = c->pool_at};
    double start = bench_now();
    for (uint32_t i = 0; i < n && status == PERI_OK; i++) {
        bind.weights = c->weight_at[c->next];
        c->next = (c->next + 1) % c->n_copy;
        c->step->number++;
        status = c->p->api.run_op(c->p->dev, &c->program.head, 0, &bind, c->step, e);
    }
    if (status == PERI_OK) status = peri_memory_read(&d, &c->arena, 0, &word, sizeof word, e);
    return status == PERI_OK ? bench_now() - start : -1;
}

double bench_copy_speed(bench_case *c) {
    enum { ROUNDS = 5 };
    peri_backend d = backend(c);
    peri_error e = {0};
    float word;
    uint64_t half = c->program.head.arena_bytes / 2;
    double best = 0;
    for (int i = 0; i < ROUNDS; i++) {
        double start = bench_now();
        if (peri_memory_copy(&d, &c->arena, half, 0, half, &e) ||
            peri_memory_read(&d, &c->arena, 0, &word, sizeof word, &e))
            return 0;
        double speed = 2 * (double)half / (bench_now() - start);
        if (speed > best) best = speed;
    }
    return best;
}

/* ---- what a run amounts to ----------------------------------------------------------------------
 */

/* Experts of the step's tokens: how many different ones. */
static double experts_used(bench_case *c) {
    int64_t n_expert = c->extent['e'], used = c->extent['k'], n = 0;
    bool is_used[256] = {false};
    for (int64_t i = 0; i < c->step->n[PERI_SYM_T] * used; i++)
        is_used[(kit_pick(7, (uint64_t)(i / used), (uint32_t)n_expert) + (uint64_t)(i % used)) %
                (uint64_t)n_expert] = true;
    for (int64_t i = 0; i < n_expert; i++)
        n += is_used[i];
    return (double)n;
}

double bench_case_bytes(bench_case *c) {
    uint16_t code = c->shape->code;
    double sum = 0, n_tok = c->step->n[PERI_SYM_T];
    for (uint32_t k = 0; k < c->program.head.n_tensors; k++) {
        const peri_tensor *t = &c->program.tensor[k];
        if (c->program.operand[k] == PERI_NONE) continue;
        double n = size_of(c, t);
        if (code == PERI_OP_EMBED && k == 0) n *= n_tok / (double)c->extent['v'];
        if (code == PERI_OP_LINEAR_EXPERTS && k == 1)
            n = n / (double)c->extent['e'] * experts_used(c);
        if (t->kind == PERI_T_POOL) /* rows of the step, or the keys held */
            n = n / (double)(c->extent['b'] * c->extent['c']) *
                (code == PERI_OP_ATTN ? (double)array(c, c->step->ctx)[0] : n_tok);
        sum += n;
    }
    return sum;
}

/* Products of weights and activations, or of queries, keys and values that are visible. */
double bench_case_macs(bench_case *c) {
    double sum = 0, n_tok = c->step->n[PERI_SYM_T];
    const int64_t *x = c->extent;
    if (c->shape->code == PERI_OP_ATTN) {
        for (int32_t t = 0; t < c->step->n[PERI_SYM_T]; t++)
            sum += (double)(array(c, c->step->pos)[t] + 1);
        return sum * (double)(x['h'] * (x['k'] + x['v']));
    }
    if (c->shape->code == PERI_OP_LINEAR_EXPERTS) return n_tok * (double)(x['k'] * x['m'] * x['n']);
    for (uint32_t k = 1; k < c->program.head.n_tensors; k++) { /* weights are no first operand */
        const peri_tensor *t = &c->program.tensor[k];
        if (c->program.operand[k] != PERI_NONE && t->kind == PERI_T_WEIGHT && t->dim[2] > 1)
            sum += n_tok * (double)(t->dim[2] * t->dim[3]);
    }
    return sum;
}

int32_t bench_case_tokens(const bench_case *c) {
    return c->step->n[PERI_SYM_T];
}

const char *bench_case_name(const bench_case *c) {
    return c->name;
}
