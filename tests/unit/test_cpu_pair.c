/* SPDX-License-Identifier: MIT
 *
 * test_cpu_pair.c - two groups of rows at once give the bits of each alone, for every type that
 * pair_int takes and every rest of tokens. */
#include <stdlib.h>
#include <string.h>

#include "fast.h"
#include "harness.h"
#include "op_case.h"

#if defined(__x86_64__)

enum { N = 3 * LINEAR_K, M = 48, TOK_MOST = 37 };

/* The set of the level of that name, or NULL where it is not available. */
static const cpu_isa *set_of(const char *name) {
    for (uint32_t i = 0; cpu_level_at(i); i++)
        if (!strcmp(cpu_level_at(i)->name, name)) return cpu_isa_of(cpu_level_at(i));
    return NULL;
}

static void expect_alone(const cpu_isa *set, const linear_in *in, int64_t row0) {
    static float got[2 * TOK_MOST * LINEAR_ROWS], want[TOK_MOST * LINEAR_ROWS];
    size_t group = (size_t)in->n_tok * LINEAR_ROWS;
    memset(got, 0xff, sizeof got);
    assert_int_equal(set->pair_int(in, row0, got), 1);
    for (int g = 0; g < 2; g++) {
        set->rows_int(in, row0 + g * LINEAR_ROWS, LINEAR_ROWS, want);
        if (memcmp(got + g * group, want, group * sizeof *want) != 0)
            fail_msg("type %u, %d tokens, from row %lld on: group %d differs", in->type->dtype,
                     (int)in->n_tok, (long long)row0, g);
    }
}

static void check_type(const cpu_isa *set, uint32_t dtype, int32_t n_tok) {
    const linear_type *t = linear_type_of(dtype);
    size_t row_bytes = (size_t)(N / t->block * t->block_bytes), one = linear_act_bytes(set, t);
    uint8_t *w = malloc(M * row_bytes), *act = malloc((size_t)(N / LINEAR_K * n_tok) * one);
    float *x = malloc((size_t)n_tok * N * sizeof *x);
    assert_true(w && act && x);
    prog_fill(x, (int64_t)n_tok * N, 3, 1);
    prog_blocks(dtype, w, M * N / t->block, dtype);
    linear_in in = {.type = t,
                    .w = w,
                    .row_bytes = row_bytes,
                    .m = M,
                    .n = N,
                    .act = act,
                    .kb_stride = (size_t)n_tok * one,
                    .n_tok = n_tok};
    for (int32_t i = 0; i < n_tok; i++)
        set->quantize(t, x + (int64_t)i * N, N, act + (size_t)i * one, in.kb_stride);
    expect_alone(set, &in, 0);
    expect_alone(set, &in, 16);
    free(x);
    free(act);
    free(w);
}

static void two_groups_at_once_are_each_alone(void **state) {
    static const uint32_t types[] = {PERI_CPU_Q4_0, PERI_CPU_Q8_0, PERI_CPU_IQ4_NL, PERI_CPU_MXFP4};
    static const int32_t tokens[] = {1, 2, 3, 4, 7, 8, 9, 10, 16, TOK_MOST};
    const cpu_isa *set = set_of("avx512vnni");
    (void)state;
    if (!set) skip();
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
            check_type(set, types[k], tokens[i]);
}

/* A type it does not take, and rows that end within 256 columns. */
static void what_it_does_not_take_is_left_alone(void **state) {
    static float acc[2 * TOK_MOST * LINEAR_ROWS];
    const cpu_isa *set = set_of("avx512vnni");
    (void)state;
    if (!set) skip();
    acc[0] = 7.0f;
    linear_in in = {.type = linear_type_of(PERI_CPU_Q2_K), .m = 32, .n = LINEAR_K, .n_tok = 8};
    assert_int_equal(set->pair_int(&in, 0, acc), 0);
    in.type = linear_type_of(PERI_CPU_Q4_0);
    in.n = LINEAR_K + 32;
    assert_int_equal(set->pair_int(&in, 0, acc), 0);
    assert_true(acc[0] == 7.0f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_groups_at_once_are_each_alone),
        cmocka_unit_test(what_it_does_not_take_is_left_alone),
    };
    return peri_run_tests(tests);
}

#else

static void only_on_x86_64(void **state) {
    (void)state;
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(only_on_x86_64)};
    return peri_run_tests(tests);
}

#endif
