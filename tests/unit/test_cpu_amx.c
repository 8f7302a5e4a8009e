/* SPDX-License-Identifier: MIT
 *
 * test_cpu_amx.c - what is particular to the level on tiles, over emulated ones: when they are
 * configured and released, that many tokens use them and few do not, that the self-test sees a
 * wrong product, that an impossible wish is answered with the reason, and that the emulation
 * refuses what a processor would.  That the level's results are those of the others is said by
 * test_cpu_kernels.c and test_cpu_linear.c, which are built over the emulation too.
 * On a processor without AVX-512 and VNNI, which the level's vectors need, it is skipped. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "amx_emulated.h"
#include "fast.h"
#include "harness.h"
#include "op_case.h"

enum { M = 100, N = 512, T = 40 };

static int has_vectors(void) {
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
}

static uint64_t n_config; /* of the last products_in */

/* The tile products that running p takes; both are freed. */
static uint64_t products_in(prog *p, peri_dev *d) {
    peri_error e = {0};
    uint64_t before = amx_emulated_count(), configs = amx_emulated_configs();
    assert_ok(prog_run(p, &e), e);
    uint64_t n = amx_emulated_count() - before;
    n_config = amx_emulated_configs() - configs;
    prog_free(p);
    close_cpu(d);
    assert_false(amx_emulated_in_use());
    return n;
}

/* LINEAR for n_tok tokens; the number of tile products it took. */
static uint64_t products_of(const char *isa, uint16_t dtype, int32_t n_tok) {
    static uint8_t w[M * N * 2];
    static float x[T * N];
    peri_linear_attr a = {.size = sizeof a};
    peri_dev *d = open_cpu(isa, 2);
    prog *p = prog_new(d, n_tok);
    prog_blocks(dtype, w, M * N / peri_dtype_of(dtype).n, 1);
    prog_fill(x, T * N, 2, 1);
    p->code = PERI_OP_LINEAR;
    prog_in(p, DIMS(1, 1, -PERI_SYM_T, N), x, 0);
    prog_weight(p, dtype, DIMS(1, 1, M, N), w);
    prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, M), NULL);
    prog_weight(p, PERI_CPU_F32, DIMS(1, 1, 1, 1), NULL);
    prog_out(p, PERI_CPU_F32, DIMS(1, 1, -PERI_SYM_T, M), 0);
    prog_attr(p, &a, sizeof a);
    return products_in(p, d);
}

static void many_tokens_use_tiles_and_few_do_not(void **state) {
    (void)state;
    /* 7 groups of rows, 2 times 256 columns, 8 sums each, a tile per 16 tokens */
    assert_int_equal(products_of("avx512amx", PERI_CPU_Q5_0, LINEAR_VECTORS), 0);
    assert_int_equal(n_config, 0);
    assert_int_equal(products_of("avx512amx", PERI_CPU_Q5_0, LINEAR_VECTORS + 1), 7 * 2 * 8 * 2);
    /* What tiled_isa takes. */
    assert_int_equal(products_of("avx512amx", PERI_CPU_Q4_0, 11), 0);
    assert_int_equal(n_config, 0);
    assert_int_equal(products_of("avx512amx", PERI_CPU_Q4_0, 12), 7 * 2 * 8);
    assert_int_equal(products_of("avx512amx", PERI_CPU_Q6_K, 16), 7 * 2 * 8);
    assert_int_equal(products_of("avx512amx", PERI_CPU_Q8_0, 32), 7 * 2 * 8 * 2);
    assert_int_equal(products_of("avx512amx", PERI_CPU_Q4_0, 33), 7 * 2 * 8 * 3);
    assert_int_equal(products_of("avx512amx", PERI_CPU_Q4_0, T), 7 * 2 * 8 * 3);
    assert_int_equal(products_of("avx512vnni", PERI_CPU_Q4_0, T), 0);
}

/* Products of bf16 need the level avx512bf16 beside them. */
static int has_bf16(void) {
    for (uint32_t i = 0; cpu_level_at(i); i++)
        if (!strcmp(cpu_level_at(i)->name, "avx512bf16")) return cpu_level_at(i)->is_available();
    return 0;
}

static void bf16_weights_use_tiles_for_many_tokens_where_they_can(void **state) {
    uint64_t tiles = has_bf16() ? 7 * 16 : 0; /* 7 groups of rows, 16 steps, per 16 tokens */
    (void)state;
    assert_int_equal(products_of("avx512amx", PERI_CPU_BF16, LINEAR_FEW), 0);
    assert_int_equal(products_of("avx512amx", PERI_CPU_BF16, LINEAR_FEW + 1), tiles);
    assert_int_equal(products_of("avx512amx", PERI_CPU_BF16, 17), tiles * 2);
    assert_int_equal(products_of("avx512amx", PERI_CPU_BF16, T), tiles * 3);
    assert_int_equal(products_of("avx512vnni", PERI_CPU_BF16, T), 0);
}

enum { D = 64, KEYS = 256, BLOCK = 16 };

/* ATTN over keys of F16, or others, for the last n_tok tokens of two heads; likewise. */
static uint64_t products_of_attention(uint32_t dtype, int32_t n_tok) {
    static uint8_t pool[KEYS * D * 4];
    static float q[T * 2 * D];
    peri_attn_attr a = {.size = sizeof a, .scale = 0.1f};
    peri_dev *d = open_cpu("avx512amx", 2);
    prog *p = prog_new(d, n_tok);
    prog_fill(q, T * 2 * D, 2, 1);
    p->code = PERI_OP_ATTN;
    p->n[PERI_SYM_B] = KEYS / BLOCK;
    prog_in(p, DIMS(1, -PERI_SYM_T, 2, D), q, 0);
    for (int i = 0; i < 2; i++)
        prog_pool(p, dtype, DIMS(KEYS / BLOCK, BLOCK, 1, D), pool);
    prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
    prog_out(p, PERI_CPU_F32, DIMS(1, -PERI_SYM_T, 2, D), 0);
    prog_attr(p, &a, sizeof a);
    for (int32_t t = 0; t < n_tok; t++)
        p->pos[t] = 192 - n_tok + t;
    p->ctx[0] = 192;
    for (int32_t b = 0; b < KEYS / BLOCK; b++)
        p->table[b] = b;
    return products_in(p, d);
}

static void attention_of_eight_rows_uses_tiles(void **state) {
    /* 6 steps of keys, each twice 16 of them times 2 steps of elements, and 4 times 16 elements */
    uint64_t tiles = has_bf16() ? 6 * (2 * 2 + 4) : 0;
    (void)state;
    assert_int_equal(products_of_attention(PERI_CPU_F16, 1), 0);
    assert_int_equal(products_of_attention(PERI_CPU_F16, 3), 0);
    assert_int_equal(products_of_attention(PERI_CPU_F16, 4), tiles);
    assert_int_equal(products_of_attention(PERI_CPU_BF16, 9), tiles * 2);
    assert_int_equal(products_of_attention(PERI_CPU_F32, 9), 0);
}

static void the_level_is_the_best_and_named(void **state) {
    (void)state;
    peri_dev_info info = {.size = sizeof info};
    peri_error e = {0};
    prog_host_now = (prog_host_state){.n_node = 1, .n_worker = 1};
    assert_ok(perigee_plugin_v0(&prog_host, &e)->device(&prog_host, 0, &info, &e), e);
    assert_string_equal(info.isa, "avx512amx");
    assert_string_equal(cpu_level_at(0)->name, "avx512amx");
}

/* ---- the self-test ---- */

static cpu_isa broken;
static uint16_t broken_type;
static void rows_broken(const linear_in *in, int64_t row0, int32_t rows, float *acc) {
    cpu_isa_avx512amx.rows_int(in, row0, rows, acc);
    uint32_t bits;
    float *y = &acc[(in->n_tok - 1) * LINEAR_ROWS + rows - 1];
    if (in->type->dtype != broken_type) return;
    memcpy(&bits, y, 4);
    bits ^= 1;
    memcpy(y, &bits, 4);
}

static int pair_broken(const linear_in *in, int64_t row0, float *acc) {
    int done = cpu_isa_avx512amx.pair_int(in, row0, acc);
    if (in->type->dtype == broken_type) acc[(in->n_tok + 5) * LINEAR_ROWS + 3] += 1;
    return done;
}

static int tiled_broken(const linear_in *in, int64_t row0, int32_t rows, float *acc) {
    int done = cpu_isa_avx512amx.tiled->rows(in, row0, rows, acc);
    if (in->type->dtype == broken_type) acc[(in->n_tok + 17) * LINEAR_ROWS + 2] += 1;
    return done;
}

static void the_self_test_finds_one_wrong_bit_of_one_type(void **state) {
    static const uint16_t type[] = {PERI_CPU_Q4_0, PERI_CPU_NVFP4, PERI_CPU_IQ3_S};
    static const char *const text[] = {
        "avx512amx differs from avx512vnni: type 2, token 42, row 44: ",
        "avx512amx differs from avx512vnni: type 40, token 42, row 44: ",
        "avx512amx differs from avx512vnni: type 21, token 42, row 44: "};
    char why[96] = "";
    (void)state;
    assert_true(linear_self_test(&cpu_isa_avx512amx, &cpu_isa_avx512vnni, why));
    assert_string_equal(why, "");
    broken = cpu_isa_avx512amx;
    broken.rows_int = rows_broken;
    for (int i = 0; i < 3; i++) {
        broken_type = type[i];
        assert_false(linear_self_test(&broken, &cpu_isa_avx512vnni, why));
        assert_memory_equal(why, text[i], strlen(text[i]));
    }
    const char *pair = "avx512amx differs from avx512vnni: type 21, token 5, row 19: ";
    broken.rows_int = cpu_isa_avx512amx.rows_int;
    broken.pair_int = pair_broken;
    assert_false(linear_self_test(&broken, &cpu_isa_avx512vnni, why));
    assert_memory_equal(why, pair, strlen(pair));
    const char *tiled = "avx512amx differs from avx512vnni: type 14, token 17, row 18: ";
    tiled_isa broken_tiles = *cpu_isa_avx512amx.tiled;
    broken_tiles.rows = tiled_broken;
    broken.pair_int = cpu_isa_avx512amx.pair_int;
    broken.tiled = &broken_tiles;
    broken_type = PERI_CPU_Q6_K;
    assert_false(linear_self_test(&broken, &cpu_isa_avx512vnni, why));
    assert_memory_equal(why, tiled, strlen(tiled));
}

/* ---- the emulation is as strict as a processor ---- */

static const tile_config whole = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};
static uint8_t memory[TILE_BYTES];

static void use_without_configuration(void) {
    tile_zero(0);
}
static void use_after_release(void) {
    tile_configure(&whole);
    tile_release();
    tile_load(1, memory, 64);
}
static void configure_another_palette(void) {
    tile_config c = whole;
    c.palette = 2;
    tile_configure(&c);
}
static void configure_17_rows(void) {
    tile_config c = whole;
    c.rows[3] = 17;
    tile_configure(&c);
}
static void configure_a_ninth_tile(void) {
    tile_config c = whole;
    c.rows[8] = 1;
    c.row_bytes[8] = 4;
    tile_configure(&c);
}
static void configure_a_reserved_byte(void) {
    tile_config c = whole;
    c.reserved[13] = 1;
    tile_configure(&c);
}
static void multiply_a_tile_by_itself(void) {
    tile_configure(&whole);
    tile_dot(0, 1, 1);
}
static void multiply_unequal_depths(void) {
    tile_config c = whole;
    c.rows[2] = 8;
    tile_configure(&c);
    tile_dot(0, 1, 2);
}
static void multiply_bf16_of_unequal_depths(void) {
    tile_config c = whole;
    c.rows[2] = 8;
    tile_configure(&c);
    tile_dot_bf16(0, 1, 2);
}
static void multiply_bf16_into_a_factor(void) {
    tile_configure(&whole);
    tile_dot_bf16(1, 1, 2);
}
static void multiply_unequal_rows(void) {
    tile_config c = whole;
    c.rows[1] = 8;
    tile_configure(&c);
    tile_dot(0, 1, 2);
}
static void multiply_without_a_shape(void) {
    tile_config c = whole;
    c.rows[0] = 0;
    c.row_bytes[0] = 0;
    tile_configure(&c);
    tile_dot(0, 1, 2);
}
static void products_outside_enter_and_leave(void) {
    enum { N_TOK = LINEAR_VECTORS + 1 };
    static uint8_t w[512 / 32 * 18], act[2 * N_TOK * sizeof(act8)] __attribute__((aligned(64)));
    float acc[N_TOK * LINEAR_ROWS];
    linear_in in = {.type = linear_type_of(PERI_CPU_Q4_0),
                    .w = w,
                    .row_bytes = sizeof w,
                    .m = 1,
                    .n = 512,
                    .act = act,
                    .kb_stride = N_TOK * sizeof(act8),
                    .n_tok = N_TOK};
    cpu_isa_avx512amx.rows_int(&in, 0, 1, acc);
}

static void what_a_processor_refuses_ends_the_program(void **state) {
    static void (*const wrong[])(void) = {
        use_without_configuration,       use_after_release,
        configure_another_palette,       configure_17_rows,
        configure_a_ninth_tile,          configure_a_reserved_byte,
        multiply_a_tile_by_itself,       multiply_unequal_depths,
        multiply_unequal_rows,           multiply_without_a_shape,
        multiply_bf16_of_unequal_depths, multiply_bf16_into_a_factor,
        products_outside_enter_and_leave};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int status = 0;
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) {
            signal(SIGABRT, SIG_DFL);
            if (!freopen("/dev/null", "w", stderr)) _exit(2);
            wrong[i]();
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
            fail_msg("case %zu of 13 ended with status %#x", i + 1, status);
    }
}

/* Small shapes: rows and bytes past them are zeros, sums wrap, and both factors are signed. */
/* The order is not to be told from another where sums are exact; here it is: 2^24 + 1 is 2^24. */
static void bf16_products_are_two_chains_from_zero(void **state) {
    tile_config c = {.palette = 1, .row_bytes = {8, 8, 8}, .rows = {1, 1, 2}};
    /* a[k][i], b[k][n][i]: bf16 1, 2^24, 3, 2^-126 and the largest below it */
    const uint16_t one = 0x3f80, large = 0x4b80, three = 0x4040, least = 0x0080, tiny = 0x007f;
    const uint16_t a[4] = {one, least, one, one},
                   b[8] = {large, one, one, tiny, one, three, one, one};
    float sums[2] = {1, 0};
    (void)state;
    tile_configure(&c);
    tile_load(0, sums, 8);
    tile_load(1, a, 8);
    tile_load(2, b, 8);
    tile_dot_bf16(0, 1, 2);
    tile_store(0, sums, 8);
    /* even: 2^24, then + 1 is 2^24; odd: 2^-126, then + 3 is 3; 2^24 + 3 is 2^24 + 4; + 1 is that
     */
    assert_true(sums[0] == 0x1p24f + 4);
    /* even: 1 + 1; odd: 2^-126 * 0, + 1 */
    assert_true(sums[1] == 3);
    tile_release();
}

static void tiles_hold_zeros_past_their_shape(void **state) {
    tile_config c = {.palette = 1, .row_bytes = {8, 4, 8}, .rows = {1, 1, 1}};
    int8_t a[4] = {-128, 127, -1, 2}, b[8] = {-128, 127, 1, -1, 1, 0, 0, 0};
    int32_t sums[2] = {INT32_MAX, 5};
    (void)state;
    tile_configure(&c);
    tile_load(0, sums, 8);
    tile_load(1, a, 4);
    tile_load(2, b, 8);
    tile_dot(0, 1, 2);
    tile_store(0, sums, 8);
    assert_int_equal(sums[0], (int32_t)((uint32_t)INT32_MAX + 128 * 128 + 127 * 127 - 3));
    assert_int_equal(sums[1], 5 - 128);
    tile_zero(0);
    tile_dot_su(0, 1, 2);
    tile_store(0, sums, 8);
    assert_int_equal(sums[0], -128 * 128 + 127 * 127 - 1 + 2 * 255);
    assert_int_equal(sums[1], -128);
    tile_zero(0);
    tile_dot_us(0, 1, 2);
    tile_store(0, sums, 8);
    assert_int_equal(sums[0], -128 * 128 + 127 * 127 + 255 - 2);
    assert_int_equal(sums[1], 128);
    tile_release();
    assert_false(amx_emulated_in_use());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_tokens_use_tiles_and_few_do_not),
        cmocka_unit_test(bf16_weights_use_tiles_for_many_tokens_where_they_can),
        cmocka_unit_test(attention_of_eight_rows_uses_tiles),
        cmocka_unit_test(the_level_is_the_best_and_named),
        cmocka_unit_test(the_self_test_finds_one_wrong_bit_of_one_type),
        cmocka_unit_test(what_a_processor_refuses_ends_the_program),
        cmocka_unit_test(tiles_hold_zeros_past_their_shape),
        cmocka_unit_test(bf16_products_are_two_chains_from_zero),
    };
    if (!has_vectors()) {
        fprintf(stderr, "skipped: the processor has no AVX-512 with VNNI\n");
        return 77;
    }
    return peri_run_tests(tests);
}
