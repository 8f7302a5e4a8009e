/* SPDX-License-Identifier: MIT
 *
 * test_cpu_attn_half.c - what ATTN makes of the factors of its products over pools of F16 and BF16:
 * queries and weights are rounded to bf16, numbers of an F16 pool to seven bits of fraction, and
 * the least count as 0 (attn_pairs.h); on every level, with values next to infinite ones, in tiles
 * and alone.  And that the self-test of the products finds a set that computes them otherwise. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fast.h"
#include "harness.h"
#include "kernels.h"
#include "op_case.h"
#include "ref.h"

enum { H = 2, D = 40, DV = 48, B = 16, BLOCKS = 24, CTX = 371, N_TOK = 5, CHUNK = 256 };

typedef struct world {
    uint16_t dtype;
    uint16_t k[BLOCKS * B * D], v[BLOCKS * B * DV]; /* one key/value head */
    float q[N_TOK * H * D];
    int32_t n_key; /* held after the last token */
    float scale;
} world;

/* The last N_TOK positions ask, n tokens a step; a step sees all keys, its tokens their own. */
static void attend(world *w, const char *isa, int32_t n, float *y) {
    peri_attn_attr a = {.size = sizeof a, .scale = w->scale};
    peri_dev *d = open_cpu(isa, 2);
    for (int32_t t0 = 0; t0 < N_TOK; t0 += n) {
        peri_error e = {0};
        int32_t n_tok = N_TOK - t0 < n ? N_TOK - t0 : n;
        prog *p = prog_new(d, n_tok);
        p->code = PERI_OP_ATTN;
        p->n[PERI_SYM_B] = BLOCKS;
        prog_in(p, DIMS(1, -PERI_SYM_T, H, D), w->q + t0 * H * D, 0);
        prog_pool(p, w->dtype, DIMS(BLOCKS, B, 1, D), w->k);
        prog_pool(p, w->dtype, DIMS(BLOCKS, B, 1, DV), w->v);
        prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
        prog_out(p, PERI_CPU_F32, DIMS(1, -PERI_SYM_T, H, DV), 0);
        prog_attr(p, &a, sizeof a);
        for (int32_t t = 0; t < n_tok; t++)
            p->pos[t] = w->n_key - N_TOK + t0 + t;
        p->ctx[0] = w->n_key;
        for (int32_t b = 0; b < BLOCKS; b++)
            p->table[b] = b;
        assert_ok(prog_run(p, &e), e);
        prog_get(p, 0, y + t0 * H * DV);
        prog_free(p);
    }
    close_cpu(d);
}

static world *new_world(uint16_t dtype, int32_t n_key) {
    world *w = malloc(sizeof *w);
    assert_non_null(w);
    *w = (world){.dtype = dtype, .n_key = n_key, .scale = 0.3f};
    prog_fill(w->q, N_TOK * H * D, 1, 1);
    for (int i = 0; i < BLOCKS * B * D; i++) {
        float x = prog_random(2, (uint64_t)i) * 2;
        w->k[i] = dtype == PERI_CPU_F16 ? ref_f32_to_f16(x) : ref_f32_to_bf16(x);
    }
    for (int i = 0; i < BLOCKS * B * DV; i++) {
        float x = prog_random(3, (uint64_t)i);
        w->v[i] = dtype == PERI_CPU_F16 ? ref_f32_to_f16(x) : ref_f32_to_bf16(x);
    }
    return w;
}

/* Bits, but a NaN is a NaN. */
static void expect_same(const float *want, const float *got, const char *what, const char *isa) {
    for (int i = 0; i < N_TOK * H * DV; i++)
        if (memcmp(&want[i], &got[i], 4) && !(isnan(want[i]) && isnan(got[i])))
            fail_msg("%s, %s: row %d, element %d: %a, not %a", what, isa, i / DV, i % DV,
                     (double)got[i], (double)want[i]);
}

static void check_levels(world *w, const float *want, const char *what) {
    static const int32_t pieces[] = {N_TOK, 1, 2};
    for (uint32_t l = 0; cpu_level_at(l); l++)
        for (int c = 0; c < 3 && cpu_level_at(l)->is_available(); c++) {
            float got[N_TOK * H * DV] = {0};
            attend(w, cpu_level_at(l)->name, pieces[c], got);
            expect_same(want, got, what, cpu_level_at(l)->name);
        }
}

/* ---- numbers of the pool ---- */

/* A token that sees one key only gives its value. */
typedef struct number {
    uint16_t bits;
    float want;
} number;

static void check_numbers(uint16_t dtype, const number *x, int n) {
    world *w = new_world(dtype, N_TOK);
    float want[N_TOK * H * DV], y[N_TOK * H * DV];
    assert_true(n <= DV);
    memset(w->v, 0, sizeof w->v);
    for (int i = 0; i < n; i++)
        w->v[i] = x[i].bits;
    attend(w, "scalar", N_TOK, want);
    for (int i = 0; i < H * n; i++) {
        float got = want[i / n * DV + i % n], expected = x[i % n].want;
        if (memcmp(&got, &expected, 4) && !(isnan(got) && isnan(expected)))
            fail_msg("type %d, 0x%04x: %a, expected %a", dtype, x[i % n].bits, (double)got,
                     (double)expected);
    }
    for (uint32_t l = 0; cpu_level_at(l); l++) {
        if (!cpu_level_at(l)->is_available()) continue;
        attend(w, cpu_level_at(l)->name, 1, y);
        expect_same(want, y, "numbers", cpu_level_at(l)->name);
    }
    free(w);
}

static void numbers_of_f16_are_rounded_to_seven_bits_of_fraction(void **state) {
    static const number x[] = {
        {0x0000, 0.0f},       {0x3c00, 1.0f},      {0xbc00, -1.0f},     {0x3c03, 1.0f},
        {0x3c04, 0x1.02p0f},  {0x3c05, 0x1.02p0f}, {0x3c0b, 0x1.02p0f}, {0x3c0c, 0x1.04p0f},
        {0xbc04, -0x1.02p0f}, /* ties go away from zero */
        {0x3ffb, 0x1.fep0f},  {0x3ffc, 2.0f},      {0x0003, 0.0f},      {0x0004, 0x1p-21f},
        {0x8004, -0x1p-21f},  {0x03ff, 0x1p-14f},  {0x0400, 0x1p-14f},  {0x7bfb, 65280.0f},
        {0x7bfc, INFINITY},   {0xfbfc, -INFINITY}, {0x7c00, INFINITY},  {0xfc00, -INFINITY},
        {0x7e00, NAN},        {0xfe00, NAN},       {0xffff, NAN},
    };
    (void)state;
    check_numbers(PERI_CPU_F16, x, sizeof x / sizeof *x);
}

static void numbers_of_bf16_are_taken_as_they_are_down_to_the_least(void **state) {
    static const number x[] = {
        {0x0000, 0.0f},     {0x3f80, 1.0f},        {0x3f81, 0x1.02p0f}, {0xbfff, -0x1.fep0f},
        {0x2680, 0x1p-50f}, {0xa680, -0x1p-50f},   {0x267f, 0.0f},      {0xa67f, 0.0f},
        {0x0001, 0.0f},     {0x7f7f, 0x1.fep127f}, {0x7f80, INFINITY},  {0xff80, -INFINITY},
        {0x7fc0, NAN},      {0xffff, NAN},
    };
    (void)state;
    check_numbers(PERI_CPU_BF16, x, sizeof x / sizeof *x);
}

/* ---- sums ---- */

static double rounded(double x) { /* to bf16, ties to even */
    int e;
    double m = frexp(x, &e);
    return x == 0 ? 0 : ldexp(rint(m * 256), e - 8);
}
static double of_pool(uint16_t dtype, uint16_t bits) {
    float x;
    if (dtype == PERI_CPU_F16) return (double)ref_f16_to_f32((uint16_t)((bits + 4) & 0xfff8));
    ref_dequant_row(dtype, &bits, &x, 1);
    return (double)x;
}

/* Keys lo .. hi - 1, one chunk, join the row's m, l and o. */
static void expect_chunk(const world *w, const float *q, int32_t lo, int32_t hi, double *m,
                         double *l, double *o) {
    double z[CHUNK], top = -INFINITY, sum = 0, part[DV] = {0};
    for (int32_t j = lo; j < hi; j++) {
        z[j - lo] = 0;
        for (int i = 0; i < D; i++)
            z[j - lo] += rounded((double)q[i]) * of_pool(w->dtype, w->k[j * D + i]);
        z[j - lo] *= (double)w->scale;
        top = fmax(top, z[j - lo]);
    }
    for (int32_t j = lo; j < hi; j++) {
        double p = rounded(exp(z[j - lo] - top));
        sum += p;
        for (int i = 0; i < DV; i++)
            part[i] += p * of_pool(w->dtype, w->v[j * DV + i]);
    }
    double both = fmax(*m, top), old = exp(*m - both), new = exp(top - both);
    *m = both;
    *l = *l * old + sum * new;
    for (int i = 0; i < DV; i++)
        o[i] = o[i] * old + part[i] * new;
}

static void expect(const world *w, double *y) {
    for (int32_t r = 0; r < N_TOK * H; r++) {
        int32_t end = w->n_key - N_TOK + r / H + 1;
        double m = -INFINITY, l = 0, o[DV] = {0};
        for (int32_t lo = 0; lo < end; lo += CHUNK)
            expect_chunk(w, w->q + r * D, lo, end < lo + CHUNK ? end : lo + CHUNK, &m, &l, o);
        for (int i = 0; i < DV; i++)
            y[r * DV + i] = o[i] / l;
    }
}

/* Rows agree as f32 sums do, 4e-14 at most, but where f32 puts a weight on the other side of a tie:
 * then it is off by 2^-8 of itself.  A factor that is not rounded, or otherwise, shows in all rows.
 */
static void products_are_those_of_rounded_factors(void **state) {
    static const uint16_t types[] = {PERI_CPU_F16, PERI_CPU_BF16};
    static double want[N_TOK * H * DV];
    static float y[N_TOK * H * DV];
    (void)state;
    for (int i = 0; i < 2; i++) {
        world *w = new_world(types[i], CTX);
        int n_near = 0;
        expect(w, want);
        attend(w, "scalar", N_TOK, y);
        for (int r = 0; r < N_TOK * H; r++) {
            prog_error e = prog_nmse(y + r * DV, want + r * DV, 1, DV);
            n_near += e.all <= 1e-12;
            if (!(e.all <= 1e-5)) fail_msg("type %d, row %d: NMSE %g", types[i], r, e.all);
        }
        if (n_near < N_TOK * H / 2) fail_msg("type %d: %d rows agree", types[i], n_near);
        check_levels(w, y, "rounded factors");
        free(w);
    }
}

/* With queries of 0 all weights are 1, and what is left are the sums of values: in each chunk steps
 * of 32 keys, the even ones in a chain of their own. */
static void sums_go_in_steps_of_two_chains(void **state) {
    float y[N_TOK * H * DV];
    (void)state;
    world *w = new_world(PERI_CPU_BF16, CTX);
    memset(w->q, 0, sizeof w->q);
    attend(w, "scalar", N_TOK, y);
    for (int i = 0; i < N_TOK * DV; i++) {
        int32_t end = CTX - N_TOK + i / DV + 1;
        float total = 0;
        for (int32_t lo = 0; lo < end; lo += CHUNK) {
            float sum = 0;
            for (int32_t step = lo; step < lo + CHUNK; step += 32) {
                float chain[2] = {0, 0};
                for (int32_t j = step; j < step + 32 && j < end; j++) {
                    float x;
                    ref_dequant_row(PERI_CPU_BF16, &w->v[j * DV + i % DV], &x, 1);
                    chain[j % 2] += x;
                }
                sum += chain[0] + chain[1];
            }
            total += sum;
        }
        float want = total / (float)end, got = y[i / DV * H * DV + i % DV];
        if (memcmp(&want, &got, 4))
            fail_msg("token %d, element %d: %a, not %a", i / DV, i % DV, (double)got, (double)want);
    }
    check_levels(w, y, "sums");
    free(w);
}

/* Queries without bounds: what is rounded must not overflow on its way. */
static void queries_of_any_size_give_the_same_bits(void **state) {
    static const float odd[] = {0x1p-51f,     0x1p-149f, 0x1.fffffep127f, INFINITY,
                                -0x1.fep127f, 0x1p111f,  -INFINITY,       NAN};
    (void)state;
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        world *w = new_world(i % 2 ? PERI_CPU_F16 : PERI_CPU_BF16, CTX);
        float want[N_TOK * H * DV];
        for (int r = 0; r < N_TOK * H; r += 3)
            w->q[r * D + r] = odd[i];
        attend(w, "scalar", N_TOK, want);
        for (int k = 0; k < DV && isnan(odd[i]); k++)
            assert_true(isnan(want[k]));
        check_levels(w, want, "odd queries");
        free(w);
    }
}

/* Two keys lie in one lane: the value of the next one, which the row does not see, must not enter.
 */
static void values_that_a_row_does_not_see_do_not_touch_it(void **state) {
    (void)state;
    for (int32_t n_key = CTX - 1; n_key <= CTX; n_key++) {
        world *w = new_world(PERI_CPU_F16, n_key);
        float want[N_TOK * H * DV], got[N_TOK * H * DV];
        attend(w, "scalar", N_TOK, want);
        for (int i = 0; i < DV; i++)
            w->v[(n_key - 1) * DV + i] = i % 2 ? 0x7c00 : 0xfe00;
        attend(w, "scalar", N_TOK, got);
        for (int i = 0; i < (N_TOK - 1) * H * DV; i++)
            assert_memory_equal(&want[i], &got[i], 4);
        for (int i = (N_TOK - 1) * H * DV; i < N_TOK * H * DV; i++)
            assert_false(isfinite(got[i]));
        check_levels(w, got, "an infinite neighbour");
        free(w);
    }
}

/* ---- the self-test ---- */

/* attn_scalar, but for one result in its last place. */
static void wrong_chunk(const attn_chunk *c, attn_row *row, const attn_part *part,
                        const attn_part *total, const attn_space *a) {
    attn_scalar.chunk(c, row, part, total, a);
    if (!total) part->o[1] = nextafterf(part->o[1], 9.0f);
}

static void the_self_test_finds_other_products(void **state) {
    char why[96] = "";
    attn_isa wrong = attn_scalar;
    (void)state;
    wrong.chunk = wrong_chunk;
    assert_true(attn_self_test(&attn_scalar, &attn_scalar, why));
    assert_false(attn_self_test(&wrong, &attn_scalar, why));
    assert_non_null(strstr(why, "attention, type 1, row 0 of 2"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_f16_are_rounded_to_seven_bits_of_fraction),
        cmocka_unit_test(numbers_of_bf16_are_taken_as_they_are_down_to_the_least),
        cmocka_unit_test(products_are_those_of_rounded_factors),
        cmocka_unit_test(sums_go_in_steps_of_two_chains),
        cmocka_unit_test(queries_of_any_size_give_the_same_bits),
        cmocka_unit_test(values_that_a_row_does_not_see_do_not_touch_it),
        cmocka_unit_test(the_self_test_finds_other_products),
    };
    return peri_run_tests(tests);
}
