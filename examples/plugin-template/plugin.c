/* SPDX-License-Identifier: MIT
 *
 * plugin.c - a backend to start from: every level-0 operation, weights of F32, F16 and Q8_0, a
 * cache of F32 or F16, plain C on one thread.  README.md is the way from here to your own.
 *
 * This file is the shell: one device, what it takes, and an operation's way to ops.c.  The rules R1
 * to R7 and every struct are in perigee/plugin.h, the operations in perigee/op.def. */
#include <string.h>

#include "template.h"

/* Describe device `index`; the core counts up until NO_DEVICE.  No side effects: a driver is looked
 * for here, and nothing stays open. */
static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    (void)h;
    if (index > 0) return peri_plugin_fail(e, PERI_E_NO_DEVICE, "there is one device");
    peri_dev_info d = {.size = sizeof d,
                       /* buffers are plain memory; results do not depend on batches or threads;
                        * never chosen before a native device */
                       .flags = PERI_DEV_HOST_MEM | PERI_DEV_BATCH_INVARIANT | PERI_DEV_EMULATED,
                       .name = "template",
                       .model = "plain loops",
                       .location = "template:0"};
    peri_put(out, &d, sizeof d); /* R1: the core's struct may be smaller */
    return PERI_OK;
}

static void close_device(peri_dev *d) {
    if (!d) return;
    d->host->free(d->row);
    d->host->free(d->head);
    d->host->free(d);
}

static int32_t open_device(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e) {
    (void)index;
    peri_dev *d = h->alloc(sizeof *d, 16, -1);
    *out = NULL;
    if (d) *d = (peri_dev){.host = h};
    if (d) d->row = h->alloc(ROW_MAX * sizeof(float), 64, -1);
    if (d) d->head = h->alloc(ROW_MAX * sizeof(float), 64, -1);
    if (!d || !d->row || !d->head) {
        close_device(d);
        return peri_plugin_fail(e, PERI_E_NOMEM, "template: no memory for a device");
    }
    *out = d;
    return PERI_OK;
}

/* Why operand t is not for us, or NULL. */
static const char *refuse_operand(const peri_tensor *t) {
    if (t->dim[3] > ROW_MAX) return "rows of more than 65536 elements";
    if (t->kind == PERI_T_WEIGHT && t->dtype != F32 && t->dtype != F16 && t->dtype != Q8_0)
        return "weights of another type than F32, F16, Q8_0";
    if (t->kind == PERI_T_POOL && t->dtype != F32 && t->dtype != F16)
        return "a cache of another type than F32, F16";
    return NULL;
}

static const char *refuse(const peri_program *p, const peri_op *o) {
    const void *attr = peri_attr(p, o);
    const char *why = NULL;
    if (o->code > 0x000f) return "a fused operation: the core has pieces of it";
    if (o->code == PERI_OP_ROUTE && ((const peri_route_attr *)attr)->n_group > 1)
        return "experts in groups";
    /* Flag bits from 16 on must be understood. */
    if (o->code == PERI_OP_LINEAR && ((const peri_linear_attr *)attr)->flags >> 17)
        return "flags newer than this plugin";
    if (o->code == PERI_OP_ATTN && ((const peri_attn_attr *)attr)->flags >> 17)
        return "flags newer than this plugin";
    for (uint32_t k = 0; k < (uint32_t)o->n_in + o->n_out && !why; k++)
        if (peri_operand(p, o, k)) why = refuse_operand(peri_operand(p, o, k));
    return why;
}

/* Asked per operation and range of shapes when a model is loaded.  No is an answer, with a reason.
 */
static int32_t supports(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                        peri_support *out, peri_error *e) {
    peri_support s = {.size = sizeof s, .numerics = "act=f32 acc=f32"};
    const char *why = refuse(p, peri_op_at(p, op));
    (void)d, (void)b, (void)e;
    s.yes = why == NULL;
    if (why) snprintf(s.why, sizeof s.why, "%s", why);
    peri_put(out, &s, sizeof s);
    return PERI_OK;
}

/* To use the core's threads, cut the work with host->parallel(d, n, fn, arg). */
static int32_t run_op(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                      const peri_step *s, peri_error *e) {
    const peri_op *o = peri_op_at(p, op);
    job j = {.dev = d, .step = s, .attr = peri_attr(p, o)};
    for (uint32_t k = 0; k < (uint32_t)o->n_in + o->n_out && k < 8; k++) {
        const peri_tensor *t = peri_operand(p, o, k);
        if (!t) continue;
        j.t[k] = t;
        j.at[k] = peri_ptr(m, t);
        for (int i = 0; i < 4; i++)
            j.d[k][i] = peri_dim(t, i, s->n);
    }
    if (run_job(&j, o->code)) return PERI_OK;
    return peri_plugin_fail(e, PERI_E_UNSUPPORTED, "template: operation 0x%04x", o->code);
}

const peri_plugin *perigee_plugin_v0(const peri_host *host, peri_error *e) {
    static const peri_plugin table = {.size = sizeof table,
                                      .abi_major = PERI_ABI_MAJOR,
                                      .abi_minor = PERI_ABI_MINOR,
                                      .name = "template",
                                      .version = "0.1",
                                      .license = "MIT",
                                      .device = device,
                                      .open = open_device,
                                      .supports = supports,
                                      .run_op = run_op,
                                      .close = close_device};
    (void)host, (void)e;
    return &table;
}

/* Read from the file before it is ever loaded; the name is the table's. */
PERI_PLUGIN_NOTE("abi=0.2 name=template arch=any needs=");
