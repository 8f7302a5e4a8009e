/* SPDX-License-Identifier: MIT
 *
 * Random numbers and the sampling chain: known answers of Philox, order of ties, each cut, and the
 * drawn distribution. */
#include "harness.h"

#include <math.h>

#include "run/rng.h"
#include "run/sampler.h"

/* Known answers.  Source: Random123 distribution, kat_vectors, "philox4x32 10". */
static void philox_gives_the_published_answers(void **state) {
    (void)state;
    static const struct {
        uint32_t c[4], k[2], out[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof kat[0]; i++) {
        uint32_t out[4];
        peri_philox(kat[i].c, kat[i].k, out);
        for (int j = 0; j < 4; j++)
            assert_int_equal(out[j], kat[i].out[j]);
    }
}

static void random_depends_on_every_part_of_its_key(void **state) {
    (void)state;
    double x = peri_random(1, 2, 3, 4);
    assert_true(x >= 0 && x < 1);
    assert_true(x == peri_random(1, 2, 3, 4));
    assert_true(x != peri_random(2, 2, 3, 4));
    assert_true(x != peri_random(1, 3, 3, 4));
    assert_true(x != peri_random(1, 2, 4, 4));
    assert_true(x != peri_random(1, 2, 3, 5));
    assert_true(x != peri_random(1ull << 32 | 1, 2, 3, 4));
}

static int32_t pick(const peri_sampling *s, const float *logits, int32_t n, uint32_t position) {
    peri_sampler_vocab v = {.n_vocab = n};
    peri_sampler *x;
    peri_error err;
    int32_t id;
    assert_ok(peri_sampler_new(s, &v, &x, &err), err);
    assert_ok(peri_sampler_pick(x, logits, NULL, (int32_t)position, &id, &err), err);
    peri_sampler_free(x);
    return id;
}

static void greedy_breaks_ties_by_the_lower_id(void **state) {
    (void)state;
    const float logits[] = {1, 5, NAN, 5, -3, 5};
    peri_sampling s = {0};
    assert_int_equal(pick(&s, logits, 6, 0), 1);
}

static void top_k_keeps_ties_by_the_lower_id(void **state) {
    (void)state;
    const float logits[] = {2, 3, 3, 2, 2, 1};
    peri_sampling s = {.temp = 1, .top_k = 3, .seed = 7};
    int seen[6] = {0};
    for (uint32_t p = 0; p < 400; p++)
        seen[pick(&s, logits, 6, p)]++;
    assert_true(seen[0] && seen[1] && seen[2]);
    assert_int_equal(seen[3] + seen[4] + seen[5], 0);
}

static void top_p_and_min_p_cut_where_the_formula_says(void **state) {
    (void)state;
    float logits[4]; /* probabilities 0.5 0.3 0.15 0.05 */
    const double prob[] = {0.5, 0.3, 0.15, 0.05};
    for (int i = 0; i < 4; i++)
        logits[i] = (float)log(prob[i]);
    peri_sampling p80 = {.temp = 1, .top_p = 0.79f}, m40 = {.temp = 1, .min_p = 0.4f};
    int seen_p[4] = {0}, seen_m[4] = {0};
    for (uint32_t p = 0; p < 500; p++) {
        seen_p[pick(&p80, logits, 4, p)]++;
        seen_m[pick(&m40, logits, 4, p)]++;
    }
    assert_true(seen_p[0] && seen_p[1]);
    assert_int_equal(seen_p[2] + seen_p[3], 0);
    assert_true(seen_m[0] && seen_m[1]);
    assert_int_equal(seen_m[2] + seen_m[3], 0);
}

static void draws_follow_the_tempered_distribution(void **state) {
    (void)state;
    enum { N = 40000 };
    const float logits[] = {0, 1, 2};
    peri_sampling s = {.temp = 2, .seed = 11};
    double want[3], sum = 0, chi2 = 0;
    int seen[3] = {0};
    for (int i = 0; i < 3; i++)
        sum += want[i] = exp((double)logits[i] / 2);
    for (uint32_t p = 0; p < N; p++)
        seen[pick(&s, logits, 3, p)]++;
    for (int i = 0; i < 3; i++)
        chi2 += pow(seen[i] - N * want[i] / sum, 2) / (N * want[i] / sum);
    assert_true(chi2 < 13.8); /* 2 degrees of freedom, p = 0.001; the draws are fixed by the seed */
}

static void logits_that_are_no_numbers_are_an_error(void **state) {
    (void)state;
    const float logits[] = {NAN, NAN}, inf[] = {1, INFINITY};
    peri_sampler_vocab v = {.n_vocab = 2};
    peri_sampler *s;
    peri_error err;
    int32_t id;
    assert_ok(peri_sampler_new(&(peri_sampling){0}, &v, &s, &err), err);
    assert_int_equal(peri_sampler_pick(s, logits, NULL, 5, &id, &err), PERI_E_OTHER);
    assert_error(&err, PERI_E_OTHER, "position 5");
    assert_int_equal(peri_sampler_pick(s, inf, NULL, 5, &id, &err), PERI_E_OTHER);
    peri_sampler_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(random_depends_on_every_part_of_its_key),
        cmocka_unit_test(greedy_breaks_ties_by_the_lower_id),
        cmocka_unit_test(top_k_keeps_ties_by_the_lower_id),
        cmocka_unit_test(top_p_and_min_p_cut_where_the_formula_says),
        cmocka_unit_test(draws_follow_the_tempered_distribution),
        cmocka_unit_test(logits_that_are_no_numbers_are_an_error),
    };
    return peri_run_tests(tests);
}
