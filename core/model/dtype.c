/* SPDX-License-Identifier: MIT
 *
 * dtype.c - lookups in the element type table, and the proof of its figures.
 *
 * The static asserts below restate each block as the sum of its parts (scales, minima, quants,
 * signs), taken from the format description and not from the table, so that a typing slip in either
 * is a compile error.  A second switch proves that no number occurs twice. */
#include "model/dtype.h"

#include <inttypes.h>
#include <strings.h>

#include "base/reader.h"
#include "base/status.h"

#include "base/compiler.h"

/* ---- proof ----------------------------------------------------------------------------------- */

enum {
#define PERI_DTYPE(NAME, number, name, elements, bytes)                                            \
    NAME##_number = (number), NAME##_elements = (elements), NAME##_bytes = (bytes),
#include "perigee/dtype.def"
#undef PERI_DTYPE
};

#define ROW(NAME, number, elements, bytes)                                                         \
    _Static_assert(NAME##_number == (number) && NAME##_elements == (elements) &&                   \
                       NAME##_bytes == (bytes),                                                    \
                   #NAME)

enum { F16_SCALE = 2, F32_SCALE = 4 }; /* bytes of one scale of that type */

ROW(F32, 0, 1, sizeof(float));
ROW(F16, 1, 1, sizeof(uint16_t));
ROW(BF16, 30, 1, sizeof(uint16_t));
ROW(F64, 28, 1, sizeof(double));
ROW(I8, 24, 1, sizeof(int8_t));
ROW(I16, 25, 1, sizeof(int16_t));
ROW(I32, 26, 1, sizeof(int32_t));
ROW(I64, 27, 1, sizeof(int64_t));
/* 32 elements: a scale, the minimum of the _1 types, the fifth bits of Q5, the quants. */
ROW(Q4_0, 2, 32, F16_SCALE + 32 * 4 / 8);
ROW(Q4_1, 3, 32, 2 * F16_SCALE + 32 * 4 / 8);
ROW(Q5_0, 6, 32, F16_SCALE + 32 / 8 + 32 * 4 / 8);
ROW(Q5_1, 7, 32, 2 * F16_SCALE + 32 / 8 + 32 * 4 / 8);
ROW(Q8_0, 8, 32, F16_SCALE + 32);
ROW(Q8_1, 9, 32, 2 * F16_SCALE + 32);
ROW(IQ4_NL, 20, 32, F16_SCALE + 32 * 4 / 8);
ROW(MXFP4, 39, 32, 1 + 32 * 4 / 8);       /* one E8M0 scale */
ROW(NVFP4, 40, 64, 64 / 16 + 64 * 4 / 8); /* an E4M3 scale per 16 */
/* 256 elements: super-block scales, packed sub-block scales, high bits, low bits. */
ROW(Q2_K, 10, 256, 2 * F16_SCALE + 256 / 16 + 256 * 2 / 8);
ROW(Q3_K, 11, 256, F16_SCALE + 12 + 256 / 8 + 256 * 2 / 8);
ROW(Q4_K, 12, 256, 2 * F16_SCALE + 12 + 256 * 4 / 8);
ROW(Q5_K, 13, 256, 2 * F16_SCALE + 12 + 256 / 8 + 256 * 4 / 8);
ROW(Q6_K, 14, 256, F16_SCALE + 256 / 16 + 256 * 2 / 8 + 256 * 4 / 8);
ROW(Q8_K, 15, 256, F32_SCALE + 256 + 256 / 16 * 2); /* and 16-bit sums per 16 */
/* Codebook types: grid indices of 8 elements (4 in IQ3), signs, scales. */
ROW(IQ2_XXS, 16, 256, F16_SCALE + 256 / 8 * 2);
ROW(IQ2_XS, 17, 256, F16_SCALE + 256 / 8 * 2 + 256 / 32);
ROW(IQ2_S, 22, 256, F16_SCALE + 256 / 8 + 256 / 8 + 256 / 32 + 256 / 32);
ROW(IQ3_XXS, 18, 256, F16_SCALE + 256 / 4 + 256 / 32 * 4);
ROW(IQ3_S, 21, 256, F16_SCALE + 256 / 4 + 256 / 32 + 256 / 8 + 256 / 64);
ROW(IQ1_S, 19, 256, F16_SCALE + 256 / 8 + 256 / 32 * 2);
ROW(IQ1_M, 29, 256, 256 / 8 + 256 / 16 + 256 / 32); /* its scale is spread over the others */
ROW(IQ4_XS, 23, 256, F16_SCALE + 2 + 256 / 64 + 256 * 4 / 8);
/* Ternary: five digits a byte for 240 elements and four for the last 16; then two bits each. */
ROW(TQ1_0, 34, 256, 240 / 5 + 16 / 4 + F16_SCALE);
ROW(TQ2_0, 35, 256, 256 * 2 / 8 + F16_SCALE);
ROW(Q1_0, 41, 128, F16_SCALE + 128 / 8);
ROW(Q2_0, 42, 64, F16_SCALE + 64 * 2 / 8);

/* A row added to the table and not proven above shows here. */
enum {
    N_ROW = 0
#define PERI_DTYPE(NAME, number, name, elements, bytes) +1
#include "perigee/dtype.def"
#undef PERI_DTYPE
};
_Static_assert(N_ROW == 35, "every row of dtype.def needs its ROW line above");

/* ---- lookups --------------------------------------------------------------------------------- */

const peri_dtype_info *peri_dtype_get(uint32_t number) {
    switch (number) { /* two equal case labels do not compile: numbers are unique */
#define PERI_DTYPE(NAME, row_number, row_name, elements, bytes)                                    \
    case (row_number): {                                                                           \
        static const peri_dtype_info row = {                                                       \
            .name = row_name,                                                                      \
            .number = (row_number),                                                                \
            .block_elements = (elements),                                                          \
            .block_bytes = (bytes),                                                                \
        };                                                                                         \
        return &row;                                                                               \
    }
#include "perigee/dtype.def"
#undef PERI_DTYPE
    default:
        return NULL;
    }
}

const peri_dtype_info *peri_dtype_find(peri_str name) {
    static const struct {
        const char *name;
        size_t size;
        uint32_t number;
    } rows[] = {
#define PERI_DTYPE(NAME, number, name, elements, bytes) {name, sizeof(name) - 1, number},
#include "perigee/dtype.def"
#undef PERI_DTYPE
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].size == name.size && strncasecmp(rows[i].name, name.data, name.size) == 0)
            return peri_dtype_get(rows[i].number);
    return NULL;
}

peri_status peri_dtype_bytes(uint32_t number, uint64_t n, uint64_t *bytes, peri_error *err) {
    const peri_dtype_info *t = peri_dtype_get(number);
    if (t == NULL)
        return peri_fail(err, PERI_E_RANGE, "found tensor type %" PRIu32 ", expected a known one",
                         number);
    if (n % t->block_elements != 0)
        return peri_fail(err, PERI_E_RANGE,
                         "found %" PRIu64 " elements of %s, expected a multiple of %" PRIu32, n,
                         t->name, t->block_elements);
    if (!peri_mul_u64(n / t->block_elements, t->block_bytes, bytes))
        return peri_fail(err, PERI_E_RANGE, "%" PRIu64 " elements of %s overflow 64 bits", n,
                         t->name);
    return PERI_OK;
}

uint64_t peri_dtype_size(uint32_t number, uint64_t n) {
    const peri_dtype_info *t = peri_dtype_get(number);
    return n / t->block_elements * t->block_bytes;
}
