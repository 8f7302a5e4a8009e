/* SPDX-License-Identifier: MIT
 *
 * dtype.h - the table of tensor element types (include/perigee/dtype.def) as C. */
#ifndef PERI_MODEL_DTYPE_H
#define PERI_MODEL_DTYPE_H

#include "perigee/types.h"

typedef enum peri_dtype {
#define PERI_DTYPE(NAME, number, name, elements, bytes) PERI_DT_##NAME = (number),
#include "perigee/dtype.def"
#undef PERI_DTYPE
} peri_dtype;

typedef struct peri_dtype_info {
    const char *name;
    uint32_t number, block_elements, block_bytes;
} peri_dtype_info;

/* NULL for a number that names no type. */
const peri_dtype_info *peri_dtype_get(uint32_t number);
/* By name, case-insensitive; NULL when unknown. */
const peri_dtype_info *peri_dtype_find(peri_str name);
/* Bytes of n elements; PERI_E_RANGE when n is no multiple of the block or the product overflows. */
peri_status peri_dtype_bytes(uint32_t number, uint64_t n, uint64_t *bytes, peri_error *err);
/* Bytes of n elements that are known to be whole blocks of a known type and few enough. */
uint64_t peri_dtype_size(uint32_t number, uint64_t n);

#endif
