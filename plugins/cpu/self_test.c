/* SPDX-License-Identifier: MIT
 *
 * self_test.c - one set's integer products against another's, bit by bit, on this very processor:
 * for a set that the machines this was written on could not run.  Every type that the sets compute,
 * rows and tokens that fill no tile; about a millisecond in all. */
#include <stdio.h>
#include <string.h>

#include "fast.h"

enum { ROWS = 13, COLUMNS = 512, TOKENS = 43, BYTES_MAX = 2 * 8 * 36, DTYPES = 256 };

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

static void sums(const cpu_isa *s, const linear_type *t, const uint8_t *w, float *acc) {
    uint8_t act[COLUMNS / LINEAR_K * TOKENS * sizeof(act16)] __attribute__((aligned(64)));
    float x[COLUMNS];
    size_t bytes = linear_act_bytes(s, t);
    linear_in in = {.type = t,
                    .w = w,
                    .row_bytes = (size_t)(COLUMNS / t->block * t->block_bytes),
                    .m = ROWS,
                    .n = COLUMNS,
                    .act = act,
                    .kb_stride = TOKENS * bytes,
                    .n_tok = TOKENS};
    for (int i = 0; i < TOKENS; i++) {
        fill_activations(x, i);
        s->quantize(t, x, COLUMNS, act + (size_t)i * bytes, in.kb_stride);
    }
    if (s->enter) s->enter();
    s->rows_int(&in, 0, ROWS, acc);
    if (s->leave) s->leave();
}

int linear_self_test(const cpu_isa *set, const cpu_isa *plain, char why[96]) {
    uint8_t w[ROWS * BYTES_MAX];
    fill_weights(w, sizeof w);
    for (uint32_t dtype = 0; dtype < DTYPES; dtype++) {
        const linear_type *t = linear_type_of(dtype);
        float got[TOKENS * LINEAR_ROWS], want[TOKENS * LINEAR_ROWS];
        if (!t || t->span == LINEAR_SPAN_F32) continue;
        sums(set, t, w, got);
        sums(plain, t, w, want);
        for (int i = 0; i < TOKENS; i++)
            for (int r = 0; r < ROWS; r++) {
                int at = i * LINEAR_ROWS + r;
                if (!memcmp(&got[at], &want[at], sizeof *got)) continue;
                snprintf(why, 96, "%s differs from %s: type %u, token %d, row %d: %a, not %a",
                         set->name, plain->name, dtype, i, r, (double)got[at], (double)want[at]);
                return 0;
            }
    }
    return 1;
}
