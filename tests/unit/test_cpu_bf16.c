/* SPDX-License-Identifier: MIT
 *
 * test_cpu_bf16.c - products of BF16 weights on every level: the order of sums that linear.h tells,
 * against that order written down once more as plain loops; how activations are rounded; what is
 * too small to count; and that the self-test sees a wrong bit.  Shapes and pieces at large:
 * test_cpu_kernels.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fast.h"
#include "harness.h"
#include "prog.h"

enum { M = 19, N_MAX = 1061, T = 30, T_MAX = LINEAR_M };

static uint16_t w[M * N_MAX];
static float x[T * N_MAX], y[T_MAX * M];

static float f32_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
static uint32_t bits_of(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

static uint8_t *rounded_up(size_t bytes) {
    uint8_t *p = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    assert_non_null(p);
    return p;
}

/* y[n_tok][m] of w [m][n] and x [n_tok][n]. */
static void compute(const cpu_isa *isa, int m, int n, int n_tok) {
    size_t bytes = isa->bf16->block_bytes,
           blocks = (size_t)(n + LINEAR_SPAN_BF16 - 1) / LINEAR_SPAN_BF16;
    uint8_t *act = rounded_up(blocks * bytes * (size_t)n_tok);
    float *scratch = (float *)rounded_up(linear_bf16_floats(n, n_tok) * sizeof *scratch + 64);
    static float acc[LINEAR_GROUPS * T_MAX * LINEAR_ROWS];
    linear_in in = {.type = linear_type_of(PERI_CPU_BF16),
                    .w = (const uint8_t *)w,
                    .row_bytes = (size_t)n * sizeof *w,
                    .m = m,
                    .n = n,
                    .act = act,
                    .kb_stride = bytes * (size_t)n_tok,
                    .n_tok = n_tok,
                    .by_row = n_tok <= LINEAR_FEW};
    for (int t = 0; t < n_tok; t++)
        isa->bf16->pack(x + t * n, n, in.by_row, act + (size_t)t * bytes, in.kb_stride);
    if (isa->enter && !in.by_row) isa->enter(in.type);
    int step = LINEAR_ROWS * (in.by_row ? 1 : isa->bf16->n_group);
    for (int row = 0; row < m; row += step) {
        int rows = m - row < step ? m - row : step;
        isa->bf16->rows(&in, row, rows, acc, scratch);
        for (int i = 0; i < n_tok * rows; i++) {
            int r = i % rows, t = i / rows, group = r / LINEAR_ROWS * n_tok;
            y[t * m + row + r] = acc[(group + t) * LINEAR_ROWS + r % LINEAR_ROWS];
        }
    }
    if (isa->leave && !in.by_row) isa->leave();
    free(scratch);
    free(act);
}

/* ---- the order ---- */

/* |f| is that of a normal number far from the largest. */
static float factor(float f) {
    int e;
    double part = frexp((double)f, &e);
    return fabsf(f) < 0x1p-50f ? 0 : (float)ldexp(rint(ldexp(part, 8)), e - 8);
}

/* The products of a block's word k, 0 past the row. */
static float add(const uint16_t *row, const float *a, int k, int n, float sum) {
    return k < n ? fmaf(factor(f32_of((uint32_t)row[k] << 16)), factor(a[k]), sum) : sum;
}

static float in_order(const uint16_t *row, const float *a, int n) {
    float c = 0;
    for (int block = 0; block < n; block += 512)
        for (int lane = 0; lane < 16; lane++) {
            float sum[2] = {0, 0}; /* over even vectors, over odd ones */
            for (int v = 0; v < 16; v++)
                for (int word = 1; word >= 0; word--)
                    sum[v % 2] = add(row, a, block + 32 * v + 2 * lane + word, n, sum[v % 2]);
            c += sum[0] + sum[1];
        }
    return c;
}

/* Numbers of all sizes between 2^-57 and 2^50, so that any other order gives other bits. */
static void fill(void) {
    uint32_t s = 1;
    for (int i = 0; i < M * N_MAX; i++) {
        s = s * 1664525u + 1013904223u;
        w[i] = (uint16_t)((s >> 16 & 0x807f) | (uint32_t)(127 - (s >> 8) % 58) << 7);
    }
    for (int i = 0; i < T * N_MAX; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = f32_of((s & 0x807fff00u) | (127 + (s >> 16) % 48 - (s >> 20) % 52) << 23 | i % 7);
    }
}

static void check_order(const cpu_isa *isa, int n, int n_tok) {
    compute(isa, M, n, n_tok);
    for (int t = 0; t < n_tok; t++)
        for (int r = 0; r < M; r++) {
            float want = in_order(w + r * n, x + t * n, n);
            if (bits_of(want) != bits_of(y[t * M + r]))
                fail_msg("%s, %d columns, token %d of %d, row %d: %a, expected %a", isa->name, n, t,
                         n_tok, r, (double)y[t * M + r], (double)want);
        }
}

static void every_level_sums_in_the_order_that_is_told(void **state) {
    static const int columns[] = {1, 32, 37, 512, 515, N_MAX}, tokens[] = {1, 2, 5, 8, 9, T};
    (void)state;
    fill();
    for (uint32_t i = 0; cpu_level_at(i); i++) {
        const cpu_isa *isa = cpu_isa_of(cpu_level_at(i));
        for (int c = 0; isa && c < 6; c++)
            for (int t = 0; t < 6; t++)
                check_order(isa, columns[c], tokens[t]);
    }
}

/* ---- numbers ---- */

typedef struct number {
    uint32_t weight; /* bf16 */
    uint32_t x, y;   /* f32 */
} number;

/* One column. */
static const number numbers[] = {
    {0x3f80, 0x3f800000, 0x3f800000}, /* 1 */
    {0x3f80, 0x3f808000, 0x3f800000}, /* between two: to the even one, down */
    {0x3f80, 0x3f818000, 0x3f820000}, /* and up */
    {0x3f80, 0x3f808001, 0x3f810000}, /* just above and below the middle */
    {0x3f80, 0x3f817fff, 0x3f810000},
    {0x3f80, 0x3fffffff, 0x40000000}, /* into the next power of two */
    {0xbf80, 0x3fffff00, 0xc0000000},
    {0x3f80, 0x7f7f7fff, 0x7f7f0000}, /* the largest bf16, and past it */
    {0x3f80, 0x7f7f8000, 0x7f800000},
    {0x3f80, 0xff7fffff, 0xff800000},
    {0x3f80, 0x26800000, 0x26800000}, /* 2^-50, and what is below is 0 even if it rounds to it */
    {0x3f80, 0x267fffff, 0x00000000},
    {0x3f80, 0xa67fffff, 0x00000000},
    {0x3f80, 0x00000001, 0x00000000},
    {0x3f80, 0x80000000, 0x00000000}, /* a sum that began at 0 is not -0 */
    {0x2680, 0x3f800000, 0x26800000}, /* the same of weights */
    {0x267f, 0x3f800000, 0x00000000},
    {0xa67f, 0x7f000000, 0x00000000},
    {0x0001, 0x7f000000, 0x00000000},
    {0x2680, 0x26800000, 0x0d800000}, /* the smallest product */
    {0x7f7f, 0x7f7f0000, 0x7f800000}, /* too large */
    {0xff80, 0x3f800000, 0xff800000}, /* infinities go on */
    {0x3f80, 0x7f800000, 0x7f800000},
    {0x7f80, 0x26000000, 0x7fc00000}, /* infinity times 0 */
    {0x267f, 0x7f800000, 0x7fc00000},
    {0x7fc0, 0x3f800000, 0x7fc00000}, /* NaN, quiet or not, whatever bits it has */
    {0x7f81, 0x3f800000, 0x7fc00000},
    {0x3f80, 0x7fffffff, 0x7fc00000},
    {0x3f80, 0xff800001, 0x7fc00000},
};
enum { N_NUMBER = sizeof numbers / sizeof numbers[0] };

/* Number i alone in column `at`, of every token; the rest is 0. */
static void check_number(const cpu_isa *isa, int i, int n, int at, int n_tok) {
    memset(w, 0, sizeof *w * (size_t)n);
    memset(x, 0, sizeof *x * (size_t)(n * n_tok));
    w[at] = (uint16_t)numbers[i].weight;
    for (int t = 0; t < n_tok; t++)
        x[t * n + at] = f32_of(numbers[i].x);
    compute(isa, 1, n, n_tok);
    for (int t = 0; t < n_tok; t++) {
        float want = f32_of(numbers[i].y);
        if (isnan(want) ? !isnan(y[t]) : bits_of(want) != bits_of(y[t]))
            fail_msg("%s: weight 0x%04x, activation 0x%08x in column %d of %d, token %d: 0x%08x, "
                     "expected 0x%08x",
                     isa->name, numbers[i].weight, numbers[i].x, at, n, t, bits_of(y[t]),
                     numbers[i].y);
    }
}

static void numbers_are_rounded_as_op_def_says(void **state) {
    (void)state;
    for (uint32_t l = 0; cpu_level_at(l); l++) {
        const cpu_isa *isa = cpu_isa_of(cpu_level_at(l));
        for (int i = 0; isa && i < N_NUMBER; i++) {
            check_number(isa, i, 1, 0, 1);
            check_number(isa, i, 515, 31, 3);
            check_number(isa, i, 515, 514, 14);
        }
    }
}

/* All 65,536 bf16, two of three with more behind them: what a level keeps of them. */
static void every_bf16_is_itself(void **state) {
    (void)state;
    w[0] = 0x3f80;
    for (uint32_t l = 0; cpu_level_at(l); l++) {
        const cpu_isa *isa = cpu_isa_of(cpu_level_at(l));
        for (uint32_t h = 0; isa && h < 0x10000; h += T_MAX) {
            int n_tok = T_MAX;
            for (int t = 0; t < n_tok; t++)
                x[t] = f32_of((h + (uint32_t)t) << 16 | (t % 3 ? 0x7fff : 0));
            compute(isa, 1, 1, n_tok);
            for (int t = 0; t < n_tok; t++) {
                float want = f32_of((h + (uint32_t)t) << 16);
                int is_nan = isnan(x[t]);
                if (fabsf(want) < 0x1p-50f) want = 0;
                if (is_nan ? !isnan(y[t]) : bits_of(want) != bits_of(y[t]))
                    fail_msg("%s: 0x%08x became 0x%08x", isa->name, bits_of(x[t]), bits_of(y[t]));
            }
        }
    }
}

/* ---- the self-test ---- */

static bf16_isa broken;
static int broken_by_row;
static void rows_broken(const linear_in *in, int64_t row0, int32_t rows, float *acc,
                        float *scratch) {
    bf16_scalar.rows(in, row0, rows, acc, scratch);
    float *last = &acc[(in->n_tok - 1) * LINEAR_ROWS + rows - 1];
    if (in->by_row == broken_by_row) *last = f32_of(bits_of(*last) ^ 1);
}

static void the_self_test_finds_one_wrong_bit(void **state) {
    char why[96] = "";
    cpu_isa set = cpu_isa_scalar;
    (void)state;
    assert_true(bf16_self_test(&set, &cpu_isa_scalar, why));
    assert_string_equal(why, "");
    broken = bf16_scalar;
    broken.rows = rows_broken;
    set.bf16 = &broken;
    assert_false(bf16_self_test(&set, &cpu_isa_scalar, why));
    assert_non_null(strstr(why, "BF16 weights, token 42 of 43, row 15: "));
    broken_by_row = 1;
    assert_false(bf16_self_test(&set, &cpu_isa_scalar, why));
    assert_non_null(strstr(why, "BF16 weights, token 2 of 3, row 15: "));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_sums_in_the_order_that_is_told),
        cmocka_unit_test(numbers_are_rounded_as_op_def_says),
        cmocka_unit_test(every_bf16_is_itself),
        cmocka_unit_test(the_self_test_finds_one_wrong_bit),
    };
    return peri_run_tests(tests);
}
