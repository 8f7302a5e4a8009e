/* SPDX-License-Identifier: MIT
 *
 * test_cpu_few_amx.c - products of few tokens on tiles (tiled_isa), over emulated ones, give the
 * bits of those by vectors, for every type that has them.  Weights end where their memory does.
 * On a processor without AVX-512 and VNNI, which the level's vectors need, it is skipped. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "amx_emulated.h"
#include "fast.h"
#include "harness.h"
#include "op_case.h"

enum { M_MOST = LINEAR_ROWS * LINEAR_TILED_GROUPS, DTYPES = 256 };

static void *must(void *p) {
    assert_ptr_not_equal(p, NULL);
    return p;
}

/* What a case has besides random weights and activations. */
typedef enum kind { PLAIN, INFINITE_SCALES, LARGEST } kind;

/* Every seventh block's f16 scale, its first two bytes or, of Q3_K and Q6_K, its last, is infinite;
 * or weights and scales of their parts are the largest: all bits but those of the f16 are set, of
 * Q8_0 and of Q6_K's scales only signs, and Q6_K's weights are -32. */
static void change_weights(kind k, const linear_type *t, uint8_t *w, int64_t n_block) {
    static const uint8_t infinity[2] = {0x00, 0x7c};
    int is_last = t->dtype == PERI_CPU_Q3_K || t->dtype == PERI_CPU_Q6_K;
    int at = is_last ? t->block_bytes - 2 : 0;
    for (int64_t b = 0; b < n_block && k != PLAIN; b++) {
        uint8_t *p = w + b * t->block_bytes;
        if (k == INFINITE_SCALES && b % 7 == 3) memcpy(p + at, infinity, 2);
        if (k != LARGEST) continue;
        int is_signed = t->dtype == PERI_CPU_Q8_0, n_f16 = t->min_sub ? 4 : 2;
        memset(is_last ? p : p + n_f16, is_signed ? 0x80 : 0xff, (size_t)(t->block_bytes - n_f16));
        if (t->dtype != PERI_CPU_Q6_K) continue;
        memset(p, 0, 192);
        memset(p + 192, 0x80, 16);
    }
}

static int32_t same_float(float a, float b) {
    return (isnan(a) && isnan(b)) || !memcmp(&a, &b, sizeof a);
}

/* Where sums are results, whole groups are the same numbers there, and nothing else is written. */
static void check_stored(linear_in in, const float *sums) {
    enum { GAP = 3, FIRST = LINEAR_ROWS };
    int32_t m = (int32_t)in.m - FIRST, whole = m > 0 && m % LINEAR_ROWS == 0;
    size_t stride = (size_t)in.m + GAP, n = stride * (size_t)in.n_tok;
    float *y = must(malloc(n * sizeof *y)), untouched = 7;
    float *acc = must(malloc((size_t)((in.m + 15) / 16 * in.n_tok) * LINEAR_ROWS * sizeof *acc));
    for (size_t i = 0; i < n; i++)
        y[i] = untouched;
    in.y = y;
    in.y_stride = stride;
    cpu_isa_avx512amx.enter(in.type);
    if (m > 0)
        assert_int_equal(cpu_isa_avx512amx.tiled->rows(&in, FIRST, m, acc),
                         whole ? LINEAR_STORED : 0);
    cpu_isa_avx512amx.leave();
    for (size_t i = 0; i < n; i++) {
        size_t tok = i / stride, row = i % stride;
        int is_result = whole && row >= FIRST && row < (size_t)in.m;
        size_t at = (row / LINEAR_ROWS * (size_t)in.n_tok + tok) * LINEAR_ROWS + row % LINEAR_ROWS;
        if (!same_float(y[i], is_result ? sums[at] : untouched))
            fail_msg("type %u, %d rows, token %zu, row %zu: %a", in.type->dtype, (int)in.m, tok,
                     row, (double)y[i]);
    }
    free(acc);
    free(y);
}

static void check(const linear_type *t, int32_t m, int64_t n, int32_t n_tok, kind k) {
    const cpu_isa *set = &cpu_isa_avx512amx, *plain = &cpu_isa_avx512vnni;
    int64_t n_block = m * n / t->block, n_kb = n / LINEAR_K;
    int32_t tiled = (n_tok + 15) / 16 * 16;
    uint8_t *w = must(malloc((size_t)(n_block * t->block_bytes)));
    act8 *act = must(aligned_alloc(64, (size_t)(n_kb * tiled) * sizeof *act));
    act8 *rows = must(aligned_alloc(64, (size_t)(n_kb * n_tok) * sizeof *rows));
    float *x = must(malloc((size_t)(n_tok * n) * sizeof *x));
    float *got = must(malloc((size_t)((m + 15) / 16 * n_tok) * LINEAR_ROWS * sizeof *got));
    float want[LINEAR_TILED * LINEAR_ROWS];
    prog_blocks(t->dtype, w, n_block, (uint64_t)(t->dtype + m + n));
    change_weights(k, t, w, n_block);
    prog_fill(x, n_tok * n, 11, 2);
    for (int64_t i = 0; i < n_tok * n && k == LARGEST; i++)
        x[i] = 127;
    memset(act, 0, (size_t)(n_kb * tiled) * sizeof *act);
    linear_in in = {.type = t,
                    .w = w,
                    .row_bytes = (size_t)(n / t->block * t->block_bytes),
                    .m = m,
                    .n = n,
                    .n_tok = n_tok};
    linear_in alone = in;
    in.act = (const uint8_t *)act;
    in.kb_stride = (size_t)tiled * sizeof *act;
    alone.act = (const uint8_t *)rows;
    alone.kb_stride = (size_t)n_tok * sizeof *rows;
    for (int32_t i = 0; i < n_tok; i++) {
        set->quantize(t, x + i * n, n, (uint8_t *)(act + i), in.kb_stride);
        plain->quantize(t, x + i * n, n, (uint8_t *)(rows + i), alone.kb_stride);
    }
    for (int64_t i = 0; i < n_kb * tiled; i += 16)
        set->tiled->arrange(act + i);
    set->enter(t);
    set->tiled->rows(&in, 0, m, got);
    set->leave();
    for (int32_t row = 0; row < m; row += LINEAR_ROWS) {
        int32_t n_row = m - row < LINEAR_ROWS ? m - row : LINEAR_ROWS;
        plain->rows_int(&alone, row, n_row, want);
        for (int32_t i = 0; i < n_tok; i++)
            for (int32_t r = 0; r < n_row; r++) {
                float is = got[(row / LINEAR_ROWS * n_tok + i) * LINEAR_ROWS + r];
                if (!same_float(is, want[i * LINEAR_ROWS + r]))
                    fail_msg("type %u, %d x %lld, kind %d, token %d of %d, row %d: %a, not %a",
                             t->dtype, (int)m, (long long)n, k, i, n_tok, row + r, (double)is,
                             (double)want[i * LINEAR_ROWS + r]);
            }
    }
    check_stored(in, got);
    free(got);
    free(x);
    free(rows);
    free(act);
    free(w);
}

static void few_tokens_on_tiles_are_the_bits_of_vectors(void **state) {
    static const int32_t tokens[] = {1, 12, 16, 17, LINEAR_TILED};
    static const int32_t rows[] = {1, 16, 45, M_MOST};
    int n_type = 0;
    (void)state;
    for (uint32_t dtype = 0; dtype < DTYPES; dtype++) {
        const linear_type *t = linear_type_of(dtype);
        if (!t || !cpu_isa_avx512amx.tiled->has(t)) continue;
        n_type++;
        for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
            for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
                check(t, rows[r], r % 2 ? 256 : 768, tokens[i], PLAIN);
        check(t, 40, 768, 19, INFINITE_SCALES);
        check(t, 40, 1024, 19, LARGEST);
    }
    assert_int_equal(n_type, 7);
}

static void not_for_few_or_many_tokens_nor_part_blocks(void **state) {
    const linear_type *t = linear_type_of(PERI_CPU_Q4_0);
    (void)state;
    for (int i = 0; i < 3; i++) { /* three quarters of the lanes have tokens */
        assert_false(linear_is_tiled(&cpu_isa_avx512amx, t, 512, 16 * i + 1));
        assert_false(linear_is_tiled(&cpu_isa_avx512amx, t, 512, 12 * (i + 1) - 1));
        assert_true(linear_is_tiled(&cpu_isa_avx512amx, t, 512, 12 * (i + 1)));
        assert_true(linear_is_tiled(&cpu_isa_avx512amx, t, 512, 16 * (i + 1)));
    }
    assert_false(linear_is_tiled(&cpu_isa_avx512amx, t, 512, 64));
    assert_false(linear_is_tiled(&cpu_isa_avx512amx, t, 512 + 32, 16));
    assert_false(linear_is_tiled(&cpu_isa_avx512amx, linear_type_of(PERI_CPU_Q5_0), 512, 16));
    assert_false(linear_is_tiled(&cpu_isa_avx512vnni, t, 512, 16));
}

/* ---- by ops: tiles of all forms, part groups, parts of several types ---- */

enum { N = 512, M0 = 150, M1 = 33, M2 = 1, M_ALL = M0 + M1 + M2 };
typedef struct qkv {
    uint8_t w[M_ALL * N * 2];
    float x[LINEAR_TILED * N], bias[M0], scale;
} qkv;

/* is_plain: without biases and scales, so that sums are results. */
static void run_qkv(const qkv *u, const uint32_t types[3], const char *isa, int32_t n_tok,
                    int is_plain, float *y) {
    static const int64_t m[3] = {M0, M1, M2};
    const uint8_t *w = u->w;
    peri_error e = {0};
    peri_dev *d = open_cpu(isa, 2);
    prog *p = prog_new(d, n_tok);
    p->code = PERI_OP_LINEAR_QKV;
    prog_in(p, DIMS(1, 1, -PERI_SYM_T, N), u->x, 0);
    for (int i = 0; i < 3; i++) {
        prog_weight(p, types[i], DIMS(1, 1, m[i], N), w);
        w += m[i] * N / peri_dtype_of(types[i]).n * peri_dtype_of(types[i]).bytes;
    }
    for (int i = 0; i < 3; i++)
        prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, m[i]), is_plain || i == 1 ? NULL : u->bias);
    for (int i = 0; i < 3; i++)
        prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, 1), is_plain || i == 0 ? NULL : &u->scale);
    for (int i = 0; i < 3; i++)
        prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, m[i]), 0);
    assert_ok(prog_run(p, &e), e);
    for (uint32_t i = 0; i < 3; i++, y += m[i - 1] * n_tok)
        prog_get(p, i, y);
    prog_free(p);
    close_cpu(d);
}

static void ops_of_few_tokens_are_the_bits_of_vectors(void **state) {
    static const uint32_t types[][3] = {{PERI_CPU_Q4_K, PERI_CPU_Q4_K, PERI_CPU_Q6_K},
                                        {PERI_CPU_IQ4_XS, PERI_CPU_Q5_K, PERI_CPU_Q3_K},
                                        {PERI_CPU_Q8_0, PERI_CPU_Q4_0, PERI_CPU_Q8_0}};
    static const int32_t tokens[] = {14, 30, 45};
    static float got[M_ALL * LINEAR_TILED], want[M_ALL * LINEAR_TILED];
    qkv *u = must(calloc(1, sizeof *u));
    (void)state;
    prog_fill(u->x, LINEAR_TILED * N, 4, 1);
    prog_fill(u->bias, M0, 5, 1);
    u->scale = 0.7f;
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        uint8_t *w = u->w;
        for (int i = 0; i < 3; i++) {
            int64_t n = (i == 0 ? M0 : i == 1 ? M1 : M2) * N / peri_dtype_of(types[k][i]).n;
            prog_blocks(types[k][i], w, n, 7);
            w += n * peri_dtype_of(types[k][i]).bytes;
        }
        for (int i = 0; i < 6; i++) {
            uint64_t before = amx_emulated_count();
            int32_t n_tok = tokens[i / 2];
            run_qkv(u, types[k], "avx512amx", n_tok, i % 2, got);
            assert_true(amx_emulated_count() > before);
            run_qkv(u, types[k], "avx512vnni", n_tok, i % 2, want);
            assert_memory_equal(got, want, (size_t)(M_ALL * n_tok) * sizeof *got);
        }
    }
    free(u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_tokens_on_tiles_are_the_bits_of_vectors),
        cmocka_unit_test(not_for_few_or_many_tokens_nor_part_blocks),
        cmocka_unit_test(ops_of_few_tokens_are_the_bits_of_vectors),
    };
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vnni")) {
        fprintf(stderr, "skipped: the processor has no AVX-512 with VNNI\n");
        return 77;
    }
    return peri_run_tests(tests);
}
