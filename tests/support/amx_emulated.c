/* SPDX-License-Identifier: MIT
 *
 * amx_emulated.c - eight tiles per thread.  Memory is touched byte by byte where the instruction
 * touches it, so that the address sanitizer sees what a tile reads and writes. */
#include "amx_emulated.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tile {
    int rows, row_bytes;
    uint8_t b[TILE_TOKENS][TILE_ROW_BYTES];
} tile;

static _Thread_local struct {
    int is_configured;
    tile t[TILES];
} state;
static uint64_t n_product, n_config;

static void raise_fault(const char *instruction, const char *why) {
    fprintf(stderr, "emulated %s: %s\n", instruction, why);
    abort();
}

int amx_emulated_in_use(void) {
    return state.is_configured;
}

uint64_t amx_emulated_count(void) {
    return __atomic_load_n(&n_product, __ATOMIC_RELAXED);
}

uint64_t amx_emulated_configs(void) {
    return __atomic_load_n(&n_config, __ATOMIC_RELAXED);
}

/* #GP: palette unknown, a reserved byte set, a shape too large, or half a shape. */
void amx_emulated_config(const tile_config *c) {
    memset(&state, 0, sizeof state);
    __atomic_fetch_add(&n_config, 1, __ATOMIC_RELAXED);
    if (c->palette == 0) return;
    if (c->palette != 1) raise_fault("ldtilecfg", "palette is neither 0 nor 1");
    if (c->start_row) raise_fault("ldtilecfg", "a start row, which only an interrupt leaves");
    for (size_t i = 0; i < sizeof c->reserved; i++)
        if (c->reserved[i]) raise_fault("ldtilecfg", "a reserved byte is not 0");
    for (int i = 0; i < 16; i++) {
        if (i >= TILES && (c->rows[i] || c->row_bytes[i]))
            raise_fault("ldtilecfg", "a shape for a tile past the eighth");
        if (c->rows[i] > TILE_TOKENS || c->row_bytes[i] > TILE_ROW_BYTES)
            raise_fault("ldtilecfg", "more than 16 rows or 64 bytes to a row");
        if (!c->rows[i] != !c->row_bytes[i])
            raise_fault("ldtilecfg", "rows without bytes, or bytes without rows");
        if (i >= TILES) continue;
        state.t[i].rows = c->rows[i];
        state.t[i].row_bytes = c->row_bytes[i];
    }
    state.is_configured = 1;
}

void amx_emulated_release(void) {
    memset(&state, 0, sizeof state);
}

/* #UD: no configuration, no such tile, or one without a shape. */
static tile *tile_of(const char *instruction, int t) {
    if (!state.is_configured) raise_fault(instruction, "tiles are not configured");
    if (t < 0 || t >= TILES) raise_fault(instruction, "no such tile");
    if (!state.t[t].rows) raise_fault(instruction, "a tile without a shape");
    return &state.t[t];
}

void amx_emulated_zero(int t) {
    tile *x = tile_of("tilezero", t);
    memset(x->b, 0, sizeof x->b);
}

/* What lies past the shape becomes zero. */
void amx_emulated_load(int t, const void *p, size_t stride) {
    tile *x = tile_of("tileloadd", t);
    memset(x->b, 0, sizeof x->b);
    for (int r = 0; r < x->rows; r++)
        for (int i = 0; i < x->row_bytes; i++)
            x->b[r][i] = ((const uint8_t *)p)[(size_t)r * stride + (size_t)i];
}

void amx_emulated_store(int t, void *p, size_t stride) {
    const tile *x = tile_of("tilestored", t);
    for (int r = 0; r < x->rows; r++)
        for (int i = 0; i < x->row_bytes; i++)
            ((uint8_t *)p)[(size_t)r * stride + (size_t)i] = x->b[r][i];
}

/* c[m][n] += sum over k, i < 4 of a[m][k][i] * b[k][n][i], signed bytes but for those of the
 * factor that is_unsigned names, int32 that wraps.  Only tiles are touched: no sanitizer has
 * anything to see, and the tests spend their time here. */
__attribute__((no_sanitize("address", "undefined"), optimize("O2"))) static void
add_products(tile *x, const tile *y, const tile *z, char is_unsigned) {
    const int of_a = is_unsigned == 'a' ? 256 : 0, of_b = is_unsigned == 'b' ? 256 : 0;
    for (int k = 0; k < z->rows; k++)
        for (int m = 0; m < x->rows; m++) {
            const uint8_t *a = &y->b[m][4 * k];
            for (int n = 0; n < x->row_bytes / 4; n++) {
                const uint8_t *b = &z->b[k][4 * n];
                uint32_t sum;
                memcpy(&sum, &x->b[m][4 * n], 4);
                for (int i = 0; i < 4; i++)
                    sum += (uint32_t)((a[i] < 128 ? a[i] : a[i] - 256 + of_a) *
                                      (b[i] < 128 ? b[i] : b[i] - 256 + of_b));
                memcpy(&x->b[m][4 * n], &sum, 4);
            }
        }
}

/* #UD: a tile twice, or shapes that do not fit.  number: of the three tiles. */
static void check_shapes(const char *what, const int number[3], const tile *x, const tile *y,
                         const tile *z) {
    if (number[0] == number[1] || number[0] == number[2] || number[1] == number[2])
        raise_fault(what, "a tile used twice");
    if (x->row_bytes % 4 || y->row_bytes % 4 || z->row_bytes % 4)
        raise_fault(what, "a row that is no multiple of four bytes");
    if (x->rows != y->rows) raise_fault(what, "rows of the sums and of the first factor");
    if (x->row_bytes != z->row_bytes)
        raise_fault(what, "columns of the sums and of the second factor");
    if (y->row_bytes / 4 != z->rows) raise_fault(what, "depths of the two factors");
}

static void finish_product(tile *x) {
    for (int m = x->rows; m < TILE_TOKENS; m++)
        memset(x->b[m], 0, sizeof x->b[m]);
    __atomic_add_fetch(&n_product, 1, __ATOMIC_RELAXED);
}

static void dot(const char *name, int c, int a, int b, char is_unsigned) {
    tile *x = tile_of(name, c);
    const tile *y = tile_of(name, a), *z = tile_of(name, b);
    check_shapes(name, (int[]){c, a, b}, x, y, z);
    add_products(x, y, z, is_unsigned);
    finish_product(x);
}
void amx_emulated_dot(int c, int a, int b) {
    dot("tdpbssd", c, a, b, 0);
}
void amx_emulated_dot_su(int c, int a, int b) {
    dot("tdpbsud", c, a, b, 'b');
}
void amx_emulated_dot_us(int c, int a, int b) {
    dot("tdpbusd", c, a, b, 'a');
}

/* A number as the products of bf16 take and leave it: denormal ones are 0. */
static float normal(float x) {
    return x > -0x1p-126f && x < 0x1p-126f ? 0.0f * x : x;
}
static float bf16_at(const uint8_t *p) {
    uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float f;
    memcpy(&f, &bits, 4);
    return normal(f);
}

/* c[m][n] += (sum over k of a[m][k][0] * b[k][n][0]) + (the same of [1]): two chains of FMAs from
 * +0, then two additions, all rounded to nearest. */
__attribute__((no_sanitize("address", "undefined"), optimize("O2"))) static void
add_bf16_products(tile *x, const tile *y, const tile *z) {
    for (int m = 0; m < x->rows; m++)
        for (int n = 0; n < x->row_bytes / 4; n++) {
            float sum[2] = {0, 0}, c;
            for (int k = 0; k < z->rows; k++)
                for (int i = 0; i < 2; i++)
                    sum[i] = normal(fmaf(bf16_at(&y->b[m][4 * k + 2 * i]),
                                         bf16_at(&z->b[k][4 * n + 2 * i]), sum[i]));
            memcpy(&c, &x->b[m][4 * n], 4);
            c = normal(normal(c) + normal(sum[0] + sum[1]));
            memcpy(&x->b[m][4 * n], &c, 4);
        }
}

void amx_emulated_dot_bf16(int c, int a, int b) {
    tile *x = tile_of("tdpbf16ps", c);
    const tile *y = tile_of("tdpbf16ps", a), *z = tile_of("tdpbf16ps", b);
    check_shapes("tdpbf16ps", (int[]){c, a, b}, x, y, z);
    add_bf16_products(x, y, z);
    finish_product(x);
}

/* In place of amx.c. */
const char *amx_bf16_missing(void) {
    return NULL;
}
const char *amx_missing(void) {
    return NULL;
}
