/* SPDX-License-Identifier: MIT
 *
 * plugin.c - the CPU backend's shell: one device per memory node of the host, the choice of
 * instruction set, what is supported, and the way from an op of a program to the code that runs it.
 *
 * Read next: check.c (what an op must look like), ref.h (the reference code of every op), kernels.h
 * and dispatch.c (faster code by instruction set).  The option cpu.isa names a level, or
 * `reference`: then ref_*.c runs everything. All memory comes from the host; scratch grows on first
 * use and is kept (cpu_reserve). */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "perigee/plugin.h"
#include "ref.h"

struct peri_dev {
    const peri_host *host;
    const cpu_level *level;      /* NULL: reference */
    int numa;                    /* where scratch is wanted, -1 anywhere */
    uint32_t n_worker;           /* that `scratch` was made for */
    size_t per_worker, n_shared; /* bytes */
    char *scratch, *shared;
    char *kept, *key; /* of cpu_keep; key: the three runs of bytes */
    size_t room_kept, room_key, n_key[CPU_KEYS];
};

/* ---- services for the kernels ---- */

enum { ALIGN = 64 };

uint32_t cpu_workers(const cpu_dev *d) {
    uint32_t n = d->host->workers((cpu_dev *)d);
    return n ? n : 1;
}

static int32_t grow(cpu_dev *d, char **block, size_t bytes, peri_error *e) {
    char *p = d->host->alloc(bytes, ALIGN, d->numa);
    if (!p)
        return peri_plugin_fail(e, PERI_E_NOMEM, "cpu: no memory for %zu bytes of scratch", bytes);
    d->host->free(*block);
    *block = p;
    return PERI_OK;
}

int32_t cpu_reserve(cpu_dev *d, size_t per_worker, size_t shared, peri_error *e) {
    uint32_t n_worker = cpu_workers(d);
    per_worker = (per_worker + ALIGN - 1) / ALIGN * ALIGN;
    if (per_worker < d->per_worker) per_worker = d->per_worker;
    if (per_worker > d->per_worker || n_worker > d->n_worker) {
        int32_t rc = grow(d, &d->scratch, per_worker * n_worker, e);
        if (rc) return rc;
        d->per_worker = per_worker;
        d->n_worker = n_worker;
    }
    if (shared > d->n_shared) {
        int32_t rc = grow(d, &d->shared, shared, e);
        if (rc) return rc;
        d->n_shared = shared;
    }
    return PERI_OK;
}

static int is_key(const cpu_dev *d, const cpu_bytes key[CPU_KEYS]) {
    const char *p = d->key;
    if (!p) return 0;
    for (int i = 0; i < CPU_KEYS; p += d->n_key[i++])
        if (key[i].n != d->n_key[i] || (key[i].n && memcmp(p, key[i].p, key[i].n) != 0)) return 0;
    return 1;
}

void *cpu_keep(cpu_dev *d, const cpu_bytes key[CPU_KEYS], size_t bytes, int *is_there,
               peri_error *e) {
    size_t n = 0;
    if (bytes == 0) bytes = 1; /* NULL is for a lack of memory */
    *is_there = bytes <= d->room_kept && is_key(d, key);
    if (*is_there) return d->kept;
    for (int i = 0; i < CPU_KEYS; i++)
        n += key[i].n;
    memset(d->n_key, 0, sizeof d->n_key); /* that of nothing, whatever fails */
    if (n > d->room_key) {
        d->room_key = 0;
        if (grow(d, &d->key, n, e)) return NULL;
        d->room_key = n;
    }
    if (bytes > d->room_kept) {
        d->room_kept = 0;
        if (grow(d, &d->kept, bytes, e)) return NULL;
        d->room_kept = bytes;
    }
    char *to = d->key;
    for (int i = 0; i < CPU_KEYS; to += key[i++].n) {
        if (key[i].n) memcpy(to, key[i].p, key[i].n);
        d->n_key[i] = key[i].n;
    }
    return d->kept;
}

void *cpu_scratch(const cpu_dev *d, uint32_t worker) {
    return d->scratch ? d->scratch + d->per_worker * worker : NULL;
}

void *cpu_shared(const cpu_dev *d) {
    return d->shared;
}

void cpu_parallel(cpu_dev *d, uint32_t n, void (*fn)(void *arg, uint32_t i, uint32_t worker),
                  void *arg) {
    if (n > 1 && cpu_workers(d) > 1) {
        d->host->parallel(d, n, fn, arg);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        fn(arg, i, 0);
}

/* ---- discovery ---- */

#if defined(__x86_64__)
static const char our_arch[] = "x86-64";
#elif defined(__aarch64__)
static const char our_arch[] = "aarch64";
#else
static const char our_arch[] = "another processor";
#endif

/* Names of all that is available, "a, b, ". */
static void list_levels(char *out, size_t room) {
    *out = 0;
    for (uint32_t i = 0; cpu_level_at(i); i++) {
        size_t n = strlen(out);
        if (cpu_level_at(i)->is_available())
            snprintf(out + n, room - n, "%s, ", cpu_level_at(i)->name);
    }
}

/* The level that cpu.isa asks for; NULL in *out is the reference.  Fails on a name that is unknown
 * or not for this processor.  Asks no level better than the one wanted: to ask may be to use. */
static int32_t choose_level(const peri_host *h, const cpu_level **out, peri_error *e) {
    const char *want = h->option("cpu.isa"), *why = NULL;
    char available[96];
    int is_known = 0, log_level;
    *out = NULL;
    if (want && !strcmp(want, "reference")) return PERI_OK;
    for (uint32_t i = 0; !*out && cpu_level_at(i); i++) {
        const cpu_level *level = cpu_level_at(i);
        int is_wanted = want && want[0] && !strcmp(want, level->name);
        is_known |= is_wanted;
        if (want && want[0] && !is_wanted) continue;
        if (level->is_available())
            *out = level;
        else if (is_wanted && level->why_not)
            why = level->why_not(&log_level);
    }
    if (*out || !want || !want[0]) return PERI_OK;
    list_levels(available, sizeof available);
    if (!is_known && cpu_level_arch(want))
        return peri_plugin_fail(
            e, PERI_E_UNSUPPORTED,
            "option cpu.isa: \"%.32s\" is a level of %s, this is %s; available: "
            "%sreference",
            want, cpu_level_arch(want), our_arch, available);
    return peri_plugin_fail(e, is_known ? PERI_E_UNSUPPORTED : PERI_E_INVALID,
                            "option cpu.isa: \"%.32s\" is %s%s%s%s; available: %sreference", want,
                            is_known ? "not for this processor" : "unknown", why ? " (" : "",
                            why ? why : "", why ? ")" : "", available);
}

/* What the level in use does without, and why. */
static void tell_note(const peri_host *h, const cpu_level *used) {
    int log_level = 1;
    const char *note = used && used->note ? used->note(&log_level) : NULL;
    char line[224];
    if (!note) return;
    snprintf(line, sizeof line, "cpu: %s: %s", used->name, note);
    h->log(log_level, line);
}

/* Nothing is passed over silently: levels above the one in use, and why. */
static void tell_better_levels(const peri_host *h, const cpu_level *used) {
    const char *want = h->option("cpu.isa");
    if (want && want[0]) return;
    for (uint32_t i = 0; cpu_level_at(i) && cpu_level_at(i) != used; i++) {
        int log_level = 1;
        const cpu_level *level = cpu_level_at(i);
        const char *why = level->why_not ? level->why_not(&log_level) : NULL;
        char line[224];
        if (!why) continue;
        snprintf(line, sizeof line, "cpu: %s is not used: %s; %s instead", level->name, why,
                 used ? used->name : "reference");
        h->log(log_level, line);
    }
}

static void read_model_name(char *out, size_t room) {
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(out, room, "processor");
    while (f && fgets(line, sizeof line, f)) {
        const char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value) continue;
        value += strspn(value, ": \t");
        snprintf(out, room, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    if (f) fclose(f);
}

static int32_t device(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e) {
    peri_host_node node = {.size = sizeof node}, second = {.size = sizeof second};
    const cpu_level *level;
    if (h->node(index, &node) != PERI_OK)
        return peri_plugin_fail(e, PERI_E_NO_DEVICE, "the host has no memory node %u", index);
    peri_dev_info d = {.size = sizeof d,
                       .flags = PERI_DEV_HOST_MEM | PERI_DEV_BATCH_INVARIANT,
                       .name = "cpu",
                       .location = "host",
                       .mem_total = node.mem_total,
                       .mem_free = node.mem_free};
    if (index > 0 || h->node(1, &second) == PERI_OK) {
        snprintf(d.name, sizeof d.name, "cpu:%u", index);
        snprintf(d.location, sizeof d.location, "numa:%d", (int)node.numa);
    }
    /* A wrong cpu.isa is no reason to hide the machine: open says what is wrong. */
    if (choose_level(h, &level, &(peri_error){0}) != PERI_OK) level = NULL;
    snprintf(d.isa, sizeof d.isa, "%s", level ? level->name : "reference");
    read_model_name(d.model, sizeof d.model);
    peri_put(out, &d, sizeof d);
    return PERI_OK;
}

/* ---- lifetime ---- */

static int32_t open_device(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e) {
    peri_host_node node = {.size = sizeof node};
    const cpu_level *level;
    *out = NULL;
    if (h->node(index, &node) != PERI_OK)
        return peri_plugin_fail(e, PERI_E_NO_DEVICE, "the host has no memory node %u", index);
    int32_t rc = choose_level(h, &level, e);
    if (rc) return rc;
    peri_dev *d = h->alloc(sizeof *d, ALIGN, node.numa);
    if (!d) return peri_plugin_fail(e, PERI_E_NOMEM, "cpu: no memory for a device handle");
    *d = (peri_dev){.host = h, .level = level, .numa = node.numa};
    tell_better_levels(h, level);
    tell_note(h, level);
    *out = d;
    return PERI_OK;
}

static void close_device(peri_dev *d) {
    if (!d) return;
    d->host->free(d->scratch);
    d->host->free(d->shared);
    d->host->free(d->kept);
    d->host->free(d->key);
    d->host->free(d);
}

/* ---- operations ---- */

ref_op_fn ref_op(uint16_t code) {
    switch (code) {
    case PERI_OP_EMBED:
        return ref_embed;
    case PERI_OP_LINEAR:
        return ref_linear;
    case PERI_OP_NORM:
        return ref_norm;
    case PERI_OP_ROPE:
        return ref_rope;
    case PERI_OP_KV_APPEND:
        return ref_kv_append;
    case PERI_OP_ATTN:
        return ref_attn;
    case PERI_OP_ACT:
        return ref_act_op;
    case PERI_OP_GLU:
        return ref_glu;
    case PERI_OP_ADD:
        return ref_add;
    case PERI_OP_MUL:
        return ref_mul;
    case PERI_OP_SCALE:
        return ref_scale;
    case PERI_OP_ROUTE:
        return ref_route;
    case PERI_OP_LINEAR_EXPERTS:
        return ref_linear_experts;
    case PERI_OP_EXPERT_SUM:
        return ref_expert_sum;
    case PERI_OP_ROWS:
        return ref_rows;
    case PERI_OP_ADD_NORM:
        return ref_add_norm;
    case PERI_OP_LINEAR_QKV:
        return ref_linear_qkv;
    case PERI_OP_GATE_UP_GLU:
        return ref_gate_up_glu;
    case PERI_OP_TOPK:
        return ref_topk;
    }
    return NULL;
}

/* Does the level take the op?  The op has been checked. */
static int level_takes(const peri_dev *d, const peri_program *p, const peri_op *op,
                       char numerics[28]) {
    return d->level && d->level->supports ? d->level->supports(p, op, numerics) : 0;
}

static int32_t supports(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                        peri_support *out, peri_error *e) {
    peri_support s = {.size = sizeof s};
    (void)e;
    s.yes = cpu_check(p, op, b, s.why);
    int takes = s.yes ? level_takes(d, p, peri_op_at(p, op), s.numerics) : 0;
    if (s.yes && takes == 0) snprintf(s.numerics, sizeof s.numerics, "act=f32 acc=f32");
    if (takes == CPU_IN_PARTS) {
        s = (peri_support){.size = sizeof s};
        snprintf(s.why, sizeof s.why, "weights of several numerics: faster as an op for each");
    }
    peri_put(out, &s, sizeof s);
    return PERI_OK;
}

static void resolve(cpu_job *j) {
    j->n_operand = (uint32_t)j->op->n_in + j->op->n_out;
    j->attr = peri_op_attr_get(j->p, j->op);
    for (uint32_t k = 0; k < j->n_operand; k++) {
        const peri_tensor *t = peri_operand(j->p, j->op, k);
        if (!t) continue;
        j->t[k] = t;
        j->ptr[k] = peri_ptr(j->bind, t);
        for (int i = 0; i < 4; i++)
            j->dim[k][i] = peri_dim(t, i, j->step->n);
    }
}

static int32_t run_op(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                      const peri_step *s, peri_error *e) {
    cpu_job j = {.p = p, .op = peri_op_at(p, op), .bind = m, .step = s};
    char numerics[28];
    ref_op_fn fn = ref_op(j.op->code);
    if (!fn || j.op->n_in + j.op->n_out > PERI_CPU_MAX_OPERANDS)
        return peri_plugin_fail(e, PERI_E_UNSUPPORTED, "cpu: operation 0x%04x", j.op->code);
    resolve(&j);
    if (level_takes(d, p, j.op, numerics) == 1) return d->level->run(d, &j, e);
    return fn(d, &j, e);
}

static const peri_plugin plugin = {
    .size = sizeof plugin,
    .abi_major = PERI_ABI_MAJOR,
    .abi_minor = PERI_ABI_MINOR,
    .name = "cpu",
    .version = "0.1.0",
    .license = "MIT",
    .device = device,
    .open = open_device,
    .supports = supports,
    .run_op = run_op,
    .close = close_device,
};

const peri_plugin *perigee_plugin_v0(const peri_host *host, peri_error *e) {
    if (host->abi_major == PERI_ABI_MAJOR && PERI_HAS(host, workers)) return &plugin;
    peri_plugin_fail(e, PERI_E_ABI, "cpu speaks plugin ABI %d.%d, the host %u.%u", PERI_ABI_MAJOR,
                     PERI_ABI_MINOR, host->abi_major, host->abi_minor);
    return NULL;
}

#if defined(__x86_64__)
PERI_PLUGIN_NOTE("abi=0.2 name=cpu arch=x86-64 needs=");
#elif defined(__aarch64__)
PERI_PLUGIN_NOTE("abi=0.2 name=cpu arch=aarch64 needs=");
#else
PERI_PLUGIN_NOTE("abi=0.2 name=cpu arch=any needs=");
#endif
