/* SPDX-License-Identifier: MIT
 *
 * test_cpu_attn_split.c - a token alone in its step, whose keys are split over the workers, gets
 * the bits it gets beside others, on every level: for contexts of several waves of chunks, for many
 * tokens in one wave, with tokens that see nothing in between. */
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "kernels.h"
#include "op_case.h"
#include "ref.h"

enum { H = 6, G = 3, D = 16, DV = 24, B = 64, BLOCKS = 280, CTX = BLOCKS * B, N_SEQ = 3 };
_Static_assert(CTX > 68 * 256 && (int)BLOCKS <= (int)PROG_MAX_TABLE,
               "more chunks than a wave holds");

typedef struct world {
    uint16_t *k, *v; /* f16 [BLOCKS][B][G][D], [BLOCKS][B][G][DV] */
    float q[PROG_MAX_TOKENS * H * D], sink[H];
    peri_attn_attr attr;
} world;

static world *new_world(void) {
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->k = malloc(sizeof *w->k * CTX * G * D);
    w->v = malloc(sizeof *w->v * CTX * G * DV);
    assert_non_null(w->k);
    assert_non_null(w->v);
    for (int32_t i = 0; i < CTX * G * D; i++)
        w->k[i] = ref_f32_to_f16(prog_random(1, (uint64_t)i) * 2);
    for (int32_t i = 0; i < CTX * G * DV; i++)
        w->v[i] = ref_f32_to_f16(prog_random(2, (uint64_t)i));
    prog_fill(w->q, PROG_MAX_TOKENS * H * D, 3, 1);
    prog_fill(w->sink, H, 4, 1);
    w->attr = (peri_attn_attr){.size = sizeof w->attr, .scale = 0.4f};
    return w;
}

static void free_world(world *w) {
    free(w->k);
    free(w->v);
    free(w);
}

/* Query rows t0 .. t0 + n - 1 at positions pos[], of sequences seq[] that all hold the same keys.
 */
static void attend(world *w, peri_dev *d, int32_t n, const int32_t *pos, const int32_t *seq,
                   const int32_t *row, float *y) {
    static float q[PROG_MAX_TOKENS * H * D], out[PROG_MAX_TOKENS * H * DV];
    peri_error e = {0};
    prog *p = prog_new(d, n);
    p->n[PERI_SYM_S] = N_SEQ;
    p->n[PERI_SYM_B] = PROG_MAX_TABLE / N_SEQ;
    int32_t held = p->n[PERI_SYM_B] * B;
    if (n == 1 || (n == 2 && seq[0] == seq[1])) { /* one sequence may hold all */
        p->n[PERI_SYM_S] = 1;
        p->n[PERI_SYM_B] = BLOCKS;
        held = CTX;
    }
    for (int32_t s = 0; s < p->n[PERI_SYM_S]; s++) {
        p->ctx[s] = held;
        for (int32_t b = 0; b < p->n[PERI_SYM_B]; b++)
            p->table[s * p->n[PERI_SYM_B] + b] = b;
    }
    for (int32_t t = 0; t < n; t++) {
        p->pos[t] = pos[t];
        p->seq[t] = p->n[PERI_SYM_S] == 1 ? 0 : seq[t];
        memcpy(q + t * H * D, w->q + row[t] * H * D, sizeof *q * H * D);
    }
    p->code = PERI_OP_ATTN;
    prog_in(p, DIMS(1, -PERI_SYM_T, H, D), q, 0);
    prog_pool(p, PERI_CPU_F16, DIMS(BLOCKS, B, G, D), w->k);
    prog_pool(p, PERI_CPU_F16, DIMS(BLOCKS, B, G, DV), w->v);
    prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, H), w->sink);
    prog_out(p, PERI_CPU_F32, DIMS(1, -PERI_SYM_T, H, DV), 0);
    prog_attr(p, &w->attr, sizeof w->attr);
    assert_ok(prog_run(p, &e), e);
    prog_get(p, 0, out);
    for (int32_t t = 0; t < n; t++)
        memcpy(y + row[t] * H * DV, out + t * H * DV, sizeof *out * H * DV);
    prog_free(p);
}

static void expect_same(const float *want, const float *got, int32_t n, const char *what,
                        const char *isa) {
    for (int32_t i = 0; i < n * H * DV; i++)
        if (memcmp(&want[i], &got[i], sizeof *want))
            fail_msg("%s, %s: row %d, element %d: %a and %a", what, isa, (int)(i / (H * DV)),
                     (int)(i % (H * DV)), (double)want[i], (double)got[i]);
}

/* 69 chunks: a token alone takes two waves; two tokens of one sequence are a tile. */
static void a_long_context_gives_the_same_bits_alone_and_in_a_tile(void **state) {
    static float want[2 * H * DV], got[2 * H * DV], exact[2 * H * DV];
    static const int32_t pos[] = {CTX - 2, CTX - 1}, seq[] = {0, 0}, row[] = {0, 1};
    (void)state;
    world *w = new_world();
    static const uint32_t workers[] = {1, 2, 5};
    peri_dev *d = open_cpu("reference", 1);
    attend(w, d, 2, pos, seq, row, exact);
    close_cpu(d);
    d = open_cpu("scalar", 2);
    attend(w, d, 2, pos, seq, row, want);
    close_cpu(d);
    double x[2 * H * DV];
    for (int i = 0; i < 2 * H * DV; i++)
        x[i] = (double)exact[i];
    prog_error e = prog_nmse(want, x, 2 * H, DV);
    if (!(e.all <= 2e-5)) fail_msg("NMSE %g", e.all); /* factors are rounded to bf16 */
    for (uint32_t l = 0; cpu_level_at(l); l++) {
        for (uint32_t i = 0; i < 3 && cpu_level_at(l)->is_available(); i++) {
            d = open_cpu(cpu_level_at(l)->name, workers[i]);
            memset(got, 0, sizeof got);
            attend(w, d, 1, pos, seq, row, got);
            attend(w, d, 1, pos + 1, seq, row + 1, got);
            expect_same(want, got, 2, "alone", cpu_level_at(l)->name);
            memset(got, 0, sizeof got);
            attend(w, d, 2, pos, seq, row, got);
            expect_same(want, got, 2, "a tile", cpu_level_at(l)->name);
            close_cpu(d);
        }
    }
    free_world(w);
}

/* 60 tokens of three sequences by turns, so all alone, together and one by one; every third sees
 * nothing (its position lies past the keys, and the window is short of them). */
static void check_many_tokens(int32_t window) {
    enum { N = 60, TIMES = 8 }; /* workers that disturb each other do so now and then */
    static float want[N * H * DV], got[N * H * DV];
    int32_t pos[N], seq[N], row[N];
    world *w = new_world();
    int32_t held = PROG_MAX_TABLE / N_SEQ * B;
    w->attr.window = window;
    for (int32_t t = 0; t < N; t++) {
        seq[t] = t % N_SEQ;
        pos[t] = t % 3 == 1 ? held + window + t : (t * 977 + 13) % held;
        row[t] = t;
    }
    peri_dev *d = open_cpu("scalar", 1);
    attend(w, d, N, pos, seq, row, want);
    for (int32_t t = 1; t < N; t += 3)
        for (int i = 0; i < H * DV; i++)
            assert_float_equal(want[t * H * DV + i], 0, 0);
    close_cpu(d);
    for (uint32_t l = 0; cpu_level_at(l); l++) {
        if (!cpu_level_at(l)->is_available()) continue;
        d = open_cpu(cpu_level_at(l)->name, 2);
        for (int i = 0; i < TIMES; i++) {
            memset(got, 0, sizeof got);
            attend(w, d, N, pos, seq, row, got);
            expect_same(want, got, N, "together", cpu_level_at(l)->name);
        }
        memset(got, 0, sizeof got);
        for (int32_t t = 0; t < N; t += 3)
            attend(w, d, 3, pos + t, seq + t, row + t, got);
        expect_same(want, got, N, "by threes", cpu_level_at(l)->name);
        close_cpu(d);
    }
    free_world(w);
}

static void many_tokens_of_one_step_get_the_bits_of_their_own_steps(void **state) {
    (void)state;
    check_many_tokens(700);
}
static void tokens_of_one_chunk_are_not_disturbed_by_those_that_see_nothing(void **state) {
    (void)state;
    check_many_tokens(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_context_gives_the_same_bits_alone_and_in_a_tile),
        cmocka_unit_test(many_tokens_of_one_step_get_the_bits_of_their_own_steps),
        cmocka_unit_test(tokens_of_one_chunk_are_not_disturbed_by_those_that_see_nothing),
    };
    return peri_run_tests(tests);
}
