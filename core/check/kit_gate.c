/* SPDX-License-Identifier: MIT
 *
 * kit_gate.c - how near to the reference is near enough.
 *
 * The error of a result is its squared difference from the reference over the squared size of the
 * reference, of all rows together (the gate) and of each row alone (20 times the gate: one bad row
 * of many vanishes in the whole).  The gate follows from what supports declares in `numerics`, and
 * for products the reference rounds the activations exactly so, because a loose gate hides bugs: a
 * product that drops one of 4096 terms has an error of 2.4e-4.
 *
 *   what                                          gate     reason
 *   copies, ids, KV_APPEND, TOPK                  equal    nothing is computed; rounding is defined
 *   ADD, MUL, SCALE, the sum of ADD_NORM          4 ulp    one rounding, or two
 *   act=f32, act=f64                              1e-10    f32 sums measured at 1e-13 .. 1.4e-12
 *   act=f16, act=bf16, products                   1e-10    the reference rounds likewise
 *   act=q8/N, products                            1e-9     likewise; scales are f32
 *   act=q14/N                                     1e-6     not copied; measured 1e-8 .. 2e-7
 *   ATTN with logits in the hundreds              1e-6     a unit of their last place is 3e-5, and
 *                                                          e^z has it as its relative error
 *   ATTN, act=bf16                                5e-6     weights are not copied; measured 1.6e-6
 *   acc=f16                                       2e-5     depends on the order; measured 1e-6
 *   act=f16 | bf16 | q8, other operations         1e-6 | 5e-5 | 5e-4      not copied */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/kit.h"
#include "model/dtype.h"

#include "base/compiler.h"

static const double WORST_ROW = 20, ULPS = 4;
/* Differences below this are none: a weight that is no normal f32 may count as 0, and rows whose
 * every key weighs so little beside a sink are nothing else. */
static const double TINY = 0x1p-120;

/* ---- what is declared ---------------------------------------------------------------------------
 */

static bool parse_act(const char *s, size_t n, kit_numerics *out) {
    if (n == 3 && !memcmp(s, "f32", 3)) out->act = 32;
    if (n == 3 && !memcmp(s, "f64", 3)) out->act = 64;
    if (n == 3 && !memcmp(s, "f16", 3)) out->act = 16;
    if (n == 4 && !memcmp(s, "bf16", 4)) out->act = -16;
    if (n > 3 && !memcmp(s, "q8/", 3)) out->act = 8;
    if (n > 4 && !memcmp(s, "q14/", 4)) out->act = 14;
    if (out->act == 8 || out->act == 14) out->act_span = (int)strtol(strchr(s, '/') + 1, NULL, 10);
    return out->act != 0 && (out->act_span == 0 ? out->act != 8 && out->act != 14
                                                : out->act_span >= 16 && out->act_span <= 256);
}

bool kit_numerics_parse(const char *text, kit_numerics *out) {
    bool has_act = false, has_acc = false;
    *out = (kit_numerics){0};
    for (const char *p = text; *p; p += strspn(p, " ")) {
        size_t n = strcspn(p, " ");
        if (n > 4 && !memcmp(p, "act=", 4)) has_act = parse_act(p + 4, n - 4, out);
        if (n == 7 && !memcmp(p, "acc=", 4)) {
            out->is_f16_sum = !memcmp(p + 4, "f16", 3);
            has_acc = out->is_f16_sum || !memcmp(p + 4, "f32", 3) || !memcmp(p + 4, "f64", 3) ||
                      !memcmp(p + 4, "i32", 3);
        }
        p += n;
    }
    return has_act && has_acc;
}

static bool is_product(uint16_t code) {
    return code == PERI_OP_LINEAR || code == PERI_OP_LINEAR_EXPERTS || code == PERI_OP_LINEAR_QKV ||
           code == PERI_OP_GATE_UP_GLU;
}

/* The shape that looks for e^z without the largest z taken off first. */
static bool has_large_logits(const kit_case *c) {
    return c->shape->code == PERI_OP_ATTN && ((const peri_attn_attr *)c->shape->attr)->scale > 30;
}

static double gate_of(const kit_case *c) {
    const kit_numerics *n = &c->num;
    bool is_copied = is_product(c->shape->code);
    if (n->is_f16_sum) return 2e-5;
    if (has_large_logits(c) && (n->act == 32 || n->act == 64)) return 1e-6;
    switch (n->act) {
    case 16:
        return is_copied ? 1e-10 : 1e-6;
    case -16:
        return is_copied ? 1e-10 : c->shape->code == PERI_OP_ATTN ? 5e-6 : 5e-5;
    case 8:
        return is_copied ? 1e-9 : 5e-4;
    case 14:
        return 1e-6;
    default:
        return 1e-10;
    }
}

/* ---- comparing ----------------------------------------------------------------------------------
 */

static int64_t row_size(const kit_case *c, uint32_t k) {
    const kit_operand *x = &c->x[k];
    return x->kind == 'p' ? x->dim[2] * x->dim[3] : x->dim[3];
}

static double found_at(const kit_case *c, const kit_result *r, uint32_t k, int64_t i) {
    float f = 0;
    int32_t id = 0;
    memcpy(c->x[k].kind == 'n' ? (void *)&id : (void *)&f, r->out[k] + (size_t)i * 4, 4);
    return c->x[k].kind == 'n' ? (double)id : (double)f;
}

/* The block of a pool, or the single value, that begins with element i; how many values it has. */
static int found_block(const kit_case *c, const kit_result *r, uint32_t k, int64_t i,
                       double v[32]) {
    const peri_dtype_info *type = peri_dtype_get(c->x[k].dtype);
    if (c->x[k].kind != 'p') {
        v[0] = found_at(c, r, k, i);
        return 1;
    }
    size_t at = (size_t)i / type->block_elements * type->block_bytes;
    kit_decode(type->number, r->out[k] + at, type->block_elements, v);
    return (int)type->block_elements;
}

static bool is_equal(const kit_case *c, const kit_result *r, uint32_t k, int64_t n) {
    double v[32];
    int n_block;
    for (int64_t first = 0; first < n; first += n_block) {
        n_block = found_block(c, r, k, first, v);
        for (int64_t i = first; i < first + n_block; i++) {
            double got = v[i - first], want = c->x[k].v[i];
            if (got == want || (isnan(got) && isnan(want))) continue;
            kit_spot at = {k, i / row_size(c, k), i % row_size(c, k), got, want};
            kit_find_at(c, &at, "%s: nothing may be rounded here, and it differs",
                        c->x[k].kind == 'n' ? "ids" : "a copy");
            return false;
        }
    }
    return true;
}

static bool is_within_ulps(const kit_case *c, const kit_result *r, uint32_t k, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        double got = found_at(c, r, k, i), want = c->x[k].v[i];
        if (got == want || (isnan(got) && isnan(want))) continue;
        kit_spot at = {k, i / row_size(c, k), i % row_size(c, k), got, want};
        if (!isfinite(got) || !isfinite(want)) {
            kit_find_at(c, &at, "NaN and infinities are passed on as IEEE 754 says");
            return false;
        }
        double unit = ldexp(1, (want == 0 ? -126 : ilogb(want)) - 23);
        if (fabs(got - want) <= ULPS * unit) continue;
        kit_find_at(c, &at, "off by %.3g units of the last place, %g allowed",
                    fabs(got - want) / unit, ULPS);
        return false;
    }
    return true;
}

static bool is_near(const kit_case *c, const kit_result *r, uint32_t k, int64_t n) {
    int64_t n_col = row_size(c, k), worst_row = 0, worst = 0;
    double gate = gate_of(c), all = 0, size = 0, top = -1;
    for (int64_t row = 0; row < n / n_col; row++) {
        double row_error = 0, row_sum = 0, most = -1;
        int64_t at = 0;
        for (int64_t i = row * n_col; i < (row + 1) * n_col; i++) {
            double want = c->x[k].v[i], d = found_at(c, r, k, i) - want;
            if (fabs(d) < TINY) d = 0;
            row_error += d * d;
            row_sum += want * want;
            if (fabs(d) > most || isnan(d)) {
                most = isnan(d) ? INFINITY : fabs(d);
                at = i;
            }
        }
        double ratio = row_error == 0 ? 0 : row_error / row_sum;
        if (!(ratio <= top)) {
            top = isnan(ratio) ? INFINITY : ratio;
            worst_row = row;
            worst = at;
        }
        all += row_error;
        size += row_sum;
    }
    double ratio = all == 0 ? 0 : isnan(all) ? INFINITY : all / size;
    if (ratio <= gate && top <= gate * WORST_ROW) return true;
    kit_spot at = {k, worst_row, worst % n_col, found_at(c, r, k, worst), c->x[k].v[worst]};
    kit_find_at(c, &at,
                "error %.3g of the whole (gate %g), %.3g of the worst row (gate %g); numerics %s",
                ratio, gate, top, gate * WORST_ROW, r->numerics);
    return false;
}

bool kit_gate_check(const kit_case *c, const kit_result *r, uint32_t k) {
    uint16_t code = c->shape->code;
    const kit_operand *x = &c->x[k];
    int64_t n = (int64_t)(r->n_out[k] / 4);
    if (x->kind == 'p')
        return code != PERI_OP_KV_APPEND ||
               is_equal(c, r, k, x->dim[0] * x->dim[1] * x->dim[2] * x->dim[3]);
    if (x->kind == 'n' || code == PERI_OP_ROWS || code == PERI_OP_TOPK) return is_equal(c, r, k, n);
    if (code == PERI_OP_ADD || code == PERI_OP_MUL || code == PERI_OP_SCALE ||
        (code == PERI_OP_ADD_NORM && k == c->n_in))
        return is_within_ulps(c, r, k, n);
    return is_near(c, r, k, n);
}
