/* SPDX-License-Identifier: MIT
 *
 * self_test.c - one set's products against another's, bit by bit, on this very processor: for a set
 * that the machines this was written on could not run, or whose instructions makers have described
 * in different ways.  Every type that the sets compute, rows and tokens that fill no tile; about a
 * millisecond in all. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fast.h"

enum {
    ROWS = 13, /* behind those of two groups, which are computed together where that is possible */
    GROUP_ROWS = LINEAR_GROUPS * LINEAR_ROWS,
    COLUMNS = 512,
    TOKENS = 43,
    TILED = 19, /* of these, computed by tiled_isa too */
    BYTES_MAX = 2 * 8 * 36,
    DTYPES = 256
};

/* Bytes that make finite weights in every type: bit 6 is clear, so no two of them are an f16
 * infinity or NaN and no E8M0 exponent exceeds 2^64. */
static void fill_weights(uint8_t *w, size_t n) {
    uint32_t x = 12345;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u; /* Source: Numerical Recipes, section 7.1 */
        w[i] = (uint8_t)(x >> 24) & 0xbf;
    }
}

/* Both signs, and a magnitude of its own for each token. */
static void fill_activations(float *x, int token) {
    for (int k = 0; k < COLUMNS; k++)
        x[k] = (float)((k * 37 + token * 11) % 255 - 127) * (float)(1 + token) / 1024.0f;
}

/* acc: [group][TOKENS][16]. */
static void sums(const cpu_isa *s, const linear_type *t, const uint8_t *w, float *acc) {
    uint8_t act[COLUMNS / LINEAR_K * TOKENS * sizeof(act16)] __attribute__((aligned(64)));
    float x[COLUMNS];
    size_t bytes = linear_act_bytes(s, t);
    linear_in in = {.type = t,
                    .w = w,
                    .row_bytes = (size_t)(COLUMNS / t->block * t->block_bytes),
                    .m = GROUP_ROWS + ROWS,
                    .n = COLUMNS,
                    .act = act,
                    .kb_stride = TOKENS * bytes,
                    .n_tok = TOKENS};
    for (int i = 0; i < TOKENS; i++) {
        fill_activations(x, i);
        s->quantize(t, x, COLUMNS, act + (size_t)i * bytes, in.kb_stride);
    }
    if (s->enter) s->enter(in.type);
    int32_t first = s->pair_int && s->pair_int(&in, 0, acc) ? LINEAR_GROUPS : 0;
    for (int32_t g = first; g <= LINEAR_GROUPS; g++)
        s->rows_int(&in, g * LINEAR_ROWS, g < LINEAR_GROUPS ? LINEAR_ROWS : ROWS,
                    acc + g * TOKENS * LINEAR_ROWS);
    if (s->leave) s->leave();
}

/* The same for the first TILED tokens, by tiles; acc: [group][TILED][16]. */
static void tiled_sums(const cpu_isa *s, const linear_type *t, const uint8_t *w, float *acc) {
    enum { ROOM = (TILED + 15) / 16 * 16, N_KB = COLUMNS / LINEAR_K };
    act8 act[N_KB * ROOM] __attribute__((aligned(64)));
    float x[COLUMNS];
    linear_in in = {.type = t,
                    .w = w,
                    .row_bytes = (size_t)(COLUMNS / t->block * t->block_bytes),
                    .m = GROUP_ROWS + ROWS,
                    .n = COLUMNS,
                    .act = (const uint8_t *)act,
                    .kb_stride = ROOM * sizeof *act,
                    .n_tok = TILED};
    memset(act, 0, sizeof act);
    for (int i = 0; i < TILED; i++) {
        fill_activations(x, i);
        s->quantize(t, x, COLUMNS, (uint8_t *)(act + i), in.kb_stride);
    }
    for (int i = 0; i < N_KB * ROOM; i += 16)
        s->tiled->arrange(act + i);
    s->enter(t);
    s->tiled->rows(&in, 0, GROUP_ROWS + ROWS, acc);
    s->leave();
}

/* Results of n_tok tokens against those of TOKENS; got: [group][n_tok][16]. */
static int is_same(const float *got, const float *want, int n_tok, const cpu_isa *set,
                   const cpu_isa *plain, uint32_t dtype, char why[96]) {
    for (int r = 0; r < GROUP_ROWS + ROWS; r++)
        for (int i = 0; i < n_tok; i++) {
            float x = got[(r / LINEAR_ROWS * n_tok + i) * LINEAR_ROWS + r % LINEAR_ROWS];
            float y = want[(r / LINEAR_ROWS * TOKENS + i) * LINEAR_ROWS + r % LINEAR_ROWS];
            if (!memcmp(&x, &y, sizeof x)) continue;
            snprintf(why, 96, "%s differs from %s: type %u, token %d, row %d: %a, not %a",
                     set->name, plain->name, dtype, i, r, (double)x, (double)y);
            return 0;
        }
    return 1;
}

int linear_self_test(const cpu_isa *set, const cpu_isa *plain, char why[96]) {
    uint8_t w[(GROUP_ROWS + ROWS) * BYTES_MAX];
    fill_weights(w, sizeof w);
    for (uint32_t dtype = 0; dtype < DTYPES; dtype++) {
        const linear_type *t = linear_type_of(dtype);
        float got[(LINEAR_GROUPS + 1) * TOKENS * LINEAR_ROWS], want[sizeof got / sizeof *got];
        if (!t || t->span == LINEAR_SPAN_F32 || t->span == LINEAR_SPAN_BF16) continue;
        sums(set, t, w, got);
        sums(plain, t, w, want);
        if (!is_same(got, want, TOKENS, set, plain, dtype, why)) return 0;
        if (!set->tiled || !set->tiled->has(t)) continue;
        tiled_sums(set, t, w, got);
        if (!is_same(got, want, TILED, set, plain, dtype, why)) return 0;
    }
    return 1;
}

/* ---- BF16 weights ---- */

/* Two blocks of columns and a part of a third; tokens that fill no tile, and few of them. */
enum {
    BF16_ROWS = LINEAR_ROWS + ROWS,
    BF16_COLUMNS = 2 * LINEAR_SPAN_BF16 + 37,
    BF16_BLOCKS = 3,
    BF16_BYTES_MAX = 2176
};

/* Magnitudes of 2^-63 to 2^64, both signs; sums of those of one row differ when their order does.
 */
static void fill_bf16(uint16_t *w, size_t n) {
    uint32_t x = 67890;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        uint32_t exponent = i % 7 ? 0x3f00 : 0x2000 + (x >> 8 & 0x3f80);
        w[i] = (uint16_t)((x >> 16 & 0x807f) | exponent);
    }
}

/* y[n_tok][BF16_ROWS] */
static void bf16_sums(const cpu_isa *s, const uint16_t *w, int32_t n_tok, float *y) {
    uint8_t act[BF16_BLOCKS * TOKENS * BF16_BYTES_MAX] __attribute__((aligned(64)));
    float x[BF16_COLUMNS], scratch[BF16_BLOCKS * LINEAR_FEW * LINEAR_ROWS * 16],
        acc[LINEAR_GROUPS * TOKENS * LINEAR_ROWS];
    size_t bytes = s->bf16->block_bytes;
    linear_in in = {.type = linear_type_of(PERI_CPU_BF16),
                    .w = (const uint8_t *)w,
                    .row_bytes = sizeof *w * BF16_COLUMNS,
                    .m = BF16_ROWS,
                    .n = BF16_COLUMNS,
                    .act = act,
                    .kb_stride = (size_t)n_tok * bytes,
                    .n_tok = n_tok,
                    .by_row = n_tok <= LINEAR_FEW};
    for (int i = 0; i < n_tok; i++) {
        for (int k = 0; k < BF16_COLUMNS; k++)
            x[k] = (float)((k * 37 + i * 11) % 255 - 127) * (float)(1 + i) / 1027.0f;
        s->bf16->pack(x, BF16_COLUMNS, in.by_row, act + (size_t)i * bytes, in.kb_stride);
    }
    if (s->enter && !in.by_row) s->enter(in.type);
    int32_t step = LINEAR_ROWS * (in.by_row ? 1 : s->bf16->n_group);
    for (int32_t row = 0; row < BF16_ROWS; row += step) {
        int32_t rows = BF16_ROWS - row < step ? BF16_ROWS - row : step;
        s->bf16->rows(&in, row, rows, acc, scratch);
        for (int32_t i = 0; i < n_tok * rows; i++) {
            int32_t r = i % rows, t = i / rows, group = r / LINEAR_ROWS * n_tok;
            y[t * BF16_ROWS + row + r] = acc[(group + t) * LINEAR_ROWS + r % LINEAR_ROWS];
        }
    }
    if (s->leave && !in.by_row) s->leave();
}

int bf16_self_test(const cpu_isa *set, const cpu_isa *plain, char why[96]) {
    static const int32_t n_tok[] = {TOKENS, 3};
    uint16_t w[BF16_ROWS * BF16_COLUMNS];
    float got[TOKENS * BF16_ROWS], want[TOKENS * BF16_ROWS];
    fill_bf16(w, sizeof w / sizeof *w);
    for (int k = 0; k < 2; k++) {
        bf16_sums(set, w, n_tok[k], got);
        bf16_sums(plain, w, n_tok[k], want);
        for (int i = 0; i < n_tok[k] * BF16_ROWS; i++) {
            if (!memcmp(&got[i], &want[i], sizeof *got)) continue;
            snprintf(why, 96, "BF16 weights, token %d of %d, row %d: %a, not %a", i / BF16_ROWS,
                     (int)n_tok[k], i % BF16_ROWS, (double)got[i], (double)want[i]);
            return 0;
        }
    }
    return 1;
}

/* ---- attention ---- */

enum { QUERIES = 37, DK = 72, DV = 40, DV16 = 48, HEADS = 1, TILES_MAX = 3 << 16 };

/* Keys 3 .. 250 of a chunk, values behind them; rows that see all, or each its own part. */
typedef struct attention {
    uint16_t k[ATTN_CHUNK * DK], v[ATTN_CHUNK * DV];
    float q[QUERIES * DK], s[QUERIES * ATTN_CHUNK], wide[ATTN_KEYS_WIDE], rounded[QUERIES * 80];
    attn_chunk c;
    attn_row row[QUERIES];
    uint8_t tiles[TILES_MAX] __attribute__((aligned(64)));
} attention;

typedef struct attention_result {
    float m[QUERIES], l[QUERIES], o[QUERIES * DV16];
} attention_result;

static void fill_attention(attention *a, uint16_t dtype, int32_t n_row) {
    uint32_t x = 54321;
    for (size_t i = 0; i < ATTN_CHUNK * (DK + DV); i++) {
        x = x * 1664525u + 1013904223u;
        uint16_t bits = (uint16_t)(x >> 16), /* magnitudes around one, both signs */
            number = dtype == PERI_CPU_F16 ? (bits & 0x87ff) | 0x3800 : (bits & 0x80ff) | 0x3f00;
        (i < ATTN_CHUNK * DK ? a->k + i : a->v + i - ATTN_CHUNK * DK)[0] = number;
    }
    for (int i = 0; i < QUERIES * DK; i++)
        a->q[i] = (float)((i * 37) % 255 - 127) / 300.0f;
    a->c = (attn_chunk){.lo = 3,
                        .hi = 251,
                        .n_head = HEADS,
                        .n_row = n_row,
                        .dtype = dtype,
                        .dk = DK,
                        .dv = DV,
                        .k_bytes = DK * 2,
                        .v_bytes = DV * 2,
                        .scale = 0.125f};
    for (int j = 0; j < ATTN_CHUNK; j++) {
        a->c.k[j] = (const uint8_t *)(a->k + j * DK);
        a->c.v[j] = (const uint8_t *)(a->v + j * DV);
    }
    for (int r = 0; r < n_row; r++) {
        int is_part = n_row == QUERIES;
        a->row[r] = (attn_row){
            .q = a->q + r * DK, .lo = is_part ? 3 + r : 3, .hi = is_part ? 251 - 5 * r : 251};
    }
}

/* To out[2]: the chunk alone, and merged into nothing. */
static void attend(const attn_isa *set, attention *a, attention_result *out) {
    attn_space space = {
        .s = a->s, .wide = a->wide, .q = a->rounded, .tiles = set->tile_bytes ? a->tiles : NULL};
    attn_row row[QUERIES];
    memcpy(row, a->row, sizeof row);
    memset(out, 0, 2 * sizeof *out);
    attention_result scratch = {.m = {0}};
    set->round(&a->c, row, &space);
    set->chunk(&a->c, row, &(attn_part){out->m, out->l, out->o}, NULL, &space);
    for (int r = 0; r < a->c.n_row; r++)
        out[1].m[r] = -INFINITY;
    set->chunk(&a->c, row, &(attn_part){scratch.m, scratch.l, scratch.o},
               &(attn_part){out[1].m, out[1].l, out[1].o}, &space);
}

int attn_self_test(const attn_isa *set, const attn_isa *plain, char why[96]) {
    static const uint16_t type[] = {PERI_CPU_F16, PERI_CPU_BF16};
    attention a;
    attention_result got_both[2], want_both[2];
    if (set->tile_bytes && set->tile_bytes(QUERIES, DK, DV) > sizeof a.tiles) {
        snprintf(why, 96, "attention: %zu bytes of tiles", set->tile_bytes(QUERIES, DK, DV));
        return 0;
    }
    for (int i = 0; i < 8; i++) {
        const attention_result *got = &got_both[i % 2], *want = &want_both[i % 2];
        if (i % 2 == 0) {
            fill_attention(&a, type[i / 2 % 2], i < 4 ? 2 : QUERIES);
            attend(plain, &a, want_both);
            attend(set, &a, got_both);
        }
        for (int r = 0; r < a.c.n_row; r++) {
            size_t n = sizeof *got->o * DV16, at = (size_t)r * DV16;
            if (!memcmp(&got->m[r], &want->m[r], 4) && !memcmp(&got->l[r], &want->l[r], 4) &&
                !memcmp(got->o + at, want->o + at, n))
                continue;
            snprintf(why, 96, "attention, type %u, row %d of %d: l %a, not %a, or values",
                     type[i / 2 % 2], r, (int)a.c.n_row, (double)got->l[r], (double)want->l[r]);
            return 0;
        }
    }
    return 1;
}
