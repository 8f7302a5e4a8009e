/* SPDX-License-Identifier: MIT
 *
 * test_cpu_attn_kv.c - every type of keys and values, for one to five query heads per key head:
 * what KV_APPEND stores are the same bytes on every level, and what ATTN reads from them the same
 * bits, one token alone, in tiles and on every level.  Blocks of zeros, of numbers too small for a
 * scale, and with a NaN or an infinity are among them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "kernels.h"
#include "op_case.h"
#include "ref.h"

enum { G = 2, DK = 64, DV = 32, B = 16, BLOCKS = 24, N_TOK = 24, CTX = BLOCKS * B, HEADS_MAX = 10 };

static const uint32_t types[] = {PERI_CPU_F32, PERI_CPU_F16, PERI_CPU_BF16, PERI_CPU_Q8_0,
                                 PERI_CPU_Q4_0};
enum { N_TYPE = sizeof types / sizeof *types };

/* Factors rounded to bf16: 7e-6 measured.  What they are rounded to: test_cpu_attn_half.c. */
static const double HALF = 2e-5;

typedef struct pools {
    uint8_t k[CTX * G * DK * 4], v[CTX * G * DV * 4];
} pools;

/* Keys and values of all positions go in by KV_APPEND. */
static void append_all(peri_dev *d, uint32_t dtype, const float *k, const float *v, pools *out) {
    for (int32_t t0 = 0; t0 < CTX; t0 += N_TOK) {
        peri_error e = {0};
        prog *p = prog_new(d, N_TOK);
        p->code = PERI_OP_KV_APPEND;
        prog_in(p, DIMS(1, -PERI_SYM_T, G, DK), k + t0 * G * DK, 0);
        prog_in(p, DIMS(1, -PERI_SYM_T, G, DV), v + t0 * G * DV, 0);
        prog_pool(p, dtype, DIMS(BLOCKS, B, G, DK), out->k);
        prog_pool(p, dtype, DIMS(BLOCKS, B, G, DV), out->v);
        for (int32_t t = 0; t < N_TOK; t++)
            p->slot[t] = t0 + t;
        assert_ok(prog_run(p, &e), e);
        prog_free(p);
    }
}

/* The last N_TOK positions ask, n tokens a step. */
static void attend(peri_dev *d, uint32_t dtype, int64_t n_head, int32_t n, pools *kv, float *y) {
    static float q[N_TOK * HEADS_MAX * DK];
    peri_attn_attr a = {.size = sizeof a, .scale = 0.11f};
    prog_fill(q, N_TOK * n_head * DK, 7, 1);
    for (int32_t t0 = 0; t0 < N_TOK; t0 += n) {
        peri_error e = {0};
        prog *p = prog_new(d, n);
        p->code = PERI_OP_ATTN;
        p->n[PERI_SYM_B] = BLOCKS;
        prog_in(p, DIMS(1, -PERI_SYM_T, n_head, DK), q + t0 * n_head * DK, 0);
        prog_pool(p, dtype, DIMS(BLOCKS, B, G, DK), kv->k);
        prog_pool(p, dtype, DIMS(BLOCKS, B, G, DV), kv->v);
        prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
        prog_out(p, PERI_CPU_F32, DIMS(1, -PERI_SYM_T, n_head, DV), 0);
        prog_attr(p, &a, sizeof a);
        for (int32_t t = 0; t < n; t++)
            p->pos[t] = CTX - N_TOK + t0 + t;
        p->ctx[0] = CTX - N_TOK + t0 + n;
        for (int32_t b = 0; b < BLOCKS; b++)
            p->table[b] = b;
        assert_ok(prog_run(p, &e), e);
        prog_get(p, 0, y + t0 * n_head * DV);
        prog_free(p);
    }
}

typedef struct world {
    float k[CTX * G * DK], v[CTX * G * DV];
    pools want, got;
} world;

/* Numbers of many sizes; the hard blocks lie in the first keys. */
static world *new_world(int has_hard_blocks) {
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    prog_fill(w->k, CTX * G * DK, 1, 2);
    prog_fill(w->v, CTX * G * DV, 2, 1);
    for (int i = 0; i < CTX * G * DV; i += 7)
        w->v[i] *= 9;
    for (int i = 0; i < 32 && has_hard_blocks; i++) {
        w->k[i] = 0;
        w->k[32 + i] *= 1e-38f;
        w->k[64 + i] *= 1e-6f;
        w->k[96 + i] *= 1e30f;
        w->k[128 + i] = i % 2 ? -3.0f : 3.0f;
        w->k[160 + i] = (float)(i - 16) / 2;
        w->v[i] = i == 5 ? NAN : 1;
        w->v[32 + i] = i == 31 ? -INFINITY : 1;
    }
    return w;
}

static void every_level_stores_the_bytes_of_the_reference(void **state) {
    (void)state;
    world *w = new_world(1);
    for (int i = 0; i < N_TYPE; i++) {
        peri_dev *d = open_cpu("reference", 1);
        memset(&w->want, 0xee, sizeof w->want);
        append_all(d, types[i], w->k, w->v, &w->want);
        close_cpu(d);
        for (uint32_t l = 0; cpu_level_at(l); l++) {
            if (!cpu_level_at(l)->is_available()) continue;
            d = open_cpu(cpu_level_at(l)->name, 2);
            memset(&w->got, 0xee, sizeof w->got);
            append_all(d, types[i], w->k, w->v, &w->got);
            close_cpu(d);
            if (memcmp(&w->want, &w->got, sizeof w->want))
                fail_msg("%s, %s: other bytes", cpu_level_at(l)->name,
                         peri_dtype_of(types[i]).name);
        }
    }
    free(w);
}

/* A block by hand: the scale is rounded to f16 only after the codes are made with the exact one. */
static void blocks_hold_what_op_def_says(void **state) {
    static const float x[32] = {
        [0] = 1, [1] = -127, [2] = 0.5f, [3] = 1.5f, [17] = -2.5f, [31] = 64};
    uint8_t q8[34], q4[18];
    (void)state;
    ref_encode_row(PERI_CPU_Q8_0, x, q8, 32);
    assert_int_equal(q8[0] | q8[1] << 8, 0x3c00); /* 127 / 127 */
    assert_int_equal((int8_t)q8[2], 1);
    assert_int_equal((int8_t)q8[3], -127);
    assert_int_equal((int8_t)q8[4], 0); /* ties to even */
    assert_int_equal((int8_t)q8[5], 2);
    assert_int_equal((int8_t)q8[2 + 17], -2);
    assert_int_equal((int8_t)q8[2 + 31], 64);
    ref_encode_row(PERI_CPU_Q4_0, x, q4, 32);
    assert_int_equal(q4[0] | q4[1] << 8, 0x4bf0); /* -127 / -8 = 15.875 */
    assert_int_equal(q4[2] & 15, 8);              /* 1 / 15.875 + 8.5 */
    assert_int_equal(q4[3] & 15, 0);
    assert_int_equal(q4[3] >> 4, 8);
    assert_int_equal(q4[2 + 15] >> 4, 12); /* 64 / 15.875 = 4.03 */
}

static void check_bits(world *w, uint32_t dtype, int64_t n_head, const float *want) {
    static float got[N_TOK * HEADS_MAX * DV];
    static const int32_t pieces[] = {1, 2, N_TOK};
    for (uint32_t l = 0; cpu_level_at(l); l++)
        for (int c = 0; c < 3 && cpu_level_at(l)->is_available(); c++) {
            peri_dev *d = open_cpu(cpu_level_at(l)->name, 1 + (uint32_t)c % 2);
            memset(got, 0, sizeof got);
            attend(d, dtype, n_head, pieces[c], &w->want, got);
            close_cpu(d);
            if (memcmp(want, got, sizeof *got * (size_t)(N_TOK * n_head * DV)))
                fail_msg("%s, %s, %d heads, pieces of %d: other bits", cpu_level_at(l)->name,
                         peri_dtype_of(dtype).name, (int)n_head, (int)pieces[c]);
        }
}

static void every_level_reads_the_same_bits_alone_and_in_tiles(void **state) {
    static float want[N_TOK * HEADS_MAX * DV], exact[N_TOK * HEADS_MAX * DV];
    static double x[N_TOK * HEADS_MAX * DV];
    (void)state;
    world *w = new_world(0);
    for (int i = 0; i < N_TYPE; i++) {
        peri_dev *d = open_cpu("reference", 1);
        append_all(d, types[i], w->k, w->v, &w->want);
        close_cpu(d);
        for (int64_t n_head = G; n_head <= HEADS_MAX; n_head += G) {
            d = open_cpu("reference", 2);
            attend(d, types[i], n_head, N_TOK, &w->want, exact);
            close_cpu(d);
            d = open_cpu("scalar", 2);
            attend(d, types[i], n_head, N_TOK, &w->want, want);
            close_cpu(d);
            for (int64_t k = 0; k < N_TOK * n_head * DV; k++)
                x[k] = (double)exact[k];
            prog_error e = prog_nmse(want, x, N_TOK * n_head, DV);
            double gate = types[i] == PERI_CPU_F16 || types[i] == PERI_CPU_BF16 ? HALF : 1e-10;
            if (!(e.all <= gate) || !(e.worst_row <= 20 * gate))
                fail_msg("%s, %d heads: NMSE %g, %g", peri_dtype_of(types[i]).name, (int)n_head,
                         e.all, e.worst_row);
            check_bits(w, types[i], n_head, want);
        }
    }
    free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_stores_the_bytes_of_the_reference),
        cmocka_unit_test(blocks_hold_what_op_def_says),
        cmocka_unit_test(every_level_reads_the_same_bits_alone_and_in_tiles),
    };
    return peri_run_tests(tests);
}
