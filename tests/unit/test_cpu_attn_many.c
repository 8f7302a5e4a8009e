/* SPDX-License-Identifier: MIT
 *
 * test_cpu_attn_many.c - prompts over pools of F16 and BF16: rows that fill blocks of tiles and
 * parts of them, and see other keys each, have on every level the bits of the scalar level and of
 * the same tokens alone (attn_amx.c, attn_values.h). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fast.h"
#include "harness.h"
#include "kernels.h"
#include "op_case.h"
#include "ref.h"

enum { B = 16, BLOCKS = 36, HEADS_MAX = 4, D_MAX = 136, N_KEY = 565, N_TOK = 61 };

typedef struct shape {
    const char *name;
    int64_t n_head, n_kv_head, dk, dv;
    peri_attn_attr attr;
    int has_sinks;
} shape;

typedef struct world {
    shape is;
    uint16_t dtype;
    uint16_t k[BLOCKS * B * HEADS_MAX * D_MAX], v[BLOCKS * B * HEADS_MAX * D_MAX];
    float q[N_TOK * HEADS_MAX * D_MAX], sink[HEADS_MAX];
} world;

/* The last tokens ask, n of them a step. */
static void attend(world *w, const char *isa, int32_t n, float *y) {
    const shape *u = &w->is;
    peri_dev *d = open_cpu(isa, 2);
    for (int32_t t0 = 0; t0 < N_TOK; t0 += n) {
        peri_error e = {0};
        int32_t n_tok = N_TOK - t0 < n ? N_TOK - t0 : n;
        prog *p = prog_new(d, n_tok);
        p->code = PERI_OP_ATTN;
        p->n[PERI_SYM_B] = BLOCKS;
        prog_in(p, DIMS(1, -PERI_SYM_T, u->n_head, u->dk), w->q + t0 * u->n_head * u->dk, 0);
        prog_pool(p, w->dtype, DIMS(BLOCKS, B, u->n_kv_head, u->dk), w->k);
        prog_pool(p, w->dtype, DIMS(BLOCKS, B, u->n_kv_head, u->dv), w->v);
        prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, u->n_head), u->has_sinks ? w->sink : NULL);
        prog_out(p, PERI_CPU_F32, DIMS(1, -PERI_SYM_T, u->n_head, u->dv), 0);
        prog_attr(p, &u->attr, sizeof u->attr);
        for (int32_t t = 0; t < n_tok; t++)
            p->pos[t] = N_KEY - N_TOK + t0 + t;
        p->ctx[0] = N_KEY;
        for (int32_t b = 0; b < BLOCKS; b++)
            p->table[b] = (b * 7 + 3) % BLOCKS;
        assert_ok(prog_run(p, &e), e);
        prog_get(p, 0, y + t0 * u->n_head * u->dv);
        prog_free(p);
    }
    close_cpu(d);
}

/* n numbers of about `size`; what no key is in are NaNs. */
static void fill(uint16_t dtype, uint16_t *x, int64_t n, uint64_t seed, float size) {
    for (int64_t i = 0; i < n; i++) {
        float f = prog_random(seed, (uint64_t)i) * size;
        x[i] = dtype == PERI_CPU_F16 ? ref_f32_to_f16(f) : ref_f32_to_bf16(f);
    }
}
static uint16_t *row_of(uint16_t *x, int32_t key, int64_t width) {
    return x + ((key / B * 7 + 3) % BLOCKS * B + key % B) * width;
}

static world *new_world(const shape *is, uint16_t dtype) {
    world *w = malloc(sizeof *w);
    assert_non_null(w);
    w->is = *is;
    w->is.attr.size = sizeof w->is.attr;
    w->dtype = dtype;
    memset(w->k, 0xff, sizeof w->k);
    memset(w->v, 0xff, sizeof w->v);
    prog_fill(w->q, N_TOK * is->n_head * is->dk, 1, 1);
    prog_fill(w->sink, HEADS_MAX, 4, 2);
    int64_t k = is->n_kv_head * is->dk, v = is->n_kv_head * is->dv;
    for (int32_t key = 0; key < N_KEY; key++) {
        fill(dtype, row_of(w->k, key, k), k, 1000 + (uint64_t)key, 2);
        fill(dtype, row_of(w->v, key, v), v, 9000 + (uint64_t)key, 1);
    }
    return w;
}

static void check_levels(world *w) {
    static float want[N_TOK * HEADS_MAX * D_MAX], got[N_TOK * HEADS_MAX * D_MAX];
    static const int32_t pieces[] = {N_TOK, 19, 1};
    int64_t n = N_TOK * w->is.n_head * w->is.dv;
    attend(w, "scalar", N_TOK, want);
    for (uint32_t l = 0; cpu_level_at(l); l++)
        for (int c = 0; c < 3 && cpu_level_at(l)->is_available(); c++) {
            if (c && !strcmp(cpu_level_at(l)->name, "scalar")) continue;
            attend(w, cpu_level_at(l)->name, pieces[c], got);
            for (int64_t i = 0; i < n; i++)
                if (memcmp(&want[i], &got[i], 4) && !(isnan(want[i]) && isnan(got[i])))
                    fail_msg("%s, type %d, %s, %d tokens: token %d, element %d: %a, not %a",
                             w->is.name, w->dtype, cpu_level_at(l)->name, pieces[c],
                             (int)(i / w->is.n_head / w->is.dv),
                             (int)(i % (w->is.n_head * w->is.dv)), (double)got[i], (double)want[i]);
        }
}

static const uint16_t types[] = {PERI_CPU_F16, PERI_CPU_BF16};

static void prompts_of_any_shape_have_the_same_bits(void **state) {
    static const shape shapes[] = {
        {"whole tiles", 2, 1, 64, 64, {.scale = 0.3f}, 0},
        {"blocks and parts of them", 4, 2, 120, 56, {.scale = 0.2f}, 1},
        {"odd widths", 3, 1, 37, 11, {.scale = 0.3f}, 0},
        {"wide", 1, 1, 136, 132, {.scale = 0.2f}, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes * 2; i++) {
        world *w = new_world(&shapes[i / 2], types[i % 2]);
        check_levels(w);
        free(w);
    }
}

/* Rows that see no key of a chunk or of a step, and all that changes a logit. */
static void prompts_that_see_some_keys_have_the_same_bits(void **state) {
    static const shape shapes[] = {
        {"window", 2, 1, 48, 32, {.scale = 0.3f, .window = 41}, 0},
        {"window of one", 1, 1, 32, 16, {.scale = 0.3f, .window = 1}, 1},
        {"long window", 2, 2, 32, 40, {.scale = 0.3f, .window = 300}, 0},
        {"chunks", 2, 1, 32, 32, {.scale = 0.3f, .chunk = 100}, 0},
        {"all", 2, 1, 32, 32, {.scale = 0.3f, .flags = PERI_ATTN_NOT_CAUSAL}, 0},
        {"cap", 2, 1, 32, 32, {.scale = 1, .cap = 2.5f}, 0},
        {"alibi", 4, 2, 32, 32, {.scale = 0.3f, .alibi_max = 8}, 0},
        {"negative", 2, 1, 32, 32, {.scale = -0.3f}, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        world *w = new_world(&shapes[i], types[i % 2]);
        check_levels(w);
        free(w);
    }
}

/* Only rows that see such a value have its like, whoever shares their tile. */
static void values_that_are_not_finite_touch_who_sees_them(void **state) {
    static const shape is = {"infinite", 2, 1, 32, 48, {.scale = 0.3f}, 0};
    static float y[N_TOK * HEADS_MAX * D_MAX];
    static const int32_t keys[] = {N_KEY - 40, N_KEY - 39, N_KEY - 1};
    (void)state;
    for (int i = 0; i < 6; i++) {
        world *w = new_world(&is, types[i % 2]);
        int32_t key = keys[i / 2];
        row_of(w->v, key, is.dv)[5] = types[i % 2] == PERI_CPU_F16 ? 0x7c00 : 0xff80;
        attend(w, "scalar", N_TOK, y);
        for (int32_t t = 0; t < N_TOK; t++)
            for (int64_t e = 0; e < is.n_head * is.dv; e++)
                assert_int_equal(isfinite(y[t * is.n_head * is.dv + e]) != 0,
                                 e % is.dv != 5 || N_KEY - N_TOK + t < key);
        check_levels(w);
        free(w);
    }
}

/* Logits that are -infinity, or NaN, on some rows. */
static void keys_and_queries_of_any_size_have_the_same_bits(void **state) {
    static const shape is = {"odd", 2, 1, 40, 16, {.scale = 0.3f}, 0};
    (void)state;
    for (int i = 0; i < 4; i++) {
        world *w = new_world(&is, types[i % 2]);
        for (int32_t t = 0; t < N_TOK; t += 9)
            w->q[t * is.n_head * is.dk + t % 40] = i < 2 ? 0x1.8p101f : NAN;
        row_of(w->k, N_KEY - 50, is.dk)[3] = types[i % 2] == PERI_CPU_F16 ? 0xfc00 : 0xff80;
        for (int32_t key = 256; key < 512; key++)
            for (int e = 0; e < is.dk && i % 2; e++)
                row_of(w->k, key, is.dk)[e] = 0x0001;
        check_levels(w);
        free(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_of_any_shape_have_the_same_bits),
        cmocka_unit_test(prompts_that_see_some_keys_have_the_same_bits),
        cmocka_unit_test(values_that_are_not_finite_touch_who_sees_them),
        cmocka_unit_test(keys_and_queries_of_any_size_have_the_same_bits),
    };
    return peri_run_tests(tests);
}
