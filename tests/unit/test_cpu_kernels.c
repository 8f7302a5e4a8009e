/* SPDX-License-Identifier: MIT
 *
 * test_cpu_kernels.c - the fast levels of the CPU plugin against each other, bit for bit, and
 * against their declared numerics.
 *
 * test_cpu_linear.c, test_cpu_ops.c and test_cpu_attn.c run whole ops on every level; here are the
 * row functions themselves (every weight type, awkward shapes, up to 128 tokens, weights that end
 * at a page border) and ops large enough to be cut into chunks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fast.h"
#include "harness.h"
#include "op_case.h"
#include "prog.h"

static const uint32_t types[] = {
    PERI_CPU_F32,     PERI_CPU_F16,    PERI_CPU_BF16,  PERI_CPU_Q4_0,    PERI_CPU_Q4_1,
    PERI_CPU_Q5_0,    PERI_CPU_Q5_1,   PERI_CPU_Q8_0,  PERI_CPU_Q2_K,    PERI_CPU_Q3_K,
    PERI_CPU_Q4_K,    PERI_CPU_Q5_K,   PERI_CPU_Q6_K,  PERI_CPU_IQ1_S,   PERI_CPU_IQ1_M,
    PERI_CPU_IQ2_XXS, PERI_CPU_IQ2_XS, PERI_CPU_IQ2_S, PERI_CPU_IQ3_XXS, PERI_CPU_IQ3_S,
    PERI_CPU_IQ4_NL,  PERI_CPU_IQ4_XS, PERI_CPU_TQ1_0, PERI_CPU_TQ2_0,   PERI_CPU_MXFP4,
    PERI_CPU_NVFP4,   PERI_CPU_Q1_0,   PERI_CPU_Q2_0};
enum { N_TYPE = sizeof types / sizeof types[0], TOK_MAX = 128, ISA_MAX = 8 };

/* The instruction sets this processor has; scalar first. */
static int isas(const cpu_isa *out[ISA_MAX]) {
    int n = 0;
    uint32_t i = 0;
    while (cpu_level_at(i))
        i++;
    while (i-- > 0)
        if (cpu_isa_of(cpu_level_at(i))) out[n++] = cpu_isa_of(cpu_level_at(i));
    assert_true(out[0] == &cpu_isa_scalar);
    return n;
}

static void *must(void *p) {
    if (!p) abort();
    return p;
}
static size_t pages(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

/* One product with its own weights, which end where the next page may not be touched. */
typedef struct product {
    const linear_type *type;
    int64_t m, n;
    int32_t n_tok;
    size_t row_bytes, mapped;
    uint8_t *map, *w;
    float *x;
} product;

static product new_product(uint32_t dtype, int64_t m, int64_t n, int32_t n_tok) {
    product p = {.type = linear_type_of(dtype), .m = m, .n = n, .n_tok = n_tok};
    p.row_bytes = (size_t)(n / p.type->block * p.type->block_bytes);
    size_t bytes = p.row_bytes * (size_t)m;
    p.mapped = pages(bytes);
    p.map =
        mmap(NULL, p.mapped + pages(1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p.map, MAP_FAILED);
    assert_int_equal(mprotect(p.map + p.mapped, pages(1), PROT_NONE), 0);
    p.w = p.map + p.mapped - bytes;
    prog_blocks(dtype, p.w, m * n / p.type->block, dtype + (uint64_t)n);
    p.x = must(malloc((size_t)(n_tok * n) * sizeof *p.x));
    prog_fill(p.x, n_tok * n, 11, 2);
    return p;
}

static void free_product(product *p) {
    munmap(p->map, p->mapped + pages(1));
    free(p->x);
}

/* y[n_tok][m], tokens first .. first + n - 1 computed together. */
static void compute(const product *p, const cpu_isa *isa, int32_t first, int32_t n, float *y) {
    int is_f32 = p->type->span == LINEAR_SPAN_F32, is_bf16 = p->type->span == LINEAR_SPAN_BF16;
    int64_t columns = linear_act_columns(p->type);
    size_t bytes = linear_act_bytes(isa, p->type), n_kb = (size_t)((p->n + columns - 1) / columns),
           floats = (size_t)(p->n * LINEAR_ROWS) + linear_bf16_floats(p->n, n);
    linear_in in = {.type = p->type,
                    .w = p->w,
                    .row_bytes = p->row_bytes,
                    .m = p->m,
                    .n = p->n,
                    .n_tok = n,
                    .by_row = n <= LINEAR_FEW};
    uint8_t *act = must(aligned_alloc(64, (n_kb * bytes * (size_t)n + 63) & ~(size_t)63));
    int32_t groups = n == 1 && isa->token_groups ? isa->token_groups : 1;
    float *acc = must(malloc((size_t)(n * groups * LINEAR_ROWS) * sizeof *acc));
    float *scratch = must(malloc(floats * sizeof *scratch));
    const float *x = p->x + first * p->n;
    in.act = is_f32 ? (const uint8_t *)x : act;
    in.kb_stride = is_f32 ? (size_t)p->n * sizeof *x : bytes * (size_t)n;
    for (int32_t i = 0; i < n && !is_f32; i++) {
        uint8_t *to = act + (size_t)i * bytes;
        if (is_bf16)
            isa->bf16->pack(x + i * p->n, p->n, in.by_row, to, in.kb_stride);
        else
            isa->quantize(p->type, x + i * p->n, p->n, to, in.kb_stride);
    }
    int does_enter = linear_enters(isa, in.type, n);
    if (does_enter) isa->enter(in.type);
    if (is_f32 || is_bf16) groups = 1;
    for (int64_t row = 0; row < p->m; row += groups * LINEAR_ROWS) {
        int64_t left = p->m - row;
        int32_t rows = left < groups * LINEAR_ROWS ? (int32_t)left : groups * LINEAR_ROWS;
        if (is_f32)
            isa->rows_f32(&in, row, rows, acc, scratch);
        else if (is_bf16)
            isa->bf16->rows(&in, row, rows, acc, scratch);
        else
            isa->rows_int(&in, row, rows, acc);
        for (int32_t i = 0; i < n; i++)
            memcpy(y + (first + i) * p->m + row, acc + i * LINEAR_ROWS, (size_t)rows * sizeof *y);
    }
    if (does_enter) isa->leave();
    free(scratch);
    free(acc);
    free(act);
}

/* All tokens together, or one by one. */
static void compute_all(const product *p, const cpu_isa *isa, int one_by_one, float *y) {
    int32_t step = one_by_one ? 1 : p->n_tok;
    for (int32_t t = 0; t < p->n_tok; t += step)
        compute(p, isa, t, step, y);
}

static void assert_same(const product *p, const char *isa, const char *what, const float *want,
                        const float *got) {
    for (int64_t i = 0; i < p->n_tok * p->m; i++)
        if (memcmp(&want[i], &got[i], sizeof *want))
            fail_msg("type %u, %lld x %lld, %s, %s: token %lld, row %lld: %a, expected %a",
                     p->type->dtype, (long long)p->m, (long long)p->n, isa, what,
                     (long long)(i / p->m), (long long)(i % p->m), (double)got[i], (double)want[i]);
}

/* Columns that leave a part block of 256, and for plain types a part vector. */
static int64_t awkward(uint32_t dtype, int large) {
    int64_t block = linear_type_of(dtype)->block;
    if (block == 256) return large ? 1024 : 256;
    if (block > 1) return large ? 32 * 36 : block == 128 ? 128 * 3 : block * 9;
    return large ? 1037 : 19;
}

static void sums_are_the_same_bits_on_every_set_and_for_every_number_of_tokens(void **state) {
    static const int64_t rows[] = {1, 3, 16, 17, 100};
    static const int32_t tokens[] = {1, 2, 3, 7, 8, 16, 33, 61};
    enum { N_TOKENS = sizeof tokens / sizeof tokens[0] };
    const cpu_isa *set[ISA_MAX];
    int n_set = isas(set);
    (void)state;
    for (int k = 0; k < N_TYPE; k++)
        for (int r = 0; r < 5; r++) {
            product p =
                new_product(types[k], rows[r], awkward(types[k], r == 3), r == 3 ? TOK_MAX : 33);
            size_t n = (size_t)(p.n_tok * p.m);
            float *want = must(malloc(n * sizeof *want)), *got = must(malloc(n * sizeof *got));
            compute(&p, set[0], 0, p.n_tok, want);
            for (int i = 0; i < n_set; i++) {
                compute(&p, set[i], 0, p.n_tok, got);
                assert_same(&p, set[i]->name, "all tokens", want, got);
                for (int c = 0; c < (r == 4 ? 1 : N_TOKENS); c++) {
                    for (int32_t t = 0; t < p.n_tok; t += tokens[c])
                        compute(&p, set[i], t, p.n_tok - t < tokens[c] ? p.n_tok - t : tokens[c],
                                got);
                    assert_same(&p, set[i]->name, "pieces", want, got);
                }
            }
            free(got);
            free(want);
            free_product(&p);
        }
}

/* Kernels that take rows in pieces (linear_token.c: 8192 columns, linear_token_avx2.c: 32768) go on
 * where the last one ended. */
static void sums_of_long_rows_are_the_same_bits_on_every_set(void **state) {
    enum { M = 17, N_TOKEN = 2 };
    const cpu_isa *set[ISA_MAX];
    int n_set = isas(set);
    (void)state;
    for (int k = 3; k < N_TYPE; k++) {
        int64_t n = 32768 + (linear_type_of(types[k])->block > 64 ? 512 : 320);
        product p = new_product(types[k], M, n, N_TOKEN);
        float want[M * N_TOKEN], got[M * N_TOKEN];
        compute(&p, set[0], 0, N_TOKEN, want);
        for (int i = 1; i < n_set; i++) {
            compute_all(&p, set[i], 1, got);
            assert_same(&p, set[i]->name, "long rows", want, got);
        }
        free_product(&p);
    }
}

#if defined(__x86_64__)
/* 256 activations as sets without a dot product instruction have them, in the form of the others.
 */
static void to_dot_form(const linear_type *t, const void *from, act8 *to) {
    static const uint8_t order[4] = {0, 2, 1, 3};
    const act16 *wide = from;
    const act8 *a = from;
    if (!t->is_wide) {
        *to = *a;
        for (int i = 0; i < 16; i++)
            to->off[i] = (int16_t)(a->off[i] & 0xffff) + (a->off[i] >> 16);
        return;
    }
    memset(to, 0, sizeof *to);
    memcpy(to->dx, wide->dx, sizeof to->dx);
    for (int i = 0; i < LINEAR_K; i++)
        to->q[i] = (int8_t)wide->q[i / 4 * 4 + order[i % 4]];
}

/* Levels with a dot product instruction call it with their own form of activations, and few
 * processors have one on 256 bits alone. */
static void one_token_on_256_bits_takes_both_forms_of_activations(void **state) {
    enum { M = 16 * LINEAR_TOKEN_GROUPS + 5 };
    int n_type = 0;
    (void)state;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("f16c"))
        skip();
    for (int k = 3; k < N_TYPE; k++) {
        product p = new_product(types[k], M, awkward(types[k], 1), 1);
        size_t n_kb = (size_t)((p.n + LINEAR_K - 1) / LINEAR_K), bytes = sizeof(act16) * n_kb;
        float want[M], got[M + LINEAR_ROWS];
        uint8_t *plain = must(aligned_alloc(64, (bytes + 63) & ~(size_t)63));
        act8 *dot = must(aligned_alloc(64, (sizeof *dot * n_kb + 63) & ~(size_t)63));
        linear_in in = {.type = p.type,
                        .w = p.w,
                        .row_bytes = p.row_bytes,
                        .m = M,
                        .n = p.n,
                        .n_tok = 1,
                        .act = (const uint8_t *)dot,
                        .kb_stride = sizeof *dot};
        compute(&p, &cpu_isa_scalar, 0, 1, want);
        cpu_isa_scalar.quantize(p.type, p.x, p.n, plain, sizeof(act16));
        for (size_t i = 0; i < n_kb; i++)
            to_dot_form(p.type, plain + i * sizeof(act16), &dot[i]);
        int is_done = 1;
        for (int32_t row = 0, rows; row < M && is_done; row += rows) {
            rows = M - row < M - 5 ? M - row : M - 5;
            is_done = linear_token_avx2(&in, 1, row, rows, got + row);
        }
        if (is_done) assert_same(&p, "avx2", "form with dot products", want, got);
        n_type += is_done;
        free(dot);
        free(plain);
        free_product(&p);
    }
    assert_int_equal(n_type, 13);
}
#endif

/* To the nearest of eight bits, ties to even; below 2^-50 to 0. */
static double rounded(float x) {
    int e;
    double f = frexp((double)x, &e);
    return fabsf(x) < 0x1p-50f ? 0 : ldexp(rint(ldexp(f, 8)), e - 8);
}

/* One activation as linear.h declares it. */
static double emulated(const product *p, const float *x, int64_t k) {
    int64_t span = p->type->span, lo = span ? k / span * span : k;
    float amax = 0;
    if (span == LINEAR_SPAN_F32) return (double)x[k];
    if (span == LINEAR_SPAN_BF16) return rounded(x[k]);
    for (int64_t i = lo; i < lo + span; i++)
        amax = fmaxf(amax, fabsf(x[i]));
    float d = amax / 127.0f;
    return (double)rintf(x[k] * (1.0f / d)) * (double)d;
}

static void sums_follow_the_declared_numerics(void **state) {
    const cpu_isa *set[ISA_MAX];
    int n_set = isas(set);
    (void)state;
    for (int k = 0; k < N_TYPE; k++) {
        product p = new_product(types[k], 40, awkward(types[k], 1), 16);
        int64_t n = p.n_tok * p.m;
        double *plain = must(calloc((size_t)n, sizeof *plain)),
               *declared = must(calloc((size_t)n, sizeof *declared));
        double *act = must(malloc((size_t)(p.n_tok * p.n) * sizeof *act));
        float *w = must(malloc((size_t)p.n * sizeof *w)), *y = must(malloc((size_t)n * sizeof *y));
        for (int64_t i = 0; i < p.n_tok * p.n; i++)
            act[i] = emulated(&p, p.x + i / p.n * p.n, i % p.n);
        for (int64_t r = 0; r < p.m; r++) {
            ref_dequant_row(types[k], p.w + (size_t)r * p.row_bytes, w, p.n);
            for (int32_t t = 0; t < p.n_tok; t++)
                for (int64_t i = 0; i < p.n; i++) {
                    plain[t * p.m + r] += (double)w[i] * (double)p.x[t * p.n + i];
                    declared[t * p.m + r] += (double)w[i] * act[t * p.n + i];
                }
        }
        compute(&p, set[n_set - 1], 0, p.n_tok, y);
        prog_error e = prog_nmse(y, declared, p.n_tok, p.m), f = prog_nmse(y, plain, p.n_tok, p.m);
        /* Source: plugin-abi.md section 8 */
        int is_float = p.type->span == LINEAR_SPAN_F32 || p.type->span == LINEAR_SPAN_BF16;
        double gate = is_float ? 1e-10 : 1e-9, loose = p.type->span == LINEAR_SPAN_BF16 ? 5e-6
                                                       : p.type->span == 256            ? 2e-3
                                                       : is_float                       ? 1e-10
                                                                                        : 5e-4;
        if (!(e.all <= gate) || !(e.worst_row <= 20 * gate))
            fail_msg("type %u: NMSE %g, worst row %g against the declared numerics", types[k],
                     e.all, e.worst_row);
        if (!(f.all <= loose) || !(f.worst_row <= 20 * loose))
            fail_msg("type %u: NMSE %g, worst row %g against f64", types[k], f.all, f.worst_row);
        free(y);
        free(w);
        free(act);
        free(declared);
        free(plain);
        free_product(&p);
    }
}

/* The bytes of a block that hold its scales. */
static void scales_of(const linear_type *t, int *at, size_t *n) {
    *at = 0;
    *n = t->min_sub ? 4 : 2;
    switch (t->dtype) {
    case PERI_CPU_Q2_K:
        *at = 80;
        break;
    case PERI_CPU_Q3_K:
        *at = 108;
        break;
    case PERI_CPU_Q6_K:
        *at = 208;
        break;
    case PERI_CPU_TQ1_0:
        *at = 52;
        break;
    case PERI_CPU_TQ2_0:
        *at = 64;
        break;
    case PERI_CPU_IQ1_M:
        *at = 48;
        *n = 8;
        break;
    case PERI_CPU_MXFP4:
        *n = 1;
        break;
    case PERI_CPU_NVFP4:
        *n = 4;
        break;
    }
}

/* Extremes: every weight and activation at its largest, where int16 sums would wrap first. */
static void sums_do_not_wrap_at_the_extremes(void **state) {
    enum { T_EXTREME = LINEAR_VECTORS + 11 }; /* for tiles, and no whole ones */
    const cpu_isa *set[ISA_MAX];
    int n_set = isas(set);
    (void)state;
    for (int k = 3; k < N_TYPE; k++)
        for (int fill = 0; fill < 4; fill++) {
            product p = new_product(types[k], 16, 512, T_EXTREME);
            int64_t blocks = p.m * p.n / p.type->block;
            float want[16 * T_EXTREME], got[16 * T_EXTREME];
            for (int64_t b = 0; b < blocks;
                 b++) { /* scales as new_product made them, all else 0xff, 0x00, 0x80 or 0x7f */
                static const uint8_t value[] = {0xff, 0x00, 0x80, 0x7f};
                uint8_t *at = p.w + b * p.type->block_bytes, kept[256];
                memcpy(kept, at, (size_t)p.type->block_bytes);
                memset(at, value[fill], (size_t)p.type->block_bytes);
                int d;
                size_t n_scale;
                scales_of(p.type, &d, &n_scale);
                memcpy(at + d, kept + d, n_scale);
            }
            for (int64_t i = 0; i < p.n_tok * p.n; i++)
                p.x[i] = i < p.n ? 1.0f : i % 2 ? 1.0f : -1.0f;
            compute(&p, set[0], 0, p.n_tok, want);
            for (int i = 2; i < 2 * n_set; i++) {
                compute_all(&p, set[i / 2], i % 2, got);
                assert_same(&p, set[i / 2]->name, i % 2 ? "extremes, one by one" : "extremes", want,
                            got);
            }
            free_product(&p);
        }
}

static void a_span_with_a_nan_or_infinity_gives_nan_everywhere(void **state) {
    enum { T_SPAN = LINEAR_VECTORS + 12 };
    const cpu_isa *set[ISA_MAX];
    int n_set = isas(set);
    (void)state;
    for (int k = 3; k < N_TYPE; k++)
        for (int i = 0; i < 2 * n_set; i++) {
            product p = new_product(types[k], 5, 512, T_SPAN);
            float y[5 * T_SPAN];
            p.x[p.n + 300] = NAN;
            p.x[2 * p.n + 7] = -INFINITY;
            compute_all(&p, set[i / 2], i % 2, y);
            for (int r = 0; r < 5; r++) {
                assert_true(isfinite(y[r]));
                assert_true(isnan(y[5 + r]));
                assert_false(isfinite(y[10 + r]));
                for (int t = 3; t < T_SPAN; t++)
                    assert_true(isfinite(y[5 * t + r]));
            }
            free_product(&p);
        }
}

static int is_same_or_nan(float want, float got) {
    return !memcmp(&want, &got, sizeof want) || (isnan(want) && isnan(got));
}

/* A scale of 32 columns that is no number, at the ends of the range, or a zero with a sign, between
 * others as they are; activations from zeros over nearly nothing to large ones. */
static void odd_scales_mean_the_same_on_all_sets(void **state) {
    enum { T_ODD = LINEAR_VECTORS + 16, M_ODD = 16, N_ODD = 512 };
    static const uint32_t type[] = {PERI_CPU_Q4_0, PERI_CPU_Q4_1,   PERI_CPU_Q5_0, PERI_CPU_Q5_1,
                                    PERI_CPU_Q8_0, PERI_CPU_IQ4_NL, PERI_CPU_MXFP4};
    static const uint16_t half[] = {0x7c00, 0xfc00, 0x7e00, 0x0001, 0x8001, 0x0000, 0x8000, 0x7bff};
    static const uint8_t power[] = {0xff, 0xfe, 0xe7, 0xe8, 0x00, 0x01, 0x60, 0x67};
    const cpu_isa *set[ISA_MAX];
    int n_set = isas(set);
    (void)state;
    for (size_t k = 0; k < sizeof type / sizeof *type; k++)
        for (int odd = 0; odd < 8; odd++) {
            product p = new_product(type[k], M_ODD, N_ODD, T_ODD);
            float want[M_ODD * T_ODD], got[M_ODD * T_ODD];
            uint8_t *at = p.w + (size_t)(odd + 3) * p.row_bytes + 5 * (size_t)p.type->block_bytes;
            if (type[k] == PERI_CPU_MXFP4)
                *at = power[odd];
            else
                memcpy(at, &half[odd], sizeof half[odd]);
            for (int t = 0; t < T_ODD; t++)
                for (int i = 0; i < N_ODD; i++)
                    p.x[t * N_ODD + i] *= i / 32 % 3 == t % 3 ? 0.0f : ldexpf(1, 4 - 4 * t);
            compute(&p, set[0], 0, p.n_tok, want);
            for (int i = 2; i < 2 * n_set; i++) {
                compute_all(&p, set[i / 2], i % 2, got);
                for (int j = 0; j < M_ODD * T_ODD; j++)
                    if (!is_same_or_nan(want[j], got[j]))
                        fail_msg("type %u, scale %d, %s: token %d, row %d: %a, expected %a",
                                 type[k], odd, set[i / 2]->name, j / M_ODD, j % M_ODD,
                                 (double)got[j], (double)want[j]);
            }
            free_product(&p);
        }
}

/* ---- whole ops, large enough to be cut ---- */

enum { M = 700, N = 512, T = 40, E = 6, K = 3 };

typedef struct large {
    uint16_t code;
    uint32_t dtype;
    uint8_t *w[2];
    float *x;
    int32_t ids[T * K];
} large;

static void build_large(prog *p, const large *u, int32_t t0) {
    peri_act_attr act = {.size = sizeof act, .act = PERI_ACT_SILU};
    peri_linear_attr linear = {.size = sizeof linear};
    int64_t m = u->code == PERI_OP_LINEAR_EXPERTS ? M / 7 : M;
    p->code = u->code;
    prog_in(p, DIMS(1, 1, -PERI_SYM_T, N), u->x + t0 * N, 0);
    prog_weight(p, u->dtype, DIMS(1, m == M ? 1 : E, m, N), u->w[0]);
    if (u->code == PERI_OP_GATE_UP_GLU) {
        prog_weight(p, u->dtype, DIMS(1, 1, m, N), u->w[1]);
        prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, m), 0);
        prog_attr(p, &act, sizeof act);
    } else if (u->code == PERI_OP_LINEAR) {
        prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
        prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
        prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, m), 0);
        prog_attr(p, &linear, sizeof linear);
    } else {
        prog_in_ids(p, DIMS(1, 1, -PERI_SYM_T, K), u->ids + t0 * K);
        prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
        prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
        prog_out(p, PERI_CPU_F32, DIMS(1, -PERI_SYM_T, K, m), 0);
    }
}

/* All T tokens in pieces of n_tok; y[T][..]. */
static void run_large(const large *u, const char *isa, uint32_t n_worker, int32_t n_tok, float *y) {
    peri_dev *d = open_cpu(isa, n_worker);
    for (int32_t t = 0; t < T; t += n_tok) {
        peri_error e = {0};
        int32_t n = T - t < n_tok ? T - t : n_tok;
        prog *p = prog_new(d, n);
        build_large(p, u, t);
        assert_ok(prog_run(p, &e), e);
        prog_get(p, 0, y + prog_size(p, p->n_in) / n * t);
        prog_free(p);
    }
    close_cpu(d);
}

static void chunks_workers_and_levels_do_not_change_a_bit(void **state) {
    static const uint16_t codes[] = {PERI_OP_LINEAR, PERI_OP_GATE_UP_GLU, PERI_OP_LINEAR_EXPERTS};
    static const uint32_t dtypes[] = {PERI_CPU_Q4_0, PERI_CPU_Q4_K,  PERI_CPU_F16,
                                      PERI_CPU_BF16, PERI_CPU_NVFP4, PERI_CPU_IQ3_S};
    enum { N_DTYPE = sizeof dtypes / sizeof dtypes[0] };
    size_t bytes = (size_t)T * M * sizeof(float);
    float *want = must(malloc(bytes)), *got = must(malloc(bytes));
    (void)state;
    for (int c = 0; c < 3 * N_DTYPE; c++) {
        large u = {.code = codes[c / N_DTYPE], .dtype = dtypes[c % N_DTYPE]};
        peri_dtype_info t = peri_dtype_of(u.dtype);
        for (int i = 0; i < 2; i++) {
            u.w[i] = must(malloc((size_t)(M * N / t.n * t.bytes)));
            prog_blocks(u.dtype, u.w[i], M * N / t.n, (uint64_t)i + 5);
        }
        u.x = must(malloc(T * N * sizeof *u.x));
        prog_fill(u.x, T * N, 8, 1);
        for (int32_t i = 0; i < T * K; i++)
            u.ids[i] = (i / K * 5 + i % K * 2 + (i % 7 == 0)) % E;
        memset(want, 0, bytes);
        run_large(&u, "scalar", 1, T, want);
        for (uint32_t l = 0; cpu_level_at(l); l++) {
            const char *isa = cpu_level_at(l)->name;
            if (!cpu_level_at(l)->is_available()) continue;
            for (int v = 0; v < 4; v++) {
                static const int32_t n_tok[] = {T, T, 1, 7};
                memset(got, 0, bytes);
                run_large(&u, isa, v == 0 ? 1 : 2, n_tok[v], got);
                if (memcmp(want, got, bytes))
                    fail_msg("op 0x%04x, type %u, %s, variant %d differs", u.code, u.dtype, isa, v);
            }
        }
        free(u.w[0]);
        free(u.w[1]);
        free(u.x);
    }
    free(got);
    free(want);
}

/* ---- attention over several chunks ---- */

enum { H = 4, G = 2, D = 48, DV = 40, B = 16, BLOCKS = 48, CTX = 600, NEW = 40 };

typedef struct cache {
    uint16_t *k, *v; /* f16 [BLOCKS][B][G][D] and [..][DV] */
    int32_t table[CTX / B + 1];
} cache;

/* Keys 0 .. n - 1 at the places of the table, everything else NaN. */
static cache new_cache(int32_t n, int32_t step) {
    cache c = {malloc(BLOCKS * B * G * D * 2), malloc(BLOCKS * B * G * DV * 2), {0}};
    must(c.k);
    must(c.v);
    memset(c.k, 0xff, BLOCKS * B * G * D * 2);
    memset(c.v, 0xff, BLOCKS * B * G * DV * 2);
    for (int32_t b = 0; b <= CTX / B; b++)
        c.table[b] = (b * step + 3) % BLOCKS;
    for (int32_t j = 0; j < n; j++)
        for (int32_t i = 0; i < G * D; i++) {
            int32_t at = c.table[j / B] * B + j % B;
            c.k[at * G * D + i] = ref_f32_to_f16(prog_random(1, (uint64_t)(j * G * D + i)) * 2);
            if (i < G * DV)
                c.v[at * G * DV + i] = ref_f32_to_f16(prog_random(2, (uint64_t)(j * G * D + i)));
        }
    return c;
}

/* Query rows at positions CTX - NEW + t0 .., which see only what has been written by then. */
static void attend(const char *isa, int32_t t0, int32_t n, int32_t step, const peri_attn_attr *a,
                   float *y) {
    static float q[NEW * H * D];
    peri_error e = {0};
    int32_t first = CTX - NEW + t0;
    cache c = new_cache(first + n, step);
    peri_dev *d = open_cpu(isa, 2);
    prog *p = prog_new(d, n);
    prog_fill(q, NEW * H * D, 4, 1);
    p->n[PERI_SYM_B] = CTX / B + 1;
    p->code = PERI_OP_ATTN;
    prog_in(p, DIMS(1, -PERI_SYM_T, H, D), q + t0 * H * D, 0);
    prog_pool(p, PERI_CPU_F16, DIMS(BLOCKS, B, G, D), c.k);
    prog_pool(p, PERI_CPU_F16, DIMS(BLOCKS, B, G, DV), c.v);
    prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
    prog_out(p, PERI_CPU_F32, DIMS(1, -PERI_SYM_T, H, DV), 0);
    prog_attr(p, a, sizeof *a);
    for (int32_t t = 0; t < n; t++) {
        p->pos[t] = first + t;
        p->seq[t] = 0;
    }
    p->ctx[0] = first + n;
    memcpy(p->table, c.table, sizeof c.table);
    assert_ok(prog_run(p, &e), e);
    prog_get(p, 0, y + t0 * H * DV);
    prog_free(p);
    close_cpu(d);
    free(c.k);
    free(c.v);
}

static void attention_is_the_same_bits_whole_in_pieces_and_on_other_blocks(void **state) {
    static float want[NEW * H * DV], got[NEW * H * DV];
    static double exact[NEW * H * DV];
    (void)state;
    for (int v = 0; v < 3; v++) {
        peri_attn_attr a = {.size = sizeof a,
                            .scale = 0.2f,
                            .cap = v == 1 ? 5.0f : 0.0f,
                            .alibi_max = v == 2 ? 8.0f : 0.0f,
                            .window = v == 1 ? 300 : 0};
        attend("reference", 0, NEW, 1, &a, got);
        for (int i = 0; i < NEW * H * DV; i++)
            exact[i] = (double)got[i];
        attend("scalar", 0, NEW, 1, &a, want);
        prog_error e = prog_nmse(want, exact, NEW * H, DV);
        if (!(e.all <= 2e-5) || !(e.worst_row <= 4e-4)) /* factors are rounded to bf16 */
            fail_msg("variant %d: NMSE %g, %g", v, e.all, e.worst_row);
        for (uint32_t l = 0; cpu_level_at(l); l++) {
            static const int32_t pieces[] = {NEW, 1, 7, 16};
            const char *isa = cpu_level_at(l)->name;
            for (int c = 0; c < 4 && cpu_level_at(l)->is_available(); c++) {
                for (int32_t t = 0; t < NEW; t += pieces[c])
                    attend(isa, t, NEW - t < pieces[c] ? NEW - t : pieces[c], c == 2 ? 17 : 1, &a,
                           got);
                if (memcmp(want, got, sizeof want))
                    fail_msg("variant %d, %s, pieces of %d differ", v, isa, pieces[c]);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_the_same_bits_on_every_set_and_for_every_number_of_tokens),
#if defined(__x86_64__)
        cmocka_unit_test(one_token_on_256_bits_takes_both_forms_of_activations),
#endif
        cmocka_unit_test(sums_of_long_rows_are_the_same_bits_on_every_set),
        cmocka_unit_test(sums_follow_the_declared_numerics),
        cmocka_unit_test(sums_do_not_wrap_at_the_extremes),
        cmocka_unit_test(a_span_with_a_nan_or_infinity_gives_nan_everywhere),
        cmocka_unit_test(odd_scales_mean_the_same_on_all_sets),
        cmocka_unit_test(chunks_workers_and_levels_do_not_change_a_bit),
        cmocka_unit_test(attention_is_the_same_bits_whole_in_pieces_and_on_other_blocks),
    };
    return peri_run_tests(tests);
}
