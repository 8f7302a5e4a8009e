/* SPDX-License-Identifier: MIT
 *
 * kit_ref_attn.c - KV_APPEND and ATTN of op.def as plain loops over f64. */
#include <math.h>
#include <string.h>

#include "check/kit.h"
#include "model/dtype.h"

#include "base/compiler.h"

enum { KEY_MAX = KIT_BLOCKS * 64 };

/* ---- KV_APPEND ----------------------------------------------------------------------------------
 */

static void append(const kit_op *o) {
    for (int64_t t = 0; t < o->dim[0][1]; t++) {
        int64_t slot = o->step->slot[t];
        for (uint32_t k = 0; k < 2 && slot >= 0; k++) {
            const peri_dtype_info *type = peri_dtype_get(o->dtype[2 + k]);
            int64_t n = o->dim[k][2] * o->dim[k][3];
            double *row = o->v[2 + k] + slot * n;
            unsigned char block[64];
            memcpy(row, o->v[k] + t * n, (size_t)n * sizeof *row);
            for (int64_t i = 0; i < n; i += type->block_elements)
                kit_encode(type->number, row + i, type->block_elements, block);
        }
    }
}

/* ---- ATTN ---------------------------------------------------------------------------------------
 */

static double slope(double alibi_max, int64_t h, int64_t n_head) {
    double n = exp2(floor(log2((double)n_head)));
    if (alibi_max == 0) return 0;
    if ((double)h < n) return exp2(-alibi_max * (double)(h + 1) / n);
    return exp2(-alibi_max * (2 * ((double)h - n) + 1) / (2 * n));
}

static bool is_visible(const peri_attn_attr *a, int64_t key, int64_t pos) {
    if (!(a->flags & PERI_ATTN_NOT_CAUSAL) && key > pos) return false;
    if (a->window > 0 && pos - key >= a->window) return false;
    return a->chunk <= 0 || key / a->chunk == pos / a->chunk;
}

/* Row of the pool that holds a key of the token's sequence. */
static int64_t pool_row(const kit_op *o, int64_t t, int64_t key) {
    int64_t block = o->dim[1][1], s = o->step->seq[t];
    const int32_t *table = o->step->table + s * o->step->n[PERI_SYM_B];
    return table[key / block] * block + key % block;
}

/* Operand k's number x as a factor: op.def, act=bf16.  Weights are not rounded here, since what
 * they are rounded beside is the backend's. */
static double factor(const kit_op *o, uint32_t k, double x) {
    if (o->num.act != -16 || !isfinite(x)) return x;
    if (o->dtype[k] != PERI_DT_F16) return kit_round_bf16(x);
    double unit = ldexp(1, (fabs(x) < 0x1p-14 ? -14 : ilogb(x)) - 7);
    double y = floor(fabs(x) / unit + 0.5) * unit;
    return copysign(y > 65280 ? (double)INFINITY : y, x);
}

static double logit(const kit_op *o, int64_t t, int64_t h, int64_t key) {
    const peri_attn_attr *a = o->attr;
    int64_t n_head = o->dim[0][2], n_kv = o->dim[1][2], n = o->dim[1][3];
    const double *q = o->v[0] + (t * n_head + h) * n;
    const double *k = o->v[1] + (pool_row(o, t, key) * n_kv + h / (n_head / n_kv)) * n;
    double z = 0;
    for (int64_t i = 0; i < n; i++)
        z += factor(o, 0, q[i]) * factor(o, 1, k[i]);
    z *= (double)a->scale;
    if (a->cap > 0) z = (double)a->cap * tanh(z / (double)a->cap);
    return z + slope((double)a->alibi_max, h, n_head) * (double)(key - o->step->pos[t]);
}

static void attend(const kit_op *o, int64_t t, int64_t h, double *z) {
    int64_t n_head = o->dim[0][2], n_kv = o->dim[2][2], n = o->dim[2][3];
    int64_t n_key = o->step->ctx[o->step->seq[t]], pos = o->step->pos[t];
    double top = o->v[3] ? o->v[3][h] : -INFINITY, sum = 0;
    double *y = o->v[4] + (t * n_head + h) * n;
    for (int64_t j = 0; j < n_key; j++) {
        z[j] = is_visible(o->attr, j, pos) ? logit(o, t, h, j) : -INFINITY;
        top = fmax(top, z[j]);
    }
    memset(y, 0, (size_t)n * sizeof *y);
    if (top == -INFINITY) return;
    if (o->v[3]) sum = exp(o->v[3][h] - top);
    for (int64_t j = 0; j < n_key; j++)
        sum += z[j] = exp(z[j] - top);
    for (int64_t j = 0; j < n_key; j++) {
        if (z[j] == 0) continue; /* what is not seen may be NaN */
        const double *v = o->v[2] + (pool_row(o, t, j) * n_kv + h / (n_head / n_kv)) * n;
        for (int64_t i = 0; i < n; i++)
            y[i] += z[j] / sum * factor(o, 2, v[i]);
    }
}

bool kit_ref_attention(const kit_op *o) {
    static double z[KEY_MAX];
    if (o->code == PERI_OP_KV_APPEND) {
        append(o);
        return true;
    }
    if (o->code != PERI_OP_ATTN) return false;
    for (int64_t t = 0; t < o->dim[0][1]; t++)
        for (int64_t h = 0; h < o->dim[0][2]; h++)
            attend(o, t, h, z);
    return true;
}
