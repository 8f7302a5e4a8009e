/* SPDX-License-Identifier: MIT
 *
 * twin.c - devices of any number, speed and memory that all compute by another plugin, so that one
 * model can be spread over several on one machine.
 *
 *   twin.base     path of the plugin that does the work
 *   twin.devices
 * name=a,gbps=0.5,mem=4e6,native=1,own=1,no=GLU+ROPE,type=8,limit=1e6,pace=1,compiles=1;name=b,...
 *
 * own    memory of its own: buffers are handles, and what was never written is NaN
 * no     ops that are declined
 * type   LINEAR with weights of this type is declined
 * limit  bytes of its own memory, after which allocations fail
 * pace   an op takes at least as long as reading its weights at gbps
 * token  of each list of TOPK the one in the middle is this, in memory of its own
 * compiles  1: ops that run together are compiled, which a warning says; 2: compiling is an error;
 *           3: running what was compiled is.  What is not freed is told when the device closes */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "perigee/plugin.h"

enum { MAX_DEVICE = 16, MAX_REF = 4096 };

struct peri_buf {
    char *at;
    uint64_t bytes;
    int is_import;
};

typedef struct twin {
    peri_dev *dev; /* the base's, which is also ours: the host knows devices by it */
    peri_dev_info info;
    char no[96];
    long type;
    double limit, used;
    int is_own, is_paced, compiles, n_compiled, has_token;
    int32_t token;
    int64_t done_ns; /* when what was asked for would be done */
    peri_buf *weight[MAX_REF], *pool[MAX_REF];
} twin;

static const peri_host *host;
static peri_plugin base;
static twin open_twin[MAX_DEVICE];

/* ---- options ---- */

static const char *take(const char *s, const char *stops, char *out, size_t room) {
    size_t n = strcspn(s, stops);
    snprintf(out, room, "%.*s", (int)n, s);
    return s + n;
}

/* The settings of device `index`; 0 when there is none. */
static int describe(uint32_t index, twin *t) {
    const char *s = host->option("twin.devices");
    for (; s != NULL && *s != 0 && index > 0; index--) {
        s += strcspn(s, ";");
        if (*s == ';') s++;
    }
    if (s == NULL || *s == 0) return 0;
    t->type = -1;
    t->info.flags |= PERI_DEV_EMULATED;
    while (*s != 0 && *s != ';') {
        char key[16], value[96];
        s = take(s, "=,;", key, sizeof key);
        s = take(*s == '=' ? s + 1 : s, ",;", value, sizeof value);
        if (*s == ',') s++;
        if (strcmp(key, "name") == 0) take(value, "", t->info.name, sizeof t->info.name);
        if (strcmp(key, "gbps") == 0) t->info.mem_gbps = strtof(value, NULL);
        if (strcmp(key, "mem") == 0)
            t->info.mem_total = t->info.mem_free = (uint64_t)strtod(value, NULL);
        if (strcmp(key, "native") == 0) t->info.flags &= ~(uint32_t)PERI_DEV_EMULATED;
        if (strcmp(key, "own") == 0) t->is_own = 1;
        if (strcmp(key, "no") == 0) take(value, "", t->no, sizeof t->no);
        if (strcmp(key, "type") == 0) t->type = strtol(value, NULL, 10);
        if (strcmp(key, "limit") == 0) t->limit = strtod(value, NULL);
        if (strcmp(key, "pace") == 0) t->is_paced = 1;
        if (strcmp(key, "compiles") == 0) t->compiles = (int)strtol(value, NULL, 10);
        if (strcmp(key, "token") == 0) {
            t->has_token = 1;
            t->token = (int32_t)strtol(value, NULL, 10);
        }
    }
    if (t->is_own) t->info.flags &= ~(uint32_t)PERI_DEV_HOST_MEM;
    return 1;
}

static twin *twin_of(const peri_dev *d) {
    for (int i = 0; i < MAX_DEVICE; i++)
        if (open_twin[i].dev == d) return &open_twin[i];
    return NULL;
}

/* ---- discovery and lifetime ---- */

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    twin t = {.info = {.size = sizeof t.info}};
    int32_t status = base.device(h, 0, &t.info, e);
    if (status != PERI_OK) return status;
    if (!describe(index, &t)) return peri_plugin_fail(e, PERI_E_NO_DEVICE, "no more devices");
    snprintf(t.info.location, sizeof t.info.location, "twin:%u", index);
    peri_put(out, &t.info, sizeof t.info);
    return PERI_OK;
}

static int32_t open_device(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e) {
    twin *t = twin_of(NULL);
    if (t == NULL) return peri_plugin_fail(e, PERI_E_RANGE, "too many devices are open");
    *t = (twin){.info = {.size = sizeof t->info}};
    if (!describe(index, t)) return peri_plugin_fail(e, PERI_E_NO_DEVICE, "no such device");
    int32_t status = base.open(h, 0, out, e);
    if (status == PERI_OK) t->dev = *out;
    return status;
}

static void close_device(peri_dev *d) {
    if (twin_of(d)->n_compiled) host->log(2, "twin: something compiled is left");
    twin_of(d)->dev = NULL;
    base.close(d);
}

/* ---- memory ---- */

static int32_t buf_new(peri_dev *d, uint64_t bytes, const void *import, peri_buf **out,
                       peri_error *e) {
    twin *t = twin_of(d);
    if (t->limit > 0 && t->used + (double)bytes > t->limit)
        return peri_plugin_fail(e, PERI_E_NOMEM, "%.0f of %.0f bytes are in use", t->used,
                                t->limit);
    peri_buf *b = host->alloc(sizeof *b, 16, -1);
    char *at = b == NULL ? NULL : host->alloc(bytes, 64, -1);
    if (at == NULL) {
        host->free(b);
        return peri_plugin_fail(e, PERI_E_NOMEM, "out of memory");
    }
    *b = (peri_buf){at, bytes, import != NULL};
    if (import != NULL)
        memcpy(at, import, bytes);
    else
        memset(at, 0xff, bytes);
    t->used += (double)bytes;
    *out = b;
    return PERI_OK;
}

static int32_t buf_alloc(peri_dev *d, uint64_t bytes, uint32_t usage, peri_buf **out,
                         peri_error *e) {
    (void)usage;
    return buf_new(d, bytes, NULL, out, e);
}

static int32_t buf_import(peri_dev *d, const void *data, uint64_t bytes, peri_buf **out,
                          peri_error *e) {
    return buf_new(d, bytes, data, out, e);
}

static void buf_free(peri_dev *d, peri_buf *b) {
    twin_of(d)->used -= (double)b->bytes;
    host->free(b->at);
    host->free(b);
}

static int32_t is_inside(const peri_buf *b, uint64_t off, uint64_t bytes, peri_error *e) {
    if (off <= b->bytes && bytes <= b->bytes - off) return PERI_OK;
    return peri_plugin_fail(e, PERI_E_RANGE, "a transfer past the end of a buffer");
}

static int32_t buf_write(peri_dev *d, peri_buf *b, uint64_t off, const void *src, uint64_t bytes,
                         peri_error *e) {
    int32_t status = is_inside(b, off, bytes, e);
    (void)d;
    if (status == PERI_OK) memcpy(b->at + off, src, bytes);
    return status;
}

static int32_t buf_read(peri_dev *d, peri_buf *b, uint64_t off, void *dst, uint64_t bytes,
                        peri_error *e) {
    int32_t status = is_inside(b, off, bytes, e);
    (void)d;
    if (status == PERI_OK) memcpy(dst, b->at + off, bytes);
    return status;
}

static int32_t buf_copy(peri_dev *d, peri_buf *dst, uint64_t dst_off, peri_buf *src,
                        uint64_t src_off, uint64_t bytes, peri_error *e) {
    int32_t status = is_inside(dst, dst_off, bytes, e);
    if (status == PERI_OK) status = is_inside(src, src_off, bytes, e);
    (void)d;
    if (status == PERI_OK) memcpy(dst->at + dst_off, src->at + src_off, bytes);
    return status;
}

/* ---- operations ---- */

static const char *op_name(uint16_t code) {
    switch (code) {
#define PERI_OP(NAME, number, level, n_in, n_out, attr)                                            \
    case number:                                                                                   \
        return #NAME;
#include "perigee/op.def"
#undef PERI_OP
    default:
        return "";
    }
}

static int is_declined(const twin *t, const peri_program *p, const peri_op *o, char why[88]) {
    char word[32];
    for (const char *s = t->no; *s != 0; s += *s == '+') {
        s = take(s, "+", word, sizeof word);
        if (strcmp(word, op_name(o->code)) != 0) continue;
        snprintf(why, 88, "no %s here", word);
        return 1;
    }
    for (uint32_t k = 0; k < o->n_in; k++) {
        const peri_tensor *w = peri_operand(p, o, k);
        if (w == NULL || w->kind != PERI_T_WEIGHT || w->dim[2] < 2 || w->dtype != t->type) continue;
        snprintf(why, 88, "no weights of type %ld here", t->type);
        return 1;
    }
    return 0;
}

static int32_t supports(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                        peri_support *out, peri_error *e) {
    peri_support s = {.size = sizeof s};
    if (!is_declined(twin_of(d), p, peri_op_at(p, op), s.why))
        return base.supports(d, p, op, b, out, e);
    peri_put(out, &s, sizeof s);
    return PERI_OK;
}

static double element_bytes(uint16_t dtype) {
    switch (dtype) {
#define PERI_DTYPE(NAME, number, name, elements, bytes)                                            \
    case number:                                                                                   \
        return (double)(bytes) / (elements);
#include "perigee/dtype.def"
#undef PERI_DTYPE
    default:
        return 0;
    }
}

/* Bytes of weights an op reads: of an embedding the rows, of experts the chosen ones. */
static double bytes_read(const peri_program *p, const peri_op *o, const peri_step *s) {
    double sum = 0;
    for (uint32_t k = 0; k < o->n_in; k++) {
        const peri_tensor *w = peri_operand(p, o, k);
        if (w == NULL || w->kind != PERI_T_WEIGHT) continue;
        double width = element_bytes(w->dtype);
        double rows = (double)(w->dim[0] * w->dim[1] * w->dim[2]);
        if (o->code == PERI_OP_EMBED) rows = s->n[PERI_SYM_T];
        if (o->code == PERI_OP_LINEAR_EXPERTS) {
            const peri_tensor *ids = peri_operand(p, o, 2);
            rows = (double)(w->dim[2] * peri_dim(ids, 3, s->n) * s->n[PERI_SYM_T]);
        }
        sum += rows * (double)w->dim[3] * width;
    }
    return sum;
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Sleep until the time that the weights take is over.  Short waits are saved up, because a sleep is
 * never short. */
static void keep_pace(twin *t, int64_t start, double bytes) {
    enum { SLEEP_NS = 500000 };
    if (t->done_ns < start) t->done_ns = start;
    t->done_ns += (int64_t)(bytes / (double)t->info.mem_gbps);
    if (t->done_ns - now_ns() < SLEEP_NS) return;
    struct timespec until = {t->done_ns / 1000000000, t->done_ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

/* The bind of the base's host memory, for the operands of one op. */
static int32_t translate(twin *t, const peri_program *p, const peri_op *o, const peri_bind *m,
                         peri_bind *out, peri_error *e) {
    *out = *m;
    out->arena = (peri_buf *)(void *)m->arena->at;
    out->weights = t->weight;
    out->pools = t->pool;
    for (uint32_t k = 0; k < (uint32_t)(o->n_in + o->n_out); k++) {
        const peri_tensor *x = peri_operand(p, o, k);
        if (x == NULL || x->kind == PERI_T_ACT) continue;
        peri_buf *b = x->kind == PERI_T_WEIGHT ? m->weights[x->ref] : m->pools[x->ref];
        if (x->ref >= MAX_REF || b == NULL)
            return peri_plugin_fail(e, PERI_E_INVALID, "operand %u is not on this device", k);
        (x->kind == PERI_T_WEIGHT ? t->weight : t->pool)[x->ref] = (peri_buf *)(void *)b->at;
    }
    return PERI_OK;
}

/* Lists are i32 [R][2][k]. */
static void spoil_lists(const twin *t, const peri_program *p, const peri_op *o, const peri_bind *m,
                        const peri_step *s) {
    const peri_tensor *x = peri_operand(p, o, o->n_in);
    for (int32_t r = 0; r < s->n[PERI_SYM_R]; r++)
        memcpy((char *)m->arena + x->off + 4 * (2 * r * x->dim[3] + x->dim[3] / 2), &t->token, 4);
}

static int32_t run_op(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                      const peri_step *s, peri_error *e) {
    twin *t = twin_of(d);
    const peri_op *o = peri_op_at(p, op);
    peri_bind own;
    int32_t status = PERI_OK;
    int64_t start = t->is_paced ? now_ns() : 0;
    if (t->is_own) status = translate(t, p, o, m, &own, e);
    if (status == PERI_OK) status = base.run_op(d, p, op, t->is_own ? &own : m, s, e);
    if (status == PERI_OK && t->is_own && t->has_token && o->code == PERI_OP_TOPK)
        spoil_lists(t, p, o, &own, s);
    if (status == PERI_OK && t->is_paced) keep_pace(t, start, bytes_read(p, o, s));
    return status;
}

struct peri_compiled {
    const peri_program *p;
    uint32_t first, n;
};

static int32_t compile(peri_dev *d, const peri_program *p, uint32_t first, uint32_t n,
                       const peri_bucket *b, peri_compiled **out, peri_error *e) {
    twin *t = twin_of(d);
    char text[96];
    if (t->compiles == 0) return peri_plugin_fail(e, PERI_E_UNSUPPORTED, "not asked for");
    if (t->compiles == 2) return peri_plugin_fail(e, PERI_E_OTHER, "no compiling here");
    *out = host->alloc(sizeof **out, 16, -1);
    if (*out == NULL) return peri_plugin_fail(e, PERI_E_NOMEM, "out of memory");
    **out = (peri_compiled){p, first, n};
    t->n_compiled++;
    snprintf(text, sizeof text, "%s: compiled %u to %u of %u for %d", t->info.name, first,
             first + n - 1, p->n_ops, (int)b->hi[PERI_SYM_T]);
    host->log(2, text);
    return PERI_OK;
}

static int32_t run_compiled(peri_dev *d, peri_compiled *c, const peri_bind *m, const peri_step *s,
                            peri_error *e) {
    int32_t status = PERI_OK;
    if (twin_of(d)->compiles == 3) return peri_plugin_fail(e, PERI_E_OTHER, "no running here");
    for (uint32_t i = c->first; i < c->first + c->n && status == PERI_OK; i++)
        status = run_op(d, c->p, i, m, s, e);
    return status;
}

static void free_compiled(peri_dev *d, peri_compiled *c) {
    twin_of(d)->n_compiled--;
    host->free(c);
}

const peri_plugin *perigee_plugin_v0(const peri_host *h, peri_error *e) {
    typedef const peri_plugin *(*entry_fn)(const peri_host *, peri_error *);
    static peri_plugin table;
    const char *path = h->option("twin.base");
    void *library = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *symbol = library == NULL ? NULL : dlsym(library, PERI_PLUGIN_SYMBOL);
    entry_fn entry;
    memcpy(&entry, &symbol, sizeof entry);
    const peri_plugin *found = symbol == NULL ? NULL : entry(h, e);
    host = h;
    if (found == NULL) {
        peri_plugin_fail(e, PERI_E_NOT_FOUND, "option twin.base names no plugin");
        return NULL;
    }
    base = *found;
    table = (peri_plugin){.size = sizeof table,
                          .abi_major = PERI_ABI_MAJOR,
                          .abi_minor = PERI_ABI_MINOR,
                          .name = "twin",
                          .version = "1",
                          .license = "MIT",
                          .device = device,
                          .open = open_device,
                          .supports = supports,
                          .run_op = run_op,
                          .close = close_device,
                          .buf_alloc = buf_alloc,
                          .buf_import = buf_import,
                          .buf_free = buf_free,
                          .buf_write = buf_write,
                          .buf_read = buf_read,
                          .buf_copy = buf_copy,
                          .compile = compile,
                          .run_compiled = run_compiled,
                          .free_compiled = free_compiled};
    return &table;
}

PERI_PLUGIN_NOTE("abi=0.2 name=twin arch=any needs=");
