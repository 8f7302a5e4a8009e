/* SPDX-License-Identifier: MIT
 *
 * calibrate.c - measuring a device by running ops of its plugin.
 *
 * Problem.  The bandwidth of a memory says little about how fast a plugin reads quantised weights
 * from it, and nothing about what an op costs that reads next to nothing, of which a token needs
 * hundreds.  So the plugin's own ops are run, on matrices of the size that models have:
 *
 *   op        64 times NORM of one row, queued together
 *   copy      a row written, NORM, the row read back; and blocks of 16 MiB
 *   one token LINEAR over so many matrices of one type that caches do not hold them, and over an
 *             eighth of each, which tells what an op costs beside reading
 *   many      LINEAR of 16 to 256 tokens
 *   attention ATTN of one token over 4096 keys and over 64, which tells what it costs beside
 *             reading, and of 128 tokens where one takes no 20 ms
 *
 * Of several passes the lower quartile counts: the fastest is more than a token ever sees, and a
 * pass that others disturbed tells nothing.  A pass aims at 20 ms, so that a device takes about 0.3
 * s per type; a slow one takes few matrices, tokens and passes.  The bytes that are multiplied are
 * those of a pattern: finite and normal in every type. */
#include "run/calibrate.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/status.h"
#include "graph/graph.h"
#include "model/dtype.h"
#include "run/memory.h"

#include "base/compiler.h"

enum {
    N_IN = 2048,
    N_OUT = 2048,
    N_MATRIX = 48,
    MANY = 256,
    N_NORM = 64,
    MAX_PASS = 63,
    HEADS = 16,
    KV_HEADS = 4,
    D_HEAD = 128,
    KEYS = 4096,
    FEW_KEYS = 64,
    QUERIES = 128,
    MAX_BLOCK = KEYS, /* blocks of one token at least */
};
#define ROOM_BYTES  (UINT64_C(112) << 20) /* of weights: more than caches hold */
#define COPY_BYTES  (UINT64_C(16) << 20)
#define PASS_S      0.02
#define PASSES_S    0.06
#define SLOW_S      0.25 /* a pass of this length says enough alone */
#define PATTERN     0x11 /* F16 6.5e-4, F32 1.1e-28, BF16 1.1e-28 */
#define ACT_PATTERN 0x3f /* F32 0.75 */

/* Everything one program needs. */
typedef struct lab {
    peri_backend *d;
    peri_error *err;
    uint64_t room; /* bytes that may be taken */
    peri_bucket bucket;
    peri_graph g;
    peri_program *p;
    peri_memory arena, pool, weight[N_MATRIX];
    peri_buf *weights[N_MATRIX], *pools[1];
    uint32_t n_weight;
    peri_bind bind;
    union {
        peri_step head;
        int32_t word[sizeof(peri_step) / 4 + 5 * MANY + 1 + MAX_BLOCK];
    } step;
} lab;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- a program and its memory -------------------------------------------------------------------
 */

static void lab_init(lab *l, peri_backend *d, peri_error *err) {
    memset(l, 0, sizeof *l);
    l->d = d;
    l->err = err;
    uint64_t has = d->info.mem_free ? d->info.mem_free : d->info.mem_total;
    l->room = has && has / 4 < ROOM_BYTES ? has / 4 : ROOM_BYTES;
    l->bucket = (peri_bucket){.size = sizeof l->bucket};
    for (int i = 1; i <= PERI_SYM_B; i++)
        l->bucket.lo[i] = l->bucket.hi[i] = 1;
    l->bucket.hi[PERI_SYM_T] = MANY;
    l->bucket.hi[PERI_SYM_B] = MAX_BLOCK;
    peri_graph_init(&l->g);
}

static void lab_fini(lab *l) {
    for (uint32_t i = 0; i < N_MATRIX; i++)
        peri_memory_free(l->d, &l->weight[i]);
    peri_memory_free(l->d, &l->arena);
    peri_memory_free(l->d, &l->pool);
    peri_free(l->p);
    peri_graph_fini(&l->g);
}

/* Memory of the device full of one byte. */
static peri_status new_memory(lab *l, uint64_t bytes, uint32_t usage, int pattern,
                              peri_memory *out) {
    peri_status st = peri_memory_alloc(l->d, bytes, usage, out, l->err);
    if (st) return st;
    if (out->host) {
        memset(out->host, pattern, (size_t)bytes);
        return PERI_OK;
    }
    void *block = bytes <= SIZE_MAX ? peri_alloc_aligned((size_t)bytes, 64) : NULL;
    if (!block)
        return peri_fail(l->err, PERI_E_NOMEM, "out of memory: %llu bytes",
                         (unsigned long long)bytes);
    memset(block, pattern, (size_t)bytes);
    st = peri_memory_write(l->d, out, 0, block, bytes, l->err);
    peri_free(block);
    return st;
}

/* The graph is complete: pack it, ask for its first op, and make the arena.  *is_taken: the device
 * takes the op. */
static peri_status lab_pack(lab *l, bool *is_taken) {
    peri_error e = {0};
    peri_support s = {.size = sizeof s};
    peri_status st = peri_graph_pack(&l->g, &l->bucket, &l->p, l->err);
    *is_taken = false;
    if (st) return st;
    st = l->d->api.supports(l->d->dev, l->p, 0, &l->bucket, &s, &e);
    if (st) {
        e.text[sizeof e.text - 1] = 0;
        return peri_fail(l->err, st < 0 ? st : PERI_E_OTHER, "asked about %s: %s",
                         peri_op_name(peri_op_at(l->p, 0)->code), e.text);
    }
    if (!s.yes) return PERI_OK;
    *is_taken = true;
    st = new_memory(l, l->p->arena_bytes, PERI_BUF_ARENA, ACT_PATTERN, &l->arena);
    l->bind = (peri_bind){.size = sizeof l->bind,
                          .n_weights = N_MATRIX,
                          .n_pools = 1,
                          .arena = l->arena.buf,
                          .weights = l->weights,
                          .pools = l->pools};
    return st;
}

static peri_status add_weight(lab *l, uint64_t bytes, int pattern) {
    uint32_t i = l->n_weight;
    peri_status st = new_memory(l, bytes, PERI_BUF_WEIGHT, pattern, &l->weight[i]);
    if (st) return st;
    l->weights[i] = l->weight[i].buf;
    l->n_weight++;
    return PERI_OK;
}

/* n_tok tokens, the last of n_key keys in blocks of block_tokens. */
static void set_step(lab *l, int32_t n_tok, int32_t n_key, int32_t block_tokens) {
    peri_step *s = &l->step.head;
    int32_t n_block = (n_key + block_tokens - 1) / block_tokens;
    int32_t *at = l->step.word + sizeof *s / 4;
    uint32_t off = sizeof *s;
    *s = (peri_step){.size = sizeof *s, .number = 1};
    s->n[PERI_SYM_T] = n_tok;
    s->n[PERI_SYM_S] = s->n[PERI_SYM_R] = 1;
    s->n[PERI_SYM_B] = n_block;
    uint32_t *const array[] = {&s->tok, &s->pos, &s->seq, &s->slot};
    for (int k = 0; k < 4; k++, off += 4 * (uint32_t)n_tok) {
        *array[k] = off;
        for (int32_t i = 0; i < n_tok; i++)
            *at++ = k == 0 || k == 2 ? 0 : n_key - n_tok + i;
    }
    s->ctx = off;
    *at++ = n_key;
    s->table = s->ctx + 4;
    for (int32_t i = 0; i < n_block; i++)
        *at++ = i;
    s->out_row = s->table + 4 * (uint32_t)n_block;
    *at = n_tok - 1;
    s->bytes = s->out_row + 4;
}

/* ---- time ---------------------------------------------------------------------------------------
 */

/* Wait until the device has done what it was given. */
static peri_status wait_for(lab *l) {
    int32_t word;
    if (l->arena.host) return PERI_OK;
    return peri_memory_read(l->d, &l->arena, 0, &word, sizeof word, l->err);
}

static peri_status pass(lab *l, uint32_t first, uint32_t n_op, double *seconds) {
    double start = now_s();
    for (uint32_t i = first; i < first + n_op; i++) {
        peri_error e = {0};
        int32_t st = l->d->api.run_op(l->d->dev, l->p, i, &l->bind, &l->step.head, &e);
        e.text[sizeof e.text - 1] = 0;
        if (st)
            return peri_fail(l->err, st < 0 ? st : PERI_E_OTHER, "%s: %s",
                             peri_op_name(peri_op_at(l->p, i)->code), e.text);
    }
    peri_status st = wait_for(l);
    *seconds = now_s() - start;
    return st;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quartile_of(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 4] > 0 ? x[n / 4] : 1e-9; /* a clock that does not move */
}

/* The lower quartile of at least three passes, after one that does not count; or a slow one. */
static peri_status time_ops(lab *l, uint32_t first, uint32_t n_op, double *seconds) {
    double total = 0, one[MAX_PASS];
    int n = 0;
    peri_status st = pass(l, first, n_op, &one[0]);
    bool is_slow = one[0] >= SLOW_S;
    for (; !st && !is_slow && n < MAX_PASS && (n < 3 || total < PASSES_S); n++) {
        st = pass(l, first, n_op, &one[n]);
        total += one[n];
        is_slow = one[n] >= SLOW_S;
    }
    *seconds = st ? 0 : quartile_of(one, n ? n : 1);
    return st;
}

/* ---- small ops and copies -----------------------------------------------------------------------
 */

static uint32_t rows(lab *l, int64_t n) {
    return peri_graph_act(&l->g, PERI_DT_F32, (const int64_t[]){-PERI_SYM_T, n}, 2);
}

/* Seconds of one op, of N_NORM, and of one with a row there before and back after it. */
enum { ONE, ALL, TRIP, N_SMALL };

static peri_status pass_trip(lab *l, float *row, double *seconds) {
    double start = now_s(), one;
    peri_status st = peri_memory_write(l->d, &l->arena, 0, row, N_IN * sizeof *row, l->err);
    if (!st) st = pass(l, 0, 1, &one);
    if (!st) st = peri_memory_read(l->d, &l->arena, 0, row, N_IN * sizeof *row, l->err);
    *seconds = now_s() - start;
    return st;
}

/* They take turns, so that what disturbs one disturbs all: their differences count. */
static peri_status time_small(lab *l, double seconds[N_SMALL]) {
    double each[N_SMALL][MAX_PASS], total = 0;
    float *row = peri_calloc(N_IN, sizeof *row);
    peri_status st = row ? PERI_OK : peri_fail(l->err, PERI_E_NOMEM, "out of memory");
    int n = 0;
    if (!st) st = pass(l, 0, N_NORM, &each[ALL][0]); /* kernels are made */
    for (; !st && n < MAX_PASS && (n < 5 || total < PASSES_S); n++) {
        st = pass(l, 0, 1, &each[ONE][n]);
        if (!st) st = pass(l, 0, N_NORM, &each[ALL][n]);
        if (!st) st = pass_trip(l, row, &each[TRIP][n]);
        if (!st) total += each[ONE][n] + each[ALL][n] + each[TRIP][n];
    }
    for (int k = 0; k < N_SMALL; k++)
        seconds[k] = st ? 0 : quartile_of(each[k], n);
    peri_free(row);
    return st;
}

static peri_status time_blocks(lab *l, double *gbps) {
    uint64_t bytes = l->room < COPY_BYTES ? l->room : COPY_BYTES;
    char *block = peri_alloc_aligned((size_t)bytes, 64);
    double each[5];
    if (!block) return peri_fail(l->err, PERI_E_NOMEM, "out of memory");
    memset(block, PATTERN, (size_t)bytes);
    peri_status st = new_memory(l, bytes, PERI_BUF_ARENA, 0, &l->pool);
    for (int i = 0; i < 5 && !st; i++) {
        double start = now_s();
        st = peri_memory_write(l->d, &l->pool, 0, block, bytes, l->err);
        if (!st) st = peri_memory_read(l->d, &l->pool, 0, block, bytes, l->err);
        each[i] = now_s() - start;
    }
    peri_free(block);
    *gbps = st ? 0 : 2e-9 * (double)bytes / quartile_of(each, 5);
    return st;
}

static peri_status run_small(lab *l, peri_figures *f) {
    const int64_t dim[4] = {1, 1, 1, N_IN};
    const peri_norm_attr attr = {.size = sizeof attr, .kind = PERI_NORM_RMS, .eps = 1e-6f};
    uint32_t x = rows(l, N_IN), w = peri_graph_weight(&l->g, 0, PERI_DT_F32, dim);
    bool is_taken;
    double s[N_SMALL];
    for (int i = 0; i < N_NORM; i++)
        peri_graph_add(&l->g, PERI_OP_NORM, (const uint32_t[]){x, w, PERI_NONE, x}, 3, 1, &attr,
                       sizeof attr);
    peri_status st = lab_pack(l, &is_taken);
    if (!st && !is_taken) st = peri_fail(l->err, PERI_E_UNSUPPORTED, "it declines NORM");
    if (!st) st = add_weight(l, 4 * N_IN, ACT_PATTERN);
    set_step(l, 1, 1, 1);
    if (!st) st = time_small(l, s);
    if (!st) st = time_blocks(l, &f->link_gbps);
    if (st) return st;
    double op = (s[ALL] - s[ONE]) / (N_NORM - 1), copy = (s[TRIP] - s[ONE]) / 2;
    f->op_us = 1e6 * (op > 1e-8 ? op : 1e-8);
    f->copy_us = 1e6 * (copy > 1e-8 ? copy : 1e-8);
    return PERI_OK;
}

/* ---- LINEAR -------------------------------------------------------------------------------------
 */

/* Matrices until a pass takes long enough, the memory is used, or there are all. */
static peri_status fill_matrices(lab *l, uint64_t bytes) {
    double one;
    peri_status st = add_weight(l, bytes, PATTERN);
    if (!st) st = pass(l, 0, 1, &one); /* kernels are made and caches filled */
    if (!st && one < SLOW_S) st = pass(l, 0, 1, &one);
    while (!st && l->n_weight < N_MATRIX && one * l->n_weight < PASS_S &&
           bytes * (l->n_weight + 1) <= l->room)
        st = add_weight(l, bytes, PATTERN);
    return st;
}

/* The most of 16, 64 and 256 tokens whose pass is short enough. */
static peri_status time_many(lab *l, int64_t n_out, double *gmacs) {
    int32_t n_tok = 16;
    uint32_t n_op = l->n_weight < 4 ? l->n_weight : 4;
    double s;
    set_step(l, n_tok, n_tok, 1);
    peri_status st = pass(l, 0, 1, &s);
    if (!st && s < SLOW_S) st = pass(l, 0, 1, &s);
    while (!st && n_tok < MANY && s * n_op * MANY / n_tok < 2 * PASS_S)
        n_tok *= 4;
    set_step(l, n_tok, n_tok, 1);
    if (!st && s >= SLOW_S)
        n_op = 1;
    else if (!st)
        st = time_ops(l, 0, n_op, &s);
    if (!st) *gmacs = 1e-9 * n_op * n_tok * (double)(n_out * N_IN) / s;
    return st;
}

static void add_linear(lab *l, uint32_t x, uint32_t y, uint32_t ref, uint32_t dtype,
                       int64_t n_out) {
    const peri_linear_attr attr = {.size = sizeof attr};
    uint32_t w = peri_graph_weight(&l->g, ref, dtype, (const int64_t[]){1, 1, n_out, N_IN});
    peri_graph_add(&l->g, PERI_OP_LINEAR, (const uint32_t[]){x, w, PERI_NONE, PERI_NONE, y}, 4, 1,
                   &attr, sizeof attr);
}

/* Two sizes, two unknowns: seconds = fixed + bytes / rate.  *fixed_us stays 0 where nothing fixed
 * can be told. */
static void solve_two(double large_s, double large_bytes, double small_s, double small_bytes,
                      double *gbps, double *fixed_us) {
    double rate = (large_bytes - small_bytes) / (large_s - small_s);
    bool is_plain = large_s <= small_s || small_s < small_bytes / rate;
    *gbps = 1e-9 * (is_plain ? large_bytes / large_s : rate);
    *fixed_us = is_plain ? 0 : 1e6 * (small_s - small_bytes / rate);
}

/* Whole matrices and eighths take turns, so that neither finds its own in the caches. */
static peri_status time_one(lab *l, double bytes, peri_type_rate *t) {
    double whole[MAX_PASS], eighth[MAX_PASS], total = 0;
    int n = 0;
    peri_status st = PERI_OK;
    for (; !st && n < MAX_PASS && (n < 3 || total < 2 * PASSES_S) && total < SLOW_S; n++) {
        st = pass(l, 0, l->n_weight, &whole[n]);
        if (!st) st = pass(l, N_MATRIX, l->n_weight, &eighth[n]);
        if (!st) total += whole[n] + eighth[n];
    }
    if (st) return st;
    double large = quartile_of(whole, n) / l->n_weight,
           small = quartile_of(eighth, n) / l->n_weight;
    solve_two(large, bytes, small, bytes / 8, &t->gbps, &t->op_us);
    return PERI_OK;
}

static peri_status run_type(lab *l, peri_type_rate *t) {
    uint64_t row_bytes;
    peri_status st = peri_dtype_bytes(t->dtype, N_IN, &row_bytes, l->err);
    if (st) return st;
    int64_t n_out = N_OUT;
    while (n_out > 64 && (uint64_t)n_out * row_bytes * 4 > l->room)
        n_out /= 2;
    uint32_t x = rows(l, N_IN), y = rows(l, n_out), z = rows(l, n_out / 8);
    for (uint32_t i = 0; i < N_MATRIX; i++)
        add_linear(l, x, y, i, t->dtype, n_out);
    for (uint32_t i = 0; i < N_MATRIX; i++)
        add_linear(l, x, z, i, t->dtype, n_out / 8);
    bool is_taken;
    uint64_t bytes = (uint64_t)n_out * row_bytes;
    st = lab_pack(l, &is_taken);
    if (st || !is_taken) return st;
    set_step(l, 1, 1, 1);
    st = fill_matrices(l, bytes);
    if (!st) st = time_one(l, (double)bytes, t);
    if (st) return st;
    return time_many(l, n_out, &t->gmacs);
}

/* ---- ATTN ---------------------------------------------------------------------------------------
 */

static peri_status time_attn(lab *l, int32_t n_key, int32_t block, peri_figures *f) {
    const double key_bytes = 2 * 2 * KV_HEADS * D_HEAD;
    int32_t n_few = n_key < FEW_KEYS ? n_key : FEW_KEYS, n_query = 1;
    double one = 0, few = 0, many = 0;
    set_step(l, 1, n_few, block);
    peri_status st = time_ops(l, 0, 1, &few);
    set_step(l, 1, n_key, block);
    if (!st) st = time_ops(l, 0, 1, &one);
    if (!st && one < PASS_S) {
        n_query = QUERIES;
        set_step(l, n_query, n_key, block);
        st = time_ops(l, 0, 1, &many);
    } else
        many = one;
    if (st) return st;
    solve_two(one, n_key * key_bytes, few, n_few * key_bytes, &f->kv_gbps, &f->attn_us);
    f->attn_gmacs = 1e-9 * 2.0 * n_query * HEADS * D_HEAD * (double)n_key / many;
    return PERI_OK;
}

static peri_status run_attn(lab *l, peri_figures *f) {
    int64_t block = l->d->info.kv_block_tokens;
    if (block < 1 || block > KEYS || (block & (block - 1))) block = 64;
    int64_t key_bytes = 2 * 2 * KV_HEADS * D_HEAD, n_key = KEYS;
    while (n_key > QUERIES && n_key > block && (uint64_t)(n_key * key_bytes * 4) > l->room)
        n_key /= 2;
    const int64_t kv[] = {n_key / block, block, KV_HEADS, D_HEAD};
    const int64_t q_dim[] = {-PERI_SYM_T, HEADS, D_HEAD};
    const peri_attn_attr attr = {.size = sizeof attr, .scale = 0.088f};
    uint64_t half = (uint64_t)(n_key * key_bytes / 2);
    uint32_t q = peri_graph_act(&l->g, PERI_DT_F32, q_dim, 3);
    uint32_t y = peri_graph_act(&l->g, PERI_DT_F32, q_dim, 3);
    uint32_t k = peri_graph_pool(&l->g, 0, PERI_DT_F16, kv, 0);
    uint32_t v = peri_graph_pool(&l->g, 0, PERI_DT_F16, kv, half);
    peri_graph_add(&l->g, PERI_OP_ATTN, (const uint32_t[]){q, k, v, PERI_NONE, y}, 4, 1, &attr,
                   sizeof attr);
    bool is_taken;
    peri_status st = lab_pack(l, &is_taken);
    if (st || !is_taken) return st;
    st = new_memory(l, 2 * half, PERI_BUF_POOL, PATTERN, &l->pool);
    l->pools[0] = l->pool.buf;
    return st ? st : time_attn(l, (int32_t)n_key, (int32_t)block, f);
}

/* ---- all of it ----------------------------------------------------------------------------------
 */

static peri_status measure_type(lab *l, peri_backend *b, uint32_t dtype, peri_figures *f,
                                peri_error *err) {
    peri_type_rate t = {.dtype = dtype};
    lab_init(l, b, err);
    peri_status st = run_type(l, &t);
    lab_fini(l);
    if (st) return peri_wrap(err, "%s", peri_dtype_get(dtype)->name);
    if (f->n_type == PERI_FIGURE_TYPES) /* the one measured first makes room */
        memmove(f->type, f->type + 1, --f->n_type * sizeof *f->type);
    f->type[f->n_type++] = t;
    return PERI_OK;
}

peri_status peri_calibrate(peri_backend *b, const uint32_t *dtype, uint32_t n, peri_figures *f,
                           peri_error *err) {
    lab *l = peri_calloc(1, sizeof *l);
    if (!l) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    peri_status st = peri_memory_check(b, err);
    if (!st && f->op_us <= 0) {
        lab_init(l, b, err);
        st = run_small(l, f);
        lab_fini(l);
        if (!st) {
            lab_init(l, b, err);
            st = run_attn(l, f);
            lab_fini(l);
        }
    }
    for (uint32_t i = 0; i < n && !st; i++)
        if (!peri_figures_type(f, dtype[i])) st = measure_type(l, b, dtype[i], f, err);
    peri_free(l);
    return st;
}
