/* SPDX-License-Identifier: MIT
 *
 * plugin.c - a backend to start from, plain C on one thread; README.md is the way to your own.
 * perigee/plugin.h has rules and structs, op.def the operations; op_check.h compares with it. */
#include <math.h>
#include <string.h>

#include "perigee/op_check.h"

enum { F32 = 0, F16 = 1, Q8_0 = 8 }; /* numbers of dtype.def */
typedef struct job { /* one operation: where its operands lie, how large they are in this step */
    const peri_step *step;
    const peri_op *op;
    const void *attr;
    const peri_tensor *t[8]; /* NULL: absent */
    char *at[8];
    int64_t d[8][4], n_row[8];
} job;
static float *row(const job *j, int k, int64_t r) { /* rows of activations may lie apart */
    const int64_t *d = j->d[k], *s = j->t[k]->stride;
    return (float *)(j->at[k] + r / d[2] / d[1] * s[0] + r / d[2] % d[1] * s[1] + r % d[2] * s[2]);
}
static const int32_t *ids(const job *j, uint32_t off) {
    return peri_step_array(j->step, off);
}
/* Element i of a weight, a vector or a pool.  A block of Q8_0 is a half and 32 bytes. */
static double value(const job *j, int k, int64_t i) {
    uint16_t type = j->t[k]->dtype;
    const _Float16 *half = (const void *)(j->at[k] + (type == F16 ? i * 2 : i / 32 * 34));
    if (type == F32) return ((const float *)j->at[k])[i];
    return (double)*half * (type == F16 ? 1 : ((const signed char *)(half + 1))[i % 32]);
}
static double get(const job *j, int k, int64_t i, double otherwise) { /* of an optional operand */
    return j->t[k] ? value(j, k, i) : otherwise;
}
static double product(const job *j, int k, int64_t r, const float *x) { /* row r of k times x */
    double sum = 0;
    for (int64_t i = 0, n = j->d[k][3]; i < n; i++)
        sum += value(j, k, r * n + i) * x[i];
    return sum;
}
static void embed(const job *j) {
    const peri_embed_attr *a = j->attr;
    for (int64_t t = 0, n = j->d[0][3]; t < j->n_row[1]; t++)
        for (int64_t i = 0; i < n; i++)
            row(j, 1, t)[i] =
                a->scale * value(j, 0, ids(j, a->source ? j->step->pos : j->step->tok)[t] * n + i);
}
static void linear(const job *j) { /* the only flag: the scale is for the bias too */
    double s = get(j, 3, 0, 1), by = ((const uint32_t *)j->attr)[1] >> 16 ? s : 1;
    for (int64_t t = 0; t < j->n_row[0]; t++)
        for (int64_t o = 0; o < j->d[1][2]; o++)
            row(j, 4, t)[o] = s * product(j, 1, o, row(j, 0, t)) + by * get(j, 2, o, 0);
}
static void norm(const job *j) {
    const peri_norm_attr *a = j->attr;
    for (int64_t r = 0, n = j->d[0][3]; r < j->n_row[0]; r++) {
        int64_t w = j->t[1] ? r % j->n_row[1] * n : 0; /* one row of weights, or one per head */
        float *x = row(j, 0, r), *y = row(j, 3, r);
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += (double)x[i] * x[i];
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] / sqrt(sum / n + a->eps) * get(j, 1, w + i, 1);
    }
}
static void rope(const job *j) {
    const peri_rope_attr *a = j->attr;
    int next = a->pairs ? 1 : 2, other = a->pairs ? a->n_rot / 2 : 1;
    for (int64_t r = 0; r < j->n_row[0]; r++) {
        float *y = row(j, 2, r), theta = ids(j, j->step->pos)[r / j->d[0][2]];
        memmove(y, row(j, 0, r), j->d[0][3] * sizeof *y);
        y += a->first;
        for (uint32_t i = 0; i < a->n_rot / 2; i++, y += next) {
            double angle = a->freq_scale * (theta / (float)get(j, 1, i, 1)); /* in f32 */
            double x0 = y[0], x1 = y[other], c = cos(angle), s = sin(angle);
            y[0] = a->magnitude * (x0 * c - x1 * s);
            y[other] = a->magnitude * (x0 * s + x1 * c);
            theta *= powf(a->base, -2.0f / a->n_rot);
        }
    }
}
static void kv_append(const job *j) {
    for (int k = 0; k < 2; k++) /* keys, values */
        for (int64_t r = 0, n_head = j->d[k][2], n = j->d[k][3]; r < j->n_row[k]; r++) {
            int64_t slot = ids(j, j->step->slot)[r / n_head]; /* below 0: a padding token */
            _Float16 *to = (_Float16 *)j->at[2 + k] + (slot * n_head + r % n_head) * n;
            for (int64_t i = 0; i < n && slot >= 0; i++)
                to[i] = row(j, k, r)[i]; /* to nearest, ties to even */
        }
}
/* Keys in rising order: the largest logit, the sum of exponentials, in y the weighted values. */
static void attn(const job *j) {
    const peri_attn_attr *a = j->attr;
    int64_t n_head = j->d[0][2], n_kv = j->d[1][2], block = j->d[1][1], dv = j->d[2][3];
    for (int64_t r = 0; r < j->n_row[0]; r++) {
        int64_t h = r % n_head, pos = ids(j, j->step->pos)[r / n_head];
        int64_t s = ids(j, j->step->seq)[r / n_head], n_key = ids(j, j->step->ctx)[s];
        double top = get(j, 3, h, -INFINITY), sum = j->t[3] ? 1 : 0;
        float *y = memset(row(j, 4, r), 0, dv * sizeof *y);
        for (int64_t key = 0; key < n_key && key <= pos; key++) {
            int64_t id = ids(j, j->step->table)[s * j->step->n[PERI_SYM_B] + key / block];
            int64_t at = (id * block + key % block) * n_kv + h / (n_head / n_kv);
            if (a->window > 0 && pos - key >= a->window) continue;
            double z = a->scale * product(j, 1, at, row(j, 0, r)), old = top;
            top = fmax(top, z);
            sum = sum * exp(old - top) + exp(z - top);
            for (int64_t i = 0; i < dv; i++)
                y[i] = y[i] * exp(old - top) + exp(z - top) * value(j, 2, at * dv + i);
        }
        for (int64_t i = 0; i < dv && sum > 0; i++)
            y[i] /= sum;
    }
}
static void elements(const job *j) { /* b may be one row or one number for all */
    int code = j->op->code, y = j->op->n_in;
    for (int64_t r = 0; r < j->n_row[y]; r++)
        for (int64_t i = 0; i < j->d[y][3]; i++) {
            double x = row(j, 0, r)[i], b = y == 2 ? row(j, 1, r % j->n_row[1])[i % j->d[1][3]] : 1;
            row(j, y, r)[i] = code == PERI_OP_ADD     ? x + b
                              : code == PERI_OP_MUL   ? x * b
                              : code == PERI_OP_SCALE ? ((peri_scale_attr *)j->attr)->scale * x
                                                      : x / (1 + exp(-x)) * b; /* SILU */
        }
}
static void rows(const job *j) {
    for (int64_t r = 0; r < j->n_row[1]; r++)
        memcpy(row(j, 1, r), row(j, 0, ids(j, j->step->out_row)[r]), j->d[1][3] * sizeof(float));
}

// clang-format off
static void (*const run[])(const job *) = {
    [PERI_OP_EMBED] = embed, [PERI_OP_LINEAR] = linear, [PERI_OP_NORM] = norm,
    [PERI_OP_ROPE] = rope, [PERI_OP_KV_APPEND] = kv_append, [PERI_OP_ATTN] = attn,
    [PERI_OP_ACT] = elements, [PERI_OP_GLU] = elements, [PERI_OP_ADD] = elements,
    [PERI_OP_MUL] = elements, [PERI_OP_SCALE] = elements, [PERI_OP_ROWS] = rows};
static int can_decode(const void *user, uint32_t dtype) { /* what `value` reads */
    return dtype <= F16 || dtype == Q8_0;
}
static int can_cache(const void *user, uint32_t dtype) { return dtype == F16; }
// clang-format on
/* What is left out, or NULL.  After a no the core tries the pieces, or another device. */
static const char *refuse(const peri_op_check *c) {
    const peri_op_attr *a = &c->attr;
    const peri_attn_attr *at = &a->attn;
    uint32_t code = c->op->code;
    if (code > PERI_OP_ROWS || !run[code]) return "experts, or a fused operation";
    if (code == PERI_OP_NORM && a->norm.kind != PERI_NORM_RMS) return "a norm other than RMS";
    if (code == PERI_OP_ROPE && a->rope.ext != 0) return "YaRN";
    if (code == PERI_OP_ATTN && (at->flags >> 16 || at->cap || at->alibi_max || at->chunk))
        return "attention with a cap, slopes or chunks, or to keys ahead";
    if ((code == PERI_OP_ACT || code == PERI_OP_GLU) && a->act.act != PERI_ACT_SILU)
        return "a function other than SILU";
    return NULL;
}
static int32_t supports(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                        peri_support *out, peri_error *e) {
    static const peri_op_rules rules = {.can_decode = can_decode, .can_cache = can_cache};
    peri_support s = {.size = sizeof s, .numerics = "act=f32 acc=f64"};
    peri_op_check c = {.why = s.why};
    s.yes = peri_op_check_run(&c, &rules, p, op, b); /* as op.def says, of types that are ours */
    if (s.yes && refuse(&c)) s.yes = peri_op_no(&c, "%s", refuse(&c));
    peri_put(out, &s, sizeof s); /* R1: the core's struct may be smaller */
    return PERI_OK;
}
static int32_t run_op(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                      const peri_step *s, peri_error *e) {
    const peri_op *o = peri_op_at(p, op);
    job j = {.step = s, .op = o, .attr = peri_attr(p, o)};
    for (uint32_t k = 0; k < (uint32_t)o->n_in + o->n_out && k < 8; k++) {
        if ((j.t[k] = peri_operand(p, o, k))) j.at[k] = peri_ptr(m, j.t[k]);
        for (int i = 0; i < 4 && j.t[k]; i++)
            j.d[k][i] = peri_dim(j.t[k], i, s->n);
        j.n_row[k] = j.d[k][0] * j.d[k][1] * j.d[k][2];
    }
    run[o->code](&j);
    return PERI_OK;
}
/* Describe device `index`; the core counts up until NO_DEVICE.  No side effects. */
static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    peri_dev_info d = {sizeof d, PERI_DEV_HOST_MEM | PERI_DEV_BATCH_INVARIANT | PERI_DEV_EMULATED,
                       .name = "template", .model = "plain loops", .location = "template:0"};
    if (index > 0) return peri_plugin_fail(e, PERI_E_NO_DEVICE, "there is one device");
    peri_put(out, &d, sizeof d);
    return PERI_OK;
}
static int32_t open_device(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e) {
    *out = (peri_dev *)h; /* any handle: this device has nothing of its own to remember */
    return PERI_OK;
}
const peri_plugin *perigee_plugin_v0(const peri_host *host, peri_error *e) {
    // clang-format off
    static const peri_plugin table = {
        .size = sizeof table, .abi_major = PERI_ABI_MAJOR, .abi_minor = PERI_ABI_MINOR,
        .name = "template", .version = "0.1", .license = "MIT", .device = device,
        .open = open_device, .supports = supports, .run_op = run_op};
    // clang-format on
    return &table;
}
PERI_PLUGIN_NOTE("abi=0.2 name=template arch=any needs="); /* read before the file is loaded */
