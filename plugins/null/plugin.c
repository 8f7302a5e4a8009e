/* SPDX-License-Identifier: MIT
 *
 * plugin.c - the smallest complete backend: read it first when you write your own.
 *
 * A plugin is four functions in one table, one exported function that returns it, and one ELF note.
 * It links nothing of the core's and needs include/perigee/ only.  This one's devices compute
 * nothing (outputs are zeros), and it offers none until told to, so it is never chosen by accident.
 * Tests tell it what to be and where to fail, by options:
 *
 *   null.devices   name=fake0,location=pci:0000:3b:00.0,mem=24e9,gbps=1000;name=fake1,...
 *                  also model=, native=1 (drops PERI_DEV_EMULATED)
 *   null.supports  all, none (the default), or names: EMBED,LINEAR
 *   null.fault     place:what[@N], comma-separated.  place: device, open, supports, run.  what: a
 *                  PERI_E_* name in lower case, no, crash, hang.  N: the N-th run_op, or index + 1
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "perigee/plugin.h"

#ifndef NULL_NAME /* the tests build a second plugin of another name */
#define NULL_NAME "null"
#endif

/* What a peri_dev is, is the plugin's business; the core only hands the pointer around. */
struct peri_dev {
    const peri_host *host;
    uint32_t n_run; /* calls of run_op so far */
};

/* Copy the bytes before any of `stops` to out[room], cut to fit; returns what follows them. */
static const char *take(const char *s, const char *stops, char *out, size_t room) {
    size_t n = strcspn(s, stops);
    snprintf(out, room, "%.*s", (int)n, s);
    return s + n;
}

/* ---- faults on request ---- */

static int32_t status_of(const char *what) {
#define STATUS_ROW(name, code, text)                                                               \
    if (strcasecmp(what, #name) == 0) return code;
    PERI_STATUS_LIST(STATUS_ROW)
    return strcmp(what, "no") == 0 ? PERI_E_UNSUPPORTED : PERI_E_OTHER;
}

/* What null.fault orders for the n-th time at `place`: 0, a failure, or no return at all. */
static int32_t fault(const peri_host *h, const char *place, uint32_t n, peri_error *e) {
    const char *s = h->option(NULL_NAME ".fault");
    while (s != NULL && *s != 0) {
        char where[16], what[32], when[16] = "";
        s = take(s, ":,", where, sizeof where);
        s = take(*s == ':' ? s + 1 : s, "@,", what, sizeof what);
        if (*s == '@') s = take(s + 1, ",", when, sizeof when);
        if (*s == ',') s++;
        if (strcmp(where, place) != 0 || (when[0] != 0 && strtoul(when, NULL, 10) != n)) continue;
        if (strcmp(what, "crash") == 0) __builtin_trap();
        while (strcmp(what, "hang") == 0)
            __asm__ volatile("");
        return peri_plugin_fail(e, status_of(what), "%s: %s on request", place, what);
    }
    return PERI_OK;
}

/* ---- discovery and lifetime ---- */

static void describe(peri_dev_info *d, const char *s) {
    while (*s != 0 && *s != ';') {
        char key[16], value[96];
        s = take(s, "=,;", key, sizeof key);
        s = take(*s == '=' ? s + 1 : s, ",;", value, sizeof value);
        if (*s == ',') s++;
        if (strcmp(key, "name") == 0) take(value, "", d->name, sizeof d->name);
        if (strcmp(key, "model") == 0) take(value, "", d->model, sizeof d->model);
        if (strcmp(key, "location") == 0) take(value, "", d->location, sizeof d->location);
        if (strcmp(key, "mem") == 0) d->mem_total = d->mem_free = (uint64_t)strtod(value, NULL);
        if (strcmp(key, "gbps") == 0) d->mem_gbps = strtof(value, NULL);
        if (strcmp(key, "native") == 0) d->flags &= ~(uint32_t)PERI_DEV_EMULATED;
    }
}

/* Describe device `index`.  The core counts up until PERI_E_NO_DEVICE.  No side effects (R5): this
 * runs in a short-lived process of its own, and again before open.  A plugin whose driver is absent
 * says PERI_E_NO_DRIVER and names the library it could not load. */
static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    const char *s = h->option(NULL_NAME ".devices");
    int32_t status = fault(h, "device", index + 1, e);
    if (status != PERI_OK) return status;
    for (uint32_t i = 0; s != NULL && *s != 0 && i < index; i++) {
        s += strcspn(s, ";");
        if (*s == ';') s++;
    }
    if (s == NULL || *s == 0)
        return peri_plugin_fail(e, PERI_E_NO_DEVICE, "option " NULL_NAME ".devices names none");
    /* HOST_MEM: the core allocates all buffers, and a peri_buf * is a plain address. */
    peri_dev_info d = {.size = sizeof d,
                       .flags = PERI_DEV_EMULATED | PERI_DEV_HOST_MEM | PERI_DEV_BATCH_INVARIANT,
                       .model = "computes nothing"};
    snprintf(d.name, sizeof d.name, NULL_NAME "%u", index);
    snprintf(d.location, sizeof d.location, NULL_NAME ":%u", index);
    describe(&d, s);
    peri_put(out, &d, sizeof d); /* R1: never *out = d: the core's struct may be smaller */
    return PERI_OK;
}

static int32_t open_device(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e) {
    int32_t status = fault(h, "open", index + 1, e);
    if (status != PERI_OK) return status;
    peri_dev *d = h->alloc(sizeof *d, 16, -1); /* the core's heap, where it is counted */
    if (d == NULL) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for a device");
    *d = (peri_dev){.host = h};
    *out = d;
    return PERI_OK;
}

static void close_device(peri_dev *d) {
    d->host->free(d);
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
        return NULL; /* newer than this plugin: unsupported (R2) */
    }
}

/* Is `name` one of the comma-separated words of list, or list "all"? */
static int has_word(const char *list, const char *name) {
    char word[32];
    for (; *list != 0; list += *list == ',') {
        list = take(list, ",", word, sizeof word);
        if (strcmp(word, name) == 0 || strcmp(word, "all") == 0) return 1;
    }
    return 0;
}

/* Asked once per op and range of shapes when a model is loaded.  No is an answer, with a reason. */
static int32_t supports(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                        peri_support *out, peri_error *e) {
    const char *name = op_name(peri_op_at(p, op)->code);
    const char *list = d->host->option(NULL_NAME ".supports");
    peri_support s = {.size = sizeof s, .numerics = "act=f32 acc=f32"};
    int32_t status = fault(d->host, "supports", op + 1, e);
    (void)b; /* zeros fit any shape */
    if (status != PERI_OK && status != PERI_E_UNSUPPORTED) return status;
    s.yes = status == PERI_OK && name != NULL && list != NULL && has_word(list, name);
    if (!s.yes)
        snprintf(s.why, sizeof s.why, "%.40s is not in option " NULL_NAME ".supports",
                 status != PERI_OK ? e->text
                 : name != NULL    ? name
                                   : "an unknown operation");
    peri_put(out, &s, sizeof s);
    return PERI_OK;
}

/* Run one op.  peri_dim gives an operand's extent in this step (it may be the number of tokens),
 * peri_ptr its address.  To use several threads, call host->parallel.  KV_APPEND has no output. */
static int32_t run_op(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                      const peri_step *s, peri_error *e) {
    const peri_op *o = peri_op_at(p, op);
    int32_t status = fault(d->host, "run", ++d->n_run, e);
    if (status != PERI_OK) return status;
    for (uint32_t k = 0; k < o->n_out; k++) {
        const peri_tensor *t = peri_operand(p, o, o->n_in + k);
        if (t == NULL) continue;
        int64_t n0 = peri_dim(t, 0, s->n), n1 = peri_dim(t, 1, s->n), n2 = peri_dim(t, 2, s->n);
        size_t row_bytes = (size_t)peri_dim(t, 3, s->n) * 4; /* outputs are f32 or i32 */
        for (int64_t row = 0; row < n0 * n1 * n2; row++) {
            int64_t at = row / n2 / n1 * t->stride[0] + row / n2 % n1 * t->stride[1];
            memset((char *)peri_ptr(m, t) + at + row % n2 * t->stride[2], 0, row_bytes);
        }
    }
    return PERI_OK;
}

/* ---- the table, the one symbol, the note ---- */

const peri_plugin *perigee_plugin_v0(const peri_host *host, peri_error *e) {
    // clang-format off
    static const peri_plugin table = { /* members not named are NULL: the core's default */
        .size = sizeof table, .abi_major = PERI_ABI_MAJOR, .abi_minor = PERI_ABI_MINOR,
        .name = NULL_NAME, .version = "0.1", .license = "MIT",
        .device = device, .open = open_device, .supports = supports, .run_op = run_op,
        .close = close_device,
    };
    // clang-format on
    (void)host, (void)e;
    return &table;
}

PERI_PLUGIN_NOTE("abi=0.2 name=" NULL_NAME " arch=any needs=");
