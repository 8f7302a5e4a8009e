/* SPDX-License-Identifier: MIT
 *
 * kit.h - the conformance kit: what the files of the program perigee-check share.
 *
 * The program loads one plugin and runs one stage of checks on it; check.c starts it, once per
 * stage, so that a crash or a hang is a finding and not the end.  Read in this order: kit_ref.c
 * (what every op of op.def means, in f64), kit_shapes.c (on which shapes it is asked), kit_case.c
 * (operands, and memory that notices wrong reads and writes), kit_gate.c (how near is near enough),
 * then the stages.
 *
 * Files named kit_* know nothing of the process; the report is in kit_report.c. */
#ifndef PERI_CHECK_KIT_H
#define PERI_CHECK_KIT_H

#include <stdbool.h>

#include "graph/graph.h"
#include "plugin/loader.h"
#include "run/memory.h"

enum {
    KIT_OPERANDS = 16,
    KIT_TOKENS = 208, /* most tokens of a case */
    KIT_SEQS = 3,     /* sequences of a step */
    KIT_BLOCKS = 80,  /* blocks of a sequence */
    KIT_FD = 3,       /* where the report goes */
    KIT_SLACK = 2,    /* most padding rows behind the rows of a step */
    KIT_ALIGN = 8,    /* of weights, and no better */
    KIT_WORKERS = 3,  /* most threads of kit_host */
    KIT_SMALL = 1 << 17,
};

/* ---- kit_ref.c: the formulas ------------------------------------------------------------------
 */

typedef struct kit_step {
    int32_t n[PERI_NSYM];
    int32_t tok[KIT_TOKENS], pos[KIT_TOKENS], seq[KIT_TOKENS], slot[KIT_TOKENS], ctx[KIT_SEQS],
        table[KIT_SEQS * KIT_BLOCKS], out_row[KIT_TOKENS];
} kit_step;

/* What peri_support.numerics declares, as far as the reference copies it. */
typedef struct kit_numerics {
    int act;         /* 32, 64, 16: f32, f64, f16; -16: bf16; 8: int8; 14: int14 */
    int act_span;    /* elements per scale of an integer activation */
    bool is_f16_sum; /* sums in f16 per 32 elements: too rough to be copied */
} kit_numerics;

/* One op on f64 values, extents as they are in this step.  An absent operand is NULL. */
typedef struct kit_op {
    uint16_t code;
    uint32_t n_in, n_out;
    const void *attr;
    int64_t dim[KIT_OPERANDS][4];
    uint16_t dtype[KIT_OPERANDS];
    double *v[KIT_OPERANDS]; /* dense, slowest first; pools whole */
    const kit_step *step;
    kit_numerics num;
    double *margin; /* ROUTE, or NULL: [T], see route_row */
} kit_op;

/* Fill the outputs, or the pools of KV_APPEND.  False for a code the kit has no formula for. */
bool kit_ref_run(const kit_op *o);
bool kit_ref_attention(const kit_op *o);
int64_t kit_ref_size(const kit_op *o, uint32_t k);

/* ---- kit_blocks.c: weight types ------------------------------------------------------------- */

bool kit_can_decode(uint32_t dtype);
/* n elements, whole blocks. */
void kit_decode(uint32_t dtype, const unsigned char *data, int64_t n, double *out);
/* Valid blocks of random bits whose scales are of usual size. */
void kit_random_blocks(uint32_t dtype, unsigned char *out, int64_t n_block, uint64_t seed);
/* kit_grids.c: types with books; kit_codes.c: those whose bits are codes; scales of a random block.
 */
bool kit_is_grid(uint32_t dtype);
double kit_grid_value(uint32_t dtype, const unsigned char *block, int i);
bool kit_is_code(uint32_t dtype);
double kit_code_value(uint32_t dtype, const unsigned char *block, int i);
void kit_code_scale(uint32_t dtype, unsigned char *block, uint64_t key);
double kit_f16(const unsigned char *p);
/* n elements of v, whole blocks of a type that keys and values are stored in, as op.def KV_APPEND
 * says; v becomes what they decode to.  A NaN makes all bits of its block ones. */
void kit_encode(uint32_t dtype, double *v, int64_t n, unsigned char *out);
double kit_round_f16(double x);
double kit_round_bf16(double x);
/* x rounded to a plain type, and its bits. */
uint32_t kit_bits_of(uint32_t dtype, double x);
/* Uniform in [-1, 1): a pure function of (seed, i). */
float kit_random(uint64_t seed, uint64_t i);
uint32_t kit_pick(uint64_t seed, uint64_t i, uint32_t n); /* 0 .. n - 1 */

/* ---- kit_shapes.c -----------------------------------------------------------------------------
 */

typedef struct kit_shape {
    uint16_t code;
    const char *operands; /* see kit_shapes.c */
    const char *extents;  /* "n96 m17": letters of the pattern */
    const void *attr;
    uint32_t attr_size;
    int32_t n_tok, n_block_tok;
    bool is_in_place;
} kit_shape;
const kit_shape *kit_shape_at(size_t i); /* NULL past the last */

/* ---- kit_host.c: services that watch ----------------------------------------------------------
 */

typedef struct kit_host_state {
    const char *const *setting; /* [n_setting] "key=value" */
    int n_setting;
    uint32_t n_worker; /* threads that run at once: 1 or KIT_WORKERS */
    uint64_t shuffle;  /* order in which the items of a job are handed out */
    int64_t n_live, n_alloc;
    bool is_bench;     /* nothing watches: as many threads as processors, all at full speed */
    int64_t fail_at;   /* this allocation and all later ones fail; 0: none */
    int64_t n_overrun; /* blocks freed whose guard bytes were written */
} kit_host_state;
extern kit_host_state kit_host_now;
bool kit_host_init(bool is_bench, peri_error *err);
extern const peri_host kit_host;

/* ---- kit_case.c: an op with operands ----------------------------------------------------------
 */

typedef struct kit_operand {
    char kind; /* a i v w p o n, or - when absent; see kit_shapes.c */
    uint16_t dtype;
    int64_t dim[4];      /* as in peri_tensor */
    int64_t gap;         /* poisoned elements behind each row: changes with the layout */
    double *v;           /* its values: given, or of the reference */
    unsigned char *bits; /* the same as it lies in memory, dense; kinds a i v w p */
    size_t n_bits;
    bool is_borrowed; /* v and bits are the whole case's */
    size_t off;       /* activations: in the arena */
    int64_t stride[4];
} kit_operand;

typedef struct kit_case {
    const kit_shape *shape;
    uint16_t dtype;
    char name[160];
    kit_operand x[KIT_OPERANDS];
    uint32_t n_in, n_out;
    kit_step step;
    uint64_t layout;
    int32_t slack; /* padding rows: 0 with every second layout, so that a bucket is full */
    kit_numerics num;
} kit_case;

typedef struct kit_want {  /* which part and which accidents of a case */
    int32_t first, n_tok;  /* tokens; n_tok 0: all */
    uint64_t layout;       /* permutation of KV blocks and offsets in the arena */
    bool is_absent;        /* without the optional operands */
    const kit_case *whole; /* the same case, which lives longer: what is equal is not made again */
} kit_want;

/* Build a case; false when out of memory.  Values do not depend on first, n_tok and layout. */
bool kit_case_init(kit_case *c, const kit_shape *s, uint32_t dtype, const kit_want *w);
void kit_case_fini(kit_case *c);
double kit_case_macs(const kit_case *c); /* multiplications of products and of attention */
bool kit_case_reference(kit_case *c);    /* fills v of outputs (and of pools written) */

typedef enum kit_outcome { KIT_RAN, KIT_DECLINED, KIT_BROKEN } kit_outcome;

typedef struct kit_plugin {
    peri_plugin api;
    peri_dev_info info;
    peri_dev *dev;
    uint32_t index;
    const char *only_op;   /* NULL: all */
    const char *only_type; /* "Q4_K"; NULL: all */
    double seconds;        /* for measuring */
    bool is_small;         /* only cases of at most KIT_SMALL multiplications */
    bool has_driver;       /* its note names libraries of a driver */
} kit_plugin;

typedef struct kit_result {
    kit_outcome outcome;
    bool is_refused; /* run_op failed though supports had said yes */
    char numerics[28], why[88];
    char text[256];                   /* what is wrong, BROKEN */
    unsigned char *out[KIT_OPERANDS]; /* dense bits of operand k: outputs, pools */
    size_t n_out[KIT_OPERANDS];
} kit_result;

/* Ask, run, look around.  The result is freed with kit_result_fini. */
void kit_case_run(kit_plugin *p, kit_case *c, kit_result *r);
void kit_result_fini(kit_result *r);
/* Ask only, with every symbol up to hi. */
int32_t kit_case_ask(kit_plugin *p, const kit_case *c, int32_t hi, peri_support *out,
                     peri_error *e);
bool kit_op_is_wanted(const kit_plugin *p, uint16_t code);
/* The operation and, for shapes with weights or a cache, the type.  Others have the type F32. */
bool kit_is_wanted(const kit_plugin *p, const kit_shape *s, uint32_t dtype);
/* The weight or cache types a shape is tried with: the i-th, or -1. */
int kit_dtype_at(const kit_shape *s, size_t i);

/* ---- kit_buffer.c: memory the device can use ---------------------------------------------------
 */

/* Host memory as the device knows it: itself, or a copy in memory of the device's own.  What the
 * plugin allocates for that is no work of an operation and not counted. */
typedef struct kit_buffer {
    peri_memory m;
    void *host;
    size_t n;
} kit_buffer;
/* usage PERI_BUF_WEIGHT: read only, and used in place where the device can.  False with *e. */
bool kit_buffer_init(kit_plugin *p, kit_buffer *b, void *host, size_t n, uint32_t usage,
                     peri_error *e);
bool kit_buffer_send(kit_plugin *p, const kit_buffer *b, peri_error *e);  /* host to device */
bool kit_buffer_fetch(kit_plugin *p, const kit_buffer *b, peri_error *e); /* and back */
void kit_buffer_fini(kit_plugin *p, kit_buffer *b);
/* Reads, writes and copies at odd places, of a device with memory of its own. */
void kit_check_buffers(kit_plugin *p);

/* ---- kit_gate.c -------------------------------------------------------------------------------
 */

/* False: not a class that is supported. */
bool kit_numerics_parse(const char *text, kit_numerics *out);
/* Compare operand k of the result with the reference; false after a finding was reported. */
bool kit_gate_check(const kit_case *c, const kit_result *r, uint32_t k);

/* ---- kit_report.c: lines to check.c -----------------------------------------------------------
 */

/* What runs next, so that a crash can be placed; c may be NULL. */
void kit_place(const char *what, const kit_case *c);
void kit_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void kit_count(void); /* one more check was made */
/* A finding about a case, or about the plugin when c is NULL. */
void kit_find(const kit_case *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same with the place in operand k and both values. */
typedef struct kit_spot {
    uint32_t operand;
    int64_t row, element;
    double found, expected;
} kit_spot;
void kit_find_at(const kit_case *c, const kit_spot *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
const char *kit_type_name(const kit_case *c); /* of its weights or cache; "F32" without any */
bool kit_is_full(void);                       /* enough findings of this stage */

/* ---- the stages ---------------------------------------------------------------------------------
 */

void kit_stage_describe(kit_plugin *p);
void kit_stage_supports(kit_plugin *p);
void kit_stage_ops(kit_plugin *p);
void kit_stage_invariance(kit_plugin *p);
void kit_stage_lifecycle(kit_plugin *p);
void kit_stage_model(kit_plugin *p);
void kit_stage_bench(kit_plugin *p); /* kit_bench.c */
/* Open and close the device; false after a finding. */
bool kit_open(kit_plugin *p);
void kit_close(kit_plugin *p);
/* Nothing of host->alloc is left, or written past its end; false after a finding. */
bool kit_is_clean(const char *when);
/* Bytes of the C library's heap that 32 runs of it keep; 0 when within what is allowed. */
size_t kit_heap_growth(kit_plugin *p, void (*run)(void *user), void *user);
/* Call fn for every case of the wanted ops whose type the kit can decode, until enough was found;
 * want_other: once more with another layout, without optional operands and without padding rows. */
void kit_each_case(kit_plugin *p, bool want_other, bool (*fn)(kit_plugin *p, kit_case *c));

#endif
