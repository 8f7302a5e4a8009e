/* SPDX-License-Identifier: MIT
 *
 * fast.h - what the sources of the fast levels share.  An instruction set provides pure functions
 * over rows (cpu_isa, vec_isa, attn_isa, compiled once per set from linear_*.c, quant.c, vec.c and
 * attn_fast.c); the drivers (linear.c, vec_ops.c, attn_ops.c, compiled once) cut an op into chunks,
 * reserve scratch and call them. */
#ifndef PERI_CPU_FAST_H
#define PERI_CPU_FAST_H

#include "check.h"
#include "linear.h"
#include "ref.h"

/* Elementwise and row functions.  x, y f32; y may be x where op.def allows in place. */
typedef struct vec_isa {
    void (*norm)(const peri_norm_attr *a, const float *x, const float *w, const float *b, float *y,
                 int64_t n);
    void (*act)(uint32_t act, float param, const float *x, const float *up, float *y,
                int64_t n); /* up NULL: no factor */
    void (*add)(const float *a, const float *b, float *y, int64_t n);
    void (*mul)(const float *a, const float *b, float *y, int64_t n);
    void (*scale)(const float *x, float s, float *y, int64_t n);
    ref_turn_fn turn;
    void (*to_f16)(const float *x, uint16_t *y, int64_t n);
    void (*to_q8_0)(const float *x, uint8_t *y, int64_t n); /* as ref_encode_row; whole blocks */
} vec_isa;

enum { ATTN_CHUNK = 256, ATTN_SUB = 64, ATTN_ROWS_MAX = 512, ATTN_D_MAX = 1024 };
enum { ATTN_VALUE_LANES = 128, ATTN_KEYS_WIDE = 8192 }; /* attn_fast.c: what is widened at a time */

/* Keys of one sequence in a chunk: those that some row sees, lo <= j < hi, counted in the chunk;
 * and n_head neighbouring key/value heads, for each of which n_row query rows ask. */
typedef struct attn_chunk {
    const uint8_t *k[ATTN_CHUNK], *v[ATTN_CHUNK]; /* the first head's rows, in the pool's type */
    int32_t lo, hi, n_head, n_row;
    uint16_t dtype;
    int32_t dk, dv;
    size_t k_bytes, v_bytes; /* of a row, so from a head's to the next */
    float scale, cap;
} attn_chunk;

/* One query row: a token and head. */
typedef struct attn_row {
    const float *q;      /* as the step has it, then as `round` left it */
    int32_t lo, hi;      /* visible keys of the chunk: lo <= j < hi */
    float slope, origin; /* logit += slope * (j - origin), j counted in the chunk */
} attn_row;

/* Softmax of rows over some keys, not yet divided by l. */
typedef struct attn_part {
    float *m, *l; /* [rows] largest logit times log2(e) (-infinity: no key yet), sum of weights */
    float *o;     /* [rows][dv rounded up to 16] sum of weights times V */
} attn_part;

/* Scratch of a chunk. */
typedef struct attn_space {
    float *s;    /* [rows][ATTN_CHUNK] */
    float *wide; /* attn_wide(dk16, dv16) */
    float *q;    /* [rows][dk16] */
    void *tiles; /* tile_bytes of them; NULL: few rows, not for tiles */
} attn_space;

static inline size_t attn_wide(int32_t dk16, int32_t dv16) {
    size_t k = (size_t)ATTN_SUB * (size_t)dk16, v = (size_t)ATTN_VALUE_LANES * (size_t)dv16;
    size_t most = k > v ? k : v;
    return most > ATTN_KEYS_WIDE ? most : ATTN_KEYS_WIDE;
}

typedef struct attn_isa {
    /* What many rows are laid down in, on 64 bytes; NULL: nothing. */
    size_t (*tile_bytes)(int32_t n_row, int32_t dk, int32_t dv);
    /* Once for row[n_head * n_row], before their chunks: the queries as products with keys of the
     * chunk's type take them, in a->q. */
    void (*round)(const attn_chunk *c, attn_row *row, const attn_space *a);
    /* The chunk's keys alone, row[n_head][n_row], to `part`; or, where total is not NULL, as if
     * merged into that from there: then part is scratch, and rows may see less afterwards. */
    void (*chunk)(const attn_chunk *c, attn_row *row, const attn_part *part, const attn_part *total,
                  const attn_space *a);
    /* Add later keys; m and l of `from` are used up. */
    void (*merge)(const attn_part *to, const attn_part *from, int32_t n_row, int32_t dv);
    /* y[dv] = the result of row r, after its sink (may be NULL). */
    void (*finish)(const attn_part *p, int32_t r, const float *sink, float *y, int32_t dv);
} attn_isa;

#define FAST_QUANTIZE(isa)                                                                         \
    void quantize_row_##isa(const linear_type *t, const float *x, int64_t n, uint8_t *out,         \
                            size_t kb_stride);                                                     \
    void to_q8_0_##isa(const float *x, uint8_t *y, int64_t n);
#define FAST_ISA_FUNCTIONS(isa)                                                                    \
    FAST_QUANTIZE(isa)                                                                             \
    extern const bf16_isa bf16_##isa;                                                              \
    void rows_f32_##isa(const linear_in *in, int64_t row0, int32_t rows, float *acc,               \
                        float *scratch);                                                           \
    extern const vec_isa vec_##isa;                                                                \
    extern const attn_isa attn_##isa;
FAST_ISA_FUNCTIONS(scalar)
FAST_ISA_FUNCTIONS(avx2)
FAST_ISA_FUNCTIONS(avx512)
FAST_ISA_FUNCTIONS(neon)
/* The levels with a dot product instruction are those without it but for the integer products. */
FAST_QUANTIZE(avx2vnni)
FAST_QUANTIZE(avx512vnni)
FAST_QUANTIZE(neondot)
/* With an instruction for products of bf16. */
extern const attn_isa attn_avx512bf16;
extern const attn_isa attn_avx512amx; /* on tiles */
extern const bf16_isa bf16_avx512bf16;
extern const bf16_isa bf16_avx512amx; /* on tiles */

/* linear_token.c, avx512vnni: rows_int for one token, of some types; 0: not of this one. */
int linear_token(const linear_in *in, int64_t row0, int32_t rows, float *acc);

/* linear_token_avx2.c: the same on 256-bit registers; has_dot: of the set whose activations these
 * are. */
int linear_token_avx2(const linear_in *in, int has_dot, int64_t row0, int32_t rows, float *acc);

/* linear_pair.c, avx512vnni: cpu_isa.pair_int. */
int linear_pair(const linear_in *in, int64_t row0, float *acc);

/* linear_amx_few.c. */
extern const tiled_isa tiled_avx512amx;

/* self_test.c: 1 when the integer products of `set` are those of `plain`; else 0, and where not. */
int linear_self_test(const cpu_isa *set, const cpu_isa *plain, char why[96]);
/* The same for products of BF16 weights, and for attention over keys of 16 bits. */
int bf16_self_test(const cpu_isa *set, const cpu_isa *plain, char why[96]);
int attn_self_test(const attn_isa *set, const attn_isa *plain, char why[96]);

/* dispatch.c: the set of a level; NULL where the level is not available. */
const cpu_isa *cpu_isa_of(const cpu_level *level);

/* linear.c: LINEAR, LINEAR_QKV, GATE_UP_GLU, LINEAR_EXPERTS. */
int linear_supports(const peri_program *p, const peri_op *op, char numerics[28]);
int32_t linear_run(cpu_dev *d, const cpu_isa *isa, const cpu_job *j, peri_error *e);

/* vec_ops.c: NORM, ADD_NORM, ACT, GLU, ADD, MUL, SCALE. */
int vec_supports(const peri_program *p, const peri_op *op, char numerics[28]);
int vec_has_act(const peri_program *p, const peri_op *op);
int32_t vec_run(cpu_dev *d, const cpu_isa *isa, const cpu_job *j, peri_error *e);

/* attn_ops.c: ATTN, KV_APPEND. */
int attn_supports(const peri_program *p, const peri_op *op, char numerics[28]);
int32_t attn_run(cpu_dev *d, const cpu_isa *isa, const cpu_job *j, peri_error *e);

#endif
