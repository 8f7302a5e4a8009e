/* SPDX-License-Identifier: MIT
 *
 * plugin.h - the backend plugin ABI, version 0.3 (major 0: not frozen yet).
 *
 * With types.h, dtype.def and op.def this is all a backend has to include; it links nothing of
 * Perigee's.  op_check.h helps it to answer `supports`.
 * A plugin is one shared object exporting one function, perigee_plugin_v0, and carrying one ELF
 * note (PERI_PLUGIN_NOTE) that is read before the file is ever loaded.
 *
 * Rules
 * R1 Growth.  Every growable struct starts with `size`.  Passing one in: the caller sets size, the
 * callee reads a field only if PERI_HAS.  Filling one out: the caller sets size to its room, the
 * callee writes through peri_put.  Zero always means "default" or "absent".  Sizes are never
 * compared for equality.  Growable structs never travel in arrays, except inside a program, which
 * states its element sizes. R2 Append only: no reordering, no reuse of numbers.  Flag bits 0-15 may
 * be ignored when unknown; bits 16-31 must be understood: unknown means PERI_E_UNSUPPORTED.  An
 * unknown op code is unsupported.  Neither side ever tests minors for equality. R3 Calls return 0
 * or a negative PERI_E_*, and on failure fill *e, which the caller owns (never NULL here). R4 A
 * NULL function pointer is the core's default.  Required: device, open, supports, run_op, and the
 * buf_* of tier 1 but buf_import for devices without PERI_DEV_HOST_MEM. R5 The core serialises
 * calls on one device; different devices may run in parallel.  device() has no side effects: no
 * contexts, threads or memory left behind; threads that a driver library starts when it is first
 * asked (the note's `needs` names it) are that library's.  From threads of its own a plugin may
 * call host->log, alloc and free only. R6 Whoever allocates frees.  A pointer argument is valid for
 * the call unless said otherwise; `host` is valid for ever. R7 A plugin never writes to stdout or
 * stderr; it has host->log. */
#ifndef PERIGEE_PLUGIN_H
#define PERIGEE_PLUGIN_H

#include <stdarg.h>
#include <stdio.h>

#include "perigee/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PERI_ABI_MAJOR 0
#define PERI_ABI_MINOR 3

typedef struct peri_dev peri_dev; /* the plugin's, opaque to the core */
typedef struct peri_buf
    peri_buf; /* device memory; with PERI_DEV_HOST_MEM a peri_buf * is the address itself, else the
                 plugin's handle of what buf_alloc or buf_import made */
typedef struct peri_compiled peri_compiled; /* ops that run together, the plugin's */

/* Is `field` inside the size that *p declares? */
#define PERI_HAS(p, field)                                                                         \
    ((p)->size >= (uint32_t)((const char *)&(p)->field - (const char *)(p)) + sizeof(p)->field)

/* Fill the caller's growable struct `out` (out->size = its room) from mine; the size field stays
 * the caller's. */
static inline void peri_put(void *out, const void *mine, uint32_t mine_size) {
    uint32_t n = *(uint32_t *)out;
    if (n > mine_size) n = mine_size;
    for (uint32_t i = 4; i < n; i++)
        ((char *)out)[i] = ((const char *)mine)[i];
}

/* Fill an error and return its code. */
static inline peri_status peri_plugin_fail(peri_error *e, peri_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static inline peri_status peri_plugin_fail(peri_error *e, peri_status code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    e->code = code;
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    return code;
}

/* ---- services of the core -----------------------------------------------------------------------
 */

/* One memory node of this machine as the process may use it: affinity, cgroup quota and core kinds
 * are taken into account. */
typedef struct peri_host_node {
    uint32_t size;
    int32_t numa;      /* operating system's node number, -1 when the machine has only one */
    uint32_t n_core;   /* cores of the fastest kind that the process may use here */
    uint32_t n_worker; /* threads host->parallel uses here */
    uint64_t mem_total, mem_free; /* bytes */
} peri_host_node;

typedef struct peri_host {
    uint32_t size;
    uint16_t abi_major, abi_minor; /* of the core */
    /* align: power of two.  numa_node: -1 = anywhere.  NULL when out of memory. */
    void *(*alloc)(size_t bytes, size_t align, int numa_node);
    void (*free)(void *p);                    /* accepts NULL */
    void (*log)(int level, const char *utf8); /* 0 debug 1 info 2 warning 3 error; one line */
    /* Value of an option ("cpu.isa"), or NULL.  Valid for ever.  Command line, then environment
     * (PERIGEE_CPU_ISA), then default.  "cache.dir" always has a value where there is a home: a
     * folder, perhaps not made yet, for what can be made again. */
    const char *(*option)(const char *key);
    /* Memory nodes 0 .. until PERI_E_NO_DEVICE. */
    int32_t (*node)(uint32_t index, peri_host_node *out);
    /* Run fn(arg, i, worker) for every i in 0 .. n-1 on the pinned pool of the device's node and
     * wait.  0 <= worker < workers(d); one worker runs one call at a time.  Which worker runs which
     * i changes from run to run.  Only from run_op. */
    void (*parallel)(peri_dev *d, uint32_t n, void (*fn)(void *arg, uint32_t i, uint32_t worker),
                     void *arg);
    uint32_t (*workers)(peri_dev *d);
} peri_host;

/* ---- devices ------------------------------------------------------------------------------------
 */
enum {
    PERI_DEV_HOST_MEM = 1u << 0,        /* buffers are plain host memory, allocated by the core */
    PERI_DEV_BATCH_INVARIANT = 1u << 4, /* see op.def, Numerics: for every op it claims */
    PERI_DEV_EMULATED = 1u << 5 /* a processor playing an accelerator, or a fake: never chosen
                                   before a native device */
};

typedef struct peri_dev_info {
    uint32_t size, flags;
    char name[32];     /* "cpu", "cuda:0" */
    char model[96];    /* "Intel Xeon Platinum 8481C" */
    char isa[32];      /* "avx512" */
    char location[32]; /* "host", "numa:1", "pci:0000:3b:00.0": the join key across plugins and with
                          the topology */
    uint64_t mem_total, mem_free; /* bytes; 0 = unknown */
    float mem_gbps;               /* read bandwidth in 10^9 bytes/s; 0 = unknown */
    uint32_t kv_block_tokens;     /* preference, power of two; 0 = the core's 64 */
} peri_dev_info;

/* ---- programs: pointer-free, contiguous, hashable -----------------------------------------------
 */
enum { PERI_SYM_T = 1, PERI_SYM_S = 2, PERI_SYM_R = 3, PERI_SYM_B = 4, PERI_NSYM = 8 };
#define PERI_NONE 0xffffffffu /* an absent optional operand */

/* A range of shapes: the bounds of T tokens, S sequences, R wanted rows, B blocks per sequence
 * (index PERI_SYM_*). */
typedef struct peri_bucket {
    uint32_t size, flags;
    int32_t lo[PERI_NSYM], hi[PERI_NSYM];
} peri_bucket;

enum { PERI_T_ACT = 0, PERI_T_WEIGHT = 1, PERI_T_POOL = 2 };
typedef struct peri_tensor {
    uint16_t dtype, kind; /* number in dtype.def; PERI_T_* */
    uint32_t ref;         /* WEIGHT: index into bind.weights; POOL: into bind.pools */
    int64_t dim[4];       /* slowest first, leading 1s; negative: symbol -dim */
    int64_t stride[4];    /* bytes; 0 for block types, whose rows follow one another */
    uint64_t off;         /* ACT: byte offset in the arena; POOL: in the pool */
} peri_tensor;

typedef struct peri_op {
    uint16_t code, layer; /* PERI_OP_*; layer for reports, 0xffff outside layers */
    uint8_t n_in, n_out;
    uint16_t attr_size;
    uint32_t operand; /* first entry in the operand list: inputs, then outputs */
    uint32_t attr;    /* byte offset of the attribute struct in the attribute area */
} peri_op;

/* Header of one contiguous block of `bytes` bytes; offsets count from its start.  hash covers
 * everything after itself. */
typedef struct peri_program {
    uint32_t size, bytes;
    uint64_t hash;
    uint32_t n_tensors, tensor_size, tensors, n_ops, op_size, ops, operands, attrs;
    uint64_t arena_bytes; /* at the bucket's upper bounds */
} peri_program;

static inline const peri_tensor *peri_tensor_at(const peri_program *p, uint32_t i) {
    return (const peri_tensor *)((const char *)p + p->tensors + (size_t)i * p->tensor_size);
}
static inline const peri_op *peri_op_at(const peri_program *p, uint32_t i) {
    return (const peri_op *)((const char *)p + p->ops + (size_t)i * p->op_size);
}
/* Operand k of an op, inputs then outputs: a tensor index, or PERI_NONE. */
static inline uint32_t peri_arg(const peri_program *p, const peri_op *o, uint32_t k) {
    return ((const uint32_t *)((const char *)p + p->operands))[o->operand + k];
}
static inline const peri_tensor *peri_operand(const peri_program *p, const peri_op *o, uint32_t k) {
    uint32_t i = peri_arg(p, o, k);
    return i == PERI_NONE ? NULL : peri_tensor_at(p, i);
}
static inline const void *peri_attr(const peri_program *p, const peri_op *o) {
    return (const char *)p + p->attrs + o->attr;
}
/* Actual extent of dimension i, n = step->n. */
static inline int64_t peri_dim(const peri_tensor *t, int i, const int32_t *n) {
    return t->dim[i] < 0 ? n[-t->dim[i]] : t->dim[i];
}

/* Op codes, from op.def. */
enum {
#define PERI_OP(NAME, code, level, n_in, n_out, attr) PERI_OP_##NAME = (code),
#include "perigee/op.def"
#undef PERI_OP
};

/* Attributes; each starts with its size (R1). */
enum { PERI_NORM_RMS = 0, PERI_NORM_LAYER = 1, PERI_NORM_L2 = 2 };
enum { PERI_ROPE_NORM = 0, PERI_ROPE_NEOX = 1 };
enum {
    PERI_ACT_SILU = 0,
    PERI_ACT_GELU,
    PERI_ACT_GELU_ERF,
    PERI_ACT_GELU_QUICK,
    PERI_ACT_RELU,
    PERI_ACT_RELU2,
    PERI_ACT_SIGMOID,
    PERI_ACT_TANH,
    PERI_ACT_SOFTPLUS,
    PERI_ACT_SOFTCAP
};
enum { PERI_ROUTE_SOFTMAX = 0, PERI_ROUTE_SIGMOID = 1, PERI_ROUTE_SOFTMAX_CHOSEN = 2 };
enum { PERI_TOPK_MAX = 256 };
enum { PERI_LINEAR_SCALE_LAST = 1u << 16 };
enum { PERI_ATTN_NOT_CAUSAL = 1u << 16 };

typedef struct peri_embed_attr {
    uint32_t size, source;
    float scale;
} peri_embed_attr;
typedef struct peri_linear_attr {
    uint32_t size, flags;
} peri_linear_attr;
typedef struct peri_norm_attr {
    uint32_t size, kind;
    float eps;
} peri_norm_attr;
typedef struct peri_act_attr {
    uint32_t size, act;
    float param;
} peri_act_attr;
typedef struct peri_scale_attr {
    uint32_t size;
    float scale;
} peri_scale_attr;
typedef struct peri_rope_attr {
    uint32_t size, pairs, first, n_rot;
    float base, freq_scale, ext, ramp_lo, ramp_hi, magnitude;
} peri_rope_attr;
typedef struct peri_attn_attr {
    uint32_t size, flags;
    float scale, cap, alibi_max;
    int32_t window, chunk; /* tokens; 0 = none */
} peri_attn_attr;
typedef struct peri_route_attr {
    uint32_t size, kind, renorm, n_group, n_group_used;
    float weight_scale;
} peri_route_attr;

/* ---- one step: header and int32 arrays in one block ---------------------------------------------
 */
typedef struct peri_step {
    uint32_t size, bytes;
    uint64_t number;
    int32_t n[PERI_NSYM];         /* actual T, S, R, B */
    uint32_t tok, pos, seq, slot, /* [T] */
        ctx, table,               /* [S], [S][B] */
        out_row;                  /* [R] rows of x wanted, rising */
} peri_step;                      /* byte offsets of the arrays from the struct's own address */

static inline const int32_t *peri_step_array(const peri_step *s, uint32_t off) {
    return (const int32_t *)((const char *)s + off);
}

/* ---- what an op runs on: addresses fixed for a plan's life --------------------------------------
 */
typedef struct peri_bind {
    uint32_t size, n_weights, n_pools;
    peri_buf *arena, *const *weights, *const *pools;
} peri_bind;

/* Address of a tensor on a PERI_DEV_HOST_MEM device.  On others `off` counts from the start of the
 * buffer that the bind names. */
static inline void *peri_ptr(const peri_bind *m, const peri_tensor *t) {
    char *base = t->kind == PERI_T_ACT      ? (char *)m->arena
                 : t->kind == PERI_T_WEIGHT ? (char *)m->weights[t->ref]
                                            : (char *)m->pools[t->ref];
    return base + t->off;
}

/* ---- the plugin ---------------------------------------------------------------------------------
 */
typedef struct peri_support {
    uint32_t size;
    int32_t yes;
    char numerics[28]; /* "act=f32 acc=f32", "act=q8/32 acc=i32": the conformance reference emulates
                          it */
    char why[88];      /* shown to the user when yes is 0 */
} peri_support;

enum { PERI_BUF_ARENA = 1, PERI_BUF_WEIGHT = 2, PERI_BUF_POOL = 4 };

typedef struct peri_plugin {
    uint32_t size;
    uint16_t abi_major, abi_minor;
    const char *name, *version, *license;
    /* Tier 0, since 0.1: discovery, lifetime, operations one at a time.  Enough for a working
     * backend. */

    /* Describe device `index`; PERI_E_NO_DEVICE past the last, PERI_E_NO_DRIVER with a sentence
     * when the driver is missing. */
    int32_t (*device)(const peri_host *h, uint32_t index, peri_dev_info *out, peri_error *e);
    int32_t (*open)(const peri_host *h, uint32_t index, peri_dev **out, peri_error *e);
    /* Can op `op` of the program run for every shape in the bucket?  No is an answer, not an error:
     * yes = 0 and a reason. */
    int32_t (*supports)(peri_dev *d, const peri_program *p, uint32_t op, const peri_bucket *b,
                        peri_support *out, peri_error *e);
    /* Run one op the device said yes to.  Steady state allocates nothing.  A device with memory of
     * its own may return when the op is queued, if ops and transfers take effect in the order of
     * the calls; the step is read during the call.  A failure may then be told by a later call. */
    int32_t (*run_op)(peri_dev *d, const peri_program *p, uint32_t op, const peri_bind *m,
                      const peri_step *s, peri_error *e);
    void (*close)(peri_dev *d);
    /* Tier 1, since 0.2: memory of its own.  Offsets and sizes in bytes, any value that lies within
     * the buffer. */

    /* usage: PERI_BUF_*, what it will hold.  NOMEM also for a size that no buffer can have. */
    int32_t (*buf_alloc)(peri_dev *d, uint64_t bytes, uint32_t usage, peri_buf **out,
                         peri_error *e);
    /* Use host memory in place as a read-only buffer: it stays where and as it is until buf_free.
     * UNSUPPORTED where that is not possible or no gain; the core then allocates and writes. */
    int32_t (*buf_import)(peri_dev *d, const void *host, uint64_t bytes, peri_buf **out,
                          peri_error *e);
    void (*buf_free)(peri_dev *d, peri_buf *b);
    /* src may be reused when it returns. */
    int32_t (*buf_write)(peri_dev *d, peri_buf *b, uint64_t off, const void *src, uint64_t bytes,
                         peri_error *e);
    /* Waits for everything before it; dst is complete when it returns. */
    int32_t (*buf_read)(peri_dev *d, peri_buf *b, uint64_t off, void *dst, uint64_t bytes,
                        peri_error *e);
    /* dst and src may be the same buffer; the ranges do not overlap. */
    int32_t (*buf_copy)(peri_dev *d, peri_buf *dst, uint64_t dst_off, peri_buf *src,
                        uint64_t src_off, uint64_t bytes, peri_error *e);
    /* Tier 2, since 0.3: ops that run together, again and again.  All three or none. */

    /* Prepare ops first .. first + n - 1 of the program, each of which the device said yes to, for
     * the shapes of the bucket.  The program stays as and where it is until free_compiled.
     * UNSUPPORTED: the core runs them one at a time. */
    int32_t (*compile)(peri_dev *d, const peri_program *p, uint32_t first, uint32_t n,
                       const peri_bucket *b, peri_compiled **out, peri_error *e);
    /* What run_op does for each of them in their order, to the same bits.  The bind may be another
     * one than last time. */
    int32_t (*run_compiled)(peri_dev *d, peri_compiled *c, const peri_bind *m, const peri_step *s,
                            peri_error *e);
    void (*free_compiled)(peri_dev *d, peri_compiled *c);
    /* Later tiers (packed weights, asynchrony, collectives) are appended here. */
} peri_plugin;

/* The one exported symbol.  Returns a table that lives as long as the process, or NULL with *e
 * filled. */
PERI_API const peri_plugin *perigee_plugin_v0(const peri_host *host, peri_error *e);
#define PERI_PLUGIN_SYMBOL "perigee_plugin_v0"

/* ELF note, read from the file without loading it, so that no constructor runs before the core
 * knows what it is: PERI_PLUGIN_NOTE("abi=0.2 name=null arch=any needs="); Space-separated
 * key=value: abi (required), name (required), arch (x86-64, aarch64, any), needs (libraries the
 * driver comes in, comma-separated, for messages), pci (vendor ids it drives, comma-separated hex).
 */
#define PERI_NOTE_TYPE 0x50524731u
#define PERI_PLUGIN_NOTE(text)                                                                     \
    __attribute__((section(".note.perigee"), used, aligned(4))) static const struct {              \
        uint32_t namesz, descsz, type;                                                             \
        char name[8], desc[(sizeof(text) + 3) & ~3u];                                              \
    } peri_note_ = {8, (sizeof(text) + 3) & ~3u, PERI_NOTE_TYPE, "Perigee", text}

#ifdef __cplusplus
}
#endif
#endif
