/* SPDX-License-Identifier: MIT
 *
 * gguf_value.c - numbers and strings out of GGUF values, and the typed getters.
 *
 * The getters are strict: an integer key takes integer types only, a bool key bool only, a float
 * key floats and integers.  peri_gguf_as_* convert whatever keeps its value. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "model/gguf_int.h"

#include "base/compiler.h"

/* ---- conversions ----------------------------------------------------------------------------- */

/* The bits of element i, zero-extended; works at any alignment. */
static uint64_t bits_at(const peri_gguf_value *v, uint64_t i) {
    uint32_t bytes = peri_gguf_type_bytes(v->type);
    const uint8_t *p = v->data + i * bytes;
    uint64_t bits = 0;
    for (uint32_t k = 0; k < bytes; k++)
        bits |= (uint64_t)p[k] << (8 * k);
    return bits;
}

static double float_at(const peri_gguf_value *v, uint64_t i) {
    uint64_t bits = bits_at(v, i);
    double wide;
    if (v->type == PERI_GGUF_F64) {
        memcpy(&wide, &bits, sizeof wide);
    } else {
        uint32_t low = (uint32_t)bits;
        float narrow;
        memcpy(&narrow, &low, sizeof narrow);
        wide = (double)narrow;
    }
    return wide;
}

static bool is_float(const peri_gguf_value *v) {
    return v->type == PERI_GGUF_F32 || v->type == PERI_GGUF_F64;
}

static bool is_integer(const peri_gguf_value *v) {
    return !is_float(v) && v->type != PERI_GGUF_BOOL && v->type != PERI_GGUF_STRING;
}

bool peri_gguf_as_i64(const peri_gguf_value *v, uint64_t i, int64_t *out) {
    if (v->type == PERI_GGUF_STRING || i >= v->n) return false;
    if (is_float(v)) {
        double d = float_at(v, i);
        if (!(d >= -0x1p63 && d < 0x1p63) || d != floor(d)) return false;
        *out = (int64_t)d;
        return true;
    }
    uint64_t bits = bits_at(v, i);
    switch (v->type) {
    case PERI_GGUF_I8:
        *out = (int8_t)bits;
        return true;
    case PERI_GGUF_I16:
        *out = (int16_t)bits;
        return true;
    case PERI_GGUF_I32:
        *out = (int32_t)bits;
        return true;
    case PERI_GGUF_U64:
        if (bits > INT64_MAX) return false;
        *out = (int64_t)bits;
        return true;
    default: /* I64 and the narrow unsigned ones */
        *out = (int64_t)bits;
        return true;
    }
}

bool peri_gguf_as_f64(const peri_gguf_value *v, uint64_t i, double *out) {
    int64_t integer;
    if (v->type == PERI_GGUF_STRING || i >= v->n) return false;
    if (is_float(v))
        *out = float_at(v, i);
    else if (v->type == PERI_GGUF_U64)
        *out = (double)bits_at(v, i);
    else if (peri_gguf_as_i64(v, i, &integer))
        *out = (double)integer;
    else
        return false;
    return true;
}

bool peri_gguf_as_str(const peri_gguf_value *v, uint64_t i, peri_str *out) {
    if (v->type != PERI_GGUF_STRING || i >= v->n) return false;
    *out = v->strings[i];
    return true;
}

/* ---- getters --------------------------------------------------------------------------------- */

static peri_status find_scalar(const peri_gguf *g, const char *key, const peri_gguf_value **v,
                               peri_error *err) {
    *v = peri_gguf_find(g, key);
    if (*v == NULL)
        return peri_fail(err, PERI_E_NOT_FOUND, "%s: key %s: found none, expected it",
                         peri_gguf_shown_name(g), key);
    return PERI_OK;
}

static peri_status wrong_type(const peri_gguf *g, const peri_gguf_value *v, const char *expected,
                              peri_error *err) {
    return peri_gguf_fail_key(g, v, err, "found type %s%s, expected %s",
                              v->is_array ? "array of " : "", peri_gguf_type_name(v->type),
                              expected);
}

peri_status peri_gguf_get_i64(const peri_gguf *g, const char *key, int64_t lo, int64_t hi,
                              int64_t *out, peri_error *err) {
    const peri_gguf_value *v;
    int64_t found;
    peri_status status = find_scalar(g, key, &v, err);
    if (status != PERI_OK) return status;
    if (v->is_array || !is_integer(v)) return wrong_type(g, v, "an integer", err);
    if (!peri_gguf_as_i64(v, 0, &found)) /* only a u64 can be too large */
        return peri_gguf_fail_key(g, v, err, "found %" PRIu64 ", expected %" PRId64 "..%" PRId64,
                                  bits_at(v, 0), lo, hi);
    if (found < lo || found > hi)
        return peri_gguf_fail_key(g, v, err, "found %" PRId64 ", expected %" PRId64 "..%" PRId64,
                                  found, lo, hi);
    *out = found;
    return PERI_OK;
}

peri_status peri_gguf_get_f64(const peri_gguf *g, const char *key, double lo, double hi,
                              double *out, peri_error *err) {
    const peri_gguf_value *v;
    double found = 0;
    peri_status status = find_scalar(g, key, &v, err);
    if (status != PERI_OK) return status;
    if (v->is_array || !(is_float(v) || is_integer(v))) return wrong_type(g, v, "a number", err);
    peri_gguf_as_f64(v, 0, &found);
    if (!isfinite(found) || found < lo || found > hi)
        return peri_gguf_fail_key(g, v, err, "found %.9g, expected a finite number in %.9g..%.9g",
                                  found, lo, hi);
    *out = found;
    return PERI_OK;
}

peri_status peri_gguf_get_bool(const peri_gguf *g, const char *key, bool *out, peri_error *err) {
    const peri_gguf_value *v;
    peri_status status = find_scalar(g, key, &v, err);
    if (status != PERI_OK) return status;
    if (v->is_array || v->type != PERI_GGUF_BOOL) return wrong_type(g, v, "bool", err);
    *out = v->data[0] != 0;
    return PERI_OK;
}

peri_status peri_gguf_get_str(const peri_gguf *g, const char *key, peri_str *out, peri_error *err) {
    const peri_gguf_value *v;
    peri_status status = find_scalar(g, key, &v, err);
    if (status != PERI_OK) return status;
    if (v->is_array || v->type != PERI_GGUF_STRING) return wrong_type(g, v, "a string", err);
    *out = v->strings[0];
    return PERI_OK;
}
