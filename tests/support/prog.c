/* SPDX-License-Identifier: MIT
 *
 * prog.c - one-op programs and the host they run on. */
#include "prog.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the host ---- */

prog_host_state prog_host_now = {.n_node = 1, .n_worker = 1};

static void *host_alloc(size_t bytes, size_t align, int numa_node) {
    (void)numa_node;
    int64_t n = __atomic_add_fetch(&prog_host_now.n_alloc, 1, __ATOMIC_RELAXED);
    if (prog_host_now.fail_at && n >= prog_host_now.fail_at) return NULL;
    void *p = aligned_alloc(align, (bytes + align - 1) / align * align);
    if (!p) return NULL;
    memset(p, 0xff, bytes); /* as NaN as memory can be */
    __atomic_add_fetch(&prog_host_now.n_live, 1, __ATOMIC_RELAXED);
    return p;
}

static void host_free(void *p) {
    if (p) __atomic_sub_fetch(&prog_host_now.n_live, 1, __ATOMIC_RELAXED);
    free(p);
}

static void host_log(int level, const char *text) {
    prog_host_now.log_level = level;
    snprintf(prog_host_now.log, sizeof prog_host_now.log, "%s", text);
}

static const char *host_option(const char *key) {
    return strcmp(key, "cpu.isa") == 0 ? prog_host_now.isa : NULL;
}

static int32_t host_node(uint32_t index, peri_host_node *out) {
    if (index >= prog_host_now.n_node) return PERI_E_NO_DEVICE;
    peri_host_node node = {.size = sizeof node,
                           .numa = prog_host_now.n_node == 1 ? -1 : (int32_t)index,
                           .n_core = prog_host_now.n_worker,
                           .n_worker = prog_host_now.n_worker,
                           .mem_total = (uint64_t)8 << 30,
                           .mem_free = (uint64_t)4 << 30};
    peri_put(out, &node, sizeof node);
    return PERI_OK;
}

typedef struct parallel_job {
    uint32_t n, worker, n_worker;
    void (*fn)(void *arg, uint32_t i, uint32_t worker);
    void *arg;
} parallel_job;

/* Worker 0 takes the even items, rising; worker 1 the odd ones, falling. */
static void *work(void *arg) {
    const parallel_job *j = arg;
    if (j->worker == 0) {
        for (uint32_t i = 0; i < j->n; i += j->n_worker)
            j->fn(j->arg, i, 0);
    } else {
        for (uint32_t i = j->n / 2; i > 0; i--)
            j->fn(j->arg, 2 * i - 1, 1);
    }
    return NULL;
}

static void host_parallel(peri_dev *d, uint32_t n,
                          void (*fn)(void *arg, uint32_t i, uint32_t worker), void *arg) {
    (void)d;
    parallel_job job[2] = {{n, 0, 2, fn, arg}, {n, 1, 2, fn, arg}};
    pthread_t other;
    if (prog_host_now.n_worker < 2 || n < 2) {
        job[0].n_worker = 1;
        work(&job[0]);
        return;
    }
    if (pthread_create(&other, NULL, work, &job[1])) abort();
    work(&job[0]);
    pthread_join(other, NULL);
}

static uint32_t host_workers(peri_dev *d) {
    (void)d;
    return prog_host_now.n_worker;
}

const peri_host prog_host = {.size = sizeof prog_host,
                             .abi_major = PERI_ABI_MAJOR,
                             .abi_minor = PERI_ABI_MINOR,
                             .alloc = host_alloc,
                             .free = host_free,
                             .log = host_log,
                             .option = host_option,
                             .node = host_node,
                             .parallel = host_parallel,
                             .workers = host_workers};

/* ---- building ---- */

enum { ARENA = 2 << 20 };

/* The arena of the last program that was freed, all NaN again: tests run tens of thousands of
 * programs, and new pages for each cost more than all that is computed (six times under ASan). */
static void *spare;

prog *prog_new(peri_dev *dev, int32_t n_tok) {
    prog *p = calloc(1, sizeof *p);
    if (!p) abort();
    p->arena = spare;
    spare = NULL;
    if (!p->arena) {
        if (!(p->arena = aligned_alloc(64, ARENA))) abort();
        memset(p->arena, 0xff, ARENA);
    }
    p->dev = dev;
    p->hi = 64;
    p->n[PERI_SYM_T] = p->n[PERI_SYM_R] = n_tok;
    p->n[PERI_SYM_S] = p->n[PERI_SYM_B] = 1;
    return p;
}

void prog_free(prog *p) {
    free(spare);
    spare = p->arena;
    memset(spare, 0xff, p->n_arena);
    free(p);
}

static int64_t actual(const prog *p, int64_t dim) {
    return dim < 0 ? p->n[-dim] : dim;
}

static uint32_t add_operand(prog *p, const peri_tensor *t, int is_output) {
    if (p->n_tensor == PROG_MAX_TENSOR || (p->n_out && !is_output)) abort();
    if (t) p->tensor[p->n_tensor] = *t;
    uint32_t k = p->n_in + p->n_out;
    p->operand[k] = t ? p->n_tensor++ : PERI_NONE;
    if (is_output)
        p->n_out++;
    else
        p->n_in++;
    return k;
}

int64_t prog_size(const prog *p, uint32_t operand) {
    const peri_tensor *t = &p->tensor[p->operand[operand]];
    return actual(p, t->dim[0]) * actual(p, t->dim[1]) * actual(p, t->dim[2]) * t->dim[3];
}

/* A tensor in the arena, each row followed by `gap` elements, 64 bytes of poison behind it. */
static uint32_t add_activation(prog *p, uint32_t dtype, prog_dims dims, int64_t gap,
                               int is_output) {
    peri_tensor t = {.dtype = (uint16_t)dtype, .kind = PERI_T_ACT, .off = p->n_arena};
    int64_t stride = 4;
    for (int i = 3; i >= 0; i--) {
        t.dim[i] = dims.d[i];
        t.stride[i] = stride;
        int64_t n = dims.d[i] < 0 ? p->n[-dims.d[i]] : dims.d[i];
        stride = i == 3 ? stride * (n + gap) : stride * n;
    }
    p->n_arena += ((uint64_t)stride + 127) / 64 * 64;
    if (p->n_arena > ARENA) abort();
    return add_operand(p, &t, is_output);
}

/* Address of row r of a tensor with strides. */
static unsigned char *row_at(const prog *p, const peri_tensor *t, int64_t r) {
    int64_t n2 = actual(p, t->dim[2]), n1 = actual(p, t->dim[1]);
    return p->arena + t->off + r / n2 / n1 * t->stride[0] + r / n2 % n1 * t->stride[1] +
           r % n2 * t->stride[2];
}

static void put(prog *p, uint32_t operand, const void *data) {
    const peri_tensor *t = &p->tensor[p->operand[operand]];
    size_t bytes = (size_t)t->dim[3] * 4;
    for (int64_t r = 0; r < prog_size(p, operand) / t->dim[3]; r++)
        memcpy(row_at(p, t, r), (const char *)data + (size_t)r * bytes, bytes);
}

void prog_get(const prog *p, uint32_t k, void *out) {
    const peri_tensor *t = &p->tensor[p->operand[p->n_in + k]];
    size_t bytes = (size_t)t->dim[3] * 4;
    for (int64_t r = 0; r < prog_size(p, p->n_in + k) / t->dim[3]; r++)
        memcpy((char *)out + (size_t)r * bytes, row_at(p, t, r), bytes);
}

uint32_t prog_in(prog *p, prog_dims dims, const float *data, int64_t gap) {
    if (!data) return add_operand(p, NULL, 0);
    uint32_t k = add_activation(p, 0, dims, gap, 0);
    put(p, k, data);
    return k;
}

uint32_t prog_in_ids(prog *p, prog_dims dims, const int32_t *data) {
    uint32_t k = add_activation(p, 26, dims, 0, 0);
    put(p, k, data);
    return k;
}

static int64_t block_elements(uint32_t dtype, int64_t *bytes) {
    switch (dtype) {
#define PERI_DTYPE(NAME, number, name, elements, size)                                             \
    case number:                                                                                   \
        *bytes = size;                                                                             \
        return elements;
#include "perigee/dtype.def"
#undef PERI_DTYPE
    }
    *bytes = 1;
    return 1;
}

static void set_dense(peri_tensor *t, prog_dims dims) {
    int64_t stride, n = block_elements(t->dtype, &stride);
    for (int i = 3; i >= 0; i--) {
        t->dim[i] = dims.d[i];
        if (n == 1) t->stride[i] = stride;
        stride *= dims.d[i];
    }
}

uint32_t prog_weight(prog *p, uint32_t dtype, prog_dims dims, const void *data) {
    if (!data) return add_operand(p, NULL, 0);
    peri_tensor t = {.dtype = (uint16_t)dtype, .kind = PERI_T_WEIGHT, .ref = p->n_weight};
    set_dense(&t, dims);
    p->weight[p->n_weight++] = (void *)data;
    return add_operand(p, &t, 0);
}

uint32_t prog_pool(prog *p, uint32_t dtype, prog_dims dims, void *data) {
    peri_tensor t = {.dtype = (uint16_t)dtype, .kind = PERI_T_POOL, .ref = p->n_pool};
    set_dense(&t, dims);
    p->pool[p->n_pool++] = data;
    return add_operand(p, &t, 0);
}

uint32_t prog_out(prog *p, uint32_t dtype, prog_dims dims, int64_t gap) {
    return add_activation(p, dtype, dims, gap, 1);
}

void prog_out_in_place(prog *p, uint32_t input) {
    p->operand[p->n_in + p->n_out++] = p->operand[input];
}

void prog_attr(prog *p, const void *attr, size_t size) {
    if (size > sizeof p->attr) abort();
    if (size) memcpy(p->attr, attr, size);
    p->attr_size = (uint32_t)size;
}

/* ---- running ---- */

typedef struct packed {
    peri_program head;
    peri_tensor tensor[PROG_MAX_TENSOR];
    peri_op op;
    uint32_t operand[PROG_MAX_TENSOR];
    unsigned char attr[64];
} packed;

static void pack(const prog *p, packed *out) {
    memset(out, 0, sizeof *out);
    out->head = (peri_program){.size = sizeof out->head,
                               .bytes = sizeof *out,
                               .n_tensors = p->n_tensor,
                               .tensor_size = sizeof(peri_tensor),
                               .tensors = offsetof(packed, tensor),
                               .n_ops = 1,
                               .op_size = sizeof(peri_op),
                               .ops = offsetof(packed, op),
                               .operands = offsetof(packed, operand),
                               .attrs = offsetof(packed, attr),
                               .arena_bytes = p->n_arena};
    memcpy(out->tensor, p->tensor, sizeof out->tensor);
    memcpy(out->operand, p->operand, sizeof out->operand);
    memcpy(out->attr, p->attr, sizeof out->attr);
    out->op = (peri_op){.code = p->code,
                        .layer = 0xffff,
                        .n_in = (uint8_t)p->n_in,
                        .n_out = (uint8_t)p->n_out,
                        .attr_size = (uint16_t)p->attr_size};
}

static int ask(prog *p, const packed *program) {
    peri_bucket b = {.size = sizeof b};
    peri_support s = {.size = sizeof s};
    peri_error e = {0};
    for (int i = 1; i < PERI_NSYM; i++) {
        b.lo[i] = 1;
        b.hi[i] = p->hi;
    }
    if (perigee_plugin_v0(&prog_host, &e)->supports(p->dev, &program->head, 0, &b, &s, &e)) abort();
    memcpy(p->numerics, s.numerics, sizeof p->numerics);
    memcpy(p->why, s.why, sizeof p->why);
    return s.yes;
}

int prog_supports(prog *p) {
    packed program;
    pack(p, &program);
    return ask(p, &program);
}

typedef struct step_block {
    peri_step head;
    int32_t tok[PROG_MAX_TOKENS], pos[PROG_MAX_TOKENS], seq[PROG_MAX_TOKENS], slot[PROG_MAX_TOKENS],
        ctx[PROG_MAX_SEQ], table[PROG_MAX_TABLE], out_row[PROG_MAX_TOKENS];
} step_block;

static void make_step(const prog *p, step_block *s) {
    s->head = (peri_step){.size = sizeof s->head,
                          .bytes = sizeof *s,
                          .tok = offsetof(step_block, tok),
                          .pos = offsetof(step_block, pos),
                          .seq = offsetof(step_block, seq),
                          .slot = offsetof(step_block, slot),
                          .ctx = offsetof(step_block, ctx),
                          .table = offsetof(step_block, table),
                          .out_row = offsetof(step_block, out_row)};
    memcpy(s->head.n, p->n, sizeof p->n);
    memcpy(s->tok, p->tok, sizeof s->tok);
    memcpy(s->pos, p->pos, sizeof s->pos);
    memcpy(s->seq, p->seq, sizeof s->seq);
    memcpy(s->slot, p->slot, sizeof s->slot);
    memcpy(s->ctx, p->ctx, sizeof s->ctx);
    memcpy(s->table, p->table, sizeof s->table);
    memcpy(s->out_row, p->out_row, sizeof s->out_row);
}

peri_status prog_run(prog *p, peri_error *e) {
    packed program;
    step_block step;
    pack(p, &program);
    if (!ask(p, &program)) return peri_plugin_fail(e, PERI_E_UNSUPPORTED, "%s", p->why);
    make_step(p, &step);
    peri_bind bind = {.size = sizeof bind,
                      .n_weights = p->n_weight,
                      .n_pools = p->n_pool,
                      .arena = (peri_buf *)p->arena,
                      .weights = (peri_buf *const *)p->weight,
                      .pools = (peri_buf *const *)p->pool};
    return perigee_plugin_v0(&prog_host, e)->run_op(p->dev, &program.head, 0, &bind, &step.head, e);
}

/* ---- numbers ---- */

/* splitmix64.  Source: Steele, Lea, Flood 2014. */
static uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

float prog_random(uint64_t seed, uint64_t i) {
    uint64_t r = mix(mix(seed * 0x9e3779b97f4a7c15u + 1) + i * 0x9e3779b97f4a7c15u);
    return (float)((double)(int64_t)r * 0x1p-63);
}

void prog_fill(float *x, int64_t n, uint64_t seed, float scale) {
    for (int64_t i = 0; i < n; i++)
        x[i] = scale * prog_random(seed, (uint64_t)i);
}

/* f16 bits of a number of magnitude 2^-8 .. 2^-4: exponent 7 .. 10. */
static void put_scale(unsigned char *out, uint64_t random) {
    uint32_t bits = (uint32_t)(7 + (random >> 20) % 4) << 10 | (uint32_t)(random & 0x3ff) |
                    (uint32_t)(random >> 30 & 1) << 15;
    out[0] = (unsigned char)bits;
    out[1] = (unsigned char)(bits >> 8);
}

/* Scales of the types that keep them elsewhere than in an f16. */
static void put_odd_scale(uint32_t dtype, unsigned char *block, uint64_t random) {
    unsigned char half[2];
    put_scale(half, random);
    if (dtype == 39) block[0] = (unsigned char)(119 + random % 4); /* MXFP4: E8M0 */
    for (int i = 0; i < 4 && dtype == 40; i++)                     /* NVFP4: E4M3 */
        block[i] = (unsigned char)(block[i] & 0x1f);
    for (int i = 0; i < 4 && dtype == 29; i++) /* IQ1_M: a nibble on top of each word at 48 */
        block[49 + 2 * i] =
            (unsigned char)((block[49 + 2 * i] & 15) | (half[i / 2] >> i % 2 * 4 & 15) << 4);
}

void prog_blocks(uint32_t dtype, unsigned char *out, int64_t n_block, uint64_t seed) {
    static const struct {
        uint32_t dtype;
        int at[2];
    } scales[] = {/* byte offsets of f16 scales, -1: none */
                  {1, {0, -1}},   {2, {0, -1}},    {3, {0, 2}},    {6, {0, -1}},    {7, {0, 2}},
                  {8, {0, -1}},   {9, {0, 2}},     {10, {80, 82}}, {11, {108, -1}}, {12, {0, 2}},
                  {13, {0, 2}},   {14, {208, -1}}, {16, {0, -1}},  {17, {0, -1}},   {18, {0, -1}},
                  {19, {0, -1}},  {20, {0, -1}},   {21, {0, -1}},  {22, {0, -1}},   {23, {0, -1}},
                  {34, {52, -1}}, {35, {64, -1}},  {41, {0, -1}},  {42, {0, -1}}};
    int64_t bytes;
    block_elements(dtype, &bytes);
    for (int64_t b = 0; b < n_block; b++, out += bytes) {
        uint64_t key = mix(seed + 77) + (uint64_t)b * 512;
        float f = 0.02f * prog_random(key, 0);
        double wide = (double)f;
        for (int64_t i = 0; i < bytes; i++)
            out[i] = (unsigned char)mix(key + (uint64_t)i);
        for (size_t k = 0; k < sizeof scales / sizeof scales[0]; k++)
            for (int a = 0; a < 2 && scales[k].dtype == dtype; a++)
                if (scales[k].at[a] >= 0)
                    put_scale(out + scales[k].at[a], mix(key + 400 + (uint64_t)a));
        if (dtype == 0 || dtype == 15) memcpy(out, &f, 4);     /* F32, Q8_K */
        if (dtype == 30) memcpy(out, (const char *)&f + 2, 2); /* BF16 */
        if (dtype == 28) memcpy(out, &wide, 8);                /* F64 */
        put_odd_scale(dtype, out, mix(key + 400));
    }
}

prog_error prog_nmse(const float *got, const double *want, int64_t n_row, int64_t n) {
    double error = 0, size = 0, worst = 0;
    for (int64_t r = 0; r < n_row; r++) {
        double row_error = 0, row_size = 0;
        for (int64_t i = 0; i < n; i++) {
            double d = (double)got[r * n + i] - want[r * n + i];
            row_error += d * d;
            row_size += want[r * n + i] * want[r * n + i];
        }
        double ratio = row_error == 0 ? 0 : row_error / row_size;
        if (!(ratio <= worst)) worst = ratio;
        error += row_error;
        size += row_size;
    }
    return (prog_error){error == 0 ? 0 : error / size, worst};
}

double prog_ulps(const float *got, const double *want, const double *at_least, int64_t n) {
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        float f = (float)want[i];
        if (f == got[i] || (isnan(f) && isnan(got[i]))) continue;
        int exponent;
        frexp(at_least && at_least[i] > fabs(want[i]) ? at_least[i] : want[i], &exponent);
        double unit = ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
        double d = fabs((double)got[i] - want[i]) / unit;
        if (!(d <= worst)) worst = d;
    }
    return worst;
}
