/* SPDX-License-Identifier: MIT
 *
 * prog.h - one-op programs for testing a plugin: declare operands, fill them, run, read the
 * outputs.
 *
 * The plugin's table is used directly, without the loader, on a host of the test's own (prog_host).
 * Everything a plugin has no business reading is poisoned with NaN bytes: gaps between rows, the
 * arena between operands.  Failures of the test's own making (out of memory, too many operands)
 * abort. */
#ifndef PERI_TEST_PROG_H
#define PERI_TEST_PROG_H

#include "perigee/plugin.h"

enum { PROG_MAX_TOKENS = 64, PROG_MAX_SEQ = 8, PROG_MAX_TABLE = 512, PROG_MAX_TENSOR = 24 };

/* ---- the host ---- */

typedef struct prog_host_state {
    const char *isa;   /* value of cpu.isa, or NULL */
    uint32_t n_node;   /* memory nodes, default 1 */
    uint32_t n_worker; /* 1 or 2 real threads */
    int64_t n_live;    /* blocks allocated and not freed */
    int64_t n_alloc;   /* allocations so far */
    int64_t fail_at;   /* this allocation and all later ones fail; 0: none */
    int log_level;     /* of the last line logged, */
    char log[224];     /* and the line; "": none */
} prog_host_state;
extern prog_host_state prog_host_now;
extern const peri_host prog_host;

/* ---- a program of one op ---- */

typedef struct prog {
    peri_dev *dev;
    int32_t n[PERI_NSYM]; /* actual T, S, R, B; set before operands are declared */
    int32_t hi;           /* upper bound of every symbol in the bucket, default 64 */
    uint16_t code;
    uint32_t n_in, n_out, operand[PROG_MAX_TENSOR];
    unsigned char attr[64];
    uint32_t attr_size;
    peri_tensor tensor[PROG_MAX_TENSOR];
    uint32_t n_tensor;
    void *weight[PROG_MAX_TENSOR], *pool[PROG_MAX_TENSOR]; /* borrowed */
    uint32_t n_weight, n_pool;
    unsigned char *arena;
    uint64_t n_arena; /* bytes in use */
    int32_t tok[PROG_MAX_TOKENS], pos[PROG_MAX_TOKENS], seq[PROG_MAX_TOKENS], slot[PROG_MAX_TOKENS],
        out_row[PROG_MAX_TOKENS], ctx[PROG_MAX_SEQ], table[PROG_MAX_TABLE];
    char numerics[28], why[88]; /* what supports said */
} prog;

prog *prog_new(peri_dev *dev, int32_t n_tok);
void prog_free(prog *p);

/* Operands are taken in the order declared, inputs first.  Dimensions slowest first, negative:
 * PERI_SYM_*. */
typedef struct prog_dims {
    int64_t d[4];
} prog_dims;
#define DIMS(...) ((const prog_dims){{__VA_ARGS__}})

/* An f32 input: data dense, NULL declares an absent operand.  gap: poisoned elements between rows.
 */
uint32_t prog_in(prog *p, prog_dims dims, const float *data, int64_t gap);
uint32_t prog_in_ids(prog *p, prog_dims dims, const int32_t *data);
uint32_t prog_weight(prog *p, uint32_t dtype, prog_dims dims, const void *data);
uint32_t prog_pool(prog *p, uint32_t dtype, prog_dims dims, void *data);
/* An f32 or i32 output (same size); all outputs after all inputs. */
uint32_t prog_out(prog *p, uint32_t dtype, prog_dims dims, int64_t gap);
/* An output that is operand `input` of the op itself. */
void prog_out_in_place(prog *p, uint32_t input);
void prog_attr(prog *p, const void *attr, size_t size);

/* supports(): 1 yes, 0 no (p->why). */
int prog_supports(prog *p);
/* supports() and run_op(); a no is PERI_E_UNSUPPORTED. */
peri_status prog_run(prog *p, peri_error *e);
/* Output k, dense. */
void prog_get(const prog *p, uint32_t k, void *out);
int64_t prog_size(const prog *p, uint32_t operand); /* elements at the actual extents */

/* ---- numbers ---- */

/* Uniform in [-1, 1), from a counter: a pure function of (seed, i). */
float prog_random(uint64_t seed, uint64_t i);
void prog_fill(float *x, int64_t n, uint64_t seed, float scale);
/* n_block valid blocks of a type: random bytes with scales of usual size. */
void prog_blocks(uint32_t dtype, unsigned char *out, int64_t n_block, uint64_t seed);

/* Squared error over squared magnitude, of all and of the worst row of n elements. */
typedef struct prog_error {
    double all, worst_row;
} prog_error;
prog_error prog_nmse(const float *got, const double *want, int64_t n_row, int64_t n);
/* Largest distance in units of the last place of f32: of want[i], or of at_least[i] (may be NULL)
 * where that is larger. */
double prog_ulps(const float *got, const double *want, const double *at_least, int64_t n);

#endif
